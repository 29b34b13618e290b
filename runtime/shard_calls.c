/* SPDX-License-Identifier: MIT */
/* shard_calls: what the public headers promise of a shard: timers, dials, adopted sockets, small things. */
#include <errno.h>

#include <weir/timer.h>

#include "runtime/limits.h"
#include "runtime/shard.h"

void weir_timer_set(weir_shard *shard, weir_timer *timer, uint64_t after_ns, weir_timer_callback callback, void *user)
{
    struct w_core *core = &shard->core;
    w_core_require_thread(core, __func__);
    w_core_between_turns(core);
    W_REQUIRE(callback != NULL, "callback is NULL");
    timer->callback = callback;
    timer->user = user;
    w_wheel_set(&core->wheel, (struct w_wheel_entry *)(void *)timer->opaque, W_CORE_TIMER_USER,
                w_base_add_saturated(core->io->now_ns, after_ns));
}

_Static_assert(offsetof(weir_timer, opaque) == 0 && sizeof(((weir_timer *)0)->opaque) >= sizeof(struct w_wheel_entry),
               "a weir_timer begins with a wheel's entry");

void weir_timer_clear(weir_shard *shard, weir_timer *timer)
{
    w_core_require_thread(&shard->core, __func__);
    w_wheel_clear(&shard->core.wheel, (struct w_wheel_entry *)(void *)timer->opaque);
}

bool weir_timer_is_set(const weir_timer *timer)
{
    return w_wheel_is_set((const struct w_wheel_entry *)(const void *)timer->opaque);
}

int weir_dial(weir_shard *shard, const char *address, const weir_protocol *protocol, const weir_dial_options *options, weir_dial_id *dial,
              weir_error *error)
{
    w_core_enter(&shard->core, __func__);
    return w_dialer_open(&shard->dialers, address, protocol, options, dial, error);
}

int weir_dial_stop(weir_shard *shard, weir_dial_id dial)
{
    w_core_enter(&shard->core, __func__);
    return w_dialer_stop(&shard->dialers, dial);
}

int weir_adopt(weir_shard *shard, int descriptor, const weir_protocol *protocol, void *user, weir_id *id)
{
    struct w_core *core = &shard->core;
    static const weir_socket_options defaults;
    int error = -ESHUTDOWN;
    w_core_enter(core, __func__);
    if (w_limits_check(protocol, NULL) != 0)
        return -EINVAL;
    weir_conn *conn = core->stopping ? NULL : w_table_take(core->conns, &error);
    if (conn == NULL)
        return error;
    if ((error = core->engine->adopt(core->io, descriptor, &defaults)) != 0) {
        w_table_give(core->conns, conn);
        w_shard_slot_freed(shard);
        return error;
    }
    w_conn_init(conn, core, protocol, user, W_DIALER_NONE);
    conn->adopted = true;
    w_conn_connected(conn, descriptor);
    if (id != NULL)
        *id = w_conn_id(conn);
    return 0;
}

uint32_t weir_shard_index(const weir_shard *shard)
{
    return shard->core.index;
}

weir_runtime *weir_shard_runtime(const weir_shard *shard)
{
    return shard->core.runtime;
}

void *weir_shard_user(const weir_shard *shard)
{
    return shard->user;
}

void weir_shard_set_user(weir_shard *shard, void *user)
{
    w_core_require_thread(&shard->core, __func__);
    shard->user = user;
}

uint64_t weir_now(const weir_shard *shard)
{
    return shard->core.io->now_ns;
}
