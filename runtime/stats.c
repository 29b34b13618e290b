/* SPDX-License-Identifier: MIT */
/* stats: adding counters up. */
#include "runtime/stats.h"

_Static_assert(sizeof(weir_stats) % sizeof(uint64_t) == 0, "weir_stats holds 64-bit counters only");

void w_stats_sum(weir_stats *sum, const weir_stats *part)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)part;
    for (size_t i = 0; i < W_STATS_FIELDS; i++)
        to[i] += w_stats_get(&from[i]);
}
