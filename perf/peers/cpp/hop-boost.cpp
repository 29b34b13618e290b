/* SPDX-License-Identifier: MIT */
/* hop-boost: Boost's lockfree::spsc_queue of 64-byte elements, its room known when it is compiled, between two spinning threads: what
 * weir's own ring (`weir-perf ring`) and a hop between two of its shards (`weir-perf hop`) are measured against, as hop-ck. */
#include "perf/rally.h"

#include <boost/lockfree/spsc_queue.hpp>
#include <new>

struct rally_ring {
    boost::lockfree::spsc_queue<rally_message, boost::lockfree::capacity<RALLY_RING_BYTES / sizeof(rally_message)>> queue;
};

static rally_ring *rally_ring_create()
{
    return new (std::nothrow) rally_ring();
}

static void rally_ring_destroy(rally_ring *ring)
{
    delete ring;
}

static inline bool rally_ring_put(rally_ring *ring, rally_message *message)
{
    return ring->queue.push(*message);
}

static inline bool rally_ring_take(rally_ring *ring, rally_message *message)
{
    return ring->queue.pop(*message);
}

int main(int argc, char **argv)
{
    argp_err_exit_status = 2;
    return rally_main(argc, argv, "boost", "Measures Boost's lockfree::spsc_queue between two threads, 64 bytes a message.");
}
