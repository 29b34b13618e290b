/* SPDX-License-Identifier: MIT */
/* world: a runtime in which something fails, its connections, and guests at their other ends; all on the test's own thread. Nothing here
 * takes it for granted that a call succeeds: it counts what it is told, and world_close checks that everything was told and is home. */
#ifndef TEST_WORLD_H
#define TEST_WORLD_H

#include <string.h>
#include <sys/socket.h>

#include <weir/weir.h>

#include "failure.h"

#define WORLD_SHARDS 2
#define WORLD_GUESTS 12

struct world;

/* Somebody at the other end of a connection: a plain socket. */
struct guest {
    struct world *world;
    int descriptor;        /* -1: none (any more) */
    _Atomic int seat;      /* weir's end, until it is adopted; -1: none */
    uint32_t shard;        /* that adopts it */
    _Atomic bool adopted;  /* true exactly when weir took the seat */
    _Atomic bool is_ended; /* the connection has ended, or nobody is there to serve it */
    bool is_gone;          /* adopted, and closed again */
    _Atomic bool cut;      /* and something that was expected had not come */
    weir_id id;            /* adopted */
    weir_conn *conn;
    uint64_t heard_bytes;
};

struct world {
    const struct scenario *scenario;
    weir_config config;
    weir_protocol protocol;
    weir_runtime *runtime; /* NULL: it did not open */
    uint32_t shards;
    int descriptors[WORLD_SHARDS]; /* negative: none to be had */
    uint32_t over;                 /* shards that have ended well */
    bool over_of[WORLD_SHARDS];
    int turn_error;         /* of a shard that is broken */
    _Atomic bool is_broken; /* something is broken for good, and the log has said so */
    uint64_t broken_ns;     /* when that was noticed */
    _Atomic bool is_over;   /* apart: weir_run has come back */
    bool unheard;           /* a guest left, or was reset, before it had read everything */
    bool apart;             /* weir's threads turn the shards */
    struct guest guests[WORLD_GUESTS];
    uint32_t guest_count;
    _Atomic uint32_t cut;     /* guests that were */
    _Atomic uint32_t errors;  /* calls of weir that answered an error */
    _Atomic uint32_t started; /* shards */
    char address[WEIR_ADDRESS_MAX_BYTES];
    void (*on_start)(struct world *world, weir_shard *shard);
    /* What the callbacks were told. */
    _Atomic uint32_t opened, closed; /* closed: of those that had opened */
    _Atomic uint32_t failed;         /* closed without having opened */
    _Atomic uint64_t undelivered_messages, undelivered_bytes, reasons[WEIR_REASON_COUNT];
    _Atomic bool has_own_channels;
    char last_log[256];
    _Atomic int64_t pieces, bytes; /* memory that is out */
    uint64_t files;                /* descriptors before, a bit for each of the first 64 */
    weir_timer later_timer;        /* of SAY_LATER */
    weir_id later_id;
    uint32_t fired_timers;
    _Atomic uint32_t posted;
};

uint64_t world_clock_ns(void);

/* Before world_open: frames, echo as commands say (scenarios.h), small tables. */
void world_init(struct world *world, uint32_t shards);
/* False: it did not open, and said why. */
bool world_open(struct world *world);
/* Listens; the first one's address is world->address. False, and counted: it did not, and said why. */
bool world_listen(struct world *world, const char *address, const weir_listen_options *options, weir_listener *listener);
/* Turns each shard once, and waits a moment if there is nothing to do. */
void world_turn(struct world *world);
/* Ends what is left, closes, and checks: sums, memory, descriptors. */
void world_close(struct world *world);
/* An answer of weir's: true when it is 0; else it must be a negative errno that has a sentence, and is counted. */
bool world_went(struct world *world, int result);

/* Turns until the condition holds: true. False: something is broken for good, and it does not hold. Fails the test when it takes too long. */
#define WORLD_UNTIL(world, condition)                                                                                                      \
    __extension__({                                                                                                                        \
        uint64_t until_begin_ns = world_clock_ns();                                                                                        \
        bool until_holds;                                                                                                                  \
        while (!(until_holds = (condition)) && world_goes_on(world, until_begin_ns, #condition))                                           \
            world_turn(world);                                                                                                             \
        until_holds;                                                                                                                       \
    })
/* Like MUST, and says what had failed. */
#define WORLD_MUST(world, condition) ((condition) ? (void)0 : world_abort(world, #condition))
_Noreturn void world_abort(const struct world *world, const char *what);
bool world_goes_on(struct world *world, uint64_t begin_ns, const char *condition);

/* --- guests --- */

/* The pattern of a message: its first byte is the command. */
void world_fill(uint8_t *data, uint32_t bytes, char command, uint64_t seed);
struct guest *guest_new(struct world *world);
struct guest *guest_dial(struct world *world, const char *address);
/* A socket pair; weir's end is adopted by the shard when it starts. Before world_open. */
struct guest *guest_seat(struct world *world, uint32_t shard);
/* A guest whom weir has dialled. */
struct guest *guest_accepted(struct world *world, int descriptor);
/* Sends a frame; hears one, which must be right. False: the connection has ended. */
bool guest_say(struct guest *guest, char command, uint32_t bytes, uint64_t seed);
bool guest_hear(struct guest *guest, char command, uint32_t bytes, uint64_t seed);
bool guest_talk(struct guest *guest, char command, uint32_t bytes, uint64_t seed);
/* The next frame that comes into `data` (room for `max`): its bytes, or -1: ended. */
int guest_read_frame(struct guest *guest, uint8_t *data, uint32_t max);
/* Raw bytes. */
bool guest_send(struct guest *guest, const void *data, size_t bytes);
bool guest_read(struct guest *guest, void *data, size_t bytes);
/* Has said everything; reads to the end; closes. */
void guest_leave(struct guest *guest);
/* Something that was to come to it will not. */
void guest_lacks(struct guest *guest);

#endif
