/* SPDX-License-Identifier: MIT */
/* buffers: giving receive buffers to the kernel and getting them back.
 *
 * Road:    add → the kernel fills → filled (one reference) → release → the last one adds again.
 * Ditches: a completion with a buffer and no data → the kernel keeps an incremental buffer whatever its flags say (they lack F_BUF_MORE at
 *          the end of a stream, liburing#1545), a plain one is added again; a buffer released by nobody → never comes back, so
 *          every completion with data has a taker. */
#include "runtime/io/buffers.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/io/uapi.h"

/* Entries of the ring lie from its very start; the tail is in the first one's last two bytes. */
static struct io_uring_buf *entry_at(const struct w_buffers *buffers, uint32_t position)
{
    return (struct io_uring_buf *)(void *)buffers->ring + (position & (buffers->entries - 1));
}

/* Gives a buffer to the kernel, empty. */
static void add(struct w_buffers *buffers, uint32_t number)
{
    struct io_uring_buf *entry = entry_at(buffers, buffers->tail);
    entry->addr = (uint64_t)(uintptr_t)(buffers->memory + (size_t)number * buffers->bytes);
    entry->len = buffers->bytes;
    entry->bid = (uint16_t)number;
    buffers->states[number] = (struct w_buffers_state){.references = 1};
    buffers->free++;
    __atomic_store_n(&buffers->ring->tail, ++buffers->tail, __ATOMIC_RELEASE);
}

static uint32_t power_of_two(uint32_t count)
{
    uint32_t entries = 1;
    while (entries < count)
        entries *= 2;
    return entries;
}

uint64_t w_buffers_mapped_bytes(const struct w_buffers *buffers)
{
    return ((uint64_t)buffers->entries * sizeof(struct io_uring_buf) + 4095) & ~UINT64_C(4095);
}

static size_t memory_bytes(const struct w_buffers *buffers)
{
    return (size_t)buffers->count * buffers->bytes;
}

static size_t states_bytes(const struct w_buffers *buffers)
{
    return buffers->count * sizeof *buffers->states;
}

uint64_t w_buffers_allocated_bytes(const struct w_buffers *buffers)
{
    return memory_bytes(buffers) + states_bytes(buffers);
}

static int allocate(struct w_buffers *buffers)
{
    const weir_allocator *allocator = buffers->allocator;
    /* Mapped, not allocated: the kernel pins these pages until its ring is gone, which may be a little after ours is closed. */
    void *ring = mmap(NULL, w_buffers_mapped_bytes(buffers), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (ring == MAP_FAILED)
        return -ENOMEM;
    buffers->ring = ring;
    /* Not zeroed: a page that was never received into costs no memory. */
    buffers->memory = allocator->allocate(allocator->user, memory_bytes(buffers), 4096);
    buffers->states = allocator->allocate(allocator->user, states_bytes(buffers), 64);
    return buffers->memory != NULL && buffers->states != NULL ? 0 : -ENOMEM;
}

int w_buffers_open(struct w_buffers *buffers, uint32_t count, uint32_t bytes, bool incremental, const weir_allocator *allocator)
{
    W_ASSERT(count >= 1 && count <= W_BUFFERS_MAX && bytes > 0);
    *buffers = (struct w_buffers){
        .allocator = allocator, .count = count, .bytes = bytes, .entries = power_of_two(count), .incremental = incremental};
    int result = allocate(buffers);
    if (result < 0)
        w_buffers_close(buffers);
    return result;
}

int w_buffers_register(struct w_buffers *buffers, int ring_descriptor)
{
    struct w_uapi_buffer_ring request = {
        .ring_address = (uint64_t)(uintptr_t)buffers->ring,
        .ring_entries = buffers->entries,
        .group = W_BUFFERS_GROUP,
        .flags = buffers->incremental ? W_UAPI_PBUF_RING_INC : 0,
    };
    W_ASSERT(buffers->free == 0);
    int result = io_uring_register((unsigned)ring_descriptor, IORING_REGISTER_PBUF_RING, &request, 1);
    if (result < 0)
        return result;
    for (uint32_t i = 0; i < buffers->count; i++)
        add(buffers, i);
    return 0;
}

void w_buffers_close(struct w_buffers *buffers)
{
    const weir_allocator *allocator = buffers->allocator;
    if (buffers->ring != NULL)
        munmap(buffers->ring, w_buffers_mapped_bytes(buffers));
    if (buffers->memory != NULL)
        allocator->release(allocator->user, buffers->memory, memory_bytes(buffers));
    if (buffers->states != NULL)
        allocator->release(allocator->user, buffers->states, states_bytes(buffers));
    memset(buffers, 0, sizeof *buffers);
}

/* The kernel will not fill this buffer any more. */
static void kernel_let_go(struct w_buffers *buffers, uint16_t number)
{
    W_ASSERT(buffers->free > 0);
    buffers->free--;
    w_buffers_release(buffers, number);
}

const uint8_t *w_buffers_filled(struct w_buffers *buffers, int32_t result, uint32_t flags, uint16_t *number)
{
    *number = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
    W_ASSERT(*number < buffers->count);
    struct w_buffers_state *state = &buffers->states[*number];
    W_ASSERT(state->references > 0);
    if (result <= 0) {
        if (!buffers->incremental)
            kernel_let_go(buffers, *number);
        return NULL;
    }
    const uint8_t *data = buffers->memory + (size_t)*number * buffers->bytes + state->filled_bytes;
    state->filled_bytes += (uint32_t)result;
    W_ASSERT(state->filled_bytes <= buffers->bytes);
    state->references++;
    bool full = !buffers->incremental || state->filled_bytes == buffers->bytes;
    if (buffers->incremental && full == ((flags & W_UAPI_CQE_F_BUF_MORE) != 0))
        buffers->disagreed = true;
    if (full)
        kernel_let_go(buffers, *number);
    return data;
}

void w_buffers_hold(struct w_buffers *buffers, uint16_t number)
{
    W_ASSERT(number < buffers->count && buffers->states[number].references > 0);
    buffers->states[number].references++;
}

void w_buffers_release(struct w_buffers *buffers, uint16_t number)
{
    W_ASSERT(number < buffers->count && buffers->states[number].references > 0);
    if (--buffers->states[number].references == 0)
        add(buffers, number);
}
