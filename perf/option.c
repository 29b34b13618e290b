/* SPDX-License-Identifier: MIT */
/* option: see option.h. */
#include "option.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t option_count(const struct argp_state *state, const char *name, const char *text, uint64_t least, uint64_t most)
{
    char *end = NULL;
    errno = 0;
    uint64_t value = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (end == NULL || *end != '\0' || errno != 0 || value < least || value > most)
        argp_error(state, "%s wants %" PRIu64 " to %" PRIu64 ", not '%s'", name, least, most, text);
    return value;
}

uint32_t option_choice(const struct argp_state *state, const char *name, const char *text, const char *const *names)
{
    char known[256] = "";
    for (uint32_t i = 0; names[i] != NULL; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    for (uint32_t i = 0; names[i] != NULL; i++) {
        const char *before = i == 0 ? "" : names[i + 1] != NULL ? ", " : " or ";
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", before, names[i]);
    }
    argp_error(state, "%s wants %s, not '%s'", name, known, text);
    return 0;
}

uint64_t option_seconds_ns(const struct argp_state *state, const char *name, const char *text, double least, double most)
{
    char *end = NULL;
    double value = isdigit((unsigned char)text[0]) || text[0] == '.' ? strtod(text, &end) : 0;
    if (end == NULL || end == text || *end != '\0' || !(value >= least && value <= most))
        argp_error(state, "%s wants %g to %g seconds, not '%s'", name, least, most, text);
    return (uint64_t)(value * 1e9);
}
