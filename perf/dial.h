/* SPDX-License-Identifier: MIT */
/* dial: opens many connections at once, and closes them again. */
#pragma once

#include "address.h"

#include <stdbool.h>
#include <stdint.h>

/* Opens `count` nonblocking connections, raising the limit of descriptors as far as it may. Waits until all stand. On failure
 * it says why on standard error, leaves none open and returns false. */
bool dial_open(const struct address *address, int *sockets, uint32_t count);

/* Closes one with a reset: a graceful close would leave its port in TIME_WAIT for a minute, and a few runs of 10,000
 * connections would use all ports up. */
void dial_close(int descriptor);
