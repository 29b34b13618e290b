/* SPDX-License-Identifier: MIT */
/* fuzz_frame: any bytes, in any setting of `frame`: whole and cut at a place of the data's choice, the same comes out, and what
 * comes out can be sealed and cut again. libFuzzer: clang -fsanitize=fuzzer,address,undefined. */
#include "tests/unit/feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* data: [setting][largest message][place of the cut][the stream ...] */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 4 || bytes > 4096)
        return 0;
    weir_frame_options options = {
        .length = (weir_frame_length)(data[0] % 5),
        .big_endian = data[0] & 0x80,
        .counts_itself = data[0] & 0x40,
        .message_max_bytes = data[1],
    };
    weir_codec codec;
    if (weir_codec_frame(&codec, &options) != 0)
        return 0;
    const uint8_t *stream = data + 3;
    uint32_t stream_bytes = (uint32_t)bytes - 3, cut_at = data[2] % stream_bytes;
    static struct feed whole, divided;
    feed_run(&whole, &codec, stream, stream_bytes, NULL, 0, false);
    for (int patient = 0; patient <= 1; patient++) {
        feed_run(&divided, &codec, stream, stream_bytes, &cut_at, 1, patient);
        if (!feed_same(&whole, &divided))
            __builtin_trap();
    }
    if (!feed_missing_is_honest(&codec, stream, stream_bytes < 64 ? stream_bytes : 64))
        __builtin_trap();
    for (uint32_t i = 0; i < whole.count; i++) {
        static uint8_t frame[4096 + WEIR_HEAD_MAX_BYTES];
        weir_cut cut = {0};
        const uint8_t *payload = stream + whole.messages[i].offset;
        int64_t frame_bytes = feed_seal(&codec, payload, whole.messages[i].bytes, frame);
        if (frame_bytes < 0 || codec.cut(&codec, frame, (uint32_t)frame_bytes, &cut) != WEIR_CUT_MESSAGE)
            __builtin_trap();
        if (cut.payload_bytes != whole.messages[i].bytes || memcmp(frame + cut.payload_offset, payload, cut.payload_bytes) != 0)
            __builtin_trap();
    }
    return 0;
}
