/* SPDX-License-Identifier: MIT */
/* uring_open: making a shard's engine on the real kernel, and taking it apart.
 *
 * Road:    features → buffers → rings as large as the locked-memory limit allows → bell; start binds it to its thread.
 * Ditches: a feature is missing → its code, its sentence and what mends it; no locked memory → smaller rings, told in the log, down to the least;
 *          anything else → all is undone, with a sentence. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "runtime/io/feature.h"
#include "runtime/io/uapi.h"
#include "runtime/io/uring.h"

#define BUFFERS                  64
#define BUFFER_BYTES_INCREMENTAL (64 * 1024)
#define BUFFER_BYTES_PLAIN       (16 * 1024)
#define MEMORY_TRIES             20
#define MEMORY_PAUSE_NS          10000000

void w_uring_log(struct w_uring *uring, weir_log_level level, const char *format, ...)
{
    char sentence[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    uring->log(uring->log_user, level, sentence);
}

static int open_buffers(struct w_uring *uring, const struct w_io_setup *setup, bool incremental, weir_error *error)
{
    uint32_t count = setup->receive_buffers != 0 ? setup->receive_buffers : BUFFERS;
    uint32_t bytes = setup->receive_buffer_bytes;
    /* A plain buffer is used up by one receive, however short: more of them, and smaller. */
    if (bytes == 0 && !incremental)
        count *= BUFFER_BYTES_INCREMENTAL / BUFFER_BYTES_PLAIN;
    if (bytes == 0)
        bytes = incremental ? BUFFER_BYTES_INCREMENTAL : BUFFER_BYTES_PLAIN;
    count = w_base_min_u32(count, W_BUFFERS_MAX);
    int result = w_buffers_open(&uring->buffers, count, bytes, incremental, uring->allocator);
    if (result < 0)
        return w_base_fail(error, result, "no memory for shard %u's receive buffers: %u of %u bytes (config.receive_buffers)",
                           uring->shard_index, count, bytes);
    uring->io.buffers = count;
    uring->io.buffers_free = count;
    uring->io.buffer_bytes = bytes;
    return 0;
}

/* Sizes at which the rings of all shards fit three quarters of what may be locked: the limit counts for all processes of the user. */
static void fit_locked_memory(struct w_uring *uring, uint32_t shard_count, uint32_t *submissions, uint32_t *completions)
{
    const uint64_t limit_bytes = w_feature_locked_bytes();
    const uint64_t share_bytes = limit_bytes / 4 * 3 / (shard_count != 0 ? shard_count : 1);
    *submissions = W_FEATURE_SUBMISSIONS;
    *completions = W_FEATURE_COMPLETIONS;
    while (limit_bytes != UINT64_MAX && *completions > W_FEATURE_COMPLETIONS_LEAST &&
           w_ring_bytes(*submissions, *completions) + w_buffers_mapped_bytes(&uring->buffers) > share_bytes) {
        *completions /= 2;
        *submissions = *submissions > W_FEATURE_SUBMISSIONS_LEAST ? *submissions / 2 : W_FEATURE_SUBMISSIONS_LEAST;
    }
}

static int open_rings_once(struct w_uring *uring, uint32_t submissions, uint32_t completions)
{
    int result = w_ring_open(&uring->ring, submissions, completions);
    if (result < 0)
        return result;
    result = w_buffers_register(&uring->buffers, uring->ring.uring.ring_fd);
    if (result < 0)
        w_ring_close(&uring->ring);
    return result;
}

/* Rings that were closed a moment ago, the last process's perhaps, give their locked memory back some milliseconds later. */
static int open_rings_of(struct w_uring *uring, uint32_t submissions, uint32_t completions, int tries)
{
    const struct timespec pause = {.tv_nsec = MEMORY_PAUSE_NS};
    int result = open_rings_once(uring, submissions, completions);
    for (; tries > 0 && result == -ENOMEM; tries--) {
        nanosleep(&pause, NULL);
        result = open_rings_once(uring, submissions, completions);
    }
    return result;
}

static int fail_rings(struct w_uring *uring, int code, weir_error *error)
{
    const unsigned shard = uring->shard_index;
    const uint64_t least = w_ring_bytes(W_FEATURE_SUBMISSIONS_LEAST, W_FEATURE_COMPLETIONS_LEAST);
    if (code == -ENOMEM)
        return w_base_fail(error, code,
                           "no locked memory for shard %u's rings: they need %llu KiB each at least and the limit is %llu KiB; "
                           "raise it (ulimit -l 65536; systemd: LimitMEMLOCK=64M) or use fewer shards",
                           shard, (unsigned long long)least / 1024, (unsigned long long)w_feature_locked_bytes() / 1024);
    if (code == -EMFILE || code == -ENFILE)
        return w_base_fail(error, code, "no descriptor for shard %u's ring; raise the limit (%s)", shard,
                           code == -EMFILE ? "ulimit -n 65536; systemd: LimitNOFILE=65536" : "sysctl -w fs.file-max=1000000");
    return w_base_fail(error, code, "shard %u's ring cannot be set up: %s (run weir-probe)", shard, strerrordesc_np(-code));
}

static int open_rings(struct w_uring *uring, uint32_t shard_count, weir_error *error)
{
    uint32_t submissions, completions;
    fit_locked_memory(uring, shard_count, &submissions, &completions);
    int result = open_rings_of(uring, submissions, completions, MEMORY_TRIES);
    while (result == -ENOMEM && completions > W_FEATURE_COMPLETIONS_LEAST) {
        completions /= 2;
        submissions = submissions > W_FEATURE_SUBMISSIONS_LEAST ? submissions / 2 : W_FEATURE_SUBMISSIONS_LEAST;
        result = open_rings_of(uring, submissions, completions, completions > W_FEATURE_COMPLETIONS_LEAST ? 1 : MEMORY_TRIES);
    }
    if (result < 0)
        return fail_rings(uring, result, error);
    if (completions < W_FEATURE_COMPLETIONS)
        w_uring_log(
            uring, WEIR_LOG_WARNING,
            "shard %u has a completion queue of %u instead of %u: locked memory is short (ulimit -l 65536; systemd: LimitMEMLOCK=64M)",
            uring->shard_index, completions, W_FEATURE_COMPLETIONS);
    uring->io.lookup_bytes = sizeof(struct w_uring_lookup);
    uring->io.memory_bytes = sizeof *uring + w_ring_bytes(submissions, completions) + w_buffers_mapped_bytes(&uring->buffers) +
                             w_buffers_allocated_bytes(&uring->buffers);
    return 0;
}

/* Lets the ring write the bell, too. */
static int embed(struct w_uring *uring)
{
    int result = io_uring_register_eventfd(&uring->ring.uring, uring->bell);
    uring->embedded = result == 0;
    return result;
}

static int open_bell(struct w_uring *uring, bool embedded, weir_error *error)
{
    uring->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uring->bell < 0)
        return fail_rings(uring, -errno, error);
    int result = embedded ? embed(uring) : 0;
    return result < 0 ? fail_rings(uring, result, error) : 0;
}

int w_uring_descriptor(struct w_io *io)
{
    struct w_uring *uring = w_uring_of(io);
    int result = uring->embedded ? 0 : uring->started ? -EINVAL : embed(uring);
    return result < 0 ? result : uring->bell;
}

static void seed(struct w_uring *uring)
{
    struct timespec now;
    if (getrandom(&uring->random_state, sizeof uring->random_state, GRND_NONBLOCK) == (ssize_t)sizeof uring->random_state)
        return;
    /* Chance here spreads retries; it is no secret. */
    clock_gettime(CLOCK_MONOTONIC, &now);
    uring->random_state = (uint64_t)now.tv_nsec * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)(uintptr_t)uring ^ (uint64_t)getpid() << 32;
}

int w_uring_open(void *world, const struct w_io_setup *setup, struct w_io **io, weir_error *error)
{
    struct w_features features;
    const weir_allocator *allocator = setup->allocator;
    (void)world;
    *io = NULL;
    int result = w_feature_read(setup->disable, &features, error);
    if (result < 0)
        return result;
    struct w_uring *uring = allocator->allocate(allocator->user, sizeof *uring, alignof(struct w_uring));
    if (uring == NULL)
        return w_base_fail(error, -ENOMEM, "no memory for shard %u's engine", setup->shard_index);
    memset(uring, 0, sizeof *uring);
    uring->io.engine = w_io_uring();
    uring->allocator = allocator;
    uring->log = setup->log;
    uring->log_user = setup->log_user;
    uring->shard_index = setup->shard_index;
    uring->bell = -1;
    uring->answers_end = &uring->answers;
    uring->no_iowait = w_feature_usable(&features, W_FEATURE_NO_IOWAIT);
    uring->registered = w_feature_usable(&features, W_FEATURE_REGISTERED_RING);
    uring->sync_message = w_feature_usable(&features, W_FEATURE_SYNC_MESSAGE_RING);
    seed(uring);
    *io = &uring->io;
    result = open_buffers(uring, setup, w_feature_usable(&features, W_FEATURE_INCREMENTAL_BUFFERS), error);
    if (result == 0)
        result = open_rings(uring, setup->shard_count, error);
    if (result == 0)
        result = open_bell(uring, setup->embedded, error);
    if (result < 0)
        w_uring_close(io);
    return result;
}

int w_uring_start(struct w_io *io)
{
    struct w_uring *uring = w_uring_of(io);
    W_ASSERT(!uring->started);
    /* An embedder's thread may live on after another has closed the ring, and would keep a registered descriptor alive. */
    int result = w_ring_start(&uring->ring, uring->registered && !uring->embedded);
    if (result < 0)
        return result;
    uring->started = true;
    uring->ring.wait_flags = uring->no_iowait ? W_UAPI_ENTER_NO_IOWAIT : 0;
    if (uring->embedded)
        (void)io_uring_cq_eventfd_toggle(&uring->ring.uring, false);
    io->now_ns = io->engine->clock(io);
    return 0;
}

void w_uring_close(struct w_io **io)
{
    if (*io == NULL)
        return;
    struct w_uring *uring = w_uring_of(*io);
    w_uring_resolve_finish(uring);
    w_ring_close(&uring->ring);
    w_buffers_close(&uring->buffers);
    if (uring->bell >= 0)
        close(uring->bell);
    uring->allocator->release(uring->allocator->user, uring, sizeof *uring);
    *io = NULL;
}
