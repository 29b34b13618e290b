/* SPDX-License-Identifier: MIT */
/* run: the driver. It turns a shard only when the shard has said that it wants to be turned by now, or when what it sleeps on would have woken
 * it; so a wake that was lost shows as a run that stands still. Which shard next, and whether the world goes first, the seed decides. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"

#define PATIENCE_NS (120 * WEIR_SECOND)     /* after the faults have stopped, virtual */
#define STALL_NS    (20 * WEIR_MILLISECOND) /* a shard may be late by a few of these */
#define TURNS_MAX   20000000

#define ASLEEP_NS (10 * WEIR_SECOND)
#define AGAIN_NS  WEIR_MILLISECOND /* a listener whose address is still taken tries again */

_Noreturn void run_fail(const struct run *run, const char *format, ...)
{
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    scenario_fail(run->seed, run->world != NULL ? weir_sim_now_ns(run->world) : 0, sentence);
}

const char *run_feat_name(uint32_t feat)
{
    static const char *const names[RUN_FEATS] = {
        [RUN_GOOD_DAY] = "good day",
        [RUN_EMBEDDED] = "embedded",
        [RUN_IDLED] = "idled",
        [RUN_FRAMES] = "frames",
        [RUN_LINES] = "lines",
        [RUN_RAW] = "raw",
        [RUN_WEB] = "websocket",
        [RUN_BY_RESERVE] = "by reserve",
        [RUN_BY_FORWARD] = "by forward",
        [RUN_BY_BLOB] = "by blob",
        [RUN_HELD] = "held",
        [RUN_GIVEN_UP] = "reserve given up",
        [RUN_LATER] = "later",
        [RUN_PAUSED] = "paused",
        [RUN_REFUSED] = "refused",
        [RUN_READY] = "ready",
        [RUN_TOO_BIG] = "too big",
        [RUN_BAD_MESSAGE] = "bad message",
        [RUN_POLICY_CHANGED] = "policy changed",
        [RUN_TIMER_WITH_DATA] = "timer with data",
        [RUN_STARVED] = "starved",
        [RUN_ADOPTED] = "adopted",
        [RUN_ADOPT_REFUSED] = "adopt refused",
        [RUN_REDIALED] = "redialed",
        [RUN_CALL_OPEN] = "call open",
        [RUN_CALL_FAILED] = "call failed",
        [RUN_CALL_STOPPED] = "call stopped",
        [RUN_CALL_OVER] = "call stopped, over",
        [RUN_LISTENER_STOPPED] = "listener stopped",
        [RUN_LISTENER_AGAIN] = "listener again",
        [RUN_ROUND_ROBIN] = "round robin",
        [RUN_FULL] = "full",
        [RUN_STORM] = "storm",
        [RUN_LEECH_ENDED] = "limit kept",
        [RUN_EVENLY] = "placed evenly",
        [RUN_FILLED] = "filled",
        [RUN_DRAINED] = "stopped and drained",
        [RUN_STOPPED_EARLY] = "stopped early",
        [RUN_CLOSED_EARLY] = "closed early",
        [RUN_BROKEN] = "broken",
    };
    return names[feat];
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

bool run_is_ending(const struct run *run)
{
    return run->stopping || run->closing || run->broken;
}

/* --- what the runtime is given --- */

static void *take_memory(void *user, size_t bytes, size_t alignment)
{
    struct run *run = user;
    void *memory = NULL;
    if (run->listening && !run->calm && run_permille(run, run->plan.starve_permille)) {
        run->feats[RUN_STARVED]++;
        return NULL;
    }
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
    memset(memory, 0xdd, bytes < 256 ? bytes : 256); /* (who looks at it now finds something else; the sanitizer sees the rest) */
    free(memory);
}

static void on_log(void *user, weir_log_level level, const char *sentence)
{
    run_note(user, "log %d: %s", (int)level, sentence);
}

static void on_start(weir_shard *shard)
{
    struct run *run = weir_runtime_user(weir_shard_runtime(shard));
    pinger_start(run, shard);
    caller_start(run, shard);
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

static int listen_on(struct run *run, weir_error *error)
{
    const char *text = run->plan.unix_address ? "unix://@echo" : "tcp://127.0.0.1:7000";
    run->feats[RUN_ROUND_ROBIN] += run->plan.listening.placement == WEIR_PLACEMENT_ROUND_ROBIN && run->plan.shards > 1;
    return weir_listen(run->runtime, text, &run->plan.echo, &run->plan.listening, &run->listener, error);
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
    caller_init(run);
    name_service(run);
    int code = weir_open_on(weir_sim_engine(run->world), config, &run->runtime, &error);
    RUN_CHECK(run, code == 0, "opening: %s", error.sentence);
    code = listen_on(run, &error);
    RUN_CHECK(run, code == 0, "listening: %s", error.sentence);
    run->listening = true;
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
    if (!weir_sim_may_turn(run->world, index, run->due_ns[index]))
        return;
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
    return !run->over[index] && !weir_sim_stalls(run->world, index) &&
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

void run_tell_state(const struct run *run)
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

/* When something befalls the run next; UINT64_MAX: nothing will. */
static uint64_t next_moment(const struct run *run)
{
    const struct run_plan *plan = &run->plan;
    uint64_t moments[] = {plan->calm_ns, run->stopping ? UINT64_MAX : plan->stop_ns, plan->close_after_ns,
                          run->broken ? UINT64_MAX : plan->break_ns, run->stopping ? UINT64_MAX : plan->restart_ns};
    uint64_t now_ns = weir_sim_now_ns(run->world), next_ns = UINT64_MAX;
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++)
        next_ns = moments[i] > now_ns && moments[i] < next_ns ? moments[i] : next_ns;
    for (uint32_t i = 0; i < plan->client_count; i++) {
        const struct run_client *client = &run->clients[i];
        uint64_t start_ns = WEIR_SECOND + client->start_ns;
        if (client->adopted && !client->started && start_ns > now_ns && start_ns < next_ns)
            next_ns = start_ns;
    }
    return next_ns;
}

/* Nobody wants a turn: time goes to the next thing that happens or is due. */
static void let_time_pass(struct run *run)
{
    uint64_t due_ns = next_moment(run);
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        if (!run->over[i] && !weir_sim_stalls(run->world, i) && run->due_ns[i] < due_ns)
            due_ns = run->due_ns[i];
    }
    if (weir_sim_next_ns(run->world) <= due_ns && weir_sim_step(run->world))
        return;
    if (due_ns == UINT64_MAX) {
        run_tell_state(run);
        run_fail(run, "everybody sleeps, and nothing will ever happen");
    }
    weir_sim_run_until(run->world, due_ns);
}

static void go_on(struct run *run)
{
    if (run_permille(run, run->plan.stall_permille)) {
        uint64_t stall_ns = run_magnitude(run, WEIR_MICROSECOND, STALL_NS);
        run->stalled_ns += stall_ns;
        weir_sim_run_until(run->world, weir_sim_now_ns(run->world) + stall_ns);
        return; /* the last one may have finished, or somebody may want a turn now */
    }
    int index = choose_shard(run);
    uint64_t now_ns = weir_sim_now_ns(run->world);
    run->wanted_ns = index < 0 || run->wanted_ns == 0 ? now_ns : run->wanted_ns;
    if (index < 0) {
        let_time_pass(run);
    } else if (run_below(run, 8) < run->plan.haste || weir_sim_next_ns(run->world) > run->wanted_ns + STALL_NS ||
               !weir_sim_step(run->world)) {
        turn(run, (uint32_t)index);
        run->wanted_ns = 0;
    }
    if (run_below(run, 256) == 0) { /* a turn for no reason */
        uint32_t any = (uint32_t)run_below(run, run->plan.shards);
        if (!run->over[any] && !weir_sim_stalls(run->world, any))
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
    return run->visitors_left == run->plan.visitor_count &&
           (enough || (pinger_is_done(run) && caller_all_done(run) && leech_all_done(run)));
}

bool run_all_over(const struct run *run)
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
    run->calm = true;
    run->calm_ns = weir_sim_now_ns(run->world);
    run_note(run, "the faults stop");
}

static void stop(struct run *run)
{
    run_note(run, "stop");
    run->feats[RUN_STOPPED_EARLY] += weir_sim_now_ns(run->world) >= run->plan.stop_ns;
    run->stopping = true;
    run->stopped_ns = weir_sim_now_ns(run->world);
    weir_stop(run->runtime);
}

static void watch(struct run *run)
{
    uint64_t now_ns = weir_sim_now_ns(run->world);
    const uint32_t *chance_ppm = run->plan.faults.chance_ppm;
    bool leaps = !run->calm && (chance_ppm[WEIR_SIM_STALL] > 0 || chance_ppm[WEIR_SIM_CLOCK_JUMP] > 0);
    uint64_t since_ns = run->calm && run->calm_ns > run->stopped_ns ? run->calm_ns : run->stopped_ns;
    bool late = run->stopping && !leaps && now_ns > since_ns + run->plan.config.stop_ns + 2 * WEIR_SECOND;
    if (late || now_ns > run->calm_ns + PATIENCE_NS || run->turns > TURNS_MAX) {
        run_tell_state(run);
        run_fail(run, late                     ? "the stop does not come to its end"
                      : run->turns > TURNS_MAX ? "turns without end"
                                               : "it does not come to its end");
    }
}

/* Everybody has gone: when the last that were accepted have been found gone, too, ten seconds in which nobody has a reason to be turned. */
static void stay_idle(struct run *run)
{
    uint64_t begin_ns = weir_sim_now_ns(run->world) + WEIR_SECOND, turns = 0;
    run->idled = true;
    run->feats[RUN_IDLED]++;
    while (weir_sim_now_ns(run->world) < begin_ns + 10 * WEIR_SECOND) {
        int index = choose_shard(run);
        turns += index >= 0 && weir_sim_now_ns(run->world) > begin_ns;
        if (index >= 0)
            turn(run, (uint32_t)index);
        else if (weir_sim_next_ns(run->world) == UINT64_MAX)
            break;
        else
            let_time_pass(run);
        RUN_CHECK(run, turns < 50 * run->plan.shards, "idle, and turned %" PRIu64 " times", turns);
    }
}

/* Nobody is there: every slot can be had again. */
static void fill_slots(struct run *run)
{
    uint64_t until_ns = weir_sim_now_ns(run->world) + 10 * WEIR_SECOND, opened = run->opened;
    if (!visitor_may_fill(run))
        return;
    visitor_fill(run);
    while (weir_sim_now_ns(run->world) < until_ns && run->opened - opened < (uint64_t)run->plan.shards * run->plan.config.connections)
        go_on(run);
    visitor_leave(run);
}

/* The listener is stopped, whatever it is at, and listens again. */
static void restart(struct run *run)
{
    weir_error error;
    uint64_t now_ns = weir_sim_now_ns(run->world);
    if (run_is_ending(run)) {
        run->plan.restart_ns = UINT64_MAX;
        return;
    }
    if (run->listening) {
        int code = weir_listener_stop(run->runtime, run->listener);
        run_note(run, "the listener is stopped: %d", code);
        RUN_CHECK(run, code == 0, "stopping a listener: %d (%s)", code, weir_strerror(code));
        RUN_CHECK(run, weir_listener_stop(run->runtime, run->listener) != -ESHUTDOWN, "stopping it twice");
        run->feats[RUN_LISTENER_STOPPED]++;
        run->listening = false;
        run->plan.restart_ns = now_ns + run->plan.again_ns;
        return;
    }
    int code = listen_on(run, &error);
    run_note(run, "listening again: %d", code);
    RUN_CHECK(run,
              code == 0 || code == -EADDRINUSE || code == -EMFILE || code == -ENFILE || (code == -ENOMEM && run->plan.starve_permille > 0),
              "listening again: %s", error.sentence);
    run->listening = code == 0;
    run->feats[RUN_LISTENER_AGAIN] += code == 0;
    run->plan.restart_ns = code != 0 ? now_ns + AGAIN_NS : run_one_of(run, 2) ? UINT64_MAX : now_ns + run_magnitude(run, 0, WEIR_SECOND);
}

/* Those that are to be adopted, by a shard that runs: this is between its turns. */
static void hand_over(struct run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++) {
        struct run_client *client = &run->clients[i];
        uint32_t shard = i % run->plan.shards;
        if (client->adopted && !client->started && weir_sim_now_ns(run->world) >= WEIR_SECOND + client->start_ns && run->turned[shard])
            client_hand_over(client, run->shards[shard]);
    }
}

static void count_day(struct run *run)
{
    run->feats[RUN_GOOD_DAY] += run->plan.clean;
    run->feats[RUN_EMBEDDED] += run->plan.embedded;
    run->calm_ns = run->plan.calm_ns;
}

static void drive(struct run *run)
{
    const struct run_plan *plan = &run->plan;
    count_day(run);
    while (!run_all_over(run)) {
        uint64_t now_ns = weir_sim_now_ns(run->world);
        if (now_ns >= plan->calm_ns)
            calm_down(run);
        if (now_ns >= plan->close_after_ns || (run->broken && run->over[0])) {
            run->feats[run->broken ? RUN_BROKEN : RUN_CLOSED_EARLY]++;
            return;
        }
        if (now_ns >= plan->restart_ns)
            restart(run);
        hand_over(run);
        if (now_ns >= plan->break_ns && !run->broken && !run->over[0]) {
            run->broken = true;
            weir_sim_break(run->world, 0, -EIO);
        }
        if (!run->stopping && !run->idled && plan->clean && all_finished(run)) {
            stay_idle(run);
            fill_slots(run);
        }
        if (!run->stopping && (now_ns >= plan->stop_ns || all_finished(run)))
            stop(run);
        watch(run);
        go_on(run);
    }
}

static void finish(struct run *run)
{
    uint64_t bound = weir_memory_bound(run->runtime);
    weir_runtime_stats(run->runtime, &run->stats);
    sums_check_budgets(run);
    if (run_all_over(run) && !run->broken)
        sums_check(run);
    run_note(run, "closing");
    run->closing = true;
    weir_runtime *runtime = run->runtime; /* on_close looks at it meanwhile */
    weir_close(&runtime);
    RUN_CHECK(run, runtime == NULL, "weir_close left its pointer");
    caller_finish(run);
    leech_finish(run);
    sums_check_closed(run, bound);
}

uint64_t run_seed(uint64_t seed, FILE *trace, struct scenario_totals *totals)
{
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL)
        abort();
    run->seed = seed;
    run->trace = trace;
    run->world = weir_sim_world_create(seed, NULL);
    weir_sim_trace(run->world, run->trace);
    plan_make(run);
    open_service(run);
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        client_start(&run->clients[i]);
    visitor_start(run);
    leech_start(run);
    drive(run);
    finish(run);
    scenario_add(totals, run->world, &run->stats);
    totals->turns += run->turns;
    for (int i = 0; i < RUN_FEATS; i++)
        totals->feats[i] += run->feats[i];
    uint64_t hash = weir_sim_hash(run->world);
    plan_free(run);
    weir_sim_world_destroy(&run->world);
    free(run);
    return hash;
}
