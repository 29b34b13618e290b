/* SPDX-License-Identifier: MIT */
/* fuzz_frame: any options and any bytes: options are refused that weir/codec.h says are, the stream is read as a decoder by the book reads it, however
 * it is divided, and what comes out can be sealed and read again.
 *
 * Input: [how][message_max_bytes: 4][bytes of a payload to seal: 4][sizes of pieces ...][the stream ...]; how: length in bits 0 to 2, the number
 * of sizes in 3 to 5, counts_itself 6, big_endian 7. */
#include "division.h"

#define LENGTH_KINDS 5

static const uint32_t head_bytes_of[LENGTH_KINDS] = {
    [WEIR_FRAME_U32] = 4, [WEIR_FRAME_U8] = 1, [WEIR_FRAME_U16] = 2, [WEIR_FRAME_U64] = 8, [WEIR_FRAME_VARINT] = 5};

/* --- by the book --- */

/* The largest payload that these options allow; 0: they do not fit each other. */
static uint32_t book_max_bytes(const weir_frame_options *options)
{
    static const uint64_t says_max[LENGTH_KINDS] = {[WEIR_FRAME_U32] = UINT32_MAX,
                                                    [WEIR_FRAME_U8] = 255,
                                                    [WEIR_FRAME_U16] = 65535,
                                                    [WEIR_FRAME_U64] = UINT64_MAX,
                                                    [WEIR_FRAME_VARINT] = (UINT64_C(1) << 35) - 1};
    if (options->length >= LENGTH_KINDS || (options->length == WEIR_FRAME_VARINT && options->counts_itself))
        return 0;
    uint64_t most = says_max[options->length] - (options->counts_itself ? head_bytes_of[options->length] : 0);
    if (options->message_max_bytes > most || options->message_max_bytes > WEIR_MESSAGE_MAX_BYTES)
        return 0;
    if (options->message_max_bytes != 0)
        return options->message_max_bytes;
    return most < 1 << 20 ? (uint32_t)most : 1 << 20;
}

/* The head of a payload; answers its bytes. */
static uint32_t book_head(const weir_frame_options *options, uint64_t payload_bytes, uint8_t *head)
{
    uint32_t count = head_bytes_of[options->length], i = 0;
    if (options->length == WEIR_FRAME_VARINT) {
        for (; payload_bytes >= 128; payload_bytes /= 128)
            head[i++] = (uint8_t)(payload_bytes % 128 + 128);
        head[i++] = (uint8_t)payload_bytes;
        return i;
    }
    uint64_t says = payload_bytes + (options->counts_itself ? count : 0);
    for (; i < count; i++, says /= 256)
        head[options->big_endian ? count - 1 - i : i] = (uint8_t)(says % 256);
    return count;
}

/* One frame: an answer as `cut` has it, and the bytes of head and payload. */
static int book_cut(const weir_frame_options *options, const uint8_t *data, uint32_t bytes, uint32_t *head_bytes, uint64_t *payload_bytes)
{
    uint32_t count = head_bytes_of[options->length];
    bool varint = options->length == WEIR_FRAME_VARINT, ended = false;
    uint64_t says = 0, worth = 1;
    for (uint32_t i = 0; i < count && !ended; i++) {
        if (i == bytes)
            return WEIR_CUT_MORE;
        uint8_t byte = data[i];
        if (options->big_endian && !varint)
            says = says * 256 + byte;
        else
            says += worth * (varint ? byte % 128 : byte);
        worth *= varint ? 128 : 256;
        *head_bytes = i + 1;
        ended = varint && byte < 128;
    }
    if ((varint && !ended) || (options->counts_itself && says < count))
        return -EBADMSG;
    *payload_bytes = says - (options->counts_itself ? count : 0);
    if (*payload_bytes > book_max_bytes(options))
        return -EMSGSIZE;
    return bytes < *head_bytes + *payload_bytes ? WEIR_CUT_MORE : WEIR_CUT_MESSAGE;
}

static void book_run(struct feed *book, const weir_frame_options *options, const uint8_t *stream, uint32_t bytes)
{
    *book = (struct feed){.error = 0};
    while (book->rest_offset < bytes) {
        uint32_t head_bytes = 0;
        uint64_t payload_bytes = 0;
        int answer = book_cut(options, stream + book->rest_offset, bytes - book->rest_offset, &head_bytes, &payload_bytes);
        if (answer < 0)
            book->error = answer;
        if (answer != WEIR_CUT_MESSAGE)
            return;
        book->messages[book->count].offset = book->rest_offset + head_bytes;
        book->messages[book->count++].bytes = (uint32_t)payload_bytes;
        book->rest_offset += head_bytes + (uint32_t)payload_bytes;
    }
}

/* --- the codec --- */

/* A payload of any size: its head is the book's, and whoever has read no more than the head waits for no more than the rest. */
static void check_seal(const weir_codec *codec, const weir_frame_options *options, uint32_t payload_bytes)
{
    static const uint8_t payload[1]; /* frame never looks at it */
    uint8_t head[WEIR_HEAD_MAX_BYTES];
    weir_seal seal;
    memset(&seal, 0xa5, sizeof seal);
    int answer = codec->seal(codec, payload, payload_bytes, &seal);
    FUZZ_CHECK(answer == (payload_bytes > codec->message_max_bytes ? -EMSGSIZE : 0));
    if (answer != 0)
        return;
    FUZZ_CHECK(seal.head_bytes == book_head(options, payload_bytes, head) && memcmp(seal.head, head, seal.head_bytes) == 0);
    FUZZ_CHECK(seal.head_bytes <= codec->head_max_bytes && seal.trailer_bytes == 0);
    struct feed feed = {0};
    weir_cut cut = {0};
    answer = feed_cut(&feed, codec, seal.head, seal.head_bytes, &cut);
    FUZZ_CHECK(feed.broken == NULL && answer == (payload_bytes == 0 ? WEIR_CUT_MESSAGE : WEIR_CUT_MORE));
    FUZZ_CHECK(answer == WEIR_CUT_MESSAGE || cut.missing_bytes <= payload_bytes);
}

static void check_sealed_again(const weir_codec *codec, const uint8_t *payload, uint32_t bytes)
{
    static uint8_t frame[DIVISION_STREAM_MAX + WEIR_HEAD_MAX_BYTES];
    struct feed feed = {0};
    weir_cut cut = {0};
    int64_t frame_bytes = feed_seal(codec, payload, bytes, frame);
    FUZZ_CHECK(frame_bytes > 0);
    FUZZ_CHECK(feed_cut(&feed, codec, frame, (uint32_t)frame_bytes, &cut) == WEIR_CUT_MESSAGE && feed.broken == NULL);
    FUZZ_CHECK(cut.frame_bytes == frame_bytes && cut.payload_bytes == bytes && memcmp(frame + cut.payload_offset, payload, bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct feed whole, book;
    struct fuzz_input input = {data, bytes};
    uint8_t how = fuzz_take_u8(&input);
    weir_frame_options options = {.length = (weir_frame_length)(how & 7), .counts_itself = how & 0x40, .big_endian = how & 0x80};
    options.message_max_bytes = fuzz_take_u32(&input);
    uint32_t payload_bytes = fuzz_take_u32(&input), max_bytes = book_max_bytes(&options);
    struct division division = division_take(&input, how >> 3 & 7);
    weir_codec codec;
    int made = weir_codec_frame(&codec, &options);
    FUZZ_CHECK(made == (max_bytes != 0 ? 0 : -EINVAL));
    if (made != 0 || input.bytes > DIVISION_STREAM_MAX)
        return 0;
    FUZZ_CHECK(codec.message_max_bytes == max_bytes && codec.head_max_bytes <= WEIR_HEAD_MAX_BYTES && codec.boundaries);
    check_seal(&codec, &options, payload_bytes);
    feed_run(&whole, &codec, input.data, (uint32_t)input.bytes, NULL, 0, false);
    book_run(&book, &options, input.data, (uint32_t)input.bytes);
    FUZZ_CHECK(feed_same(&whole, &book));
    division_check(&whole, &codec, input.data, (uint32_t)input.bytes, division);
    for (uint32_t i = 0; i < whole.count; i++)
        check_sealed_again(&codec, input.data + whole.messages[i].offset, whole.messages[i].bytes);
    return 0;
}
