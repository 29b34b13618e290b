/* SPDX-License-Identifier: MIT */
/* sim: the driver of a user's simulation: opens a runtime on a simulated world and turns its shards. In libweir_sim.a, with the kernel that it drives.
 *
 * Road:    open → run: one of the shards that want a turn, or the next event of the world, as the seed decides → time goes to what is due next → until all
 *          shards are over, or time is up.
 * Ditches: a shard stalls → the others go on; nobody wants anything and nothing is due, ever → told as QUIET; a call that blocks → drives as a run does. */
#include <errno.h>

#include "runtime/io/sim_world.h"

/* A shard that wants a turn may have to wait for so much of the world at most. */
#define HOLD_NS (20 * WEIR_MILLISECOND)

static bool is_open(const struct weir_sim_world *world)
{
    for (uint32_t i = 0; i < world->shard_count; i++)
        if (world->shards[i] != NULL)
            return true;
    return false;
}

static bool is_over(const struct weir_sim_world *world)
{
    for (uint32_t i = 0; i < world->shard_count; i++)
        if (world->shards[i] != NULL && !world->shards[i]->over)
            return false;
    return true;
}

/* --- turning --- */

static bool may_be_turned(const struct weir_sim_world *world, uint32_t index)
{
    const struct w_sim_shard *shard = world->shards[index];
    return shard != NULL && !shard->over && !weir_sim_stalls(world, index);
}

static bool wants_turn(const struct weir_sim_world *world, uint32_t index)
{
    return may_be_turned(world, index) && (world->shards[index]->due_ns <= world->now_ns || weir_sim_readable(world, index));
}

/* One of those that want a turn; -1: none. */
static int choose(struct weir_sim_world *world)
{
    int chosen = -1;
    uint64_t count = 0;
    for (uint32_t i = 0; i < world->shard_count; i++)
        if (wants_turn(world, i) && w_sim_world_below(world, ++count) == 0)
            chosen = (int)i;
    return chosen;
}

static void turn(struct weir_sim_world *world, uint32_t index)
{
    struct w_sim_shard *shard = world->shards[index];
    uint64_t sleep_ns = 0;
    if (!weir_sim_may_turn(world, index, shard->due_ns))
        return;
    int code = weir_turn(weir_shard_at(world->runtime, index), &sleep_ns);
    shard->over = code != 0; /* at its end, or broken for good */
    shard->due_ns = w_base_add_saturated(world->now_ns, sleep_ns);
}

/* Nobody wants a turn: time goes to the next thing that happens or is due. */
static bool let_time_pass(struct weir_sim_world *world, uint64_t until_ns)
{
    uint64_t due_ns = UINT64_MAX, next_ns = weir_sim_next_ns(world);
    for (uint32_t i = 0; i < world->shard_count; i++)
        if (may_be_turned(world, i))
            due_ns = w_base_min_u64(due_ns, world->shards[i]->due_ns);
    if (next_ns == UINT64_MAX && due_ns == UINT64_MAX)
        return false;
    if (next_ns <= due_ns && next_ns <= until_ns)
        weir_sim_step(world);
    else
        weir_sim_run_until(world, w_base_min_u64(due_ns, until_ns));
    return true;
}

static bool go_on(struct weir_sim_world *world, uint64_t until_ns)
{
    int index = choose(world);
    if (index < 0)
        return let_time_pass(world, until_ns);
    uint64_t soon_ns = w_base_min_u64(until_ns, world->now_ns + HOLD_NS);
    if (w_sim_world_below(world, 8) >= world->haste && weir_sim_next_ns(world) <= soon_ns)
        weir_sim_step(world);
    else
        turn(world, (uint32_t)index);
    if (w_sim_world_below(world, 256) == 0) { /* a turn for no reason */
        uint32_t any = (uint32_t)w_sim_world_below(world, world->shard_count);
        if (may_be_turned(world, any))
            turn(world, any);
    }
    return true;
}

/* --- the user's --- */

int weir_sim_open(struct weir_sim_world *world, const weir_config *config, weir_runtime **runtime, weir_error *error)
{
    *runtime = NULL;
    if (is_open(world))
        return w_base_fail(error, -EBUSY, "the simulated world has a runtime already: close it first");
    int code = weir_open_on(weir_sim_engine(world), config, runtime, error);
    if (code != 0)
        return code;
    world->runtime = *runtime;
    world->go_on = go_on;
    world->haste = 1 + (uint32_t)w_sim_world_below(world, 8);
    for (uint32_t i = 0; i < weir_shard_count(*runtime); i++)
        (void)weir_turn_descriptor(weir_shard_at(*runtime, i));
    return 0;
}

weir_sim_outcome weir_sim_run(struct weir_sim_world *world, weir_runtime *runtime, uint64_t duration_ns)
{
    uint64_t until_ns = w_base_add_saturated(world->now_ns, duration_ns);
    W_SIM_REQUIRE(world, is_open(world) && runtime == world->runtime,
                  "weir_sim_run of a runtime that weir_sim_open() has not opened on this world");
    W_SIM_REQUIRE(world, !world->running && !world->in_action, "weir_sim_run from inside a run");
    weir_sim_outcome outcome = WEIR_SIM_TIME_UP;
    world->running = true;
    while (outcome == WEIR_SIM_TIME_UP && world->now_ns < until_ns) {
        if (is_over(world))
            outcome = WEIR_SIM_OVER;
        else if (!go_on(world, until_ns))
            outcome = WEIR_SIM_QUIET;
    }
    world->running = false;
    return is_over(world) ? WEIR_SIM_OVER : outcome;
}
