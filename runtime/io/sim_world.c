/* SPDX-License-Identifier: MIT */
/* sim_world: chance, time, events, faults and traces of the simulated kernel. */
#include "runtime/io/sim_world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_OBJECTS 16

/* What sockets and operations are cut from: kept until the world ends, so that an event may look at a serial at any time. */
struct w_sim_chunk {
    struct w_sim_chunk *next;
    _Alignas(16) uint8_t memory[];
};

static const char *const fault_names[WEIR_SIM_FAULT_COUNT] = {
    [WEIR_SIM_SHORT_SEND] = "short-send",
    [WEIR_SIM_SHORT_RECEIVE] = "short-receive",
    [WEIR_SIM_MULTISHOT_END] = "multishot-end",
    [WEIR_SIM_NO_BUFFERS] = "no-buffers",
    [WEIR_SIM_NO_BUFFERS_IDLE] = "no-buffers-idle",
    [WEIR_SIM_BUFFERS_SPENT] = "buffers-spent",
    [WEIR_SIM_RESET] = "reset",
    [WEIR_SIM_RESET_UNREAD] = "reset-unread",
    [WEIR_SIM_HIDDEN_END] = "hidden-end",
    [WEIR_SIM_LATE] = "late",
    [WEIR_SIM_LATE_CANCEL] = "late-cancel",
    [WEIR_SIM_CANCEL_MISSED] = "cancel-missed",
    [WEIR_SIM_SHUFFLE] = "shuffle",
    [WEIR_SIM_ACCEPT_SPENT] = "accept-spent",
    [WEIR_SIM_ACCEPT_ERROR] = "accept-error",
    [WEIR_SIM_CONNECT_REFUSED] = "connect-refused",
    [WEIR_SIM_CONNECT_TIMEOUT] = "connect-timeout",
    [WEIR_SIM_SEND_ERROR] = "send-error",
    [WEIR_SIM_RECEIVE_ERROR] = "receive-error",
    [WEIR_SIM_ERROR_TAKEN] = "error-taken",
    [WEIR_SIM_SOCKET_SPENT] = "socket-spent",
    [WEIR_SIM_HANDLE_REUSE] = "handle-reuse",
    [WEIR_SIM_OVERFLOW] = "overflow",
    [WEIR_SIM_LATE_WAKE] = "late-wake",
    [WEIR_SIM_EARLY_RETURN] = "early-return",
    [WEIR_SIM_PARTIAL_SUBMIT] = "partial-submit",
    [WEIR_SIM_NAME_ERROR] = "name-error",
};

const char *weir_sim_fault_name(enum weir_sim_fault fault)
{
    return (unsigned)fault < WEIR_SIM_FAULT_COUNT ? fault_names[fault] : "unknown";
}

void w_sim_world_blame(const struct weir_sim_world *world, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "weir sim: the contract of io.h was broken: ");
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

void *w_sim_world_memory(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL) {
        fprintf(stderr, "weir sim: no memory for the simulated kernel\n");
        abort();
    }
    return memory;
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

static void random_seed(struct w_sim_random *random, uint64_t seed)
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

static uint64_t random_below(struct w_sim_random *random, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)random_next(random) * bound) >> 64);
}

uint64_t w_sim_world_random(struct weir_sim_world *world)
{
    return random_next(&world->chance);
}

uint64_t w_sim_world_below(struct weir_sim_world *world, uint64_t bound)
{
    return random_below(&world->chance, bound);
}

uint64_t w_sim_world_between(struct weir_sim_world *world, uint64_t low, uint64_t high)
{
    return low >= high ? low : low + w_sim_world_below(world, high - low + 1);
}

static uint64_t random_magnitude(struct w_sim_random *random, uint64_t low, uint64_t high)
{
    if (low >= high)
        return low;
    unsigned bits_low = low == 0 ? 0 : 64 - (unsigned)__builtin_clzll(low);
    unsigned bits_high = 64 - (unsigned)__builtin_clzll(high);
    unsigned bits = bits_low + (unsigned)random_below(random, bits_high - bits_low + 1);
    uint64_t top = bits == 0 ? 0 : bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    uint64_t bottom = bits == 0 ? 0 : UINT64_C(1) << (bits - 1);
    bottom = bottom < low ? low : bottom;
    top = top > high ? high : top;
    return bottom + random_below(random, top - bottom + 1);
}

uint64_t w_sim_world_magnitude(struct weir_sim_world *world, uint64_t low, uint64_t high)
{
    return random_magnitude(&world->chance, low, high);
}

uint64_t weir_sim_random(struct weir_sim_world *world)
{
    return random_next(&world->script);
}

bool w_sim_world_draws(struct weir_sim_world *world, enum weir_sim_fault fault)
{
    uint32_t chance_ppm = world->faults.chance_ppm[fault];
    return chance_ppm != 0 && w_sim_world_below(world, 1000000) < chance_ppm;
}

bool w_sim_world_strikes(struct weir_sim_world *world, enum weir_sim_fault fault)
{
    bool strikes = w_sim_world_draws(world, fault);
    if (strikes)
        w_sim_world_fire(world, fault);
    return strikes;
}

void w_sim_world_fire(struct weir_sim_world *world, enum weir_sim_fault fault)
{
    world->fired[fault]++;
    w_sim_world_note(world, fault_names[fault], 0, 0, 0);
}

uint64_t weir_sim_fired(const struct weir_sim_world *world, enum weir_sim_fault fault)
{
    return world->fired[fault];
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

void weir_sim_trace(struct weir_sim_world *world, FILE *file)
{
    world->trace = file;
}

uint64_t weir_sim_hash(const struct weir_sim_world *world)
{
    return world->hash;
}

static void hash_in(struct weir_sim_world *world, uint64_t value)
{
    world->hash = rotate((world->hash ^ value) * UINT64_C(0x9e3779b97f4a7c15), 29);
}

void w_sim_world_note(struct weir_sim_world *world, const char *what, int64_t a, int64_t b, int64_t c)
{
    hash_in(world, world->now_ns ^ (uint64_t)(unsigned char)what[0] << 56);
    hash_in(world, (uint64_t)a);
    hash_in(world, (uint64_t)b);
    hash_in(world, (uint64_t)c);
    if (world->trace != NULL)
        fprintf(world->trace, "%14" PRIu64 " %-18s %" PRId64 " %" PRId64 " %" PRId64 "\n", world->now_ns, what, a, b, c);
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

struct scheduled {
    void (*action)(struct weir_sim_world *world, void *user);
    void *user;
};

static void run_scheduled(struct weir_sim_world *world, void *object, uint64_t argument)
{
    (void)argument;
    struct scheduled scheduled = *(struct scheduled *)object;
    free(object);
    scheduled.action(world, scheduled.user);
}

void weir_sim_schedule(struct weir_sim_world *world, uint64_t after_ns, void (*action)(struct weir_sim_world *world, void *user),
                       void *user)
{
    struct scheduled *scheduled = w_sim_world_memory(sizeof *scheduled);
    *scheduled = (struct scheduled){.action = action, .user = user};
    w_sim_world_at(world, w_base_add_saturated(world->now_ns, after_ns), NULL, run_scheduled, scheduled, 0);
}

/* --- faults --- */

static void faults_complete(struct weir_sim_faults *faults)
{
    faults->latency_ns_min = w_base_or_default(faults->latency_ns_min, 5 * WEIR_MICROSECOND);
    faults->latency_ns_max = w_base_or_default(faults->latency_ns_max, 100 * WEIR_MICROSECOND);
    faults->operation_ns_max = w_base_or_default(faults->operation_ns_max, 20 * WEIR_MICROSECOND);
    faults->late_ns_max = w_base_or_default(faults->late_ns_max, 5 * WEIR_MILLISECOND);
    faults->socket_bytes_min = (uint32_t)w_base_or_default(faults->socket_bytes_min, 1024);
    faults->socket_bytes_max = (uint32_t)w_base_or_default(faults->socket_bytes_max, 256 * 1024);
    faults->descriptors_max = (uint32_t)w_base_or_default(faults->descriptors_max, 65536);
}

void weir_sim_set_faults(struct weir_sim_world *world, const struct weir_sim_faults *faults)
{
    world->faults = faults != NULL ? *faults : (struct weir_sim_faults){0};
    faults_complete(&world->faults);
}

/* How frequent a class may get: those that end a connection are kept rare, or nothing else would be met. */
static uint32_t chance_ppm_max(enum weir_sim_fault fault)
{
    switch (fault) {
    case WEIR_SIM_RESET:
    case WEIR_SIM_SEND_ERROR:
    case WEIR_SIM_RECEIVE_ERROR:
        return 20000;
    case WEIR_SIM_LATE:
    case WEIR_SIM_LATE_WAKE:
    case WEIR_SIM_ACCEPT_ERROR:
    case WEIR_SIM_ACCEPT_SPENT:
    case WEIR_SIM_OVERFLOW:
    case WEIR_SIM_NO_BUFFERS:
        return 100000;
    default:
        return 500000;
    }
}

void weir_sim_faults_mix(uint64_t seed, struct weir_sim_faults *faults)
{
    struct w_sim_random random;
    random_seed(&random, seed ^ UINT64_C(0x5deece66d));
    *faults = (struct weir_sim_faults){0};
    uint64_t many = random_below(&random, 4); /* of 4: how likely each class is in the mix */
    for (uint32_t i = 0; i < WEIR_SIM_FAULT_COUNT; i++) {
        uint32_t most = chance_ppm_max((enum weir_sim_fault)i);
        bool frequent = random_below(&random, 2) == 0;
        if (random_below(&random, 4) < many)
            faults->chance_ppm[i] = (uint32_t)(frequent ? random_below(&random, most) : random_magnitude(&random, 500, most));
    }
    faults->latency_ns_min = random_magnitude(&random, WEIR_MICROSECOND, 100 * WEIR_MICROSECOND);
    faults->latency_ns_max = random_magnitude(&random, faults->latency_ns_min, 10 * WEIR_MILLISECOND);
    faults->operation_ns_max = random_magnitude(&random, WEIR_MICROSECOND, WEIR_MILLISECOND);
    faults->late_ns_max = random_magnitude(&random, 100 * WEIR_MICROSECOND, 50 * WEIR_MILLISECOND);
    faults->socket_bytes_min = (uint32_t)random_magnitude(&random, 1024, 64 * 1024);
    faults->socket_bytes_max = (uint32_t)random_magnitude(&random, faults->socket_bytes_min, 256 * 1024);
    faults->plain_buffers = random_below(&random, 2) == 0;
}

/* --- the world --- */

struct weir_sim_world *weir_sim_world_create(uint64_t seed, const struct weir_sim_faults *faults)
{
    struct weir_sim_world *world = w_sim_world_memory(sizeof *world);
    world->seed = seed;
    world->now_ns = WEIR_SECOND;
    random_seed(&world->chance, seed);
    random_seed(&world->script, ~seed);
    weir_sim_set_faults(world, faults);
    world->handle_last_closed = -1;
    world->handle_lowest = 3;
    world->next_port = 32768;
    w_sim_engine_fill(&world->engine);
    world->engine.name = "sim";
    world->engine.world = world;
    return world;
}

/* Scheduled actions that will not run any more: their small memory. */
static void forget_scheduled(struct weir_sim_world *world)
{
    for (uint32_t i = 0; i < world->event_count; i++)
        if (world->events[i].action == run_scheduled)
            free(world->events[i].object);
}

void weir_sim_world_destroy(struct weir_sim_world **where)
{
    struct weir_sim_world *world = *where;
    *where = NULL;
    if (world == NULL)
        return;
    for (uint32_t i = 0; i < world->shard_count; i++)
        W_SIM_REQUIRE(world, world->shards[i] == NULL, "the world ends before shard %u is closed", i);
    forget_scheduled(world);
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
    free(world->shards);
    free(world);
}

const struct w_io_engine *weir_sim_engine(struct weir_sim_world *world)
{
    return &world->engine;
}
