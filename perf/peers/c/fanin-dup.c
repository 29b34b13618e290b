/* SPDX-License-Identifier: MIT */
/* fanin-dup: the fan-in by copies of the descriptor (dup), as a program does it that "just clones the stream": each producer has copies
 * of its own and writes its frames with no word to the others. A write that comes back short is continued.
 *
 * A blocking write into a full socket waits in the kernel, and there it lets go of the socket's lock: another's write may come in between.
 * So frames are whole as long as the peer is fast, and torn when it is slow (weir-perf sink --slow-bps).
 *
 * --way split: one producer alone writes, on one copy, and a reader waits on the other: two that never do the same need no word. */
#include "perf/crew.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int *copies; /* of producer p and connection c: at p * connection_count + c */
static pthread_t reader;

/* Reads what the sink says: nothing, and then its end. */
static void *reader_run(void *argument)
{
    const struct crew *crew = argument;
    char bytes[4096];
    ssize_t count;
    while ((count = recv(crew->sockets[0], bytes, sizeof bytes, 0)) > 0 || (count < 0 && errno == EINTR))
        ;
    return NULL;
}

static bool dup_splits(const struct crew *crew)
{
    return crew->plan.way == 1;
}

static void dup_open(struct crew *crew)
{
    uint32_t count = crew->plan.connection_count;
    if (dup_splits(crew) && (crew->plan.producer_count != 1 || count != 1))
        crew_die(crew, "--way split wants --producers 1 and --connections 1", 0);
    if (!drain_descriptors((crew->plan.producer_count + 1) * count))
        exit(1);
    crew_connect(crew);
    copies = calloc((size_t)crew->plan.producer_count * count, sizeof *copies);
    if (copies == NULL)
        crew_die(crew, "no memory", 0);
    for (uint32_t i = 0; i < crew->plan.producer_count * count; i++)
        if ((copies[i] = dup(crew->sockets[i % count])) < 0)
            crew_die(crew, "dup", errno);
    int error = dup_splits(crew) ? pthread_create(&reader, NULL, reader_run, crew) : 0;
    if (error != 0)
        crew_die(crew, "a thread", error);
}

static void dup_produce(struct producer *producer)
{
    const int *mine = copies + (size_t)producer->number * producer->connection_count;
    const uint8_t *frames;
    size_t bytes = (size_t)producer->frame_bytes * producer->batch_count;
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        crew_send(producer->crew, mine[producer->connection], frames, bytes);
        producer_sent(producer, 0);
    }
}

/* Each batch is one. */
static uint64_t dup_sends(struct crew *crew)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < crew->plan.producer_count; i++)
        count += atomic_load_explicit(&crew->producers[i].sent_count, memory_order_relaxed);
    return count / crew->plan.batch_count;
}

static void dup_close(struct crew *crew)
{
    for (uint32_t i = 0; i < crew->plan.producer_count * crew->plan.connection_count; i++)
        close(copies[i]);
    if (dup_splits(crew)) {
        shutdown(crew->sockets[0], SHUT_WR);
        pthread_join(reader, NULL);
    }
    crew_hang_up(crew);
    free(copies);
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {
        .name = "dup",
        .ways = {"dup", "split"},
        .help =
            "P threads share connections by dup'd descriptors, with no word between them.\v--way dup: each writes as it likes, which tears "
            "frames when the sink is slow. --way split: one writes and one reads.",
        .open = dup_open,
        .produce = dup_produce,
        .sends = dup_sends,
        .close = dup_close};
    return crew_main(argc, argv, &side);
}
