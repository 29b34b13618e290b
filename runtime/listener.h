/* SPDX-License-Identifier: MIT */
/* listener: accepts connections. A listener belongs to the runtime; each shard has a part in it that accepts.
 *
 * Any thread opens and stops a listener by changing its `life` and ringing the shards; each shard then looks (w_listener_follow) and does its part:
 * FREE -> OPENING (claimed by one thread, of the next generation) -> LISTENING -> STOPPING -> FREE (by the last shard that has left). */
#ifndef W_LISTENER_H
#define W_LISTENER_H

#include <weir/listen.h>

#include "runtime/core.h"
#include "runtime/life.h"
#include "runtime/port.h"

/* listen(2)'s, by default; net.core.somaxconn cuts it. */
#define W_LISTENER_BACKLOG 4096u

enum w_listener_state { W_LISTENER_FREE, W_LISTENER_OPENING, W_LISTENER_LISTENING, W_LISTENER_STOPPING };

struct w_listener {
    _Atomic uint64_t
        life; /* its state is an enum w_listener_state; release on every change, acquire on every look: what lies behind it is published by it */
    _Atomic uint32_t shards_left; /* parts that have not left yet */
    const weir_protocol *protocol;
    void *user;
    struct w_io_address address; /* as it really is */
    bool remove_address;         /* it left a file behind that is ours to remove */
    bool one_handle;             /* all shards accept from handles[0] */
    bool round_robin;            /* shard 0 accepts for all, and hands out in turn */
    uint32_t next_shard;         /* round robin: shard 0's: whose turn it is */
    _Atomic bool waits_for_slot; /* round robin: all shards were full: who frees a slot tells shard 0 */
    uint32_t backlog;            /* so many may be waiting to be accepted */
    int *handles;                /* one for each shard */
};

enum w_listener_part_state { W_LISTENER_AWAY, W_LISTENER_ACCEPTING, W_LISTENER_WAITING, W_LISTENER_LEFT };

/* A shard's part. AWAY: not begun. ACCEPTING: wants connections. WAITING: no slot or no descriptor now. LEFT: will not accept again. */
struct w_listener_part {
    struct w_core *core;
    struct w_listener *listener;
    struct w_port_later retry;  /* round robin: a slot is free here, and the shard that accepts is to be told */
    struct w_wheel_entry timer; /* WAITING for descriptors: when to try again */
    uint64_t backoff_ns;
    uint32_t index;
    uint32_t left_generation; /* LEFT: which of the listener's generations it has left */
    uint8_t state;
    bool in_flight; /* an accept is */
    bool many;      /* and it is one that brings any number of connections */
    bool broken;    /* WAITING for good: the socket answered with an error that time does not mend */
};

/* Looks what its listener has become: begins, or leaves. */
void w_listener_follow(struct w_listener_part *part);
/* Leaves because the shard stops. */
void w_listener_leave(struct w_listener_part *part);
/* True when nothing of it is left on this shard. */
static inline bool w_listener_is_quiet(const struct w_listener_part *part)
{
    return (part->state == W_LISTENER_AWAY || part->state == W_LISTENER_LEFT) && !part->in_flight;
}
void w_listener_accepted(struct w_listener_part *part, const struct w_io_completion *completion);
/* A slot or a descriptor has become free: true when it accepts again. */
bool w_listener_retry(struct w_listener_part *part);
/* The number of free slots has changed: is what it has in flight still right? */
void w_listener_look(struct w_listener_part *part);
void w_listener_timer(struct w_wheel_entry *entry, void *context, uint64_t now_ns);

/* Closes what a listener has open, when no shard uses it (any more). */
void w_listener_discard(struct w_listener *listener, const struct w_io_engine *engine, uint32_t shard_count);

#endif
