/* SPDX-License-Identifier: MIT */
/* test_socket: the real sockets: options and who inherits them, ports in use, stale socket files, descriptors from elsewhere. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/io/address.h"
#include "runtime/io/socket.h"

static const weir_socket_options defaults;

static struct w_io_address address_of(const char *text)
{
    struct w_address address;
    weir_error error = {0};
    ck_assert_msg(w_address_parse(text, &address, &error) == 0, "%s", error.sentence);
    return address.socket;
}

static int listen_on(const char *text, enum w_io_sharing sharing)
{
    struct w_io_address address = address_of(text);
    return w_socket_listen(&address, &defaults, sharing);
}

static struct w_io_address local_of(int descriptor)
{
    struct w_io_address address;
    ck_assert_int_eq(w_socket_local(descriptor, &address), 0);
    return address;
}

static int option_of(int descriptor, int level, int name)
{
    int value = -1;
    socklen_t bytes = sizeof value;
    ck_assert_int_eq(getsockopt(descriptor, level, name, &value, &bytes), 0);
    return value;
}

/* A connection to a listener: our end, and the accepted one in *accepted. */
static int connect_to(int listener, int *accepted)
{
    struct w_io_address address = local_of(listener);
    int descriptor = w_socket_dial(&address, &defaults);
    ck_assert_int_ge(descriptor, 0);
    ck_assert_int_eq(connect(descriptor, &address.socket.any, address.bytes), 0);
    *accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ck_assert_int_ge(*accepted, 0);
    return descriptor;
}

static bool has_ipv6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    int descriptor = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = descriptor >= 0 && bind(descriptor, (struct sockaddr *)(void *)&address, sizeof address) == 0;
    if (descriptor >= 0)
        close(descriptor);
    return has;
}

static void close_all(const int *descriptors, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(close(descriptors[i]), 0);
}

static void check_defaults(int descriptor)
{
    ck_assert_int_eq(option_of(descriptor, IPPROTO_TCP, TCP_NODELAY), 1);
    ck_assert_int_eq(option_of(descriptor, SOL_SOCKET, SO_KEEPALIVE), 1);
    ck_assert_int_eq(option_of(descriptor, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    ck_assert_int_eq(option_of(descriptor, IPPROTO_TCP, TCP_KEEPINTVL), 10);
    ck_assert_int_eq(option_of(descriptor, IPPROTO_TCP, TCP_KEEPCNT), 6);
    ck_assert_int_eq(option_of(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT), 60000);
    ck_assert_int_eq(option_of(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 256 * 1024);
}

static bool is_blocking_and_close_on_exec(int descriptor)
{
    return (fcntl(descriptor, F_GETFL) & O_NONBLOCK) == 0 && (fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0;
}

/* Of the listener and of what it accepts, for IPv4, IPv6 and both; and of a dialled socket. */
START_TEST(default_options_are_inherited)
{
    static const char *const texts[] = {"tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://*:0"};
    if (_i > 0 && !has_ipv6())
        return;
    int listener = listen_on(texts[_i], W_IO_ALONE);
    ck_assert_int_ge(listener, 0);
    int accepted, dialled;
    if (_i == 2) {
        /* The address of every interface cannot be dialled by its name: take the loopback's. */
        struct w_io_address address = local_of(listener);
        ((struct sockaddr_in6 *)(void *)&address.socket)->sin6_addr = in6addr_loopback;
        dialled = w_socket_dial(&address, &defaults);
        ck_assert_int_eq(connect(dialled, &address.socket.any, address.bytes), 0);
        accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    } else {
        dialled = connect_to(listener, &accepted);
    }
    check_defaults(listener);
    check_defaults(accepted);
    check_defaults(dialled);
    ck_assert(is_blocking_and_close_on_exec(listener));
    ck_assert(is_blocking_and_close_on_exec(dialled));
    close_all((int[]){listener, accepted, dialled}, 3);
}
END_TEST

START_TEST(chosen_options_are_inherited)
{
    const weir_socket_options options = {
        .nagle = true,
        .keepalive_idle_s = 7,
        .user_timeout_ms = 1234,
        .unsent_low_water_bytes = 4096,
        .send_buffer_bytes = 40000,
        .receive_buffer_bytes = 50000,
        .backlog = 1,
    };
    struct w_io_address address = address_of("tcp://127.0.0.1:0");
    int listener = w_socket_listen(&address, &options, W_IO_ALONE), accepted;
    ck_assert_int_ge(listener, 0);
    int dialled = connect_to(listener, &accepted);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_NODELAY), 0);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_KEEPIDLE), 7);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_USER_TIMEOUT), 1234);
    ck_assert_int_eq(option_of(accepted, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 4096);
    ck_assert_int_eq(option_of(accepted, SOL_SOCKET, SO_SNDBUF), 80000); /* the kernel doubles it */
    ck_assert_int_eq(option_of(accepted, SOL_SOCKET, SO_RCVBUF), 100000);
    close_all((int[]){listener, accepted, dialled}, 3);
}
END_TEST

START_TEST(options_left_alone)
{
    const weir_socket_options options = {
        .nagle = true,
        .keepalive_idle_s = WEIR_OPTION_OFF,
        .user_timeout_ms = WEIR_OPTION_OFF,
        .unsent_low_water_bytes = WEIR_OPTION_OFF,
        .send_buffer_bytes = WEIR_OPTION_OFF,
        .receive_buffer_bytes = WEIR_OPTION_OFF,
        .backlog = WEIR_OPTION_OFF,
    };
    static const int tcp_names[] = {TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT};
    struct w_io_address address = address_of("tcp://127.0.0.1:0");
    int listener = w_socket_listen(&address, &options, W_IO_ALONE), plain = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(listener, 0);
    for (size_t i = 0; i < W_COUNT(tcp_names); i++)
        ck_assert_int_eq(option_of(listener, IPPROTO_TCP, tcp_names[i]), option_of(plain, IPPROTO_TCP, tcp_names[i]));
    ck_assert_int_eq(option_of(listener, SOL_SOCKET, SO_KEEPALIVE), 0);
    ck_assert_int_eq(option_of(listener, SOL_SOCKET, SO_SNDBUF), option_of(plain, SOL_SOCKET, SO_SNDBUF));
    ck_assert_int_eq(option_of(listener, SOL_SOCKET, SO_RCVBUF), option_of(plain, SOL_SOCKET, SO_RCVBUF));
    close_all((int[]){listener, plain}, 2);
}
END_TEST

START_TEST(option_out_of_range_is_an_error)
{
    const weir_socket_options options = {.keepalive_idle_s = 100000};
    struct w_io_address address = address_of("tcp://127.0.0.1:0");
    ck_assert_int_eq(w_socket_listen(&address, &options, W_IO_ALONE), -EINVAL);
    ck_assert_int_eq(w_socket_dial(&address, &options), -EINVAL);
}
END_TEST

START_TEST(every_address_takes_both_families)
{
    if (!has_ipv6())
        return;
    int listener = listen_on("tcp://*:0", W_IO_ALONE);
    ck_assert_int_ge(listener, 0);
    struct w_io_address bound = local_of(listener);
    uint16_t port = ((struct sockaddr_in6 *)(void *)&bound.socket)->sin6_port;
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = in6addr_loopback};
    int four = socket(AF_INET, SOCK_STREAM, 0), six = socket(AF_INET6, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(four, (struct sockaddr *)(void *)&ipv4, sizeof ipv4), 0);
    ck_assert_int_eq(connect(six, (struct sockaddr *)(void *)&ipv6, sizeof ipv6), 0);
    int accepted = accept(listener, NULL, NULL);
    struct w_io_address peer;
    char text[WEIR_ADDRESS_MAX_BYTES];
    ck_assert_int_eq(w_socket_peer(accepted, &peer), 0);
    ck_assert_int_eq(w_address_peer_text(&peer, text, sizeof text), 0);
    ck_assert_msg(strncmp(text, "127.0.0.1:", 10) == 0, "%s", text);
    close_all((int[]){listener, four, six, accepted}, 4);
}
END_TEST

/* --- ports in use --- */

static int listen_beside(int listener, enum w_io_sharing sharing)
{
    struct w_io_address address = local_of(listener);
    return w_socket_listen(&address, &defaults, sharing);
}

START_TEST(port_in_use)
{
    int listener = listen_on("tcp://127.0.0.1:0", (enum w_io_sharing)_i);
    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(listen_beside(listener, W_IO_ALONE), -EADDRINUSE);
    ck_assert_int_eq(listen_beside(listener, W_IO_SHARED_FIRST), -EADDRINUSE);
    int again = listen_beside(listener, W_IO_SHARED_NEXT);
    if (_i == W_IO_ALONE) {
        ck_assert_int_eq(again, -EADDRINUSE);
    } else {
        ck_assert_int_ge(again, 0);
        close(again);
    }
    close(listener);
}
END_TEST

START_TEST(port_in_use_by_every_address)
{
    int listener = listen_on("tcp://*:0", W_IO_SHARED_FIRST);
    struct w_io_address address = local_of(listener);
    struct sockaddr_in ipv4 = {.sin_family = AF_INET,
                               .sin_port = ((struct sockaddr_in6 *)(void *)&address.socket)->sin6_port,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    memcpy(&address.socket, &ipv4, sizeof ipv4);
    address.bytes = sizeof ipv4;
    ck_assert_int_eq(w_socket_listen(&address, &defaults, W_IO_SHARED_FIRST), -EADDRINUSE);
    close(listener);
}
END_TEST

/* All the sockets of one address get connections. */
START_TEST(shared_sockets_share)
{
    int listeners[4], clients[200];
    listeners[0] = listen_on("tcp://127.0.0.1:0", W_IO_SHARED_FIRST);
    for (size_t i = 1; i < W_COUNT(listeners); i++)
        listeners[i] = listen_beside(listeners[0], W_IO_SHARED_NEXT);
    struct w_io_address address = local_of(listeners[0]);
    for (size_t i = 0; i < W_COUNT(clients); i++) {
        clients[i] = w_socket_dial(&address, &defaults);
        ck_assert_int_eq(connect(clients[i], &address.socket.any, address.bytes), 0);
    }
    for (size_t i = 0; i < W_COUNT(listeners); i++) {
        ck_assert_int_eq(fcntl(listeners[i], F_SETFL, O_NONBLOCK), 0);
        int count = 0;
        for (int accepted; (accepted = accept(listeners[i], NULL, NULL)) >= 0; count++)
            close(accepted);
        ck_assert_int_gt(count, 0);
    }
    close_all(listeners, W_COUNT(listeners));
    close_all(clients, W_COUNT(clients));
}
END_TEST

/* A server that was just stopped has connections in TIME_WAIT; the next one must not wait for them. */
START_TEST(port_is_free_at_once_after_its_server)
{
    int listener = listen_on("tcp://127.0.0.1:0", W_IO_SHARED_FIRST), accepted;
    struct w_io_address address = local_of(listener);
    int client = connect_to(listener, &accepted);
    close(accepted); /* the server closes first: TIME_WAIT is his */
    char byte;
    ck_assert_int_eq(recv(client, &byte, 1, 0), 0);
    close_all((int[]){client, listener}, 2);
    listener = w_socket_listen(&address, &defaults, W_IO_SHARED_FIRST);
    ck_assert_int_ge(listener, 0);
    close(listener);
}
END_TEST

START_TEST(address_that_is_not_ours)
{
    ck_assert_int_eq(listen_on("tcp://192.0.2.1:80", W_IO_ALONE), -EADDRNOTAVAIL);
    ck_assert_int_eq(listen_on("tcp://192.0.2.1:80", W_IO_SHARED_FIRST), -EADDRNOTAVAIL);
}
END_TEST

/* --- unix sockets --- */

static char directory[64];

static void make_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/weir-socket-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/s", directory);
    unlink(path);
    rmdir(directory);
}

static struct w_io_address unix_address(void)
{
    char text[128];
    snprintf(text, sizeof text, "unix://%s/s", directory);
    return address_of(text);
}

static bool file_exists(const struct w_io_address *address)
{
    return access(address->socket.unix_path.sun_path, F_OK) == 0;
}

START_TEST(socket_file_lives_as_long_as_its_listener)
{
    struct w_io_address address = unix_address();
    int listener = w_socket_listen(&address, &defaults, W_IO_ALONE), accepted;
    ck_assert_int_ge(listener, 0);
    ck_assert(file_exists(&address) && is_blocking_and_close_on_exec(listener));
    int client = connect_to(listener, &accepted);
    close_all((int[]){client, accepted, listener}, 3);
    ck_assert(file_exists(&address));
    w_socket_remove(&address);
    ck_assert(!file_exists(&address));
    w_socket_remove(&address);
}
END_TEST

START_TEST(stale_socket_file_is_replaced)
{
    struct w_io_address address = unix_address();
    int listener = w_socket_listen(&address, &defaults, W_IO_ALONE);
    close(listener);
    listener = w_socket_listen(&address, &defaults, W_IO_ALONE);
    ck_assert_int_ge(listener, 0);
    int accepted, client = connect_to(listener, &accepted);
    close_all((int[]){client, accepted, listener}, 3);
}
END_TEST

START_TEST(socket_file_in_use)
{
    const weir_socket_options options = {.backlog = 1};
    struct w_io_address address = unix_address();
    int listener = w_socket_listen(&address, &options, W_IO_ALONE), clients[2];
    ck_assert_int_eq(w_socket_listen(&address, &defaults, W_IO_ALONE), -EADDRINUSE);
    /* Also when its backlog is full: the test's own connections count, so one accept makes room for ours. */
    for (size_t i = 0; i < W_COUNT(clients); i++) {
        clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(clients[i], &address.socket.any, address.bytes);
    }
    int full = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(connect(full, &address.socket.any, address.bytes), -1);
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_int_eq(w_socket_listen(&address, &defaults, W_IO_ALONE), -EADDRINUSE);
    ck_assert(file_exists(&address));
    close_all(clients, W_COUNT(clients));
    close_all((int[]){full, listener}, 2);
}
END_TEST

START_TEST(file_that_is_no_listener_is_left_alone)
{
    struct w_io_address address = unix_address();
    const char *path = address.socket.unix_path.sun_path;
    int file = open(path, O_CREAT | O_RDWR, 0600);
    ck_assert_int_eq(w_socket_listen(&address, &defaults, W_IO_ALONE), -EADDRINUSE);
    w_socket_remove(&address);
    ck_assert(file_exists(&address));
    close(file);
    unlink(path);

    int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
    ck_assert_int_eq(bind(datagram, &address.socket.any, address.bytes), 0);
    ck_assert_int_eq(w_socket_listen(&address, &defaults, W_IO_ALONE), -EADDRINUSE);
    w_socket_remove(&address);
    ck_assert(file_exists(&address));
    close(datagram);

    unlink(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(w_socket_listen(&address, &defaults, W_IO_ALONE), -EADDRINUSE);
    rmdir(path);
}
END_TEST

START_TEST(directory_that_is_not_there)
{
    struct w_io_address address = address_of("unix:///tmp/weir-no-such-directory/s");
    ck_assert_int_eq(w_socket_listen(&address, &defaults, W_IO_ALONE), -ENOENT);
    w_socket_remove(&address);
}
END_TEST

/* A child that was forked and cleans up must not take its parent's file away; nor may we a successor's. */
START_TEST(socket_file_of_another_process_stays)
{
    struct w_io_address address = unix_address();
    int listener = w_socket_listen(&address, &defaults, W_IO_ALONE), status;
    pid_t child = fork();
    if (child == 0) {
        close(listener);
        w_socket_remove(&address);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(file_exists(&address));
    close(listener);

    int ends[2];
    char byte;
    ck_assert_int_eq(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        listener = w_socket_listen(&address, &defaults, W_IO_ALONE);
        (void)!write(ends[1], "x", 1);
        pause();
    }
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    w_socket_remove(&address);
    ck_assert(file_exists(&address));
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    w_socket_remove(&address);
    ck_assert(!file_exists(&address));
    close_all(ends, 2);
}
END_TEST

START_TEST(abstract_name)
{
    char text[64];
    snprintf(text, sizeof text, "unix://@weir-test-%d", (int)getpid());
    int listener = listen_on(text, W_IO_ALONE), accepted;
    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(listen_on(text, W_IO_ALONE), -EADDRINUSE);
    int client = connect_to(listener, &accepted);
    struct w_io_address address;
    char back[WEIR_ADDRESS_MAX_BYTES];
    ck_assert_int_eq(w_socket_peer(client, &address), 0);
    ck_assert_int_eq(w_address_text(&address, back, sizeof back), 0);
    ck_assert_str_eq(back, text);
    ck_assert_int_eq(w_socket_peer(accepted, &address), 0);
    ck_assert_int_eq(w_address_peer_text(&address, back, sizeof back), 0);
    ck_assert_str_eq(back, "unix:");
    w_socket_remove(&address);
    close_all((int[]){client, accepted, listener}, 3);
}
END_TEST

/* --- from elsewhere --- */

START_TEST(inherited_listener)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int foreign = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(foreign, (struct sockaddr *)(void *)&address, sizeof address), 0);
    ck_assert_int_eq(w_socket_listen_inherited(foreign, &defaults), -EINVAL); /* not listening */
    ck_assert_int_eq(listen(foreign, 1), 0);
    ck_assert_int_eq(w_socket_listen_inherited(foreign, &defaults), foreign);
    ck_assert(is_blocking_and_close_on_exec(foreign));
    int accepted, client = connect_to(foreign, &accepted);
    check_defaults(accepted);
    close_all((int[]){client, accepted, foreign}, 3);
}
END_TEST

START_TEST(what_is_no_listener)
{
    int datagram = socket(AF_INET, SOCK_DGRAM, 0), pair[2], pipes[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    ck_assert_int_eq(pipe(pipes), 0);
    ck_assert_int_eq(w_socket_listen_inherited(datagram, &defaults), -EINVAL);
    ck_assert_int_eq(w_socket_listen_inherited(pair[0], &defaults), -EINVAL);
    ck_assert_int_eq(w_socket_listen_inherited(pipes[0], &defaults), -EINVAL);
    ck_assert_int_eq(w_socket_listen_inherited(9999, &defaults), -EBADF);
    ck_assert_int_eq(w_socket_listen_inherited(-1, &defaults), -EBADF);
    close_all((int[]){datagram, pair[0], pair[1], pipes[0], pipes[1]}, 5);
}
END_TEST

START_TEST(adopted_socket)
{
    int listener = listen_on("tcp://127.0.0.1:0", W_IO_ALONE), accepted, pair[2], pipes[2];
    int client = connect_to(listener, &accepted), plain = socket(AF_INET, SOCK_STREAM, 0), datagram = socket(AF_INET, SOCK_DGRAM, 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    ck_assert_int_eq(pipe(pipes), 0);
    fcntl(accepted, F_SETFL, O_NONBLOCK);
    ck_assert_int_eq(w_socket_adopt(accepted, &defaults), 0);
    check_defaults(accepted);
    ck_assert(is_blocking_and_close_on_exec(accepted));
    ck_assert_int_eq(w_socket_adopt(pair[0], &defaults), 0);
    ck_assert(is_blocking_and_close_on_exec(pair[0]));

    ck_assert_int_eq(w_socket_adopt(listener, &defaults), -EINVAL);
    ck_assert_int_eq(w_socket_adopt(plain, &defaults), -EINVAL);
    ck_assert_int_eq(w_socket_adopt(datagram, &defaults), -EINVAL);
    ck_assert_int_eq(w_socket_adopt(pipes[0], &defaults), -EINVAL);
    ck_assert_int_eq(w_socket_adopt(-1, &defaults), -EINVAL);
    ck_assert_int_eq(w_socket_adopt(9999, &defaults), -EINVAL);
    close_all((int[]){listener, client, accepted, plain, datagram, pair[0], pair[1], pipes[0], pipes[1]}, 9);
}
END_TEST

START_TEST(reset_on_close)
{
    int listener = listen_on("tcp://127.0.0.1:0", W_IO_ALONE), accepted;
    int client = connect_to(listener, &accepted);
    char byte;
    w_socket_reset_on_close(accepted);
    close(accepted);
    ck_assert_int_eq(recv(client, &byte, 1, 0), -1);
    ck_assert_int_eq(errno, ECONNRESET);
    close_all((int[]){listener, client}, 2);
}
END_TEST

START_TEST(other_families_are_refused)
{
    struct w_io_address address = {.socket.any.sa_family = AF_NETLINK, .bytes = 12};
    ck_assert_int_eq(w_socket_listen(&address, &defaults, W_IO_ALONE), -EAFNOSUPPORT);
    ck_assert_int_eq(w_socket_dial(&address, &defaults), -EAFNOSUPPORT);
    ck_assert_int_lt(w_socket_local(-1, &address), 0);
    ck_assert_int_lt(w_socket_peer(-1, &address), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("socket");
    TCase *tcp = tcase_create("tcp"), *files = tcase_create("unix"), *elsewhere = tcase_create("elsewhere");
    tcase_add_loop_test(tcp, default_options_are_inherited, 0, 3);
    tcase_add_test(tcp, chosen_options_are_inherited);
    tcase_add_test(tcp, options_left_alone);
    tcase_add_test(tcp, option_out_of_range_is_an_error);
    tcase_add_test(tcp, every_address_takes_both_families);
    tcase_add_loop_test(tcp, port_in_use, W_IO_ALONE, W_IO_SHARED_NEXT);
    tcase_add_test(tcp, port_in_use_by_every_address);
    tcase_add_test(tcp, shared_sockets_share);
    tcase_add_test(tcp, port_is_free_at_once_after_its_server);
    tcase_add_test(tcp, address_that_is_not_ours);
    suite_add_tcase(suite, tcp);
    tcase_add_checked_fixture(files, make_directory, remove_directory);
    tcase_add_test(files, socket_file_lives_as_long_as_its_listener);
    tcase_add_test(files, stale_socket_file_is_replaced);
    tcase_add_test(files, socket_file_in_use);
    tcase_add_test(files, file_that_is_no_listener_is_left_alone);
    tcase_add_test(files, directory_that_is_not_there);
    tcase_add_test(files, socket_file_of_another_process_stays);
    tcase_add_test(files, abstract_name);
    suite_add_tcase(suite, files);
    tcase_add_test(elsewhere, inherited_listener);
    tcase_add_test(elsewhere, what_is_no_listener);
    tcase_add_test(elsewhere, adopted_socket);
    tcase_add_test(elsewhere, reset_on_close);
    tcase_add_test(elsewhere, other_families_are_refused);
    suite_add_tcase(suite, elsewhere);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
