/* SPDX-License-Identifier: MIT */
/* report: numbers for people, and the line that says how far a run is. */
#pragma once

#include <stdbool.h>

#define REPORT_NUMBER_BYTES 48

/* Writes "1,234,567.8" into `text` and returns it. */
const char *report_number(char text[REPORT_NUMBER_BYTES], double number, int decimals);

/* Whether somebody watches standard error and the run is long enough (over 2 s) to want to know. */
bool report_progress_wanted(double seconds);

/* Replaces the line. */
void report_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Wipes it, if there is one. */
void report_progress_end(void);
