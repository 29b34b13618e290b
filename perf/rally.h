/* SPDX-License-Identifier: MIT */
/* rally: two threads on two cores, a ring each way between them, messages of 64 bytes: how long does one take, and how many go one way in a
 * second? Both sides spin. All in this header, which is included by one .c or .cpp for each kind of ring, so that any two are measured by
 * the same program and what is called for a message is inlined. That file defines struct rally_ring and the four functions declared
 * first. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif
#include "perf/flight.h"
#include "perf/process.h"
#ifdef __cplusplus
}
#endif

#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

#define RALLY_RING_BYTES 65536u
#define RALLY_LOOK       1024u /* messages from one look at the clock to the next */
#define RALLY_END        UINT64_MAX

struct rally_message {
    alignas(64) uint64_t number; /* RALLY_END: that was the last */
    uint64_t rest[7];
};

struct rally_ring;
/* A ring with room for RALLY_RING_BYTES of messages, or NULL. */
static struct rally_ring *rally_ring_create(void);
static void rally_ring_destroy(struct rally_ring *ring);
/* Puts and publishes a copy; false: full. */
static inline bool rally_ring_put(struct rally_ring *ring, struct rally_message *message);
/* Copies the next one out; false: empty. */
static inline bool rally_ring_take(struct rally_ring *ring, struct rally_message *message);

struct rally {
    struct flight_plan plan;
    struct flight_result *result;
    struct rally_ring *there, *back;
    uint64_t lost_count;              /* messages that came out of order */
    uint64_t stream_count, stream_ns; /* taken in the measured interval, and how long that was */
};

static inline void rally_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The compiler is not to know that only the number of a message is looked at. */
static inline void rally_use(struct rally_message *message)
{
    __asm__ volatile("" : : "r"(message) : "memory");
}

static inline void rally_put(struct rally_ring *ring, struct rally_message *message)
{
    rally_use(message);
    while (!rally_ring_put(ring, message))
        rally_pause();
}

static inline void rally_take(struct rally_ring *ring, struct rally_message *message)
{
    while (!rally_ring_take(ring, message))
        rally_pause();
    rally_use(message);
}

/* --- to and fro --- */

static void rally_serve(struct rally *rally)
{
    struct flight_clock clock = {0};
    struct rally_message message = {.number = 0}, answer;
    bool more = true;
    while (more) {
        for (uint32_t i = 0; i < FLIGHT_RALLIES; i++) {
            message.number++;
            rally_put(rally->there, &message);
            rally_take(rally->back, &answer);
            rally->lost_count += answer.number != message.number;
        }
        more = flight_rallied(&clock, &rally->plan, rally->result);
    }
    message.number = RALLY_END;
    rally_put(rally->there, &message);
    rally_take(rally->back, &answer); /* the other side has seen the end, and waits for what is poured */
}

static void rally_return(struct rally *rally)
{
    struct rally_message message;
    for (;;) {
        rally_take(rally->there, &message);
        rally_put(rally->back, &message);
        if (message.number == RALLY_END)
            return;
    }
}

/* --- one way --- */

static void rally_pour(struct rally *rally)
{
    struct flight_clock clock = {0};
    struct rally_message message = {.number = 0};
    while (flight_clock_tick(&clock, &rally->plan, process_now_ns()) != FLIGHT_OVER)
        for (uint32_t i = 0; i < RALLY_LOOK; i++) {
            message.number++;
            rally_put(rally->there, &message);
        }
    message.number = RALLY_END;
    rally_put(rally->there, &message);
}

static void rally_drink(struct rally *rally)
{
    struct flight_clock clock = {0};
    struct rally_message message;
    uint64_t expected = 0, from = 0, from_ns = 0;
    for (;;) {
        rally_take(rally->there, &message);
        if (message.number == RALLY_END)
            return;
        rally->lost_count += message.number != ++expected;
        if (message.number % RALLY_LOOK != 0)
            continue;
        uint64_t now_ns = process_now_ns();
        if (flight_clock_tick(&clock, &rally->plan, now_ns) != FLIGHT_MEASURE)
            continue;
        if (from == 0) {
            from = message.number;
            from_ns = now_ns;
        }
        rally->stream_count = message.number - from;
        rally->stream_ns = now_ns - from_ns;
    }
}

/* --- the program --- */

static void *rally_other_side(void *argument)
{
    struct rally *rally = (struct rally *)argument;
    flight_pin(rally->plan.cores[1]);
    rally_return(rally);
    rally_drink(rally);
    return NULL;
}

static bool rally_run(struct rally *rally)
{
    pthread_t other;
    rally->there = rally_ring_create();
    rally->back = rally_ring_create();
    bool ran = rally->there != NULL && rally->back != NULL && pthread_create(&other, NULL, rally_other_side, rally) == 0;
    if (ran) {
        flight_pin(rally->plan.cores[0]);
        rally_serve(rally);
        rally_pour(rally);
        pthread_join(other, NULL);
        rally->result->messages_per_second = rally->stream_ns == 0 ? 0 : (double)rally->stream_count * 1e9 / (double)rally->stream_ns;
    } else {
        fprintf(stderr, "no memory or no thread for a ring\n");
    }
    rally_ring_destroy(rally->back);
    rally_ring_destroy(rally->there);
    return ran;
}

static error_t rally_parse(int key, char *text, struct argp_state *state)
{
    (void)text;
    if (key != ARGP_KEY_INIT)
        return ARGP_ERR_UNKNOWN;
    state->child_inputs[0] = state->input;
    return 0;
}

static inline int rally_main(int argc, char **argv, const char *way, const char *help)
{
    static struct flight_result result;
    struct rally rally = {.result = &result};
    const struct argp_child children[] = {{.argp = &flight_argp}, {0}};
    const struct argp argp = {.parser = rally_parse, .doc = help, .children = children};
    result = (struct flight_result){.tool = "ring", .way = way, .wakes = -1, .sleeps = -1, .late_finds = -1};
    if (!flight_plan_init(&rally.plan))
        return 1;
    argp_parse(&argp, argc, argv, 0, NULL, &rally.plan);
    if (!rally_run(&rally))
        return 1;
    flight_print(&rally.plan, &result);
    if (rally.lost_count > 0)
        fprintf(stderr, "%llu messages did not come in order\n", (unsigned long long)rally.lost_count);
    return rally.lost_count > 0;
}
