/* SPDX-License-Identifier: MIT */
/* channel ends: a connection that ends in mid-stream, by each way, and what its channels are told: committed = delivered +
 * undelivered; and what the visitor of a unix socket can read is what was delivered. */
#include "hall.h"

#include <errno.h>

enum { BYTES = 500 };

struct scene {
    struct hall hall;
    weir_port *port;
    weir_channel *channel;
    struct seat *seat;
    struct tally tally;
    uint64_t sent, got;
    int mark;
};

static void scene_open(struct scene *scene, void (*adjust)(struct hall *hall))
{
    memset(scene, 0, sizeof *scene);
    hall_init(&scene->hall, 2);
    scene->hall.send_buffer_bytes = 16 * KIB;
    scene->hall.own_channels = true;
    if (adjust != NULL)
        adjust(&scene->hall);
    hall_open_here(&scene->hall, 2);
    scene->port = hall_port(&scene->hall);
    scene->seat = &scene->hall.seats[1];
    weir_channel_options options = {.bytes = 64 * KIB, .user = &scene->mark};
    MUST_EQUAL(weir_channel_open(scene->port, scene->seat->id, &options, &scene->channel), 0);
}

static void scene_close(struct scene *scene)
{
    weir_channel_close(&scene->channel);
    weir_port_close(&scene->port);
    hall_close(&scene->hall);
}

static int scene_send(struct scene *scene)
{
    uint8_t data[BYTES];
    fixture_fill(data, BYTES, scene->sent);
    int result = weir_channel_send(scene->channel, data, BYTES);
    scene->sent += result == 0;
    return result;
}

/* Nobody reads: until the channel is full and the kernel takes no more. */
static void scene_fill(struct scene *scene)
{
    for (int round = 0; round < 3; round++) {
        while (scene_send(scene) == 0)
            MUST(scene->sent < 20000);
        hall_pass(&scene->hall, MILLISECONDS(20));
    }
}

static void scene_read(struct scene *scene, uint64_t count)
{
    for (; count > 0; count--)
        hall_expect(&scene->hall, scene->seat, BYTES, scene->got++);
}

/* Waits until the port hears the end. */
static void scene_expect_ended(struct scene *scene, weir_reason reason)
{
    HALL_UNTIL(&scene->hall, (tally_collect(&scene->tally, scene->port), scene->tally.events[WEIR_PORT_CHANNEL_ENDED] > 0));
    const weir_port_event *event = &scene->tally.of[WEIR_PORT_CHANNEL_ENDED];
    MUST_EQUAL(scene->tally.events[WEIR_PORT_CHANNEL_ENDED], 1);
    MUST(event->channel == scene->channel && event->user == &scene->mark);
    MUST(event->id.value == scene->seat->id.value);
    if (event->reason != reason)
        ck_abort_msg("the channel ended with %s, not %s", weir_reason_name(event->reason), weir_reason_name(reason));
    weir_channel_stats stats;
    weir_channel_stats_get(scene->channel, &stats);
    MUST_EQUAL(stats.messages_sent, scene->sent);
    MUST_EQUAL(stats.messages_sent, stats.messages_delivered + event->messages);
    MUST_EQUAL(stats.bytes_sent, stats.bytes_delivered + event->bytes);
    MUST_EQUAL(event->bytes / (BYTES + 4), event->bytes % (BYTES + 4) == 0 ? event->messages : event->messages - 1);
    MUST_EQUAL(scene_send(scene), -EPIPE);
    MUST_EQUAL(weir_channel_put(scene->channel, "x", 1), -EPIPE);
    MUST_EQUAL(weir_channel_reserve(scene->channel, 1, &(weir_room){0}), -EPIPE);
    HALL_UNTIL(&scene->hall, atomic_load(&scene->seat->closed) == 1);
    MUST(scene->seat->event.reason == reason || reason == WEIR_REASON_NONE);
    hall_pass(&scene->hall, MILLISECONDS(10));
    if (tally_collect(&scene->tally, scene->port) != 0 && scene->tally.last.kind != WEIR_PORT_ROOM) /* the shard has stopped */
        ck_abort_msg("an event of kind %d after the end", scene->tally.last.kind);
}

/* All that the kernel took can be read: whole messages, and perhaps a part of one, which counts as undelivered. */
static void scene_expect_rest(struct scene *scene)
{
    uint64_t bytes = hall_take_all(scene->seat);
    uint64_t delivered = scene->sent - scene->tally.ended_messages;
    MUST_EQUAL(scene->got + bytes / (BYTES + 4), delivered);
}

START_TEST(aborted)
{
    struct scene scene;
    scene_open(&scene, NULL);
    scene_fill(&scene);
    scene_read(&scene, 10);
    weir_abort(scene.seat->conn);
    scene_expect_ended(&scene, WEIR_REASON_ABORTED);
    MUST(scene.tally.ended_messages > 0);
    scene_expect_rest(&scene);
    scene_close(&scene);
}
END_TEST

START_TEST(aborted_with_what_nobody_has_heard_of)
{
    struct scene scene;
    scene_open(&scene, NULL);
    while (scene_send(&scene) == 0) /* no turn: the shard knows nothing yet, not even the channel */
        continue;
    weir_abort(scene.seat->conn);
    scene_expect_ended(&scene, WEIR_REASON_NONE);
    MUST_EQUAL(scene.tally.ended_messages, scene.sent);
    MUST_EQUAL(hall_take_all(scene.seat), 0);
    scene_close(&scene);
}
END_TEST

START_TEST(empty_when_it_ends)
{
    struct scene scene;
    scene_open(&scene, NULL);
    for (int i = 0; i < 5; i++)
        MUST_EQUAL(scene_send(&scene), 0);
    scene_read(&scene, 5);
    hall_leave(scene.seat);
    scene_expect_ended(&scene, WEIR_REASON_PEER);
    MUST_EQUAL(scene.tally.ended_messages, 0);
    MUST_EQUAL(scene.tally.ended_bytes, 0);
    scene_close(&scene);
}
END_TEST

START_TEST(the_peer_goes_away)
{
    struct scene scene;
    scene_open(&scene, NULL);
    scene_fill(&scene);
    scene_read(&scene, 7);
    uint64_t sent = scene.sent;
    hall_leave(scene.seat); /* with unread bytes: to a unix socket's other end that is a reset */
    HALL_UNTIL(&scene.hall, atomic_load(&scene.seat->closed) == 1);
    scene_expect_ended(&scene, scene.seat->event.reason);
    MUST(scene.seat->event.reason == WEIR_REASON_RESET || scene.seat->event.reason == WEIR_REASON_PEER);
    MUST(scene.tally.ended_messages > 0 && scene.tally.ended_messages < sent);
    scene_close(&scene);
}
END_TEST

static void by_tcp(struct hall *hall)
{
    hall->tcp = true;
}

START_TEST(the_peer_resets)
{
    struct scene scene;
    scene_open(&scene, by_tcp);
    scene_fill(&scene);
    scene_read(&scene, 7);
    visitor_reset(scene.seat->visitor);
    scene.seat->visitor = -1;
    scene_expect_ended(&scene, WEIR_REASON_RESET);
    MUST(scene.tally.ended_messages > 0);
    scene_close(&scene);
}
END_TEST

/* The peer says that it sends no more, and reads on: it gets all that was committed before, and the end. */
START_TEST(the_peer_finishes)
{
    struct scene scene;
    scene_open(&scene, NULL);
    scene_fill(&scene);
    shutdown(scene.seat->visitor, SHUT_WR);
    hall_pass(&scene.hall, MILLISECONDS(10));
    scene_read(&scene, scene.sent);
    visitor_expect_end(scene.hall.turner, scene.seat->visitor);
    scene_expect_ended(&scene, WEIR_REASON_PEER);
    MUST_EQUAL(scene.tally.ended_messages, 0);
    scene_close(&scene);
}
END_TEST

/* weir_end: what was committed is sent, then comes the end. By the connection's shard, and through a port. */
static void ended_gracefully(bool by_port)
{
    struct scene scene;
    scene_open(&scene, NULL);
    scene_fill(&scene);
    if (by_port)
        MUST_EQUAL(weir_port_end(scene.port, scene.seat->id), 0);
    else
        weir_end(scene.seat->conn);
    hall_pass(&scene.hall, MILLISECONDS(20));
    MUST_EQUAL(scene_send(&scene), -EPIPE); /* no more, while it is ending */
    MUST_EQUAL(atomic_load(&scene.seat->closed), 0);
    scene_read(&scene, scene.sent);
    visitor_expect_end(scene.hall.turner, scene.seat->visitor);
    hall_leave(scene.seat);
    scene_expect_ended(&scene, WEIR_REASON_LOCAL);
    MUST_EQUAL(scene.tally.ended_messages, 0);
    MUST_EQUAL(scene.seat->event.undelivered_messages, 0);
    scene_close(&scene);
}

START_TEST(ended_gracefully_at_home)
{
    ended_gracefully(false);
}
END_TEST

START_TEST(ended_gracefully_from_afar)
{
    ended_gracefully(true);
}
END_TEST

static void hasty(struct hall *hall)
{
    hall->protocol.limits.drain_ns = MILLISECONDS(100);
}

START_TEST(the_graceful_end_takes_too_long)
{
    struct scene scene;
    scene_open(&scene, hasty);
    scene_fill(&scene);
    scene_read(&scene, 3);
    weir_end(scene.seat->conn);
    scene_expect_ended(&scene, WEIR_REASON_DRAIN_LATE);
    MUST(scene.tally.ended_messages > 0);
    scene_expect_rest(&scene);
    scene_close(&scene);
}
END_TEST

static void impatient(struct hall *hall)
{
    hall->protocol.limits.slow_peer.stalled_ns_max = MILLISECONDS(100);
}

/* A slow peer is slow also when only channels have something for it. */
START_TEST(the_peer_is_too_slow)
{
    struct scene scene;
    scene_open(&scene, impatient);
    scene_fill(&scene);
    scene_expect_ended(&scene, WEIR_REASON_SLOW_TIME);
    MUST(scene.tally.ended_messages > 0);
    scene_expect_rest(&scene);
    scene_close(&scene);
}
END_TEST

/* Several channels and the local one: each hears its own part, together they make up what the visitor did not get. */
START_TEST(several_channels_and_one_end)
{
    enum { CHANNELS = 5 };
    struct scene scene;
    weir_channel *channels[CHANNELS];
    static uint8_t data[BYTES];
    uint64_t local = 0, undelivered = 0, delivered = 0;
    scene_open(&scene, NULL);
    for (uint32_t i = 0; i < CHANNELS; i++)
        MUST_EQUAL(weir_channel_open(scene.port, scene.seat->id, &(weir_channel_options){.bytes = 16 * KIB}, &channels[i]), 0);
    for (int round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < CHANNELS; i++) {
            while (weir_channel_send(channels[i], data, BYTES) == 0)
                continue;
        }
        while (weir_send(scene.seat->conn, data, BYTES) == 0)
            local++;
        hall_pass(&scene.hall, MILLISECONDS(10));
    }
    weir_abort(scene.seat->conn);
    HALL_UNTIL(&scene.hall, (tally_collect(&scene.tally, scene.port), scene.tally.events[WEIR_PORT_CHANNEL_ENDED] == CHANNELS + 1));
    HALL_UNTIL(&scene.hall, atomic_load(&scene.seat->closed) == 1);
    undelivered = scene.tally.ended_messages;
    uint64_t sent = local;
    for (uint32_t i = 0; i < CHANNELS; i++) {
        weir_channel_stats stats;
        weir_channel_stats_get(channels[i], &stats);
        sent += stats.messages_sent;
        delivered += stats.messages_delivered;
    }
    MUST_EQUAL(sent - local, delivered + undelivered);
    uint64_t read = hall_take_all(scene.seat) / (BYTES + 4);
    MUST(read >= delivered && read <= delivered + local);
    for (uint32_t i = 0; i < CHANNELS; i++)
        weir_channel_close(&channels[i]);
    scene_close(&scene);
}
END_TEST

/* A message sent through the port, then the end, while channels of others are full: all three ways close their sums. */
START_TEST(closed_before_its_connection_ends)
{
    struct scene scene;
    scene_open(&scene, NULL);
    scene_fill(&scene);
    uint64_t sent = scene.sent;
    weir_channel_close(&scene.channel); /* nothing is told any more */
    scene_read(&scene, 5);
    weir_abort(scene.seat->conn);
    HALL_UNTIL(&scene.hall, atomic_load(&scene.seat->closed) == 1);
    hall_pass(&scene.hall, MILLISECONDS(20));
    tally_collect(&scene.tally, scene.port);
    MUST_EQUAL(scene.tally.events[WEIR_PORT_CHANNEL_ENDED], 0);
    uint64_t read = scene.got + hall_take_all(scene.seat) / (BYTES + 4);
    MUST(read < sent);
    scene_close(&scene);
}
END_TEST

/* The runtime stops: what was committed before is drained like at any graceful end. */
START_TEST(the_runtime_stops)
{
    struct scene scene;
    scene_open(&scene, NULL);
    scene_fill(&scene);
    weir_stop(scene.hall.runtime);
    hall_pass(&scene.hall, MILLISECONDS(20));
    scene_read(&scene, scene.sent);
    visitor_expect_end(scene.hall.turner, scene.seat->visitor);
    hall_leave(scene.seat);
    hall_leave(&scene.hall.seats[0]);
    scene_expect_ended(&scene, WEIR_REASON_STOPPED);
    MUST_EQUAL(scene.tally.ended_messages, 0);
    HALL_UNTIL(&scene.hall, scene.hall.fixture.over_count == 2);
    scene_close(&scene);
}
END_TEST

FIXTURE_MAIN("channel ends", aborted, aborted_with_what_nobody_has_heard_of, empty_when_it_ends, the_peer_goes_away, the_peer_resets,
             the_peer_finishes, ended_gracefully_at_home, ended_gracefully_from_afar, the_graceful_end_takes_too_long, the_peer_is_too_slow,
             several_channels_and_one_end, closed_before_its_connection_ends, the_runtime_stops)
