/* SPDX-License-Identifier: MIT */
/* weir/protocol.h: what a connection speaks: a codec, callbacks, limits.
 *
 * A protocol is a constant of the program: weir keeps the pointer you give to weir_listen, weir_dial or weir_adopt, so it must
 * stay as it is until the runtime is closed. Start from a zeroed struct: every zero is a default that is sane for a server. */
#ifndef WEIR_PROTOCOL_H
#define WEIR_PROTOCOL_H

#include <weir/base.h>
#include <weir/codec.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One inbound message. It lives until the callback returns; weir_hold() (weir/conn.h) makes it live longer. */
typedef struct weir_message {
    const uint8_t *data;
    uint32_t bytes;
    uint8_t kind; /* for codecs that know kinds of messages (weir/websocket.h); else 0 */
} weir_message;

/* What on_message answers. Negative errnos end the connection (WEIR_REASON_HANDLER, with the errno as its error). */
#define WEIR_TAKEN 0 /* done with it */
/* Cannot go on now: this message and all behind it stay where they are, receiving pauses (so the peer's window closes), and the same message is
 * delivered again after the next on_ready, or at weir_resume(). */
#define WEIR_LATER 1

/* How a connection ended. */
typedef struct weir_close_event {
    weir_reason reason;
    int error; /* a negative errno behind the reason, or 0 */
    /* What sends had answered 0 for and the kernel did not take whole. For a codec without boundaries (raw) only bytes count.
     * A message of which a part was taken counts whole in messages, and with its rest in bytes. Bytes are as on the wire. */
    uint64_t undelivered_messages;
    uint64_t undelivered_bytes;
    /* What the peer said of its reason, in a codec that knows such things: a WebSocket's Close code (1005: it gave none), or the HTTP status by which it refused the
     * handshake. 0: nothing. */
    uint32_t peer_code;
} weir_close_event;

/* What to do about a peer that does not read. Refusing is always done (sends answer -EAGAIN above the high-water mark);
 * these end it. Zero: never. */
typedef struct weir_slow_peer {
    uint64_t queued_bytes_max; /* end it (WEIR_REASON_SLOW_BYTES) when a refused send finds at least so many bytes queued;
                                  at most high_water_bytes makes the first refusal the end */
    uint64_t stalled_ns_max;   /* end it (WEIR_REASON_SLOW_TIME) when bytes were queued and none was taken for so long */
} weir_slow_peer;

typedef struct weir_limits {
    /* Outbound. A send is accepted while less than high_water_bytes are queued and the whole still fits hard_limit_bytes;
     * else it answers -EAGAIN, and on_ready comes once no more than low_water_bytes are queued. */
    uint32_t high_water_bytes; /* 0: 256 KiB */
    uint32_t low_water_bytes;  /* 0: half of high_water_bytes */
    uint32_t hard_limit_bytes; /* 0: high_water_bytes and one largest message (raw: and 1 MiB). At least one largest message */
    weir_slow_peer slow_peer;  /* zero: refuse only; weir_set_slow_peer() changes it for a connection */
    /* Inbound. WEIR_FOREVER: no limit. */
    uint64_t handshake_ns; /* for codecs that shake hands: from connected, or the last answer, to open; 0: 10 s */
    uint64_t first_ns;     /* from open to the first whole message; 0: no limit */
    uint64_t message_ns;   /* from a message's first byte to its last; 0: 30 s */
    uint64_t idle_ns;      /* nothing taken and nothing received; 0: no limit */
    uint64_t drain_ns;     /* from weir_end() until all is sent and the peer has finished; 0: 5 s */
} weir_limits;

typedef struct weir_protocol {
    const char *name; /* for logs and statistics; may be NULL */
    weir_codec codec;
    weir_limits limits;
    void *user; /* yours; weir_conn_protocol(conn)->user */

    /* All callbacks run on the connection's shard, inside a turn, one at a time, and must not block. Any may be NULL
     * (on_message NULL: what comes is dropped). In each of them every call of weir/conn.h is allowed; a send never calls
     * back, and what weir_end() or weir_abort() starts is told after the callback has returned. */

    /* The connection is there, and its handshake done, if its codec has one. A negative errno refuses it (WEIR_REASON_REFUSED; on_close follows). */
    int (*on_open)(weir_conn *conn);
    /* One whole message, in the order the peer sent them. WEIR_TAKEN, WEIR_LATER or a negative errno. */
    int (*on_message)(weir_conn *conn, const weir_message *message);
    /* There is room again after a send had answered -EAGAIN. */
    void (*on_ready)(weir_conn *conn);
    /* The end: the last callback of this connection. Comes exactly once for each on_open, and once for each dial and each adopted socket that
     * did not come to on_open (a dial's reasons are DIAL_FAILED, DIAL_LATE, NAME, or what else ended it). A graceful end, by the program or by what the peer sent
     * (TOO_BIG, BAD_MESSAGE, HANDLER), closes our side first and comes here when the peer has closed its side too, or after limits.drain_ns. */
    void (*on_close)(weir_conn *conn, const weir_close_event *event);
} weir_protocol;

#ifdef __cplusplus
}
#endif

#endif
