/* SPDX-License-Identifier: MIT */
/* process: see process.h.
 *
 * CPU time comes from the process's CPU clock, not from /proc/PID/schedstat: the clock includes the slice that is running
 * right now, schedstat is up to a timer tick behind (4 ms at 250 Hz, half a per cent of a short run). */
#include "process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t process_clock_ns(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) != 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t process_now_ns(void)
{
    return process_clock_ns(CLOCK_MONOTONIC);
}

uint64_t process_own_cpu_ns(void)
{
    return process_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* The sum of all lines of a /proc file that read "<word> <number>", where word ends with `name`. */
static uint64_t process_sum_lines(const char *path, const char *name)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    uint64_t sum = 0;
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        const char *match = strstr(line, name);
        unsigned long long number;
        if (match != NULL && sscanf(match + strlen(name), "%llu", &number) == 1)
            sum += number;
    }
    fclose(file);
    return sum;
}

bool process_sample(pid_t process, struct process_sample *sample)
{
    *sample = (struct process_sample){0};
    clockid_t clock;
    if (clock_getcpuclockid(process, &clock) != 0)
        return false;
    sample->cpu_ns = process_clock_ns(clock);
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task", (int)process);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return false;
    const struct dirent *task;
    while ((task = readdir(tasks)) != NULL) {
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)process, task->d_name);
        sample->switches += process_sum_lines(path, "voluntary_ctxt_switches:"); /* nonvoluntary_... ends so too */
    }
    closedir(tasks);
    return true;
}

uint64_t process_rss_bytes(pid_t process)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)process);
    uint64_t rss_kilobytes = process_sum_lines(path, "Rss:");
    if (rss_kilobytes == 0) { /* a kernel without smaps_rollup, or a stranger's process: this one is less exact */
        snprintf(path, sizeof path, "/proc/%d/status", (int)process);
        rss_kilobytes = process_sum_lines(path, "VmRSS:");
    }
    return rss_kilobytes * 1024;
}
