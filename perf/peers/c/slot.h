/* SPDX-License-Identifier: MIT */
/* slot: Concurrency Kit's rings with messages in them by value.
 *
 * A ring's slots are of a size known when it is compiled, so there are some sizes (`most`: of the payload), and a message lies in the least
 * that it fits. Which connection it goes to stands in the upper half of its length, which is 0 else: with one connection a slot is the
 * frame. */
#pragma once

#include "perf/message.h"

#include <ck_ring.h>
#include <stdbool.h>
#include <stdlib.h>

#define SLOT_BYTES_MOST (MESSAGE_HEAD_BYTES + MESSAGE_BYTES_MOST)
#define SLOT_CONNECTION 2u /* where it stands */
#define SLOT_INLINE     static inline __attribute__((always_inline))

struct slots {
    _Alignas(128) ck_ring_t ring;
    uint32_t frame_bytes;
    uint32_t most; /* 64, 256, 1024 or 4096 */
    void *memory;
};

_Static_assert(MESSAGE_BYTES_MOST < 1u << 16, "the upper half of a length is free");

/* The usual size by a copy of known length. */
SLOT_INLINE void slot_fill(uint8_t *to, const uint8_t *frame, uint32_t frame_bytes, uint32_t connection)
{
    uint16_t number = htole16((uint16_t)connection);
    if (frame_bytes == MESSAGE_HEAD_BYTES + 64)
        memcpy(to, frame, MESSAGE_HEAD_BYTES + 64);
    else
        memcpy(to, frame, frame_bytes);
    if (number != 0)
        memcpy(to + SLOT_CONNECTION, &number, sizeof number);
}

/* The connection; what stands in the slot is the frame then. */
SLOT_INLINE uint32_t slot_connection(uint8_t *slot)
{
    const uint16_t none = 0;
    uint16_t number;
    memcpy(&number, slot + SLOT_CONNECTION, sizeof number);
    memcpy(slot + SLOT_CONNECTION, &none, sizeof none);
    return le16toh(number);
}

#define SLOT_KIND(most)                                                                                                                    \
    struct slot_##most {                                                                                                                   \
        uint8_t frame[MESSAGE_HEAD_BYTES + most];                                                                                          \
    };                                                                                                                                     \
    CK_RING_PROTOTYPE(slot_##most, slot_##most)                                                                                            \
    SLOT_INLINE uint8_t *slot_reserve_##most(struct slots *slots)                                                                          \
    {                                                                                                                                      \
        return (uint8_t *)ck_ring_enqueue_reserve_spsc_slot_##most(&slots->ring, slots->memory);                                           \
    }                                                                                                                                      \
    SLOT_INLINE uint8_t *slot_share_##most(struct slots *slots, unsigned int *ticket)                                                      \
    {                                                                                                                                      \
        return (uint8_t *)ck_ring_enqueue_reserve_mpsc_slot_##most(&slots->ring, slots->memory, ticket);                                   \
    }                                                                                                                                      \
    SLOT_INLINE bool slot_take_##most(struct slots *slots, uint8_t *to)                                                                    \
    {                                                                                                                                      \
        return ck_ring_dequeue_spsc_slot_##most(&slots->ring, slots->memory, (struct slot_##most *)to);                                    \
    }

#define SLOT_CALL(most, what, ...)                                                                                                         \
    ((most) == 64     ? slot_##what##_64(__VA_ARGS__)                                                                                      \
     : (most) == 256  ? slot_##what##_256(__VA_ARGS__)                                                                                     \
     : (most) == 1024 ? slot_##what##_1024(__VA_ARGS__)                                                                                    \
                      : slot_##what##_4096(__VA_ARGS__))

SLOT_KIND(64)
SLOT_KIND(256)
SLOT_KIND(1024)
SLOT_KIND(4096)

/* `count` is a power of two; one slot stays empty. False when memory is short. */
static inline bool slots_init(struct slots *slots, uint32_t message_bytes, uint32_t count)
{
    slots->frame_bytes = MESSAGE_HEAD_BYTES + message_bytes;
    slots->most = message_bytes <= 64 ? 64 : message_bytes <= 256 ? 256 : message_bytes <= 1024 ? 1024 : 4096;
    slots->memory = aligned_alloc(128, ((size_t)count * (MESSAGE_HEAD_BYTES + slots->most) + 127) / 128 * 128);
    ck_ring_init(&slots->ring, count);
    return slots->memory != NULL;
}

static inline void slots_finish(struct slots *slots)
{
    free(slots->memory);
}

/* All of these take slots->most too, so that a caller who knows it gets code for it alone. */

/* Into a ring with one producer: false when it is full. */
SLOT_INLINE bool slots_put(struct slots *slots, uint32_t most, const uint8_t *frame, uint32_t connection)
{
    uint8_t *slot = SLOT_CALL(most, reserve, slots);
    if (slot == NULL)
        return false;
    slot_fill(slot, frame, slots->frame_bytes, connection);
    ck_ring_enqueue_commit_spsc(&slots->ring);
    return true;
}

/* Into a ring with many. */
SLOT_INLINE bool slots_share(struct slots *slots, uint32_t most, const uint8_t *frame, uint32_t connection)
{
    unsigned int ticket;
    uint8_t *slot = SLOT_CALL(most, share, slots, &ticket);
    if (slot == NULL)
        return false;
    slot_fill(slot, frame, slots->frame_bytes, connection);
    ck_ring_enqueue_commit_mpsc(&slots->ring, ticket);
    return true;
}

/* Takes one into `to`, where SLOT_BYTES_MOST may be written: false when there is none. */
SLOT_INLINE bool slots_take(struct slots *slots, uint32_t most, uint8_t *to)
{
    return SLOT_CALL(most, take, slots, to);
}

static inline bool slots_empty(const struct slots *slots)
{
    return ck_ring_size(&slots->ring) == 0;
}

static inline bool slots_full(const struct slots *slots)
{
    return ck_ring_size(&slots->ring) >= ck_ring_capacity(&slots->ring) - 1;
}

static inline bool slots_half(const struct slots *slots)
{
    return ck_ring_size(&slots->ring) <= ck_ring_capacity(&slots->ring) / 2;
}
