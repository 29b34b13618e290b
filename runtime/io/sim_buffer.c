/* SPDX-License-Identifier: MIT */
/* sim_buffer: a shard's receive buffers in the simulated kernel.
 *
 * The kernel has a queue of them and fills the first, slice by slice (IOU_PBUF_RING_INC; or one receive for each, when plain);
 * each slice hands the taker one reference. A buffer goes home to the end of the queue when it is used up and its last reference is
 * given back; what lay in it is destroyed then, so that whoever looks too long sees rubbish (or the address sanitizer's report). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/sim_world.h"

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED_BY_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED_BY_ASAN 1
#endif
#endif

#ifdef WATCHED_BY_ASAN
#include <sanitizer/asan_interface.h>
#define FORBID(memory, bytes) ASAN_POISON_MEMORY_REGION(memory, bytes)
#define ALLOW(memory, bytes)  ASAN_UNPOISON_MEMORY_REGION(memory, bytes)
#else
#define FORBID(memory, bytes) ((void)(memory), (void)(bytes))
#define ALLOW(memory, bytes)  ((void)(memory), (void)(bytes))
#endif

#define RUBBISH 0xdb

static uint8_t *memory_of(const struct w_sim_shard *shard, uint16_t buffer)
{
    return shard->buffers.area + (size_t)buffer * shard->io.buffer_bytes;
}

/* The kernel has it again. */
static void go_home(struct w_sim_shard *shard, uint16_t buffer)
{
    struct w_sim_buffers *buffers = &shard->buffers;
    uint8_t *memory = memory_of(shard, buffer);
    ALLOW(memory, shard->io.buffer_bytes);
    memset(memory, RUBBISH, buffers->filled[buffer]);
    FORBID(memory, shard->io.buffer_bytes);
    buffers->queue[(buffers->queue_first + shard->io.buffers_free) & (buffers->capacity - 1)] = buffer;
    shard->io.buffers_free++;
}

int w_sim_buffer_open(struct w_sim_shard *shard, const struct w_io_setup *setup)
{
    struct w_sim_buffers *buffers = &shard->buffers;
    const weir_allocator *allocator = &shard->allocator;
    struct w_io *io = &shard->io;
    buffers->plain = shard->world->faults.plain_buffers || (setup->disable != NULL && strstr(setup->disable, "incremental") != NULL);
    io->buffers = setup->receive_buffers;
    io->buffer_bytes = setup->receive_buffer_bytes;
    if (io->buffer_bytes == 0) {
        io->buffer_bytes = buffers->plain ? 16 * 1024 : 64 * 1024;
        io->buffers *= buffers->plain ? 4 : 1;
    }
    io->buffers = w_base_min_u32(io->buffers, 32768);
    for (buffers->capacity = 1; buffers->capacity < io->buffers;)
        buffers->capacity *= 2;
    buffers->area_bytes = (uint64_t)io->buffers * io->buffer_bytes;
    io->memory_bytes += buffers->area_bytes + buffers->capacity * 6;
    buffers->area = allocator->allocate(allocator->user, buffers->area_bytes, 4096);
    if (buffers->area == NULL)
        return -ENOMEM;
    buffers->references = w_sim_world_memory(buffers->capacity * sizeof *buffers->references);
    buffers->filled = w_sim_world_memory(buffers->capacity * sizeof *buffers->filled);
    buffers->queue = w_sim_world_memory(buffers->capacity * sizeof *buffers->queue);
    for (uint32_t i = 0; i < io->buffers; i++) {
        FORBID(memory_of(shard, (uint16_t)i), io->buffer_bytes);
        buffers->queue[i] = (uint16_t)i;
    }
    io->buffers_free = io->buffers;
    return 0;
}

void w_sim_buffer_close(struct w_sim_shard *shard)
{
    struct w_sim_buffers *buffers = &shard->buffers;
    if (buffers->area == NULL)
        return;
    for (uint32_t i = 0; i < shard->io.buffers; i++)
        W_SIM_REQUIRE(shard->world, buffers->references[i] == 0, "shard %u closes while buffer %u has %u references", shard->index, i,
                      buffers->references[i]);
    W_ASSERT(shard->io.buffers_free == shard->io.buffers);
    ALLOW(buffers->area, buffers->area_bytes);
    shard->allocator.release(shard->allocator.user, buffers->area, buffers->area_bytes);
    free(buffers->references);
    free(buffers->filled);
    free(buffers->queue);
}

uint8_t *w_sim_buffer_room(struct w_sim_shard *shard, uint32_t *bytes)
{
    struct w_sim_buffers *buffers = &shard->buffers;
    if (shard->io.buffers_free == 0)
        return NULL;
    *bytes = shard->io.buffer_bytes - buffers->used_bytes;
    return memory_of(shard, buffers->queue[buffers->queue_first]) + buffers->used_bytes;
}

uint16_t w_sim_buffer_use(struct w_sim_shard *shard, uint32_t bytes)
{
    struct w_sim_buffers *buffers = &shard->buffers;
    uint16_t buffer = buffers->queue[buffers->queue_first];
    ALLOW(memory_of(shard, buffer) + buffers->used_bytes, bytes);
    buffers->references[buffer]++;
    buffers->used_bytes += bytes;
    buffers->filled[buffer] = buffers->used_bytes;
    if (buffers->plain || buffers->used_bytes == shard->io.buffer_bytes) {
        buffers->used_bytes = 0;
        buffers->queue_first = (buffers->queue_first + 1) & (buffers->capacity - 1);
        shard->io.buffers_free--;
    }
    return buffer;
}

static uint32_t *references_of(struct w_sim_shard *shard, uint16_t buffer, const char *what)
{
    struct w_sim_buffers *buffers = &shard->buffers;
    W_SIM_REQUIRE(shard->world, buffer < shard->io.buffers, "%s of buffer %u; there are %u", what, buffer, shard->io.buffers);
    W_SIM_REQUIRE(shard->world, buffers->references[buffer] > 0, "%s of buffer %u, to which nobody has a reference", what, buffer);
    return &buffers->references[buffer];
}

void w_sim_buffer_hold(struct w_sim_shard *shard, uint16_t buffer)
{
    ++*references_of(shard, buffer, "hold");
}

void w_sim_buffer_release(struct w_sim_shard *shard, uint16_t buffer)
{
    struct w_sim_buffers *buffers = &shard->buffers;
    uint32_t left = --*references_of(shard, buffer, "release");
    bool filling = shard->io.buffers_free > 0 && buffers->queue[buffers->queue_first] == buffer;
    if (left == 0 && !filling)
        go_home(shard, buffer);
}
