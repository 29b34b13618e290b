/* SPDX-License-Identifier: MIT */
/* message: the frames of the fan-in measurement: which producer made it, as its how-manieth, and when.
 *
 *     4  length of what follows, little-endian, as all of these
 *     4  producer          \
 *     8  sequence, from 0   | the payload
 *     8  stamp              | nanoseconds of CLOCK_MONOTONIC; 0: this one is not timed
 *     .  filler            /
 *
 * Peers in other languages make the same. */
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define MESSAGE_HEAD_BYTES  4u
#define MESSAGE_BYTES_LEAST 20u
#define MESSAGE_BYTES_MOST  4096u

#define MESSAGE_PRODUCER_AT 4u
#define MESSAGE_SEQUENCE_AT 8u
#define MESSAGE_STAMP_AT    16u
#define MESSAGE_FILLER_AT   24u

/* Everything but sequence and stamp, which are 0. `bytes` is the payload's. */
static inline void message_make(uint8_t *frame, uint32_t producer, uint32_t bytes)
{
    uint32_t length = htole32(bytes);
    uint32_t number = htole32(producer);
    memcpy(frame, &length, sizeof length);
    memcpy(frame + MESSAGE_PRODUCER_AT, &number, sizeof number);
    memset(frame + MESSAGE_SEQUENCE_AT, 0, 16);
    for (uint32_t at = MESSAGE_FILLER_AT; at < MESSAGE_HEAD_BYTES + bytes; at++)
        frame[at] = (uint8_t)('a' + at % 26);
}

static inline void message_put(uint8_t *frame, uint32_t at, uint64_t value)
{
    value = htole64(value);
    memcpy(frame + at, &value, sizeof value);
}

static inline uint64_t message_get(const uint8_t *frame, uint32_t at)
{
    uint64_t value;
    memcpy(&value, frame + at, sizeof value);
    return le64toh(value);
}

static inline uint32_t message_get_small(const uint8_t *frame, uint32_t at)
{
    uint32_t value;
    memcpy(&value, frame + at, sizeof value);
    return le32toh(value);
}
