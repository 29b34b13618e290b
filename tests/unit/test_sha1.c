/* SPDX-License-Identifier: MIT */
/* test_sha1: the standard's examples, every way that data can lie against the end of a block, and the handshake's example; base64 by its RFC's examples, there
 * and back, and every text that stands for nothing. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "must.h"
#include "proto/base64.h"
#include "proto/sha1.h"

static void must_be(const uint8_t digest[W_SHA1_BYTES], const char *hexadecimal)
{
    char text[2 * W_SHA1_BYTES + 1];
    for (size_t i = 0; i < W_SHA1_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    ck_assert_str_eq(text, hexadecimal);
}

/* FIPS 180-4's and RFC 3174's. */
START_TEST(by_the_standard)
{
    static const struct {
        const char *data;
        size_t times;
        const char *digest;
    } examples[] = {
        {"", 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {"abc", 1, "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1, "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
        {"a", 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f"},
        {"0123456701234567012345670123456701234567012345670123456701234567", 10, "dea356a2cddd90c7a7ecedc5ebb563934f460452"},
    };
    uint8_t digest[W_SHA1_BYTES];
    size_t piece = strlen(examples[_i].data), bytes = piece * examples[_i].times;
    char *data = malloc(bytes + 1);
    MUST(data != NULL);
    for (size_t i = 0; i < examples[_i].times; i++)
        memcpy(data + i * piece, examples[_i].data, piece);
    w_sha1(data, bytes, digest);
    must_be(digest, examples[_i].digest);
    free(data);
}
END_TEST

/* The hash of the hashes of 0 to 300 bytes, so of every length of the last block: as sha1sum has it. */
START_TEST(every_length)
{
    uint8_t data[300], digests[301][W_SHA1_BYTES], digest[W_SHA1_BYTES];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 3);
    for (size_t bytes = 0; bytes <= sizeof data; bytes++)
        w_sha1(data, bytes, digests[bytes]);
    w_sha1(digests, sizeof digests, digest);
    must_be(digest, "43debf5006166594c976375f1c06253e43d53ddf");
}
END_TEST

/* RFC 6455, section 1.3. */
START_TEST(handshake)
{
    static const char key[] = "dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t digest[W_SHA1_BYTES];
    char text[W_BASE64_CHARACTERS(W_SHA1_BYTES) + 1] = {0};
    w_sha1(key, sizeof key - 1, digest);
    w_base64_encode(digest, sizeof digest, text);
    ck_assert_str_eq(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}
END_TEST

/* RFC 4648, section 10. */
START_TEST(as_text)
{
    static const char *const examples[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    char text[16] = {0};
    uint8_t data[16] = {0};
    size_t bytes = strlen(examples[_i][0]), characters = strlen(examples[_i][1]);
    MUST_EQUAL(W_BASE64_CHARACTERS(bytes), characters);
    w_base64_encode((const uint8_t *)examples[_i][0], bytes, text);
    ck_assert_str_eq(text, examples[_i][1]);
    MUST_EQUAL(w_base64_decode(text, characters, data), (int64_t)bytes);
    ck_assert_str_eq((const char *)data, examples[_i][0]);
}
END_TEST

START_TEST(there_and_back)
{
    struct chance chance = {(uint64_t)_i};
    uint8_t data[100], back[100];
    char text[W_BASE64_CHARACTERS(100)];
    for (int round = 0; round < 1000; round++) {
        uint32_t bytes = (uint32_t)chance_below(&chance, sizeof data + 1);
        chance_fill(&chance, data, bytes);
        w_base64_encode(data, bytes, text);
        MUST_EQUAL(w_base64_decode(text, W_BASE64_CHARACTERS(bytes), back), (int64_t)bytes);
        MUST(memcmp(data, back, bytes) == 0);
    }
}
END_TEST

/* All texts of four characters of some: those that are read are those that writing makes. */
START_TEST(nothing_else)
{
    static const char some[] = "AQgw/+=-_ \n0Zz\x80";
    uint32_t count = sizeof some - 1, good = 0;
    for (uint32_t i = 0; i < count * count * count * count; i++) {
        char text[4] = {some[i % count], some[i / count % count], some[i / count / count % count], some[i / count / count / count]},
             again[4];
        uint8_t data[3];
        int64_t bytes = w_base64_decode(text, sizeof text, data);
        if (bytes < 0)
            continue;
        good++;
        w_base64_encode(data, (size_t)bytes, again);
        MUST(bytes > 0 && memcmp(again, text, sizeof text) == 0);
    }
    MUST(good > 1000);
    for (size_t characters = 1; characters < 4; characters++)
        MUST_EQUAL(w_base64_decode("Zg==", characters, (uint8_t[3]){0}), -1);
    MUST_EQUAL(w_base64_decode("Zg==Zg==", 8, (uint8_t[6]){0}), -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sha1");
    TCase *tests = tcase_create("sha1");
    tcase_add_loop_test(tests, by_the_standard, 0, 5);
    tcase_add_test(tests, every_length);
    tcase_add_test(tests, handshake);
    tcase_add_loop_test(tests, as_text, 0, 7);
    tcase_add_loop_test(tests, there_and_back, 0, 8);
    tcase_add_test(tests, nothing_else);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
