/* SPDX-License-Identifier: MIT */
/* bound: see bound.h. Plain system calls and threads: nothing of weir's is in it. */
#include "bound.h"

#include "flight.h"
#include "process.h"
#include "slice.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BOUND_WAKE_GAP_NS  60000u /* the sleeper has gone to sleep by then */
#define BOUND_RING_ENTRIES 8u

/* What two threads share. `socket` is [0] the measuring side's, [1] the other's. */
struct bound {
    const struct bound_plan *plan;
    int sockets[2];
    bool spin;
    int event;                               /* eventfd */
    alignas(64) _Atomic uint64_t line;       /* even: the measuring side's turn */
    alignas(64) _Atomic uint64_t arrived_ns; /* when the sleeper ran; 0: not yet */
    alignas(64) atomic_bool over;
};

static inline void bound_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* --- two ends of a TCP connection --- */

static int bound_connect(int listener, int sockets[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t address_bytes = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &address_bytes) != 0)
        return errno;
    sockets[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sockets[0] < 0 || connect(sockets[0], (struct sockaddr *)&address, address_bytes) != 0)
        return errno;
    sockets[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (sockets[1] < 0)
        return errno;
    for (int i = 0; i < 2; i++) {
        int on = 1;
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    return 0;
}

static int bound_open(struct bound *bound)
{
    bound->sockets[0] = bound->sockets[1] = -1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return errno;
    int error = bound_connect(listener, bound->sockets);
    close(listener);
    return error;
}

static void bound_close(struct bound *bound)
{
    for (int i = 0; i < 2; i++)
        if (bound->sockets[i] >= 0)
            close(bound->sockets[i]);
}

/* Runs `other` on the second core and `measure` on this thread, on the first. When measure is done it has told the other side. */
static int bound_run(struct bound *bound, void *(*other)(void *), void (*measure)(struct bound *bound, void *result), void *result)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, other, bound);
    if (error != 0)
        return error;
    flight_pin(bound->plan->cores[0]);
    measure(bound, result);
    pthread_join(thread, NULL);
    return 0;
}

/* --- ping-pong --- */

/* False when the other side has gone. */
static bool bound_receive(int socket, bool spin, uint8_t *message)
{
    uint32_t had_bytes = 0;
    while (had_bytes < BOUND_MESSAGE_BYTES) {
        ssize_t count = recv(socket, message + had_bytes, BOUND_MESSAGE_BYTES - had_bytes, spin ? MSG_DONTWAIT : 0);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (count > 0)
            had_bytes += (uint32_t)count;
    }
    return true;
}

static void *bound_pong(void *user)
{
    const struct bound *bound = user;
    uint8_t message[BOUND_MESSAGE_BYTES];
    flight_pin(bound->plan->cores[1]);
    while (bound_receive(bound->sockets[1], bound->spin, message))
        if (send(bound->sockets[1], message, sizeof message, MSG_NOSIGNAL) != sizeof message)
            break;
    shutdown(bound->sockets[1], SHUT_RDWR);
    return NULL;
}

static void bound_ping(struct bound *bound, void *result)
{
    struct histogram *round_trips = result;
    uint8_t message[BOUND_MESSAGE_BYTES] = {0};
    uint64_t last_ns = process_now_ns(), measure_from_ns = last_ns + bound->plan->measure_ns / 10;
    uint64_t end_ns = measure_from_ns + bound->plan->measure_ns;
    while (last_ns < end_ns) {
        if (send(bound->sockets[0], message, sizeof message, MSG_NOSIGNAL) != sizeof message ||
            !bound_receive(bound->sockets[0], bound->spin, message))
            break;
        uint64_t now_ns = process_now_ns();
        if (last_ns >= measure_from_ns)
            histogram_record(round_trips, now_ns - last_ns);
        last_ns = now_ns;
    }
    shutdown(bound->sockets[0], SHUT_RDWR);
}

int bound_pingpong(const struct bound_plan *plan, bool spin, struct histogram *round_trips)
{
    struct bound bound = {.plan = plan, .spin = spin};
    int error = bound_open(&bound);
    if (error == 0)
        error = bound_run(&bound, bound_pong, bound_ping, round_trips);
    bound_close(&bound);
    return error == 0 && round_trips->count == 0 ? EIO : error;
}

/* --- bytes --- */

static void *bound_pour(void *user)
{
    struct bound *bound = user;
    uint8_t *bytes = calloc(1, BOUND_WRITE_BYTES);
    flight_pin(bound->plan->cores[1]);
    while (bytes != NULL && !atomic_load_explicit(&bound->over, memory_order_relaxed) &&
           send(bound->sockets[1], bytes, BOUND_WRITE_BYTES, MSG_NOSIGNAL) > 0)
        ;
    shutdown(bound->sockets[1], SHUT_RDWR);
    free(bytes);
    return NULL;
}

static void bound_drink(struct bound *bound, void *result)
{
    double *bytes_per_second = result;
    uint8_t *bytes = malloc(BOUND_WRITE_BYTES);
    uint64_t total_bytes = 0, begin_ns = process_now_ns(), now_ns = begin_ns;
    uint64_t measure_from_ns = begin_ns + bound->plan->measure_ns / 10;
    bool measuring = false;
    while (bytes != NULL && (!measuring || now_ns - begin_ns < bound->plan->measure_ns)) {
        ssize_t count = recv(bound->sockets[0], bytes, BOUND_WRITE_BYTES, 0);
        if (count <= 0)
            break;
        now_ns = process_now_ns();
        total_bytes += (uint64_t)count;
        if (!measuring && now_ns >= measure_from_ns) {
            measuring = true;
            begin_ns = now_ns;
            total_bytes = 0;
        }
    }
    if (measuring && now_ns > begin_ns)
        *bytes_per_second = (double)total_bytes * 1e9 / (double)(now_ns - begin_ns);
    atomic_store(&bound->over, true);
    while (bytes != NULL && recv(bound->sockets[0], bytes, BOUND_WRITE_BYTES, 0) > 0)
        ; /* a sender that waits for room would never hear of a reader that has gone */
    shutdown(bound->sockets[0], SHUT_RDWR);
    free(bytes);
}

int bound_bytes(const struct bound_plan *plan, double *bytes_per_second)
{
    struct bound bound = {.plan = plan};
    *bytes_per_second = 0;
    int error = bound_open(&bound);
    if (error == 0)
        error = bound_run(&bound, bound_pour, bound_drink, bytes_per_second);
    bound_close(&bound);
    return error == 0 && *bytes_per_second <= 0 ? EIO : error;
}

/* --- a cache line --- */

static void *bound_raise(void *user)
{
    struct bound *bound = user;
    flight_pin(bound->plan->cores[1]);
    uint64_t seen;
    while ((seen = atomic_load_explicit(&bound->line, memory_order_acquire)) != UINT64_MAX)
        if (seen % 2 == 1)
            atomic_store_explicit(&bound->line, seen + 1, memory_order_release);
    return NULL;
}

static void bound_raise_in_turn(void *user, uint64_t times)
{
    struct bound *bound = user;
    uint64_t next = atomic_load_explicit(&bound->line, memory_order_acquire);
    for (uint64_t i = 0; i < times; i++) {
        atomic_store_explicit(&bound->line, ++next, memory_order_release);
        next++;
        while (atomic_load_explicit(&bound->line, memory_order_acquire) != next)
            ;
    }
}

static void bound_measure_line(struct bound *bound, void *result)
{
    double *one_way_ns = result;
    *one_way_ns = slice_median_ns(bound_raise_in_turn, bound, bound->plan->measure_ns) / 2;
    atomic_store(&bound->line, UINT64_MAX);
}

int bound_line(const struct bound_plan *plan, double *one_way_ns)
{
    struct bound bound = {.plan = plan};
    return bound_run(&bound, bound_raise, bound_measure_line, one_way_ns);
}

/* --- an eventfd --- */

static void *bound_sleep(void *user)
{
    struct bound *bound = user;
    uint64_t count;
    flight_pin(bound->plan->cores[1]);
    while (read(bound->event, &count, sizeof count) == sizeof count) {
        uint64_t now_ns = process_now_ns();
        if (atomic_load(&bound->over))
            break;
        atomic_store_explicit(&bound->arrived_ns, now_ns, memory_order_release);
    }
    return NULL;
}

static void bound_spin_until(uint64_t until_ns)
{
    while (process_now_ns() < until_ns)
        bound_pause();
}

static void bound_wake_one(struct bound *bound, struct histogram *wakes, struct histogram *writes)
{
    uint64_t one = 1, arrived_ns;
    atomic_store_explicit(&bound->arrived_ns, 0, memory_order_relaxed);
    uint64_t begin_ns = process_now_ns();
    if (write(bound->event, &one, sizeof one) != sizeof one)
        return;
    uint64_t written_ns = process_now_ns();
    while ((arrived_ns = atomic_load_explicit(&bound->arrived_ns, memory_order_acquire)) == 0)
        bound_pause();
    histogram_record(wakes, arrived_ns > begin_ns ? arrived_ns - begin_ns : 0);
    histogram_record(writes, written_ns - begin_ns);
    bound_spin_until(arrived_ns + BOUND_WAKE_GAP_NS);
}

static void bound_measure_wakes(struct bound *bound, void *result)
{
    struct histogram **histograms = result;
    uint64_t one = 1, now_ns = process_now_ns(), end_ns = now_ns + bound->plan->measure_ns;
    bound_spin_until(now_ns + bound->plan->measure_ns / 10); /* the sleeper is there by then, and this core awake */
    while (process_now_ns() < end_ns)
        bound_wake_one(bound, histograms[0], histograms[1]);
    atomic_store(&bound->over, true);
    if (write(bound->event, &one, sizeof one) != sizeof one)
        abort(); /* an eventfd that holds 0 takes a 1 */
}

int bound_wake(const struct bound_plan *plan, struct histogram *wakes, struct histogram *writes)
{
    struct bound bound = {.plan = plan};
    struct histogram *histograms[] = {wakes, writes};
    bound.event = eventfd(0, EFD_CLOEXEC);
    if (bound.event < 0)
        return errno;
    int error = bound_run(&bound, bound_sleep, bound_measure_wakes, histograms);
    close(bound.event);
    return error;
}

/* --- empty calls --- */

static void bound_call(void *user, uint64_t times)
{
    (void)user;
    for (uint64_t i = 0; i < times; i++)
        syscall(SYS_getppid);
}

static void bound_enter_ring(void *user, uint64_t times)
{
    const int *ring = user;
    for (uint64_t i = 0; i < times; i++)
        syscall(SYS_io_uring_enter, *ring, 0, 0, IORING_ENTER_GETEVENTS, NULL, 0);
}

/* A ring as weir makes it, or, on an older kernel, a plain one. */
static int bound_setup_ring(void)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    long ring = syscall(SYS_io_uring_setup, BOUND_RING_ENTRIES, &params);
    if (ring < 0 && errno == EINVAL) {
        params = (struct io_uring_params){0};
        ring = syscall(SYS_io_uring_setup, BOUND_RING_ENTRIES, &params);
    }
    return (int)ring;
}

int bound_enter(const struct bound_plan *plan, double *enter_ns, double *call_ns)
{
    flight_pin(plan->cores[0]);
    *call_ns = slice_median_ns(bound_call, NULL, plan->measure_ns / 2);
    *enter_ns = -1;
    int ring = bound_setup_ring();
    if (ring < 0)
        return 0;
    *enter_ns = slice_median_ns(bound_enter_ring, &ring, plan->measure_ns / 2);
    close(ring);
    return 0;
}

/* --- copying --- */

static void bound_copy_buffer(void *user, uint64_t times)
{
    uint8_t *buffer = user;
    for (uint64_t i = 0; i < times; i++) {
        memcpy(buffer + BOUND_WRITE_BYTES, buffer, BOUND_WRITE_BYTES);
        __asm__ volatile("" : : "r"(buffer) : "memory"); /* the compiler is not to know that nobody reads it */
    }
}

int bound_copy(const struct bound_plan *plan, double *bytes_per_second)
{
    uint8_t *buffer = aligned_alloc(4096, (size_t)2 * BOUND_WRITE_BYTES);
    if (buffer == NULL)
        return ENOMEM;
    flight_pin(plan->cores[0]);
    memset(buffer, 1, (size_t)2 * BOUND_WRITE_BYTES);
    *bytes_per_second = BOUND_WRITE_BYTES * 1e9 / slice_median_ns(bound_copy_buffer, buffer, plan->measure_ns);
    free(buffer);
    return 0;
}
