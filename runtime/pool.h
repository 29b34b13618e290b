/* SPDX-License-Identifier: MIT */
/* pool: a shard's memory, counted and bounded. One thread.
 *
 * Pieces of power-of-two sizes; what is given back is kept on a LIFO list of its size (the hottest goes out again first), so the
 * steady state calls no allocator. All that is out and all that is kept count against one budget: when a take would
 * pass it, kept pieces of other sizes go home to the allocator first, and when that is not enough the take answers NULL.
 * Not for: things that live as long as the shard (w_pool_allocate_fixed is for these, outside the budget). */
#ifndef W_POOL_H
#define W_POOL_H

#include "runtime/base.h"

#define W_POOL_SMALLEST_BYTES 64u
#define W_POOL_CLASSES        25 /* 64 B ... 1 GiB */

struct w_pool_piece; /* a kept piece: the link lies in its own memory */

/* Invariant: taken_bytes + kept_bytes <= budget_bytes. peak_bytes is the largest taken_bytes ever seen. */
struct w_pool {
    const weir_allocator *allocator;
    struct w_pool_piece *kept[W_POOL_CLASSES];
    uint64_t budget_bytes;
    uint64_t kept_bytes;
    _Atomic uint64_t taken_bytes; /* out; these four are read by any thread (relaxed), written by the shard */
    _Atomic uint64_t peak_bytes;
    _Atomic uint64_t fixed_bytes; /* w_pool_allocate_fixed, outside the budget */
    _Atomic uint64_t allocations; /* calls to the allocator's allocate */
};

void w_pool_init(struct w_pool *pool, const weir_allocator *allocator, uint64_t budget_bytes);
/* Everything must have been given back (asserted). Accepts a zeroed pool. */
void w_pool_finish(struct w_pool *pool);

/* The size that a take of `bytes` really has: the next power of two, at least W_POOL_SMALLEST_BYTES. bytes <= 1 GiB. */
size_t w_pool_round(size_t bytes);

/* A piece of w_pool_round(bytes), aligned to 64, its contents undefined; NULL: budget spent, or the allocator has nothing. */
void *w_pool_take(struct w_pool *pool, size_t bytes);
/* Gives back what w_pool_take(pool, bytes) answered, with the same bytes (or any that round to the same). */
void w_pool_give(struct w_pool *pool, void *piece, size_t bytes);

/* Gives a piece straight back to the allocator: any thread, once the pool's own has left it for good (its counters stand still then). */
void w_pool_give_late(const struct w_pool *pool, void *piece, size_t bytes);

/* Sends all kept pieces home to the allocator (after an idle while). */
void w_pool_trim(struct w_pool *pool);

/* Zeroed memory for as long as the shard lives, outside the budget but counted; aligned to 64. NULL: the allocator has nothing. */
void *w_pool_allocate_fixed(struct w_pool *pool, size_t bytes);
void w_pool_release_fixed(struct w_pool *pool, void *memory, size_t bytes);

#endif
