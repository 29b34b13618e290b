/* SPDX-License-Identifier: MIT */
/* conn_end: how a connection ends.
 *
 * Road:    drain: what is queued goes out, our side is closed, the peer's end is awaited -> end: operations are cancelled -> join: each has completed -> close ->
 *          on_close -> free.
 * Ditches: end at once from any state -> without the drain; a broken shard -> all at once, without completions (abandon). */
#include <errno.h>

#include "runtime/conn.h"
#include "runtime/deadline.h"
#include "runtime/pipe.h"
#include "runtime/session.h"
#include "runtime/waitlist.h"

/* Was it this program that wanted the end? */
static bool conn_is_ours(weir_reason reason)
{
    return reason == WEIR_REASON_LOCAL || reason == WEIR_REASON_ABORTED || reason == WEIR_REASON_STOPPED;
}

void w_conn_drain(weir_conn *conn, weir_reason reason, int error)
{
    w_core_settle(conn->core); /* what was sent before goes out */
    if (conn->state == W_CONN_DIALING || conn->state == W_CONN_OPENING) {
        w_conn_end(conn, reason, error);
        return;
    }
    if (!w_conn_listens(conn))
        return;
    conn->state = W_CONN_DRAINING;
    conn->ours |= conn_is_ours(reason);
    conn->reason = (uint8_t)reason;
    conn->error = error;
    conn->state_ns = conn->core->io->now_ns;
    w_conn_turn_away(conn); /* who waits for room need not wait until it is gone */
    if (w_pipe_is(conn))
        w_pipe_over(conn);
    if (conn->writer.side != NULL) {
        conn->writer.side->reason = (uint8_t)reason;
        w_writer_refuse(&conn->writer);
    }
    w_deadline_watch(conn);
    w_conn_schedule(conn, W_CONN_DO_STEP);
}

void w_conn_end(weir_conn *conn, weir_reason reason, int error)
{
    struct w_core *core = conn->core;
    if (conn->state == W_CONN_FREE || conn->state >= W_CONN_ENDING)
        return;
    conn->ours |= conn_is_ours(reason);
    /* A graceful end of ours that did not come to its end is called by what stopped it. */
    bool kept = conn->state == W_CONN_DRAINING && conn->reason != WEIR_REASON_LOCAL && conn->reason != WEIR_REASON_STOPPED;
    if (!kept) {
        conn->reason = (uint8_t)reason;
        conn->error = error;
    }
    conn->state = W_CONN_ENDING;
    w_conn_turn_away(conn);
    if (w_pipe_is(conn))
        w_pipe_over(conn);
    w_wheel_clear(&core->wheel, &conn->timer);
    if (conn->handle >= 0) {
        if (reason == WEIR_REASON_ABORTED)
            core->engine->reset_on_close(core->io, conn->handle);
        else if (!conn->half_closed || !conn->peer_ended)
            core->engine->shutdown(core->io, conn->handle, SHUT_RDWR);
    }
    w_conn_stop_receiving(conn);
    if (w_writer_sending(&conn->writer))
        core->engine->cancel(core->io, w_conn_token_of(conn, W_CONN_SEND));
    if (conn->connecting) { /* one of the two */
        core->engine->cancel(core->io, w_conn_token_of(conn, W_CONN_CONNECT));
        core->engine->cancel(core->io, w_conn_token_of(conn, W_CONN_RESOLVE));
    }
    w_conn_schedule(conn, W_CONN_DO_STEP);
}

static void conn_free(weir_conn *conn);

/* Draining: all sent -> our side is closed -> the peer's end has come -> ending. */
static void conn_step_draining(weir_conn *conn)
{
    struct w_core *core = conn->core;
    w_reader_drop(core, &conn->reader);
    if (w_session_is(conn))
        w_session_drop_parts(conn);
    w_waitlist_receive(conn);
    if (w_writer_sending(&conn->writer))
        return;
    if (w_writer_has_some(&conn->writer)) {
        w_conn_schedule(conn, W_CONN_DO_WRITE);
        return;
    }
    if (w_session_is(conn) && (w_session_farewell(conn) || w_session_waits_for_peer(conn)))
        return;
    if (!conn->half_closed) {
        conn->half_closed = true;
        core->engine->shutdown(core->io, conn->handle, SHUT_WR);
    }
    if (conn->peer_ended)
        w_conn_end(conn, (weir_reason)conn->reason, conn->error);
}

/* Ending: nothing in flight any more -> everything goes home -> the handle is closed. */
static void conn_step_ending(weir_conn *conn)
{
    struct w_core *core = conn->core;
    if (conn->receiving || conn->connecting || w_writer_sending(&conn->writer))
        return;
    w_reader_drop(core, &conn->reader);
    conn->state = W_CONN_CLOSING;
    if (conn->handle >= 0)
        core->engine->close_handle(core->io, conn->handle, w_conn_token_of(conn, W_CONN_CLOSE));
    else
        conn_free(conn);
}

void w_conn_step(weir_conn *conn)
{
    if (conn->state == W_CONN_DRAINING)
        conn_step_draining(conn);
    else
        conn_step_ending(conn);
}

void w_conn_closed(weir_conn *conn)
{
    conn_free(conn);
}

static void conn_tell_closed(weir_conn *conn)
{
    weir_stats *stats = &conn->core->stats;
    bool boundaries = conn->protocol->codec.boundaries;
    w_conn_count_put(conn);
    weir_close_event event = {
        .reason = (weir_reason)conn->reason,
        .error = conn->error,
        .undelivered_messages = boundaries ? w_writer_queued_messages(&conn->writer) : 0,
        .undelivered_bytes = w_writer_queued_bytes(&conn->writer),
        .peer_code = conn->peer_code,
    };
    w_stats_add(&stats->messages_undelivered, event.undelivered_messages);
    w_stats_add(&stats->bytes_undelivered, event.undelivered_bytes);
    w_conn_leave_others(conn);
    w_writer_drop(conn->core, &conn->writer);
    bool shaken = w_session_is(conn), told = conn->opened || conn->dialed || conn->adopted;
    if (!told && !shaken)
        return; /* accepted, and stopped before anybody was told */
    w_stats_add(&stats->closed[event.reason], 1);
    w_stats_add(&stats->never_opened, !told);
    if (told && conn->protocol->on_close != NULL)
        conn->protocol->on_close(conn, &event);
    if (shaken)
        w_session_close(conn);
}

static void conn_free(weir_conn *conn)
{
    struct w_core *core = conn->core;
    conn_tell_closed(conn);
    conn->state = W_CONN_FREE;
    conn->agenda = 0;
    core->conn_freed(core, conn);
}

void w_conn_abandon(weir_conn *conn, weir_reason reason, int error)
{
    struct w_core *core = conn->core;
    if (conn->state == W_CONN_FREE)
        return;
    if (conn->state < W_CONN_DRAINING) {
        conn->reason = (uint8_t)reason;
        conn->error = error;
    }
    w_wheel_clear(&core->wheel, &conn->timer);
    conn->receiving = conn->connecting = false;
    w_writer_done(core, &conn->writer, -ECANCELED);
    w_reader_drop(core, &conn->reader);
    if (conn->handle >= 0 && conn->state != W_CONN_CLOSING)
        core->engine->discard(core->engine->world, conn->handle);
    conn->state = W_CONN_CLOSING;
    conn_free(conn);
}
