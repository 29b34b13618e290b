/* SPDX-License-Identifier: MIT */
/* must: ck_assert for the inside of loops. Check's own writes a mark into a pipe each time, which takes longer than what is tested. */
#ifndef TEST_MUST_H
#define TEST_MUST_H

#include <check.h>

#define MUST(condition) ((condition) ? (void)0 : ck_abort_msg("%s does not hold", #condition))

/* Both as signed numbers, shown when they differ. */
#define MUST_EQUAL(a, b)                                                                                                                   \
    do {                                                                                                                                   \
        long long must_a = (long long)(a), must_b = (long long)(b);                                                                        \
        if (must_a != must_b)                                                                                                              \
            ck_abort_msg("%s is %lld, %s is %lld", #a, must_a, #b, must_b);                                                                \
    } while (0)

#endif
