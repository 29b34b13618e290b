/* SPDX-License-Identifier: MIT */
/* play: plays threads against each other step by step, in an order that a seed decides. Include it before anything of the runtime, and the code under test
 * behind it, its .c files too.
 *
 * The players are coroutines on one thread. Each atomic operation of <stdatomic.h> in code behind this header is a step, and so is each PLAY_STEP of the
 * test: before it another player may go on. Between two steps nobody comes in between. So each play is one interleaving, sequentially consistent, and the same
 * one whenever its seed is played again.
 * What a store buffer adds is not played here: tests/model has that. Under ThreadSanitizer the players count as threads of their own that nothing but
 * the atomics orders, so a memory order that is too weak is found there, in every interleaving played.
 *
 * By its seed a play is one of three kinds: another player at nearly each step; at every few; or only one to four times in all (the
 * preemption-bounded kind: most mistakes need no more than two, in the right places).
 *
 * A player that waits sleeps on a word, as by a futex. When nobody can go on and not all have finished, a wake-up was lost: that fails the play.
 *
 * WEIR_RACE_SEEDS=n plays n seeds of each program; WEIR_RACE_SEED=n plays that one alone and shows its steps. A play that fails says how to
 * see it again. */
#ifndef TEST_PLAY_H
#define TEST_PLAY_H

#ifdef W_BASE_H
#error "play.h comes first: it makes steps of atomic operations"
#endif

#include <check.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__)
#define PLAY_ADDRESS_SANITIZER 1
#elif defined(__SANITIZE_THREAD__)
#define PLAY_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PLAY_ADDRESS_SANITIZER 1
#elif __has_feature(thread_sanitizer)
#define PLAY_THREAD_SANITIZER 1
#endif
#endif

#define PLAY_PLAYERS_MAX 6

#define PLAY_STEP() play_step(__func__, __LINE__)

/* All that the runtime uses of <stdatomic.h>; what it has no name for here is no step. */
#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_exchange_explicit
#undef atomic_fetch_add
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_and
#undef atomic_fetch_or
#undef atomic_compare_exchange_strong_explicit
#ifdef __clang__
#define PLAY_ATOMIC(operation)   __c11_atomic_##operation
#define PLAY_ATOMIC_N(operation) __c11_atomic_##operation
#define PLAY_ATOMIC_COMPARE(object, expected, desired, success, failure)                                                                   \
    __c11_atomic_compare_exchange_strong(object, expected, desired, success, failure)
#else
#define PLAY_ATOMIC(operation)   __atomic_##operation
#define PLAY_ATOMIC_N(operation) __atomic_##operation##_n
#define PLAY_ATOMIC_COMPARE(object, expected, desired, success, failure)                                                                   \
    __atomic_compare_exchange_n(object, expected, desired, false, success, failure)
#endif
#define atomic_load_explicit(object, order)             (PLAY_STEP(), PLAY_ATOMIC_N(load)(object, order))
#define atomic_store_explicit(object, value, order)     (PLAY_STEP(), PLAY_ATOMIC_N(store)(object, value, order))
#define atomic_exchange_explicit(object, value, order)  (PLAY_STEP(), PLAY_ATOMIC_N(exchange)(object, value, order))
#define atomic_fetch_add_explicit(object, value, order) (PLAY_STEP(), PLAY_ATOMIC(fetch_add)(object, value, order))
#define atomic_fetch_sub_explicit(object, value, order) (PLAY_STEP(), PLAY_ATOMIC(fetch_sub)(object, value, order))
#define atomic_compare_exchange_strong_explicit(object, expected, desired, success, failure)                                               \
    (PLAY_STEP(), PLAY_ATOMIC_COMPARE(object, expected, desired, success, failure))
#define atomic_load(object)             atomic_load_explicit(object, memory_order_seq_cst)
#define atomic_store(object, value)     atomic_store_explicit(object, value, memory_order_seq_cst)
#define atomic_exchange(object, value)  atomic_exchange_explicit(object, value, memory_order_seq_cst)
#define atomic_fetch_add(object, value) atomic_fetch_add_explicit(object, value, memory_order_seq_cst)
#define atomic_fetch_and(object, value) (PLAY_STEP(), PLAY_ATOMIC(fetch_and)(object, value, memory_order_seq_cst))
#define atomic_fetch_or(object, value)  (PLAY_STEP(), PLAY_ATOMIC(fetch_or)(object, value, memory_order_seq_cst))

struct play_player {
    const char *name;
    void (*run)(void);
};

struct play_program {
    const char *name;
    void (*begin)(uint64_t seed); /* sets the stage, before the players; checks nothing */
    void (*end)(void);            /* when all have finished, on the stack of the last: what must be true then; may be NULL */
    struct play_player players[PLAY_PLAYERS_MAX]; /* up to the first without a name */
    uint32_t cost;                                /* so much dearer than the others is a play: it has so many fewer seeds; 0: not dearer */
};

/* All seeds, or the one asked for; fails the Check test with the first that fails. True: all were played, so that what the test has counted
 * over all of them means something. */
bool play_seeds(const struct play_program *program);

/* The same when the program makes that mistake: fails the Check test when no seed finds it. Under ThreadSanitizer the players are in order here: the
 * program's own checks have to find it. */
void play_mistake(const struct play_program *program, const char *mistake);

/* What a race test is: its programs played as they are, each mistake by its number (_i), and, where there is one, each order that is too weak: the thread sanitizer
 * ends the process for it, so only that runs it. */
struct play_suite {
    const char *name;
    const TTest *test, *mistake, *weak; /* weak: NULL without ThreadSanitizer */
    int mistakes_first, mistakes_end, weak_first, weak_end;
    int seconds; /* that each may take */
};

/* Runs it; what main() answers. */
int play_main(const struct play_suite *races);

/* --- for players --- */

/* Another player may go on here. Outside a play: nothing. */
void play_step(const char *function, int line);

/* Somebody else goes on, if anybody can: for a player that tries again and again. */
void play_yield(void);

/* Sleeps until the word (of 1, 4 or 8 bytes, written atomically) is not `value`: at once, if it is not already. */
#define PLAY_SLEEP_WHILE(word, value) play_sleep_while((const volatile void *)(word), sizeof *(word), (value), __func__, __LINE__)
void play_sleep_while(const volatile void *word, size_t bytes, uint64_t value, const char *function, int line);

/* A line for whoever reads the steps of a play. */
void play_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the play: it has failed. */
_Noreturn void play_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define PLAY_MUST(condition) ((condition) ? (void)0 : play_fail("%s:%d: %s does not hold", __func__, __LINE__, #condition))

/* Both as unsigned numbers, shown when they differ. */
#define PLAY_MUST_EQUAL(a, b)                                                                                                              \
    do {                                                                                                                                   \
        unsigned long long play_a = (a), play_b = (b);                                                                                     \
        if (play_a != play_b)                                                                                                              \
            play_fail("%s:%d: %s is %llu, %s is %llu", __func__, __LINE__, #a, play_a, #b, play_b);                                        \
    } while (0)

#endif
