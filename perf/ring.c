/* SPDX-License-Identifier: MIT */
/* ring: the command `weir-perf ring`: weir's bare ring (runtime/spsc.h) between two spinning threads, measured by the program that measures
 * Concurrency Kit's (peers/c/hop-ck.c). Each message is published by itself; the reader releases what one look has shown it together. */
#include "command.h"
#include "perf/rally.h"
#include "runtime/spsc.h"

#include <string.h>

#include <weir/base.h>

struct rally_ring {
    struct w_spsc ring;
    alignas(64) uint8_t data[RALLY_RING_BYTES];
};

/* What the runtime's asserts call: the library keeps its own to itself. */
_Noreturn void w_base_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, condition);
    abort();
}

static struct rally_ring *rally_ring_create(void)
{
    struct rally_ring *ring = aligned_alloc(64, sizeof *ring);
    if (ring == NULL)
        return NULL;
    memset(ring, 0, sizeof *ring);
    w_spsc_init(&ring->ring, ring->data, RALLY_RING_BYTES);
    return ring;
}

static void rally_ring_destroy(struct rally_ring *ring)
{
    free(ring);
}

static inline bool rally_ring_put(struct rally_ring *ring, struct rally_message *message)
{
    uint8_t *room = w_spsc_reserve(&ring->ring, sizeof *message);
    if (room == NULL)
        return false;
    memcpy(room, message, sizeof *message);
    w_spsc_commit(&ring->ring, room, sizeof *message);
    w_spsc_publish(&ring->ring);
    return true;
}

static inline bool rally_ring_take(struct rally_ring *ring, struct rally_message *message)
{
    const uint8_t *piece = w_spsc_piece(&ring->ring);
    if (piece == NULL) {
        if (!w_spsc_look(&ring->ring))
            return false;
        piece = w_spsc_piece(&ring->ring);
    }
    memcpy(message, piece, sizeof *message);
    w_spsc_next(&ring->ring, sizeof *message);
    if (ring->ring.read == ring->ring.tail_seen)
        w_spsc_release_read(&ring->ring);
    return true;
}

int ring_command(int argc, char **argv)
{
    return rally_main(
        argc, argv, "spsc",
        "Measures weir's ring between two threads, 64 bytes a message.\v"
        "Use it to see what of a hop is the ring's and what the shards'; `weir-perf hop` has both. There is nothing to connect to: "
        "it is memory that two threads share.\n\n"
        "The exit code is 0 when all messages came in order, 1 when not, 2 when an option is wrong.");
}
