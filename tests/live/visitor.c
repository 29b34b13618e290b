/* SPDX-License-Identifier: MIT */
/* visitor: the other end of a connection, a plain socket. */
#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/un.h>

static socklen_t unix_address(const char *path, struct sockaddr_storage *storage)
{
    struct sockaddr_un *address = (struct sockaddr_un *)storage;
    address->sun_family = AF_UNIX;
    size_t bytes = strlen(path);
    MUST(bytes < sizeof address->sun_path);
    memcpy(address->sun_path, path, bytes + 1);
    if (path[0] != '@')
        return sizeof *address;
    address->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
}

static socklen_t tcp_address(const char *text, struct sockaddr_storage *storage)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    MUST(colon != NULL);
    uint16_t port = htons((uint16_t)atoi(colon + 1));
    if (text[0] == '[') {
        struct sockaddr_in6 *address = (struct sockaddr_in6 *)storage;
        snprintf(host, sizeof host, "%.*s", (int)(colon - text - 2), text + 1);
        address->sin6_family = AF_INET6;
        address->sin6_port = port;
        MUST_EQUAL(inet_pton(AF_INET6, host, &address->sin6_addr), 1);
        return sizeof *address;
    }
    struct sockaddr_in *address = (struct sockaddr_in *)storage;
    snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
    address->sin_family = AF_INET;
    address->sin_port = port;
    MUST_EQUAL(inet_pton(AF_INET, host, &address->sin_addr), 1);
    return sizeof *address;
}

int visitor_try_dial(const char *address)
{
    struct sockaddr_storage storage;
    memset(&storage, 0, sizeof storage);
    socklen_t bytes;
    if (strncmp(address, "unix://", 7) == 0) {
        bytes = unix_address(address + 7, &storage);
    } else {
        MUST(strncmp(address, "tcp://", 6) == 0);
        bytes = tcp_address(address + 6, &storage);
    }
    int descriptor = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(descriptor >= 0);
    if (connect(descriptor, (struct sockaddr *)&storage, bytes) != 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    MUST_EQUAL(fcntl(descriptor, F_SETFL, O_NONBLOCK), 0);
    if (storage.ss_family != AF_UNIX)
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return descriptor;
}

int visitor_dial(const char *address)
{
    int descriptor = visitor_try_dial(address);
    if (descriptor < 0)
        ck_abort_msg("connect to %s: %s", address, strerror(-descriptor));
    return descriptor;
}

int visitor_listen(int backlog, char *address, size_t address_bytes)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof name;
    MUST(descriptor >= 0);
    MUST_EQUAL(bind(descriptor, (struct sockaddr *)&name, bytes), 0);
    MUST_EQUAL(listen(descriptor, backlog), 0);
    MUST_EQUAL(getsockname(descriptor, (struct sockaddr *)&name, &bytes), 0);
    snprintf(address, address_bytes, "tcp://127.0.0.1:%u", ntohs(name.sin_port));
    return descriptor;
}

void visitor_send(struct fixture *fixture, int descriptor, const void *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t sent = -1;
        UNTIL(fixture, (sent = send(descriptor, (const uint8_t *)data + done, bytes - done, MSG_NOSIGNAL)) >= 0 || errno != EAGAIN);
        if (sent < 0)
            ck_abort_msg("the visitor cannot send: %s", strerror(errno));
        done += (size_t)sent;
    }
}

void visitor_receive(struct fixture *fixture, int descriptor, void *data, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = -1;
        UNTIL(fixture, (got = recv(descriptor, (uint8_t *)data + done, bytes - done, 0)) >= 0 || errno != EAGAIN);
        if (got <= 0)
            ck_abort_msg("the visitor got %zu of %zu bytes, then %s", done, bytes, got == 0 ? "the end" : strerror(errno));
        done += (size_t)got;
    }
}

void visitor_send_frame(struct fixture *fixture, int descriptor, const void *payload, uint32_t bytes)
{
    uint8_t head[4] = {(uint8_t)bytes, (uint8_t)(bytes >> 8), (uint8_t)(bytes >> 16), (uint8_t)(bytes >> 24)};
    visitor_send(fixture, descriptor, head, sizeof head);
    visitor_send(fixture, descriptor, payload, bytes);
}

uint32_t visitor_receive_frame(struct fixture *fixture, int descriptor, void *payload, uint32_t room)
{
    uint8_t head[4];
    visitor_receive(fixture, descriptor, head, sizeof head);
    uint32_t bytes = head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16 | (uint32_t)head[3] << 24;
    if (bytes > room)
        ck_abort_msg("a frame of %u bytes came where at most %u fit", bytes, room);
    visitor_receive(fixture, descriptor, payload, bytes);
    return bytes;
}

void visitor_expect_frame(struct fixture *fixture, int descriptor, const void *payload, uint32_t bytes)
{
    uint8_t *got = malloc(bytes + 1);
    MUST(got != NULL);
    MUST_EQUAL(visitor_receive_frame(fixture, descriptor, got, bytes), bytes);
    MUST(memcmp(got, payload, bytes) == 0);
    free(got);
}

void visitor_expect_end(struct fixture *fixture, int descriptor)
{
    uint8_t byte;
    ssize_t got = -1;
    UNTIL(fixture, (got = recv(descriptor, &byte, 1, 0)) >= 0 || errno != EAGAIN);
    if (got != 0)
        ck_abort_msg("the visitor expects the end and gets %s", got > 0 ? "data" : strerror(errno));
}

void visitor_expect_reset(struct fixture *fixture, int descriptor)
{
    uint8_t bytes[4096];
    ssize_t got = -1;
    do {
        UNTIL(fixture, (got = recv(descriptor, bytes, sizeof bytes, 0)) >= 0 || errno != EAGAIN);
    } while (got > 0);
    if (got == 0)
        ck_abort_msg("the visitor expects a reset and gets the end");
    MUST_EQUAL(errno, ECONNRESET);
}

void visitor_reset(int descriptor)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    MUST_EQUAL(setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    MUST_EQUAL(close(descriptor), 0);
}
