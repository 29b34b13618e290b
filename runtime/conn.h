/* SPDX-License-Identifier: MIT */
/* conn: one connection's life. Runs on its shard only.
 *
 *   FREE -> DIALING -> OPENING -> SHAKING -> OPEN -> DRAINING -> ENDING -> CLOSING -> FREE
 *
 *   DIALING   its dialer connects                      OPENING   connected, on_open is due
 *   SHAKING   its codec's session shakes hands, if it has one
 *   OPEN      messages flow                            DRAINING  no more messages; what is queued goes out, then the peer's end is awaited
 *   ENDING    operations are cancelled and awaited     CLOSING   the handle is being closed; on_close follows
 *
 * From every state but FREE and CLOSING, w_conn_end leads to ENDING. Nothing is freed until receive, send and close have all completed. */
#ifndef W_CONN_H
#define W_CONN_H

#include <weir/conn.h>

#include "runtime/core.h"
#include "runtime/port.h"
#include "runtime/reader.h"
#include "runtime/writer.h"

enum w_conn_state {
    W_CONN_FREE,
    W_CONN_DIALING,
    W_CONN_OPENING,
    W_CONN_SHAKING,
    W_CONN_OPEN,
    W_CONN_DRAINING,
    W_CONN_ENDING,
    W_CONN_CLOSING
};

/* Completions carry who and what, never a pointer or a descriptor: {kind, operation, slot, generation}. Bit 63 is the engine's. */
enum w_conn_token_kind { W_CONN_TOKEN_CONN, W_CONN_TOKEN_LISTENER };
enum w_conn_operation { W_CONN_RECEIVE, W_CONN_SEND, W_CONN_CLOSE, W_CONN_CONNECT, W_CONN_RESOLVE, W_CONN_ACCEPT };

#define W_CONN_GENERATION_BITS 34
#define W_CONN_SLOT_BITS       20
#define W_CONN_GENERATION_MASK ((UINT64_C(1) << W_CONN_GENERATION_BITS) - 1)
#define W_CONN_SLOT_MASK       ((UINT32_C(1) << W_CONN_SLOT_BITS) - 1)

static inline uint64_t w_conn_token(enum w_conn_token_kind kind, enum w_conn_operation operation, uint32_t slot, uint64_t generation)
{
    return (uint64_t)kind << 58 | (uint64_t)operation << 54 | (uint64_t)slot << W_CONN_GENERATION_BITS | generation;
}

static inline enum w_conn_token_kind w_conn_token_kind(uint64_t token)
{
    return (enum w_conn_token_kind)(token >> 58 & 3);
}

static inline enum w_conn_operation w_conn_token_operation(uint64_t token)
{
    return (enum w_conn_operation)(token >> 54 & 15);
}

static inline uint32_t w_conn_token_slot(uint64_t token)
{
    return (uint32_t)(token >> W_CONN_GENERATION_BITS) & W_CONN_SLOT_MASK;
}

/* What is to be done for a connection in this turn. */
enum w_conn_agenda {
    W_CONN_DO_OPEN = 1,       /* on_open */
    W_CONN_DO_READY = 2,      /* on_ready, and deliver what WEIR_LATER kept */
    W_CONN_DO_DELIVER = 4,    /* deliver what is set aside */
    W_CONN_DO_WRITE = 8,      /* start a send */
    W_CONN_DO_STEP = 16,      /* see whether draining or ending has come further */
    W_CONN_DO_UNRESERVE = 32, /* a reserve ends with the turn */
    W_CONN_DO_AGAIN = 64,     /* the end of WEIR_LATER: deliver */
};

/* What any thread may read (runtime/stats.h): weir_conn_stats_get. */
struct w_conn_shared {
    uint64_t word;        /* W_CORE_PRESSED, and the generation: 1 .. 2^34-1; that changes when the slot is freed */
    uint64_t progress_ns; /* when the queue was last empty or last got shorter */
    uint64_t messages_in, bytes_in;
    uint64_t messages_out, bytes_out;
    uint64_t bytes_put; /* accepted by sends, as on the wire: queued = put - out */
    uint32_t sends, refusals;
};

struct weir_conn {
    /* The way in and out: what each message touches comes first. */
    struct w_core *core;
    const weir_protocol *protocol;
    struct w_reader reader;
    struct w_writer writer;
    uint32_t quick_bytes;                     /* while fewer are queued, a message below W_BLOB_WORTH_BYTES is within all limits */
    uint32_t counted_bytes, counted_messages; /* of what is queued, how much stands in the statistics already */
    uint64_t activity_ns;                     /* when bytes last moved, either way */
    uint64_t state_ns;                        /* when it came into its state */
    uint64_t partial_ns;                      /* when the first byte of the message in the stash came */
    uint32_t slot;
    int32_t handle;               /* the engine's; -1: none. FREE: the next free slot + 1 */
    uint8_t state;                /* enum w_conn_state */
    uint8_t reason;               /* weir_reason: why it is draining or ending */
    uint8_t agenda;               /* enum w_conn_agenda bits */
    uint32_t next[W_CORE_LISTS];  /* the next one's slot + 1 in each of the core's lists; 0: none */
    uint8_t listed;               /* bit l: it is in the core's list l. Survives the slot's reuse, as `next` does */
    bool receiving : 1;           /* a receive is in flight */
    bool cancelling : 1;          /* and it has been asked to end */
    bool fresh : 1;               /* and it has brought nothing yet */
    bool connecting : 1;          /* the dialer has a connect or a look-up in flight for it */
    bool paused : 1;              /* weir_pause */
    bool later : 1;               /* on_message answered WEIR_LATER */
    bool pressed : 1;             /* a send was refused: on_ready is owed */
    bool dry : 1;                 /* pressed, for lack of memory that is still lacking */
    bool greeted : 1;             /* the first message has come */
    bool partial : 1;             /* a message is being put together: partial_ns counts */
    bool peer_ended : 1;          /* the receive brought the peer's end */
    bool half_closed : 1;         /* our side has been shut down */
    bool ours : 1;                /* this program wanted the end */
    bool opened : 1;              /* on_open was called, so on_close will be */
    bool answered : 1;            /* SHAKING: something has been answered, a page, and it is not open yet */
    bool excepted : 1;            /* of the burst that is being delivered, it does not get all messages */
    bool dialed : 1, adopted : 1; /* where it came from; neither: accepted */
    void *user;
    struct w_wheel_entry timer;
    uint64_t watch_ns;               /* when `timer` goes off; UINT64_MAX: not set */
    const weir_slow_peer *slow_peer; /* NULL: the protocol's */
    int32_t error;
    uint16_t peer_code; /* weir_close_event's */
    uint32_t origin;    /* dialed: its dialer's index; accepted: its listener's */
    struct w_conn_shared shared;
};

/* What few connections have. From the pool, hung into the writer's side, there only while there is something in it. */
struct w_conn_extra {
    struct w_port_note *wants; /* who wants to hear that it has room: newest first */
    struct w_group_member *groups;
    uint64_t pipe;                 /* the id at the other end; 0: none */
    struct w_port_later *farewell; /* of a pipe to another shard: for the call that tells of the end */
    bool pipe_finish : 1;          /* the other one's peer has ended: half-close when everything is sent */
    bool pipe_told : 1;            /* the other one has been told of our peer's end */
    bool pipe_refused : 1;         /* it could not carry a message of the other's: no more of them go out */
};

static inline struct w_conn_extra *w_conn_extra_of(const weir_conn *conn)
{
    return W_LIKELY(conn->writer.side == NULL) ? NULL : conn->writer.side->extra;
}

static inline uint64_t w_conn_generation(const weir_conn *conn)
{
    return conn->shared.word & W_CONN_GENERATION_MASK;
}

static inline weir_id w_conn_id(const weir_conn *conn)
{
    return (weir_id){(uint64_t)conn->core->index << (W_CONN_GENERATION_BITS + W_CONN_SLOT_BITS) |
                     (uint64_t)conn->slot << W_CONN_GENERATION_BITS | w_conn_generation(conn)};
}

static inline uint64_t w_conn_token_of(const weir_conn *conn, enum w_conn_operation operation)
{
    return w_conn_token(W_CONN_TOKEN_CONN, operation, conn->slot, w_conn_generation(conn));
}

/* Is what it brings looked at? */
static inline bool w_conn_listens(const weir_conn *conn)
{
    return conn->state == W_CONN_OPEN || conn->state == W_CONN_SHAKING;
}

/* Wants its messages delivered now? */
static inline bool w_conn_stopped(const weir_conn *conn)
{
    return conn->paused || conn->later;
}

/* Puts it on the agenda of this turn (or of the next, which is asked for, when no turn is under way). */
void w_conn_schedule(weir_conn *conn, enum w_conn_agenda what);
/* Does what its agenda says. */
void w_conn_attend(weir_conn *conn);

/* Makes a free slot a connection. w_conn_connected: its handle is connected; on_open is next. */
void w_conn_init(weir_conn *conn, struct w_core *core, const weir_protocol *protocol, void *user, uint32_t origin);
void w_conn_connected(weir_conn *conn, int handle);
/* Nothing stands before its first message any more: on_open. */
void w_conn_opened(weir_conn *conn);
/* One message, to its handler or the other end of its pipe. */
enum w_reader_verdict w_conn_deliver(weir_conn *conn, const weir_message *message);

/* Starts a receive, unless one is in flight, or none is wanted any more. */
void w_conn_receive(weir_conn *conn);
void w_conn_received(weir_conn *conn, const struct w_io_completion *completion);
void w_conn_sent(weir_conn *conn, int32_t result);
void w_conn_closed(weir_conn *conn);
/* Asks the receive in flight to end: what it still brings is kept. */
void w_conn_stop_receiving(weir_conn *conn);
/* What sends have put in since the last time goes into the statistics: once a run, not once a message. */
void w_conn_count_put(weir_conn *conn);

/* weir_pause and weir_resume. */
void w_conn_pause(weir_conn *conn);
void w_conn_resume(weir_conn *conn);
void w_conn_set_slow_peer(weir_conn *conn, const weir_slow_peer *policy);

/* Graceful and at once. Both may be called in any state and often. */
void w_conn_drain(weir_conn *conn, weir_reason reason, int error);
void w_conn_end(weir_conn *conn, weir_reason reason, int error);

/* Draining or ending: goes as far as it can now. */
void w_conn_step(weir_conn *conn);

/* The engine has failed for good and its operations are gone with it: on_close and free, without a completion. */
void w_conn_abandon(weir_conn *conn, weir_reason reason, int error);

/* A send of `bytes` more: is there room under the marks? 0, -EPIPE, -ENOTCONN, -EMSGSIZE, -EAGAIN (refused and counted). */
int w_conn_may_send(weir_conn *conn, uint32_t sealed_bytes);
/* Would so many bytes more, in messages one after the other, all be taken? Refuses and counts nothing. */
bool w_conn_may_send_all(const weir_conn *conn, uint32_t sealed_bytes);
/* A send found no memory: -EAGAIN, and on_ready once there is some. */
int w_conn_refuse_for_memory(weir_conn *conn);
/* Something has been put into an empty channel (or may have been): time limits, and a send in this turn. */
void w_conn_wants_send(weir_conn *conn, bool was_empty);

/* The word: its queue is at or above the high-water mark, so others need not try (not when it is ending); the pressure is over; it is ending, so others are
 * refused for good. By both of these whoever wanted to know is told. */
void w_conn_press(weir_conn *conn);
void w_conn_relieve(weir_conn *conn);
void w_conn_turn_away(weir_conn *conn);

/* The extra part, made if it is not there; NULL: no memory. And given back, if nothing is in it. */
struct w_conn_extra *w_conn_need_extra(weir_conn *conn);
void w_conn_trim_extra(weir_conn *conn);

/* What was under way is taken, whatever the marks say: 0, the codec's error, -EPIPE, -ENOTCONN, or -ENOMEM (try again). With blob NULL the payload is copied
 * from data. */
int w_conn_take_crossed(weir_conn *conn, const void *data, uint32_t bytes, weir_blob *blob, uint32_t offset);
/* Somebody on another thread wants to hear of room: 0; -EALREADY: there is some; -ENOMEM. Once for each link and asker. */
int w_conn_want(weir_conn *conn, const struct w_link *link, const struct w_port_want *want);
/* An own channel: to be attached (0, -EPIPE, -ENOTCONN, -ENOMEM). */
int w_conn_attach(weir_conn *conn, weir_channel *channel);
/* What they have begun to send goes into the statistics. */
void w_conn_count_begun(weir_conn *conn);
/* It is over for all that it had to do with: groups, its pipe, own channels, those that wait for room. */
void w_conn_leave_others(weir_conn *conn);
/* It has rung. */
void w_conn_heard(weir_conn *conn, weir_channel *channel);

/* What it holds of the shard's memory, roughly, or of the part for messages being put together: for choosing whom to end when that is spent. */
uint64_t w_conn_weight(const weir_conn *conn, bool assembly);

#endif
