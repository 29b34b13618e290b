/* SPDX-License-Identifier: MIT */
/* weir/sim.h: your own handlers on a simulated kernel, with every fault that the real one has. One 64-bit seed decides everything.
 *
 *     weir_sim_faults_mix(seed, &faults);
 *     world = weir_sim_world_create(seed, &faults);
 *     weir_sim_open(world, &config, &runtime, &error);
 *     weir_listen(runtime, "tcp://127.0.0.1:7000", &protocol, NULL, NULL, &error);
 *     peer = weir_sim_connect(world, "tcp://127.0.0.1:7000");
 *     weir_sim_run(world, runtime, WEIR_SECOND);                 // the shards turn, the network moves, faults happen
 *     weir_sim_peer_write(peer, "hello\n", 6);                   // 6, or less: no room, not connected yet, or over already
 *     weir_sim_run(world, runtime, WEIR_SECOND);
 *     weir_sim_set_faults(world, NULL);                          // from here on a good day:
 *     weir_sim_run(world, runtime, WEIR_FOREVER);                // everything comes to rest
 *     count = weir_sim_peer_read(peer, bytes, sizeof bytes);     // what the handlers answered; or the end, or an error; -EAGAIN: it is lost
 *     weir_close(&runtime), weir_sim_world_destroy(&world);
 *
 * Link weir::sim (libweir_sim.a) before weir::weir. The runtime, the handlers, the codecs are the very same as in production; the simulated kernel
 * takes the place of io_uring, and weir_sim_run() that of weir_run().
 *
 * A world has the network, the clock, chance, and what lives outside weir: peers that connect, write, read, stall and vanish, servers that weir dials, and names.
 * Nothing in it is real: no socket, no file, no thread, no time. Virtual time starts at one second and moves inside weir_sim_run() and calls of weir's that wait
 * (and by some nanoseconds when weir looks at the clock). The same seed, faults and calls give the same run, byte for byte: compare weir_sim_hash().
 * (A WebSocket client needs weir_websocket_options.random for that.)
 *
 * Faults: whatever a real kernel, a network and a scheduler may legally do happens sooner or later, as often as weir_sim_faults says; each time a counter moves
 * (weir_sim_fired), so a test can see that it has met what it is there for. What a correct program may rely on is what weir promises, no more: after a fault a
 * connection may be over, and its close event says so. Once the faults are stopped, weir_sim_set_faults(world, NULL), everything that is left must come to rest.
 *
 * Threads: a world belongs to the thread that made it, with the runtime on it; any number of worlds may live on as many threads. Other threads of your
 * program are played by you: where a thread of its own would call weir_port_send(), weir_post(), weir_channel_send(), weir_stop(), weir_listen(), weir_group_...() or
 * another function that weir allows on any thread, call it between two runs, or from an action (weir_sim_schedule): those run in the middle of everything, as such a
 * thread would. A call that blocks (weir_port_wait, weir_port_send_wait, weir_port_flush, weir_channel_wait ...) lets the world go on until it has what it waits
 * for, when it is made between two runs: that is a run, too (WEIR_FOREVER, and nothing will ever happen: aborts). Made inside a run, from an action or from
 * another thread's part that a handler plays, it does not wait: -ETIMEDOUT at once. To sleep as a thread with an event loop does: weir_sim_is_readable(). A port
 * still belongs to one thread at a time: while a call waits on it, actions must leave it alone.
 *
 * Mistakes abort with a sentence that names the seed: of yours against this header, and of weir against the contract between it and its kernel (report those).
 *
 * Not for measuring: virtual time says nothing about speed. Not for what weir does not do: what your handlers do to disks, databases and other sockets is real. */
#ifndef WEIR_SIM_H
#define WEIR_SIM_H

#include <weir/base.h>
#include <weir/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weir_sim_world weir_sim_world;
/* A socket outside weir: a client, a server, or a connection that a server got. */
typedef struct weir_sim_peer weir_sim_peer;

/* --- faults --- */

/* What can happen. Those marked * come by themselves too, without a chance set for them. */
typedef enum weir_sim_fault {
    /* The kernel's, and the network's. */
    WEIR_SIM_SHORT_SEND,      /* * a send takes only a part */
    WEIR_SIM_SHORT_RECEIVE,   /* a receive brings less than there is, down to one byte */
    WEIR_SIM_MULTISHOT_END,   /* an accept or a receive that succeeded ends, and has to be started again */
    WEIR_SIM_NO_BUFFERS,      /* no receive buffer, with data waiting, though some are free */
    WEIR_SIM_NO_BUFFERS_IDLE, /* the same with nothing waiting, as a receive starts */
    WEIR_SIM_BUFFERS_SPENT,   /* * no receive buffer is free; a chance makes a receive that starts look at once */
    WEIR_SIM_RESET,           /* the network resets a connection in mid-stream, behind any byte */
    WEIR_SIM_RESET_UNREAD,    /* a reset destroys what had arrived and was not read */
    WEIR_SIM_HIDDEN_END,      /* a receive that starts with bytes and, behind them, a reset (unix: an end) is not told of it */
    WEIR_SIM_HALF_CLOSE,      /* * a peer has finished writing and goes on reading; only by itself: weir_sim_peer_shutdown() */
    WEIR_SIM_LATE,            /* a completion is held back up to late_ns_max */
    WEIR_SIM_LATE_CANCEL,     /* a cancel takes effect up to late_ns_max later */
    WEIR_SIM_CANCEL_MISSED,   /* * a cancelled operation succeeded, in part or whole, after the cancel */
    WEIR_SIM_SHUFFLE,         /* completions of different operations change places */
    WEIR_SIM_AGAIN,        /* an accept, receive or send ends with EAGAIN and has done nothing: no memory for what waits for the socket */
    WEIR_SIM_CANCELED,     /* the same with ECANCELED though nobody has cancelled it: a kernel's worker was interrupted (EINTR) */
    WEIR_SIM_NO_MEMORY,    /* a receive, send or connect ends with ENOMEM; the socket is as it was */
    WEIR_SIM_ACCEPT_SPENT, /* * an accept ends with EMFILE or ENFILE; the connection stays in the backlog */
    WEIR_SIM_ACCEPT_ERROR, /* an accept ends with ENOMEM, or with ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, EPERM and the connection is gone */
    WEIR_SIM_ACCEPT_STORM, /* * four or more connections wait to be accepted at once; a chance makes newcomers arrive on the full second */
    WEIR_SIM_PEER_GONE,    /* * ENOTCONN: a connection's peer has gone before anybody asked who it was */
    WEIR_SIM_CONNECT_REFUSED,     /* a connect of weir's fails though somebody listens */
    WEIR_SIM_CONNECT_TIMEOUT,     /* a connect of weir's gets no answer */
    WEIR_SIM_CONNECT_UNREACHABLE, /* a connect of weir's fails at once: EHOSTUNREACH, ENETUNREACH, EADDRNOTAVAIL */
    WEIR_SIM_SEND_ERROR,          /* a send fails: EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH; the connection is dead */
    WEIR_SIM_RECEIVE_ERROR,       /* a receive fails: ECONNRESET, ETIMEDOUT, EHOSTUNREACH; the connection is dead */
    WEIR_SIM_ERROR_TAKEN,         /* * the other direction took the error: a receive on a dead connection brings 0, a send EPIPE */
    WEIR_SIM_SOCKET_SPENT,        /* * socket() answers EMFILE or ENFILE; so does a descriptor for a port */
    WEIR_SIM_HANDLE_REUSE,        /* * a descriptor number that was just closed names a new socket */
    WEIR_SIM_OVERFLOW,            /* the completion queue ran over: nothing is lost, but an accept or a receive ends */
    WEIR_SIM_LATE_WAKE,           /* a wake-up is heard up to late_ns_max later (and by a shard that stalls, seconds) */
    WEIR_SIM_CLOSE_WAKE,          /* * a wake-up and a close are under way together; a chance lets them come to their ends in one moment */
    WEIR_SIM_EARLY_RETURN,        /* a sleep ends early with nothing (EINTR) */
    WEIR_SIM_BUSY, /* the kernel takes nothing, or not all, of what is submitted, and does not sleep (EBUSY, EAGAIN, EINTR of io_uring_enter) */
    WEIR_SIM_PARTIAL_SUBMIT, /* a look brings some of what is due; the next brings the rest */
    WEIR_SIM_NAME_ERROR,     /* a look-up ends with EAGAIN or ENOMEM */
    /* The scheduler's, and the machine's: weir_sim_run() makes them. */
    WEIR_SIM_STALL,      /* a shard gets no processor for up to stall_ns_max, while all others go on */
    WEIR_SIM_CLOCK_JUMP, /* the clock leaps forward by up to jump_ns_max between two turns: the whole machine was stopped */
    WEIR_SIM_TIMER_TIE,  /* * a shard finds data in the turn in which a timer is due; a chance lets them meet */
    /* The program's. Nobody but the test that sends can see it, and counts it: weir_sim_count(). */
    WEIR_SIM_RING_FULL, /* a message ring of weir's had no room */
    WEIR_SIM_FAULT_COUNT
} weir_sim_fault;

/* One word ("short-send"); static storage. Any thread. */
const char *weir_sim_fault_name(enum weir_sim_fault fault);
/* True for those that the simulated kernel makes, whoever turns the shards. Any thread. */
bool weir_sim_fault_is_kernels(enum weir_sim_fault fault);

/* Zero everywhere is a good day: no faults, buffers and delays of any size that the seed likes. */
typedef struct weir_sim_faults {
    uint32_t chance_ppm[WEIR_SIM_FAULT_COUNT];   /* of one in a million, each time it could happen */
    uint64_t latency_ns_min, latency_ns_max;     /* of the network, one way; 0: 5 us and 100 us */
    uint64_t operation_ns_max;                   /* from being possible to being done; 0: 20 us */
    uint64_t late_ns_max;                        /* how late LATE, LATE_CANCEL and LATE_WAKE are; 0: 5 ms */
    uint64_t stall_ns_max;                       /* 0: 10 s */
    uint64_t jump_ns_max;                        /* 0: 5 s */
    uint32_t socket_bytes_min, socket_bytes_max; /* a socket's send buffer, and its receive buffer; 0: 1 KiB and 256 KiB */
    uint32_t descriptors_max;                    /* at once, weir's and none of the peers'; 0: 65536 */
    bool plain_buffers;                          /* one receive for each buffer, as kernels before 6.12 */
} weir_sim_faults;

/* A mix of faults drawn from the seed: each class is left out, rare or frequent. Sizes and delays are drawn as well. Any thread. */
void weir_sim_faults_mix(uint64_t seed, weir_sim_faults *faults);

/* --- the world --- */

/* `faults` is copied; NULL: none. Never NULL: aborts when there is no memory. Yours to destroy. */
weir_sim_world *weir_sim_world_create(uint64_t seed, const weir_sim_faults *faults);
/* Frees it with all peers that are left, and sets *world to NULL; NULL is left alone. After weir_close(); not from inside a run. */
void weir_sim_world_destroy(weir_sim_world **world);

/* Opens a runtime on the world, as weir_open() does on the real kernel, and with its errors (-ENOSYS and its like excepted). -EBUSY: the world has a runtime
 * that is not closed: one at a time. Everything of weir/weir.h works on it but weir_run(), whose place weir_sim_run() takes. To be closed by weir_close() before the
 * world is destroyed. Its shards are embedded (weir/runtime.h); do not turn them yourself. */
int weir_sim_open(weir_sim_world *world, const weir_config *config, weir_runtime **runtime, weir_error *error);

/* How a run ended. */
typedef enum weir_sim_outcome {
    WEIR_SIM_TIME_UP, /* the duration is over */
    WEIR_SIM_OVER,    /* every shard has come to its end (weir_stop) */
    WEIR_SIM_QUIET,   /* everybody sleeps, and nothing will ever happen unless you do something: what you still wait for is lost */
} weir_sim_outcome;

/* Lets the world and the runtime's shards go on for so long (virtual nanoseconds; WEIR_FOREVER: until one of the others ends it, which a service with
 * a timer that is set again and again never does). Which shard turns next, whether the network goes first, who stalls and when the clock jumps: the seed decides. A shard is
 * turned when it has said that it wants to be by then, or when what it sleeps on would have woken it, and now and then for no reason; so a wake-up that
 * is lost ends as WEIR_SIM_QUIET. Not from inside a run (an action, a handler): aborts. */
weir_sim_outcome weir_sim_run(weir_sim_world *world, weir_runtime *runtime, uint64_t duration_ns);

/* Replaces the faults from now on: with NULL the rest of the run is a good day, and nobody stalls any more. Any time, also in actions and handlers. */
void weir_sim_set_faults(weir_sim_world *world, const weir_sim_faults *faults);
/* How often it has happened. */
uint64_t weir_sim_fired(const weir_sim_world *world, enum weir_sim_fault fault);
/* It has happened: for what the kernel cannot see (WEIR_SIM_RING_FULL). */
void weir_sim_count(weir_sim_world *world, enum weir_sim_fault fault);

/* Tells each event, a line each without its newline: the virtual time, what happens, three numbers (most often the descriptor, the result, flags). NULL: silence.
 * Lines of two runs of a seed are equal byte for byte. A line lives until the callback returns, which must call nothing of weir's. */
void weir_sim_set_trace(weir_sim_world *world, void (*line)(void *user, const char *text), void *user);
/* Adds a line of your own ("* ..."), and counts it into the hash: what your handlers saw, so that replays are compared by that too. Any time. */
void weir_sim_note(weir_sim_world *world, const char *text);
/* A hash over all that has happened so far. */
uint64_t weir_sim_hash(const weir_sim_world *world);

/* Chance for your scripts and handlers, from the world's seed: 64 bits, and below `bound` (not 0). A stream of its own: a script that draws the same number of times draws
 * the same, whatever the faults are. Any time. */
uint64_t weir_sim_random(weir_sim_world *world);
uint64_t weir_sim_below(weir_sim_world *world, uint64_t bound);

/* Virtual time, nanoseconds; the clock of weir_now(). */
uint64_t weir_sim_now_ns(const weir_sim_world *world);

/* Calls `action` once, after_ns from now, inside a run (or whatever else lets time pass). It may call everything here but weir_sim_run(), weir_sim_open() and
 * weir_sim_world_destroy(), and of weir what any thread may call (see "Threads" above): no connection's or shard's function, no weir_turn(). Any time. `user`
 * stays until then; what is still scheduled when the world is destroyed is forgotten. */
void weir_sim_schedule(weir_sim_world *world, uint64_t after_ns, void (*action)(weir_sim_world *world, void *user), void *user);

/* What poll() would say of a descriptor that weir_port_descriptor() gave: true when it is readable now. */
bool weir_sim_is_readable(const weir_sim_world *world, int descriptor);

/* --- peers ---
 *
 * All of these at any time: between runs, in actions, and in handlers too. Nothing blocks: what a peer sets out to do happens during runs. */

enum weir_sim_peer_state {
    WEIR_SIM_PEER_CONNECTING,
    WEIR_SIM_PEER_OPEN,
    WEIR_SIM_PEER_FAILED, /* not connected: weir_sim_peer_error() */
    WEIR_SIM_PEER_DEAD,   /* reset, or given up: weir_sim_peer_error() */
};

/* A client: on its way to an address at once, written as for weir_dial() (a name is looked up at once). Refused (weir_sim_peer_state) when nobody listens there
 * as it arrives. Aborts when the address is not understood. Answers the peer, yours until you close or reset it. */
weir_sim_peer *weir_sim_connect(weir_sim_world *world, const char *address);

enum weir_sim_peer_state weir_sim_peer_state(const weir_sim_peer *peer);
/* 0, or the negative errno that it failed or died with. */
int weir_sim_peer_error(const weir_sim_peer *peer);
/* Writes the address at its end ("tcp://127.0.0.1:32768"), which weir_conn_peer() shows as "127.0.0.1:32768"; cut to fit and always ended. 0, or -ENOSPC: cut. */
int weir_sim_peer_name(const weir_sim_peer *peer, char *text, size_t text_bytes);

/* Writes what there is room for: the count, 0: no room now (or not open yet), or -EPIPE, -ECONNRESET and what else it died of. */
int64_t weir_sim_peer_write(weir_sim_peer *peer, const void *data, size_t bytes);
/* Reads what has arrived: the count, 0: the end, -EAGAIN: nothing yet, or what it died of. What arrived and is not read fills its window, as a real one's. */
int64_t weir_sim_peer_read(weir_sim_peer *peer, void *data, size_t bytes);
/* How much a read would bring now. */
size_t weir_sim_peer_readable(const weir_sim_peer *peer);
/* Half-close: no more will be written. */
void weir_sim_peer_shutdown(weir_sim_peer *peer);
/* Both set *peer to NULL, which is left alone. Closing with unread bytes is a reset, as TCP has it. */
void weir_sim_peer_close(weir_sim_peer **peer);
void weir_sim_peer_reset(weir_sim_peer **peer);

/* --- servers and names, for what weir dials --- */

enum weir_sim_server {
    WEIR_SIM_SERVER_ACCEPTS,
    WEIR_SIM_SERVER_REFUSES,
    WEIR_SIM_SERVER_SILENT, /* never answers: a connect times out after more than two minutes */
};

/* A server at an address, written as for weir_listen() (numbers and unix sockets alone: else it aborts). Port 0: one is chosen, see weir_sim_peer_name(). NULL: the address is
 * taken. Yours until you close it. */
weir_sim_peer *weir_sim_serve(weir_sim_world *world, const char *address, enum weir_sim_server manner);
/* The next connection that it got, yours like any peer, or NULL. */
weir_sim_peer *weir_sim_server_accept(weir_sim_peer *server);

/* What a name resolves to, after delay_ns: addresses without ports and with spaces between ("192.0.2.1 2001:db8::1", at most 8), or NULL and `error`, a negative errno
 * (-EHOSTUNREACH: no such name; -EAGAIN: the name server is ill). Replaces what it was. Aborts when an address is not understood. Without it numbers resolve to
 * themselves, localhost to loopback, and any other name is -EHOSTUNREACH. */
void weir_sim_set_name(weir_sim_world *world, const char *host, uint64_t delay_ns, const char *addresses, int error);

#ifdef __cplusplus
}
#endif

#endif
