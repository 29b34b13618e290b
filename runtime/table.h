/* SPDX-License-Identifier: MIT */
/* table: a shard's connections by slot. Grows by chunks that are never freed before the shard, so a slot's memory outlives its
 * tenants and other threads may read counters in it. */
#ifndef W_TABLE_H
#define W_TABLE_H

#include "runtime/conn.h"

#define W_TABLE_CHUNK_CONNS 64u
/* Memory for the session of a slot's connection (session.h), if it needs no more: in chunks too, as a piece of the pool for each would cost three times as much. */
#define W_TABLE_SESSION_BYTES 72u

/* Invariant: count = slots that are not free <= capacity; free_first leads through all free ones of those ever made. */
struct w_conn_table {
    struct w_core *core;
    weir_conn **chunks; /* capacity / W_TABLE_CHUNK_CONNS of them; read by any thread, NULL until made */
    uint8_t **sessions; /* as many, for the sessions of their connections; NULL until one of these has one */
    uint32_t capacity;
    uint32_t made;       /* slots in chunks that exist, and not retired */
    uint32_t count;      /* read by any thread */
    uint32_t free_first; /* slot + 1; 0: none */
};

/* 0 or -ENOMEM. Memory for the chunks' pointers only. */
int w_table_init(struct w_conn_table *table, struct w_core *core, uint32_t capacity);
/* Accepts a zeroed one. */
void w_table_finish(struct w_conn_table *table);

/* A free slot, to be initialised by w_conn_init; NULL: all taken, or no memory (*error says -ENOSPC or -ENOMEM). */
weir_conn *w_table_take(struct w_conn_table *table, int *error);
/* Back, with the next generation; a slot whose generations are spent is retired. */
void w_table_give(struct w_conn_table *table, weir_conn *conn);

/* The connection that lives in a slot under this generation, or NULL. */
weir_conn *w_table_find(const struct w_conn_table *table, uint32_t slot, uint64_t generation);
/* Any slot that was ever made, or NULL: for walking over all. */
weir_conn *w_table_at(const struct w_conn_table *table, uint32_t slot);

/* Memory of W_TABLE_SESSION_BYTES for this slot, aligned to 8; NULL: the allocator has nothing. It need not be given back. */
void *w_table_session(struct w_conn_table *table, uint32_t slot);

/* What all chunks of a full table come to, and those of the sessions, if every connection has one. */
uint64_t w_table_bound_bytes(uint32_t capacity);
uint64_t w_table_sessions_bound_bytes(uint32_t capacity);

#endif
