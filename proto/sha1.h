/* SPDX-License-Identifier: MIT */
/* sha1: the hash of FIPS 180-4 and RFC 3174, for the WebSocket handshake, which asks for it (RFC 6455, section 4.2.2). Good for nothing that has to be secret. */
#ifndef W_SHA1_H
#define W_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define W_SHA1_BYTES 20

void w_sha1(const void *data, size_t bytes, uint8_t digest[W_SHA1_BYTES]);

#endif
