/* SPDX-License-Identifier: MIT */
/* limits: is a protocol one that can run? */
#include "runtime/limits.h"

#include <errno.h>

#include <weir/session.h>

int w_limits_check(const weir_protocol *protocol, weir_error *error)
{
    if (protocol == NULL)
        return w_base_fail(error, -EINVAL, "protocol is NULL");
    const weir_codec *codec = &protocol->codec;
    if (codec->cut == NULL || codec->seal == NULL)
        return w_base_fail(error, -EINVAL, "protocol.codec is not filled in: use weir_codec_frame, weir_codec_line or weir_codec_raw");
    if (codec->message_max_bytes == 0 || codec->message_max_bytes > WEIR_MESSAGE_MAX_BYTES)
        return w_base_fail(error, -EINVAL, "codec.message_max_bytes is %u: 1 to %u", codec->message_max_bytes, WEIR_MESSAGE_MAX_BYTES);
    if (codec->head_max_bytes > WEIR_HEAD_MAX_BYTES || codec->trailer_max_bytes > WEIR_TRAILER_MAX_BYTES)
        return w_base_fail(error, -EINVAL, "codec.head_max_bytes %u and trailer_max_bytes %u: at most %d and %d", codec->head_max_bytes,
                           codec->trailer_max_bytes, WEIR_HEAD_MAX_BYTES, WEIR_TRAILER_MAX_BYTES);
    if (codec->length_bytes != 0 &&
        ((codec->length_bytes & (codec->length_bytes - 1)) != 0 || codec->length_bytes != codec->head_max_bytes ||
         codec->length_bytes > sizeof(uint64_t) || codec->trailer_max_bytes != 0 || codec->copy != NULL))
        return w_base_fail(error, -EINVAL,
                           "codec.length_bytes is %u: 0, or 1, 2, 4 or 8, as head_max_bytes, without trailer_max_bytes and copy",
                           codec->length_bytes);
    const weir_session *session = codec->session;
    if (session != NULL &&
        (session->take == NULL || session->bytes < sizeof(weir_session_state) || session->bytes > WEIR_SESSION_MAX_BYTES))
        return w_base_fail(error, -EINVAL, "codec.session wants %u bytes of memory: %zu to %d, and a take function", session->bytes,
                           sizeof(weir_session_state), WEIR_SESSION_MAX_BYTES);
    if (w_limits_high_water(protocol) > WEIR_MESSAGE_MAX_BYTES)
        return w_base_fail(error, -EINVAL, "limits.high_water_bytes is %u: at most %u", protocol->limits.high_water_bytes,
                           WEIR_MESSAGE_MAX_BYTES);
    if (w_limits_low_water(protocol) > w_limits_high_water(protocol))
        return w_base_fail(error, -EINVAL, "limits.low_water_bytes %u is over high_water_bytes %u", w_limits_low_water(protocol),
                           w_limits_high_water(protocol));
    uint32_t least = codec->message_max_bytes + codec->head_max_bytes + codec->trailer_max_bytes;
    if (codec->boundaries && w_limits_hard(protocol) < least)
        return w_base_fail(error, -EINVAL, "limits.hard_limit_bytes is %u, but one largest message needs %u", w_limits_hard(protocol),
                           least);
    return 0;
}
