/* SPDX-License-Identifier: MIT */
/* blob: a big payload, counted by references. Its bytes lie in a receive buffer, which it pins, or in a piece of a pool, which it owns.
 *
 * Any thread may hold a reference; the bytes stand still. A blob has a home, a shard or a thread's port, whose pool and receive buffers it is made of: the last
 * reference may go anywhere, the memory goes home (port.h says how). */
#ifndef W_BLOB_H
#define W_BLOB_H

#include <weir/conn.h>
#include <weir/port.h>

#include "runtime/core.h"

/* Below this a copy is cheaper than a reference (IO_URING.md, section 3). */
#define W_BLOB_WORTH_BYTES 4096u

/* Exactly one of piece and pinned is not NULL. */
struct weir_blob {
    struct w_core *core; /* its home, when that is a shard */
    weir_port *port;     /* its home, when that is a thread's port */
    struct w_pool *pool; /* of its home */
    weir_blob *next;     /* on its way home: the next of the chain */
    const uint8_t *data;
    void *piece;      /* the pool's piece the bytes lie in */
    uint32_t *pinned; /* the count of the connection that is charged for `buffer` (a slot's memory outlives its tenants) */
    uint32_t bytes;
    uint32_t piece_bytes;
    _Atomic uint32_t references; /* at least 1 */
    uint16_t buffer;
};

/* One reference each, the caller's; NULL: no memory (nothing taken over then). At home. */
weir_blob *w_blob_of_buffer(struct w_core *core, const uint8_t *data, uint32_t bytes, uint16_t buffer, uint32_t *pinned);
/* Takes over the piece. */
weir_blob *w_blob_of_piece(struct w_core *core, const uint8_t *data, uint32_t bytes, void *piece, uint32_t piece_bytes);
weir_blob *w_blob_copy(struct w_core *core, const uint8_t *data, uint32_t bytes);
weir_blob *w_blob_copy_of_port(weir_port *port, struct w_pool *pool, const uint8_t *data, uint32_t bytes);

/* One reference less, on the shard `here`; the pointer becomes NULL. The last one sends it home. */
void w_blob_release(struct w_core *here, weir_blob **blob);
/* One reference less: true when it was the last: the caller sees to w_blob_free. */
bool w_blob_drop(weir_blob *blob);
/* Gives its memory back, at home. */
void w_blob_free(weir_blob *blob);

#endif
