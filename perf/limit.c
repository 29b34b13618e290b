/* SPDX-License-Identifier: MIT */
/* limit: the command `weir-perf limit`: options, and what is printed. The work is done in bound.c.
 *
 * A kind that the kernel refuses is told on standard error, its figures are absent (null), and the exit code is 1; but io_uring alone may
 * be forbidden where all else is allowed: then only its figure is absent. */
#include "bound.h"
#include "command.h"
#include "flight.h"
#include "option.h"
#include "report.h"

#include <stdio.h>
#include <string.h>

#define LIMIT_FRAME_HEAD_BYTES 4u
#define LIMIT_ABSENT           (-1.0)

enum {
    LIMIT_ONLY = 256,
    LIMIT_SECONDS,
    LIMIT_JSON,
};

static const struct argp_option limit_options[] = {
    {"only", LIMIT_ONLY, "KIND", 0, "pingpong, bytes, line, wake, enter or copy; may be repeated (all of them)", 2},
    {"seconds", LIMIT_SECONDS, "S", 0, "measured time of each (0.3)", 2},
    {"json", LIMIT_JSON, NULL, 0, "print one line of JSON instead of a table", 4},
    {0},
};

static const char limit_help[] =
    "Measures what this machine and its kernel can do at best, by the plainest program for each.\v"
    "Use it to know what any figure of the other commands could be at most, here and today: an echo's latency beside `pingpong`, a "
    "fan-in's "
    "messages a second beside `bytes`, a hop beside `line` (both sides awake) and `wake` (the other one asleep). No messaging runtime is "
    "in "
    "it, and no weir: blocking sockets, an eventfd, empty system calls, two threads on the first two cores. There is nothing to connect "
    "to, since it "
    "is the machine that is measured and not a server; run it on the machine where the server runs, while nothing else does.\n\n"
    "pingpong   64 bytes over TCP loopback to a thread on the other core and back: blocking in recv, then spinning on it\n"
    "bytes      one way over TCP loopback in writes of 64 KiB; and how many 64-byte messages with a length of 4 bytes each fit into that\n"
    "line       a cache line's way to the other core: half of there and back\n"
    "wake       from just before the write to an eventfd until the thread that slept on it runs\n"
    "enter      an io_uring_enter with nothing to do, and a system call that does nothing\n"
    "copy       memcpy of 64 KiB in the caches\n\n"
    "The exit code is 0 when all could be measured, 1 when not, 2 when an option is wrong.";

/* What is measured: bits of limit.kinds. */
enum limit_kind { LIMIT_PINGPONG, LIMIT_BYTES, LIMIT_LINE, LIMIT_WAKE, LIMIT_ENTER, LIMIT_COPY, LIMIT_KINDS };

static const char *const limit_names[LIMIT_KINDS + 1] = {"pingpong", "bytes", "line", "wake", "enter", "copy", NULL};

enum limit_figure {
    LIMIT_BLOCKING_P50,
    LIMIT_BLOCKING_P99,
    LIMIT_SPINNING_P50,
    LIMIT_SPINNING_P99,
    LIMIT_LOOPBACK_BYTES,
    LIMIT_LOOPBACK_FRAMES,
    LIMIT_LINE_WAY,
    LIMIT_WAKE_P50,
    LIMIT_WAKE_P99,
    LIMIT_WAKE_WRITE,
    LIMIT_EMPTY_ENTER,
    LIMIT_EMPTY_CALL,
    LIMIT_COPY_BYTES,
    LIMIT_FIGURES
};

/* As in JSON; and for people: what it is, in which unit, that times so much, and after how many digits. */
static const struct limit_row {
    const char *key;
    enum limit_kind kind;
    const char *what;
    const char *unit;
    double scale;
    int decimals;
} limit_rows[LIMIT_FIGURES] = {
    [LIMIT_BLOCKING_P50] = {"pingpong_p50_us", LIMIT_PINGPONG, "ping-pong, blocking, p50", "us there and back", 1, 1},
    [LIMIT_BLOCKING_P99] = {"pingpong_p99_us", LIMIT_PINGPONG, "ping-pong, blocking, p99", "us", 1, 1},
    [LIMIT_SPINNING_P50] = {"pingpong_spin_p50_us", LIMIT_PINGPONG, "ping-pong, spinning, p50", "us there and back", 1, 1},
    [LIMIT_SPINNING_P99] = {"pingpong_spin_p99_us", LIMIT_PINGPONG, "ping-pong, spinning, p99", "us", 1, 1},
    [LIMIT_LOOPBACK_BYTES] = {"loopback_bytes_per_second", LIMIT_BYTES, "loopback, 64 KiB writes", "GB/s", 1e-9, 2},
    [LIMIT_LOOPBACK_FRAMES] = {"loopback_frames_per_second", LIMIT_BYTES, "that in 64-byte messages", "million/s", 1e-6, 1},
    [LIMIT_LINE_WAY] = {"line_ns", LIMIT_LINE, "cache line, one way", "ns", 1, 1},
    [LIMIT_WAKE_P50] = {"wake_p50_us", LIMIT_WAKE, "eventfd wake, p50", "us until the sleeper runs", 1, 1},
    [LIMIT_WAKE_P99] = {"wake_p99_us", LIMIT_WAKE, "eventfd wake, p99", "us", 1, 1},
    [LIMIT_WAKE_WRITE] = {"wake_write_p50_us", LIMIT_WAKE, "the write that wakes, p50", "us of the waker's", 1, 1},
    [LIMIT_EMPTY_ENTER] = {"enter_ns", LIMIT_ENTER, "empty io_uring_enter", "ns", 1, 0},
    [LIMIT_EMPTY_CALL] = {"call_ns", LIMIT_ENTER, "empty system call", "ns", 1, 0},
    [LIMIT_COPY_BYTES] = {"copy_bytes_per_second", LIMIT_COPY, "memcpy, 64 KiB in cache", "GB/s", 1e-9, 1},
};

struct limit {
    struct bound_plan bound;
    uint32_t kinds; /* bits; 0: all */
    bool json;
    double figures[LIMIT_FIGURES]; /* LIMIT_ABSENT: not measured */
};

static error_t limit_parse(int key, char *text, struct argp_state *state)
{
    struct limit *limit = state->input;
    switch (key) {
    case LIMIT_ONLY:
        limit->kinds |= 1u << option_choice(state, "--only", text, limit_names);
        return 0;
    case LIMIT_SECONDS:
        limit->bound.measure_ns = option_seconds_ns(state, "--seconds", text, 0.01, 3600);
        return 0;
    case LIMIT_JSON:
        limit->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- what is measured --- */

static struct histogram limit_first, limit_second; /* too big for the stack */

static double limit_percentile_us(const struct histogram *histogram, double percent)
{
    return (double)histogram_percentile(histogram, percent) / 1e3;
}

static int limit_pingpong(struct limit *limit, bool spin)
{
    limit_first = (struct histogram){0};
    int error = bound_pingpong(&limit->bound, spin, &limit_first);
    if (error != 0)
        return error;
    limit->figures[spin ? LIMIT_SPINNING_P50 : LIMIT_BLOCKING_P50] = limit_percentile_us(&limit_first, 50);
    limit->figures[spin ? LIMIT_SPINNING_P99 : LIMIT_BLOCKING_P99] = limit_percentile_us(&limit_first, 99);
    return 0;
}

static int limit_bytes(struct limit *limit)
{
    double *bytes_per_second = &limit->figures[LIMIT_LOOPBACK_BYTES];
    int error = bound_bytes(&limit->bound, bytes_per_second);
    if (error != 0)
        *bytes_per_second = LIMIT_ABSENT;
    else
        limit->figures[LIMIT_LOOPBACK_FRAMES] = *bytes_per_second / (LIMIT_FRAME_HEAD_BYTES + BOUND_MESSAGE_BYTES);
    return error;
}

static int limit_wake(struct limit *limit)
{
    limit_first = limit_second = (struct histogram){0};
    int error = bound_wake(&limit->bound, &limit_first, &limit_second);
    if (error != 0)
        return error;
    limit->figures[LIMIT_WAKE_P50] = limit_percentile_us(&limit_first, 50);
    limit->figures[LIMIT_WAKE_P99] = limit_percentile_us(&limit_first, 99);
    limit->figures[LIMIT_WAKE_WRITE] = limit_percentile_us(&limit_second, 50);
    return 0;
}

static int limit_measure(struct limit *limit, enum limit_kind kind)
{
    double *figures = limit->figures;
    int error;
    switch (kind) {
    case LIMIT_PINGPONG:
        error = limit_pingpong(limit, false);
        return error != 0 ? error : limit_pingpong(limit, true);
    case LIMIT_BYTES:
        return limit_bytes(limit);
    case LIMIT_LINE:
        return bound_line(&limit->bound, &figures[LIMIT_LINE_WAY]);
    case LIMIT_WAKE:
        return limit_wake(limit);
    case LIMIT_ENTER:
        return bound_enter(&limit->bound, &figures[LIMIT_EMPTY_ENTER], &figures[LIMIT_EMPTY_CALL]);
    case LIMIT_COPY:
        return bound_copy(&limit->bound, &figures[LIMIT_COPY_BYTES]);
    case LIMIT_KINDS:
        break;
    }
    return 0;
}

/* --- what is printed --- */

static void limit_print_json(const struct limit *limit)
{
    printf("{\"tool\":\"limit\",\"seconds\":%.3f,\"cores\":[%d,%d]", (double)limit->bound.measure_ns / 1e9, limit->bound.cores[0],
           limit->bound.cores[1]);
    for (int i = 0; i < LIMIT_FIGURES; i++)
        if (limit->figures[i] >= 0)
            printf(",\"%s\":%.3f", limit_rows[i].key, limit->figures[i]);
        else
            printf(",\"%s\":null", limit_rows[i].key);
    puts("}");
}

static void limit_print_table(const struct limit *limit)
{
    char text[REPORT_NUMBER_BYTES];
    for (int i = 0; i < LIMIT_FIGURES; i++) {
        const struct limit_row *row = &limit_rows[i];
        if ((limit->kinds & 1u << row->kind) == 0)
            continue;
        if (limit->figures[i] >= 0)
            printf("%-26s %10s  %s\n", row->what, report_number(text, limit->figures[i] * row->scale, row->decimals), row->unit);
        else
            printf("%-26s %10s\n", row->what, "-");
    }
}

int limit_command(int argc, char **argv)
{
    static const struct argp argp = {.options = limit_options, .parser = limit_parse, .doc = limit_help};
    struct limit limit = {.bound = {.measure_ns = 300000000}};
    struct flight_plan flight;
    bool good = true;
    argp_parse(&argp, argc, argv, 0, NULL, &limit);
    if (!flight_plan_init(&flight))
        return 1;
    memcpy(limit.bound.cores, flight.cores, sizeof limit.bound.cores);
    if (limit.kinds == 0)
        limit.kinds = (1u << LIMIT_KINDS) - 1;
    for (int i = 0; i < LIMIT_FIGURES; i++)
        limit.figures[i] = LIMIT_ABSENT;
    bool watched = report_progress_wanted((double)limit.bound.measure_ns / 1e9 * LIMIT_KINDS);
    for (uint32_t kind = 0; kind < LIMIT_KINDS; kind++) {
        if ((limit.kinds & 1u << kind) == 0)
            continue;
        if (watched)
            report_progress("%s", limit_names[kind]);
        int error = limit_measure(&limit, kind);
        report_progress_end();
        if (error != 0)
            fprintf(stderr, "weir-perf: %s could not be measured: %s\n", limit_names[kind], strerror(error));
        good = good && error == 0;
    }
    if (limit.json)
        limit_print_json(&limit);
    else
        limit_print_table(&limit);
    return good ? 0 : 1;
}
