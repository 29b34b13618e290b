/* SPDX-License-Identifier: MIT */
/* stage: for plays of ports and own channels: the library's own code for both, compiled here so that its atomic operations are steps, between one shard and
 * the ports of some threads. What lies around it is scenery: an engine that only sleeps and wakes, one connection, an allocator that keeps books.
 *
 * The shard plays its part of each turn, the connection's life with it: pressed and not, with a writer that sends the own channels' runs, and in the end it
 * ends; then the shard goes over, after some turns or when all threads have left. */
#ifndef TEST_STAGE_H
#define TEST_STAGE_H

#include "play.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/chance.h"

/* The mistakes are in what one file of the library calls in another. */
enum stage_mistake {
    STAGE_NO_MISTAKE,
    STAGE_OVER_NOT_ASKED,      /* what is published behind the shard's end is not asked back */
    STAGE_LINK_NOT_LET_GO,     /* a shard that goes over does not let go of its links */
    STAGE_BLOBS_NOT_COLLECTED, /* a port that closes does not look for blobs that have come home */
    STAGE_BACK_NOT_RUNG,       /* the shard does not ring for what it leaves for a port */
    STAGE_ENDED_NOT_RUNG,      /* the shard ends a channel and does not ring */
    STAGE_LOOK_NOT_RUNG,       /* a producer that finds the shard idle does not ring */
    STAGE_CHANNEL_KEPT,        /* the shard ends a channel and does not give back what it had of its port */
    STAGE_DOZES_BLINDLY,       /* the shard sleeps without looking at its bell once more */
};
static enum stage_mistake stage_mistake;
#define STAGE_UNLESS(mistake, call) (stage_mistake == (mistake) ? (void)0 : (call))

/* What the scenery has in place of the library's: by other names, so that both may be linked. */
#define w_table_find        stage_table_find
#define w_conn_take_crossed stage_conn_take_crossed
#define w_conn_want         stage_conn_want
#define w_conn_attach       stage_conn_attach
#define w_conn_heard        stage_conn_heard
#define w_group_deliver     stage_group_deliver
#define w_pipe_refused      stage_pipe_refused
#define w_pipe_room         stage_pipe_room
#define weir_send_to        stage_send_to
#define weir_end            stage_weir_end

#include "runtime/blob.c"
#include "runtime/own.h"
#include "runtime/port_back.c"
#define w_port_ring_back(port, number) STAGE_UNLESS(STAGE_BACK_NOT_RUNG, w_port_ring_back(port, number))
#define w_port_part(link)              STAGE_UNLESS(STAGE_LINK_NOT_LET_GO, w_port_part(link))
#include "runtime/port_shard.c"
#undef w_port_ring_back
#undef w_port_part
#define w_bell_ring(bell, number) (stage_mistake != STAGE_LOOK_NOT_RUNG && w_bell_ring(bell, number))
#include "runtime/own.c"
#undef w_bell_ring
#define w_port_ring_back(port, number) STAGE_UNLESS(STAGE_ENDED_NOT_RUNG, w_port_ring_back(port, number))
#define w_port_unreference(port)       STAGE_UNLESS(STAGE_CHANNEL_KEPT, w_port_unreference(port))
#include "runtime/own_run.c"
#undef w_port_ring_back
#undef w_port_unreference
#define w_port_ring_back(port, number) STAGE_UNLESS(STAGE_OVER_NOT_ASKED, w_port_ring_back(port, number))
#define w_port_orphan_blobs(port)      STAGE_UNLESS(STAGE_BLOBS_NOT_COLLECTED, w_port_orphan_blobs(port))
#include "runtime/port.c"
#undef w_port_ring_back
#undef w_port_orphan_blobs
#include "runtime/attach.c"
#include "runtime/crossing.c"
#include "runtime/port_calls.c"

#include "event.h"

#define STAGE_THREADS  2u
#define STAGE_SESSIONS (2 * STAGE_THREADS) /* a thread opens its port twice at most */
#define STAGE_PORTS    2u
#define STAGE_CHANNELS 2u
#define STAGE_BLOCKS   256u
#define STAGE_BYTES    4096u /* of rings */

/* Begins each message. */
struct stage_message {
    uint32_t session;
    uint32_t number; /* from 0 on, in its session or its channel */
};

/* An own channel as the connection's writer has it. */
struct stage_run {
    weir_channel *channel; /* NULL: none */
    bool is_active;
    uint32_t next; /* the number of its next message */
};

static struct {
    weir_config config;
    struct w_io_engine engine;
    struct w_io io;
    struct w_port_table table;
    struct w_core core;
    struct w_core *cores[1];
    _Atomic(weir_port *) ports[1 + STAGE_PORTS];
    _Atomic bool channels[STAGE_CHANNELS];
    struct w_link *links[1 + STAGE_PORTS];
    _Atomic(struct w_link *) newcomers[1 + STAGE_PORTS];
    weir_channel *owns[STAGE_CHANNELS];
    weir_protocol protocol;
    void *blocks[STAGE_BLOCKS]; /* what is allocated; NULL: nothing */
    uint64_t clock;
    /* Where the shard and the threads sleep. */
    alignas(64) _Atomic bool woken;
    _Atomic bool asleep;
    _Atomic uint32_t token;
    /* The connection, and what its shard knows of it. */
    alignas(64) _Atomic uint64_t word;
    alignas(64) struct chance chance;
    struct w_port_note *wants;
    struct stage_run runs[STAGE_CHANNELS];
    uint32_t turns, stop_turn;
    bool is_mean;  /* now and then there is no memory */
    bool is_picky; /* now and then a message is refused */
    bool is_open;
    uint32_t next[STAGE_SESSIONS]; /* the least number that a session's next message may have */
    uint64_t taken[STAGE_SESSIONS], posts_run;
    _Atomic uint32_t threads_left;
} stage;

/* What happened over all seeds, on the shard. */
static struct {
    uint64_t over_early, pressed, no_memory, idle, over_in_mid_run, slept;
} stage_seen;

#define STAGE_GENERATION UINT64_C(1)
static const weir_id stage_conn = {UINT64_C(3) << W_CONN_GENERATION_BITS | STAGE_GENERATION};

/* --- scenery: memory --- */

/* No steps, and no order between threads: books are not what is played. */
static void *stage_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    void *memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    for (uint32_t i = 0; i < STAGE_BLOCKS; i++) {
        void *none = NULL;
        if (__atomic_compare_exchange_n(&stage.blocks[i], &none, memory, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return memory;
    }
    play_fail("more than %u blocks of memory", STAGE_BLOCKS);
}

static void stage_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    for (uint32_t i = 0; i < STAGE_BLOCKS; i++)
        if (__atomic_load_n(&stage.blocks[i], __ATOMIC_RELAXED) == memory) {
            __atomic_store_n(&stage.blocks[i], NULL, __ATOMIC_RELAXED);
            free(memory);
            return;
        }
    play_fail("memory is freed that is not allocated");
}

static uint32_t stage_blocks(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < STAGE_BLOCKS; i++)
        count += stage.blocks[i] != NULL;
    return count;
}

/* --- scenery: the engine --- */

static void stage_wake(struct w_io *io)
{
    (void)io;
    if (!atomic_exchange(&stage.woken, true) && atomic_load(&stage.asleep))
        atomic_store_explicit(&stage.token, 1, memory_order_relaxed);
}

static uint64_t stage_clock(struct w_io *io)
{
    (void)io;
    return __atomic_add_fetch(&stage.clock, 1, __ATOMIC_RELAXED);
}

/* As uring.c: fall_asleep(), rise(), use_up_wake(). */
static void stage_sleep(void)
{
    struct w_bell *bell = &stage.core.bell;
    atomic_store(&stage.asleep, true);
    bool is_quiet = stage_mistake == STAGE_DOZES_BLINDLY ? (atomic_store(&bell->asleep, true), true) : w_bell_doze(bell);
    if (is_quiet && !atomic_load(&stage.woken)) {
        stage_seen.slept++;
        PLAY_SLEEP_WHILE(&stage.token, 0);
        atomic_store_explicit(&stage.token, 0, memory_order_relaxed);
    }
    atomic_store_explicit(&stage.asleep, false, memory_order_relaxed);
    w_bell_rise(bell);
    if (atomic_load_explicit(&stage.woken, memory_order_relaxed))
        (void)atomic_exchange(&stage.woken, false);
}

/* --- scenery: the connection --- */

static uint64_t stage_conn_word(const struct w_core *core, uint32_t slot)
{
    (void)core;
    (void)slot;
    return atomic_load_explicit(&stage.word, memory_order_relaxed);
}

static const weir_protocol *stage_conn_protocol(const struct w_core *core, weir_id id)
{
    uint64_t word = stage_conn_word(core, 0);
    return id.value == stage_conn.value && (word & ~W_CORE_PRESSED) == STAGE_GENERATION ? &stage.protocol : NULL;
}

weir_conn *w_table_find(const struct w_conn_table *table, uint32_t slot, uint64_t generation)
{
    (void)table;
    (void)slot;
    return stage.is_open && generation == STAGE_GENERATION ? (weir_conn *)(void *)&stage : NULL;
}

static bool stage_is_poor(void)
{
    bool is_poor = stage.is_mean && chance_one_in(&stage.chance, 4);
    stage_seen.no_memory += is_poor;
    return is_poor;
}

int w_conn_take_crossed(weir_conn *conn, const void *data, uint32_t bytes, weir_blob *blob, uint32_t offset)
{
    struct stage_message message;
    (void)conn;
    PLAY_MUST(bytes >= sizeof message && (blob == NULL || data == blob->data + offset));
    memcpy(&message, data, sizeof message);
    PLAY_MUST(message.session < STAGE_SESSIONS);
    if (stage_is_poor())
        return -ENOMEM;
    play_note("session %u: message %u", message.session, message.number);
    PLAY_MUST(message.number >= stage.next[message.session]);
    stage.next[message.session] = message.number + 1;
    if (stage.is_picky && chance_one_in(&stage.chance, 4))
        return -EMSGSIZE;
    stage.taken[message.session]++;
    return 0;
}

int w_conn_want(weir_conn *conn, const struct w_link *link, const struct w_port_want *want)
{
    (void)conn;
    if ((atomic_load_explicit(&stage.word, memory_order_relaxed) & W_CORE_PRESSED) == 0)
        return -EALREADY;
    struct w_port_note *note = w_pool_take(&stage.core.pool, sizeof *note);
    *note = (struct w_port_note){
        .next = stage.wants,
        .port = link->port->number,
        .serial = link->port->serial,
        .answer = {.kind = WEIR_PORT_READY, .id = stage_conn.value, .want = *want},
    };
    stage.wants = note;
    return 0;
}

static struct stage_run *stage_run_of(const weir_channel *channel)
{
    uint32_t i = 0;
    while (i < STAGE_CHANNELS && stage.runs[i].channel != channel)
        i++;
    PLAY_MUST(i < STAGE_CHANNELS);
    return &stage.runs[i];
}

int w_conn_attach(weir_conn *conn, weir_channel *channel)
{
    (void)conn;
    if (stage_is_poor())
        return -ENOMEM;
    play_note("channel %u is attached", channel->number);
    *stage_run_of(NULL) = (struct stage_run){.channel = channel, .is_active = true};
    PLAY_MUST(stage.owns[channel->number] == NULL);
    stage.owns[channel->number] = channel;
    return 0;
}

void w_conn_heard(weir_conn *conn, weir_channel *channel)
{
    (void)conn;
    stage_run_of(channel)->is_active = true;
}

void w_pipe_refused(weir_conn *conn, int error)
{
    (void)conn;
    (void)error;
}

uint32_t w_group_deliver(struct w_core *core, const struct w_burst *burst)
{
    (void)core;
    (void)burst;
    return 0;
}

void w_pipe_room(struct w_core *core)
{
    (void)core;
}

int weir_send_to(weir_shard *shard, weir_id id, const void *data, uint32_t bytes)
{
    (void)shard;
    (void)id;
    (void)data;
    (void)bytes;
    return -ENOSYS;
}

void weir_end(weir_conn *conn)
{
    (void)conn;
}

/* --- the shard --- */

static void stage_press(bool presses)
{
    stage_seen.pressed += presses;
    atomic_store_explicit(&stage.word, STAGE_GENERATION | (presses ? W_CORE_PRESSED : 0), memory_order_relaxed);
    while (!presses && stage.wants != NULL) {
        struct w_port_note *note = stage.wants;
        stage.wants = note->next;
        w_port_tell_ready(&stage.core, note);
    }
}

static bool stage_is_pressed(void)
{
    return (atomic_load_explicit(&stage.word, memory_order_relaxed) & W_CORE_PRESSED) != 0;
}

static void stage_end_run(struct stage_run *run, weir_reason reason)
{
    weir_channel *channel = run->channel;
    play_note("channel %u ends", channel->number);
    stage.owns[channel->number] = NULL;
    *run = (struct stage_run){.channel = NULL};
    w_own_end(channel, reason);
}

/* Reads the run as the peer would: whole messages, each once, in order. */
static void stage_check_run(struct stage_run *run, uint32_t run_bytes)
{
    static uint8_t copy[STAGE_BYTES];
    struct iovec runs[2];
    struct stage_message message;
    uint32_t bytes, at = 0, count = w_own_view(run->channel, UINT32_MAX, runs, &bytes);
    PLAY_MUST_EQUAL(bytes, run_bytes);
    for (uint32_t i = 0; i < count; at += (uint32_t)runs[i++].iov_len)
        memcpy(copy + at, runs[i].iov_base, runs[i].iov_len);
    for (at = 0; at < bytes; at += message.session) {
        PLAY_MUST(at + sizeof message <= bytes);
        memcpy(&message, copy + at, sizeof message); /* `session`: how long it is */
        PLAY_MUST_EQUAL(message.number, run->next++);
        PLAY_MUST(message.session >= sizeof message);
    }
    PLAY_MUST_EQUAL(at, bytes);
}

/* Over: the connection takes nothing more, or the producer sends nothing more, and has sent no more than what came. */
static void stage_check_over(const struct stage_run *run)
{
    const weir_channel *channel = run->channel;
    if (atomic_load_explicit(&channel->refused, memory_order_relaxed))
        return;
    PLAY_MUST(atomic_load_explicit(&channel->closed, memory_order_acquire));
    PLAY_MUST_EQUAL(channel->stats.messages_sent, run->next);
}

/* One look of the writer at one channel, and the run that it finds, in parts. */
static void stage_write(struct stage_run *run)
{
    switch (w_own_look(run->channel)) {
    case W_OWN_IDLE:
        stage_seen.idle++;
        run->is_active = false;
        return;
    case W_OWN_OVER:
        stage_check_over(run);
        stage_end_run(run, WEIR_REASON_PEER);
        return;
    case W_OWN_SOMETHING:
        break;
    }
    uint32_t left = w_own_begin(run->channel);
    stage_check_run(run, left);
    play_note("channel %u: a run of %u bytes", run->channel->number, left);
    while (left > 0) {
        uint32_t part = chance_one_in(&stage.chance, 2) ? left : 1 + (uint32_t)chance_below(&stage.chance, left);
        if (chance_one_in(&stage.chance, 16)) { /* the peer has reset it */
            stage_seen.over_in_mid_run++;
            stage_end_run(run, WEIR_REASON_RESET);
            return;
        }
        (void)w_own_take(run->channel, part);
        left -= part;
    }
}

/* The connection's part of a turn; true: it wants another. */
static bool stage_live(void)
{
    bool wants_more = false;
    if (stage.is_open && (stage_is_pressed() ? chance_one_in(&stage.chance, 2) : chance_one_in(&stage.chance, 6)))
        stage_press(!stage_is_pressed());
    wants_more = stage_is_pressed();
    for (uint32_t i = 0; i < STAGE_CHANNELS; i++) {
        if (stage.runs[i].channel != NULL && stage.runs[i].is_active)
            stage_write(&stage.runs[i]);
        wants_more |= stage.runs[i].channel != NULL && stage.runs[i].is_active;
    }
    return wants_more;
}

/* Gracefully, or not. */
static void stage_end_conn(void)
{
    bool drains = chance_one_in(&stage.chance, 2);
    play_note("the connection ends");
    for (uint32_t i = 0; i < STAGE_CHANNELS; i++) {
        struct stage_run *run = &stage.runs[i];
        if (run->channel != NULL && drains)
            atomic_store_explicit(&run->channel->refused, true, memory_order_relaxed);
        while (run->channel != NULL && drains)
            stage_write(run);
        if (run->channel != NULL)
            stage_end_run(run, WEIR_REASON_LOCAL);
    }
    stage_press(false);
    stage.is_open = false;
    atomic_store_explicit(&stage.word, STAGE_GENERATION + 1, memory_order_relaxed);
}

/* True: it wants another. */
static bool stage_turn(void)
{
    struct w_core *core = &stage.core;
    core->in_turn = true;
    if (core->stalled != NULL || w_bell_is_due(&core->bell))
        w_crossing_turn(core);
    bool wants_more = stage_live();
    w_crossing_publish(core);
    core->in_turn = false;
    return wants_more || w_crossing_is_short(core) || w_bell_is_due(&core->bell);
}

/* All threads have left, and the connection lives: nothing of theirs is left on the shard, nor anywhere else. */
static void stage_settle(void)
{
    while (stage_turn())
        continue;
    for (uint32_t i = 0; i < STAGE_CHANNELS; i++)
        PLAY_MUST(stage.runs[i].channel == NULL && !atomic_load_explicit(&stage.channels[i], memory_order_relaxed));
    for (uint32_t i = 1; i <= STAGE_PORTS; i++)
        PLAY_MUST(stage.links[i] == NULL && atomic_load_explicit(&stage.ports[i], memory_order_relaxed) == NULL);
}

static void stage_shard(void)
{
    struct w_core *core = &stage.core;
    while (atomic_load_explicit(&stage.threads_left, memory_order_acquire) > 0 && ++stage.turns < stage.stop_turn)
        if (!stage_turn())
            stage_sleep();
    if (atomic_load_explicit(&stage.threads_left, memory_order_acquire) == 0)
        stage_settle();
    else
        stage_seen.over_early++;
    core->in_turn = true;
    stage_end_conn();
    w_crossing_publish(core);
    play_note("goes over");
    w_port_over(core);
    w_port_flush_back(core);
    core->in_turn = false;
}

/* --- threads --- */

/* A thread has done all it wanted. */
static void stage_leave(void)
{
    if (atomic_fetch_sub_explicit(&stage.threads_left, 1, memory_order_acq_rel) == 1)
        stage_wake(&stage.io);
}

/* Opens the session's port; NULL: the numbers are taken, by ports that are closed and not let go of. */
static weir_port *stage_open(void)
{
    weir_port *port;
    for (uint32_t tries = 0; tries < 8; tries++) {
        int result = w_port_init_thread(&port, &stage.table, STAGE_CHANNELS);
        if (result == 0)
            return port;
        PLAY_MUST(result == -ENOSPC);
        play_yield();
    }
    return NULL;
}

/* --- begin and end --- */

static int stage_seal(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal)
{
    (void)codec;
    (void)payload;
    (void)bytes;
    seal->head_bytes = seal->trailer_bytes = 0;
    return 0;
}

static void stage_begin(uint64_t seed)
{
    struct w_core *core = &stage.core;
    static uint64_t bell_memory[64];
    for (uint32_t i = 0; i < STAGE_BLOCKS; i++) /* a play that failed has left something */
        free(stage.blocks[i]);
    memset(core, 0, offsetof(struct w_core, wheel)); /* (nobody sets a timer) */
    memset(&stage.table, 0, sizeof stage.table);
    memset((char *)&stage + offsetof(__typeof__(stage), ports), 0, sizeof stage - offsetof(__typeof__(stage), ports));
    stage.chance.state = seed;
    stage.config = (weir_config){
        .shards = 1,
        .ports = STAGE_PORTS,
        .channels = STAGE_CHANNELS,
        .ring_bytes = STAGE_BYTES,
        .port_bytes = 65536,
        .allocator = {.allocate = stage_allocate, .release = stage_release},
    };
    stage.engine = (struct w_io_engine){
        .wake = stage_wake,
        .clock = stage_clock,
        .event_set = event_set,
        .event_reset = event_reset,
        .event_wait = event_wait,
        .event_close = event_close,
    };
    stage.protocol.codec = (weir_codec){.name = "stage", .seal = stage_seal, .message_max_bytes = STAGE_BYTES, .boundaries = true};
    stage.cores[0] = core;
    stage.table.engine = &stage.engine;
    stage.table.config = &stage.config;
    stage.table.cores = stage.cores;
    stage.table.ports = stage.ports;
    stage.table.channels = stage.channels;
    stage.table.capacity = 1 + STAGE_PORTS;
    core->io = &stage.io;
    core->engine = &stage.engine;
    core->config = &stage.config;
    core->ports = &stage.table;
    core->links = stage.links;
    core->newcomers = stage.newcomers;
    core->owns = stage.owns;
    core->conn_word = stage_conn_word;
    core->conn_protocol = stage_conn_protocol;
    core->blob_away = w_port_send_home;
    core->owner = w_core_self();
    ck_assert_uint_le(w_bell_bytes(w_port_bell_count(&stage.config)), sizeof bell_memory);
    memset(bell_memory, 0, sizeof bell_memory);
    w_bell_init(&core->bell, w_port_bell_count(&stage.config), bell_memory);
    w_pool_init(&core->pool, &stage.config.allocator, 1 << 20);
    ck_assert_int_eq(w_port_init_shard(&core->port, &stage.table, core), 0);
    atomic_init(&stage.word, STAGE_GENERATION);
    atomic_init(&stage.threads_left, STAGE_THREADS);
    stage.is_open = true;
    stage.is_mean = chance_one_in(&stage.chance, 3);
    stage.is_picky = chance_one_in(&stage.chance, 2);
    stage.stop_turn = chance_one_in(&stage.chance, 2) ? UINT32_MAX : 1 + (uint32_t)chance_below(&stage.chance, 12);
}

/* All threads have left and the shard is over: nothing is left of anybody. */
static void stage_end(void)
{
    w_port_close_shard(stage.core.port);
    w_pool_trim(&stage.core.pool);
    PLAY_MUST_EQUAL(stage.core.pool.taken_bytes, 0);
    for (uint32_t i = 0; i < STAGE_PORTS; i++)
        PLAY_MUST(stage.ports[1 + i] == NULL);
    for (uint32_t i = 0; i < STAGE_CHANNELS; i++)
        PLAY_MUST(!stage.channels[i]);
    PLAY_MUST_EQUAL(stage_blocks(), 0);
}

#endif
