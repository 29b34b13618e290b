/* SPDX-License-Identifier: MIT */
/* feature: the table of kernel features, and trying them out.
 *
 * Road:    what is to be switched off → each row tried, on one small ring of its own → weir_probe's rows.
 * Ditches: no io_uring → why (sysctl, seccomp, kernel) and what mends it; no ring → the rows behind it are not tried; a mandatory
 *          row is missing → its code; an unknown name to switch off → -EINVAL. */
#include "runtime/io/feature.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "runtime/io/buffers.h"
#include "runtime/io/ring.h"
#include "runtime/io/uapi.h"

#define NEWER_KERNEL  "Linux 6.1 or newer (Debian 12 has it)"
#define WAIT_LIMIT_NS UINT64_C(500000000) /* for what should be there at once */

#define CANCEL_TOKEN    99
#define ACCEPT_TOKEN    98
#define MEMORY_TRIES    20 /* rings that others closed a moment ago give their locked memory back a little later */
#define MEMORY_PAUSE_NS 10000000

/* What the rows are tried on. */
struct bench {
    struct w_ring ring;  /* started; nothing when ring.uring.sq.sqes is NULL */
    weir_probe_row *row; /* the one being tried: its probe may write a better sentence or mend */
    uint32_t shards;
};

/* A negative errno: not there. 0: there. */
typedef int probe_function(struct bench *bench);

static void say(struct bench *bench, const char *mend, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void say(struct bench *bench, const char *mend, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(bench->row->sentence, sizeof bench->row->sentence, format, arguments);
    va_end(arguments);
    snprintf(bench->row->mend, sizeof bench->row->mend, "%s", mend);
}

/* --- small helpers --- */

/* The first bytes of a file, ended; false when there is no such file. */
static bool read_text(const char *path, char *text, size_t text_bytes)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    ssize_t bytes = read(descriptor, text, text_bytes - 1);
    close(descriptor);
    text[bytes > 0 ? bytes : 0] = '\0';
    return bytes > 0;
}

/* True when a seccomp filter is on this process: containers have one. */
static bool is_filtered(void)
{
    char status[4096];
    const char *line = read_text("/proc/self/status", status, sizeof status) ? strstr(status, "\nSeccomp:") : NULL;
    return line != NULL && line[sizeof "\nSeccomp:"] == '2';
}

/* Trying things out leaves the embedder's allocator alone. */
static void *map_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    (void)alignment; /* a page's is enough */
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

static void map_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    munmap(memory, bytes);
}

static const weir_allocator mapping = {map_allocate, map_release, NULL};

/* One that nobody waits for any more: what was accepted is not to be left open. */
static void drop(const struct io_uring_cqe *completion)
{
    if (completion->user_data == ACCEPT_TOKEN && completion->res >= 0)
        close(completion->res);
}

/* Ends what a row has left in flight, and takes what is left of it, so that the next finds a quiet ring. */
static void cancel_all(struct w_ring *ring)
{
    struct io_uring_cqe completion = {0};
    struct io_uring_sqe *entry = w_ring_next(ring);
    io_uring_prep_cancel64(entry, 0, IORING_ASYNC_CANCEL_ANY);
    entry->user_data = CANCEL_TOKEN;
    while (completion.user_data != CANCEL_TOKEN && w_ring_await(ring, WAIT_LIMIT_NS, &completion) == 0)
        drop(&completion);
    uint32_t head, left;
    do {
        (void)w_ring_enter(ring, 0);
        left = w_ring_completions(ring, &head);
        for (uint32_t i = 0; i < left; i++)
            drop(w_ring_completion(ring, head + i));
        w_ring_taken(ring, head + left);
    } while (left > 0);
}

/* --- mandatory rows --- */

static void explain_forbidden(struct bench *bench, int code)
{
    char value[16] = "";
    bool has_switch = read_text("/proc/sys/kernel/io_uring_disabled", value, sizeof value);
    if (code == -EPERM && value[0] == '2')
        say(bench, "sysctl -w kernel.io_uring_disabled=0", "io_uring is switched off on this machine: kernel.io_uring_disabled is 2");
    else if (code == -EPERM && value[0] == '1' && !is_filtered())
        say(bench, "sysctl -w kernel.io_uring_disabled=0   (or put this user into the group of kernel.io_uring_group)",
            "io_uring is for a group of users only: kernel.io_uring_disabled is 1");
    else if (code == -ENOSYS && !is_filtered() && !has_switch)
        say(bench, NEWER_KERNEL ", built with CONFIG_IO_URING", "this kernel has no io_uring");
    else
        say(bench, "docker run --security-opt seccomp=unconfined ...   (or a profile that allows io_uring_setup, _enter and _register)",
            "io_uring is forbidden here by a seccomp filter, as containers have it (%s)", strerrorname_np(-code));
}

/* Calls may be forbidden, and limits spent, at any row: what the environment did, not what the kernel lacks. */
static void explain(struct bench *bench, int code)
{
    if (code == -EPERM || code == -ENOSYS)
        explain_forbidden(bench, code);
    else if (code == -ENOMEM)
        say(bench, "ulimit -l 65536   (systemd: LimitMEMLOCK=64M; docker: --ulimit memlock=67108864)",
            "no locked memory is left for the smallest ring: RLIMIT_MEMLOCK is %llu KiB",
            (unsigned long long)w_feature_locked_bytes() / 1024);
    else if (code == -EMFILE)
        say(bench, "ulimit -n 65536   (systemd: LimitNOFILE=65536; docker: --ulimit nofile=65536)",
            "this process has no descriptor left for trying it");
    else if (code == -ENFILE)
        say(bench, "sysctl -w fs.file-max=1000000", "this machine has no descriptor left for trying it");
}

/* Whether we may is asked before the parameters are read: no ring is made. */
static int probe_io_uring(struct bench *bench)
{
    (void)bench;
    int result = io_uring_setup(1, NULL);
    return result == -EFAULT ? 0 : result;
}

static int probe_deferred_work(struct bench *bench)
{
    int result = w_ring_open(&bench->ring, W_FEATURE_SUBMISSIONS_LEAST, W_FEATURE_COMPLETIONS_LEAST);
    if (result == 0)
        result = w_ring_start(&bench->ring, false);
    if (result < 0)
        w_ring_close(&bench->ring);
    return result == -EINVAL ? -EOPNOTSUPP : result;
}

static int probe_wait_timeout(struct bench *bench)
{
    if ((bench->ring.uring.features & IORING_FEAT_EXT_ARG) == 0 || (bench->ring.uring.features & IORING_FEAT_NODROP) == 0)
        return -EOPNOTSUPP;
    return w_ring_enter(&bench->ring, 1000);
}

/* Sends a pattern through a socket pair into received buffers, and looks whether it comes out the same: two short pieces, one
 * that fills the first buffer to its end, then the end of the stream. */
struct stream {
    struct w_buffers buffers;
    int ends[2];
    uint32_t written, received;
};

#define STREAM_BUFFERS      4
#define STREAM_BUFFER_BYTES 4096
#define STREAM_BYTES        (STREAM_BUFFER_BYTES + 1000)

static uint8_t pattern(uint32_t position)
{
    return (uint8_t)(position * 31 + (position >> 8));
}

static int stream_write(struct stream *stream, uint32_t bytes)
{
    uint8_t data[STREAM_BYTES];
    for (uint32_t i = 0; i < bytes; i++)
        data[i] = pattern(stream->written++);
    return send(stream->ends[1], data, bytes, MSG_NOSIGNAL) == (ssize_t)bytes ? 0 : -EIO;
}

/* Takes completions until all that was written has come. Each must leave the receive armed. */
static int stream_read(struct stream *stream, struct w_ring *ring)
{
    while (stream->received < stream->written) {
        struct io_uring_cqe completion;
        uint16_t number;
        int result = w_ring_await(ring, WAIT_LIMIT_NS, &completion);
        if (result < 0 || completion.res <= 0)
            return result < 0 ? result : completion.res < 0 ? completion.res : -EIO;
        if ((completion.flags & IORING_CQE_F_BUFFER) == 0 || (completion.flags & IORING_CQE_F_MORE) == 0)
            return -EOPNOTSUPP;
        const uint8_t *data = w_buffers_filled(&stream->buffers, completion.res, completion.flags, &number);
        bool same = data != NULL;
        for (int32_t i = 0; same && i < completion.res; i++)
            same = data[i] == pattern(stream->received++);
        if (data != NULL)
            w_buffers_release(&stream->buffers, number);
        if (!same || stream->buffers.disagreed)
            return -EIO;
    }
    return 0;
}

static int stream_run(struct stream *stream, struct w_ring *ring)
{
    struct io_uring_cqe completion;
    struct io_uring_sqe *entry = w_ring_next(ring);
    io_uring_prep_recv_multishot(entry, stream->ends[0], NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = W_BUFFERS_GROUP;
    static const uint32_t pieces[] = {3, 500, STREAM_BUFFER_BYTES - 503, 1000};
    int result = w_ring_enter(ring, 0);
    for (size_t i = 0; i < W_COUNT(pieces) && result == 0; i++) {
        result = stream_write(stream, pieces[i]);
        if (result == 0)
            result = stream_read(stream, ring);
    }
    shutdown(stream->ends[1], SHUT_WR);
    if (result == 0)
        result = w_ring_await(ring, WAIT_LIMIT_NS, &completion);
    if (result == 0 && (completion.res != 0 || (completion.flags & IORING_CQE_F_MORE) != 0))
        result = -EIO;
    return result == 0 && stream->buffers.free != STREAM_BUFFERS ? -EIO : result;
}

static int probe_stream(struct w_ring *ring, bool incremental)
{
    struct stream stream = {.ends = {-1, -1}};
    int result = w_buffers_open(&stream.buffers, STREAM_BUFFERS, STREAM_BUFFER_BYTES, incremental, &mapping);
    if (result < 0)
        return result;
    result = w_buffers_register(&stream.buffers, ring->uring.ring_fd);
    bool registered = result == 0;
    if (result == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream.ends) != 0)
        result = -errno;
    if (result == 0)
        result = stream_run(&stream, ring);
    cancel_all(ring);
    for (size_t i = 0; i < W_COUNT(stream.ends); i++)
        if (stream.ends[i] >= 0)
            close(stream.ends[i]);
    if (registered)
        (void)io_uring_unregister_buf_ring(&ring->uring, W_BUFFERS_GROUP);
    w_buffers_close(&stream.buffers);
    return result == -EINVAL ? -EOPNOTSUPP : result;
}

static int probe_buffer_rings(struct bench *bench)
{
    struct w_buffers buffers;
    int result = w_buffers_open(&buffers, 1, 4096, false, &mapping);
    if (result < 0)
        return result;
    result = w_buffers_register(&buffers, bench->ring.uring.ring_fd);
    if (result == 0)
        (void)io_uring_unregister_buf_ring(&bench->ring.uring, W_BUFFERS_GROUP);
    w_buffers_close(&buffers);
    return result == -EINVAL ? -EOPNOTSUPP : result;
}

static int probe_multishot_receive(struct bench *bench)
{
    return probe_stream(&bench->ring, false);
}

/* Two clients of one listener; both connections must come from one accept. */
static int accept_two(struct w_ring *ring, int listener, const struct sockaddr_un *address, socklen_t bytes)
{
    struct io_uring_cqe completion;
    struct io_uring_sqe *entry = w_ring_next(ring);
    io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_CLOEXEC);
    entry->user_data = ACCEPT_TOKEN;
    int result = w_ring_enter(ring, 0);
    for (int i = 0; i < 2 && result == 0; i++) {
        int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client < 0 || connect(client, (const struct sockaddr *)(const void *)address, bytes) != 0)
            result = -errno;
        if (result == 0)
            result = w_ring_await(ring, WAIT_LIMIT_NS, &completion);
        if (result == 0 && completion.res >= 0)
            close(completion.res);
        if (result == 0)
            result = completion.res < 0 ? completion.res : (completion.flags & IORING_CQE_F_MORE) == 0 ? -EOPNOTSUPP : 0;
        if (client >= 0)
            close(client);
    }
    return result;
}

static int probe_multishot_accept(struct bench *bench)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t bytes = sizeof(sa_family_t); /* bound to nothing but the family, the kernel chooses an abstract name */
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return -errno;
    int result = 0;
    if (bind(listener, (struct sockaddr *)(void *)&address, bytes) != 0 || listen(listener, 4) != 0)
        result = -errno;
    bytes = sizeof address;
    if (result == 0 && getsockname(listener, (struct sockaddr *)(void *)&address, &bytes) != 0)
        result = -errno;
    if (result == 0)
        result = accept_two(&bench->ring, listener, &address, bytes);
    cancel_all(&bench->ring);
    close(listener);
    return result == -EINVAL ? -EOPNOTSUPP : result;
}

/* A message from the ring to itself: its completion and the message's. */
static int probe_message_ring(struct bench *bench)
{
    struct io_uring_cqe completion;
    bool arrived = false;
    io_uring_prep_msg_ring(w_ring_next(&bench->ring), bench->ring.uring.ring_fd, 7, 42, 0);
    for (int i = 0; i < 2; i++) {
        int result = w_ring_await(&bench->ring, WAIT_LIMIT_NS, &completion);
        if (result < 0)
            return result;
        if (completion.res < 0)
            return -EOPNOTSUPP;
        arrived = arrived || (completion.user_data == 42 && completion.res == 7);
    }
    return arrived ? 0 : -EOPNOTSUPP;
}

/* --- optional rows --- */

static int probe_incremental_buffers(struct bench *bench)
{
    return probe_stream(&bench->ring, true);
}

static int probe_no_iowait(struct bench *bench)
{
    if ((bench->ring.uring.features & W_UAPI_FEAT_NO_IOWAIT) == 0)
        return -EOPNOTSUPP;
    int result = io_uring_enter2((unsigned)bench->ring.uring.ring_fd, 0, 0, IORING_ENTER_GETEVENTS | W_UAPI_ENTER_NO_IOWAIT, NULL, 0);
    return result < 0 ? result : 0;
}

static int probe_sync_message_ring(struct bench *bench)
{
    struct io_uring_cqe completion;
    struct io_uring_sqe message = {.opcode = IORING_OP_MSG_RING, .fd = bench->ring.uring.ring_fd, .len = 7, .off = 43};
    int result = io_uring_register((unsigned)-1, W_UAPI_REGISTER_SEND_MSG_RING, &message, 1);
    if (result >= 0)
        result = w_ring_await(&bench->ring, WAIT_LIMIT_NS, &completion);
    if (result < 0)
        return result;
    return completion.user_data == 43 && completion.res == 7 ? 0 : -EIO;
}

static int probe_registered_ring(struct bench *bench)
{
    struct io_uring_rsrc_update update = {.offset = UINT32_MAX, .data = (uint64_t)bench->ring.uring.ring_fd};
    int result = io_uring_register((unsigned)bench->ring.uring.ring_fd, IORING_REGISTER_RING_FDS, &update, 1);
    if (result != 1)
        return result < 0 ? result : -EOPNOTSUPP;
    result = io_uring_enter2(update.offset, 0, 0, IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING, NULL, 0);
    (void)io_uring_register((unsigned)bench->ring.uring.ring_fd, IORING_UNREGISTER_RING_FDS, &update, 1);
    return result < 0 ? result : 0;
}

/* --- limits --- */

/* True when the kernel does not count what this process locks. */
static bool may_lock_anything(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    return syscall(SYS_capget, &header, data) == 0 && (data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) != 0;
}

uint64_t w_feature_locked_bytes(void)
{
    struct rlimit limit;
    if (may_lock_anything() || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

static int probe_locked_memory(struct bench *bench)
{
    const uint64_t limit_bytes = w_feature_locked_bytes();
    const uint64_t need_bytes = bench->shards * (w_ring_bytes(W_FEATURE_SUBMISSIONS, W_FEATURE_COMPLETIONS) + 4096);
    char mend[160];
    if (limit_bytes == UINT64_MAX) {
        say(bench, "", "unlimited; rings for %u shards need %llu KiB", bench->shards, (unsigned long long)need_bytes / 1024);
        return 0;
    }
    snprintf(mend, sizeof mend, "ulimit -l %llu   (systemd: LimitMEMLOCK=%lluK; docker: --ulimit memlock=%llu)",
             (unsigned long long)need_bytes / 512, (unsigned long long)need_bytes / 512, (unsigned long long)need_bytes * 2);
    bool enough = limit_bytes / 4 * 3 >= need_bytes;
    say(bench, enough ? "" : mend, "%llu KiB may be locked; rings for %u shards need %llu KiB%s", (unsigned long long)limit_bytes / 1024,
        bench->shards, (unsigned long long)need_bytes / 1024, enough ? "" : ": they are made smaller");
    return enough ? 0 : -ENOMEM;
}

static int probe_descriptors(struct bench *bench)
{
    const uint64_t need = (uint64_t)bench->shards * 16384 + 64; /* config.connections' default */
    struct rlimit limit;
    char mend[160];
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -errno;
    bool enough = limit.rlim_cur >= need;
    snprintf(mend, sizeof mend, "ulimit -n %llu   (systemd: LimitNOFILE=%llu; docker: --ulimit nofile=%llu)", (unsigned long long)need,
             (unsigned long long)need, (unsigned long long)need);
    say(bench, enough ? "" : mend, "%llu descriptors may be open; %u shards of 16384 connections need %llu%s",
        (unsigned long long)limit.rlim_cur, bench->shards, (unsigned long long)need,
        enough ? "" : ": accepting pauses when they are spent");
    return enough ? 0 : -EMFILE;
}

/* --- the table --- */

/* Rows are tried in this order. `without`: what is done without it. `mend` and the sentences may be replaced by the probe. */
static const struct row {
    const char *name;
    bool mandatory;
    bool limit; /* nothing that could be switched off */
    probe_function *probe;
    const char *there, *without, *mend;
} table[W_FEATURE_COUNT] = {
    [W_FEATURE_IO_URING] = {"io-uring", true, false, probe_io_uring, "may be used by this process", "not there", NEWER_KERNEL},
    [W_FEATURE_DEFERRED_WORK] = {"deferred-work", true, false, probe_deferred_work, "rings of one thread that do their work when it asks",
                                 "rings of one thread are not there (SINGLE_ISSUER, DEFER_TASKRUN: 6.1)", NEWER_KERNEL},
    [W_FEATURE_WAIT_TIMEOUT] = {"wait-timeout", true, false, probe_wait_timeout, "submits and sleeps with a limit in one call",
                                "cannot sleep with a limit (EXT_ARG: 5.11)", NEWER_KERNEL},
    [W_FEATURE_BUFFER_RINGS] = {"buffer-rings", true, false, probe_buffer_rings, "connections share receive buffers",
                                "shared receive buffers are not there (5.19)", NEWER_KERNEL},
    [W_FEATURE_MULTISHOT_RECEIVE] = {"multishot-receive", true, false, probe_multishot_receive, "one receive for a connection's life",
                                     "one receive for many does not work (6.0)", NEWER_KERNEL},
    [W_FEATURE_MULTISHOT_ACCEPT] = {"multishot-accept", true, false, probe_multishot_accept, "one accept for all connections",
                                    "one accept for many does not work (5.19)", NEWER_KERNEL},
    [W_FEATURE_MESSAGE_RING] = {"message-ring", true, false, probe_message_ring, "a ring can wake another",
                                "a ring cannot wake another (MSG_RING: 5.18)", NEWER_KERNEL},
    [W_FEATURE_INCREMENTAL_BUFFERS] = {"incremental-buffers", false, false, probe_incremental_buffers,
                                       "receive buffers of 64 KiB are filled bit by bit",
                                       "receive buffers are 16 KiB, four times as many, and a receive uses one up", "Linux 6.12 or newer"},
    [W_FEATURE_NO_IOWAIT] = {"no-iowait", false, false, probe_no_iowait, "a sleeping shard is not shown as waiting for a disk",
                             "sleeping shards are shown as iowait by top and the like; it costs nothing", "Linux 6.15 or newer"},
    [W_FEATURE_SYNC_MESSAGE_RING] = {"sync-message-ring", false, false, probe_sync_message_ring,
                                     "a thread wakes a shard without a ring of its own",
                                     "threads wake shards by an eventfd, some us slower", "Linux 6.13 or newer"},
    [W_FEATURE_REGISTERED_RING] = {"registered-ring", false, false, probe_registered_ring, "entering the kernel is 50 ns shorter",
                                   "entering the kernel takes 50 ns more", "Linux 5.18 or newer"},
    [W_FEATURE_LOCKED_MEMORY] = {"locked-memory", false, true, probe_locked_memory, "", "", ""},
    [W_FEATURE_DESCRIPTORS] = {"descriptors", false, true, probe_descriptors, "", "", ""},
};

/* --- what is switched off --- */

static int switch_off(const char *list, const char *origin, uint32_t *off, weir_error *error)
{
    while (list != NULL && *list != '\0') {
        size_t bytes = strcspn(list, ", ");
        enum w_feature feature = 0;
        while (feature < W_FEATURE_COUNT && (strlen(table[feature].name) != bytes || memcmp(table[feature].name, list, bytes) != 0))
            feature++;
        if (bytes > 0 && feature == W_FEATURE_COUNT)
            return w_base_fail(error, -EINVAL, "%s names no feature that weir knows: '%s' (weir-probe lists them)", origin,
                               w_base_quote(list, bytes).text);
        if (bytes > 0 && (table[feature].mandatory || table[feature].limit))
            return w_base_fail(error, -EINVAL, "%s: weir cannot do without '%s'", origin, table[feature].name);
        if (bytes > 0)
            *off |= UINT32_C(1) << feature;
        list += bytes + (list[bytes] != '\0');
    }
    return 0;
}

/* --- reading it all --- */

static uint32_t shards_by_default(void)
{
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (uint32_t)CPU_COUNT(&cpus) : 1;
}

static int read_row(struct bench *bench, enum w_feature feature, bool off)
{
    const struct row *row = &table[feature];
    weir_probe_row *shown = bench->row;
    const struct timespec pause = {.tv_nsec = MEMORY_PAUSE_NS};
    int result = row->probe(bench);
    for (int i = 0; i < MEMORY_TRIES && result == -ENOMEM && !row->limit; i++) {
        nanosleep(&pause, NULL);
        result = row->probe(bench);
    }
    if (row->mandatory)
        explain(bench, result);
    shown->mandatory = row->mandatory;
    snprintf(shown->name, sizeof shown->name, "%s", row->name);
    if (shown->sentence[0] == '\0')
        say(bench, result == 0 ? "" : row->mend, "%s", result == 0 ? row->there : row->without);
    if (result == 0)
        shown->state = off ? WEIR_PROBE_OFF : WEIR_PROBE_YES;
    else
        shown->state = row->mandatory ? WEIR_PROBE_MISSING : WEIR_PROBE_WITHOUT;
    if (shown->state == WEIR_PROBE_OFF)
        say(bench, "", "switched off: %s", row->without);
    return row->mandatory ? result : 0;
}

/* Behind a row without which none can be tried. */
static void skip_row(weir_probe_row *shown, enum w_feature feature)
{
    const struct row *row = &table[feature];
    *shown = (weir_probe_row){.mandatory = row->mandatory, .state = row->mandatory ? WEIR_PROBE_MISSING : WEIR_PROBE_WITHOUT};
    snprintf(shown->name, sizeof shown->name, "%s", row->name);
    snprintf(shown->sentence, sizeof shown->sentence, "could not be tried");
}

int w_feature_read(const char *disable, struct w_features *features, weir_error *error)
{
    struct bench bench = {.shards = shards_by_default()};
    uint32_t off = 0;
    int code;

    memset(features, 0, sizeof *features);
    code = switch_off(disable, "config.disable", &off, error);
    if (code == 0)
        code = switch_off(getenv("WEIR_DISABLE"), "WEIR_DISABLE", &off, error);
    if (code < 0)
        return code;
    for (enum w_feature feature = 0; feature < W_FEATURE_COUNT; feature++) {
        weir_probe_row *shown = &features->rows[feature];
        if (feature > W_FEATURE_DEFERRED_WORK && !table[feature].limit && bench.ring.uring.sq.sqes == NULL) {
            skip_row(shown, feature);
            continue;
        }
        bench.row = shown;
        int result = read_row(&bench, feature, (off >> feature & 1) != 0);
        if (shown->state == WEIR_PROBE_YES)
            features->usable |= UINT32_C(1) << feature;
        if (result < 0 && code == 0)
            code = w_base_fail(error, result, "weir cannot run here: %s: %s%s%s", shown->name, shown->sentence,
                               shown->mend[0] != '\0' ? "; what mends it: " : "", shown->mend);
    }
    w_ring_close(&bench.ring);
    return code;
}

int weir_probe(const char *disable, weir_probe_row rows[WEIR_PROBE_ROWS_MAX], uint32_t *row_count)
{
    struct w_features features;
    weir_error error = {0};
    _Static_assert(W_FEATURE_COUNT <= WEIR_PROBE_ROWS_MAX, "every row can be shown");
    int code = w_feature_read(disable, &features, &error);
    if (code == -EINVAL && features.rows[0].name[0] == '\0') {
        rows[0] = (weir_probe_row){.name = "disable", .state = WEIR_PROBE_MISSING, .mandatory = true};
        snprintf(rows[0].sentence, sizeof rows[0].sentence, "%.*s", (int)sizeof rows[0].sentence - 1, error.sentence);
        snprintf(rows[0].mend, sizeof rows[0].mend, "unset WEIR_DISABLE");
        *row_count = 1;
        return code;
    }
    memcpy(rows, features.rows, sizeof features.rows);
    *row_count = W_FEATURE_COUNT;
    return code;
}
