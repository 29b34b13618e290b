/* SPDX-License-Identifier: MIT */
/* channel: what waits to go out on a connection.
 *
 * Road:    put: room in the last block -> copy head, payload, trailer -> note the end. view -> the writer sends -> take.
 * Ditches: no room -> more blocks first, all or none; message over a block -> it spans blocks; too many references -> copy;
 *          short send -> take moves the head into the middle of a message, which stays counted.
 *
 * A reference may stand for many messages: what a group was sent is sealed once, and lies in one blob for all its members (burst.h). */
#include "runtime/channel.h"

#include <errno.h>
#include <string.h>

struct reference {
    weir_blob *blob;
    const uint32_t *ends; /* where in the blob the messages end that end in it; NULL: at most one does, with the last byte */
    uint32_t at;          /* goes out when head_position is this */
    uint32_t offset;      /* of the next byte in the blob */
    uint32_t bytes;       /* still to go */
    uint32_t messages;    /* that end in what is still to go */
};

/* A ring; the newest is not always at the end of the array. It has one of two sizes: most channels never have more than a few. */
#define REFERENCES_FEW_BYTES 256u
#define REFERENCES_MAX_BYTES 4096u
struct w_channel_references {
    uint32_t head, count;
    uint32_t capacity;
    uint64_t bytes; /* of all of them */
    struct reference entries[];
};

static size_t references_bytes(const struct w_channel_references *references)
{
    return sizeof *references + references->capacity * sizeof *references->entries;
}

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

static void channel_count(struct w_channel *channel, uint32_t bytes, uint32_t messages)
{
    channel->queued_bytes += bytes;
    channel->queued_messages += messages;
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

int w_channel_put_copied(struct w_core *core, struct w_channel *channel, const weir_codec *codec, const weir_seal *seal,
                         const uint8_t *payload, uint32_t bytes)
{
    uint32_t total = seal->head_bytes + bytes + seal->trailer_bytes, offset = 0;
    struct w_channel_block *block = channel->last;
    if (total == 0)
        return 0;
    if (channel_make_room(core, channel, total) != 0)
        return -ENOMEM;
    if (block == NULL)
        block = channel->first;
    block = channel_spread(block, seal->head, seal->head_bytes);
    while (offset < bytes) {
        uint32_t piece = w_base_min_u32(bytes - offset, block->free_bytes);
        codec->copy(seal, block->data + block->used_bytes, payload + offset, piece, offset);
        block->used_bytes += piece;
        block->free_bytes -= piece;
        offset += piece;
        if (offset < bytes)
            block = block->next;
    }
    block = channel_spread(block, seal->trailer, seal->trailer_bytes);
    if (codec->boundaries)
        w_channel_note_end(block);
    channel_count(channel, total, codec->boundaries);
    return 0;
}

/* The i-th from the head. */
static inline struct reference *references_at(struct w_channel_references *references, uint32_t i)
{
    uint32_t index = references->head + i;
    return &references->entries[index >= references->capacity ? index - references->capacity : index];
}

/* A ring, or the larger one: false: no memory, or it is that already. */
static bool channel_grow_references(struct w_core *core, struct w_channel *channel)
{
    struct w_channel_references *old = channel->references;
    size_t bytes = old == NULL ? REFERENCES_FEW_BYTES : REFERENCES_MAX_BYTES;
    bool is_largest = old != NULL && references_bytes(old) > REFERENCES_FEW_BYTES;
    struct w_channel_references *references = is_largest ? NULL : w_pool_take(&core->pool, bytes);
    if (references == NULL)
        return false;
    *references = (struct w_channel_references){.capacity = (uint32_t)((bytes - sizeof *references) / sizeof *references->entries)};
    if (old != NULL) {
        references->count = old->count;
        references->bytes = old->bytes;
        for (uint32_t i = 0; i < old->count; i++)
            references->entries[i] = *references_at(old, i);
        w_pool_give(&core->pool, old, references_bytes(old));
    }
    channel->references = references;
    return true;
}

/* The place for one reference more, counted already, or NULL. */
static struct reference *channel_new_reference(struct w_core *core, struct w_channel *channel)
{
    struct w_channel_references *references = channel->references;
    if ((references == NULL || references->count == references->capacity) && !channel_grow_references(core, channel))
        return NULL;
    references = channel->references;
    return references_at(references, references->count++);
}

/* Where the inline bytes end. */
static uint32_t channel_inline_end(const struct w_channel *channel)
{
    return channel->head_position + channel->queued_bytes - (uint32_t)channel->references->bytes;
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
    uint32_t at = channel_inline_end(channel);
    channel->references->bytes += bytes;
    if (block == NULL)
        block = channel->first;
    if (seal->head_bytes != 0)
        block = channel_spread(block, seal->head, seal->head_bytes);
    *reference = (struct reference){.blob = weir_blob_hold(blob),
                                    .at = at + seal->head_bytes,
                                    .offset = offset,
                                    .bytes = bytes,
                                    .messages = boundary && seal->trailer_bytes == 0};
    if (seal->trailer_bytes != 0) {
        block = channel_spread(block, seal->trailer, seal->trailer_bytes);
        if (boundary)
            w_channel_note_end(block);
    }
    channel_count(channel, round_bytes + bytes, boundary);
    return 0;
}

bool w_channel_put_shared(struct w_core *core, struct w_channel *channel, weir_blob *blob, const uint32_t *ends, uint32_t messages)
{
    struct reference *reference = channel_new_reference(core, channel);
    if (reference == NULL)
        return false;
    *reference = (struct reference){
        .blob = weir_blob_hold(blob), .ends = ends, .at = channel_inline_end(channel), .bytes = blob->bytes, .messages = messages};
    channel->references->bytes += blob->bytes;
    channel_count(channel, blob->bytes, messages);
    return true;
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
    return references == NULL || number >= references->count ? NULL : references_at(references, number);
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
            if (reference->messages > 0)
                return sum + (reference->ends == NULL ? reference->bytes : *reference->ends - reference->offset);
            sum += reference->bytes;
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

/* Some of its bytes are gone, not all. */
static uint32_t reference_count_gone(struct reference *reference)
{
    uint32_t gone = 0;
    if (reference->ends == NULL)
        return 0;
    while (gone < reference->messages && reference->ends[gone] <= reference->offset)
        gone++;
    reference->ends += gone;
    reference->messages -= gone;
    return gone;
}

static uint32_t channel_take_reference(struct w_core *core, struct w_channel *channel, struct reference *reference, uint32_t bytes,
                                       uint32_t *messages)
{
    uint32_t piece = w_base_min_u32(bytes, reference->bytes);
    reference->offset += piece;
    reference->bytes -= piece;
    channel->references->bytes -= piece;
    if (reference->bytes > 0) {
        *messages += reference_count_gone(reference);
        return piece;
    }
    *messages += reference->messages;
    w_blob_release(core, &reference->blob);
    struct w_channel_references *references = channel->references;
    references->head = references->head + 1 == references->capacity ? 0 : references->head + 1;
    if (--references->count == 0) {
        w_pool_give(&core->pool, references, references_bytes(references));
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
        w_pool_give(&core->pool, channel->references, references_bytes(channel->references));
    }
    channel->first = channel->last = NULL;
    channel->references = NULL;
    channel->begin_bytes = 0;
    channel->queued_messages = 0;
    channel->queued_bytes = 0;
}
