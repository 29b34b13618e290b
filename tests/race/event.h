/* SPDX-License-Identifier: MIT */
/* event: event_...() of a played engine: as runtime/io/event.c, with the play's sleep for the futex. Include it behind play.h and runtime/port.h. */
#ifndef TEST_RACE_EVENT_H
#define TEST_RACE_EVENT_H

static void event_set(void *world, struct w_io_event *event)
{
    (void)world;
    atomic_store_explicit(&event->set, 1, memory_order_relaxed);
}

static void event_reset(void *world, struct w_io_event *event)
{
    (void)world;
    atomic_store_explicit(&event->set, 0, memory_order_relaxed);
}

/* With a time limit it is always over. */
static int event_wait(void *world, struct w_io_event *event, uint64_t wait_ns)
{
    (void)world;
    if (wait_ns == WEIR_FOREVER) {
        PLAY_SLEEP_WHILE(&event->set, 0);
        return 0;
    }
    play_yield();
    return atomic_load_explicit(&event->set, memory_order_relaxed) != 0 ? 0 : -ETIMEDOUT;
}

static void event_close(void *world, struct w_io_event *event)
{
    (void)world;
    (void)event;
}

#endif
