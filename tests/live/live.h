/* SPDX-License-Identifier: MIT */
/* live: a weir server in this process and plain sockets against it. For the tests that need the real kernel.
 *
 * Fill a zeroed struct live (config, protocol, options), live_start() it, talk to it through live_dial(), live_stop() it:
 * that checks the sums that every runtime promises, and that all memory went home. */
#ifndef TEST_LIVE_H
#define TEST_LIVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include <check.h>
#include <weir/weir.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIVE_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIVE_SANITIZED 1
#endif
#ifndef LIVE_SANITIZED
#define LIVE_SANITIZED 0
#endif

/* What a sanitizer costs, and counting what is reached: limits are multiplied by it, counts divided. */
#ifdef WEIR_COVERAGE
#define LIVE_SLOWER 5
#else
#define LIVE_SLOWER (LIVE_SANITIZED ? 5 : 1)
#endif
/* Longer than anything may take that is to happen at all. */
#define LIVE_PATIENCE_S  (10 * LIVE_SLOWER)
#define LIVE_PATIENCE_NS (LIVE_PATIENCE_S * WEIR_SECOND)

#define KIB 1024U
#define MIB (1024U * KIB)

/* Waits until the condition holds; fails the test when it never does. */
#define LIVE_AWAIT(condition)                                                                                                              \
    do {                                                                                                                                   \
        uint64_t await_end_ns = live_now_ns() + LIVE_PATIENCE_NS;                                                                          \
        while (!(condition)) {                                                                                                             \
            if (live_now_ns() > await_end_ns)                                                                                              \
                ck_abort_msg("%s did not come true", #condition);                                                                          \
            live_sleep(WEIR_MILLISECOND / 2);                                                                                              \
        }                                                                                                                                  \
    } while (0)

/* An allocator that counts, and can say no. */
struct account {
    _Atomic int64_t bytes, peak_bytes;  /* out now, and at most */
    _Atomic int64_t pieces;             /* allocations out now */
    _Atomic int64_t calls;              /* allocations asked for */
    _Atomic int64_t refused;            /* of them answered NULL */
    _Atomic int64_t fail_from, fail_to; /* calls (from 1) answered NULL; 0: none */
};

weir_allocator account_allocator(struct account *account);

struct live {
    weir_config config;
    weir_protocol protocol; /* callbacks that are NULL become the ones below */
    weir_listen_options options;
    const char *address; /* NULL: tcp://127.0.0.1:0 */

    weir_runtime *runtime;
    weir_listener listener;
    pthread_t thread;
    int run_result;
    int port;
    struct account account;
    weir_stats stats; /* once stopped: the last ones */

    _Atomic uint64_t opens, closes;
    _Atomic uint64_t reasons[WEIR_REASON_COUNT];
    _Atomic uint64_t undelivered_messages, undelivered_bytes; /* summed over the close events */
    _Atomic int last_error;                                   /* of the last close event */
    _Atomic uint64_t last_undelivered_messages;
};

/* The callbacks: they count, and echo. Own ones call live_opened() and live_closed(). */
int live_opened(weir_conn *conn);
int live_echo_message(weir_conn *conn, const weir_message *message);
void live_closed(weir_conn *conn, const weir_close_event *event);
/* The struct live that a connection belongs to. */
struct live *live_of(const weir_conn *conn);

/* A struct for one shard and little memory, framed by four bytes. */
void live_init(struct live *live, uint32_t message_max_bytes);
/* Opens, listens and runs on a thread. */
void live_start(struct live *live);
/* Stops, joins, checks the sums, closes. */
void live_stop(struct live *live);
/* The sums of an ended runtime: every open closed, every message sent taken or told. */
void live_check_sums(struct live *live);

weir_stats live_stats(const struct live *live);

uint64_t live_now_ns(void);
void live_sleep(uint64_t ns);
/* Resident bytes of this process. */
int64_t live_resident_bytes(void);
/* Processor time that this process has used. */
uint64_t live_cpu_ns(void);

/* --- clients: blocking sockets with a time limit --- */

int live_socket(int receive_buffer_bytes);     /* 0: the kernel tunes it */
int live_connect(int descriptor, int port);    /* 0 or a negative errno */
int live_dial(const struct live *live);        /* a connected socket */
int live_dial_narrow(const struct live *live); /* one that can take only a few KiB unread */
/* As send() and recv(), but not to be interrupted, and without SIGPIPE. */
ssize_t live_send(int descriptor, const void *data, size_t bytes, int flags);
ssize_t live_receive(int descriptor, void *data, size_t bytes, int flags);
void live_write(int descriptor, const void *data, size_t bytes);
void live_read(int descriptor, void *data, size_t bytes);
/* One frame of payload_bytes (four bytes of length before it); `seed` says what is in it. */
void live_write_frame(int descriptor, uint32_t payload_bytes, uint32_t seed);
void live_read_frame(int descriptor, uint32_t payload_bytes, uint32_t seed);
void live_echo(int descriptor, uint32_t payload_bytes, uint32_t seed);
/* Fills a payload, or a frame with its length (returns its bytes). */
void live_fill(uint8_t *payload, uint32_t bytes, uint32_t seed);
size_t live_fill_frame(uint8_t *frame, uint32_t payload_bytes, uint32_t seed);
/* Reads to the end. 0: it ended with EOF; else the errno. *bytes (may be NULL): what came before. */
int live_read_end(int descriptor, uint64_t *bytes);
/* Closes so that the peer sees a reset. */
void live_reset(int descriptor);
void live_close(int descriptor);

/* --- a good client, on a thread of its own: one small message to and fro all the time; and a bystander who only sleeps and
 * wakes, so that what the machine did to both is not laid at the server's door --- */

struct live_pulse {
    pthread_t thread, bystander;
    int descriptor;
    void (*echo)(int descriptor, uint32_t payload_bytes, uint32_t seed);
    atomic_bool stop;
    uint64_t worst_ns, rounds;
    uint64_t late_ns; /* the most that the bystander woke too late */
};

void live_pulse_start(struct live_pulse *pulse, const struct live *live);
/* On a connection that stands, with an echo of another protocol. */
void live_pulse_start_on(struct live_pulse *pulse, int descriptor, void (*echo)(int descriptor, uint32_t payload_bytes, uint32_t seed));
/* Joins it; checks that it was never kept waiting for longer than limit_ns, and what the bystander was late. */
void live_pulse_stop(struct live_pulse *pulse, uint64_t limit_ns);

/* Adds the tests of one file to a suite and runs it; what main() returns. */
int live_main(const char *name, const TTest *const *tests, size_t test_count);

#endif
