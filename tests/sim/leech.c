/* SPDX-License-Identifier: MIT */
/* leech: on good days alone: somebody whom only a time limit can end. Each has a listener with one limit, which must come neither early nor late. */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

#define FIRST_PORT  7010
#define PUSH_BYTES  3000
#define SHORT_NS    (20 * WEIR_MILLISECOND)
#define LONG_NS     (5 * WEIR_SECOND)
#define SLACK_NS    (500 * WEIR_MILLISECOND) /* a shard may have to wait for its turn */
#define DRIBBLES_OF 500                      /* of its limit: how often it says a byte */

static const weir_reason reasons[RUN_LEECH_KINDS] = {
    [RUN_LEECH_SILENT] = WEIR_REASON_FIRST_LATE, [RUN_LEECH_IDLE] = WEIR_REASON_IDLE,        [RUN_LEECH_DRIBBLE] = WEIR_REASON_MESSAGE_LATE,
    [RUN_LEECH_DEAF] = WEIR_REASON_SLOW_TIME,    [RUN_LEECH_STAYS] = WEIR_REASON_DRAIN_LATE,
};

static struct run_leech *leech_of(const weir_conn *conn)
{
    return weir_conn_protocol(conn)->user;
}

/* --- outside --- */

static void say(struct run_leech *leech, const void *data, size_t bytes)
{
    weir_sim_peer_write(leech->peer, data, bytes);
}

static void act(struct weir_sim_world *world, void *user)
{
    static const uint8_t whole[] = {4, 0, 0, 0, 'w', 'o', 'r', 'd'}, begun[] = {0xb8, 0x0b, 0, 0, 'a'};
    struct run_leech *leech = user;
    uint64_t next_ns = 0;
    leech->acts++;
    if (leech->acts == 1) {
        leech->peer = weir_sim_peer_connect(world, &leech->address);
        next_ns = leech->kind == RUN_LEECH_IDLE ? 1 + leech->limit_ns * 2 / 3 : 10 * WEIR_MILLISECOND;
    } else if (leech->closed) {
        return;
    } else if (leech->kind == RUN_LEECH_IDLE) {
        say(leech, whole, sizeof whole);
    } else if (leech->kind == RUN_LEECH_DRIBBLE) {
        if (leech->acts == 2)
            say(leech, whole, sizeof whole);
        say(leech, begun, leech->acts == 2 ? sizeof begun : 1);
        next_ns = 1 + leech->limit_ns / DRIBBLES_OF;
    }
    if (next_ns != 0)
        weir_sim_schedule(world, next_ns, act, leech);
}

/* --- inside --- */

/* From here on the limit counts: no later than that. */
static void begin(struct run_leech *leech, const weir_conn *conn)
{
    leech->since_ns = weir_now(weir_conn_shard(conn));
}

static void push(weir_conn *conn)
{
    struct run_leech *leech = leech_of(conn);
    struct run *run = leech->run;
    uint8_t data[PUSH_BYTES] = {0};
    while (weir_send(conn, data, sizeof data) == 0) {
        run->accepted_messages++;
        run->accepted_bytes += run_wire_bytes(weir_conn_protocol(conn), data, sizeof data);
    }
    begin(leech, conn);
}

static int on_open(weir_conn *conn)
{
    struct run_leech *leech = leech_of(conn);
    RUN_CHECK(leech->run, leech->opened_ns == 0, "leech %u is open twice", leech->index);
    leech->run->opened++;
    leech->opened_ns = weir_now(weir_conn_shard(conn));
    begin(leech, conn);
    if (leech->kind == RUN_LEECH_DEAF)
        push(conn);
    if (leech->kind == RUN_LEECH_STAYS)
        weir_end(conn);
    return 0;
}

static int on_message(weir_conn *conn, const weir_message *message)
{
    struct run_leech *leech = leech_of(conn);
    RUN_CHECK(leech->run, message->bytes == 4 && memcmp(message->data, "word", 4) == 0, "leech %u has said something else", leech->index);
    begin(leech, conn);
    return WEIR_TAKEN;
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    struct run_leech *leech = leech_of(conn);
    struct run *run = leech->run;
    uint64_t now_ns = weir_now(weir_conn_shard(conn)), lasted_ns = now_ns - leech->since_ns;
    run_note(run, "leech %u (kind %d, limit %" PRIu64 " ns) ends after %" PRIu64 " ns: %s", leech->index, (int)leech->kind, leech->limit_ns,
             lasted_ns, weir_reason_name(event->reason));
    run->closed++;
    run->undelivered_messages += event->undelivered_messages;
    run->undelivered_bytes += event->undelivered_bytes;
    leech->closed = true;
    run->feats[RUN_LEECH_ENDED]++;
    RUN_CHECK(run, event->reason == reasons[leech->kind], "leech %u (kind %d) was to end with %s, and ended with %s", leech->index,
              (int)leech->kind, weir_reason_name(reasons[leech->kind]), weir_reason_name(event->reason));
    /* (The kernel may still have taken something after the last time that somebody was told.) */
    uint64_t least_ns = leech->kind == RUN_LEECH_DEAF ? leech->opened_ns + leech->limit_ns : leech->since_ns + leech->limit_ns;
    uint64_t most_ns = leech->limit_ns + leech->limit_ns / 64 + WEIR_MILLISECOND + SLACK_NS + run->stalled_ns;
    RUN_CHECK(run, now_ns >= least_ns, "leech %u (kind %d) has ended %" PRIu64 " ns before its limit of %" PRIu64 " ns", leech->index,
              (int)leech->kind, least_ns - now_ns, leech->limit_ns);
    RUN_CHECK(run, lasted_ns <= most_ns, "leech %u (kind %d) has lasted %" PRIu64 " ns, and its limit is %" PRIu64 " ns", leech->index,
              (int)leech->kind, lasted_ns, leech->limit_ns);
}

/* --- its life --- */

void leech_plan(struct run *run, struct run_leech *leech, uint32_t index)
{
    weir_protocol *protocol = &leech->protocol;
    leech->run = run;
    leech->index = index;
    leech->kind = (enum run_leech_kind)run_below(run, RUN_LEECH_KINDS);
    leech->limit_ns = run_magnitude(run, SHORT_NS, LONG_NS);
    weir_codec_frame(&protocol->codec, NULL);
    protocol->user = leech;
    protocol->on_open = on_open;
    protocol->on_message = on_message;
    protocol->on_ready = push;
    protocol->on_close = on_close;
    protocol->limits.message_ns = WEIR_FOREVER;
    protocol->limits.high_water_bytes = 4096; /* (it is told of nearly every byte that the kernel takes) */
    uint64_t *const limits[RUN_LEECH_KINDS] = {
        [RUN_LEECH_SILENT] = &protocol->limits.first_ns,    [RUN_LEECH_IDLE] = &protocol->limits.idle_ns,
        [RUN_LEECH_DRIBBLE] = &protocol->limits.message_ns, [RUN_LEECH_DEAF] = &protocol->limits.slow_peer.stalled_ns_max,
        [RUN_LEECH_STAYS] = &protocol->limits.drain_ns,
    };
    *limits[leech->kind] = leech->limit_ns;
}

void leech_start(struct run *run)
{
    for (uint32_t i = 0; i < run->plan.leech_count; i++) {
        struct run_leech *leech = &run->leeches[i];
        struct sockaddr_in *socket = (struct sockaddr_in *)&leech->address.socket.storage;
        char text[64];
        weir_error error;
        *socket = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons((uint16_t)(FIRST_PORT + i)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        leech->address.bytes = sizeof *socket;
        snprintf(text, sizeof text, "tcp://127.0.0.1:%" PRIu32, FIRST_PORT + i);
        int code = weir_listen(run->runtime, text, &leech->protocol, NULL, NULL, &error);
        RUN_CHECK(run, code == 0, "listening: %s", error.sentence);
        weir_sim_schedule(run->world, run_magnitude(run, 0, 100 * WEIR_MILLISECOND), act, leech);
    }
}

bool leech_all_done(const struct run *run)
{
    for (uint32_t i = 0; i < run->plan.leech_count; i++)
        if (!run->leeches[i].closed)
            return false;
    return true;
}

void leech_finish(struct run *run)
{
    for (uint32_t i = 0; i < run->plan.leech_count; i++)
        weir_sim_peer_close(&run->leeches[i].peer);
}
