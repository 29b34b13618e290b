/* SPDX-License-Identifier: MIT */
/* ring: setting an io_uring up and entering it.
 *
 * Road:    open (disabled) → start on its thread → fill → enter → completions.
 * Ditches: interrupted, time over, completion queue full → back to the caller, who takes what there is and comes again; no
 *          memory for a request → what was not taken stays filled and goes next; anything else → broken for good. */
#include "runtime/io/ring.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "runtime/io/uapi.h"

uint64_t w_ring_bytes(uint32_t submissions, uint32_t completions)
{
    /* One mapping: a header of 64 to 192 bytes, the completions, the index array; and one of the submission entries. */
    uint64_t queues = 192 + (uint64_t)completions * sizeof(struct io_uring_cqe) + (uint64_t)submissions * sizeof(uint32_t);
    uint64_t entries = (uint64_t)submissions * sizeof(struct io_uring_sqe);
    return ((queues + 4095) & ~UINT64_C(4095)) + ((entries + 4095) & ~UINT64_C(4095));
}

int w_ring_open(struct w_ring *ring, uint32_t submissions, uint32_t completions)
{
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED,
        .cq_entries = completions,
    };
    memset(ring, 0, sizeof *ring);
    int result = io_uring_queue_init_params(submissions, &ring->uring, &parameters);
    if (result < 0) {
        memset(ring, 0, sizeof *ring); /* liburing may leave a failed mapping's address in it */
        return result;
    }
    /* Whoever forks without exec must not turn this ring from the child. */
    (void)io_uring_ring_dontfork(&ring->uring);
    /* Submission i is entry i for ever. (liburing 2.3 has filled this in, others have no array.) */
    for (uint32_t i = 0; ring->uring.sq.array != NULL && i < ring->uring.sq.ring_entries; i++)
        ring->uring.sq.array[i] = i;
    ring->tail = *ring->uring.sq.ktail;
    ring->enter_descriptor = ring->uring.ring_fd;
    return 0;
}

/* By hand, not by liburing: that would unregister at exit whatever has this number on the thread that closes. */
static void register_descriptor(struct w_ring *ring)
{
    struct io_uring_rsrc_update update = {.offset = UINT32_MAX, .data = (uint64_t)ring->uring.ring_fd};
    if (io_uring_register((unsigned)ring->uring.ring_fd, IORING_REGISTER_RING_FDS, &update, 1) != 1)
        return;
    ring->enter_descriptor = (int)update.offset;
    ring->enter_flags = IORING_ENTER_REGISTERED_RING;
}

static void unregister_descriptor(struct w_ring *ring)
{
    struct io_uring_rsrc_update update = {.offset = (uint32_t)ring->enter_descriptor};
    (void)io_uring_register((unsigned)ring->uring.ring_fd, IORING_UNREGISTER_RING_FDS, &update, 1);
}

int w_ring_start(struct w_ring *ring, bool registered)
{
    /* liburing 2.3's shared library forgets to export io_uring_enable_rings(). */
    int result = io_uring_register((unsigned)ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (result < 0)
        return result;
    ring->owner = gettid();
    if (registered)
        register_descriptor(ring);
    return 0;
}

/* A ring that broke has closes which the kernel never took: nobody else will do them. */
static void close_left(struct w_ring *ring)
{
    for (uint32_t left = w_ring_filled(ring); left > 0; left--) {
        const struct io_uring_sqe *entry = &ring->uring.sq.sqes[(ring->tail - left) & ring->uring.sq.ring_mask];
        if (entry->opcode == IORING_OP_CLOSE)
            close(entry->fd);
    }
}

void w_ring_close(struct w_ring *ring)
{
    if (ring->uring.sq.sqes == NULL)
        return;
    close_left(ring);
    if (ring->enter_flags != 0 && ring->owner == gettid())
        unregister_descriptor(ring);
    io_uring_queue_exit(&ring->uring);
    memset(ring, 0, sizeof *ring);
}

/* Makes what was filled visible to the kernel; answers how much that is. liburing's own counters are not used. */
static uint32_t publish(struct w_ring *ring)
{
    __atomic_store_n(ring->uring.sq.ktail, ring->tail, __ATOMIC_RELEASE);
    return w_ring_filled(ring);
}

/* True for what may happen to anybody at any time; else the ring is broken, and remembers it. */
static bool passes(struct w_ring *ring, int result)
{
    if (result >= 0 || result == -EINTR || result == -ETIME || result == -EAGAIN || result == -EBUSY)
        return true;
    ring->broken = result;
    return false;
}

/* Kernels from 6.1 take submissions whether or not the completion queue is full; -EAGAIN is the lack of a few hundred bytes of
 * kernel memory, and goes by. */
void w_ring_make_room(struct w_ring *ring)
{
    const struct timespec pause = {.tv_nsec = 100000};
    while (ring->broken == 0 && w_ring_filled(ring) == ring->uring.sq.ring_entries) {
        int result = io_uring_enter2((unsigned)ring->enter_descriptor, publish(ring), 0, ring->enter_flags, NULL, 0);
        if (passes(ring, result) && result < 0 && result != -EINTR)
            nanosleep(&pause, NULL);
    }
}

int w_ring_enter(struct w_ring *ring, uint64_t wait_ns)
{
    struct __kernel_timespec limit = {.tv_sec = (long long)(wait_ns / 1000000000), .tv_nsec = (long long)(wait_ns % 1000000000)};
    struct io_uring_getevents_arg argument = {.ts = (uint64_t)(uintptr_t)&limit};
    uint32_t flags = IORING_ENTER_GETEVENTS | ring->enter_flags;
    bool limited = wait_ns != 0 && wait_ns != UINT64_MAX;

    if (ring->broken != 0)
        return ring->broken;
    if (wait_ns != 0)
        flags |= ring->wait_flags;
    if (limited)
        flags |= IORING_ENTER_EXT_ARG;
    for (;;) {
        uint32_t filled = publish(ring);
        int result = io_uring_enter2((unsigned)ring->enter_descriptor, filled, wait_ns != 0, flags,
                                     limited ? (sigset_t *)(void *)&argument : NULL, limited ? sizeof argument : _NSIG / 8);
        if (!passes(ring, result))
            return ring->broken;
        /* The kernel stopped in the middle for want of memory, and has not slept: once more for the rest. */
        if (result <= 0 || (uint32_t)result >= filled) {
            ring->left = w_ring_filled(ring) != 0;
            return 0;
        }
    }
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int w_ring_await(struct w_ring *ring, uint64_t limit_ns, struct io_uring_cqe *completion)
{
    uint32_t head;
    int result = 0;
    const uint64_t end_ns = clock_ns() + limit_ns;
    for (uint64_t now_ns = clock_ns(); result == 0 && now_ns < end_ns; now_ns = clock_ns()) {
        if (w_ring_completions(ring, &head) != 0 && w_ring_filled(ring) == 0)
            break;
        result = w_ring_enter(ring, end_ns - now_ns);
    }
    if (result == 0 && w_ring_completions(ring, &head) == 0)
        result = -ETIMEDOUT;
    if (result < 0)
        return result;
    *completion = *w_ring_completion(ring, head);
    w_ring_taken(ring, head + 1);
    return 0;
}
