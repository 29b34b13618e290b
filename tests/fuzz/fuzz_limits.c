/* SPDX-License-Identifier: MIT */
/* fuzz_limits: any codec and any limits: a protocol that is refused is refused by a code and a sentence, exactly when weir/protocol.h says so; one that is accepted has
 * room for its largest message, its sums do not wrap, and its defaults, written down as its limits, change nothing.
 *
 * Input: [how][options of the codec: 4, or a codec's numbers: 4, 2, 2][high, low, hard: 4 each][first, message, idle, drain: 8 each]; how: codec in bits 0
 * to 1, length of a frame 2 to 4, no cut 5, no seal 6, and 7: boundaries, counts_itself or crlf. */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "runtime/limits.h"

enum kind { FRAME, LINE, RAW, OWN };

static int own_cut(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    (void)codec, (void)data, (void)bytes, (void)cut;
    return WEIR_CUT_MORE;
}

static int own_seal(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal)
{
    (void)codec, (void)payload, (void)bytes, (void)seal;
    return 0;
}

/* False: the options were refused, and nothing was filled in. */
static bool take_codec(struct fuzz_input *input, weir_codec *codec)
{
    uint8_t how = fuzz_take_u8(input);
    uint32_t message_max_bytes = fuzz_take_u32(input);
    weir_frame_options options = {
        .length = (weir_frame_length)(how >> 2 & 7), .counts_itself = how & 0x80, .message_max_bytes = message_max_bytes};
    switch ((enum kind)(how & 3)) {
    case FRAME:
        return weir_codec_frame(codec, &options) == 0;
    case LINE:
        return weir_codec_line(codec, message_max_bytes, how & 0x80) == 0;
    case RAW:
        return weir_codec_raw(codec) == 0;
    case OWN:
        break;
    }
    codec->cut = how & 0x20 ? NULL : own_cut;
    codec->seal = how & 0x40 ? NULL : own_seal;
    codec->message_max_bytes = message_max_bytes;
    codec->head_max_bytes = (uint16_t)fuzz_take(input, 2);
    codec->trailer_max_bytes = (uint16_t)fuzz_take(input, 2);
    codec->boundaries = how & 0x80;
    return true;
}

static weir_limits take_limits(struct fuzz_input *input)
{
    weir_limits limits = {.high_water_bytes = fuzz_take_u32(input)};
    limits.low_water_bytes = fuzz_take_u32(input);
    limits.hard_limit_bytes = fuzz_take_u32(input);
    limits.first_ns = fuzz_take(input, 8);
    limits.message_ns = fuzz_take(input, 8);
    limits.idle_ns = fuzz_take(input, 8);
    limits.drain_ns = fuzz_take(input, 8);
    return limits;
}

/* --- by the book: weir/protocol.h in numbers that cannot wrap --- */

struct book {
    uint64_t largest, high, low, hard; /* largest: one message, sealed */
};

static struct book book_of(const weir_protocol *protocol)
{
    const weir_codec *codec = &protocol->codec;
    const weir_limits *limits = &protocol->limits;
    struct book book = {.largest = (uint64_t)codec->message_max_bytes + codec->head_max_bytes + codec->trailer_max_bytes};
    book.high = limits->high_water_bytes != 0 ? limits->high_water_bytes : 256 << 10;
    book.low = limits->low_water_bytes != 0 ? limits->low_water_bytes : book.high / 2;
    book.hard = limits->hard_limit_bytes != 0 ? limits->hard_limit_bytes : book.high + (codec->boundaries ? book.largest : 1 << 20);
    return book;
}

static bool is_good(const weir_protocol *protocol, const struct book *book)
{
    const weir_codec *codec = &protocol->codec;
    if (codec->cut == NULL || codec->seal == NULL || codec->message_max_bytes == 0 || codec->message_max_bytes > WEIR_MESSAGE_MAX_BYTES)
        return false;
    if (codec->head_max_bytes > WEIR_HEAD_MAX_BYTES || codec->trailer_max_bytes > WEIR_TRAILER_MAX_BYTES)
        return false;
    return book->high <= WEIR_MESSAGE_MAX_BYTES && book->low <= book->high && (!codec->boundaries || book->hard >= book->largest);
}

/* --- what weir makes of it --- */

static void check_lookups(const weir_protocol *protocol, const struct book *book)
{
    const weir_limits *limits = &protocol->limits;
    FUZZ_CHECK(w_limits_high_water(protocol) == book->high);
    FUZZ_CHECK(w_limits_low_water(protocol) == book->low);
    FUZZ_CHECK(w_limits_hard(protocol) == book->hard);
    FUZZ_CHECK(w_limits_first_ns(protocol) == (limits->first_ns != 0 ? limits->first_ns : WEIR_FOREVER));
    FUZZ_CHECK(w_limits_message_ns(protocol) == (limits->message_ns != 0 ? limits->message_ns : 30 * WEIR_SECOND));
    FUZZ_CHECK(w_limits_idle_ns(protocol) == (limits->idle_ns != 0 ? limits->idle_ns : WEIR_FOREVER));
    FUZZ_CHECK(w_limits_drain_ns(protocol) == (limits->drain_ns != 0 ? limits->drain_ns : 5 * WEIR_SECOND));
}

static void check_written_down(const weir_protocol *protocol, const struct book *book)
{
    weir_protocol written = *protocol;
    written.limits.high_water_bytes = w_limits_high_water(protocol);
    written.limits.low_water_bytes = w_limits_low_water(protocol);
    written.limits.hard_limit_bytes = w_limits_hard(protocol);
    FUZZ_CHECK(w_limits_check(&written, NULL) == 0);
    /* Half of a high-water mark of 1 is 0, which is asked for by nobody: it means half again. */
    check_lookups(&written, book);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, bytes};
    weir_protocol protocol = {.name = "any"};
    weir_error error = {.code = 0};
    if (!take_codec(&input, &protocol.codec))
        return 0;
    if (protocol.codec.cut != own_cut && protocol.codec.cut != NULL)
        FUZZ_CHECK(w_limits_check(&protocol, NULL) == 0); /* whatever a maker makes can run */
    protocol.limits = take_limits(&input);
    struct book book = book_of(&protocol);
    int result = w_limits_check(&protocol, &error);
    FUZZ_CHECK(result == (is_good(&protocol, &book) ? 0 : -EINVAL));
    FUZZ_CHECK(w_limits_check(&protocol, NULL) == result);
    if (result != 0) {
        FUZZ_CHECK(error.code == -EINVAL && error.sentence[0] != '\0');
        return 0;
    }
    check_lookups(&protocol, &book);
    check_written_down(&protocol, &book);
    return 0;
}
