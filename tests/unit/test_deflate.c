/* SPDX-License-Identifier: MIT */
/* test_deflate: messages packed and unpacked (RFC 7692, section 7.2) without a connection; the other end is zlib itself. Windows, context takeover, limits, what is no
 * deflate, memory that there is none of. Offers: test_deflate_offer.c; connections: test_session_deflate.c; any bytes: tests/fuzz/fuzz_deflate.c. */
#define ZLIB_CONST
#include <check.h>
#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "chance.h"
#include "must.h"
#include "proto/deflate.h"
#include "runtime/base.h"

/* --- a heap that counts --- */

static struct heap {
    weir_session_heap heap;
    int pieces, left; /* left -1: as many as are wanted */
    uint64_t bytes, bytes_most;
} heap;

static void *heap_take(weir_session_heap *self, uint32_t bytes)
{
    MUST(self == &heap.heap);
    if (heap.left == 0)
        return NULL;
    heap.left -= heap.left > 0;
    heap.pieces++;
    heap.bytes += bytes;
    heap.bytes_most = heap.bytes > heap.bytes_most ? heap.bytes : heap.bytes_most;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void heap_give(weir_session_heap *self, void *piece, uint32_t bytes)
{
    MUST(self == &heap.heap);
    heap.pieces--;
    heap.bytes -= bytes;
    free(piece);
}

static struct w_deflate end;
static weir_websocket_deflate options;

static void start(uint8_t sent_bits, uint8_t received_bits, bool keep)
{
    heap = (struct heap){.heap = {heap_take, heap_give}, .left = -1};
    end = (struct w_deflate){.terms = {.sent_bits = sent_bits, .received_bits = received_bits, .keep_sent = keep, .keep_received = keep}};
    options = (weir_websocket_deflate){.enabled = true};
}

static void finish(void)
{
    w_deflate_close(&end, &heap.heap);
    MUST_EQUAL(heap.pieces, 0);
    MUST_EQUAL(heap.bytes, 0);
}

/* --- unpacking --- */

#define MAX_BYTES (1U << 20)
static uint8_t made[MAX_BYTES + 1];
static uint32_t made_bytes;

/* Frames of so many bytes (0: one frame), and room for so many each time: 0 or the error. */
static int unpack(const uint8_t *data, uint32_t bytes, uint32_t frame, uint32_t room, uint32_t max_bytes)
{
    uint32_t done = 0;
    made_bytes = 0;
    do {
        uint32_t piece = frame == 0 || frame > bytes - done ? bytes - done : frame;
        weir_session_unpacking unpacking = {.data = data + done, .bytes = piece, .last = done + piece == bytes};
        int result;
        do {
            unpacking.to = made + made_bytes;
            unpacking.room_bytes = room < sizeof made - made_bytes ? room : (uint32_t)sizeof made - made_bytes;
            unpacking.made_bytes = 0;
            result = w_deflate_unpack(&end, &heap.heap, &options, max_bytes, &unpacking);
            MUST(unpacking.made_bytes <= unpacking.room_bytes);
            made_bytes += unpacking.made_bytes;
            MUST(result != 1 || unpacking.made_bytes == unpacking.room_bytes);
        } while (result == 1);
        if (result != 0)
            return result;
        MUST_EQUAL(unpacking.bytes, 0);
        done += piece;
    } while (done < bytes);
    return 0;
}

static void must_have_made(const void *data, uint32_t bytes)
{
    MUST_EQUAL(made_bytes, bytes);
    MUST(memcmp(made, data, bytes) == 0);
}

/* Section 7.2.3: "Hello", one behind the other, with the window that the one before has left. */
static const struct {
    const char *packed;
    uint32_t bytes;
} examples[] = {
    {"\xf2\x48\xcd\xc9\xc9\x07\x00", 7},                          /* 7.2.3.1 */
    {"\xf2\x00\x11\x00\x00", 5},                                  /* 7.2.3.2: the one before once again */
    {"\x00\x05\x00\xfa\xffHello\x00", 11},                        /* 7.2.3.3: not compressed */
    {"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8},                      /* 7.2.3.4: a last block */
    {"\xf2\x00\x11\x00\x00", 5},                                  /* behind that too */
    {"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13}, /* 7.2.3.5: two blocks */
};

START_TEST(examples_of_the_rfc)
{
    for (uint32_t frame = 0; frame < 5; frame++)
        for (uint32_t room = 1; room < 8; room += 2) {
            start(15, 15, true);
            for (size_t i = 0; i < W_COUNT(examples); i++) {
                MUST_EQUAL(unpack((const uint8_t *)examples[i].packed, examples[i].bytes, frame, room, MAX_BYTES), 0);
                must_have_made("Hello", 5);
            }
            finish();
        }
}
END_TEST

/* The second refers to the first, which is not there any more. */
START_TEST(nothing_is_kept)
{
    start(15, 15, false);
    MUST_EQUAL(unpack((const uint8_t *)examples[0].packed, examples[0].bytes, 0, 100, MAX_BYTES), 0);
    MUST_EQUAL(heap.pieces, 0);
    MUST_EQUAL(unpack((const uint8_t *)examples[1].packed, examples[1].bytes, 0, 100, MAX_BYTES), -EBADMSG);
    finish();
}
END_TEST

/* An empty message, and an empty frame at the beginning, in the middle and at the end. */
START_TEST(empty_ones)
{
    static const uint8_t none[] = {0};
    start(15, 15, true);
    MUST_EQUAL(unpack(none, 1, 0, 10, MAX_BYTES), 0);
    must_have_made("", 0);
    for (int at = 0; at < 3; at++) {
        const uint8_t *data = (const uint8_t *)examples[0].packed;
        uint32_t first = at == 0 ? 0 : at == 1 ? 3 : 7;
        weir_session_unpacking pieces[] = {
            {.data = data, .bytes = first, .to = made, .room_bytes = 100},
            {.data = data, .bytes = 0, .to = made, .room_bytes = 100},
            {.data = data + first, .bytes = 7 - first, .last = true, .to = made, .room_bytes = 100},
        };
        made_bytes = 0;
        for (size_t i = 0; i < W_COUNT(pieces); i++) {
            pieces[i].to = made + made_bytes;
            MUST_EQUAL(w_deflate_unpack(&end, &heap.heap, &options, MAX_BYTES, &pieces[i]), 0);
            made_bytes += pieces[i].made_bytes;
        }
        must_have_made("Hello", 5);
    }
    finish();
}
END_TEST

/* --- packed by weir and unpacked by zlib, and the other way round --- */

#define MESSAGE_MAX 40000u

/* Text that repeats itself after so many bytes; or noise. */
static void fill(struct chance *chance, uint8_t *data, uint32_t bytes, uint32_t period)
{
    for (uint32_t i = 0; i < bytes; i++)
        data[i] = period == 0 || i < period ? (uint8_t)('a' + chance_below(chance, period == 0 ? 200 : 20)) : data[i - period];
}

static const uint32_t sizes[] = {1, 5, 60, 257, 1000, 4096, 33000, MESSAGE_MAX}, periods[] = {0, 1, 7, 200, 251, 300, 1000, 20000};

START_TEST(weir_packs)
{
    static uint8_t data[MESSAGE_MAX], packed[MESSAGE_MAX + 4], back[MESSAGE_MAX + 1];
    uint8_t bits = (uint8_t)(8 + _i / 2);
    bool keep = _i % 2 == 1;
    struct chance chance = {(uint64_t)_i};
    z_stream peer = {0};
    uint32_t shorter = 0;
    MUST_EQUAL(inflateInit2(&peer, -bits), Z_OK); /* with no more of a window than was agreed on */
    start(bits, 15, keep);
    for (uint32_t i = 0; i < W_COUNT(sizes) * W_COUNT(periods); i++) {
        uint32_t bytes = sizes[i % W_COUNT(sizes)], period = periods[i / W_COUNT(sizes)];
        options.level = (uint8_t)(i % 10);
        fill(&chance, data, bytes, period);
        uint32_t packed_bytes = w_deflate_pack(&end, &heap.heap, &options, data, bytes, packed);
        MUST(packed_bytes < bytes);
        MUST(keep || heap.pieces == 0);
        if (packed_bytes == 0)
            continue;
        shorter++;
        memcpy(packed + packed_bytes, "\0\0\xff\xff", 4);
        if (!keep)
            inflateReset(&peer);
        peer.next_in = packed;
        peer.avail_in = packed_bytes + 4;
        peer.next_out = back;
        peer.avail_out = sizeof back;
        MUST_EQUAL(inflate(&peer, Z_SYNC_FLUSH), Z_OK);
        MUST(peer.avail_in == 0 && sizeof back - peer.avail_out == bytes && memcmp(back, data, bytes) == 0);
    }
    MUST(shorter > 20);
    inflateEnd(&peer);
    finish();
}
END_TEST

START_TEST(zlib_packs)
{
    static uint8_t data[MESSAGE_MAX], packed[2 * MESSAGE_MAX];
    uint8_t bits = (uint8_t)(9 + _i / 2);
    bool keep = _i % 2 == 1;
    struct chance chance = {(uint64_t)_i};
    z_stream peer = {0};
    MUST_EQUAL(deflateInit2(&peer, 6, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    start(15, bits, keep);
    for (uint32_t i = 0; i < W_COUNT(sizes) * W_COUNT(periods); i++) {
        uint32_t bytes = sizes[i % W_COUNT(sizes)], period = periods[i / W_COUNT(sizes)];
        fill(&chance, data, bytes, period);
        peer.next_in = data;
        peer.avail_in = bytes;
        peer.next_out = packed;
        peer.avail_out = sizeof packed;
        MUST_EQUAL(deflate(&peer, i % 3 == 0 ? Z_FULL_FLUSH : Z_SYNC_FLUSH), Z_OK);
        uint32_t packed_bytes = (uint32_t)(sizeof packed - peer.avail_out) - 4;
        uint32_t frame = (uint32_t)chance_any_size(&chance, 12), room = 1 + (uint32_t)chance_any_size(&chance, 14);
        MUST_EQUAL(unpack(packed, packed_bytes, frame, room, bytes), 0); /* exactly as many as it may */
        must_have_made(data, bytes);
        MUST(keep || heap.pieces == 0);
        if (!keep)
            deflateReset(&peer);
    }
    deflateEnd(&peer);
    finish();
}
END_TEST

/* --- limits, and what is none --- */

/* One message by zlib; answers its bytes. */
static uint32_t zlib_pack(const uint8_t *data, uint32_t bytes, uint8_t *to, uint32_t to_bytes)
{
    z_stream peer = {0};
    MUST_EQUAL(deflateInit2(&peer, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    peer.next_in = data;
    peer.avail_in = bytes;
    peer.next_out = to;
    peer.avail_out = to_bytes;
    MUST_EQUAL(deflate(&peer, Z_SYNC_FLUSH), Z_OK);
    deflateEnd(&peer);
    return to_bytes - peer.avail_out - 4;
}

/* A bomb is told by its first byte over the limit, however much is behind it. */
START_TEST(bombs)
{
    static uint8_t zeros[MAX_BYTES], bomb[MAX_BYTES];
    uint32_t bytes = zlib_pack(zeros, sizeof zeros, bomb, sizeof bomb);
    MUST(bytes < 1100);
    for (uint32_t frame = 0; frame < 3; frame++) {
        start(15, 15, false);
        options.ratio_max = 2000;
        MUST_EQUAL(unpack(bomb, bytes, frame, 100000, sizeof zeros), 0);
        MUST_EQUAL(made_bytes, sizeof zeros);
        MUST_EQUAL(unpack(bomb, bytes, frame, 100000, sizeof zeros - 1), -EMSGSIZE);
        finish();
        start(15, 15, true);
        options.ratio_max = 2000;
        MUST_EQUAL(unpack(bomb, bytes, frame, 1000, 5000), -EMSGSIZE);
        MUST(made_bytes == 5001);
        finish();
        start(15, 15, false); /* by its ratio: 256 */
        MUST_EQUAL(unpack(bomb, bytes, frame, 1000, sizeof zeros), -EMSGSIZE);
        MUST(made_bytes > 65536 && made_bytes < 65536 + 300 * 1000);
        finish();
    }
    /* Up to 64 KiB no ratio is too much. */
    bytes = zlib_pack(zeros, 65536, bomb, sizeof bomb);
    start(15, 15, false);
    options.ratio_max = 1;
    MUST_EQUAL(unpack(bomb, bytes, 0, 1000, sizeof zeros), 0);
    finish();
}
END_TEST

/* Cut off anywhere, with one bit changed, or with a block that is none: an error or another message, and nothing is left. */
START_TEST(broken)
{
    static const char text[] = "What is cut off in the middle of a block is no message, not even what is there of it; is it, is it not?";
    uint8_t packed[200], other[200];
    uint32_t bytes = zlib_pack((const uint8_t *)text, sizeof text, packed, sizeof packed), refused = 0;
    for (uint32_t cut = 0; cut < bytes; cut++) {
        start(15, 15, true);
        MUST_EQUAL(unpack(packed, cut, 0, 1000, MAX_BYTES), -EBADMSG);
        finish();
    }
    for (uint32_t bit = 0; bit < bytes * 8; bit++) {
        memcpy(other, packed, bytes);
        other[bit / 8] ^= (uint8_t)(1 << bit % 8);
        start(15, 15, bit % 2 == 0);
        int result = unpack(other, bytes, 0, 1000, MAX_BYTES);
        MUST(result == 0 || result == -EBADMSG);
        refused += result != 0;
        finish();
    }
    MUST(refused > bytes);
    start(15, 15, true);
    MUST_EQUAL(unpack((const uint8_t *)"\x06", 1, 0, 1000, MAX_BYTES), -EBADMSG); /* a block of type 3 */
    finish();
}
END_TEST

/* --- memory --- */

START_TEST(without_memory)
{
    static uint8_t data[1000], packed[1000];
    start(15, 15, _i % 2 == 0);
    memset(data, 'm', sizeof data);
    heap.left = _i;
    uint32_t bytes = w_deflate_pack(&end, &heap.heap, &options, data, sizeof data, packed);
    MUST(bytes == 0 || _i > 4);
    int result = unpack((const uint8_t *)examples[0].packed, examples[0].bytes, 0, 100, MAX_BYTES);
    MUST(result == -ENOMEM || (result == 0 && _i > 6));
    heap.left = -1;
    MUST(w_deflate_pack(&end, &heap.heap, &options, data, sizeof data, packed) > 0);
    finish();
}
END_TEST

/* As much as weir/websocket.h says. */
START_TEST(what_it_costs)
{
    static uint8_t data[60000], packed[60000];
    start(15, 15, true);
    memset(data, 'c', sizeof data);
    MUST(w_deflate_pack(&end, &heap.heap, &options, data, sizeof data, packed) > 0);
    MUST(heap.bytes > 200 * 1024 && heap.bytes < 300 * 1024);
    w_deflate_forget_sent(&end, &heap.heap);
    MUST_EQUAL(heap.pieces, 0);
    uint32_t bytes = zlib_pack(data, sizeof data, packed, sizeof packed);
    MUST_EQUAL(unpack(packed, bytes, 0, 100000, MAX_BYTES), 0);
    MUST(heap.bytes > 32 * 1024 && heap.bytes < 48 * 1024);
    finish();
    start(9, 9, true);
    MUST(w_deflate_pack(&end, &heap.heap, &options, data, sizeof data, packed) > 0);
    MUST(heap.bytes < 13 * 1024);
    finish();
}
END_TEST

/* What was not sent is not referred to. */
START_TEST(forgotten)
{
    static uint8_t data[2000], packed[2000];
    struct chance chance = {1};
    start(15, 15, true);
    fill(&chance, data, sizeof data, 0);
    memset(data + 1500, 'f', 500);
    uint32_t first = w_deflate_pack(&end, &heap.heap, &options, data, sizeof data, packed);
    uint32_t again = w_deflate_pack(&end, &heap.heap, &options, data, sizeof data, packed);
    MUST(first > 1000 && again < 100);
    w_deflate_forget_sent(&end, &heap.heap);
    MUST_EQUAL(w_deflate_pack(&end, &heap.heap, &options, data, sizeof data, packed), first);
    MUST_EQUAL(unpack(packed, first, 0, 5000, MAX_BYTES), 0);
    must_have_made(data, sizeof data);
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("deflate");
    TCase *tests = tcase_create("deflate");
    tcase_add_test(tests, examples_of_the_rfc);
    tcase_add_test(tests, nothing_is_kept);
    tcase_add_test(tests, empty_ones);
    tcase_add_loop_test(tests, weir_packs, 0, 16);
    tcase_add_loop_test(tests, zlib_packs, 0, 14);
    tcase_add_test(tests, bombs);
    tcase_add_test(tests, broken);
    tcase_add_loop_test(tests, without_memory, 0, 12);
    tcase_add_test(tests, what_it_costs);
    tcase_add_test(tests, forgotten);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
