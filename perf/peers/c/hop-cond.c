/* SPDX-License-Identifier: MIT */
/* hop-cond: a queue under a mutex, with a condition variable for who finds it empty and one for who finds it full: what most programs
 * that hand work to another thread have. Who puts signals after the unlock, and only when somebody waits: the other way round costs
 * more. Who takes takes all that is there at once and hands it out without the lock. With --spin-us a taker reads the count without the
 * lock before it sleeps. */
#include "hop-queue.h"

#include <string.h>

#define QUEUE_COUNT 1024u

struct hop_queue {
    pthread_mutex_t lock;
    pthread_cond_t filled, emptied;
    _Atomic uint32_t count;   /* in `messages`; changed under the lock */
    uint32_t takers, putters; /* that wait: 0 or 1 */
    struct hop_message messages[QUEUE_COUNT];
    /* The taker's: what it has taken and not handed out. */
    alignas(64) uint32_t next, taken_count;
    struct hop_message taken[QUEUE_COUNT];
};

static struct hop_queue *hop_queue_create(void)
{
    struct hop_queue *queue = aligned_alloc(64, sizeof *queue);
    if (queue == NULL || memset(queue, 0, sizeof *queue) == NULL || pthread_mutex_init(&queue->lock, NULL) != 0 ||
        pthread_cond_init(&queue->filled, NULL) != 0 || pthread_cond_init(&queue->emptied, NULL) != 0) {
        fprintf(stderr, "hop-cond: no memory for a queue\n");
        exit(1);
    }
    return queue;
}

static void hop_queue_destroy(struct hop_queue *queue)
{
    pthread_cond_destroy(&queue->emptied);
    pthread_cond_destroy(&queue->filled);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

static void hop_queue_put(struct hop_queue *queue, const struct hop_message *message)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == QUEUE_COUNT) {
        queue->putters++;
        pthread_cond_wait(&queue->emptied, &queue->lock);
        queue->putters--;
    }
    queue->messages[queue->count] = *message;
    queue->count++;
    bool waited = queue->takers > 0;
    pthread_mutex_unlock(&queue->lock);
    if (waited)
        pthread_cond_signal(&queue->filled);
}

static void hop_queue_fetch(struct hop_queue *queue, uint64_t spin_ns)
{
    if (spin_ns > 0 && atomic_load_explicit(&queue->count, memory_order_relaxed) == 0) {
        uint64_t until_ns = process_now_ns() + spin_ns;
        while (atomic_load_explicit(&queue->count, memory_order_relaxed) == 0 && process_now_ns() < until_ns)
            ;
    }
    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0) {
        queue->takers++;
        pthread_cond_wait(&queue->filled, &queue->lock);
        queue->takers--;
    }
    memcpy(queue->taken, queue->messages, queue->count * sizeof *queue->messages);
    queue->taken_count = queue->count;
    queue->next = 0;
    queue->count = 0;
    bool waited = queue->putters > 0;
    pthread_mutex_unlock(&queue->lock);
    if (waited)
        pthread_cond_signal(&queue->emptied);
}

static void hop_queue_take(struct hop_queue *queue, struct hop_message *message, uint64_t spin_ns)
{
    if (queue->next == queue->taken_count)
        hop_queue_fetch(queue, spin_ns);
    *message = queue->taken[queue->next++];
}

int main(int argc, char **argv)
{
    return hop_main(argc, argv, "cond", "Measures a queue with a mutex and a condition variable between two threads, 64 bytes a message.");
}
