/* SPDX-License-Identifier: MIT */
/* crossing: a shard takes what comes from other shards and threads.
 *
 * Road:    the bell says who -> its records, in order: messages into channels, functions run, groups reached -> room is given back once a batch.
 * Ditches: connection gone, codec's error -> an answer; no room for the answer -> the link waits until its port has collected; no memory -> the link
 *          waits a turn; more than is fair in one turn -> rings for itself; port closed and all read -> let go. */
#include "runtime/crossing.h"

#include <errno.h>
#include <string.h>

#include "runtime/group.h"
#include "runtime/pipe.h"
#include "runtime/table.h"

#define RECORDS_MAX      4096u /* in a turn, */
#define RECORDS_A_SEND   128u  /* and so many more for each send since the last: about as long as one takes */
#define SENDS_MAX        4096u
#define LINK_RECORDS_MAX 512u /* of them, of one link before the others have had their turn */
#define LATE_NS          (10 * WEIR_MILLISECOND)
#define MEMBERS_A_RECORD 8u /* a burst to so many members of a group counts like one record more */

static weir_conn *crossing_conn(struct w_core *core, uint64_t id)
{
    return w_table_find(core->conns, (uint32_t)(id >> W_CONN_GENERATION_BITS) & W_CONN_SLOT_MASK, id & W_CONN_GENERATION_MASK);
}

/* --- one record --- */

/* A big message is under way no more. */
static void crossing_count_blob(struct w_link *link, uint32_t bytes)
{
    uint64_t read = atomic_load_explicit(&link->blob_bytes_read, memory_order_relaxed);
    atomic_store_explicit(&link->blob_bytes_read, read + bytes, memory_order_relaxed);
}

static void crossing_count(struct w_core *core, struct w_link *link, uint32_t bytes)
{
    /* Relaxed: one writer; the port reads them for its statistics. */
    uint64_t messages_taken = atomic_load_explicit(&link->messages_taken, memory_order_relaxed);
    uint64_t bytes_taken = atomic_load_explicit(&link->bytes_taken, memory_order_relaxed);
    atomic_store_explicit(&link->messages_taken, messages_taken + 1, memory_order_relaxed);
    atomic_store_explicit(&link->bytes_taken, bytes_taken + bytes, memory_order_relaxed);
    w_stats_add(&core->stats.messages_crossed, 1);
    w_stats_add(&core->stats.bytes_crossed, bytes);
}

static enum w_port_verdict crossing_message(struct w_core *core, struct w_link *link, uint64_t to, const void *data, uint32_t bytes,
                                            weir_blob *blob, uint32_t offset)
{
    weir_conn *conn = crossing_conn(core, to);
    int result = conn == NULL ? -ESTALE : w_conn_take_crossed(conn, data, bytes, blob, offset);
    if (W_LIKELY(result == 0))
        crossing_count(core, link, bytes);
    else if (result == -ENOMEM)
        return W_PORT_NO_MEMORY;
    else if (!w_port_tell_undelivered(core, link, to, result, 1, bytes))
        return W_PORT_NO_ROOM_BACK;
    return W_PORT_DONE;
}

/* The same from a pipe's other end: what cannot be delivered is between the two. */
static enum w_port_verdict crossing_pipe(struct w_core *core, uint64_t to, const void *data, uint32_t bytes, weir_blob *blob,
                                         uint32_t offset)
{
    weir_conn *conn = crossing_conn(core, to);
    int result = conn == NULL || w_pipe_has_refused(conn) ? -ESTALE : w_conn_take_crossed(conn, data, bytes, blob, offset);
    if (result == -ENOMEM)
        return W_PORT_NO_MEMORY;
    if (result == -EMSGSIZE || result == -EBADMSG)
        w_pipe_refused(conn, result);
    return W_PORT_DONE;
}

static enum w_port_verdict crossing_blob(struct w_core *core, struct w_link *link, const struct w_port_record *record)
{
    struct w_port_blob part;
    memcpy(&part, record->data, sizeof part);
    const uint8_t *data = part.blob->data + part.offset;
    enum w_port_verdict verdict = record->kind == W_PORT_PIPE_BLOB
                                      ? crossing_pipe(core, record->to, data, part.bytes, part.blob, part.offset)
                                      : crossing_message(core, link, record->to, data, part.bytes, part.blob, part.offset);
    if (verdict == W_PORT_DONE) {
        crossing_count_blob(link, part.bytes);
        w_blob_release(core, &part.blob);
    }
    return verdict;
}

/* Answers how many members there are. */
static uint32_t crossing_group_blob(struct w_core *core, struct w_link *link, const struct w_port_record *record)
{
    struct w_port_group head;
    struct w_port_blob part;
    struct w_burst burst;
    memcpy(&head, record->data, sizeof head);
    memcpy(&part, record->data + sizeof head, sizeof part);
    w_burst_begin(&burst, record->to);
    w_burst_add(&burst, part.blob->data + part.offset, part.bytes, head.except);
    burst.blob = part.blob;
    uint32_t members = w_group_deliver(core, &burst);
    crossing_count_blob(link, part.bytes);
    w_blob_release(core, &part.blob);
    return members;
}

static enum w_port_verdict crossing_want(struct w_core *core, struct w_link *link, const struct w_port_record *record)
{
    struct w_port_want want;
    memcpy(&want, record->data, sizeof want);
    weir_conn *conn = crossing_conn(core, record->to);
    int result = conn == NULL ? -EALREADY : w_conn_want(conn, link, &want);
    if (result == -ENOMEM || (result != 0 && !w_port_answer_ready(core, link, record->to, &want)))
        return W_PORT_NO_MEMORY;
    return W_PORT_DONE;
}

/* *cost: what it took more than others, in records. */
static enum w_port_verdict crossing_record(struct w_core *core, struct w_link *link, const struct w_port_record *record, uint32_t *cost)
{
    struct w_port_call call;
    struct w_port_post post;
    switch ((enum w_port_kind)record->kind) {
    case W_PORT_MESSAGE:
        return crossing_message(core, link, record->to, record->data, record->bytes, NULL, 0);
    case W_PORT_BLOB:
    case W_PORT_PIPE_BLOB:
        return crossing_blob(core, link, record);
    case W_PORT_PIPE:
        return crossing_pipe(core, record->to, record->data, record->bytes, NULL, 0);
    case W_PORT_CALL:
        memcpy(&call, record->data, sizeof call);
        return call.function(core, link, crossing_conn(core, record->to), (weir_id){record->to}, call.argument);
    case W_PORT_POST:
        memcpy(&post, record->data, sizeof post);
        w_stats_add(&core->stats.posts_run, 1);
        post.function(w_core_shard(core), post.user);
        return W_PORT_DONE;
    case W_PORT_WANT:
        return crossing_want(core, link, record);
    case W_PORT_GROUP: /* crossing_group */
        break;
    case W_PORT_GROUP_BLOB:
        *cost += crossing_group_blob(core, link, record) / MEMBERS_A_RECORD;
        break;
    }
    return W_PORT_DONE;
}

/* --- one link --- */

static uint32_t crossing_record_bytes(const struct w_port_record *record)
{
    return (uint32_t)sizeof *record + ((record->bytes + 7) & ~7U);
}

/* A message to a group, and those to the same group that lie behind it, at most so many: answers what they cost, in records. */
static uint32_t crossing_group(struct w_core *core, struct w_spsc *there, const struct w_port_record *record, uint32_t most)
{
    struct w_burst burst;
    w_burst_begin(&burst, record->to);
    do {
        struct w_port_group head;
        uint32_t bytes = record->bytes - (uint32_t)sizeof head;
        if (record->kind != W_PORT_GROUP || record->to != burst.group || !w_burst_has_room(&burst, bytes))
            break;
        memcpy(&head, record->data, sizeof head);
        w_burst_add(&burst, record->data + sizeof head, bytes, head.except);
        w_spsc_next(there, crossing_record_bytes(record));
    } while (burst.count < most && (record = (const struct w_port_record *)(const void *)w_spsc_piece(there)) != NULL);
    return burst.count + w_group_deliver(core, &burst) / MEMBERS_A_RECORD;
}

static void crossing_stall(struct w_core *core, struct w_link *link)
{
    if (link->stalled)
        return;
    link->stalled = true;
    link->next_stalled = core->stalled;
    core->stalled = link;
}

/* Reads records; true when everything that the look has seen is read. */
static bool crossing_read(struct w_core *core, struct w_link *link, uint32_t *budget)
{
    struct w_spsc *there = &link->there;
    const uint8_t *piece;
    uint32_t most = w_base_min_u32(*budget, LINK_RECORDS_MAX), count = 0, before = there->read_pieces;
    enum w_port_verdict verdict = W_PORT_DONE;
    while (count < most && (piece = w_spsc_piece(there)) != NULL) {
        const struct w_port_record *record = (const struct w_port_record *)(const void *)piece;
        if (record->kind == W_PORT_GROUP) {
            count += crossing_group(core, there, record, most - count);
            continue;
        }
        uint32_t record_bytes = crossing_record_bytes(record); /* of a blob nothing is left there when it is done */
        if (W_UNLIKELY((verdict = crossing_record(core, link, record, &count)) != W_PORT_DONE))
            break;
        w_spsc_next(there, record_bytes);
        count++;
    }
    *budget -= w_base_min_u32(count, *budget);
    if (there->read_pieces != before &&
        !link->stirred) /* else behind the answers, so that a port that finds the ring empty finds them too */
        w_port_release_there(link);
    if (verdict == W_PORT_NO_MEMORY)
        crossing_stall(core, link);
    else if (verdict == W_PORT_DONE && there->read != there->tail_seen)
        w_bell_ring(&core->bell, link->port->number); /* the others first */
    return there->read == there->tail_seen;
}

static void crossing_let_go(struct w_core *core, struct w_link *link)
{
    core->links[link->port->number] = NULL;
    while (link->notes_first != NULL) {
        struct w_port_note *note = link->notes_first;
        link->notes_first = note->next;
        w_pool_give(&core->pool, note, sizeof *note);
    }
    w_port_part(link);
}

static void crossing_link(struct w_core *core, uint32_t number, uint32_t *budget)
{
    struct w_link *link = w_port_link_here(core, number);
    if (link == NULL || link->stalled)
        return;
    /* Acquire: after it the port has published nothing more, so a look behind it sees all. */
    bool closing = atomic_load_explicit(&link->closing, memory_order_acquire);
    bool read_all = !w_spsc_look(&link->there) || crossing_read(core, link, budget);
    if (link->notes_first != NULL || link->undelivered.kind != 0)
        w_port_stir(core, link); /* it may have made room for answers */
    if (W_UNLIKELY(closing && read_all)) {
        w_port_flush_back(core);
        crossing_let_go(core, link);
    }
}

/* --- the turn --- */

static bool crossing_event(weir_port *port, const weir_port_event *event)
{
    if (event->kind == WEIR_PORT_ROOM) {
        w_port_call_again(port);
        w_pipe_room(port->core);
    }
    return w_port_tell_shard(port, event);
}

static void crossing_number(struct w_core *core, uint32_t number, uint32_t *budget)
{
    const weir_config *config = core->config;
    uint32_t channels = w_port_bell_channels(config), answers = w_port_bell_answers(config);
    if (number >= answers) {
        w_port_collect(core->port, number, crossing_event);
    } else if (number < channels) {
        crossing_link(core, number, budget);
    } else {
        weir_channel *channel = core->owns[number - channels];
        weir_conn *conn = channel == NULL ? NULL : crossing_conn(core, channel->id.value);
        if (conn != NULL)
            w_conn_heard(conn, channel);
    }
}

/* Those that wait for memory may go on, if there is some. */
static void crossing_retry(struct w_core *core)
{
    struct w_link *link = core->stalled;
    core->stalled = NULL;
    while (link != NULL) {
        struct w_link *next = link->next_stalled;
        link->stalled = false;
        w_bell_ring(&core->bell, link->port->number);
        link = next;
    }
}

/* True when there is something to be read, and nothing that will tell of it. */
static bool crossing_is_unrung(const struct w_link *link)
{
    return link != NULL && !link->stalled && !atomic_load_explicit(&link->back_waiting, memory_order_relaxed) &&
           (uint32_t)atomic_load_explicit(&link->there.published, memory_order_relaxed) != link->there.read;
}

void w_crossing_look_after(struct w_core *core)
{
    struct w_link *link = core->links[core->looked_link];
    uint64_t now_ns = core->io->now_ns;
    if (w_bell_is_due(&core->bell))
        return;
    if (!crossing_is_unrung(link)) {
        core->late_since_ns = 0;
        core->looked_link = (core->looked_link + 1) % core->ports->capacity;
    } else if (core->late_since_ns == 0 || core->late_position != link->there.read) {
        core->late_position = link->there.read;
        core->late_since_ns = now_ns;
    } else if (now_ns - core->late_since_ns > LATE_NS) { /* not a port that is just about to ring */
        core->late_since_ns = 0;
        w_stats_add(&core->stats.late_finds, 1);
        w_bell_ring(&core->bell, link->port->number);
    }
}

bool w_crossing_is_short(struct w_core *core)
{
    weir_port *port = core->port;
    if (W_UNLIKELY(port->poor)) {
        uint64_t budget = core->pool.budget_bytes;
        port->poor_tell = atomic_load_explicit(&core->pool.taken_bytes, memory_order_relaxed) <= budget - budget / W_CORE_RELIEF_PART;
        w_port_collect_poor(port, crossing_event);
    }
    if (W_UNLIKELY(port->later_first != NULL))
        w_port_call_again(port);
    return core->stalled != NULL || port->poor || port->later_first != NULL;
}

/* To many connections at once the sends are what takes time: with records for as long again each of them carries more. */
static uint32_t crossing_budget(struct w_core *core)
{
    uint64_t sends = core->stats.sends - core->sends_seen;
    core->sends_seen += sends;
    return RECORDS_MAX + RECORDS_A_SEND * (uint32_t)w_base_min_u64(sends, SENDS_MAX);
}

void w_crossing_turn(struct w_core *core)
{
    uint32_t budget = crossing_budget(core), number;
    if (W_UNLIKELY(core->stalled != NULL))
        crossing_retry(core);
    while (budget > 0 && w_bell_hear(&core->bell, &number))
        crossing_number(core, number, &budget);
}

void w_crossing_publish(struct w_core *core)
{
    w_core_settle(core);
    if (W_UNLIKELY(core->stirred != NULL))
        w_port_flush_back(core);
    if (core->port->dirty != NULL)
        w_port_publish(core->port);
}
