/* SPDX-License-Identifier: MIT */
/* fanout-broker: a fan-out through a server of its own (Redis, NATS): starts it as a child on a free port of 127.0.0.1, publishes to it
 * on one plain connection, many messages in one send, and ends it. The server has the publisher's core, so that the members have the
 * other to themselves, as in all of these; what counts as CPU is the server's. The publisher's own is told apart
 * ("publisher_cpu_ns_per_delivery"): it has the same work for any number of members.
 *
 * Ditches: no such program, or it ends early → its name in a sentence, exit 1; the publisher ends, however → the server goes with it. */
#pragma once

#include "fanout-peer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BROKER_PATIENCE_NS 10000000000u
#define BROKER_LOOK_US     2000
#define BROKER_ENCODED     64u /* what stands around a message on its way to the server, at most */

struct broker {
    struct peer peer; /* first */
    const char *name; /* of the program */
    int connection;
    unsigned port;
    char head[BROKER_ENCODED];
    uint32_t head_bytes;
    uint8_t *buffer; /* room for a batch */
};

static volatile sig_atomic_t broker_child; /* 0: none */

static void broker_kill(int number)
{
    if (broker_child > 0)
        kill((pid_t)broker_child, SIGKILL);
    _exit(128 + number);
}

static int broker_socket(struct sockaddr_in *address)
{
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        peer_die("socket");
    return descriptor;
}

/* One that is free now. */
static void broker_find_port(struct broker *broker)
{
    struct sockaddr_in address;
    socklen_t address_bytes = sizeof address;
    int descriptor = broker_socket(&address);
    if (bind(descriptor, (const struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(descriptor, (struct sockaddr *)&address, &address_bytes) != 0)
        peer_die("no free port");
    broker->port = ntohs(address.sin_port);
    close(descriptor);
}

/* Connects as soon as it listens. */
static void broker_connect(struct broker *broker)
{
    uint64_t deadline_ns = process_now_ns() + BROKER_PATIENCE_NS;
    int on = 1;
    for (;;) {
        struct sockaddr_in address;
        broker->connection = broker_socket(&address);
        address.sin_port = htons((uint16_t)broker->port);
        if (connect(broker->connection, (const struct sockaddr *)&address, sizeof address) == 0)
            break;
        close(broker->connection);
        bool over = waitpid(broker->peer.plan.server, NULL, WNOHANG) != 0;
        if (over || process_now_ns() > deadline_ns) {
            broker_child = over ? 0 : broker_child;
            fprintf(stderr, "%s: %s %s\n", program_invocation_short_name, broker->name,
                    over ? "is not there, or ended early" : "does not listen");
            exit(1);
        }
        usleep(BROKER_LOOK_US);
    }
    if (setsockopt(broker->connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        peer_die("TCP_NODELAY");
}

/* Before the members are started. `arguments` as execvp() wants them. */
static void broker_start(struct broker *broker, const char *const *arguments)
{
    pid_t parent = getpid();
    signal(SIGTERM, broker_kill);
    signal(SIGINT, broker_kill);
    peer_raise_limit(broker->peer.plan.member_count + broker->peer.plan.slow_count);
    broker->name = arguments[0];
    pid_t child = fork();
    if (child < 0)
        peer_die("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        flight_pin(broker->peer.plan.cores[0]);
        setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
        if (freopen("/dev/null", "w", stdout) != NULL && freopen("/dev/null", "w", stderr) != NULL)
            execvp(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    broker_child = child;
    broker->peer.plan.server = child;
    broker->peer.plan.apart = true;
    broker_connect(broker);
}

static void broker_send(struct broker *broker, const void *data, size_t count)
{
    const uint8_t *bytes = data;
    while (count > 0) {
        ssize_t sent = send(broker->connection, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            peer_die("the server's connection");
        if (sent > 0) {
            bytes += sent;
            count -= (size_t)sent;
        }
    }
}

/* What the server says (how many got it, or nothing) is thrown away: a message that did not arrive shows at the members. */
static void broker_drain(struct broker *broker)
{
    uint8_t none;
    while (recv(broker->connection, &none, 1u << 20, MSG_DONTWAIT | MSG_TRUNC) > 0)
        ;
}

static void broker_publish(struct peer *peer, uint32_t count, uint64_t stamp_ns)
{
    struct broker *broker = (struct broker *)peer;
    uint8_t *to = broker->buffer;
    for (uint32_t i = 0; i < count; i++) {
        peer_number(peer, stamp_ns);
        memcpy(to, broker->head, broker->head_bytes);
        to += broker->head_bytes;
        memcpy(to, peer->payload, peer->plan.message_bytes);
        to += peer->plan.message_bytes;
        memcpy(to, "\r\n", 2);
        to += 2;
    }
    broker_send(broker, broker->buffer, (size_t)(to - broker->buffer));
    broker_drain(broker);
}

static void broker_idle(struct peer *peer)
{
    broker_drain((struct broker *)peer);
    peer_pause();
}

/* Everything between the start of the server and its end; the exit code. broker->head is made. */
static int broker_run(struct broker *broker)
{
    struct peer *peer = &broker->peer;
    char address[64];
    peer->publish = broker_publish;
    peer->idle = broker_idle;
    broker->buffer = malloc((size_t)peer->plan.batch_count * (BROKER_ENCODED + peer->plan.message_bytes + 2));
    if (broker->buffer == NULL)
        peer_die("memory");
    snprintf(address, sizeof address, "tcp://127.0.0.1:%u", broker->port);
    peer->crowd = crowd_start(&peer->plan);
    bool connected = crowd_connect(peer->crowd, address);
    if (connected)
        peer_measure(peer);
    close(broker->connection);
    kill(peer->plan.server, SIGKILL);
    waitpid(peer->plan.server, NULL, 0);
    broker_child = 0;
    int code = connected ? peer_report(peer) : 1;
    free(broker->buffer);
    return code;
}
