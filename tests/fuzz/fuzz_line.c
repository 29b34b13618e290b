/* SPDX-License-Identifier: MIT */
/* fuzz_line: any text: whole and cut at a place of the data's choice, the same lines come out, and what `line` agrees to
 * send comes out again. libFuzzer: clang -fsanitize=fuzzer,address,undefined. */
#include "tests/unit/feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void seal_and_cut(const weir_codec *codec, const uint8_t *payload, uint32_t bytes)
{
    static uint8_t frame[4096 + WEIR_TRAILER_MAX_BYTES];
    weir_cut cut = {0};
    int64_t frame_bytes = feed_seal(codec, payload, bytes, frame);
    if (frame_bytes < 0)
        return;
    if (codec->cut(codec, frame, (uint32_t)frame_bytes, &cut) != WEIR_CUT_MESSAGE || cut.frame_bytes != frame_bytes)
        __builtin_trap();
    if (cut.payload_bytes != bytes || memcmp(frame + cut.payload_offset, payload, bytes) != 0)
        __builtin_trap();
}

/* data: [longest line, and its end][place of the cut][the text ...] */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 3 || bytes > 4096)
        return 0;
    weir_codec codec;
    if (weir_codec_line(&codec, data[0] & 0x7f, data[0] & 0x80) != 0)
        __builtin_trap();
    const uint8_t *text = data + 2;
    uint32_t text_bytes = (uint32_t)bytes - 2, cut_at = data[1] % text_bytes;
    static struct feed whole, divided;
    feed_run(&whole, &codec, text, text_bytes, NULL, 0, false);
    for (int patient = 0; patient <= 1; patient++) {
        feed_run(&divided, &codec, text, text_bytes, &cut_at, 1, patient);
        if (!feed_same(&whole, &divided))
            __builtin_trap();
    }
    for (uint32_t i = 0; i < whole.count; i++)
        seal_and_cut(&codec, text + whole.messages[i].offset, whole.messages[i].bytes);
    seal_and_cut(&codec, text, text_bytes);
    return 0;
}
