/* SPDX-License-Identifier: MIT */
/* weir/codec.h: where one message ends and the next begins.
 *
 * A codec is two pure functions of bytes: `cut` finds the next message in what came (inbound), `seal` says what has to
 * stand before and behind a payload (outbound). Neither allocates, keeps a pointer, or knows weir: codecs link and
 * run alone. A weir_codec is a plain value: fill it with one of the makers below, copy it freely.
 *
 *   frame   a length, then that many bytes. For programs that talk to programs.
 *   line    text up to LF. For people and `nc`. Not for bytes that may hold an LF.
 *   raw     whatever arrives, in whatever pieces. For pipes; it has no boundaries to keep, so weir counts its bytes only.
 *   websocket  for browsers (weir/websocket.h).
 *
 * Your own codec: fill the struct yourself. */
#ifndef WEIR_CODEC_H
#define WEIR_CODEC_H

#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The most that any codec may put before or behind one payload. */
#define WEIR_HEAD_MAX_BYTES    16
#define WEIR_TRAILER_MAX_BYTES 16

/* A handshake, and what is remembered between messages: weir/session.h. */
typedef struct weir_session weir_session;

/* What `cut` answers besides a negative errno. */
#define WEIR_CUT_MORE    0 /* no whole message yet */
#define WEIR_CUT_MESSAGE 1 /* one whole message */

typedef struct weir_cut {
    /* In and out: bytes from the frame's start that earlier calls have looked at already. The caller sets 0 for a new
     * frame; a codec that searches (line) leaves here where to go on, so that a dribble costs no second look. */
    uint32_t scanned_bytes;
    /* WEIR_CUT_MORE: how many bytes more, at least, until the next call can tell more. Never 0. */
    uint32_t missing_bytes;
    /* WEIR_CUT_MESSAGE: the whole frame, and where in it the payload lies. frame_bytes is never 0. */
    uint32_t frame_bytes;
    uint32_t payload_offset;
    uint32_t payload_bytes;
    /* In: the memory of this connection's session, for a codec that has one (weir/session.h). It may change the bytes that it looks at. */
    void *session;
} weir_cut;

typedef struct weir_seal {
    uint8_t head[WEIR_HEAD_MAX_BYTES];
    uint8_t trailer[WEIR_TRAILER_MAX_BYTES];
    uint32_t head_bytes;
    uint32_t trailer_bytes;
} weir_seal;

typedef struct weir_codec weir_codec;
struct weir_codec {
    const char *name; /* "frame"; static storage */
    /* Looks for one message at the start of [data, data + bytes), bytes > 0. WEIR_CUT_MESSAGE, WEIR_CUT_MORE, or -EMSGSIZE (over
     * message_max_bytes; said as soon as it can be known) or -EBADMSG (not of this format). An error is final: whatever
     * follows on that connection is not looked at. The answer depends on the bytes alone, not on how they were divided. */
    int (*cut)(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut);
    /* Says what goes round a payload: 0, or -EMSGSIZE, or -EBADMSG (a payload that the format cannot carry: an LF in a line). */
    int (*seal)(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal);
    /* Copies bytes [offset, offset + bytes) of a payload to where they go out, changed as what `seal` said wants it (a WebSocket client masks what it sends). NULL, as in
     * most codecs: they go out as they are. Who has one gives up sending by reference. `to` is `from`, or does not overlap it. */
    void (*copy)(const weir_seal *seal, uint8_t *to, const uint8_t *from, uint32_t bytes, uint32_t offset);
    const weir_session *session; /* NULL, as in most codecs: nothing is remembered */
    uint32_t message_max_bytes;  /* the largest payload, both ways */
    uint16_t head_max_bytes;     /* seal never makes a longer head or trailer */
    uint16_t trailer_max_bytes;
    bool boundaries; /* false: the bytes are a stream, messages are not counted */
    /* A head that is the payload's length and nothing else, and no trailer: a number of so many bytes, 1, 2, 4 or 8, that says length_extra more than the payload
     * has. Who knows that may write the head himself: `seal` says the same, and is asked where it is not worth while. 0, as in most codecs: only `seal` knows. */
    uint8_t length_bytes;
    uint8_t length_extra;
    bool length_big_endian;
    uint8_t settings[12]; /* the codec's own */
};

/* frame: [length][payload]. */
typedef enum weir_frame_length {
    WEIR_FRAME_U32 = 0, /* four bytes: the default */
    WEIR_FRAME_U8,
    WEIR_FRAME_U16,
    WEIR_FRAME_U64,
    WEIR_FRAME_VARINT, /* unsigned LEB128 as in Protocol Buffers, at most five bytes, shortest form not demanded */
} weir_frame_length;

typedef struct weir_frame_options {
    weir_frame_length length;
    bool big_endian;            /* byte order of the length field; default little (varint has none) */
    bool counts_itself;         /* the length includes the length field's own bytes; not with varint */
    uint32_t message_max_bytes; /* largest payload; 0: 1 MiB, or what the length field can say if that is less */
} weir_frame_options;

/* Fills `codec`. options NULL: a four-byte little-endian length that does not count itself. -EINVAL: options that do not fit each
 * other (a message_max_bytes that the length field cannot say, varint that counts itself, over WEIR_MESSAGE_MAX_BYTES). */
int weir_codec_frame(weir_codec *codec, const weir_frame_options *options);

/* The largest payload that any codec may allow. */
#define WEIR_MESSAGE_MAX_BYTES ((UINT32_C(1) << 30) - 4096)

/* line: text up to and not including LF or CR LF, each line of at most line_max_bytes (0: 64 KiB) without its end.
 * A CR that no LF follows belongs to the line. Sent lines end in LF, or in CR LF when `crlf`; a payload with an LF is
 * refused by -EBADMSG, and one that ends in CR likewise unless `crlf`: the peer would take the CR for part of the line's end. -EINVAL: line_max_bytes over WEIR_MESSAGE_MAX_BYTES. */
int weir_codec_line(weir_codec *codec, uint32_t line_max_bytes, bool crlf);

/* raw: each piece that arrives is handed on as it came, at most 1 MiB of it at once; nothing is added to what is sent. */
int weir_codec_raw(weir_codec *codec);

#ifdef __cplusplus
}
#endif

#endif
