/* SPDX-License-Identifier: MIT */
/* reader: turns received bytes into messages, in place where it can.
 *
 *   receive buffer [ whole | whole | part ]      whole messages reach the sink where they lie
 *                                    \-> stash   a part is copied out, so that the buffer goes back at once
 *   pending  slices of bytes that must not be delivered now (WEIR_LATER, paused)
 *
 * Runs on the connection's shard. What a connection may hold is bounded: the stash by its codec's largest message and the shard's assembly budget; slices
 * pin at most core->pinned_limit receive buffers, beyond that they are copied (and count as assembly too). */
#ifndef W_READER_H
#define W_READER_H

#include <weir/protocol.h>

#include "runtime/blob.h"
#include "runtime/core.h"

struct w_reader_stash;
struct w_reader_slice;

/* What the sink says about a message. */
enum w_reader_verdict {
    W_READER_NEXT,  /* taken, go on */
    W_READER_STOP,  /* taken, deliver nothing more now */
    W_READER_AGAIN, /* not taken: keep it and all behind it */
};

typedef enum w_reader_verdict (*w_reader_sink)(struct w_reader *reader, const weir_message *message);

/* Order of the bytes: stash, then pending from first to last. */
struct w_reader {
    struct w_reader_stash *stash;        /* NULL exactly when no message is being put together or kept in it */
    struct w_reader_slice *pending_last; /* its next is the first; NULL exactly when nothing is set aside */
    void *session;                       /* the memory of the codec's session; NULL: it has none */
    uint32_t pinned;                     /* receive buffers held by slices and blobs of this connection, counted once for each */
    uint32_t held_bytes;                 /* memory in stash and copied slices: what counts as assembly */
};

/* Delivers what lies in a receive buffer, taking over the reference to it; what must wait is kept. Not while anything is pending (w_reader_keep then).
 * Adds to *messages those the sink has taken. 0, or -EMSGSIZE, -EBADMSG (the codec's), -ENOMEM. */
int w_reader_feed(struct w_core *core, struct w_reader *reader, const weir_codec *codec, w_reader_sink sink, const uint8_t *data,
                  uint32_t bytes, uint16_t buffer, uint32_t *messages);
/* Sets received bytes aside, behind all others, taking over the reference. 0 or -ENOMEM. */
int w_reader_keep(struct w_core *core, struct w_reader *reader, const uint8_t *data, uint32_t bytes, uint16_t buffer);
/* Delivers what was set aside, until it is gone or the sink stops it. Errors as w_reader_feed. */
int w_reader_resume(struct w_core *core, struct w_reader *reader, const weir_codec *codec, w_reader_sink sink, uint32_t *messages);

/* True when w_reader_resume would have something to do: not for a mere part of a message in the stash. */
bool w_reader_waiting(const struct w_reader *reader, const weir_codec *codec);
static inline bool w_reader_empty(const struct w_reader *reader)
{
    return reader->stash == NULL && reader->pending_last == NULL;
}

/* Memory for messages being put together, counted and bounded as such. NULL: none to be had. Given back with the same bytes. */
void *w_reader_take_piece(struct w_core *core, struct w_reader *reader, uint32_t bytes);
void w_reader_give_piece(struct w_core *core, struct w_reader *reader, void *piece, uint32_t bytes);

/* weir_hold for the message being delivered. NULL: no memory. */
weir_blob *w_reader_hold(struct w_core *core, struct w_reader *reader, const weir_message *message);

/* Gives everything back. Not from inside the sink. */
void w_reader_drop(struct w_core *core, struct w_reader *reader);

#endif
