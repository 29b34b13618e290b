/* SPDX-License-Identifier: MIT */
/* utf8: see utf8.h.
 *
 * Road:    the rest of a character that was begun -> blocks of 32 bytes -> back to where the last character begins -> byte by byte.
 * Ditches: a byte that cannot follow -> false, at that byte. */
#include "proto/utf8.h"

#include <string.h>

/* --- byte by byte --- */

/* The first byte of a character of several (RFC 3629, section 4): how many follow, and between what the first of them is. False: it is none. */
static bool utf8_begin(struct w_utf8 *state, uint8_t byte)
{
    if (byte < 0xc2 || byte > 0xf4)
        return false;
    state->missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
    state->low = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
    state->high = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
    return true;
}

static bool utf8_step(struct w_utf8 *state, uint8_t byte)
{
    if (state->missing == 0)
        return byte < 0x80 || utf8_begin(state, byte);
    if (byte < state->low || byte > state->high)
        return false;
    state->missing--;
    state->low = 0x80;
    state->high = 0xbf;
    return true;
}

static bool utf8_is_ascii(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return (word & UINT64_C(0x8080808080808080)) == 0;
}

bool w_utf8_check_portably(struct w_utf8 *state, const uint8_t *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (state->missing == 0 && bytes - i >= sizeof(uint64_t) && utf8_is_ascii(data + i))
            i += sizeof(uint64_t) - 1;
        else if (!utf8_step(state, data[i]))
            return false;
    }
    return true;
}

/* --- 32 bytes at a time --- */

#if defined(__x86_64__)
#include <immintrin.h>

#define UTF8_BLOCK_BYTES ((size_t)32)
#define UTF8_AVX2        __attribute__((target("avx2")))

/* What may be wrong with a byte and the one before it. Each of three looks - at the upper half of the byte before, at its lower half, at the upper half of the byte -
 * leaves those that it cannot exclude; what all three leave is wrong. But for the last, which is right where a third or fourth byte is due. */
enum {
    TOO_SHORT = 1 << 0,      /* a first byte, and no other behind it */
    TOO_LONG = 1 << 1,       /* ASCII, and one that continues behind it */
    OVERLONG_3 = 1 << 2,     /* 11100000 100 */
    TOO_LARGE = 1 << 3,      /* 11110100 101, and all above */
    SURROGATE = 1 << 4,      /* 11101101 101 */
    OVERLONG_2 = 1 << 5,     /* 1100000 */
    TOO_LARGE_1000 = 1 << 6, /* 11110101 1000, and all above */
    OVERLONG_4 = 1 << 6,     /* 11110000 1000 */
    TWO_CONTINUE = 1 << 7,   /* 10 10 */
    ANY_LOW = TOO_SHORT | TOO_LONG | TWO_CONTINUE,
};

UTF8_AVX2 static inline __m256i utf8_table(int8_t a0, int8_t a1, int8_t a2, int8_t a3, int8_t a4, int8_t a5, int8_t a6, int8_t a7,
                                           int8_t a8, int8_t a9, int8_t aa, int8_t ab, int8_t ac, int8_t ad, int8_t ae, int8_t af)
{
    return _mm256_setr_epi8(a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, aa, ab, ac, ad, ae, af, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, aa, ab,
                            ac, ad, ae, af);
}

UTF8_AVX2 static inline __m256i utf8_look(__m256i table, __m256i halves)
{
    return _mm256_shuffle_epi8(table, halves);
}

UTF8_AVX2 static inline __m256i utf8_upper(__m256i bytes)
{
    return _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(0x0f));
}

/* Not zero where a byte is wrong. `before`: the block before. */
UTF8_AVX2 static inline __m256i utf8_block(__m256i block, __m256i before)
{
    const int8_t low = (int8_t)ANY_LOW, large = (int8_t)(ANY_LOW | TOO_LARGE | TOO_LARGE_1000), two = (int8_t)TWO_CONTINUE;
    const int8_t any = (int8_t)(TOO_LONG | OVERLONG_2 | TWO_CONTINUE);
    const __m256i upper_before = utf8_table(TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, two, two, two,
                                            two, TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,
                                            TOO_SHORT | TOO_LARGE | TOO_LARGE_1000 | OVERLONG_4);
    const __m256i lower_before =
        utf8_table((int8_t)(low | OVERLONG_3 | OVERLONG_2 | OVERLONG_4), (int8_t)(low | OVERLONG_2), low, low, (int8_t)(low | TOO_LARGE),
                   large, large, large, large, large, large, large, large, (int8_t)(large | SURROGATE), large, large);
    const __m256i upper = utf8_table(TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
                                     (int8_t)(any | OVERLONG_3 | TOO_LARGE_1000 | OVERLONG_4), (int8_t)(any | OVERLONG_3 | TOO_LARGE),
                                     (int8_t)(any | SURROGATE | TOO_LARGE), (int8_t)(any | SURROGATE | TOO_LARGE), TOO_SHORT, TOO_SHORT,
                                     TOO_SHORT, TOO_SHORT);
    const __m256i across = _mm256_permute2x128_si256(before, block, 0x21);
    const __m256i one = _mm256_alignr_epi8(block, across, 15), second = _mm256_alignr_epi8(block, across, 14),
                  third = _mm256_alignr_epi8(block, across, 13);
    __m256i wrong = _mm256_and_si256(utf8_look(upper_before, utf8_upper(one)), utf8_look(upper, utf8_upper(block)));
    wrong = _mm256_and_si256(wrong, utf8_look(lower_before, _mm256_and_si256(one, _mm256_set1_epi8(0x0f))));
    /* A third or fourth byte is due: the uppermost bit is set by subtraction, where the byte two before is 111..... or the one three before is 1111.... */
    const __m256i due = _mm256_or_si256(_mm256_subs_epu8(second, _mm256_set1_epi8((char)(0xe0 - 0x80))),
                                        _mm256_subs_epu8(third, _mm256_set1_epi8((char)(0xf0 - 0x80))));
    return _mm256_xor_si256(_mm256_and_si256(due, _mm256_set1_epi8((char)0x80)), wrong);
}

/* As many whole blocks as there are, from the beginning of a character: false, something is wrong in them. The last character may be begun only. */
UTF8_AVX2 static bool utf8_check_blocks(const uint8_t *data, size_t bytes)
{
    __m256i before = _mm256_setzero_si256(), wrong = before;
    for (size_t i = 0; i + UTF8_BLOCK_BYTES <= bytes; i += UTF8_BLOCK_BYTES) {
        const __m256i block = _mm256_loadu_si256((const __m256i *)(const void *)(data + i));
        if (_mm256_movemask_epi8(_mm256_or_si256(block, before)) != 0) /* else both are ASCII */
            wrong = _mm256_or_si256(wrong, utf8_block(block, before));
        before = block;
    }
    return _mm256_testz_si256(wrong, wrong) != 0;
}

/* Where the last character before `end` begins, if it is not whole; else `end`. What lies before is right. */
static size_t utf8_last_begin(const uint8_t *data, size_t end)
{
    for (size_t back = 1; back <= 3 && back <= end; back++)
        if (data[end - back] >= 0xc0)
            return data[end - back] >= (back == 1 ? 0xc0 : back == 2 ? 0xe0 : 0xf0) ? end - back : end;
    return end;
}

bool w_utf8_check(struct w_utf8 *state, const uint8_t *data, size_t bytes)
{
    size_t begin = 0;
    for (; begin < bytes && state->missing > 0; begin++)
        if (!utf8_step(state, data[begin]))
            return false;
    if (bytes - begin >= 2 * UTF8_BLOCK_BYTES && __builtin_cpu_supports("avx2")) {
        size_t blocks_bytes = (bytes - begin) / UTF8_BLOCK_BYTES * UTF8_BLOCK_BYTES;
        if (!utf8_check_blocks(data + begin, blocks_bytes))
            return false;
        begin = utf8_last_begin(data, begin + blocks_bytes);
    }
    return w_utf8_check_portably(state, data + begin, bytes - begin);
}

#else

bool w_utf8_check(struct w_utf8 *state, const uint8_t *data, size_t bytes)
{
    return w_utf8_check_portably(state, data, bytes);
}

#endif
