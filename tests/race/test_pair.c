/* SPDX-License-Identifier: MIT */
/* test_pair: the two questions of a ring between a producer and a shard, played: who sees to the rest when the shard goes idle, and who tells the producer of
 * room (own.h). Each is a flag that one side sets before it looks once more, and that both take back by an exchange, so that exactly one of them
 * goes on: nothing is left lying, and never are two records in flight where room is reserved for one. */
#include "play.h"

#include <check.h>

#include "runtime/spsc.h"
#include "tests/unit/chance.h"

#define RING_BYTES 32u
#define PIECES_MAX 8u

enum mistake {
    NONE,
    IDLE_WITHOUT_LOOKING,
    LOOKS_THEN_IDLE,
    GOES_ON_WITHOUT_ASKING,
    CLEARS_BY_STORE,
    TELLS_BEFORE_PUBLISHING,
    WAITS_WITHOUT_LOOKING,
    LOOKS_THEN_WAITS,
    TELLS_BEFORE_RELEASING,
};

static struct {
    enum mistake mistake;
    struct w_spsc ring;
    uint8_t data[RING_BYTES];
    uint32_t pieces;
    alignas(64) _Atomic bool idle;    /* the reader has found nothing and does not look any more */
    _Atomic uint32_t looks;           /* in flight: the reader is asked to look */
    alignas(64) _Atomic bool waiting; /* the producer has found no room */
    _Atomic uint32_t rooms;           /* in flight: the producer is told of room */
    alignas(64) struct chance producer_chance;
    alignas(64) struct chance reader_chance;
} game;

/* What happened over all seeds; each side its own. */
static struct {
    alignas(64) uint64_t asked, waited, found_room;
    alignas(64) uint64_t idle, went_on, was_asked_after_all, told;
} seen;

static void begin(uint64_t seed)
{
    struct chance chance = {seed};
    uint32_t start = (uint32_t)chance_below(&chance, RING_BYTES);
    game.ring = (struct w_spsc){.data = game.data,
                                .bytes = RING_BYTES,
                                .tail = start,
                                .head_seen = start,
                                .published = start,
                                .released = start,
                                .read = start,
                                .tail_seen = start};
    game.pieces = 1 + (uint32_t)chance_below(&chance, PIECES_MAX);
    game.producer_chance.state = chance_u64(&chance);
    game.reader_chance.state = chance_u64(&chance);
    atomic_init(&game.idle, true);
    atomic_init(&game.looks, 0);
    atomic_init(&game.waiting, false);
    atomic_init(&game.rooms, 0);
}

static void end(void)
{
    PLAY_MUST_EQUAL(game.ring.read_pieces, game.pieces);
    PLAY_MUST_EQUAL(atomic_load_explicit(&game.looks, memory_order_relaxed), 0);
    PLAY_MUST_EQUAL(atomic_load_explicit(&game.rooms, memory_order_relaxed), 0);
}

/* One more in flight; there is room for one. */
static void tell(_Atomic uint32_t *what)
{
    PLAY_MUST_EQUAL(atomic_fetch_add_explicit(what, 1, memory_order_relaxed), 0);
}

static void wait_for(_Atomic uint32_t *what)
{
    PLAY_SLEEP_WHILE(what, 0);
    atomic_store_explicit(what, 0, memory_order_relaxed);
}

/* True for one of the two that want to clear it. */
static bool take_back(_Atomic bool *flag)
{
    if (game.mistake == CLEARS_BY_STORE) {
        bool was_set = atomic_load(flag);
        atomic_store(flag, false);
        return was_set;
    }
    return atomic_exchange(flag, false);
}

/* --- the producer --- */

static void ask_to_look(void)
{
    w_base_fence();
    if (atomic_load_explicit(&game.idle, memory_order_relaxed) && take_back(&game.idle)) {
        seen.asked++;
        play_note("asks to look");
        tell(&game.looks);
    }
}

static void publish(void)
{
    if (game.mistake == TELLS_BEFORE_PUBLISHING)
        ask_to_look();
    w_spsc_publish(&game.ring);
    if (game.mistake != TELLS_BEFORE_PUBLISHING)
        ask_to_look();
}

/* Full: comes back when there may be room. */
static void wait_for_room(uint32_t bytes)
{
    bool has_room = game.mistake == LOOKS_THEN_WAITS && w_spsc_reserve(&game.ring, bytes) != NULL;
    play_note("has no room");
    atomic_store_explicit(&game.waiting, true, memory_order_relaxed);
    w_base_fence();
    if (game.mistake != LOOKS_THEN_WAITS && game.mistake != WAITS_WITHOUT_LOOKING)
        has_room = w_spsc_reserve(&game.ring, bytes) != NULL;
    if (has_room && take_back(&game.waiting)) {
        seen.found_room++;
        return;
    }
    seen.waited++;
    wait_for(&game.rooms);
}

static void producer(void)
{
    for (uint32_t piece = 0; piece < game.pieces; piece++) {
        uint32_t bytes = 1 + (uint32_t)chance_below(&game.producer_chance, RING_BYTES / 2);
        uint8_t *to;
        while ((to = w_spsc_reserve(&game.ring, bytes)) == NULL) {
            if (!w_spsc_is_published(&game.ring))
                publish();
            wait_for_room(bytes);
        }
        to[0] = (uint8_t)bytes;
        w_spsc_commit(&game.ring, to, bytes);
        if (chance_one_in(&game.producer_chance, 2))
            publish();
    }
    if (!w_spsc_is_published(&game.ring))
        publish();
}

/* --- the reader --- */

static void release(void)
{
    if (game.mistake != TELLS_BEFORE_RELEASING)
        w_spsc_release_read(&game.ring);
    w_base_fence();
    if (atomic_load_explicit(&game.waiting, memory_order_relaxed) && take_back(&game.waiting)) {
        seen.told++;
        play_note("tells of room");
        tell(&game.rooms);
    }
    if (game.mistake == TELLS_BEFORE_RELEASING)
        w_spsc_release_read(&game.ring);
}

static void read_pieces(void)
{
    const uint8_t *piece;
    while ((piece = w_spsc_piece(&game.ring)) != NULL) {
        play_note("reads %u", game.ring.read_pieces);
        w_spsc_next(&game.ring, piece[0]);
        if (chance_one_in(&game.reader_chance, 2))
            release();
    }
    release();
}

/* Nothing there: true when there is something after all, and the producer does not ask to look. */
static bool go_idle(void)
{
    bool has_some = game.mistake == LOOKS_THEN_IDLE && w_spsc_look(&game.ring);
    play_note("goes idle");
    seen.idle++;
    atomic_store_explicit(&game.idle, true, memory_order_relaxed);
    w_base_fence();
    if (game.mistake != LOOKS_THEN_IDLE && game.mistake != IDLE_WITHOUT_LOOKING)
        has_some = w_spsc_look(&game.ring);
    if (!has_some)
        return false;
    bool goes_on = take_back(&game.idle) || game.mistake == GOES_ON_WITHOUT_ASKING;
    seen.went_on += goes_on;
    seen.was_asked_after_all += !goes_on;
    return goes_on;
}

static void reader(void)
{
    wait_for(&game.looks);
    while (w_spsc_look(&game.ring) || game.ring.read_pieces < game.pieces) {
        if (game.ring.read != game.ring.tail_seen)
            read_pieces();
        else if (!go_idle())
            wait_for(&game.looks);
    }
}

/* --- the program, and its mistakes --- */

static const struct play_program program = {
    .name = "pair",
    .begin = begin,
    .end = end,
    .players = {{"producer", producer}, {"reader", reader}},
};

START_TEST(one_of_the_two_goes_on)
{
    game.mistake = NONE;
    if (!play_seeds(&program))
        return;
    ck_assert(seen.asked > 0 && seen.waited > 0 && seen.found_room > 0);
    ck_assert(seen.idle > 0 && seen.went_on > 0 && seen.was_asked_after_all > 0 && seen.told > 0);
}
END_TEST

static const char *const mistakes[] = {
    [IDLE_WITHOUT_LOOKING] = "idle without looking again",
    [LOOKS_THEN_IDLE] = "looks and then says idle",
    [GOES_ON_WITHOUT_ASKING] = "goes on though it was asked to look",
    [CLEARS_BY_STORE] = "a flag taken back by load and store",
    [TELLS_BEFORE_PUBLISHING] = "asks to look before it publishes",
    [WAITS_WITHOUT_LOOKING] = "waits without looking again",
    [LOOKS_THEN_WAITS] = "looks and then says waiting",
    [TELLS_BEFORE_RELEASING] = "tells of room before it releases",
};

START_TEST(mistake_is_found)
{
    game.mistake = (enum mistake)_i;
    play_mistake(&program, mistakes[_i]);
}
END_TEST

int main(void)
{
    const struct play_suite races = {
        .name = "pair",
        .test = one_of_the_two_goes_on,
        .mistake = mistake_is_found,
        .mistakes_first = IDLE_WITHOUT_LOOKING,
        .mistakes_end = W_COUNT(mistakes),
        .seconds = 60,
    };
    return play_main(&races);
}
