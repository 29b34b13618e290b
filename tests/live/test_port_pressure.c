/* SPDX-License-Identifier: MIT */
/* port pressure: no room on a connection, in a ring, of memory, for events; what tells that there is room again; and every way to wait
 * for it. */
#include "hall.h"

#include <errno.h>
#include <sys/epoll.h>

#define SMALL_RING (16 * KIB)

/* A connection above its high-water mark soon: the kernel takes little, weir not much more. */
static void narrow(struct hall *hall, uint32_t shards)
{
    hall_init(hall, shards);
    hall->send_buffer_bytes = 16 * KIB;
    hall->protocol.limits.high_water_bytes = 100000;
    hall->protocol.limits.low_water_bytes = 30000;
}

/* --- no room on the connection --- */

START_TEST(above_the_mark_until_ready)
{
    struct hall hall;
    struct tally tally = {0};
    weir_port_stats stats;
    narrow(&hall, 2);
    hall_open_here(&hall, 4);
    weir_port *port = hall_port(&hall);
    struct seat *seat = &hall.seats[1];
    uint64_t sent = 0, got = 0;
    int result;
    while ((result = hall_send(port, seat, 1000, sent)) == 0) {
        MUST(++sent < 1000); /* the mark, the kernel's buffer, and what is under way */
        fixture_turn(hall.turner);
    }
    MUST_EQUAL(result, -EAGAIN);
    MUST_EQUAL(hall_send(port, seat, 1, 0), -EAGAIN);
    MUST_EQUAL(hall_send(port, &hall.seats[3], 1000, 7), 0); /* a neighbour on the same shard is not concerned */
    hall_expect(&hall, &hall.seats[3], 1000, 7);
    hall_pass(&hall, MILLISECONDS(30));
    MUST_EQUAL(tally_collect(&tally, port), 0); /* nothing has left */
    while (hall_queued_bytes(seat) > 30000) {
        MUST_EQUAL(tally_collect(&tally, port), 0);
        hall_expect(&hall, seat, 1000, got++);
        fixture_turn(hall.turner);
    }
    HALL_UNTIL(&hall, tally_collect(&tally, port) > 0);
    MUST_EQUAL(tally.events[WEIR_PORT_READY], 1); /* once for two refusals */
    MUST_EQUAL(tally.last.kind, WEIR_PORT_READY);
    MUST(tally.last.id.value == seat->id.value);
    MUST_EQUAL(hall_send(port, seat, 1000, sent++), 0);
    while (got < sent)
        hall_expect(&hall, seat, 1000, got++);
    hall_pass(&hall, MILLISECONDS(30));
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.events[WEIR_PORT_READY], 1);
    MUST_EQUAL(tally.undelivered_messages, 0);
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.messages_taken, sent + 1);
    MUST_EQUAL(stats.refusals, 2);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* What was accepted before the mark was seen is taken, also above it. */
START_TEST(what_is_under_way_is_taken)
{
    struct hall hall;
    struct tally tally = {0};
    narrow(&hall, 2);
    hall.config.ring_bytes = 1 * MIB;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    struct seat *seat = &hall.seats[1];
    weir_port_cork(port);
    uint64_t sent = 0;
    while (sent < 400 && hall_send(port, seat, 1000, sent) == 0)
        sent++;
    MUST_EQUAL(sent, 400); /* four times the mark */
    weir_port_uncork(port);
    hall_settle(&hall, seat);
    MUST(hall_queued_bytes(seat) > 200000);
    MUST_EQUAL(hall_send(port, seat, 1, 0), -EAGAIN);
    for (uint64_t i = 0; i < sent; i++)
        hall_expect(&hall, seat, 1000, i);
    HALL_UNTIL(&hall, (tally_collect(&tally, port), tally.events[WEIR_PORT_READY] == 1));
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, 0);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* Fills it until it answers -EAGAIN; nobody reads. How many were accepted. */
static uint64_t fill(struct hall *hall, weir_port *port, struct seat *seat, uint32_t bytes)
{
    uint64_t sent = 0;
    int result;
    while ((result = hall_send(port, seat, bytes, sent)) == 0) {
        MUST(++sent < 100000);
        fixture_turn(hall->turner);
    }
    MUST_EQUAL(result, -EAGAIN);
    return sent;
}

START_TEST(ready_when_it_has_ended)
{
    struct hall hall;
    struct tally tally = {0};
    narrow(&hall, 2);
    hall_open_here(&hall, 4);
    weir_port *port = hall_port(&hall);
    for (uint32_t i = 0; i < 4; i++) { /* by each way */
        struct seat *seat = &hall.seats[i];
        fill(&hall, port, seat, 1000);
        if (i == 0)
            weir_abort(seat->conn);
        else if (i == 1)
            hall_leave(seat);
        else if (i == 2)
            weir_abort(weir_find(hall_shard(&hall, 0), seat->id));
        else
            weir_end(seat->conn); /* gracefully, and it never gets rid of what is queued: drain_ns are long */
        if (i == 3)
            hall_leave(seat);
        HALL_UNTIL(&hall, (tally_collect(&tally, port), tally.events[WEIR_PORT_READY] == i + 1));
        MUST(tally.of[WEIR_PORT_READY].id.value == seat->id.value);
        HALL_UNTIL(&hall, atomic_load(&seat->closed) == 1);
        MUST_EQUAL(hall_send(port, seat, 1, 0), -ESTALE);
    }
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.events[WEIR_PORT_READY], 4);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- no room in the ring --- */

START_TEST(a_full_ring_and_room)
{
    struct hall hall;
    struct tally tally = {0};
    weir_port_stats stats;
    hall_init(&hall, 2);
    hall.config.ring_bytes = SMALL_RING;
    hall_open_here(&hall, 4);
    weir_port *port = hall_port(&hall);
    uint64_t refusals = 0;
    for (uint32_t round = 0; round < 5; round++) { /* nobody turns */
        uint64_t sent = 0, bytes = round == 4 ? 1 : 10 + 100 * round;
        int result;
        while ((result = hall_send(port, &hall.seats[1], (uint32_t)bytes, sent)) == 0)
            MUST(++sent < SMALL_RING);
        MUST_EQUAL(result, -EAGAIN);
        MUST(sent * (bytes + 64) >= SMALL_RING / 2);                              /* most of the ring was of use */
        MUST_EQUAL(hall_send(port, &hall.seats[3], (uint32_t)bytes, 0), -EAGAIN); /* another connection, the same ring */
        MUST_EQUAL(hall_send(port, &hall.seats[0], 77, round), 0);                /* another ring */
        refusals += 2;
        MUST_EQUAL(tally_collect(&tally, port), 0);
        HALL_UNTIL(&hall, tally_collect(&tally, port) > 0);
        MUST_EQUAL(tally.events[WEIR_PORT_ROOM], round + 1);
        MUST_EQUAL(tally.last.shard, 1);
        MUST_EQUAL(tally.last.kind, WEIR_PORT_ROOM);
        for (uint64_t i = 0; i < sent; i++)
            hall_expect(&hall, &hall.seats[1], (uint32_t)bytes, i);
        hall_expect(&hall, &hall.seats[0], 77, round);
        tally_settle(&tally, &hall, port);
        MUST_EQUAL(tally.events[WEIR_PORT_ROOM], round + 1);
    }
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.refusals, refusals);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* Nobody collects: what comes back needs room, too, so sends are refused sooner or later, and nothing is lost. */
START_TEST(events_that_nobody_collects)
{
    struct hall hall;
    struct tally tally = {0};
    weir_port_stats stats;
    hall_init(&hall, 2);
    hall.config.ring_bytes = SMALL_RING;
    MUST_EQUAL(weir_codec_line(&hall.protocol.codec, 100, false), 0);
    hall_open_here(&hall, 4);
    weir_port *port = hall_port(&hall);
    uint64_t sent = 0, refused_in_a_row = 0;
    while (refused_in_a_row < 50) { /* of connections in turn, so that hardly any are neighbours */
        int result = weir_port_send(port, hall.seats[1 + sent % 2 * 2].id, "a\nb", 3);
        MUST(result == 0 || result == -EAGAIN);
        sent += result == 0;
        refused_in_a_row = result == 0 ? 0 : refused_in_a_row + 1;
        MUST(sent < 1000000);
        if (result != 0 || sent % 7 == 0)
            fixture_turn(hall.turner);
    }
    MUST_EQUAL(weir_port_send(port, hall.seats[0].id, "good", 4), 0); /* the other shard's ring is not concerned */
    MUST(tally_collect(&tally, port) > 0);
    HALL_UNTIL(&hall, (tally_collect(&tally, port), tally.events[WEIR_PORT_ROOM] > 0));
    MUST_EQUAL(weir_port_send(port, hall.seats[1].id, "good", 4), 0);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, sent);
    MUST_EQUAL(tally.undelivered_bytes, sent * 3);
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.messages_sent, sent + 2);
    MUST_EQUAL(stats.messages_taken, 2);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- no memory for a blob --- */

START_TEST(blobs_have_a_bound)
{
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall.config.port_bytes = 64 * KIB;
    hall.send_buffer_bytes = 16 * KIB;
    hall.protocol.limits.high_water_bytes = 1 << 20;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    uint64_t sent = 0, got = 0;
    int result;
    MUST_EQUAL(hall_send(port, &hall.seats[1], 65 * KIB, 0), -ENOMEM); /* it would never fit */
    while ((result = hall_send(port, &hall.seats[1], 15000, sent)) == 0) {
        MUST(++sent <= 10);
        fixture_turn(hall.turner);
    }
    MUST_EQUAL(result, -EAGAIN);
    MUST(sent >= 3);
    MUST_EQUAL(hall_send(port, &hall.seats[1], 3000, 1000), 0); /* a small one needs none */
    while (got < sent)
        hall_expect(&hall, &hall.seats[1], 15000, got++);
    hall_expect(&hall, &hall.seats[1], 3000, 1000);
    HALL_UNTIL(&hall, (tally_collect(&tally, port), tally.events[WEIR_PORT_ROOM] > 0));
    for (uint32_t i = 0; i < 100; i++) { /* and they come home each time */
        HALL_UNTIL(&hall, (tally_collect(&tally, port), hall_send(port, &hall.seats[i % 2], 15000, i) == 0));
        hall_expect(&hall, &hall.seats[i % 2], 15000, i);
    }
    tally_settle(&tally, &hall, port);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(the_allocator_has_nothing)
{
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(hall_send(port, &hall.seats[1], 10, 1), 0); /* the rings are there */
    hall_expect(&hall, &hall.seats[1], 10, 1);
    atomic_store(&hall.account.fail_from, 1);
    atomic_store(&hall.account.fail_to, INT64_MAX);
    int result = hall_send(port, &hall.seats[1], 500000, 2);
    int first_to_other = hall_send(port, &hall.seats[0], 10, 3); /* needs rings */
    fixture_turn_for(hall.turner, MILLISECONDS(20));
    atomic_store(&hall.account.fail_from, 0);
    MUST(result == -EAGAIN || result == -ENOMEM);
    MUST(first_to_other == -EAGAIN || first_to_other == -ENOMEM || first_to_other == 0);
    HALL_UNTIL(&hall, (tally_collect(&tally, port), hall_send(port, &hall.seats[1], 500000, 2) == 0));
    hall_expect(&hall, &hall.seats[1], 500000, 2);
    if (first_to_other != 0)
        HALL_UNTIL(&hall, (tally_collect(&tally, port), hall_send(port, &hall.seats[0], 10, 3) == 0));
    hall_expect(&hall, &hall.seats[0], 10, 3);
    tally_settle(&tally, &hall, port);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- waiting --- */

static uint64_t since(uint64_t start_ns)
{
    return fixture_clock_ns() - start_ns;
}

START_TEST(waiting_has_an_end)
{
    struct hall hall;
    struct tally tally = {0};
    static uint8_t data[1000];
    narrow(&hall, 2);
    hall_open_apart(&hall, 2);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(weir_port_wait(port, 0), -ETIMEDOUT); /* nothing has happened yet */
    uint64_t start_ns = fixture_clock_ns();
    MUST_EQUAL(weir_port_wait(port, MILLISECONDS(50)), -ETIMEDOUT);
    MUST(since(start_ns) >= MILLISECONDS(50));
    int result;
    uint64_t sent = 0;
    while ((result = weir_port_send_wait(port, hall.seats[1].id, data, 1000, MILLISECONDS(50))) == 0)
        MUST(++sent < 10000);
    MUST_EQUAL(result, -ETIMEDOUT);
    start_ns = fixture_clock_ns();
    MUST_EQUAL(weir_port_send_wait(port, hall.seats[1].id, data, 1000, MILLISECONDS(80)), -ETIMEDOUT);
    MUST(since(start_ns) >= MILLISECONDS(80));
    start_ns = fixture_clock_ns();
    MUST_EQUAL(weir_port_send_wait(port, hall.seats[1].id, data, 1000, 0), -ETIMEDOUT); /* not at all */
    MUST(since(start_ns) < MILLISECONDS(50) * FIXTURE_SLOWER);
    MUST_EQUAL(weir_port_flush(port, FIXTURE_WAIT_NS), 0); /* the shard has it all; the peer has not */
    MUST_EQUAL(weir_port_flush(port, 0), 0);
    tally_collect(&tally, port);
    /* An event ends a wait. */
    MUST_EQUAL(weir_port_send(port, hall.seats[1].id, data, 1000), -EAGAIN);
    HALL_UNTIL(&hall, (hall_take_all(&hall.seats[1]), weir_port_wait(port, MILLISECONDS(1)) == 0));
    MUST(tally_collect(&tally, port) > 0);
    MUST_EQUAL(weir_port_wait(port, 0), -ETIMEDOUT);
    HALL_UNTIL(&hall, (hall_take_all(&hall.seats[1]), hall_queued_bytes(&hall.seats[1]) == 0));
    tally_settle(&tally, &hall, port);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

static void *read_later(void *user)
{
    struct seat *seat = user;
    for (int i = 0; i < 100; i++) {
        fixture_sleep_ns(MILLISECONDS(i == 0 ? 100 : 1));
        hall_take_all(seat); /* what the kernel has; the shard fills it up again */
    }
    return NULL;
}

static void *end_later(void *user)
{
    struct seat *seat = user;
    fixture_sleep_ns(MILLISECONDS(100));
    hall_leave(seat);
    return NULL;
}

static void *stop_later(void *user)
{
    struct hall *hall = user;
    fixture_sleep_ns(MILLISECONDS(100));
    weir_stop(hall->runtime);
    return NULL;
}

START_TEST(a_wait_for_ever_ends_with_its_cause)
{
    struct hall hall;
    struct tally tally = {0};
    static uint8_t data[1000];
    pthread_t thread;
    narrow(&hall, 2);
    hall.config.stop_ns = MILLISECONDS(300);
    hall_open_apart(&hall, 2);
    weir_port *port = hall_port(&hall);
    for (uint32_t i = 0; i < 3; i++) {
        struct seat *seat = &hall.seats[i == 2 ? 0 : 1];
        while (weir_port_send_wait(port, seat->id, data, 1000, MILLISECONDS(30)) == 0)
            continue;
        MUST_EQUAL(pthread_create(&thread, NULL, i == 0 ? read_later : i == 1 ? end_later : stop_later, i == 2 ? (void *)&hall : seat), 0);
        int result = weir_port_send_wait(port, seat->id, data, 1000, WEIR_FOREVER);
        while (i > 0 && result == 0) /* some find room before it ends */
            result = weir_port_send_wait(port, seat->id, data, 1000, WEIR_FOREVER);
        MUST(i == 0 ? result == 0 : result == -EPIPE || result == -ESTALE || (i == 2 && result == -ESHUTDOWN));
        MUST_EQUAL(pthread_join(thread, NULL), 0);
    }
    UNTIL(NULL, atomic_load(&hall.runner.over));
    tally_settle(&tally, &hall, port);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* Waits keep events for weir_port_next(): there is a bound to that, and nothing is lost at it. */
START_TEST(too_many_events_are_kept)
{
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall.config.ring_bytes = SMALL_RING;
    MUST_EQUAL(weir_codec_line(&hall.protocol.codec, 100, false), 0);
    hall_open_apart(&hall, 4);
    weir_port *port = hall_port(&hall);
    uint64_t sent = 0;
    int result;
    while ((result = weir_port_send_wait(port, hall.seats[sent % 4].id, "a\nb", 3, FIXTURE_WAIT_NS)) == 0)
        MUST(++sent < 20000000);
    MUST_EQUAL(result, -ENOBUFS);
    while ((result = weir_port_send_wait(port, hall.seats[0].id, "good", 4, FIXTURE_WAIT_NS)) == -ENOBUFS)
        MUST(tally_collect(&tally, port) > 0);
    MUST_EQUAL(result, 0);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.undelivered_messages, sent);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(a_shards_port_never_waits)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    weir_port *port = weir_shard_port(hall_shard(&hall, 0));
    for (uint32_t i = 0; i < 2; i++)
        MUST_EQUAL(weir_port_send_wait(port, hall.seats[i].id, "x", 1, WEIR_FOREVER), -EDEADLK);
    MUST_EQUAL(weir_port_wait(port, WEIR_FOREVER), -EDEADLK);
    MUST_EQUAL(weir_port_flush(port, WEIR_FOREVER), -EDEADLK);
    MUST_EQUAL(weir_port_descriptor(port), -EDEADLK);
    hall_expect_silence(&hall, &hall.seats[0]);
    hall_expect_silence(&hall, &hall.seats[1]);
    hall_close(&hall);
}
END_TEST

/* --- flush --- */

START_TEST(flush_means_taken)
{
    struct hall hall;
    struct tally tally = {0};
    weir_port_stats stats;
    hall_init(&hall, 2);
    hall.protocol.limits.high_water_bytes = 8 << 20;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(weir_port_flush(port, 0), 0); /* nothing was sent */
    for (uint32_t i = 0; i < 20; i++)
        MUST_EQUAL(hall_send(port, &hall.seats[i % 2], 2000, i), 0);
    MUST_EQUAL(weir_port_flush(port, 0), -ETIMEDOUT); /* nobody turns */
    MUST_EQUAL(weir_turn(hall_shard(&hall, 0), &(uint64_t){0}), 0);
    MUST_EQUAL(weir_port_flush(port, MILLISECONDS(5)), -ETIMEDOUT); /* one of the two */
    HALL_UNTIL(&hall, weir_port_flush(port, 0) == 0);
    tally_collect(&tally, port);
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.messages_taken, 20);
    for (uint32_t i = 0; i < 20; i++)
        hall_expect(&hall, &hall.seats[i % 2], 2000, i);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- in an epoll loop of one's own --- */

enum { LOOP_SENDS = 40000 / FIXTURE_SLOWER };

struct loop_reader {
    pthread_t thread;
    struct seat *seat;
};

static void *read_slowly(void *user)
{
    struct loop_reader *reader = user;
    for (uint64_t i = 0; i < LOOP_SENDS; i++) {
        hall_expect(reader->seat->hall, reader->seat, 200, i);
        if (i % 1000 == 0)
            fixture_sleep_ns(MILLISECONDS(5));
    }
    return NULL;
}

START_TEST(a_descriptor_for_an_epoll_loop)
{
    struct hall hall;
    struct tally tally = {0};
    struct loop_reader readers[2];
    narrow(&hall, 2);
    hall.config.ring_bytes = SMALL_RING;
    hall_open_apart(&hall, 2);
    weir_port *port = hall_port(&hall);
    int descriptor = weir_port_descriptor(port), epoll = epoll_create1(EPOLL_CLOEXEC);
    MUST(descriptor >= 0);
    MUST_EQUAL(weir_port_descriptor(port), descriptor);
    MUST_EQUAL(epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &(struct epoll_event){.events = EPOLLIN}), 0);
    for (uint32_t i = 0; i < 2; i++) {
        readers[i].seat = &hall.seats[i];
        MUST_EQUAL(pthread_create(&readers[i].thread, NULL, read_slowly, &readers[i]), 0);
    }
    uint64_t sent[2] = {0}, wakes = 0;
    while (sent[0] + sent[1] < 2 * LOOP_SENDS) {
        for (uint32_t i = 0; i < 2; i++) {
            while (sent[i] < LOOP_SENDS && hall_send(port, &hall.seats[i], 200, sent[i]) == 0)
                sent[i]++;
        }
        if (sent[0] + sent[1] == 2 * LOOP_SENDS)
            break;
        while (tally_collect(&tally, port) == 0) {
            struct epoll_event event;
            int count = epoll_wait(epoll, &event, 1, FIXTURE_SLOWER * 10000);
            if (count == 0)
                ck_abort_msg("a wake-up was lost: %u and %u sent, and nothing is told", (unsigned)sent[0], (unsigned)sent[1]);
            MUST(++wakes < 4 * LOOP_SENDS); /* it does not stay readable for nothing */
        }
    }
    for (uint32_t i = 0; i < 2; i++)
        MUST_EQUAL(pthread_join(readers[i].thread, NULL), 0);
    tally_settle(&tally, &hall, port);
    MUST(tally.events[WEIR_PORT_READY] + tally.events[WEIR_PORT_ROOM] > 0);
    /* Quiet now: nothing to read after next() has answered false. */
    struct epoll_event event;
    uint32_t idle = 0;
    while (epoll_wait(epoll, &event, 1, 50) != 0) {
        tally_collect(&tally, port);
        MUST(++idle < 10);
    }
    weir_port_close(&port);
    close(epoll);
    hall_close(&hall);
}
END_TEST

FIXTURE_MAIN("port pressure", above_the_mark_until_ready, what_is_under_way_is_taken, ready_when_it_has_ended, a_full_ring_and_room,
             events_that_nobody_collects, blobs_have_a_bound, the_allocator_has_nothing, waiting_has_an_end,
             a_wait_for_ever_ends_with_its_cause, too_many_events_are_kept, a_shards_port_never_waits, flush_means_taken,
             a_descriptor_for_an_epoll_loop)
