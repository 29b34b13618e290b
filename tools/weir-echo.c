/* SPDX-License-Identifier: MIT */
/* weir-echo: sends every message back to where it came from. Also an example of embedding weir: the protocol is the
 * first page, the rest is options. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

/* Big messages go back without a copy. No room: the message stays, the peer is made to wait, and we are asked again. */
static int echo_message(weir_conn *conn, const weir_message *message)
{
    int result = weir_forward(conn, message, conn);
    return result == -EAGAIN ? WEIR_LATER : result;
}

static weir_protocol protocol = {.name = "echo", .on_message = echo_message};

/* --- with --framing websocket: pages beside it --- */

static weir_runtime *runtime;

/* What Prometheus asks for. Each shard has a text of its own, which stays until its next call, with room for more than a hundred shards. */
static const char *metrics(void *user, const weir_http_head *request, uint32_t *bytes)
{
    static _Thread_local char text[512 * 1024];
    (void)user;
    (void)request;
    size_t wanted = weir_metrics_text(runtime, text, sizeof text);
    *bytes = (uint32_t)wanted;
    return wanted < sizeof text ? text : NULL;
}

static const weir_http_page pages[] = {
    {.path = "/metrics", .type = WEIR_METRICS_TYPE, .text = metrics},
    {.path = "/healthz", .type = "text/plain", .body = "ok\n", .bytes = 3},
    {.path = NULL},
};

static weir_websocket_options websocket = {.pages = pages};

/* --- the runtime round it --- */

static void stop_signal(int number)
{
    (void)number;
    weir_stop(runtime); /* async-signal-safe */
}

static void log_line(void *user, weir_log_level level, const char *sentence)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    (void)user;
    fprintf(stderr, "weir-echo: %s: %s\n", names[level], sentence);
}

#define LISTEN_MAX 16
static struct settings {
    const char *listen[LISTEN_MAX];
    uint32_t listen_count;
    const char *framing;
    uint32_t message_max_bytes;
    bool limits, stats;
    weir_listen_options listening;
    weir_config config;
} settings = {.framing = "frame", .config = {.log = log_line, .log_level = WEIR_LOG_WARNING}};

static uint64_t number(struct argp_state *state, const char *option, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < least || value > most)
        argp_error(state, "--%s wants %llu to %llu, not '%s'", option, (unsigned long long)least, (unsigned long long)most, text);
    return value;
}

enum {
    OPTION_SPIN = 256,
    OPTION_MAX_MESSAGE,
    OPTION_MEMORY,
    OPTION_IDLE,
    OPTION_CONNECTIONS,
    OPTION_LIMITS,
    OPTION_PIN,
    OPTION_PLACEMENT,
    OPTION_STATS,
    OPTION_DEFLATE
};

static const struct argp_option options[] = {
    {"listen", 'l', "ADDRESS", 0,
     "Listen here; may be repeated (default tcp://127.0.0.1:7000). tcp://HOST:PORT, unix:///PATH, unix://@NAME, fd://N, systemd://", 0},
    {"shards", 's', "N", 0, "Shards, each on a thread of its own (default: one for each cpu)", 0},
    {"pin", OPTION_PIN, NULL, 0, "Bind each shard to a cpu", 0},
    {"placement", OPTION_PLACEMENT, "KIND", 0,
     "kernel (default): its hash spreads the connections over the shards; round-robin: each shard in turn", 0},
    {"framing", 'f', "KIND", 0,
     "frame (default: 4 bytes little-endian length, then the payload), line, raw, or websocket (which answers GET /metrics and /healthz "
     "too)",
     0},
    {"deflate", OPTION_DEFLATE, "keep", OPTION_ARG_OPTIONAL,
     "With --framing websocket: pack messages for clients that offer it (permessage-deflate); --deflate=keep: and remember earlier ones, "
     "which packs better and takes up to 300 KiB for each connection",
     0},
    {"spin-us", OPTION_SPIN, "US", 0, "Look for work so long before sleeping (default 0)", 0},
    {"max-message", OPTION_MAX_MESSAGE, "BYTES", 0, "Largest message (default: frame and websocket 1 MiB, line 64 KiB)", 0},
    {"memory", OPTION_MEMORY, "MIB", 0, "Each shard's, for what is queued; a quarter of it for messages being put together (default 64)",
     0},
    {"idle", OPTION_IDLE, "SECONDS", 0, "End connections on which nothing moves for so long (default: never)", 0},
    {"connections", OPTION_CONNECTIONS, "N", 0, "Most connections for each shard (default 16384)", 0},
    {"limits", OPTION_LIMITS, NULL, 0, "Print what all limits add up to before listening", 0},
    {"stats", OPTION_STATS, NULL, 0, "Print at the end what each shard has had: the spread", 0},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    weir_config *config = &settings.config;
    switch (key) {
    case 'l':
        if (settings.listen_count == LISTEN_MAX)
            argp_error(state, "--listen may be given %d times", LISTEN_MAX);
        settings.listen[settings.listen_count++] = text;
        return 0;
    case 's':
        config->shards = (uint32_t)number(state, "shards", text, 1, 1024);
        return 0;
    case 'f':
        settings.framing = text;
        return 0;
    case OPTION_PIN:
        config->pin = true;
        return 0;
    case OPTION_SPIN:
        config->spin_ns = number(state, "spin-us", text, 0, 1000000) * WEIR_MICROSECOND;
        return 0;
    case OPTION_MAX_MESSAGE:
        settings.message_max_bytes = (uint32_t)number(state, "max-message", text, 1, WEIR_MESSAGE_MAX_BYTES);
        return 0;
    case OPTION_MEMORY:
        config->memory_bytes = number(state, "memory", text, 1, 1U << 20) << 20;
        return 0;
    case OPTION_IDLE:
        protocol.limits.idle_ns = number(state, "idle", text, 0, 1000000000) * WEIR_SECOND;
        return 0;
    case OPTION_CONNECTIONS:
        config->connections = (uint32_t)number(state, "connections", text, 1, 1U << 20);
        return 0;
    case OPTION_LIMITS:
        settings.limits = true;
        return 0;
    case OPTION_STATS:
        settings.stats = true;
        return 0;
    case OPTION_PLACEMENT:
        if (strcmp(text, "kernel") != 0 && strcmp(text, "round-robin") != 0)
            argp_error(state, "--placement wants kernel or round-robin, not '%s'", text);
        settings.listening.placement = text[0] == 'r' ? WEIR_PLACEMENT_ROUND_ROBIN : WEIR_PLACEMENT_KERNEL;
        return 0;
    case OPTION_DEFLATE:
        if (text != NULL && strcmp(text, "keep") != 0)
            argp_error(state, "--deflate wants nothing, or =keep, not '%s'", text);
        websocket.deflate.enabled = true;
        websocket.deflate.keep_sent = websocket.deflate.keep_received = text != NULL;
        return 0;
    case ARGP_KEY_END:
        if (websocket.deflate.enabled && strcmp(settings.framing, "websocket") != 0)
            argp_error(state, "--deflate goes with --framing websocket, not %s", settings.framing);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int choose_codec(void)
{
    weir_frame_options frame = {.message_max_bytes = settings.message_max_bytes};
    if (strcmp(settings.framing, "frame") == 0)
        return weir_codec_frame(&protocol.codec, &frame);
    if (strcmp(settings.framing, "line") == 0)
        return weir_codec_line(&protocol.codec, settings.message_max_bytes, false);
    if (strcmp(settings.framing, "raw") == 0)
        return weir_codec_raw(&protocol.codec);
    websocket.message_max_bytes = settings.message_max_bytes;
    if (strcmp(settings.framing, "websocket") == 0)
        return weir_codec_websocket(&protocol.codec, &websocket);
    return -EINVAL;
}

static int listen_everywhere(weir_error *error)
{
    char address[WEIR_ADDRESS_MAX_BYTES];
    if (settings.listen_count == 0)
        settings.listen[settings.listen_count++] = "tcp://127.0.0.1:7000";
    for (uint32_t i = 0; i < settings.listen_count; i++) {
        weir_listener listener;
        int result = weir_listen(runtime, settings.listen[i], &protocol, &settings.listening, &listener, error);
        if (result != 0)
            return result;
        weir_listener_address(runtime, listener, address, sizeof address);
        printf("listening on %s\n", address);
    }
    return fflush(stdout);
}

static void print_stats(void)
{
    for (uint32_t i = 0; i < weir_shard_count(runtime); i++) {
        weir_stats stats;
        weir_shard_stats(weir_shard_at(runtime, i), &stats);
        printf("shard %u: %llu connections, %llu messages in, %llu out in %llu sends\n", i, (unsigned long long)stats.accepted,
               (unsigned long long)stats.messages_in, (unsigned long long)stats.messages_out, (unsigned long long)stats.sends);
    }
}

int main(int argc, char **argv)
{
    static const struct argp argp = {options,
                                     parse,
                                     NULL,
                                     "Sends every message back to where it came from, until SIGTERM or SIGINT.\v"
                                     "Try it with: weir-perf echo --connect tcp://127.0.0.1:7000 --connections 64 --depth 16\n"
                                     "or, with --framing line, by hand: nc 127.0.0.1 7000",
                                     NULL,
                                     NULL,
                                     NULL};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    int chosen = choose_codec();
    if (chosen == -ENOTSUP) {
        fputs("weir-echo: --deflate: weir was built without it (cmake -DWEIR_DEFLATE=ON, with zlib)\n", stderr);
        return 1;
    }
    if (chosen != 0) {
        fprintf(stderr, "weir-echo: --framing wants frame, line, raw or websocket, not '%s' (or --max-message does not suit it)\n",
                settings.framing);
        return 2;
    }
    weir_error error;
    if (weir_open(&settings.config, &runtime, &error) != 0) {
        fprintf(stderr, "weir-echo: %s\n", error.sentence);
        return 1;
    }
    if (settings.limits) {
        char text[2048];
        weir_limits_text(runtime, text, sizeof text);
        fputs(text, stdout);
    }
    struct sigaction action = {.sa_handler = stop_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    int result = listen_everywhere(&error);
    if (result != 0)
        fprintf(stderr, "weir-echo: %s\n", error.sentence);
    else if ((result = weir_run(runtime)) != 0)
        fprintf(stderr, "weir-echo: %s\n", weir_strerror(result));
    if (settings.stats && result == 0)
        print_stats();
    weir_close(&runtime);
    return result == 0 ? 0 : 1;
}
