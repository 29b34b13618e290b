/* SPDX-License-Identifier: MIT */
/* test_operations: each operation of the engine fails once, with each errno of its manual. */
#include "scenarios.h"

START_TEST(opening)
{
    failure_play_all(&scenario_opening, FAILURE_OPERATIONS, 150);
}
END_TEST

START_TEST(echo)
{
    failure_play_all(&scenario_echo, FAILURE_OPERATIONS, 300);
}
END_TEST

START_TEST(dial)
{
    failure_play_all(&scenario_dial, FAILURE_OPERATIONS, 200);
}
END_TEST

START_TEST(listening)
{
    failure_play_all(&scenario_listening, FAILURE_OPERATIONS, 340);
}
END_TEST

START_TEST(drain)
{
    failure_play_all(&scenario_drain, FAILURE_OPERATIONS, 200);
}
END_TEST

START_TEST(timers)
{
    failure_play_all(&scenario_timers, FAILURE_OPERATIONS, 4);
}
END_TEST

START_TEST(threads)
{
    failure_play_all(&scenario_threads, FAILURE_OPERATIONS, 150);
}
END_TEST

START_TEST(crossing)
{
    failure_play_all(&scenario_crossing, FAILURE_OPERATIONS, 210);
}
END_TEST

START_TEST(channel)
{
    failure_play_all(&scenario_channel, FAILURE_OPERATIONS, 150);
}
END_TEST

START_TEST(group)
{
    failure_play_all(&scenario_group, FAILURE_OPERATIONS, 150);
}
END_TEST

START_TEST(pipe_near)
{
    failure_play_all(&scenario_pipe_near, FAILURE_OPERATIONS, 210);
}
END_TEST

START_TEST(pipe_far)
{
    failure_play_all(&scenario_pipe_far, FAILURE_OPERATIONS, 210);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {opening, echo, dial, listening, drain, timers, threads, crossing, channel, group, pipe_near, pipe_far};
    return scenarios_main("operations", tests, sizeof tests / sizeof *tests);
}
