/* SPDX-License-Identifier: MIT */
/* test_runtime: a runtime on a machine that fails it after it was opened: no threads, no rings, no descriptors, a kernel that gives a shard up, listening
 * sockets that break. Everybody is told, everything comes home, and what can go on goes on. */
#include <check.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <weir/weir.h>

#include "must.h"
#include "poor.h"
#include "rig.h"

static const weir_config plain = {.connections = 8};

/* --- it does not begin --- */

START_TEST(no_thread_for_a_shard)
{
    rig_make(&plain);
    poor_answer_with(&(struct poor_answer){__NR_clone3, -1, 0, EAGAIN});
    MUST_EQUAL(weir_run(rig.runtime), -EAGAIN);
    rig_close();
}
END_TEST

START_TEST(no_ring_for_a_shard)
{
    uint64_t sleep_ns;
    rig_make(&plain);
    poor_answer_with(&(struct poor_answer){__NR_io_uring_register, 1, IORING_REGISTER_ENABLE_RINGS, EBADFD});
    if (_i == 0) {
        MUST_EQUAL(weir_run(rig.runtime), -EBADFD);
    } else {
        for (int i = 0; i < 3; i++)
            MUST_EQUAL(weir_turn(rig.shards[1], &sleep_ns), -EBADFD);
    }
    MUST_EQUAL(rig.logged_level, WEIR_LOG_ERROR);
    poor_must_say(rig.logged, "failed for good: File descriptor in bad state");
    rig_close();
}
END_TEST

static void stop(weir_shard *shard)
{
    weir_stop(weir_shard_runtime(shard));
}

/* Not to be bound to a cpu is no reason not to run. */
START_TEST(not_bound_to_a_cpu)
{
    static const weir_config config = {.connections = 8, .pin = true, .on_start = stop};
    rig_make(&config);
    poor_answer_with(_i == 0 ? &(struct poor_answer){__NR_sched_setaffinity, -1, 0, EPERM}
                             : &(struct poor_answer){__NR_sched_getaffinity, 1, sizeof(cpu_set_t), EPERM});
    MUST_EQUAL(weir_run(rig.runtime), 0);
    if (_i == 0) {
        MUST_EQUAL(rig.logged_level, WEIR_LOG_WARNING);
        poor_must_say(rig.logged, "could not be pinned to a cpu");
    }
    rig_close();
}
END_TEST

/* --- it does not go on --- */

/* The kernel gives a shard up in the middle: its connections end when the runtime is closed, and the other shard has nothing to do with it. */
START_TEST(a_shard_that_fails_for_good)
{
    uint64_t sleep_ns;
    uint8_t data[100];
    weir_port_event event;
    rig_open();
    weir_port *port = rig_port();
    weir_id ids[3] = {rig_connect(0, &rig.frames), rig_connect(0, &rig.frames), rig_connect(0, &rig.frames)};
    MUST_EQUAL(weir_send(rig_conn(0, ids[0]), "never", 5), 0);
    weir_end(rig_conn(0, ids[1]));
    MUST_EQUAL(weir_port_send(port, ids[2], "never", 5), 0);
    poor_answer_with(&(struct poor_answer){__NR_io_uring_enter, -1, 0, EBADFD});
    for (int i = 0; i < 3; i++)
        MUST_EQUAL(weir_turn(rig.shards[0], &sleep_ns), -EBADFD);
    MUST_EQUAL(rig.logged_level, WEIR_LOG_ERROR);
    poor_must_say(rig.logged, "shard 0 failed for good: File descriptor in bad state");
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        MUST_EQUAL(rig.closes[i], 0);
    int flushed = weir_port_flush(port, WEIR_MILLISECOND);
    MUST(flushed == -ETIMEDOUT ||
         (flushed == 0 && getenv("WEIR_DISABLE") != NULL)); /* (a wake by eventfd lets the shard look before it fails) */
    while (weir_port_next(port, &event))
        continue;
    weir_port_close(&port);
    weir_close(&rig.runtime);
    MUST_EQUAL(rig.pieces, 0);
    MUST_EQUAL(rig.closes[WEIR_REASON_STOPPED] + rig.closes[WEIR_REASON_LOCAL], 3);
    MUST_EQUAL(rig.closes[WEIR_REASON_LOCAL], 1);
    for (int i = 0; i < 3; i++) { /* the kernel takes a ring apart in its own time */
        struct pollfd end = {.fd = rig.peers[i], .events = POLLIN};
        MUST_EQUAL(poll(&end, 1, 10000), 1);
        MUST_EQUAL(recv(rig.peers[i], data, sizeof data, 0), 0);
    }
}
END_TEST

/* Without descriptors a port sleeps all the same, and only the one that was asked for is missing. */
START_TEST(no_descriptor_for_a_port)
{
    uint8_t data[100];
    weir_port_event event;
    rig_open();
    weir_id id = rig_connect(0, &rig.frames);
    weir_port *port = rig_port();
    poor_answer_with(&(struct poor_answer){__NR_eventfd2, -1, 0, EMFILE});
    MUST_EQUAL(weir_port_wait(port, WEIR_MILLISECOND), -ETIMEDOUT);
    MUST_EQUAL(weir_port_descriptor(port), -EMFILE);
    MUST_EQUAL(weir_port_send_wait(port, id, "hello", 5, WEIR_SECOND), 0);
    MUST_EQUAL(weir_port_flush(port, WEIR_MILLISECOND), -ETIMEDOUT);
    rig_turn();
    MUST_EQUAL(weir_port_flush(port, WEIR_SECOND), 0);
    MUST_EQUAL(rig_read(0, data, sizeof data), 9);
    MUST(!weir_port_next(port, &event));
    weir_port_close(&port);
    rig_close();
}
END_TEST

/* --- listening --- */

/* A listening socket that has been shut down (whoever handed it over may do that) accepts no more: told once, and nothing goes round in circles. */
START_TEST(a_listener_that_breaks)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char text[32];
    weir_stats before, after;
    weir_listener listener;
    rig_open();
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), mine = dup(descriptor);
    MUST_EQUAL(bind(descriptor, (struct sockaddr *)(void *)&address, sizeof address), 0);
    MUST_EQUAL(listen(descriptor, 10), 0);
    snprintf(text, sizeof text, "fd://%d", descriptor);
    MUST_EQUAL(weir_listen(rig.runtime, text, &rig.frames, NULL, &listener, NULL), 0);
    rig_turn();
    MUST_EQUAL(shutdown(mine, SHUT_RDWR), 0);
    usleep(5000);
    rig_turn();
    MUST_EQUAL(rig.logged_level, WEIR_LOG_ERROR);
    poor_must_say(rig.logged, "a listening socket is broken and accepts no more");
    weir_runtime_stats(rig.runtime, &before);
    rig.logged_level = WEIR_LOG_DEBUG;
    rig.logged[0] = '\0';
    for (int i = 0; i < 10; i++)
        rig_turn();
    weir_runtime_stats(rig.runtime, &after);
    MUST_EQUAL(after.accept_pauses, before.accept_pauses);
    ck_assert_str_eq(rig.logged, "");
    MUST_EQUAL(weir_listener_stop(rig.runtime, listener), 0);
    rig_turn();
    close(mine);
    rig_close();
}
END_TEST

/* With plenty of places the whole backlog is accepted at once, with few one by one, so that nobody is turned away; who finds no place waits
 * in the backlog. */
START_TEST(places_run_out)
{
    static const weir_config config = {.connections = 6};
    const weir_listen_options options = {.socket.backlog = 4, .placement = WEIR_PLACEMENT_ROUND_ROBIN};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char text[WEIR_ADDRESS_MAX_BYTES];
    int clients[15], places = 12;
    weir_listener listener;
    weir_stats stats;
    rig_open_with(&config);
    MUST_EQUAL(weir_listen(rig.runtime, "tcp://127.0.0.1:0", &rig.frames, &options, &listener, NULL), 0);
    MUST_EQUAL(weir_listener_address(rig.runtime, listener, text, sizeof text), 0);
    address.sin_port = htons((uint16_t)strtoul(strrchr(text, ':') + 1, NULL, 10));
    rig_turn();
    for (int i = 0; i < 15; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        MUST_EQUAL(connect(clients[i], (struct sockaddr *)(void *)&address, sizeof address), 0);
        usleep(1000);
        rig_turn();
        MUST_EQUAL(rig.opens, (uint64_t)(i < places ? i + 1 : places));
    }
    for (int i = 0; i < 3; i++) {
        close(clients[i]);
        usleep(1000);
        rig_turn();
        MUST_EQUAL(rig.opens, (uint64_t)(places + i + 1));
    }
    weir_runtime_stats(rig.runtime, &stats);
    MUST_EQUAL(stats.turned_away, 0);
    MUST_EQUAL(stats.accepted, (uint64_t)(places + 3));
    for (int i = 3; i < 15; i++)
        close(clients[i]);
    rig_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("runtime");
    TCase *tests = tcase_create("runtime");
    tcase_set_timeout(tests, 20);
    tcase_add_test(tests, no_thread_for_a_shard);
    tcase_add_loop_test(tests, no_ring_for_a_shard, 0, 2);
    tcase_add_loop_test(tests, not_bound_to_a_cpu, 0, 2);
    tcase_add_test(tests, a_shard_that_fails_for_good);
    tcase_add_test(tests, no_descriptor_for_a_port);
    tcase_add_test(tests, a_listener_that_breaks);
    tcase_add_test(tests, places_run_out);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK); /* filters cannot be taken back */
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
