/* SPDX-License-Identifier: MIT */
/* dialing: how an attempt ends well, badly or too late; redialing; stopping; and weir with weir at both ends. */
#include "fixture.h"

#include <errno.h>
#include <stdio.h>

/* A dialing witness, and beside it one that listens. */
struct stage {
    struct fixture fixture;
    struct witness caller, server;
};

static void stage_open(struct stage *stage, const weir_config *config)
{
    fixture_open(&stage->fixture, config);
    witness_start(&stage->caller);
    witness_start(&stage->server);
    stage->server.on_message = witness_echo;
}

static void stage_close(struct stage *stage)
{
    fixture_close(&stage->fixture);
    MUST_EQUAL(stage->server.opened, stage->server.closed);
    MUST(stage->caller.closed >= stage->caller.opened);
    witness_finish(&stage->caller);
    witness_finish(&stage->server);
}

static weir_dial_id dial(struct stage *stage, const char *address, const weir_dial_options *options)
{
    weir_dial_id id = 0;
    weir_error error;
    int result = weir_dial(stage->fixture.shard, address, &stage->caller.protocol, options, &id, &error);
    if (result != 0)
        ck_abort_msg("weir_dial %s: %d: %s", address, result, error.sentence);
    MUST(id != 0);
    return id;
}

/* A port on which nobody listens: that of a socket bound and not listening, kept open so that nobody else gets it. */
static int closed_port(char *address, size_t bytes)
{
    struct sockaddr name = {.sa_family = AF_INET};
    uint8_t host[] = {127, 0, 0, 1}, port[2];
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof name;
    memcpy((uint8_t *)&name + 4, host, 4);
    MUST_EQUAL(bind(descriptor, &name, length), 0);
    MUST_EQUAL(getsockname(descriptor, &name, &length), 0);
    memcpy(port, (uint8_t *)&name + 2, 2);
    snprintf(address, bytes, "tcp://127.0.0.1:%d", port[0] << 8 | port[1]);
    return descriptor;
}

static int reply(struct witness *witness, weir_conn *conn)
{
    (void)witness;
    return weir_send(conn, "first", 5);
}

/* Between two connections of one runtime: the caller speaks, the server echoes, the caller ends. */
static void expect_conversation(struct stage *stage, const char *listen_at)
{
    struct place place = fixture_listen(stage->fixture.runtime, listen_at, &stage->server.protocol);
    int marker;
    uint32_t before = stage->caller.opened, closed = stage->server.closed;
    stage->caller.on_open = reply;
    weir_dial_id id = dial(stage, place.address, &(weir_dial_options){.user = &marker});
    MUST_EQUAL(stage->caller.opened, before); /* never from inside the call */
    UNTIL(&stage->fixture, stage->caller.opened == before + 1 && witness_last_is(&stage->caller, "first", 5));
    MUST(weir_conn_user(stage->caller.conn) == &marker);
    MUST(stage->caller.id.value != stage->server.id.value);
    MUST(weir_find(stage->fixture.shard, stage->caller.id) == stage->caller.conn);
    MUST_EQUAL(weir_dial_stop(stage->fixture.shard, id), -ESTALE); /* over: it has done what it was for */
    MUST_EQUAL(weir_send(stage->caller.conn, "second", 6), 0);
    UNTIL(&stage->fixture, witness_last_is(&stage->caller, "second", 6));
    weir_end(stage->caller.conn);
    UNTIL(&stage->fixture, stage->caller.conn == NULL && stage->server.closed == closed + 1);
    MUST_EQUAL(stage->caller.event.reason, WEIR_REASON_LOCAL);
    MUST_EQUAL(stage->caller.event.undelivered_messages, 0);
    MUST_EQUAL(stage->server.event.reason, WEIR_REASON_PEER);
    MUST_EQUAL(weir_send_to(stage->fixture.shard, stage->caller.id, "x", 1), -ESTALE);
    free(stage->caller.last);
    stage->caller.last = NULL;
}

START_TEST(weir_calls_weir)
{
    struct stage stage;
    char path[64];
    stage_open(&stage, NULL);
    expect_conversation(&stage, "tcp://127.0.0.1:0");
    expect_conversation(&stage, "tcp://[::1]:0");
    snprintf(path, sizeof path, "unix:///tmp/weir-test-dial-%d", (int)getpid());
    expect_conversation(&stage, path);
    snprintf(path, sizeof path, "unix://@weir-test-dial-%d", (int)getpid());
    expect_conversation(&stage, path);
    weir_stats stats;
    weir_runtime_stats(stage.fixture.runtime, &stats);
    MUST_EQUAL(stats.dialed, 4);
    MUST_EQUAL(stats.accepted, 4);
    MUST_EQUAL(stats.dial_failures, 0);
    stage_close(&stage);
}
END_TEST

START_TEST(localhost_has_an_address)
{
    struct stage stage;
    char address[64];
    stage_open(&stage, NULL);
    struct place place = fixture_listen(stage.fixture.runtime, NULL, &stage.server.protocol);
    snprintf(address, sizeof address, "tcp://localhost%s", strrchr(place.address, ':'));
    dial(&stage, address, NULL); /* ::1 is refused first where it comes first: the next address is tried */
    UNTIL(&stage.fixture, stage.caller.opened == 1);
    MUST_EQUAL(weir_send(stage.caller.conn, "by name", 7), 0);
    UNTIL(&stage.fixture, witness_last_is(&stage.caller, "by name", 7));
    MUST_EQUAL(stage.caller.closed, 0);
    stage_close(&stage);
}
END_TEST

START_TEST(a_name_without_address)
{
    struct stage stage;
    stage_open(&stage, NULL);
    uint64_t start_ns = fixture_clock_ns();
    dial(&stage, "tcp://nonexistent.invalid:80", &(weir_dial_options){.timeout_ns = WEIR_SECOND});
    UNTIL(&stage.fixture, stage.caller.closed == 1);
    uint64_t took_ns = fixture_clock_ns() - start_ns;
    MUST_EQUAL(stage.caller.opened, 0);
    MUST(stage.caller.event.reason == WEIR_REASON_NAME || stage.caller.event.reason == WEIR_REASON_DIAL_LATE);
    if (stage.caller.event.reason == WEIR_REASON_NAME)
        MUST(stage.caller.event.error < 0);
    if (took_ns > FIXTURE_SLOWER * 1500 * WEIR_MILLISECOND)
        ck_abort_msg("a limit of 1 s took %u ms", (unsigned)(took_ns / 1000000));
    weir_stats stats;
    weir_runtime_stats(stage.fixture.runtime, &stats);
    MUST_EQUAL(stats.dial_failures, 1);
    MUST_EQUAL(stats.connections, 0);
    stage_close(&stage);
}
END_TEST

START_TEST(a_refused_port)
{
    struct stage stage;
    char address[64];
    stage_open(&stage, NULL);
    int bound = closed_port(address, sizeof address), marker;
    weir_dial_id id = dial(&stage, address, &(weir_dial_options){.user = &marker});
    MUST_EQUAL(stage.caller.closed, 0);
    UNTIL(&stage.fixture, stage.caller.closed == 1);
    MUST_EQUAL(stage.caller.opened, 0);
    MUST_EQUAL(stage.caller.event.reason, WEIR_REASON_DIAL_FAILED);
    MUST_EQUAL(stage.caller.event.error, -ECONNREFUSED);
    MUST_EQUAL(stage.caller.event.undelivered_bytes, 0);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), -ESTALE);
    dial(&stage, "unix:///nonexistent/socket", NULL);
    UNTIL(&stage.fixture, stage.caller.closed == 2);
    MUST_EQUAL(stage.caller.event.reason, WEIR_REASON_DIAL_FAILED);
    MUST_EQUAL(stage.caller.event.error, -ENOENT);
    weir_stats stats;
    weir_runtime_stats(stage.fixture.runtime, &stats);
    MUST_EQUAL(stats.dial_failures, 2);
    MUST_EQUAL(stats.dialed, 0);
    MUST_EQUAL(stats.closed[WEIR_REASON_DIAL_FAILED], 2);
    close(bound);
    stage_close(&stage);
}
END_TEST

/* A listener whose queue is full lets nobody in: connecting to it takes for ever. */
struct wall {
    int listener;
    int fillers[16];
    int count;
    char address[64];
};

static void wall_build(struct wall *wall)
{
    wall->listener = visitor_listen(0, wall->address, sizeof wall->address);
    wall->count = 0;
    struct sockaddr_storage name;
    socklen_t bytes = sizeof name;
    MUST_EQUAL(getsockname(wall->listener, (struct sockaddr *)&name, &bytes), 0);
    for (int i = 0; i < 16; i++) {
        int filler = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(filler, (struct sockaddr *)&name, bytes) != 0)
            MUST_EQUAL(errno, EINPROGRESS);
        wall->fillers[wall->count++] = filler;
    }
    fixture_sleep_ns(MILLISECONDS(20));
}

static void wall_fall(struct wall *wall)
{
    for (int i = 0; i < wall->count; i++)
        close(wall->fillers[i]);
    close(wall->listener);
}

START_TEST(a_peer_that_does_not_answer)
{
    struct stage stage;
    struct wall wall;
    stage_open(&stage, NULL);
    wall_build(&wall);
    fixture_turn(&stage.fixture);
    uint64_t start_ns = fixture_clock_ns();
    dial(&stage, wall.address, &(weir_dial_options){.timeout_ns = MILLISECONDS(300)});
    UNTIL(&stage.fixture, stage.caller.closed == 1);
    uint64_t took_ns = fixture_clock_ns() - start_ns;
    MUST_EQUAL(stage.caller.opened, 0);
    MUST_EQUAL(stage.caller.event.reason, WEIR_REASON_DIAL_LATE);
    MUST_EQUAL(stage.caller.event.error, -ETIMEDOUT);
    if (took_ns < MILLISECONDS(298) || took_ns > FIXTURE_SLOWER * MILLISECONDS(800))
        ck_abort_msg("a limit of 300 ms took %u ms", (unsigned)(took_ns / 1000000));
    wall_fall(&wall);
    stage_close(&stage);
}
END_TEST

static const weir_dial_options quick_redial = {
    .redial = true, .redial_min_ns = 20 * WEIR_MILLISECOND, .redial_max_ns = 80 * WEIR_MILLISECOND};

START_TEST(redial_until_somebody_is_there)
{
    struct stage stage;
    char address[64];
    stage_open(&stage, NULL);
    int bound = closed_port(address, sizeof address);
    uint64_t start_ns = fixture_clock_ns();
    weir_dial_id id = dial(&stage, address, &quick_redial);
    UNTIL(&stage.fixture, stage.caller.closed == 6);
    uint64_t took_ns = fixture_clock_ns() - start_ns;
    MUST_EQUAL(stage.caller.reasons[WEIR_REASON_DIAL_FAILED], 6);
    /* Five pauses between six attempts: 20, 40, 80, 80, 80 ms, each shortened by at most a half. */
    if (took_ns < MILLISECONDS(150) - MILLISECONDS(5) || took_ns > MILLISECONDS(300) + FIXTURE_SLOWER * MILLISECONDS(400))
        ck_abort_msg("six attempts took %u ms", (unsigned)(took_ns / 1000000));
    MUST_EQUAL(listen(bound, 8), 0);
    UNTIL(&stage.fixture, stage.caller.opened == 1);
    weir_id first = stage.caller.id;
    /* The server drops it: again. */
    int accepted = accept4(bound, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    MUST(accepted >= 0);
    uint32_t closed = stage.caller.closed;
    close(accepted);
    UNTIL(&stage.fixture, stage.caller.opened == 2);
    MUST_EQUAL(stage.caller.closed, closed + 1);
    MUST_EQUAL(stage.caller.event.reason, WEIR_REASON_PEER);
    MUST(stage.caller.id.value != first.value);
    MUST(weir_find(stage.fixture.shard, first) == NULL);
    /* This end ends it: not again. */
    weir_end(stage.caller.conn);
    accepted = accept4(bound, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    MUST(accepted >= 0);
    visitor_expect_end(&stage.fixture, accepted);
    close(accepted);
    UNTIL(&stage.fixture, stage.caller.conn == NULL);
    fixture_turn_for(&stage.fixture, MILLISECONDS(300));
    MUST_EQUAL(stage.caller.opened, 2);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), -ESTALE);
    fixture_settle(&stage.fixture);
    MUST(stage.fixture.sleep_ns == WEIR_FOREVER);
    close(bound);
    stage_close(&stage);
}
END_TEST

START_TEST(stopping_a_dial_in_each_state)
{
    struct stage stage;
    struct wall wall;
    char address[64];
    stage_open(&stage, NULL);
    wall_build(&wall);
    int bound = closed_port(address, sizeof address);
    /* Under way: ends as an abort. */
    weir_dial_id id = dial(&stage, wall.address, &quick_redial);
    fixture_turn_for(&stage.fixture, MILLISECONDS(20));
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), 0);
    UNTIL(&stage.fixture, stage.caller.closed == 1);
    MUST_EQUAL(stage.caller.event.reason, WEIR_REASON_ABORTED);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), -ESTALE);
    /* At once, before the attempt has been submitted. */
    id = dial(&stage, address, &quick_redial);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), 0);
    UNTIL(&stage.fixture, stage.caller.closed == 2);
    MUST_EQUAL(stage.caller.event.reason, WEIR_REASON_ABORTED);
    /* Looking up a name. */
    id = dial(&stage, "tcp://localhost:1", &quick_redial);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), 0);
    UNTIL(&stage.fixture, stage.caller.closed == 3);
    MUST_EQUAL(stage.caller.event.reason, WEIR_REASON_ABORTED);
    /* Waiting for the next attempt. */
    id = dial(&stage, address, &(weir_dial_options){.redial = true, .redial_min_ns = 100 * WEIR_MILLISECOND});
    UNTIL(&stage.fixture, stage.caller.closed == 4);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), 0);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), -ESTALE);
    fixture_turn_for(&stage.fixture, MILLISECONDS(250));
    MUST_EQUAL(stage.caller.closed, 4);
    MUST_EQUAL(stage.caller.opened, 0);
    /* Open: it stays, and is not dialed again. */
    MUST_EQUAL(listen(bound, 8), 0);
    id = dial(&stage, address, &quick_redial);
    UNTIL(&stage.fixture, stage.caller.opened == 1);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), 0);
    int accepted = accept4(bound, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    MUST_EQUAL(weir_send(stage.caller.conn, "still here", 10), 0);
    visitor_expect_frame(&stage.fixture, accepted, "still here", 10);
    close(accepted);
    UNTIL(&stage.fixture, stage.caller.closed == 5);
    fixture_turn_for(&stage.fixture, MILLISECONDS(250));
    MUST_EQUAL(stage.caller.opened, 1);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, 0), -ESTALE);
    wall_fall(&wall);
    close(bound);
    stage_close(&stage);
}
END_TEST

START_TEST(dials_run_out)
{
    struct stage stage;
    struct wall wall;
    weir_error error;
    weir_dial_id ids[2], id;
    stage_open(&stage, &(weir_config){.dials = 2});
    wall_build(&wall);
    ids[0] = dial(&stage, wall.address, NULL);
    ids[1] = dial(&stage, wall.address, NULL);
    MUST(ids[0] != ids[1]);
    MUST_EQUAL(weir_dial(stage.fixture.shard, wall.address, &stage.caller.protocol, NULL, &id, &error), -ENOSPC);
    MUST_EQUAL(error.code, -ENOSPC);
    MUST(strstr(error.sentence, "dials") != NULL);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, ids[0]), 0);
    UNTIL(&stage.fixture, stage.caller.closed == 1);
    id = dial(&stage, wall.address, NULL);
    MUST(id != ids[0] && id != ids[1]);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, ids[0]), -ESTALE); /* not its successor */
    weir_stop(stage.fixture.runtime);                                 /* what is under way ends with it */
    UNTIL(&stage.fixture, stage.fixture.over_count == 1);
    MUST_EQUAL(stage.caller.closed, 3);
    MUST_EQUAL(weir_dial(stage.fixture.shard, wall.address, &stage.caller.protocol, NULL, &id, &error), -ESHUTDOWN);
    wall_fall(&wall);
    stage_close(&stage);
}
END_TEST

START_TEST(bad_addresses)
{
    static const char *const bad[] = {"",       "tcp://127.0.0.1", "tcp://*:80", "tcp://127.0.0.1:0",
                                      "fd://3", "systemd://",      "unix://x",   "ws://x:1"};
    struct stage stage;
    weir_error error;
    stage_open(&stage, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int result = weir_dial(stage.fixture.shard, bad[i], &stage.caller.protocol, NULL, NULL, &error);
        if (result != -EINVAL || error.code != -EINVAL || error.sentence[0] == '\0')
            ck_abort_msg("dialing \"%s\" answers %d, not -EINVAL: %s", bad[i], result, error.sentence);
    }
    weir_protocol empty = {0};
    MUST_EQUAL(weir_dial(stage.fixture.shard, "tcp://127.0.0.1:9", &empty, NULL, NULL, &error), -EINVAL);
    fixture_turn_for(&stage.fixture, MILLISECONDS(20));
    MUST_EQUAL(stage.caller.closed, 0); /* what was not begun does not end */
    stage_close(&stage);
}
END_TEST

static int refuse(struct witness *witness, weir_conn *conn)
{
    (void)witness;
    (void)conn;
    return -EPERM;
}

START_TEST(refusing_is_redialed)
{
    struct stage stage;
    stage_open(&stage, NULL);
    struct place place = fixture_listen(stage.fixture.runtime, NULL, &stage.server.protocol);
    stage.caller.on_open = refuse;
    weir_dial_id id = dial(&stage, place.address, &quick_redial);
    UNTIL(&stage.fixture, stage.caller.closed == 3);
    MUST_EQUAL(stage.caller.opened, 3);
    MUST_EQUAL(stage.caller.reasons[WEIR_REASON_REFUSED], 3);
    MUST_EQUAL(stage.caller.event.error, -EPERM);
    MUST_EQUAL(weir_dial_stop(stage.fixture.shard, id), 0);
    stage_close(&stage);
}
END_TEST

static void dial_again(struct witness *witness, weir_conn *conn, const weir_close_event *event)
{
    (void)event;
    if (witness->closed < 5)
        MUST_EQUAL(weir_dial(weir_conn_shard(conn), witness->user, &witness->protocol, NULL, NULL, NULL), 0);
}

START_TEST(dialing_from_on_close)
{
    struct stage stage;
    char address[64];
    stage_open(&stage, NULL);
    int bound = closed_port(address, sizeof address);
    stage.caller.on_close = dial_again;
    stage.caller.user = address;
    dial(&stage, address, NULL);
    UNTIL(&stage.fixture, stage.caller.closed == 5);
    fixture_turn_for(&stage.fixture, MILLISECONDS(20));
    MUST_EQUAL(stage.caller.closed, 5);
    close(bound);
    stage_close(&stage);
}
END_TEST

START_TEST(closing_while_names_are_looked_up)
{
    for (uint32_t round = 0; round < 5; round++) {
        struct stage stage;
        stage_open(&stage, NULL);
        for (int i = 0; i < 5; i++)
            dial(&stage, i % 2 == 0 ? "tcp://localhost:1" : "tcp://nonexistent.invalid:1", &quick_redial);
        for (uint32_t turn = 0; turn < round % 4; turn++)
            fixture_turn(&stage.fixture);
        stage_close(&stage);
        MUST(stage.caller.closed >= 5); /* each is told */
        MUST_EQUAL(stage.caller.opened, 0);
    }
}
END_TEST

FIXTURE_MAIN("dialing", weir_calls_weir, localhost_has_an_address, a_name_without_address, a_refused_port, a_peer_that_does_not_answer,
             redial_until_somebody_is_there, stopping_a_dial_in_each_state, dials_run_out, bad_addresses, refusing_is_redialed,
             dialing_from_on_close, closing_while_names_are_looked_up)
