/* SPDX-License-Identifier: MIT */
/* option: reads the value of a command-line option, or ends the program with a sentence that names what was wanted. */
#pragma once

#include <argp.h>
#include <stdint.h>

/* A whole number from `least` to `most`. */
uint64_t option_count(const struct argp_state *state, const char *name, const char *text, uint64_t least, uint64_t most);

/* Which of `names` (the last is NULL) it is. */
uint32_t option_choice(const struct argp_state *state, const char *name, const char *text, const char *const *names);

/* Seconds, with a fraction if need be, as nanoseconds. */
uint64_t option_seconds_ns(const struct argp_state *state, const char *name, const char *text, double least, double most);
