/* SPDX-License-Identifier: MIT */
/* accept: the command `weir-perf accept`: how many connections a second a server takes: opens and closes them, one after the other in
 * each of some slots. One thread, plain epoll.
 *
 * Road:    a slot dials → it stands → (--touch: one message, and its echo) → (--graceful: closes its side, waits for the server's) →
 *          close → it dials again. The answer is what the slot waited for last: the echo, the server's close, or, without either, the
 *          handshake.
 * Ditches: refused, reset, a wrong echo → counted, the first is told, the slot goes on; ACCEPT_FAILURES_MOST in a row → give up; a unix
 *          socket's backlog full, or no local port left → the slot tries again a millisecond later; a handshake that took half a second →
 *          counted, as the server's backlog was full and the kernel asked again; nothing moves for 10 s → give up. */
#include "command.h"
#include "dial.h"
#include "histogram.h"
#include "option.h"
#include "pattern.h"
#include "process.h"
#include "report.h"
#include "target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_IN_FLIGHT_MOST 4096
#define ACCEPT_BYTES_MOST     65536u
#define ACCEPT_EVENTS         128
#define ACCEPT_FAILURES_MOST  100u
#define ACCEPT_LATE_NS        500000000ull /* a lost SYN is sent again after a second */
#define ACCEPT_PATIENCE_NS    10000000000ull
#define ACCEPT_PROGRESS_NS    250000000ull

enum {
    ACCEPT_IN_FLIGHT = 256,
    ACCEPT_TOUCH,
    ACCEPT_GRACEFUL,
    ACCEPT_BYTES,
    ACCEPT_FRAMING,
    ACCEPT_SECONDS,
    ACCEPT_WARMUP,
};

/* Those whose answers are as long as what was sent, and that begin at once. */
static const char *const accept_framing_names[] = {"frame", "line", "raw", NULL};

static const struct argp_option accept_options[] = {
    {"in-flight", ACCEPT_IN_FLIGHT, "N", 0, "connections under way at the same time (16)", 2},
    {"touch", ACCEPT_TOUCH, NULL, 0, "have one message echoed on each", 2},
    {"graceful", ACCEPT_GRACEFUL, NULL, 0, "close our side, wait until the server has closed its own; else they are reset", 2},
    {"bytes", ACCEPT_BYTES, "N", 0, "for --touch: its payload (64)", 2},
    {"framing", ACCEPT_FRAMING, "KIND", 0, "for --touch: frame, line or raw, as the server has it (frame)", 2},
    {"seconds", ACCEPT_SECONDS, "S", 0, "measured time (5)", 2},
    {"warmup", ACCEPT_WARMUP, "S", 0, "time before it, under the same load (0.5)", 2},
    {0},
};

static const char accept_help[] =
    "Opens and closes connections as fast as the server takes them, and counts.\v"
    "Use it when clients come and go: how many a second the server takes, what each costs it (--server-pid), and how long a new one waits "
    "for its first answer. Any server will do, but the answer has to be one that only the server can give: --touch wants a server that "
    "echoes, --graceful one that closes when its peer has. With neither, the answer is the handshake, which the server's kernel does by "
    "itself "
    "while there is room in the backlog: that is the limit of the two kernels, and the server may be behind.\n\n"
    "Connections are closed by a reset, so that their ports come back at once. With --graceful each port is kept for a while (TIME_WAIT): "
    "a "
    "server at an IPv4 loopback address is then dialled from 250 addresses, 127.0.0.1 and on; one elsewhere may run us out of ports.\n\n"
    "Give the server one core and the load another (--cpu). The exit code is 0 when every connection was answered, 1 when not, 2 when an "
    "option is wrong.";

enum accept_stage { ACCEPT_WAITING, ACCEPT_DIALLING, ACCEPT_ECHOING, ACCEPT_ENDING };

/* Waiting: no socket, dials in the next turn. */
struct accept_slot {
    enum accept_stage stage;
    int socket;
    uint32_t sent_bytes;
    uint32_t answered_bytes;
    uint64_t number;   /* of its message */
    uint64_t begun_ns; /* when it dialled */
};

struct accept_result {
    struct histogram latency; /* of connections begun in the interval, from dialling to the answer */
    uint64_t connection_count;
    uint64_t elapsed_ns;
    uint64_t client_cpu_ns;
    uint64_t server_cpu_ns; /* these two are true when server_sampled */
    uint64_t server_switches;
    bool server_sampled;
    uint64_t failed_count; /* in the whole run, like the next */
    uint64_t late_count;
};

struct accept {
    struct target target;
    uint32_t in_flight;
    bool touch, graceful;
    uint32_t bytes;
    enum pattern_framing framing;
    uint64_t warmup_ns, measure_ns;
    struct pattern pattern;
    struct accept_slot *slots;
    uint8_t *buffer; /* as large as a frame */
    int epoll;
    struct accept_result *result;
    uint64_t dialled_count;
    uint64_t answered_count; /* in the whole run */
    uint32_t waiting_count;  /* slots in that stage */
    uint32_t failed_in_row;
    uint64_t begin_ns, end_ns; /* of the interval; UINT64_MAX until it is known */
    uint64_t moved_ns;         /* when something was last answered or failed */
    bool given_up;
};

static error_t accept_parse(int key, char *text, struct argp_state *state)
{
    struct accept *accept = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &accept->target;
        return 0;
    case ACCEPT_IN_FLIGHT:
        accept->in_flight = (uint32_t)option_count(state, "--in-flight", text, 1, ACCEPT_IN_FLIGHT_MOST);
        return 0;
    case ACCEPT_TOUCH:
        accept->touch = true;
        return 0;
    case ACCEPT_GRACEFUL:
        accept->graceful = true;
        return 0;
    case ACCEPT_BYTES:
        accept->bytes = (uint32_t)option_count(state, "--bytes", text, 1, ACCEPT_BYTES_MOST);
        return 0;
    case ACCEPT_FRAMING:
        accept->framing = (enum pattern_framing)option_choice(state, "--framing", text, accept_framing_names);
        return 0;
    case ACCEPT_SECONDS:
        accept->measure_ns = option_seconds_ns(state, "--seconds", text, 0.01, 86400);
        return 0;
    case ACCEPT_WARMUP:
        accept->warmup_ns = option_seconds_ns(state, "--warmup", text, 0, 3600);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option; the server goes behind --connect", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- one connection --- */

/* Closes what there is, and the slot dials again. */
static void accept_again(struct accept *accept, struct accept_slot *slot, bool reset)
{
    if (reset)
        dial_close(slot->socket);
    else
        close(slot->socket);
    slot->socket = -1;
    slot->stage = ACCEPT_WAITING;
    accept->waiting_count++;
}

static void accept_failed(struct accept *accept, int error)
{
    accept->moved_ns = process_now_ns();
    if (accept->result->failed_count++ == 0)
        fprintf(stderr, "weir-perf: a connection to %s: %s (only the first is told)\n", accept->target.address.text, strerror(error));
    if (++accept->failed_in_row >= ACCEPT_FAILURES_MOST)
        accept->given_up = true;
}

static void accept_fail(struct accept *accept, struct accept_slot *slot, int error)
{
    accept_failed(accept, error);
    accept_again(accept, slot, true);
}

/* The answer has come. */
static void accept_answered(struct accept *accept, struct accept_slot *slot)
{
    uint64_t now_ns = process_now_ns();
    accept->moved_ns = now_ns;
    accept->failed_in_row = 0;
    accept->answered_count++;
    if (now_ns >= accept->begin_ns && now_ns < accept->end_ns)
        accept->result->connection_count++;
    if (slot->begun_ns >= accept->begin_ns && slot->begun_ns < accept->end_ns)
        histogram_record(&accept->result->latency, now_ns - slot->begun_ns);
    accept_again(accept, slot, !accept->graceful);
}

/* In stage ACCEPT_ENDING: until the server has closed. */
static void accept_end(struct accept *accept, struct accept_slot *slot)
{
    ssize_t count = recv(slot->socket, accept->buffer, accept->pattern.answer.frame_bytes, 0);
    if (count == 0)
        accept_answered(accept, slot);
    else if (count > 0 || errno != EAGAIN)
        accept_fail(accept, slot, count > 0 ? EBADMSG : errno); /* more than an echo */
}

static void accept_touched(struct accept *accept, struct accept_slot *slot)
{
    if (!accept->graceful) {
        accept_answered(accept, slot);
        return;
    }
    if (shutdown(slot->socket, SHUT_WR) != 0) {
        accept_fail(accept, slot, errno);
        return;
    }
    slot->stage = ACCEPT_ENDING;
    accept_end(accept, slot);
}

/* In stage ACCEPT_ECHOING: sends what is left to be sent, takes what is there. */
static void accept_echo(struct accept *accept, struct accept_slot *slot)
{
    uint32_t frame_bytes = accept->pattern.sent.frame_bytes; /* and as many come back */
    if (slot->sent_bytes < frame_bytes) {
        const uint8_t *message = pattern_make(&accept->pattern, slot->number, 1, 1);
        ssize_t sent = send(slot->socket, message + slot->sent_bytes, frame_bytes - slot->sent_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            accept_fail(accept, slot, errno);
            return;
        }
        slot->sent_bytes += sent > 0 ? (uint32_t)sent : 0;
        return; /* the answer is not there yet: its event comes */
    }
    while (slot->answered_bytes < frame_bytes) {
        ssize_t count = recv(slot->socket, accept->buffer, frame_bytes - slot->answered_bytes, 0);
        if (count < 0 && errno == EAGAIN)
            return;
        if (count <= 0) {
            accept_fail(accept, slot, count == 0 ? ECONNRESET : errno);
            return;
        }
        if (!pattern_matches(&accept->pattern, slot->number, slot->answered_bytes, accept->buffer, (uint32_t)count, true)) {
            accept_fail(accept, slot, EBADMSG);
            return;
        }
        slot->answered_bytes += (uint32_t)count;
    }
    accept_touched(accept, slot);
}

/* In stage ACCEPT_DIALLING: the handshake is over. */
static void accept_connected(struct accept *accept, struct accept_slot *slot)
{
    int error = dial_error(slot->socket);
    if (error != 0) {
        accept_fail(accept, slot, error);
        return;
    }
    accept->result->late_count += process_now_ns() - slot->begun_ns >= ACCEPT_LATE_NS;
    if (accept->touch) {
        slot->stage = ACCEPT_ECHOING;
        accept_echo(accept, slot);
    } else {
        accept_touched(accept, slot);
    }
}

static void accept_event(struct accept *accept, struct accept_slot *slot)
{
    switch (slot->stage) {
    case ACCEPT_DIALLING:
        accept_connected(accept, slot);
        return;
    case ACCEPT_ECHOING:
        accept_echo(accept, slot);
        return;
    case ACCEPT_ENDING:
        accept_end(accept, slot);
        return;
    case ACCEPT_WAITING:
        return;
    }
}

static void accept_dial(struct accept *accept, struct accept_slot *slot)
{
    const struct address *address = &accept->target.address;
    uint32_t source = accept->graceful ? (uint32_t)(accept->dialled_count % dial_source_count(address)) : 0;
    uint64_t begun_ns = process_now_ns();
    int descriptor = dial_begin(address, source);
    if (descriptor == -EAGAIN || descriptor == -EADDRNOTAVAIL)
        return;
    if (descriptor < 0) {
        accept_failed(accept, -descriptor);
        return;
    }
    *slot = (struct accept_slot){.stage = ACCEPT_DIALLING, .socket = descriptor, .number = accept->dialled_count++, .begun_ns = begun_ns};
    accept->waiting_count--;
    struct epoll_event interest = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = slot};
    if (epoll_ctl(accept->epoll, EPOLL_CTL_ADD, descriptor, &interest) != 0)
        accept_fail(accept, slot, errno);
}

/* --- the run --- */

static void accept_turns(struct accept *accept, uint64_t until_ns)
{
    struct epoll_event events[ACCEPT_EVENTS];
    bool watched = report_progress_wanted((double)(accept->warmup_ns + accept->measure_ns) / 1e9);
    uint64_t now_ns = process_now_ns(), shown_ns = now_ns, shown_count = accept->answered_count;
    for (; now_ns < until_ns && !accept->given_up; now_ns = process_now_ns()) {
        for (uint32_t i = 0; i < accept->in_flight && accept->waiting_count > 0 && !accept->given_up; i++)
            if (accept->slots[i].stage == ACCEPT_WAITING)
                accept_dial(accept, &accept->slots[i]);
        uint64_t left_ms = (until_ns - now_ns) / 1000000 + 1;
        int ready = epoll_wait(accept->epoll, events, ACCEPT_EVENTS, accept->waiting_count > 0 ? 1 : (int)(left_ms < 100 ? left_ms : 100));
        for (int i = 0; i < ready; i++)
            accept_event(accept, events[i].data.ptr);
        if (now_ns > accept->moved_ns + ACCEPT_PATIENCE_NS) {
            fprintf(stderr, "weir-perf: nothing moved for 10 s\n");
            accept->given_up = true;
        }
        if (watched && now_ns - shown_ns >= ACCEPT_PROGRESS_NS) {
            report_progress("%.0f connections/s", (double)(accept->answered_count - shown_count) * 1e9 / (double)(now_ns - shown_ns));
            shown_ns = now_ns;
            shown_count = accept->answered_count;
        }
    }
}

static void accept_measure(struct accept *accept)
{
    struct accept_result *result = accept->result;
    struct process_sample before, after;
    accept->moved_ns = process_now_ns();
    accept_turns(accept, accept->moved_ns + accept->warmup_ns);
    pid_t server = accept->target.server;
    result->server_sampled = server != 0 && process_sample(server, &before);
    uint64_t own_cpu_ns = process_own_cpu_ns();
    accept->begin_ns = process_now_ns();
    accept->end_ns = accept->begin_ns + accept->measure_ns;
    accept_turns(accept, accept->end_ns);
    uint64_t now_ns = process_now_ns();
    result->client_cpu_ns = process_own_cpu_ns() - own_cpu_ns;
    result->server_sampled = result->server_sampled && process_sample(server, &after);
    if (result->server_sampled) {
        result->server_cpu_ns = after.cpu_ns - before.cpu_ns;
        result->server_switches = after.switches - before.switches;
    }
    result->elapsed_ns = now_ns < accept->end_ns ? now_ns - accept->begin_ns : accept->measure_ns;
    report_progress_end();
}

/* False, with a sentence on standard error, when there is no memory. */
static bool accept_run(struct accept *accept)
{
    accept->slots = calloc(accept->in_flight, sizeof *accept->slots);
    accept->epoll = epoll_create1(EPOLL_CLOEXEC);
    bool patterned = pattern_create(&accept->pattern, accept->framing, accept->bytes, 1);
    accept->buffer = patterned ? malloc(accept->pattern.answer.frame_bytes) : NULL;
    bool ready = accept->slots != NULL && accept->epoll >= 0 && accept->buffer != NULL;
    accept->waiting_count = accept->in_flight;
    if (ready)
        accept_measure(accept);
    else
        fprintf(stderr, "weir-perf: no memory for %u connections\n", accept->in_flight);
    for (uint32_t i = 0; ready && i < accept->in_flight; i++)
        if (accept->slots[i].stage != ACCEPT_WAITING)
            dial_close(accept->slots[i].socket);
    if (accept->epoll >= 0)
        close(accept->epoll);
    pattern_destroy(&accept->pattern);
    free(accept->buffer);
    free(accept->slots);
    return ready;
}

/* --- what is printed --- */

static const char *accept_answer(const struct accept *accept)
{
    return accept->graceful ? "close" : accept->touch ? "echo" : "handshake";
}

static double accept_rate(const struct accept_result *result)
{
    return result->elapsed_ns == 0 ? 0 : (double)result->connection_count * 1e9 / (double)result->elapsed_ns;
}

static double accept_per_connection(const struct accept_result *result, uint64_t total)
{
    return result->connection_count == 0 ? 0 : (double)total / (double)result->connection_count;
}

static double accept_percentile_us(const struct accept_result *result, double percent)
{
    return (double)histogram_percentile(&result->latency, percent) / 1e3;
}

static void accept_print_json(const struct accept *accept, const struct accept_result *result)
{
    printf("{\"tool\":\"accept\",\"in_flight\":%u,\"touched\":%s,\"graceful\":%s,\"answer\":\"%s\",\"bytes\":%u,\"framing\":\"%s\"",
           accept->in_flight, accept->touch ? "true" : "false", accept->graceful ? "true" : "false", accept_answer(accept), accept->bytes,
           pattern_framing_names[accept->framing]);
    printf(",\"seconds\":%.6f,\"connections\":%" PRIu64 ",\"connections_per_second\":%.1f", (double)result->elapsed_ns / 1e9,
           result->connection_count, accept_rate(result));
    printf(",\"mean_us\":%.3f,\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"max_us\":%.3f", histogram_mean(&result->latency) / 1e3,
           accept_percentile_us(result, 50), accept_percentile_us(result, 90), accept_percentile_us(result, 99),
           (double)result->latency.most_ns / 1e3);
    if (result->server_sampled)
        printf(",\"server_cpu_ns_per_connection\":%.1f,\"server_context_switches\":%" PRIu64,
               accept_per_connection(result, result->server_cpu_ns), result->server_switches);
    else
        printf(",\"server_cpu_ns_per_connection\":null,\"server_context_switches\":null");
    printf(",\"client_cpu_ns_per_connection\":%.1f,\"failed\":%" PRIu64 ",\"late\":%" PRIu64 "}\n",
           accept_per_connection(result, result->client_cpu_ns), result->failed_count, result->late_count);
}

static void accept_print_table(const struct accept *accept, const struct accept_result *result)
{
    static const struct {
        const char *name;
        double percent;
    } rows[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"max", 100}};
    char text[REPORT_NUMBER_BYTES];
    printf("server       %s\n", accept->target.address.text);
    printf("load         %u at a time, each %s%s, %.2f s\n\n", accept->in_flight, accept->touch ? "echoes one message and is " : "",
           accept->graceful ? "closed from both sides" : "reset", (double)result->elapsed_ns / 1e9);
    printf("connections/s %13s\n", report_number(text, accept_rate(result), 0));
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        printf("%-5s us     %14s%s%s\n", rows[i].name, report_number(text, accept_percentile_us(result, rows[i].percent), 1),
               i == 0 ? "  from dialling to the " : "", i == 0 ? accept_answer(accept) : "");
    if (result->server_sampled) {
        printf("server CPU   %14s  ns/connection, ", report_number(text, accept_per_connection(result, result->server_cpu_ns), 0));
        printf("%s context switches\n", report_number(text, (double)result->server_switches, 0));
    }
    printf("load CPU     %14s  ns/connection\n", report_number(text, accept_per_connection(result, result->client_cpu_ns), 0));
    printf("failed       %14" PRIu64 "\n", result->failed_count);
    if (result->late_count > 0)
        printf("late         %14" PRIu64 "  had to ask again: the server's backlog was full\n", result->late_count);
    if ((double)result->client_cpu_ns > 0.95 * (double)result->elapsed_ns)
        printf("\nThe load side used its whole core, so it may be the limit and not the server.\n");
}

int accept_command(int argc, char **argv)
{
    static const struct argp_child children[] = {{.argp = &target_argp}, {0}};
    static const struct argp argp = {.options = accept_options, .parser = accept_parse, .doc = accept_help, .children = children};
    static struct accept_result result;
    struct accept accept = {
        .in_flight = 16,
        .bytes = 64,
        .warmup_ns = 500000000,
        .measure_ns = 5000000000,
        .epoll = -1,
        .result = &result,
        .begin_ns = UINT64_MAX,
        .end_ns = UINT64_MAX,
    };
    argp_parse(&argp, argc, argv, 0, NULL, &accept);
    if (!accept_run(&accept))
        return 1;
    if (result.connection_count == 0) {
        fprintf(stderr, "weir-perf: not one answer came\n");
        return 1;
    }
    if (accept.target.json)
        accept_print_json(&accept, &result);
    else
        accept_print_table(&accept, &result);
    return accept.given_up || result.failed_count > 0;
}
