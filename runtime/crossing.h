/* SPDX-License-Identifier: MIT */
/* crossing: a shard takes what comes from other shards and threads: only from those that rang, and only so much in a turn. */
#ifndef W_CROSSING_H
#define W_CROSSING_H

#include "runtime/core.h"

/* One turn's part of it. */
void w_crossing_turn(struct w_core *core);

/* After a sleep: looks whether something lies in a ring that nobody has rung for. It never should: counted in late_finds, and taken all the same. */
void w_crossing_look_after(struct w_core *core);

/* Does something that crosses wait for memory? Then it is to be looked at again soon. */
bool w_crossing_is_short(struct w_core *core);

/* Some of a shard's handlers have left something for others: publishes it, wakes them, and sends home what goes home. The end of a turn. */
void w_crossing_publish(struct w_core *core);

#endif
