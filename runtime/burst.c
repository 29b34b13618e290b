/* SPDX-License-Identifier: MIT */
/* burst: messages to one group, sealed once for each codec among its members.
 *
 * Road:    bound the bytes by the longest heads and trailers -> one piece of memory -> head, payload, trailer, message after message -> a blob of them.
 * Ditches: the codec refuses a message, or makes no bytes of it -> the same end twice; no memory -> no data: each member is refused for memory; more codecs than
 *          are kept -> one is sealed again. */
#include "runtime/burst.h"

#include <string.h>

static bool burst_is_sealed_for(const struct w_burst_sealed *sealed, const weir_codec *codec)
{
    const weir_codec *other = sealed->codec;
    return other == codec || (other != NULL && other->seal == codec->seal && other->message_max_bytes == codec->message_max_bytes &&
                              other->boundaries == codec->boundaries && other->length_extra == codec->length_extra &&
                              memcmp(other->settings, codec->settings, sizeof codec->settings) == 0);
}

/* Room for ends and bytes: in `small`, or in a piece of the pool that becomes the blob's. NULL: no memory. */
static uint8_t *burst_room(struct w_core *core, struct w_burst_sealed *sealed, size_t bytes)
{
    return bytes <= sizeof sealed->small ? sealed->small : w_pool_take(&core->pool, bytes);
}

static uint32_t burst_seal_message(const weir_codec *codec, const struct w_burst_message *message, uint8_t *to)
{
    weir_seal seal;
    if (codec->seal(codec, message->data, message->bytes, &seal) != 0)
        return 0;
    memcpy(to, seal.head, seal.head_bytes);
    if (codec->copy != NULL)
        codec->copy(&seal, to + seal.head_bytes, message->data, message->bytes, 0);
    else if (message->bytes > 0)
        memcpy(to + seal.head_bytes, message->data, message->bytes);
    memcpy(to + seal.head_bytes + message->bytes, seal.trailer, seal.trailer_bytes);
    return seal.head_bytes + message->bytes + seal.trailer_bytes;
}

static void burst_seal_all(struct w_core *core, const struct w_burst *burst, struct w_burst_sealed *sealed)
{
    const weir_codec *codec = sealed->codec;
    size_t around_bytes = codec->head_max_bytes + codec->trailer_max_bytes, ends_bytes = burst->count * sizeof(uint32_t);
    size_t room_bytes = ends_bytes + burst->bytes + burst->count * around_bytes;
    uint8_t *room = burst_room(core, sealed, room_bytes);
    if (room == NULL)
        return;
    uint32_t *ends = (uint32_t *)(void *)room, at = 0;
    uint8_t *data = room + ends_bytes;
    for (uint32_t i = 0; i < burst->count; i++) {
        uint32_t bytes = burst_seal_message(codec, &burst->messages[i], data + at);
        sealed->whole &= bytes > 0;
        ends[i] = at += bytes;
    }
    if (room != sealed->small) {
        sealed->blob = w_blob_of_piece(core, data, at, room, (uint32_t)room_bytes);
        if (sealed->blob == NULL) {
            w_pool_give(&core->pool, room, room_bytes);
            return;
        }
    }
    sealed->ends = ends;
    sealed->data = data;
    sealed->bytes = at;
}

const struct w_burst_sealed *w_burst_seal(struct w_core *core, const struct w_burst *burst, struct w_burst_seals *seals,
                                          const weir_codec *codec)
{
    for (uint32_t i = 0; i < W_BURST_CODECS; i++)
        if (burst_is_sealed_for(&seals->sealed[i], codec))
            return &seals->sealed[i];
    struct w_burst_sealed *sealed = &seals->sealed[seals->next];
    seals->next = (seals->next + 1) % W_BURST_CODECS;
    w_blob_release(core, &sealed->blob);
    sealed->codec = codec;
    sealed->data = NULL;
    sealed->whole = true;
    if (burst->blob != NULL)
        sealed->result = codec->seal(codec, burst->messages[0].data, burst->messages[0].bytes, &sealed->seal);
    else
        burst_seal_all(core, burst, sealed);
    return sealed;
}

void w_burst_seals_begin(struct w_burst_seals *seals)
{
    seals->next = 0;
    for (uint32_t i = 0; i < W_BURST_CODECS; i++) {
        seals->sealed[i].codec = NULL;
        seals->sealed[i].blob = NULL;
    }
}

void w_burst_seals_end(struct w_core *core, struct w_burst_seals *seals)
{
    for (uint32_t i = 0; i < W_BURST_CODECS; i++)
        w_blob_release(core, &seals->sealed[i].blob);
}
