/* SPDX-License-Identifier: MIT */
/* sink: the command `weir-perf sink`: options. The work is done in drain.c. */
#include "command.h"
#include "drain.h"
#include "message.h"
#include "option.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SINK_LISTEN = 256,
    SINK_BYTES,
    SINK_DROP,
    SINK_SPIN,
    SINK_CPU,
    SINK_SECONDS,
    SINK_WARMUP,
    SINK_ONCE,
    SINK_JSON,
};

static const struct argp_option sink_options[] = {
    {"listen", SINK_LISTEN, "ADDRESS", 0, "tcp://host:port, unix:///path or unix://@name; port 0 takes a free one (tcp://127.0.0.1:0)", 1},
    {"bytes", SINK_BYTES, "N", 0, "payload of each message (64)", 2},
    {"drop", SINK_DROP, NULL, 0, "throw the bytes away and count them; else every frame is looked at", 2},
    {"seconds", SINK_SECONDS, "S", 0, "measured time of each connection (1)", 2},
    {"warmup", SINK_WARMUP, "S", 0, "time before it, from the first byte on (0.3)", 2},
    {"spin", SINK_SPIN, NULL, 0, "never sleep", 3},
    {"cpu", SINK_CPU, "N", 0, "run on this core only", 3},
    {"once", SINK_ONCE, NULL, 0, "end after one connection", 3},
    {"json", SINK_JSON, NULL, 0, "print one line of JSON for each connection instead of a table", 4},
    {0},
};

static const char sink_help[] =
    "Receives what a fan-in's producers send on one connection, and judges it.\v"
    "One connection after another. Start `weir-perf fanin` or a peer with --connect and the address that this prints, with "
    "the same --bytes, --seconds and --warmup.";

struct sink {
    struct drain_plan plan;
    const char *listen;
    bool once;
    bool json;
};

/* The options that say how it runs. */
static error_t sink_parse_more(int key, char *text, struct argp_state *state)
{
    struct sink *sink = state->input;
    switch (key) {
    case SINK_SPIN:
        sink->plan.spin = true;
        return 0;
    case SINK_CPU:
        sink->plan.cpu = (int)option_count(state, "--cpu", text, 0, 1023);
        return 0;
    case SINK_ONCE:
        sink->once = true;
        return 0;
    case SINK_JSON:
        sink->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t sink_parse(int key, char *text, struct argp_state *state)
{
    struct sink *sink = state->input;
    switch (key) {
    case SINK_LISTEN:
        sink->listen = text;
        return 0;
    case SINK_BYTES:
        sink->plan.message_bytes = (uint32_t)option_count(state, "--bytes", text, MESSAGE_BYTES_LEAST, MESSAGE_BYTES_MOST);
        return 0;
    case SINK_DROP:
        sink->plan.drop = true;
        return 0;
    case SINK_SECONDS:
        sink->plan.measure_ns = option_seconds_ns(state, "--seconds", text, 0.01, 3600);
        return 0;
    case SINK_WARMUP:
        sink->plan.warmup_ns = option_seconds_ns(state, "--warmup", text, 0, 3600);
        return 0;
    default:
        return sink_parse_more(key, text, state);
    }
}

int sink_command(int argc, char **argv)
{
    static const struct argp argp = {.options = sink_options, .parser = sink_parse, .doc = sink_help};
    static struct drain_result result;
    struct sink sink = {
        .plan = {.message_bytes = 64, .cpu = -1, .warmup_ns = 300000000, .measure_ns = 1000000000},
        .listen = "tcp://127.0.0.1:0",
    };
    char address[DRAIN_ADDRESS_BYTES];
    argp_parse(&argp, argc, argv, 0, NULL, &sink);
    if (!drain_pin(sink.plan.cpu)) {
        fprintf(stderr, "weir-perf: --cpu wants a core that this process may use, not %d\n", sink.plan.cpu);
        return 2;
    }
    int listener = drain_listen(sink.listen, address);
    if (listener < 0)
        return 1;
    printf("listening on %s\n", address);
    fflush(stdout);
    bool good = true;
    do {
        if (!drain_one(listener, &sink.plan, &result))
            return 1;
        good &= drain_faults(&result) == 0;
        if (sink.json) {
            drain_print_json(stdout, &sink.plan, &result);
            putchar('\n');
        } else {
            drain_print_table(stdout, &sink.plan, &result);
        }
        fflush(stdout);
    } while (!sink.once);
    return good ? 0 : 1;
}
