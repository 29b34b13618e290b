/* SPDX-License-Identifier: MIT */
/* test_engine: the engine on the real kernel, opened and started on machines that fail it: the code and the sentence of each failure, nothing left
 * behind, and the roads that are left when a feature goes away after it was tried. */
#include <check.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "counted.h"
#include "poor.h"
#include "runtime/io/io.h"
#include "runtime/io/uapi.h"

static weir_error error;

static int open_engine(const struct w_io_setup *setup, struct w_io **io)
{
    error = (weir_error){0};
    int result = w_io_uring()->open(NULL, setup, io, &error);
    ck_assert_int_eq(error.code, result);
    ck_assert_int_eq(result == 0, *io != NULL);
    return result;
}

static struct w_io *open_well(void)
{
    const struct w_io_setup setup = {.shard_count = 1, .allocator = &counted_allocator, .log = counted_no_log};
    struct w_io *io;
    ck_assert_msg(open_engine(&setup, &io) == 0, "%s", error.sentence);
    return io;
}

static void close_engine(struct w_io *io, int descriptors)
{
    w_io_uring()->close(&io);
    ck_assert_ptr_null(io);
    w_io_uring()->close(&io); /* there is nothing to close */
    ck_assert_int_eq(counted_bytes, 0);
    ck_assert_int_eq(poor_count_descriptors(), descriptors);
}

#define REGISTER(operation) __NR_io_uring_register, 1, operation

/* --- it cannot be opened --- */

static const struct {
    struct poor_answer answer;
    bool embedded;
    const char *says, *mend;
} failures[] = {
    {{__NR_eventfd2, -1, 0, EMFILE}, false, "no descriptor for shard 3's ring", "ulimit -n 65536"},
    {{__NR_eventfd2, -1, 0, ENFILE}, false, "no descriptor for shard 3's ring", "fs.file-max"},
    {{__NR_eventfd2, -1, 0, ENOMEM}, false, "no locked memory for shard 3's rings", "ulimit -l 65536"},
    {{__NR_eventfd2, -1, 0, ENODEV}, false, "shard 3's ring cannot be set up: No such device", "weir-probe"},
    {{REGISTER(IORING_REGISTER_EVENTFD), EBUSY}, true, "shard 3's ring cannot be set up: Device or resource busy", "weir-probe"},
};

START_TEST(cannot_be_opened)
{
    const struct w_io_setup setup = {
        .shard_index = 3, .shard_count = 4, .embedded = failures[_i].embedded, .allocator = &counted_allocator, .log = counted_no_log};
    struct w_io *io;
    int descriptors = poor_count_descriptors();
    poor_answer_with(&failures[_i].answer);
    ck_assert_int_eq(open_engine(&setup, &io), -failures[_i].answer.error);
    poor_must_say(error.sentence, failures[_i].says);
    poor_must_say(error.sentence, failures[_i].mend);
    ck_assert_int_eq(counted_bytes, 0);
    ck_assert_int_eq(poor_count_descriptors(), descriptors);
}
END_TEST

/* What a setup may leave open, and what it may ask for. */
START_TEST(as_it_was_asked_for)
{
    struct w_io *io;
    int descriptors = poor_count_descriptors();
    struct w_io_setup setup = {.allocator = &counted_allocator, .log = counted_no_log}; /* a shard of nobody knows how many */
    ck_assert_int_eq(open_engine(&setup, &io), 0);
    ck_assert_uint_eq(io->buffers_free, io->buffers);
    close_engine(io, descriptors);
    setup.receive_buffers = 8;
    setup.receive_buffer_bytes = 4096;
    ck_assert_int_eq(open_engine(&setup, &io), 0);
    ck_assert_uint_eq(io->buffers, 8);
    ck_assert_uint_eq(io->buffer_bytes, 4096);
    close_engine(io, descriptors);
    setup.receive_buffers = 40000; /* more than the kernel takes */
    ck_assert_int_eq(open_engine(&setup, &io), 0);
    ck_assert_uint_eq(io->buffers, 32768);
    close_engine(io, descriptors);
}
END_TEST

/* --- it cannot be started, or embedded --- */

START_TEST(cannot_be_started)
{
    int descriptors = poor_count_descriptors();
    struct w_io *io = open_well();
    poor_answer_with(&(struct poor_answer){REGISTER(IORING_REGISTER_ENABLE_RINGS), EBADFD});
    ck_assert_int_eq(io->engine->start(io), -EBADFD);
    close_engine(io, descriptors);
}
END_TEST

START_TEST(cannot_be_embedded)
{
    int descriptors = poor_count_descriptors();
    struct w_io *io = open_well();
    poor_answer_with(&(struct poor_answer){REGISTER(IORING_REGISTER_EVENTFD), ENOMEM});
    ck_assert_int_eq(io->engine->descriptor(io), -ENOMEM);
    ck_assert_int_eq(io->engine->start(io), 0); /* it can be used as it is */
    ck_assert_int_eq(io->engine->submit(io, WEIR_MILLISECOND), 0);
    close_engine(io, descriptors);
}
END_TEST

/* --- what it had when it was tried is not there any more --- */

/* One byte through a receive and a send. */
static void check_works(struct w_io *io)
{
    static const weir_socket_options options;
    struct w_io_completion completion;
    int ends[2], sleeps = 0;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(io->engine->adopt(io, ends[0], &options), 0);
    io->engine->send(io, ends[1], "x", 1, 1);
    io->engine->receive(io, ends[0], 2);
    for (bool received = false; !received;) {
        ck_assert_int_lt(sleeps++, 10);
        ck_assert_int_eq(io->engine->submit(io, WEIR_SECOND), 0);
        while (io->engine->take(io, &completion, 1) == 1) {
            ck_assert_int_eq(completion.result, 1);
            received = received || completion.token == 2;
            if (completion.token == 2)
                io->engine->buffer_release(io, completion.buffer);
        }
    }
    close(ends[1]);
    ck_assert_int_eq(io->engine->submit(io, WEIR_SECOND), 0);
    ck_assert_uint_eq(io->engine->take(io, &completion, 1), 1);
    ck_assert(completion.token == 2 && completion.result == 0);
    close(ends[0]);
}

/* All places for registered descriptors are taken meanwhile. */
START_TEST(without_a_registered_descriptor)
{
    int descriptors = poor_count_descriptors();
    struct w_io *io = open_well();
    poor_answer_with(&(struct poor_answer){REGISTER(IORING_REGISTER_RING_FDS), EBUSY});
    ck_assert_int_eq(io->engine->start(io), 0);
    check_works(io);
    close_engine(io, descriptors);
}
END_TEST

static void *wake_a_little_later(void *user)
{
    struct w_io *io = user;
    usleep(50000);
    errno = 77;
    io->engine->wake(io);
    ck_assert_int_eq(errno, 77); /* signal handlers wake */
    return NULL;
}

/* A message to the ring may be refused (its completion queue is full, say): the bell wakes too. */
START_TEST(woken_by_the_bell)
{
    int descriptors = poor_count_descriptors();
    struct w_io *io = open_well();
    struct w_io_completion none;
    pthread_t thread;
    poor_answer_with(&(struct poor_answer){REGISTER(W_UAPI_REGISTER_SEND_MSG_RING), EOVERFLOW});
    ck_assert_int_eq(io->engine->start(io), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pthread_create(&thread, NULL, wake_a_little_later, io), 0);
        uint64_t begin_ns = io->engine->clock(io);
        ck_assert_int_eq(io->engine->submit(io, 10 * WEIR_SECOND), 0);
        ck_assert_uint_lt(io->now_ns - begin_ns, 5 * WEIR_SECOND);
        ck_assert_uint_eq(io->engine->take(io, &none, 1), 0);
        pthread_join(thread, NULL);
    }
    check_works(io);
    close_engine(io, descriptors);
}
END_TEST

/* Chance is not the same on every shard, even where the kernel has none to give. */
START_TEST(chance_without_the_kernel_s)
{
    int descriptors = poor_count_descriptors();
    uint64_t numbers[4];
    poor_answer_with(&(struct poor_answer){__NR_getrandom, -1, 0, ENOSYS});
    struct w_io *ios[W_COUNT(numbers)];
    for (size_t i = 0; i < W_COUNT(numbers); i++) {
        ios[i] = open_well();
        numbers[i] = ios[i]->engine->random(ios[i]);
        ck_assert_uint_ne(numbers[i], ios[i]->engine->random(ios[i]));
        for (size_t j = 0; j < i; j++)
            ck_assert_uint_ne(numbers[i], numbers[j]);
    }
    for (size_t i = 0; i < W_COUNT(numbers); i++)
        w_io_uring()->close(&ios[i]);
    ck_assert_int_eq(counted_bytes, 0);
    ck_assert_int_eq(poor_count_descriptors(), descriptors);
}
END_TEST

/* --- the kernel refuses to be entered --- */

/* What passes is not told: the caller comes again. */
START_TEST(not_now)
{
    static const int errors[] = {EAGAIN, EBUSY, EINTR, ETIME};
    int descriptors = poor_count_descriptors();
    struct w_io *io = open_well();
    struct w_io_completion none;
    ck_assert_int_eq(io->engine->start(io), 0);
    ck_assert_int_eq(io->engine->submit(io, 0), 0);
    poor_answer_with(&(struct poor_answer){__NR_io_uring_enter, -1, 0, errors[_i]});
    for (uint32_t i = 0; i < 10; i++) {
        io->engine->close_handle(io, -1, i);
        ck_assert_int_eq(io->engine->submit(io, i % 2 == 0 ? 0 : WEIR_MILLISECOND), 0);
        ck_assert_uint_eq(io->engine->take(io, &none, 1), 0);
    }
    close_engine(io, descriptors);
}
END_TEST

/* What does not is told each time, operations are lost in it without harm, more of them than the queue has too; and it can be closed. */
START_TEST(never_again)
{
    int descriptors = poor_count_descriptors();
    struct w_io *io = open_well();
    struct w_io_completion none;
    ck_assert_int_eq(io->engine->start(io), 0);
    ck_assert_int_eq(io->engine->submit(io, 0), 0);
    poor_answer_with(&(struct poor_answer){__NR_io_uring_enter, -1, 0, EBADFD});
    if (_i == 0)
        ck_assert_int_eq(io->engine->submit(io, WEIR_MILLISECOND), -EBADFD);
    for (uint32_t i = 0; i < 5000; i++)
        io->engine->close_handle(io, -1, i);
    ck_assert_int_eq(io->engine->submit(io, 0), -EBADFD);
    ck_assert_int_eq(io->engine->submit(io, WEIR_SECOND), -EBADFD);
    ck_assert_uint_eq(io->engine->take(io, &none, 1), 0);
    close_engine(io, descriptors);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine");
    TCase *tests = tcase_create("engine");
    tcase_set_timeout(tests, 20);
    tcase_add_loop_test(tests, cannot_be_opened, 0, (int)W_COUNT(failures));
    tcase_add_test(tests, as_it_was_asked_for);
    tcase_add_test(tests, cannot_be_started);
    tcase_add_test(tests, cannot_be_embedded);
    tcase_add_test(tests, without_a_registered_descriptor);
    tcase_add_test(tests, woken_by_the_bell);
    tcase_add_test(tests, chance_without_the_kernel_s);
    tcase_add_loop_test(tests, not_now, 0, 4);
    tcase_add_loop_test(tests, never_again, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK); /* filters cannot be taken back */
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
