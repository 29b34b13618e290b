/* SPDX-License-Identifier: MIT */
/* channel: what waits to go out on a connection, as the bytes that will go out. It is the send buffer: the writer sends straight from it.
 *
 *   blocks      [....sealed frames....|free|ends]  ->  [....|free|ends]     a chain, from the shard's pool, 4 to 64 KiB each
 *   references  {at which inline byte, blob, which of its bytes}            for big payloads, woven in between
 *
 * The first block is taken at the first put, each goes home when it is drained, so an idle channel holds nothing. A block keeps,
 * growing down from its end, the offsets at which messages end: two bytes a message, and with them a short send and a close
 * know exactly how many messages went out whole. This is the local channel: one thread. */
#ifndef W_CHANNEL_H
#define W_CHANNEL_H

#include <sys/uio.h>

#include <weir/codec.h>

#include "runtime/blob.h"
#include "runtime/core.h"

#define W_CHANNEL_BLOCK_MIN 4096u
#define W_CHANNEL_BLOCK_MAX 65536u

struct w_channel_block;
struct w_channel_references;

/* Invariant: queued_bytes = inline bytes from head to tail + all references' bytes; first is NULL exactly when last is; all pointers are NULL when
 * queued_bytes is 0. */
struct w_channel {
    struct w_channel_block *first, *last;
    struct w_channel_references *references; /* NULL exactly when none is queued */
    uint32_t begin_bytes;                    /* offset in `first` of the next byte to go out */
    uint32_t head_position, tail_position;   /* inline bytes gone and put, running free modulo 2^32 */
    uint32_t queued_bytes;
    uint32_t queued_messages;                /* not yet gone whole */
};

/* Puts one message: head, payload, trailer, copied. `boundary` false: bytes of a stream, not counted as a message.
 * 0, or -ENOMEM (nothing is put then). */
int w_channel_put(struct w_core *core, struct w_channel *channel, const weir_seal *seal, const uint8_t *payload, uint32_t bytes, bool boundary);
/* The same with the payload by reference; the channel takes a reference of its own. Falls back to copying when it has as many references as it can hold. */
int w_channel_put_blob(struct w_core *core, struct w_channel *channel, const weir_seal *seal, weir_blob *blob, uint32_t offset, uint32_t bytes,
                       bool boundary);

/* Room for `bytes` in one piece (at most W_CHANNEL_BLOCK_MAX less 64), at the tail; NULL: no memory. Good until anything else is done with the channel. */
uint8_t *w_channel_reserve(struct w_core *core, struct w_channel *channel, uint32_t bytes);
/* Publishes the first `bytes` of what was reserved, as one message. */
void w_channel_commit(struct w_channel *channel, uint32_t bytes, bool boundary);
/* Forgets a reserve: a channel that has nothing queued holds no block again. */
void w_channel_unreserve(struct w_core *core, struct w_channel *channel);

/* Where the next `bytes_max` bytes lie, in at most `count_max` pieces: answers how many pieces, and how many bytes they have. */
uint32_t w_channel_view(const struct w_channel *channel, uint32_t bytes_max, struct iovec *vectors, uint32_t count_max, uint32_t *bytes);
/* Moves the head over `bytes` that the kernel took; answers how many messages are gone whole by that. */
uint32_t w_channel_take(struct w_core *core, struct w_channel *channel, uint32_t bytes);
/* Sends everything home. Not while a send is in flight. */
void w_channel_drop(struct w_core *core, struct w_channel *channel);

#endif
