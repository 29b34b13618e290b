/* SPDX-License-Identifier: MIT */
/* feature: what this kernel, its limits and this container give, found out by use, never by version.
 *
 * One table (feature.c): a row for each feature, with its name, whether weir can do without, how it is tried, what is done without
 * it, and the line that mends it. Optional rows can be switched off by name, so that the road without them is tested on
 * kernels that have them: by config.disable and by the environment variable WEIR_DISABLE, both with commas between names. */
#ifndef W_FEATURE_H
#define W_FEATURE_H

#include <weir/probe.h>

#include "runtime/base.h"

enum w_feature {
    W_FEATURE_IO_URING,
    W_FEATURE_DEFERRED_WORK,
    W_FEATURE_WAIT_TIMEOUT,
    W_FEATURE_BUFFER_RINGS,
    W_FEATURE_MULTISHOT_RECEIVE,
    W_FEATURE_MULTISHOT_ACCEPT,
    W_FEATURE_MESSAGE_RING,
    W_FEATURE_INCREMENTAL_BUFFERS,
    W_FEATURE_NO_IOWAIT,
    W_FEATURE_SYNC_MESSAGE_RING,
    W_FEATURE_REGISTERED_RING,
    W_FEATURE_LOCKED_MEMORY,
    W_FEATURE_DESCRIPTORS,
    W_FEATURE_COUNT
};

struct w_features {
    weir_probe_row rows[W_FEATURE_COUNT];
    uint32_t usable; /* a bit for each row: there, and not switched off */
};

static inline bool w_feature_usable(const struct w_features *features, enum w_feature feature)
{
    return (features->usable >> feature & 1) != 0;
}

/* Tries all rows. 0 when all mandatory ones are there. Else the negative errno of the first that is not, with its sentence and what mends it in
 * `error`; -EINVAL for a name to be switched off that is no optional row's. Some hundred microseconds; any thread. */
int w_feature_read(const char *disable, struct w_features *features, weir_error *error);

/* How much memory this process may lock (RLIMIT_MEMLOCK); UINT64_MAX: as much as it likes. */
uint64_t w_feature_locked_bytes(void);

/* How big a shard's rings are if nothing is in the way, and the least they can be. */
#define W_FEATURE_SUBMISSIONS       512
#define W_FEATURE_COMPLETIONS       4096
#define W_FEATURE_SUBMISSIONS_LEAST 64
#define W_FEATURE_COMPLETIONS_LEAST 256

#endif
