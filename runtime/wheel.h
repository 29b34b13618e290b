/* SPDX-License-Identifier: MIT */
/* wheel: a shard's timers: a hierarchical timing wheel (Varghese and Lauck 1987, scheme 7; coarse like the one that Linux has had since 4.8:
 * an entry is put once into the level whose grain suits its distance and is never cascaded). One thread; time is an argument; no allocation.
 *
 * Never early; late by at most a 64th of the distance plus a millisecond. An entry is 32 bytes inside its owner. */
#ifndef W_WHEEL_H
#define W_WHEEL_H

#include "runtime/base.h"

struct w_wheel_entry;
typedef void (*w_wheel_callback)(struct w_wheel_entry *entry, void *context, uint64_t now_ns);

/* Set exactly when `link` is not NULL. A zeroed entry is one that is not set. */
struct w_wheel_entry {
    struct w_wheel_entry *next;
    struct w_wheel_entry **link; /* what points to this entry */
    uint32_t due_tick; /* in ticks since the wheel's start: when it goes off */
    uint16_t bucket;
    uint16_t kind;     /* the owner's: which of the wheel's callbacks */
    uint64_t spare;    /* the owner's */
};

#define W_WHEEL_KINDS 8

#define W_WHEEL_LEVELS 6
#define W_WHEEL_BUCKETS 64
#define W_WHEEL_TICK_NS UINT64_C(1000000)

/* Invariant: bit b of filled[l] is set exactly when bucket l*64+b holds an entry; no entry is due at or before `tick`. */
struct w_wheel {
    uint64_t start_ns; /* tick 0 */
    uint64_t tick;     /* all up to and including this tick have gone off */
    uint64_t count;    /* entries that are set */
    uint64_t filled[W_WHEEL_LEVELS];
    struct w_wheel_entry *buckets[W_WHEEL_LEVELS * W_WHEEL_BUCKETS];
    w_wheel_callback callbacks[W_WHEEL_KINDS];
    void *context; /* handed to every callback */
};

void w_wheel_init(struct w_wheel *wheel, uint64_t now_ns, void *context);
/* Sets or moves: goes off at the first w_wheel_turn whose now_ns >= due_ns (and within the promised lateness). due_ns further than the wheel reaches (over 400
 * days) is cut to what it reaches; due in the past goes off at the next turn. `kind` must have a callback. */
void w_wheel_set(struct w_wheel *wheel, struct w_wheel_entry *entry, uint16_t kind, uint64_t due_ns);
void w_wheel_clear(struct w_wheel *wheel, struct w_wheel_entry *entry);
static inline bool w_wheel_is_set(const struct w_wheel_entry *entry)
{
    return entry->link != NULL;
}
/* Runs the callbacks of what is due, at most `max`; answers how many. An entry is cleared before its callback, which may set and clear any entries, itself
 * included; one set from a callback with a due time in the past waits for the next turn. If it answers `max`, call again next turn: next_ns says now. */
uint32_t w_wheel_turn(struct w_wheel *wheel, uint64_t now_ns, uint32_t max);
/* When the next turn is needed: a time at or after which something may be due (never after it is late), or W_WHEEL_NEVER. */
#define W_WHEEL_NEVER UINT64_MAX
uint64_t w_wheel_next_ns(const struct w_wheel *wheel);

#endif
