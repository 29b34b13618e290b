/* SPDX-License-Identifier: MIT */
/* test_bad_peers: peers that finish half, reset in every state, dribble, come and go by the thousand. (Those that do not read
 * are in test_slow_peers.) */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "live.h"

/* --- half-closing --- */

/* Writes all, reading only when it must, then closes its half and reads the rest. */
static void pump_and_half_close(int client, const uint8_t *data, size_t bytes)
{
    uint8_t *came = malloc(bytes);
    size_t written = 0, got = 0;
    while (written < bytes) {
        ssize_t step = live_send(client, data + written, bytes - written, MSG_DONTWAIT);
        if (step > 0) {
            written += (size_t)step;
            continue;
        }
        ck_assert_int_eq(errno, EAGAIN);
        struct pollfd wait = {.fd = client, .events = POLLIN | POLLOUT};
        ck_assert_int_ne(poll(&wait, 1, LIVE_PATIENCE_S * 1000), 0);
        if (wait.revents & POLLIN) {
            step = live_receive(client, came + got, bytes - got, 0);
            ck_assert_int_gt(step, 0);
            got += (size_t)step;
        }
    }
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    live_read(client, came + got, bytes - got);
    ck_assert(memcmp(data, came, bytes) == 0);
    free(came);
}

/* Who has said all he has to say still hears all the answers, however far the server was behind. */
START_TEST(half_close_with_answers_under_way)
{
    struct live live;
    const uint32_t count = 4000 / LIVE_SLOWER, payload = 3000;
    uint8_t *data = malloc((size_t)count * (payload + 4));
    size_t bytes = 0;
    uint64_t rest_bytes;
    live_init(&live, payload);
    live.protocol.limits.high_water_bytes = 64 * KIB;
    live_start(&live);
    int client = live_dial(&live);
    for (uint32_t i = 0; i < count; i++)
        bytes += live_fill_frame(data + bytes, payload, i);
    pump_and_half_close(client, data, bytes);
    ck_assert_int_eq(live_read_end(client, &rest_bytes), 0);
    ck_assert_uint_eq(rest_bytes, 0);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.messages_in, count);
    ck_assert_uint_eq(live.stats.messages_out, count);
    ck_assert_uint_gt(live.stats.laters, 0);
    free(data);
}
END_TEST

/* --- resetting, in each state --- */

enum state { FRESH, OPEN, AFTER_ECHO, INSIDE_FRAME, INSIDE_BIG_FRAME, HALF_CLOSED, PAUSED, QUEUED, PUT_OFF, ENDING, STATES };

/* A byte says what to do; one that is no such byte is echoed. */
static int obey(weir_conn *conn, const weir_message *message)
{
    static uint8_t big[16 * KIB];
    switch (message->bytes == 1 ? message->data[0] : 0) {
    case PAUSED:
        weir_pause(conn);
        return WEIR_TAKEN;
    case PUT_OFF:
        return WEIR_LATER;
    case QUEUED:
    case ENDING:
        while (weir_send(conn, big, sizeof big) == 0)
            ;
        if (message->data[0] == ENDING)
            weir_end(conn);
        return WEIR_TAKEN;
    default:
        return live_echo_message(conn, message);
    }
}

static void bring_to_state(int client, enum state state)
{
    const uint8_t begun[] = {200, 0, 0, 0, 1, 2, 3};
    uint8_t command[] = {1, 0, 0, 0, (uint8_t)state};
    uint8_t *big = calloc(1, 300 * KIB);
    if (state != FRESH && state != OPEN)
        live_echo(client, 10, (uint32_t)state);
    switch (state) {
    case INSIDE_FRAME:
        live_write(client, begun, sizeof begun);
        break;
    case INSIDE_BIG_FRAME:
        big[2] = 16; /* announces 1 MiB */
        live_write(client, big, 300 * KIB);
        break;
    case HALF_CLOSED:
        ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
        break;
    case PAUSED:
    case PUT_OFF:
    case QUEUED:
    case ENDING:
        live_write(client, command, sizeof command);
        break;
    default:
        break;
    }
    free(big);
}

START_TEST(reset_in_every_state)
{
    struct live live;
    live_init(&live, 1 * MIB);
    live.protocol.on_message = obey;
    live.protocol.limits.drain_ns = WEIR_SECOND; /* who is not told of the reset has at least this */
    live_start(&live);
    int good = live_dial(&live);
    live_echo(good, 10, 1);
    for (enum state state = FRESH; state < STATES; state++) {
        uint64_t closes = live.closes, opens = live.opens;
        int client = state == QUEUED || state == ENDING ? live_dial_narrow(&live) : live_dial(&live);
        if (state != FRESH)
            LIVE_AWAIT(live.opens == opens + 1);
        bring_to_state(client, state);
        if (state != FRESH)
            live_sleep(20 * WEIR_MILLISECOND); /* for the server to come to rest in it */
        live_reset(client);
        if (state == PAUSED || state == PUT_OFF) /* it does not look; a stop or its own send will tell */
            LIVE_AWAIT(live.opens == opens + 1);
        else
            LIVE_AWAIT(live.closes == closes + 1);
        live_echo(good, 100, (uint32_t)state);
    }
    live_close(good);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] >= 1);
    live_stop(&live);
    ck_assert_uint_eq(live.opens, STATES + 1);
    /* FRESH, OPEN, AFTER_ECHO, the two INSIDE, QUEUED. A peer that had half-closed was finished already; the one that we ended
     * keeps that reason or was late. */
    ck_assert_uint_ge(live.stats.closed[WEIR_REASON_RESET], 6);
    ck_assert_uint_eq(live.stats.closed[WEIR_REASON_TRUNCATED], 0);
}
END_TEST

START_TEST(reset_in_the_middle_of_a_frame)
{
    struct live live;
    uint8_t frame[512];
    live_init(&live, 500);
    live_start(&live);
    int good = live_dial(&live);
    for (size_t cut = 1; cut < 404; cut += 13) {
        uint64_t before = live.reasons[WEIR_REASON_RESET];
        int client = live_dial(&live);
        live_echo(client, 20, 1);
        live_fill_frame(frame, 400, 2);
        live_write(client, frame, cut);
        live_echo(good, 10, 3);
        live_reset(client);
        LIVE_AWAIT(live.reasons[WEIR_REASON_RESET] == before + 1);
        ck_assert_int_eq(live.last_error, -ECONNRESET);
    }
    live_close(good);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
    ck_assert_uint_eq(live.opens, live.reasons[WEIR_REASON_RESET] + 1);
}
END_TEST

/* What was queued for a peer that resets is told. */
START_TEST(reset_with_much_queued)
{
    struct live live;
    const uint8_t push[] = {1, 0, 0, 0, QUEUED};
    live_init(&live, 1 * MIB);
    live.protocol.on_message = obey;
    live.options.socket.send_buffer_bytes = 16 * KIB;
    live_start(&live);
    int client = live_dial_narrow(&live);
    live_write(client, push, sizeof push);
    LIVE_AWAIT(live_stats(&live).refusals > 0);
    LIVE_AWAIT(live_stats(&live).sends > 0);
    live_sleep(50 * WEIR_MILLISECOND);
    live_reset(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_RESET] == 1);
    ck_assert_uint_gt(live.last_undelivered_messages, 0);
    ck_assert_uint_gt(live.undelivered_bytes, 100 * KIB);
    live_stop(&live);
}
END_TEST

/* Bytes and a reset that are there before the server looks for the first time. (A multishot receive takes the bytes, and is not
 * woken again for what was a state already.) */
START_TEST(reset_right_behind_the_first_bytes)
{
    enum { COUNT = 500 };
    struct live live;
    live_init(&live, 500);
    live_start(&live);
    for (int i = 0; i < COUNT; i++) {
        int client = live_dial(&live);
        live_write(client, "\x32\0\0\0abc", 7);
        live_reset(client);
    }
    LIVE_AWAIT(live.opens == COUNT);
    LIVE_AWAIT(live.reasons[WEIR_REASON_RESET] == COUNT);
    live_stop(&live);
}
END_TEST

/* --- coming and going --- */

START_TEST(five_thousand_connects_and_closes)
{
    const uint32_t count = 5000 / LIVE_SLOWER;
    struct live live;
    struct live_pulse pulse;
    live_init(&live, 1000);
    live_start(&live);
    live_pulse_start(&pulse, &live);
    for (uint32_t i = 0; i < count; i++) {
        int client = live_dial(&live);
        if (i % 5 == 1)
            live_echo(client, 100, i);
        if (i % 5 == 2)
            live_write(client, "\x32\0\0\0abc", 7);
        if (i % 2)
            live_close(client);
        else
            live_reset(client);
    }
    LIVE_AWAIT(live.closes == count);
    live_pulse_stop(&pulse, LIVE_SLOWER * 100 * WEIR_MILLISECOND);
    LIVE_AWAIT(live.closes == count + 1);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.accepted, count + 1);
    ck_assert_uint_eq(live.stats.closed[WEIR_REASON_RESET] + live.stats.closed[WEIR_REASON_PEER] + live.stats.closed[WEIR_REASON_TRUNCATED],
                      count + 1);
    ck_assert_uint_gt(live.stats.closed[WEIR_REASON_TRUNCATED], 0);
}
END_TEST

/* --- dribbling --- */

/* Sends a byte of a long message every 10 ms until the server has had enough; answers how long that took. */
static uint64_t dribble(int client)
{
    uint8_t frame[4 + 1000];
    size_t bytes = live_fill_frame(frame, 1000, 1);
    uint64_t begin_ns = live_now_ns();
    for (size_t at = 0; at < bytes; at++) {
        uint8_t back;
        if (live_send(client, frame + at, 1, 0) != 1)
            break;
        live_sleep(10 * WEIR_MILLISECOND);
        ssize_t got = live_receive(client, &back, 1, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            break;
        ck_assert_int_lt(got, 1);
    }
    return live_now_ns() - begin_ns;
}

static void expect_near(uint64_t took_ns, uint64_t limit_ns)
{
    ck_assert_uint_ge(took_ns, limit_ns - limit_ns / 20);
    ck_assert_uint_le(took_ns, limit_ns + LIVE_SLOWER * 200 * WEIR_MILLISECOND);
}

START_TEST(slowloris_in_mid_stream)
{
    struct live live;
    struct live_pulse pulse;
    live_init(&live, 1000);
    live.protocol.limits.message_ns = 400 * WEIR_MILLISECOND;
    live_start(&live);
    live_pulse_start(&pulse, &live);
    int client = live_dial(&live);
    live_echo(client, 100, 1);
    live_sleep(600 * WEIR_MILLISECOND); /* waiting between messages is no crime */
    live_echo(client, 100, 2);
    expect_near(dribble(client), 400 * WEIR_MILLISECOND);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_MESSAGE_LATE] == 1);
    live_pulse_stop(&pulse, LIVE_SLOWER * 100 * WEIR_MILLISECOND);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.closed[WEIR_REASON_MESSAGE_LATE], 1);
}
END_TEST

/* The clock of a message begun behind a whole one in the same receive runs from there, and stops with its last byte. */
START_TEST(slow_messages_one_behind_the_other)
{
    struct live live;
    uint8_t frames[3][4 + 50];
    live_init(&live, 1000);
    live.protocol.limits.message_ns = 500 * WEIR_MILLISECOND;
    live_start(&live);
    int client = live_dial(&live);
    size_t bytes = 0;
    for (uint32_t i = 0; i < 3; i++)
        bytes = live_fill_frame(frames[i], 50, i);
    live_write(client, frames[0], 20);
    for (int round = 0; round < 6; round++) { /* 1.8 s inside of messages, but 300 ms in each */
        live_sleep(300 * WEIR_MILLISECOND);
        uint8_t both[2 * sizeof frames[0]];
        memcpy(both, frames[round % 3] + 20, bytes - 20);
        memcpy(both + bytes - 20, frames[(round + 1) % 3], 20);
        live_write(client, both, bytes);
        live_read_frame(client, 50, (uint32_t)round % 3);
    }
    uint64_t begin_ns = live_now_ns();
    live_read_end(client, NULL);
    expect_near(live_now_ns() - begin_ns, 500 * WEIR_MILLISECOND);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_MESSAGE_LATE] == 1);
    live_stop(&live);
}
END_TEST

START_TEST(slowloris_by_the_hundred)
{
    enum { COUNT = 300 };
    struct live live;
    struct live_pulse pulse;
    int clients[COUNT];
    live_init(&live, 1000);
    live.protocol.limits.message_ns = 300 * WEIR_MILLISECOND;
    live_start(&live);
    live_pulse_start(&pulse, &live);
    for (int i = 0; i < COUNT; i++) {
        clients[i] = live_dial(&live);
        live_write(clients[i], "\x32\0\0", (size_t)i % 3 + 1);
    }
    for (int i = 0; i < COUNT; i++) {
        uint64_t came_bytes;
        live_read_end(clients[i], &came_bytes);
        ck_assert_uint_eq(came_bytes, 0);
        live_close(clients[i]);
    }
    LIVE_AWAIT(live.reasons[WEIR_REASON_MESSAGE_LATE] == COUNT);
    live_pulse_stop(&pulse, LIVE_SLOWER * 100 * WEIR_MILLISECOND);
    live_stop(&live);
}
END_TEST

START_TEST(first_message_late)
{
    struct live live;
    live_init(&live, 1000);
    live.protocol.limits.first_ns = 300 * WEIR_MILLISECOND;
    live_start(&live);
    int prompt = live_dial(&live), silent = live_dial(&live);
    uint64_t begin_ns = live_now_ns();
    live_echo(prompt, 10, 1);
    live_read_end(silent, NULL);
    expect_near(live_now_ns() - begin_ns, 300 * WEIR_MILLISECOND);
    live_close(silent);
    int slow = live_dial(&live);
    expect_near(dribble(slow), 300 * WEIR_MILLISECOND);
    live_close(slow);
    LIVE_AWAIT(live.reasons[WEIR_REASON_FIRST_LATE] == 2);
    live_echo(prompt, 10, 1); /* has been first in time and may now take its time */
    live_close(prompt);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
}
END_TEST

START_TEST(idle)
{
    struct live live;
    live_init(&live, 1000);
    live.protocol.limits.idle_ns = 400 * WEIR_MILLISECOND;
    live_start(&live);
    int busy = live_dial(&live), silent = live_dial(&live);
    live_echo(silent, 10, 1);
    uint64_t begin_ns = live_now_ns();
    for (uint32_t i = 0; i < 15; i++) { /* 1.5 s */
        live_sleep(100 * WEIR_MILLISECOND);
        live_echo(busy, 10, i);
    }
    LIVE_AWAIT(live_read_end(silent, NULL) == 0);
    live_close(silent);
    LIVE_AWAIT(live.reasons[WEIR_REASON_IDLE] == 1);
    begin_ns = live_now_ns();
    live_read_end(busy, NULL);
    expect_near(live_now_ns() - begin_ns, 400 * WEIR_MILLISECOND);
    live_close(busy);
    LIVE_AWAIT(live.reasons[WEIR_REASON_IDLE] == 2);
    live_stop(&live);
}
END_TEST

/* --- a peer that does not let itself be ended --- */

START_TEST(drain_late)
{
    struct live live;
    const uint8_t finish[] = {1, 0, 0, 0, ENDING};
    live_init(&live, 1 * MIB);
    live.protocol.on_message = obey;
    live.protocol.limits.drain_ns = 400 * WEIR_MILLISECOND;
    live.options.socket.send_buffer_bytes = 16 * KIB;
    live_start(&live);
    int client = live_dial_narrow(&live);
    uint64_t begin_ns = live_now_ns();
    live_write(client, finish, sizeof finish);
    LIVE_AWAIT(live.closes == 1);
    expect_near(live_now_ns() - begin_ns, 400 * WEIR_MILLISECOND);
    ck_assert_uint_eq(live.reasons[WEIR_REASON_DRAIN_LATE], 1);
    ck_assert_uint_gt(live.undelivered_messages, 0);
    live_close(client);
    live_stop(&live);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {half_close_with_answers_under_way,
                                  reset_in_every_state,
                                  reset_in_the_middle_of_a_frame,
                                  reset_with_much_queued,
                                  reset_right_behind_the_first_bytes,
                                  five_thousand_connects_and_closes,
                                  slowloris_in_mid_stream,
                                  slow_messages_one_behind_the_other,
                                  slowloris_by_the_hundred,
                                  first_message_late,
                                  idle,
                                  drain_late};
    return live_main("bad_peers", tests, sizeof tests / sizeof *tests);
}
