/* SPDX-License-Identifier: MIT */
/* test_hammer: the ring and the bell with real threads: four writers, one reader that sleeps by futex whenever there is nothing. Everything arrives once and in
 * order. Nobody is forgotten: both sides sleep with a safety time-out, and it must never have been needed. WEIR_LONG: a minute. */
#include <check.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/bell.h"
#include "runtime/spsc.h"
#include "tests/unit/chance.h"

#define WRITERS        4u
#define RECORD_BYTES   2000u /* at most */
#define SAFETY_SECONDS 1
#define SAFETY_TIMEOUTS                                                                                                                    \
    2u /* so many, one after the other, and somebody was forgotten: one alone, and the writer may just not have come to ring yet */

/* A record: this, and then `bytes` bytes that follow from its number. */
struct record {
    uint64_t number;
    uint32_t bytes;
    bool is_last;
};

struct writer {
    uint32_t index, bell_number;
    struct w_spsc ring;
    uint8_t data[W_SPSC_MIN_BYTES];
    alignas(64) _Atomic uint32_t waiting; /* for room; a futex */
    /* The writer's. */
    alignas(64) pthread_t thread;
    uint64_t records, bytes, full, rings_that_wake, late;
    /* The reader's. */
    alignas(64) uint64_t records_read;
    uint64_t bytes_read;
    bool is_over;
};

static struct {
    struct w_bell bell;
    _Atomic uint64_t memory[W_BELL_COUNT_MAX / 64 + W_BELL_COUNT_MAX / 4096];
    alignas(64) _Atomic uint32_t token;   /* the reader's futex */
    alignas(64) _Atomic uint32_t writing; /* so many of the writers still write */
    struct writer writers[WRITERS];
    /* The reader's. */
    alignas(64) struct chance chance;
    uint64_t sleeps, late;
    const char *wrong;
} hammer;

static uint8_t byte_of(uint64_t number, uint32_t at)
{
    return (uint8_t)(number * 151 + at);
}

/* --- sleeping --- */

/* False: the time is over. */
static bool futex_sleep(_Atomic uint32_t *word, uint32_t value)
{
    struct timespec limit = {.tv_sec = SAFETY_SECONDS};
    return syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &limit, NULL, 0) == 0 || errno != ETIMEDOUT;
}

static void futex_wake(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Nothing, up to some microseconds. */
static void idle_away(struct chance *chance)
{
    for (uint64_t left = chance_any_size(chance, 14); left > 0; left--)
        atomic_signal_fence(memory_order_seq_cst);
}

static void pause_somehow(struct chance *chance)
{
    struct timespec time = {.tv_nsec = (long)chance_below(chance, 100000)};
    if (chance_one_in(chance, 8))
        (void)nanosleep(&time, NULL);
    idle_away(chance);
}

/* --- a writer --- */

static void publish(struct writer *writer)
{
    w_spsc_publish(&writer->ring);
    if (w_bell_ring(&hammer.bell, writer->bell_number) && atomic_exchange(&hammer.bell.asleep, false)) {
        writer->rings_that_wake++;
        atomic_store_explicit(&hammer.token, 1, memory_order_relaxed);
        futex_wake(&hammer.token);
    }
}

/* Sleeps until the reader has released something, and on, until it answers not NULL. */
static uint8_t *wait_until(struct writer *writer, uint8_t *(*look)(struct writer *writer, uint32_t bytes), uint32_t bytes)
{
    uint8_t *found;
    uint32_t timeouts = 0;
    for (;;) {
        atomic_store(&writer->waiting, 1);
        w_base_fence();
        found = look(writer, bytes);
        if (found != NULL || timeouts == SAFETY_TIMEOUTS)
            break;
        while (atomic_load_explicit(&writer->waiting, memory_order_relaxed) != 0 && timeouts < SAFETY_TIMEOUTS)
            timeouts += !futex_sleep(&writer->waiting, 1);
    }
    atomic_store_explicit(&writer->waiting, 0, memory_order_relaxed);
    writer->late += timeouts == SAFETY_TIMEOUTS;
    return found;
}

static uint8_t *look_for_room(struct writer *writer, uint32_t bytes)
{
    return w_spsc_reserve(&writer->ring, bytes);
}

static uint8_t *wait_for_room(struct writer *writer, uint32_t bytes)
{
    writer->full++;
    if (!w_spsc_is_published(&writer->ring))
        publish(writer);
    return wait_until(writer, look_for_room, bytes);
}

static uint8_t *look_for_end(struct writer *writer, uint32_t bytes)
{
    return w_spsc_look_back(&writer->ring) <= bytes ? writer->data : NULL;
}

static void write_record(struct writer *writer, struct chance *chance, bool is_last)
{
    struct record record = {.number = writer->records, .is_last = is_last};
    record.bytes = (uint32_t)chance_below(chance, chance_one_in(chance, 4) ? RECORD_BYTES - sizeof record : 100);
    uint32_t bytes = (uint32_t)sizeof record + record.bytes;
    uint8_t *room = w_spsc_reserve(&writer->ring, bytes);
    if (room == NULL && (room = wait_for_room(writer, bytes)) == NULL)
        return;
    memcpy(room, &record, sizeof record);
    for (uint32_t i = 0; i < record.bytes; i++)
        room[sizeof record + i] = byte_of(record.number, i);
    w_spsc_commit(&writer->ring, room, bytes);
    writer->records++;
    writer->bytes += record.bytes;
}

static void *writer_run(void *argument)
{
    struct writer *writer = argument;
    struct chance chance = {writer->index};
    while (atomic_load_explicit(&hammer.writing, memory_order_relaxed) > writer->index && writer->late == 0) {
        for (uint64_t left = 1 + chance_below(&chance, chance_one_in(&chance, 2) ? 64 : 2); left > 0; left--) {
            write_record(writer, &chance, false);
            if (chance_one_in(&chance, 3))
                publish(writer);
        }
        publish(writer);
        if (chance_one_in(&chance, 2)) /* nothing more until all of it was read: a ring that was not heard is not made good by the next */
            (void)wait_until(writer, look_for_end, 0);
        pause_somehow(&chance);
    }
    write_record(writer, &chance, true);
    publish(writer);
    return NULL;
}

/* --- the reader --- */

static void read_record(struct writer *writer, const uint8_t *piece)
{
    struct record record;
    memcpy(&record, piece, sizeof record);
    if (record.number != writer->records_read || record.bytes > RECORD_BYTES || writer->is_over) {
        hammer.wrong = "a record came out of order";
        return;
    }
    for (uint32_t i = 0; i < record.bytes; i++)
        if (piece[sizeof record + i] != byte_of(record.number, i))
            hammer.wrong = "a record's bytes are wrong";
    writer->records_read++;
    writer->bytes_read += record.bytes;
    writer->is_over = record.is_last;
    w_spsc_next(&writer->ring, (uint32_t)sizeof record + record.bytes);
}

static void release(struct writer *writer)
{
    w_spsc_release_read(&writer->ring);
    w_base_fence();
    if (atomic_load_explicit(&writer->waiting, memory_order_relaxed) != 0 && atomic_exchange(&writer->waiting, 0) != 0)
        futex_wake(&writer->waiting);
}

static void drain(struct writer *writer)
{
    const uint8_t *piece;
    if (!w_spsc_look(&writer->ring))
        return;
    while (hammer.wrong == NULL && (piece = w_spsc_piece(&writer->ring)) != NULL) {
        read_record(writer, piece);
        if (chance_one_in(&hammer.chance, 16))
            release(writer);
    }
    if (writer->ring.read_pieces != writer->ring.pieces_seen)
        hammer.wrong = "the count of pieces does not fit";
    release(writer);
}

static void drain_what_rang(void)
{
    uint32_t number;
    while (hammer.wrong == NULL && w_bell_hear(&hammer.bell, &number)) {
        uint32_t i = 0;
        while (i < WRITERS && hammer.writers[i].bell_number != number)
            i++;
        if (i < WRITERS)
            drain(&hammer.writers[i]);
        else
            hammer.wrong = "a number was heard that nobody rang";
    }
}

static bool is_something_there(void)
{
    bool is_there = false;
    for (uint32_t i = 0; i < WRITERS; i++)
        is_there |= w_spsc_look(&hammer.writers[i].ring);
    return is_there;
}

static bool are_all_over(void)
{
    uint32_t over = 0;
    for (uint32_t i = 0; i < WRITERS; i++)
        over += hammer.writers[i].is_over;
    return over == WRITERS;
}

static void reader_sleep(void)
{
    uint32_t timeouts = 0;
    hammer.sleeps++;
    while (atomic_load_explicit(&hammer.token, memory_order_relaxed) == 0) {
        if (futex_sleep(&hammer.token, 0) || !is_something_there()) {
            timeouts = 0;
        } else if (++timeouts >= SAFETY_TIMEOUTS) {
            hammer.late++;
            for (uint32_t i = 0; i < WRITERS; i++)
                drain(&hammer.writers[i]);
            break;
        }
    }
    atomic_store_explicit(&hammer.token, 0, memory_order_relaxed);
}

static void *reader_run(void *argument)
{
    while (hammer.wrong == NULL && !are_all_over()) {
        drain_what_rang();
        idle_away(&hammer.chance);
        if (hammer.wrong != NULL || are_all_over() || !w_bell_doze(&hammer.bell))
            continue;
        reader_sleep();
        w_bell_rise(&hammer.bell);
    }
    return argument;
}

/* --- the test --- */

static void check_writer(const struct writer *writer)
{
    ck_assert_uint_eq(writer->records_read, writer->records);
    ck_assert_uint_eq(writer->bytes_read, writer->bytes);
    ck_assert_uint_eq(writer->late, 0);
    ck_assert_uint_gt(writer->full, 0);
    ck_assert_uint_gt(writer->rings_that_wake, 0);
}

START_TEST(nobody_is_forgotten)
{
    static const uint32_t numbers[WRITERS] = {0, 1, 70, W_BELL_COUNT_MAX - 1}; /* the same word, the same middle, neither */
    pthread_t reader;
    w_bell_init(&hammer.bell, W_BELL_COUNT_MAX, hammer.memory);
    atomic_init(&hammer.writing, WRITERS);
    for (uint32_t i = 0; i < WRITERS; i++) {
        struct writer *writer = &hammer.writers[i];
        writer->index = i;
        writer->bell_number = numbers[i];
        w_spsc_init(&writer->ring, writer->data, sizeof writer->data);
    }
    ck_assert_int_eq(pthread_create(&reader, NULL, reader_run, NULL), 0);
    for (uint32_t i = 0; i < WRITERS; i++)
        ck_assert_int_eq(pthread_create(&hammer.writers[i].thread, NULL, writer_run, &hammer.writers[i]), 0);
    /* First all of them; then one alone, and nobody else rings if its ring is lost. */
    sleep(getenv("WEIR_LONG") != NULL ? 30 : 1);
    atomic_store_explicit(&hammer.writing, 1, memory_order_relaxed);
    sleep(getenv("WEIR_LONG") != NULL ? 30 : 1);
    atomic_store_explicit(&hammer.writing, 0, memory_order_relaxed);
    ck_assert_int_eq(pthread_join(reader, NULL), 0);
    if (hammer.wrong != NULL) /* (the writers may wait for room) */
        ck_abort_msg("%s", hammer.wrong);
    for (uint32_t i = 0; i < WRITERS; i++) {
        ck_assert_int_eq(pthread_join(hammer.writers[i].thread, NULL), 0);
        check_writer(&hammer.writers[i]);
    }
    ck_assert_uint_eq(hammer.late, 0);
    ck_assert_uint_gt(hammer.sleeps, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hammer");
    TCase *tests = tcase_create("hammer");
    tcase_set_timeout(tests, 100);
    tcase_add_test(tests, nobody_is_forgotten);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
