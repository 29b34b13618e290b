/* SPDX-License-Identifier: MIT */
/* own: the producer's side of an own channel. Runs on its port's thread.
 *
 * Road:    room in the ring -> head, payload, trailer copied -> commit -> publish -> the shard has gone idle? ring.
 * Ditches: full -> publish what is there, `waiting`, look again; refused or ended -> -EPIPE; closed -> freed when the shard has ended it. */
#include "runtime/own.h"

#include <errno.h>
#include <string.h>

#include "runtime/channel.h"

/* A piece of the ring this large at the least has room for its end to be noted: 1 << of it. */
#define BYTES_PER_END_SHIFT 4
#define BYTES_PER_END       (1u << BYTES_PER_END_SHIFT)

/* The shard's core has read what lies in the ring before, and it takes long to get a line back from there, which each message's fence waits for: so it is asked for so far
 * ahead. Measured: 4 to 13 % more messages a second at 2 to 16 producers of 64 bytes. */
#define AHEAD_BYTES 512u

/* --- memory --- */

static size_t own_ends_bytes(const weir_channel *channel)
{
    return channel->ends_count * sizeof *channel->ends;
}

static int own_claim_number(struct w_port_table *table, uint32_t *number)
{
    uint32_t count = table->config->channels, first = atomic_fetch_add_explicit(&table->channel_next, 1, memory_order_relaxed) % count;
    for (uint32_t i = 0; i < count; i++) {
        *number = (first + i) % count;
        /* Acquire: whoever had it before is done with it. */
        if (!atomic_load_explicit(&table->channels[*number], memory_order_relaxed) &&
            !atomic_exchange_explicit(&table->channels[*number], true, memory_order_acquire)) {
            atomic_fetch_add_explicit(&table->channels_open, 1, memory_order_relaxed);
            return 0;
        }
    }
    return -ENOSPC;
}

static void own_give_number(struct w_port_table *table, uint32_t number)
{
    atomic_fetch_sub_explicit(&table->channels_open, 1, memory_order_relaxed);
    /* Release: whoever claims it next comes after all that was done with it. */
    atomic_store_explicit(&table->channels[number], false, memory_order_release);
}

static uint32_t own_free_place(weir_port *port)
{
    for (uint32_t i = 0; i < port->channel_places; i++) {
        uint32_t place = (port->channel_next + i) % port->channel_places;
        if (port->channels[place] == NULL)
            return port->channel_next = place;
    }
    return port->channel_places;
}

/* Those that are closed, and that their shards are done with: a port that never collects would keep them. */
static void own_free_ended(weir_port *port)
{
    weir_port_event event;
    for (uint32_t place = 0; place < port->channel_places; place++)
        if (port->channels[place] != NULL && atomic_load_explicit(&port->channels[place]->closed, memory_order_relaxed))
            w_own_event(port->channels[place], &event);
}

/* A place in the port, and a number of the runtime's. */
static bool own_claim(weir_port *port, uint32_t *place, uint32_t *number)
{
    *place = own_free_place(port);
    return *place < port->channel_places && own_claim_number(port->table, number) == 0;
}

/* A power of two. */
static uint32_t own_default_bytes(const weir_port *port)
{
    if (port->pool->budget_bytes < W_OWN_BYTES * W_OWN_PART)
        return W_OWN_SHARE_BYTES;
    /* Relaxed: a hint. This one is among them. */
    uint32_t open = atomic_load_explicit(&port->table->channels_open, memory_order_relaxed), bytes = W_OWN_BYTES;
    while (bytes > W_OWN_SHARE_BYTES && bytes > W_OWN_BYTES / open)
        bytes /= 2;
    return bytes;
}

int w_own_create(weir_channel **pointer, weir_port *port, weir_id id, const weir_protocol *protocol, uint32_t bytes, void *user)
{
    uint32_t place, number;
    if (!own_claim(port, &place, &number)) {
        own_free_ended(port);
        if (!own_claim(port, &place, &number))
            return -ENOSPC;
    }
    bool shares = bytes == 0;
    bytes = shares ? own_default_bytes(port) : bytes;
    uint32_t ends_count = bytes / BYTES_PER_END;
    weir_channel *channel = w_pool_take(port->pool, sizeof *channel);
    uint32_t *ends = w_pool_take(port->pool, ends_count * sizeof *ends);
    uint8_t *data = w_pool_take(port->pool, bytes);
    if (channel == NULL || ends == NULL || data == NULL) {
        if (channel != NULL)
            w_pool_give(port->pool, channel, sizeof *channel);
        if (ends != NULL)
            w_pool_give(port->pool, ends, ends_count * sizeof *ends);
        if (data != NULL)
            w_pool_give(port->pool, data, bytes);
        own_give_number(port->table, number);
        return -ENOMEM;
    }
    memset(channel, 0, sizeof *channel);
    channel->port = port;
    channel->id = id;
    channel->protocol = protocol;
    channel->user = user;
    channel->shares = shares;
    atomic_init(&channel->share, shares ? W_OWN_SHARE_BYTES : bytes);
    channel->number = number;
    channel->place = place;
    channel->ends = ends;
    channel->ends_count = ends_count;
    w_spsc_init(&channel->ring, data, bytes);
    port->channels[place] = channel;
    *pointer = channel;
    return 0;
}

void w_own_destroy(weir_channel *channel)
{
    weir_port *port = channel->port;
    port->channels[channel->place] = NULL;
    own_give_number(channel->port->table, channel->number);
    w_pool_give(port->pool, channel->ring.data, channel->ring.bytes);
    w_pool_give(port->pool, channel->ends, own_ends_bytes(channel));
    w_pool_give(port->pool, channel, sizeof *channel);
}

void w_own_free_late(weir_channel *channel)
{
    const struct w_pool *pool = channel->port->pool;
    own_give_number(channel->port->table, channel->number);
    w_pool_give_late(pool, channel->ring.data, channel->ring.bytes);
    w_pool_give_late(pool, channel->ends, own_ends_bytes(channel));
    w_pool_give_late(pool, channel, sizeof *channel);
}

/* --- telling the shard --- */

static __attribute__((noinline)) void own_ring(weir_channel *channel)
{
    /* Exchange: both may want to clear it, and only one may see to the rest. */
    if (!atomic_exchange(&channel->idle, false))
        return;
    struct w_port_table *table = channel->port->table;
    struct w_core *core = table->cores[w_port_shard_of(channel->id)];
    channel->stats.rings++;
    if (w_bell_ring(&core->bell, w_port_bell_channels(table->config) + channel->number)) {
        channel->port->stats.wakes++;
        table->engine->wake(core->io);
    }
}

/* After something has been published, or `closed` set: does the shard still look? */
static inline void own_tell(weir_channel *channel)
{
    /* What was published is stored, then idle is looked at; the shard sets idle, then looks at what is published (w_own_look): with a fence between on
     * both sides one sees the other. */
    w_base_fence();
    if (W_UNLIKELY(atomic_load_explicit(&channel->idle, memory_order_relaxed)))
        own_ring(channel);
}

static inline void own_publish(weir_channel *channel)
{
    if (W_UNLIKELY(w_spsc_is_published(&channel->ring)))
        return;
    w_spsc_publish(&channel->ring);
    own_tell(channel);
}

void weir_channel_publish(weir_channel *channel)
{
    own_publish(channel);
}

void w_own_close(weir_channel *channel)
{
    weir_channel_publish(channel);
    /* Acquire: the shard's last touch was this. */
    if (atomic_load_explicit(&channel->ended, memory_order_acquire) != 0) {
        w_own_destroy(channel);
        return;
    }
    channel->told_full = false;
    channel->told_ended = true;
    /* Release: behind what was published: a shard that sees it and then looks at the tail sees all. */
    atomic_store_explicit(&channel->closed, true, memory_order_release);
    own_tell(channel);
}

void weir_channel_close(weir_channel **pointer)
{
    weir_channel *channel = *pointer;
    *pointer = NULL;
    if (channel == NULL)
        return;
    weir_port *port = channel->port;
    w_port_enter(port, __func__);
    w_port_forget_channel(port, channel);
    w_own_close(channel);
    w_port_leave(port);
}

/* --- sending --- */

static inline bool own_is_over(const weir_channel *channel)
{
    /* Relaxed: nothing is read by it. */
    return atomic_load_explicit(&channel->refused, memory_order_relaxed);
}

/* By what was seen last: all that it may hold, in bytes or in pieces. */
static inline bool own_is_full(const weir_channel *channel)
{
    const struct w_spsc *ring = &channel->ring;
    /* Relaxed: a bound; nothing is read by it. */
    return ring->tail - ring->head_seen >= atomic_load_explicit(&channel->share, memory_order_relaxed) ||
           ring->tail_pieces - ring->head_pieces_seen >= channel->ends_count;
}

/* Room for a frame and for its end; NULL: full. */
static inline uint8_t *own_room(weir_channel *channel, uint32_t bytes)
{
    struct w_spsc *ring = &channel->ring;
    if (W_UNLIKELY(own_is_full(channel))) {
        w_spsc_look_back(ring);
        if (own_is_full(channel))
            return NULL;
    }
    return w_spsc_reserve(ring, bytes);
}

/* Full: publishes what is there, and asks to be told of room. Not NULL: there is some already. */
static __attribute__((noinline)) uint8_t *own_wait_for_room(weir_channel *channel, uint32_t bytes)
{
    weir_channel_publish(channel);
    /* `waiting` is stored, then head is looked at; the shard stores head, then looks at `waiting` (own_release): one sees the other. */
    atomic_store(&channel->waiting, true);
    w_base_fence();
    uint8_t *room = own_room(channel, bytes);
    if (room != NULL && !channel->told_full) /* else it waits to be told, all the same */
        atomic_store_explicit(&channel->waiting, false, memory_order_relaxed);
    return room;
}

static int own_reserve(weir_channel *channel, uint32_t bytes, uint8_t **room)
{
    channel->reserved_bytes = channel->quick_bytes = 0;
    if (W_UNLIKELY(own_is_over(channel)))
        return -EPIPE;
    if (W_UNLIKELY(bytes > channel->ring.bytes / 2))
        return -EMSGSIZE;
    *room = own_room(channel, bytes);
    if (W_LIKELY(*room != NULL))
        return 0;
    *room = own_wait_for_room(channel, bytes);
    if (*room != NULL)
        return 0;
    channel->told_full = true;
    channel->stats.refusals++;
    return -EAGAIN;
}

/* The piece that was just put into the ring. */
static inline void own_note(weir_channel *channel, uint32_t bytes)
{
    const struct w_spsc *ring = &channel->ring;
    channel->ends[(ring->tail_pieces - 1) & (channel->ends_count - 1)] = ring->tail;
    channel->stats.messages_sent++;
    channel->stats.bytes_sent += bytes;
}

static inline void own_commit(weir_channel *channel, const uint8_t *room, uint32_t bytes)
{
    w_spsc_commit(&channel->ring, room, bytes);
    own_note(channel, bytes);
}

/* What the next messages may use without all this: none of more than half the ring. For codecs whose heads are lengths. (What the channel may hold can become less
 * meanwhile: then it is full that much later.) */
static inline void own_quicken(weir_channel *channel)
{
    const struct w_spsc *ring = &channel->ring;
    uint32_t held_bytes = ring->tail - ring->head_seen, share = atomic_load_explicit(&channel->share, memory_order_relaxed);
    uint32_t ends = channel->ends_count - (ring->tail_pieces - ring->head_pieces_seen);
    uint32_t bytes = held_bytes >= share ? 0 : w_base_min_u32(w_spsc_run_bytes(ring), share - held_bytes);
    channel->quick_bytes = w_base_min_u32(w_base_min_u32(bytes, ring->bytes / 2), ends << BYTES_PER_END_SHIFT);
    channel->quick_at = ring->data + (ring->tail & (ring->bytes - 1));
}

/* The long way. */
static __attribute__((noinline)) int own_put_sealed(weir_channel *channel, const void *data, uint32_t bytes)
{
    weir_seal seal;
    uint8_t *room;
    const weir_codec *codec = &channel->protocol->codec;
    int result = codec->seal(codec, data, bytes, &seal);
    uint32_t frame_bytes = seal.head_bytes + bytes + seal.trailer_bytes;
    if (W_UNLIKELY(result != 0))
        return result;
    if (W_UNLIKELY(frame_bytes == 0))
        return 0;
    if (W_UNLIKELY((result = own_reserve(channel, frame_bytes, &room)) != 0))
        return result;
    if (W_LIKELY(frame_bytes >= WEIR_HEAD_MAX_BYTES)) /* a store of a fixed size; what is too much is written over */
        memcpy(room, seal.head, WEIR_HEAD_MAX_BYTES);
    else
        memcpy(room, seal.head, seal.head_bytes);
    if (W_UNLIKELY(codec->copy != NULL))
        codec->copy(&seal, room + seal.head_bytes, data, bytes, 0);
    else
        w_channel_copy(room + seal.head_bytes, data, bytes);
    if (seal.trailer_bytes != 0)
        memcpy(room + seal.head_bytes + bytes, seal.trailer, seal.trailer_bytes);
    own_commit(channel, room, frame_bytes);
    if (codec->length_bytes != 0)
        own_quicken(channel);
    return 0;
}

/* The short way of most: a head that is a length, and room right behind the last message. */
static inline __attribute__((always_inline)) int own_put(weir_channel *channel, const void *data, uint32_t bytes)
{
    const weir_codec *codec = &channel->protocol->codec;
    uint32_t head_bytes = codec->length_bytes, frame_bytes = head_bytes + bytes;
    if (W_UNLIKELY(frame_bytes > channel->quick_bytes || frame_bytes < BYTES_PER_END || bytes > codec->message_max_bytes ||
                   own_is_over(channel)))
        return own_put_sealed(channel, data, bytes);
    uint64_t head = w_channel_length_head(codec, bytes);
    uint8_t *room = channel->quick_at;
    w_base_prefetch_to_write(room + AHEAD_BYTES);
    channel->quick_at = room + frame_bytes;
    channel->quick_bytes -= frame_bytes;
    memcpy(room, &head, sizeof head); /* all of the word: what is too much is written over */
    w_channel_copy(room + head_bytes, data, bytes);
    w_spsc_append(&channel->ring, frame_bytes);
    own_note(channel, frame_bytes);
    return 0;
}

int weir_channel_put(weir_channel *channel, const void *data, uint32_t bytes)
{
    w_port_enter(channel->port, __func__);
    int result = own_put(channel, data, bytes);
    w_port_leave(channel->port);
    return result;
}

int weir_channel_send(weir_channel *channel, const void *data, uint32_t bytes)
{
    w_port_enter(channel->port, __func__);
    int result = own_put(channel, data, bytes);
    if (W_LIKELY(result == 0))
        own_publish(channel);
    w_port_leave(channel->port);
    return result;
}

int weir_channel_reserve(weir_channel *channel, uint32_t bytes, weir_room *room)
{
    const weir_codec *codec = &channel->protocol->codec;
    if (bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    w_port_enter(channel->port, __func__);
    uint32_t frame_bytes = codec->head_max_bytes + bytes + codec->trailer_max_bytes;
    int result = own_reserve(channel, frame_bytes, &channel->reserved);
    if (result == 0) {
        channel->reserved_bytes = frame_bytes;
        *room = (weir_room){.data = channel->reserved + codec->head_max_bytes, .bytes = bytes};
    }
    w_port_leave(channel->port);
    return result;
}

int weir_channel_commit(weir_channel *channel, uint32_t bytes)
{
    weir_seal seal;
    const weir_codec *codec = &channel->protocol->codec;
    uint32_t reserved_bytes = channel->reserved_bytes, round_bytes = codec->head_max_bytes + codec->trailer_max_bytes;
    if (reserved_bytes == 0 || bytes > reserved_bytes - round_bytes)
        return -EINVAL;
    w_port_enter(channel->port, __func__);
    channel->reserved_bytes = 0;
    uint8_t *room = channel->reserved, *payload = room + codec->head_max_bytes;
    int result = codec->seal(codec, payload, bytes, &seal);
    uint32_t frame_bytes = seal.head_bytes + bytes + seal.trailer_bytes;
    if (result == 0 && frame_bytes > 0) {
        if (seal.head_bytes != codec->head_max_bytes)
            memmove(room + seal.head_bytes, payload, bytes);
        if (W_UNLIKELY(codec->copy != NULL))
            codec->copy(&seal, room + seal.head_bytes, room + seal.head_bytes, bytes, 0);
        memcpy(room, seal.head, seal.head_bytes);
        memcpy(room + seal.head_bytes + bytes, seal.trailer, seal.trailer_bytes);
        own_commit(channel, room, frame_bytes);
        weir_channel_publish(channel);
    }
    w_port_leave(channel->port);
    return result;
}

/* --- what it hears --- */

bool w_own_has_room(weir_channel *channel)
{
    const struct w_spsc *ring = &channel->ring;
    /* Relaxed: should the shard have changed it since, the next release or the next look puts it right. */
    uint32_t share = atomic_load_explicit(&channel->share, memory_order_relaxed);
    return own_is_over(channel) ||
           (w_spsc_look_back(&channel->ring) <= share / 2 && ring->tail_pieces - ring->head_pieces_seen <= channel->ends_count / 2);
}

void w_own_wait(weir_channel *channel)
{
    atomic_store(&channel->waiting, true);
    w_base_fence();
}

bool w_own_event(weir_channel *channel, weir_port_event *event)
{
    /* Acquire: what the shard has written down before. */
    uint32_t ended = atomic_load_explicit(&channel->ended, memory_order_acquire);
    *event = (weir_port_event){.channel = channel, .id = channel->id, .shard = w_port_shard_of(channel->id), .user = channel->user};
    if (ended != 0 && atomic_load_explicit(&channel->closed, memory_order_relaxed)) {
        w_own_destroy(channel);
        return false;
    }
    if (ended != 0 && !channel->told_ended) {
        event->kind = WEIR_PORT_CHANNEL_ENDED;
        event->reason = (weir_reason)(ended - 1);
        event->messages = channel->stats.messages_sent - w_stats_get((const uint64_t *)&channel->messages_delivered);
        event->bytes = channel->stats.bytes_sent - w_stats_get((const uint64_t *)&channel->bytes_delivered);
        return true;
    }
    if (ended == 0 && channel->told_full && !atomic_load_explicit(&channel->waiting, memory_order_relaxed)) {
        event->kind = WEIR_PORT_CHANNEL_ROOM;
        return true;
    }
    return false;
}

void w_own_told(weir_channel *channel, weir_port_event_kind kind)
{
    if (kind == WEIR_PORT_CHANNEL_ENDED)
        channel->told_ended = true;
    channel->told_full = false;
}

weir_id weir_channel_id(const weir_channel *channel)
{
    return channel->id;
}

void *weir_channel_user(const weir_channel *channel)
{
    return channel->user;
}

void weir_channel_stats_get(const weir_channel *channel, weir_channel_stats *stats)
{
    *stats = channel->stats;
    stats->messages_delivered = atomic_load_explicit(&channel->messages_delivered, memory_order_relaxed);
    stats->bytes_delivered = atomic_load_explicit(&channel->bytes_delivered, memory_order_relaxed);
    stats->queued_bytes = stats->bytes_sent - stats->bytes_delivered;
}
