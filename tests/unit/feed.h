/* SPDX-License-Identifier: MIT */
/* feed: gives a codec a stream of bytes in pieces, as a reader would, and keeps what came out. For tests and fuzzers.
 *
 * What came out must be the same however the stream was divided. Each call of `cut` sees a copy of exactly the bytes that have
 * arrived, so a look beyond them is found by AddressSanitizer. */
#ifndef TEST_FEED_H
#define TEST_FEED_H

#include <weir/codec.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FEED_MESSAGES_MAX 512

struct feed {
    int error;            /* 0, or the negative errno that ended it */
    uint32_t rest_offset; /* where the frame begins that is not whole, or not right */
    uint32_t count;
    struct {
        uint32_t offset, bytes; /* the payload in the stream */
    } messages[FEED_MESSAGES_MAX];
    const char *broken; /* a rule of weir/codec.h that an answer broke; NULL: none */
};

/* One call, with everything that is not to be read set to nonsense, and the answer's promises checked. */
static inline int feed_cut(struct feed *feed, const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    uint32_t scanned_bytes = cut->scanned_bytes;
    memset(cut, 0xa5, sizeof *cut);
    cut->scanned_bytes = scanned_bytes;
    uint8_t *copy = malloc(bytes);
    memcpy(copy, data, bytes);
    int answer = codec->cut(codec, copy, bytes, cut);
    free(copy);
    if (answer == WEIR_CUT_MORE) {
        if (cut->missing_bytes == 0 || cut->missing_bytes > WEIR_MESSAGE_MAX_BYTES + WEIR_HEAD_MAX_BYTES)
            feed->broken = "missing_bytes out of range";
        if (cut->scanned_bytes > bytes)
            feed->broken = "scanned_bytes beyond what is there";
    } else if (answer == WEIR_CUT_MESSAGE) {
        if (cut->frame_bytes == 0 || cut->frame_bytes > bytes)
            feed->broken = "frame_bytes out of range";
        else if ((uint64_t)cut->payload_offset + cut->payload_bytes > cut->frame_bytes)
            feed->broken = "payload outside of its frame";
        else if (cut->payload_bytes > codec->message_max_bytes)
            feed->broken = "payload over the limit";
    } else if (answer != -EMSGSIZE && answer != -EBADMSG) {
        feed->broken = "an answer that weir/codec.h does not know";
    }
    return answer;
}

/* Takes all whole messages out of what has arrived. `patient`: a reader that waits for missing_bytes. False: it is over. */
static inline bool feed_arrive(struct feed *feed, const weir_codec *codec, const uint8_t *stream, uint32_t arrived_bytes, bool patient,
                               weir_cut *cut, uint32_t *wanted_bytes)
{
    while (feed->rest_offset < arrived_bytes) {
        uint32_t bytes = arrived_bytes - feed->rest_offset;
        if (patient && bytes < *wanted_bytes)
            return true;
        int answer = feed_cut(feed, codec, stream + feed->rest_offset, bytes, cut);
        if (answer < 0)
            feed->error = answer;
        if (answer < 0 || feed->broken != NULL || feed->count == FEED_MESSAGES_MAX)
            return false;
        if (answer == WEIR_CUT_MORE) {
            *wanted_bytes = bytes + cut->missing_bytes;
            return true;
        }
        feed->messages[feed->count].offset = feed->rest_offset + cut->payload_offset;
        feed->messages[feed->count++].bytes = cut->payload_bytes;
        feed->rest_offset += cut->frame_bytes;
        cut->scanned_bytes = 0;
        *wanted_bytes = 0;
    }
    return true;
}

/* The stream arrives up to each of `arrivals` (rising), and then whole. */
static inline void feed_run(struct feed *feed, const weir_codec *codec, const uint8_t *stream, uint32_t bytes, const uint32_t *arrivals,
                            uint32_t arrival_count, bool patient)
{
    memset(feed, 0, sizeof *feed);
    weir_cut cut = {0};
    uint32_t wanted_bytes = 0;
    for (uint32_t i = 0; i < arrival_count; i++)
        if (!feed_arrive(feed, codec, stream, arrivals[i], patient, &cut, &wanted_bytes))
            return;
    feed_arrive(feed, codec, stream, bytes, patient, &cut, &wanted_bytes);
}

static inline bool feed_same(const struct feed *a, const struct feed *b)
{
    return a->error == b->error && a->rest_offset == b->rest_offset && a->count == b->count && a->broken == NULL && b->broken == NULL &&
           memcmp(a->messages, b->messages, a->count * sizeof a->messages[0]) == 0;
}

/* missing_bytes is not too much: with fewer, the answer is still "more". Looks at the first frame. */
static inline bool feed_missing_is_honest(const weir_codec *codec, const uint8_t *stream, uint32_t bytes)
{
    struct feed feed = {0};
    uint32_t honest_bytes = 0; /* below this many, "more" was promised */
    for (uint32_t i = 1; i <= bytes; i++) {
        weir_cut cut = {0};
        if (feed_cut(&feed, codec, stream, i, &cut) != WEIR_CUT_MORE)
            return i >= honest_bytes;
        if (i + cut.missing_bytes > honest_bytes)
            honest_bytes = i + cut.missing_bytes;
    }
    return true;
}

/* Whole, a byte at a time, cut in two at every place, patient and not: the same comes out. Answers what came out whole, and in `different`
 * what was not the same, or NULL. */
static inline void feed_all_ways(struct feed *whole, const weir_codec *codec, const uint8_t *stream, uint32_t bytes, const char **different)
{
    static struct feed other;
    uint32_t arrivals[4096];
    *different = NULL;
    feed_run(whole, codec, stream, bytes, NULL, 0, false);
    if (whole->broken != NULL)
        *different = whole->broken;
    for (uint32_t i = 0; i < bytes && i < 4096; i++)
        arrivals[i] = i;
    for (int patient = 0; patient <= 1; patient++) {
        feed_run(&other, codec, stream, bytes, arrivals, bytes < 4096 ? bytes : 4096, patient);
        if (!feed_same(whole, &other))
            *different = "a byte at a time";
        for (uint32_t at = 1; at < bytes; at++) {
            feed_run(&other, codec, stream, bytes, &at, 1, patient);
            if (!feed_same(whole, &other))
                *different = "cut in two";
        }
    }
    if (!feed_missing_is_honest(codec, stream, bytes))
        *different = "missing_bytes promised too much";
}

/* Puts the frame of a payload at `to`; answers its bytes, or the negative errno of seal. `to` has room. */
static inline int64_t feed_seal(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, uint8_t *to)
{
    weir_seal seal;
    memset(&seal, 0xa5, sizeof seal);
    int answer = codec->seal(codec, payload, bytes, &seal);
    if (answer != 0)
        return answer;
    if (seal.head_bytes > codec->head_max_bytes || seal.trailer_bytes > codec->trailer_max_bytes) {
        fprintf(stderr, "feed: %s seals %u and %u bytes, more than it said\n", codec->name, seal.head_bytes, seal.trailer_bytes);
        abort();
    }
    memcpy(to, seal.head, seal.head_bytes);
    if (bytes != 0)
        memcpy(to + seal.head_bytes, payload, bytes);
    memcpy(to + seal.head_bytes + bytes, seal.trailer, seal.trailer_bytes);
    return (int64_t)seal.head_bytes + bytes + seal.trailer_bytes;
}

#endif
