/* SPDX-License-Identifier: MIT */
/* test_utf8: both ways to check against a third, which looks characters up in the table of RFC 3629, section 4: every sequence of two bytes and what is near
 * the edges of three and four; a wrong byte at every place of every length; in pieces that end anywhere. It has to fail with the byte that made it wrong. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "must.h"
#include "proto/utf8.h"

#define TEXT_BYTES 400u

/* Section 4: UTF8-2 to UTF8-4, each byte between two. */
static const struct {
    uint8_t count;
    uint8_t range[4][2];
} characters[] = {
    {1, {{0x00, 0x7f}}},
    {2, {{0xc2, 0xdf}, {0x80, 0xbf}}},
    {3, {{0xe0, 0xe0}, {0xa0, 0xbf}, {0x80, 0xbf}}},
    {3, {{0xe1, 0xec}, {0x80, 0xbf}, {0x80, 0xbf}}},
    {3, {{0xed, 0xed}, {0x80, 0x9f}, {0x80, 0xbf}}},
    {3, {{0xee, 0xef}, {0x80, 0xbf}, {0x80, 0xbf}}},
    {4, {{0xf0, 0xf0}, {0x90, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}}},
    {4, {{0xf1, 0xf3}, {0x80, 0xbf}, {0x80, 0xbf}, {0x80, 0xbf}}},
    {4, {{0xf4, 0xf4}, {0x80, 0x8f}, {0x80, 0xbf}, {0x80, 0xbf}}},
};
#define KINDS (sizeof characters / sizeof *characters)

/* How many bytes, from the beginning, can be those of a text; *whole: they are one. */
static size_t good_bytes(const uint8_t *data, size_t bytes, bool *whole)
{
    size_t at = 0;
    for (;;) {
        size_t most = 0;
        bool ends = false;
        for (size_t kind = 0; kind < KINDS; kind++) {
            size_t k = 0;
            while (k < characters[kind].count && at + k < bytes && data[at + k] >= characters[kind].range[k][0] &&
                   data[at + k] <= characters[kind].range[k][1])
                k++;
            if (k > most || (k == most && k == characters[kind].count)) {
                most = k;
                ends = k == characters[kind].count;
            }
        }
        at += most;
        *whole = at == bytes && (most == 0 || ends);
        if (!ends)
            return at;
    }
}

typedef bool (*check_function)(struct w_utf8 *state, const uint8_t *data, size_t bytes);
static const check_function ways[] = {w_utf8_check, w_utf8_check_portably};

/* In two pieces, and byte by byte. */
static void must_agree(const uint8_t *data, size_t bytes, size_t cut)
{
    bool whole;
    size_t good = good_bytes(data, bytes, &whole);
    for (size_t way = 0; way < 2; way++) {
        struct w_utf8 state = {0};
        bool first = ways[way](&state, data, cut);
        MUST(first == (good >= cut));
        if (!first)
            continue;
        bool second = ways[way](&state, data + cut, bytes - cut);
        MUST(second == (good == bytes));
        if (second)
            MUST(w_utf8_is_whole(&state) == whole);
    }
}

static void must_fail_at_once(const uint8_t *data, size_t bytes)
{
    bool whole;
    size_t good = good_bytes(data, bytes, &whole), at = 0;
    struct w_utf8 state = {0};
    while (at < bytes && w_utf8_check(&state, data + at, 1))
        at++;
    MUST_EQUAL(at, good);
}

/* --- every sequence --- */

/* Alone, and where the fast way sees it: among ASCII, across the end of a block. */
static void try_sequence(const uint8_t *sequence, size_t count)
{
    static uint8_t text[96];
    must_fail_at_once(sequence, count);
    must_agree(sequence, count, count / 2);
    memset(text, 'x', sizeof text);
    for (size_t place = 29; place < 33; place++) {
        memset(text + 29, 'x', 8);
        memcpy(text + place, sequence, count);
        must_agree(text, sizeof text, 0);
    }
    memset(text, 'x', sizeof text);
    memcpy(text + sizeof text - count, sequence, count);
    must_agree(text, sizeof text, 0);
}

/* Under a sanitizer one in so many: the release build does them all. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 3
#else
#define STRIDE 1
#endif

/* Where ranges begin and end, and beside them. */
static const uint8_t edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xf0, 0xf5, 0xff};
#define EDGES (sizeof edges / sizeof *edges)

START_TEST(every_sequence)
{
    uint8_t sequence[3] = {(uint8_t)(_i * STRIDE)};
    try_sequence(sequence, 1);
    for (uint32_t second = 0; second < 256; second++) {
        sequence[1] = (uint8_t)second;
        try_sequence(sequence, 2);
        for (size_t third = 0; sequence[0] >= 0xc0 && third < EDGES; third++) {
            sequence[2] = edges[third];
            try_sequence(sequence, 3);
        }
    }
}
END_TEST

START_TEST(sequences_of_four)
{
    for (uint32_t i = 0; i < EDGES * EDGES * EDGES; i++) {
        const uint8_t sequence[] = {(uint8_t)(0xf0 + _i), edges[i % EDGES], edges[i / EDGES % EDGES], edges[i / EDGES / EDGES]};
        try_sequence(sequence, 4);
    }
}
END_TEST

/* --- texts --- */

static size_t any_text(struct chance *chance, uint8_t *text, size_t bytes_max)
{
    size_t bytes = 0;
    uint64_t ascii = chance_below(chance, 5);
    for (;;) {
        size_t kind = chance_below(chance, 4) < ascii ? 0 : chance_below(chance, KINDS);
        if (bytes + characters[kind].count > bytes_max)
            return bytes;
        for (size_t k = 0; k < characters[kind].count; k++) {
            const uint8_t *range = characters[kind].range[k];
            text[bytes++] = (uint8_t)(range[0] + chance_below(chance, (uint64_t)range[1] - range[0] + 1));
        }
    }
}

START_TEST(texts)
{
    struct chance chance = {(uint64_t)_i};
    uint8_t text[TEXT_BYTES];
    for (int round = 0; round < 60; round++) {
        bool whole;
        size_t bytes = any_text(&chance, text, 1 + chance_below(&chance, TEXT_BYTES));
        MUST(good_bytes(text, bytes, &whole) == bytes && whole);
        for (size_t cut = 0; cut <= bytes; cut += 1 + chance_below(&chance, 8))
            must_agree(text, bytes, cut);
    }
}
END_TEST

/* One byte is another, anywhere. */
START_TEST(one_wrong_byte)
{
    struct chance chance = {(uint64_t)_i};
    uint8_t text[TEXT_BYTES];
    size_t bytes = any_text(&chance, text, 70 + chance_below(&chance, TEXT_BYTES - 70));
    for (size_t at = 0; at < bytes; at++) {
        uint8_t right = text[at];
        for (int i = 0; i < 12; i++) {
            text[at] = (uint8_t)(i < 8 ? right ^ 1u << i : chance_below(&chance, 256));
            must_agree(text, bytes, chance_below(&chance, bytes + 1));
            must_fail_at_once(text, bytes);
        }
        text[at] = right;
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("utf8");
    TCase *tests = tcase_create("utf8");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, every_sequence, 0, 256 / STRIDE);
    tcase_add_loop_test(tests, sequences_of_four, 0, 6);
    tcase_add_loop_test(tests, texts, 0, 24);
    tcase_add_loop_test(tests, one_wrong_byte, 0, STRIDE == 1 ? 6 : 1);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
