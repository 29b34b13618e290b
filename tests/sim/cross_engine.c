/* SPDX-License-Identifier: MIT */
/* cross_engine: the simulated kernel's events made real: a foreign thread that sleeps on one (in weir_port_wait, weir_port_send_wait, weir_channel_wait,
 * weir_port_flush, or on its port's descriptor) sleeps until it is set, while the run goes on: a wake that is lost shows as a sleep that is too long. */
#include <errno.h>

#include "tests/sim/cross.h"

#define FIRST_EVENT 3000000

static struct cross_run *present; /* there is one at a time */

static bool *is_set_of(int descriptor)
{
    int index = descriptor - FIRST_EVENT;
    CROSS_CHECK(present, index >= 0 && index < CROSS_EVENTS_MAX && present->event_open[index], "event %d is not open", descriptor);
    return &present->event_set[index];
}

static int begin(void)
{
    for (int i = 0; i < CROSS_EVENTS_MAX; i++)
        if (!present->event_open[i]) {
            present->event_open[i] = true;
            present->event_set[i] = false;
            return FIRST_EVENT + i;
        }
    return -EMFILE;
}

/* Each has a number, from its first use on. */
static bool *is_set(struct w_io_event *event)
{
    if (atomic_load(&event->descriptor) < 0)
        atomic_store(&event->descriptor, begin());
    return is_set_of(atomic_load(&event->descriptor));
}

static int event_descriptor(void *world, struct w_io_event *event)
{
    (void)world;
    is_set(event);
    return atomic_load(&event->descriptor);
}

static void event_set(void *world, struct w_io_event *event)
{
    (void)world;
    *is_set(event) = true;
    cross_note(present, "event %d is set", atomic_load(&event->descriptor));
}

static void event_reset(void *world, struct w_io_event *event)
{
    (void)world;
    *is_set(event) = false;
}

static int event_wait(void *world, struct w_io_event *event, uint64_t wait_ns)
{
    (void)world;
    uint64_t deadline_ns = w_base_add_saturated(weir_sim_now_ns(present->world), wait_ns);
    if (present->sleeping && !*is_set(event))
        return -ETIMEDOUT; /* (one at a time) */
    present->sleeping = true;
    present->deadline_ns = deadline_ns;
    while (!*is_set(event) && weir_sim_now_ns(present->world) < deadline_ns)
        cross_go_on(present);
    present->deadline_ns = UINT64_MAX;
    present->sleeping = false;
    if (!*is_set(event))
        return -ETIMEDOUT;
    present->feats[CROSS_SLEPT]++;
    return 0;
}

static void event_close(void *world, struct w_io_event *event)
{
    int descriptor = atomic_load(&event->descriptor);
    (void)world;
    if (descriptor < 0)
        return;
    *is_set(event) = false;
    present->event_open[descriptor - FIRST_EVENT] = false;
}

void cross_engine_init(struct cross_run *run)
{
    present = run;
    run->engine = *weir_sim_engine(run->world);
    run->engine.event_set = event_set;
    run->engine.event_reset = event_reset;
    run->engine.event_wait = event_wait;
    run->engine.event_descriptor = event_descriptor;
    run->engine.event_close = event_close;
}

bool cross_engine_is_set(const struct cross_run *run, int descriptor)
{
    (void)run;
    return *is_set_of(descriptor);
}
