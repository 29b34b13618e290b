/* SPDX-License-Identifier: MIT */
/* table: a shard's connections by slot. */
#include "runtime/table.h"

#include <errno.h>

#define CHUNK_BYTES    (W_TABLE_CHUNK_CONNS * sizeof(weir_conn))
#define SESSIONS_BYTES (W_TABLE_CHUNK_CONNS * W_TABLE_SESSION_BYTES)

static uint32_t table_chunks(uint32_t capacity)
{
    return (capacity + W_TABLE_CHUNK_CONNS - 1) / W_TABLE_CHUNK_CONNS;
}

uint64_t w_table_bound_bytes(uint32_t capacity)
{
    return (uint64_t)table_chunks(capacity) * (CHUNK_BYTES + 2 * sizeof(void *));
}

uint64_t w_table_sessions_bound_bytes(uint32_t capacity)
{
    return (uint64_t)table_chunks(capacity) * SESSIONS_BYTES;
}

int w_table_init(struct w_conn_table *table, struct w_core *core, uint32_t capacity)
{
    size_t bytes = table_chunks(capacity) * sizeof(void *);
    *table = (struct w_conn_table){.core = core, .capacity = capacity};
    table->chunks = w_pool_allocate_fixed(&core->pool, bytes);
    table->sessions = table->chunks == NULL ? NULL : w_pool_allocate_fixed(&core->pool, bytes);
    if (table->sessions != NULL)
        return 0;
    if (table->chunks != NULL)
        w_pool_release_fixed(&core->pool, table->chunks, bytes);
    *table = (struct w_conn_table){0};
    return -ENOMEM;
}

void w_table_finish(struct w_conn_table *table)
{
    if (table->chunks == NULL)
        return;
    struct w_pool *pool = &table->core->pool;
    for (uint32_t i = 0; i < table_chunks(table->capacity); i++) {
        if (table->chunks[i] != NULL)
            w_pool_release_fixed(pool, table->chunks[i], CHUNK_BYTES);
        if (table->sessions[i] != NULL)
            w_pool_release_fixed(pool, table->sessions[i], SESSIONS_BYTES);
    }
    w_pool_release_fixed(pool, table->chunks, table_chunks(table->capacity) * sizeof(void *));
    w_pool_release_fixed(pool, table->sessions, table_chunks(table->capacity) * sizeof(void *));
    *table = (struct w_conn_table){0};
}

static void table_put_free(struct w_conn_table *table, weir_conn *conn)
{
    conn->handle = (int32_t)table->free_first;
    table->free_first = conn->slot + 1;
}

/* Makes one chunk more, its slots free with the lowest first. */
static int table_grow(struct w_conn_table *table)
{
    if (table->made >= table->capacity)
        return -ENOSPC;
    weir_conn *chunk = w_pool_allocate_fixed(&table->core->pool, CHUNK_BYTES);
    if (chunk == NULL)
        return -ENOMEM;
    uint32_t count = w_base_min_u32(W_TABLE_CHUNK_CONNS, table->capacity - table->made);
    for (uint32_t i = count; i-- > 0;) {
        chunk[i].core = table->core;
        chunk[i].slot = table->made + i;
        w_stats_set(&chunk[i].shared.word, 1);
        table_put_free(table, &chunk[i]);
    }
    /* Release: who finds the chunk in weir_conn_stats_get sees its slots made. */
    __atomic_store_n(&table->chunks[table->made / W_TABLE_CHUNK_CONNS], chunk, __ATOMIC_RELEASE);
    table->made += count;
    return 0;
}

weir_conn *w_table_take(struct w_conn_table *table, int *error)
{
    if (table->free_first == 0 && (*error = table_grow(table)) != 0)
        return NULL;
    weir_conn *conn = w_table_at(table, table->free_first - 1);
    table->free_first = (uint32_t)conn->handle;
    w_stats_set_u32(&table->count, table->count + 1);
    return conn;
}

void w_table_give(struct w_conn_table *table, weir_conn *conn)
{
    struct w_conn_shared *shared = &conn->shared;
    w_stats_set_u32(&table->count, table->count - 1);
    uint64_t generation = w_conn_generation(conn) + 1;
    w_stats_set(&shared->word, generation & W_CONN_GENERATION_MASK);
    /* Release: who reads one of the zeroes below (weir_conn_stats_get) reads the new generation after it. */
    atomic_thread_fence(memory_order_release);
    if (generation > W_CONN_GENERATION_MASK)
        return; /* retired: generation 0 is nobody's */
    w_stats_set(&shared->progress_ns, 0);
    w_stats_set(&shared->messages_in, 0);
    w_stats_set(&shared->bytes_in, 0);
    w_stats_set(&shared->messages_out, 0);
    w_stats_set(&shared->bytes_out, 0);
    w_stats_set(&shared->bytes_put, 0);
    w_stats_set_u32(&shared->sends, 0);
    w_stats_set_u32(&shared->refusals, 0);
    table_put_free(table, conn);
}

weir_conn *w_table_at(const struct w_conn_table *table, uint32_t slot)
{
    if (slot >= table->capacity)
        return NULL;
    /* Acquire: pairs with table_grow. */
    weir_conn *chunk = __atomic_load_n(&table->chunks[slot / W_TABLE_CHUNK_CONNS], __ATOMIC_ACQUIRE);
    return chunk == NULL ? NULL : &chunk[slot % W_TABLE_CHUNK_CONNS];
}

void *w_table_session(struct w_conn_table *table, uint32_t slot)
{
    uint8_t **chunk = &table->sessions[slot / W_TABLE_CHUNK_CONNS];
    if (*chunk == NULL)
        *chunk = w_pool_allocate_fixed(&table->core->pool, SESSIONS_BYTES);
    return *chunk == NULL ? NULL : *chunk + slot % W_TABLE_CHUNK_CONNS * W_TABLE_SESSION_BYTES;
}

weir_conn *w_table_find(const struct w_conn_table *table, uint32_t slot, uint64_t generation)
{
    weir_conn *conn = w_table_at(table, slot);
    return conn != NULL && w_conn_generation(conn) == generation && conn->state != W_CONN_FREE ? conn : NULL;
}
