/* SPDX-License-Identifier: MIT */
/* test_slow_peers: peers that do not read. What is aimed at them is refused, their connection ends only if its policy says so, and
 * nobody else notices. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "live.h"

/* --- sixty-four megabytes at each of eight --- */

enum { SILENT_COUNT = 8, AIM_BYTES = 64 * KIB, AIM_TIMES = 1024, AIMS_A_TICK = 4 };

struct target {
    weir_id id;
    uint32_t aimed;    /* sends tried */
    uint32_t accepted; /* of them answered 0 */
    bool is_gone;
};

static struct target targets[SILENT_COUNT];
static uint32_t target_count;
static atomic_bool is_aimed; /* true exactly when all was tried */
static weir_timer ticker;

/* A few at each at each millisecond, until 64 MiB were tried on each. */
static void aim(weir_shard *shard, weir_timer *timer, void *user)
{
    static uint8_t bytes[AIM_BYTES];
    bool is_over = true;
    for (uint32_t i = 0; i < SILENT_COUNT; i++) {
        struct target *target = &targets[i];
        for (int j = 0; j < AIMS_A_TICK && target->aimed < AIM_TIMES && !target->is_gone; j++, target->aimed++) {
            int result = weir_send_to(shard, target->id, bytes, sizeof bytes);
            target->accepted += result == 0;
            target->is_gone = result == -ESTALE || result == -EPIPE;
            ck_assert(result == 0 || result == -EAGAIN || target->is_gone);
        }
        is_over = is_over && (target->aimed == AIM_TIMES || target->is_gone);
    }
    if (is_over)
        is_aimed = true;
    else
        weir_timer_set(shard, timer, WEIR_MILLISECOND, aim, user);
}

/* "!": send me much. */
static int take_target(weir_conn *conn, const weir_message *message)
{
    if (message->bytes != 1 || message->data[0] != '!')
        return live_echo_message(conn, message);
    targets[target_count++].id = weir_conn_id(conn);
    if (target_count == SILENT_COUNT)
        weir_timer_set(weir_conn_shard(conn), &ticker, WEIR_MILLISECOND, aim, NULL);
    return WEIR_TAKEN;
}

static void aim_at_eight(struct live *live, int clients[SILENT_COUNT])
{
    for (int i = 0; i < SILENT_COUNT; i++) {
        clients[i] = live_dial(live);
        live_write(clients[i], "\1\0\0\0!", 5);
    }
    LIVE_AWAIT(is_aimed);
}

START_TEST(eight_that_never_read)
{
    struct live live;
    struct live_pulse pulse;
    int clients[SILENT_COUNT];
    live_init(&live, 1 * MIB);
    live.protocol.on_message = take_target;
    live_start(&live);
    live_pulse_start(&pulse, &live);
    int64_t before_bytes = live.account.bytes, resident_bytes = live_resident_bytes();
    aim_at_eight(&live, clients);
    ck_assert_int_le(live.account.peak_bytes - before_bytes, 32 * MIB);
    if (!LIVE_SANITIZED)
        ck_assert_int_le(live_resident_bytes() - resident_bytes, 32 * MIB);
    live_pulse_stop(&pulse, LIVE_SLOWER * 100 * WEIR_MILLISECOND);
    LIVE_AWAIT(live.closes == 1); /* the good one; refusing is all that is done to the others */
    ck_assert_uint_eq(live_stats(&live).connections, SILENT_COUNT);
    for (int i = 0; i < SILENT_COUNT; i++) {
        ck_assert_uint_eq(targets[i].aimed, AIM_TIMES);
        ck_assert_uint_lt(targets[i].accepted, AIM_TIMES / 2);
        live_close(clients[i]);
    }
    live_stop(&live);
    ck_assert_uint_gt(live.stats.refusals, SILENT_COUNT * AIM_TIMES / 2);
    ck_assert_uint_gt(live.stats.messages_undelivered, 0);
}
END_TEST

START_TEST(eight_ended_by_bytes)
{
    struct live live;
    struct live_pulse pulse;
    int clients[SILENT_COUNT];
    live_init(&live, 1 * MIB);
    live.protocol.on_message = take_target;
    live.protocol.limits.slow_peer.queued_bytes_max = 200 * KIB;
    live_start(&live);
    live_pulse_start(&pulse, &live);
    aim_at_eight(&live, clients);
    LIVE_AWAIT(live.reasons[WEIR_REASON_SLOW_BYTES] == SILENT_COUNT);
    live_pulse_stop(&pulse, LIVE_SLOWER * 100 * WEIR_MILLISECOND);
    for (int i = 0; i < SILENT_COUNT; i++) {
        ck_assert(targets[i].is_gone);
        live_close(clients[i]);
    }
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
    ck_assert_uint_ge(live.stats.refusals, SILENT_COUNT);
    /* at least what the policy says was lost of each */
    ck_assert_uint_ge(live.stats.bytes_undelivered, SILENT_COUNT * 200 * KIB);
}
END_TEST

START_TEST(eight_ended_by_time)
{
    struct live live;
    struct live_pulse pulse;
    int clients[SILENT_COUNT];
    live_init(&live, 1 * MIB);
    live.protocol.on_message = take_target;
    live.protocol.limits.slow_peer.stalled_ns_max = 500 * WEIR_MILLISECOND;
    live_start(&live);
    live_pulse_start(&pulse, &live);
    uint64_t begin_ns = live_now_ns();
    aim_at_eight(&live, clients);
    LIVE_AWAIT(live.reasons[WEIR_REASON_SLOW_TIME] == SILENT_COUNT);
    ck_assert_uint_ge(live_now_ns() - begin_ns, 450 * WEIR_MILLISECOND);
    ck_assert_uint_le(live_now_ns() - begin_ns, LIVE_SLOWER * 2 * WEIR_SECOND);
    live_pulse_stop(&pulse, LIVE_SLOWER * 100 * WEIR_MILLISECOND); /* it was idle often, which is not stalled */
    for (int i = 0; i < SILENT_COUNT; i++)
        live_close(clients[i]);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
}
END_TEST

/* --- echo to one who writes and does not read --- */

static void write_till_full(int client, uint32_t payload, uint32_t *frames, size_t *rest_bytes)
{
    uint8_t *frame = malloc(payload + 4);
    *rest_bytes = 0;
    for (*frames = 0;; ++*frames) {
        size_t bytes = live_fill_frame(frame, payload, *frames), at = 0;
        uint64_t stuck_ns = live_now_ns();
        while (at < bytes && live_now_ns() - stuck_ns < 500 * WEIR_MILLISECOND) {
            ssize_t step = live_send(client, frame + at, bytes - at, MSG_DONTWAIT);
            at += step > 0 ? (size_t)step : 0;
            stuck_ns = step > 0 ? live_now_ns() : stuck_ns;
            if (step <= 0)
                live_sleep(WEIR_MILLISECOND);
        }
        *rest_bytes = bytes - at;
        if (at < bytes)
            break;
    }
    free(frame);
}

/* Pressure goes back to where it comes from; when at last it reads, everything is there and in order. */
START_TEST(writer_that_reads_late)
{
    struct live live;
    struct live_pulse pulse;
    const uint32_t payload = 30000;
    uint32_t frames;
    size_t rest_bytes;
    live_init(&live, payload);
    live_start(&live);
    live_pulse_start(&pulse, &live);
    int client = live_dial(&live);
    write_till_full(client, payload, &frames, &rest_bytes);
    ck_assert_uint_gt(frames, 10);
    ck_assert_uint_gt(rest_bytes, 0);
    weir_stats stats = live_stats(&live);
    ck_assert_uint_gt(stats.laters, 0);
    ck_assert_uint_le(stats.memory_bytes, 10 * MIB); /* what was in the receive buffers, all 4 MiB of them, as copies, and what is queued */
    for (uint32_t i = 0; i < frames; i++)
        live_read_frame(client, payload, i);
    uint8_t *frame = malloc(payload + 4);
    size_t bytes = live_fill_frame(frame, payload, frames);
    live_write(client, frame + bytes - rest_bytes, rest_bytes);
    live_read_frame(client, payload, frames);
    free(frame);
    live_close(client);
    live_pulse_stop(&pulse, LIVE_SLOWER * 100 * WEIR_MILLISECOND);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 2);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.messages_undelivered, 0);
}
END_TEST

/* --- the policy of one connection, changed while it lives --- */

static weir_id patient;
static atomic_bool is_switched;

/* "!": send me till it is full. "?": from now on, an impatient policy for the one that said "!", and one more send to it. */
static int switch_policy(weir_conn *conn, const weir_message *message)
{
    static const weir_slow_peer impatient = {.queued_bytes_max = 1};
    static uint8_t bytes[32 * KIB];
    if (message->data[0] == '!') {
        patient = weir_conn_id(conn);
        while (weir_send(conn, bytes, sizeof bytes) == 0)
            ;
        return WEIR_TAKEN;
    }
    weir_conn *other = weir_find(weir_conn_shard(conn), patient);
    ck_assert_ptr_nonnull(other);
    weir_set_slow_peer(other, &impatient);
    is_switched = true;
    while (weir_send(other, bytes, sizeof bytes) == 0)
        ;
    return WEIR_TAKEN;
}

START_TEST(policy_switched_for_one)
{
    struct live live;
    live_init(&live, 100 * KIB);
    live.protocol.on_message = switch_policy;
    live.options.socket.send_buffer_bytes = 16 * KIB;
    live_start(&live);
    int silent = live_dial_narrow(&live), other = live_dial(&live);
    live_write(silent, "\1\0\0\0!", 5);
    LIVE_AWAIT(live_stats(&live).refusals > 0);
    live_sleep(100 * WEIR_MILLISECOND);
    ck_assert_uint_eq(live.closes, 0);
    live_write(other, "\1\0\0\0?", 5);
    LIVE_AWAIT(live.reasons[WEIR_REASON_SLOW_BYTES] == 1);
    ck_assert(is_switched);
    ck_assert_uint_gt(live.undelivered_bytes, 100 * KIB);
    live_close(silent);
    live_close(other);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {eight_that_never_read, eight_ended_by_bytes, eight_ended_by_time, writer_that_reads_late,
                                  policy_switched_for_one};
    return live_main("slow_peers", tests, sizeof tests / sizeof *tests);
}
