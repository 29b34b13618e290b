/* SPDX-License-Identifier: MIT */
/* hammer_shapes: the races that hammer plays with real threads. Each is a pair of store-then-load, or of store-and-store and
 * load-and-load, that a comment in runtime/ relies on, run by the library's own functions wherever these can be called apart. What is
 * planted is a copy of one side with its fence left out; for `message`, where x86 keeps stores in their order whether they are asked to or
 * not, it is the wrong order itself. */
#include "tests/race/hammer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/own.h"

bool hammer_planted;

#define RING_BYTES  4096u
#define PIECE_BYTES 1024u
#define ENDS        256u

/* --- scenery: a shard and a port, as far as the functions look at them --- */

static struct {
    weir_config config;
    struct w_io_engine engine;
    struct w_port_table table;
    struct w_core core;
    struct w_core *cores[1];
    _Atomic(weir_port *) ports[1 + HAMMER_SLOTS];
    struct w_link *links[1 + HAMMER_SLOTS];
    _Atomic(struct w_link *) newcomers[1 + HAMMER_SLOTS];
    weir_port port;
    _Atomic uint64_t bell_memory[2][64];
} scene;

static void *scene_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void scene_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    free(memory);
}

static void scene_wake(struct w_io *io)
{
    (void)io;
}

static void scene_open(void)
{
    struct w_core *core = &scene.core;
    scene.config = (weir_config){
        .shards = 1,
        .ports = HAMMER_SLOTS,
        .channels = HAMMER_SLOTS,
        .ring_bytes = RING_BYTES,
        .port_bytes = UINT64_MAX / 2,
        .allocator = {.allocate = scene_allocate, .release = scene_release},
    };
    scene.engine = (struct w_io_engine){.wake = scene_wake};
    scene.cores[0] = core;
    scene.table.engine = &scene.engine;
    scene.table.config = &scene.config;
    scene.table.cores = scene.cores;
    scene.table.ports = scene.ports;
    scene.table.capacity = 1 + HAMMER_SLOTS;
    core->engine = &scene.engine;
    core->config = &scene.config;
    core->ports = &scene.table;
    core->links = scene.links;
    core->newcomers = scene.newcomers;
    core->in_turn = true;
    scene.port.table = &scene.table;
    scene.port.bell = &scene.port.own_bell;
    memset(scene.bell_memory, 0, sizeof scene.bell_memory);
    w_bell_init(&core->bell, w_port_bell_count(&scene.config), scene.bell_memory[0]);
    w_bell_init(scene.port.bell, HAMMER_SLOTS, scene.bell_memory[1]);
}

/* --- slots --- */

static struct slot {
    alignas(64) _Atomic uint32_t x;
    alignas(64) _Atomic uint32_t y;
    alignas(64) struct w_bell bell;
    struct w_spsc ring;
    weir_channel channel;
    weir_port *port;
    weir_blob *blob;
    bool rung; /* for its channel, by the bell of the shard or of the port */
    uint32_t round;
    uint32_t ends[ENDS];
    uint8_t data[RING_BYTES];
    alignas(64) uint32_t left;  /* what the left side has found */
    alignas(64) uint32_t right; /* and the right one */
} slots[HAMMER_SLOTS];

static void hear_all(struct w_bell *bell, uint32_t first)
{
    uint32_t number;
    while (w_bell_hear(bell, &number))
        slots[number - first].rung = true;
}

/* --- store-buffer: the fence alone --- */

static void buffer_begin(uint32_t i)
{
    atomic_store_explicit(&slots[i].x, 0, memory_order_relaxed);
    atomic_store_explicit(&slots[i].y, 0, memory_order_relaxed);
}

static void buffer_left(uint32_t i)
{
    atomic_store_explicit(&slots[i].x, 1, memory_order_relaxed);
    if (!hammer_planted)
        w_base_fence();
    slots[i].left = atomic_load_explicit(&slots[i].y, memory_order_relaxed);
}

static void buffer_right(uint32_t i)
{
    atomic_store_explicit(&slots[i].y, 1, memory_order_relaxed);
    w_base_fence();
    slots[i].right = atomic_load_explicit(&slots[i].x, memory_order_relaxed);
}

static uint32_t buffer_judge(uint32_t i)
{
    return slots[i].left * 2 + slots[i].right;
}

/* --- message: the ring --- */

static void ring_open(void)
{
    for (uint32_t i = 0; i < HAMMER_SLOTS; i++)
        w_spsc_init(&slots[i].ring, slots[i].data, RING_BYTES);
}

static void message_begin(uint32_t i)
{
    slots[i].round++;
}

static void message_left(uint32_t i)
{
    struct w_spsc *ring = &slots[i].ring;
    uint32_t piece[4] = {slots[i].round, slots[i].round, slots[i].round, slots[i].round};
    uint8_t *room = w_spsc_reserve(ring, sizeof piece);
    if (!hammer_planted)
        memcpy(room, piece, sizeof piece);
    w_spsc_commit(ring, room, sizeof piece);
    w_spsc_publish(ring);
    if (hammer_planted)
        memcpy(room, piece, sizeof piece);
}

static void message_right(uint32_t i)
{
    struct w_spsc *ring = &slots[i].ring;
    uint32_t piece[4];
    slots[i].right = 0;
    if (!w_spsc_look(ring))
        return;
    memcpy(piece, w_spsc_piece(ring), sizeof piece);
    slots[i].right = 1;
    for (uint32_t word = 0; word < W_COUNT(piece); word++)
        if (piece[word] != slots[i].round)
            slots[i].right = 2;
    w_spsc_next(ring, sizeof piece);
    w_spsc_release_read(ring);
}

static uint32_t message_judge(uint32_t i)
{
    uint32_t found = slots[i].right;
    if (found == 0)
        message_right(i);
    return found != 0 ? found : slots[i].right == 1 ? 0 : 2;
}

/* --- bell-bit: pair 1 of bell.h --- */

static void bit_begin(uint32_t i)
{
    struct slot *slot = &slots[i];
    w_bell_init(&slot->bell, 1, NULL);
    atomic_store_explicit(&slot->x, 0, memory_order_relaxed);
    (void)w_bell_ring(&slot->bell, 0); /* it has rung before, and not been heard yet */
}

static void bit_left(uint32_t i)
{
    struct slot *slot = &slots[i];
    atomic_store_explicit(&slot->x, 1, memory_order_release);
    /* w_bell_ring without its fence, up to where it would go. */
    if (hammer_planted && (atomic_load_explicit(w_bell_word(&slot->bell, 0), memory_order_relaxed) & 1) != 0)
        return;
    (void)w_bell_ring(&slot->bell, 0);
}

static void bit_right(uint32_t i)
{
    uint32_t number;
    slots[i].right = 0;
    if (w_bell_hear(&slots[i].bell, &number))
        slots[i].right = atomic_load_explicit(&slots[i].x, memory_order_acquire);
}

static uint32_t bit_judge(uint32_t i)
{
    return slots[i].right != 0 ? 0 : w_bell_is_due(&slots[i].bell) ? 1 : 2;
}

/* --- bell-sleep: pair 2 --- */

static void sleep_begin(uint32_t i)
{
    w_bell_init(&slots[i].bell, 1, NULL);
}

static void sleep_left(uint32_t i)
{
    slots[i].left = w_bell_ring(&slots[i].bell, 0);
}

/* w_bell_doze without its fence. */
static bool doze_unfenced(struct w_bell *bell)
{
    atomic_store_explicit(&bell->asleep, true, memory_order_relaxed);
    return !w_bell_is_due(bell);
}

static void sleep_right(uint32_t i)
{
    slots[i].right = hammer_planted ? doze_unfenced(&slots[i].bell) : w_bell_doze(&slots[i].bell);
}

static uint32_t sleep_judge(uint32_t i)
{
    return !slots[i].right ? 0 : slots[i].left ? 1 : 2;
}

/* --- idle: the producer of an own channel and its shard --- */

static void channel_open(void)
{
    scene_open();
    for (uint32_t i = 0; i < HAMMER_SLOTS; i++) {
        weir_channel *channel = &slots[i].channel;
        *channel =
            (weir_channel){.port = &scene.port, .number = i, .place = i, .ends = slots[i].ends, .ends_count = ENDS, .share = RING_BYTES};
        w_spsc_init(&channel->ring, slots[i].data, RING_BYTES);
    }
}

static void channel_commit(weir_channel *channel)
{
    uint8_t *room = w_spsc_reserve(&channel->ring, PIECE_BYTES);
    uint32_t piece = channel->ring.tail_pieces;
    w_spsc_commit(&channel->ring, room, PIECE_BYTES);
    channel->ends[piece % ENDS] = channel->ring.tail;
}

/* All that is there has gone out. */
static void channel_drain(weir_channel *channel)
{
    atomic_store_explicit(&channel->idle, false, memory_order_relaxed);
    atomic_store_explicit(&channel->waiting, false, memory_order_relaxed);
    while (w_own_look(channel) == W_OWN_SOMETHING)
        (void)w_own_take(channel, w_own_begin(channel));
    atomic_store_explicit(&channel->idle, false, memory_order_relaxed);
}

static void idle_begin(uint32_t i)
{
    channel_drain(&slots[i].channel);
    slots[i].rung = false;
    channel_commit(&slots[i].channel);
}

/* weir_channel_publish without the fence of own_tell. */
static void publish_unfenced(weir_channel *channel)
{
    w_spsc_publish(&channel->ring);
    if (atomic_load_explicit(&channel->idle, memory_order_relaxed) && atomic_exchange(&channel->idle, false))
        (void)w_bell_ring(&scene.core.bell, w_port_bell_channels(&scene.config) + channel->number);
}

static void idle_left(uint32_t i)
{
    if (hammer_planted)
        publish_unfenced(&slots[i].channel);
    else
        weir_channel_publish(&slots[i].channel);
}

static void idle_right(uint32_t i)
{
    slots[i].right = w_own_look(&slots[i].channel) == W_OWN_SOMETHING;
}

static uint32_t idle_judge(uint32_t i)
{
    hear_all(&scene.core.bell, w_port_bell_channels(&scene.config));
    return slots[i].right ? (slots[i].rung ? 3 : 0) : slots[i].rung ? 1 : 2;
}

/* --- room: a producer that waits, and the shard that makes room --- */

static void room_begin(uint32_t i)
{
    weir_channel *channel = &slots[i].channel;
    channel_drain(channel);
    hear_all(scene.port.bell, 0);
    slots[i].rung = false;
    for (uint32_t left = 3; left > 0; left--)
        channel_commit(channel);
    w_spsc_publish(&channel->ring);
    (void)w_own_look(channel);
    slots[i].round = w_own_begin(channel);
}

static void room_left(uint32_t i)
{
    weir_channel *channel = &slots[i].channel;
    if (hammer_planted)
        atomic_store_explicit(&channel->waiting, true, memory_order_relaxed);
    else
        w_own_wait(channel);
    slots[i].left = w_own_has_room(channel);
}

static void room_right(uint32_t i)
{
    (void)w_own_take(&slots[i].channel, slots[i].round);
}

static uint32_t room_judge(uint32_t i)
{
    hear_all(scene.port.bell, 0);
    return slots[i].left ? 0 : slots[i].rung ? 1 : 2;
}

/* --- blobs: the last reference goes on the shard while the port closes --- */

static void blobs_open(void)
{
    int error;
    scene_open();
    for (uint32_t i = 0; i < HAMMER_SLOTS; i++) {
        if (slots[i].port == NULL &&
            (w_port_init_thread(&slots[i].port, &scene.table, 1) != 0 || w_port_link(slots[i].port, 0, &error) == NULL))
            abort();
        (void)w_port_link_here(&scene.core, slots[i].port->number);
    }
}

static void blobs_begin(uint32_t i)
{
    static const uint8_t data[64];
    weir_port *port = slots[i].port;
    atomic_store_explicit(&port->closed, false, memory_order_relaxed);
    port->blobs_away = 0;
    slots[i].blob = w_port_blob(port, data, sizeof data);
    if (slots[i].blob == NULL)
        abort();
}

static void blobs_left(uint32_t i)
{
    w_port_orphan_blobs(slots[i].port);
}

/* w_port_send_home and what follows at the end of the turn, without the fence of link_return. */
static void return_unfenced(weir_port *port, weir_blob *blob)
{
    struct w_link *link = port->links[0];
    blob->next = NULL;
    atomic_store_explicit(&link->returned, blob, memory_order_release);
    if (atomic_load_explicit(&port->closed, memory_order_acquire))
        w_port_free_orphans(port, atomic_exchange_explicit(&link->returned, NULL, memory_order_acquire));
}

static void blobs_right(uint32_t i)
{
    if (hammer_planted) {
        return_unfenced(slots[i].port, slots[i].blob);
        return;
    }
    w_port_send_home(&scene.core, slots[i].blob);
    w_port_flush_back(&scene.core);
}

/* The port's references are that for being open, the link's, and one for each blob that is away. */
static uint32_t blobs_judge(uint32_t i)
{
    weir_port *port = slots[i].port;
    uint32_t references = atomic_load_explicit(&port->references, memory_order_relaxed);
    if (references == 2)
        return port->blobs_away == 0 ? 0 : 1;
    w_port_take_returned(port); /* it lay where nobody looks any more */
    atomic_store_explicit(&port->references, 2, memory_order_relaxed);
    return references > 2 ? 2 : 3;
}

/* --- over: a port that leaves its first link, and a shard that goes over --- */

static void over_left(uint32_t i)
{
    struct slot *slot = &slots[i];
    atomic_store_explicit(&slot->x, 1, memory_order_release);
    if (!hammer_planted)
        (void)w_bell_ring(&slot->bell, 0); /* whose fence it is */
    slot->left = atomic_load_explicit(&slot->y, memory_order_relaxed);
}

static void over_right(uint32_t i)
{
    atomic_store(&slots[i].y, 1);
    w_base_fence();
    slots[i].right = atomic_exchange_explicit(&slots[i].x, 0, memory_order_acquire);
}

static void over_begin(uint32_t i)
{
    buffer_begin(i);
    sleep_begin(i);
}

static uint32_t over_judge(uint32_t i)
{
    return slots[i].right ? 0 : slots[i].left ? 1 : 2;
}

const struct hammer_shape hammer_shapes[HAMMER_SHAPES] = {
    {
        .name = "store-buffer",
        .what = "w_base_fence between a store and a load, on both sides",
        .plant = "one side has no fence",
        .outcomes = {"neither sees", "right sees", "left sees", "both see"},
        .wrong = 1U << 0,
        .open = ring_open,
        .begin = buffer_begin,
        .left = buffer_left,
        .right = buffer_right,
        .judge = buffer_judge,
    },
    {
        .name = "message",
        .what = "w_spsc_publish, w_spsc_look (x86 keeps the order anyway)",
        .plant = "the piece is published before it is written",
        .outcomes = {"not yet", "whole", "torn"},
        .wrong = 1U << 2,
        .open = ring_open,
        .begin = message_begin,
        .left = message_left,
        .right = message_right,
        .judge = message_judge,
    },
    {
        .name = "bell-bit",
        .what = "w_bell_ring, w_bell_hear",
        .plant = "ring has no fence between the data and the bit",
        .outcomes = {"seen", "rings again", "lost"},
        .wrong = 1U << 2,
        .open = ring_open,
        .begin = bit_begin,
        .left = bit_left,
        .right = bit_right,
        .judge = bit_judge,
    },
    {
        .name = "bell-sleep",
        .what = "w_bell_ring, w_bell_doze",
        .plant = "doze has no fence between asleep and the look",
        .outcomes = {"awake", "woken", "sleeps on"},
        .wrong = 1U << 2,
        .open = ring_open,
        .begin = sleep_begin,
        .left = sleep_left,
        .right = sleep_right,
        .judge = sleep_judge,
    },
    {
        .name = "idle",
        .what = "weir_channel_publish, w_own_look",
        .plant = "publishing has no fence before the look at idle",
        .outcomes = {"looks on", "rung", "left lying", "seen to twice"},
        .wrong = 1U << 2 | 1U << 3,
        .open = channel_open,
        .begin = idle_begin,
        .left = idle_left,
        .right = idle_right,
        .judge = idle_judge,
    },
    {
        .name = "room",
        .what = "w_own_wait, w_own_has_room, w_own_take",
        .plant = "waiting has no fence before the look for room",
        .outcomes = {"finds room", "is told", "waits on"},
        .wrong = 1U << 2,
        .open = channel_open,
        .begin = room_begin,
        .left = room_left,
        .right = room_right,
        .judge = room_judge,
    },
    {
        .name = "blobs",
        .what = "w_port_send_home, w_port_flush_back, w_port_orphan_blobs",
        .plant = "returning has no fence before the look at closed",
        .outcomes = {"home", "orphan", "never freed", "freed twice"},
        .wrong = 1U << 2 | 1U << 3,
        .open = blobs_open,
        .begin = blobs_begin,
        .left = blobs_left,
        .right = blobs_right,
        .judge = blobs_judge,
    },
    {
        .name = "over",
        .what = "a link left for a shard, as in port_publish_link and w_port_over",
        .plant = "over is looked at without having rung",
        .outcomes = {"found", "sees over", "left lying"},
        .wrong = 1U << 2,
        .open = ring_open,
        .begin = over_begin,
        .left = over_left,
        .right = over_right,
        .judge = over_judge,
    },
};
