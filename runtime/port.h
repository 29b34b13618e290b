/* SPDX-License-Identifier: MIT */
/* port: where a thread enters: a row of links, one to each shard, made at first use. A shard's own port is the same thing on the shard's thread.
 *
 *                    there     a ring of records {to, kind, bytes} ──────►
 *   port ── link     back      a ring of answers ◄────────────────────────     shard (crossing.c)
 *                    returned  blobs that go home ◄───────────────────────
 *
 * Who puts something into a link rings the other side's bell under the link's number there. A shard's bell has, one after the other, the numbers of all
 * ports (their links to it), of all own channels, and of its own port: one for the answers of each shard, one for each channel it has opened. The
 * bell of a thread's port has the last two.
 *
 * Lives: a port's memory, its links and channels with it, goes with its last reference: one for being open, one for each link until the shard has let go of
 * it, one for each channel until its shard has, one for each blob that is away. So a shard never looks at memory that is gone. */
#ifndef W_PORT_H
#define W_PORT_H

#include <weir/channel.h>
#include <weir/port.h>

#include "runtime/bell.h"
#include "runtime/blob.h"
#include "runtime/core.h"
#include "runtime/spsc.h"

#define W_PORT_BACK_BYTES     8192u
#define W_PORT_BLOB_RINGS     4u   /* big messages under way in a link: so many times the ring's bytes, and at least one message */
#define W_PORT_KEPT_MAX       256u /* events kept for weir_port_next */
#define W_PORT_SHARD_CHANNELS 64u  /* own channels that a shard's own port may have open */
#define W_PORT_WANTED         16u  /* wants that it remembers having asked for */

/* --- what crosses --- */

enum w_port_kind {
    W_PORT_MESSAGE, /* the payload follows */
    W_PORT_BLOB,    /* struct w_port_blob follows: the record holds a reference */
    W_PORT_PIPE,    /* as W_PORT_MESSAGE and W_PORT_BLOB, from a pipe's other end */
    W_PORT_PIPE_BLOB,
    W_PORT_CALL,       /* struct w_port_call follows */
    W_PORT_POST,       /* struct w_port_post follows */
    W_PORT_WANT,       /* struct w_port_want follows: answer READY when the connection has room */
    W_PORT_GROUP,      /* to is the group; struct w_port_group, then the payload */
    W_PORT_GROUP_BLOB, /* to is the group; struct w_port_group, then struct w_port_blob */
};

/* Begins each record of the ring there; records are multiples of 8 bytes. */
struct w_port_record {
    uint64_t to;    /* a weir_id; 0: none */
    uint32_t bytes; /* of what follows */
    uint32_t kind;  /* enum w_port_kind */
    uint8_t data[];
};

struct w_port_blob {
    weir_blob *blob;
    uint32_t offset, bytes;
};

/* What became of a record. */
enum w_port_verdict {
    W_PORT_DONE,
    W_PORT_NO_MEMORY,    /* once more when there may be some */
    W_PORT_NO_ROOM_BACK, /* for an answer: once more when the port has collected */
};

/* Something to do with a connection, on its shard. conn is NULL when it has ended; core is NULL when the shard is over too, and then this runs on
 * the port's thread, or whoever's is the last. */
struct w_link;
typedef enum w_port_verdict (*w_port_function)(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t argument);
struct w_port_call {
    w_port_function function;
    uint64_t argument;
};

struct w_port_post {
    weir_post_function function;
    void *user;
};

/* Whom a READY is for: the user, as an event; a call of the port's that blocks; or a connection of weir's own on the port's shard. */
enum w_port_asker { W_PORT_ASKER_USER, W_PORT_ASKER_CALL, W_PORT_ASKER_CONN };
struct w_port_want {
    uint64_t asker; /* enum w_port_asker */
    uint64_t conn;  /* ASKER_CONN: its weir_id */
};

struct w_port_group {
    uint64_t except; /* a weir_id */
};

/* What stands in the ring back. */
struct w_port_answer {
    uint32_t kind; /* enum weir_port_event_kind: READY, UNDELIVERED */
    int32_t error; /* UNDELIVERED */
    uint64_t id;
    union {
        struct {
            uint64_t messages, bytes;
        };
        struct w_port_want want; /* READY */
    };
};

/* --- a link --- */

/* A want that waits for its connection, and then, as an answer, for room in the ring back. A piece of the shard's pool. */
struct w_port_note {
    struct w_port_note *next;
    uint32_t port, serial; /* to which link it goes, if that is still the one */
    struct w_port_answer answer;
};

/* A call that may have to wait for room; its memory is there before it is needed. */
struct w_port_later {
    struct w_port_later *next;
    weir_id id;
    struct w_port_call call;
    bool queued;
    bool pooled; /* a piece of the shard's pool: given back when it is done */
};

struct w_link {
    weir_port *port;
    uint32_t shard; /* the index of the one at the other end */
    struct w_spsc there, back;

    /* Words of both. */
    alignas(64) _Atomic(weir_blob *) returned;    /* a chain; the shard puts, the port takes */
    _Atomic bool waiting;                         /* the port waits for room there: the shard clears it and rings */
    _Atomic bool back_waiting;                    /* the shard waits for room back: the port clears it and rings */
    _Atomic bool closing;                         /* the port will put nothing more there */
    _Atomic uint32_t parted;                      /* sides that are done with the link: the second one lets go of it */
    _Atomic uint64_t messages_taken, bytes_taken; /* put into connections' channels; the shard counts */

    _Atomic uint64_t blob_bytes_read; /* of big messages whose records have been read; the shard counts */

    /* The port's. */
    alignas(64) struct w_link *next_dirty;
    uint64_t blob_bytes_put;
    bool dirty;     /* committed and not published: it is in the port's list */
    bool told_full; /* an -EAGAIN was answered: ROOM is owed */
    bool told_over; /* the shard is over, and that has been told */

    /* The shard's. */
    alignas(64) struct w_port_answer undelivered; /* being gathered; kind 0: none */
    struct w_port_note *notes_first, *notes_last; /* answers that wait for room back */
    weir_blob *homeward_first, *homeward_last;    /* blobs that go home at the end of the turn */
    struct w_link *next_stirred, *next_stalled;
    bool stirred; /* something goes back at the end of the turn: it is in the core's list */
    bool stalled; /* a record waits for memory: it is in the core's other list */
};

/* --- all ports of a runtime --- */

struct w_port_table {
    const struct w_io_engine *engine;
    const weir_config *config; /* complete */
    weir_runtime *runtime;
    struct w_core **cores; /* config->shards of them */
    _Atomic(weir_port *)
        *ports; /* `capacity`: the shards' own first; NULL: free. Claimed by compare and swap, before its links can be rung for */
    _Atomic bool *channels;         /* config->channels: number in use */
    _Atomic uint32_t channel_next;  /* where a free number is looked for first */
    _Atomic uint32_t channels_open; /* numbers in use; a hint of the size of the next one's ring */
    _Atomic uint32_t serial;        /* of the port opened last */
    _Atomic uint64_t orphaned;      /* messages that came back to closed ports */
    uint32_t capacity;
};

/* Numbers on a shard's bell. */
static inline uint32_t w_port_bell_channels(const weir_config *config)
{
    return config->shards + config->ports;
}
static inline uint32_t w_port_bell_answers(const weir_config *config)
{
    return w_port_bell_channels(config) + config->channels;
}
static inline uint32_t w_port_bell_count(const weir_config *config)
{
    return w_port_bell_answers(config) + config->shards + W_PORT_SHARD_CHANNELS;
}

/* --- a port --- */

struct weir_port {
    struct w_port_table *table;
    struct w_core *core; /* NULL exactly for a thread's */
    uint32_t number;     /* in the table, and on each shard's bell */
    uint32_t serial;     /* tells it from others that have had its number */
    _Atomic uint32_t references;
    _Atomic bool closed; /* nobody collects any more */
    _Atomic bool busy;   /* a thread's: somebody is inside */
    bool corked;
    struct w_pool *pool; /* own_pool, or the shard's */
    struct w_pool own_pool;
    struct w_bell *bell; /* own_bell, or the shard's */
    struct w_bell own_bell;
    void *bell_memory;
    uint32_t answers_number, channels_number;      /* on that bell: the first of its kind */
    struct w_io_event event;                       /* the engine's, that the thread sleeps on */
    bool polled;                                   /* its descriptor has been given away */
    struct w_link **links;                         /* one for each shard; NULL until used */
    struct w_link *dirty;                          /* links to publish */
    struct w_port_later *later_first, *later_last; /* a shard's: calls that wait for room */
    weir_channel **channels;                       /* by place; NULL: free */
    uint32_t channel_places, channel_next;         /* how many; where a free one is looked for first */
    uint32_t collecting;                           /* a number on the bell that was heard and is not done with, + 1; 0: none */
    weir_port_event *kept;                         /* a ring of W_PORT_KEPT_MAX; NULL for a shard's */
    uint32_t kept_first, kept_count;
    uint32_t blobs_away;            /* a thread's: made and not freed */
    uint32_t poor_told;             /* poor: shards that have been told about so far */
    bool heard;                     /* the last collecting has heard something */
    bool poor, poor_tell;           /* there was no memory for a blob: ROOM is owed; there is some again */
    uint64_t wanted[W_PORT_WANTED]; /* ids that READY has been asked for, by their hash */
    weir_port_stats stats;          /* messages_taken and bytes_taken apart */
};

/* What all ports may come to, with their links, channels and big messages. */
uint64_t w_port_bound_bytes(const weir_config *config);

/* A port of a shard; on any thread before the shard starts. 0 or -ENOMEM. */
int w_port_init_shard(weir_port **port, struct w_port_table *table, struct w_core *core);
/* A thread's. 0, -ENOMEM, -ENOSPC. */
int w_port_init_thread(weir_port **port, struct w_port_table *table, uint32_t channel_places);
/* weir_port_close, less the pointer; and for a shard's port, when all shards are over. */
void w_port_close(weir_port *port);
void w_port_close_shard(weir_port *port);

/* One reference less; the last one frees everything. Any thread. */
void w_port_unreference(weir_port *port);

/* The beginning and the end of each public call: aborts when another thread is inside, or, for a shard's port, when it is not the shard's thread. What a
 * shard has sent to a group is settled first, but for the next message to a group. */
static inline void w_port_enter_thread(weir_port *port, const char *function)
{
    /* Relaxed, and no exchange: it finds out most of the threads that it should not, and costs nothing. */
    if (W_UNLIKELY(atomic_load_explicit(&port->busy, memory_order_relaxed)))
        w_base_misuse(function, "port %u is used by two threads at once", port->number);
    atomic_store_explicit(&port->busy, true, memory_order_relaxed);
}

static inline void w_port_enter_unsettled(weir_port *port, const char *function)
{
    if (port->core != NULL)
        w_core_require_thread(port->core, function);
    else
        w_port_enter_thread(port, function);
}

static inline void w_port_enter(weir_port *port, const char *function)
{
    if (port->core != NULL)
        w_core_require_settled(port->core, function);
    else
        w_port_enter_thread(port, function);
}

static inline void w_port_leave(weir_port *port)
{
    if (port->core == NULL)
        atomic_store_explicit(&port->busy, false, memory_order_relaxed);
}

static inline uint32_t w_port_shard_of(weir_id id)
{
    return (uint32_t)(id.value >> 54);
}

/* The link to a shard, made if need be: NULL and *error -ESHUTDOWN or -ENOMEM. */
struct w_link *w_port_link(weir_port *port, uint32_t shard, int *error);
/* Room for a record with `bytes` behind its head, filled in but for those; or NULL: full (counted; ROOM will be told). */
struct w_port_record *w_port_reserve(struct w_link *link, uint64_t to, enum w_port_kind kind, uint32_t bytes);
/* The same for one that carries a part of a blob of so many bytes: those under way are bounded as well. */
struct w_port_record *w_port_reserve_blob(struct w_link *link, uint64_t to, enum w_port_kind kind, uint32_t bytes, uint32_t blob_bytes);
/* The record is complete. Published at once by a thread's port that is not corked, else by w_port_publish. */
void w_port_commit(struct w_link *link, struct w_port_record *record);
/* Publishes everything that is committed, and wakes who has to be woken. */
void w_port_publish(weir_port *port);

/* Something for a connection of any shard: 0, -EAGAIN, -ESHUTDOWN, -ENOMEM. */
int w_port_call(weir_port *port, weir_id id, w_port_function function, uint64_t argument);
/* The same for a shard's port, as soon as there is room: what a connection's end has to tell must not be refused. `later` waits meanwhile (not while it is
 * queued already). Lost only when the other shard is over. */
void w_port_call_later(weir_port *port, struct w_port_later *later, weir_id id, w_port_function function, uint64_t argument);
/* One of the pool; NULL: no memory. And back, unused; NULL is left alone. */
struct w_port_later *w_port_take_later(weir_port *port);
void w_port_give_later(weir_port *port, struct w_port_later **later);
void w_port_call_again(weir_port *port);
/* weir_port_send without entering; asker: whom a READY is for. */
int w_port_put(weir_port *port, weir_id id, const void *data, uint32_t bytes, const struct w_port_want *asker);
/* The same for a part of a blob, of which the record takes a reference. */
int w_port_put_blob(weir_port *port, weir_id id, weir_blob *blob, uint32_t offset, uint32_t bytes, const struct w_port_want *asker);

/* A blob of the port's with one reference, the caller's; NULL: no memory. And the end of that reference, on the port's thread. */
weir_blob *w_port_blob(weir_port *port, const void *data, uint32_t bytes);
void w_port_blob_done(weir_port *port, weir_blob *blob);
/* There was none: -EAGAIN (ROOM is told, for every shard, when some has come home), or -ENOMEM: none will. */
int w_port_no_memory(weir_port *port);
/* The memory of a blob without references, at home. */
void w_port_take_home(weir_port *port, weir_blob *blob);

/* A chain of blobs whose port is closed: straight to the allocator, on any thread. */
void w_port_free_orphans(weir_port *port, weir_blob *blob);

/* READY has come for an id: the next refusal asks again. */
void w_port_forget_want(weir_port *port, uint64_t id);

/* What comes back under a number of the port's bell: hands each event on until `deliver` answers false (it has no room). True: all done. */
typedef bool (*w_port_deliver)(weir_port *port, const weir_port_event *event);
bool w_port_collect(weir_port *port, uint32_t number, w_port_deliver deliver);
/* A `deliver` for a shard's port: the embedder's callback. */
bool w_port_tell_shard(weir_port *port, const weir_port_event *event);

/* A channel is closed: events that are kept for it are not told any more. */
void w_port_forget_channel(weir_port *port, const weir_channel *channel);
/* Keeps what has come back, and sleeps until something does, at most until deadline_ns (WEIR_FOREVER: none): 0: look again; -ETIMEDOUT, -ENOBUFS (no more can
 * be kept), or what stopped it from sleeping. A thread's port. */
int w_port_sleep(weir_port *port, uint64_t deadline_ns);
/* When timeout_ns from now are over. */
uint64_t w_port_deadline_ns(const weir_port *port, uint64_t timeout_ns);

/* ROOM, when there was no memory for a blob and now there is some. */
bool w_port_collect_poor(weir_port *port, w_port_deliver deliver);

/* Tells a thread or a shard that something came back under this number of its port's bell. */
void w_port_ring_back(weir_port *port, uint32_t number);

/* --- the shard's side of links (port_shard.c); on its thread --- */

/* The link of a port to here, by its number: NULL when there is none. */
struct w_link *w_port_link_here(struct w_core *here, uint32_t number);
/* Something goes back over it: at the end of the turn. */
void w_port_stir(struct w_core *here, struct w_link *link);
/* The last reference to a blob of another home is gone: it goes there at the end of the turn. */
void w_port_send_home(struct w_core *here, weir_blob *blob);
/* A want has come true: the note goes where it came from. */
void w_port_tell_ready(struct w_core *here, struct w_port_note *note);
/* The same for one that has no note yet: false: no memory for it. */
bool w_port_answer_ready(struct w_core *here, struct w_link *link, uint64_t id, const struct w_port_want *want);
/* A message cannot be delivered: false: no room for the answer now (the link will ring when there is). */
bool w_port_tell_undelivered(struct w_core *here, struct w_link *link, uint64_t id, int error, uint32_t messages, uint64_t bytes);
/* Records have been read: gives their room back, and tells a port that waits for it. */
void w_port_release_there(struct w_link *link);
/* The end of the turn: everything that goes back goes. */
void w_port_flush_back(struct w_core *here);
/* This shard will look at nothing any more. */
void w_port_over(struct w_core *here);

/* Blobs that have come home go into the pool. */
void w_port_take_returned(weir_port *port);
/* Nobody collects any more: blobs on their way home are freed where they are. */
void w_port_orphan_blobs(weir_port *port);

/* The shard at the other end is over: what lies in the link is told (or, with deliver NULL, counted as orphaned). True: all done. */
bool w_port_reclaim(struct w_link *link, w_port_deliver deliver);
/* One side, the shard or the port, is done with a link: its last touch. The second one has what is left in it. */
void w_port_part(struct w_link *link);

#endif
