/* SPDX-License-Identifier: MIT */
/* scenario: what can be simulated. One space of seeds: the 64 bits decide the scenario, too, and everything in it.
 *
 *   echo       run.h: a service that answers; clients, dials and adopted sockets of every manner
 *   crossing   cross.h: everything that crosses threads: ports, own channels, groups, pipes
 *
 * A run checks itself. A check that fails says its sentence, the seed and the command that replays it, and ends the process. */
#ifndef TESTS_SIM_SCENARIO_H
#define TESTS_SIM_SCENARIO_H

#include <stdio.h>

#include <weir/weir.h>

#include "runtime/io/sim.h"

#define SCENARIO_COUNT     2
#define SCENARIO_FEATS_MAX 64

/* What the runs of one scenario have met, all together. */
struct scenario_totals {
    uint64_t seeds;
    uint64_t fired[WEIR_SIM_FAULT_COUNT];
    uint64_t feats[SCENARIO_FEATS_MAX];
    weir_stats stats; /* (the peaks and the present numbers mean nothing) */
    uint64_t turns, virtual_ns;
};

struct scenario {
    const char *name;
    uint32_t share; /* of SCENARIO_SHARES seeds */
    uint32_t feats;
    const char *(*feat_name)(uint32_t feat);
    /* A whole run; trace NULL: silence. Answers a hash over all that happened. */
    uint64_t (*run)(uint64_t seed, FILE *trace, struct scenario_totals *totals);
};
#define SCENARIO_SHARES 8

extern const struct scenario scenarios[SCENARIO_COUNT];

/* The place in `scenarios` of a seed's. */
uint32_t scenario_of(uint64_t seed);
uint64_t scenario_run(uint64_t seed, FILE *trace, struct scenario_totals totals[SCENARIO_COUNT]);

/* How a seed is replayed: the command before its number; and where a failure's sentence is left besides standard error (NULL: nowhere). */
void scenario_init(const char *command, char *sentence, size_t sentence_bytes);
_Noreturn void scenario_fail(uint64_t seed, uint64_t now_ns, const char *sentence);

/* What every run adds: faults of its world, statistics of its runtime. */
void scenario_add(struct scenario_totals *totals, const struct weir_sim_world *world, const weir_stats *stats);
/* Faults, for people: one line without an end. */
void scenario_tell_faults(FILE *file, const struct weir_sim_faults *faults);

#endif
