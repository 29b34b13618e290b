/* SPDX-License-Identifier: MIT */
/* writer: drains a connection's channels into one send at a time. Runs on the connection's shard only.
 *
 * Road:    start -> a run: the lane, then the channel up to its tail -> one send of as much as fits -> done -> heads move -> start again.
 * Ditches: short send -> the rest of the run goes next; no memory for vectors -> the first piece goes alone; error -> the caller ends
 *          the connection, what is queued stays counted. */
#include "runtime/writer.h"

#include <errno.h>

int w_writer_put_control(struct w_core *core, struct w_writer *writer, const weir_seal *seal, const uint8_t *payload, uint32_t bytes)
{
    uint32_t total = seal->head_bytes + bytes + seal->trailer_bytes;
    if (w_writer_lane_bytes(writer) + total > W_WRITER_LANE_BYTES)
        return -EAGAIN;
    if (writer->lane == NULL) {
        writer->lane = w_pool_take(&core->pool, sizeof *writer->lane);
        if (writer->lane == NULL)
            return -EAGAIN;
        *writer->lane = (struct w_channel){0};
    }
    if (w_channel_put(core, writer->lane, seal, payload, bytes, true) == 0)
        return 0;
    if (writer->lane->queued_bytes == 0) {
        w_pool_give(&core->pool, writer->lane, sizeof *writer->lane);
        writer->lane = NULL;
    }
    return -EAGAIN;
}

/* Fills the gather from lane and channel; answers the bytes. */
static uint32_t writer_gather(struct w_writer *writer, struct w_io_gather *gather)
{
    uint32_t lane_bytes = 0, channel_bytes = 0;
    gather->count = 0;
    if (writer->lane_run_bytes > 0)
        gather->count = w_channel_view(writer->lane, writer->lane_run_bytes, gather->vectors, W_IO_VECTORS_MAX, &lane_bytes);
    if (lane_bytes == writer->lane_run_bytes)
        gather->count += w_channel_view(&writer->channel, w_base_min_u32(writer->run_bytes, W_WRITER_SEND_BYTES),
                                        gather->vectors + gather->count, W_IO_VECTORS_MAX - gather->count, &channel_bytes);
    return lane_bytes + channel_bytes;
}

void w_writer_start(struct w_core *core, struct w_writer *writer, int handle, uint64_t token)
{
    if (writer->lane != NULL && writer->lane_run_bytes == 0 &&
        writer->run_bytes > 0) /* came in mid-run: the run ends with its present message */
        writer->run_bytes = w_base_min_u32(writer->run_bytes, w_channel_to_boundary(&writer->channel));
    if (writer->run_bytes == 0 && writer->lane_run_bytes == 0) {
        writer->lane_run_bytes = w_writer_lane_bytes(writer);
        writer->run_bytes = writer->channel.queued_bytes;
    }
    struct w_channel *first = writer->lane_run_bytes > 0 ? writer->lane : &writer->channel;
    uint32_t first_bytes = writer->lane_run_bytes > 0 ? writer->lane_run_bytes : writer->run_bytes, bytes;
    struct iovec piece;
    w_channel_view(first, w_base_min_u32(first_bytes, W_WRITER_SEND_BYTES), &piece, 1, &bytes);
    uint32_t wanted = w_base_min_u32(writer->lane_run_bytes + writer->run_bytes, W_WRITER_SEND_BYTES);
    if (bytes < wanted)
        writer->gather = w_pool_take(&core->pool, sizeof *writer->gather);
    w_stats_add(&core->stats.sends, 1);
    if (writer->gather == NULL) {
        writer->flight_bytes = bytes;
        core->engine->send(core->io, handle, piece.iov_base, bytes, token);
        return;
    }
    writer->flight_bytes = writer_gather(writer, writer->gather);
    core->engine->send_gather(core->io, handle, writer->gather, token);
}

uint32_t w_writer_done(struct w_core *core, struct w_writer *writer, int32_t result)
{
    if (writer->gather != NULL) {
        w_pool_give(&core->pool, writer->gather, sizeof *writer->gather);
        writer->gather = NULL;
    }
    uint32_t flight_bytes = writer->flight_bytes;
    writer->flight_bytes = 0;
    if (result < 0)
        return 0;
    uint32_t bytes = (uint32_t)result, messages = 0;
    W_ASSERT(bytes <= flight_bytes);
    if (bytes < flight_bytes)
        w_stats_add(&core->stats.short_sends, 1);
    uint32_t lane_bytes = w_base_min_u32(bytes, writer->lane_run_bytes);
    if (lane_bytes > 0) {
        messages += w_channel_take(core, writer->lane, lane_bytes);
        writer->lane_run_bytes -= lane_bytes;
        if (writer->lane->queued_bytes == 0) {
            w_pool_give(&core->pool, writer->lane, sizeof *writer->lane);
            writer->lane = NULL;
        }
    }
    writer->run_bytes -= bytes - lane_bytes;
    writer->reserved_bytes = 0; /* its block may be gone */
    return messages + w_channel_take(core, &writer->channel, bytes - lane_bytes);
}

void w_writer_drop(struct w_core *core, struct w_writer *writer)
{
    W_ASSERT(!w_writer_sending(writer));
    w_channel_drop(core, &writer->channel);
    if (writer->lane != NULL) {
        w_channel_drop(core, writer->lane);
        w_pool_give(&core->pool, writer->lane, sizeof *writer->lane);
        writer->lane = NULL;
    }
    writer->run_bytes = writer->lane_run_bytes = writer->reserved_bytes = 0;
}
