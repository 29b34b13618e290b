/* SPDX-License-Identifier: MIT */
/* blob: a big payload, counted by references. Its bytes lie in a receive buffer, which it pins, or in a piece of the pool, which it owns. */
#ifndef W_BLOB_H
#define W_BLOB_H

#include <weir/conn.h>

#include "runtime/core.h"

/* Below this a copy is cheaper than a reference (IO_URING.md, section 3). */
#define W_BLOB_WORTH_BYTES 4096u

/* Exactly one of piece and pinned is not NULL. */
struct weir_blob {
    struct w_core *core; /* whose pool and receive buffers */
    const uint8_t *data;
    void *piece;      /* the pool's piece the bytes lie in */
    uint32_t *pinned; /* the count of the connection that is charged for `buffer` (a slot's memory outlives its tenants) */
    uint32_t bytes;
    uint32_t piece_bytes;
    _Atomic uint32_t references; /* at least 1 */
    uint16_t buffer;
};

/* One reference each, the caller's; NULL: no memory (nothing taken over then). */
weir_blob *w_blob_of_buffer(struct w_core *core, const uint8_t *data, uint32_t bytes, uint16_t buffer, uint32_t *pinned);
/* Takes over the piece. */
weir_blob *w_blob_of_piece(struct w_core *core, const uint8_t *data, uint32_t bytes, void *piece, uint32_t piece_bytes);
weir_blob *w_blob_copy(struct w_core *core, const uint8_t *data, uint32_t bytes);

#endif
