/* SPDX-License-Identifier: MIT */
/* life: of what any thread opens and closes by its name, and every shard follows at its next turn: listeners, groups.
 *
 * A generation and a state in one word. Two words were not enough: a thread that found the state of one generation closed the next one, and a shard that read the new
 * generation beside the old state took its part in the closing twice. */
#ifndef W_LIFE_H
#define W_LIFE_H

#include <stdint.h>

static inline uint64_t w_life(uint32_t generation, uint32_t state)
{
    return (uint64_t)generation << 32 | state;
}

static inline uint32_t w_life_generation(uint64_t life)
{
    return (uint32_t)(life >> 32);
}

static inline uint32_t w_life_state(uint64_t life)
{
    return (uint32_t)life;
}

#endif
