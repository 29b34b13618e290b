/* SPDX-License-Identifier: MIT */
/* uring: what the files of the engine on the real kernel share: the struct of a shard's engine. */
#ifndef W_URING_H
#define W_URING_H

#include <stdalign.h>

#include "runtime/io/buffers.h"
#include "runtime/io/io.h"
#include "runtime/io/resolve.h"
#include "runtime/io/ring.h"

/* Tokens of our own operations have the top bit; callers' do not. Their completions never leave take(). */
#define W_URING_INTERNAL    (UINT64_C(1) << 63)
#define W_URING_SILENT      W_URING_INTERNAL          /* cancels, wake-ups from other rings: nothing to do */
#define W_URING_BELL        (W_URING_INTERNAL | 1)    /* the poll on the bell */
#define W_URING_LOOKUP_MASK (~(W_URING_INTERNAL | 7)) /* else: the address of a struct w_uring_lookup, on its timer */

/* One name look-up. Invariant: it is in uring->lookups from resolve() until glibc is done with it and its timer has fired. */
struct w_uring_lookup {
    struct w_uring_lookup *next;
    struct w_resolve *work;
    struct w_io_resolve *asked; /* NULL exactly when its answer has been given: cancelled */
    uint64_t token;
    struct __kernel_timespec interval; /* between looks whether glibc is done */
    bool timed;                        /* true exactly while its timer is in flight */
};

struct w_uring {
    struct w_io io; /* first */
    struct w_ring ring;
    struct w_buffers buffers;
    const weir_allocator *allocator;
    weir_log_callback log;
    void *log_user;
    uint32_t shard_index;
    bool embedded;
    bool started;
    bool bell_armed; /* true exactly while a poll on the bell is in flight (never when embedded) */
    bool no_iowait;  /* features, from open to start */
    bool registered;
    bool sync_message; /* wake through the kernel's message ring, not the bell */
    int bell;          /* an eventfd; when embedded the ring writes it too */
    uint64_t random_state;
    struct w_uring_lookup *lookups;
    struct w_io_resolve *answers, **answers_end; /* finished look-ups that wait for take(), oldest first */

    /* What wake() touches, from any thread. woken: somebody called since the last submit. asleep: the thread is in its
     * sleep, or about to look at woken for the last time before it. */
    alignas(64) _Atomic bool woken;
    _Atomic bool asleep;
};

static inline struct w_uring *w_uring_of(struct w_io *io)
{
    return W_CONTAINER(io, struct w_uring, io);
}

void w_uring_log(struct w_uring *uring, weir_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* uring_open.c */
int w_uring_open(void *world, const struct w_io_setup *setup, struct w_io **io, weir_error *error);
void w_uring_close(struct w_io **io);
int w_uring_start(struct w_io *io);
int w_uring_descriptor(struct w_io *io);

/* uring_resolve.c */
void w_uring_resolve(struct w_io *io, struct w_io_resolve *resolve, uint64_t token);
/* True when the token was a look-up's. */
bool w_uring_resolve_cancel(struct w_uring *uring, uint64_t token);
/* A look-up's timer has fired. */
void w_uring_resolve_look(struct w_uring *uring, struct w_uring_lookup *lookup);
/* Moves out answers that wait: how many. */
uint32_t w_uring_resolve_take(struct w_uring *uring, struct w_io_completion *completions, uint32_t max);
/* At the end: waits a little for glibc, and leaves it what it does not let go of. */
void w_uring_resolve_finish(struct w_uring *uring);

#endif
