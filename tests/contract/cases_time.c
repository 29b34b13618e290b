/* SPDX-License-Identifier: MIT */
/* cases_time: what the contract says about time, sleeping and waking. */
#include <errno.h>
#include <signal.h>
#include <sys/time.h>

#include "tests/contract/cases.h"

static uint64_t clock_ns(struct rig *rig)
{
    return rig->engine->clock(rig->io);
}

/* 10. now_ns moves with submit() only, never backwards, and keeps up with the clock. */
START_TEST(now_stands_still)
{
    struct rig rig;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    uint64_t before_ns = rig.io->now_ns;
    ck_assert_uint_gt(before_ns, 0);
    for (int i = 0; i < 20; i++) {
        struct w_io_completion none;
        for (int j = 0; j < 10; j++)
            clock_ns(&rig);
        rig.engine->take(rig.io, &none, 1);
        rig.engine->stirring(rig.io);
        ck_assert_uint_eq(rig.io->now_ns, before_ns);
        uint64_t clock_before_ns = clock_ns(&rig);
        rig_turn(&rig, i % 2 * WEIR_MILLISECOND);
        ck_assert_uint_ge(rig.io->now_ns, clock_before_ns);
        ck_assert_uint_le(rig.io->now_ns, clock_ns(&rig));
        before_ns = rig.io->now_ns;
    }
    rig_close(&rig);
}
END_TEST

/* A submit with a wait of 0 does not sleep. */
START_TEST(no_wait_no_sleep)
{
    struct rig rig;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    uint64_t begin_ns = clock_ns(&rig);
    for (int i = 0; i < 1000; i++)
        ck_assert_uint_eq(rig_turn_count(&rig, 0), 0);
    ck_assert_uint_lt(clock_ns(&rig) - begin_ns, 5 * WEIR_SECOND);
    ck_assert_uint_eq(atomic_load(&rig.io->counters.sleeps), 0);
    rig_close(&rig);
}
END_TEST

/* A submit that waits lasts, when nothing happens; it ends when something does. */
START_TEST(wait_lasts)
{
    struct rig rig;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    uint64_t begin_ns = clock_ns(&rig), submits = 0;
    for (; clock_ns(&rig) - begin_ns < 30 * WEIR_MILLISECOND; submits++)
        ck_assert_uint_eq(rig_turn_count(&rig, 30 * WEIR_MILLISECOND - (clock_ns(&rig) - begin_ns)), 0);
    ck_assert_uint_lt(clock_ns(&rig) - begin_ns, 5 * WEIR_SECOND);
    if (!rig.outside->rough) /* else signals may end it early */
        ck_assert_uint_le(submits, 3);
    ck_assert_uint_gt(atomic_load(&rig.io->counters.sleeps), 0);
    rig_close(&rig);
}
END_TEST

/* Turns until nothing comes and nothing had to be started again. */
static void settle(struct rig *rig, struct rig_stream *stream)
{
    uint32_t begun;
    uint64_t begin_ns = clock_ns(rig);
    do {
        ck_assert_uint_lt(clock_ns(rig) - begin_ns, 2 * WEIR_SECOND);
        begun = rig->operation_count;
        rig_stream_look(rig, stream);
    } while (rig_turn_count(rig, 0) > 0 || rig->operation_count != begun);
}

START_TEST(wait_ends_with_completion)
{
    struct cases_pair pair;
    struct rig_stream stream;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig_stream_open(&pair.rig, &stream, pair.handle);
    rig_turn(&pair.rig, WEIR_MILLISECOND);
    ck_assert_int_eq(pair.rig.outside->write(pair.peer, "x", 1), 1);
    uint64_t begin_ns = clock_ns(&pair.rig);
    while (rig_stream_look(&pair.rig, &stream), stream.bytes.count == 0)
        rig_turn(&pair.rig, 5 * WEIR_SECOND);
    ck_assert_uint_lt(clock_ns(&pair.rig) - begin_ns, 2 * WEIR_SECOND);
    rig_stream_close(&pair.rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

/* 9. A wake before the sleep ends it at once; it is used up by the submit that it meets. */
START_TEST(wake_before)
{
    struct rig rig;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    uint64_t begin_ns = clock_ns(&rig);
    rig.engine->wake(rig.io);
    rig_turn(&rig, 5 * WEIR_SECOND);
    rig.engine->wake(rig.io);
    rig.engine->wake(rig.io);
    while (!rig.engine->stirring(rig.io))
        ck_assert_uint_lt(clock_ns(&rig) - begin_ns, WEIR_SECOND);
    rig_turn(&rig, 5 * WEIR_SECOND);
    ck_assert_uint_lt(clock_ns(&rig) - begin_ns, WEIR_SECOND);
    rig.engine->wake(rig.io);
    rig_turn(&rig, 0);
    if (!rig.outside->rough) { /* else the wake may have been late */
        ck_assert(!rig.engine->stirring(rig.io));
        begin_ns = clock_ns(&rig);
        rig_turn(&rig, 20 * WEIR_MILLISECOND);
        ck_assert_uint_ge(clock_ns(&rig) - begin_ns, 19 * WEIR_MILLISECOND);
    }
    rig_close(&rig);
}
END_TEST

/* 9. A wake from elsewhere ends a sleep, whenever it comes. */
START_TEST(wake_meanwhile)
{
    struct rig rig;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    for (uint64_t round = 0; round < 60; round++) {
        uint64_t begin_ns = clock_ns(&rig);
        uint64_t after_ns = round % 6 == 0 ? 5 * WEIR_MILLISECOND : round * 3 * WEIR_MICROSECOND;
        rig.outside->wake_after(rig.io, after_ns);
        if (round % 5 == 0)
            rig_turn(&rig, 0); /* may use the wake up: then nothing else would end a sleep */
        if (round % 5 != 0)
            while (clock_ns(&rig) - begin_ns < after_ns)
                rig_turn(&rig, 5 * WEIR_SECOND);
        ck_assert_uint_lt(clock_ns(&rig) - begin_ns, 2 * WEIR_SECOND);
        rig.outside->wake_done();
        rig_turn(&rig, rig.outside->rough ? 10 * WEIR_MILLISECOND : 0); /* uses up a wake that came too late for the sleep */
    }
    rig_close(&rig);
}
END_TEST

static struct w_io *signalled;

static void on_signal(int number)
{
    (void)number;
    signalled->engine->wake(signalled);
}

/* 9. From a signal handler too. */
START_TEST(wake_from_signal)
{
    struct rig rig;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    if (rig.outside->real) {
        const struct itimerval soon = {.it_value.tv_usec = 10000};
        signalled = rig.io;
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
        uint64_t begin_ns = clock_ns(&rig);
        ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
        rig_turn(&rig, 5 * WEIR_SECOND);
        ck_assert_uint_lt(clock_ns(&rig) - begin_ns, 2 * WEIR_SECOND);
    }
    rig_close(&rig);
}
END_TEST

/* stirring(): false when there is nothing, true once a submit(0) would bring something. */
START_TEST(stirring_tells)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_stream stream;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig_stream_open(rig, &stream, pair.handle);
    rig_turn(rig, 20 * WEIR_MILLISECOND);
    settle(rig, &stream);
    if (!rig->outside->rough)
        ck_assert(!rig->engine->stirring(rig->io));
    for (int round = 0; round < 20; round++) {
        size_t before = stream.bytes.count;
        ck_assert_int_eq(rig->outside->write(pair.peer, "x", 1), 1);
        uint64_t begin_ns = clock_ns(rig);
        while (stream.bytes.count == before) {
            while (!rig->engine->stirring(rig->io))
                ck_assert_uint_lt(clock_ns(rig) - begin_ns, 2 * WEIR_SECOND);
            ck_assert_uint_gt(rig_turn_count(rig, 0), 0);
            settle(rig, &stream);
        }
    }
    rig_stream_close(rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

/* --- embedded --- */

/* Turns until the shard may sleep. */
static void fall_asleep(struct rig *rig, struct rig_stream *stream)
{
    uint64_t begin_ns = clock_ns(rig);
    do {
        ck_assert_uint_lt(clock_ns(rig) - begin_ns, 2 * WEIR_SECOND);
        settle(rig, stream);
    } while (!rig->engine->may_sleep(rig->io));
}

static void wait_readable(struct rig *rig)
{
    uint64_t begin_ns = clock_ns(rig);
    while (!rig->outside->is_readable(rig->io))
        ck_assert_msg(clock_ns(rig) - begin_ns < 2 * WEIR_SECOND, "the descriptor never became readable");
}

/* An embedded shard sleeps elsewhere: after may_sleep() has said true, whatever comes makes the descriptor readable. */
START_TEST(embedded_wakes)
{
    struct cases_pair pair = {0};
    struct rig *rig = &pair.rig;
    struct rig_stream stream;
    rig_open(rig, cases_outside, (uint64_t)_i, 0, 0, true);
    ck_assert_int_ge(rig->engine->descriptor(rig->io), 0);
    pair.listening = rig_listen(rig, &pair.address);
    pair.handle = rig_accept_one(rig, pair.listening, &pair.address, &pair.peer);
    rig_stream_open(rig, &stream, pair.handle);
    for (uint64_t round = 0; round < 40; round++) {
        size_t before = stream.bytes.count;
        fall_asleep(rig, &stream);
        if (round % 8 == 0 && !rig->outside->rough)
            for (int i = 0; i < 5; i++)
                ck_assert(!rig->outside->is_readable(rig->io)); /* idle is quiet */
        ck_assert_int_eq(rig->outside->write(pair.peer, "x", 1), 1);
        while (stream.bytes.count == before) {
            wait_readable(rig);
            fall_asleep(rig, &stream);
        }
    }
    rig_stream_close(rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

START_TEST(embedded_wake)
{
    struct rig rig;
    struct rig_stream none = {.paused = true};
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, true);
    for (uint64_t round = 0; round < 40; round++) {
        fall_asleep(&rig, &none);
        rig.outside->wake_after(rig.io, round % 4 * 50 * WEIR_MICROSECOND);
        wait_readable(&rig);
        rig.outside->wake_done();
        rig_turn(&rig, 0);
        /* A wake while awake: no sleep until a submit has used it up. */
        rig.engine->wake(rig.io);
        if (!rig.outside->rough)
            ck_assert(!rig.engine->may_sleep(rig.io));
        rig_turn(&rig, rig.outside->rough ? 10 * WEIR_MILLISECOND : 0);
    }
    rig_close(&rig);
}
END_TEST

/* An embedded shard may be asked to sleep in submit() all the same. */
START_TEST(embedded_submit)
{
    struct rig rig;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, true);
    uint64_t begin_ns = clock_ns(&rig);
    while (clock_ns(&rig) - begin_ns < 20 * WEIR_MILLISECOND)
        ck_assert_uint_eq(rig_turn_count(&rig, 20 * WEIR_MILLISECOND), 0);
    rig.outside->wake_after(rig.io, 5 * WEIR_MILLISECOND);
    rig_turn(&rig, 5 * WEIR_SECOND);
    ck_assert_uint_lt(clock_ns(&rig) - begin_ns, 2 * WEIR_SECOND);
    rig.outside->wake_done();
    rig_close(&rig);
}
END_TEST

START_TEST(random_differs)
{
    struct rig rig;
    uint64_t all_set = 0, all_clear = UINT64_MAX;
    rig_open(&rig, cases_outside, (uint64_t)_i, 0, 0, false);
    for (int i = 0; i < 100; i++) {
        uint64_t value = rig.engine->random(rig.io);
        all_set |= value;
        all_clear &= value;
    }
    ck_assert_uint_eq(all_set, UINT64_MAX); /* each bit is seen as one and as nought */
    ck_assert_uint_eq(all_clear, 0);
    rig_close(&rig);
}
END_TEST

void cases_time_add(TCase *tcase, int seeds)
{
    tcase_add_loop_test(tcase, now_stands_still, 0, seeds);
    tcase_add_loop_test(tcase, no_wait_no_sleep, 0, seeds);
    tcase_add_loop_test(tcase, wait_lasts, 0, seeds);
    tcase_add_loop_test(tcase, wait_ends_with_completion, 0, seeds);
    tcase_add_loop_test(tcase, wake_before, 0, seeds);
    tcase_add_loop_test(tcase, wake_meanwhile, 0, seeds);
    tcase_add_loop_test(tcase, wake_from_signal, 0, seeds);
    tcase_add_loop_test(tcase, stirring_tells, 0, seeds);
    tcase_add_loop_test(tcase, embedded_wakes, 0, seeds);
    tcase_add_loop_test(tcase, embedded_wake, 0, seeds);
    tcase_add_loop_test(tcase, embedded_submit, 0, seeds);
    tcase_add_loop_test(tcase, random_differs, 0, seeds);
}
