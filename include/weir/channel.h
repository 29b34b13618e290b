/* SPDX-License-Identifier: MIT */
/* weir/channel.h: a producer's own channel to one connection.
 *
 * For a thread with a lot to say to one connection: it writes whole frames, sealed by the connection's codec, straight into a ring of its own,
 * and the connection's writer sends from there, beside all others, fairly, run by run. A message costs one copy and no lock; producers on one connection
 * share nothing but the writer.
 *
 *     weir_channel_open(port, id, NULL, &channel);
 *     if (weir_channel_send(channel, data, bytes) == -EAGAIN)
 *         ...WEIR_PORT_CHANNEL_ROOM will come to the port, or weir_channel_wait()...
 *     weir_channel_close(&channel);
 *
 * All calls are for the thread that has the port. Order and boundaries hold within a channel; between a channel and its port, or two channels, no order is promised.
 * A channel has a bound of its own: it does not count against the connection's water marks. When the connection ends, the port hears
 * WEIR_PORT_CHANNEL_ENDED with what was not delivered, and sends answer -EPIPE.
 *
 * Not for: a few messages to many connections. That is what weir_port_send() is for. */
#ifndef WEIR_CHANNEL_H
#define WEIR_CHANNEL_H

#include <weir/conn.h>
#include <weir/port.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weir_channel_options {
    /* Of the ring (a quarter more in memory): a power of two, 4 KiB to 16 MiB; it is full when all of it is taken. A message takes at most half of it, sealed.
     * 0: 2 MiB when it is the only one open in the runtime, of two 1 MiB, and so on down to 64 KiB; 64 KiB too where port_bytes (a shard's port: memory_bytes) is below
     * 16 MiB. And how much of it may be taken depends on how many such channels the connection has: 1 MiB for all of them together, at least 64 KiB for each. So one
     * producer's sends are large, and many do not make one another wait. */
    uint32_t bytes;
    void *user; /* handed on in events */
} weir_channel_options;

/* Opens a channel to a connection on any shard. What is sent goes out once the shard has heard of it. options may be NULL.
 * 0, or -ESTALE the connection has ended, -EAGAIN no room in the ring to its shard (WEIR_PORT_ROOM follows), -ENOSPC as many as weir_port_options.channels (or
 * config.channels in all) are open, -ENOMEM, -EINVAL options, -ESHUTDOWN the shard has stopped. On failure *channel is NULL. */
int weir_channel_open(weir_port *port, weir_id id, const weir_channel_options *options, weir_channel **channel);

/* No more will be sent: what was, still goes out; nothing is told any more. Sets *channel to NULL; NULL is left alone. */
void weir_channel_close(weir_channel **channel);

/* Sends one message: 0, -EAGAIN full, -EPIPE the connection is ending or has ended, -EMSGSIZE more than half the ring or over the codec's limit, -EBADMSG the codec cannot carry
 * it. */
int weir_channel_send(weir_channel *channel, const void *data, uint32_t bytes);

/* The same in two steps, for batches: put any number of messages, then publish them together. A put that finds the channel full has
 * published what was there. What is put and never published goes out at the close at the latest. */
int weir_channel_put(weir_channel *channel, const void *data, uint32_t bytes);
void weir_channel_publish(weir_channel *channel);

/* Builds a message in place: room for a payload of up to `bytes`, then commit what it came to (published at once). One reserve at a time; the next call on the
 * channel but commit ends it. Errors as weir_channel_send; commit: 0, -EBADMSG, -EINVAL (no reserve, or more than reserved). */
int weir_channel_reserve(weir_channel *channel, uint32_t bytes, weir_room *room);
int weir_channel_commit(weir_channel *channel, uint32_t bytes);

/* Blocks until half of what it may take is free, or the connection has ended, at most timeout_ns. 0: try again; -ETIMEDOUT; -EDEADLK: of a shard's port. */
int weir_channel_wait(weir_channel *channel, uint64_t timeout_ns);

weir_id weir_channel_id(const weir_channel *channel);
void *weir_channel_user(const weir_channel *channel);

typedef struct weir_channel_stats {
    uint64_t messages_sent, bytes_sent;           /* accepted; bytes as on the wire */
    uint64_t messages_delivered, bytes_delivered; /* of them, taken whole by the kernel */
    uint64_t refusals;                            /* answered -EAGAIN */
    uint64_t rings;                               /* times the shard had to be told that there is something */
    uint64_t queued_bytes;                        /* sent and not yet taken */
} weir_channel_stats;
void weir_channel_stats_get(const weir_channel *channel, weir_channel_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
