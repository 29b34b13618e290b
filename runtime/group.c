/* SPDX-License-Identifier: MIT */
/* group: who is in it, on each shard; and a group's life.
 *
 * Road:    open -> join: a record to the connection's shard -> a seat in that shard's part -> leave, or the connection ends -> close -> each shard empties its part ->
 *          free for another.
 * Ditches: no memory for the seat -> an answer; group closed meanwhile -> the record is nobody's. */
#include "runtime/group.h"

#include <errno.h>
#include <string.h>

#include "runtime/config.h"

/* A group's name: generation 32 bits, index + 1. */
struct w_group *w_group_find(const struct w_group_table *table, uint64_t name)
{
    uint32_t index = (uint32_t)name - 1;
    if ((uint32_t)name == 0 || index >= table->count)
        return NULL;
    struct w_group *group = &table->groups[index];
    /* Acquire: pairs with the release that opened it. */
    return atomic_load_explicit(&group->life, memory_order_acquire) == w_life((uint32_t)(name >> 32), W_GROUP_OPEN) ? group : NULL;
}

struct w_group_part *w_group_part_of(struct w_core *core, uint64_t name)
{
    struct w_group_table *table = core->groups;
    uint32_t index = (uint32_t)name - 1, generation = (uint32_t)(name >> 32);
    if ((uint32_t)name == 0 || index >= table->count)
        return NULL;
    struct w_group_part *part = &table->groups[index].parts[core->index];
    /* Acquire: as in w_group_find. */
    uint64_t life = atomic_load_explicit(&table->groups[index].life, memory_order_acquire);
    bool open = life == w_life(generation, W_GROUP_OPEN), closing = life == w_life(generation, W_GROUP_CLOSING);
    return open || (closing && part->closed_generation != generation) ? part : NULL;
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
    w_core_settle(core);
    for (uint32_t i = 0; core->groups != NULL && i < core->groups->count; i++)
        part_empty(core, &core->groups->groups[i].parts[core->index]);
}

void w_group_follow(struct w_core *core)
{
    w_core_settle(core); /* what was sent before the group was closed */
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
    if (core == NULL || w_group_find(core->groups, name) == NULL || conn == NULL || conn->state != W_CONN_OPEN)
        return W_PORT_DONE;
    if (group_add(core, (uint32_t)name - 1, conn) == 0 || w_port_tell_undelivered(core, link, id.value, -ENOMEM, 0, 0))
        return W_PORT_DONE;
    return W_PORT_NO_ROOM_BACK;
}

static enum w_port_verdict group_leave_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t name)
{
    (void)link;
    (void)id;
    if (core == NULL || conn == NULL || w_group_find(core->groups, name) == NULL)
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
    struct w_group *group = w_group_find(core->groups, name.value);
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

/* --- counting --- */

int w_group_stats(const struct w_group_table *table, uint64_t name, weir_group_stats *stats)
{
    struct w_group *group = w_group_find(table, name);
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
    struct w_group *group = w_group_find(table, name);
    uint32_t generation = (uint32_t)(name >> 32);
    uint64_t open = w_life(generation, W_GROUP_OPEN);
    /* By the whole word: somebody else may have closed it meanwhile, and opened another. */
    bool closes = group != NULL && atomic_compare_exchange_strong_explicit(&group->life, &open, w_life(generation, W_GROUP_CLOSING),
                                                                           memory_order_acq_rel, memory_order_relaxed);
    return closes ? 0 : -ESTALE;
}
