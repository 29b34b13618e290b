/* SPDX-License-Identifier: MIT */
/* weir/listen.h: where connections come from: listening, dialling, adopting.
 *
 * Addresses are written as
 *   tcp://HOST:PORT    HOST a name, an IPv4 address, an IPv6 address in brackets, or * for every address (both families);
 *                      PORT a number; 0 lets the kernel choose (read it back with weir_listener_address)
 *   unix:///PATH       a socket file; a stale one is replaced, one that somebody listens on is -EADDRINUSE; removed at the end
 *   unix://@NAME       Linux's abstract names
 *   fd://N             listening only: an inherited listening descriptor; weir takes it over
 *   systemd://[NAME]   listening only: the first descriptor of LISTEN_FDS, or the one that LISTEN_FDNAMES calls NAME
 *                      (sd_listen_fds(3); LISTEN_PID must be this process) */
#ifndef WEIR_LISTEN_H
#define WEIR_LISTEN_H

#include <weir/base.h>
#include <weir/protocol.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Longest address text with its end, in and out. */
#define WEIR_ADDRESS_MAX_BYTES 320

/* Zero is the default; WEIR_OPTION_OFF leaves the kernel's own setting. TCP options are ignored on unix sockets. */
#define WEIR_OPTION_OFF UINT32_MAX
typedef struct weir_socket_options {
    bool nagle;                      /* true: leave Nagle's algorithm on. Default: TCP_NODELAY */
    uint32_t keepalive_idle_s;       /* 0: 60; probes every 10 s then, 6 of them */
    uint32_t user_timeout_ms;        /* TCP_USER_TIMEOUT: unacknowledged data for so long ends the connection; 0: 60000 */
    uint32_t unsent_low_water_bytes; /* TCP_NOTSENT_LOWAT: how much unsent data may wait in the kernel; 0: 256 KiB */
    uint32_t send_buffer_bytes;      /* SO_SNDBUF; 0: the kernel tunes it */
    uint32_t receive_buffer_bytes;   /* SO_RCVBUF; 0: the kernel tunes it */
    uint32_t backlog;                /* listening only; 0: 4096, cut by net.core.somaxconn */
} weir_socket_options;

/* --- listening --- */

/* Which shard a new connection goes to. */
typedef enum weir_placement {
    WEIR_PLACEMENT_KERNEL =
        0, /* TCP: the kernel's choice by a hash of the addresses (SO_REUSEPORT); else: whoever accepts first. The cheapest */
    WEIR_PLACEMENT_ROUND_ROBIN, /* each shard in turn, but for those that are full: even to one, for few connections that live long. One shard accepts for all */
} weir_placement;

typedef struct weir_listen_options {
    weir_socket_options socket;
    weir_placement placement;
    void *user; /* the first weir_conn_user of each connection */
} weir_listen_options;

/* Names a listener of one runtime. */
typedef uint32_t weir_listener;

/* Listens on every shard: for TCP each shard has a listening socket of its own and the kernel spreads the connections (SO_REUSEPORT);
 * else all shards accept from one; options->placement can say otherwise. When it returns 0 connections are being queued; they are accepted once the shards
 * turn. options may be NULL. Any thread, also while the runtime runs; a name in tcp:// is looked up here and may block, so
 * call it from a shard only with numbers. `protocol` must stay until weir_close(). `listener` may be NULL.
 *   -EINVAL address or protocol not understood    -EADDRNOTAVAIL    -EACCES a port or path not permitted
 *   -EADDRINUSE somebody listens there; found after looking for 100 ms, as the sockets of a killed process live a little longer than it
 *   -EMFILE, -ENFILE no descriptor    -ENOSPC more than config.listeners    -EBADF, -ENOENT no such fd:// or systemd://
 *   -EHOSTUNREACH the name has no address    -ESHUTDOWN the runtime is stopping */
int weir_listen(weir_runtime *runtime, const char *address, const weir_protocol *protocol, const weir_listen_options *options,
                weir_listener *listener, weir_error *error);

/* The address as it really is ("tcp://127.0.0.1:40123"). 0, -ENOENT no such listener, -ENOSPC cut. Any thread. */
int weir_listener_address(const weir_runtime *runtime, weir_listener listener, char *text, size_t text_bytes);

/* Stops accepting; its connections go on. Each shard closes its socket within its next turn. Any thread; -ENOENT: no such listener. */
int weir_listener_stop(weir_runtime *runtime, weir_listener listener);

/* --- dialling --- */

typedef struct weir_dial_options {
    weir_socket_options socket;
    void *user;          /* the first weir_conn_user of each connection */
    uint64_t timeout_ns; /* for one attempt, looking up the name included; 0: 10 s; WEIR_FOREVER: the kernel's patience */
    /* Redial: whenever an attempt fails or its connection ends (unless by weir_end or weir_abort here, or a stop), dial again, for ever,
     * after redial_min_ns doubling up to redial_max_ns, each shortened by chance by up to a half. A connection that lasted
     * longer than redial_max_ns starts again at redial_min_ns. Each attempt is a connection with an id of its own. */
    bool redial;
    uint64_t redial_min_ns; /* 0: 100 ms */
    uint64_t redial_max_ns; /* 0: 30 s */
} weir_dial_options;

/* Names a dial of one shard, redials included. 0 names none. */
typedef uint64_t weir_dial_id;

/* Dials from this shard, on its thread. on_open or on_close of `protocol` tells how it went, never from inside this call.
 * A name is looked up off the shard. `dial` may be NULL. options may be NULL.
 *   -EINVAL address or protocol not understood    -ENOSPC more than config.dials under way    -ENOMEM    -ESHUTDOWN stopping */
int weir_dial(weir_shard *shard, const char *address, const weir_protocol *protocol, const weir_dial_options *options, weir_dial_id *dial,
              weir_error *error);

/* No more attempts. One under way ends as an abort; a connection that is open stays. 0, -ESTALE when it is over. */
int weir_dial_stop(weir_shard *shard, weir_dial_id dial);

/* --- adopting --- */

/* Makes a connection of a connected stream socket that came from elsewhere (accepted by other code, handed over by another process),
 * on this shard, on its thread. On success the descriptor is weir's, and on_open comes within the next turn; on failure it is still yours.
 * -EINVAL not a connected stream socket    -ENOSPC the shard is full    -ENOMEM    -ESHUTDOWN stopping. `id` may be NULL. */
int weir_adopt(weir_shard *shard, int descriptor, const weir_protocol *protocol, void *user, weir_id *id);

#ifdef __cplusplus
}
#endif

#endif
