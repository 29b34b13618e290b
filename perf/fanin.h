/* SPDX-License-Identifier: MIT */
/* fanin: what the files of `weir-perf fanin` know of each other. */
#pragma once

#include "crew.h"

#include <semaphore.h>
#include <weir/weir.h>

/* The side's ways, in their order. */
enum fanin_way {
    FANIN_AUTO, /* until it is open */
    FANIN_BY_CHANNEL,
    FANIN_BY_PORT,
    FANIN_BY_SHARD,
};

/* What a producer's port and channels had to say at their end. */
struct fanin_count {
    uint64_t wakes;
    uint64_t publishes;
    uint64_t rings;
    uint64_t refusals;
};

struct fanin {
    uint32_t shard_count;
    uint64_t spin_ns;
    uint32_t channel_bytes;
    uint32_t idle_port_count;
    uint32_t idle_channel_count;
    struct crew *crew;
    weir_runtime *runtime;
    weir_protocol protocol;
    pthread_t thread;
    sem_t opened; /* posted by each connection */
    sem_t closed; /* likewise */
    weir_id *ids; /* of the connections; true once `opened` was posted by all */
    atomic_uint_fast64_t undelivered;
    struct fanin_count *counts; /* one for each producer */
    weir_port *main_port;       /* of the main thread; has the idle channels */
    weir_port **idle_ports;
    weir_channel **idle_channels;
    weir_stats stats; /* when all was over */
};

extern struct fanin fanin;

_Noreturn void fanin_die(const char *what, int result);

/* Zeroed; ends the program when memory is short. */
void *fanin_array(size_t count, size_t bytes);

/* --- --way shard (fanin_shard.c) --- */

void fanin_shard_open(void);
void fanin_shard_close(void);

/* The thread that turns the shard. */
void *fanin_shard_run(void *unused);

/* On a producer's thread: lets the shard be this producer, until it is over. */
void fanin_shard_produce(struct producer *producer);

void fanin_shard_on_ready(weir_conn *conn);
