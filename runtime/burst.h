/* SPDX-License-Identifier: MIT */
/* burst: messages to one group that go into its members' channels together, and what a codec makes of them.
 *
 *   burst   {message, message, message ...}                where each payload lies, and who does not get it
 *   sealed  [end|end|end ...|frame|frame|frame ...]        one piece of memory for each codec among the members
 *
 * A member takes all of a burst before the next member is looked at: so its memory is fetched once for many messages. And what is sealed is not copied for
 * each: from W_BURST_SHARED_BYTES on it is a blob that all the members' channels refer to. */
#ifndef W_BURST_H
#define W_BURST_H

#include <stdalign.h>

#include <weir/codec.h>

#include "runtime/blob.h"
#include "runtime/core.h"

#define W_BURST_MESSAGES     256u
#define W_BURST_BYTES        (48u << 10) /* of payload; one that stays in its blob may be larger */
#define W_BURST_SHARED_BYTES 256u        /* below, a copy for each member is cheaper than a reference */
#define W_BURST_CODECS       4u          /* so many are kept while the members' differ */

struct w_burst_message {
    const uint8_t *data;
    uint64_t except; /* a weir_id; 0: none */
    uint32_t bytes;
};

struct w_burst {
    uint64_t group;
    weir_blob *blob; /* the payload of the only message lies in it, and is not copied; NULL: payloads are copied */
    uint32_t count, bytes;
    bool excepts; /* some message has one */
    struct w_burst_message messages[W_BURST_MESSAGES];
};

static inline void w_burst_begin(struct w_burst *burst, uint64_t group)
{
    burst->group = group;
    burst->blob = NULL;
    burst->count = burst->bytes = 0;
    burst->excepts = false;
}

static inline bool w_burst_has_room(const struct w_burst *burst, uint32_t bytes)
{
    return burst->count < W_BURST_MESSAGES && burst->bytes + bytes <= W_BURST_BYTES;
}

/* The payload stays where it is until the burst is delivered. */
static inline void w_burst_add(struct w_burst *burst, const uint8_t *data, uint32_t bytes, uint64_t except)
{
    burst->messages[burst->count++] = (struct w_burst_message){.data = data, .except = except, .bytes = bytes};
    burst->bytes += bytes;
    burst->excepts |= except != 0;
}

/* What one codec makes of a burst. */
struct w_burst_sealed {
    const weir_codec *codec; /* NULL: nothing */
    const uint32_t
        *ends; /* one for each message: where it ends in `data`. As the one before: the codec refuses it, or makes no bytes of it */
    const uint8_t *data; /* NULL: there is no memory for it */
    weir_blob *blob;     /* that they lie in; NULL: in `small` */
    uint32_t bytes;
    bool whole;     /* each message has bytes */
    int result;     /* of a payload in a blob: 0 or the codec's error, */
    weir_seal seal; /* and what goes around it */
    alignas(8) uint8_t small[W_BURST_SHARED_BYTES];
};

struct w_burst_seals {
    uint32_t next; /* to be given up for another codec */
    struct w_burst_sealed sealed[W_BURST_CODECS];
};

/* What the codec makes of it; stays until another codec is asked for. Never NULL. */
const struct w_burst_sealed *w_burst_seal(struct w_core *core, const struct w_burst *burst, struct w_burst_seals *seals,
                                          const weir_codec *codec);
void w_burst_seals_begin(struct w_burst_seals *seals);
/* The channels that refer to what is sealed keep it. */
void w_burst_seals_end(struct w_core *core, struct w_burst_seals *seals);

#endif
