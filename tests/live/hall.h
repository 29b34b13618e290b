/* SPDX-License-Identifier: MIT */
/* hall: a runtime of several shards and connections of which the test knows the shard. Each connection is a seat: one end of a socket
 * pair, adopted by shard number % shards when the shard starts; the other end, the visitor, is the test's. The shards are turned by
 * the test's own thread ("here") or by weir's ("apart"). Closing a hall checks the sums that every runtime promises, and that all
 * memory went home.
 *
 *     hall_init(&hall, 2);
 *     ...hall.config, hall.protocol, the hooks...
 *     hall_open_here(&hall, 4);
 *     ...
 *     hall_close(&hall); */
#ifndef TEST_HALL_H
#define TEST_HALL_H

#include "fixture.h"
#include "live.h"

struct hall;

struct seat {
    struct hall *hall;
    uint32_t number, shard;
    int descriptor; /* weir's end, until it is adopted */
    int visitor;    /* -1: closed, or somebody else's */
    weir_id id;
    weir_conn *conn; /* for its shard's thread; NULL: not open */
    atomic_uint opened, closed, readied;
    atomic_uint_fast64_t messages, bytes; /* delivered to the handler */
    weir_close_event event;               /* once closed */
    void *user;                           /* the test's */
};

struct hall {
    weir_config config;
    weir_protocol protocol;
    bool tcp;          /* the pairs are TCP connections; else unix sockets, where taken by the kernel is exactly readable by the visitor */
    bool own_channels; /* there are some: what they do not deliver is told to them, and not in close events */
    bool stopped_in_mid_stream; /* shards may still have something under way to each other, which goes home when the runtime is closed */
    uint32_t send_buffer_bytes; /* SO_SNDBUF of weir's ends; 0: the kernel's */
    /* Hooks; each may be NULL. On the shards' threads. */
    const weir_protocol *(*protocol_of)(struct hall *hall, uint32_t number); /* its callbacks set by hall_speak */
    void (*on_start)(struct hall *hall, weir_shard *shard);
    int (*on_open)(struct seat *seat, weir_conn *conn);
    int (*on_message)(struct seat *seat, weir_conn *conn, const weir_message *message);
    void (*on_ready)(struct seat *seat, weir_conn *conn);
    void (*on_close)(struct seat *seat, weir_conn *conn, const weir_close_event *event);
    void *user; /* the test's */

    struct fixture fixture;
    struct fixture *turner; /* NULL exactly when weir's threads turn the shards */
    struct runner runner;
    bool stopped;
    weir_runtime *runtime;
    struct account account;
    struct seat *seats;
    uint32_t seat_count;
    atomic_uint opens, closes;
    atomic_uint_fast64_t undelivered_messages, undelivered_bytes; /* of all close events */
    weir_stats stats;                                             /* the last ones, once closed */
};

/* Frames, small tables, an allocator that counts. */
void hall_init(struct hall *hall, uint32_t shards);
/* Makes a protocol one of the hall's: sets its callbacks. */
void hall_speak(struct hall *hall, weir_protocol *protocol);
void hall_open_here(struct hall *hall, uint32_t seats);
void hall_open_apart(struct hall *hall, uint32_t seats);
/* Stops weir's threads (apart only) and waits; the runtime stays, so that ports can still be asked. */
void hall_stop(struct hall *hall);
/* Closes the visitors, waits for the ends, stops, checks, closes. Ports have to be closed before. */
void hall_close(struct hall *hall);
struct hall *hall_of(const weir_shard *shard);
weir_shard *hall_shard(const struct hall *hall, uint32_t index);
weir_stats hall_stats(const struct hall *hall);
void hall_leave(struct seat *seat); /* the visitor closes */

/* Waits in the way of this hall. */
#define HALL_UNTIL(hall, condition) UNTIL((hall)->turner, condition)
/* For so long, turning if it is turned here. */
void hall_pass(struct hall *hall, uint64_t ns);

weir_port *hall_port(struct hall *hall);
/* weir_port_send of a message filled by `seed` (see fixture_fill). */
int hall_send(weir_port *port, const struct seat *seat, uint32_t bytes, uint64_t seed);
/* The visitor gets exactly this frame. */
void hall_expect(struct hall *hall, struct seat *seat, uint32_t bytes, uint64_t seed);
/* Nothing comes to the visitor for a while. */
void hall_expect_silence(struct hall *hall, struct seat *seat);
/* All that is there for the visitor now, and is thrown away: how many bytes. */
uint64_t hall_take_all(struct seat *seat);
uint64_t hall_queued_bytes(const struct seat *seat);
/* Here only: turns until the kernel takes no more of it. */
void hall_settle(struct hall *hall, const struct seat *seat);

/* --- what came back to a port --- */

struct tally {
    uint32_t events[WEIR_PORT_CHANNEL_ENDED + 1]; /* by kind */
    uint64_t undelivered_messages, undelivered_bytes;
    uint64_t ended_messages, ended_bytes; /* of channels */
    weir_port_event last;                 /* of any kind */
    weir_port_event of[WEIR_PORT_CHANNEL_ENDED + 1];
};

void tally_note(struct tally *tally, const weir_port_event *event);
/* Collects all that there is now: how many. */
uint32_t tally_collect(struct tally *tally, weir_port *port);
/* Flushes, collects, and checks that the port's sums close and that all that was not delivered was told. */
void tally_settle(struct tally *tally, struct hall *hall, weir_port *port);

#endif
