/* SPDX-License-Identifier: MIT */
/* test_histogram: the slots of weir-perf's histogram are gapless and at most 1 % wide, and its percentiles are right. */
#include "../../perf/histogram.c"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct histogram histogram, other;

static void start(void)
{
    memset(&histogram, 0, sizeof histogram);
    memset(&other, 0, sizeof other);
}

/* A number of any size: all sizes are as likely. */
static uint64_t random_value(void)
{
    uint64_t bits = ((uint64_t)(uint32_t)random() << 31) ^ (uint64_t)random();
    return bits >> (random() % 62);
}

START_TEST(slots_have_no_gaps)
{
    uint64_t least = 0;
    for (uint32_t slot = 0; slot < HISTOGRAM_COUNT; slot++) {
        uint64_t most = histogram_slot_most(slot);
        ck_assert_uint_ge(most, least);
        ck_assert_uint_eq(histogram_slot(least), slot);
        ck_assert_uint_eq(histogram_slot(most), slot);
        ck_assert_msg((most - least) * 100 <= least, "slot %u, from %llu to %llu, is wider than 1 %%", slot, (unsigned long long)least,
                      (unsigned long long)most);
        least = most + 1;
    }
    ck_assert_uint_eq(least, HISTOGRAM_MOST_NS + 1);
    ck_assert_uint_ge(HISTOGRAM_MOST_NS, 100000000000ull);
}
END_TEST

START_TEST(a_value_lies_in_its_slot)
{
    for (int i = 0; i < 100000; i++) {
        uint64_t value = random_value();
        uint32_t slot = histogram_slot(value);
        ck_assert_uint_lt(slot, HISTOGRAM_COUNT);
        if (value > HISTOGRAM_MOST_NS)
            continue;
        ck_assert_uint_le(value, histogram_slot_most(slot));
        if (slot > 0)
            ck_assert_uint_gt(value, histogram_slot_most(slot - 1));
    }
}
END_TEST

START_TEST(empty_is_all_zero)
{
    ck_assert_uint_eq(histogram_percentile(&histogram, 50), 0);
    ck_assert_uint_eq(histogram_percentile(&histogram, 100), 0);
    ck_assert(histogram_mean(&histogram) == 0);
}
END_TEST

START_TEST(one_value_is_every_percentile)
{
    static const double percents[] = {0, 1, 50, 99.9, 100};
    histogram_record(&histogram, 123456789);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++)
        ck_assert_uint_eq(histogram_percentile(&histogram, percents[i]), 123456789); /* no more than the maximum */
    ck_assert(histogram_mean(&histogram) == 123456789);
    ck_assert_uint_eq(histogram.least_ns, 123456789);
}
END_TEST

/* Small values have slots of their own, so the ranks must be exact. */
START_TEST(ranks_are_exact)
{
    for (uint64_t value = 1; value <= 100; value++)
        histogram_record(&histogram, value);
    ck_assert_uint_eq(histogram_percentile(&histogram, 0), 1);
    ck_assert_uint_eq(histogram_percentile(&histogram, 1), 1);
    ck_assert_uint_eq(histogram_percentile(&histogram, 1.5), 2);
    ck_assert_uint_eq(histogram_percentile(&histogram, 50), 50);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99), 99);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99.9), 100);
    ck_assert_uint_eq(histogram_percentile(&histogram, 100), 100);
    ck_assert(histogram_mean(&histogram) == 50.5);
}
END_TEST

/* 99.9 / 100 * 1000 is a hair more than 999 in floating point. */
START_TEST(rounding_does_not_move_a_rank)
{
    for (uint64_t value = 1; value <= 999; value++)
        histogram_record(&histogram, 10);
    histogram_record(&histogram, 200);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99.9), 10);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99.91), 200);
}
END_TEST

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

START_TEST(percentiles_agree_with_sorting)
{
    enum { COUNT = 20000 };
    static const double percents[] = {1, 10, 50, 90, 99, 99.9, 100};
    static uint64_t values[COUNT];
    for (int i = 0; i < COUNT; i++) {
        values[i] = random_value() % 100000000000ull;
        histogram_record(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof *values, compare);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        uint64_t exact = values[(size_t)(percents[i] / 100 * COUNT + 0.5) - 1];
        uint64_t found = histogram_percentile(&histogram, percents[i]);
        ck_assert_uint_ge(found, exact);
        ck_assert_uint_le(found, exact + exact / 100);
    }
}
END_TEST

START_TEST(merging_is_as_recording_in_one)
{
    static struct histogram both;
    memset(&both, 0, sizeof both);
    histogram_merge(&histogram, &other); /* empty into empty */
    ck_assert_uint_eq(histogram.count, 0);
    for (int i = 0; i < 10000; i++) {
        uint64_t value = random_value() % 1000000000u; /* sums below 2^53 are exact, so even the means must agree */
        histogram_record(i % 3 == 0 ? &histogram : &other, value);
        histogram_record(&both, value);
    }
    histogram_merge(&histogram, &other);
    ck_assert_mem_eq(&histogram, &both, sizeof both);
    memset(&other, 0, sizeof other);
    histogram_merge(&histogram, &other); /* empty changes nothing */
    ck_assert_mem_eq(&histogram, &both, sizeof both);
    histogram_merge(&other, &histogram); /* into empty is a copy */
    ck_assert_mem_eq(&other, &both, sizeof both);
}
END_TEST

START_TEST(beyond_the_end_keeps_the_maximum)
{
    histogram_record(&histogram, 5);
    histogram_record(&histogram, HISTOGRAM_MOST_NS + 1);
    histogram_record(&histogram, 1000000000000ull);
    ck_assert_uint_eq(histogram.count, 3);
    ck_assert_uint_eq(histogram.slots[HISTOGRAM_COUNT - 1], 2);
    ck_assert_uint_eq(histogram_percentile(&histogram, 99), 1000000000000ull);
    ck_assert_uint_eq(histogram_percentile(&histogram, 30), 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("histogram");
    TCase *cases = tcase_create("histogram");
    tcase_add_checked_fixture(cases, start, NULL);
    tcase_add_test(cases, slots_have_no_gaps);
    tcase_add_test(cases, a_value_lies_in_its_slot);
    tcase_add_test(cases, empty_is_all_zero);
    tcase_add_test(cases, one_value_is_every_percentile);
    tcase_add_test(cases, ranks_are_exact);
    tcase_add_test(cases, rounding_does_not_move_a_rank);
    tcase_add_test(cases, percentiles_agree_with_sorting);
    tcase_add_test(cases, merging_is_as_recording_in_one);
    tcase_add_test(cases, beyond_the_end_keeps_the_maximum);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
