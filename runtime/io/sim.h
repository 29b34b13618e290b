/* SPDX-License-Identifier: MIT */
/* sim: a simulated kernel: the contract of io.h without a kernel, a clock or a thread. One 64-bit seed decides everything.
 *
 * A world holds any number of shards (each an opened w_io), the network between them, and what lives outside weir: peers that
 * connect, write, read, stall and vanish, servers that weir dials, and names. Time is virtual: it moves only in weir_sim_step(),
 * weir_sim_run_until() and a submit() that waits, and a little with each turn. Whatever a real kernel may legally do happens here sooner or
 * later, at the rates in struct weir_sim_faults; each time it does, a counter moves, so a test can see that it has met it.
 *
 * The caller's mistakes against the contract abort with a sentence that names the seed: two receives or two sends on a handle, a close
 * with operations under way, a second close, memory of an operation changed before its end, a buffer released too often or
 * never, a token of 64 bits or one already in flight, a call from another thread or from inside a scheduled action.
 *
 * Everything runs on one thread. The driver turns the shards (never inside an action), then lets the world go on:
 *
 *     world = weir_sim_world_create(seed, &faults);
 *     weir_open_on(weir_sim_engine(world), &config, &runtime, &error);
 *     while (...) weir_turn(shard, &sleep_ns), weir_sim_step(world);
 *     weir_close(&runtime);
 *     weir_sim_world_destroy(&world);
 *
 * Not for measuring: virtual time says nothing about speed. */
#ifndef W_SIM_H
#define W_SIM_H

#include <stdio.h>

#include "runtime/io/io.h"

/* What can happen. Those marked * come by themselves too, without a chance set for them. */
enum weir_sim_fault {
    WEIR_SIM_SHORT_SEND,      /* * a send takes only a part */
    WEIR_SIM_SHORT_RECEIVE,   /* a receive brings less than there is, down to one byte */
    WEIR_SIM_MULTISHOT_END,   /* an accept or a receive that succeeded ends: no W_IO_MORE */
    WEIR_SIM_NO_BUFFERS,      /* -ENOBUFS with data waiting, though buffers are free */
    WEIR_SIM_NO_BUFFERS_IDLE, /* the same with nothing waiting, as a receive starts */
    WEIR_SIM_BUFFERS_SPENT,   /* * -ENOBUFS because buffers_free is 0; a chance makes a receive that starts look at once */
    WEIR_SIM_RESET,           /* the network resets a connection in mid-stream */
    WEIR_SIM_RESET_UNREAD,    /* a reset destroys what had arrived and was not read */
    WEIR_SIM_HIDDEN_END,      /* a receive that starts with bytes and, behind them, a reset (unix: an end) is not told of it: hung_up() */
    WEIR_SIM_LATE,            /* a completion is held back up to late_ns_max */
    WEIR_SIM_LATE_CANCEL,     /* a cancel takes effect up to late_ns_max later */
    WEIR_SIM_CANCEL_MISSED,   /* * a cancelled operation succeeded, in part or whole, after the cancel */
    WEIR_SIM_SHUFFLE,         /* completions of different operations change places */
    WEIR_SIM_ACCEPT_SPENT,    /* * an accept ends with -EMFILE or -ENFILE; the connection stays in the backlog */
    WEIR_SIM_ACCEPT_ERROR,    /* an accept ends with -ECONNABORTED or -ENOMEM */
    WEIR_SIM_CONNECT_REFUSED, /* a connect of weir's fails though somebody listens */
    WEIR_SIM_CONNECT_TIMEOUT, /* a connect of weir's gets no answer */
    WEIR_SIM_SEND_ERROR,      /* a send fails: -EPIPE, -ECONNRESET, -ETIMEDOUT; the connection is dead */
    WEIR_SIM_RECEIVE_ERROR,   /* a receive fails: -ECONNRESET, -ETIMEDOUT, -EHOSTUNREACH; the connection is dead */
    WEIR_SIM_ERROR_TAKEN,     /* * the other direction took the error: a receive on a dead connection brings 0, a send -EPIPE */
    WEIR_SIM_SOCKET_SPENT,    /* * socket() answers -EMFILE or -ENFILE */
    WEIR_SIM_HANDLE_REUSE,    /* * a handle number that was just closed names a new socket */
    WEIR_SIM_OVERFLOW,        /* the completion queue ran over: nothing is lost, but an accept or a receive ends */
    WEIR_SIM_LATE_WAKE,       /* a wake() is heard up to late_ns_max later */
    WEIR_SIM_EARLY_RETURN,    /* a submit() that waits returns early with nothing (a signal) */
    WEIR_SIM_PARTIAL_SUBMIT,  /* a submit() brings some of what is due; the next brings the rest */
    WEIR_SIM_NAME_ERROR,      /* a look-up ends with -EAGAIN */
    WEIR_SIM_FAULT_COUNT
};

/* One word ("short-send"); static storage. */
const char *weir_sim_fault_name(enum weir_sim_fault fault);

/* Zero everywhere is a good day: no faults, buffers and delays of any size that the seed likes. */
struct weir_sim_faults {
    uint32_t chance_ppm[WEIR_SIM_FAULT_COUNT];   /* of one in a million, each time it could happen */
    uint64_t latency_ns_min, latency_ns_max;     /* of the network, one way; 0: 5 us and 100 us */
    uint64_t operation_ns_max;                   /* from being possible to being done; 0: 20 us */
    uint64_t late_ns_max;                        /* how late LATE_... are; 0: 5 ms */
    uint32_t socket_bytes_min, socket_bytes_max; /* a socket's send buffer, and its receive buffer; 0: 1 KiB and 256 KiB */
    uint32_t descriptors_max;                    /* handles at once; 0: 65536 */
    bool plain_buffers;                          /* one receive for each buffer, as kernels before 6.12 */
};

/* A mix of faults drawn from the seed: each class is left out, rare or frequent. Sizes and delays are drawn as well. */
void weir_sim_faults_mix(uint64_t seed, struct weir_sim_faults *faults);

struct weir_sim_world;

/* `faults` is copied; NULL: none. Aborts when there is no memory. */
struct weir_sim_world *weir_sim_world_create(uint64_t seed, const struct weir_sim_faults *faults);
/* Every shard must be closed. Peers that were left are freed. NULL is left alone. */
void weir_sim_world_destroy(struct weir_sim_world **world);
/* Lives as long as the world. */
const struct w_io_engine *weir_sim_engine(struct weir_sim_world *world);

/* Replaces the faults from now on: with NULL the rest of the run is a good day. */
void weir_sim_set_faults(struct weir_sim_world *world, const struct weir_sim_faults *faults);
/* How often it has happened. */
uint64_t weir_sim_fired(const struct weir_sim_world *world, enum weir_sim_fault fault);
/* Tells each event, a line each; NULL: silence. Lines of two runs of a seed are equal byte for byte. */
void weir_sim_trace(struct weir_sim_world *world, FILE *file);
/* A hash over all that has happened so far. */
uint64_t weir_sim_hash(const struct weir_sim_world *world);
/* Chance from the world's seed, for scripts: a stream of its own, so that a script draws the same whatever the faults are. */
uint64_t weir_sim_random(struct weir_sim_world *world);

/* --- time --- */

uint64_t weir_sim_now_ns(const struct weir_sim_world *world);
/* When the next event is due; UINT64_MAX: none ever will be. */
uint64_t weir_sim_next_ns(struct weir_sim_world *world);
/* Lets the next event happen, moving time to it. False: there is none. */
bool weir_sim_step(struct weir_sim_world *world);
/* Lets everything happen that is due until then, and moves time there. */
void weir_sim_run_until(struct weir_sim_world *world, uint64_t now_ns);

/* Calls `action` in after_ns, from a step (or inside a shard's submit() that moves time). It may call everything here about peers, names and
 * scheduling, and wake(), but nothing else of an engine or of weir. */
void weir_sim_schedule(struct weir_sim_world *world, uint64_t after_ns, void (*action)(struct weir_sim_world *world, void *user),
                       void *user);

/* True when the shard would find something: what is due, or a wake(). Turning it then loses nothing. */
bool weir_sim_stirring(const struct weir_sim_world *world, uint32_t shard_index);
/* What sleeping on descriptor() would tell an embedded shard: true when something came after may_sleep() had answered true; a shard that sleeps
 * without having asked is never woken. For one that is not embedded the same as weir_sim_stirring(). */
bool weir_sim_readable(const struct weir_sim_world *world, uint32_t shard_index);
/* The shard's engine fails for good: its next submit() answers `error` (negative), and its operations are gone without a completion. */
void weir_sim_break(struct weir_sim_world *world, uint32_t shard_index, int error);
/* Handles that are open in the world, listening and connected; for leak checks. */
uint32_t weir_sim_handles(const struct weir_sim_world *world);

/* --- peers: sockets outside weir --- */

struct weir_sim_peer;

enum weir_sim_peer_state {
    WEIR_SIM_PEER_CONNECTING,
    WEIR_SIM_PEER_OPEN,
    WEIR_SIM_PEER_FAILED, /* not connected: weir_sim_peer_error() */
    WEIR_SIM_PEER_DEAD,   /* reset, or given up: weir_sim_peer_error() */
};

/* A client: on its way to `address` at once. Answers the peer, yours until you close or reset it. */
struct weir_sim_peer *weir_sim_peer_connect(struct weir_sim_world *world, const struct w_io_address *address);
enum weir_sim_peer_state weir_sim_peer_state(const struct weir_sim_peer *peer);
/* 0, or the negative errno that it failed or died with. */
int weir_sim_peer_error(const struct weir_sim_peer *peer);
/* The address at its end. */
void weir_sim_peer_address(const struct weir_sim_peer *peer, struct w_io_address *address);

/* Writes what there is room for: the count, 0: no room now (or not open yet), or -EPIPE, -ECONNRESET. */
int64_t weir_sim_peer_write(struct weir_sim_peer *peer, const void *data, size_t bytes);
/* Reads what has arrived: the count, 0: the end, -EAGAIN: nothing yet, -ECONNRESET. What arrived and is not read fills its window. */
int64_t weir_sim_peer_read(struct weir_sim_peer *peer, void *data, size_t bytes);
/* How much a read would bring now. */
size_t weir_sim_peer_readable(const struct weir_sim_peer *peer);
/* Half-close: no more will be written. */
void weir_sim_peer_shutdown(struct weir_sim_peer *peer);
/* Both set *peer to NULL; NULL is left alone. Closing with unread bytes is a reset, as TCP has it. */
void weir_sim_peer_close(struct weir_sim_peer **peer);
void weir_sim_peer_reset(struct weir_sim_peer **peer);

/* --- servers outside weir, and what an embedder may hand over --- */

enum weir_sim_server {
    WEIR_SIM_SERVER_ACCEPTS,
    WEIR_SIM_SERVER_REFUSES,
    WEIR_SIM_SERVER_SILENT, /* never answers: a connect times out after more than two minutes */
};

/* A server that weir may dial. Port 0: one is chosen, see weir_sim_peer_address(). NULL: the address is taken. */
struct weir_sim_peer *weir_sim_server(struct weir_sim_world *world, const struct w_io_address *address, enum weir_sim_server manner);
/* The next connection that it got, or NULL. */
struct weir_sim_peer *weir_sim_server_accept(struct weir_sim_peer *server);

/* A connected socket for adopt(): answers its descriptor, and the other end in *peer. */
int weir_sim_adoptable(struct weir_sim_world *world, struct weir_sim_peer **peer);
/* A listening socket for listen_inherited(): its descriptor, or a negative errno. */
int weir_sim_inheritable(struct weir_sim_world *world, const struct w_io_address *address);

/* What a name resolves to, after delay_ns: `result` addresses, or a negative errno. Replaces what it was. Numbers resolve to themselves,
 * localhost to loopback, and any other name is -EHOSTUNREACH. */
void weir_sim_name(struct weir_sim_world *world, const char *host, uint64_t delay_ns, int result, const struct w_io_address *addresses);

#endif
