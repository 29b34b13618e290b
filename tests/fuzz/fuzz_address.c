/* SPDX-License-Identifier: MIT */
/* fuzz_address: any text as an address to listen on and to dial: accepted when the book says so (weir/listen.h), else refused by a code and a sentence; what was
 * accepted goes to text and back without a change.
 *
 * Input: [the text] LF [LISTEN_PID, "self" for this process] LF [LISTEN_FDS] LF [LISTEN_FDNAMES]; what is not there is not set. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "runtime/io/address.h"

#define LINE_MAX_BYTES 511

/* --- the environment --- */

/* They are put there once and written to in place: setenv() would keep every value that there ever was. Without its first byte it is not found. */
static struct variable {
    const char *name;
    char text[32 + LINE_MAX_BYTES];
} variables[] = {{"LISTEN_PID", ""}, {"LISTEN_FDS", ""}, {"LISTEN_FDNAMES", ""}};

static void set_variable(struct variable *variable, const char *value)
{
    char self[16];
    snprintf(self, sizeof self, "%d", (int)getpid());
    bool is_new = variable->text[0] == '\0', is_self = variable == &variables[0] && value != NULL && strcmp(value, "self") == 0;
    snprintf(variable->text, sizeof variable->text, "%s=%s", variable->name, is_self ? self : value != NULL ? value : "");
    if (is_new)
        FUZZ_CHECK(putenv(variable->text) == 0);
    if (value == NULL)
        variable->text[0] = '-';
}

/* Takes the next line, ended, in memory of its size; NULL: there is none. */
static char *take_line(struct fuzz_input *input)
{
    if (input->bytes == 0)
        return NULL;
    const uint8_t *end = memchr(input->data, '\n', input->bytes);
    size_t bytes = end != NULL ? (size_t)(end - input->data) : input->bytes, taken = bytes + (end != NULL);
    char *line = malloc(bytes + 1);
    memcpy(line, input->data, bytes);
    line[bytes] = '\0';
    input->data += taken;
    input->bytes -= taken;
    return line;
}

static void take_environment(struct fuzz_input *input)
{
    for (size_t i = 0; i < W_COUNT(variables); i++) {
        char *line = take_line(input);
        set_variable(&variables[i], line);
        free(line);
    }
}

/* --- by the book --- */

enum verdict { BAD, GOOD, UNKNOWN };

/* A number as snprintf would write it. */
static bool is_number(const char *text, uint64_t most)
{
    char again[32];
    unsigned long long value = strtoull(text, NULL, 10);
    snprintf(again, sizeof again, "%llu", value);
    return strcmp(text, again) == 0 && value <= most;
}

/* Names as DNS has them, none of which the C library would take for a number. */
static bool is_name(const char *host)
{
    char name[LINE_MAX_BYTES + 1], *label = name, *next;
    struct in_addr number;
    size_t bytes = strlen(host);
    if (bytes == 0 || bytes > 253 || strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != bytes)
        return false;
    memcpy(name, host, bytes + 1);
    if (bytes > 1 && name[bytes - 1] == '.')
        name[bytes - 1] = '\0';
    FUZZ_CHECK(inet_pton(AF_INET, host, &number) == 0);
    while ((next = strsep(&label, ".")) != NULL) {
        if (next[0] == '\0' || strlen(next) > 63)
            return false;
        if (label == NULL && (strspn(next, "0123456789") == strlen(next) || strncasecmp(next, "0x", 2) == 0))
            return false;
    }
    FUZZ_CHECK(inet_aton(host, &number) == 0);
    return true;
}

static enum verdict judge_tcp(const char *rest, bool dial)
{
    char host[LINE_MAX_BYTES + 1];
    struct in6_addr number;
    const char *colon = strrchr(rest, ':');
    if (colon == NULL || !is_number(colon + 1, 65535) || (dial && strcmp(colon, ":0") == 0))
        return BAD;
    snprintf(host, sizeof host, "%.*s", (int)(colon - rest), rest);
    size_t bytes = strlen(host);
    if (strcmp(host, "*") == 0)
        return dial ? BAD : GOOD;
    if (host[0] == '[') {
        if (host[bytes - 1] != ']')
            return BAD;
        host[bytes - 1] = '\0';
        if (strchr(host, '%') != NULL)
            return UNKNOWN; /* which interfaces there are */
        if (inet_pton(AF_INET6, host + 1, &number) != 1)
            return BAD;
        return dial && IN6_IS_ADDR_UNSPECIFIED(&number) ? BAD : GOOD;
    }
    if (inet_pton(AF_INET, host, &number) == 1)
        return dial && strcmp(host, "0.0.0.0") == 0 ? BAD : GOOD;
    return is_name(host) ? GOOD : BAD;
}

static enum verdict judge_unix(const char *rest)
{
    size_t bytes = strlen(rest);
    return bytes > 1 && bytes < 108 && (rest[0] == '/' || rest[0] == '@') && rest[bytes - 1] != '/' ? GOOD : BAD;
}

/* The descriptor that systemd:// stands for, or -1. */
static int book_systemd(const char *name)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
    char self[16];
    snprintf(self, sizeof self, "%d", (int)getpid());
    if (pid == NULL || count == NULL || strcmp(pid, self) != 0 || !is_number(count, INT32_MAX - 3) || strtoul(count, NULL, 10) == 0)
        return -1;
    if (strlen(name) > 255 || strchr(name, ':') != NULL)
        return -1;
    if (name[0] == '\0')
        return 3;
    if (names == NULL)
        return -1;
    char *copy = strdup(names), *rest = copy, *next;
    int index = 0, found = -1;
    while (found < 0 && (next = strsep(&rest, ":")) != NULL && (unsigned long)index < strtoul(count, NULL, 10))
        found = strcmp(next, name) == 0 ? 3 + index : (index++, -1);
    free(copy);
    return found;
}

static enum verdict judge(const char *text, bool dial)
{
    if (strlen(text) >= WEIR_ADDRESS_MAX_BYTES)
        return BAD;
    if (strncmp(text, "tcp://", 6) == 0)
        return judge_tcp(text + 6, dial);
    if (strncmp(text, "unix://", 7) == 0)
        return judge_unix(text + 7);
    if (!dial && strncmp(text, "fd://", 5) == 0)
        return is_number(text + 5, INT32_MAX) ? GOOD : BAD;
    if (!dial && strncmp(text, "systemd://", 10) == 0)
        return book_systemd(text + 10) >= 0 ? GOOD : BAD;
    return BAD;
}

/* --- there and back --- */

/* Cut to any room it is a beginning, always ended, and says that it is cut. */
static void check_cut(const struct w_io_address *socket, const char *text, int (*write)(const struct w_io_address *, char *, size_t))
{
    size_t bytes = strlen(text), rooms[] = {0, 1, bytes / 2, bytes, bytes + 1};
    for (size_t i = 0; i < W_COUNT(rooms); i++) {
        char *room = malloc(rooms[i] + 1);
        memset(room, 'x', rooms[i] + 1);
        FUZZ_CHECK(write(socket, room, rooms[i]) == (rooms[i] > bytes ? 0 : -ENOSPC));
        FUZZ_CHECK(room[rooms[i]] == 'x');
        FUZZ_CHECK(rooms[i] == 0 || (strlen(room) == (rooms[i] > bytes ? bytes : rooms[i] - 1) && strncmp(room, text, strlen(room)) == 0));
        free(room);
    }
}

static void check_numeric(const char *text, const struct w_address *address)
{
    char written[WEIR_ADDRESS_MAX_BYTES], again[WEIR_ADDRESS_MAX_BYTES], peer[WEIR_ADDRESS_MAX_BYTES];
    struct w_address back;
    FUZZ_CHECK(w_address_text(&address->socket, written, sizeof written) == 0);
    FUZZ_CHECK(w_address_parse(written, &back, NULL) == 0);
    FUZZ_CHECK(back.kind == W_ADDRESS_NUMERIC && back.port == address->port && back.filesystem == address->filesystem);
    FUZZ_CHECK(back.socket.bytes == address->socket.bytes);
    FUZZ_CHECK(memcmp(&back.socket.socket, &address->socket.socket, back.socket.bytes) == 0);
    FUZZ_CHECK(w_address_text(&back.socket, again, sizeof again) == 0 && strcmp(written, again) == 0);
    FUZZ_CHECK(address->filesystem == (strncmp(text, "unix:///", 8) == 0));
    if (address->socket.socket.any.sa_family != AF_INET6) /* which has many ways to be written */
        FUZZ_CHECK(strcmp(written, text) == 0);
    FUZZ_CHECK(w_address_peer_text(&address->socket, peer, sizeof peer) == 0);
    check_cut(&address->socket, written, w_address_text);
    check_cut(&address->socket, peer, w_address_peer_text);
}

static void check_accepted(const char *text, const struct w_address *address)
{
    char written[LINE_MAX_BYTES + 1] = "";
    switch (address->kind) {
    case W_ADDRESS_NUMERIC:
        check_numeric(text, address);
        return;
    case W_ADDRESS_NAME:
        snprintf(written, sizeof written, "tcp://%s:%u", address->host, address->port);
        break;
    case W_ADDRESS_INHERITED:
        if (text[0] == 's')
            FUZZ_CHECK(address->descriptor == book_systemd(text + 10));
        else
            snprintf(written, sizeof written, "fd://%d", address->descriptor);
        break;
    }
    FUZZ_CHECK(text[0] == 's' || strcmp(written, text) == 0);
}

static void check_refused(int result, const struct w_address *address, const weir_error *error)
{
    static const struct w_address nothing;
    FUZZ_CHECK(result == -EINVAL || result == -ENOENT);
    FUZZ_CHECK(memcmp(address, &nothing, sizeof nothing) == 0);
    FUZZ_CHECK(error->code == result && error->sentence[0] != '\0');
    FUZZ_CHECK(memchr(error->sentence, '\0', sizeof error->sentence) != NULL);
    for (const char *byte = error->sentence; *byte != '\0'; byte++)
        FUZZ_CHECK((unsigned char)*byte >= 0x20 && *byte != 0x7f);
}

static int check_parse(const char *text, bool dial, struct w_address *address)
{
    struct w_address silent;
    weir_error error;
    memset(&error, 0xa5, sizeof error);
    memset(address, 0xa5, sizeof *address);
    memset(&silent, 0x5a, sizeof silent);
    int (*parse)(const char *, struct w_address *, weir_error *) = dial ? w_address_parse_dial : w_address_parse;
    int result = parse(text, address, &error);
    enum verdict verdict = judge(text, dial);
    FUZZ_CHECK(verdict == UNKNOWN || (result == 0) == (verdict == GOOD));
    FUZZ_CHECK(parse(text, &silent, NULL) == result && memcmp(&silent, address, sizeof silent) == 0);
    if (result == 0)
        check_accepted(text, address);
    else
        check_refused(result, address, &error);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_input input = {data, bytes};
    struct w_address listened, dialled;
    if (bytes == 0 || bytes > LINE_MAX_BYTES)
        return 0;
    char *text = take_line(&input);
    take_environment(&input);
    int listen_result = check_parse(text, false, &listened), dial_result = check_parse(text, true, &dialled);
    FUZZ_CHECK(dial_result < 0 || (listen_result == 0 && memcmp(&listened, &dialled, sizeof listened) == 0));
    free(text);
    return 0;
}
