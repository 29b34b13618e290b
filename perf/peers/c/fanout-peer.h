/* SPDX-License-Identifier: MIT */
/* fanout-peer: what the publishers of the fan-out measurement share that are built on somebody else's library or server: how much may be
 * under way, and when the next message is due. Included by one .c for each, which says how a message is sent.
 *
 * As fast as it goes: the next batch is published when less than CROWD_BATCHES batches for each member have not arrived at the members
 * yet (the members say how much has). So nothing is ever dropped or cut off for being slow, and what waits has a limit. With --rate each
 * message has its time, and its stamp says when that was. */
#pragma once

#include "perf/crowd.h"
#include "perf/flight.h"
#include "perf/message.h"
#include "perf/process.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define PEER_PAUSE_NS          100000
#define PEER_SPARE_DESCRIPTORS 64u

struct peer {
    struct crowd_plan plan;
    struct crowd *crowd;
    struct crowd_result result;
    uint8_t *payload; /* of the next message */
    uint64_t published_count;
    uint64_t begun_ns;
    atomic_bool stopping;
    /* Publishes the next `count` messages: peer_number() makes each. */
    void (*publish)(struct peer *peer, uint32_t count, uint64_t stamp_ns);
    /* When nothing is to be published now; then it sleeps. */
    void (*idle)(struct peer *peer);
};

_Noreturn static void peer_die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

static void peer_init(struct peer *peer)
{
    uint8_t *message = malloc(MESSAGE_HEAD_BYTES + peer->plan.message_bytes + MESSAGE_FILLER_AT);
    if (message == NULL)
        peer_die("memory");
    message_make(message, 0, peer->plan.message_bytes);
    peer->payload = message + MESSAGE_HEAD_BYTES;
}

static void peer_finish(struct peer *peer)
{
    free(peer->payload - MESSAGE_HEAD_BYTES);
}

/* Of this process and what it starts. */
static void peer_raise_limit(uint32_t descriptors)
{
    struct rlimit limit;
    rlim_t wanted = descriptors + PEER_SPARE_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    limit.rlim_max = limit.rlim_max > wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return;
    fprintf(stderr, "%s: needs %llu descriptors, and the limit is lower (ulimit -Hn, sysctl fs.nr_open)\n", program_invocation_short_name,
            (unsigned long long)wanted);
    exit(1);
}

/* Makes peer->payload the next message. */
static void peer_number(struct peer *peer, uint64_t stamp_ns)
{
    message_put(peer->payload, MESSAGE_SEQUENCE_AT - MESSAGE_HEAD_BYTES, peer->published_count++);
    message_put(peer->payload, MESSAGE_STAMP_AT - MESSAGE_HEAD_BYTES, stamp_ns);
}

static void peer_pour(struct peer *peer)
{
    uint64_t under_way_max = (uint64_t)CROWD_BATCHES * peer->plan.batch_count * peer->plan.member_count;
    while (!atomic_load_explicit(&peer->stopping, memory_order_relaxed)) {
        if (peer->published_count * peer->plan.member_count < crowd_arrived(peer->crowd) + under_way_max)
            peer->publish(peer, peer->plan.batch_count, 0);
        else
            peer->idle(peer);
    }
}

static void peer_pace(struct peer *peer)
{
    peer->begun_ns = process_now_ns();
    while (!atomic_load_explicit(&peer->stopping, memory_order_relaxed)) {
        uint64_t due_ns = peer->begun_ns + (uint64_t)((double)peer->published_count * 1e9 / (double)peer->plan.rate);
        if (due_ns <= process_now_ns())
            peer->publish(peer, 1, due_ns);
        else
            peer->idle(peer);
    }
}

static void peer_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PEER_PAUSE_NS}, NULL);
}

static void *peer_run(void *argument)
{
    struct peer *peer = argument;
    flight_pin(peer->plan.cores[0]);
    if (peer->plan.rate > 0)
        peer_pace(peer);
    else
        peer_pour(peer);
    return NULL;
}

/* Publishes until the crowd has measured, and waits until all has arrived. */
static void peer_measure(struct peer *peer)
{
    pthread_t thread;
    errno = pthread_create(&thread, NULL, peer_run, peer);
    if (errno != 0)
        peer_die("pthread_create");
    crowd_warm_up(peer->crowd);
    crowd_measure(peer->crowd, &peer->result);
    atomic_store(&peer->stopping, true);
    pthread_join(thread, NULL);
    peer->result.published_count = peer->published_count;
    crowd_settle(peer->crowd, peer->published_count * peer->plan.member_count);
    crowd_expect_end(peer->crowd);
}

static error_t peer_parse(int key, char *text, struct argp_state *state)
{
    (void)text;
    if (key != ARGP_KEY_INIT)
        return ARGP_ERR_UNKNOWN;
    state->child_inputs[0] = state->input;
    return 0;
}

static void peer_options(struct peer *peer, int argc, char **argv, const char *help)
{
    const struct argp_child children[] = {{.argp = &crowd_argp}, {0}};
    const struct argp argp = {.parser = peer_parse, .children = children, .doc = help};
    argp_err_exit_status = 2;
    if (!crowd_plan_init(&peer->plan))
        exit(1);
    argp_parse(&argp, argc, argv, 0, NULL, &peer->plan);
    peer_init(peer);
}

static int peer_report(struct peer *peer)
{
    crowd_stop(&peer->crowd, &peer->result);
    crowd_print(&peer->plan, &peer->result);
    peer_finish(peer);
    return crowd_judge(&peer->result);
}
