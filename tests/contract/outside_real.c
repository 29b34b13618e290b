/* SPDX-License-Identifier: MIT */
/* outside_real: the peers of the contract test as real sockets on loopback, non-blocking, beside the engine on io_uring. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/contract/outside.h"

struct outside_peer {
    int descriptor;
};

static struct outside_peer *peer_of(int descriptor)
{
    struct outside_peer *peer = malloc(sizeof *peer);
    ck_assert_ptr_nonnull(peer);
    peer->descriptor = descriptor;
    return peer;
}

static void real_open(uint64_t seed)
{
    (void)seed;
}

static void real_close(void)
{
}

static int new_socket(const struct w_io_address *address)
{
    int descriptor = socket(address->socket.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(descriptor, 0);
    return descriptor;
}

static struct outside_peer *real_connect(const struct w_io_address *address)
{
    int descriptor = new_socket(address);
    int result = connect(descriptor, &address->socket.any, address->bytes);
    ck_assert_msg(result == 0 || errno == EINPROGRESS, "connect: %d", errno);
    return peer_of(descriptor);
}

static bool real_is_open(struct outside_peer *peer)
{
    struct pollfd look = {.fd = peer->descriptor, .events = POLLOUT};
    return poll(&look, 1, 0) == 1 && (look.revents & (POLLERR | POLLHUP)) == 0;
}

static void real_address(struct outside_peer *peer, struct w_io_address *address)
{
    *address = (struct w_io_address){.bytes = sizeof address->socket};
    ck_assert_int_eq(getsockname(peer->descriptor, &address->socket.any, &address->bytes), 0);
}

static int64_t real_write(struct outside_peer *peer, const void *data, size_t bytes)
{
    ssize_t count = send(peer->descriptor, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    return count >= 0 ? count : errno == EAGAIN ? 0 : -errno;
}

static int64_t real_read(struct outside_peer *peer, void *data, size_t bytes)
{
    ssize_t count = recv(peer->descriptor, data, bytes, MSG_DONTWAIT);
    return count >= 0 ? count : -errno;
}

static void real_shutdown(struct outside_peer *peer)
{
    ck_assert_int_eq(shutdown(peer->descriptor, SHUT_WR), 0);
}

static void real_finish(struct outside_peer **peer)
{
    close((*peer)->descriptor);
    free(*peer);
    *peer = NULL;
}

static void real_reset(struct outside_peer **peer)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    ck_assert_int_eq(setsockopt((*peer)->descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    real_finish(peer);
}

static int listening(struct w_io_address *address)
{
    int descriptor = new_socket(address);
    ck_assert_int_eq(bind(descriptor, &address->socket.any, address->bytes), 0);
    ck_assert_int_eq(listen(descriptor, 128), 0);
    address->bytes = sizeof address->socket;
    ck_assert_int_eq(getsockname(descriptor, &address->socket.any, &address->bytes), 0);
    return descriptor;
}

static struct outside_peer *real_serve(struct w_io_address *address)
{
    return peer_of(listening(address));
}

static struct outside_peer *real_accept(struct outside_peer *server)
{
    int descriptor = accept4(server->descriptor, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return descriptor >= 0 ? peer_of(descriptor) : NULL;
}

static int real_adoptable(struct outside_peer **peer)
{
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *peer = peer_of(pair[1]);
    return pair[0];
}

static int real_inheritable(struct w_io_address *address)
{
    return listening(address);
}

static bool real_is_readable(struct w_io *io)
{
    struct pollfd look = {.fd = io->engine->descriptor(io), .events = POLLIN};
    ck_assert_int_ge(look.fd, 0);
    return poll(&look, 1, 1) == 1;
}

static pthread_t waker;
static struct {
    struct w_io *io;
    uint64_t after_ns;
} waking;

static void *wake_later(void *unused)
{
    (void)unused;
    const struct timespec pause = {.tv_sec = (time_t)(waking.after_ns / WEIR_SECOND), .tv_nsec = (long)(waking.after_ns % WEIR_SECOND)};
    nanosleep(&pause, NULL);
    waking.io->engine->wake(waking.io);
    return NULL;
}

static void real_wake_after(struct w_io *io, uint64_t after_ns)
{
    waking.io = io;
    waking.after_ns = after_ns;
    ck_assert_int_eq(pthread_create(&waker, NULL, wake_later, NULL), 0);
}

static void real_wake_done(void)
{
    ck_assert_int_eq(pthread_join(waker, NULL), 0);
}

const struct outside outside_real = {
    .name = "uring",
    .real = true,
    .open = real_open,
    .close = real_close,
    .engine = w_io_uring,
    .connect = real_connect,
    .is_open = real_is_open,
    .address = real_address,
    .write = real_write,
    .read = real_read,
    .shutdown = real_shutdown,
    .finish = real_finish,
    .reset = real_reset,
    .serve = real_serve,
    .accept = real_accept,
    .adoptable = real_adoptable,
    .inheritable = real_inheritable,
    .is_readable = real_is_readable,
    .wake_after = real_wake_after,
    .wake_done = real_wake_done,
};
