/* SPDX-License-Identifier: MIT */
/* hop-queue: a hop through a queue in which one may sleep: two threads on two cores, a queue each way, messages of 64 bytes. Included by
 * one .c for each kind of queue, which defines struct hop_queue and the functions declared first.
 *
 * At once (--gap-us 0): to and fro, half of a rally's time counts; then one way as fast as it goes. With a gap the sender watches the
 * clock and sends a stamp, and the other side has fallen asleep in its queue. --spin-us says how long a side looks before it sleeps. */
#pragma once

#include "perf/flight.h"
#include "perf/option.h"
#include "perf/process.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define HOP_LOOK 1024u /* messages from one look at the clock to the next */
#define HOP_END  UINT64_MAX

struct hop_message {
    uint64_t number; /* or a stamp; HOP_END: that was the last */
    uint64_t rest[7];
};

struct hop_queue;
/* Ends the program when it cannot. */
static struct hop_queue *hop_queue_create(void);
static void hop_queue_destroy(struct hop_queue *queue);
/* Waits for room. */
static void hop_queue_put(struct hop_queue *queue, const struct hop_message *message);
/* Looks for spin_ns, then sleeps until there is one. */
static void hop_queue_take(struct hop_queue *queue, struct hop_message *message, uint64_t spin_ns);

enum { HOP_SPIN = 256 };

struct hop {
    struct flight_plan plan;
    struct flight_result result;
    uint64_t spin_ns;
    struct hop_queue *there, *back;
    uint64_t lost_count; /* messages out of order */
    uint64_t stream_count, stream_ns;
    alignas(64) _Atomic uint64_t answered_count; /* with a gap: what has arrived */
};

/* --- at once --- */

static void hop_serve(struct hop *hop)
{
    struct flight_clock clock = {0};
    struct hop_message message = {.number = 0}, answer;
    bool more = true;
    while (more) {
        for (uint32_t i = 0; i < FLIGHT_RALLIES; i++) {
            message.number++;
            hop_queue_put(hop->there, &message);
            hop_queue_take(hop->back, &answer, hop->spin_ns);
            hop->lost_count += answer.number != message.number;
        }
        more = flight_rallied(&clock, &hop->plan, &hop->result);
    }
    message.number = HOP_END;
    hop_queue_put(hop->there, &message);
    hop_queue_take(hop->back, &answer, hop->spin_ns);
}

static void hop_return(struct hop *hop)
{
    struct hop_message message = {.number = 0};
    while (message.number != HOP_END) {
        hop_queue_take(hop->there, &message, hop->spin_ns);
        hop_queue_put(hop->back, &message);
    }
}

static void hop_pour(struct hop *hop)
{
    struct flight_clock clock = {0};
    struct hop_message message = {.number = 0};
    while (flight_clock_tick(&clock, &hop->plan, process_now_ns()) != FLIGHT_OVER)
        for (uint32_t i = 0; i < HOP_LOOK; i++) {
            message.number++;
            hop_queue_put(hop->there, &message);
        }
    message.number = HOP_END;
    hop_queue_put(hop->there, &message);
}

static void hop_drink(struct hop *hop)
{
    struct flight_clock clock = {0};
    struct hop_message message;
    uint64_t expected = 0, from = 0, from_ns = 0;
    for (;;) {
        hop_queue_take(hop->there, &message, hop->spin_ns);
        if (message.number == HOP_END)
            return;
        hop->lost_count += message.number != ++expected;
        if (message.number % HOP_LOOK != 0)
            continue;
        uint64_t now_ns = process_now_ns();
        if (flight_clock_tick(&clock, &hop->plan, now_ns) != FLIGHT_MEASURE)
            continue;
        if (from == 0) {
            from = message.number;
            from_ns = now_ns;
        }
        hop->stream_count = message.number - from;
        hop->stream_ns = now_ns - from_ns;
    }
}

/* --- with a gap --- */

static void hop_send_stamps(struct hop *hop)
{
    struct flight_clock clock = {0};
    struct hop_message message = {.number = 0};
    uint64_t sent_count = 0, seen_ns = process_now_ns();
    for (;;) {
        uint64_t now_ns = process_now_ns();
        if (now_ns - seen_ns < hop->plan.gap_ns)
            continue;
        if (flight_clock_tick(&clock, &hop->plan, now_ns) == FLIGHT_OVER)
            break;
        message.number = process_now_ns();
        hop_queue_put(hop->there, &message);
        sent_count++;
        while (atomic_load_explicit(&hop->answered_count, memory_order_acquire) != sent_count)
            ;
        seen_ns = process_now_ns();
    }
    message.number = HOP_END;
    hop_queue_put(hop->there, &message);
}

static void hop_take_stamps(struct hop *hop)
{
    struct flight_clock clock = {0};
    struct hop_message message;
    for (;;) {
        hop_queue_take(hop->there, &message, hop->spin_ns);
        uint64_t now_ns = process_now_ns();
        if (message.number == HOP_END)
            return;
        if (flight_clock_tick(&clock, &hop->plan, now_ns) == FLIGHT_MEASURE) {
            histogram_record(&hop->result.flights, now_ns - message.number);
            hop->result.elapsed_ns = now_ns - clock.measure_from_ns;
            hop->result.hops++;
        }
        atomic_fetch_add_explicit(&hop->answered_count, 1, memory_order_release);
    }
}

/* --- the program --- */

static void *hop_other_side(void *argument)
{
    struct hop *hop = argument;
    flight_pin(hop->plan.cores[1]);
    if (hop->plan.gap_ns > 0) {
        hop_take_stamps(hop);
        return NULL;
    }
    hop_return(hop);
    hop_drink(hop);
    return NULL;
}

static error_t hop_parse(int key, char *text, struct argp_state *state)
{
    struct hop *hop = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &hop->plan;
        return 0;
    case HOP_SPIN:
        hop->spin_ns = option_count(state, "--spin-us", text, 0, 1000000) * 1000;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int hop_main(int argc, char **argv, const char *way, const char *help)
{
    static struct hop hop;
    static const struct argp_option options[] = {
        {"spin-us", HOP_SPIN, "US", 0, "look for a message so long before sleeping; 0: sleep at once (200)", 1},
        {0},
    };
    const struct argp_child children[] = {{.argp = &flight_argp}, {0}};
    const struct argp argp = {.options = options, .doc = help, .children = children, .parser = hop_parse};
    pthread_t other;
    argp_err_exit_status = 2;
    hop.spin_ns = 200000;
    if (!flight_plan_init(&hop.plan))
        return 1;
    argp_parse(&argp, argc, argv, 0, NULL, &hop);
    hop.result.tool = "hop";
    hop.result.way = way;
    hop.result.spin_ns = hop.spin_ns;
    hop.result.messages_per_second = hop.result.wakes = hop.result.sleeps = hop.result.late_finds = -1;
    hop.there = hop_queue_create();
    hop.back = hop_queue_create();
    if (pthread_create(&other, NULL, hop_other_side, &hop) != 0) {
        fprintf(stderr, "no thread for the other side\n");
        return 1;
    }
    flight_pin(hop.plan.cores[0]);
    if (hop.plan.gap_ns > 0) {
        hop_send_stamps(&hop);
    } else {
        hop_serve(&hop);
        hop_pour(&hop);
    }
    pthread_join(other, NULL);
    if (hop.plan.gap_ns == 0 && hop.stream_ns > 0)
        hop.result.messages_per_second = (double)hop.stream_count * 1e9 / (double)hop.stream_ns;
    hop_queue_destroy(hop.back);
    hop_queue_destroy(hop.there);
    flight_print(&hop.plan, &hop.result);
    if (hop.lost_count > 0)
        fprintf(stderr, "%llu messages did not come in order\n", (unsigned long long)hop.lost_count);
    return hop.lost_count > 0 || hop.result.hops == 0;
}
