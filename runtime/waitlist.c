/* SPDX-License-Identifier: MIT */
/* waitlist: connections that wait: for their part of the turn, for a receive buffer, for memory. First come, first served. */
#include "runtime/waitlist.h"

#include <errno.h>

/* So long may an allocator answer nothing before it costs a connection. */
#define THIRST_MAX_NS WEIR_SECOND

void w_waitlist_add(weir_conn *conn, enum w_core_list_name name)
{
    struct w_core_list *list = &conn->core->lists[name];
    if (w_waitlist_has(conn, name))
        return;
    conn->listed |= (uint8_t)(1U << name);
    conn->next[name] = 0;
    if (list->first == NULL)
        list->first = conn;
    else
        list->last->next[name] = conn->slot + 1;
    list->last = conn;
}

weir_conn *w_waitlist_take(struct w_core *core, enum w_core_list_name name)
{
    weir_conn *conn = core->lists[name].first;
    if (conn == NULL)
        return NULL;
    core->lists[name].first = conn->next[name] == 0 ? NULL : core->conn_at(core, conn->next[name] - 1);
    conn->listed &= (uint8_t) ~(1U << name);
    return conn;
}

/* --- for a receive buffer, for memory --- */

void w_waitlist_receive(weir_conn *conn)
{
    if (W_LIKELY(conn->core->lists[W_CORE_STARVED].first == NULL))
        w_conn_receive(conn);
    else if (!conn->receiving && !conn->peer_ended)
        w_waitlist_add(conn, W_CORE_STARVED);
}

/* To the front, behind those that came back to it before, since they were all fed: as they stood. */
static void waitlist_put_back(weir_conn *conn)
{
    struct w_core *core = conn->core;
    struct w_core_list *list = &core->lists[W_CORE_STARVED];
    weir_conn *before = core->put_back;
    if (w_waitlist_has(conn, W_CORE_STARVED))
        return;
    conn->listed |= 1U << W_CORE_STARVED;
    if (before == NULL) {
        conn->next[W_CORE_STARVED] = list->first == NULL ? 0 : list->first->slot + 1;
        list->first = conn;
    } else {
        conn->next[W_CORE_STARVED] = before->next[W_CORE_STARVED];
        before->next[W_CORE_STARVED] = conn->slot + 1;
    }
    if (conn->next[W_CORE_STARVED] == 0)
        list->last = conn;
    core->put_back = conn;
}

void w_waitlist_starve(weir_conn *conn)
{
    if (conn->fresh)
        waitlist_put_back(conn);
    else
        w_waitlist_add(conn, W_CORE_STARVED);
}

void w_waitlist_feed(struct w_core *core)
{
    weir_conn *conn;
    core->put_back = NULL;
    for (uint32_t armed = 0; armed < core->io->buffers_free && (conn = w_waitlist_take(core, W_CORE_STARVED)) != NULL;) {
        if (w_conn_stopped(conn) && conn->state != W_CONN_DRAINING)
            continue; /* its resume will arm it */
        armed += !conn->receiving;
        w_conn_receive(conn);
    }
}

/* Memory counts as there again somewhat below the budget: not for every piece that comes home is somebody called. Above that mark the shard ends
 * the heaviest, so one of the two always acts. */
static bool waitlist_memory_is_there(const struct w_core *core)
{
    uint64_t budget = core->pool.budget_bytes;
    return atomic_load_explicit(&core->pool.taken_bytes, memory_order_relaxed) <= budget - budget / W_CORE_RELIEF_PART;
}

bool w_waitlist_thirst(struct w_core *core)
{
    weir_conn *thirsty = core->lists[W_CORE_THIRSTY].first;
    if (W_LIKELY(thirsty == NULL)) {
        core->thirst_ns = 0;
        return false;
    }
    bool plenty = atomic_load_explicit(&core->pool.taken_bytes, memory_order_relaxed) <= core->pool.budget_bytes / 2;
    if (core->thirst_ns == 0 || !plenty) {
        core->thirst_ns = core->io->now_ns;
    } else if (core->io->now_ns - core->thirst_ns > THIRST_MAX_NS) {
        core->thirst_ns = core->io->now_ns;
        w_conn_end(thirsty, WEIR_REASON_NO_MEMORY, -ENOMEM);
    }
    return true;
}

bool w_waitlist_could_feed(const struct w_core *core)
{
    return core->lists[W_CORE_STARVED].first != NULL && core->io->buffers_free > 0;
}

void w_waitlist_water(struct w_core *core)
{
    weir_conn *conn;
    while (core->lists[W_CORE_THIRSTY].first != NULL && waitlist_memory_is_there(core) &&
           (conn = w_waitlist_take(core, W_CORE_THIRSTY)) != NULL) {
        conn->dry = false;
        w_conn_schedule(conn, W_CONN_DO_READY);
    }
}
