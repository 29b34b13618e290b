/* SPDX-License-Identifier: MIT */
/* cross_act: what an actor does next: the seed decides. */
#include <errno.h>

#include "tests/sim/cross.h"

#define PATIENCE_NS (30 * WEIR_SECOND)

/* Somebody who can be sent messages to: mostly one that is there. -1: nobody. */
int cross_act_choose_client(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    for (int tries = 0; tries < 8; tries++) {
        uint32_t index = cross_one_of(run, 2) ? actor->last_target : (uint32_t)cross_below(run, run->plan.client_count);
        const struct cross_client *client = &run->clients[index];
        if (!client->opened || client->protocol == CROSS_RAW || (client->partner >= 0 && !run->plan.into_pipes))
            continue;
        if (client->closed && cross_below(run, 16) != 0)
            continue;
        actor->last_target = index;
        return (int)index;
    }
    return -1;
}

static uint32_t choose_bytes(struct cross_run *run)
{
    const uint32_t edges[] = {4095, 4096, 4097, run->plan.payload_max};
    uint32_t least = sizeof(struct cross_head);
    if (cross_one_of(run, 16))
        return edges[cross_below(run, sizeof edges / sizeof edges[0])];
    if (cross_below(run, 64) == 0)
        return run->plan.payload_max + 1 + (uint32_t)cross_below(run, 1000); /* more than the codec carries */
    if (cross_permille(run, run->plan.big_permille))
        return 4096 + (uint32_t)cross_below(run, CROSS_PAYLOAD_MAX - 4096 + 1);
    return least + (uint32_t)cross_magnitude(run, 0, 2000);
}

/* A good day, and it never stops reading. */
static bool reads(const struct cross_run *run, int client)
{
    return run->plan.clean && run->clients[client].deaf_until_ns == 0;
}

static void send_some(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    int client = cross_act_choose_client(actor);
    if (client < 0)
        return;
    if (actor->shard < 0 && cross_one_of(run, 8)) {
        bool patient = !run->sleeping && cross_one_of(run, 4);
        uint64_t timeout_ns = run->sleeping || cross_one_of(run, 3) ? 0 : cross_magnitude(run, WEIR_MICROSECOND, 20 * WEIR_MILLISECOND);
        uint32_t bytes = choose_bytes(run);
        int code = cross_actor_send_wait(actor, (uint32_t)client, bytes, patient ? PATIENCE_NS : timeout_ns);
        /* (Memory for big ones may be held by others, that do not read.) */
        CROSS_CHECK(run, !patient || code != -ETIMEDOUT || bytes >= 4096 || !reads(run, client),
                    "client %d reads, and there is no room for it in %llu s", client, (unsigned long long)(PATIENCE_NS / WEIR_SECOND));
        return;
    }
    if (actor->shard >= 0 && (uint32_t)actor->shard == run->clients[client].shard && cross_one_of(run, 3)) {
        cross_actor_send_control(actor, (uint32_t)client, (uint32_t)(sizeof(struct cross_head) + cross_magnitude(run, 0, 2000)));
        return;
    }
    uint32_t burst = 1 + (uint32_t)cross_magnitude(run, 0, cross_one_of(run, 64) ? 1000 : 20);
    if (cross_one_of(run, 4)) { /* here and there */
        for (; burst > 0 && client >= 0; burst--, client = cross_act_choose_client(actor))
            cross_actor_send(actor, (uint32_t)client, choose_bytes(run));
        return;
    }
    while (burst-- > 0 && (cross_actor_send(actor, (uint32_t)client, choose_bytes(run)) == 0 || cross_one_of(run, 4)))
        ;
}

/* Calls that a foreign thread may block in. */
static void wait_for_something(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    uint64_t timeout_ns = run->sleeping || cross_one_of(run, 2) ? 0 : cross_magnitude(run, WEIR_MICROSECOND, 10 * WEIR_MILLISECOND);
    bool flushes = cross_one_of(run, 2);
    uint64_t now_ns = weir_sim_now_ns(run->world);
    actor->busy = true;
    int code = flushes ? weir_port_flush(actor->port, timeout_ns) : weir_port_wait(actor->port, timeout_ns);
    actor->busy = false;
    actor->unread = true;
    uint64_t after_ns = weir_sim_now_ns(run->world);
    cross_note(run, "actor %u has %s: %d", actor->index, flushes ? "flushed" : "waited", code);
    if (actor->shard >= 0) {
        CROSS_CHECK(run, code == -EDEADLK, "a shard's port waits: %d", code);
        return;
    }
    CROSS_CHECK(run, code == 0 || code == -ETIMEDOUT || code == -ENOBUFS, "waiting answers %d", code);
    CROSS_CHECK(run, code != -ETIMEDOUT || after_ns >= now_ns + timeout_ns, "waiting gave up after %llu of %llu ns",
                (unsigned long long)(after_ns - now_ns), (unsigned long long)timeout_ns);
    if (code != 0 || !flushes)
        return;
    weir_port_stats stats;
    cross_actor_collect(actor, UINT32_MAX);
    weir_port_stats_get(actor->port, &stats);
    uint64_t known = stats.messages_taken + stats.messages_undelivered;
    CROSS_CHECK(run, known <= stats.messages_sent, "port %u has sent %llu messages, and %llu were taken or came back",
                actor->producer->number, (unsigned long long)stats.messages_sent, (unsigned long long)known);
    CROSS_CHECK(run, run->stopping || known == stats.messages_sent, "flushed, and %llu of %llu messages were taken or came back",
                (unsigned long long)known, (unsigned long long)stats.messages_sent);
}

static void close_port(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    for (uint32_t i = 0; i < CROSS_CHANNELS_MAX; i++)
        if (actor->channels[i] != NULL && cross_one_of(run, 2))
            cross_channel_close(actor->channels[i]);
    cross_actor_close(actor);
}

static void act_once(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    if (actor->quarrels) {
        int client = cross_act_choose_client(actor);
        if (client >= 0)
            cross_actor_send(actor, (uint32_t)client, run->plan.payload_max + 1 + (uint32_t)cross_below(run, 900));
        return;
    }
    if (cross_permille(run, run->plan.change_permille)) {
        int client = cross_act_choose_client(actor);
        if (actor->shard < 0 && cross_one_of(run, 2))
            close_port(actor);
        else if (client >= 0)
            cross_actor_end(actor, (uint32_t)client);
        return;
    }
    if (cross_permille(run, run->plan.channel_permille)) {
        cross_channel_act(actor);
        return;
    }
    if (cross_permille(run, run->plan.group_permille)) {
        cross_group_act(actor);
        return;
    }
    switch (cross_below(run, 16)) {
    case 0:
        weir_port_cork(actor->port);
        break;
    case 1:
    case 2:
        weir_port_uncork(actor->port);
        break;
    case 3:
    case 4:
        cross_actor_post(actor, (uint32_t)cross_below(run, run->plan.shards));
        break;
    case 5:
        wait_for_something(actor);
        break;
    default:
        send_some(actor);
    }
}

/* Hundreds of functions to one shard, told of together, and then nothing more. */
static void fire_salvo(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    uint32_t shard = (uint32_t)cross_below(run, run->plan.shards), count = 500 + (uint32_t)cross_below(run, 500);
    actor->salvo = false;
    weir_port_cork(actor->port);
    while (count > 0 && cross_actor_post(actor, shard) == 0)
        count--;
    run->feats[CROSS_SALVO] += count == 0;
}

/* The faults have stopped: nothing new; what is begun is finished, and everything that comes back is collected. */
static void finish(struct cross_actor *actor)
{
    if (actor->port == NULL)
        return;
    weir_port_uncork(actor->port);
    cross_channel_publish_all(actor);
    if (actor->shard < 0)
        cross_actor_collect(actor, UINT32_MAX);
}

void cross_act(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    if (run->calm) {
        finish(actor);
        return;
    }
    if (actor->port == NULL)
        cross_actor_open(actor);
    uint32_t burst = 1 + (uint32_t)cross_below(run, actor->burst_max);
    for (uint32_t i = 0; i < burst && actor->acts_left > 0 && actor->port != NULL; i++, actor->acts_left--)
        act_once(actor);
    if (actor->acts_left == 0 && actor->port != NULL && actor->salvo)
        fire_salvo(actor);
    if (actor->acts_left == 0 && actor->port != NULL)
        weir_port_uncork(actor->port);
    if (actor->shard < 0 && actor->port != NULL && (cross_below(run, 8) < actor->collects || run->stopping))
        cross_actor_collect(actor, cross_one_of(run, 4) || run->stopping ? UINT32_MAX : 1 + (uint32_t)cross_below(run, 8));
}
