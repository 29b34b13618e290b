/* SPDX-License-Identifier: MIT */
/* web: the test is a WebSocket client, byte by byte, at a connection of the rig: what it says, and what it must hear. */
#ifndef TEST_WEB_H
#define TEST_WEB_H

#include <string.h>
#include <sys/socket.h>

#include "must.h"
#include "rig.h"

#define REQUEST                                                                                                                            \
    "GET /chat?room=1 HTTP/1.1\r\nHost: example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"             \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" /* the key of RFC 6455, section 1.3 */
#define RESPONSE                                                                                                                           \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                                                    \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

#define FIN    0x80
#define TEXT   1
#define BINARY 2
#define CLOSE  8
#define PING   9
#define PONG   10

static inline void say(int peer, const void *data, size_t bytes)
{
    MUST_EQUAL(send(rig.peers[peer], data, bytes, MSG_NOSIGNAL), bytes);
    rig_turn();
}

static uint8_t heard[1 << 20];

/* Exactly that has come. */
static inline void must_hear(int peer, const void *data, uint32_t bytes)
{
    uint32_t got = rig_read(peer, heard, sizeof heard);
    if (got != bytes || memcmp(heard, data, bytes) != 0)
        ck_abort_msg("%u bytes came and %u were to: %.*s", got, bytes, (int)got, (const char *)heard);
}

static inline bool has_ended(int peer)
{
    char byte;
    return recv(rig.peers[peer], &byte, 1, 0) == 0;
}

/* A frame as a client sends it; answers its bytes. */
static inline uint32_t masked(uint8_t *to, uint8_t first, const void *payload, uint32_t bytes)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint32_t head = 2;
    to[0] = first;
    if (bytes < 126) {
        to[1] = (uint8_t)(0x80 | bytes);
    } else if (bytes < 65536) {
        to[1] = 0x80 | 126;
        to[2] = (uint8_t)(bytes >> 8);
        to[3] = (uint8_t)bytes;
        head = 4;
    } else {
        to[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            to[2 + i] = (uint8_t)((uint64_t)bytes >> (56 - 8 * i));
        head = 10;
    }
    memcpy(to + head, key, sizeof key);
    for (uint32_t i = 0; i < bytes; i++)
        to[head + 4 + i] = ((const uint8_t *)payload)[i] ^ key[i & 3];
    return head + 4 + bytes;
}

static inline void say_frame(int peer, uint8_t first, const void *payload, uint32_t bytes)
{
    static uint8_t frame[1 << 20];
    say(peer, frame, masked(frame, first, payload, bytes));
}

#endif
