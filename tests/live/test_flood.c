/* SPDX-License-Identifier: MIT */
/* flood: two shards fill each other's connections at full speed, both ways, for a while: nobody's stream ever stops, no connection
 * ends for it, and all sums close. */
#include "chorus.h"

#include <errno.h>
#include <stdio.h>

/* Seconds to flood. */
static uint64_t seconds(uint64_t usually)
{
    return getenv("WEIR_LONG") != NULL ? 120 : LIVE_SANITIZED ? 3 : usually;
}

/* Watches the ears: none may hear nothing for longer than a second, beyond what the machine did to this thread meanwhile. */
static void watch(struct audience *audience, struct hall *hall, uint64_t for_seconds)
{
    uint32_t ears = audience->ear_count;
    uint64_t *messages = calloc(ears, sizeof *messages), *since_ns = calloc(ears, sizeof *since_ns);
    uint64_t end_ns = fixture_clock_ns() + for_seconds * WEIR_SECOND, worst_ns = 0, late_ns = 0;
    MUST(messages != NULL && since_ns != NULL);
    for (uint64_t now_ns = fixture_clock_ns(), before_ns = now_ns; now_ns < end_ns; before_ns = now_ns, now_ns = fixture_clock_ns()) {
        uint64_t slept_ns = now_ns - before_ns;
        late_ns = slept_ns > MILLISECONDS(60) ? late_ns + slept_ns : late_ns;
        for (uint32_t i = 0; i < ears; i++) {
            uint64_t heard = atomic_load(&audience->ears[i].messages);
            if (heard != messages[i] || since_ns[i] == 0)
                since_ns[i] = now_ns;
            messages[i] = heard;
            uint64_t quiet_ns = now_ns - since_ns[i];
            worst_ns = quiet_ns > worst_ns ? quiet_ns : worst_ns;
            if (quiet_ns > LIVE_SLOWER * WEIR_SECOND + late_ns)
                ck_abort_msg("ear %u has heard nothing for %u ms, after %llu messages", i, (unsigned)(quiet_ns / WEIR_MILLISECOND),
                             (unsigned long long)heard);
        }
        MUST_EQUAL(atomic_load(&hall->closes), 0);
        fixture_sleep_ns(MILLISECONDS(20));
    }
    printf("flood: %.0f messages/s, the longest silence %.1f ms\n", (double)atomic_load(&audience->messages) / (double)for_seconds,
           (double)worst_ns / 1e6);
    free(messages);
    free(since_ns);
}

static uint64_t flood_seconds;

static void flood_for_a_while(struct chorus *chorus)
{
    watch(&chorus->audience, &chorus->hall, flood_seconds);
    atomic_store(&chorus->enough, true);
}

static void flood(uint64_t for_seconds, bool tight, bool slow)
{
    enum { SEATS = 8 };
    static struct chorus chorus;
    flood_seconds = for_seconds;
    chorus_init(&chorus, 2);
    chorus.hall.tcp = true;
    chorus.hall.config.ring_bytes = tight ? 16 * KIB : 0;
    chorus.hall.protocol.limits.high_water_bytes = tight ? 32 * KIB : 0;
    chorus.hall.send_buffer_bytes = tight ? 32 * KIB : 0;
    chorus.seats = SEATS;
    chorus.shards = 2;
    chorus.abroad = true;
    chorus.burst = 200;
    chorus.count = UINT32_MAX;
    chorus.stir = flood_for_a_while;
    chorus_open(&chorus);
    for (uint32_t i = 0; slow && i < 2; i++)
        chorus.audience.ears[i].slow_bytes = 2000;
    chorus_run(&chorus);
    weir_stats stats = hall_stats(&chorus.hall);
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        MUST(i == WEIR_REASON_STOPPED || stats.closed[i] == 0);
    MUST_EQUAL(stats.messages_undelivered, 0);
    chorus_close(&chorus);
}

START_TEST(shards_flood_each_other)
{
    flood(seconds(3), false, false);
}
END_TEST

START_TEST(shards_flood_each_other_through_small_rings)
{
    flood(seconds(3), true, false);
}
END_TEST

START_TEST(a_flood_with_slow_receivers)
{
    flood(seconds(3), true, true);
}
END_TEST

/* --- handlers that pass on what comes, each to a connection of the other shard, and the peers send as fast as they can --- */

enum { BRIDGES = 4, BRIDGE_SEATS = 2 * BRIDGES };

struct bridge {
    struct hall hall;
    bool waiting[BRIDGE_SEATS];
    atomic_bool enough;
    uint64_t sent[BRIDGE_SEATS];
};

static int pass_on(struct seat *seat, weir_conn *conn, const weir_message *message)
{
    struct bridge *bridge = seat->hall->user;
    int result = weir_send_to(weir_conn_shard(conn), seat->hall->seats[seat->number ^ 1].id, message->data, message->bytes);
    bridge->waiting[seat->number] = result == -EAGAIN;
    return result == -EAGAIN ? WEIR_LATER : result;
}

static void pass_on_again(weir_shard *shard, const weir_port_event *event)
{
    struct hall *hall = hall_of(shard);
    struct bridge *bridge = hall->user;
    MUST(event->kind == WEIR_PORT_READY || event->kind == WEIR_PORT_ROOM);
    for (uint32_t i = 0; i < hall->seat_count; i++) {
        struct seat *seat = &hall->seats[i];
        if (seat->shard != weir_shard_index(shard) || !bridge->waiting[i])
            continue;
        bridge->waiting[i] = false;
        weir_resume(seat->conn);
    }
}

struct source {
    pthread_t thread;
    struct bridge *bridge;
    uint32_t number;
};

static void *pour(void *user)
{
    struct source *source = user;
    static _Thread_local uint8_t batch[64 * KIB];
    struct bridge *bridge = source->bridge;
    uint32_t sequence = 0;
    while (!atomic_load(&bridge->enough)) {
        uint32_t done = 0;
        for (uint32_t bytes; done + 4 + 2000 <= sizeof batch; done += 4 + bytes) {
            bytes = AUDIENCE_MESSAGE_MIN_BYTES + sequence * 7919 % (sequence % 50 == 0 ? 1900 : 200);
            memcpy(batch + done, &bytes, 4);
            audience_fill(batch + done + 4, bytes, source->number, sequence++);
        }
        visitor_send(NULL, bridge->hall.seats[source->number].visitor, batch, done);
    }
    bridge->sent[source->number] = sequence;
    return NULL;
}

START_TEST(peers_flood_through_handlers)
{
    static struct bridge bridge;
    struct hall *hall = &bridge.hall;
    struct audience audience;
    struct source sources[BRIDGE_SEATS];
    hall_init(hall, 2);
    hall->tcp = true;
    hall->config.on_port_event = pass_on_again;
    hall->on_message = pass_on;
    hall->user = &bridge;
    hall_open_apart(hall, BRIDGE_SEATS);
    audience_open(&audience, BRIDGE_SEATS, BRIDGE_SEATS);
    for (uint32_t i = 0; i < BRIDGE_SEATS; i++) {
        audience.ears[i].descriptor = dup(hall->seats[i].visitor);
        sources[i] = (struct source){.bridge = &bridge, .number = i};
        MUST_EQUAL(pthread_create(&sources[i].thread, NULL, pour, &sources[i]), 0);
    }
    audience_start(&audience);
    watch(&audience, hall, seconds(4));
    atomic_store(&bridge.enough, true);
    uint64_t sent = 0;
    for (uint32_t i = 0; i < BRIDGE_SEATS; i++) {
        MUST_EQUAL(pthread_join(sources[i].thread, NULL), 0);
        sent += bridge.sent[i];
    }
    UNTIL(NULL, atomic_load(&audience.messages) == sent); /* all of it has come */
    MUST_EQUAL(atomic_load(&hall->closes), 0);
    weir_stop(hall->runtime);
    audience_finish(&audience);
    for (uint32_t i = 0; i < BRIDGE_SEATS; i++)
        MUST_EQUAL(audience.ears[i ^ 1].next[i], bridge.sent[i]);
    audience_close(&audience);
    hall_close(hall);
    MUST_EQUAL(hall->stats.messages_undelivered, 0);
}
END_TEST

FIXTURE_MAIN("flood", shards_flood_each_other, shards_flood_each_other_through_small_rings, a_flood_with_slow_receivers,
             peers_flood_through_handlers)
