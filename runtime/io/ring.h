/* SPDX-License-Identifier: MIT */
/* ring: one io_uring: set up, submission queue, entering the kernel, completion queue.
 *
 * liburing maps the queues; what it has no public call for is done here: filling the submission queue and entering with flags of
 * our own, so that one system call submits, runs the deferred work, and sleeps with a time limit.
 *
 * A ring is opened disabled, by any thread; w_ring_start binds it to the calling thread, and from then on that thread alone
 * may use it (the kernel answers -EEXIST to others). It may be closed by any thread. */
#ifndef W_RING_H
#define W_RING_H

#include <liburing.h>
#include <string.h>

#include "runtime/base.h"

/* Invariant: what was filled and not yet taken by the kernel, tail - *khead, is at most the submission queue's size. */
struct w_ring {
    struct io_uring uring;     /* liburing's view: mappings and descriptor */
    uint32_t tail;             /* behind the last filled submission; published to the kernel when entering */
    int enter_descriptor;      /* what io_uring_enter is given: the descriptor, or its registered number */
    uint32_t enter_flags;      /* with it: IORING_ENTER_REGISTERED_RING or 0 */
    uint32_t wait_flags;       /* added when sleeping: W_UAPI_ENTER_NO_IOWAIT or 0 */
    bool left;                 /* the kernel did not take all that was filled at the last entering: it wants another */
    int broken;                /* the negative errno that ended it for good, or 0 */
    pid_t owner;               /* the thread that started it, or 0 */
    struct io_uring_sqe scrap; /* where submissions go once it is broken */
};

/* Bytes that a ring of these sizes has mapped (and locked, where the kernel counts them): queues and submission entries. */
uint64_t w_ring_bytes(uint32_t submissions, uint32_t completions);

/* 0 or a negative errno, of io_uring_setup(2) or mmap(2). On failure there is nothing to close. */
int w_ring_open(struct w_ring *ring, uint32_t submissions, uint32_t completions);
/* Everything in flight is given up. Accepts a zeroed ring. */
void w_ring_close(struct w_ring *ring);
/* Enables the ring for the calling thread. `registered`: use a registered descriptor (50 ns less an entry; the thread must be the one
 * that closes the ring, or end before). Going without where there is none left. 0 or a negative errno. */
int w_ring_start(struct w_ring *ring, bool registered);

/* A submission queue that is full: enters the kernel until there is room. */
void w_ring_make_room(struct w_ring *ring);

/* Enters the kernel: hands over what was filled, runs deferred work, and, when wait_ns > 0, sleeps until a completion is there or
 * the time is over (UINT64_MAX: for ever); a signal ends it early. 0, or the negative errno the ring is broken with. */
int w_ring_enter(struct w_ring *ring, uint64_t wait_ns);

/* For probing: hands over what was filled, waits for the next completion at most so long, and takes it: 0, -ETIMEDOUT, or what the ring is broken with. A signal, or a
 * kernel short of memory for a moment, is no reason to give up. */
int w_ring_await(struct w_ring *ring, uint64_t limit_ns, struct io_uring_cqe *completion);

/* How many submissions are filled and not handed over. */
static inline uint32_t w_ring_filled(const struct w_ring *ring)
{
    return ring->tail - __atomic_load_n(ring->uring.sq.khead, __ATOMIC_ACQUIRE);
}

/* The next free submission entry, all zero (liburing 2.3 leaves what stood there). Never NULL. */
static inline struct io_uring_sqe *w_ring_next(struct w_ring *ring)
{
    struct io_uring_sqe *entry = &ring->scrap;
    if (W_UNLIKELY(w_ring_filled(ring) == ring->uring.sq.ring_entries))
        w_ring_make_room(ring);
    if (W_LIKELY(ring->broken == 0))
        entry = &ring->uring.sq.sqes[ring->tail++ & ring->uring.sq.ring_mask];
    memset(entry, 0, sizeof *entry);
    return entry;
}

/* Completions that lie in the queue: between `*head` and the answered tail. */
static inline uint32_t w_ring_completions(const struct w_ring *ring, uint32_t *head)
{
    *head = *ring->uring.cq.khead;
    return __atomic_load_n(ring->uring.cq.ktail, __ATOMIC_ACQUIRE) - *head;
}

static inline const struct io_uring_cqe *w_ring_completion(const struct w_ring *ring, uint32_t position)
{
    return &ring->uring.cq.cqes[position & ring->uring.cq.ring_mask];
}

/* Gives the entries before `head` back to the kernel. */
static inline void w_ring_taken(struct w_ring *ring, uint32_t head)
{
    __atomic_store_n(ring->uring.cq.khead, head, __ATOMIC_RELEASE);
}

/* IORING_SQ_TASKRUN (work waits for us to enter), IORING_SQ_CQ_OVERFLOW (completions wait for room in the queue). */
static inline uint32_t w_ring_flags(const struct w_ring *ring)
{
    return __atomic_load_n(ring->uring.sq.kflags, __ATOMIC_RELAXED) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* True when entering, or looking at the completions, would bring something. No system call. */
static inline bool w_ring_stirring(const struct w_ring *ring)
{
    uint32_t head;
    return w_ring_completions(ring, &head) != 0 || w_ring_flags(ring) != 0 || ring->left;
}

#endif
