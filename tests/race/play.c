/* SPDX-License-Identifier: MIT */
/* play: see play.h.
 *
 * Who goes on is decided in the player that makes the step, and it switches straight to the next. The players stay for the next play: each one's stack goes
 * round in player_loop(). Only a play that failed leaves its players where they were, and they are made anew. */
#include "play.h"

#include <check.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>

#ifdef PLAY_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif
#ifdef PLAY_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif
#if defined(PLAY_ADDRESS_SANITIZER) || defined(PLAY_THREAD_SANITIZER)
#include <sanitizer/common_interface_defs.h>
#define SEEDS 30000
#else
#define SEEDS 200000
#endif

/* A play goes on from one player's stack to another's, which ThreadSanitizer must take for threads that share the play without order. */
#define QUIET __attribute__((no_sanitize("thread")))

#define STACK_BYTES (128u << 10)
#define STEPS_MAX   100000u /* of one play: it goes round in circles */

/* Where a player is, or the test itself. */
struct place {
    ucontext_t context;
    void *fake_stack; /* AddressSanitizer's */
    const void *stack;
    size_t stack_bytes;
    void *fiber; /* ThreadSanitizer's */
};

struct player {
    struct place place;
    bool is_made;              /* its stack is in player_loop() */
    bool is_playing;           /* has not finished */
    const volatile void *word; /* sleeps while that is `value`; NULL: awake */
    size_t word_bytes;
    uint64_t value;
    const char *function; /* of its latest sleep */
    int line;
};

static struct {
    const struct play_program *program;
    uint64_t seed;
    bool in_order; /* the players are in order for ThreadSanitizer */
    bool is_traced;
    uint64_t state;  /* of chance */
    uint32_t budget; /* switches still to be made at a step, where the player could go on itself */
    uint32_t gap_kind;
    uint32_t gap; /* steps until the next of them */
    uint32_t steps;
    uint32_t count;      /* of players */
    uint32_t playing;    /* that have not finished */
    struct player *self; /* who is at it; NULL exactly when the test is */
    bool failed;
    char said[500]; /* why */
    struct place test;
    struct player players[PLAY_PLAYERS_MAX];
} play;

static _Alignas(64) uint8_t stacks[PLAY_PLAYERS_MAX][STACK_BYTES];

/* --- chance --- */

/* splitmix64, as tests/unit/chance.h; 0 ... limit - 1 */
static QUIET uint32_t below(uint32_t limit)
{
    uint64_t value = play.state += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)((value ^ value >> 31) >> 32) % limit;
}

/* Short and long ones alike: up to 127. */
static QUIET uint32_t any_gap(void)
{
    return below(1u << below(8));
}

static QUIET void draw_gap(void)
{
    play.gap = play.gap_kind == 0 ? below(2) : play.gap_kind == 1 ? below(8) : any_gap();
}

static QUIET void draw_kind(void)
{
    play.state = play.seed * UINT64_C(0xd1342543de82ef95);
    play.gap_kind = below(4);
    play.budget = play.gap_kind < 2 ? UINT32_MAX : 1 + below(4);
    draw_gap();
}

/* --- switching --- */

static QUIET void switch_to(struct player *to)
{
    struct place *from_place = play.self != NULL ? &play.self->place : &play.test;
    struct place *to_place = to != NULL ? &to->place : &play.test;
    play.self = to;
#ifdef PLAY_ADDRESS_SANITIZER
    __sanitizer_start_switch_fiber(&from_place->fake_stack, to_place->stack, to_place->stack_bytes);
#endif
#ifdef PLAY_THREAD_SANITIZER
    __tsan_switch_to_fiber(to_place->fiber, play.in_order ? 0 : __tsan_switch_to_fiber_no_sync);
#endif
    (void)swapcontext(&from_place->context, &to_place->context);
#ifdef PLAY_ADDRESS_SANITIZER
    __sanitizer_finish_switch_fiber(from_place->fake_stack, NULL, NULL);
#endif
}

/* For ThreadSanitizer: all that the players have done comes before what follows here, and all that was done here before what they do next. */
static QUIET void meet(void)
{
#ifdef PLAY_THREAD_SANITIZER
    void *here = play.self != NULL ? play.self->place.fiber : play.test.fiber;
    for (uint32_t i = 0; i < play.count; i++) {
        __tsan_switch_to_fiber(play.players[i].place.fiber, 0);
        __tsan_switch_to_fiber(here, 0);
    }
#endif
}

static QUIET bool can_go_on(const struct player *player)
{
    if (!player->is_playing)
        return false;
    if (player->word == NULL)
        return true;
    uint64_t now = player->word_bytes == 8   ? *(const volatile uint64_t *)player->word
                   : player->word_bytes == 4 ? *(const volatile uint32_t *)player->word
                                             : *(const volatile uint8_t *)player->word;
    return now != player->value;
}

/* Somebody, each alike, or NULL: nobody can go on. */
static QUIET struct player *choose(const struct player *other_than)
{
    struct player *able[PLAY_PLAYERS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < play.count; i++)
        if (&play.players[i] != other_than && can_go_on(&play.players[i]))
            able[count++] = &play.players[i];
    return count == 0 ? NULL : able[below(count)];
}

static QUIET void fail_all_asleep(void)
{
    char who[300];
    size_t bytes = 0;
    for (uint32_t i = 0; i < play.count && bytes < sizeof who; i++)
        if (play.players[i].is_playing)
            bytes += (size_t)snprintf(who + bytes, sizeof who - bytes, "; %s sleeps in %s:%d", play.program->players[i].name,
                                      play.players[i].function, play.players[i].line);
    play_fail("nobody can go on%s", who);
}

/* The player cannot go on: somebody else does, and it comes back from here when it is chosen again. */
static QUIET void give_way(void)
{
    struct player *next = choose(NULL);
    if (next == NULL && play.playing != 0)
        fail_all_asleep();
    if (next != play.self)
        switch_to(next);
}

/* --- the trace --- */

/* A column for each player. */
static QUIET void trace(const char *function, int line, const char *what)
{
    uint32_t index = (uint32_t)(play.self - play.players);
    if (play.is_traced)
        dprintf(STDERR_FILENO, "%6u %*s%-8s %s:%d%s\n", play.steps, (int)index * 12, "", play.program->players[index].name, function, line,
                what);
}

QUIET void play_note(const char *format, ...)
{
    va_list arguments;
    uint32_t index = (uint32_t)(play.self - play.players);
    if (!play.is_traced || play.self == NULL)
        return;
    dprintf(STDERR_FILENO, "       %*s%-8s . ", (int)index * 12, "", play.program->players[index].name);
    va_start(arguments, format);
    vdprintf(STDERR_FILENO, format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "\n");
}

/* --- for players --- */

QUIET void play_step(const char *function, int line)
{
    if (play.self == NULL)
        return;
    if (++play.steps > STEPS_MAX)
        play_fail("does not end: %s:%d", function, line);
    if (play.budget != 0 && play.gap-- == 0) {
        struct player *next = choose(play.self);
        draw_gap();
        if (next != NULL) {
            play.budget--;
            switch_to(next);
        }
    }
    trace(function, line, "");
}

QUIET void play_yield(void)
{
    struct player *next = choose(play.self);
    if (++play.steps > STEPS_MAX)
        play_fail("does not end");
    if (next != NULL)
        switch_to(next);
}

QUIET void play_sleep_while(const volatile void *word, size_t bytes, uint64_t value, const char *function, int line)
{
    struct player *self = play.self;
    play_step(function, line);
    self->word = word;
    self->word_bytes = bytes;
    self->value = value;
    self->function = function;
    self->line = line;
    if (!can_go_on(self)) {
        trace(function, line, " sleeps");
        give_way();
        trace(function, line, " wakes");
    }
    self->word = NULL;
}

QUIET void play_fail(const char *format, ...)
{
    va_list arguments;
    meet();
    va_start(arguments, format);
    (void)vsnprintf(play.said, sizeof play.said, format, arguments);
    va_end(arguments);
    play.failed = true;
    meet();
    if (play.self == NULL)
        abort();
    switch_to(NULL);
    abort(); /* nobody comes back here */
}

/* --- a play --- */

static QUIET void player_loop(void)
{
    struct player *self = play.self;
#ifdef PLAY_ADDRESS_SANITIZER
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(NULL, &bottom, &bytes);
    play.test.stack = bottom; /* the first time, it is the test that switches here: make_player() */
    play.test.stack_bytes = bytes;
#endif
    for (switch_to(NULL);; give_way()) {
        play.program->players[self - play.players].run();
        self->is_playing = false;
        if (--play.playing == 0) {
            meet();
            if (play.program->end != NULL)
                play.program->end();
            meet();
        }
    }
}

static void make_player(struct player *player)
{
    uint8_t *stack = stacks[player - play.players];
    (void)getcontext(&player->place.context);
#ifdef PLAY_ADDRESS_SANITIZER
    __asan_unpoison_memory_region(stack, STACK_BYTES);
#endif
#ifdef PLAY_THREAD_SANITIZER
    if (player->place.fiber != NULL)
        __tsan_destroy_fiber(player->place.fiber);
    player->place.fiber = __tsan_create_fiber(0);
    play.test.fiber = __tsan_get_current_fiber();
#endif
    player->place.stack = stack;
    player->place.stack_bytes = STACK_BYTES;
    player->place.context.uc_stack.ss_sp = stack;
    player->place.context.uc_stack.ss_size = STACK_BYTES;
    player->place.context.uc_link = NULL;
    makecontext(&player->place.context, player_loop, 0);
    player->is_made = true;
    switch_to(player);
}

/* True: all is well. */
static bool play_one(const struct play_program *program, uint64_t seed)
{
    play.program = program;
    play.seed = seed;
    play.steps = 0;
    play.failed = false;
    draw_kind();
    for (play.count = 0; play.count < PLAY_PLAYERS_MAX && program->players[play.count].name != NULL; play.count++) {
        struct player *player = &play.players[play.count];
        if (!player->is_made)
            make_player(player);
        player->is_playing = true;
        player->word = NULL;
    }
    program->begin(seed);
    meet();
    play.playing = play.count;
    switch_to(choose(NULL));
    meet();
    for (uint32_t i = 0; i < play.count && play.failed; i++)
        play.players[i].is_made = false;
    return !play.failed;
}

#ifdef PLAY_THREAD_SANITIZER
/* It would sleep a second at each exit, in case a thread still goes wrong; and what follows the first race is not worth reading. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "atexit_sleep_ms=0:halt_on_error=1";
}
#endif

/* --- seeds --- */

static void say_replay(void)
{
    if (play.program != NULL && play.self != NULL)
        dprintf(STDERR_FILENO, "play: that was %s, seed %lu. To see it again: CK_FORK=no WEIR_RACE_SEED=%lu\n", play.program->name,
                play.seed, play.seed);
}

/* An assert of the library, most likely. */
static void aborted(int number)
{
    say_replay();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static bool asked_for(const char *variable, uint64_t *value)
{
    const char *text = getenv(variable);
    if (text != NULL)
        *value = strtoull(text, NULL, 0);
    return text != NULL;
}

static uint64_t seed_count(const struct play_program *program)
{
    uint64_t count = program->cost == 0 ? SEEDS : SEEDS / program->cost;
    if (!asked_for("WEIR_RACE_SEEDS", &count) && getenv("WEIR_LONG") != NULL)
        count *= 20;
    return count;
}

/* Plays the seed once more and shows its steps. */
static bool show(const struct play_program *program, uint64_t seed)
{
    dprintf(STDERR_FILENO, "play: %s, seed %lu. A line says from which step on a player goes on:\n", program->name, seed);
    play.is_traced = true;
    bool is_well = play_one(program, seed);
    play.is_traced = false;
    dprintf(STDERR_FILENO, "play: %s\n", is_well ? "all is well." : play.said);
    return is_well;
}

/* The first seed that fails, or -1. */
static int64_t first_failure(const struct play_program *program)
{
    uint64_t count = seed_count(program);
    (void)signal(SIGABRT, aborted);
#if defined(PLAY_ADDRESS_SANITIZER) || defined(PLAY_THREAD_SANITIZER)
    __sanitizer_set_death_callback(say_replay);
#endif
    for (uint64_t seed = 0; seed < count; seed++)
        if (!play_one(program, seed))
            return (int64_t)seed;
    return -1;
}

bool play_seeds(const struct play_program *program)
{
    uint64_t one = 0;
    play.in_order = false;
    if (asked_for("WEIR_RACE_SEED", &one)) {
        if (!show(program, one))
            ck_abort_msg("%s, seed %lu: %s", program->name, one, play.said);
        return false;
    }
    int64_t seed = first_failure(program);
    if (seed >= 0) {
        (void)show(program, (uint64_t)seed);
        ck_abort_msg("%s, seed %ld: %s; to see it again: CK_FORK=no WEIR_RACE_SEED=%ld", program->name, seed, play.said, seed);
    }
    return true;
}

void play_mistake(const struct play_program *program, const char *mistake)
{
    uint64_t one = 0;
    play.in_order = true;
    if (asked_for("WEIR_RACE_SEED", &one)) {
        dprintf(STDERR_FILENO, "play: with a mistake: %s\n", mistake);
        (void)show(program, one);
        return;
    }
    int64_t seed = first_failure(program);
    if (seed < 0)
        ck_abort_msg("%s: no seed found the mistake: %s", program->name, mistake);
    if (getenv("WEIR_RACE_VERBOSE") != NULL)
        printf("%s, %s: seed %ld: %s\n", program->name, mistake, seed, play.said);
}

int play_main(const struct play_suite *races)
{
    Suite *suite = suite_create(races->name);
    TCase *tests = tcase_create(races->name), *wrong = tcase_create("mistakes");
    tcase_set_timeout(tests, races->seconds);
    tcase_add_test(tests, races->test);
    tcase_set_timeout(wrong, races->seconds);
    tcase_add_loop_test(wrong, races->mistake, races->mistakes_first, races->mistakes_end);
    if (races->weak != NULL)
        tcase_add_loop_exit_test(wrong, races->weak, 66, races->weak_first, races->weak_end);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, wrong);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
