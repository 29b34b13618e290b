/* SPDX-License-Identifier: MIT */
/* test_resolve: looking names up, with a name server of our own in a network of our own: one that answers, says no, is late, or is silent. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "poor.h"
#include "runtime/io/resolve.h"

/* Builds with the thread sanitizer look names up on the spot (resolve.c). */
#if defined(__SANITIZE_THREAD__)
#define IN_THE_BACKGROUND 0
#else
#define IN_THE_BACKGROUND 1
#endif

/* --- the name server --- */

enum { TYPE_A = 1, NAME_AT = 12, RCODE_FAILED = 2, RCODE_NO_SUCH_NAME = 3 };

/* The first letter of a name says what becomes of it: 1 to 9: so many addresses, 10.0.0.1 and on; l: one, late; n: there is no such name; f: the
 * server has failed; anything else: silence. */
static uint32_t compose(uint8_t *packet, uint32_t bytes, uint32_t question_bytes)
{
    char letter = (char)packet[NAME_AT + 1];
    bool of_ipv4 = packet[NAME_AT + question_bytes - 3] == TYPE_A;
    uint32_t count = letter >= '1' && letter <= '9' ? (uint32_t)(letter - '0') : letter == 'l' ? 1 : 0;
    if (letter == 'l')
        usleep(30000);
    packet[2] = 0x81;
    packet[3] = (uint8_t)(0x80 | (letter == 'n' ? RCODE_NO_SUCH_NAME : letter == 'f' ? RCODE_FAILED : 0));
    memset(packet + 6, 0, 6);
    bytes = NAME_AT + question_bytes;
    if (!of_ipv4)
        return bytes;
    packet[7] = (uint8_t)count;
    for (uint32_t i = 0; i < count; i++, bytes += 16) {
        const uint8_t record[16] = {0xc0, NAME_AT, 0, TYPE_A, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, (uint8_t)(i + 1)};
        memcpy(packet + bytes, record, sizeof record);
    }
    return bytes;
}

static void *serve(void *user)
{
    int server = *(int *)user;
    uint8_t packet[1024];
    struct sockaddr_in client;
    for (;;) {
        socklen_t client_bytes = sizeof client;
        ssize_t bytes = recvfrom(server, packet, sizeof packet / 2, 0, (struct sockaddr *)(void *)&client, &client_bytes);
        if (bytes <= NAME_AT || strchr("123456789lnf", packet[NAME_AT + 1]) == NULL)
            continue;
        uint32_t question_bytes = (uint32_t)strlen((char *)packet + NAME_AT) + 1 + 4;
        uint32_t answer_bytes = compose(packet, (uint32_t)bytes, question_bytes);
        if (sendto(server, packet, answer_bytes, 0, (struct sockaddr *)(void *)&client, client_bytes) < 0)
            return NULL;
    }
}

/* It is waited for so long. False: this user may not have a network of his own. */
static bool start_name_server(unsigned patience_s)
{
    static int server;
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char configuration[80];
    pthread_t thread;
    if (access("/etc/resolv.conf", F_OK) != 0 || access("/etc/nsswitch.conf", F_OK) != 0 || !poor_namespace(CLONE_NEWNET))
        return false;
    server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(ioctl(server, SIOCSIFFLAGS, &loopback), 0);
    ck_assert_int_eq(bind(server, (struct sockaddr *)(void *)&address, sizeof address), 0);
    snprintf(configuration, sizeof configuration, "nameserver 127.0.0.1\noptions timeout:%u attempts:1\n", patience_s);
    poor_lay_over("/etc/resolv.conf", configuration);
    poor_lay_over("/etc/nsswitch.conf", "hosts: files dns\n");
    ck_assert_int_eq(pthread_create(&thread, NULL, serve, &server), 0);
    pthread_detach(thread);
    return true;
}

/* --- looking up --- */

static struct w_io_resolve asked;

static void ask(const char *host)
{
    memset(&asked, 0, sizeof asked);
    snprintf(asked.host, sizeof asked.host, "%s", host);
    asked.port = 7000;
}

static void check_addresses(int count)
{
    for (int i = 0; i < count; i++) {
        const struct sockaddr_in *address = (const struct sockaddr_in *)(const void *)&asked.addresses[i].socket;
        ck_assert_uint_eq(address->sin_family, AF_INET);
        ck_assert_uint_eq(asked.addresses[i].bytes, sizeof *address);
        ck_assert_uint_eq(ntohs(address->sin_port), 7000);
        ck_assert_uint_eq(ntohl(address->sin_addr.s_addr) >> 8, 10 << 16);
    }
}

static const struct {
    const char *host;
    int result;
} names[] = {
    {"1.example.test", 1},
    {"3.example.test", 3},
    {"8.example.test", W_IO_RESOLVE_MAX},
    {"9.example.test", W_IO_RESOLVE_MAX},
    {"late.example.test", 1},
    {"no.example.test", -EHOSTUNREACH},
    {"fails.example.test", -EAGAIN},
    {"silent.example.test", -EAGAIN},
};

START_TEST(at_once)
{
    if (!start_name_server(1))
        return;
    ask(names[_i].host);
    ck_assert_int_eq(w_resolve_number(&asked), 0);
    ck_assert_int_eq(w_resolve_now(&asked), names[_i].result);
    check_addresses(names[_i].result);
}
END_TEST

START_TEST(in_the_background)
{
    struct w_resolve *lookup;
    if (!start_name_server(1))
        return;
    ask(names[_i].host);
    ck_assert_int_eq(w_resolve_start(&asked, &lookup), 0);
    ck_assert(w_resolve_wait(lookup, 20 * WEIR_SECOND) && w_resolve_done(lookup));
    ck_assert_int_eq(w_resolve_finish(&lookup, &asked), names[_i].result);
    ck_assert_ptr_null(lookup);
    check_addresses(names[_i].result);
}
END_TEST

START_TEST(numbers_need_nobody)
{
    ask("10.0.0.9");
    ck_assert_int_eq(w_resolve_number(&asked), 1);
    check_addresses(1);
    ck_assert_int_eq(w_resolve_now(&asked), 1);
    memset(asked.host, '1', sizeof asked.host); /* without an end */
    ck_assert_int_eq(w_resolve_now(&asked), -EHOSTUNREACH);
    ck_assert_int_eq(w_resolve_number(&asked), 0);
}
END_TEST

/* Given up, and asked anew: glibc forgets some of what it is told to forget, and some of what it is asked behind that. Weir does not. */
START_TEST(given_up)
{
    struct w_resolve *lookups[30], *other;
    if (!start_name_server(1))
        return;
    ask("silent.example.test");
    for (size_t i = 0; i < W_COUNT(lookups); i++)
        ck_assert_int_eq(w_resolve_start(&asked, &lookups[i]), 0);
    ck_assert(!w_resolve_wait(lookups[0], WEIR_MILLISECOND));
    for (size_t i = 0; i < W_COUNT(lookups); i++)
        (void)w_resolve_cancel(lookups[i]);
    ask("3.example.test");
    ck_assert_int_eq(w_resolve_start(&asked, &other), 0);
    ck_assert_msg(w_resolve_wait(other, 10 * WEIR_SECOND), "a look-up behind one that was given up is lost");
    ck_assert_int_eq(w_resolve_finish(&other, &asked), 3);
    for (size_t i = 0; i < W_COUNT(lookups); i++) {
        ck_assert_msg(w_resolve_wait(lookups[i], 10 * WEIR_SECOND), "look-up %zu was given up and never ends", i);
        int result = w_resolve_finish(&lookups[i], i % 2 == 0 ? &asked : NULL);
        ck_assert_msg(result == -EAGAIN || result == -ECANCELED, "look-up %zu ends with %d", i, result);
    }
}
END_TEST

/* glibc has threads for it; where none can be had, it is for later. */
START_TEST(no_thread_for_it)
{
    struct w_resolve *lookup = NULL;
    poor_answer_with(&(struct poor_answer){__NR_clone3, -1, 0, EAGAIN});
    ask("localhost");
    ck_assert_int_eq(w_resolve_start(&asked, &lookup), -EAGAIN);
    ck_assert_ptr_null(lookup);
    ck_assert_int_ge(w_resolve_now(&asked), 1);
}
END_TEST

/* --- beside a ring --- */

static void *allocate(void *user, size_t bytes, size_t alignment)
{
    ++*(int *)user;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void release(void *user, void *memory, size_t bytes)
{
    (void)bytes;
    --*(int *)user;
    free(memory);
}

static void keep_log(void *user, weir_log_level level, const char *sentence)
{
    ck_assert_int_eq(level, WEIR_LOG_WARNING);
    snprintf(user, 256, "%s", sentence);
}

static int pieces;
static char logged[256];

static struct w_io *open_engine(void)
{
    static const weir_allocator allocator = {allocate, release, &pieces};
    const struct w_io_setup setup = {.shard_count = 1, .allocator = &allocator, .log = keep_log, .log_user = logged};
    struct w_io *io;
    ck_assert_int_eq(w_io_uring()->open(NULL, &setup, &io, NULL), 0);
    ck_assert_int_eq(io->engine->start(io), 0);
    return io;
}

/* Sleeps until the look-up `token` is answered; so many sleeps at the most. */
static int32_t await(struct w_io *io, uint64_t token, int sleeps_max)
{
    struct w_io_completion completion;
    for (int i = 0; i < sleeps_max; i++) {
        ck_assert_int_eq(io->engine->submit(io, WEIR_SECOND), 0);
        if (io->engine->take(io, &completion, 1) == 1) {
            ck_assert_uint_eq(completion.token, token);
            return completion.result;
        }
    }
    ck_abort_msg("no answer after %d looks", sleeps_max);
}

/* The ring looks rarer and rarer: at a name of a second some thirty times. */
START_TEST(the_ring_looks_now_and_then)
{
    if (!start_name_server(1))
        return;
    struct w_io *io = open_engine();
    ask(names[_i].host);
    io->engine->resolve(io, &asked, 77);
    ck_assert_int_eq(await(io, 77, 200), names[_i].result);
    check_addresses(names[_i].result);
    w_io_uring()->close(&io);
    ck_assert_int_eq(pieces, 0);
}
END_TEST

/* A shard that closes while no name server answers waits a moment, and leaves the rest behind. */
START_TEST(closed_meanwhile)
{
    static struct w_io_resolve others[100];
    struct timespec begin, end;
    if (!start_name_server(9))
        return;
    struct w_io *io = open_engine();
    ask("silent.example.test");
    for (uint32_t i = 0; i < W_COUNT(others); i++) {
        others[i] = asked;
        io->engine->resolve(io, &others[i], i);
    }
    for (uint32_t i = 0; i < W_COUNT(others); i += 2)
        io->engine->cancel(io, i);
    ck_assert_int_eq(io->engine->submit(io, 0), 0);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    w_io_uring()->close(&io);
    clock_gettime(CLOCK_MONOTONIC, &end);
    ck_assert_int_le(end.tv_sec - begin.tv_sec, 3);
    ck_assert_int_eq(pieces, 0);
    poor_must_say(logged, "look-ups are left behind");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resolve");
    TCase *tests = tcase_create("resolve");
    tcase_set_timeout(tests, 30);
    tcase_add_loop_test(tests, at_once, 0, (int)W_COUNT(names));
    tcase_add_loop_test(tests, in_the_background, 0, (int)W_COUNT(names));
    tcase_add_test(tests, numbers_need_nobody);
    if (IN_THE_BACKGROUND) {
        tcase_add_test(tests, given_up);
        tcase_add_test(tests, no_thread_for_it);
        tcase_add_test(tests, closed_meanwhile);
    }
    tcase_add_loop_test(tests, the_ring_looks_now_and_then, 0, (int)W_COUNT(names));
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK); /* a network of one's own cannot be left */
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
