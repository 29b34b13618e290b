/* SPDX-License-Identifier: MIT */
/* calls: what weir/conn.h promises, put together from conn, reader, writer and channel. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/io/address.h"
#include "runtime/limits.h"
#include "runtime/session.h"
#include "runtime/table.h"

/* --- who it is --- */

weir_id weir_conn_id(const weir_conn *conn)
{
    return w_conn_id(conn);
}

weir_shard *weir_conn_shard(const weir_conn *conn)
{
    return w_core_shard(conn->core);
}

const weir_protocol *weir_conn_protocol(const weir_conn *conn)
{
    return conn->protocol;
}

void *weir_conn_user(const weir_conn *conn)
{
    return conn->user;
}

const weir_message *weir_conn_handshake(const weir_conn *conn)
{
    w_core_require_thread(conn->core, __func__);
    return conn->core->origin.reader == &conn->reader ? conn->core->handshake : NULL;
}

void *weir_conn_session(const weir_conn *conn)
{
    w_core_require_thread(conn->core, __func__);
    return conn->reader.session;
}

void weir_conn_set_user(weir_conn *conn, void *user)
{
    w_core_require_thread(conn->core, __func__);
    conn->user = user;
}

int weir_conn_peer(const weir_conn *conn, char *text, size_t text_bytes)
{
    w_core_require_thread(conn->core, __func__);
    struct w_io_address address;
    if (text_bytes > 0)
        text[0] = '\0';
    if (conn->handle < 0 || conn->state == W_CONN_FREE ||
        conn->core->engine->peer_address(conn->core->engine->world, conn->handle, &address) != 0)
        return -ENOTCONN;
    return w_address_peer_text(&address, text, text_bytes);
}

/* 0 with *conn, -ESTALE, or -EXDEV. */
static int calls_find(weir_shard *shard, weir_id id, weir_conn **conn)
{
    struct w_core *core = w_core_of(shard);
    *conn = NULL;
    if (id.value >> (W_CONN_GENERATION_BITS + W_CONN_SLOT_BITS) != core->index)
        return -EXDEV;
    uint32_t slot = (uint32_t)(id.value >> W_CONN_GENERATION_BITS) & W_CONN_SLOT_MASK;
    *conn = w_table_find(core->conns, slot, id.value & W_CONN_GENERATION_MASK);
    return *conn == NULL ? -ESTALE : 0;
}

weir_conn *weir_find(weir_shard *shard, weir_id id)
{
    w_core_require_thread(w_core_of(shard), __func__);
    weir_conn *conn;
    calls_find(shard, id, &conn);
    return conn;
}

/* --- sending --- */

/* After the channel took it (0) or had no memory. */
static inline int calls_put(weir_conn *conn, int result, bool was_empty)
{
    if (W_UNLIKELY(result != 0))
        return w_conn_refuse_for_memory(conn);
    if (W_UNLIKELY(was_empty || !(conn->agenda & W_CONN_DO_WRITE)))
        w_conn_wants_send(conn, was_empty);
    return 0;
}

/* The long way: refused, or something to do beside the copy. */
static __attribute__((noinline)) int calls_send_rest(weir_conn *conn, const weir_codec *codec, const void *data, uint32_t bytes,
                                                     const weir_seal *seal)
{
    int result = w_conn_may_send(conn, seal->head_bytes + bytes + seal->trailer_bytes);
    if (result != 0)
        return result;
    bool was_empty = conn->writer.channel.queued_bytes == 0;
    result = w_session_packs(conn) ? w_session_put(conn, codec, seal, data, bytes)
                                   : w_channel_put_sealed(conn->core, &conn->writer.channel, codec, seal, data, bytes);
    return calls_put(conn, result, was_empty);
}

/* With no head known beforehand, or with no room for it in the channel's last block. */
static __attribute__((noinline)) int calls_send_sealed(weir_conn *conn, const weir_codec *codec, const void *data, uint32_t bytes,
                                                       bool quick)
{
    weir_seal seal;
    int result = codec->seal(codec, data, bytes, &seal);
    if (W_UNLIKELY(result != 0))
        return result;
    conn->writer.reserved_bytes = 0;
    if (W_LIKELY(quick))
        return W_LIKELY(w_channel_put(conn->core, &conn->writer.channel, &seal, data, bytes, codec->boundaries) == 0)
                   ? 0
                   : w_conn_refuse_for_memory(conn);
    return calls_send_rest(conn, codec, data, bytes, &seal);
}

static inline __attribute__((always_inline)) int calls_send(weir_conn *conn, const weir_codec *codec, const void *data, uint32_t bytes)
{
    /* Open, a send due in this turn anyway, and under the marks: nothing to do but the copy. */
    struct w_channel *channel = &conn->writer.channel;
    bool quick = (conn->agenda & W_CONN_DO_WRITE) && conn->state == W_CONN_OPEN && channel->queued_bytes - 1 < conn->quick_bytes &&
                 bytes < W_BLOB_WORTH_BYTES;
    if (W_LIKELY(quick && codec->length_bytes != 0 && bytes <= codec->message_max_bytes &&
                 w_channel_put_length(channel, codec, data, bytes))) {
        conn->writer.reserved_bytes = 0;
        return 0;
    }
    return calls_send_sealed(conn, codec, data, bytes, quick);
}

int weir_send(weir_conn *conn, const void *data, uint32_t bytes)
{
    w_core_require_settled(conn->core, __func__);
    return calls_send(conn, &conn->protocol->codec, data, bytes);
}

/* The codec for messages of a kind, perhaps made in `other`; NULL: there is none. */
static const weir_codec *calls_codec_as(const weir_conn *conn, uint8_t kind, weir_codec *other)
{
    const weir_codec *codec = &conn->protocol->codec;
    return codec->session != NULL && codec->session->as != NULL ? codec->session->as(codec, kind, other) : NULL;
}

int weir_send_kind(weir_conn *conn, uint8_t kind, const void *data, uint32_t bytes)
{
    weir_codec other;
    w_core_require_settled(conn->core, __func__);
    const weir_codec *codec = calls_codec_as(conn, kind, &other);
    return codec != NULL ? calls_send(conn, codec, data, bytes) : -EINVAL;
}

int weir_send_to(weir_shard *shard, weir_id id, const void *data, uint32_t bytes)
{
    static const struct w_port_want want_of_user = {.asker = W_PORT_ASKER_USER};
    w_core_require_thread(w_core_of(shard), __func__);
    weir_conn *conn;
    int result = calls_find(shard, id, &conn);
    if (result == -EXDEV)
        return w_port_put(w_core_of(shard)->port, id, data, bytes, &want_of_user);
    return result != 0 ? result : weir_send(conn, data, bytes);
}

static int calls_send_control(weir_conn *conn, const weir_codec *codec, const void *data, uint32_t bytes)
{
    weir_seal seal;
    if (!codec->boundaries)
        return -EINVAL;
    int result = codec->seal(codec, data, bytes, &seal);
    if (result != 0)
        return result;
    if (conn->state != W_CONN_OPEN)
        return conn->state < W_CONN_OPEN && conn->state != W_CONN_FREE ? -ENOTCONN : -EPIPE;
    if (conn->half_closed) /* a pipe's: its other end's peer has finished */
        return -EPIPE;
    uint32_t sealed_bytes = seal.head_bytes + bytes + seal.trailer_bytes;
    bool was_empty = w_writer_queued_bytes(&conn->writer) == 0;
    if (sealed_bytes > W_WRITER_LANE_BYTES)
        return -EMSGSIZE;
    result = w_writer_put_control(conn->core, &conn->writer, codec, &seal, data, bytes);
    if (result == 0)
        w_conn_wants_send(conn, was_empty);
    return result;
}

int weir_send_control(weir_conn *conn, const void *data, uint32_t bytes)
{
    w_core_require_settled(conn->core, __func__);
    return calls_send_control(conn, &conn->protocol->codec, data, bytes);
}

int weir_send_control_kind(weir_conn *conn, uint8_t kind, const void *data, uint32_t bytes)
{
    weir_codec other;
    w_core_require_settled(conn->core, __func__);
    const weir_codec *codec = calls_codec_as(conn, kind, &other);
    return codec != NULL ? calls_send_control(conn, codec, data, bytes) : -EINVAL;
}

int weir_reserve(weir_conn *conn, uint32_t bytes, weir_room *room)
{
    w_core_require_settled(conn->core, __func__);
    const weir_codec *codec = &conn->protocol->codec;
    conn->writer.reserved_bytes = 0;
    if (bytes > WEIR_RESERVE_MAX_BYTES || bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    uint32_t sealed_bytes = codec->head_max_bytes + bytes + codec->trailer_max_bytes;
    int result = w_conn_may_send(conn, sealed_bytes);
    if (result != 0)
        return result;
    uint8_t *place = w_channel_reserve(conn->core, &conn->writer.channel, sealed_bytes);
    if (place == NULL)
        return w_conn_refuse_for_memory(conn);
    conn->writer.reserved_bytes = sealed_bytes;
    *room = (weir_room){.data = place + codec->head_max_bytes, .bytes = bytes};
    w_conn_schedule(conn, W_CONN_DO_UNRESERVE);
    return 0;
}

int weir_commit(weir_conn *conn, uint32_t bytes)
{
    weir_seal seal;
    w_core_require_settled(conn->core, __func__);
    const weir_codec *codec = &conn->protocol->codec;
    uint32_t reserved_bytes = conn->writer.reserved_bytes, most = reserved_bytes - codec->head_max_bytes - codec->trailer_max_bytes;
    if (reserved_bytes == 0 || bytes > most)
        return -EINVAL;
    if (conn->state != W_CONN_OPEN)
        return -EPIPE;
    conn->writer.reserved_bytes = 0;
    struct w_channel *channel = &conn->writer.channel;
    uint8_t *place = w_channel_reserve(conn->core, channel, reserved_bytes); /* the same place again: nothing came between */
    uint8_t *payload = place + codec->head_max_bytes;
    int result = codec->seal(codec, payload, bytes, &seal);
    if (result != 0)
        return result;
    if (W_UNLIKELY(w_session_packs(conn)))
        bytes = w_session_pack_in_place(conn, codec, &seal, payload, bytes);
    /* A head shorter than the longest one: the payload moves up to it. */
    if (seal.head_bytes != codec->head_max_bytes)
        memmove(place + seal.head_bytes, payload, bytes);
    if (W_UNLIKELY(codec->copy != NULL))
        codec->copy(&seal, place + seal.head_bytes, place + seal.head_bytes, bytes, 0);
    memcpy(place, seal.head, seal.head_bytes);
    memcpy(place + seal.head_bytes + bytes, seal.trailer, seal.trailer_bytes);
    uint32_t sealed_bytes = seal.head_bytes + bytes + seal.trailer_bytes;
    bool was_empty = channel->queued_bytes == 0;
    w_channel_commit(channel, sealed_bytes, codec->boundaries);
    return calls_put(conn, 0, was_empty);
}

/* --- without a copy --- */

weir_blob *weir_hold(weir_conn *conn, const weir_message *message)
{
    w_core_require_thread(conn->core, __func__);
    return w_reader_hold(conn->core, &conn->reader, message);
}

static int calls_send_blob(weir_conn *conn, const weir_codec *codec, weir_blob *blob, uint32_t offset, uint32_t bytes)
{
    weir_seal seal;
    if (bytes < W_BLOB_WORTH_BYTES || codec->copy != NULL || w_session_packs(conn))
        return calls_send(conn, codec, blob->data + offset, bytes);
    int result = codec->seal(codec, blob->data + offset, bytes, &seal);
    conn->writer.reserved_bytes = 0;
    if (result == 0)
        result = w_conn_may_send(conn, seal.head_bytes + bytes + seal.trailer_bytes);
    if (result != 0)
        return result;
    bool was_empty = conn->writer.channel.queued_bytes == 0;
    result = w_channel_put_blob(conn->core, &conn->writer.channel, &seal, blob, offset, bytes, codec->boundaries);
    return calls_put(conn, result, was_empty);
}

int weir_send_blob(weir_conn *conn, weir_blob *blob, uint32_t offset, uint32_t bytes)
{
    w_core_require_settled(conn->core, __func__);
    if (offset > blob->bytes || bytes > blob->bytes - offset)
        return -EINVAL;
    return calls_send_blob(conn, &conn->protocol->codec, blob, offset, bytes);
}

static __attribute__((noinline)) int calls_forward_big(weir_conn *from, const weir_message *message, weir_conn *to, const weir_codec *codec)
{
    /* Refused ones should not pay for a blob. */
    int result = w_conn_may_send(to, message->bytes + codec->head_max_bytes + codec->trailer_max_bytes);
    if (result != 0)
        return result;
    weir_blob *blob = codec->copy != NULL || w_session_packs(to) ? NULL : w_reader_hold(from->core, &from->reader, message);
    if (blob == NULL)
        return calls_send(to, codec, message->data, message->bytes);
    result = calls_send_blob(to, codec, blob, 0, message->bytes);
    weir_blob_release(&blob);
    return result;
}

int weir_forward(weir_conn *from, const weir_message *message, weir_conn *to)
{
    weir_codec other;
    w_core_require_settled(to->core, __func__);
    const weir_codec *codec = W_UNLIKELY(message->kind != 0) ? calls_codec_as(to, message->kind, &other) : NULL;
    if (codec == NULL)
        codec = &to->protocol->codec;
    if (message->bytes < W_BLOB_WORTH_BYTES)
        return calls_send(to, codec, message->data, message->bytes);
    return calls_forward_big(from, message, to, codec);
}

/* --- the flow and the end --- */

void weir_pause(weir_conn *conn)
{
    w_core_enter(conn->core, __func__);
    w_conn_pause(conn);
}

void weir_resume(weir_conn *conn)
{
    w_core_enter(conn->core, __func__);
    w_conn_resume(conn);
}

void weir_set_slow_peer(weir_conn *conn, const weir_slow_peer *policy)
{
    w_core_enter(conn->core, __func__);
    w_conn_set_slow_peer(conn, policy);
}

void weir_end(weir_conn *conn)
{
    w_core_enter(conn->core, __func__);
    w_conn_drain(conn, WEIR_REASON_LOCAL, 0);
}

void weir_abort(weir_conn *conn)
{
    w_core_enter(conn->core, __func__);
    w_conn_end(conn, WEIR_REASON_ABORTED, 0);
}

int weir_end_id(weir_shard *shard, weir_id id)
{
    w_core_enter(w_core_of(shard), __func__);
    weir_conn *conn;
    int result = calls_find(shard, id, &conn);
    if (result == -EXDEV)
        return weir_port_end(w_core_of(shard)->port, id);
    if (result == 0)
        w_conn_drain(conn, WEIR_REASON_LOCAL, 0);
    return result;
}
