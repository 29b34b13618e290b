/* SPDX-License-Identifier: MIT */
/* line: text up to LF or CR LF.
 *
 * Road:    search on from where the last search ended → LF → a CR before it goes too → message.
 * Ditches: no LF yet → one byte more, at least; no LF where the longest line, its CR and its LF would end → -EMSGSIZE, at the first byte that is too
 *          many; to be sent with an LF inside → -EBADMSG.
 *
 * A payload that ends in CR and is sent with a bare LF would reach the peer without its CR, because the two look like one line end there. So it is
 * refused with -EBADMSG too; with CR LF it is carried: only one CR is taken off. */
#include <weir/codec.h>

#include <errno.h>
#include <string.h>

#define LINE_DEFAULT_MAX_BYTES (UINT32_C(64) << 10)

/* What settings[] hold. */
#define LINE_SETTING_CRLF 0

/* No LF in the first searched_bytes: may one still come in time? A line of the largest size can have its CR still behind it. */
static int line_cut_unended(const weir_codec *codec, const uint8_t *data, uint32_t searched_bytes, weir_cut *cut)
{
    uint32_t max_bytes = codec->message_max_bytes;
    if (searched_bytes > max_bytes && !(searched_bytes == max_bytes + 1 && data[max_bytes] == '\r'))
        return -EMSGSIZE;
    cut->scanned_bytes = searched_bytes;
    cut->missing_bytes = 1;
    return WEIR_CUT_MORE;
}

static int line_cut(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    uint32_t from = cut->scanned_bytes < bytes ? cut->scanned_bytes : bytes;
    const uint8_t *found = memchr(data + from, '\n', bytes - from);
    if (found == NULL)
        return line_cut_unended(codec, data, bytes, cut);
    uint32_t payload_bytes = (uint32_t)(found - data);
    cut->frame_bytes = payload_bytes + 1;
    if (payload_bytes > 0 && found[-1] == '\r')
        payload_bytes--;
    if (payload_bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    cut->payload_offset = 0;
    cut->payload_bytes = payload_bytes;
    return WEIR_CUT_MESSAGE;
}

static int line_seal(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal)
{
    bool crlf = codec->settings[LINE_SETTING_CRLF];
    if (bytes > codec->message_max_bytes)
        return -EMSGSIZE;
    if (bytes > 0 && memchr(payload, '\n', bytes) != NULL)
        return -EBADMSG;
    if (bytes > 0 && payload[bytes - 1] == '\r' && !crlf)
        return -EBADMSG;
    memcpy(seal->trailer, crlf ? "\r\n" : "\n", 2);
    seal->head_bytes = 0;
    seal->trailer_bytes = crlf ? 2 : 1;
    return 0;
}

int weir_codec_line(weir_codec *codec, uint32_t line_max_bytes, bool crlf)
{
    if (line_max_bytes > WEIR_MESSAGE_MAX_BYTES)
        return -EINVAL;
    *codec = (weir_codec){
        .name = "line",
        .cut = line_cut,
        .seal = line_seal,
        .message_max_bytes = line_max_bytes != 0 ? line_max_bytes : LINE_DEFAULT_MAX_BYTES,
        .trailer_max_bytes = crlf ? 2 : 1,
        .boundaries = true,
        .settings = {[LINE_SETTING_CRLF] = crlf},
    };
    return 0;
}
