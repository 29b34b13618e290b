/* SPDX-License-Identifier: MIT */
/* websocket: RFC 6455 between the bytes and the handler, without a connection. weir/websocket.h is its manual, weir/session.h what it is made for.
 *
 *   handshake.c   HTTP heads: HANDSHAKE -> OPEN
 *   websocket.c   frames:     OPEN -> CLOSED
 *   deflate.c     what is packed in them, if weir was built with it (RFC 7692); deflate_offer.c: what of it is agreed on */
#ifndef W_WEBSOCKET_H
#define W_WEBSOCKET_H

#include <weir/session.h>
#include <weir/websocket.h>

#include "proto/utf8.h"

enum w_websocket_stage { W_WEBSOCKET_HANDSHAKE, W_WEBSOCKET_OPEN, W_WEBSOCKET_CLOSED };

#define W_WEBSOCKET_NONCE_BYTES    16
#define W_WEBSOCKET_HEAD_MAX_BYTES (UINT32_C(60) << 10)

/* The session's memory: small, as every connection has one. */
struct w_websocket {
    weir_session_state state;
    uint8_t stage;        /* enum w_websocket_stage */
    uint8_t subprotocol;  /* chosen: its index in the options, and one; 0: none */
    uint16_t code;        /* of the Close: the peer's, or what this program wants to say; 0: none */
    uint8_t first;        /* the first byte of the frame that is being cut: FIN, RSV, opcode */
    uint8_t head_bytes;   /* of that frame; 0: not known yet */
    uint8_t message_kind; /* of the message whose fragments are coming; 0: there is none */
    bool whole;           /* the frame is there whole, and done */
    bool message_packed;  /* its first frame had RSV1 (RFC 7692, section 6) */
    struct w_utf8 utf8;   /* of the text that is coming */
    union {
        struct {
            uint8_t key[4];         /* of the frame's mask */
            uint32_t payload_bytes; /* of the frame */
            uint32_t done_bytes;    /* of these: unmasked, and looked at */
            uint32_t message_bytes; /* of the fragments before it */
            uint32_t fragments;     /* that there have been before it */
        };
        uint8_t nonce[W_WEBSOCKET_NONCE_BYTES]; /* HANDSHAKE: what the client has asked the server to answer */
    };
};

static inline const weir_websocket_options *w_websocket_options(const weir_codec *codec)
{
    const weir_websocket_options *options;
    __builtin_memcpy(&options, codec->settings, sizeof options);
    return options;
}

/* handshake.c: cut, begin and take of HANDSHAKE, as weir/session.h says. */
int w_handshake_cut(const weir_codec *codec, struct w_websocket *ws, const uint8_t *data, uint32_t bytes, weir_cut *cut);
int w_handshake_begin(const weir_codec *codec, struct w_websocket *ws, weir_session_answer *answer);
int w_handshake_take_request(const weir_codec *codec, struct w_websocket *ws, const char *data, uint32_t bytes,
                             weir_session_answer *answer);
int w_handshake_take_response(const weir_codec *codec, struct w_websocket *ws, const char *data, uint32_t bytes,
                              weir_session_answer *answer);
/* Are they names that may stand in a head, and short enough for one? */
bool w_handshake_subprotocols_are_good(const weir_websocket_options *options);
/* Bytes of the client's request, or 0: it cannot be made of these options. */
uint32_t w_handshake_write_request(const weir_websocket_options *options, const uint8_t nonce[W_WEBSOCKET_NONCE_BYTES], char *to,
                                   uint32_t to_bytes);

/* Unpredictable bytes, at most 16 at once (section 10.3). False: there are none to be had (getrandom(2) is forbidden). */
bool w_websocket_random(const weir_websocket_options *options, uint8_t *to, uint32_t bytes);

#endif
