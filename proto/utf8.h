/* SPDX-License-Identifier: MIT */
/* utf8: is it UTF-8 (RFC 3629)? Piece by piece, and said at the first byte that cannot be: overlong forms, surrogates and what is over U+10FFFF are none.
 *
 * Long pieces are looked at 32 bytes at a time, by the method of Keiser and Lemire, "Validating UTF-8 In Less Than One Instruction Per Byte" (Software: Practice and
 * Experience, 2021), where the processor has AVX2; elsewhere and at the ends byte by byte. Both say the same of every input (tests/unit/test_utf8.c). */
#ifndef W_UTF8_H
#define W_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where it is: zeroed at the beginning of a text. */
struct w_utf8 {
    uint8_t missing;   /* bytes of the character that is begun */
    uint8_t low, high; /* between which the next of them has to be */
};

/* False: this piece, behind those before it, is the beginning of no text. Then the state is of no use any more. */
bool w_utf8_check(struct w_utf8 *state, const uint8_t *data, size_t bytes);

/* Is no character begun? Asked at the end of a text. */
static inline bool w_utf8_is_whole(const struct w_utf8 *state)
{
    return state->missing == 0;
}

/* The same byte by byte, on every processor: the twin that the other way is tested against. */
bool w_utf8_check_portably(struct w_utf8 *state, const uint8_t *data, size_t bytes);

#endif
