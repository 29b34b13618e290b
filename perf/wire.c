/* SPDX-License-Identifier: MIT */
/* wire: see wire.h. */
#include "wire.h"

#include <stdio.h>
#include <string.h>

#define WIRE_GREETING_BYTES 64u /* ZMTP's */
#define WIRE_SHORT_MOST     255u

static const char wire_resp_hello[] = "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\n" WIRE_CHANNEL "\r\n";
static const char wire_resp_welcome[] = "*3\r\n$9\r\nsubscribe\r\n$4\r\n" WIRE_CHANNEL "\r\n:1\r\n";
static const char wire_nats_hello[] =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"0\"}\r\nSUB " WIRE_CHANNEL " 1\r\nPING\r\n";
static const char wire_nats_welcome[] = "PONG\r\n";
static const char wire_web_hello[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
static const char wire_web_welcome[] = "HTTP/1.1 101 ";
static const char wire_web_close[] = "\x88\x02\x03\xe9";
static const char wire_ready[] = "\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB";
static const char wire_subscription[] = "\x00\x01\x01";

const char *const wire_framing_names[] = {
    [WIRE_FRAME] = "frame", [WIRE_WEBSOCKET] = "websocket", [WIRE_RESP] = "resp", [WIRE_NATS] = "nats", [WIRE_ZMTP] = "zmtp", NULL};

static uint32_t wire_zmtp_head(uint8_t *head, uint32_t payload_bytes)
{
    if (payload_bytes <= WIRE_SHORT_MOST) {
        head[0] = 0;
        head[1] = (uint8_t)payload_bytes;
        return 2;
    }
    head[0] = 2; /* long: eight bytes, the greatest first */
    for (unsigned i = 0; i < 8; i++)
        head[1 + i] = (uint8_t)((uint64_t)payload_bytes >> (56 - 8 * i));
    return 9;
}

static uint32_t wire_web_head(uint8_t *head, uint32_t payload_bytes)
{
    uint32_t length_bytes = payload_bytes < 126 ? 0 : payload_bytes <= UINT16_MAX ? 2 : 8;
    head[0] = 0x82; /* whole, binary */
    head[1] = (uint8_t)(length_bytes == 0 ? payload_bytes : length_bytes == 2 ? 126 : 127);
    for (uint32_t i = 0; i < length_bytes; i++)
        head[2 + i] = (uint8_t)((uint64_t)payload_bytes >> 8 * (length_bytes - 1 - i));
    return 2 + length_bytes;
}

void wire_init(struct wire *wire, enum wire_framing framing, uint32_t payload_bytes)
{
    char *head = (char *)wire->head;
    *wire = (struct wire){.framing = framing, .tail = ""};
    switch (framing) {
    case WIRE_FRAME:
        for (unsigned i = 0; i < 4; i++)
            wire->head[i] = (uint8_t)(payload_bytes >> (8 * i));
        wire->head_bytes = 4;
        break;
    case WIRE_WEBSOCKET:
        wire->head_bytes = wire_web_head(wire->head, payload_bytes);
        wire->aside = wire_web_close;
        break;
    case WIRE_RESP:
        wire->head_bytes =
            (uint32_t)snprintf(head, WIRE_HEAD_MOST, "*3\r\n$7\r\nmessage\r\n$4\r\n" WIRE_CHANNEL "\r\n$%u\r\n", payload_bytes);
        wire->tail = "\r\n";
        break;
    case WIRE_NATS:
        wire->head_bytes = (uint32_t)snprintf(head, WIRE_HEAD_MOST, "MSG " WIRE_CHANNEL " 1 %u\r\n", payload_bytes);
        wire->tail = "\r\n";
        wire->aside = "PING\r\n";
        break;
    case WIRE_ZMTP:
        wire->head_bytes = wire_zmtp_head(wire->head, payload_bytes);
        break;
    }
    wire->frame_bytes = wire->head_bytes + payload_bytes + (uint32_t)strlen(wire->tail);
}

static size_t wire_zmtp_hello(uint8_t *hello)
{
    memset(hello, 0, WIRE_GREETING_BYTES);
    hello[0] = 0xff;
    hello[9] = 0x7f;
    hello[10] = 3;
    memcpy(hello + 12, "NULL", 4);
    return WIRE_GREETING_BYTES;
}

size_t wire_hello(enum wire_framing framing, bool slow, uint8_t hello[WIRE_HELLO_MOST])
{
    switch (framing) {
    case WIRE_FRAME:
        memcpy(hello, (const uint8_t[]){1, 0, 0, 0, slow ? WIRE_SLOW : WIRE_READS}, 5);
        return 5;
    case WIRE_WEBSOCKET:
        memcpy(hello, wire_web_hello, sizeof wire_web_hello - 1);
        return sizeof wire_web_hello - 1;
    case WIRE_RESP:
        memcpy(hello, wire_resp_hello, sizeof wire_resp_hello - 1);
        return sizeof wire_resp_hello - 1;
    case WIRE_NATS:
        memcpy(hello, wire_nats_hello, sizeof wire_nats_hello - 1);
        return sizeof wire_nats_hello - 1;
    case WIRE_ZMTP:
        return wire_zmtp_hello(hello);
    }
    return 0;
}

/* WebSocket's hello proper, by a mask of zeros; and ZMTP's: libzmq ends a connection that says more than its greeting before it has been answered. */
size_t wire_thanks(enum wire_framing framing, bool slow, uint8_t thanks[WIRE_HELLO_MOST])
{
    if (framing == WIRE_WEBSOCKET) {
        memcpy(thanks, (const uint8_t[]){0x82, 0x81, 0, 0, 0, 0, slow ? WIRE_SLOW : WIRE_READS}, 7);
        return 7;
    }
    if (framing != WIRE_ZMTP)
        return 0;
    memcpy(thanks, wire_ready, sizeof wire_ready - 1);
    memcpy(thanks + sizeof wire_ready - 1, wire_subscription, sizeof wire_subscription - 1);
    return sizeof wire_ready - 1 + sizeof wire_subscription - 1;
}

bool wire_is_welcome(enum wire_framing framing, const uint8_t *bytes, size_t count)
{
    switch (framing) {
    case WIRE_FRAME:
        return true;
    case WIRE_WEBSOCKET:
        return memmem(bytes, count, "\r\n\r\n", 4) != NULL && memcmp(bytes, wire_web_welcome, sizeof wire_web_welcome - 1) == 0;
    case WIRE_RESP:
        return count >= sizeof wire_resp_welcome - 1 && memcmp(bytes, wire_resp_welcome, sizeof wire_resp_welcome - 1) == 0;
    case WIRE_NATS:
        return memmem(bytes, count, wire_nats_welcome, sizeof wire_nats_welcome - 1) != NULL;
    case WIRE_ZMTP: /* the greeting and one short command, READY */
        return count >= WIRE_GREETING_BYTES + 2 && count >= WIRE_GREETING_BYTES + 2u + bytes[WIRE_GREETING_BYTES + 1];
    }
    return true;
}
