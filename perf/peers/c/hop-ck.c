/* SPDX-License-Identifier: MIT */
/* hop-ck: Concurrency Kit's SPSC ring of 64-byte elements between two spinning threads: what weir's own ring (`weir-perf ring`) and a hop between
 * two of its shards (`weir-perf hop`) are measured against. */
#include "perf/rally.h"

#include <ck_ring.h>

#define RING_COUNT (RALLY_RING_BYTES / sizeof(struct rally_message))

CK_RING_PROTOTYPE(message, rally_message)

struct rally_ring {
    alignas(64) ck_ring_t ring;
    alignas(64) struct rally_message messages[RING_COUNT];
};

static struct rally_ring *rally_ring_create(void)
{
    struct rally_ring *ring = aligned_alloc(64, sizeof *ring);
    if (ring == NULL)
        return NULL;
    memset(ring, 0, sizeof *ring);
    ck_ring_init(&ring->ring, RING_COUNT);
    return ring;
}

static void rally_ring_destroy(struct rally_ring *ring)
{
    free(ring);
}

static inline bool rally_ring_put(struct rally_ring *ring, struct rally_message *message)
{
    return CK_RING_ENQUEUE_SPSC(message, &ring->ring, ring->messages, message);
}

static inline bool rally_ring_take(struct rally_ring *ring, struct rally_message *message)
{
    return CK_RING_DEQUEUE_SPSC(message, &ring->ring, ring->messages, message);
}

int main(int argc, char **argv)
{
    argp_err_exit_status = 2;
    return rally_main(argc, argv, "ck", "Measures Concurrency Kit's SPSC ring between two threads, 64 bytes a message.");
}
