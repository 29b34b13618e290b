/* SPDX-License-Identifier: MIT */
/* test_raw: the codec `raw`: bytes pass as they are. */
#include <check.h>
#include <string.h>

#include "chance.h"
#include "feed.h"
#include "must.h"

static weir_codec raw(void)
{
    weir_codec codec;
    memset(&codec, 0xa5, sizeof codec);
    ck_assert_int_eq(weir_codec_raw(&codec), 0);
    return codec;
}

START_TEST(what_it_says_of_itself)
{
    weir_codec codec = raw();
    ck_assert_str_eq(codec.name, "raw");
    ck_assert(!codec.boundaries);
    ck_assert_uint_eq(codec.head_max_bytes, 0);
    ck_assert_uint_eq(codec.trailer_max_bytes, 0);
    ck_assert_uint_eq(codec.message_max_bytes, 1 << 20);
}
END_TEST

START_TEST(all_that_is_there_is_one_message)
{
    weir_codec codec = raw();
    uint8_t data[100] = {0};
    for (uint32_t bytes = 1; bytes <= sizeof data; bytes++) {
        struct feed feed = {0};
        weir_cut cut = {0};
        ck_assert_int_eq(feed_cut(&feed, &codec, data, bytes, &cut), WEIR_CUT_MESSAGE);
        ck_assert_ptr_null(feed.broken);
        ck_assert_uint_eq(cut.frame_bytes, bytes);
        ck_assert_uint_eq(cut.payload_offset, 0);
        ck_assert_uint_eq(cut.payload_bytes, bytes);
    }
}
END_TEST

START_TEST(a_piece_over_the_limit_is_divided)
{
    weir_codec codec = raw();
    codec.message_max_bytes = 10;
    for (uint32_t bytes = 9; bytes <= 11; bytes++) {
        weir_cut cut = {0};
        ck_assert_int_eq(codec.cut(&codec, (const uint8_t *)"abcdefghijk", bytes, &cut), WEIR_CUT_MESSAGE);
        ck_assert_uint_eq(cut.frame_bytes, bytes < 10 ? bytes : 10);
        ck_assert_uint_eq(cut.payload_bytes, bytes < 10 ? bytes : 10);
    }
}
END_TEST

/* The pieces differ with how the stream is divided; put together they are the stream. */
START_TEST(nothing_is_lost_however_it_is_divided)
{
    struct chance chance = {(uint64_t)_i};
    weir_codec codec = raw();
    static struct feed feed;
    for (int round = 0; round < 100; round++) {
        uint8_t stream[200];
        uint32_t arrivals[20], count = (uint32_t)chance_below(&chance, 20), at = 0;
        chance_fill(&chance, stream, sizeof stream);
        for (uint32_t i = 0; i < count; i++)
            arrivals[i] = at += (uint32_t)chance_below(&chance, 10);
        feed_run(&feed, &codec, stream, sizeof stream, arrivals, count, round % 2);
        MUST(feed.broken == NULL && feed.error == 0);
        uint32_t next = 0;
        for (uint32_t i = 0; i < feed.count; i++) {
            MUST_EQUAL(feed.messages[i].offset, next);
            MUST(feed.messages[i].bytes > 0);
            next += feed.messages[i].bytes;
        }
        MUST_EQUAL(next, sizeof stream);
    }
}
END_TEST

START_TEST(nothing_is_added_to_what_is_sent)
{
    weir_codec codec = raw();
    uint8_t frame[64];
    ck_assert_int_eq(feed_seal(&codec, (const uint8_t *)"a\r\n\0b", 5, frame), 5);
    ck_assert_mem_eq(frame, "a\r\n\0b", 5);
    ck_assert_int_eq(feed_seal(&codec, NULL, 0, frame), 0);
    weir_seal seal;
    ck_assert_int_eq(codec.seal(&codec, NULL, (1 << 20) - 1, &seal), 0);
    ck_assert_int_eq(codec.seal(&codec, NULL, 1 << 20, &seal), 0);
    ck_assert_int_eq(codec.seal(&codec, NULL, (1 << 20) + 1, &seal), -EMSGSIZE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raw");
    TCase *tests = tcase_create("raw");
    tcase_add_test(tests, what_it_says_of_itself);
    tcase_add_test(tests, all_that_is_there_is_one_message);
    tcase_add_test(tests, a_piece_over_the_limit_is_divided);
    tcase_add_loop_test(tests, nothing_is_lost_however_it_is_divided, 0, 4);
    tcase_add_test(tests, nothing_is_added_to_what_is_sent);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
