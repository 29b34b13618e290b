/* SPDX-License-Identifier: MIT */
/* dialer: connects to somebody, and again if asked to. One for each weir_dial until it has connected for good, or for as long as it redials.
 * Runs on its shard only. */
#ifndef W_DIALER_H
#define W_DIALER_H

#include <weir/listen.h>

#include "runtime/conn.h"
#include "runtime/io/address.h"

#define W_DIALER_NONE UINT32_MAX

/* TRYING: its connection is DIALING. CONNECTED: redials only. WAITING: for the next attempt. */
enum w_dialer_state { W_DIALER_TRYING, W_DIALER_CONNECTED, W_DIALER_WAITING };

struct w_dialer {
    struct w_core *core;
    weir_conn *conn; /* NULL exactly when WAITING */
    const weir_protocol *protocol;
    weir_dial_options options;  /* complete: no zeros that mean a default */
    struct w_wheel_entry timer; /* TRYING: the attempt's time limit; WAITING: the next attempt */
    uint64_t backoff_ns;
    uint64_t connected_ns;
    uint32_t index;
    uint8_t state;
    bool by_name;     /* `resolve` has a host to look up for each attempt */
    uint32_t address; /* the next of resolve.addresses to try */
    uint32_t address_count;
    struct w_io_resolve resolve;
};

struct w_dialer_place {
    struct w_dialer *dialer; /* NULL: free */
    uint32_t generation;
};

/* A shard's dialers. Invariant: count is how many places have a dialer. */
struct w_dialer_table {
    struct w_core *core;
    struct w_dialer_place *places;
    uint32_t capacity;
    uint32_t count;
};

int w_dialer_table_init(struct w_dialer_table *table, struct w_core *core, uint32_t capacity);
void w_dialer_table_finish(struct w_dialer_table *table);

/* weir_dial and weir_dial_stop. */
int w_dialer_open(struct w_dialer_table *table, const char *address, const weir_protocol *protocol, const weir_dial_options *options,
                  weir_dial_id *id, weir_error *error);
int w_dialer_stop(struct w_dialer_table *table, weir_dial_id id);
/* No more attempts of any; those under way end. */
void w_dialer_stop_all(struct w_dialer_table *table);

/* A completion of an attempt: W_CONN_CONNECT or W_CONN_RESOLVE of its connection. */
void w_dialer_completed(struct w_dialer_table *table, weir_conn *conn, enum w_conn_operation operation, int32_t result);
/* A dialed connection is over (its slot is still whole). */
void w_dialer_conn_over(struct w_dialer_table *table, const weir_conn *conn);
void w_dialer_timer(struct w_wheel_entry *entry, void *context, uint64_t now_ns);

#endif
