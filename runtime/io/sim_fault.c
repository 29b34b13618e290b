/* SPDX-License-Identifier: MIT */
/* sim_fault: what can go wrong in the simulated world: names, chances, counters, mixes; and what goes wrong before a shard is turned. */
#include "runtime/io/sim_world.h"

static const char *const names[WEIR_SIM_FAULT_COUNT] = {
    [WEIR_SIM_SHORT_SEND] = "short-send",
    [WEIR_SIM_SHORT_RECEIVE] = "short-receive",
    [WEIR_SIM_MULTISHOT_END] = "multishot-end",
    [WEIR_SIM_NO_BUFFERS] = "no-buffers",
    [WEIR_SIM_NO_BUFFERS_IDLE] = "no-buffers-idle",
    [WEIR_SIM_BUFFERS_SPENT] = "buffers-spent",
    [WEIR_SIM_RESET] = "reset",
    [WEIR_SIM_RESET_UNREAD] = "reset-unread",
    [WEIR_SIM_HIDDEN_END] = "hidden-end",
    [WEIR_SIM_HALF_CLOSE] = "half-close",
    [WEIR_SIM_LATE] = "late",
    [WEIR_SIM_LATE_CANCEL] = "late-cancel",
    [WEIR_SIM_CANCEL_MISSED] = "cancel-missed",
    [WEIR_SIM_SHUFFLE] = "shuffle",
    [WEIR_SIM_AGAIN] = "again",
    [WEIR_SIM_CANCELED] = "canceled",
    [WEIR_SIM_NO_MEMORY] = "no-memory",
    [WEIR_SIM_ACCEPT_SPENT] = "accept-spent",
    [WEIR_SIM_ACCEPT_ERROR] = "accept-error",
    [WEIR_SIM_ACCEPT_STORM] = "accept-storm",
    [WEIR_SIM_PEER_GONE] = "peer-gone",
    [WEIR_SIM_CONNECT_REFUSED] = "connect-refused",
    [WEIR_SIM_CONNECT_TIMEOUT] = "connect-timeout",
    [WEIR_SIM_CONNECT_UNREACHABLE] = "connect-unreachable",
    [WEIR_SIM_SEND_ERROR] = "send-error",
    [WEIR_SIM_RECEIVE_ERROR] = "receive-error",
    [WEIR_SIM_ERROR_TAKEN] = "error-taken",
    [WEIR_SIM_SOCKET_SPENT] = "socket-spent",
    [WEIR_SIM_HANDLE_REUSE] = "handle-reuse",
    [WEIR_SIM_OVERFLOW] = "overflow",
    [WEIR_SIM_LATE_WAKE] = "late-wake",
    [WEIR_SIM_CLOSE_WAKE] = "close-wake",
    [WEIR_SIM_EARLY_RETURN] = "early-return",
    [WEIR_SIM_BUSY] = "busy",
    [WEIR_SIM_PARTIAL_SUBMIT] = "partial-submit",
    [WEIR_SIM_NAME_ERROR] = "name-error",
    [WEIR_SIM_STALL] = "stall",
    [WEIR_SIM_CLOCK_JUMP] = "clock-jump",
    [WEIR_SIM_TIMER_TIE] = "timer-tie",
    [WEIR_SIM_RING_FULL] = "ring-full",
};

const char *weir_sim_fault_name(enum weir_sim_fault fault)
{
    return (unsigned)fault < WEIR_SIM_FAULT_COUNT ? names[fault] : "unknown";
}

bool weir_sim_fault_is_kernels(enum weir_sim_fault fault)
{
    return fault < WEIR_SIM_STALL;
}

/* --- chance and counters --- */

bool w_sim_fault_draws(struct weir_sim_world *world, enum weir_sim_fault fault)
{
    uint32_t chance_ppm = world->faults.chance_ppm[fault];
    return chance_ppm != 0 && w_sim_world_below(world, 1000000) < chance_ppm;
}

bool w_sim_fault_strikes(struct weir_sim_world *world, enum weir_sim_fault fault)
{
    bool strikes = w_sim_fault_draws(world, fault);
    if (strikes)
        w_sim_fault_fire(world, fault);
    return strikes;
}

void w_sim_fault_fire(struct weir_sim_world *world, enum weir_sim_fault fault)
{
    world->fired[fault]++;
    w_sim_world_note(world, names[fault], 0, 0, 0);
}

void weir_sim_count(struct weir_sim_world *world, enum weir_sim_fault fault)
{
    W_SIM_REQUIRE(world, (unsigned)fault < WEIR_SIM_FAULT_COUNT, "weir_sim_count of %d, which is no fault", (int)fault);
    w_sim_fault_fire(world, fault);
}

uint64_t weir_sim_fired(const struct weir_sim_world *world, enum weir_sim_fault fault)
{
    return world->fired[fault];
}

/* --- how much of what --- */

static void complete(struct weir_sim_faults *faults)
{
    faults->latency_ns_min = w_base_or_default(faults->latency_ns_min, 5 * WEIR_MICROSECOND);
    faults->latency_ns_max = w_base_or_default(faults->latency_ns_max, 100 * WEIR_MICROSECOND);
    faults->operation_ns_max = w_base_or_default(faults->operation_ns_max, 20 * WEIR_MICROSECOND);
    faults->late_ns_max = w_base_or_default(faults->late_ns_max, 5 * WEIR_MILLISECOND);
    faults->stall_ns_max = w_base_or_default(faults->stall_ns_max, 10 * WEIR_SECOND);
    faults->jump_ns_max = w_base_or_default(faults->jump_ns_max, 5 * WEIR_SECOND);
    faults->socket_bytes_min = (uint32_t)w_base_or_default(faults->socket_bytes_min, 1024);
    faults->socket_bytes_max = (uint32_t)w_base_or_default(faults->socket_bytes_max, 256 * 1024);
    faults->descriptors_max = (uint32_t)w_base_or_default(faults->descriptors_max, 65536);
}

void weir_sim_set_faults(struct weir_sim_world *world, const struct weir_sim_faults *faults)
{
    world->faults = faults != NULL ? *faults : (struct weir_sim_faults){0};
    complete(&world->faults);
    if (world->faults.chance_ppm[WEIR_SIM_STALL] != 0)
        return;
    for (uint32_t i = 0; i < world->shard_count; i++)
        if (world->shards[i] != NULL)
            world->shards[i]->stalled_until_ns = 0;
}

/* How frequent a class may get: those that end a connection are kept rare, or nothing else would be met; and those that take seconds. */
static uint32_t chance_ppm_max(enum weir_sim_fault fault)
{
    switch (fault) {
    case WEIR_SIM_STALL:
    case WEIR_SIM_CLOCK_JUMP:
        return 2000;
    case WEIR_SIM_RESET:
    case WEIR_SIM_SEND_ERROR:
    case WEIR_SIM_RECEIVE_ERROR:
    case WEIR_SIM_NO_MEMORY:
    case WEIR_SIM_PEER_GONE:
        return 20000;
    case WEIR_SIM_LATE:
    case WEIR_SIM_LATE_WAKE:
    case WEIR_SIM_ACCEPT_ERROR:
    case WEIR_SIM_ACCEPT_SPENT:
    case WEIR_SIM_OVERFLOW:
    case WEIR_SIM_NO_BUFFERS:
    case WEIR_SIM_AGAIN:
    case WEIR_SIM_CANCELED:
        return 100000;
    default:
        return 500000;
    }
}

void weir_sim_faults_mix(uint64_t seed, struct weir_sim_faults *faults)
{
    struct w_sim_random random;
    w_sim_world_seed(&random, seed ^ UINT64_C(0x5deece66d));
    *faults = (struct weir_sim_faults){0};
    uint64_t many = w_sim_world_draw_below(&random, 4); /* of 4: how likely each class is in the mix */
    for (uint32_t i = 0; i < WEIR_SIM_FAULT_COUNT; i++) {
        uint32_t most = chance_ppm_max((enum weir_sim_fault)i);
        bool frequent = w_sim_world_draw_below(&random, 2) == 0;
        if (w_sim_world_draw_below(&random, 4) < many)
            faults->chance_ppm[i] =
                (uint32_t)(frequent ? w_sim_world_draw_below(&random, most) : w_sim_world_draw_magnitude(&random, most / 1000 + 1, most));
    }
    faults->latency_ns_min = w_sim_world_draw_magnitude(&random, WEIR_MICROSECOND, 100 * WEIR_MICROSECOND);
    faults->latency_ns_max = w_sim_world_draw_magnitude(&random, faults->latency_ns_min, 10 * WEIR_MILLISECOND);
    faults->operation_ns_max = w_sim_world_draw_magnitude(&random, WEIR_MICROSECOND, WEIR_MILLISECOND);
    faults->late_ns_max = w_sim_world_draw_magnitude(&random, 100 * WEIR_MICROSECOND, 50 * WEIR_MILLISECOND);
    faults->socket_bytes_min = (uint32_t)w_sim_world_draw_magnitude(&random, 1024, 64 * 1024);
    faults->socket_bytes_max = (uint32_t)w_sim_world_draw_magnitude(&random, faults->socket_bytes_min, 256 * 1024);
    faults->plain_buffers = w_sim_world_draw_below(&random, 2) == 0;
    faults->stall_ns_max = w_sim_world_draw_magnitude(&random, 10 * WEIR_MILLISECOND, 10 * WEIR_SECOND);
    faults->jump_ns_max = w_sim_world_draw_magnitude(&random, 10 * WEIR_MILLISECOND, 5 * WEIR_SECOND);
}

/* --- before a turn --- */

/* A timer is due: waits for data that is about to come, if there is any, so that the turn finds both. */
static void meet_data(struct weir_sim_world *world, uint32_t index)
{
    uint64_t until_ns = world->now_ns + world->faults.latency_ns_max + world->faults.operation_ns_max;
    while (!weir_sim_stirring(world, index) && weir_sim_next_ns(world) <= until_ns)
        weir_sim_step(world);
}

bool weir_sim_stalls(const struct weir_sim_world *world, uint32_t shard_index)
{
    const struct w_sim_shard *shard = shard_index < world->shard_count ? world->shards[shard_index] : NULL;
    return shard != NULL && shard->stalled_until_ns > world->now_ns;
}

bool weir_sim_may_turn(struct weir_sim_world *world, uint32_t shard_index, uint64_t due_ns)
{
    struct w_sim_shard *shard = shard_index < world->shard_count ? world->shards[shard_index] : NULL;
    if (shard == NULL)
        return true;
    if (weir_sim_stalls(world, shard_index))
        return false;
    if (w_sim_fault_strikes(world, WEIR_SIM_STALL)) {
        shard->stalled_until_ns = world->now_ns + w_sim_world_magnitude(world, WEIR_MICROSECOND, world->faults.stall_ns_max);
        w_sim_world_at(world, shard->stalled_until_ns, NULL, w_sim_world_pass, NULL, 0);
        return false;
    }
    /* Nothing happens meanwhile: what was due comes all at once, and late. */
    if (w_sim_fault_strikes(world, WEIR_SIM_CLOCK_JUMP))
        world->now_ns += w_sim_world_magnitude(world, WEIR_MILLISECOND, world->faults.jump_ns_max);
    if (due_ns > world->now_ns)
        return true;
    if (due_ns > shard->io.now_ns && w_sim_fault_draws(world, WEIR_SIM_TIMER_TIE))
        meet_data(world, shard_index);
    if (due_ns > shard->io.now_ns && weir_sim_stirring(world, shard_index)) /* it had gone to sleep until then */
        w_sim_fault_fire(world, WEIR_SIM_TIMER_TIE);
    return true;
}
