/* SPDX-License-Identifier: MIT */
/* sim_world: what the files of the simulated kernel share. Not for tests: those see sim.h.
 *
 *   sim_world.c      chance, time and events, traces
 *   sim_fault.c      what can go wrong, how often, and how often it has
 *   sim_socket.c     sockets: handles, listening, connecting, closing, addresses
 *   sim_pipe.c       the bytes between two sockets, and the network that moves them
 *   sim_operation.c  a shard's operations, from the queue to the final completion
 *   sim_attempt.c    how they are tried, completed, cancelled
 *   sim_buffer.c     a shard's receive buffers
 *   sim_foreign.c    what threads that are not shards sleep on
 *   sim.c            the engine: the functions of struct w_io_engine
 *   sim_peer.c       the test's side: peers, servers, names
 *   sim_text.c       the same with addresses as text
 *
 * runtime/sim.c, above the runtime, turns the shards: weir_sim_open(), weir_sim_run(). */
#ifndef W_SIM_WORLD_H
#define W_SIM_WORLD_H

#include "runtime/io/sim.h"

/* --- what happens, and when --- */

typedef void (*w_sim_action)(struct weir_sim_world *world, void *object, uint64_t argument);

/* Happens unless the object it is about is another by then: *alive != serial. */
struct w_sim_event {
    uint64_t due_ns;
    uint64_t tie;          /* drawn: what decides between events of the same time */
    const uint64_t *alive; /* NULL: it happens in any case */
    uint64_t serial;
    w_sim_action action;
    void *object;
    uint64_t argument;
};

struct w_sim_random {
    uint64_t state[4];
};

/* --- bytes on their way from one socket to another --- */

/* Positions run free. Invariant: read <= arrived <= written; written - arrived <= send_bytes; arrived - read <= receive_bytes. */
struct w_sim_pipe {
    uint8_t *ring; /* NULL exactly when nothing was ever written, or the pipe is over */
    uint64_t written, arrived, read;
    uint32_t ring_bytes; /* a power of two, at least send_bytes + receive_bytes */
    uint32_t send_bytes, receive_bytes;
    bool finished;    /* no more will be written: the end follows the last byte */
    bool end_arrived; /* the reader may know of the end */
    bool moving;      /* an event that moves bytes is on its way */
};

enum w_sim_socket_kind {
    W_SIM_SOCKET_NONE, /* not in use */
    W_SIM_SOCKET_FRESH,
    W_SIM_SOCKET_CONNECTING,
    W_SIM_SOCKET_STREAM,
    W_SIM_SOCKET_LISTENING,
    W_SIM_SOCKET_FAILED, /* did not connect */
};

/* A socket, weir's (handle >= 0), a peer's (handle < 0) or still in a backlog. Allocated once and used again; `serial` grows with each use. */
struct w_sim_socket {
    uint64_t serial;
    struct weir_sim_world *world;
    enum w_sim_socket_kind kind;
    int handle;
    struct w_sim_socket *next; /* free list, backlog, list of listening sockets */
    struct w_sim_socket *next_of_all;
    struct w_sim_socket *other; /* the other end; NULL exactly when not connected (yet) or the pair was never made */
    struct w_io_address local, remote;
    struct w_sim_pipe outbound;
    int error;            /* positive errno that waits to be told; 0: none */
    int death;            /* positive errno that it died of, told or not; 0: alive */
    uint64_t told_due_ns; /* of the last completion that came of its death: the next comes behind (io.h, 8) */
    bool closed;          /* its owner has let go of it */
    bool shut_write, shut_read;
    bool closing; /* close_handle() was called */
    bool reset_on_close;
    bool queued;    /* in a backlog */
    bool adoptable; /* adopt() or listen_inherited() may take it over */
    /* A listening socket's. */
    struct w_sim_socket *backlog_first, *backlog_last;
    uint32_t backlog_count, backlog_max;
    bool stormed; /* the last accept found a crowd */
    enum w_io_sharing sharing;
    enum weir_sim_server manner; /* a peer's */
    /* Operations in flight that use it, until their final completion is taken. */
    struct w_sim_operation *receive, *send, *connect, *accepts;
    uint32_t operations;
};

/* What tests hold is the socket itself. */
struct weir_sim_peer {
    struct w_sim_socket socket;
};

/* --- a shard --- */

enum w_sim_verb {
    W_SIM_ACCEPT,
    W_SIM_CONNECT,
    W_SIM_RECEIVE,
    W_SIM_SEND,
    W_SIM_CLOSE,
    W_SIM_RESOLVE,
    W_SIM_CANCEL, /* has no completion */
};

enum w_sim_state {
    W_SIM_QUEUED,   /* waits for a submit() */
    W_SIM_STARTED,  /* the kernel has it */
    W_SIM_FINISHED, /* its final completion exists and has not been taken */
};

struct w_sim_operation {
    uint64_t serial;
    struct w_sim_shard *shard;
    struct w_sim_operation *next;        /* submit queue, free list */
    struct w_sim_operation *chain;       /* of the same hash */
    struct w_sim_operation *accept_next; /* of the same listening socket */
    uint64_t token;
    enum w_sim_verb verb;
    enum w_sim_state state;
    struct w_sim_socket *socket;
    int handle;
    bool attempting;      /* an event that tries it is on its way */
    bool tried;           /* it has been tried once */
    bool cancelled;       /* a cancel has reached it */
    bool deaf;            /* a receive that will not be told of the reset */
    bool once;            /* an accept of one connection */
    uint64_t last_due_ns; /* of its completions: those of one operation stay in order */
    const struct w_io_address *address;
    struct w_io_resolve *resolve;
    struct w_io_gather *gather; /* a send's, or NULL: then `alone` has its only piece */
    struct iovec alone;
    size_t bytes;
    uint64_t memory_hash; /* of all that a send or a connect may look at */
};

struct w_sim_pending {
    struct w_io_completion completion;
    struct w_sim_operation *operation;
    uint64_t due_ns;
    bool final;
};

/* Completions, a growing ring's worth: [first, count). */
struct w_sim_queue {
    struct w_sim_pending *entries;
    uint32_t first, count, capacity;
};

#define W_SIM_HASH 1024u

/* Numbers that look like descriptors, and are none: of what a shard sleeps on, and of what a foreign thread does. */
#define W_SIM_DESCRIPTOR 1000000
#define W_SIM_FOREIGN    2000000

/* Invariant: a buffer is in the kernel's queue, or referenced, or both (the first of the queue, partly used), never neither. */
struct w_sim_buffers {
    uint8_t *area;
    uint64_t area_bytes;
    uint32_t *references;
    uint32_t *filled; /* of each buffer, the bytes that were used since it came home last */
    uint16_t *queue;  /* of the buffers the kernel has: a ring of `capacity` */
    uint32_t capacity;
    uint32_t queue_first;
    uint32_t used_bytes; /* of the queue's first */
    bool plain;
};

struct w_sim_shard {
    struct w_io io;
    struct weir_sim_world *world;
    uint32_t index;
    int broken;         /* a negative errno; 0: it works */
    const void *thread; /* NULL until start() */
    weir_allocator allocator;
    struct w_sim_buffers buffers;
    struct w_sim_operation *submit_first, *submit_last;
    struct w_sim_operation *by_token[W_SIM_HASH];
    struct w_sim_queue pending;    /* made, not yet brought by a submit() */
    struct w_sim_queue there;      /* what take() hands out */
    uint32_t operations;           /* in flight: submitted by the caller, final completion not taken */
    _Atomic uint64_t woken_due_ns; /* UINT64_MAX exactly when nobody has called wake() since the last submit() */
    uint32_t closes;               /* of `operations`, those that close a handle */
    bool embedded;                 /* it sleeps on descriptor() */
    bool armed;                    /* may_sleep() has answered true and no submit() came since */
    bool left;                     /* the last submit() has not handed over everything */
    /* The driver's. */
    uint64_t stalled_until_ns; /* it gets no processor before */
    uint64_t due_ns;           /* when it wants to be turned */
    bool over;                 /* it has come to its end */
};

/* --- the world --- */

struct w_sim_name {
    struct w_sim_name *next;
    char host[256];
    uint64_t delay_ns;
    int result;
    struct w_io_address addresses[W_IO_RESOLVE_MAX];
};

struct w_sim_chunk;

/* What a thread that is not a shard's sleeps on: set exactly when due_ns has come. */
struct w_sim_foreign {
    uint64_t due_ns; /* UINT64_MAX: nobody has set it */
    bool open;
    bool shown; /* somebody has asked for the descriptor */
};

struct weir_sim_world {
    struct w_io_engine engine;
    uint64_t seed;
    uint64_t now_ns;
    struct w_sim_random chance, script;
    struct weir_sim_faults faults;
    uint64_t fired[WEIR_SIM_FAULT_COUNT];
    uint64_t hash;
    void (*trace)(void *user, const char *text); /* NULL: silence */
    void *trace_user;
    struct w_sim_event *events; /* a heap, the next first */
    uint32_t event_count, event_capacity;
    bool in_action;                /* inside an event: engine calls are not allowed */
    struct w_sim_socket **handles; /* by number; NULL: free */
    uint32_t handle_capacity, handle_count;
    int handle_lowest;      /* none below is free */
    int handle_last_closed; /* -1: none */
    struct w_sim_socket *sockets_all, *sockets_free;
    struct w_sim_operation *operations_free;
    struct w_sim_chunk *chunks; /* where sockets and operations lie */
    struct w_sim_socket *listening;
    struct w_sim_name *names;
    struct w_sim_shard **shards;
    uint32_t shard_count;
    struct w_sim_foreign *foreign;
    uint32_t foreign_count;
    uint16_t next_port;
    /* runtime/sim.c's. */
    weir_runtime *runtime; /* that weir_sim_open() opened last; it is open exactly when a shard is */
    bool running;          /* inside weir_sim_run(), or in a call that blocks and lets the world go on */
    uint32_t haste;        /* of 8: how often a shard that wants a turn gets it before the world goes on */
    /* Lets something happen, but nothing that is due later than until_ns. False: nothing ever will. NULL: nobody drives. */
    bool (*go_on)(struct weir_sim_world *world, uint64_t until_ns);
};

/* A mistake of the caller's: says so, with the seed, and aborts. */
_Noreturn void w_sim_world_blame(const struct weir_sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define W_SIM_REQUIRE(world, condition, ...) ((condition) ? (void)0 : w_sim_world_blame((world), __VA_ARGS__))

/* Memory of the kernel's own; zeroed; never NULL. */
void *w_sim_world_memory(size_t bytes);
/* Not zeroed: for big areas that are written before they are read. */
void *w_sim_world_rough_memory(size_t bytes);
/* Objects that are used again and never freed before the world: at least `count` more on a free list. */
void *w_sim_world_chunk(struct weir_sim_world *world, size_t bytes);

uint64_t w_sim_world_random(struct weir_sim_world *world);
/* Below `bound`, which is not 0. */
uint64_t w_sim_world_below(struct weir_sim_world *world, uint64_t bound);
/* From `low` to `high`, both possible. */
uint64_t w_sim_world_between(struct weir_sim_world *world, uint64_t low, uint64_t high);
/* From `low` to `high`, small ones as likely as large ones by magnitude. */
uint64_t w_sim_world_magnitude(struct weir_sim_world *world, uint64_t low, uint64_t high);
/* The same from a stream of one's own. */
void w_sim_world_seed(struct w_sim_random *random, uint64_t seed);
uint64_t w_sim_world_draw_below(struct w_sim_random *random, uint64_t bound);
uint64_t w_sim_world_draw_magnitude(struct w_sim_random *random, uint64_t low, uint64_t high);

void w_sim_world_hash(struct weir_sim_world *world, uint64_t value);
void w_sim_world_hash_bytes(struct weir_sim_world *world, const void *data, size_t bytes);
void w_sim_world_note(struct weir_sim_world *world, const char *what, int64_t a, int64_t b, int64_t c);
/* `alive` and `object` may be NULL. */
void w_sim_world_at(struct weir_sim_world *world, uint64_t due_ns, const uint64_t *alive, w_sim_action action, void *object,
                    uint64_t argument);
/* An event that only moves time to where it is. */
void w_sim_world_pass(struct weir_sim_world *world, void *object, uint64_t argument);
uint64_t w_sim_world_latency_ns(struct weir_sim_world *world);
uint64_t w_sim_world_late_ns(struct weir_sim_world *world);

/* Fills in the functions of the engine. */
void w_sim_engine_fill(struct w_io_engine *engine);

/* --- faults --- */

/* Does this fault happen now? Counts it when it does: to be asked only where it can happen. */
bool w_sim_fault_strikes(struct weir_sim_world *world, enum weir_sim_fault fault);
/* The same without counting: for what may turn out to be impossible. */
bool w_sim_fault_draws(struct weir_sim_world *world, enum weir_sim_fault fault);
/* It happened, by itself or drawn. */
void w_sim_fault_fire(struct weir_sim_world *world, enum weir_sim_fault fault);

/* --- what threads that are not shards sleep on: event_...() of the engine --- */

void w_sim_foreign_set(void *world, struct w_io_event *event);
void w_sim_foreign_reset(void *world, struct w_io_event *event);
int w_sim_foreign_wait(void *world, struct w_io_event *event, uint64_t wait_ns);
int w_sim_foreign_descriptor(void *world, struct w_io_event *event);
void w_sim_foreign_close(void *world, struct w_io_event *event);

/* --- sockets --- */

/* What the world's end frees. */
void w_sim_socket_free_all(struct weir_sim_world *world);
struct w_sim_socket *w_sim_socket_create(struct weir_sim_world *world);
/* The socket of a handle; blames when there is none. */
struct w_sim_socket *w_sim_socket_of(struct weir_sim_world *world, int handle);
/* Gives it a handle: the number, or -EMFILE. */
int w_sim_socket_open_handle(struct w_sim_socket *socket);
/* Listens: the socket (without a handle), or NULL and *error a negative errno. */
struct w_sim_socket *w_sim_socket_listen(struct weir_sim_world *world, const struct w_io_address *address, enum w_io_sharing sharing,
                                         uint32_t backlog, int *error);
/* Sets out for `address`; readiness tells how it went. */
void w_sim_socket_connect(struct w_sim_socket *socket, const struct w_io_address *address);
/* The first of the backlog, or NULL. */
struct w_sim_socket *w_sim_socket_accept(struct w_sim_socket *listening);
/* Makes two sockets the ends of one connection, open at once. */
void w_sim_socket_pair(struct w_sim_socket *one, struct w_sim_socket *two);
/* Lets go of it: with a reset, or gracefully. The handle's number is free at once; so is the memory, as soon as both ends have let go. */
void w_sim_socket_close(struct w_sim_socket *socket, bool reset);
void w_sim_socket_shutdown(struct w_sim_socket *socket, int how);
/* The network, or this side's kernel, gives the connection up: this end dies of `error`, and the other learns of it. */
void w_sim_socket_kill(struct w_sim_socket *socket, int error);
/* This end dies of `error` now: a reset has arrived. */
void w_sim_socket_die(struct w_sim_socket *socket, int error);
/* A reset is on its way to the other end. */
void w_sim_socket_reset_other(struct w_sim_socket *socket);
/* The pending error, once; 0: none. */
int w_sim_socket_take_error(struct w_sim_socket *socket);

/* --- bytes --- */

/* Draws the sizes. */
void w_sim_pipe_init(struct weir_sim_world *world, struct w_sim_pipe *pipe);
void w_sim_pipe_finish(struct w_sim_pipe *pipe);
/* How much a write on the socket would take now, and how much a read would bring. */
uint32_t w_sim_pipe_room(const struct w_sim_socket *socket);
uint32_t w_sim_pipe_readable(const struct w_sim_socket *socket);
/* True when the reader of this socket has come to the end. */
bool w_sim_pipe_ended(const struct w_sim_socket *socket);
/* bytes <= room. */
void w_sim_pipe_write(struct w_sim_socket *socket, const uint8_t *data, uint32_t bytes);
/* bytes <= readable. */
void w_sim_pipe_read(struct w_sim_socket *socket, uint8_t *data, uint32_t bytes);
/* Sees to it that an event is on its way if the network has something to move for this writer. */
void w_sim_pipe_push(struct w_sim_socket *socket);
/* Forgets what was written and has not arrived; and what arrived and was not read. */
void w_sim_pipe_drop_unsent(struct w_sim_socket *socket);
void w_sim_pipe_drop_unread(struct w_sim_socket *socket);

/* --- operations --- */

/* Checks the token, takes the socket's place for this verb, and queues it for the next submit(). */
struct w_sim_operation *w_sim_operation_queue(struct w_sim_shard *shard, enum w_sim_verb verb, int handle, uint64_t token);
/* The memory that must stand still is complete now. */
void w_sim_operation_guard(struct w_sim_operation *operation);
/* Blames when it is not as it was. */
void w_sim_operation_check_memory(const struct w_sim_operation *operation);
struct w_sim_operation *w_sim_operation_find(struct w_sim_shard *shard, uint64_t token);
void w_sim_operation_destroy(struct w_sim_operation *operation);
/* Makes a completion (its token is filled in); without W_IO_MORE the operation is finished. */
void w_sim_operation_complete(struct w_sim_operation *operation, const struct w_io_completion *completion);
/* What the caller queued reaches the kernel; at most the first `most`. */
void w_sim_operation_submit(struct w_sim_shard *shard, uint64_t most);
/* Something may be possible now that was not: it will be tried soon. NULL is left alone. */
void w_sim_operation_stir(struct w_sim_operation *operation);
/* The socket's operations, after a change. */
void w_sim_operation_stir_all(struct w_sim_socket *socket);
/* Moves completions that are due to where take() finds them. */
void w_sim_operation_harvest(struct w_sim_shard *shard);
/* True when a harvest would bring something. */
bool w_sim_operation_due(const struct w_sim_shard *shard);
/* The engine is broken: operations and completions are gone, and what they held is home. */
void w_sim_operation_abandon(struct w_sim_shard *shard);
/* The first completion that is there: false when there is none. Its operation is over if it was the final one. */
bool w_sim_operation_take(struct w_sim_shard *shard, struct w_io_completion *completion);
void w_sim_operation_finish(struct w_sim_shard *shard);

/* --- receive buffers --- */

/* 0, or -ENOMEM. */
int w_sim_buffer_open(struct w_sim_shard *shard, const struct w_io_setup *setup);
void w_sim_buffer_close(struct w_sim_shard *shard);
/* Room for a receive: NULL, or where and how much there is at most. Nothing is used yet. */
uint8_t *w_sim_buffer_room(struct w_sim_shard *shard, uint32_t *bytes);
/* Uses the first `bytes` of that room, with one reference: the buffer's number. */
uint16_t w_sim_buffer_use(struct w_sim_shard *shard, uint32_t bytes);
void w_sim_buffer_hold(struct w_sim_shard *shard, uint16_t buffer);
void w_sim_buffer_release(struct w_sim_shard *shard, uint16_t buffer);

/* --- names --- */

/* What a look-up of resolve->host brings: fills the addresses and answers the result; *delay_ns how long it takes. */
int w_sim_peer_look_up(struct weir_sim_world *world, struct w_io_resolve *resolve, uint64_t *delay_ns);

/* A value that differs between threads. */
const void *w_sim_world_thread(void);

#endif
