/* SPDX-License-Identifier: MIT */
/* audience: the far ends of many connections, read by a thread of its own. Each message says who made it and which of his to this
 * connection it is; the audience checks that each is whole, and that each producer's come in order with none missing and none twice.
 * It can be slow, and it can leave.
 *
 *     audience_open(&audience, 100, producers);
 *     audience.ears[i].descriptor = ...;          // a non-blocking socket, the audience's from now on
 *     audience_start(&audience);
 *     ...
 *     audience_finish(&audience);                  // waits until each ear has heard the end (or left), then joins
 *     ...audience.ears[i].next[producer]: how many came...
 *     audience_close(&audience); */
#ifndef TEST_AUDIENCE_H
#define TEST_AUDIENCE_H

#include "fixture.h"

#define AUDIENCE_MESSAGE_MIN_BYTES 8

/* Writes a message: who, which, and a pattern that is different for each. */
void audience_fill(void *payload, uint32_t bytes, uint32_t producer, uint32_t sequence);
/* Whole, and from the producer and the place it says; answers these. */
bool audience_read(const void *payload, uint32_t bytes, uint32_t *producer, uint32_t *sequence);

enum ear_exit {
    EAR_CLOSES = 0, /* with whatever is unread */
    EAR_RESETS,     /* TCP only */
    EAR_FINISHES,   /* says that it sends no more, and goes on reading */
};

struct ear {
    int descriptor; /* -1: it has heard the end, or has left */
    uint32_t number;
    uint32_t slow_bytes;  /* it reads so many each millisecond; 0: all there is */
    uint64_t leave_after; /* so many messages; 0: it stays */
    enum ear_exit exit;
    uint32_t *next; /* for each producer: how many have come */
    atomic_uint_fast64_t messages;
    uint64_t bytes;
    int error; /* what ended it: 0 the end, else an errno */
    bool left; /* it has not waited for everything */
    uint8_t *pending;
    uint32_t pending_bytes, room_bytes;
};

struct audience {
    uint32_t ear_count, producer_count;
    struct ear *ears;
    bool lines; /* messages are hexadecimal lines, not frames */
    bool gaps;  /* messages may be missing; never twice, never out of order */
    pthread_t thread;
    bool started;
    int epoll;
    atomic_bool stop;
    atomic_uint_fast64_t messages, bytes;
    atomic_uint over; /* ears that have heard the end or left */
};

void audience_open(struct audience *audience, uint32_t ears, uint32_t producers);
void audience_start(struct audience *audience);
/* Waits until all are over. */
void audience_finish(struct audience *audience);
/* Stops at once: nothing more is read, the descriptors are closed. */
void audience_stop(struct audience *audience);
void audience_close(struct audience *audience);
/* Of one producer, on all ears. */
uint64_t audience_heard(const struct audience *audience, uint32_t producer);

#endif
