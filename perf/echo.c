/* SPDX-License-Identifier: MIT */
/* echo: the command `weir-perf echo`: options, and what is printed. The work is done in load.c. */
#include "command.h"
#include "load.h"
#include "option.h"
#include "report.h"
#include "target.h"

#include <inttypes.h>
#include <stdio.h>

#define ECHO_OPEN_LOOP_DEPTH 1024

enum {
    ECHO_CONNECTIONS = 256,
    ECHO_DEPTH,
    ECHO_BYTES,
    ECHO_FRAMING,
    ECHO_SECONDS,
    ECHO_WARMUP,
    ECHO_RATE,
    ECHO_SPIN,
    ECHO_CHECK,
};

static const struct argp_option echo_options[] = {
    {"connections", ECHO_CONNECTIONS, "N", 0, "connections, all open before the clock starts (1)", 2},
    {"depth", ECHO_DEPTH, "N", 0, "messages under way on each connection, at most (1; 1024 with --rate)", 2},
    {"bytes", ECHO_BYTES, "N", 0, "payload of a message (64)", 2},
    {"framing", ECHO_FRAMING, "KIND", 0, "frame, line, raw or websocket, as the server has it (frame)", 2},
    {"seconds", ECHO_SECONDS, "S", 0, "measured time (5)", 2},
    {"warmup", ECHO_WARMUP, "S", 0, "time before it, under the same load (0.5)", 2},
    {"rate", ECHO_RATE, "R", 0, "open loop: so many messages a second in all, whatever the server does", 2},
    {"spin", ECHO_SPIN, NULL, 0, "never sleep: the load side costs a core, and its wake-ups are not in the latency", 3},
    {"check", ECHO_CHECK, NULL, 0, "compare every byte that comes back (length and number always are)", 3},
    {0},
};

static const char echo_help[] =
    "Sends messages to an echo server and measures the answers.\v"
    "Use it to know how much a server carries, and how long its clients wait. Any server will do that sends each message back as it "
    "came.\n\n"
    "Without --rate it is a closed loop: how fast can the server be? Latency is then that of a server under full load, and while "
    "it stalls hardly anything is sent that could show it. With --rate messages are sent by the clock, and latency "
    "counts from the moment a message was due: how long do clients wait at this load? Choose a rate well below what the closed loop "
    "found.\n\n"
    "For steady figures give the server one core and the load another (--cpu), and use --spin when latency is the question. "
    "Compare two servers only in alternating runs: perf/run does that.\n\n"
    "The exit code is 0 when every message came back as it was sent, 1 when not, 2 when an option is wrong.";

struct echo {
    struct load_plan plan;
    struct target target;
    bool deep; /* true exactly when --depth was given */
};

/* The options that say how it is measured. */
static error_t echo_parse_more(int key, char *text, struct argp_state *state)
{
    struct load_plan *plan = &((struct echo *)state->input)->plan;
    switch (key) {
    case ECHO_SECONDS:
        plan->measure_ns = option_seconds_ns(state, "--seconds", text, 0.01, 86400);
        return 0;
    case ECHO_WARMUP:
        plan->warmup_ns = option_seconds_ns(state, "--warmup", text, 0, 3600);
        return 0;
    case ECHO_RATE:
        plan->rate = option_count(state, "--rate", text, 1, 100000000);
        return 0;
    case ECHO_SPIN:
        plan->spin = true;
        return 0;
    case ECHO_CHECK:
        plan->check = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t echo_parse(int key, char *text, struct argp_state *state)
{
    struct echo *echo = state->input;
    struct load_plan *plan = &echo->plan;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &echo->target;
        return 0;
    case ECHO_CONNECTIONS:
        plan->connections = (uint32_t)option_count(state, "--connections", text, 1, TARGET_CONNECTIONS_MOST);
        return 0;
    case ECHO_DEPTH:
        plan->depth = (uint32_t)option_count(state, "--depth", text, 1, 1000000);
        echo->deep = true;
        return 0;
    case ECHO_BYTES:
        plan->bytes = (uint32_t)option_count(state, "--bytes", text, 1, PATTERN_BYTES_MOST);
        return 0;
    case ECHO_FRAMING:
        plan->framing = (enum pattern_framing)option_choice(state, "--framing", text, pattern_framing_names);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option; the server goes behind --connect", text);
        return 0;
    case ARGP_KEY_END:
        if (plan->rate > 0 && !echo->deep)
            plan->depth = ECHO_OPEN_LOOP_DEPTH;
        return 0;
    default:
        return echo_parse_more(key, text, state);
    }
}

/* --- what is printed --- */

static double echo_percentile_us(const struct load_result *result, double percent)
{
    return (double)histogram_percentile(&result->latency, percent) / 1e3;
}

static double echo_per_message(const struct load_result *result, uint64_t total)
{
    return result->message_count == 0 ? 0 : (double)total / (double)result->message_count;
}

static double echo_rate(const struct load_result *result)
{
    return result->elapsed_ns == 0 ? 0 : (double)result->message_count * 1e9 / (double)result->elapsed_ns;
}

static void echo_print_json(const struct load_plan *plan, const struct load_result *result)
{
    double rate = echo_rate(result);
    printf("{\"tool\":\"echo\",\"connections\":%u,\"depth\":%u,\"bytes\":%u,\"framing\":\"%s\",\"rate\":%" PRIu64 ",\"seconds\":%.6f",
           plan->connections, plan->depth, plan->bytes, pattern_framing_names[plan->framing], plan->rate, (double)result->elapsed_ns / 1e9);
    printf(",\"messages\":%" PRIu64 ",\"messages_per_second\":%.1f,\"bytes_per_second\":%.1f", result->message_count, rate,
           rate * plan->bytes);
    printf(",\"mean_us\":%.3f,\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f,\"max_us\":%.3f",
           histogram_mean(&result->latency) / 1e3, echo_percentile_us(result, 50), echo_percentile_us(result, 90),
           echo_percentile_us(result, 99), echo_percentile_us(result, 99.9), (double)result->latency.most_ns / 1e3);
    if (result->server_sampled)
        printf(",\"server_cpu_ns_per_message\":%.1f,\"server_context_switches\":%" PRIu64, echo_per_message(result, result->server_cpu_ns),
               result->server_switches);
    else
        printf(",\"server_cpu_ns_per_message\":null,\"server_context_switches\":null");
    printf(",\"client_cpu_ns_per_message\":%.1f,\"errors\":%" PRIu64 ",\"closed\":%" PRIu64 ",\"unanswered\":%" PRIu64
           ",\"unsent\":%" PRIu64 "}\n",
           echo_per_message(result, result->client_cpu_ns), result->flawed_count, result->closed_count, result->unanswered_count,
           result->unsent_count);
}

static void echo_print_plan(const struct load_plan *plan, const struct load_result *result)
{
    char text[REPORT_NUMBER_BYTES];
    printf("server       %s\n", plan->address->text);
    printf("load         %s connection%s, ", report_number(text, plan->connections, 0), plan->connections == 1 ? "" : "s");
    printf("at most %s under way on each, ", report_number(text, plan->depth, 0));
    printf("%s bytes (%s)\n", report_number(text, plan->bytes, 0), pattern_framing_names[plan->framing]);
    if (plan->rate > 0)
        printf("             open loop, %s messages/s due, ", report_number(text, (double)plan->rate, 0));
    else
        printf("             closed loop, ");
    printf("%.2f s%s\n\n", (double)result->elapsed_ns / 1e9, plan->spin ? ", spinning" : "");
}

static void echo_print_table(const struct load_plan *plan, const struct load_result *result)
{
    char text[REPORT_NUMBER_BYTES];
    double rate = echo_rate(result);
    echo_print_plan(plan, result);
    printf("messages/s   %14s\n", report_number(text, rate, 0));
    printf("MB/s         %14s  payload, each way\n", report_number(text, rate * plan->bytes / 1e6, 1));
    static const struct {
        const char *name;
        double percent;
    } rows[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"max", 100}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        printf("%-5s us     %14s\n", rows[i].name, report_number(text, echo_percentile_us(result, rows[i].percent), 1));
    if (result->server_sampled) {
        printf("server CPU   %14s  ns/message, ", report_number(text, echo_per_message(result, result->server_cpu_ns), 0));
        printf("%s context switches\n", report_number(text, (double)result->server_switches, 0));
    }
    printf("load CPU     %14s  ns/message\n", report_number(text, echo_per_message(result, result->client_cpu_ns), 0));
    printf("errors       %14" PRIu64 "\n", result->flawed_count);
    if (result->closed_count > 0)
        printf("lost         %14" PRIu64 "  connections\n", result->closed_count);
    if (result->unanswered_count > 0)
        printf("unanswered   %14s  messages\n", report_number(text, (double)result->unanswered_count, 0));
    if (result->unsent_count > 0)
        printf("unsent       %14s  messages: they were due, and --depth left no room for them\n",
               report_number(text, (double)result->unsent_count, 0));
    if (!plan->spin && (double)result->client_cpu_ns > 0.95 * (double)result->elapsed_ns)
        printf("\nThe load side used its whole core, so it may be the limit and not the server.\n");
}

int echo_command(int argc, char **argv)
{
    static const struct argp_child children[] = {{.argp = &target_argp}, {0}};
    static const struct argp argp = {.options = echo_options, .parser = echo_parse, .doc = echo_help, .children = children};
    static struct load_result result;
    struct echo echo = {
        .plan = {.connections = 1, .depth = 1, .bytes = 64, .warmup_ns = 500000000, .measure_ns = 5000000000},
    };
    argp_parse(&argp, argc, argv, 0, NULL, &echo);
    echo.plan.address = &echo.target.address;
    echo.plan.server = echo.target.server;
    echo.plan.progress = report_progress_wanted((double)(echo.plan.warmup_ns + echo.plan.measure_ns) / 1e9);
    bool ran = load_run(&echo.plan, &result);
    report_progress_end();
    if (!ran)
        return 1;
    if (echo.target.json)
        echo_print_json(&echo.plan, &result);
    else
        echo_print_table(&echo.plan, &result);
    if (result.message_count == 0)
        fprintf(stderr, "weir-perf: not one answer came\n");
    else if (result.closed_count > 0)
        fprintf(stderr, "weir-perf: %" PRIu64 " connections were lost\n", result.closed_count);
    return result.message_count == 0 || result.flawed_count + result.closed_count + result.unanswered_count > 0;
}
