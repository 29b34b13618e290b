/* SPDX-License-Identifier: MIT */
/* cross: one simulated run of everything that crosses threads: what the seed decided, the clients outside, the shards' handlers, the foreign threads with
 * their ports, and what is checked.
 *
 *   cross_plan.c      what the seed decides
 *   cross_message.c   messages that say who sent them, and the books: what was accepted from whom for whom, what came
 *   cross_client.c    clients outside weir: they read at their own pace, write, leave as they like
 *   cross_server.c    the handlers: pass on what comes, make pipes
 *   cross_actor.c     actors: whoever has a port, a foreign thread or a shard: what they send, and what comes back to them
 *   cross_act.c       what an actor does next
 *   cross_channel.c   own channels of actors
 *   cross_group.c     groups, and a slow and obvious model of who is in them
 *   cross_engine.c    the simulated kernel's events made real: a foreign thread sleeps while the run goes on
 *   cross_drive.c     the driver: turns the shards, lets the actors act, watches for hangs
 *   cross_sums.c      the sums
 *
 * Every message names its producer and has a number that grows with everything that this producer sends. What a client gets of a producer directly must be,
 * without a gap, the beginning of what was accepted from it; what it gets by groups, in between, must be what the model allows. */
#ifndef TESTS_SIM_CROSS_H
#define TESTS_SIM_CROSS_H

#include <weir/weir.h>

#include "runtime/io/sim.h"
#include "tests/sim/scenario.h"

#define CROSS_SHARDS_MAX   3
#define CROSS_CLIENTS_MAX  20
#define CROSS_THREADS_MAX  4
#define CROSS_ACTORS_MAX   (CROSS_SHARDS_MAX + CROSS_THREADS_MAX)
#define CROSS_CHANNELS_MAX 4 /* of an actor at a time */
#define CROSS_GROUPS_MAX   16
#define CROSS_EVENTS_MAX   64
#define CROSS_PAYLOAD_MAX  20000 /* that anybody sends, but for those that are there to be too big */
#define CROSS_PROTOCOLS    3     /* two kinds of frames, and raw */
#define CROSS_RAW          2

/* What has to have happened in a whole test. */
enum cross_feat {
    CROSS_READY,
    CROSS_ROOM,
    CROSS_UNDELIVERED_STALE,
    CROSS_UNDELIVERED_ENDING,
    CROSS_UNDELIVERED_TOO_BIG,
    CROSS_NOT_RUN,
    CROSS_POST_RUN,
    CROSS_CHANNEL_ROOM,
    CROSS_CHANNEL_ENDED,
    CROSS_CHANNEL_CLOSED_EARLY, /* with something under way */
    CROSS_CHANNEL_OF_SHARD,
    CROSS_GROUP_REFUSED, /* a send to a group answered -EAGAIN */
    CROSS_GROUP_MISSED,  /* a member missed a message */
    CROSS_GROUP_CLOSED,  /* with members */
    CROSS_GROUP_BIG,     /* a big message came by a group */
    CROSS_PIPE_NEAR,
    CROSS_PIPE_FAR,
    CROSS_PIPE_HALF_CLOSED, /* the end of one way came while the other went on */
    CROSS_PIPE_TORN,        /* a reset or an early close at one end */
    CROSS_PIPE_RESET,       /* ... that had to come through to the other */
    CROSS_SALVO,            /* hundreds of functions at once, and nothing more */
    CROSS_PIPE_BIG,         /* a big message came through a pipe */
    CROSS_PORT_CLOSED_BUSY, /* with messages under way */
    CROSS_PORT_BIG,         /* a big message of a foreign port came */
    CROSS_SHARD_BIG,        /* a big message of another shard's handler came */
    CROSS_ORPHANED,
    CROSS_PORT_ENDED, /* weir_port_end came to its end */
    CROSS_LATER,      /* a handler waited for another shard's connection */
    CROSS_SLEPT,      /* a blocking call slept and was woken */
    CROSS_CONTROL,    /* a message went ahead of the others */
    CROSS_FEATS
};

/* How a client leaves. */
enum cross_manner {
    CROSS_STAY,       /* until the run's end: half-closes then, and reads to the end */
    CROSS_HALF_CLOSE, /* when it has written everything */
    CROSS_CLOSE,      /* in mid-stream; from here on not on a good day */
    CROSS_RESET,
    CROSS_MANNERS
};

struct cross_run;

/* --- the books --- */

enum cross_kind { CROSS_OF_PORT, CROSS_OF_SHARD, CROSS_OF_CHANNEL, CROSS_OF_CLIENT, CROSS_OF_CONTROL };

/* Begins each payload. */
struct cross_head {
    uint32_t magic, producer, order, bytes;
    uint16_t group;  /* number + 1; 0: sent directly */
    uint16_t task;   /* of a client's message: enum cross_task */
    uint32_t target; /* of a client's message: a client's index */
};

struct cross_sent {
    uint32_t order, bytes;
};

/* From one producer directly to one client. Invariant: received <= count. */
struct cross_stream {
    struct cross_sent *sent; /* accepted, less those that its codec cannot carry */
    uint32_t count, capacity;
    uint32_t received; /* so many of them, the first ones, have come */
    uint32_t told;     /* so many were told undelivered, those of the codec apart */
    uint32_t left_out; /* of received: did not come, and were not to come */
    uint32_t too_big, too_big_told;
    uint32_t ended_at;   /* weir_port_end was accepted behind so many; UINT32_MAX: it was not */
    uint32_t last_order; /* of whatever came last, by groups too; 0: nothing */
};

struct cross_producer {
    enum cross_kind kind;
    uint32_t number;
    uint32_t order; /* of what was sent last; the first is 1 */
    uint32_t index; /* of its actor, or its client */
    bool closed;
    bool given_up; /* a channel that has ended, or may have: what it sent last need not come */
    bool piping;   /* a shard that has made a pipe to another: its port sends on its own, too */
    struct cross_stream *streams[CROSS_CLIENTS_MAX];
    uint64_t messages_sent, bytes_sent; /* over the port's rings: accepted */
    uint64_t messages_told, bytes_told; /* by UNDELIVERED */
    uint32_t posted, posts_ran[CROSS_SHARDS_MAX];
};

/* --- clients --- */

enum cross_task { CROSS_TASK_DROP, CROSS_TASK_PASS_ON, CROSS_TASK_PIPE, CROSS_TASKS };

struct cross_client {
    struct cross_run *run;
    uint32_t index;
    /* The plan. */
    enum cross_manner manner;
    uint32_t protocol; /* which listener */
    uint64_t start_ns, pace_ns_max;
    uint32_t write_max_bytes, read_max_bytes; /* a step */
    uint64_t deaf_from_ns, deaf_until_ns;     /* reads nothing in between */
    uint64_t leave_bytes;                     /* CLOSE, RESET: after so many bytes read and written */
    int partner;                              /* the client at the other end of its pipe; -1: none */
    bool asks;                                /* the pipe is made when its first message comes; else when the later of the two is opened */
    bool waits;                               /* its handler answers WEIR_LATER until the pipe is there; else it is paused */
    uint8_t *out;
    uint64_t out_bytes;
    uint32_t message_count;
    struct cross_producer *producer;
    /* What has happened. */
    uint64_t pace_ns;
    struct weir_sim_peer *peer;
    struct w_io_address address;
    bool started, finished, shut, saw_end, saw_error;
    bool torn; /* it left in mid-stream */
    uint64_t written, read;
    uint8_t *in; /* what has been read and is not a whole message */
    uint32_t in_bytes;
    uint64_t in_messages;
    /* What weir said of its connection. */
    weir_id id;
    uint32_t shard;
    bool opened, closed, piped, ended_by_handler;
    uint32_t taken; /* of its messages, by the handler */
    weir_close_event event;
    uint64_t closed_ns, shut_ns; /* when weir closed it; when it shut its side */
    uint64_t messages_out, bytes_out, conn_bytes_out;
    uint64_t group_received;
};

/* --- actors --- */

struct cross_actor;

struct cross_channel {
    struct cross_channel *next; /* of the run's */
    struct cross_actor *actor;
    struct cross_producer *producer;
    weir_channel *channel; /* NULL: closed */
    uint32_t client, ring_bytes;
    bool owed; /* -EAGAIN was answered: CHANNEL_ROOM or CHANNEL_ENDED follows */
    uint32_t refusals, rooms;
    bool ended, early; /* told so; closed before */
    uint64_t messages_sent, bytes_sent, messages_delivered, bytes_delivered;
};

struct cross_post {
    struct cross_post *next;
    struct cross_run *run;
    struct cross_producer *producer;
    uint32_t number, shard;
    bool ran, not_run;
};

struct cross_actor {
    struct cross_run *run;
    uint32_t index;
    int shard; /* -1: a foreign thread */
    /* The plan. */
    uint32_t acts_left, burst_max;
    uint64_t pace_ns_max;
    uint32_t collects; /* of 8: how often it looks at its events */
    bool quarrels;     /* sends what is too big, here and there, and does not listen */
    bool polls;        /* sleeps on its port's descriptor when there is nothing else to do */
    bool salvo;        /* its last act is a salvo */
    bool outlives;     /* its last port is closed when the shards are over */
    uint64_t start_ns;
    /* What has happened. */
    weir_port *port; /* NULL: none open */
    struct cross_producer *producer;
    int event; /* the descriptor; -1: never asked for */
    uint64_t due_ns;
    bool busy;   /* inside a call */
    bool unread; /* the last look found an event: there may be more */
    uint32_t last_target;
    bool owed_ready[CROSS_CLIENTS_MAX];
    uint32_t refusals[CROSS_CLIENTS_MAX], readies[CROSS_CLIENTS_MAX]; /* sends answered -EAGAIN; READY heard */
    bool owed_room[CROSS_SHARDS_MAX], owed_any, room_ever;
    struct cross_channel *channels[CROSS_CHANNELS_MAX];
    weir_timer timer; /* a shard's: its next act */
};

/* --- groups --- */

enum cross_group_verb { CROSS_JOIN, CROSS_LEAVE, CROSS_SEND };
struct cross_group_deed {
    uint32_t producer, order;
    enum cross_group_verb verb;
    int client; /* SEND: the one excepted, or -1 */
};

#define CROSS_NOBODY -1
#define CROSS_MANY   -2
struct cross_group {
    weir_group name;
    uint32_t number;
    bool opened, closed;
    struct cross_group_deed *deeds;
    uint32_t count, capacity;
    int keeper[CROSS_CLIENTS_MAX];         /* the only producer that has made it join or leave; or NOBODY, MANY */
    uint32_t of_keeper[CROSS_CLIENTS_MAX]; /* messages that its keeper has sent and it has got */
    uint64_t received;
};

/* --- the run --- */

struct cross_plan {
    bool clean; /* no faults, nobody leaves early: everything must arrive */
    struct weir_sim_faults faults;
    uint64_t calm_ns; /* when the faults stop, and nobody begins anything new */
    uint32_t shards, threads, client_count;
    uint32_t haste;                     /* of 8: how often a shard that wants a turn gets it before the world goes on */
    uint32_t stall_permille;            /* how often everybody has to wait */
    uint64_t stop_ns, cut_ns, break_ns; /* UINT64_MAX: not */
    uint32_t payload_max;               /* what the codecs carry */
    uint32_t starve_permille;           /* how often the allocator has nothing ... */
    uint64_t fed_ns;                    /* ... until then */
    bool into_pipes;                    /* others send to connections in a pipe, too */
    bool pass_on;
    uint32_t group_count; /* names in use; few: with many members each */
    uint32_t big_permille, channel_permille, group_permille, change_permille;
    weir_config config;
    weir_protocol protocols[CROSS_PROTOCOLS];
    weir_listen_options listening;
};

struct cross_run {
    uint64_t seed;
    FILE *trace; /* NULL: silence */
    struct cross_plan plan;
    struct weir_sim_world *world;
    struct w_io_engine engine;
    weir_runtime *runtime;
    weir_shard *shards[CROSS_SHARDS_MAX];
    struct w_io_address addresses[CROSS_PROTOCOLS];
    struct cross_client clients[CROSS_CLIENTS_MAX];
    struct cross_actor actors[CROSS_ACTORS_MAX]; /* the shards' first */
    struct cross_group groups[CROSS_GROUPS_MAX];
    struct cross_producer *controls[CROSS_SHARDS_MAX]; /* of each shard, what goes ahead of everything */
    struct cross_producer **producers;
    uint32_t producer_count;
    struct cross_channel *channels;
    struct cross_post *posts;
    struct cross_conn *conns;
    bool event_open[CROSS_EVENTS_MAX], event_set[CROSS_EVENTS_MAX];
    uint64_t opened, closed;
    uint64_t undelivered_messages, undelivered_bytes; /* by close events */
    uint64_t memory_out, memory_peak;
    bool calm, leaving, stopping, broken, closing, sleeping, was_quiet;
    uint64_t calmed_ns, left_ns, stopped_ns, deadline_ns, look_ns;
    bool over[CROSS_SHARDS_MAX], turned[CROSS_SHARDS_MAX];
    uint64_t due_ns[CROSS_SHARDS_MAX];
    uint64_t wanted_ns; /* since then somebody has wanted something; 0: nobody was looked for since the last turn or act */
    uint64_t turns;
    weir_stats stats; /* at the end */
    uint64_t feats[CROSS_FEATS];
};

/* The whole run: makes its plan, does it, checks it. Answers a hash over all that happened. */
uint64_t cross_run_seed(uint64_t seed, FILE *trace, struct scenario_totals *totals);
const char *cross_feat_name(uint32_t feat);

_Noreturn void cross_fail(const struct cross_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define CROSS_CHECK(run, condition, ...) ((condition) ? (void)0 : cross_fail((run), __VA_ARGS__))
void cross_note(const struct cross_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- cross_plan.c --- */
uint64_t cross_below(struct cross_run *run, uint64_t bound);
uint64_t cross_magnitude(struct cross_run *run, uint64_t low, uint64_t high);
bool cross_permille(struct cross_run *run, uint32_t permille);
bool cross_one_of(struct cross_run *run, uint64_t count);
bool cross_is_lean(const struct cross_run *run);
void cross_plan_make(struct cross_run *run);
void cross_plan_free(struct cross_run *run);

/* --- cross_message.c --- */
struct cross_producer *cross_producer_make(struct cross_run *run, enum cross_kind kind, uint32_t index);
struct cross_stream *cross_stream_of(struct cross_producer *producer, uint32_t client);
/* Fills `data` with the payload of `head->bytes` bytes. */
void cross_message_make(const struct cross_head *head, uint8_t *data);
/* Is it whole, and what its head says? */
struct cross_head cross_message_check(const struct cross_run *run, const uint8_t *data, uint32_t bytes);
/* It was accepted. */
void cross_accepted(struct cross_run *run, struct cross_producer *producer, uint32_t client, uint32_t order, uint32_t bytes);
/* A client has got a message: in order, without a gap, and nothing that was not for it. */
void cross_came(struct cross_client *client, const uint8_t *data, uint32_t bytes);

/* --- cross_client.c --- */
void cross_client_start(struct cross_client *client);
struct cross_client *cross_client_by_peer(struct cross_run *run, const char *peer);
struct cross_client *cross_client_by_id(struct cross_run *run, weir_id id);
/* It is there, and nothing has begun that may end it: a good day, and nobody has asked for its end. */
bool cross_client_lives(const struct cross_client *client);
uint8_t cross_raw_byte(uint32_t client, uint64_t position);

/* --- cross_server.c --- */
void cross_server_init(struct cross_run *run);
/* Somebody's room is there again, or everybody's of a shard's: handlers on `shard` that wait for it go on. target < 0: for all that wait. */
void cross_server_go_on(struct cross_run *run, uint32_t shard, int target, int target_shard);

/* --- cross_actor.c --- */
void cross_actor_open(struct cross_actor *actor);
void cross_actor_close(struct cross_actor *actor);
/* Sends one message directly: what weir answered. */
int cross_actor_send(struct cross_actor *actor, uint32_t client, uint32_t bytes);
int cross_actor_send_wait(struct cross_actor *actor, uint32_t client, uint32_t bytes, uint64_t timeout_ns);
int cross_actor_send_control(struct cross_actor *actor, uint32_t client, uint32_t bytes);
int cross_actor_post(struct cross_actor *actor, uint32_t shard);
int cross_actor_end(struct cross_actor *actor, uint32_t client);
/* One event has come back. */
void cross_actor_hear(struct cross_actor *actor, const weir_port_event *event);
/* A foreign thread's: takes at most `most` events. */
void cross_actor_collect(struct cross_actor *actor, uint32_t most);
/* -EAGAIN towards a shard or a client. */
void cross_actor_owe(struct cross_actor *actor, int client, int shard);
/* A code that is no surprise in this state of things. */
void cross_actor_check_code(struct cross_actor *actor, const char *call, int code, int client, int shard);

/* --- cross_act.c --- */
void cross_act(struct cross_actor *actor);
int cross_act_choose_client(struct cross_actor *actor);

/* --- cross_channel.c --- */
void cross_channel_act(struct cross_actor *actor);
void cross_channel_close(struct cross_channel *channel);
void cross_channel_close_all(struct cross_actor *actor);
/* Its port is being closed. */
void cross_channel_forget(struct cross_channel *channel);
void cross_channel_hear(struct cross_actor *actor, const weir_port_event *event);
/* In mid-sleep of everybody else: publishes what is only put. */
void cross_channel_publish_all(struct cross_actor *actor);
bool cross_channels_are_quiet(const struct cross_run *run);
void cross_channels_check(const struct cross_run *run);

/* --- cross_group.c --- */
void cross_group_act(struct cross_actor *actor);
void cross_group_came(struct cross_client *client, const struct cross_head *head);
/* A join has failed; and: a port is closed, to which a failure may have been on its way. */
void cross_group_doubt(struct cross_run *run, uint32_t client);
void cross_group_lose(struct cross_run *run, uint32_t producer);
void cross_groups_check(struct cross_run *run);

/* --- cross_engine.c --- */
void cross_engine_init(struct cross_run *run);
bool cross_engine_is_set(const struct cross_run *run, int descriptor);

/* --- cross_drive.c --- */
/* Something happens: a turn, an act, or time passes. */
void cross_go_on(struct cross_run *run);
void cross_drive(struct cross_run *run);

/* --- cross_sums.c --- */
bool cross_is_quiet(struct cross_run *run);
void cross_check_quiet(struct cross_run *run);
void cross_check_ports(struct cross_run *run);
void cross_check_clients(struct cross_run *run);
void cross_check_end(struct cross_run *run);
void cross_tell_state(struct cross_run *run);

#endif
