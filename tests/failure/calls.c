/* SPDX-License-Identifier: MIT */
/* calls: what the library calls in these tests instead of the kernel, libc and liburing (calls.txt renames them). A call that fails has
 * not happened, but for these: close(2) gives the number back whatever it answers; an eventfd whose write(2) answers EAGAIN is full, so
 * it is readable; a look-up that glibc has begun is only said to have failed once glibc is done with it. Not failed are calls that undo
 * (munmap, unregistering): the kernel refuses them only to a wrong program. */
#include <fcntl.h>
#include <liburing.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "calls.h"
#include "failure.h"

/* As most calls say that they have failed. */
static bool fails(enum failure_kind kind)
{
    int error = failure_now(kind);
    if (error == 0)
        return false;
    errno = error;
    return true;
}

/* --- the ring: liburing answers negative errnos --- */

int call_ring_setup(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters)
{
    int error = failure_now(FAILURE_CALL_RING_SETUP);
    return error != 0 ? -error : io_uring_queue_init_params(entries, ring, parameters);
}

int call_ring_probe(unsigned entries, struct io_uring_params *parameters)
{
    int error = failure_now(FAILURE_CALL_RING_PROBE);
    return error != 0 ? -error : io_uring_setup(entries, parameters);
}

int call_ring_register(unsigned descriptor, unsigned operation, const void *argument, unsigned count)
{
    int error = operation == IORING_UNREGISTER_RING_FDS ? 0 : failure_now(FAILURE_CALL_RING_REGISTER);
    return error != 0 ? -error : io_uring_register(descriptor, operation, argument, count);
}

int call_ring_eventfd(struct io_uring *ring, int event)
{
    int error = failure_now(FAILURE_CALL_RING_EVENTFD);
    return error != 0 ? -error : io_uring_register_eventfd(ring, event);
}

int call_ring_enter(unsigned descriptor, unsigned submit, unsigned complete, unsigned flags, sigset_t *signals, size_t bytes)
{
    int error = failure_now(FAILURE_CALL_RING_ENTER);
    return error != 0 ? -error : io_uring_enter2(descriptor, submit, complete, flags, signals, bytes);
}

/* --- memory, events, files --- */

void *call_mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset)
{
    return fails(FAILURE_CALL_MMAP) ? MAP_FAILED : mmap(address, bytes, protection, flags, descriptor, offset);
}

int call_eventfd(unsigned count, int flags)
{
    return fails(FAILURE_CALL_EVENTFD) ? -1 : eventfd(count, flags);
}

ssize_t call_read(int descriptor, void *data, size_t bytes)
{
    return fails(FAILURE_CALL_READ) ? -1 : read(descriptor, data, bytes);
}

ssize_t call_write(int descriptor, const void *data, size_t bytes)
{
    ssize_t written = write(descriptor, data, bytes);
    return fails(FAILURE_CALL_WRITE) ? -1 : written;
}

int call_open(const char *path, int flags, ...)
{
    return fails(FAILURE_CALL_OPEN) ? -1 : open(path, flags); /* the library makes no files */
}

int call_lstat(const char *path, struct stat *status)
{
    return fails(FAILURE_CALL_LSTAT) ? -1 : lstat(path, status);
}

int call_unlink(const char *path)
{
    return fails(FAILURE_CALL_UNLINK) ? -1 : unlink(path);
}

int call_close(int descriptor)
{
    int result = close(descriptor);
    return fails(FAILURE_CALL_CLOSE) ? -1 : result;
}

int call_fcntl(int descriptor, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    long argument = command == F_GETFL ? 0 : va_arg(arguments, int);
    va_end(arguments);
    return fails(FAILURE_CALL_FCNTL) ? -1 : fcntl(descriptor, command, argument);
}

/* --- sockets --- */

int call_socket(int family, int type, int protocol)
{
    return fails(FAILURE_CALL_SOCKET) ? -1 : socket(family, type, protocol);
}

int call_socketpair(int family, int type, int protocol, int ends[2])
{
    return fails(FAILURE_CALL_SOCKETPAIR) ? -1 : socketpair(family, type, protocol, ends);
}

int call_bind(int descriptor, const struct sockaddr *address, socklen_t bytes)
{
    return fails(FAILURE_CALL_BIND) ? -1 : bind(descriptor, address, bytes);
}

int call_listen(int descriptor, int backlog)
{
    return fails(FAILURE_CALL_LISTEN) ? -1 : listen(descriptor, backlog);
}

int call_connect(int descriptor, const struct sockaddr *address, socklen_t bytes)
{
    return fails(FAILURE_CALL_CONNECT) ? -1 : connect(descriptor, address, bytes);
}

ssize_t call_send(int descriptor, const void *data, size_t bytes, int flags)
{
    return fails(FAILURE_CALL_SEND) ? -1 : send(descriptor, data, bytes, flags);
}

int call_setsockopt(int descriptor, int level, int name, const void *value, socklen_t bytes)
{
    return fails(FAILURE_CALL_SETSOCKOPT) ? -1 : setsockopt(descriptor, level, name, value, bytes);
}

int call_getsockopt(int descriptor, int level, int name, void *value, socklen_t *bytes)
{
    return fails(FAILURE_CALL_GETSOCKOPT) ? -1 : getsockopt(descriptor, level, name, value, bytes);
}

int call_getsockname(int descriptor, struct sockaddr *address, socklen_t *bytes)
{
    return fails(FAILURE_CALL_GETSOCKNAME) ? -1 : getsockname(descriptor, address, bytes);
}

int call_getpeername(int descriptor, struct sockaddr *address, socklen_t *bytes)
{
    return fails(FAILURE_CALL_GETPEERNAME) ? -1 : getpeername(descriptor, address, bytes);
}

int call_shutdown(int descriptor, int how)
{
    return fails(FAILURE_CALL_SHUTDOWN) ? -1 : shutdown(descriptor, how);
}

int call_poll(struct pollfd *waits, nfds_t count, int milliseconds)
{
    return fails(FAILURE_CALL_POLL) ? -1 : poll(waits, count, milliseconds);
}

int call_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit, const sigset_t *signals)
{
    return fails(FAILURE_CALL_PPOLL) ? -1 : ppoll(waits, count, limit, signals);
}

/* --- the process --- */

ssize_t call_getrandom(void *data, size_t bytes, unsigned flags)
{
    return fails(FAILURE_CALL_GETRANDOM) ? -1 : getrandom(data, bytes, flags);
}

int call_getrlimit(int resource, struct rlimit *limit)
{
    return fails(FAILURE_CALL_GETRLIMIT) ? -1 : getrlimit((__rlimit_resource_t)resource, limit);
}

int call_affinity(pid_t process, size_t bytes, cpu_set_t *cpus)
{
    return fails(FAILURE_CALL_AFFINITY) ? -1 : sched_getaffinity(process, bytes, cpus);
}

int call_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument)
{
    int error = failure_now(FAILURE_CALL_THREAD);
    return error != 0 ? error : pthread_create(thread, attributes, function, argument);
}

void *call_calloc(size_t count, size_t bytes)
{
    return fails(FAILURE_CALL_CALLOC) ? NULL : calloc(count, bytes);
}

/* --- names --- */

int call_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    int error = failure_now(FAILURE_CALL_GETADDRINFO);
    return error != 0 ? error : getaddrinfo(host, service, hints, list);
}

static _Atomic(struct gaicb *) failed_request; /* goes on failing until another begins */
static _Atomic int failed_error;

int call_getaddrinfo_a(int mode, struct gaicb *list[], int count, struct sigevent *event)
{
    int error = failure_now(FAILURE_CALL_GETADDRINFO_A);
    failed_request = NULL;
    return error != 0 ? error : getaddrinfo_a(mode, list, count, event);
}

int call_gai_error(struct gaicb *request)
{
    int result = gai_error(request);
    if (result != 0)
        return result;
    if (failed_request != request) {
        failed_error = failure_now(FAILURE_CALL_GAI_ERROR);
        failed_request = failed_error != 0 ? request : NULL;
    }
    if (failed_error != 0 && request->ar_result != NULL) {
        freeaddrinfo(request->ar_result);
        request->ar_result = NULL;
    }
    return failed_error;
}
