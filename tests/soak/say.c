/* SPDX-License-Identifier: MIT */
/* say: see say.h. */
#include "say.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define FAULTS_SAID 100

static _Atomic uint64_t faults;

uint64_t say_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void say(const char *kind, const char *format, ...)
{
    char line[SAY_LINE_BYTES];
    uint64_t now_ns = say_now_ns();
    int bytes = snprintf(line, sizeof line, "{\"t\":%.3f,\"kind\":\"%s\",", (double)now_ns / 1e9, kind);
    va_list arguments;
    va_start(arguments, format);
    bytes += vsnprintf(line + bytes, sizeof line - (size_t)bytes - 2, format, arguments);
    va_end(arguments);
    if (bytes > SAY_LINE_BYTES - 3)
        bytes = SAY_LINE_BYTES - 3;
    line[bytes++] = '}';
    line[bytes++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)bytes) != bytes)
        _exit(3); /* nobody hears: no use to go on */
}

void say_fault(const char *format, ...)
{
    char text[512];
    va_list arguments;
    if (atomic_fetch_add(&faults, 1) >= FAULTS_SAID)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say("fault", "\"text\":\"%s\"", text);
}

uint64_t say_faults(void)
{
    return atomic_load(&faults);
}
