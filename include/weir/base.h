/* SPDX-License-Identifier: MIT */
/* weir/base.h: the words that every other header uses: errors, reasons, ids, logging, memory.
 *
 * Three kinds of bad news, and they never mix:
 *   - an error code: a function answers 0 (or a count) or a negative errno; weir_strerror() has a sentence for it;
 *   - a weir_error: the same code with a whole sentence that names the wrong value and what to do, filled in by
 *     the calls that set things up (weir_open, weir_listen, weir_dial);
 *   - a weir_reason: why a connection ended, told once in its close event.
 * weir never prints, never aborts for what the environment does, and installs no signal handler. It does abort, with
 * a line on standard error, when the program itself breaks a rule of these headers (a call from the wrong thread). */
#ifndef WEIR_BASE_H
#define WEIR_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0

/* No limit, or no end, wherever a duration in nanoseconds is asked for. (Zero always means "the default".) */
#define WEIR_FOREVER UINT64_MAX

#define WEIR_MICROSECOND UINT64_C(1000)
#define WEIR_MILLISECOND UINT64_C(1000000)
#define WEIR_SECOND      UINT64_C(1000000000)

/* A whole runtime; opened by weir_open(). */
typedef struct weir_runtime weir_runtime;
/* One core's share of it; a thread of its own. Lives as long as the runtime. */
typedef struct weir_shard weir_shard;
/* One connection. The pointer is good on its shard's thread, inside callbacks, from on_open (or weir_dial) until on_close
 * returns. To keep a connection for later, keep its weir_id. */
typedef struct weir_conn weir_conn;

/* Names a connection for ever: shard 10 bits, slot 20, generation 34. An id whose connection has ended is answered by
 * -ESTALE, never by another connection. The value 0 names nothing. */
typedef struct weir_id {
    uint64_t value;
} weir_id;

/* A code and its sentence. Calls that take a `weir_error *` accept NULL. */
typedef struct weir_error {
    int code;           /* 0 or a negative errno, the same that the call returned */
    char sentence[256]; /* what was wrong, with the value, and what to do about it; never longer, always ended */
} weir_error;

/* A short sentence for a code that a weir function returned: "no room now: ..." for -EAGAIN. Positive and unknown
 * values get a sentence too. Any thread; static storage. */
const char *weir_strerror(int code);

/* Why a connection ended. Exactly one per connection; the first cause wins, but a graceful end of this program's (LOCAL, STOPPED) that did not
 * come to its end is called by what stopped it. */
typedef enum weir_reason {
    WEIR_REASON_NONE = 0,       /* not ended */
    WEIR_REASON_LOCAL,          /* weir_end() of this program, everything delivered */
    WEIR_REASON_ABORTED,        /* weir_abort() of this program */
    WEIR_REASON_REFUSED,        /* on_open answered with an error */
    WEIR_REASON_STOPPED,        /* the runtime was stopped */
    WEIR_REASON_PEER,           /* the peer finished, at a message boundary */
    WEIR_REASON_TRUNCATED,      /* the peer finished inside a message */
    WEIR_REASON_RESET,          /* the peer reset the connection */
    WEIR_REASON_NETWORK,        /* the kernel gave the connection up (error says why: ETIMEDOUT, EHOSTUNREACH ...) */
    WEIR_REASON_TOO_BIG,        /* the peer announced or sent a message over the codec's limit */
    WEIR_REASON_BAD_MESSAGE,    /* the peer sent what its codec forbids */
    WEIR_REASON_HANDLER,        /* on_message answered with an error */
    WEIR_REASON_FIRST_LATE,     /* no whole first message within limits.first_ns */
    WEIR_REASON_MESSAGE_LATE,   /* a message begun was not whole within limits.message_ns */
    WEIR_REASON_IDLE,           /* nothing either way for limits.idle_ns */
    WEIR_REASON_DRAIN_LATE,     /* ending took longer than limits.drain_ns */
    WEIR_REASON_SLOW_BYTES,     /* slow peer: more queued than its policy allows */
    WEIR_REASON_SLOW_TIME,      /* slow peer: no progress for as long as its policy allows */
    WEIR_REASON_MEMORY,         /* the shard's memory budget is spent and this connection had the most */
    WEIR_REASON_NO_MEMORY,      /* the allocator had nothing for it */
    WEIR_REASON_DIAL_FAILED,    /* a dial that did not connect (error says why) */
    WEIR_REASON_DIAL_LATE,      /* a dial that did not connect in time */
    WEIR_REASON_NAME,           /* a dial whose host name has no address */
    WEIR_REASON_HANDSHAKE,      /* the handshake was refused, by us or by the peer, or is none of this protocol */
    WEIR_REASON_HANDSHAKE_LATE, /* it was not done within limits.handshake_ns */
    WEIR_REASON_COUNT
} weir_reason;

/* One word ("peer", "too-big"), for logs and labels; and a sentence, for people. Any thread; static storage. */
const char *weir_reason_name(weir_reason reason);
const char *weir_reason_sentence(weir_reason reason);

typedef enum weir_log_level {
    WEIR_LOG_DEBUG = 0, /* life of connections */
    WEIR_LOG_INFO,      /* life of the runtime */
    WEIR_LOG_WARNING,   /* something was degraded, weir goes on */
    WEIR_LOG_ERROR,     /* something failed for good */
} weir_log_level;

/* Receives one sentence without a newline. Called on whichever thread has something to say: it must not block for long,
 * and must not call weir. The sentence lives until it returns. */
typedef void (*weir_log_callback)(void *user, weir_log_level level, const char *sentence);

/* Where weir's memory comes from; all zero means malloc. `allocate` answers memory aligned to `alignment` (a power of two)
 * or NULL, which weir survives; `release` gets the same byte count back. Both are called from every shard's thread.
 * (The kernel's shared rings are mapped by the kernel and do not pass here; weir_limits() counts them.) */
typedef struct weir_allocator {
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *memory, size_t bytes);
    void *user;
} weir_allocator;

#ifdef __cplusplus
}
#endif

#endif
