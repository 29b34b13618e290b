/* SPDX-License-Identifier: MIT */
/* crowd: the members of the fan-out measurement: connections that receive, in a process of their own, so that the CPU time of the publishing process
 * is that of publishing alone. They say hello with a frame of one byte and then only read: the bytes are thrown away as they come (the
 * kernel does, nothing is copied) and counted, or every frame is looked at: whole, unharmed, and each the next of those before. Some never
 * read at all. What is published is a message of perf/message.h, numbered from 0.
 *
 *     crowd_start(plan) → crowd_connect(where the publisher listens) → publish → crowd_warm_up → crowd_measure → stop publishing → crowd_stop
 *
 * The process that reads never sleeps, so that nobody pays for waking it. */
#pragma once

#include "histogram.h"

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#define CROWD_BYTES_MOST 65536u
#define CROWD_BATCH_MOST 1024u

/* The byte of a hello. */
#define CROWD_READS 'r'
#define CROWD_SLOW  's'

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
};

/* Of the measured interval, but for the last five, which are of the whole run. What a member that never reads gets is not counted. */
struct crowd_result {
    const char *way;
    struct histogram latency; /* from the stamp to the return of the receive that brought it */
    uint64_t elapsed_ns;
    uint64_t delivery_count; /* messages that arrived */
    uint64_t receive_count;
    uint64_t cpu_ns;   /* of the publishing process */
    double mean_batch; /* messages in a send; 0: not known */
    uint64_t rate;
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

/* From now on connections may end; to be told before they do. */
void crowd_expect_end(struct crowd *crowd);
/* Waits until all that read have read to the end, and fills in what is known then; result->published_count is the caller's. */
void crowd_stop(struct crowd **crowd, struct crowd_result *result);

void crowd_print(const struct crowd_plan *plan, const struct crowd_result *result);

/* 0 when every message that was published arrived as it was and in order at each member that reads, else 1 and a sentence on standard error. */
int crowd_judge(const struct crowd_result *result);
