/* SPDX-License-Identifier: MIT */
/* histogram: see histogram.h.
 *
 * Slots 0 to 255 are the values themselves. From there on the highest bit picks the octave and the seven bits below it the
 * slot: value 256..511 in steps of 2, 512..1023 in steps of 4, and so on. */
#include "histogram.h"

#include <math.h>

uint32_t histogram_slot(uint64_t value_ns)
{
    if (value_ns < HISTOGRAM_SLOTS)
        return (uint32_t)value_ns;
    if (value_ns > HISTOGRAM_MOST_NS)
        return HISTOGRAM_COUNT - 1;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(value_ns) - HISTOGRAM_SLOTS_BITS;
    return octave * HISTOGRAM_SLOTS + (uint32_t)(value_ns >> octave);
}

uint64_t histogram_slot_most(uint32_t slot)
{
    if (slot < 2 * HISTOGRAM_SLOTS)
        return slot;
    uint32_t octave = slot / HISTOGRAM_SLOTS - 1;
    uint64_t step = slot % HISTOGRAM_SLOTS + HISTOGRAM_SLOTS;
    return ((step + 1) << octave) - 1;
}

void histogram_record(struct histogram *histogram, uint64_t value_ns)
{
    if (histogram->count == 0 || value_ns < histogram->least_ns)
        histogram->least_ns = value_ns;
    if (value_ns > histogram->most_ns)
        histogram->most_ns = value_ns;
    histogram->count++;
    histogram->sum_ns += (double)value_ns;
    histogram->slots[histogram_slot(value_ns)]++;
}

void histogram_merge(struct histogram *histogram, const struct histogram *from)
{
    if (from->count == 0)
        return;
    if (histogram->count == 0 || from->least_ns < histogram->least_ns)
        histogram->least_ns = from->least_ns;
    if (from->most_ns > histogram->most_ns)
        histogram->most_ns = from->most_ns;
    histogram->count += from->count;
    histogram->sum_ns += from->sum_ns;
    for (uint32_t slot = 0; slot < HISTOGRAM_COUNT; slot++)
        histogram->slots[slot] += from->slots[slot];
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    if (histogram->count == 0)
        return 0;
    /* The hair taken off keeps 99.9 % of 1000 from becoming 1000 by rounding. */
    double rank = ceil(percent / 100 * (double)histogram->count - 1e-6);
    uint64_t wanted = rank < 1 ? 1 : (uint64_t)rank;
    uint64_t seen = 0;
    for (uint32_t slot = 0; slot < HISTOGRAM_COUNT - 1; slot++) {
        seen += histogram->slots[slot];
        if (seen >= wanted) {
            uint64_t most_ns = histogram_slot_most(slot);
            return most_ns < histogram->most_ns ? most_ns : histogram->most_ns;
        }
    }
    return histogram->most_ns; /* the last slot is open upwards */
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->count == 0 ? 0 : histogram->sum_ns / (double)histogram->count;
}
