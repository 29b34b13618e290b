/* SPDX-License-Identifier: MIT */
/* test_calls: each system call of the library fails once, with each errno of its manual: where one shard is by itself. */
#include "scenarios.h"

START_TEST(opening)
{
    failure_play_all(&scenario_opening, FAILURE_CALLS, 450);
}
END_TEST

START_TEST(echo)
{
    failure_play_all(&scenario_echo, FAILURE_CALLS, 200);
}
END_TEST

START_TEST(dial)
{
    failure_play_all(&scenario_dial, FAILURE_CALLS, 250);
}
END_TEST

START_TEST(listening)
{
    failure_play_all(&scenario_listening, FAILURE_CALLS, 450);
}
END_TEST

START_TEST(drain)
{
    failure_play_all(&scenario_drain, FAILURE_CALLS, 230);
}
END_TEST

START_TEST(timers)
{
    failure_play_all(&scenario_timers, FAILURE_CALLS, 50);
}
END_TEST

START_TEST(threads)
{
    failure_play_all(&scenario_threads, FAILURE_CALLS, 180);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {opening, echo, dial, listening, drain, timers, threads};
    return scenarios_main("calls", tests, sizeof tests / sizeof *tests);
}
