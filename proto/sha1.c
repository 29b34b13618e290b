/* SPDX-License-Identifier: MIT */
/* sha1: blocks of 64 bytes, each of which stirs five words; behind the data a 1, zeros and the length in bits (FIPS 180-4, 5.1.1 and 6.1). */
#include "proto/sha1.h"

#include <string.h>

#define SHA1_BLOCK_BYTES  64u
#define SHA1_LENGTH_BYTES 8u

static uint32_t sha1_turn(uint32_t word, uint32_t bits)
{
    return word << bits | word >> (32 - bits);
}

static uint32_t sha1_load(const uint8_t *data)
{
    return (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
}

/* What round t makes of b, c and d, its constant added (4.1.1 and 4.2.1). */
static uint32_t sha1_mix(uint32_t t, uint32_t b, uint32_t c, uint32_t d)
{
    if (t < 20)
        return ((b & c) | (~b & d)) + 0x5a827999;
    if (t < 40)
        return (b ^ c ^ d) + 0x6ed9eba1;
    if (t < 60)
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    return (b ^ c ^ d) + 0xca62c1d6;
}

static void sha1_block(uint32_t state[5], const uint8_t *block)
{
    uint32_t schedule[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (uint32_t t = 0; t < 16; t++)
        schedule[t] = sha1_load(block + 4 * t);
    for (uint32_t t = 16; t < 80; t++)
        schedule[t] = sha1_turn(schedule[t - 3] ^ schedule[t - 8] ^ schedule[t - 14] ^ schedule[t - 16], 1);
    for (uint32_t t = 0; t < 80; t++) {
        uint32_t next = sha1_turn(a, 5) + sha1_mix(t, b, c, d) + e + schedule[t];
        e = d;
        d = c;
        c = sha1_turn(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

void w_sha1(const void *data, size_t bytes, uint8_t digest[W_SHA1_BYTES])
{
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    const uint8_t *at = data;
    size_t left = bytes;
    for (; left >= SHA1_BLOCK_BYTES; left -= SHA1_BLOCK_BYTES, at += SHA1_BLOCK_BYTES)
        sha1_block(state, at);
    /* The rest, the 1 and the length: one block, or two. */
    uint8_t end[2 * SHA1_BLOCK_BYTES] = {0};
    size_t end_bytes = left + 1 + SHA1_LENGTH_BYTES <= SHA1_BLOCK_BYTES ? SHA1_BLOCK_BYTES : 2 * SHA1_BLOCK_BYTES;
    uint64_t bits = (uint64_t)bytes * 8;
    if (left > 0)
        memcpy(end, at, left);
    end[left] = 0x80;
    for (uint32_t i = 0; i < SHA1_LENGTH_BYTES; i++)
        end[end_bytes - 1 - i] = (uint8_t)(bits >> 8 * i);
    for (size_t i = 0; i < end_bytes; i += SHA1_BLOCK_BYTES)
        sha1_block(state, end + i);
    for (uint32_t i = 0; i < W_SHA1_BYTES; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}
