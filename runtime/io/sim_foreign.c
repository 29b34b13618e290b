/* SPDX-License-Identifier: MIT */
/* sim_foreign: what a thread that is not a shard's sleeps on: the event_...() of the engine.
 *
 * Road:    opened → reset, slept on → set by somebody → heard, perhaps late.
 * Ditches: a wait between two runs → the driver lets the world go on meanwhile; inside a run, or nobody drives → it does not wait: time is the driver's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/sim_world.h"

static void grow(struct weir_sim_world *world)
{
    uint32_t count = world->foreign_count == 0 ? 8 : 2 * world->foreign_count;
    struct w_sim_foreign *foreign = w_sim_world_memory(count * sizeof *foreign);
    if (world->foreign_count > 0)
        memcpy(foreign, world->foreign, world->foreign_count * sizeof *foreign);
    free(world->foreign);
    world->foreign = foreign;
    world->foreign_count = count;
}

/* The first that is free. */
static uint32_t begin(struct weir_sim_world *world)
{
    uint32_t index = 0;
    while (index < world->foreign_count && world->foreign[index].open)
        index++;
    if (index == world->foreign_count)
        grow(world);
    world->foreign[index] = (struct w_sim_foreign){.due_ns = UINT64_MAX, .open = true};
    return index;
}

/* What is known of it; from the first time that anybody wants to know. It may move in memory when the world goes on. */
static struct w_sim_foreign *foreign_of(struct weir_sim_world *world, struct w_io_event *event)
{
    if (atomic_load(&event->descriptor) < 0)
        atomic_store(&event->descriptor, W_SIM_FOREIGN + (int)begin(world));
    int descriptor = atomic_load(&event->descriptor);
    uint32_t index = (uint32_t)descriptor - W_SIM_FOREIGN;
    W_SIM_REQUIRE(world, descriptor >= W_SIM_FOREIGN && index < world->foreign_count && world->foreign[index].open, "event %d is not open",
                  descriptor);
    return &world->foreign[index];
}

static bool is_set(const struct weir_sim_world *world, const struct w_sim_foreign *foreign)
{
    return foreign->due_ns <= world->now_ns;
}

void w_sim_foreign_set(void *where, struct w_io_event *event)
{
    struct weir_sim_world *world = where;
    struct w_sim_foreign *foreign = foreign_of(world, event);
    uint64_t due_ns = world->now_ns;
    if (w_sim_fault_strikes(world, WEIR_SIM_LATE_WAKE))
        due_ns += w_sim_world_late_ns(world);
    w_sim_world_note(world, "event", atomic_load(&event->descriptor), 0, 0);
    if (due_ns >= foreign->due_ns)
        return;
    foreign->due_ns = due_ns;
    w_sim_world_at(world, due_ns, NULL, w_sim_world_pass, NULL, 0);
}

void w_sim_foreign_reset(void *where, struct w_io_event *event)
{
    foreign_of(where, event)->due_ns = UINT64_MAX;
}

int w_sim_foreign_wait(void *where, struct w_io_event *event, uint64_t wait_ns)
{
    struct weir_sim_world *world = where;
    bool drives = !world->in_action && !world->running && world->go_on != NULL;
    if (!drives || is_set(world, foreign_of(world, event)))
        return is_set(world, foreign_of(world, event)) ? 0 : -ETIMEDOUT;
    if (w_sim_fault_strikes(world, WEIR_SIM_EARLY_RETURN))
        return -EINTR;
    uint64_t until_ns = wait_ns == W_IO_FOREVER ? UINT64_MAX : w_base_add_saturated(world->now_ns, wait_ns);
    bool goes_on = true;
    world->running = true;
    /* (What is slept on may move in memory meanwhile.) */
    while (goes_on && !is_set(world, foreign_of(world, event)) && world->now_ns < until_ns)
        goes_on = world->go_on(world, until_ns);
    world->running = false;
    W_SIM_REQUIRE(world, goes_on || until_ns != UINT64_MAX, "a thread sleeps for ever, and nothing will ever happen");
    if (!goes_on)
        weir_sim_run_until(world, until_ns);
    return is_set(world, foreign_of(world, event)) ? 0 : -ETIMEDOUT;
}

int w_sim_foreign_descriptor(void *where, struct w_io_event *event)
{
    struct weir_sim_world *world = where;
    struct w_sim_foreign *foreign = foreign_of(world, event);
    if (!foreign->shown && w_sim_fault_strikes(world, WEIR_SIM_SOCKET_SPENT))
        return -EMFILE;
    foreign->shown = true;
    return atomic_load(&event->descriptor);
}

void w_sim_foreign_close(void *where, struct w_io_event *event)
{
    if (atomic_load(&event->descriptor) >= 0)
        foreign_of(where, event)->open = false;
}

bool weir_sim_is_readable(const struct weir_sim_world *world, int descriptor)
{
    if (descriptor < W_SIM_FOREIGN)
        return descriptor >= W_SIM_DESCRIPTOR && weir_sim_readable(world, (uint32_t)(descriptor - W_SIM_DESCRIPTOR));
    uint32_t index = (uint32_t)descriptor - W_SIM_FOREIGN;
    return index < world->foreign_count && world->foreign[index].open && is_set(world, &world->foreign[index]);
}
