/* SPDX-License-Identifier: MIT */
/* port sending: what a send through a port may be, in which order it arrives, what comes back and as what, and the end of a connection. */
#include "hall.h"

#include <errno.h>

static void roomy(weir_protocol *protocol)
{
    protocol->limits.high_water_bytes = 16 << 20;
    protocol->limits.hard_limit_bytes = 32 << 20;
}

/* --- sending --- */

START_TEST(sizes_from_nothing_to_a_megabyte)
{
    static const uint32_t sizes[] = {0,     1,     2,     63,    64,    4000,  4091,   4092,   4095,   4096,    4097,    8192,
                                     16384, 32751, 32768, 65535, 65536, 65537, 131072, 262144, 524288, 1048575, 1048576, 7};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    roomy(&hall.protocol);
    hall.config.port_bytes = 16 * MIB;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        for (uint32_t seat = 0; seat < 2; seat++)
            HALL_UNTIL(&hall, (tally_collect(&tally, port), hall_send(port, &hall.seats[seat], sizes[i], i) == 0));
        bytes += 2 * sizes[i];
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        hall_expect(&hall, &hall.seats[0], sizes[i], i);
        hall_expect(&hall, &hall.seats[1], sizes[i], i);
    }
    tally_settle(&tally, &hall, port);
    weir_port_stats stats;
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.messages_sent, 2 * COUNT);
    MUST_EQUAL(stats.messages_taken, 2 * COUNT);
    MUST_EQUAL(stats.bytes_sent, bytes);
    MUST_EQUAL(stats.bytes_taken, bytes);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* Small ones, which cross as bytes, and big ones, which cross by reference, keep their order. */
START_TEST(order_and_boundaries)
{
    enum { COUNT = 3000 / FIXTURE_SLOWER, SEATS = 4 };
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    roomy(&hall.protocol);
    hall_open_here(&hall, SEATS);
    weir_port *port = hall_port(&hall);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t bytes = i * 7919 % (i % 10 == 0 ? 20000 : 700);
        for (uint32_t seat = 0; seat < SEATS; seat++)
            HALL_UNTIL(&hall, (tally_collect(&tally, port), hall_send(port, &hall.seats[seat], bytes, i * SEATS + seat) == 0));
        if (i % 50 != 49)
            continue;
        for (uint32_t back = i - 49; back <= i; back++) {
            for (uint32_t seat = 0; seat < SEATS; seat++)
                hall_expect(&hall, &hall.seats[seat], back * 7919 % (back % 10 == 0 ? 20000 : 700), back * SEATS + seat);
        }
    }
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.events[WEIR_PORT_UNDELIVERED], 0);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(what_is_refused_at_once)
{
    struct hall hall;
    weir_port_stats stats;
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    struct seat *seat = &hall.seats[1];
    struct tally tally = {0};
    uint64_t id = seat->id.value;
    uint32_t bits, never = 0;
    MUST_EQUAL(weir_port_send(port, (weir_id){0}, "x", 1), -ESTALE);
    for (bits = 0; bits < 64;
         bits++) { /* ids that never were, of shards, slots, generations that are not there: at once, or when they come back */
        if ((id ^ UINT64_C(1) << bits) == hall.seats[0].id.value)
            continue;
        int result = weir_port_send(port, (weir_id){id ^ UINT64_C(1) << bits}, "x", 1);
        if (result != -ESTALE && result != 0)
            ck_abort_msg("with bit %u changed an id answers %d", bits, result);
        never += result == 0;
    }
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, never);
    MUST_EQUAL(weir_port_send(port, seat->id, "x", WEIR_MESSAGE_MAX_BYTES + 1), -EMSGSIZE);
    MUST_EQUAL(weir_port_send(port, seat->id, "x", UINT32_MAX), -EMSGSIZE);
    MUST_EQUAL(weir_port_end(port, (weir_id){0}), -ESTALE);
    hall_leave(seat);
    HALL_UNTIL(&hall, atomic_load(&seat->closed) == 1);
    MUST_EQUAL(weir_port_send(port, seat->id, "x", 1), -ESTALE);
    MUST_EQUAL(weir_port_send_wait(port, seat->id, "x", 1, WEIR_FOREVER), -ESTALE);
    MUST_EQUAL(weir_port_end(port, seat->id), -ESTALE);
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.messages_sent, never);
    MUST_EQUAL(stats.refusals, 0); /* those are the -EAGAINs */
    weir_port_event event;
    MUST(!weir_port_next(port, &event));
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* From a shard's port to a connection of the same shard it is weir_send(). */
START_TEST(a_shards_port_at_home)
{
    struct hall hall;
    weir_port_stats stats;
    hall_init(&hall, 2);
    MUST_EQUAL(weir_codec_line(&hall.protocol.codec, 100, false), 0);
    hall_open_here(&hall, 2);
    weir_port *port = weir_shard_port(hall_shard(&hall, 0));
    MUST(port != NULL && port == weir_shard_port(hall_shard(&hall, 0)));
    MUST(port != weir_shard_port(hall_shard(&hall, 1)));
    MUST_EQUAL(weir_port_send(port, hall.seats[0].id, "a\nb", 3), -EBADMSG);
    MUST_EQUAL(weir_port_send(port, hall.seats[0].id, (uint8_t[101]){0}, 101), -EMSGSIZE);
    MUST_EQUAL(weir_port_send(port, hall.seats[0].id, "home", 4), 0);
    MUST_EQUAL(weir_send(hall.seats[0].conn, "next", 4), 0); /* the same producer: in order */
    MUST_EQUAL(weir_port_send(port, hall.seats[1].id, "away", 4), 0);
    char got[10];
    visitor_receive(hall.turner, hall.seats[0].visitor, got, 10);
    MUST(memcmp(got, "home\nnext\n", 10) == 0);
    visitor_receive(hall.turner, hall.seats[1].visitor, got, 5);
    MUST(memcmp(got, "away\n", 5) == 0);
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.messages_undelivered, 0);
    hall_close(&hall);
}
END_TEST

/* --- what cannot be delivered comes back --- */

static const weir_protocol *lines_and_short_frames(struct hall *hall, uint32_t number)
{
    static weir_protocol lines, frames;
    weir_codec_line(&lines.codec, 100, false);
    weir_codec_frame(&frames.codec, &(weir_frame_options){.message_max_bytes = 1000});
    hall_speak(hall, &lines);
    hall_speak(hall, &frames);
    return number == 0 ? &lines : &frames;
}

START_TEST(what_the_codec_cannot_carry)
{
    struct hall hall;
    struct tally tally = {0};
    static uint8_t data[5000];
    hall_init(&hall, 2);
    hall.protocol_of = lines_and_short_frames;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    struct seat *line = &hall.seats[0], *frame = &hall.seats[1];
    MUST_EQUAL(weir_port_send(port, line->id, "good", 4), 0);
    MUST_EQUAL(weir_port_send(port, line->id, "a\nb", 3), 0); /* known on its shard only */
    MUST_EQUAL(weir_port_send(port, line->id, "after", 5), 0);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.events[WEIR_PORT_UNDELIVERED], 1);
    MUST_EQUAL(tally.last.error, -EBADMSG);
    MUST(tally.last.id.value == line->id.value);
    MUST_EQUAL(tally.last.messages, 1);
    MUST_EQUAL(tally.last.bytes, 3);
    MUST_EQUAL(weir_port_send(port, frame->id, data, 1001), 0);
    MUST_EQUAL(weir_port_send(port, frame->id, data, 5000), 0); /* as a blob */
    MUST_EQUAL(weir_port_send(port, frame->id, data, 1000), 0);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.last.error, -EMSGSIZE);
    MUST(tally.last.id.value == frame->id.value);
    MUST_EQUAL(tally.undelivered_messages, 3);
    MUST_EQUAL(tally.undelivered_bytes, 3 + 1001 + 5000);
    MUST_EQUAL(weir_port_send(port, line->id, (uint8_t[101]){0}, 101), 0);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.last.error, -EMSGSIZE);
    char got[11];
    visitor_receive(hall.turner, line->visitor, got, 11);
    MUST(memcmp(got, "good\nafter\n", 11) == 0);
    visitor_expect_frame(hall.turner, frame->visitor, data, 1000);
    hall_expect_silence(&hall, line);
    hall_expect_silence(&hall, frame);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(for_one_that_has_ended_meanwhile)
{
    enum { COUNT = 100 };
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall_open_here(&hall, 4);
    weir_port *port = hall_port(&hall);
    struct seat *gone = &hall.seats[1], *stays = &hall.seats[3];
    weir_port_cork(port);
    for (uint32_t i = 0; i < COUNT; i++) { /* accepted, and not yet on their way */
        MUST_EQUAL(hall_send(port, gone, 100, i), 0);
        if (i % 10 == 0)
            MUST_EQUAL(hall_send(port, stays, 100, i), 0);
    }
    MUST_EQUAL(hall_send(port, gone, 10000, 0), 0);
    weir_abort(gone->conn);
    HALL_UNTIL(&hall, atomic_load(&gone->closed) == 1);
    weir_port_uncork(port);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, COUNT + 1);
    MUST_EQUAL(tally.undelivered_bytes, COUNT * 100 + 10000);
    MUST_EQUAL(tally.of[WEIR_PORT_UNDELIVERED].error, -ESTALE);
    MUST(tally.of[WEIR_PORT_UNDELIVERED].id.value == gone->id.value);
    MUST(tally.events[WEIR_PORT_UNDELIVERED] <= COUNT / 10 + 2); /* neighbours are gathered, and those for another lie between */
    MUST_EQUAL(gone->event.undelivered_messages, 0);             /* it never had them */
    for (uint32_t i = 0; i < COUNT; i += 10)
        hall_expect(&hall, stays, 100, i);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(neighbours_are_gathered)
{
    enum { COUNT = 1000 };
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 1);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_port_cork(port);
    for (uint32_t i = 0; i < 2 * COUNT; i++)
        MUST_EQUAL(hall_send(port, &hall.seats[i / COUNT], 10, i), 0);
    weir_abort(hall.seats[0].conn);
    weir_abort(hall.seats[1].conn);
    HALL_UNTIL(&hall, atomic_load(&hall.closes) == 2);
    weir_port_uncork(port);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, 2 * COUNT);
    MUST(tally.events[WEIR_PORT_UNDELIVERED] >= 2 && tally.events[WEIR_PORT_UNDELIVERED] <= 100);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(for_one_that_is_ending)
{
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    struct seat *seat = &hall.seats[1];
    weir_port_cork(port);
    MUST_EQUAL(hall_send(port, seat, 100, 1), 0);
    weir_end(seat->conn); /* and the visitor has not finished yet */
    fixture_turn(hall.turner);
    weir_port_uncork(port);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, 1);
    MUST_EQUAL(tally.last.error, -EPIPE);
    visitor_expect_end(hall.turner, seat->visitor);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- the end of a connection, behind all that was sent --- */

START_TEST(ending_by_port)
{
    enum { COUNT = 200 };
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    roomy(&hall.protocol);
    hall_open_here(&hall, 4);
    weir_port *port = hall_port(&hall);
    struct seat *seat = &hall.seats[1];
    for (uint32_t i = 0; i < COUNT; i++)
        HALL_UNTIL(&hall, (tally_collect(&tally, port), hall_send(port, seat, i % 20 == 0 ? 9000 : 500, i) == 0));
    MUST_EQUAL(weir_port_end(port, seat->id), 0);
    int late = hall_send(port, seat, 5, 0); /* it may be known here already, or not */
    MUST(late == 0 || late == -ESTALE || late == -EPIPE);
    for (uint32_t i = 0; i < COUNT; i++)
        hall_expect(&hall, seat, i % 20 == 0 ? 9000 : 500, i);
    visitor_expect_end(hall.turner, seat->visitor);
    hall_leave(seat);
    HALL_UNTIL(&hall, atomic_load(&seat->closed) == 1);
    MUST_EQUAL(seat->event.reason, WEIR_REASON_LOCAL);
    MUST_EQUAL(seat->event.undelivered_messages, 0);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, late == 0 ? 1 : 0);
    MUST_EQUAL(weir_port_end(port, seat->id), -ESTALE);
    /* By a shard's port: at home at once, away through the port. */
    MUST_EQUAL(weir_end_id(hall_shard(&hall, 0), hall.seats[0].id), 0);
    MUST_EQUAL(weir_send_to(hall_shard(&hall, 0), hall.seats[3].id, "bye", 3), 0);
    MUST_EQUAL(weir_end_id(hall_shard(&hall, 0), hall.seats[3].id), 0);
    visitor_expect_end(hall.turner, hall.seats[0].visitor);
    visitor_expect_frame(hall.turner, hall.seats[3].visitor, "bye", 3);
    visitor_expect_end(hall.turner, hall.seats[3].visitor);
    MUST_EQUAL(weir_end_id(hall_shard(&hall, 0), (weir_id){0}), -ESTALE);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

FIXTURE_MAIN("port sending", sizes_from_nothing_to_a_megabyte, order_and_boundaries, what_is_refused_at_once, a_shards_port_at_home,
             what_the_codec_cannot_carry, for_one_that_has_ended_meanwhile, neighbours_are_gathered, for_one_that_is_ending, ending_by_port)
