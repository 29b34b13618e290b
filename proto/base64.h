/* SPDX-License-Identifier: MIT */
/* base64: RFC 4648, section 4: bytes as text, three as four characters, padded by '='. */
#ifndef W_BASE64_H
#define W_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Characters that so many bytes become, without an end of string. */
#define W_BASE64_CHARACTERS(bytes) (((bytes) + 2) / 3 * 4)

/* Writes W_BASE64_CHARACTERS(bytes) characters, and no end of string. */
void w_base64_encode(const uint8_t *data, size_t bytes, char *text);

/* Writes what the text stands for, at most characters / 4 * 3 bytes, and answers how many, or -1: a character that is none of the alphabet, a length that is
 * no multiple of four, padding that is not at the end, or bits that are lost under it (section 3.5): one text for each sequence of bytes, and no other. */
int64_t w_base64_decode(const char *text, size_t characters, uint8_t *data);

#endif
