/* SPDX-License-Identifier: MIT */
/* resolve: names to addresses.
 *
 * Road:    start → done? → finish.
 * Ditches: a number → no look-up; no such name → -EHOSTUNREACH; the name server does not answer → -EAGAIN; given up while glibc is
 *          at it → its memory stays until glibc is done, or, at the very end, for ever. */
#include "runtime/io/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The thread sanitizer crashes in threads that glibc starts inside itself: its builds look names up on the spot. */
#if defined(__SANITIZE_THREAD__)
#define ON_THE_SPOT 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ON_THE_SPOT 1
#endif
#endif
#ifndef ON_THE_SPOT
#define ON_THE_SPOT 0
#endif

/* All that glibc reads and writes during a look-up. */
struct w_resolve {
    struct gaicb request; /* ar_result is ours to free */
    int outcome;          /* with ON_THE_SPOT: what gai_error() would answer */
    bool given_up;        /* true once glibc has let go of it before it began: gai_error() says EAI_INPROGRESS of it for ever */
    struct addrinfo hints;
    char service[8];
    char host[sizeof((struct w_io_resolve *)0)->host];
};

static const struct addrinfo stream_hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP, .ai_flags = AI_NUMERICSERV};

static int code_of(int gai_code)
{
    switch (gai_code) {
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_CANCELED:
        return -ECANCELED;
    case EAI_AGAIN:
    case EAI_SYSTEM: /* no descriptors, no network just now */
        return -EAGAIN;
    default:
        return -EHOSTUNREACH;
    }
}

/* Copies what fits and frees the list. The count, or -EHOSTUNREACH when there is nothing. */
static int copy_addresses(struct addrinfo *list, struct w_io_resolve *resolve)
{
    int count = 0;
    for (const struct addrinfo *info = list; info != NULL && resolve != NULL && count < W_IO_RESOLVE_MAX; info = info->ai_next) {
        if ((info->ai_family != AF_INET && info->ai_family != AF_INET6) || info->ai_addrlen > sizeof resolve->addresses[0].socket)
            continue;
        struct w_io_address *address = &resolve->addresses[count++];
        memset(address, 0, sizeof *address);
        memcpy(&address->socket, info->ai_addr, info->ai_addrlen);
        address->bytes = info->ai_addrlen;
    }
    if (list != NULL)
        freeaddrinfo(list);
    return count > 0 ? count : -EHOSTUNREACH;
}

static int look_up(struct w_io_resolve *resolve, int more_flags)
{
    struct addrinfo hints = stream_hints, *list = NULL;
    char service[8];
    if (memchr(resolve->host, '\0', sizeof resolve->host) == NULL)
        return -EHOSTUNREACH;
    hints.ai_flags |= more_flags;
    snprintf(service, sizeof service, "%u", (unsigned)resolve->port);
    int result = getaddrinfo(resolve->host, service, &hints, &list);
    return result == 0 ? copy_addresses(list, resolve) : code_of(result);
}

int w_resolve_number(struct w_io_resolve *resolve)
{
    int result = look_up(resolve, AI_NUMERICHOST);
    return result > 0 ? result : 0;
}

int w_resolve_now(struct w_io_resolve *resolve)
{
    return look_up(resolve, 0);
}

/* 0, or an EAI_ code when there is no look-up in flight. */
static int begin(struct w_resolve *lookup)
{
    struct gaicb *list[1] = {&lookup->request};
    struct sigevent silence = {.sigev_notify = SIGEV_NONE};
    if (!ON_THE_SPOT)
        return getaddrinfo_a(GAI_NOWAIT, list, 1, &silence);
    lookup->outcome = getaddrinfo(lookup->host, lookup->service, &lookup->hints, &lookup->request.ar_result);
    return 0;
}

/* 0 or an EAI_ code; EAI_INPROGRESS while glibc is at it. */
static int outcome_of(const struct w_resolve *lookup)
{
    if (lookup->given_up)
        return EAI_CANCELED;
    return ON_THE_SPOT ? lookup->outcome : gai_error((struct gaicb *)(uintptr_t)&lookup->request);
}

int w_resolve_start(const struct w_io_resolve *asked, struct w_resolve **lookup)
{
    struct w_resolve *made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    snprintf(made->service, sizeof made->service, "%u", (unsigned)asked->port);
    snprintf(made->host, sizeof made->host, "%.*s", (int)sizeof made->host - 1, asked->host);
    made->hints = stream_hints;
    made->request = (struct gaicb){.ar_name = made->host, .ar_service = made->service, .ar_request = &made->hints};
    int result = begin(made);
    if (result != 0) {
        free(made);
        return code_of(result) == -ENOMEM ? -ENOMEM : -EAGAIN;
    }
    *lookup = made;
    return 0;
}

bool w_resolve_done(const struct w_resolve *lookup)
{
    return outcome_of(lookup) != EAI_INPROGRESS;
}

bool w_resolve_cancel(struct w_resolve *lookup)
{
    if (!ON_THE_SPOT && gai_cancel(&lookup->request) == EAI_CANCELED)
        lookup->given_up = true;
    return w_resolve_done(lookup);
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* By looking now and then: glibc 2.36's gai_suspend() with a time limit spins. */
bool w_resolve_wait(struct w_resolve *lookup, uint64_t limit_ns)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    const uint64_t end_ns = w_base_add_saturated(clock_ns(), limit_ns);
    while (!w_resolve_done(lookup) && clock_ns() < end_ns)
        nanosleep(&pause, NULL);
    return w_resolve_done(lookup);
}

int w_resolve_finish(struct w_resolve **lookup, struct w_io_resolve *resolve)
{
    struct w_resolve *done = *lookup;
    int result = outcome_of(done);
    W_ASSERT(result != EAI_INPROGRESS);
    *lookup = NULL;
    if (result == 0)
        result = copy_addresses(done->request.ar_result, resolve);
    else
        result = code_of(result);
    free(done);
    return result;
}
