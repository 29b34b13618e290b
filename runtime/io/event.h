/* SPDX-License-Identifier: MIT */
/* event: what a thread that is not a shard's sleeps on, on the real kernel: the event_...() of the engine (io.h says what they promise).
 *
 * A futex on the event's own word: one system call to sleep and one to wake, and nothing to open. Only when the thread has asked for a descriptor, to sleep on it
 * among others, it is an eventfd, and poll waits for that one too. */
#ifndef W_IO_EVENT_H
#define W_IO_EVENT_H

#include "runtime/io/io.h"

void w_event_set(void *world, struct w_io_event *event);
void w_event_reset(void *world, struct w_io_event *event);
int w_event_wait(void *world, struct w_io_event *event, uint64_t wait_ns);
int w_event_descriptor(void *world, struct w_io_event *event);
void w_event_close(void *world, struct w_io_event *event);

#endif
