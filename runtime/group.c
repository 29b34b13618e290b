/* SPDX-License-Identifier: MIT */
/* group: one message to many connections, on all shards.
 *
 * Road:    send: a record to each shard that may have members -> there: sealed once for each codec -> into each member's channel.
 * Ditches: ring of one shard full -> nothing is sent anywhere; member has no room -> it misses the message, and its slow-peer policy is asked; member has ended ->
 *          it has left; group closed meanwhile -> the record is nobody's. */
#include "runtime/group.h"

#include <errno.h>
#include <string.h>

#include "runtime/config.h"

/* A group's name: generation 32 bits, index + 1. */
static struct w_group *group_find(const struct w_group_table *table, uint64_t name)
{
    uint32_t index = (uint32_t)name - 1;
    if ((uint32_t)name == 0 || index >= table->count)
        return NULL;
    struct w_group *group = &table->groups[index];
    /* Acquire: pairs with the release that opened it. */
    return atomic_load_explicit(&group->life, memory_order_acquire) == w_life((uint32_t)(name >> 32), W_GROUP_OPEN) ? group : NULL;
}

/* --- members, on their shard --- */

static bool part_grow(struct w_core *core, struct w_group_part *part)
{
    uint32_t count = atomic_load_explicit(&part->count, memory_order_relaxed);
    if (count < part->capacity)
        return true;
    uint32_t capacity = part->capacity == 0 ? 8 : part->capacity * 2;
    struct w_group_seat *members = w_pool_take(&core->pool, capacity * sizeof *members);
    if (members == NULL)
        return false;
    if (part->members != NULL) {
        memcpy(members, part->members, count * sizeof *members);
        w_pool_give(&core->pool, part->members, part->capacity * sizeof *members);
    }
    part->members = members;
    part->capacity = capacity;
    return true;
}

/* Without members it holds no seats. */
static void part_trim(struct w_core *core, struct w_group_part *part)
{
    if (part->members == NULL || atomic_load_explicit(&part->count, memory_order_relaxed) > 0)
        return;
    w_pool_give(&core->pool, part->members, part->capacity * sizeof *part->members);
    part->members = NULL;
    part->capacity = 0;
}

static struct w_group_member *group_member_of(const weir_conn *conn, uint32_t index)
{
    const struct w_conn_extra *extra = w_conn_extra_of(conn);
    struct w_group_member *member = extra == NULL ? NULL : extra->groups;
    while (member != NULL && member->group != index)
        member = member->next;
    return member;
}

/* 0 or -ENOMEM. */
static int group_add(struct w_core *core, uint32_t index, weir_conn *conn)
{
    struct w_group *group = &core->groups->groups[index];
    struct w_group_part *part = &group->parts[core->index];
    if (group_member_of(conn, index) != NULL)
        return 0;
    struct w_conn_extra *extra = w_conn_need_extra(conn);
    struct w_group_member *member = extra == NULL || !part_grow(core, part) ? NULL : w_pool_take(&core->pool, sizeof *member);
    if (member == NULL) {
        part_trim(core, part);
        w_conn_trim_extra(conn);
        return -ENOMEM;
    }
    uint32_t seat = atomic_load_explicit(&part->count, memory_order_relaxed);
    *member = (struct w_group_member){.next = extra->groups, .group = index, .seat = seat};
    extra->groups = member;
    part->members[seat] = (struct w_group_seat){.conn = conn, .member = member};
    atomic_store_explicit(&part->count, seat + 1, memory_order_relaxed);
    return 0;
}

/* The last one takes the free seat. */
static void part_remove(struct w_core *core, struct w_group_part *part, uint32_t seat)
{
    uint32_t last = atomic_load_explicit(&part->count, memory_order_relaxed) - 1;
    part->members[seat] = part->members[last];
    part->members[seat].member->seat = seat;
    atomic_store_explicit(&part->count, last, memory_order_relaxed);
    part_trim(core, part);
}

static void group_remove(struct w_core *core, weir_conn *conn, struct w_group_member *member)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    struct w_group_member **link = &extra->groups;
    while (*link != member)
        link = &(*link)->next;
    *link = member->next;
    part_remove(core, &core->groups->groups[member->group].parts[core->index], member->seat);
    w_pool_give(&core->pool, member, sizeof *member);
}

void w_group_leave_all(weir_conn *conn)
{
    struct w_group_member *member;
    while ((member = w_conn_extra_of(conn)->groups) != NULL)
        group_remove(conn->core, conn, member);
    w_conn_trim_extra(conn);
}

static void part_empty(struct w_core *core, struct w_group_part *part)
{
    uint32_t count;
    while ((count = atomic_load_explicit(&part->count, memory_order_relaxed)) > 0) {
        struct w_group_seat seat = part->members[count - 1];
        group_remove(core, seat.conn, seat.member);
        w_conn_trim_extra(seat.conn);
    }
    atomic_store_explicit(&part->used, false, memory_order_relaxed);
    atomic_store_explicit(&part->delivered, 0, memory_order_relaxed);
    atomic_store_explicit(&part->refused, 0, memory_order_relaxed);
}

void w_group_drop_parts(struct w_core *core)
{
    for (uint32_t i = 0; core->groups != NULL && i < core->groups->count; i++)
        part_empty(core, &core->groups->groups[i].parts[core->index]);
}

void w_group_follow(struct w_core *core)
{
    struct w_group_table *table = core->groups;
    for (uint32_t i = 0; i < table->count; i++) {
        struct w_group *group = &table->groups[i];
        struct w_group_part *part = &group->parts[core->index];
        /* Acquire: pairs with the closing. */
        uint64_t life = atomic_load_explicit(&group->life, memory_order_acquire);
        if (w_life_state(life) != W_GROUP_CLOSING || part->closed_generation == w_life_generation(life))
            continue;
        part_empty(core, part);
        part->closed_generation = w_life_generation(life);
        /* Acquire and release: whoever opens it again comes after all shards have done with it. */
        if (atomic_fetch_sub_explicit(&group->shards_left, 1, memory_order_acq_rel) == 1) {
            atomic_store_explicit(&group->shards_left, table->shards, memory_order_relaxed);
            atomic_store_explicit(&group->life, w_life(w_life_generation(life), W_GROUP_FREE), memory_order_release);
        }
    }
}

/* --- joining and leaving --- */

static enum w_port_verdict group_join_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t name)
{
    if (core == NULL || group_find(core->groups, name) == NULL || conn == NULL || conn->state != W_CONN_OPEN)
        return W_PORT_DONE;
    if (group_add(core, (uint32_t)name - 1, conn) == 0 || w_port_tell_undelivered(core, link, id.value, -ENOMEM, 0, 0))
        return W_PORT_DONE;
    return W_PORT_NO_ROOM_BACK;
}

static enum w_port_verdict group_leave_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t name)
{
    (void)link;
    (void)id;
    if (core == NULL || conn == NULL || group_find(core->groups, name) == NULL)
        return W_PORT_DONE;
    struct w_group_member *member = group_member_of(conn, (uint32_t)name - 1);
    if (member == NULL)
        return W_PORT_DONE;
    group_remove(core, conn, member);
    w_conn_trim_extra(conn);
    return W_PORT_DONE;
}

/* On the connection's own shard there is no need of a ring. */
static int group_ask(weir_port *port, weir_group name, weir_id id, w_port_function function)
{
    struct w_port_table *table = port->table;
    uint32_t shard = w_port_shard_of(id);
    if (shard >= table->config->shards)
        return -ESTALE;
    struct w_core *core = table->cores[shard];
    struct w_group *group = group_find(core->groups, name.value);
    if (group == NULL || core->conn_protocol(core, id) == NULL)
        return -ESTALE;
    atomic_store_explicit(&group->parts[shard].used, true, memory_order_relaxed);
    if (port->core != core)
        return w_port_call(port, id, function, name.value);
    weir_conn *conn = weir_find(w_core_shard(core), id);
    if (conn == NULL)
        return -ESTALE;
    if (function == group_join_here && conn->state == W_CONN_OPEN)
        return group_add(core, (uint32_t)name.value - 1, conn);
    function(core, NULL, conn, id, name.value);
    return 0;
}

int weir_group_join(weir_port *port, weir_group group, weir_id id)
{
    w_port_enter(port, __func__);
    int result = group_ask(port, group, id, group_join_here);
    w_port_leave(port);
    return result;
}

int weir_group_leave(weir_port *port, weir_group group, weir_id id)
{
    w_port_enter(port, __func__);
    int result = group_ask(port, group, id, group_leave_here);
    w_port_leave(port);
    return result;
}

/* --- delivering --- */

/* What one codec makes of the message; kept while the members have the same one. */
struct sealed {
    const weir_codec *codec; /* NULL: nothing is sealed yet */
    int result;
    weir_seal seal;
};

static void sealed_for(struct sealed *sealed, const weir_codec *codec, const uint8_t *data, uint32_t bytes)
{
    if (W_LIKELY(sealed->codec == codec))
        return;
    bool same = sealed->codec != NULL && sealed->codec->seal == codec->seal &&
                sealed->codec->message_max_bytes == codec->message_max_bytes &&
                memcmp(sealed->codec->settings, codec->settings, sizeof codec->settings) == 0;
    sealed->codec = codec;
    if (!same)
        sealed->result = codec->seal(codec, data, bytes, &sealed->seal);
}

/* As weir_send of a sealed message: 0, or it misses it. */
static int group_put(weir_conn *conn, const struct sealed *sealed, const uint8_t *data, uint32_t bytes, weir_blob *blob)
{
    struct w_core *core = conn->core;
    struct w_channel *channel = &conn->writer.channel;
    if (sealed->result != 0)
        return sealed->result;
    conn->writer.reserved_bytes = 0;
    int result = w_conn_may_send(conn, sealed->seal.head_bytes + bytes + sealed->seal.trailer_bytes);
    if (W_UNLIKELY(result != 0))
        return result;
    bool was_empty = channel->queued_bytes == 0, boundaries = sealed->codec->boundaries;
    result = blob == NULL ? w_channel_put(core, channel, &sealed->seal, data, bytes, boundaries)
                          : w_channel_put_blob(core, channel, &sealed->seal, blob, 0, bytes, boundaries);
    if (W_UNLIKELY(result != 0))
        return w_conn_refuse_for_memory(conn);
    if (was_empty || !(conn->agenda & W_CONN_DO_WRITE))
        w_conn_wants_send(conn, was_empty);
    return 0;
}

uint32_t w_group_deliver(struct w_core *core, uint64_t name, uint64_t except, const uint8_t *data, uint32_t bytes, weir_blob *blob)
{
    struct w_group *group = group_find(core->groups, name);
    struct sealed sealed = {.codec = NULL};
    if (group == NULL)
        return 0;
    struct w_group_part *part = &group->parts[core->index];
    uint32_t count = atomic_load_explicit(&part->count, memory_order_relaxed), delivered = 0, refused = 0;
    core->crowd = count > 1;
    for (uint32_t i = 0; i < count; i++) {
        weir_conn *conn = part->members[i].conn;
        if (i + 4 < count)
            __builtin_prefetch(&part->members[i + 4].conn->writer);
        if (except != 0 && w_conn_id(conn).value == except)
            continue;
        sealed_for(&sealed, &conn->protocol->codec, data, bytes);
        bool taken = group_put(conn, &sealed, data, bytes, blob) == 0;
        delivered += taken;
        refused += !taken;
    }
    core->crowd = false;
    /* Relaxed: counters of one writer. */
    atomic_store_explicit(&part->delivered, atomic_load_explicit(&part->delivered, memory_order_relaxed) + delivered, memory_order_relaxed);
    atomic_store_explicit(&part->refused, atomic_load_explicit(&part->refused, memory_order_relaxed) + refused, memory_order_relaxed);
    w_stats_add(&core->stats.group_messages, 1);
    w_stats_add(&core->stats.group_refusals, refused);
    return count;
}

/* --- sending --- */

/* Room for one record on each link that needs one, before any is committed: 0 or the error. */
static int group_reserve(weir_port *port, struct w_group *group, uint64_t name, enum w_port_kind kind, uint32_t bytes, uint32_t blob_bytes,
                         struct w_port_record **records)
{
    struct w_port_table *table = port->table;
    for (uint32_t i = 0; i < table->config->shards; i++) {
        int error = 0;
        records[i] = NULL;
        if (table->cores[i] == port->core || !atomic_load_explicit(&group->parts[i].used, memory_order_relaxed))
            continue;
        struct w_link *link = w_port_link(port, i, &error);
        if (link == NULL && error == -ESHUTDOWN)
            continue; /* its members are gone */
        records[i] = link == NULL     ? NULL
                     : blob_bytes > 0 ? w_port_reserve_blob(link, name, kind, bytes, blob_bytes)
                                      : w_port_reserve(link, name, kind, bytes);
        if (records[i] == NULL)
            return link == NULL ? error : -EAGAIN;
    }
    return 0;
}

static int group_send(weir_port *port, weir_group name, const void *data, uint32_t bytes, weir_id except)
{
    struct w_port_table *table = port->table;
    struct w_port_record *records[W_CONFIG_SHARDS_MAX];
    struct w_group *group = group_find(table->cores[0]->groups, name.value);
    const struct w_port_group head = {.except = except.value};
    bool big = bytes >= W_BLOB_WORTH_BYTES;
    weir_blob *blob = NULL;
    if (group == NULL)
        return -ESTALE;
    if (bytes > WEIR_MESSAGE_MAX_BYTES)
        return -EMSGSIZE;
    if (big && (blob = w_port_blob(port, data, bytes)) == NULL)
        return w_port_no_memory(port);
    int result = group_reserve(port, group, name.value, big ? W_PORT_GROUP_BLOB : W_PORT_GROUP,
                               (uint32_t)sizeof head + (big ? (uint32_t)sizeof(struct w_port_blob) : bytes), big ? bytes : 0, records);
    for (uint32_t i = 0; i < table->config->shards && result == 0; i++) {
        if (records[i] == NULL)
            continue;
        memcpy(records[i]->data, &head, sizeof head);
        if (big) {
            struct w_port_blob part = {.blob = weir_blob_hold(blob), .bytes = bytes};
            memcpy(records[i]->data + sizeof head, &part, sizeof part);
            port->links[i]->blob_bytes_put += bytes;
        } else if (bytes > 0) {
            memcpy(records[i]->data + sizeof head, data, bytes);
        }
        w_port_commit(port->links[i], records[i]);
    }
    if (result == 0 && port->core != NULL)
        w_group_deliver(port->core, name.value, except.value, big ? blob->data : data, bytes, blob);
    if (blob != NULL)
        w_port_blob_done(port, blob);
    return result;
}

int weir_group_send(weir_port *port, weir_group group, const void *data, uint32_t bytes, weir_id except)
{
    w_port_enter(port, __func__);
    int result = group_send(port, group, data, bytes, except);
    w_port_leave(port);
    return result;
}

/* --- counting --- */

int w_group_stats(const struct w_group_table *table, uint64_t name, weir_group_stats *stats)
{
    struct w_group *group = group_find(table, name);
    *stats = (weir_group_stats){0};
    if (group == NULL)
        return -ESTALE;
    for (uint32_t i = 0; i < table->shards; i++) {
        stats->members += atomic_load_explicit(&group->parts[i].count, memory_order_relaxed);
        stats->delivered += atomic_load_explicit(&group->parts[i].delivered, memory_order_relaxed);
        stats->refused += atomic_load_explicit(&group->parts[i].refused, memory_order_relaxed);
    }
    return 0;
}

/* --- opening and closing --- */

int w_group_open(struct w_group_table *table, uint64_t *name)
{
    for (uint32_t i = 0; i < table->count; i++) {
        struct w_group *group = &table->groups[i];
        uint64_t life = atomic_load_explicit(&group->life, memory_order_relaxed);
        uint32_t generation = w_life_generation(life) + 1;
        /* Acquire: the last shard has done with the one before. */
        if (w_life_state(life) != W_GROUP_FREE ||
            !atomic_compare_exchange_strong_explicit(&group->life, &life, w_life(generation, W_GROUP_OPEN), memory_order_acq_rel,
                                                     memory_order_relaxed))
            continue;
        *name = (uint64_t)generation << 32 | (i + 1);
        return 0;
    }
    return -ENOSPC;
}

int w_group_close(struct w_group_table *table, uint64_t name)
{
    struct w_group *group = group_find(table, name);
    uint32_t generation = (uint32_t)(name >> 32);
    uint64_t open = w_life(generation, W_GROUP_OPEN);
    /* By the whole word: somebody else may have closed it meanwhile, and opened another. */
    bool closes = group != NULL && atomic_compare_exchange_strong_explicit(&group->life, &open, w_life(generation, W_GROUP_CLOSING),
                                                                           memory_order_acq_rel, memory_order_relaxed);
    return closes ? 0 : -ESTALE;
}
