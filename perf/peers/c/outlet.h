/* SPDX-License-Identifier: MIT */
/* outlet: the sending half of a hand-written fan-in: one thread takes what the producers have put into their rings, gathers it by
 * connection, and sends what a connection has at once.
 *
 * Of one connection: a blocking send, there is nothing else to do meanwhile. Of many: sends that do not wait, and epoll says when one that
 * was full has room. Such a one collects, up to a mark; above it it is `pressed`, and producers drop or wait until it has room.
 *
 * Sleeping: who is about to sleep says so, looks again behind a full fence, and waits; who has changed something looks behind a full fence
 * whether somebody said so. */
#pragma once

#include "perf/crew.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OUTLET_SEND_BYTES  (255u * 1024) /* of one connection: gathered for one send */
#define OUTLET_LINE_BYTES  4096u         /* of many: a connection's memory at first */
#define OUTLET_HIGH_BYTES  (256u * 1024)
#define OUTLET_EVENTS      256
#define OUTLET_BELL_NUMBER UINT32_MAX

/* A connection. Invariant: bytes [from, until) of `bytes` have to go out. */
struct outlet_line {
    _Alignas(64) atomic_uint pressed; /* 1 exactly while more than the mark has to go out */
    _Alignas(64) int socket;
    bool listed;  /* true exactly when it is among those with something to send */
    bool blocked; /* true exactly while epoll is to say when there is room */
    uint32_t from, until, capacity;
    uint8_t *bytes;
};

struct outlet {
    struct crew *crew;
    uint32_t line_count;
    uint32_t frame_bytes;
    uint32_t blocked_count;
    uint32_t listed_count;
    uint32_t *listed; /* numbers of lines */
    struct outlet_line *lines;
    int epoll;
    int bell;      /* an eventfd */
    bool by_futex; /* sleeps on `asleep`, not on the bell */
    pthread_t thread;
    _Alignas(64) atomic_uint asleep; /* 1 exactly while the thread wants to be woken */
    _Alignas(64) atomic_ulong sends;
    atomic_bool done; /* set when no producer is left */
};

static inline void futex_sleep(atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
}

/* Wakes whoever said in `word` that he is to be woken. */
static inline void futex_wake(atomic_uint *word)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(word, memory_order_relaxed) != 0 && atomic_exchange(word, 0) != 0)
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* --- for producers --- */

static inline void outlet_wake(struct outlet *outlet)
{
    const uint64_t one = 1;
    if (outlet->by_futex) {
        futex_wake(&outlet->asleep);
        return;
    }
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&outlet->asleep, memory_order_relaxed) == 0 || atomic_exchange(&outlet->asleep, 0) == 0)
        return;
    if (write(outlet->bell, &one, sizeof one) != sizeof one)
        crew_die(outlet->crew, "write", errno);
}

/* Whether a connection takes more. */
static inline bool outlet_room(const struct outlet *outlet, uint32_t line)
{
    return atomic_load_explicit(&outlet->lines[line].pressed, memory_order_relaxed) == 0;
}

/* Whether it takes a batch, at once or after waiting for room; false: it was not to wait. */
static inline bool outlet_ready(struct outlet *outlet, uint32_t line, bool refuse)
{
    while (!outlet_room(outlet, line)) {
        if (refuse)
            return false;
        futex_sleep(&outlet->lines[line].pressed);
    }
    return true;
}

/* --- the thread --- */

/* What a program has of its own: */
static void
rings_gather(struct outlet *outlet); /* takes what there is, bounded, and gives it to outlet_add(), or puts it to outlet_place() */
static bool rings_empty(void);

/* Where the next messages of the only connection go, and how many may until it is enough for one send. There is room for a slot
 * more behind them. */
static inline uint8_t *outlet_place(struct outlet *outlet, uint32_t *most)
{
    struct outlet_line *line = &outlet->lines[0];
    *most = (OUTLET_SEND_BYTES - line->until) / outlet->frame_bytes;
    return line->bytes + line->until;
}

/* So many have come there. */
static inline void outlet_placed(struct outlet *outlet, uint32_t count)
{
    outlet->lines[0].until += count * outlet->frame_bytes;
}

static inline void outlet_grow(struct outlet *outlet, struct outlet_line *line)
{
    if (line->from > 0) {
        memmove(line->bytes, line->bytes + line->from, line->until - line->from);
        line->until -= line->from;
        line->from = 0;
    }
    if (line->until + outlet->frame_bytes <= line->capacity)
        return;
    line->capacity = line->capacity == 0 ? 2 * OUTLET_LINE_BYTES : 2 * line->capacity;
    line->bytes = realloc(line->bytes, line->capacity);
    if (line->bytes == NULL)
        crew_die(outlet->crew, "no memory", 0);
}

static inline void outlet_add(struct outlet *outlet, uint32_t number, const uint8_t *frame)
{
    struct outlet_line *line = &outlet->lines[number];
    if (line->until + outlet->frame_bytes > line->capacity)
        outlet_grow(outlet, line);
    memcpy(line->bytes + line->until, frame, outlet->frame_bytes);
    line->until += outlet->frame_bytes;
    if (!line->listed && !line->blocked) {
        line->listed = true;
        outlet->listed[outlet->listed_count++] = number;
    }
}

static inline void outlet_press(struct outlet_line *line)
{
    uint32_t bytes = line->until - line->from;
    if (bytes > OUTLET_HIGH_BYTES)
        atomic_store_explicit(&line->pressed, 1, memory_order_relaxed);
    else if (bytes <= OUTLET_HIGH_BYTES / 2)
        futex_wake(&line->pressed);
}

static inline void outlet_flush(struct outlet *outlet, uint32_t number)
{
    struct outlet_line *line = &outlet->lines[number];
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT, .data.u32 = number};
    ssize_t sent = send(line->socket, line->bytes + line->from, line->until - line->from, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        crew_die(outlet->crew, "send", errno);
    atomic_store_explicit(&outlet->sends, atomic_load_explicit(&outlet->sends, memory_order_relaxed) + 1, memory_order_relaxed);
    line->from += sent > 0 ? (uint32_t)sent : 0;
    if (line->from == line->until) {
        line->from = line->until = 0;
    } else {
        line->blocked = true;
        outlet->blocked_count++;
        if (epoll_ctl(outlet->epoll, EPOLL_CTL_MOD, line->socket, &event) != 0)
            crew_die(outlet->crew, "epoll_ctl", errno);
    }
    outlet_press(line);
}

/* Waits, or only looks, for those that were full and for the bell. */
static inline void outlet_poll(struct outlet *outlet, int wait_ms)
{
    struct epoll_event events[OUTLET_EVENTS];
    uint64_t rings;
    int count = epoll_wait(outlet->epoll, events, OUTLET_EVENTS, wait_ms);
    for (int i = 0; i < count; i++) {
        uint32_t number = events[i].data.u32;
        if (number == OUTLET_BELL_NUMBER) {
            if (read(outlet->bell, &rings, sizeof rings) < 0 && errno != EINTR && errno != EAGAIN)
                crew_die(outlet->crew, "read", errno);
            continue;
        }
        outlet->lines[number].blocked = false;
        outlet->blocked_count--;
        outlet_flush(outlet, number);
    }
}

static inline void outlet_sleep(struct outlet *outlet)
{
    uint64_t rings;
    atomic_store_explicit(&outlet->asleep, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (!rings_empty() || (atomic_load(&outlet->done) && outlet->blocked_count == 0))
        ;
    else if (outlet->line_count > 1)
        outlet_poll(outlet, -1);
    else if (outlet->by_futex)
        futex_sleep(&outlet->asleep);
    else if (read(outlet->bell, &rings, sizeof rings) < 0 && errno != EINTR)
        crew_die(outlet->crew, "read", errno);
    atomic_store_explicit(&outlet->asleep, 0, memory_order_relaxed);
}

/* Sends what was gathered; false: there was nothing. */
static inline bool outlet_send(struct outlet *outlet)
{
    struct outlet_line *line = &outlet->lines[0];
    if (outlet->line_count > 1) {
        bool any = outlet->listed_count > 0;
        for (uint32_t i = 0; i < outlet->listed_count; i++) {
            outlet->lines[outlet->listed[i]].listed = false;
            outlet_flush(outlet, outlet->listed[i]);
        }
        outlet->listed_count = 0;
        return any;
    }
    if (line->until == 0)
        return false;
    crew_send(outlet->crew, line->socket, line->bytes, line->until);
    atomic_store_explicit(&outlet->sends, atomic_load_explicit(&outlet->sends, memory_order_relaxed) + 1, memory_order_relaxed);
    line->until = 0;
    return true;
}

static inline void *outlet_run(void *argument)
{
    struct outlet *outlet = argument;
    for (;;) {
        bool last = atomic_load(&outlet->done); /* read before the rings, so that nothing can come behind */
        rings_gather(outlet);
        bool any = outlet_send(outlet);
        if (outlet->blocked_count > 0)
            outlet_poll(outlet, 0);
        if (any)
            continue;
        if (last && rings_empty() && outlet->blocked_count == 0)
            return NULL;
        outlet_sleep(outlet);
    }
}

/* --- from open to close --- */

static inline void outlet_add_lines(struct outlet *outlet)
{
    const struct crew *crew = outlet->crew;
    for (uint32_t i = 0; i < outlet->line_count; i++) {
        struct epoll_event event = {.events = 0, .data.u32 = i};
        outlet->lines[i] = (struct outlet_line){.socket = crew->sockets[i]};
        if (epoll_ctl(outlet->epoll, EPOLL_CTL_ADD, crew->sockets[i], &event) != 0)
            crew_die(crew, "epoll_ctl", errno);
    }
    if (outlet->line_count == 1) {
        outlet->lines[0].bytes = malloc(OUTLET_SEND_BYTES + MESSAGE_HEAD_BYTES + MESSAGE_BYTES_MOST);
        if (outlet->lines[0].bytes == NULL)
            crew_die(crew, "no memory", 0);
    }
}

/* Connects and starts the thread; the rings are there. `by_futex`: with one connection it sleeps on a futex. */
static inline void outlet_open(struct outlet *outlet, struct crew *crew, bool by_futex)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = OUTLET_BELL_NUMBER};
    uint32_t count = crew->plan.connection_count;
    crew_connect(crew);
    outlet->crew = crew;
    outlet->line_count = count;
    outlet->frame_bytes = MESSAGE_HEAD_BYTES + crew->plan.message_bytes;
    outlet->by_futex = by_futex && count == 1;
    outlet->lines = aligned_alloc(_Alignof(struct outlet_line), count * sizeof *outlet->lines);
    outlet->listed = calloc(count, sizeof *outlet->listed);
    outlet->epoll = epoll_create1(EPOLL_CLOEXEC);
    outlet->bell = eventfd(0, EFD_CLOEXEC);
    if (outlet->lines == NULL || outlet->listed == NULL)
        crew_die(crew, "no memory", 0);
    if (outlet->epoll < 0 || outlet->bell < 0 || epoll_ctl(outlet->epoll, EPOLL_CTL_ADD, outlet->bell, &event) != 0)
        crew_die(crew, "epoll and eventfd", errno);
    outlet_add_lines(outlet);
    int error = pthread_create(&outlet->thread, NULL, outlet_run, outlet);
    if (error != 0)
        crew_die(crew, "a thread", error);
}

static inline uint64_t outlet_sends(const struct outlet *outlet)
{
    return atomic_load_explicit(&outlet->sends, memory_order_relaxed);
}

/* No producer is left: sends what there is, and ends the connections. */
static inline void outlet_close(struct outlet *outlet)
{
    atomic_store(&outlet->done, true);
    outlet_wake(outlet);
    pthread_join(outlet->thread, NULL);
    crew_hang_up(outlet->crew);
    close(outlet->epoll);
    close(outlet->bell);
    for (uint32_t i = 0; i < outlet->line_count; i++)
        free(outlet->lines[i].bytes);
    free(outlet->lines);
    free(outlet->listed);
}
