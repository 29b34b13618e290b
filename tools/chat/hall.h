/* SPDX-License-Identifier: MIT */
/* hall: names, rooms, and who is where: all of this is shard 0's. A room is a group of weir's, so the bulk of the work, a copy of each line for each member, is done by
 * all shards. What a room hears has all passed by here, so all in it see the same order. */
#ifndef CHAT_HALL_H
#define CHAT_HALL_H

#include "errand.h"

/* Forgets everybody: after weir_close(). */
void hall_close(void);

/* Somebody, for an errand to make known. Any thread. */
struct person *hall_stranger(void);

/* weir_post() to shard 0: takes an errand in, which goes home with its answer, to errand->back. */
void hall_take(weir_shard *shard, void *errand);

#endif
