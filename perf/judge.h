/* SPDX-License-Identifier: MIT */
/* judge: looks at what came on the connections of a fan-in: whole frames, unharmed, and on each connection each producer's in order.
 *
 *     judge_look(&judge, &judge.streams[i], bytes, count, user);    // as often as something comes, and so much as came
 *     judge_end(&judge);                                            // all streams are over
 *
 * Bytes that are part of no whole frame are skipped up to the next that looks like one: its length, a producer that there can be, and its
 * filler. So a stream into which several wrote at once is read to its end, and what became of it is a figure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Invariant: rest_bytes is less than a frame. */
struct judge_stream {
    uint64_t *sequences;    /* of each producer: the last on this connection, and 1; 0: none came */
    uint8_t *rest;          /* came last, and is not a whole frame yet */
    uint64_t skipped_bytes; /* since the last whole frame; 0 exactly while the stream is whole */
    bool skipped_head;      /* true exactly when what is skipped began like a frame */
    uint32_t rest_bytes;
};

struct judge_count {
    uint64_t messages;      /* whole frames */
    uint64_t torn;          /* places where bytes had to be skipped */
    uint64_t skipped_bytes; /* there */
    uint64_t harmed;        /* frames in their place, with a filler that was not sent so */
    uint64_t disordered;    /* frames that came behind a later one of their producer, on the same connection */
    uint64_t missing;       /* numbers that came on no connection, below the last that came; after judge_end() */
};

/* What is told of each frame with a stamp. */
typedef void (*judge_stamped)(void *user, uint64_t stamp_ns);

struct judge {
    struct judge_count count;
    uint32_t frame_bytes;
    uint32_t producers_most;
    uint32_t stream_count;
    uint32_t length;     /* as it stands in a frame */
    uint8_t *model;      /* a frame as it has to look */
    uint8_t *rests;      /* memory of the streams */
    uint64_t *sequences; /* likewise */
    judge_stamped stamped;
    struct judge_stream *streams;
};

/* False when memory is short. `stamped` may be NULL. */
bool judge_create(struct judge *judge, uint32_t message_bytes, uint32_t stream_count, judge_stamped stamped);
void judge_destroy(struct judge *judge);

/* What came on a stream next. There have to be JUDGE_SPARE_BYTES before `bytes` that may be written. `user` is for stamped(). */
#define JUDGE_SPARE_BYTES 4160u
void judge_look(struct judge *judge, struct judge_stream *stream, uint8_t *bytes, uint32_t count, void *user);
void judge_end(struct judge *judge);
