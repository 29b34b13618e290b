/* SPDX-License-Identifier: MIT */
/* fanin-blast: what one connection carries: one thread sends the same 64 KiB of ready-made frames again and again. Nothing that makes its
 * messages one by one can be faster. The frames all bear the same numbers, so only a sink that drops can take them. */
#include "perf/crew.h"

#define BLAST_BYTES 65536

static void blast_open(struct crew *crew)
{
    if (crew->plan.check || crew->plan.latency || crew->plan.refuse || crew->plan.rate > 0)
        crew_die(crew, "wants neither --check nor --latency, --refuse or --rate", 0);
    crew_connect(crew);
}

static void blast_produce(struct producer *producer)
{
    size_t bytes = (size_t)producer->frame_bytes * producer->batch_count;
    producer_ready(producer);
    while (!atomic_load_explicit(producer->stopping, memory_order_relaxed)) {
        crew_send(producer->crew, producer->crew->sockets[0], producer->frames, bytes);
        producer_sent(producer, 0);
    }
}

static uint64_t blast_sends(struct crew *crew)
{
    return atomic_load_explicit(&crew->producers[0].sent_count, memory_order_relaxed) / crew->plan.batch_count;
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {.name = "blast",
                                          .ways = {"blast"},
                                          .help = "One thread sends 64 KiB of ready-made frames at once: the limit of one connection.",
                                          .batch_bytes = BLAST_BYTES,
                                          .alone = true,
                                          .open = blast_open,
                                          .produce = blast_produce,
                                          .sends = blast_sends,
                                          .close = crew_hang_up};
    return crew_main(argc, argv, &side);
}
