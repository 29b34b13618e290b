/* SPDX-License-Identifier: MIT */
/* test_websocket: each MUST of RFC 6455 about frames, broken once, at a server and at a client, without a connection: what cut and take say, and which code our Close has
 * then. Whole and byte by byte. Handshakes: test_handshake.c; text by itself: test_utf8.c; connections: test_session.c; any bytes: tests/fuzz/fuzz_websocket.c. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "must.h"
#include "proto/websocket.h"
#include "runtime/base.h"

#define FIN   0x80
#define TEXT  1
#define CLOSE 8
#define PING  9
#define PONG  10

static weir_websocket_options options;
static weir_codec codec;
static struct w_websocket ws;

static void start(bool client)
{
    options.client = client;
    options.host = client ? "a" : NULL;
    MUST_EQUAL(weir_codec_websocket(&codec, &options), 0);
    memset(&ws, 0, sizeof ws);
    ws.stage = W_WEBSOCKET_OPEN;
}

/* What came of a stream. */
static struct {
    uint32_t messages, parts, owns;
    int verdict; /* of the last take */
    weir_session_answer answer;
} seen;

/* Some bytes, in pieces of so many: 0, or cut's or take's error. */
static int hear(const uint8_t *data, uint32_t bytes, uint32_t piece)
{
    static uint8_t stream[70000];
    uint32_t begin = 0, end = 0, scanned = 0;
    memset(&seen, 0, sizeof seen);
    while (end < bytes) {
        uint32_t more = piece < bytes - end ? piece : bytes - end;
        memcpy(stream + end, data + end, more);
        end += more;
        while (begin < end) {
            weir_cut cut = {.scanned_bytes = scanned, .session = &ws};
            int result = codec.cut(&codec, stream + begin, end - begin, &cut);
            scanned = cut.scanned_bytes;
            if (result < 0)
                return result;
            if (result == WEIR_CUT_MORE)
                break;
            seen.messages += ws.state.frame == WEIR_SESSION_MESSAGE || ws.state.frame == WEIR_SESSION_LAST;
            seen.parts += ws.state.frame == WEIR_SESSION_PART;
            if (ws.state.frame == WEIR_SESSION_OWN) {
                seen.owns++;
                seen.answer.bytes = 0;
                seen.verdict = codec.session->take(&codec, &ws, stream + begin + cut.payload_offset, cut.payload_bytes, &seen.answer);
                if (seen.verdict < 0)
                    return seen.verdict;
            }
            ws.state.frame = WEIR_SESSION_UNKNOWN;
            begin += cut.frame_bytes;
            scanned = 0;
        }
    }
    return 0;
}

/* The code that our Close says then; -1: none. */
static int close_code(int error)
{
    uint8_t words[WEIR_SESSION_FAREWELL_BYTES];
    weir_reason reason = error == -EMSGSIZE ? WEIR_REASON_TOO_BIG : WEIR_REASON_BAD_MESSAGE;
    uint32_t bytes = codec.session->farewell(&codec, &ws, reason, error, words);
    if (bytes == 0)
        return -1;
    uint8_t *payload = words + 2 + (options.client ? 4 : 0);
    for (uint32_t i = 0; options.client && i < 2; i++)
        payload[i] ^= words[2 + i];
    MUST(bytes >= 4 && words[0] == (FIN | CLOSE));
    return payload[0] << 8 | payload[1];
}

/* --- frames --- */

struct stream {
    uint8_t data[70000];
    uint32_t bytes;
};

/* As the peer of this role sends it; `masked` against the rule as well. length: how many bytes its length is said with: 1, 3, 9. */
static void add_as(struct stream *stream, bool masked, uint8_t first, const void *payload, uint32_t bytes, uint32_t length)
{
    static const uint8_t key[] = {0x11, 0x22, 0x33, 0x44};
    uint8_t *to = stream->data + stream->bytes, mask = masked ? 0x80 : 0;
    *to++ = first;
    *to++ = mask | (uint8_t)(length == 1 ? bytes : length == 3 ? 126 : 127);
    for (uint32_t i = length - 1; i > 0; i--)
        *to++ = (uint8_t)((uint64_t)bytes >> 8 * (i - 1));
    if (masked) {
        memcpy(to, key, 4);
        to += 4;
    }
    for (uint32_t i = 0; i < bytes; i++)
        *to++ = (uint8_t)(((const uint8_t *)payload)[i] ^ (masked ? key[i % 4] : 0));
    stream->bytes = (uint32_t)(to - stream->data);
}

static void add(struct stream *stream, uint8_t first, const void *payload, uint32_t bytes)
{
    add_as(stream, !options.client, first, payload, bytes, bytes < 126 ? 1 : bytes < 65536 ? 3 : 9);
}

/* It is an error, whole and byte by byte, and our Close says so. */
static void must_fail(const struct stream *stream, int error, int code, const char *what)
{
    static const uint32_t pieces[] = {70000, 1, 3};
    for (size_t i = 0; i < W_COUNT(pieces); i++) {
        start(options.client);
        int result = hear(stream->data, stream->bytes, pieces[i]);
        if (result != error || close_code(result) != code)
            ck_abort_msg("%s at a %s: %d with %d, not %d with %d", what, options.client ? "client" : "server", result, close_code(result),
                         error, code);
    }
}

static struct stream stream;

static void fresh(bool client)
{
    options = (weir_websocket_options){.client = client};
    stream.bytes = 0;
}

/* first[1] and more: behind the frame before, in the same stream. Payload NULL: so many zeros. */
static const struct {
    const char *must;
    uint8_t frames;
    uint8_t first[3];
    const char *payload[3];
    uint16_t bytes[3];
    int error;
} broken[] = {
    {"5.2: RSV1 is 0", 1, {FIN | 0x40 | TEXT}, {"a"}, {1}, -EBADMSG},
    {"5.2: RSV2 is 0", 1, {FIN | 0x20 | TEXT}, {"a"}, {1}, -EBADMSG},
    {"5.2: RSV3 is 0", 1, {FIN | 0x10 | TEXT}, {"a"}, {1}, -EBADMSG},
    {"5.2: RSV of a control frame", 1, {FIN | 0x40 | PING}, {"a"}, {1}, -EBADMSG},
    {"5.2: opcode 3", 1, {FIN | 3}, {""}, {0}, -EBADMSG},
    {"5.2: opcode 7", 1, {FIN | 7}, {""}, {0}, -EBADMSG},
    {"5.2: opcode 11", 1, {FIN | 11}, {""}, {0}, -EBADMSG},
    {"5.2: opcode 15", 1, {FIN | 15}, {""}, {0}, -EBADMSG},
    {"5.4: a continuation of nothing", 1, {FIN}, {"a"}, {1}, -EBADMSG},
    {"5.4: a continuation of nothing, with more to come", 1, {0}, {"a"}, {1}, -EBADMSG},
    {"5.4: a continuation behind a whole message", 2, {FIN | TEXT, FIN}, {"a", "b"}, {1, 1}, -EBADMSG},
    {"5.4: text inside a fragmented message", 2, {TEXT, FIN | TEXT}, {"a", "b"}, {1, 1}, -EBADMSG},
    {"5.4: binary inside a fragmented message", 2, {TEXT, 2}, {"a", "b"}, {1, 1}, -EBADMSG},
    {"5.4: the same, with a ping between", 3, {2, FIN | PING, FIN | TEXT}, {"a", "", "b"}, {1, 0, 1}, -EBADMSG},
    {"5.5: a fragmented ping", 1, {PING}, {"a"}, {1}, -EBADMSG},
    {"5.5: a fragmented pong", 1, {PONG}, {"a"}, {1}, -EBADMSG},
    {"5.5: a fragmented Close", 1, {CLOSE}, {""}, {0}, -EBADMSG},
    {"5.5: a ping of 126 bytes", 1, {FIN | PING}, {NULL}, {126}, -EBADMSG},
    {"5.5: a pong of 126 bytes", 1, {FIN | PONG}, {NULL}, {126}, -EBADMSG},
    {"5.5: a Close of 126 bytes", 1, {FIN | CLOSE}, {NULL}, {126}, -EBADMSG},
    {"5.5.1: a Close of one byte", 1, {FIN | CLOSE}, {"\x03"}, {1}, -EBADMSG},
    {"5.5.1: a reason that is no UTF-8", 1, {FIN | CLOSE}, {"\x03\xe8\xff"}, {3}, -EILSEQ},
    {"5.5.1: a reason that ends in a character", 1, {FIN | CLOSE}, {"\x03\xe8\xc3"}, {3}, -EILSEQ},
    {"8.1: text that is no UTF-8", 1, {FIN | TEXT}, {"a\x80"}, {2}, -EILSEQ},
    {"8.1: text that ends in a character", 1, {FIN | TEXT}, {"\xe2\x82"}, {2}, -EILSEQ},
    {"8.1: in a fragment", 2, {TEXT, 0}, {"\xe2", "a"}, {1, 1}, -EILSEQ},
    {"8.1: fragments that end in a character", 2, {TEXT, FIN}, {"\xe2", "\x82"}, {1, 1}, -EILSEQ},
    {"8.1: a surrogate, over two fragments", 2, {TEXT, FIN}, {"\xed", "\xa0\x80"}, {1, 2}, -EILSEQ},
};

START_TEST(frames)
{
    static const char zeros[200];
    for (int client = 0; client < 2; client++) {
        fresh(client != 0);
        for (int i = 0; i < broken[_i].frames; i++)
            add(&stream, broken[_i].first[i], broken[_i].payload[i] == NULL ? zeros : broken[_i].payload[i], broken[_i].bytes[i]);
        must_fail(&stream, broken[_i].error, broken[_i].error == -EILSEQ ? 1007 : 1002, broken[_i].must);
    }
}
END_TEST

/* Section 5.1. */
START_TEST(masks)
{
    static const uint8_t firsts[] = {FIN | TEXT, FIN | 2, 2, FIN | PING, FIN | PONG, FIN | CLOSE};
    for (int client = 0; client < 2; client++)
        for (size_t i = 0; i < W_COUNT(firsts); i++) {
            fresh(client != 0);
            add_as(&stream, client != 0, firsts[i], "", 0, 1);
            must_fail(&stream, -EBADMSG, 1002, client ? "5.1: a server's frame is not masked" : "5.1: a client's frame is masked");
        }
}
END_TEST

/* Section 5.2: the shortest form, and the first bit of eight bytes. */
START_TEST(lengths)
{
    static const char zeros[66000];
    static const struct {
        uint32_t bytes, length;
    } wrong[] = {{0, 3}, {125, 3}, {0, 9}, {125, 9}, {126, 9}, {65535, 9}}, right[] = {{0, 1}, {125, 1}, {126, 3}, {65535, 3}, {65536, 9}};
    for (int client = 0; client < 2; client++) {
        for (size_t i = 0; i < W_COUNT(wrong); i++) {
            fresh(client != 0);
            add_as(&stream, client == 0, FIN | 2, zeros, wrong[i].bytes, wrong[i].length);
            must_fail(&stream, -EBADMSG, 1002, "5.2: the shortest form");
        }
        for (size_t i = 0; i < W_COUNT(right); i++) {
            fresh(client != 0);
            add_as(&stream, client == 0, FIN | 2, zeros, right[i].bytes, right[i].length);
            start(client != 0);
            MUST_EQUAL(hear(stream.data, stream.bytes, 1000), 0);
            MUST_EQUAL(seen.messages, 1);
        }
        fresh(client != 0);
        add_as(&stream, client == 0, FIN | 2, "", 0, 9);
        stream.data[2] = 0x80;
        must_fail(&stream, -EBADMSG, 1002, "5.2: the first bit of eight bytes is 0");
    }
}
END_TEST

/* Sections 7.4.1 and 7.4.2: which codes a Close may say; all of them. */
START_TEST(codes)
{
    for (uint32_t code = 0; code < 65536; code++) {
        bool good = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
        const uint8_t payload[] = {(uint8_t)(code >> 8), (uint8_t)code, 'w', 'h', 'y'};
        for (int client = 0; client < 2; client++) {
            fresh(client != 0);
            add(&stream, FIN | CLOSE, payload, code % 2 == 0 ? 2 : sizeof payload);
            start(client != 0);
            int result = hear(stream.data, stream.bytes, 70000);
            MUST_EQUAL(result, good ? 0 : -EBADMSG);
            MUST(!good || (seen.verdict == WEIR_SESSION_END && seen.answer.peer_code == code));
        }
    }
}
END_TEST

/* Section 5.5.1: behind a Close nothing more is looked at; an empty one has no code. */
START_TEST(behind_a_close)
{
    for (int client = 0; client < 2; client++) {
        fresh(client != 0);
        add(&stream, FIN | CLOSE, "", 0);
        add_as(&stream, client != 0, 0xff, "what is this?", 13, 1);
        start(client != 0);
        MUST_EQUAL(hear(stream.data, stream.bytes, 70000), 0);
        MUST(seen.owns == 2 && seen.messages == 0 && seen.verdict == WEIR_SESSION_GO_ON && seen.answer.bytes == 0);
        start(client != 0);
        MUST_EQUAL(hear(stream.data, client ? 2 : 6, 70000), 0);
        MUST_EQUAL(seen.answer.peer_code, 1005);
    }
}
END_TEST

/* Sections 5.5.2 and 5.5.3: the pong has what the ping had, in the middle of a message too, and goes as this role sends. */
START_TEST(pongs)
{
    uint8_t payload[125];
    for (uint32_t bytes = 0; bytes <= sizeof payload; bytes += 25)
        for (int client = 0; client < 2; client++) {
            memset(payload, 'p', sizeof payload);
            fresh(client != 0);
            add(&stream, TEXT, "a", 1);
            add(&stream, FIN | PING, payload, bytes);
            start(client != 0);
            MUST_EQUAL(hear(stream.data, stream.bytes, 7), 0);
            const uint8_t *answer = seen.answer.data;
            uint32_t head = client ? 6 : 2;
            MUST(seen.answer.control && seen.answer.bytes == head + bytes && answer[0] == (FIN | PONG));
            MUST_EQUAL(answer[1], bytes | (client ? 0x80 : 0));
            for (uint32_t i = 0; i < bytes; i++)
                MUST_EQUAL(answer[head + i] ^ (client ? answer[2 + i % 4] : 0), 'p');
        }
}
END_TEST

/* Limits: the frame, the message, the fragments; and as many as the setting says. */
START_TEST(limits)
{
    static const char zeros[200];
    for (int client = 0; client < 2; client++) {
        fresh(client != 0);
        options.message_max_bytes = 100;
        add(&stream, FIN | 2, zeros, 101);
        must_fail(&stream, -EMSGSIZE, 1009, "a frame over the limit");
        stream.bytes = 0;
        add(&stream, 2, zeros, 60);
        add(&stream, FIN | PING, zeros, 100);
        add(&stream, 0, zeros, 41);
        must_fail(&stream, -EMSGSIZE, 1009, "fragments over the limit");
        static const uint32_t counts[] = {0, 3, 65536};
        for (size_t i = 0; i < W_COUNT(counts); i++) {
            static struct stream many;
            uint32_t count = counts[i] == 0 ? 1024 : counts[i];
            fresh(client != 0);
            options.fragments_max = counts[i];
            start(client != 0);
            for (uint32_t k = 0; k < count; k++) {
                many.bytes = 0;
                add(&many, (uint8_t)(k == 0 ? 2 : k == count - 1 ? FIN : 0), "", 0);
                MUST_EQUAL(hear(many.data, many.bytes, 100), 0);
            }
            MUST_EQUAL(seen.messages, 1);
            for (uint32_t k = 0; k <= count; k++) {
                many.bytes = 0;
                add(&many, k == 0 ? 2 : 0, "", 0);
                MUST_EQUAL(hear(many.data, many.bytes, 100), k < count ? 0 : -EMSGSIZE);
            }
        }
    }
}
END_TEST

/* Section 8.1, at once: a character that is none is found at its first byte that cannot be, wherever it stands and wherever frames and pieces begin. */
START_TEST(text_at_every_boundary)
{
    static const char *const bad[] = {"\x80",     "\xc1",     "\xf5",  "\xe0\x80",  "\xed\xa0",
                                      "\xf0\x8f", "\xf4\x90", "\xc3(", "\xe2\x82(", "\xf0\x9f\x98("};
    static const char good[] = "gr\xc3\xbc\xc3\x9f\xe2\x82\xac\xf0\x9f\x98\x80 and then";
    static const uint8_t starts[] = {0, 1, 2, 4, 6, 9, 13, 14, 18}; /* of characters */
    for (size_t b = 0; b < W_COUNT(bad); b++)
        for (size_t s = 0; s < W_COUNT(starts); s++) {
            char text[40];
            uint32_t at = starts[s], bytes = at + (uint32_t)strlen(bad[b]);
            memcpy(text, good, at);
            memcpy(text + at, bad[b], bytes - at);
            for (uint32_t cut = 0; cut <= bytes; cut++)
                for (int client = 0; client < 2; client++) {
                    fresh(client != 0);
                    add(&stream, TEXT, text, cut);
                    add(&stream, FIN | PING, "", 0);
                    add(&stream, 0, text + cut, bytes - cut);
                    must_fail(&stream, -EILSEQ, 1007, "8.1: said at once");
                    fresh(client != 0); /* one byte less is no mistake yet */
                    add(&stream, TEXT, text, cut < bytes - 1 ? cut : bytes - 1);
                    if (cut < bytes - 1)
                        add(&stream, 0, text + cut, bytes - 1 - cut);
                    start(client != 0);
                    MUST_EQUAL(hear(stream.data, stream.bytes, 1), 0);
                }
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("websocket");
    TCase *tests = tcase_create("websocket");
    tcase_add_loop_test(tests, frames, 0, (int)W_COUNT(broken));
    tcase_add_test(tests, masks);
    tcase_add_test(tests, lengths);
    tcase_add_test(tests, codes);
    tcase_add_test(tests, behind_a_close);
    tcase_add_test(tests, pongs);
    tcase_add_test(tests, limits);
    tcase_add_test(tests, text_at_every_boundary);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
