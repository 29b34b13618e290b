/* SPDX-License-Identifier: MIT */
/* fake_io: a core on an engine that has receive buffers and keeps what is sent, for tests of what lies below a connection; and an
 * allocator that keeps books and can be told to fail. */
#ifndef TEST_FAKE_IO_H
#define TEST_FAKE_IO_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "must.h"
#include "runtime/core.h"

#define FAKE_BUFFERS 32u

/* One send operation, as it was submitted. */
struct fake_send {
    uint64_t token;
    uint32_t bytes; /* 0: none in flight */
    uint32_t count;
    int handle;
    bool gathered;
    struct iovec vectors[W_IO_VECTORS_MAX];
};

static struct fake {
    struct w_core core;
    struct w_io io;
    struct w_io_engine engine;
    weir_allocator allocator;
    uint64_t allocated;       /* pieces that are out */
    int64_t allocations_left; /* so many more succeed; negative: all */
    struct {
        uint8_t *memory; /* of the bytes that it holds, no more, so that a look beyond them is found */
        uint32_t references;
    } buffers[FAKE_BUFFERS];
    struct fake_send send;
    uint32_t sends;
} fake;

static void *fake_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    if (fake.allocations_left == 0)
        return NULL;
    if (fake.allocations_left > 0)
        fake.allocations_left--;
    fake.allocated++;
    void *memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    MUST(memory != NULL);
    memset(memory, 0xa5, bytes);
    return memory;
}

static void fake_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    memset(memory, 0x5a, bytes);
    fake.allocated--;
    free(memory);
}

static inline void fake_buffer_hold(struct w_io *io, uint16_t buffer)
{
    MUST(io == &fake.io && buffer < FAKE_BUFFERS && fake.buffers[buffer].references > 0);
    fake.buffers[buffer].references++;
}

static inline void fake_buffer_release(struct w_io *io, uint16_t buffer)
{
    MUST(io == &fake.io && buffer < FAKE_BUFFERS && fake.buffers[buffer].references > 0);
    if (--fake.buffers[buffer].references > 0)
        return;
    free(fake.buffers[buffer].memory);
    fake.buffers[buffer].memory = NULL;
    fake.io.buffers_free++;
}

/* A buffer that something was received into, with one reference; the caller sees to it that one is free. */
static inline uint16_t fake_buffer_fill(const uint8_t *data, uint32_t bytes)
{
    uint16_t buffer = 0;
    while (buffer < FAKE_BUFFERS && fake.buffers[buffer].references > 0)
        buffer++;
    MUST(buffer < FAKE_BUFFERS);
    fake.buffers[buffer].memory = malloc(bytes);
    MUST(fake.buffers[buffer].memory != NULL);
    memcpy(fake.buffers[buffer].memory, data, bytes);
    fake.buffers[buffer].references = 1;
    fake.io.buffers_free--;
    return buffer;
}

static inline void fake_send_begin(struct w_io *io, int handle, uint64_t token)
{
    MUST(io == &fake.io);
    MUST_EQUAL(fake.send.bytes, 0); /* one at a time */
    fake.send = (struct fake_send){.token = token, .handle = handle};
    fake.sends++;
}

static inline void fake_send_one(struct w_io *io, int handle, const void *data, size_t bytes, uint64_t token)
{
    fake_send_begin(io, handle, token);
    fake.send.count = 1;
    fake.send.bytes = (uint32_t)bytes;
    fake.send.vectors[0] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    MUST(bytes > 0);
}

static inline void fake_send_gather(struct w_io *io, int handle, struct w_io_gather *gather, uint64_t token)
{
    fake_send_begin(io, handle, token);
    MUST(gather->count >= 1 && gather->count <= W_IO_VECTORS_MAX);
    fake.send.gathered = true;
    fake.send.count = gather->count;
    for (uint32_t i = 0; i < gather->count; i++) {
        MUST(gather->vectors[i].iov_len > 0);
        fake.send.vectors[i] = gather->vectors[i];
        fake.send.bytes += (uint32_t)gather->vectors[i].iov_len;
    }
}

/* Compares bytes with what pieces of memory hold, from the start of both. */
static inline void fake_must_hold(const struct iovec *vectors, uint32_t count, const uint8_t *expected)
{
    for (uint32_t i = 0; i < count; i++) {
        if (memcmp(vectors[i].iov_base, expected, vectors[i].iov_len) != 0)
            ck_abort_msg("piece %u of %u holds other bytes than expected", i, count);
        expected += vectors[i].iov_len;
    }
}

static inline void fake_start(uint64_t budget_bytes)
{
    memset(&fake, 0, sizeof fake);
    fake.allocations_left = -1;
    fake.allocator = (weir_allocator){.allocate = fake_allocate, .release = fake_release};
    fake.engine = (struct w_io_engine){.name = "fake",
                                       .buffer_hold = fake_buffer_hold,
                                       .buffer_release = fake_buffer_release,
                                       .send = fake_send_one,
                                       .send_gather = fake_send_gather};
    fake.io = (struct w_io){.engine = &fake.engine, .buffers = FAKE_BUFFERS, .buffers_free = FAKE_BUFFERS, .buffer_bytes = 65536};
    struct w_core *core = &fake.core;
    core->io = &fake.io;
    core->engine = &fake.engine;
    core->owner = w_core_self();
    core->in_turn = true;
    core->pinned_limit = FAKE_BUFFERS / 8;
    w_pool_init(&core->pool, &fake.allocator, budget_bytes);
}

/* From now on `count` takes succeed that cannot be served by a kept piece; there are no kept ones. */
static inline void fake_fail_after(int64_t count)
{
    w_pool_trim(&fake.core.pool);
    fake.allocations_left = count;
}

/* Everything is home again. */
static inline void fake_end(void)
{
    for (uint32_t i = 0; i < FAKE_BUFFERS; i++)
        MUST_EQUAL(fake.buffers[i].references, 0);
    MUST_EQUAL(fake.io.buffers_free, FAKE_BUFFERS);
    MUST_EQUAL(fake.core.assembly_bytes, 0);
    MUST_EQUAL(fake.core.blobs, 0);
    MUST_EQUAL(fake.core.pool.taken_bytes, 0);
    w_pool_finish(&fake.core.pool);
    MUST_EQUAL(fake.allocated, 0);
}

#endif
