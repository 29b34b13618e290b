/* SPDX-License-Identifier: MIT */
/* weir-proxy: joins each connection that comes with one of its own that it dials. Also an example of embedding weir: the proxy is the
 * first page, the rest is options.
 *
 * Road:    a client comes, and is not read yet -> dial the target -> pipe the two -> read. All else is the pipe's: bytes, pressure, ends.
 * Ditches: the dial fails -> the client is ended, and the log says why; the client has gone meanwhile -> so does the target. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <weir/weir.h>

const char *argp_program_version; /* argp's own name */

static const char *target_address;
static weir_dial_options dialing; /* the same for all but for its user */
static weir_protocol target_protocol;

static void log_line(void *user, weir_log_level level, const char *sentence)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    (void)user;
    fprintf(stderr, "weir-proxy: %s: %s\n", names[level], sentence);
}

static void log_lost(const weir_conn *client, const char *why)
{
    char peer[WEIR_ADDRESS_MAX_BYTES] = "a client that has gone", line[2 * WEIR_ADDRESS_MAX_BYTES + 256];
    if (client != NULL)
        weir_conn_peer(client, peer, sizeof peer);
    snprintf(line, sizeof line, "cannot join %s to %s: %s", peer, target_address, why);
    log_line(NULL, WEIR_LOG_WARNING, line);
}

/* The target's connection knows its client by id: the client may have gone by the time it is needed. */
_Static_assert(sizeof(uintptr_t) >= sizeof(weir_id), "an id fits a connection's user pointer");

static int client_opened(weir_conn *client)
{
    weir_dial_options options = dialing;
    weir_error error;
    options.user = (void *)(uintptr_t)weir_conn_id(client).value;
    int result = weir_dial(weir_conn_shard(client), target_address, &target_protocol, &options, NULL, &error);
    if (result != 0)
        log_lost(client, error.sentence);
    weir_pause(client);
    return result;
}

/* What it answers ends the target when there is nobody to join it to. */
static int target_opened(weir_conn *target)
{
    weir_id client = {(uintptr_t)weir_conn_user(target)};
    int result = weir_pipe(target, client);
    if (result == 0) {
        weir_conn_set_user(target, NULL);
        weir_resume(weir_find(weir_conn_shard(target), client));
    }
    return result;
}

/* Once piped, the one's end is the other's, and there is nothing to do here. */
static void target_closed(weir_conn *target, const weir_close_event *event)
{
    weir_id id = {(uintptr_t)weir_conn_user(target)};
    weir_conn *client = weir_find(weir_conn_shard(target), id);
    if (id.value == 0 || event->reason == WEIR_REASON_STOPPED || event->reason == WEIR_REASON_ABORTED) /* a stop ends the client too */
        return;
    log_lost(client, event->error != 0 ? weir_strerror(event->error) : weir_reason_sentence(event->reason));
    if (client != NULL)
        weir_end(client);
}

static weir_protocol client_protocol = {.name = "client", .on_open = client_opened};
static weir_protocol target_protocol = {.name = "target", .on_open = target_opened, .on_close = target_closed};

/* --- the runtime round it --- */

static weir_runtime *runtime;

static void stop_signal(int number)
{
    (void)number;
    weir_stop(runtime); /* async-signal-safe */
}

#define CLIENTS_DEFAULT 8192
static struct settings {
    const char *listen;
    bool limits;
    weir_config config;
} settings = {.config = {.connections = 2 * CLIENTS_DEFAULT, .dials = CLIENTS_DEFAULT, .log = log_line, .log_level = WEIR_LOG_WARNING}};

static uint64_t number(struct argp_state *state, const char *option, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < least || value > most)
        argp_error(state, "--%s wants %llu to %llu, not '%s'", option, (unsigned long long)least, (unsigned long long)most, text);
    return value;
}

enum { OPTION_SPIN = 256, OPTION_DIAL_TIMEOUT, OPTION_IDLE, OPTION_CONNECTIONS, OPTION_LIMITS, OPTION_PIN };

static const struct argp_option options[] = {
    {"shards", 's', "N", 0, "Shards, each on a thread of its own (default: one for each cpu)", 0},
    {"pin", OPTION_PIN, NULL, 0, "Bind each shard to a cpu", 0},
    {"spin-us", OPTION_SPIN, "US", 0, "Look for work so long before sleeping (default 0)", 0},
    {"dial-timeout", OPTION_DIAL_TIMEOUT, "SECONDS", 0, "Patience with the target's answer (default 10)", 0},
    {"idle", OPTION_IDLE, "SECONDS", 0, "End connections on which nothing moves for so long (default: never)", 0},
    {"connections", OPTION_CONNECTIONS, "N", 0, "Most clients for each shard (default 8192); more are turned away", 0},
    {"limits", OPTION_LIMITS, NULL, 0, "Print what all limits add up to before listening", 0},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    weir_config *config = &settings.config;
    switch (key) {
    case 's':
        config->shards = (uint32_t)number(state, "shards", text, 1, 1024);
        return 0;
    case OPTION_PIN:
        config->pin = true;
        return 0;
    case OPTION_SPIN:
        config->spin_ns = number(state, "spin-us", text, 0, 1000000) * WEIR_MICROSECOND;
        return 0;
    case OPTION_DIAL_TIMEOUT:
        dialing.timeout_ns = number(state, "dial-timeout", text, 1, 1000000) * WEIR_SECOND;
        return 0;
    case OPTION_IDLE:
        client_protocol.limits.idle_ns = number(state, "idle", text, 0, 1000000000) * WEIR_SECOND;
        return 0;
    case OPTION_CONNECTIONS: /* each client has a connection to the target beside its own */
        config->dials = (uint32_t)number(state, "connections", text, 1, 65536);
        config->connections = 2 * config->dials;
        return 0;
    case OPTION_LIMITS:
        settings.limits = true;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1)
            argp_error(state, "'%s' is one address too many", text);
        *(state->arg_num == 0 ? &settings.listen : &target_address) = text;
        return 0;
    case ARGP_KEY_END:
        if (state->arg_num < 2)
            argp_error(state, "two addresses are wanted, LISTEN and TARGET");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int serve(weir_error *error)
{
    char text[2048];
    weir_listener listener;
    if (settings.limits && weir_limits_text(runtime, text, sizeof text) > 0)
        fputs(text, stdout);
    int result = weir_listen(runtime, settings.listen, &client_protocol, NULL, &listener, error);
    if (result != 0)
        return result;
    weir_listener_address(runtime, listener, text, sizeof text);
    printf("listening on %s\n", text);
    fflush(stdout);
    result = weir_run(runtime);
    snprintf(error->sentence, sizeof error->sentence, "%s", weir_strerror(result));
    return result;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "LISTEN TARGET",
        .doc = "Joins each connection that comes to LISTEN with one of its own to TARGET, until SIGTERM or SIGINT.\v"
               "Addresses are tcp://HOST:PORT (to listen also port 0: any that is free), unix:///PATH, unix://@NAME; to listen also fd://N "
               "and "
               "systemd://. For example: weir-proxy 'tcp://*:8080' unix:///run/service"};
    static const struct sigaction action = {.sa_handler = stop_signal};
    char version[32];
    weir_error error;
    snprintf(version, sizeof version, "weir %d.%d.%d", WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR, WEIR_VERSION_PATCH);
    argp_program_version = version;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    weir_codec_raw(&client_protocol.codec);
    target_protocol.codec = client_protocol.codec;
    target_protocol.limits = client_protocol.limits;
    int result = weir_open(&settings.config, &runtime, &error);
    if (result == 0) {
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
        result = serve(&error);
    }
    if (result != 0)
        fprintf(stderr, "weir-proxy: %s\n", error.sentence);
    weir_close(&runtime);
    return result == 0 ? 0 : 1;
}
