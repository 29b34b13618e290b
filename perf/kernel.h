/* SPDX-License-Identifier: MIT */
/* kernel: what the kernel uses for itself, all processes together: its objects (sockets, files, poll entries, ...) and what lies in TCP's
 * buffers. Two samples tell what was made between them, if nothing else made much. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct kernel_sample {
    uint64_t object_bytes; /* 0: cannot be read */
    uint64_t tcp_bytes;    /* of them in sockets' buffers, in whole pages */
    bool exact;            /* counted by objects (/proc/slabinfo, for root); else by pages, to about a MB (/proc/meminfo) */
};

void kernel_sample(struct kernel_sample *sample);
