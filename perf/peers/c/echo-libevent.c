/* SPDX-License-Identifier: MIT */
/* echo-libevent: an echo server on libevent.
 *
 * Plain events and sends of its own, as memcached and Tor have it: each thread has a base and a listening socket of its own
 * (SO_REUSEPORT), each connection an event for reading, that stays, and one for writing, that is added when a send was short. Locks are
 * off, since a base has one thread.
 *
 * Tried, CPU a message by this file's, at 64 bytes and at 16 KiB:
 * - events and evbuffers (evbuffer_reserve_space, recv, evbuffer_write): 1.05-1.15, 1.5;
 * - bufferevents (max_single_read 64 KiB): 1.35-1.6, 3.8, since each answer waits for its socket to be writable, and reads are of 4 KiB
 *   at most; with EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST the same.
 *
 * Road:    readable → recv → cut → send → what is left of a message stays in the buffer.
 * Ditches: short send → the event for writing instead of the one for reading, until all is out; a wrong length, an error, the end → close;
 *          no descriptor left → accepting rests until a connection ends; SIGTERM, SIGINT → exit 0, what is open ends with the process. */
#include "echo-input.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/listener.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct server {
    pthread_t thread;
    struct event_base *base;
    struct evconnlistener *listener;
    struct event stop;
    enum pattern_framing framing;
    bool resting; /* true exactly when the listener is disabled */
    struct echo_spares spares;
};

/* Exactly one of the two events is added. */
struct conn {
    struct server *server;
    struct event readable, writable;
    struct echo_input input;
    size_t sent; /* of its whole messages; 0 while it reads */
};

static void die(const char *what)
{
    fprintf(stderr, "echo-libevent: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- connections --- */

static void conn_close(struct conn *conn)
{
    struct server *server = conn->server;
    event_del(&conn->readable);
    event_del(&conn->writable);
    close(event_get_fd(&conn->readable));
    echo_input_release(&conn->input, &server->spares);
    free(conn);
    if (server->resting)
        evconnlistener_enable(server->listener);
    server->resting = false;
}

/* True when all that is whole is out; false when it is not, or the connection is no more. */
static bool conn_send(struct conn *conn)
{
    struct echo_input *input = &conn->input;
    ssize_t sent = send(event_get_fd(&conn->readable), input->bytes + conn->sent, input->whole - conn->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        conn_close(conn);
        return false;
    }
    if (sent > 0)
        conn->sent += (size_t)sent;
    if (conn->sent < input->whole) {
        event_del(&conn->readable);
        event_add(&conn->writable, NULL);
        return false;
    }
    conn->sent = 0;
    echo_input_answered(input, &conn->server->spares);
    return true;
}

static void conn_write(evutil_socket_t descriptor, short what, void *user)
{
    struct conn *conn = user;
    (void)descriptor, (void)what;
    if (!conn_send(conn))
        return;
    event_del(&conn->writable);
    event_add(&conn->readable, NULL);
}

static void conn_read(evutil_socket_t descriptor, short what, void *user)
{
    struct conn *conn = user;
    struct echo_input *input = &conn->input;
    struct echo_spares *spares = &conn->server->spares;
    (void)what;
    if (!echo_input_reserve(input, spares, 0)) {
        conn_close(conn);
        return;
    }
    ssize_t received = recv(descriptor, input->bytes + input->filled, input->room - input->filled, 0);
    bool later = received < 0 && (errno == EAGAIN || errno == EINTR);
    if ((received <= 0 && !later) || !echo_input_take(input, spares, conn->server->framing, later ? 0 : (size_t)received))
        conn_close(conn);
    else if (input->whole > 0)
        conn_send(conn);
    else if (input->filled == 0)
        echo_input_release(input, spares);
}

/* --- the loop --- */

static void server_accept(struct evconnlistener *listener, evutil_socket_t descriptor, struct sockaddr *address, int bytes, void *user)
{
    int on = 1;
    struct server *server = user;
    struct conn *conn = calloc(1, sizeof *conn);
    (void)listener, (void)address, (void)bytes;
    if (conn == NULL) {
        close(descriptor);
        return;
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    conn->server = server;
    event_assign(&conn->readable, server->base, descriptor, EV_READ | EV_PERSIST, conn_read, conn);
    event_assign(&conn->writable, server->base, descriptor, EV_WRITE | EV_PERSIST, conn_write, conn);
    event_add(&conn->readable, NULL);
}

static void server_accept_failed(struct evconnlistener *listener, void *user)
{
    struct server *server = user;
    evconnlistener_disable(listener);
    server->resting = true;
}

static void server_stop(evutil_socket_t descriptor, short what, void *user)
{
    struct server *server = user;
    (void)descriptor, (void)what;
    event_base_loopbreak(server->base);
}

static void server_listen(struct server *server, struct echo_peer *peer, struct event_config *config, int signals)
{
    unsigned flags = LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE | LEV_OPT_REUSEABLE_PORT;
    server->framing = peer->framing;
    server->base = event_base_new_with_config(config);
    if (server->base == NULL)
        die("event_base_new");
    server->listener = evconnlistener_new_bind(server->base, server_accept, server, flags, ECHO_PEER_BACKLOG,
                                               (const struct sockaddr *)&peer->address.storage, (int)peer->address.storage_bytes);
    if (server->listener == NULL)
        die("evconnlistener_new_bind");
    evconnlistener_set_error_cb(server->listener, server_accept_failed);
    echo_peer_bound(peer, evconnlistener_get_fd(server->listener));
    event_assign(&server->stop, server->base, signals, EV_READ, server_stop, server);
    event_add(&server->stop, NULL);
}

static void *server_run(void *argument)
{
    struct server *server = argument;
    event_base_dispatch(server->base);
    return NULL;
}

/* A base can be the only one that hears signals; so each has a descriptor of them instead. It is never read: so that every thread sees
 * it. */
static int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        die("sigprocmask");
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        die("signalfd");
    return signals;
}

int main(int argc, char **argv)
{
    struct echo_peer peer;
    echo_peer_begin(&peer, argc, argv, "Echoes what it receives: a libevent server, that weir is measured against.");
    struct server *servers = calloc(peer.threads, sizeof *servers);
    struct event_config *config = event_config_new();
    if (servers == NULL || config == NULL || event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) != 0)
        die("memory");
    int signals = signals_open();
    for (uint32_t i = 0; i < peer.threads; i++)
        server_listen(&servers[i], &peer, config, signals);
    event_config_free(config);
    for (uint32_t i = 1; i < peer.threads; i++)
        if (pthread_create(&servers[i].thread, NULL, server_run, &servers[i]) != 0)
            die("pthread_create");
    echo_peer_say(&peer);
    server_run(&servers[0]);
    for (uint32_t i = 1; i < peer.threads; i++)
        pthread_join(servers[i].thread, NULL);
    return 0;
}
