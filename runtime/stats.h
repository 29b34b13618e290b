/* SPDX-License-Identifier: MIT */
/* stats: counters with one writer and any readers. Relaxed atomics: each number is whole by itself and nothing is ordered by it,
 * so on the writer's side they cost a load, an add and a store, no locked instruction. */
#ifndef W_STATS_H
#define W_STATS_H

#include <weir/stats.h>

#include "runtime/base.h"

/* Relaxed suffices in all of these: a counter orders nothing; readers are promised each number alone. */
static inline void w_stats_add(uint64_t *counter, uint64_t amount)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}

static inline void w_stats_add_u32(uint32_t *counter, uint32_t amount)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + amount, __ATOMIC_RELAXED);
}

static inline void w_stats_set(uint64_t *counter, uint64_t value)
{
    __atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

static inline void w_stats_set_u32(uint32_t *counter, uint32_t value)
{
    __atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

static inline uint64_t w_stats_get(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static inline uint32_t w_stats_get_u32(const uint32_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* weir_stats is nothing but counters, which lets a sum be a loop. */
#define W_STATS_FIELDS (sizeof(weir_stats) / sizeof(uint64_t))

/* sum += part, part read as any thread may. */
void w_stats_sum(weir_stats *sum, const weir_stats *part);

#endif
