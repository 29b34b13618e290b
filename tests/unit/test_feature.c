/* SPDX-License-Identifier: MIT */
/* test_feature: kernels that are older, and machines that are poorer, than the one that the tests run on, played by filters on system calls: each
 * row of the table says what is missing and what mends it, what stands behind it is not tried, and nothing is left open. */
#include <check.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "poor.h"
#include "runtime/io/feature.h"
#include "runtime/io/uapi.h"

static struct w_features features;
static weir_error error;

/* Reads the features; whatever comes of it, nothing is left open. */
static int read_features(void)
{
    int before = poor_count_descriptors();
    error = (weir_error){0};
    int result = w_feature_read(NULL, &features, &error);
    ck_assert_int_eq(poor_count_descriptors(), before);
    ck_assert_int_eq(error.code, result);
    return result;
}

static const weir_probe_row *row(enum w_feature feature)
{
    return &features.rows[feature];
}

/* --- one thing is missing --- */

#define REGISTER(operation) __NR_io_uring_register, 1, operation

/* What is missing, which row finds it, and what is answered and said. */
static const struct missing {
    struct poor_answer answer;
    enum w_feature feature;
    int code; /* 0: done without */
    const char *says, *mend;
} missing[] = {
    /* kernels that are older */
    {{__NR_io_uring_setup, -1, 0, EINVAL}, W_FEATURE_IO_URING, -EINVAL, "not there", "6.1"},
    {{REGISTER(IORING_REGISTER_ENABLE_RINGS), EINVAL}, W_FEATURE_DEFERRED_WORK, -EOPNOTSUPP, "DEFER_TASKRUN: 6.1", "6.1"},
    {{__NR_io_uring_enter, 3, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, EINVAL},
     W_FEATURE_WAIT_TIMEOUT,
     -EINVAL,
     "EXT_ARG: 5.11",
     "6.1"},
    {{REGISTER(IORING_REGISTER_PBUF_RING), EINVAL}, W_FEATURE_BUFFER_RINGS, -EOPNOTSUPP, "5.19", "6.1"},
    {{REGISTER(W_UAPI_REGISTER_SEND_MSG_RING), EINVAL}, W_FEATURE_SYNC_MESSAGE_RING, 0, "by an eventfd", "6.13"},
    {{REGISTER(W_UAPI_REGISTER_SEND_MSG_RING), 0}, W_FEATURE_SYNC_MESSAGE_RING, 0, "by an eventfd", "6.13"},
    {{REGISTER(IORING_REGISTER_RING_FDS), EINVAL}, W_FEATURE_REGISTERED_RING, 0, "50 ns more", "5.18"},
    {{REGISTER(IORING_REGISTER_RING_FDS), 0}, W_FEATURE_REGISTERED_RING, 0, "50 ns more", "5.18"},
    {{__NR_io_uring_enter, 3, IORING_ENTER_GETEVENTS | W_UAPI_ENTER_NO_IOWAIT, EINVAL}, W_FEATURE_NO_IOWAIT, 0, "as iowait", "6.15"},
    /* no memory, after trying for a moment */
    {{REGISTER(IORING_REGISTER_PBUF_RING), ENOMEM}, W_FEATURE_BUFFER_RINGS, -ENOMEM, "no locked memory is left", "ulimit -l"},
    {{__NR_mmap, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, ENOMEM},
     W_FEATURE_BUFFER_RINGS,
     -ENOMEM,
     "no locked memory is left",
     "ulimit -l"},
    {{__NR_mmap, 3, MAP_SHARED | MAP_POPULATE, ENOMEM}, W_FEATURE_DEFERRED_WORK, -ENOMEM, "no locked memory is left", "ulimit -l"},
    /* no descriptors */
    {{__NR_io_uring_setup, -1, 0, EMFILE}, W_FEATURE_IO_URING, -EMFILE, "this process has no descriptor", "ulimit -n"},
    {{__NR_io_uring_setup, -1, 0, ENFILE}, W_FEATURE_IO_URING, -ENFILE, "this machine has no descriptor", "fs.file-max"},
    {{__NR_socketpair, -1, 0, EMFILE}, W_FEATURE_MULTISHOT_RECEIVE, -EMFILE, "this process has no descriptor", "ulimit -n"},
    {{__NR_socket, -1, 0, ENFILE}, W_FEATURE_MULTISHOT_ACCEPT, -ENFILE, "this machine has no descriptor", "fs.file-max"},
    /* and the rest of what two rows call */
    {{__NR_sendto, -1, 0, EPIPE}, W_FEATURE_MULTISHOT_RECEIVE, -EIO, "6.0", "6.1"},
    {{__NR_bind, -1, 0, EADDRINUSE}, W_FEATURE_MULTISHOT_ACCEPT, -EADDRINUSE, "5.19", "6.1"},
    {{__NR_listen, -1, 0, EINVAL}, W_FEATURE_MULTISHOT_ACCEPT, -EOPNOTSUPP, "5.19", "6.1"},
    {{__NR_getsockname, -1, 0, ENOBUFS}, W_FEATURE_MULTISHOT_ACCEPT, -ENOBUFS, "5.19", "6.1"},
    {{__NR_connect, -1, 0, ECONNREFUSED}, W_FEATURE_MULTISHOT_ACCEPT, -ECONNREFUSED, "5.19", "6.1"},
};

START_TEST(one_thing_is_missing)
{
    const struct missing *one = &missing[_i];
    ck_assert_int_eq(read_features(), 0);
    enum weir_probe_state before[W_FEATURE_COUNT];
    for (enum w_feature feature = 0; feature < W_FEATURE_COUNT; feature++)
        before[feature] = row(feature)->state;
    if (before[one->feature] != WEIR_PROBE_YES)
        return; /* this kernel does not have it either */

    poor_answer_with(&one->answer);
    ck_assert_int_eq(read_features(), one->code);
    const weir_probe_row *found = row(one->feature);
    ck_assert_int_eq(found->state, one->code == 0 ? WEIR_PROBE_WITHOUT : WEIR_PROBE_MISSING);
    ck_assert(!w_feature_usable(&features, one->feature));
    poor_must_say(found->sentence, one->says);
    poor_must_say(found->mend, one->mend);
    for (enum w_feature feature = 0; feature < one->feature; feature++)
        ck_assert_int_eq(row(feature)->state, before[feature]);
    if (one->code == 0) {
        for (enum w_feature feature = one->feature + 1; feature < W_FEATURE_COUNT; feature++)
            ck_assert_int_eq(row(feature)->state, before[feature]);
        return;
    }
    poor_must_say(error.sentence, found->name);
    poor_must_say(error.sentence, found->sentence);
    poor_must_say(error.sentence, found->mend);
    for (enum w_feature feature = 0; feature < W_FEATURE_COUNT; feature++) {
        ck_assert_int_gt(strlen(row(feature)->name), 0);
        ck_assert_int_gt(strlen(row(feature)->sentence), 0);
    }
}
END_TEST

/* Without a ring nothing else can be tried; limits can. */
START_TEST(what_cannot_be_tried)
{
    poor_answer_with(&(struct poor_answer){REGISTER(IORING_REGISTER_ENABLE_RINGS), EINVAL});
    ck_assert_int_eq(read_features(), -EOPNOTSUPP);
    for (enum w_feature feature = W_FEATURE_WAIT_TIMEOUT; feature < W_FEATURE_LOCKED_MEMORY; feature++) {
        ck_assert_str_eq(row(feature)->sentence, "could not be tried");
        ck_assert_int_eq(row(feature)->state, feature <= W_FEATURE_MESSAGE_RING ? WEIR_PROBE_MISSING : WEIR_PROBE_WITHOUT);
        ck_assert_int_eq(row(feature)->mandatory, feature <= W_FEATURE_MESSAGE_RING);
    }
    poor_must_say(row(W_FEATURE_LOCKED_MEMORY)->sentence, "rings for");
    poor_must_say(row(W_FEATURE_DESCRIPTORS)->sentence, "descriptors may be open");
}
END_TEST

/* --- why it is forbidden --- */

static const struct {
    const char *disabled; /* what kernel.io_uring_disabled holds; NULL: there is no such file */
    bool filtered;
    int error;
    const char *says, *mend;
} reasons[] = {
    {"2\n", false, EPERM, "io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0"},
    {"2\n", true, EPERM, "io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0"},
    {"1\n", false, EPERM, "for a group of users only", "io_uring_group"},
    {"1\n", true, EPERM, "a seccomp filter, as containers have it (EPERM)", "seccomp="},
    {"0\n", true, EPERM, "a seccomp filter, as containers have it (EPERM)", "seccomp="},
    {"0\n", true, ENOSYS, "a seccomp filter, as containers have it (ENOSYS)", "seccomp="},
    {"0\n", false, ENOSYS, "a seccomp filter, as containers have it (ENOSYS)", "seccomp="},
    {NULL, false, ENOSYS, "this kernel has no io_uring", "CONFIG_IO_URING"},
    {NULL, true, ENOSYS, "a seccomp filter, as containers have it (ENOSYS)", "seccomp="},
};

START_TEST(why_it_is_forbidden)
{
    char status[64];
    if (!poor_namespace(0))
        return;
    if (reasons[_i].disabled != NULL)
        poor_lay_over("/proc/sys/kernel/io_uring_disabled", reasons[_i].disabled);
    else
        ck_assert_int_eq(mount("none", "/proc/sys/kernel", "tmpfs", 0, NULL), 0);
    snprintf(status, sizeof status, "/proc/%d/status", (int)getpid());
    poor_lay_over(status, reasons[_i].filtered ? "Name:\tx\nSeccomp:\t2\n" : "Name:\tx\nSeccomp:\t0\n");
    poor_answer_with(&(struct poor_answer){__NR_io_uring_setup, -1, 0, reasons[_i].error});
    ck_assert_int_eq(read_features(), -reasons[_i].error);
    poor_must_say(row(W_FEATURE_IO_URING)->sentence, reasons[_i].says);
    poor_must_say(row(W_FEATURE_IO_URING)->mend, reasons[_i].mend);
    poor_must_say(error.sentence, reasons[_i].says);
}
END_TEST

/* --- limits --- */

START_TEST(limits_are_enough_or_not)
{
    cpu_set_t cpus;
    ck_assert_int_eq(sched_getaffinity(0, sizeof cpus, &cpus), 0);
    uint64_t need = (uint64_t)CPU_COUNT(&cpus) * 16384 + 64;
    struct rlimit limit = {.rlim_cur = need - 1, .rlim_max = need};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return; /* an ordinary user with less than that */
    ck_assert_int_eq(read_features(), 0);
    ck_assert_int_eq(row(W_FEATURE_DESCRIPTORS)->state, WEIR_PROBE_WITHOUT);
    poor_must_say(row(W_FEATURE_DESCRIPTORS)->sentence, "accepting pauses");
    poor_must_say(row(W_FEATURE_DESCRIPTORS)->mend, "ulimit -n");
    limit.rlim_cur = need;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(read_features(), 0);
    ck_assert_int_eq(row(W_FEATURE_DESCRIPTORS)->state, WEIR_PROBE_YES);
    ck_assert_str_eq(row(W_FEATURE_DESCRIPTORS)->mend, "");

    limit = (struct rlimit){.rlim_cur = 64 << 20, .rlim_max = 64 << 20};
    ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(setresuid(65534, 65534, 65534), 0); /* who may lock anything is not told of a limit */
    ck_assert_uint_eq(w_feature_locked_bytes(), 64 << 20);
    ck_assert_int_eq(read_features(), 0);
    ck_assert_int_eq(row(W_FEATURE_LOCKED_MEMORY)->state, WEIR_PROBE_YES);
    poor_must_say(row(W_FEATURE_LOCKED_MEMORY)->sentence, "65536 KiB may be locked");
    ck_assert_str_eq(row(W_FEATURE_LOCKED_MEMORY)->mend, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("feature");
    TCase *tests = tcase_create("feature");
    tcase_set_timeout(tests, 20);
    tcase_add_loop_test(tests, one_thing_is_missing, 0, (int)W_COUNT(missing));
    tcase_add_test(tests, what_cannot_be_tried);
    tcase_add_loop_test(tests, why_it_is_forbidden, 0, (int)W_COUNT(reasons));
    tcase_add_test(tests, limits_are_enough_or_not);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK); /* filters and limits cannot be taken back */
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
