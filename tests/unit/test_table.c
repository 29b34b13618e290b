/* SPDX-License-Identifier: MIT */
/* test_table: slots and generations against a model that remembers every id it ever saw. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "chance.h"
#include "fake_io.h"
#include "must.h"
#include "runtime/table.h"

#define BUDGET_BYTES (UINT64_C(1) << 20)
#define SLOTS_MAX    300u

static struct w_conn_table table;
static weir_protocol protocol;

static void table_start(uint32_t capacity)
{
    fake_start(BUDGET_BYTES);
    MUST_EQUAL(w_table_init(&table, &fake.core, capacity), 0);
    fake.core.conns = &table;
}

static void table_end(void)
{
    w_table_finish(&table);
    MUST_EQUAL(fake.core.pool.fixed_bytes, 0);
    w_table_finish(&table); /* accepts a zeroed one */
    fake_end();
}

static weir_conn *take(void)
{
    int error = 1;
    weir_conn *conn = w_table_take(&table, &error);
    MUST(conn != NULL);
    w_conn_init(conn, &fake.core, &protocol, NULL, 0);
    return conn;
}

static void give(weir_conn *conn)
{
    conn->state = W_CONN_FREE;
    w_table_give(&table, conn);
}

START_TEST(as_the_model)
{
    struct chance chance = {(uint64_t)_i};
    uint32_t capacity = (uint32_t[]){1, 63, 64, 65, 200, SLOTS_MAX}[_i];
    weir_conn *living[SLOTS_MAX] = {0}; /* by slot */
    uint64_t generations[SLOTS_MAX] = {0};
    uint32_t count = 0;
    table_start(capacity);
    for (uint32_t step = 0; step < 20000; step++) {
        bool filling = step / 1000 % 2 == 0;
        uint32_t slot = (uint32_t)chance_below(&chance, capacity);
        if (chance_below(&chance, 4) < (filling ? 3 : 1)) {
            int error = 0;
            weir_conn *conn = w_table_take(&table, &error);
            MUST((conn == NULL) == (count == capacity));
            if (conn == NULL) {
                MUST_EQUAL(error, -ENOSPC);
                continue;
            }
            MUST(conn->slot < capacity && living[conn->slot] == NULL);
            MUST(conn->shared.word > generations[conn->slot]);
            w_conn_init(conn, &fake.core, &protocol, NULL, 0);
            MUST(conn->shared.word > generations[conn->slot]);
            living[conn->slot] = conn;
            generations[conn->slot] = conn->shared.word;
            count++;
        } else if (living[slot] != NULL) {
            living[slot]->shared.bytes_in = living[slot]->shared.sends = 7;
            give(living[slot]);
            MUST_EQUAL(living[slot]->shared.bytes_in + living[slot]->shared.sends, 0);
            living[slot] = NULL;
            count--;
        }
        MUST_EQUAL(table.count, count);
        MUST(w_table_find(&table, slot, generations[slot]) == living[slot]);
        MUST(w_table_find(&table, slot, generations[slot] + 1) == NULL);
        MUST(generations[slot] == 0 || w_table_find(&table, slot, generations[slot] - 1) == NULL);
    }
    MUST(table.made == capacity);
    table_end();
}
END_TEST

START_TEST(outside_of_the_table)
{
    table_start(65);
    ck_assert_ptr_null(w_table_at(&table, 0)); /* not made */
    for (uint32_t i = 0; i < 65; i++)
        ck_assert_uint_eq(take()->slot, i); /* the lowest first */
    ck_assert_ptr_nonnull(w_table_at(&table, 64));
    ck_assert_ptr_null(w_table_at(&table, 65));
    ck_assert_ptr_null(w_table_at(&table, W_CONN_SLOT_MASK));
    ck_assert_ptr_null(w_table_find(&table, W_CONN_SLOT_MASK, 1));
    ck_assert_ptr_null(w_table_find(&table, 3, 0));
    table_end();
}
END_TEST

/* Memory comes by chunks, stays within what was said, and a chunk that cannot be had leaves the table as it was. */
START_TEST(memory)
{
    int error = 0;
    table_start(150);
    for (uint32_t i = 0; i < 128; i++)
        take();
    fake_fail_after(0);
    ck_assert_ptr_null(w_table_take(&table, &error));
    ck_assert_int_eq(error, -ENOMEM);
    ck_assert_uint_eq(table.count, 128);
    fake.allocations_left = -1;
    for (uint32_t i = 128; i < 150; i++)
        ck_assert_uint_eq(take()->slot, i);
    ck_assert_ptr_null(w_table_take(&table, &error));
    ck_assert_int_eq(error, -ENOSPC);
    ck_assert_uint_eq(fake.core.pool.fixed_bytes, w_table_bound_bytes(150));
    fake_fail_after(0);
    ck_assert_ptr_null(w_table_session(&table, 149));
    fake.allocations_left = -1;
    for (uint32_t i = 0; i < 150; i++) { /* each has its own */
        uint8_t *session = w_table_session(&table, i);
        memset(session, (int)i, W_TABLE_SESSION_BYTES);
        ck_assert(((uintptr_t)session & 7) == 0);
    }
    for (uint32_t i = 0; i < 150; i++) {
        const uint8_t *session = w_table_session(&table, i);
        ck_assert(session[0] == i && session[W_TABLE_SESSION_BYTES - 1] == i);
    }
    ck_assert_uint_eq(fake.core.pool.fixed_bytes, w_table_bound_bytes(150) + w_table_sessions_bound_bytes(150));
    table_end();
}
END_TEST

START_TEST(no_memory_for_the_table)
{
    fake_start(BUDGET_BYTES);
    fake_fail_after(0);
    memset(&table, 0, sizeof table);
    ck_assert_int_eq(w_table_init(&table, &fake.core, 1000), -ENOMEM);
    w_table_finish(&table);
    fake_end();
}
END_TEST

/* 34 bits of generations: a slot that has had the last one is never given out again, and no id finds it. */
START_TEST(a_spent_slot_is_retired)
{
    int error;
    table_start(2);
    weir_conn *conn = take(), *other = take();
    conn->shared.word = W_CONN_GENERATION_MASK - 1;
    give(conn);
    ck_assert_ptr_eq(take(), conn);
    ck_assert_uint_eq(conn->shared.word, W_CONN_GENERATION_MASK);
    ck_assert_ptr_eq(w_table_find(&table, 0, W_CONN_GENERATION_MASK), conn);
    give(conn);
    ck_assert_uint_eq(table.count, 1);
    ck_assert_ptr_null(w_table_take(&table, &error));
    ck_assert_int_eq(error, -ENOSPC);
    ck_assert_ptr_null(w_table_find(&table, 0, 0));
    ck_assert_ptr_null(w_table_find(&table, 0, W_CONN_GENERATION_MASK));
    give(other);
    ck_assert_ptr_eq(take(), other);
    ck_assert_ptr_null(w_table_take(&table, &error));
    table_end();
}
END_TEST

/* What outlives a tenant: lists that still hold the slot, buffers that its blobs still pin. */
START_TEST(what_survives_a_tenant)
{
    table_start(1);
    weir_conn *conn = take();
    conn->reader.pinned = 3;
    conn->listed = 1U << W_CORE_STARVED;
    conn->paused = conn->later = conn->pressed = true;
    conn->user = conn;
    give(conn);
    ck_assert_ptr_eq(take(), conn);
    ck_assert_uint_eq(conn->reader.pinned, 3);
    ck_assert_uint_eq(conn->listed, 1U << W_CORE_STARVED);
    ck_assert(!conn->paused && !conn->later && !conn->pressed && conn->user == NULL);
    ck_assert(conn->core == &fake.core && conn->slot == 0 && conn->handle == -1);
    table_end();
}
END_TEST

/* {kind, operation, slot, generation} all come back out of a token, and leave the engine's bit alone. */
START_TEST(tokens)
{
    struct chance chance = {1};
    for (uint32_t i = 0; i < 10000; i++) {
        enum w_conn_token_kind kind = (enum w_conn_token_kind)chance_below(&chance, 3);
        enum w_conn_operation operation = (enum w_conn_operation)chance_below(&chance, 6);
        uint32_t slot = (uint32_t)chance_u64(&chance) & W_CONN_SLOT_MASK;
        uint64_t generation = chance_u64(&chance) & W_CONN_GENERATION_MASK;
        uint64_t token = w_conn_token(kind, operation, slot, generation);
        MUST(w_conn_token_kind(token) == kind && w_conn_token_operation(token) == operation);
        MUST(w_conn_token_slot(token) == slot && (token & W_CONN_GENERATION_MASK) == generation);
        MUST(token >> 63 == 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("table");
    TCase *tests = tcase_create("table");
    tcase_add_loop_test(tests, as_the_model, 0, 6);
    tcase_add_test(tests, outside_of_the_table);
    tcase_add_test(tests, memory);
    tcase_add_test(tests, no_memory_for_the_table);
    tcase_add_test(tests, a_spent_slot_is_retired);
    tcase_add_test(tests, what_survives_a_tenant);
    tcase_add_test(tests, tokens);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
