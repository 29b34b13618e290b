/* SPDX-License-Identifier: MIT */
/* weir/conn.h: what a handler does with a connection.
 *
 * Everything here runs on the connection's own shard: inside a callback, or between turns on the thread that turns the
 * shard. From another thread it aborts with a line that names both threads. Nothing here blocks, calls back, or frees the
 * connection under your feet: an end that you ask for is told by on_close after you have returned.
 *
 * Sending: weir copies what you send once, sealed, into the connection's channel, and at the end of the turn one operation
 * takes all that is queued. A send that answered 0 is accounted for: taken whole by the kernel, or counted in the close event. */
#ifndef WEIR_CONN_H
#define WEIR_CONN_H

#include <weir/base.h>
#include <weir/protocol.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- who it is --- */

weir_id weir_conn_id(const weir_conn *conn);
weir_shard *weir_conn_shard(const weir_conn *conn);
const weir_protocol *weir_conn_protocol(const weir_conn *conn);

/* Your pointer: at first what the listen, dial or adopt options said, then what you set. weir never looks at it. */
void *weir_conn_user(const weir_conn *conn);
void weir_conn_set_user(weir_conn *conn, void *user);

/* Writes the peer's address as text ("192.0.2.1:4711", "[2001:db8::1]:4711", "unix:@name", "unix:" for an unnamed peer), cut to
 * fit and always ended. 0, -ENOTCONN when the peer is gone, -ENOSPC when it was cut. Any time until on_close returns. */
int weir_conn_peer(const weir_conn *conn, char *text, size_t text_bytes);

/* Inside on_open: what the peer has said in its handshake (a WebSocket's HTTP head: weir_http_parse_request() takes it apart). It lives until on_open returns.
 * NULL anywhere else, and for codecs that do not shake hands. */
const weir_message *weir_conn_handshake(const weir_conn *conn);
/* The memory of its codec's session (weir/session.h); NULL: it has none, or is not that far. */
void *weir_conn_session(const weir_conn *conn);

/* The connection an id names, or NULL when it has ended or lives on another shard. The pointer is good until you return. */
weir_conn *weir_find(weir_shard *shard, weir_id id);

/* --- sending --- */

/* Sends one message: copied, yours again at once. On all of these:
 *   0            accepted (and accounted for)
 *   -EAGAIN      no room: above the high-water mark, or no block to be had within the shard's memory budget. on_ready will tell
 *   -EMSGSIZE    over the codec's message_max_bytes, or more than hard_limit_bytes could ever take
 *   -EBADMSG     the codec cannot carry this payload (an LF in a line)
 *   -EPIPE       the connection is ending; nothing more goes out
 *   -ENOTCONN    a dial that is not open yet */
int weir_send(weir_conn *conn, const void *data, uint32_t bytes);

/* The same for whom the id names: -ESTALE when it has ended. When it lives on another shard the message crosses through this shard's port: what weir_port_send() says
 * holds (weir/port.h), -EAGAIN and on_port_event among it. */
int weir_send_to(weir_shard *shard, weir_id id, const void *data, uint32_t bytes);

/* As weir_send, but ahead of all queued messages, at the next message boundary. For the few bytes that must not wait behind
 * a megabyte of data (a pong, a goodbye): the lane holds 4 KiB less a little, full is -EAGAIN without an on_ready. Not for codecs
 * without boundaries (-EINVAL). */
int weir_send_control(weir_conn *conn, const void *data, uint32_t bytes);

/* The same, as a message of another kind than the codec's own (weir/websocket.h): -EINVAL: the codec knows no such kind. */
int weir_send_kind(weir_conn *conn, uint8_t kind, const void *data, uint32_t bytes);
int weir_send_control_kind(weir_conn *conn, uint8_t kind, const void *data, uint32_t bytes);

/* Builds a message in place: reserve room for a payload of up to `bytes` (at most WEIR_RESERVE_MAX_BYTES), write it at room->data,
 * then weir_commit() what it came to. One reserve at a time on a connection; it ends with the callback it was made in (or the
 * turn), or at the next send on that connection: what was not committed then is gone. Errors as weir_send. */
#define WEIR_RESERVE_MAX_BYTES (UINT32_C(64) * 1024 - 256)
typedef struct weir_room {
    uint8_t *data;
    uint32_t bytes;
} weir_room;
int weir_reserve(weir_conn *conn, uint32_t bytes, weir_room *room);
/* 0, -EBADMSG (the codec cannot carry it; the reserve is over), -EPIPE (the connection has begun to end since), or -EINVAL (no reserve, or more bytes than
 * reserved). */
int weir_commit(weir_conn *conn, uint32_t bytes);

/* --- without a copy --- */

/* A big payload, counted by references. */
typedef struct weir_blob weir_blob;

/* Sends on what was just received, as a message of its kind: by reference from 4 KiB (no copy is made), copied below. Inside on_message, with its message;
 * `to` may be the same or another connection of this shard. Errors as weir_send. */
int weir_forward(weir_conn *from, const weir_message *message, weir_conn *to);

/* Keeps a received message after on_message has returned. Inside on_message of `conn`, with its message. Answers a blob with one
 * reference that is yours, to be given back with weir_blob_release(); the bytes do not move and must not be written. While it
 * lives it may pin the receive buffer it came in; when buffers are short, or this connection pins its share of an eighth
 * of them, the message is copied instead. NULL: no memory within the shard's budget. */
weir_blob *weir_hold(weir_conn *conn, const weir_message *message);

const uint8_t *weir_blob_data(const weir_blob *blob);
uint32_t weir_blob_bytes(const weir_blob *blob);

/* One more reference, one less. weir_blob_release sets your pointer to NULL; NULL is left alone. On the blob's shard. */
weir_blob *weir_blob_hold(weir_blob *blob);
void weir_blob_release(weir_blob **blob);

/* Sends bytes [offset, offset + bytes) of a blob as one message: by reference from 4 KiB (the connection then holds its own reference),
 * copied below. The blob stays yours. Errors as weir_send; -EINVAL when the range leaves the blob. */
int weir_send_blob(weir_conn *conn, weir_blob *blob, uint32_t offset, uint32_t bytes);

/* --- the flow --- */

/* Stops delivering after the current message, and lets the peer's window close. Nothing is lost, order stays. Until weir_resume().
 * Pausing twice is pausing once. Resume outside on_message delivers within the next turn. */
void weir_pause(weir_conn *conn);
void weir_resume(weir_conn *conn);

/* Changes the slow-peer policy of one connection; NULL: the protocol's again. Kept by pointer: must stay until replaced or on_close. */
void weir_set_slow_peer(weir_conn *conn, const weir_slow_peer *policy);

/* --- the end --- */

/* Ends gracefully: no more messages are delivered, what is queued is sent, our side is closed, and the peer's end is awaited, all within
 * limits.drain_ns. May be called in any state and often; the first reason stays. */
void weir_end(weir_conn *conn);
/* Ends at once: queued messages are dropped and counted as undelivered, the peer sees a reset. */
void weir_abort(weir_conn *conn);
/* By id, on any shard: 0, -ESTALE, -EAGAIN as weir_send_to. */
int weir_end_id(weir_shard *shard, weir_id id);

#ifdef __cplusplus
}
#endif

#endif
