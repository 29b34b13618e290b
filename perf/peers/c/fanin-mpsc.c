/* SPDX-License-Identifier: MIT */
/* fanin-mpsc: the fan-in as most would draw it: one ring for all producers, and a writer thread that an eventfd wakes, which gathers what
 * there is into one buffer for each connection and sends it at once (outlet.h).
 *
 * 16,384 messages fit: 4,096 carry a half to two thirds as much at 16 producers, 65,536 no more and at four times the latency.
 *
 * --way array: the bounded queue that everybody has (Vyukov's): each slot says whose turn it is. A producer that is stopped between taking
 * a slot and filling it makes only the writer wait. Slots that begin on cache lines of their own were no faster.
 * --way ck: Concurrency Kit's ring for many producers. There a producer that has filled its slot spins until all before it have filled
 * theirs: with more threads than cores most of them spin while the one that they wait for does not run, and a message takes a time slice. */
#include "outlet.h"
#include "slot.h"

#include <ck_ring.h>

#define RING_FRAMES 16384u

/* Invariant: slot `i`'s turn is its place in the order of all when it is free for that message, and one more when it holds it. */
struct array {
    uint32_t slot_bytes;
    uint32_t frame_bytes;
    uint8_t *memory;
    _Alignas(128) atomic_uint put; /* how many slots were taken to be filled */
    _Alignas(128) uint32_t taken;  /* the writer's: how many it has emptied */
};

static struct array array;
static struct slots ring;
static bool by_ck;
static _Alignas(128) atomic_uint waiting; /* 1 exactly while a producer wants to be woken */
static struct outlet outlet;

/* --- the array --- */

static inline atomic_uint *array_turn(uint32_t place)
{
    return (atomic_uint *)(void *)(array.memory + (size_t)(place % RING_FRAMES) * array.slot_bytes);
}

static bool array_init(uint32_t message_bytes)
{
    array.frame_bytes = MESSAGE_HEAD_BYTES + message_bytes;
    array.slot_bytes = (uint32_t)sizeof(atomic_uint) + (array.frame_bytes + 3) / 4 * 4;
    array.memory = malloc((size_t)RING_FRAMES * array.slot_bytes);
    for (uint32_t i = 0; array.memory != NULL && i < RING_FRAMES; i++)
        atomic_init(array_turn(i), i);
    return array.memory != NULL;
}

static inline bool array_put(const uint8_t *frame, uint32_t connection)
{
    uint32_t place = atomic_load_explicit(&array.put, memory_order_relaxed);
    atomic_uint *turn;
    for (;;) {
        turn = array_turn(place);
        int32_t ahead = (int32_t)(atomic_load_explicit(turn, memory_order_acquire) - place);
        if (ahead < 0)
            return false;
        if (ahead > 0)
            place = atomic_load_explicit(&array.put, memory_order_relaxed);
        else if (atomic_compare_exchange_weak_explicit(&array.put, &place, place + 1, memory_order_relaxed, memory_order_relaxed))
            break;
    }
    slot_fill((uint8_t *)(turn + 1), frame, array.frame_bytes, connection);
    atomic_store_explicit(turn, place + 1, memory_order_release);
    return true;
}

/* The next, until array_release(); NULL: none, or it is not filled yet. */
static inline uint8_t *array_next(void)
{
    atomic_uint *turn = array_turn(array.taken);
    return atomic_load_explicit(turn, memory_order_acquire) == array.taken + 1 ? (uint8_t *)(turn + 1) : NULL;
}

static inline void array_release(void)
{
    atomic_store_explicit(array_turn(array.taken), array.taken + RING_FRAMES, memory_order_release);
    array.taken++;
}

static uint32_t array_size(void)
{
    return atomic_load_explicit(&array.put, memory_order_relaxed) - array.taken;
}

/* --- the producers --- */

/* The slot that comes next is not free. */
static bool ring_full(void)
{
    if (by_ck)
        return slots_full(&ring);
    uint32_t place = atomic_load_explicit(&array.put, memory_order_relaxed);
    return (int32_t)(atomic_load_explicit(array_turn(place), memory_order_acquire) - place) < 0;
}

/* False: no room, and it was not to wait. */
static inline bool ring_put(const uint8_t *frame, uint32_t connection, bool refuse)
{
    while (!(by_ck ? slots_share(&ring, ring.most, frame, connection) : array_put(frame, connection))) {
        if (refuse)
            return false;
        outlet_wake(&outlet); /* what this batch has put so far */
        atomic_store_explicit(&waiting, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        if (ring_full())
            futex_sleep(&waiting);
    }
    return true;
}

static void mpsc_produce(struct producer *producer)
{
    bool refuse = producer->crew->plan.refuse;
    const uint8_t *frames;
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        uint32_t refused_count = 0;
        if (!outlet_ready(&outlet, producer->connection, refuse))
            refused_count = producer->batch_count;
        for (uint32_t i = refused_count; i < producer->batch_count; i++)
            refused_count += !ring_put(frames + (size_t)i * producer->frame_bytes, producer->connection, refuse);
        outlet_wake(&outlet);
        producer_sent(producer, refused_count);
    }
}

/* --- the writer --- */

static void ring_gather_ck(void)
{
    uint8_t slot[SLOT_BYTES_MOST];
    uint32_t frame_bytes = ring.frame_bytes;
    uint32_t most = RING_FRAMES;
    uint32_t count = 0;
    if (outlet.line_count == 1) {
        uint8_t *place = outlet_place(&outlet, &most);
        for (; count < most && slots_take(&ring, ring.most, place); count++)
            place += frame_bytes;
        outlet_placed(&outlet, count);
    } else {
        for (; count < most && slots_take(&ring, ring.most, slot); count++)
            outlet_add(&outlet, slot_connection(slot), slot);
    }
    if (count > 0 && slots_half(&ring))
        futex_wake(&waiting);
}

static void ring_gather_array(void)
{
    uint8_t *slot;
    uint32_t most = RING_FRAMES;
    uint32_t count = 0;
    uint8_t *place = outlet.line_count == 1 ? outlet_place(&outlet, &most) : NULL;
    for (; count < most && (slot = array_next()) != NULL; count++) {
        if (place != NULL)
            slot_fill(place + (size_t)count * array.frame_bytes, slot, array.frame_bytes, 0);
        else
            outlet_add(&outlet, slot_connection(slot), slot);
        array_release();
    }
    if (place != NULL)
        outlet_placed(&outlet, count);
    if (count > 0 && array_size() <= RING_FRAMES / 2)
        futex_wake(&waiting);
}

static void rings_gather(struct outlet *unused)
{
    (void)unused;
    if (by_ck)
        ring_gather_ck();
    else
        ring_gather_array();
}

static bool rings_empty(void)
{
    return by_ck ? slots_empty(&ring) : array_next() == NULL;
}

/* --- the side --- */

static void mpsc_open(struct crew *crew)
{
    by_ck = crew->plan.way == 1;
    if (by_ck ? !slots_init(&ring, crew->plan.message_bytes, RING_FRAMES) : !array_init(crew->plan.message_bytes))
        crew_die(crew, "no memory", 0);
    outlet_open(&outlet, crew, false);
}

static uint64_t mpsc_sends(struct crew *crew)
{
    (void)crew;
    return outlet_sends(&outlet);
}

static void mpsc_close(struct crew *crew)
{
    (void)crew;
    outlet_close(&outlet);
    slots_finish(&ring);
    free(array.memory);
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {
        .name = "mpsc",
        .ways = {"array", "ck"},
        .help =
            "P threads share one ring, and a thread sends what is in it.\v--way array: a ring whose slots say whose turn it is. --way ck: "
            "Concurrency Kit's for many producers, which is slow beyond measure with more threads than cores.",
        .refuses = true,
        .open = mpsc_open,
        .produce = mpsc_produce,
        .sends = mpsc_sends,
        .close = mpsc_close};
    return crew_main(argc, argv, &side);
}
