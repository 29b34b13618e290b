/* SPDX-License-Identifier: MIT */
/* fixture: what the tests of the public interface share: a runtime turned by the test's own thread or run beside it (fixture, runner),
 * a protocol that remembers what it was told (witness), and the other end of a connection, plain sockets (visitor).
 * Wherever a `struct fixture *` is taken, NULL means that somebody else turns the shards. */
#ifndef TEST_FIXTURE_H
#define TEST_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/weir.h>

#include "tests/unit/must.h"

/* How much slower things may be, and how much less of them is done, under a sanitizer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FIXTURE_SLOWER 4
#else
#define FIXTURE_SLOWER 1
#endif

/* Longest wait for anything that has to come. */
#define FIXTURE_WAIT_NS     (FIXTURE_SLOWER * 10 * WEIR_SECOND)
#define MILLISECONDS(count) ((uint64_t)(count)*WEIR_MILLISECOND)

uint64_t fixture_clock_ns(void);
void fixture_sleep_ns(uint64_t ns);

/* The pattern of message `seed`: different at each place and for each seed. */
void fixture_fill(void *data, size_t bytes, uint64_t seed);
bool fixture_is_filled(const void *data, size_t bytes, uint64_t seed);

/* --- a runtime on the test's own thread --- */

#define FIXTURE_SHARDS_MAX 4

struct fixture {
    weir_runtime *runtime;
    weir_shard *shard; /* the first */
    weir_shard *shards[FIXTURE_SHARDS_MAX];
    int descriptors[FIXTURE_SHARDS_MAX];
    uint32_t shard_count;
    uint32_t over_count; /* shards that answered -ESHUTDOWN */
    uint64_t sleep_ns;   /* the least that the last turns answered */
};

/* config NULL, or with shards 0: one shard. Turns each once, so that this thread owns them. */
void fixture_open(struct fixture *fixture, const weir_config *config);
void fixture_close(struct fixture *fixture);
/* Turns each shard once and waits a moment (at most a millisecond) when there is nothing to do. */
void fixture_turn(struct fixture *fixture);
/* Turns until no shard has anything to do. */
void fixture_settle(struct fixture *fixture);
/* Turns for so long. */
void fixture_turn_for(struct fixture *fixture, uint64_t ns);

/* Turns until the condition holds; the test fails when it takes too long. */
#define UNTIL(fixture, condition)                                                                                                          \
    do {                                                                                                                                   \
        uint64_t until_ns = fixture_clock_ns() + FIXTURE_WAIT_NS;                                                                          \
        while (!(condition)) {                                                                                                             \
            if (fixture_clock_ns() > until_ns)                                                                                             \
                ck_abort_msg("in vain waited for: %s", #condition);                                                                        \
            fixture_turn(fixture);                                                                                                         \
        }                                                                                                                                  \
    } while (0)

struct place {
    weir_listener listener;
    char address[WEIR_ADDRESS_MAX_BYTES];
};

/* Listens and reads the address back; fails the test when it cannot. address NULL: tcp://127.0.0.1:0. */
struct place fixture_listen(weir_runtime *runtime, const char *address, const weir_protocol *protocol);

/* --- a runtime on weir's threads --- */

struct runner {
    weir_runtime *runtime;
    pthread_t thread;
    int answer; /* of weir_run */
    atomic_bool over;
};

void runner_open(struct runner *runner, const weir_config *config);
void runner_start(struct runner *runner);
/* Stops it and waits; answers what weir_run answered. */
int runner_stop(struct runner *runner);
/* runner_stop, must be 0, and weir_close. */
void runner_close(struct runner *runner);

/* --- a protocol that remembers --- */

struct witness {
    weir_protocol protocol;
    uint32_t opened, closed, readied;
    uint64_t messages, bytes;
    weir_conn *conn;                     /* the last that opened; NULL exactly when it has closed */
    weir_id id;                          /* of that one */
    weir_close_event event;              /* the last */
    uint32_t reasons[WEIR_REASON_COUNT]; /* closed, by reason */
    int open_answer;
    int (*on_open)(struct witness *witness, weir_conn *conn);
    int (*on_message)(struct witness *witness, weir_conn *conn, const weir_message *message);
    void (*on_ready)(struct witness *witness, weir_conn *conn);
    void (*on_close)(struct witness *witness, weir_conn *conn, const weir_close_event *event);
    uint8_t *last; /* the last message */
    uint32_t last_bytes;
    void *user; /* the test's */
};

/* Speaks default frames. For one shard at a time. */
void witness_start(struct witness *witness);
void witness_finish(struct witness *witness);
bool witness_last_is(const struct witness *witness, const void *data, size_t bytes);
/* For on_message: sends it back; WEIR_LATER when there is no room. */
int witness_echo(struct witness *witness, weir_conn *conn, const weir_message *message);
/* For a protocol shared by shards: the same without a witness. */
int fixture_echo(weir_conn *conn, const weir_message *message);

/* --- the other end --- */

/* Connects to an address as weir writes it (tcp with numbers, unix) and answers a non-blocking socket, or a negative errno. */
int visitor_try_dial(const char *address);
int visitor_dial(const char *address);
/* A non-blocking listening socket on tcp 127.0.0.1, and its address as weir reads it. */
int visitor_listen(int backlog, char *address, size_t address_bytes);
void visitor_send(struct fixture *fixture, int descriptor, const void *data, size_t bytes);
void visitor_receive(struct fixture *fixture, int descriptor, void *data, size_t bytes);
/* Default frames: four bytes of length, little-endian. */
void visitor_send_frame(struct fixture *fixture, int descriptor, const void *payload, uint32_t bytes);
uint32_t visitor_receive_frame(struct fixture *fixture, int descriptor, void *payload, uint32_t room);
void visitor_expect_frame(struct fixture *fixture, int descriptor, const void *payload, uint32_t bytes);
void visitor_expect_end(struct fixture *fixture, int descriptor);
void visitor_expect_reset(struct fixture *fixture, int descriptor);
void visitor_reset(int descriptor);

/* A program of one suite; each test is a case of its own (CK_RUN_CASE=its name runs it alone). */
int fixture_main(const char *name, const TTest *const *tests, size_t count);
#define FIXTURE_MAIN(name, ...)                                                                                                            \
    int main(void)                                                                                                                         \
    {                                                                                                                                      \
        const TTest *const tests[] = {__VA_ARGS__};                                                                                        \
        return fixture_main(name, tests, sizeof tests / sizeof tests[0]);                                                                  \
    }

#endif
