/* SPDX-License-Identifier: MIT */
/* dial: opens many connections at once, and closes them again.
 *
 * To a server at an IPv4 loopback address they come from many addresses (127.0.0.1, 127.0.0.2 and on), since each has only some 28,000
 * ports to dial from. A server elsewhere is dialled from the one address that the kernel picks. */
#pragma once

#include "address.h"

#include <stdbool.h>
#include <stdint.h>

#define DIAL_WHY_BYTES 160

/* Opens `count` nonblocking connections, raising the limit of descriptors as far as it may. Waits until all stand. On failure
 * it says why on standard error, leaves none open and returns false. */
bool dial_open(const struct address *address, int *sockets, uint32_t count);

/* As many as there may be, `count` at most: what stands when a limit is met stays open. Returns how many; `why` says which limit it was,
 * and is empty when all stand. */
uint32_t dial_open_most(const struct address *address, int *sockets, uint32_t count, char why[DIAL_WHY_BYTES]);

/* Begins one nonblocking connection; its descriptor becomes writable when it stands. `source` 0 leaves to the kernel where it comes from;
 * the others below dial_source_count() are loopback addresses. Returns the descriptor, or a negative errno; -EAGAIN: a unix socket's
 * backlog is full. */
int dial_begin(const struct address *address, uint32_t source);
uint32_t dial_source_count(const struct address *address);

/* What became of it, once it is writable: 0 or an errno. */
int dial_error(int descriptor);

/* Closes one with a reset: a graceful close would leave its port in TIME_WAIT for a minute, and a few runs of 10,000
 * connections would use all ports up. */
void dial_close(int descriptor);
