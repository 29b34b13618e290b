/* SPDX-License-Identifier: MIT */
/* weir/runtime.h: open a runtime, let it run, stop it.
 *
 *     weir_config config = {0};
 *     weir_open(&config, &runtime, &error);
 *     weir_listen(runtime, "tcp://127.0.0.1:7000", &protocol, NULL, NULL, &error);
 *     weir_run(runtime);          // until weir_stop(), from anywhere, a signal handler included
 *     weir_close(&runtime);
 *
 * Or without weir's threads: call weir_turn() for each shard on threads of yours (see "embedding" below). */
#ifndef WEIR_RUNTIME_H
#define WEIR_RUNTIME_H

#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_port_event; /* weir/port.h */

/* Zero everywhere is a sane server. */
typedef struct weir_config {
    uint32_t shards;      /* 1 to 1024; 0: one for each cpu this process may run on */
    bool pin;             /* weir_run: bind each shard's thread to a cpu of its own, in order of the allowed ones */
    uint64_t spin_ns;     /* weir_run: look for work so long before sleeping; adaptive: a spin that keeps failing is left out.
                             0: sleep at once. 50 us suits peers that answer at once. */
    uint32_t connections; /* for each shard, 1 to 2^20; 0: 16384. More than that are left in the backlog */
    uint32_t listeners;   /* of the runtime, 1 to 1024; 0: 64 */
    uint32_t dials;       /* for each shard, 1 to 65536; 0: 1024 */
    uint32_t ports;       /* that threads may have open at once, 1 to 4096; 0: 32. (Each shard has one beside these) */
    uint32_t channels;    /* own channels open at once, of all ports, 1 to 65536; 0: 1024 */
    uint32_t groups;      /* 1 to 65536; 0: 256 */
    /* Memory, for each shard. A budget for all that is queued to go out, held, or being put together; when it is spent the connection with
     * the most of it ends (WEIR_REASON_MEMORY). */
    uint64_t memory_bytes; /* 0: 64 MiB; 1 MiB to 1 TiB */
    uint64_t
        assembly_bytes; /* of it, for messages being put together, each a power of two; more, and the one with the most of it ends; 0: a quarter */
    uint64_t
        port_bytes; /* for each port: its own channels' rings (and a quarter more) and its big messages under way; 0: 16 MiB; 64 KiB to 1 TiB */
    uint32_t ring_bytes; /* of each message ring, made at first use: a power of two, 16 KiB to 16 MiB; 0: 128 KiB */
    uint32_t
        send_bytes; /* the most that one send carries, 4 KiB to 1 GiB; 0: 256 KiB. More: larger batches, and longer waits behind them */
    uint32_t receive_buffers; /* a power of two, 8 to 32768; 0: 64 */
    uint32_t
        receive_buffer_bytes; /* 4 KiB to 1 MiB; 0: 64 KiB (16 KiB and four times as many where the kernel has no incremental buffers) */
    uint64_t stop_ns;         /* how long weir_stop() lets connections drain; 0: 5 s */
    uint64_t long_turn_ns;    /* a turn longer than this is counted and logged; 0: 20 ms; WEIR_FOREVER: never */
    weir_log_callback log;    /* NULL: silence */
    void *log_user;
    weir_log_level log_level; /* the least that is logged; 0: WEIR_LOG_DEBUG, everything */
    weir_allocator allocator;
    /* Kernel features not to use even if they are there, names from weir-probe with commas between. The environment variable WEIR_DISABLE
     * adds to it. For trying the road that an older kernel takes. */
    const char *disable;
    /* On each shard's thread, inside its first turn and inside its last. The place to dial, set timers, make per-shard data. May be NULL. */
    void (*on_start)(weir_shard *shard);
    void (*on_stop)(weir_shard *shard);
    /* What came back to the shard's own port (weir/port.h), on its thread, inside a turn (what comes back after its last turn:
     * in weir_close). May be NULL. The event lives until it returns. */
    void (*on_port_event)(weir_shard *shard, const struct weir_port_event *event);
    void *user; /* yours; weir_runtime_user() */
} weir_config;

/* Opens a runtime: checks the config, the kernel and the limits, makes the rings. Nothing runs yet. On failure *runtime is NULL.
 *   -EINVAL a config value (the sentence names it)    -ENOSYS, -EPERM io_uring not there or forbidden    -EOPNOTSUPP kernel older than 6.1
 *   -ENOMEM no memory, or no locked memory (RLIMIT_MEMLOCK)    -EMFILE no descriptors. `error` may be NULL.
 * weir-probe says the same things at more length. Any thread. config is copied; strings and callbacks must stay. */
int weir_open(const weir_config *config, weir_runtime **runtime, weir_error *error);

/* Runs all shards, each on a thread of its own, until weir_stop() and the last connection's end. Blocks the caller meanwhile; all
 * signals are blocked in the shards' threads. 0, or the first shard's fatal error (all are stopped then). -EBUSY: already run or turned. */
int weir_run(weir_runtime *runtime);

/* Stops: no more accepting, every connection ends gracefully (WEIR_REASON_STOPPED), what is left after config.stop_ns is cut. Returns at
 * once. Any thread, and signal handlers; more than once is the same as once. */
void weir_stop(weir_runtime *runtime);

/* Frees everything and sets *runtime to NULL. After weir_run() has returned, or when no thread turns a shard any more: connections that
 * are still there are cut, and their on_close runs on this thread. NULL is left alone. */
void weir_close(weir_runtime **runtime);

void *weir_runtime_user(const weir_runtime *runtime);

/* Writes, for people, one line for each limit with its bytes and what they add up to. Returns the bytes the whole text has without its
 * end; it is cut to fit text_bytes. Any thread. */
size_t weir_limits_text(const weir_runtime *runtime, char *text, size_t text_bytes);
/* The sum: user memory that this runtime never exceeds, with its rings and receive buffers. */
uint64_t weir_memory_bound(const weir_runtime *runtime);

/* --- shards --- */

uint32_t weir_shard_count(const weir_runtime *runtime);
/* NULL when there is no such shard. Any thread. */
weir_shard *weir_shard_at(weir_runtime *runtime, uint32_t index);
uint32_t weir_shard_index(const weir_shard *shard);
weir_runtime *weir_shard_runtime(const weir_shard *shard);
/* Data of yours for each shard: set in on_start, read in handlers. On the shard's thread. */
void *weir_shard_user(const weir_shard *shard);
void weir_shard_set_user(weir_shard *shard, void *user);
/* The time at the start of this turn, CLOCK_MONOTONIC, nanoseconds. On the shard's thread. */
uint64_t weir_now(const weir_shard *shard);

/* --- embedding: the turn on your own thread ---
 *
 *     struct epoll_event event = {.events = EPOLLIN};
 *     epoll_ctl(epoll, EPOLL_CTL_ADD, weir_turn_descriptor(shard), &event);
 *     while (weir_turn(shard, &sleep_ns) == 0)
 *         epoll_wait(epoll, events, count, sleep_ns == 0 ? 0 : sleep_ns == WEIR_FOREVER ? -1 : (int)(sleep_ns / 1000000 + 1));
 *
 * The first turn binds the shard to the calling thread; calls on the shard's objects between turns are allowed on that thread.
 * While the turn answers a sleep of 0 there is more to do: call it again before you sleep. Nothing is lost if you are late. */

/* Does a bounded amount of work, never blocks. 0: *sleep_ns says how long you may sleep unless the descriptor becomes readable.
 *   -ESHUTDOWN  stopped and all connections are gone; the shard is over
 *   -EDEADLK    called from inside a callback of this shard
 *   -EPERM      this shard belongs to another thread (the log names both)
 *   else        the shard's engine failed for good: close the runtime */
int weir_turn(weir_shard *shard, uint64_t *sleep_ns);

/* Readable when the shard has something to do. weir reads it; you only wait for it (level- or edge-triggered). Weir's to close. Asking for it tells
 * the shard that it is embedded: ask before the first turn. Answers a negative errno when there are no descriptors. */
int weir_turn_descriptor(weir_shard *shard);

#ifdef __cplusplus
}
#endif

#endif
