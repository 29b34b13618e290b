/* SPDX-License-Identifier: MIT */
/* fuzz_config: any numbers in a weir_config: refused by a code and a sentence that names one of them exactly when weir/runtime.h says so, else
 * complete: what was given stays, what was not has a default in its range, and a complete config is its own completion.
 *
 * Input: [which numbers are given: 4][flags][the numbers that are given ...]; flags: allocate in bit 0, release 1, pin 2. */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "runtime/config.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

/* --- by the book --- */

/* A number of the config, and where it must lie; otherwise: its default, 0: it depends. */
static const struct number {
    const char *name;
    size_t offset;
    uint32_t bytes;
    bool power_of_two;
    uint64_t otherwise, least, most;
} numbers[] = {
#define NUMBER(field, power_of_two, otherwise, least, most)                                                                                \
    {                                                                                                                                      \
#field, offsetof(weir_config, field), sizeof((weir_config *)NULL)->field, power_of_two, otherwise, least, most                     \
    }
    NUMBER(shards, false, 0, 1, 1024),
    NUMBER(spin_ns, false, 0, 0, UINT64_MAX),
    NUMBER(connections, false, 16384, 1, 1 << 20),
    NUMBER(listeners, false, 64, 1, 1024),
    NUMBER(dials, false, 1024, 1, 65536),
    NUMBER(ports, false, 32, 1, 4096),
    NUMBER(channels, false, 1024, 1, 65536),
    NUMBER(groups, false, 256, 1, 65536),
    NUMBER(memory_bytes, false, 64 * MIB, MIB, MIB << 20),
    NUMBER(assembly_bytes, false, 0, 64 * KIB, UINT64_MAX),
    NUMBER(port_bytes, false, 16 * MIB, 64 * KIB, MIB << 20),
    NUMBER(ring_bytes, true, 128 * KIB, 16 * KIB, 16 * MIB),
    NUMBER(send_bytes, false, 256 * KIB, 4 * KIB, 1 << 30),
    NUMBER(receive_buffers, true, 64, 8, 32768),
    NUMBER(receive_buffer_bytes, false, 0, 4 * KIB, MIB),
    NUMBER(stop_ns, false, 5 * WEIR_SECOND, 0, UINT64_MAX),
    NUMBER(long_turn_ns, false, 20 * WEIR_MILLISECOND, 0, UINT64_MAX),
    NUMBER(log_level, false, 0, 0, WEIR_LOG_ERROR),
#undef NUMBER
};

static uint64_t get(const weir_config *config, const struct number *number)
{
    uint64_t value = 0;
    memcpy(&value, (const char *)config + number->offset, number->bytes); /* little-endian, as all that weir runs on */
    return value;
}

static void set(weir_config *config, const struct number *number, uint64_t value)
{
    memcpy((char *)config + number->offset, &value, number->bytes);
}

static bool is_good(const struct number *number, uint64_t value)
{
    return value >= number->least && value <= number->most && (!number->power_of_two || (value & (value - 1)) == 0);
}

/* Whether a number that is at fault is named `name`. */
static bool is_at_fault(const weir_config *config, const char *name)
{
    uint64_t memory_bytes = config->memory_bytes != 0 ? config->memory_bytes : 64 * MIB;
    for (size_t i = 0; i < W_COUNT(numbers); i++) {
        uint64_t value = get(config, &numbers[i]);
        if (value != 0 && !is_good(&numbers[i], value) && (name == NULL || strcmp(name, numbers[i].name) == 0))
            return true;
    }
    if (config->assembly_bytes > memory_bytes && (name == NULL || strcmp(name, "assembly_bytes") == 0))
        return true;
    return (config->allocator.allocate == NULL) != (config->allocator.release == NULL) && (name == NULL || strcmp(name, "allocator") == 0);
}

/* --- what weir makes of it --- */

static void *allocate_nothing(void *user, size_t bytes, size_t alignment)
{
    (void)user, (void)bytes, (void)alignment;
    return NULL;
}

static void release_nothing(void *user, void *memory, size_t bytes)
{
    (void)user, (void)memory, (void)bytes;
}

static void check_refused(const weir_config *given, const weir_error *error)
{
    char name[64] = "";
    FUZZ_CHECK(error->code == -EINVAL);
    FUZZ_CHECK(sscanf(error->sentence, "config.%63[a-z_]", name) == 1);
    FUZZ_CHECK(is_at_fault(given, name));
}

static void check_complete(const weir_config *given, const weir_config *complete)
{
    for (size_t i = 0; i < W_COUNT(numbers); i++) {
        const struct number *number = &numbers[i];
        uint64_t value = get(given, number), made = get(complete, number);
        if (value != 0)
            FUZZ_CHECK(made == value);
        else if (number->otherwise != 0)
            FUZZ_CHECK(made == number->otherwise);
        else if (number->offset != offsetof(weir_config, receive_buffer_bytes)) /* which the engine decides */
            FUZZ_CHECK(is_good(number, made));
    }
    FUZZ_CHECK(given->assembly_bytes != 0 || complete->assembly_bytes == complete->memory_bytes / 4);
    FUZZ_CHECK(complete->pin == given->pin && complete->user == given->user && complete->disable == given->disable);
    FUZZ_CHECK(complete->allocator.allocate != NULL && complete->allocator.release != NULL);
    FUZZ_CHECK(given->allocator.allocate == NULL || complete->allocator.allocate == given->allocator.allocate);
}

/* A byte: 0: any number follows; else one from round the ends of its range, or from 64 on a power of two. */
static uint64_t take_number(struct fuzz_input *input, const struct number *number)
{
    uint8_t how = fuzz_take_u8(input);
    const uint64_t ends[] = {0,
                             number->least - 1,
                             number->least,
                             number->least + 1,
                             number->most - 1,
                             number->most,
                             number->most + 1,
                             number->least + number->least / 2};
    if (how == 0)
        return fuzz_take(input, number->bytes);
    return how < 64 ? ends[how % W_COUNT(ends)] : UINT64_C(1) << (how & 63);
}

static weir_config take_config(struct fuzz_input *input)
{
    uint32_t which = fuzz_take_u32(input);
    uint8_t flags = fuzz_take_u8(input);
    weir_config config;
    memset(&config, 0, sizeof config); /* its padding too: it is compared as bytes */
    config.allocator.allocate = flags & 1 ? allocate_nothing : NULL;
    config.allocator.release = flags & 2 ? release_nothing : NULL;
    config.pin = flags & 4;
    config.user = &config.user;
    for (size_t i = 0; i < W_COUNT(numbers); i++)
        if (which >> i & 1)
            set(&config, &numbers[i], take_number(input, &numbers[i]));
    return config;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, bytes};
    weir_config given = take_config(&input), complete, again;
    weir_error error = {.code = 0};
    memset(&complete, 0, sizeof complete);
    memset(&again, 0, sizeof again);
    int result = w_config_complete(&given, &complete, &error);
    FUZZ_CHECK(w_config_complete(&given, &again, NULL) == result);
    FUZZ_CHECK(memcmp(&again, &complete, sizeof again) == 0);
    FUZZ_CHECK(result == 0 || result == -EINVAL);
    FUZZ_CHECK((result == 0) == !is_at_fault(&given, NULL));
    if (result != 0) {
        check_refused(&given, &error);
        return 0;
    }
    check_complete(&given, &complete);
    FUZZ_CHECK(w_config_complete(&complete, &again, NULL) == 0 && memcmp(&again, &complete, sizeof again) == 0);
    return 0;
}
