/* SPDX-License-Identifier: MIT */
/* address: see address.h. */
#include "address.h"

#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static const char *address_parse_unix(struct address *address, const char *path)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&address->storage;
    size_t path_bytes = strlen(path);
    if (path_bytes < 2)
        return "has no path behind unix://";
    if (path[0] != '/' && path[0] != '@')
        return "wants an absolute path or @name behind unix://";
    if (path_bytes >= sizeof un->sun_path)
        return "has a path longer than a unix socket's can be (107 bytes)";
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, path_bytes + 1);
    address->storage_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_bytes + 1);
    if (path[0] == '@') {
        un->sun_path[0] = '\0'; /* an abstract name is not terminated, its length counts */
        address->storage_bytes--;
    }
    return NULL;
}

static const char *address_parse_tcp(struct address *address, const char *text)
{
    char host[256];
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0' || strchr(colon, ']') != NULL)
        return "has no port";
    bool brackets = text[0] == '[' && colon[-1] == ']';
    size_t host_bytes = (size_t)(colon - text) - (brackets ? 2 : 0);
    if (host_bytes == 0 || host_bytes >= sizeof host)
        return "has no host";
    memcpy(host, text + brackets, host_bytes);
    host[host_bytes] = '\0';
    if (!brackets && strchr(host, ':') != NULL)
        return "is IPv6, which goes in brackets: tcp://[::1]:7000";
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host, colon + 1, &hints, &found);
    if (code == EAI_SERVICE || code == EAI_NONAME)
        return "has a host or a port that nobody knows";
    if (code != 0)
        return gai_strerror(code);
    memcpy(&address->storage, found->ai_addr, found->ai_addrlen);
    address->storage_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return NULL;
}

const char *address_parse(struct address *address, const char *text)
{
    *address = (struct address){.text = text};
    if (strncmp(text, "tcp://", 6) == 0)
        return address_parse_tcp(address, text + 6);
    if (strncmp(text, "unix://", 7) == 0)
        return address_parse_unix(address, text + 7);
    return "is neither tcp://host:port nor unix:///path nor unix://@name";
}

bool address_is_tcp(const struct address *address)
{
    return address->storage.ss_family != AF_UNIX;
}
