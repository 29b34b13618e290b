/* SPDX-License-Identifier: MIT */
/* cross_actor: whoever has a port: a foreign thread, which opens and closes it, or a shard, whose port is always there. Everything that is accepted goes into the
 * books, and everything that comes back must be owed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cross.h"

/* --- its life --- */

void cross_actor_open(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    weir_error error;
    uint32_t most = run->plan.config.channels != 0 && run->plan.config.channels < 4 ? run->plan.config.channels : 4;
    const weir_port_options options = {.channels = cross_one_of(run, 2) ? 0 : 1 + (uint32_t)cross_below(run, most)};
    int code = weir_port_open(run->runtime, &options, &actor->port, &error);
    /* (Closed ones have their numbers until everything of theirs has come home.) */
    bool full = run->plan.config.ports != 0 && run->producer_count >= run->plan.config.ports;
    CROSS_CHECK(run,
                code == 0 || (code == -ESHUTDOWN && run->stopping) || (code == -ENOMEM && run->plan.starve_permille > 0) ||
                    (code == -ENOSPC && full),
                "opening a port: %s", error.sentence);
    cross_note(run, "actor %u opens a port: %d", actor->index, code);
    CROSS_CHECK(run, (code == 0) == (actor->port != NULL), "opening a port answers %d and %p", code, (void *)actor->port);
    if (code != 0)
        return;
    actor->producer = cross_producer_make(run, CROSS_OF_PORT, actor->index);
    actor->event = actor->polls ? weir_port_descriptor(actor->port) : -1;
    actor->unread = false;
    CROSS_CHECK(run, !actor->polls || actor->event >= 0, "no descriptor for a port: %d", actor->event);
}

static void forget(struct cross_actor *actor)
{
    memset(actor->owed_ready, 0, sizeof actor->owed_ready);
    memset(actor->refusals, 0, sizeof actor->refusals);
    memset(actor->readies, 0, sizeof actor->readies);
    memset(actor->owed_room, 0, sizeof actor->owed_room);
    actor->owed_any = actor->room_ever = false;
    for (uint32_t i = 0; i < CROSS_CHANNELS_MAX; i++)
        if (actor->channels[i] != NULL)
            cross_channel_forget(actor->channels[i]);
}

void cross_actor_close(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    weir_port_stats stats;
    if (actor->port == NULL)
        return;
    weir_port_stats_get(actor->port, &stats);
    const struct cross_producer *producer = actor->producer;
    CROSS_CHECK(run, stats.messages_sent == producer->messages_sent && stats.bytes_sent == producer->bytes_sent,
                "port %u has accepted %llu messages, %llu bytes, and says %llu and %llu", producer->number,
                (unsigned long long)producer->messages_sent, (unsigned long long)producer->bytes_sent,
                (unsigned long long)stats.messages_sent, (unsigned long long)stats.bytes_sent);
    if (stats.messages_sent > stats.messages_taken + stats.messages_undelivered)
        run->feats[CROSS_PORT_CLOSED_BUSY]++;
    cross_note(run, "actor %u closes its port: sent %llu, taken %llu, undelivered %llu", actor->index,
               (unsigned long long)stats.messages_sent, (unsigned long long)stats.messages_taken,
               (unsigned long long)stats.messages_undelivered);
    forget(actor);
    actor->producer->messages_told = stats.messages_undelivered; /* what has come back and was not collected, too */
    actor->producer->closed = true;
    if (cross_is_lean(run))
        cross_group_lose(run, producer->number);
    actor->event = -1;
    weir_port_close(&actor->port);
    CROSS_CHECK(run, actor->port == NULL, "weir_port_close left its pointer");
}

/* --- codes --- */

void cross_actor_owe(struct cross_actor *actor, int client, int shard)
{
    if (client >= 0) {
        actor->owed_ready[client] = true;
        actor->refusals[client]++;
    } else if (shard >= 0)
        actor->owed_room[shard] = true;
    else
        actor->owed_any = true;
    actor->room_ever = true;
}

void cross_actor_check_code(struct cross_actor *actor, const char *call, int code, int client, int shard)
{
    struct cross_run *run = actor->run;
    bool lean = cross_is_lean(run) || run->plan.config.port_bytes != 0; /* a port's own */
    bool fits = false;
    switch (code) {
    case 0:
    case -EAGAIN:
        fits = true;
        break;
    case -ESTALE:
        fits = client < 0 || run->clients[client].closed;
        break;
    case -EPIPE:
        fits = client >= 0 && !cross_client_lives(&run->clients[client]);
        break;
    case -ENOMEM:
        fits = lean;
        break;
    case -ESHUTDOWN:
        fits = run->stopping && (shard < 0 || run->over[shard] || run->closing);
        break;
    default:
        break;
    }
    CROSS_CHECK(run, fits, "%s of actor %u answers %d (%s); client %d, shard %d", call, actor->index, code, weir_strerror(code), client,
                shard);
}

/* --- sending --- */

static bool is_near(const struct cross_actor *actor, const struct cross_client *client)
{
    return actor->shard >= 0 && (uint32_t)actor->shard == client->shard;
}

static void sent(struct cross_actor *actor, const struct cross_client *client, const struct cross_head *head)
{
    cross_accepted(actor->run, actor->producer, client->index, head->order, head->bytes);
    if (is_near(actor, client))
        return;
    actor->producer->messages_sent++;
    actor->producer->bytes_sent += head->bytes;
}

int cross_actor_send(struct cross_actor *actor, uint32_t index, uint32_t bytes)
{
    struct cross_run *run = actor->run;
    struct cross_client *client = &run->clients[index];
    uint8_t data[CROSS_PAYLOAD_MAX * 2];
    struct cross_head head = {.producer = actor->producer->number, .order = ++actor->producer->order, .bytes = bytes};
    cross_message_make(&head, data);
    bool near = is_near(actor, client), by_shard = actor->shard >= 0 && cross_one_of(run, 2);
    int code =
        by_shard ? weir_send_to(run->shards[actor->shard], client->id, data, bytes) : weir_port_send(actor->port, client->id, data, bytes);
    cross_note(run, "actor %u sends message %u to client %u, %u bytes: %d", actor->index, head.order, index, bytes, code);
    if (near && (code == -EPIPE || (code == -EMSGSIZE && bytes > run->plan.payload_max)))
        return code;
    cross_actor_check_code(actor, "a send", code, (int)index, (int)client->shard);
    if (code == 0)
        sent(actor, client, &head);
    else if (code == -EAGAIN && near)
        actor->owed_ready[index] = true; /* by on_ready */
    else if (code == -EAGAIN)
        cross_actor_owe(actor, (int)index, (int)client->shard);
    return code;
}

/* A shard's, to a connection of its own. */
int cross_actor_send_control(struct cross_actor *actor, uint32_t index, uint32_t bytes)
{
    struct cross_run *run = actor->run;
    weir_conn *conn = weir_find(run->shards[actor->shard], run->clients[index].id);
    struct cross_producer *producer = run->controls[actor->shard];
    uint8_t data[CROSS_PAYLOAD_MAX];
    struct cross_head head = {.producer = producer->number, .order = ++producer->order, .bytes = bytes};
    if (conn == NULL)
        return -ESTALE;
    cross_message_make(&head, data);
    int code = weir_send_control(conn, data, bytes);
    cross_note(run, "actor %u sends control message %u to client %u, %u bytes: %d", actor->index, head.order, index, bytes, code);
    CROSS_CHECK(run, code == 0 || code == -EAGAIN || code == -EPIPE, "a control message answers %d (%s)", code, weir_strerror(code));
    if (code == 0) {
        cross_accepted(run, producer, index, head.order, bytes);
        run->feats[CROSS_CONTROL]++;
    }
    return code;
}

int cross_actor_send_wait(struct cross_actor *actor, uint32_t index, uint32_t bytes, uint64_t timeout_ns)
{
    struct cross_run *run = actor->run;
    struct cross_client *client = &run->clients[index];
    uint8_t data[CROSS_PAYLOAD_MAX * 2];
    struct cross_head head = {.producer = actor->producer->number, .order = ++actor->producer->order, .bytes = bytes};
    cross_message_make(&head, data);
    uint64_t now_ns = weir_sim_now_ns(run->world);
    actor->busy = true;
    int code = weir_port_send_wait(actor->port, client->id, data, bytes, timeout_ns);
    actor->busy = false;
    actor->unread = true; /* (it has been awake, and may have kept events) */
    cross_note(run, "actor %u has sent message %u to client %u, %u bytes, waiting: %d", actor->index, head.order, index, bytes, code);
    if (code == 0)
        sent(actor, client, &head);
    if (code == -ETIMEDOUT)
        CROSS_CHECK(run, weir_sim_now_ns(run->world) >= now_ns + timeout_ns, "a send that waits %llu ns has waited %llu",
                    (unsigned long long)timeout_ns, (unsigned long long)(weir_sim_now_ns(run->world) - now_ns));
    else if (code != -ENOBUFS)
        cross_actor_check_code(actor, "a send that waits", code, (int)index, (int)client->shard);
    CROSS_CHECK(run, code != -EAGAIN, "a send that waits answers -EAGAIN");
    return code;
}

int cross_actor_end(struct cross_actor *actor, uint32_t index)
{
    struct cross_run *run = actor->run;
    struct cross_client *client = &run->clients[index];
    int code = weir_port_end(actor->port, client->id);
    cross_note(run, "actor %u ends client %u: %d", actor->index, index, code);
    cross_actor_check_code(actor, "an end", code, (int)index, (int)client->shard);
    if (code == -EAGAIN)
        cross_actor_owe(actor, -1, (int)client->shard);
    struct cross_stream *stream = cross_stream_of(actor->producer, index);
    if (code == 0) {
        client->ended_by_handler = true;
        stream->ended_at = stream->ended_at == UINT32_MAX ? stream->count : stream->ended_at;
    }
    return code;
}

/* --- functions --- */

static void run_post(weir_shard *shard, void *user)
{
    struct cross_post *post = user;
    struct cross_run *run = post->run;
    uint32_t *last = &post->producer->posts_ran[post->shard];
    CROSS_CHECK(run, weir_shard_index(shard) == post->shard, "a function for shard %u runs on shard %u", post->shard,
                weir_shard_index(shard));
    CROSS_CHECK(run, !post->ran && !post->not_run, "function %u of producer %u runs twice, or was told not to run", post->number,
                post->producer->number);
    CROSS_CHECK(run, post->number > *last, "function %u of producer %u runs after its function %u", post->number, post->producer->number,
                *last);
    *last = post->number;
    post->ran = true;
    run->feats[CROSS_POST_RUN]++;
    struct cross_actor *actor = &run->actors[post->shard];
    int client = run->calm || run->stopping ? -1 : cross_act_choose_client(actor);
    if (client >= 0 && cross_one_of(run, 3))
        cross_actor_send(actor, (uint32_t)client, sizeof(struct cross_head) + (uint32_t)cross_below(run, 100));
}

int cross_actor_post(struct cross_actor *actor, uint32_t shard)
{
    struct cross_run *run = actor->run;
    struct cross_post *post = calloc(1, sizeof *post);
    CROSS_CHECK(run, post != NULL, "no memory for a function");
    *post = (struct cross_post){.run = run, .producer = actor->producer, .number = actor->producer->posted + 1, .shard = shard};
    int code = weir_post(actor->port, run->shards[shard], run_post, post);
    cross_note(run, "actor %u posts function %u to shard %u: %d", actor->index, post->number, shard, code);
    cross_actor_check_code(actor, "a post", code, -1, (int)shard);
    if (code != 0) {
        free(post);
        if (code == -EAGAIN) {
            cross_actor_owe(actor, -1, (int)shard);
            weir_sim_count(run->world, WEIR_SIM_RING_FULL);
        }
        return code;
    }
    actor->producer->posted++;
    post->next = run->posts;
    run->posts = post;
    return 0;
}

/* --- what comes back --- */

static void hear_ready(struct cross_actor *actor, const weir_port_event *event)
{
    struct cross_run *run = actor->run;
    const struct cross_client *client = cross_client_by_id(run, event->id);
    CROSS_CHECK(run, client != NULL && ++actor->readies[client->index] <= actor->refusals[client->index],
                "actor %u hears READY of %llx more often than it was refused", actor->index, (unsigned long long)event->id.value);
    actor->owed_ready[client->index] = false;
    run->feats[CROSS_READY]++;
    if (actor->shard >= 0)
        cross_server_go_on(run, (uint32_t)actor->shard, (int)client->index, -1);
}

static void hear_room(struct cross_actor *actor, const weir_port_event *event)
{
    struct cross_run *run = actor->run;
    CROSS_CHECK(run, event->shard < run->plan.shards && (actor->room_ever || actor->producer->piping || run->stopping),
                "actor %u hears ROOM of shard %u, and nobody has refused it", actor->index, event->shard);
    actor->owed_room[event->shard] = actor->owed_any = false;
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        if (run->clients[i].opened && run->clients[i].shard == event->shard && actor->shard != (int)event->shard)
            actor->owed_ready[i] = false;
    run->feats[CROSS_ROOM]++;
    if (actor->shard >= 0)
        cross_server_go_on(run, (uint32_t)actor->shard, -1, (int)event->shard);
}

static void hear_undelivered(struct cross_actor *actor, const weir_port_event *event)
{
    struct cross_run *run = actor->run;
    struct cross_producer *producer = actor->producer;
    const struct cross_client *client = cross_client_by_id(run, event->id);
    CROSS_CHECK(run, client != NULL, "UNDELIVERED for %llx, which is nobody", (unsigned long long)event->id.value);
    producer->messages_told += event->messages;
    producer->bytes_told += event->bytes;
    if (event->error == -ENOMEM && event->messages == 0) {
        cross_group_doubt(run, client->index); /* a join that was not */
        return;
    }
    CROSS_CHECK(run, event->messages > 0, "UNDELIVERED (%d) without messages", event->error);
    struct cross_stream *stream = cross_stream_of(producer, client->index);
    switch (event->error) {
    case -ESTALE:
        run->feats[CROSS_UNDELIVERED_STALE]++;
        CROSS_CHECK(run, client->closed || run->over[client->shard] || run->closing, "UNDELIVERED for client %u: %d, and it is there",
                    client->index, event->error);
        break;
    case -EPIPE:
        run->feats[CROSS_UNDELIVERED_ENDING]++;
        break;
    case -EMSGSIZE:
        run->feats[CROSS_UNDELIVERED_TOO_BIG]++;
        stream->too_big_told += (uint32_t)event->messages;
        CROSS_CHECK(run, stream->too_big_told <= stream->too_big, "%u messages to client %u were too big, %u are told so", stream->too_big,
                    client->index, stream->too_big_told);
        return;
    default:
        cross_fail(run, "UNDELIVERED for client %u: %d", client->index, event->error);
    }
    stream->told += (uint32_t)event->messages;
    CROSS_CHECK(run, producer->piping || stream->received + stream->told <= stream->count + stream->too_big,
                "client %u has got %u messages of producer %u, %u are told undelivered, and %u were accepted", client->index,
                stream->received, producer->number, stream->told, stream->count + stream->too_big);
}

static void hear_not_run(struct cross_actor *actor, const weir_port_event *event)
{
    struct cross_run *run = actor->run;
    CROSS_CHECK(run, (run->over[event->shard] || run->closing) && event->error != 0, "NOT_RUN (%d) of shard %u, which is not over",
                event->error, event->shard);
    if (event->function != run_post)
        return;
    struct cross_post *post = event->user;
    CROSS_CHECK(run, !post->ran && !post->not_run && post->shard == event->shard, "function %u of producer %u was run, and NOT_RUN is told",
                post->number, post->producer->number);
    post->not_run = true;
    run->feats[CROSS_NOT_RUN]++;
}

void cross_actor_hear(struct cross_actor *actor, const weir_port_event *event)
{
    static const char *const names[] = {"nothing", "READY", "ROOM", "UNDELIVERED", "NOT_RUN", "CHANNEL_ROOM", "CHANNEL_ENDED"};
    struct cross_run *run = actor->run;
    CROSS_CHECK(run, event->kind >= WEIR_PORT_READY && event->kind <= WEIR_PORT_CHANNEL_ENDED, "an event of kind %d", (int)event->kind);
    cross_note(run, "actor %u hears %s: %llx, shard %u, error %d, %llu messages, %llu bytes", actor->index, names[event->kind],
               (unsigned long long)event->id.value, event->shard, event->error, (unsigned long long)event->messages,
               (unsigned long long)event->bytes);
    switch (event->kind) {
    case WEIR_PORT_READY:
        hear_ready(actor, event);
        break;
    case WEIR_PORT_ROOM:
        hear_room(actor, event);
        break;
    case WEIR_PORT_UNDELIVERED:
        hear_undelivered(actor, event);
        break;
    case WEIR_PORT_NOT_RUN:
        hear_not_run(actor, event);
        break;
    case WEIR_PORT_CHANNEL_ROOM:
    case WEIR_PORT_CHANNEL_ENDED:
        cross_channel_hear(actor, event);
        break;
    }
}

void cross_actor_collect(struct cross_actor *actor, uint32_t most)
{
    weir_port_event event;
    if (actor->event >= 0 && !actor->unread && !cross_engine_is_set(actor->run, actor->event))
        return; /* it sleeps on its descriptor */
    actor->unread = true;
    for (uint32_t i = 0; i < most && actor->unread; i++) {
        actor->unread = weir_port_next(actor->port, &event);
        if (actor->unread)
            cross_actor_hear(actor, &event);
    }
}
