/* SPDX-License-Identifier: MIT */
/* test_forbidden: bad places to run in: io_uring forbidden by a container's filter, no locked memory, no descriptors. Each time the code that
 * the headers promise, a sentence with the way out, nothing left behind, and no abort. Every case runs in a child of its own. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <weir/probe.h>

#include "runtime/io/address.h"
#include "runtime/io/io.h"
#include "tests/unit/counted.h"
#include "tests/unit/poor.h"

/* --- engines on an allocator that counts --- */

static char last_log[256];

static void keep_log(void *user, weir_log_level level, const char *sentence)
{
    (void)user;
    (void)level;
    snprintf(last_log, sizeof last_log, "%s", sentence);
}

static int open_engine(uint32_t shard_count, const char *disable, struct w_io **io, weir_error *error)
{
    const struct w_io_setup setup = {.shard_count = shard_count, .disable = disable, .allocator = &counted_allocator, .log = keep_log};
    const struct w_io_engine *engine = w_io_uring();
    *error = (weir_error){0};
    int result = engine->open(engine->world, &setup, io, error);
    ck_assert_int_eq(error->code, result);
    ck_assert_int_eq(result == 0, *io != NULL);
    return result;
}

static const weir_probe_row *row_of(const weir_probe_row *rows, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    ck_abort_msg("no row %s", name);
}

static void check_says(const char *sentence, const char *words)
{
    ck_assert_msg(strstr(sentence, words) != NULL, "'%s' is not in: %s", words, sentence);
}

/* --- forbidden by a filter --- */

/* From here on this process and its threads get `error` from a system call, if its first argument is `argument` (or always). */
static void forbid(long number, int error, int argument)
{
    poor_answer_with(&(struct poor_answer){.call = number, .argument = argument < 0 ? -1 : 0, .value = (uint32_t)argument, .error = error});
}

static const struct {
    long number;
    int error;
} filters[] = {
    {__NR_io_uring_setup, EPERM},     {__NR_io_uring_setup, ENOSYS}, {__NR_io_uring_register, EPERM},
    {__NR_io_uring_register, ENOSYS}, {__NR_io_uring_enter, EPERM},  {__NR_io_uring_enter, ENOSYS},
};

START_TEST(io_uring_forbidden)
{
    weir_probe_row rows[WEIR_PROBE_ROWS_MAX];
    weir_error error;
    struct w_io *io;
    uint32_t count;

    forbid(filters[_i].number, filters[_i].error, -1);
    int descriptors = poor_count_descriptors();
    ck_assert_int_eq(weir_probe(NULL, rows, &count), -filters[_i].error);
    bool explained = false;
    for (uint32_t i = 0; i < count && !explained; i++) {
        if (rows[i].state != WEIR_PROBE_MISSING)
            continue;
        check_says(rows[i].sentence, "seccomp");
        check_says(rows[i].mend, "docker run --security-opt seccomp=");
        explained = true;
    }
    ck_assert(explained);
    if (filters[_i].number == __NR_io_uring_setup)
        for (uint32_t i = 0; i < count; i++)
            ck_assert(!rows[i].mandatory || rows[i].state == WEIR_PROBE_MISSING);

    ck_assert_int_eq(open_engine(1, NULL, &io, &error), -filters[_i].error);
    check_says(error.sentence, "seccomp");
    check_says(error.sentence, "docker run --security-opt seccomp=");
    ck_assert_int_eq(poor_count_descriptors(), descriptors);
    ck_assert_int_eq(counted_bytes, 0);
}
END_TEST

/* A machine without IPv6: * is every IPv4 address then, and an IPv6 address an error. */
START_TEST(no_ipv6)
{
    const struct w_io_engine *engine = w_io_uring();
    static const weir_socket_options options;
    struct w_address address;
    struct w_io_address bound;
    char text[WEIR_ADDRESS_MAX_BYTES];
    forbid(__NR_socket, EAFNOSUPPORT, AF_INET6);
    ck_assert_int_eq(w_address_parse("tcp://*:0", &address, NULL), 0);
    int first = engine->listen(engine->world, &address.socket, &options, W_IO_SHARED_FIRST);
    ck_assert_int_ge(first, 0);
    ck_assert_int_eq(engine->local_address(engine->world, first, &bound), 0);
    ck_assert_int_eq(w_address_text(&bound, text, sizeof text), 0);
    check_says(text, "tcp://0.0.0.0:");
    int second = engine->listen(engine->world, &bound, &options, W_IO_SHARED_NEXT);
    ck_assert_int_ge(second, 0);
    engine->discard(engine->world, first);
    engine->discard(engine->world, second);
    ck_assert_int_eq(w_address_parse("tcp://[::1]:0", &address, NULL), 0);
    ck_assert_int_eq(engine->listen(engine->world, &address.socket, &options, W_IO_ALONE), -EAFNOSUPPORT);
}
END_TEST

/* --- locked memory --- */

/* Nobody, who may lock so much. Of all his processes together, so a child of another test may have some of it for a moment. */
static void become_nobody(uint64_t locked_bytes)
{
    struct rlimit limit = {.rlim_cur = locked_bytes, .rlim_max = locked_bytes};
    ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
}

START_TEST(eight_mebibytes_and_no_root)
{
    struct w_io *ios[32];
    weir_error error;
    become_nobody(8 << 20);
    for (uint32_t i = 0; i < W_COUNT(ios); i++)
        ck_assert_msg(open_engine(W_COUNT(ios), NULL, &ios[i], &error) == 0, "shard %u: %s", i, error.sentence);
    for (uint32_t i = 0; i < W_COUNT(ios); i++)
        w_io_uring()->close(&ios[i]);
    ck_assert_int_eq(counted_bytes, 0);
}
END_TEST

/* So many shards that their rings have to be made smaller; the log says so. */
START_TEST(many_shards_have_smaller_rings)
{
    static struct w_io *ios[128];
    weir_error error;
    become_nobody(8 << 20);
    for (uint32_t i = 0; i < W_COUNT(ios); i++)
        ck_assert_msg(open_engine(W_COUNT(ios), NULL, &ios[i], &error) == 0, "shard %u: %s", i, error.sentence);
    check_says(last_log, "completion queue of");
    check_says(last_log, "ulimit -l");
    for (uint32_t i = 0; i < W_COUNT(ios); i++)
        w_io_uring()->close(&ios[i]);
    ck_assert_int_eq(counted_bytes, 0);
}
END_TEST

START_TEST(no_locked_memory)
{
    weir_probe_row rows[WEIR_PROBE_ROWS_MAX];
    weir_error error;
    struct w_io *io;
    uint32_t count;
    become_nobody((uint64_t)_i * 4096);
    int descriptors = poor_count_descriptors();
    int result = weir_probe(NULL, rows, &count);
    ck_assert_msg(result == 0 || result == -ENOMEM, "%d", result);
    ck_assert(_i > 2 || result == -ENOMEM);
    for (uint32_t i = 0; i < count && result < 0; i++) {
        if (rows[i].state != WEIR_PROBE_MISSING || rows[i].mend[0] == '\0')
            continue;
        check_says(rows[i].sentence, "locked memory");
        check_says(rows[i].mend, "ulimit -l");
    }
    check_says(row_of(rows, count, "locked-memory")->mend, "LimitMEMLOCK=");
    ck_assert_int_eq(row_of(rows, count, "locked-memory")->state, WEIR_PROBE_WITHOUT);

    result = open_engine(1, NULL, &io, &error);
    ck_assert_msg(result == 0 || result == -ENOMEM, "%s", error.sentence);
    if (result == 0) {
        w_io_uring()->close(&io);
    } else {
        check_says(error.sentence, "ulimit -l");
        check_says(error.sentence, "LimitMEMLOCK=");
    }
    ck_assert_int_eq(poor_count_descriptors(), descriptors);
    ck_assert_int_eq(counted_bytes, 0);
}
END_TEST

/* --- descriptors --- */

START_TEST(few_descriptors)
{
    weir_probe_row rows[WEIR_PROBE_ROWS_MAX];
    weir_error error;
    struct w_io *io;
    uint32_t count;
    int descriptors = poor_count_descriptors(), lowest = dup(0);
    close(lowest);
    struct rlimit limit, before;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = (struct rlimit){.rlim_cur = (rlim_t)(lowest + _i), .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);

    int probed = weir_probe(NULL, rows, &count);
    int opened = open_engine(1, NULL, &io, &error);
    if (opened == 0)
        w_io_uring()->close(&io);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);

    ck_assert_msg(probed == 0 || probed == -EMFILE, "%d", probed);
    ck_assert_msg(opened == 0 || opened == -EMFILE, "%s", error.sentence);
    ck_assert(_i > 1 || (probed == -EMFILE && opened == -EMFILE));
    ck_assert(_i < 8 || (probed == 0 && opened == 0));
    if (opened < 0)
        check_says(error.sentence, "ulimit -n");
    ck_assert_int_eq(row_of(rows, count, "descriptors")->state, WEIR_PROBE_WITHOUT);
    check_says(row_of(rows, count, "descriptors")->mend, "LimitNOFILE=");
    ck_assert_int_eq(poor_count_descriptors(), descriptors);
    ck_assert_int_eq(counted_bytes, 0);
}
END_TEST

/* --- memory --- */

START_TEST(no_memory_at_every_point)
{
    weir_error error;
    struct w_io *io;
    int result = -ENOMEM, descriptors = poor_count_descriptors();
    for (int64_t left = 0; result < 0; left++) {
        ck_assert_int_lt(left, 20);
        counted_left = left;
        result = open_engine(1, NULL, &io, &error);
        ck_assert(result == 0 || result == -ENOMEM);
        ck_assert(result == 0 || (counted_bytes == 0 && error.sentence[0] != '\0'));
        ck_assert_int_eq(result == 0 ? descriptors : poor_count_descriptors(), descriptors);
    }
    ck_assert_uint_ge(io->memory_bytes, (uint64_t)counted_bytes);
    w_io_uring()->close(&io);
    ck_assert_ptr_null(io);
    ck_assert_int_eq(counted_bytes, 0);
    ck_assert_int_eq(poor_count_descriptors(), descriptors);
}
END_TEST

/* --- switched off --- */

START_TEST(features_switched_off)
{
    weir_probe_row rows[WEIR_PROBE_ROWS_MAX];
    uint32_t count;
    weir_error error;
    struct w_io *io;
    ck_assert_int_eq(weir_probe(NULL, rows, &count), 0);
    ck_assert_int_eq(row_of(rows, count, "io-uring")->state, WEIR_PROBE_YES);
    bool has = row_of(rows, count, "incremental-buffers")->state == WEIR_PROBE_YES;

    ck_assert_int_eq(setenv("WEIR_DISABLE", "no-iowait, incremental-buffers,", 1), 0);
    ck_assert_int_eq(weir_probe("registered-ring", rows, &count), 0);
    ck_assert(!has || row_of(rows, count, "incremental-buffers")->state == WEIR_PROBE_OFF);
    ck_assert_int_ne(row_of(rows, count, "no-iowait")->state, WEIR_PROBE_YES);
    ck_assert_int_ne(row_of(rows, count, "registered-ring")->state, WEIR_PROBE_YES);
    ck_assert_int_eq(open_engine(1, NULL, &io, &error), 0);
    ck_assert_uint_eq(io->buffers, 256);
    ck_assert_uint_eq(io->buffer_bytes, 16384);
    w_io_uring()->close(&io);

    static const char *const bad[][2] = {{"no-iowaits", "'no-iowaits'"}, {"incremental-buffers,x", "'x'"}, {"io-uring", "'io-uring'"}};
    for (size_t i = 0; i < W_COUNT(bad); i++) {
        ck_assert_int_eq(unsetenv("WEIR_DISABLE"), 0);
        ck_assert_int_eq(open_engine(1, bad[i][0], &io, &error), -EINVAL);
        check_says(error.sentence, bad[i][1]);
        check_says(error.sentence, "config.disable");
        ck_assert_int_eq(setenv("WEIR_DISABLE", bad[i][0], 1), 0);
        ck_assert_int_eq(open_engine(1, NULL, &io, &error), -EINVAL);
        check_says(error.sentence, bad[i][1]);
        check_says(error.sentence, "WEIR_DISABLE");
        ck_assert_int_eq(weir_probe(NULL, rows, &count), -EINVAL);
        check_says(rows[0].sentence, bad[i][1]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("forbidden");
    TCase *tests = tcase_create("forbidden");
    tcase_add_loop_test(tests, io_uring_forbidden, 0, (int)W_COUNT(filters));
    tcase_add_test(tests, no_ipv6);
    tcase_add_test(tests, eight_mebibytes_and_no_root);
    tcase_add_test(tests, many_shards_have_smaller_rings);
    tcase_add_loop_test(tests, no_locked_memory, 0, 12);
    tcase_add_loop_test(tests, few_descriptors, 0, 12);
    tcase_add_test(tests, no_memory_at_every_point);
    tcase_add_test(tests, features_switched_off);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK); /* filters and limits cannot be taken back */
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
