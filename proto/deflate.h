/* SPDX-License-Identifier: MIT */
/* deflate: permessage-deflate (RFC 7692): what a client and this server agree on, and messages packed and unpacked by zlib in bounded memory.
 *
 *   deflate_offer.c   Sec-WebSocket-Extensions -> terms     always built
 *   deflate.c         bytes -> bytes                        with WEIR_DEFLATE */
#ifndef W_DEFLATE_H
#define W_DEFLATE_H

#include "proto/websocket.h"

/* What both have agreed on. */
struct w_deflate_terms {
    uint8_t sent_bits, received_bits; /* windows: 8 to 15 */
    bool keep_sent, keep_received;    /* context takeover */
};

/* Are these numbers that can be? */
bool w_deflate_options_are_good(const weir_websocket_deflate *options);
/* Takes the first offer that can be met: true, with the terms, and what is to be answered (at most W_DEFLATE_ANSWER_BYTES, and a zero); false: none. */
#define W_DEFLATE_ANSWER_BYTES 160
bool w_deflate_choose(const weir_websocket_deflate *options, const weir_http_head *request, struct w_deflate_terms *terms,
                      char answer[W_DEFLATE_ANSWER_BYTES]);

/* One connection's. Zeroed at first; then terms. */
struct w_deflate {
    struct w_deflate_terms terms;
    uint8_t tail;                 /* so much of what the sender has left away has been put behind the message */
    struct w_deflate_stream *in;  /* NULL: nothing is remembered of what came */
    struct w_deflate_stream *out; /* the same of what went out */
    uint64_t taken, made;         /* bytes of the message that is being unpacked */
};

/* The session's memory where messages may be packed. */
struct w_websocket_packing {
    struct w_websocket ws;
    struct w_deflate deflate;
};

/* weir_session.unpack, of a message of at most max_bytes: errors -EMSGSIZE (max_bytes, or the ratio), -EBADMSG (no deflate), -ENOMEM. A client that refers back
 * farther than was agreed on is found out when that is not there any more. */
int w_deflate_unpack(struct w_deflate *state, weir_session_heap *heap, const weir_websocket_deflate *options, uint32_t max_bytes,
                     weir_session_unpacking *unpacking);
/* Into `to`, which has room for `bytes`: how many these are, or 0: it did not become shorter, or there is no memory. */
uint32_t w_deflate_pack(struct w_deflate *state, weir_session_heap *heap, const weir_websocket_deflate *options, const uint8_t *data,
                        uint32_t bytes, uint8_t *to);
/* What was packed before is not referred to any more. */
void w_deflate_forget_sent(struct w_deflate *state, weir_session_heap *heap);
void w_deflate_close(struct w_deflate *state, weir_session_heap *heap);

#endif
