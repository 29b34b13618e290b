/* SPDX-License-Identifier: MIT */
/* fuzz_raw: any bytes, divided in any way: all of them come out, in order, in pieces no larger than allowed, and nothing is added to what is sent.
 *
 * Input: [the largest piece less one, 0xff: as the maker says][how many sizes][sizes of pieces ...][the stream ...]. */
#include "division.h"

#define RAW_MAX_BYTES (UINT32_C(1) << 20)

/* Nobody waits for more, and what lies in the messages is the stream without a gap. */
static void check_stream(const struct feed *feed, const weir_codec *codec, uint32_t bytes)
{
    uint32_t offset = 0;
    FUZZ_CHECK(feed->broken == NULL && feed->error == 0);
    for (uint32_t i = 0; i < feed->count; i++) {
        FUZZ_CHECK(feed->messages[i].offset == offset);
        FUZZ_CHECK(feed->messages[i].bytes > 0 && feed->messages[i].bytes <= codec->message_max_bytes);
        offset += feed->messages[i].bytes;
    }
    FUZZ_CHECK(offset == bytes && feed->rest_offset == bytes);
}

static void check_seal(const weir_codec *codec, uint32_t payload_bytes)
{
    static const uint8_t payload[RAW_MAX_BYTES];
    weir_seal seal;
    memset(&seal, 0xa5, sizeof seal);
    int answer = codec->seal(codec, payload, payload_bytes, &seal);
    FUZZ_CHECK(answer == (payload_bytes <= codec->message_max_bytes ? 0 : -EMSGSIZE));
    FUZZ_CHECK(answer != 0 || (seal.head_bytes == 0 && seal.trailer_bytes == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static struct feed feed;
    struct fuzz_input input = {data, bytes};
    uint8_t largest = fuzz_take_u8(&input);
    struct division division = division_take(&input, fuzz_take_u8(&input));
    weir_codec codec;
    FUZZ_CHECK(weir_codec_raw(&codec) == 0 && codec.message_max_bytes == RAW_MAX_BYTES && !codec.boundaries);
    if (largest != 0xff)
        codec.message_max_bytes = largest + 1U;
    if (input.bytes > DIVISION_STREAM_MAX)
        return 0;
    uint32_t arrivals[DIVISION_STREAM_MAX], arrival_count = 0, arrived_bytes = 0, stream_bytes = (uint32_t)input.bytes;
    for (uint32_t i = 0; i < division.count && arrived_bytes + division.sizes[i] < stream_bytes; i++)
        arrivals[arrival_count++] = arrived_bytes += division.sizes[i];
    feed_run(&feed, &codec, input.data, stream_bytes, arrivals, arrival_count, false);
    check_stream(&feed, &codec, stream_bytes);
    feed_run(&feed, &codec, input.data, stream_bytes, NULL, 0, true);
    check_stream(&feed, &codec, stream_bytes);
    FUZZ_CHECK(feed.count == (stream_bytes + codec.message_max_bytes - 1) / codec.message_max_bytes);
    check_seal(&codec, stream_bytes);
    check_seal(&codec, codec.message_max_bytes);
    check_seal(&codec, codec.message_max_bytes + 1);
    return 0;
}
