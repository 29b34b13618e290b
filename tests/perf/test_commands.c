/* SPDX-License-Identifier: MIT */
/* test_commands: weir-perf as its users have it, a process: that accept, conns, codec, limit and all that speaks WebSocket count what happened, say what did not, and
 * tell by their exit code. How fast anything is, is nobody's business here. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/live/live.h"

/* What a run said on both outputs, and how it ended. */
struct said {
    char text[16384];
    int status;
};

static __attribute__((format(printf, 2, 3))) void perf_run(struct said *said, const char *format, ...)
{
    char arguments[512], command[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(command, sizeof command, "ulimit -n 200; exec " WEIR_BINARY_DIR "/perf/weir-perf %s 2>&1", arguments);
    FILE *output = popen(command, "re");
    ck_assert_ptr_nonnull(output);
    size_t bytes = fread(said->text, 1, sizeof said->text - 1, output);
    said->text[bytes] = '\0';
    int status = pclose(output);
    if (!WIFEXITED(status))
        ck_abort_msg("%s: ended with status %x and said '%s'", arguments, (unsigned)status, said->text);
    said->status = WEXITSTATUS(status);
}

static void must_end(const struct said *said, int status)
{
    if (said->status != status)
        ck_abort_msg("ended with %d, not %d, and said '%s'", said->status, status, said->text);
}

static void must_say(const struct said *said, const char *text)
{
    if (strstr(said->text, text) == NULL)
        ck_abort_msg("does not say '%s' but '%s'", text, said->text);
}

/* A number of the JSON; NaN where it says null. */
static double figure(const struct said *said, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *found = strstr(said->text, key);
    if (found == NULL)
        ck_abort_msg("there is no '%s' in '%s'", name, said->text);
    found += strlen(key);
    return strncmp(found, "null", 4) == 0 ? (double)NAN : strtod(found, NULL);
}

static void must_be(const struct said *said, const char *name, double least, double most)
{
    double value = figure(said, name);
    if (!(value >= least && value <= most))
        ck_abort_msg("%s is %f and should be %f to %f: '%s'", name, value, least, most, said->text);
}

/* --- servers --- */

enum { STRANGERS_MAX = 40 };

static _Atomic uint32_t other_sources; /* connections that come from elsewhere than 127.0.0.1 */

static int opened_from(weir_conn *conn)
{
    char peer[WEIR_ADDRESS_MAX_BYTES];
    if (weir_conn_peer(conn, peer, sizeof peer) == 0 && strncmp(peer, "127.0.0.1:", 10) != 0)
        other_sources++;
    return live_opened(conn);
}

/* The first few may come in. */
static int opened_for_few(weir_conn *conn)
{
    return live_opened(conn) == 0 && live_of(conn)->opens > STRANGERS_MAX ? -EACCES : 0;
}

/* An echo that is not one. */
static int answer_wrongly(weir_conn *conn, const weir_message *message)
{
    uint8_t wrong[64];
    ck_assert_uint_eq(message->bytes, sizeof wrong);
    memcpy(wrong, message->data, sizeof wrong);
    wrong[40] ^= 1;
    return weir_send(conn, wrong, sizeof wrong);
}

static void serve(struct live *live, int (*on_open)(weir_conn *conn), int (*on_message)(weir_conn *conn, const weir_message *message))
{
    live_init(live, 1024);
    live->protocol.on_open = on_open;
    live->protocol.on_message = on_message;
    live_start(live);
}

/* --- accept --- */

START_TEST(accept_counts_connections)
{
    static const char *const ways[] = {"", "--touch", "--graceful", "--touch --graceful"};
    struct live live;
    struct said said;
    serve(&live, NULL, NULL);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        uint64_t before = live.opens;
        perf_run(&said, "accept --connect tcp://127.0.0.1:%d --server-pid %d --seconds 0.1 --warmup 0.02 --in-flight 4 --json %s",
                 live.port, getpid(), ways[i]);
        must_end(&said, 0);
        must_be(&said, "failed", 0, 0);
        must_be(&said, "connections", 1, 1e6);
        must_be(&said, "server_cpu_ns_per_connection", 100, 1e9);
        must_be(&said, "p50_us", 1, figure(&said, "p99_us"));
        uint64_t counted = (uint64_t)figure(&said, "connections");
        LIVE_AWAIT(live.opens - before >= counted);
        LIVE_AWAIT(live.closes == live.opens);
        uint64_t answered = (uint64_t)(figure(&said, "connections_per_second") * figure(&said, "seconds") + 0.5);
        ck_assert_uint_eq(answered, counted);
    }
    ck_assert_uint_gt(live_stats(&live).messages_in, 0);
    live_stop(&live);
}
END_TEST

START_TEST(accept_comes_from_many_addresses)
{
    struct live live;
    struct said said;
    serve(&live, opened_from, NULL);
    perf_run(&said, "accept --connect tcp://127.0.0.1:%d --seconds 0.05 --warmup 0 --touch --json", live.port);
    must_end(&said, 0);
    ck_assert_uint_eq(other_sources, 0); /* a reset gives its port back */
    perf_run(&said, "accept --connect tcp://127.0.0.1:%d --seconds 0.05 --warmup 0 --graceful --json", live.port);
    must_end(&said, 0);
    ck_assert_uint_gt(other_sources, 0);
    LIVE_AWAIT(live.closes == live.opens);
    live_stop(&live);
}
END_TEST

START_TEST(accept_says_what_failed)
{
    struct live live;
    struct said said;
    serve(&live, NULL, answer_wrongly);
    perf_run(&said, "accept --connect tcp://127.0.0.1:%d --seconds 0.3 --warmup 0 --touch", live.port);
    must_end(&said, 1);
    must_say(&said, "Bad message");
    must_say(&said, "not one answer came");
    LIVE_AWAIT(live.closes == live.opens);
    live_stop(&live);
    perf_run(&said, "accept --connect tcp://127.0.0.1:%d --seconds 0.3 --warmup 0", live.port); /* nobody is there any more */
    must_end(&said, 1);
    must_say(&said, "Connection refused");
}
END_TEST

/* --- conns --- */

START_TEST(conns_keeps_some_busy)
{
    struct live live;
    struct said said;
    serve(&live, NULL, NULL);
    perf_run(&said, "conns --connect tcp://127.0.0.1:%d --connections 100 --active 10 --rate 1000 --seconds 0.5 --touch --json", live.port);
    must_end(&said, 0);
    must_be(&said, "connections", 100, 100);
    must_be(&said, "active", 10, 10);
    must_be(&said, "messages", 400, 600);
    must_be(&said, "p50_us", 1, figure(&said, "p99_us"));
    must_be(&said, "unanswered", 0, 0);
    must_be(&said, "closed", 0, 0);
    ck_assert(isnan(figure(&said, "limit")) && isnan(figure(&said, "bytes_per_connection")));
    LIVE_AWAIT(live.closes == live.opens);
    ck_assert_uint_eq(live.opens, 100);
    weir_stats stats = live_stats(&live);
    ck_assert_uint_ge(stats.messages_in, 100 + (uint64_t)figure(&said, "messages"));
    ck_assert_uint_le(stats.messages_in, 100 + 700 + 5 * LIVE_SLOWER); /* 0.2 s before the measured time too */
    live_stop(&live);
}
END_TEST

/* Each has two sockets, two files and more: some 9 KB. Whatever else this machine does meanwhile is in the figure: it gets some tries. */
START_TEST(conns_knows_the_kernels_part)
{
    struct live live;
    struct said said;
    double each_bytes = 0;
    serve(&live, NULL, NULL);
    for (int attempt = 0; attempt < 10 && !(each_bytes > 3000 && each_bytes < 30000); attempt++) {
        perf_run(&said, "conns --connect tcp://127.0.0.1:%d --connections 120 --seconds 0.05 --touch --json", live.port);
        must_end(&said, 0);
        each_bytes = figure(&said, "kernel_bytes_per_connection");
    }
    if (strstr(said.text, "\"kernel_exact\":true") != NULL) /* pages would be too coarse for so few */
        ck_assert_msg(each_bytes > 3000 && each_bytes < 30000, "said %f", each_bytes);
    live_stop(&live);
}
END_TEST

START_TEST(conns_says_which_limit_it_met)
{
    struct live live;
    struct said said;
    serve(&live, opened_for_few, NULL);
    perf_run(&said, "conns --connect tcp://127.0.0.1:%d --connections max --seconds 0.05 --touch --json", live.port);
    must_end(&said, 0);
    must_be(&said, "connections", STRANGERS_MAX, STRANGERS_MAX);
    must_say(&said, "\"limit\":\"the server");
    LIVE_AWAIT(live.closes == live.opens);
    live_stop(&live);
    serve(&live, NULL, NULL);
    perf_run(&said, "conns --connect tcp://127.0.0.1:%d --connections max --seconds 0.05 --json", live.port);
    must_end(&said, 0);
    must_be(&said, "connections", 100, 199); /* of 200 descriptors */
    must_say(&said, "\"limit\":\"descriptors");
    live_stop(&live);
}
END_TEST

START_TEST(conns_says_what_was_lost)
{
    struct live live;
    struct said said;
    serve(&live, opened_for_few, NULL);
    perf_run(&said, "conns --connect tcp://127.0.0.1:%d --connections 60 --seconds 0.2 --json", live.port);
    must_end(&said, 1);
    must_be(&said, "closed", 60 - STRANGERS_MAX, 60 - STRANGERS_MAX);
    LIVE_AWAIT(live.closes == live.opens);
    live_stop(&live);
    serve(&live, NULL, answer_wrongly);
    perf_run(&said, "conns --connect tcp://127.0.0.1:%d --connections 4 --seconds 0.1 --active 50 --json", live.port);
    must_end(&said, 1);
    must_be(&said, "errors", 1, 1e6);
    live_stop(&live);
}
END_TEST

/* --- by WebSocket --- */

static void serve_web(struct live *live, int (*on_message)(weir_conn *conn, const weir_message *message))
{
    static const weir_websocket_options options = {.kind = WEIR_WEBSOCKET_BINARY};
    live_init(live, 1024);
    ck_assert_int_eq(weir_codec_websocket(&live->protocol.codec, &options), 0);
    live->protocol.on_message = on_message;
    live_start(live);
}

/* Sizes with each form of length; what comes back is looked at whole. */
START_TEST(web_echoes)
{
    static const int sizes[] = {3, 64, 200, 70000};
    struct live live;
    struct said said;
    serve_web(&live, NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        perf_run(&said,
                 "echo --connect tcp://127.0.0.1:%d --framing websocket --connections 4 --depth 4 --bytes %d --seconds 0.1 --check --json",
                 live.port, sizes[i]);
        must_end(&said, 0);
        must_be(&said, "messages", 10, 1e7);
    }
    perf_run(&said, "conns --connect tcp://127.0.0.1:%d --framing websocket --connections 50 --touch --seconds 0.1 --json", live.port);
    must_end(&said, 0);
    must_be(&said, "connections", 50, 50);
    must_be(&said, "closed", 0, 0);
    LIVE_AWAIT(live.closes == live.opens);
    ck_assert_uint_eq(live.opens, 4 * 4 + 50);
    live_stop(&live);
}
END_TEST

START_TEST(web_says_what_was_wrong)
{
    struct live live;
    struct said said;
    serve_web(&live, answer_wrongly);
    perf_run(&said, "echo --connect tcp://127.0.0.1:%d --framing websocket --seconds 0.1 --check", live.port);
    must_end(&said, 1);
    must_say(&said, "message 0 came back changed");
    LIVE_AWAIT(live.closes == live.opens);
    live_stop(&live);
    serve(&live, NULL, NULL); /* it speaks frames, and takes what comes for a very large one */
    perf_run(&said, "echo --connect tcp://127.0.0.1:%d --framing websocket --seconds 0.1", live.port);
    must_end(&said, 1);
    must_say(&said, "connection 1 of 1 is no WebSocket");
    LIVE_AWAIT(live.closes == live.opens);
    live_stop(&live);
}
END_TEST

START_TEST(web_members)
{
    struct said said;
    perf_run(&said, "fanout --framing websocket --members 20 --slow 2 --bytes 200 --seconds 0.2 --warmup 0.1 --check --json");
    must_end(&said, 0);
    must_be(&said, "deliveries", 100, 1e9);
}
END_TEST

/* --- codec --- */

START_TEST(codec_measures_each)
{
    static const char *const names[] = {"frame", "frame-u8",  "frame-u16", "frame-u64", "varint",
                                        "line",  "line-crlf", "raw",       "websocket", "websocket-text"};
    struct said said;
    char wanted[64];
    perf_run(&said, "codec --bytes 64 --seconds 0.002 --json");
    must_end(&said, 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(wanted, sizeof wanted, "{\"tool\":\"codec\",\"codec\":\"%s\",\"bytes\":64", names[i]);
        must_say(&said, wanted);
    }
    perf_run(&said, "codec --codec line --bytes 16 --bytes 65536 --seconds 0.01 --json");
    must_end(&said, 0);
    must_be(&said, "cut_ns", 0.1, 1e6);
    double short_ns = figure(&said, "cut_ns");
    const char *second = strchr(said.text, '\n');
    ck_assert_ptr_nonnull(second);
    memmove(said.text, second, strlen(second) + 1);
    must_be(&said, "bytes", 65536, 65536);
    must_be(&said, "cut_ns", 5 * short_ns, 1e9); /* it searches every byte */
    must_be(&said, "encode_ns", figure(&said, "seal_ns") / 2, 1e9);
}
END_TEST

START_TEST(codec_says_what_it_cannot)
{
    struct said said;
    perf_run(&said, "codec --codec frame-u8 --bytes 1024 --seconds 0.001 --json");
    must_end(&said, 0);
    must_say(&said, "cannot say that a message has 1024 bytes");
    ck_assert_ptr_null(strchr(said.text, '{'));
}
END_TEST

/* --- limit --- */

START_TEST(limit_measures_all)
{
    static const char *const names[] = {"pingpong_p50_us",
                                        "pingpong_p99_us",
                                        "pingpong_spin_p50_us",
                                        "pingpong_spin_p99_us",
                                        "loopback_bytes_per_second",
                                        "line_ns",
                                        "loopback_frames_per_second",
                                        "wake_p50_us",
                                        "wake_p99_us",
                                        "wake_write_p50_us",
                                        "enter_ns",
                                        "call_ns",
                                        "copy_bytes_per_second"};
    struct said said;
    perf_run(&said, "limit --seconds 0.03 --json");
    must_end(&said, 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        must_be(&said, names[i], 0.01, 1e15);
    must_be(&said, "pingpong_p50_us", 1, figure(&said, "pingpong_p99_us"));
    must_be(&said, "wake_p50_us", 0.5, figure(&said, "wake_p99_us"));
    must_be(&said, "loopback_bytes_per_second", 67.9 * figure(&said, "loopback_frames_per_second"),
            68.1 * figure(&said, "loopback_frames_per_second"));
    must_be(&said, "loopback_bytes_per_second", 1e6, figure(&said, "copy_bytes_per_second")); /* it copies too, twice */
    perf_run(&said, "limit --only copy --only enter --seconds 0.01 --json");
    must_end(&said, 0);
    must_be(&said, "call_ns", 1, 1e6);
    ck_assert(isnan(figure(&said, "line_ns")) && isnan(figure(&said, "pingpong_p50_us")));
}
END_TEST

/* --- the command line --- */

START_TEST(help_says_when_to_use_it)
{
    static const char *const names[] = {"echo", "conns", "accept", "fanin", "sink", "hop", "ring", "fanout", "codec", "limit"};
    static const char *const alone[] = {"hop", "ring", "fanout", "codec", "limit"};
    struct said list, said;
    perf_run(&list, "--help");
    must_end(&list, 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char line[16];
        snprintf(line, sizeof line, "\n  %s ", names[i]);
        must_say(&list, line);
        perf_run(&said, "%s --help | tr '\\n' ' '", names[i]);
        must_end(&said, 0);
        must_say(&said, "Use it ");
    }
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        perf_run(&said, "%s --help | tr '\\n' ' '", alone[i]);
        must_say(&said, "nothing to connect to");
    }
}
END_TEST

START_TEST(command_lines)
{
    static const struct {
        const char *arguments, *said;
    } cases[] = {
        {"accept", "--connect is missing"},
        {"accept --connect tcp://127.0.0.1:1 --in-flight 0", "--in-flight wants"},
        {"conns --connect tcp://127.0.0.1:1 --active 0", "--active wants"},
        {"conns --connect tcp://127.0.0.1:1 --connections many", "--connections wants"},
        {"codec --codec nonsense", "--codec wants"},
        {"codec --bytes 0", "--bytes wants"},
        {"limit --only nonsense", "--only wants"},
        {"limit --connect tcp://127.0.0.1:1", "unrecognized option"},
        {"nonsense", "there is no command 'nonsense'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct said said;
        perf_run(&said, "%s", cases[i].arguments);
        must_end(&said, 2);
        must_say(&said, cases[i].said);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {accept_counts_connections,
                                  accept_comes_from_many_addresses,
                                  accept_says_what_failed,
                                  conns_keeps_some_busy,
                                  conns_knows_the_kernels_part,
                                  conns_says_which_limit_it_met,
                                  conns_says_what_was_lost,
                                  web_echoes,
                                  web_says_what_was_wrong,
                                  web_members,
                                  codec_measures_each,
                                  codec_says_what_it_cannot,
                                  limit_measures_all,
                                  help_says_when_to_use_it,
                                  command_lines};
    return live_main("perf", tests, sizeof tests / sizeof *tests);
}
