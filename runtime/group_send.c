/* SPDX-License-Identifier: MIT */
/* group_send: messages to a group, on their way into its members' channels.
 *
 * Road:    send -> a record to each other shard that may have members, and a draft on this one -> a burst of what is for one group -> member by member: all of it.
 *          The draft is what one turn of this shard has sent to one group. It is settled, that is delivered, before anything that could tell the
 *          difference: a message to another group, any other call about connections, the end of a connection, the agenda, the end of the turn.
 * Ditches: ring of one shard full -> nothing is sent anywhere; member has no room for all of it -> message by message: it misses what it has none for, and its
 *          slow-peer policy is asked; codec refuses one -> its members miss it; no memory for the draft -> delivered at once. */
#include <errno.h>
#include <string.h>

#include "runtime/burst.h"
#include "runtime/config.h"
#include "runtime/group.h"

#define DRAFT_MEMBERS 2u /* on this shard, at least: a message to one goes at once */

struct w_group_draft {
    struct w_burst burst;
    uint8_t payload[W_BURST_BYTES];
};

/* --- delivering --- */

/* Something was put into its channel. */
static inline void group_sent(weir_conn *conn, bool was_empty)
{
    if (was_empty || !(conn->agenda & W_CONN_DO_WRITE))
        w_conn_wants_send(conn, was_empty);
}

/* As weir_send of what is sealed already: 0, or it misses it. */
static int group_put_sealed(weir_conn *conn, const uint8_t *data, uint32_t bytes)
{
    static const weir_seal nothing;
    struct w_channel *channel = &conn->writer.channel;
    int result = w_conn_may_send(conn, bytes);
    if (W_UNLIKELY(result != 0))
        return result;
    bool was_empty = channel->queued_bytes == 0;
    if (W_UNLIKELY(w_channel_put(conn->core, channel, &nothing, data, bytes, conn->protocol->codec.boundaries) != 0))
        return w_conn_refuse_for_memory(conn);
    group_sent(conn, was_empty);
    return 0;
}

/* The same of a payload that stays in its blob. */
static int group_put_blob(weir_conn *conn, const struct w_burst_sealed *sealed, const struct w_burst *burst)
{
    const struct w_burst_message *message = &burst->messages[0];
    struct w_channel *channel = &conn->writer.channel;
    uint32_t offset = (uint32_t)(message->data - burst->blob->data);
    int result = sealed->result;
    if (result == 0)
        result = w_conn_may_send(conn, sealed->seal.head_bytes + message->bytes + sealed->seal.trailer_bytes);
    if (result != 0)
        return result;
    bool was_empty = channel->queued_bytes == 0;
    if (sealed->codec->copy != NULL
            ? w_channel_put_copied(conn->core, channel, sealed->codec, &sealed->seal, message->data, message->bytes) != 0
            : w_channel_put_blob(conn->core, channel, &sealed->seal, burst->blob, offset, message->bytes, sealed->codec->boundaries) != 0)
        return w_conn_refuse_for_memory(conn);
    group_sent(conn, was_empty);
    return 0;
}

/* All of it by one reference: false: message by message, then. */
static bool group_put_shared(weir_conn *conn, const struct w_burst_sealed *sealed, uint32_t count)
{
    struct w_channel *channel = &conn->writer.channel;
    bool boundaries = sealed->codec->boundaries, was_empty = channel->queued_bytes == 0;
    if (sealed->blob == NULL || !sealed->whole || !w_conn_may_send_all(conn, sealed->bytes) ||
        !w_channel_put_shared(conn->core, channel, sealed->blob, boundaries ? sealed->ends : NULL, boundaries ? count : 0))
        return false;
    group_sent(conn, was_empty);
    return true;
}

/* One message, by itself. */
static int group_put_one(weir_conn *conn, const struct w_burst_sealed *sealed, const struct w_burst *burst, uint32_t i)
{
    const struct w_burst_message *message = &burst->messages[i];
    if (burst->blob != NULL)
        return group_put_blob(conn, sealed, burst);
    if (sealed->data == NULL)
        return conn->state == W_CONN_OPEN ? w_conn_refuse_for_memory(conn) : -EPIPE;
    uint32_t begin = i == 0 ? 0 : sealed->ends[i - 1], bytes = sealed->ends[i] - begin;
    weir_seal seal;
    int result = bytes > 0 ? 0 : sealed->codec->seal(sealed->codec, message->data, message->bytes, &seal);
    return result != 0 ? result : group_put_sealed(conn, sealed->data + begin, bytes);
}

struct tally {
    uint64_t delivered, refused;
};

static void group_put(weir_conn *conn, const struct w_burst_sealed *sealed, const struct w_burst *burst, struct tally *tally)
{
    conn->writer.reserved_bytes = 0;
    if (W_LIKELY(!conn->excepted) && group_put_shared(conn, sealed, burst->count)) {
        tally->delivered += burst->count;
        return;
    }
    for (uint32_t i = 0; i < burst->count; i++) {
        if (W_UNLIKELY(conn->excepted) && burst->messages[i].except == w_conn_id(conn).value)
            continue;
        bool taken = group_put_one(conn, sealed, burst, i) == 0;
        tally->delivered += taken;
        tally->refused += !taken;
    }
}

/* Those of this shard that do not get all of it are marked, or not any more. */
static void group_mark_excepted(struct w_core *core, const struct w_burst *burst, bool excepted)
{
    for (uint32_t i = 0; burst->excepts && i < burst->count; i++) {
        weir_conn *conn = weir_find(w_core_shard(core), (weir_id){burst->messages[i].except});
        if (conn != NULL)
            conn->excepted = excepted;
    }
}

uint32_t w_group_deliver(struct w_core *core, const struct w_burst *burst)
{
    struct w_group_part *part = w_group_part_of(core, burst->group);
    struct w_burst_seals seals;
    const struct w_burst_sealed *sealed = NULL;
    struct tally tally = {0};
    if (part == NULL)
        return 0;
    w_core_settle(core);
    uint32_t count = atomic_load_explicit(&part->count, memory_order_relaxed);
    core->crowd = count > 1;
    w_burst_seals_begin(&seals);
    group_mark_excepted(core, burst, true);
    for (uint32_t i = 0; i < count; i++) {
        weir_conn *conn = part->members[i].conn;
        const weir_codec *codec = &conn->protocol->codec;
        if (i + 4 < count)
            __builtin_prefetch(&part->members[i + 4].conn->writer);
        if (W_UNLIKELY(sealed == NULL || sealed->codec != codec))
            sealed = w_burst_seal(core, burst, &seals, codec);
        group_put(conn, sealed, burst, &tally);
    }
    group_mark_excepted(core, burst, false);
    w_burst_seals_end(core, &seals);
    core->crowd = false;
    /* Relaxed: counters of one writer. */
    atomic_store_explicit(&part->delivered, atomic_load_explicit(&part->delivered, memory_order_relaxed) + tally.delivered,
                          memory_order_relaxed);
    atomic_store_explicit(&part->refused, atomic_load_explicit(&part->refused, memory_order_relaxed) + tally.refused, memory_order_relaxed);
    w_stats_add(&core->stats.group_messages, burst->count);
    w_stats_add(&core->stats.group_refusals, tally.refused);
    return count;
}

/* --- the draft --- */

void w_group_settle(struct w_core *core)
{
    struct w_group_draft *draft = core->draft;
    core->draft = NULL; /* first: what ends meanwhile settles too */
    w_group_deliver(core, &draft->burst);
    w_pool_give(&core->pool, draft, sizeof *draft);
}

/* False: it is to be delivered at once. */
static bool group_draft(struct w_core *core, uint64_t name, const void *data, uint32_t bytes, uint64_t except)
{
    const struct w_group_part *part = w_group_part_of(core, name);
    struct w_group_draft *draft = core->draft;
    if (draft != NULL && (draft->burst.group != name || !w_burst_has_room(&draft->burst, bytes))) {
        w_group_settle(core);
        draft = NULL;
    }
    if (draft == NULL) {
        if (!core->in_turn || part == NULL || atomic_load_explicit(&part->count, memory_order_relaxed) < DRAFT_MEMBERS)
            return false;
        draft = core->draft = w_pool_take(&core->pool, sizeof *draft);
        if (draft == NULL)
            return false;
        w_burst_begin(&draft->burst, name);
    }
    uint8_t *payload = draft->payload + draft->burst.bytes;
    if (bytes > 0)
        memcpy(payload, data, bytes);
    w_burst_add(&draft->burst, payload, bytes, except);
    return true;
}

static void group_send_here(struct w_core *core, uint64_t name, const void *data, uint32_t bytes, uint64_t except, weir_blob *blob)
{
    struct w_burst burst;
    if (blob == NULL && group_draft(core, name, data, bytes, except))
        return;
    w_core_settle(core);
    w_burst_begin(&burst, name);
    w_burst_add(&burst, blob != NULL ? blob->data : data, bytes, except);
    burst.blob = blob;
    w_group_deliver(core, &burst);
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
    struct w_group *group = w_group_find(table->cores[0]->groups, name.value);
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
        group_send_here(port->core, name.value, data, bytes, except.value, blob);
    if (blob != NULL)
        w_port_blob_done(port, blob);
    return result;
}

int weir_group_send(weir_port *port, weir_group group, const void *data, uint32_t bytes, weir_id except)
{
    w_port_enter_unsettled(port, __func__);
    int result = group_send(port, group, data, bytes, except);
    w_port_leave(port);
    return result;
}
