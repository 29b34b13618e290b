/* SPDX-License-Identifier: MIT */
/* producer: see producer.h. */
#include "producer.h"

#include "crew.h"
#include "process.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

bool producer_init(struct producer *producer, struct crew *crew, uint32_t number)
{
    const struct crew_plan *plan = &crew->plan;
    *producer = (struct producer){
        .crew = crew,
        .stopping = &crew->stopping,
        .number = number,
        .batch_count = plan->batch_count,
        .message_bytes = plan->message_bytes,
        .frame_bytes = MESSAGE_HEAD_BYTES + plan->message_bytes,
        .connection_count = plan->connection_count,
        .countdown = plan->rate > 0 || plan->latency ? 0 : UINT64_MAX,
    };
    if (plan->rate > 0)
        producer->interval_ns = (uint64_t)(1e9 * plan->batch_count * plan->producer_count / (double)plan->rate);
    producer->frames = malloc((size_t)plan->batch_count * producer->frame_bytes);
    if (producer->frames == NULL)
        return false;
    for (uint32_t i = 0; i < plan->batch_count; i++)
        message_make(producer->frames + (size_t)i * producer->frame_bytes, number, plan->message_bytes);
    return true;
}

void producer_finish(struct producer *producer)
{
    free(producer->frames);
    producer->frames = NULL;
}

void producer_ready(struct producer *producer)
{
    struct crew *crew = producer->crew;
    pthread_barrier_wait(&crew->ready);
    pthread_barrier_wait(&crew->started);
    /* Their moments are spread evenly over the interval that all have. */
    producer->due_ns = crew->began_ns + producer->interval_ns * producer->number / crew->plan.producer_count;
}

static void producer_stamp(struct producer *producer, uint64_t stamp_ns)
{
    for (uint32_t i = 0; i < producer->batch_count; i++)
        message_put(producer->frames + (size_t)i * producer->frame_bytes, MESSAGE_STAMP_AT, stamp_ns);
    producer->stamped = stamp_ns != 0;
}

void producer_clock(struct producer *producer)
{
    if (producer->interval_ns == 0 && producer->stamped) { /* the one behind a timed one: not timed */
        producer_stamp(producer, 0);
        producer->countdown = PRODUCER_TIMED_EVERY - 2;
        return;
    }
    producer->countdown = 0;
    if (producer->interval_ns > 0) {
        struct timespec due = {.tv_sec = (time_t)(producer->due_ns / 1000000000u), .tv_nsec = (long)(producer->due_ns % 1000000000u)};
        if (process_now_ns() < producer->due_ns)
            while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
                ;
        producer->due_ns += producer->interval_ns;
    }
    producer->began_ns = process_now_ns();
    producer_stamp(producer, producer->began_ns);
}

void producer_timed(struct producer *producer)
{
    uint64_t call_ns = process_now_ns() - producer->began_ns;
    producer->began_ns = 0;
    if (atomic_load_explicit(&producer->crew->measuring, memory_order_relaxed))
        histogram_record(&producer->calls, call_ns);
}
