/* SPDX-License-Identifier: MIT */
/* conns: the command `weir-perf conns`: opens connections, leaves them idle (or all but a few), and reads what the server and the kernel
 * pay for them.
 *
 * Road:    memory with none → dial all → (one echo on each) → wait until the server is quiet → count its context switches over the idle
 *          time (while a few echo at a fixed rate) → memory with all → look whether all still stand.
 * Ditches: an echo that does not come in 5 s → say on which connection; with --connections max that, and any limit that dialling meets,
 *          is how many there are; a server that never gets quiet → after 5 s it is measured as it is; connections the server closed
 *          meanwhile → counted, and the exit code is 1. */
#include "command.h"
#include "dial.h"
#include "kernel.h"
#include "load.h"
#include "option.h"
#include "process.h"
#include "report.h"
#include "target.h"
#include "upgrade.h"

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
#define CONNS_BYTES         64
#define CONNS_DEPTH         1024
#define CONNS_WARMUP_NS     200000000ull

enum {
    CONNS_CONNECTIONS = 256,
    CONNS_SECONDS,
    CONNS_TOUCH,
    CONNS_ACTIVE,
    CONNS_RATE,
    CONNS_FRAMING,
};

static const struct argp_option conns_options[] = {
    {"connections", CONNS_CONNECTIONS, "N", 0, "connections to open (10000); max: as many as the limits allow, and say which one ended it",
     2},
    {"seconds", CONNS_SECONDS, "S", 0, "how long they stay idle (10)", 2},
    {"touch", CONNS_TOUCH, NULL, 0, "echo one message on each before", 2},
    {"active", CONNS_ACTIVE, "PERCENT", 0, "so many of them echo meanwhile, 64 bytes (0)", 2},
    {"rate", CONNS_RATE, "R", 0, "messages a second of all active ones together, by the clock (1000)", 2},
    {"framing", CONNS_FRAMING, "KIND", 0, "for --touch and --active: frame, line, raw or websocket, as the server has it (frame)", 2},
    {0},
};

static const char conns_help[] =
    "Opens connections, leaves them idle, and tells what they cost: memory for each, in the server and in the kernel, and wake-ups.\v"
    "Use it to know how many connections a server can hold, and whether the idle ones cost the others anything (--active). "
    "Any server will do; only --touch and --active want one that echoes.\n\n"
    "Give --server-pid, else there is nothing to tell of the server but whether all stood. Its memory is the resident memory with all "
    "connections less that with none, divided by their number; so start the server afresh for each run (memory that it keeps from "
    "an earlier one would not be seen), in a process of its own. A wake-up is a context switch of one of the server's threads, voluntary "
    "or not.\n\n"
    "The kernel's memory is that of its objects (sockets, files, poll entries) on this whole machine with all connections less that with "
    "none: when the server is on this machine that is both ends of each connection, and about half of it is the server's. It is exact "
    "for root, who may read /proc/slabinfo; else it comes in pages from /proc/meminfo and wants some 1,000 connections. Whatever else runs "
    "is in it too.\n\n"
    "A server at an IPv4 loopback address is dialled from 127.0.0.1, 127.0.0.2 and on, so that ports are not the limit. With --touch "
    "--connections max stops where the server answers no more; without it connections count that only the kernel has accepted.\n\n"
    "The exit code is 0 when all connections stood to the end and all answers came, 1 when not, 2 when an option is wrong.";

struct conns {
    struct target target;
    uint32_t connections;
    bool most; /* true exactly when they are to be as many as the limits allow */
    uint64_t idle_ns;
    bool touch;
    double active_percent;
    uint64_t rate;
    enum pattern_framing framing;
    int *sockets; /* -1: lost while active */
    uint32_t active_count;
    char limit[DIAL_WHY_BYTES]; /* what ended the dialling; "": nothing did */
};

struct conns_result {
    uint64_t rss_none_bytes;
    uint64_t rss_all_bytes;
    struct kernel_sample kernel_none, kernel_all;
    uint64_t idle_ns;
    uint64_t wakeups;
    uint64_t idle_cpu_ns;
    uint64_t closed_count;
    struct load_result active; /* zeroed without --active */
};

static double conns_percent(const struct argp_state *state, const char *text)
{
    char *end = NULL;
    double percent = strtod(text, &end);
    if (end == text || *end != '\0' || !(percent > 0 && percent <= 100))
        argp_error(state, "--active wants a percentage above 0 and up to 100, not '%s'", text);
    return percent;
}

static error_t conns_parse(int key, char *text, struct argp_state *state)
{
    struct conns *conns = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &conns->target;
        return 0;
    case CONNS_CONNECTIONS:
        conns->most = strcmp(text, "max") == 0;
        conns->connections =
            conns->most ? TARGET_CONNECTIONS_MOST : (uint32_t)option_count(state, "--connections", text, 1, TARGET_CONNECTIONS_MOST);
        return 0;
    case CONNS_SECONDS:
        conns->idle_ns = option_seconds_ns(state, "--seconds", text, 0.01, 86400);
        return 0;
    case CONNS_TOUCH:
        conns->touch = true;
        return 0;
    case CONNS_ACTIVE:
        conns->active_percent = conns_percent(state, text);
        return 0;
    case CONNS_RATE:
        conns->rate = option_count(state, "--rate", text, 1, 10000000);
        return 0;
    case CONNS_FRAMING:
        conns->framing = (enum pattern_framing)option_choice(state, "--framing", text, pattern_framing_names);
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

/* --- opening --- */

/* Sends one message and waits for it to come back. Returns 0 or an errno. */
static int conns_touch_one(struct pattern *pattern, int descriptor, uint32_t number)
{
    uint8_t answer[CONNS_BYTES * 2];
    uint32_t had_bytes = 0;
    const uint8_t *message = pattern_make(pattern, number, 1, 1);
    if (send(descriptor, message, pattern->sent.frame_bytes, MSG_NOSIGNAL) != (ssize_t)pattern->sent.frame_bytes)
        return errno;
    while (had_bytes < pattern->answer.frame_bytes) {
        struct pollfd wait = {.fd = descriptor, .events = POLLIN};
        if (poll(&wait, 1, CONNS_ANSWER_MS) == 0)
            return ETIMEDOUT;
        ssize_t count = recv(descriptor, answer + had_bytes, pattern->answer.frame_bytes - had_bytes, 0);
        if (count <= 0)
            return count == 0 ? ECONNRESET : errno;
        had_bytes += (uint32_t)count;
    }
    return pattern_matches(pattern, number, 0, answer, had_bytes, true) ? 0 : EBADMSG;
}

/* Echoes on one after the other. What does not answer, and all behind it, is closed when as many as possible were asked for. */
static bool conns_touch(struct conns *conns)
{
    struct pattern pattern;
    uint32_t touched = 0;
    int error = pattern_create(&pattern, conns->framing, CONNS_BYTES, 1) ? 0 : ENOMEM;
    while (touched < conns->connections && error == 0) {
        error = conns_touch_one(&pattern, conns->sockets[touched], touched);
        touched += error == 0;
    }
    pattern_destroy(&pattern);
    if (error == 0)
        return true;
    if (!conns->most || touched == 0 || error == ENOMEM || error == EBADMSG) {
        fprintf(stderr, "weir-perf: no echo on connection %u of %u: %s\n", touched + 1, conns->connections, strerror(error));
        return false;
    }
    snprintf(conns->limit, sizeof conns->limit, "the server: it answered on no more (%s)", strerror(error));
    for (uint32_t i = touched; i < conns->connections; i++)
        dial_close(conns->sockets[i]);
    conns->connections = touched;
    return true;
}

/* False, with a sentence on standard error, when what was asked for does not stand. */
static bool conns_open(struct conns *conns)
{
    bool web = conns->framing == PATTERN_WEBSOCKET;
    if (!conns->most)
        return dial_open(&conns->target.address, conns->sockets, conns->connections) &&
               (!web || upgrade_all(conns->sockets, conns->connections));
    conns->connections = dial_open_most(&conns->target.address, conns->sockets, conns->connections, conns->limit);
    if (conns->connections > 0)
        return !web || upgrade_all(conns->sockets, conns->connections);
    fprintf(stderr, "weir-perf: not one connection to %s: %s\n", conns->target.address.text, conns->limit);
    return false;
}

/* --- the idle time --- */

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
        if (conns->sockets[i] < 0 || poll(&look, 1, 0) != 0)
            closed_count++;
    }
    return closed_count;
}

static void conns_rest(const struct conns *conns)
{
    bool watched = report_progress_wanted((double)conns->idle_ns / 1e9);
    uint64_t end_ns = process_now_ns() + conns->idle_ns;
    for (uint64_t now_ns; (now_ns = process_now_ns()) < end_ns;) {
        uint64_t left_ns = end_ns - now_ns;
        if (watched)
            report_progress("%u connections idle, %.0f s to go", conns->connections, (double)left_ns / 1e9);
        conns_sleep(watched && left_ns > 1000000000u ? 1000000000u : left_ns);
    }
}

/* Active ones lie evenly among the others. False, with a sentence on standard error, when their load could not begin. */
static bool conns_work(struct conns *conns, struct conns_result *result)
{
    int *sockets = calloc(conns->active_count, sizeof *sockets);
    if (sockets == NULL)
        return false;
    uint64_t apart = conns->connections / conns->active_count;
    for (uint32_t i = 0; i < conns->active_count; i++)
        sockets[i] = conns->sockets[i * apart];
    struct load_plan plan = {
        .address = &conns->target.address,
        .framing = conns->framing,
        .sockets = sockets,
        .connections = conns->active_count,
        .depth = CONNS_DEPTH,
        .bytes = CONNS_BYTES,
        .warmup_ns = CONNS_WARMUP_NS,
        .measure_ns = conns->idle_ns,
        .rate = conns->rate,
        .server = conns->target.server,
        .check = true,
        .progress = report_progress_wanted((double)conns->idle_ns / 1e9),
    };
    bool ran = load_run(&plan, &result->active);
    for (uint32_t i = 0; i < conns->active_count; i++)
        conns->sockets[i * apart] = sockets[i];
    free(sockets);
    return ran;
}

static bool conns_idle(struct conns *conns, struct conns_result *result)
{
    struct process_sample before = {0}, after = {0};
    pid_t server = conns->target.server;
    bool ran = true;
    if (server != 0)
        conns_wait_for_quiet(server);
    bool sampled = server != 0 && process_sample(server, &before);
    uint64_t start_ns = process_now_ns();
    if (conns->active_count > 0)
        ran = conns_work(conns, result);
    else
        conns_rest(conns);
    result->idle_ns = process_now_ns() - start_ns;
    report_progress_end();
    if (sampled && process_sample(server, &after)) {
        result->wakeups = after.switches - before.switches;
        result->idle_cpu_ns = after.cpu_ns - before.cpu_ns;
    }
    if (server != 0)
        result->rss_all_bytes = process_rss_bytes(server);
    kernel_sample(&result->kernel_all);
    result->closed_count = conns_count_closed(conns);
    return ran;
}

/* --- what is printed --- */

static double conns_bytes_each(const struct conns *conns, uint64_t none_bytes, uint64_t all_bytes)
{
    return ((double)all_bytes - (double)none_bytes) / conns->connections;
}

static bool conns_kernel_known(const struct conns_result *result)
{
    return result->kernel_none.object_bytes > 0 && result->kernel_all.object_bytes > 0;
}

static double conns_latency_us(const struct conns_result *result, double percent)
{
    return (double)histogram_percentile(&result->active.latency, percent) / 1e3;
}

static void conns_print_json_active(const struct conns *conns, const struct conns_result *result)
{
    const struct load_result *active = &result->active;
    printf(",\"active\":%u,\"rate\":%" PRIu64, conns->active_count, conns->active_count > 0 ? conns->rate : 0);
    if (active->latency.count == 0) {
        printf(",\"messages\":0,\"p50_us\":null,\"p99_us\":null,\"p999_us\":null,\"max_us\":null,\"server_cpu_ns_per_message\":null");
        return;
    }
    printf(",\"messages\":%" PRIu64 ",\"p50_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f", active->message_count,
           conns_latency_us(result, 50), conns_latency_us(result, 99), conns_latency_us(result, 99.9),
           (double)active->latency.most_ns / 1e3);
    if (active->server_sampled && active->message_count > 0)
        printf(",\"server_cpu_ns_per_message\":%.1f", (double)active->server_cpu_ns / (double)active->message_count);
    else
        printf(",\"server_cpu_ns_per_message\":null");
}

static void conns_print_json(const struct conns *conns, const struct conns_result *result)
{
    const struct load_result *active = &result->active;
    printf("{\"tool\":\"conns\",\"connections\":%u,\"touched\":%s", conns->connections, conns->touch ? "true" : "false");
    if (conns->limit[0] != '\0')
        printf(",\"limit\":\"%s\"", conns->limit);
    else
        printf(",\"limit\":null");
    if (conns->target.server != 0)
        printf(",\"rss_none_bytes\":%" PRIu64 ",\"rss_all_bytes\":%" PRIu64 ",\"bytes_per_connection\":%.1f", result->rss_none_bytes,
               result->rss_all_bytes, conns_bytes_each(conns, result->rss_none_bytes, result->rss_all_bytes));
    else
        printf(",\"rss_none_bytes\":null,\"rss_all_bytes\":null,\"bytes_per_connection\":null");
    if (conns_kernel_known(result))
        printf(",\"kernel_bytes_per_connection\":%.1f,\"kernel_tcp_bytes_per_connection\":%.1f,\"kernel_exact\":%s",
               conns_bytes_each(conns, result->kernel_none.object_bytes, result->kernel_all.object_bytes),
               conns_bytes_each(conns, result->kernel_none.tcp_bytes, result->kernel_all.tcp_bytes),
               result->kernel_all.exact ? "true" : "false");
    else
        printf(",\"kernel_bytes_per_connection\":null,\"kernel_tcp_bytes_per_connection\":null,\"kernel_exact\":null");
    printf(",\"idle_seconds\":%.3f", (double)result->idle_ns / 1e9);
    if (conns->target.server != 0)
        printf(",\"wakeups\":%" PRIu64 ",\"idle_cpu_ns\":%" PRIu64, result->wakeups, result->idle_cpu_ns);
    else
        printf(",\"wakeups\":null,\"idle_cpu_ns\":null");
    conns_print_json_active(conns, result);
    printf(",\"closed\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"unanswered\":%" PRIu64 ",\"unsent\":%" PRIu64 "}\n", result->closed_count,
           active->flawed_count, active->unanswered_count, active->unsent_count);
}

static void conns_print_plan(const struct conns *conns, const struct conns_result *result)
{
    char text[REPORT_NUMBER_BYTES];
    printf("server       %s\n", conns->target.address.text);
    printf("load         %s connections, ", report_number(text, conns->connections, 0));
    printf("%s", conns->touch ? "one echo on each, then " : "");
    if (conns->active_count > 0) {
        printf("%s of them active for %.1f s, ", report_number(text, conns->active_count, 0), (double)result->idle_ns / 1e9);
        printf("%s messages/s in all\n", report_number(text, (double)conns->rate, 0));
    } else {
        printf("idle for %.1f s\n", (double)result->idle_ns / 1e9);
    }
    if (conns->limit[0] != '\0')
        printf("ended by     %s\n", conns->limit);
    putchar('\n');
}

static void conns_print_table(const struct conns *conns, const struct conns_result *result)
{
    char text[REPORT_NUMBER_BYTES];
    conns_print_plan(conns, result);
    if (conns->target.server != 0) {
        printf("RSS, none    %14s  bytes\n", report_number(text, (double)result->rss_none_bytes, 0));
        printf("RSS, all     %14s  bytes\n", report_number(text, (double)result->rss_all_bytes, 0));
        double each_bytes = conns_bytes_each(conns, result->rss_none_bytes, result->rss_all_bytes);
        printf("each         %14s  bytes\n", report_number(text, each_bytes, 0));
    }
    if (conns_kernel_known(result)) {
        double each_bytes = conns_bytes_each(conns, result->kernel_none.object_bytes, result->kernel_all.object_bytes);
        printf("kernel, each %14s  bytes, both ends if both are on this machine%s\n", report_number(text, each_bytes, 0),
               result->kernel_all.exact ? "" : " (in pages: see --help)");
    }
    if (conns->target.server != 0) {
        printf("wake-ups     %14s\n", report_number(text, (double)result->wakeups, 0));
        printf("CPU, %-6s  %14s  us\n", conns->active_count > 0 ? "active" : "idle",
               report_number(text, (double)result->idle_cpu_ns / 1e3, 0));
    }
    if (conns->active_count > 0) {
        printf("p50   us     %14s\n", report_number(text, conns_latency_us(result, 50), 1));
        printf("p99   us     %14s\n", report_number(text, conns_latency_us(result, 99), 1));
        printf("p99.9 us     %14s\n", report_number(text, conns_latency_us(result, 99.9), 1));
        printf("unanswered   %14" PRIu64 "  messages, and %" PRIu64 " came back changed\n", result->active.unanswered_count,
               result->active.flawed_count);
    }
    printf("lost         %14s  connections\n", report_number(text, (double)result->closed_count, 0));
}

/* --- the program --- */

/* With all connections open. */
static bool conns_measure(struct conns *conns, struct conns_result *result)
{
    if (conns->touch && !conns_touch(conns))
        return false;
    if (conns->active_percent > 0) {
        conns->active_count = (uint32_t)(conns->connections * conns->active_percent / 100);
        if (conns->active_count == 0)
            conns->active_count = 1;
    }
    if (!conns_idle(conns, result))
        return false;
    if (conns->target.json)
        conns_print_json(conns, result);
    else
        conns_print_table(conns, result);
    return result->closed_count + result->active.flawed_count + result->active.unanswered_count == 0;
}

int conns_command(int argc, char **argv)
{
    static const struct argp_child children[] = {{.argp = &target_argp}, {0}};
    static const struct argp argp = {.options = conns_options, .parser = conns_parse, .doc = conns_help, .children = children};
    static struct conns_result result;
    struct conns conns = {.connections = 10000, .idle_ns = 10000000000, .rate = 1000};
    argp_parse(&argp, argc, argv, 0, NULL, &conns);
    conns.sockets = calloc(conns.connections, sizeof *conns.sockets);
    if (conns.sockets == NULL) {
        fprintf(stderr, "weir-perf: no memory for %u connections\n", conns.connections);
        return 1;
    }
    if (conns.target.server != 0)
        result.rss_none_bytes = process_rss_bytes(conns.target.server);
    kernel_sample(&result.kernel_none);
    bool opened = conns_open(&conns);
    bool good = opened && conns_measure(&conns, &result);
    for (uint32_t i = 0; opened && i < conns.connections; i++)
        if (conns.sockets[i] >= 0)
            dial_close(conns.sockets[i]);
    free(conns.sockets);
    return good ? 0 : 1;
}
