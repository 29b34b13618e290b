/* SPDX-License-Identifier: MIT */
/* weir/websocket.h: WebSocket (RFC 6455), server and client: what browsers speak.
 *
 * A codec like the others, but with a session (weir/session.h): the connection shakes hands first, and on_open comes when that is done. Then
 *   - on_message gets whole messages, put together from their fragments, with message->kind WEIR_WEBSOCKET_TEXT (valid UTF-8, looked at while it arrives) or _BINARY;
 *   - weir_send() and all other ways of sending send messages of the options' kind, each in one frame;
 *   - a ping is answered by weir, ahead of all that is queued, the latest one if there are many (section 5.5.3); pongs count as activity only;
 *   - a graceful end says Close behind all that was sent, with the code that the reason has (section 7.4.1, see below); the peer's Close ends the connection as
 *     WEIR_REASON_PEER with its code in weir_close_event.peer_code;
 *   - whatever the RFC forbids ends it, with Close 1002 (WEIR_REASON_BAD_MESSAGE), 1007 (the same with error -EILSEQ: text that is not UTF-8), or
 *     1009 (WEIR_REASON_TOO_BIG). A handshake that is refused, or is none, ends it as WEIR_REASON_HANDSHAKE, one that takes longer than
 *     limits.handshake_ns as WEIR_REASON_HANDSHAKE_LATE. (Of one that was accepted no callback tells: weir_stats counts it.)
 *
 *   reason          code that our Close says
 *   LOCAL           1000, or what weir_websocket_end() said        STOPPED   1001
 *   BAD_MESSAGE     1002, or 1007                                   TOO_BIG   1009
 *   HANDLER         1011                                            PEER      the peer's own; none when it said none
 *   all others      none: the connection is not closed by agreement (the peer's library calls it 1006)
 *
 * Clients that offer it may pack what they send, and get what is worth it packed (permessage-deflate, RFC 7692), when options.deflate says so: a server's only, and
 * only where weir was built with it (-DWEIR_DEFLATE=ON, zlib).
 *
 * A group's message is sealed once: clients in a group (rare) send it under one mask. weir_pipe() to another shard does not carry a message's kind.
 *
 * What weir sends by itself (handshake, pong, Close) counts as messages sent, and what is no message (ping, pong, Close, fragments) not as messages received. */
#ifndef WEIR_WEBSOCKET_H
#define WEIR_WEBSOCKET_H

#include <weir/codec.h>
#include <weir/conn.h>
#include <weir/http.h>

#ifdef __cplusplus
extern "C" {
#endif

/* weir_message.kind: the opcodes of section 5.2. */
typedef enum weir_websocket_kind {
    WEIR_WEBSOCKET_TEXT = 1,
    WEIR_WEBSOCKET_BINARY = 2,
    WEIR_WEBSOCKET_PING = 9, /* with weir_send_control_kind() only, of at most 125 bytes: the peer answers, so the connection is not idle */
} weir_websocket_kind;

/* permessage-deflate (RFC 7692). Nothing is kept between messages unless it is asked for: then a connection costs no memory for it while it is idle.
 * Handlers see messages as they were before they were packed, and message_max_bytes is about these; a shard unpacks
 * about 1 MiB in a turn, and the rest in the next ones. Own channels' and groups' messages go out as they are. */
typedef struct weir_websocket_deflate {
    bool enabled; /* false, the default: what clients offer is declined */
    /* Context takeover (section 7.1.1): later messages may refer to earlier ones. Similar messages become much shorter by it, and each connection holds, from its
     * first packed message on, of the shard's memory: */
    bool keep_sent;     /* about 270 KiB (window 2^15; 12 KiB with 2^9), if the client does not forbid it */
    bool keep_received; /* about 40 KiB (2^15), if the client does not say that it will not make use of it */
    /* How far back one may refer, 2^8 to 2^15 bytes (section 7.1.2): 8 to 15, or less if the client says so; 0: 15. Of what clients send, 15 for those that do not
     * offer client_max_window_bits. */
    uint8_t window_bits_sent, window_bits_received;
    uint8_t level;       /* 1, the fastest, to 9, the shortest; 0: 1. It is the shard's time: others on it wait meanwhile */
    uint32_t from_bytes; /* shorter messages are sent as they are; 0: 256 */
    uint32_t ratio_max;  /* a message may unpack to 64 KiB, or to so many times its bytes: else it is WEIR_REASON_TOO_BIG; 0: 256 */
} weir_websocket_deflate;

/* Zero is the default everywhere. What it points to has to stay as long as the protocol that the codec is part of. */
typedef struct weir_websocket_options {
    bool client;                /* for weir_dial; false: for weir_listen */
    weir_websocket_kind kind;   /* of what is sent; 0: WEIR_WEBSOCKET_TEXT, whose payload has to be UTF-8: else sends answer -EBADMSG */
    uint32_t message_max_bytes; /* a whole message, both ways; 0: 1 MiB */
    uint32_t fragments_max;     /* of one message; 0: 1,024 */
    uint32_t head_max_bytes;    /* of the handshake; 0: 8 KiB; at most 60 KiB */
    /* Names that this program speaks, the best first, ended by NULL; NULL: none. A server chooses the first of its own that the client offers, or none
     * (section 4.2.2); a client offers all of them. */
    const char *const *subprotocols;

    /* --- a server's --- */
    /* Called for each handshake that is well formed, on the connection's shard, before it is answered: 0, or the HTTP status (400 to 599) to refuse it with. Here
     * Origin (section 10.2), the path, cookies are looked at; NULL: everyone from everywhere is let in. Must not block, nor call weir but for weir/http.h. */
    int (*allow)(void *user, const weir_http_head *request);
    /* What it answers to a plain GET (or HEAD) beside the handshakes; ended by an entry without path; what is not among them is 404. NULL: 426 for all. */
    const weir_http_page *pages;
    void *user; /* for allow and random */
    weir_websocket_deflate deflate;

    /* --- a client's --- */
    const char *host;   /* what the Host field says; needed */
    const char *target; /* path and query; NULL: "/" */
    const char *origin; /* NULL: no Origin field, as programs that are no browsers do */
    /* Where keys and masks come from, which nobody must be able to guess (section 10.3): fills `to`, false when it cannot (sends answer -EIO). On any thread that
     * sends. NULL: getrandom(2). On a simulated kernel, what its seed says: else no two runs of a seed are the same. */
    bool (*random)(void *user, uint8_t *to, uint32_t bytes);
    const char *fields; /* more of the request, each "Name: value\r\n"; NULL: none */
} weir_websocket_options;

/* Fills `codec`, which keeps `options` by its pointer; NULL: a server of text with all defaults. -EINVAL: options that cannot be (a limit over
 * WEIR_MESSAGE_MAX_BYTES, a kind that is none, a client without host, fields that HTTP does not allow, a request over 1 KiB,
 * deflate of a client, or with numbers out of their ranges). -ENOTSUP: deflate, and weir was built without it. */
int weir_codec_websocket(weir_codec *codec, const weir_websocket_options *options);

/* --- what a handler asks and does beside weir/conn.h; on the connection's shard --- */

/* The sub-protocol that both have agreed on, from on_open on; NULL: none. It lives as long as the options. */
const char *weir_websocket_chosen(const weir_codec *codec, const void *session);
static inline const char *weir_websocket_subprotocol(const weir_conn *conn)
{
    return weir_websocket_chosen(&weir_conn_protocol(conn)->codec, weir_conn_session(conn));
}

/* weir_end() with a code of its own in our Close: 1000 where it is none that a Close may say. */
void weir_websocket_set_code(void *session, uint32_t code);
static inline void weir_websocket_end(weir_conn *conn, uint32_t code)
{
    weir_websocket_set_code(weir_conn_session(conn), code);
    weir_end(conn);
}

/* The codes that a Close may say (section 7.4): 1000 to 1003, 1007 to 1014, 3000 to 4999. */
bool weir_websocket_code_is_valid(uint32_t code);

#ifdef __cplusplus
}
#endif

#endif
