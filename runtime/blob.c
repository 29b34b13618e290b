/* SPDX-License-Identifier: MIT */
/* blob: a big payload, counted by references. */
#include "runtime/blob.h"

#include <string.h>

static weir_blob *blob_create(struct w_pool *pool, const uint8_t *data, uint32_t bytes)
{
    weir_blob *blob = w_pool_take(pool, sizeof *blob);
    if (blob == NULL)
        return NULL;
    *blob = (weir_blob){.pool = pool, .data = data, .bytes = bytes};
    atomic_init(&blob->references, 1);
    return blob;
}

static weir_blob *blob_create_on(struct w_core *core, const uint8_t *data, uint32_t bytes)
{
    weir_blob *blob = blob_create(&core->pool, data, bytes);
    if (blob == NULL)
        return NULL;
    blob->core = core;
    core->blobs++;
    return blob;
}

weir_blob *w_blob_of_buffer(struct w_core *core, const uint8_t *data, uint32_t bytes, uint16_t buffer, uint32_t *pinned)
{
    weir_blob *blob = blob_create_on(core, data, bytes);
    if (blob == NULL)
        return NULL;
    core->engine->buffer_hold(core->io, buffer);
    blob->buffer = buffer;
    blob->pinned = pinned;
    (*pinned)++;
    return blob;
}

weir_blob *w_blob_of_piece(struct w_core *core, const uint8_t *data, uint32_t bytes, void *piece, uint32_t piece_bytes)
{
    weir_blob *blob = blob_create_on(core, data, bytes);
    if (blob == NULL)
        return NULL;
    blob->piece = piece;
    blob->piece_bytes = piece_bytes;
    return blob;
}

weir_blob *w_blob_copy(struct w_core *core, const uint8_t *data, uint32_t bytes)
{
    uint8_t *piece = w_pool_take(&core->pool, bytes);
    if (piece == NULL)
        return NULL;
    weir_blob *blob = w_blob_of_piece(core, piece, bytes, piece, bytes);
    if (blob == NULL) {
        w_pool_give(&core->pool, piece, bytes);
        return NULL;
    }
    memcpy(piece, data, bytes);
    return blob;
}

weir_blob *w_blob_copy_of_port(weir_port *port, struct w_pool *pool, const uint8_t *data, uint32_t bytes)
{
    uint8_t *piece = w_pool_take(pool, bytes);
    if (piece == NULL)
        return NULL;
    weir_blob *blob = blob_create(pool, piece, bytes);
    if (blob == NULL) {
        w_pool_give(pool, piece, bytes);
        return NULL;
    }
    blob->port = port;
    blob->piece = piece;
    blob->piece_bytes = bytes;
    memcpy(piece, data, bytes);
    return blob;
}

const uint8_t *weir_blob_data(const weir_blob *blob)
{
    return blob->data;
}

uint32_t weir_blob_bytes(const weir_blob *blob)
{
    return blob->bytes;
}

weir_blob *weir_blob_hold(weir_blob *blob)
{
    /* Relaxed: who holds a reference already may make another; nothing is published by it. */
    atomic_fetch_add_explicit(&blob->references, 1, memory_order_relaxed);
    return blob;
}

bool w_blob_drop(weir_blob *blob)
{
    /* Acquire and release: whatever other holders did with the bytes is over before the last one frees them. */
    return atomic_fetch_sub_explicit(&blob->references, 1, memory_order_acq_rel) == 1;
}

void w_blob_free(weir_blob *blob)
{
    struct w_core *core = blob->core;
    struct w_pool *pool = blob->pool;
    if (blob->pinned != NULL) {
        (*blob->pinned)--;
        core->engine->buffer_release(core->io, blob->buffer);
    } else {
        w_pool_give(pool, blob->piece, blob->piece_bytes);
    }
    w_pool_give(pool, blob, sizeof *blob);
    if (core == NULL)
        return;
    core->blobs--;
    /* Whoever waits for a buffer or for memory may go on. */
    if (W_UNLIKELY(!core->in_turn))
        core->engine->wake(core->io);
}

void w_blob_release(struct w_core *here, weir_blob **pointer)
{
    weir_blob *blob = *pointer;
    *pointer = NULL;
    if (blob == NULL || !w_blob_drop(blob))
        return;
    if (W_LIKELY(blob->core == here))
        w_blob_free(blob);
    else
        here->blob_away(here, blob);
}

void weir_blob_release(weir_blob **pointer)
{
    if (*pointer == NULL)
        return;
    w_core_require_thread((*pointer)->core, __func__);
    w_blob_release((*pointer)->core, pointer);
}
