/* SPDX-License-Identifier: MIT */
/* listen: weir_listen and its kin: opens the sockets, then gives the shards the order to accept.
 *
 * Road:    claim a free listener -> parse -> look up -> a socket, or one for each shard -> publish -> ring.
 * Ditches: anything fails -> what was opened is closed, the listener is free again, the caller gets the code and a sentence. */
#include <errno.h>
#include <string.h>

#include "runtime/io/address.h"
#include "runtime/limits.h"
#include "runtime/runtime.h"

/* A listener's name: generation 22 bits, index 10. */
#define INDEX_BITS      10
#define GENERATION_MASK ((UINT32_C(1) << 22) - 1)

static weir_listener listen_name(uint32_t generation, uint32_t index)
{
    return (generation & GENERATION_MASK) << INDEX_BITS | index;
}

/* NULL, or it, and its life as it was when it was found. */
static struct w_listener *listen_find(const weir_runtime *runtime, weir_listener name, uint64_t *life)
{
    uint32_t index = name & ((1U << INDEX_BITS) - 1);
    if (index >= runtime->config.listeners)
        return NULL;
    struct w_listener *listener = &runtime->orders.listeners[index];
    /* Acquire: what weir_listen wrote before it published the state is there to be read. */
    *life = atomic_load_explicit(&listener->life, memory_order_acquire);
    return listen_name(w_life_generation(*life), index) == name && w_life_state(*life) == W_LISTENER_LISTENING ? listener : NULL;
}

static void listen_become(struct w_listener *listener, uint32_t generation, enum w_listener_state state)
{
    atomic_store_explicit(&listener->life, w_life(generation, state), memory_order_release);
}

/* Claims a free one for this thread: its next generation. */
static struct w_listener *listen_claim(weir_runtime *runtime, uint32_t *index, uint32_t *generation)
{
    for (*index = 0; *index < runtime->config.listeners; (*index)++) {
        struct w_listener *listener = &runtime->orders.listeners[*index];
        uint64_t life = atomic_load_explicit(&listener->life, memory_order_relaxed);
        *generation = w_life_generation(life) + 1;
        /* Acquire: the last shard that left it has done with it. */
        if (w_life_state(life) == W_LISTENER_FREE &&
            atomic_compare_exchange_strong_explicit(&listener->life, &life, w_life(*generation, W_LISTENER_OPENING), memory_order_acquire,
                                                    memory_order_relaxed))
            return listener;
    }
    return NULL;
}

/* The addresses that the text stands for: *count of them in `resolve`. */
static int listen_resolve(weir_runtime *runtime, const struct w_address *parsed, struct w_io_resolve *resolve, uint32_t *count)
{
    memset(resolve, 0, sizeof *resolve);
    *count = 1;
    if (parsed->kind != W_ADDRESS_NAME) {
        resolve->addresses[0] = parsed->socket;
        return 0;
    }
    memcpy(resolve->host, parsed->host, sizeof resolve->host);
    resolve->port = parsed->port;
    int result = runtime->engine->resolve_now(runtime->engine->world, resolve);
    if (result == 0)
        result = -EHOSTUNREACH;
    *count = (uint32_t)result;
    return result < 0 ? result : 0;
}

/* Opens the sockets on one address. */
static int listen_open(weir_runtime *runtime, struct w_listener *listener, const struct w_io_address *address,
                       const weir_listen_options *options)
{
    const struct w_io_engine *engine = runtime->engine;
    uint32_t shards = runtime->config.shards;
    sa_family_t family = address->socket.any.sa_family;
    listener->one_handle = family == AF_UNIX || listener->round_robin;
    for (uint32_t i = 0; i < shards; i++)
        listener->handles[i] = -1;
    enum w_io_sharing sharing = listener->one_handle || shards == 1 ? W_IO_ALONE : W_IO_SHARED_FIRST;
    int handle = listener->handles[0] = engine->listen(engine->world, address, &options->socket, sharing);
    if (handle < 0)
        return handle;
    listener->remove_address = family == AF_UNIX;
    int result = engine->local_address(engine->world, handle, &listener->address);
    for (uint32_t i = 1; i < shards && !listener->one_handle && result == 0; i++) {
        handle = listener->handles[i] = engine->listen(engine->world, &listener->address, &options->socket, W_IO_SHARED_NEXT);
        result = handle < 0 ? handle : 0;
    }
    if (result != 0)
        w_listener_discard(listener, engine, shards);
    return result;
}

static int listen_inherit(weir_runtime *runtime, struct w_listener *listener, int descriptor, const weir_socket_options *options)
{
    const struct w_io_engine *engine = runtime->engine;
    int handle = engine->listen_inherited(engine->world, descriptor, options);
    if (handle < 0)
        return handle;
    listener->one_handle = true;
    listener->remove_address = false;
    listener->handles[0] = handle;
    return engine->local_address(engine->world, handle, &listener->address);
}

static int listen_sockets(weir_runtime *runtime, struct w_listener *listener, const char *address, const weir_listen_options *options,
                          weir_error *error)
{
    struct w_address parsed;
    struct w_io_resolve resolve;
    uint32_t count;
    int result = w_address_parse(address, &parsed, error);
    if (result != 0)
        return result;
    if (parsed.kind == W_ADDRESS_INHERITED) {
        result = listen_inherit(runtime, listener, parsed.descriptor, &options->socket);
    } else {
        result = listen_resolve(runtime, &parsed, &resolve, &count);
        for (uint32_t i = 0; result == 0 && i < count; i++)
            if ((result = listen_open(runtime, listener, &resolve.addresses[i], options)) == 0 || i + 1 == count)
                break;
            else
                result = 0;
    }
    return result == 0 ? 0 : w_base_fail(error, result, "cannot listen on %s: %s", address, weir_strerror(result));
}

int weir_listen(weir_runtime *runtime, const char *address, const weir_protocol *protocol, const weir_listen_options *options,
                weir_listener *name, weir_error *error)
{
    static const weir_listen_options defaults;
    uint32_t index, generation;
    if (options == NULL)
        options = &defaults;
    int result = w_limits_check(protocol, error);
    if (result != 0)
        return result;
    if ((unsigned)options->placement > WEIR_PLACEMENT_ROUND_ROBIN)
        return w_base_fail(error, -EINVAL, "options.placement is %d: it must be one of weir_placement", (int)options->placement);
    if (atomic_load_explicit(&runtime->orders.stopping, memory_order_relaxed))
        return w_base_fail(error, -ESHUTDOWN, "cannot listen on %s: the runtime is stopping", address);
    struct w_listener *listener = listen_claim(runtime, &index, &generation);
    if (listener == NULL)
        return w_base_fail(error, -ENOSPC, "cannot listen on %s: all %u of config.listeners are taken", address, runtime->config.listeners);
    listener->round_robin = options->placement == WEIR_PLACEMENT_ROUND_ROBIN;
    listener->next_shard = 0;
    result = listen_sockets(runtime, listener, address, options, error);
    if (result != 0) {
        listen_become(listener, generation, W_LISTENER_FREE);
        return result;
    }
    listener->protocol = protocol;
    listener->user = options->user;
    listener->backlog = options->socket.backlog != 0 ? options->socket.backlog : W_LISTENER_BACKLOG;
    atomic_store_explicit(&listener->shards_left, runtime->config.shards, memory_order_relaxed);
    if (name != NULL)
        *name = listen_name(generation, index);
    /* Release: a shard that sees LISTENING sees all of the above. */
    w_runtime_enter(runtime);
    listen_become(listener, generation, W_LISTENER_LISTENING);
    w_runtime_ring(runtime);
    w_runtime_leave(runtime);
    return 0;
}

int weir_listener_address(const weir_runtime *runtime, weir_listener name, char *text, size_t text_bytes)
{
    uint64_t life;
    struct w_listener *listener = listen_find(runtime, name, &life);
    return listener == NULL ? -ENOENT : w_address_text(&listener->address, text, text_bytes);
}

int weir_listener_stop(weir_runtime *runtime, weir_listener name)
{
    uint64_t life;
    struct w_listener *listener = listen_find(runtime, name, &life);
    /* By the whole word: somebody else may have stopped it meanwhile, and opened another. */
    if (listener == NULL ||
        !atomic_compare_exchange_strong_explicit(&listener->life, &life, w_life(w_life_generation(life), W_LISTENER_STOPPING),
                                                 memory_order_release, memory_order_relaxed))
        return -ENOENT;
    w_runtime_enter(runtime);
    w_runtime_ring(runtime);
    w_runtime_leave(runtime);
    return 0;
}
