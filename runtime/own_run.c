/* SPDX-License-Identifier: MIT */
/* own_run: the writer's side of an own channel: runs. On the connection's shard.
 *
 * Road:    look -> begin a run with all that is there -> view, send, take -> what is gone whole gives its room back -> look again.
 * Ditches: nothing there -> idle, look once more; short send -> the run goes on; the connection ends in mid-run -> the ends of the
 *          messages tell how many are gone whole. */
#include "runtime/own.h"

/* True when the look has seen something behind what has been sent. */
static bool own_has_some(weir_channel *channel)
{
    w_spsc_look(&channel->ring);
    return channel->ring.tail_seen != channel->at;
}

static bool own_is_finished(const weir_channel *channel)
{
    /* Acquire: closed comes behind the last publish, so that a look after this sees it. */
    return atomic_load_explicit(&channel->closed, memory_order_acquire) || atomic_load_explicit(&channel->refused, memory_order_relaxed);
}

enum w_own_look w_own_look(weir_channel *channel)
{
    bool finished = own_is_finished(channel); /* before the tail: what was published before the close is not to be missed */
    if (own_has_some(channel))
        return W_OWN_SOMETHING;
    if (finished)
        return W_OWN_OVER;
    /* idle is set, then everything is looked at again; the producer publishes (or closes), then looks at idle: with a fence between on both sides one
     * sees the other. */
    atomic_store_explicit(&channel->idle, true, memory_order_relaxed);
    w_base_fence();
    if (!own_is_finished(channel) && !own_has_some(channel))
        return W_OWN_IDLE;
    if (!atomic_exchange(&channel->idle, false))
        return W_OWN_IDLE; /* the producer has cleared it: it rings */
    return own_has_some(channel) ? W_OWN_SOMETHING : W_OWN_OVER;
}

/* Half of what it may hold: the producer fills one half while the other goes out. */
static uint32_t own_half_bytes(const weir_channel *channel)
{
    return atomic_load_explicit(&channel->share, memory_order_relaxed) / 2; /* relaxed: this side writes it */
}

void w_own_share(weir_channel *channel, uint32_t count)
{
    if (!channel->shares)
        return;
    uint32_t share = count < W_OWN_TOGETHER_BYTES / W_OWN_SHARE_BYTES ? W_OWN_TOGETHER_BYTES / count : W_OWN_SHARE_BYTES;
    /* Relaxed: a bound; nothing is read by it. */
    atomic_store_explicit(&channel->share, w_base_min_u32(share, channel->ring.bytes), memory_order_relaxed);
}

uint32_t w_own_waiting(const weir_channel *channel)
{
    return w_base_min_u32(channel->ring.tail_seen - channel->at, own_half_bytes(channel));
}

/* The most messages from whole_at on that end within half of what it may hold, at least one. */
static uint32_t own_half(const weir_channel *channel)
{
    const struct w_spsc *ring = &channel->ring;
    uint32_t low = 1, high = ring->pieces_seen - channel->whole_pieces, mask = channel->ends_count - 1;
    const uint32_t half_bytes = own_half_bytes(channel);
    while (low < high) { /* `low` of them fit, more than `high` do not */
        uint32_t middle = high - (high - low) / 2;
        if (channel->ends[(channel->whole_pieces + middle - 1) & mask] - channel->at <= half_bytes)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

uint32_t w_own_begin(weir_channel *channel)
{
    struct w_spsc *ring = &channel->ring;
    struct iovec vectors[2];
    channel->run_end = ring->tail_seen;
    channel->run_pieces = ring->pieces_seen;
    if (ring->tail_seen - channel->at > own_half_bytes(channel)) {
        channel->run_pieces = channel->whole_pieces + own_half(channel);
        channel->run_end = channel->ends[(channel->run_pieces - 1) & (channel->ends_count - 1)];
    }
    w_spsc_view(ring, channel->at, channel->run_end, UINT32_MAX, vectors, &channel->run_bytes);
    return channel->run_bytes;
}

uint32_t w_own_view(const weir_channel *channel, uint32_t bytes_max, struct iovec vectors[2], uint32_t *bytes)
{
    return w_spsc_view(&channel->ring, channel->at, channel->run_end, w_base_min_u32(bytes_max, channel->run_bytes), vectors, bytes);
}

/* Everything before whole_at may be written over, and a producer that waits is told when that is half of what it may hold. */
static void own_release(weir_channel *channel)
{
    struct w_spsc *ring = &channel->ring;
    w_spsc_release(ring, channel->whole_at, channel->whole_pieces);
    /* head is stored, then `waiting` is looked at; the producer does it the other way round: one sees the other. */
    w_base_fence();
    if (!atomic_load_explicit(&channel->waiting, memory_order_relaxed))
        return;
    w_spsc_look(ring); /* it has filled up meanwhile */
    if (ring->tail_seen - channel->whole_at > own_half_bytes(channel) ||
        ring->pieces_seen - channel->whole_pieces > channel->ends_count / 2)
        return; /* more is to be released, and this comes again */
    if (atomic_exchange(&channel->waiting, false))
        w_port_ring_back(channel->port, channel->port->channels_number + channel->place);
}

static void own_count(weir_channel *channel, uint32_t messages, uint32_t bytes)
{
    /* Relaxed: one writer; `ended` publishes them. */
    uint64_t count = atomic_load_explicit(&channel->messages_delivered, memory_order_relaxed);
    atomic_store_explicit(&channel->messages_delivered, count + messages, memory_order_relaxed);
    count = atomic_load_explicit(&channel->bytes_delivered, memory_order_relaxed);
    atomic_store_explicit(&channel->bytes_delivered, count + bytes, memory_order_relaxed);
}

void w_own_cut(weir_channel *channel)
{
    if (channel->run_bytes == 0)
        return;
    if (channel->at == channel->whole_at) {
        channel->run_bytes = 0;
        channel->run_end = channel->at;
        channel->run_pieces = channel->whole_pieces;
        return;
    }
    channel->run_end = channel->ends[channel->whole_pieces & (channel->ends_count - 1)];
    channel->run_pieces = channel->whole_pieces + 1;
    channel->run_bytes = channel->run_end - channel->at; /* a message lies in one piece */
}

uint32_t w_own_take(weir_channel *channel, uint32_t bytes)
{
    uint32_t before = channel->whole_pieces;
    W_ASSERT(bytes <= channel->run_bytes);
    channel->run_bytes -= bytes;
    if (W_LIKELY(channel->run_bytes == 0)) {
        channel->at = channel->whole_at = channel->run_end;
        channel->whole_pieces = channel->run_pieces;
    } else {
        struct iovec vectors[2];
        uint32_t viewed, runs = w_spsc_view(&channel->ring, channel->at, channel->run_end, bytes, vectors, &viewed);
        const uint8_t *end = (const uint8_t *)vectors[runs - 1].iov_base + vectors[runs - 1].iov_len;
        /* From a place back to the position: not before `at`, and less than a lap from it. */
        uint32_t place = (uint32_t)(end - channel->ring.data);
        channel->at += (place - channel->at) & (channel->ring.bytes - 1);
        while (channel->whole_pieces != channel->run_pieces) {
            uint32_t piece_end = channel->ends[channel->whole_pieces & (channel->ends_count - 1)];
            if (channel->at - piece_end > channel->ring.bytes) /* before it */
                break;
            channel->whole_at = piece_end;
            channel->whole_pieces++;
        }
    }
    uint32_t messages = channel->whole_pieces - before;
    own_count(channel, messages, bytes);
    if (messages > 0)
        own_release(channel);
    return messages;
}

void w_own_end(weir_channel *channel, weir_reason reason)
{
    weir_port *port = channel->port;
    uint32_t number = port->channels_number + channel->place;
    atomic_store_explicit(&channel->refused, true, memory_order_relaxed);
    /* Release: what was delivered is told by it, and all that this side did with the channel is over: it is freed by whoever sees it. */
    atomic_store_explicit(&channel->ended, (uint32_t)reason + 1, memory_order_release);
    w_port_ring_back(port, number);
    w_port_unreference(port);
}
