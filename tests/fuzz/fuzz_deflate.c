/* SPDX-License-Identifier: MIT */
/* fuzz_deflate: any bytes as packed messages (RFC 7692): what comes out, or that it is an error, does not depend on how they are divided into frames, nor on the room
 * that there is each time; it is what zlib makes of all of it at once; and what weir packs is unpacked again, by zlib too, with no more of a window than was agreed on.
 *
 * Input: [how][max_bytes: 2][first's bytes][sizes of frames and rooms ...][the bytes ...]; how: the number of sizes in bits 0 and 1, keep 2, window 3 to 5, level 6, 7. */
#define ZLIB_CONST
#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "fuzz.h"
#include "proto/deflate.h"

#define INPUT_MAX 600u
#define MADE_MAX  3000u

static void *heap_take(weir_session_heap *heap, uint32_t bytes)
{
    (void)heap;
    return malloc(bytes); /* what it holds at first must not matter: the sanitizer knows */
}

static void heap_give(weir_session_heap *heap, void *piece, uint32_t bytes)
{
    (void)heap;
    (void)bytes;
    free(piece);
}

static weir_session_heap heap = {heap_take, heap_give};
static const weir_websocket_deflate few_options = {.enabled = true};

struct made {
    uint8_t data[2][MADE_MAX];
    uint32_t bytes[2];
    int result[2];
};

/* One message, in frames and rooms of these sizes. */
static int unpack(struct w_deflate *end, uint32_t max_bytes, const uint8_t *data, uint32_t bytes, const uint8_t *sizes, uint32_t count,
                  uint8_t *to, uint32_t *made_bytes)
{
    uint32_t done = 0, turn = 0;
    *made_bytes = 0;
    for (;;) {
        uint32_t piece = count == 0 ? bytes : turn % 3 == 2 ? 0 : 1U + sizes[turn % count]; /* an empty one now and then */
        turn++;
        piece = piece < bytes - done ? piece : bytes - done;
        weir_session_unpacking unpacking = {.data = data + done, .bytes = piece, .last = done + piece == bytes};
        int result;
        do {
            uint32_t room_bytes = count == 0 ? MADE_MAX : 1U + sizes[turn++ % count];
            unpacking.to = to + *made_bytes;
            unpacking.room_bytes = room_bytes < MADE_MAX - *made_bytes ? room_bytes : MADE_MAX - *made_bytes;
            unpacking.made_bytes = 0;
            result = w_deflate_unpack(end, &heap, &few_options, max_bytes, &unpacking);
            *made_bytes += unpacking.made_bytes;
            FUZZ_CHECK(result != 1 || unpacking.made_bytes == unpacking.room_bytes);
        } while (result == 1);
        done += piece;
        if (result != 0 || done == bytes) {
            FUZZ_CHECK(result == 0 || result == -EBADMSG || result == -EMSGSIZE);
            return result;
        }
        FUZZ_CHECK(unpacking.bytes == 0);
    }
}

/* Two messages on one connection; the second only if the first was one. */
static void run(struct made *made, struct w_deflate_terms terms, uint32_t max_bytes, const uint8_t *data, uint32_t bytes, uint32_t first,
                const uint8_t *sizes, uint32_t count)
{
    struct w_deflate end = {.terms = terms};
    made->result[1] = 0;
    made->bytes[1] = 0;
    made->result[0] = unpack(&end, max_bytes, data, first, sizes, count, made->data[0], &made->bytes[0]);
    if (made->result[0] == 0)
        made->result[1] = unpack(&end, max_bytes, data + first, bytes - first, sizes, count, made->data[1], &made->bytes[1]);
    w_deflate_close(&end, &heap);
}

static void must_be_same(const struct made *a, const struct made *b)
{
    for (int i = 0; i < 2; i++) {
        FUZZ_CHECK(a->result[i] == b->result[i]);
        if (a->result[i] == 0) /* before an error, more or less may have come out */
            FUZZ_CHECK(a->bytes[i] == b->bytes[i] && memcmp(a->data[i], b->data[i], a->bytes[i]) == 0);
    }
}

/* zlib, all at once: 0 with the bytes; -1: an error, or a last block, behind which zlib alone does not go on. */
static int book(z_stream *peer, const uint8_t *data, uint32_t bytes, uint8_t *to, uint32_t *made_bytes)
{
    static uint8_t whole[2 * INPUT_MAX];
    memcpy(whole, data, bytes);
    memcpy(whole + bytes, "\0\0\xff\xff", 4);
    peer->next_in = whole;
    peer->avail_in = bytes + 4;
    peer->next_out = to;
    peer->avail_out = MADE_MAX;
    int result = inflate(peer, Z_SYNC_FLUSH);
    *made_bytes = MADE_MAX - peer->avail_out;
    return result == Z_OK && peer->avail_in == 0 && peer->avail_out > 0 && (peer->data_type & 128) != 0 ? 0 : -1;
}

static void check_book(const struct made *made, struct w_deflate_terms terms, const uint8_t *data, uint32_t first)
{
    static uint8_t by_the_book[MADE_MAX];
    z_stream peer = {0};
    uint32_t bytes;
    FUZZ_CHECK(inflateInit2(&peer, -terms.received_bits) == Z_OK);
    int result = book(&peer, data, first, by_the_book, &bytes); /* -1 also: more than there is room for */
    FUZZ_CHECK(result != 0 || made->result[0] == 0 || made->result[0] == -EMSGSIZE);
    if (result == 0 && made->result[0] == 0)
        FUZZ_CHECK(bytes == made->bytes[0] && memcmp(by_the_book, made->data[0], bytes) == 0);
    inflateEnd(&peer);
}

/* The same bytes, twice, as what is sent. */
static void check_pack(struct w_deflate_terms terms, const weir_websocket_deflate *options, const uint8_t *data, uint32_t bytes)
{
    static uint8_t packed[INPUT_MAX + 4], back[MADE_MAX];
    struct w_deflate end = {.terms = terms}, other = {.terms = {.received_bits = terms.sent_bits, .keep_received = terms.keep_sent}};
    z_stream peer = {0};
    FUZZ_CHECK(inflateInit2(&peer, -terms.sent_bits) == Z_OK);
    for (int i = 0; i < 2; i++) {
        uint32_t back_bytes, packed_bytes = w_deflate_pack(&end, &heap, options, data, bytes, packed);
        FUZZ_CHECK(packed_bytes < bytes);
        if (packed_bytes == 0)
            continue;
        FUZZ_CHECK(book(&peer, packed, packed_bytes, back, &back_bytes) == 0 && back_bytes == bytes && memcmp(back, data, bytes) == 0);
        FUZZ_CHECK(unpack(&other, bytes, packed, packed_bytes, NULL, 0, back, &back_bytes) == 0);
        FUZZ_CHECK(back_bytes == bytes && memcmp(back, data, bytes) == 0);
        if (!terms.keep_sent)
            inflateReset(&peer);
    }
    inflateEnd(&peer);
    w_deflate_close(&end, &heap);
    w_deflate_close(&other, &heap);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const uint8_t one[] = {0};
    static struct made whole, other;
    struct fuzz_input input = {data, bytes};
    uint8_t how = fuzz_take_u8(&input);
    uint32_t max_bytes = (uint32_t)fuzz_take(&input, 2) % (MADE_MAX - 500), first = fuzz_take_u8(&input), count = how & 3;
    count = count < input.bytes ? count : (uint32_t)input.bytes;
    const uint8_t *sizes = input.data;
    data = input.data + count;
    if (input.bytes - count > INPUT_MAX || input.bytes == count)
        return 0;
    uint32_t data_bytes = (uint32_t)(input.bytes - count);
    first = first < data_bytes ? first : data_bytes;
    bool keep = how & 4;
    uint8_t bits = (uint8_t)(8 + (how >> 3 & 7));
    /* What refers back farther than was agreed on is found out by zlib or not, as the room is: so that is not compared. */
    const struct w_deflate_terms terms = {.sent_bits = bits, .received_bits = 15, .keep_sent = keep, .keep_received = keep};
    run(&whole, terms, max_bytes, data, data_bytes, first, NULL, 0);
    run(&other, terms, max_bytes, data, data_bytes, first, one, 1);
    must_be_same(&whole, &other);
    run(&other, terms, max_bytes, data, data_bytes, first, sizes, count);
    must_be_same(&whole, &other);
    check_book(&whole, terms, data, first);
    weir_websocket_deflate options = {.level = (uint8_t)(3 * (how >> 6))};
    if (bytes > 0)
        check_pack(terms, &options, data, data_bytes);
    return 0;
}
