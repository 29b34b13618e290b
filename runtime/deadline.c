/* SPDX-License-Identifier: MIT */
/* deadline: a connection's time limits. */
#include "runtime/deadline.h"

#include <errno.h>

#include "runtime/limits.h"

const weir_slow_peer *w_deadline_slow_peer(const weir_conn *conn)
{
    return conn->slow_peer != NULL ? conn->slow_peer : &conn->protocol->limits.slow_peer;
}

static void deadline_earlier(uint64_t *due, weir_reason *reason, uint64_t candidate, weir_reason candidate_reason)
{
    if (candidate < *due) {
        *due = candidate;
        *reason = candidate_reason;
    }
}

/* The next time limit that would end this connection, and what it would be called. */
static uint64_t deadline_next(const weir_conn *conn, weir_reason *reason)
{
    const weir_protocol *protocol = conn->protocol;
    uint64_t due = UINT64_MAX;
    *reason = WEIR_REASON_NONE;
    if (conn->state == W_CONN_DRAINING)
        deadline_earlier(&due, reason, w_base_add_saturated(conn->state_ns, w_limits_drain_ns(protocol)), WEIR_REASON_DRAIN_LATE);
    if (conn->state == W_CONN_SHAKING)
        deadline_earlier(&due, reason, w_base_add_saturated(conn->state_ns, w_limits_handshake_ns(protocol)),
                         conn->answered && conn->reader.stash == NULL ? WEIR_REASON_IDLE : WEIR_REASON_HANDSHAKE_LATE);
    if (conn->state != W_CONN_OPEN)
        return due;
    if (!conn->greeted && !w_conn_stopped(conn))
        deadline_earlier(&due, reason, w_base_add_saturated(conn->state_ns, w_limits_first_ns(protocol)), WEIR_REASON_FIRST_LATE);
    if (conn->partial && !w_conn_stopped(conn))
        deadline_earlier(&due, reason, w_base_add_saturated(conn->partial_ns, w_limits_message_ns(protocol)), WEIR_REASON_MESSAGE_LATE);
    deadline_earlier(&due, reason, w_base_add_saturated(conn->activity_ns, w_limits_idle_ns(protocol)), WEIR_REASON_IDLE);
    uint64_t stalled_ns = w_deadline_slow_peer(conn)->stalled_ns_max;
    if (stalled_ns != 0 && (w_writer_queued_bytes(&conn->writer) > 0 || w_writer_sending(&conn->writer)))
        deadline_earlier(&due, reason, w_base_add_saturated(conn->shared.progress_ns, stalled_ns), WEIR_REASON_SLOW_TIME);
    return due;
}

void w_deadline_watch(weir_conn *conn)
{
    weir_reason reason;
    uint64_t due = deadline_next(conn, &reason);
    if (due >= conn->watch_ns)
        return;
    conn->watch_ns = due;
    w_wheel_set(&conn->core->wheel, &conn->timer, W_CORE_TIMER_CONN, due);
}

void w_deadline_timer(struct w_wheel_entry *entry, void *context, uint64_t now_ns)
{
    weir_conn *conn = W_CONTAINER(entry, weir_conn, timer);
    weir_reason reason;
    (void)context;
    conn->watch_ns = UINT64_MAX;
    if (deadline_next(conn, &reason) <= now_ns)
        w_conn_end(conn, reason, -ETIMEDOUT);
    else
        w_deadline_watch(conn);
}
