/* SPDX-License-Identifier: MIT */
/* bound: what the machine and its kernel can do at best, by the plainest program that there is for each. One function for each kind; each
 * takes about `measure_ns`, runs on the calling thread (bound to cores[0]) and, where two are needed, one more (on cores[1]).
 *
 * All answer 0, or an errno when the kernel does not let them. */
#pragma once

#include "histogram.h"

#include <stdbool.h>
#include <stdint.h>

#define BOUND_MESSAGE_BYTES 64u
#define BOUND_WRITE_BYTES   65536u

struct bound_plan {
    int cores[2];
    uint64_t measure_ns;
};

/* To and fro over TCP loopback, 64 bytes: `round_trips`, after a tenth of the time to warm up. Both sides block in recv, or both spin on
 * it. */
int bound_pingpong(const struct bound_plan *plan, bool spin, struct histogram *round_trips);

/* One way over TCP loopback in writes and reads of 64 KiB. */
int bound_bytes(const struct bound_plan *plan, double *bytes_per_second);

/* A number that two threads raise in turn, in a cache line of its own, both spinning: half of the time there and back. */
int bound_line(const struct bound_plan *plan, double *one_way_ns);

/* From just before the write to an eventfd until the thread that slept on it runs again; and how long the write itself takes the waker. */
int bound_wake(const struct bound_plan *plan, struct histogram *wakes, struct histogram *writes);

/* An io_uring_enter with nothing to submit and nothing to take, and getppid: a system call that does nothing. `enter_ns` is -1 when
 * io_uring may not be used here. */
int bound_enter(const struct bound_plan *plan, double *enter_ns, double *call_ns);

/* memcpy from one 64 KiB buffer to another, both in the core's caches. */
int bound_copy(const struct bound_plan *plan, double *bytes_per_second);
