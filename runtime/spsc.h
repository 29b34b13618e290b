/* SPDX-License-Identifier: MIT */
/* spsc: a ring of bytes from one thread to another. All its memory orders stand here.
 *
 *        head                tail                       One writer, one reader, neither waits for the other. A piece (a record, a frame)
 *         |                   |                         never wraps: one that does not fit before the end of the memory begins
 *   [.....|data|data|data|data|..........]              at its start again (a bip buffer, Simon Cooke 2003), and the bytes left over
 *                                                       are skipped. So what lies between head and tail is one run of bytes or two.
 *
 * Positions count bytes from the beginning of time, modulo 2^32; a position's place is its value modulo the ring's size, a power of two.
 *
 * The writer reserves, fills, commits (any number of times), then publishes: one 64-bit store of {pieces, position}, so that the reader has a
 * count that fits the position. The reader looks, reads, and releases what it has done with.
 *
 * Each side keeps what it saw last of the other and looks again only when that is not enough; the two sides' words lie in cache lines of
 * their own.
 *
 * Who tells the reader that there is something, and the writer that there is room again, is not the ring's business: see bell.h. */
#ifndef W_SPSC_H
#define W_SPSC_H

#include <stdalign.h>
#include <sys/uio.h>

#include "runtime/base.h"

#define W_SPSC_MIN_BYTES 4096u
#define W_SPSC_MAX_BYTES (16u << 20)

/* Invariants: head <= tail_seen <= published position <= tail, each at most `bytes` behind the last; published never goes back. */
struct w_spsc {
    /* The writer's. */
    /* (tail and tail_pieces apart: side by side compilers load both at once, right behind a store to one, and that load waits.) */
    alignas(64) uint32_t tail; /* committed up to here */
    uint32_t head_seen;
    uint32_t tail_pieces; /* committed */
    uint32_t head_pieces_seen;
    /* What the writer tells. In a line of its own: the reader's looks do not disturb the writer before it publishes. */
    alignas(64) _Atomic uint64_t published; /* pieces << 32 | position */
    _Atomic uint32_t
        skipped; /* where the data of the lap before the latest wrap ends: from there the reader goes on at the next start of memory */
    /* The reader's. */
    alignas(64) _Atomic uint64_t released; /* pieces << 32 | head */
    uint32_t read, read_pieces;            /* read up to here: for readers of records, that release once a batch */
    uint32_t tail_seen;
    uint32_t pieces_seen;
    /* Constant, so both keep a copy of this line for good. In the writer's line the reader would miss it for each piece. */
    alignas(64) uint32_t bytes; /* the ring's size */
    uint8_t *data;
};

/* `data`: `bytes` of them, a power of two from W_SPSC_MIN_BYTES to W_SPSC_MAX_BYTES. */
static inline void w_spsc_init(struct w_spsc *ring, uint8_t *data, uint32_t bytes)
{
    W_ASSERT(bytes >= W_SPSC_MIN_BYTES && bytes <= W_SPSC_MAX_BYTES && (bytes & (bytes - 1)) == 0);
    *ring = (struct w_spsc){.data = data, .bytes = bytes};
}

/* --- the writer --- */

/* Looks how far the reader has come: answers the bytes that it has not released, those skipped included. */
static inline uint32_t w_spsc_look_back(struct w_spsc *ring)
{
    /* Acquire: pairs with w_spsc_release. The reader has done with the bytes before head, so they may be written over. */
    uint64_t released = atomic_load_explicit(&ring->released, memory_order_acquire);
    ring->head_seen = (uint32_t)released;
    ring->head_pieces_seen = (uint32_t)(released >> 32);
    return ring->tail - ring->head_seen;
}

/* Room for a piece of `bytes` (at most half the ring) in one run, or NULL: full. Good until the next reserve; nothing is taken by it. */
static inline uint8_t *w_spsc_reserve(struct w_spsc *ring, uint32_t bytes)
{
    uint32_t place = ring->tail & (ring->bytes - 1), rest = ring->bytes - place, skip = bytes > rest ? rest : 0;
    if (W_UNLIKELY(ring->tail - ring->head_seen > ring->bytes - skip - bytes)) {
        w_spsc_look_back(ring);
        if (ring->tail - ring->head_seen > ring->bytes - skip - bytes)
            return NULL;
    }
    return ring->data + (skip != 0 ? 0 : place);
}

/* A piece of `bytes` stands right behind the last one, not at the start of memory. */
static inline void w_spsc_append(struct w_spsc *ring, uint32_t bytes)
{
    ring->tail += bytes;
    ring->tail_pieces++;
}

/* So many bytes have room in one run right behind the last piece, by what was seen last: 0 when that is the start of memory, where a commit has more to tell. */
static inline uint32_t w_spsc_run_bytes(const struct w_spsc *ring)
{
    uint32_t place = ring->tail & (ring->bytes - 1);
    return place == 0 ? 0 : w_base_min_u32(ring->bytes - place, ring->bytes - (ring->tail - ring->head_seen));
}

/* The first `bytes` of what was reserved are a piece. bytes > 0. */
static inline void w_spsc_commit(struct w_spsc *ring, const uint8_t *reserved, uint32_t bytes)
{
    uint32_t place = ring->tail & (ring->bytes - 1);
    bool wraps = reserved != ring->data + place;
    if (W_UNLIKELY(wraps || place == 0)) {
        /* Relaxed: published by the next publish. The reader does not need the old value any more: for the tail to come here head must have passed
         * the start of memory before. Told at an exact fit too, so that it is never older than a lap. */
        atomic_store_explicit(&ring->skipped, ring->tail, memory_order_relaxed);
        ring->tail += wraps ? ring->bytes - place : 0;
    }
    w_spsc_append(ring, bytes);
}

static inline bool w_spsc_is_published(const struct w_spsc *ring)
{
    return (uint32_t)atomic_load_explicit(&ring->published, memory_order_relaxed) == ring->tail;
}

static inline void w_spsc_publish(struct w_spsc *ring)
{
    /* Release: whoever sees this position sees the bytes before it, and `skipped`. */
    atomic_store_explicit(&ring->published, (uint64_t)ring->tail_pieces << 32 | ring->tail, memory_order_release);
}

/* --- the reader --- */

/* Looks how far the writer has published: true when there is something behind `read`. */
static inline bool w_spsc_look(struct w_spsc *ring)
{
    /* Acquire: pairs with w_spsc_publish. */
    uint64_t published = atomic_load_explicit(&ring->published, memory_order_acquire);
    ring->tail_seen = (uint32_t)published;
    ring->pieces_seen = (uint32_t)(published >> 32);
    return ring->tail_seen != ring->read;
}

/* The position behind `at` where data goes on: the same, or the next start of memory. Only when at != tail_seen. */
static inline uint32_t w_spsc_passed(const struct w_spsc *ring, uint32_t at)
{
    /* Relaxed: ordered by the acquire of the look that showed data behind `at`. */
    if (W_UNLIKELY(at == atomic_load_explicit(&ring->skipped, memory_order_relaxed)))
        at = (at + ring->bytes - 1) & ~(ring->bytes - 1);
    return at;
}

/* The piece at `read`, or NULL: none that the last look has seen. It stays until it is released. */
static inline const uint8_t *w_spsc_piece(struct w_spsc *ring)
{
    if (ring->read == ring->tail_seen)
        return NULL;
    uint32_t read = w_spsc_passed(ring, ring->read);
    if (W_UNLIKELY(read != ring->read)) /* not stored each time: w_spsc_next would wait for the store */
        ring->read = read;
    return ring->data + (ring->read & (ring->bytes - 1));
}

/* Done with reading `bytes` of it, which was all of it. */
static inline void w_spsc_next(struct w_spsc *ring, uint32_t bytes)
{
    ring->read += bytes;
    ring->read_pieces++;
}

/* Everything before `position`, so many pieces since the beginning, may be written over. */
static inline void w_spsc_release(struct w_spsc *ring, uint32_t position, uint32_t pieces)
{
    /* Release: pairs with w_spsc_look_back. What was read there was read before. */
    atomic_store_explicit(&ring->released, (uint64_t)pieces << 32 | position, memory_order_release);
}

/* Everything that was read may be. */
static inline void w_spsc_release_read(struct w_spsc *ring)
{
    w_spsc_release(ring, ring->read, ring->read_pieces);
}

/* The bytes from `from` on, at most bytes_max of them and none behind `to` (a position that a look has shown): one run or two, without what is skipped. Answers how
 * many runs, and in *bytes how many bytes they have. */
static inline uint32_t w_spsc_view(const struct w_spsc *ring, uint32_t from, uint32_t to, uint32_t bytes_max, struct iovec vectors[2],
                                   uint32_t *bytes)
{
    uint32_t count = 0, left = bytes_max;
    *bytes = 0;
    while (from != to && left > 0) {
        from = w_spsc_passed(ring, from);
        uint32_t place = from & (ring->bytes - 1), run = w_base_min_u32(to - from, ring->bytes - place);
        uint32_t left_over = atomic_load_explicit(&ring->skipped, memory_order_relaxed) - from;
        if (left_over != 0 && left_over < run) /* the lap's data ends before memory does */
            run = left_over;
        run = w_base_min_u32(run, left);
        vectors[count++] = (struct iovec){.iov_base = ring->data + place, .iov_len = run};
        from += run;
        left -= run;
        *bytes += run;
    }
    return count;
}

#endif
