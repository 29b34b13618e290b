/* SPDX-License-Identifier: MIT */
/* fanin: the command `weir-perf fanin`: P threads send on one connection of a weir runtime, each through a port: by an own channel,
 * or by the port itself. What is not weir's is in crew.c, and the same for the peers.
 *
 * Road:    open a runtime of one shard → it dials the sink → each thread opens its port and its channel → send → close them → end
 *          the connection → stop.
 * Ditches: no room → wait for it, collect the port's events, send again; anything else ends the program with weir's own sentence. */
#include "command.h"
#include "crew.h"
#include "option.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdlib.h>
#include <weir/weir.h>

#define FANIN_IDLE_MOST          65536
#define FANIN_IDLE_CHANNEL_BYTES 4096
#define FANIN_PORT_BYTES         (UINT64_C(16) * 1024 * 1024)

/* What a producer's port and channel had to say at their end. */
struct fanin_count {
    weir_port_stats port;
    weir_channel_stats channel;
};

struct fanin {
    bool by_port; /* --way port */
    uint32_t shard_count;
    uint64_t spin_ns;
    uint32_t channel_bytes;
    uint32_t idle_port_count;
    uint32_t idle_channel_count;
    struct crew *crew;
    weir_runtime *runtime;
    weir_protocol protocol;
    pthread_t thread;
    sem_t opened;
    sem_t closed;
    weir_id id; /* the connection's; true once `opened` was posted */
    weir_close_event end;
    struct fanin_count *counts; /* one for each producer */
    weir_port *main_port;       /* of the main thread; has the idle channels */
    weir_port **idle_ports;
    weir_channel **idle_channels;
    weir_stats stats; /* when all was over */
};

static struct fanin fanin = {.shard_count = 1};

static _Noreturn void fanin_die(const char *what, int result)
{
    char text[256];
    snprintf(text, sizeof text, "%s: %s", what, weir_strerror(result));
    crew_die(fanin.crew, text, 0);
}

/* --- the connection --- */

static int fanin_on_open(weir_conn *conn)
{
    fanin.id = weir_conn_id(conn);
    sem_post(&fanin.opened);
    return 0;
}

static void fanin_on_close(weir_conn *conn, const weir_close_event *event)
{
    if (event->reason != WEIR_REASON_LOCAL)
        fprintf(stderr, "weir-perf: the connection ended: %s\n", weir_reason_sentence(event->reason));
    if (weir_conn_id(conn).value != fanin.id.value)
        exit(1); /* it never was open */
    fanin.end = *event;
    sem_post(&fanin.closed);
}

static void fanin_on_start(weir_shard *shard)
{
    weir_error error;
    if (weir_shard_index(shard) == 0 && weir_dial(shard, fanin.crew->plan.text, &fanin.protocol, NULL, NULL, &error) != 0)
        crew_die(fanin.crew, error.sentence, 0);
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

static weir_channel *fanin_channel(weir_port *port, uint32_t bytes)
{
    weir_channel_options options = {.bytes = bytes};
    weir_channel *channel;
    int result;
    while ((result = weir_channel_open(port, fanin.id, &options, &channel)) == -EAGAIN) {
        weir_port_wait(port, WEIR_SECOND);
        fanin_collect(port);
    }
    if (result != 0)
        fanin_die("weir_channel_open", result);
    return channel;
}

static void fanin_port_end(weir_port **port)
{
    int result = weir_port_flush(*port, 5 * WEIR_SECOND);
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

static void fanin_channel_send(weir_port *port, weir_channel *channel, const uint8_t *payload, uint32_t bytes)
{
    int result;
    while ((result = weir_channel_send(channel, payload, bytes)) == -EAGAIN)
        fanin_channel_full(port, channel);
    if (result != 0)
        fanin_die("weir_channel_send", result);
}

static void fanin_channel_batch(weir_port *port, weir_channel *channel, const struct producer *producer, const uint8_t *frame)
{
    for (uint32_t i = 0; i < producer->batch_count; i++) {
        int result;
        while ((result = weir_channel_put(channel, frame + MESSAGE_HEAD_BYTES, producer->message_bytes)) == -EAGAIN)
            fanin_channel_full(port, channel);
        if (result != 0)
            fanin_die("weir_channel_put", result);
        frame += producer->frame_bytes;
    }
    weir_channel_publish(channel);
}

static void fanin_produce_by_channel(struct producer *producer)
{
    struct fanin_count *count = &fanin.counts[producer->number];
    weir_port *port = fanin_port(0);
    weir_channel *channel = fanin_channel(port, fanin.channel_bytes);
    const uint8_t *frames;
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        if (producer->batch_count == 1)
            fanin_channel_send(port, channel, frames + MESSAGE_HEAD_BYTES, producer->message_bytes);
        else
            fanin_channel_batch(port, channel, producer, frames);
        producer_sent(producer);
    }
    weir_channel_stats_get(channel, &count->channel);
    weir_channel_close(&channel);
    weir_port_stats_get(port, &count->port);
    fanin_port_end(&port);
}

static void fanin_port_send(weir_port *port, const uint8_t *payload, uint32_t bytes)
{
    int result = weir_port_send(port, fanin.id, payload, bytes);
    while (result == -EAGAIN || result == -ETIMEDOUT) {
        fanin_collect(port);
        result = weir_port_send_wait(port, fanin.id, payload, bytes, WEIR_SECOND);
    }
    if (result != 0)
        fanin_die("weir_port_send", result);
}

static void fanin_produce_by_port(struct producer *producer)
{
    struct fanin_count *count = &fanin.counts[producer->number];
    weir_port *port = fanin_port(0);
    const uint8_t *frames;
    producer_ready(producer);
    while ((frames = producer_next(producer)) != NULL) {
        if (producer->batch_count > 1)
            weir_port_cork(port);
        for (uint32_t i = 0; i < producer->batch_count; i++)
            fanin_port_send(port, frames + (size_t)i * producer->frame_bytes + MESSAGE_HEAD_BYTES, producer->message_bytes);
        if (producer->batch_count > 1)
            weir_port_uncork(port);
        producer_sent(producer);
    }
    weir_port_stats_get(port, &count->port);
    fanin_port_end(&port);
}

static void fanin_produce(struct producer *producer)
{
    if (fanin.by_port)
        fanin_produce_by_port(producer);
    else
        fanin_produce_by_channel(producer);
}

/* --- those that are idle --- */

static void *fanin_array(size_t count, size_t bytes)
{
    void *array = calloc(count, bytes);
    if (array == NULL && count > 0)
        crew_die(fanin.crew, "no memory", 0);
    return array;
}

static void fanin_open_idle(void)
{
    fanin.idle_ports = fanin_array(fanin.idle_port_count + 1, sizeof *fanin.idle_ports);
    fanin.idle_channels = fanin_array(fanin.idle_channel_count + 1, sizeof *fanin.idle_channels);
    fanin.main_port = fanin_port(fanin.idle_channel_count);
    for (uint32_t i = 0; i < fanin.idle_port_count; i++)
        fanin.idle_ports[i] = fanin_port(0);
    for (uint32_t i = 0; i < fanin.idle_channel_count; i++)
        fanin.idle_channels[i] = fanin_channel(fanin.main_port, FANIN_IDLE_CHANNEL_BYTES);
}

/* Each that will be idle sends one message first, so that its rings are there and the shard knows it. */
static void fanin_touch(struct crew *crew)
{
    uint8_t frame[MESSAGE_HEAD_BYTES + MESSAGE_BYTES_MOST];
    uint32_t bytes = crew->plan.message_bytes;
    uint32_t number = crew->plan.producer_count;
    for (uint32_t i = 0; i < fanin.idle_port_count; i++) {
        message_make(frame, number++, bytes);
        fanin_port_send(fanin.idle_ports[i], frame + MESSAGE_HEAD_BYTES, bytes);
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

static void fanin_open(struct crew *crew)
{
    uint32_t count = crew->plan.producer_count;
    uint64_t idle_bytes = UINT64_C(2) * FANIN_IDLE_CHANNEL_BYTES * fanin.idle_channel_count;
    weir_config config = {.shards = fanin.shard_count,
                          .spin_ns = fanin.spin_ns,
                          .ports = count + fanin.idle_port_count + 1,
                          .channels = count + fanin.idle_channel_count + 1,
                          .port_bytes = FANIN_PORT_BYTES + idle_bytes,
                          .log = fanin_log,
                          .log_level = WEIR_LOG_WARNING,
                          .on_start = fanin_on_start};
    weir_error error;
    fanin.crew = crew;
    fanin.protocol = (weir_protocol){.name = "fanin", .on_open = fanin_on_open, .on_close = fanin_on_close};
    weir_codec_frame(&fanin.protocol.codec, NULL);
    fanin.counts = fanin_array(count, sizeof *fanin.counts);
    sem_init(&fanin.opened, 0, 0);
    sem_init(&fanin.closed, 0, 0);
    if (weir_open(&config, &fanin.runtime, &error) != 0)
        crew_die(crew, error.sentence, 0);
    int result = pthread_create(&fanin.thread, NULL, fanin_shards, NULL);
    if (result != 0)
        crew_die(crew, "a thread", result);
    while (sem_wait(&fanin.opened) != 0 && errno == EINTR)
        ;
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
    int result;
    fanin_close_idle();
    while ((result = weir_port_end(fanin.main_port, fanin.id)) == -EAGAIN)
        weir_port_flush(fanin.main_port, WEIR_SECOND);
    if (result != 0)
        fanin_die("weir_port_end", result);
    while (sem_wait(&fanin.closed) != 0 && errno == EINTR)
        ;
    weir_port_close(&fanin.main_port);
    weir_stop(fanin.runtime);
    pthread_join(fanin.thread, NULL);
    weir_runtime_stats(fanin.runtime, &fanin.stats);
    weir_close(&fanin.runtime);
    if (fanin.end.undelivered_messages > 0)
        crew_die(crew, "the connection ended with messages undelivered", 0);
}

static void fanin_print(const struct crew *crew, bool json)
{
    uint64_t wakes = 0, rings = 0, publishes = 0, refusals = 0;
    double messages = (double)crew->result.total_messages;
    char text[REPORT_NUMBER_BYTES];
    for (uint32_t i = 0; i < crew->plan.producer_count; i++) {
        const struct fanin_count *count = &fanin.counts[i];
        wakes += count->port.wakes;
        publishes += count->port.publishes;
        rings += count->channel.rings;
        refusals += count->port.refusals + count->channel.refusals;
    }
    free(fanin.counts);
    if (json) {
        printf(",\"way\":\"%s\",\"spin_us\":%" PRIu64 ",\"idle_ports\":%u,\"idle_channels\":%u", fanin.by_port ? "port" : "channel",
               fanin.spin_ns / 1000, fanin.idle_port_count, fanin.idle_channel_count);
        printf(",\"wakes_per_message\":%.5f,\"rings_per_message\":%.5f,\"publishes_per_message\":%.5f,\"refusals\":%" PRIu64,
               (double)wakes / messages, (double)rings / messages, (double)publishes / messages, refusals);
        printf(",\"turns\":%" PRIu64 ",\"sleeps\":%" PRIu64 ",\"late_finds\":%" PRIu64 ",\"short_sends\":%" PRIu64, fanin.stats.turns,
               fanin.stats.sleeps, fanin.stats.late_finds, fanin.stats.short_sends);
        return;
    }
    printf("way          %14s\n", fanin.by_port ? "port" : "channel");
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
    FANIN_WAY = 256,
    FANIN_SHARDS,
    FANIN_SPIN_US,
    FANIN_CHANNEL_BYTES,
    FANIN_IDLE_PORTS,
    FANIN_IDLE_CHANNELS,
};

static const struct argp_option fanin_options[] = {
    {0, 0, 0, 0, "weir:", 5},
    {"way", FANIN_WAY, "KIND", 0, "channel: each producer has an own channel; port: each sends through its port (channel)", 5},
    {"shards", FANIN_SHARDS, "N", 0, "of the runtime; the first has the connection (1)", 5},
    {"spin-us", FANIN_SPIN_US, "N", 0, "a shard looks for work so long before it sleeps (0)", 5},
    {"channel-bytes", FANIN_CHANNEL_BYTES, "N", 0, "ring of an own channel (65536)", 5},
    {"idle-ports", FANIN_IDLE_PORTS, "N", 0, "so many more ports, which send one message each and then nothing (0)", 5},
    {"idle-channels", FANIN_IDLE_CHANNELS, "N", 0, "so many more own channels to the connection, likewise (0)", 5},
    {0},
};

static error_t fanin_parse(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case FANIN_WAY:
        if (strcmp(text, "channel") != 0 && strcmp(text, "port") != 0)
            argp_error(state, "--way wants channel or port, not '%s'", text);
        fanin.by_port = strcmp(text, "port") == 0;
        return 0;
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
        fanin.idle_channel_count = (uint32_t)option_count(state, "--idle-channels", text, 0, FANIN_IDLE_MOST / 2);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char fanin_help[] =
    "Measures how many threads share one connection: P producers send on it, each with a port of its own.\v"
    "Without --rate it goes as fast as it can: how many messages a second, and what CPU does one cost? With --rate each message is sent at "
    "its time, and the question is how long a send call takes and how long until the message is there.\n\n"
    "The sink is a process of its own and not counted. Times from end to end are those from the send call to the sink's receive.\n\n"
    "Compare with the peers (build/.../perf/peers/fanin-*) only in alternating runs: perf/fanin-compare does that.\n\n"
    "The exit code is 0 when every message came as it was sent, 1 when not, 2 when an option is wrong.";

int fanin_command(int argc, char **argv)
{
    static const struct argp argp = {.options = fanin_options, .parser = fanin_parse};
    static const struct crew_side side = {.name = "weir",
                                          .help = fanin_help,
                                          .argp = &argp,
                                          .argp_input = &fanin,
                                          .open = fanin_open,
                                          .produce = fanin_produce,
                                          .touch = fanin_touch,
                                          .sends = fanin_sends,
                                          .close = fanin_close,
                                          .print = fanin_print};
    return crew_main(argc, argv, &side);
}
