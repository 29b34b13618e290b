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

#include <endian.h>
#include <string.h>
#include <sys/uio.h>

#include <weir/codec.h>

#include "runtime/blob.h"
#include "runtime/core.h"

#define W_CHANNEL_BLOCK_MIN   4096u
#define W_CHANNEL_BLOCK_CROWD 1024u /* the first one, when a group is sent to */
#define W_CHANNEL_BLOCK_MAX   65536u

/* Data from the front; from the back, growing down, the offsets at which messages end. */
struct w_channel_block {
    struct w_channel_block *next;
    uint16_t *ends;      /* the latest end; at first, just behind the block */
    uint32_t size_bytes; /* the whole piece */
    uint32_t used_bytes; /* of data */
    uint32_t free_bytes; /* for data and ends, with one end more set aside */
    uint32_t end_taken;  /* so many ends are gone */
    uint8_t data[];
};

struct w_channel_references;

/* Invariant: queued_bytes = inline bytes from head to tail + all references' bytes; first is NULL exactly when last is; all pointers are NULL when
 * queued_bytes is 0. */
struct w_channel {
    struct w_channel_block *first, *last;
    struct w_channel_references *references; /* NULL exactly when none is queued */
    uint32_t begin_bytes;                    /* offset in `first` of the next byte to go out */
    uint32_t head_position;                  /* inline bytes gone, running free modulo 2^32 */
    uint32_t queued_bytes;
    uint32_t queued_messages; /* not yet gone whole */
};

/* The long way of w_channel_put, for a message that the last block has no room for. */
int w_channel_put_spread(struct w_core *core, struct w_channel *channel, const weir_seal *seal, const uint8_t *payload, uint32_t bytes,
                         bool boundary);
/* Puts one message: head, payload, trailer, copied. `boundary` false: bytes of a stream, not counted as a message.
 * 0, or -ENOMEM (nothing is put then). */
static inline int w_channel_put(struct w_core *core, struct w_channel *channel, const weir_seal *seal, const uint8_t *payload,
                                uint32_t bytes, bool boundary);
/* The same of what `seal` of this codec has said, for codecs that change what they copy too. */
int w_channel_put_copied(struct w_core *core, struct w_channel *channel, const weir_codec *codec, const weir_seal *seal,
                         const uint8_t *payload, uint32_t bytes);
static inline int w_channel_put_sealed(struct w_core *core, struct w_channel *channel, const weir_codec *codec, const weir_seal *seal,
                                       const uint8_t *payload, uint32_t bytes)
{
    return W_LIKELY(codec->copy == NULL) ? w_channel_put(core, channel, seal, payload, bytes, codec->boundaries)
                                         : w_channel_put_copied(core, channel, codec, seal, payload, bytes);
}
/* The same with the payload by reference; the channel takes a reference of its own. Falls back to copying when it has as many references as it can hold. */
int w_channel_put_blob(struct w_core *core, struct w_channel *channel, const weir_seal *seal, weir_blob *blob, uint32_t offset,
                       uint32_t bytes, bool boundary);
/* Puts the whole of a blob, which has several messages in it, sealed, by reference: the channel takes one of its own. ends: where in the blob each of the
 * `messages` ends, ascending, there as long as the blob is; NULL with no messages: bytes of a stream. False: nothing is put, there is no room for a
 * reference. */
bool w_channel_put_shared(struct w_core *core, struct w_channel *channel, weir_blob *blob, const uint32_t *ends, uint32_t messages);

/* Room for `bytes` in one piece (at most W_CHANNEL_BLOCK_MAX less 64), at the tail; NULL: no memory. Good until anything else is done with the channel. */
uint8_t *w_channel_reserve(struct w_core *core, struct w_channel *channel, uint32_t bytes);
/* Publishes the first `bytes` of what was reserved, as one message. */
void w_channel_commit(struct w_channel *channel, uint32_t bytes, bool boundary);
/* Forgets a reserve: a channel that has nothing queued holds no block again. */
void w_channel_unreserve(struct w_core *core, struct w_channel *channel);

/* Where the next `bytes_max` bytes lie, in at most `count_max` pieces: answers how many pieces, and how many bytes they have. */
uint32_t w_channel_view(const struct w_channel *channel, uint32_t bytes_max, struct iovec *vectors, uint32_t count_max, uint32_t *bytes);
/* Bytes from the head to the next end of a message behind it. Not for an empty channel, or one without boundaries. */
uint32_t w_channel_to_boundary(const struct w_channel *channel);
/* Moves the head over `bytes` that the kernel took; answers how many messages are gone whole by that. */
uint32_t w_channel_take(struct w_core *core, struct w_channel *channel, uint32_t bytes);
/* Sends everything home. Not while a send is in flight. */
void w_channel_drop(struct w_core *core, struct w_channel *channel);

/* --- the way of a small message, in line: some twenty-five instructions beside the copy --- */

/* A message ends at what is used now. There is room for it: free_bytes never gives the last one away. */
static inline void w_channel_note_end(struct w_channel_block *block)
{
    *--block->ends = (uint16_t)block->used_bytes;
    block->free_bytes -= block->free_bytes >= sizeof(uint16_t) ? (uint32_t)sizeof(uint16_t) : block->free_bytes;
}

/* Copies of up to 64 bytes without a call: two or four overlapping pieces of a fixed size. */
static inline void w_channel_copy(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    if (bytes - 16 <= 16) {
        memcpy(to + bytes - 16, from + bytes - 16, 16);
        memcpy(to, from, 16);
    } else if (bytes - 32 <= 32) {
        memcpy(to, from, 32);
        memcpy(to + bytes - 32, from + bytes - 32, 32);
    } else if (bytes > 0) {
        memcpy(to, from, bytes);
    }
}

/* The head of a codec that says its length_bytes: a word, of whose bytes in memory those are the first. */
static inline uint64_t w_channel_length_head(const weir_codec *codec, uint32_t bytes)
{
    uint64_t length = (uint64_t)bytes + codec->length_extra;
    return W_LIKELY(!codec->length_big_endian) ? htole64(length) : htobe64(length << (64 - 8 * codec->length_bytes));
}

/* A block that has room takes so many bytes, which are a message or only bytes: where they go. */
static inline uint8_t *w_channel_place(struct w_channel *channel, struct w_channel_block *block, uint32_t bytes, bool message)
{
    uint8_t *to = block->data + block->used_bytes;
    uint32_t used_bytes = block->used_bytes += bytes;
    block->free_bytes -= bytes + (uint32_t)sizeof(uint16_t);
    channel->queued_bytes += bytes;
    if (message) {
        *--block->ends = (uint16_t)used_bytes;
        channel->queued_messages++;
    }
    return to;
}

static inline int w_channel_put(struct w_core *core, struct w_channel *channel, const weir_seal *seal, const uint8_t *payload,
                                uint32_t bytes, bool boundary)
{
    uint32_t head_bytes = seal->head_bytes, total = head_bytes + bytes + seal->trailer_bytes;
    struct w_channel_block *block = channel->last;
    /* The whole of seal->head is copied, whatever its length: a store, not a call. What is too much is written over, or lies in free room. */
    if (W_UNLIKELY(block == NULL || block->free_bytes < total + WEIR_HEAD_MAX_BYTES || seal->trailer_bytes != 0))
        return w_channel_put_spread(core, channel, seal, payload, bytes, boundary);
    uint8_t *to = w_channel_place(channel, block, total, boundary && total > 0);
    memcpy(to, seal->head, WEIR_HEAD_MAX_BYTES);
    w_channel_copy(to + head_bytes, payload, bytes);
    return 0;
}

/* The same where the codec says its length_bytes, for a payload that is not too large. False: nothing is put, the last block has no room for it. */
static inline bool w_channel_put_length(struct w_channel *channel, const weir_codec *codec, const uint8_t *payload, uint32_t bytes)
{
    uint32_t head_bytes = codec->length_bytes, total = head_bytes + bytes;
    struct w_channel_block *block = channel->last;
    uint64_t head = w_channel_length_head(codec, bytes);
    if (W_UNLIKELY(block == NULL || block->free_bytes < total + sizeof head))
        return false;
    uint8_t *to = w_channel_place(channel, block, total, codec->boundaries);
    memcpy(to, &head, sizeof head);
    w_channel_copy(to + head_bytes, payload, bytes);
    return true;
}

#endif
