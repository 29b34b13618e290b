/* SPDX-License-Identifier: MIT */
/* address: text to address and back.
 *
 * Road:    scheme → what it names, each scheme by one function → struct w_address.
 * Ditches: anything else → -EINVAL with a sentence that quotes it; systemd:// without its environment → -ENOENT. */
#include "runtime/io/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOST_MAX_BYTES          253
#define LABEL_MAX_BYTES         63
#define LISTEN_FIRST_DESCRIPTOR 3 /* SD_LISTEN_FDS_START */

/* A stretch of the text being read. */
struct piece {
    const char *start;
    size_t bytes;
};

static struct w_base_quoted quote(struct piece piece)
{
    return w_base_quote(piece.start, piece.bytes);
}

static struct piece piece_of(const char *text)
{
    return (struct piece){text, strlen(text)};
}

/* Decimal digits alone, no sign, no leading zero, at most `largest`. */
static bool read_number(struct piece piece, uint32_t largest, uint32_t *number)
{
    if (piece.bytes == 0 || piece.bytes > 10 || (piece.bytes > 1 && piece.start[0] == '0'))
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < piece.bytes; i++) {
        if (piece.start[i] < '0' || piece.start[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(piece.start[i] - '0');
    }
    *number = (uint32_t)value;
    return value <= largest;
}

/* --- tcp:// --- */

static void set_ipv4(struct w_address *address, struct in_addr ip)
{
    struct sockaddr_in *socket = (struct sockaddr_in *)(void *)&address->socket.socket;
    *socket = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(address->port), .sin_addr = ip};
    address->socket.bytes = sizeof *socket;
    address->kind = W_ADDRESS_NUMERIC;
}

static void set_ipv6(struct w_address *address, const struct in6_addr *ip, uint32_t scope)
{
    struct sockaddr_in6 *socket = (struct sockaddr_in6 *)(void *)&address->socket.socket;
    *socket = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(address->port), .sin6_addr = *ip, .sin6_scope_id = scope};
    address->socket.bytes = sizeof *socket;
    address->kind = W_ADDRESS_NUMERIC;
}

/* What stands after the % of a link-local address: an interface's name or number. */
static bool read_scope(struct piece piece, uint32_t *scope)
{
    char name[IF_NAMESIZE];
    if (read_number(piece, UINT32_MAX, scope))
        return *scope != 0;
    if (piece.bytes == 0 || piece.bytes >= sizeof name)
        return false;
    memcpy(name, piece.start, piece.bytes);
    name[piece.bytes] = '\0';
    *scope = if_nametoindex(name);
    return *scope != 0;
}

/* `host` stood in brackets. */
static int parse_ipv6(struct piece host, struct w_address *address, weir_error *error)
{
    const char *percent = memchr(host.start, '%', host.bytes);
    struct piece number = {host.start, percent != NULL ? (size_t)(percent - host.start) : host.bytes};
    char text[INET6_ADDRSTRLEN];
    struct in6_addr ip;
    uint32_t scope = 0;

    if (number.bytes >= sizeof text)
        return w_base_fail(error, -EINVAL, "'[%s]' is not an IPv6 address", quote(host).text);
    memcpy(text, number.start, number.bytes);
    text[number.bytes] = '\0';
    if (inet_pton(AF_INET6, text, &ip) != 1)
        return w_base_fail(error, -EINVAL, "'[%s]' is not an IPv6 address", quote(host).text);
    if (percent != NULL) {
        struct piece interface = {percent + 1, host.bytes - number.bytes - 1};
        if (!read_scope(interface, &scope))
            return w_base_fail(error, -EINVAL, "'%s' is not a network interface of this machine", quote(interface).text);
    }
    set_ipv6(address, &ip, scope);
    return 0;
}

static bool is_name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

/* Labels of letters, digits, - and _ with dots between (and one behind, as DNS writes absolute names). A last label that begins with a digit
 * and is no name of a top domain (127.1, 0x7f.1, 256.1.1.1) is a mistyped number: the resolver would make something of it. */
static bool is_name(struct piece host)
{
    size_t label_start = 0;
    size_t bytes = host.bytes > 1 && host.start[host.bytes - 1] == '.' ? host.bytes - 1 : host.bytes;
    if (bytes == 0 || host.bytes > HOST_MAX_BYTES)
        return false;
    for (size_t i = 0; i <= bytes; i++) {
        if (i < bytes && host.start[i] != '.') {
            if (!is_name_byte(host.start[i]))
                return false;
            continue;
        }
        if (i == label_start || i - label_start > LABEL_MAX_BYTES)
            return false;
        if (i < bytes)
            label_start = i + 1;
    }
    bool digits = true;
    for (size_t i = label_start; i < bytes; i++)
        digits = digits && host.start[i] >= '0' && host.start[i] <= '9';
    bool hexadecimal = bytes - label_start >= 2 && host.start[label_start] == '0' && (host.start[label_start + 1] | 0x20) == 'x';
    return !digits && !hexadecimal;
}

static int parse_host(struct piece host, struct w_address *address, weir_error *error)
{
    struct in_addr ip;
    if (host.bytes == 1 && host.start[0] == '*') {
        set_ipv6(address, &in6addr_any, 0);
        return 0;
    }
    if (memchr(host.start, ':', host.bytes) != NULL)
        return w_base_fail(error, -EINVAL, "'%s' has more than one colon: an IPv6 address stands in brackets, tcp://[::1]:80",
                           quote(host).text);
    if (host.bytes > HOST_MAX_BYTES)
        return w_base_fail(error, -EINVAL, "the host name '%s' has %zu bytes; at most %d are allowed", quote(host).text, host.bytes,
                           HOST_MAX_BYTES);
    memcpy(address->host, host.start, host.bytes);
    address->host[host.bytes] = '\0';
    if (inet_pton(AF_INET, address->host, &ip) == 1) {
        set_ipv4(address, ip);
        memset(address->host, 0, sizeof address->host);
        return 0;
    }
    if (!is_name(host))
        return w_base_fail(error, -EINVAL, "'%s' is neither a host name nor an IPv4 address nor *", quote(host).text);
    address->kind = W_ADDRESS_NAME;
    return 0;
}

static int parse_tcp(struct piece rest, struct w_address *address, weir_error *error)
{
    const char *colon = memrchr(rest.start, ':', rest.bytes);
    uint32_t port;
    if (rest.bytes > 0 && rest.start[rest.bytes - 1] == ']')
        colon = NULL;
    if (colon == NULL)
        return w_base_fail(error, -EINVAL, "'%s' has no port: write tcp://HOST:PORT, 0 for any port", quote(rest).text);
    struct piece host = {rest.start, (size_t)(colon - rest.start)};
    struct piece number = {colon + 1, rest.bytes - host.bytes - 1};
    if (!read_number(number, UINT16_MAX, &port))
        return w_base_fail(error, -EINVAL, "'%s' is not a port: a number from 0 to 65535 is", quote(number).text);
    address->port = (uint16_t)port;
    if (host.bytes == 0)
        return w_base_fail(error, -EINVAL, "there is no host before ':%s': write * for every address", quote(number).text);
    if (host.start[0] != '[')
        return parse_host(host, address, error);
    if (host.start[host.bytes - 1] != ']')
        return w_base_fail(error, -EINVAL, "'%s' has no closing bracket", quote(host).text);
    return parse_ipv6((struct piece){host.start + 1, host.bytes - 2}, address, error);
}

/* --- unix:// --- */

static int parse_unix(struct piece rest, struct w_address *address, weir_error *error)
{
    struct sockaddr_un *socket = &address->socket.socket.unix_path;
    bool abstract = rest.bytes > 0 && rest.start[0] == '@';
    if (rest.bytes == 0 || (!abstract && rest.start[0] != '/'))
        return w_base_fail(error, -EINVAL, "'%s' is not a path from / and not an @name", quote(rest).text);
    if (rest.start[rest.bytes - 1] == '/' || rest.bytes == 1)
        return w_base_fail(error, -EINVAL, "'%s' does not name a socket", quote(rest).text);
    if (rest.bytes >= sizeof socket->sun_path)
        return w_base_fail(error, -EINVAL, "'%s' has %zu bytes; unix sockets allow %zu", quote(rest).text, rest.bytes,
                           sizeof socket->sun_path - 1);
    socket->sun_family = AF_UNIX;
    memcpy(socket->sun_path, rest.start, rest.bytes);
    if (abstract)
        socket->sun_path[0] = '\0';
    /* An abstract name is as long as its length says; a path has its end with it. */
    address->socket.bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + rest.bytes + (abstract ? 0 : 1));
    address->filesystem = !abstract;
    address->kind = W_ADDRESS_NUMERIC;
    return 0;
}

/* --- fd:// and systemd:// --- */

static int parse_descriptor(struct piece rest, struct w_address *address, weir_error *error)
{
    uint32_t number;
    if (!read_number(rest, INT32_MAX, &number))
        return w_base_fail(error, -EINVAL, "'%s' is not a descriptor's number", quote(rest).text);
    address->descriptor = (int)number;
    address->kind = W_ADDRESS_INHERITED;
    return 0;
}

/* The index of `name` among names with colons between; -1: not there. */
static int find_name(const char *names, struct piece name)
{
    for (int index = 0;; index++) {
        size_t bytes = strcspn(names, ":");
        if (bytes == name.bytes && memcmp(names, name.start, bytes) == 0)
            return index;
        if (names[bytes] == '\0')
            return -1;
        names += bytes + 1;
    }
}

static int parse_systemd(struct piece rest, struct w_address *address, weir_error *error)
{
    const char *pid_text = getenv("LISTEN_PID"), *count_text = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
    uint32_t pid, count;
    int index = 0;

    if (rest.bytes > 255 || memchr(rest.start, ':', rest.bytes) != NULL)
        return w_base_fail(error, -EINVAL, "'%s' cannot be a name in LISTEN_FDNAMES", quote(rest).text);
    if (pid_text == NULL || count_text == NULL)
        return w_base_fail(error, -ENOENT, "systemd passed no sockets: LISTEN_PID and LISTEN_FDS are not set (is there a .socket unit?)");
    if (!read_number(piece_of(pid_text), INT32_MAX, &pid) || (pid_t)pid != getpid())
        return w_base_fail(error, -ENOENT, "LISTEN_PID is '%s', but this is process %d: the sockets were meant for another one",
                           quote(piece_of(pid_text)).text, (int)getpid());
    if (!read_number(piece_of(count_text), INT32_MAX - LISTEN_FIRST_DESCRIPTOR, &count) || count == 0)
        return w_base_fail(error, -ENOENT, "LISTEN_FDS is '%s': no sockets were passed", quote(piece_of(count_text)).text);
    if (rest.bytes > 0)
        index = names == NULL ? -1 : find_name(names, rest);
    if (index < 0 || (uint32_t)index >= count)
        return w_base_fail(error, -ENOENT, "no socket is called '%s' in LISTEN_FDNAMES '%s' (FileDescriptorName= in the .socket unit)",
                           quote(rest).text, quote(piece_of(names != NULL ? names : "")).text);
    address->descriptor = LISTEN_FIRST_DESCRIPTOR + index;
    address->kind = W_ADDRESS_INHERITED;
    return 0;
}

/* --- all of them --- */

static const struct {
    const char *prefix;
    int (*parse)(struct piece rest, struct w_address *address, weir_error *error);
    bool dial;
} schemes[] = {
    {"tcp://", parse_tcp, true},
    {"unix://", parse_unix, true},
    {"fd://", parse_descriptor, false},
    {"systemd://", parse_systemd, false},
};

static int parse(const char *text, bool dial, struct w_address *address, weir_error *error)
{
    struct piece whole = {text, text != NULL ? strnlen(text, WEIR_ADDRESS_MAX_BYTES) : 0};
    memset(address, 0, sizeof *address);
    if (text == NULL)
        return w_base_fail(error, -EINVAL, "the address is NULL");
    if (whole.bytes >= WEIR_ADDRESS_MAX_BYTES)
        return w_base_fail(error, -EINVAL, "the address '%s' is longer than %d bytes", quote(whole).text, WEIR_ADDRESS_MAX_BYTES - 1);
    for (size_t i = 0; i < W_COUNT(schemes); i++) {
        size_t bytes = strlen(schemes[i].prefix);
        if (strncmp(text, schemes[i].prefix, bytes) != 0)
            continue;
        if (dial && !schemes[i].dial)
            return w_base_fail(error, -EINVAL, "'%s' can be listened on, not dialled", quote(whole).text);
        return schemes[i].parse((struct piece){text + bytes, whole.bytes - bytes}, address, error);
    }
    return w_base_fail(error, -EINVAL, "'%s' is not an address: tcp://HOST:PORT, unix:///PATH, unix://@NAME%s", quote(whole).text,
                       dial ? " can be dialled" : ", fd://N or systemd://NAME is");
}

int w_address_parse(const char *text, struct w_address *address, weir_error *error)
{
    int result = parse(text, false, address, error);
    if (result < 0)
        memset(address, 0, sizeof *address);
    return result;
}

static bool is_every_address(const struct w_io_address *address)
{
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)(const void *)&address->socket;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)(const void *)&address->socket;
    if (address->socket.any.sa_family == AF_INET)
        return ipv4->sin_addr.s_addr == htonl(INADDR_ANY);
    return address->socket.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&ipv6->sin6_addr);
}

int w_address_parse_dial(const char *text, struct w_address *address, weir_error *error)
{
    int result = parse(text, true, address, error);
    if (result == 0 && address->kind == W_ADDRESS_NUMERIC && is_every_address(&address->socket))
        result = w_base_fail(error, -EINVAL, "'%s' means every address: it can be listened on, not dialled", quote(piece_of(text)).text);
    else if (result == 0 && address->socket.socket.any.sa_family != AF_UNIX && address->port == 0)
        result = w_base_fail(error, -EINVAL, "'%s' has port 0: it can be listened on, not dialled", quote(piece_of(text)).text);
    if (result < 0)
        memset(address, 0, sizeof *address);
    return result;
}

/* --- back to text --- */

/* "127.0.0.1:80", "[::1]:80". Answers false for another family. */
static bool internet_text(const struct w_io_address *address, bool unmap, char *text, size_t text_bytes)
{
    char ip[INET6_ADDRSTRLEN], scope[16] = "";
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)(const void *)&address->socket;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)(const void *)&address->socket;

    if (ipv4->sin_family == AF_INET && address->bytes >= sizeof *ipv4) {
        inet_ntop(AF_INET, &ipv4->sin_addr, ip, sizeof ip);
        snprintf(text, text_bytes, "%s:%u", ip, (unsigned)ntohs(ipv4->sin_port));
        return true;
    }
    if (ipv6->sin6_family != AF_INET6 || address->bytes < sizeof *ipv6)
        return false;
    if (unmap && IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr)) {
        inet_ntop(AF_INET, &ipv6->sin6_addr.s6_addr[12], ip, sizeof ip);
        snprintf(text, text_bytes, "%s:%u", ip, (unsigned)ntohs(ipv6->sin6_port));
        return true;
    }
    inet_ntop(AF_INET6, &ipv6->sin6_addr, ip, sizeof ip);
    if (ipv6->sin6_scope_id != 0)
        snprintf(scope, sizeof scope, "%%%u", (unsigned)ipv6->sin6_scope_id);
    snprintf(text, text_bytes, "[%s%s]:%u", ip, scope, (unsigned)ntohs(ipv6->sin6_port));
    return true;
}

/* "/path", "@name", "" for a socket without a name. The kernel may answer a path without its end. */
static void unix_text(const struct w_io_address *address, char *text, size_t text_bytes)
{
    const struct sockaddr_un *socket = &address->socket.unix_path;
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t bytes = address->bytes > head ? address->bytes - head : 0;
    if (bytes > sizeof socket->sun_path)
        bytes = sizeof socket->sun_path;
    if (bytes > 0 && socket->sun_path[0] == '\0')
        snprintf(text, text_bytes, "@%.*s", (int)bytes - 1, socket->sun_path + 1);
    else
        snprintf(text, text_bytes, "%.*s", (int)bytes, socket->sun_path);
}

static int put(char *text, size_t text_bytes, const char *prefix, const char *rest)
{
    int bytes = snprintf(text, text_bytes, "%s%s", prefix, rest);
    return bytes >= 0 && (size_t)bytes < text_bytes ? 0 : -ENOSPC;
}

static int write_text(const struct w_io_address *address, bool peer, char *text, size_t text_bytes)
{
    char rest[WEIR_ADDRESS_MAX_BYTES];
    if (text_bytes > 0)
        text[0] = '\0';
    if (address->bytes < sizeof(sa_family_t))
        return -EINVAL;
    if (internet_text(address, peer, rest, sizeof rest))
        return put(text, text_bytes, peer ? "" : "tcp://", rest);
    if (address->socket.any.sa_family != AF_UNIX)
        return -EINVAL;
    unix_text(address, rest, sizeof rest);
    return put(text, text_bytes, peer || rest[0] == '\0' ? "unix:" : "unix://", rest);
}

int w_address_text(const struct w_io_address *address, char *text, size_t text_bytes)
{
    return write_text(address, false, text, text_bytes);
}

int w_address_peer_text(const struct w_io_address *address, char *text, size_t text_bytes)
{
    return write_text(address, true, text, text_bytes);
}
