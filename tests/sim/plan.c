/* SPDX-License-Identifier: MIT */
/* plan: what the seed decides about a run. One run in four is a good day, on which everything must arrive. */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

uint64_t run_below(struct run *run, uint64_t bound)
{
    return weir_sim_random(run->world) % bound;
}

/* Small ones as likely as large ones, by magnitude: of the range, of half of it, of a quarter of it ... */
uint64_t run_magnitude(struct run *run, uint64_t low, uint64_t high)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll((high - low) | 1);
    return low + run_below(run, ((high - low) >> run_below(run, bits < 12 ? bits : 12)) + 1);
}

bool run_permille(struct run *run, uint32_t permille)
{
    return permille != 0 && run_below(run, 1000) < permille;
}

/* Of so many, one. */
static bool one_of(struct run *run, uint64_t count)
{
    return run_below(run, count) == 0;
}

static void plan_config(struct run *run)
{
    struct run_plan *plan = &run->plan;
    weir_config *config = &plan->config;
    plan->shards = 1 + (uint32_t)run_below(run, RUN_SHARDS_MAX);
    plan->embedded = one_of(run, 2);
    plan->haste = 1 + (uint32_t)run_below(run, 8);
    plan->stall_permille = one_of(run, 3) ? 1 + (uint32_t)run_below(run, 50) : 0;
    config->shards = plan->shards;
    config->connections = one_of(run, 3) ? 2 + (uint32_t)run_below(run, 6) : 64;
    config->receive_buffers = UINT32_C(8) << run_below(run, 4);
    config->receive_buffer_bytes = one_of(run, 2) ? 0 : UINT32_C(4096) << run_below(run, 5);
    config->memory_bytes = !plan->clean && one_of(run, 4) ? UINT64_C(1) << 20 : 0;
    config->stop_ns = WEIR_SECOND + run_below(run, 3) * WEIR_SECOND;
    config->long_turn_ns = WEIR_FOREVER;
}

static void plan_codec(struct run *run)
{
    static const weir_frame_length lengths[] = {WEIR_FRAME_U32, WEIR_FRAME_U16, WEIR_FRAME_U64, WEIR_FRAME_VARINT};
    struct run_plan *plan = &run->plan;
    weir_frame_options options = {.length = lengths[run_below(run, 4)], .message_max_bytes = RUN_PAYLOAD_MAX};
    if (options.length != WEIR_FRAME_VARINT) {
        options.big_endian = one_of(run, 2);
        options.counts_itself = one_of(run, 2);
    }
    RUN_CHECK(run, weir_codec_frame(&plan->echo.codec, &options) == 0, "the codec's options do not fit");
    plan->ping.codec = plan->echo.codec;
}

static void plan_limits(struct run *run)
{
    struct run_plan *plan = &run->plan;
    weir_limits *limits = &plan->echo.limits;
    limits->high_water_bytes = one_of(run, 3) ? 256 * 1024 : (uint32_t)run_magnitude(run, 1024, 256 * 1024);
    limits->low_water_bytes = one_of(run, 2) ? 0 : 1 + (uint32_t)run_below(run, limits->high_water_bytes);
    limits->message_ns = WEIR_FOREVER;
    limits->drain_ns = WEIR_FOREVER;
    plan->ping.limits.drain_ns = 5 * WEIR_SECOND;
    if (plan->clean)
        return;
    const uint64_t least_ns = 10 * WEIR_MILLISECOND, most_ns = 10 * WEIR_SECOND;
    limits->message_ns = one_of(run, 2) ? WEIR_FOREVER : run_magnitude(run, least_ns, most_ns);
    limits->drain_ns = one_of(run, 2) ? 0 : run_magnitude(run, least_ns, most_ns);
    limits->first_ns = one_of(run, 8) ? run_magnitude(run, least_ns, most_ns) : 0;
    limits->idle_ns = one_of(run, 8) ? run_magnitude(run, least_ns, most_ns) : 0;
    limits->slow_peer.queued_bytes_max = one_of(run, 8) ? run_magnitude(run, 4096, 256 * 1024) : 0;
    limits->slow_peer.stalled_ns_max = one_of(run, 8) ? run_magnitude(run, least_ns, most_ns) : 0;
}

static void plan_handlers(struct run *run)
{
    struct run_plan *plan = &run->plan;
    plan->later_permille = one_of(run, 3) ? 1 + (uint32_t)run_below(run, 200) : 0;
    plan->pause_permille = one_of(run, 3) ? 1 + (uint32_t)run_below(run, 200) : 0;
    if (plan->clean)
        return;
    plan->end_permille = one_of(run, 4) ? 1 + (uint32_t)run_below(run, 30) : 0;
    plan->abort_permille = one_of(run, 4) ? 1 + (uint32_t)run_below(run, 30) : 0;
    plan->fail_permille = one_of(run, 4) ? 1 + (uint32_t)run_below(run, 30) : 0;
    plan->refuse_permille = one_of(run, 4) ? 1 + (uint32_t)run_below(run, 300) : 0;
}

/* --- clients --- */

static void append_frame(struct run *run, struct run_client *client, uint32_t bytes)
{
    const weir_codec *codec = &run->plan.echo.codec;
    uint8_t payload[RUN_PAYLOAD_MAX];
    for (uint32_t i = 0; i < bytes; i += sizeof(uint64_t)) {
        uint64_t word = weir_sim_random(run->world);
        memcpy(payload + i, &word, bytes - i < sizeof word ? bytes - i : sizeof word);
    }
    weir_seal seal;
    RUN_CHECK(run, codec->seal(codec, payload, bytes, &seal) == 0, "the codec does not seal %u bytes", bytes);
    uint8_t *at = client->stream + client->stream_bytes;
    memcpy(at, seal.head, seal.head_bytes);
    memcpy(at + seal.head_bytes, payload, bytes);
    memcpy(at + seal.head_bytes + bytes, seal.trailer, seal.trailer_bytes);
    client->frames[client->frame_count++] = (struct run_frame){.offset = (uint32_t)client->stream_bytes + seal.head_bytes, .bytes = bytes};
    client->stream_bytes += seal.head_bytes + bytes + seal.trailer_bytes;
}

static void plan_client(struct run *run, struct run_client *client, uint32_t index)
{
    struct run_plan *plan = &run->plan;
    client->run = run;
    client->index = index;
    client->manner = plan->clean ? (enum run_manner)run_below(run, 2) : (enum run_manner)run_below(run, RUN_MANNERS);
    client->start_ns = run_magnitude(run, 0, 200 * WEIR_MILLISECOND);
    client->pace_ns_max = run_magnitude(run, WEIR_MICROSECOND, 5 * WEIR_MILLISECOND);
    uint32_t count = 1 + (uint32_t)(one_of(run, 2) ? run_below(run, RUN_FRAMES_MAX) : run_magnitude(run, 0, RUN_FRAMES_MAX - 1));
    uint32_t largest = one_of(run, 2) ? RUN_PAYLOAD_MAX : (uint32_t)run_magnitude(run, 0, RUN_PAYLOAD_MAX);
    bool bulk = one_of(run, 3);
    client->stream = malloc((size_t)count * (largest + WEIR_HEAD_MAX_BYTES + WEIR_TRAILER_MAX_BYTES));
    RUN_CHECK(run, client->stream != NULL, "no memory for a client");
    for (uint32_t i = 0; i < count; i++)
        append_frame(run, client, (uint32_t)(bulk ? run_below(run, largest + 1) : run_magnitude(run, 0, largest)));
    /* Some 300 steps at most: the slow-loris among them writes and reads a byte or two at a time, if it has little to say. */
    uint64_t least = 1 + client->stream_bytes / 300;
    client->write_max_bytes = (uint32_t)run_magnitude(run, least, 65536);
    client->read_max_bytes = (uint32_t)run_magnitude(run, least, 65536);
    client->deaf_ns = one_of(run, 3) ? run_magnitude(run, 0, 3 * WEIR_SECOND) : 0;
    client->leave_bytes = run_below(run, client->stream_bytes + 1);
}

void plan_make(struct run *run)
{
    struct run_plan *plan = &run->plan;
    plan->clean = one_of(run, 4);
    if (!plan->clean)
        weir_sim_faults_mix(run->seed, &plan->faults);
    if (plan->clean && one_of(run, 2))
        plan->faults.plain_buffers = true;
    plan->calm_ns = WEIR_SECOND + (one_of(run, 2) ? 20 * WEIR_SECOND : run_magnitude(run, WEIR_MILLISECOND, 20 * WEIR_SECOND));
    plan->stop_ns = plan->close_after_ns = plan->break_ns = UINT64_MAX;
    if (!plan->clean && one_of(run, 4))
        plan->stop_ns = WEIR_SECOND + run_magnitude(run, WEIR_MICROSECOND, 2 * WEIR_SECOND);
    if (!plan->clean && one_of(run, 8))
        plan->close_after_ns = WEIR_SECOND + run_magnitude(run, WEIR_MICROSECOND, 2 * WEIR_SECOND);
    if (!plan->clean && one_of(run, 24))
        plan->break_ns = WEIR_SECOND + run_magnitude(run, WEIR_MICROSECOND, 2 * WEIR_SECOND);
    plan->unix_address = one_of(run, 6);
    plan_config(run);
    plan_codec(run);
    plan_limits(run);
    plan_handlers(run);
    plan->ping_count = !plan->unix_address && one_of(run, 2) ? 1 + (uint32_t)run_below(run, RUN_PINGS_MAX) : 0;
    plan->client_count = 1 + (uint32_t)run_below(run, RUN_CLIENTS_MAX);
    for (uint32_t i = 0; i < plan->client_count; i++)
        plan_client(run, &run->clients[i], i);
    weir_sim_set_faults(run->world, &plan->faults);
}

void plan_free(struct run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        free(run->clients[i].stream);
}
