/* SPDX-License-Identifier: MIT */
/* hunt_report: what came of it, for people or for machines. */
#include <inttypes.h>
#include <string.h>

#include "tests/sim/hunt.h"

/* Ends that no run can come to: nobody is asked to end one so, or it stands for "not ended". */
static bool must_happen(weir_reason reason)
{
    return reason != WEIR_REASON_NONE;
}

void hunt_tell_failure(const struct hunt_options *options, const struct hunt_failure *failure)
{
    if (options->json)
        return;
    printf("FAILED: seed %" PRIu64 " (%s): %s\n%s\n  %s %" PRIu64 "\n", failure->seed, scenarios[scenario_of(failure->seed)].name,
           failure->sentence, failure->said, options->command, failure->seed);
    fflush(stdout);
}

/* --- what never happened --- */

static uint64_t fired(const struct hunt_result *result, int fault)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < SCENARIO_COUNT; i++)
        sum += result->totals[i].fired[fault];
    return sum;
}

static uint64_t ended(const struct hunt_result *result, int reason)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < SCENARIO_COUNT; i++)
        sum += result->totals[i].stats.closed[reason];
    return sum;
}

static uint32_t never(const struct hunt_options *options, const char *kind, const char *name)
{
    if (!options->json)
        printf("NEVER: %s: %s\n", kind, name);
    return 1;
}

/* What a run of one scenario meets is known by its own features only: the others' faults are not asked for. */
static uint32_t count_missing(const struct hunt_options *options, const struct hunt_result *result)
{
    uint32_t missing = 0;
    if (result->failure_count > 0 || result->interrupted)
        return 0;
    if (options->scenario < 0 && result->seeds >= HUNT_ENOUGH) {
        for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++)
            if (fired(result, i) == 0)
                missing += never(options, "fault", weir_sim_fault_name((enum weir_sim_fault)i));
        for (int i = 0; i < WEIR_REASON_COUNT; i++)
            if (must_happen((weir_reason)i) && ended(result, i) == 0)
                missing += never(options, "end", weir_reason_name((weir_reason)i));
    }
    for (uint32_t i = 0; i < SCENARIO_COUNT; i++)
        for (uint32_t k = 0; k < scenarios[i].feats && result->totals[i].seeds >= HUNT_ENOUGH * scenarios[i].share / SCENARIO_SHARES; k++)
            if (result->totals[i].feats[k] == 0)
                missing += never(options, scenarios[i].name, scenarios[i].feat_name(k));
    return missing;
}

/* --- for people --- */

static void tell_text(const struct hunt_options *options, const struct hunt_result *result)
{
    uint64_t turns = 0, virtual_ns = 0, messages = 0;
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++)
        printf("%-10s %-24s %12" PRIu64 "\n", "fault", weir_sim_fault_name((enum weir_sim_fault)i), fired(result, i));
    for (int i = 1; i < WEIR_REASON_COUNT; i++)
        printf("%-10s %-24s %12" PRIu64 "\n", "end", weir_reason_name((weir_reason)i), ended(result, i));
    for (uint32_t i = 0; i < SCENARIO_COUNT; i++) {
        const struct scenario_totals *totals = &result->totals[i];
        for (uint32_t k = 0; k < scenarios[i].feats && totals->seeds > 0; k++)
            printf("%-10s %-24s %12" PRIu64 "\n", scenarios[i].name, scenarios[i].feat_name(k), totals->feats[k]);
        printf("%-10s %-24s %12" PRIu64 "\n", scenarios[i].name, "seeds", totals->seeds);
        turns += totals->turns;
        virtual_ns += totals->virtual_ns;
        messages += totals->stats.messages_in;
    }
    printf("%" PRIu64 " seeds", result->seeds);
    if (options->known_count > 0)
        printf(", %" PRIu32 " of them known,", options->known_count);
    printf(" from %" PRIu64 ", in %.1f s, %.2f ms of a core each; %" PRIu64 " turns, %" PRIu64 " messages, %" PRIu64
           " virtual seconds; %" PRIu32 " failed\n",
           options->first, result->seconds, result->seeds > 0 ? result->core_seconds * 1e3 / (double)result->seeds : 0.0, turns, messages,
           virtual_ns / WEIR_SECOND, result->failure_count);
}

/* --- for machines --- */

static void tell_string(const char *text)
{
    putchar('"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        if ((unsigned char)*text < ' ')
            printf("\\u%04x", (unsigned)*text);
        else
            putchar(*text);
    }
    putchar('"');
}

static void tell_number(const char **between, const char *name, uint64_t number)
{
    fputs(*between, stdout);
    tell_string(name);
    printf(":%" PRIu64, number);
    *between = ",";
}

static void tell_failures(const struct hunt_options *options, const struct hunt_result *result)
{
    for (uint32_t i = 0; i < result->failure_count; i++) {
        const struct hunt_failure *failure = &result->failures[i];
        printf("%s{\"seed\":%" PRIu64 ",\"scenario\":\"%s\",\"sentence\":", i == 0 ? "" : ",", failure->seed,
               scenarios[scenario_of(failure->seed)].name);
        tell_string(failure->sentence);
        printf(",\"command\":");
        char command[4200];
        snprintf(command, sizeof command, "%s %" PRIu64, options->command, failure->seed);
        tell_string(command);
        printf(",\"said\":");
        tell_string(failure->said);
        printf("}");
    }
}

static void tell_json(const struct hunt_options *options, const struct hunt_result *result, uint32_t missing)
{
    const char *between = "";
    printf("{\"first\":%" PRIu64 ",\"seeds\":%" PRIu64 ",\"known\":%" PRIu32 ",\"seconds\":%.3f,\"core_ms_each\":%.3f,\"missing\":%" PRIu32
           ",\"failures\":[",
           options->first, result->seeds, options->known_count, result->seconds,
           result->seeds > 0 ? result->core_seconds * 1e3 / (double)result->seeds : 0.0, missing);
    tell_failures(options, result);
    printf("],\"faults\":{");
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++)
        tell_number(&between, weir_sim_fault_name((enum weir_sim_fault)i), fired(result, i));
    printf("},\"ends\":{");
    between = "";
    for (int i = 1; i < WEIR_REASON_COUNT; i++)
        tell_number(&between, weir_reason_name((weir_reason)i), ended(result, i));
    printf("},\"scenarios\":{");
    for (uint32_t i = 0; i < SCENARIO_COUNT; i++) {
        printf("%s\"%s\":{", i == 0 ? "" : ",", scenarios[i].name);
        between = "";
        tell_number(&between, "seeds", result->totals[i].seeds);
        for (uint32_t k = 0; k < scenarios[i].feats; k++)
            tell_number(&between, scenarios[i].feat_name(k), result->totals[i].feats[k]);
        printf("}");
    }
    printf("}}\n");
}

uint32_t hunt_report(const struct hunt_options *options, const struct hunt_result *result)
{
    if (!options->json)
        tell_text(options, result);
    uint32_t missing = count_missing(options, result);
    if (options->json)
        tell_json(options, result, missing);
    return missing;
}
