/* SPDX-License-Identifier: MIT */
/* flight: see flight.h. */
#include "flight.h"

#include "option.h"
#include "process.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>

enum {
    FLIGHT_SECONDS = FLIGHT_KEYS,
    FLIGHT_WARMUP_SECONDS,
    FLIGHT_GAP,
    FLIGHT_JSON,
};

static const struct argp_option flight_options[] = {
    {"gap-us", FLIGHT_GAP, "US", 0, "time from one flight to the next, so that the other side sleeps; 0: at once (0)", 2},
    {"seconds", FLIGHT_SECONDS, "S", 0, "measured time (2)", 2},
    {"warmup", FLIGHT_WARMUP_SECONDS, "S", 0, "time before it (0.2)", 2},
    {"json", FLIGHT_JSON, NULL, 0, "print one line of JSON instead of a table", 4},
    {0},
};

static error_t flight_parse(int key, char *text, struct argp_state *state)
{
    struct flight_plan *plan = state->input;
    switch (key) {
    case FLIGHT_SECONDS:
        plan->measure_ns = option_seconds_ns(state, "--seconds", text, 0.01, 3600);
        return 0;
    case FLIGHT_WARMUP_SECONDS:
        plan->warmup_ns = option_seconds_ns(state, "--warmup", text, 0, 3600);
        return 0;
    case FLIGHT_GAP:
        plan->gap_ns = option_count(state, "--gap-us", text, 0, 1000000) * 1000;
        return 0;
    case FLIGHT_JSON:
        plan->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp flight_argp = {.options = flight_options, .parser = flight_parse};

bool flight_plan_init(struct flight_plan *plan)
{
    *plan = (struct flight_plan){.warmup_ns = 200000000, .measure_ns = 2000000000};
    cpu_set_t cores;
    int found = 0;
    if (sched_getaffinity(0, sizeof cores, &cores) != 0)
        CPU_ZERO(&cores);
    for (int core = 0; core < CPU_SETSIZE && found < 2; core++)
        if (CPU_ISSET((unsigned)core, &cores))
            plan->cores[found++] = core;
    if (found < 2)
        fprintf(stderr, "%s: needs two cores, and may use %d\n", program_invocation_short_name, found);
    return found == 2;
}

void flight_pin(int core)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET((unsigned)core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores) != 0)
        perror("sched_setaffinity");
}

enum flight_phase flight_clock_tick(struct flight_clock *clock, const struct flight_plan *plan, uint64_t now_ns)
{
    if (clock->end_ns == 0) {
        clock->measure_from_ns = now_ns + plan->warmup_ns;
        clock->end_ns = clock->measure_from_ns + plan->measure_ns;
    }
    if (now_ns < clock->measure_from_ns)
        return FLIGHT_WARMUP;
    return now_ns < clock->end_ns ? FLIGHT_MEASURE : FLIGHT_OVER;
}

bool flight_rallied(struct flight_clock *clock, const struct flight_plan *plan, struct flight_result *result)
{
    uint64_t now_ns = process_now_ns(), last_ns = clock->last_ns;
    clock->last_ns = now_ns;
    enum flight_phase phase = flight_clock_tick(clock, plan, now_ns);
    if (phase == FLIGHT_OVER)
        return false;
    if (phase == FLIGHT_MEASURE && last_ns >= clock->measure_from_ns) {
        histogram_record(&result->flights, (now_ns - last_ns + FLIGHT_RALLIES) / (2 * FLIGHT_RALLIES));
        result->elapsed_ns += now_ns - last_ns;
        result->hops += 2 * FLIGHT_RALLIES;
    }
    return true;
}

/* --- what is printed --- */

static void flight_print_count(const char *name, int64_t count)
{
    if (count < 0)
        printf(",\"%s\":null", name);
    else
        printf(",\"%s\":%" PRId64, name, count);
}

static void flight_print_json(const struct flight_plan *plan, const struct flight_result *result)
{
    const struct histogram *flights = &result->flights;
    printf("{\"tool\":\"%s\",\"way\":\"%s\",\"gap_us\":%.3f,\"spin_us\":%.3f,\"idle_ports\":%u,\"seconds\":%.6f,\"hops\":%" PRIu64,
           result->tool, result->way, (double)plan->gap_ns / 1e3, (double)result->spin_ns / 1e3, result->idle_ports,
           (double)result->elapsed_ns / 1e9, result->hops);
    printf(",\"mean_ns\":%.1f,\"p50_ns\":%" PRIu64 ",\"p90_ns\":%" PRIu64 ",\"p99_ns\":%" PRIu64 ",\"max_ns\":%" PRIu64,
           histogram_mean(flights), histogram_percentile(flights, 50), histogram_percentile(flights, 90), histogram_percentile(flights, 99),
           flights->most_ns);
    if (result->messages_per_second >= 0)
        printf(",\"messages_per_second\":%.1f", result->messages_per_second);
    else
        printf(",\"messages_per_second\":null");
    flight_print_count("wakes", result->wakes);
    flight_print_count("sleeps", result->sleeps);
    flight_print_count("late_finds", result->late_finds);
    puts("}");
}

static void flight_print_table(const struct flight_plan *plan, const struct flight_result *result)
{
    char text[REPORT_NUMBER_BYTES];
    printf("way          %s\n", result->way);
    if (plan->gap_ns > 0)
        printf("flights      one each %.0f us, each timed by itself\n\n", (double)plan->gap_ns / 1e3);
    else
        printf("flights      to and fro at once; half of each %u rallies' time counts\n\n", FLIGHT_RALLIES);
    printf("hops         %14s\n", report_number(text, (double)result->hops, 0));
    static const struct {
        const char *name;
        double percent;
    } rows[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"max", 100}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        printf("%-5s us     %14s\n", rows[i].name,
               report_number(text, (double)histogram_percentile(&result->flights, rows[i].percent) / 1e3, 3));
    if (result->messages_per_second >= 0)
        printf("messages/s   %14s  one way, as fast as it goes\n", report_number(text, result->messages_per_second, 0));
    if (result->wakes >= 0)
        printf("wakes        %14" PRId64 "\n", result->wakes);
    if (result->sleeps >= 0)
        printf("sleeps       %14" PRId64 "  of the receiving side\n", result->sleeps);
    if (result->late_finds >= 0)
        printf("late finds   %14" PRId64 "\n", result->late_finds);
}

void flight_print(const struct flight_plan *plan, const struct flight_result *result)
{
    if (plan->json)
        flight_print_json(plan, result);
    else
        flight_print_table(plan, result);
}
