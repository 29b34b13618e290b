/* SPDX-License-Identifier: MIT */
/* mask: 64 bytes at a time, in the compiler's own vectors. */
#include "proto/mask.h"

#include <string.h>

typedef uint32_t mask_vector __attribute__((vector_size(32)));

#define MASK_BLOCK_BYTES (2 * sizeof(mask_vector))

/* Inlined below for the processor that every one is, and for those that have wider vectors. */
static inline __attribute__((always_inline)) void mask_blocks(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t key[4])
{
    uint32_t word;
    size_t i = 0;
    memcpy(&word, key, sizeof word);
    const mask_vector keys = {word, word, word, word, word, word, word, word};
    for (; i + MASK_BLOCK_BYTES <= bytes; i += MASK_BLOCK_BYTES) {
        mask_vector first, second;
        memcpy(&first, from + i, sizeof first);
        memcpy(&second, from + i + sizeof first, sizeof second);
        first ^= keys;
        second ^= keys;
        memcpy(to + i, &first, sizeof first);
        memcpy(to + i + sizeof first, &second, sizeof second);
    }
    for (; i + sizeof word <= bytes; i += sizeof word) {
        uint32_t piece;
        memcpy(&piece, from + i, sizeof piece);
        piece ^= word;
        memcpy(to + i, &piece, sizeof piece);
    }
    for (; i < bytes; i++)
        to[i] = from[i] ^ key[i & 3];
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void mask_blocks_avx2(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t key[4])
{
    mask_blocks(to, from, bytes, key);
}
#endif

void w_mask(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t key[4], size_t offset)
{
    const uint8_t turned[4] = {key[offset & 3], key[(offset + 1) & 3], key[(offset + 2) & 3], key[(offset + 3) & 3]};
#if defined(__x86_64__)
    if (bytes >= MASK_BLOCK_BYTES && __builtin_cpu_supports("avx2")) {
        mask_blocks_avx2(to, from, bytes, turned);
        return;
    }
#endif
    mask_blocks(to, from, bytes, turned);
}
