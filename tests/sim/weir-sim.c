/* SPDX-License-Identifier: MIT */
/* weir-sim: weir on a simulated kernel, by seeds: replays one with all that happens in it, or searches many for one that fails. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/hunt.h"

#define KNOWN_MAX 4096

static struct settings {
    struct hunt_options hunt;
    bool hunts, one, quiet;
    uint64_t seed;
    uint64_t known[KNOWN_MAX];
} settings = {.hunt = {.first = 0, .count = UINT64_MAX, .duration_ns = WEIR_FOREVER, .scenario = -1, .patience_s = 120}};

enum {
    OPTION_HUNT = 256,
    OPTION_SEEDS,
    OPTION_FIRST,
    OPTION_SCENARIO,
    OPTION_KEEP_GOING,
    OPTION_JSON,
    OPTION_KNOWN,
    OPTION_TWICE,
    OPTION_PATIENCE
};

static const struct argp_option options[] = {
    {"hunt", OPTION_HUNT, "TIME", 0, "Search for so long (30s, 10m, 2h), from a seed that the clock chooses unless --first says it", 0},
    {"seeds", OPTION_SEEDS, "N", 0, "Run N seeds, from 1 unless --first says otherwise", 0},
    {"first", OPTION_FIRST, "N", 0, "The first seed", 0},
    {"known", OPTION_KNOWN, "FILE", 0, "Before them, the seeds in this file: one at the beginning of each line, lines with # are remarks",
     0},
    {"twice", OPTION_TWICE, "N", 0, "The first N seeds are run twice, and must come to the same hash", 0},
    {"scenario", OPTION_SCENARIO, "NAME", 0, "Only the seeds of one scenario: echo or crossing", 0},
    {"keep-going", OPTION_KEEP_GOING, NULL, 0, "Go on after a failure", 0},
    {"jobs", 'j', "N", 0, "Workers (default: one for each cpu)", 0},
    {"patience", OPTION_PATIENCE, "SECONDS", 0, "For one seed, of real time (default 120)", 0},
    {"json", OPTION_JSON, NULL, 0, "One line of JSON instead of text", 0},
    {"quiet", 'q', NULL, 0, "Replay without a trace", 0},
    {0}};

static uint64_t number(struct argp_state *state, const char *what, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < least || value > most)
        argp_error(state, "%s wants %" PRIu64 " to %" PRIu64 ", not '%s'", what, least, most, text);
    return value;
}

static uint64_t duration(struct argp_state *state, const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    uint64_t unit = *end == 's' ? WEIR_SECOND : *end == 'm' ? 60 * WEIR_SECOND : *end == 'h' ? 3600 * WEIR_SECOND : 0;
    if (errno != 0 || end == text || unit == 0 || end[1] != '\0' || value == 0 || value > 100000)
        argp_error(state, "--hunt wants a time like 30s, 10m or 2h, not '%s'", text);
    return value * unit;
}

static int scenario_by_name(struct argp_state *state, const char *name)
{
    for (int i = 0; i < SCENARIO_COUNT; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return i;
    argp_error(state, "--scenario wants echo or crossing, not '%s'", name);
    return -1;
}

static void read_known(struct argp_state *state, const char *name)
{
    char line[4096];
    FILE *file = fopen(name, "r");
    if (file == NULL)
        argp_failure(state, 2, errno, "%s", name);
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        char *end;
        unsigned long long seed = strtoull(line, &end, 10);
        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (end == line || settings.hunt.known_count == KNOWN_MAX)
            argp_failure(state, 2, 0, "%s: not a seed, or too many of them: %s", name, line);
        settings.known[settings.hunt.known_count++] = seed;
    }
    if (file != NULL)
        fclose(file);
    settings.hunt.known = settings.known;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct hunt_options *hunt = &settings.hunt;
    switch (key) {
    case OPTION_HUNT:
        hunt->duration_ns = duration(state, text);
        settings.hunts = true;
        return 0;
    case OPTION_SEEDS:
        hunt->count = number(state, "--seeds", text, 0, UINT64_C(1) << 40);
        settings.hunts = true;
        return 0;
    case OPTION_FIRST:
        hunt->first = number(state, "--first", text, 1, UINT64_MAX >> 1);
        return 0;
    case OPTION_KNOWN:
        read_known(state, text);
        settings.hunts = true;
        return 0;
    case OPTION_TWICE:
        hunt->twice = number(state, "--twice", text, 0, UINT64_MAX);
        return 0;
    case OPTION_SCENARIO:
        hunt->scenario = scenario_by_name(state, text);
        return 0;
    case OPTION_KEEP_GOING:
        hunt->keep_going = true;
        return 0;
    case 'j':
        hunt->jobs = (uint32_t)number(state, "--jobs", text, 1, 1024);
        return 0;
    case OPTION_PATIENCE:
        hunt->patience_s = (uint32_t)number(state, "--patience", text, 1, 1000000);
        return 0;
    case OPTION_JSON:
        hunt->json = true;
        return 0;
    case 'q':
        settings.quiet = true;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0)
            argp_error(state, "one seed at a time");
        settings.seed = number(state, "SEED", text, 0, UINT64_MAX);
        settings.one = true;
        return 0;
    case ARGP_KEY_END:
        if (settings.one == settings.hunts)
            argp_error(state, "give a SEED to replay, or --hunt, --seeds or --known to search");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int replay(uint64_t seed)
{
    static struct scenario_totals totals[SCENARIO_COUNT];
    static char room[1 << 16];
    setvbuf(stdout, room, _IOFBF, sizeof room);
    printf("seed %" PRIu64 ": %s\n", seed, scenarios[scenario_of(seed)].name);
    uint64_t hash = scenario_run(seed, settings.quiet ? NULL : stdout, totals);
    printf("seed %" PRIu64 ": all is well; the hash of all that happened is %016" PRIx64 "\n", seed, hash);
    return EXIT_SUCCESS;
}

int main(int count, char **texts)
{
    const struct argp argp = {
        options,
        parse,
        "[SEED]",
        "Runs weir on a simulated kernel: one seed again, with everything that happens in it; or many, in search of one that fails.\v"
        "Exit status: 0 all is well, 1 something failed or never happened, 2 wrong options.",
        NULL,
        NULL,
        NULL};
    struct hunt_options *hunt = &settings.hunt;
    argp_err_exit_status = 2;
    argp_parse(&argp, count, texts, 0, NULL, NULL);
    hunt->command = texts[0];
    scenario_init(hunt->command, NULL, 0);
    if (settings.one)
        return replay(settings.seed);
    if (hunt->jobs == 0) {
        cpu_set_t cpus;
        hunt->jobs = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (uint32_t)CPU_COUNT(&cpus) : 1;
    }
    if (hunt->duration_ns == WEIR_FOREVER && hunt->count == UINT64_MAX)
        hunt->count = 0; /* the known ones alone */
    if (hunt->first == 0)
        hunt->first = hunt->duration_ns == WEIR_FOREVER ? 1 : (uint64_t)time(NULL) * 1000000;
    static struct hunt_result result;
    hunt_run(hunt, &result);
    uint32_t missing = hunt_report(hunt, &result);
    int code = result.failure_count > 0 || missing > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    hunt_free(&result);
    return code;
}
