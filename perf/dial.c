/* SPDX-License-Identifier: MIT */
/* dial: see dial.h.
 *
 * Road:    as many connects under way as DIAL_UNDER_WAY → each reports writable → look at its error → the next.
 * Ditches: refused, no port left → say so and give up; a unix socket's backlog full → try again in a millisecond;
 *          nothing moves for 10 s → give up. */
#include "dial.h"

#include "process.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DIAL_UNDER_WAY   64u /* well below the smallest backlog in use: an overflowing one costs a second for each connection */
#define DIAL_PATIENCE_NS 10000000000ull
#define DIAL_SPARE       64u /* descriptors that are not connections */

struct dial {
    const struct address *address;
    int *sockets;
    uint32_t count;
    uint32_t begun_count;
    uint32_t done_count;
    int epoll;
};

static bool dial_failed(const struct dial *dial, int error)
{
    const char *hint = "";
    if (error == ECONNREFUSED || error == ENOENT)
        hint = " (is the server running?)";
    else if (error == EADDRNOTAVAIL)
        hint = " (no local port is left: fewer connections, or wait a minute)";
    else if (error == ETIMEDOUT)
        hint = " (nothing moved for 10 s)";
    fprintf(stderr, "weir-perf: connection %u of %u to %s: %s%s\n", dial->done_count + 1, dial->count, dial->address->text, strerror(error),
            hint);
    return false;
}

static bool dial_raise_limit(uint32_t count)
{
    struct rlimit limit;
    uint64_t wanted = (uint64_t)count + DIAL_SPARE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return true;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= wanted)
        return true;
    fprintf(stderr, "weir-perf: %u connections need %llu descriptors, and the hard limit is %llu (ulimit -Hn)\n", count,
            (unsigned long long)wanted, (unsigned long long)limit.rlim_max);
    return false;
}

/* Returns 1 when it is under way, 0 when it has to be tried again, or a negative errno. */
static int dial_begin(struct dial *dial)
{
    const struct address *address = dial->address;
    int descriptor = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    int on = 1;
    if (address_is_tcp(address))
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(descriptor, (const struct sockaddr *)&address->storage, address->storage_bytes) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(descriptor);
        return error == EAGAIN ? 0 : -error;
    }
    struct epoll_event interest = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = descriptor};
    if (epoll_ctl(dial->epoll, EPOLL_CTL_ADD, descriptor, &interest) != 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    dial->sockets[dial->begun_count++] = descriptor;
    return 1;
}

static int dial_error(int descriptor)
{
    int error = 0;
    socklen_t error_bytes = sizeof error;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &error_bytes) != 0)
        return errno;
    return error;
}

/* Takes what has connected; returns how many, or a negative errno. */
static int dial_take(struct dial *dial, int wait_ms)
{
    struct epoll_event events[DIAL_UNDER_WAY];
    int ready = epoll_wait(dial->epoll, events, DIAL_UNDER_WAY, wait_ms);
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < ready; i++) {
        int error = dial_error(events[i].data.fd);
        if (error != 0)
            return -error;
        dial->done_count++;
    }
    return ready;
}

static bool dial_run(struct dial *dial)
{
    uint64_t moved_ns = process_now_ns();
    while (dial->done_count < dial->count) {
        int began = 1;
        while (began > 0 && dial->begun_count < dial->count && dial->begun_count - dial->done_count < DIAL_UNDER_WAY)
            began = dial_begin(dial);
        if (began < 0)
            return dial_failed(dial, -began);
        int taken = dial_take(dial, began == 0 ? 1 : 1000);
        if (taken < 0)
            return dial_failed(dial, -taken);
        uint64_t now_ns = process_now_ns();
        if (taken > 0)
            moved_ns = now_ns;
        else if (now_ns - moved_ns > DIAL_PATIENCE_NS)
            return dial_failed(dial, ETIMEDOUT);
    }
    return true;
}

bool dial_open(const struct address *address, int *sockets, uint32_t count)
{
    struct dial dial = {.address = address, .sockets = sockets, .count = count};
    if (!dial_raise_limit(count))
        return false;
    dial.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (dial.epoll < 0)
        return dial_failed(&dial, errno);
    bool opened = dial_run(&dial);
    close(dial.epoll);
    if (!opened)
        for (uint32_t i = 0; i < dial.begun_count; i++)
            dial_close(sockets[i]);
    return opened;
}

void dial_close(int descriptor)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(descriptor);
}
