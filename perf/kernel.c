/* SPDX-License-Identifier: MIT */
/* kernel: see kernel.h. */
#include "kernel.h"

#include <stdio.h>
#include <unistd.h>

/* Bytes of all objects in use; 0: it may not be read. */
static uint64_t kernel_slab_bytes(void)
{
    FILE *file = fopen("/proc/slabinfo", "re");
    if (file == NULL)
        return 0;
    uint64_t sum_bytes = 0;
    unsigned long long active_count, object_bytes;
    char line[512];
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "%*s %llu %*u %llu", &active_count, &object_bytes) == 2)
            sum_bytes += active_count * object_bytes;
    fclose(file);
    return sum_bytes;
}

/* The number behind the first match of a format with one %llu, in a /proc file. */
static uint64_t kernel_number(const char *path, const char *format)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    unsigned long long number = 0;
    char line[512];
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, format, &number) != 1)
        ;
    fclose(file);
    return number;
}

void kernel_sample(struct kernel_sample *sample)
{
    sample->object_bytes = kernel_slab_bytes();
    sample->exact = sample->object_bytes > 0;
    if (!sample->exact)
        sample->object_bytes = kernel_number("/proc/meminfo", "Slab: %llu") * 1024;
    uint64_t tcp_pages = kernel_number("/proc/net/sockstat", "TCP: inuse %*u orphan %*u tw %*u alloc %*u mem %llu");
    sample->tcp_bytes = tcp_pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
