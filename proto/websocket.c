/* SPDX-License-Identifier: MIT */
/* websocket: frames (RFC 6455, section 5).
 *
 *   bits   1    3     4        1       7 (or 16, or 64)   32       ...
 *        [FIN | RSV | opcode | MASK | payload's length  | key  | payload]
 *
 * Road:    first two bytes: may this frame stand here? -> the whole head -> within the limits -> payload, as it comes: unmasked in place, text looked at -> whole.
 * Ditches: what section 5 forbids -> -EBADMSG as soon as the byte is there; over a limit -> -EMSGSIZE by the head alone; no UTF-8 -> -EILSEQ at its first
 *          byte; the same frame again (WEIR_LATER) -> what is done is not done twice; behind the peer's Close -> nothing is looked at. */
#include "proto/websocket.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "proto/deflate.h"
#include "proto/mask.h"

#define FIN         0x80u
#define RESERVED    0x70u
#define PACKED      0x40u /* RSV1, where permessage-deflate is agreed on (RFC 7692, section 6) */
#define OPCODE      0x0fu
#define MASK        0x80u
#define LENGTH      0x7fu
#define LENGTH_16   126u /* the next two bytes say it */
#define LENGTH_64   127u /* the next eight */
#define CONTROL_MAX 125u
#define KEY_BYTES   4u
#define CODE_BYTES  2u

enum opcode {
    CONTINUATION = 0,
    TEXT = WEIR_WEBSOCKET_TEXT,
    BINARY = WEIR_WEBSOCKET_BINARY,
    CLOSE = 8,
    PING = WEIR_WEBSOCKET_PING,
    PONG = 10
};

/* What settings[] hold behind the options' pointer. */
#define SETTING_KIND   8
#define SETTING_CLIENT 9

#define DEFAULT_MESSAGE_MAX_BYTES (UINT32_C(1) << 20)
#define DEFAULT_FRAGMENTS_MAX     1024u
#define DEFAULT_PACKED_FROM_BYTES 256u

static inline bool opcode_is_control(uint32_t opcode)
{
    return opcode >= CLOSE;
}

static inline bool websocket_is_client(const weir_codec *codec)
{
    return codec->settings[SETTING_CLIENT] != 0;
}

/* --- inbound --- */

/* May a frame that begins with these two bytes stand here? (sections 5.1, 5.2, 5.4, 5.5) */
static bool websocket_may_begin(const weir_codec *codec, const struct w_websocket *ws, uint8_t first, uint8_t second)
{
    uint32_t opcode = first & OPCODE;
    bool masked = (second & MASK) != 0, may_be_packed = ws->state.packs && (opcode == TEXT || opcode == BINARY);
    if ((first & RESERVED & ~(may_be_packed ? PACKED : 0)) != 0 || masked == websocket_is_client(codec))
        return false;
    if (opcode_is_control(opcode))
        return opcode <= PONG && (first & FIN) != 0 && (second & LENGTH) <= CONTROL_MAX;
    return opcode == CONTINUATION ? ws->message_kind != 0 : opcode <= BINARY && ws->message_kind == 0;
}

static uint64_t websocket_long_length(const uint8_t *data, uint32_t bytes)
{
    uint64_t length = 0;
    for (uint32_t i = 0; i < bytes; i++)
        length = length << 8 | data[i];
    return length;
}

/* How many bytes a message's frames may have: a packed one's can be somewhat more than those that are in it. */
static uint64_t websocket_frames_max_bytes(const weir_codec *codec, const struct w_websocket *ws)
{
    bool packed = ws->message_kind == 0 ? (ws->first & PACKED) != 0 : ws->message_packed;
    return packed ? (uint64_t)codec->message_max_bytes + codec->message_max_bytes / 128 + 64 : codec->message_max_bytes;
}

/* A data frame of so many bytes: is the message that it belongs to within the limits? */
static bool websocket_is_within_limits(const weir_codec *codec, const struct w_websocket *ws, uint64_t payload_bytes)
{
    if (opcode_is_control(ws->first & OPCODE))
        return true;
    const weir_websocket_options *options = w_websocket_options(codec);
    uint32_t fragments_max = options->fragments_max != 0 ? options->fragments_max : DEFAULT_FRAGMENTS_MAX;
    bool whole = (ws->first & FIN) != 0 && ws->message_kind == 0;
    uint32_t before_bytes = ws->message_kind == 0 ? 0 : ws->message_bytes, before = ws->message_kind == 0 ? 0 : ws->fragments;
    return payload_bytes + before_bytes <= websocket_frames_max_bytes(codec, ws) && (whole || before < fragments_max);
}

/* The head of a new frame: WEIR_CUT_MESSAGE: it is known now. */
static int websocket_cut_head(const weir_codec *codec, struct w_websocket *ws, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    if (bytes < 2) {
        /* What the first byte alone forbids is said at once: of the second one the best is hoped. */
        uint8_t hoped = websocket_is_client(codec) ? 0 : MASK;
        cut->missing_bytes = 1;
        return websocket_may_begin(codec, ws, data[0], hoped) ? WEIR_CUT_MORE : -EBADMSG;
    }
    if (!websocket_may_begin(codec, ws, data[0], data[1]))
        return -EBADMSG;
    uint64_t length = data[1] & LENGTH;
    uint32_t long_bytes = length == LENGTH_16 ? 2 : length == LENGTH_64 ? 8 : 0;
    uint32_t head_bytes = 2 + long_bytes + (websocket_is_client(codec) ? 0 : KEY_BYTES);
    if (bytes >= 2 + long_bytes) {
        if (long_bytes > 0)
            length = websocket_long_length(data + 2, long_bytes);
        /* The shortest form is demanded (section 5.2), and of eight bytes the first bit is 0. */
        if ((long_bytes == 2 && length < LENGTH_16) || (long_bytes == 8 && (length <= UINT16_MAX || length > INT64_MAX)))
            return -EBADMSG;
        ws->first = data[0];
        if (!websocket_is_within_limits(codec, ws, length))
            return -EMSGSIZE;
    }
    if (bytes < head_bytes) {
        cut->missing_bytes = head_bytes - bytes;
        return WEIR_CUT_MORE;
    }
    if (!websocket_is_client(codec))
        memcpy(ws->key, data + head_bytes - KEY_BYTES, KEY_BYTES);
    if (ws->message_kind == 0) {
        ws->message_bytes = ws->fragments = 0;
        ws->message_packed = (data[0] & PACKED) != 0;
    }
    ws->head_bytes = (uint8_t)head_bytes;
    ws->payload_bytes = (uint32_t)length;
    ws->done_bytes = 0;
    return WEIR_CUT_MESSAGE;
}

static inline bool websocket_is_text(const struct w_websocket *ws)
{
    uint32_t opcode = ws->first & OPCODE;
    return opcode == TEXT || (opcode == CONTINUATION && ws->message_kind == TEXT);
}

/* So much of the payload is there: what has come anew is unmasked, in place, and looked at. */
static int websocket_cut_payload(const weir_codec *codec, struct w_websocket *ws, uint8_t *payload, uint32_t bytes)
{
    uint32_t done_bytes = ws->done_bytes;
    ws->done_bytes = bytes;
    if (!websocket_is_client(codec))
        w_mask(payload + done_bytes, payload + done_bytes, bytes - done_bytes, ws->key, done_bytes);
    if (!websocket_is_text(ws) || ws->message_packed)
        return 0;
    if (!w_utf8_check(&ws->utf8, payload + done_bytes, bytes - done_bytes))
        return -EILSEQ;
    return bytes < ws->payload_bytes || (ws->first & FIN) == 0 || w_utf8_is_whole(&ws->utf8) ? 0 : -EILSEQ;
}

/* The frame is there: what is it? */
static void websocket_cut_whole(struct w_websocket *ws)
{
    uint32_t opcode = ws->first & OPCODE;
    bool last = (ws->first & FIN) != 0;
    ws->whole = true;
    if (opcode_is_control(opcode)) {
        ws->state.frame = WEIR_SESSION_OWN;
        return;
    }
    bool first = ws->message_kind == 0;
    ws->state.kind = first ? (uint8_t)opcode : ws->message_kind;
    ws->state.packed = ws->message_packed;
    ws->state.frame = !last ? WEIR_SESSION_PART : first && !ws->message_packed ? WEIR_SESSION_MESSAGE : WEIR_SESSION_LAST;
    ws->message_kind = last ? 0 : ws->state.kind;
    ws->message_bytes += ws->payload_bytes;
    ws->fragments++;
}

static int websocket_cut(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    struct w_websocket *ws = cut->session;
    if (__builtin_expect(ws->stage != W_WEBSOCKET_OPEN, false))
        return w_handshake_cut(codec, ws, data, bytes, cut);
    if (ws->whole && ws->state.frame == WEIR_SESSION_UNKNOWN) { /* weir is done with the one before */
        ws->whole = false;
        ws->head_bytes = 0;
    }
    if (ws->head_bytes == 0) {
        int result = websocket_cut_head(codec, ws, data, bytes, cut);
        if (result != WEIR_CUT_MESSAGE)
            return result;
    }
    if (!ws->whole) {
        uint32_t there_bytes = bytes - ws->head_bytes, payload_bytes = ws->payload_bytes;
        uint32_t have_bytes = there_bytes < payload_bytes ? there_bytes : payload_bytes;
        /* The bytes are the connection's own, in its receive buffer or its stash. */
        int result = websocket_cut_payload(codec, ws, (uint8_t *)(uintptr_t)data + ws->head_bytes, have_bytes);
        if (result != 0)
            return result;
        if (have_bytes < payload_bytes) {
            cut->missing_bytes = payload_bytes - have_bytes;
            return WEIR_CUT_MORE;
        }
        websocket_cut_whole(ws);
    }
    cut->frame_bytes = ws->head_bytes + ws->payload_bytes;
    cut->payload_offset = ws->head_bytes;
    cut->payload_bytes = ws->payload_bytes;
    return WEIR_CUT_MESSAGE;
}

/* --- outbound --- */

bool w_websocket_random(const weir_websocket_options *options, uint8_t *to, uint32_t bytes)
{
    static _Thread_local struct {
        uint8_t data[256];
        uint32_t left_bytes;
    } stock;
    if (options->random != NULL)
        return options->random(options->user, to, bytes);
    if (stock.left_bytes < bytes) {
        if (getrandom(stock.data, sizeof stock.data, 0) != (ssize_t)sizeof stock.data)
            return false;
        stock.left_bytes = sizeof stock.data;
    }
    stock.left_bytes -= bytes;
    memcpy(to, stock.data + stock.left_bytes, bytes);
    memset(stock.data + stock.left_bytes, 0, bytes);
    return true;
}

/* All of a head in one store: whoever copies it loads all of it at once, and would have to wait for shorter stores to reach the cache. */
typedef uint64_t head_words __attribute__((vector_size(WEIR_HEAD_MAX_BYTES)));

static inline uint64_t head_little_endian(uint64_t word)
{
    return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(word) : word;
}

/* The head of an unfragmented frame: 0, or -EIO: no key for a client's mask. */
static inline int websocket_seal_as(const weir_codec *codec, uint32_t opcode, uint32_t bytes, weir_seal *seal)
{
    uint64_t low = FIN | opcode, high = 0;
    uint32_t head_bytes = 2;
    if (bytes <= CONTROL_MAX) {
        low |= (uint64_t)bytes << 8;
    } else if (bytes <= UINT16_MAX) {
        low |= (uint64_t)LENGTH_16 << 8 | (uint64_t)__builtin_bswap16((uint16_t)bytes) << 16;
        head_bytes = 4;
    } else {
        uint64_t length = __builtin_bswap64(bytes);
        low |= (uint64_t)LENGTH_64 << 8 | length << 16;
        high = length >> 48;
        head_bytes = 10;
    }
    if (websocket_is_client(codec)) {
        uint32_t key;
        uint8_t key_bytes[KEY_BYTES];
        if (!w_websocket_random(w_websocket_options(codec), key_bytes, sizeof key_bytes))
            return -EIO;
        memcpy(&key, key_bytes, sizeof key);
        uint64_t word = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap32(key) : key;
        low |= (uint64_t)MASK << 8 | (head_bytes < 8 ? word << 8 * head_bytes : 0);
        high |= head_bytes < 8 ? 0 : word << 8 * (head_bytes - 8);
        head_bytes += KEY_BYTES;
    }
    head_words head = {head_little_endian(low), head_little_endian(high)};
    memcpy(seal->head, &head, sizeof head);
    seal->head_bytes = head_bytes;
    seal->trailer_bytes = 0;
    return 0;
}

static bool websocket_payload_is_text(const uint8_t *payload, uint32_t bytes)
{
    struct w_utf8 utf8 = {0};
    return w_utf8_check(&utf8, payload, bytes) && w_utf8_is_whole(&utf8);
}

static int websocket_seal(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal)
{
    uint32_t kind = codec->settings[SETTING_KIND];
    if (bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    if (kind == TEXT && !websocket_payload_is_text(payload, bytes))
        return -EBADMSG;
    return websocket_seal_as(codec, kind, bytes, seal);
}

static void websocket_copy(const weir_seal *seal, uint8_t *to, const uint8_t *from, uint32_t bytes, uint32_t offset)
{
    w_mask(to, from, bytes, seal->head + seal->head_bytes - KEY_BYTES, offset);
}

/* A whole control frame (section 5.5): answers its bytes; 0: no key. */
static uint32_t websocket_write_control(const weir_codec *codec, uint32_t opcode, const uint8_t *payload, uint32_t bytes, uint8_t *to)
{
    weir_seal seal;
    if (websocket_seal_as(codec, opcode, bytes, &seal) != 0)
        return 0;
    memcpy(to, seal.head, seal.head_bytes);
    if (websocket_is_client(codec))
        websocket_copy(&seal, to + seal.head_bytes, payload, bytes, 0);
    else
        memcpy(to + seal.head_bytes, payload, bytes);
    return seal.head_bytes + bytes;
}

/* --- what is for the session itself --- */

void weir_websocket_set_code(void *session, uint32_t code)
{
    struct w_websocket *ws = session;
    ws->code = weir_websocket_code_is_valid(code) ? (uint16_t)code : 0;
}

const char *weir_websocket_chosen(const weir_codec *codec, const void *session)
{
    const struct w_websocket *ws = session;
    return ws->subprotocol == 0 ? NULL : w_websocket_options(codec)->subprotocols[ws->subprotocol - 1];
}

bool weir_websocket_code_is_valid(uint32_t code)
{
    /* 1004 to 1006 and 1015 never stand in a Close; 1012 to 1014 are IANA's additions. */
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static int websocket_take_close(struct w_websocket *ws, const uint8_t *data, uint32_t bytes, weir_session_answer *answer)
{
    if (bytes == 1)
        return -EBADMSG;
    if (bytes >= CODE_BYTES) {
        uint32_t code = (uint32_t)data[0] << 8 | data[1];
        if (!weir_websocket_code_is_valid(code))
            return -EBADMSG;
        if (!websocket_payload_is_text(data + CODE_BYTES, bytes - CODE_BYTES))
            return -EILSEQ;
        ws->code = (uint16_t)code;
    } else {
        ws->code = 0;
    }
    answer->peer_code = ws->code != 0 ? ws->code : 1005;
    ws->stage = W_WEBSOCKET_CLOSED;
    return WEIR_SESSION_END;
}

static int websocket_take_control(const weir_codec *codec, struct w_websocket *ws, const uint8_t *data, uint32_t bytes,
                                  weir_session_answer *answer)
{
    switch (ws->first & OPCODE) {
    case CLOSE:
        return websocket_take_close(ws, data, bytes, answer);
    case PING:
        answer->control = true;
        answer->bytes = websocket_write_control(codec, PONG, data, bytes, answer->data);
        return WEIR_SESSION_GO_ON;
    default:
        return WEIR_SESSION_GO_ON;
    }
}

static int websocket_take(const weir_codec *codec, void *memory, uint8_t *data, uint32_t bytes, weir_session_answer *answer)
{
    struct w_websocket *ws = memory;
    if (ws->stage == W_WEBSOCKET_OPEN)
        return websocket_take_control(codec, ws, data, bytes, answer);
    if (ws->stage == W_WEBSOCKET_CLOSED)
        return WEIR_SESSION_GO_ON;
    return websocket_is_client(codec) ? w_handshake_take_response(codec, ws, (const char *)data, bytes, answer)
                                      : w_handshake_take_request(codec, ws, (const char *)data, bytes, answer);
}

static int websocket_begin(const weir_codec *codec, void *memory, weir_session_answer *answer)
{
    return w_handshake_begin(codec, memory, answer);
}

/* The code that our Close says (section 7.4.1); -1: no Close is said. */
static int32_t websocket_farewell_code(const struct w_websocket *ws, weir_reason reason, int error)
{
    switch (reason) {
    case WEIR_REASON_LOCAL:
        return ws->code != 0 ? ws->code : 1000;
    case WEIR_REASON_STOPPED:
        return 1001;
    case WEIR_REASON_BAD_MESSAGE:
        return error == -EILSEQ ? 1007 : 1002;
    case WEIR_REASON_TOO_BIG:
        return 1009;
    case WEIR_REASON_HANDLER:
        return 1011;
    case WEIR_REASON_PEER: /* its own code comes back (section 5.5.1); who went without a Close gets none */
        return ws->stage == W_WEBSOCKET_CLOSED ? ws->code : -1;
    default:
        return -1;
    }
}

static uint32_t websocket_farewell(const weir_codec *codec, void *memory, weir_reason reason, int error,
                                   uint8_t to[WEIR_SESSION_FAREWELL_BYTES])
{
    int32_t code = websocket_farewell_code(memory, reason, error);
    if (code < 0)
        return 0;
    const uint8_t payload[CODE_BYTES] = {(uint8_t)(code >> 8), (uint8_t)code};
    return websocket_write_control(codec, CLOSE, payload, code == 0 ? 0 : CODE_BYTES, to);
}

#ifdef WEIR_DEFLATE

/* --- packed messages --- */

static const weir_websocket_deflate *websocket_deflate_options(const weir_codec *codec)
{
    return &w_websocket_options(codec)->deflate;
}

static int websocket_unpack(const weir_codec *codec, void *memory, weir_session_heap *heap, weir_session_unpacking *unpacking)
{
    struct w_websocket_packing *packing = memory;
    struct w_websocket *ws = &packing->ws;
    int result = w_deflate_unpack(&packing->deflate, heap, websocket_deflate_options(codec), codec->message_max_bytes, unpacking);
    if (result < 0 || ws->state.kind != TEXT)
        return result;
    if (!w_utf8_check(&ws->utf8, unpacking->to, unpacking->made_bytes))
        return -EILSEQ;
    return result == 0 && unpacking->last && !w_utf8_is_whole(&ws->utf8) ? -EILSEQ : result;
}

static uint32_t websocket_pack(const weir_codec *codec, void *memory, weir_session_heap *heap, const uint8_t *data, uint32_t bytes,
                               uint8_t *to, weir_seal *seal)
{
    struct w_websocket_packing *packing = memory;
    const weir_websocket_deflate *options = websocket_deflate_options(codec);
    uint32_t kind = codec->settings[SETTING_KIND], from_bytes = options->from_bytes != 0 ? options->from_bytes : DEFAULT_PACKED_FROM_BYTES;
    if (data == NULL)
        w_deflate_forget_sent(&packing->deflate, heap);
    if (data == NULL || bytes < from_bytes || opcode_is_control(kind))
        return 0;
    uint32_t packed_bytes = w_deflate_pack(&packing->deflate, heap, options, data, bytes, to);
    if (packed_bytes > 0)
        websocket_seal_as(codec, PACKED | kind, packed_bytes, seal); /* a server's cannot fail */
    return packed_bytes;
}

static void websocket_close(const weir_codec *codec, void *memory, weir_session_heap *heap)
{
    struct w_websocket_packing *packing = memory;
    (void)codec;
    w_deflate_close(&packing->deflate, heap);
}

#endif

static const weir_codec *websocket_as(const weir_codec *codec, uint8_t kind, weir_codec *other)
{
    if (kind == codec->settings[SETTING_KIND])
        return codec;
    if (kind != WEIR_WEBSOCKET_TEXT && kind != WEIR_WEBSOCKET_BINARY && kind != WEIR_WEBSOCKET_PING)
        return NULL;
    *other = *codec;
    other->settings[SETTING_KIND] = kind;
    if (kind == WEIR_WEBSOCKET_PING)
        other->message_max_bytes = CONTROL_MAX;
    return other;
}

/* --- the codec --- */

static const weir_session websocket_server = {
    .bytes = sizeof(struct w_websocket),
    .take = websocket_take,
    .as = websocket_as,
    .farewell = websocket_farewell,
};

static const weir_session websocket_client = {
    .bytes = sizeof(struct w_websocket),
    .waits_for_peer = true, /* section 7.1.1: the server closes first */
    .begin = websocket_begin,
    .take = websocket_take,
    .as = websocket_as,
    .farewell = websocket_farewell,
};

#ifdef WEIR_DEFLATE
static const weir_session websocket_server_packing = {
    .bytes = sizeof(struct w_websocket_packing),
    .take = websocket_take,
    .as = websocket_as,
    .unpack = websocket_unpack,
    .pack = websocket_pack,
    .close = websocket_close,
    .farewell = websocket_farewell,
};
#endif

static bool websocket_options_are_good(const weir_websocket_options *options)
{
    char request[WEIR_SESSION_ANSWER_BYTES];
    const uint8_t nonce[W_WEBSOCKET_NONCE_BYTES] = {0};
    return w_handshake_subprotocols_are_good(options) && options->message_max_bytes <= WEIR_MESSAGE_MAX_BYTES &&
           options->head_max_bytes <= W_WEBSOCKET_HEAD_MAX_BYTES &&
           (options->kind == 0 || options->kind == WEIR_WEBSOCKET_TEXT || options->kind == WEIR_WEBSOCKET_BINARY) &&
           w_deflate_options_are_good(&options->deflate) && !(options->client && options->deflate.enabled) &&
           (!options->client || w_handshake_write_request(options, nonce, request, sizeof request) > 0);
}

/* NULL: weir was built without it. */
static const weir_session *websocket_session(const weir_websocket_options *options)
{
    if (!options->deflate.enabled)
        return options->client ? &websocket_client : &websocket_server;
#ifdef WEIR_DEFLATE
    return &websocket_server_packing;
#else
    return NULL;
#endif
}

int weir_codec_websocket(weir_codec *codec, const weir_websocket_options *options)
{
    static const weir_websocket_options defaults = {0};
    if (options == NULL)
        options = &defaults;
    if (!websocket_options_are_good(options))
        return -EINVAL;
    const weir_session *session = websocket_session(options);
    if (session == NULL)
        return -ENOTSUP;
    *codec = (weir_codec){
        .name = "websocket",
        .cut = websocket_cut,
        .seal = websocket_seal,
        .copy = options->client ? websocket_copy : NULL,
        .session = session,
        .message_max_bytes = options->message_max_bytes != 0 ? options->message_max_bytes : DEFAULT_MESSAGE_MAX_BYTES,
        .head_max_bytes = options->client ? 14 : 10,
        .boundaries = true,
        .settings =
            {[SETTING_KIND] = (uint8_t)(options->kind != 0 ? options->kind : WEIR_WEBSOCKET_TEXT), [SETTING_CLIENT] = options->client},
    };
    memcpy(codec->settings, &options, sizeof options);
    return 0;
}
