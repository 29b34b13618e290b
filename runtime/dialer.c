/* SPDX-License-Identifier: MIT */
/* dialer: connects to somebody.
 *
 * Road:    a slot -> look the name up -> a socket -> connect -> the connection's on_open; redialing: when it is over -> wait -> again.
 * Ditches: no address, refused, no descriptor -> the next address, after the last one on_close with the last error; too late -> on_close
 *          with DIAL_LATE; no slot for a redial -> wait for the next attempt; stopped -> the attempt is aborted. */
#include "runtime/dialer.h"

#include <errno.h>
#include <string.h>

#include "runtime/limits.h"
#include "runtime/table.h"

#define TIMEOUT_NS    (10 * WEIR_SECOND)
#define REDIAL_MIN_NS (100 * WEIR_MILLISECOND)
#define REDIAL_MAX_NS (30 * WEIR_SECOND)

int w_dialer_table_init(struct w_dialer_table *table, struct w_core *core, uint32_t capacity)
{
    struct w_dialer_place *places = w_pool_allocate_fixed(&core->pool, capacity * sizeof *places);
    if (places == NULL)
        return -ENOMEM;
    *table = (struct w_dialer_table){.core = core, .places = places, .capacity = capacity};
    return 0;
}

static void dialer_destroy(struct w_dialer_table *table, struct w_dialer *dialer);

void w_dialer_table_finish(struct w_dialer_table *table)
{
    for (uint32_t i = 0; i < table->capacity && table->count > 0; i++)
        if (table->places[i].dialer != NULL)
            dialer_destroy(table, table->places[i].dialer);
    if (table->places != NULL)
        w_pool_release_fixed(&table->core->pool, table->places, table->capacity * sizeof *table->places);
    *table = (struct w_dialer_table){0};
}

static struct w_dialer *dialer_create(struct w_dialer_table *table, int *error)
{
    *error = -ENOSPC;
    if (table->count == table->capacity)
        return NULL;
    uint32_t index = 0;
    while (table->places[index].dialer != NULL)
        index++;
    struct w_dialer *dialer = w_pool_take(&table->core->pool, sizeof *dialer);
    *error = -ENOMEM;
    if (dialer == NULL)
        return NULL;
    memset(dialer, 0, sizeof *dialer);
    dialer->core = table->core;
    dialer->index = index;
    table->places[index].dialer = dialer;
    table->places[index].generation++;
    table->count++;
    return dialer;
}

static void dialer_destroy(struct w_dialer_table *table, struct w_dialer *dialer)
{
    w_wheel_clear(&table->core->wheel, &dialer->timer);
    if (dialer->conn != NULL)
        dialer->conn->origin = W_DIALER_NONE;
    table->places[dialer->index].dialer = NULL;
    table->count--;
    w_pool_give(&table->core->pool, dialer, sizeof *dialer);
}

/* Tries the next address; after the last the attempt is over with `error`. */
static void dialer_connect(struct w_dialer *dialer, int error)
{
    struct w_core *core = dialer->core;
    weir_conn *conn = dialer->conn;
    while (dialer->address < dialer->address_count) {
        const struct w_io_address *address = &dialer->resolve.addresses[dialer->address++];
        int handle = core->engine->socket(core->io, address, &dialer->options.socket);
        if (handle >= 0) {
            conn->handle = handle;
            conn->connecting = true;
            core->engine->connect(core->io, handle, address,
                                  w_conn_token(W_CONN_TOKEN_CONN, W_CONN_CONNECT, conn->slot, w_conn_generation(conn)));
            return;
        }
        error = handle;
    }
    w_conn_end(conn, WEIR_REASON_DIAL_FAILED, error);
}

/* One attempt: 0, or why there is no slot. */
static int dialer_attempt(struct w_dialer *dialer)
{
    struct w_core *core = dialer->core;
    int error = -ESHUTDOWN;
    weir_conn *conn = core->stopping ? NULL : w_table_take(core->conns, &error);
    if (conn == NULL)
        return error;
    w_conn_init(conn, core, dialer->protocol, dialer->options.user, dialer->index);
    conn->dialed = true;
    dialer->conn = conn;
    dialer->state = W_DIALER_TRYING;
    dialer->address = 0;
    if (dialer->options.timeout_ns != WEIR_FOREVER)
        w_wheel_set(&core->wheel, &dialer->timer, W_CORE_TIMER_DIALER, w_base_add_saturated(core->io->now_ns, dialer->options.timeout_ns));
    if (!dialer->by_name) {
        dialer_connect(dialer, 0);
        return 0;
    }
    conn->connecting = true;
    core->engine->resolve(core->io, &dialer->resolve, w_conn_token(W_CONN_TOKEN_CONN, W_CONN_RESOLVE, conn->slot, w_conn_generation(conn)));
    return 0;
}

static void dialer_fill(struct w_dialer *dialer, const struct w_address *address, const weir_protocol *protocol,
                        const weir_dial_options *options)
{
    dialer->protocol = protocol;
    if (options != NULL)
        dialer->options = *options;
    weir_dial_options *o = &dialer->options;
    o->timeout_ns = w_base_or_default(o->timeout_ns, TIMEOUT_NS);
    o->redial_min_ns = w_base_or_default(o->redial_min_ns, REDIAL_MIN_NS);
    o->redial_max_ns = w_base_or_default(o->redial_max_ns, REDIAL_MAX_NS);
    if (o->redial_max_ns < o->redial_min_ns)
        o->redial_max_ns = o->redial_min_ns;
    dialer->backoff_ns = o->redial_min_ns;
    dialer->by_name = address->kind == W_ADDRESS_NAME;
    if (dialer->by_name) {
        memcpy(dialer->resolve.host, address->host, sizeof dialer->resolve.host);
        dialer->resolve.port = address->port;
    } else {
        dialer->resolve.addresses[0] = address->socket;
        dialer->address_count = 1;
    }
}

int w_dialer_open(struct w_dialer_table *table, const char *address, const weir_protocol *protocol, const weir_dial_options *options,
                  weir_dial_id *id, weir_error *error)
{
    struct w_address parsed;
    int result = w_limits_check(protocol, error);
    if (result != 0 || (result = w_address_parse_dial(address, &parsed, error)) != 0)
        return result;
    if (table->core->stopping)
        return w_base_fail(error, -ESHUTDOWN, "cannot dial %s: the runtime is stopping", address);
    struct w_dialer *dialer = dialer_create(table, &result);
    if (dialer == NULL)
        return w_base_fail(error, result, "cannot dial %s: %s", address,
                           result == -ENOSPC ? "all of config.dials are under way" : weir_strerror(result));
    dialer_fill(dialer, &parsed, protocol, options);
    weir_dial_id name = (uint64_t)table->places[dialer->index].generation << 32 | dialer->index;
    result = dialer_attempt(dialer);
    if (result != 0) {
        dialer_destroy(table, dialer);
        return w_base_fail(error, result, "cannot dial %s: %s", address,
                           result == -ENOSPC ? "all of config.connections are taken" : weir_strerror(result));
    }
    if (id != NULL)
        *id = name;
    return 0;
}

static void dialer_connected(struct w_dialer_table *table, struct w_dialer *dialer)
{
    weir_conn *conn = dialer->conn;
    w_wheel_clear(&dialer->core->wheel, &dialer->timer);
    w_conn_connected(conn, conn->handle);
    dialer->state = W_DIALER_CONNECTED;
    dialer->connected_ns = dialer->core->io->now_ns;
    if (!dialer->options.redial)
        dialer_destroy(table, dialer);
}

void w_dialer_completed(struct w_dialer_table *table, weir_conn *conn, enum w_conn_operation operation, int32_t result)
{
    conn->connecting = false;
    struct w_dialer *dialer = conn->origin == W_DIALER_NONE ? NULL : table->places[conn->origin].dialer;
    if (conn->state != W_CONN_DIALING || dialer == NULL) {
        w_conn_schedule(conn, W_CONN_DO_STEP); /* ended meanwhile; it waited for this */
        return;
    }
    if (operation == W_CONN_RESOLVE) {
        if (result <= 0) {
            w_conn_end(conn, WEIR_REASON_NAME, result < 0 ? result : -EHOSTUNREACH);
            return;
        }
        dialer->address_count = (uint32_t)result;
        dialer_connect(dialer, 0);
    } else if (result >= 0) {
        dialer_connected(table, dialer);
    } else {
        table->core->engine->discard(table->core->engine->world, conn->handle);
        conn->handle = -1;
        dialer_connect(dialer, result);
    }
}

/* Waits for the next attempt: the backoff, shortened by chance by up to a half, so that many who lost the same peer do not come back at once. */
static void dialer_wait(struct w_dialer *dialer)
{
    struct w_core *core = dialer->core;
    uint64_t wait_ns = dialer->backoff_ns - core->engine->random(core->io) % (dialer->backoff_ns / 2 + 1);
    dialer->conn = NULL;
    dialer->state = W_DIALER_WAITING;
    dialer->backoff_ns = w_base_min_u64(w_base_add_saturated(dialer->backoff_ns, dialer->backoff_ns), dialer->options.redial_max_ns);
    w_wheel_set(&core->wheel, &dialer->timer, W_CORE_TIMER_DIALER, w_base_add_saturated(core->io->now_ns, wait_ns));
}

void w_dialer_conn_over(struct w_dialer_table *table, const weir_conn *conn)
{
    struct w_core *core = table->core;
    if (!conn->opened)
        w_stats_add(&core->stats.dial_failures, 1);
    if (conn->origin == W_DIALER_NONE)
        return;
    struct w_dialer *dialer = table->places[conn->origin].dialer;
    dialer->conn = NULL;
    if (!dialer->options.redial || conn->ours || core->stopping) {
        dialer_destroy(table, dialer);
        return;
    }
    if (dialer->state == W_DIALER_CONNECTED && core->io->now_ns - dialer->connected_ns > dialer->options.redial_max_ns)
        dialer->backoff_ns = dialer->options.redial_min_ns;
    dialer_wait(dialer);
}

void w_dialer_timer(struct w_wheel_entry *entry, void *context, uint64_t now_ns)
{
    struct w_dialer *dialer = W_CONTAINER(entry, struct w_dialer, timer);
    (void)context;
    (void)now_ns;
    if (dialer->state == W_DIALER_TRYING)
        w_conn_end(dialer->conn, WEIR_REASON_DIAL_LATE, -ETIMEDOUT);
    else if (dialer->state == W_DIALER_WAITING && dialer_attempt(dialer) != 0)
        dialer_wait(dialer);
}

/* Its connection, if it is open, goes on without it. */
static void dialer_stop(struct w_dialer_table *table, struct w_dialer *dialer)
{
    dialer->options.redial = false;
    if (dialer->state == W_DIALER_TRYING)
        w_conn_end(dialer->conn, WEIR_REASON_ABORTED, 0); /* the dialer goes with the connection: its memory is in use until then */
    else
        dialer_destroy(table, dialer);
}

int w_dialer_stop(struct w_dialer_table *table, weir_dial_id id)
{
    uint32_t index = (uint32_t)id;
    if (index >= table->capacity || table->places[index].dialer == NULL || table->places[index].generation != id >> 32)
        return -ESTALE;
    dialer_stop(table, table->places[index].dialer);
    return 0;
}

void w_dialer_stop_all(struct w_dialer_table *table)
{
    for (uint32_t i = 0; i < table->capacity && table->count > 0; i++)
        if (table->places[i].dialer != NULL)
            dialer_stop(table, table->places[i].dialer);
}
