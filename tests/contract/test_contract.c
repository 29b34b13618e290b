/* SPDX-License-Identifier: MIT */
/* test_contract: the contract of runtime/io/io.h, one test for every engine: the product on the real kernel, the simulated kernel on good days,
 * and the simulated kernel on rough ones, which shows that the test itself expects no more than the contract promises. */
#include <stdlib.h>

#include "tests/contract/cases.h"

const struct outside *cases_outside;

void cases_pair_open(struct cases_pair *pair, uint64_t seed, uint32_t buffers, uint32_t buffer_bytes)
{
    rig_open(&pair->rig, cases_outside, seed, buffers, buffer_bytes, false);
    pair->listening = rig_listen(&pair->rig, &pair->address);
    pair->handle = rig_accept_one(&pair->rig, pair->listening, &pair->address, &pair->peer);
}

void cases_pair_close(struct cases_pair *pair)
{
    if (pair->handle >= 0)
        rig_close_handle(&pair->rig, pair->handle);
    if (pair->peer != NULL)
        pair->rig.outside->finish(&pair->peer);
    rig_close_handle(&pair->rig, pair->listening);
    rig_close(&pair->rig);
}

static void for_real(void)
{
    cases_outside = &outside_real;
}

static void for_sim(void)
{
    cases_outside = &outside_sim;
}

static void for_rough_sim(void)
{
    cases_outside = &outside_rough_sim;
}

static TCase *cases_of(const struct outside *outside, void (*setup)(void))
{
    TCase *tcase = tcase_create(outside->name);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    int seeds = outside->real ? 2 : 5;
#else
    int seeds = outside->real ? 2 : 20;
#endif
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 60);
    cases_stream_add(tcase, seeds);
    cases_socket_add(tcase, seeds);
    cases_time_add(tcase, seeds);
    return tcase;
}

int main(void)
{
    Suite *suite = suite_create("contract");
    suite_add_tcase(suite, cases_of(&outside_real, for_real));
    suite_add_tcase(suite, cases_of(&outside_sim, for_sim));
    suite_add_tcase(suite, cases_of(&outside_rough_sim, for_rough_sim));
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
