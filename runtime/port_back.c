/* SPDX-License-Identifier: MIT */
/* port_back: what comes back to a port: answers, blobs, room.
 *
 * Road:    the bell's number -> blobs go into the pool -> answers become events, one by one -> the ring is released -> ROOM.
 * Ditches: no room for an event -> the number is gone back to; port closed -> blobs are freed by whoever brings them; shard over -> the port
 *          reads what it had put there itself, and tells it as undelivered. */
#include <errno.h>
#include <string.h>

#include "runtime/own.h"
#include "runtime/port.h"

void w_port_ring_back(weir_port *port, uint32_t number)
{
    const struct w_io_engine *engine = port->table->engine;
    if (!w_bell_ring(port->bell, number))
        return;
    if (port->core != NULL)
        engine->wake(port->core->io);
    else if (atomic_exchange(&port->bell->asleep, false)) /* one wake for each sleep */
        engine->event_set(engine->world, &port->event);
}

/* --- blobs --- */

void w_port_take_home(weir_port *port, weir_blob *blob)
{
    w_blob_free(blob);
    if (port->core != NULL)
        return;
    port->blobs_away--;
    port->poor_tell |= port->poor; /* at the next collecting */
    w_port_unreference(port);
}

/* True when some had come. */
static bool port_take_returned(struct w_link *link)
{
    /* Acquire: pairs with link_return. */
    weir_blob *blob = atomic_exchange_explicit(&link->returned, NULL, memory_order_acquire);
    bool some = blob != NULL;
    while (blob != NULL) {
        weir_blob *next = blob->next;
        w_port_take_home(link->port, blob);
        blob = next;
    }
    return some;
}

void w_port_take_returned(weir_port *port)
{
    for (uint32_t i = 0; i < port->table->config->shards; i++)
        if (port->links[i] != NULL && port_take_returned(port->links[i]) && port->poor)
            w_port_ring_back(port, port->answers_number + i); /* to be told at the next collecting */
}

void w_port_free_orphans(weir_port *port, weir_blob *blob)
{
    while (blob != NULL) {
        weir_blob *next = blob->next;
        struct w_pool *pool = &port->own_pool;
        w_pool_give_late(pool, blob->piece, blob->piece_bytes);
        w_pool_give_late(pool, blob, sizeof *blob);
        w_port_unreference(port);
        blob = next;
    }
}

void w_port_orphan_blobs(weir_port *port)
{
    /* Sequentially consistent, with the fence in link_return: it sees closed, or we see what it has returned. */
    atomic_store(&port->closed, true);
    w_base_fence();
    w_port_take_returned(port);
}

/* --- answers --- */

bool w_port_tell_shard(weir_port *port, const weir_port_event *event)
{
    struct w_core *core = port->core;
    if (core->config->on_port_event != NULL)
        core->config->on_port_event(w_core_shard(core), event);
    return true;
}

/* One answer as an event; true: it is done with. What is owed is struck out before anybody is told: he may ask for it again. */
static bool port_deliver_answer(struct w_link *link, const struct w_port_answer *answer, w_port_deliver deliver)
{
    weir_port *port = link->port;
    weir_port_event event = {.kind = (weir_port_event_kind)answer->kind, .id = {answer->id}, .shard = link->shard};
    if (answer->kind == WEIR_PORT_UNDELIVERED) {
        event.error = answer->error;
        event.messages = answer->messages;
        event.bytes = answer->bytes;
        if (!deliver(port, &event))
            return false;
        port->stats.messages_undelivered += answer->messages;
        port->stats.bytes_undelivered += answer->bytes;
        return true;
    }
    switch ((enum w_port_asker)answer->want.asker) {
    case W_PORT_ASKER_USER:
        w_port_forget_want(port, answer->id); /* before: who is told tries again, and may be refused again */
        return deliver(port, &event);
    case W_PORT_ASKER_CALL:
        break;
    case W_PORT_ASKER_CONN:
        port->core->conn_wanted(port->core, (weir_id){answer->want.conn});
        break;
    }
    return true;
}

/* All answers in the ring back. */
static bool port_collect_answers(struct w_link *link, w_port_deliver deliver)
{
    struct w_spsc *back = &link->back;
    const uint8_t *piece;
    bool done = true;
    if (!w_spsc_look(back))
        return true;
    while (done && (piece = w_spsc_piece(back)) != NULL) {
        done = port_deliver_answer(link, (const struct w_port_answer *)(const void *)piece, deliver);
        if (done)
            w_spsc_next(back, sizeof(struct w_port_answer));
    }
    w_spsc_release_read(back);
    /* The shard stores back_waiting and then looks at head; here it is the other way round: one sees the other. */
    w_base_fence();
    if (atomic_load_explicit(&link->back_waiting, memory_order_relaxed) && atomic_exchange(&link->back_waiting, false)) {
        struct w_core *core = link->port->table->cores[link->shard];
        if (w_bell_ring(&core->bell, link->port->number))
            core->engine->wake(core->io);
    }
    return done;
}

bool w_port_collect_poor(weir_port *port, w_port_deliver deliver)
{
    weir_port_event event = {.kind = WEIR_PORT_ROOM};
    if (!port->poor || !port->poor_tell)
        return true;
    port->poor = port->poor_tell = false; /* before: who is told tries again */
    for (; port->poor_told < port->table->config->shards; port->poor_told++) {
        event.shard = port->poor_told;
        if (!deliver(port, &event)) {
            port->poor = port->poor_tell = true;
            return false;
        }
    }
    port->poor_told = 0;
    return true;
}

static bool port_collect_room(struct w_link *link, w_port_deliver deliver)
{
    weir_port *port = link->port;
    weir_port_event event = {.kind = WEIR_PORT_ROOM, .shard = link->shard};
    if (link->told_full && !atomic_load_explicit(&link->waiting, memory_order_relaxed)) {
        link->told_full = false; /* before: who is told tries again, and may find it full again */
        if (!deliver(port, &event)) {
            link->told_full = true;
            return false;
        }
    }
    return w_port_collect_poor(port, deliver);
}

static bool port_collect_channel(weir_port *port, weir_channel *channel, w_port_deliver deliver)
{
    weir_port_event event;
    if (channel == NULL || !w_own_event(channel, &event))
        return true;
    bool told_full = channel->told_full, told_ended = channel->told_ended;
    w_own_told(channel, event.kind); /* before: who is told may close it */
    if (deliver(port, &event))
        return true;
    channel->told_full = told_full; /* (only a thread's port has no room, and does not call anybody) */
    channel->told_ended = told_ended;
    return false;
}

/* Whoever waits for something on a shard that is over tries again, and is told that it is: ROOM, once. */
static bool port_tell_over(struct w_link *link, w_port_deliver deliver)
{
    weir_port_event event = {.kind = WEIR_PORT_ROOM, .shard = link->shard};
    if (!link->told_over && !deliver(link->port, &event))
        return false;
    link->told_over = true;
    link->told_full = false;
    return true;
}

bool w_port_collect(weir_port *port, uint32_t number, w_port_deliver deliver)
{
    if (number >= port->channels_number)
        return port_collect_channel(port, port->channels[number - port->channels_number], deliver);
    uint32_t shard = number - port->answers_number;
    struct w_link *link = port->links[shard];
    if (link == NULL)
        return true;
    port_take_returned(link);
    bool done = port_collect_answers(link, deliver);
    /* Acquire: what the shard has left behind is as it left it. */
    if (done && W_UNLIKELY(atomic_load_explicit(&port->table->cores[shard]->over, memory_order_acquire)))
        done = w_port_reclaim(link, deliver) && port_tell_over(link, deliver);
    return done && port_collect_room(link, deliver);
}

/* --- the shard is over --- */

static bool port_tell_undelivered(struct w_link *link, uint64_t id, uint64_t bytes, w_port_deliver deliver)
{
    struct w_port_answer answer = {.kind = WEIR_PORT_UNDELIVERED, .error = -ESTALE, .id = id, .messages = 1, .bytes = bytes};
    if (deliver != NULL)
        return port_deliver_answer(link, &answer, deliver);
    atomic_fetch_add_explicit(&link->port->table->orphaned, 1, memory_order_relaxed);
    return true;
}

/* A blob in a record that nobody will deliver: its reference ends here, on the port's thread, or anywhere when that is gone. */
static void port_drop_blob(weir_port *port, weir_blob *blob)
{
    if (!w_blob_drop(blob))
        return;
    weir_port *home = blob->port != NULL ? blob->port : blob->core->port;
    blob->next = NULL;
    if (home == port && !atomic_load_explicit(&port->closed, memory_order_relaxed))
        w_port_take_home(port, blob);
    else if (home->core == NULL)
        w_port_free_orphans(home, blob);
    else
        w_blob_free(blob); /* the runtime is being closed: all shards' memory is the caller's */
}

/* True when the record is done with. */
static bool port_reclaim_record(struct w_link *link, const struct w_port_record *record, w_port_deliver deliver)
{
    struct w_port_blob part;
    struct w_port_call call;
    struct w_port_post post;
    switch ((enum w_port_kind)record->kind) {
    case W_PORT_MESSAGE:
        return port_tell_undelivered(link, record->to, record->bytes, deliver);
    case W_PORT_PIPE:
        return true;
    case W_PORT_PIPE_BLOB:
        memcpy(&part, record->data, sizeof part);
        port_drop_blob(link->port, part.blob);
        return true;
    case W_PORT_BLOB:
        memcpy(&part, record->data, sizeof part);
        if (!port_tell_undelivered(link, record->to, part.bytes, deliver))
            return false;
        port_drop_blob(link->port, part.blob);
        return true;
    case W_PORT_GROUP_BLOB:
        memcpy(&part, record->data + sizeof(struct w_port_group), sizeof part);
        port_drop_blob(link->port, part.blob);
        return true;
    case W_PORT_CALL:
        memcpy(&call, record->data, sizeof call);
        call.function(NULL, link, NULL, (weir_id){record->to}, call.argument);
        return true;
    case W_PORT_POST:
        memcpy(&post, record->data, sizeof post);
        return deliver == NULL || deliver(link->port, &(weir_port_event){.kind = WEIR_PORT_NOT_RUN,
                                                                         .error = -ESHUTDOWN,
                                                                         .shard = link->shard,
                                                                         .function = post.function,
                                                                         .user = post.user});
    case W_PORT_WANT: /* ROOM tells it, see w_port_collect */
    case W_PORT_GROUP:
        return true;
    }
    return true;
}

/* Answers that nobody will collect. */
static void port_orphan_answers(struct w_link *link)
{
    struct w_spsc *back = &link->back;
    const uint8_t *piece;
    w_spsc_look(back);
    while ((piece = w_spsc_piece(back)) != NULL) {
        const struct w_port_answer *answer = (const struct w_port_answer *)(const void *)piece;
        if (answer->kind == WEIR_PORT_UNDELIVERED)
            atomic_fetch_add_explicit(&link->port->table->orphaned, answer->messages, memory_order_relaxed);
        w_spsc_next(back, sizeof *answer);
    }
}

bool w_port_reclaim(struct w_link *link, w_port_deliver deliver)
{
    struct w_spsc *there = &link->there;
    const uint8_t *piece;
    if (deliver == NULL)
        port_orphan_answers(link);
    if (link->undelivered.kind != 0) {
        if (deliver != NULL && !port_deliver_answer(link, &link->undelivered, deliver))
            return false;
        if (deliver == NULL)
            atomic_fetch_add_explicit(&link->port->table->orphaned, link->undelivered.messages, memory_order_relaxed);
        link->undelivered.kind = 0;
    }
    if (!w_spsc_look(there))
        return true;
    while ((piece = w_spsc_piece(there)) != NULL) {
        const struct w_port_record *record = (const struct w_port_record *)(const void *)piece;
        if (!port_reclaim_record(link, record, deliver))
            return false;
        w_spsc_next(there, (uint32_t)sizeof *record + ((record->bytes + 7) & ~7U));
    }
    w_spsc_release_read(there);
    return true;
}
