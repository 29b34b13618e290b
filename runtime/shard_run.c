/* SPDX-License-Identifier: MIT */
/* shard_run: who turns a shard: a thread of weir's, which spins and sleeps between turns; the embedder's; or whoever closes the runtime.
 *
 * Road:    turn -> nothing to do -> spin a while -> submit and sleep -> turn.
 * Ditches: what crosses in mid-spin is taken there and then, without a system call; spins that keep failing are left out; the engine fails for good -> the
 *          shard is broken, with that error. */
#include <errno.h>
#include <unistd.h>

#include "runtime/crossing.h"
#include "runtime/shard.h"

#define SPIN_LOOKS     32
#define SPIN_LOSSES    8u /* so many spins lost in a row, and it is left out for a while */
#define SPIN_SKIPS_MAX 1024u

static int shard_break(weir_shard *shard, int error)
{
    shard->error = error;
    atomic_store_explicit(&shard->state, W_SHARD_BROKEN, memory_order_relaxed);
    w_core_log(&shard->core, WEIR_LOG_ERROR, "shard %u failed for good: %s", shard->core.index, weir_strerror(error));
    return error;
}

/* --- on a thread of weir's --- */

static void shard_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool shard_spin_won(weir_shard *shard)
{
    shard->spin_losses = 0;
    w_stats_add(&shard->core.stats.spins_won, 1);
    return true;
}

/* Only the crossing part of a turn, in mid-spin: no system call, and the clock as it was read last. False: that has made work for a whole turn. */
static bool shard_cross(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    core->in_turn = true;
    w_crossing_turn(core);
    w_crossing_publish(core);
    core->in_turn = false;
    return core->lists[W_CORE_AGENDA].first == NULL && core->stalled == NULL;
}

/* Looks for work for a while before sleeping; true when it found some. The clock is read once in 32 looks. */
static bool shard_spin(weir_shard *shard, uint64_t limit_ns)
{
    struct w_core *core = &shard->core;
    if (shard->spin_skips > 0) {
        shard->spin_skips--;
        return false;
    }
    uint64_t start_ns = core->engine->clock(core->io);
    bool crossed = false, crosses;
    do {
        crosses = false;
        for (int look = 0; look < SPIN_LOOKS; look++) {
            if (w_bell_is_due(&core->bell)) {
                crossed = crosses = true;
                if (!shard_cross(shard))
                    return shard_spin_won(shard);
            } else if (core->engine->stirring(core->io)) {
                return shard_spin_won(shard);
            }
            shard_pause();
        }
        core->io->now_ns = core->engine->clock(core->io);
        w_wheel_advance(&core->wheel, core->io->now_ns);
        if (crosses)
            start_ns = core->io->now_ns;
    } while (core->io->now_ns - start_ns < limit_ns);
    if (crossed) /* what came may have set timers: a turn before it sleeps */
        return shard_spin_won(shard);
    w_stats_add(&core->stats.spins_lost, 1);
    if (++shard->spin_losses >= SPIN_LOSSES)
        shard->spin_skips = w_base_min_u32(1U << w_base_min_u32(shard->spin_losses - SPIN_LOSSES, 10), SPIN_SKIPS_MAX);
    return false;
}

int w_shard_run(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    uint64_t rest_ns = 0, spin_ns = core->config->spin_ns;
    int result = w_shard_start(shard);
    if (result != 0)
        return shard_break(shard, result);
    while ((result = w_shard_turn(shard, &rest_ns)) == 0) {
        if (rest_ns > 0 && spin_ns > 0) {
            result = core->engine->submit(core->io, 0);
            if (result == 0 &&
                (w_shard_has_orders(shard) || core->engine->stirring(core->io) || shard_spin(shard, w_base_min_u64(spin_ns, rest_ns))))
                rest_ns = 0;
        }
        if (result == 0)
            result = core->engine->submit(core->io, rest_ns);
        if (result != 0)
            return shard_break(shard, result);
    }
    return result == -ESHUTDOWN ? 0 : result;
}

/* --- on the embedder's thread --- */

int weir_turn(weir_shard *shard, uint64_t *sleep_ns)
{
    struct w_core *core = &shard->core;
    *sleep_ns = 0;
    int result = 0;
    bool starts = false;
    bool mine = __atomic_load_n(&core->owner, __ATOMIC_RELAXED) == w_core_self();
    if (mine && core->in_turn)
        return -EDEADLK;
    switch ((enum w_shard_state)atomic_load_explicit(&shard->state, memory_order_relaxed)) {
    case W_SHARD_OVER:
        return -ESHUTDOWN;
    case W_SHARD_BROKEN:
        return shard->error;
    case W_SHARD_NEW:
        starts = true;
        result = w_shard_start(shard);
        break;
    case W_SHARD_RUNNING:
    case W_SHARD_STOPPING:
        break;
    }
    if (!mine && !starts) {
        w_core_log(core, WEIR_LOG_ERROR, "shard %u belongs to thread %d, weir_turn was called from thread %d", core->index,
                   __atomic_load_n(&core->owner_thread, __ATOMIC_RELAXED), (int)gettid());
        return -EPERM;
    }
    /* First, so that the turn's time is that after the embedder's sleep; and last, so that what the turn did goes out. */
    if (result == 0)
        result = core->engine->submit(core->io, 0);
    if (result == 0 && (result = w_shard_turn(shard, sleep_ns)) != 0)
        return result;
    if (result != 0 || (result = core->engine->submit(core->io, 0)) != 0)
        return shard_break(shard, result);
    if (*sleep_ns > 0 &&
        (w_shard_has_orders(shard) || core->engine->stirring(core->io) || (shard->embedded && !core->engine->may_sleep(core->io))))
        *sleep_ns = 0;
    return 0;
}

void w_shard_cut(weir_shard *shard)
{
    uint64_t rest_ns;
    int result;
    while ((result = w_shard_turn(shard, &rest_ns)) == 0) {
        if (!shard->cut) {
            w_shard_end_conns(shard);
            rest_ns = 0;
        }
        result = shard->core.engine->submit(shard->core.io, rest_ns);
        if (result != 0) {
            shard_break(shard, result);
            return;
        }
    }
}

int weir_turn_descriptor(weir_shard *shard)
{
    int descriptor = shard->core.engine->descriptor(shard->core.io);
    shard->embedded |= descriptor >= 0;
    return descriptor;
}
