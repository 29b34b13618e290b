/* SPDX-License-Identifier: MIT */
/* histogram: durations in nanoseconds, counted in log-linear slots of at most 1 % width.
 *
 * Each power of two is cut into 128 equal slots, so a slot is 1/256 to 1/128 of its value wide, and below 256 ns
 * every nanosecond has its own. What takes longer than HISTOGRAM_MOST_NS is counted in the last slot; its true value is
 * kept only as the maximum. Recording is a shift and two increments; nothing allocates. A zeroed struct is an empty histogram.
 *
 * Not for threads: give each its own and merge them. */
#pragma once

#include <stdint.h>

#define HISTOGRAM_SLOTS_BITS 7
#define HISTOGRAM_SLOTS      (1u << HISTOGRAM_SLOTS_BITS) /* in each power of two */
#define HISTOGRAM_OCTAVES    30
#define HISTOGRAM_COUNT      (HISTOGRAM_SLOTS * (HISTOGRAM_OCTAVES + 1))
#define HISTOGRAM_MOST_NS    ((1ull << (HISTOGRAM_OCTAVES + HISTOGRAM_SLOTS_BITS)) - 1) /* 137 s */

/* Invariant: count is the sum of slots; least_ns <= most_ns unless count is 0. */
struct histogram {
    uint64_t count;
    uint64_t least_ns;
    uint64_t most_ns;
    double sum_ns; /* floating, since 10,000 connections waiting for a day would overflow 64 bits */
    uint64_t slots[HISTOGRAM_COUNT];
};

void histogram_record(struct histogram *histogram, uint64_t value_ns);

/* Adds what `from` has counted. */
void histogram_merge(struct histogram *histogram, const struct histogram *from);

/* The value that `percent` (0 to 100) of all values do not exceed: the upper edge of its slot, never more than the true
 * maximum, so at most 0.8 % too high and never too low. 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* 0 when empty. */
double histogram_mean(const struct histogram *histogram);

/* The slot that counts a value, and the greatest value that it counts. For the tests. */
uint32_t histogram_slot(uint64_t value_ns);
uint64_t histogram_slot_most(uint32_t slot);
