/* SPDX-License-Identifier: MIT */
/* test_line: the codec `line`, against all short texts, and the limits of its lines. */
#include <check.h>
#include <string.h>

#include "chance.h"
#include "feed.h"
#include "must.h"

static weir_codec codec_of(uint32_t line_max_bytes, bool crlf)
{
    weir_codec codec;
    MUST_EQUAL(weir_codec_line(&codec, line_max_bytes, crlf), 0);
    return codec;
}

/* Cuts at the start of `text`, as if nothing had been looked at before. */
static int cut_once(const weir_codec *codec, const char *text, uint32_t bytes, weir_cut *cut)
{
    struct feed feed = {0};
    cut->scanned_bytes = 0;
    int answer = feed_cut(&feed, codec, (const uint8_t *)text, bytes, cut);
    MUST(feed.broken == NULL);
    return answer;
}

/* What a text is, by the book: up to each LF, less one CR before it; a piece that no end can make short enough is refused. */
static void read_by_the_book(uint32_t max_bytes, const char *text, uint32_t bytes, struct feed *expected)
{
    memset(expected, 0, sizeof *expected);
    uint32_t from = 0;
    for (uint32_t at = 0; at < bytes; at++) {
        uint32_t line_bytes = at - from;
        if (text[at] == '\n') {
            if (line_bytes > 0 && text[at - 1] == '\r')
                line_bytes--;
            expected->messages[expected->count].offset = from;
            expected->messages[expected->count++].bytes = line_bytes;
            from = at + 1;
        } else if (line_bytes > max_bytes || (line_bytes == max_bytes && text[at] != '\r')) {
            expected->error = -EMSGSIZE;
            break;
        }
    }
    expected->rest_offset = from;
}

/* Each text of up to 9 characters of "a", CR, LF, with a longest line of 1, 2, 3. */
START_TEST(every_short_text)
{
    weir_codec codec = codec_of((uint32_t)_i, false);
    static struct feed feed, expected;
    uint32_t refused = 0;
    for (uint32_t bytes = 1, texts = 3; bytes <= 9; bytes++, texts *= 3)
        for (uint32_t number = 0; number < texts; number++) {
            char text[9];
            for (uint32_t i = 0, rest = number; i < bytes; i++, rest /= 3)
                text[i] = "a\r\n"[rest % 3];
            const char *different;
            feed_all_ways(&feed, &codec, (const uint8_t *)text, bytes, &different);
            read_by_the_book((uint32_t)_i, text, bytes, &expected);
            if (different != NULL || !feed_same(&feed, &expected))
                ck_abort_msg("text %u of %u bytes: %s; %d after %u, expected %d after %u", number, bytes, different ? different : "",
                             feed.error, feed.count, expected.error, expected.count);
            refused += feed.error != 0;
        }
    ck_assert_uint_gt(refused, 0);
}
END_TEST

START_TEST(lines_by_hand)
{
    static const struct {
        const char *text;
        uint32_t bytes, frame_bytes, payload_bytes; /* frame_bytes 0: no line yet */
    } lines[] = {
        {"\n", 1, 1, 0},         {"\r\n", 2, 2, 0},   {"a\n", 2, 2, 1},       {"a\r\n", 3, 3, 1},    {"a\rb\n", 4, 4, 3},
        {"a\r\r\n", 4, 4, 2},    {"\r\r\n", 3, 3, 1}, {"\0\0\n", 3, 3, 2},    {"ab\ncd\n", 6, 3, 2}, {"\n\n", 2, 1, 0},
        {"\xff\xfe\n", 3, 3, 2}, {"abcd\n", 5, 5, 4}, {"abcd\r\n", 6, 6, 4},  {"a", 1, 0, 0},        {"abcd", 4, 0, 0},
        {"abcd\r", 5, 0, 0},     {"\r", 1, 0, 0},     {"abc\r\r\n", 6, 6, 4},
    };
    for (int crlf = 0; crlf <= 1; crlf++) {
        weir_codec codec = codec_of(4, crlf);
        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
            weir_cut cut;
            int answer = cut_once(&codec, lines[i].text, lines[i].bytes, &cut);
            ck_assert_int_eq(answer, lines[i].frame_bytes != 0 ? WEIR_CUT_MESSAGE : WEIR_CUT_MORE);
            if (answer == WEIR_CUT_MORE) {
                ck_assert_uint_eq(cut.missing_bytes, 1);
                ck_assert_uint_eq(cut.scanned_bytes, lines[i].bytes);
                continue;
            }
            ck_assert_uint_eq(cut.frame_bytes, lines[i].frame_bytes);
            ck_assert_uint_eq(cut.payload_offset, 0);
            ck_assert_uint_eq(cut.payload_bytes, lines[i].payload_bytes);
        }
    }
}
END_TEST

/* Said with the first byte that is too many, and not before. */
START_TEST(too_long)
{
    static const struct {
        const char *text;
        uint32_t bytes;
    } lines[] = {{"abcde", 5}, {"abcdef", 6}, {"abcde\n", 6}, {"abcd\rx", 6}, {"abcd\r\r", 6}, {"abcd\r\r\n", 7}, {"\0\0\0\0\0", 5}};
    weir_codec codec = codec_of(4, true);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        weir_cut cut;
        ck_assert_int_eq(cut_once(&codec, lines[i].text, lines[i].bytes, &cut), -EMSGSIZE);
    }
}
END_TEST

/* At, below and above the limit, with both ends, for limits up to the largest that is quick to try. */
START_TEST(limits)
{
    static const uint32_t limits_bytes[] = {1, 2, 63, 64, 65, 4096, UINT32_C(64) << 10};
    static char text[(64 << 10) + 8];
    for (size_t i = 0; i < sizeof limits_bytes / sizeof limits_bytes[0]; i++) {
        uint32_t max_bytes = limits_bytes[i];
        weir_codec codec = codec_of(max_bytes == UINT32_C(64) << 10 ? 0 : max_bytes, false);
        ck_assert_uint_eq(codec.message_max_bytes, max_bytes);
        for (uint32_t bytes = max_bytes - 1; bytes <= max_bytes + 1; bytes++)
            for (uint32_t crlf = 0; crlf <= 1; crlf++) {
                memset(text, 'x', bytes);
                memcpy(text + bytes, crlf ? "\r\n" : "\n", 2);
                weir_cut cut;
                int answer = cut_once(&codec, text, bytes + 1 + crlf, &cut);
                ck_assert_int_eq(answer, bytes <= max_bytes ? WEIR_CUT_MESSAGE : -EMSGSIZE);
                if (answer == WEIR_CUT_MESSAGE)
                    ck_assert_uint_eq(cut.payload_bytes, bytes);
                if (bytes > 0)
                    ck_assert_int_eq(cut_once(&codec, text, bytes, &cut), bytes <= max_bytes ? WEIR_CUT_MORE : -EMSGSIZE);
                weir_seal seal;
                ck_assert_int_eq(codec.seal(&codec, (const uint8_t *)text, bytes, &seal), bytes <= max_bytes ? 0 : -EMSGSIZE);
            }
    }
}
END_TEST

/* A dribble costs no second look: an LF put in behind its back is not seen. */
START_TEST(goes_on_where_it_was)
{
    weir_codec codec = codec_of(100, false);
    weir_cut cut = {.scanned_bytes = 3};
    ck_assert_int_eq(codec.cut(&codec, (const uint8_t *)"a\nbcd", 5, &cut), WEIR_CUT_MORE);
    ck_assert_uint_eq(cut.scanned_bytes, 5);
    ck_assert_int_eq(codec.cut(&codec, (const uint8_t *)"a\nbcde\n", 7, &cut), WEIR_CUT_MESSAGE);
    ck_assert_uint_eq(cut.payload_bytes, 6);
    /* The CR was looked at already, its LF was not. */
    cut.scanned_bytes = 2;
    ck_assert_int_eq(codec.cut(&codec, (const uint8_t *)"a\r\n", 3, &cut), WEIR_CUT_MESSAGE);
    ck_assert_uint_eq(cut.payload_bytes, 1);
}
END_TEST

START_TEST(what_is_sent)
{
    weir_codec lf = codec_of(10, false), crlf = codec_of(10, true);
    uint8_t frame[64];
    ck_assert_int_eq(feed_seal(&lf, (const uint8_t *)"abc", 3, frame), 4);
    ck_assert_mem_eq(frame, "abc\n", 4);
    ck_assert_int_eq(feed_seal(&crlf, (const uint8_t *)"abc", 3, frame), 5);
    ck_assert_mem_eq(frame, "abc\r\n", 5);
    ck_assert_int_eq(feed_seal(&lf, NULL, 0, frame), 1);
    ck_assert_mem_eq(frame, "\n", 1);
    ck_assert_int_eq(feed_seal(&crlf, NULL, 0, frame), 2);
    ck_assert_mem_eq(frame, "\r\n", 2);

    static const char *const with_lf[] = {"\nab", "a\nb", "ab\n", "\n\n\n", "\r\na"};
    for (size_t i = 0; i < sizeof with_lf / sizeof with_lf[0]; i++) {
        ck_assert_int_eq(feed_seal(&lf, (const uint8_t *)with_lf[i], 3, frame), -EBADMSG);
        ck_assert_int_eq(feed_seal(&crlf, (const uint8_t *)with_lf[i], 3, frame), -EBADMSG);
    }
    /* With a bare LF behind it, the peer would take the CR for a part of the line's end. */
    ck_assert_int_eq(feed_seal(&lf, (const uint8_t *)"ab\r", 3, frame), -EBADMSG);
    ck_assert_int_eq(feed_seal(&lf, (const uint8_t *)"\r", 1, frame), -EBADMSG);
    ck_assert_int_eq(feed_seal(&lf, (const uint8_t *)"a\rb", 3, frame), 4);
    ck_assert_int_eq(feed_seal(&crlf, (const uint8_t *)"ab\r", 3, frame), 5);
    ck_assert_mem_eq(frame, "ab\r\r\n", 5);
}
END_TEST

/* Whatever seal takes comes out again as it was, with either codec at the other end; and it takes all that can. */
START_TEST(there_and_back)
{
    struct chance chance = {(uint64_t)_i};
    static struct feed feed;
    uint32_t carried = 0;
    for (int round = 0; round < 300; round++) {
        bool crlf = chance_one_in(&chance, 2);
        weir_codec sender = codec_of(40, crlf), receiver = codec_of(40, chance_one_in(&chance, 2));
        uint8_t stream[512], payloads[512];
        uint32_t stream_bytes = 0, payload_bytes = 0, count = 0, sizes[8];
        while (count < 5) {
            uint8_t *payload = payloads + payload_bytes;
            uint32_t bytes = (uint32_t)chance_below(&chance, 41);
            chance_fill(&chance, payload, bytes);
            for (uint32_t i = 0; i < bytes; i++)
                if (payload[i] % 8 == 0)
                    payload[i] = "\r\r\r\n"[payload[i] / 8 % 4];
            bool fits = bytes == 0 || (memchr(payload, '\n', bytes) == NULL && (crlf || payload[bytes - 1] != '\r'));
            int64_t sealed_bytes = feed_seal(&sender, payload, bytes, stream + stream_bytes);
            MUST_EQUAL(sealed_bytes, fits ? (int64_t)bytes + 1 + crlf : -EBADMSG);
            if (!fits)
                continue;
            stream_bytes += (uint32_t)sealed_bytes;
            payload_bytes += bytes;
            sizes[count++] = bytes;
        }
        const char *different;
        feed_all_ways(&feed, &receiver, stream, stream_bytes, &different);
        if (different != NULL)
            ck_abort_msg("seed %d, round %d: %s", _i, round, different);
        MUST_EQUAL(feed.error, 0);
        MUST_EQUAL(feed.count, count);
        MUST_EQUAL(feed.rest_offset, stream_bytes);
        payload_bytes = 0;
        for (uint32_t i = 0; i < count; i++) {
            MUST_EQUAL(feed.messages[i].bytes, sizes[i]);
            MUST(memcmp(stream + feed.messages[i].offset, payloads + payload_bytes, sizes[i]) == 0);
            payload_bytes += sizes[i];
            carried += sizes[i] != 0;
        }
    }
    ck_assert_uint_gt(carried, 500);
}
END_TEST

START_TEST(options_right_and_wrong)
{
    weir_codec codec = {.message_max_bytes = 4711};
    ck_assert_int_eq(weir_codec_line(&codec, WEIR_MESSAGE_MAX_BYTES + 1, false), -EINVAL);
    ck_assert_int_eq(weir_codec_line(&codec, UINT32_MAX, true), -EINVAL);
    ck_assert_uint_eq(codec.message_max_bytes, 4711);
    for (int crlf = 0; crlf <= 1; crlf++) {
        codec = codec_of(WEIR_MESSAGE_MAX_BYTES, crlf);
        ck_assert_uint_eq(codec.message_max_bytes, WEIR_MESSAGE_MAX_BYTES);
        ck_assert_str_eq(codec.name, "line");
        ck_assert(codec.boundaries);
        ck_assert_uint_eq(codec.head_max_bytes, 0);
        ck_assert_uint_eq(codec.trailer_max_bytes, 1 + crlf);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("line");
    TCase *tests = tcase_create("line");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, every_short_text, 1, 4);
    tcase_add_test(tests, lines_by_hand);
    tcase_add_test(tests, too_long);
    tcase_add_test(tests, limits);
    tcase_add_test(tests, goes_on_where_it_was);
    tcase_add_test(tests, what_is_sent);
    tcase_add_loop_test(tests, there_and_back, 0, 4);
    tcase_add_test(tests, options_right_and_wrong);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
