/* SPDX-License-Identifier: MIT */
/* conn: one connection's life, but for its end (conn_end.c).
 *
 * Road:    connected -> on_open -> receive, deliver, send ... -> peer's end or weir_end.
 * Ditches: no receive buffer -> the starved list; a callback cannot go on -> receiving is cancelled, bytes wait in the reader;
 *          codec's error, handler's error -> drain with that reason; time limits, reset, no memory -> end with that reason. */
#include "runtime/conn.h"

#include <errno.h>
#include <string.h>

#include "runtime/deadline.h"
#include "runtime/group.h"
#include "runtime/limits.h"
#include "runtime/pipe.h"
#include "runtime/session.h"
#include "runtime/waitlist.h"

void w_conn_schedule(weir_conn *conn, enum w_conn_agenda what)
{
    conn->agenda |= (uint8_t)what;
    w_waitlist_add(conn, W_CORE_AGENDA);
    if (W_UNLIKELY(!conn->core->in_turn))
        conn->core->engine->wake(conn->core->io);
}

/* --- the beginning --- */

void w_conn_set_slow_peer(weir_conn *conn, const weir_slow_peer *policy)
{
    conn->slow_peer = policy;
    w_deadline_watch(conn);
}

static uint32_t conn_quick_bytes(const weir_protocol *protocol)
{
    if (protocol->codec.copy != NULL) /* more to do than a copy */
        return 0;
    uint32_t largest = W_BLOB_WORTH_BYTES + WEIR_HEAD_MAX_BYTES + WEIR_TRAILER_MAX_BYTES, hard_limit_bytes = w_limits_hard(protocol);
    return hard_limit_bytes <= largest ? 0 : w_base_min_u32(w_limits_high_water(protocol), hard_limit_bytes - largest) - 1;
}

void w_conn_init(weir_conn *conn, struct w_core *core, const weir_protocol *protocol, void *user, uint32_t origin)
{
    /* Lists of the core may still hold the slot, and blobs of an earlier tenant may still be charged to it. */
    uint32_t next[W_CORE_LISTS];
    uint8_t listed = conn->listed;
    memcpy(next, conn->next, sizeof next);
    uint32_t slot = conn->slot, pinned = conn->reader.pinned;
    /* All but what other threads read: `shared` was set to nothing when the slot was freed, core never changes, and the protocol belongs to whoever
     * has read the same generation before and after it (relaxed: generations order it). */
    memset(&conn->reader, 0, offsetof(weir_conn, shared) - offsetof(weir_conn, reader));
    conn->core = core;
    __atomic_store_n(&conn->protocol, protocol, __ATOMIC_RELAXED);
    conn->user = user;
    conn->origin = origin;
    conn->slot = slot;
    conn->handle = -1;
    conn->state = W_CONN_DIALING;
    conn->watch_ns = UINT64_MAX;
    conn->activity_ns = core->io->now_ns;
    conn->reader.pinned = pinned;
    conn->quick_bytes = conn_quick_bytes(protocol);
    conn->listed = listed;
    memcpy(conn->next, next, sizeof next);
}

void w_conn_connected(weir_conn *conn, int handle)
{
    conn->handle = handle;
    conn->state = W_CONN_OPENING;
    conn->activity_ns = conn->state_ns = conn->core->io->now_ns;
    w_conn_schedule(conn, W_CONN_DO_OPEN);
}

void w_conn_receive(weir_conn *conn)
{
    if (conn->receiving || conn->peer_ended || conn->state < W_CONN_SHAKING || conn->state > W_CONN_DRAINING)
        return;
    conn->receiving = conn->fresh = true;
    conn->core->engine->receive(conn->core->io, conn->handle, w_conn_token_of(conn, W_CONN_RECEIVE));
}

void w_conn_opened(weir_conn *conn)
{
    conn->state = W_CONN_OPEN;
    conn->opened = true;
    conn->partial = conn->greeted = false; /* what was until now was the handshake's */
    weir_stats *stats = &conn->core->stats;
    w_stats_add(conn->dialed ? &stats->dialed : conn->adopted ? &stats->adopted : &stats->accepted, 1);
    conn->state_ns = conn->core->io->now_ns;
    int answer = conn->protocol->on_open != NULL ? conn->protocol->on_open(conn) : 0;
    if (answer < 0)
        w_conn_end(conn, WEIR_REASON_REFUSED, answer);
    else if (conn->state == W_CONN_OPEN)
        w_deadline_watch(conn);
}

static void conn_open(weir_conn *conn)
{
    if (conn->state != W_CONN_OPENING)
        return;
    conn->activity_ns = conn->state_ns = conn->core->io->now_ns; /* the shard may have come to it late */
    conn->state = W_CONN_SHAKING;
    if (conn->protocol->codec.session == NULL)
        w_conn_opened(conn);
    else if (w_session_open(conn))
        w_deadline_watch(conn);
    if (w_conn_listens(conn) && !w_conn_stopped(conn))
        w_waitlist_receive(conn);
}

/* --- inbound --- */

enum w_reader_verdict w_conn_deliver(weir_conn *conn, const weir_message *message)
{
    bool piped = w_pipe_is(conn);
    int answer = W_UNLIKELY(piped)                    ? w_pipe_message(conn, message)
                 : conn->protocol->on_message != NULL ? conn->protocol->on_message(conn, message)
                                                      : WEIR_TAKEN;
    if (W_UNLIKELY(answer == WEIR_LATER)) {
        if (!piped && w_pipe_is(conn)) /* it has just become one: comes again, and goes there */
            w_pipe_wanted(conn->core, w_conn_id(conn));
        w_stats_add(&conn->core->stats.laters, 1);
        conn->later = true;
        return W_READER_AGAIN;
    }
    if (W_UNLIKELY(answer < 0))
        w_conn_drain(conn, WEIR_REASON_HANDLER, answer);
    return W_LIKELY(conn->state == W_CONN_OPEN && !w_conn_stopped(conn)) ? W_READER_NEXT : W_READER_STOP;
}

static enum w_reader_verdict conn_sink(struct w_reader *reader, const weir_message *message)
{
    return w_conn_deliver(W_CONTAINER(reader, weir_conn, reader), message);
}

static inline w_reader_sink conn_sink_of(const weir_conn *conn)
{
    return w_session_is(conn) ? w_session_sink : conn_sink;
}

void w_conn_stop_receiving(weir_conn *conn)
{
    if (!conn->receiving || conn->cancelling)
        return;
    conn->cancelling = true;
    conn->core->engine->cancel(conn->core->io, w_conn_token_of(conn, W_CONN_RECEIVE));
}

/* After a delivery: the time limit of the message begun, and whether to go on receiving. */
static void conn_delivered(weir_conn *conn, int result, uint32_t messages)
{
    if (w_session_is(conn))
        messages -= w_session_count_others(conn);
    w_stats_add(&conn->shared.messages_in, messages);
    w_stats_add(&conn->core->stats.messages_in, messages);
    if (!w_conn_listens(conn))
        return;
    if (result < 0) {
        weir_reason reason = result == -EMSGSIZE ? WEIR_REASON_TOO_BIG : result == -ENOMEM ? WEIR_REASON_MEMORY : WEIR_REASON_BAD_MESSAGE;
        if (result == -ENOMEM)
            w_conn_end(conn, reason, result);
        else
            w_conn_drain(conn, reason, result);
        return;
    }
    bool moved = messages > 0;
    conn->greeted |= moved || conn->later; /* a message that was not taken came too */
    bool partial = (conn->reader.stash != NULL || (w_session_is(conn) && w_session_is_in_parts(conn))) && !w_conn_stopped(conn);
    if (partial && (moved || !conn->partial)) {
        conn->partial_ns = conn->core->io->now_ns;
        conn->partial = true;
        w_deadline_watch(conn);
    }
    conn->partial = partial;
    if (w_conn_stopped(conn))
        w_conn_stop_receiving(conn);
}

/* The peer's end counts once everything before it has been delivered. */
static void conn_peer_ended(weir_conn *conn)
{
    if (conn->state == W_CONN_DRAINING)
        w_conn_schedule(conn, W_CONN_DO_STEP);
    if (!w_conn_listens(conn) || w_conn_stopped(conn) || w_reader_waiting(&conn->reader, &conn->protocol->codec))
        return; /* conn_deliver comes back to it */
    bool truncated = conn->reader.stash != NULL || (w_session_is(conn) && w_session_is_in_parts(conn));
    if (w_pipe_is(conn) && !truncated) {
        w_pipe_peer_ended(conn);
        return;
    }
    w_conn_drain(conn, truncated ? WEIR_REASON_TRUNCATED : WEIR_REASON_PEER, 0);
}

static void conn_took_in(weir_conn *conn, const struct w_io_completion *completion)
{
    struct w_core *core = conn->core;
    uint32_t bytes = (uint32_t)completion->result;
    conn->activity_ns = core->io->now_ns;
    w_stats_add(&conn->shared.bytes_in, bytes);
    w_stats_add(&core->stats.bytes_in, bytes);
    if (!w_conn_listens(conn)) {
        core->engine->buffer_release(core->io, completion->buffer);
        return;
    }
    uint32_t messages = 0;
    int result = w_conn_stopped(conn) || conn->reader.pending_last != NULL
                     ? w_reader_keep(core, &conn->reader, completion->data, bytes, completion->buffer)
                     : w_reader_feed(core, &conn->reader, &conn->protocol->codec, conn_sink_of(conn), completion->data, bytes,
                                     completion->buffer, &messages);
    conn_delivered(conn, result, messages);
}

/* A negative result of a receive or a send, told apart. */
static weir_reason conn_error_reason(int error)
{
    return error == -ECONNRESET || error == -EPIPE || error == -ECONNABORTED ? WEIR_REASON_RESET
           : error == -ENOMEM || error == -ENOBUFS                           ? WEIR_REASON_NO_MEMORY
                                                                             : WEIR_REASON_NETWORK;
}

/* The first bytes of a receive: is there a reset behind them that it would not be told of? Then it is started again. */
static void conn_look_behind(weir_conn *conn)
{
    if (W_LIKELY(!conn->fresh))
        return;
    conn->fresh = false;
    if (conn->receiving && conn->core->engine->hung_up(conn->core->io, conn->handle))
        w_conn_stop_receiving(conn);
}

void w_conn_received(weir_conn *conn, const struct w_io_completion *completion)
{
    int32_t result = completion->result;
    if (!(completion->flags & W_IO_MORE))
        conn->receiving = conn->cancelling = false;
    if (result > 0) {
        conn_look_behind(conn);
        conn_took_in(conn, completion);
    }
    if (result <= 0 && completion->flags & W_IO_BUFFER)
        conn->core->engine->buffer_release(conn->core->io, completion->buffer);
    if (result == -ENOBUFS) {
        w_stats_add(&conn->core->stats.starvations, 1);
        w_waitlist_starve(conn);
    } else if (result == 0) {
        conn->peer_ended = true;
        conn_peer_ended(conn);
    } else if (result < 0 && result != -ECANCELED && result != -EAGAIN && result != -EINTR) {
        conn->peer_ended = true;
        w_conn_end(conn, conn_error_reason(result), result);
    }
    if (conn->receiving)
        return;
    if (conn->state == W_CONN_ENDING)
        w_conn_schedule(conn, W_CONN_DO_STEP);
    else if (!w_waitlist_has(conn, W_CORE_STARVED) && (!w_conn_stopped(conn) || conn->state == W_CONN_DRAINING))
        w_waitlist_receive(conn);
}

static void conn_deliver(weir_conn *conn)
{
    if (!w_conn_listens(conn) || w_conn_stopped(conn))
        return;
    conn->partial = false;
    w_deadline_watch(conn);
    if (!w_reader_empty(&conn->reader)) {
        uint32_t messages = 0;
        int result = w_reader_resume(conn->core, &conn->reader, &conn->protocol->codec, conn_sink_of(conn), &messages);
        conn_delivered(conn, result, messages);
    }
    if (!w_conn_listens(conn) || w_conn_stopped(conn))
        return;
    if (conn->peer_ended)
        conn_peer_ended(conn);
    else if (!w_waitlist_has(conn, W_CORE_STARVED))
        w_waitlist_receive(conn);
}

void w_conn_pause(weir_conn *conn)
{
    conn->paused = true;
    if (w_conn_listens(conn))
        w_conn_stop_receiving(conn);
}

void w_conn_resume(weir_conn *conn)
{
    conn->paused = conn->later = false;
    if (!conn->greeted && conn->state == W_CONN_OPEN) /* it could not say anything meanwhile */
        conn->state_ns = conn->core->io->now_ns;
    if (w_conn_listens(conn))
        w_conn_schedule(conn, W_CONN_DO_DELIVER);
}

/* --- outbound --- */

/* A send is answered -EAGAIN: on_ready is owed. */
static void conn_count_refusal(weir_conn *conn)
{
    conn->pressed = true;
    w_stats_add_u32(&conn->shared.refusals, 1);
    w_stats_add(&conn->core->stats.refusals, 1);
}

int w_conn_may_send(weir_conn *conn, uint32_t sealed_bytes)
{
    if (W_UNLIKELY(conn->state != W_CONN_OPEN))
        return conn->state < W_CONN_OPEN && conn->state != W_CONN_FREE ? -ENOTCONN : -EPIPE;
    if (W_UNLIKELY(conn->half_closed))
        return -EPIPE;
    uint32_t queued_bytes = conn->writer.channel.queued_bytes, hard_limit_bytes = w_limits_hard(conn->protocol);
    if (W_LIKELY(queued_bytes < w_limits_high_water(conn->protocol) && (uint64_t)queued_bytes + sealed_bytes <= hard_limit_bytes))
        return 0;
    if (sealed_bytes > hard_limit_bytes)
        return -EMSGSIZE;
    conn_count_refusal(conn);
    uint64_t queued_bytes_max = w_deadline_slow_peer(conn)->queued_bytes_max;
    if (queued_bytes_max != 0 && queued_bytes >= queued_bytes_max)
        w_conn_end(conn, WEIR_REASON_SLOW_BYTES, -EAGAIN);
    return -EAGAIN;
}

bool w_conn_may_send_all(const weir_conn *conn, uint32_t sealed_bytes)
{
    uint64_t bytes = (uint64_t)conn->writer.channel.queued_bytes + sealed_bytes;
    return conn->state == W_CONN_OPEN && !conn->half_closed && bytes <= w_limits_high_water(conn->protocol) &&
           bytes <= w_limits_hard(conn->protocol);
}

int w_conn_refuse_for_memory(weir_conn *conn)
{
    w_core_between_turns(conn->core);
    conn_count_refusal(conn);
    conn->dry = true;
    w_waitlist_add(conn, W_CORE_THIRSTY);
    return -EAGAIN;
}

void w_conn_wants_send(weir_conn *conn, bool was_empty)
{
    w_core_between_turns(conn->core);
    if (was_empty) {
        w_stats_set(&conn->shared.progress_ns, conn->core->io->now_ns);
        if (w_deadline_slow_peer(conn)->stalled_ns_max != 0)
            w_deadline_watch(conn);
    }
    w_conn_schedule(conn, W_CONN_DO_WRITE);
}

/* What sends have put in since the last time goes into the statistics: once a run, not once a message. */
void w_conn_count_put(weir_conn *conn)
{
    weir_stats *stats = &conn->core->stats;
    uint32_t bytes = (uint32_t)w_writer_queued_bytes(&conn->writer), messages = (uint32_t)w_writer_queued_messages(&conn->writer);
    w_stats_add(&stats->messages_sent, messages - conn->counted_messages);
    w_stats_add(&stats->bytes_sent, bytes - conn->counted_bytes);
    w_stats_add(&conn->shared.bytes_put, bytes - conn->counted_bytes);
    conn->counted_bytes = bytes;
    conn->counted_messages = messages;
    if (W_UNLIKELY(bytes >= w_limits_high_water(conn->protocol)))
        w_conn_press(conn);
}

static void conn_write(weir_conn *conn)
{
    w_conn_count_put(conn);
    if (w_writer_sending(&conn->writer) || conn->state < W_CONN_SHAKING || conn->state > W_CONN_DRAINING ||
        !w_writer_has_some(&conn->writer))
        return;
    bool started = w_writer_start(conn->core, &conn->writer, conn->handle, w_conn_token_of(conn, W_CONN_SEND));
    w_conn_count_begun(conn);
    if (started)
        w_stats_add_u32(&conn->shared.sends, 1);
    else if (w_writer_has_some(&conn->writer)) /* more own channels than are looked at for one run */
        w_conn_schedule(conn, W_CONN_DO_WRITE);
    else if (conn->state == W_CONN_DRAINING || w_pipe_is(conn))
        w_conn_schedule(conn, W_CONN_DO_STEP);
}

static void conn_ready(weir_conn *conn)
{
    if (!w_conn_listens(conn) || !conn->pressed || conn->dry || conn->writer.channel.queued_bytes > w_limits_low_water(conn->protocol))
        return;
    conn->pressed = false;
    if (conn->protocol->on_ready != NULL && conn->state == W_CONN_OPEN)
        conn->protocol->on_ready(conn);
    if (w_pipe_is(conn))
        w_pipe_ready(conn);
    if (conn->later) {
        conn->later = false;
        conn_deliver(conn);
    }
}

void w_conn_sent(weir_conn *conn, int32_t result)
{
    struct w_core *core = conn->core;
    w_conn_count_put(conn);
    uint32_t messages = w_writer_done(core, &conn->writer, result);
    if (result > 0) {
        conn->counted_bytes = (uint32_t)w_writer_queued_bytes(&conn->writer);
        conn->counted_messages = (uint32_t)w_writer_queued_messages(&conn->writer);
        conn->activity_ns = core->io->now_ns;
        w_stats_set(&conn->shared.progress_ns, core->io->now_ns);
        w_stats_add(&conn->shared.messages_out, messages);
        w_stats_add(&conn->shared.bytes_out, (uint64_t)result);
        w_stats_add(&core->stats.messages_out, messages);
        w_stats_add(&core->stats.bytes_out, (uint64_t)result);
    } else if (result < 0 && result != -ECANCELED && result != -EAGAIN && result != -EINTR && conn->state <= W_CONN_DRAINING) {
        w_conn_end(conn, conn_error_reason(result), result);
    }
    if (w_session_is(conn))
        w_session_sent(conn);
    if (conn->state >= W_CONN_DRAINING || w_pipe_is(conn))
        w_conn_schedule(conn, W_CONN_DO_STEP);
    if (w_writer_has_some(&conn->writer))
        w_conn_schedule(conn, W_CONN_DO_WRITE);
    if (W_UNLIKELY(conn->pressed))
        w_conn_schedule(conn, W_CONN_DO_READY);
    if (W_UNLIKELY((conn->shared.word & W_CORE_PRESSED) != 0 && conn->writer.channel.queued_bytes <= w_limits_low_water(conn->protocol)))
        w_conn_relieve(conn);
}

uint64_t w_conn_weight(const weir_conn *conn, bool assembly)
{
    return conn->reader.held_bytes + (assembly ? 0 : w_writer_queued_bytes(&conn->writer));
}

void w_conn_attend(weir_conn *conn)
{
    uint8_t agenda = conn->agenda;
    conn->agenda = 0;
    if (agenda & W_CONN_DO_OPEN)
        conn_open(conn);
    if (agenda & W_CONN_DO_READY)
        conn_ready(conn);
    if (W_UNLIKELY(agenda & W_CONN_DO_AGAIN))
        conn->later = false;
    if (agenda & (W_CONN_DO_DELIVER | W_CONN_DO_AGAIN))
        conn_deliver(conn);
    if (W_UNLIKELY(agenda & W_CONN_DO_UNRESERVE)) {
        conn->writer.reserved_bytes = 0;
        w_channel_unreserve(conn->core, &conn->writer.channel);
    }
    if ((agenda | conn->agenda) & W_CONN_DO_WRITE) {
        conn->agenda &= (uint8_t)~W_CONN_DO_WRITE;
        conn_write(conn);
    }
    if (agenda & W_CONN_DO_STEP) {
        if (conn->state == W_CONN_DRAINING || conn->state == W_CONN_ENDING)
            w_conn_step(conn);
        else if (w_pipe_is(conn))
            w_pipe_step(conn);
    }
}
