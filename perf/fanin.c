/* SPDX-License-Identifier: MIT */
/* fanin: the command `weir-perf fanin`: P threads share connections of a weir runtime, each through a port: by own channels, or by the port
 * itself; or a shard sends all of it (fanin_shard.c). What is not weir's is in crew.c, and the same for the peers.
 *
 * Road:    open a runtime → its shards dial the sink → each thread opens its port and its channels → send → close them → end the
 *          connections → stop.
 * Ditches: no room → wait for it, collect the port's events, send again, or with --refuse drop the message; anything else ends the
 *          program with weir's own sentence. */
#include "fanin.h"

#include "command.h"
#include "option.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <weir/weir.h>

#define FANIN_CHANNELS_MOST       65536 /* as many as config.channels can be */
#define FANIN_CHANNELS_PACED      1024  /* with a rate: more of them would be much memory for little on each */
#define FANIN_IDLE_CHANNEL_BYTES  4096
#define FANIN_CHANNEL_MANY_BYTES  65536 /* as much as an own channel of weir's choice holds at the most, when there are many */
#define FANIN_CHANNEL_LEAST_BYTES 4096
#define FANIN_CHANNELS_BYTES      (UINT64_C(256) * 1024 * 1024) /* of all own channels, or as little over it as can be */
#define FANIN_PORT_BYTES          (UINT64_C(16) * 1024 * 1024)
#define FANIN_CONNECTION_BYTES    (UINT64_C(512) * 1024) /* queued on one at most, its high-water mark and more */
#define FANIN_LONG_TURN_NS        (WEIR_SECOND / 4)      /* the shard shares its core with producers */
#define FANIN_PATIENCE_NS         (60 * WEIR_SECOND)     /* for a slow sink to take what was accepted */

struct fanin fanin = {.shard_count = 1};

_Noreturn void fanin_die(const char *what, int result)
{
    char text[256];
    snprintf(text, sizeof text, "%s: %s", what, weir_strerror(result));
    crew_die(fanin.crew, text, 0);
}

void *fanin_array(size_t count, size_t bytes)
{
    void *array = calloc(count, bytes);
    if (array == NULL && count > 0)
        crew_die(fanin.crew, "no memory", 0);
    return array;
}

/* --- the connections --- */

static int fanin_on_open(weir_conn *conn)
{
    fanin.ids[(uintptr_t)weir_conn_user(conn)] = weir_conn_id(conn);
    sem_post(&fanin.opened);
    return 0;
}

static void fanin_on_close(weir_conn *conn, const weir_close_event *event)
{
    if (event->reason != WEIR_REASON_LOCAL)
        fprintf(stderr, "weir-perf: a connection ended: %s\n", weir_reason_sentence(event->reason));
    if (weir_conn_id(conn).value != fanin.ids[(uintptr_t)weir_conn_user(conn)].value)
        exit(1); /* it never was open */
    atomic_fetch_add(&fanin.undelivered, event->undelivered_messages);
    sem_post(&fanin.closed);
}

/* The connections are dealt out to the shards in turn. */
static void fanin_on_start(weir_shard *shard)
{
    weir_error error;
    for (uint32_t i = weir_shard_index(shard); i < fanin.crew->plan.connection_count; i += fanin.shard_count) {
        const weir_dial_options options = {.user = (void *)(uintptr_t)i};
        if (weir_dial(shard, fanin.crew->plan.text, &fanin.protocol, &options, NULL, &error) != 0)
            crew_die(fanin.crew, error.sentence, 0);
    }
}

static void *fanin_shards(void *unused)
{
    (void)unused;
    int result = weir_run(fanin.runtime);
    if (result != 0)
        fanin_die("weir_run", result);
    return NULL;
}

/* --- ports --- */

static weir_port *fanin_port(uint32_t channel_count)
{
    weir_port_options options = {.channels = channel_count};
    weir_port *port;
    weir_error error;
    if (weir_port_open(fanin.runtime, &options, &port, &error) != 0)
        crew_die(fanin.crew, error.sentence, 0);
    return port;
}

/* Collects what has come back. All of it but news of room is bad news. */
static void fanin_collect(weir_port *port)
{
    weir_port_event event;
    while (weir_port_next(port, &event))
        if (event.kind == WEIR_PORT_UNDELIVERED || event.kind == WEIR_PORT_CHANNEL_ENDED)
            fanin_die("messages came back", event.error);
}

static weir_channel *fanin_channel(weir_port *port, weir_id id, uint32_t bytes)
{
    weir_channel_options options = {.bytes = bytes};
    weir_channel *channel;
    int result;
    while ((result = weir_channel_open(port, id, &options, &channel)) == -EAGAIN) {
        weir_port_wait(port, WEIR_SECOND);
        fanin_collect(port);
    }
    if (result != 0)
        fanin_die("weir_channel_open", result);
    return channel;
}

static void fanin_port_end(weir_port **port)
{
    int result;
    while ((result = weir_port_flush(*port, FANIN_PATIENCE_NS)) == -ENOBUFS)
        fanin_collect(*port);
    if (result != 0)
        fanin_die("weir_port_flush", result);
    fanin_collect(*port);
    weir_port_close(port);
}

/* --- producers --- */

static void fanin_channel_full(weir_port *port, weir_channel *channel)
{
    int result = weir_channel_wait(channel, WEIR_SECOND);
    if (result != 0 && result != -ETIMEDOUT)
        fanin_die("weir_channel_wait", result);
    fanin_collect(port);
}

/* False: it was full, and was not to wait. */
static inline bool fanin_channel_send(weir_port *port, weir_channel *channel, const uint8_t *payload, uint32_t bytes)
{
    int result;
    while ((result = weir_channel_send(channel, payload, bytes)) == -EAGAIN) {
        if (fanin.crew->plan.refuse) {
            fanin_collect(port);
            return false;
        }
        fanin_channel_full(port, channel);
    }
    if (result != 0)
        fanin_die("weir_channel_send", result);
    return true;
}

/* How many were not sent. */
static uint32_t fanin_channel_batch(weir_port *port, weir_channel *channel, const struct producer *producer, const uint8_t *frame)
{
    uint32_t refused_count = 0;
    for (uint32_t i = 0; i < producer->batch_count; i++) {
        int result;
        while ((result = weir_channel_put(channel, frame + MESSAGE_HEAD_BYTES, producer->message_bytes)) == -EAGAIN &&
               !fanin.crew->plan.refuse)
            fanin_channel_full(port, channel);
        refused_count += result == -EAGAIN;
        if (result != 0 && result != -EAGAIN)
            fanin_die("weir_channel_put", result);
        frame += producer->frame_bytes;
    }
    weir_channel_publish(channel);
    if (refused_count > 0)
        fanin_collect(port);
    return refused_count;
}

static void fanin_count_channel(struct fanin_count *count, const weir_channel *channel)
{
    weir_channel_stats stats;
    weir_channel_stats_get(channel, &stats);
    count->rings += stats.rings;
    count->refusals += stats.refusals;
}

static void fanin_count_port(struct fanin_count *count, const weir_port *port)
{
    weir_port_stats stats;
    weir_port_stats_get(port, &stats);
    count->wakes += stats.wakes;
    count->publishes += stats.publishes;
    count->refusals += stats.refusals;
}

static void fanin_produce_by_channel(struct producer *producer)
{
    struct fanin_count *count = &fanin.counts[producer->number];
    weir_port *port = fanin_port(producer->connection_count);
    weir_channel **channels = fanin_array(producer->connection_count, sizeof(weir_channel *));
    const uint8_t *frames;
    for (uint32_t i = 0; i < producer->connection_count; i++)
        channels[i] = fanin_channel(port, fanin.ids[i], fanin.channel_bytes);
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        weir_channel *channel = channels[producer->connection];
        if (producer->batch_count == 1)
            producer_sent(producer, !fanin_channel_send(port, channel, frames + MESSAGE_HEAD_BYTES, producer->message_bytes));
        else
            producer_sent(producer, fanin_channel_batch(port, channel, producer, frames));
    }
    for (uint32_t i = 0; i < producer->connection_count; i++) {
        fanin_count_channel(count, channels[i]);
        weir_channel_close(&channels[i]);
    }
    fanin_count_port(count, port);
    fanin_port_end(&port);
    free(channels);
}

/* False: there was no room, and it was not to wait. */
static bool fanin_port_send(weir_port *port, weir_id id, const uint8_t *payload, uint32_t bytes)
{
    int result = weir_port_send(port, id, payload, bytes);
    while (result == -EAGAIN || result == -ETIMEDOUT || result == -ENOBUFS) {
        fanin_collect(port);
        if (fanin.crew->plan.refuse)
            return false;
        result = weir_port_send_wait(port, id, payload, bytes, WEIR_SECOND);
    }
    if (result != 0)
        fanin_die("weir_port_send", result);
    return true;
}

static void fanin_produce_by_port(struct producer *producer)
{
    weir_port *port = fanin_port(0);
    const uint8_t *frame;
    producer_ready(producer);
    while ((frame = producer_next(producer)) != NULL) {
        weir_id id = fanin.ids[producer->connection];
        uint32_t refused_count = 0;
        if (producer->batch_count > 1)
            weir_port_cork(port);
        for (uint32_t i = 0; i < producer->batch_count; i++, frame += producer->frame_bytes)
            refused_count += !fanin_port_send(port, id, frame + MESSAGE_HEAD_BYTES, producer->message_bytes);
        if (producer->batch_count > 1)
            weir_port_uncork(port);
        producer_sent(producer, refused_count);
    }
    fanin_count_port(&fanin.counts[producer->number], port);
    fanin_port_end(&port);
}

static void fanin_produce(struct producer *producer)
{
    if (fanin.crew->plan.way == FANIN_BY_SHARD)
        fanin_shard_produce(producer);
    else if (fanin.crew->plan.way == FANIN_BY_PORT)
        fanin_produce_by_port(producer);
    else
        fanin_produce_by_channel(producer);
}

/* --- those that are idle --- */

static void fanin_open_idle(void)
{
    fanin.idle_ports = fanin_array(fanin.idle_port_count + 1, sizeof *fanin.idle_ports);
    fanin.idle_channels = fanin_array(fanin.idle_channel_count + 1, sizeof *fanin.idle_channels);
    fanin.main_port = fanin_port(fanin.idle_channel_count);
    for (uint32_t i = 0; i < fanin.idle_port_count; i++)
        fanin.idle_ports[i] = fanin_port(0);
    for (uint32_t i = 0; i < fanin.idle_channel_count; i++)
        fanin.idle_channels[i] = fanin_channel(fanin.main_port, fanin.ids[0], FANIN_IDLE_CHANNEL_BYTES);
}

/* Each that will be idle sends one message first, so that its rings are there and the shard knows it. */
static void fanin_touch(struct crew *crew)
{
    uint8_t frame[MESSAGE_HEAD_BYTES + MESSAGE_BYTES_MOST];
    uint32_t bytes = crew->plan.message_bytes;
    uint32_t number = crew->plan.producer_count;
    for (uint32_t i = 0; i < fanin.idle_port_count; i++) {
        message_make(frame, number++, bytes);
        fanin_port_send(fanin.idle_ports[i], fanin.ids[0], frame + MESSAGE_HEAD_BYTES, bytes);
    }
    for (uint32_t i = 0; i < fanin.idle_channel_count; i++) {
        message_make(frame, number++, bytes);
        fanin_channel_send(fanin.main_port, fanin.idle_channels[i], frame + MESSAGE_HEAD_BYTES, bytes);
    }
    crew->extra_messages = number - crew->plan.producer_count;
}

static void fanin_close_idle(void)
{
    for (uint32_t i = 0; i < fanin.idle_channel_count; i++)
        weir_channel_close(&fanin.idle_channels[i]);
    for (uint32_t i = 0; i < fanin.idle_port_count; i++)
        fanin_port_end(&fanin.idle_ports[i]);
    free(fanin.idle_channels);
    free(fanin.idle_ports);
}

/* --- the side --- */

static void fanin_log(void *unused, weir_log_level level, const char *sentence)
{
    (void)unused;
    (void)level;
    fprintf(stderr, "weir-perf: %s\n", sentence);
}

/* The header recommends own channels for those with a lot to say to one connection, and ports for a little to many. */
static enum fanin_way fanin_auto(const struct crew_plan *plan, uint64_t channel_count)
{
    bool little = plan->rate > 0 && channel_count > FANIN_CHANNELS_PACED;
    return little || channel_count + fanin.idle_channel_count > FANIN_CHANNELS_MOST ? FANIN_BY_PORT : FANIN_BY_CHANNEL;
}

/* 0, weir's own choice; of very many channels the largest with which all fit. One holds four messages at least. */
static uint32_t fanin_channel_usual(const struct crew_plan *plan, uint64_t channel_count)
{
    uint32_t bytes = FANIN_CHANNEL_MANY_BYTES;
    uint32_t least_bytes = 4 * (MESSAGE_HEAD_BYTES + plan->message_bytes);
    if (channel_count * bytes * 5 / 4 <= FANIN_CHANNELS_BYTES)
        return 0;
    while (bytes / 2 >= FANIN_CHANNEL_LEAST_BYTES && bytes / 2 >= least_bytes && channel_count * bytes * 5 / 4 > FANIN_CHANNELS_BYTES)
        bytes /= 2;
    return bytes;
}

/* Which way, and what the runtime needs for it: room for all that may be open and queued at once. */
static weir_config fanin_config(struct crew_plan *plan)
{
    uint64_t channel_count = (uint64_t)plan->producer_count * plan->connection_count;
    bool idle = fanin.idle_port_count + fanin.idle_channel_count > 0;
    if (plan->way == FANIN_AUTO)
        plan->way = fanin_auto(plan, channel_count);
    if (plan->way == FANIN_BY_SHARD && (fanin.shard_count != 1 || idle))
        crew_die(fanin.crew, "--way shard wants --shards 1, and neither idle ports nor idle channels", 0);
    if (plan->way != FANIN_BY_CHANNEL)
        channel_count = 0;
    if (channel_count + fanin.idle_channel_count > FANIN_CHANNELS_MOST)
        crew_die(fanin.crew, "there can be 65,536 own channels at most: --way port, fewer producers or fewer connections", 0);
    if (fanin.channel_bytes == 0)
        fanin.channel_bytes = fanin_channel_usual(plan, channel_count);
    channel_count += fanin.idle_channel_count;
    uint64_t ring_bytes = fanin.channel_bytes != 0 ? fanin.channel_bytes : FANIN_CHANNEL_MANY_BYTES;
    uint64_t mine_bytes = UINT64_C(2) * ring_bytes * plan->connection_count;
    uint64_t idle_bytes = UINT64_C(2) * FANIN_IDLE_CHANNEL_BYTES * fanin.idle_channel_count;
    return (weir_config){.shards = fanin.shard_count,
                         .spin_ns = fanin.spin_ns,
                         .connections = plan->connection_count + 1,
                         .dials = plan->connection_count < 1024 ? 1024 : plan->connection_count,
                         .ports = plan->producer_count + fanin.idle_port_count + 1,
                         .channels = (uint32_t)channel_count + (channel_count == 0),
                         .memory_bytes = UINT64_C(64) * 1024 * 1024 + FANIN_CONNECTION_BYTES * plan->connection_count,
                         .port_bytes = FANIN_PORT_BYTES + mine_bytes + idle_bytes,
                         .long_turn_ns = FANIN_LONG_TURN_NS,
                         .log = fanin_log,
                         .log_level = WEIR_LOG_WARNING,
                         .on_start = fanin_on_start};
}

static void fanin_await(sem_t *semaphore)
{
    for (uint32_t i = 0; i < fanin.crew->plan.connection_count; i++)
        while (sem_wait(semaphore) != 0 && errno == EINTR)
            ;
}

static void fanin_open(struct crew *crew)
{
    fanin.crew = crew;
    weir_config config = fanin_config(&crew->plan);
    bool by_shard = crew->plan.way == FANIN_BY_SHARD;
    weir_error error;
    fanin.protocol = (weir_protocol){.name = "fanin",
                                     .limits = {.drain_ns = FANIN_PATIENCE_NS},
                                     .on_open = fanin_on_open,
                                     .on_ready = by_shard ? fanin_shard_on_ready : NULL,
                                     .on_close = fanin_on_close};
    weir_codec_frame(&fanin.protocol.codec, NULL);
    fanin.ids = fanin_array(crew->plan.connection_count, sizeof *fanin.ids);
    fanin.counts = fanin_array(crew->plan.producer_count, sizeof *fanin.counts);
    sem_init(&fanin.opened, 0, 0);
    sem_init(&fanin.closed, 0, 0);
    if (weir_open(&config, &fanin.runtime, &error) != 0)
        crew_die(crew, error.sentence, 0);
    if (by_shard)
        fanin_shard_open();
    int result = pthread_create(&fanin.thread, NULL, by_shard ? fanin_shard_run : fanin_shards, NULL);
    if (result != 0)
        crew_die(crew, "a thread", result);
    fanin_await(&fanin.opened);
    fanin_open_idle();
}

static uint64_t fanin_sends(struct crew *crew)
{
    (void)crew;
    weir_stats stats;
    weir_runtime_stats(fanin.runtime, &stats);
    return stats.sends;
}

static void fanin_close(struct crew *crew)
{
    fanin_close_idle();
    for (uint32_t i = 0; i < crew->plan.connection_count; i++) {
        int result;
        while ((result = weir_port_end(fanin.main_port, fanin.ids[i])) == -EAGAIN)
            weir_port_flush(fanin.main_port, WEIR_SECOND);
        if (result != 0)
            fanin_die("weir_port_end", result);
    }
    fanin_await(&fanin.closed);
    weir_port_close(&fanin.main_port);
    weir_stop(fanin.runtime);
    pthread_join(fanin.thread, NULL);
    weir_runtime_stats(fanin.runtime, &fanin.stats);
    weir_close(&fanin.runtime);
    fanin_shard_close();
    free(fanin.ids);
    if (atomic_load(&fanin.undelivered) > 0)
        crew_die(crew, "a connection ended with messages undelivered", 0);
}

static void fanin_print(const struct crew *crew, bool json)
{
    uint64_t wakes = 0, rings = 0, publishes = 0, refusals = 0;
    double messages = (double)crew->result.total_messages;
    char text[REPORT_NUMBER_BYTES];
    for (uint32_t i = 0; i < crew->plan.producer_count; i++) {
        const struct fanin_count *count = &fanin.counts[i];
        wakes += count->wakes;
        publishes += count->publishes;
        rings += count->rings;
        refusals += count->refusals;
    }
    free(fanin.counts);
    if (json) {
        printf(",\"spin_us\":%" PRIu64 ",\"idle_ports\":%u,\"idle_channels\":%u", fanin.spin_ns / 1000, fanin.idle_port_count,
               fanin.idle_channel_count);
        printf(",\"wakes_per_message\":%.5f,\"rings_per_message\":%.5f,\"publishes_per_message\":%.5f,\"no_room\":%" PRIu64,
               (double)wakes / messages, (double)rings / messages, (double)publishes / messages, refusals);
        printf(",\"turns\":%" PRIu64 ",\"sleeps\":%" PRIu64 ",\"late_finds\":%" PRIu64 ",\"short_sends\":%" PRIu64, fanin.stats.turns,
               fanin.stats.sleeps, fanin.stats.late_finds, fanin.stats.short_sends);
        return;
    }
    printf("wakes        %14s  of the shard, each 1,000 messages\n", report_number(text, 1000 * (double)wakes / messages, 2));
    printf("rings        %14s  of a channel, each 1,000 messages\n", report_number(text, 1000 * (double)rings / messages, 2));
    printf("publishes    %14s  of a port, each 1,000 messages\n", report_number(text, 1000 * (double)publishes / messages, 2));
    printf("refusals     %14s  sends that found no room\n", report_number(text, (double)refusals, 0));
    printf("sleeps       %14s  of the shard, ", report_number(text, (double)fanin.stats.sleeps, 0));
    printf("%" PRIu64 " late finds\n", fanin.stats.late_finds);
    printf("short sends  %14s", report_number(text, (double)fanin.stats.short_sends, 0));
    printf("  of %s\n", report_number(text, (double)fanin.stats.sends, 0));
}

/* --- options --- */

enum {
    FANIN_SHARDS = 256,
    FANIN_SPIN_US,
    FANIN_CHANNEL_BYTES,
    FANIN_IDLE_PORTS,
    FANIN_IDLE_CHANNELS,
};

static const struct argp_option fanin_options[] = {
    {0, 0, 0, 0, "weir:", 5},
    {"shards", FANIN_SHARDS, "N", 0, "of the runtime; the connections are dealt out to them in turn (1)", 5},
    {"spin-us", FANIN_SPIN_US, "N", 0, "a shard looks for work so long before it sleeps (0)", 5},
    {"channel-bytes", FANIN_CHANNEL_BYTES, "N", 0, "ring of an own channel (weir's choice, and less when all would not fit 256 MiB)", 5},
    {"idle-ports", FANIN_IDLE_PORTS, "N", 0, "so many more ports, which send one message each and then nothing (0)", 5},
    {"idle-channels", FANIN_IDLE_CHANNELS, "N", 0, "so many more own channels to the first connection, likewise (0)", 5},
    {0},
};

static error_t fanin_parse(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case FANIN_SHARDS:
        fanin.shard_count = (uint32_t)option_count(state, "--shards", text, 1, 64);
        return 0;
    case FANIN_SPIN_US:
        fanin.spin_ns = option_count(state, "--spin-us", text, 0, 1000000) * WEIR_MICROSECOND;
        return 0;
    case FANIN_CHANNEL_BYTES:
        fanin.channel_bytes = (uint32_t)option_count(state, "--channel-bytes", text, 4096, 16777216);
        return 0;
    case FANIN_IDLE_PORTS:
        fanin.idle_port_count = (uint32_t)option_count(state, "--idle-ports", text, 0, 2048);
        return 0;
    case FANIN_IDLE_CHANNELS:
        fanin.idle_channel_count = (uint32_t)option_count(state, "--idle-channels", text, 0, FANIN_CHANNELS_MOST / 2);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char fanin_help[] =
    "Measures how threads share connections: P producers send on each in turn, each through a port of its own.\v"
    "Use it to know what one connection carries that many threads share, and what sharing costs each of them. The sink may be yours "
    "(--connect): any service that reads frames of a 4-byte little-endian length and the payload (perf/message.h), and closes when it has "
    "read to the end.\n\n"
    "--way channel: each producer has an own channel to each connection, for those with a lot to say to few. --way port: each sends "
    "through "
    "its port, for a little to many. --way shard: the shard that has the connections sends all that the producers would, in its turns, as "
    "its handlers do. auto: channels, if there can be so many (65,536), but ports for more than 1,024 of them with --rate. Own channels "
    "cost "
    "memory: their rings and a quarter, for each producer and connection.\n\n"
    "With --refuse a message for a connection that has no room is dropped, and its producer goes on with the next connection; with "
    "--stall one sees what that is worth to the others.\n\n"
    "Without --rate it goes as fast as it can: how many messages a second, and what CPU does one cost? With --rate each message is sent at "
    "its time, and the question is how long a send call takes and how long until the message is there.\n\n"
    "The sink is a process of its own and not counted. Times from end to end are those from the send call to the sink's receive.\n\n"
    "Compare with the peers (build/.../perf/peers/fanin-*) only in alternating runs: perf/run --only ways does that.\n\n"
    "The exit code is 0 when every message came as it was sent, 1 when not, 2 when an option is wrong.";

int fanin_command(int argc, char **argv)
{
    static const struct argp argp = {.options = fanin_options, .parser = fanin_parse};
    static const struct crew_side side = {.name = "weir",
                                          .ways = {"auto", "channel", "port", "shard"},
                                          .help = fanin_help,
                                          .argp = &argp,
                                          .argp_input = &fanin,
                                          .refuses = true,
                                          .open = fanin_open,
                                          .produce = fanin_produce,
                                          .touch = fanin_touch,
                                          .sends = fanin_sends,
                                          .close = fanin_close,
                                          .print = fanin_print};
    return crew_main(argc, argv, &side);
}
