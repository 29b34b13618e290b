/* SPDX-License-Identifier: MIT */
/* writer_own: the part that own channels have in a connection's writer.
 *
 * Those that may have something stand in a queue, the active list. A run begins with a look at them in turn: who has nothing leaves the queue (its bell brings it
 * back), who has something takes part with all of it; who is done stands at the end again. */
#include <errno.h>

#include "runtime/writer.h"

/* Channels that are looked at for one run. */
#define LOOKS_MAX 256u

static void side_append(struct w_writer_side *side, weir_channel *channel)
{
    channel->active = true;
    channel->next = NULL;
    if (side->active_first == NULL)
        side->active_first = channel;
    else
        side->active_last->next = channel;
    side->active_last = channel;
}

static void side_put_first(struct w_writer_side *side, weir_channel *channel)
{
    channel->active = true;
    channel->next = side->active_first;
    if (side->active_first == NULL)
        side->active_last = channel;
    side->active_first = channel;
}

static weir_channel *side_take_first(struct w_writer_side *side)
{
    weir_channel *channel = side->active_first;
    side->active_first = channel->next;
    channel->active = false;
    return channel;
}

/* One more, or one less, that shares. */
static void side_share(struct w_writer_side *side, uint32_t sharing)
{
    /* Behind this many each has the least, one more or less. */
    bool same = w_base_min_u32(side->sharing, sharing) >= W_OWN_TOGETHER_BYTES / W_OWN_SHARE_BYTES;
    side->sharing = sharing;
    for (weir_channel *channel = side->own_all; channel != NULL && !same; channel = channel->next_of_all)
        w_own_share(channel, sharing);
}

/* The shard's last touch of it. */
static void side_end(struct w_core *core, struct w_writer_side *side, weir_channel *channel, weir_reason reason)
{
    *channel->link_of_all = channel->next_of_all;
    if (channel->next_of_all != NULL)
        channel->next_of_all->link_of_all = channel->link_of_all;
    if (channel->shares)
        side_share(side, side->sharing - 1);
    core->owns[channel->number] = NULL;
    w_own_end(channel, reason);
}

int w_writer_attach(struct w_core *core, struct w_writer *writer, weir_channel *channel)
{
    if (w_writer_need_side(core, writer) != 0)
        return -ENOMEM;
    if (writer->side->refuses)
        return -EPIPE;
    channel->next_of_all = writer->side->own_all;
    channel->link_of_all = &writer->side->own_all;
    if (channel->next_of_all != NULL)
        channel->next_of_all->link_of_all = &channel->next_of_all;
    writer->side->own_all = channel;
    core->owns[channel->number] = channel;
    if (channel->shares)
        side_share(writer->side, writer->side->sharing + 1);
    side_append(writer->side, channel);
    return 0;
}

void w_writer_heard(struct w_writer *writer, weir_channel *channel)
{
    if (!channel->active)
        side_append(writer->side, channel);
}

void w_writer_refuse(struct w_writer *writer)
{
    if (writer->side == NULL)
        return;
    writer->side->refuses = true;
    for (weir_channel *channel = writer->side->own_all; channel != NULL; channel = channel->next_of_all) {
        /* Relaxed: what a producer commits without having seen it is either sent or not, and it counts by what was delivered. */
        atomic_store_explicit(&channel->refused, true, memory_order_relaxed);
        w_writer_heard(writer, channel);
    }
}

void w_writer_detach_all(struct w_core *core, struct w_writer *writer, weir_reason reason, uint64_t *messages, uint64_t *bytes)
{
    struct w_writer_side *side = writer->side;
    *messages = *bytes = 0;
    if (side == NULL)
        return;
    side->active_first = NULL;
    while (side->own_all != NULL) {
        weir_channel *channel = side->own_all;
        if (channel->run_bytes > 0) {
            *messages += channel->run_pieces - channel->whole_pieces;
            *bytes += channel->run_bytes;
        }
        side_end(core, side, channel, reason);
    }
}

/* --- in a run --- */

void w_writer_own_begin(struct w_core *core, struct w_writer_side *side, uint32_t room_bytes)
{
    weir_channel *last = side->active_last;
    uint32_t bytes = 0, looks = 0;
    struct w_writer_side rest = {.active_first = NULL}; /* those that take part, in their order */
    for (bool more = true, full = false; more && !full && bytes < room_bytes && looks < LOOKS_MAX; looks++) {
        weir_channel *channel = side_take_first(side);
        more = channel != last;
        switch (w_own_look(channel)) {
        case W_OWN_SOMETHING:
            if (bytes > 0 && bytes + w_own_waiting(channel) > room_bytes) { /* it would be cut in two: first next time */
                side_put_first(side, channel);
                full = true;
                break;
            }
            bytes += w_own_begin(channel);
            side->begun_messages += (int32_t)(channel->run_pieces - channel->whole_pieces);
            side_append(&rest, channel);
            break;
        case W_OWN_IDLE:
            break;
        case W_OWN_OVER:
            side_end(core, side, channel, (weir_reason)side->reason);
            break;
        }
    }
    side->begun_bytes += (int32_t)bytes;
    side->owns_first = side->active_first != NULL && !side->owns_first; /* some had to wait */
    if (rest.active_first == NULL)
        return;
    rest.active_last->next = side->active_first;
    if (side->active_first == NULL)
        side->active_last = rest.active_last;
    side->active_first = rest.active_first;
}

void w_writer_own_cut(struct w_writer_side *side)
{
    /* The first is the one that is being sent; the others have not begun, so they end where they are. */
    for (weir_channel *channel = side->active_first; channel != NULL && channel->run_bytes > 0; channel = channel->next) {
        uint32_t run_bytes = channel->run_bytes, run_pieces = channel->run_pieces;
        w_own_cut(channel);
        side->begun_bytes -= (int32_t)(run_bytes - channel->run_bytes);
        side->begun_messages -= (int32_t)(run_pieces - channel->run_pieces);
    }
}

uint32_t w_writer_own_run_bytes(const struct w_writer_side *side)
{
    uint32_t bytes = 0;
    for (const weir_channel *channel = side->active_first; channel != NULL && channel->run_bytes > 0; channel = channel->next)
        bytes += channel->run_bytes;
    return bytes;
}

uint32_t w_writer_own_view(const struct w_writer_side *side, uint32_t bytes_max, struct iovec *vectors, uint32_t count_max, uint32_t *bytes)
{
    uint32_t count = 0;
    *bytes = 0;
    for (const weir_channel *channel = side->active_first; channel != NULL && channel->run_bytes > 0; channel = channel->next) {
        uint32_t viewed;
        if (*bytes == bytes_max || count + 2 > count_max)
            break;
        count += w_own_view(channel, bytes_max - *bytes, vectors + count, &viewed);
        *bytes += viewed;
        if (viewed < channel->run_bytes)
            break;
    }
    return count;
}

uint32_t w_writer_own_take(struct w_writer_side *side, uint32_t bytes)
{
    uint32_t messages = 0;
    while (bytes > 0) {
        weir_channel *channel = side->active_first;
        uint32_t part = w_base_min_u32(bytes, channel->run_bytes);
        messages += w_own_take(channel, part);
        bytes -= part;
        if (channel->run_bytes == 0) /* to the end of the queue */
            side_append(side, side_take_first(side));
    }
    return messages;
}
