/* SPDX-License-Identifier: MIT */
/* address: where a server listens, from "tcp://host:port" ([v6] in brackets), "unix:///path" or "unix://@abstract". */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

struct address {
    const char *text; /* as the user wrote it; not copied */
    struct sockaddr_storage storage;
    socklen_t storage_bytes;
};

/* Looks names up, so it may wait. Returns NULL, or what is wrong as the end of a sentence ("... has no port"). */
const char *address_parse(struct address *address, const char *text);

bool address_is_tcp(const struct address *address);
