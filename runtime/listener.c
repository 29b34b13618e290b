/* SPDX-License-Identifier: MIT */
/* listener: accepts connections.
 *
 * Road:    follow -> accept (one operation, many completions) -> a slot -> the connection's on_open.
 * Ditches: no slot -> accepting is cancelled until one is free, newcomers wait in the backlog; no descriptors -> try again after 10 ms, doubling to a
 *          second, or as soon as one of ours is closed; no memory for a slot -> that one is closed and counted; stopped -> cancel, wait, leave. */
#include "runtime/listener.h"

#include <errno.h>

#include "runtime/table.h"

#define BACKOFF_MIN_NS (10 * WEIR_MILLISECOND)
#define BACKOFF_MAX_NS WEIR_SECOND

static int listener_handle(const struct w_listener_part *part)
{
    return part->listener->handles[part->listener->one_handle ? 0 : part->core->index];
}

static uint64_t listener_token(const struct w_listener_part *part)
{
    return w_conn_token(W_CONN_TOKEN_LISTENER, W_CONN_ACCEPT, part->index, 1);
}

/* Stops accepting for now. due_ns: when to try again by itself; UINT64_MAX: when a slot is free. */
static void listener_wait(struct w_listener_part *part, uint64_t due_ns)
{
    struct w_core *core = part->core;
    part->state = W_LISTENER_WAITING;
    w_stats_add(&core->stats.accept_pauses, 1);
    if (part->in_flight)
        core->engine->cancel(core->io, listener_token(part));
    if (due_ns != UINT64_MAX)
        w_wheel_set(&core->wheel, &part->timer, W_CORE_TIMER_LISTENER, due_ns);
}

/* An accept of many takes the whole backlog at once. So that it never takes more than there are slots, it is for when there are plenty. */
static bool listener_may_take_many(const struct w_listener_part *part)
{
    const struct w_conn_table *table = part->core->conns;
    return table->capacity - table->count > part->listener->backlog;
}

static void listener_accept(struct w_listener_part *part)
{
    struct w_core *core = part->core;
    part->state = W_LISTENER_ACCEPTING;
    if (part->in_flight)
        return;
    if (core->conns->count >= core->conns->capacity) {
        listener_wait(part, UINT64_MAX);
        return;
    }
    part->in_flight = true;
    part->many = listener_may_take_many(part);
    (part->many ? core->engine->accept : core->engine->accept_one)(core->io, listener_handle(part), listener_token(part));
}

/* Once for each handle: another part of the program may own the number afterwards. */
static void listener_close(struct w_listener *listener, const struct w_io_engine *engine, uint32_t index)
{
    if (listener->handles[index] >= 0)
        engine->discard(engine->world, listener->handles[index]);
    listener->handles[index] = -1;
}

void w_listener_discard(struct w_listener *listener, const struct w_io_engine *engine, uint32_t shard_count)
{
    for (uint32_t i = 0; i < (listener->one_handle ? 1 : shard_count); i++)
        listener_close(listener, engine, i);
    if (listener->remove_address)
        engine->remove_address(engine->world, &listener->address);
}

/* This shard is out of it: closes its socket, and the last one out frees the listener. */
static void listener_left(struct w_listener_part *part)
{
    struct w_core *core = part->core;
    struct w_listener *listener = part->listener;
    if (!listener->one_handle)
        listener_close(listener, core->engine, core->index);
    part->state = W_LISTENER_LEFT;
    part->left_generation = atomic_load_explicit(&listener->generation, memory_order_relaxed);
    /* Acquire and release: the last one out sees that all others have done with the listener. */
    if (atomic_fetch_sub_explicit(&listener->shards_left, 1, memory_order_acq_rel) != 1)
        return;
    w_listener_discard(listener, core->engine, core->config->shards);
    atomic_fetch_add_explicit(&listener->generation, 1, memory_order_relaxed);
    atomic_store_explicit(&listener->state, W_LISTENER_FREE, memory_order_release);
}

static bool listener_is_begun(const struct w_listener_part *part)
{
    return part->state == W_LISTENER_ACCEPTING || part->state == W_LISTENER_WAITING;
}

/* A listener that lives, or is being stopped, and that this shard has never begun: it is waited for all the same. */
static bool listener_is_to_leave(const struct w_listener_part *part)
{
    const struct w_listener *listener = part->listener;
    uint32_t state = atomic_load_explicit(&listener->state, memory_order_acquire);
    bool left = part->state == W_LISTENER_LEFT &&
                (part->in_flight || part->left_generation == atomic_load_explicit(&listener->generation, memory_order_relaxed));
    return (state == W_LISTENER_LISTENING || state == W_LISTENER_STOPPING) && !left;
}

void w_listener_leave(struct w_listener_part *part)
{
    struct w_core *core = part->core;
    if (!listener_is_begun(part)) {
        if (listener_is_to_leave(part))
            listener_left(part);
        return;
    }
    w_wheel_clear(&core->wheel, &part->timer);
    part->state = W_LISTENER_LEFT;
    if (part->in_flight)
        core->engine->cancel(core->io, listener_token(part));
    else
        listener_left(part);
}

void w_listener_follow(struct w_listener_part *part)
{
    /* Acquire: pairs with the release that published the state. */
    uint32_t state = atomic_load_explicit(&part->listener->state, memory_order_acquire);
    if (state == W_LISTENER_LISTENING && !listener_is_begun(part) && !part->in_flight) {
        part->backoff_ns = BACKOFF_MIN_NS;
        part->broken = false;
        listener_accept(part);
    } else if (state == W_LISTENER_STOPPING) {
        w_listener_leave(part);
    }
}

static void listener_took(struct w_listener_part *part, int handle)
{
    struct w_core *core = part->core;
    int error;
    part->backoff_ns = BACKOFF_MIN_NS;
    weir_conn *conn = part->state == W_LISTENER_LEFT || core->stopping ? NULL : w_table_take(core->conns, &error);
    if (conn == NULL) {
        core->engine->discard(core->engine->world, handle);
        w_stats_add(&core->stats.turned_away, 1);
        return;
    }
    w_conn_init(conn, core, part->listener->protocol, part->listener->user, part->index);
    w_conn_connected(conn, handle);
}

/* An accept that came to its end by itself: again at once, later, or never. */
static void listener_failed(struct w_listener_part *part, int error)
{
    struct w_core *core = part->core;
    if (error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM) {
        w_core_log(core, WEIR_LOG_WARNING, "accepting pauses for %u ms: %s", (unsigned)(part->backoff_ns / WEIR_MILLISECOND),
                   weir_strerror(error));
        listener_wait(part, core->io->now_ns + part->backoff_ns);
        part->backoff_ns = w_base_min_u64(part->backoff_ns * 2, BACKOFF_MAX_NS);
    } else if (error == -EBADF || error == -ENOTSOCK || error == -EINVAL || error == -EOPNOTSUPP) {
        w_core_log(core, WEIR_LOG_ERROR, "a listening socket is broken and accepts no more: %s", weir_strerror(error));
        part->state = W_LISTENER_WAITING;
        part->broken = true;
    } else {
        listener_accept(part);
    }
}

void w_listener_accepted(struct w_listener_part *part, const struct w_io_completion *completion)
{
    if (!(completion->flags & W_IO_MORE))
        part->in_flight = false;
    if (completion->result >= 0)
        listener_took(part, completion->result);
    if (part->state == W_LISTENER_LEFT) {
        if (!part->in_flight)
            listener_left(part);
    } else if (part->state == W_LISTENER_ACCEPTING && !part->in_flight) {
        listener_failed(part, completion->result < 0 ? completion->result : 0);
    } else {
        w_listener_look(part);
    }
}

void w_listener_look(struct w_listener_part *part)
{
    struct w_conn_table *table = part->core->conns;
    if (part->state != W_LISTENER_ACCEPTING || !part->in_flight)
        return;
    if (table->count >= table->capacity) {
        listener_wait(part, UINT64_MAX);
    } else if (part->many && !listener_may_take_many(part)) {
        part->many = false; /* cancelled once; the next one takes them one by one */
        part->core->engine->cancel(part->core->io, listener_token(part));
    }
}

bool w_listener_retry(struct w_listener_part *part)
{
    struct w_conn_table *table = part->core->conns;
    if (part->state != W_LISTENER_WAITING || part->broken || part->core->stopping || table->count >= table->capacity)
        return false;
    w_wheel_clear(&part->core->wheel, &part->timer);
    listener_accept(part);
    return true;
}

void w_listener_timer(struct w_wheel_entry *entry, void *context, uint64_t now_ns)
{
    (void)context;
    (void)now_ns;
    w_listener_retry(W_CONTAINER(entry, struct w_listener_part, timer));
}
