/* SPDX-License-Identifier: MIT */
/* test_bad_stop: stopped while all is in full swing. Everything accepted is sent or told, every message that the peer sees is whole,
 * and it does not take for ever. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "live.h"

/* --- load: clients of one thread that write as much as goes and check what comes --- */

enum { PAYLOAD = 500, FRAME = 4 + PAYLOAD, CLIENTS = 24 };

struct client {
    int descriptor;   /* -1: over */
    uint64_t out, in; /* bytes */
    bool reads;       /* false: one of those that never do */
    int ended;        /* 0: by EOF, else the errno */
};

struct load {
    pthread_t thread;
    int port;
    struct client clients[CLIENTS];
    atomic_bool writes; /* go on writing */
    atomic_bool over;   /* true exactly when all that read have seen the end */
    atomic_ullong echoed_bytes;
};

static uint8_t load_byte(uint64_t position)
{
    uint64_t at = position % FRAME;
    return at < 4 ? (uint8_t)(PAYLOAD >> 8 * at) : (uint8_t)(position / FRAME * 11 + at * 7);
}

static void client_write(struct client *client)
{
    uint8_t bytes[8 * FRAME];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = load_byte(client->out + i);
    ssize_t written = live_send(client->descriptor, bytes, sizeof bytes, MSG_DONTWAIT);
    client->out += written > 0 ? (uint64_t)written : 0;
}

/* What comes is what was sent, in order; the end is noted. */
static size_t client_read(struct client *client)
{
    uint8_t bytes[16 * KIB];
    ssize_t got = live_receive(client->descriptor, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0) {
        client->ended = got == 0 ? 0 : errno;
        live_close(client->descriptor);
        client->descriptor = -1;
        return 0;
    }
    for (ssize_t i = 0; i < got; i++)
        if (bytes[i] != load_byte(client->in + (uint64_t)i))
            ck_abort_msg("byte %llu came back wrong", (unsigned long long)client->in + (unsigned long long)i);
    client->in += (uint64_t)got;
    return (size_t)got;
}

static void *load_run(void *user)
{
    struct load *load = user;
    for (int left = 1; left > 0;) {
        struct pollfd polls[CLIENTS];
        left = 0;
        for (int i = 0; i < CLIENTS; i++) {
            struct client *client = &load->clients[i];
            short events = (short)((client->reads ? POLLIN : 0) | (load->writes ? POLLOUT : 0));
            polls[i] = (struct pollfd){.fd = client->descriptor, .events = events};
            left += client->reads && client->descriptor >= 0;
        }
        if (poll(polls, CLIENTS, 100) < 0)
            continue;
        for (int i = 0; i < CLIENTS; i++) {
            struct client *client = &load->clients[i];
            if (client->descriptor >= 0 && load->writes && (polls[i].revents & POLLOUT))
                client_write(client);
            if (client->descriptor >= 0 && client->reads && (polls[i].revents & (POLLIN | POLLERR | POLLHUP)))
                load->echoed_bytes += client_read(client);
        }
    }
    load->over = true;
    return NULL;
}

static void load_start(struct load *load, int port, int silent_count)
{
    memset(load, 0, sizeof *load);
    load->writes = true;
    for (int i = 0; i < CLIENTS; i++) {
        load->clients[i].reads = i >= silent_count;
        load->clients[i].descriptor = live_socket(i < silent_count ? 4096 : 0);
        ck_assert_int_eq(live_connect(load->clients[i].descriptor, port), 0);
    }
    ck_assert_int_eq(pthread_create(&load->thread, NULL, load_run, load), 0);
    LIVE_AWAIT(load->echoed_bytes > 20 * MIB / LIVE_SLOWER);
}

/* Joins; each client that read must have seen whole frames only. Answers how many were ended by an error, not by EOF. */
static int load_finish(struct load *load)
{
    int errors = 0;
    ck_assert_int_eq(pthread_join(load->thread, NULL), 0);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *client = &load->clients[i];
        errors += client->reads && client->ended != 0;
        if (client->reads && client->ended == 0)
            ck_assert_uint_eq(client->in % FRAME, 0);
        ck_assert_uint_le(client->in, client->out);
        if (client->descriptor >= 0)
            live_close(client->descriptor);
    }
    return errors;
}

/* --- weir_stop() in this process --- */

static uint64_t stop_under_load(struct live *live, struct load *load, int silent_count)
{
    live_init(live, 1000);
    live->config.shards = 2;
    live->config.stop_ns = LIVE_SLOWER * WEIR_SECOND;
    live_start(live);
    load_start(load, live->port, silent_count);
    if (silent_count > 0) /* long enough for the silent ones to be full */
        live_sleep(WEIR_SECOND / 2);
    uint64_t begin_ns = live_now_ns();
    weir_stop(live->runtime);
    weir_stop(live->runtime); /* more than once is once */
    live_stop(live);          /* checks the sums */
    return live_now_ns() - begin_ns;
}

START_TEST(stopped_with_good_clients)
{
    static struct live live;
    static struct load load;
    uint64_t took_ns = stop_under_load(&live, &load, 0);
    ck_assert_int_eq(load_finish(&load), 0); /* EOF for all of them, and whole frames */
    ck_assert_uint_le(took_ns, LIVE_SLOWER * WEIR_SECOND);
    ck_assert_uint_eq(live.stats.closed[WEIR_REASON_STOPPED], CLIENTS);
    ck_assert_uint_eq(live.stats.messages_undelivered, 0);
    uint64_t in_bytes = 0;
    for (int i = 0; i < CLIENTS; i++)
        in_bytes += load.clients[i].in;
    ck_assert_uint_eq(live.stats.bytes_out, in_bytes); /* each byte that the kernel took came */
    ck_assert_uint_eq(live.stats.messages_out, in_bytes / FRAME);
}
END_TEST

START_TEST(stopped_with_clients_that_do_not_read)
{
    enum { SILENT = 8 };
    static struct live live;
    static struct load load;
    uint64_t took_ns = stop_under_load(&live, &load, SILENT);
    load.writes = false;
    ck_assert_int_eq(load_finish(&load), 0);
    ck_assert_uint_ge(took_ns, LIVE_SLOWER * WEIR_SECOND - 50 * WEIR_MILLISECOND); /* they got their time */
    ck_assert_uint_le(took_ns, LIVE_SLOWER * 2 * WEIR_SECOND);
    ck_assert_uint_gt(live.stats.messages_undelivered, 0);
    ck_assert_uint_gt(live.stats.messages_out, 0);
    ck_assert_uint_eq(live.opens, CLIENTS);
    ck_assert_uint_ge(live.stats.closed[WEIR_REASON_STOPPED], CLIENTS - SILENT);
}
END_TEST

/* Stopped while connections are being accepted: each is told of in full or not at all. */
START_TEST(stopped_while_they_come)
{
    enum { ROUNDS = 60, COUNT = 10 };
    for (int round = 0; round < ROUNDS / LIVE_SLOWER; round++) {
        struct live live;
        int clients[COUNT];
        live_init(&live, 1000);
        live.config.stop_ns = 100 * WEIR_MILLISECOND;
        live_start(&live);
        for (int i = 0; i < COUNT; i++)
            clients[i] = live_dial(&live);
        live_sleep((uint64_t)round % 5 * 20 * WEIR_MICROSECOND);
        weir_stop(live.runtime);
        for (int i = 0; i < COUNT; i++) {
            live_read_end(clients[i], NULL);
            live_close(clients[i]);
        }
        live_stop(&live);
        ck_assert_uint_eq(live.stats.accepted, live.opens);
    }
}
END_TEST

/* Stopped, and closed at once by cutting what is left: on_close runs in weir_close(). */
START_TEST(closed_without_a_run)
{
    struct account account = {0};
    struct live live;
    weir_error error;
    uint64_t sleep_ns;
    char address[WEIR_ADDRESS_MAX_BYTES];
    live_init(&live, 1000);
    live.config.allocator = account_allocator(&account);
    live.protocol.user = &live;
    live.protocol.on_open = live_opened;
    live.protocol.on_message = live_echo_message;
    live.protocol.on_close = live_closed;
    ck_assert_int_eq(weir_open(&live.config, &live.runtime, &error), 0);
    ck_assert_int_eq(weir_listen(live.runtime, "tcp://127.0.0.1:0", &live.protocol, NULL, &live.listener, &error), 0);
    ck_assert_int_eq(weir_listener_address(live.runtime, live.listener, address, sizeof address), 0);
    live.port = atoi(strrchr(address, ':') + 1);
    int clients[10];
    for (int i = 0; i < 10; i++) {
        clients[i] = live_dial(&live);
        live_write(clients[i], "\x32\0\0\0abc", 7);
    }
    for (int turns = 0; turns < 10000 && live.opens < 10; turns++)
        ck_assert_int_eq(weir_turn(weir_shard_at(live.runtime, 0), &sleep_ns), 0);
    ck_assert_uint_eq(live.opens, 10);
    weir_close(&live.runtime);
    ck_assert_uint_eq(live.closes, 10);
    for (int i = 0; i < 10; i++) {
        live_read_end(clients[i], NULL);
        live_close(clients[i]);
    }
    ck_assert_int_eq(account.pieces, 0);
}
END_TEST

/* --- SIGTERM to weir-echo --- */

static pid_t echo_start(int *port)
{
    int ends[2];
    char line[256] = "";
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(WEIR_BINARY_DIR "/tools/weir-echo", "weir-echo", "--listen", "tcp://127.0.0.1:0", "--shards", "2", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *said = fdopen(ends[0], "r");
    ck_assert_ptr_nonnull(said);
    if (fgets(line, sizeof line, said) == NULL || strncmp(line, "listening on tcp://127.0.0.1:", 29) != 0)
        ck_abort_msg("weir-echo said: %s", line);
    *port = atoi(line + 29);
    fclose(said);
    return child;
}

static void expect_clean_exit(pid_t child, uint64_t limit_ns)
{
    int status;
    uint64_t begin_ns = live_now_ns();
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (live_now_ns() - begin_ns > limit_ns) {
            kill(child, SIGKILL);
            ck_abort_msg("weir-echo does not end");
        }
        live_sleep(WEIR_MILLISECOND);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        ck_abort_msg("weir-echo ended with status %x", (unsigned)status);
}

START_TEST(signalled_under_full_load)
{
    static const int signals[] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        static struct load load;
        int port;
        pid_t child = echo_start(&port);
        load_start(&load, port, 0);
        ck_assert_int_eq(kill(child, signals[i]), 0);
        expect_clean_exit(child, LIVE_SLOWER * 2 * WEIR_SECOND);
        ck_assert_int_eq(load_finish(&load), 0);
    }
}
END_TEST

/* Peers that do not read hold it up for its 5 s and no longer; the others have gone long before. */
START_TEST(signalled_with_clients_that_do_not_read)
{
    static struct load load;
    int port;
    pid_t child = echo_start(&port);
    load_start(&load, port, 8);
    uint64_t begin_ns = live_now_ns();
    ck_assert_int_eq(kill(child, SIGTERM), 0);
    LIVE_AWAIT(load.over);
    ck_assert_uint_le(live_now_ns() - begin_ns, LIVE_SLOWER * 3 * WEIR_SECOND);
    expect_clean_exit(child, (5 + LIVE_SLOWER * 2) * WEIR_SECOND);
    ck_assert_int_eq(load_finish(&load), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {stopped_with_good_clients, stopped_with_clients_that_do_not_read,
                                  stopped_while_they_come,   closed_without_a_run,
                                  signalled_under_full_load, signalled_with_clients_that_do_not_read};
    return live_main("bad_stop", tests, sizeof tests / sizeof *tests);
}
