/* SPDX-License-Identifier: MIT */
/* upgrade: makes connections that stand WebSockets: the client's side of the handshake (RFC 6455, section 4.1), as little of it as a load needs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* One handshake, on a nonblocking descriptor: 0, or an errno (EPROTO: it was answered, but not by 101). */
int upgrade_one(int descriptor);

/* One after the other. On failure it says why on standard error. */
bool upgrade_all(const int *sockets, uint32_t count);
