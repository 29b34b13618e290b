/* SPDX-License-Identifier: MIT */
/* echo: what the world's connections do with a message: it comes back, in the way that its first byte says. Whoever finds no room or
 * memory asks again. */
#include <stdlib.h>

#include "scenarios.h"

static int again(int result)
{
    return result == -EAGAIN ? WEIR_LATER : result;
}

static int echo_held(weir_conn *conn, const weir_message *message)
{
    weir_blob *blob = weir_hold(conn, message);
    if (blob == NULL) /* no memory: a copy asks again */
        return again(weir_send(conn, message->data, message->bytes));
    int result = weir_send_blob(conn, blob, 0, message->bytes);
    weir_blob_release(&blob);
    return again(result);
}

static int echo_reserved(weir_conn *conn, const weir_message *message)
{
    weir_room room;
    int result = weir_reserve(conn, message->bytes, &room);
    if (result != 0)
        return again(result);
    memcpy(room.data, message->data, message->bytes);
    return weir_commit(conn, message->bytes);
}

/* Nobody tells when the lane has room: then it goes the common way. */
static int echo_ahead(weir_conn *conn, const weir_message *message)
{
    int result = weir_send_control(conn, message->data, message->bytes);
    return result == -EAGAIN ? again(weir_send(conn, message->data, message->bytes)) : result;
}

static void resume(weir_shard *shard, weir_timer *timer, void *user)
{
    weir_conn *conn = weir_find(shard, (weir_id){(uint64_t)(uintptr_t)user});
    (void)timer;
    if (conn != NULL)
        weir_resume(conn);
}

/* One at a time, in a world. */
static int echo_later(weir_conn *conn, const weir_message *message)
{
    struct world *world = weir_conn_protocol(conn)->user;
    weir_id id = weir_conn_id(conn);
    if (world->later_id.value != id.value) {
        world->later_id = id;
        weir_timer_set(weir_conn_shard(conn), &world->later_timer, WEIR_MILLISECOND, resume, (void *)(uintptr_t)id.value);
        return WEIR_LATER;
    }
    if (weir_timer_is_set(&world->later_timer)) /* memory came back: it is not asked for yet */
        return WEIR_LATER;
    int result = weir_send(conn, message->data, message->bytes);
    if (result != -EAGAIN)
        world->later_id.value = 0;
    return again(result);
}

static int echo_flood(weir_conn *conn)
{
    static uint8_t data[1000];
    for (uint32_t i = 0; i < 40; i++) {
        world_fill(data, sizeof data, SAY_FLOOD, i);
        int result = weir_send(conn, data, sizeof data);
        if (result == -EAGAIN && i == 0)
            return WEIR_LATER;
        if (result == -EAGAIN) /* no memory in mid-flood */
            return -ENOBUFS;
        if (result != 0)
            return result;
    }
    return WEIR_TAKEN;
}

/* To the seat behind its own; shards and rings may say no. */
static int echo_across(weir_conn *conn, const weir_message *message)
{
    struct world *world = weir_conn_protocol(conn)->user;
    struct guest *guest = weir_conn_user(conn);
    struct guest *next = &world->guests[(guest - world->guests + 1) % world->guest_count];
    int result = weir_send_to(weir_conn_shard(conn), next->id, message->data, message->bytes);
    if (result != 0) {
        world->errors++;
        guest_lacks(next);
    }
    return WEIR_TAKEN;
}

int echo_message(weir_conn *conn, const weir_message *message)
{
    switch (message->bytes > 0 ? message->data[0] : SAY_SEND) {
    case SAY_FORWARD:
        return again(weir_forward(conn, message, conn));
    case SAY_HOLD:
        return echo_held(conn, message);
    case SAY_LATER:
        return echo_later(conn, message);
    case SAY_CONTROL:
        return echo_ahead(conn, message);
    case SAY_RESERVE:
        return echo_reserved(conn, message);
    case SAY_NOTHING:
        return WEIR_TAKEN;
    case SAY_FLOOD:
        return echo_flood(conn);
    case SAY_ACROSS:
        return echo_across(conn, message);
    case SAY_END: {
        int result = again(weir_send(conn, message->data, message->bytes));
        if (result == WEIR_TAKEN)
            weir_end(conn);
        return result;
    }
    default:
        return again(weir_send(conn, message->data, message->bytes));
    }
}
