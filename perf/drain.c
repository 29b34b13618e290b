/* SPDX-License-Identifier: MIT */
/* drain: see drain.h.
 *
 * Road:    listen → accept → receive, judge → the interval begins with the first byte and the warm-up → ends → end of stream.
 * Ditches: no connection within 20 s → say so; a frame that is none → counted, the rest is only received; a reset → broken. */
#include "drain.h"

#include "address.h"
#include "message.h"
#include "process.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define DRAIN_ACCEPT_MS      20000
#define DRAIN_RECEIVE_BYTES  (256u * 1024)
#define DRAIN_DROP_BYTES     (4u * 1024 * 1024)
#define DRAIN_PRODUCERS_MOST 131072u

/* Invariant: bytes [0, kept_bytes) of `buffer` are the begin of a frame that is not whole yet, less than one. */
struct drain {
    const struct drain_plan *plan;
    struct drain_result *result;
    int socket;
    bool lost;        /* true exactly when a frame was none, so nobody knows where the next one begins */
    bool measuring;   /* true exactly inside the interval */
    uint64_t from_ns; /* the interval; 0 until the first byte */
    uint64_t until_ns;
    uint64_t began_ns; /* when it really began, and what had been counted by then */
    uint64_t began_cpu_ns;
    uint64_t began_bytes;
    uint64_t began_receives;
    uint64_t receives;
    uint32_t kept_bytes;
    uint8_t *buffer;
    uint8_t *model;      /* a frame as it has to look */
    uint64_t *sequences; /* the next of each producer */
};

bool drain_pin(int cpu)
{
    cpu_set_t cores;
    if (cpu < 0)
        return true;
    CPU_ZERO(&cores);
    CPU_SET((unsigned)cpu, &cores);
    return sched_setaffinity(0, sizeof cores, &cores) == 0;
}

int drain_listen(const char *text, char address[DRAIN_ADDRESS_BYTES])
{
    struct address where;
    int on = 1;
    const char *problem = address_parse(&where, text);
    if (problem != NULL) {
        fprintf(stderr, "weir-perf: '%s' %s\n", text, problem);
        return -1;
    }
    int listener = socket(where.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener >= 0 && address_is_tcp(&where))
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&where.storage, where.storage_bytes) != 0 || listen(listener, 16) != 0) {
        fprintf(stderr, "weir-perf: cannot listen on %s: %s\n", text, strerror(errno));
        if (listener >= 0)
            close(listener);
        return -1;
    }
    snprintf(address, DRAIN_ADDRESS_BYTES, "%s", text);
    if (!address_is_tcp(&where))
        return listener;
    char host[64], port[16];
    where.storage_bytes = sizeof where.storage;
    getsockname(listener, (struct sockaddr *)&where.storage, &where.storage_bytes);
    getnameinfo((const struct sockaddr *)&where.storage, where.storage_bytes, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(address, DRAIN_ADDRESS_BYTES, where.storage.ss_family == AF_INET6 ? "tcp://[%s]:%s" : "tcp://%s:%s", host, port);
    return listener;
}

/* --- the interval --- */

static void drain_interval_begin(struct drain *drain, uint64_t now_ns)
{
    drain->measuring = true;
    drain->began_ns = now_ns;
    drain->began_cpu_ns = process_own_cpu_ns();
    drain->began_bytes = drain->result->total_bytes;
    drain->began_receives = drain->receives;
}

static void drain_interval_end(struct drain *drain, uint64_t now_ns)
{
    struct drain_result *result = drain->result;
    drain->measuring = false;
    drain->from_ns = UINT64_MAX;
    result->elapsed_ns = now_ns - drain->began_ns;
    result->cpu_ns = process_own_cpu_ns() - drain->began_cpu_ns;
    result->byte_count = result->total_bytes - drain->began_bytes;
    result->receive_count = drain->receives - drain->began_receives;
}

static void drain_interval(struct drain *drain, uint64_t now_ns)
{
    if (drain->from_ns == 0) {
        drain->from_ns = now_ns + drain->plan->warmup_ns;
        drain->until_ns = drain->from_ns + drain->plan->measure_ns;
    }
    if (drain->measuring && now_ns >= drain->until_ns)
        drain_interval_end(drain, now_ns);
    else if (!drain->measuring && now_ns >= drain->from_ns)
        drain_interval_begin(drain, now_ns);
}

/* --- looking --- */

/* One whole frame. */
static void drain_judge(struct drain *drain, const uint8_t *frame, uint64_t now_ns)
{
    struct drain_result *result = drain->result;
    uint32_t bytes = drain->plan->message_bytes;
    uint32_t producer = message_get_small(frame, MESSAGE_PRODUCER_AT);
    if (message_get_small(frame, 0) != bytes || producer >= DRAIN_PRODUCERS_MOST) {
        result->torn_count++;
        drain->lost = true;
        return;
    }
    uint64_t sequence = message_get(frame, MESSAGE_SEQUENCE_AT);
    if (sequence != drain->sequences[producer])
        result->order_count++;
    drain->sequences[producer] = sequence + 1;
    if (memcmp(frame + MESSAGE_FILLER_AT, drain->model + MESSAGE_FILLER_AT, MESSAGE_HEAD_BYTES + bytes - MESSAGE_FILLER_AT) != 0)
        result->harmed_count++;
    uint64_t stamp_ns = message_get(frame, MESSAGE_STAMP_AT);
    if (stamp_ns != 0 && drain->measuring && stamp_ns >= drain->began_ns)
        histogram_record(&result->latency, now_ns > stamp_ns ? now_ns - stamp_ns : 0);
    result->total_messages++;
}

/* `bytes` have come behind the kept ones. */
static void drain_look(struct drain *drain, uint32_t bytes, uint64_t now_ns)
{
    uint32_t frame_bytes = MESSAGE_HEAD_BYTES + drain->plan->message_bytes;
    uint32_t at = 0;
    uint32_t end = drain->kept_bytes + bytes;
    for (; !drain->lost && end - at >= frame_bytes; at += frame_bytes)
        drain_judge(drain, drain->buffer + at, now_ns);
    drain->kept_bytes = drain->lost ? 0 : end - at;
    memmove(drain->buffer, drain->buffer + at, drain->kept_bytes);
}

/* --- receiving --- */

static ssize_t drain_receive(const struct drain *drain)
{
    int flags = (drain->plan->drop ? MSG_TRUNC : 0) | (drain->plan->spin ? MSG_DONTWAIT : 0);
    for (;;) {
        ssize_t count = drain->plan->drop ? recv(drain->socket, drain->buffer, DRAIN_DROP_BYTES, flags)
                                          : recv(drain->socket, drain->buffer + drain->kept_bytes, DRAIN_RECEIVE_BYTES, flags);
        if (count >= 0 || (errno != EINTR && errno != EAGAIN))
            return count;
    }
}

static void drain_run(struct drain *drain)
{
    struct drain_result *result = drain->result;
    uint32_t frame_bytes = MESSAGE_HEAD_BYTES + drain->plan->message_bytes;
    ssize_t count;
    while ((count = drain_receive(drain)) > 0) {
        uint64_t now_ns = process_now_ns();
        drain->receives++;
        drain_interval(drain, now_ns);
        result->total_bytes += (uint64_t)count;
        if (!drain->plan->drop)
            drain_look(drain, (uint32_t)count, now_ns);
    }
    if (drain->measuring)
        drain_interval_end(drain, process_now_ns());
    result->broken = count < 0;
    if (drain->plan->drop)
        result->total_messages = result->total_bytes / frame_bytes;
    if (drain->plan->drop ? result->total_bytes % frame_bytes != 0 : drain->kept_bytes > 0)
        result->torn_count++;
}

bool drain_one(int listener, const struct drain_plan *plan, struct drain_result *result)
{
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    struct drain drain = {.plan = plan, .result = result};
    memset(result, 0, sizeof *result);
    if (poll(&wait, 1, DRAIN_ACCEPT_MS) <= 0 || (drain.socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
        fprintf(stderr, "weir-perf: nobody connected to the sink\n");
        return false;
    }
    drain.buffer = malloc(DRAIN_DROP_BYTES);
    drain.model = malloc(MESSAGE_HEAD_BYTES + plan->message_bytes);
    drain.sequences = calloc(DRAIN_PRODUCERS_MOST, sizeof *drain.sequences);
    bool ready = drain.buffer != NULL && drain.model != NULL && drain.sequences != NULL;
    if (ready) {
        message_make(drain.model, 0, plan->message_bytes);
        drain_run(&drain);
    } else {
        fprintf(stderr, "weir-perf: no memory for the sink\n");
    }
    close(drain.socket);
    free(drain.buffer);
    free(drain.model);
    free(drain.sequences);
    return ready;
}

/* --- what is printed --- */

double drain_rate(const struct drain_plan *plan, const struct drain_result *result)
{
    double messages = (double)result->byte_count / (MESSAGE_HEAD_BYTES + plan->message_bytes);
    return result->elapsed_ns == 0 ? 0 : messages * 1e9 / (double)result->elapsed_ns;
}

uint64_t drain_faults(const struct drain_result *result)
{
    return result->torn_count + result->harmed_count + result->order_count + result->broken;
}

static double drain_cpu_share(const struct drain_result *result)
{
    return result->elapsed_ns == 0 ? 0 : (double)result->cpu_ns / (double)result->elapsed_ns;
}

void drain_print_json(FILE *file, const struct drain_plan *plan, const struct drain_result *result)
{
    const struct histogram *latency = &result->latency;
    fprintf(file, "{\"tool\":\"sink\",\"bytes\":%u,\"seconds\":%.6f,\"messages_per_second\":%.1f", plan->message_bytes,
            (double)result->elapsed_ns / 1e9, drain_rate(plan, result));
    fprintf(file, ",\"receives\":%" PRIu64 ",\"cpu_share\":%.3f", result->receive_count, drain_cpu_share(result));
    if (latency->count > 0)
        fprintf(file, ",\"samples\":%" PRIu64 ",\"p50_us\":%.3f,\"p99_us\":%.3f,\"max_us\":%.3f", latency->count,
                (double)histogram_percentile(latency, 50) / 1e3, (double)histogram_percentile(latency, 99) / 1e3,
                (double)latency->most_ns / 1e3);
    else
        fprintf(file, ",\"samples\":0,\"p50_us\":null,\"p99_us\":null,\"max_us\":null");
    fprintf(file, ",\"messages_total\":%" PRIu64 ",\"bytes_total\":%" PRIu64, result->total_messages, result->total_bytes);
    fprintf(file, ",\"torn\":%" PRIu64 ",\"harmed\":%" PRIu64 ",\"out_of_order\":%" PRIu64 ",\"broken\":%s}", result->torn_count,
            result->harmed_count, result->order_count, result->broken ? "true" : "false");
}

void drain_print_table(FILE *file, const struct drain_plan *plan, const struct drain_result *result)
{
    char text[REPORT_NUMBER_BYTES];
    fprintf(file, "received/s   %14s  messages, ", report_number(text, drain_rate(plan, result), 0));
    fprintf(file, "%s bytes a receive, ",
            report_number(text, result->receive_count == 0 ? 0 : (double)result->byte_count / (double)result->receive_count, 0));
    fprintf(file, "%.0f %% of a core\n", 100 * drain_cpu_share(result));
    if (result->latency.count > 0) {
        fprintf(file, "p50 us       %14s  from the send call to the sink\n",
                report_number(text, (double)histogram_percentile(&result->latency, 50) / 1e3, 1));
        fprintf(file, "p99 us       %14s\n", report_number(text, (double)histogram_percentile(&result->latency, 99) / 1e3, 1));
        fprintf(file, "max us       %14s\n", report_number(text, (double)result->latency.most_ns / 1e3, 1));
    }
    fprintf(file, "received     %14s  messages in all\n", report_number(text, (double)result->total_messages, 0));
    fprintf(file, "faults       %14" PRIu64, drain_faults(result));
    if (drain_faults(result) > 0)
        fprintf(file, "  torn %" PRIu64 ", harmed %" PRIu64 ", out of order %" PRIu64 "%s", result->torn_count, result->harmed_count,
                result->order_count, result->broken ? ", connection broken" : "");
    fputs(plan->drop ? "  (only the bytes were counted)\n" : "  (every frame was looked at)\n", file);
}

/* --- as a child process --- */

bool drain_start(struct drain_child *child, const struct drain_plan *plan)
{
    *child = (struct drain_child){0};
    int listener = drain_listen("tcp://127.0.0.1:0", child->address);
    if (listener < 0)
        return false;
    child->result = mmap(NULL, sizeof *child->result, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (child->result != MAP_FAILED)
        child->process = fork();
    if (child->result == MAP_FAILED || child->process < 0) {
        fprintf(stderr, "weir-perf: no sink: %s\n", strerror(errno));
        close(listener);
        return false;
    }
    if (child->process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!drain_pin(plan->cpu))
            fprintf(stderr, "weir-perf: the sink may not use core %d\n", plan->cpu);
        _exit(drain_one(listener, plan, child->result) ? 0 : 1);
    }
    close(listener);
    return true;
}

bool drain_join(struct drain_child *child)
{
    int status = 0;
    bool ended = waitpid(child->process, &status, 0) == child->process && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!ended)
        drain_free(child);
    return ended;
}

void drain_free(struct drain_child *child)
{
    if (child->result != NULL)
        munmap(child->result, sizeof *child->result);
    child->result = NULL;
}
