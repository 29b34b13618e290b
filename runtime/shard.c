/* SPDX-License-Identifier: MIT */
/* shard: the turn.
 *
 * Road:    take -> deliver -> orders -> timers -> agenda -> submit (one system call) -> again.
 * Ditches: engine broken -> the shard is over with that error and every connection is told; memory nearly spent -> the heaviest
 *          connection ends; stopped -> listeners leave, connections drain some at a time, after stop_ns they are cut. */
#include "runtime/shard.h"

#include <errno.h>
#include <unistd.h>

#include <weir/timer.h>

#include "runtime/crossing.h"
#include "runtime/deadline.h"
#include "runtime/group.h"
#include "runtime/limits.h"
#include "runtime/pipe.h"
#include "runtime/session.h"
#include "runtime/waitlist.h"

#define TAKE_BATCH      64u
#define TAKE_MAX        1024u /* completions in one turn */
#define TIMERS_MAX      256u  /* timers in one turn */
#define AGENDA_PASSES   4u    /* handlers that send to others put them on the agenda: so often is it read in one turn */
#define DRAIN_SLOTS     512u  /* connections told to drain in one turn */
#define RELIEF_PAUSE_NS WEIR_MILLISECOND
#define THIRST_NS       WEIR_MILLISECOND /* how often those that wait for memory are looked at */

/* --- opening and closing --- */

static void shard_user_timer(struct w_wheel_entry *entry, void *context, uint64_t now_ns)
{
    weir_timer *timer = (weir_timer *)(void *)entry;
    (void)now_ns;
    timer->callback(w_core_shard(context), timer, timer->user);
}

static uint64_t shard_conn_word(const struct w_core *core, uint32_t slot)
{
    const weir_conn *conn = w_table_at(core->conns, slot);
    return conn == NULL ? 0 : w_stats_get(&conn->shared.word);
}

static const weir_protocol *shard_conn_protocol(const struct w_core *core, weir_id id)
{
    const weir_conn *conn = w_table_at(core->conns, (uint32_t)(id.value >> W_CONN_GENERATION_BITS) & W_CONN_SLOT_MASK);
    uint64_t generation = id.value & W_CONN_GENERATION_MASK;
    if (conn == NULL || generation == 0 || (w_stats_get(&conn->shared.word) & W_CONN_GENERATION_MASK) != generation)
        return NULL;
    /* Between two looks at the generation: what is read is that connection's. */
    atomic_thread_fence(memory_order_acquire);
    const weir_protocol *protocol = __atomic_load_n(&conn->protocol, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_acquire);
    return (w_stats_get(&conn->shared.word) & W_CONN_GENERATION_MASK) == generation ? protocol : NULL;
}

static void shard_listener_retry(struct w_core *core, uint32_t index)
{
    w_listener_retry(&w_core_shard(core)->parts[index]);
}

static weir_conn *shard_conn_at(struct w_core *core, uint32_t slot)
{
    return w_table_at(core->conns, slot);
}

static void shard_conn_freed(struct w_core *core, weir_conn *conn)
{
    weir_shard *shard = w_core_shard(core);
    if (conn->dialed)
        w_dialer_conn_over(&shard->dialers, conn);
    w_table_give(&shard->conns, conn);
    w_shard_slot_freed(shard);
}

void w_shard_slot_freed(weir_shard *shard)
{
    uint32_t free_slots = shard->conns.capacity - shard->conns.count;
    for (uint32_t i = 0; i < shard->orders->listener_count && free_slots > 0; i++)
        free_slots -= w_listener_retry(&shard->parts[i]);
}

void w_shard_end_conns(weir_shard *shard)
{
    shard->cut = true;
    for (uint32_t slot = 0; slot < shard->conns.made; slot++)
        w_conn_end(w_table_at(&shard->conns, slot), WEIR_REASON_STOPPED, -ETIMEDOUT);
}

static void shard_stop_timer(struct w_wheel_entry *entry, void *context, uint64_t now_ns)
{
    (void)entry;
    (void)now_ns;
    w_shard_end_conns(w_core_shard(context));
}

/* What the engine has to say passes the embedder's level. */
static void shard_io_log(void *core, weir_log_level level, const char *sentence)
{
    w_core_log(core, level, "%s", sentence);
}

static int shard_open_io(weir_shard *shard, const struct w_io_engine *engine, const weir_config *config, weir_error *error)
{
    struct w_io_setup setup = {
        .shard_index = shard->core.index,
        .shard_count = config->shards,
        .receive_buffers = config->receive_buffers,
        .receive_buffer_bytes = config->receive_buffer_bytes,
        .connections = config->connections,
        .disable = config->disable,
        .allocator = &config->allocator,
        .log = shard_io_log,
        .log_user = &shard->core,
    };
    return engine->open(engine->world, &setup, &shard->core.io, error);
}

/* Bytes of the tables by which it knows ports and channels. */
static size_t shard_others_bytes(const weir_config *config)
{
    size_t ports = config->shards + config->ports;
    return ports * (sizeof(struct w_link *) + sizeof(_Atomic(struct w_link *))) + config->channels * sizeof(weir_channel *) +
           w_bell_bytes(w_port_bell_count(config));
}

/* Its bell, its port, and where others' links and channels are kept. */
static int shard_meet_others(weir_shard *shard, struct w_port_table *ports, weir_error *error)
{
    struct w_core *core = &shard->core;
    const weir_config *config = core->config;
    uint32_t count = ports->capacity;
    core->ports = ports;
    uint8_t *memory = w_pool_allocate_fixed(&core->pool, shard_others_bytes(config));
    if (memory == NULL || w_port_init_shard(&core->port, ports, core) != 0) {
        if (memory != NULL)
            w_pool_release_fixed(&core->pool, memory, shard_others_bytes(config));
        return w_base_fail(error, -ENOMEM, "no memory for the ports of shard %u (config.ports %u, channels %u)", core->index, config->ports,
                           config->channels);
    }
    core->links = (struct w_link **)(void *)memory;
    core->newcomers = (void *)(core->links + count);
    core->owns = (weir_channel **)(void *)(core->newcomers + count);
    w_bell_init(&core->bell, w_port_bell_count(config), core->owns + config->channels);
    core->io->bell = &core->bell;
    return 0;
}

int w_shard_init(weir_shard *shard, const struct w_io_engine *engine, const weir_config *config, weir_runtime *runtime,
                 struct w_shard_orders *orders, struct w_port_table *ports, struct w_group_table *groups, uint32_t index, weir_error *error)
{
    struct w_core *core = &shard->core;
    core->groups = groups;
    core->engine = engine;
    core->config = config;
    core->runtime = runtime;
    core->index = index;
    core->conns = &shard->conns;
    core->conn_at = shard_conn_at;
    core->conn_word = shard_conn_word;
    core->listeners = orders->listeners;
    core->listener_retry = shard_listener_retry;
    core->conn_protocol = shard_conn_protocol;
    core->conn_wanted = w_pipe_wanted;
    core->blob_away = w_port_send_home;
    core->settle = w_group_settle;
    core->send_bytes = config->send_bytes;
    core->conn_freed = shard_conn_freed;
    shard->orders = orders;
    w_pool_init(&core->pool, &config->allocator, config->memory_bytes);
    w_session_heap_init(core);
    int result = shard_open_io(shard, engine, config, error);
    if (result != 0)
        return result;
    shard->io_bytes = core->io->memory_bytes;
    core->pinned_limit = core->io->buffers / 8;
    w_wheel_init(&core->wheel, core->io->now_ns, core);
    result = shard_meet_others(shard, ports, error);
    if (result != 0)
        return result;
    shard->parts = w_pool_allocate_fixed(&core->pool, orders->listener_count * sizeof *shard->parts);
    if (shard->parts == NULL || w_table_init(&shard->conns, core, config->connections) != 0 ||
        w_dialer_table_init(&shard->dialers, core, config->dials) != 0)
        return w_base_fail(error, -ENOMEM, "no memory for the tables of shard %u (config.connections %u, dials %u)", index,
                           config->connections, config->dials);
    for (uint32_t i = 0; i < orders->listener_count; i++)
        shard->parts[i] = (struct w_listener_part){.core = core, .listener = &orders->listeners[i], .index = i};
    return 0;
}

/* Sets the wheel going: its time is the engine's, which stands still until start(). */
static void shard_start_wheel(weir_shard *shard)
{
    struct w_wheel *wheel = &shard->core.wheel;
    w_wheel_init(wheel, shard->core.io->now_ns, &shard->core);
    wheel->callbacks[W_CORE_TIMER_USER] = shard_user_timer;
    wheel->callbacks[W_CORE_TIMER_CONN] = w_deadline_timer;
    wheel->callbacks[W_CORE_TIMER_LISTENER] = w_listener_timer;
    wheel->callbacks[W_CORE_TIMER_DIALER] = w_dialer_timer;
    wheel->callbacks[W_CORE_TIMER_STOP] = shard_stop_timer;
}

/* Tells every connection that is left that it is over, without waiting for the engine. */
static void shard_abandon(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    __atomic_store_n(&core->owner, w_core_self(), __ATOMIC_RELAXED);
    core->stopping = core->in_turn = true;
    for (uint32_t slot = 0; slot < shard->conns.made; slot++)
        w_conn_abandon(w_table_at(&shard->conns, slot), WEIR_REASON_STOPPED, shard->error);
    core->in_turn = false;
}

/* The engine broke before these could be given a place. */
static void shard_discard_newcomers(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    struct w_io_completion completions[TAKE_BATCH];
    for (uint32_t count; (count = core->engine->take(core->io, completions, TAKE_BATCH)) > 0;)
        for (uint32_t i = 0; i < count; i++)
            if (w_conn_token_kind(completions[i].token) == W_CONN_TOKEN_LISTENER && completions[i].result >= 0)
                core->engine->discard(core->engine->world, completions[i].result);
}

void w_shard_leave(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    if (atomic_load_explicit(&shard->state, memory_order_relaxed) == W_SHARD_BROKEN)
        shard_discard_newcomers(shard);
    if (shard->conns.count > 0)
        shard_abandon(shard);
    if (core->port == NULL)
        return;
    __atomic_store_n(&core->owner, w_core_self(), __ATOMIC_RELAXED);
    core->in_turn = true;
    if (!atomic_load_explicit(&core->over, memory_order_relaxed))
        w_port_over(core);
    w_port_flush_back(core);
    w_group_drop_parts(core);
    core->in_turn = false;
}

void w_shard_finish(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    w_dialer_table_finish(&shard->dialers);
    w_table_finish(&shard->conns);
    if (shard->parts != NULL)
        w_pool_release_fixed(&core->pool, shard->parts, shard->orders->listener_count * sizeof *shard->parts);
    shard->parts = NULL;
    if (core->links != NULL)
        w_pool_release_fixed(&core->pool, core->links, shard_others_bytes(core->config));
    core->links = NULL;
    W_REQUIRE(core->blobs == 0, "%u blobs are still held: release them before the runtime is closed", core->blobs);
    if (core->io != NULL)
        core->engine->close(&core->io);
    if (core->pool.allocator != NULL)
        w_pool_finish(&core->pool);
}

uint64_t w_shard_fixed_bound_bytes(const weir_shard *shard)
{
    const weir_config *config = shard->core.config;
    return sizeof *shard + shard->io_bytes + w_table_bound_bytes(config->connections) + w_table_sessions_bound_bytes(config->connections) +
           config->dials * (sizeof(struct w_dialer_place) + shard->core.io->lookup_bytes) +
           shard->orders->listener_count * sizeof(struct w_listener_part) + shard_others_bytes(config);
}

/* --- the turn --- */

static void shard_deliver_conn(weir_shard *shard, const struct w_io_completion *completion)
{
    struct w_core *core = &shard->core;
    uint64_t token = completion->token;
    weir_conn *conn = w_table_find(&shard->conns, w_conn_token_slot(token), token & W_CONN_GENERATION_MASK);
    if (W_UNLIKELY(conn == NULL)) {
        if (completion->flags & W_IO_BUFFER)
            core->engine->buffer_release(core->io, completion->buffer);
        return;
    }
    switch (w_conn_token_operation(token)) {
    case W_CONN_RECEIVE:
        w_conn_received(conn, completion);
        break;
    case W_CONN_SEND:
        w_conn_sent(conn, completion->result);
        break;
    case W_CONN_CLOSE:
        w_conn_closed(conn);
        break;
    case W_CONN_CONNECT:
    case W_CONN_RESOLVE:
        w_dialer_completed(&shard->dialers, conn, w_conn_token_operation(token), completion->result);
        break;
    case W_CONN_ACCEPT:
        break;
    }
}

/* True when there may be more than it was willing to take. */
static bool shard_take(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    struct w_io_completion completions[TAKE_BATCH];
    for (uint32_t taken = 0; taken < TAKE_MAX; taken += TAKE_BATCH) {
        uint32_t count = core->engine->take(core->io, completions, TAKE_BATCH);
        for (uint32_t i = 0; i < count; i++) {
            if (W_LIKELY(w_conn_token_kind(completions[i].token) == W_CONN_TOKEN_CONN))
                shard_deliver_conn(shard, &completions[i]);
            else
                w_listener_accepted(&shard->parts[w_conn_token_slot(completions[i].token)], &completions[i]);
        }
        if (count < TAKE_BATCH)
            return false;
    }
    return true;
}

static void shard_begin_stop(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    core->stopping = true;
    atomic_store_explicit(&shard->state, W_SHARD_STOPPING, memory_order_relaxed);
    for (uint32_t i = 0; i < shard->orders->listener_count; i++)
        w_listener_leave(&shard->parts[i]);
    w_dialer_stop_all(&shard->dialers);
    w_wheel_set(&core->wheel, &shard->stop_timer, W_CORE_TIMER_STOP, w_base_add_saturated(core->io->now_ns, core->config->stop_ns));
}

bool w_shard_has_orders(const weir_shard *shard)
{
    return atomic_load_explicit(&shard->orders->epoch, memory_order_acquire) != shard->epoch;
}

/* Looks at what the runtime wants, if it wants anything new. */
static void shard_follow_orders(weir_shard *shard)
{
    struct w_shard_orders *orders = shard->orders;
    /* Acquire: pairs with the release of whoever gave the order; what it says is there to be read. */
    uint64_t epoch = atomic_load_explicit(&orders->epoch, memory_order_acquire);
    if (W_LIKELY(epoch == shard->epoch))
        return;
    shard->epoch = epoch;
    if (!shard->core.stopping && atomic_load_explicit(&orders->stopping, memory_order_acquire))
        shard_begin_stop(shard);
    for (uint32_t i = 0; i < orders->listener_count && !shard->core.stopping; i++)
        w_listener_follow(&shard->parts[i]);
    w_group_follow(&shard->core);
}

/* Stopping: some connections more are told to drain. */
static void shard_drain_some(weir_shard *shard)
{
    uint32_t end = w_base_min_u32(shard->drained_slots + DRAIN_SLOTS, shard->conns.made);
    for (; shard->drained_slots < end; shard->drained_slots++)
        w_conn_drain(w_table_at(&shard->conns, shard->drained_slots), WEIR_REASON_STOPPED, 0);
}

static void shard_attend(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    for (uint32_t pass = 0; pass < AGENDA_PASSES; pass++) {
        w_core_settle(core);
        weir_conn *last = core->lists[W_CORE_AGENDA].last, *conn = NULL;
        while (conn != last && (conn = w_waitlist_take(core, W_CORE_AGENDA)) != NULL)
            w_conn_attend(conn);
    }
}

/* Slots are taken by other listeners, by dials and adopted sockets too: no listener may bring more than there are. */
static void shard_look_at_listeners(weir_shard *shard)
{
    if (W_LIKELY(shard->conns.count == shard->looked_count))
        return;
    shard->looked_count = shard->conns.count;
    for (uint32_t i = 0; i < shard->orders->listener_count; i++)
        w_listener_look(&shard->parts[i]);
}

/* Once a second: what peers can bring about must not fill the log. */
static void shard_tell_relief(weir_shard *shard, bool assembly, uint64_t weight)
{
    struct w_core *core = &shard->core;
    shard->relieved++;
    if (shard->relieved_told_ns != 0 && core->io->now_ns - shard->relieved_told_ns < WEIR_SECOND)
        return;
    uint64_t taken = assembly ? core->assembly_bytes : atomic_load_explicit(&core->pool.taken_bytes, memory_order_relaxed);
    uint64_t allowed = assembly ? core->config->assembly_bytes : core->pool.budget_bytes;
    w_core_log(core, WEIR_LOG_WARNING,
               "%s %llu bytes, %llu are allowed: ended %u connections, each of which held the most; the last %llu bytes",
               assembly ? "messages being put together hold" : "everything holds", (unsigned long long)taken, (unsigned long long)allowed,
               shard->relieved, (unsigned long long)weight);
    shard->relieved_told_ns = core->io->now_ns;
    shard->relieved = 0;
}

/* Memory is nearly spent: the connection that holds the most has to go. One at a time, and the next only when that one has gone: true when it
 * has to be looked at again. */
static bool shard_relieve(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    uint64_t taken = atomic_load_explicit(&core->pool.taken_bytes, memory_order_relaxed), budget = core->pool.budget_bytes;
    bool assembly = core->assembly_bytes > core->config->assembly_bytes;
    if (W_LIKELY(taken <= budget - budget / W_CORE_RELIEF_PART && !assembly))
        return false;
    if (core->io->now_ns - shard->relief_ns < RELIEF_PAUSE_NS || weir_find(shard, shard->relief_victim) != NULL)
        return true;
    shard->relief_ns = core->io->now_ns;
    weir_conn *heaviest = NULL;
    for (uint32_t slot = 0; slot < shard->conns.made; slot++) {
        weir_conn *conn = w_table_at(&shard->conns, slot);
        bool living = conn->state == W_CONN_OPEN || conn->state == W_CONN_DRAINING;
        if (living && w_conn_weight(conn, assembly) > (heaviest == NULL ? 0 : w_conn_weight(heaviest, assembly)))
            heaviest = conn;
    }
    if (heaviest == NULL)
        return false; /* the embedder holds it in blobs: nobody to end */
    shard->relief_victim = w_conn_id(heaviest);
    shard_tell_relief(shard, assembly, w_conn_weight(heaviest, assembly));
    w_conn_end(heaviest, WEIR_REASON_MEMORY, -ENOBUFS);
    return true;
}

/* STOPPING, and nothing is left: the last callback. */
static bool shard_is_done(weir_shard *shard)
{
    if (!shard->core.stopping || shard->conns.count > 0 || shard->dialers.count > 0)
        return false;
    for (uint32_t i = 0; i < shard->orders->listener_count; i++)
        if (!w_listener_is_quiet(&shard->parts[i]))
            return false;
    return true;
}

int w_shard_start(weir_shard *shard)
{
    struct w_core *core = &shard->core;
    int result = core->engine->start(core->io);
    if (result != 0)
        return result;
    __atomic_store_n(&core->owner, w_core_self(), __ATOMIC_RELAXED);
    __atomic_store_n(&core->owner_thread, gettid(), __ATOMIC_RELAXED);
    shard_start_wheel(shard);
    atomic_store_explicit(&shard->state, W_SHARD_RUNNING, memory_order_relaxed);
    core->in_turn = true;
    if (core->config->on_start != NULL)
        core->config->on_start(shard);
    w_crossing_publish(core);
    core->in_turn = false;
    return 0;
}

int w_shard_turn(weir_shard *shard, uint64_t *rest_ns)
{
    struct w_core *core = &shard->core;
    core->in_turn = true;
    w_wheel_advance(&core->wheel, core->io->now_ns); /* timers set from here on count from now */
    bool more = shard_take(shard);
    shard_follow_orders(shard);
    uint64_t sleeps = atomic_load_explicit(&core->io->counters.sleeps, memory_order_relaxed);
    if (W_UNLIKELY(sleeps != shard->sleeps_seen)) {
        shard->sleeps_seen = sleeps;
        w_crossing_look_after(core);
    }
    if (core->stalled != NULL || w_bell_is_due(&core->bell))
        w_crossing_turn(core);
    more |= w_wheel_turn(&core->wheel, core->io->now_ns, TIMERS_MAX) == TIMERS_MAX;
    w_waitlist_water(core);
    if (W_UNLIKELY(core->stopping))
        shard_drain_some(shard);
    shard_attend(shard);
    shard_look_at_listeners(shard);
    w_waitlist_feed(core);
    bool short_of_memory = shard_relieve(shard);
    short_of_memory |= w_waitlist_thirst(core);
    short_of_memory |= w_crossing_is_short(core);
    w_crossing_publish(core);
    w_stats_add(&core->stats.turns, 1);
    if (W_UNLIKELY(shard_is_done(shard))) {
        w_wheel_clear(&core->wheel, &shard->stop_timer);
        if (core->config->on_stop != NULL)
            core->config->on_stop(shard);
        w_crossing_publish(core);
        w_port_over(core);
        core->in_turn = false;
        atomic_store_explicit(&shard->state, W_SHARD_OVER, memory_order_relaxed);
        return -ESHUTDOWN;
    }
    core->in_turn = false;
    more |= core->lists[W_CORE_AGENDA].first != NULL || w_bell_is_due(&core->bell) ||
            (core->stopping && shard->drained_slots < shard->conns.made);
    uint64_t now_ns = core->engine->clock(core->io), turn_ns = now_ns - core->io->now_ns;
    if (W_UNLIKELY(turn_ns > core->config->long_turn_ns)) {
        w_stats_add(&core->stats.long_turns, 1);
        w_core_log(core, WEIR_LOG_WARNING, "a turn of shard %u took %llu us", core->index, (unsigned long long)(turn_ns / 1000));
    }
    uint64_t next_ns = w_wheel_next_ns(&core->wheel);
    *rest_ns = more || w_waitlist_could_feed(core) ? 0 : next_ns == W_WHEEL_NEVER ? WEIR_FOREVER : next_ns > now_ns ? next_ns - now_ns : 0;
    if (W_UNLIKELY(short_of_memory)) /* it may come back from anywhere, the allocator too */
        *rest_ns = w_base_min_u64(*rest_ns, THIRST_NS);
    return 0;
}
