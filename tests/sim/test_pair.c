/* SPDX-License-Identifier: MIT */
/* test_pair: what the dead and the slow cost the others, by runs that come in pairs (cross_pair.h). */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cross_pair.h"

#if defined(__SANITIZE_THREAD__)
#define PAIRS 3
#else
#define PAIRS 20
#endif

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

int main(void)
{
    Suite *suite = suite_create("pair");
    TCase *tcase = tcase_create("pair");
    tcase_set_timeout(tcase, 220);
    tcase_add_test(tcase, the_dead_cost_nothing);
    tcase_add_test(tcase, the_slow_cost_little);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
