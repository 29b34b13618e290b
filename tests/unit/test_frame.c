/* SPDX-License-Identifier: MIT */
/* test_frame: the codec `frame`, in all its settings, against a decoder that reads a byte after the other. */
#include <check.h>
#include <limits.h>

#include "chance.h"
#include "feed.h"

#define SETTING_COUNT 18

static const uint32_t head_bytes_of[] = {
    [WEIR_FRAME_U32] = 4, [WEIR_FRAME_U8] = 1, [WEIR_FRAME_U16] = 2, [WEIR_FRAME_U64] = 8, [WEIR_FRAME_VARINT] = 5};

/* Every setting that weir_codec_frame takes: 4 fixed lengths x 2 orders x 2, and varint x 2 orders. */
static weir_frame_options setting(int number)
{
    static const weir_frame_length lengths[] = {WEIR_FRAME_U32, WEIR_FRAME_U8, WEIR_FRAME_U16, WEIR_FRAME_U64, WEIR_FRAME_VARINT};
    weir_frame_options options = {.length = lengths[number / 4], .big_endian = number % 2, .counts_itself = number / 2 % 2};
    return options;
}

static weir_codec codec_of(weir_frame_options options)
{
    weir_codec codec;
    ck_assert_int_eq(weir_codec_frame(&codec, &options), 0);
    return codec;
}

/* Writes a length field that says `says`, by the book; answers its bytes. */
static uint32_t write_length(const weir_frame_options *options, uint64_t says, uint8_t *to)
{
    uint32_t count = head_bytes_of[options->length];
    if (options->length == WEIR_FRAME_VARINT) {
        uint32_t i = 0;
        do {
            to[i] = (uint8_t)(says % 128 + (says >= 128 ? 128 : 0));
            says /= 128;
            i++;
        } while (says != 0);
        return i;
    }
    for (uint32_t i = 0; i < count; i++)
        to[options->big_endian ? count - 1 - i : i] = (uint8_t)(says >> 8 * i);
    return count;
}

/* What one frame at `data` is, by the book: WEIR_CUT_MORE, WEIR_CUT_MESSAGE with head and payload, or the error. */
static int read_frame(const weir_frame_options *options, uint32_t max_bytes, const uint8_t *data, uint32_t bytes, uint32_t *head_bytes,
                      uint32_t *payload_bytes)
{
    uint32_t count = head_bytes_of[options->length], i = 0;
    unsigned __int128 says = 0;
    if (options->length == WEIR_FRAME_VARINT) {
        for (;; i++) {
            if (i == 5)
                return -EBADMSG;
            if (i == bytes)
                return WEIR_CUT_MORE;
            says += (unsigned __int128)(data[i] % 128) << 7 * i;
            if (data[i] < 128)
                break;
        }
        count = i + 1;
    } else {
        if (bytes < count)
            return WEIR_CUT_MORE;
        for (i = 0; i < count; i++)
            says = says * 256 + data[options->big_endian ? i : count - 1 - i];
        if (options->counts_itself && says < count)
            return -EBADMSG;
        if (options->counts_itself)
            says -= count;
    }
    if (says > max_bytes)
        return -EMSGSIZE;
    if (bytes < count + says)
        return WEIR_CUT_MORE;
    *head_bytes = count;
    *payload_bytes = (uint32_t)says;
    return WEIR_CUT_MESSAGE;
}

static void read_by_the_book(const weir_frame_options *options, uint32_t max_bytes, const uint8_t *stream, uint32_t bytes,
                             struct feed *expected)
{
    memset(expected, 0, sizeof *expected);
    while (expected->rest_offset < bytes && expected->count < FEED_MESSAGES_MAX) {
        uint32_t head_bytes = 0, payload_bytes = 0;
        int answer =
            read_frame(options, max_bytes, stream + expected->rest_offset, bytes - expected->rest_offset, &head_bytes, &payload_bytes);
        if (answer < 0)
            expected->error = answer;
        if (answer != WEIR_CUT_MESSAGE)
            return;
        expected->messages[expected->count].offset = expected->rest_offset + head_bytes;
        expected->messages[expected->count++].bytes = payload_bytes;
        expected->rest_offset += head_bytes + payload_bytes;
    }
}

static int cut_once(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    struct feed feed = {0};
    cut->scanned_bytes = 0;
    int answer = feed_cut(&feed, codec, data, bytes, cut);
    ck_assert_ptr_null(feed.broken);
    return answer;
}

/* Frames as they must stand on the wire, written by hand. */
START_TEST(wire_format)
{
    static const struct {
        weir_frame_options options;
        uint8_t head[8];
        uint32_t head_bytes;
    } wires[] = {
        {{.length = WEIR_FRAME_U32}, {3, 0, 0, 0}, 4},
        {{.length = WEIR_FRAME_U32, .big_endian = true}, {0, 0, 0, 3}, 4},
        {{.length = WEIR_FRAME_U32, .counts_itself = true}, {7, 0, 0, 0}, 4},
        {{.length = WEIR_FRAME_U32, .big_endian = true, .counts_itself = true}, {0, 0, 0, 7}, 4},
        {{.length = WEIR_FRAME_U8}, {3}, 1},
        {{.length = WEIR_FRAME_U8, .counts_itself = true}, {4}, 1},
        {{.length = WEIR_FRAME_U16}, {3, 0}, 2},
        {{.length = WEIR_FRAME_U16, .big_endian = true, .counts_itself = true}, {0, 5}, 2},
        {{.length = WEIR_FRAME_U64}, {3, 0, 0, 0, 0, 0, 0, 0}, 8},
        {{.length = WEIR_FRAME_U64, .big_endian = true, .counts_itself = true}, {0, 0, 0, 0, 0, 0, 0, 11}, 8},
        {{.length = WEIR_FRAME_VARINT}, {3}, 1},
    };
    for (size_t i = 0; i < sizeof wires / sizeof wires[0]; i++) {
        weir_codec codec = codec_of(wires[i].options);
        uint8_t frame[16], expected[16];
        memcpy(expected, wires[i].head, wires[i].head_bytes);
        memcpy(expected + wires[i].head_bytes, "abc", 3);
        ck_assert_int_eq(feed_seal(&codec, (const uint8_t *)"abc", 3, frame), wires[i].head_bytes + 3);
        ck_assert_mem_eq(frame, expected, wires[i].head_bytes + 3);
        weir_cut cut;
        ck_assert_int_eq(cut_once(&codec, expected, wires[i].head_bytes + 3, &cut), WEIR_CUT_MESSAGE);
        ck_assert_uint_eq(cut.payload_offset, wires[i].head_bytes);
        ck_assert_uint_eq(cut.payload_bytes, 3);
        ck_assert_uint_eq(cut.frame_bytes, wires[i].head_bytes + 3);
    }
}
END_TEST

START_TEST(varint_wire_format)
{
    static const struct {
        uint32_t says;
        uint8_t head[5];
        uint32_t head_bytes;
    } wires[] = {
        {0, {0x00}, 1},
        {127, {0x7f}, 1},
        {128, {0x80, 0x01}, 2},
        {300, {0xac, 0x02}, 2},
        {16383, {0xff, 0x7f}, 2},
        {16384, {0x80, 0x80, 0x01}, 3},
        {(1 << 21) - 1, {0xff, 0xff, 0x7f}, 3},
        {1 << 21, {0x80, 0x80, 0x80, 0x01}, 4},
        {(1 << 28) - 1, {0xff, 0xff, 0xff, 0x7f}, 4},
        {1 << 28, {0x80, 0x80, 0x80, 0x80, 0x01}, 5},
        {WEIR_MESSAGE_MAX_BYTES, {0x80, 0xe0, 0xff, 0xff, 0x03}, 5},
    };
    weir_codec codec = codec_of((weir_frame_options){.length = WEIR_FRAME_VARINT, .message_max_bytes = WEIR_MESSAGE_MAX_BYTES});
    for (size_t i = 0; i < sizeof wires / sizeof wires[0]; i++) {
        weir_seal seal;
        ck_assert_int_eq(codec.seal(&codec, NULL, wires[i].says, &seal), 0);
        ck_assert_uint_eq(seal.head_bytes, wires[i].head_bytes);
        ck_assert_uint_eq(seal.trailer_bytes, 0);
        ck_assert_mem_eq(seal.head, wires[i].head, wires[i].head_bytes);
        weir_cut cut;
        int answer = cut_once(&codec, wires[i].head, wires[i].head_bytes, &cut);
        ck_assert_int_eq(answer, wires[i].says == 0 ? WEIR_CUT_MESSAGE : WEIR_CUT_MORE);
        if (wires[i].says != 0)
            ck_assert_uint_eq(cut.missing_bytes, wires[i].says);
    }
}
END_TEST

START_TEST(varint_of_another_form)
{
    weir_codec codec = codec_of((weir_frame_options){.length = WEIR_FRAME_VARINT});
    weir_cut cut;
    ck_assert_int_eq(cut_once(&codec, (const uint8_t *)"\x80\x00", 2, &cut), WEIR_CUT_MESSAGE);
    ck_assert_uint_eq(cut.frame_bytes, 2);
    ck_assert_uint_eq(cut.payload_bytes, 0);
    ck_assert_int_eq(cut_once(&codec, (const uint8_t *)"\x82\x80\x80\x80\x00xy", 7, &cut), WEIR_CUT_MESSAGE);
    ck_assert_uint_eq(cut.payload_offset, 5);
    ck_assert_uint_eq(cut.payload_bytes, 2);
    /* Over 32 bits, over 35 bits. */
    ck_assert_int_eq(cut_once(&codec, (const uint8_t *)"\x80\x80\x80\x80\x10", 5, &cut), -EMSGSIZE);
    ck_assert_int_eq(cut_once(&codec, (const uint8_t *)"\xff\xff\xff\xff\x7f", 5, &cut), -EMSGSIZE);
    ck_assert_int_eq(cut_once(&codec, (const uint8_t *)"\x80\x80\x80\x80\x80", 5, &cut), -EBADMSG);
    ck_assert_int_eq(cut_once(&codec, (const uint8_t *)"\x80\x80\x80\x80\x80\x00", 6, &cut), -EBADMSG);
    ck_assert_int_eq(cut_once(&codec, (const uint8_t *)"\x80\x80\x80\x80", 4, &cut), WEIR_CUT_MORE);
    ck_assert_uint_eq(cut.missing_bytes, 1);
}
END_TEST

/* A length at the limit is waited for, one more is refused with the last byte of the length field. */
START_TEST(limits_inbound)
{
    static const uint32_t maxima[] = {1, 2, 100, 200, 254, 60000, 65533, 1 << 20, WEIR_MESSAGE_MAX_BYTES - 1, WEIR_MESSAGE_MAX_BYTES};
    weir_frame_options options = setting(_i);
    uint32_t tried = 0;
    for (size_t i = 0; i < sizeof maxima / sizeof maxima[0]; i++) {
        options.message_max_bytes = maxima[i];
        weir_codec codec;
        if (weir_codec_frame(&codec, &options) != 0)
            continue;
        tried++;
        uint32_t own_bytes = options.counts_itself ? head_bytes_of[options.length] : 0;
        for (int over = -1; over <= 1; over++) {
            uint64_t payload_bytes = (uint64_t)maxima[i] + (uint64_t)over;
            uint8_t head[16] = {0};
            uint32_t head_bytes = write_length(&options, payload_bytes + own_bytes, head);
            if (head_bytes_of[options.length] == 1 && payload_bytes + own_bytes > 255)
                continue;
            if (head_bytes_of[options.length] == 2 && payload_bytes + own_bytes > 65535)
                continue;
            for (uint32_t bytes = 1; bytes < head_bytes; bytes++) {
                weir_cut cut;
                ck_assert_int_eq(cut_once(&codec, head, bytes, &cut), WEIR_CUT_MORE);
                ck_assert_uint_eq(cut.missing_bytes, options.length == WEIR_FRAME_VARINT ? 1 : head_bytes - bytes);
            }
            weir_cut cut;
            int answer = cut_once(&codec, head, head_bytes, &cut);
            int expected = over > 0 ? -EMSGSIZE : payload_bytes == 0 ? WEIR_CUT_MESSAGE : WEIR_CUT_MORE;
            ck_assert_int_eq(answer, expected);
            if (expected == WEIR_CUT_MORE)
                ck_assert_uint_eq(cut.missing_bytes, payload_bytes);
        }
    }
    ck_assert_uint_ge(tried, 4);
}
END_TEST

START_TEST(limits_outbound)
{
    weir_frame_options options = setting(_i);
    options.message_max_bytes = 200;
    weir_codec codec = codec_of(options);
    weir_seal seal;
    ck_assert_int_eq(codec.seal(&codec, NULL, 199, &seal), 0);
    ck_assert_int_eq(codec.seal(&codec, NULL, 200, &seal), 0);
    ck_assert_int_eq(codec.seal(&codec, NULL, 201, &seal), -EMSGSIZE);
    ck_assert_int_eq(codec.seal(&codec, NULL, UINT32_MAX, &seal), -EMSGSIZE);
}
END_TEST

START_TEST(length_that_counts_itself_and_is_too_small)
{
    weir_frame_options options = setting(_i);
    options.message_max_bytes = 10;
    weir_codec codec = codec_of(options);
    uint32_t own_bytes = head_bytes_of[options.length];
    if (!options.counts_itself)
        return;
    for (uint64_t says = 0; says <= own_bytes; says++) {
        uint8_t head[8];
        weir_cut cut;
        write_length(&options, says, head);
        ck_assert_int_eq(cut_once(&codec, head, own_bytes, &cut), says < own_bytes ? -EBADMSG : WEIR_CUT_MESSAGE);
        if (says == own_bytes)
            ck_assert_uint_eq(cut.payload_bytes, 0);
    }
}
END_TEST

/* Lengths that come to something small when somebody computes with too few bits. */
START_TEST(huge_lengths)
{
    static const uint64_t huge[] = {UINT64_C(1) << 32, (UINT64_C(1) << 32) + 5, UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 8,
                                    UINT64_C(1) << 63, (UINT64_C(1) << 40) + 1, UINT32_MAX, UINT32_MAX - 3, UINT32_MAX - 7};
    for (int number = 0; number < SETTING_COUNT; number++) {
        weir_frame_options options = setting(number);
        if (options.length != WEIR_FRAME_U64 && options.length != WEIR_FRAME_U32)
            continue;
        options.message_max_bytes = _i == 0 ? 1000 : WEIR_MESSAGE_MAX_BYTES;
        weir_codec codec = codec_of(options);
        for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
            uint8_t frame[64] = {0};
            weir_cut cut;
            if (options.length == WEIR_FRAME_U32 && huge[i] > UINT32_MAX)
                continue;
            write_length(&options, huge[i], frame);
            ck_assert_int_eq(cut_once(&codec, frame, sizeof frame, &cut), -EMSGSIZE);
        }
    }
}
END_TEST

START_TEST(options_right_and_wrong)
{
    weir_codec codec = {.message_max_bytes = 4711};
    weir_frame_options bad[] = {
        {.length = (weir_frame_length)5},
        {.length = (weir_frame_length)-1},
        {.length = WEIR_FRAME_VARINT, .counts_itself = true},
        {.message_max_bytes = WEIR_MESSAGE_MAX_BYTES + 1},
        {.message_max_bytes = UINT32_MAX},
        {.length = WEIR_FRAME_U64, .message_max_bytes = WEIR_MESSAGE_MAX_BYTES + 1},
        {.length = WEIR_FRAME_VARINT, .message_max_bytes = WEIR_MESSAGE_MAX_BYTES + 1},
        {.length = WEIR_FRAME_U8, .message_max_bytes = 256},
        {.length = WEIR_FRAME_U8, .counts_itself = true, .message_max_bytes = 255},
        {.length = WEIR_FRAME_U16, .message_max_bytes = 65536},
        {.length = WEIR_FRAME_U16, .counts_itself = true, .message_max_bytes = 65534},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_int_eq(weir_codec_frame(&codec, &bad[i]), -EINVAL);
    ck_assert_uint_eq(codec.message_max_bytes, 4711);

    static const struct {
        weir_frame_options options;
        uint32_t max_bytes;
    } good[] = {
        {{.length = WEIR_FRAME_U32}, 1 << 20},
        {{.length = WEIR_FRAME_U64}, 1 << 20},
        {{.length = WEIR_FRAME_VARINT}, 1 << 20},
        {{.length = WEIR_FRAME_U8}, 255},
        {{.length = WEIR_FRAME_U8, .counts_itself = true}, 254},
        {{.length = WEIR_FRAME_U16}, 65535},
        {{.length = WEIR_FRAME_U16, .counts_itself = true}, 65533},
        {{.length = WEIR_FRAME_U8, .message_max_bytes = 255}, 255},
        {{.length = WEIR_FRAME_U8, .counts_itself = true, .message_max_bytes = 254}, 254},
        {{.length = WEIR_FRAME_U16, .message_max_bytes = 65535}, 65535},
        {{.length = WEIR_FRAME_U16, .counts_itself = true, .message_max_bytes = 65533}, 65533},
        {{.counts_itself = true, .message_max_bytes = WEIR_MESSAGE_MAX_BYTES}, WEIR_MESSAGE_MAX_BYTES},
        {{.message_max_bytes = 1}, 1},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        codec = codec_of(good[i].options);
        ck_assert_uint_eq(codec.message_max_bytes, good[i].max_bytes);
        ck_assert_str_eq(codec.name, "frame");
        ck_assert(codec.boundaries);
        ck_assert_uint_eq(codec.head_max_bytes, head_bytes_of[good[i].options.length]);
        ck_assert_uint_eq(codec.trailer_max_bytes, 0);
    }
    weir_codec by_default, by_zero = codec_of((weir_frame_options){0});
    ck_assert_int_eq(weir_codec_frame(&by_default, NULL), 0);
    ck_assert_ptr_eq(by_default.cut, by_zero.cut);
    ck_assert_ptr_eq(by_default.seal, by_zero.seal);
    ck_assert_uint_eq(by_default.message_max_bytes, 1 << 20);
}
END_TEST

/* decode(encode(x)) = x, for one stream of many payloads, however it is divided. */
START_TEST(there_and_back)
{
    struct chance chance = {(uint64_t)_i};
    for (int number = 0; number < SETTING_COUNT; number++) {
        weir_codec codec = codec_of(setting(number));
        static uint8_t stream[4096], payloads[4096];
        uint32_t stream_bytes = 0, payload_bytes = 0, count = 0, sizes[16];
        while (count < 6) {
            uint32_t bytes = chance_one_in(&chance, 4) ? (uint32_t)chance_below(&chance, 250) : (uint32_t)chance_below(&chance, 5);
            chance_fill(&chance, payloads + payload_bytes, bytes);
            int64_t sealed_bytes = feed_seal(&codec, payloads + payload_bytes, bytes, stream + stream_bytes);
            ck_assert_int_gt(sealed_bytes, 0);
            stream_bytes += (uint32_t)sealed_bytes;
            payload_bytes += bytes;
            sizes[count++] = bytes;
        }
        static struct feed feed;
        const char *different;
        feed_all_ways(&feed, &codec, stream, stream_bytes, &different);
        ck_assert_msg(different == NULL, "seed %d, setting %d: %s", _i, number, different);
        ck_assert_int_eq(feed.error, 0);
        ck_assert_uint_eq(feed.rest_offset, stream_bytes);
        ck_assert_uint_eq(feed.count, count);
        payload_bytes = 0;
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_uint_eq(feed.messages[i].bytes, sizes[i]);
            ck_assert_mem_eq(stream + feed.messages[i].offset, payloads + payload_bytes, sizes[i]);
            payload_bytes += sizes[i];
        }
    }
}
END_TEST

/* A length field worth trying: small, about the limit, or anything. */
static uint64_t interesting_length(struct chance *chance, uint32_t max_bytes)
{
    switch (chance_below(chance, 8)) {
    case 0:
        return max_bytes + chance_below(chance, 20) - 5;
    case 1:
        return chance_any_size(chance, 64);
    default:
        return chance_below(chance, 14);
    }
}

/* Streams that are right for a while and then often wrong: the same as by the book, however they are divided. */
START_TEST(by_the_book)
{
    struct chance chance = {(uint64_t)_i + 1000};
    uint32_t endings[3] = {0};
    for (int round = 0; round < 200; round++) {
        weir_frame_options options = setting((int)chance_below(&chance, SETTING_COUNT));
        options.message_max_bytes = 5 + (uint32_t)chance_below(&chance, 30);
        weir_codec codec = codec_of(options);
        uint8_t stream[128] = {0};
        uint32_t bytes = 0;
        while (bytes < 64) {
            uint64_t says = interesting_length(&chance, options.message_max_bytes);
            if (options.length == WEIR_FRAME_VARINT)
                says &= (UINT64_C(1) << 42) - 1;
            bytes += write_length(&options, says, stream + bytes);
            uint32_t filler_bytes = (uint32_t)(says < 40 ? says : 3);
            if (options.counts_itself)
                filler_bytes -= filler_bytes < head_bytes_of[options.length] ? filler_bytes : head_bytes_of[options.length];
            chance_fill(&chance, stream + bytes, filler_bytes);
            bytes += filler_bytes;
        }
        static struct feed feed, expected;
        const char *different;
        feed_all_ways(&feed, &codec, stream, bytes, &different);
        read_by_the_book(&options, options.message_max_bytes, stream, bytes, &expected);
        ck_assert_msg(different == NULL, "seed %d, round %d: %s", _i, round, different);
        ck_assert_msg(feed_same(&feed, &expected), "seed %d, round %d: %d after %u, expected %d after %u", _i, round, feed.error,
                      feed.count, expected.error, expected.count);
        endings[feed.error == 0 ? 0 : feed.error == -EMSGSIZE ? 1 : 2]++;
    }
    ck_assert_uint_gt(endings[0], 0);
    ck_assert_uint_gt(endings[1], 0);
    ck_assert_uint_gt(endings[2], 0);
}
END_TEST

START_TEST(thousand_frames_at_once)
{
    weir_codec codec = codec_of((weir_frame_options){0});
    static uint8_t stream[1000 * 12];
    uint32_t bytes = 0;
    for (uint64_t i = 0; i < 1000; i++)
        bytes += (uint32_t)feed_seal(&codec, (const uint8_t *)&i, sizeof i, stream + bytes);
    ck_assert_uint_eq(bytes, sizeof stream);
    weir_cut cut = {0};
    for (uint64_t i = 0; i < 1000; i++) {
        ck_assert_int_eq(codec.cut(&codec, stream + i * 12, bytes - (uint32_t)i * 12, &cut), WEIR_CUT_MESSAGE);
        ck_assert_uint_eq(cut.frame_bytes, 12);
        ck_assert_mem_eq(stream + i * 12 + cut.payload_offset, &i, sizeof i);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame");
    TCase *tests = tcase_create("frame");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, wire_format);
    tcase_add_test(tests, varint_wire_format);
    tcase_add_test(tests, varint_of_another_form);
    tcase_add_loop_test(tests, limits_inbound, 0, SETTING_COUNT);
    tcase_add_loop_test(tests, limits_outbound, 0, SETTING_COUNT);
    tcase_add_loop_test(tests, length_that_counts_itself_and_is_too_small, 0, SETTING_COUNT);
    tcase_add_loop_test(tests, huge_lengths, 0, 2);
    tcase_add_test(tests, options_right_and_wrong);
    tcase_add_loop_test(tests, there_and_back, 0, 8);
    tcase_add_loop_test(tests, by_the_book, 0, 8);
    tcase_add_test(tests, thousand_frames_at_once);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
