/* SPDX-License-Identifier: MIT */
/* test_wheel: timers against a slow and obvious model: a table of due times that is looked through every time. */
#include <check.h>
#include <signal.h>
#include <string.h>

#include "chance.h"
#include "must.h"
#include "runtime/wheel.h"

#define MINUTE (60 * WEIR_SECOND)
#define DAY    (24 * 60 * MINUTE)
#define START  UINT64_C(123456789012345)

#define ENTRY_COUNT 200

struct model_entry {
    struct w_wheel_entry entry;
    bool is_set;
    bool is_past;      /* true exactly when it was due already when it was set */
    uint64_t due_ns;   /* as asked for */
    uint64_t set_ns;   /* the wheel's time then */
    uint64_t set_turn; /* the turn in whose callbacks it was set; 0: between turns */
    uint64_t order;    /* rising with each set */
};

struct model {
    struct w_wheel wheel;
    struct chance chance;
    uint64_t now_ns;
    uint64_t turn;      /* counts from 1; 0 while none is running */
    uint64_t turns;     /* turns begun */
    uint64_t order;     /* sets made */
    uint64_t set_count; /* entries set */
    uint64_t fired, fired_in_turn;
    bool meddles;              /* callbacks set and clear */
    struct w_wheel_entry last; /* what went off last in this turn and was not set in the past, as it was */
    uint64_t last_order;
    struct model_entry entries[ENTRY_COUNT];
};

static struct model model;

/* When an entry is too late: the promise of wheel.h and of weir_timer_set(). */
static uint64_t late_ns(const struct model_entry *entry)
{
    if (entry->is_past)
        return entry->set_ns;
    uint64_t distance_ns = entry->due_ns - entry->set_ns;
    uint64_t reach_ns = 400 * DAY;
    if (distance_ns > reach_ns)
        return UINT64_MAX;
    return entry->due_ns + distance_ns / 64 + WEIR_MILLISECOND;
}

/* When it may go off: not before it is due, unless that was beyond reach. */
static uint64_t early_ns(const struct model_entry *entry)
{
    return entry->due_ns - entry->set_ns > 400 * DAY && !entry->is_past ? entry->set_ns + 400 * DAY : entry->due_ns;
}

static void model_set(struct model_entry *entry, uint16_t kind, uint64_t due_ns)
{
    model.set_count += !entry->is_set;
    entry->is_set = true;
    entry->due_ns = due_ns;
    entry->set_ns = model.now_ns;
    entry->is_past = due_ns <= model.now_ns;
    entry->set_turn = model.turn;
    entry->order = ++model.order;
    w_wheel_set(&model.wheel, &entry->entry, kind, due_ns);
}

static void model_clear(struct model_entry *entry)
{
    model.set_count -= entry->is_set;
    entry->is_set = false;
    w_wheel_clear(&model.wheel, &entry->entry);
}

/* Any distance from nothing to beyond reach, the past, and the places where grains change. */
static uint64_t some_due_ns(void)
{
    uint64_t now_ns = model.now_ns;
    switch (chance_below(&model.chance, 12)) {
    case 0:
        return chance_below(&model.chance, now_ns);
    case 1:
        return now_ns;
    case 2:
        return chance_one_in(&model.chance, 2) ? UINT64_MAX : now_ns + 500 * DAY;
    case 3: {
        uint64_t ticks = UINT64_C(64) << chance_below(&model.chance, 29);
        ticks += chance_below(&model.chance, 5) - 2;
        return now_ns + ticks * W_WHEEL_TICK_NS + chance_below(&model.chance, 3) - 1;
    }
    case 4:
    case 5:
        return now_ns + chance_below(&model.chance, 200 * WEIR_MILLISECOND);
    default:
        return now_ns + chance_any_size(&model.chance, 54);
    }
}

static struct model_entry *some_entry(void)
{
    return &model.entries[chance_below(&model.chance, ENTRY_COUNT)];
}

static void meddle(struct model_entry *self)
{
    for (uint64_t i = chance_below(&model.chance, 3); i > 0; i--) {
        struct model_entry *entry = chance_one_in(&model.chance, 3) ? self : some_entry();
        uint16_t kind = (uint16_t)chance_below(&model.chance, 2);
        if (chance_one_in(&model.chance, 2))
            model_set(entry, kind, some_due_ns());
        else
            model_clear(entry);
    }
}

static void goes_off(struct w_wheel_entry *wheel_entry, void *context, uint64_t now_ns)
{
    struct model_entry *entry = W_CONTAINER(wheel_entry, struct model_entry, entry);
    MUST(context == &model);
    MUST_EQUAL(now_ns, model.now_ns);
    MUST(!w_wheel_is_set(wheel_entry));
    MUST(entry->is_set);
    if (!(now_ns >= early_ns(entry)))
        ck_abort_msg("early by %lu ns of %lu", entry->due_ns - now_ns, entry->due_ns - entry->set_ns);
    if (!(entry->set_turn != model.turn || !entry->is_past))
        ck_abort_msg("set in the past in this turn: has to wait for the next");
    if (!entry->is_past) {
        bool in_order =
            model.last.due_tick < wheel_entry->due_tick ||
            (model.last.due_tick == wheel_entry->due_tick && (model.last.bucket != wheel_entry->bucket || model.last_order < entry->order));
        if (!(in_order))
            ck_abort_msg("went off out of order");
        model.last = *wheel_entry;
        model.last_order = entry->order;
    }
    entry->is_set = false;
    model.set_count--;
    model.fired++;
    model.fired_in_turn++;
    if (model.meddles)
        meddle(entry);
}

static void goes_off_1(struct w_wheel_entry *entry, void *context, uint64_t now_ns)
{
    MUST_EQUAL(entry->kind, 1);
    goes_off(entry, context, now_ns);
}

static void goes_off_0(struct w_wheel_entry *entry, void *context, uint64_t now_ns)
{
    MUST_EQUAL(entry->kind, 0);
    goes_off(entry, context, now_ns);
}

static void model_start(uint64_t seed, bool meddles)
{
    memset(&model, 0, sizeof model);
    memset(&model.wheel, 0xa5, sizeof model.wheel);
    model.chance.state = seed;
    model.now_ns = START;
    model.meddles = meddles;
    w_wheel_init(&model.wheel, START, &model);
    model.wheel.callbacks[0] = goes_off_0;
    model.wheel.callbacks[1] = goes_off_1;
}

/* Entries of a ring; checks that its links hold. */
static uint64_t ring_count(const struct w_wheel_entry *first)
{
    uint64_t count = 0;
    const struct w_wheel_entry *entry = first;
    if (first == NULL)
        return 0;
    do {
        MUST(entry->next->previous == entry);
        entry = entry->next;
        count++;
    } while (entry != first);
    return count;
}

/* The invariant of wheel.h. */
static void check_invariant(void)
{
    const struct w_wheel *wheel = &model.wheel;
    uint64_t count = ring_count(wheel->due) + ring_count(wheel->late), first_tick = UINT64_MAX;
    for (uint32_t i = 0; i < W_WHEEL_LEVELS * W_WHEEL_BUCKETS; i++) {
        uint32_t level = i / W_WHEEL_BUCKETS, place = i % W_WHEEL_BUCKETS;
        const struct w_wheel_entry *first = wheel->buckets[i];
        MUST_EQUAL(first != NULL, wheel->filled[level][place / 64] >> place % 64 & 1);
        MUST(first == NULL || (wheel->levels >> level & 1) != 0);
        count += ring_count(first);
        const struct w_wheel_entry *entry = first;
        for (; entry != NULL; entry = entry->next != first ? entry->next : NULL) {
            MUST_EQUAL(entry->bucket, i);
            MUST_EQUAL(entry->due_tick, first->due_tick);
            MUST(entry->due_tick > wheel->tick);
        }
        if (first != NULL && first->due_tick < first_tick)
            first_tick = first->due_tick;
    }
    for (uint32_t level = 0; level < W_WHEEL_LEVELS; level++) {
        const uint64_t *filled = wheel->filled[level];
        MUST_EQUAL(wheel->levels >> level & 1, (filled[0] | filled[1] | filled[2] | filled[3]) != 0);
    }
    MUST(first_tick >= wheel->next_tick);
    MUST(!wheel->next_is_exact || first_tick == wheel->next_tick);
    MUST_EQUAL(count, wheel->count);
    MUST_EQUAL(count, model.set_count);
    MUST_EQUAL(wheel->tick, (model.now_ns - START) / W_WHEEL_TICK_NS);
}

static void check_next(void)
{
    uint64_t next_ns = w_wheel_next_ns(&model.wheel);
    if (model.set_count == 0)
        MUST_EQUAL(next_ns, W_WHEEL_NEVER);
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        if (!model.entries[i].is_set)
            continue;
        if (!(next_ns <= model.now_ns || next_ns <= late_ns(&model.entries[i])))
            ck_abort_msg("next_ns makes entry %zu late", i);
        MUST(next_ns != W_WHEEL_NEVER);
    }
}

/* One turn at `now_ns`, and what must have come of it. */
static uint32_t model_turn(uint64_t now_ns, uint32_t max)
{
    model.now_ns = now_ns;
    model.turn = ++model.turns;
    model.fired_in_turn = 0;
    memset(&model.last, 0, sizeof model.last);
    uint32_t count = w_wheel_turn(&model.wheel, now_ns, max);
    MUST_EQUAL(count, model.fired_in_turn);
    MUST(count <= max);
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        struct model_entry *entry = &model.entries[i];
        MUST_EQUAL(entry->is_set, w_wheel_is_set(&entry->entry));
        bool has_waited = !entry->is_past || entry->set_turn != model.turn;
        if (entry->is_set && has_waited && count < max)
            if (!(now_ns < late_ns(entry)))
                ck_abort_msg("late by %lu of %lu", now_ns - entry->due_ns, entry->due_ns - entry->set_ns);
    }
    model.turn = 0;
    return count;
}

static void model_advance(uint64_t now_ns)
{
    uint64_t fired = model.fired;
    model.now_ns = now_ns;
    w_wheel_advance(&model.wheel, now_ns);
    MUST_EQUAL(model.fired, fired);
}

static uint64_t some_later_ns(void)
{
    switch (chance_below(&model.chance, 6)) {
    case 0:
        return model.now_ns;
    case 1:
        return model.now_ns + chance_any_size(&model.chance, 55);
    case 2: {
        uint64_t next_ns = w_wheel_next_ns(&model.wheel);
        return next_ns == W_WHEEL_NEVER || next_ns < model.now_ns ? model.now_ns : next_ns;
    }
    default:
        return model.now_ns + chance_any_size(&model.chance, 32);
    }
}

START_TEST(as_the_model)
{
    if (!chance_seed_wanted((uint64_t)_i))
        return;
    model_start((uint64_t)_i, _i % 2 == 1);
    for (int round = 0; round < 3000; round++) {
        struct model_entry *entry = some_entry();
        uint64_t later_ns = some_later_ns(), due_ns = some_due_ns(), some = chance_below(&model.chance, 5);
        switch (chance_below(&model.chance, 8)) {
        case 0:
        case 1:
        case 2:
        case 3:
            model_set(entry, (uint16_t)(some % 2), due_ns);
            break;
        case 4:
            model_clear(entry);
            break;
        case 5:
            if (some == 0)
                model_advance(later_ns);
            break;
        case 6:
            model_turn(later_ns, UINT32_MAX);
            break;
        default:
            model_turn(later_ns, (uint32_t)some);
        }
        if (round % 16 == 0)
            check_invariant();
        check_next();
    }
    MUST(model.fired > 100);
}
END_TEST

/* Sleeping until next_ns and no longer: each wake-up finds something, and a nanosecond earlier there is nothing. */
START_TEST(no_wake_up_for_nothing)
{
    model_start((uint64_t)_i + 500, false);
    for (int round = 0; round < 400; round++) {
        for (uint64_t i = chance_below(&model.chance, 8); i > 0; i--)
            model_set(&model.entries[i], 0, some_due_ns());
        for (uint64_t i = chance_below(&model.chance, 3); i > 0; i--)
            model_clear(&model.entries[chance_below(&model.chance, 8)]);
        uint64_t next_ns = w_wheel_next_ns(&model.wheel);
        if (next_ns == W_WHEEL_NEVER)
            continue;
        if (next_ns > model.now_ns)
            MUST_EQUAL(model_turn(next_ns - 1, UINT32_MAX), 0);
        MUST_EQUAL(w_wheel_next_ns(&model.wheel), next_ns);
        MUST(model_turn(next_ns > model.now_ns ? next_ns : model.now_ns, UINT32_MAX) > 0);
    }
}
END_TEST

/* Each distance about each change of grain, from each place in a grain: on time to the promise. */
START_TEST(lateness_at_every_grain)
{
    model_start(1, false);
    struct model_entry *entry = &model.entries[0];
    for (uint32_t shift = 0; shift <= 35; shift++)
        for (int64_t more = -3; more <= 3; more++)
            for (uint64_t phase = 0; phase < 8; phase++) {
                uint64_t base_ticks = UINT64_C(1) << shift;
                uint64_t distance_ns = base_ticks * W_WHEEL_TICK_NS;
                if (more < 0 && base_ticks < (uint64_t)-more)
                    continue;
                distance_ns += (uint64_t)more * W_WHEEL_TICK_NS / 2;
                model_advance(model.now_ns + (base_ticks / 8 * phase + phase) * (W_WHEEL_TICK_NS / 7));
                model_set(entry, 0, model.now_ns + distance_ns);
                uint64_t next_ns = w_wheel_next_ns(&model.wheel);
                if (!entry->is_past) {
                    MUST(next_ns >= early_ns(entry));
                    MUST(next_ns <= late_ns(entry));
                    MUST_EQUAL(model_turn(next_ns - 1, 1), 0);
                }
                MUST_EQUAL(model_turn(next_ns, 2), 1);
            }
}
END_TEST

/* Below 128 ticks the grain is a tick: what is due at a tick goes off at it, what is due just after waits for the next. */
START_TEST(exact_to_the_tick_when_it_is_near)
{
    for (uint64_t ticks = 1; ticks < 128; ticks++)
        for (uint64_t more_ns = 0; more_ns <= 1; more_ns++) {
            model_start(1, false);
            model_set(&model.entries[0], 0, START + ticks * W_WHEEL_TICK_NS + more_ns);
            MUST_EQUAL(w_wheel_next_ns(&model.wheel), START + (ticks + more_ns) * W_WHEEL_TICK_NS);
        }
}
END_TEST

START_TEST(beyond_reach_is_cut)
{
    static const uint64_t far_ns[] = {UINT64_MAX, UINT64_MAX - 1, START + 418 * DAY, UINT64_C(1) << 63};
    for (size_t i = 0; i < W_COUNT(far_ns); i++) {
        model_start(1, false);
        model_set(&model.entries[0], 0, far_ns[i]);
        uint64_t next_ns = w_wheel_next_ns(&model.wheel);
        ck_assert_uint_ge(next_ns, START + 400 * DAY);
        ck_assert_uint_le(next_ns, START + 430 * DAY);
        ck_assert_uint_eq(model_turn(next_ns - 1, 1), 0);
        ck_assert_uint_eq(model_turn(next_ns, 1), 1);
    }
    model_start(1, false);
    model_set(&model.entries[0], 0, START + 400 * DAY);
    ck_assert_uint_eq(model_turn(START + 400 * DAY - 1, 1), 0);
    ck_assert_uint_eq(model_turn(START + 407 * DAY, 1), 1);
}
END_TEST

/* A year at once with something in every level; a walk of the ticks would take minutes. */
START_TEST(jump_of_a_year)
{
    model_start(7, false);
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < ENTRY_COUNT; i++)
            model_set(&model.entries[i], 1, model.now_ns + 1 + chance_any_size(&model.chance, 54));
        ck_assert_uint_eq(model_turn(model.now_ns + 365 * DAY, UINT32_MAX), ENTRY_COUNT);
        ck_assert_uint_eq(w_wheel_next_ns(&model.wheel), W_WHEEL_NEVER);
    }
    check_invariant();
}
END_TEST

START_TEST(at_most_max)
{
    model_start(3, false);
    for (size_t i = 0; i < 10; i++)
        model_set(&model.entries[i], 0, START + (i + 1) * WEIR_SECOND);
    model_set(&model.entries[10], 0, START + 2 * MINUTE);
    uint64_t now_ns = START + MINUTE;
    ck_assert_uint_eq(model_turn(now_ns, 0), 0);
    ck_assert_uint_eq(model_turn(now_ns, 3), 3);
    ck_assert(!model.entries[2].is_set && model.entries[3].is_set);
    ck_assert_uint_le(w_wheel_next_ns(&model.wheel), now_ns);
    /* What waits for its turn can be cleared and moved: the first, one inside, the last. */
    model_clear(&model.entries[3]);
    model_clear(&model.entries[5]);
    model_set(&model.entries[9], 0, now_ns + 3 * MINUTE);
    check_invariant();
    ck_assert_uint_eq(model_turn(now_ns, 4), 4);
    ck_assert_uint_eq(w_wheel_next_ns(&model.wheel) > now_ns, 1);
    ck_assert_uint_eq(model_turn(now_ns, 4), 0);
    ck_assert_uint_eq(model.wheel.count, 2);
}
END_TEST

START_TEST(past_goes_off_at_the_next_turn)
{
    model_start(3, false);
    model_advance(START + MINUTE);
    model_set(&model.entries[0], 0, 0);
    model_set(&model.entries[1], 0, START);
    model_set(&model.entries[2], 0, START + MINUTE);
    model_set(&model.entries[3], 0, START + MINUTE + 1);
    ck_assert_uint_le(w_wheel_next_ns(&model.wheel), START + MINUTE);
    model_clear(&model.entries[0]);
    check_invariant();
    ck_assert_uint_eq(model_turn(START + MINUTE, 10), 2);
    ck_assert(model.entries[3].is_set);
    ck_assert_uint_eq(model_turn(START + MINUTE + WEIR_MILLISECOND + 1, 10), 1);
}
END_TEST

static void sets_itself_in_the_past(struct w_wheel_entry *entry, void *context, uint64_t now_ns)
{
    uint64_t *count = context;
    (*count)++;
    w_wheel_set(&model.wheel, entry, 0, now_ns);
}

START_TEST(one_that_always_sets_itself_does_not_hold_the_turn)
{
    uint64_t count = 0;
    struct w_wheel_entry entry = {0};
    w_wheel_init(&model.wheel, START, &count);
    model.wheel.callbacks[0] = sets_itself_in_the_past;
    w_wheel_set(&model.wheel, &entry, 0, START);
    for (uint64_t turn = 1; turn <= 5; turn++) {
        ck_assert_uint_eq(w_wheel_turn(&model.wheel, START, 100), 1);
        ck_assert_uint_eq(count, turn);
    }
    w_wheel_clear(&model.wheel, &entry);
    ck_assert_uint_eq(w_wheel_turn(&model.wheel, START, 100), 0);
}
END_TEST

START_TEST(in_the_order_of_time)
{
    static const uint64_t due_ms[] = {5000, 10, 70, 20, 70, 3600000, 10, 600, 70};
    static const size_t order[] = {1, 6, 3, 2, 4, 8, 7, 0, 5};
    for (int together = 0; together <= 1; together++) {
        model_start(3, false);
        for (size_t i = 0; i < W_COUNT(due_ms); i++)
            model_set(&model.entries[i], 0, START + due_ms[i] * WEIR_MILLISECOND);
        for (size_t i = 0; i < W_COUNT(order); i++) {
            uint64_t now_ns = together ? START + 2 * 60 * MINUTE : w_wheel_next_ns(&model.wheel);
            ck_assert_uint_eq(model_turn(now_ns > model.now_ns ? now_ns : model.now_ns, 1), 1);
            ck_assert(!model.entries[order[i]].is_set);
        }
    }
}
END_TEST

/* A distance counts from the time last told, not from the last timer. */
START_TEST(short_distance_after_a_long_sleep)
{
    model_start(3, false);
    model_set(&model.entries[0], 0, START + WEIR_SECOND);
    model_advance(START + 24 * 60 * MINUTE);
    model_set(&model.entries[1], 0, model.now_ns + 10 * WEIR_MILLISECOND);
    ck_assert_uint_eq(model_turn(model.now_ns, 10), 1);
    ck_assert_uint_le(w_wheel_next_ns(&model.wheel), model.now_ns + 11 * WEIR_MILLISECOND + 160000);
    check_invariant();
}
END_TEST

START_TEST(time_never_goes_back)
{
    model_start(3, false);
    model_turn(START + MINUTE, 1);
    w_wheel_advance(&model.wheel, START);
    ck_assert_uint_eq(w_wheel_turn(&model.wheel, START, 1), 0);
    check_invariant();
}
END_TEST

START_TEST(clear_of_what_is_not_set)
{
    model_start(3, false);
    struct w_wheel_entry entry = {0};
    ck_assert(!w_wheel_is_set(&entry));
    w_wheel_clear(&model.wheel, &entry);
    w_wheel_set(&model.wheel, &entry, 0, START + MINUTE);
    ck_assert(w_wheel_is_set(&entry));
    w_wheel_clear(&model.wheel, &entry);
    w_wheel_clear(&model.wheel, &entry);
    ck_assert(!w_wheel_is_set(&entry));
    ck_assert_uint_eq(model.wheel.count, 0);
    ck_assert_uint_eq(w_wheel_next_ns(&model.wheel), W_WHEEL_NEVER);
}
END_TEST

START_TEST(set_without_a_callback_dies)
{
    struct w_wheel_entry entry = {0};
    model_start(3, false);
    w_wheel_set(&model.wheel, &entry, _i == 0 ? 2 : W_WHEEL_KINDS, START);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wheel");
    TCase *tests = tcase_create("wheel");
    tcase_set_timeout(tests, 10);
    tcase_add_loop_test(tests, as_the_model, 0, 40);
    tcase_add_loop_test(tests, no_wake_up_for_nothing, 0, 20);
    tcase_add_test(tests, lateness_at_every_grain);
    tcase_add_test(tests, exact_to_the_tick_when_it_is_near);
    tcase_add_test(tests, beyond_reach_is_cut);
    tcase_add_test(tests, jump_of_a_year);
    tcase_add_test(tests, at_most_max);
    tcase_add_test(tests, past_goes_off_at_the_next_turn);
    tcase_add_test(tests, one_that_always_sets_itself_does_not_hold_the_turn);
    tcase_add_test(tests, in_the_order_of_time);
    tcase_add_test(tests, short_distance_after_a_long_sleep);
    tcase_add_test(tests, time_never_goes_back);
    tcase_add_test(tests, clear_of_what_is_not_set);
    tcase_add_loop_test_raise_signal(tests, set_without_a_callback_dies, SIGABRT, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
