/* SPDX-License-Identifier: MIT */
/* chance: numbers that look random and come again with their seed (splitmix64), for tests. */
#ifndef TEST_CHANCE_H
#define TEST_CHANCE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct chance {
    uint64_t state; /* the seed, at first */
};

static inline uint64_t chance_u64(struct chance *chance)
{
    uint64_t value = chance->state += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

/* 0 ... limit - 1 */
static inline uint64_t chance_below(struct chance *chance, uint64_t limit)
{
    return chance_u64(chance) % limit;
}

static inline bool chance_one_in(struct chance *chance, uint64_t count)
{
    return chance_below(chance, count) == 0;
}

/* Of all sizes alike: up to 2^bits - 1. */
static inline uint64_t chance_any_size(struct chance *chance, uint32_t bits)
{
    uint64_t shift = chance_below(chance, bits + 1);
    return shift == 0 ? 0 : chance_u64(chance) >> (64 - shift);
}

static inline void chance_fill(struct chance *chance, uint8_t *data, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)chance_u64(chance);
}

/* WEIR_TEST_SEED in the environment plays one seed alone. */
static inline bool chance_seed_wanted(uint64_t seed)
{
    const char *wanted = getenv("WEIR_TEST_SEED");
    return wanted == NULL || strtoull(wanted, NULL, 0) == seed;
}

#endif
