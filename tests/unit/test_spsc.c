/* SPDX-License-Identifier: MIT */
/* test_spsc: the ring's contract with both sides in one hand, and against a slow and obvious model: a list of pieces, and for each byte of the memory whether it
 * is in use. tests/race has what two threads add. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "must.h"
#include "runtime/spsc.h"

#define BYTES    W_SPSC_MIN_BYTES
#define HALF     (BYTES / 2)
#define BIG      (16 * BYTES)
#define LAST_LAP (0u - BYTES) /* of the positions, before they begin again */
#ifdef __SANITIZE_THREAD__
#define STRIDE 5u /* one thread alone has no races: it need not look at each size */
#else
#define STRIDE 1u
#endif

static struct w_spsc ring;
static uint8_t *memory; /* from malloc: what goes beyond is found by AddressSanitizer */

static void set_up(void)
{
    memory = malloc(BIG);
}

static void tear_down(void)
{
    free(memory);
}

/* Empty, as if it had come to this position by itself. */
static void ring_at(uint32_t position, uint32_t bytes)
{
    w_spsc_init(&ring, memory, bytes);
    ring.tail = ring.head_seen = ring.read = ring.tail_seen = position;
    atomic_init(&ring.published, position);
    atomic_init(&ring.released, position);
    atomic_init(&ring.skipped, position & ~(bytes - 1));
}

static bool put(uint32_t bytes, uint8_t value)
{
    uint8_t *to = w_spsc_reserve(&ring, bytes);
    if (to == NULL)
        return false;
    MUST(to >= memory && to + bytes <= memory + ring.bytes);
    memset(to, value, bytes);
    w_spsc_commit(&ring, to, bytes);
    return true;
}

static bool publish_and_look(void)
{
    w_spsc_publish(&ring);
    return w_spsc_look(&ring);
}

static void take(uint32_t bytes, uint8_t value)
{
    const uint8_t *piece = w_spsc_piece(&ring);
    MUST(piece != NULL && piece >= memory && piece + bytes <= memory + ring.bytes);
    MUST(piece[0] == value && piece[bytes - 1] == value);
    w_spsc_next(&ring, bytes);
}

/* --- one piece --- */

/* Each size at each place: in one run, where it belongs, seen only when it is published, gone when it is released. */
START_TEST(every_size_at_every_place)
{
    struct iovec runs[2];
    uint32_t viewed;
    for (uint32_t place = 0; place < BYTES; place++)
        for (uint32_t bytes = 1; bytes <= HALF; bytes += STRIDE) {
            uint32_t position = LAST_LAP + place;
            ring_at(position, BYTES);
            uint8_t *to = w_spsc_reserve(&ring, bytes);
            bool wraps = bytes > BYTES - place;
            MUST(to == (wraps ? memory : memory + place));
            to[0] = 1;
            to[bytes - 1] = (uint8_t)place;
            w_spsc_commit(&ring, to, bytes);
            MUST(!w_spsc_is_published(&ring) && !w_spsc_look(&ring) && w_spsc_piece(&ring) == NULL);
            MUST(publish_and_look() && w_spsc_is_published(&ring));
            MUST_EQUAL(ring.pieces_seen, 1);
            MUST_EQUAL(w_spsc_view(&ring, position, ring.tail_seen, UINT32_MAX, runs, &viewed), 1);
            MUST(runs[0].iov_base == to && runs[0].iov_len == bytes && viewed == bytes);
            MUST(w_spsc_piece(&ring) == to && to[bytes - 1] == (uint8_t)place);
            w_spsc_next(&ring, bytes);
            MUST(w_spsc_piece(&ring) == NULL && !w_spsc_look(&ring));
            MUST_EQUAL(w_spsc_look_back(&ring), bytes + (wraps ? BYTES - place : 0));
            w_spsc_release_read(&ring);
            MUST_EQUAL(w_spsc_look_back(&ring), 0);
            MUST_EQUAL(ring.head_pieces_seen, 1);
        }
}
END_TEST

/* Up to the last byte of memory: the next one is at its start, and nothing is skipped. */
START_TEST(exact_fit_at_the_end)
{
    for (uint32_t bytes = 1; bytes <= HALF; bytes++) {
        uint32_t start = LAST_LAP + BYTES - bytes;
        ring_at(start, BYTES);
        MUST(put(bytes, 1));
        MUST(w_spsc_reserve(&ring, 1) == memory);
        MUST(put(HALF, 2));
        MUST_EQUAL(ring.tail - start, bytes + HALF);
        MUST(publish_and_look());
        take(bytes, 1);
        take(HALF, 2);
        MUST(w_spsc_piece(&ring) == NULL);
    }
}
END_TEST

/* Room for a big one at the start of memory that is not used in the end; a small one goes to the end of memory all the same. */
START_TEST(reserve_that_is_not_used)
{
    for (uint32_t rest = 1; rest < HALF; rest++) {
        ring_at(2 * BYTES - rest, BYTES);
        MUST(w_spsc_reserve(&ring, rest + 1) == memory);
        uint8_t *to = w_spsc_reserve(&ring, rest);
        MUST(to == memory + BYTES - rest);
        *to = 7;
        w_spsc_commit(&ring, to, 1);
        MUST(publish_and_look());
        take(1, 7);
        /* And the other way round. */
        to = w_spsc_reserve(&ring, HALF);
        MUST(rest - 1 >= HALF || to == memory);
        *to = 8;
        w_spsc_commit(&ring, to, 1);
        MUST(publish_and_look());
        take(1, 8);
        MUST_EQUAL(ring.pieces_seen, 2);
    }
}
END_TEST

/* Less is committed than was reserved, and would have fitted where the tail was: it stays where it was reserved. */
START_TEST(commit_of_less)
{
    ring_at(BYTES - 10, BYTES);
    uint8_t *to = w_spsc_reserve(&ring, 100);
    ck_assert_ptr_eq(to, memory);
    memset(to, 3, 100);
    w_spsc_commit(&ring, to, 5);
    ck_assert(put(5, 4));
    ck_assert_uint_eq(ring.tail, BYTES + 10);
    ck_assert(publish_and_look());
    take(5, 3);
    take(5, 4);
}
END_TEST

/* --- many pieces --- */

/* As many as go in: all of the memory when they fit exactly; a byte more does not; and what was released, and no more, has room again. */
START_TEST(full_and_room_again)
{
    for (uint32_t start = 0; start < BYTES; start += 512) {
        ring_at(LAST_LAP + start, BYTES);
        for (uint32_t i = 0; i < 8; i++)
            MUST(put(512, (uint8_t)i));
        MUST_EQUAL(w_spsc_look_back(&ring), BYTES);
        MUST(!put(1, 0));
        MUST(publish_and_look());
        MUST_EQUAL(ring.pieces_seen, 8);
        MUST(!put(1, 0));
        take(512, 0);
        MUST(!put(1, 0)); /* read, not released */
        w_spsc_release_read(&ring);
        MUST(!put(513, 0));
        MUST(put(512, 8));
        MUST(!put(1, 0));
        w_spsc_release(&ring, ring.read + 100, 1); /* a part of one, as after a short send */
        MUST(!put(101, 0));
        MUST(put(100, 9));
        const uint8_t *piece = w_spsc_piece(&ring);
        MUST(piece[0] == 9 && piece[99] == 9 && piece[100] == 1 && piece[511] == 1);
        w_spsc_next(&ring, 512);
        for (uint8_t i = 2; i < 8; i++)
            take(512, i);
        MUST(w_spsc_piece(&ring) == NULL && publish_and_look());
        take(512, 8);
        take(100, 9);
        MUST_EQUAL(ring.read_pieces, 10);
    }
}
END_TEST

/* What is skipped takes room until it has been passed. */
START_TEST(skipped_bytes_take_room)
{
    ring_at(100, BYTES);
    ck_assert(put(HALF, 1) && put(BYTES - HALF - 200, 2)); /* 100 left at the end of memory, 100 at its start */
    ck_assert_ptr_null(w_spsc_reserve(&ring, 101));
    ck_assert_ptr_eq(w_spsc_reserve(&ring, 100), memory + BYTES - 100);
    ck_assert(publish_and_look());
    take(HALF, 1);
    w_spsc_release_read(&ring);
    ck_assert(put(HALF, 3));
    ck_assert_uint_eq(ring.tail, BYTES + HALF);
    ck_assert_uint_eq(w_spsc_look_back(&ring), BYTES - 200 - HALF + 100 + HALF);
    ck_assert(!put(101, 4) && put(100, 4));
    take(BYTES - HALF - 200, 2);
    w_spsc_release_read(&ring); /* head lies before what is skipped */
    ck_assert_uint_eq(w_spsc_look_back(&ring), 100 + HALF + 100);
    ck_assert(publish_and_look());
    take(HALF, 3);
    w_spsc_release_read(&ring);
    ck_assert_uint_eq(w_spsc_look_back(&ring), 100);
    take(100, 4);
}
END_TEST

/* The count that is seen is the count of what is seen, whatever has been committed since; and it runs over too. */
START_TEST(pieces_fit_the_position)
{
    uint32_t count = UINT32_MAX - 3;
    ring_at(0, BYTES);
    ring.tail_pieces = ring.read_pieces = ring.head_pieces_seen = ring.pieces_seen = count;
    for (uint32_t i = 0; i < 40; i++) {
        for (uint32_t n = i % 3 + 1; n > 0; n--, count++)
            MUST(put(100 + n, (uint8_t)n));
        w_spsc_publish(&ring);
        MUST(put(50, 9));
        MUST(w_spsc_look(&ring));
        MUST_EQUAL(ring.pieces_seen, count);
        for (uint32_t n = i % 3 + 1; n > 0; n--)
            take(100 + n, (uint8_t)n);
        MUST(w_spsc_piece(&ring) == NULL);
        w_spsc_release_read(&ring);
        w_spsc_look_back(&ring);
        MUST_EQUAL(ring.head_pieces_seen, count++);
        MUST(publish_and_look());
        take(50, 9);
    }
}
END_TEST

START_TEST(reserve_does_not_look_back_without_need)
{
    ring_at(0, BYTES);
    ck_assert(put(100, 1) && publish_and_look());
    take(100, 1);
    w_spsc_release_read(&ring);
    ck_assert(put(100, 2));
    ck_assert_uint_eq(ring.head_seen, 0);
    ck_assert(put(HALF, 3) && put(BYTES - HALF - 200, 4));
    ck_assert_uint_eq(ring.head_seen, 0);
    ck_assert(put(50, 5));
    ck_assert_uint_eq(ring.head_seen, 100);
}
END_TEST

/* Where data was once skipped is a place like any other when the positions come round to it again, though nothing has been skipped since. */
START_TEST(old_skip_is_forgotten)
{
    static const uint32_t lap[] = {1024, 1025, 2047};
    ring_at(0, BYTES);
    MUST(put(1024, 1) && put(1025, 2));
    uint32_t skipped = ring.tail;
    MUST(publish_and_look());
    take(1024, 1);
    take(1025, 2);
    w_spsc_release_read(&ring);
    MUST(put(HALF, 3) && ring.tail == BYTES + HALF);
    MUST(publish_and_look());
    take(HALF, 3);
    w_spsc_release_read(&ring);
    MUST(put(HALF, 4));
    MUST(publish_and_look());
    take(HALF, 4);
    w_spsc_release_read(&ring);
    for (uint32_t i = 0; ring.tail != skipped + lap[2]; i++) {
        MUST(put(lap[i % 3], (uint8_t)i));
        MUST(publish_and_look());
        take(lap[i % 3], (uint8_t)i);
        w_spsc_release_read(&ring);
    }
}
END_TEST

/* --- views --- */

/* What is at a position: the next one in the same run, or the start of memory. */
static uint32_t view_all(uint32_t from, uint32_t to, uint32_t bytes_max, uint8_t *copy)
{
    struct iovec runs[2];
    uint32_t bytes, at = 0, count = w_spsc_view(&ring, from, to, bytes_max, runs, &bytes);
    MUST(count <= 2);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *begin = runs[i].iov_base;
        MUST(runs[i].iov_len > 0 && begin >= memory && begin + runs[i].iov_len <= memory + BYTES);
        memcpy(copy + at, begin, runs[i].iov_len);
        at += (uint32_t)runs[i].iov_len;
    }
    MUST_EQUAL(at, bytes);
    MUST(bytes <= bytes_max);
    return bytes;
}

/* Two runs with something skipped between them, or nothing: from each byte, up to each look, cut at each byte. */
START_TEST(views_cut_at_every_byte)
{
    static const uint32_t pieces[] = {40, 1, 30, 50, 3, 20};
    uint8_t stream[144], copy[144];
    uint32_t looks[W_COUNT(pieces) + 1], ends[W_COUNT(pieces) + 1], positions[145], sum = 0, skip = (uint32_t)_i;
    ring_at(0u - 71 - skip, BYTES); /* the fourth piece wraps; with 0, the third fits exactly */
    looks[0] = ring.tail;
    ends[0] = 0;
    for (uint32_t i = 0; i < W_COUNT(pieces); i++) {
        uint8_t *to = w_spsc_reserve(&ring, pieces[i]);
        w_spsc_commit(&ring, to, pieces[i]);
        for (uint32_t n = 0; n < pieces[i]; n++, sum++) {
            stream[sum] = to[n] = (uint8_t)(sum + 1);
            positions[sum] = ring.tail - pieces[i] + n;
        }
        w_spsc_publish(&ring);
        w_spsc_look(&ring);
        looks[i + 1] = ring.tail_seen;
        ends[i + 1] = sum;
    }
    MUST_EQUAL(ring.tail_seen, 73);
    for (uint32_t look = 0; look < W_COUNT(looks); look++)
        for (uint32_t from = 0; from < ends[look]; from++) {
            uint32_t bytes = ends[look] - from;
            for (uint32_t most = 0; most <= bytes + 1; most++) {
                uint32_t expected = most < bytes ? most : bytes;
                MUST_EQUAL(view_all(positions[from], looks[look], most, copy), expected);
                MUST(memcmp(copy, stream + from, expected) == 0);
            }
            /* From the end of a run as well as from the start of the next. */
            if (from == ends[3]) {
                MUST_EQUAL(view_all(looks[3], looks[look], UINT32_MAX, copy), bytes);
                MUST(memcmp(copy, stream + from, bytes) == 0);
            }
        }
    for (uint32_t look = 0; look < W_COUNT(looks); look++)
        MUST_EQUAL(view_all(looks[look], looks[look], UINT32_MAX, copy), 0);
}
END_TEST

/* The whole memory, from each place in it: one run or two, and nothing beyond. */
START_TEST(view_of_a_full_ring)
{
    struct iovec runs[2];
    uint32_t bytes;
    for (uint32_t place = 0; place < BYTES; place++) {
        ring_at(LAST_LAP + place, BYTES);
        if (place == 0 || place == HALF)
            MUST(put(HALF, 1) && put(HALF, 1));
        else if (place < HALF)
            MUST(put(HALF, 1) && put(HALF - place, 2) && put(place, 3));
        else
            MUST(put(BYTES - place, 1) && put(HALF, 2) && put(place - HALF, 3));
        MUST(publish_and_look());
        MUST_EQUAL(w_spsc_view(&ring, ring.read, ring.tail_seen, UINT32_MAX, runs, &bytes), place == 0 ? 1 : 2);
        MUST_EQUAL(bytes, BYTES);
        MUST(runs[0].iov_base == memory + place && runs[0].iov_len == BYTES - place);
        MUST(place == 0 || (runs[1].iov_base == memory && runs[1].iov_len == place));
    }
}
END_TEST

/* --- against the model --- */

#define PIECES_MAX 4096u

struct model_piece {
    uint64_t position; /* from 0 on, and never again */
    uint32_t bytes;
    uint64_t first; /* of the stream */
};

static struct {
    struct chance chance;
    uint32_t bytes, start;
    struct model_piece pieces[PIECES_MAX]; /* by their number */
    uint32_t committed, published;
    uint64_t tail; /* position */
    uint64_t head; /* in bytes of the stream */
    uint64_t stream_committed, stream_published;
    uint64_t head_position;
    uint32_t full, wraps, exact; /* that happened */
} model;

static uint8_t stream_byte(uint64_t at)
{
    return (uint8_t)(at * 181 + (at >> 8));
}

static void model_start(uint64_t seed)
{
    memset(&model, 0, sizeof model);
    model.chance.state = seed;
    model.bytes = BYTES << chance_below(&model.chance, 3);
    model.start = chance_one_in(&model.chance, 2) ? 0 : 0u - (uint32_t)chance_below(&model.chance, 4 * model.bytes);
    ring_at(model.start, model.bytes);
}

/* Where a piece of so many bytes would begin, or UINT64_MAX: there is no room. Byte by byte. */
static uint64_t model_place(uint32_t bytes)
{
    uint64_t at = model.tail;
    while ((at + model.start) % model.bytes + bytes > model.bytes) /* not in one run */
        at++;
    return at + bytes - model.head_position > model.bytes ? UINT64_MAX : at;
}

/* Makes a piece in room for a larger one. */
static void model_write(uint32_t bytes, uint32_t reserved_bytes)
{
    uint64_t at = model_place(reserved_bytes);
    uint8_t *to = w_spsc_reserve(&ring, reserved_bytes);
    MUST((to == NULL) == (at == UINT64_MAX));
    if (to == NULL) {
        model.full++;
        return;
    }
    MUST(to == memory + (at + model.start) % model.bytes);
    if (chance_one_in(&model.chance, 8)) /* not used */
        return;
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = stream_byte(model.stream_committed + i);
    w_spsc_commit(&ring, to, bytes);
    model.wraps += at != model.tail;
    model.exact += (at + bytes + model.start) % model.bytes == 0;
    model.pieces[model.committed++] = (struct model_piece){at, bytes, model.stream_committed};
    model.stream_committed += bytes;
    model.tail = at + bytes;
    MUST_EQUAL(ring.tail, (uint32_t)(model.tail + model.start));
}

static void model_publish(void)
{
    w_spsc_publish(&ring);
    model.published = model.committed;
    model.stream_published = model.stream_committed;
}

/* The position behind so many bytes of the stream, and the pieces whole before it. */
static uint64_t model_position(uint64_t stream, uint32_t *pieces)
{
    uint32_t count = 0;
    while (count < model.published && model.pieces[count].first + model.pieces[count].bytes <= stream)
        count++;
    *pieces = count;
    if (count < model.published && model.pieces[count].first < stream)
        return model.pieces[count].position + stream - model.pieces[count].first;
    return count == 0 ? 0 : model.pieces[count - 1].position + model.pieces[count - 1].bytes;
}

static void model_read(uint32_t bytes_max)
{
    struct iovec runs[2];
    uint32_t bytes, pieces;
    MUST_EQUAL(w_spsc_look(&ring), model.stream_published != model.head);
    MUST_EQUAL(ring.pieces_seen, model.published);
    uint32_t count = w_spsc_view(&ring, ring.read, ring.tail_seen, bytes_max, runs, &bytes);
    uint64_t there = model.stream_published - model.head;
    MUST_EQUAL(bytes, there < bytes_max ? there : bytes_max);
    uint64_t at = model.head;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t n = 0; n < runs[i].iov_len; n++)
            MUST(((const uint8_t *)runs[i].iov_base)[n] == stream_byte(at++));
    model.head += bytes;
    model.head_position = model_position(model.head, &pieces);
    ring.read = (uint32_t)(model.head_position + model.start);
    w_spsc_release(&ring, ring.read, pieces);
    ring.read_pieces = pieces;
}

static void model_read_pieces(uint64_t most)
{
    uint32_t whole;
    (void)model_position(model.head, &whole);
    (void)w_spsc_look(&ring);
    if (whole < model.published && model.pieces[whole].first != model.head) /* in mid-piece */
        return;
    for (; most > 0 && whole < model.published; most--, whole++) {
        const struct model_piece *piece = &model.pieces[whole];
        const uint8_t *data = w_spsc_piece(&ring);
        MUST(data == memory + (piece->position + model.start) % model.bytes);
        for (uint32_t i = 0; i < piece->bytes; i++)
            MUST(data[i] == stream_byte(piece->first + i));
        w_spsc_next(&ring, piece->bytes);
        model.head += piece->bytes;
    }
    MUST((w_spsc_piece(&ring) == NULL) == (whole == model.published));
    model.head_position = model_position(model.head, &whole);
    w_spsc_release(&ring, (uint32_t)(model.head_position + model.start), whole);
    ring.read = (uint32_t)(model.head_position + model.start); /* (piece() may have passed what is skipped) */
}

START_TEST(as_the_model)
{
    if (!chance_seed_wanted((uint64_t)_i))
        return;
    model_start((uint64_t)_i);
    while (model.committed < 600) {
        uint32_t half = model.bytes / 2, rest = model.bytes - (uint32_t)((model.tail + model.start) % model.bytes);
        uint64_t some = chance_one_in(&model.chance, 2) ? chance_any_size(&model.chance, 13) : chance_below(&model.chance, half);
        uint32_t bytes = w_base_min_u32(1 + (uint32_t)some, half);
        bool everything = chance_one_in(&model.chance, 3);
        switch (chance_below(&model.chance, 8)) {
        case 0:
            model_read(everything ? UINT32_MAX : bytes);
            break;
        case 1:
            model_read_pieces(everything ? UINT64_MAX : some % 8);
            break;
        case 2:
        case 3:
            model_publish();
            break;
        case 4:
            model_write(bytes, bytes + (uint32_t)chance_below(&model.chance, half - bytes + 1));
            break;
        case 5:
            if (rest <= half && chance_one_in(&model.chance, 8))
                model_write(rest, rest); /* up to the end of memory */
            break;
        default:
            model_write(bytes, bytes);
        }
        MUST_EQUAL(w_spsc_is_published(&ring), model.published == model.committed);
    }
    MUST(model.full > 0 && model.wraps > 0 && model.exact > 0);
}
END_TEST

/* --- rules --- */

START_TEST(wrong_size_dies)
{
    static const uint32_t sizes[] = {0, 1, W_SPSC_MIN_BYTES / 2, W_SPSC_MIN_BYTES + 1, 3 * W_SPSC_MIN_BYTES, 2 * W_SPSC_MAX_BYTES};
    w_spsc_init(&ring, memory, sizes[_i]);
}
END_TEST

/* The two sides' words do not disturb each other. */
START_TEST(sides_lie_in_lines_of_their_own)
{
    ck_assert_uint_eq(_Alignof(struct w_spsc), 64);
    ck_assert_uint_ne(offsetof(struct w_spsc, data) / 64, offsetof(struct w_spsc, published) / 64);
    ck_assert_uint_ne(offsetof(struct w_spsc, skipped) / 64, offsetof(struct w_spsc, released) / 64);
    ck_assert_uint_eq(offsetof(struct w_spsc, published) / 64, offsetof(struct w_spsc, skipped) / 64);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spsc");
    TCase *tests = tcase_create("spsc");
    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, every_size_at_every_place);
    tcase_add_test(tests, exact_fit_at_the_end);
    tcase_add_test(tests, reserve_that_is_not_used);
    tcase_add_test(tests, commit_of_less);
    tcase_add_test(tests, full_and_room_again);
    tcase_add_test(tests, skipped_bytes_take_room);
    tcase_add_test(tests, pieces_fit_the_position);
    tcase_add_test(tests, reserve_does_not_look_back_without_need);
    tcase_add_test(tests, old_skip_is_forgotten);
    tcase_add_loop_test(tests, views_cut_at_every_byte, 0, 50);
    tcase_add_test(tests, view_of_a_full_ring);
    tcase_add_loop_test(tests, as_the_model, 0, 40);
    tcase_add_loop_test_raise_signal(tests, wrong_size_dies, SIGABRT, 0, 6);
    tcase_add_test(tests, sides_lie_in_lines_of_their_own);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
