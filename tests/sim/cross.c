/* SPDX-License-Identifier: MIT */
/* cross: one run: opened, driven, closed, and the sums made. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cross.h"

_Noreturn void cross_fail(const struct cross_run *run, const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    scenario_fail(run->seed, run->world != NULL ? weir_sim_now_ns(run->world) : 0, sentence);
}

void cross_note(const struct cross_run *run, const char *format, ...)
{
    if (run->trace == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(run->trace, "%14" PRIu64 " * ", weir_sim_now_ns(run->world));
    vfprintf(run->trace, format, arguments);
    fputc('\n', run->trace);
    va_end(arguments);
}

const char *cross_feat_name(uint32_t feat)
{
    static const char *const names[CROSS_FEATS] = {
        [CROSS_READY] = "READY",
        [CROSS_ROOM] = "ROOM",
        [CROSS_UNDELIVERED_STALE] = "UNDELIVERED, ended",
        [CROSS_UNDELIVERED_ENDING] = "UNDELIVERED, ending",
        [CROSS_UNDELIVERED_TOO_BIG] = "UNDELIVERED, too big",
        [CROSS_NOT_RUN] = "NOT_RUN",
        [CROSS_POST_RUN] = "function run",
        [CROSS_CHANNEL_ROOM] = "CHANNEL_ROOM",
        [CROSS_CHANNEL_ENDED] = "CHANNEL_ENDED",
        [CROSS_CHANNEL_CLOSED_EARLY] = "channel closed early",
        [CROSS_CHANNEL_OF_SHARD] = "channel of a shard",
        [CROSS_GROUP_REFUSED] = "group refused",
        [CROSS_GROUP_MISSED] = "group missed",
        [CROSS_GROUP_CLOSED] = "group closed",
        [CROSS_GROUP_BIG] = "group, big",
        [CROSS_PIPE_NEAR] = "pipe, near",
        [CROSS_PIPE_FAR] = "pipe, far",
        [CROSS_PIPE_HALF_CLOSED] = "pipe half-closed",
        [CROSS_PIPE_TORN] = "pipe torn",
        [CROSS_PIPE_RESET] = "pipe reset through",
        [CROSS_SALVO] = "salvo",
        [CROSS_PIPE_BIG] = "pipe, big",
        [CROSS_PORT_CLOSED_BUSY] = "port closed busy",
        [CROSS_PORT_BIG] = "port, big",
        [CROSS_SHARD_BIG] = "shard, big",
        [CROSS_ORPHANED] = "orphaned",
        [CROSS_PORT_ENDED] = "ended by a port",
        [CROSS_LATER] = "later for another",
        [CROSS_SLEPT] = "slept and woken",
        [CROSS_CONTROL] = "control",
    };
    return names[feat];
}

/* --- what the runtime is given --- */

static void *take_memory(void *user, size_t bytes, size_t alignment)
{
    struct cross_run *run = user;
    void *memory = NULL;
    if (run->runtime != NULL && weir_sim_now_ns(run->world) < run->plan.fed_ns && cross_permille(run, run->plan.starve_permille))
        return NULL;
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0)
        return NULL;
    run->memory_out += bytes;
    if (run->memory_out > run->memory_peak)
        run->memory_peak = run->memory_out;
    return memory;
}

static void give_memory(void *user, void *memory, size_t bytes)
{
    struct cross_run *run = user;
    CROSS_CHECK(run, run->memory_out >= bytes, "more memory came back than went out");
    run->memory_out -= bytes;
    memset(memory, 0xdd, bytes);
    free(memory);
}

static void on_log(void *user, weir_log_level level, const char *sentence)
{
    cross_note(user, "log %d: %s", (int)level, sentence);
}

static void on_timer(weir_shard *shard, weir_timer *timer, void *user)
{
    struct cross_actor *actor = user;
    struct cross_run *run = actor->run;
    if (run->calm || actor->acts_left == 0)
        return;
    cross_act(actor);
    weir_timer_set(shard, timer, 1 + cross_below(run, actor->pace_ns_max), on_timer, actor);
}

static void on_start(weir_shard *shard)
{
    struct cross_run *run = weir_runtime_user(weir_shard_runtime(shard));
    struct cross_actor *actor = &run->actors[weir_shard_index(shard)];
    actor->port = weir_shard_port(shard);
    if (actor->acts_left > 0)
        weir_timer_set(shard, &actor->timer, actor->start_ns, on_timer, actor);
}

static void on_stop(weir_shard *shard)
{
    struct cross_run *run = weir_runtime_user(weir_shard_runtime(shard));
    struct cross_actor *actor = &run->actors[weir_shard_index(shard)];
    cross_note(run, "on_stop of shard %u", weir_shard_index(shard));
    weir_timer_clear(shard, &actor->timer);
    actor->acts_left = 0;
}

static void listen_on(struct cross_run *run, uint32_t index)
{
    weir_error error;
    char text[64];
    struct sockaddr_in *socket = (struct sockaddr_in *)&run->addresses[index].socket.storage;
    *socket =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)(7000 + index)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    run->addresses[index].bytes = sizeof *socket;
    snprintf(text, sizeof text, "tcp://127.0.0.1:%u", 7000 + index);
    int code = weir_listen(run->runtime, text, &run->plan.protocols[index], &run->plan.listening, NULL, &error);
    CROSS_CHECK(run, code == 0, "listening: %s", error.sentence);
}

static void open_service(struct cross_run *run)
{
    weir_error error;
    weir_runtime *runtime;
    weir_config *config = &run->plan.config;
    config->allocator = (weir_allocator){.allocate = take_memory, .release = give_memory, .user = run};
    config->log = on_log;
    config->log_user = run;
    config->user = run;
    config->on_start = on_start;
    config->on_stop = on_stop;
    cross_server_init(run);
    cross_engine_init(run);
    int code = weir_open_on(&run->engine, config, &runtime, &error);
    CROSS_CHECK(run, code == 0, "opening: %s", error.sentence);
    run->runtime = runtime;
    for (uint32_t i = 0; i < CROSS_PROTOCOLS; i++)
        listen_on(run, i);
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        run->shards[i] = weir_shard_at(run->runtime, i);
        run->actors[i].producer = cross_producer_make(run, CROSS_OF_SHARD, i);
        run->controls[i] = cross_producer_make(run, CROSS_OF_CONTROL, i);
        CROSS_CHECK(run, weir_turn_descriptor(run->shards[i]) >= 0, "no descriptor to sleep on");
    }
    for (uint32_t i = run->plan.shards; i < run->plan.shards + run->plan.threads; i++)
        run->actors[i].due_ns = weir_sim_now_ns(run->world) + run->actors[i].start_ns;
}

/* --- the end --- */

static bool all_over(const struct cross_run *run)
{
    for (uint32_t i = 0; i < run->plan.shards; i++)
        if (!run->over[i])
            return false;
    return !run->broken;
}

/* The shards are over: what the ports that are left have under way comes back to them. */
static void collect_the_rest(struct cross_run *run)
{
    for (uint32_t i = run->plan.shards; i < run->plan.shards + run->plan.threads; i++) {
        struct cross_actor *actor = &run->actors[i];
        if (actor->port == NULL)
            continue;
        weir_port_uncork(actor->port);
        actor->unread = true;
        cross_actor_collect(actor, UINT32_MAX);
    }
    cross_check_ports(run);
}

static void finish(struct cross_run *run)
{
    uint64_t bound = weir_memory_bound(run->runtime);
    bool over = all_over(run);
    if (over)
        collect_the_rest(run);
    for (uint32_t i = run->plan.shards; i < run->plan.shards + run->plan.threads; i++)
        cross_actor_close(&run->actors[i]);
    weir_runtime_stats(run->runtime, &run->stats);
    if (over)
        cross_check_end(run);
    cross_note(run, "closing");
    run->stopping = run->closing = true;
    run->stopped_ns = run->stopped_ns == 0 ? weir_sim_now_ns(run->world) : run->stopped_ns;
    weir_runtime *runtime = run->runtime; /* on_close looks at it meanwhile */
    weir_close(&runtime);
    CROSS_CHECK(run, runtime == NULL, "weir_close left its pointer");
    CROSS_CHECK(run, run->conns == NULL && run->opened == run->closed, "opened %" PRIu64 ", closed %" PRIu64, run->opened, run->closed);
    CROSS_CHECK(run, run->memory_peak <= bound, "%" PRIu64 " bytes were allocated, and weir_memory_bound says %" PRIu64, run->memory_peak,
                bound);
    CROSS_CHECK(run, run->memory_out == 0, "%" PRIu64 " bytes of the allocator's never came back", run->memory_out);
    CROSS_CHECK(run, weir_sim_handles(run->world) == 0, "%u handles were left open", weir_sim_handles(run->world));
    for (uint32_t i = 0; i < CROSS_EVENTS_MAX; i++)
        CROSS_CHECK(run, !run->event_open[i], "event %u was left open", i);
    cross_check_clients(run);
}

uint64_t cross_run_seed(uint64_t seed, FILE *trace, struct scenario_totals *totals)
{
    struct cross_run *run = calloc(1, sizeof *run);
    if (run == NULL)
        abort();
    run->seed = seed;
    run->trace = trace;
    run->world = weir_sim_world_create(seed, NULL);
    weir_sim_trace(run->world, run->trace);
    cross_plan_make(run);
    open_service(run);
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        cross_client_start(&run->clients[i]);
    cross_drive(run);
    finish(run);
    scenario_add(totals, run->world, &run->stats);
    totals->turns += run->turns;
    for (int i = 0; i < CROSS_FEATS; i++)
        totals->feats[i] += run->feats[i];
    uint64_t hash = weir_sim_hash(run->world);
    cross_plan_free(run);
    weir_sim_world_destroy(&run->world);
    free(run);
    return hash;
}
