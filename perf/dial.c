/* SPDX-License-Identifier: MIT */
/* dial: see dial.h.
 *
 * Road:    as many connects under way as DIAL_UNDER_WAY → each reports writable → look at its error → the next.
 * Ditches: no port left → go on from the next address; none left either, refused, no descriptor → say so and give up, or keep what stands;
 *          a unix socket's backlog full → try again in a millisecond; nothing moves for 10 s → give up. */
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

#define DIAL_UNDER_WAY    64u /* well below the smallest backlog in use: an overflowing one costs a second for each connection */
#define DIAL_PATIENCE_NS  10000000000ull
#define DIAL_SPARE        64u   /* descriptors that are not connections */
#define DIAL_SOURCES      250u  /* 127.0.0.1 to 127.0.0.250 */
#define DIAL_SOURCE_PORTS 8192u /* connections from each: the last free ports of its 28,000 take long to find */

struct dial {
    const struct address *address;
    int *sockets;
    uint32_t count;
    uint32_t begun_count;
    uint32_t done_count;
    uint32_t spent_count; /* sources passed over, as they had no port left */
    int epoll;
};

/* --- one --- */

uint32_t dial_source_count(const struct address *address)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->storage;
    return in->sin_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET ? DIAL_SOURCES : 1;
}

/* The port is left open until connect(), which may then take one that another destination has in use too. */
static int dial_bind(int descriptor, uint32_t source)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + source)};
    int on = 1;
    setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    return bind(descriptor, (const struct sockaddr *)&from, sizeof from) == 0 ? 0 : -errno;
}

int dial_begin(const struct address *address, uint32_t source)
{
    int descriptor = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    int on = 1, result = 0;
    if (address_is_tcp(address))
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (source > 0)
        result = dial_bind(descriptor, source);
    if (result == 0 && connect(descriptor, (const struct sockaddr *)&address->storage, address->storage_bytes) != 0 && errno != EINPROGRESS)
        result = -errno;
    if (result == 0)
        return descriptor;
    close(descriptor);
    return result;
}

int dial_error(int descriptor)
{
    int error = 0;
    socklen_t error_bytes = sizeof error;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &error_bytes) != 0)
        return errno;
    return error;
}

void dial_close(int descriptor)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(descriptor);
}

/* --- many --- */

/* How many connections there may be after the limit of descriptors has been raised for `wanted`. Root may raise the hard limit too. */
static uint64_t dial_raise_limit(uint32_t wanted)
{
    struct rlimit limit;
    uint64_t descriptors = (uint64_t)wanted + DIAL_SPARE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= descriptors)
        return wanted;
    struct rlimit raised = {.rlim_cur = descriptors, .rlim_max = limit.rlim_max > descriptors ? limit.rlim_max : descriptors};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
        return wanted;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > DIAL_SPARE ? limit.rlim_cur - DIAL_SPARE : 0;
}

/* Returns 1 when it is under way, 0 when it has to be tried again, or a negative errno. */
static int dial_next(struct dial *dial)
{
    int descriptor;
    uint32_t source_count = dial_source_count(dial->address);
    for (;;) {
        uint32_t source = dial->begun_count / DIAL_SOURCE_PORTS + dial->spent_count;
        descriptor = dial_begin(dial->address, source < source_count ? source : 0);
        if (descriptor != -EADDRNOTAVAIL || source + 1 >= source_count)
            break;
        dial->spent_count++;
    }
    if (descriptor < 0)
        return descriptor == -EAGAIN ? 0 : descriptor;
    struct epoll_event interest = {.events = EPOLLOUT | EPOLLONESHOT, .data.fd = descriptor};
    if (epoll_ctl(dial->epoll, EPOLL_CTL_ADD, descriptor, &interest) != 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    dial->sockets[dial->begun_count++] = descriptor;
    return 1;
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

/* Returns 0 when all stand, or the errno that ended it. */
static int dial_run(struct dial *dial)
{
    uint64_t moved_ns = process_now_ns();
    while (dial->done_count < dial->count) {
        int began = 1;
        while (began > 0 && dial->begun_count < dial->count && dial->begun_count - dial->done_count < DIAL_UNDER_WAY)
            began = dial_next(dial);
        if (began < 0)
            return -began;
        int taken = dial_take(dial, began == 0 ? 1 : 1000);
        if (taken < 0)
            return -taken;
        uint64_t now_ns = process_now_ns();
        if (taken > 0)
            moved_ns = now_ns;
        else if (now_ns - moved_ns > DIAL_PATIENCE_NS)
            return ETIMEDOUT;
    }
    return 0;
}

/* Lets what is under way arrive, closes what does not, and moves what stands together. Returns how many stand. */
static uint32_t dial_keep(struct dial *dial)
{
    uint32_t kept_count = 0;
    int taken = 1;
    while (dial->done_count < dial->begun_count && taken > 0)
        taken = dial_take(dial, 1000);
    for (uint32_t i = 0; i < dial->begun_count; i++) {
        struct sockaddr_storage peer;
        socklen_t peer_bytes = sizeof peer;
        if (getpeername(dial->sockets[i], (struct sockaddr *)&peer, &peer_bytes) == 0)
            dial->sockets[kept_count++] = dial->sockets[i];
        else
            close(dial->sockets[i]);
    }
    return kept_count;
}

static void dial_say_why(char why[DIAL_WHY_BYTES], int error)
{
    const char *hint = "";
    if (error == ECONNREFUSED || error == ENOENT)
        hint = " (is the server running?)";
    else if (error == EADDRNOTAVAIL)
        hint = " (no local port is left: fewer connections, or wait a minute)";
    else if (error == ETIMEDOUT)
        hint = " (nothing moved for 10 s: the server accepts no more?)";
    else if (error == ENFILE)
        hint = " (files of the whole machine: sysctl fs.file-max)";
    snprintf(why, DIAL_WHY_BYTES, "%s%s", strerror(error), hint);
}

static void dial_say_limit(char why[DIAL_WHY_BYTES], uint64_t most)
{
    snprintf(why, DIAL_WHY_BYTES, "descriptors of this process: room for %llu connections (ulimit -Hn, sysctl fs.nr_open)",
             (unsigned long long)most);
}

bool dial_open(const struct address *address, int *sockets, uint32_t count)
{
    struct dial dial = {.address = address, .sockets = sockets, .count = count};
    char why[DIAL_WHY_BYTES];
    uint64_t most = dial_raise_limit(count);
    if (most < count) {
        dial_say_limit(why, most);
        fprintf(stderr, "weir-perf: %u connections are too many for the %s\n", count, why);
        return false;
    }
    dial.epoll = epoll_create1(EPOLL_CLOEXEC);
    int error = dial.epoll < 0 ? errno : dial_run(&dial);
    if (error != 0) {
        dial_say_why(why, error);
        fprintf(stderr, "weir-perf: connection %u of %u to %s: %s\n", dial.done_count + 1, dial.count, address->text, why);
        for (uint32_t i = 0; i < dial.begun_count; i++)
            dial_close(sockets[i]);
    }
    if (dial.epoll >= 0)
        close(dial.epoll);
    return error == 0;
}

uint32_t dial_open_most(const struct address *address, int *sockets, uint32_t count, char why[DIAL_WHY_BYTES])
{
    struct dial dial = {.address = address, .sockets = sockets, .count = count};
    uint64_t most = dial_raise_limit(count);
    why[0] = '\0';
    if (most < count) {
        dial.count = (uint32_t)most;
        dial_say_limit(why, most);
    }
    dial.epoll = epoll_create1(EPOLL_CLOEXEC);
    int error = dial.epoll < 0 ? errno : dial_run(&dial);
    if (error != 0)
        dial_say_why(why, error);
    uint32_t kept_count = error == 0 ? dial.count : dial_keep(&dial);
    if (dial.epoll >= 0)
        close(dial.epoll);
    return kept_count;
}
