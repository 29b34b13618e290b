/* SPDX-License-Identifier: MIT */
/* fanin-blast: what one connection carries: one thread sends the same 64 KiB of ready-made frames again and again. Nothing that makes its
 * messages one by one can be faster. The frames all bear the same numbers, so only a sink that drops can take them. */
#include "perf/crew.h"

#include <sys/socket.h>
#include <unistd.h>

#define BLAST_FRAMES (65536 / (64 + MESSAGE_HEAD_BYTES))

static int connection;

static void blast_open(struct crew *crew)
{
    if (crew->plan.producer_count != 1 || crew->plan.check || crew->plan.latency || crew->plan.rate > 0)
        crew_die(crew, "wants --producers 1, and neither --check nor --latency nor --rate", 0);
    connection = crew_connect(crew);
}

static void blast_produce(struct producer *producer)
{
    size_t bytes = (size_t)producer->frame_bytes * producer->batch_count;
    producer_ready(producer);
    while (!atomic_load_explicit(producer->stopping, memory_order_relaxed)) {
        crew_send(producer->crew, connection, producer->frames, bytes);
        producer_sent(producer);
    }
}

static uint64_t blast_sends(struct crew *crew)
{
    return atomic_load_explicit(&crew->producers[0].sent_count, memory_order_relaxed) / BLAST_FRAMES;
}

static void blast_close(struct crew *crew)
{
    (void)crew;
    close(connection);
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {.name = "fanin-blast",
                                          .help = "One thread sends 64 KiB of ready-made frames at once: the limit of one connection.",
                                          .fixed_batch = BLAST_FRAMES,
                                          .fixed_bytes = true,
                                          .open = blast_open,
                                          .produce = blast_produce,
                                          .sends = blast_sends,
                                          .close = blast_close};
    return crew_main(argc, argv, &side);
}
