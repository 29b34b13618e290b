/* SPDX-License-Identifier: MIT */
/* slice: see slice.h. */
#include "slice.h"

#include "process.h"

#include <stdlib.h>

static int slice_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static uint64_t slice_time_ns(slice_work *work, void *user, uint64_t times)
{
    uint64_t begin_ns = process_now_ns();
    work(user, times);
    return process_now_ns() - begin_ns;
}

double slice_median_ns(slice_work *work, void *user, uint64_t total_ns)
{
    uint64_t slices_ns[SLICE_COUNT], wanted_ns = total_ns / SLICE_COUNT, times = 1;
    while (slice_time_ns(work, user, times) < wanted_ns / 2)
        times *= 2;
    for (int i = 0; i < SLICE_COUNT; i++)
        slices_ns[i] = slice_time_ns(work, user, times);
    qsort(slices_ns, SLICE_COUNT, sizeof *slices_ns, slice_compare);
    return (double)slices_ns[SLICE_COUNT / 2] / (double)times;
}
