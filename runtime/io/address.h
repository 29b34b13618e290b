/* SPDX-License-Identifier: MIT */
/* address: the addresses of weir/listen.h, as text and as the kernel wants them.
 *
 * Pure but for two looks at the world: an interface's name after % in an IPv6 address, and the environment for systemd://; nothing
 * else. No look-up of names: those go on to w_io_engine.resolve. Any bytes may come in; what is not understood is -EINVAL with
 * a sentence that quotes it (unprintable bytes as ?, long ones cut). */
#ifndef W_ADDRESS_H
#define W_ADDRESS_H

#include "runtime/base.h"
#include "runtime/io/io.h"

enum w_address_kind {
    W_ADDRESS_NUMERIC,   /* `socket` is filled: an IP address, * (as [::], both families), or a unix path or name */
    W_ADDRESS_NAME,      /* `host` and `port` are to be looked up */
    W_ADDRESS_INHERITED, /* `descriptor` is a listening socket that this process was started with */
};

struct w_address {
    enum w_address_kind kind;
    struct w_io_address socket; /* NUMERIC */
    char host[256];             /* NAME: 1 to 253 bytes */
    uint16_t port;              /* NAME; NUMERIC with an IP address */
    int descriptor;             /* INHERITED: >= 0 */
    bool filesystem;            /* true exactly when it is a unix socket with a path: the one kind that leaves a file behind */
};

/* Reads the text of an address to listen on. 0, -EINVAL (not understood), -ENOENT (a systemd:// that is not there).
 * `text` may be NULL (-EINVAL). On failure *address is zeroed. Any thread. */
int w_address_parse(const char *text, struct w_address *address, weir_error *error);

/* The same for an address to dial: without *, port 0, fd:// and systemd:// (-EINVAL). */
int w_address_parse_dial(const char *text, struct w_address *address, weir_error *error);

/* Writes "tcp://127.0.0.1:80", "tcp://[::1]:80", "unix:///path", "unix://@name", "unix:" (a unix socket without a name), cut to fit and
 * always ended when bytes > 0; w_address_parse reads it back. 0, -ENOSPC (cut), -EINVAL (another family). */
int w_address_text(const struct w_io_address *address, char *text, size_t text_bytes);

/* The same as weir_conn_peer() writes it: "127.0.0.1:80", "[::1]:80", "unix:/path", "unix:@name", "unix:". An IPv4 peer of a socket
 * that listens on both families is written as IPv4. */
int w_address_peer_text(const struct w_io_address *address, char *text, size_t text_bytes);

#endif
