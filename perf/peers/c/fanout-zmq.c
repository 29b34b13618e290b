/* SPDX-License-Identifier: MIT */
/* fanout-zmq: ZeroMQ's PUB over TCP with one I/O thread, as is its default. The socket is an XPUB, which is a PUB that hears of
 * subscriptions, so that nothing is published before all stand; XPUB_NODROP makes a send wait where it would drop, unless somebody never
 * reads. The high-water mark is raised to more than the publisher ever has under way (fanout-peer.h). The thread that publishes and the
 * I/O thread share the publisher's core, as all others have one core to send with. zmq_send() copies the message once; members then
 * share it.
 *
 * The members are the same plain sockets that all others have, and speak ZMTP (perf/wire.h): with libzmq's SUB sockets in the members'
 * process its two threads would be the slowest part, and the figure would be theirs. */
#include "fanout-peer.h"

#include <zmq.h>

struct zmq_peer {
    struct peer peer; /* first */
    void *context, *socket;
};

_Noreturn static void zmq_peer_die(const char *what)
{
    fprintf(stderr, "fanout-zmq: %s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

static void zmq_peer_publish(struct peer *peer, uint32_t count, uint64_t stamp_ns)
{
    struct zmq_peer *zmq = (struct zmq_peer *)peer;
    for (uint32_t i = 0; i < count; i++) {
        peer_number(peer, stamp_ns);
        while (zmq_send(zmq->socket, peer->payload, peer->plan.message_bytes, 0) < 0)
            if (zmq_errno() != EINTR)
                zmq_peer_die("send");
    }
}

static void zmq_peer_idle(struct peer *peer)
{
    (void)peer;
    peer_pause();
}

static void zmq_peer_set(struct zmq_peer *zmq, int option, int value)
{
    if (zmq_setsockopt(zmq->socket, option, &value, sizeof value) != 0)
        zmq_peer_die("setsockopt");
}

/* Writes where it listens. */
static void zmq_peer_open(struct zmq_peer *zmq, char *address, size_t address_bytes)
{
    uint32_t everybody = zmq->peer.plan.member_count + zmq->peer.plan.slow_count;
    peer_raise_limit(everybody);
    zmq->context = zmq_ctx_new();
    if (zmq->context == NULL || zmq_ctx_set(zmq->context, ZMQ_THREAD_AFFINITY_CPU_ADD, zmq->peer.plan.cores[0]) != 0)
        zmq_peer_die("context");
    zmq->socket = zmq_socket(zmq->context, ZMQ_XPUB);
    if (zmq->socket == NULL)
        zmq_peer_die("socket");
    zmq_peer_set(zmq, ZMQ_XPUB_VERBOSE, 1);
    zmq_peer_set(zmq, ZMQ_XPUB_NODROP, zmq->peer.plan.slow_count == 0);
    zmq_peer_set(zmq, ZMQ_SNDHWM, (int)((CROWD_BATCHES + 1) * zmq->peer.plan.batch_count * zmq->peer.plan.member_count)); /* never met */
    zmq_peer_set(zmq, ZMQ_BACKLOG, 1024);
    zmq_peer_set(zmq, ZMQ_LINGER, 0);
    if (zmq_bind(zmq->socket, "tcp://127.0.0.1:*") != 0 || zmq_getsockopt(zmq->socket, ZMQ_LAST_ENDPOINT, address, &address_bytes) != 0)
        zmq_peer_die("bind");
}

/* Waits for as many subscriptions as there are members. */
static void zmq_peer_hear(struct zmq_peer *zmq)
{
    uint32_t everybody = zmq->peer.plan.member_count + zmq->peer.plan.slow_count;
    zmq_peer_set(zmq, ZMQ_RCVTIMEO, 10000);
    for (uint32_t i = 0; i < everybody; i++) {
        uint8_t subscription[8];
        if (zmq_recv(zmq->socket, subscription, sizeof subscription, 0) != 1 || subscription[0] != 1)
            zmq_peer_die("a subscription");
    }
}

int main(int argc, char **argv)
{
    static struct zmq_peer zmq;
    struct peer *peer = &zmq.peer;
    char address[64];
    peer_options(peer, argc, argv, "Publishes with ZeroMQ to many subscribers, and measures what arrives.");
    peer->plan.framing = WIRE_ZMTP;
    peer->result.way = "zmq";
    peer->publish = zmq_peer_publish;
    peer->idle = zmq_peer_idle;
    peer->crowd = crowd_start(&peer->plan); /* before there are threads */
    zmq_peer_open(&zmq, address, sizeof address);
    bool connected = crowd_connect(peer->crowd, address);
    if (connected) {
        zmq_peer_hear(&zmq);
        peer_measure(peer);
    }
    zmq_close(zmq.socket);
    zmq_ctx_term(zmq.context);
    return connected ? peer_report(peer) : 1;
}
