/* SPDX-License-Identifier: MIT */
/* test_memory: each allocation refused once, and all of them from each one on for a while. */
#include "scenarios.h"

START_TEST(opening)
{
    failure_play_all(&scenario_opening, FAILURE_MEMORY, 25);
    failure_play_droughts(&scenario_opening);
}
END_TEST

START_TEST(echo)
{
    failure_play_all(&scenario_echo, FAILURE_MEMORY, 12);
    failure_play_droughts(&scenario_echo);
}
END_TEST

START_TEST(dial)
{
    failure_play_all(&scenario_dial, FAILURE_MEMORY, 4);
    failure_play_droughts(&scenario_dial);
}
END_TEST

START_TEST(listening)
{
    failure_play_all(&scenario_listening, FAILURE_MEMORY, 4);
    failure_play_droughts(&scenario_listening);
}
END_TEST

START_TEST(drain)
{
    failure_play_all(&scenario_drain, FAILURE_MEMORY, 5);
    failure_play_droughts(&scenario_drain);
}
END_TEST

START_TEST(timers)
{
    failure_play_all(&scenario_timers, FAILURE_MEMORY, 0);
    failure_play_droughts(&scenario_timers);
}
END_TEST

START_TEST(threads)
{
    failure_play_all(&scenario_threads, FAILURE_MEMORY, 15);
    failure_play_droughts(&scenario_threads);
}
END_TEST

START_TEST(crossing)
{
    failure_play_all(&scenario_crossing, FAILURE_MEMORY, 20);
    failure_play_droughts(&scenario_crossing);
}
END_TEST

START_TEST(channel)
{
    failure_play_all(&scenario_channel, FAILURE_MEMORY, 14);
    failure_play_droughts(&scenario_channel);
}
END_TEST

START_TEST(group)
{
    failure_play_all(&scenario_group, FAILURE_MEMORY, 30);
    failure_play_droughts(&scenario_group);
}
END_TEST

START_TEST(pipe_near)
{
    failure_play_all(&scenario_pipe_near, FAILURE_MEMORY, 10);
    failure_play_droughts(&scenario_pipe_near);
}
END_TEST

START_TEST(pipe_far)
{
    failure_play_all(&scenario_pipe_far, FAILURE_MEMORY, 18);
    failure_play_droughts(&scenario_pipe_far);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {opening, echo, dial, listening, drain, timers, threads, crossing, channel, group, pipe_near, pipe_far};
    return scenarios_main("memory", tests, sizeof tests / sizeof *tests);
}
