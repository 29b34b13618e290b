/* SPDX-License-Identifier: MIT */
/* failure: which point fails, and going through all of them. */
#include "failure.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenarios.h"

struct failure failure;

/* So many points of a kind are failed with each errno; those behind with every seventh, in turn. All with each when WEIR_LONG is set. */
#define EACH_ERROR 4u
#define STRIDE     7u
/* And no further than this: what comes later in a scenario is more of the same (entering the ring, mostly). */
#define POINTS_MAX 120u

int failure_now(enum failure_kind kind)
{
    if (!atomic_load_explicit(&failure.armed, memory_order_relaxed))
        return 0;
    uint64_t count = atomic_fetch_add_explicit(&failure.counts[kind], 1, memory_order_relaxed) + 1;
    const struct failure_plan *plan = &failure.plan;
    if (kind != plan->kind || count < plan->from || count > plan->to)
        return 0;
    atomic_fetch_add_explicit(&failure.fired, 1, memory_order_relaxed);
    return plan->error;
}

static bool lists(const int *errors, int error)
{
    while (*errors != 0 && *errors != error)
        errors++;
    return *errors != 0;
}

bool failure_plan_is_harmless(const struct failure_plan *plan)
{
    const struct failure_row *row = failure_row(plan->kind);
    return plan->kind == FAILURE_NONE || row->is_harmless || lists(row->harmless, plan->error);
}

bool failure_plan_is_fatal(const struct failure_plan *plan)
{
    const struct failure_row *row = failure_row(plan->kind);
    return row->is_fatal || lists(row->fatal, plan->error);
}

/* getaddrinfo's codes are negative. */
static const char *name_of(int error)
{
    return error < 0 ? gai_strerror(error) : strerrorname_np(error);
}

void failure_plan_set(const struct failure_plan *plan)
{
    const struct failure_row *row = failure_row(plan->kind);
    failure.armed = false;
    failure.plan = *plan;
    failure.fired = 0;
    for (int kind = 0; kind < FAILURE_KINDS; kind++)
        failure.counts[kind] = 0;
    if (plan->kind == FAILURE_NONE)
        snprintf(failure.said, sizeof failure.said, "nothing fails");
    else
        snprintf(failure.said, sizeof failure.said, "%s %llu%s: %s", row->name, (unsigned long long)plan->from,
                 plan->to > plan->from ? " and all behind it" : "", name_of(plan->error));
}

/* True when the plan came true. */
static bool play(const struct scenario *scenario, const struct failure_plan *plan)
{
    static struct world world;
    failure_plan_set(plan);
    world_init(&world, scenario->shards);
    world.scenario = scenario;
    if (scenario->prepare != NULL)
        scenario->prepare(&world);
    if (scenario->from_open)
        failure.armed = true;
    if (world_open(&world)) {
        failure.armed = true;
        scenario->play(&world);
    }
    world_close(&world);
    if (scenario->finish != NULL)
        scenario->finish(&world);
    failure.armed = false;
    return failure.fired > 0;
}

static bool plays_all(void)
{
    return getenv("WEIR_LONG") != NULL;
}

/* All points of a kind, each with each error: how many. */
static uint64_t play_kind(const struct scenario *scenario, enum failure_kind kind, uint64_t *played)
{
    const bool all = plays_all();
    const struct failure_row *row = failure_row(kind);
    uint64_t points = 0;
    uint32_t errors = 0;
    const uint64_t each_error = all ? UINT64_MAX : EACH_ERROR;
    while (row->errors[errors] != 0)
        errors++;
    const uint64_t stride = errors < STRIDE ? errors : STRIDE;
    for (uint64_t nth = 1; nth <= POINTS_MAX; nth++) {
        bool fired = false, tried = false;
        for (uint32_t i = 0; i < errors; i++) {
            if (nth > each_error && i % stride != nth % stride)
                continue;
            if ((*played)++ % FAILURE_EACH != FAILURE_FIRST && !all)
                continue;
            tried = true;
            fired |= play(scenario, &(struct failure_plan){.kind = kind, .from = nth, .to = nth, .error = row->errors[i]});
            points += fired;
            if (!fired)
                break;
        }
        if (tried && !fired)
            break;
    }
    return points;
}

void failure_play_all(const struct scenario *scenario, enum failure_level level, uint64_t least)
{
    uint64_t sum = 0, played = 0;
    uint64_t begin_ns = world_clock_ns();
    play(scenario, &(struct failure_plan){.kind = FAILURE_NONE}); /* warms up: what libc does once only */
    play(scenario, &(struct failure_plan){.kind = FAILURE_NONE});
    for (enum failure_kind kind = FAILURE_NONE + 1; kind < FAILURE_KINDS; kind++) {
        if (failure_row(kind)->level != level)
            continue;
        if (!FAILURE_SANITIZED) /* so that one compiler's build fails what the other's leaves out, however many points those before had */
            played = 0;
        uint64_t kind_ns = world_clock_ns(), points = play_kind(scenario, kind, &played);
        if (points > 0)
            printf("%-12s %-28s %5llu points failed, %6llu ms\n", scenario->name, failure_row(kind)->name, (unsigned long long)points,
                   (unsigned long long)((world_clock_ns() - kind_ns) / WEIR_MILLISECOND));
        sum += points;
    }
    printf("%-12s %-28s %5llu points failed, %6llu ms\n", scenario->name, "in all", (unsigned long long)sum,
           (unsigned long long)((world_clock_ns() - begin_ns) / WEIR_MILLISECOND));
    fflush(stdout);
    if (getenv("WEIR_DISABLE") != NULL) /* without them it makes fewer calls */
        least /= 2;
    if (sum < (FAILURE_SANITIZED ? least / FAILURE_EACH / 2 : least / FAILURE_EACH - least / 20))
        ck_abort_msg("%s: only %llu points were failed, there were %llu", scenario->name, (unsigned long long)sum,
                     (unsigned long long)least);
}

void failure_play_droughts(const struct scenario *scenario)
{
    uint64_t droughts = 0;
    const bool all = plays_all();
    for (uint64_t nth = all ? 1 : 1 + FAILURE_FIRST; nth <= POINTS_MAX; nth += all ? 1 : FAILURE_EACH, droughts++)
        if (!play(scenario, &(struct failure_plan){.kind = FAILURE_ALLOCATION, .from = nth, .to = UINT64_MAX, .error = ENOMEM}))
            break;
    printf("%-12s %-28s %5llu played\n", scenario->name, "droughts", (unsigned long long)droughts);
}

int scenarios_main(const char *name, const TTest *const *tests, int count)
{
    Suite *suite = suite_create(name);
    for (int i = 0; i < count; i++) {
        TCase *cases = tcase_create(tests[i]->name);
        tcase_set_timeout(cases, 200);
        tcase_add_test(cases, tests[i]);
        suite_add_tcase(suite, cases);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
