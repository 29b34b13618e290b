/* SPDX-License-Identifier: MIT */
/* crew: P producers that share C connections, run and measured; the same for weir and for the peers in C, so that they differ in nothing
 * but how they send. A side says how (struct crew_side); the rest is here: options, threads, the interval, what is printed. */
#pragma once

#include "address.h"
#include "drain.h"
#include "producer.h"

#include <argp.h>

#define CREW_PRODUCERS_MOST 1024
#define CREW_BATCH_MOST     1024
#define CREW_WAYS_MOST      4

struct crew_plan {
    struct address address;
    char text[DRAIN_ADDRESS_BYTES]; /* the address as text */
    bool addressed;                 /* true exactly when --connect was given; else a sink of our own is started */
    uint32_t way;                   /* which of the side's ways */
    uint32_t producer_count;
    uint32_t connection_count;
    uint32_t message_bytes; /* of payload */
    uint32_t batch_count;   /* messages that are sent together */
    uint64_t rate;          /* messages a second, of all together; 0: as fast as it goes */
    bool refuse;            /* what finds no room is dropped; else it waits */
    bool latency;           /* time some of the sends even without a rate */
    bool check;             /* a sink of our own looks at every frame */
    bool sink_spin;
    int sink_cpu; /* -1: any */
    uint32_t sink_receive_bytes;
    uint64_t sink_slow_bytes;
    uint64_t sink_stall_ns;
    uint64_t warmup_ns;
    uint64_t measure_ns;
    bool json;
};

/* Of the measured interval. */
struct crew_result {
    struct histogram calls;
    uint64_t elapsed_ns;
    uint64_t message_count;  /* accepted */
    uint64_t cpu_ns;         /* of this process */
    uint64_t send_count;     /* send operations on the connection; 0: not known */
    uint64_t total_messages; /* accepted in the whole run */
    uint64_t refusals;       /* dropped in the whole run */
};

struct crew_side {
    const char *name;
    const char *ways[CREW_WAYS_MOST + 1]; /* values of --way, the first is what it does without; then NULL */
    const char *help;
    const struct argp *argp; /* NULL: no options of its own */
    void *argp_input;
    uint32_t batch_bytes; /* not 0: as many messages are sent together as fit into so many bytes, whatever --batch says */
    bool alone;           /* one producer sends on one connection */
    bool refuses;         /* it can tell that there is no room, and then drop (--refuse) */
    bool unconnected;     /* sends on no connection */

    /* Gets ready to send to plan.address (crew_connect), or ends the program by crew_die(). No producer runs yet. */
    void (*open)(struct crew *crew);
    /* On each producer's thread: prepare, producer_ready(), and send until producer_next() answers NULL. */
    void (*produce)(struct producer *producer);
    /* While the producers warm up; may be NULL. */
    void (*touch)(struct crew *crew);
    /* Send operations so far; may be NULL. */
    uint64_t (*sends)(struct crew *crew);
    /* All producers have returned: everything is sent, then the connections end (crew_hang_up). */
    void (*close)(struct crew *crew);
    /* More to print; may be NULL. JSON begins with a comma. */
    void (*print)(const struct crew *crew, bool json);
};

struct crew {
    const struct crew_side *side;
    struct crew_plan plan;
    struct crew_result result;
    struct producer *producers;
    int *sockets; /* connection_count of them, after crew_connect() */
    struct drain_child sink;
    uint64_t extra_messages; /* sent by nobody of the crew: a side's touch() counts them here */
    uint64_t began_ns;       /* set before `started` opens */
    atomic_bool stopping;
    atomic_bool measuring;
    pthread_barrier_t ready;
    pthread_barrier_t started;
};

/* The whole program: parses, runs, prints; the exit code. */
int crew_main(int argc, char **argv, const struct crew_side *side);

/* Opens the connections: stream sockets, blocking, without Nagle. Ends the program when it cannot. */
void crew_connect(struct crew *crew);

/* Ends our side of each, waits for the sink's, and closes them. */
void crew_hang_up(struct crew *crew);

/* Sends all, or ends the program. */
void crew_send(const struct crew *crew, int descriptor, const void *bytes, size_t count);

/* Says what failed, with errno's sentence when `error` is not 0, and ends the program. */
_Noreturn void crew_die(const struct crew *crew, const char *what, int error);
