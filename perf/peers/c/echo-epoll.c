/* SPDX-License-Identifier: MIT */
/* echo-epoll: the echo server that a good engineer writes without weir: the baseline.
 *
 * Each thread has its own listening socket (SO_REUSEPORT) and its own epoll. It reads as much as a 64 KiB buffer takes and sends
 * it back in one call. It knows no messages: the bytes of an echo are the same in any framing.
 *
 * Road:    wait → recv → send → wait.
 * Ditches: short send → the rest is kept, the connection is not read until it is out, so a peer that does not read stops
 *          only itself; no descriptor left → accepting rests until a connection ends; SIGTERM, SIGINT → exit 0. */
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES     65536
#define EVENTS           512
#define BACKLOG          4096
#define THREADS_MOST     256
#define DESCRIPTORS_MOST 1048576

/* One for each descriptor that there can be; so a connection is found by its descriptor, and idle ones cost nothing else. */
struct conn {
    uint8_t *kept;      /* not NULL exactly when a send was short and its rest is not out yet */
    uint32_t kept_from; /* [kept_from, kept_to) of `kept` still has to be sent */
    uint32_t kept_to;
};

static struct conn *conns;
static size_t conns_count;

struct server {
    pthread_t thread;
    int cpu; /* -1: any */
    bool spin;
    int listener;
    int signals;
    int epoll;
    bool accepting; /* true exactly when the listener is in the epoll */
    bool stopped;
    uint8_t buffer[BUFFER_BYTES];
};

struct options {
    const char *listen;
    int threads;
    int cpu;
    bool spin;
};

static void die(const char *what)
{
    fprintf(stderr, "echo-epoll: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- connections --- */

static void server_watch(struct server *server, int operation, int descriptor, uint32_t events)
{
    struct epoll_event interest = {.events = events, .data.fd = descriptor};
    if (epoll_ctl(server->epoll, operation, descriptor, &interest) != 0)
        die("epoll_ctl");
}

static void server_accepting(struct server *server, bool accepting)
{
    if (server->accepting == accepting)
        return;
    server_watch(server, accepting ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, server->listener, EPOLLIN);
    server->accepting = accepting;
}

static void conn_close(struct server *server, int descriptor)
{
    free(conns[descriptor].kept);
    conns[descriptor] = (struct conn){0};
    close(descriptor); /* the epoll forgets it with that */
    server_accepting(server, true);
}

/* Keeps what a send did not take. */
static void conn_keep(struct server *server, int descriptor, const uint8_t *bytes, size_t count)
{
    struct conn *conn = &conns[descriptor];
    conn->kept = malloc(count);
    if (conn->kept == NULL) {
        conn_close(server, descriptor);
        return;
    }
    memcpy(conn->kept, bytes, count);
    conn->kept_from = 0;
    conn->kept_to = (uint32_t)count;
    server_watch(server, EPOLL_CTL_MOD, descriptor, EPOLLOUT);
}

static void conn_readable(struct server *server, int descriptor)
{
    ssize_t received = recv(descriptor, server->buffer, BUFFER_BYTES, 0);
    if (received < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (received <= 0) {
        conn_close(server, descriptor);
        return;
    }
    ssize_t sent = send(descriptor, server->buffer, (size_t)received, MSG_NOSIGNAL);
    if (sent == received)
        return;
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        conn_close(server, descriptor);
        return;
    }
    if (sent < 0)
        sent = 0;
    conn_keep(server, descriptor, server->buffer + sent, (size_t)(received - sent));
}

static void conn_writable(struct server *server, int descriptor)
{
    struct conn *conn = &conns[descriptor];
    ssize_t sent = send(descriptor, conn->kept + conn->kept_from, conn->kept_to - conn->kept_from, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (sent < 0) {
        conn_close(server, descriptor);
        return;
    }
    conn->kept_from += (uint32_t)sent;
    if (conn->kept_from < conn->kept_to)
        return;
    free(conn->kept);
    conn->kept = NULL;
    server_watch(server, EPOLL_CTL_MOD, descriptor, EPOLLIN);
}

/* --- the loop --- */

static void server_accept(struct server *server)
{
    for (;;) {
        int descriptor = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0) {
            server_watch(server, EPOLL_CTL_ADD, descriptor, EPOLLIN);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EMFILE || errno == ENFILE)
            server_accepting(server, false);
        return;
    }
}

static void server_event(struct server *server, int descriptor)
{
    if (descriptor == server->listener)
        server_accept(server);
    else if (descriptor == server->signals)
        server->stopped = true;
    else if (conns[descriptor].kept != NULL)
        conn_writable(server, descriptor);
    else
        conn_readable(server, descriptor);
}

static void *server_run(void *argument)
{
    struct server *server = argument;
    struct epoll_event events[EVENTS];
    if (server->cpu >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET((unsigned)server->cpu, &cores);
        if (sched_setaffinity(0, sizeof cores, &cores) != 0)
            die("sched_setaffinity");
    }
    while (!server->stopped) {
        int ready = epoll_wait(server->epoll, events, EVENTS, server->spin ? 0 : -1);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++)
            server_event(server, events[i].data.fd);
    }
    return NULL;
}

/* --- start --- */

static struct server *server_create(const struct options *options, int index, int listener, int signals)
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL)
        die("memory");
    server->cpu = options->cpu < 0 ? -1 : options->cpu + index;
    server->spin = options->spin;
    server->listener = listener;
    server->signals = signals;
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll < 0)
        die("epoll_create1");
    server_watch(server, EPOLL_CTL_ADD, signals, EPOLLIN);
    server_accepting(server, true);
    return server;
}

static int listener_open(const struct sockaddr *address, socklen_t address_bytes)
{
    int on = 1;
    int listener = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0)
        die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* what it accepts inherits this */
    if (bind(listener, address, address_bytes) != 0)
        die("bind");
    if (listen(listener, BACKLOG) != 0)
        die("listen");
    return listener;
}

static void address_find(const char *text, struct sockaddr_storage *address, socklen_t *address_bytes)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    if (strncmp(text, "tcp://", 6) != 0 || colon <= text + 6 || (size_t)(colon - text) >= sizeof host) {
        fprintf(stderr, "echo-epoll: --listen wants tcp://host:port, not '%s'\n", text);
        exit(2);
    }
    bool brackets = text[6] == '[' && colon[-1] == ']';
    const char *begin = text + 6 + brackets;
    snprintf(host, sizeof host, "%.*s", (int)(colon - begin) - brackets, begin);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    int code = getaddrinfo(host, colon + 1, &hints, &found);
    if (code != 0) {
        fprintf(stderr, "echo-epoll: --listen '%s': %s\n", text, gai_strerror(code));
        exit(2);
    }
    memcpy(address, found->ai_addr, found->ai_addrlen);
    *address_bytes = found->ai_addrlen;
    freeaddrinfo(found);
}

static void address_print(const struct sockaddr_storage *address, socklen_t address_bytes)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    getnameinfo((const struct sockaddr *)address, address_bytes, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    printf(address->ss_family == AF_INET6 ? "listening on tcp://[%s]:%s\n" : "listening on tcp://%s:%s\n", host, port);
    fflush(stdout);
}

static int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        die("sigprocmask");
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK); /* never read: so that every thread sees it */
    if (signals < 0)
        die("signalfd");
    return signals;
}

static const struct argp_option option_list[] = {
    {"listen", 'l', "ADDRESS", 0, "tcp://host:port; port 0 takes a free one (tcp://127.0.0.1:0)", 0},
    {"threads", 't', "N", 0, "threads, each with its own epoll (1)", 0},
    {"cpu", 'c', "N", 0, "run thread i on core N + i only", 0},
    {"spin", 's', NULL, 0, "ask for events without sleeping", 0},
    {0},
};

static int option_number(struct argp_state *state, const char *name, const char *text, int least, int most)
{
    char *end = NULL;
    long value = isdigit((unsigned char)text[0]) ? strtol(text, &end, 10) : -1;
    if (end == NULL || *end != '\0' || value < least || value > most)
        argp_error(state, "%s wants %d to %d, not '%s'", name, least, most, text);
    return (int)value;
}

static error_t option_parse(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 'l':
        options->listen = text;
        return 0;
    case 't':
        options->threads = option_number(state, "--threads", text, 1, THREADS_MOST);
        return 0;
    case 'c':
        options->cpu = option_number(state, "--cpu", text, 0, CPU_SETSIZE - THREADS_MOST);
        return 0;
    case 's':
        options->spin = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void conns_create(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("getrlimit");
    limit.rlim_cur = limit.rlim_max < DESCRIPTORS_MOST ? limit.rlim_max : DESCRIPTORS_MOST;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("setrlimit");
    conns_count = limit.rlim_cur;
    conns = calloc(conns_count, sizeof *conns);
    if (conns == NULL)
        die("memory");
}

static void conns_destroy(void)
{
    for (size_t i = 0; i < conns_count; i++)
        free(conns[i].kept);
    free(conns);
}

int main(int argc, char **argv)
{
    static const struct argp argp = {.options = option_list,
                                     .parser = option_parse,
                                     .doc = "Echoes what it receives: a plain epoll server, the baseline that weir is measured against."};
    struct options options = {.listen = "tcp://127.0.0.1:0", .threads = 1, .cpu = -1};
    struct server *servers[THREADS_MOST];
    struct sockaddr_storage address = {0};
    socklen_t address_bytes;
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    conns_create();
    address_find(options.listen, &address, &address_bytes);
    int signals = signals_open();
    for (int i = 0; i < options.threads; i++) {
        int listener = listener_open((const struct sockaddr *)&address, address_bytes);
        getsockname(listener, (struct sockaddr *)&address, &address_bytes); /* the others share the port of the first */
        servers[i] = server_create(&options, i, listener, signals);
    }
    for (int i = 1; i < options.threads; i++)
        if (pthread_create(&servers[i]->thread, NULL, server_run, servers[i]) != 0)
            die("pthread_create");
    address_print(&address, address_bytes);
    server_run(servers[0]);
    for (int i = 1; i < options.threads; i++)
        pthread_join(servers[i]->thread, NULL);
    for (int i = 0; i < options.threads; i++)
        free(servers[i]);
    conns_destroy();
    return 0;
}
