/* SPDX-License-Identifier: MIT */
/* test_bad_memory: memory that is not there, that somebody only announced, or that is spent. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "live.h"

/* --- the allocator says no, at every point once --- */

/* How a server fares whose allocator said no: enough for a sentence when something is not as it should be. */
struct outcome {
    int64_t refusal;      /* which call was refused */
    int step;             /* what had been done: 0 nothing, 1 opened, 2 listening, 3 run */
    int result;           /* of the step that failed, or 0 */
    int served;           /* clients that got all their echoes */
    int cut;              /* clients whose connection ended before */
    bool is_served_later; /* a client that came when all was over was served */
};

static const uint32_t sizes[] = {0, 10, 1000, 5000, 70000, 200 * KIB};

/* Sends in pieces, so that the big ones are put together. */
static bool send_in_pieces(int client, const uint8_t *data, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        size_t piece = bytes - at < 30000 ? bytes - at : 30000;
        ssize_t written = live_send(client, data + at, piece, 0);
        if (written <= 0) {
            if (errno == EAGAIN)
                ck_abort_msg("a client can neither write nor is it ended");
            return false;
        }
        at += (size_t)written;
        if (bytes > 60000)
            live_sleep(WEIR_MILLISECOND / 5);
    }
    return true;
}

/* Reads what of an echo is there. False: the connection ended. One that waits for memory gets it after half a second: then
 * it must go on. */
static bool receive_echo(struct live *live, int client, uint8_t *back, size_t bytes, size_t *got)
{
    uint64_t begin_ns = live_now_ns();
    while (*got < bytes) {
        struct pollfd wait = {.fd = client, .events = POLLIN};
        if (poll(&wait, 1, 10) <= 0) {
            if (live_now_ns() - begin_ns > WEIR_SECOND / 2)
                live->account.fail_to = 0;
            if (live_now_ns() - begin_ns > LIVE_PATIENCE_NS)
                ck_abort_msg("a client hangs: %zu of %zu bytes of its echo came, refused call %lld", *got, bytes,
                             (long long)live->account.fail_from);
            continue;
        }
        ssize_t step = live_receive(client, back + *got, bytes - *got, 0);
        if (step <= 0)
            return false;
        *got += (size_t)step;
    }
    return true;
}

/* All sizes to and fro. False: the connection ended; anything else than right answers or an end fails the test. */
static bool try_echoes(struct live *live)
{
    uint8_t *frame = malloc(200 * KIB + 4), *back = malloc(200 * KIB + 4);
    int client = live_dial(live);
    bool good = true;
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes && good; i++) {
        size_t bytes = live_fill_frame(frame, sizes[i], i), got = 0;
        good = send_in_pieces(client, frame, bytes) && receive_echo(live, client, back, bytes, &got);
        ck_assert_int_eq(memcmp(frame, back, got), 0);
    }
    live_close(client);
    free(frame);
    free(back);
    return good;
}

static atomic_bool is_run_over;

static void *run(void *user)
{
    struct live *live = user;
    live->run_result = weir_run(live->runtime);
    is_run_over = true;
    return NULL;
}

static void serve(struct live *live, struct outcome *outcome)
{
    char address[WEIR_ADDRESS_MAX_BYTES];
    ck_assert_int_eq(weir_listener_address(live->runtime, live->listener, address, sizeof address), 0);
    live->port = atoi(strrchr(address, ':') + 1);
    is_run_over = false;
    ck_assert_int_eq(pthread_create(&live->thread, NULL, run, live), 0);
    LIVE_AWAIT(is_run_over || live_stats(live).turns > 0);
    for (int i = 0; i < 3 && !is_run_over; i++)
        *(try_echoes(live) ? &outcome->served : &outcome->cut) += 1;
    if (live->account.refused != 0 && live->account.calls >= live->account.fail_to && !is_run_over)
        outcome->is_served_later = try_echoes(live);
    weir_stop(live->runtime);
    pthread_join(live->thread, NULL);
    outcome->result = live->run_result;
    outcome->step = outcome->result == 0 ? 3 : 2;
    live->stats = live_stats(live);
    if (outcome->result == 0)
        live_check_sums(live);
}

/* Open, listen, serve three clients, stop, close, with these calls of the allocator refused. */
static struct outcome scenario(struct live *live, int64_t fail_from, int64_t fail_to)
{
    struct outcome outcome = {.refusal = fail_from};
    weir_error error = {0};
    live_init(live, 1 * MIB);
    live->config.connections = 16;
    live->config.stop_ns = 200 * WEIR_MILLISECOND;
    live->config.allocator = account_allocator(&live->account);
    live->account.fail_from = fail_from;
    live->account.fail_to = fail_to;
    live->protocol.user = live;
    live->protocol.on_open = live_opened;
    live->protocol.on_message = live_echo_message;
    live->protocol.on_close = live_closed;
    outcome.result = weir_open(&live->config, &live->runtime, &error);
    if (outcome.result == 0) {
        outcome.step = 1;
        outcome.result = weir_listen(live->runtime, "tcp://127.0.0.1:0", &live->protocol, NULL, &live->listener, &error);
    } else {
        ck_assert_ptr_null(live->runtime);
    }
    ck_assert_int_eq(error.code, outcome.result);
    ck_assert_int_eq(error.sentence[0] == '\0', outcome.result == 0);
    if (outcome.step == 1 && outcome.result == 0) {
        outcome.step = 2;
        serve(live, &outcome);
    }
    weir_close(&live->runtime);
    if (live->account.pieces != 0 || live->account.bytes != 0)
        ck_abort_msg("call %lld refused: %lld pieces of %lld bytes were not released", (long long)fail_from,
                     (long long)live->account.pieces, (long long)live->account.bytes);
    return outcome;
}

START_TEST(each_allocation_refused_once)
{
    static struct live live;
    int64_t call = 0;
    int opens_failed = 0;
    do {
        call++;
        struct outcome outcome = scenario(&live, call, call);
        if (live.account.refused == 0) {
            ck_assert_int_eq(outcome.served, 3);
            ck_assert_int_eq(outcome.result, 0);
            break;
        }
        opens_failed += outcome.step < 3;
        if (outcome.result != 0 && outcome.result != -ENOMEM)
            ck_abort_msg("call %lld refused: step %d answered %d", (long long)call, outcome.step, outcome.result);
        /* one refusal costs one connection at most, and the server goes on */
        if (outcome.cut > 1)
            ck_abort_msg("call %lld refused: %d clients were cut", (long long)call, outcome.cut);
        if (outcome.step == 3 && outcome.result == 0)
            ck_assert(outcome.is_served_later);
        if (outcome.cut != 0 && outcome.result == 0)
            ck_assert_uint_eq(live.stats.closed[WEIR_REASON_NO_MEMORY] + live.stats.closed[WEIR_REASON_MEMORY] + live.stats.turned_away, 1);
    } while (call < 10000);
    ck_assert_int_gt(call, 5);
    ck_assert_int_gt(opens_failed, 0);
    ck_assert_uint_gt(live.stats.allocations, 5);
    ck_assert_uint_le(live.stats.allocations, (uint64_t)live.account.calls); /* those of opening belong to no shard */
}
END_TEST

/* From some point on there is none at all, until somebody has waited for it for half a second. */
START_TEST(all_allocations_refused_from_some_point)
{
    static struct live live;
    for (int64_t call = 1; call < 10000; call++) {
        struct outcome outcome = scenario(&live, call, INT64_MAX);
        if (live.account.refused == 0)
            break;
        if (outcome.result != 0)
            ck_assert_int_eq(outcome.result, -ENOMEM);
        else
            ck_assert_int_eq(outcome.served + outcome.cut, 3);
    }
    ck_assert_int_eq(live.account.refused, 0);
}
END_TEST

/* --- announced is not sent --- */

START_TEST(announced_gigabytes)
{
    enum { COUNT = 1000 };
    struct live live;
    struct live_pulse pulse;
    static int clients[COUNT];
    uint8_t begun[100] = {0, 0, 0, 0x3f}; /* 1008 MiB */
    live_init(&live, WEIR_MESSAGE_MAX_BYTES);
    live_start(&live);
    live_pulse_start(&pulse, &live);
    for (int i = 0; i < COUNT; i++)
        clients[i] = live_dial(&live);
    LIVE_AWAIT(live.opens == COUNT + 1);
    int64_t before_bytes = live.account.bytes, resident_bytes = live_resident_bytes();
    uint64_t came_bytes = live_stats(&live).bytes_in;
    for (int i = 0; i < COUNT; i++)
        live_write(clients[i], begun, sizeof begun);
    LIVE_AWAIT(live_stats(&live).bytes_in >= came_bytes + COUNT * sizeof begun);
    ck_assert_int_le(live.account.peak_bytes - before_bytes, COUNT * 8 * KIB);
    if (!LIVE_SANITIZED)
        ck_assert_int_le(live_resident_bytes() - resident_bytes, COUNT * 8 * KIB + 4 * MIB);
    live_pulse_stop(&pulse, LIVE_SLOWER * 100 * WEIR_MILLISECOND);
    LIVE_AWAIT(live.closes == 1);
    for (int i = 0; i < COUNT; i++)
        live_reset(clients[i]);
    LIVE_AWAIT(live.reasons[WEIR_REASON_RESET] == COUNT);
    live_stop(&live);
}
END_TEST

/* --- never above the bound --- */

/* Keeps writing one big frame after the other on all of them, never reads. */
static void flood(int *clients, size_t *at, int count, const uint8_t *frame, size_t frame_bytes, uint64_t duration_ns)
{
    for (uint64_t end_ns = live_now_ns() + duration_ns; live_now_ns() < end_ns;) {
        bool moved = false;
        for (int i = 0; i < count; i++) {
            if (clients[i] < 0)
                continue;
            ssize_t written = live_send(clients[i], frame + at[i], frame_bytes - at[i], MSG_DONTWAIT);
            if (written > 0)
                at[i] = (at[i] + (size_t)written) % frame_bytes;
            if (written < 0 && errno != EAGAIN) {
                live_close(clients[i]);
                clients[i] = -1;
            }
            moved = moved || written > 0;
        }
        if (!moved)
            live_sleep(5 * WEIR_MILLISECOND);
    }
}

START_TEST(never_above_the_bound)
{
    enum { COUNT = 300 };
    struct live live;
    static int clients[COUNT];
    static size_t at[COUNT];
    static const uint32_t payloads[] = {900 * KIB, 100 * KIB, 5 * KIB};
    int64_t resident_bytes = live_resident_bytes();
    live_init(&live, 1 * MIB);
    live.config.memory_bytes = 8 * MIB;
    live.config.connections = 512;
    live.config.ports = 1;
    live.config.port_bytes = 1 * MIB;
    live_start(&live);
    uint64_t bound = weir_memory_bound(live.runtime);
    ck_assert_uint_gt(bound, 8 * MIB);
    ck_assert_uint_lt(bound, 32 * MIB);
    uint8_t *frame = malloc(1 * MIB);
    for (size_t round = 0; round < sizeof payloads / sizeof *payloads; round++) {
        size_t frame_bytes = live_fill_frame(frame, payloads[round], 1);
        memset(at, 0, sizeof at);
        for (int i = 0; i < COUNT; i++)
            clients[i] = i % 2 ? live_dial_narrow(&live) : live_dial(&live);
        flood(clients, at, COUNT, frame, frame_bytes, 1500 * WEIR_MILLISECOND);
        for (int i = 0; i < COUNT; i++)
            if (clients[i] >= 0)
                live_reset(clients[i]);
        LIVE_AWAIT(live_stats(&live).connections == 0);
        weir_stats stats = live_stats(&live);
        ck_assert_uint_le(stats.memory_peak_bytes, 8 * MIB);
        ck_assert_int_le(live.account.peak_bytes, (int64_t)bound);
        if (!LIVE_SANITIZED)
            ck_assert_int_le(live_resident_bytes() - resident_bytes, (int64_t)(bound + bound / 4) + 4 * MIB); /* malloc rounds, too */
    }
    free(frame);
    int client = live_dial(&live); /* and is as good as new */
    live_echo(client, 300 * KIB, 1);
    live_close(client);
    live_stop(&live);
    ck_assert_uint_gt(live.stats.memory_peak_bytes, 4 * MIB);
}
END_TEST

/* One connection alone, and room for twice its largest message: it must get through, whatever pieces it grows by. */
START_TEST(largest_message_in_the_least_memory)
{
    struct live live;
    live_init(&live, 1 * MIB);
    live.config.memory_bytes = 8 * MIB;
    live.config.assembly_bytes = 2 * MIB + 64 * KIB;
    live_start(&live);
    int client = live_dial(&live);
    for (uint32_t i = 0; i < 10; i++)
        live_echo(client, 1 * MIB - i, i);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
}
END_TEST

/* --- the budget is spent --- */

/* Four bytes: queue so many KiB for me. */
static int queue_kib(weir_conn *conn, const weir_message *message)
{
    static uint8_t kib[KIB];
    uint32_t count = 0;
    if (message->bytes != 4)
        return live_echo_message(conn, message);
    memcpy(&count, message->data, 4);
    while (count-- > 0 && weir_send(conn, kib, sizeof kib) == 0)
        ;
    return WEIR_TAKEN;
}

static int dial_and_queue(const struct live *live, uint32_t count)
{
    int client = live_dial_narrow(live);
    uint8_t command[8] = {4, 0, 0, 0, (uint8_t)count, (uint8_t)(count >> 8)};
    uint64_t sent = live_stats(live).messages_sent;
    live_write(client, command, sizeof command);
    LIVE_AWAIT(live_stats(live).messages_sent == sent + count || live_stats(live).refusals > 0);
    return client;
}

START_TEST(budget_spent)
{
    struct live live;
    live_init(&live, 1 * MIB);
    live.protocol.on_message = queue_kib;
    live.protocol.limits.high_water_bytes = 4 * MIB;
    live.config.memory_bytes = 1 * MIB;
    live.options.socket.send_buffer_bytes = 8 * KIB;
    live_start(&live);
    int good = live_dial(&live);
    live_echo(good, 10, 1);
    int less = dial_and_queue(&live, 250);
    int most = dial_and_queue(&live, 500);
    ck_assert_uint_eq(live.closes, 0);
    int last = dial_and_queue(&live, 400); /* 1150 KiB in all */
    LIVE_AWAIT(live.reasons[WEIR_REASON_MEMORY] == 1);
    ck_assert_uint_eq(live.closes, 1);
    ck_assert_uint_gt(live.last_undelivered_messages, 300);
    ck_assert_uint_le(live.last_undelivered_messages, 500);
    live_echo(good, 1000, 2);
    uint8_t kib[4 + KIB];
    for (int i = 0; i < 250; i++) /* who had less has lost nothing */
        live_read(less, kib, sizeof kib);
    live_close(less);
    live_close(most);
    live_close(last);
    live_close(good);
    LIVE_AWAIT(live.closes == 4);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.closed[WEIR_REASON_MEMORY], 1);
    ck_assert_uint_le(live.stats.memory_peak_bytes, 1 * MIB);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {each_allocation_refused_once, all_allocations_refused_from_some_point, announced_gigabytes,
                                  never_above_the_bound,        largest_message_in_the_least_memory,     budget_spent};
    return live_main("bad_memory", tests, sizeof tests / sizeof *tests);
}
