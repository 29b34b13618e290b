/* SPDX-License-Identifier: MIT */
/* weir/timer.h: something to do later, on a shard. */
#ifndef WEIR_TIMER_H
#define WEIR_TIMER_H

#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weir_timer weir_timer;

/* Runs on the shard's thread, inside a turn, once per weir_timer_set. It may set the same timer again, and may free it. */
typedef void (*weir_timer_callback)(weir_shard *shard, weir_timer *timer, void *user);

/* A timer is the caller's memory, zeroed before first use; weir allocates nothing for it. It must stay in place while it is
 * set. The fields are weir's. */
struct weir_timer {
    uint64_t opaque[4];
    weir_timer_callback callback;
    void *user;
};

/* On the shard's thread. Sets (or moves) the timer to go off once, `after_ns` from the start of this turn, never early, and late
 * by at most a 64th of after_ns plus a millisecond plus the length of a turn (coarse on purpose: setting and clearing together cost
 * some 120 instructions, however many timers there are). after_ns over 400 days counts as 400 days. callback must not be NULL. */
void weir_timer_set(weir_shard *shard, weir_timer *timer, uint64_t after_ns, weir_timer_callback callback, void *user);

/* On the shard's thread. After this the callback does not run. A timer that is not set is left alone. */
void weir_timer_clear(weir_shard *shard, weir_timer *timer);

/* True while it is set and has not gone off. On the shard's thread. */
bool weir_timer_is_set(const weir_timer *timer);

#ifdef __cplusplus
}
#endif

#endif
