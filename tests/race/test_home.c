/* SPDX-License-Identifier: MIT */
/* test_home: big messages of a thread's port to two shards, played: their memory comes home from both, or with a shard that goes over
 * before it has read them, or when the port is closed already. The port's budget is small: it is refused for memory, and told when there
 * is some again, whether it waits for an event or in a call. In the end all memory is home, each blob freed once. */
#include "play.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/chance.h"

/* The mistakes are in what one file of the library calls in another. */
enum mistake {
    NONE,
    BLOBS_NOT_COLLECTED, /* a port that closes does not look for blobs that have come home */
    CLOSED_NOT_SEEN,     /* the shard leaves what it returns to a port that is closed meanwhile */
    BACK_NOT_RUNG,       /* the shard does not ring for what it leaves for a port */
    LINK_NOT_LET_GO,     /* a shard that goes over does not let go of its links */
};
static enum mistake mistake;
#define UNLESS(which, call) (mistake == (which) ? (void)0 : (call))

#include "runtime/blob.c"
#include "runtime/own.h"
#include "runtime/port_back.c"
#define w_port_ring_back(port, number)  UNLESS(BACK_NOT_RUNG, w_port_ring_back(port, number))
#define w_port_part(link)               UNLESS(LINK_NOT_LET_GO, w_port_part(link))
#define w_port_free_orphans(port, blob) UNLESS(CLOSED_NOT_SEEN, w_port_free_orphans(port, blob))
#include "runtime/port_shard.c"
#undef w_port_ring_back
#undef w_port_part
#undef w_port_free_orphans
#define w_port_orphan_blobs(port) (mistake == BLOBS_NOT_COLLECTED ? (void)atomic_store(&(port)->closed, true) : w_port_orphan_blobs(port))
#include "runtime/port.c"
#undef w_port_orphan_blobs
#include "runtime/port_calls.c"

#include "event.h"

#define SHARDS         2u
#define BLOCKS         64u
#define RING_BYTES     4096u
#define BIG_BYTES      4096u
#define PORT_BYTES     (3 * 8192u) /* some blobs at a time */
#define OPERATIONS_MAX 8u
#define GENERATION     UINT64_C(1)

static struct {
    weir_config config;
    struct w_io_engine engine;
    struct w_port_table table;
    struct w_core cores[SHARDS];
    struct w_core *core_pointers[SHARDS];
    weir_protocol protocol;
    void *blocks[BLOCKS]; /* what is allocated; NULL: nothing */
    _Atomic(weir_port *) ports[SHARDS + 1];
    struct w_link *links[SHARDS][SHARDS + 1];
    _Atomic(struct w_link *) newcomers[SHARDS][SHARDS + 1];
    struct chance chances[SHARDS + 1]; /* the shards', the thread's */
    weir_blob *kept[SHARDS][16];       /* what a shard has read and not let go of yet */
    uint32_t kept_count[SHARDS];
    alignas(64) _Atomic uint32_t woken[SHARDS];
    alignas(64) _Atomic bool is_over; /* the thread has left */
    uint64_t clock;
} game;

/* What happened over all seeds; each player its own. */
static struct {
    alignas(64) uint64_t over, taken, kept;
} seen_there[SHARDS];
static struct {
    alignas(64) uint64_t sent, refused, waited, told, shut, undelivered;
} seen;

/* --- scenery --- */

/* No steps, and no order between threads: books are not what is played. */
static void *game_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    void *memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        void *none = NULL;
        if (__atomic_compare_exchange_n(&game.blocks[i], &none, memory, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return memory;
    }
    play_fail("more than %u blocks of memory", BLOCKS);
}

static void game_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (__atomic_load_n(&game.blocks[i], __ATOMIC_RELAXED) == memory) {
            __atomic_store_n(&game.blocks[i], NULL, __ATOMIC_RELAXED);
            free(memory);
            return;
        }
    play_fail("memory is freed that is not allocated");
}

/* Each shard's io is its core, here. */
static void game_wake(struct w_io *io)
{
    uint32_t shard = ((struct w_core *)(void *)io)->index;
    atomic_store_explicit(&game.woken[shard], 1, memory_order_release);
}

static uint64_t game_clock(struct w_io *io)
{
    (void)io;
    return __atomic_add_fetch(&game.clock, 1, __ATOMIC_RELAXED);
}

static int game_event_wait(void *world, struct w_io_event *event, uint64_t wait_ns)
{
    PLAY_MUST(wait_ns == WEIR_FOREVER);
    return event_wait(world, event, wait_ns);
}

static uint64_t game_conn_word(const struct w_core *core, uint32_t slot)
{
    (void)core;
    (void)slot;
    return GENERATION;
}

static const weir_protocol *game_conn_protocol(const struct w_core *core, weir_id id)
{
    (void)core;
    (void)id;
    return &game.protocol;
}

static weir_id conn_of(uint32_t shard)
{
    return (weir_id){(uint64_t)shard << (CONN_GENERATION_BITS + CONN_SLOT_BITS) | GENERATION};
}

static void begin_shard(uint32_t i)
{
    static _Atomic uint64_t bell_memory[SHARDS][8];
    struct w_core *core = &game.cores[i];
    core->index = i;
    core->io = (struct w_io *)(void *)core;
    core->engine = &game.engine;
    core->config = &game.config;
    core->ports = &game.table;
    core->links = game.links[i];
    core->newcomers = game.newcomers[i];
    core->conn_word = game_conn_word;
    core->conn_protocol = game_conn_protocol;
    core->blob_away = w_port_send_home;
    core->in_turn = true;
    game.core_pointers[i] = core;
    memset(bell_memory[i], 0, sizeof bell_memory[i]);
    w_bell_init(&core->bell, w_port_bell_count(&game.config), bell_memory[i]);
    w_pool_init(&core->pool, &game.config.allocator, 1 << 20);
}

static void begin(uint64_t seed)
{
    struct chance chance = {seed};
    for (uint32_t i = 0; i < BLOCKS; i++) /* a play that failed has left something */
        free(game.blocks[i]);
    memset(&game, 0, sizeof game);
    game.config = (weir_config){
        .shards = SHARDS,
        .ports = 1,
        .channels = 1,
        .ring_bytes = RING_BYTES,
        .port_bytes = PORT_BYTES,
        .allocator = {.allocate = game_allocate, .release = game_release},
    };
    game.engine = (struct w_io_engine){
        .wake = game_wake,
        .clock = game_clock,
        .event_set = event_set,
        .event_reset = event_reset,
        .event_wait = game_event_wait,
        .event_close = event_close,
    };
    game.table.engine = &game.engine;
    game.table.config = &game.config;
    game.table.cores = game.core_pointers;
    game.table.ports = game.ports;
    game.table.capacity = SHARDS + 1;
    for (uint32_t i = 0; i < SHARDS; i++)
        begin_shard(i);
    for (uint32_t i = 0; i <= SHARDS; i++)
        game.chances[i].state = chance_u64(&chance);
}

/* --- a shard --- */

/* Some of what it has goes: that is what its connections do when the kernel has taken it. */
static void let_some_go(uint32_t shard, bool all)
{
    while (game.kept_count[shard] > 0 && (all || chance_one_in(&game.chances[shard], 2)))
        w_blob_release(&game.cores[shard], &game.kept[shard][--game.kept_count[shard]]);
}

/* As crossing_link. */
static void shard_read(uint32_t shard, uint32_t number)
{
    struct w_core *core = &game.cores[shard];
    struct w_link *link = w_port_link_here(core, number);
    const uint8_t *piece;
    if (link == NULL)
        return;
    bool closing = atomic_load_explicit(&link->closing, memory_order_acquire);
    w_spsc_look(&link->there);
    while ((piece = w_spsc_piece(&link->there)) != NULL && game.kept_count[shard] < W_COUNT(game.kept[shard])) {
        const struct w_port_record *record = (const struct w_port_record *)(const void *)piece;
        struct w_port_blob part;
        PLAY_MUST_EQUAL(record->kind, W_PORT_BLOB);
        memcpy(&part, record->data, sizeof part);
        game.kept[shard][game.kept_count[shard]++] = part.blob;
        uint64_t read = atomic_load_explicit(&link->blob_bytes_read, memory_order_relaxed);
        atomic_store_explicit(&link->blob_bytes_read, read + part.bytes, memory_order_relaxed);
        seen_there[shard].taken++;
        w_spsc_next(&link->there, (uint32_t)sizeof *record + ((record->bytes + 7) & ~7U));
    }
    w_port_release_there(link);
    if (closing && link->there.read == link->there.tail_seen) {
        w_port_flush_back(core);
        core->links[number] = NULL;
        w_port_part(link);
    } else if (piece != NULL) {
        (void)w_bell_ring(&core->bell, number);
    }
}

/* True: it wants another turn. */
static bool shard_turn(uint32_t shard)
{
    struct w_core *core = &game.cores[shard];
    uint32_t number;
    let_some_go(shard, false);
    while (w_bell_hear(&core->bell, &number))
        shard_read(shard, number);
    w_port_flush_back(core);
    seen_there[shard].kept += game.kept_count[shard] > 0;
    return game.kept_count[shard] > 0 || w_bell_is_due(&core->bell);
}

static void shard_run(uint32_t shard)
{
    struct w_core *core = &game.cores[shard];
    uint64_t turns = chance_one_in(&game.chances[shard], 2) ? UINT64_MAX : 1 + chance_below(&game.chances[shard], 6);
    while (!atomic_load_explicit(&game.is_over, memory_order_acquire) && turns-- > 0) {
        if (!shard_turn(shard) && w_bell_doze(&core->bell))
            PLAY_SLEEP_WHILE(&game.woken[shard], 0);
        w_bell_rise(&core->bell);
        atomic_store_explicit(&game.woken[shard], 0, memory_order_relaxed);
    }
    seen_there[shard].over += !atomic_load_explicit(&game.is_over, memory_order_acquire);
    let_some_go(shard, true); /* its connections end first */
    play_note("goes over");
    w_port_over(core);
}

static void shard_0(void)
{
    shard_run(0);
}

static void shard_1(void)
{
    shard_run(1);
}

/* --- the thread --- */

static void collect(weir_port *port, bool *is_refused)
{
    weir_port_event event;
    while (weir_port_next(port, &event)) {
        PLAY_MUST(event.kind == WEIR_PORT_ROOM || event.kind == WEIR_PORT_UNDELIVERED);
        seen.told += event.kind == WEIR_PORT_ROOM;
        seen.undelivered += event.kind == WEIR_PORT_UNDELIVERED;
        if (event.kind == WEIR_PORT_ROOM)
            *is_refused = false;
    }
}

static void send_one(weir_port *port, bool *is_refused)
{
    static const uint8_t data[BIG_BYTES];
    struct chance *chance = &game.chances[SHARDS];
    weir_id id = conn_of((uint32_t)chance_below(chance, SHARDS));
    bool waits = chance_one_in(chance, 4);
    int result = waits ? weir_port_send_wait(port, id, data, sizeof data, WEIR_FOREVER) : weir_port_send(port, id, data, sizeof data);
    play_note("sends to shard %u: %d", w_port_shard_of(id), result);
    PLAY_MUST(result == 0 || result == -ESHUTDOWN || (result == -EAGAIN && !waits));
    seen.sent += result == 0;
    seen.shut += result == -ESHUTDOWN;
    seen.refused += result == -EAGAIN;
    *is_refused |= result == -EAGAIN;
}

static void thread_run(void)
{
    struct chance *chance = &game.chances[SHARDS];
    weir_port *port;
    bool is_refused = false;
    PLAY_MUST_EQUAL(w_port_init_thread(&port, &game.table, 1), 0);
    for (uint64_t left = 2 + chance_below(chance, OPERATIONS_MAX); left > 0; left--) {
        send_one(port, &is_refused);
        while (is_refused && chance_one_in(chance, 2)) {
            seen.waited++;
            PLAY_MUST_EQUAL(weir_port_wait(port, WEIR_FOREVER), 0);
            collect(port, &is_refused);
        }
        if (chance_one_in(chance, 4))
            collect(port, &is_refused);
    }
    play_note("closes");
    weir_port_close(&port);
    atomic_store_explicit(&game.is_over, true, memory_order_release);
    for (uint32_t i = 0; i < SHARDS; i++)
        game_wake(game.cores[i].io);
}

/* --- the program, and its mistakes --- */

static void end(void)
{
    uint32_t blocks = 0;
    PLAY_MUST(game.ports[SHARDS] == NULL);
    for (uint32_t i = 0; i < SHARDS; i++) {
        w_pool_trim(&game.cores[i].pool);
        PLAY_MUST_EQUAL(game.cores[i].pool.taken_bytes, 0);
    }
    for (uint32_t i = 0; i < BLOCKS; i++)
        blocks += game.blocks[i] != NULL;
    PLAY_MUST_EQUAL(blocks, 0);
}

static const struct play_program program = {
    .name = "home",
    .begin = begin,
    .end = end,
    .players = {{"shard 0", shard_0}, {"shard 1", shard_1}, {"thread", thread_run}},
    .cost = 4,
};

START_TEST(all_memory_comes_home)
{
    if (!play_seeds(&program))
        return;
    ck_assert(seen.sent > 0 && seen.refused > 0 && seen.waited > 0 && seen.told > 0 && seen.shut > 0 && seen.undelivered > 0);
    for (uint32_t i = 0; i < SHARDS; i++)
        ck_assert(seen_there[i].over > 0 && seen_there[i].taken > 0 && seen_there[i].kept > 0);
}
END_TEST

static const char *const mistakes[] = {
    [BLOBS_NOT_COLLECTED] = "a port that closes does not look for blobs that have come home",
    [CLOSED_NOT_SEEN] = "the shard leaves what it returns to a port that is closed meanwhile",
    [BACK_NOT_RUNG] = "the shard does not ring for what it leaves for a port",
    [LINK_NOT_LET_GO] = "a shard that goes over does not let go of its links",
};

START_TEST(mistake_is_found)
{
    mistake = (enum mistake)_i;
    play_mistake(&program, mistakes[_i]);
}
END_TEST

int main(void)
{
    const struct play_suite races = {
        .name = "home",
        .test = all_memory_comes_home,
        .mistake = mistake_is_found,
        .mistakes_first = BLOBS_NOT_COLLECTED,
        .mistakes_end = W_COUNT(mistakes),
        .seconds = 100,
    };
    return play_main(&races);
}
