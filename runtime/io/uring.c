/* SPDX-License-Identifier: MIT */
/* uring: the engine on the real kernel: the contract of io.h on one io_uring for each shard.
 *
 * Road:    an operation fills one submission → submit enters the kernel once for all of them, and sleeps there → completions lie in
 *          the queue → take moves them out.
 * Ditches: nothing to submit and nothing stirs → no system call; submission queue full → enter on the spot, never refused; completion
 *          queue full → the kernel keeps the rest, multishots end and are started again, counted; our own operations (bell, cancels,
 *          timers) → swallowed by take; a wake without a sleeper → a flag and no system call. */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "runtime/io/event.h"
#include "runtime/io/socket.h"
#include "runtime/io/uapi.h"
#include "runtime/io/uring.h"

/* A send of more is short. The kernel has a limit of its own a little below 2 GiB. */
#define SEND_MAX_BYTES (UINT32_C(1) << 30)

/* --- for the whole runtime --- */

static int uring_listen(void *world, const struct w_io_address *address, const weir_socket_options *options, enum w_io_sharing sharing)
{
    (void)world;
    return w_socket_listen(address, options, sharing);
}

static void uring_remove_address(void *world, const struct w_io_address *address)
{
    (void)world;
    w_socket_remove(address);
}

static int uring_listen_inherited(void *world, int descriptor, const weir_socket_options *options)
{
    (void)world;
    return w_socket_listen_inherited(descriptor, options);
}

static int uring_local_address(void *world, int handle, struct w_io_address *address)
{
    (void)world;
    return w_socket_local(handle, address);
}

static int uring_peer_address(void *world, int handle, struct w_io_address *address)
{
    (void)world;
    return w_socket_peer(handle, address);
}

static void uring_discard(void *world, int handle)
{
    (void)world;
    close(handle);
}

static int uring_resolve_now(void *world, struct w_io_resolve *resolve)
{
    (void)world;
    return w_resolve_now(resolve);
}

/* --- operations --- */

/* The caller fills in the rest. */
static struct io_uring_sqe *next(struct w_io *io)
{
    return w_ring_next(&w_uring_of(io)->ring);
}

static void label(struct io_uring_sqe *entry, uint64_t token)
{
    W_ASSERT((token & W_URING_INTERNAL) == 0);
    entry->user_data = token;
}

static void uring_accept(struct w_io *io, int handle, uint64_t token)
{
    struct io_uring_sqe *entry = next(io);
    io_uring_prep_multishot_accept(entry, handle, NULL, NULL, SOCK_CLOEXEC);
    label(entry, token);
}

static void uring_accept_one(struct w_io *io, int handle, uint64_t token)
{
    struct io_uring_sqe *entry = next(io);
    io_uring_prep_accept(entry, handle, NULL, NULL, SOCK_CLOEXEC);
    label(entry, token);
}

static int uring_socket(struct w_io *io, const struct w_io_address *address, const weir_socket_options *options)
{
    (void)io;
    return w_socket_dial(address, options);
}

static int uring_adopt(struct w_io *io, int descriptor, const weir_socket_options *options)
{
    (void)io;
    return w_socket_adopt(descriptor, options);
}

static void uring_connect(struct w_io *io, int handle, const struct w_io_address *address, uint64_t token)
{
    struct io_uring_sqe *entry = next(io);
    io_uring_prep_connect(entry, handle, &address->socket.any, address->bytes);
    label(entry, token);
}

/* Not POLL_FIRST: that waits for events, and when bytes and a reset (or a unix socket's end) have come before it starts, they are one
 * event, which the bytes use up; the end is never told (6.18 too). A receive that reads first looks at the state after the bytes.
 * (Between its reading and its waiting there is a gap for the same; 1 in 48,000 was lost. Hence uring_hung_up.)
 * The price: started while no buffer is free, it ends at once with -ENOBUFS, data or not. */
static void uring_receive(struct w_io *io, int handle, uint64_t token)
{
    struct io_uring_sqe *entry = next(io);
    io_uring_prep_recv_multishot(entry, handle, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = W_BUFFERS_GROUP;
    label(entry, token);
}

static bool uring_hung_up(struct w_io *io, int handle)
{
    struct pollfd state = {.fd = handle, .events = POLLRDHUP};
    (void)io;
    /* Not recv(MSG_PEEK), not SO_ERROR: both use the error up. */
    return poll(&state, 1, 0) == 1 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static void uring_send(struct w_io *io, int handle, const void *data, size_t bytes, uint64_t token)
{
    struct io_uring_sqe *entry = next(io);
    io_uring_prep_send(entry, handle, data, bytes < SEND_MAX_BYTES ? bytes : SEND_MAX_BYTES, MSG_NOSIGNAL);
    label(entry, token);
}

static void uring_send_gather(struct w_io *io, int handle, struct w_io_gather *gather, uint64_t token)
{
    struct io_uring_sqe *entry = next(io);
    W_ASSERT(gather->count >= 1 && gather->count <= W_IO_VECTORS_MAX);
    gather->header = (struct msghdr){.msg_iov = gather->vectors, .msg_iovlen = gather->count};
    io_uring_prep_sendmsg(entry, handle, &gather->header, MSG_NOSIGNAL);
    label(entry, token);
}

static void uring_shutdown(struct w_io *io, int handle, int how)
{
    (void)io;
    (void)shutdown(handle, how);
}

static void uring_reset_on_close(struct w_io *io, int handle)
{
    (void)io;
    w_socket_reset_on_close(handle);
}

static void uring_close_handle(struct w_io *io, int handle, uint64_t token)
{
    struct io_uring_sqe *entry = next(io);
    if (W_UNLIKELY(w_uring_of(io)->ring.broken != 0)) /* nothing is handed over any more */
        close(handle);
    io_uring_prep_close(entry, handle);
    label(entry, token);
}

static void uring_cancel(struct w_io *io, uint64_t token)
{
    struct w_uring *uring = w_uring_of(io);
    W_ASSERT((token & W_URING_INTERNAL) == 0);
    if (uring->lookups != NULL && w_uring_resolve_cancel(uring, token))
        return;
    struct io_uring_sqe *entry = next(io);
    io_uring_prep_cancel64(entry, token, 0);
    entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
    entry->user_data = W_URING_SILENT;
}

static void uring_buffer_hold(struct w_io *io, uint16_t buffer)
{
    w_buffers_hold(&w_uring_of(io)->buffers, buffer);
}

static void uring_buffer_release(struct w_io *io, uint16_t buffer)
{
    struct w_uring *uring = w_uring_of(io);
    w_buffers_release(&uring->buffers, buffer);
    io->buffers_free = uring->buffers.free;
}

/* --- the clock and chance --- */

static uint64_t uring_clock(struct w_io *io)
{
    struct timespec now;
    (void)io;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t uring_random(struct w_io *io)
{
    uint64_t mixed = w_uring_of(io)->random_state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

/* --- waking and sleeping ---
 *
 * The waker: publishes its work, sets woken, looks at asleep. The sleeper: sets asleep, looks at woken, sleeps, clears both, looks at the
 * work. Both sides store and then load, sequentially consistent, so at least one sees the other; and a waker that finds
 * woken set already may go: whoever set it first has rung the bell if there was a sleeper. */

static void ring_bell(struct w_uring *uring)
{
    const uint64_t one = 1;
    struct io_uring_sqe message = {.opcode = IORING_OP_MSG_RING, .fd = uring->ring.uring.ring_fd, .off = W_URING_SILENT};
    if (uring->sync_message && io_uring_register((unsigned)-1, W_UAPI_REGISTER_SEND_MSG_RING, &message, 1) >= 0)
        return;
    (void)!write(uring->bell, &one, sizeof one);
}

static void uring_wake(struct w_io *io)
{
    struct w_uring *uring = w_uring_of(io);
    const int saved_errno = errno;
    if (!atomic_exchange(&uring->woken, true) && atomic_load(&uring->asleep))
        ring_bell(uring);
    errno = saved_errno;
}

/* One poll for all wake-ups: it is edge-triggered, so the bell need not be read. (The count that grows in it lasts for 10^19 wakes.) */
static void arm_bell(struct w_uring *uring)
{
    struct io_uring_sqe *entry = w_ring_next(&uring->ring);
    io_uring_prep_poll_multishot(entry, uring->bell, POLLIN);
    entry->user_data = W_URING_BELL;
    uring->bell_armed = true;
}

static bool uring_stirring(struct w_io *io)
{
    struct w_uring *uring = w_uring_of(io);
    return w_ring_stirring(&uring->ring) || uring->answers != NULL || atomic_load_explicit(&uring->woken, memory_order_relaxed) ||
           (io->bell != NULL && w_bell_is_due(io->bell));
}

/* The last looks before a sleep, behind which nothing is missed: both sides of each pair store, then load (bell.h, and above). */
static bool fall_asleep(struct w_uring *uring)
{
    struct w_bell *bell = uring->io.bell;
    atomic_store(&uring->asleep, true);
    bool quiet = bell == NULL || w_bell_doze(bell);
    /* The kernel too stores (work), then loads (notifications on?): a fence between our store and our look. */
    w_base_fence();
    return quiet && !atomic_load(&uring->woken) && !uring_stirring(&uring->io);
}

static void rise(struct w_uring *uring)
{
    atomic_store_explicit(&uring->asleep, false, memory_order_relaxed);
    if (uring->io.bell != NULL)
        w_bell_rise(uring->io.bell);
}

/* Whatever was published before the wake is to be looked for from here on. */
static void use_up_wake(struct w_uring *uring)
{
    if (atomic_load_explicit(&uring->woken, memory_order_relaxed))
        (void)atomic_exchange(&uring->woken, false);
}

static void count_sleep(struct w_uring *uring)
{
    uint64_t sleeps = atomic_load_explicit(&uring->io.counters.sleeps, memory_order_relaxed);
    atomic_store_explicit(&uring->io.counters.sleeps, sleeps + 1, memory_order_relaxed);
}

static void count_overflow(struct w_uring *uring)
{
    uint64_t overflows = atomic_load_explicit(&uring->io.counters.completion_overflows, memory_order_relaxed);
    atomic_store_explicit(&uring->io.counters.completion_overflows, overflows + 1, memory_order_relaxed);
}

/* --- embedded: the thread sleeps elsewhere, on the bell --- */

static void set_notifications(struct w_uring *uring, bool on)
{
    (void)io_uring_cq_eventfd_toggle(&uring->ring.uring, on);
}

static bool uring_may_sleep(struct w_io *io)
{
    struct w_uring *uring = w_uring_of(io);
    uint64_t rings;
    W_ASSERT(uring->embedded);
    (void)!read(uring->bell, &rings, sizeof rings);
    set_notifications(uring, true);
    if (fall_asleep(uring) && w_ring_filled(&uring->ring) == 0) {
        count_sleep(uring);
        return true;
    }
    /* woken stays: the next submit uses it up. */
    rise(uring);
    set_notifications(uring, false);
    return false;
}

/* The embedder's thread is back from its sleep. */
static void leave_sleep(struct w_uring *uring)
{
    if (!atomic_load_explicit(&uring->asleep, memory_order_relaxed))
        return;
    rise(uring);
    set_notifications(uring, false);
}

/* An embedded shard that is asked to sleep in here all the same (while a runtime is being closed, say). */
static void sleep_on_bell(struct w_uring *uring, uint64_t wait_ns)
{
    struct pollfd poll_bell = {.fd = uring->bell, .events = POLLIN};
    if (!uring_may_sleep(&uring->io))
        return;
    struct timespec limit = {.tv_sec = (time_t)w_base_min_u64(wait_ns / 1000000000, INT32_MAX), .tv_nsec = (long)(wait_ns % 1000000000)};
    (void)ppoll(&poll_bell, 1, wait_ns == W_IO_FOREVER ? NULL : &limit, NULL);
    leave_sleep(uring);
}

/* --- the turn's two calls --- */

/* Enters the kernel if there is a reason to. */
static int enter(struct w_uring *uring, uint64_t wait_ns)
{
    uint32_t flags = w_ring_flags(&uring->ring);
    if (W_UNLIKELY((flags & IORING_SQ_CQ_OVERFLOW) != 0))
        count_overflow(uring);
    if (wait_ns == 0 && flags == 0 && w_ring_filled(&uring->ring) == 0)
        return uring->ring.broken;
    return w_ring_enter(&uring->ring, wait_ns);
}

static int sleep_in_ring(struct w_uring *uring, uint64_t wait_ns)
{
    if (fall_asleep(uring))
        count_sleep(uring);
    else
        wait_ns = 0;
    int result = enter(uring, wait_ns);
    rise(uring);
    return result;
}

static int uring_submit(struct w_io *io, uint64_t wait_ns)
{
    struct w_uring *uring = w_uring_of(io);
    int result;
    if (uring->embedded)
        leave_sleep(uring);
    else if (W_UNLIKELY(!uring->bell_armed))
        arm_bell(uring);
    if (wait_ns == 0) {
        result = enter(uring, 0);
    } else if (!uring->embedded) {
        result = sleep_in_ring(uring, wait_ns);
    } else {
        result = enter(uring, 0);
        if (result == 0)
            sleep_on_bell(uring, wait_ns);
        if (result == 0)
            result = enter(uring, 0);
    }
    use_up_wake(uring);
    io->now_ns = uring_clock(io);
    return result;
}

static void take_internal(struct w_uring *uring, const struct io_uring_cqe *cqe)
{
    if (cqe->user_data == W_URING_BELL && (cqe->flags & IORING_CQE_F_MORE) == 0)
        uring->bell_armed = false;
    else if ((cqe->user_data & W_URING_LOOKUP_MASK) != 0)
        w_uring_resolve_look(uring, (struct w_uring_lookup *)(uintptr_t)(cqe->user_data & W_URING_LOOKUP_MASK));
}

static void take_one(struct w_uring *uring, const struct io_uring_cqe *cqe, struct w_io_completion *completion)
{
    uint16_t flags = (cqe->flags & IORING_CQE_F_MORE) != 0 ? W_IO_MORE : 0;
    completion->token = cqe->user_data;
    completion->result = cqe->res;
    completion->data = NULL;
    completion->buffer = 0;
    if ((cqe->flags & IORING_CQE_F_BUFFER) != 0) {
        completion->data = w_buffers_filled(&uring->buffers, cqe->res, cqe->flags, &completion->buffer);
        if (completion->data != NULL)
            flags |= W_IO_BUFFER;
    } else if (W_UNLIKELY(cqe->res == -EINTR)) {
        completion->result = -ECANCELED; /* one that a kernel's worker had was cancelled by a signal to it */
    }
    completion->flags = flags;
}

static uint32_t uring_take(struct w_io *io, struct w_io_completion *completions, uint32_t max)
{
    struct w_uring *uring = w_uring_of(io);
    uint32_t head, count = 0;
    if (W_UNLIKELY(uring->answers != NULL))
        count = w_uring_resolve_take(uring, completions, max);
    uint32_t left = w_ring_completions(&uring->ring, &head);
    if (left == 0 || count == max)
        return count;
    for (; left > 0 && count < max; left--, head++) {
        const struct io_uring_cqe *cqe = w_ring_completion(&uring->ring, head);
        if (W_UNLIKELY((cqe->user_data & W_URING_INTERNAL) != 0))
            take_internal(uring, cqe);
        else
            take_one(uring, cqe, &completions[count++]);
    }
    w_ring_taken(&uring->ring, head);
    io->buffers_free = uring->buffers.free;
    return count;
}

const struct w_io_engine *w_io_uring(void)
{
    static const struct w_io_engine engine = {
        .name = "io_uring",
        .listen = uring_listen,
        .remove_address = uring_remove_address,
        .listen_inherited = uring_listen_inherited,
        .local_address = uring_local_address,
        .peer_address = uring_peer_address,
        .discard = uring_discard,
        .event_set = w_event_set,
        .event_reset = w_event_reset,
        .event_wait = w_event_wait,
        .event_descriptor = w_event_descriptor,
        .event_close = w_event_close,
        .resolve_now = uring_resolve_now,
        .open = w_uring_open,
        .close = w_uring_close,
        .start = w_uring_start,
        .accept = uring_accept,
        .accept_one = uring_accept_one,
        .socket = uring_socket,
        .adopt = uring_adopt,
        .connect = uring_connect,
        .receive = uring_receive,
        .hung_up = uring_hung_up,
        .send = uring_send,
        .send_gather = uring_send_gather,
        .shutdown = uring_shutdown,
        .reset_on_close = uring_reset_on_close,
        .close_handle = uring_close_handle,
        .cancel = uring_cancel,
        .resolve = w_uring_resolve,
        .buffer_hold = uring_buffer_hold,
        .buffer_release = uring_buffer_release,
        .submit = uring_submit,
        .take = uring_take,
        .stirring = uring_stirring,
        .clock = uring_clock,
        .random = uring_random,
        .wake = uring_wake,
        .descriptor = w_uring_descriptor,
        .may_sleep = uring_may_sleep,
    };
    return &engine;
}
