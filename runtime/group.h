/* SPDX-License-Identifier: MIT */
/* group: one message to many connections, on all shards.
 *
 * The groups of a runtime stand in one table; each shard has a part in each group, which only it touches: the members that live on it. Any thread opens
 * and closes a group by its `life` (as with listeners): FREE -> OPEN, of the next generation -> CLOSING -> FREE, the last by the last shard that has emptied its part. */
#ifndef W_GROUP_H
#define W_GROUP_H

#include <weir/group.h>

#include "runtime/burst.h"
#include "runtime/conn.h"
#include "runtime/life.h"

enum w_group_state { W_GROUP_FREE, W_GROUP_OPEN, W_GROUP_CLOSING };

struct w_group_seat {
    weir_conn *conn;
    struct w_group_member *member;
};

/* A shard's part. Invariant: members[0 .. count) are those that live on this shard. */
struct w_group_part {
    struct w_group_seat *members; /* a piece of the shard's pool */
    uint32_t capacity;
    uint32_t closed_generation; /* the group's when this part was emptied last */
    _Atomic uint32_t count;     /* written by the shard */
    _Atomic bool used; /* somebody has joined, or is about to: there may be members. Set by joiners, cleared by the shard at the end */
    _Atomic uint64_t delivered, refused; /* written by the shard */
};

struct w_group {
    _Atomic uint64_t life;        /* its state is an enum w_group_state */
    _Atomic uint32_t shards_left; /* that have not emptied their part yet; of all, but in CLOSING */
    struct w_group_part *parts;   /* one for each shard */
};

struct w_group_table {
    struct w_group *groups;
    uint32_t count, shards;
};

/* One connection's membership in one group: a piece of its shard's pool. */
struct w_group_member {
    struct w_group_member *next; /* of the connection's */
    uint32_t group;              /* its index */
    uint32_t seat;
};

/* weir_group_open and weir_group_close, less telling the shards; weir_group_stats_get. Any thread. */
int w_group_open(struct w_group_table *table, uint64_t *name);
int w_group_close(struct w_group_table *table, uint64_t name);
int w_group_stats(const struct w_group_table *table, uint64_t name, weir_group_stats *stats);

/* The group of that name, or NULL: it is not open. Any thread. */
struct w_group *w_group_find(const struct w_group_table *table, uint64_t name);
/* This shard's part of it, or NULL: it is closed, and the part emptied. On the shard's thread. */
struct w_group_part *w_group_part_of(struct w_core *core, uint64_t name);

/* Puts a burst into the channels of all members on this shard, member by member. Answers how many members there are. */
uint32_t w_group_deliver(struct w_core *core, const struct w_burst *burst);
/* Delivers what this shard has sent to a group and not delivered yet: core->settle. */
void w_group_settle(struct w_core *core);
/* A connection is over. */
void w_group_leave_all(weir_conn *conn);
/* Looks which groups are being closed, and empties this shard's parts in them. */
void w_group_follow(struct w_core *core);
/* The shard's memory is going: its parts too. */
void w_group_drop_parts(struct w_core *core);

#endif
