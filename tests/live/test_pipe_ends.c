/* SPDX-License-Identifier: MIT */
/* pipe ends: how the end of one connection becomes the end of the other: half-closed, finished, reset, ended here, stopped; and many
 * pipes on weir's threads, with sums that close. */
#include "audience.h"
#include "hall.h"

#include <errno.h>

struct joint {
    struct hall hall;
    struct seat *a, *b;
};

/* Joined by a's thread, on one shard or across two. */
static void joint_open(struct joint *joint, bool across, bool tcp)
{
    memset(joint, 0, sizeof *joint);
    hall_init(&joint->hall, 2);
    joint->hall.tcp = tcp;
    weir_codec_raw(&joint->hall.protocol.codec);
    joint->hall.protocol.limits.drain_ns = FIXTURE_SLOWER * 5 * WEIR_SECOND;
    hall_open_here(&joint->hall, 3);
    joint->a = &joint->hall.seats[0];
    joint->b = &joint->hall.seats[across ? 1 : 2];
    MUST_EQUAL(weir_pipe(joint->a->conn, joint->b->id), 0);
    hall_pass(&joint->hall, MILLISECONDS(5));
}

static void say(struct joint *joint, struct seat *from, struct seat *to, uint32_t bytes, uint64_t seed)
{
    static uint8_t data[200000], got[200000];
    fixture_fill(data, bytes, seed);
    visitor_send(joint->hall.turner, from->visitor, data, bytes);
    visitor_receive(joint->hall.turner, to->visitor, got, bytes);
    MUST(memcmp(got, data, bytes) == 0);
}

static void expect_reasons(struct joint *joint, weir_reason a, weir_reason b)
{
    HALL_UNTIL(&joint->hall, atomic_load(&joint->a->closed) == 1 && atomic_load(&joint->b->closed) == 1);
    if (joint->a->event.reason != a || joint->b->event.reason != b)
        ck_abort_msg("a ended with %s, b with %s; expected were %s and %s", weir_reason_name(joint->a->event.reason),
                     weir_reason_name(joint->b->event.reason), weir_reason_name(a), weir_reason_name(b));
}

/* The four cases: a's end or b's, at home or across; over unix sockets or TCP. */
#define FOR_EACH_CASE(joint)                                                                                                               \
    for (int bits = 0; bits < 8; bits++)                                                                                                   \
        for (bool once = (joint_open(&(joint), (bits & 1) != 0, (bits & 4) != 0), true); once; once = (hall_close(&(joint).hall), false))  \
            for (struct seat *first = bits & 2 ? (joint).b : (joint).a, *second = bits & 2 ? (joint).a : (joint).b; first != NULL;         \
                 first = NULL)

START_TEST(half_closed_each_way)
{
    struct joint joint;
    FOR_EACH_CASE(joint)
    {
        say(&joint, first, second, 100, 1);
        static uint8_t data[150000], got[150000];
        fixture_fill(data, sizeof data, 2);
        visitor_send(joint.hall.turner, first->visitor, data, sizeof data);
        shutdown(first->visitor, SHUT_WR); /* behind everything that came before it */
        visitor_receive(joint.hall.turner, second->visitor, got, sizeof got);
        MUST(memcmp(got, data, sizeof got) == 0);
        visitor_expect_end(joint.hall.turner, second->visitor);
        hall_pass(&joint.hall, MILLISECONDS(30));
        say(&joint, second, first, 100000, 3); /* the other way goes on */
        say(&joint, second, first, 7, 4);
        MUST_EQUAL(atomic_load(&joint.hall.closes), 0);
        shutdown(second->visitor, SHUT_WR);
        visitor_expect_end(joint.hall.turner, first->visitor);
        expect_reasons(&joint, WEIR_REASON_PEER, WEIR_REASON_PEER);
        MUST_EQUAL(joint.a->event.undelivered_bytes + joint.b->event.undelivered_bytes, 0);
    }
}
END_TEST

/* The whole of a request and its end are there before the other side reads anything. */
START_TEST(the_end_waits_for_the_data)
{
    struct joint joint;
    FOR_EACH_CASE(joint)
    {
        static uint8_t data[1000000], got[1000000];
        size_t written = 0;
        fixture_fill(data, sizeof data, 5);
        for (int quiet = 0; quiet < 30 && written < sizeof data;) {
            ssize_t sent = send(first->visitor, data + written, sizeof data - written, MSG_NOSIGNAL);
            written += sent > 0 ? (size_t)sent : 0;
            quiet = sent > 0 ? 0 : quiet + 1;
            fixture_turn(joint.hall.turner);
        }
        shutdown(first->visitor, SHUT_WR);
        hall_pass(&joint.hall, MILLISECONDS(20));
        visitor_receive(joint.hall.turner, second->visitor, got, written);
        MUST(memcmp(got, data, written) == 0);
        visitor_expect_end(joint.hall.turner, second->visitor);
        hall_leave(second);
        visitor_expect_end(joint.hall.turner, first->visitor);
        hall_leave(first);
        expect_reasons(&joint, WEIR_REASON_PEER, WEIR_REASON_PEER);
    }
}
END_TEST

START_TEST(a_reset_is_carried_over)
{
    for (int bits = 0; bits < 4; bits++) {
        struct joint joint;
        joint_open(&joint, (bits & 1) != 0, true);
        struct seat *first = bits & 2 ? joint.b : joint.a, *second = bits & 2 ? joint.a : joint.b;
        say(&joint, first, second, 1000, 1);
        visitor_reset(first->visitor);
        first->visitor = -1;
        visitor_expect_reset(joint.hall.turner, second->visitor);
        expect_reasons(&joint, bits & 2 ? WEIR_REASON_ABORTED : WEIR_REASON_RESET, bits & 2 ? WEIR_REASON_RESET : WEIR_REASON_ABORTED);
        hall_close(&joint.hall);
    }
}
END_TEST

START_TEST(ended_here)
{
    struct joint joint;
    FOR_EACH_CASE(joint)
    {
        say(&joint, first, second, 1000, 1);
        weir_end(first->conn);
        visitor_expect_end(joint.hall.turner, first->visitor);
        hall_leave(first);
        visitor_expect_end(joint.hall.turner, second->visitor);
        hall_leave(second);
        expect_reasons(&joint, WEIR_REASON_LOCAL, WEIR_REASON_LOCAL);
    }
}
END_TEST

START_TEST(aborted_here)
{
    for (int bits = 0; bits < 4; bits++) {
        struct joint joint;
        joint_open(&joint, (bits & 1) != 0, true);
        struct seat *first = bits & 2 ? joint.b : joint.a, *second = bits & 2 ? joint.a : joint.b;
        say(&joint, second, first, 1000, 1);
        weir_abort(first->conn);
        visitor_expect_reset(joint.hall.turner, first->visitor);
        visitor_expect_reset(joint.hall.turner, second->visitor);
        expect_reasons(&joint, WEIR_REASON_ABORTED, WEIR_REASON_ABORTED);
        hall_close(&joint.hall);
    }
}
END_TEST

/* When one ends in any other way, the other is ended gracefully: here the first's peer dribbles a frame for too long, or sends one too
 * big. */
START_TEST(ended_by_a_limit)
{
    for (int bits = 0; bits < 4; bits++) {
        struct hall hall;
        hall_init(&hall, 2);
        weir_codec_frame(&hall.protocol.codec, &(weir_frame_options){.message_max_bytes = 1000});
        hall.protocol.limits.message_ns = MILLISECONDS(50);
        hall_open_here(&hall, 3);
        struct seat *a = &hall.seats[0], *b = &hall.seats[bits & 1 ? 1 : 2];
        MUST_EQUAL(weir_pipe(a->conn, b->id), 0);
        visitor_send_frame(hall.turner, a->visitor, "whole", 5);
        visitor_send(hall.turner, a->visitor, bits & 2 ? "\1\0\1\0" : "\5\0\0\0h", bits & 2 ? 4 : 5);
        visitor_expect_frame(hall.turner, b->visitor, "whole", 5);
        visitor_expect_end(hall.turner, b->visitor);
        hall_leave(b);
        HALL_UNTIL(&hall, atomic_load(&b->closed) == 1);
        MUST_EQUAL(b->event.reason, WEIR_REASON_LOCAL);
        hall_leave(a);
        HALL_UNTIL(&hall, atomic_load(&a->closed) == 1);
        MUST_EQUAL(a->event.reason, bits & 2 ? WEIR_REASON_TOO_BIG : WEIR_REASON_MESSAGE_LATE);
        hall_close(&hall);
    }
}
END_TEST

START_TEST(stopped)
{
    for (int across = 0; across < 2; across++) {
        struct joint joint;
        joint_open(&joint, across != 0, false);
        say(&joint, joint.a, joint.b, 1000, 1);
        weir_stop(joint.hall.runtime);
        visitor_expect_end(joint.hall.turner, joint.a->visitor);
        visitor_expect_end(joint.hall.turner, joint.b->visitor);
        hall_leave(joint.a);
        hall_leave(joint.b);
        hall_leave(&joint.hall.seats[across ? 2 : 1]);
        HALL_UNTIL(&joint.hall, atomic_load(&joint.hall.closes) == 3);
        MUST(joint.a->event.reason == WEIR_REASON_STOPPED || joint.a->event.reason == WEIR_REASON_LOCAL);
        MUST(joint.b->event.reason == WEIR_REASON_STOPPED || joint.b->event.reason == WEIR_REASON_LOCAL);
        HALL_UNTIL(&joint.hall, joint.hall.fixture.over_count == 2);
        hall_close(&joint.hall);
    }
}
END_TEST

/* --- many pipes on weir's threads --- */

enum { PIPES = 32 };

static void join_next(weir_shard *shard, void *user)
{
    struct seat *seat = user, *next = seat + (seat->number % 8 < 4 ? 2 : 1);
    weir_conn *conn = weir_find(shard, seat->id);
    int result = conn == NULL ? -ESTALE : weir_pipe(conn, next->id);
    if (result == 0)
        return;
    if (conn != NULL) /* either may have ended meanwhile; the other would wait for the pipe for ever */
        weir_abort(conn);
    (void)weir_end_id(shard, next->id);
}

/* What comes before a shard has heard of the pipe waits for it. */
static int wait_for_the_pipe(struct seat *seat, weir_conn *conn, const weir_message *message)
{
    (void)seat;
    (void)conn;
    (void)message;
    return WEIR_LATER;
}

/* Of each eight seats 0 is joined to 2 and 1 to 3, at home; 4 to 5 and 6 to 7, across. */
static void join_all(struct hall *hall, weir_port *port)
{
    for (uint32_t i = 0; i < hall->seat_count; i += 8) {
        for (uint32_t j = 0; j < 4; j++) {
            struct seat *seat = &hall->seats[i + (j < 2 ? j : j == 2 ? 4 : 6)];
            MUST_EQUAL(weir_post(port, hall_shard(hall, seat->shard), join_next, seat), 0);
        }
    }
}

struct talker {
    pthread_t thread;
    int descriptor;
    uint32_t number, count;
    bool finishes;
};

static void *talk(void *user)
{
    struct talker *talker = user;
    static _Thread_local uint8_t frame[4 + 30000];
    for (uint32_t sequence = 0; sequence < talker->count; sequence++) {
        uint32_t bytes = 8 + (sequence * 7919 + talker->number) % (sequence % 20 == 0 ? 29000 : 800);
        memcpy(frame, &bytes, 4);
        audience_fill(frame + 4, bytes, talker->number, sequence);
        visitor_send(NULL, talker->descriptor, frame, bytes + 4);
    }
    if (talker->finishes)
        shutdown(talker->descriptor, SHUT_WR);
    return NULL;
}

static void many_pipes(bool tcp, uint32_t slow_bytes)
{
    enum { SEATS = 2 * PIPES, COUNT = 600 / FIXTURE_SLOWER };
    struct hall hall;
    struct audience audience;
    static struct talker talkers[SEATS];
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall.tcp = tcp;
    hall.on_message = wait_for_the_pipe;
    hall.send_buffer_bytes = 32 * KIB;
    hall.protocol.limits.high_water_bytes = 64 * KIB;
    hall.config.ring_bytes = 128 * KIB;
    hall_open_apart(&hall, SEATS);
    weir_port *port = hall_port(&hall);
    join_all(&hall, port);
    tally_settle(&tally, &hall, port);
    audience_open(&audience, SEATS, SEATS);
    for (uint32_t i = 0; i < SEATS; i++) {
        audience.ears[i].descriptor = dup(hall.seats[i].visitor);
        audience.ears[i].slow_bytes = i % 8 == 0 ? slow_bytes : 0;
        talkers[i] = (struct talker){.descriptor = hall.seats[i].visitor, .number = i, .count = COUNT, .finishes = true};
        MUST_EQUAL(pthread_create(&talkers[i].thread, NULL, talk, &talkers[i]), 0);
    }
    audience_start(&audience);
    for (uint32_t i = 0; i < SEATS; i++)
        MUST_EQUAL(pthread_join(talkers[i].thread, NULL), 0);
    audience_finish(&audience);
    uint64_t heard = 0;
    for (uint32_t i = 0; i < SEATS; i++) {
        MUST_EQUAL(audience_heard(&audience, i), COUNT);
        MUST_EQUAL(audience.ears[i].error, 0);
        heard += audience.ears[i].messages;
    }
    MUST_EQUAL(heard, SEATS * COUNT);
    audience_close(&audience);
    weir_port_close(&port);
    UNTIL(NULL, atomic_load(&hall.closes) == SEATS);
    for (uint32_t i = 0; i < SEATS; i++)
        MUST_EQUAL(hall.seats[i].event.reason, WEIR_REASON_PEER);
    hall_close(&hall);
}

START_TEST(many_pipes_at_full_speed)
{
    many_pipes(false, 0);
}
END_TEST

START_TEST(many_pipes_with_slow_ends)
{
    many_pipes(true, 20000);
}
END_TEST

/* Ends at the worst moment: visitors that close or reset in mid-stream, on either side, while both ways are full. */
START_TEST(ends_in_mid_stream)
{
    enum { SEATS = 2 * PIPES };
    for (uint32_t round = 0; round < 3; round++) {
        struct hall hall;
        static uint8_t data[8192];
        struct tally tally = {0};
        hall_init(&hall, 2);
        hall.tcp = round != 0;
        hall.on_message = wait_for_the_pipe;
        weir_codec_raw(&hall.protocol.codec);
        hall_open_apart(&hall, SEATS);
        weir_port *port = hall_port(&hall);
        join_all(&hall, port);
        uint64_t end_ns = fixture_clock_ns() + MILLISECONDS(300);
        for (uint32_t tick = 0; fixture_clock_ns() < end_ns; tick++) {
            for (uint32_t i = 0; i < SEATS; i++) {
                struct seat *seat = &hall.seats[i];
                if (seat->visitor < 0)
                    continue;
                (void)!send(seat->visitor, data, sizeof data, MSG_NOSIGNAL);
                if (tick % 3 != 0)
                    hall_take_all(seat);
                if ((tick + i * 7) % 97 != 96 || i % 3 != round)
                    continue;
                if (tick % 2 == 0 && hall.tcp)
                    visitor_reset(seat->visitor);
                else
                    close(seat->visitor);
                seat->visitor = -1;
            }
            fixture_sleep_ns(200 * WEIR_MICROSECOND);
        }
        tally_settle(&tally, &hall, port);
        weir_port_close(&port);
        hall_close(&hall); /* checks that all sums close and all memory went home */
    }
}
END_TEST

FIXTURE_MAIN("pipe ends", half_closed_each_way, the_end_waits_for_the_data, a_reset_is_carried_over, ended_here, aborted_here,
             ended_by_a_limit, stopped, many_pipes_at_full_speed, many_pipes_with_slow_ends, ends_in_mid_stream)
