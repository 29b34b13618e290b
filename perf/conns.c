/* SPDX-License-Identifier: MIT */
/* conns: the command `weir-perf conns`: opens connections, leaves them idle, and reads what the server pays for them.
 *
 * Road:    memory with none → dial all → (one echo on each) → wait until the server is quiet → count its context switches
 *          over the idle time → memory with all → look whether all still stand.
 * Ditches: an echo that does not come in 5 s → say on which connection; a server that never gets quiet → after 5 s it is
 *          measured as it is; connections the server closed meanwhile → counted, and the exit code is 1. */
#include "command.h"
#include "dial.h"
#include "option.h"
#include "pattern.h"
#include "process.h"
#include "report.h"
#include "target.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNS_QUIET_STEP_NS 250000000ull
#define CONNS_QUIET_STEPS   20
#define CONNS_QUIET_CPU_NS  1000000ull /* less than this in a step is quiet: 0.4 % of a core */
#define CONNS_ANSWER_MS     5000
#define CONNS_TOUCH_BYTES   64

enum {
    CONNS_CONNECTIONS = 256,
    CONNS_SECONDS,
    CONNS_TOUCH,
    CONNS_FRAMING,
};

static const struct argp_option conns_options[] = {
    {"connections", CONNS_CONNECTIONS, "N", 0, "connections to open (10000)", 2},
    {"seconds", CONNS_SECONDS, "S", 0, "how long they stay idle (10)", 2},
    {"touch", CONNS_TOUCH, NULL, 0, "echo one message on each before", 2},
    {"framing", CONNS_FRAMING, "KIND", 0, "for --touch: frame, line or raw, as the server has it (frame)", 2},
    {0},
};

static const char conns_help[] =
    "Opens connections, leaves them idle, and tells what they cost the server: memory for each and wake-ups.\v"
    "Give --server-pid, else there is nothing to tell but whether they all stood. The memory is the server's resident memory with all "
    "connections less that with none, divided by their number; so start the server afresh for each run (memory that it keeps from "
    "an earlier one would not be seen), in a process of its own. The kernel's own memory for sockets is not in it. A wake-up is a context "
    "switch of one "
    "of the server's threads, voluntary or not.\n\n"
    "The exit code is 0 when all connections stood to the end, 1 when not, 2 when an option is wrong.";

struct conns {
    struct target target;
    uint32_t connections;
    uint64_t idle_ns;
    bool touch;
    enum pattern_framing framing;
    int *sockets;
};

struct conns_result {
    uint64_t rss_none_bytes;
    uint64_t rss_all_bytes;
    uint64_t idle_ns;
    uint64_t wakeups;
    uint64_t idle_cpu_ns;
    uint64_t closed_count;
};

static error_t conns_parse(int key, char *text, struct argp_state *state)
{
    struct conns *conns = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &conns->target;
        return 0;
    case CONNS_CONNECTIONS:
        conns->connections = (uint32_t)option_count(state, "--connections", text, 1, TARGET_CONNECTIONS_MOST);
        return 0;
    case CONNS_SECONDS:
        conns->idle_ns = option_seconds_ns(state, "--seconds", text, 0.01, 86400);
        return 0;
    case CONNS_TOUCH:
        conns->touch = true;
        return 0;
    case CONNS_FRAMING:
        if (!pattern_framing_parse(&conns->framing, text))
            argp_error(state, "--framing wants frame, line or raw, not '%s'", text);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option; the server goes behind --connect", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void conns_sleep(uint64_t sleep_ns)
{
    struct timespec left = {.tv_sec = (time_t)(sleep_ns / 1000000000u), .tv_nsec = (long)(sleep_ns % 1000000000u)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

/* Sends one message and waits for it to come back. Returns 0 or an errno. */
static int conns_touch_one(struct pattern *pattern, int descriptor, uint32_t number)
{
    uint8_t answer[CONNS_TOUCH_BYTES * 2];
    uint32_t had_bytes = 0;
    const uint8_t *message = pattern_make(pattern, number, 1, 1);
    if (send(descriptor, message, pattern->frame_bytes, MSG_NOSIGNAL) != (ssize_t)pattern->frame_bytes)
        return errno;
    while (had_bytes < pattern->frame_bytes) {
        struct pollfd wait = {.fd = descriptor, .events = POLLIN};
        if (poll(&wait, 1, CONNS_ANSWER_MS) == 0)
            return ETIMEDOUT;
        ssize_t count = recv(descriptor, answer + had_bytes, pattern->frame_bytes - had_bytes, 0);
        if (count <= 0)
            return count == 0 ? ECONNRESET : errno;
        had_bytes += (uint32_t)count;
    }
    return pattern_matches(pattern, number, 0, answer, had_bytes, true) ? 0 : EBADMSG;
}

static bool conns_touch(const struct conns *conns)
{
    struct pattern pattern;
    int error = pattern_create(&pattern, conns->framing, CONNS_TOUCH_BYTES, 1) ? 0 : ENOMEM;
    for (uint32_t i = 0; i < conns->connections && error == 0; i++) {
        error = conns_touch_one(&pattern, conns->sockets[i], i);
        if (error != 0)
            fprintf(stderr, "weir-perf: no echo on connection %u of %u: %s\n", i + 1, conns->connections, strerror(error));
    }
    pattern_destroy(&pattern);
    return error == 0;
}

/* Waits until the server has done what the connects left it to do. */
static void conns_wait_for_quiet(pid_t server)
{
    struct process_sample before, after;
    for (int step = 0; step < CONNS_QUIET_STEPS; step++) {
        bool sampled = process_sample(server, &before);
        conns_sleep(CONNS_QUIET_STEP_NS);
        if (!sampled || !process_sample(server, &after) || after.cpu_ns - before.cpu_ns < CONNS_QUIET_CPU_NS)
            return;
    }
}

/* Connections on which there is an end, an error, or anything else where nothing should be. */
static uint64_t conns_count_closed(const struct conns *conns)
{
    uint64_t closed_count = 0;
    for (uint32_t i = 0; i < conns->connections; i++) {
        struct pollfd look = {.fd = conns->sockets[i], .events = POLLIN};
        if (poll(&look, 1, 0) != 0)
            closed_count++;
    }
    return closed_count;
}

static void conns_idle(const struct conns *conns, struct conns_result *result)
{
    struct process_sample before = {0}, after = {0};
    pid_t server = conns->target.server;
    bool watched = report_progress_wanted((double)conns->idle_ns / 1e9);
    if (server != 0)
        conns_wait_for_quiet(server);
    bool sampled = server != 0 && process_sample(server, &before);
    uint64_t start_ns = process_now_ns();
    while (result->idle_ns < conns->idle_ns) {
        uint64_t left_ns = conns->idle_ns - result->idle_ns;
        if (watched)
            report_progress("%u connections idle, %.0f s to go", conns->connections, (double)left_ns / 1e9);
        conns_sleep(watched && left_ns > 1000000000u ? 1000000000u : left_ns);
        result->idle_ns = process_now_ns() - start_ns;
    }
    report_progress_end();
    if (sampled && process_sample(server, &after)) {
        result->wakeups = after.switches - before.switches;
        result->idle_cpu_ns = after.cpu_ns - before.cpu_ns;
    }
    if (server != 0)
        result->rss_all_bytes = process_rss_bytes(server);
    result->closed_count = conns_count_closed(conns);
}

static double conns_bytes_each(const struct conns *conns, const struct conns_result *result)
{
    return ((double)result->rss_all_bytes - (double)result->rss_none_bytes) / conns->connections;
}

static void conns_print_json(const struct conns *conns, const struct conns_result *result)
{
    printf("{\"tool\":\"conns\",\"connections\":%u,\"touched\":%s", conns->connections, conns->touch ? "true" : "false");
    if (conns->target.server != 0)
        printf(",\"rss_none_bytes\":%" PRIu64 ",\"rss_all_bytes\":%" PRIu64 ",\"bytes_per_connection\":%.1f", result->rss_none_bytes,
               result->rss_all_bytes, conns_bytes_each(conns, result));
    else
        printf(",\"rss_none_bytes\":null,\"rss_all_bytes\":null,\"bytes_per_connection\":null");
    printf(",\"idle_seconds\":%.3f", (double)result->idle_ns / 1e9);
    if (conns->target.server != 0)
        printf(",\"wakeups\":%" PRIu64 ",\"idle_cpu_ns\":%" PRIu64, result->wakeups, result->idle_cpu_ns);
    else
        printf(",\"wakeups\":null,\"idle_cpu_ns\":null");
    printf(",\"closed\":%" PRIu64 "}\n", result->closed_count);
}

static void conns_print_table(const struct conns *conns, const struct conns_result *result)
{
    char text[REPORT_NUMBER_BYTES];
    printf("server       %s\n", conns->target.address.text);
    printf("load         %s connections, ", report_number(text, conns->connections, 0));
    printf("%sidle for %.1f s\n\n", conns->touch ? "one echo on each, then " : "", (double)result->idle_ns / 1e9);
    if (conns->target.server != 0) {
        printf("RSS, none    %14s  bytes\n", report_number(text, (double)result->rss_none_bytes, 0));
        printf("RSS, all     %14s  bytes\n", report_number(text, (double)result->rss_all_bytes, 0));
        printf("each         %14s  bytes\n", report_number(text, conns_bytes_each(conns, result), 0));
        printf("wake-ups     %14s\n", report_number(text, (double)result->wakeups, 0));
        printf("CPU, idle    %14s  us\n", report_number(text, (double)result->idle_cpu_ns / 1e3, 0));
    }
    printf("lost         %14s  connections\n", report_number(text, (double)result->closed_count, 0));
}

int conns_command(int argc, char **argv)
{
    static const struct argp_child children[] = {{.argp = &target_argp}, {0}};
    static const struct argp argp = {.options = conns_options, .parser = conns_parse, .doc = conns_help, .children = children};
    struct conns conns = {.connections = 10000, .idle_ns = 10000000000};
    struct conns_result result = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &conns);
    conns.sockets = calloc(conns.connections, sizeof *conns.sockets);
    if (conns.sockets == NULL) {
        fprintf(stderr, "weir-perf: no memory for %u connections\n", conns.connections);
        return 1;
    }
    if (conns.target.server != 0)
        result.rss_none_bytes = process_rss_bytes(conns.target.server);
    bool opened = dial_open(&conns.target.address, conns.sockets, conns.connections);
    bool stood = opened && (!conns.touch || conns_touch(&conns));
    if (stood) {
        conns_idle(&conns, &result);
        if (conns.target.json)
            conns_print_json(&conns, &result);
        else
            conns_print_table(&conns, &result);
    }
    for (uint32_t i = 0; opened && i < conns.connections; i++)
        dial_close(conns.sockets[i]);
    free(conns.sockets);
    return !stood || result.closed_count > 0;
}
