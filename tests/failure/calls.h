/* SPDX-License-Identifier: MIT */
/* calls: the names that calls.txt gives to the library's system calls. */
#ifndef TEST_CALLS_H
#define TEST_CALLS_H

#include <liburing.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

int call_ring_setup(unsigned entries, struct io_uring *ring, struct io_uring_params *parameters);
int call_ring_probe(unsigned entries, struct io_uring_params *parameters);
int call_ring_register(unsigned descriptor, unsigned operation, const void *argument, unsigned count);
int call_ring_eventfd(struct io_uring *ring, int event);
int call_ring_enter(unsigned descriptor, unsigned submit, unsigned complete, unsigned flags, sigset_t *signals, size_t bytes);
void *call_mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset);
int call_eventfd(unsigned count, int flags);
ssize_t call_read(int descriptor, void *data, size_t bytes);
ssize_t call_write(int descriptor, const void *data, size_t bytes);
int call_open(const char *path, int flags, ...);
int call_lstat(const char *path, struct stat *status);
int call_unlink(const char *path);
int call_close(int descriptor);
int call_fcntl(int descriptor, int command, ...);
int call_socket(int family, int type, int protocol);
int call_socketpair(int family, int type, int protocol, int ends[2]);
int call_bind(int descriptor, const struct sockaddr *address, socklen_t bytes);
int call_listen(int descriptor, int backlog);
int call_connect(int descriptor, const struct sockaddr *address, socklen_t bytes);
ssize_t call_send(int descriptor, const void *data, size_t bytes, int flags);
int call_setsockopt(int descriptor, int level, int name, const void *value, socklen_t bytes);
int call_getsockopt(int descriptor, int level, int name, void *value, socklen_t *bytes);
int call_getsockname(int descriptor, struct sockaddr *address, socklen_t *bytes);
int call_getpeername(int descriptor, struct sockaddr *address, socklen_t *bytes);
int call_shutdown(int descriptor, int how);
int call_poll(struct pollfd *waits, nfds_t count, int milliseconds);
int call_ppoll(struct pollfd *waits, nfds_t count, const struct timespec *limit, const sigset_t *signals);
ssize_t call_getrandom(void *data, size_t bytes, unsigned flags);
int call_getrlimit(int resource, struct rlimit *limit);
int call_affinity(pid_t process, size_t bytes, cpu_set_t *cpus);
int call_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument);
void *call_calloc(size_t count, size_t bytes);
int call_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **list);
int call_getaddrinfo_a(int mode, struct gaicb *list[], int count, struct sigevent *event);
int call_gai_error(struct gaicb *request);

#endif
