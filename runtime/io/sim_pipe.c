/* SPDX-License-Identifier: MIT */
/* sim_pipe: the bytes from one simulated socket to the other: a send buffer, a network, a receive buffer, in one ring.
 *
 * Road:    written by the sender → moved by an event of the network, when the window allows → read.
 * Ditches: window full → the next read sends for more; reader gone → a reset comes back; the network resets → both ends die. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/sim_world.h"

static uint32_t power_of_two(uint32_t bytes)
{
    return bytes <= 1 ? 1 : UINT32_C(1) << (32 - __builtin_clz(bytes - 1));
}

void w_sim_pipe_init(struct weir_sim_world *world, struct w_sim_pipe *pipe)
{
    const struct weir_sim_faults *faults = &world->faults;
    *pipe = (struct w_sim_pipe){
        .send_bytes = (uint32_t)w_sim_world_magnitude(world, faults->socket_bytes_min, faults->socket_bytes_max),
        .receive_bytes = (uint32_t)w_sim_world_magnitude(world, faults->socket_bytes_min, faults->socket_bytes_max),
    };
    pipe->ring_bytes = power_of_two(pipe->send_bytes + pipe->receive_bytes);
}

void w_sim_pipe_finish(struct w_sim_pipe *pipe)
{
    free(pipe->ring);
    *pipe = (struct w_sim_pipe){0};
}

uint32_t w_sim_pipe_room(const struct w_sim_socket *socket)
{
    const struct w_sim_pipe *pipe = &socket->outbound;
    return pipe->send_bytes - (uint32_t)(pipe->written - pipe->arrived);
}

uint32_t w_sim_pipe_readable(const struct w_sim_socket *socket)
{
    const struct w_sim_socket *writer = socket->other;
    return writer == NULL ? 0 : (uint32_t)(writer->outbound.arrived - writer->outbound.read);
}

bool w_sim_pipe_ended(const struct w_sim_socket *socket)
{
    const struct w_sim_socket *writer = socket->other;
    return writer != NULL && writer->outbound.end_arrived && writer->outbound.read == writer->outbound.written;
}

void w_sim_pipe_write(struct w_sim_socket *socket, const uint8_t *data, uint32_t bytes)
{
    struct w_sim_pipe *pipe = &socket->outbound;
    W_ASSERT(bytes <= w_sim_pipe_room(socket) && !pipe->finished);
    if (pipe->ring == NULL)
        pipe->ring = w_sim_world_rough_memory(pipe->ring_bytes);
    uint32_t at = (uint32_t)pipe->written & (pipe->ring_bytes - 1);
    uint32_t first = w_base_min_u32(bytes, pipe->ring_bytes - at);
    memcpy(pipe->ring + at, data, first);
    memcpy(pipe->ring, data + first, bytes - first);
    pipe->written += bytes;
    w_sim_world_hash_bytes(socket->world, data, w_base_min_u32(bytes, 16));
    w_sim_world_hash_bytes(socket->world, data + bytes - w_base_min_u32(bytes, 16), w_base_min_u32(bytes, 16));
    w_sim_pipe_push(socket);
}

void w_sim_pipe_read(struct w_sim_socket *socket, uint8_t *data, uint32_t bytes)
{
    W_ASSERT(bytes <= w_sim_pipe_readable(socket));
    if (bytes == 0)
        return;
    struct w_sim_pipe *pipe = &socket->other->outbound;
    uint32_t at = (uint32_t)pipe->read & (pipe->ring_bytes - 1);
    uint32_t first = w_base_min_u32(bytes, pipe->ring_bytes - at);
    memcpy(data, pipe->ring + at, first);
    memcpy(data + first, pipe->ring, bytes - first);
    pipe->read += bytes;
    w_sim_pipe_push(socket->other);
}

void w_sim_pipe_drop_unsent(struct w_sim_socket *socket)
{
    socket->outbound.written = socket->outbound.arrived;
}

void w_sim_pipe_drop_unread(struct w_sim_socket *socket)
{
    if (socket->other != NULL)
        socket->other->outbound.read = socket->other->outbound.arrived;
}

/* How much the network may move now. */
static uint32_t movable(const struct w_sim_pipe *pipe)
{
    uint32_t window = pipe->receive_bytes - (uint32_t)(pipe->arrived - pipe->read);
    return w_base_min_u32(window, (uint32_t)(pipe->written - pipe->arrived));
}

static bool end_is_due(const struct w_sim_pipe *pipe)
{
    return pipe->finished && !pipe->end_arrived && pipe->arrived == pipe->written;
}

/* Bytes for a reader that has let go of its socket: TCP answers them with a reset. */
static void arrive_nowhere(struct w_sim_socket *socket, uint32_t bytes)
{
    socket->outbound.arrived += bytes;
    socket->outbound.read = socket->outbound.arrived;
    w_sim_socket_reset_other(socket->other);
}

static void move(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)argument;
    struct w_sim_socket *socket = object;
    struct w_sim_pipe *pipe = &socket->outbound;
    pipe->moving = false;
    if (socket->death != 0 || socket->other == NULL || socket->other->death != 0)
        return;
    uint32_t bytes = movable(pipe);
    if (bytes > 0 && w_sim_fault_strikes(world, WEIR_SIM_RESET)) {
        if (!socket->other->closed)
            pipe->arrived += w_sim_world_between(world, 0, bytes); /* behind any byte of a message */
        w_sim_socket_kill(socket, ECONNRESET);
        return;
    }
    if (bytes > 1 && w_sim_world_below(world, 4) == 0)
        bytes = (uint32_t)w_sim_world_between(world, 1, bytes);
    w_sim_world_note(world, "move", socket->handle, socket->other->handle, bytes);
    if (bytes > 0 && socket->other->closed)
        arrive_nowhere(socket, bytes);
    else
        pipe->arrived += bytes;
    if (end_is_due(pipe) && (bytes == 0 || w_sim_world_below(world, 2) == 0))
        pipe->end_arrived = true;
    w_sim_operation_stir(socket->send);
    w_sim_operation_stir(socket->other->receive);
    w_sim_pipe_push(socket);
}

void w_sim_pipe_push(struct w_sim_socket *socket)
{
    struct w_sim_pipe *pipe = &socket->outbound;
    struct weir_sim_world *world = socket->world;
    if (pipe->moving || socket->other == NULL || socket->death != 0 || (movable(pipe) == 0 && !end_is_due(pipe)))
        return;
    pipe->moving = true;
    w_sim_world_at(world, world->now_ns + w_sim_world_latency_ns(world), &socket->serial, move, socket, 0);
}
