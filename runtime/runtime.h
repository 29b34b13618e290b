/* SPDX-License-Identifier: MIT */
/* runtime: all shards together; the only threads. Opens, listens, runs, stops, closes, and adds the numbers up. */
#ifndef W_RUNTIME_H
#define W_RUNTIME_H

#include <pthread.h>

#include "runtime/group.h"
#include "runtime/shard.h"

struct weir_runtime {
    weir_config config; /* complete */
    const struct w_io_engine *engine;
    struct w_shard_orders orders;
    weir_shard **shards; /* config.shards of them */
    struct w_port_table ports;
    struct w_group_table groups;
    int *handles;             /* of all listeners: a row of config.shards for each */
    _Atomic bool ran;         /* weir_run has been called */
    _Atomic uint32_t ringers; /* threads between w_runtime_enter and _leave: weir_close waits for them */
};

/* Round the giving of an order: it may be the last one, and whoever follows it may want to close the runtime while the giver is still here. */
void w_runtime_enter(weir_runtime *runtime);
void w_runtime_leave(weir_runtime *runtime);
/* Tells all shards to look at the orders. Any thread, and signal handlers. */
void w_runtime_ring(weir_runtime *runtime);

#endif
