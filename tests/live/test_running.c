/* SPDX-License-Identifier: MIT */
/* running: weir's own threads, stopping them, and what they cost while nothing or always the same happens. */
#include "fixture.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

/* --- whose thread --- */

struct team {
    atomic_uint started, stopped;
    pid_t ids[8];
    cpu_set_t cpus[8];
    sigset_t masks[8];
    bool same_thread[8];
};

static void note_start(weir_shard *shard)
{
    struct team *team = weir_runtime_user(weir_shard_runtime(shard));
    uint32_t index = weir_shard_index(shard);
    team->ids[index] = gettid();
    sched_getaffinity(0, sizeof team->cpus[index], &team->cpus[index]);
    pthread_sigmask(SIG_SETMASK, NULL, &team->masks[index]);
    weir_shard_set_user(shard, &team->ids[index]);
    atomic_fetch_add(&team->started, 1);
}

static void note_stop(weir_shard *shard)
{
    struct team *team = weir_runtime_user(weir_shard_runtime(shard));
    uint32_t index = weir_shard_index(shard);
    team->same_thread[index] = team->ids[index] == gettid() && weir_shard_user(shard) == &team->ids[index];
    atomic_fetch_add(&team->stopped, 1);
}

static void run_team(struct team *team, weir_config config)
{
    struct runner runner;
    memset(team, 0, sizeof *team);
    config.on_start = note_start;
    config.on_stop = note_stop;
    config.user = team;
    runner_open(&runner, &config);
    uint32_t count = weir_shard_count(runner.runtime);
    MUST_EQUAL(count, config.shards);
    for (uint32_t i = 0; i < count; i++)
        MUST_EQUAL(weir_shard_index(weir_shard_at(runner.runtime, i)), i);
    MUST(weir_shard_at(runner.runtime, count) == NULL);
    MUST_EQUAL(atomic_load(&team->started), 0); /* nothing runs yet */
    runner_start(&runner);
    UNTIL(NULL, atomic_load(&team->started) == count);
    MUST_EQUAL(atomic_load(&team->stopped), 0);
    runner_close(&runner);
    MUST_EQUAL(atomic_load(&team->started), count);
    MUST_EQUAL(atomic_load(&team->stopped), count);
    for (uint32_t i = 0; i < count; i++) {
        MUST(team->ids[i] != gettid());
        MUST(team->same_thread[i]);
        for (uint32_t j = 0; j < i; j++)
            MUST(team->ids[i] != team->ids[j]);
        for (int signal = 1; signal < SIGRTMAX; signal++) {
            bool cannot = signal == SIGKILL || signal == SIGSTOP || (signal >= 32 && signal < SIGRTMIN);
            if (!cannot && !sigismember(&team->masks[i], signal))
                ck_abort_msg("signal %d is not blocked in shard %u's thread", signal, i);
        }
    }
}

START_TEST(each_shard_has_a_thread)
{
    struct team team;
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    run_team(&team, (weir_config){.shards = 1});
    run_team(&team, (weir_config){.shards = 5});
    for (int i = 0; i < 5; i++)
        MUST(CPU_EQUAL(&team.cpus[i], &allowed));
}
END_TEST

START_TEST(pinned_to_a_cpu_each)
{
    struct team team;
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    int count = CPU_COUNT(&allowed) < 8 ? CPU_COUNT(&allowed) : 8, shard = 0;
    run_team(&team, (weir_config){.shards = (uint32_t)count, .pin = true});
    for (int cpu = 0; shard < count; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        MUST_EQUAL(CPU_COUNT(&team.cpus[shard]), 1);
        MUST(CPU_ISSET(cpu, &team.cpus[shard])); /* in order of the allowed ones */
        shard++;
    }
}
END_TEST

START_TEST(a_shard_for_each_allowed_cpu)
{
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    struct runner runner;
    runner_open(&runner, &(weir_config){.connections = 64});
    MUST_EQUAL(weir_shard_count(runner.runtime), CPU_COUNT(&allowed));
    weir_close(&runner.runtime); /* never run */
    weir_close(&runner.runtime);
    int first = 0;
    while (!CPU_ISSET(first, &allowed))
        first++;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    MUST_EQUAL(sched_setaffinity(0, sizeof one, &one), 0);
    runner_open(&runner, &(weir_config){.connections = 64});
    MUST_EQUAL(weir_shard_count(runner.runtime), 1);
    weir_close(&runner.runtime);
}
END_TEST

/* --- stopping --- */

static weir_runtime *to_stop;

static void stop_on_signal(int signal)
{
    (void)signal;
    weir_stop(to_stop);
}

static void *send_signal(void *user)
{
    sigset_t all;
    (void)user;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    fixture_sleep_ns(MILLISECONDS(100));
    kill(getpid(), SIGUSR1);
    return NULL;
}

START_TEST(stopped_by_a_signal_handler)
{
    struct runner runner;
    pthread_t thread;
    runner_open(&runner, &(weir_config){.shards = 2});
    to_stop = runner.runtime;
    struct sigaction action = {.sa_handler = stop_on_signal}, before, after;
    MUST_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    MUST_EQUAL(sigaction(SIGTERM, NULL, &before), 0);
    MUST_EQUAL(pthread_create(&thread, NULL, send_signal, NULL), 0);
    MUST_EQUAL(weir_run(runner.runtime), 0);
    MUST_EQUAL(pthread_join(thread, NULL), 0);
    MUST_EQUAL(sigaction(SIGTERM, NULL, &after), 0);
    MUST(before.sa_handler == after.sa_handler); /* weir installs none */
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    MUST(!sigismember(&mask, SIGTERM)); /* and leaves the caller's mask */
    weir_close(&runner.runtime);
}
END_TEST

START_TEST(run_once)
{
    struct runner runner;
    uint64_t sleep_ns;
    runner_open(&runner, &(weir_config){.shards = 1});
    runner_start(&runner);
    fixture_sleep_ns(MILLISECONDS(100));
    MUST_EQUAL(weir_run(runner.runtime), -EBUSY);
    MUST_EQUAL(runner_stop(&runner), 0);
    weir_stop(runner.runtime); /* once more is nothing more */
    MUST_EQUAL(weir_run(runner.runtime), -EBUSY);
    weir_close(&runner.runtime);
    runner_open(&runner, &(weir_config){.shards = 2});
    MUST_EQUAL(weir_turn(weir_shard_at(runner.runtime, 1), &sleep_ns), 0);
    MUST_EQUAL(weir_run(runner.runtime), -EBUSY);
    weir_close(&runner.runtime);
    runner_open(&runner, &(weir_config){.shards = 2});
    weir_stop(runner.runtime);
    weir_stop(runner.runtime);
    MUST_EQUAL(weir_run(runner.runtime), 0); /* stopped before it ran */
    weir_close(&runner.runtime);
}
END_TEST

static atomic_uint closed_by[WEIR_REASON_COUNT];

static void note_reason(weir_conn *conn, const weir_close_event *event)
{
    (void)conn;
    atomic_fetch_add(&closed_by[event->reason], 1);
}

START_TEST(stop_has_an_end)
{
    struct runner runner;
    weir_protocol protocol = {.on_close = note_reason, .on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    runner_open(&runner, &(weir_config){.shards = 2, .stop_ns = MILLISECONDS(400)});
    struct place place = fixture_listen(runner.runtime, NULL, &protocol);
    runner_start(&runner);
    int visitors[10];
    for (int i = 0; i < 10; i++) {
        visitors[i] = visitor_dial(place.address);
        visitor_send_frame(NULL, visitors[i], "here", 4);
        visitor_expect_frame(NULL, visitors[i], "here", 4);
    }
    uint64_t start_ns = fixture_clock_ns();
    MUST_EQUAL(runner_stop(&runner), 0); /* none of them closes */
    uint64_t took_ns = fixture_clock_ns() - start_ns;
    if (took_ns < MILLISECONDS(390) || took_ns > MILLISECONDS(400) + FIXTURE_SLOWER * MILLISECONDS(500))
        ck_abort_msg("stopping with 400 ms took %u ms", (unsigned)(took_ns / WEIR_MILLISECOND));
    MUST_EQUAL(atomic_load(&closed_by[WEIR_REASON_STOPPED]), 10);
    MUST_EQUAL(visitor_try_dial(place.address), -ECONNREFUSED);
    for (int i = 0; i < 10; i++)
        close(visitors[i]);
    weir_close(&runner.runtime);
}
END_TEST

enum { GIFTS = 150, GIFT_BYTES = 20000 };

static int give(weir_conn *conn)
{
    static _Thread_local uint8_t gift[GIFT_BYTES];
    for (uint32_t i = 0; i < GIFTS; i++) {
        fixture_fill(gift, sizeof gift, i);
        MUST_EQUAL(weir_send(conn, gift, sizeof gift), 0);
    }
    return 0;
}

START_TEST(stop_lets_all_that_was_accepted_arrive)
{
    struct runner runner;
    weir_protocol protocol = {.on_close = note_reason, .on_open = give, .limits = {.high_water_bytes = 8 << 20}};
    weir_codec_frame(&protocol.codec, NULL);
    runner_open(&runner, &(weir_config){.shards = 2});
    weir_listen_options options = {.socket = {.send_buffer_bytes = 32 * 1024}};
    weir_listener listener;
    char address[WEIR_ADDRESS_MAX_BYTES];
    MUST_EQUAL(weir_listen(runner.runtime, "tcp://127.0.0.1:0", &protocol, &options, &listener, NULL), 0);
    MUST_EQUAL(weir_listener_address(runner.runtime, listener, address, sizeof address), 0);
    runner_start(&runner);
    int visitors[4];
    static uint8_t got[GIFT_BYTES];
    for (int i = 0; i < 4; i++)
        visitors[i] = visitor_dial(address);
    weir_stats stats;
    UNTIL(NULL, (weir_runtime_stats(runner.runtime, &stats), stats.accepted == 4));
    weir_stop(runner.runtime);
    fixture_sleep_ns(MILLISECONDS(50));
    for (int i = 0; i < 4; i++) {
        for (uint32_t number = 0; number < GIFTS; number++) {
            MUST_EQUAL(visitor_receive_frame(NULL, visitors[i], got, sizeof got), GIFT_BYTES);
            MUST(fixture_is_filled(got, sizeof got, number));
        }
        visitor_expect_end(NULL, visitors[i]);
        close(visitors[i]);
    }
    MUST_EQUAL(runner_stop(&runner), 0);
    weir_runtime_stats(runner.runtime, &stats);
    MUST_EQUAL(stats.messages_sent, 4 * GIFTS);
    MUST_EQUAL(stats.messages_out, 4 * GIFTS);
    MUST_EQUAL(stats.messages_undelivered, 0);
    MUST_EQUAL(stats.closed[WEIR_REASON_STOPPED], 4);
    weir_close(&runner.runtime);
}
END_TEST

/* --- what it costs --- */

struct account {
    atomic_uint_fast64_t calls, taken_bytes, given_bytes;
};

static void *count_allocate(void *user, size_t bytes, size_t alignment)
{
    struct account *account = user;
    atomic_fetch_add(&account->calls, 1);
    atomic_fetch_add(&account->taken_bytes, bytes);
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void count_release(void *user, void *memory, size_t bytes)
{
    struct account *account = user;
    atomic_fetch_add(&account->given_bytes, bytes);
    free(memory);
}

enum { FRIENDS = 10, DEPTH = 100, FRAME = 4 + 64 };

static void chat(int visitors[FRIENDS], uint32_t rounds)
{
    static uint8_t batch[DEPTH * FRAME], got[DEPTH * FRAME];
    for (uint32_t i = 0; i < DEPTH; i++) {
        memcpy(batch + i * FRAME, "\100\0\0\0", 4);
        fixture_fill(batch + i * FRAME + 4, FRAME - 4, i);
    }
    for (uint32_t round = 0; round < rounds; round++) {
        for (int i = 0; i < FRIENDS; i++)
            visitor_send(NULL, visitors[i], batch, sizeof batch);
        for (int i = 0; i < FRIENDS; i++) {
            visitor_receive(NULL, visitors[i], got, sizeof got);
            MUST(memcmp(got, batch, sizeof batch) == 0);
        }
    }
}

START_TEST(no_allocation_for_a_message)
{
    struct account account = {0};
    struct runner runner;
    weir_protocol protocol = {.on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    weir_config config = {.shards = 2, .allocator = {.allocate = count_allocate, .release = count_release, .user = &account}};
    runner_open(&runner, &config);
    struct place place = fixture_listen(runner.runtime, NULL, &protocol);
    runner_start(&runner);
    int visitors[FRIENDS];
    for (int i = 0; i < FRIENDS; i++)
        visitors[i] = visitor_dial(place.address);
    chat(visitors, 30);
    /* Pools grow up to the deepest queue there has been, and how deep it gets is a matter of chance: one of some windows must be clean. */
    uint32_t rounds = 100 / FIXTURE_SLOWER;
    weir_stats before, after;
    uint64_t more = 1;
    for (int window = 0; more != 0; window++) {
        if (window == 5)
            ck_abort_msg("%u messages still cost %u allocations", rounds * FRIENDS * DEPTH, (unsigned)more);
        weir_runtime_stats(runner.runtime, &before);
        uint64_t calls = atomic_load(&account.calls);
        MUST(calls > 0 && before.allocations > 0);
        chat(visitors, rounds);
        more = atomic_load(&account.calls) - calls;
        weir_runtime_stats(runner.runtime, &after);
        MUST_EQUAL(after.allocations - before.allocations, more); /* the statistics know */
        MUST_EQUAL(after.messages_in - before.messages_in, rounds * FRIENDS * DEPTH);
    }
    for (int i = 0; i < FRIENDS; i++)
        close(visitors[i]);
    runner_close(&runner);
    MUST_EQUAL(atomic_load(&account.taken_bytes), atomic_load(&account.given_bytes));
}
END_TEST

/* Context switches of a thread, of both kinds, since it began. */
static uint64_t switches_of(pid_t id)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)id);
    FILE *file = fopen(path, "re");
    MUST(file != NULL);
    uint64_t sum = 0;
    unsigned long value;
    int found = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        char *count = strstr(line, "voluntary_ctxt_switches:");
        if (count != NULL && sscanf(count, "voluntary_ctxt_switches: %lu", &value) == 1) {
            sum += value;
            found++;
        }
    }
    fclose(file);
    MUST_EQUAL(found, 2);
    return sum;
}

static void expect_silence(weir_config config)
{
    struct team team = {0};
    struct runner runner;
    weir_protocol protocol = {.on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    config.shards = 2;
    config.on_start = note_start;
    config.user = &team;
    runner_open(&runner, &config);
    struct place place = fixture_listen(runner.runtime, NULL, &protocol);
    runner_start(&runner);
    int visitors[100];
    for (int i = 0; i < 100; i++) {
        visitors[i] = visitor_dial(place.address);
        visitor_send_frame(NULL, visitors[i], "and now silence", 15);
        visitor_expect_frame(NULL, visitors[i], "and now silence", 15);
    }
    UNTIL(NULL, atomic_load(&team.started) == 2);
    fixture_sleep_ns(MILLISECONDS(300));
    weir_stats before, after;
    weir_runtime_stats(runner.runtime, &before);
    uint64_t switches[2] = {switches_of(team.ids[0]), switches_of(team.ids[1])};
    fixture_sleep_ns(2 * WEIR_SECOND);
    for (int i = 0; i < 2; i++) {
        uint64_t more = switches_of(team.ids[i]) - switches[i];
        if (more != 0)
            ck_abort_msg("shard %d was switched %u times in 2 idle seconds", i, (unsigned)more);
    }
    weir_runtime_stats(runner.runtime, &after);
    MUST_EQUAL(after.turns, before.turns);
    MUST_EQUAL(after.late_finds, 0);
    for (int i = 0; i < 100; i++)
        close(visitors[i]);
    runner_close(&runner);
}

START_TEST(idle_is_free)
{
    expect_silence((weir_config){0});
}
END_TEST

START_TEST(idle_is_free_for_spinners)
{
    expect_silence((weir_config){.spin_ns = MILLISECONDS(1)});
}
END_TEST

START_TEST(spins_that_fail_are_left_out)
{
    struct runner runner;
    weir_protocol protocol = {.on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    runner_open(&runner, &(weir_config){.shards = 1, .spin_ns = 100 * WEIR_MICROSECOND});
    struct place place = fixture_listen(runner.runtime, NULL, &protocol);
    runner_start(&runner);
    int visitor = visitor_dial(place.address);
    weir_stats stats;
    for (int i = 0; i < 300; i++) { /* something to do each two milliseconds: no spin can find it */
        visitor_send_frame(NULL, visitor, "tick", 4);
        visitor_expect_frame(NULL, visitor, "tick", 4);
        fixture_sleep_ns(MILLISECONDS(2));
    }
    weir_runtime_stats(runner.runtime, &stats);
    MUST(stats.sleeps > 200);
    MUST(stats.spins_lost > 0);
    if (stats.spins_lost > 150)
        ck_abort_msg("of some 300 sleeps %u were spun for in vain", (unsigned)stats.spins_lost);
    close(visitor);
    runner_close(&runner);
}
END_TEST

START_TEST(spins_find_work)
{
    struct runner runner;
    weir_protocol protocol = {.on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    runner_open(&runner, &(weir_config){.shards = 1, .spin_ns = MILLISECONDS(2)});
    struct place place = fixture_listen(runner.runtime, NULL, &protocol);
    runner_start(&runner);
    int visitor = visitor_dial(place.address);
    uint8_t got[12];
    for (int i = 0; i < 2000; i++) {
        visitor_send(NULL, visitor, "\4\0\0\0tick", 8);
        size_t done = 0;
        while (done < 8) { /* spins, too */
            ssize_t more = recv(visitor, got + done, 8 - done, 0);
            done += more > 0 ? (size_t)more : 0;
        }
    }
    weir_stats stats;
    weir_runtime_stats(runner.runtime, &stats);
    MUST_EQUAL(stats.messages_in, 2000);
    MUST(stats.spins_won > 0);
    close(visitor);
    runner_close(&runner);
}
END_TEST

FIXTURE_MAIN("running", each_shard_has_a_thread, pinned_to_a_cpu_each, a_shard_for_each_allowed_cpu, stopped_by_a_signal_handler, run_once,
             stop_has_an_end, stop_lets_all_that_was_accepted_arrive, no_allocation_for_a_message, idle_is_free, idle_is_free_for_spinners,
             spins_that_fail_are_left_out, spins_find_work)
