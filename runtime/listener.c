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

/* On any thread, so it may be behind by what happens just now. */
static uint32_t listener_free_slots_of(struct w_core *core)
{
    /* Acquire, and first: who is seen to arrive no more is counted already (listener_place_here). */
    uint32_t arriving = atomic_load_explicit(&core->arriving, memory_order_acquire);
    uint32_t taken = w_stats_get_u32(&core->conns->count) + arriving;
    return taken < core->conns->capacity ? core->conns->capacity - taken : 0;
}

/* Slots that are free for what this part accepts: on its shard, or, round robin, on all. */
static uint32_t listener_free_slots(const struct w_listener_part *part)
{
    const struct w_port_table *ports = part->core->ports;
    uint32_t first = part->core->index, last = first, slots = 0;
    if (part->listener->round_robin) {
        first = 0;
        last = ports->config->shards - 1;
    }
    for (uint32_t i = first; i <= last; i++)
        slots += listener_free_slots_of(ports->cores[i]);
    return slots;
}

/* An accept of many takes the whole backlog at once. So that it never takes more than there are slots, it is for when there are plenty. */
static bool listener_may_take_many(const struct w_listener_part *part)
{
    return listener_free_slots(part) > part->listener->backlog;
}

/* No slot anywhere: true when that is so still after whoever frees one has been asked to tell. */
static bool listener_is_out_of_slots(const struct w_listener_part *part)
{
    if (listener_free_slots(part) > 0)
        return false;
    if (!part->listener->round_robin)
        return true;
    /* Sequentially consistent: the wish is stored, then slots are looked at; who frees one looks at the wish after it (w_listener_retry): one sees the other. */
    atomic_store(&part->listener->waits_for_slot, true);
    w_base_fence();
    return listener_free_slots(part) == 0;
}

static bool listener_is_begun(const struct w_listener_part *part)
{
    return part->state == W_LISTENER_ACCEPTING || part->state == W_LISTENER_WAITING;
}

/* A slot is free on another shard. */
static enum w_port_verdict listener_retry_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t argument)
{
    (void)link;
    (void)conn;
    (void)id;
    if (core != NULL)
        core->listener_retry(core, (uint32_t)argument);
    return W_PORT_DONE;
}

/* Round robin, on the shards that do not accept: a slot is free here. Told if that was asked for. */
static void listener_tell_of_slot(struct w_listener_part *part)
{
    struct w_listener *listener = part->listener;
    w_base_fence(); /* the slot is free, then the wish is looked at: see listener_is_out_of_slots */
    if (atomic_load_explicit(&listener->waits_for_slot, memory_order_relaxed) && atomic_exchange(&listener->waits_for_slot, false) &&
        !part->retry.queued)
        w_port_call_later(part->core->port, &part->retry, (weir_id){0}, listener_retry_here, part->index);
}

static void listener_accept(struct w_listener_part *part)
{
    struct w_core *core = part->core;
    part->state = W_LISTENER_ACCEPTING;
    if (part->listener->round_robin && core->index != 0) {
        listener_tell_of_slot(part); /* one may have come free before this shard had heard of the listener */
        return;
    }
    if (part->in_flight)
        return;
    if (listener_is_out_of_slots(part)) {
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
    /* Relaxed: it cannot go on before this shard has left. */
    uint32_t generation = w_life_generation(atomic_load_explicit(&listener->life, memory_order_relaxed));
    part->left_generation = generation;
    /* Acquire and release: the last one out sees that all others have done with the listener. */
    if (atomic_fetch_sub_explicit(&listener->shards_left, 1, memory_order_acq_rel) != 1)
        return;
    w_listener_discard(listener, core->engine, core->config->shards);
    atomic_store_explicit(&listener->life, w_life(generation, W_LISTENER_FREE), memory_order_release);
}

/* A listener that lives, or is being stopped, and that this shard has never begun: it is waited for all the same. */
static bool listener_is_to_leave(const struct w_listener_part *part)
{
    uint64_t life = atomic_load_explicit(&part->listener->life, memory_order_acquire);
    uint32_t state = w_life_state(life);
    bool left = part->state == W_LISTENER_LEFT && (part->in_flight || part->left_generation == w_life_generation(life));
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
    uint32_t state = w_life_state(atomic_load_explicit(&part->listener->life, memory_order_acquire));
    if (state == W_LISTENER_LISTENING && !listener_is_begun(part) && !part->in_flight) {
        part->backoff_ns = BACKOFF_MIN_NS;
        part->broken = false;
        listener_accept(part);
    } else if (state == W_LISTENER_STOPPING) {
        w_listener_leave(part);
    }
}

/* A new connection on this shard, or, without a slot, none. */
static void listener_place(struct w_core *core, uint32_t index, int handle)
{
    struct w_listener *listener = &core->listeners[index];
    int error;
    weir_conn *conn = core->stopping ? NULL : w_table_take(core->conns, &error);
    if (conn == NULL) {
        core->engine->discard(core->engine->world, handle);
        w_stats_add(&core->stats.turned_away, 1);
        return;
    }
    w_conn_init(conn, core, listener->protocol, listener->user, index);
    w_conn_connected(conn, handle);
}

/* Shard 0 has accepted it for this one. argument: the listener's index, the handle. */
static enum w_port_verdict listener_place_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t argument)
{
    const struct w_io_engine *engine = link->port->table->engine;
    (void)conn;
    (void)id;
    uint32_t index = (uint32_t)(argument >> 32);
    if (core == NULL) {
        engine->discard(engine->world, (int)(uint32_t)argument);
        return W_PORT_DONE;
    }
    listener_place(core, index, (int)(uint32_t)argument);
    /* Behind the placing, and release, so that no slot looks free twice. Until here it looked taken twice, or it was not taken after all: who waits for one
     * hears of it. */
    atomic_fetch_sub_explicit(&core->arriving, 1, memory_order_release);
    core->listener_retry(core, index);
    return W_PORT_DONE;
}

/* Round robin: to the next shard that has a free slot, else to this one. */
static void listener_hand_on(struct w_listener_part *part, int handle)
{
    struct w_core *core = part->core;
    struct w_listener *listener = part->listener;
    uint32_t shards = core->config->shards;
    for (uint32_t i = 0; i < shards; i++) {
        uint32_t shard = listener->next_shard;
        struct w_core *other = core->ports->cores[shard];
        listener->next_shard = (shard + 1) % shards;
        if (listener_free_slots_of(other) == 0)
            continue;
        const weir_id anybody = {(uint64_t)shard << (W_CONN_GENERATION_BITS + W_CONN_SLOT_BITS)};
        uint64_t argument = (uint64_t)part->index << 32 | (uint32_t)handle;
        if (shard == core->index)
            break;
        atomic_fetch_add_explicit(&other->arriving, 1, memory_order_relaxed);
        if (w_port_call(core->port, anybody, listener_place_here, argument) == 0)
            return;
        atomic_fetch_sub_explicit(&other->arriving, 1, memory_order_relaxed);
    }
    listener_place(core, part->index, handle);
}

static void listener_took(struct w_listener_part *part, int handle)
{
    struct w_core *core = part->core;
    part->backoff_ns = BACKOFF_MIN_NS;
    if (part->state == W_LISTENER_LEFT) {
        core->engine->discard(core->engine->world, handle);
        w_stats_add(&core->stats.turned_away, 1);
    } else if (part->listener->round_robin) {
        listener_hand_on(part, handle);
    } else {
        listener_place(core, part->index, handle);
    }
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
    if (part->state != W_LISTENER_ACCEPTING || !part->in_flight)
        return;
    if (listener_is_out_of_slots(part)) {
        listener_wait(part, UINT64_MAX);
    } else if (part->many && !listener_may_take_many(part)) {
        part->many = false; /* cancelled once; the next one takes them one by one */
        part->core->engine->cancel(part->core->io, listener_token(part));
    }
}

bool w_listener_retry(struct w_listener_part *part)
{
    struct w_core *core = part->core;
    if (!listener_is_begun(part)) /* another thread may be writing down what it is just now */
        return false;
    if (part->listener->round_robin && core->index != 0) {
        listener_tell_of_slot(part);
        return false;
    }
    /* Somebody else may have taken the slot in between: then it is asked for again. */
    if (part->state != W_LISTENER_WAITING || part->broken || core->stopping || listener_is_out_of_slots(part))
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
