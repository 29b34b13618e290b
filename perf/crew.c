/* SPDX-License-Identifier: MIT */
/* crew: see crew.h.
 *
 * Road:    parse → sink (a child process, unless --connect) → open → threads ready → the clock starts → warm up → measure → a
 *          little more, until the sink's interval is over too → stop → join → close → what the sink has seen → print.
 * Ditches: what cannot go on ends the program with a sentence (crew_die); the sink dies with it. */
#include "crew.h"

#include "option.h"
#include "process.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CREW_TAIL_NS 30000000u /* the sink's interval begins and ends that much later at most */

void crew_die(const struct crew *crew, const char *what, int error)
{
    (void)crew;
    report_progress_end();
    if (error != 0)
        fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(error < 0 ? -error : error));
    else
        fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
    exit(1);
}

static int crew_connect_one(const struct crew *crew)
{
    const struct address *address = &crew->plan.address;
    int on = 1;
    int descriptor = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0 || connect(descriptor, (const struct sockaddr *)&address->storage, address->storage_bytes) != 0)
        crew_die(crew, crew->plan.text, errno);
    if (address_is_tcp(address))
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return descriptor;
}

void crew_connect(struct crew *crew)
{
    uint32_t count = crew->plan.connection_count;
    crew->sockets = calloc(count, sizeof *crew->sockets);
    if (crew->sockets == NULL)
        crew_die(crew, "no memory", 0);
    for (uint32_t i = 0; i < count; i++)
        crew->sockets[i] = crew_connect_one(crew);
}

void crew_hang_up(struct crew *crew)
{
    char byte;
    for (uint32_t i = 0; i < crew->plan.connection_count; i++)
        shutdown(crew->sockets[i], SHUT_WR);
    for (uint32_t i = 0; i < crew->plan.connection_count; i++) {
        while (recv(crew->sockets[i], &byte, 1, 0) < 0 && errno == EINTR)
            ;
        close(crew->sockets[i]);
    }
    free(crew->sockets);
}

void crew_send(const struct crew *crew, int descriptor, const void *bytes, size_t count)
{
    const uint8_t *from = bytes;
    while (count > 0) {
        ssize_t sent = send(descriptor, from, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            crew_die(crew, "send", errno);
        from += sent;
        count -= (size_t)sent;
    }
}

/* --- options --- */

enum {
    CREW_CONNECT = 512,
    CREW_WAY,
    CREW_PRODUCERS,
    CREW_CONNECTIONS,
    CREW_BYTES,
    CREW_BATCH,
    CREW_RATE,
    CREW_REFUSE,
    CREW_LATENCY,
    CREW_SECONDS,
    CREW_WARMUP,
    CREW_CHECK,
    CREW_SINK_SPIN,
    CREW_SINK_CPU,
    CREW_RECEIVE_BYTES,
    CREW_SLOW_BPS,
    CREW_STALL,
    CREW_JSON,
};

static const struct argp_option crew_options[] = {
    {"connect", CREW_CONNECT, "ADDRESS", 0, "a sink that runs already (weir-perf sink); else one is started for the run", 1},
    {"way", CREW_WAY, "WAY", 0, "how it sends, if it knows several ways", 2},
    {"producers", CREW_PRODUCERS, "N", 0, "threads that send (16)", 2},
    {"connections", CREW_CONNECTIONS, "N", 0, "that they share: each sends on one after the other (1)", 2},
    {"bytes", CREW_BYTES, "N", 0, "payload of a message (64)", 2},
    {"batch", CREW_BATCH, "N", 0, "messages that a producer sends together (1)", 2},
    {"rate", CREW_RATE, "R", 0, "so many messages a second, of all together, each at its time; every send is timed (0: as fast as it goes)",
     2},
    {"refuse", CREW_REFUSE, NULL, 0, "a message that finds no room is dropped and counted; else its producer waits", 2},
    {"latency", CREW_LATENCY, NULL, 0, "without --rate: time one send in 64", 2},
    {"seconds", CREW_SECONDS, "S", 0, "measured time (1)", 2},
    {"warmup", CREW_WARMUP, "S", 0, "time before it, under the same load (0.3)", 2},
    {"check", CREW_CHECK, NULL, 0,
     "the sink started for the run looks at every frame, as it does with --rate, --latency or --refuse; else it drops them", 3},
    {"sink-spin", CREW_SINK_SPIN, NULL, 0, "it never sleeps", 3},
    {"sink-cpu", CREW_SINK_CPU, "N", 0, "it runs on this core only", 3},
    {"receive-bytes", CREW_RECEIVE_BYTES, "N", 0, "the kernel's buffer for each of its connections (0: the kernel tunes it)", 3},
    {"slow-bps", CREW_SLOW_BPS, "N", 0, "it reads at most so many bytes a second (0: as fast as it goes)", 3},
    {"stall", CREW_STALL, "S", 0, "in the middle of the measured time it does not read the first connection for so many seconds (0)", 3},
    {"json", CREW_JSON, NULL, 0, "print one line of JSON instead of a table", 4},
    {0},
};

static void crew_parse_address(struct crew_plan *plan, const struct argp_state *state, const char *text)
{
    const char *problem = address_parse(&plan->address, text);
    if (problem != NULL)
        argp_error(state, "--connect '%s' %s", text, problem);
    snprintf(plan->text, sizeof plan->text, "%s", text);
    plan->addressed = true;
}

/* The options that are a word alone. */
static error_t crew_parse_word(int key, struct crew_plan *plan)
{
    switch (key) {
    case CREW_REFUSE:
        plan->refuse = true;
        return 0;
    case CREW_LATENCY:
        plan->latency = true;
        return 0;
    case CREW_CHECK:
        plan->check = true;
        return 0;
    case CREW_SINK_SPIN:
        plan->sink_spin = true;
        return 0;
    case CREW_JSON:
        plan->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Those for a sink of our own. */
static error_t crew_parse_sink(int key, const char *text, struct argp_state *state, struct crew_plan *plan)
{
    switch (key) {
    case CREW_SINK_CPU:
        plan->sink_cpu = (int)option_count(state, "--sink-cpu", text, 0, 1023);
        return 0;
    case CREW_RECEIVE_BYTES:
        plan->sink_receive_bytes = (uint32_t)option_count(state, "--receive-bytes", text, 0, 1u << 30);
        return 0;
    case CREW_SLOW_BPS:
        plan->sink_slow_bytes = option_count(state, "--slow-bps", text, 0, UINT32_MAX);
        return 0;
    case CREW_STALL:
        plan->sink_stall_ns = option_seconds_ns(state, "--stall", text, 0, 3600);
        return 0;
    default:
        return crew_parse_word(key, plan);
    }
}

/* What the side can do. */
static void crew_parse_end(struct crew *crew, const struct argp_state *state)
{
    struct crew_plan *plan = &crew->plan;
    const struct crew_side *side = crew->side;
    if (side->alone && (plan->producer_count != 1 || plan->connection_count != 1))
        argp_error(state, "wants --producers 1 and --connections 1");
    if (side->batch_bytes != 0)
        plan->batch_count = side->batch_bytes / (plan->message_bytes + MESSAGE_HEAD_BYTES);
}

static error_t crew_parse(int key, char *text, struct argp_state *state)
{
    struct crew *crew = state->input;
    struct crew_plan *plan = &crew->plan;
    switch (key) {
    case ARGP_KEY_INIT:
        if (crew->side->argp != NULL)
            state->child_inputs[0] = crew->side->argp_input;
        return 0;
    case CREW_CONNECT:
        crew_parse_address(plan, state, text);
        return 0;
    case CREW_WAY:
        plan->way = option_choice(state, "--way", text, crew->side->ways);
        return 0;
    case CREW_CONNECTIONS:
        plan->connection_count = (uint32_t)option_count(state, "--connections", text, 1, DRAIN_CONNECTIONS_MOST);
        return 0;
    case CREW_PRODUCERS:
        plan->producer_count = (uint32_t)option_count(state, "--producers", text, 1, CREW_PRODUCERS_MOST);
        return 0;
    case CREW_BYTES:
        plan->message_bytes = (uint32_t)option_count(state, "--bytes", text, MESSAGE_BYTES_LEAST, MESSAGE_BYTES_MOST);
        return 0;
    case CREW_BATCH:
        plan->batch_count = (uint32_t)option_count(state, "--batch", text, 1, CREW_BATCH_MOST);
        return 0;
    case CREW_RATE:
        plan->rate = option_count(state, "--rate", text, 0, 100000000);
        return 0;
    case CREW_SECONDS:
        plan->measure_ns = option_seconds_ns(state, "--seconds", text, 0.01, 3600);
        return 0;
    case CREW_WARMUP:
        plan->warmup_ns = option_seconds_ns(state, "--warmup", text, 0, 3600);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", text);
        return 0;
    case ARGP_KEY_END:
        crew_parse_end(crew, state);
        return 0;
    default:
        return crew_parse_sink(key, text, state, plan);
    }
}

/* --- the run --- */

static void crew_sleep_until(uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static uint64_t crew_accepted(const struct crew *crew)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < crew->plan.producer_count; i++)
        count += atomic_load_explicit(&crew->producers[i].sent_count, memory_order_relaxed);
    return count;
}

static uint64_t crew_sends(struct crew *crew)
{
    return crew->side->sends == NULL ? 0 : crew->side->sends(crew);
}

static void crew_measure(struct crew *crew)
{
    const struct crew_plan *plan = &crew->plan;
    struct crew_result *result = &crew->result;
    if (crew->side->touch != NULL)
        crew->side->touch(crew);
    if (process_now_ns() > crew->began_ns + plan->warmup_ns)
        fprintf(stderr, "%s: preparing took longer than --warmup, so the sink measures another time than this side\n",
                program_invocation_short_name);
    crew_sleep_until(crew->began_ns + plan->warmup_ns);
    uint64_t from_ns = process_now_ns();
    uint64_t cpu_ns = process_own_cpu_ns();
    uint64_t messages = crew_accepted(crew);
    uint64_t sends = crew_sends(crew);
    atomic_store(&crew->measuring, true);
    crew_sleep_until(from_ns + plan->measure_ns);
    atomic_store(&crew->measuring, false);
    result->elapsed_ns = process_now_ns() - from_ns;
    result->cpu_ns = process_own_cpu_ns() - cpu_ns;
    result->message_count = crew_accepted(crew) - messages;
    result->send_count = crew_sends(crew) - sends;
    crew_sleep_until(process_now_ns() + CREW_TAIL_NS);
    atomic_store(&crew->stopping, true);
}

static void *crew_produce(void *argument)
{
    struct producer *producer = argument;
    producer->crew->side->produce(producer);
    return NULL;
}

static void crew_run(struct crew *crew)
{
    uint32_t count = crew->plan.producer_count;
    crew->producers = aligned_alloc(_Alignof(struct producer), count * sizeof *crew->producers);
    if (crew->producers == NULL)
        crew_die(crew, "no memory", 0);
    pthread_barrier_init(&crew->ready, NULL, count + 1);
    pthread_barrier_init(&crew->started, NULL, count + 1);
    crew->side->open(crew);
    for (uint32_t i = 0; i < count; i++) {
        struct producer *producer = &crew->producers[i];
        if (!producer_init(producer, crew, i))
            crew_die(crew, "no memory", 0);
        int error = pthread_create(&producer->thread, NULL, crew_produce, producer);
        if (error != 0)
            crew_die(crew, "a thread", error);
    }
    pthread_barrier_wait(&crew->ready);
    crew->began_ns = process_now_ns();
    pthread_barrier_wait(&crew->started);
    crew_measure(crew);
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(crew->producers[i].thread, NULL);
        histogram_merge(&crew->result.calls, &crew->producers[i].calls);
        crew->result.refusals += crew->producers[i].refused_count;
    }
    crew->result.total_messages = crew_accepted(crew) + crew->extra_messages;
    crew->side->close(crew);
}

/* --- what is printed --- */

static double crew_per_message(const struct crew_result *result, double total)
{
    return result->message_count == 0 ? 0 : total / (double)result->message_count;
}

static double crew_rate(const struct crew_result *result)
{
    return result->elapsed_ns == 0 ? 0 : (double)result->message_count * 1e9 / (double)result->elapsed_ns;
}

static double crew_mean_batch(const struct crew_result *result)
{
    return result->send_count == 0 ? 0 : (double)result->message_count / (double)result->send_count;
}

static void crew_print_json(const struct crew *crew, const struct drain_plan *drain)
{
    const struct crew_plan *plan = &crew->plan;
    const struct crew_result *result = &crew->result;
    printf("{\"tool\":\"fanin\",\"side\":\"%s\",\"way\":\"%s\",\"producers\":%u,\"connections\":%u", crew->side->name,
           crew->side->ways[plan->way], plan->producer_count, plan->connection_count);
    printf(",\"bytes\":%u,\"batch\":%u,\"rate\":%" PRIu64 ",\"seconds\":%.6f", plan->message_bytes, plan->batch_count, plan->rate,
           (double)result->elapsed_ns / 1e9);
    printf(",\"messages\":%" PRIu64 ",\"messages_per_second\":%.1f,\"messages_total\":%" PRIu64 ",\"cpu_ns_per_message\":%.2f",
           result->message_count, crew_rate(result), result->total_messages, crew_per_message(result, (double)result->cpu_ns));
    if (result->send_count > 0)
        printf(",\"mean_batch\":%.2f", crew_mean_batch(result));
    else
        printf(",\"mean_batch\":null");
    if (result->calls.count > 0)
        printf(",\"send_p50_us\":%.3f,\"send_p99_us\":%.3f,\"send_max_us\":%.3f", (double)histogram_percentile(&result->calls, 50) / 1e3,
               (double)histogram_percentile(&result->calls, 99) / 1e3, (double)result->calls.most_ns / 1e3);
    else
        printf(",\"send_p50_us\":null,\"send_p99_us\":null,\"send_max_us\":null");
    printf(",\"refusals\":%" PRIu64 ",\"refuses\":%s", result->refusals, crew->side->refuses ? "true" : "false");
    if (crew->side->print != NULL)
        crew->side->print(crew, true);
    if (crew->sink.result != NULL) {
        printf(",\"sink\":");
        drain_print_json(stdout, drain, crew->sink.result);
    }
    printf("}\n");
}

static void crew_print_table(const struct crew *crew, const struct drain_plan *drain)
{
    char text[REPORT_NUMBER_BYTES];
    const struct crew_plan *plan = &crew->plan;
    const struct crew_result *result = &crew->result;
    printf("side         %s, way %s\n", crew->side->name, crew->side->ways[plan->way]);
    printf("load         %u producer%s, ", plan->producer_count, plan->producer_count == 1 ? "" : "s");
    printf("%u connection%s, %u bytes, ", plan->connection_count, plan->connection_count == 1 ? "" : "s", plan->message_bytes);
    printf("%u together, ", plan->batch_count);
    if (plan->rate > 0)
        printf("%s a second in all, ", report_number(text, (double)plan->rate, 0));
    printf("%.2f s\n\n", (double)result->elapsed_ns / 1e9);
    printf("accepted/s   %14s  messages\n", report_number(text, crew_rate(result), 0));
    printf("CPU          %14s  ns/message\n", report_number(text, crew_per_message(result, (double)result->cpu_ns), 1));
    if (result->send_count > 0)
        printf("mean batch   %14s  messages a send operation\n", report_number(text, crew_mean_batch(result), 1));
    if (result->calls.count > 0) {
        printf("call p50 us  %14s\n", report_number(text, (double)histogram_percentile(&result->calls, 50) / 1e3, 2));
        printf("call p99 us  %14s\n", report_number(text, (double)histogram_percentile(&result->calls, 99) / 1e3, 2));
        printf("call max us  %14s\n", report_number(text, (double)result->calls.most_ns / 1e3, 2));
    }
    printf("accepted     %14s  messages in all\n", report_number(text, (double)result->total_messages, 0));
    if (plan->refuse && crew->side->refuses)
        printf("refused      %14s\n", report_number(text, (double)result->refusals, 0));
    if (crew->side->print != NULL)
        crew->side->print(crew, false);
    if (crew->sink.result != NULL) {
        printf("\n");
        drain_print_table(stdout, drain, crew->sink.result);
    }
}

/* 0 when the sink of our own has got what was sent, all of it as it was. */
static int crew_judge(const struct crew *crew, const struct drain_plan *drain)
{
    const struct drain_result *seen = crew->sink.result;
    if (seen == NULL)
        return 0;
    if (seen->judged.messages != crew->result.total_messages)
        fprintf(stderr, "%s: %" PRIu64 " messages were accepted, and %" PRIu64 " came whole\n", program_invocation_short_name,
                crew->result.total_messages, seen->judged.messages);
    else if (drain_faults(drain, seen) > 0)
        fprintf(stderr, "%s: what came is not what was sent\n", program_invocation_short_name);
    else
        return 0;
    return 1;
}

/* What a sink of our own has to do for this run. */
static struct drain_plan crew_drain_plan(const struct crew_plan *plan)
{
    return (struct drain_plan){.message_bytes = plan->message_bytes,
                               .connection_count = plan->connection_count,
                               .drop = !plan->check && !plan->latency && !plan->refuse && plan->rate == 0,
                               .gaps = plan->refuse,
                               .spin = plan->sink_spin,
                               .cpu = plan->sink_cpu,
                               .receive_bytes = plan->sink_receive_bytes,
                               .slow_bytes = plan->sink_slow_bytes,
                               .stall_ns = plan->sink_stall_ns,
                               .warmup_ns = plan->warmup_ns,
                               .measure_ns = plan->measure_ns};
}

int crew_main(int argc, char **argv, const struct crew_side *side)
{
    static struct crew crew; /* zeroed, and too large for the stack */
    const struct argp_child children[] = {{.argp = side->argp}, {0}};
    const struct argp argp = {.options = crew_options, .parser = crew_parse, .doc = side->help, .children = side->argp ? children : NULL};
    crew.side = side;
    crew.plan = (struct crew_plan){.producer_count = 16,
                                   .connection_count = 1,
                                   .message_bytes = 64,
                                   .batch_count = 1,
                                   .sink_cpu = -1,
                                   .warmup_ns = 300000000,
                                   .measure_ns = 1000000000};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &crew);
    struct crew_plan *plan = &crew.plan;
    const struct drain_plan drain = crew_drain_plan(plan);
    bool own = !plan->addressed && !side->unconnected;
    if (!drain_descriptors(plan->connection_count) || (own && !drain_start(&crew.sink, &drain)))
        return 1;
    if (own) {
        address_parse(&plan->address, crew.sink.address);
        snprintf(plan->text, sizeof plan->text, "%s", crew.sink.address);
    }
    crew_run(&crew);
    if (own && !drain_join(&crew.sink))
        return 1;
    if (plan->json)
        crew_print_json(&crew, &drain);
    else
        crew_print_table(&crew, &drain);
    int code = crew_judge(&crew, &drain);
    drain_free(&crew.sink);
    for (uint32_t i = 0; i < plan->producer_count; i++)
        producer_finish(&crew.producers[i]);
    free(crew.producers);
    return code;
}
