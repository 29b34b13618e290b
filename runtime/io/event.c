/* SPDX-License-Identifier: MIT */
/* event: what a thread that is not a shard's sleeps on, on the real kernel.
 *
 * Road:    reset -> the bell is looked at for the last time -> asleep on the word -> somebody sets it, and wakes -> awake.
 * Ditches: set before the sleep -> the kernel looks at the word again, and does not let it sleep; a wake that was meant for an earlier sleep -> awake for nothing, which io.h
 *          allows; a descriptor was asked for -> everything by that. */
#include "runtime/io/event.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void w_event_set(void *world, struct w_io_event *event)
{
    const uint64_t one = 1;
    const int saved_errno = errno;
    (void)world;
    /* Relaxed, both: whoever sets it has taken `asleep` away from a thread that had reset the event and made its descriptor before (bell.h, pair 2), so this comes behind
     * both; and between the word and the wake the kernel has a fence of its own (futex(2): the comparison and the sleep are one step for it). */
    atomic_store_explicit(&event->set, 1, memory_order_relaxed);
    int descriptor = atomic_load_explicit(&event->descriptor, memory_order_relaxed);
    if (descriptor >= 0)
        (void)!write(descriptor, &one, sizeof one);
    else
        (void)syscall(SYS_futex, &event->set, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    errno = saved_errno;
}

void w_event_reset(void *world, struct w_io_event *event)
{
    uint64_t count;
    int descriptor = atomic_load_explicit(&event->descriptor, memory_order_relaxed);
    (void)world;
    /* Relaxed: the doze that follows is what others see first. */
    atomic_store_explicit(&event->set, 0, memory_order_relaxed);
    if (descriptor >= 0)
        (void)!read(descriptor, &count, sizeof count);
}

int w_event_wait(void *world, struct w_io_event *event, uint64_t wait_ns)
{
    struct timespec limit = {.tv_sec = (time_t)w_base_min_u64(wait_ns / 1000000000, INT32_MAX), .tv_nsec = (long)(wait_ns % 1000000000)};
    const struct timespec *patience = wait_ns == W_IO_FOREVER ? NULL : &limit;
    struct pollfd wanted = {.fd = atomic_load_explicit(&event->descriptor, memory_order_relaxed), .events = POLLIN};
    (void)world;
    if (wanted.fd >= 0) {
        int ready = ppoll(&wanted, 1, patience, NULL);
        return ready > 0 ? 0 : ready == 0 ? -ETIMEDOUT : -errno;
    }
    if (syscall(SYS_futex, &event->set, FUTEX_WAIT_PRIVATE, 0, patience, NULL, 0) == 0 || errno == EAGAIN)
        return 0;
    return -errno;
}

int w_event_descriptor(void *world, struct w_io_event *event)
{
    int descriptor = atomic_load_explicit(&event->descriptor, memory_order_relaxed);
    (void)world;
    if (descriptor >= 0)
        return descriptor;
    descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (descriptor < 0)
        return -errno;
    atomic_store_explicit(&event->descriptor, descriptor, memory_order_relaxed);
    return descriptor;
}

void w_event_close(void *world, struct w_io_event *event)
{
    int descriptor = atomic_load_explicit(&event->descriptor, memory_order_relaxed);
    (void)world;
    if (descriptor >= 0)
        close(descriptor);
}
