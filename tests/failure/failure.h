/* SPDX-License-Identifier: MIT */
/* failure: every failure once. A scenario (scenarios.h) is played again and again, each time with another point of it failed: the n-th
 * allocation, the n-th operation of a verb of the engine, the n-th call of a system call, each with each errno that its manual lists
 * (the table in manual.c), on the real kernel.
 *
 *   allocations   the world's allocator (world.c) asks here                           test_memory
 *   operations    a struct w_io_engine before the real one (engine.c) asks here       test_operations
 *   system calls  the library is linked once more, with its calls renamed (calls.txt) to those of calls.c, which ask here; the
 *                 test's own calls stay libc's                                        test_calls, test_calls_across
 *
 * What is expected whatever fails: a code with a sentence, or one connection that ends with a named reason and is counted, or nothing at
 * all; everyone else goes on; at the end every sum closes and everything is home (world_close). */
#ifndef TEST_FAILURE_H
#define TEST_FAILURE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/must.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAILURE_SANITIZED 1
#else
#define FAILURE_SANITIZED 0
#endif

/* Only one in so many points is failed, all when WEIR_LONG is set: under a sanitizer few; else every other one of each kind, gcc's build these and clang's those (and
 * as clang's stage does without the kernel's optional features, what only their roads do is failed at every other point alone). */
#define FAILURE_EACH (FAILURE_SANITIZED ? 12u : 2u)
#ifdef __clang__
#define FAILURE_FIRST 1u
#else
#define FAILURE_FIRST 0u
#endif

enum failure_level { FAILURE_MEMORY, FAILURE_OPERATIONS, FAILURE_CALLS };

enum failure_kind {
    FAILURE_NONE,
    FAILURE_ALLOCATION,
    /* the engine's verbs */
    FAILURE_OPEN,
    FAILURE_START,
    FAILURE_DESCRIPTOR,
    FAILURE_LISTEN,
    FAILURE_LISTEN_INHERITED,
    FAILURE_LOCAL_ADDRESS,
    FAILURE_PEER_ADDRESS,
    FAILURE_EVENT_DESCRIPTOR,
    FAILURE_EVENT_WAIT,
    FAILURE_RESOLVE_NOW,
    FAILURE_ACCEPT,
    FAILURE_ACCEPT_ON, /* one that has brought somebody already */
    FAILURE_SOCKET,
    FAILURE_ADOPT,
    FAILURE_CONNECT,
    FAILURE_RECEIVE,
    FAILURE_RECEIVE_ON, /* one that has brought something already */
    FAILURE_SEND,
    FAILURE_SEND_GATHER,
    FAILURE_CLOSE_HANDLE,
    FAILURE_RESOLVE,
    /* system calls, and libc's and liburing's that stand for them */
    FAILURE_CALL_RING_SETUP,
    FAILURE_CALL_RING_PROBE,
    FAILURE_CALL_RING_REGISTER,
    FAILURE_CALL_RING_EVENTFD,
    FAILURE_CALL_RING_ENTER,
    FAILURE_CALL_MMAP,
    FAILURE_CALL_EVENTFD,
    FAILURE_CALL_READ,
    FAILURE_CALL_WRITE,
    FAILURE_CALL_SOCKET,
    FAILURE_CALL_SOCKETPAIR,
    FAILURE_CALL_BIND,
    FAILURE_CALL_LISTEN,
    FAILURE_CALL_CONNECT,
    FAILURE_CALL_SEND,
    FAILURE_CALL_SETSOCKOPT,
    FAILURE_CALL_GETSOCKOPT,
    FAILURE_CALL_GETSOCKNAME,
    FAILURE_CALL_GETPEERNAME,
    FAILURE_CALL_FCNTL,
    FAILURE_CALL_SHUTDOWN,
    FAILURE_CALL_CLOSE,
    FAILURE_CALL_POLL,
    FAILURE_CALL_PPOLL,
    FAILURE_CALL_OPEN,
    FAILURE_CALL_LSTAT,
    FAILURE_CALL_UNLINK,
    FAILURE_CALL_GETRANDOM,
    FAILURE_CALL_GETRLIMIT,
    FAILURE_CALL_AFFINITY,
    FAILURE_CALL_THREAD,
    FAILURE_CALL_CALLOC,
    FAILURE_CALL_GETADDRINFO,
    FAILURE_CALL_GETADDRINFO_A,
    FAILURE_CALL_GAI_ERROR,
    FAILURE_KINDS
};

#define FAILURE_ERRORS_MAX 32

/* A row of the manual. The lists end with 0. */
struct failure_row {
    const char *name, *page;
    enum failure_level level;
    int errors[FAILURE_ERRORS_MAX];   /* what the page lists and can apply here (getaddrinfo's are EAI_...) */
    int harmless[FAILURE_ERRORS_MAX]; /* of them, those after which nobody may notice anything */
    int fatal[FAILURE_ERRORS_MAX];    /* of them, those after which a listener or a shard may be broken for good, and says so */
    bool is_fatal;                    /* all of them are */
    bool is_harmless;                 /* all of them are */
};

const struct failure_row *failure_row(enum failure_kind kind);

/* The n-th point of a kind, from `from` to `to` (counted from 1, since it was armed), answers `error`. */
struct failure_plan {
    enum failure_kind kind;
    uint64_t from, to;
    int error;
};

extern struct failure {
    struct failure_plan plan;
    atomic_bool armed;
    _Atomic uint64_t counts[FAILURE_KINDS];
    _Atomic uint64_t fired;
    char said[128]; /* what is failed just now, for messages */
} failure;

/* Asked at each point: 0, or what it shall answer. Any thread. */
int failure_now(enum failure_kind kind);

/* Forgets the last plan; not armed. */
void failure_plan_set(const struct failure_plan *plan);
bool failure_plan_is_harmless(const struct failure_plan *plan);
bool failure_plan_is_fatal(const struct failure_plan *plan);

/* Fails each point of a level in a scenario; prints what was done, and checks that it was no less than `least` points. */
struct scenario;
void failure_play_all(const struct scenario *scenario, enum failure_level level, uint64_t least);
/* All allocations from the n-th on for a while. */
void failure_play_droughts(const struct scenario *scenario);

struct w_io_engine;
/* engine.c: the real engine behind the points of FAILURE_OPERATIONS. */
const struct w_io_engine *failing_engine(void);

#endif
