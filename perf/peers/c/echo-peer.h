/* SPDX-License-Identifier: MIT */
/* echo-peer: the options of the echo servers on event libraries (C and C++), and where they listen. What they have read is echo-input.h;
 * how they wait, read and write is each one's own. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif
#include "perf/address.h"
#include "perf/option.h"
#include "perf/pattern.h"
#ifdef __cplusplus
}
#endif

#include <netdb.h>
#include <stdio.h>
#include <sys/resource.h>

#define ECHO_PEER_BACKLOG      4096
#define ECHO_PEER_THREADS_MOST 256

struct echo_peer {
    struct address address; /* once the first thread listens: with its port, that all share */
    enum pattern_framing framing;
    uint32_t threads;
};

static inline error_t echo_peer_option(int key, char *text, struct argp_state *state)
{
    struct echo_peer *peer = (struct echo_peer *)state->input;
    const char *problem;
    switch (key) {
    case 'l':
        problem = address_parse(&peer->address, text);
        if (problem != NULL || !address_is_tcp(&peer->address))
            argp_error(state, "--listen '%s' %s", text, problem != NULL ? problem : "is not tcp://host:port");
        return 0;
    case 'f':
        peer->framing = (enum pattern_framing)option_choice(state, "--framing", text, pattern_framing_names);
        return 0;
    case 't':
        peer->threads = (uint32_t)option_count(state, "--threads", text, 1, ECHO_PEER_THREADS_MOST);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Ends the program with a sentence and code 2 when an option is wrong. As many descriptors as the limit allows are there afterwards. */
static inline void echo_peer_begin(struct echo_peer *peer, int argc, char **argv, const char *help)
{
    const struct argp_option options[] = {
        {"listen", 'l', "ADDRESS", 0, "tcp://host:port; port 0 takes a free one (tcp://127.0.0.1:0)", 0},
        {"framing", 'f', "KIND", 0, "frame (4 bytes little-endian length, then the payload), line or raw (frame)", 0},
        {"threads", 't', "N", 0, "threads, each with its own loop and its own listening socket (1)", 0},
        {NULL, 0, NULL, 0, NULL, 0},
    };
    const struct argp argp = {options, echo_peer_option, NULL, help, NULL, NULL, NULL};
    struct rlimit limit;
    argp_err_exit_status = 2;
    peer->framing = PATTERN_FRAME;
    peer->threads = 1;
    address_parse(&peer->address, "tcp://127.0.0.1:0");
    argp_parse(&argp, argc, argv, 0, NULL, peer);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* The first thread's listener is bound: the others are to take its port. */
static inline void echo_peer_bound(struct echo_peer *peer, int listener)
{
    peer->address.storage_bytes = sizeof peer->address.storage;
    getsockname(listener, (struct sockaddr *)&peer->address.storage, &peer->address.storage_bytes);
}

static inline void echo_peer_say(const struct echo_peer *peer)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    getnameinfo((const struct sockaddr *)&peer->address.storage, peer->address.storage_bytes, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    printf(peer->address.storage.ss_family == AF_INET6 ? "listening on tcp://[%s]:%s\n" : "listening on tcp://%s:%s\n", host, port);
    fflush(stdout);
}
