/* SPDX-License-Identifier: MIT */
/* writer: drains a connection's channels into one send at a time. Runs on the connection's shard only.
 *
 * Road:    start -> a run: the lane, the channel, own channels, each up to its tail -> one send of as much as fits -> done -> heads move -> start again.
 * Ditches: short send -> the rest of the run goes next; no memory for vectors -> the first piece goes alone; error -> the caller ends
 *          the connection, what is queued stays counted. */
#include "runtime/writer.h"

#include <errno.h>
#include <string.h>

void w_writer_trim(struct w_core *core, struct w_writer *writer)
{
    const struct w_writer_side *side = writer->side;
    if (side == NULL || side->lane.queued_bytes > 0 || side->own_all != NULL || side->begun_bytes != 0 || side->extra != NULL)
        return;
    w_pool_give(&core->pool, writer->side, sizeof *side);
    writer->side = NULL;
}

int w_writer_need_side(struct w_core *core, struct w_writer *writer)
{
    if (writer->side != NULL)
        return 0;
    writer->side = w_pool_take(&core->pool, sizeof *writer->side);
    if (writer->side == NULL)
        return -ENOMEM;
    *writer->side = (struct w_writer_side){0};
    return 0;
}

int w_writer_put_control(struct w_core *core, struct w_writer *writer, const weir_codec *codec, const weir_seal *seal,
                         const uint8_t *payload, uint32_t bytes)
{
    uint32_t total = seal->head_bytes + bytes + seal->trailer_bytes;
    if (w_writer_lane_bytes(writer) + total > W_WRITER_LANE_BYTES)
        return -EAGAIN;
    if (w_writer_need_side(core, writer) != 0)
        return -EAGAIN;
    int result = w_channel_put_sealed(core, &writer->side->lane, codec, seal, payload, bytes);
    w_writer_trim(core, writer);
    return result == 0 ? 0 : -EAGAIN;
}

static uint32_t writer_send_bytes(const struct w_core *core)
{
    return core->send_bytes != 0 ? core->send_bytes : W_WRITER_SEND_BYTES;
}

/* A new run; nothing is left of the last. */
static void writer_begin_run(struct w_core *core, struct w_writer *writer)
{
    struct w_writer_side *side = writer->side;
    writer->run_bytes = writer->channel.queued_bytes;
    if (W_LIKELY(side == NULL))
        return;
    if (W_UNLIKELY(writer->first_bytes > 0)) {
        writer->run_bytes = writer->first_bytes;
        return;
    }
    writer->lane_run_bytes = side->lane.queued_bytes;
    if (side->active_first == NULL)
        return;
    if (side->owns_first)
        writer->run_bytes = 0;
    uint32_t begun_bytes = writer->lane_run_bytes + writer->run_bytes, most = writer_send_bytes(core);
    w_writer_own_begin(core, side, begun_bytes < most ? most - begun_bytes : 0);
    if (w_writer_own_run_bytes(side) == 0) /* they had nothing after all */
        writer->run_bytes = writer->channel.queued_bytes;
}

/* Something has come into the lane in mid-run: the run ends with its present message. */
static void writer_cut_run(struct w_writer *writer)
{
    if (writer->run_bytes > 0)
        writer->run_bytes = w_base_min_u32(writer->run_bytes, w_channel_to_boundary(&writer->channel));
    w_writer_own_cut(writer->side);
}

/* Where the run's next bytes lie, as many as fit: answers how many pieces. */
static uint32_t writer_view(const struct w_writer *writer, uint32_t bytes_max, struct iovec vectors[W_IO_VECTORS_MAX], uint32_t *bytes)
{
    uint32_t lane_bytes = 0, channel_bytes = 0, own_bytes = 0, count = 0;
    if (writer->lane_run_bytes > 0)
        count = w_channel_view(&writer->side->lane, writer->lane_run_bytes, vectors, W_IO_VECTORS_MAX, &lane_bytes);
    if (lane_bytes == writer->lane_run_bytes) {
        uint32_t most = w_base_min_u32(writer->run_bytes, bytes_max - lane_bytes);
        count += w_channel_view(&writer->channel, most, vectors + count, W_IO_VECTORS_MAX - count, &channel_bytes);
        if (channel_bytes == writer->run_bytes && writer->side != NULL)
            count += w_writer_own_view(writer->side, bytes_max - lane_bytes - channel_bytes, vectors + count, W_IO_VECTORS_MAX - count,
                                       &own_bytes);
    }
    *bytes = lane_bytes + channel_bytes + own_bytes;
    return count;
}

/* The first piece of the run, which is all of it when nothing is in two pieces: its bytes. */
static uint32_t writer_first_piece(const struct w_writer *writer, uint32_t bytes_max, struct iovec *piece)
{
    uint32_t bytes = 0;
    if (writer->lane_run_bytes > 0) {
        w_channel_view(&writer->side->lane, writer->lane_run_bytes, piece, 1, &bytes);
    } else if (writer->run_bytes > 0) {
        w_channel_view(&writer->channel, w_base_min_u32(writer->run_bytes, bytes_max), piece, 1, &bytes);
    } else {
        struct iovec pieces[2];
        w_own_view(writer->side->active_first, bytes_max, pieces, &bytes);
        *piece = pieces[0];
        bytes = (uint32_t)pieces[0].iov_len;
    }
    return bytes;
}

/* The run's next bytes, as many as fit, in more than one piece. False: no memory for that. */
static bool writer_gather(struct w_core *core, struct w_writer *writer, uint32_t bytes_max)
{
    struct iovec vectors[W_IO_VECTORS_MAX];
    uint32_t bytes, count = writer_view(writer, bytes_max, vectors, &bytes);
    struct w_io_gather *gather = w_pool_take(&core->pool, w_io_gather_bytes(count));
    if (gather == NULL)
        return false;
    gather->count = count;
    memcpy(gather->vectors, vectors, count * sizeof *vectors);
    writer->gather = gather;
    writer->flight_bytes = bytes;
    return true;
}

bool w_writer_start(struct w_core *core, struct w_writer *writer, int handle, uint64_t token)
{
    struct w_writer_side *side = writer->side;
    uint32_t own_bytes = side == NULL ? 0 : w_writer_own_run_bytes(side), most = writer_send_bytes(core);
    if (writer->run_bytes + own_bytes > 0 && writer->lane_run_bytes == 0 && w_writer_lane_bytes(writer) > 0 && writer->first_bytes == 0) {
        writer_cut_run(writer);
        own_bytes = w_writer_own_run_bytes(side);
    }
    if (writer->run_bytes + writer->lane_run_bytes + own_bytes == 0) {
        writer_begin_run(core, writer);
        own_bytes = side == NULL ? 0 : w_writer_own_run_bytes(side);
    }
    uint32_t run_bytes = writer->lane_run_bytes + writer->run_bytes + own_bytes;
    if (run_bytes == 0)
        return false;
    struct iovec piece;
    uint32_t bytes = writer_first_piece(writer, most, &piece);
    w_stats_add(&core->stats.sends, 1);
    if (bytes < w_base_min_u32(run_bytes, most) && writer_gather(core, writer, most)) {
        core->engine->send_gather(core->io, handle, writer->gather, token);
        return true;
    }
    writer->flight_bytes = bytes;
    core->engine->send(core->io, handle, piece.iov_base, bytes, token);
    return true;
}

uint32_t w_writer_done(struct w_core *core, struct w_writer *writer, int32_t result)
{
    if (writer->gather != NULL) {
        w_pool_give(&core->pool, writer->gather, w_io_gather_bytes(writer->gather->count));
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
        messages += w_channel_take(core, &writer->side->lane, lane_bytes);
        writer->lane_run_bytes -= lane_bytes;
    }
    bytes -= lane_bytes;
    uint32_t channel_bytes = w_base_min_u32(bytes, writer->run_bytes);
    writer->run_bytes -= channel_bytes;
    if (W_UNLIKELY(writer->first_bytes > 0))
        writer->first_bytes -= w_base_min_u32(writer->first_bytes, channel_bytes);
    writer->reserved_bytes = 0; /* its block may be gone */
    messages += w_channel_take(core, &writer->channel, channel_bytes);
    if (W_LIKELY(writer->side == NULL))
        return messages;
    if (bytes > channel_bytes)
        messages += w_writer_own_take(writer->side, bytes - channel_bytes);
    w_writer_trim(core, writer);
    return messages;
}

void w_writer_drop(struct w_core *core, struct w_writer *writer)
{
    W_ASSERT(!w_writer_sending(writer));
    w_channel_drop(core, &writer->channel);
    if (writer->side != NULL) {
        w_channel_drop(core, &writer->side->lane);
        writer->side->begun_bytes = writer->side->begun_messages = 0;
        W_ASSERT(writer->side->own_all == NULL);
        w_writer_trim(core, writer);
    }
    writer->run_bytes = writer->lane_run_bytes = writer->reserved_bytes = writer->first_bytes = 0;
}
