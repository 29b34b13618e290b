/* SPDX-License-Identifier: MIT */
/* runtime: all shards together; the only threads. Opens, listens, runs, stops, closes, and adds the numbers up. */
#ifndef W_RUNTIME_H
#define W_RUNTIME_H

#include <pthread.h>

#include "runtime/shard.h"

struct weir_runtime {
    weir_config config; /* complete */
    const struct w_io_engine *engine;
    struct w_shard_orders orders;
    weir_shard **shards; /* config.shards of them */
    int *handles;        /* of all listeners: a row of config.shards for each */
    _Atomic bool ran;    /* weir_run has been called */
};

/* Tells all shards to look at the orders. Any thread, and signal handlers. */
void w_runtime_ring(weir_runtime *runtime);

#endif
