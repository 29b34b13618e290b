/* SPDX-License-Identifier: MIT */
/* drain: the far end of the fan-in measurement: receives what the producers send on its connections, and judges it.
 *
 * It either throws the bytes away as they come (the kernel does, nothing is copied) and counts them, or looks at every frame: whole,
 * unharmed, and each producer's in order without a gap. Frames with a stamp are timed, up to the return of the receive that brought them.
 * It is a process of its own, so that the CPU time of the producing process is that of producing alone.
 *
 * It can be a bad peer: slow, or one of its connections stops being read for a while. */
#pragma once

#include "histogram.h"
#include "judge.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define DRAIN_CONNECTIONS_MOST 16384

struct drain_plan {
    uint32_t message_bytes;    /* of payload; every frame has so many */
    uint32_t connection_count; /* all of them are taken before the first is read */
    bool drop;                 /* throw away; else look at every frame */
    bool gaps;                 /* numbers may be left out: the producers drop what finds no room */
    bool spin;                 /* never sleep */
    bool patient;              /* waits for the first connection as long as it takes */
    int cpu;                   /* -1: any */
    uint32_t receive_bytes;    /* of the kernel's buffer for each connection; 0: the kernel tunes it */
    uint64_t slow_bytes;       /* reads at most so many a second, of all connections together; 0: all there is */
    uint64_t stall_ns;         /* in the middle of the interval the first connection is not read for so long */
    uint64_t warmup_ns;        /* from the first byte on */
    uint64_t measure_ns;       /* behind that */
};

/* What came on some of the connections in some time: bytes by when they came, latencies by when the message was sent. */
struct drain_window {
    struct histogram latency;
    uint64_t byte_count;
    uint64_t elapsed_ns;
};

/* Counts are of the measured interval, but for the totals and the judge's, which are of the whole connections. */
struct drain_result {
    struct histogram latency; /* of the frames with a stamp; empty when dropping */
    uint64_t elapsed_ns;
    uint64_t byte_count;
    uint64_t receive_count;
    uint64_t cpu_ns;
    uint64_t total_bytes;
    struct judge_count judged;  /* when dropping: by the bytes alone */
    uint64_t broken_count;      /* connections that ended with an error */
    struct drain_window before; /* the stall, the second, all connections but the one; as far as the interval has it */
    struct drain_window others; /* during the stall, all connections but the one */
    struct drain_window stalled;
};

/* A listening socket on `text`; what it is called goes into address. -1 with a sentence on standard error. */
#define DRAIN_ADDRESS_BYTES 128
int drain_listen(const struct drain_plan *plan, const char *text, char address[DRAIN_ADDRESS_BYTES]);

/* Takes the connections from the listener and drains them to their end. False, with a sentence on standard error, when it could not. */
bool drain_once(int listener, const struct drain_plan *plan, struct drain_result *result);

/* Binds the calling thread to a core, -1: to none. */
bool drain_pin(int cpu);

/* Lets this process have so many connections. False, with a sentence on standard error, when it may not. */
bool drain_descriptors(uint32_t count);

double drain_rate(const struct drain_plan *plan, const struct drain_result *result);
uint64_t drain_faults(const struct drain_plan *plan, const struct drain_result *result);
void drain_print_json(FILE *file, const struct drain_plan *plan, const struct drain_result *result);
void drain_print_table(FILE *file, const struct drain_plan *plan, const struct drain_result *result);

/* --- as a child process --- */

struct drain_child {
    pid_t process;
    char address[DRAIN_ADDRESS_BYTES];
    struct drain_result *result; /* in memory that both share; true only after drain_join() */
};

/* Forks one that drains once; before the first thread is made. */
bool drain_start(struct drain_child *child, const struct drain_plan *plan);

/* Waits for its end. False when it did not come to a result; then child->result is NULL. */
bool drain_join(struct drain_child *child);
void drain_free(struct drain_child *child);
