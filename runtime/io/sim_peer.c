/* SPDX-License-Identifier: MIT */
/* sim_peer: what lives outside weir in the simulated world: clients, servers, handed-over sockets, names. A peer is a socket whose owner is
 * the test; it goes through the same pipes and the same network as weir's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/sim_world.h"

static struct w_sim_socket *socket_of(struct weir_sim_peer *peer)
{
    return &peer->socket;
}

static struct weir_sim_peer *peer_of(struct w_sim_socket *socket)
{
    return W_CONTAINER(socket, struct weir_sim_peer, socket);
}

struct weir_sim_peer *weir_sim_peer_connect(struct weir_sim_world *world, const struct w_io_address *address)
{
    struct w_sim_socket *socket = w_sim_socket_create(world);
    w_sim_socket_connect(socket, address);
    return peer_of(socket);
}

enum weir_sim_peer_state weir_sim_peer_state(const struct weir_sim_peer *peer)
{
    switch (peer->socket.kind) {
    case W_SIM_SOCKET_CONNECTING:
        return WEIR_SIM_PEER_CONNECTING;
    case W_SIM_SOCKET_FAILED:
        return WEIR_SIM_PEER_FAILED;
    case W_SIM_SOCKET_NONE:
    case W_SIM_SOCKET_FRESH:
    case W_SIM_SOCKET_STREAM:
    case W_SIM_SOCKET_LISTENING:
        break;
    }
    return peer->socket.death != 0 ? WEIR_SIM_PEER_DEAD : WEIR_SIM_PEER_OPEN;
}

int weir_sim_peer_error(const struct weir_sim_peer *peer)
{
    return -peer->socket.death;
}

void weir_sim_peer_address(const struct weir_sim_peer *peer, struct w_io_address *address)
{
    *address = peer->socket.local;
}

int64_t weir_sim_peer_write(struct weir_sim_peer *peer, const void *data, size_t bytes)
{
    struct w_sim_socket *socket = socket_of(peer);
    if (socket->death != 0)
        return -socket->death;
    if (socket->shut_write)
        return -EPIPE;
    if (socket->kind != W_SIM_SOCKET_STREAM)
        return 0;
    uint32_t count = (uint32_t)w_base_min_u64(bytes, w_sim_pipe_room(socket));
    w_sim_pipe_write(socket, data, count);
    return count;
}

size_t weir_sim_peer_readable(const struct weir_sim_peer *peer)
{
    return peer->socket.kind == W_SIM_SOCKET_STREAM ? w_sim_pipe_readable(&peer->socket) : 0;
}

int64_t weir_sim_peer_read(struct weir_sim_peer *peer, void *data, size_t bytes)
{
    struct w_sim_socket *socket = socket_of(peer);
    uint32_t count = (uint32_t)w_base_min_u64(bytes, weir_sim_peer_readable(peer));
    if (count > 0) {
        w_sim_pipe_read(socket, data, count);
        return count;
    }
    if (weir_sim_peer_readable(peer) > 0)
        return 0; /* no bytes were asked for */
    if (socket->kind == W_SIM_SOCKET_STREAM && w_sim_pipe_ended(socket))
        return 0;
    return socket->death != 0 ? -socket->death : -EAGAIN;
}

void weir_sim_peer_shutdown(struct weir_sim_peer *peer)
{
    struct w_sim_socket *socket = socket_of(peer);
    if (socket->kind == W_SIM_SOCKET_STREAM && socket->death == 0 && !socket->shut_write)
        w_sim_fault_fire(socket->world, WEIR_SIM_HALF_CLOSE);
    w_sim_socket_shutdown(socket, SHUT_WR);
}

void weir_sim_peer_close(struct weir_sim_peer **peer)
{
    if (*peer != NULL)
        w_sim_socket_close(socket_of(*peer), false);
    *peer = NULL;
}

void weir_sim_peer_reset(struct weir_sim_peer **peer)
{
    if (*peer != NULL)
        w_sim_socket_close(socket_of(*peer), true);
    *peer = NULL;
}

/* --- servers, handed-over sockets --- */

struct weir_sim_peer *weir_sim_server(struct weir_sim_world *world, const struct w_io_address *address, enum weir_sim_server manner)
{
    int error = 0;
    struct w_sim_socket *socket = w_sim_socket_listen(world, address, W_IO_ALONE, 4096, &error);
    if (socket == NULL)
        return NULL;
    socket->manner = manner;
    return peer_of(socket);
}

struct weir_sim_peer *weir_sim_server_accept(struct weir_sim_peer *server)
{
    struct w_sim_socket *socket = w_sim_socket_accept(socket_of(server));
    return socket != NULL ? peer_of(socket) : NULL;
}

int weir_sim_adoptable(struct weir_sim_world *world, struct weir_sim_peer **peer)
{
    struct w_sim_socket *one = w_sim_socket_create(world), *two = w_sim_socket_create(world);
    w_sim_socket_pair(one, two);
    one->adoptable = true;
    *peer = peer_of(two);
    int handle = w_sim_socket_open_handle(one);
    W_SIM_REQUIRE(world, handle >= 0, "no descriptors for a socket to adopt: descriptors_max is too small");
    return handle;
}

int weir_sim_inheritable(struct weir_sim_world *world, const struct w_io_address *address)
{
    int error = 0;
    struct w_sim_socket *socket = w_sim_socket_listen(world, address, W_IO_ALONE, 4096, &error);
    if (socket == NULL)
        return error;
    socket->adoptable = true;
    return w_sim_socket_open_handle(socket);
}

/* --- names --- */

static struct w_sim_name *find_name(struct weir_sim_world *world, const char *host)
{
    struct w_sim_name *name = world->names;
    while (name != NULL && strcmp(name->host, host) != 0)
        name = name->next;
    return name;
}

void weir_sim_name(struct weir_sim_world *world, const char *host, uint64_t delay_ns, int result, const struct w_io_address *addresses)
{
    struct w_sim_name *name = find_name(world, host);
    if (name == NULL) {
        name = w_sim_world_memory(sizeof *name);
        snprintf(name->host, sizeof name->host, "%s", host);
        name->next = world->names;
        world->names = name;
    }
    name->delay_ns = delay_ns;
    name->result = result > W_IO_RESOLVE_MAX ? W_IO_RESOLVE_MAX : result;
    if (name->result > 0)
        memcpy(name->addresses, addresses, (size_t)name->result * sizeof *addresses);
}

static void set_address(struct w_io_address *address, uint16_t port, const struct in_addr *four, const struct in6_addr *six)
{
    *address = (struct w_io_address){0};
    if (four != NULL) {
        struct sockaddr_in *socket = (struct sockaddr_in *)&address->socket.storage;
        *socket = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = *four};
        address->bytes = sizeof *socket;
    } else {
        struct sockaddr_in6 *socket = (struct sockaddr_in6 *)&address->socket.storage;
        *socket = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *six};
        address->bytes = sizeof *socket;
    }
}

static void set_port(struct w_io_address *address, uint16_t port)
{
    if (address->socket.any.sa_family == AF_INET)
        ((struct sockaddr_in *)&address->socket.storage)->sin_port = htons(port);
    else if (address->socket.any.sa_family == AF_INET6)
        ((struct sockaddr_in6 *)&address->socket.storage)->sin6_port = htons(port);
}

int w_sim_peer_look_up(struct weir_sim_world *world, struct w_io_resolve *resolve, uint64_t *delay_ns)
{
    const struct w_sim_name *name = find_name(world, resolve->host);
    if (name != NULL) {
        *delay_ns = name->delay_ns;
        for (int i = 0; i < name->result; i++) {
            resolve->addresses[i] = name->addresses[i];
            set_port(&resolve->addresses[i], resolve->port);
        }
        return name->result == 0 ? -EHOSTUNREACH : name->result;
    }
    struct in_addr four;
    struct in6_addr six;
    *delay_ns = w_sim_world_below(world, world->faults.latency_ns_max);
    if (inet_pton(AF_INET, resolve->host, &four) == 1) {
        set_address(&resolve->addresses[0], resolve->port, &four, NULL);
        return 1;
    }
    if (inet_pton(AF_INET6, resolve->host, &six) == 1) {
        set_address(&resolve->addresses[0], resolve->port, NULL, &six);
        return 1;
    }
    if (strcmp(resolve->host, "localhost") == 0) {
        four.s_addr = htonl(INADDR_LOOPBACK);
        set_address(&resolve->addresses[0], resolve->port, &four, NULL);
        set_address(&resolve->addresses[1], resolve->port, NULL, &in6addr_loopback);
        return 2;
    }
    return -EHOSTUNREACH;
}
