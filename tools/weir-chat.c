/* SPDX-License-Identifier: MIT */
/* weir-chat: rooms to talk in; `nc HOST PORT` is a client, and so is a browser. Also an example of embedding weir on many shards without a mutex:
 *
 *   chat/member.c   those who talk, on their own shards              chat/hall.c    names and rooms, on shard 0
 *   chat/errand.c   how they ask the hall, and it answers            chat/web.c     the page, and who may come in by it
 *
 * This file is the runtime round them. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

#include "chat/errand.h"
#include "chat/hall.h"
#include "chat/member.h"
#include "chat/web.h"

const char *argp_program_version; /* argp's own name */

static weir_runtime *runtime;

static void stop_signal(int number)
{
    (void)number;
    weir_stop(runtime); /* async-signal-safe */
}

static void log_line(void *user, weir_log_level level, const char *sentence)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    (void)user;
    fprintf(stderr, "weir-chat: %s: %s\n", names[level], sentence);
}

static struct settings {
    const char *listen, *web;
    bool limits;
    weir_config config;
} settings = {.listen = "tcp://127.0.0.1:7000",
              .config = {.log = log_line, .log_level = WEIR_LOG_WARNING, .on_port_event = errand_port_event}};

static uint64_t number(struct argp_state *state, const char *option, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < least || value > most)
        argp_error(state, "--%s wants %llu to %llu, not '%s'", option, (unsigned long long)least, (unsigned long long)most, text);
    return value;
}

enum { OPTION_IDLE = 256, OPTION_CONNECTIONS, OPTION_LIMITS };

static const struct argp_option options[] = {
    {"listen", 'l', "ADDRESS", 0,
     "Listen here (default tcp://127.0.0.1:7000). tcp://HOST:PORT, unix:///PATH, unix://@NAME, fd://N, systemd://", 0},
    {"web", 'w', "ADDRESS", 0, "Also for browsers: a page here, and WebSocket behind it (default: none)", 0},
    {"shards", 's', "N", 0, "Shards, each on a thread of its own (default: one for each cpu)", 0},
    {"idle", OPTION_IDLE, "SECONDS", 0, "End connections on which nothing moves for so long (default: never)", 0},
    {"connections", OPTION_CONNECTIONS, "N", 0, "Most connections for each shard (default 16384)", 0},
    {"limits", OPTION_LIMITS, NULL, 0, "Print what all limits add up to before listening", 0},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    weir_config *config = &settings.config;
    switch (key) {
    case 'l':
        settings.listen = text;
        return 0;
    case 'w':
        settings.web = text;
        return 0;
    case 's':
        config->shards = (uint32_t)number(state, "shards", text, 1, SHARDS_MAX);
        return 0;
    case OPTION_IDLE:
        member_lines.limits.idle_ns = member_web.limits.idle_ns = number(state, "idle", text, 0, 1000000000) * WEIR_SECOND;
        return 0;
    case OPTION_CONNECTIONS:
        config->connections = (uint32_t)number(state, "connections", text, 1, 1U << 20);
        return 0;
    case OPTION_LIMITS:
        settings.limits = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Says where, as an address and, for browsers, as what they are given. */
static int listen_at(const char *address, const weir_protocol *protocol, const char *scheme, weir_error *error)
{
    char text[WEIR_ADDRESS_MAX_BYTES];
    weir_listener listener;
    int result = weir_listen(runtime, address, protocol, NULL, &listener, error);
    if (result != 0)
        return result;
    weir_listener_address(runtime, listener, text, sizeof text);
    if (scheme != NULL && strncmp(text, "tcp://", 6) == 0)
        printf("listening on %s%s/\n", scheme, text + 6);
    else
        printf("listening on %s\n", text);
    return fflush(stdout);
}

static int serve(weir_error *error)
{
    char text[2048];
    if (settings.limits && weir_limits_text(runtime, text, sizeof text) > 0)
        fputs(text, stdout);
    int result = listen_at(settings.listen, &member_lines, NULL, error);
    if (result == 0 && settings.web != NULL)
        result = listen_at(settings.web, &member_web, "http://", error);
    if (result != 0)
        return result;
    result = weir_run(runtime);
    snprintf(error->sentence, sizeof error->sentence, "%s", weir_strerror(result));
    return result;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {options,
                                     parse,
                                     NULL,
                                     "Rooms to talk in, until SIGTERM or SIGINT.\vTo take part: nc 127.0.0.1 7000, or, with --web "
                                     "tcp://127.0.0.1:7080, a browser at http://127.0.0.1:7080/",
                                     NULL,
                                     NULL,
                                     NULL};
    static const struct sigaction action = {.sa_handler = stop_signal};
    char version[32];
    weir_error error;
    snprintf(version, sizeof version, "weir %d.%d.%d", WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR, WEIR_VERSION_PATCH);
    argp_program_version = version;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    weir_codec_line(&member_lines.codec, LINE_BYTES, false);
    web_codec(&member_web.codec, &runtime);
    int result = weir_open(&settings.config, &runtime, &error);
    if (result == 0) {
        errand_open(runtime);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
        result = serve(&error);
    }
    if (result != 0)
        fprintf(stderr, "weir-chat: %s\n", error.sentence);
    weir_close(&runtime);
    errand_close();
    hall_close();
    return result == 0 ? 0 : 1;
}
