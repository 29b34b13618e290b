/* SPDX-License-Identifier: MIT */
/* pool: a shard's memory, counted and bounded.
 *
 * Road:    take → the hottest kept piece of its size → give → kept again.
 * Ditches: none kept → a new one from the allocator; that would pass the budget → kept pieces of other sizes go home, the biggest first, until
 *          it fits; taken bytes alone leave no room for it → NULL and nothing is sent home; the allocator has nothing → NULL.
 *
 * A kept piece is poisoned whole under AddressSanitizer: a use after give, and a second give, are found like those of free(). */
#include "runtime/pool.h"

#include <stdlib.h>
#include <string.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_POISONS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define POOL_POISONS 1
#endif

#define POOL_ALIGNMENT     64u
#define POOL_LARGEST_BYTES ((size_t)W_POOL_SMALLEST_BYTES << (W_POOL_CLASSES - 1))

_Static_assert(POOL_LARGEST_BYTES == (size_t)1 << 30, "the classes reach from 64 B to 1 GiB");
_Static_assert(W_POOL_SMALLEST_BYTES >= POOL_ALIGNMENT, "aligned_alloc() wants sizes that are multiples of the alignment");

struct w_pool_piece {
    struct w_pool_piece *next;
};

#ifdef POOL_POISONS
void __asan_poison_memory_region(void const volatile *memory, size_t bytes);
void __asan_unpoison_memory_region(void const volatile *memory, size_t bytes);
#define POOL_POISON(memory, bytes)   __asan_poison_memory_region(memory, bytes)
#define POOL_UNPOISON(memory, bytes) __asan_unpoison_memory_region(memory, bytes)
#else
#define POOL_POISON(memory, bytes)   ((void)0)
#define POOL_UNPOISON(memory, bytes) ((void)0)
#endif

/* The counters have one writer, so a load and a store do: no locked instruction. */
static inline uint64_t pool_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void pool_write(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline uint32_t pool_class(size_t bytes)
{
    uint32_t class = 58 - (uint32_t)__builtin_clzll((bytes - (bytes != 0)) | (W_POOL_SMALLEST_BYTES - 1));
    W_ASSERT(class < W_POOL_CLASSES);
    return class;
}

static inline size_t pool_class_bytes(uint32_t class)
{
    return (size_t)W_POOL_SMALLEST_BYTES << class;
}

static inline void pool_count_taken(struct w_pool *pool, size_t bytes)
{
    uint64_t taken_bytes = pool_read(&pool->taken_bytes) + bytes;
    pool_write(&pool->taken_bytes, taken_bytes);
    if (taken_bytes > pool_read(&pool->peak_bytes))
        pool_write(&pool->peak_bytes, taken_bytes);
}

static inline struct w_pool_piece *pool_pop(struct w_pool *pool, uint32_t class)
{
    struct w_pool_piece *piece = pool->kept[class];
    POOL_UNPOISON(piece, pool_class_bytes(class));
    pool->kept[class] = piece->next;
    pool->kept_bytes -= pool_class_bytes(class);
    return piece;
}

static bool pool_has_callbacks(const struct w_pool *pool)
{
    return pool->allocator != NULL && pool->allocator->allocate != NULL;
}

static void *pool_allocate(struct w_pool *pool, size_t bytes)
{
    pool_write(&pool->allocations, pool_read(&pool->allocations) + 1);
    if (pool_has_callbacks(pool))
        return pool->allocator->allocate(pool->allocator->user, bytes, POOL_ALIGNMENT);
    return aligned_alloc(POOL_ALIGNMENT, bytes);
}

static void pool_release(const struct w_pool *pool, void *memory, size_t bytes)
{
    if (pool_has_callbacks(pool))
        pool->allocator->release(pool->allocator->user, memory, bytes);
    else
        free(memory);
}

/* The biggest first: the fewest pieces go. */
static void pool_shrink(struct w_pool *pool, uint64_t kept_bytes_max)
{
    for (uint32_t above = W_POOL_CLASSES; above > 0; above--) {
        uint32_t class = above - 1;
        while (pool->kept_bytes > kept_bytes_max && pool->kept[class] != NULL)
            pool_release(pool, pool_pop(pool, class), pool_class_bytes(class));
    }
}

static __attribute__((noinline)) void *pool_take_new(struct w_pool *pool, uint32_t class)
{
    size_t bytes = pool_class_bytes(class);
    uint64_t free_bytes = pool->budget_bytes - pool_read(&pool->taken_bytes);
    if (bytes > free_bytes)
        return NULL;
    pool_shrink(pool, free_bytes - bytes);
    void *piece = pool_allocate(pool, bytes);
    if (piece != NULL)
        pool_count_taken(pool, bytes);
    return piece;
}

void w_pool_init(struct w_pool *pool, const weir_allocator *allocator, uint64_t budget_bytes)
{
    memset(pool, 0, sizeof *pool);
    pool->allocator = allocator;
    pool->budget_bytes = budget_bytes;
}

void w_pool_finish(struct w_pool *pool)
{
    W_ASSERT(pool_read(&pool->taken_bytes) == 0);
    W_ASSERT(pool_read(&pool->fixed_bytes) == 0);
    w_pool_trim(pool);
    W_ASSERT(pool->kept_bytes == 0);
}

size_t w_pool_round(size_t bytes)
{
    return pool_class_bytes(pool_class(bytes));
}

void *w_pool_take(struct w_pool *pool, size_t bytes)
{
    uint32_t class = pool_class(bytes);
    if (W_UNLIKELY(pool->kept[class] == NULL))
        return pool_take_new(pool, class);
    struct w_pool_piece *piece = pool_pop(pool, class);
    pool_count_taken(pool, pool_class_bytes(class));
    return piece;
}

void w_pool_give(struct w_pool *pool, void *piece, size_t bytes)
{
    uint32_t class = pool_class(bytes);
    uint64_t taken_bytes = pool_read(&pool->taken_bytes);
    W_ASSERT(taken_bytes >= pool_class_bytes(class));
    pool_write(&pool->taken_bytes, taken_bytes - pool_class_bytes(class));
    pool->kept_bytes += pool_class_bytes(class);
    struct w_pool_piece *kept = piece;
    kept->next = pool->kept[class];
    pool->kept[class] = kept;
    POOL_POISON(kept, pool_class_bytes(class));
}

void w_pool_give_late(const struct w_pool *pool, void *piece, size_t bytes)
{
    pool_release(pool, piece, pool_class_bytes(pool_class(bytes)));
}

void w_pool_trim(struct w_pool *pool)
{
    pool_shrink(pool, 0);
}

/* calloc() and not aligned_alloc() with memset(): big tables then cost no memory before they are touched. The place of the
 * whole stands just before the aligned part (malloc aligns to 16, so there is room). */
static void *pool_calloc_aligned(size_t bytes)
{
    char *whole = calloc(1, bytes + POOL_ALIGNMENT);
    if (whole == NULL)
        return NULL;
    char *aligned = whole + POOL_ALIGNMENT - (uintptr_t)whole % POOL_ALIGNMENT;
    memcpy(aligned - sizeof whole, &whole, sizeof whole);
    return aligned;
}

static void pool_free_aligned(char *aligned)
{
    char *whole;
    memcpy(&whole, aligned - sizeof whole, sizeof whole);
    free(whole);
}

void *w_pool_allocate_fixed(struct w_pool *pool, size_t bytes)
{
    void *memory = NULL;
    if (bytes > SIZE_MAX - POOL_ALIGNMENT)
        return NULL;
    if (pool_has_callbacks(pool)) {
        memory = pool_allocate(pool, bytes);
        if (memory != NULL)
            memset(memory, 0, bytes);
    } else {
        pool_write(&pool->allocations, pool_read(&pool->allocations) + 1);
        memory = pool_calloc_aligned(bytes);
    }
    if (memory != NULL)
        pool_write(&pool->fixed_bytes, pool_read(&pool->fixed_bytes) + bytes);
    return memory;
}

void w_pool_release_fixed(struct w_pool *pool, void *memory, size_t bytes)
{
    if (memory == NULL)
        return;
    W_ASSERT(pool_read(&pool->fixed_bytes) >= bytes);
    pool_write(&pool->fixed_bytes, pool_read(&pool->fixed_bytes) - bytes);
    if (pool_has_callbacks(pool))
        pool_release(pool, memory, bytes);
    else
        pool_free_aligned(memory);
}
