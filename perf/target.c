/* SPDX-License-Identifier: MIT */
/* target: see target.h. */
#include "target.h"

#include "option.h"
#include "process.h"

#include <sched.h>
#include <stdio.h>

enum {
    TARGET_CONNECT = TARGET_KEYS,
    TARGET_SERVER_PID,
    TARGET_CPU,
    TARGET_JSON,
};

static const struct argp_option target_options[] = {
    {"connect", TARGET_CONNECT, "ADDRESS", 0, "the server: tcp://host:port, tcp://[v6]:port, unix:///path or unix://@name", 1},
    {"server-pid", TARGET_SERVER_PID, "PID", 0, "its process (on this machine), to read what it uses", 1},
    {"cpu", TARGET_CPU, "N", 0, "run the load side on this core only", 3},
    {"json", TARGET_JSON, NULL, 0, "print one line of JSON instead of a table", 4},
    {0},
};

static void target_pin(const struct argp_state *state, const char *text)
{
    cpu_set_t cores;
    uint64_t core = option_count(state, "--cpu", text, 0, CPU_SETSIZE - 1);
    CPU_ZERO(&cores);
    CPU_SET((int)core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) != 0)
        argp_error(state, "--cpu wants a core that this process may use, not '%s'", text);
}

static error_t target_parse(int key, char *text, struct argp_state *state)
{
    struct target *target = state->input;
    struct process_sample sample;
    const char *problem;
    switch (key) {
    case TARGET_CONNECT:
        problem = address_parse(&target->address, text);
        if (problem != NULL)
            argp_error(state, "--connect '%s' %s", text, problem);
        target->addressed = true;
        return 0;
    case TARGET_SERVER_PID:
        target->server = (pid_t)option_count(state, "--server-pid", text, 1, INT32_MAX);
        if (!process_sample(target->server, &sample))
            argp_error(state, "--server-pid wants a process that runs, and there is none with the number %s", text);
        return 0;
    case TARGET_CPU:
        target_pin(state, text);
        return 0;
    case TARGET_JSON:
        target->json = true;
        return 0;
    case ARGP_KEY_END:
        if (!target->addressed)
            argp_error(state, "--connect is missing: the server's address, like tcp://127.0.0.1:7000");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp target_argp = {.options = target_options, .parser = target_parse};
