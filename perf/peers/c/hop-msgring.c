/* SPDX-License-Identifier: MIT */
/* hop-msgring: the bare wake: one thread stamps a word and wakes another that sleeps in the kernel, and that is all. What a hop to a sleeping
 * shard (`weir-perf hop`) is measured against.
 *
 * --via ring     the sleeper waits in its io_uring, the waker's io_uring sends it a message (IORING_OP_MSG_RING)
 *       sync     the same, sent without a ring (IORING_REGISTER_SEND_MSG_RING, Linux 6.13)
 *       eventfd  the sleeper's io_uring polls an eventfd, multishot
 *       futex    no io_uring at all
 *
 * Road:    wait until the last flight was answered → wait the gap, spinning → stamp → wake → the sleeper takes the time.
 * Ditches: the kernel does not know a call → say so, exit 1. */
#include "perf/flight.h"
#include "perf/option.h"
#include "perf/process.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING_ENTRIES       8u
#define REGISTER_SEND_RING 31u /* IORING_REGISTER_SEND_MSG_RING */
#define LAST_STAMP         UINT64_MAX
#define DEFAULT_GAP_NS     60000u

enum via { VIA_RING, VIA_SYNC, VIA_EVENTFD, VIA_FUTEX, VIA_COUNT };

static const char *const via_names[] = {"msgring", "msgring-sync", "eventfd", "futex"};
static const char *const via_options[] = {"ring", "sync", "eventfd", "futex", NULL};

/* --- an io_uring, as far as it takes here --- */

struct ring {
    int descriptor;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    uint32_t *sq_array, sq_mask, cq_mask;
    _Atomic uint32_t *sq_tail, *cq_head, *cq_tail;
};

_Noreturn static void die(const char *what)
{
    fprintf(stderr, "hop-msgring: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *ring_map(const struct ring *ring, size_t bytes, uint64_t offset)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->descriptor, (off_t)offset);
    if (memory == MAP_FAILED)
        die("mmap");
    return memory;
}

/* On the thread that uses it. */
static void ring_open(struct ring *ring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    ring->descriptor = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &params);
    if (ring->descriptor < 0)
        die("io_uring_setup");
    size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t cq_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    uint8_t *words = ring_map(ring, sq_bytes > cq_bytes ? sq_bytes : cq_bytes, IORING_OFF_SQ_RING); /* one mapping for both: Linux 5.4 */
    ring->sqes = ring_map(ring, params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    ring->sq_array = (void *)(words + params.sq_off.array);
    ring->sq_tail = (void *)(words + params.sq_off.tail);
    ring->sq_mask = params.sq_entries - 1;
    ring->cqes = (void *)(words + params.cq_off.cqes);
    ring->cq_head = (void *)(words + params.cq_off.head);
    ring->cq_tail = (void *)(words + params.cq_off.tail);
    ring->cq_mask = params.cq_entries - 1;
}

static void ring_enter(const struct ring *ring, uint32_t submit, uint32_t wait)
{
    long result;
    do
        result = syscall(SYS_io_uring_enter, ring->descriptor, submit, wait, wait > 0 ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        die("io_uring_enter");
}

static void ring_submit(struct ring *ring, const struct io_uring_sqe *sqe)
{
    uint32_t tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed), place = tail & ring->sq_mask;
    ring->sqes[place] = *sqe;
    ring->sq_array[place] = place;
    atomic_store_explicit(ring->sq_tail, tail + 1, memory_order_release);
    ring_enter(ring, 1, 0);
}

/* Sleeps until there is a completion, takes it, and answers its flags. */
static uint32_t ring_wait(struct ring *ring)
{
    uint32_t head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);
    while (head == atomic_load_explicit(ring->cq_tail, memory_order_acquire))
        ring_enter(ring, 0, 1);
    struct io_uring_cqe cqe = ring->cqes[head & ring->cq_mask];
    if (cqe.res < 0) {
        errno = -cqe.res;
        die("a completion");
    }
    atomic_store_explicit(ring->cq_head, head + 1, memory_order_release);
    return cqe.flags;
}

/* --- the two sides --- */

struct hop {
    struct flight_plan plan;
    enum via via;
    struct flight_result *result; /* the sleeper's, until it has ended */
    struct ring sleeper, waker;
    int event;
    alignas(64) _Atomic uint64_t sent_ns; /* LAST_STAMP: go home */
    _Atomic uint32_t sent_count;          /* the futex word */
    alignas(64) _Atomic uint32_t answered_count;
    atomic_bool ready; /* the sleeper can be woken */
};

static void sleeper_open(struct hop *hop)
{
    if (hop->via != VIA_FUTEX)
        ring_open(&hop->sleeper);
    if (hop->via == VIA_EVENTFD && (hop->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        die("eventfd");
}

static void sleeper_poll(struct hop *hop)
{
    ring_submit(&hop->sleeper,
                &(struct io_uring_sqe){
                    .opcode = IORING_OP_POLL_ADD, .fd = hop->event, .len = IORING_POLL_ADD_MULTI, .poll32_events = POLLIN | EPOLLET});
}

static void sleeper_sleep(struct hop *hop, uint32_t count)
{
    if (hop->via != VIA_FUTEX) {
        uint32_t flags = ring_wait(&hop->sleeper);
        if (hop->via == VIA_EVENTFD && (flags & IORING_CQE_F_MORE) == 0)
            sleeper_poll(hop);
        return;
    }
    while (atomic_load_explicit(&hop->sent_count, memory_order_acquire) == count)
        if (syscall(SYS_futex, &hop->sent_count, FUTEX_WAIT_PRIVATE, count, NULL) != 0 && errno != EAGAIN && errno != EINTR)
            die("futex");
}

static void *sleeper_run(void *argument)
{
    struct hop *hop = argument;
    struct flight_clock clock = {0};
    flight_pin(hop->plan.cores[1]);
    sleeper_open(hop);
    if (hop->via == VIA_EVENTFD)
        sleeper_poll(hop);
    atomic_store(&hop->ready, true);
    for (uint32_t count = 0;; count++) {
        sleeper_sleep(hop, count);
        uint64_t now_ns = process_now_ns(), sent_ns = atomic_load_explicit(&hop->sent_ns, memory_order_acquire);
        if (sent_ns == LAST_STAMP)
            return NULL;
        if (flight_clock_tick(&clock, &hop->plan, now_ns) == FLIGHT_MEASURE) {
            histogram_record(&hop->result->flights, now_ns - sent_ns);
            hop->result->elapsed_ns = now_ns - clock.measure_from_ns;
            hop->result->hops++;
        }
        atomic_store_explicit(&hop->answered_count, count + 1, memory_order_release);
    }
}

static void waker_wake(struct hop *hop)
{
    struct io_uring_sqe message = {.opcode = IORING_OP_MSG_RING, .fd = hop->sleeper.descriptor};
    long result = 0;
    switch (hop->via) {
    case VIA_RING:
        message.flags = IOSQE_CQE_SKIP_SUCCESS;
        ring_submit(&hop->waker, &message);
        break;
    case VIA_SYNC:
        result = syscall(SYS_io_uring_register, -1, REGISTER_SEND_RING, &message, 1);
        break;
    case VIA_EVENTFD:
        result = eventfd_write(hop->event, 1);
        break;
    case VIA_FUTEX:
        result = syscall(SYS_futex, &hop->sent_count, FUTEX_WAKE_PRIVATE, 1);
        break;
    case VIA_COUNT:
        break;
    }
    if (result < 0)
        die("the wake");
}

static void waker_send(struct hop *hop, uint64_t stamp)
{
    atomic_store_explicit(&hop->sent_ns, stamp, memory_order_release);
    atomic_fetch_add_explicit(&hop->sent_count, 1, memory_order_release);
    waker_wake(hop);
}

static void waker_run(struct hop *hop)
{
    struct flight_clock clock = {0};
    uint32_t count = 0;
    flight_pin(hop->plan.cores[0]);
    if (hop->via == VIA_RING)
        ring_open(&hop->waker);
    for (uint64_t answered_ns = process_now_ns(), now_ns = answered_ns;;) {
        while (now_ns - answered_ns < hop->plan.gap_ns)
            now_ns = process_now_ns();
        if (flight_clock_tick(&clock, &hop->plan, now_ns) == FLIGHT_OVER)
            break;
        waker_send(hop, process_now_ns());
        count++;
        while (atomic_load_explicit(&hop->answered_count, memory_order_acquire) != count)
            ;
        answered_ns = now_ns = process_now_ns();
    }
    waker_send(hop, LAST_STAMP);
    hop->result->wakes = count;
}

/* --- the program --- */

static error_t hop_parse(int key, char *text, struct argp_state *state)
{
    struct hop *hop = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &hop->plan;
        return 0;
    case 'v':
        hop->via = (enum via)option_choice(state, "--via", text, via_options);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option options[] = {{"via", 'v', "WAY", 0, "ring, sync, eventfd or futex (ring)", 1}, {0}};
    static const struct argp_child children[] = {{.argp = &flight_argp}, {0}};
    static const struct argp argp = {.options = options,
                                     .parser = hop_parse,
                                     .children = children,
                                     .doc = "Measures how long it takes to wake a thread that sleeps in the kernel. --gap-us is 60 here."};
    static struct flight_result result;
    static struct hop hop;
    pthread_t sleeper;
    argp_err_exit_status = 2;
    if (!flight_plan_init(&hop.plan))
        return 1;
    hop.plan.gap_ns = DEFAULT_GAP_NS;
    hop.result = &result;
    argp_parse(&argp, argc, argv, 0, NULL, &hop);
    result = (struct flight_result){.tool = "hop", .way = via_names[hop.via], .messages_per_second = -1, .sleeps = -1, .late_finds = -1};
    if (pthread_create(&sleeper, NULL, sleeper_run, &hop) != 0)
        die("pthread_create");
    while (!atomic_load(&hop.ready))
        usleep(100);
    waker_run(&hop);
    pthread_join(sleeper, NULL);
    flight_print(&hop.plan, &result);
    return 0;
}
