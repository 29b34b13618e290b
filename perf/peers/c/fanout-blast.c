/* SPDX-License-Identifier: MIT */
/* fanout-blast: what a fan-out can be at most: one thread sends the same ready frames to each member in turn, with blocking sends, as many at once as
 * others may have under way. There is no queue, no copy for a member, nothing to wake; one member that does not read would stop it. */
#include "perf/crowd.h"
#include "perf/flight.h"
#include "perf/message.h"
#include "perf/process.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define SPARE_DESCRIPTORS 64

struct blast {
    struct crowd_plan plan;
    int *members;
    uint8_t *frames; /* so many, sent at once */
    uint32_t frame_count;
    size_t frame_bytes;
    uint64_t published_count;
    atomic_bool stopping;
};

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "fanout-blast: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void send_all(int descriptor, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t sent = send(descriptor, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            die("send");
        if (sent > 0) {
            bytes += sent;
            count -= (size_t)sent;
        }
    }
}

static void *blast_run(void *argument)
{
    struct blast *blast = argument;
    flight_pin(blast->plan.cores[0]);
    uint64_t begun_ns = process_now_ns();
    while (!atomic_load_explicit(&blast->stopping, memory_order_relaxed)) {
        if (blast->plan.rate > 0) {
            uint64_t due_ns = begun_ns + (uint64_t)((double)blast->published_count * 1e9 / (double)blast->plan.rate);
            if (due_ns > process_now_ns())
                continue;
            message_put(blast->frames, MESSAGE_STAMP_AT, due_ns);
        }
        for (uint32_t i = 0; i < blast->frame_count; i++)
            message_put(blast->frames + i * blast->frame_bytes, MESSAGE_SEQUENCE_AT, blast->published_count++);
        for (uint32_t i = 0; i < blast->plan.member_count; i++)
            send_all(blast->members[i], blast->frames, blast->frame_count * blast->frame_bytes);
    }
    return NULL;
}

static int blast_listen(char *text, size_t text_bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_bytes = sizeof address;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0 ||
        setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &address_bytes) != 0)
        die("listen");
    snprintf(text, text_bytes, "tcp://127.0.0.1:%u", ntohs(address.sin_port));
    return listener;
}

/* Members are accepted while they connect. */
static void *blast_accept(void *argument)
{
    struct blast *blast = argument;
    int listener = blast->members[0];
    for (uint32_t i = 0; i < blast->plan.member_count; i++) {
        blast->members[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (blast->members[i] < 0)
            die("accept");
    }
    for (uint32_t i = 0; i < blast->plan.member_count; i++) { /* they come when all are connected */
        uint8_t hello[MESSAGE_HEAD_BYTES + 1];
        if (recv(blast->members[i], hello, sizeof hello, MSG_WAITALL) != (ssize_t)sizeof hello)
            die("hello");
    }
    close(listener);
    return NULL;
}

static void blast_open(struct blast *blast, struct crowd *crowd)
{
    char address[64];
    pthread_t acceptor;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < blast->plan.member_count + SPARE_DESCRIPTORS) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    blast->frame_count = blast->plan.rate > 0 ? 1 : blast->plan.batch_count * CROWD_BATCHES;
    blast->frame_bytes = MESSAGE_HEAD_BYTES + blast->plan.message_bytes;
    blast->members = calloc(blast->plan.member_count, sizeof *blast->members);
    blast->frames = malloc(blast->frame_count * blast->frame_bytes + MESSAGE_FILLER_AT);
    if (blast->members == NULL || blast->frames == NULL)
        die("memory");
    for (uint32_t i = 0; i < blast->frame_count; i++)
        message_make(blast->frames + i * blast->frame_bytes, 0, blast->plan.message_bytes);
    blast->members[0] = blast_listen(address, sizeof address);
    if (pthread_create(&acceptor, NULL, blast_accept, blast) != 0)
        die("pthread_create");
    if (!crowd_connect(crowd, address))
        exit(1);
    pthread_join(acceptor, NULL);
}

static error_t blast_parse(int key, char *text, struct argp_state *state)
{
    struct crowd_plan *plan = state->input;
    (void)text;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = plan;
        return 0;
    }
    if (key != ARGP_KEY_END)
        return ARGP_ERR_UNKNOWN;
    if (plan->slow_count > 0)
        argp_error(state, "--slow: a member that never reads would stop it");
    if (plan->rate > 0)
        plan->batch_count = 1;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp_child children[] = {{.argp = &crowd_argp}, {0}};
    static const struct argp argp = {.parser = blast_parse,
                                     .children = children,
                                     .doc = "One thread sends ready batches to many members in turn: the limit of a fan-out."};
    static struct crowd_result result = {.way = "blast"};
    struct blast blast = {.frames = NULL};
    pthread_t thread;
    argp_err_exit_status = 2;
    if (!crowd_plan_init(&blast.plan))
        return 1;
    argp_parse(&argp, argc, argv, 0, NULL, &blast.plan);
    struct crowd *crowd = crowd_start(&blast.plan);
    blast_open(&blast, crowd);
    if (pthread_create(&thread, NULL, blast_run, &blast) != 0)
        die("pthread_create");
    crowd_warm_up(crowd);
    crowd_measure(crowd, &result);
    atomic_store(&blast.stopping, true);
    pthread_join(thread, NULL);
    crowd_expect_end(crowd);
    for (uint32_t i = 0; i < blast.plan.member_count; i++)
        close(blast.members[i]);
    result.published_count = blast.published_count;
    result.mean_batch = blast.frame_count;
    crowd_stop(&crowd, &result);
    crowd_print(&blast.plan, &result);
    free(blast.frames);
    free(blast.members);
    return crowd_judge(&result);
}
