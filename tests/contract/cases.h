/* SPDX-License-Identifier: MIT */
/* cases: the contract's clauses as tests. Each runs against every world; the numbers in their comments are those of io.h. */
#ifndef TESTS_CONTRACT_CASES_H
#define TESTS_CONTRACT_CASES_H

#include <check.h>

#include "tests/contract/rig.h"

/* The world that the running test is for. */
extern const struct outside *cases_outside;

/* A connection accepted by the rig, and its peer. */
struct cases_pair {
    struct rig rig;
    struct w_io_address address;
    int listening, handle;
    struct outside_peer *peer;
};

void cases_pair_open(struct cases_pair *pair, uint64_t seed, uint32_t buffers, uint32_t buffer_bytes);
/* Closes what is left and the rig. */
void cases_pair_close(struct cases_pair *pair);

/* Adds the tests of a file: each `seeds` times. */
void cases_stream_add(TCase *tcase, int seeds);
void cases_socket_add(TCase *tcase, int seeds);
void cases_time_add(TCase *tcase, int seeds);

#endif
