/* SPDX-License-Identifier: MIT */
/* cross_message: messages that say who sent them, and the books of what was accepted and what came. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cross.h"

#define MAGIC UINT32_C(0x57454952)

/* --- payloads --- */

static uint64_t word_of(const struct cross_head *head, uint32_t place)
{
    uint64_t word = ((uint64_t)head->producer << 40 ^ (uint64_t)head->order << 16 ^ place) * UINT64_C(0x9e3779b97f4a7c15);
    return word ^ word >> 29;
}

void cross_message_make(const struct cross_head *head, uint8_t *data)
{
    struct cross_head whole = *head;
    whole.magic = MAGIC;
    memcpy(data, &whole, sizeof whole);
    for (uint32_t at = sizeof whole; at < head->bytes; at += sizeof(uint64_t)) {
        uint64_t word = word_of(head, at);
        memcpy(data + at, &word, head->bytes - at < sizeof word ? head->bytes - at : sizeof word);
    }
}

struct cross_head cross_message_check(const struct cross_run *run, const uint8_t *data, uint32_t bytes)
{
    struct cross_head head;
    CROSS_CHECK(run, bytes >= sizeof head, "a message of %u bytes, and all have more", bytes);
    memcpy(&head, data, sizeof head);
    CROSS_CHECK(run, head.magic == MAGIC && head.bytes == bytes, "a message of %u bytes says %u, and its magic is %x", bytes, head.bytes,
                head.magic);
    CROSS_CHECK(run, head.producer < run->producer_count, "a message of producer %u", head.producer);
    for (uint32_t at = sizeof head; at < bytes; at += sizeof(uint64_t)) {
        uint64_t word = word_of(&head, at);
        CROSS_CHECK(run, memcmp(data + at, &word, bytes - at < sizeof word ? bytes - at : sizeof word) == 0,
                    "message %u of producer %u, %u bytes, is spoilt at byte %u", head.order, head.producer, bytes, at);
    }
    return head;
}

/* --- the books --- */

struct cross_producer *cross_producer_make(struct cross_run *run, enum cross_kind kind, uint32_t index)
{
    if ((run->producer_count & (run->producer_count - 1)) == 0) {
        size_t capacity = run->producer_count == 0 ? 1 : (size_t)run->producer_count * 2;
        run->producers = realloc(run->producers, capacity * sizeof(struct cross_producer *));
    }
    struct cross_producer *producer = calloc(1, sizeof *producer);
    CROSS_CHECK(run, producer != NULL && run->producers != NULL, "no memory for the books");
    *producer = (struct cross_producer){.kind = kind, .number = run->producer_count, .index = index};
    run->producers[run->producer_count++] = producer;
    return producer;
}

struct cross_stream *cross_stream_of(struct cross_producer *producer, uint32_t client)
{
    struct cross_stream **stream = &producer->streams[client];
    if (*stream == NULL) {
        *stream = calloc(1, sizeof **stream);
        if (*stream == NULL)
            abort();
        (*stream)->ended_at = UINT32_MAX;
    }
    return *stream;
}

void cross_accepted(struct cross_run *run, struct cross_producer *producer, uint32_t client, uint32_t order, uint32_t bytes)
{
    struct cross_stream *stream = cross_stream_of(producer, client);
    if (bytes > run->plan.payload_max) {
        stream->too_big++;
        return;
    }
    if (stream->count == stream->capacity) {
        stream->capacity = stream->capacity == 0 ? 16 : stream->capacity * 2;
        stream->sent = realloc(stream->sent, stream->capacity * sizeof *stream->sent);
        CROSS_CHECK(run, stream->sent != NULL, "no memory for the books");
    }
    stream->sent[stream->count++] = (struct cross_sent){.order = order, .bytes = bytes};
}

static const char *kind_name(enum cross_kind kind)
{
    static const char *const names[] = {"port", "shard", "channel", "client", "control"};
    return names[kind];
}

static void count_big(struct cross_run *run, const struct cross_client *client, const struct cross_producer *producer, bool by_group)
{
    if (by_group)
        run->feats[CROSS_GROUP_BIG]++;
    else if (producer->kind == CROSS_OF_PORT)
        run->feats[CROSS_PORT_BIG]++;
    else if (producer->kind == CROSS_OF_SHARD && producer->index != client->shard)
        run->feats[CROSS_SHARD_BIG]++;
    else if (producer->kind == CROSS_OF_CLIENT)
        run->feats[CROSS_PIPE_BIG]++;
}

void cross_came(struct cross_client *client, const uint8_t *data, uint32_t bytes)
{
    struct cross_run *run = client->run;
    struct cross_head head = cross_message_check(run, data, bytes);
    struct cross_producer *producer = run->producers[head.producer];
    struct cross_stream *stream = cross_stream_of(producer, client->index);
    const char *kind = kind_name(producer->kind);
    cross_note(run, "client %u: message %u of %s %u, %u bytes, group %d", client->index, head.order, kind, head.producer, bytes,
               (int)head.group - 1);
    client->in_messages++;
    CROSS_CHECK(run, head.order > stream->last_order, "client %u got message %u of %s %u after its message %u", client->index, head.order,
                kind, head.producer, stream->last_order);
    CROSS_CHECK(run, producer->kind != CROSS_OF_CLIENT || (int)producer->index == client->partner,
                "client %u got a message of client %u, which is not its partner", client->index, producer->index);
    stream->last_order = head.order;
    if (bytes >= 4096)
        count_big(run, client, producer, head.group != 0);
    if (head.group != 0) {
        cross_group_came(client, &head);
        return;
    }
    CROSS_CHECK(run, stream->received < stream->count, "client %u got message %u of %s %u, of which all %u for it have come", client->index,
                head.order, kind, head.producer, stream->count);
    const struct cross_sent *next = &stream->sent[stream->received];
    CROSS_CHECK(run, next->order == head.order && next->bytes == bytes,
                "client %u got message %u (%u bytes) of %s %u; the next one for it is %u (%u bytes)", client->index, head.order, bytes,
                kind, head.producer, next->order, next->bytes);
    stream->received++;
}
