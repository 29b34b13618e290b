/* SPDX-License-Identifier: MIT */
/* service: what is soaked: a service that does all that weir can, and says each second how it is (say.h).
 *
 *   echo   what comes goes back
 *   room   who has said something hears a message every 50 ms, through a group
 *   feed   who has said something is sent messages by a foreign thread (feed.h)
 *   pipe   each connection is joined with one of our own to echo
 *
 * A first message that has a head of ours names the connection's stream; how such a connection ends is told in a line of its own, so that its
 * peer's count can be held against ours. All memory that weir takes is counted, and has to be home at the end. */
#include <argp.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <weir/weir.h>

#include "feed.h"
#include "message.h"
#include "say.h"

const char *argp_program_version; /* argp's own name */

#define TICK_NS        (50 * WEIR_MILLISECOND)
#define ROOM_STREAM    0u
#define LISTEN_MAX     4u
#define DRAIN_LEAST_NS (2 * WEIR_SECOND) /* a good client is to be drained on a busy machine too */
#define MMAP_BYTES     (128 * 1024)      /* what is larger goes back to the kernel when it is released */

/* Of planted faults. */
#define PLANT_PERIOD 3000u /* messages between two */
#define LEAK_BYTES   2048u
#define SLOW_NS      300000000

enum kind { ECHO, ROOM, FEED, PIPE, KINDS };
static const char *const kind_names[KINDS] = {"echo", "room", "feed", "pipe"};

/* Faults to plant, for trying whether the soak finds them. */
enum plant { NOTHING, LEAK, DESCRIPTOR, LOSE, TWICE, HARM, SLOW, DESERT, PLANTS };
static const char *const plant_names[PLANTS] = {"nothing", "leak", "descriptor", "lose", "twice", "harm", "slow", "desert"};

static struct settings {
    const char *addresses[KINDS][LISTEN_MAX];
    uint32_t address_counts[KINDS];
    uint64_t patience_ns;
    uint64_t interval_ns; /* between two lines of counters */
    enum plant plant;
    weir_config config;
} settings;

static weir_runtime *runtime;
static weir_group room;
static _Atomic bool over;
static _Atomic uint64_t room_number, room_refused;

/* --- memory, counted --- */

static _Atomic uint64_t memory_live, memory_peak;

static void *memory_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    void *memory = NULL;
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0)
        return NULL;
    uint64_t live = atomic_fetch_add(&memory_live, bytes) + bytes;
    uint64_t peak = memory_peak;
    while (live > peak && !atomic_compare_exchange_weak(&memory_peak, &peak, live))
        ;
    return memory;
}

static void memory_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    atomic_fetch_sub(&memory_live, bytes);
    free(memory);
}

/* --- planted faults --- */

static void plant_open(void)
{
    static _Atomic uint64_t opened;
    if (settings.plant == LEAK)
        memset(memory_allocate(NULL, LEAK_BYTES, 8), 1, LEAK_BYTES);
    if (settings.plant == DESCRIPTOR && atomic_fetch_add(&opened, 1) % 10 == 0 && dup(STDOUT_FILENO) < 0)
        say_fault("no descriptor left to lose");
}

/* True when the message has been dealt with. */
static bool plant_message(weir_conn *conn, const weir_message *message)
{
    static _Atomic uint64_t seen;
    uint8_t changed[MESSAGE_MOST_BYTES];
    if (!message_is_ours(message->data, message->bytes) || message->bytes > sizeof changed ||
        atomic_fetch_add(&seen, 1) % PLANT_PERIOD != PLANT_PERIOD - 1)
        return false;
    switch (settings.plant) {
    case LOSE:
        return true;
    case TWICE:
        weir_send(conn, message->data, message->bytes);
        return false;
    case HARM:
        memcpy(changed, message->data, message->bytes);
        changed[message->bytes - 1] ^= 1;
        return weir_send(conn, changed, message->bytes) == 0;
    case SLOW:
        nanosleep(&(struct timespec){.tv_nsec = SLOW_NS}, NULL);
        return false;
    default:
        return false;
    }
}

/* --- guests: the connections --- */

struct guest {
    uint64_t stream;
    uint64_t taken; /* messages that were delivered to us and dealt with */
    bool known;     /* true exactly when stream is its own */
};

static enum kind guest_kind(const weir_conn *conn)
{
    return (enum kind)(uintptr_t)weir_conn_protocol(conn)->user;
}

static int guest_open(weir_conn *conn)
{
    struct guest *guest = calloc(1, sizeof *guest);
    weir_conn_set_user(conn, guest);
    plant_open();
    return guest == NULL ? -ENOMEM : 0;
}

static struct guest *guest_of(const weir_conn *conn, const weir_message *message)
{
    struct guest *guest = weir_conn_user(conn);
    if (guest->taken == 0 && message_is_ours(message->data, message->bytes)) {
        guest->known = true;
        guest->stream = message_stream(message->data);
    }
    return guest;
}

static void guest_close(weir_conn *conn, const weir_close_event *event)
{
    struct guest *guest = weir_conn_user(conn);
    weir_conn_stats stats;
    if (guest == NULL || !guest->known) {
        free(guest);
        return;
    }
    if (weir_conn_stats_get(runtime, weir_conn_id(conn), &stats) != 0)
        say_fault("a connection that is closing has no counters");
    say("closed", "\"what\":\"%s\",\"stream\":%llu,\"reason\":\"%s\",\"error\":%d,\"taken\":%llu,\"out\":%llu,\"undelivered\":%llu",
        kind_names[guest_kind(conn)], (unsigned long long)guest->stream, weir_reason_name(event->reason), event->error,
        (unsigned long long)guest->taken, (unsigned long long)stats.messages_out, (unsigned long long)event->undelivered_messages);
    free(guest);
}

static int echo_message(weir_conn *conn, const weir_message *message)
{
    struct guest *guest = guest_of(conn, message);
    int result = plant_message(conn, message) ? 0 : weir_forward(conn, message, conn);
    if (result == 0)
        guest->taken++;
    return result == -EAGAIN ? WEIR_LATER : result;
}

static int room_message(weir_conn *conn, const weir_message *message)
{
    struct guest *guest = guest_of(conn, message);
    return guest->taken++ > 0 ? 0 : weir_group_join(weir_shard_port(weir_conn_shard(conn)), room, weir_conn_id(conn));
}

static int feed_message(weir_conn *conn, const weir_message *message)
{
    struct guest *guest = guest_of(conn, message);
    return guest->taken++ > 0 || feed_ask(weir_conn_id(conn), guest->stream) ? 0 : -EBUSY;
}

/* --- the pipe: as in weir-proxy, to ourselves --- */

static weir_protocol target_protocol;

static int pipe_open(weir_conn *conn)
{
    weir_dial_options options = {.user = (void *)(uintptr_t)weir_conn_id(conn).value};
    weir_pause(conn);
    return weir_dial(weir_conn_shard(conn), settings.addresses[ECHO][0], &target_protocol, &options, NULL, NULL);
}

static int target_open(weir_conn *target)
{
    weir_id id = {(uintptr_t)weir_conn_user(target)};
    int result = weir_pipe(target, id);
    weir_conn *conn = weir_find(weir_conn_shard(target), id);
    if (result == 0 && conn != NULL) {
        weir_conn_set_user(target, NULL);
        weir_resume(conn);
    }
    return result;
}

static void target_close(weir_conn *target, const weir_close_event *event)
{
    weir_id id = {(uintptr_t)weir_conn_user(target)};
    weir_conn *conn = id.value == 0 ? NULL : weir_find(weir_conn_shard(target), id);
    (void)event;
    if (conn != NULL)
        weir_end(conn); /* it was not piped: what is, ends by itself */
}

static weir_protocol protocols[KINDS] = {
    [ECHO] = {.name = "echo", .user = (void *)ECHO, .on_open = guest_open, .on_message = echo_message, .on_close = guest_close},
    [ROOM] = {.name = "room", .user = (void *)ROOM, .on_open = guest_open, .on_message = room_message, .on_close = guest_close},
    [FEED] = {.name = "feed", .user = (void *)FEED, .on_open = guest_open, .on_message = feed_message, .on_close = guest_close},
    [PIPE] = {.name = "pipe", .user = (void *)PIPE, .on_open = pipe_open},
};
static weir_protocol target_protocol = {.name = "target", .on_open = target_open, .on_close = target_close};

static void protocols_set(void)
{
    weir_limits limits = {
        .slow_peer.stalled_ns_max = settings.patience_ns,
        .message_ns = settings.patience_ns,
        .first_ns = 2 * settings.patience_ns,
        .idle_ns = 2 * settings.patience_ns,
        .drain_ns = settings.patience_ns > 2 * DRAIN_LEAST_NS ? settings.patience_ns / 2 : DRAIN_LEAST_NS,
    };
    for (int kind = 0; kind < KINDS; kind++) {
        protocols[kind].limits = limits;
        if (kind == PIPE)
            weir_codec_raw(&protocols[kind].codec);
        else
            weir_codec_frame(&protocols[kind].codec, NULL);
    }
    target_protocol.limits = limits;
    weir_codec_raw(&target_protocol.codec);
}

/* --- the ticker: the room's messages, and the counters --- */

/* A field of weir_stats: its name, and its place, as all of them are numbers of one size. */
#define FIELD(name) #name, offsetof(weir_stats, name) / sizeof(uint64_t)

static const struct {
    const char *name;
    size_t place;
} told[] = {{FIELD(turns)},
            {FIELD(sleeps)},
            {FIELD(long_turns)},
            {FIELD(late_finds)},
            {FIELD(accepted)},
            {FIELD(dialed)},
            {FIELD(dial_failures)},
            {FIELD(turned_away)},
            {FIELD(accept_pauses)},
            {FIELD(messages_in)},
            {FIELD(messages_sent)},
            {FIELD(messages_out)},
            {FIELD(messages_undelivered)},
            {FIELD(bytes_in)},
            {FIELD(bytes_out)},
            {FIELD(sends)},
            {FIELD(short_sends)},
            {FIELD(messages_crossed)},
            {FIELD(messages_orphaned)},
            {FIELD(group_messages)},
            {FIELD(group_refusals)},
            {FIELD(refusals)},
            {FIELD(laters)},
            {FIELD(copies_for_lack)},
            {FIELD(starvations)},
            {FIELD(completion_overflows)},
            {FIELD(allocations)},
            {FIELD(connections)},
            {FIELD(queued_bytes)},
            {FIELD(memory_bytes)},
            {FIELD(memory_peak_bytes)}};

static void append(char *text, size_t text_bytes, const char *name, uint64_t value)
{
    size_t used = strlen(text);
    snprintf(text + used, text_bytes - used, "%s\"%s\":%llu", used > 0 ? "," : "", name, (unsigned long long)value);
}

static void say_stats(const char *kind)
{
    char counters[SAY_LINE_BYTES / 2] = "", reasons[SAY_LINE_BYTES / 4] = "";
    weir_stats stats;
    weir_runtime_stats(runtime, &stats);
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
        append(counters, sizeof counters, told[i].name, ((const uint64_t *)&stats)[told[i].place]);
    for (int reason = 0; reason < WEIR_REASON_COUNT; reason++)
        if (stats.closed[reason] > 0)
            append(reasons, sizeof reasons, weir_reason_name((weir_reason)reason), stats.closed[reason]);
    struct feed_counts feed = feed_counts();
    append(counters, sizeof counters, "memory_live", memory_live);
    append(counters, sizeof counters, "memory_peak", memory_peak);
    append(counters, sizeof counters, "room_sent", room_number);
    append(counters, sizeof counters, "room_refused", room_refused);
    append(counters, sizeof counters, "feeds", feed.feeds);
    append(counters, sizeof counters, "channels", feed.channels);
    append(counters, sizeof counters, "feed_sent", feed.sent);
    append(counters, sizeof counters, "feed_refused", feed.refused);
    append(counters, sizeof counters, "feed_undelivered", feed.undelivered);
    append(counters, sizeof counters, "feed_ignored", feed.ignored);
    say(kind, "%s,\"closed\":{%s}", counters, reasons);
}

static void *ticker_main(void *user)
{
    weir_port *port = user;
    weir_port_event event;
    uint8_t data[MESSAGE_MOST_BYTES + 8];
    for (uint32_t tick = 1; !over; tick++) {
        nanosleep(&(struct timespec){.tv_nsec = TICK_NS}, NULL);
        uint32_t bytes = message_make(data, ROOM_STREAM, room_number);
        int result = weir_group_send(port, room, data, bytes, (weir_id){0});
        if (result == 0)
            room_number++;
        else
            room_refused++;
        while (weir_port_next(port, &event))
            ;
        if (tick % (settings.interval_ns / TICK_NS) == 0) {
            malloc_trim(0); /* resident memory is to tell of weir, not of what malloc keeps */
            say_stats("stats");
        }
    }
    weir_port_close(&port);
    return NULL;
}

/* --- the runtime round it --- */

static void stop_signal(int number)
{
    (void)number;
    if (settings.plant == DESERT)
        _exit(0);
    weir_stop(runtime);
}

static void log_line(void *user, weir_log_level level, const char *sentence)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    char text[512];
    size_t at = 0;
    (void)user;
    for (; sentence[at] != '\0' && at < sizeof text - 1; at++)
        text[at] = sentence[at] == '"' || sentence[at] == '\\' ? '\'' : sentence[at];
    text[at] = '\0';
    say("log", "\"level\":\"%s\",\"text\":\"%s\"", names[level], text);
}

/* A shard's own port: a join for which there was no memory ends its connection. */
static void port_event(weir_shard *shard, const weir_port_event *event)
{
    if (event->kind == WEIR_PORT_UNDELIVERED)
        weir_end_id(shard, event->id);
}

static bool listen_everywhere(void)
{
    weir_error error;
    for (int kind = 0; kind < KINDS; kind++) {
        for (uint32_t i = 0; i < settings.address_counts[kind]; i++) {
            if (weir_listen(runtime, settings.addresses[kind][i], &protocols[kind], NULL, NULL, &error) != 0) {
                log_line(NULL, WEIR_LOG_ERROR, error.sentence);
                return false;
            }
        }
    }
    return true;
}

/* What holds when all is over: nothing is queued, each message sent is accounted for, all memory is home. */
static void look_at_the_end(void)
{
    weir_stats stats;
    weir_runtime_stats(runtime, &stats);
    if (stats.messages_sent != stats.messages_out + stats.messages_undelivered)
        say_fault("the connections' sums do not close: %llu messages sent, %llu taken, %llu undelivered",
                  (unsigned long long)stats.messages_sent, (unsigned long long)stats.messages_out,
                  (unsigned long long)stats.messages_undelivered);
    if (stats.connections != 0 || stats.queued_bytes != 0)
        say_fault("at the end %llu connections are left, and %llu bytes queued", (unsigned long long)stats.connections,
                  (unsigned long long)stats.queued_bytes);
    say_stats("end");
    weir_close(&runtime);
    if (memory_live != 0)
        say_fault("%llu bytes were not given back", (unsigned long long)memory_live);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    weir_config *config = &settings.config;
    switch (key) {
    case 'e':
    case 'r':
    case 'f':
    case 'p': {
        enum kind kind = key == 'e' ? ECHO : key == 'r' ? ROOM : key == 'f' ? FEED : PIPE;
        if (settings.address_counts[kind] == LISTEN_MAX)
            argp_error(state, "too many addresses");
        settings.addresses[kind][settings.address_counts[kind]++] = text;
        return 0;
    }
    case 's':
        config->shards = (uint32_t)strtoul(text, NULL, 10);
        return 0;
    case 'm':
        config->memory_bytes = strtoull(text, NULL, 10) << 20;
        return 0;
    case 'w':
        settings.patience_ns = strtoull(text, NULL, 10) * WEIR_MILLISECOND;
        return 0;
    case 'i':
        settings.interval_ns = strtoull(text, NULL, 10) * WEIR_MILLISECOND;
        return settings.interval_ns < TICK_NS ? EINVAL : 0;
    case 'x':
        for (settings.plant = NOTHING; settings.plant < PLANTS && strcmp(plant_names[settings.plant], text) != 0;)
            settings.plant++;
        if (settings.plant == PLANTS)
            argp_error(state, "--plant does not know %s", text);
        return 0;
    case ARGP_KEY_END:
        if (settings.address_counts[ECHO] == 0)
            argp_error(state, "--echo has to be given");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"echo", 'e', "ADDRESS", 0, "Listen here for what is sent back (repeatable); the first is also the pipes' target", 0},
    {"room", 'r', "ADDRESS", 0, "Listen here for a group's members (repeatable)", 0},
    {"feed", 'f', "ADDRESS", 0, "Listen here for whom a foreign thread sends to (repeatable)", 0},
    {"pipe", 'p', "ADDRESS", 0, "Listen here for what is joined to echo (repeatable)", 0},
    {"shards", 's', "N", 0, "Shards (2)", 0},
    {"memory-mib", 'm', "N", 0, "Budget of each shard (16)", 0},
    {"patience-ms", 'w', "MS", 0, "With a peer that does not read, or not write on (10000); idle ones have twice that", 0},
    {"interval-ms", 'i', "MS", 0, "Between two lines of counters (1000)", 0},
    {"plant", 'x', "FAULT", 0, "Do something wrong: leak, descriptor, lose, twice, harm, slow, desert", 0},
    {0}};

int main(int argc, char **argv)
{
    static const struct argp argp = {.options = options, .parser = parse, .doc = "What tools/soak soaks."};
    pthread_t ticker;
    weir_port *port;
    weir_error error;
    settings.patience_ns = 10 * WEIR_SECOND;
    settings.interval_ns = WEIR_SECOND;
    settings.config = (weir_config){.shards = 2,
                                    .memory_bytes = UINT64_C(16) << 20,
                                    .connections = 8192,
                                    .log = log_line,
                                    .log_level = WEIR_LOG_WARNING,
                                    .on_port_event = port_event,
                                    .allocator = {.allocate = memory_allocate, .release = memory_release}};
    if (argp_parse(&argp, argc, argv, 0, NULL, NULL) != 0)
        return 2;
    protocols_set();
    mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    if (weir_open(&settings.config, &runtime, &error) != 0) {
        log_line(NULL, WEIR_LOG_ERROR, error.sentence);
        return 1;
    }
    struct sigaction action = {.sa_handler = stop_signal};
    sigaction(SIGTERM, &action, NULL);
    if (!listen_everywhere() || weir_group_open(runtime, &room) != 0 || weir_port_open(runtime, NULL, &port, NULL) != 0 ||
        !feed_start(runtime) || pthread_create(&ticker, NULL, ticker_main, port) != 0)
        return 1;
    say("listening", "\"memory_bound\":%llu,\"memory_budget\":%llu,\"shards\":%u", (unsigned long long)weir_memory_bound(runtime),
        (unsigned long long)settings.config.memory_bytes, weir_shard_count(runtime));
    int result = weir_run(runtime);
    if (result != 0)
        say_fault("weir_run answered %d", result);
    over = true;
    pthread_join(ticker, NULL);
    feed_stop();
    look_at_the_end();
    say("over", "\"faults\":%llu", (unsigned long long)say_faults());
    return say_faults() == 0 ? 0 : 2;
}
