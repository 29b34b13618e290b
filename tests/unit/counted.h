/* SPDX-License-Identifier: MIT */
/* counted: an allocator that counts what is out, and has nothing more when told so; for tests of an engine alone. */
#ifndef TEST_COUNTED_H
#define TEST_COUNTED_H

#include <stdint.h>
#include <stdlib.h>

#include <weir/runtime.h>

static int64_t counted_bytes;            /* out */
static int64_t counted_left = INT64_MAX; /* so many more times it has something */

static inline void *counted_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    if (counted_left-- <= 0)
        return NULL;
    counted_bytes += (int64_t)bytes;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static inline void counted_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    counted_bytes -= (int64_t)bytes;
    free(memory);
}

static const weir_allocator counted_allocator = {counted_allocate, counted_release, NULL};

/* A log that nobody reads. */
static inline void counted_no_log(void *user, weir_log_level level, const char *sentence)
{
    (void)user;
    (void)level;
    (void)sentence;
}

#endif
