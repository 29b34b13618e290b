/* SPDX-License-Identifier: MIT */
/* runtime: all shards together; the only threads.
 *
 * Road:    open -> listen -> run: a thread for each shard -> stop: an order and a ring -> the shards come home -> close.
 * Ditches: something missing at open -> everything undone, a code and a sentence; a thread cannot be made, or a shard breaks -> the others
 *          are stopped, run answers with that error. */
#include "runtime/runtime.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/config.h"

/* --- opening and closing --- */

static void *runtime_allocate(const weir_config *config, size_t bytes)
{
    void *memory = config->allocator.allocate(config->allocator.user, bytes, 64);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

static void runtime_release(const weir_config *config, void *memory, size_t bytes)
{
    if (memory != NULL)
        config->allocator.release(config->allocator.user, memory, bytes);
}

static size_t runtime_handles_bytes(const weir_config *config)
{
    return (size_t)config->listeners * config->shards * sizeof(int);
}

/* Of the tables of ports and groups. */
static size_t runtime_port_bytes(const weir_config *config)
{
    return (config->shards + config->ports) * sizeof(_Atomic(weir_port *)) + config->channels * sizeof(_Atomic bool);
}

static size_t runtime_group_bytes(const weir_config *config)
{
    return config->groups * (sizeof(struct w_group) + config->shards * sizeof(struct w_group_part));
}

/* Bytes of the tables that belong to no shard. */
static size_t runtime_own_bytes(const weir_config *config)
{
    return sizeof(weir_runtime) + config->listeners * sizeof(struct w_listener) + runtime_handles_bytes(config) +
           config->shards * (sizeof(weir_shard *) + sizeof(struct w_core *)) + runtime_port_bytes(config) + runtime_group_bytes(config);
}

static void runtime_set_ports(weir_runtime *runtime)
{
    struct w_port_table *ports = &runtime->ports;
    ports->engine = runtime->engine;
    ports->config = &runtime->config;
    ports->runtime = runtime;
    ports->capacity = runtime->config.shards + runtime->config.ports;
    ports->channels = (void *)(ports->ports + ports->capacity);
}

static void runtime_set_groups(weir_runtime *runtime)
{
    struct w_group_table *groups = &runtime->groups;
    groups->count = runtime->config.groups;
    groups->shards = runtime->config.shards;
    struct w_group_part *parts = (void *)(groups->groups + groups->count);
    for (uint32_t i = 0; i < groups->count; i++) {
        groups->groups[i].parts = parts + (size_t)i * groups->shards;
        atomic_init(&groups->groups[i].shards_left, groups->shards);
    }
}

static int runtime_make_tables(weir_runtime *runtime)
{
    const weir_config *config = &runtime->config;
    struct w_shard_orders *orders = &runtime->orders;
    orders->listener_count = config->listeners;
    orders->listeners = runtime_allocate(config, config->listeners * sizeof *orders->listeners);
    runtime->handles = runtime_allocate(config, runtime_handles_bytes(config));
    runtime->shards = runtime_allocate(config, config->shards * sizeof(weir_shard *));
    runtime->ports.cores = runtime_allocate(config, config->shards * sizeof(struct w_core *));
    runtime->ports.ports = runtime_allocate(config, runtime_port_bytes(config));
    runtime->groups.groups = runtime_allocate(config, runtime_group_bytes(config));
    if (orders->listeners == NULL || runtime->handles == NULL || runtime->shards == NULL || runtime->ports.cores == NULL ||
        runtime->ports.ports == NULL || runtime->groups.groups == NULL)
        return -ENOMEM;
    runtime_set_ports(runtime);
    runtime_set_groups(runtime);
    for (uint32_t i = 0; i < config->listeners; i++)
        orders->listeners[i].handles = runtime->handles + (size_t)i * config->shards;
    return 0;
}

static int runtime_make_shards(weir_runtime *runtime, weir_error *error)
{
    const weir_config *config = &runtime->config;
    for (uint32_t i = 0; i < config->shards; i++) {
        runtime->shards[i] = runtime_allocate(config, sizeof(weir_shard));
        if (runtime->shards[i] == NULL)
            return w_base_fail(error, -ENOMEM, "no memory for shard %u", i);
        runtime->ports.cores[i] = &runtime->shards[i]->core;
        int result = w_shard_init(runtime->shards[i], runtime->engine, config, runtime, &runtime->orders, &runtime->ports, &runtime->groups,
                                  i, error);
        if (result != 0)
            return result;
    }
    return 0;
}

int weir_open_on(const struct w_io_engine *engine, const weir_config *config, weir_runtime **pointer, weir_error *error)
{
    weir_config complete;
    *pointer = NULL;
    if (error != NULL)
        *error = (weir_error){.code = 0};
    int result = w_config_complete(config, &complete, error);
    if (result != 0)
        return result;
    weir_runtime *runtime = runtime_allocate(&complete, sizeof *runtime);
    if (runtime == NULL)
        return w_base_fail(error, -ENOMEM, "no memory for the runtime");
    runtime->config = complete;
    runtime->engine = engine;
    result = runtime_make_tables(runtime);
    if (result != 0)
        w_base_fail(error, result, "no memory for the tables of the runtime");
    else
        result = runtime_make_shards(runtime, error);
    if (result != 0)
        weir_close(&runtime);
    *pointer = runtime;
    return result;
}

int weir_open(const weir_config *config, weir_runtime **runtime, weir_error *error)
{
    return weir_open_on(w_io_uring(), config, runtime, error);
}

/* An embedded shard whose connections are still there: its last turns, here. */
static void runtime_finish_turns(weir_shard *shard)
{
    uint8_t state = atomic_load_explicit(&shard->state, memory_order_relaxed);
    if (state != W_SHARD_RUNNING && state != W_SHARD_STOPPING)
        return;
    W_REQUIRE(shard->core.owner == w_core_self(), "shard %u has not come to its end, and another thread turned it", shard->core.index);
    W_REQUIRE(!shard->core.in_turn, "called from inside a callback of shard %u", shard->core.index);
    w_shard_cut(shard);
}

static void runtime_require_no_ports(weir_runtime *runtime)
{
    uint32_t open = 0;
    for (uint32_t i = runtime->config.shards; runtime->ports.ports != NULL && i < runtime->ports.capacity; i++) {
        weir_port *port = atomic_load_explicit(&runtime->ports.ports[i], memory_order_acquire);
        open += port != NULL && !atomic_load_explicit(&port->closed, memory_order_relaxed);
    }
    if (open > 0)
        w_base_misuse("weir_close", "%u ports are still open: close them before the runtime", open);
}

void weir_close(weir_runtime **pointer)
{
    weir_runtime *runtime = *pointer;
    *pointer = NULL;
    if (runtime == NULL)
        return;
    weir_stop(runtime);
    /* Acquire: pairs with the ringer's last step. It is a loop of a few wakes, so this is short. */
    while (atomic_load_explicit(&runtime->ringers, memory_order_acquire) != 0)
        sched_yield();
    const weir_config config = runtime->config;
    uint32_t shards = 0;
    while (runtime->shards != NULL && shards < config.shards && runtime->shards[shards] != NULL)
        shards++;
    for (uint32_t i = 0; i < shards; i++)
        runtime_finish_turns(runtime->shards[i]);
    runtime_require_no_ports(runtime);
    for (uint32_t i = 0; i < shards; i++)
        w_shard_leave(runtime->shards[i]);
    for (uint32_t i = 0; i < shards; i++)
        if (runtime->shards[i]->core.port != NULL)
            w_port_close_shard(runtime->shards[i]->core.port);
    for (uint32_t i = 0; i < shards; i++) {
        w_shard_finish(runtime->shards[i]);
        runtime_release(&config, runtime->shards[i], sizeof(weir_shard));
    }
    struct w_listener *listeners = runtime->orders.listeners;
    for (uint32_t i = 0; i < config.listeners && listeners != NULL; i++) {
        uint32_t state = w_life_state(atomic_load_explicit(&listeners[i].life, memory_order_acquire));
        if (state == W_LISTENER_LISTENING || state == W_LISTENER_STOPPING)
            w_listener_discard(&listeners[i], runtime->engine, config.shards);
    }
    runtime_release(&config, listeners, config.listeners * sizeof *listeners);
    runtime_release(&config, runtime->ports.cores, config.shards * sizeof(struct w_core *));
    runtime_release(&config, runtime->ports.ports, runtime_port_bytes(&config));
    runtime_release(&config, runtime->groups.groups, runtime_group_bytes(&config));
    runtime_release(&config, runtime->handles, runtime_handles_bytes(&config));
    runtime_release(&config, runtime->shards, config.shards * sizeof(weir_shard *));
    runtime_release(&config, runtime, sizeof *runtime);
}

/* --- ports and groups --- */

int weir_port_open(weir_runtime *runtime, const weir_port_options *options, weir_port **port, weir_error *error)
{
    uint32_t channels = options != NULL && options->channels != 0 ? options->channels : 64;
    *port = NULL;
    if (options != NULL && options->channels > runtime->config.channels)
        return w_base_fail(error, -EINVAL, "options.channels is %u, but config.channels is %u", channels, runtime->config.channels);
    channels = w_base_min_u32(channels, runtime->config.channels);
    if (atomic_load_explicit(&runtime->orders.stopping, memory_order_relaxed))
        return w_base_fail(error, -ESHUTDOWN, "the runtime is stopping: no port is opened any more");
    int result = w_port_init_thread(port, &runtime->ports, channels);
    if (result == -ENOSPC)
        return w_base_fail(error, result, "all %u of config.ports are open", runtime->config.ports);
    return result == 0 ? 0 : w_base_fail(error, result, "no memory for a port with %u channels", channels);
}

int weir_group_open(weir_runtime *runtime, weir_group *group)
{
    return w_group_open(&runtime->groups, &group->value);
}

int weir_group_close(weir_runtime *runtime, weir_group group)
{
    w_runtime_enter(runtime);
    int result = w_group_close(&runtime->groups, group.value);
    if (result == 0)
        w_runtime_ring(runtime);
    w_runtime_leave(runtime);
    return result;
}

int weir_group_stats_get(weir_runtime *runtime, weir_group group, weir_group_stats *stats)
{
    return w_group_stats(&runtime->groups, group.value, stats);
}

/* --- stopping --- */

void w_runtime_ring(weir_runtime *runtime)
{
    /* Release: who sees the new epoch sees the order, and whoever gives it (w_runtime_enter). */
    atomic_fetch_add_explicit(&runtime->orders.epoch, 1, memory_order_release);
    for (uint32_t i = 0; i < runtime->config.shards && runtime->shards != NULL; i++) {
        weir_shard *shard = runtime->shards[i];
        if (shard != NULL && shard->core.io != NULL)
            runtime->engine->wake(shard->core.io);
    }
}

void w_runtime_enter(weir_runtime *runtime)
{
    /* Relaxed: the order, or the epoch, publishes it. */
    atomic_fetch_add_explicit(&runtime->ringers, 1, memory_order_relaxed);
}

void w_runtime_leave(weir_runtime *runtime)
{
    /* Release: our last look at the runtime is over. */
    atomic_fetch_sub_explicit(&runtime->ringers, 1, memory_order_release);
}

void weir_stop(weir_runtime *runtime)
{
    w_runtime_enter(runtime);
    /* Release: a shard may see it by another's epoch, and must then see this giver too. Acquire: for the weir_stop in weir_close, the same. */
    if (!atomic_exchange_explicit(&runtime->orders.stopping, true, memory_order_acq_rel))
        w_runtime_ring(runtime);
    w_runtime_leave(runtime);
}

/* --- running --- */

struct runtime_thread {
    pthread_t thread;
    weir_runtime *runtime;
    weir_shard *shard;
    int result;
};

/* Binds the calling thread to the shard's own cpu: the index-th allowed one. Best effort: an unpinned shard works too. */
static void runtime_pin(const weir_shard *shard)
{
    cpu_set_t allowed, mine;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) == 0)
        return;
    int wanted = (int)(shard->core.index % (uint32_t)CPU_COUNT(&allowed));
    CPU_ZERO(&mine);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && wanted-- == 0)
            CPU_SET(cpu, &mine);
    if (pthread_setaffinity_np(pthread_self(), sizeof mine, &mine) != 0)
        w_core_log(&shard->core, WEIR_LOG_WARNING, "shard %u could not be pinned to a cpu", shard->core.index);
}

static void *runtime_thread(void *argument)
{
    struct runtime_thread *self = argument;
    if (self->runtime->config.pin)
        runtime_pin(self->shard);
    self->result = w_shard_run(self->shard);
    if (self->result != 0)
        weir_stop(self->runtime);
    return NULL;
}

static int runtime_start_threads(weir_runtime *runtime, struct runtime_thread *threads, uint32_t *started)
{
    sigset_t all, before;
    int result = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (*started = 0; *started < runtime->config.shards && result == 0; *started += result == 0) {
        struct runtime_thread *thread = &threads[*started];
        *thread = (struct runtime_thread){.runtime = runtime, .shard = runtime->shards[*started]};
        result = -pthread_create(&thread->thread, NULL, runtime_thread, thread);
        if (result == 0) {
            char name[16];
            snprintf(name, sizeof name, "weir-%u", *started);
            pthread_setname_np(thread->thread, name);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

int weir_run(weir_runtime *runtime)
{
    const weir_config *config = &runtime->config;
    if (atomic_exchange_explicit(&runtime->ran, true, memory_order_relaxed))
        return -EBUSY;
    for (uint32_t i = 0; i < config->shards; i++)
        if (atomic_load_explicit(&runtime->shards[i]->state, memory_order_relaxed) != W_SHARD_NEW)
            return -EBUSY;
    size_t threads_bytes = config->shards * sizeof(struct runtime_thread);
    struct runtime_thread *threads = runtime_allocate(config, threads_bytes);
    if (threads == NULL)
        return -ENOMEM;
    uint32_t started;
    int result = runtime_start_threads(runtime, threads, &started);
    if (result != 0)
        weir_stop(runtime);
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(threads[i].thread, NULL);
        if (result == 0)
            result = threads[i].result;
    }
    runtime_release(config, threads, threads_bytes);
    return result;
}

/* --- shards, numbers --- */

void *weir_runtime_user(const weir_runtime *runtime)
{
    return runtime->config.user;
}

uint32_t weir_shard_count(const weir_runtime *runtime)
{
    return runtime->config.shards;
}

weir_shard *weir_shard_at(weir_runtime *runtime, uint32_t index)
{
    return index < runtime->config.shards ? runtime->shards[index] : NULL;
}

uint64_t weir_memory_bound(const weir_runtime *runtime)
{
    return runtime_own_bytes(&runtime->config) + w_port_bound_bytes(&runtime->config) +
           runtime->config.shards * (runtime->config.memory_bytes + w_shard_fixed_bound_bytes(runtime->shards[0]));
}

size_t weir_limits_text(const weir_runtime *runtime, char *text, size_t text_bytes)
{
    const weir_config *c = &runtime->config;
    const weir_shard *shard = runtime->shards[0];
    const struct w_io *io = shard->core.io;
    uint64_t buffers = (uint64_t)io->buffers * io->buffer_bytes, fixed = w_shard_fixed_bound_bytes(shard);
    uint64_t connections = w_table_bound_bytes(c->connections) + w_table_sessions_bound_bytes(c->connections);
    int bytes =
        snprintf(text, text_bytes,
                 "each of %u shards, at most:\n"
                 "  %10.1f MiB  receive buffers: %u of %u KiB\n"
                 "  %10.1f MiB  rings and tables of the engine\n"
                 "  %10.1f MiB  connections: %u of %zu bytes\n"
                 "  %10.1f MiB  timers, %u dials, %u listeners\n"
                 "  %10.1f MiB  queued, held and being put together (of it %.1f MiB being put together)\n"
                 "all shards together, at most:\n"
                 "  %10.1f MiB  ports: rings of %u KiB each way, and for each of %u threads' ports %.1f MiB of channels and big messages\n"
                 "all: %.1f MiB, filled only as it is used\n",
                 c->shards, (double)buffers / 1048576, io->buffers, io->buffer_bytes / 1024, (double)(shard->io_bytes - buffers) / 1048576,
                 (double)connections / 1048576, c->connections, sizeof(weir_conn),
                 (double)(fixed - shard->io_bytes - connections) / 1048576, c->dials, c->listeners, (double)c->memory_bytes / 1048576,
                 (double)c->assembly_bytes / 1048576, (double)w_port_bound_bytes(c) / 1048576, c->ring_bytes / 1024, c->ports,
                 (double)c->port_bytes / 1048576, (double)weir_memory_bound(runtime) / 1048576);
    return bytes < 0 ? 0 : (size_t)bytes;
}

void weir_shard_stats(const weir_shard *shard, weir_stats *stats)
{
    const struct w_core *core = &shard->core;
    memset(stats, 0, sizeof *stats);
    w_stats_sum(stats, &core->stats);
    stats->connections = w_stats_get_u32(&shard->conns.count);
    /* Read in an order that lets no byte leave before it came: out and undelivered were read with the rest, so this may be some too much. */
    uint64_t gone = stats->bytes_out + stats->bytes_undelivered;
    stats->queued_bytes = stats->bytes_sent > gone ? stats->bytes_sent - gone : 0;
    stats->memory_bytes = atomic_load_explicit(&core->pool.taken_bytes, memory_order_relaxed);
    stats->memory_peak_bytes = atomic_load_explicit(&core->pool.peak_bytes, memory_order_relaxed);
    stats->allocations = atomic_load_explicit(&core->pool.allocations, memory_order_relaxed);
    stats->completion_overflows = atomic_load_explicit(&core->io->counters.completion_overflows, memory_order_relaxed);
    stats->late_finds += atomic_load_explicit(&core->io->counters.late_finds, memory_order_relaxed);
    stats->sleeps = atomic_load_explicit(&core->io->counters.sleeps, memory_order_relaxed);
}

void weir_runtime_stats(const weir_runtime *runtime, weir_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    for (uint32_t i = 0; i < runtime->config.shards; i++) {
        weir_stats part;
        weir_shard_stats(runtime->shards[i], &part);
        w_stats_sum(stats, &part);
    }
    stats->messages_orphaned += atomic_load_explicit(&runtime->ports.orphaned, memory_order_relaxed);
}

int weir_conn_stats_get(weir_runtime *runtime, weir_id id, weir_conn_stats *stats)
{
    weir_shard *shard = weir_shard_at(runtime, (uint32_t)(id.value >> (W_CONN_GENERATION_BITS + W_CONN_SLOT_BITS)));
    uint64_t generation = id.value & W_CONN_GENERATION_MASK;
    *stats = (weir_conn_stats){0};
    weir_conn *conn = shard == NULL ? NULL : w_table_at(&shard->conns, (uint32_t)(id.value >> W_CONN_GENERATION_BITS) & W_CONN_SLOT_MASK);
    if (conn == NULL || generation == 0)
        return -ESTALE;
    const struct w_conn_shared *shared = &conn->shared;
    *stats = (weir_conn_stats){
        .messages_in = w_stats_get(&shared->messages_in),
        .bytes_in = w_stats_get(&shared->bytes_in),
        .messages_out = w_stats_get(&shared->messages_out),
        .bytes_out = w_stats_get(&shared->bytes_out),
        .sends = w_stats_get_u32(&shared->sends),
        .refusals = w_stats_get_u32(&shared->refusals),
    };
    uint64_t put = w_stats_get(&shared->bytes_put), progress_ns = w_stats_get(&shared->progress_ns);
    uint64_t now_ns = shard->core.engine->clock(shard->core.io);
    stats->queued_bytes = put > stats->bytes_out ? put - stats->bytes_out : 0;
    stats->queued_age_ns = stats->queued_bytes > 0 && now_ns > progress_ns ? now_ns - progress_ns : 0;
    /* Last: if it is still the same connection, all of the above was its own. */
    atomic_thread_fence(memory_order_acquire);
    if ((w_stats_get(&shared->word) & W_CONN_GENERATION_MASK) != generation) {
        *stats = (weir_conn_stats){0};
        return -ESTALE;
    }
    return 0;
}
