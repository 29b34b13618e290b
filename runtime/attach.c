/* SPDX-License-Identifier: MIT */
/* attach: own channels come to their connections: weir_channel_open, and what needs both the port's sleep and the channel. */
#include <errno.h>

#include "runtime/conn.h"

/* On the connection's shard; or, when that is over, on the port's thread. */
static enum w_port_verdict attach_here(struct w_core *core, struct w_link *link, weir_conn *conn, weir_id id, uint64_t argument)
{
    weir_channel *channel = (weir_channel *)(uintptr_t)argument;
    (void)link;
    (void)id;
    int result = core == NULL || conn == NULL ? -ESTALE : w_conn_attach(conn, channel);
    if (result != 0)
        w_own_end(channel, result == -ENOMEM ? WEIR_REASON_NO_MEMORY : WEIR_REASON_NONE);
    return W_PORT_DONE;
}

static int attach_open(weir_port *port, weir_id id, const weir_channel_options *options, weir_channel **channel)
{
    uint32_t shard = w_port_shard_of(id), bytes = options->bytes;
    int error;
    if (bytes != 0 && (bytes < W_OWN_BYTES_MIN || bytes > W_OWN_BYTES_MAX || (bytes & (bytes - 1)) != 0))
        return -EINVAL;
    if (shard >= port->table->config->shards)
        return -ESTALE;
    struct w_core *core = port->table->cores[shard];
    const weir_protocol *protocol = core->conn_protocol(core, id);
    if (protocol == NULL)
        return -ESTALE;
    struct w_link *link = w_port_link(port, shard, &error);
    if (link == NULL)
        return error;
    int result = w_own_create(channel, port, id, protocol, bytes, options->user);
    if (result != 0)
        return result;
    /* The shard's reference, until it has ended the channel. */
    atomic_fetch_add_explicit(&port->references, 1, memory_order_relaxed);
    result = w_port_call(port, id, attach_here, (uint64_t)(uintptr_t)*channel);
    if (result == 0)
        return 0;
    w_port_unreference(port);
    w_own_destroy(*channel);
    *channel = NULL;
    return result;
}

int weir_channel_open(weir_port *port, weir_id id, const weir_channel_options *options, weir_channel **channel)
{
    static const weir_channel_options defaults;
    *channel = NULL;
    w_port_enter(port, __func__);
    int result = attach_open(port, id, options != NULL ? options : &defaults, channel);
    w_port_leave(port);
    return result;
}

int weir_channel_wait(weir_channel *channel, uint64_t timeout_ns)
{
    weir_port *port = channel->port;
    if (port->core != NULL)
        return -EDEADLK;
    w_port_enter(port, __func__);
    uint64_t deadline_ns = w_port_deadline_ns(port, timeout_ns);
    int result = 0;
    bool told_full = channel->told_full;
    channel->told_full = false; /* whoever waits is told by the answer */
    weir_channel_publish(channel);
    while (!w_own_has_room(channel) && result == 0) {
        w_own_wait(channel);
        if (!w_own_has_room(channel))
            result = w_port_sleep(port, deadline_ns);
    }
    if (result != 0)
        channel->told_full = told_full;
    w_port_leave(port);
    return result;
}
