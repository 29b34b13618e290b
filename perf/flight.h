/* SPDX-License-Identifier: MIT */
/* flight: how long something takes from one thread to another: options, cores and results of the programs that measure it.
 *
 * Two ways to take the time. With a pause before each flight (gap_ns > 0) the other side sleeps, and each flight is timed by itself: a
 * stamp when it starts, one when it arrives; CLOCK_MONOTONIC is one clock for all cores. Without a pause the two sides rally, and half the time of
 * a rally counts, taken over FLIGHT_RALLIES of them: a look at the clock would be a good part of a single one. */
#pragma once

#include "histogram.h"

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#define FLIGHT_RALLIES 16u

struct flight_plan {
    uint64_t warmup_ns;
    uint64_t measure_ns;
    uint64_t gap_ns; /* 0: at once, a rally */
    int cores[2];    /* the first two that this process may use */
    bool json;
};

/* The clock of one run. It starts with the first flight_clock_tick(). */
struct flight_clock {
    uint64_t measure_from_ns, end_ns;
    uint64_t last_ns; /* the tick before */
};

struct flight_result {
    const char *tool, *way;
    struct histogram flights;
    uint64_t elapsed_ns;
    uint64_t hops;              /* one-way flights in the measured interval */
    double messages_per_second; /* one way, as fast as it goes; -1: not measured */
    uint64_t spin_ns;
    uint32_t idle_ports;
    int64_t wakes, sleeps, late_finds; /* of the whole run; -1: not counted */
};

/* A child parser; its input is a struct flight_plan. Its keys begin at FLIGHT_KEYS; a program's own stay below. */
#define FLIGHT_KEYS 512
extern const struct argp flight_argp;

/* Fills in the defaults, the cores among them; false, with a sentence on standard error, when there are less than two. */
bool flight_plan_init(struct flight_plan *plan);

/* Binds the calling thread to a core. */
void flight_pin(int core);

/* Where a measurement is at now_ns: before the measured interval, in it, or at its end. */
enum flight_phase { FLIGHT_WARMUP, FLIGHT_MEASURE, FLIGHT_OVER };
enum flight_phase flight_clock_tick(struct flight_clock *clock, const struct flight_plan *plan, uint64_t now_ns);

/* Another FLIGHT_RALLIES rallies are over: counts them, when they lie in the measured interval; false when it is over. */
bool flight_rallied(struct flight_clock *clock, const struct flight_plan *plan, struct flight_result *result);

void flight_print(const struct flight_plan *plan, const struct flight_result *result);
