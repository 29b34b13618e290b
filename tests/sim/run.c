/* SPDX-License-Identifier: MIT */
/* run: the driver. It turns a shard only when the shard has said that it wants to be turned by now, or when what it sleeps on would have woken
 * it; so a wake that was lost shows as a run that stands still. Which shard next, and whether the world goes first, the seed decides. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

#define PATIENCE_NS (120 * WEIR_SECOND)     /* after the faults have stopped, virtual */
#define STALL_NS    (20 * WEIR_MILLISECOND) /* a shard may be late by a few of these */
#define TURNS_MAX   20000000

_Noreturn void run_fail(const struct run *run, const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    fprintf(stderr, "seed %" PRIu64 ", at %" PRIu64 " ns: %s\n", run->seed, run->world != NULL ? weir_sim_now_ns(run->world) : 0, sentence);
    fprintf(stderr, "to replay: WEIR_SIM_SEED=%" PRIu64 " %s\n", run->seed, program_invocation_name);
    ck_abort_msg("seed %" PRIu64 ": %s", run->seed, sentence);
    abort();
}

void run_note(const struct run *run, const char *format, ...)
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

/* --- what the runtime is given --- */

static void *take_memory(void *user, size_t bytes, size_t alignment)
{
    struct run *run = user;
    void *memory = NULL;
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0)
        return NULL;
    run->memory_out += bytes;
    if (run->memory_out > run->memory_peak)
        run->memory_peak = run->memory_out;
    return memory;
}

static void give_memory(void *user, void *memory, size_t bytes)
{
    struct run *run = user;
    RUN_CHECK(run, run->memory_out >= bytes, "more memory came back than went out");
    run->memory_out -= bytes;
    free(memory);
}

static void on_log(void *user, weir_log_level level, const char *sentence)
{
    run_note(user, "log %d: %s", (int)level, sentence);
}

static void on_start(weir_shard *shard)
{
    pinger_start(weir_runtime_user(weir_shard_runtime(shard)), shard);
}

static void name_service(struct run *run)
{
    struct w_io_address address = run->address;
    weir_sim_name(run->world, "echo.test", run_magnitude(run, 0, 50 * WEIR_MILLISECOND), 1, &address);
}

static void set_address(struct run *run)
{
    struct w_io_address *address = &run->address;
    if (run->plan.unix_address) {
        static const char name[] = "echo";
        address->socket.unix_path = (struct sockaddr_un){.sun_family = AF_UNIX};
        memcpy(address->socket.unix_path.sun_path + 1, name, sizeof name - 1);
        address->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof name);
        return;
    }
    struct sockaddr_in *socket = (struct sockaddr_in *)&address->socket.storage;
    *socket = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(7000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address->bytes = sizeof *socket;
}

static void open_service(struct run *run)
{
    weir_error error;
    weir_config *config = &run->plan.config;
    config->allocator = (weir_allocator){.allocate = take_memory, .release = give_memory, .user = run};
    config->log = on_log;
    config->log_user = run;
    config->user = run;
    config->on_start = on_start;
    set_address(run);
    server_init(run);
    pinger_init(run);
    name_service(run);
    int code = weir_open_on(weir_sim_engine(run->world), config, &run->runtime, &error);
    RUN_CHECK(run, code == 0, "opening: %s", error.sentence);
    const char *text = run->plan.unix_address ? "unix://@echo" : "tcp://127.0.0.1:7000";
    code = weir_listen(run->runtime, text, &run->plan.echo, NULL, &run->listener, &error);
    RUN_CHECK(run, code == 0, "listening: %s", error.sentence);
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        run->shards[i] = weir_shard_at(run->runtime, i);
        if (run->plan.embedded)
            RUN_CHECK(run, weir_turn_descriptor(run->shards[i]) >= 0, "no descriptor to sleep on");
    }
}

/* --- turning --- */

static void turn(struct run *run, uint32_t index)
{
    uint64_t sleep_ns = 0;
    int code = weir_turn(run->shards[index], &sleep_ns);
    run->turns++;
    run->turned[index] = true;
    if (code == -EIO && run->broken && index == 0) {
        run->over[index] = true;
        return;
    }
    RUN_CHECK(run, code == 0 || (code == -ESHUTDOWN && run->stopping), "a turn of shard %u: %d (%s)", index, code, weir_strerror(code));
    run->over[index] = code == -ESHUTDOWN;
    run->due_ns[index] = w_base_add_saturated(weir_sim_now_ns(run->world), sleep_ns);
}

static bool wants_turn(const struct run *run, uint32_t index)
{
    return !run->over[index] &&
           (!run->turned[index] || run->due_ns[index] <= weir_sim_now_ns(run->world) || weir_sim_readable(run->world, index));
}

/* One of those that want a turn; -1: none. */
static int choose_shard(struct run *run)
{
    int chosen = -1;
    uint64_t count = 0;
    for (uint32_t i = 0; i < run->plan.shards; i++)
        if (wants_turn(run, i) && run_below(run, ++count) == 0)
            chosen = (int)i;
    return chosen;
}

static void tell_state(struct run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++) {
        const struct run_client *client = &run->clients[i];
        if (!client->finished)
            fprintf(stderr,
                    "  client %u (manner %d): started %d, wrote %" PRIu64 " of %" PRIu64 ", read %" PRIu64
                    ", end %d, error %d, opened %u, closed %d\n",
                    i, (int)client->manner, client->started, client->written, client->stream_bytes, client->read, client->saw_end,
                    client->saw_error, client->opened, client->closed);
    }
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        weir_stats stats;
        weir_shard_stats(run->shards[i], &stats);
        fprintf(stderr,
                "  shard %u: over %d, due in %" PRId64 " ns, stirring %d, readable %d, connections %" PRIu64 ", queued %" PRIu64
                ", memory %" PRIu64 "\n",
                i, run->over[i], (int64_t)(run->due_ns[i] - weir_sim_now_ns(run->world)), weir_sim_stirring(run->world, i),
                weir_sim_readable(run->world, i), stats.connections, stats.queued_bytes, stats.memory_bytes);
    }
    fprintf(stderr, "  opened %" PRIu64 ", closed %" PRIu64 ", pingers done: %d\n", run->opened, run->closed, pinger_is_done(run));
}

/* Nobody wants a turn: time goes to the next thing that happens or is due. */
static void let_time_pass(struct run *run)
{
    uint64_t due_ns = UINT64_MAX;
    for (uint32_t i = 0; i < run->plan.shards; i++)
        if (!run->over[i] && run->due_ns[i] < due_ns)
            due_ns = run->due_ns[i];
    if (weir_sim_next_ns(run->world) <= due_ns && weir_sim_step(run->world))
        return;
    if (due_ns == UINT64_MAX) {
        tell_state(run);
        run_fail(run, "everybody sleeps, and nothing will ever happen");
    }
    weir_sim_run_until(run->world, due_ns);
}

static void go_on(struct run *run)
{
    if (run_permille(run, run->plan.stall_permille)) {
        weir_sim_run_until(run->world, weir_sim_now_ns(run->world) + run_magnitude(run, WEIR_MICROSECOND, STALL_NS));
        return; /* the last one may have finished, or somebody may want a turn now */
    }
    int index = choose_shard(run);
    if (index < 0)
        let_time_pass(run);
    else if (run_below(run, 8) < run->plan.haste || weir_sim_next_ns(run->world) > weir_sim_now_ns(run->world) + STALL_NS ||
             !weir_sim_step(run->world))
        turn(run, (uint32_t)index);
    if (run_below(run, 256) == 0) { /* a turn for no reason */
        uint32_t any = (uint32_t)run_below(run, run->plan.shards);
        if (!run->over[any])
            turn(run, any);
    }
}

/* --- from the first turn to the last --- */

static bool all_finished(const struct run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        if (!run->clients[i].finished)
            return false;
    /* Limits may be shorter than a round trip of this network: then no pinger ever gets all its answers. */
    bool enough = !run->plan.clean && weir_sim_now_ns(run->world) > run->calm_ns + PATIENCE_NS / 6;
    return enough || pinger_is_done(run);
}

static bool all_over(const struct run *run)
{
    for (uint32_t i = 0; i < run->plan.shards; i++)
        if (!run->over[i])
            return false;
    return true;
}

static void calm_down(struct run *run)
{
    struct weir_sim_faults calm = run->plan.faults;
    memset(calm.chance_ppm, 0, sizeof calm.chance_ppm);
    weir_sim_set_faults(run->world, &calm);
    run->plan.calm_ns = UINT64_MAX;
    run_note(run, "the faults stop");
}

static void stop(struct run *run)
{
    run_note(run, "stop");
    run->stopping = true;
    run->stopped_ns = weir_sim_now_ns(run->world);
    weir_stop(run->runtime);
}

static void watch(struct run *run)
{
    uint64_t now_ns = weir_sim_now_ns(run->world);
    bool late = run->stopping && now_ns > run->stopped_ns + run->plan.config.stop_ns + 2 * WEIR_SECOND;
    if (late || now_ns > run->calm_ns + PATIENCE_NS || run->turns > TURNS_MAX) {
        tell_state(run);
        run_fail(run, late                     ? "the stop does not come to its end"
                      : run->turns > TURNS_MAX ? "turns without end"
                                               : "it does not come to its end");
    }
}

/* Everybody has gone: ten seconds in which nobody has a reason to be turned. */
static void stay_idle(struct run *run)
{
    uint64_t until_ns = weir_sim_now_ns(run->world) + 10 * WEIR_SECOND, turns = run->turns;
    run->idled = true;
    while (weir_sim_now_ns(run->world) < until_ns) {
        int index = choose_shard(run);
        if (index >= 0)
            turn(run, (uint32_t)index);
        else if (weir_sim_next_ns(run->world) == UINT64_MAX)
            break;
        else
            let_time_pass(run);
        RUN_CHECK(run, run->turns < turns + 50 * run->plan.shards, "idle, and turned %" PRIu64 " times", run->turns - turns);
    }
}

static void drive(struct run *run)
{
    run->calm_ns = run->plan.calm_ns;
    while (!all_over(run)) {
        uint64_t now_ns = weir_sim_now_ns(run->world);
        if (now_ns >= run->plan.calm_ns)
            calm_down(run);
        if (now_ns >= run->plan.close_after_ns || (run->broken && run->over[0]))
            return;
        if (now_ns >= run->plan.break_ns && !run->broken && !run->over[0]) {
            run->broken = true;
            weir_sim_break(run->world, 0, -EIO);
        }
        if (!run->stopping && !run->idled && run->plan.clean && all_finished(run))
            stay_idle(run);
        if (!run->stopping && (now_ns >= run->plan.stop_ns || all_finished(run)))
            stop(run);
        watch(run);
        go_on(run);
    }
}

/* --- the sums --- */

static void check_sums(struct run *run, const weir_stats *stats)
{
    uint64_t closed = 0, pingers_opened = 0, pingers_closed = 0;
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        closed += stats->closed[i];
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        pingers_opened += run->pingers[i].opened;
        pingers_closed += run->pingers[i].closed;
    }
    RUN_CHECK(run, stats->connections == 0 && stats->queued_bytes == 0, "at the end %" PRIu64 " connections, %" PRIu64 " bytes queued",
              stats->connections, stats->queued_bytes);
    RUN_CHECK(run, stats->memory_bytes == 0, "at the end %" PRIu64 " bytes of memory are taken", stats->memory_bytes);
    RUN_CHECK(run, stats->accepted == run->opened && stats->dialed == pingers_opened,
              "accepted %" PRIu64 ", dialed %" PRIu64 "; opened %" PRIu64 " and %" PRIu64, stats->accepted, stats->dialed, run->opened,
              pingers_opened);
    RUN_CHECK(run, closed == run->closed + pingers_closed, "%" PRIu64 " ends are counted, %" PRIu64 " were told", closed,
              run->closed + pingers_closed);
    RUN_CHECK(run, stats->messages_sent == run->accepted_messages && stats->bytes_sent == run->accepted_bytes,
              "sent %" PRIu64 " messages, %" PRIu64 " bytes; sends accepted %" PRIu64 " and %" PRIu64, stats->messages_sent,
              stats->bytes_sent, run->accepted_messages, run->accepted_bytes);
    RUN_CHECK(run,
              stats->messages_out + stats->messages_undelivered == stats->messages_sent &&
                  stats->bytes_out + stats->bytes_undelivered == stats->bytes_sent,
              "messages %" PRIu64 " = %" PRIu64 " out + %" PRIu64 " undelivered; bytes %" PRIu64 " = %" PRIu64 " + %" PRIu64,
              stats->messages_sent, stats->messages_out, stats->messages_undelivered, stats->bytes_sent, stats->bytes_out,
              stats->bytes_undelivered);
    RUN_CHECK(run, stats->messages_undelivered == run->undelivered_messages && stats->bytes_undelivered == run->undelivered_bytes,
              "undelivered by statistics %" PRIu64 " messages, %" PRIu64 " bytes; by close events %" PRIu64 " and %" PRIu64,
              stats->messages_undelivered, stats->bytes_undelivered, run->undelivered_messages, run->undelivered_bytes);
    RUN_CHECK(run, stats->late_finds == 0, "%" PRIu64 " late finds", stats->late_finds);
}

static void finish(struct run *run)
{
    uint64_t bound = weir_memory_bound(run->runtime);
    weir_runtime_stats(run->runtime, &run->stats);
    if (all_over(run) && !run->broken)
        check_sums(run, &run->stats);
    run_note(run, "closing");
    weir_runtime *runtime = run->runtime; /* on_close looks at it meanwhile */
    weir_close(&runtime);
    RUN_CHECK(run, runtime == NULL, "weir_close left its pointer");
    RUN_CHECK(run, run->conns == NULL && run->opened == run->closed, "opened %" PRIu64 ", closed %" PRIu64, run->opened, run->closed);
    RUN_CHECK(run, run->memory_peak <= bound, "%" PRIu64 " bytes were allocated, the bound is %" PRIu64, run->memory_peak, bound);
    RUN_CHECK(run, run->memory_out == 0, "%" PRIu64 " bytes of the allocator's never came back", run->memory_out);
    RUN_CHECK(run, weir_sim_handles(run->world) == 0, "%u handles were left open", weir_sim_handles(run->world));
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        client_check(&run->clients[i]);
}

static void add_up(const struct run *run, struct run_totals *totals)
{
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++)
        totals->fired[i] += weir_sim_fired(run->world, (enum weir_sim_fault)i);
    const uint64_t *numbers = (const uint64_t *)(const void *)&run->stats;
    uint64_t *sums = (uint64_t *)(void *)&totals->stats;
    for (size_t i = 0; i < sizeof run->stats / sizeof *numbers; i++)
        sums[i] += numbers[i];
    totals->turns += run->turns;
    totals->virtual_ns += weir_sim_now_ns(run->world);
}

uint64_t run_seed(uint64_t seed, bool trace, struct run_totals *totals)
{
    struct run *run = calloc(1, sizeof *run);
    ck_assert_ptr_nonnull(run);
    run->seed = seed;
    run->trace = trace ? stderr : NULL;
    run->world = weir_sim_world_create(seed, NULL);
    weir_sim_trace(run->world, run->trace);
    plan_make(run);
    open_service(run);
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        client_start(&run->clients[i]);
    drive(run);
    finish(run);
    add_up(run, totals);
    uint64_t hash = weir_sim_hash(run->world);
    plan_free(run);
    weir_sim_world_destroy(&run->world);
    free(run);
    return hash;
}
