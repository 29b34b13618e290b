/* SPDX-License-Identifier: MIT */
/* wheel: a shard's timers: a hierarchical timing wheel (Varghese and Lauck 1987, scheme 7; coarse like the one that Linux has had since 4.8:
 * an entry is put once into the level whose grain suits its distance and is never cascaded). One thread; time is an argument; no allocation.
 *
 * Never early; late by at most a 64th of the distance plus one tick (half a millisecond). The distance counts from the time the wheel
 * was told last. Of two entries the one that is due earlier goes first, as far as their grains tell them apart; within a grain
 * the one that was set first. An entry is 32 bytes inside its owner.
 *
 * The grains: level l has a grain of 2^l ticks and takes distances of 64 to 128 grains (level 0: up to 128). A due time is rounded up to
 * the grain, so by less than a 64th of the distance. 128 grains from somewhere inside a grain touch 129 buckets: one more than
 * 128, hence 256, of which about half are in use. 30 levels reach 2^36 - 1 ticks, 417 days. */
#ifndef W_WHEEL_H
#define W_WHEEL_H

#include "runtime/base.h"

struct w_wheel_entry;
typedef void (*w_wheel_callback)(struct w_wheel_entry *entry, void *context, uint64_t now_ns);

/* Set exactly when `next` is not NULL. A zeroed entry is one that is not set. */
struct w_wheel_entry {
    struct w_wheel_entry *next; /* a ring with all that are in the same bucket, or due, or late */
    struct w_wheel_entry *previous;
    uint64_t due_tick; /* since the wheel's start, rounded up to its grain: when it goes off */
    uint16_t bucket;   /* where it was put; still there exactly when due_tick > the wheel's tick */
    uint16_t kind;     /* the owner's: which of the wheel's callbacks */
};
_Static_assert(sizeof(struct w_wheel_entry) == 32, "weir_timer holds an entry in four words");

#define W_WHEEL_KINDS 8

#define W_WHEEL_LEVELS  30
#define W_WHEEL_BUCKETS 256u
#define W_WHEEL_TICK_NS (UINT64_C(1) << 19)
/* Further away than this is cut to it: 417 days. */
#define W_WHEEL_REACH_TICKS ((UINT64_C(1) << (W_WHEEL_LEVELS + 6)) - 1)

/* Invariant: bucket b of level l is not NULL exactly when bit b of filled[l] is set; bit l of `levels` is set exactly when a bit of
 * filled[l] is; whatever is in a bucket is due after `tick` and not before next_tick. */
struct w_wheel {
    uint64_t now_ns;    /* the latest time that the wheel was told */
    uint64_t tick;      /* the same in ticks: what was due up to and including it is in no bucket any more */
    uint64_t next_tick; /* no bucket is due before this tick */
    bool next_is_exact; /* true exactly when a bucket is due at next_tick, or none is filled and it is UINT64_MAX */
    uint32_t levels;
    uint64_t count;                            /* entries that are set */
    uint64_t start_ns;                         /* tick 0 */
    struct w_wheel_entry *due;                 /* the first of those that go off in this turn, or when more may; NULL: none */
    struct w_wheel_entry *late;                /* the first of those that were set in the past and go off in the next turn; NULL: none */
    void *context;                             /* handed to every callback */
    w_wheel_callback callbacks[W_WHEEL_KINDS]; /* filled in by the owner after init */
    uint64_t filled[W_WHEEL_LEVELS][W_WHEEL_BUCKETS / 64];
    struct w_wheel_entry *buckets[W_WHEEL_LEVELS * W_WHEEL_BUCKETS];
};

void w_wheel_init(struct w_wheel *wheel, uint64_t now_ns, void *context);
/* Sets or moves: goes off at the first w_wheel_turn whose now_ns >= due_ns (and within the promised lateness). due_ns further than the wheel reaches
 * is cut to what it reaches; due in the past goes off at the next turn. `kind` must have a callback. */
void w_wheel_set(struct w_wheel *wheel, struct w_wheel_entry *entry, uint16_t kind, uint64_t due_ns);
/* An entry that is not set is left alone. */
void w_wheel_clear(struct w_wheel *wheel, struct w_wheel_entry *entry);
static inline bool w_wheel_is_set(const struct w_wheel_entry *entry)
{
    return entry->next != NULL;
}
/* Tells the wheel the time and runs no callback. To be called once the time is read, before the first w_wheel_set of a turn: after a long sleep a
 * distance would else count from before the sleep, and its entry would get a grain to match. An earlier time than the last is ignored. */
void w_wheel_advance(struct w_wheel *wheel, uint64_t now_ns);
/* Advances, then runs the callbacks of what is due, at most `max`; answers how many. An entry is cleared before its callback, which may set and clear any
 * entries, itself included, and may free its own; one set from a callback with a due time in the past waits for the next turn. If it answers `max`,
 * call again next turn: next_ns says now. */
uint32_t w_wheel_turn(struct w_wheel *wheel, uint64_t now_ns, uint32_t max);
/* When the next turn is needed: the time at which the next one goes off; not after the last time told when some wait already;
 * W_WHEEL_NEVER when none is set. */
#define W_WHEEL_NEVER UINT64_MAX
uint64_t w_wheel_next_ns(struct w_wheel *wheel);

#endif
