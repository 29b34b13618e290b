/* SPDX-License-Identifier: MIT */
/* fuzz_line: any limit and any text: the lines are those that a decoder by the book finds, however the text is divided; what was searched is not searched
 * again; and what `line` agrees to send comes out again.
 *
 * Input: [how][line_max_bytes: 4][sizes of pieces ...][the text ...]; how: the number of sizes in bits 0 to 2, crlf 7. */
#include "division.h"

/* --- by the book --- */

/* One line: an answer as `cut` has it, and the bytes of the line and of all with its end. */
static int book_cut(uint32_t max_bytes, const uint8_t *text, uint32_t bytes, uint32_t *line_bytes, uint32_t *frame_bytes)
{
    uint32_t end = 0;
    while (end < bytes && text[end] != '\n')
        end++;
    bool returned = end > 0 && text[end - 1] == '\r'; /* it is the line's, unless an LF follows */
    *frame_bytes = end + 1;
    *line_bytes = end - returned;
    if (*line_bytes > max_bytes)
        return -EMSGSIZE;
    return end < bytes ? WEIR_CUT_MESSAGE : WEIR_CUT_MORE;
}

static void book_run(struct feed *book, uint32_t max_bytes, const uint8_t *text, uint32_t bytes)
{
    *book = (struct feed){.error = 0};
    while (book->rest_offset < bytes) {
        uint32_t line_bytes, frame_bytes;
        int answer = book_cut(max_bytes, text + book->rest_offset, bytes - book->rest_offset, &line_bytes, &frame_bytes);
        if (answer < 0)
            book->error = answer;
        if (answer != WEIR_CUT_MESSAGE)
            return;
        book->messages[book->count].offset = book->rest_offset;
        book->messages[book->count++].bytes = line_bytes;
        book->rest_offset += frame_bytes;
    }
}

/* --- the codec --- */

/* What was searched is not searched again: an LF that was not there the first time (all but the last byte are made one, that may be a CR) is not seen. */
static void check_dribble(const weir_codec *codec, const uint8_t *text, uint32_t bytes)
{
    static uint8_t seen[DIVISION_STREAM_MAX];
    weir_cut cut = {0};
    memcpy(seen, text, bytes);
    for (uint32_t i = 1; i <= bytes; i++) {
        weir_cut fresh = {0};
        int answer = codec->cut(codec, seen, i, &cut);
        FUZZ_CHECK(answer == codec->cut(codec, text, i, &fresh));
        if (answer != WEIR_CUT_MORE)
            return;
        if (cut.scanned_bytes > 1)
            memset(seen, '\n', cut.scanned_bytes - 1);
    }
}

/* Whether it may be sent; and if so, what the peer reads. */
static void check_seal(const weir_codec *codec, bool crlf, const uint8_t *payload, uint32_t bytes)
{
    static uint8_t frame[DIVISION_STREAM_MAX + WEIR_TRAILER_MAX_BYTES];
    bool too_big = bytes > codec->message_max_bytes, bad = bytes > 0 && payload[bytes - 1] == '\r' && !crlf;
    for (uint32_t i = 0; i < bytes; i++)
        bad = bad || payload[i] == '\n';
    int64_t frame_bytes = feed_seal(codec, payload, bytes, frame);
    FUZZ_CHECK((frame_bytes < 0) == (too_big || bad));
    FUZZ_CHECK(frame_bytes >= 0 || (frame_bytes == -EMSGSIZE && too_big) || (frame_bytes == -EBADMSG && bad));
    if (frame_bytes < 0)
        return;
    struct feed feed = {0};
    weir_cut cut = {0};
    FUZZ_CHECK(frame_bytes == bytes + (crlf ? 2 : 1) && memcmp(frame + bytes, crlf ? "\r\n" : "\n", crlf ? 2 : 1) == 0);
    FUZZ_CHECK(feed_cut(&feed, codec, frame, (uint32_t)frame_bytes, &cut) == WEIR_CUT_MESSAGE && feed.broken == NULL);
    FUZZ_CHECK(cut.frame_bytes == frame_bytes && cut.payload_bytes == bytes && memcmp(frame + cut.payload_offset, payload, bytes) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct feed whole, book;
    struct fuzz_input input = {data, bytes};
    uint8_t how = fuzz_take_u8(&input);
    uint32_t line_max_bytes = fuzz_take_u32(&input);
    struct division division = division_take(&input, how & 7);
    bool crlf = how & 0x80;
    weir_codec codec;
    int made = weir_codec_line(&codec, line_max_bytes, crlf);
    FUZZ_CHECK(made == (line_max_bytes <= WEIR_MESSAGE_MAX_BYTES ? 0 : -EINVAL));
    if (made != 0 || input.bytes > DIVISION_STREAM_MAX)
        return 0;
    const uint8_t *text = input.data;
    uint32_t text_bytes = (uint32_t)input.bytes;
    FUZZ_CHECK(codec.message_max_bytes == (line_max_bytes != 0 ? line_max_bytes : 64 << 10) && codec.boundaries);
    feed_run(&whole, &codec, text, text_bytes, NULL, 0, false);
    book_run(&book, codec.message_max_bytes, text, text_bytes);
    FUZZ_CHECK(feed_same(&whole, &book));
    division_check(&whole, &codec, text, text_bytes, division);
    check_dribble(&codec, text, text_bytes);
    for (uint32_t i = 0; i < whole.count; i++)
        check_seal(&codec, crlf, text + whole.messages[i].offset, whole.messages[i].bytes);
    check_seal(&codec, crlf, text, text_bytes);
    return 0;
}
