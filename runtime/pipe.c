/* SPDX-License-Identifier: MIT */
/* pipe: two connections, each of which sends what comes on the other.
 *
 * Road:    message -> the other's channel (same shard), or a record to its shard, by reference from 4 KiB -> peer's end -> the other is half-closed
 *          behind everything -> both ways at their ends -> both end.
 * Ditches: no room there -> the message stays, receiving pauses, until the other is ready (same shard), READY (its shard) or ROOM (the ring) comes;
 *          one ends otherwise -> the other ends too; the ring is full just then -> told as soon as there is room. */
#include "runtime/pipe.h"

#include <errno.h>

#include "runtime/session.h"
#include "runtime/table.h"
#include "runtime/waitlist.h"

static weir_conn *pipe_other_here(const weir_conn *conn, uint64_t id)
{
    struct w_core *core = conn->core;
    return w_port_shard_of((weir_id){id}) != core->index ? NULL : weir_find(w_core_shard(core), (weir_id){id});
}

static bool pipe_is_far(const weir_conn *conn)
{
    return w_port_shard_of((weir_id){w_conn_extra_of(conn)->pipe}) != conn->core->index;
}

/* It may try again. */
static void pipe_resume(weir_conn *conn)
{
    if (conn->state != W_CONN_OPEN || !w_pipe_is(conn))
        return;
    w_conn_schedule(conn, W_CONN_DO_AGAIN);
}

/* --- messages --- */

/* To another shard; a refusal is answered by READY (w_pipe_wanted) or ROOM (w_pipe_room). */
static int pipe_send_far(weir_conn *conn, const weir_message *message)
{
    struct w_core *core = conn->core;
    const weir_id other = {w_conn_extra_of(conn)->pipe};
    const struct w_port_want asker = {.asker = W_PORT_ASKER_CONN, .conn = w_conn_id(conn).value};
    weir_blob *blob = message->bytes < W_BLOB_WORTH_BYTES ? NULL : w_reader_hold(core, &conn->reader, message);
    if (blob == NULL)
        return w_port_put(core->port, other, message->data, message->bytes, &asker);
    int result = w_port_put_blob(core->port, other, blob, 0, message->bytes, &asker);
    w_blob_release(core, &blob);
    return result;
}

int w_pipe_message(weir_conn *conn, const weir_message *message)
{
    uint64_t id = w_conn_extra_of(conn)->pipe;
    weir_conn *other = pipe_other_here(conn, id);
    int result = other != NULL ? weir_forward(conn, message, other) : pipe_is_far(conn) ? pipe_send_far(conn, message) : -ESTALE;
    if ((result == -ESTALE || result == -EPIPE) && pipe_is_far(conn))
        result = -EAGAIN; /* pipe_lost_here is on its way, and says how it has ended */
    switch (result) {
    case 0:
        return WEIR_TAKEN;
    case -EAGAIN:
        if (other == NULL)
            w_waitlist_add(conn, W_CORE_BLOCKED);
        return WEIR_LATER;
    case -ESTALE:
    case -ESHUTDOWN:
    case -EPIPE:
        w_conn_drain(conn, WEIR_REASON_LOCAL, 0); /* the other has ended, or is about to */
        return WEIR_TAKEN;
    default:
        return result;
    }
}

void w_pipe_ready(weir_conn *conn)
{
    weir_conn *other = pipe_other_here(conn, w_conn_extra_of(conn)->pipe);
    if (other != NULL && other->later)
        pipe_resume(other);
}

void w_pipe_wanted(struct w_core *core, weir_id id)
{
    weir_conn *conn = weir_find(w_core_shard(core), id);
    if (conn != NULL)
        pipe_resume(conn);
}

void w_pipe_room(struct w_core *core)
{
    weir_conn *last = core->lists[W_CORE_BLOCKED].last, *conn = NULL;
    while (conn != last && (conn = w_waitlist_take(core, W_CORE_BLOCKED)) != NULL)
        pipe_resume(conn);
}

/* --- the end of one way --- */

static void pipe_finish(weir_conn *conn)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    if (extra == NULL || extra->pipe == 0)
        return;
    extra->pipe_finish = true;
    conn->writer.side->reason = WEIR_REASON_LOCAL;
    w_writer_refuse(&conn->writer); /* nothing more goes out behind what the pipe has brought */
    w_conn_schedule(conn, W_CONN_DO_WRITE);
    w_conn_schedule(conn, W_CONN_DO_STEP);
}

static enum w_port_verdict pipe_finish_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t argument)
{
    (void)link;
    (void)id;
    (void)argument;
    if (core != NULL && conn != NULL)
        pipe_finish(conn);
    return W_PORT_DONE;
}

void w_pipe_peer_ended(weir_conn *conn)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    if (!extra->pipe_told) {
        weir_conn *other = pipe_other_here(conn, extra->pipe);
        int result = 0;
        if (other != NULL)
            pipe_finish(other);
        else if (pipe_is_far(conn))
            result = w_port_call(conn->core->port, (weir_id){extra->pipe}, pipe_finish_here, 0);
        if (result == -EAGAIN) { /* comes back by w_pipe_room */
            conn->later = true;
            w_waitlist_add(conn, W_CORE_BLOCKED);
            return;
        }
        extra->pipe_told = true;
    }
    w_pipe_step(conn);
}

void w_pipe_step(weir_conn *conn)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    if (conn->state != W_CONN_OPEN || w_writer_sending(&conn->writer) || w_writer_has_some(&conn->writer))
        return;                                     /* w_conn_sent comes back to it */
    if (extra->pipe_finish && w_session_is(conn)) { /* it has no half-close: it says goodbye */
        w_conn_drain(conn, WEIR_REASON_LOCAL, 0);
        return;
    }
    if (extra->pipe_finish && !conn->half_closed) {
        conn->half_closed = true;
        conn->quick_bytes = 0;
        conn->core->engine->shutdown(conn->core->io, conn->handle, SHUT_WR);
    }
    if (conn->half_closed && extra->pipe_told)
        w_conn_drain(conn, WEIR_REASON_PEER, 0);
}

/* --- the end --- */

/* The other one has ended with `reason`. */
static void pipe_lost(weir_conn *conn, weir_reason reason)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    if (extra == NULL || extra->pipe == 0)
        return;
    extra->pipe = 0;
    w_port_give_later(conn->core->port, &extra->farewell);
    w_conn_trim_extra(conn);
    conn->later = false;
    if (reason == WEIR_REASON_RESET || reason == WEIR_REASON_ABORTED)
        w_conn_end(conn, WEIR_REASON_ABORTED, 0);
    else
        w_conn_drain(conn, conn->peer_ended ? WEIR_REASON_PEER : WEIR_REASON_LOCAL, 0);
}

static enum w_port_verdict pipe_lost_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t reason)
{
    (void)link;
    (void)id;
    if (core != NULL && conn != NULL)
        pipe_lost(conn, (weir_reason)reason);
    return W_PORT_DONE;
}

static enum w_port_verdict pipe_refused_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t error)
{
    (void)link;
    (void)id;
    if (core != NULL && conn != NULL && w_pipe_is(conn))
        w_conn_drain(conn, WEIR_REASON_HANDLER, -(int)error);
    return W_PORT_DONE;
}

void w_pipe_refused(weir_conn *conn, int error)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    if (extra == NULL || extra->pipe == 0)
        return;
    extra->pipe_refused = true;
    struct w_port_later *later = w_port_take_later(conn->core->port);
    if (later != NULL)
        w_port_call_later(conn->core->port, later, (weir_id){extra->pipe}, pipe_refused_here, (uint64_t)-error);
    else
        w_conn_end(conn, WEIR_REASON_NO_MEMORY, -ENOMEM); /* and the other one with it */
}

void w_pipe_over(weir_conn *conn)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    struct w_core *core = conn->core;
    weir_id id = {extra->pipe};
    if (id.value == 0)
        return;
    weir_conn *other = pipe_other_here(conn, id.value);
    if (other != NULL)
        pipe_lost(other, (weir_reason)conn->reason);
    struct w_port_later *farewell = extra->farewell;
    extra->pipe = 0;
    extra->farewell = NULL;
    w_conn_trim_extra(conn);
    if (farewell != NULL)
        w_port_call_later(core->port, farewell, id, pipe_lost_here, conn->reason);
}

/* --- the beginning --- */

/* On b's shard. If it cannot be, a is told that b is lost. */
static enum w_port_verdict pipe_join_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t other)
{
    (void)link;
    (void)id;
    if (core == NULL)
        return W_PORT_DONE;
    struct w_port_later *farewell = w_port_take_later(core->port);
    if (farewell == NULL)
        return W_PORT_NO_MEMORY;
    if (conn == NULL || conn->state != W_CONN_OPEN || w_pipe_is(conn)) {
        w_port_call_later(core->port, farewell, (weir_id){other}, pipe_lost_here, WEIR_REASON_LOCAL);
        return W_PORT_DONE;
    }
    struct w_conn_extra *extra = w_conn_need_extra(conn);
    if (extra == NULL) {
        w_port_give_later(core->port, &farewell);
        return W_PORT_NO_MEMORY;
    }
    extra->pipe = other;
    extra->farewell = farewell;
    pipe_resume(conn);
    return W_PORT_DONE;
}

int weir_pipe(weir_conn *a, weir_id id)
{
    struct w_core *core = a->core;
    w_core_enter(core, __func__);
    if (w_conn_id(a).value == id.value)
        return -EINVAL;
    if (a->state != W_CONN_OPEN)
        return a->state < W_CONN_OPEN ? -ENOTCONN : -EPIPE;
    if (w_pipe_is(a))
        return -EBUSY;
    bool far = w_port_shard_of(id) != core->index;
    weir_conn *b = far ? NULL : weir_find(w_core_shard(core), id);
    if (far ? w_port_shard_of(id) >= core->config->shards ||
                  core->ports->cores[w_port_shard_of(id)]->conn_protocol(core->ports->cores[w_port_shard_of(id)], id) == NULL
            : b == NULL)
        return -ESTALE;
    if (b != NULL && b->state != W_CONN_OPEN)
        return b->state < W_CONN_OPEN ? -ENOTCONN : -EPIPE;
    if (b != NULL && w_pipe_is(b))
        return -EBUSY;
    struct w_conn_extra *extra = w_conn_need_extra(a), *extra_b = b == NULL ? NULL : w_conn_need_extra(b);
    struct w_port_later *farewell = far ? w_port_take_later(core->port) : NULL;
    int result = extra == NULL || (far ? farewell == NULL : extra_b == NULL) ? -ENOMEM : 0;
    if (result == 0 && far)
        result = w_port_call(core->port, id, pipe_join_here, w_conn_id(a).value);
    if (result != 0) {
        w_port_give_later(core->port, &farewell);
        w_conn_trim_extra(a);
        if (b != NULL)
            w_conn_trim_extra(b);
        return result;
    }
    extra->pipe = id.value;
    extra->farewell = farewell;
    if (b != NULL) {
        extra_b->pipe = w_conn_id(a).value;
        pipe_resume(b);
    }
    pipe_resume(a);
    return 0;
}
