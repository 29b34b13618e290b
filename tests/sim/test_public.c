/* SPDX-License-Identifier: MIT */
/* test_public: the simulator as a user has it, through <weir/sim.h> and <weir/weir.h> alone: his own handlers under faults, the same again by the same seed, and
 * handlers with a mistake in them, which have to be found. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/sim.h>
#include <weir/weir.h>

#if defined(__SANITIZE_THREAD__)
#define SEEDS 40
#else
#define SEEDS 300
#endif
#define ADDRESS      "tcp://127.0.0.1:7000"
#define CLIENTS      4
#define STREAM_BYTES 6000
#define SHARDS       2
#define TICKS        100

/* --- a service under test: an echo, right or wrong --- */

struct service {
    weir_sim_world *world;
    weir_runtime *runtime;
    weir_protocol protocol;
    uint64_t messages;
    uint64_t opened, closed, undelivered_bytes;
    weir_timer timers[SHARDS];
    uint32_t ticks[SHARDS];
};

static struct service *service_of(const weir_conn *conn)
{
    return weir_conn_protocol(conn)->user;
}

static int on_open(weir_conn *conn)
{
    service_of(conn)->opened++;
    return 0;
}

static int echo(weir_conn *conn, const weir_message *message)
{
    service_of(conn)->messages++;
    int code = weir_send(conn, message->data, message->bytes);
    return code == -EAGAIN ? WEIR_LATER : code;
}

/* Every third message has to be asked for again, and nobody does. */
static int echo_forgetful(weir_conn *conn, const weir_message *message)
{
    return service_of(conn)->messages++ % 3 == 2 ? WEIR_LATER : weir_send(conn, message->data, message->bytes);
}

/* Takes a refused send for sent. */
static int echo_careless(weir_conn *conn, const weir_message *message)
{
    int code = weir_send(conn, message->data, message->bytes);
    return code == -EAGAIN ? WEIR_TAKEN : code;
}

/* Off by one: the last byte of each twentieth message. */
static int echo_wrong(weir_conn *conn, const weir_message *message)
{
    uint32_t less = service_of(conn)->messages++ % 20 == 19 && message->bytes > 0;
    return weir_send(conn, message->data, message->bytes - less);
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    struct service *service = service_of(conn);
    char text[100];
    service->closed++;
    service->undelivered_bytes += event->undelivered_bytes;
    snprintf(text, sizeof text, "closed: %s, %d", weir_reason_name(event->reason), event->error);
    weir_sim_note(service->world, text);
}

/* A timer of each shard's, so that there is one to meet data. */
static void tick(weir_shard *shard, weir_timer *timer, void *user)
{
    struct service *service = user;
    uint32_t index = weir_shard_index(shard);
    if (service->ticks[index]++ < TICKS)
        weir_timer_set(shard, timer, 2 * WEIR_MILLISECOND, tick, user);
}

static void on_start(weir_shard *shard)
{
    struct service *service = weir_runtime_user(weir_shard_runtime(shard));
    tick(shard, &service->timers[weir_shard_index(shard)], service);
}

static void service_open(struct service *service, uint64_t seed, const weir_sim_faults *faults,
                         int (*on_message)(weir_conn *conn, const weir_message *message))
{
    weir_config config = {
        .shards = SHARDS, .connections = 64, .receive_buffers = 8, .long_turn_ns = WEIR_FOREVER, .on_start = on_start, .user = service};
    weir_error error;
    *service = (struct service){.world = weir_sim_world_create(seed, faults)};
    service->protocol = (weir_protocol){.on_open = on_open, .on_message = on_message, .on_close = on_close, .user = service};
    service->protocol.limits.high_water_bytes = 1024;
    ck_assert_int_eq(weir_codec_frame(&service->protocol.codec, NULL), 0);
    ck_assert_int_eq(weir_sim_open(service->world, &config, &service->runtime, &error), 0);
    int code = weir_listen(service->runtime, ADDRESS, &service->protocol, NULL, NULL, &error);
    ck_assert_msg(code == 0, "%s", error.sentence);
}

static void service_close(struct service *service)
{
    weir_close(&service->runtime);
    weir_sim_world_destroy(&service->world);
    ck_assert_ptr_null(service->world);
    ck_assert_uint_eq(service->opened, service->closed);
}

/* --- its clients --- */

struct client {
    weir_sim_peer *peer;
    uint8_t out[STREAM_BYTES], in[STREAM_BYTES];
    uint32_t out_bytes, written, read;
    bool done;
    bool lost; /* its connection has died: a fault, or the service's doing */
    bool wrong;
};

static void client_fill(weir_sim_world *world, struct client *client)
{
    for (;;) {
        uint32_t bytes = (uint32_t)weir_sim_below(world, 200);
        if (client->out_bytes + 4 + bytes > STREAM_BYTES)
            return;
        memcpy(client->out + client->out_bytes, &bytes, 4);
        for (uint32_t i = 0; i < bytes; i++)
            client->out[client->out_bytes + 4 + i] = (uint8_t)weir_sim_random(world);
        client->out_bytes += 4 + bytes;
    }
}

static void client_act(weir_sim_world *world, void *user)
{
    struct client *client = user;
    if (client->peer == NULL)
        client->peer = weir_sim_connect(world, ADDRESS);
    uint64_t piece = 1 + weir_sim_below(world, 500), rest = client->out_bytes - client->written;
    int64_t count = weir_sim_peer_write(client->peer, client->out + client->written, piece < rest ? piece : rest);
    if (count > 0)
        client->written += (uint32_t)count;
    count = weir_sim_peer_state(client->peer) == WEIR_SIM_PEER_CONNECTING
                ? -EAGAIN
                : weir_sim_peer_read(client->peer, client->in + client->read, 1 + weir_sim_below(world, STREAM_BYTES - client->read));
    if (count > 0) {
        client->wrong |= memcmp(client->in + client->read, client->out + client->read, (size_t)count) != 0;
        client->read += (uint32_t)count;
    }
    client->lost = count == 0 || (count < 0 && count != -EAGAIN);
    client->done = client->lost || client->wrong || client->read == client->out_bytes;
    if (client->done)
        weir_sim_peer_close(&client->peer);
    else
        weir_sim_schedule(world, 1 + weir_sim_below(world, WEIR_MILLISECOND), client_act, client);
}

/* --- a whole run --- */

struct verdict {
    const char *fault; /* what was found; NULL: nothing */
    uint64_t hash, lost;
};

static uint64_t fired[WEIR_SIM_FAULT_COUNT];

static struct verdict run(uint64_t seed, bool calm, int (*on_message)(weir_conn *conn, const weir_message *message))
{
    struct verdict verdict = {0};
    struct service service;
    struct client clients[CLIENTS] = {0};
    weir_sim_faults faults;
    weir_sim_faults_mix(seed, &faults);
    service_open(&service, seed, calm ? NULL : &faults, on_message);
    for (int i = 0; i < CLIENTS; i++) {
        client_fill(service.world, &clients[i]);
        weir_sim_schedule(service.world, weir_sim_below(service.world, 20 * WEIR_MILLISECOND), client_act, &clients[i]);
    }
    weir_sim_run(service.world, service.runtime, weir_sim_below(service.world, 200 * WEIR_MILLISECOND));
    weir_sim_set_faults(service.world, NULL);
    weir_sim_run(service.world, service.runtime, 60 * WEIR_SECOND);
    for (int i = 0; i < CLIENTS; i++) {
        if (clients[i].wrong)
            verdict.fault = "a client got something else than it wrote";
        else if (!clients[i].done)
            verdict.fault = "a client waits for ever";
        verdict.lost += clients[i].lost;
    }
    weir_stop(service.runtime);
    weir_sim_outcome outcome = weir_sim_run(service.world, service.runtime, 20 * WEIR_SECOND);
    if (outcome != WEIR_SIM_OVER && verdict.fault == NULL)
        verdict.fault = "it does not stop";
    verdict.hash = weir_sim_hash(service.world);
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++)
        fired[i] += weir_sim_fired(service.world, (weir_sim_fault)i);
    for (int i = 0; i < CLIENTS; i++)
        weir_sim_peer_reset(&clients[i].peer);
    service_close(&service);
    return verdict;
}

START_TEST(a_right_echo_is_right)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct verdict verdict = run(seed, false, echo);
        ck_assert_msg(verdict.fault == NULL, "seed %" PRIu64 ": %s", seed, verdict.fault);
        verdict = run(seed, true, echo);
        ck_assert_msg(verdict.fault == NULL && verdict.lost == 0, "seed %" PRIu64 ", a good day: %s, %" PRIu64 " lost", seed,
                      verdict.fault == NULL ? "" : verdict.fault, verdict.lost);
    }
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++)
        printf("%-20s %8" PRIu64 "\n", weir_sim_fault_name((weir_sim_fault)i), fired[i]);
    static const weir_sim_fault met[] = {WEIR_SIM_STALL, WEIR_SIM_CLOCK_JUMP, WEIR_SIM_TIMER_TIE, WEIR_SIM_SHORT_SEND,
                                         WEIR_SIM_RESET, WEIR_SIM_BUSY,       WEIR_SIM_AGAIN,     WEIR_SIM_LATE_WAKE};
    for (size_t i = 0; SEEDS >= 300 && i < sizeof met / sizeof met[0]; i++)
        ck_assert_msg(fired[met[i]] > 0, "%s never happened", weir_sim_fault_name(met[i]));
}
END_TEST

START_TEST(a_seed_is_a_run)
{
    uint64_t other = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        uint64_t hash = run(seed, false, echo).hash;
        ck_assert_uint_eq(hash, run(seed, false, echo).hash);
        ck_assert_uint_ne(hash, other);
        other = hash;
    }
}
END_TEST

/* A mistake shows within a few seeds, most of them on a good day. */
START_TEST(a_wrong_echo_is_found)
{
    static int (*const wrong[])(weir_conn * conn, const weir_message *message) = {echo_forgetful, echo_careless, echo_wrong};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint64_t seed = 1;
        while (seed <= 50 && run(seed, false, wrong[i]).fault == NULL)
            seed++;
        ck_assert_msg(seed <= 50, "mistake %zu was not found", i);
    }
}
END_TEST

/* --- threads of the user's, played between runs and in actions --- */

struct greeting {
    weir_runtime *runtime;
    weir_port *port;
    weir_id id;
    int code;
};

static struct greeting *greeting;

static int greet_open(weir_conn *conn)
{
    greeting->id = weir_conn_id(conn);
    return 0;
}

static void greet_from_action(weir_sim_world *world, void *user)
{
    (void)world;
    struct greeting *mine = user;
    mine->code = weir_port_send(mine->port, mine->id, "action", 6);
    ck_assert_int_eq(weir_port_wait(mine->port, WEIR_FOREVER), -ETIMEDOUT); /* it would block */
}

static void post_back(weir_shard *shard, void *user)
{
    *(uint64_t *)user = weir_now(shard);
}

/* Sends until there is no room, and sleeps as a thread with an event loop does, until READY comes: the peer reads meanwhile. */
static void fill_and_sleep(struct service *service, struct greeting *mine, weir_sim_peer *peer)
{
    static char bytes[2000];
    weir_port_event event;
    int code = 0, descriptor = weir_port_descriptor(mine->port);
    ck_assert_int_ge(descriptor, 0);
    ck_assert(!weir_sim_is_readable(service->world, descriptor));
    while ((code = weir_port_send(mine->port, mine->id, bytes, sizeof bytes)) == 0)
        weir_sim_run(service->world, service->runtime, WEIR_MILLISECOND);
    ck_assert_int_eq(code, -EAGAIN);
    weir_sim_run(service->world, service->runtime, WEIR_SECOND);
    ck_assert(!weir_port_next(mine->port, &event) && !weir_sim_is_readable(service->world, descriptor));
    while (!weir_sim_is_readable(service->world, descriptor)) {
        while (weir_sim_peer_read(peer, bytes, sizeof bytes) > 0)
            ;
        ck_assert_int_ne(weir_sim_run(service->world, service->runtime, WEIR_MILLISECOND), WEIR_SIM_OVER);
        ck_assert_uint_lt(weir_sim_now_ns(service->world), 20 * WEIR_SECOND);
    }
    ck_assert(weir_port_next(mine->port, &event));
    ck_assert_int_eq(event.kind, WEIR_PORT_READY);
    ck_assert(!weir_port_next(mine->port, &event));
}

START_TEST(threads_are_played)
{
    struct greeting mine = {0};
    struct service service;
    weir_error error;
    char text[100] = "";
    uint64_t posted_ns = 0, begun_ns;
    greeting = &mine;
    service_open(&service, (uint64_t)_i, NULL, echo);
    service.protocol.on_open = greet_open;
    service.protocol.on_close = NULL;
    ck_assert_int_eq(weir_port_open(service.runtime, NULL, &mine.port, &error), 0);
    weir_sim_peer *peer = weir_sim_connect(service.world, "tcp://localhost:7000");
    ck_assert_int_eq(weir_sim_run(service.world, service.runtime, WEIR_SECOND), WEIR_SIM_QUIET);
    ck_assert_uint_ne(mine.id.value, 0);

    begun_ns = weir_sim_now_ns(service.world);
    ck_assert_int_eq(weir_port_send_wait(mine.port, mine.id, "hello", 5, WEIR_SECOND), 0);
    ck_assert_int_eq(weir_port_flush(mine.port, WEIR_SECOND), 0); /* drives the world until it was taken */
    ck_assert_uint_lt(weir_sim_now_ns(service.world), begun_ns + WEIR_SECOND / 2);
    weir_sim_schedule(service.world, WEIR_MILLISECOND, greet_from_action, &mine);
    ck_assert_int_eq(weir_sim_run(service.world, service.runtime, WEIR_FOREVER), WEIR_SIM_QUIET);
    ck_assert_int_eq(mine.code, 0);
    ck_assert_int_eq(weir_sim_peer_read(peer, text, sizeof text), 4 + 5 + 4 + 6);
    ck_assert_mem_eq(text, "\5\0\0\0hello\6\0\0\0action", 19);

    begun_ns = weir_sim_now_ns(service.world);
    ck_assert_int_eq(weir_port_wait(mine.port, WEIR_SECOND), -ETIMEDOUT); /* nothing comes: virtual time has passed */
    ck_assert_uint_ge(weir_sim_now_ns(service.world), begun_ns + WEIR_SECOND);

    ck_assert_int_eq(weir_post(mine.port, weir_shard_at(service.runtime, 1), post_back, &posted_ns), 0);
    fill_and_sleep(&service, &mine, peer);
    weir_sim_peer_close(&peer);
    ck_assert_int_eq(weir_sim_run(service.world, service.runtime, WEIR_SECOND), WEIR_SIM_QUIET);
    ck_assert_uint_ge(posted_ns, begun_ns + WEIR_SECOND);
    weir_port_close(&mine.port);
    service.opened = service.closed = 0;
    service_close(&service);
}
END_TEST

/* --- what weir dials --- */

struct caller {
    weir_protocol protocol;
    uint32_t opened, failed;
    weir_reason reason;
};

static int caller_open(weir_conn *conn)
{
    struct caller *caller = weir_conn_protocol(conn)->user;
    caller->opened++;
    return weir_send(conn, "hi", 2);
}

static void caller_close(weir_conn *conn, const weir_close_event *event)
{
    struct caller *caller = weir_conn_protocol(conn)->user;
    caller->reason = event->reason;
    caller->failed++;
}

static const char *dialed;

static void dial(weir_shard *shard)
{
    struct caller *caller = weir_runtime_user(weir_shard_runtime(shard));
    weir_error error;
    int code = weir_dial(shard, dialed, &caller->protocol, NULL, NULL, &error);
    ck_assert_msg(code == 0, "%s", error.sentence);
}

/* Dials `address` once: what its close event said, after the server (NULL: none) has read "hi" and closed. */
static weir_reason call(weir_sim_world *world, const char *address, weir_sim_peer *server)
{
    struct caller caller = {.protocol = {.on_open = caller_open, .on_close = caller_close}};
    weir_config config = {.shards = 1, .connections = 16, .receive_buffers = 8, .on_start = dial, .user = &caller};
    weir_runtime *runtime;
    weir_error error;
    char text[100];
    caller.protocol.user = &caller;
    dialed = address;
    ck_assert_int_eq(weir_codec_line(&caller.protocol.codec, 0, false), 0);
    ck_assert_int_eq(weir_sim_open(world, &config, &runtime, &error), 0);
    ck_assert_int_eq(weir_sim_open(world, &config, &(weir_runtime *){NULL}, &error), -EBUSY);
    weir_sim_run(world, runtime, WEIR_SECOND);
    weir_sim_peer *peer = server != NULL ? weir_sim_server_accept(server) : NULL;
    if (peer != NULL) {
        ck_assert_uint_eq(caller.opened, 1);
        ck_assert_int_eq(weir_sim_peer_read(peer, text, sizeof text), 3);
        ck_assert_mem_eq(text, "hi\n", 3);
        weir_sim_peer_shutdown(peer);
    }
    weir_sim_run(world, runtime, 20 * WEIR_SECOND);
    ck_assert_uint_eq(caller.failed, 1);
    weir_sim_peer_close(&peer);
    weir_stop(runtime);
    ck_assert_int_eq(weir_sim_run(world, runtime, 20 * WEIR_SECOND), WEIR_SIM_OVER);
    weir_close(&runtime);
    return caller.reason;
}

START_TEST(servers_and_names)
{
    weir_sim_world *world = weir_sim_world_create((uint64_t)_i, NULL);
    weir_sim_peer *server = weir_sim_serve(world, "tcp://192.0.2.1:80", WEIR_SIM_SERVER_ACCEPTS);
    weir_sim_peer *unix_server = weir_sim_serve(world, "unix://@there", WEIR_SIM_SERVER_ACCEPTS);
    weir_sim_peer *silent = weir_sim_serve(world, "tcp://[2001:db8::1]:80", WEIR_SIM_SERVER_SILENT);
    weir_sim_peer *any = weir_sim_serve(world, "tcp://127.0.0.1:0", WEIR_SIM_SERVER_REFUSES);
    char text[WEIR_ADDRESS_MAX_BYTES];
    ck_assert_ptr_null(weir_sim_serve(world, "tcp://192.0.2.1:80", WEIR_SIM_SERVER_ACCEPTS));
    ck_assert_int_eq(weir_sim_peer_name(server, text, sizeof text), 0);
    ck_assert_str_eq(text, "tcp://192.0.2.1:80");
    weir_sim_set_name(world, "good.test", WEIR_MILLISECOND, "192.0.2.77 192.0.2.1", 0); /* nobody listens at the first */
    weir_sim_set_name(world, "ill.test", WEIR_MILLISECOND, NULL, -EAGAIN);
    ck_assert_int_eq(call(world, "tcp://192.0.2.1:80", server), WEIR_REASON_PEER);
    ck_assert_int_eq(call(world, "tcp://good.test:80", server), WEIR_REASON_PEER);
    ck_assert_int_eq(call(world, "unix://@there", unix_server), WEIR_REASON_PEER);
    ck_assert_int_eq(call(world, "tcp://ill.test:80", NULL), WEIR_REASON_NAME);
    ck_assert_int_eq(call(world, "tcp://unknown.test:80", NULL), WEIR_REASON_NAME);
    ck_assert_int_eq(call(world, "tcp://192.0.2.2:80", NULL), WEIR_REASON_DIAL_FAILED);
    ck_assert_int_eq(call(world, "tcp://[2001:db8::1]:80", NULL), WEIR_REASON_DIAL_LATE);
    ck_assert_int_eq(weir_sim_peer_name(any, text, sizeof text), 0);
    ck_assert_int_eq(call(world, text, NULL), WEIR_REASON_DIAL_FAILED);
    weir_sim_peer_close(&server);
    weir_sim_peer_close(&unix_server);
    weir_sim_peer_close(&silent);
    weir_sim_peer_close(&any);
    weir_sim_world_destroy(&world);
}
END_TEST

/* --- traces, counters, mistakes --- */

struct lines {
    char text[200000];
    size_t bytes;
};

static void keep_line(void *user, const char *text)
{
    struct lines *lines = user;
    size_t bytes = strlen(text);
    if (lines->bytes + bytes + 2 < sizeof lines->text) {
        memcpy(lines->text + lines->bytes, text, bytes);
        lines->text[lines->bytes + bytes] = '\n';
        lines->bytes += bytes + 1;
    }
}

START_TEST(traces_are_equal)
{
    static struct lines lines[2];
    for (int i = 0; i < 2; i++) {
        struct service service;
        struct client client = {0};
        weir_sim_faults faults;
        weir_sim_faults_mix(7, &faults);
        service_open(&service, 7, &faults, echo);
        weir_sim_set_trace(service.world, keep_line, &lines[i]);
        client_fill(service.world, &client);
        weir_sim_schedule(service.world, 0, client_act, &client);
        weir_sim_run(service.world, service.runtime, 50 * WEIR_MILLISECOND);
        weir_sim_note(service.world, "enough");
        weir_sim_count(service.world, WEIR_SIM_RING_FULL);
        ck_assert_uint_eq(weir_sim_fired(service.world, WEIR_SIM_RING_FULL), 1);
        weir_sim_set_trace(service.world, NULL, NULL);
        weir_sim_peer_reset(&client.peer);
        service_close(&service);
    }
    ck_assert_uint_gt(lines[0].bytes, 1000);
    ck_assert_ptr_nonnull(strstr(lines[0].text, "* enough\n"));
    ck_assert_uint_eq(lines[0].bytes, lines[1].bytes);
    ck_assert_mem_eq(lines[0].text, lines[1].text, lines[0].bytes);
}
END_TEST

START_TEST(faults_have_names)
{
    for (int i = 0; i < WEIR_SIM_FAULT_COUNT; i++) {
        const char *name = weir_sim_fault_name((weir_sim_fault)i);
        ck_assert_ptr_nonnull(name);
        for (int k = 0; k < i; k++)
            ck_assert_str_ne(name, weir_sim_fault_name((weir_sim_fault)k));
    }
    ck_assert_str_eq(weir_sim_fault_name(WEIR_SIM_FAULT_COUNT), "unknown");
    ck_assert(weir_sim_fault_is_kernels(WEIR_SIM_NAME_ERROR) && !weir_sim_fault_is_kernels(WEIR_SIM_STALL));
}
END_TEST

static int run_inside(weir_conn *conn)
{
    struct service *service = service_of(conn);
    weir_sim_run(service->world, service->runtime, 1);
    return 0;
}

START_TEST(no_run_inside_a_run)
{
    struct service service;
    service_open(&service, 1, NULL, echo);
    service.protocol.on_open = run_inside;
    weir_sim_connect(service.world, ADDRESS);
    weir_sim_run(service.world, service.runtime, WEIR_SECOND);
}
END_TEST

START_TEST(no_bad_address)
{
    weir_sim_connect(weir_sim_world_create(1, NULL), "tcp://127.0.0.1");
}
END_TEST

START_TEST(no_wait_for_ever)
{
    struct service service;
    weir_port *port;
    weir_error error;
    service_open(&service, 1, NULL, echo);
    ck_assert_int_eq(weir_port_open(service.runtime, NULL, &port, &error), 0);
    weir_port_wait(port, WEIR_FOREVER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("public");
    TCase *tcase = tcase_create("public");
    tcase_set_timeout(tcase, 100);
    tcase_add_test(tcase, a_right_echo_is_right);
    tcase_add_test(tcase, a_seed_is_a_run);
    tcase_add_test(tcase, a_wrong_echo_is_found);
    tcase_add_loop_test(tcase, threads_are_played, 1, 11);
    tcase_add_loop_test(tcase, servers_and_names, 1, 11);
    tcase_add_test(tcase, traces_are_equal);
    tcase_add_test(tcase, faults_have_names);
    tcase_add_test_raise_signal(tcase, no_run_inside_a_run, SIGABRT);
    tcase_add_test_raise_signal(tcase, no_bad_address, SIGABRT);
    tcase_add_test_raise_signal(tcase, no_wait_for_ever, SIGABRT);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
