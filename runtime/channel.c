/* SPDX-License-Identifier: MIT */
/* channel: what waits to go out on a connection.
 *
 * Road:    put: room in the last block -> copy head, payload, trailer -> note the end. view -> the writer sends -> take.
 * Ditches: no room -> more blocks first, all or none; message over a block -> it spans blocks; too many references -> copy;
 *          short send -> take moves the head into the middle of a message, which stays counted. */
#include "runtime/channel.h"

#include <errno.h>
#include <string.h>

struct reference {
    weir_blob *blob;
    uint32_t at;     /* goes out when head_position is this */
    uint32_t offset; /* of the next byte in the blob */
    uint32_t bytes;  /* still to go */
    bool boundary;   /* a message ends with it */
};

/* A ring in a piece of one block; the newest is not always at the end of the array. */
#define REFERENCES_MAX 127u
struct w_channel_references {
    uint32_t head, count;
    uint64_t bytes; /* of all of them */
    struct reference entries[REFERENCES_MAX];
};
_Static_assert(sizeof(struct w_channel_references) <= W_CHANNEL_BLOCK_MIN, "references fit the smallest block");

#define BLOCK_HEADER_BYTES ((uint32_t)offsetof(struct w_channel_block, data))

/* --- blocks --- */

static inline uint16_t *block_ends_top(const struct w_channel_block *block)
{
    return (uint16_t *)(void *)((uint8_t *)(uintptr_t)block + block->size_bytes);
}

static inline uint32_t block_end_count(const struct w_channel_block *block)
{
    return (uint32_t)(block_ends_top(block) - block->ends);
}

static struct w_channel_block *block_create(struct w_core *core, uint32_t size_bytes)
{
    struct w_channel_block *block = w_pool_take(&core->pool, size_bytes);
    if (block != NULL)
        *block = (struct w_channel_block){.size_bytes = size_bytes,
                                          .free_bytes = size_bytes - BLOCK_HEADER_BYTES - (uint32_t)sizeof(uint16_t),
                                          .ends = (uint16_t *)(void *)((uint8_t *)block + size_bytes)};
    return block;
}

static inline void block_destroy(struct w_core *core, struct w_channel_block *block)
{
    w_pool_give(&core->pool, block, block->size_bytes);
}

static void block_chain_destroy(struct w_core *core, struct w_channel_block *block)
{
    while (block != NULL) {
        struct w_channel_block *next = block->next;
        block_destroy(core, block);
        block = next;
    }
}

/* The next block's size: twice the last one's, at least what is wanted, within the bounds. */
static uint32_t channel_next_block_bytes(const struct w_core *core, const struct w_channel_block *last, uint32_t wanted_bytes)
{
    uint32_t size = last != NULL ? last->size_bytes * 2 : core->crowd ? W_CHANNEL_BLOCK_CROWD : W_CHANNEL_BLOCK_MIN;
    while (size < W_CHANNEL_BLOCK_MAX && size - BLOCK_HEADER_BYTES - sizeof(uint16_t) < wanted_bytes)
        size *= 2;
    return w_base_min_u32(size, W_CHANNEL_BLOCK_MAX);
}

static void channel_append(struct w_channel *channel, struct w_channel_block *block)
{
    if (channel->last == NULL) {
        channel->first = block;
        channel->begin_bytes = 0;
    } else {
        channel->last->next = block;
    }
    while (block->next != NULL)
        block = block->next;
    channel->last = block;
}

/* --- putting --- */

/* Copies into the blocks from `block` on, which have room. Answers the block that holds the last byte. */
static struct w_channel_block *channel_spread(struct w_channel_block *block, const uint8_t *data, uint32_t bytes)
{
    while (bytes > 0) {
        uint32_t piece = w_base_min_u32(bytes, block->free_bytes);
        memcpy(block->data + block->used_bytes, data, piece);
        block->used_bytes += piece;
        block->free_bytes -= piece;
        data += piece;
        bytes -= piece;
        if (bytes > 0)
            block = block->next;
    }
    return block;
}

/* Chains on as many blocks as `bytes` need beyond what the last one has; all or none. */
static int channel_make_room(struct w_core *core, struct w_channel *channel, uint32_t bytes)
{
    struct w_channel_block *tail = channel->last, *first = NULL, **link = &first;
    uint32_t room = tail == NULL ? 0 : tail->free_bytes;
    while (room < bytes) {
        struct w_channel_block *block = block_create(core, channel_next_block_bytes(core, tail, bytes - room));
        if (block == NULL) {
            block_chain_destroy(core, first);
            return -ENOMEM;
        }
        *link = block;
        link = &block->next;
        room += block->free_bytes;
        tail = block;
    }
    if (first != NULL)
        channel_append(channel, first);
    return 0;
}

static void channel_count(struct w_channel *channel, uint32_t bytes, bool boundary)
{
    channel->queued_bytes += bytes;
    channel->queued_messages += boundary;
}

int w_channel_put_spread(struct w_core *core, struct w_channel *channel, const weir_seal *seal, const uint8_t *payload, uint32_t bytes,
                         bool boundary)
{
    uint32_t total = seal->head_bytes + bytes + seal->trailer_bytes;
    struct w_channel_block *block = channel->last;
    if (total == 0)
        return 0;
    if (channel_make_room(core, channel, total) != 0)
        return -ENOMEM;
    if (block == NULL)
        block = channel->first;
    block = channel_spread(block, seal->head, seal->head_bytes);
    block = channel_spread(block, payload, bytes);
    block = channel_spread(block, seal->trailer, seal->trailer_bytes);
    if (boundary)
        w_channel_note_end(block);
    channel_count(channel, total, boundary);
    return 0;
}

/* The place for one reference more, or NULL. */
static struct reference *channel_new_reference(struct w_core *core, struct w_channel *channel)
{
    struct w_channel_references *references = channel->references;
    if (references == NULL) {
        references = w_pool_take(&core->pool, sizeof *references);
        if (references == NULL)
            return NULL;
        references->head = references->count = 0;
        references->bytes = 0;
        channel->references = references;
    }
    if (references->count == REFERENCES_MAX)
        return NULL;
    uint32_t index = references->head + references->count++;
    return &references->entries[index >= REFERENCES_MAX ? index - REFERENCES_MAX : index];
}

int w_channel_put_blob(struct w_core *core, struct w_channel *channel, const weir_seal *seal, weir_blob *blob, uint32_t offset,
                       uint32_t bytes, bool boundary)
{
    uint32_t round_bytes = seal->head_bytes + seal->trailer_bytes;
    struct w_channel_block *block = channel->last;
    if (channel_make_room(core, channel, round_bytes) != 0)
        return -ENOMEM;
    struct reference *reference = channel_new_reference(core, channel);
    if (reference == NULL) {
        int copied = w_channel_put(core, channel, seal, blob->data + offset, bytes, boundary);
        w_channel_unreserve(core, channel);
        return copied;
    }
    /* Where the inline bytes end. */
    uint32_t at = channel->head_position + channel->queued_bytes - (uint32_t)channel->references->bytes;
    channel->references->bytes += bytes;
    if (block == NULL)
        block = channel->first;
    if (seal->head_bytes != 0)
        block = channel_spread(block, seal->head, seal->head_bytes);
    *reference = (struct reference){.blob = weir_blob_hold(blob),
                                    .at = at + seal->head_bytes,
                                    .offset = offset,
                                    .bytes = bytes,
                                    .boundary = boundary && seal->trailer_bytes == 0};
    if (seal->trailer_bytes != 0) {
        block = channel_spread(block, seal->trailer, seal->trailer_bytes);
        if (boundary)
            w_channel_note_end(block);
    }
    channel_count(channel, round_bytes + bytes, boundary);
    return 0;
}

uint8_t *w_channel_reserve(struct w_core *core, struct w_channel *channel, uint32_t bytes)
{
    struct w_channel_block *block = channel->last;
    if (block == NULL || block->free_bytes < bytes) {
        block = block_create(core, channel_next_block_bytes(core, channel->last, bytes));
        if (block == NULL)
            return NULL;
        channel_append(channel, block);
    }
    return block->data + block->used_bytes;
}

void w_channel_commit(struct w_channel *channel, uint32_t bytes, bool boundary)
{
    struct w_channel_block *block = channel->last;
    if (bytes == 0)
        return;
    block->used_bytes += bytes;
    block->free_bytes -= bytes;
    if (boundary)
        w_channel_note_end(block);
    channel_count(channel, bytes, boundary);
}

void w_channel_unreserve(struct w_core *core, struct w_channel *channel)
{
    if (channel->queued_bytes == 0)
        w_channel_drop(core, channel);
}

/* --- taking --- */

static inline struct reference *channel_reference(const struct w_channel *channel, uint32_t number)
{
    struct w_channel_references *references = channel->references;
    if (references == NULL || number >= references->count)
        return NULL;
    uint32_t index = references->head + number;
    return &references->entries[index >= REFERENCES_MAX ? index - REFERENCES_MAX : index];
}

uint32_t w_channel_view(const struct w_channel *channel, uint32_t bytes_max, struct iovec *vectors, uint32_t count_max, uint32_t *bytes)
{
    const struct w_channel_block *block = channel->first;
    uint32_t offset = channel->begin_bytes, position = channel->head_position, number = 0, count = 0, sum = 0;
    while (count < count_max && sum < bytes_max) {
        const struct reference *reference = channel_reference(channel, number);
        const uint8_t *from;
        uint32_t piece;
        if (reference != NULL && reference->at == position) {
            from = reference->blob->data + reference->offset;
            piece = w_base_min_u32(reference->bytes, bytes_max - sum);
            number++;
        } else if (block == NULL) {
            break;
        } else if (offset == block->used_bytes) {
            block = block->next;
            offset = 0;
            continue;
        } else {
            from = block->data + offset;
            piece = w_base_min_u32(block->used_bytes - offset, bytes_max - sum);
            if (reference != NULL)
                piece = w_base_min_u32(piece, reference->at - position);
            offset += piece;
            position += piece;
        }
        vectors[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)from, .iov_len = piece};
        sum += piece;
    }
    *bytes = sum;
    return count;
}

/* In `block`, the first end of a message that is not gone; 0: none (no message ends at 0). */
static uint32_t block_next_end(const struct w_channel_block *block)
{
    return block->end_taken < block_end_count(block) ? *(block_ends_top(block) - 1 - block->end_taken) : 0;
}

uint32_t w_channel_to_boundary(const struct w_channel *channel)
{
    const struct w_channel_block *block = channel->first;
    uint32_t offset = channel->begin_bytes, position = channel->head_position, number = 0, sum = 0;
    for (;;) {
        const struct reference *reference = channel_reference(channel, number);
        if (reference != NULL && reference->at == position) {
            sum += reference->bytes;
            if (reference->boundary)
                return sum;
            number++;
            continue;
        }
        W_ASSERT(block != NULL);
        uint32_t end = block_next_end(block), piece = (end != 0 ? end : block->used_bytes) - offset;
        bool interrupted = reference != NULL && reference->at - position < piece;
        if (interrupted)
            piece = reference->at - position;
        sum += piece;
        position += piece;
        offset += piece;
        if (interrupted)
            continue;
        if (end != 0)
            return sum;
        block = block->next;
        offset = 0;
    }
}

static uint32_t channel_take_reference(struct w_core *core, struct w_channel *channel, struct reference *reference, uint32_t bytes,
                                       uint32_t *messages)
{
    uint32_t piece = w_base_min_u32(bytes, reference->bytes);
    reference->offset += piece;
    reference->bytes -= piece;
    channel->references->bytes -= piece;
    if (reference->bytes > 0)
        return piece;
    *messages += reference->boundary;
    w_blob_release(core, &reference->blob);
    struct w_channel_references *references = channel->references;
    references->head = references->head + 1 == REFERENCES_MAX ? 0 : references->head + 1;
    if (--references->count == 0) {
        w_pool_give(&core->pool, references, sizeof *references);
        channel->references = NULL;
    }
    return piece;
}

static uint32_t channel_take_inline(struct w_core *core, struct w_channel *channel, uint32_t bytes_max, uint32_t *messages)
{
    struct w_channel_block *block = channel->first;
    uint32_t piece = w_base_min_u32(bytes_max, block->used_bytes - channel->begin_bytes);
    channel->begin_bytes += piece;
    channel->head_position += piece;
    if (channel->begin_bytes == block->used_bytes) {
        *messages += block_end_count(block) - block->end_taken;
        block->end_taken = block_end_count(block);
        if (block->next != NULL) {
            channel->first = block->next;
            channel->begin_bytes = 0;
            block_destroy(core, block);
        }
        return piece;
    }
    const uint16_t *first_end = block_ends_top(block) - 1;
    while (block->end_taken < block_end_count(block) && *(first_end - block->end_taken) <= channel->begin_bytes) {
        block->end_taken++;
        *messages += 1;
    }
    return piece;
}

uint32_t w_channel_take(struct w_core *core, struct w_channel *channel, uint32_t bytes)
{
    uint32_t messages = 0, left = bytes;
    W_ASSERT(bytes <= channel->queued_bytes);
    while (left > 0) {
        struct reference *reference = channel_reference(channel, 0);
        if (reference != NULL && reference->at == channel->head_position) {
            left -= channel_take_reference(core, channel, reference, left, &messages);
        } else {
            uint32_t most = reference == NULL ? left : w_base_min_u32(left, reference->at - channel->head_position);
            left -= channel_take_inline(core, channel, most, &messages);
        }
    }
    channel->queued_bytes -= bytes;
    channel->queued_messages -= messages;
    if (channel->queued_bytes == 0)
        w_channel_drop(core, channel);
    return messages;
}

void w_channel_drop(struct w_core *core, struct w_channel *channel)
{
    block_chain_destroy(core, channel->first);
    if (channel->references != NULL) {
        for (uint32_t i = 0; i < channel->references->count; i++)
            w_blob_release(core, &channel_reference(channel, i)->blob);
        w_pool_give(&core->pool, channel->references, sizeof *channel->references);
    }
    channel->first = channel->last = NULL;
    channel->references = NULL;
    channel->begin_bytes = 0;
    channel->queued_messages = 0;
    channel->queued_bytes = 0;
}
