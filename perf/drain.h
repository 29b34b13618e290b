/* SPDX-License-Identifier: MIT */
/* drain: the far end of the fan-in measurement: receives what the producers of one connection send, and judges it.
 *
 * It either throws the bytes away as they come (the kernel does, nothing is copied) and counts them, or looks at every frame: whole,
 * unharmed, and each producer's in order without a gap. Frames with a stamp are timed, up to the return of the receive that brought them.
 * It is a process of its own, so that the CPU time of the producing process is that of producing alone. */
#pragma once

#include "histogram.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct drain_plan {
    uint32_t message_bytes; /* of payload; every frame has so many */
    bool drop;              /* throw away; else look at every frame */
    bool spin;              /* never sleep */
    int cpu;                /* -1: any */
    uint64_t warmup_ns;     /* from the first byte on */
    uint64_t measure_ns;    /* behind that */
};

/* Counts are of the measured interval, but for the totals and the faults, which are of the whole connection. */
struct drain_result {
    struct histogram latency; /* of the frames with a stamp; empty when dropping */
    uint64_t elapsed_ns;
    uint64_t byte_count;
    uint64_t receive_count;
    uint64_t cpu_ns;
    uint64_t total_bytes;
    uint64_t total_messages; /* whole frames: by their looks, or, when dropping, by their bytes */
    uint64_t torn_count;     /* 1: a frame was not one, nothing behind it was looked at; or the last was not whole */
    uint64_t harmed_count;   /* frames with a filler that was not sent so */
    uint64_t order_count;    /* frames that were not the next of their producer */
    bool broken;             /* the connection ended with an error */
};

/* A listening socket on 127.0.0.1, or on `text`; what it is called goes into address. -1 with a sentence on standard error. */
#define DRAIN_ADDRESS_BYTES 128
int drain_listen(const char *text, char address[DRAIN_ADDRESS_BYTES]);

/* Takes one connection from the listener and drains it to its end. False, with a sentence on standard error, when there was none. */
bool drain_one(int listener, const struct drain_plan *plan, struct drain_result *result);

/* Binds the calling thread to a core, -1: to none. */
bool drain_pin(int cpu);

double drain_rate(const struct drain_plan *plan, const struct drain_result *result);
uint64_t drain_faults(const struct drain_result *result);
void drain_print_json(FILE *file, const struct drain_plan *plan, const struct drain_result *result);
void drain_print_table(FILE *file, const struct drain_plan *plan, const struct drain_result *result);

/* --- as a child process --- */

struct drain_child {
    pid_t process;
    char address[DRAIN_ADDRESS_BYTES];
    struct drain_result *result; /* in memory that both share; true only after drain_join() */
};

/* Forks one that drains one connection; before the first thread is made. */
bool drain_start(struct drain_child *child, const struct drain_plan *plan);

/* Waits for its end. False when it did not come to a result; then child->result is NULL. */
bool drain_join(struct drain_child *child);
void drain_free(struct drain_child *child);
