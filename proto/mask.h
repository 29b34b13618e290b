/* SPDX-License-Identifier: MIT */
/* mask: what a WebSocket client does to its payloads, and undoes: each byte exclusive-or one of four (RFC 6455, section 5.3). */
#ifndef W_MASK_H
#define W_MASK_H

#include <stddef.h>
#include <stdint.h>

/* In place, or from one place to another that does not overlap it. offset: of the first byte in its payload, so that a payload may be done in parts. */
void w_mask(uint8_t *to, const uint8_t *from, size_t bytes, const uint8_t key[4], size_t offset);

#endif
