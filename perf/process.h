/* SPDX-License-Identifier: MIT */
/* process: what the kernel says about another process: its CPU time, its context switches, its memory. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process_sample {
    uint64_t cpu_ns;   /* of all threads, living and dead, user and kernel, io_uring's workers included */
    uint64_t switches; /* context switches of the living threads, voluntary or not */
};

/* False when there is no such process (or no /proc). */
bool process_sample(pid_t process, struct process_sample *sample);

/* Resident memory; 0 when it cannot be read. */
uint64_t process_rss_bytes(pid_t process);

/* CPU time of this process. */
uint64_t process_own_cpu_ns(void);

/* Now, by the monotonic clock. */
uint64_t process_now_ns(void);
