/* SPDX-License-Identifier: MIT */
/* hop-zmq: a pair of ZeroMQ's PAIR sockets over inproc for each way, messages of 64 bytes, zmq_send() and zmq_recv(). The context has no
 * I/O thread: inproc needs none. High-water marks are the defaults. A zmq_recv() that finds nothing sleeps at once; with --spin-us it is
 * asked for so long with ZMQ_DONTWAIT before. Each end is used by one thread alone, from when it was made: pthread_create() is the fence
 * that ZeroMQ asks for. */
#include "hop-queue.h"

#include <errno.h>
#include <zmq.h>

struct hop_queue {
    void *context, *in, *out;
};

_Noreturn static void hop_queue_die(void)
{
    fprintf(stderr, "hop-zmq: %s\n", zmq_strerror(zmq_errno()));
    exit(1);
}

static struct hop_queue *hop_queue_create(void)
{
    struct hop_queue *queue = calloc(1, sizeof *queue);
    void *context = zmq_ctx_new();
    if (queue == NULL || context == NULL || zmq_ctx_set(context, ZMQ_IO_THREADS, 0) != 0)
        hop_queue_die();
    queue->context = context;
    queue->in = zmq_socket(context, ZMQ_PAIR);
    queue->out = zmq_socket(context, ZMQ_PAIR);
    if (queue->in == NULL || queue->out == NULL || zmq_bind(queue->out, "inproc://hop") != 0 || zmq_connect(queue->in, "inproc://hop") != 0)
        hop_queue_die();
    return queue;
}

static void hop_queue_destroy(struct hop_queue *queue)
{
    zmq_close(queue->in);
    zmq_close(queue->out);
    zmq_ctx_term(queue->context);
    free(queue);
}

static void hop_queue_put(struct hop_queue *queue, const struct hop_message *message)
{
    while (zmq_send(queue->in, message, sizeof *message, 0) < 0)
        if (zmq_errno() != EINTR)
            hop_queue_die();
}

static void hop_queue_take(struct hop_queue *queue, struct hop_message *message, uint64_t spin_ns)
{
    uint64_t until_ns = spin_ns > 0 ? process_now_ns() + spin_ns : 0;
    while (zmq_recv(queue->out, message, sizeof *message, spin_ns > 0 ? ZMQ_DONTWAIT : 0) < 0) {
        if (zmq_errno() != EINTR && zmq_errno() != EAGAIN)
            hop_queue_die();
        if (spin_ns > 0 && process_now_ns() >= until_ns)
            spin_ns = 0;
    }
}

int main(int argc, char **argv)
{
    return hop_main(argc, argv, "zmq", "Measures ZeroMQ's inproc transport between two threads, 64 bytes a message.");
}
