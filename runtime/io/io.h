/* SPDX-License-Identifier: MIT */
/* io: the seam. All that touches the outside world passes here: sockets, time, chance, wake-ups, receive buffers.
 * Nothing above it knows io_uring, a descriptor's flags, a kernel's version or the clock.
 *
 * Engines: io/uring.c (the product), io/sim.c (a simulated kernel). tests/contract runs the same test against each.
 *
 * The contract:
 *   1. An operation (accept, connect, receive, send, close, resolve) carries a token of the caller's: 63 bits (the top one is the
 *      engine's), unique among what is in flight. It gets exactly one final
 *      completion, also when it is cancelled or fails; accept and receive get any number of completions with W_IO_MORE
 *      before it. W_IO_MORE alone tells whether the operation lives on: not the result's sign.
 *   2. Memory handed to an operation (bytes, vectors, addresses) stays in place until its final completion.
 *   3. Completions are delivered by take() only, never from inside a call that submits. take() runs no callback.
 *   4. Submitting never fails and never blocks: what goes wrong comes as the completion's result.
 *   5. At most one receive and one send are in flight on a handle. (The caller sees to it; engines assert it where cheap.)
 *   6. cancel() asks for the final completion to come soon; the operation may still succeed (data may still arrive). Cancelling what is
 *      not in flight does nothing. A cancel has no completion of its own.
 *   7. close() is called once for each handle, after its other operations have had their final completions. The number may be reused by
 *      the outside world from then on.
 *   8. Results are counts >= 0 or negative errnos. A receive's 0 is the peer's end. A receive without W_IO_MORE and result > 0 has simply
 *      to be started again. -ENOBUFS: no receive buffer; to be started again when buffers_free() > 0. -ECANCELED: cancelled.
 *      A send's result may be less than asked (short). What a connection died of is told once: to its receive, or to its send. The other is
 *      told 0 or -EPIPE, and its completion comes behind: a 0 that has no error of the send before it is an end that the peer meant.
 *   9. The thread that calls start() is the only one to call anything else, but for clock() and wake(), which any thread may call, wake() in a signal
 *      handler too.
 *  10. now_ns is read from the world once for each submit() (and at start()); between them it stands still, unless the caller sets it to clock(). */
#ifndef W_IO_H
#define W_IO_H

#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <weir/listen.h>

#include "runtime/bell.h"

#define W_IO_MORE   1U /* more completions of this operation follow */
#define W_IO_BUFFER 2U /* data lies in a receive buffer; the taker owns one reference to it: buffer_release() */

/* submit(): sleep until something happens. */
#define W_IO_FOREVER UINT64_MAX

struct w_io_completion {
    uint64_t token;
    const uint8_t *data; /* where the `result` received bytes lie, with W_IO_BUFFER */
    int32_t result;
    uint16_t flags;  /* W_IO_... */
    uint16_t buffer; /* with W_IO_BUFFER */
};

/* A socket address, ready for the kernel. */
struct w_io_address {
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
        struct sockaddr_un unix_path;
    } socket;
    socklen_t bytes;
};

/* What a send of several pieces needs to stand still until it completes. */
#define W_IO_VECTORS_MAX 123
struct w_io_gather {
    struct msghdr header; /* the engine's to fill */
    uint32_t count;       /* of vectors, 1 to W_IO_VECTORS_MAX */
    struct iovec vectors[];
};

/* One of two sizes: most have few vectors, and with many connections what is larger than it has to be is not in the caches. */
#define W_IO_VECTORS_FEW 12
static inline size_t w_io_gather_bytes(uint32_t count)
{
    return sizeof(struct w_io_gather) + (count <= W_IO_VECTORS_FEW ? W_IO_VECTORS_FEW : W_IO_VECTORS_MAX) * sizeof(struct iovec);
}

#define W_IO_RESOLVE_MAX 8
/* One name look-up; the caller's memory until the completion. */
struct w_io_resolve {
    char host[256];
    uint16_t port;
    /* Filled in before the completion with result >= 0 (the count). Else -EHOSTUNREACH (no address), -EAGAIN (name server), -ENOMEM, -ECANCELED. */
    struct w_io_address addresses[W_IO_RESOLVE_MAX];
    /* The engine's, from resolve() to the completion: how it is kept in a list of answers that wait for take(). */
    struct w_io_resolve *engine_next;
    uint64_t engine_token;
    int32_t engine_result;
};

struct w_io_setup {
    uint32_t shard_index, shard_count;
    uint32_t receive_buffers;        /* as asked; what is really used stands in struct w_io */
    uint32_t receive_buffer_bytes;   /* 0: the engine's default */
    uint32_t connections;            /* at most so many at once: sizes nothing but the rings */
    bool embedded;                   /* the thread sleeps on descriptor(), not in submit() */
    const char *disable;             /* features not to use, comma separated; may be NULL */
    const weir_allocator *allocator; /* complete (never with NULL functions); stays */
    weir_log_callback log;           /* never NULL */
    void *log_user;
};

/* Counters of an engine; read by any thread (relaxed), written by its own. */
struct w_io_counters {
    _Atomic uint64_t completion_overflows;
    _Atomic uint64_t late_finds;
    _Atomic uint64_t sleeps;
};

/* Who else listens on an address. Several sockets on one TCP address, one for each shard, are opened first FIRST, then NEXT with the address
 * that local_address() gave for the first. FIRST answers -EADDRINUSE when anybody, of the same user too, listens there already. */
enum w_io_sharing {
    W_IO_ALONE,        /* nobody: this is the only socket */
    W_IO_SHARED_FIRST, /* the first of several */
    W_IO_SHARED_NEXT,  /* one more, beside a FIRST of the same runtime */
};

struct w_io; /* below: the part that all engines share */

/* An engine: a world (NULL for the real one) and its functions. */
/* All of it zero but for the descriptor. */
struct w_io_event {
    _Atomic uint32_t set;   /* 1: it is set */
    _Atomic int descriptor; /* -1: nobody has asked for it. The thread's that sleeps; the others only read it */
};

struct w_io_engine {
    const char *name;
    void *world;

    /* --- for the whole runtime; any thread; these may be called before any shard is opened --- */

    /* A listening socket, bound. Answers the handle or a negative errno. A stale unix socket file is replaced. */
    int (*listen)(void *world, const struct w_io_address *address, const weir_socket_options *options, enum w_io_sharing sharing);
    /* Removes the socket file of a unix listener that listen() made, once its handle is closed. A file that somebody else (another
     * process, a parent, a successor) listens on stays. Nothing for other addresses. Not for inherited listeners. */
    void (*remove_address)(void *world, const struct w_io_address *address);
    /* Takes over an inherited listening descriptor: the handle, or -EBADF, -EINVAL (not a listening stream socket). */
    int (*listen_inherited)(void *world, int descriptor, const weir_socket_options *options);
    /* The address a handle is bound to, or connected to. 0 or negative errno. */
    int (*local_address)(void *world, int handle, struct w_io_address *address);
    int (*peer_address)(void *world, int handle, struct w_io_address *address);
    /* Closes a handle that no shard has used yet (or uses any more). */
    void (*discard)(void *world, int handle);
    /* An event that one thread, not a shard's, resets and sleeps on, and any thread sets. */
    void (*event_set)(void *world, struct w_io_event *event);
    void (*event_reset)(void *world, struct w_io_event *event);
    /* Sleeps until it is set: 0 (perhaps it is: look), -ETIMEDOUT, -EINTR. (A simulated world answers -ETIMEDOUT at once when it is not: time is the driver's.) */
    int (*event_wait)(void *world, struct w_io_event *event, uint64_t wait_ns);
    /* A descriptor that is readable while it is set, or a negative errno: none can be had. Its thread. */
    int (*event_descriptor)(void *world, struct w_io_event *event);
    void (*event_close)(void *world, struct w_io_event *event);
    /* Looks a name up, blocking; as w_io_resolve. */
    int (*resolve_now)(void *world, struct w_io_resolve *resolve);

    /* --- a shard's --- */

    /* Makes everything that can fail; any thread. 0 or a negative errno with the sentence in error. */
    int (*open)(void *world, const struct w_io_setup *setup, struct w_io **io, weir_error *error);
    /* After the last completion of every operation. Any thread. Sets *io to NULL. */
    void (*close)(struct w_io **io);
    /* Binds to the calling thread. 0 or a negative errno. */
    int (*start)(struct w_io *io);

    void (*accept)(struct w_io *io, int handle, uint64_t token);
    /* The same for one connection: never W_IO_MORE, and all others stay in the backlog. */
    void (*accept_one)(struct w_io *io, int handle, uint64_t token);
    /* A socket to dial with: the handle, or a negative errno. */
    int (*socket)(struct w_io *io, const struct w_io_address *address, const weir_socket_options *options);
    /* A connected socket from elsewhere, options applied: 0, or -EINVAL. */
    int (*adopt)(struct w_io *io, int descriptor, const weir_socket_options *options);
    void (*connect)(struct w_io *io, int handle, const struct w_io_address *address, uint64_t token);
    void (*receive)(struct w_io *io, int handle, uint64_t token);
    /* True when the peer's end or a reset has come already. To be asked once after the first bytes that a receive brings: Linux (6.18 too) lets a multishot
     * receive wait for ever if it was started when bytes and, behind them, a reset (TCP) or the end (unix) had come. If so: cancel, and start it again. */
    bool (*hung_up)(struct w_io *io, int handle);
    void (*send)(struct w_io *io, int handle, const void *data, size_t bytes, uint64_t token);
    void (*send_gather)(struct w_io *io, int handle, struct w_io_gather *gather, uint64_t token);
    /* At once, without a completion. how: SHUT_WR, SHUT_RDWR. Errors are not told: the receive and the send will tell. */
    void (*shutdown)(struct w_io *io, int handle, int how);
    /* Makes the coming close() send a reset. */
    void (*reset_on_close)(struct w_io *io, int handle);
    void (*close_handle)(struct w_io *io, int handle, uint64_t token);
    void (*cancel)(struct w_io *io, uint64_t token);
    void (*resolve)(struct w_io *io, struct w_io_resolve *resolve, uint64_t token);

    void (*buffer_hold)(struct w_io *io, uint16_t buffer);    /* one more reference */
    void (*buffer_release)(struct w_io *io, uint16_t buffer); /* one less; the last gives it back to the kernel */

    /* Hands over what was queued; sleeps up to wait_ns while nothing has completed and nobody has called wake() (0: not at
     * all; signals may end it early). 0, or a negative errno: the engine is broken for good. */
    int (*submit)(struct w_io *io, uint64_t wait_ns);
    /* Moves out at most `max` completions that are there. */
    uint32_t (*take)(struct w_io *io, struct w_io_completion *completions, uint32_t max);
    /* True when a submit(0) would bring something to take, or wake() was called: cheap, no system call; for spinning. */
    bool (*stirring)(struct w_io *io);
    /* The clock itself, for spinning, for timing a turn and between turns; everything else uses now_ns. Any thread. */
    uint64_t (*clock)(struct w_io *io);
    uint64_t (*random)(struct w_io *io);
    /* Any thread, and signal handlers: the present sleep ends, or the next submit() does not sleep. Used up by that submit(), whatever its
     * wait_ns: what was published before the wake is to be looked for after it. */
    void (*wake)(struct w_io *io);

    /* The descriptor to sleep on. Asking for it before start() makes the shard embedded, as setup.embedded does: a negative errno when
     * that fails, and -EINVAL once it was started without. Any thread before start(). */
    int (*descriptor)(struct w_io *io);
    /* Embedded only: the last step before sleeping: forget what the descriptor said, then look again.
     * True: nothing came meanwhile, whatever comes from now on makes it readable. */
    bool (*may_sleep)(struct w_io *io);
};

/* The part of a shard's engine that all engines share; they put it first in a struct of their own. */
struct w_io {
    const struct w_io_engine *engine;
    /* May be NULL. What is rung there is to be looked at by the shard: submit() does not sleep, and stirring() is true, while something is. Before it sleeps the
     * engine lets it doze; who rings and finds it asleep calls wake(). */
    struct w_bell *bell;
    uint64_t now_ns;       /* since the last submit() */
    uint32_t buffers;      /* receive buffers in all */
    uint32_t buffers_free; /* of them, those the kernel can fill */
    uint32_t buffer_bytes; /* each */
    uint64_t memory_bytes; /* everything this engine has mapped and allocated, rings included */
    uint64_t lookup_bytes; /* what each look-up under way takes beside that */
    struct w_io_counters counters;
};

/* io/uring.c: the real kernel. */
const struct w_io_engine *w_io_uring(void);

/* runtime/runtime.c: weir_open() on an engine other than the real one (weir::sim calls it; hence the public-looking name). */
struct weir_config;
int weir_open_on(const struct w_io_engine *engine, const struct weir_config *config, weir_runtime **runtime, weir_error *error);

#endif
