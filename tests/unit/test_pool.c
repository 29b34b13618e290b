/* SPDX-License-Identifier: MIT */
/* test_pool: a shard's memory against a model that keeps a list of each size, on an allocator that keeps books. */
#include <check.h>
#include <signal.h>
#include <string.h>

#include "chance.h"
#include "death.h"
#include "must.h"
#include "runtime/pool.h"

#define BUDGET_BYTES (UINT64_C(1) << 20)

/* Every piece that the pool has from it, and whether it comes back as it went. */
static struct book {
    struct {
        void *memory;
        size_t bytes;
    } out[20000];
    uint32_t count;
    uint64_t out_bytes;
    uint64_t calls;
    void *last_released;
    bool is_empty; /* answers NULL */
} book;

static void *book_allocate(void *user, size_t bytes, size_t alignment)
{
    MUST(user == &book);
    MUST_EQUAL(alignment, 64);
    book.calls++;
    if (book.is_empty || book.count == sizeof book.out / sizeof book.out[0])
        return NULL;
    void *memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    MUST(memory != NULL);
    memset(memory, 0xa5, bytes);
    book.out[book.count].memory = memory;
    book.out[book.count++].bytes = bytes;
    book.out_bytes += bytes;
    return memory;
}

static void book_release(void *user, void *memory, size_t bytes)
{
    MUST(user == &book);
    uint32_t i = 0;
    while (i < book.count && book.out[i].memory != memory)
        i++;
    MUST(i < book.count);
    MUST_EQUAL(book.out[i].bytes, bytes);
    book.out[i] = book.out[--book.count];
    book.out_bytes -= bytes;
    book.last_released = memory;
    memset(memory, 0x5a, bytes); /* it has to be all there, poison and all */
    free(memory);
}

static const weir_allocator book_allocator = {book_allocate, book_release, &book};

static struct w_pool pool;

static void pool_start(uint64_t budget_bytes)
{
    memset(&book, 0, sizeof book);
    memset(&pool, 0xa5, sizeof pool);
    w_pool_init(&pool, &book_allocator, budget_bytes);
}

static void pool_end(void)
{
    w_pool_finish(&pool);
    ck_assert_uint_eq(book.count, 0);
    ck_assert_uint_eq(book.out_bytes, 0);
}

static void check_counts(uint64_t taken_bytes, uint64_t kept_bytes)
{
    MUST_EQUAL(pool.taken_bytes, taken_bytes);
    MUST_EQUAL(pool.kept_bytes, kept_bytes);
    MUST_EQUAL(pool.taken_bytes + pool.kept_bytes + pool.fixed_bytes, book.out_bytes);
    MUST(pool.taken_bytes + pool.kept_bytes <= pool.budget_bytes);
    MUST(pool.peak_bytes >= pool.taken_bytes);
    MUST_EQUAL(pool.allocations, book.calls);
}

START_TEST(round_to_the_next_power_of_two)
{
    for (size_t bytes = 0; bytes <= 64; bytes++)
        ck_assert_uint_eq(w_pool_round(bytes), 64);
    for (size_t power = 64; power < (size_t)1 << 30; power *= 2) {
        ck_assert_uint_eq(w_pool_round(power - 1), power);
        ck_assert_uint_eq(w_pool_round(power), power);
        ck_assert_uint_eq(w_pool_round(power + 1), 2 * power);
        ck_assert_uint_eq(w_pool_round(power + power / 2), 2 * power);
    }
    ck_assert_uint_eq(w_pool_round((size_t)1 << 30), (size_t)1 << 30);
}
END_TEST

START_TEST(over_a_gibibyte_dies)
{
    static const size_t bytes[] = {((size_t)1 << 30) + 1, (size_t)1 << 31, SIZE_MAX / 2, SIZE_MAX};
    w_pool_round(bytes[_i]);
}
END_TEST

START_TEST(take_give_take)
{
    pool_start(BUDGET_BYTES);
    for (size_t bytes = 1; bytes <= 200000; bytes = bytes * 2 + 1) {
        uint64_t calls = book.calls;
        uint8_t *piece = w_pool_take(&pool, bytes);
        ck_assert_ptr_nonnull(piece);
        ck_assert_uint_eq((uintptr_t)piece % 64, 0);
        memset(piece, 1, w_pool_round(bytes));
        check_counts(w_pool_round(bytes), 0);
        w_pool_give(&pool, piece, bytes);
        check_counts(0, w_pool_round(bytes));
        /* Any size that rounds to the same gets it, and may give it. */
        ck_assert_ptr_eq(w_pool_take(&pool, w_pool_round(bytes)), piece);
        memset(piece, 2, w_pool_round(bytes));
        check_counts(w_pool_round(bytes), 0);
        ck_assert_uint_eq(book.calls, calls + 1);
        w_pool_give(&pool, piece, w_pool_round(bytes) / 2 + 1);
        w_pool_trim(&pool);
        check_counts(0, 0);
        ck_assert_uint_eq(book.count, 0);
    }
    ck_assert_uint_eq(pool.peak_bytes, w_pool_round(131071));
    pool_end();
}
END_TEST

START_TEST(last_given_goes_first)
{
    void *pieces[3];
    pool_start(BUDGET_BYTES);
    for (int i = 0; i < 3; i++)
        pieces[i] = w_pool_take(&pool, 4096);
    for (int i = 0; i < 3; i++)
        w_pool_give(&pool, pieces[i], 4096);
    for (int i = 2; i >= 0; i--)
        ck_assert_ptr_eq(w_pool_take(&pool, 4096), pieces[i]);
    for (int i = 0; i < 3; i++)
        w_pool_give(&pool, pieces[i], 4096);
    pool_end();
}
END_TEST

START_TEST(budget)
{
    pool_start(4096);
    void *half = w_pool_take(&pool, 2048), *other = w_pool_take(&pool, 2048);
    ck_assert(half != NULL && other != NULL);
    ck_assert_ptr_null(w_pool_take(&pool, 1));
    check_counts(4096, 0);
    ck_assert_uint_eq(book.calls, 2);
    w_pool_give(&pool, half, 2048);

    /* What is kept in another size makes room; only as much as is needed. */
    void *small = w_pool_take(&pool, 64);
    ck_assert_ptr_nonnull(small);
    check_counts(2048 + 64, 0);
    w_pool_give(&pool, small, 64);
    void *middle = w_pool_take(&pool, 1024);
    ck_assert_ptr_nonnull(middle);
    check_counts(2048 + 1024, 64);

    /* A take that cannot be has no price. */
    ck_assert_ptr_null(w_pool_take(&pool, 2048));
    ck_assert_ptr_null(w_pool_take(&pool, (size_t)1 << 30));
    check_counts(2048 + 1024, 64);
    ck_assert_uint_eq(pool.peak_bytes, 4096);
    w_pool_give(&pool, middle, 1024);
    w_pool_give(&pool, other, 2048);
    check_counts(0, 2048 + 1024 + 64);
    pool_end();
}
END_TEST

START_TEST(budget_less_than_a_piece)
{
    pool_start(_i);
    ck_assert_ptr_null(w_pool_take(&pool, 1));
    check_counts(0, 0);
    ck_assert_uint_eq(book.calls, 0);
    pool_end();
}
END_TEST

START_TEST(allocator_has_nothing)
{
    pool_start(BUDGET_BYTES);
    void *piece = w_pool_take(&pool, 100);
    w_pool_give(&pool, piece, 100);
    book.is_empty = true;
    ck_assert_ptr_null(w_pool_take(&pool, 1000));
    ck_assert_ptr_null(w_pool_allocate_fixed(&pool, 1000));
    check_counts(0, 128);
    ck_assert_uint_eq(pool.fixed_bytes, 0);
    ck_assert_uint_eq(pool.peak_bytes, 128);
    ck_assert_uint_eq(pool.allocations, 3);
    /* What is kept is there all the same. */
    ck_assert_ptr_eq(w_pool_take(&pool, 100), piece);
    w_pool_give(&pool, piece, 100);
    pool_end();
}
END_TEST

struct model_piece {
    uint8_t *memory; /* NULL: not taken */
    size_t bytes;
    uint8_t pattern;
};

/* What the pool keeps, by size, the last given at the end. */
static struct model_kept {
    void *pieces[4096];
    uint32_t count;
} model_kept[W_POOL_CLASSES];

static uint32_t model_class(size_t bytes)
{
    uint32_t class = 0;
    while (((size_t)64 << class) < bytes)
        class ++;
    return class;
}

/* Takes out of the model what a take of `size` must send home, the biggest first; false: it cannot be. */
static bool model_make_room(size_t size, uint64_t taken_bytes, uint64_t *kept_bytes)
{
    if (taken_bytes + size > pool.budget_bytes)
        return false;
    for (uint32_t above = W_POOL_CLASSES; above > 0; above--) {
        uint32_t class = above - 1;
        while (model_kept[class].count > 0 && taken_bytes + *kept_bytes + size > pool.budget_bytes) {
            model_kept[class].count--;
            *kept_bytes -= (size_t)64 << class;
        }
    }
    return true;
}

START_TEST(as_the_model)
{
    struct chance chance = {(uint64_t)_i};
    static struct model_piece pieces[300];
    uint64_t taken_bytes = 0, kept_bytes = 0, peak_bytes = 0, refused = 0, reused = 0, sent_home = 0;
    memset(pieces, 0, sizeof pieces);
    memset(model_kept, 0, sizeof model_kept);
    pool_start(BUDGET_BYTES + chance_below(&chance, 1000));
    for (int round = 0; round < 20000; round++) {
        struct model_piece *piece = &pieces[chance_below(&chance, W_COUNT(pieces))];
        if (piece->memory != NULL) {
            size_t size = (size_t)64 << model_class(piece->bytes);
            struct model_kept *kept = &model_kept[model_class(piece->bytes)];
            for (size_t i = 0; i < size; i += 1 + size / 16)
                MUST_EQUAL(piece->memory[i], piece->pattern);
            MUST_EQUAL(piece->memory[size - 1], piece->pattern);
            kept->pieces[kept->count++] = piece->memory;
            w_pool_give(&pool, piece->memory, piece->bytes);
            piece->memory = NULL;
            taken_bytes -= size;
            kept_bytes += size;
        } else {
            piece->bytes = (size_t)chance_any_size(&chance, 17);
            piece->pattern = (uint8_t)round;
            size_t size = (size_t)64 << model_class(piece->bytes);
            struct model_kept *kept = &model_kept[model_class(piece->bytes)];
            piece->memory = w_pool_take(&pool, piece->bytes);
            if (kept->count > 0) {
                MUST(piece->memory == kept->pieces[--kept->count]);
                kept_bytes -= size;
                reused++;
            } else {
                uint64_t before_bytes = kept_bytes;
                bool fits = model_make_room(size, taken_bytes, &kept_bytes);
                MUST_EQUAL(piece->memory != NULL, fits);
                sent_home += before_bytes != kept_bytes;
                refused += !fits;
            }
            if (piece->memory != NULL) {
                memset(piece->memory, piece->pattern, size);
                taken_bytes += size;
            }
        }
        peak_bytes = taken_bytes > peak_bytes ? taken_bytes : peak_bytes;
        check_counts(taken_bytes, kept_bytes);
        MUST_EQUAL(pool.peak_bytes, peak_bytes);
        if (chance_one_in(&chance, 5000)) {
            w_pool_trim(&pool);
            memset(model_kept, 0, sizeof model_kept);
            kept_bytes = 0;
        }
    }
    MUST(refused > 0 && reused > 0 && sent_home > 0);
    for (size_t i = 0; i < W_COUNT(pieces); i++)
        if (pieces[i].memory != NULL)
            w_pool_give(&pool, pieces[i].memory, pieces[i].bytes);
    pool_end();
}
END_TEST

START_TEST(steady_state_allocates_nothing)
{
    pool_start(BUDGET_BYTES);
    void *pieces[64];
    uint64_t calls = 0;
    for (int round = 0; round < 100; round++) {
        for (size_t i = 0; i < W_COUNT(pieces); i++)
            pieces[i] = w_pool_take(&pool, 100 << i % 6);
        for (size_t i = 0; i < W_COUNT(pieces); i++)
            w_pool_give(&pool, pieces[i], 100 << i % 6);
        if (round == 0)
            calls = book.calls;
    }
    ck_assert_uint_eq(calls, W_COUNT(pieces));
    ck_assert_uint_eq(book.calls, calls);
    pool_end();
}
END_TEST

static const weir_allocator all_zero;

/* On the book, on no allocator, on one that is all zero. */
START_TEST(fixed)
{
    pool_start(0);
    const weir_allocator *allocators[] = {&book_allocator, NULL, &all_zero};
    w_pool_init(&pool, allocators[_i], 0);
    uint8_t *memory[130];
    uint64_t fixed_bytes = 0;
    for (size_t i = 0; i < W_COUNT(memory); i++) {
        size_t bytes = i < 128 ? i + 1 : (size_t)1 << 20;
        memory[i] = w_pool_allocate_fixed(&pool, bytes);
        MUST(memory[i] != NULL);
        MUST_EQUAL((uintptr_t)memory[i] % 64, 0);
        for (size_t j = 0; j < bytes; j++)
            MUST_EQUAL(memory[i][j], 0);
        memset(memory[i], 0xff, bytes);
        fixed_bytes += bytes;
        MUST_EQUAL(pool.fixed_bytes, fixed_bytes);
        MUST_EQUAL(pool.allocations, i + 1);
    }
    ck_assert_uint_eq(pool.taken_bytes, 0);
    ck_assert_uint_eq(pool.peak_bytes, 0);
    for (size_t i = 0; i < W_COUNT(memory); i++) {
        size_t bytes = i < 128 ? i + 1 : (size_t)1 << 20;
        w_pool_release_fixed(&pool, memory[i], bytes);
        fixed_bytes -= bytes;
        MUST_EQUAL(pool.fixed_bytes, fixed_bytes);
    }
    w_pool_release_fixed(&pool, NULL, 1000);
    ck_assert_ptr_null(w_pool_allocate_fixed(&pool, _i == 0 ? SIZE_MAX : SIZE_MAX - 10));
    ck_assert_uint_eq(pool.fixed_bytes, 0);
    pool_end();
}
END_TEST

START_TEST(malloc_by_default)
{
    w_pool_init(&pool, _i == 0 ? NULL : &all_zero, BUDGET_BYTES);
    void *pieces[10];
    for (size_t i = 0; i < W_COUNT(pieces); i++) {
        pieces[i] = w_pool_take(&pool, (size_t)64 << i);
        ck_assert_ptr_nonnull(pieces[i]);
        ck_assert_uint_eq((uintptr_t)pieces[i] % 64, 0);
        memset(pieces[i], 1, (size_t)64 << i);
    }
    for (size_t i = 0; i < W_COUNT(pieces); i++)
        w_pool_give(&pool, pieces[i], (size_t)64 << i);
    ck_assert_uint_eq(pool.allocations, W_COUNT(pieces));
    w_pool_finish(&pool);
    ck_assert_uint_eq(pool.kept_bytes, 0);
}
END_TEST

START_TEST(finish_of_a_zeroed_pool)
{
    memset(&pool, 0, sizeof pool);
    w_pool_finish(&pool);
}
END_TEST

static void finish_with_something_taken(void)
{
    pool_start(BUDGET_BYTES);
    w_pool_take(&pool, 64);
    w_pool_finish(&pool);
}

static void finish_with_something_fixed(void)
{
    pool_start(BUDGET_BYTES);
    w_pool_allocate_fixed(&pool, 64);
    w_pool_finish(&pool);
}

static void give_more_than_was_taken(void)
{
    pool_start(BUDGET_BYTES);
    w_pool_give(&pool, w_pool_take(&pool, 64), 65);
}

static void release_more_than_was_fixed(void)
{
    pool_start(BUDGET_BYTES);
    w_pool_release_fixed(&pool, w_pool_allocate_fixed(&pool, 64), 65);
}

START_TEST(broken_rules_die)
{
    static void (*const rules[])(void) = {finish_with_something_taken, finish_with_something_fixed, give_more_than_was_taken,
                                          release_more_than_was_fixed};
    struct death death = death_of(rules[_i]);
    ck_assert_msg(death_is_abort(&death, "weir: internal error"), "status %d, said: %s", death.status, death.said);
}
END_TEST

#ifdef DEATH_BY_ADDRESS_SANITIZER
static void use_after_give(void)
{
    pool_start(BUDGET_BYTES);
    volatile uint8_t *piece = w_pool_take(&pool, 4096);
    w_pool_give(&pool, (void *)piece, 4096);
    piece[0] = 1;
}

static void use_of_the_end_after_give(void)
{
    pool_start(BUDGET_BYTES);
    volatile uint8_t *piece = w_pool_take(&pool, 4096);
    w_pool_give(&pool, (void *)piece, 4096);
    piece[4095] = 1;
}

static void give_twice(void)
{
    pool_start(BUDGET_BYTES);
    void *piece = w_pool_take(&pool, 4096), *other = w_pool_take(&pool, 4096);
    w_pool_give(&pool, piece, 4096);
    w_pool_give(&pool, piece, 4096);
    w_pool_give(&pool, other, 4096);
}

START_TEST(use_after_give_is_found)
{
    static void (*const uses[])(void) = {use_after_give, use_of_the_end_after_give, give_twice};
    struct death death = death_of(uses[_i]);
    ck_assert_msg(strstr(death.said, "use-after-poison") != NULL, "status %d, said: %s", death.status, death.said);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("pool");
    TCase *tests = tcase_create("pool");
    tcase_set_timeout(tests, 20);
    tcase_add_test(tests, round_to_the_next_power_of_two);
    tcase_add_loop_test_raise_signal(tests, over_a_gibibyte_dies, SIGABRT, 0, 4);
    tcase_add_test(tests, take_give_take);
    tcase_add_test(tests, last_given_goes_first);
    tcase_add_test(tests, budget);
    tcase_add_loop_test(tests, budget_less_than_a_piece, 0, 64);
    tcase_add_test(tests, allocator_has_nothing);
    tcase_add_loop_test(tests, as_the_model, 0, 10);
    tcase_add_test(tests, steady_state_allocates_nothing);
    tcase_add_loop_test(tests, fixed, 0, 3);
    tcase_add_loop_test(tests, malloc_by_default, 0, 2);
    tcase_add_test(tests, finish_of_a_zeroed_pool);
    tcase_add_loop_test(tests, broken_rules_die, 0, 4);
#ifdef DEATH_BY_ADDRESS_SANITIZER
    tcase_add_loop_test(tests, use_after_give_is_found, 0, 3);
#endif
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
