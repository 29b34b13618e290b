/* SPDX-License-Identifier: MIT */
/* load: drives an echo server over many connections and measures what comes back. One thread, plain epoll.
 *
 * Closed loop: each connection keeps `depth` messages under way; an answer makes room for the next. It finds what a server can
 * do, but it waits with the server: while the server stalls nothing is sent, so few messages see the stall.
 * Open loop (rate > 0): message n is due at its own time whatever the server does, and its latency counts from then, also when
 * it had to wait for `depth` or for the socket. This is what clients see that do not know of each other. */
#pragma once

#include "address.h"
#include "histogram.h"
#include "pattern.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct load_plan {
    const struct address *address;
    enum pattern_framing framing;
    int *sockets; /* `connections` of them, which stand and stay open; lost ones become -1. NULL: it dials its own */
    uint32_t connections;
    uint32_t depth; /* messages under way on a connection, at most */
    uint32_t bytes; /* of payload in a message */
    uint64_t warmup_ns;
    uint64_t measure_ns;
    uint64_t rate; /* messages a second over all connections; 0: closed loop */
    pid_t server;  /* whose CPU time is read; 0: nobody's */
    bool spin;     /* ask for events without sleeping */
    bool check;    /* compare every byte */
    bool progress; /* a line on standard error that renews itself */
};

/* Counts are of the measured interval, but for the last four, which are of the whole run. */
struct load_result {
    struct histogram latency; /* of the messages sent (open loop: due) in the interval, answered or given up */
    uint64_t elapsed_ns;
    uint64_t message_count; /* answers received */
    uint64_t client_cpu_ns;
    uint64_t server_cpu_ns; /* these two are true when the plan names a server and it still lives at the end */
    uint64_t server_switches;
    bool server_sampled;
    uint64_t flawed_count;     /* answers that are not what was sent */
    uint64_t closed_count;     /* connections lost */
    uint64_t unanswered_count; /* sent, and no answer within 2 s of the end */
    uint64_t unsent_count;     /* open loop: due, but never sent, as `depth` or the socket had no room: the rate was too high */
};

/* False, with a sentence on standard error, when the run could not begin. A run that went wrong is told by its counts. */
bool load_run(const struct load_plan *plan, struct load_result *result);
