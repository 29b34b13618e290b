/* SPDX-License-Identifier: MIT */
/* scenarios: short stories, each some milliseconds long, in which weir does everything that can fail. */
#ifndef TEST_SCENARIOS_H
#define TEST_SCENARIOS_H

#include "world.h"

/* What the echo does with a message; its first byte. */
#define SAY_SEND    'e' /* weir_send */
#define SAY_FORWARD 'f' /* weir_forward */
#define SAY_HOLD    'h' /* weir_hold, weir_send_blob */
#define SAY_LATER   'l' /* WEIR_LATER; a timer resumes, then weir_send */
#define SAY_CONTROL 'c' /* weir_send_control */
#define SAY_RESERVE 'r' /* weir_reserve, weir_commit */
#define SAY_NOTHING 'n' /* taken */
#define SAY_END     'x' /* weir_send, weir_end */
#define SAY_ACROSS  'a' /* weir_send_to the next seat */
#define SAY_FLOOD   'q' /* 40 messages of 1000 bytes */

struct scenario {
    const char *name;
    uint32_t shards;
    uint32_t victims; /* connections that one failure may cost */
    bool from_open;   /* opening is failed too; else it is armed once the runtime is open */
    void (*prepare)(struct world *world);
    void (*play)(struct world *world);
    void (*finish)(struct world *world); /* once it is closed */
};

extern const struct scenario scenario_opening, scenario_echo, scenario_dial, scenario_listening, scenario_drain, scenario_timers,
    scenario_threads;
extern const struct scenario scenario_crossing, scenario_channel, scenario_group, scenario_pipe_near, scenario_pipe_far;

/* Runs one test a scenario; what main() returns. */
int scenarios_main(const char *name, const TTest *const *tests, int count);

/* echo.c: the protocol of all of them. */
int echo_message(weir_conn *conn, const weir_message *message);

#endif
