/* SPDX-License-Identifier: MIT */
/* raw: whatever arrives, in whatever pieces.
 *
 * Road:    all that is there is a message; nothing goes round what is sent.
 * Ditches: a piece larger than message_max_bytes → cut there, the rest is the next message; to be sent and larger → -EMSGSIZE. */
#include <weir/codec.h>

#include <errno.h>

/* Like frame's default: what a send may be, and with it what a queue must at least be able to take. */
#define RAW_MAX_BYTES (UINT32_C(1) << 20)

static int raw_cut(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    (void)data;
    uint32_t payload_bytes = bytes < codec->message_max_bytes ? bytes : codec->message_max_bytes;
    cut->frame_bytes = payload_bytes;
    cut->payload_offset = 0;
    cut->payload_bytes = payload_bytes;
    return WEIR_CUT_MESSAGE;
}

static int raw_seal(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal)
{
    (void)payload;
    if (bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    seal->head_bytes = 0;
    seal->trailer_bytes = 0;
    return 0;
}

int weir_codec_raw(weir_codec *codec)
{
    *codec = (weir_codec){
        .name = "raw",
        .cut = raw_cut,
        .seal = raw_seal,
        .message_max_bytes = RAW_MAX_BYTES,
    };
    return 0;
}
