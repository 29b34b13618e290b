/* SPDX-License-Identifier: MIT */
/* shard: the turn. It owns its connections, its part in each listener, its dialers; it is turned by one thread: weir's or the embedder's.
 *
 *   1. take completions, deliver them   2. follow the runtime's orders   3. timers   4. the agenda: deliver, write, step
 *   5. submit, and sleep if there is nothing to do */
#ifndef W_SHARD_H
#define W_SHARD_H

#include "runtime/dialer.h"
#include "runtime/listener.h"
#include "runtime/table.h"

/* What the runtime tells all its shards. Any thread changes it; whoever has changed it adds one to `epoch` and wakes the shards. */
struct w_shard_orders {
    _Atomic uint64_t epoch; /* release to publish, acquire to look */
    _Atomic bool stopping;
    struct w_listener *listeners;
    uint32_t listener_count;
};

enum w_shard_state { W_SHARD_NEW, W_SHARD_RUNNING, W_SHARD_STOPPING, W_SHARD_OVER, W_SHARD_BROKEN };

struct weir_shard {
    struct w_core core; /* first: w_core_of */
    struct w_conn_table conns;
    struct w_dialer_table dialers;
    struct w_listener_part *parts; /* one for each of orders->listeners */
    struct w_shard_orders *orders;
    void *user;
    uint64_t io_bytes; /* the engine's memory, look-ups apart */
    uint64_t epoch;    /* of the orders followed last */
    struct w_wheel_entry stop_timer;
    uint32_t looked_count;     /* conns.count when the listeners were looked at last */
    uint32_t drained_slots;    /* STOPPING: slots below this have been told to drain */
    uint64_t sleeps_seen;      /* its sleeps, when links were looked after last */
    uint32_t spin_losses;      /* spins lost in a row */
    uint32_t spin_skips;       /* sleeps to go without a spin */
    _Atomic uint8_t state;     /* enum w_shard_state; written by its thread */
    bool cut;                  /* the stop's time is over: every connection has been ended */
    bool embedded;             /* weir_turn_descriptor has been asked for */
    int error;                 /* BROKEN: why */
    weir_id relief_victim;     /* the connection ended last for memory; 0: none */
    uint64_t relief_ns;        /* when one was looked for last */
    uint64_t relieved_told_ns; /* when that was logged last */
    uint32_t relieved;         /* since then */
};

/* 0 or a negative errno with its sentence. config: complete. The shard is zeroed memory. */
int w_shard_init(weir_shard *shard, const struct w_io_engine *engine, const weir_config *config, weir_runtime *runtime,
                 struct w_shard_orders *orders, struct w_port_table *ports, struct w_group_table *groups, uint32_t index,
                 weir_error *error);
/* The first half of its end: tells connections that are left, and lets go of everything that is not its own. All shards have to come here before the first is finished. */
void w_shard_leave(weir_shard *shard);
/* Frees everything. Accepts a zeroed shard. */
void w_shard_finish(weir_shard *shard);

/* --- the turn, for shard_run.c --- */

int w_shard_start(weir_shard *shard);
/* All of a turn but the submit. *rest_ns: how long nothing will have to be done if nothing happens. 0, or -ESHUTDOWN: over. */
int w_shard_turn(weir_shard *shard, uint64_t *rest_ns);
/* Orders that came after they were looked at: their wake may have been used up by a submit that did not sleep. */
bool w_shard_has_orders(const weir_shard *shard);
/* No more patience: every connection ends. */
/* A slot of its table is free again: who waits for one hears of it. */
void w_shard_slot_freed(weir_shard *shard);
void w_shard_end_conns(weir_shard *shard);

/* --- turning (shard_run.c) --- */

/* Turns until it is over: 0, or a negative errno. On the calling thread, which it is bound to. */
int w_shard_run(weir_shard *shard);

/* The last turns of a stopped shard whose connections are cut at once. On the thread that turned it. */
void w_shard_cut(weir_shard *shard);

/* Bytes outside config.memory_bytes: tables, rings, receive buffers. */
uint64_t w_shard_fixed_bound_bytes(const weir_shard *shard);

#endif
