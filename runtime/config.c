/* SPDX-License-Identifier: MIT */
/* config: what the embedder asked for, checked, with every zero replaced by its default. */
#include "runtime/config.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define TIB (MIB * 1024 * 1024)

static void *config_malloc(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    void *memory = NULL;
    size_t least = alignment < sizeof(void *) ? sizeof(void *) : alignment;
    return posix_memalign(&memory, least, bytes) == 0 ? memory : NULL;
}

static void config_free(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    free(memory);
}

static uint32_t config_allowed_cpus(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return 1;
    return (uint32_t)CPU_COUNT(&allowed);
}

/* One number of the config: its default, and the range it must lie in. */
static int config_number(uint64_t *value, const char *name, uint64_t otherwise, uint64_t least, uint64_t most, weir_error *error)
{
    *value = w_base_or_default(*value, otherwise);
    if (*value >= least && *value <= most)
        return 0;
    return w_base_fail(error, -EINVAL, "config.%s is %llu: it must be from %llu to %llu", name, (unsigned long long)*value,
                       (unsigned long long)least, (unsigned long long)most);
}

static int config_number_u32(uint32_t *value, const char *name, uint32_t otherwise, uint32_t least, uint32_t most, weir_error *error)
{
    uint64_t wide = *value;
    int result = config_number(&wide, name, otherwise, least, most, error);
    *value = (uint32_t)wide;
    return result;
}

static int config_counts(weir_config *c, weir_error *error)
{
    int result;
    if ((result = config_number_u32(&c->shards, "shards", config_allowed_cpus(), 1, W_CONFIG_SHARDS_MAX, error)) != 0 ||
        (result = config_number_u32(&c->connections, "connections", 16384, 1, 1U << 20, error)) != 0 ||
        (result = config_number_u32(&c->listeners, "listeners", 64, 1, 1024, error)) != 0 ||
        (result = config_number_u32(&c->dials, "dials", 1024, 1, 65536, error)) != 0 ||
        (result = config_number_u32(&c->ports, "ports", 32, 1, 4096, error)) != 0 ||
        (result = config_number_u32(&c->channels, "channels", 1024, 1, 65536, error)) != 0 ||
        (result = config_number_u32(&c->groups, "groups", 256, 1, 65536, error)) != 0)
        return result;
    return 0;
}

static int config_memory(weir_config *c, weir_error *error)
{
    int result;
    if ((result = config_number(&c->memory_bytes, "memory_bytes", 64 * MIB, MIB, TIB, error)) != 0 ||
        (result = config_number(&c->assembly_bytes, "assembly_bytes", c->memory_bytes / 4, 64 * KIB, c->memory_bytes, error)) != 0 ||
        (result = config_number_u32(&c->receive_buffers, "receive_buffers", 64, 8, 32768, error)) != 0)
        return result;
    if ((result = config_number(&c->port_bytes, "port_bytes", 16 * MIB, 64 * KIB, TIB, error)) != 0 ||
        (result = config_number_u32(&c->ring_bytes, "ring_bytes", 128 * KIB, 16 * KIB, 16 * MIB, error)) != 0 ||
        (result = config_number_u32(&c->send_bytes, "send_bytes", 256 * KIB, 4 * KIB, 1U << 30, error)) != 0)
        return result;
    if ((c->ring_bytes & (c->ring_bytes - 1)) != 0)
        return w_base_fail(error, -EINVAL, "config.ring_bytes is %u: it must be a power of two", c->ring_bytes);
    if ((c->receive_buffers & (c->receive_buffers - 1)) != 0)
        return w_base_fail(error, -EINVAL, "config.receive_buffers is %u: it must be a power of two", c->receive_buffers);
    if (c->receive_buffer_bytes != 0) /* 0 stays: the engine knows what suits the kernel */
        result = config_number_u32(&c->receive_buffer_bytes, "receive_buffer_bytes", 0, 4 * KIB, MIB, error);
    return result;
}

int w_config_complete(const weir_config *given, weir_config *complete, weir_error *error)
{
    static const weir_config defaults;
    weir_config *c = complete;
    *c = given != NULL ? *given : defaults;
    int result;
    if ((result = config_counts(c, error)) != 0 || (result = config_memory(c, error)) != 0)
        return result;
    if ((unsigned)c->log_level > WEIR_LOG_ERROR)
        return w_base_fail(error, -EINVAL, "config.log_level is %d: it must be one of weir_log_level", (int)c->log_level);
    if ((c->allocator.allocate == NULL) != (c->allocator.release == NULL))
        return w_base_fail(error, -EINVAL, "config.allocator needs both functions, or none");
    if (c->allocator.allocate == NULL)
        c->allocator = (weir_allocator){.allocate = config_malloc, .release = config_free};
    c->stop_ns = w_base_or_default(c->stop_ns, 5 * WEIR_SECOND);
    c->long_turn_ns = w_base_or_default(c->long_turn_ns, 20 * WEIR_MILLISECOND);
    return 0;
}
