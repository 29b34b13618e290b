/* SPDX-License-Identifier: MIT */
/* hammer: the two-sided races of runtime/ with real threads, counted as litmus tests are: each shape of hammer_shapes.c some millions of
 * times, the two threads on one core or on two, or moved about, with short delays between them drawn at random. What must not come out has
 * to come out never.
 *
 * hammer --plants shows that it can fail: each shape with one fence left out must show what is wrong within its time. (On one core alone
 * it cannot: no store buffer is seen from its own core.) A memory order that is only too weak for other processors is not seen on x86: the
 * models (tests/model) and the thread sanitizer over the plays (tests/race) look for those. The sanitizer in turn
 * ignores fences, and its own work around each atomic hides store buffers, so a missing fence is a matter of the models and of this
 * program. */
#include <argp.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/race/hammer.h"
#include "tests/unit/chance.h"

const char *argp_program_version; /* argp's own name */

#define DELAY_BITS 6u /* a delay is up to so many turns of a loop */
#define SPINS      2000u

static struct options {
    double seconds;
    const char *plant;
    const char *only;
    bool plants, json;
    uint64_t seed;
} options = {.seconds = 10};

/* How the two threads are placed in a batch. */
enum placement { APART, TOGETHER, ANYWHERE, PLACEMENTS };
static const char *const placement_names[PLACEMENTS] = {"apart", "together", "anywhere"};

struct side {
    struct chance chance;
    void (*run)(uint32_t slot);
    alignas(64) _Atomic uint32_t at; /* slots begun in this batch */
};

static struct {
    const struct hammer_shape *shape;
    enum placement placement;
    struct side sides[2];
    alignas(64) _Atomic uint32_t batch; /* the right side runs when it changes */
    alignas(64) _Atomic uint32_t done;  /* and has come to its end when this is the same */
    alignas(64) _Atomic bool is_over;
    int cpus[2];
    uint32_t cpu_count;
} hammer;

struct result {
    uint64_t counts[HAMMER_OUTCOMES];
    uint64_t runs, placed[PLACEMENTS];
    bool is_wrong, ran;
    double seconds;
};
static struct result results[HAMMER_SHAPES];

/* --- the two threads --- */

static void pause_briefly(uint32_t *spins)
{
    if (++*spins % SPINS == 0)
        sched_yield();
}

static void delay(struct chance *chance)
{
    for (uint64_t left = chance_any_size(chance, DELAY_BITS); left > 0; left--)
        atomic_signal_fence(memory_order_seq_cst);
}

/* Each slot once, both sides at about the same time. */
static void run_side(struct side *side, struct side *other)
{
    for (uint32_t slot = 0; slot < HAMMER_SLOTS; slot++) {
        uint32_t spins = 0;
        atomic_store_explicit(&side->at, slot + 1, memory_order_relaxed);
        while (hammer.placement == APART && atomic_load_explicit(&other->at, memory_order_relaxed) <= slot)
            pause_briefly(&spins);
        delay(&side->chance);
        side->run(slot);
    }
}

static void place_self(uint32_t index)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (hammer.placement != APART || index == 0)
        CPU_SET(hammer.cpus[0], &set);
    if (hammer.placement == ANYWHERE || (hammer.placement == APART && index == 1))
        CPU_SET(hammer.cpus[1], &set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

static void *right_run(void *argument)
{
    uint32_t batch = 0;
    enum placement placement = PLACEMENTS;
    for (;;) {
        uint32_t spins = 0;
        while (atomic_load_explicit(&hammer.batch, memory_order_acquire) == batch)
            pause_briefly(&spins);
        batch++;
        if (atomic_load_explicit(&hammer.is_over, memory_order_relaxed))
            return argument;
        if (placement != hammer.placement)
            place_self(1);
        placement = hammer.placement;
        run_side(&hammer.sides[1], &hammer.sides[0]);
        atomic_store_explicit(&hammer.done, batch, memory_order_release);
    }
}

static void run_batch(struct result *result)
{
    uint32_t spins = 0;
    for (uint32_t slot = 0; slot < HAMMER_SLOTS; slot++)
        hammer.shape->begin(slot);
    for (uint32_t i = 0; i < 2; i++)
        atomic_store_explicit(&hammer.sides[i].at, 0, memory_order_relaxed);
    uint32_t batch = atomic_fetch_add_explicit(&hammer.batch, 1, memory_order_release) + 1;
    run_side(&hammer.sides[0], &hammer.sides[1]);
    while (atomic_load_explicit(&hammer.done, memory_order_acquire) != batch)
        pause_briefly(&spins);
    for (uint32_t slot = 0; slot < HAMMER_SLOTS; slot++) {
        uint32_t outcome = hammer.shape->judge(slot);
        result->counts[outcome]++;
        result->is_wrong |= (hammer.shape->wrong >> outcome & 1) != 0;
    }
    result->runs += HAMMER_SLOTS;
    result->placed[hammer.placement] += HAMMER_SLOTS;
}

/* --- a shape --- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void say_progress(const struct result *result, double seconds)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%-14s %5.1f s %12llu runs%s ", hammer.shape->name, seconds, (unsigned long long)result->runs,
                hammer_planted ? " (planted)" : "");
}

/* Mostly apart, where something is to be seen. */
static enum placement draw_placement(struct chance *chance)
{
    if (hammer.cpu_count < 2)
        return TOGETHER;
    uint64_t drawn = chance_below(chance, 10);
    return drawn < 8 ? APART : drawn == 8 ? TOGETHER : ANYWHERE;
}

/* Until its time is over or something is wrong. */
static void run_shape(uint32_t index, double seconds)
{
    struct result *result = &results[index];
    struct chance chance = {options.seed ^ index};
    double begin = now(), said = begin, time;
    *result = (struct result){.ran = true};
    hammer.shape = &hammer_shapes[index];
    hammer.sides[0].run = hammer.shape->left;
    hammer.sides[1].run = hammer.shape->right;
    hammer.sides[0].chance.state = chance_u64(&chance);
    hammer.sides[1].chance.state = chance_u64(&chance);
    hammer.shape->open();
    while ((time = now()) - begin < seconds && !result->is_wrong) {
        hammer.placement = draw_placement(&chance);
        place_self(0);
        for (uint32_t batches = 1 + (uint32_t)chance_below(&chance, 200); batches > 0 && !result->is_wrong; batches--)
            run_batch(result);
        if (time - said > 0.2)
            say_progress(result, (said = time) - begin);
    }
    result->seconds = now() - begin;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

/* --- what it says --- */

static void say_table(void)
{
    for (uint32_t i = 0; i < HAMMER_SHAPES; i++) {
        const struct hammer_shape *shape = &hammer_shapes[i];
        const struct result *result = &results[i];
        if (!result->ran)
            continue;
        printf("%-13s %11llu runs %6.1f s  %s\n", shape->name, (unsigned long long)result->runs, result->seconds,
               hammer_planted ? shape->plant : shape->what);
        for (uint32_t outcome = 0; outcome < HAMMER_OUTCOMES && shape->outcomes[outcome] != NULL; outcome++)
            printf("    %-14s %12llu%s\n", shape->outcomes[outcome], (unsigned long long)result->counts[outcome],
                   (shape->wrong >> outcome & 1) == 0 ? ""
                   : result->counts[outcome] == 0     ? "  (must not be)"
                   : hammer_planted                   ? "  found"
                                                      : "  WRONG");
    }
}

static void say_json(void)
{
    const char *between = "";
    printf("{\"seed\": %llu, \"cpus\": %u, \"planted\": %s, \"shapes\": [", (unsigned long long)options.seed, hammer.cpu_count,
           hammer_planted ? "true" : "false");
    for (uint32_t i = 0; i < HAMMER_SHAPES; i++) {
        const struct hammer_shape *shape = &hammer_shapes[i];
        const struct result *result = &results[i];
        if (!result->ran)
            continue;
        printf("%s\n  {\"name\": \"%s\", \"runs\": %llu, \"seconds\": %.2f, \"wrong\": %s, \"outcomes\": {", between, shape->name,
               (unsigned long long)result->runs, result->seconds, result->is_wrong ? "true" : "false");
        for (uint32_t outcome = 0; outcome < HAMMER_OUTCOMES && shape->outcomes[outcome] != NULL; outcome++)
            printf("%s\"%s\": %llu", outcome == 0 ? "" : ", ", shape->outcomes[outcome], (unsigned long long)result->counts[outcome]);
        printf("}, \"placed\": {");
        for (uint32_t placement = 0; placement < PLACEMENTS; placement++)
            printf("%s\"%s\": %llu", placement == 0 ? "" : ", ", placement_names[placement], (unsigned long long)result->placed[placement]);
        printf("}}");
        between = ",";
    }
    printf("\n]}\n");
}

/* --- the program --- */

static const struct argp_option option_list[] = {
    {"seconds", 's', "SECONDS", 0, "how long in all (10); with --plants, for each at most", 0},
    {"only", 'o', "SHAPE", 0, "this shape alone", 0},
    {"plants", 'p', NULL, 0, "make each shape's mistake: 0 if all are found", 0},
    {"plant", 'P', "SHAPE", 0, "the same for one shape", 0},
    {"seed", 'S', "SEED", 0, "of the delays and placements", 0},
    {"json", 'j', NULL, 0, "tell as JSON", 0},
    {0},
};

static const char *shape_name(const char *name, struct argp_state *state)
{
    for (uint32_t i = 0; i < HAMMER_SHAPES; i++)
        if (strcmp(hammer_shapes[i].name, name) == 0)
            return name;
    argp_error(state, "%s is not a shape", name);
    return NULL;
}

static error_t take_option(int key, char *argument, struct argp_state *state)
{
    switch (key) {
    case 's':
        options.seconds = strtod(argument, NULL);
        if (options.seconds <= 0)
            argp_error(state, "%s is not a number of seconds", argument);
        return 0;
    case 'o':
        options.only = shape_name(argument, state);
        return 0;
    case 'p':
        options.plants = true;
        return 0;
    case 'P':
        options.plant = options.only = shape_name(argument, state);
        options.plants = true;
        return 0;
    case 'S':
        options.seed = strtoull(argument, NULL, 0);
        return 0;
    case 'j':
        options.json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void find_cpus(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        CPU_ZERO(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE && hammer.cpu_count < 2; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            hammer.cpus[hammer.cpu_count++] = cpu;
    if (hammer.cpu_count == 1)
        hammer.cpus[1] = hammer.cpus[0];
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        option_list, take_option, NULL, "Plays the races between weir's threads, and counts how they come out.", NULL, NULL, NULL};
    pthread_t right;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    find_cpus();
    hammer_planted = options.plants;
    if (hammer.cpu_count < 2 && options.plants) {
        puts("hammer: one core alone shows no missing fence");
        return 0;
    }
    if (pthread_create(&right, NULL, right_run, NULL) != 0) {
        fputs("hammer: no thread\n", stderr);
        return 1;
    }
    bool is_well = true;
    double seconds = options.plants || options.only != NULL ? options.seconds : options.seconds / HAMMER_SHAPES;
    for (uint32_t i = 0; i < HAMMER_SHAPES; i++) {
        if (options.only != NULL && strcmp(options.only, hammer_shapes[i].name) != 0)
            continue;
        run_shape(i, seconds);
        is_well &= results[i].is_wrong == hammer_planted;
    }
    atomic_store_explicit(&hammer.is_over, true, memory_order_relaxed);
    atomic_fetch_add_explicit(&hammer.batch, 1, memory_order_release);
    (void)pthread_join(right, NULL);
    options.json ? say_json() : say_table();
    if (!is_well)
        fputs(hammer_planted ? "hammer: a mistake was not found\n" : "hammer: what must not be was\n", stderr);
    return is_well ? 0 : 1;
}
