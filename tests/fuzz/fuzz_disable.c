/* SPDX-License-Identifier: MIT */
/* fuzz_disable: any text as config.disable and WEIR_DISABLE: refused by a sentence when it names what is no optional feature, else just the features that it names
 * are off. The list is read before anything is tried on the kernel, by a static function: so the file itself stands here, and no ring is made.
 *
 * Input: [the text]. */
#include "fuzz.h"
#include "runtime/io/feature.c"

/* --- by the book --- */

/* False: refused. */
static bool book_read(char *text, uint32_t *off)
{
    for (char *name = strtok(text, ", "); name != NULL; name = strtok(NULL, ", ")) {
        uint32_t bit = 0;
        for (uint32_t i = 0; i < W_FEATURE_COUNT; i++)
            if (strcmp(table[i].name, name) == 0 && !table[i].mandatory && !table[i].limit)
                bit = UINT32_C(1) << i;
        if (bit == 0)
            return false;
        *off |= bit;
    }
    return true;
}

/* --- the library --- */

static void check_refused(const char *text, const weir_error *error)
{
    weir_probe_row rows[WEIR_PROBE_ROWS_MAX];
    uint32_t row_count = 0;
    FUZZ_CHECK(error->code == -EINVAL && strncmp(error->sentence, "config.disable", 14) == 0);
    for (const char *byte = error->sentence; *byte != '\0'; byte++)
        FUZZ_CHECK((unsigned char)*byte >= 0x20 && *byte != 0x7f);
    FUZZ_CHECK(weir_probe(text, rows, &row_count) == -EINVAL && row_count == 1);
    FUZZ_CHECK(rows[0].state == WEIR_PROBE_MISSING && rows[0].mandatory && strcmp(rows[0].name, "disable") == 0);
    FUZZ_CHECK(strncmp(rows[0].sentence, error->sentence, sizeof rows[0].sentence - 1) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    weir_error error = {.code = 0};
    uint32_t off = 0, book_off = 0;
    char *text = malloc(bytes + 1), *copy = malloc(bytes + 1);
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    strcpy(copy, text);
    bool good = book_read(copy, &book_off);
    int result = switch_off(text, "config.disable", &off, &error);
    FUZZ_CHECK(result == (good ? 0 : -EINVAL));
    if (good)
        FUZZ_CHECK(off == book_off);
    else
        check_refused(text, &error);
    free(copy);
    free(text);
    return 0;
}
