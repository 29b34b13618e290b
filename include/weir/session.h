/* SPDX-License-Identifier: MIT */
/* weir/session.h: codecs that remember something of each connection: a handshake before the first message, messages in several frames, frames that are no message.
 * weir_codec_websocket() (weir/websocket.h) is one; this header is for those who write another.
 *
 *                      cut: whole frames                    MESSAGE, PART, LAST
 *     bytes in  ------------------------------>  session  ----------------------> on_message
 *     bytes out <------------------------------           what is for itself (OWN): take answers, opens, ends
 *                 handshake, answers, farewell
 *
 * A session is functions of bytes and of its own memory, like the codec that it belongs to: it knows no connection and links and runs alone. weir calls it on the
 * connection's shard, and does what it says. Until it says OPEN the connection is not open: sends answer -ENOTCONN, on_open has not been called, and
 * limits.handshake_ns is the time limit. */
#ifndef WEIR_SESSION_H
#define WEIR_SESSION_H

#include <weir/codec.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a frame is. */
typedef enum weir_session_frame {
    WEIR_SESSION_UNKNOWN = 0, /* not cut yet, or done with */
    WEIR_SESSION_MESSAGE,     /* its payload is a message */
    WEIR_SESSION_PART,        /* part of a message, with more to come: weir puts them together */
    WEIR_SESSION_LAST,        /* the last part */
    WEIR_SESSION_OWN,         /* for the session itself: weir calls `take` */
} weir_session_frame;

/* What a session's memory begins with; zeroed at first. */
typedef struct weir_session_state {
    /* With WEIR_CUT_MESSAGE, cut says here what the frame is. weir sets UNKNOWN when it is done with it; while it is not (WEIR_LATER), cut is called for the same
     * frame again, wherever it lies then, and has to give the same answer without doing anything twice. */
    uint8_t frame;
    uint8_t kind; /* the message's: weir_message.kind */
    bool packed;  /* cut says it with PART and LAST: what the frame holds is packed; weir puts together what `unpack` makes of it */
    bool packs;   /* said with OPEN: what is sent goes through `pack` */
} weir_session_state;

/* Memory for a session beside its own: the shard's, counted and bounded. Stays where it is as long as the connection. */
typedef struct weir_session_heap weir_session_heap;
struct weir_session_heap {
    void *(*take)(weir_session_heap *heap, uint32_t bytes); /* aligned to 64; NULL: there is none */
    void (*give)(weir_session_heap *heap, void *piece, uint32_t bytes);
};

/* What `unpack` is given, and says. */
typedef struct weir_session_unpacking {
    const uint8_t *data; /* what is left of the frame's payload: unpack moves on */
    uint32_t bytes;
    bool last;           /* this frame is the message's last */
    uint8_t *to;         /* room for what is made */
    uint32_t room_bytes; /* at least 1 */
    uint32_t made_bytes; /* 0 before */
} weir_session_unpacking;

/* What `take` and `begin` want to be done. */
typedef enum weir_session_verdict {
    WEIR_SESSION_GO_ON = 0, /* nothing beside what is in the answer */
    WEIR_SESSION_OPEN,      /* the handshake is done: the connection is open, behind the answer */
    WEIR_SESSION_END,       /* the peer ends (WEIR_REASON_PEER), or all is said: the connection drains, behind the answer */
} weir_session_verdict;

#define WEIR_SESSION_ANSWER_BYTES 2048
typedef struct weir_session_answer {
    /* Goes out as it is: no seal. */
    uint8_t data[WEIR_SESSION_ANSWER_BYTES];
    uint32_t bytes;
    /* In the control lane, ahead of messages queued. While an earlier one of these waits there, the newer takes its place: so a flood of questions is answered once
     * for each time that the peer reads. At most 256 bytes. */
    bool control;
    /* Behind it, copied; NULL: nothing. Has to stay until the session is called again. */
    const void *body;
    uint32_t body_bytes;
    uint16_t peer_code; /* weir_close_event.peer_code */
} weir_session_answer;

#define WEIR_SESSION_FAREWELL_BYTES 128
#define WEIR_SESSION_MAX_BYTES      4096

typedef struct weir_session {
    uint32_t bytes; /* of memory for each connection, weir_session_state included; at most WEIR_SESSION_MAX_BYTES. Zeroed, aligned to 8 */
    bool waits_for_peer; /* after the farewell: the peer closes first; false: we do */
    /* The connection is there. A verdict, or a negative errno: it ends (WEIR_REASON_HANDSHAKE). NULL: nothing to do. */
    int (*begin)(const weir_codec *codec, void *memory, weir_session_answer *answer);
    /* A frame that cut has called OWN; data may be written to. A verdict, or a negative errno: behind the answer the connection drains, before OPEN as
     * WEIR_REASON_HANDSHAKE, later by what the same error of cut would be. */
    int (*take)(const weir_codec *codec, void *memory, uint8_t *data, uint32_t bytes, weir_session_answer *answer);
    /* The codec that seals messages of a kind (weir_send_kind, weir_forward): `codec` when it is its own kind, or one made in `other`; NULL: there is no such kind.
     * A NULL function: there are none. Any thread. */
    const weir_codec *(*as)(const weir_codec *codec, uint8_t kind, weir_codec *other);
    /* Makes what is in a packed frame: 0: all of it is taken, and made; 1: there is no room for more: once again with new room; or a negative errno, as of cut, or
     * -ENOMEM. NULL: cut calls nothing packed. */
    int (*unpack)(const weir_codec *codec, void *memory, weir_session_heap *heap, weir_session_unpacking *unpacking);
    /* A message that `codec` (made by `as`, perhaps) has sealed is about to be sent by the connection's shard, with weir/conn.h's calls: what own channels and groups
     * send goes out as it is. Packs it into `to`, which has room for as many bytes, and fills `seal` anew: how many bytes these are, or 0: it goes out as it is.
     * data NULL: the one before is not sent after all, and nothing may refer to it. NULL: nothing is packed. */
    uint32_t (*pack)(const weir_codec *codec, void *memory, weir_session_heap *heap, const uint8_t *data, uint32_t bytes, uint8_t *to,
                     weir_seal *seal);
    /* The connection is over: all that was taken of the heap is given back. NULL: nothing ever is. */
    void (*close)(const weir_codec *codec, void *memory, weir_session_heap *heap);
    /* The connection drains, and everything else has gone out: the last bytes, 0 for none. `error` as in the close event. NULL: none. Not before OPEN. */
    uint32_t (*farewell)(const weir_codec *codec, void *memory, weir_reason reason, int error, uint8_t to[WEIR_SESSION_FAREWELL_BYTES]);
} weir_session;

#ifdef __cplusplus
}
#endif

#endif
