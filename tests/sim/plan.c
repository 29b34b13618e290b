/* SPDX-License-Identifier: MIT */
/* plan: what the seed decides about a run. One run in four is a good day, on which everything must arrive; one in eight is large. */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

#define SMALL_BYTES 3000 /* the largest message of a run that is not large */

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

bool run_one_of(struct run *run, uint64_t count)
{
    return run_below(run, count) == 0;
}

/* --- weir --- */

static void plan_config(struct run *run)
{
    struct run_plan *plan = &run->plan;
    weir_config *config = &plan->config;
    plan->shards = 1 + (uint32_t)run_below(run, RUN_SHARDS_MAX);
    plan->embedded = run_one_of(run, 2);
    plan->haste = 1 + (uint32_t)run_below(run, 8);
    plan->stall_permille = run_one_of(run, 3) ? 1 + (uint32_t)run_below(run, 50) : 0;
    config->shards = plan->shards;
    config->connections = run_one_of(run, 3) ? 2 + (uint32_t)run_below(run, 6) : 64;
    config->dials = run_one_of(run, 4) ? 1 + (uint32_t)run_below(run, 3) : 0;
    config->receive_buffers = UINT32_C(8) << run_below(run, 4);
    config->receive_buffer_bytes = run_one_of(run, plan->large ? 2 : 8) ? 0 : UINT32_C(4096) << run_below(run, plan->large ? 5 : 2);
    config->memory_bytes = !plan->clean && run_one_of(run, 4) ? UINT64_C(1) << 20 : 0;
    config->send_bytes = run_one_of(run, 3) ? UINT32_C(4096) << run_below(run, 5) : 0;
    if (run_one_of(run, 2) && config->memory_bytes == 0) /* more than they need for what they put together, if it is given back */
        config->assembly_bytes = plan->large ? UINT64_C(3) << 20 : UINT64_C(128) << 10;
    config->stop_ns = plan->drains ? 60 * WEIR_SECOND : WEIR_SECOND + run_below(run, 3) * WEIR_SECOND;
    config->long_turn_ns = WEIR_FOREVER;
    if (run_one_of(run, 2))
        plan->listening.placement = WEIR_PLACEMENT_ROUND_ROBIN;
}

/* The seed's, as everything is. */
static bool random_bytes(void *user, uint8_t *to, uint32_t bytes)
{
    struct run *run = user;
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)weir_sim_random(run->world);
    return true;
}

static void plan_codec(struct run *run)
{
    static const weir_frame_length lengths[] = {WEIR_FRAME_U32, WEIR_FRAME_U16, WEIR_FRAME_U64, WEIR_FRAME_VARINT};
    struct run_plan *plan = &run->plan;
    weir_codec *codec = &plan->echo.codec;
    int code;
    plan->message_max_bytes = plan->large ? RUN_PAYLOAD_MAX : SMALL_BYTES;
    uint64_t drawn = run_below(run, 8);
    plan->kind = drawn == 0 ? RUN_KIND_RAW : drawn == 1 ? RUN_KIND_LINE : drawn == 2 ? RUN_KIND_WEB : RUN_KIND_FRAME;
    if (plan->kind == RUN_KIND_FRAME) {
        plan->frame = (weir_frame_options){.length = lengths[run_below(run, 4)], .message_max_bytes = plan->message_max_bytes};
        if (plan->frame.length != WEIR_FRAME_VARINT) {
            plan->frame.big_endian = run_one_of(run, 2);
            plan->frame.counts_itself = run_one_of(run, 2);
        }
        code = weir_codec_frame(codec, &plan->frame);
    } else if (plan->kind == RUN_KIND_WEB) {
        plan->web = (weir_websocket_options){.kind = WEIR_WEBSOCKET_BINARY, .message_max_bytes = plan->message_max_bytes};
        plan->web_client = plan->web;
#ifdef WEIR_DEFLATE
        plan->web.deflate = (weir_websocket_deflate){.enabled = run->seed % 3 == 0, .from_bytes = UINT32_MAX};
        if (plan->web.deflate.enabled) /* what is packed lies beside what is made of it */
            plan->config.assembly_bytes *= 4;
#endif
        plan->web_client.client = true;
        plan->web_client.host = "echo.test";
        plan->web_client.random = random_bytes;
        plan->web_client.user = run;
        code = weir_codec_websocket(codec, &plan->web);
    } else {
        code = plan->kind == RUN_KIND_LINE ? weir_codec_line(codec, plan->message_max_bytes, run_one_of(run, 2)) : weir_codec_raw(codec);
    }
    RUN_CHECK(run, code == 0, "the codec's options do not fit");
    plan->ping.codec = plan->call.codec = *codec;
    if (plan->kind == RUN_KIND_WEB)
        RUN_CHECK(run, weir_codec_websocket(&plan->ping.codec, &plan->web_client) == 0, "the client's options do not fit");
}

static void plan_limits(struct run *run)
{
    struct run_plan *plan = &run->plan;
    weir_limits *limits = &plan->echo.limits;
    uint32_t most = plan->large ? 256 * 1024 : 32 * 1024;
    limits->high_water_bytes = run_one_of(run, 3) ? most : (uint32_t)run_magnitude(run, 1024, most);
    limits->low_water_bytes = run_one_of(run, 2) ? 0 : 1 + (uint32_t)run_below(run, limits->high_water_bytes);
    limits->message_ns = WEIR_FOREVER;
    limits->drain_ns = limits->handshake_ns = WEIR_FOREVER;
    plan->ping.limits.drain_ns = plan->call.limits.drain_ns = 5 * WEIR_SECOND;
    if (plan->clean)
        return;
    const uint64_t least_ns = 10 * WEIR_MILLISECOND, most_ns = 10 * WEIR_SECOND;
    limits->message_ns = run_one_of(run, 2) ? WEIR_FOREVER : run_magnitude(run, least_ns, most_ns);
    limits->handshake_ns = run_one_of(run, 2) ? 0 : run_magnitude(run, WEIR_MILLISECOND, WEIR_SECOND);
    limits->drain_ns = run_one_of(run, 2) ? 0 : run_magnitude(run, least_ns, most_ns);
    limits->first_ns = run_one_of(run, 8) ? run_magnitude(run, least_ns, most_ns) : 0;
    limits->idle_ns = run_one_of(run, 8) ? run_magnitude(run, least_ns, most_ns) : 0;
    limits->slow_peer.queued_bytes_max = run_one_of(run, 8) ? run_magnitude(run, 1024, most) : 0;
    limits->slow_peer.stalled_ns_max = run_one_of(run, 8) ? run_magnitude(run, least_ns, most_ns) : 0;
    plan->policy_permille = run_one_of(run, 4) ? 1 + (uint32_t)run_below(run, 500) : 0;
    plan->policy.queued_bytes_max = run_one_of(run, 2) ? run_magnitude(run, 1024, most) : 0;
    plan->policy.stalled_ns_max = run_one_of(run, 2) ? run_magnitude(run, least_ns, most_ns) : 0;
}

static void plan_handlers(struct run *run)
{
    struct run_plan *plan = &run->plan;
    plan->later_permille = run_one_of(run, 3) ? 1 + (uint32_t)run_below(run, 200) : 0;
    plan->pause_permille = run_one_of(run, 3) ? 1 + (uint32_t)run_below(run, 200) : 0;
    if (plan->clean)
        return;
    plan->end_permille = run_one_of(run, 4) ? 1 + (uint32_t)run_below(run, 60) : 0;
    plan->abort_permille = run_one_of(run, 4) ? 1 + (uint32_t)run_below(run, 60) : 0;
    plan->fail_permille = run_one_of(run, 4) ? 1 + (uint32_t)run_below(run, 60) : 0;
    plan->refuse_permille = run_one_of(run, 4) ? 1 + (uint32_t)run_below(run, 300) : 0;
}

/* --- what befalls it --- */

/* After its beginning: a moment, close by or far. */
static uint64_t moment(struct run *run)
{
    return WEIR_SECOND + run_magnitude(run, WEIR_MICROSECOND, run_one_of(run, 2) ? 2 * WEIR_SECOND : 20 * WEIR_MILLISECOND);
}

static void plan_faults(struct run *run)
{
    struct run_plan *plan = &run->plan;
    plan->clean = run_one_of(run, 4);
    plan->large = run_one_of(run, 8);
    if (!plan->clean)
        weir_sim_faults_mix(run->seed, &plan->faults);
    if (plan->clean && run_one_of(run, 2))
        plan->faults.plain_buffers = true;
    plan->calm_ns = WEIR_SECOND + (run_one_of(run, 2) ? 20 * WEIR_SECOND : run_magnitude(run, WEIR_MILLISECOND, 20 * WEIR_SECOND));
    plan->stop_ns = plan->close_after_ns = plan->break_ns = plan->restart_ns = UINT64_MAX;
    plan->drains = plan->clean && run_one_of(run, 6);
    if (plan->drains || (!plan->clean && run_one_of(run, 4)))
        plan->stop_ns = moment(run);
    if (plan->clean)
        return;
    if (run_one_of(run, 8))
        plan->close_after_ns = moment(run);
    if (run_one_of(run, 24))
        plan->break_ns = moment(run);
    if (run_one_of(run, 4)) {
        plan->restart_ns = moment(run);
        plan->again_ns = run_one_of(run, 4) ? 0 : run_magnitude(run, WEIR_MICROSECOND, 500 * WEIR_MILLISECOND);
    }
    plan->starve_permille = run_one_of(run, 6) ? 1 + (uint32_t)run_below(run, 300) : 0;
}

/* The trace's second line. */
static void tell(const struct run *run)
{
    static const char *const kinds[] = {"frames", "lines", "raw bytes", "websocket"};
    const struct run_plan *plan = &run->plan;
    if (run->trace == NULL)
        return;
    fprintf(run->trace,
            "%s, %s; %s, %" PRIu32 " shards%s, %" PRIu32 " clients, %" PRIu32 " callers, %" PRIu32 " visitors, %" PRIu32 " pings; ",
            plan->clean ? "a good day" : "a bad day", plan->large ? "large" : "small", kinds[plan->kind], plan->shards,
            plan->embedded ? ", embedded" : "", plan->client_count, plan->caller_count, plan->visitor_count, plan->ping_count);
    scenario_tell_faults(run->trace, &plan->faults);
    fputs(plan->starve_permille != 0 ? ", memory short" : "", run->trace);
    fputs(plan->stop_ns != UINT64_MAX ? ", stopped early" : "", run->trace);
    fputs(plan->close_after_ns != UINT64_MAX ? ", closed early" : "", run->trace);
    fputs(plan->break_ns != UINT64_MAX ? ", an engine breaks" : "", run->trace);
    fputc('\n', run->trace);
}

void plan_make(struct run *run)
{
    struct run_plan *plan = &run->plan;
    plan_faults(run);
    plan->unix_address = run_one_of(run, 6);
    plan_config(run);
    plan_codec(run);
    plan_limits(run);
    plan_handlers(run);
    people_plan(run);
    weir_sim_set_faults(run->world, &plan->faults);
    tell(run);
}

void plan_free(struct run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++) {
        if (run->clients[i].answers != run->clients[i].stream)
            free(run->clients[i].answers);
        free(run->clients[i].stream);
    }
}
