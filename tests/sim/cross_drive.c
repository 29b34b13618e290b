/* SPDX-License-Identifier: MIT */
/* cross_drive: the driver. It turns a shard only when the shard has said that it wants to be turned by now, or when what it sleeps on would have woken it, and a
 * foreign thread that sleeps on its descriptor acts only when that is set; so a wake that was lost shows as a run that stands still. */
#include <errno.h>
#include <string.h>

#include "tests/sim/cross.h"

#define PATIENCE_NS (60 * WEIR_SECOND)      /* for each part of a run after the faults have stopped, virtual */
#define STALL_NS    (20 * WEIR_MILLISECOND) /* everybody may be late by a few of these */
#define LOOK_NS     WEIR_MILLISECOND
#define QUIET_NS    (100 * WEIR_MILLISECOND)
#define TURNS_MAX   5000000

/* --- turns and acts --- */

static void turn(struct cross_run *run, uint32_t index)
{
    uint64_t sleep_ns = 0;
    if (!weir_sim_may_turn(run->world, index, run->due_ns[index]))
        return;
    int code = weir_turn(run->shards[index], &sleep_ns);
    run->turns++;
    run->turned[index] = true;
    if (code == -EIO && run->broken && index == 0) {
        run->over[index] = true;
        return;
    }
    CROSS_CHECK(run, code == 0 || (code == -ESHUTDOWN && run->stopping), "a turn of shard %u: %d (%s)", index, code, weir_strerror(code));
    if (code == -ESHUTDOWN && !run->over[index])
        cross_note(run, "shard %u is over", index);
    run->over[index] = code == -ESHUTDOWN;
    run->due_ns[index] = w_base_add_saturated(weir_sim_now_ns(run->world), sleep_ns);
}

static bool wants_turn(const struct cross_run *run, uint32_t index)
{
    return !run->over[index] && !weir_sim_stalls(run->world, index) &&
           (!run->turned[index] || run->due_ns[index] <= weir_sim_now_ns(run->world) || weir_sim_readable(run->world, index));
}

static bool sleeps(const struct cross_actor *actor)
{
    return actor->run->calm && actor->event >= 0 && !actor->unread;
}

static bool wants_act(const struct cross_run *run, const struct cross_actor *actor)
{
    if (actor->busy || actor->shard >= 0)
        return false;
    return actor->due_ns <= weir_sim_now_ns(run->world) || (sleeps(actor) && cross_engine_is_set(run, actor->event));
}

static void act(struct cross_run *run, struct cross_actor *actor)
{
    uint64_t pace_ns = run->calm || actor->acts_left == 0 ? WEIR_MILLISECOND : actor->pace_ns_max;
    cross_act(actor);
    actor->due_ns = sleeps(actor) ? UINT64_MAX : weir_sim_now_ns(run->world) + 1 + cross_below(run, pace_ns);
}

/* One of those who want something: a shard, or an actor; -1: nobody. */
static int choose(struct cross_run *run)
{
    int chosen = -1;
    uint64_t count = 0;
    for (uint32_t i = 0; i < run->plan.shards + run->plan.threads; i++)
        if ((i < run->plan.shards ? wants_turn(run, i) : wants_act(run, &run->actors[i])) && cross_below(run, ++count) == 0)
            chosen = (int)i;
    return chosen;
}

/* Nobody wants anything: time goes to the next thing that happens or is due. */
static void let_time_pass(struct cross_run *run)
{
    uint64_t due_ns = run->deadline_ns;
    if (run->calm && !run->stopping && run->look_ns < due_ns)
        due_ns = run->look_ns;
    for (uint32_t i = 0; i < run->plan.shards; i++)
        if (!run->over[i] && !weir_sim_stalls(run->world, i) && run->due_ns[i] < due_ns)
            due_ns = run->due_ns[i];
    for (uint32_t i = run->plan.shards; i < run->plan.shards + run->plan.threads; i++)
        if (!run->actors[i].busy && run->actors[i].due_ns < due_ns)
            due_ns = run->actors[i].due_ns;
    if (weir_sim_next_ns(run->world) <= due_ns && weir_sim_step(run->world))
        return;
    if (due_ns == UINT64_MAX) {
        cross_tell_state(run);
        cross_fail(run, "everybody sleeps, and nothing will ever happen");
    }
    weir_sim_run_until(run->world, due_ns);
}

void cross_go_on(struct cross_run *run)
{
    if (cross_permille(run, run->plan.stall_permille)) {
        weir_sim_run_until(run->world, weir_sim_now_ns(run->world) + cross_magnitude(run, WEIR_MICROSECOND, STALL_NS));
        return;
    }
    int index = choose(run);
    run->wanted_ns = index < 0 || run->wanted_ns == 0 ? weir_sim_now_ns(run->world) : run->wanted_ns;
    if (index < 0) {
        let_time_pass(run);
    } else if (cross_below(run, 8) < run->plan.haste || weir_sim_next_ns(run->world) > run->wanted_ns + STALL_NS ||
               !weir_sim_step(run->world)) {
        run->wanted_ns = 0;
        if (index < (int)run->plan.shards)
            turn(run, (uint32_t)index);
        else
            act(run, &run->actors[index]);
    }
    if (!run->calm && cross_below(run, 256) == 0) { /* for no reason: a turn, or a shard's actor between turns */
        uint32_t any = (uint32_t)cross_below(run, run->plan.shards);
        struct cross_actor *actor = &run->actors[any];
        if (!run->over[any] && run->turned[any] && actor->acts_left > 0 && cross_one_of(run, 2))
            cross_act(actor);
        else if (!run->over[any] && !weir_sim_stalls(run->world, any))
            turn(run, any);
    }
}

/* --- from the first turn to the last --- */

static bool all_over(const struct cross_run *run)
{
    for (uint32_t i = 0; i < run->plan.shards; i++)
        if (!run->over[i])
            return false;
    return true;
}

static bool all_finished(const struct cross_run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        if (!run->clients[i].finished || run->clients[i].opened != run->clients[i].closed)
            return false;
    return true;
}

static void calm_down(struct cross_run *run)
{
    struct weir_sim_faults calm = run->plan.faults;
    memset(calm.chance_ppm, 0, sizeof calm.chance_ppm);
    weir_sim_set_faults(run->world, &calm);
    run->calm = true;
    run->calmed_ns = weir_sim_now_ns(run->world);
    cross_note(run, "the faults stop, and nobody begins anything new");
    for (uint32_t i = 0; i < run->plan.shards + run->plan.threads; i++) {
        struct cross_actor *actor = &run->actors[i];
        actor->acts_left = 0;
        actor->due_ns = 0;
        if (actor->shard >= 0 && run->turned[i] && !run->over[i])
            cross_act(actor);
    }
}

static void stop(struct cross_run *run)
{
    cross_note(run, "stop");
    run->stopping = true;
    run->stopped_ns = weir_sim_now_ns(run->world);
    weir_stop(run->runtime);
}

static void watch(struct cross_run *run)
{
    uint64_t now_ns = weir_sim_now_ns(run->world), patience_ns = PATIENCE_NS;
    const uint32_t *chance_ppm = run->plan.faults.chance_ppm;
    bool leaps = !run->calm && (chance_ppm[WEIR_SIM_STALL] > 0 || chance_ppm[WEIR_SIM_CLOCK_JUMP] > 0);
    uint64_t since_ns = run->calm && run->calmed_ns > run->stopped_ns ? run->calmed_ns : run->stopped_ns;
    const char *what = NULL;
    if (run->turns > TURNS_MAX)
        what = "turns without end";
    else if (run->stopping)
        what = !leaps && now_ns > since_ns + run->plan.config.stop_ns + 2 * WEIR_SECOND ? "the stop does not come to its end" : NULL;
    else if (run->leaving)
        what = now_ns > run->left_ns + patience_ns ? "not everybody can leave" : NULL;
    else if (run->calm)
        what = now_ns > run->calmed_ns + patience_ns ? "it stands still" : NULL;
    if (what == NULL)
        return;
    cross_tell_state(run);
    cross_fail(run, "%s", what);
}

static void leave(struct cross_run *run)
{
    cross_note(run, "all is quiet: everybody leaves");
    cross_check_quiet(run);
    run->leaving = true;
    run->was_quiet = false;
    run->left_ns = weir_sim_now_ns(run->world);
}

/* Nobody is left: the ports that do not outlive the shards are closed, and it stops. */
static void close_down(struct cross_run *run)
{
    cross_check_ports(run);
    for (uint32_t i = 0; i < run->plan.shards + run->plan.threads; i++) {
        struct cross_actor *actor = &run->actors[i];
        if (actor->shard >= 0 || cross_one_of(run, 2))
            cross_channel_close_all(actor);
        if (actor->shard < 0 && !actor->outlives)
            cross_actor_close(actor);
    }
    stop(run);
}

/* Is all quiet, and was it a while ago? (What has no answer, a join under way, is not seen otherwise.) */
static void look(struct cross_run *run)
{
    bool quiet = (!run->leaving || all_finished(run)) && cross_is_quiet(run);
    run->look_ns = weir_sim_now_ns(run->world) + (quiet ? QUIET_NS : LOOK_NS);
    if (quiet && run->was_quiet && !run->leaving)
        leave(run);
    else if (quiet && run->was_quiet)
        close_down(run);
    else
        run->was_quiet = quiet;
}

void cross_drive(struct cross_run *run)
{
    const struct cross_plan *plan = &run->plan;
    run->deadline_ns = UINT64_MAX;
    while (!all_over(run)) {
        uint64_t now_ns = weir_sim_now_ns(run->world);
        if (now_ns >= plan->calm_ns && !run->calm)
            calm_down(run);
        if (now_ns >= plan->cut_ns || (run->broken && run->over[0]))
            return;
        if (now_ns >= plan->break_ns && !run->broken && !run->over[0]) {
            run->broken = true;
            weir_sim_break(run->world, 0, -EIO);
        }
        if (now_ns >= plan->stop_ns && !run->stopping)
            stop(run);
        if (run->calm && !run->stopping && now_ns >= run->look_ns)
            look(run);
        watch(run);
        cross_go_on(run);
    }
}
