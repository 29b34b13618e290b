/* SPDX-License-Identifier: MIT */
/* message: what the soak's service and its good clients say to each other. A frame of weir's default kind (four bytes of length, little-endian),
 * and in it
 *
 *     8  magic: this one can be checked
 *     8  stream    whose it is: one connection's life. No two are alike in a run
 *     8  number    in its stream, from 0
 *     .  filler    follows from stream and number, as its length does
 *
 * so either side knows each byte of a message before it comes. Most are small; some go the way of a blob (4 KiB and more). */
#ifndef SOAK_MESSAGE_H
#define SOAK_MESSAGE_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MESSAGE_MAGIC       UINT64_C(0x6b616f732d726977)
#define MESSAGE_FRAME_BYTES 4u /* the length before it */
#define MESSAGE_HEAD_BYTES  24u
#define MESSAGE_MOST_BYTES  (30u * 1024)

static inline uint64_t message_mix(uint64_t value)
{
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static inline uint64_t message_seed(uint64_t stream, uint64_t number)
{
    return message_mix(message_mix(stream + 1) + number);
}

/* The length of a stream's message: 24 to 280 bytes nine times of ten, else up to 8 KiB, one in a hundred up to 30 KiB. */
static inline uint32_t message_bytes(uint64_t stream, uint64_t number)
{
    uint64_t seed = message_seed(stream, number);
    uint32_t kind = (uint32_t)(seed % 100), some = (uint32_t)(seed >> 32);
    uint32_t most = kind == 0 ? MESSAGE_MOST_BYTES : kind < 10 ? 8192u : 280u;
    return MESSAGE_HEAD_BYTES + some % (most - MESSAGE_HEAD_BYTES + 1);
}

/* Writes the payload and answers its length; `data` has room for MESSAGE_MOST_BYTES. */
static inline uint32_t message_make(uint8_t *data, uint64_t stream, uint64_t number)
{
    uint32_t bytes = message_bytes(stream, number);
    uint64_t head[3] = {htole64(MESSAGE_MAGIC), htole64(stream), htole64(number)};
    uint64_t word = message_seed(stream, number);
    memcpy(data, head, sizeof head);
    for (uint32_t at = MESSAGE_HEAD_BYTES; at < bytes; at += 8, word += UINT64_C(0x9e3779b97f4a7c15)) {
        uint64_t filler = htole64(word);
        memcpy(data + at, &filler, bytes - at < 8 ? bytes - at : 8);
    }
    return bytes;
}

static inline uint64_t message_word(const uint8_t *data, uint32_t index)
{
    uint64_t value;
    memcpy(&value, data + (size_t)index * 8, sizeof value);
    return le64toh(value);
}

/* True when it has a head of ours; the filler is not looked at. */
static inline bool message_is_ours(const uint8_t *data, uint32_t bytes)
{
    return bytes >= MESSAGE_HEAD_BYTES && message_word(data, 0) == MESSAGE_MAGIC;
}

static inline uint64_t message_stream(const uint8_t *data)
{
    return message_word(data, 1);
}

static inline uint64_t message_number(const uint8_t *data)
{
    return message_word(data, 2);
}

static inline bool message_matches(const uint8_t *data, uint32_t bytes, uint64_t stream, uint64_t number)
{
    uint8_t expected[MESSAGE_MOST_BYTES + 8];
    return bytes == message_bytes(stream, number) && message_make(expected, stream, number) == bytes && memcmp(data, expected, bytes) == 0;
}

#endif
