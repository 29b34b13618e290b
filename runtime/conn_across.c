/* SPDX-License-Identifier: MIT */
/* conn_across: what other threads have to do with a connection: messages under way, pressure, wants, own channels. On its shard.
 *
 * Road:    a record arrives -> the message goes into the channel, whatever the marks say (its sender was under them when it sent) -> above the high-water mark the
 *          word is pressed, so that the next sender is refused before it puts anything into a ring -> below the low-water mark it is relieved, and those that
 *          want to know are told.
 * Ditches: no memory -> the record stays where it is until there is some; pressed no more when a want arrives -> told at once. */
#include <errno.h>

#include "runtime/deadline.h"
#include "runtime/group.h"
#include "runtime/limits.h"
#include "runtime/pipe.h"
#include "runtime/session.h"
#include "runtime/waitlist.h"

/* --- what few connections have --- */

struct w_conn_extra *w_conn_need_extra(weir_conn *conn)
{
    if (w_writer_need_side(conn->core, &conn->writer) != 0)
        return NULL;
    struct w_writer_side *side = conn->writer.side;
    if (side->extra == NULL) {
        side->extra = w_pool_take(&conn->core->pool, sizeof *side->extra);
        if (side->extra != NULL)
            *side->extra = (struct w_conn_extra){0};
        else
            w_writer_trim(conn->core, &conn->writer);
    }
    return conn->writer.side == NULL ? NULL : conn->writer.side->extra;
}

void w_conn_trim_extra(weir_conn *conn)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    if (extra == NULL || extra->wants != NULL || extra->groups != NULL || extra->pipe != 0)
        return;
    w_pool_give(&conn->core->pool, extra, sizeof *extra);
    conn->writer.side->extra = NULL;
    w_writer_trim(conn->core, &conn->writer);
}

/* --- pressure --- */

void w_conn_press(weir_conn *conn)
{
    if (conn->state != W_CONN_OPEN)
        return;
    w_stats_set(&conn->shared.word, conn->shared.word | W_CORE_PRESSED);
}

/* The pressure is over: whoever wanted to know is told. */
static void conn_tell_wants(weir_conn *conn)
{
    struct w_conn_extra *extra = w_conn_extra_of(conn);
    if (extra == NULL || extra->wants == NULL)
        return;
    struct w_port_note *note = extra->wants;
    extra->wants = NULL;
    w_conn_trim_extra(conn);
    for (struct w_port_note *next; note != NULL; note = next) {
        next = note->next;
        w_port_tell_ready(conn->core, note);
    }
}

void w_conn_relieve(weir_conn *conn)
{
    w_stats_set(&conn->shared.word, w_conn_generation(conn));
    conn_tell_wants(conn);
}

void w_conn_turn_away(weir_conn *conn)
{
    w_stats_set(&conn->shared.word, w_conn_generation(conn) | W_CORE_ENDING);
    conn_tell_wants(conn);
}

int w_conn_want(weir_conn *conn, const struct w_link *link, const struct w_port_want *want)
{
    if (conn->state != W_CONN_OPEN || (conn->shared.word & W_CORE_PRESSED) == 0)
        return -EALREADY;
    struct w_conn_extra *extra = w_conn_need_extra(conn);
    struct w_port_note *note;
    if (extra == NULL)
        return -ENOMEM;
    for (note = extra->wants; note != NULL; note = note->next)
        if (note->port == link->port->number && note->answer.want.asker == want->asker && note->answer.want.conn == want->conn) {
            note->serial = link->port->serial;
            return 0;
        }
    note = w_pool_take(&conn->core->pool, sizeof *note);
    if (note == NULL) {
        w_conn_trim_extra(conn);
        return -ENOMEM;
    }
    *note = (struct w_port_note){
        .next = extra->wants,
        .port = link->port->number,
        .serial = link->port->serial,
        .answer = {.kind = WEIR_PORT_READY, .id = w_conn_id(conn).value, .want = *want},
    };
    extra->wants = note;
    return 0;
}

/* --- messages --- */

/* 0 when it takes messages. */
static int conn_not_open(const weir_conn *conn)
{
    if (W_LIKELY(conn->state == W_CONN_OPEN && !conn->half_closed))
        return 0;
    return conn->state < W_CONN_OPEN && conn->state != W_CONN_FREE ? -ENOTCONN : -EPIPE;
}

int w_conn_take_crossed(weir_conn *conn, const void *data, uint32_t bytes, weir_blob *blob, uint32_t offset)
{
    weir_seal seal;
    const weir_codec *codec = &conn->protocol->codec;
    struct w_channel *channel = &conn->writer.channel;
    int result = conn_not_open(conn);
    if (W_UNLIKELY(result != 0) || (result = codec->seal(codec, data, bytes, &seal)) != 0)
        return result;
    conn->writer.reserved_bytes = 0;
    bool was_empty = channel->queued_bytes == 0;
    if (W_UNLIKELY(w_session_packs(conn)))
        result = w_session_put(conn, codec, &seal, data, bytes);
    else if (blob == NULL || codec->copy != NULL)
        result = w_channel_put_sealed(conn->core, channel, codec, &seal, data, bytes);
    else
        result = w_channel_put_blob(conn->core, channel, &seal, blob, offset, bytes, codec->boundaries);
    if (W_UNLIKELY(result != 0)) {
        w_conn_refuse_for_memory(conn); /* it is thirsty: the shard sees to it that there is memory, or that somebody ends */
        return -ENOMEM;
    }
    if (was_empty || !(conn->agenda & W_CONN_DO_WRITE))
        w_conn_wants_send(conn, was_empty);
    if (W_UNLIKELY(channel->queued_bytes >= w_limits_high_water(conn->protocol)))
        w_conn_press(conn);
    return 0;
}

/* --- own channels --- */

int w_conn_attach(weir_conn *conn, weir_channel *channel)
{
    int result = conn_not_open(conn);
    if (result == 0)
        result = w_writer_attach(conn->core, &conn->writer, channel);
    if (result == 0)
        w_conn_schedule(conn, W_CONN_DO_WRITE);
    return result;
}

void w_conn_heard(weir_conn *conn, weir_channel *channel)
{
    w_writer_heard(&conn->writer, channel);
    w_conn_schedule(conn, W_CONN_DO_WRITE);
}

void w_conn_count_begun(weir_conn *conn)
{
    struct w_writer_side *side = conn->writer.side;
    weir_stats *stats = &conn->core->stats;
    if (W_LIKELY(side == NULL || side->begun_bytes == 0))
        return;
    w_stats_add(&stats->messages_sent, (uint64_t)(int64_t)side->begun_messages);
    w_stats_add(&stats->bytes_sent, (uint64_t)(int64_t)side->begun_bytes);
    w_stats_add(&conn->shared.bytes_put, (uint64_t)(int64_t)side->begun_bytes);
    if (conn->counted_bytes == 0) /* nothing else was waiting */
        w_stats_set(&conn->shared.progress_ns, conn->core->io->now_ns);
    if (w_deadline_slow_peer(conn)->stalled_ns_max != 0)
        w_deadline_watch(conn);
    side->begun_messages = side->begun_bytes = 0;
}

/* --- the end --- */

void w_conn_leave_others(weir_conn *conn)
{
    weir_stats *stats = &conn->core->stats;
    uint64_t messages, bytes;
    if (W_LIKELY(conn->writer.side == NULL))
        return;
    w_conn_count_begun(conn);
    w_writer_detach_all(conn->core, &conn->writer, (weir_reason)conn->reason, &messages, &bytes);
    w_stats_add(&stats->messages_undelivered, messages); /* the producers are told in their own sums */
    w_stats_add(&stats->bytes_undelivered, bytes);
    if (w_conn_extra_of(conn) != NULL)
        w_group_leave_all(conn);
    if (w_conn_extra_of(conn) != NULL)
        w_pipe_over(conn);
    w_conn_turn_away(conn); /* it was abandoned by a broken shard */
}
