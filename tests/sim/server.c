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
    uint64_t position;         /* raw: the next byte's in its stream */
    uint64_t accepted_messages, accepted_bytes;
    bool refused_send; /* a send answered -EAGAIN: on_ready is owed */
    bool ended;        /* weir_end, weir_abort or an error was asked for: no more messages */
    weir_timer timer;
    uint64_t timer_ns;             /* not before then */
    uint64_t opened_ns, queued_ns; /* when it was opened; when something was queued behind nothing */
    weir_blob *blob;               /* kept for a while */
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
    state->client = client_adopted(run, state->id);
    run->handed_over += state->client != NULL;
    run->placed[weir_shard_index(weir_conn_shard(conn))] += state->client == NULL;
    state->opened_ns = state->queued_ns = weir_now(weir_conn_shard(conn));
    if (state->client == NULL && weir_conn_peer(conn, peer, sizeof peer) == 0 && !run->plan.unix_address)
        state->client = client_of(run, peer);
    run_note(run, "open %llx for client %d", (unsigned long long)state->id.value, state->client != NULL ? (int)state->client->index : -1);
    RUN_CHECK(run, weir_find(weir_conn_shard(conn), state->id) == conn, "an open connection is not found by its id");
    if (state->client != NULL)
        RUN_CHECK(run, state->client->opened++ == 0, "client %u's connection was opened twice", state->client->index);
    if (run_permille(run, run->plan.policy_permille)) {
        weir_set_slow_peer(conn, run_one_of(run, 4) ? NULL : &run->plan.policy);
        run->feats[RUN_POLICY_CHANGED]++;
    }
    if (run_permille(run, run->plan.refuse_permille)) {
        state->ended = true;
        return -EACCES;
    }
    return 0;
}

/* --- messages --- */

/* Never early; and on a good day not late: by a 64th and a millisecond, and what the driver keeps everybody waiting. */
static void check_timer(const struct run_conn *state, uint64_t now_ns)
{
    const uint64_t late_ns = 500 * WEIR_MILLISECOND + WAIT_NS_MAX / 64 + WEIR_MILLISECOND + state->run->stalled_ns;
    RUN_CHECK(state->run, now_ns >= state->timer_ns, "a timer went off %llu ns early", (unsigned long long)(state->timer_ns - now_ns));
    RUN_CHECK(state->run, !state->run->plan.clean || now_ns <= state->timer_ns + late_ns, "a timer went off %llu ns late",
              (unsigned long long)(now_ns - state->timer_ns));
}

static void resume(weir_shard *shard, weir_timer *timer, void *user)
{
    struct run_conn *state = user;
    (void)timer;
    RUN_CHECK(state->run, weir_find(shard, state->id) == state->conn, "a timer of a connection that is gone");
    run_note(state->run, "resume %llx", (unsigned long long)state->id.value);
    state->run->timer_turn = state->run->turns + 1;
    check_timer(state, weir_now(shard));
    weir_blob_release(&state->blob);
    weir_resume(state->conn);
}

static void wait_a_while(struct run_conn *state)
{
    weir_shard *shard = weir_conn_shard(state->conn);
    uint64_t after_ns = run_below(state->run, WAIT_NS_MAX);
    state->timer_ns = weir_now(shard) + after_ns;
    weir_timer_set(shard, &state->timer, after_ns, resume, state);
}

/* It is the message that the client wrote at this place, whole. */
static void check_message(struct run_conn *state, const weir_message *message)
{
    struct run *run = state->run;
    const struct run_client *client = state->client;
    RUN_CHECK(run, !state->ended, "a message after the connection's end");
    if (client == NULL)
        return;
    if (run->plan.kind == RUN_KIND_RAW) {
        RUN_CHECK(run,
                  message->bytes > 0 && state->position + message->bytes <= client->written &&
                      memcmp(message->data, client->stream + state->position, message->bytes) == 0,
                  "%u bytes of client %u from byte %llu are not what it wrote", message->bytes, client->index,
                  (unsigned long long)state->position);
        return;
    }
    RUN_CHECK(run, state->sequence < client->frame_count, "client %u wrote %u messages, here is another", client->index,
              client->frame_count);
    const struct run_frame *frame = &client->frames[state->sequence];
    RUN_CHECK(run, message->bytes == frame->bytes && memcmp(message->data, client->answers + frame->offset, frame->bytes) == 0,
              "message %u of client %u is not what it wrote", state->sequence, client->index);
    RUN_CHECK(run, frame->said <= client->written, "message %u of client %u before it was written", state->sequence, client->index);
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
    if (run_one_of(run_of(conn), 8)) { /* given up: the next send ends it */
        memset(room.data, 0xee, room.bytes);
        run_of(conn)->feats[RUN_GIVEN_UP]++;
        return weir_send(conn, message->data, message->bytes);
    }
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
        state->run->feats[RUN_HELD]++;
        wait_a_while(state);
    }
    weir_blob_release(&blob);
    return code;
}

static int echo(struct run_conn *state, weir_conn *conn, const weir_message *message)
{
    uint64_t *feats = state->run->feats;
    feats[RUN_FRAMES + (int)state->run->plan.kind]++;
    switch ((enum run_echo)run_below(state->run, RUN_ECHOES)) {
    case RUN_ECHO_SEND:
        return weir_send(conn, message->data, message->bytes);
    case RUN_ECHO_RESERVE:
        feats[RUN_BY_RESERVE]++;
        return echo_by_reserve(conn, message);
    case RUN_ECHO_FORWARD:
        feats[RUN_BY_FORWARD]++;
        return weir_forward(conn, message, conn);
    case RUN_ECHO_BLOB:
    case RUN_ECHOES:
        break;
    }
    feats[RUN_BY_BLOB]++;
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

/* What is queued for it, as this program knows it: accepted, and not yet taken whole by the kernel. */
static uint64_t queued_bytes(const struct run_conn *state)
{
    weir_conn_stats stats;
    RUN_CHECK(state->run, weir_conn_stats_get(state->run->runtime, state->id, &stats) == 0, "an open connection has no statistics");
    if (state->run->plan.kind == RUN_KIND_WEB) /* what weir says by itself is queued too */
        return stats.queued_bytes;
    return state->accepted_bytes - stats.bytes_out;
}

/* Below the mark it is accepted, at the mark it is refused; unless memory is short. */
static void check_mark(struct run_conn *state, uint64_t before_bytes, int code)
{
    const struct run *run = state->run;
    uint32_t mark = run->plan.echo.limits.high_water_bytes;
    bool rich = run->plan.config.memory_bytes == 0 && run->plan.starve_permille == 0;
    bool exact = run->plan.kind != RUN_KIND_WEB; /* the lane's pongs are queued, and do not count against the mark */
    RUN_CHECK(run, !exact || code != 0 || before_bytes < mark, "a send was accepted with %llu bytes queued, and the mark is %u",
              (unsigned long long)before_bytes, mark);
    RUN_CHECK(run, !exact || code != -EAGAIN || before_bytes >= mark || !rich,
              "a send was refused with %llu bytes queued, and the mark is %u", (unsigned long long)before_bytes, mark);
    if (code == 0 && before_bytes == 0)
        state->queued_ns = weir_now(weir_conn_shard(state->conn));
}

/* The echo was accepted, or never will be. */
static void count_echo(struct run_conn *state, weir_conn *conn, const weir_message *message, int code)
{
    struct run *run = state->run;
    state->sequence++;
    state->position += message->bytes;
    if (code == 0) {
        state->accepted_messages += weir_conn_protocol(conn)->codec.boundaries;
        state->accepted_bytes += run_wire_bytes(weir_conn_protocol(conn), message->data, message->bytes);
        return;
    }
    RUN_CHECK(run, code == -EPIPE || code == -EMSGSIZE, "a send answered %d (%s)", code, weir_strerror(code));
    state->ended = code == -EPIPE; /* slow peers are ended by a refused send */
    RUN_CHECK(run, code != -EMSGSIZE, "a message that fits its codec does not fit the limits");
}

static int on_message(weir_conn *conn, const weir_message *message)
{
    struct run_conn *state = weir_conn_user(conn);
    struct run *run = state->run;
    int answer;
    check_message(state, message);
    run->message_turn = run->turns + 1;
    run->feats[RUN_TIMER_WITH_DATA] += run->message_turn == run->timer_turn;
    if (end_perhaps(state, conn, &answer))
        return answer;
    if (!weir_timer_is_set(&state->timer) && run_permille(run, run->plan.later_permille)) {
        run_note(run, "message %u of %llx: later", state->sequence, (unsigned long long)state->id.value);
        run->feats[RUN_LATER]++;
        wait_a_while(state);
        return WEIR_LATER;
    }
    uint64_t before_bytes = queued_bytes(state);
    int code = echo(state, conn, message);
    check_mark(state, before_bytes, code);
    run_note(run, "message %u of %llx: %u bytes, send answers %d", state->sequence, (unsigned long long)state->id.value, message->bytes,
             code);
    if (code == -EAGAIN) {
        state->refused_send = true;
        run->feats[RUN_REFUSED]++;
        return WEIR_LATER;
    }
    count_echo(state, conn, message, code);
    if (!weir_timer_is_set(&state->timer) && run_permille(run, run->plan.pause_permille)) {
        run_note(run, "pause %llx", (unsigned long long)state->id.value);
        run->feats[RUN_PAUSED]++;
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
    state->run->feats[RUN_READY]++;
}

/* --- the end --- */

static void check_account(struct run_conn *state, const weir_close_event *event)
{
    const struct run *run = state->run;
    weir_conn_stats stats;
    if (weir_conn_stats_get(run->runtime, state->id, &stats) != 0)
        return;                           /* (it may count as gone already) */
    if (run->plan.kind == RUN_KIND_WEB) { /* the handshake, pongs, a Close: weir's own, as many as there may be */
        uint64_t messages = stats.messages_out + event->undelivered_messages - state->accepted_messages;
        uint64_t bytes = stats.bytes_out + event->undelivered_bytes - state->accepted_bytes;
        uint64_t pings = state->client != NULL ? state->client->pings : RUN_FRAMES_MAX * WEB_PARTS_MAX; /* (whoever it is) */
        RUN_CHECK(run,
                  messages >= 1 && messages <= pings + 2 && bytes >= 100 &&
                      bytes <= 140 + (run->plan.web.deflate.enabled ? 110 : 0) + 8 * (pings + 1),
                  "weir itself has said %llu messages of %llu bytes", (unsigned long long)messages, (unsigned long long)bytes);
        state->accepted_messages += messages;
        state->accepted_bytes += bytes;
    }
    RUN_CHECK(run, stats.messages_out + event->undelivered_messages == state->accepted_messages,
              "%llu messages were accepted, %llu went out, %llu are told undelivered", (unsigned long long)state->accepted_messages,
              (unsigned long long)stats.messages_out, (unsigned long long)event->undelivered_messages);
    RUN_CHECK(run, stats.bytes_out + event->undelivered_bytes == state->accepted_bytes,
              "%llu bytes were accepted, %llu went out, %llu are told undelivered", (unsigned long long)state->accepted_bytes,
              (unsigned long long)stats.bytes_out, (unsigned long long)event->undelivered_bytes);
    RUN_CHECK(run, run->plan.kind == RUN_KIND_RAW || (event->undelivered_messages == 0) == (event->undelivered_bytes == 0),
              "undelivered: %llu messages of %llu bytes", (unsigned long long)event->undelivered_messages,
              (unsigned long long)event->undelivered_bytes);
}

/* Who is told of a message that was too big, or bad, has sent one, and everything before it was delivered. */
static void check_reason(const struct run_conn *state, const weir_close_event *event)
{
    struct run *run = state->run;
    const struct run_client *client = state->client;
    if (event->reason != WEIR_REASON_TOO_BIG && event->reason != WEIR_REASON_BAD_MESSAGE)
        return;
    RUN_CHECK(run, client == NULL || client->spoils == event->reason, "client %u's connection ended: %s, and it has sent nothing like it",
              client->index, weir_reason_name(event->reason));
    RUN_CHECK(run, client == NULL || state->sequence == client->frame_count,
              "client %u's connection ended: %s, and %u of its %u good messages were delivered", client->index,
              weir_reason_name(event->reason), state->sequence, client->frame_count);
    run->feats[event->reason == WEIR_REASON_TOO_BIG ? RUN_TOO_BIG : RUN_BAD_MESSAGE]++;
}

/* A time limit ends nobody early. */
static void check_limit(const struct run_conn *state, const weir_close_event *event)
{
    const struct run *run = state->run;
    const weir_limits *limits = &run->plan.echo.limits;
    uint64_t stalled_ns = limits->slow_peer.stalled_ns_max, policy_ns = run->plan.policy.stalled_ns_max;
    uint64_t now_ns = weir_now(weir_conn_shard(state->conn)), least_ns = 0;
    if (run->plan.policy_permille > 0 && policy_ns != 0 && (policy_ns < stalled_ns || stalled_ns == 0))
        stalled_ns = policy_ns;
    switch (event->reason) {
    case WEIR_REASON_FIRST_LATE:
        least_ns = state->opened_ns + limits->first_ns;
        break;
    case WEIR_REASON_IDLE:
        least_ns = state->opened_ns + limits->idle_ns; /* (what lay here already, and is delivered now, is no activity) */
        break;
    case WEIR_REASON_MESSAGE_LATE:
        least_ns = state->opened_ns + limits->message_ns;
        break;
    case WEIR_REASON_SLOW_TIME:
        least_ns = state->queued_ns + stalled_ns;
        break;
    default:
        break;
    }
    RUN_CHECK(run, now_ns >= least_ns, "it ended %llu ns too early: %s", (unsigned long long)(least_ns - now_ns),
              weir_reason_name(event->reason));
}

/* Adopted, and ended before it was open. */
static void never_opened(struct run *run, weir_conn *conn, const weir_close_event *event)
{
    const struct run_client *client = client_adopted(run, weir_conn_id(conn));
    RUN_CHECK(run, client != NULL && client->opened == 0, "a connection was closed that is not open");
    run_note(run, "adopted client %u was never open: %s", client->index, weir_reason_name(event->reason));
    run->never_opened++;
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    struct run_conn *state = weir_conn_user(conn), **link = &run_of(conn)->conns;
    struct run *run = run_of(conn);
    if (state == NULL) {
        never_opened(run, conn, event);
        return;
    }
    RUN_CHECK(run, state->conn == conn, "a connection was closed that is not open");
    run_note(run, "close %llx: %s (%d), undelivered %llu messages, %llu bytes", (unsigned long long)state->id.value,
             weir_reason_name(event->reason), event->error, (unsigned long long)event->undelivered_messages,
             (unsigned long long)event->undelivered_bytes);
    RUN_CHECK(run, event->reason != WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT, "closed without a reason");
    check_account(state, event);
    check_reason(state, event);
    check_limit(state, event);
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
