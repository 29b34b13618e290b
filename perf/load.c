/* SPDX-License-Identifier: MIT */
/* load: see load.h.
 *
 * Road:    dial all → warm up → measure → stop launching, wait for what is under way → count what never came.
 *          A message is due (open loop: by its time) → launched (there is room in the depth) → sent → answered.
 *          A turn takes a batch of events; each readable link is read once, then writes all that it may in one call.
 * Ditches: short write → the edge-triggered EPOLLOUT goes on with it; a wrong byte → counted, once for each message;
 *          an answer to nothing, a close, a reset → the link is lost, the others go on; all lost → the run ends;
 *          no answer → after the grace its age is counted as its latency, so that a stall cannot hide. */
#include "load.h"

#include "dial.h"
#include "process.h"
#include "report.h"
#include "upgrade.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LOAD_EVENTS      128
#define LOAD_READ_BYTES  65536u /* larger reads leave the nearer caches and get slower */
#define LOAD_WRITE_BYTES 262144u
#define LOAD_GRACE_NS    2000000000ull
#define LOAD_PROGRESS_NS 250000000ull
#define LOAD_NEVER       UINT64_MAX
#define LOAD_INTEREST    (EPOLLIN | EPOLLOUT | EPOLLET)
#define LOAD_READ_EVENTS (EPOLLIN | EPOLLERR | EPOLLHUP)

/* Message k of link i has the number k * connections + i: a link's own are connections apart, and no two are alike.
 * Invariant: answered_count <= sent_count <= launched_count <= answered_count + depth, and launched_count <= due_count. */
struct load_link {
    int socket;              /* -1: lost */
    uint32_t index;          /* i */
    uint32_t sent_bytes;     /* of message sent_count, when a write ended inside it */
    uint32_t answered_bytes; /* of message answered_count */
    uint64_t due_count;      /* closed loop: as many as you like */
    uint64_t launched_count; /* may be written */
    uint64_t sent_count;     /* written whole */
    uint64_t answered_count; /* received whole */
    bool flawed;             /* true exactly when message answered_count has shown a wrong byte */
    bool waiting;            /* true exactly when it stands in the list of links that have become due in this turn */
};

struct load {
    const struct load_plan *plan;
    struct load_result *result;
    struct pattern pattern;
    struct load_link *links;
    struct load_link **waiting; /* open loop: links with a message that became due in this turn */
    uint64_t *launched_ns;      /* closed loop: a ring of `depth` for each link */
    uint8_t *buffer;
    int epoll;
    uint32_t waiting_count;
    uint32_t live_count;
    uint64_t under_way_count; /* launched and not answered, on links not lost */
    bool launching;
    uint64_t start_ns;
    uint64_t begin_ns; /* of the measured interval; LOAD_NEVER until then */
    uint64_t end_ns;
    uint64_t due_total; /* open loop: the next number */
    double period_ns;
    uint64_t shown_ns; /* when progress was shown, and how many answers there had been */
    uint64_t shown_count;
    uint64_t answered_total;
};

static uint64_t load_due_ns(const struct load *load, uint64_t number)
{
    return load->start_ns + (uint64_t)((double)number * load->period_ns);
}

static uint64_t load_number(const struct load *load, const struct load_link *link, uint64_t k)
{
    return k * load->plan->connections + link->index;
}

static uint64_t *load_launched_ns(const struct load *load, const struct load_link *link, uint64_t k)
{
    return &load->launched_ns[(size_t)link->index * load->plan->depth + k % load->plan->depth];
}

/* The moment from which the latency of message k counts. */
static uint64_t load_since_ns(const struct load *load, const struct load_link *link, uint64_t k)
{
    return load->plan->rate > 0 ? load_due_ns(load, load_number(load, link, k)) : *load_launched_ns(load, link, k);
}

static void load_lose(struct load *load, struct load_link *link)
{
    dial_close(link->socket);
    link->socket = -1;
    if (load->plan->sockets != NULL)
        load->plan->sockets[link->index] = -1;
    load->under_way_count -= link->launched_count - link->answered_count;
    load->live_count--;
    load->result->closed_count++;
}

/* --- out --- */

static void load_launch(struct load *load, struct load_link *link)
{
    uint64_t limit = link->answered_count + load->plan->depth;
    if (link->due_count < limit)
        limit = link->due_count;
    if (!load->launching || limit <= link->launched_count)
        return;
    load->under_way_count += limit - link->launched_count;
    if (load->plan->rate > 0) {
        link->launched_count = limit;
        return;
    }
    for (uint64_t now_ns = process_now_ns(); link->launched_count < limit; link->launched_count++)
        *load_launched_ns(load, link, link->launched_count) = now_ns;
}

/* Launches what may be and writes until all is out or the socket is full. */
static void load_write(struct load *load, struct load_link *link)
{
    load_launch(load, link);
    while (link->sent_count < link->launched_count) {
        uint64_t count = link->launched_count - link->sent_count;
        if (count > load->pattern.batch_count)
            count = load->pattern.batch_count;
        const uint8_t *bytes =
            pattern_make(&load->pattern, load_number(load, link, link->sent_count), load->plan->connections, (uint32_t)count);
        size_t wanted = (size_t)count * load->pattern.sent.frame_bytes - link->sent_bytes;
        ssize_t written = send(link->socket, bytes + link->sent_bytes, wanted, MSG_NOSIGNAL);
        if (written < 0) {
            if (errno != EAGAIN)
                load_lose(load, link);
            return;
        }
        uint64_t sent = link->sent_bytes + (uint64_t)written;
        link->sent_count += sent / load->pattern.sent.frame_bytes;
        link->sent_bytes = (uint32_t)(sent % load->pattern.sent.frame_bytes);
        if ((size_t)written < wanted)
            return;
    }
}

/* --- in --- */

static void load_answered(struct load *load, struct load_link *link, uint64_t now_ns)
{
    uint64_t since_ns = load_since_ns(load, link, link->answered_count);
    if (now_ns >= load->begin_ns && now_ns < load->end_ns)
        load->result->message_count++;
    if (since_ns >= load->begin_ns && since_ns < load->end_ns)
        histogram_record(&load->result->latency, now_ns > since_ns ? now_ns - since_ns : 0);
    link->answered_count++;
    link->answered_bytes = 0;
    link->flawed = false;
    load->answered_total++;
    load->under_way_count--;
}

static void load_flawed(struct load *load, struct load_link *link)
{
    link->flawed = true;
    if (load->result->flawed_count++ == 0)
        fprintf(stderr, "weir-perf: connection %u: message %llu came back changed (only the first is told)\n", link->index,
                (unsigned long long)link->answered_count);
}

/* Cuts what came into messages and compares them. Loses the link when more came than was sent. */
static void load_take(struct load *load, struct load_link *link, const uint8_t *bytes, size_t count, uint64_t now_ns)
{
    while (count > 0) {
        uint32_t piece = load->pattern.answer.frame_bytes - link->answered_bytes;
        if (piece > count)
            piece = (uint32_t)count;
        bool sent_whole = link->answered_count < link->sent_count;
        uint64_t may_come_bytes = sent_whole ? load->pattern.answer.frame_bytes : link->sent_bytes;
        if (link->answered_bytes + piece > may_come_bytes) {
            load_flawed(load, link);
            load_lose(load, link);
            return;
        }
        uint64_t number = load_number(load, link, link->answered_count);
        if (!link->flawed && !pattern_matches(&load->pattern, number, link->answered_bytes, bytes, piece, load->plan->check))
            load_flawed(load, link);
        link->answered_bytes += piece;
        if (link->answered_bytes == load->pattern.answer.frame_bytes)
            load_answered(load, link, now_ns);
        bytes += piece;
        count -= piece;
    }
}

/* One read; a full buffer means that more may be there, and the link goes to the end of the queue for it. */
static void load_read(struct load *load, struct load_link *link)
{
    ssize_t count = recv(link->socket, load->buffer, LOAD_READ_BYTES, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        load_lose(load, link);
        return;
    }
    if (count == LOAD_READ_BYTES) {
        struct epoll_event interest = {.events = LOAD_INTEREST, .data.ptr = link};
        epoll_ctl(load->epoll, EPOLL_CTL_MOD, link->socket, &interest);
    }
    load_take(load, link, load->buffer, (size_t)count, process_now_ns());
}

/* --- time --- */

/* Open loop: hands out the messages that have become due to the links in turn. */
static void load_schedule(struct load *load, uint64_t now_ns)
{
    while (load_due_ns(load, load->due_total) <= now_ns) {
        struct load_link *link = &load->links[load->due_total++ % load->plan->connections];
        if (link->socket < 0)
            continue;
        link->due_count++;
        if (!link->waiting) {
            link->waiting = true;
            load->waiting[load->waiting_count++] = link;
        }
    }
    while (load->waiting_count > 0) {
        struct load_link *link = load->waiting[--load->waiting_count];
        link->waiting = false;
        load_write(load, link);
    }
}

static struct timespec load_sleep(const struct load *load, uint64_t until_ns)
{
    if (load->plan->spin)
        return (struct timespec){0};
    if (load->plan->rate > 0 && load->launching && load_due_ns(load, load->due_total) < until_ns)
        until_ns = load_due_ns(load, load->due_total);
    uint64_t now_ns = process_now_ns();
    uint64_t sleep_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    if (load->plan->progress && sleep_ns > LOAD_PROGRESS_NS)
        sleep_ns = LOAD_PROGRESS_NS;
    return (struct timespec){.tv_sec = (time_t)(sleep_ns / 1000000000u), .tv_nsec = (long)(sleep_ns % 1000000000u)};
}

static void load_show(struct load *load, uint64_t now_ns)
{
    if (!load->plan->progress || now_ns - load->shown_ns < LOAD_PROGRESS_NS)
        return;
    double rate = (double)(load->answered_total - load->shown_count) * 1e9 / (double)(now_ns - load->shown_ns);
    report_progress("%.1f of %.1f s, %.0f messages/s", (double)(now_ns - load->start_ns) / 1e9,
                    (double)(load->plan->warmup_ns + load->plan->measure_ns) / 1e9, rate);
    load->shown_ns = now_ns;
    load->shown_count = load->answered_total;
}

/* Turns until `until_ns`, until no link lives, or, when nothing is launched any more, until nothing is under way. */
static void load_turns(struct load *load, uint64_t until_ns)
{
    struct epoll_event events[LOAD_EVENTS];
    while (load->live_count > 0 && (load->launching || load->under_way_count > 0)) {
        struct timespec sleep = load_sleep(load, until_ns);
        int ready = epoll_pwait2(load->epoll, events, LOAD_EVENTS, &sleep, NULL);
        for (int i = 0; i < ready; i++) {
            struct load_link *link = events[i].data.ptr;
            if (link->socket >= 0 && (events[i].events & LOAD_READ_EVENTS) != 0)
                load_read(load, link);
            if (link->socket >= 0)
                load_write(load, link);
        }
        uint64_t now_ns = process_now_ns();
        if (load->plan->rate > 0 && load->launching)
            load_schedule(load, now_ns < until_ns ? now_ns : until_ns - 1);
        if (now_ns >= until_ns)
            return;
        load_show(load, now_ns);
    }
}

/* --- the run --- */

/* What never came is as old as it is: that is its latency, at the least. */
static void load_count_missing(struct load *load)
{
    uint64_t now_ns = process_now_ns();
    for (uint32_t i = 0; i < load->plan->connections; i++) {
        const struct load_link *link = &load->links[i];
        uint64_t end = load->plan->rate > 0 ? link->due_count : link->launched_count;
        load->result->unanswered_count += link->launched_count - link->answered_count;
        load->result->unsent_count += end - link->launched_count;
        for (uint64_t k = link->answered_count; k < end; k++) {
            uint64_t since_ns = load_since_ns(load, link, k);
            if (since_ns >= load->begin_ns && since_ns < load->end_ns)
                histogram_record(&load->result->latency, now_ns - since_ns);
        }
    }
}

static void load_measure(struct load *load)
{
    const struct load_plan *plan = load->plan;
    struct process_sample before, after;
    load->start_ns = load->shown_ns = process_now_ns();
    load->launching = true;
    load_turns(load, load->start_ns + plan->warmup_ns);
    load->result->server_sampled = plan->server != 0 && process_sample(plan->server, &before);
    uint64_t own_cpu_ns = process_own_cpu_ns();
    load->begin_ns = process_now_ns();
    load->end_ns = load->begin_ns + plan->measure_ns;
    load_turns(load, load->end_ns);
    uint64_t now_ns = process_now_ns();
    load->result->client_cpu_ns = process_own_cpu_ns() - own_cpu_ns;
    if (load->result->server_sampled && process_sample(plan->server, &after)) {
        load->result->server_cpu_ns = after.cpu_ns - before.cpu_ns;
        load->result->server_switches = after.switches - before.switches;
    } else {
        load->result->server_sampled = false;
    }
    load->result->elapsed_ns = now_ns - load->begin_ns < plan->measure_ns ? now_ns - load->begin_ns : plan->measure_ns;
    load->launching = false;
    load_turns(load, now_ns + LOAD_GRACE_NS);
    load_count_missing(load);
}

static bool load_allocate(struct load *load)
{
    const struct load_plan *plan = load->plan;
    load->links = calloc(plan->connections, sizeof *load->links);
    load->buffer = malloc(LOAD_READ_BYTES);
    load->waiting = calloc(plan->connections, sizeof(struct load_link *));
    if (plan->rate == 0)
        load->launched_ns = calloc((size_t)plan->connections * plan->depth, sizeof *load->launched_ns);
    uint32_t batch_count = LOAD_WRITE_BYTES / plan->bytes;
    if (batch_count > plan->depth)
        batch_count = plan->depth;
    bool patterned = pattern_create(&load->pattern, plan->framing, plan->bytes, batch_count > 0 ? batch_count : 1);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->links != NULL && load->buffer != NULL && load->waiting != NULL && (plan->rate > 0 || load->launched_ns != NULL) &&
        patterned && load->epoll >= 0)
        return true;
    fprintf(stderr, "weir-perf: no memory for %u connections with %u messages of %u bytes under way\n", plan->connections, plan->depth,
            plan->bytes);
    return false;
}

static void load_free(struct load *load)
{
    if (load->epoll >= 0)
        close(load->epoll);
    pattern_destroy(&load->pattern);
    free(load->launched_ns);
    free(load->waiting);
    free(load->buffer);
    free(load->links);
}

static void load_link(struct load *load, const int *sockets)
{
    for (uint32_t i = 0; i < load->plan->connections; i++) {
        load->links[i] = (struct load_link){.socket = sockets[i], .index = i, .due_count = load->plan->rate > 0 ? 0 : UINT64_MAX};
        struct epoll_event interest = {.events = LOAD_INTEREST, .data.ptr = &load->links[i]};
        if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, sockets[i], &interest) != 0) {
            perror("weir-perf: epoll_ctl");
            exit(1);
        }
    }
    load->live_count = load->plan->connections;
}

static bool load_dial(struct load *load)
{
    const struct load_plan *plan = load->plan;
    if (plan->sockets != NULL) {
        load_link(load, plan->sockets);
        return true;
    }
    int *sockets = calloc(plan->connections, sizeof *sockets);
    bool opened = sockets != NULL && dial_open(plan->address, sockets, plan->connections) &&
                  (plan->framing != PATTERN_WEBSOCKET || upgrade_all(sockets, plan->connections));
    if (opened)
        load_link(load, sockets);
    free(sockets);
    return opened;
}

bool load_run(const struct load_plan *plan, struct load_result *result)
{
    struct load load = {.plan = plan, .result = result, .begin_ns = LOAD_NEVER, .end_ns = LOAD_NEVER};
    load.period_ns = plan->rate > 0 ? 1e9 / (double)plan->rate : 0;
    *result = (struct load_result){0};
    prctl(PR_SET_TIMERSLACK, 1); /* else a sleep for the open loop ends 50 us late */
    bool ran = load_allocate(&load) && load_dial(&load);
    if (ran) {
        load_measure(&load);
        for (uint32_t i = 0; i < plan->connections && plan->sockets == NULL; i++)
            if (load.links[i].socket >= 0)
                dial_close(load.links[i].socket);
    }
    load_free(&load);
    return ran;
}
