/* SPDX-License-Identifier: MIT */
/* cross_server: the handlers of the simulated service. A client's messages ask to be passed on to another client's connection, wherever it lives; two clients may be
 * joined by a pipe. Each callback checks that it may come now. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cross.h"

#define TICK_NS   (10 * WEIR_MILLISECOND)
#define TICKS_MAX 200 /* so often does one end of a pipe look for the other */

struct cross_conn {
    struct cross_conn *next;
    struct cross_run *run;
    weir_conn *conn;
    struct cross_client *client;
    int waits_for;                       /* WEIR_LATER was answered, because this client's connection had no room; -1: not */
    bool waits_pipe;                     /* ... because the pipe is not there yet */
    bool makes_it, made_it, owes_resume; /* this end is to make the pipe; has made it; has not yet told the other that it may go on */
    uint32_t ticks;
    weir_timer timer;
};

static struct cross_run *run_of(const weir_conn *conn)
{
    return weir_conn_protocol(conn)->user;
}

void cross_server_go_on(struct cross_run *run, uint32_t shard, int target, int target_shard)
{
    for (struct cross_conn *state = run->conns; state != NULL; state = state->next) {
        if (state->waits_for < 0 || state->client->shard != shard)
            continue;
        if (state->waits_for != target && (int)run->clients[state->waits_for].shard != target_shard)
            continue;
        state->waits_for = -1;
        weir_resume(state->conn);
    }
}

/* --- pipes --- */

static void set_tick(struct cross_conn *state);

/* On the shard of the end that was paused: the pipe is there. */
static void resume_paused(weir_shard *shard, void *user)
{
    const struct cross_client *client = user;
    weir_conn *conn = weir_find(shard, client->id);
    CROSS_CHECK(client->run, conn != NULL || client->closed, "client %u's connection is not found", client->index);
    if (conn != NULL)
        weir_resume(conn);
}

/* Behind weir_pipe, by the same port: it comes after it. True: it is done. */
static bool resume_other(struct cross_run *run, weir_shard *shard, struct cross_client *other)
{
    if (other->shard != weir_shard_index(shard)) {
        int code = weir_post(weir_shard_port(shard), run->shards[other->shard], resume_paused, other);
        return code == 0 || code == -ESHUTDOWN;
    }
    resume_paused(shard, other);
    return true;
}

/* 0, -EAGAIN: not now; or it cannot be, and this end is ended. */
static int make_pipe(struct cross_run *run, struct cross_conn *state)
{
    struct cross_client *client = state->client, *other = &run->clients[client->partner];
    weir_shard *shard = weir_conn_shard(state->conn);
    int code = weir_pipe(state->conn, other->id);
    cross_note(run, "pipe of client %u to client %u answers %d", client->index, other->index, code);
    if (code == 0) {
        client->piped = other->piped = state->made_it = true;
        bool far = client->shard != other->shard;
        run->feats[far ? CROSS_PIPE_FAR : CROSS_PIPE_NEAR]++;
        run->actors[client->shard].producer->piping |= far;
        run->actors[other->shard].producer->piping |= far;
        state->owes_resume = !other->waits && !resume_other(run, shard, other);
        return 0;
    }
    CROSS_CHECK(run,
                code == -EAGAIN || (code == -ESTALE && other->closed) ||
                    (code == -EPIPE && (!run->plan.clean || client->ended_by_handler || other->ended_by_handler)) ||
                    (code == -ENOMEM && cross_is_lean(run)) || (code == -ESHUTDOWN && run->stopping),
                "weir_pipe answers %d (%s)", code, weir_strerror(code));
    if (code == -EAGAIN) {
        run->actors[client->shard].room_ever = true; /* told of, as after any refusal */
    } else {
        client->ended_by_handler = true;
        weir_end(state->conn);
    }
    return code;
}

/* Until the pipe is there, each of its ends looks now and then. Afterwards only where it may have failed at the other end for want of memory. */
static void tick(weir_shard *shard, weir_timer *timer, void *user)
{
    struct cross_conn *state = user;
    struct cross_run *run = state->run;
    struct cross_client *client = state->client, *other = &run->clients[client->partner];
    bool lean = cross_is_lean(run);
    (void)timer;
    state->ticks++;
    if (client->piped) {
        if (state->owes_resume)
            state->owes_resume = !resume_other(run, shard, other);
        if (other->closed && lean) {
            client->ended_by_handler = true;
            weir_end(state->conn);
        } else if (state->owes_resume || lean) {
            set_tick(state);
        }
        return;
    }
    if (other->closed || other->finished || state->ticks > TICKS_MAX) {
        client->ended_by_handler = true;
        weir_end(state->conn);
        return;
    }
    set_tick(state);
    if (other->opened && client->asks && state->waits_pipe) {
        state->waits_pipe = false;
        weir_resume(state->conn);
    } else if (other->opened && state->makes_it && make_pipe(run, state) == 0) {
        weir_resume(state->conn);
    }
}

static void set_tick(struct cross_conn *state)
{
    weir_timer_set(weir_conn_shard(state->conn), &state->timer, TICK_NS, tick, state);
}

static void open_pipe_end(struct cross_run *run, struct cross_conn *state)
{
    const struct cross_client *client = state->client, *other = &run->clients[client->partner];
    set_tick(state);
    state->makes_it = !client->asks && !other->asks && other->opened;
    if (state->makes_it && make_pipe(run, state) == 0)
        return;
    if (!client->asks && !client->waits)
        weir_pause(state->conn);
}

/* A message of one that will be in a pipe has come to the handler. */
static int before_pipe(struct cross_run *run, struct cross_conn *state)
{
    struct cross_client *client = state->client, *other = &run->clients[client->partner];
    /* (The other end's shard may have to hear of the pipe first.) */
    CROSS_CHECK(run, !client->piped || (client->waits && !state->made_it) || cross_is_lean(run),
                "client %u is in a pipe, and its message comes to the handler", client->index);
    if (client->asks && other->opened && !state->waits_pipe && make_pipe(run, state) == 0) {
        if (cross_one_of(run, 2))
            return WEIR_LATER;
        struct cross_stream *stream = cross_stream_of(client->producer, other->index);
        stream->received = stream->left_out = 1; /* it is not part of the pipe */
        return WEIR_TAKEN;
    }
    state->waits_pipe = true;
    return WEIR_LATER;
}

/* --- the beginning --- */

static int on_open(weir_conn *conn)
{
    struct cross_run *run = run_of(conn);
    char peer[WEIR_ADDRESS_MAX_BYTES];
    struct cross_conn *state = calloc(1, sizeof *state);
    CROSS_CHECK(run, state != NULL, "no memory for a connection");
    *state = (struct cross_conn){.next = run->conns, .run = run, .conn = conn, .waits_for = -1};
    run->conns = state;
    run->opened++;
    weir_conn_set_user(conn, state);
    if (weir_conn_peer(conn, peer, sizeof peer) != 0)
        return -EACCES; /* it has gone already, and nobody knows who it was */
    struct cross_client *client = state->client = cross_client_by_peer(run, peer);
    CROSS_CHECK(run, client != NULL && !client->opened, "a connection of nobody, or a second one: %s", peer);
    client->opened = true;
    client->id = weir_conn_id(conn);
    client->shard = weir_shard_index(weir_conn_shard(conn));
    cross_note(run, "open %llx for client %u on shard %u", (unsigned long long)client->id.value, client->index, client->shard);
    if (client->partner >= 0)
        open_pipe_end(run, state);
    return 0;
}

/* --- messages --- */

static int pass_on(struct cross_run *run, struct cross_conn *state, uint32_t target, uint32_t bytes)
{
    struct cross_client *client = state->client, *to = &run->clients[target];
    if (!to->opened || (to->partner >= 0 && !run->plan.into_pipes) || to->protocol == CROSS_RAW)
        return WEIR_TAKEN;
    int code = cross_actor_send(&run->actors[client->shard], target, bytes);
    if (code != -EAGAIN)
        return WEIR_TAKEN;
    state->waits_for = (int)target;
    run->feats[CROSS_LATER] += to->shard != client->shard;
    return WEIR_LATER;
}

static int on_message(weir_conn *conn, const weir_message *message)
{
    struct cross_conn *state = weir_conn_user(conn);
    struct cross_run *run = run_of(conn);
    struct cross_client *client = state->client;
    if (client->partner >= 0)
        return before_pipe(run, state);
    struct cross_head head = cross_message_check(run, message->data, message->bytes);
    CROSS_CHECK(run, head.producer == client->producer->number && head.order == client->taken + 1,
                "message %u of producer %u comes from client %u, whose message %u is next", head.order, head.producer, client->index,
                client->taken + 1);
    state->waits_for = -1; /* (its own on_ready brings it back, too) */
    int answer = head.task == CROSS_TASK_PASS_ON ? pass_on(run, state, head.target, head.bytes) : WEIR_TAKEN;
    client->taken += answer == WEIR_TAKEN;
    return answer;
}

static void on_ready(weir_conn *conn)
{
    const struct cross_conn *state = weir_conn_user(conn);
    cross_server_go_on(state->run, state->client->shard, (int)state->client->index, -1);
    if (state->client->opened)
        state->run->actors[state->client->shard].owed_ready[state->client->index] = false;
}

/* --- the end --- */

static void forget(struct cross_run *run, struct cross_conn *state)
{
    struct cross_conn **link = &run->conns;
    run->closed++;
    weir_timer_clear(weir_conn_shard(state->conn), &state->timer);
    weir_conn_set_user(state->conn, NULL);
    while (*link != state)
        link = &(*link)->next;
    *link = state->next;
    free(state);
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    struct cross_conn *state = weir_conn_user(conn);
    struct cross_run *run = run_of(conn);
    struct cross_client *client = state->client;
    weir_conn_stats stats;
    if (client == NULL) {
        forget(run, state);
        return;
    }
    CROSS_CHECK(run, client->opened && !client->closed, "client %u's connection is closed twice", client->index);
    CROSS_CHECK(run, event->reason != WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT, "closed without a reason");
    cross_note(run, "close %llx of client %u: %s (%d), undelivered %llu messages, %llu bytes", (unsigned long long)client->id.value,
               client->index, weir_reason_name(event->reason), event->error, (unsigned long long)event->undelivered_messages,
               (unsigned long long)event->undelivered_bytes);
    client->closed = true;
    client->closed_ns = weir_sim_now_ns(run->world);
    client->event = *event;
    if (weir_conn_stats_get(run->runtime, client->id, &stats) == 0) {
        client->messages_out = stats.messages_out;
        client->conn_bytes_out = stats.bytes_out;
    }
    run->undelivered_messages += event->undelivered_messages;
    run->undelivered_bytes += event->undelivered_bytes;
    forget(run, state);
    /* Handlers of this shard that wait for it try again, and find that it has gone. */
    cross_server_go_on(run, client->shard, (int)client->index, -1);
    run->actors[client->shard].owed_ready[client->index] = false;
}

static void on_port_event(weir_shard *shard, const weir_port_event *event)
{
    struct cross_run *run = weir_runtime_user(weir_shard_runtime(shard));
    cross_actor_hear(&run->actors[weir_shard_index(shard)], event);
}

void cross_server_init(struct cross_run *run)
{
    for (uint32_t i = 0; i < CROSS_PROTOCOLS; i++) {
        weir_protocol *protocol = &run->plan.protocols[i];
        protocol->user = run;
        protocol->on_open = on_open;
        protocol->on_message = on_message;
        protocol->on_ready = on_ready;
        protocol->on_close = on_close;
    }
    run->plan.config.on_port_event = on_port_event;
}
