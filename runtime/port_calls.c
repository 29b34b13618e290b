/* SPDX-License-Identifier: MIT */
/* port_calls: what weir/port.h promises, put together from port and its way back. */
#include <errno.h>
#include <string.h>

#include "runtime/port.h"

static const struct w_port_want want_of_user = {.asker = W_PORT_ASKER_USER};
static const struct w_port_want want_of_call = {.asker = W_PORT_ASKER_CALL};

weir_port *weir_shard_port(weir_shard *shard)
{
    w_core_require_thread(w_core_of(shard), __func__);
    return w_core_of(shard)->port;
}

void weir_port_close(weir_port **pointer)
{
    weir_port *port = *pointer;
    *pointer = NULL;
    if (port == NULL)
        return;
    W_REQUIRE(port->core == NULL, "a shard's port lives as long as the shard");
    w_port_enter(port, __func__);
    w_port_close(port);
}

/* --- sending --- */

int weir_port_send(weir_port *port, weir_id id, const void *data, uint32_t bytes)
{
    if (port->core != NULL)
        return weir_send_to(w_core_shard(port->core), id, data, bytes);
    w_port_enter(port, __func__);
    int result = w_port_put(port, id, data, bytes, &want_of_user);
    w_port_leave(port);
    return result;
}

static enum w_port_verdict port_calls_end(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t argument)
{
    (void)link;
    (void)id;
    (void)argument;
    if (core != NULL && conn != NULL)
        weir_end(conn);
    return W_PORT_DONE;
}

int weir_port_end(weir_port *port, weir_id id)
{
    w_port_enter(port, __func__);
    uint32_t shard = w_port_shard_of(id);
    struct w_core *core = shard < port->table->config->shards ? port->table->cores[shard] : NULL;
    int result = core == NULL || core->conn_protocol(core, id) == NULL ? -ESTALE : w_port_call(port, id, port_calls_end, 0);
    w_port_leave(port);
    return result;
}

void weir_port_cork(weir_port *port)
{
    w_port_enter(port, __func__);
    port->corked = true;
    w_port_leave(port);
}

void weir_port_uncork(weir_port *port)
{
    w_port_enter(port, __func__);
    if (port->core == NULL) {
        port->corked = false;
        w_port_publish(port);
    }
    w_port_leave(port);
}

int weir_post(weir_port *port, weir_shard *shard, weir_post_function function, void *user)
{
    int error;
    W_REQUIRE(function != NULL, "function is NULL");
    w_port_enter(port, __func__);
    struct w_link *link = w_port_link(port, w_core_of(shard)->index, &error);
    struct w_port_record *record = link == NULL ? NULL : w_port_reserve(link, 0, W_PORT_POST, sizeof(struct w_port_post));
    if (record != NULL) {
        struct w_port_post post = {.function = function, .user = user};
        memcpy(record->data, &post, sizeof post);
        w_port_commit(link, record);
        port->stats.posts++;
    }
    w_port_leave(port);
    return record != NULL ? 0 : link != NULL ? -EAGAIN : error;
}

/* --- what comes back --- */

/* Keeps an event; false: no room. */
static bool port_calls_keep(weir_port *port, const weir_port_event *event)
{
    if (port->kept_count == W_PORT_KEPT_MAX)
        return false;
    port->kept[(port->kept_first + port->kept_count++) % W_PORT_KEPT_MAX] = *event;
    return true;
}

/* Keeps all events that have come; false: there was no room for all. */
static bool port_calls_collect(weir_port *port)
{
    uint32_t number;
    port->heard = port->collecting != 0;
    if (port->collecting != 0) {
        if (!w_port_collect(port, port->collecting - 1, port_calls_keep))
            return false;
        port->collecting = 0;
    }
    while (w_bell_hear(port->bell, &number)) {
        port->heard = true;
        if (!w_port_collect(port, number, port_calls_keep)) {
            port->collecting = number + 1;
            return false;
        }
    }
    return true;
}

/* What its descriptor has said is used up. */
static void port_calls_rise(weir_port *port)
{
    if (!port->polled || !atomic_load_explicit(&port->bell->asleep, memory_order_relaxed))
        return;
    w_bell_rise(port->bell);
}

bool weir_port_next(weir_port *port, weir_port_event *event)
{
    const struct w_io_engine *engine = port->table->engine;
    W_REQUIRE(port->core == NULL, "the events of a shard's port come to config.on_port_event");
    w_port_enter(port, __func__);
    port_calls_rise(port);
    do {
        if (port->kept_count == 0)
            port_calls_collect(port);
        if (port->kept_count == 0 && port->polled)
            engine->event_reset(engine->world, &port->event); /* before the bell is looked at for the last time */
    } while (port->kept_count == 0 && port->polled && !w_bell_doze(port->bell));
    bool some = port->kept_count > 0;
    if (some) {
        *event = port->kept[port->kept_first];
        port->kept_first = (port->kept_first + 1) % W_PORT_KEPT_MAX;
        port->kept_count--;
    }
    w_port_leave(port);
    return some;
}

void w_port_forget_channel(weir_port *port, const weir_channel *channel)
{
    uint32_t count = port->kept_count, first = port->kept_first;
    port->kept_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        weir_port_event event = port->kept[(first + i) % W_PORT_KEPT_MAX];
        if (event.channel != channel)
            port->kept[(first + port->kept_count++) % W_PORT_KEPT_MAX] = event;
    }
}

static uint64_t port_calls_now_ns(const weir_port *port)
{
    return port->table->engine->clock(port->table->cores[0]->io);
}

uint64_t w_port_deadline_ns(const weir_port *port, uint64_t timeout_ns)
{
    return timeout_ns == WEIR_FOREVER ? WEIR_FOREVER : w_base_add_saturated(port_calls_now_ns(port), timeout_ns);
}

int w_port_sleep(weir_port *port, uint64_t deadline_ns)
{
    const struct w_io_engine *engine = port->table->engine;
    uint64_t now_ns = port_calls_now_ns(port);
    if (!port_calls_collect(port))
        return -ENOBUFS;
    if (port->heard)
        return 0;
    if (now_ns >= deadline_ns)
        return -ETIMEDOUT;
    engine->event_reset(engine->world, &port->event);
    int result = 0;
    if (w_bell_doze(port->bell))
        result = engine->event_wait(engine->world, &port->event, deadline_ns == WEIR_FOREVER ? WEIR_FOREVER : deadline_ns - now_ns);
    w_bell_rise(port->bell);
    if (w_bell_is_due(port->bell))
        return 0;
    return result == -EINTR ? 0 : result;
}

int weir_port_wait(weir_port *port, uint64_t timeout_ns)
{
    if (port->core != NULL)
        return -EDEADLK;
    w_port_enter(port, __func__);
    uint64_t deadline_ns = w_port_deadline_ns(port, timeout_ns);
    int result = 0;
    w_port_publish(port); /* what is waited for may be an answer to it */
    while (port->kept_count == 0 && result == 0) {
        port_calls_collect(port);
        if (port->kept_count == 0)
            result = w_port_sleep(port, deadline_ns);
    }
    w_port_leave(port);
    return port->kept_count > 0 ? 0 : result;
}

int weir_port_descriptor(weir_port *port)
{
    if (port->core != NULL)
        return -EDEADLK;
    w_port_enter(port, __func__);
    const struct w_io_engine *engine = port->table->engine;
    int descriptor = engine->event_descriptor(engine->world, &port->event);
    if (descriptor >= 0) {
        port->polled = true;
        if (!w_bell_doze(port->bell)) /* something is there already */
            engine->event_set(engine->world, &port->event);
    }
    w_port_leave(port);
    return descriptor;
}

/* ROOM that is owed to earlier refusals. Whoever waits here for room is told by the answer, not by an event, so meanwhile nothing is owed; afterwards
 * what was is again. */
struct debt {
    bool told_full, poor;
};

static struct debt port_calls_debt(const weir_port *port, weir_id id)
{
    uint32_t shard = w_port_shard_of(id);
    struct w_link *link = shard < port->table->config->shards ? port->links[shard] : NULL;
    return (struct debt){.told_full = link != NULL && link->told_full, .poor = port->poor};
}

static void port_calls_owe(weir_port *port, weir_id id, const struct debt *debt)
{
    uint32_t shard = w_port_shard_of(id);
    struct w_link *link = shard < port->table->config->shards ? port->links[shard] : NULL;
    port->poor = port->poor_tell = debt->poor;
    if (link != NULL)
        link->told_full = debt->told_full;
    if (debt->told_full || debt->poor) /* there may be room already */
        w_port_ring_back(port, port->answers_number + shard);
}

int weir_port_send_wait(weir_port *port, weir_id id, const void *data, uint32_t bytes, uint64_t timeout_ns)
{
    static const struct debt nothing;
    if (port->core != NULL)
        return -EDEADLK;
    w_port_enter(port, __func__);
    uint64_t deadline_ns = 0;
    int result, slept = 0;
    struct debt debt = port_calls_debt(port, id);
    while ((result = w_port_put(port, id, data, bytes, &want_of_call)) == -EAGAIN && slept == 0) {
        if (deadline_ns == 0)
            deadline_ns = w_port_deadline_ns(port, timeout_ns);
        port_calls_owe(port, id, &nothing);
        w_port_publish(port);
        slept = w_port_sleep(port, deadline_ns);
    }
    if (deadline_ns != 0)
        port_calls_owe(port, id, &debt);
    w_port_leave(port);
    return result == -EAGAIN ? slept : result;
}

/* Have the shards read everything? */
static bool port_calls_is_taken(weir_port *port)
{
    for (uint32_t i = 0; i < port->table->config->shards; i++) {
        struct w_link *link = port->links[i];
        if (link != NULL && w_spsc_look_back(&link->there) != 0 &&
            !atomic_load_explicit(&port->table->cores[i]->over, memory_order_relaxed))
            return false;
    }
    return true;
}

/* Asks to be told when there is room in the rings that have something. Of an empty one nothing more will be told: if its room had been asked for, it is told now. */
static void port_calls_await(weir_port *port)
{
    for (uint32_t i = 0; i < port->table->config->shards; i++) {
        struct w_link *link = port->links[i];
        if (link == NULL || w_spsc_look_back(&link->there) == 0)
            continue;
        atomic_store(&link->waiting, true);
        w_base_fence(); /* as in port_wait_for_room */
        if (w_spsc_look_back(&link->there) == 0 && atomic_exchange(&link->waiting, false))
            w_port_ring_back(port, port->answers_number + i);
    }
}

/* Everything is taken: all that comes back, whether it has rung yet or not; and every ring has room. */
static bool port_calls_collect_all(weir_port *port)
{
    bool done = port_calls_collect(port);
    for (uint32_t i = 0; done && i < port->table->config->shards; i++) {
        if (port->links[i] == NULL)
            continue;
        atomic_store_explicit(&port->links[i]->waiting, false, memory_order_relaxed);
        done = w_port_collect(port, port->answers_number + i, port_calls_keep);
    }
    return done;
}

int weir_port_flush(weir_port *port, uint64_t timeout_ns)
{
    if (port->core != NULL)
        return -EDEADLK;
    w_port_enter(port, __func__);
    uint64_t deadline_ns = w_port_deadline_ns(port, timeout_ns);
    int result = 0;
    w_port_publish(port);
    while (!port_calls_is_taken(port) && result == 0) {
        port_calls_await(port); /* the shards tell when half of a ring is free: the rest is asked for in short steps */
        uint64_t step_ns = w_base_add_saturated(port_calls_now_ns(port), WEIR_MILLISECOND / 4);
        result = w_port_sleep(port, w_base_min_u64(step_ns, deadline_ns));
        if (result == -ETIMEDOUT && port_calls_now_ns(port) < deadline_ns)
            result = 0;
    }
    if (result == 0 && !port_calls_collect_all(port))
        result = -ENOBUFS;
    w_port_leave(port);
    return result;
}

void weir_port_stats_get(const weir_port *port, weir_port_stats *stats)
{
    *stats = port->stats;
    for (uint32_t i = 0; i < port->table->config->shards; i++) {
        const struct w_link *link = port->links[i];
        if (link == NULL)
            continue;
        stats->messages_taken += atomic_load_explicit(&link->messages_taken, memory_order_relaxed);
        stats->bytes_taken += atomic_load_explicit(&link->bytes_taken, memory_order_relaxed);
    }
}
