/* SPDX-License-Identifier: MIT */
/* option: see option.h. */
#include "option.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

uint64_t option_count(const struct argp_state *state, const char *name, const char *text, uint64_t least, uint64_t most)
{
    char *end = NULL;
    errno = 0;
    uint64_t value = isdigit((unsigned char)text[0]) ? strtoull(text, &end, 10) : 0;
    if (end == NULL || *end != '\0' || errno != 0 || value < least || value > most)
        argp_error(state, "%s wants %" PRIu64 " to %" PRIu64 ", not '%s'", name, least, most, text);
    return value;
}

uint64_t option_seconds_ns(const struct argp_state *state, const char *name, const char *text, double least, double most)
{
    char *end = NULL;
    double value = isdigit((unsigned char)text[0]) || text[0] == '.' ? strtod(text, &end) : 0;
    if (end == NULL || end == text || *end != '\0' || !(value >= least && value <= most))
        argp_error(state, "%s wants %g to %g seconds, not '%s'", name, least, most, text);
    return (uint64_t)(value * 1e9);
}
