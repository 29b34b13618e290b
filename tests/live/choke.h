/* SPDX-License-Identifier: MIT */
/* choke: a connection whose other end reads only when the test says so. It is one end of a unix socket pair, adopted: there, what the
 * kernel has taken is exactly what the visitor can read. */
#ifndef TEST_CHOKE_H
#define TEST_CHOKE_H

#include "fixture.h"

struct choke {
    struct fixture fixture;
    struct witness witness;
    int visitor;
    uint64_t accepted_messages, accepted_bytes; /* by choke_send; bytes as on the wire, four more than the payload */
};

/* `adjust` may change the protocol; NULL: as it is. */
void choke_open(struct choke *choke, void (*adjust)(weir_protocol *protocol));
void choke_connect(struct choke *choke);
void choke_close(struct choke *choke);
/* Sends message number accepted_messages, filled with that number as its seed; answers what weir_send answers. */
int choke_send(struct choke *choke, uint32_t bytes);
/* Turns until the kernel takes no more. */
void choke_settle(struct choke *choke);
uint64_t choke_queued_bytes(const struct choke *choke);
/* Takes all that can be read without turning: how many bytes. */
uint64_t choke_take_all(struct choke *choke);

#endif
