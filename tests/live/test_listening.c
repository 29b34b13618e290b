/* SPDX-License-Identifier: MIT */
/* listening: every kind of address, listeners beside each other, stopping one, adopting. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A fixture with an echoing witness: what nearly every test here needs. */
struct stage {
    struct fixture fixture;
    struct witness witness;
};

static void stage_open(struct stage *stage, const weir_config *config)
{
    fixture_open(&stage->fixture, config);
    witness_start(&stage->witness);
    stage->witness.on_message = witness_echo;
}

static void stage_close(struct stage *stage)
{
    fixture_close(&stage->fixture);
    MUST_EQUAL(stage->witness.opened, stage->witness.closed);
    witness_finish(&stage->witness);
}

static void expect_echo(struct fixture *fixture, int visitor, const char *text)
{
    visitor_send_frame(fixture, visitor, text, (uint32_t)strlen(text));
    visitor_expect_frame(fixture, visitor, text, (uint32_t)strlen(text));
}

/* Listens, checks how the address begins, and that it answers. */
static struct place expect_served(struct stage *stage, const char *address, const char *begins)
{
    struct place place = fixture_listen(stage->fixture.runtime, address, &stage->witness.protocol);
    if (strncmp(place.address, begins, strlen(begins)) != 0)
        ck_abort_msg("listening on %s reads back as %s, not %s...", address, place.address, begins);
    uint32_t opened = stage->witness.opened, closed = stage->witness.closed;
    int visitor = visitor_dial(place.address);
    expect_echo(&stage->fixture, visitor, "through this address");
    MUST_EQUAL(stage->witness.opened, opened + 1);
    close(visitor);
    UNTIL(&stage->fixture, stage->witness.closed == closed + 1);
    MUST_EQUAL(stage->witness.event.reason, WEIR_REASON_PEER);
    return place;
}

static int try_listen(struct fixture *fixture, const char *address, const weir_protocol *protocol, weir_error *error)
{
    memset(error, 'x', sizeof *error);
    weir_listener listener;
    int result = weir_listen(fixture->runtime, address, protocol, NULL, &listener, error);
    MUST_EQUAL(error->code, result);
    MUST(memchr(error->sentence, '\0', sizeof error->sentence) != NULL);
    MUST(result == 0 || error->sentence[0] != '\0');
    return result;
}

START_TEST(tcp_with_four_and_six)
{
    struct stage stage;
    stage_open(&stage, NULL);
    struct place four = expect_served(&stage, "tcp://127.0.0.1:0", "tcp://127.0.0.1:");
    struct place six = expect_served(&stage, "tcp://[::1]:0", "tcp://[::1]:");
    struct place name = expect_served(&stage, "tcp://localhost:0", "tcp://");
    MUST(strcmp(four.address + strlen("tcp://127.0.0.1:"), "0") != 0);
    MUST(strcmp(six.address + strlen("tcp://[::1]:"), "0") != 0);
    MUST(strcmp(name.address, four.address) != 0);
    /* The port that is read back is taken. */
    weir_error error;
    struct fixture other;
    fixture_open(&other, NULL);
    MUST_EQUAL(try_listen(&other, four.address, &stage.witness.protocol, &error), -EADDRINUSE);
    fixture_close(&other);
    MUST(strstr(error.sentence, four.address) != NULL);
    stage_close(&stage);
}
END_TEST

START_TEST(tcp_with_every_address)
{
    struct stage stage;
    stage_open(&stage, NULL);
    struct place place = fixture_listen(stage.fixture.runtime, "tcp://*:0", &stage.witness.protocol);
    const char *port = strrchr(place.address, ':');
    MUST(port != NULL && atoi(port + 1) > 0);
    char address[64];
    snprintf(address, sizeof address, "tcp://127.0.0.1%s", port);
    int four = visitor_dial(address);
    expect_echo(&stage.fixture, four, "by four");
    snprintf(address, sizeof address, "tcp://[::1]%s", port);
    int six = visitor_dial(address);
    expect_echo(&stage.fixture, six, "by six");
    close(four);
    close(six);
    stage_close(&stage);
}
END_TEST

START_TEST(unix_path)
{
    char path[64], address[80];
    snprintf(path, sizeof path, "/tmp/weir-test-%d.sock", (int)getpid());
    snprintf(address, sizeof address, "unix://%s", path);
    /* A stale file: its socket is gone. */
    struct stage stage;
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr name = {.sa_family = AF_UNIX};
    uint8_t whole[sizeof(struct sockaddr) + 64] = {0};
    memcpy(whole, &name, sizeof name.sa_family);
    memcpy(whole + sizeof name.sa_family, path, strlen(path) + 1);
    MUST_EQUAL(bind(stale, (struct sockaddr *)(void *)whole, (socklen_t)(sizeof name.sa_family + strlen(path) + 1)), 0);
    close(stale);
    MUST_EQUAL(access(path, F_OK), 0);
    stage_open(&stage, NULL);
    struct place place = expect_served(&stage, address, address);
    ck_assert_str_eq(place.address, address);
    /* A live one: from this runtime or another. */
    struct fixture other;
    weir_error error;
    fixture_open(&other, NULL);
    MUST_EQUAL(try_listen(&other, address, &stage.witness.protocol, &error), -EADDRINUSE);
    fixture_close(&other);
    int visitor = visitor_dial(address); /* the refused one has left it alone */
    expect_echo(&stage.fixture, visitor, "still there");
    close(visitor);
    stage_close(&stage);
    MUST_EQUAL(access(path, F_OK), -1);
    MUST_EQUAL(errno, ENOENT);
}
END_TEST

START_TEST(unix_path_that_is_no_socket)
{
    char path[64], address[80];
    snprintf(path, sizeof path, "/tmp/weir-test-%d.txt", (int)getpid());
    snprintf(address, sizeof address, "unix://%s", path);
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    MUST_EQUAL(write(file, "precious", 8), 8);
    close(file);
    struct stage stage;
    weir_error error;
    stage_open(&stage, NULL);
    MUST(try_listen(&stage.fixture, address, &stage.witness.protocol, &error) < 0);
    stage_close(&stage);
    struct stat now;
    MUST_EQUAL(stat(path, &now), 0); /* not ours to remove */
    MUST_EQUAL(now.st_size, 8);
    unlink(path);
}
END_TEST

START_TEST(unix_abstract)
{
    char address[80];
    snprintf(address, sizeof address, "unix://@weir-test-%d", (int)getpid());
    struct stage stage;
    stage_open(&stage, NULL);
    struct place place = expect_served(&stage, address, address);
    ck_assert_str_eq(place.address, address);
    weir_error error;
    MUST_EQUAL(try_listen(&stage.fixture, address, &stage.witness.protocol, &error), -EADDRINUSE);
    stage_close(&stage);
    MUST_EQUAL(visitor_try_dial(address), -ECONNREFUSED);
}
END_TEST

START_TEST(a_unix_visitor_that_has_left_already)
{
    char address[80];
    snprintf(address, sizeof address, "unix://@weir-test-left-%d", (int)getpid());
    struct stage stage;
    stage_open(&stage, NULL);
    fixture_listen(stage.fixture.runtime, address, &stage.witness.protocol);
    for (uint32_t round = 0; round < 2; round++) {
        int visitor = visitor_dial(address);
        visitor_send_frame(NULL, visitor, "said and gone", 13);
        if (round == 0)
            shutdown(visitor, SHUT_WR);
        else
            close(visitor);
        UNTIL(&stage.fixture, stage.witness.closed == round + 1);
        MUST_EQUAL(stage.witness.messages, round + 1);
        MUST(stage.witness.event.reason == WEIR_REASON_PEER || (round == 1 && stage.witness.event.reason == WEIR_REASON_RESET));
        if (round == 0) {
            visitor_expect_frame(&stage.fixture, visitor, "said and gone", 13);
            visitor_expect_end(&stage.fixture, visitor);
            close(visitor);
        }
    }
    stage_close(&stage);
}
END_TEST

START_TEST(inherited_descriptor)
{
    struct stage stage;
    stage_open(&stage, NULL);
    char real[64], address[32];
    int listening = visitor_listen(16, real, sizeof real);
    snprintf(address, sizeof address, "fd://%d", listening);
    struct place place = expect_served(&stage, address, real);
    ck_assert_str_eq(place.address, real);
    MUST_EQUAL(weir_listener_stop(stage.fixture.runtime, place.listener), 0);
    fixture_settle(&stage.fixture);
    UNTIL(&stage.fixture, visitor_try_dial(real) == -ECONNREFUSED); /* weir's to close */
    weir_error error;
    int plain = open("/dev/null", O_RDONLY | O_CLOEXEC);
    snprintf(address, sizeof address, "fd://%d", plain);
    MUST(try_listen(&stage.fixture, address, &stage.witness.protocol, &error) < 0);
    MUST_EQUAL(fcntl(plain, F_GETFD) >= 0, 1); /* on failure it is not taken */
    MUST_EQUAL(try_listen(&stage.fixture, "fd://999", &stage.witness.protocol, &error), -EBADF);
    close(plain);
    stage_close(&stage);
}
END_TEST

/* In a process of its own, since descriptors 3 and 4 must be ours. */
static void serve_what_systemd_hands_over(void)
{
    struct stage stage;
    weir_error error;
    char first[64], second[64], self[16];
    int one = visitor_listen(16, first, sizeof first), two = visitor_listen(16, second, sizeof second);
    int far_one = fcntl(one, F_DUPFD, 100), far_two = fcntl(two, F_DUPFD, 100);
    close(one);
    close(two);
    MUST_EQUAL(dup2(far_one, 3), 3);
    MUST_EQUAL(dup2(far_two, 4), 4);
    close(far_one);
    close(far_two);
    snprintf(self, sizeof self, "%d", (int)getpid());
    setenv("LISTEN_PID", self, 1);
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_FDNAMES", "front:back", 1);
    stage_open(&stage, NULL);
    MUST_EQUAL(try_listen(&stage.fixture, "systemd://side", &stage.witness.protocol, &error), -ENOENT);
    MUST(strstr(error.sentence, "side") != NULL);
    struct place back = expect_served(&stage, "systemd://back", second);
    struct place front = expect_served(&stage, "systemd://", first);
    ck_assert_str_eq(back.address, second);
    ck_assert_str_eq(front.address, first);
    setenv("LISTEN_PID", "1", 1);
    MUST_EQUAL(try_listen(&stage.fixture, "systemd://", &stage.witness.protocol, &error), -ENOENT);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    MUST_EQUAL(try_listen(&stage.fixture, "systemd://", &stage.witness.protocol, &error), -ENOENT);
    stage_close(&stage);
}

START_TEST(systemd_descriptors)
{
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        /* Check talks to the parent through a descriptor that may be 3 or 4: the child keeps quiet and answers by its exit. */
        for (int descriptor = 3; descriptor < 100; descriptor++)
            close(descriptor);
        serve_what_systemd_hands_over();
        _exit(42);
    }
    int status = 0;
    MUST_EQUAL(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 42)
        ck_abort_msg("the child that serves LISTEN_FDS failed (status %#x)", status);
}
END_TEST

START_TEST(two_listeners_two_protocols)
{
    struct stage stage;
    struct witness lines;
    stage_open(&stage, NULL);
    witness_start(&lines);
    MUST_EQUAL(weir_codec_line(&lines.protocol.codec, 0, false), 0);
    lines.on_message = witness_echo;
    struct place frame = fixture_listen(stage.fixture.runtime, NULL, &stage.witness.protocol);
    struct place line = fixture_listen(stage.fixture.runtime, NULL, &lines.protocol);
    MUST(frame.listener != line.listener);
    int framed = visitor_dial(frame.address), lined = visitor_dial(line.address);
    visitor_send(&stage.fixture, lined, "a line\r\n", 8);
    expect_echo(&stage.fixture, framed, "a frame");
    char got[7];
    visitor_receive(&stage.fixture, lined, got, 7);
    MUST(memcmp(got, "a line\n", 7) == 0);
    MUST_EQUAL(lines.messages, 1);
    MUST_EQUAL(stage.witness.messages, 1);
    close(framed);
    close(lined);
    stage_close(&stage);
    MUST_EQUAL(lines.closed, 1);
    witness_finish(&lines);
}
END_TEST

START_TEST(stopping_one_listener)
{
    struct stage stage;
    stage_open(&stage, &(weir_config){.shards = 2});
    struct place place = fixture_listen(stage.fixture.runtime, NULL, &stage.witness.protocol);
    struct place other = fixture_listen(stage.fixture.runtime, NULL, &stage.witness.protocol);
    int visitor = visitor_dial(place.address);
    expect_echo(&stage.fixture, visitor, "before");
    MUST_EQUAL(weir_listener_stop(stage.fixture.runtime, place.listener), 0);
    fixture_settle(&stage.fixture);
    fixture_turn(&stage.fixture);
    MUST_EQUAL(visitor_try_dial(place.address), -ECONNREFUSED);
    expect_echo(&stage.fixture, visitor, "after");
    int second = visitor_dial(other.address);
    expect_echo(&stage.fixture, second, "the other goes on");
    MUST_EQUAL(weir_listener_stop(stage.fixture.runtime, 12345), -ENOENT);
    char text[WEIR_ADDRESS_MAX_BYTES];
    MUST_EQUAL(weir_listener_address(stage.fixture.runtime, 12345, text, sizeof text), -ENOENT);
    MUST_EQUAL(weir_listener_address(stage.fixture.runtime, other.listener, text, 8), -ENOSPC);
    ck_assert_str_eq(text, "tcp://1");
    close(visitor);
    close(second);
    stage_close(&stage);
}
END_TEST

START_TEST(listening_from_another_thread_while_it_runs)
{
    struct runner runner;
    weir_protocol protocol = {.on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    runner_open(&runner, &(weir_config){.shards = 2});
    runner_start(&runner);
    fixture_sleep_ns(MILLISECONDS(50));
    for (int round = 0; round < 20; round++) {
        struct place place = fixture_listen(runner.runtime, NULL, &protocol);
        int visitor = visitor_dial(place.address);
        expect_echo(NULL, visitor, "while it runs");
        MUST_EQUAL(weir_listener_stop(runner.runtime, place.listener), 0);
        int late = -1;
        UNTIL(NULL, (late = visitor_try_dial(place.address)) == -ECONNREFUSED || (close(late), false));
        expect_echo(NULL, visitor, "and after");
        close(visitor);
    }
    runner_close(&runner);
}
END_TEST

START_TEST(connections_spread_over_shards)
{
    struct runner runner;
    weir_protocol protocol = {.on_message = fixture_echo};
    weir_codec_frame(&protocol.codec, NULL);
    runner_open(&runner, &(weir_config){.shards = 4});
    struct place place = fixture_listen(runner.runtime, NULL, &protocol);
    runner_start(&runner);
    int visitors[128];
    for (int i = 0; i < 128; i++)
        visitors[i] = visitor_dial(place.address);
    for (int i = 0; i < 128; i++)
        expect_echo(NULL, visitors[i], "somewhere");
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 4; i++) {
        weir_stats stats;
        weir_shard_stats(weir_shard_at(runner.runtime, i), &stats);
        if (stats.accepted < 8) /* of 32; by chance once in 10^8 */
            ck_abort_msg("shard %u has %u of 128 connections", i, (unsigned)stats.accepted);
        sum += stats.accepted;
    }
    MUST_EQUAL(sum, 128);
    for (int i = 0; i < 128; i++)
        close(visitors[i]);
    runner_close(&runner);
}
END_TEST

START_TEST(adopting)
{
    struct stage stage;
    int marker, pair[2];
    weir_id id = {0};
    stage_open(&stage, NULL);
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    MUST_EQUAL(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
    MUST_EQUAL(weir_adopt(stage.fixture.shard, pair[0], &stage.witness.protocol, &marker, &id), 0);
    MUST_EQUAL(stage.witness.opened, 0); /* never from inside the call */
    fixture_turn(&stage.fixture);
    MUST_EQUAL(stage.witness.opened, 1);
    MUST(stage.witness.id.value == id.value && id.value != 0);
    MUST(weir_conn_user(stage.witness.conn) == &marker);
    char peer[64];
    MUST_EQUAL(weir_conn_peer(stage.witness.conn, peer, sizeof peer), 0);
    ck_assert_str_eq(peer, "unix:");
    expect_echo(&stage.fixture, pair[1], "adopted");
    weir_stats stats;
    weir_shard_stats(stage.fixture.shard, &stats);
    MUST_EQUAL(stats.adopted, 1);
    MUST_EQUAL(stats.accepted, 0);
    close(pair[1]);
    UNTIL(&stage.fixture, stage.witness.closed == 1);
    MUST_EQUAL(fcntl(pair[0], F_GETFD), -1); /* weir closed it */
    MUST(weir_find(stage.fixture.shard, id) == NULL);
    stage_close(&stage);
}
END_TEST

START_TEST(adopting_what_cannot_be)
{
    struct stage stage;
    stage_open(&stage, &(weir_config){.connections = 1});
    weir_id id;
    int pair[2], other[2], plain = open("/dev/null", O_RDONLY | O_CLOEXEC), alone = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int packets[2];
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, packets), 0);
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
    char address[64];
    int listening = visitor_listen(1, address, sizeof address);
    const int bad[] = {plain, alone, packets[0], listening, -1, 999};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int result = weir_adopt(stage.fixture.shard, bad[i], &stage.witness.protocol, NULL, &id);
        if (result != -EINVAL)
            ck_abort_msg("adopting bad descriptor %zu answers %d, not -EINVAL", i, result);
    }
    for (size_t i = 0; i < 4; i++)
        MUST(fcntl(bad[i], F_GETFD) >= 0);
    MUST_EQUAL(weir_adopt(stage.fixture.shard, pair[0], &stage.witness.protocol, NULL, NULL), 0);
    MUST_EQUAL(weir_adopt(stage.fixture.shard, other[0], &stage.witness.protocol, NULL, &id), -ENOSPC);
    MUST(fcntl(other[0], F_GETFD) >= 0); /* still ours */
    weir_stop(stage.fixture.runtime);
    UNTIL(&stage.fixture, (close(pair[1]), stage.fixture.over_count == 1));
    MUST_EQUAL(weir_adopt(stage.fixture.shard, other[0], &stage.witness.protocol, NULL, &id), -ESHUTDOWN);
    MUST_EQUAL(stage.witness.opened, 0);
    MUST_EQUAL(stage.witness.closed, 1); /* opened or not: an adopted socket always gets its on_close */
    MUST_EQUAL(stage.witness.event.reason, WEIR_REASON_STOPPED);
    fixture_close(&stage.fixture);
    MUST_EQUAL(stage.witness.closed, 1);
    witness_finish(&stage.witness);
}
END_TEST

START_TEST(bad_addresses)
{
    static const struct {
        const char *address, *named;
    } bad[] = {{"", "''"},
               {"tcp", "tcp"},
               {"http://x:1", "http://x:1"},
               {"tcp://", "''"},
               {"tcp://127.0.0.1", "'127.0.0.1'"},
               {"tcp://127.0.0.1:65536", "65536"},
               {"tcp://127.0.0.1:-1", "-1"},
               {"tcp://127.0.0.1:12x", "12x"},
               {"tcp://:1", ":1"},
               {"tcp://[::1:80", "[::1"},
               {"tcp://[::1]", "[::1]"},
               {"unix://", "''"},
               {"unix://relative", "relative"},
               {"unix://@", "'@'"},
               {"fd://", "''"},
               {"fd://-1", "-1"},
               {"fd://abc", "abc"}};
    struct stage stage;
    weir_error error;
    stage_open(&stage, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int result = try_listen(&stage.fixture, bad[i].address, &stage.witness.protocol, &error);
        if (result != -EINVAL)
            ck_abort_msg("listening on \"%s\" answers %d, not -EINVAL: %s", bad[i].address, result, error.sentence);
        if (strstr(error.sentence, bad[i].named) == NULL)
            ck_abort_msg("the sentence for \"%s\" does not name %s: %s", bad[i].address, bad[i].named, error.sentence);
    }
    char endless[1000];
    memset(endless, 'a', sizeof endless);
    memcpy(endless, "unix:///", 8);
    endless[sizeof endless - 1] = '\0';
    MUST_EQUAL(try_listen(&stage.fixture, endless, &stage.witness.protocol, &error), -EINVAL);
    MUST_EQUAL(try_listen(&stage.fixture, "tcp://192.0.2.1:0", &stage.witness.protocol, &error), -EADDRNOTAVAIL);
    MUST_EQUAL(try_listen(&stage.fixture, "unix:///nonexistent/x", &stage.witness.protocol, &error), -ENOENT);
    weir_protocol empty = {0};
    MUST_EQUAL(try_listen(&stage.fixture, "tcp://127.0.0.1:0", &empty, &error), -EINVAL); /* no codec */
    MUST_EQUAL(weir_listen(stage.fixture.runtime, "nonsense", &stage.witness.protocol, NULL, NULL, NULL), -EINVAL);
    stage_close(&stage);
}
END_TEST

START_TEST(bad_protocols)
{
    struct stage stage;
    weir_error error;
    stage_open(&stage, NULL);
    weir_protocol protocol = stage.witness.protocol;
    protocol.limits.hard_limit_bytes = 1000; /* less than one largest message */
    MUST_EQUAL(try_listen(&stage.fixture, "tcp://127.0.0.1:0", &protocol, &error), -EINVAL);
    MUST(strstr(error.sentence, "hard_limit_bytes") != NULL);
    protocol = stage.witness.protocol;
    protocol.limits.high_water_bytes = 1000;
    protocol.limits.low_water_bytes = 2000;
    MUST_EQUAL(try_listen(&stage.fixture, "tcp://127.0.0.1:0", &protocol, &error), -EINVAL);
    MUST(strstr(error.sentence, "low_water_bytes") != NULL);
    stage_close(&stage);
}
END_TEST

START_TEST(listeners_run_out)
{
    struct stage stage;
    weir_error error;
    stage_open(&stage, &(weir_config){.listeners = 2});
    struct place first = fixture_listen(stage.fixture.runtime, NULL, &stage.witness.protocol);
    fixture_listen(stage.fixture.runtime, NULL, &stage.witness.protocol);
    MUST_EQUAL(try_listen(&stage.fixture, "tcp://127.0.0.1:0", &stage.witness.protocol, &error), -ENOSPC);
    MUST(strstr(error.sentence, "listeners") != NULL);
    MUST_EQUAL(weir_listener_stop(stage.fixture.runtime, first.listener), 0);
    fixture_settle(&stage.fixture);
    fixture_turn_for(&stage.fixture, MILLISECONDS(20));
    expect_served(&stage, "tcp://127.0.0.1:0", "tcp://127.0.0.1:"); /* a place is free again */
    weir_stop(stage.fixture.runtime);
    MUST_EQUAL(try_listen(&stage.fixture, "tcp://127.0.0.1:0", &stage.witness.protocol, &error), -ESHUTDOWN);
    UNTIL(&stage.fixture, stage.fixture.over_count == 1);
    stage_close(&stage);
}
END_TEST

START_TEST(on_open_refuses)
{
    struct stage stage;
    stage_open(&stage, NULL);
    stage.witness.open_answer = -EACCES;
    struct place place = fixture_listen(stage.fixture.runtime, NULL, &stage.witness.protocol);
    for (uint32_t i = 1; i <= 5; i++) {
        int visitor = visitor_dial(place.address);
        UNTIL(&stage.fixture, stage.witness.closed == i);
        MUST_EQUAL(stage.witness.event.reason, WEIR_REASON_REFUSED);
        MUST_EQUAL(stage.witness.event.error, -EACCES);
        uint8_t byte;
        ssize_t got = 1;
        UNTIL(&stage.fixture, (got = recv(visitor, &byte, 1, 0)) >= 0 || errno != EAGAIN);
        MUST(got == 0 || (got < 0 && errno == ECONNRESET));
        close(visitor);
    }
    MUST_EQUAL(stage.witness.messages, 0);
    stage_close(&stage);
}
END_TEST

START_TEST(listen_options_reach_the_connection)
{
    struct stage stage;
    int marker;
    weir_listener listener;
    char address[WEIR_ADDRESS_MAX_BYTES], peer[64], mine[64];
    stage_open(&stage, NULL);
    weir_listen_options options = {.user = &marker, .socket = {.backlog = 5, .send_buffer_bytes = 65536}};
    MUST_EQUAL(weir_listen(stage.fixture.runtime, "tcp://127.0.0.1:0", &stage.witness.protocol, &options, &listener, NULL), 0);
    MUST_EQUAL(weir_listener_address(stage.fixture.runtime, listener, address, sizeof address), 0);
    int visitor = visitor_dial(address);
    UNTIL(&stage.fixture, stage.witness.opened == 1);
    weir_conn *conn = stage.witness.conn;
    MUST(weir_conn_user(conn) == &marker);
    weir_conn_set_user(conn, &listener);
    MUST(weir_conn_user(conn) == &listener);
    MUST(weir_conn_protocol(conn) == &stage.witness.protocol);
    MUST(weir_conn_shard(conn) == stage.fixture.shard);
    MUST_EQUAL(weir_conn_peer(conn, peer, sizeof peer), 0);
    struct sockaddr_storage name;
    socklen_t bytes = sizeof name;
    MUST_EQUAL(getsockname(visitor, (struct sockaddr *)&name, &bytes), 0);
    uint8_t port[2];
    memcpy(port, (uint8_t *)&name + 2, 2);
    snprintf(mine, sizeof mine, "127.0.0.1:%u", port[0] << 8 | port[1]);
    ck_assert_str_eq(peer, mine);
    MUST_EQUAL(weir_conn_peer(conn, peer, 6), -ENOSPC);
    ck_assert_str_eq(peer, "127.0");
    close(visitor);
    stage_close(&stage);
}
END_TEST

FIXTURE_MAIN("listening", tcp_with_four_and_six, tcp_with_every_address, unix_path, unix_path_that_is_no_socket, unix_abstract,
             a_unix_visitor_that_has_left_already, inherited_descriptor, systemd_descriptors, two_listeners_two_protocols,
             stopping_one_listener, listening_from_another_thread_while_it_runs, connections_spread_over_shards, adopting,
             adopting_what_cannot_be, bad_addresses, bad_protocols, listeners_run_out, on_open_refuses, listen_options_reach_the_connection)
