/* SPDX-License-Identifier: MIT */
/* fanin-ck: the fan-in as it is built by hand from a good library: Concurrency Kit's ring for each producer, and a writer thread that
 * gathers from all of them into one buffer and sends it at once.
 *
 * Messages lie in the rings by value. They are copied into the buffer and not sent from where they lie by an iovec each: for 64 bytes
 * the copy is the faster of the two, by half and more at the batches that come about here.
 *
 * Sleeping: who is about to sleep says so, looks again behind a full fence, and waits on a futex; who has changed something looks behind
 * a full fence whether somebody said so. */
#include "perf/crew.h"

#include <ck_ring.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LANE_FRAMES   1024 /* of which one stays empty */
#define FRAME_BYTES   (64 + MESSAGE_HEAD_BYTES)
#define BUFFER_FRAMES 3840 /* 255 KiB */

struct frame {
    uint8_t bytes[FRAME_BYTES];
};
CK_RING_PROTOTYPE(frame, frame)

struct lane {
    _Alignas(128) ck_ring_t ring;
    _Alignas(64) atomic_uint waiting; /* 1 exactly while the producer wants to be woken */
    struct frame frames[LANE_FRAMES];
};

static struct lane *lanes;
static uint32_t lane_count;
static _Alignas(64) atomic_uint asleep; /* 1 exactly while the writer wants to be woken */
static _Alignas(64) atomic_ulong sends;
static atomic_bool done; /* set when no producer is left */
static int connection;
static pthread_t writer;

static void futex_sleep(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
}

/* Wakes whoever said in `word` that he is to be woken. */
static void futex_wake(atomic_uint *word)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(word, memory_order_relaxed) == 0 || atomic_exchange(word, 0) == 0)
        return;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* --- the producers --- */

static void lane_put(struct lane *lane, const uint8_t *bytes)
{
    struct frame *slot;
    while ((slot = ck_ring_enqueue_reserve_spsc_frame(&lane->ring, lane->frames)) == NULL) {
        futex_wake(&asleep); /* what this batch has put so far */
        atomic_store_explicit(&lane->waiting, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        if (ck_ring_size(&lane->ring) == LANE_FRAMES - 1)
            futex_sleep(&lane->waiting);
        atomic_store_explicit(&lane->waiting, 0, memory_order_relaxed);
    }
    memcpy(slot->bytes, bytes, FRAME_BYTES);
    ck_ring_enqueue_commit_spsc(&lane->ring);
}

static void ck_produce(struct producer *producer)
{
    struct lane *lane = &lanes[producer->number];
    const uint8_t *frames;
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        for (uint32_t i = 0; i < producer->batch_count; i++)
            lane_put(lane, frames + (size_t)i * FRAME_BYTES);
        futex_wake(&asleep);
        producer_sent(producer);
    }
}

/* --- the writer --- */

static uint32_t lane_take(struct lane *lane, struct frame *to, uint32_t most)
{
    uint32_t count = 0;
    while (count < most && CK_RING_DEQUEUE_SPSC(frame, &lane->ring, lane->frames, &to[count]))
        count++;
    if (count > 0 && ck_ring_size(&lane->ring) <= LANE_FRAMES / 2)
        futex_wake(&lane->waiting);
    return count;
}

static bool lanes_empty(void)
{
    for (uint32_t i = 0; i < lane_count; i++)
        if (ck_ring_size(&lanes[i].ring) > 0)
            return false;
    return true;
}

static void writer_sleep(void)
{
    atomic_store_explicit(&asleep, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (lanes_empty() && !atomic_load(&done))
        futex_sleep(&asleep);
    atomic_store_explicit(&asleep, 0, memory_order_relaxed);
}

static void *writer_run(void *argument)
{
    struct crew *crew = argument;
    struct frame *buffer = malloc(BUFFER_FRAMES * sizeof *buffer);
    uint32_t first = 0; /* the lane whose turn it is to be the first */
    if (buffer == NULL)
        crew_die(crew, "no memory", 0);
    for (;;) {
        bool last = atomic_load(&done); /* read before the lanes, so that nothing can come behind */
        uint32_t count = 0;
        for (uint32_t i = 0; i < lane_count; i++)
            count += lane_take(&lanes[(first + i) % lane_count], buffer + count, BUFFER_FRAMES - count);
        first = (first + 1) % lane_count;
        if (count > 0) {
            crew_send(crew, connection, buffer, count * sizeof *buffer);
            atomic_store_explicit(&sends, atomic_load_explicit(&sends, memory_order_relaxed) + 1, memory_order_relaxed);
        } else if (last) {
            break;
        } else {
            writer_sleep();
        }
    }
    free(buffer);
    return NULL;
}

static void ck_open(struct crew *crew)
{
    connection = crew_connect(crew);
    lane_count = crew->plan.producer_count;
    lanes = aligned_alloc(_Alignof(struct lane), lane_count * sizeof *lanes);
    if (lanes == NULL)
        crew_die(crew, "no memory", 0);
    for (uint32_t i = 0; i < lane_count; i++) {
        ck_ring_init(&lanes[i].ring, LANE_FRAMES);
        atomic_init(&lanes[i].waiting, 0);
    }
    int error = pthread_create(&writer, NULL, writer_run, crew);
    if (error != 0)
        crew_die(crew, "a thread", error);
}

static uint64_t ck_sends(struct crew *crew)
{
    (void)crew;
    return atomic_load_explicit(&sends, memory_order_relaxed);
}

static void ck_close(struct crew *crew)
{
    (void)crew;
    atomic_store(&done, true);
    futex_wake(&asleep);
    pthread_join(writer, NULL);
    close(connection);
    free(lanes);
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {.name = "fanin-ck",
                                          .help =
                                              "P threads, each with a ring of Concurrency Kit's, and a thread that sends what is in them.",
                                          .fixed_bytes = true,
                                          .open = ck_open,
                                          .produce = ck_produce,
                                          .sends = ck_sends,
                                          .close = ck_close};
    return crew_main(argc, argv, &side);
}
