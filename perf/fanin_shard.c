/* SPDX-License-Identifier: MIT */
/* fanin_shard: `weir-perf fanin --way shard`: the shard that has the connections sends what P producers have to say, in its turns, as
 * handlers do.
 *
 * It is turned on a thread of ours (weir_turn), so that between turns it can sleep until the next message is due: weir's timers are for
 * time limits, a millisecond coarse. The producers' threads only wait.
 *
 * Road:    a turn runs the step → each producer whose time it is sends a batch → a full turn's worth, or nobody has more → what is queued
 *          goes out → at full speed the next turn has the next step; else sleep until somebody is due or a connection is ready.
 * Ditches: no room → the producer waits for on_ready in the middle of its batch, or with --refuse drops what is left of it. */
#include "fanin.h"

#include "process.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <weir/weir.h>

/* Some 2 ms of work: with many connections fewer make small batches (4,096 over 16 connections: a sixth less). */
#define FANIN_SHARD_TURN_MESSAGES 65536u

/* A producer, as the shard sees it. */
struct fanin_voice {
    struct producer *producer;
    const uint8_t *frames; /* not NULL exactly while a batch is begun */
    uint32_t sent_count;   /* of it */
    bool over;
};

static struct {
    struct fanin_voice *voices; /* one for each producer */
    bool *full;                 /* of each connection: true from an -EAGAIN to its on_ready */
    atomic_uint ready_count;
    sem_t over;      /* posted for each producer when all are */
    bool speaking;   /* true from when all are ready until all are over */
    bool posted;     /* true exactly when a step will be run by the next turn */
    uint64_t due_ns; /* when somebody who could send wants to; WEIR_FOREVER: nobody can */
} fanin_shard;

void fanin_shard_open(void)
{
    fanin_shard.voices = fanin_array(fanin.crew->plan.producer_count, sizeof *fanin_shard.voices);
    fanin_shard.full = fanin_array(fanin.crew->plan.connection_count, sizeof *fanin_shard.full);
    sem_init(&fanin_shard.over, 0, 0);
}

void fanin_shard_close(void)
{
    free(fanin_shard.voices);
    free(fanin_shard.full);
}

/* --- a step --- */

static uint64_t fanin_voice_due(const struct fanin_voice *voice)
{
    const struct producer *producer = voice->producer;
    if (voice->over || fanin_shard.full[producer->connection])
        return WEIR_FOREVER;
    return voice->frames != NULL || producer->interval_ns == 0 ? 0 : producer->due_ns;
}

/* Sends one batch, or what is left of one; how many messages it tried. */
static uint32_t fanin_voice_send(weir_shard *shard, struct fanin_voice *voice)
{
    struct producer *producer = voice->producer;
    uint32_t connection = producer->connection;
    uint32_t tried_count = 0;
    if (voice->frames == NULL && (voice->frames = producer_next(producer)) == NULL) {
        voice->over = true;
        return 0;
    }
    weir_conn *conn = weir_find(shard, fanin.ids[connection]);
    int result = conn == NULL ? -ESTALE : 0;
    while (result == 0 && voice->sent_count < producer->batch_count) {
        const uint8_t *frame = voice->frames + (size_t)voice->sent_count * producer->frame_bytes;
        result = weir_send(conn, frame + MESSAGE_HEAD_BYTES, producer->message_bytes);
        voice->sent_count += result == 0;
        tried_count++;
    }
    if (result != 0 && result != -EAGAIN)
        fanin_die("weir_send", result);
    if (result == -EAGAIN && !fanin.crew->plan.refuse) {
        fanin_shard.full[connection] = true;
        return tried_count;
    }
    producer_sent(producer, producer->batch_count - voice->sent_count);
    voice->frames = NULL;
    voice->sent_count = 0;
    return tried_count;
}

static void fanin_shard_post(weir_shard *shard);

/* Inside a turn. */
static void fanin_shard_step(weir_shard *shard, void *unused)
{
    uint32_t count = fanin.crew->plan.producer_count;
    uint32_t tried_count = 0, sent_count, over_count = 0;
    uint64_t now_ns = process_now_ns();
    (void)unused;
    fanin_shard.posted = false;
    do {
        sent_count = 0;
        for (uint32_t i = 0; i < count; i++)
            if (fanin_voice_due(&fanin_shard.voices[i]) <= now_ns)
                sent_count += fanin_voice_send(shard, &fanin_shard.voices[i]);
        tried_count += sent_count;
    } while (sent_count > 0 && tried_count < FANIN_SHARD_TURN_MESSAGES);
    fanin_shard.due_ns = WEIR_FOREVER;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t due_ns = fanin_voice_due(&fanin_shard.voices[i]);
        over_count += fanin_shard.voices[i].over;
        fanin_shard.due_ns = due_ns < fanin_shard.due_ns ? due_ns : fanin_shard.due_ns;
    }
    fanin_shard.speaking = over_count < count;
    for (uint32_t i = 0; i < count && !fanin_shard.speaking; i++)
        sem_post(&fanin_shard.over);
    if (fanin_shard.due_ns <= now_ns)
        fanin_shard_post(shard);
}

static void fanin_shard_post(weir_shard *shard)
{
    if (fanin_shard.posted)
        return;
    int result = weir_post(weir_shard_port(shard), shard, fanin_shard_step, NULL);
    if (result != 0)
        fanin_die("weir_post", result);
    fanin_shard.posted = true;
}

void fanin_shard_on_ready(weir_conn *conn)
{
    fanin_shard.full[(uintptr_t)weir_conn_user(conn)] = false;
    if (fanin_shard.speaking)
        fanin_shard_post(weir_conn_shard(conn));
}

/* --- the threads --- */

static void fanin_shard_begin(weir_shard *shard, void *unused)
{
    (void)unused;
    fanin_shard.speaking = true;
    fanin_shard_post(shard);
}

void fanin_shard_produce(struct producer *producer)
{
    fanin_shard.voices[producer->number].producer = producer;
    producer_ready(producer);
    /* The last that is ready has the main thread's port, which that does not use meanwhile. */
    if (atomic_fetch_add(&fanin_shard.ready_count, 1) + 1 == producer->crew->plan.producer_count) {
        int result = weir_post(fanin.main_port, weir_shard_at(fanin.runtime, 0), fanin_shard_begin, NULL);
        if (result != 0)
            fanin_die("weir_post", result);
    }
    while (sem_wait(&fanin_shard.over) != 0 && errno == EINTR)
        ;
}

void *fanin_shard_run(void *unused)
{
    weir_shard *shard = weir_shard_at(fanin.runtime, 0);
    struct pollfd bell = {.fd = weir_turn_descriptor(shard), .events = POLLIN};
    uint64_t sleep_ns;
    int result;
    (void)unused;
    if (bell.fd < 0)
        fanin_die("weir_turn_descriptor", bell.fd);
    while ((result = weir_turn(shard, &sleep_ns)) == 0) {
        bool waits = fanin_shard.speaking && !fanin_shard.posted && fanin_shard.due_ns != WEIR_FOREVER;
        uint64_t now_ns = waits ? process_now_ns() : 0;
        uint64_t left_ns = !waits ? WEIR_FOREVER : fanin_shard.due_ns > now_ns ? fanin_shard.due_ns - now_ns : 0;
        uint64_t rest_ns = left_ns < sleep_ns ? left_ns : sleep_ns;
        struct timespec rest = {.tv_sec = (time_t)(rest_ns / WEIR_SECOND), .tv_nsec = (long)(rest_ns % WEIR_SECOND)};
        if (rest_ns > 0)
            ppoll(&bell, 1, rest_ns == WEIR_FOREVER ? NULL : &rest, NULL);
        if (waits && process_now_ns() >= fanin_shard.due_ns)
            fanin_shard_post(shard);
    }
    if (result != -ESHUTDOWN)
        fanin_die("weir_turn", result);
    return NULL;
}
