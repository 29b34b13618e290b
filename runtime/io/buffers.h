/* SPDX-License-Identifier: MIT */
/* buffers: a shard's receive buffers, shared by all its connections: the kernel's ring of them, and who holds what.
 *
 * Each buffer is counted: the kernel's hold is one reference (while it may still fill it), each completion that brought data
 * is one of its taker's. The last release gives the buffer back to the kernel. Plain buffers leave the kernel with one completion;
 * incremental ones (6.12) are filled bit by bit until they are full.
 *
 * One thread, that of the ring. */
#ifndef W_BUFFERS_H
#define W_BUFFERS_H

#include <liburing.h>

#include "runtime/base.h"

#define W_BUFFERS_GROUP 0
#define W_BUFFERS_MAX   32768 /* the kernel's limit */

/* Invariant: references counts the kernel's hold and the takers'; filled_bytes is where the next data will lie. */
struct w_buffers_state {
    uint32_t references; /* 0 never lasts: the buffer goes back with 1, the kernel's */
    uint32_t filled_bytes;
};

/* Invariant: `free` buffers have the kernel's hold; free <= count <= entries. */
struct w_buffers {
    struct io_uring_buf_ring *ring; /* mapped */
    uint8_t *memory;                /* count times bytes */
    struct w_buffers_state *states;
    const weir_allocator *allocator;
    uint32_t count;
    uint32_t bytes;   /* each */
    uint32_t entries; /* of the ring: a power of two */
    uint32_t free;    /* that the kernel can still fill */
    uint16_t tail;    /* of the ring */
    bool incremental;
    bool disagreed; /* true when the kernel's word (F_BUF_MORE) and our count of what is filled ever differed */
};

/* Maps and allocates. `count` 1 to W_BUFFERS_MAX. 0 or -ENOMEM; then nothing is left to close. */
int w_buffers_open(struct w_buffers *buffers, uint32_t count, uint32_t bytes, bool incremental, const weir_allocator *allocator);
/* Gives all buffers to a ring, which may be disabled still. 0, or what the kernel answers; then it may be tried again with another ring. */
int w_buffers_register(struct w_buffers *buffers, int ring_descriptor);
/* Once the ring is closed. Accepts a zeroed struct. */
void w_buffers_close(struct w_buffers *buffers);
/* What was mapped, and what was allocated. */
uint64_t w_buffers_mapped_bytes(const struct w_buffers *buffers);
uint64_t w_buffers_allocated_bytes(const struct w_buffers *buffers);

/* A completion that has IORING_CQE_F_BUFFER: the number of its buffer and where its data lie; NULL when it brought none. With
 * data comes one reference. */
const uint8_t *w_buffers_filled(struct w_buffers *buffers, int32_t result, uint32_t flags, uint16_t *number);

void w_buffers_hold(struct w_buffers *buffers, uint16_t number);
void w_buffers_release(struct w_buffers *buffers, uint16_t number);

#endif
