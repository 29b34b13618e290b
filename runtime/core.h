/* SPDX-License-Identifier: MIT */
/* core: what a shard lends to everything that lives on it: its engine, memory, timers, counters, and its lists of
 * connections that wait for something. The lower levels know a shard by this alone. */
#ifndef W_CORE_H
#define W_CORE_H

#include <weir/runtime.h>
#include <weir/session.h>

#include "runtime/bell.h"
#include "runtime/io/io.h"
#include "runtime/pool.h"
#include "runtime/stats.h"
#include "runtime/wheel.h"

struct w_conn_table;
struct weir_blob;
struct weir_channel;
struct weir_port;
struct w_group_draft;
struct w_group_table;
struct w_link;
struct w_listener;
struct w_port_table;
struct w_reader;

/* Kinds of the wheel's entries. */
enum w_core_timer { W_CORE_TIMER_USER, W_CORE_TIMER_CONN, W_CORE_TIMER_LISTENER, W_CORE_TIMER_DIALER, W_CORE_TIMER_STOP };

/* Where the message that a callback is looking at lies: what weir_hold and weir_forward need to know. Set by the reader
 * while it delivers; reader is NULL outside. */
struct w_core_origin {
    struct w_reader *reader;
    const uint8_t *begin, *end; /* the bytes that may be held */
    uint16_t buffer;            /* the receive buffer they lie in, unless in_stash */
    bool in_stash;              /* they lie in the reader's stash */
};

/* First-in first-out lists of connections: for what they wait. */
enum w_core_list_name {
    W_CORE_AGENDA,  /* their part of this turn */
    W_CORE_STARVED, /* a receive buffer */
    W_CORE_THIRSTY, /* room in the memory budget */
    W_CORE_BLOCKED, /* room in a ring to another shard */
    W_CORE_LISTS
};

/* In a connection's word: it is above its high-water mark; it is ending, and takes nothing more. The rest is its generation. */
#define W_CORE_PRESSED (UINT64_C(1) << 63)
#define W_CORE_ENDING  (UINT64_C(1) << 62)

/* Over all but one such part of the budget, the connection that holds the most is ended. */
#define W_CORE_RELIEF_PART 8

struct w_core_list {
    weir_conn *first, *last;
};

struct w_core {
    struct w_io *io;
    const struct w_io_engine *engine;
    struct w_conn_table *conns;
    const void *owner;           /* w_core_self() of the thread that turns this shard; NULL until the first turn */
    int owner_thread;            /* the same as gettid() calls it, for people */
    struct w_group_draft *draft; /* what it has sent to a group and not yet put into the members' channels (group_send.c); NULL: nothing */
    struct w_core_list lists[W_CORE_LISTS];
    weir_conn *put_back; /* the last that came back to the front of the starved since they were fed; NULL: none */
    struct w_core_origin origin;
    const weir_message *handshake; /* while on_open runs: what the peer has said before, in a codec with a session; NULL else */
    struct w_pool pool;
    weir_session_heap session_heap; /* the same pool, for sessions */
    uint64_t unpacked_turn;         /* the last turn in which a session has unpacked something (stats.turns), */
    uint64_t unpacked_bytes;        /* and how much */
    weir_stats stats;
    uint64_t
        assembly_bytes; /* of the pool, held by messages being put together and by bytes set aside; over config.assembly_bytes one has to go */
    const weir_config *config; /* complete: no zeros that mean a default */
    weir_runtime *runtime;
    uint32_t index;
    uint64_t thirst_ns;    /* since when somebody has been thirsty at the end of every turn; 0: nobody is */
    uint32_t send_bytes;   /* what one send carries at most; 0: the writer's own idea */
    uint32_t blobs;        /* that exist */
    uint32_t pinned_limit; /* receive buffers that one connection may pin */
    bool in_turn;
    bool crowd;    /* a group is being sent to: first blocks are small, there are many of them */
    bool stopping; /* no new connections */
    /* The shard among the others (port.h). */
    struct w_port_table *ports;
    struct w_group_table *groups;
    struct weir_port *port;              /* its own */
    _Atomic uint32_t arriving;           /* connections that another shard has accepted for this one, on their way here */
    struct w_listener *listeners;        /* of the runtime */
    struct w_link **links;               /* of each port to here, once it has been heard; NULL until then, and when it has been let go of */
    _Atomic(struct w_link *) *newcomers; /* where a port leaves its new link to here, before it rings for the first time */
    struct weir_channel **owns;          /* own channels attached to connections of this shard, by their numbers */
    struct w_link *stirred;              /* links over which something goes back at the end of the turn */
    struct w_link *stalled;              /* links with a record that waits for memory */
    uint32_t looked_link; /* the link looked after last, and what was found there, unread and unrung: where, and since when; 0: nothing */
    uint32_t late_position;
    uint64_t late_since_ns;
    uint64_t sends_seen; /* stats.sends at the last look at the bell */
    _Atomic bool over;   /* it will look at nothing any more: what lies in rings to it is its ports' to tell */
    /* What lower levels call and higher ones do. conn_word: any thread: {pressed, ending, generation}; 0: there never was such a slot. */
    uint64_t (*conn_word)(const struct w_core *core, uint32_t slot);
    /* The same: the protocol of the connection that an id names, or NULL: it has ended. */
    const weir_protocol *(*conn_protocol)(const struct w_core *core, weir_id id);
    /* A connection of this shard had asked for room in another, and there is some. */
    void (*conn_wanted)(struct w_core *core, weir_id id);
    /* There may be a slot again for what this shard accepts with one of its listeners. */
    void (*listener_retry)(struct w_core *core, uint32_t index);
    weir_conn *(*conn_at)(struct w_core *core, uint32_t slot);
    /* The last reference to a blob with another home went here. */
    void (*blob_away)(struct w_core *core, struct weir_blob *blob);
    /* Delivers the draft. */
    void (*settle)(struct w_core *core);
    /* Told when a connection is over, to free its slot. Both are the shard's: it has the table. */
    void (*conn_freed)(struct w_core *core, weir_conn *conn);
    struct w_wheel wheel;
    struct w_bell bell; /* who has something for this shard */
};

/* A value that differs between threads and costs one instruction. */
const void *w_core_self(void);

/* The public handle of a shard is its core's address (the shard begins with it). */
static inline weir_shard *w_core_shard(struct w_core *core)
{
    return (weir_shard *)(void *)core;
}

static inline struct w_core *w_core_of(const weir_shard *shard)
{
    return (struct w_core *)(void *)(uintptr_t)shard;
}

/* Aborts when the caller is not on the shard's thread. */
void w_core_wrong_thread(const struct w_core *core, const char *function);
extern _Thread_local char w_core_thread_mark;
static inline void w_core_require_thread(const struct w_core *core, const char *function)
{
    /* Relaxed: only the owner itself can find its own mark here. */
    if (W_UNLIKELY(__atomic_load_n(&core->owner, __ATOMIC_RELAXED) != &w_core_thread_mark))
        w_core_wrong_thread(core, function);
}

/* Before anything that could tell the difference between what was sent to a group and what its members' channels hold. */
static inline void w_core_settle(struct w_core *core)
{
    if (W_UNLIKELY(core->draft != NULL))
        core->settle(core);
}

/* The beginning of a call on the shard's thread that comes after all that was sent before it. */
static inline void w_core_require_settled(struct w_core *core, const char *function)
{
    w_core_require_thread(core, function);
    w_core_settle(core);
}

/* Between turns the engine's time is as old as the last turn: a call that counts from now, or has something for the next turn, begins with this. */
static inline void w_core_between_turns(struct w_core *core)
{
    if (W_LIKELY(core->in_turn))
        return;
    core->io->now_ns = core->engine->clock(core->io);
    w_wheel_advance(&core->wheel, core->io->now_ns);
    core->engine->wake(core->io);
}

/* The beginning of such a call: on the shard's thread, and the time is now. */
static inline void w_core_enter(struct w_core *core, const char *function)
{
    w_core_require_settled(core, function);
    w_core_between_turns(core);
}

void w_core_log(const struct w_core *core, weir_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
