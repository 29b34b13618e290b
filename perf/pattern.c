/* SPDX-License-Identifier: MIT */
/* pattern: see pattern.h. */
#include "pattern.h"

#include <stdlib.h>
#include <string.h>

#define PATTERN_NUMBER_BYTES 8u
#define PATTERN_HEAD_USUAL   12u /* a length field and a number */
#define PATTERN_HEAD_MOST    18u
#define PATTERN_KEY_BYTES    4u

const char *const pattern_framing_names[] = {
    [PATTERN_FRAME] = "frame", [PATTERN_LINE] = "line", [PATTERN_RAW] = "raw", [PATTERN_WEBSOCKET] = "websocket", NULL,
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

/* What stands before the payload: answers its bytes. */
static uint32_t pattern_put_head(enum pattern_framing framing, uint32_t payload_bytes, bool masked, uint8_t to[PATTERN_HEAD_MOST])
{
    if (framing == PATTERN_FRAME)
        pattern_put_little(to, payload_bytes, 4);
    if (framing != PATTERN_WEBSOCKET)
        return framing == PATTERN_FRAME ? 4 : 0;
    uint32_t length_bytes = payload_bytes < 126 ? 0 : payload_bytes <= UINT16_MAX ? 2 : 8;
    to[0] = 0x82; /* whole, binary */
    to[1] = (uint8_t)((masked ? 0x80 : 0) | (length_bytes == 0 ? payload_bytes : length_bytes == 2 ? 126 : 127));
    for (uint32_t i = 0; i < length_bytes; i++)
        to[2 + i] = (uint8_t)((uint64_t)payload_bytes >> 8 * (length_bytes - 1 - i));
    return 2 + length_bytes + (masked ? PATTERN_KEY_BYTES : 0); /* the key comes with the mask */
}

static struct pattern_layout pattern_lay_out(enum pattern_framing framing, uint32_t payload_bytes, bool masked)
{
    uint8_t head[PATTERN_HEAD_MOST];
    uint32_t number_offset = pattern_put_head(framing, payload_bytes, masked, head);
    return (struct pattern_layout){
        .number_offset = number_offset,
        .head_bytes = number_offset + (payload_bytes < PATTERN_NUMBER_BYTES ? payload_bytes : PATTERN_NUMBER_BYTES),
        .frame_bytes = number_offset + payload_bytes + (framing == PATTERN_LINE),
    };
}

static void pattern_fill(const struct pattern *pattern, const struct pattern_layout *layout, uint32_t payload_bytes, bool masked,
                         uint8_t *frame)
{
    uint8_t key[PATTERN_KEY_BYTES] = {0};
    pattern_put_head(pattern->framing, payload_bytes, masked, frame);
    if (masked) {
        memcpy(key, &pattern->mask, sizeof key);
        memcpy(frame + layout->number_offset - sizeof key, key, sizeof key);
    }
    for (uint32_t at = 0; at < payload_bytes; at++)
        frame[layout->number_offset + at] = (uint8_t)('a' + at % 26) ^ key[at % sizeof key];
    if (pattern->framing == PATTERN_LINE)
        frame[layout->frame_bytes - 1] = '\n';
}

bool pattern_create(struct pattern *pattern, enum pattern_framing framing, uint32_t payload_bytes, uint32_t batch_count)
{
    bool masked = framing == PATTERN_WEBSOCKET;
    *pattern = (struct pattern){.framing = framing, .batch_count = batch_count, .mask = masked ? 0x9d3f5ac79d3f5ac7 : 0};
    pattern->sent = pattern_lay_out(framing, payload_bytes, masked);
    pattern->answer = pattern_lay_out(framing, payload_bytes, false);
    size_t sent_bytes = (size_t)batch_count * pattern->sent.frame_bytes;
    pattern->bytes = malloc(sent_bytes + pattern->answer.frame_bytes);
    if (pattern->bytes == NULL)
        return false;
    for (uint32_t i = 0; i < batch_count; i++)
        pattern_fill(pattern, &pattern->sent, payload_bytes, masked, pattern->bytes + (size_t)i * pattern->sent.frame_bytes);
    pattern_fill(pattern, &pattern->answer, payload_bytes, false, pattern->bytes + sent_bytes);
    pattern->answer_bytes = pattern->bytes + sent_bytes;
    return true;
}

void pattern_destroy(struct pattern *pattern)
{
    free(pattern->bytes);
    pattern->bytes = NULL;
}

const uint8_t *pattern_make(struct pattern *pattern, uint64_t number, uint64_t step, uint32_t count)
{
    const struct pattern_layout *sent = &pattern->sent;
    uint8_t *at = pattern->bytes + sent->number_offset;
    uint32_t number_bytes = sent->head_bytes - sent->number_offset;
    uint8_t digits[PATTERN_NUMBER_BYTES];
    for (uint32_t i = 0; i < count; i++) {
        pattern_put_number(pattern, number ^ pattern->mask, digits);
        if (number_bytes == PATTERN_NUMBER_BYTES) /* known to the compiler, so one store */
            memcpy(at, digits, PATTERN_NUMBER_BYTES);
        else
            memcpy(at, digits, number_bytes);
        at += sent->frame_bytes;
        number += step;
    }
    return pattern->bytes;
}

/* Compares the part of [offset, offset + count) that lies at or behind `from` with the answer that all share. */
static bool pattern_tail_matches(const struct pattern *pattern, uint32_t from, uint32_t offset, const uint8_t *bytes, uint32_t count)
{
    uint32_t begin = offset > from ? offset : from;
    uint32_t end = offset + count;
    return begin >= end || memcmp(pattern->answer_bytes + begin, bytes + (begin - offset), end - begin) == 0;
}

bool pattern_matches(const struct pattern *pattern, uint64_t number, uint32_t offset, const uint8_t *bytes, uint32_t count, bool whole)
{
    const struct pattern_layout *answer = &pattern->answer;
    if (offset < answer->head_bytes) {
        uint8_t head[PATTERN_HEAD_MOST];
        memcpy(head, pattern->answer_bytes, answer->number_offset);
        pattern_put_number(pattern, number, head + answer->number_offset);
        uint32_t end = offset + count < answer->head_bytes ? offset + count : answer->head_bytes;
        bool usual = offset == 0 && end == PATTERN_HEAD_USUAL; /* sizes that the compiler knows: no call */
        if (usual ? memcmp(head, bytes, PATTERN_HEAD_USUAL) != 0 : memcmp(head + offset, bytes, end - offset) != 0)
            return false;
    }
    if (whole)
        return pattern_tail_matches(pattern, answer->head_bytes, offset, bytes, count);
    if (pattern->framing == PATTERN_LINE)
        return pattern_tail_matches(pattern, answer->frame_bytes - 1, offset, bytes, count);
    return true;
}
