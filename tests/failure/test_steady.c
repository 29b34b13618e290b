/* SPDX-License-Identifier: MIT */
/* test_steady: once it is warm, weir allocates nothing for a message, whichever way it goes. */
#include <stdio.h>

#include "scenarios.h"

#define BATCH           20u
#define STEADY_MESSAGES (FAILURE_SANITIZED ? 833u : 10000u)

/* One way of messages: sends a batch, and hears it. */
struct way {
    const char *name;
    uint32_t shards, seats; /* seat i sits on shard i % shards */
    char command;           /* what a guest says */
    uint32_t bytes;
    void (*open)(struct world *world);
    void (*send)(struct world *world, const struct way *way, uint64_t seed);
    uint32_t first, last; /* who hears it */
};

static struct {
    weir_port *port;
    weir_channel *channel;
    weir_group group;
} mine;

static uint8_t data[8192];

/* What cannot go now goes later; whoever is told of room need not be heard. */
#define PATIENTLY(world, result, call)                                                                                                     \
    do {                                                                                                                                   \
        weir_port_event event;                                                                                                             \
        MUST(WORLD_UNTIL(world, (mine.port == NULL || !weir_port_next(mine.port, &event)) && (result = (call)) != -EAGAIN));               \
    } while (0)

static void send_said(struct world *world, const struct way *way, uint64_t seed)
{
    MUST(guest_say(&world->guests[0], way->command, way->bytes, seed));
}

static void open_port(struct world *world)
{
    MUST_EQUAL(weir_port_open(world->runtime, NULL, &mine.port, NULL), 0);
}

static void send_by_port(struct world *world, const struct way *way, uint64_t seed)
{
    int result;
    world_fill(data, way->bytes, way->command, seed);
    PATIENTLY(world, result, weir_port_send(mine.port, world->guests[1].id, data, way->bytes));
    MUST_EQUAL(result, 0);
}

static void open_channel(struct world *world)
{
    int result;
    open_port(world);
    PATIENTLY(world, result, weir_channel_open(mine.port, world->guests[1].id, NULL, &mine.channel));
    MUST_EQUAL(result, 0);
}

static void send_by_channel(struct world *world, const struct way *way, uint64_t seed)
{
    int result;
    world_fill(data, way->bytes, way->command, seed);
    PATIENTLY(world, result, weir_channel_send(mine.channel, data, way->bytes));
    MUST_EQUAL(result, 0);
}

static void open_group(struct world *world)
{
    int result;
    open_port(world);
    MUST_EQUAL(weir_group_open(world->runtime, &mine.group), 0);
    for (uint32_t i = 0; i < world->guest_count; i++) {
        PATIENTLY(world, result, weir_group_join(mine.port, mine.group, world->guests[i].id));
        MUST_EQUAL(result, 0);
    }
}

static void send_to_group(struct world *world, const struct way *way, uint64_t seed)
{
    int result;
    world_fill(data, way->bytes, way->command, seed);
    PATIENTLY(world, result, weir_group_send(mine.port, mine.group, data, way->bytes, (weir_id){0}));
    MUST_EQUAL(result, 0);
}

static void open_pipe(struct world *world)
{
    int result;
    PATIENTLY(world, result, weir_pipe(world->guests[0].conn, world->guests[1].id));
    MUST_EQUAL(result, 0);
}

static const struct way ways[] = {
    {"echo", 1, 1, SAY_SEND, 100, NULL, send_said, 0, 0},
    {"reserve", 1, 1, SAY_RESERVE, 100, NULL, send_said, 0, 0},
    {"forward", 1, 1, SAY_FORWARD, 6000, NULL, send_said, 0, 0},
    {"hold", 1, 1, SAY_HOLD, 6000, NULL, send_said, 0, 0},
    {"across", 2, 2, SAY_ACROSS, 100, NULL, send_said, 1, 1},
    {"across, big", 2, 2, SAY_ACROSS, 6000, NULL, send_said, 1, 1},
    {"port", 2, 2, SAY_SEND, 100, open_port, send_by_port, 1, 1},
    {"port, big", 2, 2, SAY_SEND, 6000, open_port, send_by_port, 1, 1},
    {"channel", 2, 2, SAY_SEND, 1000, open_channel, send_by_channel, 1, 1},
    {"group", 2, 4, SAY_SEND, 100, open_group, send_to_group, 0, 3},
    {"group, big", 2, 4, SAY_SEND, 6000, open_group, send_to_group, 0, 3},
    {"pipe near", 1, 2, SAY_SEND, 100, open_pipe, send_said, 1, 1},
    {"pipe near, big", 1, 2, SAY_SEND, 6000, open_pipe, send_said, 1, 1},
    {"pipe far", 2, 2, SAY_SEND, 100, open_pipe, send_said, 1, 1},
    {"pipe far, big", 2, 2, SAY_SEND, 6000, open_pipe, send_said, 1, 1},
};

static void pass(struct world *world, const struct way *way, uint32_t messages)
{
    for (uint32_t done = 0; done < messages; done += BATCH) {
        for (uint32_t i = 0; i < BATCH; i++)
            way->send(world, way, done + i);
        for (uint32_t guest = way->first; guest <= way->last; guest++)
            for (uint32_t i = 0; i < BATCH; i++)
                MUST(guest_hear(&world->guests[guest], way->command, way->bytes, done + i));
    }
}

START_TEST(steady_state_allocates_nothing)
{
    static struct world world;
    static const struct scenario scenario = {.name = "steady"};
    const struct way *way = &ways[_i];
    failure_plan_set(&(struct failure_plan){.kind = FAILURE_NONE});
    memset(&mine, 0, sizeof mine);
    world_init(&world, way->shards);
    world.scenario = &scenario;
    world.has_own_channels = way->open == open_channel;
    for (uint32_t i = 0; i < way->seats; i++)
        guest_seat(&world, i % way->shards);
    MUST(world_open(&world));
    MUST(WORLD_UNTIL(&world, world.opened == way->seats));
    if (way->open != NULL)
        way->open(&world);
    for (int i = 0; i < 10; i++) /* a pipe's other end hears of it */
        world_turn(&world);
    pass(&world, way, 8000); /* an own channel's ring has gone round; each size of piece has been needed once, the rare ones too */
    failure.armed = true;    /* counts */
    pass(&world, way, STEADY_MESSAGES);
    failure.armed = false;
    printf("%-16s %6u messages of %5u bytes: %llu allocations\n", way->name, STEADY_MESSAGES, way->bytes,
           (unsigned long long)failure.counts[FAILURE_ALLOCATION]);
    fflush(stdout);
    ck_assert_uint_eq(failure.counts[FAILURE_ALLOCATION], 0);
    weir_channel_close(&mine.channel);
    weir_port_close(&mine.port);
    world_close(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("steady");
    TCase *cases = tcase_create("steady");
    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, steady_state_allocates_nothing, 0, sizeof ways / sizeof *ways);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
