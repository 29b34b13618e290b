/* SPDX-License-Identifier: MIT */
/* wheel: a shard's timers.
 *
 * Road:    set → into the bucket of its due tick, in the level of its distance → advance: buckets that have come due are joined, in the order
 *          of time, to the ring `due` → turn: callbacks off that ring.
 * Ditches: set in the past → the ring `late`, which joins `due` when the next turn begins; cleared or moved while it waits in `due` or `late` → taken
 *          out there like anywhere; more than `max` due → the rest stay in `due`; the clock jumps → as many steps as buckets are filled, whatever the distance.
 *
 * Rings have no head of their own: what points to one (a bucket, due, late) points to its first entry. So a bucket is eight bytes, and joining two
 * rings touches four entries. An entry that is the first of its ring is told by looking at what may point to it. */
#include "runtime/wheel.h"

#include <string.h>

#define WHEEL_WORDS (W_WHEEL_BUCKETS / 64)

_Static_assert(W_WHEEL_LEVELS *W_WHEEL_BUCKETS <= UINT16_MAX, "an entry's bucket has 16 bits");
_Static_assert(W_WHEEL_LEVELS <= 32, "wheel.levels has 32 bits");
_Static_assert(W_WHEEL_REACH_TICKS >= UINT64_C(400) * 24 * 3600 * WEIR_SECOND / W_WHEEL_TICK_NS, "weir_timer_set promises 400 days");
_Static_assert(W_WHEEL_TICK_NS <= WEIR_MILLISECOND, "weir_timer_set promises a millisecond");

static inline uint64_t wheel_ticks_down(const struct w_wheel *wheel, uint64_t time_ns)
{
    return (time_ns - wheel->start_ns) / W_WHEEL_TICK_NS;
}

/* time_ns > start_ns */
static inline uint64_t wheel_ticks_up(const struct w_wheel *wheel, uint64_t time_ns)
{
    return (time_ns - wheel->start_ns - 1) / W_WHEEL_TICK_NS + 1;
}

/* log2 of the grain for a distance; see wheel.h. */
static inline uint32_t wheel_level(uint64_t distance_ticks)
{
    return 57 - (uint32_t)__builtin_clzll(distance_ticks | 64);
}

/* Joins a ring to the end of another. */
static inline void wheel_join(struct w_wheel_entry **first, struct w_wheel_entry *ring)
{
    if (*first == NULL) {
        *first = ring;
        return;
    }
    struct w_wheel_entry *last = (*first)->previous, *ring_last = ring->previous;
    last->next = ring;
    ring->previous = last;
    ring_last->next = *first;
    (*first)->previous = ring_last;
}

static void wheel_bucket_emptied(struct w_wheel *wheel, uint32_t bucket, uint64_t due_tick)
{
    uint32_t level = bucket / W_WHEEL_BUCKETS;
    uint64_t *filled = wheel->filled[level];
    filled[bucket % W_WHEEL_BUCKETS / 64] &= ~(UINT64_C(1) << bucket % 64);
    if ((filled[0] | filled[1] | filled[2] | filled[3]) == 0)
        wheel->levels &= ~(UINT32_C(1) << level);
    if (due_tick == wheel->next_tick)
        wheel->next_is_exact = false;
}
_Static_assert(WHEEL_WORDS == 4, "wheel_bucket_emptied looks at four words");

static void wheel_remove(struct w_wheel *wheel, struct w_wheel_entry *entry)
{
    struct w_wheel_entry *next = entry->next != entry ? entry->next : NULL;
    entry->next->previous = entry->previous;
    entry->previous->next = entry->next;
    entry->next = NULL;
    wheel->count--;
    if (wheel->buckets[entry->bucket] == entry) {
        wheel->buckets[entry->bucket] = next;
        if (next == NULL)
            wheel_bucket_emptied(wheel, entry->bucket, entry->due_tick);
    } else if (wheel->due == entry) {
        wheel->due = next;
    } else if (wheel->late == entry) {
        wheel->late = next;
    }
}

/* How many buckets after `from`, going round, the first filled one is; one is. */
static uint32_t wheel_gap(const uint64_t *filled, uint32_t from)
{
    uint64_t word = filled[from / 64] >> from % 64;
    if (word != 0)
        return (uint32_t)__builtin_ctzll(word);
    uint32_t gap = 64 - from % 64;
    for (uint32_t i = 1; i <= WHEEL_WORDS; i++, gap += 64) {
        word = filled[(from / 64 + i) % WHEEL_WORDS];
        if (word != 0)
            return gap + (uint32_t)__builtin_ctzll(word);
    }
    W_ASSERT(!"a level that is marked as filled is empty");
    return 0;
}

/* The tick and the number of the bucket that is due first; UINT64_MAX: none is filled. */
static uint64_t wheel_first(const struct w_wheel *wheel, uint32_t *bucket)
{
    uint64_t first_tick = UINT64_MAX;
    for (uint32_t levels = wheel->levels; levels != 0; levels &= levels - 1) {
        uint32_t level = (uint32_t)__builtin_ctz(levels);
        uint64_t grain = (wheel->tick >> level) + 1;
        grain += wheel_gap(wheel->filled[level], (uint32_t)(grain % W_WHEEL_BUCKETS));
        if (grain << level >= first_tick)
            continue;
        first_tick = grain << level;
        *bucket = level * W_WHEEL_BUCKETS + (uint32_t)(grain % W_WHEEL_BUCKETS);
    }
    return first_tick;
}

void w_wheel_init(struct w_wheel *wheel, uint64_t now_ns, void *context)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->start_ns = wheel->now_ns = now_ns;
    wheel->next_tick = UINT64_MAX;
    wheel->next_is_exact = true;
    wheel->context = context;
}

static void wheel_put(struct w_wheel *wheel, struct w_wheel_entry *entry, uint64_t distance_ticks)
{
    uint32_t level = wheel_level(distance_ticks);
    uint64_t grain = (wheel->tick + distance_ticks + (UINT64_C(1) << level) - 1) >> level;
    uint32_t place = (uint32_t)(grain % W_WHEEL_BUCKETS);
    uint32_t bucket = level * W_WHEEL_BUCKETS + place;
    entry->due_tick = grain << level;
    entry->bucket = (uint16_t)bucket;
    wheel_join(&wheel->buckets[bucket], entry);
    wheel->filled[level][place / 64] |= UINT64_C(1) << place % 64;
    wheel->levels |= UINT32_C(1) << level;
    if (entry->due_tick <= wheel->next_tick) {
        wheel->next_tick = entry->due_tick;
        wheel->next_is_exact = true;
    }
}

void w_wheel_set(struct w_wheel *wheel, struct w_wheel_entry *entry, uint16_t kind, uint64_t due_ns)
{
    W_ASSERT(kind < W_WHEEL_KINDS && wheel->callbacks[kind] != NULL);
    if (w_wheel_is_set(entry))
        wheel_remove(wheel, entry);
    entry->next = entry->previous = entry;
    entry->kind = kind;
    wheel->count++;
    if (due_ns > wheel->now_ns) {
        wheel_put(wheel, entry, w_base_min_u64(wheel_ticks_up(wheel, due_ns) - wheel->tick, W_WHEEL_REACH_TICKS));
        return;
    }
    entry->due_tick = wheel->tick;
    wheel_join(&wheel->late, entry);
}

void w_wheel_clear(struct w_wheel *wheel, struct w_wheel_entry *entry)
{
    if (w_wheel_is_set(entry))
        wheel_remove(wheel, entry);
}

/* Buckets are found from the old tick on, so it moves last. */
static __attribute__((noinline)) void wheel_collect(struct w_wheel *wheel, uint64_t tick)
{
    uint32_t bucket = 0;
    while ((wheel->next_tick = wheel_first(wheel, &bucket)) <= tick) {
        struct w_wheel_entry *ring = wheel->buckets[bucket];
        W_ASSERT(ring != NULL && ring->due_tick == wheel->next_tick);
        wheel->buckets[bucket] = NULL;
        wheel_bucket_emptied(wheel, bucket, ring->due_tick);
        wheel_join(&wheel->due, ring);
    }
    wheel->next_is_exact = true;
    wheel->tick = tick;
}

void w_wheel_advance(struct w_wheel *wheel, uint64_t now_ns)
{
    if (now_ns <= wheel->now_ns)
        return;
    wheel->now_ns = now_ns;
    uint64_t tick = wheel_ticks_down(wheel, now_ns);
    if (W_LIKELY(tick < wheel->next_tick))
        wheel->tick = tick;
    else
        wheel_collect(wheel, tick);
}

uint32_t w_wheel_turn(struct w_wheel *wheel, uint64_t now_ns, uint32_t max)
{
    w_wheel_advance(wheel, now_ns);
    if (wheel->late != NULL) {
        wheel_join(&wheel->due, wheel->late);
        wheel->late = NULL;
    }
    uint32_t count = 0;
    for (; count < max && wheel->due != NULL; count++) {
        struct w_wheel_entry *entry = wheel->due;
        uint16_t kind = entry->kind;
        wheel_remove(wheel, entry);
        wheel->callbacks[kind](entry, wheel->context, wheel->now_ns);
    }
    return count;
}

uint64_t w_wheel_next_ns(struct w_wheel *wheel)
{
    if (wheel->due != NULL || wheel->late != NULL)
        return wheel->now_ns;
    if (!wheel->next_is_exact) {
        uint32_t bucket = 0;
        wheel->next_tick = wheel_first(wheel, &bucket);
        wheel->next_is_exact = true;
    }
    return wheel->next_tick != UINT64_MAX ? wheel->start_ns + wheel->next_tick * W_WHEEL_TICK_NS : W_WHEEL_NEVER;
}
