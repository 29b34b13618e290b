/* SPDX-License-Identifier: MIT */
/* fuzz: what the fuzz targets share: a check that says what did not hold, and the input taken field by field.
 *
 * fuzz_<name>.c is a target: one LLVMFuzzerTestOneInput. It is built with libFuzzer (the preset "fuzz"; tests/fuzz/run lets it search), and in every
 * build with replay.c, which gives it the files of corpus/<name>. The same input has to do the same each time: no clock, no chance. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define FUZZ_CHECK(condition) ((condition) ? (void)0 : fuzz_failed(#condition, __FILE__, __LINE__))

_Noreturn static inline void fuzz_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "fuzz: %s does not hold (%s:%d)\n", condition, file, line);
    abort();
}

struct fuzz_input {
    const uint8_t *data;
    size_t bytes;
};

/* The next number of so many bytes, little-endian; what is missing at the end is 0. */
static inline uint64_t fuzz_take(struct fuzz_input *input, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes && input->bytes > 0; i++) {
        value |= (uint64_t)input->data[0] << 8 * i;
        input->data++;
        input->bytes--;
    }
    return value;
}

static inline uint8_t fuzz_take_u8(struct fuzz_input *input)
{
    return (uint8_t)fuzz_take(input, 1);
}

static inline uint32_t fuzz_take_u32(struct fuzz_input *input)
{
    return (uint32_t)fuzz_take(input, 4);
}

#endif
