/* SPDX-License-Identifier: MIT */
/* server: the handlers of the simulated echo service. Each callback checks that it may come now; each message is compared with what its client
 * wrote; what sends accepted is counted, and must be found again in the close event and the statistics. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

#define WAIT_NS_MAX (20 * WEIR_MILLISECOND)

struct run_conn {
    struct run_conn *next;
    struct run *run;
    weir_conn *conn;
    weir_id id;
    struct run_client *client; /* NULL: a pinger's */
    uint32_t sequence;         /* the next message's place among the client's frames */
    uint64_t accepted_messages, accepted_bytes;
    bool refused_send; /* a send answered -EAGAIN: on_ready is owed */
    bool ended;        /* weir_end, weir_abort or an error was asked for: no more messages */
    weir_timer timer;
    weir_blob *blob; /* kept for a while */
};

static struct run *run_of(const weir_conn *conn)
{
    return weir_conn_protocol(conn)->user;
}

uint32_t run_wire_bytes(const weir_protocol *protocol, const void *payload, uint32_t bytes)
{
    weir_seal seal;
    return protocol->codec.seal(&protocol->codec, payload, bytes, &seal) == 0 ? seal.head_bytes + bytes + seal.trailer_bytes : 0;
}

/* --- the beginning --- */

static int on_open(weir_conn *conn)
{
    struct run *run = run_of(conn);
    char peer[WEIR_ADDRESS_MAX_BYTES];
    struct run_conn *state = calloc(1, sizeof *state);
    RUN_CHECK(run, state != NULL, "no memory for a connection");
    RUN_CHECK(run, !run->stopping || run->stopped_ns != 0, "a connection was opened after the stop");
    *state = (struct run_conn){.next = run->conns, .run = run, .conn = conn, .id = weir_conn_id(conn)};
    run->conns = state;
    run->opened++;
    weir_conn_set_user(conn, state);
    if (weir_conn_peer(conn, peer, sizeof peer) == 0 && !run->plan.unix_address)
        state->client = client_of(run, peer);
    run_note(run, "open %llx for client %d", (unsigned long long)state->id.value, state->client != NULL ? (int)state->client->index : -1);
    RUN_CHECK(run, weir_find(weir_conn_shard(conn), state->id) == conn, "an open connection is not found by its id");
    if (state->client != NULL)
        RUN_CHECK(run, state->client->opened++ == 0, "client %u's connection was opened twice", state->client->index);
    if (run_permille(run, run->plan.refuse_permille)) {
        state->ended = true;
        return -EACCES;
    }
    return 0;
}

/* --- messages --- */

static void resume(weir_shard *shard, weir_timer *timer, void *user)
{
    struct run_conn *state = user;
    (void)timer;
    RUN_CHECK(state->run, weir_find(shard, state->id) == state->conn, "a timer of a connection that is gone");
    run_note(state->run, "resume %llx", (unsigned long long)state->id.value);
    weir_blob_release(&state->blob);
    weir_resume(state->conn);
}

static void wait_a_while(struct run_conn *state)
{
    weir_timer_set(weir_conn_shard(state->conn), &state->timer, run_below(state->run, WAIT_NS_MAX), resume, state);
}

/* It is the message that the client wrote at this place, whole. */
static void check_message(struct run_conn *state, const weir_message *message)
{
    struct run *run = state->run;
    const struct run_client *client = state->client;
    RUN_CHECK(run, !state->ended, "a message after the connection's end");
    if (client == NULL)
        return;
    RUN_CHECK(run, state->sequence < client->frame_count, "client %u wrote %u messages, here is another", client->index,
              client->frame_count);
    const struct run_frame *frame = &client->frames[state->sequence];
    RUN_CHECK(run, message->bytes == frame->bytes && memcmp(message->data, client->stream + frame->offset, frame->bytes) == 0,
              "message %u of client %u is not what it wrote", state->sequence, client->index);
    RUN_CHECK(run, frame->offset + frame->bytes <= client->written, "message %u of client %u before it was written", state->sequence,
              client->index);
}

static int echo_by_reserve(weir_conn *conn, const weir_message *message)
{
    weir_room room;
    if (message->bytes > WEIR_RESERVE_MAX_BYTES)
        return weir_send(conn, message->data, message->bytes);
    int code = weir_reserve(conn, message->bytes, &room);
    if (code != 0)
        return code;
    RUN_CHECK(run_of(conn), room.bytes >= message->bytes, "a reserve of %u bytes gave room for %u", message->bytes, room.bytes);
    memcpy(room.data, message->data, message->bytes);
    return weir_commit(conn, message->bytes);
}

static int echo_by_blob(struct run_conn *state, weir_conn *conn, const weir_message *message)
{
    weir_blob *blob = weir_hold(conn, message);
    if (blob == NULL)
        return weir_send(conn, message->data, message->bytes);
    RUN_CHECK(state->run, weir_blob_bytes(blob) == message->bytes && memcmp(weir_blob_data(blob), message->data, message->bytes) == 0,
              "a held message is not the message");
    int code = weir_send_blob(conn, blob, 0, message->bytes);
    if (state->blob == NULL && !weir_timer_is_set(&state->timer) && run_permille(state->run, 200)) {
        state->blob = weir_blob_hold(blob);
        weir_timer_set(weir_conn_shard(conn), &state->timer, run_below(state->run, WAIT_NS_MAX), resume, state);
    }
    weir_blob_release(&blob);
    return code;
}

static int echo(struct run_conn *state, weir_conn *conn, const weir_message *message)
{
    switch ((enum run_echo)run_below(state->run, RUN_ECHOES)) {
    case RUN_ECHO_SEND:
        return weir_send(conn, message->data, message->bytes);
    case RUN_ECHO_RESERVE:
        return echo_by_reserve(conn, message);
    case RUN_ECHO_FORWARD:
        return weir_forward(conn, message, conn);
    case RUN_ECHO_BLOB:
    case RUN_ECHOES:
        break;
    }
    return echo_by_blob(state, conn, message);
}

/* Ends it now and then, each in its way. True: the handler has its answer. */
static bool end_perhaps(struct run_conn *state, weir_conn *conn, int *answer)
{
    struct run *run = state->run;
    *answer = WEIR_TAKEN;
    if (run_permille(run, run->plan.fail_permille))
        *answer = -EPROTO;
    else if (run_permille(run, run->plan.end_permille))
        weir_end(conn);
    else if (run_permille(run, run->plan.abort_permille))
        weir_abort(conn);
    else
        return false;
    state->ended = true;
    return true;
}

static int on_message(weir_conn *conn, const weir_message *message)
{
    struct run_conn *state = weir_conn_user(conn);
    struct run *run = state->run;
    int answer;
    check_message(state, message);
    if (end_perhaps(state, conn, &answer))
        return answer;
    if (!weir_timer_is_set(&state->timer) && run_permille(run, run->plan.later_permille)) {
        run_note(run, "message %u of %llx: later", state->sequence, (unsigned long long)state->id.value);
        wait_a_while(state);
        return WEIR_LATER;
    }
    int code = echo(state, conn, message);
    run_note(run, "message %u of %llx: %u bytes, send answers %d", state->sequence, (unsigned long long)state->id.value, message->bytes,
             code);
    if (code == -EAGAIN) {
        state->refused_send = true;
        return WEIR_LATER;
    }
    state->sequence++;
    if (code == 0) {
        state->accepted_messages++;
        state->accepted_bytes += run_wire_bytes(weir_conn_protocol(conn), message->data, message->bytes);
    } else {
        RUN_CHECK(run, code == -EPIPE || code == -EMSGSIZE, "a send answered %d (%s)", code, weir_strerror(code));
        state->ended = code == -EPIPE; /* slow peers are ended by a refused send */
        RUN_CHECK(run, code != -EMSGSIZE, "a message that fits its codec does not fit the limits");
    }
    if (!weir_timer_is_set(&state->timer) && run_permille(run, run->plan.pause_permille)) {
        run_note(run, "pause %llx", (unsigned long long)state->id.value);
        weir_pause(conn);
        wait_a_while(state);
    }
    return WEIR_TAKEN;
}

static void on_ready(weir_conn *conn)
{
    struct run_conn *state = weir_conn_user(conn);
    run_note(state->run, "ready %llx", (unsigned long long)state->id.value);
    RUN_CHECK(state->run, state->refused_send, "on_ready, and no send was refused");
    state->refused_send = false;
}

/* --- the end --- */

static void check_account(const struct run_conn *state, const weir_close_event *event)
{
    const struct run *run = state->run;
    weir_conn_stats stats;
    if (weir_conn_stats_get(run->runtime, state->id, &stats) != 0)
        return; /* (it may count as gone already) */
    RUN_CHECK(run, stats.messages_out + event->undelivered_messages == state->accepted_messages,
              "%llu messages were accepted, %llu went out, %llu are told undelivered", (unsigned long long)state->accepted_messages,
              (unsigned long long)stats.messages_out, (unsigned long long)event->undelivered_messages);
    RUN_CHECK(run, stats.bytes_out + event->undelivered_bytes == state->accepted_bytes,
              "%llu bytes were accepted, %llu went out, %llu are told undelivered", (unsigned long long)state->accepted_bytes,
              (unsigned long long)stats.bytes_out, (unsigned long long)event->undelivered_bytes);
    RUN_CHECK(run, (event->undelivered_messages == 0) == (event->undelivered_bytes == 0), "undelivered: %llu messages of %llu bytes",
              (unsigned long long)event->undelivered_messages, (unsigned long long)event->undelivered_bytes);
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    struct run_conn *state = weir_conn_user(conn), **link = &run_of(conn)->conns;
    struct run *run = run_of(conn);
    RUN_CHECK(run, state != NULL && state->conn == conn, "a connection was closed that is not open");
    run_note(run, "close %llx: %s (%d), undelivered %llu messages, %llu bytes", (unsigned long long)state->id.value,
             weir_reason_name(event->reason), event->error, (unsigned long long)event->undelivered_messages,
             (unsigned long long)event->undelivered_bytes);
    RUN_CHECK(run, event->reason != WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT, "closed without a reason");
    check_account(state, event);
    if (state->client != NULL) {
        state->client->closed = true;
        state->client->event = *event;
        state->client->bytes_out = state->accepted_bytes - event->undelivered_bytes;
    }
    weir_timer_clear(weir_conn_shard(conn), &state->timer);
    weir_blob_release(&state->blob);
    weir_conn_set_user(conn, NULL);
    run->accepted_messages += state->accepted_messages;
    run->accepted_bytes += state->accepted_bytes;
    run->undelivered_messages += event->undelivered_messages;
    run->undelivered_bytes += event->undelivered_bytes;
    run->closed++;
    while (*link != state)
        link = &(*link)->next;
    *link = state->next;
    free(state);
}

void server_init(struct run *run)
{
    weir_protocol *protocol = &run->plan.echo;
    protocol->name = "echo";
    protocol->user = run;
    protocol->on_open = on_open;
    protocol->on_message = on_message;
    protocol->on_ready = on_ready;
    protocol->on_close = on_close;
}
