/* SPDX-License-Identifier: MIT */
/* groups: joining and leaving across shards, sends to all but one, order with direct sends, big messages, codecs that differ, members
 * that are slow or end, and what the group counts. */
#include "hall.h"

#include <errno.h>

static weir_group open_group(struct hall *hall)
{
    weir_group group = {0};
    MUST_EQUAL(weir_group_open(hall->runtime, &group), 0);
    MUST(group.value != 0);
    return group;
}

static weir_group_stats stats_of(struct hall *hall, weir_group group)
{
    weir_group_stats stats;
    MUST_EQUAL(weir_group_stats_get(hall->runtime, group, &stats), 0);
    return stats;
}

static void join_all(struct hall *hall, weir_port *port, weir_group group)
{
    for (uint32_t i = 0; i < hall->seat_count; i++)
        HALL_UNTIL(hall, weir_group_join(port, group, hall->seats[i].id) == 0);
    HALL_UNTIL(hall, stats_of(hall, group).members == hall->seat_count);
}

static int group_send(weir_port *port, weir_group group, uint32_t bytes, uint64_t seed, weir_id except)
{
    uint8_t *data = malloc(bytes + 1);
    MUST(data != NULL);
    fixture_fill(data, bytes, seed);
    int result = weir_group_send(port, group, data, bytes, except);
    memset(data, 0xee, bytes);
    free(data);
    return result;
}

static const weir_id nobody = {0};

/* --- names --- */

START_TEST(names)
{
    struct hall hall;
    weir_group groups[4] = {0}, closed, more = {77};
    weir_group_stats stats;
    hall_init(&hall, 2);
    hall.config.groups = 4;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    for (int i = 0; i < 4; i++) {
        groups[i] = open_group(&hall);
        for (int j = 0; j < i; j++)
            MUST(groups[i].value != groups[j].value);
    }
    MUST_EQUAL(weir_group_open(hall.runtime, &more), -ENOSPC);
    MUST_EQUAL(weir_group_send(port, groups[0], "to nobody", 9, nobody), 0); /* without members */
    MUST_EQUAL(weir_group_join(port, groups[0], hall.seats[1].id), 0);
    for (int i = 0; i < 300; i++) { /* a closed group's name is never another's */
        closed = groups[0];
        MUST_EQUAL(weir_group_close(hall.runtime, closed), 0);
        MUST_EQUAL(weir_group_close(hall.runtime, closed), -ESTALE);
        HALL_UNTIL(&hall, weir_group_open(hall.runtime, &groups[0]) == 0);
        MUST(groups[0].value != 0 && groups[0].value != closed.value);
        MUST_EQUAL(weir_group_join(port, closed, hall.seats[1].id), -ESTALE);
        MUST_EQUAL(weir_group_leave(port, closed, hall.seats[1].id), -ESTALE);
        MUST_EQUAL(weir_group_send(port, closed, "x", 1, nobody), -ESTALE);
        MUST_EQUAL(weir_group_stats_get(hall.runtime, closed, &stats), -ESTALE);
        MUST_EQUAL(stats_of(&hall, groups[0]).members, 0);
        MUST_EQUAL(stats_of(&hall, groups[0]).delivered, 0);
    }
    weir_group none = {0};
    MUST_EQUAL(weir_group_close(hall.runtime, none), -ESTALE);
    MUST_EQUAL(weir_group_join(port, none, hall.seats[1].id), -ESTALE);
    MUST_EQUAL(weir_group_send(port, none, "x", 1, nobody), -ESTALE);
    MUST_EQUAL(weir_group_join(port, groups[0], nobody), -ESTALE);
    MUST_EQUAL(weir_group_leave(port, groups[0], nobody), -ESTALE);
    MUST_EQUAL(weir_group_send(port, groups[0], "x", WEIR_MESSAGE_MAX_BYTES + 1, nobody), -EMSGSIZE);
    hall_leave(&hall.seats[0]);
    HALL_UNTIL(&hall, atomic_load(&hall.closes) == 1);
    MUST_EQUAL(weir_group_join(port, groups[0], hall.seats[0].id), -ESTALE);
    hall_expect_silence(&hall, &hall.seats[1]);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- sending --- */

START_TEST(to_all_but_one)
{
    static const uint32_t sizes[] = {0, 1, 60, 4000, 4095, 4096, 4097, 65536, 300000, 1 << 20, 12};
    enum { SEATS = 7, COUNT = sizeof sizes / sizeof sizes[0] };
    struct hall hall;
    hall_init(&hall, 3);
    hall.protocol.limits.high_water_bytes = 8 << 20;
    hall_open_here(&hall, SEATS);
    weir_port *port = hall_port(&hall);
    weir_group group = open_group(&hall);
    join_all(&hall, port, group);
    for (uint32_t i = 0; i < COUNT; i++) {
        HALL_UNTIL(&hall, group_send(port, group, sizes[i], i, nobody) == 0);
        HALL_UNTIL(&hall, group_send(port, group, sizes[i], 100 + i, hall.seats[i % SEATS].id) == 0);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        for (uint32_t seat = 0; seat < SEATS; seat++) {
            hall_expect(&hall, &hall.seats[seat], sizes[i], i);
            if (i % SEATS != seat)
                hall_expect(&hall, &hall.seats[seat], sizes[i], 100 + i);
        }
    }
    hall_expect_silence(&hall, &hall.seats[0]);
    HALL_UNTIL(&hall, stats_of(&hall, group).delivered == COUNT * (2 * SEATS - 1));
    MUST_EQUAL(stats_of(&hall, group).refused, 0);
    weir_port_close(&port);
    hall_close(&hall);
    MUST_EQUAL(hall.stats.messages_sent, COUNT * (2 * SEATS - 1));
}
END_TEST

START_TEST(from_a_shards_port)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall_open_here(&hall, 4);
    weir_group group = open_group(&hall);
    for (uint32_t from = 0; from < 2; from++) {
        weir_port *port = weir_shard_port(hall_shard(&hall, from));
        for (uint32_t i = from; i < 4; i += 2) /* each its own, and the other's */
            MUST_EQUAL(weir_group_join(port, group, hall.seats[3 - i].id), 0);
    }
    HALL_UNTIL(&hall, stats_of(&hall, group).members == 4);
    for (uint32_t from = 0; from < 2; from++) {
        weir_port *port = weir_shard_port(hall_shard(&hall, from));
        MUST_EQUAL(group_send(port, group, 5000, from, nobody), 0);
        MUST_EQUAL(group_send(port, group, 50, 10 + from, hall.seats[0].id), 0);
        for (uint32_t i = 0; i < 4; i++) {
            hall_expect(&hall, &hall.seats[i], 5000, from);
            if (i != 0)
                hall_expect(&hall, &hall.seats[i], 50, 10 + from);
        }
    }
    hall_close(&hall);
}
END_TEST

static void send_from_here(weir_shard *shard, void *user)
{
    weir_group *group = user;
    MUST_EQUAL(group_send(weir_shard_port(shard), *group, 50, 7, nobody), 0);
}

/* A function that a spinning shard takes in mid-spin: what it sends to a group goes out there and then, not when the shard has spun long enough. */
START_TEST(from_a_shard_that_spins)
{
    struct hall hall;
    hall_init(&hall, 1);
    hall.config.spin_ns = 10 * WEIR_SECOND;
    hall_open_apart(&hall, 3);
    weir_port *port = hall_port(&hall);
    weir_group group = open_group(&hall);
    join_all(&hall, port, group);
    for (int round = 0; round < 3; round++) {
        hall_pass(&hall, MILLISECONDS(20)); /* it spins */
        uint64_t begun_ns = live_now_ns();
        MUST_EQUAL(weir_post(port, hall_shard(&hall, 0), send_from_here, &group), 0);
        for (uint32_t i = 0; i < 3; i++)
            hall_expect(&hall, &hall.seats[i], 50, 7);
        MUST(live_now_ns() - begun_ns < 5 * WEIR_SECOND);
    }
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* What one port does arrives in the order it did it: joins, leaves, sends to the group, sends to members, functions. */
START_TEST(order_of_all_that_a_port_does)
{
    enum { ROUNDS = 400 / FIXTURE_SLOWER, SEATS = 6 };
    struct hall hall;
    struct tally tally = {0};
    bool member[SEATS] = {0};
    static uint64_t expected[SEATS][8 * ROUNDS];
    uint32_t count[SEATS] = {0};
    hall_init(&hall, 2);
    hall.protocol.limits.high_water_bytes = 16 << 20;
    hall_open_here(&hall, SEATS);
    weir_port *port = hall_port(&hall);
    weir_group group = open_group(&hall);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint32_t seat = (uint32_t)(round * 31 % SEATS), bytes = round % 9 == 0 ? 6000 : 90;
        if (round % 3 != 0) {
            HALL_UNTIL(&hall, weir_group_join(port, group, hall.seats[seat].id) == 0); /* twice is once */
            member[seat] = true;
        } else {
            HALL_UNTIL(&hall, weir_group_leave(port, group, hall.seats[seat].id) == 0); /* or was none */
            member[seat] = false;
        }
        HALL_UNTIL(&hall, hall_send(port, &hall.seats[seat], bytes, 2 * round) == 0);
        expected[seat][count[seat]++] = 2 * round;
        HALL_UNTIL(&hall, group_send(port, group, bytes, 2 * round + 1, nobody) == 0);
        for (uint32_t i = 0; i < SEATS; i++) {
            if (member[i])
                expected[i][count[i]++] = 2 * round + 1;
        }
    }
    for (uint32_t i = 0; i < SEATS; i++) {
        for (uint32_t number = 0; number < count[i]; number++)
            hall_expect(&hall, &hall.seats[i], expected[i][number] / 2 % 9 == 0 ? 6000 : 90, expected[i][number]);
        hall_expect_silence(&hall, &hall.seats[i]);
    }
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, 0);
    weir_port_stats stats;
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.messages_sent, ROUNDS); /* groups are not counted */
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- all or nothing --- */

START_TEST(a_full_ring_to_one_shard)
{
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall.config.ring_bytes = 16 * KIB;
    hall.protocol.limits.high_water_bytes = 4 << 20;
    hall_open_here(&hall, 4);
    weir_port *port = hall_port(&hall);
    weir_group group = open_group(&hall);
    join_all(&hall, port, group);
    tally_settle(&tally, &hall, port);
    uint64_t sent = 0;
    int result = 0;
    for (uint32_t refused = 0; refused < 20; refused += result == -EAGAIN) { /* only shard 0 takes */
        result = group_send(port, group, 500, sent, nobody);
        MUST(result == 0 || result == -EAGAIN);
        MUST((sent += result == 0) < 200);
        MUST_EQUAL(weir_turn(hall_shard(&hall, 0), &(uint64_t){0}), 0);
    }
    MUST(sent > 10);
    for (uint64_t i = 0; i < sent; i++) {
        for (uint32_t seat = 0; seat < 4; seat++)
            hall_expect(&hall, &hall.seats[seat], 500, i);
    }
    for (uint32_t seat = 0; seat < 4; seat++) /* of those refused nobody has anything */
        hall_expect_silence(&hall, &hall.seats[seat]);
    HALL_UNTIL(&hall, (tally_collect(&tally, port), tally.events[WEIR_PORT_ROOM] > 0));
    MUST_EQUAL(tally.of[WEIR_PORT_ROOM].shard, 1);
    MUST_EQUAL(group_send(port, group, 500, sent, nobody), 0);
    for (uint32_t seat = 0; seat < 4; seat++)
        hall_expect(&hall, &hall.seats[seat], 500, sent);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- codecs that differ --- */

static const weir_protocol *of_three_kinds(struct hall *hall, uint32_t number)
{
    static weir_protocol lines, short_lines;
    weir_codec_line(&lines.codec, 10000, true);
    weir_codec_line(&short_lines.codec, 50, false);
    hall_speak(hall, &lines);
    hall_speak(hall, &short_lines);
    return number % 3 == 0 ? &hall->protocol : number % 3 == 1 ? &lines : &short_lines;
}

START_TEST(each_by_its_codec)
{
    enum { SEATS = 12 }; /* of each kind, on each shard, two */
    struct hall hall;
    static char text[5000], got[5000 + 2];
    hall_init(&hall, 2);
    hall.protocol_of = of_three_kinds;
    hall_open_here(&hall, SEATS);
    weir_port *port = hall_port(&hall);
    weir_group group = open_group(&hall);
    join_all(&hall, port, group);
    memset(text, 'w', sizeof text);
    MUST_EQUAL(weir_group_send(port, group, "plain text", 10, nobody), 0);
    MUST_EQUAL(weir_group_send(port, group, "two\nlines", 9, nobody), 0); /* for frames only */
    MUST_EQUAL(weir_group_send(port, group, text, 200, nobody), 0);       /* not for short lines */
    MUST_EQUAL(weir_group_send(port, group, text, 5000, nobody), 0);      /* by reference, with a trailer of another kind */
    MUST_EQUAL(weir_group_send(port, group, "last", 4, nobody), 0);
    for (uint32_t i = 0; i < SEATS; i++) {
        int visitor = hall.seats[i].visitor;
        if (i % 3 == 0) {
            visitor_expect_frame(hall.turner, visitor, "plain text", 10);
            visitor_expect_frame(hall.turner, visitor, "two\nlines", 9);
            visitor_expect_frame(hall.turner, visitor, text, 200);
            visitor_expect_frame(hall.turner, visitor, text, 5000);
            visitor_expect_frame(hall.turner, visitor, "last", 4);
            continue;
        }
        visitor_receive(hall.turner, visitor, got, i % 3 == 1 ? 12 : 11);
        MUST(memcmp(got, i % 3 == 1 ? "plain text\r\n" : "plain text\n", i % 3 == 1 ? 12 : 11) == 0);
        if (i % 3 == 1) {
            visitor_receive(hall.turner, visitor, got, 202);
            MUST(memcmp(got, text, 200) == 0 && memcmp(got + 200, "\r\n", 2) == 0);
            visitor_receive(hall.turner, visitor, got, 5002);
            MUST(memcmp(got, text, 5000) == 0 && memcmp(got + 5000, "\r\n", 2) == 0);
        }
        visitor_receive(hall.turner, visitor, got, i % 3 == 1 ? 6 : 5);
        MUST(memcmp(got, i % 3 == 1 ? "last\r\n" : "last\n", i % 3 == 1 ? 6 : 5) == 0);
    }
    for (uint32_t i = 0; i < SEATS; i++)
        hall_expect_silence(&hall, &hall.seats[i]);
    weir_group_stats stats = stats_of(&hall, group);
    MUST_EQUAL(stats.refused, 8 + 4 + 4); /* the two lines, the long ones */
    MUST_EQUAL(stats.delivered + stats.refused, 5 * SEATS);
    MUST_EQUAL(hall_stats(&hall).group_refusals, stats.refused);
    MUST_EQUAL(hall_stats(&hall).group_messages, 5 * 2); /* to each shard once */
    MUST_EQUAL(atomic_load(&hall.closes), 0);            /* it ends nobody */
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- slow members --- */

static const weir_slow_peer by_first_refusal = {.queued_bytes_max = 1};

static void slow_members(bool disconnect)
{
    enum { SEATS = 6, COUNT = 2000 / FIXTURE_SLOWER };
    struct hall hall;
    weir_conn_stats conn_stats;
    hall_init(&hall, 2);
    hall.send_buffer_bytes = 16 * KIB;
    hall.protocol.limits.high_water_bytes = 50000;
    hall.protocol.limits.slow_peer = disconnect ? by_first_refusal : (weir_slow_peer){0};
    hall_open_here(&hall, SEATS);
    weir_port *port = hall_port(&hall);
    weir_group group = open_group(&hall);
    join_all(&hall, port, group);
    uint64_t start_ns = fixture_clock_ns();
    for (uint32_t i = 0; i < COUNT; i++) {
        HALL_UNTIL(&hall, group_send(port, group, i % 10 == 0 ? 5000 : 300, i, nobody) == 0);
        for (uint32_t seat = 2; seat < SEATS; seat++) /* 0 and 1 do not read, one on each shard */
            hall_expect(&hall, &hall.seats[seat], i % 10 == 0 ? 5000 : 300, i);
    }
    MUST(fixture_clock_ns() - start_ns < FIXTURE_WAIT_NS); /* it never slows the others */
    weir_group_stats stats = stats_of(&hall, group);
    for (uint32_t seat = 0; seat < 2; seat++) {
        if (disconnect) {
            HALL_UNTIL(&hall, atomic_load(&hall.seats[seat].closed) == 1);
            MUST_EQUAL(hall.seats[seat].event.reason, WEIR_REASON_SLOW_BYTES);
            MUST(hall.seats[seat].event.undelivered_messages > 0);
            continue;
        }
        MUST_EQUAL(weir_conn_stats_get(hall.runtime, hall.seats[seat].id, &conn_stats), 0);
        MUST(conn_stats.refusals > COUNT / 2);
        uint64_t got = 0, last = 0; /* what it did get is whole and in order, with what was refused missing */
        uint8_t payload[5000];
        HALL_UNTIL(&hall, ({
            uint8_t head[4];
            while (recv(hall.seats[seat].visitor, head, 4, MSG_PEEK) == 4) {
                uint32_t bytes = visitor_receive_frame(hall.turner, hall.seats[seat].visitor, payload, sizeof payload);
                uint64_t seed = got == 0 ? 0 : last + 1;
                while (seed < COUNT && !fixture_is_filled(payload, bytes, seed))
                    seed++;
                MUST(seed < COUNT);
                last = seed;
                got++;
            }
            hall_queued_bytes(&hall.seats[seat]) == 0 && recv(hall.seats[seat].visitor, head, 4, MSG_PEEK) < 0;
        }));
        MUST_EQUAL(got + conn_stats.refusals, COUNT);
    }
    stats = stats_of(&hall, group);
    if (disconnect)
        MUST(stats.refused >= 2 && stats.refused <= 20); /* the first refusal is the end, for all that comes in later turns */
    else
        MUST_EQUAL(stats.delivered + stats.refused, SEATS * COUNT);
    MUST_EQUAL(stats.members, disconnect ? SEATS - 2 : SEATS);
    weir_port_close(&port);
    hall_close(&hall);
}

START_TEST(a_slow_member_misses_messages)
{
    slow_members(false);
}
END_TEST

START_TEST(a_slow_member_is_disconnected)
{
    slow_members(true);
}
END_TEST

/* --- members that end, groups that close --- */

START_TEST(members_that_end_leave)
{
    enum { SEATS = 10 };
    struct hall hall;
    hall_init(&hall, 2);
    hall_open_here(&hall, SEATS);
    weir_port *port = hall_port(&hall);
    weir_group groups[3];
    for (uint32_t i = 0; i < 3; i++) { /* one connection may be in many */
        groups[i] = open_group(&hall);
        join_all(&hall, port, groups[i]);
    }
    for (uint32_t i = 0; i < SEATS; i++) {
        if (i % 3 == 0)
            hall_leave(&hall.seats[i]);
        else if (i % 3 == 1)
            weir_abort(hall.seats[i].conn);
        else
            MUST_EQUAL(weir_port_end(port, hall.seats[i].id), 0);
        if (i % 3 == 2) {
            visitor_expect_end(hall.turner, hall.seats[i].visitor);
            hall_leave(&hall.seats[i]);
        }
        HALL_UNTIL(&hall, atomic_load(&hall.closes) == i + 1);
        for (uint32_t group = 0; group < 3; group++) {
            HALL_UNTIL(&hall, stats_of(&hall, groups[group]).members == SEATS - 1 - i);
            MUST_EQUAL(group_send(port, groups[group], 100, group, nobody), 0);
        }
        for (uint32_t seat = i + 1; seat < SEATS; seat++) {
            for (uint32_t group = 0; group < 3; group++)
                hall_expect(&hall, &hall.seats[seat], 100, group);
        }
    }
    MUST_EQUAL(stats_of(&hall, groups[0]).refused, 0);
    MUST_EQUAL(stats_of(&hall, groups[0]).delivered, SEATS * (SEATS - 1) / 2);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(a_closed_group_lets_its_members_go_on)
{
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall_open_here(&hall, 4);
    weir_port *port = hall_port(&hall);
    weir_group group = open_group(&hall);
    join_all(&hall, port, group);
    for (uint64_t i = 0; i < 5; i++)
        MUST_EQUAL(group_send(port, group, i == 2 ? 5000 : 50, i, nobody), 0);
    MUST_EQUAL(weir_group_close(hall.runtime, group), 0); /* what is under way may be lost for it */
    for (uint32_t i = 0; i < 4; i++)
        MUST_EQUAL(hall_send(port, &hall.seats[i], 70, 9), 0);
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t payload[5000];
        uint32_t bytes = 0;
        while (bytes != 70)
            bytes = visitor_receive_frame(hall.turner, hall.seats[i].visitor, payload, sizeof payload);
        MUST(fixture_is_filled(payload, 70, 9));
    }
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(atomic_load(&hall.closes), 0);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(a_join_without_memory)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_group group = open_group(&hall), first = open_group(&hall);
    MUST_EQUAL(weir_group_join(port, first, hall.seats[0].id), 0); /* the rings are there */
    HALL_UNTIL(&hall, stats_of(&hall, first).members == 1);
    uint32_t refused = 0;
    for (int64_t nth = 1; nth < 10; nth++) {
        struct tally tally = {0};
        int64_t before = atomic_load(&hall.account.refused);
        atomic_store(&hall.account.fail_from, atomic_load(&hall.account.calls) + nth);
        atomic_store(&hall.account.fail_to, atomic_load(&hall.account.fail_from));
        int result = weir_group_join(port, group, hall.seats[1].id);
        MUST(result == 0 || result == -EAGAIN || result == -ENOMEM);
        fixture_turn_for(hall.turner, MILLISECONDS(5));
        tally_collect(&tally, port);
        bool failed = atomic_load(&hall.account.refused) != before;
        atomic_store(&hall.account.fail_from, 0);
        MUST_EQUAL(tally.undelivered_messages, 0);
        if (tally.events[WEIR_PORT_UNDELIVERED] > 0) {
            MUST(failed);
            MUST_EQUAL(tally.of[WEIR_PORT_UNDELIVERED].error, -ENOMEM);
            MUST(tally.of[WEIR_PORT_UNDELIVERED].id.value == hall.seats[1].id.value);
            MUST_EQUAL(stats_of(&hall, group).members, 0);
            refused++;
        } else if (result == 0) {
            HALL_UNTIL(&hall, stats_of(&hall, group).members == 1);
            HALL_UNTIL(&hall, weir_group_leave(port, group, hall.seats[1].id) == 0);
            HALL_UNTIL(&hall, stats_of(&hall, group).members == 0);
        }
    }
    MUST(refused > 0);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

FIXTURE_MAIN("groups", names, to_all_but_one, from_a_shards_port, from_a_shard_that_spins, order_of_all_that_a_port_does,
             a_full_ring_to_one_shard, each_by_its_codec, a_slow_member_misses_messages, a_slow_member_is_disconnected,
             members_that_end_leave, a_closed_group_lets_its_members_go_on, a_join_without_memory)
