/* SPDX-License-Identifier: MIT */
/* crowd: see crowd.h.
 *
 * Road:    fork → the address comes through a pipe → dial all → hello on each → spin: epoll, receive → each read to its end → exit.
 * Ditches: cannot connect → say so, and the parent sees it; a frame that is not one → counted, and that connection is read no more by
 *          frames; an end before it was expected → counted; no end within CROWD_PATIENCE_NS of being expected → the parent kills it. */
#include "crowd.h"

#include "dial.h"
#include "flight.h"
#include "message.h"
#include "option.h"
#include "process.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CROWD_ADDRESS_BYTES 128
#define CROWD_QUIET_NS      50000000u   /* after the last that was waited for */
#define CROWD_STILL_NS      5000000000u /* and it never came */
#define CROWD_WELCOME_MS    10000
#define CROWD_EVENTS        256
#define CROWD_BUFFER_BYTES  262144u
#define CROWD_PATIENCE_NS   10000000000u
#define CROWD_LOOK_NS       1000000u

enum crowd_state { CROWD_CONNECTING, CROWD_CONNECTED, CROWD_FAILED };

/* What both processes see. The child writes, but for the flags. */
struct crowd_shared {
    _Atomic uint32_t state;
    atomic_bool measuring; /* true exactly in the measured interval */
    atomic_bool ending;    /* connections may end */
    _Atomic uint64_t byte_count, receive_count;
    uint64_t whole_count; /* messages of those members that have ended */
    uint64_t most_count;  /* of one of them */
    uint64_t harmed_count, lost_count;
    struct histogram latency;
};

struct crowd {
    struct crowd_plan plan;
    uint32_t frame_bytes;
    struct crowd_shared *shared;
    pid_t child;
    int address; /* a pipe's end: the child waits for the address there */
};

/* --- options --- */

enum {
    CROWD_MEMBERS = CROWD_KEYS,
    CROWD_BYTES,
    CROWD_BATCH,
    CROWD_SECONDS,
    CROWD_WARMUP,
    CROWD_RATE,
    CROWD_SLOW,
    CROWD_CHECK,
    CROWD_JSON,
};

static const struct argp_option crowd_options[] = {
    {"members", CROWD_MEMBERS, "N", 0, "connections that receive what is published (100)", 2},
    {"bytes", CROWD_BYTES, "N", 0, "payload of a message (64)", 2},
    {"batch", CROWD_BATCH, "N", 0, "messages that are published together (64)", 2},
    {"seconds", CROWD_SECONDS, "S", 0, "measured time (2)", 2},
    {"warmup", CROWD_WARMUP, "S", 0, "time before it, under the same load (0.3)", 2},
    {"rate", CROWD_RATE, "R", 0, "publish so many messages a second, each at its time, and take the time that each takes", 2},
    {"slow", CROWD_SLOW, "N", 0, "members beside the others that never read (0)", 2},
    {"check", CROWD_CHECK, NULL, 0, "look at every frame that arrives; else they are dropped and counted", 3},
    {"json", CROWD_JSON, NULL, 0, "print one line of JSON instead of a table", 4},
    {0},
};

static void crowd_limit_batch(struct crowd_plan *plan)
{
    uint64_t most = CROWD_BATCH_BYTES_MOST / ((uint64_t)plan->member_count * plan->message_bytes);
    if (most > CROWD_BATCH_DELIVERIES_MOST / plan->member_count)
        most = CROWD_BATCH_DELIVERIES_MOST / plan->member_count;
    if (plan->batch_count > most)
        plan->batch_count = most > 0 ? (uint32_t)most : 1;
}

static error_t crowd_parse(int key, char *text, struct argp_state *state)
{
    struct crowd_plan *plan = state->input;
    switch (key) {
    case CROWD_MEMBERS:
        plan->member_count = (uint32_t)option_count(state, "--members", text, 1, 100000);
        return 0;
    case CROWD_BYTES:
        plan->message_bytes = (uint32_t)option_count(state, "--bytes", text, MESSAGE_BYTES_LEAST, CROWD_BYTES_MOST);
        return 0;
    case CROWD_BATCH:
        plan->batch_count = (uint32_t)option_count(state, "--batch", text, 1, CROWD_BATCH_MOST);
        return 0;
    case CROWD_SECONDS:
        plan->measure_ns = option_seconds_ns(state, "--seconds", text, 0.01, 3600);
        return 0;
    case CROWD_WARMUP:
        plan->warmup_ns = option_seconds_ns(state, "--warmup", text, 0, 3600);
        return 0;
    case CROWD_RATE:
        plan->rate = option_count(state, "--rate", text, 1, 10000000);
        plan->timed = true;
        return 0;
    case CROWD_SLOW:
        plan->slow_count = (uint32_t)option_count(state, "--slow", text, 0, CROWD_SLOW_MOST);
        return 0;
    case CROWD_CHECK:
        plan->check = true;
        return 0;
    case CROWD_JSON:
        plan->json = true;
        return 0;
    case ARGP_KEY_END:
        crowd_limit_batch(plan);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp crowd_argp = {.options = crowd_options, .parser = crowd_parse};

bool crowd_plan_init(struct crowd_plan *plan)
{
    struct flight_plan cores;
    *plan =
        (struct crowd_plan){.member_count = 100, .message_bytes = 64, .batch_count = 64, .warmup_ns = 300000000, .measure_ns = 2000000000};
    if (!flight_plan_init(&cores))
        return false;
    plan->cores[0] = cores.cores[0];
    plan->cores[1] = cores.cores[1];
    return true;
}

/* --- the child --- */

struct member {
    int socket;
    uint32_t had_bytes;   /* of a frame begun, in `begun` */
    uint32_t aside_bytes; /* still to come of what is no message */
    uint64_t sequence;    /* the next */
    uint64_t byte_count;  /* received */
    uint8_t *begun;
    bool astray; /* true exactly when a frame was not one: nothing behind it can be cut */
};

struct readers {
    const struct crowd_plan *plan;
    struct crowd_shared *shared;
    struct member *members;
    struct wire wire;
    uint32_t frame_bytes, payload_at, filler_at;
    uint32_t open_count;
    uint8_t *frame; /* what one looks like */
    uint8_t *buffer;
    int epoll;
};

/* One whole frame. */
static void readers_look(struct readers *readers, struct member *member, const uint8_t *frame, uint64_t now_ns)
{
    struct crowd_shared *shared = readers->shared;
    const uint8_t *payload = frame + readers->payload_at;
    uint64_t stamp_ns = 0, sequence = message_get(payload, MESSAGE_SEQUENCE_AT - MESSAGE_HEAD_BYTES);
    if (memcmp(frame, readers->frame, readers->payload_at + MESSAGE_SEQUENCE_AT - MESSAGE_HEAD_BYTES) != 0) {
        member->astray = true;
        shared->harmed_count++;
        return;
    }
    if (readers->frame_bytes >= readers->filler_at)
        stamp_ns = message_get(payload, MESSAGE_STAMP_AT - MESSAGE_HEAD_BYTES);
    bool filled = readers->frame_bytes <= readers->filler_at ||
                  memcmp(frame + readers->filler_at, readers->frame + readers->filler_at, readers->frame_bytes - readers->filler_at) == 0;
    shared->harmed_count += !filled || sequence != member->sequence;
    member->sequence = sequence + 1;
    if (stamp_ns != 0 && atomic_load_explicit(&shared->measuring, memory_order_relaxed))
        histogram_record(&shared->latency, now_ns - stamp_ns);
}

/* Whether what is next is none of a message's; then as much of it as is there counts. */
static bool readers_pass_aside(const struct readers *readers, struct member *member, const uint8_t **bytes, uint32_t *count)
{
    const char *aside = readers->wire.aside;
    if (member->aside_bytes == 0 && member->had_bytes == 0 && aside != NULL && **bytes == (uint8_t)aside[0])
        member->aside_bytes = (uint32_t)strlen(aside);
    if (member->aside_bytes == 0)
        return false;
    uint32_t take = *count < member->aside_bytes ? *count : member->aside_bytes;
    member->aside_bytes -= take;
    *bytes += take;
    *count -= take;
    return true;
}

static void readers_cut(struct readers *readers, struct member *member, const uint8_t *bytes, uint32_t count)
{
    uint64_t now_ns = process_now_ns();
    while (count > 0 && !member->astray) {
        if (readers_pass_aside(readers, member, &bytes, &count))
            continue;
        if (member->had_bytes == 0 && count >= readers->frame_bytes) {
            readers_look(readers, member, bytes, now_ns);
            bytes += readers->frame_bytes;
            count -= readers->frame_bytes;
            continue;
        }
        uint32_t missing = readers->frame_bytes - member->had_bytes, take = count < missing ? count : missing;
        memcpy(member->begun + member->had_bytes, bytes, take);
        member->had_bytes += take;
        bytes += take;
        count -= take;
        if (member->had_bytes == readers->frame_bytes) {
            member->had_bytes = 0;
            readers_look(readers, member, member->begun, now_ns);
        }
    }
}

/* Of one that has ended. */
static void readers_count(struct readers *readers, const struct member *member)
{
    uint64_t count = member->byte_count / readers->frame_bytes;
    readers->shared->whole_count += count;
    if (count > readers->shared->most_count)
        readers->shared->most_count = count;
}

static void readers_receive(struct readers *readers, struct member *member)
{
    struct crowd_shared *shared = readers->shared;
    bool drop = !readers->plan->check && !readers->plan->timed;
    ssize_t received = recv(member->socket, readers->buffer, CROWD_BUFFER_BYTES, drop ? MSG_TRUNC : 0);
    if (received < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (received <= 0) {
        shared->lost_count += !atomic_load(&shared->ending);
        shared->harmed_count += member->had_bytes > 0;
        readers_count(readers, member);
        close(member->socket);
        readers->open_count--;
        return;
    }
    member->byte_count += (uint64_t)received;
    atomic_fetch_add_explicit(&shared->byte_count, (uint64_t)received, memory_order_relaxed);
    atomic_fetch_add_explicit(&shared->receive_count, 1, memory_order_relaxed);
    if (!drop)
        readers_cut(readers, member, readers->buffer, (uint32_t)received);
}

static void readers_run(struct readers *readers)
{
    struct epoll_event events[CROWD_EVENTS];
    while (readers->open_count > 0) {
        int ready = epoll_wait(readers->epoll, events, CROWD_EVENTS, 0);
        for (int i = 0; i < ready; i++)
            readers_receive(readers, events[i].data.ptr);
    }
}

/* Everybody introduces itself, then each hears that it is known: the server has all at once to do. */
static bool readers_introduce(const struct crowd_plan *plan, const int *sockets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t hello[WIRE_HELLO_MOST];
        size_t hello_bytes = wire_hello(plan->framing, i < plan->slow_count, hello);
        if (send(sockets[i], hello, hello_bytes, MSG_NOSIGNAL) != (ssize_t)hello_bytes)
            return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint8_t welcome[WIRE_WELCOME_BYTES];
        size_t had_bytes = 0;
        while (!wire_is_welcome(plan->framing, welcome, had_bytes)) {
            struct pollfd readable = {.fd = sockets[i], .events = POLLIN};
            if (poll(&readable, 1, CROWD_WELCOME_MS) != 1)
                return false;
            ssize_t received = recv(sockets[i], welcome + had_bytes, sizeof welcome - had_bytes, 0);
            if (received <= 0)
                return false;
            had_bytes += (size_t)received;
        }
        size_t thanks_bytes = wire_thanks(plan->framing, i < plan->slow_count, welcome);
        if (thanks_bytes > 0 && send(sockets[i], welcome, thanks_bytes, MSG_NOSIGNAL) != (ssize_t)thanks_bytes)
            return false;
    }
    return true;
}

/* The slow ones are the first. */
static bool readers_connect(struct readers *readers, const char *text, int *sockets)
{
    const struct crowd_plan *plan = readers->plan;
    uint32_t count = plan->slow_count + plan->member_count;
    struct address address;
    if (address_parse(&address, text) != NULL || !dial_open(&address, sockets, count))
        return false;
    if (!plan->silent && !readers_introduce(plan, sockets, count)) {
        fprintf(stderr, "%s: a member said hello and was not welcomed\n", program_invocation_short_name);
        return false;
    }
    for (uint32_t i = plan->slow_count; i < count; i++) {
        struct member *member = &readers->members[i - plan->slow_count];
        struct epoll_event interest = {.events = EPOLLIN, .data.ptr = member};
        member->socket = sockets[i];
        member->begun = malloc(readers->frame_bytes);
        if (member->begun == NULL || epoll_ctl(readers->epoll, EPOLL_CTL_ADD, member->socket, &interest) != 0)
            return false;
    }
    readers->open_count = plan->member_count;
    return true;
}

/* What a frame looks like: false, no memory. */
static bool readers_make_frame(struct readers *readers)
{
    struct wire *wire = &readers->wire;
    uint32_t payload_bytes = readers->plan->message_bytes;
    wire_init(wire, readers->plan->framing, payload_bytes);
    readers->frame_bytes = wire->frame_bytes;
    readers->payload_at = wire->head_bytes;
    readers->filler_at = wire->head_bytes + MESSAGE_FILLER_AT - MESSAGE_HEAD_BYTES;
    readers->frame = malloc(wire->frame_bytes + MESSAGE_FILLER_AT);
    uint8_t *message = malloc(MESSAGE_HEAD_BYTES + payload_bytes + MESSAGE_FILLER_AT);
    bool made = readers->frame != NULL && message != NULL;
    if (made) {
        message_make(message, 0, payload_bytes);
        memcpy(readers->frame, wire->head, wire->head_bytes);
        memcpy(readers->frame + wire->head_bytes, message + MESSAGE_HEAD_BYTES, payload_bytes);
        memcpy(readers->frame + wire->head_bytes + payload_bytes, wire->tail, strlen(wire->tail));
    }
    free(message);
    return made;
}

/* The child's main; it ends with the process, which frees everything. */
static void readers_main(const struct crowd_plan *plan, struct crowd_shared *shared, int pipe)
{
    char address[CROWD_ADDRESS_BYTES];
    struct readers readers = {.plan = plan, .shared = shared};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    flight_pin(plan->cores[1]);
    readers.members = calloc(plan->member_count, sizeof *readers.members);
    readers.buffer = malloc(CROWD_BUFFER_BYTES);
    readers.epoll = epoll_create1(EPOLL_CLOEXEC);
    int *sockets = calloc((size_t)plan->slow_count + plan->member_count, sizeof *sockets);
    bool ready = readers.members != NULL && readers.buffer != NULL && sockets != NULL && readers.epoll >= 0 && readers_make_frame(&readers);
    ssize_t told = read(pipe, address, sizeof address - 1);
    if (told <= 0) /* the parent has given up */
        return;
    address[told] = '\0';
    ready = ready && readers_connect(&readers, address, sockets);
    atomic_store(&shared->state, ready ? CROWD_CONNECTED : CROWD_FAILED);
    if (ready)
        readers_run(&readers);
}

/* --- the parent --- */

static void crowd_sleep(uint64_t sleep_ns)
{
    struct timespec left = {.tv_sec = (time_t)(sleep_ns / 1000000000u), .tv_nsec = (long)(sleep_ns % 1000000000u)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

struct crowd *crowd_start(const struct crowd_plan *plan)
{
    int ends[2];
    struct crowd *crowd = calloc(1, sizeof *crowd);
    void *shared = mmap(NULL, sizeof *crowd->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (crowd == NULL || shared == MAP_FAILED || pipe(ends) != 0) {
        perror("memory or descriptors for the members");
        exit(1);
    }
    struct wire wire;
    wire_init(&wire, plan->framing, plan->message_bytes);
    crowd->plan = *plan;
    crowd->frame_bytes = wire.frame_bytes;
    crowd->shared = shared;
    fflush(NULL);
    crowd->child = fork();
    if (crowd->child == 0) {
        close(ends[1]);
        readers_main(plan, shared, ends[0]);
        _exit(0);
    }
    close(ends[0]);
    crowd->address = ends[1];
    if (crowd->child < 0) {
        perror("fork");
        exit(1);
    }
    return crowd;
}

/* Whether the child is no more. */
static bool crowd_is_over(struct crowd *crowd)
{
    if (crowd->child != 0 && waitpid(crowd->child, NULL, WNOHANG) == crowd->child)
        crowd->child = 0;
    return crowd->child == 0;
}

bool crowd_connect(struct crowd *crowd, const char *address)
{
    if (write(crowd->address, address, strlen(address)) < 0)
        return false;
    while (atomic_load(&crowd->shared->state) == CROWD_CONNECTING && !crowd_is_over(crowd))
        crowd_sleep(CROWD_LOOK_NS);
    return atomic_load(&crowd->shared->state) == CROWD_CONNECTED;
}

void crowd_warm_up(struct crowd *crowd)
{
    crowd_sleep(crowd->plan.warmup_ns);
}

/* Of the process that sends to the members. */
static uint64_t crowd_cpu_ns(const struct crowd *crowd)
{
    struct process_sample sample;
    if (crowd->plan.server == 0)
        return process_own_cpu_ns();
    return process_sample(crowd->plan.server, &sample) ? sample.cpu_ns : 0;
}

void crowd_measure(struct crowd *crowd, struct crowd_result *result)
{
    struct crowd_shared *shared = crowd->shared;
    uint64_t from_ns = process_now_ns(), from_cpu_ns = crowd_cpu_ns(crowd), from_own_ns = process_own_cpu_ns();
    uint64_t from_bytes = atomic_load(&shared->byte_count), from_receives = atomic_load(&shared->receive_count);
    atomic_store(&shared->measuring, true);
    crowd_sleep(crowd->plan.measure_ns);
    atomic_store(&shared->measuring, false);
    result->delivery_count = (atomic_load(&shared->byte_count) - from_bytes) / crowd->frame_bytes;
    result->receive_count = atomic_load(&shared->receive_count) - from_receives;
    result->cpu_ns = crowd_cpu_ns(crowd) - from_cpu_ns;
    result->own_cpu_ns = process_own_cpu_ns() - from_own_ns;
    result->elapsed_ns = process_now_ns() - from_ns;
}

uint64_t crowd_arrived(const struct crowd *crowd)
{
    return atomic_load_explicit(&crowd->shared->byte_count, memory_order_relaxed) / crowd->frame_bytes;
}

void crowd_settle(struct crowd *crowd, uint64_t count)
{
    uint64_t seen_bytes = atomic_load(&crowd->shared->byte_count), moved_ns = process_now_ns();
    for (;;) {
        crowd_sleep(CROWD_LOOK_NS);
        uint64_t bytes = atomic_load(&crowd->shared->byte_count), now_ns = process_now_ns();
        if (bytes != seen_bytes)
            moved_ns = now_ns;
        seen_bytes = bytes;
        if (now_ns - moved_ns > (bytes / crowd->frame_bytes >= count ? CROWD_QUIET_NS : CROWD_STILL_NS) || crowd_is_over(crowd))
            return;
    }
}

void crowd_expect_end(struct crowd *crowd)
{
    atomic_store(&crowd->shared->ending, true);
}

void crowd_stop(struct crowd **gone, struct crowd_result *result)
{
    struct crowd *crowd = *gone;
    struct crowd_shared *shared = crowd->shared;
    uint64_t deadline_ns = process_now_ns() + CROWD_PATIENCE_NS;
    close(crowd->address);
    while (!crowd_is_over(crowd) && process_now_ns() < deadline_ns)
        crowd_sleep(CROWD_LOOK_NS);
    if (!crowd_is_over(crowd)) {
        kill(crowd->child, SIGKILL);
        waitpid(crowd->child, NULL, 0);
    }
    if (result->published_count == CROWD_PUBLISHED_UNKNOWN)
        result->published_count = shared->most_count;
    uint64_t wanted_count = result->published_count * crowd->plan.member_count, count = shared->whole_count;
    result->latency = shared->latency;
    result->missing_count = wanted_count > count ? wanted_count - count : 0;
    result->harmed_count = shared->harmed_count + (count > wanted_count ? count - wanted_count : 0);
    result->lost_count = shared->lost_count;
    munmap(shared, sizeof *shared);
    free(crowd);
    *gone = NULL;
}

/* --- what is printed --- */

static double crowd_rate(const struct crowd_result *result)
{
    return result->elapsed_ns == 0 ? 0 : (double)result->delivery_count * 1e9 / (double)result->elapsed_ns;
}

static double crowd_cpu(const struct crowd_result *result)
{
    return result->delivery_count == 0 ? 0 : (double)result->cpu_ns / (double)result->delivery_count;
}

static double crowd_own_cpu(const struct crowd_result *result)
{
    return result->delivery_count == 0 ? 0 : (double)result->own_cpu_ns / (double)result->delivery_count;
}

static double crowd_percentile_us(const struct crowd_result *result, double percent)
{
    return (double)histogram_percentile(&result->latency, percent) / 1e3;
}

static void crowd_print_json(const struct crowd_plan *plan, const struct crowd_result *result)
{
    printf("{\"tool\":\"fanout\",\"way\":\"%s\",\"members\":%u,\"slow\":%u,\"bytes\":%u,\"batch\":%u,\"rate\":%" PRIu64 ",\"seconds\":%.6f",
           result->way, plan->member_count, plan->slow_count, plan->message_bytes, plan->batch_count, plan->rate,
           (double)result->elapsed_ns / 1e9);
    printf(",\"deliveries\":%" PRIu64 ",\"deliveries_per_second\":%.1f,\"cpu_ns_per_delivery\":%.2f,\"receives\":%" PRIu64,
           result->delivery_count, crowd_rate(result), crowd_cpu(result), result->receive_count);
    if (plan->apart)
        printf(",\"publisher_cpu_ns_per_delivery\":%.2f", crowd_own_cpu(result));
    if (result->mean_batch > 0)
        printf(",\"mean_batch\":%.2f", result->mean_batch);
    else
        printf(",\"mean_batch\":null");
    if (plan->timed)
        printf(",\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"max_us\":%.3f", crowd_percentile_us(result, 50),
               crowd_percentile_us(result, 90), crowd_percentile_us(result, 99), (double)result->latency.most_ns / 1e3);
    else
        printf(",\"p50_us\":null,\"p90_us\":null,\"p99_us\":null,\"max_us\":null");
    printf(",\"published\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"missing\":%" PRIu64 ",\"harmed\":%" PRIu64 ",\"lost\":%" PRIu64 "}\n",
           result->published_count, result->refused_count, result->missing_count, result->harmed_count, result->lost_count);
}

static void crowd_print_table(const struct crowd_plan *plan, const struct crowd_result *result)
{
    char text[REPORT_NUMBER_BYTES];
    printf("way          %s\n", result->way);
    printf("load         %s members", report_number(text, plan->member_count, 0));
    if (plan->slow_count > 0)
        printf(" and %s that never read", report_number(text, plan->slow_count, 0));
    printf(", %s bytes, ", report_number(text, plan->message_bytes, 0));
    if (plan->rate > 0)
        printf("%s published each second\n\n", report_number(text, (double)plan->rate, 0));
    else
        printf("%s at a time, as fast as it goes\n\n", report_number(text, plan->batch_count, 0));
    printf("deliveries/s %14s\n", report_number(text, crowd_rate(result), 0));
    printf("CPU          %14s  ns/delivery, the process that sends to the members\n", report_number(text, crowd_cpu(result), 1));
    if (plan->apart)
        printf("CPU          %14s  ns/delivery, the publisher\n", report_number(text, crowd_own_cpu(result), 1));
    if (result->mean_batch > 0)
        printf("mean batch   %14s  messages in a send\n", report_number(text, result->mean_batch, 1));
    for (unsigned i = 0; plan->timed && i < 3; i++)
        printf("p%.0f us       %14s\n", (double[]){50, 90, 99}[i],
               report_number(text, crowd_percentile_us(result, (double[]){50, 90, 99}[i]), 1));
    printf("published    %14s  in the whole run\n", report_number(text, (double)result->published_count, 0));
}

void crowd_print(const struct crowd_plan *plan, const struct crowd_result *result)
{
    if (plan->json)
        crowd_print_json(plan, result);
    else
        crowd_print_table(plan, result);
}

int crowd_judge(const struct crowd_result *result)
{
    if (result->delivery_count > 0 && result->refused_count + result->missing_count + result->harmed_count + result->lost_count == 0)
        return 0;
    fprintf(stderr,
            "%s: %" PRIu64 " deliveries; %" PRIu64 " refused, %" PRIu64 " missing, %" PRIu64 " harmed or out of order, %" PRIu64
            " connections lost\n",
            program_invocation_short_name, result->delivery_count, result->refused_count, result->missing_count, result->harmed_count,
            result->lost_count);
    return 1;
}
