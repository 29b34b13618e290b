/* SPDX-License-Identifier: MIT */
/* writer: drains a connection's channels into one send at a time.
 *
 * Its unit is a run: of each channel, from the head to the tail that it saw at the start, so it ends at a message boundary by construction. A run takes the control
 * lane first, then the local channel, then the own channels that have something, one after the other, until it is as large as one send may be; those that had to
 * wait come first in the next. Nothing else goes out before a run is finished, but for what comes into the lane meanwhile: that ends the run with its
 * present message. (A handshake goes before the lane: w_writer_put_first.) */
#ifndef W_WRITER_H
#define W_WRITER_H

#include "runtime/channel.h"
#include "runtime/own.h"

/* The control lane: a channel of one block. */
#define W_WRITER_LANE_BYTES 4000u
/* What one send carries at most, when config.send_bytes says nothing. */
#define W_WRITER_SEND_BYTES (UINT32_C(256) * 1024)

/* What few connections have: control messages queued, own channels attached. A piece of the pool, there only while it has one of them. */
struct w_writer_side {
    struct w_channel lane;
    weir_channel *own_all;                    /* every own channel attached, by next_of_all */
    weir_channel *active_first, *active_last; /* those that may have something, by next; the run's come first */
    uint32_t sharing;                         /* of own_all: those that hold together what W_OWN_TOGETHER_BYTES says */
    int32_t begun_messages, begun_bytes;      /* of own channels, begun and not yet in the statistics */
    struct w_conn_extra *extra;               /* the connection's: what few of them have; NULL: nothing */
    uint8_t reason;                           /* weir_reason: what a channel that ends by itself is told */
    bool owns_first;                          /* the last run had no room for all own channels: the next one begins with them */
    bool refuses;                             /* w_writer_refuse: those that come later are refused too */
};

/* Invariant: flight_bytes > 0 exactly when a send is in flight; its bytes are the first of lane_run_bytes, then of run_bytes, then of the own channels' runs. */
struct w_writer {
    struct w_channel channel;
    struct w_writer_side *side;
    struct w_io_gather *gather; /* NULL exactly when no gathered send is in flight */
    uint32_t run_bytes;         /* of the run, still to go from the channel */
    uint32_t lane_run_bytes;    /* of the run, still to go from the lane, before those */
    uint32_t flight_bytes;      /* asked for by the send in flight */
    uint32_t reserved_bytes;    /* what weir_reserve promised; 0: no reserve */
    uint32_t first_bytes;       /* of the channel: what has to go out before anything in the lane does */
};

static inline bool w_writer_sending(const struct w_writer *writer)
{
    return writer->flight_bytes > 0;
}

static inline uint32_t w_writer_lane_bytes(const struct w_writer *writer)
{
    return writer->side == NULL ? 0 : writer->side->lane.queued_bytes;
}

/* All that waits in lane and channel, in bytes and messages. Own channels have a bound and sums of their own. */
static inline uint64_t w_writer_queued_bytes(const struct w_writer *writer)
{
    return (uint64_t)writer->channel.queued_bytes + w_writer_lane_bytes(writer);
}

static inline uint64_t w_writer_queued_messages(const struct w_writer *writer)
{
    return (uint64_t)writer->channel.queued_messages + (writer->side == NULL ? 0 : writer->side->lane.queued_messages);
}

/* Is there, or may there be, something to send? */
static inline bool w_writer_has_some(const struct w_writer *writer)
{
    return writer->channel.queued_bytes > 0 ||
           (writer->side != NULL && (writer->side->lane.queued_bytes > 0 || writer->side->active_first != NULL));
}

/* Puts a message in the control lane, as what this codec has sealed: 0, -EAGAIN (lane full, or no memory). */
int w_writer_put_control(struct w_core *core, struct w_writer *writer, const weir_codec *codec, const weir_seal *seal,
                         const uint8_t *payload, uint32_t bytes);

/* What is queued in the channel goes out before anything that comes into the lane from now on. */
static inline void w_writer_put_first(struct w_writer *writer)
{
    writer->first_bytes = writer->channel.queued_bytes;
}

/* Submits one send of what there is: false, if there turned out to be nothing. Not while one is in flight. */
bool w_writer_start(struct w_core *core, struct w_writer *writer, int handle, uint64_t token);
/* The send has completed with `result` >= 0 bytes or a negative errno: moves the heads; answers how many messages are gone whole. */
uint32_t w_writer_done(struct w_core *core, struct w_writer *writer, int32_t result);

/* Gives everything back. Not while a send is in flight, nor while own channels are attached. */
void w_writer_drop(struct w_core *core, struct w_writer *writer);

/* --- own channels (writer_own.c) --- */

/* 0, -ENOMEM, or -EPIPE after w_writer_refuse. It is taken for having something. */
int w_writer_attach(struct w_core *core, struct w_writer *writer, weir_channel *channel);
/* Its bell has rung. */
void w_writer_heard(struct w_writer *writer, weir_channel *channel);
/* The connection drains, or is half-closed soon: they take nothing new, and end when they are empty. */
void w_writer_refuse(struct w_writer *writer);
/* All of them end. Answers what of the run begun is not delivered. */
void w_writer_detach_all(struct w_core *core, struct w_writer *writer, weir_reason reason, uint64_t *messages, uint64_t *bytes);

/* For writer.c: the parts that own channels have in a run, in a send, and in its end. room_bytes: what the run may still take. */
void w_writer_own_begin(struct w_core *core, struct w_writer_side *side, uint32_t room_bytes);
void w_writer_own_cut(struct w_writer_side *side);
uint32_t w_writer_own_run_bytes(const struct w_writer_side *side);
uint32_t w_writer_own_view(const struct w_writer_side *side, uint32_t bytes_max, struct iovec *vectors, uint32_t count_max,
                           uint32_t *bytes);
uint32_t w_writer_own_take(struct w_writer_side *side, uint32_t bytes);
/* Makes the side if it is not there: 0 or -ENOMEM. Gives it back if nothing is in it. */
int w_writer_need_side(struct w_core *core, struct w_writer *writer);
void w_writer_trim(struct w_core *core, struct w_writer *writer);

#endif
