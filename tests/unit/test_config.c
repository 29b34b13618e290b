/* SPDX-License-Identifier: MIT */
/* test_config: every zero has its default, every range its two ends, every refusal names the value; and the same for a protocol's limits. */
#include <check.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <string.h>

#include "poor.h"
#include "runtime/config.h"
#include "runtime/limits.h"

START_TEST(defaults)
{
    weir_config complete, given = {0};
    memset(&complete, 0xa5, sizeof complete);
    ck_assert_int_eq(w_config_complete(_i == 0 ? NULL : &given, &complete, NULL), 0);
    cpu_set_t allowed;
    ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    ck_assert_uint_eq(complete.shards, (uint32_t)CPU_COUNT(&allowed));
    ck_assert_uint_eq(complete.connections, 16384);
    ck_assert_uint_eq(complete.listeners, 64);
    ck_assert_uint_eq(complete.dials, 1024);
    ck_assert_uint_eq(complete.ports, 32);
    ck_assert_uint_eq(complete.channels, 1024);
    ck_assert_uint_eq(complete.groups, 256);
    ck_assert_uint_eq(complete.memory_bytes, 64 << 20);
    ck_assert_uint_eq(complete.assembly_bytes, 16 << 20);
    ck_assert_uint_eq(complete.port_bytes, 16 << 20);
    ck_assert_uint_eq(complete.ring_bytes, 128 << 10);
    ck_assert_uint_eq(complete.send_bytes, 256 << 10);
    ck_assert_uint_eq(complete.receive_buffers, 64);
    ck_assert_uint_eq(complete.receive_buffer_bytes, 0); /* the engine's */
    ck_assert_uint_eq(complete.stop_ns, 5 * WEIR_SECOND);
    ck_assert_uint_eq(complete.long_turn_ns, 20 * WEIR_MILLISECOND);
    ck_assert_uint_eq(complete.spin_ns, 0);
    ck_assert(!complete.pin);
}
END_TEST

/* Who may not know how many cpus there are has one shard. */
START_TEST(cpus_nobody_knows_of)
{
    weir_config complete;
    poor_answer_with(&(struct poor_answer){__NR_sched_getaffinity, 1, sizeof(cpu_set_t), EPERM});
    ck_assert_int_eq(w_config_complete(NULL, &complete, NULL), 0);
    ck_assert_uint_eq(complete.shards, 1);
}
END_TEST

static weir_allocator allocator; /* an address to recognise */

static void *allocate_nothing(void *user, size_t bytes, size_t alignment)
{
    (void)user, (void)bytes, (void)alignment;
    return NULL;
}

static void release_nothing(void *user, void *memory, size_t bytes)
{
    (void)user, (void)memory, (void)bytes;
}

START_TEST(the_default_allocator)
{
    weir_config complete;
    ck_assert_int_eq(w_config_complete(NULL, &complete, NULL), 0);
    for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
        void *memory = complete.allocator.allocate(complete.allocator.user, 1000, alignment);
        ck_assert_ptr_nonnull(memory);
        ck_assert_uint_eq((uintptr_t)memory % alignment, 0);
        memset(memory, 1, 1000);
        complete.allocator.release(complete.allocator.user, memory, 1000);
    }
}
END_TEST

START_TEST(an_allocator_is_both_functions)
{
    weir_config given = {.allocator = {.allocate = allocate_nothing, .release = release_nothing, .user = &allocator}}, complete;
    weir_error error = {0};
    ck_assert_int_eq(w_config_complete(&given, &complete, NULL), 0);
    ck_assert(complete.allocator.allocate == allocate_nothing && complete.allocator.user == &allocator);
    given.allocator.release = NULL;
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.sentence, "allocator"));
    given.allocator = (weir_allocator){.release = release_nothing};
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), -EINVAL);
}
END_TEST

/* A number of the config, and from where to where it may be. */
static const struct range {
    const char *name;
    size_t offset;
    bool wide;
    uint64_t least, most;
} ranges[] = {
    {"shards", offsetof(weir_config, shards), false, 1, 1024},
    {"connections", offsetof(weir_config, connections), false, 1, 1 << 20},
    {"listeners", offsetof(weir_config, listeners), false, 1, 1024},
    {"dials", offsetof(weir_config, dials), false, 1, 65536},
    {"ports", offsetof(weir_config, ports), false, 1, 4096},
    {"channels", offsetof(weir_config, channels), false, 1, 65536},
    {"groups", offsetof(weir_config, groups), false, 1, 65536},
    {"memory_bytes", offsetof(weir_config, memory_bytes), true, 1 << 20, UINT64_C(1) << 40},
    {"receive_buffers", offsetof(weir_config, receive_buffers), false, 8, 32768},
    {"receive_buffer_bytes", offsetof(weir_config, receive_buffer_bytes), false, 4096, 1 << 20},
    {"port_bytes", offsetof(weir_config, port_bytes), true, 64 << 10, UINT64_C(1) << 40},
    {"ring_bytes", offsetof(weir_config, ring_bytes), false, 16 << 10, 16 << 20},
    {"send_bytes", offsetof(weir_config, send_bytes), false, 4096, 1 << 30},
};

static int try_number(const struct range *range, uint64_t value, weir_error *error)
{
    weir_config given = {0}, complete;
    if (range->wide)
        *(uint64_t *)(void *)((char *)&given + range->offset) = value;
    else
        *(uint32_t *)(void *)((char *)&given + range->offset) = (uint32_t)value;
    int result = w_config_complete(&given, &complete, error);
    if (result == 0) {
        void *field = (char *)&complete + range->offset;
        ck_assert_uint_eq(range->wide ? *(uint64_t *)field : *(uint32_t *)field, value);
    }
    return result;
}

START_TEST(numbers)
{
    const struct range *range = &ranges[_i];
    weir_error error = {0};
    ck_assert_int_eq(try_number(range, range->least, NULL), 0);
    ck_assert_int_eq(try_number(range, range->most, NULL), 0);
    uint64_t wrong[] = {range->least - 1, range->most + 1, range->wide ? UINT64_MAX : UINT32_MAX};
    for (uint32_t i = range->least == 1 ? 1 : 0; i < 3; i++) {
        error.sentence[0] = '\0';
        ck_assert_int_eq(try_number(range, wrong[i], &error), -EINVAL);
        ck_assert_int_eq(error.code, -EINVAL);
        ck_assert_ptr_nonnull(strstr(error.sentence, range->name));
        ck_assert_int_eq(try_number(range, wrong[i], NULL), -EINVAL);
    }
}
END_TEST

START_TEST(other_values)
{
    weir_config complete, given = {.receive_buffers = 48};
    weir_error error;
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.sentence, "48"));
    given = (weir_config){.ring_bytes = 48 << 10};
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.sentence, "ring_bytes is 49152: it must be a power of two"));
    given = (weir_config){.memory_bytes = 2 << 20, .assembly_bytes = (2 << 20) + 1};
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), -EINVAL);
    given.assembly_bytes = 2 << 20;
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), 0);
    given.assembly_bytes = 0;
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), 0);
    ck_assert_uint_eq(complete.assembly_bytes, 512 << 10);
    given = (weir_config){.log_level = (weir_log_level)7};
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), -EINVAL);
    given = (weir_config){.stop_ns = WEIR_FOREVER, .long_turn_ns = WEIR_FOREVER, .log_level = WEIR_LOG_ERROR};
    ck_assert_int_eq(w_config_complete(&given, &complete, &error), 0);
    ck_assert(complete.stop_ns == WEIR_FOREVER && complete.long_turn_ns == WEIR_FOREVER);
}
END_TEST

/* --- a protocol's limits --- */

START_TEST(limits_by_default)
{
    weir_protocol protocol = {0};
    ck_assert_int_eq(weir_codec_frame(&protocol.codec, NULL), 0);
    ck_assert_int_eq(w_limits_check(&protocol, NULL), 0);
    ck_assert_uint_eq(w_limits_high_water(&protocol), 256 << 10);
    ck_assert_uint_eq(w_limits_low_water(&protocol), 128 << 10);
    ck_assert_uint_eq(w_limits_hard(&protocol), (256 << 10) + (1 << 20) + 4);
    ck_assert_uint_eq(w_limits_first_ns(&protocol), WEIR_FOREVER);
    ck_assert_uint_eq(w_limits_message_ns(&protocol), 30 * WEIR_SECOND);
    ck_assert_uint_eq(w_limits_idle_ns(&protocol), WEIR_FOREVER);
    ck_assert_uint_eq(w_limits_drain_ns(&protocol), 5 * WEIR_SECOND);
    ck_assert_int_eq(weir_codec_raw(&protocol.codec), 0);
    ck_assert_int_eq(w_limits_check(&protocol, NULL), 0);
    ck_assert_uint_eq(w_limits_hard(&protocol), (256 << 10) + (1 << 20));
    protocol.limits = (weir_limits){.high_water_bytes = 10,
                                    .low_water_bytes = 3,
                                    .hard_limit_bytes = 1 << 24,
                                    .first_ns = 1,
                                    .message_ns = 2,
                                    .idle_ns = 3,
                                    .drain_ns = 4};
    ck_assert(w_limits_high_water(&protocol) == 10 && w_limits_low_water(&protocol) == 3 && w_limits_hard(&protocol) == 1 << 24);
    ck_assert(w_limits_first_ns(&protocol) == 1 && w_limits_message_ns(&protocol) == 2);
    ck_assert(w_limits_idle_ns(&protocol) == 3 && w_limits_drain_ns(&protocol) == 4);
}
END_TEST

static void copy_nothing(const weir_seal *seal, uint8_t *to, const uint8_t *from, uint32_t bytes, uint32_t offset)
{
    (void)seal;
    (void)to;
    (void)from;
    (void)bytes;
    (void)offset;
}

static void change_limits(weir_protocol *protocol, int what)
{
    weir_limits *limits = &protocol->limits;
    switch (what) {
    case 0:
        protocol->codec.cut = NULL;
        break;
    case 1:
        protocol->codec.seal = NULL;
        break;
    case 2:
        protocol->codec.message_max_bytes = 0;
        break;
    case 3:
        protocol->codec.message_max_bytes = WEIR_MESSAGE_MAX_BYTES + 1;
        break;
    case 4:
        protocol->codec.head_max_bytes = WEIR_HEAD_MAX_BYTES + 1;
        break;
    case 5:
        protocol->codec.trailer_max_bytes = WEIR_TRAILER_MAX_BYTES + 1;
        break;
    case 6:
        limits->high_water_bytes = WEIR_MESSAGE_MAX_BYTES + 1;
        break;
    case 7:
        limits->low_water_bytes = (256 << 10) + 1;
        break;
    case 8:
        limits->hard_limit_bytes = (1 << 20) + 3;
        break; /* one byte less than a largest message */
    case 9:    /* a head of a length that says it otherwise, or with something else round a message */
        protocol->codec.length_bytes = 2;
        break;
    case 10:
        protocol->codec.length_bytes = 3;
        protocol->codec.head_max_bytes = 3;
        break;
    case 11:
        protocol->codec.length_bytes = 16;
        protocol->codec.head_max_bytes = 16;
        break;
    case 12:
        protocol->codec.trailer_max_bytes = 1;
        break;
    case 13:
        protocol->codec.copy = copy_nothing;
        break;
    default:
        limits->hard_limit_bytes = (1 << 20) + 4;
        break;
    }
}

START_TEST(limits_that_cannot_be)
{
    weir_protocol protocol = {0};
    weir_error error = {0};
    ck_assert_int_eq(w_limits_check(NULL, &error), -EINVAL);
    ck_assert_int_eq(weir_codec_frame(&protocol.codec, NULL), 0);
    change_limits(&protocol, _i);
    error.code = 0;
    ck_assert_int_eq(w_limits_check(&protocol, &error), _i < 14 ? -EINVAL : 0);
    ck_assert_int_eq(error.code, _i < 14 ? -EINVAL : 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");
    tcase_add_loop_test(tests, defaults, 0, 2);
    tcase_add_test(tests, the_default_allocator);
    tcase_add_test(tests, an_allocator_is_both_functions);
    tcase_add_loop_test(tests, numbers, 0, (int)W_COUNT(ranges));
    tcase_add_test(tests, other_values);
    tcase_add_test(tests, limits_by_default);
    tcase_add_loop_test(tests, limits_that_cannot_be, 0, 15);
    tcase_add_test(tests, cpus_nobody_knows_of); /* the last: it cannot be taken back */
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
