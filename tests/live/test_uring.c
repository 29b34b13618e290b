/* SPDX-License-Identifier: MIT */
/* test_uring: what only the real engine can show: a completion queue that runs over, wakes that race with falling asleep, descriptors
 * spent, quiet when idle, look-ups left behind, and each kernel feature switched off in turn. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/io/address.h"
#include "runtime/io/io.h"
#include "tests/unit/counted.h"

static const weir_socket_options no_options;

/* Every test runs on every road: the i-th has these features switched off. */
static const char *const roads[] = {
    "",
    "incremental-buffers",
    "sync-message-ring",
    "registered-ring,no-iowait",
    "incremental-buffers,sync-message-ring,registered-ring,no-iowait",
};
#define ROADS ((int)W_COUNT(roads))

static struct w_io *open_engine(int road, bool embedded)
{
    const struct w_io_setup setup = {
        .shard_count = 1, .embedded = embedded, .disable = roads[road], .allocator = &counted_allocator, .log = counted_no_log};
    struct w_io *io;
    weir_error error = {0};
    ck_assert_msg(w_io_uring()->open(NULL, &setup, &io, &error) == 0, "%s", error.sentence);
    ck_assert_int_eq(io->engine->start(io), 0);
    return io;
}

static void close_engine(struct w_io *io)
{
    ck_assert_uint_eq(io->buffers_free, io->buffers);
    w_io_uring()->close(&io);
    ck_assert_int_eq(counted_bytes, 0);
}

/* One turn that sleeps at most so long; the completions are counted by what lies in token & 0xff. */
static uint32_t turn(struct w_io *io, uint64_t wait_ns, struct w_io_completion *completions, uint32_t max)
{
    ck_assert_int_eq(io->engine->submit(io, wait_ns), 0);
    return io->engine->take(io, completions, max);
}

/* The next completion. */
static struct w_io_completion await(struct w_io *io)
{
    struct w_io_completion completion;
    for (int i = 0; i < 1000; i++)
        if (io->engine->take(io, &completion, 1) == 1 || turn(io, 10 * WEIR_MILLISECOND, &completion, 1) == 1)
            return completion;
    ck_abort_msg("nothing came for ten seconds");
}

static int listen_on_loopback(struct w_io *io, struct w_io_address *bound)
{
    struct w_address address;
    ck_assert_int_eq(w_address_parse("tcp://127.0.0.1:0", &address, NULL), 0);
    int handle = io->engine->listen(NULL, &address.socket, &no_options, W_IO_ALONE);
    ck_assert_int_ge(handle, 0);
    ck_assert_int_eq(io->engine->local_address(NULL, handle, bound), 0);
    return handle;
}

static int connect_plainly(const struct w_io_address *address)
{
    int descriptor = socket(address->socket.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(descriptor, 0);
    ck_assert_int_eq(connect(descriptor, &address->socket.any, address->bytes), 0);
    return descriptor;
}

/* --- a completion queue that runs over --- */

/* Five times as many completions as fit; none is lost, none comes twice. */
START_TEST(completions_run_over)
{
    enum { COUNT = 20480 };
    static uint8_t seen[COUNT];
    struct w_io *io = open_engine(_i, false);
    for (uint32_t i = 0; i < COUNT; i++)
        io->engine->close_handle(io, 1 << 30, i);
    uint32_t taken = 0;
    while (taken < COUNT) {
        struct w_io_completion completions[100];
        uint32_t count = turn(io, WEIR_SECOND, completions, W_COUNT(completions));
        ck_assert_uint_gt(count, 0);
        for (uint32_t i = 0; i < count; i++, taken++) {
            ck_assert_int_eq(completions[i].result, -EBADF);
            ck_assert_uint_lt(completions[i].token, COUNT);
            ck_assert_uint_eq(seen[completions[i].token]++, 0);
        }
    }
    ck_assert_uint_gt(atomic_load(&io->counters.completion_overflows), 0);
    close_engine(io);
}
END_TEST

/* Receives go on beside it: they may end without W_IO_MORE, but the stream stays whole. */
START_TEST(receives_survive_an_overflow)
{
    struct w_io *io = open_engine(_i, false);
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(io->engine->adopt(io, ends[0], &no_options), 0);
    io->engine->receive(io, ends[0], 1);
    struct w_io_completion completions[64];
    ck_assert_uint_eq(turn(io, 0, completions, W_COUNT(completions)), 0);
    uint8_t written = 0, expected = 0;
    uint32_t received = 0, closes = 0;
    bool armed = true;
    for (int round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < 6000; i++)
            io->engine->close_handle(io, 1 << 30, 2);
        uint8_t piece[100];
        for (size_t i = 0; i < sizeof piece; i++)
            piece[i] = written++;
        ck_assert_int_eq(send(ends[1], piece, sizeof piece, 0), sizeof piece);
        while (received < (uint32_t)(round + 1) * sizeof piece || closes < (uint32_t)(round + 1) * 6000) {
            uint32_t count = turn(io, WEIR_SECOND, completions, W_COUNT(completions));
            for (uint32_t i = 0; i < count; i++) {
                closes += completions[i].token == 2;
                if (completions[i].token != 1)
                    continue;
                armed = (completions[i].flags & W_IO_MORE) != 0;
                ck_assert(completions[i].result > 0 || completions[i].result == -ENOBUFS);
                for (int32_t j = 0; j < completions[i].result; j++)
                    ck_assert_uint_eq(completions[i].data[j], expected++);
                received += completions[i].result > 0 ? (uint32_t)completions[i].result : 0;
                if (completions[i].result > 0)
                    io->engine->buffer_release(io, completions[i].buffer);
            }
            if (!armed)
                io->engine->receive(io, ends[0], 1);
            armed = true;
        }
    }
    ck_assert_uint_gt(atomic_load(&io->counters.completion_overflows), 0);
    close(ends[1]);
    struct w_io_completion last = await(io);
    ck_assert(last.token == 1 && last.result == 0 && (last.flags & W_IO_MORE) == 0);
    io->engine->close_handle(io, ends[0], 3);
    ck_assert_int_eq(await(io).result, 0);
    close_engine(io);
}
END_TEST

/* --- the end that comes right behind bytes --- */

/* The two ends of a new connection. */
static void open_pair(struct w_io *io, bool tcp, int ends[2])
{
    struct w_io_address address;
    if (!tcp) {
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        return;
    }
    int listener = listen_on_loopback(io, &address);
    ends[1] = connect_plainly(&address);
    ends[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(ends[0], 0);
    io->engine->discard(NULL, listener);
}

/* Bytes and the end come together, before the receive is started or (early) while it waits and nobody enters the kernel. */
static void end_behind_bytes(int road, bool tcp, bool reset, bool early)
{
    struct w_io *io = open_engine(road, false);
    const struct linger linger = {.l_onoff = 1};
    struct w_io_completion completion;
    int ends[2];
    open_pair(io, tcp, ends);
    if (early) {
        io->engine->receive(io, ends[0], 1);
        ck_assert_uint_eq(turn(io, 0, &completion, 1), 0);
    }
    ck_assert_int_eq(send(ends[1], "bytes", 5, 0), 5);
    if (reset)
        ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close(ends[1]);
    usleep(1000);
    if (!early)
        io->engine->receive(io, ends[0], 1);
    completion = await(io);
    if (completion.result == 5) {
        io->engine->buffer_release(io, completion.buffer);
        if ((completion.flags & W_IO_MORE) == 0)
            io->engine->receive(io, ends[0], 1);
        completion = await(io);
    }
    ck_assert_int_eq(completion.result, reset && tcp ? -ECONNRESET : 0);
    ck_assert_uint_eq(completion.flags, 0);
    close(ends[0]);
    close_engine(io);
}

START_TEST(end_is_told_behind_bytes)
{
    for (unsigned which = 0; which < 8; which++)
        end_behind_bytes(_i, (which & 1) != 0, (which & 2) != 0, (which & 4) != 0);
}
END_TEST

/* --- wakes that race with falling asleep --- */

enum { WAKES = 4000 };

struct waker {
    struct w_io *io;
    _Atomic uint32_t published, seen;
};

/* Publishes and wakes; waits until it was seen before the next, so each wake finds the other side somewhere else on its way
 * to sleep. A wake that is lost hangs the test. */
static void *wake_often(void *user)
{
    struct waker *waker = user;
    for (uint32_t i = 1; i <= WAKES; i++) {
        atomic_store_explicit(&waker->published, i, memory_order_relaxed);
        waker->io->engine->wake(waker->io);
        for (uint32_t looks = i % 100; atomic_load_explicit(&waker->seen, memory_order_relaxed) < i; looks++)
            if (looks >= 100)
                sched_yield();
    }
    return NULL;
}

static void see(struct waker *waker)
{
    atomic_store_explicit(&waker->seen, atomic_load_explicit(&waker->published, memory_order_relaxed), memory_order_relaxed);
}

START_TEST(no_wake_is_lost)
{
    struct waker waker = {.io = open_engine(_i, false)};
    struct w_io_completion none;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, wake_often, &waker), 0);
    while (atomic_load_explicit(&waker.seen, memory_order_relaxed) < WAKES) {
        ck_assert_uint_eq(turn(waker.io, W_IO_FOREVER, &none, 1), 0);
        see(&waker);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    close_engine(waker.io);
}
END_TEST

START_TEST(no_wake_is_lost_when_embedded)
{
    struct waker waker = {.io = open_engine(_i, true)};
    const struct w_io_engine *engine = waker.io->engine;
    struct pollfd descriptor = {.fd = engine->descriptor(waker.io), .events = POLLIN};
    struct w_io_completion none;
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, wake_often, &waker), 0);
    while (atomic_load_explicit(&waker.seen, memory_order_relaxed) < WAKES) {
        ck_assert_uint_eq(turn(waker.io, 0, &none, 1), 0);
        see(&waker);
        if (atomic_load_explicit(&waker.seen, memory_order_relaxed) < WAKES && engine->may_sleep(waker.io))
            ck_assert_int_eq(poll(&descriptor, 1, -1), 1);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    close_engine(waker.io);
}
END_TEST

static void *write_often(void *user)
{
    const int *ends = user;
    uint8_t byte;
    for (uint32_t i = 0; i < WAKES; i++)
        if (send(ends[1], "x", 1, 0) != 1 || recv(ends[1], &byte, 1, 0) != 1)
            break;
    shutdown(ends[1], SHUT_WR);
    return NULL;
}

/* The same with what the kernel brings: an echo whose shard sleeps on the descriptor after each byte. */
START_TEST(no_completion_is_missed_when_embedded)
{
    struct w_io *io = open_engine(_i, true);
    const struct w_io_engine *engine = io->engine;
    struct pollfd descriptor = {.fd = engine->descriptor(io), .events = POLLIN};
    int ends[2];
    bool over = false;
    pthread_t thread;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, write_often, ends), 0);
    engine->receive(io, ends[0], 1);
    while (!over) {
        struct w_io_completion completions[8];
        uint32_t count = turn(io, 0, completions, W_COUNT(completions));
        for (uint32_t i = 0; i < count; i++) {
            over = over || (completions[i].token == 1 && completions[i].result == 0);
            if (completions[i].token != 1 || completions[i].result <= 0)
                continue;
            engine->send(io, ends[0], "y", 1, 2);
            engine->buffer_release(io, completions[i].buffer);
            if ((completions[i].flags & W_IO_MORE) == 0)
                engine->receive(io, ends[0], 1);
        }
        if (count == 0 && engine->may_sleep(io))
            ck_assert_int_eq(poll(&descriptor, 1, 10000), 1);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    close(ends[0]);
    close(ends[1]);
    close_engine(io);
}
END_TEST

/* --- embedded or not --- */

START_TEST(embedded_by_asking_for_the_descriptor)
{
    const struct w_io_setup setup = {.shard_count = 1, .allocator = &counted_allocator, .log = counted_no_log};
    const struct w_io_engine *engine = w_io_uring();
    struct w_io_completion none;
    struct w_io *io;
    ck_assert_int_eq(engine->open(NULL, &setup, &io, NULL), 0);
    struct pollfd descriptor = {.fd = engine->descriptor(io), .events = POLLIN};
    ck_assert_int_ge(descriptor.fd, 0);
    ck_assert_int_eq(engine->start(io), 0);
    ck_assert_int_eq(engine->descriptor(io), descriptor.fd);
    ck_assert_uint_eq(turn(io, 0, &none, 1), 0);
    ck_assert(engine->may_sleep(io));
    ck_assert_int_eq(poll(&descriptor, 1, 20), 0);
    engine->wake(io);
    ck_assert_int_eq(poll(&descriptor, 1, 1000), 1);
    /* It may sleep inside, too. */
    ck_assert_uint_eq(turn(io, 0, &none, 1), 0);
    ck_assert_uint_eq(turn(io, 20 * WEIR_MILLISECOND, &none, 1), 0);
    ck_assert(engine->may_sleep(io));
    close_engine(io);

    io = open_engine(0, false);
    ck_assert_int_eq(engine->descriptor(io), -EINVAL);
    close_engine(io);
}
END_TEST

/* Another thread may not submit: -EEXIST, or -EINVAL where the ring's descriptor is registered with its own. */
static void *submit_elsewhere(void *user)
{
    struct w_io *io = user;
    static int result;
    result = io->engine->submit(io, 0);
    return &result;
}

START_TEST(wrong_thread)
{
    struct w_io *io = open_engine(_i, false);
    pthread_t thread;
    void *result;
    ck_assert_int_eq(pthread_create(&thread, NULL, submit_elsewhere, io), 0);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert(*(int *)result == -EEXIST || *(int *)result == -EINVAL);
    w_io_uring()->close(&io);
}
END_TEST

/* --- quiet when idle --- */

START_TEST(idle_is_free)
{
    enum { CONNECTIONS = 50 };
    struct w_io *io = open_engine(_i, false);
    struct w_io_address address;
    struct w_io_completion completion;
    struct rusage before, after;
    int listener = listen_on_loopback(io, &address), clients[CONNECTIONS], handles[CONNECTIONS];
    io->engine->accept(io, listener, 0);
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        clients[i] = connect_plainly(&address);
        completion = await(io);
        ck_assert(completion.token == 0 && completion.result >= 0 && (completion.flags & W_IO_MORE) != 0);
        handles[i] = completion.result;
        io->engine->receive(io, handles[i], i + 1);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(turn(io, WEIR_MILLISECOND, &completion, 1), 0);
    ck_assert_int_eq(getrusage(RUSAGE_THREAD, &before), 0);
    ck_assert_uint_eq(turn(io, WEIR_SECOND, &completion, 1), 0);
    ck_assert_int_eq(getrusage(RUSAGE_THREAD, &after), 0);
    ck_assert_int_le(after.ru_nvcsw - before.ru_nvcsw, 1); /* the sleep itself */
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        close(clients[i]);
        completion = await(io);
        ck_assert(completion.token == i + 1 && completion.result == 0);
        io->engine->close_handle(io, handles[i], 1000);
        ck_assert_uint_eq(await(io).token, 1000);
    }
    io->engine->cancel(io, 0);
    ck_assert_int_eq(await(io).result, -ECANCELED);
    io->engine->discard(NULL, listener);
    close_engine(io);
}
END_TEST

/* --- descriptors spent --- */

START_TEST(accept_without_descriptors)
{
    struct w_io *io = open_engine(_i, false);
    struct w_io_address address;
    int listener = listen_on_loopback(io, &address), client = connect_plainly(&address), lowest = dup(0);
    close(lowest);
    struct rlimit before, none;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)lowest, .rlim_max = before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    io->engine->accept(io, listener, 1);
    struct w_io_completion completion = await(io);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert(completion.result == -EMFILE && (completion.flags & W_IO_MORE) == 0);
    /* It stayed in the backlog. */
    io->engine->accept(io, listener, 2);
    completion = await(io);
    ck_assert(completion.token == 2 && completion.result >= 0);
    close(completion.result);
    io->engine->cancel(io, 2);
    ck_assert_int_eq(await(io).result, -ECANCELED);
    close(client);
    io->engine->discard(NULL, listener);
    close_engine(io);
}
END_TEST

/* --- look-ups --- */

/* Cancelled and abandoned look-ups leave nothing behind, whatever glibc is doing. */
START_TEST(look_ups_left_behind)
{
    struct w_io *io = open_engine(_i, false);
    static struct w_io_resolve resolves[40];
    for (uint32_t i = 0; i < W_COUNT(resolves); i++) {
        snprintf(resolves[i].host, sizeof resolves[i].host, i % 3 == 0 ? "localhost" : "name-%u.invalid", i);
        resolves[i].port = 80;
        io->engine->resolve(io, &resolves[i], i);
    }
    uint32_t cancelled = 0, taken = 0;
    for (uint32_t i = 0; i < W_COUNT(resolves); i += 2, cancelled++)
        io->engine->cancel(io, i);
    while (taken < cancelled) {
        struct w_io_completion completion = await(io);
        if (completion.token % 2 != 0)
            continue;
        ck_assert_int_eq(completion.result, -ECANCELED);
        memset(&resolves[completion.token], 0xa5, sizeof resolves[0]); /* ours again */
        taken++;
    }
    w_io_uring()->close(&io);
    ck_assert_int_eq(counted_bytes, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("uring");
    TCase *tests = tcase_create("uring");
    tcase_set_timeout(tests, 30);
    tcase_add_loop_test(tests, completions_run_over, 0, ROADS);
    tcase_add_loop_test(tests, receives_survive_an_overflow, 0, ROADS);
    tcase_add_loop_test(tests, end_is_told_behind_bytes, 0, ROADS);
    tcase_add_loop_test(tests, no_wake_is_lost, 0, ROADS);
    tcase_add_loop_test(tests, no_wake_is_lost_when_embedded, 0, ROADS);
    tcase_add_loop_test(tests, no_completion_is_missed_when_embedded, 0, ROADS);
    tcase_add_test(tests, embedded_by_asking_for_the_descriptor);
    tcase_add_loop_test(tests, wrong_thread, 0, ROADS);
    tcase_add_loop_test(tests, idle_is_free, 0, ROADS);
    tcase_add_loop_test(tests, accept_without_descriptors, 0, ROADS);
    tcase_add_loop_test(tests, look_ups_left_behind, 0, ROADS);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
