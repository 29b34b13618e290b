/* SPDX-License-Identifier: MIT */
/* base64: three bytes are four characters of six bits each. */
#include "proto/base64.h"

static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void w_base64_encode(const uint8_t *data, size_t bytes, char *text)
{
    for (size_t i = 0; i < bytes; i += 3, text += 4) {
        size_t count = bytes - i < 3 ? bytes - i : 3;
        uint32_t bits = (uint32_t)data[i] << 16 | (count > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (count > 2 ? data[i + 2] : 0);
        for (size_t k = 0; k < 4; k++)
            text[k] = k <= count ? base64_alphabet[bits >> (18 - 6 * k) & 63] : '=';
    }
}

/* What a character stands for, or -1. */
static int32_t base64_value(char character)
{
    if (character >= 'A' && character <= 'Z')
        return character - 'A';
    if (character >= 'a' && character <= 'z')
        return character - 'a' + 26;
    if (character >= '0' && character <= '9')
        return character - '0' + 52;
    return character == '+' ? 62 : character == '/' ? 63 : -1;
}

int64_t w_base64_decode(const char *text, size_t characters, uint8_t *data)
{
    size_t padding = 0, bytes = 0;
    if (characters % 4 != 0)
        return -1;
    while (padding < 2 && padding < characters && text[characters - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < characters; i += 4) {
        size_t missing = i + 4 == characters ? padding : 0;
        uint32_t bits = 0;
        for (size_t k = 0; k < 4; k++) {
            int32_t value = k < 4 - missing ? base64_value(text[i + k]) : 0;
            if (value < 0)
                return -1;
            bits = bits << 6 | (uint32_t)value;
        }
        if ((bits & ((UINT32_C(1) << 8 * missing) - 1)) != 0)
            return -1;
        for (size_t k = 0; k < 3 - missing; k++)
            data[bytes++] = (uint8_t)(bits >> (16 - 8 * k));
    }
    return (int64_t)bytes;
}
