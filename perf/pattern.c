/* SPDX-License-Identifier: MIT */
/* pattern: see pattern.h. */
#include "pattern.h"

#include <stdlib.h>
#include <string.h>

#define PATTERN_NUMBER_BYTES 8u
#define PATTERN_HEAD_MOST    12u /* length field and number */

const char *const pattern_framing_names[] = {
    [PATTERN_FRAME] = "frame",
    [PATTERN_LINE] = "line",
    [PATTERN_RAW] = "raw",
    NULL,
};

static void pattern_put_little(uint8_t *to, uint64_t value, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static void pattern_put_number(const struct pattern *pattern, uint64_t number, uint8_t to[PATTERN_NUMBER_BYTES])
{
    if (pattern->framing != PATTERN_LINE) {
        pattern_put_little(to, number, PATTERN_NUMBER_BYTES);
        return;
    }
    for (uint32_t i = 0; i < PATTERN_NUMBER_BYTES; i++) /* six bits a character, from '0' to 'o' */
        to[i] = (uint8_t)('0' + ((number >> (6 * i)) & 63));
}

bool pattern_create(struct pattern *pattern, enum pattern_framing framing, uint32_t payload_bytes, uint32_t batch_count)
{
    *pattern = (struct pattern){.framing = framing, .batch_count = batch_count};
    pattern->number_offset = framing == PATTERN_FRAME ? 4 : 0;
    pattern->head_bytes = pattern->number_offset + (payload_bytes < PATTERN_NUMBER_BYTES ? payload_bytes : PATTERN_NUMBER_BYTES);
    pattern->frame_bytes = pattern->number_offset + payload_bytes + (framing == PATTERN_LINE);
    pattern->bytes = malloc((size_t)batch_count * pattern->frame_bytes);
    if (pattern->bytes == NULL)
        return false;
    for (uint32_t i = 0; i < batch_count; i++) {
        uint8_t *frame = pattern->bytes + (size_t)i * pattern->frame_bytes;
        pattern_put_little(frame, payload_bytes, pattern->number_offset);
        for (uint32_t at = pattern->number_offset; at < pattern->frame_bytes; at++)
            frame[at] = (uint8_t)('a' + at % 26);
        if (framing == PATTERN_LINE)
            frame[pattern->frame_bytes - 1] = '\n';
    }
    return true;
}

void pattern_destroy(struct pattern *pattern)
{
    free(pattern->bytes);
    pattern->bytes = NULL;
}

const uint8_t *pattern_make(struct pattern *pattern, uint64_t number, uint64_t step, uint32_t count)
{
    uint8_t *at = pattern->bytes + pattern->number_offset;
    uint32_t number_bytes = pattern->head_bytes - pattern->number_offset;
    uint8_t digits[PATTERN_NUMBER_BYTES];
    for (uint32_t i = 0; i < count; i++) {
        pattern_put_number(pattern, number, digits);
        if (number_bytes == PATTERN_NUMBER_BYTES) /* known to the compiler, so one store */
            memcpy(at, digits, PATTERN_NUMBER_BYTES);
        else
            memcpy(at, digits, number_bytes);
        at += pattern->frame_bytes;
        number += step;
    }
    return pattern->bytes;
}

/* Compares the part of [offset, offset + count) that lies at or behind `from` with the frame in front, whose tail all share. */
static bool pattern_tail_matches(const struct pattern *pattern, uint32_t from, uint32_t offset, const uint8_t *bytes, uint32_t count)
{
    uint32_t begin = offset > from ? offset : from;
    uint32_t end = offset + count;
    return begin >= end || memcmp(pattern->bytes + begin, bytes + (begin - offset), end - begin) == 0;
}

bool pattern_matches(const struct pattern *pattern, uint64_t number, uint32_t offset, const uint8_t *bytes, uint32_t count, bool whole)
{
    if (offset < pattern->head_bytes) {
        uint8_t head[PATTERN_HEAD_MOST];
        memcpy(head, pattern->bytes, pattern->number_offset);
        pattern_put_number(pattern, number, head + pattern->number_offset);
        uint32_t end = offset + count < pattern->head_bytes ? offset + count : pattern->head_bytes;
        bool usual = offset == 0 && end == PATTERN_HEAD_MOST; /* sizes that the compiler knows: no call */
        if (usual ? memcmp(head, bytes, PATTERN_HEAD_MOST) != 0 : memcmp(head + offset, bytes, end - offset) != 0)
            return false;
    }
    if (whole)
        return pattern_tail_matches(pattern, pattern->head_bytes, offset, bytes, count);
    if (pattern->framing == PATTERN_LINE)
        return pattern_tail_matches(pattern, pattern->frame_bytes - 1, offset, bytes, count);
    return true;
}
