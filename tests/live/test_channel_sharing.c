/* SPDX-License-Identifier: MIT */
/* channel sharing: many producers on one connection, each message whole, each producer in order, nothing lost, nobody starved; and
 * beside them the connection's own sends and its control lane. */
#include "audience.h"
#include "hall.h"

#include <errno.h>

/* --- sixteen producers --- */

enum { PRODUCERS = 16 };

struct producer {
    pthread_t thread;
    struct hall *hall;
    uint32_t number, count, bytes_most;
    bool batches, builds;
    weir_channel_stats stats;
};

static int produce(struct producer *producer, weir_channel *channel, uint32_t sequence)
{
    static _Thread_local uint8_t data[64 * KIB];
    uint32_t bytes =
        AUDIENCE_MESSAGE_MIN_BYTES + (sequence * 7919 + producer->number) % (producer->bytes_most - AUDIENCE_MESSAGE_MIN_BYTES);
    if (producer->builds) {
        weir_room room;
        int result = weir_channel_reserve(channel, bytes, &room);
        if (result != 0)
            return result;
        audience_fill(room.data, bytes, producer->number, sequence);
        return weir_channel_commit(channel, bytes);
    }
    audience_fill(data, bytes, producer->number, sequence);
    return producer->batches ? weir_channel_put(channel, data, bytes) : weir_channel_send(channel, data, bytes);
}

static void *produce_all(void *user)
{
    struct producer *producer = user;
    weir_port *port = hall_port(producer->hall);
    weir_channel *channel = NULL;
    const struct seat *seat = &producer->hall->seats[0];
    MUST_EQUAL(
        weir_channel_open(port, seat->id, &(weir_channel_options){.bytes = producer->number % 2 == 0 ? 64 * KIB : 8 * KIB}, &channel), 0);
    for (uint32_t sequence = 0; sequence < producer->count;) {
        int result = produce(producer, channel, sequence);
        if (result == -EAGAIN)
            MUST_EQUAL(weir_channel_wait(channel, FIXTURE_WAIT_NS), 0);
        else
            MUST_EQUAL(result, 0);
        sequence += result == 0;
        if (producer->batches && sequence % 50 == 0)
            weir_channel_publish(channel);
        if (sequence % 5000 == 0)
            fixture_sleep_ns(producer->number * 100 * WEIR_MICROSECOND); /* idle now and then: the look starts anew */
    }
    weir_channel_publish(channel);
    UNTIL(NULL, (weir_channel_stats_get(channel, &producer->stats), producer->stats.queued_bytes == 0));
    weir_channel_close(&channel);
    weir_port_close(&port);
    return NULL;
}

static void many_producers(bool tcp, uint32_t send_bytes, uint32_t slow_bytes, uint32_t count)
{
    struct hall hall;
    struct audience audience;
    static struct producer producers[PRODUCERS];
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall.tcp = tcp;
    hall.config.send_bytes = send_bytes;
    hall_open_apart(&hall, 1);
    audience_open(&audience, 1, PRODUCERS);
    audience.ears[0].descriptor = hall.seats[0].visitor;
    audience.ears[0].slow_bytes = slow_bytes;
    hall.seats[0].visitor = -1;
    audience_start(&audience);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.hall = &hall, .number = i, .count = count, .bytes_most = i % 4 == 3 ? 4000 : 100};
        producers[i].batches = i % 3 == 1;
        producers[i].builds = i % 3 == 2;
        MUST_EQUAL(pthread_create(&producers[i].thread, NULL, produce_all, &producers[i]), 0);
    }
    for (uint32_t i = 0; i < PRODUCERS; i++)
        MUST_EQUAL(pthread_join(producers[i].thread, NULL), 0);
    UNTIL(NULL, atomic_load(&audience.messages) == (uint64_t)PRODUCERS * count);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        MUST_EQUAL(producers[i].stats.messages_sent, count);
        MUST_EQUAL(producers[i].stats.messages_delivered, count);
        MUST_EQUAL(producers[i].stats.bytes_sent, producers[i].stats.bytes_delivered);
    }
    weir_stop(hall.runtime);
    audience_finish(&audience);
    for (uint32_t i = 0; i < PRODUCERS; i++)
        MUST_EQUAL(audience_heard(&audience, i), count);
    audience_close(&audience);
    hall_close(&hall);
}

START_TEST(sixteen_producers)
{
    many_producers(false, 0, 0, 30000 / LIVE_SLOWER);
}
END_TEST

START_TEST(sixteen_producers_over_tcp)
{
    many_producers(true, 0, 0, 30000 / LIVE_SLOWER);
}
END_TEST

/* Sends that carry little: runs are cut into many. */
START_TEST(sixteen_producers_in_short_sends)
{
    many_producers(true, 4 * KIB, 0, 10000 / LIVE_SLOWER);
}
END_TEST

START_TEST(sixteen_producers_and_a_slow_reader)
{
    many_producers(false, 0, 20000, 2000 / LIVE_SLOWER);
}
END_TEST

/* --- fairness: the order in which the visitor gets things, while all but one producer have more than can go out --- */

struct fair {
    struct hall hall;
    weir_port *port;
    uint32_t count;
    weir_channel *channels[17];
    uint32_t sent[17];
};

static void fair_refill(struct fair *fair, uint32_t from)
{
    static uint8_t data[1000];
    for (uint32_t i = from; i < fair->count; i++) {
        for (;;) {
            audience_fill(data, sizeof data, i, fair->sent[i]);
            if (weir_channel_send(fair->channels[i], data, sizeof data) != 0)
                break;
            fair->sent[i]++;
        }
    }
}

/* Reads as fast as it comes, keeping the others full, until a message of `producer` has come; answers how many bytes came before it. */
static uint64_t fair_read_until(struct fair *fair, uint32_t producer, uint64_t limit_bytes)
{
    static uint8_t got[64 * KIB];
    uint64_t bytes = 0;
    uint32_t who, sequence;
    do {
        uint32_t more = visitor_receive_frame(fair->hall.turner, fair->hall.seats[0].visitor, got, sizeof got);
        MUST(audience_read(got, more, &who, &sequence));
        bytes += more + 4;
        fair_refill(fair, 1);
        if (bytes > limit_bytes)
            ck_abort_msg("a message waits behind more than %u bytes of others", (unsigned)limit_bytes);
    } while (who != producer);
    return bytes;
}

static void fairness(uint32_t count)
{
    static uint8_t data[100];
    struct fair fair = {.count = count};
    hall_init(&fair.hall, 1);
    fair.hall.send_buffer_bytes = 16 * KIB;
    fair.hall.own_channels = true;
    fair.hall.config.send_bytes = 64 * KIB;
    hall_open_here(&fair.hall, 1);
    fair.port = hall_port(&fair.hall);
    for (uint32_t i = 0; i < count; i++)
        MUST_EQUAL(weir_channel_open(fair.port, fair.hall.seats[0].id, &(weir_channel_options){.bytes = 64 * KIB}, &fair.channels[i]), 0);
    fair_refill(&fair, 1);
    fixture_turn_for(fair.hall.turner, MILLISECONDS(20));
    fair_refill(&fair, 1);
    /* A run of each other at most, one that has begun, and what the kernel holds. */
    uint64_t limit_bytes = (uint64_t)(count + 1) * 64 * KIB + 200 * KIB;
    for (uint32_t round = 0; round < 30; round++) {
        audience_fill(data, sizeof data, 0, fair.sent[0]++);
        MUST_EQUAL(weir_channel_send(fair.channels[0], data, sizeof data), 0);
        fair_read_until(&fair, 0, limit_bytes);
    }
    for (uint32_t round = 0; round < 10; round++) { /* and the connection's own sends */
        audience_fill(data, sizeof data, 100, round);
        MUST_EQUAL(weir_send(fair.hall.seats[0].conn, data, sizeof data), 0);
        fair_read_until(&fair, 100, limit_bytes);
    }
    /* Those that send all the time get about the same. */
    uint64_t least = UINT64_MAX, most = 0;
    for (uint32_t i = 1; i < count; i++) {
        weir_channel_stats stats;
        weir_channel_stats_get(fair.channels[i], &stats);
        least = stats.messages_delivered < least ? stats.messages_delivered : least;
        most = stats.messages_delivered > most ? stats.messages_delivered : most;
    }
    MUST(most <= least + 2 * 65 + 65);
    weir_abort(fair.hall.seats[0].conn);
    weir_port_close(&fair.port);
    hall_close(&fair.hall);
}

START_TEST(one_flood_starves_nobody)
{
    fairness(2);
}
END_TEST

START_TEST(sixteen_floods_starve_nobody)
{
    fairness(17);
}
END_TEST

/* The other way round: the connection's own sends never stop, and a channel gets its turn. */
START_TEST(local_sends_do_not_starve_a_channel)
{
    static uint8_t data[1000], got[1000];
    struct hall hall;
    weir_channel *channel = NULL;
    uint32_t who, sequence, local = 0;
    hall_init(&hall, 1);
    hall.own_channels = true;
    hall.send_buffer_bytes = 16 * KIB;
    hall.config.send_bytes = 64 * KIB;
    hall_open_here(&hall, 1);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(weir_channel_open(port, hall.seats[0].id, NULL, &channel), 0);
    for (uint32_t round = 0; round < 30; round++) {
        audience_fill(data, 100, 0, round);
        MUST_EQUAL(weir_channel_send(channel, data, 100), 0);
        uint64_t bytes = 0;
        do {
            for (int result = 0; result == 0; local += result == 0) {
                audience_fill(data, 1000, 1, local);
                result = weir_send(hall.seats[0].conn, data, 1000);
            }
            uint32_t more = visitor_receive_frame(hall.turner, hall.seats[0].visitor, got, sizeof got);
            MUST(audience_read(got, more, &who, &sequence));
            bytes += more + 4;
            MUST(bytes < 1 * MIB); /* high water, and what the kernel and a send hold */
        } while (who != 0);
    }
    weir_abort(hall.seats[0].conn);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- beside the control lane and local sends --- */

/* Everything at once on one connection: a channel with messages of all sizes, own sends small and by reference, and pongs. The lane goes
 * first at a message boundary: a pong waits for no more than the send that is under way and the kernel. */
START_TEST(the_lane_goes_first)
{
    enum { ROUNDS = 300 / FIXTURE_SLOWER };
    static uint8_t data[20000], got[20000];
    struct hall hall;
    weir_channel *channel = NULL;
    uint32_t sent[3] = {0}, seen[3] = {0}, producer, sequence;
    hall_init(&hall, 1);
    hall.own_channels = true;
    hall.send_buffer_bytes = 16 * KIB;
    hall.config.send_bytes = 64 * KIB;
    hall_open_here(&hall, 1);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(weir_channel_open(port, hall.seats[0].id, &(weir_channel_options){.bytes = 256 * KIB}, &channel), 0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (int result = 0; result == 0; sent[0] += result == 0) {
            uint32_t bytes = 8 + sent[0] * 7919 % (sent[0] % 9 == 0 ? 19000 : 900);
            audience_fill(data, bytes, 0, sent[0]);
            result = weir_channel_send(channel, data, bytes);
        }
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t bytes = i == 2 ? 9000 : 300;
            audience_fill(data, bytes, 1, sent[1]);
            sent[1] += weir_send(hall.seats[0].conn, data, bytes) == 0;
        }
        audience_fill(data, 16, 2, sent[2]++);
        MUST_EQUAL(weir_send_control(hall.seats[0].conn, data, 16), 0);
        uint64_t bytes = 0;
        do {
            uint32_t more = visitor_receive_frame(hall.turner, hall.seats[0].visitor, got, sizeof got);
            bytes += more + 4;
            if (!audience_read(got, more, &producer, &sequence) || producer > 2 || sequence != seen[producer])
                ck_abort_msg("a message of %u bytes says: producer %u, number %u", more, producer, sequence);
            seen[producer]++;
        } while (seen[2] < sent[2]);
        if (bytes > 64 * KIB + 200 * KIB)
            ck_abort_msg("a pong has waited behind %u bytes", (unsigned)bytes);
    }
    weir_channel_close(&channel);
    while (seen[0] < sent[0] || seen[1] < sent[1]) {
        uint32_t more = visitor_receive_frame(hall.turner, hall.seats[0].visitor, got, sizeof got);
        MUST(audience_read(got, more, &producer, &sequence) && sequence == seen[producer]++);
    }
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- what each of them may hold --- */

/* Sends until it is full and nothing of it goes out any more: what waits in it. */
static uint64_t fill(struct hall *hall, weir_channel *channel)
{
    static const uint8_t data[1000];
    weir_channel_stats stats;
    uint64_t before;
    do {
        weir_channel_stats_get(channel, &stats);
        before = stats.messages_sent;
        while (weir_channel_send(channel, data, sizeof data) == 0)
            continue;
        hall_pass(hall, MILLISECONDS(5));
        weir_channel_stats_get(channel, &stats);
    } while (stats.messages_sent != before);
    return stats.queued_bytes;
}

static void take_all(struct hall *hall, weir_channel *channel)
{
    weir_channel_stats stats;
    HALL_UNTIL(hall, (hall_take_all(&hall->seats[0]), weir_channel_stats_get(channel, &stats), stats.queued_bytes == 0));
}

#define ABOUT(bytes, expected) MUST((bytes) + 2 * KIB > (expected) && (bytes) < (expected) + 2 * KIB)

/* Of the size that weir chooses: all together hold a mebibyte, each of them at least 64 KiB; and what one gives back the others have. */
START_TEST(channels_hold_their_share)
{
    enum { MANY = 16 };
    struct hall hall;
    weir_port *ports[2];
    weir_channel *channels[MANY];
    hall_init(&hall, 1);
    hall.own_channels = true;
    hall_open_here(&hall, 1);
    for (uint32_t i = 0; i < 2; i++)
        ports[i] = hall_port(&hall);
    MUST_EQUAL(weir_channel_open(ports[0], hall.seats[0].id, NULL, &channels[0]), 0);
    hall_pass(&hall, MILLISECONDS(5));
    ABOUT(fill(&hall, channels[0]), MIB);
    for (uint32_t i = 1; i < MANY; i++)
        MUST_EQUAL(weir_channel_open(ports[i / (MANY / 2)], hall.seats[0].id, NULL, &channels[i]), 0);
    hall_pass(&hall, MILLISECONDS(5));
    for (uint32_t i = 1; i < MANY; i++)
        ABOUT(fill(&hall, channels[i]), 64 * KIB);
    for (uint32_t i = 0; i < MANY; i++)
        take_all(&hall, channels[i]);
    ABOUT(fill(&hall, channels[0]), 64 * KIB);
    take_all(&hall, channels[0]);
    for (uint32_t i = MANY - 1; i >= 5; i--)
        weir_channel_close(&channels[i]);
    hall_pass(&hall, MILLISECONDS(5));
    ABOUT(fill(&hall, channels[0]), MIB / 5);
    take_all(&hall, channels[0]);
    for (uint32_t i = 0; i < 5; i++)
        weir_channel_close(&channels[i]);
    for (uint32_t i = 0; i < 2; i++)
        weir_port_close(&ports[i]);
    hall_close(&hall);
}
END_TEST

FIXTURE_MAIN("channel sharing", sixteen_producers, sixteen_producers_over_tcp, sixteen_producers_in_short_sends,
             sixteen_producers_and_a_slow_reader, one_flood_starves_nobody, sixteen_floods_starve_nobody,
             local_sends_do_not_starve_a_channel, the_lane_goes_first, channels_hold_their_share)
