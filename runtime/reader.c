/* SPDX-License-Identifier: MIT */
/* reader: turns received bytes into messages.
 *
 * Road:    bytes in a receive buffer -> cut -> the sink, in place -> next; a part at the end -> the stash.
 * Ditches: stash not empty -> append what is missing, cut there, go on in place; sink stops -> the rest becomes a pending slice;
 *          codec's error or no memory -> the caller ends the connection; held message in the stash -> the stash's piece goes to the blob. */
#include "runtime/reader.h"

#include <errno.h>
#include <string.h>

/* A message being put together: one piece of the pool. */
struct w_reader_stash {
    uint32_t piece_bytes;
    uint32_t bytes;
    uint32_t scanned_bytes; /* weir_cut's */
    uint32_t missing_bytes;
    weir_blob *blob; /* not NULL exactly while the sink runs and has held this message: the piece is the blob's then */
    uint8_t data[];
};

struct w_reader_slice {
    struct w_reader_slice *next; /* the last one's is the first */
    const uint8_t *data;         /* in the receive buffer, or in `copy` */
    void *copy;                  /* a piece of the pool, of copy_bytes; NULL: the bytes lie in the receive buffer, which is pinned */
    uint32_t copy_bytes;
    uint32_t bytes;
    uint16_t buffer;
};

#define STASH_HEADER_BYTES   ((uint32_t)offsetof(struct w_reader_stash, data))
#define STASH_SMALLEST_BYTES 256u
/* How much to look at at once when a codec cannot say how much is missing. */
#define SEARCH_BYTES 512u

/* Of the budget one such part is for small needs: who holds more than a modest piece gets nothing of it, so that some large messages cannot take from all others
 * the few bytes that they need. */
#define RESERVE_PART 4u
#define MODEST_BYTES (UINT32_C(64) * 1024)

/* What one delivery needs at every step. */
struct delivery {
    struct w_core *core;
    struct w_reader *reader;
    const weir_codec *codec;
    w_reader_sink sink;
    uint32_t messages; /* the sink has taken */
};

/* --- memory of messages being put together --- */

void *w_reader_take_piece(struct w_core *core, struct w_reader *reader, uint32_t bytes)
{
    uint32_t piece_bytes = (uint32_t)w_pool_round(bytes);
    uint64_t taken_bytes = atomic_load_explicit(&core->pool.taken_bytes, memory_order_relaxed), budget_bytes = core->pool.budget_bytes;
    if (reader->held_bytes + piece_bytes > MODEST_BYTES && taken_bytes + piece_bytes > budget_bytes - budget_bytes / RESERVE_PART)
        return NULL;
    void *piece = w_pool_take(&core->pool, piece_bytes);
    if (piece == NULL)
        return NULL;
    core->assembly_bytes += piece_bytes;
    reader->held_bytes += piece_bytes;
    return piece;
}

/* The piece is somebody else's from now on (or given back by the caller). */
static void reader_uncount_piece(struct w_core *core, struct w_reader *reader, uint32_t bytes)
{
    uint32_t piece_bytes = (uint32_t)w_pool_round(bytes);
    core->assembly_bytes -= piece_bytes;
    reader->held_bytes -= piece_bytes;
}

void w_reader_give_piece(struct w_core *core, struct w_reader *reader, void *piece, uint32_t bytes)
{
    reader_uncount_piece(core, reader, bytes);
    w_pool_give(&core->pool, piece, bytes);
}

static void stash_destroy(struct w_core *core, struct w_reader *reader)
{
    w_reader_give_piece(core, reader, reader->stash, reader->stash->piece_bytes);
    reader->stash = NULL;
}

/* Makes the stash hold `more` bytes beyond what it has. Memory grows with what has come, never with what was announced. */
static int stash_grow(struct w_core *core, struct w_reader *reader, uint32_t more)
{
    struct w_reader_stash *old = reader->stash;
    uint32_t have = old == NULL ? 0 : old->bytes;
    uint64_t wanted = (uint64_t)STASH_HEADER_BYTES + have + more;
    if (old != NULL && wanted <= old->piece_bytes)
        return 0;
    if (wanted > WEIR_MESSAGE_MAX_BYTES) /* the pool's largest piece */
        return -ENOMEM;
    uint32_t piece_bytes = (uint32_t)w_pool_round(wanted < STASH_SMALLEST_BYTES ? STASH_SMALLEST_BYTES : (size_t)wanted);
    struct w_reader_stash *stash = w_reader_take_piece(core, reader, piece_bytes);
    if (stash == NULL)
        return -ENOMEM;
    *stash = (struct w_reader_stash){.piece_bytes = piece_bytes};
    if (old != NULL) {
        stash->bytes = have;
        stash->scanned_bytes = old->scanned_bytes;
        stash->missing_bytes = old->missing_bytes;
        memcpy(stash->data, old->data, have);
        stash_destroy(core, reader);
    }
    reader->stash = stash;
    return 0;
}

static int stash_append(struct w_core *core, struct w_reader *reader, const uint8_t *data, uint32_t bytes)
{
    if (stash_grow(core, reader, bytes) != 0)
        return -ENOMEM;
    memcpy(reader->stash->data + reader->stash->bytes, data, bytes);
    reader->stash->bytes += bytes;
    return 0;
}

/* --- slices --- */

static struct w_reader_slice *reader_first(const struct w_reader *reader)
{
    return reader->pending_last == NULL ? NULL : reader->pending_last->next;
}

static void reader_append(struct w_reader *reader, struct w_reader_slice *slice)
{
    if (reader->pending_last == NULL) {
        slice->next = slice;
    } else {
        slice->next = reader->pending_last->next;
        reader->pending_last->next = slice;
    }
    reader->pending_last = slice;
}

static void slice_destroy(struct w_core *core, struct w_reader *reader, struct w_reader_slice *slice)
{
    if (slice->copy != NULL) {
        w_reader_give_piece(core, reader, slice->copy, slice->copy_bytes);
    } else {
        reader->pinned--;
        core->engine->buffer_release(core->io, slice->buffer);
    }
    w_pool_give(&core->pool, slice, sizeof *slice);
}

static void reader_remove_first(struct w_core *core, struct w_reader *reader)
{
    struct w_reader_slice *slice = reader_first(reader);
    if (slice == reader->pending_last)
        reader->pending_last = NULL;
    else
        reader->pending_last->next = slice->next;
    slice_destroy(core, reader, slice);
}

/* May this connection keep one receive buffer more from the kernel? Its share is bounded, and nobody pins when buffers are short. */
static bool reader_may_pin(const struct w_core *core, const struct w_reader *reader)
{
    return reader->pinned < core->pinned_limit && core->io->buffers_free >= core->io->buffers / 4;
}

int w_reader_keep(struct w_core *core, struct w_reader *reader, const uint8_t *data, uint32_t bytes, uint16_t buffer)
{
    struct w_reader_slice *slice = w_pool_take(&core->pool, sizeof *slice);
    if (slice != NULL && reader_may_pin(core, reader)) {
        *slice = (struct w_reader_slice){.data = data, .bytes = bytes, .buffer = buffer};
        reader->pinned++;
        reader_append(reader, slice);
        return 0;
    }
    void *copy = slice == NULL ? NULL : w_reader_take_piece(core, reader, bytes);
    if (copy != NULL) {
        *slice = (struct w_reader_slice){.data = copy, .bytes = bytes, .copy = copy, .copy_bytes = bytes};
        memcpy(copy, data, bytes);
        reader_append(reader, slice);
    } else if (slice != NULL) {
        w_pool_give(&core->pool, slice, sizeof *slice);
    }
    core->engine->buffer_release(core->io, buffer);
    return copy == NULL ? -ENOMEM : 0;
}

/* --- delivering --- */

/* The sink has held the message in the stash: the piece belongs to the blob. If the message has to stay, it needs a piece of its own again. */
static int stash_after_hold(struct delivery *d, struct w_reader_stash *stash, bool again)
{
    weir_blob *blob = stash->blob;
    d->reader->stash = NULL;
    int result = again ? stash_append(d->core, d->reader, stash->data, stash->bytes) : 0;
    weir_blob_release(&blob);
    return result;
}

/* Hands the whole message in the stash to the sink: 1 stopped, 0 go on, or negative. */
static int reader_deliver_stash(struct delivery *d, const weir_cut *cut)
{
    struct w_reader_stash *stash = d->reader->stash;
    weir_message message = {.data = stash->data + cut->payload_offset, .bytes = cut->payload_bytes};
    d->core->origin =
        (struct w_core_origin){.reader = d->reader, .begin = stash->data, .end = stash->data + stash->bytes, .in_stash = true};
    enum w_reader_verdict verdict = d->sink(d->reader, &message);
    d->core->origin.reader = NULL;
    d->messages += verdict != W_READER_AGAIN;
    if (stash->blob != NULL) {
        int result = stash_after_hold(d, stash, verdict == W_READER_AGAIN);
        return result != 0 ? result : verdict != W_READER_NEXT;
    }
    if (verdict != W_READER_AGAIN)
        stash_destroy(d->core, d->reader);
    else
        stash->scanned_bytes = 0;
    return verdict != W_READER_NEXT;
}

/* Completes the message in the stash from `data`: 1 stopped, 0 go on, or negative; *used says how many bytes it took. */
static int reader_assemble(struct delivery *d, const uint8_t *data, uint32_t bytes, uint32_t *used)
{
    while (d->reader->stash != NULL && *used < bytes) {
        uint32_t missing = d->reader->stash->missing_bytes, before = *used;
        uint32_t piece = w_base_min_u32(bytes - before, missing > 1 ? missing : SEARCH_BYTES);
        if (stash_append(d->core, d->reader, data + before, piece) != 0)
            return -ENOMEM;
        *used += piece;
        struct w_reader_stash *stash = d->reader->stash;
        weir_cut cut = {.scanned_bytes = stash->scanned_bytes, .session = d->reader->session};
        int result = d->codec->cut(d->codec, stash->data, stash->bytes, &cut);
        if (result < 0)
            return result;
        stash->scanned_bytes = cut.scanned_bytes;
        stash->missing_bytes = cut.missing_bytes;
        if (result == WEIR_CUT_MORE)
            continue;
        *used -= stash->bytes - cut.frame_bytes; /* the search took more than the message */
        stash->bytes = cut.frame_bytes;
        result = reader_deliver_stash(d, &cut);
        if (result != 0)
            return result;
    }
    return 0;
}

/* Delivers from [data, data + bytes): 1 stopped, 0 all used, or negative; *used says how far it came. `buffer` is where the bytes lie;
 * copied: they lie in memory of ours, whose messages are copied when they are held. */
static int reader_deliver(struct delivery *d, const uint8_t *data, uint32_t bytes, uint16_t buffer, bool copied, uint32_t *used)
{
    int result = reader_assemble(d, data, bytes, used);
    if (result != 0)
        return result;
    struct w_core_origin origin = {.reader = d->reader, .begin = data, .end = copied ? data : data + bytes, .buffer = buffer};
    weir_cut cut;
    cut.session = d->reader->session;
    while (*used < bytes) {
        cut.scanned_bytes = 0;
        result = d->codec->cut(d->codec, data + *used, bytes - *used, &cut);
        if (W_UNLIKELY(result != WEIR_CUT_MESSAGE)) {
            if (result == WEIR_CUT_MORE)
                result = stash_append(d->core, d->reader, data + *used, bytes - *used);
            if (result < 0)
                break;
            d->reader->stash->scanned_bytes = cut.scanned_bytes;
            d->reader->stash->missing_bytes = cut.missing_bytes;
            *used = bytes;
            break;
        }
        result = 0;
        weir_message message = {.data = data + *used + cut.payload_offset, .bytes = cut.payload_bytes};
        d->core->origin = origin;
        enum w_reader_verdict verdict = d->sink(d->reader, &message);
        if (W_UNLIKELY(verdict == W_READER_AGAIN)) {
            result = 1;
            break;
        }
        d->messages++;
        *used += cut.frame_bytes;
        if (W_UNLIKELY(verdict == W_READER_STOP)) {
            result = 1;
            break;
        }
    }
    d->core->origin.reader = NULL;
    return result;
}

int w_reader_feed(struct w_core *core, struct w_reader *reader, const weir_codec *codec, w_reader_sink sink, const uint8_t *data,
                  uint32_t bytes, uint16_t buffer, uint32_t *messages)
{
    struct delivery d = {.core = core, .reader = reader, .codec = codec, .sink = sink};
    uint32_t used = 0;
    int result = reader_deliver(&d, data, bytes, buffer, false, &used);
    *messages += d.messages;
    if (W_LIKELY(result == 0 || used == bytes || result < 0))
        core->engine->buffer_release(core->io, buffer);
    else
        result = w_reader_keep(core, reader, data + used, bytes - used, buffer);
    return result < 0 ? result : 0;
}

/* The stash may hold a whole message that was not taken. */
static int reader_resume_stash(struct delivery *d)
{
    struct w_reader_stash *stash = d->reader->stash;
    if (stash == NULL)
        return 0;
    weir_cut cut = {.scanned_bytes = stash->scanned_bytes, .session = d->reader->session};
    int result = d->codec->cut(d->codec, stash->data, stash->bytes, &cut);
    if (result == WEIR_CUT_MESSAGE)
        return reader_deliver_stash(d, &cut);
    stash->scanned_bytes = cut.scanned_bytes;
    stash->missing_bytes = cut.missing_bytes;
    return result;
}

int w_reader_resume(struct w_core *core, struct w_reader *reader, const weir_codec *codec, w_reader_sink sink, uint32_t *messages)
{
    struct delivery d = {.core = core, .reader = reader, .codec = codec, .sink = sink};
    int result = reader_resume_stash(&d);
    struct w_reader_slice *slice;
    while (result == 0 && (slice = reader_first(reader)) != NULL) {
        uint32_t used = 0;
        result = reader_deliver(&d, slice->data, slice->bytes, slice->buffer, slice->copy != NULL, &used);
        slice->data += used;
        slice->bytes -= used;
        if (slice->bytes == 0)
            reader_remove_first(core, reader);
    }
    *messages += d.messages;
    return result < 0 ? result : 0;
}

bool w_reader_waiting(const struct w_reader *reader, const weir_codec *codec)
{
    if (reader->pending_last != NULL)
        return true;
    if (reader->stash == NULL)
        return false;
    weir_cut cut = {.scanned_bytes = 0, .session = reader->session};
    return codec->cut(codec, reader->stash->data, reader->stash->bytes, &cut) != WEIR_CUT_MORE;
}

/* --- holding --- */

static weir_blob *reader_hold_stash(struct w_core *core, struct w_reader *reader, const weir_message *message)
{
    struct w_reader_stash *stash = reader->stash;
    if (stash->blob != NULL)
        return stash->blob->data == message->data && stash->blob->bytes == message->bytes
                   ? weir_blob_hold(stash->blob)
                   : w_blob_copy(core, message->data, message->bytes);
    weir_blob *blob = w_blob_of_piece(core, message->data, message->bytes, stash, stash->piece_bytes);
    if (blob == NULL)
        return NULL;
    reader_uncount_piece(core, reader, stash->piece_bytes);
    stash->blob = blob; /* this reference is the reader's */
    return weir_blob_hold(blob);
}

weir_blob *w_reader_hold(struct w_core *core, struct w_reader *reader, const weir_message *message)
{
    const struct w_core_origin *origin = &core->origin;
    W_REQUIRE(origin->reader == reader, "not inside on_message of this connection");
    if (origin->in_stash) {
        W_REQUIRE(message->data >= origin->begin && message->data + message->bytes <= origin->end, "not the message being delivered");
        return reader_hold_stash(core, reader, message);
    }
    if (message->bytes < W_BLOB_WORTH_BYTES || message->data < origin->begin || message->data + message->bytes > origin->end)
        return w_blob_copy(core, message->data, message->bytes);
    if (!reader_may_pin(core, reader)) {
        w_stats_add(&core->stats.copies_for_lack, 1);
        return w_blob_copy(core, message->data, message->bytes);
    }
    return w_blob_of_buffer(core, message->data, message->bytes, origin->buffer, &reader->pinned);
}

void w_reader_drop(struct w_core *core, struct w_reader *reader)
{
    if (reader->stash != NULL)
        stash_destroy(core, reader);
    while (reader->pending_last != NULL)
        reader_remove_first(core, reader);
}
