/* SPDX-License-Identifier: MIT */
#include "live.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* --- memory --- */

static void *account_allocate(void *user, size_t bytes, size_t alignment)
{
    struct account *account = user;
    int64_t call = ++account->calls;
    if (account->fail_from != 0 && call >= account->fail_from && call <= account->fail_to) {
        account->refused++;
        return NULL;
    }
    void *memory = NULL;
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0)
        return NULL;
    account->pieces++;
    int64_t now_bytes = atomic_fetch_add(&account->bytes, (int64_t)bytes) + (int64_t)bytes;
    int64_t peak_bytes = account->peak_bytes;
    while (now_bytes > peak_bytes && !atomic_compare_exchange_weak(&account->peak_bytes, &peak_bytes, now_bytes))
        ;
    return memory;
}

static void account_release(void *user, void *memory, size_t bytes)
{
    struct account *account = user;
    account->pieces--;
    account->bytes -= (int64_t)bytes;
    free(memory);
}

weir_allocator account_allocator(struct account *account)
{
    return (weir_allocator){.allocate = account_allocate, .release = account_release, .user = account};
}

/* --- the server --- */

struct live *live_of(const weir_conn *conn)
{
    return weir_conn_protocol(conn)->user;
}

int live_opened(weir_conn *conn)
{
    live_of(conn)->opens++;
    return 0;
}

int live_echo_message(weir_conn *conn, const weir_message *message)
{
    int result = weir_forward(conn, message, conn);
    return result == -EAGAIN ? WEIR_LATER : result;
}

void live_closed(weir_conn *conn, const weir_close_event *event)
{
    struct live *live = live_of(conn);
    live->undelivered_messages += event->undelivered_messages;
    live->undelivered_bytes += event->undelivered_bytes;
    live->last_undelivered_messages = event->undelivered_messages;
    live->last_error = event->error;
    live->reasons[event->reason]++;
    live->closes++;
}

void live_init(struct live *live, uint32_t message_max_bytes)
{
    memset(live, 0, sizeof *live);
    weir_frame_options options = {.message_max_bytes = message_max_bytes};
    ck_assert_int_eq(weir_codec_frame(&live->protocol.codec, &options), 0);
    live->config.shards = 1;
    live->config.connections = 1024;
    live->config.stop_ns = 2 * WEIR_SECOND;
    live->config.long_turn_ns = WEIR_FOREVER;
}

static void *live_run(void *user)
{
    struct live *live = user;
    live->run_result = weir_run(live->runtime);
    return NULL;
}

void live_start(struct live *live)
{
    weir_protocol *protocol = &live->protocol;
    weir_error error = {0};
    char address[WEIR_ADDRESS_MAX_BYTES];
    protocol->name = "live";
    protocol->user = live;
    protocol->on_open = protocol->on_open ? protocol->on_open : live_opened;
    protocol->on_message = protocol->on_message ? protocol->on_message : live_echo_message;
    protocol->on_close = protocol->on_close ? protocol->on_close : live_closed;
    live->config.allocator = account_allocator(&live->account);
    if (weir_open(&live->config, &live->runtime, &error) != 0)
        ck_abort_msg("weir_open: %s", error.sentence);
    const char *wanted = live->address ? live->address : "tcp://127.0.0.1:0";
    if (weir_listen(live->runtime, wanted, protocol, &live->options, &live->listener, &error) != 0)
        ck_abort_msg("weir_listen: %s", error.sentence);
    ck_assert_int_eq(weir_listener_address(live->runtime, live->listener, address, sizeof address), 0);
    live->port = atoi(strrchr(address, ':') + 1);
    ck_assert_int_eq(pthread_create(&live->thread, NULL, live_run, live), 0);
}

void live_check_sums(struct live *live)
{
    const weir_stats *stats = &live->stats;
    uint64_t ends = 0, seen = 0;
    bool exact = stats->never_opened == 0; /* of those that did not open nobody was told */
    for (int i = 0; i < WEIR_REASON_COUNT; i++) {
        ck_assert(exact ? stats->closed[i] == live->reasons[i] : stats->closed[i] >= live->reasons[i]);
        ends += stats->closed[i];
        seen += live->reasons[i];
    }
    ck_assert_uint_eq(seen, live->closes);
    ck_assert_uint_eq(ends, live->closes + stats->never_opened);
    ck_assert_uint_eq(live->opens, live->closes);
    ck_assert_uint_eq(stats->messages_sent, stats->messages_out + stats->messages_undelivered);
    ck_assert_uint_eq(stats->bytes_sent, stats->bytes_out + stats->bytes_undelivered);
    ck_assert(exact ? stats->messages_undelivered == live->undelivered_messages
                    : stats->messages_undelivered >= live->undelivered_messages);
    ck_assert(exact ? stats->bytes_undelivered == live->undelivered_bytes : stats->bytes_undelivered >= live->undelivered_bytes);
    ck_assert_uint_eq(stats->connections, 0);
    ck_assert_uint_eq(stats->queued_bytes, 0);
    ck_assert_uint_eq(stats->late_finds, 0);
}

void live_stop(struct live *live)
{
    weir_stop(live->runtime);
    ck_assert_int_eq(pthread_join(live->thread, NULL), 0);
    ck_assert_int_eq(live->run_result, 0);
    live->stats = live_stats(live);
    live_check_sums(live);
    weir_close(&live->runtime);
    ck_assert_ptr_null(live->runtime);
    ck_assert_int_eq(live->account.pieces, 0);
    ck_assert_int_eq(live->account.bytes, 0);
}

weir_stats live_stats(const struct live *live)
{
    weir_stats stats;
    weir_runtime_stats(live->runtime, &stats);
    return stats;
}

/* --- the machine --- */

uint64_t live_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * WEIR_SECOND + (uint64_t)now.tv_nsec;
}

void live_sleep(uint64_t ns)
{
    struct timespec left = {(time_t)(ns / WEIR_SECOND), (long)(ns % WEIR_SECOND)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

int64_t live_resident_bytes(void)
{
    long long size_pages = 0, resident_pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%lld %lld", &size_pages, &resident_pages), 2);
    fclose(file);
    return resident_pages * sysconf(_SC_PAGESIZE);
}

uint64_t live_cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * WEIR_SECOND + (uint64_t)used.tv_nsec;
}

/* --- clients --- */

int live_socket(int receive_buffer_bytes)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    struct timeval patience = {.tv_sec = LIVE_PATIENCE_S};
    ck_assert_int_ge(descriptor, 0);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (receive_buffer_bytes != 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    return descriptor;
}

/* The kernel takes a closed ring apart later, and interrupts the threads that knew it: EINTR, without any signal. */
ssize_t live_send(int descriptor, const void *data, size_t bytes, int flags)
{
    ssize_t result;
    while ((result = send(descriptor, data, bytes, flags | MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    return result;
}

ssize_t live_receive(int descriptor, void *data, size_t bytes, int flags)
{
    ssize_t result;
    while ((result = recv(descriptor, data, bytes, flags)) < 0 && errno == EINTR)
        ;
    return result;
}

int live_connect(int descriptor, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int result;
    while ((result = connect(descriptor, (struct sockaddr *)&to, sizeof to)) != 0 && (errno == EINTR || errno == EALREADY))
        live_sleep(WEIR_MILLISECOND / 10);
    return result == 0 || errno == EISCONN ? 0 : -errno;
}

int live_dial(const struct live *live)
{
    int descriptor = live_socket(0);
    ck_assert_int_eq(live_connect(descriptor, live->port), 0);
    return descriptor;
}

int live_dial_narrow(const struct live *live)
{
    int descriptor = live_socket(4096);
    ck_assert_int_eq(live_connect(descriptor, live->port), 0);
    return descriptor;
}

void live_write(int descriptor, const void *data, size_t bytes)
{
    for (const uint8_t *at = data; bytes > 0;) {
        ssize_t written = live_send(descriptor, at, bytes, 0);
        if (written <= 0)
            ck_abort_msg("client: writing %zu bytes: %s", bytes, strerror(errno));
        at += written;
        bytes -= (size_t)written;
    }
}

void live_read(int descriptor, void *data, size_t bytes)
{
    for (uint8_t *at = data; bytes > 0;) {
        ssize_t got = live_receive(descriptor, at, bytes, 0);
        if (got <= 0)
            ck_abort_msg("client: %zu bytes missing: %s", bytes, got == 0 ? "end of file" : strerror(errno));
        at += got;
        bytes -= (size_t)got;
    }
}

void live_fill(uint8_t *payload, uint32_t bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < bytes; i++)
        payload[i] = (uint8_t)(seed * 37 + i * 7 + (i >> 8));
}

size_t live_fill_frame(uint8_t *frame, uint32_t payload_bytes, uint32_t seed)
{
    for (int i = 0; i < 4; i++)
        frame[i] = (uint8_t)(payload_bytes >> 8 * i);
    live_fill(frame + 4, payload_bytes, seed);
    return payload_bytes + (size_t)4;
}

void live_write_frame(int descriptor, uint32_t payload_bytes, uint32_t seed)
{
    uint8_t *frame = malloc(payload_bytes + (size_t)4);
    live_write(descriptor, frame, live_fill_frame(frame, payload_bytes, seed));
    free(frame);
}

void live_read_frame(int descriptor, uint32_t payload_bytes, uint32_t seed)
{
    uint8_t *wanted = malloc(payload_bytes + (size_t)4), *came = malloc(payload_bytes + (size_t)4);
    size_t bytes = live_fill_frame(wanted, payload_bytes, seed);
    live_read(descriptor, came, bytes);
    if (memcmp(wanted, came, bytes) != 0)
        ck_abort_msg("client: a frame of %u bytes came back different (length %02x %02x %02x %02x)", payload_bytes, came[0], came[1],
                     came[2], came[3]);
    free(wanted);
    free(came);
}

void live_echo(int descriptor, uint32_t payload_bytes, uint32_t seed)
{
    live_write_frame(descriptor, payload_bytes, seed);
    live_read_frame(descriptor, payload_bytes, seed);
}

int live_read_end(int descriptor, uint64_t *bytes)
{
    static _Thread_local uint8_t sink[64 * KIB];
    uint64_t sum_bytes = 0;
    ssize_t got;
    while ((got = live_receive(descriptor, sink, sizeof sink, 0)) > 0)
        sum_bytes += (uint64_t)got;
    int result = got == 0 ? 0 : errno;
    if (result == EAGAIN)
        ck_abort_msg("client: the connection did not end");
    if (bytes != NULL)
        *bytes = sum_bytes;
    return result;
}

void live_reset(int descriptor)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(descriptor);
}

void live_close(int descriptor)
{
    ck_assert_int_eq(close(descriptor), 0);
}

/* --- the good client --- */

static void *live_pulse_run(void *user)
{
    struct live_pulse *pulse = user;
    for (uint32_t round = 0; !pulse->stop; round++) {
        uint64_t begin_ns = live_now_ns();
        pulse->echo(pulse->descriptor, 64, round);
        uint64_t took_ns = live_now_ns() - begin_ns;
        pulse->worst_ns = took_ns > pulse->worst_ns ? took_ns : pulse->worst_ns;
        pulse->rounds++;
        live_sleep(WEIR_MILLISECOND / 2);
    }
    return NULL;
}

static void *live_pulse_stand_by(void *user)
{
    struct live_pulse *pulse = user;
    while (!pulse->stop) {
        uint64_t begin_ns = live_now_ns();
        live_sleep(WEIR_MILLISECOND);
        uint64_t late_ns = live_now_ns() - begin_ns - WEIR_MILLISECOND;
        pulse->late_ns = late_ns > pulse->late_ns ? late_ns : pulse->late_ns;
    }
    return NULL;
}

void live_pulse_start(struct live_pulse *pulse, const struct live *live)
{
    live_pulse_start_on(pulse, live_dial(live), live_echo);
}

void live_pulse_start_on(struct live_pulse *pulse, int descriptor, void (*echo)(int descriptor, uint32_t payload_bytes, uint32_t seed))
{
    memset(pulse, 0, sizeof *pulse);
    pulse->descriptor = descriptor;
    pulse->echo = echo;
    echo(descriptor, 64, 1);
    ck_assert_int_eq(pthread_create(&pulse->thread, NULL, live_pulse_run, pulse), 0);
    ck_assert_int_eq(pthread_create(&pulse->bystander, NULL, live_pulse_stand_by, pulse), 0);
}

void live_pulse_stop(struct live_pulse *pulse, uint64_t limit_ns)
{
    pulse->stop = true;
    ck_assert_int_eq(pthread_join(pulse->thread, NULL), 0);
    ck_assert_int_eq(pthread_join(pulse->bystander, NULL), 0);
    ck_assert_uint_gt(pulse->rounds, 0);
    if (pulse->worst_ns > limit_ns + pulse->late_ns)
        ck_abort_msg("the good client waited for %.1f ms once in %llu rounds; at most %.1f, and %.1f that the machine was late",
                     (double)pulse->worst_ns / 1e6, (unsigned long long)pulse->rounds, (double)limit_ns / 1e6,
                     (double)pulse->late_ns / 1e6);
    live_close(pulse->descriptor);
}

/* --- main --- */

int live_main(const char *name, const TTest *const *tests, size_t test_count)
{
    mallopt(M_MMAP_THRESHOLD, 64 * KIB); /* so that what is released leaves the process, and resident bytes can be measured */
    Suite *suite = suite_create(name);
    TCase *cases = tcase_create(name);
    tcase_set_timeout(cases, 60);
    for (size_t i = 0; i < test_count; i++)
        tcase_add_test(cases, tests[i]);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
