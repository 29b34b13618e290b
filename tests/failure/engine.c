/* SPDX-License-Identifier: MIT */
/* engine: the real engine, with points before it. An operation that fails never reaches the kernel (a close does: Linux gives the number
 * back whatever close(2) answers); its final completion lies here until take(). One that is to fail while it goes on is cancelled, and
 * its final completion's result replaced. Cancels, shutdowns and the like have no answer that could be an error; what is behind them is
 * failed as system calls (calls.c). */
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "runtime/conn.h"

#define ENGINES 8
#define FAILED  64

/* One of the engine's shards. Slots are given out by open() and are then its shard's alone. */
static struct shadow {
    _Atomic(struct w_io *) io;
    uint32_t count;
    struct w_io_completion failed[FAILED]; /* wait for take() */
    uint32_t doomed_count;
    struct {
        uint64_t token;
        int error;
    } doomed[FAILED]; /* cancelled, to end with this */
} shadows[ENGINES];

static struct shadow *shadow_of(struct w_io *io)
{
    for (uint32_t i = 0; i < ENGINES; i++)
        if (atomic_load_explicit(&shadows[i].io, memory_order_relaxed) == io)
            return &shadows[i];
    ck_abort_msg("an engine that nobody opened");
}

static const struct w_io_engine *real(void)
{
    return w_io_uring();
}

/* True: it has failed. */
static bool fails(struct w_io *io, uint64_t token, enum failure_kind kind)
{
    int error = failure_now(kind);
    if (error == 0)
        return false;
    struct shadow *shadow = shadow_of(io);
    MUST(shadow->count < FAILED);
    shadow->failed[shadow->count++] = (struct w_io_completion){.token = token, .result = -error};
    return true;
}

/* --- for the whole runtime --- */

static int failing_listen(void *world, const struct w_io_address *address, const weir_socket_options *options, enum w_io_sharing sharing)
{
    int error = failure_now(FAILURE_LISTEN);
    return error != 0 ? -error : real()->listen(world, address, options, sharing);
}

static int failing_listen_inherited(void *world, int descriptor, const weir_socket_options *options)
{
    int error = failure_now(FAILURE_LISTEN_INHERITED);
    return error != 0 ? -error : real()->listen_inherited(world, descriptor, options);
}

static int failing_local_address(void *world, int handle, struct w_io_address *address)
{
    int error = failure_now(FAILURE_LOCAL_ADDRESS);
    return error != 0 ? -error : real()->local_address(world, handle, address);
}

static int failing_peer_address(void *world, int handle, struct w_io_address *address)
{
    int error = failure_now(FAILURE_PEER_ADDRESS);
    return error != 0 ? -error : real()->peer_address(world, handle, address);
}

static int failing_event_descriptor(void *world, struct w_io_event *event)
{
    int error = failure_now(FAILURE_EVENT_DESCRIPTOR);
    return error != 0 ? -error : real()->event_descriptor(world, event);
}

static int failing_event_wait(void *world, struct w_io_event *event, uint64_t wait_ns)
{
    int error = failure_now(FAILURE_EVENT_WAIT);
    return error != 0 ? -error : real()->event_wait(world, event, wait_ns);
}

static int failing_resolve_now(void *world, struct w_io_resolve *resolve)
{
    int error = failure_now(FAILURE_RESOLVE_NOW);
    return error != 0 ? -error : real()->resolve_now(world, resolve);
}

/* --- a shard's --- */

static int failing_open(void *world, const struct w_io_setup *setup, struct w_io **io, weir_error *error)
{
    int code = failure_now(FAILURE_OPEN);
    *io = NULL;
    if (code != 0)
        return w_base_fail(error, -code, "the test's engine does not open");
    int result = real()->open(world, setup, io, error);
    for (uint32_t i = 0; i < ENGINES && result == 0; i++) {
        if (atomic_load_explicit(&shadows[i].io, memory_order_relaxed) != NULL)
            continue;
        shadows[i].count = shadows[i].doomed_count = 0;
        atomic_store_explicit(&shadows[i].io, *io, memory_order_relaxed);
        break;
    }
    return result;
}

static void failing_close(struct w_io **io)
{
    if (*io != NULL)
        atomic_store_explicit(&shadow_of(*io)->io, NULL, memory_order_relaxed);
    real()->close(io);
}

static int failing_start(struct w_io *io)
{
    int error = failure_now(FAILURE_START);
    return error != 0 ? -error : real()->start(io);
}

static void failing_accept(struct w_io *io, int handle, uint64_t token)
{
    if (!fails(io, token, FAILURE_ACCEPT))
        real()->accept(io, handle, token);
}

static void failing_accept_one(struct w_io *io, int handle, uint64_t token)
{
    if (!fails(io, token, FAILURE_ACCEPT))
        real()->accept_one(io, handle, token);
}

static int failing_socket(struct w_io *io, const struct w_io_address *address, const weir_socket_options *options)
{
    int error = failure_now(FAILURE_SOCKET);
    return error != 0 ? -error : real()->socket(io, address, options);
}

static int failing_adopt(struct w_io *io, int descriptor, const weir_socket_options *options)
{
    int error = failure_now(FAILURE_ADOPT);
    return error != 0 ? -error : real()->adopt(io, descriptor, options);
}

static void failing_connect(struct w_io *io, int handle, const struct w_io_address *address, uint64_t token)
{
    if (!fails(io, token, FAILURE_CONNECT))
        real()->connect(io, handle, address, token);
}

static void failing_receive(struct w_io *io, int handle, uint64_t token)
{
    if (!fails(io, token, FAILURE_RECEIVE))
        real()->receive(io, handle, token);
}

static void failing_send(struct w_io *io, int handle, const void *data, size_t bytes, uint64_t token)
{
    if (!fails(io, token, FAILURE_SEND))
        real()->send(io, handle, data, bytes, token);
}

static void failing_send_gather(struct w_io *io, int handle, struct w_io_gather *gather, uint64_t token)
{
    if (!fails(io, token, FAILURE_SEND_GATHER))
        real()->send_gather(io, handle, gather, token);
}

static void failing_close_handle(struct w_io *io, int handle, uint64_t token)
{
    if (fails(io, token, FAILURE_CLOSE_HANDLE))
        close(handle);
    else
        real()->close_handle(io, handle, token);
}

static void failing_resolve(struct w_io *io, struct w_io_resolve *resolve, uint64_t token)
{
    if (!fails(io, token, FAILURE_RESOLVE))
        real()->resolve(io, resolve, token);
}

static int failing_submit(struct w_io *io, uint64_t wait_ns)
{
    return real()->submit(io, shadow_of(io)->count > 0 ? 0 : wait_ns);
}

/* One that goes on: is this its last good completion? Or the final one of one that was to end? */
static void doom(struct shadow *shadow, struct w_io *io, struct w_io_completion *completion)
{
    enum w_conn_operation operation = w_conn_token_operation(completion->token);
    for (uint32_t i = 0; i < shadow->doomed_count; i++) {
        if (shadow->doomed[i].token != completion->token || (completion->flags & W_IO_MORE) != 0)
            continue;
        if (completion->result == -ECANCELED)
            completion->result = -shadow->doomed[i].error;
        shadow->doomed[i] = shadow->doomed[--shadow->doomed_count];
        return;
    }
    if ((completion->flags & W_IO_MORE) == 0 || completion->result < 0 || (operation != W_CONN_RECEIVE && operation != W_CONN_ACCEPT))
        return;
    int error = failure_now(operation == W_CONN_RECEIVE ? FAILURE_RECEIVE_ON : FAILURE_ACCEPT_ON);
    if (error == 0)
        return;
    MUST(shadow->doomed_count < FAILED);
    shadow->doomed[shadow->doomed_count].token = completion->token;
    shadow->doomed[shadow->doomed_count++].error = error;
    real()->cancel(io, completion->token);
}

static uint32_t failing_take(struct w_io *io, struct w_io_completion *completions, uint32_t max)
{
    struct shadow *shadow = shadow_of(io);
    uint32_t count = w_base_min_u32(shadow->count, max);
    memcpy(completions, shadow->failed, count * sizeof *completions);
    shadow->count -= count;
    memmove(shadow->failed, shadow->failed + count, shadow->count * sizeof *completions);
    uint32_t end = count + (count < max ? real()->take(io, completions + count, max - count) : 0);
    for (uint32_t i = count; i < end; i++)
        doom(shadow, io, &completions[i]);
    return end;
}

static bool failing_stirring(struct w_io *io)
{
    return shadow_of(io)->count > 0 || real()->stirring(io);
}

static int failing_descriptor(struct w_io *io)
{
    int error = failure_now(FAILURE_DESCRIPTOR);
    return error != 0 ? -error : real()->descriptor(io);
}

static bool failing_may_sleep(struct w_io *io)
{
    return shadow_of(io)->count == 0 && real()->may_sleep(io);
}

const struct w_io_engine *failing_engine(void)
{
    static struct w_io_engine engine;
    engine = *real();
    engine.name = "failing";
    engine.listen = failing_listen;
    engine.listen_inherited = failing_listen_inherited;
    engine.local_address = failing_local_address;
    engine.peer_address = failing_peer_address;
    engine.event_descriptor = failing_event_descriptor;
    engine.event_wait = failing_event_wait;
    engine.resolve_now = failing_resolve_now;
    engine.open = failing_open;
    engine.close = failing_close;
    engine.start = failing_start;
    engine.accept = failing_accept;
    engine.accept_one = failing_accept_one;
    engine.socket = failing_socket;
    engine.adopt = failing_adopt;
    engine.connect = failing_connect;
    engine.receive = failing_receive;
    engine.send = failing_send;
    engine.send_gather = failing_send_gather;
    engine.close_handle = failing_close_handle;
    engine.resolve = failing_resolve;
    engine.submit = failing_submit;
    engine.take = failing_take;
    engine.stirring = failing_stirring;
    engine.descriptor = failing_descriptor;
    engine.may_sleep = failing_may_sleep;
    return &engine;
}
