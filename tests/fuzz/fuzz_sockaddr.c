/* SPDX-License-Identifier: MIT */
/* fuzz_sockaddr: any bytes as an address that a kernel answered: a text, always ended, and if it is one that weir could have been given, it is read
 * back as the same address.
 *
 * Input: the sockaddr, as long as it is said to be. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "fuzz.h"
#include "runtime/io/address.h"

static const struct sockaddr_in *ipv4_of(const struct w_io_address *address)
{
    return (const struct sockaddr_in *)(const void *)&address->socket;
}

static const struct sockaddr_in6 *ipv6_of(const struct w_io_address *address)
{
    return (const struct sockaddr_in6 *)(const void *)&address->socket;
}

static bool is_same_ipv6(const struct w_io_address *a, const struct w_io_address *b)
{
    return memcmp(&ipv6_of(a)->sin6_addr, &ipv6_of(b)->sin6_addr, 16) == 0 && ipv6_of(a)->sin6_port == ipv6_of(b)->sin6_port &&
           ipv6_of(a)->sin6_scope_id == ipv6_of(b)->sin6_scope_id;
}

static bool is_same_ipv4(const struct w_io_address *a, const struct w_io_address *b)
{
    return ipv4_of(a)->sin_addr.s_addr == ipv4_of(b)->sin_addr.s_addr && ipv4_of(a)->sin_port == ipv4_of(b)->sin_port;
}

static struct w_address parse(const char *text)
{
    struct w_address address;
    FUZZ_CHECK(w_address_parse(text, &address, NULL) == 0 && address.kind == W_ADDRESS_NUMERIC);
    return address;
}

/* The peer's text is an address without its scheme; an IPv4 peer of a socket for both families is IPv4. */
static void check_internet(const struct w_io_address *address, const char *text, const char *peer)
{
    char whole[WEIR_ADDRESS_MAX_BYTES + 8];
    struct w_address back = parse(text);
    bool v6 = address->socket.any.sa_family == AF_INET6;
    FUZZ_CHECK(back.socket.socket.any.sa_family == address->socket.any.sa_family);
    FUZZ_CHECK(v6 ? is_same_ipv6(&back.socket, address) : is_same_ipv4(&back.socket, address));
    snprintf(whole, sizeof whole, "tcp://%s", peer);
    back = parse(whole);
    if (!v6 || !IN6_IS_ADDR_V4MAPPED(&ipv6_of(address)->sin6_addr)) {
        FUZZ_CHECK(strcmp(whole, text) == 0);
        return;
    }
    FUZZ_CHECK(back.socket.socket.any.sa_family == AF_INET && ipv4_of(&back.socket)->sin_port == ipv6_of(address)->sin6_port);
    FUZZ_CHECK(memcmp(&ipv4_of(&back.socket)->sin_addr, ipv6_of(address)->sin6_addr.s6_addr + 12, 4) == 0);
}

/* Paths that are relative, end in / or fill all of sun_path, and abstract names with a NUL inside are none that weir can be given: a text they have. */
static void check_unix(const struct w_io_address *address, const char *text, const char *peer)
{
    const char *path = address->socket.unix_path.sun_path;
    size_t bytes = address->bytes - offsetof(struct sockaddr_un, sun_path);
    if (bytes > sizeof address->socket.unix_path.sun_path)
        bytes = sizeof address->socket.unix_path.sun_path;
    bool abstract = bytes > 0 && path[0] == '\0';
    size_t shown = abstract ? 1 + strnlen(path + 1, bytes - 1) : strnlen(path, bytes);
    if (bytes == 0) {
        FUZZ_CHECK(strcmp(text, "unix:") == 0 && strcmp(peer, "unix:") == 0);
        return;
    }
    FUZZ_CHECK(strncmp(text, "unix://", 7) == 0 && strlen(text) == 7 + shown && strcmp(text + 7, peer + 5) == 0);
    FUZZ_CHECK(text[7] == (abstract ? '@' : path[0]) && memcmp(text + 8, path + 1, shown - 1) == 0);
    if (shown < 2 || shown >= sizeof address->socket.unix_path.sun_path || path[shown - 1] == '/' ||
        (abstract ? shown < bytes : path[0] != '/'))
        return;
    struct w_address back = parse(text);
    FUZZ_CHECK(back.filesystem == !abstract && back.socket.bytes == offsetof(struct sockaddr_un, sun_path) + shown + !abstract);
    FUZZ_CHECK(memcmp(back.socket.socket.unix_path.sun_path, path, shown) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct w_io_address address;
    char text[WEIR_ADDRESS_MAX_BYTES], peer[WEIR_ADDRESS_MAX_BYTES], *room;
    if (bytes > sizeof address.socket)
        return 0;
    memset(&address, 0xa5, sizeof address);
    memcpy(&address.socket, data, bytes);
    address.bytes = (socklen_t)bytes;
    int result = w_address_text(&address, text, sizeof text);
    FUZZ_CHECK(w_address_peer_text(&address, peer, sizeof peer) == result);
    sa_family_t family = bytes < sizeof family ? AF_UNSPEC : address.socket.any.sa_family;
    bool internet =
        (family == AF_INET && bytes >= sizeof(struct sockaddr_in)) || (family == AF_INET6 && bytes >= sizeof(struct sockaddr_in6));
    FUZZ_CHECK(result == (internet || family == AF_UNIX ? 0 : -EINVAL));
    if (result < 0) {
        FUZZ_CHECK(text[0] == '\0' && peer[0] == '\0');
        return 0;
    }
    if (internet)
        check_internet(&address, text, peer);
    else
        check_unix(&address, text, peer);
    size_t half = strlen(text) / 2;
    room = malloc(half);
    FUZZ_CHECK(w_address_text(&address, room, half) == -ENOSPC && (half == 0 || strlen(room) == half - 1));
    free(room);
    return 0;
}
