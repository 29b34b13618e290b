/* SPDX-License-Identifier: MIT */
/* test_base: the asserts first (everything else stands on them), then sentences and arithmetic. */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "death.h"
#include "runtime/base.h"

static void assert_three_is_four(void)
{
    W_ASSERT(3 == 4);
}

static void assert_with_a_low_word_of_zero(void)
{
    W_ASSERT(UINT64_C(0));
}

static void require_what_is_not(void)
{
    W_REQUIRE(2 > 3, "called on thread %d, not %d", 17, 4);
}

START_TEST(assert_fails)
{
    struct death death = death_of(assert_three_is_four);
    ck_assert_msg(death_is_abort(&death, "3 == 4 does not hold"), "status %d, said: %s", death.status, death.said);
    ck_assert_ptr_nonnull(strstr(death.said, "test_base.c:"));
    death = death_of(assert_with_a_low_word_of_zero);
    ck_assert(death_is_abort(&death, "weir: internal error"));
}
END_TEST

START_TEST(require_fails_and_says_who_and_why)
{
    struct death death = death_of(require_what_is_not);
    ck_assert_msg(death_is_abort(&death, "weir: misuse of require_what_is_not: called on thread 17, not 4\n"), "status %d, said: %s",
                  death.status, death.said);
}
END_TEST

/* More than an int's width, a pointer, a comma inside brackets, and evaluated once. */
START_TEST(assert_holds)
{
    int evaluated = 0;
    W_ASSERT(++evaluated == 1);
    W_REQUIRE(++evaluated == 2, "never said");
    ck_assert_int_eq(evaluated, 2);
    volatile uint64_t wide = UINT64_C(1) << 32;
    const char *volatile pointer = "somewhere";
    W_ASSERT(wide);
    W_ASSERT(pointer);
    W_ASSERT(w_base_min_u32(3, 4) == 3);
}
END_TEST

/* -1: neither branch was taken. */
static int branch_with_assert(bool first)
{
    int branch = -1;
    if (first)
        W_ASSERT((branch = 1) == 1);
    else
        branch = 2;
    return branch;
}

static int branch_with_require(bool first)
{
    int branch = -1;
    if (first)
        W_REQUIRE((branch = 1) == 1, "never said");
    else
        branch = 2;
    return branch;
}

START_TEST(assert_swallows_no_else)
{
    ck_assert_int_eq(branch_with_assert(true), 1);
    ck_assert_int_eq(branch_with_assert(false), 2);
    ck_assert_int_eq(branch_with_require(true), 1);
    ck_assert_int_eq(branch_with_require(false), 2);
    bool done = false;
    for (int i = 0; i < 1; W_ASSERT(i <= 1), i++)
        done = true;
    ck_assert(done);
}
END_TEST

/* Every code that a header of weir names has a sentence of weir's own, no two the same. */
START_TEST(errors_of_weir_have_sentences)
{
    static const int codes[] = {0,      EAGAIN, EMSGSIZE,   EBADMSG, EPIPE,  ENOTCONN, ESTALE, EXDEV,      ESHUTDOWN,    EDEADLK, EPERM,
                                ENOSYS, ENOMEM, EOPNOTSUPP, EMFILE,  ENFILE, ENOSPC,   EINVAL, EADDRINUSE, EHOSTUNREACH, EBUSY};
    for (size_t i = 0; i < W_COUNT(codes); i++) {
        const char *sentence = weir_strerror(-codes[i]);
        ck_assert_ptr_nonnull(sentence);
        ck_assert_uint_gt(strlen(sentence), 5);
        ck_assert_str_ne(sentence, strerrordesc_np(codes[i]));
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(sentence, weir_strerror(-codes[j]));
    }
}
END_TEST

START_TEST(other_errors_have_the_c_library_s)
{
    for (int code = 1; code < 200; code++) {
        const char *sentence = weir_strerror(-code);
        ck_assert_ptr_nonnull(sentence);
        ck_assert_uint_gt(strlen(sentence), 0);
        ck_assert_int_eq(strcmp(sentence, "not an error code of weir") == 0, strerrordesc_np(code) == NULL);
    }
    ck_assert_str_eq(weir_strerror(-ECONNRESET), strerrordesc_np(ECONNRESET));
}
END_TEST

START_TEST(unknown_errors_have_a_sentence)
{
    static const int unknown[] = {1, EAGAIN, EINVAL, INT_MAX, -4095, -100000, -INT_MAX};
    for (size_t i = 0; i < W_COUNT(unknown); i++)
        ck_assert_str_eq(weir_strerror(unknown[i]), "not an error code of weir");
}
END_TEST

START_TEST(reasons_have_words_and_sentences)
{
    for (int i = 0; i < WEIR_REASON_COUNT; i++) {
        const char *name = weir_reason_name((weir_reason)i), *sentence = weir_reason_sentence((weir_reason)i);
        ck_assert_msg(name != NULL && sentence != NULL, "reason %d has none", i);
        ck_assert_uint_gt(strlen(name), 0);
        ck_assert_uint_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), strlen(name));
        ck_assert_uint_gt(strlen(sentence), strlen(name));
        ck_assert_str_ne(name, "unknown");
        for (int j = 0; j < i; j++) {
            ck_assert_str_ne(name, weir_reason_name((weir_reason)j));
            ck_assert_str_ne(sentence, weir_reason_sentence((weir_reason)j));
        }
    }
    ck_assert_str_eq(weir_reason_name(WEIR_REASON_PEER), "peer");
    ck_assert_str_eq(weir_reason_name(WEIR_REASON_TOO_BIG), "too-big");
    static const int unknown[] = {WEIR_REASON_COUNT, -1, INT_MAX, INT_MIN};
    for (size_t i = 0; i < W_COUNT(unknown); i++) {
        ck_assert_str_eq(weir_reason_name((weir_reason)unknown[i]), "unknown");
        ck_assert_str_eq(weir_reason_sentence((weir_reason)unknown[i]), "not a reason of weir");
    }
}
END_TEST

START_TEST(fail_fills_the_error)
{
    weir_error error;
    char too_much[2 * sizeof error.sentence];
    memset(&error, 0xa5, sizeof error);
    ck_assert_int_eq(w_base_fail(&error, -EINVAL, "port %d of %s", 70000, "tcp"), -EINVAL);
    ck_assert_int_eq(error.code, -EINVAL);
    ck_assert_str_eq(error.sentence, "port 70000 of tcp");
    ck_assert_int_eq(w_base_fail(NULL, -EBUSY, "nobody listens"), -EBUSY);
    memset(too_much, 'x', sizeof too_much);
    too_much[sizeof too_much - 1] = 0;
    ck_assert_int_eq(w_base_fail(&error, -ENOMEM, "%s", too_much), -ENOMEM);
    ck_assert_uint_eq(strlen(error.sentence), sizeof error.sentence - 1);
}
END_TEST

START_TEST(arithmetic)
{
    ck_assert_uint_eq(w_base_min_u32(3, 4), 3);
    ck_assert_uint_eq(w_base_min_u32(UINT32_MAX, 4), 4);
    ck_assert_uint_eq(w_base_min_u64(UINT64_MAX, UINT64_C(1) << 40), UINT64_C(1) << 40);
    ck_assert_uint_eq(w_base_min_u64(1, UINT64_C(1) << 40), 1);
    ck_assert_uint_eq(w_base_add_saturated(3, 4), 7);
    ck_assert_uint_eq(w_base_add_saturated(UINT64_MAX - 4, 4), UINT64_MAX);
    ck_assert_uint_eq(w_base_add_saturated(UINT64_MAX - 4, 5), UINT64_MAX);
    ck_assert_uint_eq(w_base_add_saturated(WEIR_FOREVER, WEIR_FOREVER), UINT64_MAX);
    ck_assert_uint_eq(w_base_add_saturated(5, WEIR_FOREVER), UINT64_MAX);
    ck_assert_uint_eq(w_base_or_default(0, 7), 7);
    ck_assert_uint_eq(w_base_or_default(5, 7), 5);
}
END_TEST

struct outer {
    uint64_t first;
    uint32_t inner[3];
};

START_TEST(container)
{
    struct outer outer;
    ck_assert_ptr_eq(W_CONTAINER(&outer.inner, struct outer, inner), &outer);
    ck_assert_ptr_eq(W_CONTAINER(&outer.first, struct outer, first), &outer);
    ck_assert_uint_eq(W_COUNT(outer.inner), 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base");
    TCase *tests = tcase_create("base");
    tcase_add_test(tests, assert_fails);
    tcase_add_test(tests, require_fails_and_says_who_and_why);
    tcase_add_test(tests, assert_holds);
    tcase_add_test(tests, assert_swallows_no_else);
    tcase_add_test(tests, errors_of_weir_have_sentences);
    tcase_add_test(tests, other_errors_have_the_c_library_s);
    tcase_add_test(tests, unknown_errors_have_a_sentence);
    tcase_add_test(tests, reasons_have_words_and_sentences);
    tcase_add_test(tests, fail_fills_the_error);
    tcase_add_test(tests, arithmetic);
    tcase_add_test(tests, container);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
