/* SPDX-License-Identifier: MIT */
/* writer: drains a connection's channels into one send at a time.
 *
 * Its unit is a run: from the head to the tail that it saw at the start, so it ends at a message boundary by construction, and it is bounded by the
 * channel's hard limit. Nothing else goes out before it is finished; the control lane goes first in each run, and what comes into the lane
 * in mid-run ends the run with its present message. */
#ifndef W_WRITER_H
#define W_WRITER_H

#include "runtime/channel.h"

/* The control lane: a channel of one block, there only while something is in it. */
#define W_WRITER_LANE_BYTES 4000u
/* The most that one send carries: the kernel would not take more at once anyway, and the rest stays warm. */
#define W_WRITER_SEND_BYTES (UINT32_C(1) << 20)

/* Invariant: flight_bytes > 0 exactly when a send is in flight; its bytes are the first of lane_run_bytes and then of run_bytes. */
struct w_writer {
    struct w_channel channel;
    struct w_channel *lane;     /* NULL exactly when no control message is queued */
    struct w_io_gather *gather; /* NULL exactly when no gathered send is in flight */
    uint32_t run_bytes;         /* of the run, still to go from the channel */
    uint32_t lane_run_bytes;    /* of the run, still to go from the lane, before those */
    uint32_t flight_bytes;      /* asked for by the send in flight */
    uint32_t reserved_bytes;    /* what weir_reserve promised; 0: no reserve */
};

static inline bool w_writer_sending(const struct w_writer *writer)
{
    return writer->flight_bytes > 0;
}

static inline uint32_t w_writer_lane_bytes(const struct w_writer *writer)
{
    return writer->lane == NULL ? 0 : writer->lane->queued_bytes;
}

/* All that waits, in bytes and messages. */
static inline uint64_t w_writer_queued_bytes(const struct w_writer *writer)
{
    return (uint64_t)writer->channel.queued_bytes + w_writer_lane_bytes(writer);
}

static inline uint64_t w_writer_queued_messages(const struct w_writer *writer)
{
    return (uint64_t)writer->channel.queued_messages + (writer->lane == NULL ? 0 : writer->lane->queued_messages);
}

/* Puts a message in the control lane: 0, -EAGAIN (lane full, or no memory). */
int w_writer_put_control(struct w_core *core, struct w_writer *writer, const weir_seal *seal, const uint8_t *payload, uint32_t bytes);

/* Submits one send of what is queued. Not while one is in flight, and only when something is queued. */
void w_writer_start(struct w_core *core, struct w_writer *writer, int handle, uint64_t token);
/* The send has completed with `result` >= 0 bytes or a negative errno: moves the heads; answers how many messages are gone whole. */
uint32_t w_writer_done(struct w_core *core, struct w_writer *writer, int32_t result);

/* Gives everything back. Not while a send is in flight. */
void w_writer_drop(struct w_core *core, struct w_writer *writer);

#endif
