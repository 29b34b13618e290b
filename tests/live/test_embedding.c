/* SPDX-License-Identifier: MIT */
/* embedding: the embedder turns the shards on his own thread and sleeps on weir's descriptor beside his own. */
#include "fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* --- the embedder: a loop as the header shows it, with a bell of his own in the same epoll --- */

struct embedder {
    weir_config config;
    weir_protocol protocol;
    uint32_t epoll_flags;
    int bell;
    weir_runtime *runtime;
    struct place place;
    atomic_uint_fast64_t rings; /* how often he heard his bell */
    atomic_bool listening, sleeping;
    uint64_t late_finds;
    pthread_t thread;
};

static void embedder_loop(struct embedder *embedder)
{
    weir_shard *shard = weir_shard_at(embedder->runtime, 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event weirs = {.events = EPOLLIN | embedder->epoll_flags, .data.fd = weir_turn_descriptor(shard)};
    struct epoll_event own = {.events = EPOLLIN, .data.fd = embedder->bell};
    MUST(weirs.data.fd >= 0);
    MUST_EQUAL(epoll_ctl(epoll, EPOLL_CTL_ADD, weirs.data.fd, &weirs), 0);
    MUST_EQUAL(epoll_ctl(epoll, EPOLL_CTL_ADD, own.data.fd, &own), 0);
    embedder->place = fixture_listen(embedder->runtime, NULL, &embedder->protocol);
    atomic_store(&embedder->listening, true);
    uint64_t sleep_ns = 0;
    int result;
    while ((result = weir_turn(shard, &sleep_ns)) == 0) {
        struct epoll_event events[4];
        int timeout = sleep_ns == 0 ? 0 : sleep_ns == WEIR_FOREVER ? -1 : (int)(sleep_ns / 1000000 + 1);
        atomic_store(&embedder->sleeping, timeout == -1);
        int count = epoll_wait(epoll, events, 4, timeout);
        for (int i = 0; i < count; i++) {
            uint64_t value;
            if (events[i].data.fd == embedder->bell && read(embedder->bell, &value, sizeof value) == sizeof value)
                atomic_fetch_add(&embedder->rings, value);
        }
    }
    MUST_EQUAL(result, -ESHUTDOWN);
    close(epoll);
}

static void *embedder_run(void *user)
{
    struct embedder *embedder = user;
    weir_error error;
    if (weir_open(&embedder->config, &embedder->runtime, &error) != 0)
        ck_abort_msg("weir_open: %s", error.sentence);
    embedder_loop(embedder);
    weir_stats stats;
    weir_runtime_stats(embedder->runtime, &stats);
    embedder->late_finds = stats.late_finds;
    weir_close(&embedder->runtime);
    return NULL;
}

static void embedder_start(struct embedder *embedder, uint32_t epoll_flags)
{
    memset(embedder, 0, sizeof *embedder);
    embedder->config = (weir_config){.shards = 1, .connections = 256};
    weir_codec_frame(&embedder->protocol.codec, NULL);
    embedder->protocol.on_message = fixture_echo;
    embedder->epoll_flags = epoll_flags;
    embedder->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    MUST_EQUAL(pthread_create(&embedder->thread, NULL, embedder_run, embedder), 0);
    UNTIL(NULL, atomic_load(&embedder->listening));
}

static void embedder_stop(struct embedder *embedder)
{
    weir_stop(embedder->runtime); /* wakes him out of a sleep without end */
    MUST_EQUAL(pthread_join(embedder->thread, NULL), 0);
    MUST_EQUAL(embedder->late_finds, 0);
    close(embedder->bell);
}

#define VISITORS 100

/* All ready at once; then the same with pauses of all lengths about the length of a wake-up, to hit each point of going to sleep. */
static void round_of_visitors(int descriptors[VISITORS], uint32_t round, bool spread)
{
    uint8_t message[64];
    for (uint32_t i = 0; i < VISITORS; i++) {
        if (spread && i % 10 == 0)
            fixture_sleep_ns((round * 7919 + i * 104729) % 80000);
        fixture_fill(message, sizeof message, (uint64_t)round << 32 | i);
        visitor_send_frame(NULL, descriptors[i], message, sizeof message);
    }
    for (uint32_t i = 0; i < VISITORS; i++) {
        fixture_fill(message, sizeof message, (uint64_t)round << 32 | i);
        struct pollfd wait = {.fd = descriptors[i], .events = POLLIN};
        if (poll(&wait, 1, FIXTURE_SLOWER * 10000) != 1)
            ck_abort_msg("a wake-up was lost: round %u, visitor %u has no answer", round, i);
        visitor_expect_frame(NULL, descriptors[i], message, sizeof message);
    }
}

static void no_wake_is_lost(uint32_t epoll_flags)
{
    struct embedder embedder;
    embedder_start(&embedder, epoll_flags);
    int descriptors[VISITORS];
    for (int i = 0; i < VISITORS; i++)
        descriptors[i] = visitor_dial(embedder.place.address);
    uint32_t rounds = 400 / FIXTURE_SLOWER;
    uint64_t one = 1;
    for (uint32_t round = 0; round < rounds; round++) {
        MUST_EQUAL(write(embedder.bell, &one, sizeof one), sizeof one);
        round_of_visitors(descriptors, round, round % 2 == 1);
    }
    /* One at a time, each from a deep sleep. */
    for (uint32_t round = 0; round < rounds; round++) {
        uint8_t message[8];
        fixture_fill(message, sizeof message, round);
        visitor_send_frame(NULL, descriptors[round % VISITORS], message, sizeof message);
        visitor_expect_frame(NULL, descriptors[round % VISITORS], message, sizeof message);
    }
    UNTIL(NULL, atomic_load(&embedder.rings) == rounds);
    for (int i = 0; i < VISITORS; i++)
        close(descriptors[i]);
    embedder_stop(&embedder);
}

START_TEST(level_triggered_loses_no_wake)
{
    no_wake_is_lost(0);
}
END_TEST

START_TEST(edge_triggered_loses_no_wake)
{
    no_wake_is_lost(EPOLLET);
}
END_TEST

START_TEST(stop_wakes_a_sleeper)
{
    struct embedder embedder;
    embedder_start(&embedder, EPOLLET);
    UNTIL(NULL, atomic_load(&embedder.sleeping));
    fixture_sleep_ns(MILLISECONDS(50)); /* now he really sleeps */
    embedder_stop(&embedder);
}
END_TEST

START_TEST(listen_elsewhere_wakes_a_sleeper)
{
    struct embedder embedder;
    embedder_start(&embedder, EPOLLET);
    UNTIL(NULL, atomic_load(&embedder.sleeping));
    fixture_sleep_ns(MILLISECONDS(50));
    struct place place = fixture_listen(embedder.runtime, NULL, &embedder.protocol);
    int visitor = visitor_dial(place.address);
    visitor_send_frame(NULL, visitor, "hello", 5);
    visitor_expect_frame(NULL, visitor, "hello", 5);
    close(visitor);
    embedder_stop(&embedder);
}
END_TEST

/* --- what the turn answers --- */

static void note_timer(weir_shard *shard, weir_timer *timer, void *user)
{
    (void)shard;
    (void)timer;
    ++*(uint32_t *)user;
}

START_TEST(sleep_is_bounded_by_timers_alone)
{
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    struct witness witness;
    witness_start(&witness);
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    int visitor = visitor_dial(place.address);
    UNTIL(&fixture, witness.opened == 1);
    fixture_settle(&fixture);
    MUST(fixture.sleep_ns == WEIR_FOREVER);
    uint32_t fired = 0;
    weir_timer timer = {0};
    weir_timer_set(fixture.shard, &timer, MILLISECONDS(400), note_timer, &fired);
    fixture_settle(&fixture);
    MUST(fixture.sleep_ns > 0 && fixture.sleep_ns <= MILLISECONDS(400) + MILLISECONDS(400) / 64 + MILLISECONDS(1));
    MUST_EQUAL(fired, 0);
    weir_timer_clear(fixture.shard, &timer);
    fixture_turn_for(&fixture, MILLISECONDS(500));
    MUST_EQUAL(fired, 0);
    fixture_settle(&fixture);
    MUST(fixture.sleep_ns == WEIR_FOREVER);
    close(visitor);
    fixture_close(&fixture);
    MUST_EQUAL(witness.closed, 1);
    witness_finish(&witness);
}
END_TEST

static int turn_inside(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    uint64_t sleep_ns = 0;
    *(int *)witness->user = weir_turn(weir_conn_shard(conn), &sleep_ns);
    return fixture_echo(conn, message);
}

static void turn_inside_timer(weir_shard *shard, weir_timer *timer, void *user)
{
    (void)timer;
    uint64_t sleep_ns = 0;
    *(int *)user = weir_turn(shard, &sleep_ns);
}

START_TEST(a_turn_inside_a_turn_is_refused)
{
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    struct witness witness;
    witness_start(&witness);
    int answer = 1, timer_answer = 1;
    witness.on_message = turn_inside;
    witness.user = &answer;
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    int visitor = visitor_dial(place.address);
    visitor_send_frame(&fixture, visitor, "again", 5);
    visitor_expect_frame(&fixture, visitor, "again", 5);
    MUST_EQUAL(answer, -EDEADLK);
    weir_timer timer = {0};
    weir_timer_set(fixture.shard, &timer, 1, turn_inside_timer, &timer_answer);
    UNTIL(&fixture, timer_answer != 1);
    MUST_EQUAL(timer_answer, -EDEADLK);
    visitor_send_frame(&fixture, visitor, "on it goes", 10);
    visitor_expect_frame(&fixture, visitor, "on it goes", 10);
    close(visitor);
    fixture_close(&fixture);
    witness_finish(&witness);
}
END_TEST

struct stranger {
    weir_shard *shard;
    int answer;
    pid_t id;
};

static void *stranger_turns(void *user)
{
    struct stranger *stranger = user;
    uint64_t sleep_ns = 0;
    stranger->id = gettid();
    stranger->answer = weir_turn(stranger->shard, &sleep_ns);
    return NULL;
}

static void note_both_names(void *user, weir_log_level level, const char *sentence)
{
    (void)level;
    size_t used = strlen(user);
    snprintf((char *)user + used, 4096 - used, "%s\n", sentence);
}

START_TEST(a_turn_on_another_thread_is_refused)
{
    char log[4096] = "";
    struct fixture fixture;
    fixture_open(&fixture, &(weir_config){.log = note_both_names, .log_user = log});
    log[0] = '\0';
    struct stranger stranger = {.shard = fixture.shard, .answer = 1};
    pthread_t thread;
    MUST_EQUAL(pthread_create(&thread, NULL, stranger_turns, &stranger), 0);
    MUST_EQUAL(pthread_join(thread, NULL), 0);
    MUST_EQUAL(stranger.answer, -EPERM);
    char his[16], mine[16];
    snprintf(his, sizeof his, "%d", (int)stranger.id);
    snprintf(mine, sizeof mine, "%d", (int)gettid());
    if (strstr(log, his) == NULL || strstr(log, mine) == NULL)
        ck_abort_msg("the log names both threads, %s and %s; it says: %s", his, mine, log);
    fixture_turn(&fixture); /* still ours */
    MUST_EQUAL(fixture.over_count, 0);
    fixture_close(&fixture);
}
END_TEST

struct span {
    uint32_t started, stopped;
    pid_t started_on, stopped_on;
};

static void note_start(weir_shard *shard)
{
    struct span *span = weir_runtime_user(weir_shard_runtime(shard));
    span->started++;
    span->started_on = gettid();
    weir_shard_set_user(shard, span);
}

static void note_stop(weir_shard *shard)
{
    struct span *span = weir_shard_user(shard);
    span->stopped++;
    span->stopped_on = gettid();
}

START_TEST(the_last_turn_answers_shutdown)
{
    struct span span = {0};
    struct fixture fixture;
    fixture_open(&fixture, &(weir_config){.on_start = note_start, .on_stop = note_stop, .user = &span});
    MUST_EQUAL(span.started, 1); /* inside the first turn */
    MUST_EQUAL(span.started_on, gettid());
    struct witness witness;
    witness_start(&witness);
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    int visitor = visitor_dial(place.address);
    UNTIL(&fixture, witness.opened == 1);
    weir_stop(fixture.runtime);
    MUST_EQUAL(span.stopped, 0);
    visitor_expect_end(&fixture, visitor);
    MUST_EQUAL(fixture.over_count, 0); /* the peer's end is awaited */
    close(visitor);
    UNTIL(&fixture, fixture.over_count == 1);
    MUST_EQUAL(span.stopped, 1);
    MUST_EQUAL(span.stopped_on, gettid());
    MUST_EQUAL(witness.closed, 1);
    MUST_EQUAL(witness.event.reason, WEIR_REASON_STOPPED);
    uint64_t sleep_ns;
    MUST_EQUAL(weir_turn(fixture.shard, &sleep_ns), -ESHUTDOWN);
    MUST_EQUAL(span.started, 1);
    MUST_EQUAL(span.stopped, 1);
    fixture_close(&fixture);
    witness_finish(&witness);
}
END_TEST

/* --- between turns --- */

static void expect_bell(const struct fixture *fixture, const char *after)
{
    struct pollfd wait = {.fd = fixture->descriptors[0], .events = POLLIN};
    if (poll(&wait, 1, FIXTURE_SLOWER * 2000) != 1)
        ck_abort_msg("the descriptor stays silent after %s between turns", after);
}

START_TEST(calls_between_turns_ring_the_bell)
{
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    struct witness witness;
    witness_start(&witness);
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    int visitor = visitor_dial(place.address);
    UNTIL(&fixture, witness.opened == 1);
    for (uint32_t round = 0; round < 50; round++) {
        fixture_settle(&fixture);
        struct pollfd silent = {.fd = fixture.descriptors[0], .events = POLLIN};
        UNTIL(&fixture, fixture.sleep_ns != 0 && poll(&silent, 1, 0) == 0);
        MUST_EQUAL(weir_send(witness.conn, &round, sizeof round), 0);
        expect_bell(&fixture, "weir_send");
        visitor_expect_frame(&fixture, visitor, &round, sizeof round);
    }
    uint32_t fired = 0;
    weir_timer timer = {0};
    fixture_settle(&fixture);
    weir_timer_set(fixture.shard, &timer, 1, note_timer, &fired);
    expect_bell(&fixture, "weir_timer_set");
    UNTIL(&fixture, fired == 1);
    fixture_settle(&fixture);
    MUST_EQUAL(weir_dial(fixture.shard, place.address, &witness.protocol, NULL, NULL, NULL), 0);
    expect_bell(&fixture, "weir_dial");
    UNTIL(&fixture, witness.opened == 3);
    fixture_settle(&fixture);
    weir_end(witness.conn);
    expect_bell(&fixture, "weir_end");
    close(visitor);
    UNTIL(&fixture, witness.closed == 3);
    fixture_close(&fixture);
    witness_finish(&witness);
}
END_TEST

/* He slept long, for things of his own: what he then asks for counts from now, not from his last turn. */
static void oversleep(struct fixture *fixture)
{
    fixture_settle(fixture);
    fixture_sleep_ns(MILLISECONDS(300));
}

START_TEST(a_timer_between_turns_counts_from_now)
{
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    uint32_t fired = 0;
    weir_timer timer = {0};
    oversleep(&fixture);
    uint64_t start_ns = fixture_clock_ns();
    weir_timer_set(fixture.shard, &timer, MILLISECONDS(200), note_timer, &fired);
    UNTIL(&fixture, fired == 1);
    uint64_t took_ns = fixture_clock_ns() - start_ns;
    if (took_ns < MILLISECONDS(200))
        ck_abort_msg("a timer of 200 ms went off after %u ms", (unsigned)(took_ns / WEIR_MILLISECOND));
    fixture_close(&fixture);
}
END_TEST

START_TEST(limits_between_turns_count_from_now)
{
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    struct witness witness;
    witness_start(&witness);
    witness.protocol.limits.drain_ns = MILLISECONDS(200);
    witness.protocol.limits.slow_peer.stalled_ns_max = MILLISECONDS(200);
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    oversleep(&fixture);
    MUST_EQUAL(
        weir_dial(fixture.shard, place.address, &witness.protocol, &(weir_dial_options){.timeout_ns = MILLISECONDS(200)}, NULL, NULL), 0);
    UNTIL(&fixture, witness.opened == 2 || witness.closed > 0);
    if (witness.closed > 0)
        ck_abort_msg("dialing with 200 ms after a long sleep ends with %s", weir_reason_name(witness.event.reason));
    oversleep(&fixture);
    MUST_EQUAL(weir_send(witness.conn, "x", 1), 0);
    fixture_turn_for(&fixture, MILLISECONDS(20));
    if (witness.closed > 0)
        ck_abort_msg("a send after a long sleep ends with %s", weir_reason_name(witness.event.reason));
    int visitor = visitor_dial(place.address);
    UNTIL(&fixture, witness.opened == 3);
    oversleep(&fixture);
    weir_end(witness.conn);
    fixture_turn_for(&fixture, MILLISECONDS(20));
    close(visitor);
    UNTIL(&fixture, witness.closed == 1);
    if (witness.event.reason != WEIR_REASON_LOCAL)
        ck_abort_msg("weir_end with 200 ms to drain after a long sleep ends with %s", weir_reason_name(witness.event.reason));
    fixture_close(&fixture);
    witness_finish(&witness);
}
END_TEST

static void check_thread(struct witness *witness, weir_conn *conn, const weir_close_event *event)
{
    (void)conn;
    MUST_EQUAL(gettid(), *(pid_t *)witness->user);
    MUST_EQUAL(event->reason, WEIR_REASON_STOPPED);
}

START_TEST(close_tells_open_connections)
{
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    struct witness witness;
    witness_start(&witness);
    pid_t self = gettid();
    witness.user = &self;
    witness.on_close = check_thread;
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    int visitors[20];
    for (int i = 0; i < 20; i++)
        visitors[i] = visitor_dial(place.address);
    UNTIL(&fixture, witness.opened == 20);
    MUST_EQUAL(weir_send(witness.conn, "never sent", 10), 0);
    fixture_close(&fixture);
    MUST_EQUAL(witness.closed, 20);
    for (int i = 0; i < 20; i++) {
        uint8_t bytes[64];
        ssize_t got;
        while ((got = recv(visitors[i], bytes, sizeof bytes, 0)) > 0)
            continue;
        MUST(got == 0 || errno == ECONNRESET); /* closed: not -EAGAIN */
        close(visitors[i]);
    }
    MUST_EQUAL(visitor_try_dial(place.address), -ECONNREFUSED);
    witness_finish(&witness);
}
END_TEST

START_TEST(one_thread_turns_two_shards)
{
    struct fixture fixture;
    fixture_open(&fixture, &(weir_config){.shards = 2});
    struct witness witness;
    witness_start(&witness);
    witness.on_message = witness_echo;
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    int visitors[60];
    for (int i = 0; i < 60; i++)
        visitors[i] = visitor_dial(place.address);
    UNTIL(&fixture, witness.opened == 60);
    for (int i = 0; i < 60; i++) {
        visitor_send_frame(&fixture, visitors[i], &i, sizeof i);
        visitor_expect_frame(&fixture, visitors[i], &i, sizeof i);
    }
    weir_stats first, second;
    weir_shard_stats(fixture.shards[0], &first);
    weir_shard_stats(fixture.shards[1], &second);
    MUST_EQUAL(first.accepted + second.accepted, 60);
    MUST(first.accepted > 0 && second.accepted > 0); /* spread: by chance all on one in 2^59 runs */
    uint32_t here = weir_shard_index(weir_conn_shard(witness.conn));
    MUST(weir_find(fixture.shards[here], witness.id) == witness.conn);
    MUST(weir_find(fixture.shards[1 - here], witness.id) == NULL);
    MUST_EQUAL(weir_send_to(fixture.shards[1 - here], witness.id, "x", 1), 0); /* crosses */
    for (int i = 0; i < 60; i++)
        close(visitors[i]);
    UNTIL(&fixture, witness.closed == 60);
    MUST_EQUAL(witness.reasons[WEIR_REASON_PEER], 60);
    fixture_close(&fixture);
    witness_finish(&witness);
}
END_TEST

static void note_now(weir_shard *shard, weir_timer *timer, void *user)
{
    (void)timer;
    *(uint64_t *)user = weir_now(shard);
}

START_TEST(now_is_the_turns_time)
{
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    uint64_t now_ns = 0;
    weir_timer timer = {0};
    uint64_t before_ns = fixture_clock_ns();
    weir_timer_set(fixture.shard, &timer, 1, note_now, &now_ns);
    UNTIL(&fixture, now_ns != 0);
    MUST(now_ns >= before_ns && now_ns <= fixture_clock_ns());
    fixture_close(&fixture);
}
END_TEST

FIXTURE_MAIN("embedding", level_triggered_loses_no_wake, edge_triggered_loses_no_wake, stop_wakes_a_sleeper,
             listen_elsewhere_wakes_a_sleeper, sleep_is_bounded_by_timers_alone, a_turn_inside_a_turn_is_refused,
             a_turn_on_another_thread_is_refused, the_last_turn_answers_shutdown, calls_between_turns_ring_the_bell,
             a_timer_between_turns_counts_from_now, limits_between_turns_count_from_now, close_tells_open_connections,
             one_thread_turns_two_shards, now_is_the_turns_time)
