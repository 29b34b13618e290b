/* SPDX-License-Identifier: MIT */
/* test_calls_across: each system call of the library fails once, with each errno of its manual: where shards and threads talk to each
 * other. */
#include "scenarios.h"

START_TEST(crossing)
{
    failure_play_all(&scenario_crossing, FAILURE_CALLS, 270);
}
END_TEST

START_TEST(channel)
{
    failure_play_all(&scenario_channel, FAILURE_CALLS, 200);
}
END_TEST

START_TEST(group)
{
    failure_play_all(&scenario_group, FAILURE_CALLS, 200);
}
END_TEST

START_TEST(pipe_near)
{
    failure_play_all(&scenario_pipe_near, FAILURE_CALLS, 160);
}
END_TEST

START_TEST(pipe_far)
{
    failure_play_all(&scenario_pipe_far, FAILURE_CALLS, 220);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {crossing, channel, group, pipe_near, pipe_far};
    return scenarios_main("calls_across", tests, sizeof tests / sizeof *tests);
}
