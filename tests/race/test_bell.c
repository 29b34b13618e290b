/* SPDX-License-Identifier: MIT */
/* test_bell: the bell, played: up to three ringers, and a reader that hears, dozes, sleeps and is woken. Nothing is lost, nobody sleeps through a ring, and there are
 * no more wakes than sleeps. Waking is played in both ways that there are: a shard's (the engine's `woken`, see
 * io/uring.c) and a port's (who takes `asleep` back wakes, see port_back.c). */
#include "play.h"

#include <check.h>

#include "runtime/bell.h"
#include "tests/unit/chance.h"

#define RINGERS    3u
#define ROUNDS_MAX 4u

enum mistake {
    NONE,
    RINGS_BEFORE_PUBLISHING,
    DOZES_WITHOUT_LOOKING,
    LOOKS_THEN_DOZES,
    DOZE_FORGETS_TAKEN,
    RINGS_FROM_ABOVE,
    LOOKS_AT_ASLEEP_FIRST,
    SETS_WITHOUT_EXCHANGE,
    HEARS_FROM_BELOW,
    LOOKS_BEFORE_CLEARING,
    LOOKS_AT_WOKEN_FIRST,
    PUBLISHES_RELAXED, /* for ThreadSanitizer alone */
};

/* What a number stands for: one ringer's data. */
struct ringer {
    struct chance chance;
    uint32_t number;
    uint32_t rounds;
    uint64_t data[ROUNDS_MAX];
    alignas(64) _Atomic uint32_t published;
    alignas(64) _Atomic uint32_t consumed;
};

static struct {
    enum mistake mistake;
    uint64_t seed;
    bool wakes_as_a_port; /* else as an engine */
    bool reader_rings;    /* the numbers too, for nothing: as a shard that rings its own bell */
    struct w_bell bell;
    struct ringer ringers[RINGERS];
    /* Where the reader sleeps. */
    alignas(64) _Atomic bool woken;
    _Atomic bool asleep;
    _Atomic uint32_t token;
    _Atomic uint32_t wakes;
    /* The reader's. */
    struct chance chance;
    uint32_t times_asleep; /* that it said so to those who wake; most of them it sleeps */
    uint32_t left;         /* rounds not consumed yet */
} game;

static alignas(64) _Atomic uint64_t memory[W_BELL_COUNT_MAX / 64 + W_BELL_COUNT_MAX / 4096];

/* What happened over all seeds. The first line is the reader's. */
static struct {
    uint64_t slept, did_not_doze, heard_for_nothing, half_heard;
    struct {
        alignas(64) uint64_t woke, found_it_rung;
    } ringers[RINGERS];
} seen;

static uint64_t data_of(const struct ringer *ringer, uint32_t round)
{
    return (game.seed << 8 | round) * UINT64_C(0x9e3779b97f4a7c15) + ringer->number;
}

/* Near each other, or at the edges of levels. */
static uint32_t some_number(struct chance *chance, uint32_t like)
{
    static const uint32_t edges[] = {0, 1, 63, 64, 255, 256, 319, 4095, 4096, 8191, W_BELL_COUNT_MAX - 1};
    switch (chance_below(chance, 4)) {
    case 0:
        return like ^ 1;
    case 1:
        return like ^ (uint32_t)chance_below(chance, 64);
    case 2:
        return like ^ 64;
    default:
        return edges[chance_below(chance, W_COUNT(edges))];
    }
}

static bool is_taken(uint32_t number, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (game.ringers[i].number == number)
            return true;
    return false;
}

static void begin(uint64_t seed)
{
    struct chance chance = {seed};
    for (uint32_t i = 0; i < RINGERS && game.bell.far_words != NULL; i++) { /* the last play may have left something there */
        atomic_store(w_bell_word(&game.bell, game.ringers[i].number / 64), 0);
        atomic_store(w_bell_middle(&game.bell, game.ringers[i].number / 4096), 0);
    }
    w_bell_init(&game.bell, W_BELL_COUNT_MAX, memory);
    game.seed = seed;
    game.wakes_as_a_port = chance_one_in(&chance, 3) && game.mistake != LOOKS_AT_WOKEN_FIRST;
    game.reader_rings = chance_one_in(&chance, 3);
    game.left = 0;
    uint32_t count = 1 + (uint32_t)chance_below(&chance, RINGERS), number = (uint32_t)chance_below(&chance, W_BELL_COUNT_MAX);
    for (uint32_t i = 0; i < RINGERS; i++) {
        struct ringer *ringer = &game.ringers[i];
        do
            number = some_number(&chance, number);
        while (is_taken(number, i));
        *ringer = (struct ringer){.chance = {chance_u64(&chance)}, .number = number};
        ringer->rounds = i < count ? 1 + (uint32_t)chance_below(&chance, ROUNDS_MAX) : 0;
        game.left += ringer->rounds;
    }
    atomic_init(&game.woken, false);
    atomic_init(&game.asleep, false);
    atomic_init(&game.token, 0);
    atomic_init(&game.wakes, 0);
    game.chance.state = chance_u64(&chance);
    game.times_asleep = 0;
}

/* --- waking and sleeping --- */

static void set_token(void)
{
    play_note("wakes");
    atomic_fetch_add_explicit(&game.wakes, 1, memory_order_relaxed);
    atomic_store_explicit(&game.token, 1, memory_order_relaxed);
}

static void wake(void)
{
    if (game.wakes_as_a_port) {
        if (atomic_exchange(&game.bell.asleep, false))
            set_token();
    } else if (!atomic_exchange(&game.woken, true)) {
        if (atomic_load(&game.asleep))
            set_token();
    }
}

static void sleep_on_token(void)
{
    seen.slept++;
    PLAY_SLEEP_WHILE(&game.token, 0);
    atomic_store_explicit(&game.token, 0, memory_order_relaxed);
}

/* As sleep_in_ring() and uring_submit() do it. */
static void sleep_in_engine(void)
{
    bool is_woken = atomic_load(&game.woken); /* too early */
    game.times_asleep++;
    atomic_store(&game.asleep, true);
    if (game.mistake != LOOKS_AT_WOKEN_FIRST)
        is_woken = atomic_load(&game.woken);
    if (!is_woken && !chance_one_in(&game.chance, 8)) /* else something has completed meanwhile */
        sleep_on_token();
    atomic_store_explicit(&game.asleep, false, memory_order_relaxed);
    if (atomic_load_explicit(&game.woken, memory_order_relaxed)) {
        (void)atomic_exchange(&game.woken, false);
    }
}

/* --- a ringer --- */

/* As w_bell_ring, but for what is wrong. */
static bool ring_wrong(struct w_bell *bell, uint32_t number)
{
    _Atomic uint64_t *word = w_bell_word(bell, number / 64);
    uint64_t bit = UINT64_C(1) << (number % 64);
    bool asleep = false;
    if (atomic_load(word) & bit)
        return false;
    if (game.mistake == RINGS_FROM_ABOVE) {
        w_bell_set(&bell->top, UINT64_C(1) << (number / 4096));
        w_bell_set(w_bell_middle(bell, number / 4096), UINT64_C(1) << (number / 64 % 64));
        w_bell_set(word, bit);
        return atomic_load(&bell->asleep);
    }
    if (game.mistake == LOOKS_AT_ASLEEP_FIRST) {
        asleep = atomic_load(&bell->asleep);
    }
    if (game.mistake == SETS_WITHOUT_EXCHANGE) {
        uint64_t value = atomic_load(word);
        atomic_store(word, value | bit);
    } else {
        atomic_fetch_or(word, bit);
    }
    w_bell_set(w_bell_middle(bell, number / 4096), UINT64_C(1) << (number / 64 % 64));
    w_bell_set(&bell->top, UINT64_C(1) << (number / 4096));
    return game.mistake == LOOKS_AT_ASLEEP_FIRST ? asleep : atomic_load(&bell->asleep);
}

static bool ring(uint32_t number)
{
    bool is_wrong = game.mistake == RINGS_FROM_ABOVE || game.mistake == LOOKS_AT_ASLEEP_FIRST || game.mistake == SETS_WITHOUT_EXCHANGE;
    return is_wrong ? ring_wrong(&game.bell, number) : w_bell_ring(&game.bell, number);
}

static void publish(struct ringer *ringer, uint32_t round)
{
    ringer->data[round] = data_of(ringer, round);
    atomic_store_explicit(&ringer->published, round + 1, game.mistake == PUBLISHES_RELAXED ? memory_order_relaxed : memory_order_release);
}

static void ringer_run(uint32_t index)
{
    struct ringer *ringer = &game.ringers[index];
    for (uint32_t round = 0; round < ringer->rounds; round++) {
        if (game.mistake != RINGS_BEFORE_PUBLISHING)
            publish(ringer, round);
        play_note("rings %u, round %u", ringer->number, round);
        seen.ringers[index].found_it_rung +=
            (atomic_load_explicit(w_bell_word(&game.bell, ringer->number / 64), memory_order_relaxed) >> (ringer->number % 64) & 1) != 0;
        bool has_to_wake = ring(ringer->number);
        if (game.mistake == RINGS_BEFORE_PUBLISHING)
            publish(ringer, round);
        if (has_to_wake) {
            seen.ringers[index].woke++;
            wake();
        }
        uint32_t consumed;
        if (chance_one_in(&ringer->chance, 2)) /* until it has been heard */
            while ((consumed = atomic_load_explicit(&ringer->consumed, memory_order_relaxed)) <= round)
                PLAY_SLEEP_WHILE(&ringer->consumed, consumed);
    }
}

static void ringer_0(void)
{
    ringer_run(0);
}

static void ringer_1(void)
{
    ringer_run(1);
}

static void ringer_2(void)
{
    ringer_run(2);
}

/* --- the reader --- */

static uint64_t lowest(uint64_t word)
{
    return word & (~word + 1);
}

/* Takes the word and then the bits above it. */
static bool hear_from_below(struct w_bell *bell, uint32_t *number)
{
    while (bell->taken_word == 0) {
        uint64_t top = atomic_load(&bell->top);
        if (top == 0)
            return false;
        uint32_t middle = (uint32_t)__builtin_ctzll(top);
        uint64_t words = atomic_load(w_bell_middle(bell, middle));
        if (words != 0) {
            bell->word = middle * 64 + (uint32_t)__builtin_ctzll(words);
            bell->taken_word = w_bell_take(w_bell_word(bell, bell->word));
            words = atomic_fetch_and(w_bell_middle(bell, middle), ~lowest(words)) & ~lowest(words);
        }
        if (words == 0)
            atomic_fetch_and(&bell->top, ~lowest(top));
    }
    *number = bell->word * 64 + (uint32_t)__builtin_ctzll(bell->taken_word);
    bell->taken_word &= bell->taken_word - 1;
    return true;
}

static bool doze(struct w_bell *bell)
{
    bool is_due;
    switch (game.mistake) {
    case DOZES_WITHOUT_LOOKING:
        atomic_store(&bell->asleep, true);
        return true;
    case LOOKS_THEN_DOZES:
        is_due = w_bell_is_due(bell);
        atomic_store(&bell->asleep, !is_due);
        return !is_due;
    case DOZE_FORGETS_TAKEN:
        atomic_store(&bell->asleep, true);
        is_due = w_bell_is_rung(bell);
        atomic_store(&bell->asleep, !is_due);
        return !is_due;
    default:
        return w_bell_doze(bell);
    }
}

/* Everything up to `published` is there. */
static void consume(struct ringer *ringer, uint32_t published)
{
    uint32_t consumed = atomic_load_explicit(&ringer->consumed, memory_order_relaxed);
    seen.heard_for_nothing += published == consumed;
    for (; consumed < published; consumed++, game.left--)
        PLAY_MUST_EQUAL(ringer->data[consumed], data_of(ringer, consumed));
    atomic_store_explicit(&ringer->consumed, consumed, memory_order_release);
}

/* At most so many numbers. */
static void hear(uint32_t most)
{
    struct w_bell *bell = &game.bell;
    uint32_t number = 0, published[RINGERS];
    for (uint32_t i = 0; i < RINGERS; i++)
        published[i] = atomic_load_explicit(&game.ringers[i].published, memory_order_acquire);
    for (; most > 0; most--) {
        if (!(game.mistake == HEARS_FROM_BELOW ? hear_from_below(bell, &number) : w_bell_hear(bell, &number)))
            return;
        play_note("hears %u", number);
        uint32_t i = 0;
        while (i < RINGERS && game.ringers[i].number != number)
            i++;
        PLAY_MUST(i < RINGERS);
        if (game.mistake != LOOKS_BEFORE_CLEARING)
            published[i] = atomic_load_explicit(&game.ringers[i].published, memory_order_acquire);
        consume(&game.ringers[i], published[i]);
        if (game.reader_rings && chance_one_in(&game.chance, 3))
            PLAY_MUST(!w_bell_ring(bell, game.ringers[chance_below(&game.chance, RINGERS)].number)); /* it is awake */
    }
    seen.half_heard += w_bell_is_due(bell);
}

static void reader(void)
{
    struct w_bell *bell = &game.bell;
    if (game.mistake == PUBLISHES_RELAXED) /* the bell would put it in order */
        for (uint32_t i = 0; i < RINGERS; i++)
            consume(&game.ringers[i], atomic_load_explicit(&game.ringers[i].published, memory_order_acquire));
    while (game.left > 0) {
        hear(chance_one_in(&game.chance, 3) ? 1 : UINT32_MAX);
        if (game.left == 0)
            break;
        game.times_asleep += game.wakes_as_a_port;
        if (!doze(bell)) {
            seen.did_not_doze++;
            continue;
        }
        play_note("dozes");
        if (game.wakes_as_a_port)
            sleep_on_token();
        else
            sleep_in_engine();
        w_bell_rise(bell);
    }
}

static void end(void)
{
    PLAY_MUST_EQUAL(game.left, 0);
    PLAY_MUST(atomic_load_explicit(&game.wakes, memory_order_relaxed) <= game.times_asleep);
}

/* --- the program, and its mistakes --- */

static const struct play_program program = {
    .name = "bell",
    .begin = begin,
    .end = end,
    .players = {{"reader", reader}, {"ringer 0", ringer_0}, {"ringer 1", ringer_1}, {"ringer 2", ringer_2}},
};

START_TEST(nothing_is_lost)
{
    game.mistake = NONE;
    if (!play_seeds(&program))
        return;
    ck_assert(seen.slept > 0 && seen.did_not_doze > 0 && seen.heard_for_nothing > 0 && seen.half_heard > 0);
    for (uint32_t i = 0; i < RINGERS; i++)
        ck_assert(seen.ringers[i].woke > 0 && seen.ringers[i].found_it_rung > 0);
}
END_TEST

static const char *const mistakes[] = {
    [RINGS_BEFORE_PUBLISHING] = "rung before the publish",
    [DOZES_WITHOUT_LOOKING] = "dozes without looking again",
    [LOOKS_THEN_DOZES] = "looks and then dozes",
    [DOZE_FORGETS_TAKEN] = "dozes with numbers taken",
    [RINGS_FROM_ABOVE] = "rung from the top down",
    [LOOKS_AT_ASLEEP_FIRST] = "looks at asleep before it rings",
    [SETS_WITHOUT_EXCHANGE] = "a bit set by load and store",
    [HEARS_FROM_BELOW] = "heard from below",
    [LOOKS_BEFORE_CLEARING] = "data looked at before the bit is cleared",
    [LOOKS_AT_WOKEN_FIRST] = "the engine looks at woken and then says asleep",
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
    game.mistake = PUBLISHES_RELAXED;
    play_seeds(&program);
}
END_TEST
#endif

int main(void)
{
    const struct play_suite races = {
        .name = "bell",
        .test = nothing_is_lost,
        .mistake = mistake_is_found,
        .mistakes_first = RINGS_BEFORE_PUBLISHING,
        .mistakes_end = PUBLISHES_RELAXED,
#ifdef PLAY_THREAD_SANITIZER
        .weak = weak_order_is_a_race,
        .weak_first = 0,
        .weak_end = 1,
#endif
        .seconds = 60,
    };
    return play_main(&races);
}
