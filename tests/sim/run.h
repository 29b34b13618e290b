/* SPDX-License-Identifier: MIT */
/* run: one simulated run of a weir echo service: what the seed decided, the clients outside, the handlers inside, and what is checked.
 *
 *   plan.c     what the seed decides: faults, limits, how it ends
 *   people.c   ... and who comes: clients and what they say, callers, visitors
 *   client.c   clients outside weir: they write messages in random pieces, read as they like, and leave as they like
 *   web.c      ... by WebSocket
 *   visitor.c  many that come at once, say nothing, and leave
 *   leech.c    whom only a time limit can end
 *   server.c   the handlers: echo by each of weir's ways, with checks at every callback
 *   pinger.c   a client made of weir itself: dials the service by name, redials for ever, counts its answers
 *   caller.c   dials to whoever is there or not, given up at any moment
 *   run.c      the driver: turns the shards, moves the world, watches for hangs
 *   sums.c     what must add up at the end
 *
 * weir is used through its public headers and weir_open_on() alone. */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include <weir/weir.h>

#include "runtime/io/sim.h"
#include "tests/sim/scenario.h"

#define RUN_SHARDS_MAX        3
#define RUN_CLIENTS_MAX       12
#define WEB_CONTROL_MAX_BYTES 16
#define WEB_PARTS_MAX         4   /* fragments of a message */
#define WEB_AROUND_BYTES      256 /* what may stand around one: heads, keys, pings */
#define WEB_HANDSHAKE_BYTES   512
#define RUN_FRAMES_MAX        64
#define RUN_PAYLOAD_MAX       40000
#define RUN_PINGS_MAX         20
#define RUN_CALLERS_MAX       4
#define RUN_VISITORS_MAX      60
#define RUN_LEECHES_MAX       3

/* What has to have happened in a whole hunt. */
enum run_feat {
    RUN_GOOD_DAY,
    RUN_EMBEDDED, /* the shards slept on their descriptors */
    RUN_IDLED,    /* nobody was left, and nobody was turned */
    RUN_FRAMES,   /* a message of this codec was echoed */
    RUN_LINES,
    RUN_RAW,
    RUN_WEB,
    RUN_BY_RESERVE, /* echoed so */
    RUN_BY_FORWARD,
    RUN_BY_BLOB,
    RUN_HELD,     /* a blob outlived its callback */
    RUN_GIVEN_UP, /* a reserve was not committed */
    RUN_LATER,
    RUN_PAUSED,
    RUN_REFUSED, /* a send answered -EAGAIN */
    RUN_READY,
    RUN_TOO_BIG, /* the peer's message was */
    RUN_BAD_MESSAGE,
    RUN_POLICY_CHANGED,  /* of one connection */
    RUN_TIMER_WITH_DATA, /* a timer went off in a turn that brought a message, too */
    RUN_STARVED,         /* the allocator had nothing */
    RUN_ADOPTED,
    RUN_ADOPT_REFUSED,
    RUN_REDIALED,
    RUN_CALL_OPEN,
    RUN_CALL_FAILED,
    RUN_CALL_STOPPED,     /* weir_dial_stop, with an attempt under way */
    RUN_CALL_OVER,        /* ... and it was over */
    RUN_LISTENER_STOPPED, /* while it was accepting */
    RUN_LISTENER_AGAIN,   /* at the same address */
    RUN_ROUND_ROBIN,
    RUN_FULL,        /* no slot was free: accepting paused */
    RUN_STORM,       /* ten or more came in the same nanosecond */
    RUN_LEECH_ENDED, /* by its limit, to the millisecond */
    RUN_EVENLY,      /* by round robin, each shard as many as the others */
    RUN_FILLED,      /* every slot was in use at once */
    RUN_DRAINED,     /* stopped on a good day in mid-stream, and nothing was lost */
    RUN_STOPPED_EARLY,
    RUN_CLOSED_EARLY,
    RUN_BROKEN, /* a shard's engine failed for good */
    RUN_FEATS
};
const char *run_feat_name(uint32_t feat);

enum run_kind { RUN_KIND_FRAME, RUN_KIND_LINE, RUN_KIND_RAW, RUN_KIND_WEB };

/* How a client leaves. */
enum run_manner {
    RUN_POLITE,     /* writes all, reads all of it back, closes */
    RUN_HALF_CLOSE, /* writes all, half-closes, reads to the end */
    RUN_SPOIL,      /* writes all and then what its codec forbids, reads to the end; from here on not on a good day */
    RUN_TRUNCATE,   /* the same, but stops inside a frame */
    RUN_CLOSE,      /* closes in mid-stream */
    RUN_RESET,      /* resets in mid-stream */
    RUN_MANNERS
};

struct run_frame {
    uint32_t offset, bytes; /* the payload's, in the answers */
    uint32_t said;          /* when the client has written so much, it has said it whole */
};

struct run;

struct run_client {
    struct run *run;
    uint32_t index;
    /* The plan. */
    enum run_manner manner;
    uint64_t start_ns, pace_ns_max, pace_ns;
    uint32_t write_max_bytes, read_max_bytes; /* a step */
    uint64_t deaf_ns;                         /* reads nothing for so long at first */
    uint64_t leave_bytes;                     /* TRUNCATE, CLOSE, RESET: after so many bytes written */
    bool adopted;                             /* it does not connect: it is handed over */
    weir_reason spoils;                       /* SPOIL: what its last bytes are to be ended with */
    uint8_t *stream;
    uint64_t stream_bytes;
    uint8_t *answers;       /* what is to come back; but for WebSocket, the stream itself */
    uint64_t answers_bytes; /* less what spoils it */
    struct run_frame frames[RUN_FRAMES_MAX];
    uint32_t frame_count;
    /* What has happened. */
    struct weir_sim_peer *peer;
    bool started, finished, shut;
    bool saw_end;           /* its read came to the peer's end */
    bool saw_error;         /* ... or to an error */
    uint64_t written, read; /* of stream and answers */
    /* WebSocket: the plan, and what has happened. */
    bool shakes_badly;
    uint32_t handshake_bytes, welcome_bytes; /* the first of stream and answers */
    uint32_t pings, pong;                    /* said; the last that was answered */
    uint8_t control[WEB_CONTROL_MAX_BYTES];  /* a control frame that is coming */
    uint32_t control_bytes;
    uint64_t others_read; /* bytes of control frames */
    bool close_heard;
    uint32_t close_code;
    struct w_io_address address; /* once it is open */
    weir_id adopted_id;          /* 0: not (yet) taken over */
    /* What the service knew of its connection; opened is 0 or 1. */
    uint32_t opened;
    bool closed;
    weir_close_event event;
    uint64_t bytes_out;
};

/* How the handlers echo. */
enum run_echo { RUN_ECHO_SEND, RUN_ECHO_RESERVE, RUN_ECHO_FORWARD, RUN_ECHO_BLOB, RUN_ECHOES };

struct run_caller {
    struct run *run;
    uint32_t index;
    /* The plan. */
    uint32_t shard;
    const char *address;
    weir_dial_options options;
    uint64_t start_ns, stop_ns; /* after on_start; stop UINT64_MAX: it does not give up by itself */
    bool hangs_up, aborts;      /* ends, or aborts, once it is open */
    /* What has happened. */
    weir_timer timer, hang_up;
    weir_dial_id dial;
    weir_id conn;               /* of the present one */
    bool dialed, stopped, over; /* over: no attempt will follow; before it has dialed: not */
    uint32_t opened, ended;     /* connections; attempts that came to an end, those among them */
    bool is_open;
};

enum run_leech_kind {
    RUN_LEECH_SILENT,  /* says nothing */
    RUN_LEECH_IDLE,    /* says one word, and nothing any more */
    RUN_LEECH_DRIBBLE, /* begins a message, and goes on with it for ever */
    RUN_LEECH_DEAF,    /* reads nothing of what it is sent */
    RUN_LEECH_STAYS,   /* does not close when it is asked to go */
    RUN_LEECH_KINDS
};

struct run_leech {
    struct run *run;
    uint32_t index, acts;
    enum run_leech_kind kind;
    uint64_t limit_ns;
    weir_protocol protocol;
    struct w_io_address address;
    struct weir_sim_peer *peer;
    uint64_t opened_ns, since_ns; /* the limit counts from then on, as far as anybody knows */
    bool closed;
};

struct run_visitor {
    struct run *run;
    struct weir_sim_peer *peer;
    uint64_t stays_ns;
    bool resets;
};

struct run_plan {
    bool clean;  /* no faults, no limits: everything must arrive */
    bool large;  /* few runs are: the others say less */
    bool drains; /* a good day that is stopped in mid-stream */
    enum run_kind kind;
    weir_frame_options frame; /* of FRAME */
    weir_websocket_options web, web_client;
    uint32_t message_max_bytes;
    struct weir_sim_faults faults;
    uint64_t calm_ns; /* when the faults stop */
    uint32_t shards;
    bool embedded;                 /* the shards sleep on their descriptors */
    bool cut;                      /* ends with weir_close() in mid-stream */
    uint64_t break_ns;             /* then the first shard's engine fails for good; UINT64_MAX: it does not */
    uint32_t haste;                /* of 8: how often a shard that wants a turn gets it before the world goes on */
    uint32_t stall_permille;       /* how often it has to wait for up to STALL_NS */
    uint64_t stop_ns;              /* weir_stop() at this time at the latest; UINT64_MAX: when all is done */
    uint64_t close_after_ns;       /* weir_close() then, in mid-stream; UINT64_MAX: when it has stopped */
    uint32_t starve_permille;      /* how often the allocator has nothing, until the faults stop */
    uint64_t restart_ns, again_ns; /* the listener is stopped; listens again so long afterwards */
    weir_config config;
    weir_listen_options listening;
    weir_slow_peer policy; /* of single connections */
    weir_protocol echo, ping, call;
    uint32_t caller_count, visitor_count, leech_count;
    uint64_t storm_ns; /* when the visitors come */
    bool unix_address;
    uint32_t ping_count; /* messages of each pinger; 0: no pingers */
    uint32_t client_count;
    /* How often, of a thousand messages, a handler ... */
    uint32_t later_permille, pause_permille, end_permille, abort_permille, fail_permille, refuse_permille, policy_permille;
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
    struct run_caller callers[RUN_CALLERS_MAX];
    struct run_visitor visitors[RUN_VISITORS_MAX];
    struct run_leech leeches[RUN_LEECHES_MAX];
    uint64_t wanted_ns;                          /* since then somebody has wanted a turn; 0: nobody was looked for since the last turn */
    uint64_t stalled_ns;                         /* everybody had to wait, all together */
    uint32_t placed[RUN_SHARDS_MAX];             /* connections accepted, by shard; leeches' apart */
    struct weir_sim_peer *servers[2], *taken[8]; /* that callers find outside; and what these have taken */
    struct run_conn *conns;                      /* all that are open */
    uint64_t opened, closed, handed_over;        /* of them, adopted */
    uint64_t never_opened;                       /* adopted, and closed before they were open */
    uint64_t accepted_messages, accepted_bytes;  /* sends that answered 0, as on the wire */
    uint64_t undelivered_messages, undelivered_bytes;
    uint64_t memory_peak;
    uint64_t memory_out; /* of the allocator's */
    bool stopping, idled, broken, calm, listening, closing;
    uint32_t visitors_left;
    uint64_t stopped_ns;
    uint64_t calm_ns; /* as planned */
    weir_shard *shards[RUN_SHARDS_MAX];
    bool over[RUN_SHARDS_MAX], turned[RUN_SHARDS_MAX];
    uint64_t due_ns[RUN_SHARDS_MAX];
    uint64_t turns;
    uint64_t timer_turn, message_turn; /* the last one in which a timer went off, a message came */
    weir_stats stats;                  /* at the end */
    uint64_t feats[RUN_FEATS];
};

/* The whole run: makes its plan, does it, checks it. Answers a hash over all that happened. */
uint64_t run_seed(uint64_t seed, FILE *trace, struct scenario_totals *totals);

/* A check failed: says so, with the seed and how to replay it, and ends the process. */
_Noreturn void run_fail(const struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define RUN_CHECK(run, condition, ...) ((condition) ? (void)0 : run_fail((run), __VA_ARGS__))
/* A line of the trace. */
void run_note(const struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Chance for the plan and the scripts. */
uint64_t run_below(struct run *run, uint64_t bound);
uint64_t run_magnitude(struct run *run, uint64_t low, uint64_t high);
bool run_permille(struct run *run, uint32_t permille);

bool run_one_of(struct run *run, uint64_t count); /* of so many, one */

void plan_make(struct run *run);
void plan_free(struct run *run);
void people_plan(struct run *run);

/* --- run.c --- */
/* It has been stopped, or is being closed, or an engine has failed: all the same to who wants to begin something. */
bool run_is_ending(const struct run *run);
bool run_all_over(const struct run *run);
void run_tell_state(const struct run *run);

/* Sets a client's script going. */
void client_start(struct run_client *client);
/* Is there, and not yet handed over: on a shard that is there, too, between its turns. */
void client_hand_over(struct run_client *client, weir_shard *shard);
/* After everything is over: what it has seen agrees with what the service has told. */
void client_check(struct run_client *client);
/* The client whose address a connection's peer has; NULL: none (a pinger). */
struct run_client *client_of(struct run *run, const char *peer);
/* ... that has been handed over; NULL: none. */
struct run_client *client_adopted(struct run *run, weir_id id);

/* --- web.c --- */
/* What a client says, and is to hear. */
void web_handshake(struct run_client *client, bool good);
void web_message(struct run_client *client, const uint8_t *payload, uint32_t bytes);
void web_close(struct run_client *client);
weir_reason web_spoil(struct run_client *client);
/* So much of the answers it may have heard by now. */
uint64_t web_may_have_read(const struct run_client *client);
/* Some bytes have come. */
void web_hear(struct run_client *client, const uint8_t *data, uint64_t bytes);

/* Fills in the callbacks. */
void server_init(struct run *run);
void pinger_init(struct run *run);
/* In on_start: dials. */
void pinger_start(struct run *run, weir_shard *shard);
bool pinger_is_done(const struct run *run);

void caller_init(struct run *run);
/* In on_start. */
void caller_start(struct run *run, weir_shard *shard);
/* No caller is on its way, or talks: all but those that redial for ever. */
bool caller_all_done(const struct run *run);
/* What is left outside. */
void caller_finish(struct run *run);

/* --- leech.c --- */
void leech_plan(struct run *run, struct run_leech *leech, uint32_t index);
void leech_start(struct run *run);
bool leech_all_done(const struct run *run);
void leech_finish(struct run *run);

/* --- visitor.c --- */
void visitor_start(struct run *run);
/* Everybody has gone: so many come as there are slots, and all must be taken in before anybody leaves. */
bool visitor_may_fill(const struct run *run);
void visitor_fill(struct run *run);
void visitor_leave(struct run *run);

/* --- sums.c --- */
void sums_check(struct run *run);
void sums_check_budgets(const struct run *run);
void sums_check_closed(const struct run *run, uint64_t bound);

/* Bytes that a frame of this payload has on the wire. */
uint32_t run_wire_bytes(const weir_protocol *protocol, const void *payload, uint32_t bytes);

#endif
