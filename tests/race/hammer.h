/* SPDX-License-Identifier: MIT */
/* hammer: what the two halves of hammer share: its shapes. A shape is a small race between two threads, one half of a protocol each, as a
 * litmus test has it: it is run in many slots, millions of times, and how it came out is counted. */
#ifndef TEST_HAMMER_H
#define TEST_HAMMER_H

#include <stdbool.h>
#include <stdint.h>

#define HAMMER_SLOTS    128u
#define HAMMER_OUTCOMES 4u

struct hammer_shape {
    const char *name;
    const char *what;                      /* of weir's code is at work */
    const char *plant;                     /* the mistake that --plant makes */
    const char *outcomes[HAMMER_OUTCOMES]; /* up to the first NULL */
    uint32_t wrong;                        /* those that must not be, as bits */
    void (*open)(void);
    void (*begin)(uint32_t slot); /* while nobody else runs, as is judge */
    void (*left)(uint32_t slot);
    void (*right)(uint32_t slot);
    uint32_t (*judge)(uint32_t slot); /* which outcome */
};

#define HAMMER_SHAPES 8u
extern const struct hammer_shape hammer_shapes[HAMMER_SHAPES];

/* The shape that runs makes its mistake. */
extern bool hammer_planted;

#endif
