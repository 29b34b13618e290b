/* SPDX-License-Identifier: MIT */
/* wire: how a message of perf/message.h comes to a member of a fan-out: what stands around its payload, and how a member introduces itself. In each
 * of these framings what stands around is the same for all messages of a size, so bytes that arrive can be counted as messages.
 *
 *     frame  four bytes of length; a member says hello with a frame of one byte
 *     websocket  a handshake, and that frame masked; binary frames come, and a Close (1001) at the end
 *     resp   Redis: SUBSCRIBE, and a push of three strings for each message
 *     nats   CONNECT, SUB, PING (which PONG answers when the subscription stands), then MSG lines; the server may put a PING between two messages
 *     zmtp   ZeroMQ 3.0 without security: greeting, READY as a SUB socket, a subscription to everything, then frames
 *
 * The channel (topic, subject) of all is WIRE_CHANNEL. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_CHANNEL       "weir"
#define WIRE_HEAD_MOST     64u
#define WIRE_HELLO_MOST    256u
#define WIRE_WELCOME_BYTES 4096u /* no welcome is longer */

/* The byte of a hello in WIRE_FRAME and WIRE_WEBSOCKET. */
#define WIRE_READS 'r'
#define WIRE_SLOW  's'

enum wire_framing { WIRE_FRAME, WIRE_WEBSOCKET, WIRE_RESP, WIRE_NATS, WIRE_ZMTP };

/* What stands around a payload of one size. */
struct wire {
    enum wire_framing framing;
    uint8_t head[WIRE_HEAD_MOST];
    uint32_t head_bytes;
    uint32_t frame_bytes; /* all of a message, head and tail included */
    const char *tail;     /* as long as frame_bytes says */
    const char *aside;    /* what may come between two messages and is none, its first byte no head's first; or NULL */
};

extern const char *const wire_framing_names[]; /* by enum wire_framing; the last is NULL */

void wire_init(struct wire *wire, enum wire_framing framing, uint32_t payload_bytes);

/* What a member sends first, and what after its welcome; both return how many bytes. */
size_t wire_hello(enum wire_framing framing, bool slow, uint8_t hello[WIRE_HELLO_MOST]);
size_t wire_thanks(enum wire_framing framing, bool slow, uint8_t thanks[WIRE_HELLO_MOST]);

/* Whether what has come since is the whole welcome. Then the subscription stands, and not before (with ZMTP the server has to hear of it first). */
bool wire_is_welcome(enum wire_framing framing, const uint8_t *bytes, size_t count);
