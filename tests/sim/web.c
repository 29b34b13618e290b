/* SPDX-License-Identifier: MIT */
/* web: what clients of a WebSocket echo say and hear. They say masked frames, messages in fragments, packed ones (where weir was built with that, and then in every
 * third run: not by a draw, so that a seed is the same in every build but for that), pings in between; what comes back is the server's answer to the
 * handshake, then each message in one frame: known beforehand byte for byte, but for the pongs, of which there may be fewer than pings as long as the last is
 * answered, and the Close at the end. */
#define ZLIB_CONST
#include <string.h>
#ifdef WEIR_DEFLATE
#include <zlib.h>
#endif

#include "tests/sim/run.h"

#define REQUEST                                                                                                                            \
    "GET /echo HTTP/1.1\r\nHost: echo.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"                  \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define RESPONSE                                                                                                                           \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                                                    \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define OFFER       "Sec-WebSocket-Extensions: permessage-deflate\r\n"
#define AGREED      "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
#define BAD_REQUEST "GET /echo HTTP/1.1\r\nHost: echo.test\r\nHost: echo.test\r\n\r\n"
#define BAD_RESPONSE                                                                                                                       \
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 34\r\nConnection: close\r\n\r\n"               \
    "this is not a request of HTTP/1.1\n"

#define FIN     0x80
#define CONTROL 0x08
#define CLOSE   0x88
#define PING    0x89
#define PONG    0x8a
#define BINARY  0x02
#define PACKED  0x40 /* RSV1 */

#define PING_BYTES 2u /* its number */

static void say(struct run_client *client, const void *data, uint32_t bytes)
{
    memcpy(client->stream + client->stream_bytes, data, bytes);
    client->stream_bytes += bytes;
}

static void answer(struct run_client *client, const void *data, uint32_t bytes)
{
    memcpy(client->answers + client->answers_bytes, data, bytes);
    client->answers_bytes += bytes;
}

static bool may_pack(const struct run_client *client)
{
    return client->run->plan.web.deflate.enabled;
}

void web_handshake(struct run_client *client, bool good)
{
    char request[WEB_HANDSHAKE_BYTES], response[WEB_HANDSHAKE_BYTES];
    snprintf(request, sizeof request, "%s%s%s", good ? REQUEST : BAD_REQUEST, good && may_pack(client) ? OFFER : "", good ? "\r\n" : "");
    snprintf(response, sizeof response, "%s%s%s", good ? RESPONSE : BAD_RESPONSE, good && may_pack(client) ? AGREED : "",
             good ? "\r\n" : "");
    say(client, request, (uint32_t)strlen(request));
    client->handshake_bytes = (uint32_t)client->stream_bytes;
    answer(client, response, (uint32_t)strlen(response));
    client->welcome_bytes = (uint32_t)client->answers_bytes;
}

/* Every other message: how many bytes it is then; 0: it goes as it is. (What comes back is never packed: whether there is memory for that is nobody's to know.) */
static uint32_t pack(const struct run_client *client, const uint8_t *payload, uint32_t bytes, uint8_t *to, uint32_t to_bytes)
{
#ifdef WEIR_DEFLATE
    z_stream packer = {0};
    if (!may_pack(client) || client->frame_count % 2 == 0)
        return 0;
    RUN_CHECK(client->run, deflateInit2(&packer, 1, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) == Z_OK, "no memory to pack");
    packer.next_in = payload;
    packer.avail_in = bytes;
    packer.next_out = to;
    packer.avail_out = to_bytes;
    int result = deflate(&packer, Z_SYNC_FLUSH);
    deflateEnd(&packer);
    if (bytes == 0) { /* nothing to flush: an empty block without its first bits */
        to[0] = 0;
        return 1;
    }
    RUN_CHECK(client->run, result == Z_OK && packer.avail_out > 0, "%u bytes are not packed", bytes);
    return to_bytes - packer.avail_out - 4;
#else
    (void)client, (void)payload, (void)bytes, (void)to, (void)to_bytes;
    return 0;
#endif
}

/* As a client sends it. */
static void say_frame(struct run_client *client, uint8_t first, const uint8_t *payload, uint32_t bytes)
{
    uint64_t chance = weir_sim_random(client->run->world);
    uint8_t head[14] = {first, 0x80}, key[4];
    uint32_t head_bytes = 2;
    memcpy(key, &chance, sizeof key);
    if (bytes < 126) {
        head[1] |= (uint8_t)bytes;
    } else {
        head[1] |= 126;
        head[2] = (uint8_t)(bytes >> 8);
        head[3] = (uint8_t)bytes;
        head_bytes = 4;
    }
    memcpy(head + head_bytes, key, sizeof key);
    say(client, head, head_bytes + 4);
    for (uint32_t i = 0; i < bytes; i++)
        client->stream[client->stream_bytes + i] = payload[i] ^ key[i & 3];
    client->stream_bytes += bytes;
}

static void ping_perhaps(struct run_client *client)
{
    if (!run_one_of(client->run, 6))
        return;
    uint32_t number = ++client->pings;
    const uint8_t text[PING_BYTES + 3] = {(uint8_t)(number >> 8), (uint8_t)number, 'a', 'n', 'y'};
    say_frame(client, PING, text, PING_BYTES + (uint32_t)run_below(client->run, 4));
}

void web_message(struct run_client *client, const uint8_t *payload, uint32_t bytes)
{
    static uint8_t packed[RUN_PAYLOAD_MAX + WEB_AROUND_BYTES];
    const weir_codec *codec = &client->run->plan.echo.codec;
    weir_seal seal;
    uint32_t packed_bytes = pack(client, payload, bytes, packed, sizeof packed);
    const uint8_t *text = packed_bytes > 0 ? packed : payload;
    uint32_t text_bytes = packed_bytes > 0 ? packed_bytes : bytes, first = packed_bytes > 0 ? PACKED | BINARY : BINARY;
    uint32_t parts = 1 + (uint32_t)(run_one_of(client->run, 3) ? run_below(client->run, WEB_PARTS_MAX) : 0), said = 0;
    ping_perhaps(client);
    for (uint32_t i = 0; i < parts; i++) {
        uint32_t part = i + 1 == parts ? text_bytes - said : (uint32_t)run_below(client->run, text_bytes - said + 1);
        say_frame(client, (uint8_t)((i == 0 ? first : 0) | (i + 1 == parts ? FIN : 0)), text + said, part);
        said += part;
        if (i + 1 < parts)
            ping_perhaps(client);
    }
    RUN_CHECK(client->run, codec->seal(codec, payload, bytes, &seal) == 0, "the codec does not seal %u bytes", bytes);
    answer(client, seal.head, seal.head_bytes);
    client->frames[client->frame_count++] =
        (struct run_frame){.offset = (uint32_t)client->answers_bytes, .bytes = bytes, .said = (uint32_t)client->stream_bytes};
    answer(client, payload, bytes);
}

void web_close(struct run_client *client)
{
    const uint8_t code[2] = {0x03, 0xe8};
    say_frame(client, CLOSE, code, sizeof code);
}

/* What RFC 6455 forbids, or the limits do. */
weir_reason web_spoil(struct run_client *client)
{
    static const struct {
        uint8_t bytes[10];
        uint32_t count;
        weir_reason reason;
    } spoilers[] = {
        {{0xc2, 0x80, 1, 2, 3, 4}, 6, WEIR_REASON_BAD_MESSAGE},             /* a reserved bit */
        {{0x83, 0x80, 1, 2, 3, 4}, 6, WEIR_REASON_BAD_MESSAGE},             /* an opcode that is none */
        {{0x82, 0x00}, 2, WEIR_REASON_BAD_MESSAGE},                         /* not masked */
        {{0x80, 0x80, 1, 2, 3, 4}, 6, WEIR_REASON_BAD_MESSAGE},             /* a continuation of nothing */
        {{0x09, 0x80, 1, 2, 3, 4}, 6, WEIR_REASON_BAD_MESSAGE},             /* a control frame in fragments */
        {{0x81, 0x81, 0, 0, 0, 0, 0xff}, 7, WEIR_REASON_BAD_MESSAGE},       /* text that is not UTF-8 */
        {{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed}, 8, WEIR_REASON_BAD_MESSAGE}, /* a Close that says 1005 */
        {{0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0}, 10, WEIR_REASON_TOO_BIG},
    };
    uint64_t chosen = run_below(client->run, sizeof spoilers / sizeof *spoilers);
    say(client, spoilers[chosen].bytes, spoilers[chosen].count);
    return spoilers[chosen].reason;
}

uint64_t web_may_have_read(const struct run_client *client)
{
    uint64_t bytes = client->written >= client->handshake_bytes ? client->welcome_bytes : 0;
    for (uint32_t i = 0; i < client->frame_count && client->frames[i].said <= client->written; i++)
        bytes = (uint64_t)client->frames[i].offset + client->frames[i].bytes;
    return bytes;
}

/* Where the answer to the next message begins that has not been read to its end. */
static uint64_t next_boundary(const struct run_client *client)
{
    if (client->read < client->welcome_bytes)
        return client->welcome_bytes;
    for (uint32_t i = 0; i < client->frame_count; i++)
        if ((uint64_t)client->frames[i].offset + client->frames[i].bytes > client->read)
            return (uint64_t)client->frames[i].offset + client->frames[i].bytes;
    return client->answers_bytes;
}

static bool at_boundary(const struct run_client *client)
{
    if (client->read == client->welcome_bytes)
        return true;
    for (uint32_t i = 0; i < client->frame_count; i++)
        if ((uint64_t)client->frames[i].offset + client->frames[i].bytes == client->read)
            return true;
    return false;
}

static void hear_control(struct run_client *client)
{
    const struct run *run = client->run;
    const uint8_t *frame = client->control;
    RUN_CHECK(run, !client->close_heard, "client %u hears something behind the Close", client->index);
    RUN_CHECK(run, frame[0] == PONG || frame[0] == CLOSE, "client %u hears a control frame 0x%02x", client->index, frame[0]);
    if (frame[0] == CLOSE) {
        client->close_heard = true;
        client->close_code = frame[1] == 0 ? 1005 : (uint32_t)frame[2] << 8 | frame[3];
        return;
    }
    uint32_t number = (uint32_t)frame[2] << 8 | frame[3];
    RUN_CHECK(run, frame[1] >= PING_BYTES && number > client->pong && number <= client->pings,
              "client %u hears the answer to ping %u behind that to %u, and has said %u", client->index, number, client->pong,
              client->pings);
    client->pong = number;
}

void web_hear(struct run_client *client, const uint8_t *data, uint64_t bytes)
{
    struct run *run = client->run;
    while (bytes > 0) {
        if (client->control_bytes > 0 || (at_boundary(client) && (data[0] & CONTROL) != 0)) {
            RUN_CHECK(run, client->control_bytes < sizeof client->control, "client %u hears a large control frame", client->index);
            client->control[client->control_bytes++] = *data++;
            bytes--;
            client->others_read++;
            if (client->control_bytes >= 2 && client->control_bytes == 2u + client->control[1]) {
                hear_control(client);
                client->control_bytes = 0;
            }
            continue;
        }
        uint64_t piece = next_boundary(client) - client->read;
        piece = piece < bytes ? piece : bytes;
        RUN_CHECK(run, piece > 0 && client->read + piece <= web_may_have_read(client),
                  "client %u hears more than the answers to what it said", client->index);
        RUN_CHECK(run, memcmp(data, client->answers + client->read, (size_t)piece) == 0,
                  "client %u hears something else than the answers to what it said, within bytes %llu to %llu", client->index,
                  (unsigned long long)client->read, (unsigned long long)(client->read + piece));
        client->read += piece;
        data += piece;
        bytes -= piece;
    }
}
