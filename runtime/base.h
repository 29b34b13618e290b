/* SPDX-License-Identifier: MIT */
/* base: what every file of the runtime may use: asserts, static checks, small arithmetic, error sentences.
 *
 * Internal names start with w_ and then with the noun of their file; public ones with weir_. */
#ifndef W_BASE_H
#define W_BASE_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir/base.h>

/* Asserts stay on in every build. They are for mistakes of a program (ours or the embedder's), never for what the
 * environment does: that is an error code. An expression, so it cannot swallow an else. */
#define W_ASSERT(condition) ((condition) ? (void)0 : w_base_assert_failed(#condition, __FILE__, __LINE__))

/* A rule of the public headers that the caller broke: aborts with a sentence. */
#define W_REQUIRE(condition, ...) ((condition) ? (void)0 : w_base_misuse(__func__, __VA_ARGS__))

#define W_LIKELY(condition)   __builtin_expect(!!(condition), 1)
#define W_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#define W_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A full fence: one of two threads that each store, pass it, and then load what the other has stored sees the other's store. */
static inline void w_base_fence(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

/* The cache line of this address will be written to soon. (The compiler's own word for it asks for the line to read, unless it is told of a newer processor; where this
 * one is not known it does nothing.) */
static inline void w_base_prefetch_to_write(const uint8_t *address)
{
#ifdef __x86_64__
    __asm__ volatile("prefetchw %0" : : "m"(*address));
#else
    __builtin_prefetch(address, 1);
#endif
}

/* The struct that a member sits in. */
#define W_CONTAINER(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

_Noreturn void w_base_assert_failed(const char *condition, const char *file, int line);
_Noreturn void w_base_misuse(const char *function, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline uint32_t w_base_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint64_t w_base_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* a + b, or UINT64_MAX: deadlines with WEIR_FOREVER in them. */
static inline uint64_t w_base_add_saturated(uint64_t a, uint64_t b)
{
    return a + b < a ? UINT64_MAX : a + b;
}

static inline uint64_t w_base_or_default(uint64_t value, uint64_t otherwise)
{
    return value != 0 ? value : otherwise;
}

/* Fills `error` (may be NULL) and answers `code`, so that failing is one line. */
int w_base_fail(weir_error *error, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* What somebody else has written, fit for a sentence: printable, at most 79 bytes. */
struct w_base_quoted {
    char text[80];
};
struct w_base_quoted w_base_quote(const char *start, size_t bytes);

#endif
