/* SPDX-License-Identifier: MIT */
/* echo-input: what a connection has read and not yet answered, in one piece, so that one write answers all whole messages of a read.
 *
 * It has memory only while it holds bytes, and an idle connection none: what is empty goes back to its thread's spare buffers, last in,
 * first out, so that the next connection to be read gets one that is in the cache. A message longer than a buffer gets one of its size. */
#pragma once

#include "echo-peer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define ECHO_INPUT_BYTES        65536u
#define ECHO_INPUT_MESSAGE_MOST 1048576u /* payload */
#define ECHO_INPUT_SPARES_MOST  1024u

/* A thread's buffers of ECHO_INPUT_BYTES that nobody uses. */
struct echo_spares {
    uint32_t count;
    uint8_t *buffers[ECHO_INPUT_SPARES_MOST];
};

/* Invariant: bytes is NULL exactly when room is 0; whole <= filled <= room. Zeroed it is an empty one. */
struct echo_input {
    uint8_t *bytes;
    size_t room;
    size_t filled;
    size_t whole; /* of these, from the first: whole messages, to be answered */
};

/* Sees that there is room for `bytes` bytes, and for at least one more than there are; false: no memory. */
static inline bool echo_input_reserve(struct echo_input *input, struct echo_spares *spares, size_t bytes)
{
    if (input->filled < input->room && bytes <= input->room)
        return true;
    if (input->bytes == NULL && bytes <= ECHO_INPUT_BYTES && spares->count > 0) {
        input->bytes = spares->buffers[--spares->count];
        input->room = ECHO_INPUT_BYTES;
        return true;
    }
    size_t room = bytes < ECHO_INPUT_BYTES ? ECHO_INPUT_BYTES : bytes;
    if (room < 2 * input->filled)
        room = 2 * input->filled; /* a line, whose length nobody knows */
    uint8_t *grown = (uint8_t *)realloc(input->bytes, room);
    if (grown == NULL)
        return false;
    input->bytes = grown;
    input->room = room;
    return true;
}

static inline void echo_input_release(struct echo_input *input, struct echo_spares *spares)
{
    if (input->room == ECHO_INPUT_BYTES && spares->count < ECHO_INPUT_SPARES_MOST)
        spares->buffers[spares->count++] = input->bytes;
    else
        free(input->bytes);
    input->bytes = NULL;
    input->room = input->filled = input->whole = 0;
}

static inline void echo_spares_free(struct echo_spares *spares)
{
    while (spares->count > 0)
        free(spares->buffers[--spares->count]);
}

/* --- messages --- */

static inline ssize_t echo_input_cut_frames(const uint8_t *bytes, size_t count, size_t *wanted)
{
    size_t whole = 0;
    while (count - whole >= 4) {
        const uint8_t *head = bytes + whole;
        uint32_t length = head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
        if (length > ECHO_INPUT_MESSAGE_MOST)
            return -1;
        if (count - whole - 4 < length) {
            *wanted = 4 + (size_t)length;
            break;
        }
        whole += 4 + (size_t)length;
    }
    return (ssize_t)whole;
}

/* How many of the `count` bytes, from the first, are whole messages; -1: a message is too long. *wanted is how many bytes the message
 * behind them has, as far as that is known. */
static inline ssize_t echo_input_cut(enum pattern_framing framing, const uint8_t *bytes, size_t count, size_t *wanted)
{
    *wanted = 0;
    if (framing == PATTERN_RAW)
        return (ssize_t)count;
    if (framing == PATTERN_FRAME)
        return echo_input_cut_frames(bytes, count, wanted);
    const uint8_t *feed = (const uint8_t *)memrchr(bytes, '\n', count);
    size_t whole = feed == NULL ? 0 : (size_t)(feed - bytes) + 1;
    *wanted = count - whole + 1;
    return count - whole > ECHO_INPUT_MESSAGE_MOST ? -1 : (ssize_t)whole;
}

/* `count` more bytes have been read. Sets `whole`; false: a message is too long, or there is no memory for it. */
static inline bool echo_input_take(struct echo_input *input, struct echo_spares *spares, enum pattern_framing framing, size_t count)
{
    size_t wanted;
    input->filled += count;
    ssize_t whole = echo_input_cut(framing, input->bytes, input->filled, &wanted);
    if (whole < 0)
        return false;
    input->whole = (size_t)whole;
    return wanted <= input->room || echo_input_reserve(input, spares, wanted);
}

/* The whole messages are answered. */
static inline void echo_input_answered(struct echo_input *input, struct echo_spares *spares)
{
    size_t whole = input->whole;
    input->filled -= whole;
    input->whole = 0;
    if (input->filled == 0)
        echo_input_release(input, spares);
    else if (whole > 0)
        memmove(input->bytes, input->bytes + whole, input->filled);
}
