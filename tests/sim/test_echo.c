/* SPDX-License-Identifier: MIT */
/* test_echo: weir's echo on the simulated kernel, by seeds. Fails with the seed and the command that replays it, and fails when a class of
 * faults was never met in the whole run.
 *
 *   WEIR_SIM_SEEDS=n   so many seeds instead of 2,000       WEIR_SIM_FIRST=n   the first of them instead of 1
 *   WEIR_SIM_SEED=n    this one alone, with a trace on standard error */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEEDS 400
#else
#define SEEDS 2000
#endif

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

static void one_seed(uint64_t seed, bool trace, uint64_t fired[WEIR_SIM_FAULT_COUNT])
{
    snprintf(replay, sizeof replay, "to replay: WEIR_SIM_SEED=%" PRIu64 " %s\n", seed, program_invocation_name);
    run_seed(seed, trace, fired);
}

START_TEST(echo_by_seeds)
{
    uint64_t fired[WEIR_SIM_FAULT_COUNT] = {0};
    uint64_t first = number_of("WEIR_SIM_FIRST", 1), count = number_of("WEIR_SIM_SEEDS", SEEDS);
    for (uint64_t seed = first; seed < first + count; seed++)
        one_seed(seed, false, fired);
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++) {
        printf("%-18s %" PRIu64 "\n", weir_sim_fault_name((enum weir_sim_fault)i), fired[i]);
        ck_assert_msg(count < SEEDS || fired[i] > 0, "the fault %s never happened", weir_sim_fault_name((enum weir_sim_fault)i));
    }
}
END_TEST

START_TEST(one_seed_again)
{
    uint64_t fired[WEIR_SIM_FAULT_COUNT] = {0};
    one_seed(number_of("WEIR_SIM_SEED", 1), true, fired);
}
END_TEST

static void setup(void)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        signal(numbers[i], on_crash);
}

int main(void)
{
    Suite *suite = suite_create("sim");
    TCase *tcase = tcase_create("echo");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 220);
    tcase_add_test(tcase, getenv("WEIR_SIM_SEED") != NULL ? one_seed_again : echo_by_seeds);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
