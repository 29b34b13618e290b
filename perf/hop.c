/* SPDX-License-Identifier: MIT */
/* hop: the command `weir-perf hop`: how long is it from a send on one shard to the handler on the other? Two shards, each on a core of its own, post a
 * function to each other through their own ports, as what they send to each other's connections goes.
 *
 * Road:    at once (a rally): each side posts to the other what it has got, half of a rally's time counts.
 *          with a gap: shard 0 posts itself over and over and looks at the clock; when the gap is over it posts its stamp to shard 1, which sleeps.
 * Ditches: a post is refused (there is never more than one under way, so that is a fault) → say so, stop, exit 1;
 *          work was found that nobody had rung for → the same. */
#include "command.h"
#include "flight.h"
#include "option.h"
#include "process.h"

#include <inttypes.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <weir/weir.h>

#define HOP_PORTS_MOST 4096

enum {
    HOP_SPIN = 256,
    HOP_IDLE_PORTS,
};

static const struct argp_option hop_options[] = {
    {"spin-us", HOP_SPIN, "US", 0, "look for work so long before sleeping; 0: sleep at once (200)", 1},
    {"idle-ports", HOP_IDLE_PORTS, "N", 0, "so many threads' ports beside, each of which has sent something before (0)", 1},
    {0},
};

static const char hop_help[] =
    "Measures how long it takes from one shard to the other, weir's own threads, each on a core of its own.\v"
    "Use it to know what it costs when a handler on one core sends to a connection on the other, and to choose how long shards spin "
    "(--spin-us). There is nothing to connect to: both ends are shards of one runtime, and no socket is between them.\n\n"
    "With --gap-us 0 both are awake: --spin-us has to be longer than a hop. With --spin-us 0 --gap-us 60 shard 1 sleeps each time, and "
    "waking it is "
    "what takes the time. perf/run --only hop runs this beside bare wakes and bare rings.\n\n"
    "The exit code is 0 when nothing was found that nobody had rung for, 1 when there was, 2 when an option is wrong.";

struct hop {
    struct flight_plan plan;
    struct flight_result *result; /* shard 0's in a rally, shard 1's when it sleeps between */
    uint64_t spin_ns;
    weir_runtime *runtime;
    weir_shard *shards[2];
    weir_port **idle_ports;
    uint32_t idle_count;
    atomic_int error; /* the first refusal */
    /* Shard 0's. */
    alignas(64) struct flight_clock clock;
    uint32_t rallied;
    uint64_t sent_count, seen_count;
    uint64_t seen_ns; /* when it saw the last answer */
    int64_t wakes;
    /* Shard 1's. */
    alignas(64) struct flight_clock arrivals;
    _Atomic uint64_t answered_count;
};

static error_t hop_parse(int key, char *text, struct argp_state *state)
{
    struct hop *hop = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &hop->plan;
        return 0;
    case HOP_SPIN:
        hop->spin_ns = option_count(state, "--spin-us", text, 0, 1000000) * WEIR_MICROSECOND;
        return 0;
    case HOP_IDLE_PORTS:
        hop->idle_count = (uint32_t)option_count(state, "--idle-ports", text, 0, HOP_PORTS_MOST);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- on the shards --- */

static void hop_post(struct hop *hop, weir_shard *from, uint32_t to, weir_post_function function, void *user)
{
    int error = weir_post(weir_shard_port(from), hop->shards[to], function, user);
    if (error != 0) {
        atomic_store(&hop->error, error);
        weir_stop(hop->runtime);
    }
}

static void hop_over(struct hop *hop, weir_shard *shard)
{
    weir_port_stats stats;
    weir_port_stats_get(weir_shard_port(shard), &stats);
    hop->wakes = (int64_t)stats.wakes;
    weir_stop(hop->runtime);
}

static void hop_serve(weir_shard *shard, void *user);

static void hop_return(weir_shard *shard, void *user)
{
    hop_post(user, shard, 0, hop_serve, user);
}

static void hop_serve(weir_shard *shard, void *user)
{
    struct hop *hop = user;
    if (++hop->rallied == FLIGHT_RALLIES) {
        hop->rallied = 0;
        if (!flight_rallied(&hop->clock, &hop->plan, hop->result)) {
            hop_over(hop, shard);
            return;
        }
    }
    hop_post(hop, shard, 1, hop_return, hop);
}

static void hop_arrive(weir_shard *shard, void *user)
{
    uint64_t now_ns = process_now_ns();
    struct hop *hop = weir_runtime_user(weir_shard_runtime(shard));
    if (flight_clock_tick(&hop->arrivals, &hop->plan, now_ns) == FLIGHT_MEASURE) {
        histogram_record(&hop->result->flights, now_ns - (uint64_t)(uintptr_t)user);
        hop->result->elapsed_ns = now_ns - hop->arrivals.measure_from_ns;
        hop->result->hops++;
    }
    atomic_fetch_add_explicit(&hop->answered_count, 1, memory_order_release);
}

static void hop_watch(weir_shard *shard, void *user)
{
    struct hop *hop = user;
    uint64_t now_ns = process_now_ns();
    if (hop->seen_count < hop->sent_count && atomic_load_explicit(&hop->answered_count, memory_order_acquire) == hop->sent_count) {
        hop->seen_count = hop->sent_count;
        hop->seen_ns = now_ns;
    }
    if (hop->seen_count == hop->sent_count && now_ns - hop->seen_ns >= hop->plan.gap_ns) {
        if (flight_clock_tick(&hop->clock, &hop->plan, now_ns) == FLIGHT_OVER) {
            hop_over(hop, shard);
            return;
        }
        hop->sent_count++;
        hop_post(hop, shard, 1, hop_arrive, (void *)(uintptr_t)process_now_ns());
    }
    hop_post(hop, shard, 0, hop_watch, hop);
}

static void hop_start(weir_shard *shard)
{
    struct hop *hop = weir_runtime_user(weir_shard_runtime(shard));
    if (weir_shard_index(shard) == 0)
        hop_post(hop, shard, 0, hop->plan.gap_ns > 0 ? hop_watch : hop_serve, hop);
}

/* --- the program --- */

static void hop_nothing(weir_shard *shard, void *user)
{
    (void)shard;
    (void)user;
}

/* Opens the idle ports and posts something to each shard from each, so that they have their rings. */
static int hop_open_ports(struct hop *hop, weir_error *error)
{
    for (uint32_t i = 0; i < hop->idle_count; i++) {
        int result = weir_port_open(hop->runtime, NULL, &hop->idle_ports[i], error);
        for (uint32_t to = 0; to < 2 && result == 0; to++)
            result = weir_post(hop->idle_ports[i], hop->shards[to], hop_nothing, NULL);
        if (result != 0)
            return result;
    }
    return 0;
}

static int hop_open(struct hop *hop, weir_error *error)
{
    weir_config config = {
        .shards = 2,
        .pin = true,
        .spin_ns = hop->spin_ns,
        .ports = hop->idle_count,
        .connections = 16,
        .on_start = hop_start,
        .user = hop,
    };
    int result = weir_open(&config, &hop->runtime, error);
    if (result != 0)
        return result;
    hop->shards[0] = weir_shard_at(hop->runtime, 0);
    hop->shards[1] = weir_shard_at(hop->runtime, 1);
    return hop_open_ports(hop, error);
}

static int hop_run(struct hop *hop)
{
    weir_error error = {.sentence = ""};
    weir_stats stats;
    int result = hop_open(hop, &error);
    if (result == 0)
        result = weir_run(hop->runtime);
    if (result == 0)
        result = atomic_load(&hop->error);
    if (result != 0)
        fprintf(stderr, "weir-perf: %s\n", error.sentence[0] != '\0' ? error.sentence : weir_strerror(result));
    if (hop->runtime != NULL) {
        weir_shard_stats(hop->shards[1], &stats);
        hop->result->sleeps = (int64_t)stats.sleeps;
        weir_runtime_stats(hop->runtime, &stats);
        hop->result->late_finds = (int64_t)stats.late_finds;
    }
    hop->result->wakes = hop->wakes;
    for (uint32_t i = 0; i < hop->idle_count; i++)
        weir_port_close(&hop->idle_ports[i]);
    weir_close(&hop->runtime);
    return result;
}

int hop_command(int argc, char **argv)
{
    static const struct argp_child children[] = {{.argp = &flight_argp}, {0}};
    static const struct argp argp = {.options = hop_options, .parser = hop_parse, .doc = hop_help, .children = children};
    static struct flight_result result;
    static struct hop hop;
    hop.spin_ns = 200 * WEIR_MICROSECOND;
    hop.result = &result;
    if (!flight_plan_init(&hop.plan))
        return 1;
    argp_parse(&argp, argc, argv, 0, NULL, &hop);
    result = (struct flight_result){
        .tool = "hop", .way = "weir", .spin_ns = hop.spin_ns, .idle_ports = hop.idle_count, .messages_per_second = -1};
    hop.idle_ports = calloc(hop.idle_count + 1, sizeof *hop.idle_ports);
    if (hop.idle_ports == NULL) {
        fprintf(stderr, "weir-perf: no memory for %u ports\n", hop.idle_count);
        return 1;
    }
    bool ran = hop_run(&hop) == 0;
    free(hop.idle_ports);
    if (!ran)
        return 1;
    flight_print(&hop.plan, &result);
    if (result.late_finds > 0)
        fprintf(stderr, "weir-perf: %" PRId64 " late finds: a shard found work that nobody had rung for\n", result.late_finds);
    return result.hops == 0 || result.late_finds > 0;
}
