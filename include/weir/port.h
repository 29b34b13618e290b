/* SPDX-License-Identifier: MIT */
/* weir/port.h: where a thread enters.
 *
 * A port lets one thread send to any connection of the runtime, on whichever shard it lives, and run functions on any shard. Each shard has
 * a port of its own (weir_shard_port), which weir_send_to() uses; a thread that weir did not start opens one. A port has one ring of bytes to
 * each shard and one back, made at first use: no lock, one writer and one reader each.
 *
 *     weir_port_open(runtime, NULL, &port, &error);
 *     weir_port_send_wait(port, id, "hello", 5, WEIR_SECOND);
 *     while (weir_port_next(port, &event))
 *         ...what could not be delivered, who has room again...
 *     weir_port_close(&port);
 *
 * A port belongs to one thread at a time: it may be handed over, but two threads in it at once are found out by an assert (mostly). Share a
 * connection, not a port: ports cost little (nothing when idle, some 80 KiB for each shard that it has sent to).
 *
 * What is promised: what one port sends to one connection leaves in the order it was sent, whole. A send that answered 0 is put into the connection's
 * channel (from there on its close event accounts for it), or it comes back as WEIR_PORT_UNDELIVERED. So for each port, once it is quiet:
 * messages_sent = messages_taken + messages_undelivered.
 *
 * Not for: a producer with a lot to say to one connection. That is what weir/channel.h is for. */
#ifndef WEIR_PORT_H
#define WEIR_PORT_H

#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weir_port weir_port;
typedef struct weir_channel weir_channel;

typedef struct weir_port_options {
    uint32_t channels; /* own channels open at once, at most config.channels; 0: 64 */
} weir_port_options;

/* Opens a port. Any thread; options may be NULL. 0, or -EINVAL options, -ENOSPC more than config.ports are open, -ENOMEM, -ESHUTDOWN the runtime is stopping. On
 * failure *port is NULL. */
int weir_port_open(weir_runtime *runtime, const weir_port_options *options, weir_port **port, weir_error *error);

/* Closes it: what it has sent is still delivered; what cannot be is counted by the shards alone from now on (weir_stats.messages_orphaned). Its channels are
 * closed as by weir_channel_close(). Collect events before, if you want them (weir_port_flush). Sets *port to NULL; NULL is left
 * alone. Must be done before weir_close(). Not for a shard's port. */
void weir_port_close(weir_port **port);

/* The port of a shard. On the shard's thread. Its events come to config.on_port_event; it never blocks. What it sends is published at the end of the turn. */
weir_port *weir_shard_port(weir_shard *shard);

/* --- sending --- */

/* Sends one message to a connection on any shard; copied (from 4 KiB into a blob of the port's), yours again at once. Sealed on the
 * connection's shard, so what only its codec can say (-EMSGSIZE, -EBADMSG) comes back as an event.
 *   0        accepted
 *   -EAGAIN  no room. The connection is above its high-water mark: WEIR_PORT_READY with its id follows. Or the ring is full, or has no
 *            room for an answer as the port's events were not collected: WEIR_PORT_ROOM with the shard follows. Or there is no memory for a blob: try
 *            again later (WEIR_PORT_ROOM follows, for every shard, when one has come home)
 *   -ENOMEM  it does not fit config.port_bytes, and nothing of it will come back by itself (or the allocator has nothing)
 *   -EPIPE   the connection is ending; nothing more goes out
 *   -ESTALE  the connection has ended     -EMSGSIZE  over WEIR_MESSAGE_MAX_BYTES     -ESHUTDOWN  its shard has stopped
 * From a shard's port to a connection of the same shard it is weir_send(). */
int weir_port_send(weir_port *port, weir_id id, const void *data, uint32_t bytes);

/* The same, waiting for room at most timeout_ns (0: not at all; WEIR_FOREVER). Blocks the thread. -ETIMEDOUT instead of -EAGAIN. Events that come meanwhile are
 * kept for weir_port_next(), which has to be called now and then; -ENOBUFS: so many are kept that no more can be. Not for a shard's port (-EDEADLK). */
int weir_port_send_wait(weir_port *port, weir_id id, const void *data, uint32_t bytes, uint64_t timeout_ns);

/* Ends a connection on any shard as weir_end() does, behind everything this port has sent to it. 0, -EAGAIN, -ESTALE, -ESHUTDOWN as above. */
int weir_port_end(weir_port *port, weir_id id);

/* Several sends, one publish: between the two, sends collect and nobody is woken; uncork publishes all. (A full ring publishes by itself.) A shard's port
 * is always corked until the end of the turn. */
void weir_port_cork(weir_port *port);
void weir_port_uncork(weir_port *port);

/* --- functions --- */

/* Runs on the shard's thread, inside a turn, once. */
typedef void (*weir_post_function)(weir_shard *shard, void *user);

/* Runs a function on a shard, in order with what this port sends to that shard's connections (a shard posting to itself: in its next turn). 0, -EAGAIN no room
 * (WEIR_PORT_ROOM follows), -ESHUTDOWN the shard has stopped. Accepted and never run, because the shard stopped before: WEIR_PORT_NOT_RUN. */
int weir_post(weir_port *port, weir_shard *shard, weir_post_function function, void *user);

/* --- what comes back --- */

typedef enum weir_port_event_kind {
    WEIR_PORT_READY = 1, /* id: a connection that had answered -EAGAIN has room again, or has ended */
    WEIR_PORT_ROOM, /* shard: the ring to it has room again after an -EAGAIN (of a shard's port also after one that weir itself met: pipes send over it); or it
                       has stopped: whoever waits for something there tries again, and hears so */
    WEIR_PORT_UNDELIVERED, /* id, error, messages, bytes: were accepted and not put into the channel. Neighbours with one cause are gathered into one event */
    WEIR_PORT_NOT_RUN,      /* function, user: of a weir_post that was not run */
    WEIR_PORT_CHANNEL_ROOM, /* channel: half of it or more is free again after an -EAGAIN */
    WEIR_PORT_CHANNEL_ENDED, /* channel, id, reason, messages, bytes: its connection has ended; that many were committed and not delivered. Close it now */
} weir_port_event_kind;

typedef struct weir_port_event {
    weir_port_event_kind kind;
    int error; /* UNDELIVERED: -ESTALE the connection had ended, -EMSGSIZE, -EBADMSG its codec's, -EPIPE it is ending */
    weir_id id;
    uint32_t shard; /* its index */
    weir_reason
        reason; /* CHANNEL_ENDED: why the connection ended; NONE: before its shard had heard of the channel. NO_MEMORY: or the shard had none for the
                                 channel, and the connection goes on */
    uint64_t messages, bytes; /* UNDELIVERED: payload bytes; CHANNEL_ENDED: as on the wire */
    weir_channel *channel;
    weir_post_function function;
    void *user; /* NOT_RUN: the function's; CHANNEL_...: the channel's */
} weir_port_event;

/* The next event: true and filled in, or false: none. On the port's thread. */
bool weir_port_next(weir_port *port, weir_port_event *event);

/* Publishes what is corked (but not what channels have put), and blocks until weir_port_next() would answer, or timeout_ns are over. Needs no
 * descriptor for its sleep. 0, -ETIMEDOUT, -EDEADLK on a shard's port, or what stopped it from sleeping. */
int weir_port_wait(weir_port *port, uint64_t timeout_ns);

/* A descriptor for your own event loop: readable when weir_port_next() may have something. Call that until it answers false before you sleep on
 * it again. Weir's to close; a negative errno when there are no descriptors. Not for a shard's port (-EDEADLK). */
int weir_port_descriptor(weir_port *port);

/* Publishes, and waits until the shards have taken everything this port has sent: 0, -ETIMEDOUT, -ENOBUFS more has come back than is kept (256 events):
 * collect first; -EDEADLK on a shard's port. What comes back is there for weir_port_next() then. */
int weir_port_flush(weir_port *port, uint64_t timeout_ns);

typedef struct weir_port_stats {
    uint64_t messages_sent, bytes_sent;               /* accepted, payload bytes; own channels not counted, groups neither */
    uint64_t messages_taken, bytes_taken;             /* of them, put into their connections' channels */
    uint64_t messages_undelivered, bytes_undelivered; /* of them, come back (and there for weir_port_next) */
    uint64_t posts;                                   /* functions accepted */
    uint64_t refusals;                                /* answered -EAGAIN */
    uint64_t publishes;                               /* times it published to a ring: messages_sent / publishes is the mean batch */
    uint64_t wakes;                                   /* of them, those that had to wake a sleeping shard */
} weir_port_stats;

/* On the port's thread. */
void weir_port_stats_get(const weir_port *port, weir_port_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
