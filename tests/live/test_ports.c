/* SPDX-License-Identifier: MIT */
/* ports: opening and closing them, also with something under way; cork; and two threads in one port. */
#include "hall.h"

#include <errno.h>

#include "tests/unit/death.h"

static void roomy(weir_protocol *protocol)
{
    protocol->limits.high_water_bytes = 16 << 20;
    protocol->limits.hard_limit_bytes = 32 << 20;
}

/* --- opening and closing --- */

START_TEST(opening_and_closing)
{
    struct hall hall;
    weir_port *ports[3] = {0}, *more = (weir_port *)&hall;
    weir_error error = {0};
    hall_init(&hall, 2);
    hall.config.ports = 3;
    hall.config.channels = 65;
    hall_open_here(&hall, 2);
    weir_port_close(&ports[0]); /* NULL is left alone */
    MUST_EQUAL(weir_port_open(hall.runtime, &(weir_port_options){.channels = 66}, &more, &error), -EINVAL);
    MUST(more == NULL);
    for (int i = 0; i < 3; i++)
        MUST_EQUAL(weir_port_open(hall.runtime, &(weir_port_options){.channels = i == 0 ? 65 : 0}, &ports[i], NULL), 0);
    MUST_EQUAL(weir_port_open(hall.runtime, NULL, &more, &error), -ENOSPC);
    MUST(more == NULL);
    MUST_EQUAL(error.code, -ENOSPC);
    MUST(error.sentence[0] != '\0');
    for (int i = 0; i < 3; i++)
        MUST_EQUAL(hall_send(ports[i], &hall.seats[i % 2], 100, i), 0);
    for (int i = 0; i < 3; i++) {
        hall_expect(&hall, &hall.seats[i % 2], 100, i);
        weir_port_close(&ports[i]);
        MUST(ports[i] == NULL);
        weir_port_close(&ports[i]);
    }
    for (int i = 0; i < 500; i++) { /* a place that was given back can be had again, once the shards have let go of it */
        HALL_UNTIL(&hall, weir_port_open(hall.runtime, NULL, &ports[0], NULL) == 0);
        MUST_EQUAL(hall_send(ports[0], &hall.seats[i % 2], 50, i), 0);
        weir_port_close(&ports[0]);
        hall_expect(&hall, &hall.seats[i % 2], 50, i);
    }
    hall_close(&hall);
}
END_TEST

START_TEST(no_opening_while_stopping)
{
    struct hall hall;
    weir_port *port = (weir_port *)&hall;
    weir_error error = {0};
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    weir_stop(hall.runtime);
    MUST_EQUAL(weir_port_open(hall.runtime, NULL, &port, &error), -ESHUTDOWN);
    MUST(port == NULL);
    MUST_EQUAL(error.code, -ESHUTDOWN);
    hall_close(&hall);
}
END_TEST

START_TEST(opening_without_memory)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    uint32_t refused = 0;
    for (int64_t nth = 1; nth < 20; nth++) { /* each allocation that it may make fails once */
        weir_port *port = (weir_port *)&hall;
        int64_t before = atomic_load(&hall.account.refused);
        atomic_store(&hall.account.fail_from, atomic_load(&hall.account.calls) + nth);
        atomic_store(&hall.account.fail_to, atomic_load(&hall.account.fail_from));
        int result = weir_port_open(hall.runtime, NULL, &port, NULL);
        if (atomic_load(&hall.account.refused) != before) {
            MUST_EQUAL(result, -ENOMEM);
            MUST(port == NULL);
            refused++;
        } else {
            MUST_EQUAL(result, 0);
        }
        atomic_store(&hall.account.fail_from, 0);
        weir_port_close(&port);
        fixture_settle(hall.turner);
    }
    MUST(refused > 0);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(hall_send(port, &hall.seats[1], 10, 1), 0);
    hall_expect(&hall, &hall.seats[1], 10, 1);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

enum { OPENERS = 8, OPENINGS = 120 / FIXTURE_SLOWER, OPENER_SEATS = 4, OPENER_SENDS = 5 };

struct opener {
    pthread_t thread;
    struct hall *hall;
    uint64_t sent;
};

static void *open_and_close(void *user)
{
    struct opener *opener = user;
    for (uint32_t round = 0; round < OPENINGS; round++) {
        weir_port *port = NULL;
        UNTIL(NULL, weir_port_open(opener->hall->runtime, NULL, &port, NULL) == 0);
        for (uint32_t i = 0; i < OPENER_SENDS; i++) {
            const struct seat *seat = &opener->hall->seats[(round + i) % OPENER_SEATS];
            MUST_EQUAL(weir_port_send_wait(port, seat->id, "from a port that lives for a moment", 35, FIXTURE_WAIT_NS), 0);
            opener->sent++;
        }
        weir_port_close(&port);
    }
    return NULL;
}

START_TEST(many_at_once_from_any_thread)
{
    struct hall hall;
    struct opener openers[OPENERS] = {0};
    hall_init(&hall, 2);
    roomy(&hall.protocol);
    hall_open_apart(&hall, OPENER_SEATS);
    for (int i = 0; i < OPENERS; i++) {
        openers[i].hall = &hall;
        MUST_EQUAL(pthread_create(&openers[i].thread, NULL, open_and_close, &openers[i]), 0);
    }
    uint64_t expected = (uint64_t)OPENERS * OPENINGS * OPENER_SENDS * 39, got = 0;
    HALL_UNTIL(&hall, ({
        for (int i = 0; i < OPENER_SEATS; i++)
            got += hall_take_all(&hall.seats[i]);
        got >= expected;
    }));
    for (int i = 0; i < OPENERS; i++)
        MUST_EQUAL(pthread_join(openers[i].thread, NULL), 0);
    hall_pass(&hall, MILLISECONDS(20));
    for (int i = 0; i < OPENER_SEATS; i++)
        MUST_EQUAL(hall_take_all(&hall.seats[i]), 0);
    MUST_EQUAL(got, expected);
    hall_close(&hall);
    MUST_EQUAL(hall.stats.messages_sent, (uint64_t)OPENERS * OPENINGS * OPENER_SENDS);
}
END_TEST

START_TEST(closing_gives_back)
{
    struct hall hall;
    hall_init(&hall, 4);
    hall_open_here(&hall, 4);
    for (int round = 0; round < 3; round++) {
        fixture_settle(hall.turner);
        int64_t before_bytes = atomic_load(&hall.account.bytes);
        weir_port *port = hall_port(&hall);
        int64_t idle_bytes = atomic_load(&hall.account.bytes) - before_bytes;
        MUST_EQUAL(hall_send(port, &hall.seats[2], 100, 1), 0);
        hall_expect(&hall, &hall.seats[2], 100, 1);
        int64_t sent_bytes = atomic_load(&hall.account.bytes) - before_bytes;
        if (idle_bytes > 40000 ||
            sent_bytes - idle_bytes > 200000) /* some 80 KiB for the one shard that it has sent to, and a block or two there */
            ck_abort_msg("an idle port has %d bytes, one that sent to one shard %d more", (int)idle_bytes, (int)(sent_bytes - idle_bytes));
        weir_port_close(&port);
        HALL_UNTIL(&hall, atomic_load(&hall.account.bytes) <= before_bytes + (round == 0 ? 150000 : 0)); /* the shard keeps some blocks */
    }
    hall_close(&hall);
}
END_TEST

static void *send_from_here(void *user)
{
    struct hall *hall = user;
    MUST_EQUAL(hall_send(hall->user, &hall->seats[0], 300, 2), 0);
    return NULL;
}

START_TEST(handed_over_to_another_thread)
{
    struct hall hall;
    struct tally tally = {0};
    pthread_t thread;
    hall_init(&hall, 2);
    hall_open_apart(&hall, 1);
    weir_port *port = hall.user = hall_port(&hall);
    MUST_EQUAL(hall_send(port, &hall.seats[0], 300, 1), 0);
    MUST_EQUAL(pthread_create(&thread, NULL, send_from_here, &hall), 0);
    MUST_EQUAL(pthread_join(thread, NULL), 0);
    MUST_EQUAL(hall_send(port, &hall.seats[0], 300, 3), 0);
    for (uint64_t i = 1; i <= 3; i++)
        hall_expect(&hall, &hall.seats[0], 300, i);
    tally_settle(&tally, &hall, port);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- closing a port with something under way --- */

START_TEST(closed_with_messages_under_way)
{
    enum { COUNT = 400 };
    struct hall hall;
    hall_init(&hall, 2);
    roomy(&hall.protocol);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_port_cork(port); /* not even published */
    for (uint32_t i = 0; i < COUNT; i++)
        MUST_EQUAL(hall_send(port, &hall.seats[i % 2], i % 40 == 0 ? 20000 : 60, i), 0);
    weir_port_close(&port);
    for (uint32_t i = 0; i < COUNT; i++)
        hall_expect(&hall, &hall.seats[i % 2], i % 40 == 0 ? 20000 : 60, i);
    /* What cannot be delivered then has nobody to be told to: the shards count it. */
    MUST_EQUAL(hall_stats(&hall).messages_orphaned, 0);
    port = hall_port(&hall);
    weir_port_cork(port);
    for (uint32_t i = 0; i < 7; i++)
        MUST_EQUAL(hall_send(port, &hall.seats[0], i == 0 ? 5000 : 10, i), 0);
    weir_abort(hall.seats[0].conn);
    HALL_UNTIL(&hall, atomic_load(&hall.seats[0].closed) == 1);
    weir_port_close(&port);
    HALL_UNTIL(&hall, hall_stats(&hall).messages_orphaned == 7);
    hall_close(&hall);
    MUST_EQUAL(hall.stats.messages_orphaned, 7);
}
END_TEST

/* What shards have on the way to each other when the runtime is closed: connections are cut, and nothing is left behind. */
START_TEST(closing_the_runtime_with_shards_talking)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall_open_here(&hall, 4);
    static uint8_t data[6000];
    for (uint32_t i = 0; i < 50; i++) {
        for (uint32_t from = 0; from < 2; from++)
            MUST_EQUAL(weir_send_to(hall_shard(&hall, from), hall.seats[1 - from].id, data, i % 5 == 0 ? 6000 : 100), 0);
        if (i == 25)
            MUST_EQUAL(weir_turn(hall_shard(&hall, 0), &(uint64_t){0}), 0);
    }
    weir_close(&hall.runtime); /* and not hall_close(): no turn any more */
    MUST_EQUAL(atomic_load(&hall.closes), 4);
    MUST_EQUAL(atomic_load(&hall.account.pieces), 0);
    for (uint32_t i = 0; i < 4; i++)
        close(hall.seats[i].visitor);
    free(hall.seats);
}
END_TEST

/* --- cork --- */

START_TEST(corked_sends_collect)
{
    struct hall hall;
    struct tally tally = {0};
    weir_port_stats before, after;
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    for (uint32_t round = 0; round < 3; round++) {
        weir_port_stats_get(port, &before);
        weir_port_cork(port);
        for (uint32_t i = 0; i < 10; i++)
            MUST_EQUAL(hall_send(port, &hall.seats[1], 50, i), 0);
        hall_expect_silence(&hall, &hall.seats[1]);
        weir_port_stats_get(port, &after);
        MUST_EQUAL(after.messages_sent, before.messages_sent + 10);
        MUST_EQUAL(after.messages_taken, before.messages_taken);
        if (round < 2)
            weir_port_uncork(port);
        else
            (void)weir_port_flush(port, 0); /* publishes, too */
        for (uint32_t i = 0; i < 10; i++)
            hall_expect(&hall, &hall.seats[1], 50, i);
        if (round == 2)
            weir_port_uncork(port);
        tally_settle(&tally, &hall, port);
        weir_port_stats_get(port, &after);
        MUST_EQUAL(after.messages_taken, before.messages_taken + 10);
        MUST_EQUAL(after.publishes, before.publishes + 1); /* ten at once */
    }
    weir_port_stats_get(port, &before);
    for (uint32_t i = 0; i < 10; i++) { /* uncorked: each by itself */
        MUST_EQUAL(hall_send(port, &hall.seats[1], 50, i), 0);
        hall_expect(&hall, &hall.seats[1], 50, i);
    }
    weir_port_stats_get(port, &after);
    MUST_EQUAL(after.publishes, before.publishes + 10);
    MUST(after.wakes <= after.publishes);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(a_full_ring_publishes_by_itself)
{
    struct hall hall;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall.config.ring_bytes = 16 * KIB;
    roomy(&hall.protocol);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_port_cork(port);
    uint64_t sent = 0;
    while (hall_send(port, &hall.seats[1], 1000, sent) == 0)
        MUST(++sent < 100);
    for (uint64_t i = 0; i < sent; i++) /* still corked */
        hall_expect(&hall, &hall.seats[1], 1000, i);
    weir_port_uncork(port);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.events[WEIR_PORT_ROOM], 1);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- idle --- */

START_TEST(idle_ports_wake_nobody)
{
    struct hall hall;
    struct tally tally = {0};
    weir_port_stats before, after;
    weir_channel *channel = NULL;
    weir_group group;
    hall_init(&hall, 2);
    hall_open_apart(&hall, 2);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(weir_channel_open(port, hall.seats[1].id, NULL, &channel), 0);
    MUST_EQUAL(weir_channel_send(channel, "by channel", 10), 0);
    MUST_EQUAL(weir_group_open(hall.runtime, &group), 0);
    for (uint32_t i = 0; i < 2; i++)
        MUST_EQUAL(weir_group_join(port, group, hall.seats[i].id), 0);
    visitor_expect_frame(NULL, hall.seats[1].visitor, "by channel", 10);
    tally_settle(&tally, &hall, port);
    fixture_sleep_ns(MILLISECONDS(300));
    uint64_t turns = hall_stats(&hall).turns;
    fixture_sleep_ns(MILLISECONDS(1000));
    MUST_EQUAL(hall_stats(&hall).turns, turns);
    weir_port_stats_get(port, &before);
    MUST_EQUAL(hall_send(port, &hall.seats[0], 100, 1), 0); /* one wake for one message to a shard that sleeps */
    hall_expect(&hall, &hall.seats[0], 100, 1);
    weir_port_stats_get(port, &after);
    MUST_EQUAL(after.publishes, before.publishes + 1);
    MUST_EQUAL(after.wakes, before.wakes + 1);
    weir_channel_close(&channel);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- misuse --- */

static struct hall misused;

static void *wait_inside(void *user)
{
    static uint8_t data[4000];
    while (weir_port_send_wait(user, misused.seats[0].id, data, sizeof data, 30 * WEIR_SECOND) == 0)
        continue;
    return NULL;
}

static void two_threads_in_one_port(void)
{
    pthread_t thread;
    weir_port_event event;
    hall_init(&misused, 1);
    hall_open_apart(&misused, 1); /* whose visitor does not read */
    weir_port *port = hall_port(&misused);
    pthread_create(&thread, NULL, wait_inside, port);
    fixture_sleep_ns(FIXTURE_SLOWER * MILLISECONDS(700)); /* it waits for room by now */
    weir_port_next(port, &event);
    weir_port_send(port, misused.seats[0].id, "x", 1);
}

START_TEST(two_threads_in_one_port_are_found_out)
{
    struct death death = death_of(two_threads_in_one_port);
    if (!death_is_abort(&death, "port") || !death_is_abort(&death, "thread"))
        ck_abort_msg("two threads in a port: status %x, saying \"%s\"", (unsigned)death.status, death.said);
}
END_TEST

static void leave_a_port_open(void)
{
    hall_init(&misused, 1);
    hall_open_here(&misused, 1);
    hall_port(&misused);
    weir_close(&misused.runtime);
}

static void close_a_shards_port(void)
{
    hall_init(&misused, 1);
    hall_open_here(&misused, 1);
    weir_port *port = weir_shard_port(misused.fixture.shard);
    weir_port_close(&port);
}

static void take_a_shards_port_elsewhere(void)
{
    hall_init(&misused, 1);
    hall_open_apart(&misused, 1);
    weir_shard_port(hall_shard(&misused, 0));
}

static void *send_by_a_shards_port(void *user)
{
    weir_port_send(user, misused.seats[0].id, "x", 1);
    return NULL;
}

static void send_by_a_shards_port_elsewhere(void)
{
    pthread_t thread;
    hall_init(&misused, 1);
    hall_open_here(&misused, 1);
    pthread_create(&thread, NULL, send_by_a_shards_port, weir_shard_port(misused.fixture.shard));
    pthread_join(thread, NULL);
}

START_TEST(misuse_is_found_out)
{
    struct {
        void (*how)(void);
        const char *saying;
    } ways[] = {{leave_a_port_open, "port"},
                {close_a_shards_port, "shard"},
                {take_a_shards_port_elsewhere, "thread"},
                {send_by_a_shards_port_elsewhere, "thread"}};
    for (uint32_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct death death = death_of(ways[i].how);
        if (!death_is_abort(&death, ways[i].saying))
            ck_abort_msg("misuse %u: status %x, saying \"%s\"", i, (unsigned)death.status, death.said);
    }
}
END_TEST

FIXTURE_MAIN("ports", opening_and_closing, no_opening_while_stopping, opening_without_memory, many_at_once_from_any_thread,
             closing_gives_back, handed_over_to_another_thread, closed_with_messages_under_way, closing_the_runtime_with_shards_talking,
             corked_sends_collect, a_full_ring_publishes_by_itself, idle_ports_wake_nobody, two_threads_in_one_port_are_found_out,
             misuse_is_found_out)
