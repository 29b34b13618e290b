/* SPDX-License-Identifier: MIT */
/* test_bell: the bell's contract with all sides in one hand, and against a slow and obvious model: a table of numbers that have rung. tests/race has what several
 * threads add. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "must.h"
#include "runtime/bell.h"

/* At the edges of words, of the first line, of middles. */
static const uint32_t edges[] = {0, 1, 62, 63, 64, 65, 127, 128, 191, 192, 255, 256, 257, 319, 320, 4095, 4096, 4097, 8191, 8192, 262143};
/* Of numbers that a bell has. */
static const uint32_t counts[] = {
    1, 2, 63, 64, 65, 128, 255, 256, 257, 320, 321, 4095, 4096, 4097, 8192, 8193, 262080, 262143, W_BELL_COUNT_MAX};

static struct w_bell bell;
static void *memory; /* as much as it wants and no byte more: AddressSanitizer looks at the end */

static void bell_of(uint32_t count)
{
    free(memory);
    memory = calloc(1, w_bell_bytes(count));
    memset(&bell, 0xa5, sizeof bell);
    w_bell_init(&bell, count, w_bell_bytes(count) == 0 ? NULL : memory);
}

static void tear_down(void)
{
    free(memory);
    memory = NULL;
}

static bool hears(uint32_t expected)
{
    uint32_t number = UINT32_MAX;
    return w_bell_hear(&bell, &number) && number == expected;
}

static bool hears_nothing(void)
{
    uint32_t number;
    return !w_bell_hear(&bell, &number);
}

/* --- each number --- */

START_TEST(each_number_is_heard_once)
{
    for (uint32_t i = 0; i < W_COUNT(counts); i++) {
        bell_of(counts[i]);
        MUST(!w_bell_is_rung(&bell) && !w_bell_is_due(&bell) && hears_nothing());
        for (uint32_t e = 0; e <= W_COUNT(edges); e++) {
            uint32_t number = e < W_COUNT(edges) ? edges[e] : counts[i] - 1;
            if (number >= counts[i])
                continue;
            MUST(!w_bell_ring(&bell, number));
            MUST(!w_bell_ring(&bell, number));
            MUST(w_bell_is_rung(&bell) && w_bell_is_due(&bell));
            MUST(hears(number));
            MUST(hears_nothing() && !w_bell_is_due(&bell));
        }
    }
}
END_TEST

/* All numbers of a large bell, in any order: each once. */
START_TEST(all_numbers)
{
    uint32_t count = counts[_i], number;
    uint8_t *heard = calloc(1, count);
    bell_of(count);
    for (uint32_t i = 0; i < count; i++) {
        number = (uint32_t)((uint64_t)i * 100003 % count);
        MUST(!w_bell_ring(&bell, number));
    }
    while (w_bell_hear(&bell, &number)) {
        MUST(number < count);
        heard[number]++;
    }
    for (uint32_t i = 0; i < count; i++) /* (100003 is a prime that divides none of the counts) */
        MUST_EQUAL(heard[i], 1);
    MUST(!w_bell_is_due(&bell));
    free(heard);
}
END_TEST

START_TEST(memory_beside_it)
{
    ck_assert_uint_eq(w_bell_bytes(0), 0);
    ck_assert_uint_eq(w_bell_bytes(1), 0);
    ck_assert_uint_eq(w_bell_bytes(256), 0);
    ck_assert_uint_eq(w_bell_bytes(257), sizeof(uint64_t));
    ck_assert_uint_eq(w_bell_bytes(4096), 60 * sizeof(uint64_t));
    ck_assert_uint_eq(w_bell_bytes(4097), 62 * sizeof(uint64_t));
    ck_assert_uint_eq(w_bell_bytes(W_BELL_COUNT_MAX), (4092 + 63) * sizeof(uint64_t));
}
END_TEST

/* A hop touches one line. */
START_TEST(first_words_lie_in_one_line)
{
    ck_assert_uint_eq(_Alignof(struct w_bell), 64);
    ck_assert_uint_eq(offsetof(struct w_bell, top), 0);
    ck_assert_uint_lt(offsetof(struct w_bell, asleep), 64);
    ck_assert_uint_lt(offsetof(struct w_bell, near_middle), 64);
    ck_assert_uint_le(offsetof(struct w_bell, near_words) + sizeof bell.near_words, 64);
    ck_assert_uint_le(offsetof(struct w_bell, count) + sizeof bell.count, 64);
}
END_TEST

/* --- while it is heard --- */

/* What rings between two answers is heard too, once for each time that it rang after it was heard; what rings again before that, once. */
START_TEST(rings_while_being_heard)
{
    for (uint32_t a = 0; a < W_COUNT(edges); a++)
        for (uint32_t b = 0; b < W_COUNT(edges); b++) {
            uint32_t first = edges[a] < edges[b] ? edges[a] : edges[b], second = edges[a] < edges[b] ? edges[b] : edges[a];
            if (first == second)
                continue;
            if (a == 0 && b == 1)
                bell_of(W_BELL_COUNT_MAX);
            MUST(!w_bell_ring(&bell, second) && !w_bell_ring(&bell, first));
            MUST(hears(first));
            MUST(!w_bell_ring(&bell, first)); /* heard already: once more */
            MUST(!w_bell_ring(&bell, second));
            MUST(w_bell_is_due(&bell));
            uint32_t number, heard_first = 0, heard_second = 0;
            while (w_bell_hear(&bell, &number)) {
                MUST(number == first || number == second);
                heard_first += number == first;
                heard_second += number == second;
            }
            /* In one word, the second's bit was taken with the first's, so its ring counts as one after that. */
            MUST_EQUAL(heard_first, 1);
            MUST_EQUAL(heard_second, first / 64 == second / 64 ? 2 : 1);
            MUST(!w_bell_is_due(&bell));
        }
}
END_TEST

/* Hearing in bits: what was taken and not answered yet is due. */
START_TEST(due_until_all_is_heard)
{
    static const uint32_t numbers[] = {3, 5, 64, 300, 4096, 4100, 4200, 262143};
    bell_of(W_BELL_COUNT_MAX);
    for (uint32_t i = 0; i < W_COUNT(numbers); i++)
        MUST(!w_bell_ring(&bell, numbers[i]));
    for (uint32_t i = 0; i < W_COUNT(numbers); i++) {
        MUST(w_bell_is_due(&bell) && !w_bell_doze(&bell));
        MUST(hears(numbers[i]));
    }
    MUST(!w_bell_is_due(&bell) && hears_nothing() && w_bell_doze(&bell));
}
END_TEST

/* --- asleep --- */

START_TEST(doze_and_rise)
{
    for (uint32_t e = 0; e < W_COUNT(edges); e++) {
        bell_of(W_BELL_COUNT_MAX);
        MUST(!w_bell_ring(&bell, edges[e]) && !w_bell_doze(&bell));
        MUST(hears(edges[e]));
        MUST(!w_bell_ring(&bell, edges[e])); /* a doze that failed leaves it awake */
        MUST(hears(edges[e]) && hears_nothing());
        MUST(w_bell_doze(&bell));
        MUST(w_bell_ring(&bell, edges[e]));  /* to be woken */
        MUST(!w_bell_ring(&bell, edges[e])); /* whoever rang it has seen to that */
        uint32_t other = edges[e] ^ 2;
        MUST(w_bell_ring(&bell, other)); /* who is the first of them is the engine's business */
        w_bell_rise(&bell);
        MUST(!w_bell_ring(&bell, edges[(e + 3) % W_COUNT(edges)]));
        uint32_t number, count = 0;
        while (w_bell_hear(&bell, &number))
            count++;
        MUST_EQUAL(count, 2u + (edges[(e + 3) % W_COUNT(edges)] != edges[e] && edges[(e + 3) % W_COUNT(edges)] != other));
        MUST(w_bell_doze(&bell));
        w_bell_rise(&bell);
        MUST(!w_bell_ring(&bell, 0) && hears(0) && hears_nothing());
    }
}
END_TEST

/* --- against the model --- */

static struct {
    struct chance chance;
    bool *rung; /* rung and not heard since */
    uint32_t rung_count;
    bool asleep;
} model;

static uint32_t some_number(void)
{
    switch (chance_below(&model.chance, 3)) {
    case 0:
        return (uint32_t)chance_any_size(&model.chance, 18) % bell.count;
    case 1:
        return edges[chance_below(&model.chance, W_COUNT(edges))] % bell.count;
    default:
        return (uint32_t)chance_below(&model.chance, bell.count);
    }
}

static void model_ring(void)
{
    uint32_t number = some_number();
    bool wakes = w_bell_ring(&bell, number), was_rung = model.rung[number];
    /* One that was taken and not answered yet may be rung anew; one that is still there is not. */
    MUST(!wakes || model.asleep);
    MUST(wakes || was_rung || !model.asleep);
    model.rung[number] = true;
    model.rung_count += !was_rung;
}

/* One number, or nothing, when nothing is left. A number may be heard for nothing when it rang again while the reader had its bit. */
static bool model_hear(void)
{
    uint32_t number;
    if (model.asleep)
        w_bell_rise(&bell);
    model.asleep = false;
    if (!w_bell_hear(&bell, &number)) {
        MUST_EQUAL(model.rung_count, 0);
        MUST(!w_bell_is_due(&bell));
        return false;
    }
    MUST(number < bell.count);
    model.rung_count -= model.rung[number];
    model.rung[number] = false;
    return true;
}

static void model_doze(void)
{
    bool due = w_bell_is_due(&bell);
    MUST(due || model.rung_count == 0);
    MUST_EQUAL(w_bell_doze(&bell), !due);
    model.asleep = !due;
}

START_TEST(as_the_model)
{
    if (!chance_seed_wanted((uint64_t)_i))
        return;
    model.chance.state = (uint64_t)_i;
    model.rung_count = 0;
    model.asleep = false;
    bell_of(counts[chance_below(&model.chance, W_COUNT(counts))]);
    model.rung = calloc(bell.count, sizeof *model.rung);
    for (uint32_t round = 0, naps = 0; round < 20000 || naps == 0; round++)
        switch (chance_below(&model.chance, 8)) {
        case 0:
            if (chance_one_in(&model.chance, 8))
                while (model_hear())
                    continue;
            break;
        case 1:
            if (!model.asleep)
                model_doze();
            naps += model.asleep;
            break;
        case 2:
        case 3:
        case 4:
            (void)model_hear();
            break;
        default:
            model_ring();
        }
    while (model_hear())
        continue;
    free(model.rung);
}
END_TEST

START_TEST(too_many_numbers_die)
{
    bell_of(W_BELL_COUNT_MAX);
    w_bell_init(&bell, W_BELL_COUNT_MAX + 1, memory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bell");
    TCase *tests = tcase_create("bell");
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, NULL, tear_down);
    tcase_add_test(tests, each_number_is_heard_once);
    tcase_add_loop_test(tests, all_numbers, 0, W_COUNT(counts));
    tcase_add_test(tests, memory_beside_it);
    tcase_add_test(tests, first_words_lie_in_one_line);
    tcase_add_test(tests, rings_while_being_heard);
    tcase_add_test(tests, due_until_all_is_heard);
    tcase_add_test(tests, doze_and_rise);
    tcase_add_loop_test(tests, as_the_model, 0, 40);
    tcase_add_test_raise_signal(tests, too_many_numbers_die, SIGABRT);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
