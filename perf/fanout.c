/* SPDX-License-Identifier: MIT */
/* fanout: the command `weir-perf fanout`: one publisher, many members of one group: how many deliveries a second, and what does each cost?
 *
 * Road:    runtime and members (crowd.c, a process of their own) → each says hello and joins the group → publish → measure → stop → count what arrived.
 *          The publisher sends batches while less than CROWD_BATCHES of them are under way for each member that reads, so nobody comes to the
 *          high-water mark but who never reads. It is a function on shard 0 that posts itself (--way local) or a thread with a port of its own (--way port).
 *          With --rate it sends single messages by the clock, stamped with the time they were due.
 * Ditches: no room for a group's message → again in the next turn, or when the port says so; a member that reads was refused, or misses
 *          something → counted, exit 1. */
#include "command.h"
#include "crowd.h"
#include "flight.h"
#include "message.h"
#include "option.h"
#include "process.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <weir/weir.h>

#define FANOUT_PATIENCE_NS      (10 * WEIR_SECOND)
#define FANOUT_PAUSE_NS         (20 * WEIR_MICROSECOND) /* of a thread that finds too much under way */
#define FANOUT_MEMORY_BYTES     (512u << 20)
#define FANOUT_MEMBER_BYTES     (128u << 10) /* of memory for each: what waits for one lies in blocks of up to 64 KiB */
#define FANOUT_HIGH_WATER_LEAST (256u << 10) /* weir's default */
#define FANOUT_HIGH_WATER_MOST  (256u << 20)

enum {
    FANOUT_SHARDS = 256,
    FANOUT_WAY,
    FANOUT_FRAMING,
};

static const struct argp_option fanout_options[] = {
    {"shards", FANOUT_SHARDS, "N", 0, "shards, on the first cores; the members' process has the second (1)", 1},
    {"way", FANOUT_WAY, "WAY", 0, "local: a function on a shard publishes; port: a thread (local)", 1},
    {"framing", FANOUT_FRAMING, "KIND", 0, "what the members speak: frame or websocket (frame)", 1},
    {0},
};

static const char fanout_help[] =
    "Publishes to a group of weir's and measures what arrives.\v"
    "Use it to know how many receivers a group of weir's can have, and what each costs. There is nothing to connect to: what is measured "
    "is the publisher, a runtime in this process, and its receivers are plain sockets in a process that it starts. To measure receivers of "
    "your own, publish from a program of your own.\n\n"
    "Deliveries are messages that arrived at members that read; those that never read (--slow) count nowhere. CPU is that of this process; "
    "the "
    "members are another. perf/run --only fanout runs this beside fanout-blast, which sends ready batches and nothing else.\n\n"
    "The exit code is 0 when each message arrived at each member that reads, as it was and (with --check or --rate) in order, 1 when not, "
    "2 when an option is "
    "wrong.";

struct fanout {
    struct crowd_plan plan;
    struct crowd_result *result;
    uint32_t shards;
    bool by_port;
    uint8_t *payload;
    weir_protocol protocol;
    weir_runtime *runtime;
    weir_group group;
    weir_port *port; /* the thread's; else of the main thread, to start the publisher */
    weir_id slow[CROWD_SLOW_MOST];
    uint64_t under_way_max; /* bytes; publish only below it */
    uint64_t frame_bytes;   /* of a message, as it goes out */
    uint64_t before_bytes;  /* that had gone out before the first of them */
    _Atomic uint32_t joined_count, slow_count;
    atomic_int error; /* the first that should not have been */
    atomic_bool stopping;
    atomic_bool stopped; /* the publisher has seen that */
    /* The publisher's. */
    alignas(64) uint64_t published_count;
    uint64_t begun_ns;
    /* The main thread's. */
    uint64_t late_finds;
};

static error_t fanout_parse(int key, char *text, struct argp_state *state)
{
    struct fanout *fanout = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &fanout->plan;
        return 0;
    case FANOUT_SHARDS:
        fanout->shards = (uint32_t)option_count(state, "--shards", text, 1, 64);
        return 0;
    case FANOUT_WAY:
        fanout->by_port = option_choice(state, "--way", text, (const char *const[]){"local", "port", NULL}) == 1;
        return 0;
    case FANOUT_FRAMING:
        fanout->plan.framing =
            (enum wire_framing)option_choice(state, "--framing", text, (const char *const[]){"frame", "websocket", NULL});
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void fanout_fail(struct fanout *fanout, int error)
{
    int none = 0;
    atomic_compare_exchange_strong(&fanout->error, &none, error);
}

/* --- members --- */

static struct fanout *fanout_of(weir_shard *shard)
{
    return weir_runtime_user(weir_shard_runtime(shard));
}

static int fanout_hello(weir_conn *conn, const weir_message *message)
{
    weir_shard *shard = weir_conn_shard(conn);
    struct fanout *fanout = fanout_of(shard);
    weir_id id = weir_conn_id(conn);
    int error = weir_group_join(weir_shard_port(shard), fanout->group, id);
    if (error != 0) {
        fanout_fail(fanout, error);
        return error;
    }
    if (message->data[0] == WIRE_SLOW)
        fanout->slow[atomic_fetch_add(&fanout->slow_count, 1) % CROWD_SLOW_MOST] = id;
    atomic_fetch_add(&fanout->joined_count, 1);
    return WEIR_TAKEN;
}

/* --- the publisher --- */

/* Bytes published for those that read and not taken by the kernel: queued, or on their way to their shards. */
static uint64_t fanout_under_way(const struct fanout *fanout)
{
    weir_stats stats;
    weir_runtime_stats(fanout->runtime, &stats);
    for (uint32_t i = 0; i < fanout->plan.slow_count; i++) {
        weir_conn_stats slow;
        if (weir_conn_stats_get(fanout->runtime, fanout->slow[i], &slow) == 0)
            stats.bytes_out -= slow.bytes_out;
    }
    return fanout->published_count * fanout->plan.member_count * fanout->frame_bytes - (stats.bytes_out - fanout->before_bytes);
}

/* False: no room now. */
static bool fanout_send(struct fanout *fanout, weir_port *port, uint64_t stamp_ns)
{
    message_put(fanout->payload, MESSAGE_SEQUENCE_AT - MESSAGE_HEAD_BYTES, fanout->published_count);
    message_put(fanout->payload, MESSAGE_STAMP_AT - MESSAGE_HEAD_BYTES, stamp_ns);
    int error = weir_group_send(port, fanout->group, fanout->payload, fanout->plan.message_bytes, (weir_id){0});
    if (error == 0)
        fanout->published_count++;
    else if (error != -EAGAIN)
        fanout_fail(fanout, error);
    return error == 0;
}

/* As many batches as may be under way. False: there was no room for all of them. */
static bool fanout_pour(struct fanout *fanout, weir_port *port)
{
    uint64_t batch_bytes = fanout->under_way_max / CROWD_BATCHES;
    for (uint64_t bytes = fanout_under_way(fanout); bytes < fanout->under_way_max; bytes += batch_bytes)
        for (uint32_t i = 0; i < fanout->plan.batch_count; i++)
            if (!fanout_send(fanout, port, 0))
                return false;
    return true;
}

/* What is to be published now. False: there was no room for all of it. */
static bool fanout_publish(struct fanout *fanout, weir_port *port)
{
    if (fanout->plan.rate == 0)
        return fanout_pour(fanout, port);
    uint64_t now_ns = process_now_ns();
    if (fanout->begun_ns == 0)
        fanout->begun_ns = now_ns;
    for (;;) {
        uint64_t due_ns = fanout->begun_ns + (uint64_t)((double)fanout->published_count * 1e9 / (double)fanout->plan.rate);
        if (due_ns > now_ns)
            return true;
        if (!fanout_send(fanout, port, due_ns))
            return false;
    }
}

static void fanout_turn(weir_shard *shard, void *user)
{
    struct fanout *fanout = user;
    weir_port *port = weir_shard_port(shard);
    if (atomic_load_explicit(&fanout->stopping, memory_order_relaxed)) {
        atomic_store(&fanout->stopped, true);
        return;
    }
    fanout_publish(fanout, port);
    int error = weir_post(port, shard, fanout_turn, fanout);
    if (error != 0)
        fanout_fail(fanout, error);
}

static void fanout_pause(uint64_t pause_ns)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)pause_ns}, NULL);
}

static void *fanout_thread(void *user)
{
    struct fanout *fanout = user;
    weir_port_event event;
    while (!atomic_load_explicit(&fanout->stopping, memory_order_relaxed)) {
        uint64_t before = fanout->published_count;
        weir_port_cork(fanout->port);
        bool room = fanout_publish(fanout, fanout->port);
        weir_port_uncork(fanout->port);
        while (weir_port_next(fanout->port, &event))
            ;
        if (!room)
            weir_port_wait(fanout->port, WEIR_MILLISECOND);
        else if (fanout->published_count == before)
            fanout_pause(FANOUT_PAUSE_NS);
    }
    weir_port_flush(fanout->port, WEIR_SECOND);
    atomic_store(&fanout->stopped, true);
    return NULL;
}

/* --- the program --- */

static void *fanout_run(void *user)
{
    struct fanout *fanout = user;
    int error = weir_run(fanout->runtime);
    if (error != 0)
        fanout_fail(fanout, error);
    return NULL;
}

/* More than can ever be under way, should it all be one member's: who reads is never refused. */
static uint32_t fanout_high_water(const struct fanout *fanout)
{
    uint64_t batch_bytes = (uint64_t)fanout->plan.batch_count * (MESSAGE_HEAD_BYTES + fanout->plan.message_bytes);
    uint64_t bytes = fanout->under_way_max + 2 * batch_bytes * fanout->plan.member_count;
    return bytes < FANOUT_HIGH_WATER_LEAST  ? FANOUT_HIGH_WATER_LEAST
           : bytes > FANOUT_HIGH_WATER_MOST ? FANOUT_HIGH_WATER_MOST
                                            : (uint32_t)bytes;
}

static int fanout_open(struct fanout *fanout, char *address, weir_error *error)
{
    uint32_t everybody = fanout->plan.member_count + fanout->plan.slow_count;
    weir_config config = {.shards = fanout->shards,
                          .pin = true,
                          .connections = everybody + 16,
                          .memory_bytes = FANOUT_MEMORY_BYTES + (uint64_t)everybody * FANOUT_MEMBER_BYTES,
                          .stop_ns = FANOUT_PATIENCE_NS,
                          .user = fanout};
    weir_listener listener;
    static const weir_websocket_options web = {.kind = WEIR_WEBSOCKET_BINARY};
    struct wire wire;
    wire_init(&wire, fanout->plan.framing, fanout->plan.message_bytes);
    fanout->frame_bytes = wire.frame_bytes;
    if (fanout->plan.framing == WIRE_WEBSOCKET)
        weir_codec_websocket(&fanout->protocol.codec, &web);
    else
        weir_codec_frame(&fanout->protocol.codec, NULL);
    fanout->protocol.on_message = fanout_hello;
    fanout->protocol.limits.high_water_bytes = fanout_high_water(fanout);
    int result = weir_open(&config, &fanout->runtime, error);
    if (result == 0)
        result = weir_listen(fanout->runtime, "tcp://127.0.0.1:0", &fanout->protocol, NULL, &listener, error);
    if (result == 0)
        result = weir_listener_address(fanout->runtime, listener, address, WEIR_ADDRESS_MAX_BYTES);
    if (result == 0)
        result = weir_group_open(fanout->runtime, &fanout->group);
    if (result == 0)
        result = weir_port_open(fanout->runtime, NULL, &fanout->port, error);
    return result;
}

static bool fanout_wait(const _Atomic uint32_t *count, uint32_t wanted)
{
    uint64_t deadline_ns = process_now_ns() + FANOUT_PATIENCE_NS;
    while (atomic_load(count) < wanted && process_now_ns() < deadline_ns)
        fanout_pause(WEIR_MILLISECOND);
    return atomic_load(count) >= wanted;
}

/* Publishes while the crowd measures. */
static void fanout_measure(struct fanout *fanout, struct crowd *crowd)
{
    pthread_t thread;
    weir_stats before, after;
    weir_runtime_stats(fanout->runtime, &before);
    fanout->before_bytes = before.bytes_out;
    int error = fanout->by_port ? -pthread_create(&thread, NULL, fanout_thread, fanout)
                                : weir_post(fanout->port, weir_shard_at(fanout->runtime, 0), fanout_turn, fanout);
    if (error != 0) {
        fanout_fail(fanout, error);
        return;
    }
    crowd_warm_up(crowd);
    weir_runtime_stats(fanout->runtime, &before);
    crowd_measure(crowd, fanout->result);
    weir_runtime_stats(fanout->runtime, &after);
    atomic_store(&fanout->stopping, true);
    uint64_t deadline_ns = process_now_ns() + FANOUT_PATIENCE_NS;
    while (!atomic_load(&fanout->stopped) && process_now_ns() < deadline_ns)
        fanout_pause(WEIR_MILLISECOND);
    if (fanout->by_port)
        pthread_join(thread, NULL);
    if (after.sends > before.sends)
        fanout->result->mean_batch = (double)(after.messages_out - before.messages_out) / (double)(after.sends - before.sends);
}

/* On each shard: those that never read would keep the runtime from stopping. */
static void fanout_cut(weir_shard *shard, void *user)
{
    const struct fanout *fanout = user;
    for (uint32_t i = 0; i < fanout->plan.slow_count; i++) {
        weir_conn *slow = weir_find(shard, fanout->slow[i]);
        if (slow != NULL)
            weir_abort(slow);
    }
}

/* What members that read missed for lack of room. */
static uint64_t fanout_refused(const struct fanout *fanout)
{
    weir_group_stats group = {0};
    weir_group_stats_get(fanout->runtime, fanout->group, &group);
    for (uint32_t i = 0; i < fanout->plan.slow_count; i++) {
        weir_conn_stats slow;
        if (weir_conn_stats_get(fanout->runtime, fanout->slow[i], &slow) == 0)
            group.refused -= slow.refusals < group.refused ? slow.refusals : group.refused;
    }
    return group.refused;
}

static void fanout_go(struct fanout *fanout, struct crowd *crowd, const char *address)
{
    pthread_t runner;
    if (pthread_create(&runner, NULL, fanout_run, fanout) != 0) {
        fanout_fail(fanout, -EAGAIN);
        return;
    }
    if (!crowd_connect(crowd, address))
        fanout_fail(fanout, -ECONNABORTED);
    else if (!fanout_wait(&fanout->joined_count, fanout->plan.member_count + fanout->plan.slow_count))
        fanout_fail(fanout, -ETIMEDOUT);
    else
        fanout_measure(fanout, crowd);
    fanout->result->refused_count = fanout_refused(fanout);
    fanout->result->published_count = fanout->published_count;
    crowd_expect_end(crowd);
    for (uint32_t i = 0; i < fanout->shards; i++)
        weir_post(fanout->port, weir_shard_at(fanout->runtime, i), fanout_cut, fanout);
    weir_port_flush(fanout->port, FANOUT_PATIENCE_NS);
    weir_stop(fanout->runtime);
    pthread_join(runner, NULL);
}

/* 0, or the first error, told. */
static int fanout_whole(struct fanout *fanout, struct crowd **crowd)
{
    char address[WEIR_ADDRESS_MAX_BYTES];
    weir_error error = {.sentence = ""};
    weir_stats stats;
    int result = fanout_open(fanout, address, &error);
    if (result == 0) {
        fanout_go(fanout, *crowd, address);
        weir_runtime_stats(fanout->runtime, &stats);
        fanout->late_finds = stats.late_finds;
        result = atomic_load(&fanout->error);
    }
    weir_port_close(&fanout->port);
    weir_close(&fanout->runtime);
    crowd_stop(crowd, fanout->result);
    if (result != 0)
        fprintf(stderr, "weir-perf: %s\n", error.sentence[0] != '\0' ? error.sentence : weir_strerror(result));
    return result;
}

int fanout_command(int argc, char **argv)
{
    static const struct argp_child children[] = {{.argp = &crowd_argp}, {0}};
    static const struct argp argp = {.options = fanout_options, .parser = fanout_parse, .doc = fanout_help, .children = children};
    static struct crowd_result result;
    static struct fanout fanout;
    fanout.shards = 1;
    fanout.result = &result;
    if (!crowd_plan_init(&fanout.plan))
        return 1;
    argp_parse(&argp, argc, argv, 0, NULL, &fanout);
    result.way = fanout.by_port ? "port" : "local";
    fanout.under_way_max =
        (uint64_t)CROWD_BATCHES * fanout.plan.member_count * fanout.plan.batch_count * (fanout.plan.message_bytes + MESSAGE_HEAD_BYTES);
    uint8_t *frame = malloc(MESSAGE_FILLER_AT + fanout.plan.message_bytes);
    if (frame == NULL) {
        fprintf(stderr, "weir-perf: no memory for a message\n");
        return 1;
    }
    message_make(frame, 0, fanout.plan.message_bytes);
    fanout.payload = frame + MESSAGE_HEAD_BYTES;
    struct crowd *crowd = crowd_start(&fanout.plan);
    int error = fanout_whole(&fanout, &crowd);
    free(frame);
    if (error != 0)
        return 1;
    crowd_print(&fanout.plan, &result);
    if (fanout.late_finds > 0)
        fprintf(stderr, "weir-perf: %" PRIu64 " late finds: a shard found work that nobody had rung for\n", fanout.late_finds);
    return crowd_judge(&result) != 0 || fanout.late_finds > 0;
}
