/* SPDX-License-Identifier: MIT */
/* drain: see drain.h.
 *
 * Road:    listen → accept all → receive, judge → the interval begins with the first byte and the warm-up → ends → all streams end.
 * Ditches: a connection does not come within 20 s → say so; bytes that are no frame → counted, looked past; a reset → broken. */
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
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DRAIN_ACCEPT_MS     20000
#define DRAIN_BACKLOG       4096
#define DRAIN_RECEIVE_BYTES (256u * 1024)
#define DRAIN_DROP_BYTES    (4u * 1024 * 1024)
#define DRAIN_SLOW_PART     200 /* a slow one takes a second's bytes in so many pieces */
#define DRAIN_BEFORE_NS     1000000000u
#define DRAIN_EVENTS        256
#define DRAIN_SPARE         64 /* descriptors for all else */

enum drain_stall {
    DRAIN_STALL_AHEAD,
    DRAIN_STALL_NOW,
    DRAIN_STALL_OVER, /* or never */
};

struct drain_source {
    int socket; /* -1: at its end */
    uint64_t byte_count;
};

struct drain {
    const struct drain_plan *plan;
    struct drain_result *result;
    struct drain_source *sources;
    struct judge judge; /* created exactly when nothing is dropped */
    uint8_t *buffer;
    int epoll;
    uint32_t open_count;
    uint32_t current; /* the source whose bytes are looked at, and when they came */
    uint64_t current_ns;
    uint64_t slow_ns; /* a slow one reads on then */
    bool measuring;   /* true exactly inside the interval */
    uint64_t from_ns; /* the interval; 0 until the first byte */
    uint64_t until_ns;
    uint64_t began_ns; /* when it really began, and what had been counted by then */
    uint64_t began_cpu_ns;
    uint64_t began_bytes;
    uint64_t began_receives;
    uint64_t receives;
    enum drain_stall stall;
    uint64_t before_ns; /* the window before the stall; UINT64_MAX until the first byte, as the next two */
    uint64_t stall_from_ns;
    uint64_t stall_until_ns;
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

int drain_listen(const struct drain_plan *plan, const char *text, char address[DRAIN_ADDRESS_BYTES])
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
    if (listener >= 0 && plan->receive_bytes > 0)
        setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &plan->receive_bytes, sizeof plan->receive_bytes); /* its connections inherit it */
    if (listener < 0 || bind(listener, (const struct sockaddr *)&where.storage, where.storage_bytes) != 0 ||
        listen(listener, DRAIN_BACKLOG) != 0) {
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

bool drain_descriptors(uint32_t count)
{
    struct rlimit limit;
    uint64_t wanted = (uint64_t)count + DRAIN_SPARE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return true;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= wanted)
        return true;
    fprintf(stderr, "weir-perf: %u connections need %" PRIu64 " descriptors, and the hard limit is %" PRIu64 " (ulimit -Hn)\n", count,
            wanted, (uint64_t)limit.rlim_max);
    return false;
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

static void drain_stall_plan(struct drain *drain)
{
    const struct drain_plan *plan = drain->plan;
    uint64_t ahead_ns = plan->measure_ns > plan->stall_ns ? (plan->measure_ns - plan->stall_ns) / 2 : 0;
    drain->stall_from_ns = drain->from_ns + ahead_ns;
    drain->stall_until_ns = drain->stall_from_ns + plan->stall_ns;
    drain->before_ns = drain->stall_from_ns - (ahead_ns < DRAIN_BEFORE_NS ? ahead_ns : DRAIN_BEFORE_NS);
    drain->result->before.elapsed_ns = drain->stall_from_ns - drain->before_ns;
    drain->result->others.elapsed_ns = plan->stall_ns;
    drain->result->stalled.elapsed_ns = plan->stall_ns;
}

static void drain_interval(struct drain *drain, uint64_t now_ns)
{
    if (drain->from_ns == 0) {
        drain->from_ns = now_ns + drain->plan->warmup_ns;
        drain->until_ns = drain->from_ns + drain->plan->measure_ns;
        if (drain->plan->stall_ns > 0)
            drain_stall_plan(drain);
    }
    if (drain->measuring && now_ns >= drain->until_ns)
        drain_interval_end(drain, now_ns);
    else if (!drain->measuring && now_ns >= drain->from_ns)
        drain_interval_begin(drain, now_ns);
}

/* The window that a time falls into, of the source that is looked at; NULL: none. */
static struct drain_window *drain_window(struct drain *drain, uint64_t at_ns)
{
    bool first = drain->current == 0;
    if (at_ns < drain->before_ns || at_ns >= drain->stall_until_ns)
        return NULL;
    if (at_ns >= drain->stall_from_ns)
        return first ? &drain->result->stalled : &drain->result->others;
    return first ? NULL : &drain->result->before;
}

static void drain_stamped(void *user, uint64_t stamp_ns)
{
    struct drain *drain = user;
    uint64_t late_ns = drain->current_ns > stamp_ns ? drain->current_ns - stamp_ns : 0;
    struct drain_window *window = drain_window(drain, stamp_ns);
    if (drain->measuring && stamp_ns >= drain->began_ns)
        histogram_record(&drain->result->latency, late_ns);
    if (window != NULL)
        histogram_record(&window->latency, late_ns);
}

/* --- receiving --- */

static void drain_sleep_until(uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* What came, 0 at the end, or -1; -1 with EAGAIN only when it may not wait. */
static ssize_t drain_receive(const struct drain *drain, int socket, bool wait)
{
    const struct drain_plan *plan = drain->plan;
    size_t most = plan->drop ? DRAIN_DROP_BYTES : DRAIN_RECEIVE_BYTES;
    int flags = (plan->drop ? MSG_TRUNC : 0) | (plan->spin || !wait ? MSG_DONTWAIT : 0);
    if (plan->slow_bytes > 0 && plan->slow_bytes / DRAIN_SLOW_PART < most)
        most = plan->slow_bytes / DRAIN_SLOW_PART + 1;
    for (;;) {
        ssize_t count = recv(socket, drain->buffer + JUDGE_SPARE_BYTES, most, flags);
        if (count >= 0 || (errno != EINTR && (errno != EAGAIN || !wait)))
            return count;
    }
}

static void drain_over(struct drain *drain, struct drain_source *source, bool broken)
{
    drain->result->broken_count += broken;
    if (drain->plan->drop) {
        struct judge_count *count = &drain->result->judged;
        uint32_t frame_bytes = MESSAGE_HEAD_BYTES + drain->plan->message_bytes;
        count->messages += source->byte_count / frame_bytes;
        count->torn += source->byte_count % frame_bytes != 0;
    }
    close(source->socket);
    source->socket = -1;
    drain->open_count--;
}

/* One receive. */
static void drain_take(struct drain *drain, uint32_t number, bool wait)
{
    struct drain_source *source = &drain->sources[number];
    struct drain_result *result = drain->result;
    ssize_t count = drain_receive(drain, source->socket, wait);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        drain_over(drain, source, count < 0);
        return;
    }
    uint64_t now_ns = process_now_ns();
    drain->current = number;
    drain->current_ns = now_ns;
    drain->receives++;
    drain_interval(drain, now_ns);
    result->total_bytes += (uint64_t)count;
    source->byte_count += (uint64_t)count;
    struct drain_window *window = drain_window(drain, now_ns);
    if (window != NULL)
        window->byte_count += (uint64_t)count;
    if (!drain->plan->drop)
        judge_look(&drain->judge, &drain->judge.streams[number], drain->buffer + JUDGE_SPARE_BYTES, (uint32_t)count, drain);
    if (drain->plan->slow_bytes > 0) {
        drain->slow_ns = (drain->slow_ns > now_ns ? drain->slow_ns : now_ns) + (uint64_t)count * 1000000000u / drain->plan->slow_bytes;
        drain_sleep_until(drain->slow_ns);
    }
}

/* Of one connection: a blocking receive is all it takes. */
static void drain_run_one(struct drain *drain)
{
    while (drain->open_count > 0) {
        drain_take(drain, 0, true);
        if (drain->stall == DRAIN_STALL_AHEAD && process_now_ns() >= drain->stall_from_ns) {
            drain->stall = DRAIN_STALL_OVER;
            drain_sleep_until(drain->stall_until_ns);
        }
    }
}

static void drain_watch(struct drain *drain, uint32_t number, int operation)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    if (drain->sources[number].socket >= 0)
        epoll_ctl(drain->epoll, operation, drain->sources[number].socket, &event);
}

/* Lets the first connection lie, and takes it up again; how long until the next of the two, in ms as epoll counts them. */
static int drain_stall(struct drain *drain)
{
    if (drain->stall == DRAIN_STALL_OVER || drain->from_ns == 0)
        return -1;
    uint64_t now_ns = process_now_ns();
    if (drain->stall == DRAIN_STALL_AHEAD && now_ns >= drain->stall_from_ns) {
        drain->stall = DRAIN_STALL_NOW;
        drain_watch(drain, 0, EPOLL_CTL_DEL);
    }
    if (drain->stall == DRAIN_STALL_NOW && now_ns >= drain->stall_until_ns) {
        drain->stall = DRAIN_STALL_OVER;
        drain_watch(drain, 0, EPOLL_CTL_ADD);
        return -1;
    }
    uint64_t next_ns = drain->stall == DRAIN_STALL_NOW ? drain->stall_until_ns : drain->stall_from_ns;
    return (int)((next_ns - now_ns) / 1000000u) + 1;
}

static void drain_run_many(struct drain *drain)
{
    struct epoll_event events[DRAIN_EVENTS];
    for (uint32_t i = 0; i < drain->plan->connection_count; i++)
        drain_watch(drain, i, EPOLL_CTL_ADD);
    while (drain->open_count > 0) {
        int wait_ms = drain_stall(drain);
        int count = epoll_wait(drain->epoll, events, DRAIN_EVENTS, drain->plan->spin ? 0 : wait_ms);
        for (int i = 0; i < count; i++)
            drain_take(drain, events[i].data.u32, false);
    }
}

static void drain_run(struct drain *drain)
{
    struct drain_result *result = drain->result;
    drain->open_count = drain->plan->connection_count;
    if (drain->plan->connection_count == 1)
        drain_run_one(drain);
    else
        drain_run_many(drain);
    if (drain->measuring)
        drain_interval_end(drain, process_now_ns());
    if (drain->plan->drop)
        return;
    judge_end(&drain->judge);
    result->judged = drain->judge.count;
}

/* --- the connections --- */

static bool drain_accept(struct drain *drain, int listener)
{
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    for (uint32_t i = 0; i < drain->plan->connection_count; i++) {
        int ready;
        while ((ready = poll(&wait, 1, i == 0 && drain->plan->patient ? -1 : DRAIN_ACCEPT_MS)) < 0 && errno == EINTR)
            ;
        drain->sources[i].socket = ready > 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (drain->sources[i].socket >= 0)
            continue;
        if (i == 0)
            fprintf(stderr, "weir-perf: nobody connected to the sink\n");
        else
            fprintf(stderr, "weir-perf: of %u connections %u came to the sink\n", drain->plan->connection_count, i);
        return false;
    }
    return true;
}

static bool drain_prepare(struct drain *drain)
{
    const struct drain_plan *plan = drain->plan;
    drain->sources = calloc(plan->connection_count, sizeof *drain->sources);
    drain->buffer = malloc(JUDGE_SPARE_BYTES + DRAIN_DROP_BYTES);
    drain->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; drain->sources != NULL && i < plan->connection_count; i++)
        drain->sources[i].socket = -1;
    bool judges = plan->drop || judge_create(&drain->judge, plan->message_bytes, plan->connection_count, drain_stamped);
    if (drain->sources != NULL && drain->buffer != NULL && drain->epoll >= 0 && judges)
        return true;
    fprintf(stderr, "weir-perf: no memory or no descriptor for the sink\n");
    return false;
}

bool drain_once(int listener, const struct drain_plan *plan, struct drain_result *result)
{
    struct drain drain = {.plan = plan,
                          .result = result,
                          .stall = plan->stall_ns > 0 ? DRAIN_STALL_AHEAD : DRAIN_STALL_OVER,
                          .before_ns = UINT64_MAX,
                          .stall_from_ns = UINT64_MAX,
                          .stall_until_ns = UINT64_MAX};
    memset(result, 0, sizeof *result);
    bool good = drain_descriptors(plan->connection_count) && drain_prepare(&drain) && drain_accept(&drain, listener);
    if (good)
        drain_run(&drain);
    for (uint32_t i = 0; drain.sources != NULL && i < plan->connection_count; i++)
        if (drain.sources[i].socket >= 0)
            close(drain.sources[i].socket);
    if (drain.epoll > 0)
        close(drain.epoll);
    judge_destroy(&drain.judge);
    free(drain.sources);
    free(drain.buffer);
    return good;
}

/* --- what is printed --- */

static double drain_per_second(const struct drain_plan *plan, uint64_t byte_count, uint64_t elapsed_ns)
{
    double messages = (double)byte_count / (MESSAGE_HEAD_BYTES + plan->message_bytes);
    return elapsed_ns == 0 ? 0 : messages * 1e9 / (double)elapsed_ns;
}

double drain_rate(const struct drain_plan *plan, const struct drain_result *result)
{
    return drain_per_second(plan, result->byte_count, result->elapsed_ns);
}

uint64_t drain_faults(const struct drain_plan *plan, const struct drain_result *result)
{
    const struct judge_count *judged = &result->judged;
    return judged->torn + judged->harmed + judged->disordered + (plan->gaps ? 0 : judged->missing) + result->broken_count;
}

static double drain_cpu_share(const struct drain_result *result)
{
    return result->elapsed_ns == 0 ? 0 : (double)result->cpu_ns / (double)result->elapsed_ns;
}

static void drain_print_latency(FILE *file, const char *prefix, const struct histogram *latency)
{
    fprintf(file, ",\"%ssamples\":%" PRIu64, prefix, latency->count);
    if (latency->count == 0)
        fprintf(file, ",\"%sp50_us\":null,\"%sp99_us\":null,\"%smax_us\":null", prefix, prefix, prefix);
    else
        fprintf(file, ",\"%sp50_us\":%.3f,\"%sp99_us\":%.3f,\"%smax_us\":%.3f", prefix, (double)histogram_percentile(latency, 50) / 1e3,
                prefix, (double)histogram_percentile(latency, 99) / 1e3, prefix, (double)latency->most_ns / 1e3);
}

static void drain_print_window(FILE *file, const struct drain_plan *plan, const char *prefix, const struct drain_window *window)
{
    fprintf(file, ",\"%smessages_per_second\":%.1f", prefix, drain_per_second(plan, window->byte_count, window->elapsed_ns));
    drain_print_latency(file, prefix, &window->latency);
}

void drain_print_json(FILE *file, const struct drain_plan *plan, const struct drain_result *result)
{
    const struct judge_count *judged = &result->judged;
    fprintf(file, "{\"tool\":\"sink\",\"connections\":%u,\"bytes\":%u,\"seconds\":%.6f,\"messages_per_second\":%.1f",
            plan->connection_count, plan->message_bytes, (double)result->elapsed_ns / 1e9, drain_rate(plan, result));
    fprintf(file, ",\"receives\":%" PRIu64 ",\"cpu_share\":%.3f", result->receive_count, drain_cpu_share(result));
    drain_print_latency(file, "", &result->latency);
    fprintf(file, ",\"messages_total\":%" PRIu64 ",\"bytes_total\":%" PRIu64, judged->messages, result->total_bytes);
    fprintf(file, ",\"torn\":%" PRIu64 ",\"skipped_bytes\":%" PRIu64 ",\"harmed\":%" PRIu64 ",\"out_of_order\":%" PRIu64, judged->torn,
            judged->skipped_bytes, judged->harmed, judged->disordered);
    fprintf(file, ",\"missing\":%" PRIu64 ",\"broken\":%" PRIu64, judged->missing, result->broken_count);
    if (plan->stall_ns > 0) {
        fprintf(file, ",\"stall\":{\"seconds\":%.3f", (double)plan->stall_ns / 1e9);
        drain_print_window(file, plan, "others_", &result->others);
        drain_print_window(file, plan, "stalled_", &result->stalled);
        fprintf(file, ",\"before_seconds\":%.3f", (double)result->before.elapsed_ns / 1e9);
        drain_print_window(file, plan, "before_", &result->before);
        fputc('}', file);
    }
    fputc('}', file);
}

static void drain_print_row(FILE *file, const struct drain_plan *plan, const char *name, const struct drain_window *window)
{
    char text[3][REPORT_NUMBER_BYTES];
    const struct histogram *latency = &window->latency;
    fprintf(file, "  %-10s %14s  messages/s", name,
            report_number(text[0], drain_per_second(plan, window->byte_count, window->elapsed_ns), 0));
    if (latency->count > 0)
        fprintf(file, ", p50 %s, p99 %s, max %s us", report_number(text[0], (double)histogram_percentile(latency, 50) / 1e3, 1),
                report_number(text[1], (double)histogram_percentile(latency, 99) / 1e3, 1),
                report_number(text[2], (double)latency->most_ns / 1e3, 1));
    fputc('\n', file);
}

static void drain_print_stall(FILE *file, const struct drain_plan *plan, const struct drain_result *result)
{
    fprintf(file, "%.3g s in which the first connection was not read; by when a message was sent:\n", (double)plan->stall_ns / 1e9);
    drain_print_row(file, plan, "others", &result->others);
    drain_print_row(file, plan, "before", &result->before);
    drain_print_row(file, plan, "the first", &result->stalled);
}

void drain_print_table(FILE *file, const struct drain_plan *plan, const struct drain_result *result)
{
    const struct judge_count *judged = &result->judged;
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
    if (plan->stall_ns > 0)
        drain_print_stall(file, plan, result);
    fprintf(file, "received     %14s  messages in all\n", report_number(text, (double)judged->messages, 0));
    fprintf(file, "faults       %14" PRIu64, drain_faults(plan, result));
    if (drain_faults(plan, result) > 0)
        fprintf(file,
                "  torn %" PRIu64 " (%" PRIu64 " bytes skipped), harmed %" PRIu64 ", out of order %" PRIu64 ", missing %" PRIu64
                ", broken %" PRIu64,
                judged->torn, judged->skipped_bytes, judged->harmed, judged->disordered, judged->missing, result->broken_count);
    fputs(plan->drop ? "  (only the bytes were counted)\n" : "  (every frame was looked at)\n", file);
}

/* --- as a child process --- */

bool drain_start(struct drain_child *child, const struct drain_plan *plan)
{
    *child = (struct drain_child){0};
    int listener = drain_listen(plan, "tcp://127.0.0.1:0", child->address);
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
        _exit(drain_once(listener, plan, child->result) ? 0 : 1);
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
