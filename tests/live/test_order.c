/* SPDX-License-Identifier: MIT */
/* order: producers of every kind (threads with ports, threads with own channels, shards) onto one connection and onto a thousand; each
 * message is whole, each producer's come in order, none is missing; with pauses, with slow receivers, with connections that end at the
 * worst moment, with a stop in the middle; and afterwards every sender's sums close and all memory has gone home. */
#include "chorus.h"

#include <errno.h>

#define LESS LIVE_SLOWER

START_TEST(onto_one_connection)
{
    for (int tcp = 0; tcp < 2; tcp++) {
        static struct chorus chorus;
        chorus_init(&chorus, 2);
        chorus.hall.tcp = tcp != 0;
        chorus.seats = 1;
        chorus.ports = 6;
        chorus.channels = 6;
        chorus.shards = 2;
        chorus.count = 10000 / LESS;
        chorus_open(&chorus);
        chorus_run(&chorus);
        MUST_EQUAL(atomic_load(&chorus.audience.messages), (uint64_t)14 * (10000 / LESS));
        chorus_close(&chorus);
    }
}
END_TEST

START_TEST(onto_a_thousand)
{
    enum { SEATS = LIVE_SANITIZED ? 200 : 1000, CHANNEL_SEATS = SEATS / 5, COUNT = 50 / LESS };
    static struct chorus chorus;
    chorus_init(&chorus, 2);
    chorus.hall.tcp = true;
    chorus.hall.config.port_bytes = 64 << 20;
    chorus.seats = SEATS;
    chorus.ports = 4;
    chorus.channels = 3;
    chorus.channel_seats = CHANNEL_SEATS;
    chorus.shards = 2;
    chorus.count = COUNT;
    chorus_open(&chorus);
    chorus_run(&chorus);
    MUST_EQUAL(atomic_load(&chorus.audience.messages), (uint64_t)COUNT * (6 * SEATS + 3 * CHANNEL_SEATS));
    chorus_close(&chorus);
}
END_TEST

static void with_pauses_and_spins(uint64_t spin_ns)
{
    static struct chorus chorus;
    chorus_init(&chorus, 3);
    chorus.hall.config.spin_ns = spin_ns;
    chorus.seats = 6;
    chorus.ports = 4;
    chorus.channels = 4;
    chorus.shards = 3;
    chorus.count = 1500 / LESS;
    chorus.pause_ns = 2 * WEIR_MILLISECOND; /* long enough to fall asleep */
    chorus_open(&chorus);
    chorus_run(&chorus);
    MUST_EQUAL(atomic_load(&chorus.audience.messages), (uint64_t)11 * 6 * (1500 / LESS));
    chorus_close(&chorus);
}

START_TEST(with_pauses)
{
    with_pauses_and_spins(0);
    with_pauses_and_spins(50 * WEIR_MICROSECOND);
}
END_TEST

/* Small rings, low marks, little memory for blobs, short sends: everything is full most of the time. */
static void tighten(struct chorus *chorus)
{
    chorus->hall.config.ring_bytes = 16 * KIB;
    chorus->hall.config.port_bytes = 4 * MIB;
    chorus->hall.config.send_bytes = 8 * KIB;
    chorus->hall.send_buffer_bytes = 16 * KIB;
    chorus->hall.protocol.limits.high_water_bytes = 30000;
    chorus->hall.protocol.limits.low_water_bytes = 10000;
}

START_TEST(with_slow_receivers)
{
    enum { SEATS = 16 };
    static struct chorus chorus;
    chorus_init(&chorus, 2);
    tighten(&chorus);
    chorus.seats = SEATS;
    chorus.ports = 4;
    chorus.channels = 4;
    chorus.shards = 2;
    chorus.count = 400 / LESS;
    chorus_open(&chorus);
    for (uint32_t i = 0; i < SEATS; i += 2)
        chorus.audience.ears[i].slow_bytes = i % 4 == 0 ? 3000 : 20000;
    chorus_run(&chorus);
    MUST_EQUAL(atomic_load(&chorus.audience.messages), (uint64_t)10 * SEATS * (400 / LESS));
    chorus_close(&chorus);
}
END_TEST

/* --- connections that end at the worst moment --- */

static void leave_in_mid_stream(bool tcp, bool tight)
{
    enum { SEATS = 24 };
    static struct chorus chorus;
    chorus_init(&chorus, 2);
    chorus.hall.tcp = tcp;
    if (tight)
        tighten(&chorus);
    chorus.seats = SEATS;
    chorus.ports = 4;
    chorus.channels = 3;
    chorus.shards = 2;
    chorus.count = 600 / LESS;
    chorus_open(&chorus);
    for (uint32_t i = 0; i < SEATS; i++) {
        struct ear *ear = &chorus.audience.ears[i];
        if (i % 4 == 3)
            continue; /* stays, and must get everything */
        ear->leave_after = 1 + i * i * 7 / LESS;
        ear->exit = i % 4 == 0 ? EAR_CLOSES : i % 4 == 1 && tcp ? EAR_RESETS : EAR_FINISHES;
    }
    chorus_run(&chorus);
    for (uint32_t i = 3; i < SEATS; i += 4)
        MUST_EQUAL(chorus.audience.ears[i].messages, 9 * (600 / LESS));
    chorus_close(&chorus);
}

START_TEST(receivers_leave_in_mid_stream)
{
    leave_in_mid_stream(false, false);
    leave_in_mid_stream(true, false);
}
END_TEST

START_TEST(receivers_leave_while_all_is_full)
{
    leave_in_mid_stream(false, true);
    leave_in_mid_stream(true, true);
}
END_TEST

static void abort_seat(weir_shard *shard, void *user)
{
    struct seat *seat = user;
    weir_conn *conn = weir_find(shard, seat->id);
    if (conn != NULL)
        weir_abort(conn);
}

/* From here: gracefully through a port, or at once by a function, one every few milliseconds. */
static void end_some(struct chorus *chorus)
{
    struct tally tally = {0};
    weir_port *port = hall_port(&chorus->hall);
    for (uint32_t i = 0; i < chorus->seats; i += 2) {
        struct seat *seat = &chorus->hall.seats[i];
        fixture_sleep_ns(MILLISECONDS(3));
        if (i % 4 == 0)
            MUST_EQUAL(weir_post(port, hall_shard(&chorus->hall, seat->shard), abort_seat, seat), 0);
        else
            MUST_EQUAL(weir_port_end(port, seat->id), 0);
    }
    tally_settle(&tally, &chorus->hall, port);
    weir_port_close(&port);
}

START_TEST(connections_are_ended_in_mid_stream)
{
    enum { SEATS = 24 };
    for (int tight = 0; tight < 2; tight++) {
        static struct chorus chorus;
        chorus_init(&chorus, 2);
        if (tight)
            tighten(&chorus);
        chorus.seats = SEATS;
        chorus.ports = 4;
        chorus.channels = 3;
        chorus.shards = 2;
        chorus.count = 1000 / LESS;
        chorus.stir = end_some;
        chorus_open(&chorus);
        chorus.audience.gaps = false;
        for (uint32_t i = 0; i < SEATS; i += 2)
            chorus.audience.ears[i].left = true; /* it may not get everything */
        chorus_run(&chorus);
        for (uint32_t i = 1; i < SEATS; i += 2)
            MUST_EQUAL(chorus.audience.ears[i].messages, 9 * (1000 / LESS));
        chorus_close(&chorus);
    }
}
END_TEST

/* --- a stop in the middle --- */

static void stop_it(struct chorus *chorus)
{
    fixture_sleep_ns(MILLISECONDS(60));
    weir_stop(chorus->hall.runtime);
}

START_TEST(a_stop_in_mid_stream)
{
    for (int round = 0; round < 4; round++) {
        static struct chorus chorus;
        chorus_init(&chorus, 2);
        if (round % 2 == 1)
            tighten(&chorus);
        chorus.hall.config.stop_ns = round < 2 ? 0 : MILLISECONDS(1);
        chorus.seats = 12;
        chorus.ports = 4;
        chorus.channels = 3;
        chorus.shards = 2;
        chorus.count = 100000;
        chorus.stopping = chorus.hall.stopped_in_mid_stream = true;
        chorus.stir = stop_it;
        chorus_open(&chorus);
        chorus_run(&chorus);
        MUST(atomic_load(&chorus.audience.messages) > 0);
        chorus_close(&chorus);
    }
}
END_TEST

FIXTURE_MAIN("order", onto_one_connection, onto_a_thousand, with_pauses, with_slow_receivers, receivers_leave_in_mid_stream,
             receivers_leave_while_all_is_full, connections_are_ended_in_mid_stream, a_stop_in_mid_stream)
