/* SPDX-License-Identifier: MIT */
/* limits: of time, of the config, of connections; timers; and the numbers and sentences that tell of them. */
#include "choke.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#define LIMIT (FIXTURE_SLOWER * MILLISECONDS(300))

/* How long it takes from now until the count of closed is `closed`; not too early, not much too late. */
static void expect_end_after(struct choke *choke, uint64_t start_ns, uint64_t limit_ns, uint32_t closed, weir_reason reason)
{
    UNTIL(&choke->fixture, choke->witness.closed >= closed);
    uint64_t took_ns = fixture_clock_ns() - start_ns;
    MUST_EQUAL(choke->witness.closed, closed);
    if (choke->witness.event.reason != reason)
        ck_abort_msg("it ended with %s, not %s", weir_reason_name(choke->witness.event.reason), weir_reason_name(reason));
    if (took_ns + MILLISECONDS(2) < limit_ns || took_ns > limit_ns + limit_ns / 2 + FIXTURE_SLOWER * MILLISECONDS(200))
        ck_abort_msg("%s came after %u ms, of %u", weir_reason_name(reason), (unsigned)(took_ns / WEIR_MILLISECOND),
                     (unsigned)(limit_ns / WEIR_MILLISECOND));
}

/* --- of time --- */

static void first_limit(weir_protocol *protocol)
{
    protocol->limits.first_ns = LIMIT;
}

START_TEST(first_message_in_time)
{
    struct choke choke;
    choke_open(&choke, first_limit);
    int greeted = choke.visitor;
    visitor_send_frame(&choke.fixture, greeted, "hello", 5);
    UNTIL(&choke.fixture, choke.witness.messages == 1);
    uint64_t start_ns = fixture_clock_ns();
    choke_connect(&choke);
    visitor_send(&choke.fixture, choke.visitor, "\5\0\0", 3); /* a part of one is none */
    expect_end_after(&choke, start_ns, LIMIT, 1, WEIR_REASON_FIRST_LATE);
    close(choke.visitor);
    start_ns = fixture_clock_ns();
    choke_connect(&choke); /* not a word */
    expect_end_after(&choke, start_ns, LIMIT, 2, WEIR_REASON_FIRST_LATE);
    close(choke.visitor);
    fixture_turn_for(&choke.fixture, LIMIT);
    MUST_EQUAL(choke.witness.closed, 2); /* the one that spoke lives on */
    choke.visitor = greeted;
    choke_close(&choke);
}
END_TEST

static void message_limit(weir_protocol *protocol)
{
    protocol->limits.message_ns = LIMIT;
}

START_TEST(each_message_in_time)
{
    struct choke choke;
    choke_open(&choke, message_limit);
    fixture_turn_for(&choke.fixture, LIMIT * 3 / 2);
    for (int i = 0; i < 2; i++) { /* pauses between messages do not count, short ones inside do not hurt */
        visitor_send(&choke.fixture, choke.visitor, "\4\0\0\0ab", 6);
        fixture_turn_for(&choke.fixture, LIMIT / 3);
        visitor_send(&choke.fixture, choke.visitor, "cd", 2);
        fixture_turn_for(&choke.fixture, LIMIT * 3 / 2);
        MUST_EQUAL(choke.witness.closed, 0);
    }
    MUST_EQUAL(choke.witness.messages, 2);
    uint64_t start_ns = fixture_clock_ns();
    visitor_send(&choke.fixture, choke.visitor, "\377\0\0\0", 4);
    while (choke.witness.closed == 0 && fixture_clock_ns() - start_ns < LIMIT * 3) { /* a byte now and then does not help */
        send(choke.visitor, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        fixture_turn_for(&choke.fixture, LIMIT / 10);
    }
    expect_end_after(&choke, start_ns, LIMIT, 1, WEIR_REASON_MESSAGE_LATE);
    choke_close(&choke);
}
END_TEST

static void idle_limit(weir_protocol *protocol)
{
    protocol->limits.idle_ns = LIMIT;
}

/* Something either way, four times; false when this machine stood still for so long meanwhile that it was idle indeed. */
static bool keep_busy(struct choke *choke)
{
    uint64_t last_ns = fixture_clock_ns();
    for (int i = 0; i < 4; i++) {
        fixture_turn_for(&choke->fixture, LIMIT / 2);
        if (fixture_clock_ns() - last_ns > LIMIT * 9 / 10)
            return false;
        if (i % 2 == 0)
            visitor_send_frame(&choke->fixture, choke->visitor, "in", 2);
        else
            MUST_EQUAL(weir_send(choke->witness.conn, "out", 3), 0);
        last_ns = fixture_clock_ns();
    }
    return true;
}

START_TEST(idle_for_so_long)
{
    struct choke choke;
    bool judged = false;
    choke_open(&choke, idle_limit);
    for (uint32_t attempt = 1; !judged; attempt++) {
        MUST(attempt < 8);
        judged = keep_busy(&choke);
        if (judged)
            expect_end_after(&choke, fixture_clock_ns(), LIMIT, attempt, WEIR_REASON_IDLE);
        UNTIL(&choke.fixture, choke.witness.closed == attempt);
        close(choke.visitor);
        choke_connect(&choke);
    }
    choke_close(&choke);
}
END_TEST

static void drain_limit(weir_protocol *protocol)
{
    protocol->limits.drain_ns = LIMIT;
    protocol->limits.high_water_bytes = 4 << 20;
}

START_TEST(draining_for_so_long)
{
    struct choke choke;
    choke_open(&choke, drain_limit);
    fixture_turn(&choke.fixture);
    uint64_t start_ns = fixture_clock_ns();
    weir_end(choke.witness.conn); /* the peer does not close */
    expect_end_after(&choke, start_ns, LIMIT, 1, WEIR_REASON_DRAIN_LATE);
    MUST_EQUAL(choke.witness.event.undelivered_bytes, 0);
    close(choke.visitor);
    choke_connect(&choke); /* does not read */
    for (int i = 0; i < 20; i++)
        MUST_EQUAL(choke_send(&choke, 99996), 0);
    choke_settle(&choke);
    start_ns = fixture_clock_ns();
    weir_end(choke.witness.conn);
    expect_end_after(&choke, start_ns, LIMIT, 2, WEIR_REASON_DRAIN_LATE);
    uint64_t taken = choke_take_all(&choke);
    MUST_EQUAL(choke.witness.event.undelivered_bytes, 2000000 - taken);
    MUST_EQUAL(choke.witness.event.undelivered_messages, 20 - taken / 100000);
    choke_close(&choke);
}
END_TEST

static void no_limit(weir_protocol *protocol)
{
    protocol->limits.first_ns = protocol->limits.message_ns = protocol->limits.idle_ns = protocol->limits.drain_ns = WEIR_FOREVER;
}

START_TEST(for_ever_is_no_limit)
{
    struct choke choke;
    choke_open(&choke, no_limit);
    visitor_send(&choke.fixture, choke.visitor, "\4\0\0\0", 4);
    fixture_turn_for(&choke.fixture, MILLISECONDS(100));
    fixture_settle(&choke.fixture);
    MUST(choke.fixture.sleep_ns == WEIR_FOREVER); /* and sets no timer */
    weir_end(choke.witness.conn);
    fixture_turn_for(&choke.fixture, MILLISECONDS(100));
    MUST_EQUAL(choke.witness.closed, 0);
    close(choke.visitor);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_LOCAL);
    choke_connect(&choke);
    choke_close(&choke);
}
END_TEST

/* --- timers --- */

struct alarm {
    weir_timer timer;
    uint64_t set_ns, after_ns;
    uint32_t fired, again;
    struct alarm *other;
};

static void ring(weir_shard *shard, weir_timer *timer, void *user)
{
    struct alarm *alarm = user;
    uint64_t now_ns = weir_now(shard);
    MUST(timer == &alarm->timer && !weir_timer_is_set(timer));
    alarm->fired++;
    MUST(now_ns >= alarm->set_ns + alarm->after_ns); /* never early */
    if (alarm->other != NULL)
        weir_timer_clear(shard, &alarm->other->timer);
    if (alarm->again > 0) {
        alarm->again--;
        alarm->set_ns = now_ns;
        weir_timer_set(shard, timer, alarm->after_ns, ring, alarm);
        MUST(weir_timer_is_set(timer));
    }
}

static void alarm_set(struct fixture *fixture, struct alarm *alarm, uint64_t after_ns)
{
    fixture_turn(fixture);
    alarm->set_ns = weir_now(fixture->shard);
    alarm->after_ns = after_ns;
    weir_timer_set(fixture->shard, &alarm->timer, after_ns, ring, alarm);
    MUST(weir_timer_is_set(&alarm->timer));
}

START_TEST(timers_go_off_once_and_never_early)
{
    enum { COUNT = 500 };
    static struct alarm alarms[COUNT];
    struct fixture fixture;
    fixture_open(&fixture, NULL);
    uint64_t start_ns = fixture_clock_ns();
    for (uint32_t i = 0; i < COUNT; i++)
        alarm_set(&fixture, &alarms[i], i * 7919 % 700 * WEIR_MILLISECOND);
    uint32_t fired = 0;
    UNTIL(&fixture, ({
        fired = 0;
        for (uint32_t i = 0; i < COUNT; i++)
            fired += alarms[i].fired;
        fired == COUNT;
    }));
    uint64_t took_ns = fixture_clock_ns() - start_ns;
    MUST(took_ns < MILLISECONDS(700) + FIXTURE_SLOWER * MILLISECONDS(1500));
    fixture_turn_for(&fixture, MILLISECONDS(50));
    for (uint32_t i = 0; i < COUNT; i++)
        MUST_EQUAL(alarms[i].fired, 1);
    fixture_close(&fixture);
}
END_TEST

START_TEST(timers_move_and_clear)
{
    struct fixture fixture;
    struct alarm moved = {0}, cleared = {0}, again = {.again = 4}, killer = {0}, victim = {0}, far = {0};
    fixture_open(&fixture, NULL);
    weir_timer_clear(fixture.shard, &cleared.timer); /* not set: left alone */
    MUST(!weir_timer_is_set(&cleared.timer));
    alarm_set(&fixture, &moved, MILLISECONDS(20));
    alarm_set(&fixture, &moved, MILLISECONDS(200)); /* later */
    alarm_set(&fixture, &cleared, MILLISECONDS(20));
    weir_timer_clear(fixture.shard, &cleared.timer);
    MUST(!weir_timer_is_set(&cleared.timer));
    alarm_set(&fixture, &again, MILLISECONDS(5));
    killer.other = &victim;
    alarm_set(&fixture, &victim, MILLISECONDS(30));
    alarm_set(&fixture, &killer, MILLISECONDS(10));
    alarm_set(&fixture, &far, MILLISECONDS(100000));
    alarm_set(&fixture, &far, WEIR_FOREVER); /* 400 days */
    UNTIL(&fixture, moved.fired == 1 && again.fired == 5);
    MUST_EQUAL(killer.fired, 1);
    MUST_EQUAL(victim.fired, 0);
    MUST_EQUAL(cleared.fired, 0);
    MUST_EQUAL(far.fired, 0);
    MUST(weir_timer_is_set(&far.timer));
    alarm_set(&fixture, &far, 0); /* sooner */
    UNTIL(&fixture, far.fired == 1);
    fixture_close(&fixture);
}
END_TEST

static void free_itself(weir_shard *shard, weir_timer *timer, void *user)
{
    (void)shard;
    ++*(uint32_t *)user;
    free(timer);
}

START_TEST(timers_may_free_themselves)
{
    struct fixture fixture;
    uint32_t freed = 0;
    fixture_open(&fixture, NULL);
    for (uint32_t i = 0; i < 1000; i++) /* more than one turn takes */
        weir_timer_set(fixture.shard, calloc(1, sizeof(weir_timer)), MILLISECONDS(i % 5), free_itself, &freed);
    UNTIL(&fixture, freed == 1000);
    fixture_close(&fixture);
}
END_TEST

/* --- of the config --- */

START_TEST(config_values_out_of_range)
{
    static const struct {
        weir_config config;
        const char *named, *value;
    } bad[] = {{{.shards = 1025}, "shards", "1025"},
               {{.shards = 1, .connections = (1 << 20) + 1}, "connections", "1048577"},
               {{.shards = 1, .listeners = 1025}, "listeners", "1025"},
               {{.shards = 1, .dials = 65537}, "dials", "65537"},
               {{.shards = 1, .memory_bytes = 1000}, "memory_bytes", "1000"},
               {{.shards = 1, .memory_bytes = 1 << 20, .assembly_bytes = 2 << 20}, "assembly_bytes", "2097152"},
               {{.shards = 1, .receive_buffers = 7}, "receive_buffers", "7"},
               {{.shards = 1, .receive_buffers = 48}, "receive_buffers", "48"},
               {{.shards = 1, .receive_buffers = 65536}, "receive_buffers", "65536"},
               {{.shards = 1, .receive_buffer_bytes = 4095}, "receive_buffer_bytes", "4095"},
               {{.shards = 1, .receive_buffer_bytes = (1 << 20) + 1}, "receive_buffer_bytes", "1048577"},
               {{.shards = 1, .disable = "nonsense"}, "disable", "nonsense"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        weir_error error;
        weir_runtime *runtime = (weir_runtime *)&error;
        int result = weir_open(&bad[i].config, &runtime, &error);
        if (result != -EINVAL || error.code != -EINVAL || strstr(error.sentence, bad[i].named) == NULL ||
            strstr(error.sentence, bad[i].value) == NULL)
            ck_abort_msg("config.%s %s answers %d: %s", bad[i].named, bad[i].value, result, error.sentence);
        MUST(runtime == NULL);
        MUST_EQUAL(weir_open(&bad[i].config, &runtime, NULL), -EINVAL);
    }
    weir_runtime *none = NULL;
    weir_close(&none);
}
END_TEST

START_TEST(config_values_at_their_bounds)
{
    static const weir_config good[] = {
        {.shards = 1,
         .connections = 1,
         .listeners = 1,
         .dials = 1,
         .memory_bytes = 1 << 20,
         .receive_buffers = 8,
         .receive_buffer_bytes = 4096},
        {.shards = 1, .connections = 1 << 20, .listeners = 1024, .dials = 65536},
        {.shards = 1, .receive_buffer_bytes = 1 << 20, .receive_buffers = 8},
        {.shards = 2, .long_turn_ns = WEIR_FOREVER, .stop_ns = 1, .spin_ns = 1},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        weir_error error;
        weir_runtime *runtime;
        if (weir_open(&good[i], &runtime, &error) != 0)
            ck_abort_msg("config %u is refused: %s", (unsigned)i, error.sentence);
        weir_close(&runtime);
    }
}
END_TEST

/* The number in MiB that a line has, in tenths; 0: it has none. */
static uint64_t tenths_in(const char *line)
{
    unsigned whole, tenths;
    const char *unit = strstr(line, " MiB");
    const char *end = strchr(line, '\n');
    if (unit == NULL || (end != NULL && unit > end))
        return 0;
    const char *number = unit;
    while (number > line && (isdigit((unsigned char)number[-1]) || number[-1] == '.'))
        number--;
    MUST_EQUAL(sscanf(number, "%u.%u", &whole, &tenths), 2);
    return whole * 10 + tenths;
}

START_TEST(the_limits_add_up)
{
    struct fixture fixture;
    char text[4096], cut[40];
    fixture_open(&fixture, &(weir_config){.shards = 3, .connections = 5000, .memory_bytes = 10 << 20});
    size_t bytes = weir_limits_text(fixture.runtime, text, sizeof text);
    MUST_EQUAL(bytes, strlen(text));
    MUST_EQUAL(weir_limits_text(fixture.runtime, cut, sizeof cut), bytes);
    MUST_EQUAL(strlen(cut), sizeof cut - 1);
    MUST(memcmp(cut, text, sizeof cut - 1) == 0);
    MUST_EQUAL(weir_limits_text(fixture.runtime, NULL, 0), bytes);
    uint64_t sum = 0, lines = 0, all = 0, shared = 0; /* of all shards together */
    for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n') == NULL ? NULL : strchr(line, '\n') + 1) {
        if (strncmp(line, "all:", 4) == 0)
            all = tenths_in(line);
        else if (strncmp(line, "all shards", 10) == 0)
            shared = tenths_in(strchr(line, '\n') + 1), line = strchr(line, '\n') + 1;
        else if (tenths_in(line) > 0)
            sum += (lines++, tenths_in(line));
    }
    uint64_t bound = weir_memory_bound(fixture.runtime) * 10 / (1 << 20);
    MUST(lines >= 5);
    if (3 * sum + shared + 3 * lines < all || all + 3 * lines < 3 * sum + shared || all > bound + 1 || bound > all + 1)
        ck_abort_msg("3 shards of %u tenths of a MiB, all %u, weir_memory_bound %u:\n%s", (unsigned)sum, (unsigned)all, (unsigned)bound,
                     text);
    MUST(bound >= 3 * 10 * 10);
    fixture_close(&fixture);
}
END_TEST

START_TEST(more_connections_wait_in_the_backlog)
{
    struct choke choke;
    memset(&choke, 0, sizeof choke);
    fixture_open(&choke.fixture, &(weir_config){.connections = 2});
    witness_start(&choke.witness);
    choke.witness.on_message = witness_echo;
    struct place place = fixture_listen(choke.fixture.runtime, NULL, &choke.witness.protocol);
    int visitors[3];
    for (int i = 0; i < 3; i++)
        visitors[i] = visitor_dial(place.address);
    UNTIL(&choke.fixture, choke.witness.opened == 2);
    fixture_turn_for(&choke.fixture, MILLISECONDS(100));
    MUST_EQUAL(choke.witness.opened, 2);
    visitor_send_frame(&choke.fixture, visitors[2], "patient", 7);
    close(visitors[0]);
    visitor_expect_frame(&choke.fixture, visitors[2], "patient", 7);
    MUST_EQUAL(choke.witness.opened, 3);
    weir_stats stats;
    weir_runtime_stats(choke.fixture.runtime, &stats);
    MUST(stats.accept_pauses > 0);
    MUST_EQUAL(stats.connections, 2);
    close(visitors[1]);
    choke.visitor = visitors[2];
    choke_close(&choke);
}
END_TEST

/* --- numbers --- */

START_TEST(the_runtime_is_the_sum_of_its_shards)
{
    enum { FIELDS = sizeof(weir_stats) / sizeof(uint64_t) };
    struct fixture fixture;
    struct witness witness;
    fixture_open(&fixture, &(weir_config){.shards = 3});
    witness_start(&witness);
    witness.on_message = witness_echo;
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    int visitors[30];
    for (int i = 0; i < 30; i++) {
        visitors[i] = visitor_dial(place.address);
        visitor_send_frame(&fixture, visitors[i], &i, sizeof i);
        visitor_expect_frame(&fixture, visitors[i], &i, sizeof i);
        if (i % 3 == 0)
            close(visitors[i]);
    }
    weir_stats all, one;
    UNTIL(&fixture, (weir_runtime_stats(fixture.runtime, &all), witness.closed == 10 && all.messages_out == 30));
    uint64_t sum[FIELDS] = {0}, told[FIELDS], fields[FIELDS];
    weir_runtime_stats(fixture.runtime, &all);
    memcpy(told, &all, sizeof told);
    for (uint32_t i = 0; i < 3; i++) {
        weir_shard_stats(fixture.shards[i], &one);
        memcpy(fields, &one, sizeof fields);
        for (int field = 0; field < FIELDS; field++)
            sum[field] += fields[field];
    }
    for (int field = 0; field < FIELDS; field++) {
        if (sum[field] != told[field])
            ck_abort_msg("field %d: the runtime says %llu, its shards %llu", field, (unsigned long long)told[field],
                         (unsigned long long)sum[field]);
    }
    MUST_EQUAL(all.accepted, 30);
    MUST_EQUAL(all.messages_in, 30);
    MUST_EQUAL(all.bytes_in, 240);
    MUST_EQUAL(all.messages_out, 30);
    MUST_EQUAL(all.bytes_out, 240);
    MUST_EQUAL(all.closed[WEIR_REASON_PEER], 10);
    MUST_EQUAL(all.connections, 20);
    MUST_EQUAL(all.queued_bytes, 0);
    MUST_EQUAL(all.late_finds, 0);
    for (int i = 0; i < 30; i++)
        if (i % 3 != 0)
            close(visitors[i]);
    fixture_close(&fixture);
    witness_finish(&witness);
}
END_TEST

static atomic_uint_fast64_t named;

static int name_it(weir_conn *conn)
{
    atomic_store(&named, weir_conn_id(conn).value);
    return 0;
}

START_TEST(numbers_of_a_connection_while_it_works)
{
    struct runner runner;
    weir_protocol protocol = {.on_open = name_it, .on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    runner_open(&runner, &(weir_config){.shards = 2});
    struct place place = fixture_listen(runner.runtime, NULL, &protocol);
    runner_start(&runner);
    int visitor = visitor_dial(place.address);
    UNTIL(NULL, atomic_load(&named) != 0);
    weir_id id = {atomic_load(&named)};
    weir_conn_stats stats, before = {0};
    for (uint32_t i = 1; i <= 2000; i++) {
        visitor_send_frame(NULL, visitor, &i, sizeof i);
        MUST_EQUAL(weir_conn_stats_get(runner.runtime, id, &stats), 0);
        MUST(stats.messages_in >= before.messages_in && stats.messages_in <= i);
        MUST(stats.bytes_out >= before.bytes_out && stats.bytes_out <= 8 * i);
        before = stats;
        visitor_expect_frame(NULL, visitor, &i, sizeof i);
    }
    UNTIL(NULL, weir_conn_stats_get(runner.runtime, id, &stats) == 0 && stats.messages_out == 2000);
    MUST_EQUAL(stats.messages_in, 2000);
    MUST_EQUAL(stats.bytes_in, 16000);
    MUST_EQUAL(stats.bytes_out, 16000);
    MUST_EQUAL(stats.sends, 2000);
    MUST_EQUAL(stats.queued_bytes, 0);
    MUST_EQUAL(stats.queued_age_ns, 0);
    MUST_EQUAL(weir_conn_stats_get(runner.runtime, (weir_id){0}, &stats), -ESTALE);
    close(visitor);
    UNTIL(NULL, weir_conn_stats_get(runner.runtime, id, &stats) == -ESTALE);
    runner_close(&runner);
}
END_TEST

START_TEST(the_age_of_what_is_queued)
{
    struct choke choke;
    weir_conn_stats stats;
    choke_open(&choke, drain_limit);
    while (choke_send(&choke, 50000) == 0)
        MUST(choke.accepted_messages < 1000);
    choke_settle(&choke);
    fixture_turn_for(&choke.fixture, MILLISECONDS(300));
    MUST_EQUAL(weir_conn_stats_get(choke.fixture.runtime, choke.witness.id, &stats), 0);
    MUST(stats.queued_age_ns >= MILLISECONDS(300) && stats.queued_age_ns < FIXTURE_WAIT_NS);
    UNTIL(&choke.fixture, (choke_take_all(&choke), choke_queued_bytes(&choke) == 0));
    MUST_EQUAL(weir_conn_stats_get(choke.fixture.runtime, choke.witness.id, &stats), 0);
    MUST_EQUAL(stats.queued_age_ns, 0);
    choke_close(&choke);
}
END_TEST

/* --- sentences --- */

static void note_sentence(void *user, weir_log_level level, const char *sentence)
{
    uint32_t *counts = user;
    MUST(level >= WEIR_LOG_DEBUG && level <= WEIR_LOG_ERROR);
    MUST(sentence[0] != '\0' && strchr(sentence, '\n') == NULL);
    counts[level]++;
}

static void rest_long(weir_shard *shard, weir_timer *timer, void *user)
{
    (void)shard;
    (void)timer;
    fixture_sleep_ns(MILLISECONDS(30));
    ++*(uint32_t *)user;
}

START_TEST(the_log_has_levels)
{
    for (int least = WEIR_LOG_DEBUG; least <= WEIR_LOG_ERROR; least++) {
        struct fixture fixture;
        uint32_t counts[4] = {0}, rested = 0;
        weir_timer timer = {0};
        weir_stats stats;
        fixture_open(&fixture, &(weir_config){.log = note_sentence, .log_user = counts, .log_level = (weir_log_level)least});
        weir_timer_set(fixture.shard, &timer, 1, rest_long, &rested);
        UNTIL(&fixture, rested == 1);
        fixture_turn(&fixture);
        weir_shard_stats(fixture.shard, &stats);
        MUST(stats.long_turns >= 1); /* counted and logged, as a warning */
        MUST_EQUAL(counts[WEIR_LOG_WARNING] >= 1, least <= WEIR_LOG_WARNING);
        for (int level = 0; level < least; level++)
            MUST_EQUAL(counts[level], 0);
        fixture_close(&fixture);
    }
}
END_TEST

START_TEST(a_sentence_for_everything)
{
    static const int codes[] = {-EAGAIN,     -EMSGSIZE, -EBADMSG, -EPIPE,  -ENOTCONN,   -ESTALE,       -EXDEV,         -EINVAL,
                                -EADDRINUSE, -ENOSPC,   -ENOMEM,  -EMFILE, -ENOENT,     -EHOSTUNREACH, -EADDRNOTAVAIL, -ESHUTDOWN,
                                -EDEADLK,    -EPERM,    -EBUSY,   -ENOSYS, -EOPNOTSUPP, -EBADF,        -EACCES,        -ENFILE};
    size_t count = sizeof codes / sizeof codes[0];
    for (size_t i = 0; i < count; i++) {
        MUST(strlen(weir_strerror(codes[i])) > 5);
        MUST(strcmp(weir_strerror(codes[i]), weir_strerror(-99999)) != 0);
        for (size_t j = 0; j < i; j++)
            MUST(strcmp(weir_strerror(codes[i]), weir_strerror(codes[j])) != 0);
    }
    MUST(strncmp(weir_strerror(-EAGAIN), "no room now: ", 13) == 0);
    MUST(weir_strerror(5)[0] != '\0' && weir_strerror(-99999)[0] != '\0' && weir_strerror(0)[0] != '\0');
    for (int reason = 0; reason < WEIR_REASON_COUNT; reason++) {
        MUST(strlen(weir_reason_sentence((weir_reason)reason)) > 8);
        MUST(strchr(weir_reason_name((weir_reason)reason), ' ') == NULL); /* one word */
        for (int other = 0; other < reason; other++) {
            MUST(strcmp(weir_reason_name((weir_reason)reason), weir_reason_name((weir_reason)other)) != 0);
            MUST(strcmp(weir_reason_sentence((weir_reason)reason), weir_reason_sentence((weir_reason)other)) != 0);
        }
    }
    ck_assert_str_eq(weir_reason_name(WEIR_REASON_PEER), "peer");
    ck_assert_str_eq(weir_reason_name(WEIR_REASON_TOO_BIG), "too-big");
    MUST(weir_reason_name(WEIR_REASON_COUNT) != NULL && weir_reason_sentence(WEIR_REASON_COUNT) != NULL);
}
END_TEST

FIXTURE_MAIN("limits", first_message_in_time, each_message_in_time, idle_for_so_long, draining_for_so_long, for_ever_is_no_limit,
             timers_go_off_once_and_never_early, timers_move_and_clear, timers_may_free_themselves, config_values_out_of_range,
             config_values_at_their_bounds, the_limits_add_up, more_connections_wait_in_the_backlog, the_runtime_is_the_sum_of_its_shards,
             numbers_of_a_connection_while_it_works, the_age_of_what_is_queued, the_log_has_levels, a_sentence_for_everything)
