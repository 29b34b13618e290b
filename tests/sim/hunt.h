/* SPDX-License-Identifier: MIT */
/* hunt: many seeds on all cores: workers are processes, so that a crash is one seed's. What weir-sim does but for a single seed. */
#ifndef TESTS_SIM_HUNT_H
#define TESTS_SIM_HUNT_H

#include "tests/sim/scenario.h"

struct hunt_options {
    const uint64_t *known; /* run first */
    uint32_t known_count;
    uint64_t first, count; /* then these; count UINT64_MAX: until the time is over */
    uint64_t twice;        /* of them, so many are run twice, and have to come to the same hash */
    uint64_t duration_ns;  /* WEIR_FOREVER: until all are done */
    int scenario;          /* only its seeds are run, and count; -1: all */
    uint32_t jobs;
    uint32_t patience_s; /* for one seed, of real time */
    bool keep_going;     /* after a failure */
    bool json;
    const char *command; /* that replays a seed, but for its number */
};

#define HUNT_SENTENCE_BYTES 512
struct hunt_failure {
    uint64_t seed;
    char sentence[HUNT_SENTENCE_BYTES];
    char *said; /* all that it wrote to standard error, or the end of it */
};

struct hunt_result {
    struct scenario_totals totals[SCENARIO_COUNT];
    uint64_t seeds;
    double seconds, core_seconds;
    struct hunt_failure *failures;
    uint32_t failure_count;
    bool interrupted;
};

void hunt_run(const struct hunt_options *options, struct hunt_result *result);
void hunt_free(struct hunt_result *result);

/* --- hunt_report.c --- */

/* In so many seeds everything must have happened: each fault in all scenarios together, each feature in the seeds of its own. */
#define HUNT_ENOUGH 10000

/* A failure, as it comes. */
void hunt_tell_failure(const struct hunt_options *options, const struct hunt_failure *failure);
/* The sums. Answers how many things never happened that had to. */
uint32_t hunt_report(const struct hunt_options *options, const struct hunt_result *result);

#endif
