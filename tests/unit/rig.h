/* SPDX-License-Identifier: MIT */
/* rig: a runtime of two shards on the real engine that the test's thread turns by hand, so that the test says who has seen what; the other ends of its
 * connections; and counts of what its callbacks were told. */
#ifndef TEST_RIG_H
#define TEST_RIG_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/weir.h>

#include "must.h"

#define RIG_SHARDS 2u
#define RIG_PEERS  16

static struct rig {
    weir_runtime *runtime;
    weir_shard *shards[RIG_SHARDS];
    weir_protocol frames, raw;
    int peers[RIG_PEERS];
    int peer_count;
    _Atomic int64_t allocations_left; /* so many more succeed; negative: all */
    _Atomic int64_t pieces;           /* that are out */
    uint64_t opens, messages, readies;
    uint64_t closes[WEIR_REASON_COUNT];
    int last_error; /* of on_close */
    struct {        /* what came back to ports, rig_hear */
        uint64_t events[8], undelivered_messages, undelivered_bytes;
    } heard;
    weir_log_level logged_level; /* the gravest */
    char logged[256];            /* and what was said with it, last */
} rig;

static void *rig_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    if (rig.allocations_left == 0)
        return NULL;
    if (rig.allocations_left > 0)
        rig.allocations_left--;
    rig.pieces++;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void rig_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    rig.pieces--;
    free(memory);
}

static int rig_opened(weir_conn *conn)
{
    (void)conn;
    rig.opens++;
    return 0;
}

static int rig_message(weir_conn *conn, const weir_message *message)
{
    (void)conn;
    (void)message;
    rig.messages++;
    return WEIR_TAKEN;
}

static void rig_ready(weir_conn *conn)
{
    (void)conn;
    rig.readies++;
}

static void rig_closed(weir_conn *conn, const weir_close_event *event)
{
    (void)conn;
    rig.closes[event->reason]++;
    rig.last_error = event->error;
}

static void rig_hear(const weir_port_event *event)
{
    rig.heard.events[event->kind]++;
    if (event->kind == WEIR_PORT_UNDELIVERED) {
        rig.heard.undelivered_messages += event->messages;
        rig.heard.undelivered_bytes += event->bytes;
    }
}

static void rig_port_event(weir_shard *shard, const weir_port_event *event)
{
    (void)shard;
    rig_hear(event);
}

static void rig_log(void *user, weir_log_level level, const char *sentence)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    (void)user;
    pthread_mutex_lock(&one_at_a_time);
    if (level >= rig.logged_level) {
        rig.logged_level = level;
        snprintf(rig.logged, sizeof rig.logged, "%s", sentence);
    }
    pthread_mutex_unlock(&one_at_a_time);
}

static inline void rig_turn(void)
{
    uint64_t sleep_ns;
    for (int i = 0; i < 20; i++)
        for (uint32_t shard = 0; shard < RIG_SHARDS; shard++) {
            int result = weir_turn(rig.shards[shard], &sleep_ns);
            MUST(result == 0 || result == -ESHUTDOWN);
        }
}

/* Made, and not turned yet. */
static inline void rig_make(const weir_config *config)
{
    weir_error error;
    memset(&rig, 0, sizeof rig);
    rig.allocations_left = -1;
    rig.raw =
        (weir_protocol){.name = "rig", .on_open = rig_opened, .on_message = rig_message, .on_ready = rig_ready, .on_close = rig_closed};
    rig.frames = rig.raw;
    weir_codec_raw(&rig.raw.codec);
    weir_codec_frame(&rig.frames.codec, NULL);
    weir_config asked = *config;
    asked.shards = RIG_SHARDS;
    asked.receive_buffers = 8;
    asked.stop_ns = 50 * WEIR_MILLISECOND;
    asked.allocator = (weir_allocator){rig_allocate, rig_release, NULL};
    asked.log = rig_log;
    asked.on_port_event = rig_port_event;
    if (weir_open(&asked, &rig.runtime, &error) != 0)
        ck_abort_msg("%s", error.sentence);
    for (uint32_t i = 0; i < RIG_SHARDS; i++)
        rig.shards[i] = weir_shard_at(rig.runtime, i);
}

static inline void rig_open_with(const weir_config *config)
{
    rig_make(config);
    for (uint32_t i = 0; i < RIG_SHARDS; i++)
        MUST(weir_turn_descriptor(rig.shards[i]) >= 0);
    rig_turn();
}

static inline void rig_open(void)
{
    static const weir_config config = {.connections = 8};
    rig_open_with(&config);
}

static inline void rig_close(void)
{
    weir_close(&rig.runtime);
    MUST_EQUAL(rig.pieces, 0);
    for (int i = 0; i < rig.peer_count; i++)
        close(rig.peers[i]);
}

/* A connection on a shard that has not been turned since. */
static inline weir_id rig_adopt(uint32_t shard, const weir_protocol *protocol)
{
    int ends[2];
    weir_id id;
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    MUST_EQUAL(weir_adopt(rig.shards[shard], ends[0], protocol, NULL, &id), 0);
    rig.peers[rig.peer_count++] = ends[1];
    return id;
}

static inline weir_id rig_connect(uint32_t shard, const weir_protocol *protocol)
{
    weir_id id = rig_adopt(shard, protocol);
    rig_turn();
    return id;
}

static inline weir_conn *rig_conn(uint32_t shard, weir_id id)
{
    weir_conn *conn = weir_find(rig.shards[shard], id);
    MUST(conn != NULL);
    return conn;
}

/* All that a peer has been sent. */
static inline uint32_t rig_read(int peer, uint8_t *data, uint32_t bytes_max)
{
    uint32_t bytes = 0;
    for (ssize_t got; (got = recv(rig.peers[peer], data + bytes, bytes_max - bytes, 0)) > 0;)
        bytes += (uint32_t)got;
    return bytes;
}

static inline weir_port *rig_port(void)
{
    weir_port *port;
    MUST_EQUAL(weir_port_open(rig.runtime, NULL, &port, NULL), 0);
    return port;
}

#endif
