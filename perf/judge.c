/* SPDX-License-Identifier: MIT */
/* judge: see judge.h. */
#include "judge.h"

#include "message.h"

#include <stdlib.h>

/* One connection may have thousands of producers that say one thing each; of many connections each has those of a crew. */
#define JUDGE_PRODUCERS_ALONE 131072u
#define JUDGE_PRODUCERS_EACH  4096u

_Static_assert(JUDGE_SPARE_BYTES >= MESSAGE_HEAD_BYTES + MESSAGE_BYTES_MOST, "the rest of a frame has to fit before what comes");

bool judge_create(struct judge *judge, uint32_t message_bytes, uint32_t stream_count, judge_stamped stamped)
{
    *judge = (struct judge){.frame_bytes = MESSAGE_HEAD_BYTES + message_bytes,
                            .producers_most = stream_count == 1 ? JUDGE_PRODUCERS_ALONE : JUDGE_PRODUCERS_EACH,
                            .stream_count = stream_count,
                            .length = htole32(message_bytes),
                            .stamped = stamped};
    judge->model = malloc(judge->frame_bytes + MESSAGE_FILLER_AT);
    judge->streams = calloc(stream_count, sizeof *judge->streams);
    judge->rests = calloc(stream_count, judge->frame_bytes);
    judge->sequences = calloc((size_t)stream_count * judge->producers_most, sizeof *judge->sequences);
    if (judge->model == NULL || judge->streams == NULL || judge->rests == NULL || judge->sequences == NULL)
        return false;
    message_make(judge->model, 0, message_bytes);
    for (uint32_t i = 0; i < stream_count; i++) {
        judge->streams[i].rest = judge->rests + (size_t)i * judge->frame_bytes;
        judge->streams[i].sequences = judge->sequences + (size_t)i * judge->producers_most;
    }
    return true;
}

void judge_destroy(struct judge *judge)
{
    free(judge->model);
    free(judge->streams);
    free(judge->rests);
    free(judge->sequences);
    *judge = (struct judge){0};
}

/* Whether `bytes` begin like a frame. */
static bool judge_head(const struct judge *judge, const uint8_t *bytes)
{
    return memcmp(bytes, &judge->length, sizeof judge->length) == 0 &&
           message_get_small(bytes, MESSAGE_PRODUCER_AT) < judge->producers_most;
}

static bool judge_whole(const struct judge *judge, const uint8_t *frame)
{
    return judge_head(judge, frame) &&
           memcmp(frame + MESSAGE_FILLER_AT, judge->model + MESSAGE_FILLER_AT, judge->frame_bytes - MESSAGE_FILLER_AT) == 0;
}

/* What was skipped ends here. A frame's length of it that began as one was that frame: some of its bytes were changed. */
static void judge_found(struct judge *judge, struct judge_stream *stream)
{
    if (stream->skipped_head && stream->skipped_bytes == judge->frame_bytes)
        judge->count.harmed++;
    else
        judge->count.torn++;
    judge->count.skipped_bytes += stream->skipped_bytes;
    stream->skipped_bytes = 0;
}

static void judge_take(struct judge *judge, struct judge_stream *stream, const uint8_t *frame, void *user)
{
    uint64_t *next = &stream->sequences[message_get_small(frame, MESSAGE_PRODUCER_AT)];
    uint64_t sequence = message_get(frame, MESSAGE_SEQUENCE_AT);
    uint64_t stamp_ns = message_get(frame, MESSAGE_STAMP_AT);
    if (sequence < *next)
        judge->count.disordered++;
    *next = sequence + 1;
    judge->count.messages++;
    if (stamp_ns != 0 && judge->stamped != NULL)
        judge->stamped(user, stamp_ns);
}

void judge_look(struct judge *judge, struct judge_stream *stream, uint8_t *bytes, uint32_t count, void *user)
{
    const uint8_t *end = bytes + count;
    const uint8_t *at = bytes - stream->rest_bytes;
    memcpy(bytes - stream->rest_bytes, stream->rest, stream->rest_bytes);
    while ((size_t)(end - at) >= judge->frame_bytes) {
        if (judge_whole(judge, at)) {
            if (stream->skipped_bytes > 0)
                judge_found(judge, stream);
            judge_take(judge, stream, at, user);
            at += judge->frame_bytes;
            continue;
        }
        if (stream->skipped_bytes++ == 0)
            stream->skipped_head = judge_head(judge, at);
        at++;
    }
    stream->rest_bytes = (uint32_t)(end - at);
    memcpy(stream->rest, at, stream->rest_bytes);
}

void judge_end(struct judge *judge)
{
    uint64_t made = 0;
    for (uint32_t i = 0; i < judge->stream_count; i++) {
        struct judge_stream *stream = &judge->streams[i];
        if (stream->rest_bytes > 0 && stream->skipped_bytes == 0)
            stream->skipped_head = false;
        stream->skipped_bytes += stream->rest_bytes;
        stream->rest_bytes = 0;
        if (stream->skipped_bytes > 0)
            judge_found(judge, stream);
    }
    for (uint32_t producer = 0; producer < judge->producers_most; producer++) {
        uint64_t next = 0;
        for (uint32_t i = 0; i < judge->stream_count; i++)
            if (judge->streams[i].sequences[producer] > next)
                next = judge->streams[i].sequences[producer];
        made += next;
    }
    judge->count.missing = made > judge->count.messages ? made - judge->count.messages : 0;
}
