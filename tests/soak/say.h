/* SPDX-License-Identifier: MIT */
/* say: lines of JSON on standard output, {"t":SECONDS,"kind":KIND,...}, each in one write, so that no two mix and none is lost in a kill -9.
 * Seconds are CLOCK_MONOTONIC's, the same in every process of the soak. Any thread. */
#ifndef SOAK_SAY_H
#define SOAK_SAY_H

#include <stdint.h>

#define SAY_LINE_BYTES 4096

/* `format` makes the rest of the line: members of the object, the first without a comma before it. */
void say(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Something that must not be: a line of kind "fault" with a sentence, without quotes in it, as "text". After the first 100 it is only counted. */
void say_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t say_faults(void);

uint64_t say_now_ns(void);

#endif
