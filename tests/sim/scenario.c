/* SPDX-License-Identifier: MIT */
/* scenario: the table, and what all of them share. */
#include "tests/sim/scenario.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/cross.h"
#include "tests/sim/run.h"

const struct scenario scenarios[SCENARIO_COUNT] = {
    {"echo", 5, RUN_FEATS, run_feat_name, run_seed},
    {"crossing", 3, CROSS_FEATS, cross_feat_name, cross_run_seed},
};

_Static_assert(RUN_FEATS <= SCENARIO_FEATS_MAX && CROSS_FEATS <= SCENARIO_FEATS_MAX, "there is room for all that is counted");

/* By the middle bits of a product: so that neighbours differ, and nothing that the run draws from the same seed goes with it. */
uint32_t scenario_of(uint64_t seed)
{
    uint64_t mixed = (seed ^ UINT64_C(0x7765697273696d21)) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t drawn = (uint32_t)((mixed ^ mixed >> 32) >> 20) % SCENARIO_SHARES, place = 0;
    while (drawn >= scenarios[place].share)
        drawn -= scenarios[place++].share;
    return place;
}

uint64_t scenario_run(uint64_t seed, FILE *trace, struct scenario_totals totals[SCENARIO_COUNT])
{
    uint32_t place = scenario_of(seed);
    uint64_t hash = scenarios[place].run(seed, trace, &totals[place]);
    totals[place].seeds++;
    return hash;
}

static const char *replay_command = "weir-sim";
static char *failure;
static size_t failure_bytes;

void scenario_init(const char *command, char *sentence, size_t sentence_bytes)
{
    replay_command = command;
    failure = sentence;
    failure_bytes = sentence_bytes;
}

_Noreturn void scenario_fail(uint64_t seed, uint64_t now_ns, const char *sentence)
{
    fprintf(stderr, "seed %" PRIu64 " (%s), at %" PRIu64 " ns: %s\n", seed, scenarios[scenario_of(seed)].name, now_ns, sentence);
    fprintf(stderr, "to replay: %s %" PRIu64 "\n", replay_command, seed);
    if (failure != NULL)
        snprintf(failure, failure_bytes, "%s", sentence);
    fflush(NULL);
    _exit(1);
}

void scenario_add(struct scenario_totals *totals, const struct weir_sim_world *world, const weir_stats *stats)
{
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++)
        totals->fired[i] += weir_sim_fired(world, (enum weir_sim_fault)i);
    uint64_t numbers[sizeof *stats / sizeof(uint64_t)], sums[sizeof *stats / sizeof(uint64_t)];
    memcpy(numbers, stats, sizeof numbers);
    memcpy(sums, &totals->stats, sizeof sums);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sums[i] += numbers[i];
    memcpy(&totals->stats, sums, sizeof sums);
    totals->virtual_ns += weir_sim_now_ns(world);
}

void scenario_tell_faults(FILE *file, const struct weir_sim_faults *faults)
{
    const char *between = "faults of a million:";
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++) {
        if (faults->chance_ppm[i] == 0)
            continue;
        fprintf(file, "%s %s %" PRIu32, between, weir_sim_fault_name((enum weir_sim_fault)i), faults->chance_ppm[i]);
        between = ",";
    }
    if (*between != ',')
        fputs("no faults", file);
}
