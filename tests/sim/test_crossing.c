/* SPDX-License-Identifier: MIT */
/* test_crossing: everything that crosses threads, on the simulated kernel, by seeds. Fails with the seed and the command that replays it, and fails when something
 * that it is there for was never met in the whole run.
 *
 *   WEIR_SIM_SEEDS=n   so many seeds        WEIR_SIM_FIRST=n   the first of them instead of 1
 *   WEIR_SIM_SEED=n    this one alone, with a trace on standard error */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/cross.h"
#include "tests/sim/cross_pair.h"

#if defined(__SANITIZE_THREAD__)
#define SEEDS 100
#elif defined(__SANITIZE_ADDRESS__)
#define SEEDS 400
#else
#define SEEDS 2000
#endif
/* Pairs of runs. */
#if defined(__SANITIZE_THREAD__)
#define PAIRS 3
#else
#define PAIRS 20
#endif
/* In so many seeds each fault, and everything that crosses, must have happened. */
#define SEEDS_FOR_ALL 400

static char replay[1024];

/* The program stops in the middle of a seed: an assert, or worse. */
static void on_crash(int number)
{
    if (write(STDERR_FILENO, replay, strlen(replay)) < 0)
        _exit(1);
    signal(number, SIG_DFL);
    raise(number);
}

static uint64_t number_of(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static uint64_t one_seed(uint64_t seed, bool trace, struct cross_totals *totals)
{
    snprintf(replay, sizeof replay, "to replay: WEIR_SIM_SEED=%" PRIu64 " %s\n", seed, program_invocation_name);
    return cross_run_seed(seed, trace, totals);
}

static void tell(const struct cross_totals *totals)
{
    const weir_stats *stats = &totals->stats;
    for (int i = 0; i < CROSS_FEATS; i++)
        printf("%-22s %10" PRIu64 "\n", cross_feat_name((enum cross_feat)i), totals->feats[i]);
    for (int i = 1; i < WEIR_REASON_COUNT; i++)
        printf("ended: %-15s %10" PRIu64 "\n", weir_reason_name((weir_reason)i), stats->closed[i]);
    printf("messages in %" PRIu64 ", out %" PRIu64 ", crossed %" PRIu64 ", orphaned %" PRIu64 ", to groups %" PRIu64 ", refusals %" PRIu64
           ", turns %" PRIu64 ", virtual seconds %" PRIu64 "\n",
           stats->messages_in, stats->messages_out, stats->messages_crossed, stats->messages_orphaned, stats->group_messages,
           stats->refusals, totals->turns, totals->virtual_ns / WEIR_SECOND);
}

START_TEST(crossing_by_seeds)
{
    static struct cross_totals totals;
    uint64_t first = number_of("WEIR_SIM_FIRST", 1), count = number_of("WEIR_SIM_SEEDS", SEEDS);
    for (uint64_t seed = first; seed < first + count; seed++)
        one_seed(seed, false, &totals);
    tell(&totals);
    for (int i = 0; i < CROSS_FEATS; i++)
        ck_assert_msg(count < SEEDS_FOR_ALL || totals.feats[i] > 0, "it never happened: %s", cross_feat_name((enum cross_feat)i));
}
END_TEST

/* What the seed decides, it decides always. */
START_TEST(replay_is_exact)
{
    static struct cross_totals totals;
    for (uint64_t seed = 1; seed <= 20; seed++)
        ck_assert_uint_eq(one_seed(seed, false, &totals), one_seed(seed, false, &totals));
}
END_TEST

/* A member that reads nothing, and a thread that stops in the middle, change nothing for the others: not by a nanosecond, in nothing that happens. */
START_TEST(the_dead_cost_nothing)
{
    static struct cross_pair_result without, with;
    for (uint64_t seed = 1; seed <= PAIRS; seed++) {
        cross_pair_run(seed, CROSS_PAIR_WITHOUT, &without);
        cross_pair_run(seed, CROSS_PAIR_DEAD, &with);
        ck_assert_msg(without.count > 100 && with.missed > without.missed && with.refused > 100,
                      "seed %" PRIu64 ": %u deliveries, it missed %" PRIu64 " and %" PRIu64 ", %" PRIu64 " sends refused", seed,
                      without.count, without.missed, with.missed, with.refused);
        for (uint32_t i = 0; i < without.count && i < with.count; i++)
            ck_assert_msg(memcmp(&without.deliveries[i], &with.deliveries[i], sizeof without.deliveries[i]) == 0,
                          "seed %" PRIu64 ": message %u came to client %u at %" PRIu64
                          " ns; with the dead one, message %u to client %u at %" PRIu64 " ns",
                          seed, without.deliveries[i].order, without.deliveries[i].client, without.deliveries[i].came_ns,
                          with.deliveries[i].order, with.deliveries[i].client, with.deliveries[i].came_ns);
        ck_assert_msg(without.count == with.count && without.hash == with.hash,
                      "seed %" PRIu64 ": something else happened with the dead one", seed);
    }
}
END_TEST

static double mean_ns(const struct cross_pair_result *result)
{
    double sum = 0;
    for (uint32_t i = 0; i < result->count; i++)
        sum += (double)(result->deliveries[i].came_ns - result->deliveries[i].sent_ns);
    return sum / result->count;
}

/* A slow one makes the shards turn more often, and chance draws otherwise: so the mean over many runs is compared. */
START_TEST(the_slow_cost_little)
{
    static struct cross_pair_result result;
    double alone_ns = 0, slow_ns = 0;
    for (uint64_t seed = 1; seed <= PAIRS; seed++) {
        cross_pair_run(seed, CROSS_PAIR_ALONE, &result);
        alone_ns += mean_ns(&result) / PAIRS;
        cross_pair_run(seed, CROSS_PAIR_SLOW, &result);
        slow_ns += mean_ns(&result) / PAIRS;
        ck_assert_msg(result.missed > 0, "seed %" PRIu64 ": the slow one missed nothing", seed);
    }
    printf("a message is under way for %.0f ns, and beside a slow member for %.0f ns\n", alone_ns, slow_ns);
    ck_assert_msg(slow_ns < alone_ns * 1.1, "%.0f ns alone, %.0f ns beside a slow member", alone_ns, slow_ns);
}
END_TEST

START_TEST(one_seed_again)
{
    static struct cross_totals totals;
    one_seed(number_of("WEIR_SIM_SEED", 1), true, &totals);
}
END_TEST

static void setup(void)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        signal(numbers[i], on_crash);
}

static void add_case(Suite *suite, const char *name, const TTest *test)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 220);
    tcase_add_test(tcase, test);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    Suite *suite = suite_create("sim");
    if (getenv("WEIR_SIM_SEED") != NULL) {
        add_case(suite, "seed", one_seed_again);
    } else {
        add_case(suite, "replay", replay_is_exact);
        add_case(suite, "dead", the_dead_cost_nothing);
        add_case(suite, "slow", the_slow_cost_little);
        add_case(suite, "crossing", crossing_by_seeds);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
