/* SPDX-License-Identifier: MIT */
/* scenarios_across: those of two shards and a foreign thread's port: crossing, own channels, groups, pipes. The guests are seats, on
 * shards that the test knows. */
#include <stdlib.h>

#include "scenarios.h"

/* --- what all of them need --- */

/* What came back to a port. */
struct tally {
    uint32_t events[WEIR_PORT_CHANNEL_ENDED + 1];
    uint64_t undelivered, ended_messages;
};

static void prepare_two(struct world *world)
{
    guest_seat(world, 0);
    guest_seat(world, 1);
}

static bool is_settled(const struct guest *guest)
{
    return guest->conn != NULL || guest->is_gone || guest->is_ended || guest->world->failed > 0;
}

/* All seats are taken, and those that could not be have been counted. True: by all. */
static bool sit_down(struct world *world)
{
    bool all = true;
    for (uint32_t i = 0; i < world->guest_count; i++) {
        struct guest *guest = &world->guests[i];
        all = WORLD_UNTIL(world, is_settled(guest)) && guest->conn != NULL && all;
    }
    return all;
}

static weir_port *open_port(struct world *world)
{
    weir_port *port = NULL;
    weir_error error = {0};
    int result = weir_port_open(world->runtime, NULL, &port, &error);
    WORLD_MUST(world, error.code == result && (error.sentence[0] != '\0') == (result != 0) && (port != NULL) == (result == 0));
    return world_went(world, result) ? port : NULL;
}

static void collect(struct tally *tally, weir_port *port)
{
    weir_port_event event;
    while (weir_port_next(port, &event)) {
        tally->events[event.kind]++;
        if (event.kind == WEIR_PORT_UNDELIVERED)
            tally->undelivered += event.messages;
        if (event.kind == WEIR_PORT_CHANNEL_ENDED)
            tally->ended_messages += event.messages;
    }
}

/* Everything that the port has sent is where it belongs, and its sums close. */
static void settle(struct world *world, struct tally *tally, weir_port *port)
{
    weir_port_stats stats;
    int result = -ETIMEDOUT;
    bool settled = WORLD_UNTIL(world, (collect(tally, port), result = weir_port_flush(port, 0)) != -ETIMEDOUT && result != -ENOBUFS);
    collect(tally, port);
    if (!settled)
        return;
    (void)world_went(world, result);
    weir_port_stats_get(port, &stats);
    WORLD_MUST(world, stats.messages_sent == stats.messages_taken + stats.messages_undelivered);
    WORLD_MUST(world, stats.messages_undelivered == tally->undelivered);
}

/* Something was refused or came back, and it was said: nobody knows what exactly to expect any more, only that sums close. */
static void lower_hopes(struct world *world)
{
    world->errors++;
    for (uint32_t i = 0; i < world->guest_count; i++)
        world->guests[i].cut = true;
}

/* Until it is neither too full nor out of memory for the moment. */
#define PATIENTLY(world, tally, port, result, call)                                                                                        \
    do {                                                                                                                                   \
        if (!WORLD_UNTIL(world, (collect(tally, port), result = (call)) != -EAGAIN))                                                       \
            result = -ESHUTDOWN;                                                                                                           \
    } while (0)

/* --- crossing --- */

static void posted(weir_shard *shard, void *user)
{
    struct world *world = user;
    world->posted += weir_shard_index(shard) == 1;
}

static bool port_say(struct world *world, struct tally *tally, weir_port *port, struct guest *guest, uint32_t bytes, uint64_t seed)
{
    static uint8_t data[8192];
    int result;
    world_fill(data, bytes, SAY_SEND, seed);
    PATIENTLY(world, tally, port, result, weir_port_send(port, guest->id, data, bytes));
    return world_went(world, result);
}

/* More than there is room for, then room. */
static void play_pressure(struct world *world, struct tally *tally, weir_port *port, struct guest *guest)
{
    static uint8_t data[1000];
    uint32_t sent = 0;
    int result = 0;
    uint64_t undelivered = tally->undelivered;
    world_fill(data, sizeof data, SAY_SEND, 5);
    while (sent < 200 && result == 0 && !world->is_broken) {
        result = weir_port_send(port, guest->id, data, sizeof data);
        sent += result == 0;
        world_turn(world);
    }
    if (result == -EAGAIN)
        result = 0;
    else if (world_went(world, result))
        WORLD_MUST(world, world->is_broken); /* that much does not fit */
    for (uint32_t i = 0; i < sent - (tally->undelivered - undelivered); i++) {
        if (!guest_hear(guest, SAY_SEND, sizeof data, 5))
            break;
        collect(tally, port);
    }
    if (result == 0 && !guest->is_ended)
        (void)WORLD_UNTIL(world, (collect(tally, port), tally->events[WEIR_PORT_READY] + tally->events[WEIR_PORT_ROOM] > 0));
}

static void play_with_port(struct world *world, weir_port *port)
{
    struct tally tally = {0};
    struct guest *guests = world->guests;
    int result;
    for (uint32_t i = 0; i < 4; i++) {
        if (guests[i % 2].is_ended || !port_say(world, &tally, port, &guests[i % 2], i < 2 ? 100 : 6000, i))
            continue;
        settle(world, &tally, port);
        if (tally.undelivered > 0) {
            lower_hopes(world);
            return;
        }
        guest_hear(&guests[i % 2], SAY_SEND, i < 2 ? 100 : 6000, i);
    }
    PATIENTLY(world, &tally, port, result, weir_post(port, weir_shard_at(world->runtime, 1), posted, world));
    if (world_went(world, result))
        (void)WORLD_UNTIL(world, (collect(&tally, port), world->posted + tally.events[WEIR_PORT_NOT_RUN] > 0));
    if (!guests[1].is_ended)
        play_pressure(world, &tally, port, &guests[1]);
    result = weir_port_wait(port, WEIR_MILLISECOND);
    (void)world_went(world, result == -ETIMEDOUT ? 0 : result);
    collect(&tally, port);
    result = weir_port_descriptor(port);
    (void)world_went(world, result < 0 ? result : 0);
    if (!guests[0].is_ended) {
        PATIENTLY(world, &tally, port, result, weir_port_end(port, guests[0].id));
        (void)world_went(world, result);
    }
    settle(world, &tally, port);
}

static void prepare_crossing(struct world *world)
{
    prepare_two(world);
    world->protocol.limits.high_water_bytes = 8192;
    MUST_EQUAL(setsockopt(world->guests[1].seat, SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int)), 0);
}

static bool is_readable(const struct guest *guest)
{
    uint8_t byte;
    return recv(guest->descriptor, &byte, 1, MSG_PEEK) >= 0 || errno != EAGAIN;
}

/* The one says something, the other hears it; unless the one's connection ended before it was heard itself. */
static bool play_across(struct world *world, struct guest *from, struct guest *to, uint32_t bytes, uint64_t seed)
{
    if (!guest_say(from, SAY_ACROSS, bytes, seed))
        return false;
    (void)WORLD_UNTIL(world, is_readable(to) || from->is_gone || to->is_ended);
    for (int i = 0; i < 4 && from->is_gone; i++) /* what is on its way arrives */
        world_turn(world);
    if (!is_readable(to) && from->is_gone)
        guest_lacks(from);
    return !from->is_ended && guest_hear(to, SAY_ACROSS, bytes, seed);
}

static void play_crossing(struct world *world)
{
    struct guest *guests = world->guests;
    bool good = sit_down(world);
    for (uint32_t i = 0; i < 4 && good; i++)
        good = play_across(world, &guests[i % 2], &guests[1 - i % 2], i < 2 ? 100 : 6000, i);
    weir_port *port = open_port(world);
    if (port == NULL)
        return;
    play_with_port(world, port);
    weir_port_close(&port);
}

const struct scenario scenario_crossing = {
    .name = "crossing", .shards = 2, .victims = 1, .prepare = prepare_crossing, .play = play_crossing};

/* --- an own channel --- */

static void prepare_channel(struct world *world)
{
    guest_seat(world, 1);
    guest_seat(world, 0);
    world->has_own_channels = true;
}

static void play_one_channel(struct world *world, weir_port *port, struct guest *guest)
{
    static uint8_t data[3000];
    struct tally tally = {0};
    weir_channel *channel = NULL;
    weir_channel_stats stats;
    uint32_t sent = 0;
    int result;
    PATIENTLY(world, &tally, port, result, weir_channel_open(port, guest->id, &(weir_channel_options){.bytes = 8192}, &channel));
    WORLD_MUST(world, (channel != NULL) == (result == 0));
    if (!world_went(world, result))
        return;
    for (; sent < 20 && result == 0; sent += result == 0) {
        world_fill(data, 100 + sent * 100, SAY_SEND, sent);
        PATIENTLY(world, &tally, port, result, weir_channel_send(channel, data, 100 + sent * 100));
    }
    (void)world_went(world, result);
    settle(world, &tally, port);
    if (tally.events[WEIR_PORT_CHANNEL_ENDED] > 0) /* the shard had no memory for it; or the connection has ended */
        guest_lacks(guest);
    for (uint32_t i = 0; i < sent; i++)
        if (!guest_hear(guest, SAY_SEND, 100 + i * 100, i))
            break;
    bool told = WORLD_UNTIL(world, (collect(&tally, port), weir_channel_stats_get(channel, &stats),
                                    stats.queued_bytes == 0 || tally.events[WEIR_PORT_CHANNEL_ENDED] > 0));
    WORLD_MUST(world, stats.messages_sent == sent);
    WORLD_MUST(world, !told || stats.messages_sent == stats.messages_delivered + tally.ended_messages);
    weir_channel_close(&channel);
}

static void play_channel(struct world *world)
{
    (void)sit_down(world);
    weir_port *port = open_port(world);
    for (uint32_t i = 0; i < 2 && port != NULL; i++)
        if (world->guests[i].conn != NULL)
            play_one_channel(world, port, &world->guests[i]);
    weir_port_close(&port);
}

const struct scenario scenario_channel = {.name = "channel", .shards = 2, .victims = 1, .prepare = prepare_channel, .play = play_channel};

/* --- a group --- */

#define MEMBERS 4u

static void prepare_group(struct world *world)
{
    for (uint32_t i = 0; i < MEMBERS; i++)
        guest_seat(world, i % 2);
}

/* True when every member was put in, and each message was put into everyone's channel. */
static bool group_say(struct world *world, struct tally *tally, weir_port *port, weir_group group)
{
    static uint8_t data[6000];
    weir_group_stats stats;
    int result = 0;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        PATIENTLY(world, tally, port, result, weir_group_join(port, group, world->guests[i].id));
        if (!world_went(world, result))
            return false;
    }
    settle(world, tally, port);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t bytes = i == 1 ? sizeof data : 100;
        world_fill(data, bytes, SAY_SEND, i);
        PATIENTLY(world, tally, port, result, weir_group_send(port, group, data, bytes, i == 2 ? world->guests[0].id : (weir_id){0}));
        if (!world_went(world, result))
            return false;
    }
    settle(world, tally, port);
    MUST_EQUAL(weir_group_stats_get(world->runtime, group, &stats), 0);
    bool lacking = stats.refused > 0 || tally->events[WEIR_PORT_UNDELIVERED] > 0 || world->closed > 0 || world->is_broken;
    WORLD_MUST(world, lacking || stats.delivered == 3 * MEMBERS - 1);
    return !lacking;
}

static void play_group(struct world *world)
{
    struct tally tally = {0};
    weir_group group;
    int result;
    bool all = sit_down(world);
    weir_port *port = open_port(world);
    if (port == NULL || !world_went(world, weir_group_open(world->runtime, &group))) {
        weir_port_close(&port);
        return;
    }
    if (!all || !group_say(world, &tally, port, group))
        lower_hopes(world);
    else
        for (uint32_t i = 0; i < MEMBERS * 3 - 1; i++) /* the third is not for the first guest */
            guest_hear(&world->guests[MEMBERS - 1 - i % MEMBERS], SAY_SEND, i / MEMBERS == 1 ? 6000 : 100, i / MEMBERS);
    PATIENTLY(world, &tally, port, result, weir_group_leave(port, group, world->guests[0].id));
    (void)world_went(world, result == -ESTALE && world->guests[0].conn == NULL ? 0 : result);
    (void)world_went(world, weir_group_close(world->runtime, group));
    settle(world, &tally, port);
    weir_port_close(&port);
}

const struct scenario scenario_group = {.name = "group", .shards = 2, .victims = 1, .prepare = prepare_group, .play = play_group};

/* --- pipes --- */

static void prepare_near(struct world *world)
{
    guest_seat(world, 0);
    guest_seat(world, 0);
}

static void play_pipe(struct world *world)
{
    struct guest *one = &world->guests[0], *other = &world->guests[1];
    static const uint32_t sizes[] = {100, 6000, 40000, 0};
    int result;
    if (!sit_down(world))
        return;
    if (!WORLD_UNTIL(world, one->conn == NULL || (result = weir_pipe(one->conn, other->id)) != -EAGAIN) || one->conn == NULL ||
        !world_went(world, result))
        return;
    bool good = true;
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes && good; i++) {
        good = guest_say(one, SAY_SEND, sizes[i], i) && guest_hear(other, SAY_SEND, sizes[i], i);
        good = good && guest_say(other, SAY_SEND, sizes[i], i) && guest_hear(one, SAY_SEND, sizes[i], i);
    }
    if (good) { /* the one way ends, the other goes on */
        (void)shutdown(one->descriptor, SHUT_WR);
        good = guest_say(other, SAY_SEND, 50, 9) && guest_hear(one, SAY_SEND, 50, 9);
    }
    guest_leave(other);
}

const struct scenario scenario_pipe_near = {.name = "pipe near", .shards = 1, .victims = 2, .prepare = prepare_near, .play = play_pipe};
const struct scenario scenario_pipe_far = {.name = "pipe far", .shards = 2, .victims = 2, .prepare = prepare_two, .play = play_pipe};
