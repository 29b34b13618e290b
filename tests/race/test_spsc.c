/* SPDX-License-Identifier: MIT */
/* test_spsc: the ring, played: a writer and a reader take steps in every order. Each byte arrives once and in order, nothing is written over that is still
 * to be read, and the count of pieces fits what the reader sees. The ring is far smaller than one may be, so that it is full and wraps all the time. */
#include "play.h"

#include <check.h>
#include <string.h>

#include "runtime/spsc.h"
#include "tests/unit/chance.h"

#define RING_BYTES  64u
#define PIECES_MAX  12u
#define PIECE_BYTES (RING_BYTES / 2)

enum mistake {
    NONE,
    PUBLISHES_BEFORE_FILLING,
    RELEASES_BEFORE_READING,
    ROOM_FOR_ONE_MORE,
    SKIP_TAKES_NO_ROOM,
    SKIPPED_TOLD_LATE,
    COUNT_APART,
    RELEASED_COUNT_APART,
    PUBLISHES_RELAXED, /* the last two for ThreadSanitizer alone */
    RELEASES_RELAXED,
};

static struct {
    enum mistake mistake;
    struct w_spsc ring;
    alignas(64) uint8_t data[RING_BYTES];
    uint64_t seed;
    uint32_t start; /* the first position */
    uint32_t pieces;
    /* The writer's. */
    alignas(64) struct chance writer_chance;
    uint32_t written_bytes;
    /* The reader's. */
    alignas(64) struct chance reader_chance;
    uint32_t read_bytes;
} game;

/* What happened over all seeds; each side its own. */
static struct {
    alignas(64) uint64_t full, wrapped;
    alignas(64) uint64_t empty, two_runs, turns_of_2_32;
} seen;

/* What both sides know without telling each other: how long each piece is, and each byte of the stream. */
static uint32_t piece_bytes(uint32_t piece)
{
    struct chance chance = {game.seed << 8 | piece};
    return 1 + (uint32_t)(chance_one_in(&chance, 2) ? chance_below(&chance, PIECE_BYTES) : chance_below(&chance, 8));
}

static uint8_t byte_of_stream(uint32_t at)
{
    return (uint8_t)(at * 167 + 13);
}

/* The number of whole pieces in so many bytes of the stream. */
static uint32_t whole_pieces_in(uint32_t bytes)
{
    uint32_t piece = 0;
    for (; piece < game.pieces && piece_bytes(piece) <= bytes; piece++)
        bytes -= piece_bytes(piece);
    return piece;
}

static void begin(uint64_t seed)
{
    struct chance chance = {seed};
    static const uint32_t starts[] = {0, RING_BYTES, 0u - RING_BYTES, 0u - 2 * RING_BYTES};
    game.seed = seed;
    game.start = starts[chance_below(&chance, W_COUNT(starts))] + (uint32_t)chance_below(&chance, RING_BYTES);
    game.ring = (struct w_spsc){.data = game.data,
                                .bytes = RING_BYTES,
                                .tail = game.start,
                                .head_seen = game.start,
                                .published = game.start,
                                .skipped = game.start & ~(RING_BYTES - 1),
                                .released = game.start,
                                .read = game.start,
                                .tail_seen = game.start};
    memset(game.data, 0xa5, sizeof game.data);
    game.pieces = 1 + (uint32_t)chance_below(&chance, PIECES_MAX);
    game.writer_chance.state = chance_u64(&chance);
    game.reader_chance.state = chance_u64(&chance);
    game.written_bytes = game.read_bytes = 0;
}

static void end(void)
{
    PLAY_MUST_EQUAL(game.read_bytes, game.written_bytes);
    PLAY_MUST_EQUAL(game.ring.read_pieces, game.pieces);
    PLAY_MUST_EQUAL(w_spsc_look_back(&game.ring), 0);
    PLAY_MUST_EQUAL(game.ring.head_pieces_seen, game.pieces);
    PLAY_MUST(w_spsc_is_published(&game.ring));
    seen.turns_of_2_32 += game.ring.tail < game.start;
}

/* --- the writer --- */

/* As in spsc.h, but for what is wrong. */
static uint8_t *reserve_wrong(struct w_spsc *ring, uint32_t bytes)
{
    uint32_t place = ring->tail & (ring->bytes - 1), rest = ring->bytes - place, skip = bytes > rest ? rest : 0;
    uint32_t taken = game.mistake == SKIP_TAKES_NO_ROOM ? bytes : skip + bytes - 1;
    if (ring->tail - ring->head_seen > ring->bytes - taken) {
        w_spsc_look_back(ring);
        if (ring->tail - ring->head_seen > ring->bytes - taken)
            return NULL;
    }
    return ring->data + (skip != 0 ? 0 : place);
}

static uint8_t *reserve(uint32_t bytes)
{
    bool is_wrong = game.mistake == ROOM_FOR_ONE_MORE || game.mistake == SKIP_TAKES_NO_ROOM;
    return is_wrong ? reserve_wrong(&game.ring, bytes) : w_spsc_reserve(&game.ring, bytes);
}

static void commit_wrong(struct w_spsc *ring, const uint8_t *reserved, uint32_t bytes)
{
    uint32_t place = ring->tail & (ring->bytes - 1), skipped = ring->tail;
    bool wraps = reserved != ring->data + place;
    ring->tail += (wraps ? ring->bytes - place : 0) + bytes;
    ring->tail_pieces++;
    w_spsc_publish(ring);
    if (wraps || place == 0)
        atomic_store_explicit(&ring->skipped, skipped, memory_order_relaxed);
}

static void publish(void)
{
    struct w_spsc *ring = &game.ring;
    uint64_t before = atomic_load_explicit(&ring->published, memory_order_relaxed);
    play_note("publishes %u pieces up to %u", ring->tail_pieces, ring->tail - game.start);
    if (game.mistake == COUNT_APART) {
        atomic_store(&ring->published, (before & ~(uint64_t)UINT32_MAX) | ring->tail);
    }
    if (game.mistake == PUBLISHES_RELAXED)
        atomic_store_explicit(&ring->published, (uint64_t)ring->tail_pieces << 32 | ring->tail, memory_order_relaxed);
    else
        w_spsc_publish(ring);
}

/* In two halves, so that the reader may come in between. */
static void fill(uint8_t *to, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        if (i == bytes / 2)
            PLAY_STEP();
        to[i] = byte_of_stream(game.written_bytes + i);
    }
    game.written_bytes += bytes;
}

/* What the writer sees released are as many pieces as it says. */
static void check_released(void)
{
    struct w_spsc *ring = &game.ring;
    uint32_t skipped = atomic_load_explicit(&ring->skipped, memory_order_relaxed), used = ring->tail - ring->head_seen;
    uint32_t skip_bytes = (0u - skipped) & (RING_BYTES - 1);
    if (ring->tail - skipped <= used) /* not released yet, the latest skip */
        used -= skip_bytes;
    PLAY_MUST_EQUAL(ring->head_pieces_seen, whole_pieces_in(game.written_bytes - used));
}

static uint8_t *reserve_waiting(uint32_t bytes)
{
    uint8_t *to = reserve(bytes);
    for (; to == NULL; to = reserve(bytes)) {
        play_note("no room for %u", bytes);
        seen.full++;
        publish();
        check_released();
        PLAY_SLEEP_WHILE(&game.ring.released, (uint64_t)game.ring.head_pieces_seen << 32 | game.ring.head_seen);
    }
    return to;
}

static void writer(void)
{
    struct chance *chance = &game.writer_chance;
    for (uint32_t piece = 0; piece < game.pieces; piece++) {
        uint32_t bytes = piece_bytes(piece), most = bytes + (uint32_t)chance_below(chance, PIECE_BYTES - bytes + 1);
        if (chance_one_in(chance, 8))
            (void)reserve(PIECE_BYTES);
        uint8_t *to = reserve_waiting(chance_one_in(chance, 3) ? most : bytes);
        seen.wrapped += to == game.data;
        play_note("piece %u: %u bytes to %td", piece, bytes, to - game.data);
        if (game.mistake != PUBLISHES_BEFORE_FILLING)
            fill(to, bytes);
        if (game.mistake == SKIPPED_TOLD_LATE)
            commit_wrong(&game.ring, to, bytes);
        else
            w_spsc_commit(&game.ring, to, bytes);
        if (chance_one_in(chance, 2))
            publish();
        if (game.mistake == PUBLISHES_BEFORE_FILLING)
            fill(to, bytes);
    }
    publish();
}

/* --- the reader --- */

static void release(uint32_t position, uint32_t pieces)
{
    play_note("releases %u pieces up to %u", pieces, position - game.start);
    if (game.mistake == RELEASED_COUNT_APART) {
        uint64_t before = atomic_load_explicit(&game.ring.released, memory_order_relaxed);
        atomic_store(&game.ring.released, (before & ~(uint64_t)UINT32_MAX) | position);
    }
    if (game.mistake == RELEASES_RELAXED)
        atomic_store_explicit(&game.ring.released, (uint64_t)pieces << 32 | position, memory_order_relaxed);
    else
        w_spsc_release(&game.ring, position, pieces);
}

static void check_bytes(const uint8_t *from, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        if (i == bytes / 2)
            PLAY_STEP();
        if (from[i] != byte_of_stream(game.read_bytes + i))
            play_fail("byte %u of the stream, at %td, is wrong", game.read_bytes + i, from + i - game.data);
    }
    game.read_bytes += bytes;
}

static void wait_for_more(void)
{
    uint64_t published = (uint64_t)game.ring.pieces_seen << 32 | game.ring.tail_seen;
    seen.empty++;
    PLAY_SLEEP_WHILE(&game.ring.published, published);
}

/* As a reader of records: piece by piece, released now and then and at the end of the batch. */
static void read_pieces(void)
{
    struct w_spsc *ring = &game.ring;
    const uint8_t *piece;
    while ((piece = w_spsc_piece(ring)) != NULL) {
        uint32_t bytes = piece_bytes(ring->read_pieces);
        PLAY_MUST(piece + bytes <= game.data + RING_BYTES);
        play_note("reads piece %u at %td", ring->read_pieces, piece - game.data);
        if (game.mistake == RELEASES_BEFORE_READING)
            release(ring->read + bytes, ring->read_pieces + 1);
        check_bytes(piece, bytes);
        w_spsc_next(ring, bytes);
        if (chance_one_in(&game.reader_chance, 3))
            release(ring->read, ring->read_pieces);
    }
    PLAY_MUST_EQUAL(ring->pieces_seen, ring->read_pieces);
    release(ring->read, ring->read_pieces);
}

/* As a writer to a socket: what there is in one run or two, of which some is taken. */
static void read_some(void)
{
    struct w_spsc *ring = &game.ring;
    struct iovec runs[2];
    uint32_t bytes, bytes_max = (uint32_t)chance_below(&game.reader_chance, chance_one_in(&game.reader_chance, 2) ? 8 : 2 * RING_BYTES);
    uint32_t count = w_spsc_view(ring, ring->read, ring->tail_seen, bytes_max, runs, &bytes), sum = 0;
    PLAY_MUST(count <= 2);
    PLAY_MUST((count > 0) == (bytes_max > 0));
    seen.two_runs += count == 2;
    play_note("%u bytes in %u runs", bytes, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = (uint32_t)((const uint8_t *)runs[i].iov_base - game.data), run = (uint32_t)runs[i].iov_len;
        PLAY_MUST(run > 0 && place + run <= RING_BYTES);
        if (place != (ring->read & (RING_BYTES - 1))) {
            PLAY_MUST_EQUAL(place, 0);
            ring->read = (ring->read | (RING_BYTES - 1)) + 1;
        }
        check_bytes(runs[i].iov_base, run);
        ring->read += run;
        sum += run;
    }
    PLAY_MUST(sum == bytes && bytes <= bytes_max);
    PLAY_MUST(bytes == bytes_max || ring->read == ring->tail_seen);
    ring->read_pieces = whole_pieces_in(game.read_bytes);
    release(ring->read, ring->read_pieces);
}

static void reader(void)
{
    struct w_spsc *ring = &game.ring;
    bool by_pieces = chance_one_in(&game.reader_chance, 2);
    while (ring->read_pieces < game.pieces) {
        if (!w_spsc_look(ring)) {
            wait_for_more();
            continue;
        }
        uint32_t pieces = ring->pieces_seen;
        play_note("sees %u pieces up to %u", pieces, ring->tail_seen - game.start);
        if (by_pieces)
            read_pieces();
        while (ring->read != ring->tail_seen)
            read_some();
        PLAY_MUST_EQUAL(pieces, whole_pieces_in(game.read_bytes));
    }
}

/* --- the program, and its mistakes --- */

static const struct play_program program = {
    .name = "spsc",
    .begin = begin,
    .end = end,
    .players = {{"writer", writer}, {"reader", reader}},
};

START_TEST(every_byte_once_and_in_order)
{
    game.mistake = NONE;
    if (!play_seeds(&program))
        return;
    ck_assert(seen.full > 0 && seen.wrapped > 0);
    ck_assert(seen.empty > 0 && seen.two_runs > 0 && seen.turns_of_2_32 > 0);
}
END_TEST

static const char *const mistakes[] = {
    [PUBLISHES_BEFORE_FILLING] = "publishes before filling",
    [RELEASES_BEFORE_READING] = "releases before reading",
    [ROOM_FOR_ONE_MORE] = "room for one byte more",
    [SKIP_TAKES_NO_ROOM] = "what is skipped takes no room",
    [SKIPPED_TOLD_LATE] = "skipped told after the publish",
    [COUNT_APART] = "count and position apart",
    [RELEASED_COUNT_APART] = "count and position released apart",
};

START_TEST(mistake_is_found)
{
    game.mistake = (enum mistake)_i;
    play_mistake(&program, mistakes[_i]);
}
END_TEST

#ifdef PLAY_THREAD_SANITIZER
/* ThreadSanitizer ends the process. */
START_TEST(weak_order_is_a_race)
{
    game.mistake = (enum mistake)_i;
    play_seeds(&program);
}
END_TEST
#endif

int main(void)
{
    const struct play_suite races = {
        .name = "spsc",
        .test = every_byte_once_and_in_order,
        .mistake = mistake_is_found,
        .mistakes_first = PUBLISHES_BEFORE_FILLING,
        .mistakes_end = PUBLISHES_RELAXED,
#ifdef PLAY_THREAD_SANITIZER
        .weak = weak_order_is_a_race,
        .weak_first = PUBLISHES_RELAXED,
        .weak_end = RELEASES_RELAXED + 1,
#endif
        .seconds = 60,
    };
    return play_main(&races);
}
