/* SPDX-License-Identifier: MIT */
/* scenarios: those of one shard's own: opening, echo, dialling, listening, draining, timers; and all of it on weir's own threads. */
#include "scenarios.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- opening --- */

static void play_opening(struct world *world)
{
    if (!WORLD_UNTIL(world, world->started == world->shards) || !world_listen(world, "tcp://127.0.0.1:0", NULL, NULL))
        return;
    guest_talk(guest_dial(world, world->address), SAY_SEND, 10, 1);
}

const struct scenario scenario_opening = {.name = "opening", .shards = 2, .victims = 1, .from_open = true, .play = play_opening};

/* --- echo --- */

static void play_echo(struct world *world)
{
    static const struct {
        char command;
        uint32_t bytes;
    } talks[] = {{SAY_SEND, 10},     {SAY_FORWARD, 5000}, {SAY_HOLD, 9000},     {SAY_LATER, 100},  {SAY_CONTROL, 50},
                 {SAY_RESERVE, 300}, {SAY_SEND, 70000},   {SAY_FORWARD, 50000}, {SAY_NOTHING, 20}, {SAY_RESERVE, 1}};
    if (!world_listen(world, "tcp://127.0.0.1:0", NULL, NULL))
        return;
    struct guest *guest = guest_dial(world, world->address);
    bool good = true;
    for (uint32_t i = 0; i < sizeof talks / sizeof *talks && good; i++)
        good = talks[i].command == SAY_NOTHING ? guest_say(guest, SAY_NOTHING, talks[i].bytes, i)
                                               : guest_talk(guest, talks[i].command, talks[i].bytes, i);
    for (uint32_t i = 0; i < 20 && good; i++) /* a crowd of them: one send for many pieces */
        good = guest_say(guest, i % 5 == 4 ? SAY_FORWARD : SAY_SEND, i % 5 == 4 ? 6000 : 30, i);
    for (uint32_t i = 0; i < 20 && good; i++)
        good = guest_hear(guest, i % 5 == 4 ? SAY_FORWARD : SAY_SEND, i % 5 == 4 ? 6000 : 30, i);
    if (good)
        guest_talk(guest, SAY_END, 10, 1);
    guest_leave(guest);
    guest_talk(guest_dial(world, world->address), SAY_SEND, 10, 2); /* it goes on */
}

const struct scenario scenario_echo = {.name = "echo", .shards = 1, .victims = 1, .play = play_echo};

/* --- dialling --- */

static int listen_for_dials(char *address, size_t address_bytes, const char *host)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    MUST(listener >= 0);
    MUST_EQUAL(bind(listener, (struct sockaddr *)&name, bytes), 0);
    MUST_EQUAL(listen(listener, 8), 0);
    MUST_EQUAL(getsockname(listener, (struct sockaddr *)&name, &bytes), 0);
    snprintf(address, address_bytes, "tcp://%s:%u", host, ntohs(name.sin_port));
    return listener;
}

/* Dials, and talks with whom it has reached. With redial it reaches somebody whatever fails. */
static void play_one_dial(struct world *world, const char *host, bool redial)
{
    char address[64];
    int listener = listen_for_dials(address, sizeof address, host), reached = -1;
    weir_dial_options options = {.redial = redial, .redial_min_ns = WEIR_MILLISECOND, .redial_max_ns = 4 * WEIR_MILLISECOND};
    weir_shard *shard = weir_shard_at(world->runtime, 0);
    weir_dial_id dial = 0;
    weir_error error = {0};
    uint32_t opened = world->opened, failed = world->failed;
    int result = weir_dial(shard, address, &world->protocol, &options, &dial, &error);
    WORLD_MUST(world, error.code == result && (error.sentence[0] != '\0') == (result != 0));
    if (world_went(world, result)) {
        (void)WORLD_UNTIL(world, world->opened > opened || (!redial && world->failed > failed));
        if (redial)
            (void)weir_dial_stop(shard, dial);
        if (world->opened > opened)
            (void)WORLD_UNTIL(world, (reached = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    }
    close(listener);
    if (reached >= 0)
        guest_talk(guest_accepted(world, reached), SAY_SEND, 10, 1);
    else
        world->cut++;
}

static void play_dial(struct world *world)
{
    if (!WORLD_UNTIL(world, world->started == world->shards))
        return;
    play_one_dial(world, "localhost", false);
    play_one_dial(world, "127.0.0.1", true);
    play_one_dial(world, "localhost", true);
}

const struct scenario scenario_dial = {.name = "dial", .shards = 1, .victims = 1, .play = play_dial};

/* --- listening --- */

static void play_visit(struct world *world, const char *address)
{
    guest_talk(guest_dial(world, address), SAY_SEND, 10, 3);
}

static void play_listening(struct world *world)
{
    char path[64], inherited[32], address[WEIR_ADDRESS_MAX_BYTES];
    weir_listener first, again;
    static const weir_listen_options in_turn = {.placement = WEIR_PLACEMENT_ROUND_ROBIN};
    snprintf(path, sizeof path, "unix:///tmp/weir-failure-%d", (int)getpid());
    int descriptor = listen_for_dials(address, sizeof address, "127.0.0.1");
    snprintf(inherited, sizeof inherited, "fd://%d", descriptor);
    bool listens = world_listen(world, "tcp://127.0.0.1:0", NULL, &first);
    if (listens)
        play_visit(world, world->address);
    if (world_listen(world, path, NULL, NULL))
        play_visit(world, path);
    if (world_listen(world, inherited, NULL, NULL))
        play_visit(world, address);
    else
        close(descriptor);
    if (world_listen(world, "tcp://localhost:0", &in_turn, &again)) {
        MUST_EQUAL(weir_listener_address(world->runtime, again, address, sizeof address), 0);
        if (strstr(address, "127.0.0.1") != NULL)
            for (int i = 0; i < 3; i++)
                play_visit(world, address);
    }
    if (listens) {
        (void)world_went(world, weir_listener_stop(world->runtime, first));
        for (int i = 0; i < 10; i++) /* each shard leaves it in its own time */
            world_turn(world);
        snprintf(address, sizeof address, "%s", world->address);
        if (WORLD_UNTIL(world, weir_listener_address(world->runtime, first, inherited, sizeof inherited) == -ENOENT) &&
            world_listen(world, address, NULL, NULL))
            play_visit(world, address);
    }
}

/* Unless that was what failed, it is gone. */
static void finish_listening(struct world *world)
{
    char path[64];
    (void)world;
    snprintf(path, sizeof path, "/tmp/weir-failure-%d", (int)getpid());
    unlink(path);
}

const struct scenario scenario_listening = {
    .name = "listening", .shards = 2, .victims = 1, .play = play_listening, .finish = finish_listening};

/* --- stopping with something queued --- */

static void play_drain(struct world *world)
{
    static const weir_listen_options narrow = {.socket.send_buffer_bytes = 4096};
    if (!world_listen(world, "tcp://127.0.0.1:0", &narrow, NULL))
        return;
    struct guest *guest = guest_dial(world, world->address), *other = guest_dial(world, world->address);
    guest_talk(other, SAY_SEND, 100, 1);
    if (guest_say(guest, SAY_FLOOD, 1, 0) && guest_hear(guest, SAY_FLOOD, 1000, 0)) {
        weir_stop(world->runtime);
        for (uint64_t i = 1; i < 40 && guest_hear(guest, SAY_FLOOD, 1000, i); i++)
            continue;
    }
    weir_stop(world->runtime);
    guest_leave(guest);
    guest_leave(other);
    (void)WORLD_UNTIL(world, world->over == world->shards);
}

const struct scenario scenario_drain = {.name = "drain", .shards = 2, .victims = 1, .play = play_drain};

/* --- timers --- */

static void tick(weir_shard *shard, weir_timer *timer, void *user)
{
    struct world *world = user;
    if (++world->fired_timers == 1)
        weir_timer_set(shard, timer, WEIR_MILLISECOND, tick, user);
}

static void play_timers(struct world *world)
{
    weir_timer timers[3];
    memset(timers, 0, sizeof timers);
    if (!WORLD_UNTIL(world, world->started == world->shards))
        return;
    weir_shard *shard = weir_shard_at(world->runtime, 0);
    for (uint64_t i = 0; i < 3; i++)
        weir_timer_set(shard, &timers[i], (i + 1) * WEIR_MILLISECOND, tick, world);
    weir_timer_clear(shard, &timers[1]);
    (void)WORLD_UNTIL(world, world->fired_timers == 3);
    for (uint64_t i = 0; i < 3; i++) /* when the shard is broken: they are this function's memory */
        weir_timer_clear(shard, &timers[i]);
}

const struct scenario scenario_timers = {.name = "timers", .shards = 1, .victims = 0, .play = play_timers};

/* --- weir's own threads --- */

static void *run(void *user)
{
    struct world *world = user;
    world->turn_error = weir_run(world->runtime);
    world->is_over = true;
    return NULL;
}

static void prepare_threads(struct world *world)
{
    world->apart = true;
    guest_seat(world, 0);
    guest_seat(world, 1);
}

/* A port of this thread's, which may sleep here. */
static void play_port(struct world *world)
{
    static uint8_t data[6000];
    weir_port *port;
    if (!world_went(world, weir_port_open(world->runtime, NULL, &port, NULL)))
        return;
    for (uint32_t i = 0; i < 4; i++) {
        struct guest *guest = &world->guests[i % 2];
        uint32_t bytes = i < 2 ? 100 : sizeof data;
        world_fill(data, bytes, SAY_SEND, i);
        if (guest->is_ended)
            continue;
        int result = weir_port_send_wait(port, guest->id, data, bytes, WEIR_SECOND);
        if (world_went(world, result))
            guest_hear(guest, SAY_SEND, bytes, i);
        else
            guest_lacks(guest);
    }
    int result = weir_port_flush(port, WEIR_SECOND);
    if (result == -ETIMEDOUT && (world->is_broken || world->is_over))
        result = 0;
    (void)world_went(world, result);
    weir_port_close(&port);
}

static void play_threads(struct world *world)
{
    pthread_t thread;
    MUST_EQUAL(pthread_create(&thread, NULL, run, world), 0);
    if (WORLD_UNTIL(world, world->opened + world->failed + world->errors >= 2)) {
        for (uint32_t i = 0; i < 2; i++)
            if (!world->guests[i].is_ended)
                guest_talk(&world->guests[i], SAY_SEND, 10, i);
        play_port(world);
    }
    for (uint32_t i = 0; i < 2; i++)
        guest_leave(&world->guests[i]);
    weir_stop(world->runtime);
    pthread_join(thread, NULL);
    (void)world_went(world, world->turn_error);
}

const struct scenario scenario_threads = {.name = "threads", .shards = 2, .victims = 1, .prepare = prepare_threads, .play = play_threads};
