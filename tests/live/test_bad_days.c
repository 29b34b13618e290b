/* SPDX-License-Identifier: MIT */
/* test_bad_days: what may go wrong around a server: no descriptors, the port taken, stopped under full load; and what a
 * program may do wrong: ids of the dead, calls from the wrong thread. (No memory is in test_no_memory.) */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "live.h"
#include "tests/unit/death.h"

/* --- no descriptors --- */

/* The clients' sockets are made before the limit is lowered, so what is left is the server's alone. (It is lowered before the
 * server starts: an accept that is under way keeps the limit it began with.) */
START_TEST(no_descriptors_left)
{
    enum { ROOM = 20, NEWCOMERS = 40 };
    struct live live;
    struct live_pulse pulse;
    int clients[NEWCOMERS];
    live_init(&live, 1000);
    for (int i = 0; i < NEWCOMERS; i++)
        clients[i] = live_socket(0);
    struct rlimit limit = {(rlim_t)clients[NEWCOMERS - 1] + 1 + ROOM, (rlim_t)clients[NEWCOMERS - 1] + 1 + ROOM};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    live_start(&live);
    live_pulse_start(&pulse, &live);
    for (int i = 0; i < NEWCOMERS; i++) {
        ck_assert_int_eq(live_connect(clients[i], live.port), 0);
        live_write_frame(clients[i], 100, (uint32_t)i);
    }
    LIVE_AWAIT(live_stats(&live).accept_pauses > 0);
    live_sleep(300 * WEIR_MILLISECOND);
    uint64_t accepted = live_stats(&live).accepted;
    ck_assert_uint_le(accepted, 1 + ROOM);
    ck_assert_uint_ge(accepted, ROOM / 2);
    uint64_t served = accepted - 1;
    for (uint64_t i = 0; i < served; i++)
        live_read_frame(clients[i], 100, (uint32_t)i);
    uint64_t cpu_ns = live_cpu_ns(); /* it waits; it does not try again and again */
    live_sleep(500 * WEIR_MILLISECOND);
    ck_assert_uint_le(live_cpu_ns() - cpu_ns, LIVE_SLOWER * 150 * WEIR_MILLISECOND);
    ck_assert_uint_eq(live_stats(&live).accepted, accepted);
    for (uint64_t i = 0; i < served; i++) /* each one frees the server's and the client's own */
        live_close(clients[i]);
    for (uint64_t i = served; i < NEWCOMERS; i++) {
        live_read_frame(clients[i], 100, (uint32_t)i);
        live_close(clients[i]);
    }
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == NEWCOMERS);
    live_pulse_stop(&pulse, LIVE_SLOWER * 200 * WEIR_MILLISECOND);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.accepted, NEWCOMERS + 1);
    ck_assert_uint_eq(live.stats.turned_away, 0);
}
END_TEST

/* No slots is the same bad day: the rest waits in the backlog. */
START_TEST(no_slots_left)
{
    enum { SLOTS = 4, CLIENTS = 12 };
    struct live live;
    int clients[CLIENTS];
    live_init(&live, 1000);
    live.config.connections = SLOTS;
    live_start(&live);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = live_dial(&live);
        live_write_frame(clients[i], 50, i);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        live_read_frame(clients[i], 50, i);
        ck_assert_uint_le(live_stats(&live).connections, SLOTS);
        live_close(clients[i]);
    }
    LIVE_AWAIT(live.closes == CLIENTS);
    live_stop(&live);
    ck_assert_uint_gt(live.stats.accept_pauses, 0);
    ck_assert_uint_eq(live.stats.turned_away, 0);
}
END_TEST

/* --- port in use --- */

static void expect_in_use(uint32_t shards, const char *address)
{
    struct account account = {0};
    weir_config config = {.shards = shards, .connections = 64, .allocator = account_allocator(&account)};
    weir_protocol protocol = {.name = "in use"};
    weir_runtime *runtime;
    weir_error error;
    weir_listener listener;
    ck_assert_int_eq(weir_codec_frame(&protocol.codec, NULL), 0);
    ck_assert_int_eq(weir_open(&config, &runtime, &error), 0);
    ck_assert_int_eq(weir_listen(runtime, address, &protocol, NULL, NULL, &error), -EADDRINUSE);
    ck_assert_int_eq(error.code, -EADDRINUSE);
    if (strstr(error.sentence, strstr(address, "://") + 3) == NULL)
        ck_abort_msg("does not name %s: %s", address, error.sentence);
    /* and nothing is broken by it */
    ck_assert_int_eq(weir_listen(runtime, "tcp://127.0.0.1:0", &protocol, NULL, &listener, &error), 0);
    weir_close(&runtime);
    ck_assert_int_eq(account.pieces, 0);
}

START_TEST(port_in_use)
{
    int taken = live_socket(0), on = 1;
    struct sockaddr_storage name;
    socklen_t name_bytes = sizeof name;
    char address[64];
    setsockopt(taken, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ck_assert_int_eq(listen(taken, 8), 0); /* unbound: the kernel chooses a port on every address */
    ck_assert_int_eq(getsockname(taken, (struct sockaddr *)&name, &name_bytes), 0);
    uint8_t port[2];
    memcpy(port, (uint8_t *)&name + 2, 2);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port[0] << 8 | port[1]);
    expect_in_use(1, address);
    expect_in_use(2, address);
    live_close(taken);
}
END_TEST

/* SO_REUSEPORT would let two runtimes of one user share a port without a word, and the kernel deal out connections between them. */
START_TEST(port_in_use_by_another_runtime)
{
    for (uint32_t first = 1; first <= 2; first++) {
        struct live live;
        char address[64];
        live_init(&live, 1000);
        live.config.shards = first;
        live_start(&live);
        snprintf(address, sizeof address, "tcp://127.0.0.1:%d", live.port);
        expect_in_use(1, address);
        expect_in_use(2, address);
        for (uint32_t i = 0; i < 8; i++) { /* the first still has them all */
            int client = live_dial(&live);
            live_echo(client, 10, i);
            live_close(client);
        }
        live_stop(&live);
        ck_assert_uint_eq(live.stats.accepted, 8);
    }
}
END_TEST

/* The same port twice in one runtime; and the port is free as soon as the runtime is closed, connections in TIME_WAIT or not. */
START_TEST(port_in_use_by_itself_and_again)
{
    struct live live;
    char address[64];
    weir_error error;
    live_init(&live, 1000);
    live.config.shards = 2;
    live_start(&live);
    int port = live.port;
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port);
    ck_assert_int_eq(weir_listen(live.runtime, address, &live.protocol, NULL, NULL, &error), -EADDRINUSE);
    int client = live_dial(&live);
    live_echo(client, 10, 1);
    weir_stop(live.runtime);
    live_read_end(client, NULL);
    live_close(client);
    live_stop(&live);
    live_init(&live, 1000);
    live.address = address;
    live_start(&live);
    ck_assert_int_eq(live.port, port);
    live_stop(&live);
}
END_TEST

START_TEST(unix_address_in_use)
{
    struct live live;
    char path[64], name[64];
    snprintf(path, sizeof path, "unix:///tmp/weir-test-%d.socket", (int)getpid());
    snprintf(name, sizeof name, "unix://@weir-test-%d", (int)getpid());
    const char *const addresses[] = {path, name};
    for (int i = 0; i < 2; i++) {
        live_init(&live, 1000);
        live_start(&live);
        ck_assert_int_eq(weir_listen(live.runtime, addresses[i], &live.protocol, NULL, NULL, NULL), 0);
        expect_in_use(1, addresses[i]);
        expect_in_use(2, addresses[i]);
        live_stop(&live);
    }
    ck_assert_int_eq(access(path + 7, F_OK), -1);
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path + 7);
    ck_assert_int_eq(bind(stale, (struct sockaddr *)&to, sizeof to), 0);
    live_close(stale);
    live_init(&live, 1000);
    live_start(&live);
    ck_assert_int_eq(weir_listen(live.runtime, path, &live.protocol, NULL, NULL, NULL), 0); /* nobody behind it: replaced */
    live_stop(&live);
}
END_TEST

/* --- ids of the dead --- */

static weir_id dead;
static atomic_int stale_send, stale_end, stale_find, nobody_send, wild_send;

static int remember_open(weir_conn *conn)
{
    if (dead.value == 0)
        dead = weir_conn_id(conn);
    return live_opened(conn);
}

static int try_dead(weir_conn *conn, const weir_message *message)
{
    weir_shard *shard = weir_conn_shard(conn);
    if (message->data[0] != '?')
        return live_echo_message(conn, message);
    stale_send = weir_send_to(shard, dead, "x", 1);
    stale_end = weir_end_id(shard, dead);
    stale_find = weir_find(shard, dead) == NULL;
    nobody_send = weir_send_to(shard, (weir_id){0}, "x", 1);
    wild_send = weir_send_to(shard, (weir_id){UINT64_MAX}, "x", 1);
    return live_echo_message(conn, message);
}

START_TEST(stale_ids)
{
    struct live live;
    weir_conn_stats conn_stats;
    live_init(&live, 1000);
    live.config.connections = 2; /* so that its slot is used again */
    live.protocol.on_open = remember_open;
    live.protocol.on_message = try_dead;
    live_start(&live);
    int client = live_dial(&live);
    live_echo(client, 10, 1);
    ck_assert_int_eq(weir_conn_stats_get(live.runtime, dead, &conn_stats), 0);
    ck_assert_uint_eq(conn_stats.messages_in, 1);
    live_close(client);
    LIVE_AWAIT(live.closes == 1);
    for (uint64_t i = 1; i < 6; i++) {
        client = live_dial(&live);
        live_write(client, "\1\0\0\0?", 5);
        uint8_t back[5];
        live_read(client, back, sizeof back);
        ck_assert_int_eq(stale_send, -ESTALE);
        ck_assert_int_eq(stale_end, -ESTALE);
        ck_assert_int_eq(stale_find, 1);
        ck_assert_int_eq(nobody_send, -ESTALE);
        ck_assert_int_lt(wild_send, 0);
        ck_assert_int_eq(weir_conn_stats_get(live.runtime, dead, &conn_stats), -ESTALE);
        live_close(client);
        LIVE_AWAIT(live.closes == i + 1);
    }
    ck_assert_int_eq(weir_conn_stats_get(live.runtime, (weir_id){UINT64_MAX}, &conn_stats), -ESTALE);
    live_stop(&live);
}
END_TEST

/* --- calls from the wrong thread --- */

static weir_conn *_Atomic stolen;
static _Atomic pid_t shard_thread;

static int steal(weir_conn *conn)
{
    shard_thread = gettid();
    stolen = conn;
    return live_opened(conn);
}

enum { CALL_SEND, CALL_END, CALL_ABORT, CALL_PAUSE, CALL_PEER, CALL_RESERVE, CALL_TIMER, CALL_COUNT };
static int wrong_call;

static void call_from_the_wrong_thread(void)
{
    static struct live live;
    static weir_timer timer;
    char peer[64];
    weir_room room;
    live_init(&live, 1000);
    live.protocol.on_open = steal;
    live_start(&live);
    int client = live_dial(&live);
    LIVE_AWAIT(stolen != NULL);
    live_echo(client, 10, 1);
    fprintf(stderr, "%d %d\n", (int)shard_thread, (int)gettid());
    switch (wrong_call) {
    case CALL_SEND:
        weir_send(stolen, "x", 1);
        break;
    case CALL_END:
        weir_end(stolen);
        break;
    case CALL_ABORT:
        weir_abort(stolen);
        break;
    case CALL_PAUSE:
        weir_pause(stolen);
        break;
    case CALL_PEER:
        weir_conn_peer(stolen, peer, sizeof peer);
        break;
    case CALL_RESERVE:
        weir_reserve(stolen, 10, &room);
        break;
    case CALL_TIMER:
        weir_timer_set(weir_shard_at(live.runtime, 0), &timer, WEIR_SECOND, NULL, NULL);
        break;
    }
}

START_TEST(wrong_thread)
{
    for (wrong_call = 0; wrong_call < CALL_COUNT; wrong_call++) {
        struct death death = death_of(call_from_the_wrong_thread);
        char owner[16], caller[16], *line = strchr(death.said, '\n');
        if (!death_is_abort(&death, "") || line == NULL)
            ck_abort_msg("call %d did not abort (status %x): %s", wrong_call, (unsigned)death.status, death.said);
        ck_assert_int_eq(sscanf(death.said, "%15s %15s", owner, caller), 2);
        if (strstr(line, owner) == NULL || strstr(line, caller) == NULL)
            ck_abort_msg("call %d: both %s and %s should be named: %s", wrong_call, owner, caller, line + 1);
    }
}
END_TEST

/* What is answered by a code: turning from another thread, and running what runs. */
static _Atomic int turn_inside;

static int turn_in_callback(weir_conn *conn, const weir_message *message)
{
    uint64_t sleep_ns;
    turn_inside = weir_turn(weir_conn_shard(conn), &sleep_ns);
    return live_echo_message(conn, message);
}

START_TEST(turned_and_run_by_others)
{
    struct live live;
    uint64_t sleep_ns;
    live_init(&live, 1000);
    live.protocol.on_message = turn_in_callback;
    live_start(&live);
    int client = live_dial(&live);
    live_echo(client, 10, 1);
    ck_assert_int_eq(turn_inside, -EDEADLK);
    ck_assert_int_eq(weir_turn(weir_shard_at(live.runtime, 0), &sleep_ns), -EPERM);
    ck_assert_int_eq(weir_run(live.runtime), -EBUSY);
    live_echo(client, 10, 2);
    live_close(client);
    live_stop(&live);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        no_descriptors_left, no_slots_left, port_in_use,  port_in_use_by_another_runtime, port_in_use_by_itself_and_again,
        unix_address_in_use, stale_ids,     wrong_thread, turned_and_run_by_others};
    return live_main("bad_days", tests, sizeof tests / sizeof *tests);
}
