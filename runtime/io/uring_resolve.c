/* SPDX-License-Identifier: MIT */
/* uring_resolve: name look-ups beside a ring: glibc looks up on threads of its own, a ring timer asks it now and then.
 *
 * Road:    resolve → glibc, and a timer of 2 ms → done? → answer → take. Not done → the timer again, twice as long, up to 50 ms.
 * Ditches: a number → answered at once; no memory → answered at once; cancelled → answered at once, and the timer goes on until
 *          glibc has let go of its memory; closed meanwhile → glibc is waited for a moment, then left with it. */
#include <errno.h>
#include <string.h>

#include "runtime/io/uring.h"

#define INTERVAL_FIRST_NS 2000000
#define INTERVAL_MAX_NS   50000000
#define FINISH_WAIT_NS    UINT64_C(1000000000)

static void answer(struct w_uring *uring, struct w_io_resolve *resolve, uint64_t token, int result)
{
    resolve->engine_token = token;
    resolve->engine_result = result;
    resolve->engine_next = NULL;
    *uring->answers_end = resolve;
    uring->answers_end = &resolve->engine_next;
}

static void set_timer(struct w_uring *uring, struct w_uring_lookup *lookup)
{
    struct io_uring_sqe *entry = w_ring_next(&uring->ring);
    io_uring_prep_timeout(entry, &lookup->interval, 0, 0);
    entry->user_data = W_URING_INTERNAL | (uint64_t)(uintptr_t)lookup;
    lookup->timed = true;
}

static void free_lookup(struct w_uring *uring, struct w_uring_lookup *lookup)
{
    struct w_uring_lookup **link = &uring->lookups;
    while (*link != lookup)
        link = &(*link)->next;
    *link = lookup->next;
    uring->allocator->release(uring->allocator->user, lookup, sizeof *lookup);
}

void w_uring_resolve(struct w_io *io, struct w_io_resolve *resolve, uint64_t token)
{
    struct w_uring *uring = w_uring_of(io);
    const weir_allocator *allocator = uring->allocator;
    struct w_resolve *work;
    W_ASSERT((token & W_URING_INTERNAL) == 0);

    int result = w_resolve_number(resolve);
    if (result > 0) {
        answer(uring, resolve, token, result);
        return;
    }
    struct w_uring_lookup *lookup = allocator->allocate(allocator->user, sizeof *lookup, alignof(struct w_uring_lookup));
    if (lookup == NULL) {
        answer(uring, resolve, token, -ENOMEM);
        return;
    }
    result = w_resolve_start(resolve, &work);
    if (result < 0) {
        allocator->release(allocator->user, lookup, sizeof *lookup);
        answer(uring, resolve, token, result);
        return;
    }
    *lookup = (struct w_uring_lookup){.next = uring->lookups, .work = work, .asked = resolve, .token = token};
    lookup->interval.tv_nsec = INTERVAL_FIRST_NS;
    uring->lookups = lookup;
    set_timer(uring, lookup);
}

void w_uring_resolve_look(struct w_uring *uring, struct w_uring_lookup *lookup)
{
    struct w_io_resolve *asked = lookup->asked;
    lookup->timed = false;
    if (!w_resolve_done(lookup->work)) {
        lookup->interval.tv_nsec = lookup->interval.tv_nsec * 2 < INTERVAL_MAX_NS ? lookup->interval.tv_nsec * 2 : INTERVAL_MAX_NS;
        set_timer(uring, lookup);
        return;
    }
    int result = w_resolve_finish(&lookup->work, asked);
    if (asked != NULL)
        answer(uring, asked, lookup->token, result);
    free_lookup(uring, lookup);
}

bool w_uring_resolve_cancel(struct w_uring *uring, uint64_t token)
{
    struct w_uring_lookup *lookup = uring->lookups;
    while (lookup != NULL && (lookup->asked == NULL || lookup->token != token))
        lookup = lookup->next;
    if (lookup == NULL)
        return false;
    (void)w_resolve_cancel(lookup->work);
    answer(uring, lookup->asked, token, -ECANCELED);
    lookup->asked = NULL;
    return true;
}

uint32_t w_uring_resolve_take(struct w_uring *uring, struct w_io_completion *completions, uint32_t max)
{
    uint32_t count = 0;
    while (count < max && uring->answers != NULL) {
        struct w_io_resolve *resolve = uring->answers;
        completions[count++] = (struct w_io_completion){.token = resolve->engine_token, .result = resolve->engine_result};
        uring->answers = resolve->engine_next;
    }
    if (uring->answers == NULL)
        uring->answers_end = &uring->answers;
    return count;
}

void w_uring_resolve_finish(struct w_uring *uring)
{
    for (struct w_uring_lookup *lookup = uring->lookups; lookup != NULL; lookup = lookup->next)
        (void)w_resolve_cancel(lookup->work);
    const uint64_t end_ns = w_base_add_saturated(uring->io.engine->clock(&uring->io), FINISH_WAIT_NS);
    uint32_t left_behind = 0;
    while (uring->lookups != NULL) {
        struct w_uring_lookup *lookup = uring->lookups;
        uint64_t now_ns = uring->io.engine->clock(&uring->io);
        if (w_resolve_wait(lookup->work, end_ns > now_ns ? end_ns - now_ns : 0))
            (void)w_resolve_finish(&lookup->work, NULL);
        else
            left_behind++;
        free_lookup(uring, lookup);
    }
    if (left_behind > 0)
        w_uring_log(uring, WEIR_LOG_WARNING, "shard %u: no name server answers; %u look-ups are left behind", uring->shard_index,
                    left_behind);
}
