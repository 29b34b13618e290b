/* SPDX-License-Identifier: MIT */
/* test_mask: every length and offset against the RFC's formula, byte by byte, in place and not, in parts, and nothing beyond the end. */
#include <check.h>
#include <string.h>

#include "chance.h"
#include "must.h"
#include "proto/mask.h"

#define BYTES 300u

/* RFC 6455, section 5.3: transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4). */
static void mask_slowly(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t key[4], size_t offset)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = from[i] ^ key[(offset + i) % 4];
}

START_TEST(as_the_formula)
{
    struct chance chance = {(uint64_t)_i};
    uint8_t from[BYTES], to[BYTES + 1], expected[BYTES], key[4];
    chance_fill(&chance, from, sizeof from);
    chance_fill(&chance, key, sizeof key);
    for (size_t bytes = 0; bytes <= BYTES; bytes++) {
        size_t offset = chance_below(&chance, 9);
        mask_slowly(expected, from, bytes, key, offset);
        to[bytes] = 0xa5;
        w_mask(to, from, bytes, key, offset);
        MUST(memcmp(to, expected, bytes) == 0 && to[bytes] == 0xa5);
        memcpy(to, from, bytes);
        size_t cut = chance_below(&chance, bytes + 1);
        w_mask(to, to, cut, key, offset);
        w_mask(to + cut, to + cut, bytes - cut, key, offset + cut);
        MUST(memcmp(to, expected, bytes) == 0 && to[bytes] == 0xa5);
    }
}
END_TEST

/* Section 5.7: a single-frame masked text message, "Hello". */
START_TEST(example)
{
    static const uint8_t key[] = {0x37, 0xfa, 0x21, 0x3d}, masked[] = {0x7f, 0x9f, 0x4d, 0x51, 0x58};
    uint8_t text[5];
    w_mask(text, masked, sizeof masked, key, 0);
    MUST(memcmp(text, "Hello", 5) == 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mask");
    TCase *tests = tcase_create("mask");
    tcase_add_loop_test(tests, as_the_formula, 0, 16);
    tcase_add_test(tests, example);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
