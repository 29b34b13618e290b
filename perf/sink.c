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
    SINK_CONNECTIONS,
    SINK_BYTES,
    SINK_REFUSE,
    SINK_DROP,
    SINK_SPIN,
    SINK_RECEIVE_BYTES,
    SINK_SLOW_BPS,
    SINK_STALL,
    SINK_CPU,
    SINK_SECONDS,
    SINK_WARMUP,
    SINK_ONCE,
    SINK_JSON,
};

static const struct argp_option sink_options[] = {
    {"listen", SINK_LISTEN, "ADDRESS", 0, "tcp://host:port, unix:///path or unix://@name; port 0 takes a free one (tcp://127.0.0.1:0)", 1},
    {"connections", SINK_CONNECTIONS, "N", 0, "how many are read together; all of them are taken before the first is read (1)", 2},
    {"bytes", SINK_BYTES, "N", 0, "payload of each message (64)", 2},
    {"refuse", SINK_REFUSE, NULL, 0, "numbers may be missing: the producers drop what finds no room", 2},
    {"drop", SINK_DROP, NULL, 0, "throw the bytes away and count them; else every frame is looked at", 2},
    {"seconds", SINK_SECONDS, "S", 0, "measured time (1)", 2},
    {"warmup", SINK_WARMUP, "S", 0, "time before it, from the first byte on (0.3)", 2},
    {"spin", SINK_SPIN, NULL, 0, "never sleep", 3},
    {"cpu", SINK_CPU, "N", 0, "run on this core only", 3},
    {"receive-bytes", SINK_RECEIVE_BYTES, "N", 0,
     "the kernel's buffer for each connection: what a stalled one still takes (0: the kernel tunes it, to megabytes)", 3},
    {"slow-bps", SINK_SLOW_BPS, "N", 0,
     "a slow peer: read at most so many bytes a second, of all connections together (0: as fast as it goes)", 3},
    {"stall", SINK_STALL, "S", 0, "in the middle of the measured time, do not read the first connection for so many seconds (0)", 3},
    {"once", SINK_ONCE, NULL, 0, "end after one run", 3},
    {"json", SINK_JSON, NULL, 0, "print one line of JSON for each run instead of a table", 4},
    {0},
};

static const char sink_help[] =
    "Receives what a fan-in's producers send, and judges it: every frame whole, and each producer's in order on each connection.\v"
    "Use it as the other end of a fan-in that you start by hand: on a core or a machine of its own, or beside a program of yours that "
    "sends such frames (perf/message.h). It is what others connect to, so it has --listen and no --connect.\n\n"
    "One run after another, each of --connections at a time. Start `weir-perf fanin` or a peer with --connect and the address that this "
    "prints, with the same --connections, --bytes, --seconds, --warmup and --refuse.\n\n"
    "torn: places in a stream where bytes were skipped, as they belong to no whole frame. missing: numbers below a producer's last that "
    "came on no connection. With --stall the JSON has an object of that name: what came on the other connections meanwhile, and in the "
    "second before, "
    "latencies by when the message was sent.";

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
    case SINK_RECEIVE_BYTES:
        sink->plan.receive_bytes = (uint32_t)option_count(state, "--receive-bytes", text, 0, 1u << 30);
        return 0;
    case SINK_SLOW_BPS:
        sink->plan.slow_bytes = option_count(state, "--slow-bps", text, 0, UINT32_MAX);
        return 0;
    case SINK_STALL:
        sink->plan.stall_ns = option_seconds_ns(state, "--stall", text, 0, 3600);
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
    case SINK_CONNECTIONS:
        sink->plan.connection_count = (uint32_t)option_count(state, "--connections", text, 1, DRAIN_CONNECTIONS_MOST);
        return 0;
    case SINK_BYTES:
        sink->plan.message_bytes = (uint32_t)option_count(state, "--bytes", text, MESSAGE_BYTES_LEAST, MESSAGE_BYTES_MOST);
        return 0;
    case SINK_REFUSE:
        sink->plan.gaps = true;
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
        .plan = {.message_bytes = 64, .connection_count = 1, .patient = true, .cpu = -1, .warmup_ns = 300000000, .measure_ns = 1000000000},
        .listen = "tcp://127.0.0.1:0",
    };
    char address[DRAIN_ADDRESS_BYTES];
    argp_parse(&argp, argc, argv, 0, NULL, &sink);
    if (!drain_pin(sink.plan.cpu)) {
        fprintf(stderr, "weir-perf: --cpu wants a core that this process may use, not %d\n", sink.plan.cpu);
        return 2;
    }
    int listener = drain_listen(&sink.plan, sink.listen, address);
    if (listener < 0)
        return 1;
    printf("listening on %s\n", address);
    fflush(stdout);
    bool good = true;
    do {
        if (!drain_once(listener, &sink.plan, &result))
            return 1;
        good &= drain_faults(&sink.plan, &result) == 0;
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
