/* SPDX-License-Identifier: MIT */
/* mask: 64 bytes at a time, in the compiler's own vectors. */
#include "proto/mask.h"

#include <string.h>

typedef uint32_t mask_vector __attribute__((vector_size(32)));

#define MASK_BLOCK_BYTES (2 * sizeof(mask_vector))

void w_mask(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t key[4], size_t offset)
{
    uint8_t turned[4];
    uint32_t word;
    size_t i = 0;
    for (size_t k = 0; k < sizeof turned; k++)
        turned[k] = key[(offset + k) & 3];
    memcpy(&word, turned, sizeof word);
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
    for (; i < bytes; i++)
        to[i] = from[i] ^ turned[i & 3];
}
