/* SPDX-License-Identifier: MIT */
/* pattern: the messages that are sent and expected back: framed, numbered, otherwise all alike.
 *
 * Message number n is a pure function of n, so neither what is under way nor what is expected is stored anywhere: after a
 * short write the same bytes are simply made again. A message carries its number in its first 8 bytes (fewer when it is
 * shorter); in `line` framing as letters, so that it holds no line feed. What comes back are the same frames, but for WebSocket, whose client masks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pattern_framing {
    PATTERN_FRAME,     /* 4-byte little-endian length that does not count itself, then the payload */
    PATTERN_LINE,      /* the payload, then a line feed */
    PATTERN_RAW,       /* the payload */
    PATTERN_WEBSOCKET, /* a binary frame of RFC 6455: masked on its way there, and not on its way back */
};

#define PATTERN_BYTES_MOST 16777216u

/* How a frame is laid out. */
struct pattern_layout {
    uint32_t number_offset; /* of the number in its frame: the size of what stands before the payload */
    uint32_t head_bytes;    /* that, and the number */
    uint32_t frame_bytes;
};

/* A run of `batch_count` frames as they are sent stands in `bytes`; only the numbers differ. */
struct pattern {
    enum pattern_framing framing;
    struct pattern_layout sent, answer;
    uint32_t batch_count;
    uint64_t mask;  /* what a number is exclusive-or'ed by when it is sent */
    uint8_t *bytes; /* and behind them one frame as it comes back */
    const uint8_t *answer_bytes;
};

extern const char *const pattern_framing_names[]; /* by enum pattern_framing; the last is NULL */

/* False when memory is short. `payload_bytes` is 1 or more. */
bool pattern_create(struct pattern *pattern, enum pattern_framing framing, uint32_t payload_bytes, uint32_t batch_count);
void pattern_destroy(struct pattern *pattern);

/* Numbers the first `count` (up to batch_count) frames number, number + step, ... and returns where they start. */
const uint8_t *pattern_make(struct pattern *pattern, uint64_t number, uint64_t step, uint32_t count);

/* Whether `bytes` are what the answer to frame `number` holds from `offset` on. The length, the number and the line feed are always looked
 * at; every byte is when `whole`. offset + count is at most answer.frame_bytes. */
bool pattern_matches(const struct pattern *pattern, uint64_t number, uint32_t offset, const uint8_t *bytes, uint32_t count, bool whole);
