/* SPDX-License-Identifier: MIT */
/* rig: an engine on the bench: one shard of it, every completion recorded and checked against the contract, and streams that restart their
 * receives as io.h says. The rig is the most patient caller that the contract allows. */
#ifndef TESTS_CONTRACT_RIG_H
#define TESTS_CONTRACT_RIG_H

#include "tests/contract/outside.h"

/* One operation that was begun. Tokens are the index with a high bit set, so that an engine has to keep all 63 bits. */
struct rig_operation {
    struct w_io_completion *completions;
    uint32_t count;
    uint32_t place; /* of its last completion among all */
    bool over;      /* the final completion has come */
};

struct rig {
    const struct outside *outside;
    const struct w_io_engine *engine;
    struct w_io *io;
    struct rig_operation *operations;
    uint32_t operation_count, operation_capacity;
    uint32_t in_flight;
    uint32_t completions; /* taken */
    uint64_t patience_ns; /* how long rig_until() waits */
};

/* Bytes of one direction, put together. */
struct rig_bytes {
    uint8_t *data;
    size_t count, capacity;
    bool ended;
    int error; /* 0, or the negative errno that ended it */
};

/* A handle that is received from: restarted whenever its receive ends without an end. */
struct rig_stream {
    int handle;
    uint64_t token;
    uint32_t seen; /* completions of the token looked at */
    bool receiving;
    bool fresh;  /* this receive has brought nothing yet */
    bool paused; /* not to be restarted */
    bool cancelled;
    bool keep_next; /* the next completion with data goes to `kept` as well, with two references of its own */
    struct w_io_completion kept;
    struct rig_bytes bytes;
    uint32_t starved; /* -ENOBUFS seen */
};

/* Opens the world and a started shard in it. buffers 0: 64; buffer_bytes 0: the engine's default. embedded: by the setup, or (odd seeds) by
 * asking for the descriptor. */
void rig_open(struct rig *rig, const struct outside *outside, uint64_t seed, uint32_t buffers, uint32_t buffer_bytes, bool embedded);
/* Checks that everything has come home. */
void rig_close(struct rig *rig);

/* A token for a new operation. */
uint64_t rig_begin(struct rig *rig);
struct rig_operation *rig_of(struct rig *rig, uint64_t token);
/* The last completion's result. The operation must be over. */
int32_t rig_result(struct rig *rig, uint64_t token);
/* submit(wait_ns) and take() everything. */
void rig_turn(struct rig *rig, uint64_t wait_ns);
/* The same, and the number of completions it brought. */
uint32_t rig_turn_count(struct rig *rig, uint64_t wait_ns);
/* Turns until the operation is over: its result. */
int32_t rig_wait(struct rig *rig, uint64_t token);

/* Turns until `condition` holds; `also` is done after each turn. */
#define rig_until(rig, condition, also)                                                                                                    \
    do {                                                                                                                                   \
        uint64_t rig_deadline_ns = (rig)->engine->clock((rig)->io) + (rig)->patience_ns;                                                   \
        while (also, !(condition)) {                                                                                                       \
            ck_assert_msg((rig)->engine->clock((rig)->io) < rig_deadline_ns, "waited too long for %s", #condition);                        \
            rig_turn((rig), 2 * WEIR_MILLISECOND);                                                                                         \
        }                                                                                                                                  \
    } while (0)

/* Starts receiving. */
void rig_stream_open(struct rig *rig, struct rig_stream *stream, int handle);
/* Looks at what has come: copies it, releases its buffers, restarts the receive if that is called for. */
void rig_stream_look(struct rig *rig, struct rig_stream *stream);
/* Cancels what is in flight, waits for its end, frees the bytes. */
void rig_stream_close(struct rig *rig, struct rig_stream *stream);

void rig_bytes_free(struct rig_bytes *bytes);
/* Reads what a peer can read now. */
void rig_peer_read(struct rig *rig, struct outside_peer *peer, struct rig_bytes *bytes);

/* Bytes that look like nothing else; `salt` tells streams apart. */
void rig_fill(uint8_t *data, size_t bytes, uint32_t salt);
void rig_check(const struct rig_bytes *bytes, size_t count, uint32_t salt);

/* 127.0.0.1 with a port. */
struct w_io_address rig_loopback(uint16_t port);
uint16_t rig_port(const struct w_io_address *address);
/* Listens on loopback, port 0; *address is where. */
int rig_listen(struct rig *rig, struct w_io_address *address);
/* A peer that connects to what the rig listens on, and the handle of its connection. */
int rig_accept_one(struct rig *rig, int listening, const struct w_io_address *address, struct outside_peer **peer);
/* Closes a handle and waits for it. */
void rig_close_handle(struct rig *rig, int handle);
/* Cancels an operation that is in flight and waits for its end: its last result. */
int32_t rig_cancel(struct rig *rig, uint64_t token);

#endif
