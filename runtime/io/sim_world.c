/* SPDX-License-Identifier: MIT */
/* sim_world: chance, time, events and traces of the simulated kernel. */
#include "runtime/io/sim_world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What sockets and operations are cut from: kept until the world ends, so that an event may look at a serial at any time. */
struct w_sim_chunk {
    struct w_sim_chunk *next;
    _Alignas(16) uint8_t memory[];
};

void w_sim_world_blame(const struct weir_sim_world *world, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "weir sim: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (seed %" PRIu64 ", at %" PRIu64 " ns)\n", world->seed, world->now_ns);
    va_end(arguments);
    abort();
}

const void *w_sim_world_thread(void)
{
    static _Thread_local char mark;
    return &mark;
}

/* --- memory --- */

static void *have(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "weir sim: no memory for the simulated kernel\n");
        abort();
    }
    return memory;
}

void *w_sim_world_memory(size_t bytes)
{
    return have(calloc(1, bytes));
}

void *w_sim_world_rough_memory(size_t bytes)
{
    return have(malloc(bytes));
}

void *w_sim_world_chunk(struct weir_sim_world *world, size_t bytes)
{
    struct w_sim_chunk *chunk = w_sim_world_memory(sizeof *chunk + bytes);
    chunk->next = world->chunks;
    world->chunks = chunk;
    return chunk->memory;
}

/* --- chance: xoshiro256** (Blackman and Vigna), seeded by splitmix64 --- */

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

void w_sim_world_seed(struct w_sim_random *random, uint64_t seed)
{
    for (size_t i = 0; i < W_COUNT(random->state); i++)
        random->state[i] = splitmix(&seed);
}

static uint64_t random_next(struct w_sim_random *random)
{
    uint64_t *s = random->state;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t w_sim_world_draw_below(struct w_sim_random *random, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)random_next(random) * bound) >> 64);
}

uint64_t w_sim_world_random(struct weir_sim_world *world)
{
    return random_next(&world->chance);
}

uint64_t w_sim_world_below(struct weir_sim_world *world, uint64_t bound)
{
    return w_sim_world_draw_below(&world->chance, bound);
}

uint64_t w_sim_world_between(struct weir_sim_world *world, uint64_t low, uint64_t high)
{
    return low >= high ? low : low + w_sim_world_below(world, high - low + 1);
}

uint64_t w_sim_world_draw_magnitude(struct w_sim_random *random, uint64_t low, uint64_t high)
{
    if (low >= high)
        return low;
    unsigned bits_low = low == 0 ? 0 : 64 - (unsigned)__builtin_clzll(low);
    unsigned bits_high = 64 - (unsigned)__builtin_clzll(high);
    unsigned bits = bits_low + (unsigned)w_sim_world_draw_below(random, bits_high - bits_low + 1);
    uint64_t top = bits == 0 ? 0 : bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    uint64_t bottom = bits == 0 ? 0 : UINT64_C(1) << (bits - 1);
    bottom = bottom < low ? low : bottom;
    top = top > high ? high : top;
    return bottom + w_sim_world_draw_below(random, top - bottom + 1);
}

uint64_t w_sim_world_magnitude(struct weir_sim_world *world, uint64_t low, uint64_t high)
{
    return w_sim_world_draw_magnitude(&world->chance, low, high);
}

uint64_t weir_sim_random(struct weir_sim_world *world)
{
    return random_next(&world->script);
}

uint64_t weir_sim_below(struct weir_sim_world *world, uint64_t bound)
{
    W_SIM_REQUIRE(world, bound > 0, "weir_sim_below of 0");
    return w_sim_world_draw_below(&world->script, bound);
}

uint64_t w_sim_world_latency_ns(struct weir_sim_world *world)
{
    return w_sim_world_magnitude(world, world->faults.latency_ns_min, world->faults.latency_ns_max);
}

uint64_t w_sim_world_late_ns(struct weir_sim_world *world)
{
    return w_sim_world_magnitude(world, 1, world->faults.late_ns_max);
}

/* --- traces --- */

void weir_sim_set_trace(struct weir_sim_world *world, void (*line)(void *user, const char *text), void *user)
{
    world->trace = line;
    world->trace_user = user;
}

static void print_line(void *user, const char *text)
{
    fprintf(user, "%s\n", text);
}

void weir_sim_trace(struct weir_sim_world *world, FILE *file)
{
    weir_sim_set_trace(world, file != NULL ? print_line : NULL, file);
}

uint64_t weir_sim_hash(const struct weir_sim_world *world)
{
    return world->hash;
}

void w_sim_world_hash(struct weir_sim_world *world, uint64_t value)
{
    world->hash = rotate((world->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15), 29);
}

void w_sim_world_hash_bytes(struct weir_sim_world *world, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t word = 0;
    for (; bytes >= sizeof word; at += sizeof word, bytes -= sizeof word) {
        memcpy(&word, at, sizeof word);
        w_sim_world_hash(world, word);
    }
    word = bytes;
    for (size_t i = 0; i < bytes; i++)
        word = word << 8 | at[i];
    w_sim_world_hash(world, word);
}

static void trace(struct weir_sim_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void trace(struct weir_sim_world *world, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    world->trace(world->trace_user, text);
}

void w_sim_world_note(struct weir_sim_world *world, const char *what, int64_t a, int64_t b, int64_t c)
{
    w_sim_world_hash(world, world->now_ns ^ (uint64_t)(unsigned char)what[0] << 56);
    w_sim_world_hash(world, (uint64_t)a);
    w_sim_world_hash(world, (uint64_t)b);
    w_sim_world_hash(world, (uint64_t)c);
    if (W_UNLIKELY(world->trace != NULL))
        trace(world, "%14" PRIu64 " %-18s %" PRId64 " %" PRId64 " %" PRId64, world->now_ns, what, a, b, c);
}

void weir_sim_note(struct weir_sim_world *world, const char *text)
{
    w_sim_world_hash(world, world->now_ns);
    w_sim_world_hash_bytes(world, text, strlen(text));
    if (world->trace != NULL)
        trace(world, "%14" PRIu64 " * %s", world->now_ns, text);
}

/* --- time and events --- */

static bool event_before(const struct w_sim_event *a, const struct w_sim_event *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->tie < b->tie;
}

static void event_push(struct weir_sim_world *world, const struct w_sim_event *event)
{
    if (world->event_count == world->event_capacity) {
        uint32_t capacity = world->event_capacity == 0 ? 256 : world->event_capacity * 2;
        struct w_sim_event *events = w_sim_world_memory(capacity * sizeof *events);
        if (world->event_count > 0)
            memcpy(events, world->events, world->event_count * sizeof *events);
        free(world->events);
        world->events = events;
        world->event_capacity = capacity;
    }
    uint32_t at = world->event_count++;
    for (; at > 0 && event_before(event, &world->events[(at - 1) / 2]); at = (at - 1) / 2)
        world->events[at] = world->events[(at - 1) / 2];
    world->events[at] = *event;
}

static void event_pop(struct weir_sim_world *world, struct w_sim_event *event)
{
    *event = world->events[0];
    struct w_sim_event last = world->events[--world->event_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= world->event_count)
            break;
        if (child + 1 < world->event_count && event_before(&world->events[child + 1], &world->events[child]))
            child++;
        if (!event_before(&world->events[child], &last))
            break;
        world->events[at] = world->events[child];
        at = child;
    }
    world->events[at] = last;
}

static bool event_is_stale(const struct w_sim_event *event)
{
    return event->alive != NULL && *event->alive != event->serial;
}

void w_sim_world_at(struct weir_sim_world *world, uint64_t due_ns, const uint64_t *alive, w_sim_action action, void *object,
                    uint64_t argument)
{
    struct w_sim_event event = {
        .due_ns = due_ns,
        .tie = w_sim_world_random(world),
        .alive = alive,
        .serial = alive != NULL ? *alive : 0,
        .action = action,
        .object = object,
        .argument = argument,
    };
    event_push(world, &event);
}

uint64_t weir_sim_now_ns(const struct weir_sim_world *world)
{
    return world->now_ns;
}

uint64_t weir_sim_next_ns(struct weir_sim_world *world)
{
    struct w_sim_event stale;
    while (world->event_count > 0 && event_is_stale(&world->events[0]))
        event_pop(world, &stale);
    return world->event_count == 0 ? UINT64_MAX : world->events[0].due_ns;
}

void w_sim_world_pass(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)world;
    (void)object;
    (void)argument;
}

bool weir_sim_step(struct weir_sim_world *world)
{
    W_SIM_REQUIRE(world, !world->in_action, "a step from inside a scheduled action");
    if (weir_sim_next_ns(world) == UINT64_MAX)
        return false;
    struct w_sim_event event;
    event_pop(world, &event);
    if (event.due_ns > world->now_ns)
        world->now_ns = event.due_ns;
    world->in_action = true;
    event.action(world, event.object, event.argument);
    world->in_action = false;
    return true;
}

void weir_sim_run_until(struct weir_sim_world *world, uint64_t now_ns)
{
    while (weir_sim_next_ns(world) <= now_ns && weir_sim_step(world))
        ;
    if (now_ns > world->now_ns)
        world->now_ns = now_ns;
}

typedef void (*scheduled_action)(struct weir_sim_world *world, void *user);

/* The action itself is the argument: nothing is allocated for it. */
static void run_scheduled(struct weir_sim_world *world, void *object, uint64_t argument)
{
    ((scheduled_action)(uintptr_t)argument)(world, object);
}

void weir_sim_schedule(struct weir_sim_world *world, uint64_t after_ns, void (*action)(struct weir_sim_world *world, void *user),
                       void *user)
{
    w_sim_world_at(world, w_base_add_saturated(world->now_ns, after_ns), NULL, run_scheduled, user, (uint64_t)(uintptr_t)action);
}

/* --- the world --- */

struct weir_sim_world *weir_sim_world_create(uint64_t seed, const struct weir_sim_faults *faults)
{
    struct weir_sim_world *world = w_sim_world_memory(sizeof *world);
    world->seed = seed;
    world->now_ns = WEIR_SECOND;
    w_sim_world_seed(&world->chance, seed);
    w_sim_world_seed(&world->script, ~seed);
    weir_sim_set_faults(world, faults);
    world->handle_last_closed = -1;
    world->handle_lowest = 3;
    world->next_port = 32768;
    world->haste = 8;
    w_sim_engine_fill(&world->engine);
    world->engine.name = "sim";
    world->engine.world = world;
    return world;
}

void weir_sim_world_destroy(struct weir_sim_world **where)
{
    struct weir_sim_world *world = *where;
    *where = NULL;
    if (world == NULL)
        return;
    W_SIM_REQUIRE(world, !world->running && !world->in_action, "the world ends inside a run");
    for (uint32_t i = 0; i < world->shard_count; i++)
        W_SIM_REQUIRE(world, world->shards[i] == NULL, "the world ends before shard %u is closed", i);
    w_sim_socket_free_all(world);
    for (struct w_sim_name *name = world->names, *next; name != NULL; name = next) {
        next = name->next;
        free(name);
    }
    for (struct w_sim_chunk *chunk = world->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(world->events);
    free(world->handles);
    free(world->foreign);
    free(world->shards);
    free(world);
}

const struct w_io_engine *weir_sim_engine(struct weir_sim_world *world)
{
    return &world->engine;
}
