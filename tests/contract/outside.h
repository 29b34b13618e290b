/* SPDX-License-Identifier: MIT */
/* outside: what the contract test needs of the world outside an engine: peers that connect, write, read and vanish. One for real sockets, one
 * for the simulated world; the tests see no difference. Nothing here waits: the tests turn the engine meanwhile. */
#ifndef TESTS_CONTRACT_OUTSIDE_H
#define TESTS_CONTRACT_OUTSIDE_H

#include "runtime/io/io.h"

struct outside_peer;

struct outside {
    const char *name;
    bool real;  /* time and threads are real */
    bool rough; /* the kernel does whatever it may */

    void (*open)(uint64_t seed);
    void (*close)(void);
    const struct w_io_engine *(*engine)(void);

    /* A client on its way. */
    struct outside_peer *(*connect)(const struct w_io_address *address);
    bool (*is_open)(struct outside_peer *peer);
    void (*address)(struct outside_peer *peer, struct w_io_address *address);
    /* The count, 0: no room now, or a negative errno. */
    int64_t (*write)(struct outside_peer *peer, const void *data, size_t bytes);
    /* The count, 0: the end, -EAGAIN: nothing now, or another negative errno. */
    int64_t (*read)(struct outside_peer *peer, void *data, size_t bytes);
    void (*shutdown)(struct outside_peer *peer);
    void (*finish)(struct outside_peer **peer); /* close; sets it to NULL */
    void (*reset)(struct outside_peer **peer);

    /* A server; port 0 in the address is replaced by the real one. */
    struct outside_peer *(*serve)(struct w_io_address *address);
    struct outside_peer *(*accept)(struct outside_peer *server); /* NULL: nobody now */
    /* A connected descriptor and its other end; a listening descriptor. */
    int (*adoptable)(struct outside_peer **peer);
    int (*inheritable)(struct w_io_address *address);
    /* Looks whether the descriptor that an embedded shard sleeps on is readable. */
    bool (*is_readable)(struct w_io *io);
    /* Calls wake() after a while: from another thread where there is one. One at a time. */
    void (*wake_after)(struct w_io *io, uint64_t after_ns);
    void (*wake_done)(void);
};

extern const struct outside outside_real, outside_sim, outside_rough_sim;

#endif
