/* SPDX-License-Identifier: MIT */
/* crowd: the members of the fan-out measurement: connections that receive, in a process of their own, so that the CPU time of the
 * publishing process is that of publishing alone. They say hello with a frame of one byte and then only read: the bytes are thrown away
 * as they come (the kernel does, nothing is copied) and counted, or every frame is looked at: whole, unharmed, and each the next of
 * those before. Some never read at all. What is published is a message of perf/message.h, numbered from 0; what stands around it tells
 * perf/wire.h.
 *
 *     crowd_start(plan) → crowd_connect(where the publisher listens) → publish → crowd_warm_up → crowd_measure → stop publishing → crowd_stop
 *
 * The process that reads never sleeps, so that nobody pays for waking it. */
#pragma once

#include "histogram.h"
#include "wire.h"

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CROWD_BYTES_MOST 65536u
#define CROWD_BATCH_MOST 1024u
/* With many members, batches are smaller than --batch says: a batch for all has so many messages and bytes at most. */
#define CROWD_BATCH_DELIVERIES_MOST (1u << 16)
#define CROWD_BATCH_BYTES_MOST      (16u << 20)
#define CROWD_SLOW_MOST             64u
#define CROWD_BATCHES               4u /* that any publisher may have under way for each member: what waits there, a send may carry together */

/* Not told: as many as arrived at the member that got most. */
#define CROWD_PUBLISHED_UNKNOWN UINT64_MAX

struct crowd_plan {
    uint32_t member_count;
    uint32_t slow_count;    /* beside these, that never read */
    uint32_t message_bytes; /* of payload */
    uint32_t batch_count;   /* messages published together */
    bool check;             /* look at every frame */
    bool timed;             /* they have stamps, take the time */
    uint64_t warmup_ns;
    uint64_t measure_ns;
    int cores[2]; /* the publisher's, the readers' */
    bool json;
    uint64_t rate;             /* messages published a second, each at its time; 0: as fast as it goes */
    enum wire_framing framing; /* the members' */
    bool silent;               /* they do not introduce themselves */
    pid_t server;              /* the process that sends to the members, whose CPU counts; 0: this one does */
    bool apart;                /* this process publishes to `server`, and its own CPU is told too */
};

/* Of the measured interval, but for the last five, which are of the whole run. What a member that never reads gets is not counted. */
struct crowd_result {
    const char *way;
    struct histogram latency; /* from the stamp to the return of the receive that brought it */
    uint64_t elapsed_ns;
    uint64_t delivery_count; /* messages that arrived */
    uint64_t receive_count;
    uint64_t cpu_ns;     /* of the process that sends to the members */
    uint64_t own_cpu_ns; /* of this process, where that is another */
    double mean_batch;   /* messages in a send; 0: not known */
    uint64_t published_count;
    uint64_t refused_count; /* publications that a reading member missed, as the publisher says */
    uint64_t missing_count; /* published and not arrived */
    uint64_t harmed_count;  /* frames that are not one, or not what was sent, or not the next */
    uint64_t lost_count;    /* connections that ended before the end */
};

/* A child parser; its input is a struct crowd_plan. Its keys begin at CROWD_KEYS. */
#define CROWD_KEYS 512
extern const struct argp crowd_argp;

/* Fills in the defaults; false, with a sentence on standard error, when there are less than two cores. */
bool crowd_plan_init(struct crowd_plan *plan);

struct crowd;

/* Starts the process; before the caller has threads. NULL, with a sentence on standard error, when that cannot be. */
struct crowd *crowd_start(const struct crowd_plan *plan);

/* All connect to tcp://... and say hello; true when all are connected. The publisher has to listen. */
bool crowd_connect(struct crowd *crowd, const char *address);

void crowd_warm_up(struct crowd *crowd);
/* Sleeps for the measured interval. */
void crowd_measure(struct crowd *crowd, struct crowd_result *result);

/* Messages that have arrived so far. (A NATS server's asides count for a few that have not: see wire.h.) */
uint64_t crowd_arrived(const struct crowd *crowd);
/* Waits until so many have arrived and no more come, or until nothing has come for seconds. */
void crowd_settle(struct crowd *crowd, uint64_t count);

/* From now on connections may end; to be told before they do. */
void crowd_expect_end(struct crowd *crowd);
/* Waits until all that read have read to the end, and fills in what is known then; result->published_count is the caller's (or
 * CROWD_PUBLISHED_UNKNOWN). */
void crowd_stop(struct crowd **crowd, struct crowd_result *result);

void crowd_print(const struct crowd_plan *plan, const struct crowd_result *result);

/* 0 when every message that was published arrived as it was and in order at each member that reads, else 1 and a sentence on standard error. */
int crowd_judge(const struct crowd_result *result);
