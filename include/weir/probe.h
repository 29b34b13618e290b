/* SPDX-License-Identifier: MIT */
/* weir/probe.h: what this machine gives weir. tools/weir-probe prints it. */
#ifndef WEIR_PROBE_H
#define WEIR_PROBE_H

#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum weir_probe_state {
    WEIR_PROBE_YES = 0, /* there, and tried */
    WEIR_PROBE_OFF,     /* there, but switched off (config.disable or WEIR_DISABLE) */
    WEIR_PROBE_WITHOUT, /* not there; weir does without, see `sentence` */
    WEIR_PROBE_MISSING, /* not there, and weir cannot run */
} weir_probe_state;

typedef struct weir_probe_row {
    char name[32]; /* "incremental-buffers", "locked-memory" */
    weir_probe_state state;
    bool mandatory;
    char sentence[160]; /* what was found, and what weir does without it */
    char mend[160];     /* the exact line that mends it, or "" */
} weir_probe_row;

#define WEIR_PROBE_ROWS_MAX 32

/* Tries out what weir needs of the kernel, its limits and this container (small rings and sockets are opened and closed
 * again; a few milliseconds). `disable` as in weir_config. Fills at most WEIR_PROBE_ROWS_MAX rows.
 * Answers 0 when weir can run here, or the negative errno that weir_open() would answer. Any thread. */
int weir_probe(const char *disable, weir_probe_row rows[WEIR_PROBE_ROWS_MAX], uint32_t *row_count);

#ifdef __cplusplus
}
#endif

#endif
