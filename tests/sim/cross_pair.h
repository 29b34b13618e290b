/* SPDX-License-Identifier: MIT */
/* cross_pair: runs that come in pairs, equal but for one who is dead, or slow: what do the others notice?
 *
 * One thread sends to a group and to its members directly, on two shards. In the first part of both runs a member reads nothing until nothing more can be queued for
 * it, and another thread stops in the middle of what it was doing. In the second part they are there in the one run, and not in the other; everything that
 * comes to the others is noted with its virtual time. */
#ifndef TESTS_SIM_CROSS_PAIR_H
#define TESTS_SIM_CROSS_PAIR_H

#include <stdint.h>

enum cross_pair_kind {
    CROSS_PAIR_WITHOUT, /* from the second part on: it has left, and nobody sends to it */
    CROSS_PAIR_DEAD,    /* it is a member, it is sent to, and reads nothing */
    CROSS_PAIR_ALONE,   /* it was never there */
    CROSS_PAIR_SLOW,    /* it reads a little now and then, from the beginning */
};

#define CROSS_PAIR_CLIENTS    6
#define CROSS_PAIR_DELIVERIES 8192

struct cross_pair_delivery {
    uint32_t client, order;
    uint64_t sent_ns, came_ns;
};

struct cross_pair_result {
    uint64_t hash;            /* of everything that has happened in the simulated world */
    uint64_t missed, refused; /* of the dead one: messages of the group, sends */
    uint32_t count;
    struct cross_pair_delivery deliveries[CROSS_PAIR_DELIVERIES]; /* of the second part, by when they came */
};

void cross_pair_run(uint64_t seed, enum cross_pair_kind kind, struct cross_pair_result *result);

#endif
