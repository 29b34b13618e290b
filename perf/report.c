/* SPDX-License-Identifier: MIT */
/* report: see report.h. */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool report_progress_shown; /* true exactly when a progress line stands on the terminal */

const char *report_number(char text[REPORT_NUMBER_BYTES], double number, int decimals)
{
    char plain[REPORT_NUMBER_BYTES / 2];
    snprintf(plain, sizeof plain, "%.*f", decimals, number);
    size_t digits = strcspn(plain, ".");
    char *to = text;
    for (size_t i = 0; plain[i] != '\0'; i++) {
        *to++ = plain[i];
        if (i + 1 < digits && plain[i] != '-' && (digits - i - 1) % 3 == 0)
            *to++ = ',';
    }
    *to = '\0';
    return text;
}

bool report_progress_wanted(double seconds)
{
    return seconds > 2 && isatty(STDERR_FILENO);
}

void report_progress(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("\r\033[K", stderr);
    vfprintf(stderr, format, arguments);
    fflush(stderr);
    va_end(arguments);
    report_progress_shown = true;
}

void report_progress_end(void)
{
    if (report_progress_shown)
        fputs("\r\033[K", stderr);
    report_progress_shown = false;
}
