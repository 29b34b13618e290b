/* SPDX-License-Identifier: MIT */
/* test_address: addresses as text: what is understood, what is refused and how the sentence names it, and the way back. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chance.h"
#include "runtime/io/address.h"

/* A text and what comes back from it when it is read and written again. */
static const struct {
    const char *text, *back, *peer;
} numeric[] = {
    {"tcp://127.0.0.1:80", "tcp://127.0.0.1:80", "127.0.0.1:80"},
    {"tcp://0.0.0.0:0", "tcp://0.0.0.0:0", "0.0.0.0:0"},
    {"tcp://255.255.255.255:65535", "tcp://255.255.255.255:65535", "255.255.255.255:65535"},
    {"tcp://[::1]:80", "tcp://[::1]:80", "[::1]:80"},
    {"tcp://[::]:7", "tcp://[::]:7", "[::]:7"},
    {"tcp://*:7", "tcp://[::]:7", "[::]:7"},
    {"tcp://[2001:DB8::00ff]:1", "tcp://[2001:db8::ff]:1", "[2001:db8::ff]:1"},
    {"tcp://[::ffff:192.0.2.1]:4711", "tcp://[::ffff:192.0.2.1]:4711", "192.0.2.1:4711"},
    {"tcp://[fe80::1%1]:80", "tcp://[fe80::1%1]:80", "[fe80::1%1]:80"},
    {"tcp://[fe80::1%lo]:80", "tcp://[fe80::1%1]:80", "[fe80::1%1]:80"},
    {"tcp://[fe80::1%4294967295]:80", "tcp://[fe80::1%4294967295]:80", "[fe80::1%4294967295]:80"},
    {"unix:///run/weir.sock", "unix:///run/weir.sock", "unix:/run/weir.sock"},
    {"unix:///a", "unix:///a", "unix:/a"},
    {"unix:///with space and : and @", "unix:///with space and : and @", "unix:/with space and : and @"},
    {"unix://@name", "unix://@name", "unix:@name"},
    {"unix://@/looks/like/a/path", "unix://@/looks/like/a/path", "unix:@/looks/like/a/path"},
};

START_TEST(numeric_address_goes_there_and_back)
{
    struct w_address address;
    weir_error error = {0};
    char text[WEIR_ADDRESS_MAX_BYTES];
    ck_assert_msg(w_address_parse(numeric[_i].text, &address, &error) == 0, "%s: %s", numeric[_i].text, error.sentence);
    ck_assert_int_eq(address.kind, W_ADDRESS_NUMERIC);
    ck_assert_int_eq(w_address_text(&address.socket, text, sizeof text), 0);
    ck_assert_str_eq(text, numeric[_i].back);
    ck_assert_int_eq(w_address_peer_text(&address.socket, text, sizeof text), 0);
    ck_assert_str_eq(text, numeric[_i].peer);

    struct w_address again;
    ck_assert_int_eq(w_address_text(&address.socket, text, sizeof text), 0);
    ck_assert_int_eq(w_address_parse(text, &again, &error), 0);
    ck_assert_uint_eq(again.socket.bytes, address.socket.bytes);
    ck_assert_mem_eq(&again.socket.socket, &address.socket.socket, address.socket.bytes);
}
END_TEST

START_TEST(kernel_gets_what_was_written)
{
    struct w_address address;
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)(const void *)&address.socket.socket;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)(const void *)&address.socket.socket;

    ck_assert_int_eq(w_address_parse("tcp://192.0.2.9:258", &address, NULL), 0);
    ck_assert_uint_eq(address.socket.bytes, sizeof *ipv4);
    ck_assert_int_eq(ipv4->sin_family, AF_INET);
    ck_assert_uint_eq(ipv4->sin_addr.s_addr, htonl(0xc0000209));
    ck_assert_uint_eq(ipv4->sin_port, htons(258));
    ck_assert_uint_eq(address.port, 258);
    ck_assert(!address.filesystem);

    ck_assert_int_eq(w_address_parse("tcp://[::1%1]:9", &address, NULL), 0);
    ck_assert_uint_eq(address.socket.bytes, sizeof *ipv6);
    ck_assert(IN6_IS_ADDR_LOOPBACK(&ipv6->sin6_addr));
    ck_assert_uint_eq(ipv6->sin6_scope_id, 1);

    ck_assert_int_eq(w_address_parse("unix:///run/x", &address, NULL), 0);
    ck_assert_str_eq(address.socket.socket.unix_path.sun_path, "/run/x");
    ck_assert_uint_eq(address.socket.bytes, offsetof(struct sockaddr_un, sun_path) + 7);
    ck_assert(address.filesystem);

    ck_assert_int_eq(w_address_parse("unix://@x", &address, NULL), 0);
    ck_assert_mem_eq(address.socket.socket.unix_path.sun_path, "\0x", 2);
    ck_assert_uint_eq(address.socket.bytes, offsetof(struct sockaddr_un, sun_path) + 2);
    ck_assert(!address.filesystem);
}
END_TEST

static const char *const names[][2] = {
    {"localhost", "tcp://localhost:80"},
    {"a", "tcp://a:80"},
    {"example.org.", "tcp://example.org.:80"},
    {"my_host-1.EXAMPLE", "tcp://my_host-1.EXAMPLE:80"},
    {"1a", "tcp://1a:80"},
    {"4.example", "tcp://4.example:80"},
};

START_TEST(name_is_left_to_be_looked_up)
{
    struct w_address address;
    ck_assert_int_eq(w_address_parse(names[_i][1], &address, NULL), 0);
    ck_assert_int_eq(address.kind, W_ADDRESS_NAME);
    ck_assert_str_eq(address.host, names[_i][0]);
    ck_assert_uint_eq(address.port, 80);
    ck_assert_int_eq(w_address_parse_dial(names[_i][1], &address, NULL), 0);
    ck_assert_int_eq(address.kind, W_ADDRESS_NAME);
}
END_TEST

/* A text, and what its sentence must name. */
static const char *const bad[][2] = {
    {"", "''"},
    {"tcp", "'tcp'"},
    {"tcp:/127.0.0.1:80", "'tcp:/127.0.0.1:80'"},
    {"TCP://127.0.0.1:80", "'TCP://127.0.0.1:80'"},
    {"udp://127.0.0.1:80", "'udp://127.0.0.1:80'"},
    {" tcp://127.0.0.1:80", "' tcp://127.0.0.1:80'"},
    {"tcp://", "no port"},
    {"tcp://127.0.0.1", "'127.0.0.1' has no port"},
    {"tcp://[::1]", "'[::1]' has no port"},
    {"tcp://:80", "no host before ':80'"},
    {"tcp://127.0.0.1:", "'' is not a port"},
    {"tcp://127.0.0.1:65536", "'65536' is not a port"},
    {"tcp://127.0.0.1:99999999999", "'99999999999' is not a port"},
    {"tcp://127.0.0.1:4294967376", "'4294967376' is not a port"},
    {"tcp://127.0.0.1:-1", "'-1' is not a port"},
    {"tcp://127.0.0.1:+1", "'+1' is not a port"},
    {"tcp://127.0.0.1:080", "'080' is not a port"},
    {"tcp://127.0.0.1:8o", "'8o' is not a port"},
    {"tcp://127.0.0.1:80 ", "'80 ' is not a port"},
    {"tcp://127.0.0.1:http", "'http' is not a port"},
    {"tcp://127.0.0.1:80/", "'80/' is not a port"},
    {"tcp://256.0.0.1:80", "'256.0.0.1' is neither"},
    {"tcp://127.1:80", "'127.1' is neither"},
    {"tcp://0x7f.1:80", "'0x7f.1' is neither"},
    {"tcp://0x7f000001:80", "'0x7f000001' is neither"},
    {"tcp://2130706433:80", "'2130706433' is neither"},
    {"tcp://010.0.0.1:80", "'010.0.0.1' is neither"},
    {"tcp://1.2.3.4.5:80", "'1.2.3.4.5' is neither"},
    {"tcp://1.2.3.4.:80", "'1.2.3.4.' is neither"},
    {"tcp://a..b:80", "'a..b' is neither"},
    {"tcp://.a:80", "'.a' is neither"},
    {"tcp://.:80", "'.' is neither"},
    {"tcp://..:80", "'..' is neither"},
    {"tcp://a b:80", "'a b' is neither"},
    {"tcp://h\xc3\xa4user:80", "is neither"},
    {"tcp://**:80", "'**' is neither"},
    {"tcp://user@host:80", "'user@host' is neither"},
    {"tcp://::1:80", "'::1' has more than one colon"},
    {"tcp://a:b:80", "'a:b' has more than one colon"},
    {"tcp://[::1:80", "'[::1' has no closing bracket"},
    {"tcp://[:80", "'[' has no closing bracket"},
    {"tcp://::1]:80", "'::1]'"},
    {"tcp://[]:80", "'[]' is not an IPv6"},
    {"tcp://[127.0.0.1]:80", "'[127.0.0.1]' is not an IPv6"},
    {"tcp://[::g]:80", "'[::g]' is not an IPv6"},
    {"tcp://[1:2:3:4:5:6:7:8:9]:80", "is not an IPv6"},
    {"tcp://[00000000000000000000000000000000000000000000000000::1]:80", "is not an IPv6"},
    {"tcp://[fe80::1%]:80", "'' is not a network interface"},
    {"tcp://[fe80::1%0]:80", "'0' is not a network interface"},
    {"tcp://[fe80::1%nosuchthing]:80", "'nosuchthing' is not a network interface"},
    {"tcp://[fe80::1%a-name-that-is-too-long]:80", "is not a network interface"},
    {"unix://", "'' is not a path"},
    {"unix://run/x", "'run/x' is not a path"},
    {"unix:///", "'/' does not name a socket"},
    {"unix:///run/", "'/run/' does not name a socket"},
    {"unix://@", "'@' does not name a socket"},
    {"fd://", "'' is not a descriptor"},
    {"fd://-1", "'-1' is not a descriptor"},
    {"fd://three", "'three' is not a descriptor"},
    {"fd://03", "'03' is not a descriptor"},
    {"fd://2147483648", "'2147483648' is not a descriptor"},
    {"systemd://a:b", "'a:b' cannot be a name"},
};

START_TEST(bad_address_is_refused_and_named)
{
    struct w_address address, zero;
    weir_error error = {0};
    memset(&address, 0xa5, sizeof address);
    memset(&zero, 0, sizeof zero);
    ck_assert_msg(w_address_parse(bad[_i][0], &address, &error) == -EINVAL, "'%s' was understood", bad[_i][0]);
    ck_assert_int_eq(error.code, -EINVAL);
    ck_assert_msg(strstr(error.sentence, bad[_i][1]) != NULL, "'%s' says: %s", bad[_i][0], error.sentence);
    ck_assert_mem_eq(&address, &zero, sizeof zero);
    ck_assert_int_eq(w_address_parse_dial(bad[_i][0], &address, NULL), -EINVAL);
}
END_TEST

START_TEST(null_is_refused)
{
    struct w_address address;
    weir_error error = {0};
    ck_assert_int_eq(w_address_parse(NULL, &address, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.sentence, "NULL"));
    ck_assert_int_eq(w_address_parse_dial(NULL, &address, NULL), -EINVAL);
}
END_TEST

START_TEST(sentence_is_one_printable_line)
{
    struct w_address address;
    weir_error error = {0};
    ck_assert_int_eq(w_address_parse("tcp://a\nb\x1b[2J\x7f:80", &address, &error), -EINVAL);
    for (const char *byte = error.sentence; *byte != '\0'; byte++)
        ck_assert_msg((unsigned char)*byte >= 0x20 && *byte != 0x7f, "byte 0x%02x", (unsigned char)*byte);
}
END_TEST

/* scheme, then `bytes` times 'x'. */
static char *long_text(const char *scheme, size_t bytes, const char *tail)
{
    size_t head = strlen(scheme), rest = strlen(tail);
    char *text = malloc(head + bytes + rest + 1);
    memcpy(text, scheme, head);
    memset(text + head, 'x', bytes);
    memcpy(text + head + bytes, tail, rest + 1);
    return text;
}

static int parse_long(const char *scheme, size_t bytes, const char *tail, struct w_address *address)
{
    weir_error error = {0};
    char *text = long_text(scheme, bytes, tail);
    int result = w_address_parse(text, address, &error);
    ck_assert_uint_lt(strlen(error.sentence), sizeof error.sentence);
    free(text);
    return result;
}

START_TEST(lengths_at_their_limits)
{
    struct w_address address;
    char text[WEIR_ADDRESS_MAX_BYTES];

    ck_assert_int_eq(parse_long("unix:///", 106, "", &address), 0);
    ck_assert_int_eq(w_address_text(&address.socket, text, sizeof text), 0);
    ck_assert_uint_eq(strlen(text), 7 + 107);
    ck_assert_int_eq(parse_long("unix:///", 107, "", &address), -EINVAL);
    ck_assert_int_eq(parse_long("unix://@", 106, "", &address), 0);
    ck_assert_int_eq(w_address_text(&address.socket, text, sizeof text), 0);
    ck_assert_uint_eq(strlen(text), 7 + 107);
    ck_assert_int_eq(parse_long("unix://@", 107, "", &address), -EINVAL);

    ck_assert_int_eq(parse_long("tcp://", 63, ":1", &address), 0);
    ck_assert_int_eq(parse_long("tcp://", 64, ":1", &address), -EINVAL);
    ck_assert_int_eq(parse_long("tcp://", 300, ":1", &address), -EINVAL);
    ck_assert_int_eq(parse_long("tcp://", 100000, ":1", &address), -EINVAL);
    ck_assert_int_eq(parse_long("", 319, "", &address), -EINVAL);
    ck_assert_int_eq(parse_long("systemd://", 256, "", &address), -EINVAL);

    char host[300] = "";
    for (int i = 0; i < 4; i++)
        strcat(host, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde.");
    snprintf(text, sizeof text, "tcp://%.253s:65535", host);
    ck_assert_int_eq(w_address_parse(text, &address, NULL), 0);
    ck_assert_uint_eq(strlen(address.host), 253);
    snprintf(text, sizeof text, "tcp://%.254s:65535", host);
    ck_assert_int_eq(w_address_parse(text, &address, NULL), -EINVAL);
}
END_TEST

static const char *const not_to_dial[] = {"tcp://*:80",    "tcp://0.0.0.0:80", "tcp://[::]:80", "tcp://127.0.0.1:0", "tcp://a:0",
                                          "tcp://[::1]:0", "fd://3",           "systemd://",    "systemd://x"};

START_TEST(what_can_only_be_listened_on)
{
    struct w_address address, zero;
    weir_error error = {0};
    memset(&zero, 0, sizeof zero);
    ck_assert_int_eq(w_address_parse_dial(not_to_dial[_i], &address, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.sentence, not_to_dial[_i]));
    ck_assert_mem_eq(&address, &zero, sizeof zero);
}
END_TEST

START_TEST(what_can_be_dialled)
{
    struct w_address address;
    ck_assert_int_eq(w_address_parse_dial("tcp://127.0.0.1:1", &address, NULL), 0);
    ck_assert_int_eq(w_address_parse_dial("tcp://[::1]:1", &address, NULL), 0);
    ck_assert_int_eq(w_address_parse_dial("unix:///run/x", &address, NULL), 0);
    ck_assert_int_eq(w_address_parse_dial("unix://@x", &address, NULL), 0);
}
END_TEST

START_TEST(inherited_descriptor)
{
    struct w_address address;
    ck_assert_int_eq(w_address_parse("fd://0", &address, NULL), 0);
    ck_assert_int_eq(address.kind, W_ADDRESS_INHERITED);
    ck_assert_int_eq(address.descriptor, 0);
    ck_assert_int_eq(w_address_parse("fd://2147483647", &address, NULL), 0);
    ck_assert_int_eq(address.descriptor, INT32_MAX);
}
END_TEST

static void set_environment(const char *pid, const char *count, const char *called)
{
    const char *const keys[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};
    const char *const values[] = {pid, count, called};
    for (size_t i = 0; i < W_COUNT(keys); i++)
        ck_assert_int_eq(values[i] != NULL ? setenv(keys[i], values[i], 1) : unsetenv(keys[i]), 0);
}

START_TEST(systemd_socket)
{
    struct w_address address;
    char pid[16], other[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    snprintf(other, sizeof other, "%d", (int)getpid() + 1);

    set_environment(pid, "3", "web:admin:web");
    ck_assert_int_eq(w_address_parse("systemd://", &address, NULL), 0);
    ck_assert_int_eq(address.kind, W_ADDRESS_INHERITED);
    ck_assert_int_eq(address.descriptor, 3);
    ck_assert_int_eq(w_address_parse("systemd://web", &address, NULL), 0);
    ck_assert_int_eq(address.descriptor, 3);
    ck_assert_int_eq(w_address_parse("systemd://admin", &address, NULL), 0);
    ck_assert_int_eq(address.descriptor, 4);

    const struct {
        const char *pid, *count, *names, *text;
    } missing[] = {
        {pid, "3", "web:admin:web", "systemd://adm"},
        {pid, "3", "web:admin:web", "systemd://adminx"},
        {pid, "3", NULL, "systemd://web"},
        {pid, "3", "", "systemd://web"},
        {pid, "1", "web:admin", "systemd://admin"}, /* named, but not passed */
        {pid, "0", "", "systemd://"},
        {pid, "", "", "systemd://"},
        {pid, "-1", "", "systemd://"},
        {pid, "x", "", "systemd://"},
        {pid, NULL, NULL, "systemd://"},
        {NULL, "1", NULL, "systemd://"},
        {other, "1", "web", "systemd://"},
        {"0", "1", "web", "systemd://"},
        {"x", "1", "web", "systemd://"},
        {"", "1", "web", "systemd://"},
        {NULL, NULL, NULL, "systemd://"},
    };
    for (size_t i = 0; i < W_COUNT(missing); i++) {
        weir_error error = {0};
        set_environment(missing[i].pid, missing[i].count, missing[i].names);
        ck_assert_msg(w_address_parse(missing[i].text, &address, &error) == -ENOENT, "row %zu", i);
        ck_assert_uint_gt(strlen(error.sentence), 0);
    }
}
END_TEST

START_TEST(text_is_cut_and_ended)
{
    struct w_address address;
    char text[32];
    ck_assert_int_eq(w_address_parse("tcp://127.0.0.1:80", &address, NULL), 0);
    size_t whole = strlen("tcp://127.0.0.1:80");
    for (size_t bytes = 0; bytes < sizeof text; bytes++) {
        memset(text, 'z', sizeof text);
        ck_assert_int_eq(w_address_text(&address.socket, text, bytes), bytes > whole ? 0 : -ENOSPC);
        ck_assert(bytes == 0 || strlen(text) == (bytes > whole ? whole : bytes - 1));
        ck_assert(text[bytes] == 'z');
    }
    ck_assert_int_eq(w_address_text(&address.socket, NULL, 0), -ENOSPC);
}
END_TEST

START_TEST(addresses_as_the_kernel_answers_them)
{
    struct w_io_address address = {.bytes = 0};
    char text[WEIR_ADDRESS_MAX_BYTES];
    ck_assert_int_eq(w_address_text(&address, text, sizeof text), -EINVAL);

    /* A unix socket without a name: nothing but the family. */
    address.socket.any.sa_family = AF_UNIX;
    address.bytes = sizeof(sa_family_t);
    ck_assert_int_eq(w_address_text(&address, text, sizeof text), 0);
    ck_assert_str_eq(text, "unix:");
    ck_assert_int_eq(w_address_peer_text(&address, text, sizeof text), 0);
    ck_assert_str_eq(text, "unix:");

    /* A path that fills sun_path has no end; the length may say one byte more than there is. */
    memset(address.socket.unix_path.sun_path, 'p', sizeof address.socket.unix_path.sun_path);
    address.bytes = sizeof address.socket.unix_path + 1;
    ck_assert_int_eq(w_address_peer_text(&address, text, sizeof text), 0);
    ck_assert_uint_eq(strlen(text), 5 + sizeof address.socket.unix_path.sun_path);

    address.socket.any.sa_family = AF_NETLINK;
    ck_assert_int_eq(w_address_text(&address, text, sizeof text), -EINVAL);
    address.socket.any.sa_family = AF_INET6;
    address.bytes = sizeof(struct sockaddr_in);
    ck_assert_int_eq(w_address_text(&address, text, sizeof text), -EINVAL);
}
END_TEST

/* Whatever comes in, nothing breaks, and what is understood goes there and back. */
START_TEST(chance_text)
{
    static const char letters[] = "tcpunixfdsystemd:://[[]]@@**..%%0123456789abcdefx-_ /\n\x80";
    struct chance chance = {.state = (uint64_t)_i};
    for (int round = 0; round < 2000; round++) {
        static const char *const heads[] = {"tcp://", "unix://", "fd://", "systemd://", "tcp://[", "unix:///", "unix://@", ""};
        char text[400], back[WEIR_ADDRESS_MAX_BYTES];
        size_t bytes = strlen(strcpy(text, heads[chance_below(&chance, W_COUNT(heads))]));
        for (uint64_t more = chance_below(&chance, chance_below(&chance, 20) == 0 ? 380 : 24); more > 0; more--)
            text[bytes++] = letters[chance_below(&chance, sizeof letters - 1)];
        text[bytes] = '\0';
        struct w_address address, again;
        if (w_address_parse(text, &address, NULL) != 0 || address.kind != W_ADDRESS_NUMERIC)
            continue;
        ck_assert_int_eq(w_address_text(&address.socket, back, sizeof back), 0);
        ck_assert_msg(w_address_parse(back, &again, NULL) == 0, "'%s' became '%s'", text, back);
        ck_assert_mem_eq(&address, &again, sizeof again);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("address");
    TCase *tests = tcase_create("address");
    tcase_add_loop_test(tests, numeric_address_goes_there_and_back, 0, (int)W_COUNT(numeric));
    tcase_add_test(tests, kernel_gets_what_was_written);
    tcase_add_loop_test(tests, name_is_left_to_be_looked_up, 0, (int)W_COUNT(names));
    tcase_add_loop_test(tests, bad_address_is_refused_and_named, 0, (int)W_COUNT(bad));
    tcase_add_test(tests, null_is_refused);
    tcase_add_test(tests, sentence_is_one_printable_line);
    tcase_add_test(tests, lengths_at_their_limits);
    tcase_add_loop_test(tests, what_can_only_be_listened_on, 0, (int)W_COUNT(not_to_dial));
    tcase_add_test(tests, what_can_be_dialled);
    tcase_add_test(tests, inherited_descriptor);
    tcase_add_test(tests, systemd_socket);
    tcase_add_test(tests, text_is_cut_and_ended);
    tcase_add_test(tests, addresses_as_the_kernel_answers_them);
    tcase_add_loop_test(tests, chance_text, 0, 20);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
