/* SPDX-License-Identifier: MIT */
/* weir/group.h: one message to many connections, on all shards.
 *
 * A group is a set of connections: a room, a topic. One send reaches all members: it crosses to each shard once, is sealed there once for each codec among the
 * members, and is in each member's channel at the end of the turn. What a shard sends to one group in a row, and what one port has sent to it, goes in
 * together: member by member, and from 256 bytes on as one piece of memory that all members share. So a message to many
 * costs little more than the kernel's part of it.
 *
 * A member is refused the message like by a weir_send(): above its high-water mark it misses it (counted in weir_group_stats.refused and the connection's refusals),
 * and its protocol's slow-peer policy is applied. It never slows the others. Nor does it slow the sender: who sends faster than the members read sees refusals, not
 * -EAGAIN; pace by weir_group_stats, or by an answer of the members'.
 *
 * Order: what one port sends to a group and to members directly arrives at each member in the order sent. Join and leave are in that order too: a member
 * gets what its joiner's port sends after the join, and nothing that it sends after the leave. Members that end leave by themselves. */
#ifndef WEIR_GROUP_H
#define WEIR_GROUP_H

#include <weir/port.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Names a group of one runtime. The value 0 names none; a closed group's name is never another's (-ESTALE). */
typedef struct weir_group {
    uint64_t value;
} weir_group;

/* Any thread. 0, -ENOSPC more than config.groups: those closed count until every shard has heard of it. */
int weir_group_open(weir_runtime *runtime, weir_group *group);
/* All members leave; the connections go on. What other ports have under way may be lost for it. Any thread. 0, -ESTALE. */
int weir_group_close(weir_runtime *runtime, weir_group group);

/* A connection, on any shard, joins or leaves. Joining twice is joining once. 0, -EAGAIN (WEIR_PORT_ROOM follows), -ESTALE the group is closed or the connection
 * has ended, -ESHUTDOWN, -ENOMEM. A join that finds no memory on the shard ends as WEIR_PORT_UNDELIVERED with -ENOMEM and no messages. */
int weir_group_join(weir_port *port, weir_group group, weir_id id);
int weir_group_leave(weir_port *port, weir_group group, weir_id id);

/* Sends one message to all members but `except` ({0}: to all). All or nothing: when the ring to one of the shards is full, nothing is sent anywhere and the answer is
 * -EAGAIN (WEIR_PORT_ROOM follows). 0; -ESTALE the group is closed; -EMSGSIZE over WEIR_MESSAGE_MAX_BYTES. A group without members: 0. */
int weir_group_send(weir_port *port, weir_group group, const void *data, uint32_t bytes, weir_id except);

/* Counters of the group since it was opened; exact by themselves, together some operations apart. What a callback of a shard sends counts at the end of its turn at
 * the latest. */
typedef struct weir_group_stats {
    uint64_t members;   /* now */
    uint64_t delivered; /* messages put into members' channels, one for each member */
    uint64_t refused;   /* missed by members that had no room, or whose codec cannot carry them */
} weir_group_stats;
/* 0, -ESTALE. Any thread. */
int weir_group_stats_get(weir_runtime *runtime, weir_group group, weir_group_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
