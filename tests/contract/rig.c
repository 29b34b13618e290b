/* SPDX-License-Identifier: MIT */
/* rig: see rig.h. What every completion must obey is checked in record(). */
#include "tests/contract/rig.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MARK (UINT64_C(0x5a5a) << 48)

static void *rig_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    size_t step = alignment < sizeof(void *) ? sizeof(void *) : alignment;
    return aligned_alloc(step, (bytes + step - 1) / step * step);
}

static void rig_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    free(memory);
}

static void rig_log(void *user, weir_log_level level, const char *sentence)
{
    (void)user;
    (void)level;
    (void)sentence;
}

static const weir_allocator rig_allocator = {.allocate = rig_allocate, .release = rig_release};

void rig_open(struct rig *rig, const struct outside *outside, uint64_t seed, uint32_t buffers, uint32_t buffer_bytes, bool embedded)
{
    outside->open(seed);
    *rig = (struct rig){.outside = outside, .engine = outside->engine(), .patience_ns = 10 * WEIR_SECOND};
    const struct w_io_setup setup = {
        .shard_count = 1,
        .receive_buffers = buffers != 0 ? buffers : 64,
        .receive_buffer_bytes = buffer_bytes,
        .connections = 1024,
        .embedded = embedded && seed % 2 == 0,
        .allocator = &rig_allocator,
        .log = rig_log,
    };
    weir_error error = {0};
    int code = rig->engine->open(rig->engine->world, &setup, &rig->io, &error);
    ck_assert_msg(code == 0, "open: %d, %s", code, error.sentence);
    ck_assert_ptr_eq(rig->io->engine, rig->engine);
    ck_assert_uint_gt(rig->io->buffers, 0);
    ck_assert_uint_eq(rig->io->buffers_free, rig->io->buffers);
    ck_assert_uint_ge(rig->io->memory_bytes, (uint64_t)rig->io->buffers * rig->io->buffer_bytes);
    if (embedded)
        ck_assert_int_ge(rig->engine->descriptor(rig->io), 0);
    ck_assert_int_eq(rig->engine->start(rig->io), 0);
    if (!embedded)
        ck_assert_int_eq(rig->engine->descriptor(rig->io), -EINVAL);
}

void rig_close(struct rig *rig)
{
    rig_turn(rig, 0);
    ck_assert_uint_eq(rig->in_flight, 0);
    ck_assert_uint_eq(rig->io->buffers_free, rig->io->buffers);
    rig->engine->close(&rig->io);
    ck_assert_ptr_null(rig->io);
    for (uint32_t i = 0; i < rig->operation_count; i++)
        free(rig->operations[i].completions);
    free(rig->operations);
    rig->outside->close();
}

uint64_t rig_begin(struct rig *rig)
{
    if (rig->operation_count == rig->operation_capacity) {
        rig->operation_capacity = rig->operation_capacity == 0 ? 64 : 2 * rig->operation_capacity;
        rig->operations = realloc(rig->operations, rig->operation_capacity * sizeof *rig->operations);
        ck_assert_ptr_nonnull(rig->operations);
    }
    rig->operations[rig->operation_count] = (struct rig_operation){0};
    rig->in_flight++;
    return TOKEN_MARK | rig->operation_count++;
}

struct rig_operation *rig_of(struct rig *rig, uint64_t token)
{
    uint64_t index = token & ~TOKEN_MARK;
    ck_assert_msg((token & TOKEN_MARK) == TOKEN_MARK && index < rig->operation_count, "nobody gave the token %#llx",
                  (unsigned long long)token);
    return &rig->operations[index];
}

int32_t rig_result(struct rig *rig, uint64_t token)
{
    struct rig_operation *operation = rig_of(rig, token);
    ck_assert(operation->over && operation->count > 0);
    return operation->completions[operation->count - 1].result;
}

static void record(struct rig *rig, const struct w_io_completion *completion)
{
    struct rig_operation *operation = rig_of(rig, completion->token);
    ck_assert_msg(!operation->over, "a completion (%d) after the final one", completion->result);
    ck_assert_msg((completion->flags & ~(W_IO_MORE | W_IO_BUFFER)) == 0, "flags %#x", completion->flags);
    if ((completion->flags & W_IO_BUFFER) != 0) {
        ck_assert_int_gt(completion->result, 0);
        ck_assert_ptr_nonnull(completion->data);
        ck_assert_uint_lt(completion->buffer, rig->io->buffers);
        ck_assert_uint_le((uint32_t)completion->result, rig->io->buffer_bytes);
    }
    operation->completions = realloc(operation->completions, (operation->count + 1) * sizeof *operation->completions);
    ck_assert_ptr_nonnull(operation->completions);
    operation->completions[operation->count++] = *completion;
    operation->place = rig->completions++;
    if ((completion->flags & W_IO_MORE) == 0) {
        operation->over = true;
        rig->in_flight--;
    }
}

uint32_t rig_turn_count(struct rig *rig, uint64_t wait_ns)
{
    struct w_io_completion completions[7];
    uint32_t sum = 0;
    ck_assert_int_eq(rig->engine->submit(rig->io, wait_ns), 0);
    for (;;) {
        uint32_t count = rig->engine->take(rig->io, completions, W_COUNT(completions));
        ck_assert_uint_le(count, W_COUNT(completions));
        for (uint32_t i = 0; i < count; i++)
            record(rig, &completions[i]);
        sum += count;
        if (count == 0)
            return sum;
    }
}

void rig_turn(struct rig *rig, uint64_t wait_ns)
{
    rig_turn_count(rig, wait_ns);
}

int32_t rig_wait(struct rig *rig, uint64_t token)
{
    rig_until(rig, rig_of(rig, token)->over, (void)0);
    return rig_result(rig, token);
}

/* --- streams --- */

static void append(struct rig_bytes *bytes, const void *data, size_t count)
{
    if (bytes->count + count > bytes->capacity) {
        bytes->capacity = (bytes->count + count) * 2;
        bytes->data = realloc(bytes->data, bytes->capacity);
        ck_assert_ptr_nonnull(bytes->data);
    }
    if (count > 0)
        memcpy(bytes->data + bytes->count, data, count);
    bytes->count += count;
}

void rig_bytes_free(struct rig_bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct rig_bytes){0};
}

static void receive(struct rig *rig, struct rig_stream *stream)
{
    stream->token = rig_begin(rig);
    stream->seen = 0;
    stream->receiving = stream->fresh = true;
    stream->cancelled = false;
    rig->engine->receive(rig->io, stream->handle, stream->token);
}

void rig_stream_open(struct rig *rig, struct rig_stream *stream, int handle)
{
    *stream = (struct rig_stream){.handle = handle};
    receive(rig, stream);
}

/* The end of one receive: 8. of the contract. */
static void receive_ended(struct rig_stream *stream, int32_t result)
{
    stream->receiving = false;
    if (result == 0)
        stream->bytes.ended = true;
    else if (result == -ENOBUFS)
        stream->starved++;
    else if (result == -ECANCELED)
        ck_assert(stream->cancelled);
    else if (result < 0)
        stream->bytes.error = result;
}

void rig_stream_look(struct rig *rig, struct rig_stream *stream)
{
    while (stream->receiving && stream->seen < rig_of(rig, stream->token)->count) {
        const struct w_io_completion *completion = &rig_of(rig, stream->token)->completions[stream->seen++];
        if (completion->result > 0) {
            ck_assert((completion->flags & W_IO_BUFFER) != 0);
            append(&stream->bytes, completion->data, (size_t)completion->result);
            if (stream->keep_next) {
                stream->keep_next = false;
                stream->kept = *completion;
                rig->engine->buffer_hold(rig->io, completion->buffer);
                rig->engine->buffer_hold(rig->io, completion->buffer);
            }
            rig->engine->buffer_release(rig->io, completion->buffer);
            if (stream->fresh && (completion->flags & W_IO_MORE) != 0 && rig->engine->hung_up(rig->io, stream->handle)) {
                stream->cancelled = true; /* what is behind the bytes may never be told to this receive */
                rig->engine->cancel(rig->io, stream->token);
            }
            stream->fresh = false;
        } else {
            ck_assert((completion->flags & W_IO_MORE) == 0);
        }
        if ((completion->flags & W_IO_MORE) == 0)
            receive_ended(stream, completion->result);
    }
    if (!stream->receiving && !stream->paused && !stream->bytes.ended && stream->bytes.error == 0 && rig->io->buffers_free > 0)
        receive(rig, stream);
}

void rig_stream_close(struct rig *rig, struct rig_stream *stream)
{
    stream->paused = stream->cancelled = true;
    if (stream->receiving)
        rig->engine->cancel(rig->io, stream->token);
    rig_until(rig, !stream->receiving, rig_stream_look(rig, stream));
    rig_bytes_free(&stream->bytes);
}

void rig_peer_read(struct rig *rig, struct outside_peer *peer, struct rig_bytes *bytes)
{
    uint8_t data[16384];
    while (!bytes->ended && bytes->error == 0) {
        int64_t count = rig->outside->read(peer, data, sizeof data);
        if (count == -EAGAIN)
            return;
        if (count > 0)
            append(bytes, data, (size_t)count);
        else if (count == 0)
            bytes->ended = true;
        else
            bytes->error = (int)count;
    }
}

static uint8_t byte_at(size_t position, uint32_t salt)
{
    return (uint8_t)((position * 2654435761u + salt * 40503u) >> 13);
}

void rig_fill(uint8_t *data, size_t bytes, uint32_t salt)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = byte_at(i, salt);
}

void rig_check(const struct rig_bytes *bytes, size_t count, uint32_t salt)
{
    ck_assert_uint_eq(bytes->count, count);
    for (size_t i = 0; i < count; i++)
        if (bytes->data[i] != byte_at(i, salt))
            ck_abort_msg("byte %zu of %zu is wrong", i, count);
}

/* --- connections --- */

struct w_io_address rig_loopback(uint16_t port)
{
    struct w_io_address address = {.bytes = sizeof(struct sockaddr_in)};
    struct sockaddr_in *socket = (struct sockaddr_in *)&address.socket.storage;
    *socket = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return address;
}

uint16_t rig_port(const struct w_io_address *address)
{
    ck_assert_int_eq(address->socket.any.sa_family, AF_INET);
    return ntohs(((const struct sockaddr_in *)&address->socket.storage)->sin_port);
}

int rig_listen(struct rig *rig, struct w_io_address *address)
{
    *address = rig_loopback(0);
    const weir_socket_options options = {0};
    int listening = rig->engine->listen(rig->engine->world, address, &options, W_IO_ALONE);
    ck_assert_int_ge(listening, 0);
    ck_assert_int_eq(rig->engine->local_address(rig->engine->world, listening, address), 0);
    ck_assert_uint_ne(rig_port(address), 0);
    return listening;
}

int rig_accept_one(struct rig *rig, int listening, const struct w_io_address *address, struct outside_peer **peer)
{
    *peer = rig->outside->connect(address);
    int handle = -1;
    uint64_t token = 0;
    while (handle < 0) {
        token = rig_begin(rig);
        rig->engine->accept(rig->io, listening, token);
        rig_until(rig, rig_of(rig, token)->count > 0, (void)0);
        handle = rig_of(rig, token)->completions[0].result;
        ck_assert_msg(handle >= 0 || handle == -EMFILE || handle == -ENFILE, "accept: %d", handle);
    }
    if (!rig_of(rig, token)->over)
        rig_cancel(rig, token);
    ck_assert_uint_le(rig_of(rig, token)->count, 2);
    rig_until(rig, rig->outside->is_open(*peer), (void)0);
    return handle;
}

void rig_close_handle(struct rig *rig, int handle)
{
    uint64_t token = rig_begin(rig);
    rig->engine->close_handle(rig->io, handle, token);
    ck_assert_int_eq(rig_wait(rig, token), 0);
}

int32_t rig_cancel(struct rig *rig, uint64_t token)
{
    rig->engine->cancel(rig->io, token);
    return rig_wait(rig, token);
}
