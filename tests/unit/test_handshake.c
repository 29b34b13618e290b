/* SPDX-License-Identifier: MIT */
/* test_handshake: the WebSocket handshake without a connection (RFC 6455, section 4): what a server answers to each head, what a client takes for an answer, which
 * options can be; and which code is said at the end (section 7.4). Frames by any bytes: tests/fuzz/fuzz_websocket.c. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <weir/websocket.h>

#include "must.h"
#include "proto/websocket.h"
#include "runtime/base.h"

#define KEY     "dGhlIHNhbXBsZSBub25jZQ==" /* of section 1.3 */
#define ACCEPT  "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define A_KEY   "Sec-WebSocket-Key: " KEY "\r\n"
#define HOST    "Host: a\r\n"

static weir_codec codec;
static struct w_websocket ws;
static weir_session_answer answer;
static char said[4096]; /* the answer, with its body */

static void start(const weir_websocket_options *options)
{
    MUST_EQUAL(weir_codec_websocket(&codec, options), 0);
    memset(&ws, 0, sizeof ws);
}

/* The verdict on a whole head. */
static int take(const char *head)
{
    static char text[70000];
    weir_cut cut = {.session = &ws};
    uint32_t bytes = (uint32_t)strlen(head);
    memcpy(text, head, bytes);
    memset(&answer, 0, sizeof answer);
    ws.state.frame = WEIR_SESSION_UNKNOWN;
    MUST_EQUAL(codec.cut(&codec, (const uint8_t *)text, bytes, &cut), WEIR_CUT_MESSAGE);
    MUST_EQUAL(ws.state.frame, WEIR_SESSION_OWN);
    MUST_EQUAL(cut.frame_bytes, bytes);
    int verdict = codec.session->take(&codec, &ws, (uint8_t *)text, cut.payload_bytes, &answer);
    snprintf(said, sizeof said, "%.*s%.*s", (int)answer.bytes, (const char *)answer.data, (int)answer.body_bytes,
             answer.body == NULL ? "" : (const char *)answer.body);
    return verdict;
}

static void must_say(const char *text)
{
    if (strstr(said, text) == NULL)
        ck_abort_msg("'%s' is not in '%s'", text, said);
}

/* --- a server --- */

static const struct {
    const char *head;
    int status;
    const char *also;
} heads[] = {
    {"GET /chat HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "\r\n", 101, "Sec-WebSocket-Accept: " ACCEPT "\r\n"},
    {"GET / HTTP/1.1\r\nhost: a\r\nUPGRADE: WebSocket\r\ncOnnection: uPGRADE\r\nsec-websocket-version: 13\r\nSEC-WEBSOCKET-KEY: " KEY
     "\r\n\r\n",
     101, ACCEPT},
    {"GET / HTTP/1.1\r\n" HOST "Upgrade: h2c, websocket\r\nConnection: keep-alive, Upgrade\r\n" VERSION A_KEY "\r\n", 101, ACCEPT},
    {"GET / HTTP/1.1\r\n" HOST "Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: keep-alive\r\nConnection: upgrade\r\n" VERSION A_KEY
     "\r\n",
     101, ACCEPT},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n", 101,
     ACCEPT},
    {"GET ws://a/ HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "\r\n", 400, "HTTP/1.1"}, /* no scheme of HTTP's */
    {"POST / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "\r\n", 405, "Allow: GET\r\n"},
    {"GET / HTTP/1.0\r\n" HOST UPGRADE VERSION A_KEY "\r\n", 505, "HTTP/1.1 is spoken"},
    {"GET / HTTP/1.1\r\n" UPGRADE VERSION A_KEY "\r\n", 400, "not a request"},
    {"GET / HTTP/1.1\r\n" HOST HOST UPGRADE VERSION A_KEY "\r\n", 400, "not a request"},
    {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade\r\n" VERSION A_KEY "\r\n", 400, "Upgrade: websocket"},
    {"GET / HTTP/1.1\r\n" HOST "Upgrade: websocket\r\n" VERSION A_KEY "\r\n", 400, "Connection: Upgrade"},
    {"GET / HTTP/1.1\r\n" HOST "Upgrade: websockets\r\nConnection: Upgrade\r\n" VERSION A_KEY "\r\n", 400, "Upgrade: websocket"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "\r\n", 400, "Sec-WebSocket-Key"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY A_KEY "\r\n", 400, "Sec-WebSocket-Key"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "Sec-WebSocket-Key: \r\n\r\n", 400, "Sec-WebSocket-Key"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==\r\n\r\n", 400, "Sec-WebSocket-Key"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n\r\n", 400, "Sec-WebSocket-Key"}, /* 15 bytes */
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=\r\n\r\n", 400,
     "Sec-WebSocket-Key"}, /* 17 bytes */
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n\r\n", 400,
     "Sec-WebSocket-Key"}, /* bits are lost */
    {"GET / HTTP/1.1\r\n" HOST UPGRADE A_KEY "\r\n", 426, "Sec-WebSocket-Version: 13\r\n"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE "Sec-WebSocket-Version: 8\r\n" A_KEY "\r\n", 426, "Sec-WebSocket-Version: 13\r\n"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE "Sec-WebSocket-Version: 8, 13\r\n" A_KEY "\r\n", 426, "Sec-WebSocket-Version: 13\r\n"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION VERSION A_KEY "\r\n", 426, "Sec-WebSocket-Version: 13\r\n"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "Content-Length: 4\r\n\r\n", 413, "no bodies"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "Transfer-Encoding: chunked\r\n\r\n", 413, "no bodies"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "Content-Length: 0\r\nContent-Length: 4\r\n\r\n", 400, "not a request"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "not a request"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "X: y\r\n folded\r\n" A_KEY "\r\n", 400, "not a request"},
    {"GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "X : y\r\n" A_KEY "\r\n", 400, "not a request"},
    {"GET / HTTP/1.1\nHost: a\n\n", 400, "not a request"},
    {"GET / HTTP/1.1\r\n" HOST "\r\n", 426, "Upgrade: websocket"},
};

START_TEST(answers_of_a_server)
{
    char status[32];
    start(NULL);
    int verdict = take(heads[_i].head);
    snprintf(status, sizeof status, "HTTP/1.1 %d ", heads[_i].status);
    must_say(status);
    must_say(heads[_i].also);
    if (heads[_i].status == 101) {
        MUST_EQUAL(verdict, WEIR_SESSION_OPEN);
        MUST(strstr(said, "Extensions") == NULL && strstr(said, "Protocol:") == NULL);
        MUST_EQUAL(ws.stage, W_WEBSOCKET_OPEN);
    } else {
        MUST(verdict < 0 || verdict == WEIR_SESSION_END);
        must_say("Connection: close\r\n");
        MUST_EQUAL(ws.stage, W_WEBSOCKET_HANDSHAKE);
    }
}
END_TEST

/* 64 fields and one more; a head of exactly the bytes that it may have, and of one more. */
START_TEST(large_heads)
{
    static char head[9000];
    for (int fields = 59; fields <= 60; fields++) { /* beside those of the handshake */
        start(NULL);
        size_t bytes = (size_t)snprintf(head, sizeof head, "GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY);
        for (int i = 0; i < fields; i++)
            bytes += (size_t)snprintf(head + bytes, sizeof head - bytes, "X-%d: y\r\n", i);
        snprintf(head + bytes, sizeof head - bytes, "\r\n");
        MUST_EQUAL(take(head), fields == 59 ? WEIR_SESSION_OPEN : -EPROTO);
        must_say(fields == 59 ? " 101 " : " 431 ");
    }
    for (int over = 0; over <= 1; over++) {
        static const char begin[] = "GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "X: ", end[] = "\r\n\r\n";
        start(&(weir_websocket_options){.head_max_bytes = 1000});
        size_t filler = 1000 + (size_t)over - (sizeof begin - 1) - (sizeof end - 1);
        memcpy(head, begin, sizeof begin - 1);
        memset(head + sizeof begin - 1, 'y', filler);
        memcpy(head + sizeof begin - 1 + filler, end, sizeof end);
        MUST_EQUAL(take(head), over == 0 ? WEIR_SESSION_OPEN : -EPROTO);
        must_say(over == 0 ? " 101 " : " 431 ");
    }
}
END_TEST

START_TEST(subprotocols)
{
    static const char *const ours[] = {"v2.chat", "v1.chat", NULL};
    static const struct {
        const char *fields, *chosen;
    } offers[] = {
        {"", NULL},
        {"Sec-WebSocket-Protocol: v1.chat\r\n", "v1.chat"},
        {"Sec-WebSocket-Protocol: v1.chat, v2.chat\r\n", "v2.chat"}, /* the server's order */
        {"Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: v1.chat\r\n", "v1.chat"},
        {"Sec-WebSocket-Protocol: V1.chat\r\n", NULL},
        {"Sec-WebSocket-Protocol: v1.chat.old\r\n", NULL},
    };
    for (size_t i = 0; i < W_COUNT(offers); i++) {
        char head[512], due[128];
        start(&(weir_websocket_options){.subprotocols = ours});
        snprintf(head, sizeof head, "GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "%s\r\n", offers[i].fields);
        MUST_EQUAL(take(head), WEIR_SESSION_OPEN);
        const char *chosen = weir_websocket_chosen(&codec, &ws);
        MUST((chosen == NULL) == (offers[i].chosen == NULL));
        if (chosen == NULL) {
            MUST(strstr(said, "Sec-WebSocket-Protocol") == NULL);
            continue;
        }
        ck_assert_str_eq(chosen, offers[i].chosen);
        snprintf(due, sizeof due, "\r\nSec-WebSocket-Protocol: %s\r\n", chosen);
        must_say(due);
    }
}
END_TEST

static uint32_t asked;

static int allow_from_home(void *user, const weir_http_head *request)
{
    const weir_http_text *origin = weir_http_value(request, "origin", NULL);
    MUST(user == &asked);
    asked++;
    return origin == NULL ? 0 : weir_http_text_is(origin, "http://home") ? 0 : weir_http_text_is(origin, "odd") ? 7 : 401;
}

START_TEST(who_is_let_in)
{
    static const struct {
        const char *origin;
        int verdict;
        const char *status;
    } guests[] = {
        {"", WEIR_SESSION_OPEN, " 101 "},
        {"Origin: http://home\r\n", WEIR_SESSION_OPEN, " 101 "},
        {"Origin: http://elsewhere\r\n", -EPROTO, " 401 "},
        {"Origin: odd\r\n", -EPROTO, " 403 "}, /* no status that refuses */
    };
    for (size_t i = 0; i < W_COUNT(guests); i++) {
        char head[512];
        asked = 0;
        start(&(weir_websocket_options){.allow = allow_from_home, .user = &asked});
        snprintf(head, sizeof head, "GET / HTTP/1.1\r\n" HOST UPGRADE VERSION A_KEY "%s\r\n", guests[i].origin);
        MUST_EQUAL(take(head), guests[i].verdict);
        must_say(guests[i].status);
        MUST_EQUAL(asked, 1);
    }
    start(&(weir_websocket_options){.allow = allow_from_home, .user = &asked});
    MUST_EQUAL(take("GET / HTTP/1.1\r\n" HOST UPGRADE VERSION "\r\n"), -EPROTO); /* not asked for what is none */
    MUST_EQUAL(asked, 1);
}
END_TEST

static const char *made_text(void *user, const weir_http_head *request, uint32_t *bytes)
{
    (void)user;
    *bytes = 4;
    return request->target.bytes > 5 ? NULL : "made";
}

START_TEST(pages)
{
    static const weir_http_page there[] = {
        {.path = "/", .type = "text/html", .body = "<p>", .bytes = 3},
        {.path = "/made", .type = "text/plain", .text = made_text},
        {.path = NULL},
    };
    static const struct {
        const char *head;
        int verdict;
        const char *begin, *end;
    } asks[] = {
        {"GET / HTTP/1.1\r\n" HOST "\r\n", WEIR_SESSION_GO_ON, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n",
         "<p>"},
        {"GET /?a=b HTTP/1.1\r\n" HOST "\r\n", WEIR_SESSION_GO_ON, "HTTP/1.1 200 ", "<p>"},
        {"HEAD / HTTP/1.1\r\n" HOST "\r\n", WEIR_SESSION_GO_ON, "HTTP/1.1 200 ", "Content-Length: 3\r\n\r\n"},
        {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", WEIR_SESSION_END, "HTTP/1.1 200 ", "Connection: close\r\n\r\n<p>"},
        {"GET /made HTTP/1.1\r\n" HOST "\r\n", WEIR_SESSION_GO_ON, "HTTP/1.1 200 ", "made"},
        {"GET /made?not HTTP/1.1\r\n" HOST "\r\n", WEIR_SESSION_GO_ON, "HTTP/1.1 503 ", "made now\n"},
        {"GET /other HTTP/1.1\r\n" HOST "\r\n", WEIR_SESSION_GO_ON, "HTTP/1.1 404 ", "\n"},
        {"GET /mad HTTP/1.1\r\n" HOST "\r\n", WEIR_SESSION_GO_ON, "HTTP/1.1 404 ", "\n"},
        {"PUT / HTTP/1.1\r\n" HOST "\r\n", -EPROTO, "HTTP/1.1 405 ", "\n"},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", -EPROTO, "HTTP/1.1 413 ", "\n"},
    };
    for (size_t i = 0; i < W_COUNT(asks); i++) {
        start(&(weir_websocket_options){.pages = there});
        MUST_EQUAL(take(asks[i].head), asks[i].verdict);
        MUST(strncmp(said, asks[i].begin, strlen(asks[i].begin)) == 0);
        if (strlen(said) < strlen(asks[i].end) || strcmp(said + strlen(said) - strlen(asks[i].end), asks[i].end) != 0)
            ck_abort_msg("'%s' does not end in '%s'", said, asks[i].end);
    }
}
END_TEST

/* --- a client --- */

static bool the_samples_nonce(void *user, uint8_t *to, uint32_t bytes)
{
    (void)user;
    memcpy(to, "the sample nonce", bytes);
    return bytes <= 16;
}

START_TEST(request_of_a_client)
{
    static const char *const names[] = {"a", "b", NULL};
    weir_websocket_options options = {.client = true,
                                      .host = "example.org:81",
                                      .target = "/x?y",
                                      .origin = "http://home",
                                      .fields = "Cookie: c=d\r\n",
                                      .subprotocols = names,
                                      .random = the_samples_nonce};
    start(&options);
    memset(&answer, 0, sizeof answer);
    MUST_EQUAL(codec.session->begin(&codec, &ws, &answer), WEIR_SESSION_GO_ON);
    static const char due[] = "GET /x?y HTTP/1.1\r\nHost: example.org:81\r\n" UPGRADE A_KEY VERSION
                              "Sec-WebSocket-Protocol: a, b\r\nOrigin: http://home\r\nCookie: c=d\r\n\r\n";
    MUST_EQUAL(answer.bytes, sizeof due - 1);
    MUST(memcmp(answer.data, due, sizeof due - 1) == 0);
    /* A server of ours understands it. */
    char head[sizeof due];
    memcpy(head, due, sizeof due);
    start(NULL);
    MUST_EQUAL(take(head), WEIR_SESSION_OPEN);
}
END_TEST

#define ANSWER  "HTTP/1.1 101 Switching Protocols\r\n"
#define ACCEPTS "Sec-WebSocket-Accept: " ACCEPT "\r\n"

static const struct {
    const char *head;
    bool good;
    const char *chosen;
} replies[] = {
    {ANSWER UPGRADE ACCEPTS "\r\n", true, NULL},
    {"HTTP/1.1 101 \r\nconnection: UPGRADE\r\nupgrade: WebSocket\r\nsec-websocket-accept: " ACCEPT "\r\nServer: x\r\n\r\n", true, NULL},
    {ANSWER UPGRADE ACCEPTS "Sec-WebSocket-Protocol: b\r\n\r\n", true, "b"},
    {ANSWER UPGRADE ACCEPTS "Sec-WebSocket-Protocol: c\r\n\r\n", false, NULL}, /* not offered */
    {ANSWER UPGRADE ACCEPTS "Sec-WebSocket-Protocol: B\r\n\r\n", false, NULL},
    {ANSWER UPGRADE ACCEPTS "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n\r\n", false, NULL},
    {ANSWER UPGRADE ACCEPTS "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", false, NULL}, /* not offered */
    {ANSWER UPGRADE "\r\n", false, NULL},
    {ANSWER UPGRADE "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", false, NULL},
    {ANSWER UPGRADE ACCEPTS ACCEPTS "\r\n", false, NULL},
    {ANSWER "Upgrade: websocket\r\n" ACCEPTS "\r\n", false, NULL},
    {ANSWER "Connection: Upgrade\r\n" ACCEPTS "\r\n", false, NULL},
    {ANSWER "Upgrade: h2c\r\nConnection: Upgrade\r\n" ACCEPTS "\r\n", false, NULL},
    {"HTTP/1.1 200 OK\r\n" UPGRADE ACCEPTS "Content-Length: 0\r\n\r\n", false, NULL},
    {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", false, NULL},
    {"HTTP/1.1 302 Found\r\nLocation: ws://other/\r\nContent-Length: 0\r\n\r\n", false, NULL},
    {"HTTP/1.0 101 Switching Protocols\r\n" UPGRADE ACCEPTS "\r\n", false, NULL},
    {"HTTP/2.0 101 Switching Protocols\r\n" UPGRADE ACCEPTS "\r\n", false, NULL},
};

START_TEST(replies_to_a_client)
{
    static const char *const names[] = {"a", "b", NULL};
    weir_websocket_options options = {.client = true, .host = "a", .subprotocols = names, .random = the_samples_nonce};
    start(&options);
    MUST_EQUAL(codec.session->begin(&codec, &ws, &answer), WEIR_SESSION_GO_ON);
    MUST_EQUAL(take(replies[_i].head), replies[_i].good ? WEIR_SESSION_OPEN : -EPROTO);
    MUST_EQUAL(answer.bytes, 0);
    if (!replies[_i].good) {
        MUST_EQUAL(ws.stage, W_WEBSOCKET_HANDSHAKE);
        return;
    }
    MUST_EQUAL(answer.peer_code, 0);
    const char *chosen = weir_websocket_chosen(&codec, &ws);
    MUST((chosen == NULL) == (replies[_i].chosen == NULL) && (chosen == NULL || strcmp(chosen, replies[_i].chosen) == 0));
}
END_TEST

/* --- options --- */

static bool no_random(void *user, uint8_t *to, uint32_t bytes)
{
    (void)user;
    (void)to;
    (void)bytes;
    return false;
}

START_TEST(options_that_cannot_be)
{
    static char long_text[2000];
    static const char *const empty[] = {"", NULL}, *const spaced[] = {"a b", NULL}, *const split[] = {"a\r\nX: y", NULL},
                             *const listed[] = {"a,b", NULL}, *const high[] = {"\xe4", NULL};
    const weir_websocket_options wrong[] = {
        {.message_max_bytes = WEIR_MESSAGE_MAX_BYTES + 1},
        {.head_max_bytes = (60 << 10) + 1},
        {.kind = WEIR_WEBSOCKET_PING},
        {.kind = (weir_websocket_kind)7},
        {.subprotocols = empty},
        {.subprotocols = spaced},
        {.subprotocols = split},
        {.subprotocols = listed},
        {.subprotocols = high},
        {.client = true},
        {.client = true, .host = "a b"},
        {.client = true, .host = "a\r\nX: y"},
        {.client = true, .host = "a", .target = "no-slash"},
        {.client = true, .host = "a", .target = "/a b"},
        {.client = true, .host = "a", .target = "/ HTTP/1.1\r\nX: y\r\n\r\n"},
        {.client = true, .host = "a", .origin = "x\r\n\r\n"},
        {.client = true, .host = "a", .fields = "no line"},
        {.client = true, .host = "a", .fields = "X: y\n"},
        {.client = true, .host = "a", .fields = "Sec-WebSocket-Key: " KEY "\r\n"},
        {.client = true, .host = "a", .fields = "Content-Length: 3\r\n"},
        {.client = true, .host = "a", .fields = long_text},
    };
    snprintf(long_text, sizeof long_text, "X: %01000d\r\n", 0);
    for (size_t i = 0; i < W_COUNT(wrong); i++)
        if (weir_codec_websocket(&codec, &wrong[i]) != -EINVAL)
            ck_abort_msg("options %zu are taken", i);
    weir_websocket_options mute = {.client = true, .host = "a", .random = no_random};
    weir_seal seal;
    start(&mute);
    MUST_EQUAL(codec.session->begin(&codec, &ws, &answer), -EIO);
    MUST_EQUAL(codec.seal(&codec, (const uint8_t *)"x", 1, &seal), -EIO);
}
END_TEST

/* --- the end --- */

START_TEST(codes)
{
    static const uint32_t good[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999};
    static const uint32_t bad[] = {0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65535};
    for (size_t i = 0; i < W_COUNT(good); i++)
        MUST(weir_websocket_code_is_valid(good[i]));
    for (size_t i = 0; i < W_COUNT(bad); i++)
        MUST(!weir_websocket_code_is_valid(bad[i]));
    for (int reason = 0; reason < WEIR_REASON_COUNT; reason++) {
        uint8_t words[WEIR_SESSION_FAREWELL_BYTES];
        start(NULL);
        ws.stage = W_WEBSOCKET_OPEN;
        uint32_t bytes = codec.session->farewell(&codec, &ws, (weir_reason)reason, 0, words);
        uint32_t due = reason == WEIR_REASON_LOCAL         ? 1000
                       : reason == WEIR_REASON_STOPPED     ? 1001
                       : reason == WEIR_REASON_BAD_MESSAGE ? 1002
                       : reason == WEIR_REASON_TOO_BIG     ? 1009
                       : reason == WEIR_REASON_HANDLER     ? 1011
                                                           : 0;
        MUST_EQUAL(bytes, due == 0 ? 0 : 4);
        MUST(due == 0 || (words[0] == 0x88 && words[1] == 2 && (uint32_t)(words[2] << 8 | words[3]) == due));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("handshake");
    TCase *tests = tcase_create("handshake");
    tcase_add_loop_test(tests, answers_of_a_server, 0, (int)W_COUNT(heads));
    tcase_add_test(tests, large_heads);
    tcase_add_test(tests, subprotocols);
    tcase_add_test(tests, who_is_let_in);
    tcase_add_test(tests, pages);
    tcase_add_test(tests, request_of_a_client);
    tcase_add_loop_test(tests, replies_to_a_client, 0, (int)W_COUNT(replies));
    tcase_add_test(tests, options_that_cannot_be);
    tcase_add_test(tests, codes);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
