/* SPDX-License-Identifier: MIT */
/* run: one simulated run of a weir echo service: what the seed decided, the clients outside, the handlers inside, and what is checked.
 *
 *   plan.c     what the seed decides: faults, limits, clients, how it ends
 *   client.c   clients outside weir: they write frames in random pieces, read as they like, and leave as they like
 *   server.c   the handlers: echo by each of weir's ways, with checks at every callback
 *   pinger.c   a client made of weir itself: dials the service by name, redials for ever, counts its answers
 *   run.c      the driver: turns the shards, moves the world, watches for hangs, adds up at the end
 *
 * weir is used through its public headers and weir_open_on() alone. A check that fails names the seed and the command that replays it. */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include <weir/weir.h>

#include "runtime/io/sim.h"

#define RUN_SHARDS_MAX  3
#define RUN_CLIENTS_MAX 12
#define RUN_FRAMES_MAX  64
#define RUN_PAYLOAD_MAX 40000
#define RUN_PINGS_MAX   20

/* How a client leaves. */
enum run_manner {
    RUN_POLITE,     /* writes all, reads all of it back, closes */
    RUN_HALF_CLOSE, /* writes all, half-closes, reads to the end */
    RUN_TRUNCATE,   /* the same, but stops inside a frame */
    RUN_CLOSE,      /* closes in mid-stream */
    RUN_RESET,      /* resets in mid-stream */
    RUN_MANNERS
};

struct run_frame {
    uint32_t offset, bytes; /* the payload's, in the client's outgoing stream */
};

struct run;

struct run_client {
    struct run *run;
    uint32_t index;
    /* The plan. */
    enum run_manner manner;
    uint64_t start_ns, pace_ns_max;
    uint32_t write_max_bytes, read_max_bytes; /* a step */
    uint64_t deaf_ns;                         /* reads nothing for so long at first */
    uint64_t leave_bytes;                     /* TRUNCATE, CLOSE, RESET: after so many bytes written */
    uint8_t *stream;
    uint64_t stream_bytes;
    struct run_frame frames[RUN_FRAMES_MAX];
    uint32_t frame_count;
    /* What has happened. */
    struct weir_sim_peer *peer;
    bool started, finished, shut;
    bool saw_end;   /* its read came to the peer's end */
    bool saw_error; /* ... or to an error */
    uint64_t written, read;
    struct w_io_address address; /* once it is open */
    /* What the service knew of its connection; opened is 0 or 1. */
    uint32_t opened;
    bool closed;
    weir_close_event event;
    uint64_t bytes_out;
};

/* How the handlers echo. */
enum run_echo { RUN_ECHO_SEND, RUN_ECHO_RESERVE, RUN_ECHO_FORWARD, RUN_ECHO_BLOB, RUN_ECHOES };

struct run_plan {
    bool clean; /* no faults, no limits: everything must arrive */
    struct weir_sim_faults faults;
    uint64_t calm_ns; /* when the faults stop */
    uint32_t shards;
    bool embedded;           /* the shards sleep on their descriptors */
    bool cut;                /* ends with weir_close() in mid-stream */
    uint64_t break_ns;       /* then the first shard's engine fails for good; UINT64_MAX: it does not */
    uint32_t haste;          /* of 8: how often a shard that wants a turn gets it before the world goes on */
    uint32_t stall_permille; /* how often it has to wait for up to STALL_NS */
    uint64_t stop_ns;        /* weir_stop() at this time at the latest; UINT64_MAX: when all is done */
    uint64_t close_after_ns; /* weir_close() then, in mid-stream; UINT64_MAX: when it has stopped */
    weir_config config;
    weir_protocol echo, ping;
    bool unix_address;
    uint32_t ping_count; /* messages of each pinger; 0: no pingers */
    uint32_t client_count;
    /* How often, of a thousand messages, a handler ... */
    uint32_t later_permille, pause_permille, end_permille, abort_permille, fail_permille, refuse_permille;
};

struct run_pinger {
    weir_dial_id dial;
    uint32_t sent, answered; /* by the present connection */
    uint32_t opened, closed;
    bool done, stopped;
};

struct run {
    uint64_t seed;
    FILE *trace; /* NULL: silence */
    struct run_plan plan;
    struct weir_sim_world *world;
    weir_runtime *runtime;
    weir_listener listener;
    struct w_io_address address;
    struct run_client clients[RUN_CLIENTS_MAX];
    struct run_pinger pingers[RUN_SHARDS_MAX];
    struct run_conn *conns; /* all that are open */
    uint64_t opened, closed;
    uint64_t accepted_messages, accepted_bytes; /* sends that answered 0, as on the wire */
    uint64_t undelivered_messages, undelivered_bytes;
    uint64_t memory_peak;
    uint64_t memory_out; /* of the allocator's */
    bool stopping, idled, broken;
    uint64_t stopped_ns;
    uint64_t calm_ns; /* as planned */
    weir_shard *shards[RUN_SHARDS_MAX];
    bool over[RUN_SHARDS_MAX], turned[RUN_SHARDS_MAX];
    uint64_t due_ns[RUN_SHARDS_MAX];
    uint64_t turns;
    weir_stats stats; /* at the end */
};

/* What many runs have met, all together. */
struct run_totals {
    uint64_t fired[WEIR_SIM_FAULT_COUNT];
    weir_stats stats; /* (the peaks and the present numbers mean nothing) */
    uint64_t turns, virtual_ns;
};

/* The whole run: makes its plan, does it, checks it. Answers a hash over all that happened. */
uint64_t run_seed(uint64_t seed, bool trace, struct run_totals *totals);

/* A check failed: says so, with the seed and how to replay it, and ends the test. */
_Noreturn void run_fail(const struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define RUN_CHECK(run, condition, ...) ((condition) ? (void)0 : run_fail((run), __VA_ARGS__))
/* A line of the trace. */
void run_note(const struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Chance for the plan and the scripts. */
uint64_t run_below(struct run *run, uint64_t bound);
uint64_t run_magnitude(struct run *run, uint64_t low, uint64_t high);
bool run_permille(struct run *run, uint32_t permille);

void plan_make(struct run *run);
void plan_free(struct run *run);

/* Sets a client's script going. */
void client_start(struct run_client *client);
/* After everything is over: what it has seen agrees with what the service has told. */
void client_check(struct run_client *client);
/* The client whose address a connection's peer has; NULL: none (a pinger). */
struct run_client *client_of(struct run *run, const char *peer);

/* Fills in the callbacks. */
void server_init(struct run *run);
void pinger_init(struct run *run);
/* In on_start: dials. */
void pinger_start(struct run *run, weir_shard *shard);
bool pinger_is_done(const struct run *run);

/* Bytes that a frame of this payload has on the wire. */
uint32_t run_wire_bytes(const weir_protocol *protocol, const void *payload, uint32_t bytes);

#endif
