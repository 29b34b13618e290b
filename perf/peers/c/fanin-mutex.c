/* SPDX-License-Identifier: MIT */
/* fanin-mutex: the fan-in with a lock: whoever has something to say takes the mutex and sends. One send for each batch. */
#include "perf/crew.h"

#include <sys/socket.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int connection;     /* under the mutex */
static atomic_ulong sends; /* written under the mutex */

static void mutex_open(struct crew *crew)
{
    connection = crew_connect(crew);
}

static void mutex_produce(struct producer *producer)
{
    const uint8_t *frames;
    size_t bytes = (size_t)producer->frame_bytes * producer->batch_count;
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        pthread_mutex_lock(&mutex);
        crew_send(producer->crew, connection, frames, bytes);
        atomic_store_explicit(&sends, atomic_load_explicit(&sends, memory_order_relaxed) + 1, memory_order_relaxed);
        pthread_mutex_unlock(&mutex);
        producer_sent(producer);
    }
}

static uint64_t mutex_sends(struct crew *crew)
{
    (void)crew;
    return atomic_load_explicit(&sends, memory_order_relaxed);
}

static void mutex_close(struct crew *crew)
{
    (void)crew;
    close(connection);
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {.name = "fanin-mutex",
                                          .help = "P threads send on one connection, one after the other behind a mutex.",
                                          .open = mutex_open,
                                          .produce = mutex_produce,
                                          .sends = mutex_sends,
                                          .close = mutex_close};
    return crew_main(argc, argv, &side);
}
