/* SPDX-License-Identifier: MIT */
/* deflate: messages packed and unpacked (RFC 7692, section 7.2), by zlib (RFC 1951) without its header.
 *
 * Road:    unpack: frame's bytes -> inflate into the room that there is -> at the message's end the four bytes that the sender has left away -> at a block's end?
 *          pack: the message -> deflate, flushed to a byte -> without the last four bytes.
 * Ditches: over the limits -> -EMSGSIZE as soon as one byte is; no deflate, or cut off -> -EBADMSG; a block that says it is the last -> the next one begins, with the
 *          same window (section 7.2.3.4); no shorter, or no memory to pack -> as it is; nothing kept -> all memory goes back at the message's end. */
#define ZLIB_CONST
#include "proto/deflate.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#define TAIL_BYTES        4u /* 00 00 ff ff: an empty block without its first bits */
#define WINDOW_MAX_BYTES  32768u
#define RATIO_FROM_BYTES  65536u
#define DEFAULT_RATIO_MAX 256u
/* z_stream.data_type behind inflate(): at the end of a block, and how many bits of the last byte are left. */
#define AT_BLOCK_END 128
#define BITS_LEFT    63

/* --- zlib's memory --- */

/* zlib says no sizes when it gives back, and a head before each piece would make a power of two the next one. */
#define PIECES_MAX 6u /* deflate: 5, inflate: 2 */

struct w_deflate_stream {
    z_stream z;
    weir_session_heap *heap;
    struct {
        void *data; /* NULL: free */
        uint32_t bytes;
    } pieces[PIECES_MAX];
};

static voidpf piece_take(voidpf opaque, uInt items, uInt bytes)
{
    struct w_deflate_stream *stream = opaque;
    uint64_t wanted_bytes = (uint64_t)items * bytes;
    for (uint32_t i = 0; i < PIECES_MAX; i++) {
        if (stream->pieces[i].data != NULL)
            continue;
        stream->pieces[i].bytes = (uint32_t)wanted_bytes;
        stream->pieces[i].data = wanted_bytes > WEIR_MESSAGE_MAX_BYTES ? NULL : stream->heap->take(stream->heap, (uint32_t)wanted_bytes);
        return stream->pieces[i].data;
    }
    return Z_NULL;
}

static void piece_give(voidpf opaque, voidpf data)
{
    struct w_deflate_stream *stream = opaque;
    for (uint32_t i = 0; i < PIECES_MAX; i++)
        if (stream->pieces[i].data == data) {
            stream->heap->give(stream->heap, data, stream->pieces[i].bytes);
            stream->pieces[i].data = NULL;
            return;
        }
}

/* NULL: no memory. */
static struct w_deflate_stream *stream_take(weir_session_heap *heap)
{
    struct w_deflate_stream *stream = heap->take(heap, sizeof *stream);
    if (stream != NULL)
        *stream = (struct w_deflate_stream){.z = {.zalloc = piece_take, .zfree = piece_give, .opaque = stream}, .heap = heap};
    return stream;
}

static void stream_give(weir_session_heap *heap, struct w_deflate_stream **stream)
{
    heap->give(heap, *stream, sizeof **stream);
    *stream = NULL;
}

/* --- unpacking --- */

static bool deflate_begin_in(struct w_deflate *state, weir_session_heap *heap)
{
    if (state->in != NULL)
        return true;
    state->in = stream_take(heap);
    if (state->in != NULL && inflateInit2(&state->in->z, -state->terms.received_bits) != Z_OK)
        stream_give(heap, &state->in);
    return state->in != NULL;
}

static void deflate_end_in(struct w_deflate *state, weir_session_heap *heap)
{
    if (state->in == NULL)
        return;
    inflateEnd(&state->in->z);
    stream_give(heap, &state->in);
}

/* Behind a last block: zlib has to begin anew, but what came may still be referred to. */
static int deflate_go_on_behind_last(z_stream *in, weir_session_heap *heap)
{
    uInt bytes = 0;
    uint8_t *window = heap->take(heap, WINDOW_MAX_BYTES);
    if (window == NULL)
        return Z_MEM_ERROR;
    int result = inflateGetDictionary(in, window, &bytes);
    if (result == Z_OK)
        result = inflateReset(in);
    if (result == Z_OK)
        result = inflateSetDictionary(in, window, bytes);
    heap->give(heap, window, WINDOW_MAX_BYTES);
    return result;
}

/* Once inflate(), from the frame or, behind it, from the tail: zlib's answer. */
static int deflate_inflate(struct w_deflate *state, weir_session_heap *heap, uint32_t room_bytes, weir_session_unpacking *unpacking)
{
    static const uint8_t tail[TAIL_BYTES] = {0x00, 0x00, 0xff, 0xff};
    z_stream *in = &state->in->z;
    bool in_tail = unpacking->bytes == 0 && unpacking->last;
    in->next_in = in_tail ? tail + state->tail : unpacking->data;
    in->avail_in = in_tail ? TAIL_BYTES - state->tail : unpacking->bytes;
    in->next_out = unpacking->to + unpacking->made_bytes;
    in->avail_out = room_bytes;
    int result = inflate(in, Z_SYNC_FLUSH);
    if (in_tail) {
        state->tail = (uint8_t)(TAIL_BYTES - in->avail_in);
    } else {
        state->taken += unpacking->bytes - in->avail_in;
        unpacking->data = in->next_in;
        unpacking->bytes = in->avail_in;
    }
    state->made += room_bytes - in->avail_out;
    unpacking->made_bytes += room_bytes - in->avail_out;
    return result == Z_STREAM_END ? deflate_go_on_behind_last(in, heap) : result;
}

/* Nothing is under way, on the way out neither. Asked at once: another inflate() with nothing to do would not say so any more. */
static bool deflate_is_between_blocks(const struct w_deflate *state)
{
    int where = state->in->z.data_type;
    return (where & AT_BLOCK_END) != 0 && (where & BITS_LEFT) == 0;
}

/* All of the message has been taken: did it end where one may? */
static int deflate_message_ended(struct w_deflate *state, weir_session_heap *heap)
{
    bool good = deflate_is_between_blocks(state);
    state->taken = state->made = 0;
    state->tail = 0;
    if (!state->terms.keep_received)
        deflate_end_in(state, heap);
    return good ? 0 : -EBADMSG;
}

int w_deflate_unpack(struct w_deflate *state, weir_session_heap *heap, const weir_websocket_deflate *options, uint32_t max_bytes,
                     weir_session_unpacking *unpacking)
{
    uint32_t ratio_max = options->ratio_max != 0 ? options->ratio_max : DEFAULT_RATIO_MAX;
    if (!deflate_begin_in(state, heap))
        return -ENOMEM;
    for (;;) {
        uint32_t room_bytes = unpacking->room_bytes - unpacking->made_bytes;
        uint64_t most_bytes = max_bytes - state->made + 1; /* one more tells that it is too many */
        if (room_bytes == 0)
            return 1;
        int result = deflate_inflate(state, heap, room_bytes < most_bytes ? room_bytes : (uint32_t)most_bytes, unpacking);
        if (state->made > max_bytes || (state->made > RATIO_FROM_BYTES && state->made > state->taken * ratio_max))
            return -EMSGSIZE; /* first: whether what is wrong behind it has been seen depends on how it was divided */
        if (result != Z_OK && result != Z_BUF_ERROR) /* the latter: nothing was left to do */
            return result == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
        bool full = state->in->z.avail_out == 0;
        if (state->tail == TAIL_BYTES && (!full || deflate_is_between_blocks(state)))
            return deflate_message_ended(state, heap);
        if (!full && unpacking->bytes == 0 && !unpacking->last)
            return 0;
    }
}

/* --- packing --- */

static bool deflate_begin_out(struct w_deflate *state, weir_session_heap *heap, const weir_websocket_deflate *options)
{
    if (state->out != NULL)
        return true;
    state->out = stream_take(heap);
    if (state->out == NULL)
        return false;
    /* zlib packs without header for windows from 2^9 only; but with that it refers back no farther than 2^9 - 262 bytes, which is within 2^8. */
    int bits = state->terms.sent_bits > 9 ? state->terms.sent_bits : 9, level = options->level != 0 ? options->level : Z_BEST_SPEED;
    if (deflateInit2(&state->out->z, level, Z_DEFLATED, -bits, bits - 7, Z_DEFAULT_STRATEGY) != Z_OK)
        stream_give(heap, &state->out);
    return state->out != NULL;
}

void w_deflate_forget_sent(struct w_deflate *state, weir_session_heap *heap)
{
    if (state->out == NULL)
        return;
    deflateEnd(&state->out->z);
    stream_give(heap, &state->out);
}

uint32_t w_deflate_pack(struct w_deflate *state, weir_session_heap *heap, const weir_websocket_deflate *options, const uint8_t *data,
                        uint32_t bytes, uint8_t *to)
{
    if (!deflate_begin_out(state, heap, options))
        return 0;
    z_stream *out = &state->out->z;
    out->next_in = data;
    out->avail_in = bytes;
    out->next_out = to;
    out->avail_out = bytes;
    int result = deflate(out, Z_SYNC_FLUSH);
    uint32_t made_bytes = bytes - out->avail_out;
    bool shorter = result == Z_OK && out->avail_in == 0 && out->avail_out > 0 && made_bytes > TAIL_BYTES;
    if (!shorter || !state->terms.keep_sent)
        w_deflate_forget_sent(state, heap);
    return shorter ? made_bytes - TAIL_BYTES : 0;
}

void w_deflate_close(struct w_deflate *state, weir_session_heap *heap)
{
    deflate_end_in(state, heap);
    w_deflate_forget_sent(state, heap);
}
