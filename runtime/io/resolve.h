/* SPDX-License-Identifier: MIT */
/* resolve: looking names up with glibc's getaddrinfo_a, which has threads of its own for it.
 *
 * A look-up in flight belongs to glibc: it reads and writes its memory until it is done, and cannot always be stopped. So that memory comes from
 * malloc, not from the embedder's allocator (who may tear his memory down right after weir_close), and whoever gives a
 * look-up up has to ask again, later, until glibc is done. Nothing here blocks but w_resolve_now and w_resolve_wait. */
#ifndef W_RESOLVE_H
#define W_RESOLVE_H

#include "runtime/io/io.h"

struct w_resolve;

/* Looks up a host that is a number: fills in resolve->addresses and answers 1, or 0 when it is a name. Does not block. */
int w_resolve_number(struct w_io_resolve *resolve);
/* Looks a name or number up, blocking: the count, or a negative errno as struct w_io_resolve has them. */
int w_resolve_now(struct w_io_resolve *resolve);

/* Starts a look-up in the background. 0, -ENOMEM, -EAGAIN. */
int w_resolve_start(const struct w_io_resolve *asked, struct w_resolve **lookup);
/* True once glibc is done with it. */
bool w_resolve_done(const struct w_resolve *lookup);
/* Asks glibc to give it up; true when it is done with it now. */
bool w_resolve_cancel(struct w_resolve *lookup);
/* Waits until it is done, at most limit_ns; true when it is. */
bool w_resolve_wait(struct w_resolve *lookup, uint64_t limit_ns);
/* Once done: fills in resolve->addresses (unless NULL), frees the look-up, and answers as w_resolve_now. */
int w_resolve_finish(struct w_resolve **lookup, struct w_io_resolve *resolve);

#endif
