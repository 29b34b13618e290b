/* SPDX-License-Identifier: MIT */
/* sim: the simulated kernel's face: the functions of struct w_io_engine. What is behind them: see sim_world.h.
 *
 * Road:    calls queue operations → submit() hands them over, lets a little time pass (or as much as it may wait), and brings what is due →
 *          take() hands it out.
 * Ditches: the caller breaks the contract → blamed, with the seed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/sim_world.h"

static struct w_sim_shard *shard_of(struct w_io *io)
{
    return W_CONTAINER(io, struct w_sim_shard, io);
}

/* Every call on a shard passes here. */
static struct w_sim_shard *enter(struct w_io *io, const char *call)
{
    struct w_sim_shard *shard = shard_of(io);
    W_SIM_REQUIRE(shard->world, shard->thread != NULL, "%s before start()", call);
    W_SIM_REQUIRE(shard->world, shard->thread == w_sim_world_thread(), "%s from a thread other than the one that called start()", call);
    W_SIM_REQUIRE(shard->world, !shard->world->in_action, "%s from inside a scheduled action", call);
    return shard;
}

/* --- for the whole runtime --- */

static int sim_listen(void *where, const struct w_io_address *address, const weir_socket_options *options, enum w_io_sharing sharing)
{
    struct weir_sim_world *world = where;
    int error = 0;
    uint32_t backlog = options != NULL && options->backlog != 0 ? options->backlog : 4096;
    struct w_sim_socket *socket = w_sim_socket_listen(world, address, sharing, backlog, &error);
    if (socket == NULL)
        return error;
    int handle = w_sim_socket_open_handle(socket);
    if (handle < 0)
        w_sim_socket_close(socket, false);
    return handle;
}

/* There are no files in this world: a unix path is free when nobody listens on it. */
static void sim_remove_address(void *where, const struct w_io_address *address)
{
    w_sim_world_note(where, "remove-address", address->socket.any.sa_family, address->bytes, 0);
}

/* The socket of a number that somebody outside made for weir to take over; NULL: no such thing. */
static struct w_sim_socket *foreign_socket(struct weir_sim_world *world, int descriptor)
{
    if (descriptor < 0 || (uint32_t)descriptor >= world->handle_capacity)
        return NULL;
    return world->handles[descriptor];
}

static int sim_listen_inherited(void *where, int descriptor, const weir_socket_options *options)
{
    (void)options;
    struct w_sim_socket *socket = foreign_socket(where, descriptor);
    if (socket == NULL)
        return -EBADF;
    if (!socket->adoptable || socket->kind != W_SIM_SOCKET_LISTENING)
        return -EINVAL;
    socket->adoptable = false;
    return descriptor;
}

static int sim_local_address(void *where, int handle, struct w_io_address *address)
{
    *address = w_sim_socket_of(where, handle)->local;
    return 0;
}

static int sim_peer_address(void *where, int handle, struct w_io_address *address)
{
    struct w_sim_socket *socket = w_sim_socket_of(where, handle);
    if (socket->kind == W_SIM_SOCKET_STREAM && socket->death == 0 && w_sim_fault_draws(where, WEIR_SIM_PEER_GONE))
        w_sim_socket_kill(socket, ECONNRESET);
    if (socket->kind != W_SIM_SOCKET_STREAM || socket->death != 0) {
        w_sim_fault_fire(where, WEIR_SIM_PEER_GONE);
        return -ENOTCONN;
    }
    *address = socket->remote;
    return 0;
}

static void sim_discard(void *where, int handle)
{
    struct w_sim_socket *socket = w_sim_socket_of(where, handle);
    W_SIM_REQUIRE(socket->world, socket->operations == 0 && !socket->closing, "discard of handle %d, which is in use", handle);
    w_sim_socket_close(socket, false);
}

static int sim_resolve_now(void *where, struct w_io_resolve *resolve)
{
    uint64_t delay_ns = 0;
    return w_sim_peer_look_up(where, resolve, &delay_ns);
}

/* --- a shard's life --- */

static void add_shard(struct weir_sim_world *world, struct w_sim_shard *shard)
{
    if (shard->index >= world->shard_count) {
        uint32_t count = shard->index + 1;
        struct w_sim_shard **shards = w_sim_world_memory(count * sizeof *shards);
        if (world->shard_count > 0)
            memcpy(shards, world->shards, world->shard_count * sizeof *shards);
        free(world->shards);
        world->shards = shards;
        world->shard_count = count;
    }
    W_SIM_REQUIRE(world, world->shards[shard->index] == NULL, "shard %u is open already", shard->index);
    world->shards[shard->index] = shard;
}

static int sim_open(void *where, const struct w_io_setup *setup, struct w_io **io, weir_error *error)
{
    const weir_allocator *allocator = setup->allocator;
    struct weir_sim_world *world = where;
    struct w_sim_shard *shard = allocator->allocate(allocator->user, sizeof *shard, _Alignof(max_align_t));
    if (shard == NULL)
        return w_base_fail(error, -ENOMEM, "no memory for a simulated shard");
    memset(shard, 0, sizeof *shard);
    shard->io.engine = &world->engine;
    shard->io.now_ns = world->now_ns;
    shard->io.memory_bytes = sizeof *shard;
    shard->world = world;
    shard->index = setup->shard_index;
    shard->embedded = setup->embedded;
    shard->allocator = *allocator;
    shard->woken_due_ns = UINT64_MAX;
    int code = w_sim_buffer_open(shard, setup);
    if (code < 0) {
        allocator->release(allocator->user, shard, sizeof *shard);
        return w_base_fail(error, code, "no memory for %u receive buffers", setup->receive_buffers);
    }
    add_shard(world, shard);
    *io = &shard->io;
    return 0;
}

static void sim_close(struct w_io **where)
{
    struct w_sim_shard *shard = shard_of(*where);
    w_sim_operation_finish(shard);
    w_sim_buffer_close(shard);
    shard->world->shards[shard->index] = NULL;
    weir_allocator allocator = shard->allocator;
    allocator.release(allocator.user, shard, sizeof *shard);
    *where = NULL;
}

static int sim_start(struct w_io *io)
{
    struct w_sim_shard *shard = shard_of(io);
    W_SIM_REQUIRE(shard->world, shard->thread == NULL, "start() of shard %u a second time", shard->index);
    shard->thread = w_sim_world_thread();
    io->now_ns = shard->world->now_ns;
    return 0;
}

/* --- operations --- */

static void sim_accept(struct w_io *io, int handle, uint64_t token)
{
    w_sim_operation_queue(enter(io, "accept"), W_SIM_ACCEPT, handle, token);
}

static void sim_accept_one(struct w_io *io, int handle, uint64_t token)
{
    w_sim_operation_queue(enter(io, "accept_one"), W_SIM_ACCEPT, handle, token)->once = true;
}

static bool sim_hung_up(struct w_io *io, int handle)
{
    const struct w_sim_socket *socket = w_sim_socket_of(enter(io, "hung_up")->world, handle);
    return socket->death != 0 || (socket->other != NULL && socket->other->outbound.end_arrived);
}

static int sim_socket(struct w_io *io, const struct w_io_address *address, const weir_socket_options *options)
{
    (void)address;
    (void)options;
    struct weir_sim_world *world = enter(io, "socket")->world;
    if (w_sim_fault_strikes(world, WEIR_SIM_SOCKET_SPENT))
        return w_sim_world_below(world, 2) == 0 ? -EMFILE : -ENFILE;
    struct w_sim_socket *socket = w_sim_socket_create(world);
    int handle = w_sim_socket_open_handle(socket);
    if (handle < 0) {
        w_sim_fault_fire(world, WEIR_SIM_SOCKET_SPENT);
        w_sim_socket_close(socket, false);
    }
    return handle;
}

static int sim_adopt(struct w_io *io, int descriptor, const weir_socket_options *options)
{
    (void)options;
    struct w_sim_socket *socket = foreign_socket(enter(io, "adopt")->world, descriptor);
    if (socket == NULL || !socket->adoptable || socket->kind != W_SIM_SOCKET_STREAM)
        return -EINVAL;
    socket->adoptable = false;
    return 0;
}

static void sim_connect(struct w_io *io, int handle, const struct w_io_address *address, uint64_t token)
{
    struct w_sim_operation *operation = w_sim_operation_queue(enter(io, "connect"), W_SIM_CONNECT, handle, token);
    operation->address = address;
    w_sim_operation_guard(operation);
}

static void sim_receive(struct w_io *io, int handle, uint64_t token)
{
    w_sim_operation_queue(enter(io, "receive"), W_SIM_RECEIVE, handle, token);
}

static void sim_send(struct w_io *io, int handle, const void *data, size_t bytes, uint64_t token)
{
    struct w_sim_operation *operation = w_sim_operation_queue(enter(io, "send"), W_SIM_SEND, handle, token);
    operation->alone = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    operation->bytes = bytes;
    w_sim_operation_guard(operation);
}

static void sim_send_gather(struct w_io *io, int handle, struct w_io_gather *gather, uint64_t token)
{
    struct w_sim_operation *operation = w_sim_operation_queue(enter(io, "send_gather"), W_SIM_SEND, handle, token);
    W_SIM_REQUIRE(operation->shard->world, gather->count >= 1 && gather->count <= W_IO_VECTORS_MAX, "a gather of %u vectors",
                  gather->count);
    operation->gather = gather;
    for (uint32_t i = 0; i < gather->count; i++)
        operation->bytes += gather->vectors[i].iov_len;
    w_sim_operation_guard(operation);
}

static void sim_shutdown(struct w_io *io, int handle, int how)
{
    struct w_sim_socket *socket = w_sim_socket_of(enter(io, "shutdown")->world, handle);
    W_SIM_REQUIRE(socket->world, !socket->closing, "shutdown of handle %d after its close", handle);
    W_SIM_REQUIRE(socket->world, how == SHUT_WR || how == SHUT_RDWR, "shutdown in the manner %d", how);
    w_sim_socket_shutdown(socket, how);
}

static void sim_reset_on_close(struct w_io *io, int handle)
{
    struct w_sim_socket *socket = w_sim_socket_of(enter(io, "reset_on_close")->world, handle);
    W_SIM_REQUIRE(socket->world, !socket->closing, "reset_on_close of handle %d after its close", handle);
    socket->reset_on_close = true;
}

static void sim_close_handle(struct w_io *io, int handle, uint64_t token)
{
    w_sim_operation_queue(enter(io, "close_handle"), W_SIM_CLOSE, handle, token);
}

static void sim_cancel(struct w_io *io, uint64_t token)
{
    w_sim_operation_queue(enter(io, "cancel"), W_SIM_CANCEL, -1, token);
}

static void sim_resolve(struct w_io *io, struct w_io_resolve *resolve, uint64_t token)
{
    struct w_sim_operation *operation = w_sim_operation_queue(enter(io, "resolve"), W_SIM_RESOLVE, -1, token);
    operation->resolve = resolve;
}

static void sim_buffer_hold(struct w_io *io, uint16_t buffer)
{
    w_sim_buffer_hold(enter(io, "buffer_hold"), buffer);
}

static void sim_buffer_release(struct w_io *io, uint16_t buffer)
{
    w_sim_buffer_release(enter(io, "buffer_release"), buffer);
}

/* --- the turn --- */

static bool is_woken(const struct w_sim_shard *shard)
{
    return atomic_load_explicit(&shard->woken_due_ns, memory_order_acquire) <= shard->world->now_ns;
}

static bool has_news(const struct w_sim_shard *shard)
{
    return shard->broken != 0 || shard->there.first < shard->there.count || w_sim_operation_due(shard) || is_woken(shard);
}

static bool is_rung(const struct w_sim_shard *shard)
{
    return shard->io.bell != NULL && w_bell_is_due(shard->io.bell);
}

static void sleep_until(struct w_sim_shard *shard, uint64_t deadline_ns)
{
    struct weir_sim_world *world = shard->world;
    atomic_fetch_add_explicit(&shard->io.counters.sleeps, 1, memory_order_relaxed); /* a counter */
    while (!has_news(shard)) {
        if (w_sim_fault_strikes(world, WEIR_SIM_EARLY_RETURN))
            return;
        uint64_t next_ns = weir_sim_next_ns(world);
        W_SIM_REQUIRE(world, next_ns != UINT64_MAX || deadline_ns != UINT64_MAX, "shard %u sleeps for ever, and nothing will ever happen",
                      shard->index);
        if (next_ns > deadline_ns) {
            weir_sim_run_until(world, deadline_ns);
            return;
        }
        weir_sim_step(world);
    }
}

/* True when all was taken that was queued, so that the kernel may let the caller sleep. */
static bool hand_over(struct w_sim_shard *shard)
{
    uint64_t most = UINT64_MAX;
    if (shard->submit_first != NULL && w_sim_fault_strikes(shard->world, WEIR_SIM_BUSY))
        most = w_sim_world_below(shard->world, 3);
    w_sim_operation_submit(shard, most);
    return !shard->left;
}

static int sim_submit(struct w_io *io, uint64_t wait_ns)
{
    struct w_sim_shard *shard = enter(io, "submit");
    struct weir_sim_world *world = shard->world;
    shard->armed = false;
    if (io->bell != NULL)
        w_bell_rise(io->bell);
    if (shard->broken != 0) {
        w_sim_operation_abandon(shard);
        return shard->broken;
    }
    weir_sim_run_until(world, world->now_ns + w_sim_world_between(world, 100, 2000));
    if (hand_over(shard) && wait_ns > 0 && !has_news(shard) && !is_rung(shard))
        sleep_until(shard, wait_ns == W_IO_FOREVER ? UINT64_MAX : w_base_add_saturated(world->now_ns, wait_ns));
    if (is_woken(shard))
        atomic_store_explicit(&shard->woken_due_ns, UINT64_MAX,
                              memory_order_relaxed); /* what was published before the wake was acquired above */
    w_sim_operation_harvest(shard);
    io->now_ns = world->now_ns;
    return 0;
}

static uint32_t sim_take(struct w_io *io, struct w_io_completion *completions, uint32_t max)
{
    struct w_sim_shard *shard = enter(io, "take");
    uint32_t count = 0;
    while (count < max && w_sim_operation_take(shard, &completions[count]))
        count++;
    return count;
}

static bool sim_stirring(struct w_io *io)
{
    struct w_sim_shard *shard = enter(io, "stirring");
    weir_sim_run_until(shard->world, shard->world->now_ns);
    return shard->left || has_news(shard) || is_rung(shard);
}

/* Each look costs a little: who spins on the clock gets somewhere. */
static uint64_t sim_clock(struct w_io *io)
{
    return shard_of(io)->world->now_ns += 25;
}

static uint64_t sim_random(struct w_io *io)
{
    return w_sim_world_random(shard_of(io)->world);
}

static void hear_wake(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)object;
    w_sim_world_note(world, "wake", (int64_t)argument, 0, 0);
}

static void sim_wake(struct w_io *io)
{
    struct w_sim_shard *shard = shard_of(io);
    struct weir_sim_world *world = shard->world;
    uint64_t due_ns = world->now_ns;
    if (shard->closes > 0)
        w_sim_fault_fire(world, WEIR_SIM_CLOSE_WAKE);
    if (w_sim_fault_strikes(world, WEIR_SIM_LATE_WAKE) || (shard->closes > 0 && w_sim_fault_draws(world, WEIR_SIM_CLOSE_WAKE)))
        due_ns += w_sim_world_late_ns(world);
    if (due_ns >= atomic_load_explicit(&shard->woken_due_ns, memory_order_relaxed)) /* the earlier wake covers this one */
        return;
    atomic_store_explicit(&shard->woken_due_ns, due_ns, memory_order_release);
    w_sim_world_at(world, due_ns, NULL, hear_wake, NULL, shard->index);
}

/* --- embedded --- */

static int sim_descriptor(struct w_io *io)
{
    struct w_sim_shard *shard = shard_of(io);
    if (shard->thread != NULL && !shard->embedded)
        return -EINVAL;
    shard->embedded = true;
    return W_SIM_DESCRIPTOR + (int)shard->index; /* a number and nothing more: see weir_sim_readable() */
}

static bool sim_may_sleep(struct w_io *io)
{
    struct w_sim_shard *shard = enter(io, "may_sleep");
    W_SIM_REQUIRE(shard->world, shard->embedded, "may_sleep() of a shard that is not embedded");
    weir_sim_run_until(shard->world, shard->world->now_ns);
    shard->armed = !shard->left && !has_news(shard) && (io->bell == NULL || w_bell_doze(io->bell));
    if (shard->armed)
        atomic_fetch_add_explicit(&io->counters.sleeps, 1, memory_order_relaxed); /* a counter */
    return shard->armed;
}

/* --- the test's side of it --- */

bool weir_sim_stirring(const struct weir_sim_world *world, uint32_t shard_index)
{
    const struct w_sim_shard *shard = shard_index < world->shard_count ? world->shards[shard_index] : NULL;
    return shard != NULL && (has_news(shard) || is_rung(shard));
}

bool weir_sim_readable(const struct weir_sim_world *world, uint32_t shard_index)
{
    const struct w_sim_shard *shard = shard_index < world->shard_count ? world->shards[shard_index] : NULL;
    if (shard == NULL || !shard->embedded)
        return weir_sim_stirring(world, shard_index);
    return shard->armed && has_news(shard); /* a bell without a wake wakes nobody */
}

void weir_sim_break(struct weir_sim_world *world, uint32_t shard_index, int error)
{
    W_SIM_REQUIRE(world, shard_index < world->shard_count && world->shards[shard_index] != NULL && error < 0, "no shard %u to break",
                  shard_index);
    world->shards[shard_index]->broken = error;
    w_sim_world_note(world, "break", shard_index, error, 0);
}

void w_sim_engine_fill(struct w_io_engine *engine)
{
    *engine = (struct w_io_engine){
        .listen = sim_listen,
        .remove_address = sim_remove_address,
        .listen_inherited = sim_listen_inherited,
        .local_address = sim_local_address,
        .peer_address = sim_peer_address,
        .discard = sim_discard,
        .event_set = w_sim_foreign_set,
        .event_reset = w_sim_foreign_reset,
        .event_wait = w_sim_foreign_wait,
        .event_descriptor = w_sim_foreign_descriptor,
        .event_close = w_sim_foreign_close,
        .resolve_now = sim_resolve_now,
        .open = sim_open,
        .close = sim_close,
        .start = sim_start,
        .accept = sim_accept,
        .accept_one = sim_accept_one,
        .socket = sim_socket,
        .adopt = sim_adopt,
        .connect = sim_connect,
        .receive = sim_receive,
        .hung_up = sim_hung_up,
        .send = sim_send,
        .send_gather = sim_send_gather,
        .shutdown = sim_shutdown,
        .reset_on_close = sim_reset_on_close,
        .close_handle = sim_close_handle,
        .cancel = sim_cancel,
        .resolve = sim_resolve,
        .buffer_hold = sim_buffer_hold,
        .buffer_release = sim_buffer_release,
        .submit = sim_submit,
        .take = sim_take,
        .stirring = sim_stirring,
        .clock = sim_clock,
        .random = sim_random,
        .wake = sim_wake,
        .descriptor = sim_descriptor,
        .may_sleep = sim_may_sleep,
    };
}
