/* SPDX-License-Identifier: MIT */
/* fixture: a runtime for the tests, on their own thread or beside it; and a protocol that remembers. */
#include "fixture.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

uint64_t fixture_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * WEIR_SECOND + (uint64_t)now.tv_nsec;
}

void fixture_sleep_ns(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / WEIR_SECOND), .tv_nsec = (long)(ns % WEIR_SECOND)};
    while (nanosleep(&time, &time) != 0 && errno == EINTR)
        continue;
}

static uint8_t byte_at(size_t place, uint64_t seed)
{
    uint64_t mixed = (place / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15) + seed * UINT64_C(0xc2b2ae3d27d4eb4f);
    mixed ^= mixed >> 29;
    return (uint8_t)(mixed >> (place % 8 * 8));
}

void fixture_fill(void *data, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)data)[i] = byte_at(i, seed);
}

bool fixture_is_filled(const void *data, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        if (((const uint8_t *)data)[i] != byte_at(i, seed))
            return false;
    }
    return true;
}

/* --- on this thread --- */

static void open_or_abort(const weir_config *config, weir_runtime **runtime)
{
    weir_error error;
    int result = weir_open(config, runtime, &error);
    if (result != 0)
        ck_abort_msg("weir_open: %d: %s", result, error.sentence);
    MUST(*runtime != NULL);
}

void fixture_open(struct fixture *fixture, const weir_config *config)
{
    weir_config settings = config == NULL ? (weir_config){0} : *config;
    if (settings.shards == 0)
        settings.shards = 1;
    if (settings.connections == 0)
        settings.connections = 1024;
    memset(fixture, 0, sizeof *fixture);
    open_or_abort(&settings, &fixture->runtime);
    fixture->shard_count = weir_shard_count(fixture->runtime);
    MUST_EQUAL(fixture->shard_count, settings.shards);
    MUST(fixture->shard_count <= FIXTURE_SHARDS_MAX);
    for (uint32_t i = 0; i < fixture->shard_count; i++) {
        fixture->shards[i] = weir_shard_at(fixture->runtime, i);
        MUST(fixture->shards[i] != NULL);
        fixture->descriptors[i] = weir_turn_descriptor(fixture->shards[i]);
        MUST(fixture->descriptors[i] >= 0);
    }
    fixture->shard = fixture->shards[0];
    fixture_turn(fixture);
}

void fixture_close(struct fixture *fixture)
{
    weir_close(&fixture->runtime);
    MUST(fixture->runtime == NULL);
}

/* One turn of each. */
static void turn_all(struct fixture *fixture)
{
    fixture->sleep_ns = WEIR_FOREVER;
    fixture->over_count = 0;
    for (uint32_t i = 0; i < fixture->shard_count; i++) {
        uint64_t sleep_ns = WEIR_FOREVER;
        int result = weir_turn(fixture->shards[i], &sleep_ns);
        if (result == -ESHUTDOWN)
            fixture->over_count++;
        else if (result != 0)
            ck_abort_msg("weir_turn: %d: %s", result, weir_strerror(result));
        else if (sleep_ns < fixture->sleep_ns)
            fixture->sleep_ns = sleep_ns;
    }
}

void fixture_turn(struct fixture *fixture)
{
    if (fixture == NULL) {
        fixture_sleep_ns(200 * WEIR_MICROSECOND);
        return;
    }
    turn_all(fixture);
    if (fixture->sleep_ns == 0)
        return;
    struct pollfd waits[FIXTURE_SHARDS_MAX];
    for (uint32_t i = 0; i < fixture->shard_count; i++)
        waits[i] = (struct pollfd){.fd = fixture->descriptors[i], .events = POLLIN};
    struct timespec time = {.tv_nsec = (long)(fixture->sleep_ns < MILLISECONDS(1) ? fixture->sleep_ns : MILLISECONDS(1))};
    ppoll(waits, fixture->shard_count, &time, NULL);
}

void fixture_settle(struct fixture *fixture)
{
    UNTIL(fixture, (turn_all(fixture), fixture->sleep_ns != 0));
}

void fixture_turn_for(struct fixture *fixture, uint64_t ns)
{
    uint64_t end_ns = fixture_clock_ns() + ns;
    while (fixture_clock_ns() < end_ns)
        fixture_turn(fixture);
}

struct place fixture_listen(weir_runtime *runtime, const char *address, const weir_protocol *protocol)
{
    struct place place;
    weir_error error;
    int result = weir_listen(runtime, address == NULL ? "tcp://127.0.0.1:0" : address, protocol, NULL, &place.listener, &error);
    if (result != 0)
        ck_abort_msg("weir_listen: %d: %s", result, error.sentence);
    MUST_EQUAL(weir_listener_address(runtime, place.listener, place.address, sizeof place.address), 0);
    return place;
}

/* --- on weir's threads --- */

static void *run(void *user)
{
    struct runner *runner = user;
    runner->answer = weir_run(runner->runtime);
    atomic_store(&runner->over, true);
    return NULL;
}

void runner_open(struct runner *runner, const weir_config *config)
{
    weir_config settings = config == NULL ? (weir_config){0} : *config;
    if (settings.connections == 0)
        settings.connections = 1024;
    memset(runner, 0, sizeof *runner);
    open_or_abort(&settings, &runner->runtime);
}

void runner_start(struct runner *runner)
{
    MUST_EQUAL(pthread_create(&runner->thread, NULL, run, runner), 0);
}

int runner_stop(struct runner *runner)
{
    weir_stop(runner->runtime);
    UNTIL(NULL, atomic_load(&runner->over));
    MUST_EQUAL(pthread_join(runner->thread, NULL), 0);
    return runner->answer;
}

void runner_close(struct runner *runner)
{
    MUST_EQUAL(runner_stop(runner), 0);
    weir_close(&runner->runtime);
    MUST(runner->runtime == NULL);
}

/* --- a protocol that remembers --- */

static struct witness *witness_of(const weir_conn *conn)
{
    return weir_conn_protocol(conn)->user;
}

static int note_open(weir_conn *conn)
{
    struct witness *witness = witness_of(conn);
    witness->opened++;
    witness->conn = conn;
    witness->id = weir_conn_id(conn);
    if (witness->on_open != NULL)
        return witness->on_open(witness, conn);
    return witness->open_answer;
}

static int note_message(weir_conn *conn, const weir_message *message)
{
    struct witness *witness = witness_of(conn);
    witness->messages++;
    witness->bytes += message->bytes;
    witness->last = realloc(witness->last, message->bytes + 1);
    MUST(witness->last != NULL);
    if (message->bytes != 0)
        memcpy(witness->last, message->data, message->bytes);
    witness->last_bytes = message->bytes;
    return witness->on_message != NULL ? witness->on_message(witness, conn, message) : WEIR_TAKEN;
}

static void note_ready(weir_conn *conn)
{
    struct witness *witness = witness_of(conn);
    witness->readied++;
    if (witness->on_ready != NULL)
        witness->on_ready(witness, conn);
}

static void note_close(weir_conn *conn, const weir_close_event *event)
{
    struct witness *witness = witness_of(conn);
    witness->closed++;
    witness->event = *event;
    MUST(event->reason > WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT);
    witness->reasons[event->reason]++;
    if (witness->conn == conn)
        witness->conn = NULL;
    if (witness->on_close != NULL)
        witness->on_close(witness, conn, event);
}

void witness_start(struct witness *witness)
{
    memset(witness, 0, sizeof *witness);
    MUST_EQUAL(weir_codec_frame(&witness->protocol.codec, NULL), 0);
    witness->protocol.name = "witness";
    witness->protocol.user = witness;
    witness->protocol.on_open = note_open;
    witness->protocol.on_message = note_message;
    witness->protocol.on_ready = note_ready;
    witness->protocol.on_close = note_close;
}

void witness_finish(struct witness *witness)
{
    free(witness->last);
    witness->last = NULL;
}

bool witness_last_is(const struct witness *witness, const void *data, size_t bytes)
{
    return witness->last != NULL && witness->last_bytes == bytes && memcmp(witness->last, data, bytes) == 0;
}

int fixture_echo(weir_conn *conn, const weir_message *message)
{
    int result = weir_send(conn, message->data, message->bytes);
    return result == -EAGAIN ? WEIR_LATER : result;
}

int witness_echo(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    (void)witness;
    return fixture_echo(conn, message);
}

int fixture_main(const char *name, const TTest *const *tests, size_t count)
{
    signal(SIGPIPE, SIG_IGN);
    Suite *suite = suite_create(name);
    for (size_t i = 0; i < count; i++) {
        TCase *test_case = tcase_create(tests[i]->name);
        tcase_set_timeout(test_case, 60);
        tcase_add_test(test_case, tests[i]);
        suite_add_tcase(suite, test_case);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
