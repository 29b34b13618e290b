/* SPDX-License-Identifier: MIT */
/* cross_plan: what the seed decides about a run. One run in four is a good day, on which everything must arrive. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cross.h"

#define MESSAGES_MAX 40
#define LEAN_BYTES   (UINT64_C(1) << 20)

uint64_t cross_below(struct cross_run *run, uint64_t bound)
{
    return weir_sim_random(run->world) % bound;
}

/* Small ones as likely as large ones, by magnitude. */
uint64_t cross_magnitude(struct cross_run *run, uint64_t low, uint64_t high)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll((high - low) | 1);
    return low + cross_below(run, ((high - low) >> cross_below(run, bits < 12 ? bits : 12)) + 1);
}

bool cross_permille(struct cross_run *run, uint32_t permille)
{
    return permille != 0 && cross_below(run, 1000) < permille;
}

bool cross_one_of(struct cross_run *run, uint64_t count)
{
    return cross_below(run, count) == 0;
}

/* Memory may be short on the shards. */
bool cross_is_lean(const struct cross_run *run)
{
    return run->plan.starve_permille > 0 || run->plan.config.memory_bytes == LEAN_BYTES;
}

/* --- weir --- */

static void plan_config(struct cross_run *run)
{
    struct cross_plan *plan = &run->plan;
    weir_config *config = &plan->config;
    plan->shards = 2 + (uint32_t)cross_below(run, CROSS_SHARDS_MAX - 1);
    plan->haste = 1 + (uint32_t)cross_below(run, 8);
    plan->stall_permille = cross_one_of(run, 3) ? 1 + (uint32_t)cross_below(run, 50) : 0;
    config->shards = plan->shards;
    config->connections = 64;
    config->ports = cross_one_of(run, 2) ? CROSS_THREADS_MAX + (uint32_t)cross_below(run, 4) : 0;
    config->channels = cross_one_of(run, 4) ? 2 + (uint32_t)cross_below(run, 6) : 0;
    config->groups = 1 + (uint32_t)cross_below(run, 8);
    config->receive_buffers = UINT32_C(8) << cross_below(run, 4);
    config->receive_buffer_bytes = cross_one_of(run, 2) ? 0 : UINT32_C(4096) << cross_below(run, 5);
    config->memory_bytes = !plan->clean && cross_one_of(run, 4) ? LEAN_BYTES
                           : cross_one_of(run, 2)               ? UINT64_C(4) << (plan->clean ? 22 : 20)
                                                                : 0;
    config->ring_bytes = cross_one_of(run, 2) ? 16384 : UINT32_C(16384) << cross_below(run, 4);
    config->port_bytes = cross_one_of(run, 2) ? UINT64_C(65536) << cross_below(run, 4) : 0;
    config->send_bytes = cross_one_of(run, 3) ? UINT32_C(4096) << cross_below(run, 5) : 0;
    config->stop_ns = WEIR_SECOND + cross_below(run, 3) * WEIR_SECOND;
    config->long_turn_ns = WEIR_FOREVER;
    if (cross_one_of(run, 2))
        plan->listening.placement = WEIR_PLACEMENT_ROUND_ROBIN;
}

static void plan_limits(struct cross_run *run, weir_protocol *protocol)
{
    weir_limits *limits = &protocol->limits;
    limits->high_water_bytes = cross_one_of(run, 3) ? 256 * 1024 : (uint32_t)cross_magnitude(run, 1024, 256 * 1024);
    limits->low_water_bytes = cross_one_of(run, 2) ? 0 : 1 + (uint32_t)cross_below(run, limits->high_water_bytes);
    limits->message_ns = WEIR_FOREVER;
    limits->drain_ns = WEIR_FOREVER;
    if (run->plan.clean)
        return;
    limits->drain_ns = cross_one_of(run, 2) ? 0 : cross_magnitude(run, 10 * WEIR_MILLISECOND, 10 * WEIR_SECOND);
    limits->slow_peer.queued_bytes_max = cross_one_of(run, 8) ? cross_magnitude(run, 4096, 256 * 1024) : 0;
    limits->slow_peer.stalled_ns_max = cross_one_of(run, 8) ? cross_magnitude(run, 10 * WEIR_MILLISECOND, 10 * WEIR_SECOND) : 0;
}

static void plan_protocols(struct cross_run *run)
{
    run->plan.payload_max = cross_one_of(run, 4) ? 3000 : CROSS_PAYLOAD_MAX;
    const weir_frame_options options[] = {
        {.message_max_bytes = run->plan.payload_max},
        {.length = WEIR_FRAME_VARINT, .message_max_bytes = run->plan.payload_max},
    };
    for (uint32_t i = 0; i < CROSS_PROTOCOLS; i++) {
        weir_protocol *protocol = &run->plan.protocols[i];
        plan_limits(run, protocol);
        int code = i == CROSS_RAW ? weir_codec_raw(&protocol->codec) : weir_codec_frame(&protocol->codec, &options[i]);
        CROSS_CHECK(run, code == 0, "the codec's options do not fit");
    }
}

/* --- clients --- */

uint8_t cross_raw_byte(uint32_t client, uint64_t position)
{
    return (uint8_t)((position * 167 + (position >> 8) * 13 + client * 31) >> 1);
}

static void append_message(struct cross_run *run, struct cross_client *client, uint32_t bytes)
{
    const weir_codec *codec = &run->plan.protocols[client->protocol].codec;
    uint8_t payload[CROSS_PAYLOAD_MAX];
    struct cross_head head = {.producer = client->producer->number, .order = ++client->producer->order, .bytes = bytes};
    if (client->partner >= 0)
        head.task = head.order == 1 && client->asks ? CROSS_TASK_PIPE : CROSS_TASK_DROP;
    else
        head.task = run->plan.pass_on && cross_below(run, 4) != 0 ? CROSS_TASK_PASS_ON : CROSS_TASK_DROP;
    head.target = client->partner >= 0 ? (uint32_t)client->partner : (uint32_t)cross_below(run, run->plan.client_count);
    cross_message_make(&head, payload);
    weir_seal seal;
    CROSS_CHECK(run, codec->seal(codec, payload, bytes, &seal) == 0, "the codec does not seal %u bytes", bytes);
    uint8_t *at = client->out + client->out_bytes;
    memcpy(at, seal.head, seal.head_bytes);
    memcpy(at + seal.head_bytes, payload, bytes);
    memcpy(at + seal.head_bytes + bytes, seal.trailer, seal.trailer_bytes);
    client->out_bytes += seal.head_bytes + bytes + seal.trailer_bytes;
    if (client->partner >= 0)
        cross_accepted(run, client->producer, (uint32_t)client->partner, head.order, bytes);
}

static void plan_out(struct cross_run *run, struct cross_client *client)
{
    uint32_t count = 1 + (uint32_t)cross_magnitude(run, 0, MESSAGES_MAX - 1);
    uint32_t most = run->plan.payload_max, largest = cross_one_of(run, 3) ? most : (uint32_t)cross_magnitude(run, 64, most);
    client->producer = cross_producer_make(run, CROSS_OF_CLIENT, client->index);
    client->message_count = count;
    client->out = malloc((size_t)count * (largest + WEIR_HEAD_MAX_BYTES + WEIR_TRAILER_MAX_BYTES));
    CROSS_CHECK(run, client->out != NULL, "no memory for a client");
    if (client->protocol == CROSS_RAW) {
        client->out_bytes = 1 + cross_below(run, (uint64_t)count * largest);
        for (uint64_t i = 0; i < client->out_bytes; i++)
            client->out[i] = cross_raw_byte(client->index, i);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t least = sizeof(struct cross_head);
        append_message(
            run, client,
            (uint32_t)(cross_one_of(run, 2) ? cross_magnitude(run, least, largest) : least + cross_below(run, largest - least + 1)));
    }
}

static void plan_client(struct cross_run *run, struct cross_client *client)
{
    const struct cross_plan *plan = &run->plan;
    client->manner = cross_one_of(run, 2) ? CROSS_STAY : (enum cross_manner)cross_below(run, plan->clean ? CROSS_CLOSE : CROSS_MANNERS);
    client->start_ns = cross_magnitude(run, 0, cross_one_of(run, 4) ? 200 * WEIR_MILLISECOND : 5 * WEIR_MILLISECOND);
    client->pace_ns_max = cross_magnitude(run, WEIR_MICROSECOND, 5 * WEIR_MILLISECOND);
    plan_out(run, client);
    /* Some 300 steps at most. */
    client->write_max_bytes = (uint32_t)cross_magnitude(run, 1 + client->out_bytes / 300, 65536);
    client->read_max_bytes = (uint32_t)cross_magnitude(run, 256, 65536);
    if (cross_one_of(run, 3)) {
        client->deaf_from_ns = WEIR_SECOND + cross_magnitude(run, 0, 200 * WEIR_MILLISECOND);
        client->deaf_until_ns = cross_one_of(run, 2) ? UINT64_MAX /* until the faults stop */
                                                     : client->deaf_from_ns + cross_magnitude(run, WEIR_MILLISECOND, 2 * WEIR_SECOND);
    }
    client->leave_bytes = cross_below(run, 2 * client->out_bytes + 2);
}

/* Who is at the end of a pipe with whom, and over which listeners they come. */
static void plan_clients(struct cross_run *run)
{
    struct cross_plan *plan = &run->plan;
    plan->client_count = 3 + (uint32_t)cross_below(run, CROSS_CLIENTS_MAX - 2);
    uint32_t pairs = cross_one_of(run, 3) ? 0 : (uint32_t)cross_below(run, plan->client_count / 2);
    for (uint32_t i = 0; i < plan->client_count; i++)
        run->clients[i] = (struct cross_client){.run = run, .index = i, .partner = -1, .protocol = (uint32_t)cross_below(run, 2)};
    for (uint32_t i = 0; i < pairs; i++) {
        struct cross_client *one = &run->clients[2 * i], *two = one + 1;
        one->partner = (int)two->index;
        two->partner = (int)one->index;
        if (cross_one_of(run, 3))
            one->protocol = two->protocol = CROSS_RAW;
        one->asks = one->protocol != CROSS_RAW && cross_one_of(run, 2);
        one->waits = two->waits = cross_one_of(run, 2);
    }
    for (uint32_t i = 0; i < plan->client_count; i++)
        plan_client(run, &run->clients[i]);
}

/* --- actors --- */

static void plan_actors(struct cross_run *run)
{
    struct cross_plan *plan = &run->plan;
    plan->threads = 1 + (uint32_t)cross_below(run, CROSS_THREADS_MAX);
    plan->big_permille = cross_one_of(run, 3) ? 0 : (uint32_t)cross_below(run, 500);
    plan->channel_permille = cross_one_of(run, 3) ? 0 : (uint32_t)cross_below(run, 500);
    plan->group_permille = cross_one_of(run, 3) ? 0 : (uint32_t)cross_below(run, 500);
    plan->change_permille = cross_one_of(run, plan->clean ? 2 : 3) ? 0 : (uint32_t)cross_below(run, 30);
    bool crowded = cross_one_of(run, 8); /* the rings between shards are full most of the time */
    for (uint32_t i = 0; i < plan->shards + plan->threads; i++) {
        struct cross_actor *actor = &run->actors[i];
        *actor = (struct cross_actor){.run = run, .index = i, .shard = i < plan->shards ? (int)i : -1, .event = -1};
        actor->acts_left = (uint32_t)cross_magnitude(run, 0, i < plan->shards ? 300 : 1200);
        actor->burst_max = 1 + (uint32_t)cross_magnitude(run, 0, 60);
        actor->pace_ns_max = cross_magnitude(run, WEIR_MICROSECOND, 20 * WEIR_MILLISECOND);
        actor->collects = (uint32_t)cross_below(run, 9);
        actor->polls = cross_one_of(run, 2);
        actor->salvo = cross_one_of(run, 12);
        actor->outlives = cross_one_of(run, 2);
        actor->start_ns = cross_magnitude(run, 0, 20 * WEIR_MILLISECOND);
        if (crowded && i < plan->shards) {
            actor->acts_left = 600;
            actor->burst_max = 60;
            actor->pace_ns_max = 20 * WEIR_MICROSECOND;
        }
        actor->quarrels = i >= plan->shards && plan->payload_max < CROSS_PAYLOAD_MAX && cross_one_of(run, 8);
        if (actor->quarrels) {
            actor->acts_left = 300 + (uint32_t)cross_below(run, 600);
            actor->collects = 0;
        }
    }
}

/* The trace's second line. */
static void tell(const struct cross_run *run)
{
    const struct cross_plan *plan = &run->plan;
    if (run->trace == NULL)
        return;
    fprintf(run->trace, "%s; %u shards, %u threads, %u clients; ", plan->clean ? "a good day" : "a bad day", plan->shards, plan->threads,
            plan->client_count);
    scenario_tell_faults(run->trace, &plan->faults);
    fputs(cross_is_lean(run) ? ", memory short" : "", run->trace);
    fputs(plan->stop_ns != UINT64_MAX ? ", stopped early" : "", run->trace);
    fputs(plan->cut_ns != UINT64_MAX ? ", closed early" : "", run->trace);
    fputs(plan->break_ns != UINT64_MAX ? ", an engine breaks" : "", run->trace);
    fputc('\n', run->trace);
}

void cross_plan_make(struct cross_run *run)
{
    struct cross_plan *plan = &run->plan;
    plan->clean = cross_one_of(run, 4);
    if (!plan->clean)
        weir_sim_faults_mix(run->seed, &plan->faults);
    if (plan->clean && cross_one_of(run, 2))
        plan->faults.plain_buffers = true;
    plan->calm_ns = WEIR_SECOND + cross_magnitude(run, 50 * WEIR_MILLISECOND, 3 * WEIR_SECOND);
    plan->stop_ns = plan->cut_ns = plan->break_ns = UINT64_MAX;
    if (!plan->clean && cross_one_of(run, 5))
        plan->stop_ns = WEIR_SECOND + cross_magnitude(run, WEIR_MICROSECOND, cross_one_of(run, 2) ? WEIR_SECOND : 50 * WEIR_MILLISECOND);
    if (!plan->clean && cross_one_of(run, 8))
        plan->cut_ns = WEIR_SECOND + cross_magnitude(run, WEIR_MICROSECOND, WEIR_SECOND);
    if (!plan->clean && cross_one_of(run, 24))
        plan->break_ns = WEIR_SECOND + cross_magnitude(run, WEIR_MICROSECOND, WEIR_SECOND);
    plan->starve_permille = !plan->clean && cross_one_of(run, 6) ? 1 + (uint32_t)cross_below(run, 300) : 0;
    plan->fed_ns = plan->calm_ns + cross_magnitude(run, 0, 50 * WEIR_MILLISECOND);
    plan->into_pipes = cross_one_of(run, 2);
    plan->pass_on = !cross_one_of(run, 4);
    plan->group_count = cross_one_of(run, 2) ? 1 + (uint32_t)cross_below(run, 2) : CROSS_GROUPS_MAX;
    plan_config(run);
    plan_protocols(run);
    plan_clients(run);
    plan_actors(run);
    weir_sim_set_faults(run->world, &plan->faults);
    tell(run);
}

void cross_plan_free(struct cross_run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++) {
        free(run->clients[i].out);
        free(run->clients[i].in);
    }
    for (uint32_t i = 0; i < run->producer_count; i++) {
        for (uint32_t k = 0; k < CROSS_CLIENTS_MAX; k++) {
            if (run->producers[i]->streams[k] != NULL)
                free(run->producers[i]->streams[k]->sent);
            free(run->producers[i]->streams[k]);
        }
        free(run->producers[i]);
    }
    free(run->producers);
    for (struct cross_channel *channel = run->channels, *next; channel != NULL; channel = next) {
        next = channel->next;
        free(channel);
    }
    for (struct cross_post *post = run->posts, *next; post != NULL; post = next) {
        next = post->next;
        free(post);
    }
    for (uint32_t i = 0; i < CROSS_GROUPS_MAX; i++)
        free(run->groups[i].deeds);
}
