/* SPDX-License-Identifier: MIT */
/* division: however a stream of bytes is divided on its way, the same messages come out of it. */
#ifndef TESTS_FUZZ_DIVISION_H
#define TESTS_FUZZ_DIVISION_H

#include "fuzz.h"
#include "tests/unit/feed.h"

/* Longer streams are slow and show nothing new. Every message takes a byte at least, so a stream never fills a struct feed. */
#define DIVISION_STREAM_MAX 300
/* Streams up to here are cut at every byte. */
#define DIVISION_EVERY_MAX 32

/* How the input wants a stream divided: sizes of pieces less one, again and again from the first. None: a byte at a time. */
struct division {
    const uint8_t *sizes;
    uint32_t count;
};

/* Takes up to `count` sizes of pieces. */
static inline struct division division_take(struct fuzz_input *input, uint32_t count)
{
    struct division division = {input->data, count < input->bytes ? count : (uint32_t)input->bytes};
    input->data += division.count;
    input->bytes -= division.count;
    return division;
}

static inline void division_check_every(const struct feed *whole, const weir_codec *codec, const uint8_t *stream, uint32_t bytes)
{
    static struct feed again;
    const char *different;
    feed_all_ways(&again, codec, stream, bytes, &different);
    if (different != NULL)
        fprintf(stderr, "fuzz: not the same when it arrives otherwise: %s\n", different);
    FUZZ_CHECK(different == NULL);
    FUZZ_CHECK(feed_same(whole, &again));
}

/* `whole` is what came out in one piece. */
static inline void division_check(const struct feed *whole, const weir_codec *codec, const uint8_t *stream, uint32_t bytes,
                                  struct division division)
{
    static struct feed divided;
    static const uint8_t one = 0;
    uint32_t arrivals[DIVISION_STREAM_MAX], arrival_count = 0, arrived_bytes = 0;
    if (division.count == 0)
        division = (struct division){&one, 1};
    for (;;) {
        arrived_bytes += division.sizes[arrival_count % division.count] + 1U;
        if (arrived_bytes >= bytes)
            break;
        arrivals[arrival_count++] = arrived_bytes;
    }
    FUZZ_CHECK(whole->broken == NULL);
    for (int patient = 0; patient <= 1; patient++) {
        feed_run(&divided, codec, stream, bytes, arrivals, arrival_count, patient);
        FUZZ_CHECK(feed_same(whole, &divided));
    }
    if (bytes <= DIVISION_EVERY_MAX)
        division_check_every(whole, codec, stream, bytes);
}

#endif
