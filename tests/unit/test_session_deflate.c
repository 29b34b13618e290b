/* SPDX-License-Identifier: MIT */
/* test_session_deflate: connections on which messages are packed (RFC 7692): by every way of sending, with windows that are kept and not, what comes packed, whole and in
 * fragments, and what ends the connection. The test is the client, and zlib its other half. Without a connection: test_deflate.c. */
#define ZLIB_CONST
#include <check.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <weir/weir.h>

#include "chance.h"
#include "runtime/base.h"
#include "web.h"

#define PACKED 0x40 /* RSV1 */
#define OFFERING                                                                                                                           \
    "GET / HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"                        \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"

static struct seen {
    char data[1 << 20];
    uint32_t bytes, messages;
    uint8_t kind;
    int laters; /* so many messages more are answered WEIR_LATER first */
    bool echoes, holds;
    weir_blob *kept;
    weir_conn *waiting;
} seen;

static int session_message(weir_conn *conn, const weir_message *message)
{
    if (seen.laters > 0) {
        seen.laters--;
        seen.waiting = conn;
        return WEIR_LATER;
    }
    MUST(message->bytes <= sizeof seen.data);
    memcpy(seen.data, message->data, message->bytes);
    seen.bytes = message->bytes;
    seen.kind = message->kind;
    seen.messages++;
    if (seen.holds)
        seen.kept = weir_hold(conn, message);
    return seen.echoes ? weir_forward(conn, message, conn) : WEIR_TAKEN;
}

static weir_websocket_options options;
static weir_protocol server;

/* The client's half. */
static z_stream packer, unpacker;

static void open_rig(bool keep)
{
    rig_open();
    memset(&seen, 0, sizeof seen);
    options =
        (weir_websocket_options){.message_max_bytes = 1 << 20, .deflate = {.enabled = true, .keep_sent = keep, .keep_received = keep}};
    server = (weir_protocol){
        .name = "packed", .on_open = rig_opened, .on_message = session_message, .on_ready = rig_ready, .on_close = rig_closed};
    MUST_EQUAL(weir_codec_websocket(&server.codec, &options), 0);
    packer = unpacker = (z_stream){0};
    MUST_EQUAL(deflateInit2(&packer, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    MUST_EQUAL(inflateInit2(&unpacker, -15), Z_OK);
}

static void close_rig(void)
{
    deflateEnd(&packer);
    inflateEnd(&unpacker);
    rig_close(); /* which finds what was not given back */
}

static weir_id shake(void)
{
    int peer = rig.peer_count;
    weir_id id = rig_connect(0, &server);
    say(peer, OFFERING, sizeof OFFERING - 1);
    uint32_t bytes = rig_read(peer, heard, sizeof heard - 1);
    heard[bytes] = '\0';
    MUST(strstr((char *)heard, "\r\nSec-WebSocket-Extensions: permessage-deflate") != NULL);
    return id;
}

/* As the client packs it; answers its bytes. */
static uint32_t pack(const void *data, uint32_t bytes, uint8_t *to, uint32_t to_bytes)
{
    packer.next_in = data;
    packer.avail_in = bytes;
    packer.next_out = to;
    packer.avail_out = to_bytes;
    MUST_EQUAL(deflate(&packer, Z_SYNC_FLUSH), Z_OK);
    if (!options.deflate.keep_received)
        deflateReset(&packer);
    return to_bytes - packer.avail_out - 4;
}

static uint8_t room[1 << 20];

static void say_packed(uint8_t opcode, const void *data, uint32_t bytes)
{
    say_frame(0, (uint8_t)(FIN | PACKED | opcode), room, pack(data, bytes, room, sizeof room));
}

/* One frame has come, of this message; packed or not, as it had to be. */
static void must_hear_message(uint8_t opcode, const void *data, uint32_t bytes, bool packed)
{
    static uint8_t back[1 << 20];
    uint32_t head = 2, got = 0;
    for (int i = 0; i < 50; i++) {
        got += rig_read(0, heard + got, sizeof heard - 4 - got);
        rig_turn();
    }
    MUST(got >= 2);
    MUST_EQUAL(heard[0], FIN | (packed ? PACKED : 0) | opcode);
    uint64_t length = heard[1];
    for (uint32_t more = length == 127 ? 8 : length == 126 ? 2 : 0, i = length = more == 0 ? length : 0; i < more; i++)
        length = length << 8 | heard[head++];
    MUST_EQUAL(got, head + length);
    if (!packed) {
        MUST(length == bytes && memcmp(heard + head, data, bytes) == 0);
        return;
    }
    MUST(length < bytes);
    memcpy(heard + got, "\0\0\xff\xff", 4);
    unpacker.next_in = heard + head;
    unpacker.avail_in = (uInt)length + 4;
    unpacker.next_out = back;
    unpacker.avail_out = sizeof back;
    MUST_EQUAL(inflate(&unpacker, Z_SYNC_FLUSH), Z_OK);
    MUST(unpacker.avail_in == 0 && sizeof back - unpacker.avail_out == bytes && memcmp(back, data, bytes) == 0);
    if (!options.deflate.keep_sent)
        inflateReset(&unpacker);
}

static char payload[200000];

static void fill_payload(void)
{
    for (uint32_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)('a' + (i * 7 + i / 26) % 26);
}

static const uint32_t sizes[] = {1, 255, 256, 1000, 4095, 4096, 5000, 65536, 200000};

/* Every way of sending; one behind the other with the window of those before, and those that are not packed do not touch it. */
START_TEST(every_way_of_sending)
{
    weir_channel *channel;
    weir_group group;
    weir_room place;
    uint32_t bytes = sizes[_i / 2];
    bool packed = bytes >= 256;
    fill_payload();
    open_rig(_i % 2 == 1);
    weir_id id = shake();
    weir_conn *conn = rig_conn(0, id);
    weir_port *port = rig_port();
    MUST_EQUAL(weir_send(conn, payload, bytes), 0);
    rig_turn();
    must_hear_message(TEXT, payload, bytes, packed);
    MUST_EQUAL(weir_send_kind(conn, WEIR_WEBSOCKET_BINARY, payload, bytes), 0);
    rig_turn();
    must_hear_message(BINARY, payload, bytes, packed);
    if (weir_reserve(conn, bytes, &place) == 0) {
        memcpy(place.data, payload, bytes);
        MUST_EQUAL(weir_commit(conn, bytes), 0);
        rig_turn();
        must_hear_message(TEXT, payload, bytes, packed);
    } else {
        MUST(bytes > WEIR_RESERVE_MAX_BYTES);
    }
    MUST_EQUAL(weir_port_send(port, id, payload, bytes), 0);
    rig_turn();
    must_hear_message(TEXT, payload, bytes, packed);
    seen.echoes = true;
    say_packed(BINARY, payload, bytes);
    MUST(seen.messages == 1 && seen.bytes == bytes && memcmp(seen.data, payload, bytes) == 0);
    must_hear_message(BINARY, payload, bytes, packed);
    /* What many get, and what was sealed elsewhere, goes as it is. */
    MUST_EQUAL(weir_group_open(rig.runtime, &group), 0);
    MUST_EQUAL(weir_group_join(weir_shard_port(rig.shards[0]), group, id), 0);
    rig_turn();
    MUST_EQUAL(weir_group_send(port, group, payload, bytes, (weir_id){0}), 0);
    rig_turn();
    must_hear_message(TEXT, payload, bytes, false);
    MUST_EQUAL(weir_channel_open(port, id, &(weir_channel_options){.bytes = 1 << 20}, &channel), 0);
    rig_turn();
    MUST_EQUAL(weir_channel_send(channel, payload, bytes), 0);
    rig_turn();
    must_hear_message(TEXT, payload, bytes, false);
    MUST_EQUAL(weir_send(conn, payload, bytes), 0);
    rig_turn();
    must_hear_message(TEXT, payload, bytes, packed);
    weir_channel_close(&channel);
    weir_port_close(&port);
    close_rig();
}
END_TEST

/* Blobs, noise (which does not become shorter), and two in one turn. */
START_TEST(others)
{
    static uint8_t noise[5000], both[20000];
    uint64_t state = 1;
    fill_payload();
    for (uint32_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)((state = state * 6364136223846793005U + 1) >> 56);
    open_rig(_i == 1);
    weir_conn *conn = rig_conn(0, shake());
    seen.holds = true;
    say_packed(TEXT, payload, 10000);
    MUST_EQUAL(weir_send_blob(conn, seen.kept, 100, 9000), 0);
    weir_blob_release(&seen.kept);
    rig_turn();
    must_hear_message(TEXT, payload + 100, 9000, true);
    MUST_EQUAL(weir_send_kind(conn, WEIR_WEBSOCKET_BINARY, noise, sizeof noise), 0);
    rig_turn();
    must_hear_message(BINARY, noise, sizeof noise, false);
    /* Which has ended zlib's window: what comes now refers to nothing before. */
    inflateReset(&unpacker);
    MUST_EQUAL(weir_send(conn, payload, 3000), 0);
    rig_turn();
    must_hear_message(TEXT, payload, 3000, true);
    MUST_EQUAL(weir_send(conn, payload, 3000), 0);
    MUST_EQUAL(weir_send(conn, "short", 5), 0);
    MUST_EQUAL(weir_send_control_kind(conn, WEIR_WEBSOCKET_PING, "?", 1), 0);
    rig_turn();
    uint32_t bytes = rig_read(0, both, sizeof both);
    MUST(bytes < 3000 && memcmp(both, "\x89\x01?", 3) == 0 && both[3] == (FIN | PACKED | TEXT) &&
         memcmp(both + bytes - 7, "\x81\x05short", 7) == 0);
    close_rig();
}
END_TEST

/* --- what comes --- */

/* Cut anywhere, in fragments with a ping between, and the message has to wait: it is unpacked once. */
START_TEST(every_cut)
{
    static const char text[] = "gr\xc3\xbc\xc3\x9f"
                               "e, und gr\xc3\xbc\xc3\x9f"
                               "e, und gr\xc3\xbc\xc3\x9f"
                               "e";
    uint8_t data[512];
    for (uint32_t at = 1, bytes = 2; at < bytes; at++) {
        open_rig(at % 2 == 0);
        shake();
        uint32_t packed_bytes = pack(text, sizeof text - 1, room, sizeof room), part = at % packed_bytes;
        bytes = masked(data, PACKED | TEXT, room, part);
        bytes += masked(data + bytes, FIN | PING, "?", 1);
        bytes += masked(data + bytes, 0, "", 0);
        bytes += masked(data + bytes, FIN, room + part, packed_bytes - part);
        seen.laters = (int)(at % 3);
        say(0, data, at);
        say(0, data + at, bytes - at);
        for (int i = 0; i < 2; i++)
            if (seen.waiting != NULL) {
                weir_resume(seen.waiting);
                rig_turn();
            }
        MUST_EQUAL(seen.messages, 1);
        MUST(seen.kind == WEIR_WEBSOCKET_TEXT && seen.bytes == sizeof text - 1 && memcmp(seen.data, text, sizeof text - 1) == 0);
        must_hear(0, "\x8a\x01?", 3);
        say_packed(TEXT, text, sizeof text - 1); /* with the window of the one before, if that is kept */
        MUST_EQUAL(seen.messages, 2);
        say_frame(0, FIN | TEXT, "as it is", 8);
        MUST(seen.messages == 3 && seen.bytes == 8);
        close_rig();
    }
}
END_TEST

/* first, payload, and what the connection ends with: its Close, reason and error. */
static const struct {
    uint8_t frames;
    uint8_t first[2];
    const char *payload[2];
    uint32_t bytes[2];
    uint16_t code;
    weir_reason reason;
    int error;
} broken[] = {
    {1, {FIN | PACKED | PING}, {"?"}, {1}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},
    {1, {FIN | PACKED | CLOSE}, {""}, {0}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},
    {2,
     {PACKED | TEXT, FIN | PACKED},
     {"\xf2\x48\xcd", "\xc9\xc9\x07"},
     {3, 4},
     1002,
     WEIR_REASON_BAD_MESSAGE,
     -EBADMSG}, /* RSV1 in a continuation */
    {2, {TEXT, FIN | PACKED}, {"a", "\xf2\x48\xcd\xc9\xc9\x07"}, {1, 7}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},
    {1, {FIN | 0x20 | TEXT}, {""}, {0}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},
    {1, {FIN | 0x10 | PACKED | TEXT}, {""}, {0}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},
    {1, {FIN | PACKED | TEXT}, {"\x06"}, {1}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},                    /* no block has that type */
    {1, {FIN | PACKED | TEXT}, {"\xf2\x48\xcd"}, {3}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},            /* cut off */
    {1, {FIN | PACKED | TEXT}, {""}, {0}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},                        /* not even an empty block */
    {1, {FIN | PACKED | TEXT}, {"\xf2\x00\x11\x00"}, {5}, 1002, WEIR_REASON_BAD_MESSAGE, -EBADMSG},        /* refers to what never came */
    {1, {FIN | PACKED | TEXT}, {"\x00\x01\x00\xfe\xff\xff"}, {7}, 1007, WEIR_REASON_BAD_MESSAGE, -EILSEQ}, /* "\xff" */
    {1, {FIN | PACKED | TEXT}, {"\x00\x01\x00\xfe\xff\xc3"}, {7}, 1007, WEIR_REASON_BAD_MESSAGE, -EILSEQ}, /* half a character */
    {1, {PACKED | TEXT}, {"\x00\x01\x00\xfe\xff\xff"}, {6}, 1007, WEIR_REASON_BAD_MESSAGE, -EILSEQ},       /* at once */
};

START_TEST(broken_ones)
{
    uint8_t due[4] = {FIN | CLOSE, 2, (uint8_t)(broken[_i].code >> 8), (uint8_t)broken[_i].code};
    open_rig(true);
    shake();
    for (int i = 0; i < broken[_i].frames; i++)
        say_frame(0, broken[_i].first[i], broken[_i].payload[i], broken[_i].bytes[i]);
    must_hear(0, due, 4);
    close(rig.peers[0]);
    rig_turn();
    MUST_EQUAL(rig.closes[broken[_i].reason], 1);
    MUST_EQUAL(rig.last_error, broken[_i].error);
    MUST_EQUAL(seen.messages, 0);
    close_rig();
}
END_TEST

/* Nothing was agreed on: RSV1 is what it is without. */
START_TEST(nothing_agreed_on)
{
    open_rig(true);
    fill_payload();
    weir_id id = rig_connect(0, &server);
    say(0, REQUEST, sizeof REQUEST - 1);
    must_hear(0, RESPONSE, sizeof RESPONSE - 1);
    MUST_EQUAL(weir_send(rig_conn(0, id), payload, 5000), 0);
    rig_turn();
    must_hear_message(TEXT, payload, 5000, false);
    say_packed(TEXT, payload, 5000);
    must_hear(0, "\x88\x02\x03\xea", 4);
    MUST_EQUAL(seen.messages, 0);
    close_rig();
}
END_TEST

/* A thousand times its bytes: 1009, and what was taken meanwhile goes back. */
START_TEST(bombs)
{
    static char zeros[1 << 20];
    weir_stats stats;
    open_rig(false);
    if (_i == 1)
        options.deflate.ratio_max = 2000;
    else if (_i == 2)
        server.codec.message_max_bytes = 100000;
    shake();
    say_packed(BINARY, zeros, sizeof zeros);
    MUST_EQUAL(seen.messages, _i == 1);
    if (_i != 1) {
        must_hear(0, "\x88\x02\x03\xf1", 4);
        close(rig.peers[0]);
        rig_turn();
        MUST_EQUAL(rig.closes[WEIR_REASON_TOO_BIG], 1);
    }
    weir_runtime_stats(rig.runtime, &stats);
    MUST(_i != 2 || stats.memory_peak_bytes < 600 * 1024);
    close_rig();
}
END_TEST

/* Few bytes that become many do not keep the others from their turn: only so much is unpacked in each. */
START_TEST(a_turn_is_bounded)
{
    static uint8_t zeros[200 * 1024], frames[40000];
    uint64_t sleep_ns;
    uint32_t bytes = 0, turns = 0;
    open_rig(_i == 1);
    options.deflate.ratio_max = 2000;
    shake();
    shake();
    for (int i = 0; i < 30; i++)
        bytes += masked(frames + bytes, FIN | PACKED | BINARY, room, pack(zeros, sizeof zeros, room, sizeof room));
    MUST_EQUAL(send(rig.peers[0], frames, bytes, MSG_NOSIGNAL), bytes);
    while (seen.messages == 0)
        weir_turn(rig.shards[0], &sleep_ns);
    MUST_EQUAL(send(rig.peers[1], frames, masked(frames, FIN | TEXT, "I too", 5), MSG_NOSIGNAL), 11);
    for (uint32_t before = 0; seen.messages < 31; before = seen.messages, turns++) {
        MUST(seen.messages - before <= 7 && turns < 50);
        weir_turn(rig.shards[0], &sleep_ns);
        MUST(seen.messages == 31 || sleep_ns == 0);
    }
    MUST(turns >= 4);
    close_rig();
}
END_TEST

/* --- full --- */

static uint8_t stream[4 << 20];

/* Frames, packed or not, each the payload's first bytes: how many. */
static uint32_t count_messages(uint32_t bytes)
{
    static uint8_t frame[300000], back[300000];
    uint32_t count = 0;
    for (uint32_t at = 0; at < bytes; count++) {
        bool packed = (stream[at] & PACKED) != 0;
        uint32_t more = stream[at + 1] == 127 ? 8 : stream[at + 1] == 126 ? 2 : 0, length = more == 0 ? stream[at + 1] : 0, got;
        MUST_EQUAL(stream[at] & ~PACKED, FIN | TEXT);
        for (uint32_t i = 0; i < more; i++)
            length = length << 8 | stream[at + 2 + i];
        MUST(at + 2 + more + length <= bytes);
        memcpy(frame, stream + at + 2 + more, length);
        at += 2 + more + length;
        if (packed) {
            memcpy(frame + length, "\0\0\xff\xff", 4);
            unpacker.next_in = frame;
            unpacker.avail_in = length + 4;
            unpacker.next_out = back;
            unpacker.avail_out = sizeof back;
            MUST_EQUAL(inflate(&unpacker, Z_SYNC_FLUSH), Z_OK);
        }
        got = packed ? (uint32_t)sizeof back - unpacker.avail_out : length;
        MUST(memcmp(packed ? back : frame, payload, got) == 0);
    }
    return count;
}

/* Refused for a full channel: it was not packed, and what follows is understood. */
START_TEST(refused_sends)
{
    uint32_t sent = 0, bytes = 0;
    fill_payload();
    open_rig(true);
    server.limits.high_water_bytes = 512;
    server.limits.low_water_bytes = 128;
    weir_conn *conn = rig_conn(0, shake());
    for (uint32_t i = 0; i < 1000; i++) {
        sent += weir_send(conn, payload, 1000 + i) == 0;
        if (i % 100 == 99) {
            rig_turn();
            bytes += rig_read(0, stream + bytes, (uint32_t)sizeof stream - bytes);
        }
    }
    MUST(sent < 1000 && sent > 20);
    MUST_EQUAL(count_messages(bytes), sent);
    close_rig();
}
END_TEST

/* Refused for want of memory, when it was packed already: nothing that comes later refers to it. */
START_TEST(packed_and_not_sent)
{
    struct chance chance = {1};
    for (uint32_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)('a' + chance_below(&chance, 16)); /* half of the bytes, whatever one does */
    open_rig(true);
    weir_conn *conn = rig_conn(0, shake());
    uint32_t sent = 0, bytes = 0;
    for (int i = 0; i < 40; i++) {
        rig.allocations_left = i % 4;
        sent += weir_send(conn, payload, 60000 + (uint32_t)i * 1000) == 0;
        rig.allocations_left = -1;
        sent += weir_send(conn, payload, 1000) == 0;
        if (i % 4 == 3) {
            rig_turn();
            bytes += rig_read(0, stream + bytes, (uint32_t)sizeof stream - bytes);
        }
    }
    for (int i = 0; i < 50; i++) {
        rig_turn();
        bytes += rig_read(0, stream + bytes, (uint32_t)sizeof stream - bytes);
    }
    MUST(sent < 80 && sent >= 40);
    MUST_EQUAL(count_messages(bytes), sent);
    close_rig();
}
END_TEST

/* With memory for so many pieces and no more: it ends by name, or what is sent goes as it is; nothing is left behind. */
START_TEST(without_memory)
{
    fill_payload();
    open_rig(_i % 2 == 1);
    rig_adopt(0, &server);
    rig.allocations_left = _i / 2;
    rig_turn();
    send(rig.peers[0], OFFERING, sizeof OFFERING - 1, MSG_NOSIGNAL);
    rig_turn();
    uint32_t packed_bytes = pack(payload, 50000, room, sizeof room);
    static uint8_t frame[60000];
    seen.echoes = true;
    send(rig.peers[0], frame, masked(frame, FIN | PACKED | BINARY, room, packed_bytes), MSG_NOSIGNAL);
    rig_turn();
    rig_read(0, heard, sizeof heard);
    rig_turn();
    bool ended = rig.closes[WEIR_REASON_NO_MEMORY] + rig.closes[WEIR_REASON_MEMORY] + rig.closes[WEIR_REASON_HANDLER] == 1;
    MUST(ended || seen.messages == 1);
    MUST(ended || _i > 4);
    rig.allocations_left = -1;
    close_rig();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session_deflate");
    TCase *tests = tcase_create("session_deflate");
    tcase_add_loop_test(tests, every_way_of_sending, 0, 2 * (int)W_COUNT(sizes));
    tcase_add_loop_test(tests, others, 0, 2);
    tcase_add_test(tests, every_cut);
    tcase_add_loop_test(tests, broken_ones, 0, (int)W_COUNT(broken));
    tcase_add_test(tests, nothing_agreed_on);
    tcase_add_loop_test(tests, bombs, 0, 3);
    tcase_add_loop_test(tests, a_turn_is_bounded, 0, 2);
    tcase_add_test(tests, refused_sends);
    tcase_add_test(tests, packed_and_not_sent);
    tcase_add_loop_test(tests, without_memory, 0, 60);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
