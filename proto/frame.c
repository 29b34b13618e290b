/* SPDX-License-Identifier: MIT */
/* frame: a length, then that many bytes.
 *
 * Road:    the length field is there → within the limit → the whole frame is there → message.
 * Ditches: field or payload not whole → how many bytes are missing (a varint: at least one); over the limit → -EMSGSIZE as soon as the field is whole; a length that
 *          counts itself and is less than itself → -EBADMSG; a varint of more than five bytes → -EBADMSG, one that says 2^32 or more is over any limit.
 *
 * One pair of functions for each kind of length field, chosen once, when the codec is made: the way of a message has no switch. */
#include <weir/codec.h>

#include <errno.h>
#include <string.h>

#define FRAME_DEFAULT_MAX_BYTES (UINT32_C(1) << 20)
#define FRAME_VARINT_MAX_BYTES  5u
#define FRAME_HOST_IS_BIG       (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

typedef int (*frame_cut_function)(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut);
typedef int (*frame_seal_function)(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal);

static inline uint16_t frame_order_u16(uint16_t value, bool big)
{
    return big != FRAME_HOST_IS_BIG ? __builtin_bswap16(value) : value;
}

static inline uint32_t frame_order_u32(uint32_t value, bool big)
{
    return big != FRAME_HOST_IS_BIG ? __builtin_bswap32(value) : value;
}

static inline uint64_t frame_order_u64(uint64_t value, bool big)
{
    return big != FRAME_HOST_IS_BIG ? __builtin_bswap64(value) : value;
}

/* In the next two, head_bytes and big are constants wherever they are inlined. */
static inline uint64_t frame_load(const uint8_t *data, uint32_t head_bytes, bool big)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    switch (head_bytes) {
    case 1:
        return data[0];
    case 2:
        memcpy(&u16, data, sizeof u16);
        return frame_order_u16(u16, big);
    case 4:
        memcpy(&u32, data, sizeof u32);
        return frame_order_u32(u32, big);
    default:
        memcpy(&u64, data, sizeof u64);
        return frame_order_u64(u64, big);
    }
}

/* All of a head in one store: whoever copies it loads all of it at once, and would have to wait for a shorter store to reach the cache. */
typedef uint64_t frame_head __attribute__((vector_size(WEIR_HEAD_MAX_BYTES)));

static inline void frame_store(uint8_t data[WEIR_HEAD_MAX_BYTES], uint64_t length, uint32_t head_bytes, bool big)
{
    uint8_t u8 = (uint8_t)length;
    uint16_t u16 = frame_order_u16((uint16_t)length, big);
    uint32_t u32 = frame_order_u32((uint32_t)length, big);
    uint64_t word = 0;
    switch (head_bytes) {
    case 1:
        memcpy(&word, &u8, sizeof u8);
        break;
    case 2:
        memcpy(&word, &u16, sizeof u16);
        break;
    case 4:
        memcpy(&word, &u32, sizeof u32);
        break;
    default:
        word = frame_order_u64(length, big);
        break;
    }
    frame_head head = {word, 0};
    memcpy(data, &head, sizeof head);
}

/* What comes after the length is known. */
static inline int frame_cut_payload(const weir_codec *codec, uint32_t bytes, weir_cut *cut, uint32_t head_bytes, uint64_t payload_bytes)
{
    if (payload_bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    uint32_t frame_bytes = head_bytes + (uint32_t)payload_bytes;
    if (bytes < frame_bytes) {
        cut->missing_bytes = frame_bytes - bytes;
        return WEIR_CUT_MORE;
    }
    cut->frame_bytes = frame_bytes;
    cut->payload_offset = head_bytes;
    cut->payload_bytes = (uint32_t)payload_bytes;
    return WEIR_CUT_MESSAGE;
}

static inline int frame_cut_fixed(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut, uint32_t head_bytes,
                                  bool big)
{
    if (bytes < head_bytes) {
        cut->missing_bytes = head_bytes - bytes;
        return WEIR_CUT_MORE;
    }
    uint64_t length = frame_load(data, head_bytes, big);
    uint8_t own_bytes = codec->length_extra;
    if (length < own_bytes)
        return -EBADMSG;
    return frame_cut_payload(codec, bytes, cut, head_bytes, length - own_bytes);
}

static inline int frame_seal_fixed(const weir_codec *codec, uint32_t bytes, weir_seal *seal, uint32_t head_bytes, bool big)
{
    if (bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    frame_store(seal->head, (uint64_t)bytes + codec->length_extra, head_bytes, big);
    seal->head_bytes = head_bytes;
    seal->trailer_bytes = 0;
    return 0;
}

#define FRAME_FIXED(kind, head_bytes, big)                                                                                                 \
    static int frame_cut_##kind(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)                               \
    {                                                                                                                                      \
        return frame_cut_fixed(codec, data, bytes, cut, head_bytes, big);                                                                  \
    }                                                                                                                                      \
    static int frame_seal_##kind(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal)                         \
    {                                                                                                                                      \
        (void)payload;                                                                                                                     \
        return frame_seal_fixed(codec, bytes, seal, head_bytes, big);                                                                      \
    }

FRAME_FIXED(u8, 1, false)
FRAME_FIXED(u16_little, 2, false)
FRAME_FIXED(u16_big, 2, true)
FRAME_FIXED(u32_little, 4, false)
FRAME_FIXED(u32_big, 4, true)
FRAME_FIXED(u64_little, 8, false)
FRAME_FIXED(u64_big, 8, true)

/* Five groups of seven bits are 35: what they say above 2^32 is refused by the limit like any other. */
static int frame_cut_varint(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    uint64_t length = 0;
    for (uint32_t i = 0; i < FRAME_VARINT_MAX_BYTES; i++) {
        if (i == bytes) {
            cut->missing_bytes = 1;
            return WEIR_CUT_MORE;
        }
        length |= (uint64_t)(data[i] & 0x7f) << 7 * i;
        if (data[i] < 0x80)
            return frame_cut_payload(codec, bytes, cut, i + 1, length);
    }
    return -EBADMSG;
}

static int frame_seal_varint(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal)
{
    (void)payload;
    if (bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    uint32_t head_bytes = 0, rest = bytes;
    for (; rest >= 0x80; rest >>= 7)
        seal->head[head_bytes++] = (uint8_t)(rest | 0x80);
    seal->head[head_bytes++] = (uint8_t)rest;
    seal->head_bytes = head_bytes;
    seal->trailer_bytes = 0;
    return 0;
}

/* [1]: big-endian */
static const struct frame_kind {
    frame_cut_function cut[2];
    frame_seal_function seal[2];
    uint32_t head_bytes;
    uint32_t says_max_bytes; /* the most that the length field can say, or 2^32 - 1 */
} frame_kinds[] = {
    [WEIR_FRAME_U32] = {{frame_cut_u32_little, frame_cut_u32_big}, {frame_seal_u32_little, frame_seal_u32_big}, 4, UINT32_MAX},
    [WEIR_FRAME_U8] = {{frame_cut_u8, frame_cut_u8}, {frame_seal_u8, frame_seal_u8}, 1, UINT8_MAX},
    [WEIR_FRAME_U16] = {{frame_cut_u16_little, frame_cut_u16_big}, {frame_seal_u16_little, frame_seal_u16_big}, 2, UINT16_MAX},
    [WEIR_FRAME_U64] = {{frame_cut_u64_little, frame_cut_u64_big}, {frame_seal_u64_little, frame_seal_u64_big}, 8, UINT32_MAX},
    [WEIR_FRAME_VARINT] = {{frame_cut_varint, frame_cut_varint},
                           {frame_seal_varint, frame_seal_varint},
                           FRAME_VARINT_MAX_BYTES,
                           UINT32_MAX},
};

int weir_codec_frame(weir_codec *codec, const weir_frame_options *options)
{
    static const weir_frame_options defaults = {0};
    if (options == NULL)
        options = &defaults;
    if ((unsigned)options->length >= sizeof frame_kinds / sizeof frame_kinds[0])
        return -EINVAL;
    if (options->length == WEIR_FRAME_VARINT && options->counts_itself)
        return -EINVAL;
    const struct frame_kind *kind = &frame_kinds[options->length];
    uint32_t own_bytes = options->counts_itself ? kind->head_bytes : 0;
    uint32_t limit_bytes = kind->says_max_bytes - own_bytes;
    if (limit_bytes > WEIR_MESSAGE_MAX_BYTES)
        limit_bytes = WEIR_MESSAGE_MAX_BYTES;
    if (options->message_max_bytes > limit_bytes)
        return -EINVAL;
    uint32_t default_bytes = limit_bytes < FRAME_DEFAULT_MAX_BYTES ? limit_bytes : FRAME_DEFAULT_MAX_BYTES;

    *codec = (weir_codec){
        .name = "frame",
        .cut = kind->cut[options->big_endian],
        .seal = kind->seal[options->big_endian],
        .message_max_bytes = options->message_max_bytes != 0 ? options->message_max_bytes : default_bytes,
        .head_max_bytes = (uint16_t)kind->head_bytes,
        .boundaries = true,
        .length_bytes = options->length != WEIR_FRAME_VARINT ? (uint8_t)kind->head_bytes : 0,
        .length_extra = (uint8_t)own_bytes,
        .length_big_endian = options->big_endian,
    };
    return 0;
}
