/* SPDX-License-Identifier: MIT */
/* test_websocket: peers of a WebSocket service that mean harm, or know no better: each costs only itself. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "live.h"

#define REQUEST                                                                                                                            \
    "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"                  \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define RESPONSE                                                                                                                           \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                                                    \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

static weir_websocket_options options;

static void serve(struct live *live)
{
    live_init(live, 1 * MIB);
    options = (weir_websocket_options){.kind = WEIR_WEBSOCKET_BINARY};
    ck_assert_int_eq(weir_codec_websocket(&live->protocol.codec, &options), 0);
}

static void must_read(int descriptor, const void *data, size_t bytes)
{
    uint8_t came[512];
    live_read(descriptor, came, bytes);
    if (memcmp(came, data, bytes) != 0)
        ck_abort_msg("something else came: %02x %02x %02x %02x ...", came[0], came[1], came[2], came[3]);
}

static void shake(int descriptor)
{
    live_write(descriptor, REQUEST, sizeof REQUEST - 1);
    must_read(descriptor, RESPONSE, sizeof RESPONSE - 1);
}

/* A mask of zeros is a mask. */
static void pulse_echo(int descriptor, uint32_t payload_bytes, uint32_t seed)
{
    uint8_t frame[128] = {0x82, (uint8_t)(0x80 | payload_bytes)};
    live_fill(frame + 6, payload_bytes, seed);
    live_write(descriptor, frame, payload_bytes + 6);
    frame[4] = 0x82;
    frame[5] = (uint8_t)payload_bytes;
    must_read(descriptor, frame + 4, payload_bytes + 2);
}

static void start_pulse(struct live_pulse *pulse, const struct live *live)
{
    int descriptor = live_dial(live);
    shake(descriptor);
    live_pulse_start_on(pulse, descriptor, pulse_echo);
}

/* --- handshakes that never end --- */

enum { SLOW_COUNT = 300, SLOW_MS = 400 };

/* A byte each now and then, of a request, or of a flood of fields. They are gone at their time limit, and the good client does not notice. */
START_TEST(slow_handshakes)
{
    struct live live;
    struct live_pulse pulse;
    struct pollfd slow[SLOW_COUNT];
    serve(&live);
    live.protocol.limits.handshake_ns = SLOW_MS * LIVE_SLOWER * WEIR_MILLISECOND;
    live_start(&live);
    start_pulse(&pulse, &live);
    uint64_t begin_ns = live_now_ns();
    for (int i = 0; i < SLOW_COUNT; i++)
        slow[i] = (struct pollfd){.fd = live_dial(&live), .events = POLLIN};
    int left = SLOW_COUNT;
    for (size_t at = 0; left > 0; at++) {
        for (int i = 0; i < SLOW_COUNT; i++) {
            if (slow[i].fd < 0)
                continue;
            send(slow[i].fd,
                 i % 2 == 0    ? &REQUEST[at % 40]
                 : at % 4 == 0 ? "a"
                 : at % 4 == 1 ? ":"
                 : at % 4 == 2 ? "\r"
                               : "\n",
                 1, MSG_NOSIGNAL);
            if (poll(&slow[i], 1, 0) > 0) {
                live_close(slow[i].fd);
                slow[i].fd = -1;
                left--;
            }
        }
        live_sleep(5 * WEIR_MILLISECOND);
        if (live_now_ns() - begin_ns > LIVE_PATIENCE_NS)
            ck_abort_msg("%d handshakes go on for ever", left);
    }
    live_pulse_stop(&pulse, 100 * WEIR_MILLISECOND * LIVE_SLOWER);
    weir_stats stats = live_stats(&live);
    ck_assert_uint_ge(stats.closed[WEIR_REASON_HANDSHAKE_LATE] + stats.closed[WEIR_REASON_HANDSHAKE], SLOW_COUNT);
    ck_assert_uint_ge(stats.closed[WEIR_REASON_HANDSHAKE_LATE], SLOW_COUNT / 2 - 1);
    ck_assert_uint_eq(live.opens, 1);
    live_stop(&live);
}
END_TEST

/* --- coming and going --- */

enum { COMINGS = LIVE_SANITIZED ? 500 : 5000 };

START_TEST(five_thousand_handshakes_and_closes)
{
    static const uint8_t close_1001[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9}, answer[] = {0x88, 0x02, 0x03, 0xe9};
    struct live live;
    struct live_pulse pulse;
    serve(&live);
    live_start(&live);
    start_pulse(&pulse, &live);
    for (int i = 0; i < COMINGS; i++) {
        int descriptor = live_dial(&live);
        shake(descriptor);
        live_write(descriptor, close_1001, sizeof close_1001);
        must_read(descriptor, answer, sizeof answer);
        ck_assert_int_eq(live_read_end(descriptor, NULL), 0);
        live_close(descriptor);
    }
    live_pulse_stop(&pulse, 100 * WEIR_MILLISECOND * LIVE_SLOWER);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] + live.reasons[WEIR_REASON_RESET] == COMINGS + 1);
    ck_assert_uint_eq(live.opens, COMINGS + 1);
    live_stop(&live);
}
END_TEST

/* --- questions --- */

enum { PINGS = LIVE_SANITIZED ? 20000 : 200000, PINGS_AT_ONCE = 1000, PING_BYTES = 10, PONG_BYTES = 6 };

/* Reads pongs of ascending numbers, up to the last ping's. */
static void read_pongs(int descriptor, uint32_t last)
{
    for (uint32_t number = 0, before = 0, count = 0; number != last; before = number) {
        uint8_t pong[PONG_BYTES];
        live_read(descriptor, pong, sizeof pong);
        ck_assert(pong[0] == 0x8a && pong[1] == 4);
        memcpy(&number, pong + 2, sizeof number);
        ck_assert(number > before && ++count <= PINGS);
    }
}

/* Asked and asked, and nobody listens to the answers: what they hold of memory does not grow, and the newest question is answered. */
START_TEST(a_flood_of_pings)
{
    static uint8_t pings[PINGS_AT_ONCE * PING_BYTES];
    struct live live;
    struct live_pulse pulse;
    serve(&live);
    live_start(&live);
    start_pulse(&pulse, &live);
    int descriptor = live_dial_narrow(&live);
    shake(descriptor);
    int64_t before_bytes = live.account.bytes;
    uint32_t number = 0;
    while (number < PINGS) {
        for (uint8_t *ping = pings; ping < pings + sizeof pings; ping += PING_BYTES) {
            number++;
            memcpy(ping, (const uint8_t[]){0x89, 0x84, 0, 0, 0, 0}, 6);
            memcpy(ping + 6, &number, sizeof number);
        }
        live_write(descriptor, pings, sizeof pings);
    }
    LIVE_AWAIT(live_stats(&live).bytes_in >= (uint64_t)PINGS * PING_BYTES);
    ck_assert_int_le(live.account.bytes - before_bytes, 256 * KIB);
    read_pongs(descriptor, number);
    live_pulse_stop(&pulse, 100 * WEIR_MILLISECOND * LIVE_SLOWER);
    live_close(descriptor);
    live_stop(&live);
}
END_TEST

/* --- a room --- */

enum { MEMBERS = 12, NEWS = 2000, NEWS_BYTES = 1000 };

static weir_group room;

static int enter(weir_conn *conn)
{
    weir_group_join(weir_shard_port(weir_conn_shard(conn)), room, weir_conn_id(conn));
    return live_opened(conn);
}

/* What one says, all others get. */
static int tell_all(weir_conn *conn, const weir_message *message)
{
    int result = weir_group_send(weir_shard_port(weir_conn_shard(conn)), room, message->data, message->bytes, weir_conn_id(conn));
    return result == -EAGAIN ? WEIR_LATER : result;
}

static void say(int descriptor, uint32_t seed)
{
    uint8_t frame[NEWS_BYTES + 8] = {0x82, 0x80 | 126, NEWS_BYTES >> 8, NEWS_BYTES & 0xff};
    live_fill(frame + 8, NEWS_BYTES, seed);
    live_write(descriptor, frame, sizeof frame);
}

static void hear(int descriptor, uint32_t seed)
{
    uint8_t wanted[NEWS_BYTES + 4] = {0x82, 126, NEWS_BYTES >> 8, NEWS_BYTES & 0xff}, came[NEWS_BYTES + 4];
    live_fill(wanted + 4, NEWS_BYTES, seed);
    live_read(descriptor, came, sizeof came);
    if (memcmp(wanted, came, sizeof came) != 0)
        ck_abort_msg("news %u came changed", seed);
}

/* One member reads nothing: he misses what there is no room for, and the others hear all of it, in order. */
START_TEST(a_member_that_never_reads)
{
    struct live live;
    int members[MEMBERS];
    serve(&live);
    live.protocol.on_open = enter;
    live.protocol.on_message = tell_all;
    live_start(&live);
    ck_assert_int_eq(weir_group_open(live.runtime, &room), 0);
    for (int i = 0; i < MEMBERS; i++) {
        members[i] = i == 0 ? live_dial_narrow(&live) : live_dial(&live);
        shake(members[i]);
    }
    LIVE_AWAIT(live.opens == MEMBERS);
    for (uint32_t seed = 0; seed < NEWS; seed++) {
        say(members[1], seed);
        for (int i = 2; i < MEMBERS; i++)
            hear(members[i], seed);
    }
    weir_group_stats stats;
    ck_assert_int_eq(weir_group_stats_get(live.runtime, room, &stats), 0);
    ck_assert_uint_gt(stats.refused, 0);
    ck_assert_uint_eq(live.closes, 0);
    for (int i = 0; i < MEMBERS; i++)
        live_close(members[i]);
    LIVE_AWAIT(live.closes == MEMBERS);
    ck_assert_int_eq(weir_group_close(live.runtime, room), 0);
    live_stop(&live);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {slow_handshakes, five_thousand_handshakes_and_closes, a_flood_of_pings, a_member_that_never_reads};
    return live_main("websocket", tests, sizeof tests / sizeof tests[0]);
}
