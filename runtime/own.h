/* SPDX-License-Identifier: MIT */
/* own: an own channel: a producer's ring of sealed frames to one connection, and the way it is attached to the connection's writer.
 *
 *   producer (the port's thread)                                     shard (the writer)
 *   reserve, seal, commit, publish -> fence -> idle? ring the bell   look -> a run: from head to the tail seen -> sent -> release
 *   full: waiting -> fence -> look again                             nothing there: idle -> fence -> look again
 *                                                                    released: fence -> waiting? ring the port's bell
 *
 * Its life. Open: the memory is the port's; a record tells the shard, which attaches it to the connection. Then either side may end it:
 *   the producer closes: `closed`; the shard sends what is there, detaches, and sets `ended`;
 *   the connection drains: `refused`: commits answer -EPIPE; what was committed before the shard's last look still goes out; then, or when
 *   the connection ends in any other way: what was delivered is written down, and `ended` is set.
 * Setting `ended` is the shard's last touch of the channel. The producer's thread frees it when it has seen `ended` and has closed it. What it has
 * committed, less what was delivered, is what was not: so each channel's sums close however the two ran.
 * tests/model/own.pml and life.pml check both. */
#ifndef W_OWN_H
#define W_OWN_H

#include <weir/channel.h>

#include "runtime/port.h"

#define W_OWN_BYTES_MIN 4096u
#define W_OWN_BYTES_MAX W_SPSC_MAX_BYTES

/* The ring, when the options say nothing: for the first so much, for the others a part of it by how many are open in the runtime, but never less than a share (below).
 * Measured: what the shard has read lies in its core's cache too, and for each line that the producer then writes again the shard's core must be asked for it: two
 * thirds of what a message costs a lone producer. A ring of more than the second-level cache is written again only when it has left that. Many producers make the
 * shard slow enough for that not to matter. */
#define W_OWN_BYTES (2048u * 1024)
#define W_OWN_PART  UINT64_C(8) /* the large ones are for who has so many times that memory */
/* What such channels of one connection hold together, if that leaves each of them the least. Measured: what a send carries grows with what waits, up to about this;
 * more only makes everybody wait longer. */
#define W_OWN_TOGETHER_BYTES (1024u * 1024)
#define W_OWN_SHARE_BYTES    (64u * 1024)

struct weir_channel {
    /* Constant. */
    weir_port *port;
    weir_id id;
    const weir_protocol *protocol;
    void *user;
    bool shares;         /* its size was left to us */
    uint32_t number;     /* on the shard's bell, from w_port_bell_channels on */
    uint32_t place;      /* in the port, and on its bell */
    uint32_t *ends;      /* where the pieces end: positions, by their count modulo ends_count */
    uint32_t ends_count; /* a power of two; so many pieces at most */
    size_t memory_bytes; /* of everything, this struct too */

    struct w_spsc ring;

    /* Words of both. */
    alignas(64) _Atomic bool idle;    /* the shard has found nothing and does not look any more: whoever clears it sees to the rest */
    _Atomic bool refused;             /* the shard takes nothing new; or it has ended */
    _Atomic uint32_t share;           /* full at so many bytes, though the ring be larger; written by the shard once it has the channel */
    _Atomic uint32_t ended;           /* weir_reason + 1; 0: not ended. The shard's last touch */
    alignas(64) _Atomic bool waiting; /* the producer waits for room */
    _Atomic bool closed;              /* the producer will commit nothing more */

    /* The producer's. */
    uint32_t
        quick_bytes; /* what may be put at quick_at without a look at the ring, in pieces that have room for an end; 0 while there is a reserve */
    uint8_t *quick_at;        /* right behind the last piece */
    weir_channel_stats stats; /* but for what the shard counts */
    uint32_t reserved_bytes;  /* 0: no reserve */
    uint8_t *reserved;
    bool told_full, told_ended;

    /* The shard's. A run is what is being sent: the next run_bytes bytes from `at` on; 0: none is. Messages are gone whole up to whole_at. */
    alignas(64) weir_channel *next; /* in the writer's list of those that have something */
    weir_channel *next_of_all;      /* of the connection's */
    weir_channel **link_of_all;     /* what points to it there */
    uint32_t at, whole_at;
    uint32_t whole_pieces;
    uint32_t run_bytes;
    uint32_t run_end, run_pieces; /* position and pieces at its end */
    bool active;                  /* in the writer's list */
    /* Relaxed, and whole before `ended`. Here, and not beside it: the producer looks there for each message. */
    _Atomic uint64_t messages_delivered, bytes_delivered;
};

/* --- the producer's side (own.c) --- */

/* 0 with *channel, not yet known to the shard; -ENOMEM, -ENOSPC. bytes: a power of two in the range above; 0: see W_OWN_BYTES. */
int w_own_create(weir_channel **channel, weir_port *port, weir_id id, const weir_protocol *protocol, uint32_t bytes, void *user);
/* Undoes that, when the shard could not be told. */
void w_own_destroy(weir_channel *channel);
/* weir_channel_close: the port is closing, or the user has done with it. Frees it, when the shard is done with it too. */
void w_own_close(weir_channel *channel);
/* Straight to the allocator; on any thread, when the port is gone. */
void w_own_free_late(weir_channel *channel);
/* Is half of it free, or is it over? And: whoever has to wait for that will be rung for; look again after it. */
bool w_own_has_room(weir_channel *channel);
void w_own_wait(weir_channel *channel);
/* Something to tell about it? If so, fills the event; told: it has been. (A closed one that has ended is freed here, and has nothing to tell.) */
bool w_own_event(weir_channel *channel, weir_port_event *event);
void w_own_told(weir_channel *channel, weir_port_event_kind kind);

/* --- the writer's side (own_run.c); on the shard --- */

/* Is there something to send? If not it is idle from here on (and its bell will ring), or `over`: the producer has closed it and all is sent. */
enum w_own_look { W_OWN_SOMETHING, W_OWN_IDLE, W_OWN_OVER };
enum w_own_look w_own_look(weir_channel *channel);
/* So many share: tells it what it may hold, if it is one of them (then there is one at least). */
void w_own_share(weir_channel *channel, uint32_t count);
/* What a run would have at most; and begins one with what the last look has seen, at most half of what it may hold: its bytes. */
uint32_t w_own_waiting(const weir_channel *channel);
uint32_t w_own_begin(weir_channel *channel);
/* The next `bytes_max` bytes of the run. */
uint32_t w_own_view(const weir_channel *channel, uint32_t bytes_max, struct iovec vectors[2], uint32_t *bytes);
/* The run ends with the message it is in. */
void w_own_cut(weir_channel *channel);
/* So many bytes of it are gone: answers how many messages are gone whole by that. Their room is given back. */
uint32_t w_own_take(weir_channel *channel, uint32_t bytes);
/* The last touch. */
void w_own_end(weir_channel *channel, weir_reason reason);

#endif
