/* SPDX-License-Identifier: MIT */
/* sim_operation: a shard's operations in the simulated kernel; how they are tried is in sim_attempt.c.
 *
 * Road:    queued by the caller → started by a submit → tried, at once or soon after something changed → completed, maybe late →
 *          brought by a submit → taken; the final completion ends it.
 * Ditches: the caller changes memory that must stand still, has two receives on a handle, or uses a token twice → blamed. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/sim_world.h"

/* How much of each piece of a send is watched: its beginning and its end. What is taken of it the test sees for itself. */
#define WATCHED_BYTES 128u

static const char *const verbs[] = {"accept", "connect", "receive", "send", "close", "resolve", "cancel"};

/* --- which operations there are --- */

static struct w_sim_operation **bucket_of(struct w_sim_shard *shard, uint64_t token)
{
    return &shard->by_token[(token * UINT64_C(0x9e3779b97f4a7c15)) >> 54 & (W_SIM_HASH - 1)];
}

struct w_sim_operation *w_sim_operation_find(struct w_sim_shard *shard, uint64_t token)
{
    struct w_sim_operation *operation = *bucket_of(shard, token);
    while (operation != NULL && operation->token != token)
        operation = operation->chain;
    return operation;
}

static struct w_sim_operation *create(struct w_sim_shard *shard, enum w_sim_verb verb, int handle, uint64_t token)
{
    enum { COUNT = 16 };
    struct weir_sim_world *world = shard->world;
    if (world->operations_free == NULL) {
        struct w_sim_operation *operations = w_sim_world_chunk(world, COUNT * sizeof *operations);
        for (int i = 0; i < COUNT; i++) {
            operations[i].next = world->operations_free;
            world->operations_free = &operations[i];
        }
    }
    struct w_sim_operation *operation = world->operations_free;
    world->operations_free = operation->next;
    *operation = (struct w_sim_operation){.serial = operation->serial + 1, .shard = shard, .verb = verb, .handle = handle, .token = token};
    return operation;
}

void w_sim_operation_destroy(struct w_sim_operation *operation)
{
    struct weir_sim_world *world = operation->shard->world;
    operation->serial++;
    operation->next = world->operations_free;
    world->operations_free = operation;
}

/* The place on its socket that this operation takes; NULL for those that have none. */
static struct w_sim_operation **place_of(struct w_sim_operation *operation)
{
    switch (operation->verb) {
    case W_SIM_CONNECT:
        return &operation->socket->connect;
    case W_SIM_RECEIVE:
        return &operation->socket->receive;
    case W_SIM_SEND:
        return &operation->socket->send;
    case W_SIM_ACCEPT:
    case W_SIM_CLOSE:
    case W_SIM_RESOLVE:
    case W_SIM_CANCEL:
        break;
    }
    return NULL;
}

static void enter_socket(struct w_sim_operation *operation)
{
    struct weir_sim_world *world = operation->shard->world;
    struct w_sim_socket *socket = w_sim_socket_of(world, operation->handle);
    const char *verb = verbs[operation->verb];
    operation->socket = socket;
    W_SIM_REQUIRE(world, !socket->closing, "%s on handle %d after its close", verb, operation->handle);
    W_SIM_REQUIRE(world, (operation->verb == W_SIM_ACCEPT) == (socket->kind == W_SIM_SOCKET_LISTENING) || operation->verb == W_SIM_CLOSE,
                  "%s on handle %d, which is not of that kind", verb, operation->handle);
    if (operation->verb == W_SIM_CLOSE) {
        W_SIM_REQUIRE(world, socket->operations == 0, "close of handle %d with %u operations in flight", operation->handle,
                      socket->operations);
        socket->closing = true;
        operation->shard->closes++;
        if (operation->shard->woken_due_ns != UINT64_MAX)
            w_sim_fault_fire(world, WEIR_SIM_CLOSE_WAKE);
    }
    if (operation->verb == W_SIM_ACCEPT) {
        operation->accept_next = socket->accepts;
        socket->accepts = operation;
    }
    struct w_sim_operation **place = place_of(operation);
    if (place != NULL) {
        W_SIM_REQUIRE(world, *place == NULL, "two operations to %s on handle %d", verb, operation->handle);
        *place = operation;
    }
    socket->operations++;
}

static void leave_socket(struct w_sim_operation *operation)
{
    struct w_sim_socket *socket = operation->socket;
    if (socket == NULL)
        return;
    if (operation->verb == W_SIM_ACCEPT) {
        struct w_sim_operation **link = &socket->accepts;
        while (*link != operation)
            link = &(*link)->accept_next;
        *link = operation->accept_next;
    }
    struct w_sim_operation **place = place_of(operation);
    if (place != NULL)
        *place = NULL;
    socket->operations--;
    operation->socket = NULL;
}

struct w_sim_operation *w_sim_operation_queue(struct w_sim_shard *shard, enum w_sim_verb verb, int handle, uint64_t token)
{
    struct weir_sim_world *world = shard->world;
    W_SIM_REQUIRE(world, token >> 63 == 0, "the token %#" PRIx64 " has 64 bits", token);
    struct w_sim_operation *operation = create(shard, verb, handle, token);
    if (handle >= 0)
        enter_socket(operation);
    if (verb != W_SIM_CANCEL) {
        W_SIM_REQUIRE(world, w_sim_operation_find(shard, token) == NULL, "the token %#" PRIx64 " of this %s is in flight already", token,
                      verbs[verb]);
        struct w_sim_operation **bucket = bucket_of(shard, token);
        operation->chain = *bucket;
        *bucket = operation;
        shard->operations++;
    }
    if (shard->submit_last != NULL)
        shard->submit_last->next = operation;
    else
        shard->submit_first = operation;
    shard->submit_last = operation;
    return operation;
}

/* --- memory that must stand still --- */

static uint64_t watch(uint64_t hash, const void *memory, size_t bytes)
{
    const uint8_t *at = memory;
    uint64_t word = 0;
    for (; bytes >= sizeof word; at += sizeof word, bytes -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    for (; bytes > 0; at++, bytes--)
        hash = (hash ^ *at) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t watch_piece(uint64_t hash, const struct iovec *piece)
{
    hash = watch(hash, piece, sizeof *piece);
    size_t bytes = piece->iov_len < WATCHED_BYTES ? piece->iov_len : WATCHED_BYTES;
    hash = watch(hash, piece->iov_base, bytes);
    return watch(hash, (const uint8_t *)piece->iov_base + piece->iov_len - bytes, bytes);
}

static uint64_t watch_all(const struct w_sim_operation *operation)
{
    uint64_t hash = 1;
    if (operation->verb == W_SIM_CONNECT)
        return watch(hash, &operation->address->socket, operation->address->bytes);
    if (operation->verb != W_SIM_SEND)
        return 0;
    if (operation->gather == NULL)
        return watch_piece(hash, &operation->alone);
    for (uint32_t i = 0; i < operation->gather->count; i++)
        hash = watch_piece(hash, &operation->gather->vectors[i]);
    return hash;
}

void w_sim_operation_guard(struct w_sim_operation *operation)
{
    operation->memory_hash = watch_all(operation);
}

void w_sim_operation_check_memory(const struct w_sim_operation *operation)
{
    W_SIM_REQUIRE(operation->shard->world, watch_all(operation) == operation->memory_hash,
                  "memory of a %s on handle %d changed before its final completion", verbs[operation->verb], operation->handle);
}

/* --- completing --- */

static void queue_push(struct w_sim_queue *queue, const struct w_sim_pending *pending)
{
    if (queue->first == queue->count)
        queue->first = queue->count = 0;
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity == 0 ? 64 : queue->capacity * 2;
        struct w_sim_pending *entries = w_sim_world_memory(queue->capacity * sizeof *entries);
        if (queue->count > 0)
            memcpy(entries, queue->entries, queue->count * sizeof *entries);
        free(queue->entries);
        queue->entries = entries;
    }
    queue->entries[queue->count++] = *pending;
}

/* A close may come to its end when a wake-up is heard. */
static uint64_t meet_wake(struct w_sim_shard *shard, uint64_t due_ns)
{
    uint64_t woken_due_ns = atomic_load_explicit(&shard->woken_due_ns, memory_order_relaxed);
    if (woken_due_ns == UINT64_MAX || woken_due_ns <= due_ns || !w_sim_fault_draws(shard->world, WEIR_SIM_CLOSE_WAKE))
        return due_ns;
    return woken_due_ns;
}

/* A receive's or a send's last word on a connection that has died. */
static bool tells_death(const struct w_sim_operation *operation, const struct w_io_completion *completion)
{
    return operation->socket != NULL && operation->socket->death != 0 && completion->result <= 0 &&
           (operation->verb == W_SIM_RECEIVE || operation->verb == W_SIM_SEND);
}

void w_sim_operation_complete(struct w_sim_operation *operation, const struct w_io_completion *completion)
{
    struct w_sim_shard *shard = operation->shard;
    struct weir_sim_world *world = shard->world;
    uint64_t due_ns = world->now_ns;
    if (w_sim_fault_strikes(world, WEIR_SIM_LATE))
        due_ns += w_sim_world_late_ns(world);
    if (operation->verb == W_SIM_CLOSE)
        due_ns = meet_wake(shard, due_ns);
    if (due_ns < operation->last_due_ns)
        due_ns = operation->last_due_ns;
    operation->last_due_ns = due_ns;
    if (tells_death(operation, completion)) {
        if (due_ns < operation->socket->told_due_ns)
            due_ns = operation->socket->told_due_ns;
        operation->socket->told_due_ns = due_ns;
    }
    if (due_ns > world->now_ns)
        w_sim_world_at(world, due_ns, NULL, w_sim_world_pass, NULL, 0);
    if (operation->cancelled && completion->result >= 0 && operation->verb != W_SIM_CLOSE)
        w_sim_fault_fire(world, WEIR_SIM_CANCEL_MISSED);
    struct w_sim_pending pending = {.completion = *completion, .operation = operation, .due_ns = due_ns};
    pending.completion.token = operation->token;
    pending.final = (completion->flags & W_IO_MORE) == 0;
    if (pending.final)
        operation->state = W_SIM_FINISHED;
    queue_push(&shard->pending, &pending);
    w_sim_world_note(world, verbs[operation->verb], operation->handle, completion->result, completion->flags);
}

/* --- to the caller --- */

bool w_sim_operation_due(const struct w_sim_shard *shard)
{
    for (uint32_t i = shard->pending.first; i < shard->pending.count; i++)
        if (shard->pending.entries[i].due_ns <= shard->world->now_ns)
            return true;
    return false;
}

/* They have an order: they are of one operation, or tell of one connection's death. */
static bool in_order(const struct w_sim_pending *first, const struct w_sim_pending *second)
{
    return first->operation == second->operation ||
           (first->operation->socket == second->operation->socket && tells_death(first->operation, &first->completion) &&
            tells_death(second->operation, &second->completion));
}

/* Lets completions that were brought together change places, but for those that have an order. */
static void shuffle(struct weir_sim_world *world, struct w_sim_pending *entries, uint32_t count)
{
    for (uint32_t round = 0; round < 4; round++)
        for (uint32_t i = 1; i < count; i++)
            if (!in_order(&entries[i - 1], &entries[i]) && w_sim_fault_strikes(world, WEIR_SIM_SHUFFLE)) {
                struct w_sim_pending entry = entries[i];
                entries[i] = entries[i - 1];
                entries[i - 1] = entry;
            }
}

void w_sim_operation_harvest(struct w_sim_shard *shard)
{
    struct weir_sim_world *world = shard->world;
    struct w_sim_queue *pending = &shard->pending;
    uint32_t before = shard->there.first == shard->there.count ? 0 : shard->there.count;
    uint32_t kept = pending->first, brought = 0;
    bool enough = false;
    for (uint32_t i = pending->first; i < pending->count; i++) {
        bool due = pending->entries[i].due_ns <= world->now_ns;
        enough = enough || (due && brought > 0 && w_sim_fault_strikes(world, WEIR_SIM_PARTIAL_SUBMIT));
        if (due && !enough) {
            queue_push(&shard->there, &pending->entries[i]);
            brought++;
        } else {
            pending->entries[kept++] = pending->entries[i];
        }
    }
    pending->count = kept;
    if (brought > 1)
        shuffle(world, shard->there.entries + before, brought);
}

static void over(struct w_sim_operation *operation)
{
    struct w_sim_shard *shard = operation->shard;
    w_sim_operation_check_memory(operation);
    leave_socket(operation);
    struct w_sim_operation **link = bucket_of(shard, operation->token);
    while (*link != operation)
        link = &(*link)->chain;
    *link = operation->chain;
    shard->operations--;
    shard->closes -= operation->verb == W_SIM_CLOSE;
    w_sim_operation_destroy(operation);
}

bool w_sim_operation_take(struct w_sim_shard *shard, struct w_io_completion *completion)
{
    if (shard->there.first == shard->there.count)
        return false;
    struct w_sim_pending *pending = &shard->there.entries[shard->there.first++];
    *completion = pending->completion;
    if (pending->final)
        over(pending->operation);
    return true;
}

static void abandon_completions(struct w_sim_shard *shard, struct w_sim_queue *queue)
{
    for (; queue->first < queue->count; queue->first++) {
        const struct w_sim_pending *pending = &queue->entries[queue->first];
        if ((pending->completion.flags & W_IO_BUFFER) != 0)
            w_sim_buffer_release(shard, pending->completion.buffer);
        if (pending->operation->verb == W_SIM_ACCEPT && pending->completion.result >= 0)
            w_sim_socket_close(w_sim_socket_of(shard->world, pending->completion.result), true);
    }
}

void w_sim_operation_abandon(struct w_sim_shard *shard)
{
    abandon_completions(shard, &shard->pending);
    abandon_completions(shard, &shard->there);
    for (uint32_t i = 0; i < W_SIM_HASH; i++)
        while (shard->by_token[i] != NULL) {
            struct w_sim_operation *operation = shard->by_token[i];
            struct w_sim_socket *socket = operation->socket;
            shard->by_token[i] = operation->chain;
            leave_socket(operation);
            if (operation->verb == W_SIM_CLOSE && socket != NULL) /* queued, and nobody else will */
                w_sim_socket_close(socket, false);
            shard->operations--;
            shard->closes -= operation->verb == W_SIM_CLOSE;
            w_sim_operation_destroy(operation);
        }
    shard->submit_first = shard->submit_last = NULL;
}

void w_sim_operation_finish(struct w_sim_shard *shard)
{
    struct weir_sim_world *world = shard->world;
    W_SIM_REQUIRE(world, shard->operations == 0, "shard %u closes with %u operations in flight", shard->index, shard->operations);
    W_SIM_REQUIRE(world, shard->there.first == shard->there.count && shard->pending.first == shard->pending.count,
                  "shard %u closes with a completion not taken", shard->index);
    W_SIM_REQUIRE(world, shard->submit_first == NULL || shard->submit_first->verb == W_SIM_CANCEL,
                  "shard %u closes with an operation not submitted", shard->index);
    free(shard->pending.entries);
    free(shard->there.entries);
}
