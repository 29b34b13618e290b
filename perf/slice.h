/* SPDX-License-Identifier: MIT */
/* slice: the time of something that takes less than a look at the clock does: done over and over, in slices of equal work; the middle
 * slice counts, so that a slice in which somebody else had the core does not. */
#pragma once

#include <stdint.h>

/* Does it so many times. */
typedef void slice_work(void *user, uint64_t times);

/* Nanoseconds for one time, the median of SLICE_COUNT slices that take about total_ns together. Finds out first how many times a slice has
 * (which warms up). */
#define SLICE_COUNT 11
double slice_median_ns(slice_work *work, void *user, uint64_t total_ns);
