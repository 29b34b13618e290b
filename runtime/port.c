/* SPDX-License-Identifier: MIT */
/* port: where a thread enters: its life, its links, and what goes there.
 *
 * Road:    look at the connection's word -> room in the ring -> the record -> publish -> ring the shard's bell -> wake it if it sleeps.
 * Ditches: connection gone or pressed -> told before anything is put there, and a want; ring full -> `waiting`, and ROOM when there is room again;
 *          shard over -> what was put there comes back by port_back.c; port closed -> links stay until their shards have emptied them. */
#include "runtime/port.h"

#include <errno.h>
#include <string.h>

#include "runtime/channel.h"
#include "runtime/own.h"

#define CONN_SLOT_BITS       20
#define CONN_GENERATION_BITS 34

/* --- the table --- */

/* A free number from `first` on, or -1. */
static int port_claim(struct w_port_table *table, uint32_t first, weir_port *port)
{
    for (uint32_t number = first; number < table->capacity; number++) {
        weir_port *expected = NULL;
        /* Acquire: whoever had the number before is done with. Release: who finds the port finds it whole. */
        if (atomic_compare_exchange_strong_explicit(&table->ports[number], &expected, port, memory_order_acq_rel, memory_order_relaxed))
            return (int)number;
    }
    return -1;
}

static void *port_allocate(const weir_config *config, size_t bytes)
{
    void *memory = config->allocator.allocate(config->allocator.user, bytes, 64);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

static void port_release(const weir_config *config, void *memory, size_t bytes)
{
    if (memory != NULL)
        config->allocator.release(config->allocator.user, memory, bytes);
}

static size_t port_link_bytes(const weir_config *config)
{
    return sizeof(struct w_link) + W_PORT_BACK_BYTES + config->ring_bytes;
}

/* What one port may come to beside its budget. */
static uint64_t port_fixed_bytes(const weir_config *config, uint32_t channel_places)
{
    return sizeof(weir_port) + W_PORT_KEPT_MAX * sizeof(weir_port_event) +
           config->shards * (sizeof(struct w_link *) + port_link_bytes(config)) + channel_places * sizeof(weir_channel *) +
           w_bell_bytes(config->shards + channel_places);
}

uint64_t w_port_bound_bytes(const weir_config *config)
{
    return config->shards * port_fixed_bytes(config, W_PORT_SHARD_CHANNELS) +
           config->ports * (port_fixed_bytes(config, config->channels) + config->port_bytes);
}

/* --- its life --- */

static int port_init(weir_port *port, struct w_port_table *table, uint32_t channel_places)
{
    const weir_config *config = table->config;
    port->table = table;
    atomic_init(&port->event.descriptor, -1);
    port->channel_places = channel_places;
    port->serial = atomic_fetch_add_explicit(&table->serial, 1, memory_order_relaxed) + 1;
    atomic_init(&port->references, 1);
    w_pool_init(&port->own_pool, &config->allocator, config->port_bytes);
    port->links = port_allocate(config, config->shards * sizeof *port->links);
    port->channels = port_allocate(config, channel_places * sizeof(weir_channel *));
    return port->links == NULL || port->channels == NULL ? -ENOMEM : 0;
}

static void port_destroy(weir_port *port)
{
    struct w_port_table *table = port->table;
    const weir_config *config = table->config;
    for (uint32_t i = 0; i < config->shards && port->links != NULL; i++)
        port_release(config, port->links[i], port_link_bytes(config));
    for (uint32_t i = 0; i < port->channel_places && port->channels != NULL; i++)
        if (port->channels[i] != NULL)
            w_own_free_late(port->channels[i]);
    port_release(config, port->kept, W_PORT_KEPT_MAX * sizeof *port->kept);
    table->engine->event_close(table->engine->world, &port->event);
    port_release(config, port->links, config->shards * sizeof *port->links);
    port_release(config, port->channels, port->channel_places * sizeof(weir_channel *));
    port_release(config, port->bell_memory, w_bell_bytes(config->shards + port->channel_places));
    /* Release: whoever claims the number comes after all this. */
    if (table->ports[port->number] == port)
        atomic_store_explicit(&table->ports[port->number], NULL, memory_order_release);
    port_release(config, port, sizeof *port);
}

void w_port_unreference(weir_port *port)
{
    /* Acquire and release: what others did with the port is over before the last one frees it. */
    if (atomic_fetch_sub_explicit(&port->references, 1, memory_order_acq_rel) == 1)
        port_destroy(port);
}

int w_port_init_shard(weir_port **pointer, struct w_port_table *table, struct w_core *core)
{
    weir_port *port = port_allocate(table->config, sizeof *port);
    if (port == NULL)
        return -ENOMEM;
    port->number = core->index;
    int result = port_init(port, table, W_PORT_SHARD_CHANNELS);
    port->core = core;
    port->corked = true;
    port->pool = &core->pool;
    port->bell = &core->bell;
    port->answers_number = w_port_bell_answers(table->config);
    port->channels_number = port->answers_number + table->config->shards;
    if (result == 0)
        atomic_store_explicit(&table->ports[core->index], port, memory_order_release);
    else
        port_destroy(port);
    *pointer = result == 0 ? port : NULL;
    return result;
}

int w_port_init_thread(weir_port **pointer, struct w_port_table *table, uint32_t channel_places)
{
    const weir_config *config = table->config;
    *pointer = NULL;
    weir_port *port = port_allocate(config, sizeof *port);
    if (port == NULL)
        return -ENOMEM;
    int result = port_init(port, table, channel_places);
    size_t bell_bytes = w_bell_bytes(config->shards + channel_places);
    port->bell_memory = bell_bytes == 0 ? NULL : port_allocate(config, bell_bytes);
    port->kept = port_allocate(config, W_PORT_KEPT_MAX * sizeof *port->kept);
    if ((bell_bytes != 0 && port->bell_memory == NULL) || port->kept == NULL)
        result = -ENOMEM;
    port->pool = &port->own_pool;
    port->bell = &port->own_bell;
    port->channels_number = config->shards;
    w_bell_init(&port->own_bell, config->shards + channel_places, port->bell_memory);
    int number = result != 0 ? result : port_claim(table, config->shards, port);
    if (number < 0) {
        port->number = 0; /* (never this port's: a shard's is there) */
        port_destroy(port);
        return result != 0 ? result : -ENOSPC;
    }
    port->number = (uint32_t)number;
    *pointer = port;
    return 0;
}

void w_port_close(weir_port *port)
{
    struct w_port_table *table = port->table;
    w_port_publish(port);
    for (uint32_t i = 0; i < port->channel_places; i++)
        if (port->channels[i] != NULL)
            w_own_close(port->channels[i]);
    w_port_orphan_blobs(port);
    for (uint32_t i = 0; i < table->config->shards; i++) {
        struct w_link *link = port->links[i];
        if (link == NULL)
            continue;
        struct w_core *core = table->cores[i];
        atomic_store_explicit(&link->closing, true, memory_order_release); /* after it nothing more is published there */
        if (w_bell_ring(&core->bell, port->number))
            table->engine->wake(core->io);
        /* Behind the bell's fence: a shard that went over without finding the link is seen to be over here. */
        if (atomic_load(&core->over) && atomic_exchange(&core->newcomers[port->number], NULL) == link)
            w_port_part(link); /* for the shard, that never will */
        w_port_part(link);
    }
    w_pool_trim(&port->own_pool);
    w_port_unreference(port);
}

static void port_later_done(weir_port *port, struct w_port_later *later)
{
    later->queued = false;
    if (later->pooled)
        w_pool_give(port->pool, later, sizeof *later);
}

void w_port_close_shard(weir_port *port)
{
    struct w_port_later *later;
    while ((later = port->later_first) != NULL) {
        port->later_first = later->next;
        port_later_done(port, later);
    }
    w_port_publish(port);
    /* What has come back since its shard was over, and what those that were over before have left: told like everything else. */
    for (uint32_t shard = 0; shard < port->table->config->shards; shard++)
        w_port_collect(port, port->answers_number + shard, w_port_tell_shard);
    w_port_close(port);
}

void w_port_part(struct w_link *link)
{
    weir_port *port = link->port;
    /* Acquire and release: the second one sees all that the first has done. */
    if (atomic_fetch_add_explicit(&link->parted, 1, memory_order_acq_rel) == 0)
        return;
    w_port_reclaim(link, NULL);
    w_port_unreference(port);
}

/* --- links --- */

static struct w_link *port_make_link(weir_port *port, uint32_t shard)
{
    const weir_config *config = port->table->config;
    struct w_core *core = port->table->cores[shard];
    struct w_link *link = port_allocate(config, port_link_bytes(config));
    if (link == NULL)
        return NULL;
    uint8_t *memory = (uint8_t *)(link + 1);
    link->port = port;
    link->shard = shard;
    w_spsc_init(&link->back, memory, W_PORT_BACK_BYTES);
    w_spsc_init(&link->there, memory + W_PORT_BACK_BYTES, config->ring_bytes);
    atomic_fetch_add_explicit(&port->references, 1, memory_order_relaxed); /* the shard's, until it lets go */
    port->links[shard] = link;
    /* Release: the shard that takes it finds it whole. It will be rung for the first record. */
    atomic_store_explicit(&core->newcomers[port->number], link, memory_order_release);
    return link;
}

struct w_link *w_port_link(weir_port *port, uint32_t shard, int *error)
{
    struct w_link *link = port->links[shard];
    /* Relaxed: whoever puts something there all the same has it back, see w_port_publish. */
    if (W_UNLIKELY(atomic_load_explicit(&port->table->cores[shard]->over, memory_order_relaxed))) {
        *error = -ESHUTDOWN;
        return NULL;
    }
    if (W_LIKELY(link != NULL))
        return link;
    *error = -ENOMEM;
    return port_make_link(port, shard);
}

/* No room there: the shard will tell when there is. True when there is some already. */
static bool port_wait_for_room(struct w_link *link, uint32_t bytes)
{
    /* Sequentially consistent with a fence: `waiting` is stored, then head is looked at; the shard stores head, then looks at `waiting` (w_crossing: one sees the
     * other). tests/model/own.pml has the same pair. */
    atomic_store(&link->waiting, true);
    w_base_fence();
    if (w_spsc_reserve(&link->there, bytes) == NULL)
        return false;
    if (!link->told_full) /* else somebody waits to be told, all the same */
        atomic_store_explicit(&link->waiting, false, memory_order_relaxed);
    return true;
}

struct w_port_record *w_port_reserve(struct w_link *link, uint64_t to, enum w_port_kind kind, uint32_t bytes)
{
    uint32_t record_bytes = (uint32_t)sizeof(struct w_port_record) + ((bytes + 7) & ~7U);
    uint8_t *room = w_spsc_reserve(&link->there, record_bytes);
    if (W_UNLIKELY(room == NULL)) {
        w_port_publish(link->port);
        if (!port_wait_for_room(link, record_bytes)) {
            link->told_full = true;
            link->port->stats.refusals++;
            return NULL;
        }
        room = w_spsc_reserve(&link->there, record_bytes);
    }
    struct w_port_record *record = (struct w_port_record *)(void *)room;
    record->to = to;
    record->bytes = bytes;
    record->kind = kind;
    return record;
}

static bool port_has_blob_room(const struct w_link *link, uint32_t blob_bytes)
{
    /* Relaxed: a bound, no data hangs on it. */
    uint64_t under_way = link->blob_bytes_put - atomic_load_explicit(&link->blob_bytes_read, memory_order_relaxed);
    return under_way == 0 || under_way + blob_bytes <= (uint64_t)link->there.bytes * W_PORT_BLOB_RINGS;
}

struct w_port_record *w_port_reserve_blob(struct w_link *link, uint64_t to, enum w_port_kind kind, uint32_t bytes, uint32_t blob_bytes)
{
    if (!port_has_blob_room(link, blob_bytes)) {
        w_port_publish(link->port);
        /* As in port_wait_for_room. */
        atomic_store(&link->waiting, true);
        w_base_fence();
        if (!port_has_blob_room(link, blob_bytes)) {
            link->told_full = true;
            link->port->stats.refusals++;
            return NULL;
        }
        if (!link->told_full)
            atomic_store_explicit(&link->waiting, false, memory_order_relaxed);
    }
    return w_port_reserve(link, to, kind, bytes);
}

/* Publishes what a link has, and rings for it. */
static void port_publish_link(struct w_link *link)
{
    weir_port *port = link->port;
    struct w_core *core = port->table->cores[link->shard];
    port->stats.publishes++;
    w_spsc_publish(&link->there);
    if (w_bell_ring(&core->bell, port->number)) {
        port->stats.wakes++;
        port->table->engine->wake(core->io);
    }
    /* Behind the bell's fence: a shard that went over without looking at this is seen to be over here; the next collecting has it back. */
    if (W_UNLIKELY(atomic_load_explicit(&core->over, memory_order_relaxed)))
        w_port_ring_back(port, port->answers_number + link->shard);
}

void w_port_commit(struct w_link *link, struct w_port_record *record)
{
    weir_port *port = link->port;
    uint32_t record_bytes = (uint32_t)sizeof *record + ((record->bytes + 7) & ~7U);
    w_spsc_commit(&link->there, (const uint8_t *)record, record_bytes);
    if (!port->corked) {
        port_publish_link(link);
    } else if (!link->dirty) {
        link->dirty = true;
        link->next_dirty = port->dirty;
        port->dirty = link;
        if (port->core != NULL && !port->core->in_turn)
            w_core_between_turns(port->core);
    }
}

void w_port_publish(weir_port *port)
{
    struct w_link *link;
    while ((link = port->dirty) != NULL) {
        port->dirty = link->next_dirty;
        link->dirty = false;
        port_publish_link(link);
    }
}

/* --- sending --- */

static uint32_t port_wanted_place(weir_id id)
{
    return (uint32_t)((id.value * UINT64_C(0x9e3779b97f4a7c15)) >> 60);
}
_Static_assert(W_PORT_WANTED == 16, "the hash has four bits");

/* The connection is above its high-water mark: asks to be told. */
static int port_want(weir_port *port, struct w_link *link, weir_id id, const struct w_port_want *asker)
{
    uint64_t *wanted = &port->wanted[port_wanted_place(id)];
    if (asker->asker == W_PORT_ASKER_USER && *wanted == id.value) {
        port->stats.refusals++; /* it is asked for already */
        return -EAGAIN;
    }
    struct w_port_record *record = w_port_reserve(link, id.value, W_PORT_WANT, sizeof(struct w_port_want));
    if (record == NULL)
        return -EAGAIN; /* ROOM will be told, and it tries again */
    memcpy(record->data, asker, sizeof *asker);
    w_port_commit(link, record);
    port->stats.refusals++;
    if (asker->asker == W_PORT_ASKER_USER)
        *wanted = id.value;
    return -EAGAIN;
}

void w_port_forget_want(weir_port *port, uint64_t id)
{
    uint64_t *wanted = &port->wanted[port_wanted_place((weir_id){id})];
    if (*wanted == id)
        *wanted = 0;
}

/* The link over which a connection takes messages now: NULL with *error -ESTALE, -EPIPE, -EAGAIN, -ESHUTDOWN, -ENOMEM. */
static struct w_link *port_road(weir_port *port, weir_id id, const struct w_port_want *asker, int *error)
{
    uint32_t shard = w_port_shard_of(id);
    *error = -ESTALE;
    if (W_UNLIKELY(shard >= port->table->config->shards))
        return NULL;
    struct w_core *core = port->table->cores[shard];
    uint64_t word = core->conn_word(core, (uint32_t)(id.value >> CONN_GENERATION_BITS) & ((1U << CONN_SLOT_BITS) - 1));
    uint64_t generation = id.value & ((UINT64_C(1) << CONN_GENERATION_BITS) - 1);
    if (W_UNLIKELY((word & ~(W_CORE_PRESSED | W_CORE_ENDING)) != generation || generation == 0))
        return NULL;
    if (W_UNLIKELY((word & W_CORE_ENDING) != 0)) {
        *error = -EPIPE;
        return NULL;
    }
    struct w_link *link = w_port_link(port, shard, error);
    if (W_LIKELY(link != NULL && (word & W_CORE_PRESSED) == 0))
        return link;
    if (link != NULL)
        *error = port_want(port, link, id, asker);
    return NULL;
}

/* A pipe's messages are weir's, not the port's user's. */
static inline void port_count_sent(weir_port *port, bool of_pipe, uint32_t bytes)
{
    if (W_UNLIKELY(of_pipe))
        return;
    port->stats.messages_sent++;
    port->stats.bytes_sent += bytes;
}

int w_port_put_blob(weir_port *port, weir_id id, weir_blob *blob, uint32_t offset, uint32_t bytes, const struct w_port_want *asker)
{
    int error;
    struct w_link *link = port_road(port, id, asker, &error);
    if (link == NULL)
        return error;
    bool of_pipe = asker->asker == W_PORT_ASKER_CONN;
    struct w_port_record *record =
        w_port_reserve_blob(link, id.value, of_pipe ? W_PORT_PIPE_BLOB : W_PORT_BLOB, sizeof(struct w_port_blob), bytes);
    if (record == NULL)
        return -EAGAIN;
    link->blob_bytes_put += bytes;
    struct w_port_blob part = {.blob = weir_blob_hold(blob), .offset = offset, .bytes = bytes};
    memcpy(record->data, &part, sizeof part);
    port_count_sent(port, of_pipe, bytes);
    w_port_commit(link, record);
    return 0;
}

weir_blob *w_port_blob(weir_port *port, const void *data, uint32_t bytes)
{
    if (port->core != NULL)
        return w_blob_copy(port->core, data, bytes);
    weir_blob *blob = w_blob_copy_of_port(port, port->pool, data, bytes);
    if (blob == NULL && port->blobs_away > 0) {
        w_port_take_returned(port); /* some may have come home */
        blob = w_blob_copy_of_port(port, port->pool, data, bytes);
    }
    if (blob != NULL) {
        atomic_fetch_add_explicit(&port->references, 1, memory_order_relaxed);
        port->blobs_away++;
    }
    return blob;
}

void w_port_blob_done(weir_port *port, weir_blob *blob)
{
    if (w_blob_drop(blob))
        w_port_take_home(port, blob);
}

int w_port_no_memory(weir_port *port)
{
    if (port->core == NULL && port->blobs_away == 0)
        return -ENOMEM; /* nothing will */
    port->stats.refusals++;
    port->poor = true;
    return -EAGAIN;
}

static int port_put_big(weir_port *port, weir_id id, const void *data, uint32_t bytes, const struct w_port_want *asker)
{
    int error;
    if (bytes > WEIR_MESSAGE_MAX_BYTES)
        return -EMSGSIZE;
    if (port_road(port, id, asker, &error) == NULL)
        return error;
    weir_blob *blob = w_port_blob(port, data, bytes);
    if (blob == NULL)
        return w_port_no_memory(port);
    error = w_port_put_blob(port, id, blob, 0, bytes, asker);
    w_port_blob_done(port, blob);
    return error;
}

int w_port_put(weir_port *port, weir_id id, const void *data, uint32_t bytes, const struct w_port_want *asker)
{
    int error;
    if (W_UNLIKELY(bytes >= W_BLOB_WORTH_BYTES))
        return port_put_big(port, id, data, bytes, asker);
    struct w_link *link = port_road(port, id, asker, &error);
    if (W_UNLIKELY(link == NULL))
        return error;
    bool of_pipe = asker->asker == W_PORT_ASKER_CONN;
    struct w_port_record *record = w_port_reserve(link, id.value, of_pipe ? W_PORT_PIPE : W_PORT_MESSAGE, bytes);
    if (W_UNLIKELY(record == NULL))
        return -EAGAIN;
    w_channel_copy(record->data, data, bytes);
    port_count_sent(port, of_pipe, bytes);
    w_port_commit(link, record);
    return 0;
}

int w_port_call(weir_port *port, weir_id id, w_port_function function, uint64_t argument)
{
    int error;
    struct w_link *link = w_port_shard_of(id) < port->table->config->shards ? w_port_link(port, w_port_shard_of(id), &error) : NULL;
    if (link == NULL)
        return w_port_shard_of(id) < port->table->config->shards ? error : -ESTALE;
    struct w_port_record *record = w_port_reserve(link, id.value, W_PORT_CALL, sizeof(struct w_port_call));
    if (record == NULL)
        return -EAGAIN;
    struct w_port_call call = {.function = function, .argument = argument};
    memcpy(record->data, &call, sizeof call);
    w_port_commit(link, record);
    return 0;
}

/* No room in the ring, or no memory for the ring. */
static bool port_is_to_wait(int result)
{
    return result == -EAGAIN || result == -ENOMEM;
}

void w_port_call_later(weir_port *port, struct w_port_later *later, weir_id id, w_port_function function, uint64_t argument)
{
    if (port->later_first == NULL && !port_is_to_wait(w_port_call(port, id, function, argument))) {
        port_later_done(port, later);
        return;
    }
    *later = (struct w_port_later){.id = id, .call = {.function = function, .argument = argument}, .queued = true, .pooled = later->pooled};
    if (port->later_first == NULL)
        port->later_first = later;
    else
        port->later_last->next = later;
    port->later_last = later;
}

struct w_port_later *w_port_take_later(weir_port *port)
{
    struct w_port_later *later = w_pool_take(port->pool, sizeof *later);
    if (later != NULL)
        *later = (struct w_port_later){.pooled = true};
    return later;
}

void w_port_give_later(weir_port *port, struct w_port_later **later)
{
    if (*later != NULL)
        port_later_done(port, *later);
    *later = NULL;
}

void w_port_call_again(weir_port *port)
{
    struct w_port_later *later;
    while ((later = port->later_first) != NULL &&
           !port_is_to_wait(w_port_call(port, later->id, later->call.function, later->call.argument))) {
        port->later_first = later->next;
        port_later_done(port, later);
    }
}
