/* SPDX-License-Identifier: MIT */
/* fanin-ck: the fan-in as it is built by hand from a good library: Concurrency Kit's ring for each producer, and a writer thread that
 * gathers from all of them into one buffer for each connection and sends it at once (outlet.h).
 *
 * A ring has 1,024 slots, of few producers up to 4,096 (a quarter more at 1 and 4); more slots carry no more and keep messages longer.
 *
 * Messages lie in the rings by value. They are copied into the buffer and not sent from where they lie by an iovec each: for 64 bytes
 * the copy is the faster of the two, by half and more at the batches that come about here. */
#include "outlet.h"
#include "slot.h"

#include <ck_ring.h>

#define LANE_FRAMES_LEAST 1024u /* of which one stays empty */
#define LANE_FRAMES_MOST  4096u
#define LANE_FRAMES_ALL   16384u /* of all, if they are few */

struct lane {
    struct slots slots;
    _Alignas(64) atomic_uint waiting; /* 1 exactly while the producer wants to be woken */
};

static struct lane *lanes;
static uint32_t lane_count;
static uint32_t lane_frames;
static struct outlet outlet;

/* --- the producers --- */

/* False: the ring was full, and it was not to wait. */
SLOT_INLINE bool lane_put(struct lane *lane, uint32_t most, const uint8_t *frame, uint32_t connection, bool refuse)
{
    while (!slots_put(&lane->slots, most, frame, connection)) {
        if (refuse)
            return false;
        outlet_wake(&outlet); /* what this batch has put so far */
        atomic_store_explicit(&lane->waiting, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        if (slots_full(&lane->slots))
            futex_sleep(&lane->waiting);
        atomic_store_explicit(&lane->waiting, 0, memory_order_relaxed);
    }
    return true;
}

SLOT_INLINE void lane_produce(struct producer *producer, uint32_t most)
{
    struct lane *lane = &lanes[producer->number];
    bool refuse = producer->crew->plan.refuse;
    const uint8_t *frames;
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        uint32_t refused_count = 0;
        if (!outlet_ready(&outlet, producer->connection, refuse))
            refused_count = producer->batch_count;
        for (uint32_t i = refused_count; i < producer->batch_count; i++)
            refused_count += !lane_put(lane, most, frames + (size_t)i * producer->frame_bytes, producer->connection, refuse);
        outlet_wake(&outlet);
        producer_sent(producer, refused_count);
    }
}

static void ck_produce(struct producer *producer)
{
    uint32_t most = lanes[producer->number].slots.most;
    if (most == 64)
        lane_produce(producer, 64);
    else
        lane_produce(producer, most);
}

/* --- the writer --- */

/* For the only connection: to where they are sent from. */
SLOT_INLINE uint32_t lane_gather_alone(struct lane *lane, uint32_t most)
{
    uint32_t frame_bytes = lane->slots.frame_bytes;
    uint32_t count_most;
    uint32_t count = 0;
    uint8_t *place = outlet_place(&outlet, &count_most);
    for (; count < count_most && slots_take(&lane->slots, most, place); count++)
        place += frame_bytes;
    outlet_placed(&outlet, count);
    return count;
}

static uint32_t lane_gather_many(struct lane *lane)
{
    uint8_t slot[SLOT_BYTES_MOST];
    uint32_t count = 0;
    for (; count < lane_frames && slots_take(&lane->slots, lane->slots.most, slot); count++)
        outlet_add(&outlet, slot_connection(slot), slot);
    return count;
}

static void lane_gather(struct lane *lane)
{
    uint32_t count;
    if (outlet.line_count > 1)
        count = lane_gather_many(lane);
    else if (lane->slots.most == 64)
        count = lane_gather_alone(lane, 64);
    else
        count = lane_gather_alone(lane, lane->slots.most);
    if (count > 0 && slots_half(&lane->slots))
        futex_wake(&lane->waiting);
}

static void rings_gather(struct outlet *unused)
{
    static uint32_t first; /* the lane whose turn it is to be the first */
    (void)unused;
    for (uint32_t i = 0; i < lane_count; i++)
        lane_gather(&lanes[(first + i) % lane_count]);
    first = (first + 1) % lane_count;
}

static bool rings_empty(void)
{
    for (uint32_t i = 0; i < lane_count; i++)
        if (!slots_empty(&lanes[i].slots))
            return false;
    return true;
}

/* --- the side --- */

static void ck_open(struct crew *crew)
{
    lane_count = crew->plan.producer_count;
    lane_frames = LANE_FRAMES_MOST;
    while (lane_frames > LANE_FRAMES_LEAST && lane_frames * lane_count > LANE_FRAMES_ALL)
        lane_frames /= 2;
    lanes = aligned_alloc(_Alignof(struct lane), lane_count * sizeof *lanes);
    if (lanes == NULL)
        crew_die(crew, "no memory", 0);
    for (uint32_t i = 0; i < lane_count; i++) {
        if (!slots_init(&lanes[i].slots, crew->plan.message_bytes, lane_frames))
            crew_die(crew, "no memory", 0);
        atomic_init(&lanes[i].waiting, 0);
    }
    outlet_open(&outlet, crew, true);
}

static uint64_t ck_sends(struct crew *crew)
{
    (void)crew;
    return outlet_sends(&outlet);
}

static void ck_close(struct crew *crew)
{
    (void)crew;
    outlet_close(&outlet);
    for (uint32_t i = 0; i < lane_count; i++)
        slots_finish(&lanes[i].slots);
    free(lanes);
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {.name = "ck",
                                          .ways = {"ring"},
                                          .help =
                                              "P threads, each with a ring of Concurrency Kit's, and a thread that sends what is in them.",
                                          .refuses = true,
                                          .open = ck_open,
                                          .produce = ck_produce,
                                          .sends = ck_sends,
                                          .close = ck_close};
    return crew_main(argc, argv, &side);
}
