/* SPDX-License-Identifier: MIT */
/* socket: the plain socket(2) calls that an engine of the real kernel makes: open, bind, listen, options, addresses.
 *
 * Everything here is set-up or tear-down; nothing is on a message's way. Every descriptor is close-on-exec and blocking: a
 * non-blocking one would answer -EAGAIN where io_uring should wait for it. Options are set on the listener, and TCP's accepted
 * sockets inherit all of them. Accepted unix sockets inherit none: their buffer sizes are the kernel's.
 *
 * All functions: any thread; 0 or a descriptor, or a negative errno. */
#ifndef W_SOCKET_H
#define W_SOCKET_H

#include "runtime/io/io.h"

/* As the functions of struct w_io_engine that they serve (there: listen, listen_inherited, remove_address, socket, adopt,
 * local_address, peer_address). */
int w_socket_listen(const struct w_io_address *address, const weir_socket_options *options, enum w_io_sharing sharing);
int w_socket_listen_inherited(int descriptor, const weir_socket_options *options);
void w_socket_remove(const struct w_io_address *address);
int w_socket_dial(const struct w_io_address *address, const weir_socket_options *options);
int w_socket_adopt(int descriptor, const weir_socket_options *options);
int w_socket_local(int descriptor, struct w_io_address *address);
int w_socket_peer(int descriptor, struct w_io_address *address);

/* The coming close sends a reset and drops what is queued in the kernel. */
void w_socket_reset_on_close(int descriptor);

#endif
