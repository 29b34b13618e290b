/* SPDX-License-Identifier: MIT */
/* group crowds: a thousand members, many senders at once, members that come and go meanwhile, and a chat: handlers that send to the
 * group they are in. */
#include "audience.h"
#include "hall.h"

#include <errno.h>

static const weir_id nobody = {0};

static weir_group_stats stats_of(struct hall *hall, weir_group group)
{
    weir_group_stats stats;
    MUST_EQUAL(weir_group_stats_get(hall->runtime, group, &stats), 0);
    return stats;
}

/* Sends until it is accepted, waiting for room as it goes. */
static void send_patiently(weir_port *port, weir_group group, const void *data, uint32_t bytes, struct tally *tally)
{
    int result;
    while ((result = weir_group_send(port, group, data, bytes, nobody)) == -EAGAIN) {
        MUST_EQUAL(weir_port_wait(port, FIXTURE_WAIT_NS), 0);
        tally_collect(tally, port);
    }
    MUST_EQUAL(result, 0);
}

static void join_patiently(weir_port *port, weir_group group, weir_id id, struct tally *tally)
{
    int result;
    while ((result = weir_group_join(port, group, id)) == -EAGAIN) {
        MUST_EQUAL(weir_port_wait(port, FIXTURE_WAIT_NS), 0);
        tally_collect(tally, port);
    }
    MUST_EQUAL(result, 0);
}

static void give_to_audience(struct hall *hall, struct audience *audience, uint32_t producers)
{
    audience_open(audience, hall->seat_count, producers);
    for (uint32_t i = 0; i < hall->seat_count; i++) {
        audience->ears[i].descriptor = hall->seats[i].visitor;
        hall->seats[i].visitor = -1;
    }
    audience_start(audience);
}

/* --- many members, many senders --- */

enum { SENDERS = 4 };

struct sender {
    pthread_t thread;
    struct hall *hall;
    weir_group group;
    uint32_t number, count;
};

static void *send_all(void *user)
{
    struct sender *sender = user;
    struct tally tally = {0};
    static _Thread_local uint8_t data[6000];
    weir_port *port = hall_port(sender->hall);
    for (uint32_t sequence = 0; sequence < sender->count; sequence++) {
        uint32_t bytes = sequence % 20 == 19 ? 5000 : 40;
        audience_fill(data, bytes, sender->number, sequence);
        send_patiently(port, sender->group, data, bytes, &tally);
        if (sequence % 50 == 49)
            fixture_sleep_ns(WEIR_MILLISECOND);
    }
    MUST_EQUAL(weir_port_flush(port, 4 * FIXTURE_WAIT_NS), 0);
    weir_port_close(&port);
    return NULL;
}

START_TEST(a_thousand_members)
{
    enum { SEATS = LIVE_SANITIZED ? 200 : 1000, COUNT = LIVE_SANITIZED ? 60 : 200 };
    struct hall hall;
    struct audience audience;
    struct sender senders[SENDERS];
    struct tally tally = {0};
    weir_group group;
    hall_init(&hall, 2);
    hall.protocol.limits.high_water_bytes = 4 << 20; /* nobody is refused */
    hall.config.memory_bytes = UINT64_C(1) << 30;
    hall_open_apart(&hall, SEATS);
    give_to_audience(&hall, &audience, SENDERS);
    MUST_EQUAL(weir_group_open(hall.runtime, &group), 0);
    weir_port *port = hall_port(&hall);
    for (uint32_t i = 0; i < SEATS; i++)
        join_patiently(port, group, hall.seats[i].id, &tally);
    UNTIL(NULL, stats_of(&hall, group).members == SEATS);
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.hall = &hall, .group = group, .number = i, .count = COUNT};
        MUST_EQUAL(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    for (uint32_t i = 0; i < SENDERS; i++)
        MUST_EQUAL(pthread_join(senders[i].thread, NULL), 0);
    uint64_t all = (uint64_t)SENDERS * COUNT * SEATS;
    MUST_EQUAL(stats_of(&hall, group).delivered, all);
    MUST_EQUAL(stats_of(&hall, group).refused, 0);
    UNTIL(NULL, atomic_load(&audience.messages) == all);
    for (uint32_t i = 0; i < SEATS; i++) {
        for (uint32_t sender = 0; sender < SENDERS; sender++)
            MUST_EQUAL(audience.ears[i].next[sender], COUNT);
    }
    weir_port_close(&port);
    weir_stop(hall.runtime);
    audience_finish(&audience);
    audience_close(&audience);
    hall_close(&hall);
    MUST_EQUAL(hall.stats.messages_out, all);
}
END_TEST

/* --- come and go --- */

struct comer {
    pthread_t thread;
    struct hall *hall;
    weir_group group;
    uint32_t first, last;
    atomic_bool *over;
};

static void *come_and_go(void *user)
{
    struct comer *comer = user;
    struct tally tally = {0};
    weir_port *port = hall_port(comer->hall);
    for (uint32_t round = 0; !atomic_load(comer->over); round++) {
        for (uint32_t i = comer->first; i < comer->last; i++) {
            int result = (i + round) % 3 == 0 ? weir_group_leave(port, comer->group, comer->hall->seats[i].id)
                                              : weir_group_join(port, comer->group, comer->hall->seats[i].id);
            MUST(result == 0 || result == -EAGAIN || result == -ESTALE);
            if (round % 16 == 15 && i % 16 == 0)
                weir_port_end(port, comer->hall->seats[i].id);
        }
        tally_collect(&tally, port);
        fixture_sleep_ns(WEIR_MILLISECOND);
    }
    weir_port_close(&port);
    return NULL;
}

START_TEST(members_come_and_go)
{
    enum { SEATS = 100, COUNT = 2000 / LIVE_SLOWER };
    struct hall hall;
    struct audience audience;
    struct sender senders[2];
    struct comer comers[2];
    atomic_bool over = false;
    weir_group group;
    hall_init(&hall, 2);
    hall_open_apart(&hall, SEATS);
    audience_open(&audience, SEATS, 2);
    audience.gaps = true;
    for (uint32_t i = 0; i < SEATS; i++) {
        audience.ears[i].descriptor = hall.seats[i].visitor;
        audience.ears[i].leave_after = i % 5 == 0 ? 20 + 10 * i : 0;
        hall.seats[i].visitor = -1;
    }
    audience_start(&audience);
    MUST_EQUAL(weir_group_open(hall.runtime, &group), 0);
    for (uint32_t i = 0; i < 2; i++) {
        comers[i] = (struct comer){.hall = &hall, .group = group, .first = i * SEATS / 2, .last = (i + 1) * SEATS / 2, .over = &over};
        MUST_EQUAL(pthread_create(&comers[i].thread, NULL, come_and_go, &comers[i]), 0);
        senders[i] = (struct sender){.hall = &hall, .group = group, .number = i, .count = COUNT};
        MUST_EQUAL(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    for (uint32_t i = 0; i < 2; i++)
        MUST_EQUAL(pthread_join(senders[i].thread, NULL), 0);
    atomic_store(&over, true);
    for (uint32_t i = 0; i < 2; i++)
        MUST_EQUAL(pthread_join(comers[i].thread, NULL), 0);
    weir_stop(hall.runtime);
    audience_finish(&audience);
    MUST(atomic_load(&audience.messages) > 0);
    audience_close(&audience);
    hall_stop(&hall);
    weir_group_stats stats = stats_of(&hall, group);
    MUST_EQUAL(stats.members, 0); /* all have ended */
    hall_close(&hall);
    MUST_EQUAL(hall.stats.messages_sent, stats.delivered);
}
END_TEST

/* --- many groups --- */

START_TEST(many_groups)
{
    enum { GROUPS = 256, SEATS = 32 };
    struct hall hall;
    static weir_group groups[GROUPS];
    static uint8_t data[64];
    hall_init(&hall, 2);
    hall_open_here(&hall, SEATS);
    weir_port *port = hall_port(&hall);
    for (uint32_t i = 0; i < GROUPS; i++) {
        MUST_EQUAL(weir_group_open(hall.runtime, &groups[i]), 0);
        for (uint32_t seat = i % 7; seat < SEATS; seat += 7)
            HALL_UNTIL(&hall, weir_group_join(port, groups[i], hall.seats[seat].id) == 0);
    }
    for (uint32_t i = 0; i < GROUPS; i++) {
        fixture_fill(data, sizeof data, i);
        HALL_UNTIL(&hall, weir_group_send(port, groups[i], data, sizeof data, nobody) == 0);
    }
    for (uint32_t i = 0; i < GROUPS; i++) {
        for (uint32_t seat = i % 7; seat < SEATS; seat += 7)
            hall_expect(&hall, &hall.seats[seat], sizeof data, i);
    }
    for (uint32_t i = 0; i < GROUPS; i += 2)
        MUST_EQUAL(weir_group_close(hall.runtime, groups[i]), 0);
    weir_port_close(&port);
    hall_close(&hall); /* the others are still open */
}
END_TEST

/* --- a chat: what one says, all others hear --- */

static int say_to_all(struct seat *seat, weir_conn *conn, const weir_message *message)
{
    weir_group *group = seat->hall->user;
    int result = weir_group_send(weir_shard_port(weir_conn_shard(conn)), *group, message->data, message->bytes, seat->id);
    return result == -EAGAIN ? WEIR_LATER : result;
}

static void say_again(weir_shard *shard, const weir_port_event *event)
{
    struct hall *hall = hall_of(shard);
    MUST_EQUAL(event->kind, WEIR_PORT_ROOM);
    for (uint32_t i = 0; i < hall->seat_count; i++) {
        if (hall->seats[i].shard == weir_shard_index(shard) && hall->seats[i].conn != NULL)
            weir_resume(hall->seats[i].conn);
    }
}

START_TEST(a_chat)
{
    enum { SEATS = 10, COUNT = 2000 / LIVE_SLOWER };
    struct hall hall;
    struct audience audience;
    struct tally tally = {0};
    weir_group group;
    static uint8_t frame[4 + 100];
    uint32_t bytes = 100;
    int speakers[SEATS];
    hall_init(&hall, 2);
    hall.config.ring_bytes = 16 * KIB;
    hall.config.on_port_event = say_again;
    hall.on_message = say_to_all;
    hall.user = &group;
    hall.protocol.limits.high_water_bytes = 32 << 20;
    hall_open_apart(&hall, SEATS);
    for (uint32_t i = 0; i < SEATS; i++)
        speakers[i] = dup(hall.seats[i].visitor);
    give_to_audience(&hall, &audience, SEATS);
    MUST_EQUAL(weir_group_open(hall.runtime, &group), 0);
    weir_port *port = hall_port(&hall);
    for (uint32_t i = 0; i < SEATS; i++)
        join_patiently(port, group, hall.seats[i].id, &tally);
    UNTIL(NULL, stats_of(&hall, group).members == SEATS);
    for (uint32_t sequence = 0; sequence < COUNT; sequence++) {
        for (uint32_t i = 0; i < SEATS; i++) {
            memcpy(frame, &bytes, 4);
            audience_fill(frame + 4, bytes, i, sequence);
            visitor_send(NULL, speakers[i], frame, sizeof frame);
        }
    }
    UNTIL(NULL, atomic_load(&audience.messages) == (uint64_t)SEATS * (SEATS - 1) * COUNT);
    for (uint32_t i = 0; i < SEATS; i++) {
        for (uint32_t speaker = 0; speaker < SEATS; speaker++)
            MUST_EQUAL(audience.ears[i].next[speaker], i == speaker ? 0 : COUNT);
        close(speakers[i]);
    }
    weir_port_close(&port);
    weir_stop(hall.runtime);
    audience_finish(&audience);
    audience_close(&audience);
    hall_close(&hall);
}
END_TEST

FIXTURE_MAIN("group crowds", a_thousand_members, members_come_and_go, many_groups, a_chat)
