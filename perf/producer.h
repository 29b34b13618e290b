/* SPDX-License-Identifier: MIT */
/* producer: one of the threads that share the connections: makes its messages, keeps its pace, and times its sends.
 *
 *     producer_ready(producer);                                    // all begin together
 *     while ((frames = producer_next(producer)) != NULL) {
 *         ...send producer->batch_count frames on connection producer->connection...
 *         producer_sent(producer, ...how many of them found no room...);
 *     }
 *
 * What is between the two is what is measured, so the two are inline, and at full speed neither reads the clock. */
#pragma once

#include "histogram.h"
#include "message.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crew;

struct producer {
    struct crew *crew;
    const atomic_bool *stopping;
    uint8_t *frames; /* batch_count of them */
    uint32_t number;
    uint32_t batch_count; /* messages that are sent together */
    uint32_t message_bytes;
    uint32_t frame_bytes;
    uint32_t connection; /* whose turn it is: each batch goes on the next */
    uint32_t connection_count;
    uint64_t sequence;      /* of the first message in `frames` */
    uint64_t countdown;     /* batches until the next that needs the clock; UINT64_MAX: none does */
    uint64_t began_ns;      /* not 0 exactly while a send is timed */
    bool stamped;           /* true exactly when `frames` bear stamps */
    uint64_t interval_ns;   /* 0: as fast as it goes */
    uint64_t due_ns;        /* when the next batch is */
    uint64_t refused_count; /* messages that found no room, and are lost; their numbers are used up */
    pthread_t thread;
    struct histogram calls;                       /* how long sends took, of those timed */
    _Alignas(64) atomic_uint_fast64_t sent_count; /* messages accepted; read by others */
};

/* One batch in so many is timed when there is no rate. */
#define PRODUCER_TIMED_EVERY 64

bool producer_init(struct producer *producer, struct crew *crew, uint32_t number);
void producer_finish(struct producer *producer);

/* Waits until all are ready and the clock starts. Once, on the producer's thread. */
void producer_ready(struct producer *producer);

/* The rare roads of the two below. */
void producer_clock(struct producer *producer);
void producer_timed(struct producer *producer);

/* The next batch, numbered, as frames; NULL: it is over. */
static inline const uint8_t *producer_next(struct producer *producer)
{
    if (atomic_load_explicit(producer->stopping, memory_order_relaxed))
        return NULL;
    uint8_t *frame = producer->frames;
    for (uint32_t i = 0; i < producer->batch_count; i++) {
        message_put(frame, MESSAGE_SEQUENCE_AT, producer->sequence + i);
        frame += producer->frame_bytes;
    }
    if (producer->countdown-- == 0)
        producer_clock(producer);
    return producer->frames;
}

/* That batch was accepted, but for so many of its messages. */
static inline void producer_sent(struct producer *producer, uint32_t refused_count)
{
    producer->sequence += producer->batch_count;
    producer->refused_count += refused_count;
    if (++producer->connection == producer->connection_count)
        producer->connection = 0;
    atomic_store_explicit(&producer->sent_count, producer->sequence - producer->refused_count, memory_order_relaxed);
    if (producer->began_ns != 0)
        producer_timed(producer);
}
