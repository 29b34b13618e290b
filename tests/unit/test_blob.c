/* SPDX-License-Identifier: MIT */
/* test_blob: counted payloads: whose memory they are in, and when it goes home. */
#include <check.h>
#include <signal.h>
#include <string.h>

#include "chance.h"
#include "death.h"
#include "fake_io.h"
#include "must.h"
#include "runtime/blob.h"

#define BUDGET_BYTES (UINT64_C(16) << 20)

static uint8_t payload[100000];

static void blob_start(void)
{
    struct chance chance = {1};
    fake_start(BUDGET_BYTES);
    chance_fill(&chance, payload, sizeof payload);
}

START_TEST(a_copy)
{
    static const uint32_t sizes[] = {0, 1, 4095, 4096, 100000};
    blob_start();
    weir_blob *blob = w_blob_copy(&fake.core, payload, sizes[_i]);
    ck_assert_ptr_nonnull(blob);
    ck_assert_uint_eq(weir_blob_bytes(blob), sizes[_i]);
    ck_assert_ptr_ne(weir_blob_data(blob), payload);
    ck_assert(memcmp(weir_blob_data(blob), payload, sizes[_i]) == 0);
    weir_blob_release(&blob);
    ck_assert_ptr_null(blob);
    weir_blob_release(&blob); /* NULL is left alone */
    fake_end();
}
END_TEST

/* The buffer has a reference of the blob's own, and the connection is charged for as long as that. */
START_TEST(of_a_buffer)
{
    blob_start();
    uint32_t pinned = 5;
    uint16_t buffer = fake_buffer_fill(payload, 5000);
    const uint8_t *data = fake.buffers[buffer].memory + 100;
    weir_blob *blob = w_blob_of_buffer(&fake.core, data, 4900, buffer, &pinned);
    ck_assert_ptr_eq(weir_blob_data(blob), data);
    ck_assert_uint_eq(weir_blob_bytes(blob), 4900);
    ck_assert_uint_eq(pinned, 6);
    ck_assert_uint_eq(fake.buffers[buffer].references, 2);
    fake_buffer_release(&fake.io, buffer); /* the reader's */
    ck_assert(memcmp(weir_blob_data(blob), payload + 100, 4900) == 0);
    weir_blob *second = weir_blob_hold(blob);
    ck_assert_ptr_eq(second, blob);
    weir_blob_release(&second);
    ck_assert_uint_eq(pinned, 6);
    ck_assert_uint_eq(fake.io.buffers_free, FAKE_BUFFERS - 1);
    weir_blob_release(&blob);
    ck_assert_uint_eq(pinned, 5);
    fake_end();
}
END_TEST

START_TEST(of_a_piece)
{
    blob_start();
    uint8_t *piece = w_pool_take(&fake.core.pool, 9000);
    memcpy(piece, payload, 9000);
    weir_blob *blob = w_blob_of_piece(&fake.core, piece + 16, 8000, piece, 9000);
    ck_assert_ptr_eq(weir_blob_data(blob), piece + 16);
    weir_blob_release(&blob);
    fake_end();
}
END_TEST

/* What fails takes nothing over: neither the buffer, nor the piece, nor memory. */
START_TEST(without_memory)
{
    blob_start();
    for (int64_t succeed = 0; succeed < 2; succeed++) {
        fake_fail_after(succeed);
        ck_assert_ptr_null(w_blob_copy(&fake.core, payload, 5000));
        ck_assert_uint_eq(fake.core.pool.taken_bytes, 0);
    }
    uint32_t pinned = 0;
    uint16_t buffer = fake_buffer_fill(payload, 5000);
    fake_fail_after(0);
    ck_assert_ptr_null(w_blob_of_buffer(&fake.core, fake.buffers[buffer].memory, 5000, buffer, &pinned));
    ck_assert_uint_eq(pinned, 0);
    ck_assert_uint_eq(fake.buffers[buffer].references, 1);
    fake_buffer_release(&fake.io, buffer);
    fake.allocations_left = -1;
    uint8_t *piece = w_pool_take(&fake.core.pool, 5000);
    fake_fail_after(0);
    ck_assert_ptr_null(w_blob_of_piece(&fake.core, piece, 5000, piece, 5000));
    memset(piece, 1, 5000);
    w_pool_give(&fake.core.pool, piece, 5000);
    fake_end();
}
END_TEST

/* Many blobs, many references, in any order: each is there until its last reference goes. */
START_TEST(counted)
{
    struct chance chance = {(uint64_t)_i};
    weir_blob *blobs[20] = {0};
    uint32_t offsets[20], bytes[20], references[20] = {0};
    blob_start();
    for (uint32_t step = 0; step < 5000; step++) {
        uint32_t i = (uint32_t)chance_below(&chance, 20);
        if (references[i] == 0) {
            bytes[i] = (uint32_t)chance_any_size(&chance, 16);
            offsets[i] = (uint32_t)chance_below(&chance, sizeof payload - bytes[i]);
            MUST((blobs[i] = w_blob_copy(&fake.core, payload + offsets[i], bytes[i])) != NULL);
            references[i] = 1;
        } else if (chance_one_in(&chance, 2)) {
            weir_blob_hold(blobs[i]);
            references[i]++;
        } else {
            MUST(memcmp(weir_blob_data(blobs[i]), payload + offsets[i], bytes[i]) == 0);
            weir_blob *reference = blobs[i];
            weir_blob_release(&reference);
            MUST(reference == NULL);
            references[i]--;
        }
    }
    for (uint32_t i = 0; i < 20; i++)
        for (weir_blob *reference = blobs[i]; references[i] > 0; references[i]--, reference = blobs[i])
            weir_blob_release(&reference);
    fake_end();
}
END_TEST

static void release_elsewhere(void)
{
    blob_start();
    weir_blob *blob = w_blob_copy(&fake.core, payload, 1);
    fake.core.owner = &blob;
    weir_blob_release(&blob);
}

START_TEST(release_on_another_thread_dies)
{
    struct death death = death_of(release_elsewhere);
    ck_assert_msg(death_is_abort(&death, "weir_blob_release"), "status %d, said: %s", death.status, death.said);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blob");
    TCase *tests = tcase_create("blob");
    tcase_add_loop_test(tests, a_copy, 0, 5);
    tcase_add_test(tests, of_a_buffer);
    tcase_add_test(tests, of_a_piece);
    tcase_add_test(tests, without_memory);
    tcase_add_loop_test(tests, counted, 0, 4);
    tcase_add_test(tests, release_on_another_thread_dies);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
