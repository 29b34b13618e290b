/* SPDX-License-Identifier: MIT */
/* placement: each shard in turn, but for those that are full. */
#include "fixture.h"

#include <errno.h>
#include <stdio.h>

enum { SHARDS = 4, ROOM = 10 };

struct stage {
    struct fixture fixture;
    weir_protocol protocol;
    uint32_t here[SHARDS]; /* connections of each shard now */
    uint32_t opened, closed;
    int visitors[64];
    uint32_t visitor_count;
    weir_listener listener;
    char address[WEIR_ADDRESS_MAX_BYTES];
};

static int note_open(weir_conn *conn)
{
    struct stage *stage = weir_conn_protocol(conn)->user;
    stage->here[weir_shard_index(weir_conn_shard(conn))]++;
    stage->opened++;
    return 0;
}

static void note_close(weir_conn *conn, const weir_close_event *event)
{
    struct stage *stage = weir_conn_protocol(conn)->user;
    (void)event;
    stage->here[weir_shard_index(weir_conn_shard(conn))]--;
    stage->closed++;
}

static void stage_open(struct stage *stage, const char *address, weir_placement placement)
{
    weir_listen_options options = {.placement = placement};
    weir_error error;
    memset(stage, 0, sizeof *stage);
    fixture_open(&stage->fixture, &(weir_config){.shards = SHARDS, .connections = ROOM});
    weir_codec_frame(&stage->protocol.codec, NULL);
    stage->protocol.user = stage;
    stage->protocol.on_open = note_open;
    stage->protocol.on_message = fixture_echo;
    stage->protocol.on_close = note_close;
    if (weir_listen(stage->fixture.runtime, address, &stage->protocol, &options, &stage->listener, &error) != 0)
        ck_abort_msg("weir_listen: %s", error.sentence);
    MUST_EQUAL(weir_listener_address(stage->fixture.runtime, stage->listener, stage->address, sizeof stage->address), 0);
}

static void stage_close(struct stage *stage)
{
    for (uint32_t i = 0; i < stage->visitor_count; i++)
        close(stage->visitors[i]);
    UNTIL(&stage->fixture, stage->closed == stage->opened);
    weir_stats stats;
    weir_runtime_stats(stage->fixture.runtime, &stats);
    MUST_EQUAL(stats.turned_away, 0);
    MUST_EQUAL(stats.connections, 0);
    MUST_EQUAL(stats.memory_bytes, 0);
    MUST_EQUAL(stats.late_finds, 0);
    fixture_close(&stage->fixture);
}

static void come(struct stage *stage, uint32_t count)
{
    while (count-- > 0)
        stage->visitors[stage->visitor_count++] = visitor_dial(stage->address);
}

static void expect(struct stage *stage, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    UNTIL(&stage->fixture, stage->opened - stage->closed >= a + b + c + d);
    fixture_turn_for(&stage->fixture, MILLISECONDS(20));
    const uint32_t *here = stage->here;
    if (here[0] != a || here[1] != b || here[2] != c || here[3] != d)
        ck_abort_msg("the shards have %u, %u, %u, %u; expected were %u, %u, %u, %u", here[0], here[1], here[2], here[3], a, b, c, d);
}

static void evenly(const char *address)
{
    struct stage stage;
    stage_open(&stage, address, WEIR_PLACEMENT_ROUND_ROBIN);
    for (uint32_t each = 1; each <= 3; each++) { /* one by one */
        for (uint32_t i = 0; i < SHARDS; i++) {
            come(&stage, 1);
            UNTIL(&stage.fixture, stage.opened == stage.visitor_count);
        }
        expect(&stage, each, each, each, each);
    }
    come(&stage, 20); /* many at once */
    expect(&stage, 8, 8, 8, 8);
    for (uint32_t i = 0; i < stage.visitor_count; i++) { /* each works where it is */
        visitor_send_frame(&stage.fixture, stage.visitors[i], &i, 4);
        visitor_expect_frame(&stage.fixture, stage.visitors[i], &i, 4);
    }
    stage_close(&stage);
}

START_TEST(each_in_turn)
{
    char path[64];
    evenly("tcp://127.0.0.1:0");
    snprintf(path, sizeof path, "unix://@weir-test-placement-%d", (int)getpid());
    evenly(path);
}
END_TEST

/* A pair whose one end a shard adopts: it takes up room there. */
static int take_room(struct stage *stage, uint32_t shard)
{
    int pair[2];
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    MUST_EQUAL(weir_adopt(stage->fixture.shards[shard], pair[0], &stage->protocol, NULL, NULL), 0);
    stage->visitors[stage->visitor_count++] = pair[1];
    return pair[1];
}

START_TEST(full_shards_are_passed_over)
{
    struct stage stage;
    stage_open(&stage, "tcp://127.0.0.1:0", WEIR_PLACEMENT_ROUND_ROBIN);
    for (uint32_t i = 0; i < ROOM; i++) {
        take_room(&stage, 1);
        if (i < ROOM - 2)
            take_room(&stage, 3);
    }
    expect(&stage, 0, ROOM, 0, ROOM - 2);
    come(&stage, 6); /* 0, 2, 3 in turn */
    expect(&stage, 2, ROOM, 2, ROOM);
    come(&stage, 2 * ROOM - 4); /* only 0 and 2 are left */
    expect(&stage, ROOM, ROOM, ROOM, ROOM);
    come(&stage, 3); /* no room at all: they wait in the backlog, and nobody is turned away */
    fixture_turn_for(&stage.fixture, MILLISECONDS(100));
    MUST_EQUAL(stage.opened, SHARDS * ROOM);
    close(stage.visitors[0]); /* shard 1 */
    stage.visitors[0] = dup(0);
    UNTIL(&stage.fixture, stage.opened == SHARDS * ROOM + 1);
    expect(&stage, ROOM, ROOM, ROOM, ROOM);
    close(stage.visitors[1]); /* shard 3 */
    stage.visitors[1] = dup(0);
    close(stage.visitors[2]); /* shard 1 */
    stage.visitors[2] = dup(0);
    UNTIL(&stage.fixture, stage.opened == SHARDS * ROOM + 3);
    expect(&stage, ROOM, ROOM, ROOM, ROOM);
    stage_close(&stage);
}
END_TEST

/* Ends make no difference to whose turn it is. */
START_TEST(ends_leave_the_turn_alone)
{
    struct stage stage;
    stage_open(&stage, "tcp://127.0.0.1:0", WEIR_PLACEMENT_ROUND_ROBIN);
    for (uint32_t round = 0; round < 50; round++) { /* each leaves before the next comes */
        uint32_t before[SHARDS];
        come(&stage, 1);
        UNTIL(&stage.fixture, stage.opened == round + 1);
        memcpy(before, stage.here, sizeof before);
        MUST_EQUAL(before[0] + before[1] + before[2] + before[3], 1);
        static uint32_t last;
        uint32_t now = before[0] ? 0 : before[1] ? 1 : before[2] ? 2 : 3;
        if (round > 0)
            MUST_EQUAL(now, (last + 1) % SHARDS);
        last = now;
        close(stage.visitors[--stage.visitor_count]);
        UNTIL(&stage.fixture, stage.closed == round + 1);
    }
    stage_close(&stage);
}
END_TEST

static atomic_uint counts[SHARDS];

static int count_open(weir_conn *conn)
{
    atomic_fetch_add(&counts[weir_shard_index(weir_conn_shard(conn))], 1);
    return 0;
}

/* On weir's threads, with many that come at once. */
START_TEST(in_turn_on_threads_of_their_own)
{
    enum { VISITORS = 400 };
    static int visitors[VISITORS];
    static uint8_t data[50];
    struct runner runner;
    weir_protocol protocol = {.on_open = count_open, .on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    weir_listen_options options = {.placement = WEIR_PLACEMENT_ROUND_ROBIN};
    weir_listener listener;
    char address[WEIR_ADDRESS_MAX_BYTES];
    runner_open(&runner, &(weir_config){.shards = SHARDS});
    MUST_EQUAL(weir_listen(runner.runtime, "tcp://127.0.0.1:0", &protocol, &options, &listener, NULL), 0);
    MUST_EQUAL(weir_listener_address(runner.runtime, listener, address, sizeof address), 0);
    runner_start(&runner);
    for (uint32_t i = 0; i < VISITORS; i++) {
        visitors[i] = visitor_dial(address);
        visitor_send_frame(NULL, visitors[i], data, sizeof data);
    }
    for (uint32_t i = 0; i < VISITORS; i++)
        visitor_expect_frame(NULL, visitors[i], data, sizeof data);
    for (uint32_t i = 0; i < SHARDS; i++)
        MUST_EQUAL(atomic_load(&counts[i]), VISITORS / SHARDS);
    for (uint32_t i = 0; i < VISITORS; i++)
        close(visitors[i]);
    weir_stats stats;
    UNTIL(NULL, (weir_runtime_stats(runner.runtime, &stats), stats.connections == 0));
    MUST_EQUAL(stats.late_finds, 0);
    runner_close(&runner);
}
END_TEST

/* One shard accepts for all: when the listener stops, nobody does. */
START_TEST(stopping_a_listener)
{
    struct stage stage;
    stage_open(&stage, "tcp://127.0.0.1:0", WEIR_PLACEMENT_ROUND_ROBIN);
    come(&stage, 4);
    expect(&stage, 1, 1, 1, 1);
    MUST_EQUAL(weir_listener_stop(stage.fixture.runtime, stage.listener), 0);
    fixture_settle(&stage.fixture);
    MUST_EQUAL(visitor_try_dial(stage.address), -ECONNREFUSED);
    visitor_send_frame(&stage.fixture, stage.visitors[0], "still here", 10);
    visitor_expect_frame(&stage.fixture, stage.visitors[0], "still here", 10);
    stage_close(&stage);
}
END_TEST

FIXTURE_MAIN("placement", each_in_turn, full_shards_are_passed_over, ends_leave_the_turn_alone, in_turn_on_threads_of_their_own,
             stopping_a_listener)
