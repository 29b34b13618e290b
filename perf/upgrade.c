/* SPDX-License-Identifier: MIT */
/* upgrade: see upgrade.h. The key is always the RFC's own example: what it guards against are caches between browsers and servers. */
#include "upgrade.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define UPGRADE_PATIENCE_MS 10000
#define UPGRADE_HEAD_MOST   2048

static const char upgrade_request[] = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
static const char upgrade_accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

int upgrade_one(int descriptor)
{
    char head[UPGRADE_HEAD_MOST + 1] = "";
    size_t had_bytes = 0;
    if (send(descriptor, upgrade_request, sizeof upgrade_request - 1, MSG_NOSIGNAL) != (ssize_t)sizeof upgrade_request - 1)
        return errno;
    while (strstr(head, "\r\n\r\n") == NULL) {
        struct pollfd wait = {.fd = descriptor, .events = POLLIN};
        if (had_bytes == UPGRADE_HEAD_MOST)
            return EPROTO;
        if (poll(&wait, 1, UPGRADE_PATIENCE_MS) == 0)
            return ETIMEDOUT;
        ssize_t count = recv(descriptor, head + had_bytes, UPGRADE_HEAD_MOST - had_bytes, 0);
        if (count <= 0)
            return count == 0 ? ECONNRESET : errno;
        had_bytes += (size_t)count;
        head[had_bytes] = '\0';
    }
    bool upgraded = strncmp(head, "HTTP/1.1 101 ", 13) == 0 && strstr(head, upgrade_accept) != NULL;
    return upgraded && strstr(head, "\r\n\r\n") + 4 == head + had_bytes ? 0 : EPROTO;
}

bool upgrade_all(const int *sockets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int error = upgrade_one(sockets[i]);
        if (error != 0) {
            fprintf(stderr, "weir-perf: connection %u of %u is no WebSocket: %s\n", i + 1, count,
                    error == EPROTO ? "its handshake was not answered by 101" : strerror(error));
            return false;
        }
    }
    return true;
}
