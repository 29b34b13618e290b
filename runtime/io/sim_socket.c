/* SPDX-License-Identifier: MIT */
/* sim_socket: simulated sockets: their handles, addresses, listening, connecting, closing and dying.
 *
 * Road:    connect → a request reaches who listens there → a pair of sockets, one in the backlog → accepted → closed by both.
 * Ditches: nobody listens → refused; backlog full → asked again in a second; no answer → timed out; closed with unread bytes → a reset;
 *          a reset arrives → what was to go out is gone, the error waits for the first that asks, and only for the first. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/sim_world.h"

#define SILENCE_NS (UINT64_C(130) * WEIR_SECOND) /* a connect's patience with six retries of its request */

/* --- memory --- */

static void add_sockets(struct weir_sim_world *world)
{
    enum { COUNT = 16 };
    struct w_sim_socket *sockets = w_sim_world_chunk(world, COUNT * sizeof *sockets);
    for (int i = 0; i < COUNT; i++) {
        sockets[i].world = world;
        sockets[i].serial = 1;
        sockets[i].next = world->sockets_free;
        world->sockets_free = &sockets[i];
        sockets[i].next_of_all = world->sockets_all;
        world->sockets_all = &sockets[i];
    }
}

struct w_sim_socket *w_sim_socket_create(struct weir_sim_world *world)
{
    if (world->sockets_free == NULL)
        add_sockets(world);
    struct w_sim_socket *socket = world->sockets_free;
    world->sockets_free = socket->next;
    *socket = (struct w_sim_socket){
        .serial = socket->serial,
        .next_of_all = socket->next_of_all,
        .world = world,
        .kind = W_SIM_SOCKET_FRESH,
        .handle = -1,
    };
    w_sim_pipe_init(world, &socket->outbound);
    return socket;
}

static void release(struct w_sim_socket *socket)
{
    W_ASSERT(socket->operations == 0);
    w_sim_pipe_finish(&socket->outbound);
    socket->serial++;
    socket->kind = W_SIM_SOCKET_NONE;
    socket->other = NULL;
    socket->next = socket->world->sockets_free;
    socket->world->sockets_free = socket;
}

void w_sim_socket_free_all(struct weir_sim_world *world)
{
    for (struct w_sim_socket *socket = world->sockets_all; socket != NULL; socket = socket->next_of_all)
        w_sim_pipe_finish(&socket->outbound);
}

/* --- handles --- */

struct w_sim_socket *w_sim_socket_of(struct weir_sim_world *world, int handle)
{
    bool known = handle >= 0 && (uint32_t)handle < world->handle_capacity && world->handles[handle] != NULL;
    W_SIM_REQUIRE(world, known, "handle %d is not open", handle);
    return world->handles[handle];
}

uint32_t weir_sim_handles(const struct weir_sim_world *world)
{
    return world->handle_count;
}

static void grow_handles(struct weir_sim_world *world)
{
    uint32_t capacity = world->handle_capacity == 0 ? 64 : world->handle_capacity * 2;
    struct w_sim_socket **handles = w_sim_world_memory(capacity * sizeof *handles);
    if (world->handle_capacity > 0)
        memcpy(handles, world->handles, world->handle_capacity * sizeof *handles);
    free(world->handles);
    world->handles = handles;
    world->handle_capacity = capacity;
}

/* The number for a new handle: the lowest that is free, as Unix has it, or the one closed last, to be nasty. */
static int choose_handle(struct weir_sim_world *world)
{
    int last = world->handle_last_closed;
    if (last >= 0 && world->handles[last] == NULL && w_sim_fault_strikes(world, WEIR_SIM_HANDLE_REUSE))
        return last;
    int handle = world->handle_lowest;
    while ((uint32_t)handle < world->handle_capacity && world->handles[handle] != NULL)
        handle++;
    world->handle_lowest = handle + 1;
    if (handle == last)
        w_sim_fault_fire(world, WEIR_SIM_HANDLE_REUSE);
    return handle;
}

int w_sim_socket_open_handle(struct w_sim_socket *socket)
{
    struct weir_sim_world *world = socket->world;
    if (world->handle_count >= world->faults.descriptors_max)
        return -EMFILE;
    int handle = choose_handle(world);
    while ((uint32_t)handle >= world->handle_capacity)
        grow_handles(world);
    world->handles[handle] = socket;
    world->handle_count++;
    socket->handle = handle;
    return handle;
}

static void close_handle(struct w_sim_socket *socket)
{
    struct weir_sim_world *world = socket->world;
    if (socket->handle < 0)
        return;
    world->handles[socket->handle] = NULL;
    world->handle_count--;
    world->handle_last_closed = socket->handle;
    if (socket->handle < world->handle_lowest)
        world->handle_lowest = socket->handle;
    socket->handle = -1;
}

/* --- addresses --- */

static uint16_t port_of(const struct w_io_address *address)
{
    switch (address->socket.any.sa_family) {
    case AF_INET:
        return ntohs(((const struct sockaddr_in *)&address->socket.storage)->sin_port);
    case AF_INET6:
        return ntohs(((const struct sockaddr_in6 *)&address->socket.storage)->sin6_port);
    default:
        return 0;
    }
}

static void set_port(struct w_io_address *address, uint16_t port)
{
    if (address->socket.any.sa_family == AF_INET)
        ((struct sockaddr_in *)&address->socket.storage)->sin_port = htons(port);
    else if (address->socket.any.sa_family == AF_INET6)
        ((struct sockaddr_in6 *)&address->socket.storage)->sin6_port = htons(port);
}

static bool is_wildcard(const struct w_io_address *address)
{
    if (address->socket.any.sa_family == AF_INET)
        return ((const struct sockaddr_in *)&address->socket.storage)->sin_addr.s_addr == htonl(INADDR_ANY);
    return address->socket.any.sa_family == AF_INET6 &&
           IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&address->socket.storage)->sin6_addr);
}

static bool is_same_host(const struct w_io_address *a, const struct w_io_address *b)
{
    if (a->socket.any.sa_family != b->socket.any.sa_family)
        return false;
    switch (a->socket.any.sa_family) {
    case AF_INET:
        return ((const struct sockaddr_in *)&a->socket.storage)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)&b->socket.storage)->sin_addr.s_addr;
    case AF_INET6:
        return IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)&a->socket.storage)->sin6_addr,
                                  &((const struct sockaddr_in6 *)&b->socket.storage)->sin6_addr);
    default:
        return a->bytes == b->bytes && memcmp(&a->socket, &b->socket, a->bytes) == 0;
    }
}

/* How well what listens at `at` suits a connect to `to`: 0 not at all, 1 as a wildcard (IPv6's takes IPv4 as well), 2 exactly. */
static int suits(const struct w_io_address *at, const struct w_io_address *to)
{
    if (port_of(at) != port_of(to))
        return 0;
    if (is_same_host(at, to))
        return 2;
    bool reaches = at->socket.any.sa_family == to->socket.any.sa_family || at->socket.any.sa_family == AF_INET6;
    return is_wildcard(at) && to->socket.any.sa_family != AF_UNIX && reaches ? 1 : 0;
}

/* A port that nobody has. */
static uint16_t next_port(struct weir_sim_world *world)
{
    for (;;) {
        uint16_t port = world->next_port;
        world->next_port = port == 60999 ? 32768 : (uint16_t)(port + 1);
        bool taken = false;
        for (const struct w_sim_socket *socket = world->listening; socket != NULL; socket = socket->next)
            taken = taken || port_of(&socket->local) == port;
        if (!taken)
            return port;
    }
}

/* Where a connect to `to` comes from. */
static void set_local(struct w_sim_socket *socket, const struct w_io_address *to)
{
    struct w_io_address *local = &socket->local;
    *local = (struct w_io_address){.bytes = to->bytes};
    local->socket.any.sa_family = to->socket.any.sa_family;
    if (to->socket.any.sa_family == AF_INET)
        ((struct sockaddr_in *)&local->socket.storage)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (to->socket.any.sa_family == AF_INET6)
        ((struct sockaddr_in6 *)&local->socket.storage)->sin6_addr = in6addr_loopback;
    else
        local->bytes = sizeof local->socket.any.sa_family; /* an unnamed unix socket */
    set_port(local, next_port(socket->world));
}

/* --- listening --- */

struct w_sim_socket *w_sim_socket_listen(struct weir_sim_world *world, const struct w_io_address *address, enum w_io_sharing sharing,
                                         uint32_t backlog, int *error)
{
    struct w_io_address local = *address;
    if (local.socket.any.sa_family != AF_UNIX && port_of(&local) == 0)
        set_port(&local, next_port(world));
    for (const struct w_sim_socket *socket = world->listening; socket != NULL; socket = socket->next)
        if ((suits(&socket->local, &local) != 0 || suits(&local, &socket->local) != 0) &&
            !(sharing == W_IO_SHARED_NEXT && socket->sharing != W_IO_ALONE)) {
            *error = -EADDRINUSE;
            return NULL;
        }
    struct w_sim_socket *socket = w_sim_socket_create(world);
    socket->kind = W_SIM_SOCKET_LISTENING;
    socket->local = local;
    socket->sharing = sharing;
    socket->backlog_max = backlog;
    socket->next = world->listening;
    world->listening = socket;
    w_sim_world_note(world, "listen", port_of(&local), sharing, 0);
    return socket;
}

/* Who gets a connect to `to`: one of those that suit best, or NULL. */
static struct w_sim_socket *find_listening(struct weir_sim_world *world, const struct w_io_address *to)
{
    struct w_sim_socket *found = NULL;
    int best = 0;
    uint64_t count = 0;
    for (struct w_sim_socket *socket = world->listening; socket != NULL; socket = socket->next) {
        int how = suits(&socket->local, to);
        if (how == 0 || how < best || socket->shut_read)
            continue;
        count = how > best ? 1 : count + 1;
        best = how;
        if (w_sim_world_below(world, count) == 0)
            found = socket;
    }
    return found;
}

static void stop_listening(struct w_sim_socket *socket)
{
    struct w_sim_socket **link = &socket->world->listening;
    while (*link != socket)
        link = &(*link)->next;
    *link = socket->next;
    for (struct w_sim_socket *waiting; (waiting = w_sim_socket_accept(socket)) != NULL;)
        w_sim_socket_close(waiting, true);
}

struct w_sim_socket *w_sim_socket_accept(struct w_sim_socket *listening)
{
    struct w_sim_socket *socket = listening->backlog_first;
    if (socket == NULL)
        return NULL;
    listening->backlog_first = socket->next;
    if (listening->backlog_first == NULL)
        listening->backlog_last = NULL;
    listening->backlog_count--;
    socket->next = NULL;
    socket->queued = false;
    return socket;
}

/* --- connecting --- */

static void connect_failed(struct weir_sim_world *world, void *object, uint64_t argument)
{
    struct w_sim_socket *socket = object;
    if (socket->kind != W_SIM_SOCKET_CONNECTING)
        return;
    w_sim_world_note(world, "connect-failed", socket->handle, (int64_t)argument, 0);
    socket->kind = W_SIM_SOCKET_FAILED;
    socket->error = socket->death = (int)argument;
    w_sim_operation_stir_all(socket);
}

static void connected(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)argument;
    struct w_sim_socket *socket = object;
    if (socket->kind != W_SIM_SOCKET_CONNECTING || socket->death != 0)
        return;
    w_sim_world_note(world, "connected", socket->handle, 0, 0);
    socket->kind = W_SIM_SOCKET_STREAM;
    w_sim_operation_stir_all(socket);
}

static void enter_backlog(struct w_sim_socket *listening, struct w_sim_socket *socket)
{
    socket->queued = true;
    if (listening->backlog_last != NULL)
        listening->backlog_last->next = socket;
    else
        listening->backlog_first = socket;
    listening->backlog_last = socket;
    listening->backlog_count++;
    w_sim_operation_stir_all(listening);
}

/* A request to connect has reached the host it was for. */
static void arrive(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)argument;
    struct w_sim_socket *socket = object;
    if (socket->kind != W_SIM_SOCKET_CONNECTING || socket->death != 0 || socket->closed)
        return;
    uint64_t back_ns = world->now_ns + w_sim_world_latency_ns(world);
    struct w_sim_socket *listening = find_listening(world, &socket->remote);
    if (listening == NULL || listening->manner == WEIR_SIM_SERVER_REFUSES) {
        w_sim_world_at(world, back_ns, &socket->serial, connect_failed, socket, ECONNREFUSED);
        return;
    }
    if (listening->manner == WEIR_SIM_SERVER_SILENT) {
        w_sim_world_at(world, world->now_ns + SILENCE_NS, &socket->serial, connect_failed, socket, ETIMEDOUT);
        return;
    }
    if (listening->backlog_count > listening->backlog_max) {
        w_sim_world_at(world, world->now_ns + WEIR_SECOND, &socket->serial, arrive, socket, 0);
        return;
    }
    struct w_sim_socket *accepted = w_sim_socket_create(world);
    accepted->kind = W_SIM_SOCKET_STREAM;
    accepted->local = socket->remote;
    accepted->remote = socket->local;
    accepted->other = socket;
    socket->other = accepted;
    w_sim_world_at(world, back_ns, &socket->serial, connected, socket, 0);
    enter_backlog(listening, accepted);
}

void w_sim_socket_connect(struct w_sim_socket *socket, const struct w_io_address *address)
{
    struct weir_sim_world *world = socket->world;
    socket->kind = W_SIM_SOCKET_CONNECTING;
    socket->remote = *address;
    set_local(socket, address);
    w_sim_world_note(world, "connect", socket->handle, port_of(address), port_of(&socket->local));
    uint64_t there_ns = world->now_ns + w_sim_world_latency_ns(world);
    /* As if their first requests had been lost, and the second ones, a second later, had not. */
    if (socket->handle < 0 && w_sim_fault_draws(world, WEIR_SIM_ACCEPT_STORM))
        there_ns = (there_ns / WEIR_SECOND + 1) * WEIR_SECOND;
    if (socket->handle >= 0 && w_sim_fault_strikes(world, WEIR_SIM_CONNECT_REFUSED))
        w_sim_world_at(world, there_ns, &socket->serial, connect_failed, socket, ECONNREFUSED);
    else if (socket->handle >= 0 && w_sim_fault_strikes(world, WEIR_SIM_CONNECT_TIMEOUT))
        w_sim_world_at(world, world->now_ns + SILENCE_NS, &socket->serial, connect_failed, socket, ETIMEDOUT);
    else
        w_sim_world_at(world, there_ns, &socket->serial, arrive, socket, 0);
}

void w_sim_socket_pair(struct w_sim_socket *one, struct w_sim_socket *two)
{
    one->kind = two->kind = W_SIM_SOCKET_STREAM;
    one->other = two;
    two->other = one;
    const struct w_io_address unnamed = {.socket.any.sa_family = AF_UNIX, .bytes = sizeof unnamed.socket.any.sa_family};
    one->local = one->remote = two->local = two->remote = unnamed;
}

/* --- the end --- */

void w_sim_socket_close(struct w_sim_socket *socket, bool reset)
{
    w_sim_world_note(socket->world, "socket-close", socket->handle, reset || socket->reset_on_close, (int64_t)w_sim_pipe_readable(socket));
    close_handle(socket);
    socket->closed = true;
    if (socket->kind == W_SIM_SOCKET_LISTENING)
        stop_listening(socket);
    if (socket->other == NULL) {
        release(socket);
        return;
    }
    bool graceful = !reset && !socket->reset_on_close && w_sim_pipe_readable(socket) == 0 && socket->kind == W_SIM_SOCKET_STREAM;
    if (socket->death == 0 && graceful) {
        socket->outbound.finished = true;
        w_sim_pipe_push(socket);
    } else if (socket->death == 0) {
        socket->death = ECONNRESET;
        w_sim_pipe_drop_unsent(socket);
        w_sim_socket_reset_other(socket);
    }
    if (socket->other->closed) {
        release(socket->other);
        release(socket);
    }
}

void w_sim_socket_shutdown(struct w_sim_socket *socket, int how)
{
    w_sim_world_note(socket->world, "shutdown", socket->handle, how, 0);
    socket->shut_write = socket->shut_write || how != SHUT_RD;
    socket->shut_read = socket->shut_read || how != SHUT_WR;
    if (socket->kind == W_SIM_SOCKET_CONNECTING && how == SHUT_RDWR) {
        connect_failed(socket->world, socket, ECONNRESET);
        w_sim_socket_reset_other(socket);
    }
    if (socket->kind == W_SIM_SOCKET_STREAM && socket->shut_write) {
        socket->outbound.finished = true;
        w_sim_pipe_push(socket);
    }
    w_sim_operation_stir_all(socket);
}

static void reset_arrives(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)argument;
    struct w_sim_socket *socket = object;
    struct w_sim_pipe *inbound = socket->other != NULL ? &socket->other->outbound : NULL;
    if (socket->death == 0 && w_sim_pipe_readable(socket) > 0 && w_sim_fault_strikes(world, WEIR_SIM_RESET_UNREAD)) {
        w_sim_pipe_drop_unread(socket);
        inbound->end_arrived = false; /* what is gone was not followed by an end */
    }
    /* Linux: a reset after the peer's end is told as a broken pipe. */
    w_sim_socket_die(socket, inbound != NULL && inbound->end_arrived ? EPIPE : ECONNRESET);
}

void w_sim_socket_reset_other(struct w_sim_socket *socket)
{
    struct weir_sim_world *world = socket->world;
    struct w_sim_socket *other = socket->other;
    if (other != NULL && other->death == 0)
        w_sim_world_at(world, world->now_ns + w_sim_world_latency_ns(world), &other->serial, reset_arrives, other, 0);
}

void w_sim_socket_die(struct w_sim_socket *socket, int error)
{
    if (socket->death != 0)
        return;
    w_sim_world_note(socket->world, "die", socket->handle, error, 0);
    if (socket->kind == W_SIM_SOCKET_CONNECTING)
        socket->kind = W_SIM_SOCKET_FAILED;
    socket->death = socket->error = error;
    w_sim_pipe_drop_unsent(socket);
    w_sim_operation_stir_all(socket);
}

void w_sim_socket_kill(struct w_sim_socket *socket, int error)
{
    w_sim_socket_reset_other(socket);
    w_sim_socket_die(socket, error);
}

int w_sim_socket_take_error(struct w_sim_socket *socket)
{
    int error = socket->error;
    socket->error = 0;
    return error;
}
