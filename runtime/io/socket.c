/* SPDX-License-Identifier: MIT */
/* socket: opening, binding, options.
 *
 * Road:    socket → options → bind → listen.
 * Ditches: no IPv6 here → * becomes 0.0.0.0; a socket file is there → somebody answers: -EADDRINUSE, nobody does: it is replaced;
 *          the port is taken by another process of ours, which SO_REUSEPORT would share → a probe socket without it finds out;
 *          an option out of the kernel's range → its errno. */
#include "runtime/io/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KEEPALIVE_IDLE_S       60
#define KEEPALIVE_INTERVAL_S   10
#define KEEPALIVE_PROBES       6
#define USER_TIMEOUT_MS        60000
#define UNSENT_LOW_WATER_BYTES (256 * 1024)
#define BACKLOG                4096
#define LISTEN_TRIES           10 /* more, while the address is taken */
#define LISTEN_PAUSE_NS        10000000

/* SO_SNDBUF and SO_RCVBUF are ints. */
#define OPTION_MAX INT32_MAX

static int set(int descriptor, int level, int name, uint32_t value)
{
    int number = (int)(value < OPTION_MAX ? value : OPTION_MAX);
    return setsockopt(descriptor, level, name, &number, sizeof number) == 0 ? 0 : -errno;
}

/* `asked` as in weir_socket_options: zero is the default, WEIR_OPTION_OFF leaves it alone. */
static int set_asked(int descriptor, int level, int name, uint32_t asked, uint32_t otherwise)
{
    uint32_t value = asked == 0 ? otherwise : asked;
    if (asked == WEIR_OPTION_OFF || value == 0)
        return 0;
    return set(descriptor, level, name, value);
}

static int set_tcp_options(int descriptor, const weir_socket_options *options)
{
    int result = 0;
    if (!options->nagle)
        result = set(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
    if (result == 0 && options->keepalive_idle_s != WEIR_OPTION_OFF) {
        result = set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
        if (result == 0)
            result = set_asked(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, options->keepalive_idle_s, KEEPALIVE_IDLE_S);
        if (result == 0)
            result = set(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
        if (result == 0)
            result = set(descriptor, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    }
    if (result == 0)
        result = set_asked(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, options->user_timeout_ms, USER_TIMEOUT_MS);
    if (result == 0)
        result = set_asked(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, options->unsent_low_water_bytes, UNSENT_LOW_WATER_BYTES);
    return result;
}

static bool is_tcp_family(int family)
{
    return family == AF_INET || family == AF_INET6;
}

static int set_options(int descriptor, int family, const weir_socket_options *options)
{
    int result = is_tcp_family(family) ? set_tcp_options(descriptor, options) : 0;
    if (result == 0)
        result = set_asked(descriptor, SOL_SOCKET, SO_SNDBUF, options->send_buffer_bytes, 0);
    if (result == 0)
        result = set_asked(descriptor, SOL_SOCKET, SO_RCVBUF, options->receive_buffer_bytes, 0);
    return result;
}

/* --- listening --- */

static bool is_ipv6_any(const struct w_io_address *address)
{
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)(const void *)&address->socket;
    return ipv6->sin6_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&ipv6->sin6_addr);
}

/* 0.0.0.0 with the port of [::]. */
static struct w_io_address ipv4_any(const struct w_io_address *address)
{
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)(const void *)&address->socket;
    struct w_io_address other = {.bytes = sizeof(struct sockaddr_in)};
    struct sockaddr_in *ipv4 = (struct sockaddr_in *)(void *)&other.socket;
    *ipv4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = ipv6->sin6_port, .sin_addr.s_addr = htonl(INADDR_ANY)};
    return other;
}

/* A socket bound to a TCP address: the descriptor or a negative errno. */
static int bind_tcp(const struct w_io_address *address, const weir_socket_options *options, bool reuse_port)
{
    int family = address->socket.any.sa_family;
    int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    /* A restarted server must not wait for the old one's connections in TIME_WAIT. */
    int result = set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
    if (result == 0 && reuse_port)
        result = set(descriptor, SOL_SOCKET, SO_REUSEPORT, 1);
    if (result == 0 && is_ipv6_any(address))
        result = set(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (result == 0)
        result = set_options(descriptor, family, options);
    if (result == 0 && bind(descriptor, &address->socket.any, address->bytes) != 0)
        result = -errno;
    if (result == 0)
        return descriptor;
    close(descriptor);
    return result;
}

/* True when somebody listens on the port. SO_REUSEPORT alone would share it with whoever of our user set it too, and take half
 * of an older server's connections; a socket without it cannot be bound beside a listening one. */
static int probe_port(const struct w_io_address *address, const weir_socket_options *options)
{
    int descriptor = bind_tcp(address, options, false);
    if (descriptor < 0)
        return descriptor;
    close(descriptor);
    return 0;
}

static int open_tcp(const struct w_io_address *address, const weir_socket_options *options, enum w_io_sharing sharing)
{
    int result = sharing == W_IO_SHARED_FIRST ? probe_port(address, options) : 0;
    return result < 0 ? result : bind_tcp(address, options, sharing != W_IO_ALONE);
}

/* What lies at a unix path: 1 somebody listens there (the descriptor of a connection to him in *descriptor, which may be -1), 0 nobody. */
static int somebody_listens(const struct w_io_address *address, int *descriptor)
{
    *descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*descriptor < 0)
        return 1;
    if (connect(*descriptor, &address->socket.any, address->bytes) == 0)
        return 1;
    int error = errno;
    close(*descriptor);
    *descriptor = -1;
    /* EAGAIN: his backlog is full. EPROTOTYPE: a socket of another kind. EACCES: cannot be known. */
    return error != ECONNREFUSED && error != ENOENT;
}

/* Removes the file at a path when it is a socket that nobody listens on: 0, or -EADDRINUSE. */
static int remove_stale(const struct w_io_address *address)
{
    const char *path = address->socket.unix_path.sun_path;
    struct stat status;
    int descriptor;
    if (lstat(path, &status) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode))
        return -EADDRINUSE;
    int busy = somebody_listens(address, &descriptor);
    if (descriptor >= 0)
        close(descriptor);
    if (busy)
        return -EADDRINUSE;
    return unlink(path) == 0 || errno == ENOENT ? 0 : -errno;
}

static bool is_path(const struct w_io_address *address)
{
    return address->socket.any.sa_family == AF_UNIX && address->bytes > offsetof(struct sockaddr_un, sun_path) &&
           address->socket.unix_path.sun_path[0] != '\0';
}

static int open_unix(const struct w_io_address *address, const weir_socket_options *options)
{
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    int result = set_options(descriptor, AF_UNIX, options);
    if (result == 0 && bind(descriptor, &address->socket.any, address->bytes) != 0)
        result = -errno;
    if (result == -EADDRINUSE && is_path(address)) {
        result = remove_stale(address);
        if (result == 0 && bind(descriptor, &address->socket.any, address->bytes) != 0)
            result = -errno;
    }
    if (result == 0)
        return descriptor;
    close(descriptor);
    return result;
}

static int open_address(const struct w_io_address *address, const weir_socket_options *options, enum w_io_sharing sharing)
{
    if (address->socket.any.sa_family == AF_UNIX)
        return open_unix(address, options);
    if (!is_tcp_family(address->socket.any.sa_family))
        return -EAFNOSUPPORT;
    int descriptor = open_tcp(address, options, sharing);
    if (descriptor != -EAFNOSUPPORT || !is_ipv6_any(address))
        return descriptor;
    struct w_io_address other = ipv4_any(address);
    return open_tcp(&other, options, sharing);
}

int w_socket_listen(const struct w_io_address *address, const weir_socket_options *options, enum w_io_sharing sharing)
{
    const struct timespec pause = {.tv_nsec = LISTEN_PAUSE_NS};
    uint32_t backlog = options->backlog == 0 || options->backlog == WEIR_OPTION_OFF ? BACKLOG : options->backlog;
    int descriptor = open_address(address, options, sharing);
    /* A process that was killed a moment ago: the kernel takes its rings down, and with them the accepts that hold its sockets, behind its back. */
    for (int i = 0; descriptor == -EADDRINUSE && i < LISTEN_TRIES; i++) {
        nanosleep(&pause, NULL);
        descriptor = open_address(address, options, sharing);
    }
    if (descriptor < 0 || listen(descriptor, (int)w_base_min_u32(backlog, OPTION_MAX)) == 0)
        return descriptor;
    int result = -errno;
    close(descriptor);
    if (is_path(address))
        unlink(address->socket.unix_path.sun_path);
    return result;
}

void w_socket_remove(const struct w_io_address *address)
{
    struct ucred owner;
    socklen_t bytes = sizeof owner;
    struct stat status;
    int descriptor;
    if (!is_path(address) || lstat(address->socket.unix_path.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
        return;
    /* Our own closed listener may answer for a moment still: the kernel puts files away a little later than it says. */
    bool ours = !somebody_listens(address, &descriptor);
    if (descriptor >= 0) {
        ours = getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &owner, &bytes) == 0 && owner.pid == getpid();
        close(descriptor);
    }
    if (ours)
        unlink(address->socket.unix_path.sun_path);
}

/* --- sockets from elsewhere --- */

static int option_of(int descriptor, int name)
{
    int value = -1;
    socklen_t bytes = sizeof value;
    return getsockopt(descriptor, SOL_SOCKET, name, &value, &bytes) == 0 ? value : -errno;
}

/* Checks that it is a stream socket of a family we know, listening or not as wanted, and makes it close-on-exec and blocking. The
 * family, or -EBADF or -EINVAL. */
static int take_over(int descriptor, bool listening)
{
    int type = option_of(descriptor, SO_TYPE);
    int family = option_of(descriptor, SO_DOMAIN);
    if (type == -EBADF)
        return -EBADF;
    if (type != SOCK_STREAM || (!is_tcp_family(family) && family != AF_UNIX) || option_of(descriptor, SO_ACCEPTCONN) != (listening ? 1 : 0))
        return -EINVAL;
    int flags = fcntl(descriptor, F_GETFL);
    if (flags < 0 || fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK) != 0 || fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0)
        return -errno;
    return family;
}

int w_socket_listen_inherited(int descriptor, const weir_socket_options *options)
{
    int family = take_over(descriptor, true);
    if (family < 0)
        return family;
    int result = set_options(descriptor, family, options);
    /* A second listen() changes the backlog; the one who opened it has chosen, unless we are asked. */
    if (result == 0 && options->backlog != 0 && options->backlog != WEIR_OPTION_OFF &&
        listen(descriptor, (int)w_base_min_u32(options->backlog, OPTION_MAX)) != 0)
        result = -errno;
    return result == 0 ? descriptor : result;
}

int w_socket_adopt(int descriptor, const weir_socket_options *options)
{
    struct w_io_address peer;
    if (option_of(descriptor, SO_TYPE) != SOCK_STREAM || w_socket_peer(descriptor, &peer) < 0)
        return -EINVAL;
    int family = take_over(descriptor, false);
    if (family < 0)
        return -EINVAL;
    return set_options(descriptor, family, options) == 0 ? 0 : -EINVAL;
}

int w_socket_dial(const struct w_io_address *address, const weir_socket_options *options)
{
    int family = address->socket.any.sa_family;
    if (!is_tcp_family(family) && family != AF_UNIX)
        return -EAFNOSUPPORT;
    int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -errno;
    int result = set_options(descriptor, family, options);
    if (result == 0)
        return descriptor;
    close(descriptor);
    return result;
}

/* --- addresses and the end --- */

int w_socket_local(int descriptor, struct w_io_address *address)
{
    memset(address, 0, sizeof *address);
    address->bytes = sizeof address->socket;
    return getsockname(descriptor, &address->socket.any, &address->bytes) == 0 ? 0 : -errno;
}

int w_socket_peer(int descriptor, struct w_io_address *address)
{
    memset(address, 0, sizeof *address);
    address->bytes = sizeof address->socket;
    return getpeername(descriptor, &address->socket.any, &address->bytes) == 0 ? 0 : -errno;
}

void w_socket_reset_on_close(int descriptor)
{
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}
