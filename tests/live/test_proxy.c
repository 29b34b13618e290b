/* SPDX-License-Identifier: MIT */
/* test_proxy: weir-proxy as its users have it, a process with sockets on both sides. What goes in comes out whole and in order, ends and
 * pressure pass through, and a target that cannot be reached is named. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

/* A proxy between a listening socket of the test's and whoever dials. */
struct stage {
    struct tool proxy;
    int listener; /* -1: nobody listens there */
    char target[WEIR_ADDRESS_MAX_BYTES];
    char directory[64]; /* with both socket files; "": none were wanted */
};

static void stage_open(struct stage *stage, bool listen_unix, bool target_unix, int backlog)
{
    char path[128], listen[160] = "tcp://127.0.0.1:0";
    memset(stage, 0, sizeof *stage);
    if (listen_unix || target_unix) {
        strcpy(stage->directory, "/tmp/weir-proxy-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(stage->directory));
    }
    snprintf(path, sizeof path, "%s/target", stage->directory);
    stage->listener = tool_listen(backlog, target_unix ? path : NULL, stage->target);
    if (listen_unix)
        snprintf(listen, sizeof listen, "unix://%s/proxy", stage->directory);
    tool_start(&stage->proxy, "weir-proxy", (const char *const[]){"--shards", "2", "--dial-timeout", "1", listen, stage->target, NULL});
}

static void stage_stop_listening(struct stage *stage)
{
    live_close(stage->listener);
    stage->listener = -1;
}

/* `logged`: what each line of the log has to contain; NULL: there must be none. */
static void stage_close(struct stage *stage, const char *logged)
{
    char path[128];
    if (stage->proxy.child != 0)
        tool_stop(&stage->proxy, SIGTERM, LIVE_PATIENCE_NS, logged);
    if (stage->listener >= 0)
        live_close(stage->listener);
    if (stage->directory[0] == '\0')
        return;
    snprintf(path, sizeof path, "%s/target", stage->directory);
    unlink(path);
    ck_assert_int_eq(rmdir(stage->directory), 0); /* the proxy has removed its own */
}

struct pair {
    int client, target;
};

static struct pair stage_join(struct stage *stage)
{
    struct pair pair;
    pair.client = tool_dial(stage->proxy.address);
    pair.target = tool_accept(stage->listener);
    return pair;
}

static void pair_close(struct pair *pair)
{
    live_close(pair->client);
    live_close(pair->target);
}

/* --- flows: known bytes one way, on a thread each --- */

enum { PIECE_BYTES = 100 * KIB };

struct flow {
    pthread_t thread;
    int descriptor;
    uint64_t bytes; /* to write; to expect */
    uint32_t seed;
    atomic_ullong moved_bytes;
    atomic_int ended;         /* 0, or the errno that ended it before its time */
    const struct flow *other; /* a writer's: stop when this one is over; NULL: go on */
    atomic_bool over;
};

static uint8_t flow_byte(const struct flow *flow, uint64_t position)
{
    return (uint8_t)(flow->seed + position * 7 + (position >> 8) * 3 + (position >> 16) * 5);
}

/* Writes it all, and closes that way. */
static void *flow_write(void *user)
{
    struct flow *flow = user;
    uint8_t *piece = malloc(PIECE_BYTES);
    while (flow->moved_bytes < flow->bytes && (flow->other == NULL || !flow->other->over)) {
        uint64_t left = flow->bytes - flow->moved_bytes;
        size_t bytes = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        for (size_t i = 0; i < bytes; i++)
            piece[i] = flow_byte(flow, flow->moved_bytes + i);
        ssize_t written = live_send(flow->descriptor, piece, bytes, 0);
        if (written <= 0) {
            flow->ended = errno;
            break;
        }
        flow->moved_bytes += (uint64_t)written;
    }
    free(piece);
    if (flow->ended == 0)
        ck_assert_int_eq(shutdown(flow->descriptor, SHUT_WR), 0);
    return NULL;
}

/* Reads to the end; each byte has to be the one that was written there. */
static void *flow_read(void *user)
{
    struct flow *flow = user;
    uint8_t *piece = malloc(PIECE_BYTES);
    ssize_t got;
    while ((got = live_receive(flow->descriptor, piece, PIECE_BYTES, 0)) > 0) {
        for (ssize_t i = 0; i < got; i++)
            if (piece[i] != flow_byte(flow, flow->moved_bytes + (uint64_t)i))
                ck_abort_msg("byte %llu is another", flow->moved_bytes + (unsigned long long)i);
        flow->moved_bytes += (uint64_t)got;
    }
    flow->ended = got == 0 ? 0 : errno;
    flow->over = true;
    free(piece);
    return NULL;
}

static void flow_start_beside(struct flow *flow, void *(*run)(void *user), int descriptor, uint64_t bytes, uint32_t seed,
                              const struct flow *other)
{
    *flow = (struct flow){.descriptor = descriptor, .bytes = bytes, .seed = seed, .other = other};
    ck_assert_int_eq(pthread_create(&flow->thread, NULL, run, flow), 0);
}

static void flow_start(struct flow *flow, void *(*run)(void *user), int descriptor, uint64_t bytes, uint32_t seed)
{
    flow_start_beside(flow, run, descriptor, bytes, seed, NULL);
}

/* It has moved everything. */
static void flow_finish(struct flow *flow)
{
    ck_assert_int_eq(pthread_join(flow->thread, NULL), 0);
    ck_assert_int_eq(flow->ended, 0);
    ck_assert_uint_eq(flow->moved_bytes, flow->bytes);
}

/* Both ways at once, each to its end. */
static void flow_both_ways(struct pair *pair, uint64_t bytes)
{
    struct flow flows[4];
    flow_start(&flows[0], flow_write, pair->client, bytes, 1);
    flow_start(&flows[1], flow_read, pair->target, bytes, 1);
    flow_start(&flows[2], flow_write, pair->target, bytes + 1, 2);
    flow_start(&flows[3], flow_read, pair->client, bytes + 1, 2);
    for (int i = 0; i < 4; i++)
        flow_finish(&flows[i]);
}

/* --- bytes --- */

/* tcp and unix, any to any: the bits of `kind` say which is unix. */
START_TEST(bytes_both_ways)
{
    for (int kind = 0; kind < 4; kind++) {
        struct stage stage;
        stage_open(&stage, kind & 1, kind & 2, 16);
        for (int round = 0; round < 3; round++) {
            struct pair pair = stage_join(&stage);
            flow_both_ways(&pair, round == 0 ? 1 : 16 * MIB / LIVE_SLOWER);
            pair_close(&pair);
        }
        stage_close(&stage, NULL);
    }
}
END_TEST

/* The client has said everything, and that it is everything, before anybody has picked up. */
START_TEST(said_before_the_pipe_stands)
{
    struct stage stage;
    struct flow writer, reader;
    struct pair pair;
    stage_open(&stage, false, false, 16);
    pair.client = tool_dial(stage.proxy.address);
    flow_start(&writer, flow_write, pair.client, 100 * KIB, 3);
    flow_finish(&writer);
    live_sleep(WEIR_SECOND / 10);
    pair.target = tool_accept(stage.listener);
    flow_start(&reader, flow_read, pair.target, 100 * KIB, 3);
    flow_finish(&reader);
    live_write(pair.target, "yes", 3);
    char answer[3];
    live_read(pair.client, answer, 3);
    ck_assert_mem_eq(answer, "yes", 3);
    pair_close(&pair);
    stage_close(&stage, NULL);
}
END_TEST

/* Small pieces to and fro: nothing waits for more. */
START_TEST(question_and_answer)
{
    struct stage stage;
    stage_open(&stage, false, true, 16);
    struct pair pair = stage_join(&stage);
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t number = i;
        live_write(pair.client, &number, sizeof number);
        live_read(pair.target, &number, sizeof number);
        number += 1000000;
        live_write(pair.target, &number, sizeof number);
        live_read(pair.client, &number, sizeof number);
        ck_assert_uint_eq(number, i + 1000000);
    }
    pair_close(&pair);
    stage_close(&stage, NULL);
}
END_TEST

enum { MANY = 200 };

START_TEST(many_at_once)
{
    static struct pair pairs[MANY];
    struct stage stage;
    stage_open(&stage, false, false, MANY);
    for (int i = 0; i < MANY; i++)
        pairs[i].client = tool_dial(stage.proxy.address);
    /* Who is joined to whom is found out by what they say. */
    for (int i = 0; i < MANY; i++)
        live_write(pairs[i].client, &i, sizeof i);
    for (int i = 0; i < MANY; i++) {
        int descriptor = tool_accept(stage.listener), number = -1;
        live_read(descriptor, &number, sizeof number);
        ck_assert_int_ge(number, 0);
        ck_assert_int_lt(number, MANY);
        ck_assert_int_eq(pairs[number].target, 0);
        pairs[number].target = descriptor;
    }
    for (int i = 0; i < MANY; i++)
        live_write(pairs[i].target, &i, sizeof i);
    for (int i = 0, number; i < MANY; i++) {
        live_read(pairs[i].client, &number, sizeof number);
        ck_assert_int_eq(number, i);
    }
    flow_both_ways(&pairs[MANY / 2], MIB);
    for (int i = 0; i < MANY; i++)
        pair_close(&pairs[i]);
    stage_close(&stage, NULL);
}
END_TEST

/* --- ends --- */

/* One says that it has no more to say (the client, the target), and the other goes on, for longer than a connection that ends has time. */
START_TEST(half_closes)
{
    struct stage stage;
    struct flow flows[8];
    struct pair pairs[2];
    char mark = 0;
    stage_open(&stage, false, true, 16);
    for (int i = 0; i < 2; i++) {
        pairs[i] = stage_join(&stage);
        int first = i == 0 ? pairs[i].client : pairs[i].target, second = i == 0 ? pairs[i].target : pairs[i].client;
        flow_start(&flows[4 * i], flow_write, first, MIB, 4);
        flow_start(&flows[4 * i + 1], flow_read, second, MIB, 4);
        flow_finish(&flows[4 * i]);
        flow_finish(&flows[4 * i + 1]);
        live_write(second, "?", 1);
        live_read(first, &mark, 1);
    }
    live_sleep(6 * WEIR_SECOND);
    for (int i = 0; i < 2; i++) {
        int first = i == 0 ? pairs[i].client : pairs[i].target, second = i == 0 ? pairs[i].target : pairs[i].client;
        flow_start(&flows[4 * i + 2], flow_write, second, 2 * MIB, 5);
        flow_start(&flows[4 * i + 3], flow_read, first, 2 * MIB, 5);
        flow_finish(&flows[4 * i + 2]);
        flow_finish(&flows[4 * i + 3]);
        pair_close(&pairs[i]);
    }
    stage_close(&stage, NULL);
}
END_TEST

/* One resets (the client, the target): the other sees a reset, not an end. */
START_TEST(resets)
{
    struct stage stage;
    char byte;
    stage_open(&stage, false, false, 16);
    for (int i = 0; i < 2; i++) {
        struct pair pair = stage_join(&stage);
        live_write(pair.client, "a", 1);
        live_read(pair.target, &byte, 1);
        int first = i == 0 ? pair.client : pair.target, second = i == 0 ? pair.target : pair.client;
        live_reset(first);
        ck_assert_int_eq(live_read_end(second, NULL), ECONNRESET);
        live_close(second);
    }
    struct pair pair = stage_join(&stage); /* the next ones have nothing to do with it */
    flow_both_ways(&pair, MIB);
    pair_close(&pair);
    stage_close(&stage, NULL);
}
END_TEST

/* Nobody listens there; the file is not there. */
START_TEST(target_refuses)
{
    for (int kind = 0; kind < 2; kind++) {
        struct stage stage;
        uint64_t bytes;
        char line[2 * WEIR_ADDRESS_MAX_BYTES];
        stage_open(&stage, false, kind == 1, 16);
        stage_stop_listening(&stage);
        if (kind == 1)
            ck_assert_int_eq(unlink(stage.target + strlen("unix://")), 0);
        for (int i = 0; i < 3; i++) {
            int client = tool_dial(stage.proxy.address);
            live_write(client, "hello", 5);
            ck_assert_int_eq(live_read_end(client, &bytes), 0);
            ck_assert_uint_eq(bytes, 0);
            live_close(client);
        }
        snprintf(line, sizeof line, "to %s: %s", stage.target, kind == 1 ? "No such file" : "Connection refused");
        ck_assert(tool_logged(&stage.proxy, line));
        stage_close(&stage, line);
    }
}
END_TEST

/* Fills the backlog, so that the next dial hangs. The kernel lets one more in than it was told. */
static void stage_fill(struct stage *stage, int fillers[2])
{
    fillers[0] = tool_dial(stage->target);
    fillers[1] = tool_dial(stage->target);
}

START_TEST(target_does_not_answer)
{
    struct stage stage;
    int fillers[2];
    char line[2 * WEIR_ADDRESS_MAX_BYTES];
    stage_open(&stage, false, false, 1);
    stage_fill(&stage, fillers);
    int client = tool_dial(stage.proxy.address);
    uint64_t begin_ns = live_now_ns();
    ck_assert_int_eq(live_read_end(client, NULL), 0);
    uint64_t took_ns = live_now_ns() - begin_ns; /* --dial-timeout 1 */
    ck_assert_uint_ge(took_ns, WEIR_SECOND * 9 / 10);
    ck_assert_uint_le(took_ns, WEIR_SECOND * 2 * LIVE_SLOWER);
    snprintf(line, sizeof line, "to %s: ", stage.target);
    live_close(client);
    live_close(fillers[0]);
    live_close(fillers[1]);
    stage_close(&stage, line);
}
END_TEST

/* It went while the dial was under way. The target may see a connection that ends at once, or none. */
START_TEST(client_goes_before_the_target_answers)
{
    struct stage stage;
    int fillers[2];
    stage_open(&stage, false, false, 1);
    stage_fill(&stage, fillers);
    for (int i = 0; i < 10; i++) {
        int client = tool_dial(stage.proxy.address);
        live_write(client, "hello", 5);
        if (i % 2 == 0)
            live_reset(client);
        else
            live_close(client);
    }
    for (int i = 0; i < 2; i++) {
        live_close(fillers[i]);
        live_close(tool_accept(stage.listener));
    }
    for (bool last = false; !last;) { /* until only the connection that ends the test is left */
        struct pollfd wait = {.fd = stage.listener, .events = POLLIN};
        last = poll(&wait, 1, 2500) == 0;
        if (!last) {
            int descriptor = tool_accept(stage.listener);
            live_read_end(descriptor, NULL);
            live_close(descriptor);
        }
    }
    struct pair pair = stage_join(&stage);
    flow_both_ways(&pair, MIB);
    pair_close(&pair);
    stage_close(&stage, stage.target);
}
END_TEST

/* --- pressure --- */

/* Waits until the flow has stood still for a while; answers how far it came. */
static uint64_t flow_await_standstill(struct flow *flow)
{
    uint64_t before_bytes;
    do {
        before_bytes = flow->moved_bytes;
        live_sleep(WEIR_SECOND / 2);
    } while (flow->moved_bytes != before_bytes);
    return before_bytes;
}

/* Who does not read (the target, the client) stops the other, and loses nothing; the way back is not held up. */
static void read_slowly(struct stage *stage, bool by_client)
{
    struct flow writer, reader, back_writer, back_reader;
    uint64_t bytes = 64 * MIB;
    int client = tool_dial_narrow(stage->proxy.address);
    struct pair pair = {.client = client, .target = tool_accept(stage->listener)};
    int from = by_client ? pair.target : pair.client, to = by_client ? pair.client : pair.target;
    flow_start(&writer, flow_write, from, bytes, 6);
    ck_assert_uint_lt(flow_await_standstill(&writer), bytes / 2);
    flow_start(&back_writer, flow_write, to, 4 * MIB, 7);
    flow_start(&back_reader, flow_read, from, 4 * MIB, 7);
    flow_finish(&back_writer);
    flow_finish(&back_reader);
    ck_assert_uint_lt(writer.moved_bytes, bytes / 2);
    flow_start(&reader, flow_read, to, bytes, 6);
    flow_finish(&writer);
    flow_finish(&reader);
    pair_close(&pair);
}

START_TEST(slow_readers)
{
    struct stage stage;
    stage_open(&stage, false, false, 16);
    read_slowly(&stage, false);
    read_slowly(&stage, true);
    stage_close(&stage, NULL);
}
END_TEST

/* --- stopping --- */

enum { BUSY = 8 };

/* What has come by then is right, and the end comes to all. These are good peers: who sees the end closes its own side. */
static void stop_busy(int signal, bool unix_target)
{
    static struct flow flows[4 * BUSY];
    struct stage stage;
    struct pair pairs[BUSY];
    stage_open(&stage, false, unix_target, 16);
    for (int i = 0; i < BUSY; i++) {
        struct flow *own = &flows[4 * i];
        pairs[i] = stage_join(&stage);
        flow_start(&own[0], flow_read, pairs[i].client, UINT64_MAX, 9);
        flow_start(&own[1], flow_read, pairs[i].target, UINT64_MAX, 8);
        flow_start_beside(&own[2], flow_write, pairs[i].client, UINT64_MAX, 8, &own[0]);
        flow_start_beside(&own[3], flow_write, pairs[i].target, UINT64_MAX, 9, &own[1]);
    }
    for (int i = 0; i < 4 * BUSY; i++)
        LIVE_AWAIT(flows[i].moved_bytes > MIB);
    tool_stop(&stage.proxy, signal, LIVE_SLOWER * 2 * WEIR_SECOND, NULL);
    for (int i = 0; i < 4 * BUSY; i++) {
        ck_assert_int_eq(pthread_join(flows[i].thread, NULL), 0);
        ck_assert_int_ne(flows[i].ended, EAGAIN);
    }
    for (int i = 0; i < BUSY; i++)
        pair_close(&pairs[i]);
    stage_close(&stage, NULL);
}

START_TEST(stopped_while_busy)
{
    stop_busy(SIGTERM, false);
    stop_busy(SIGINT, true);
}
END_TEST

/* --- its command line --- */

START_TEST(command_lines)
{
    static const struct {
        const char *arguments[4];
        int status; /* -1: any but 0 */
        const char *said;
    } cases[] = {
        {{"tcp://127.0.0.1:0"}, -1, "LISTEN and TARGET"},
        {{"tcp://127.0.0.1:0", "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"}, -1, "one address too many"},
        {{"--shards", "0", "tcp://127.0.0.1:0"}, -1, "--shards wants"},
        {{"nonsense://1", "tcp://127.0.0.1:1"}, 1, "nonsense://1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tool tool;
        int status = tool_run(&tool, "weir-proxy", cases[i].arguments);
        ck_assert(cases[i].status == -1 ? status != 0 : status == cases[i].status);
        if (!tool_logged(&tool, cases[i].said))
            ck_abort_msg("case %zu does not say '%s'", i, cases[i].said);
        tool_close_log(&tool);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {bytes_both_ways,
                                  said_before_the_pipe_stands,
                                  question_and_answer,
                                  many_at_once,
                                  half_closes,
                                  resets,
                                  target_refuses,
                                  target_does_not_answer,
                                  client_goes_before_the_target_answers,
                                  slow_readers,
                                  stopped_while_busy,
                                  command_lines};
    return live_main("proxy", tests, sizeof tests / sizeof *tests);
}
