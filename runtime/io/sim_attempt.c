/* SPDX-License-Identifier: MIT */
/* sim_attempt: how the simulated kernel tries the operations it was given.
 *
 * Road:    started by a submit → tried at once, or soon → completed.
 * Ditches: not possible yet → its socket stirs it when something has changed; cancelled → tried a last time, perhaps, then ended. */
#include <errno.h>

#include "runtime/io/sim_world.h"

static void end(struct w_sim_operation *operation, int32_t result)
{
    w_sim_operation_complete(operation, &(struct w_io_completion){.result = result});
}

/* Does an accept or a receive that has just succeeded live on? */
static uint16_t more(struct w_sim_operation *operation)
{
    struct w_sim_shard *shard = operation->shard;
    if (operation->once)
        return 0;
    if (shard->pending.count - shard->pending.first >= 2 && w_sim_fault_strikes(shard->world, WEIR_SIM_OVERFLOW)) {
        atomic_fetch_add_explicit(&shard->io.counters.completion_overflows, 1, memory_order_relaxed); /* a counter */
        return 0;
    }
    return w_sim_fault_strikes(shard->world, WEIR_SIM_MULTISHOT_END) ? 0 : W_IO_MORE;
}

/* Ends, perhaps, without having done anything: true when it has. */
static bool ends_idly(struct w_sim_operation *operation)
{
    struct weir_sim_world *world = operation->shard->world;
    if (w_sim_fault_strikes(world, WEIR_SIM_AGAIN))
        end(operation, -EAGAIN);
    else if (w_sim_fault_strikes(world, WEIR_SIM_CANCELED))
        end(operation, -ECANCELED);
    else if (operation->verb != W_SIM_ACCEPT && w_sim_fault_strikes(world, WEIR_SIM_NO_MEMORY))
        end(operation, -ENOMEM);
    return operation->state == W_SIM_FINISHED;
}

#define STORM 4u /* so many in a backlog are one */

static void try_accept(struct w_sim_operation *operation)
{
    static const int errors[] = {ECONNABORTED, EPROTO, ENETDOWN, EHOSTUNREACH, EPERM};
    struct weir_sim_world *world = operation->shard->world;
    struct w_sim_socket *listening = operation->socket;
    if (listening->shut_read) {
        end(operation, -EINVAL);
        return;
    }
    if (listening->backlog_first == NULL)
        return;
    if (listening->backlog_count >= STORM && !listening->stormed)
        w_sim_fault_fire(world, WEIR_SIM_ACCEPT_STORM);
    listening->stormed = listening->backlog_count >= STORM;
    if (world->handle_count >= world->faults.descriptors_max || w_sim_fault_draws(world, WEIR_SIM_ACCEPT_SPENT)) {
        w_sim_fault_fire(world, WEIR_SIM_ACCEPT_SPENT);
        end(operation, w_sim_world_below(world, 2) == 0 ? -EMFILE : -ENFILE);
        return;
    }
    if (w_sim_fault_strikes(world, WEIR_SIM_ACCEPT_ERROR)) {
        bool gone = w_sim_world_below(world, 2) == 0;
        if (gone)
            w_sim_socket_close(w_sim_socket_accept(listening), true);
        end(operation, gone ? -errors[w_sim_world_below(world, W_COUNT(errors))] : -ENOMEM);
        return;
    }
    int handle = w_sim_socket_open_handle(w_sim_socket_accept(listening));
    w_sim_operation_complete(operation, &(struct w_io_completion){.result = handle, .flags = more(operation)});
    if (listening->backlog_first != NULL)
        w_sim_operation_stir_all(listening);
}

static void receive_data(struct w_sim_operation *operation, uint32_t readable)
{
    struct w_sim_shard *shard = operation->shard;
    struct weir_sim_world *world = shard->world;
    uint32_t bytes = 0;
    uint8_t *data = w_sim_buffer_room(shard, &bytes);
    if (data == NULL)
        w_sim_fault_fire(world, WEIR_SIM_BUFFERS_SPENT);
    if (data == NULL || w_sim_fault_strikes(world, WEIR_SIM_NO_BUFFERS)) {
        end(operation, -ENOBUFS);
        return;
    }
    bytes = w_base_min_u32(bytes, readable);
    if (bytes > 1 && w_sim_fault_strikes(world, WEIR_SIM_SHORT_RECEIVE))
        bytes = w_sim_world_below(world, 2) == 0 ? 1 : (uint32_t)w_sim_world_between(world, 1, bytes - 1);
    uint16_t buffer = w_sim_buffer_use(shard, bytes);
    w_sim_pipe_read(operation->socket, data, bytes);
    w_sim_operation_complete(
        operation,
        &(struct w_io_completion){.data = data, .result = (int32_t)bytes, .flags = W_IO_BUFFER | more(operation), .buffer = buffer});
    w_sim_operation_stir(operation);
}

/* A receive that starts with nothing to bring may be ended for want of buffers all the same. */
static bool ends_for_want(struct w_sim_operation *operation, bool first)
{
    struct w_sim_shard *shard = operation->shard;
    if (!first)
        return false;
    return w_sim_fault_strikes(shard->world, shard->io.buffers_free > 0 ? WEIR_SIM_NO_BUFFERS_IDLE : WEIR_SIM_BUFFERS_SPENT);
}

/* A receive that starts with bytes and, behind them, a reset (or a unix socket's end) may not be told of that: hung_up() knows. */
static bool hides_end(const struct w_sim_socket *socket)
{
    bool is_unix = socket->local.socket.any.sa_family == AF_UNIX;
    return socket->death != 0 || (is_unix && socket->other != NULL && socket->other->outbound.end_arrived);
}

static void try_receive(struct w_sim_operation *operation, bool first)
{
    static const int errors[] = {ECONNRESET, ETIMEDOUT, EHOSTUNREACH};
    struct weir_sim_world *world = operation->shard->world;
    struct w_sim_socket *socket = operation->socket;
    if (socket->death == 0 && w_sim_fault_strikes(world, WEIR_SIM_RECEIVE_ERROR))
        w_sim_socket_kill(socket, errors[w_sim_world_below(world, W_COUNT(errors))]);
    uint32_t readable = w_sim_pipe_readable(socket);
    int error = 0;
    if (first && readable > 0 && hides_end(socket) && w_sim_fault_strikes(world, WEIR_SIM_HIDDEN_END))
        operation->deaf = true;
    if (socket->kind != W_SIM_SOCKET_STREAM) {
        error = w_sim_socket_take_error(socket);
        end(operation, error != 0 ? -error : -ENOTCONN);
    } else if (readable > 0) {
        receive_data(operation, readable);
    } else if (operation->deaf && !socket->shut_read) {
        return;
    } else if (w_sim_pipe_ended(socket)) {
        end(operation, 0);
    } else if ((error = w_sim_socket_take_error(socket)) != 0) {
        end(operation, -error);
    } else if (socket->death != 0) {
        w_sim_fault_fire(world, WEIR_SIM_ERROR_TAKEN);
        end(operation, 0);
    } else if (socket->shut_read) {
        end(operation, 0);
    } else if (ends_for_want(operation, first)) {
        end(operation, -ENOBUFS);
    }
}

/* Takes the first `bytes` of what a send has. */
static void take_bytes(struct w_sim_operation *operation, uint32_t bytes)
{
    const struct iovec *piece = operation->gather != NULL ? operation->gather->vectors : &operation->alone;
    for (; bytes > 0; piece++) {
        uint32_t part = piece->iov_len < bytes ? (uint32_t)piece->iov_len : bytes;
        w_sim_pipe_write(operation->socket, piece->iov_base, part);
        bytes -= part;
    }
}

static void try_send(struct w_sim_operation *operation)
{
    static const int errors[] = {EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH};
    struct weir_sim_world *world = operation->shard->world;
    struct w_sim_socket *socket = operation->socket;
    w_sim_operation_check_memory(operation);
    if (socket->death == 0 && w_sim_fault_strikes(world, WEIR_SIM_SEND_ERROR))
        w_sim_socket_kill(socket, errors[w_sim_world_below(world, W_COUNT(errors))]);
    int error = w_sim_socket_take_error(socket);
    if (error == 0 && socket->death != 0 && !socket->shut_write)
        w_sim_fault_fire(world, WEIR_SIM_ERROR_TAKEN);
    if (error != 0 || socket->death != 0 || socket->shut_write || socket->kind != W_SIM_SOCKET_STREAM) {
        end(operation, error != 0 ? -error : -EPIPE);
        return;
    }
    uint64_t room = w_sim_pipe_room(socket);
    if (room == 0 && operation->bytes > 0)
        return;
    uint32_t bytes = (uint32_t)w_base_min_u64(room, operation->bytes);
    if (bytes > 1 && w_sim_fault_draws(world, WEIR_SIM_SHORT_SEND))
        bytes = w_sim_world_below(world, 2) == 0 ? 1 : (uint32_t)w_sim_world_between(world, 1, bytes - 1);
    if (bytes < operation->bytes)
        w_sim_fault_fire(world, WEIR_SIM_SHORT_SEND);
    take_bytes(operation, bytes);
    end(operation, (int32_t)bytes);
}

static void try_connect(struct w_sim_operation *operation)
{
    struct w_sim_socket *socket = operation->socket;
    w_sim_operation_check_memory(operation);
    if (socket->kind == W_SIM_SOCKET_STREAM) {
        end(operation, 0);
        return;
    }
    int error = w_sim_socket_take_error(socket);
    if (error != 0)
        end(operation, -error);
}

static void attempt(struct w_sim_operation *operation)
{
    bool first = !operation->tried;
    operation->tried = true;
    if (operation->verb != W_SIM_CONNECT && ends_idly(operation))
        return;
    switch (operation->verb) {
    case W_SIM_ACCEPT:
        try_accept(operation);
        break;
    case W_SIM_CONNECT:
        try_connect(operation);
        break;
    case W_SIM_RECEIVE:
        try_receive(operation, first);
        break;
    case W_SIM_SEND:
        try_send(operation);
        break;
    case W_SIM_CLOSE:
    case W_SIM_RESOLVE:
    case W_SIM_CANCEL:
        break;
    }
}

static void attempt_event(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)world;
    (void)argument;
    struct w_sim_operation *operation = object;
    operation->attempting = false;
    if (operation->state == W_SIM_STARTED)
        attempt(operation);
}

void w_sim_operation_stir(struct w_sim_operation *operation)
{
    if (operation == NULL || operation->state != W_SIM_STARTED || operation->attempting)
        return;
    struct weir_sim_world *world = operation->shard->world;
    operation->attempting = true;
    uint64_t due_ns = world->now_ns + w_sim_world_below(world, world->faults.operation_ns_max);
    w_sim_world_at(world, due_ns, &operation->serial, attempt_event, operation, 0);
}

void w_sim_operation_stir_all(struct w_sim_socket *socket)
{
    w_sim_operation_stir(socket->connect);
    w_sim_operation_stir(socket->receive);
    w_sim_operation_stir(socket->send);
    for (struct w_sim_operation *accept = socket->accepts; accept != NULL; accept = accept->accept_next)
        w_sim_operation_stir(accept);
}

/* --- from the caller --- */

static void resolved_event(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)world;
    struct w_sim_operation *operation = object;
    if (operation->state == W_SIM_STARTED)
        end(operation, (int32_t)(int64_t)argument);
}

static void start_resolve(struct w_sim_operation *operation)
{
    struct weir_sim_world *world = operation->shard->world;
    uint64_t delay_ns = 0;
    int result = w_sim_peer_look_up(world, operation->resolve, &delay_ns);
    if (w_sim_fault_strikes(world, WEIR_SIM_NAME_ERROR))
        result = w_sim_world_below(world, 2) == 0 ? -EAGAIN : -ENOMEM;
    uint64_t due_ns = w_base_add_saturated(world->now_ns, delay_ns);
    w_sim_world_at(world, due_ns, &operation->serial, resolved_event, operation, (uint64_t)(int64_t)result);
}

/* The number is free from here on; the completion may come later. */
static void start_close(struct w_sim_operation *operation)
{
    struct w_sim_socket *socket = operation->socket;
    socket->operations--;
    operation->socket = NULL;
    w_sim_socket_close(socket, false);
    end(operation, 0);
}

static void cancel_event(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)argument;
    struct w_sim_operation *operation = object;
    if (operation->state == W_SIM_STARTED && w_sim_fault_draws(world, WEIR_SIM_CANCEL_MISSED))
        attempt(operation);
    if (operation->state == W_SIM_STARTED)
        end(operation, -ECANCELED);
}

/* What is not there, or only queued behind the cancel, it does not reach; and a close has nothing to cancel. */
static void start_cancel(struct w_sim_operation *cancel)
{
    struct weir_sim_world *world = cancel->shard->world;
    struct w_sim_operation *operation = w_sim_operation_find(cancel->shard, cancel->token);
    if (operation == NULL || operation->state != W_SIM_STARTED || operation->verb == W_SIM_CLOSE || operation->cancelled)
        return;
    operation->cancelled = true;
    uint64_t delay_ns = w_sim_world_below(world, 2) == 0 ? 0 : w_sim_world_below(world, world->faults.operation_ns_max);
    if (w_sim_fault_strikes(world, WEIR_SIM_LATE_CANCEL))
        delay_ns = w_sim_world_late_ns(world);
    if (delay_ns == 0)
        cancel_event(world, operation, 0);
    else
        w_sim_world_at(world, world->now_ns + delay_ns, &operation->serial, cancel_event, operation, 0);
}

static void start_connect(struct w_sim_operation *operation)
{
    static const int errors[] = {EHOSTUNREACH, ENETUNREACH, EADDRNOTAVAIL};
    struct weir_sim_world *world = operation->shard->world;
    w_sim_operation_check_memory(operation);
    W_SIM_REQUIRE(world, operation->socket->kind == W_SIM_SOCKET_FRESH, "connect on handle %d, which was used before", operation->handle);
    bool by_network = operation->address->socket.any.sa_family != AF_UNIX;
    if (w_sim_fault_strikes(world, WEIR_SIM_NO_MEMORY))
        end(operation, -ENOMEM);
    else if (by_network && w_sim_fault_strikes(world, WEIR_SIM_CONNECT_UNREACHABLE))
        end(operation, -errors[w_sim_world_below(world, W_COUNT(errors))]);
    else
        w_sim_socket_connect(operation->socket, operation->address);
}

static void start(struct w_sim_operation *operation)
{
    struct weir_sim_world *world = operation->shard->world;
    operation->state = W_SIM_STARTED;
    switch (operation->verb) {
    case W_SIM_ACCEPT:
    case W_SIM_RECEIVE:
    case W_SIM_SEND:
        if (w_sim_world_below(world, 2) == 0)
            attempt(operation);
        w_sim_operation_stir(operation);
        break;
    case W_SIM_CONNECT:
        start_connect(operation);
        break;
    case W_SIM_CLOSE:
        start_close(operation);
        break;
    case W_SIM_RESOLVE:
        start_resolve(operation);
        break;
    case W_SIM_CANCEL:
        start_cancel(operation);
        w_sim_operation_destroy(operation);
        break;
    }
}

void w_sim_operation_submit(struct w_sim_shard *shard, uint64_t most)
{
    for (; shard->submit_first != NULL && most > 0; most--) {
        struct w_sim_operation *operation = shard->submit_first;
        shard->submit_first = operation->next;
        if (shard->submit_first == NULL)
            shard->submit_last = NULL;
        operation->next = NULL;
        start(operation);
    }
    shard->left = shard->submit_first != NULL;
}
