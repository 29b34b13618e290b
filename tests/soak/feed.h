/* SPDX-License-Identifier: MIT */
/* feed: a thread that weir did not start sends numbered messages to each connection that asked for them: to every other one through an own channel,
 * to the rest through its port. It checks that each sender's sums close. */
#ifndef SOAK_FEED_H
#define SOAK_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include <weir/weir.h>

/* Between two messages to one connection. */
#define FEED_PERIOD_NS (20 * WEIR_MILLISECOND)

/* False: no thread, port or descriptors. */
bool feed_start(weir_runtime *runtime);
/* After weir_run() and before weir_close(): waits for what has to come back, looks at the sums, ends the thread. */
void feed_stop(void);

/* Feed this connection from now on; any thread, never waits. False: too many have asked at once. */
bool feed_ask(weir_id id, uint64_t stream);

struct feed_counts {
    uint64_t feeds, channels;        /* now */
    uint64_t sent, refused, ignored; /* messages; answers -EAGAIN; connections there was no place for */
    uint64_t undelivered;            /* came back, or told at a channel's end */
};
struct feed_counts feed_counts(void);

#endif
