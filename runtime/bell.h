/* SPDX-License-Identifier: MIT */
/* bell: how any number of threads tell one reader that there is something for it, which of them did, and whether it has to be woken.
 *
 * Each ringer has a number; ringing sets the number's bit in three levels of words, so that the reader finds those that rang without
 * looking at those that did not:
 *
 *   top     1 word    which of the middles have something       the first word of each level, `top` and `asleep` lie in one
 *   middle  64        which of the words                        cache line: a hop between two shards touches one line of the bell's
 *   words   4,096     which of the numbers: 262,144 at most
 *
 * Writer: publish -> ring:  fence -> bit there already: done -> set word, middle, top -> asleep? wake.
 * Reader: hear:  take top, middle, word -> fence -> look at what each number stands for.    Before it sleeps: set asleep -> fence -> top is 0? sleep.
 *
 * Why nothing is lost. Two pairs of store-then-load, each with a full fence on both sides, so that at least one sees the other (Dekker):
 *   1. the writer stores its data and then looks at its bit; the reader clears the bit and then looks at the data. A writer that finds its bit set may
 *      go: the reader will clear it after that, and then see the data.
 *   2. the writer sets top and then looks at asleep; the reader sets asleep and then looks at top.
 * The levels: a writer sets them from below and the reader takes them from above, so a bit below is never left without its bit above: a writer that finds the
 * upper bit set already was there before the reader takes it, and the reader looks below after that.
 * tests/model/bell.pml checks all of it with store buffers; tests/race plays it. */
#ifndef W_BELL_H
#define W_BELL_H

#include <stdalign.h>

#include "runtime/base.h"

#define W_BELL_COUNT_MAX (64u * 64u * 64u)
#define W_BELL_NEAR      4u /* words that lie in the first line */

struct w_bell {
    alignas(64) _Atomic uint64_t top;
    _Atomic bool asleep; /* the reader sleeps, or is about to look at top for the last time before it does */
    _Atomic uint64_t near_middle;
    _Atomic uint64_t near_words[W_BELL_NEAR];
    /* Constant. */
    uint32_t count;
    _Atomic uint64_t *far_words;   /* of the numbers from W_BELL_NEAR * 64 on; NULL when there are none */
    _Atomic uint64_t *far_middles; /* from the second on */
    /* The reader's: where it is in what it has taken. In a line of its own: ringers read the one above. */
    alignas(64) uint64_t taken_top, taken_middle, taken_word;
    uint32_t middle, word;
};

/* Bytes of memory that a bell of so many numbers (at most W_BELL_COUNT_MAX) wants beside itself; may be 0. */
static inline size_t w_bell_bytes(uint32_t count)
{
    uint32_t words = (count + 63) / 64, middles = (words + 63) / 64;
    return (words > W_BELL_NEAR ? words - W_BELL_NEAR + (middles - 1) : 0) * sizeof(uint64_t);
}

/* memory: w_bell_bytes(count), zeroed. */
static inline void w_bell_init(struct w_bell *bell, uint32_t count, void *memory)
{
    uint32_t words = (count + 63) / 64;
    W_ASSERT(count <= W_BELL_COUNT_MAX);
    *bell = (struct w_bell){.count = count};
    if (words > W_BELL_NEAR) {
        bell->far_words = memory;
        bell->far_middles = bell->far_words + (words - W_BELL_NEAR);
    }
}

static inline _Atomic uint64_t *w_bell_word(struct w_bell *bell, uint32_t word)
{
    return word < W_BELL_NEAR ? &bell->near_words[word] : &bell->far_words[word - W_BELL_NEAR];
}

static inline _Atomic uint64_t *w_bell_middle(struct w_bell *bell, uint32_t middle)
{
    return middle == 0 ? &bell->near_middle : &bell->far_middles[middle - 1];
}

/* --- the ringers --- */

/* Sequentially consistent, all of these: they are the stores and loads of the two pairs above. */
static inline void w_bell_set(_Atomic uint64_t *word, uint64_t bit)
{
    if ((atomic_load(word) & bit) == 0) {
        atomic_fetch_or(word, bit);
    }
}

/* After something has been published for `number`: true when the reader has to be woken. For each number one thread, and the reader itself. */
static inline bool w_bell_ring(struct w_bell *bell, uint32_t number)
{
    _Atomic uint64_t *word = w_bell_word(bell, number / 64);
    uint64_t bit = UINT64_C(1) << (number % 64);
    w_base_fence(); /* pair 1: what was published, then the bit */
    if (atomic_load_explicit(word, memory_order_relaxed) & bit)
        return false;
    atomic_fetch_or(word, bit);
    w_bell_set(w_bell_middle(bell, number / 4096), UINT64_C(1) << (number / 64 % 64));
    w_bell_set(&bell->top, UINT64_C(1) << (number / 4096));
    return atomic_load(&bell->asleep); /* pair 2 */
}

/* --- the reader --- */

/* Is there something? Cheap: for spinning. Relaxed: hear() looks again. */
static inline bool w_bell_is_rung(const struct w_bell *bell)
{
    return atomic_load_explicit(&bell->top, memory_order_relaxed) != 0;
}

static inline uint64_t w_bell_take(_Atomic uint64_t *word)
{
    return atomic_exchange(word, 0);
}

/* The next number that rang, its bit taken: true; or false: none is left. What the number stands for is to be looked at after this. */
static inline bool w_bell_hear(struct w_bell *bell, uint32_t *number)
{
    while (bell->taken_word == 0) {
        if (bell->taken_middle == 0) {
            if (bell->taken_top == 0) {
                if (!w_bell_is_rung(bell) || (bell->taken_top = w_bell_take(&bell->top)) == 0)
                    return false;
            }
            bell->middle = (uint32_t)__builtin_ctzll(bell->taken_top);
            bell->taken_top &= bell->taken_top - 1;
            bell->taken_middle = w_bell_take(w_bell_middle(bell, bell->middle));
            continue;
        }
        bell->word = bell->middle * 64 + (uint32_t)__builtin_ctzll(bell->taken_middle);
        bell->taken_middle &= bell->taken_middle - 1;
        bell->taken_word = w_bell_take(w_bell_word(bell, bell->word));
        /* Pair 1: the bits are cleared, then the data is looked at. */
        w_base_fence();
    }
    *number = bell->word * 64 + (uint32_t)__builtin_ctzll(bell->taken_word);
    bell->taken_word &= bell->taken_word - 1;
    return true;
}

/* Something taken that hear() has not answered yet, or something rung. */
static inline bool w_bell_is_due(const struct w_bell *bell)
{
    return (bell->taken_top | bell->taken_middle | bell->taken_word) != 0 || w_bell_is_rung(bell);
}

/* The last step before sleeping: true, it may sleep, and whoever rings from now on wakes it; false: there is something. */
static inline bool w_bell_doze(struct w_bell *bell)
{
    atomic_store(&bell->asleep, true);
    /* Pair 2: asleep is set, then top is looked at. */
    w_base_fence();
    if (!w_bell_is_due(bell))
        return true;
    atomic_store_explicit(&bell->asleep, false, memory_order_relaxed);
    return false;
}

/* Awake again. Relaxed: a ringer that still sees it asleep wakes it once more, which does no harm. */
static inline void w_bell_rise(struct w_bell *bell)
{
    atomic_store_explicit(&bell->asleep, false, memory_order_relaxed);
}

#endif
