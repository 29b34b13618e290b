/* SPDX-License-Identifier: MIT */
/* fanin-mutex: the fan-in with a lock: whoever has something to say takes the connection's mutex and sends. One send for each batch. It
 * cannot tell that there is no room: who waits for a peer holds the mutex meanwhile. */
#include "perf/crew.h"

#include <stdlib.h>

struct line {
    _Alignas(64) pthread_mutex_t mutex;
    int socket;         /* sent on under the mutex */
    atomic_ulong sends; /* written under the mutex */
};

static struct line *lines;

static void mutex_open(struct crew *crew)
{
    uint32_t count = crew->plan.connection_count;
    crew_connect(crew);
    lines = aligned_alloc(_Alignof(struct line), count * sizeof *lines);
    if (lines == NULL)
        crew_die(crew, "no memory", 0);
    for (uint32_t i = 0; i < count; i++) {
        pthread_mutex_init(&lines[i].mutex, NULL);
        lines[i].socket = crew->sockets[i];
        atomic_init(&lines[i].sends, 0);
    }
}

static void mutex_produce(struct producer *producer)
{
    const uint8_t *frames;
    size_t bytes = (size_t)producer->frame_bytes * producer->batch_count;
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        struct line *line = &lines[producer->connection];
        pthread_mutex_lock(&line->mutex);
        crew_send(producer->crew, line->socket, frames, bytes);
        atomic_store_explicit(&line->sends, atomic_load_explicit(&line->sends, memory_order_relaxed) + 1, memory_order_relaxed);
        pthread_mutex_unlock(&line->mutex);
        producer_sent(producer, 0);
    }
}

static uint64_t mutex_sends(struct crew *crew)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < crew->plan.connection_count; i++)
        count += atomic_load_explicit(&lines[i].sends, memory_order_relaxed);
    return count;
}

static void mutex_close(struct crew *crew)
{
    crew_hang_up(crew);
    free(lines);
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {.name = "mutex",
                                          .ways = {"mutex"},
                                          .help = "P threads share connections: each sends on one behind its mutex.",
                                          .open = mutex_open,
                                          .produce = mutex_produce,
                                          .sends = mutex_sends,
                                          .close = mutex_close};
    return crew_main(argc, argv, &side);
}
