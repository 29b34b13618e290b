/* SPDX-License-Identifier: MIT */
/* people: who comes, and what they say: the seed decides. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

/* --- what a client writes --- */

/* Bytes that differ from place to place; in lines no LF, and no CR. */
static void fill(struct run *run, uint8_t *payload, uint32_t bytes)
{
    uint64_t word = weir_sim_random(run->world);
    for (uint32_t i = 0; i < bytes; i += sizeof word) {
        word = word * UINT64_C(0x5851f42d4c957f2d) + UINT64_C(0x14057b7ef767814f);
        uint64_t mixed = word ^ word >> 33;
        if (run->plan.kind == RUN_KIND_LINE)
            mixed |= UINT64_C(0x4040404040404040);
        memcpy(payload + i, &mixed, bytes - i < sizeof mixed ? bytes - i : sizeof mixed);
    }
}

static void append(struct run_client *client, const void *data, uint32_t bytes)
{
    memcpy(client->stream + client->stream_bytes, data, bytes);
    client->stream_bytes += bytes;
}

static void append_message(struct run *run, struct run_client *client, uint32_t bytes)
{
    const weir_codec *codec = &run->plan.echo.codec;
    uint8_t payload[RUN_PAYLOAD_MAX];
    weir_seal seal;
    fill(run, payload, bytes);
    if (run->plan.kind == RUN_KIND_WEB) {
        web_message(client, payload, bytes);
        return;
    }
    RUN_CHECK(run, codec->seal(codec, payload, bytes, &seal) == 0, "the codec does not seal %u bytes", bytes);
    append(client, seal.head, seal.head_bytes);
    uint32_t offset = (uint32_t)client->stream_bytes;
    client->frames[client->frame_count++] = (struct run_frame){.offset = offset, .bytes = bytes, .said = offset + bytes};
    append(client, payload, bytes);
    append(client, seal.trailer, seal.trailer_bytes);
}

#define SPOILING_BYTES (RUN_PAYLOAD_MAX + 16)

static uint32_t make_varint(uint64_t value, uint8_t *data)
{
    uint32_t bytes = 0;
    for (; value >= 0x80; value >>= 7)
        data[bytes++] = (uint8_t)(value | 0x80);
    data[bytes++] = (uint8_t)value;
    return bytes;
}

/* A length that is too much, or that no length can be. */
static weir_reason spoil_frame(struct run *run, uint8_t *data, uint32_t *bytes)
{
    const weir_frame_options *frame = &run->plan.frame;
    uint32_t own = frame->length == WEIR_FRAME_U16 ? 2 : frame->length == WEIR_FRAME_U64 ? 8 : 4;
    bool bad = run_one_of(run, 2) && (frame->counts_itself || frame->length == WEIR_FRAME_VARINT);
    uint64_t least = (uint64_t)run->plan.message_max_bytes + 1 + (frame->counts_itself ? own : 0);
    uint64_t length = bad ? run_below(run, own) : run_magnitude(run, least, frame->length == WEIR_FRAME_U16 ? UINT16_MAX : UINT32_MAX);
    *bytes = own;
    if (frame->length == WEIR_FRAME_VARINT && bad) {
        memset(data, 0x80, 6);
        *bytes = 6;
    } else if (frame->length == WEIR_FRAME_VARINT) {
        *bytes = make_varint(length, data);
    } else {
        for (uint32_t i = 0; i < own; i++)
            data[frame->big_endian ? own - 1 - i : i] = (uint8_t)(length >> 8 * i);
    }
    return bad ? WEIR_REASON_BAD_MESSAGE : WEIR_REASON_TOO_BIG;
}

static void append_spoilt(struct run *run, struct run_client *client)
{
    uint8_t data[SPOILING_BYTES];
    uint32_t bytes = run->plan.message_max_bytes + 2;
    if (run->plan.kind == RUN_KIND_WEB) {
        client->spoils = web_spoil(client);
        return;
    }
    if (run->plan.kind == RUN_KIND_FRAME) {
        client->spoils = spoil_frame(run, data, &bytes);
    } else {
        client->spoils = WEIR_REASON_TOO_BIG;
        memset(data, 'x', bytes);
    }
    append(client, data, bytes);
}

/* --- clients --- */

/* Where something changes in weir: the codec's limit, what is worth a blob. */
static uint32_t choose_bytes(struct run *run, uint32_t largest, bool bulk)
{
    const uint32_t edges[] = {4095, 4096, 4097, run->plan.message_max_bytes};
    uint32_t edge = edges[run_below(run, sizeof edges / sizeof edges[0])];
    if (run_one_of(run, 16) && edge <= run->plan.message_max_bytes)
        return edge;
    return (uint32_t)(bulk ? run_below(run, largest + 1) : run_magnitude(run, 0, largest));
}

static enum run_manner choose_manner(struct run *run)
{
    enum run_manner manner = (enum run_manner)run_below(run, run->plan.clean ? RUN_TRUNCATE : RUN_MANNERS);
    return manner == RUN_SPOIL && run->plan.kind == RUN_KIND_RAW ? RUN_HALF_CLOSE : manner;
}

static void plan_client(struct run *run, struct run_client *client, uint32_t index)
{
    const struct run_plan *plan = &run->plan;
    client->run = run;
    client->index = index;
    client->manner = choose_manner(run);
    client->adopted = run_one_of(run, 6);
    client->start_ns = run_magnitude(run, 0, 200 * WEIR_MILLISECOND);
    client->pace_ns_max = run_magnitude(run, WEIR_MICROSECOND, 5 * WEIR_MILLISECOND);
    uint32_t most = plan->large ? RUN_FRAMES_MAX : 16, largest = plan->message_max_bytes;
    uint32_t count = 1 + (uint32_t)(run_one_of(run, 2) ? run_below(run, most) : run_magnitude(run, 0, most - 1));
    largest = run_one_of(run, 2) ? largest : (uint32_t)run_magnitude(run, 0, largest);
    bool bulk = run_one_of(run, 3);
    bool web = plan->kind == RUN_KIND_WEB;
    size_t room = (size_t)count * (plan->message_max_bytes + WEB_AROUND_BYTES) + SPOILING_BYTES + WEB_HANDSHAKE_BYTES;
    client->stream = malloc(room);
    client->answers = web ? malloc(room) : client->stream;
    RUN_CHECK(run, client->stream != NULL && client->answers != NULL, "no memory for a client");
    client->shakes_badly = web && client->manner == RUN_SPOIL && run_one_of(run, 3);
    if (web)
        web_handshake(client, !client->shakes_badly);
    for (uint32_t i = 0; i < count && !client->shakes_badly; i++)
        append_message(run, client, choose_bytes(run, largest, bulk));
    if (!web)
        client->answers_bytes = client->stream_bytes;
    if (client->manner == RUN_SPOIL && !client->shakes_badly)
        append_spoilt(run, client);
    if (web && client->manner == RUN_HALF_CLOSE && run_one_of(run, 2))
        web_close(client);
    /* Some hundred steps at most: the slow-loris among them writes and reads a byte or two at a time, if it has little to say. */
    uint64_t least = 1 + client->stream_bytes / (plan->large ? 300 : 100);
    client->write_max_bytes = (uint32_t)run_magnitude(run, least, 65536);
    client->read_max_bytes = (uint32_t)run_magnitude(run, least, 65536);
    client->deaf_ns = run_one_of(run, 3) ? run_magnitude(run, 0, 3 * WEIR_SECOND) : 0;
    client->leave_bytes = run_below(run, client->stream_bytes + 1);
}

/* --- callers and visitors --- */

static void plan_caller(struct run *run, struct run_caller *caller, uint32_t index)
{
    static const char *const addresses[] = {
        "tcp://echo.test:7000", "tcp://127.0.0.1:7000", "tcp://many.test:7000",   "tcp://127.0.0.1:7001" /* somebody outside */,
        "tcp://127.0.0.1:7002", "tcp://127.0.0.1:7003", "tcp://nobody.test:7000", "tcp://late.test:7000",
        "unix://@nobody"};
    caller->run = run;
    caller->index = index;
    caller->shard = (uint32_t)run_below(run, run->plan.shards);
    caller->address = addresses[run_below(run, sizeof addresses / sizeof addresses[0])];
    caller->options = (weir_dial_options){
        .timeout_ns = run_magnitude(run, WEIR_MILLISECOND, 3 * WEIR_SECOND),
        .redial = !run->plan.clean && run_one_of(run, 3),
        .redial_min_ns = 1 + run_magnitude(run, 1000, 100 * WEIR_MILLISECOND),
        .redial_max_ns = WEIR_SECOND,
    };
    caller->start_ns = run_magnitude(run, 0, 200 * WEIR_MILLISECOND);
    caller->stop_ns = run_one_of(run, 2) ? UINT64_MAX : run_magnitude(run, 0, run_one_of(run, 2) ? WEIR_MILLISECOND : 2 * WEIR_SECOND);
    caller->hangs_up = run_one_of(run, 2);
    caller->aborts = run_one_of(run, 3);
}

/* Slots that others take from under an accept: one is turned away, good day or not. */
static bool slots_are_shared(const struct run *run)
{
    bool shared = run->plan.caller_count > 0;
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        shared |= run->clients[i].adopted;
    return shared;
}

void people_plan(struct run *run)
{
    struct run_plan *plan = &run->plan;
    plan->client_count = 1 + (uint32_t)run_below(run, plan->large ? RUN_CLIENTS_MAX : RUN_CLIENTS_MAX / 2);
    for (uint32_t i = 0; i < plan->client_count; i++)
        plan_client(run, &run->clients[i], i);
    bool can_ping = plan->kind == RUN_KIND_FRAME || plan->kind == RUN_KIND_WEB,
         pings = !plan->unix_address && can_ping && run_one_of(run, 2);
    plan->ping_count = pings ? 1 + (uint32_t)run_below(run, plan->large ? RUN_PINGS_MAX : RUN_PINGS_MAX / 3) : 0;
    plan->caller_count = run_one_of(run, 3) && plan->kind != RUN_KIND_WEB ? 1 + (uint32_t)run_below(run, RUN_CALLERS_MAX) : 0;
    for (uint32_t i = 0; i < plan->caller_count; i++)
        plan_caller(run, &run->callers[i], i);
    if (plan->clean && slots_are_shared(run))
        plan->config.connections = 64;
    if (plan->clean && !plan->drains && !plan->unix_address && run_one_of(run, 3)) {
        plan->leech_count = 1 + (uint32_t)run_below(run, RUN_LEECHES_MAX);
        plan->config.connections = 64;
        for (uint32_t i = 0; i < plan->leech_count; i++)
            leech_plan(run, &run->leeches[i], i);
    }
    if (!run_one_of(run, 12))
        return;
    plan->visitor_count = 10 + (uint32_t)run_below(run, RUN_VISITORS_MAX - 9);
    plan->storm_ns = run_magnitude(run, 0, 100 * WEIR_MILLISECOND);
    for (uint32_t i = 0; i < plan->visitor_count; i++)
        run->visitors[i] = (struct run_visitor){
            .run = run, .stays_ns = run_magnitude(run, 0, 20 * WEIR_MILLISECOND), .resets = !plan->clean && run_one_of(run, 3)};
}
