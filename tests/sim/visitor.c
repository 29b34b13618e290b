/* SPDX-License-Identifier: MIT */
/* visitor: one of many that come in the same nanosecond, say nothing, and leave. */
#include "tests/sim/run.h"

static void leave(struct weir_sim_world *world, void *user)
{
    struct run_visitor *visitor = user;
    (void)world;
    if (visitor->resets)
        weir_sim_peer_reset(&visitor->peer);
    else
        weir_sim_peer_close(&visitor->peer);
    visitor->run->visitors_left++;
}

static void come(struct weir_sim_world *world, void *user)
{
    struct run *run = user;
    run_note(run, "%u visitors come at once", run->plan.visitor_count);
    run->feats[RUN_STORM]++;
    for (uint32_t i = 0; i < run->plan.visitor_count; i++) {
        struct run_visitor *visitor = &run->visitors[i];
        visitor->peer = weir_sim_peer_connect(world, &run->address);
        weir_sim_schedule(world, visitor->stays_ns, leave, visitor);
    }
}

void visitor_start(struct run *run)
{
    if (run->plan.visitor_count > 0)
        weir_sim_schedule(run->world, run->plan.storm_ns, come, run);
}

static uint32_t slots(const struct run *run)
{
    return run->plan.shards * run->plan.config.connections;
}

/* (The kernel's own choice by a hash knows nothing of slots.) */
bool visitor_may_fill(const struct run *run)
{
    if (run->plan.kind == RUN_KIND_WEB) /* who says nothing is not let in */
        return false;
    return slots(run) <= RUN_VISITORS_MAX && (run->plan.listening.placement == WEIR_PLACEMENT_ROUND_ROBIN || run->plan.unix_address);
}

void visitor_fill(struct run *run)
{
    for (uint32_t i = 0; i < slots(run); i++)
        run->visitors[i].peer = weir_sim_peer_connect(run->world, &run->address);
}

void visitor_leave(struct run *run)
{
    RUN_CHECK(run, run->opened - run->closed == slots(run), "%u came at once, there are slots for all, and %llu are open", slots(run),
              (unsigned long long)(run->opened - run->closed));
    run->feats[RUN_FILLED]++;
    for (uint32_t i = 0; i < slots(run); i++)
        weir_sim_peer_close(&run->visitors[i].peer);
}
