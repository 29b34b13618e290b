/* SPDX-License-Identifier: MIT */
/* test_session: connections whose codec has a session, by the one that weir has: WebSocket. What the handler sees and what the peer reads: the handshake, messages in
 * parts, questions, the end, and all of it without memory. The test is the peer, byte by byte; and at last both ends are weir's. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/weir.h>

#include "runtime/base.h"
#include "web.h"

/* What the handler has seen, and what it is to do. */
static struct seen {
    char data[1 << 20];
    uint32_t bytes, messages;
    uint8_t kind;
    int laters;       /* so many messages more are answered WEIR_LATER first */
    bool holds;       /* the message is kept, */
    weir_blob *kept;  /* here */
    int answer;       /* when it is not 0: on_message's */
    int open_answer;  /* on_open's */
    char target[256]; /* that on_open found in the handshake */
    uint32_t peer_code;
    weir_conn *waiting; /* has been answered WEIR_LATER */
} seen;

static int session_opened(weir_conn *conn)
{
    const weir_message *said = weir_conn_handshake(conn);
    weir_http_head head;
    rig.opens++;
    MUST(said != NULL);
    if (weir_http_parse_request((const char *)said->data, said->bytes, &head) == 0)
        snprintf(seen.target, sizeof seen.target, "%.*s", (int)head.target.bytes, head.target.data);
    return seen.open_answer;
}

static int session_message(weir_conn *conn, const weir_message *message)
{
    MUST(weir_conn_handshake(conn) == NULL);
    if (seen.laters > 0) {
        seen.laters--;
        seen.waiting = conn;
        return WEIR_LATER;
    }
    MUST(message->bytes <= sizeof seen.data);
    if (message->bytes > 0)
        memcpy(seen.data, message->data, message->bytes);
    seen.bytes = message->bytes;
    seen.kind = message->kind;
    seen.messages++;
    if (seen.holds)
        seen.kept = weir_hold(conn, message);
    return seen.answer;
}

static void session_closed(weir_conn *conn, const weir_close_event *event)
{
    seen.peer_code = event->peer_code;
    rig_closed(conn, event);
}

static weir_websocket_options server_options, client_options;
static weir_protocol server, client;

static void open_rig(void)
{
    rig_open();
    memset(&seen, 0, sizeof seen);
    server_options = (weir_websocket_options){.message_max_bytes = 1 << 20};
    client_options = (weir_websocket_options){.client = true, .host = "example", .kind = WEIR_WEBSOCKET_BINARY};
    server = (weir_protocol){
        .name = "session", .on_open = session_opened, .on_message = session_message, .on_ready = rig_ready, .on_close = session_closed};
    client = server;
    MUST_EQUAL(weir_codec_websocket(&server.codec, &server_options), 0);
    MUST_EQUAL(weir_codec_websocket(&client.codec, &client_options), 0);
}

/* A connection whose handshake is done. */
static weir_id shake(void)
{
    int peer = rig.peer_count;
    weir_id id = rig_connect(0, &server);
    say(peer, REQUEST, sizeof REQUEST - 1);
    must_hear(peer, RESPONSE, sizeof RESPONSE - 1);
    return id;
}

/* --- the handshake --- */

START_TEST(opens_when_it_is_whole)
{
    open_rig();
    weir_id id = rig_connect(0, &server);
    for (size_t i = 0; i < sizeof REQUEST - 1; i++) {
        weir_conn *conn = rig_conn(0, id);
        MUST_EQUAL(rig.opens, 0);
        MUST_EQUAL(weir_send(conn, "x", 1), -ENOTCONN);
        MUST_EQUAL(weir_send_control(conn, "x", 1), -ENOTCONN);
        say(0, &REQUEST[i], 1);
    }
    MUST_EQUAL(rig.opens, 1);
    ck_assert_str_eq(seen.target, "/chat?room=1");
    MUST_EQUAL(weir_send(rig_conn(0, id), "hello", 5), 0);
    rig_turn();
    must_hear(0, RESPONSE "\x81\x05hello", sizeof RESPONSE - 1 + 7);
    rig_close();
}
END_TEST

/* What the client sends at once behind its handshake is not lost, and no answer overtakes the handshake's. */
START_TEST(messages_behind_the_handshake)
{
    uint8_t data[1024];
    open_rig();
    rig_connect(0, &server);
    memcpy(data, REQUEST, sizeof REQUEST - 1);
    uint32_t bytes = sizeof REQUEST - 1;
    bytes += masked(data + bytes, FIN | PING, "?", 1);
    bytes += masked(data + bytes, FIN | TEXT, "one", 3);
    bytes += masked(data + bytes, FIN | BINARY, "two", 3);
    say(0, data, bytes);
    MUST_EQUAL(seen.messages, 2);
    MUST_EQUAL(seen.kind, WEIR_WEBSOCKET_BINARY);
    MUST(memcmp(seen.data, "two", 3) == 0);
    must_hear(0, RESPONSE "\x8a\x01?", sizeof RESPONSE + 2);
    weir_stats stats;
    weir_runtime_stats(rig.runtime, &stats);
    MUST_EQUAL(stats.messages_in, 2);
    rig_close();
}
END_TEST

static const struct {
    const char *request, *status;
} refused[] = {
    {"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405 "},
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 "},
    {"\x16\x03\x01\x02", "HTTP/1.1 400 "}, /* TLS */
};

START_TEST(refused_handshakes)
{
    weir_stats stats;
    open_rig();
    rig_connect(0, &server);
    say(0, refused[_i].request, strlen(refused[_i].request));
    uint32_t bytes = rig_read(0, heard, sizeof heard);
    MUST(bytes > 13 && memcmp(heard, refused[_i].status, 13) == 0);
    MUST(has_ended(0));
    close(rig.peers[0]);
    rig_turn();
    MUST_EQUAL(rig.opens, 0);
    MUST_EQUAL(rig.closes[WEIR_REASON_HANDSHAKE], 1); /* adopted: it is told of */
    weir_runtime_stats(rig.runtime, &stats);
    MUST_EQUAL(stats.closed[WEIR_REASON_HANDSHAKE], 1);
    MUST_EQUAL(stats.messages_in, 0);
    rig_close();
}
END_TEST

START_TEST(on_open_refuses)
{
    open_rig();
    seen.open_answer = -EACCES;
    rig_connect(0, &server);
    say(0, REQUEST, sizeof REQUEST - 1);
    MUST_EQUAL(rig.opens, 1);
    MUST_EQUAL(rig.closes[WEIR_REASON_REFUSED], 1);
    rig_close();
}
END_TEST

/* Some bytes every now and then do not help. */
START_TEST(a_late_handshake)
{
    open_rig();
    server.limits.handshake_ns = 60 * WEIR_MILLISECOND;
    rig_connect(0, &server);
    for (size_t i = 0; i < 12; i++) {
        MUST(i > 3 || rig.closes[WEIR_REASON_HANDSHAKE_LATE] == 0);
        send(rig.peers[0], &REQUEST[i], 1, MSG_NOSIGNAL);
        usleep(10000);
        rig_turn();
    }
    MUST_EQUAL(rig.closes[WEIR_REASON_HANDSHAKE_LATE], 1);
    MUST_EQUAL(rig.opens, 0);
    rig_close();
}
END_TEST

/* Paused before it is open, and after: the handshake waits, and nothing of it is lost. */
START_TEST(a_paused_handshake)
{
    open_rig();
    weir_id id = rig_connect(0, &server);
    say(0, REQUEST, 20);
    weir_pause(rig_conn(0, id));
    say(0, &REQUEST[20], sizeof REQUEST - 21);
    MUST_EQUAL(rig.opens, 0);
    weir_resume(rig_conn(0, id));
    rig_turn();
    MUST_EQUAL(rig.opens, 1);
    must_hear(0, RESPONSE, sizeof RESPONSE - 1);
    rig_close();
}
END_TEST

static const weir_http_page pages[] = {{.path = "/", .type = "text/plain", .body = "a page", .bytes = 6}, {.path = NULL}};
#define PAGE_REQUEST  "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define PAGE_RESPONSE "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\na page"

/* Pages come first, as often as one likes, and then the handshake, on the same connection. */
START_TEST(pages_before_the_handshake)
{
    open_rig();
    server_options.pages = pages;
    rig_connect(0, &server);
    say(0, PAGE_REQUEST PAGE_REQUEST, 2 * (sizeof PAGE_REQUEST - 1));
    must_hear(0, PAGE_RESPONSE PAGE_RESPONSE, 2 * (sizeof PAGE_RESPONSE - 1));
    say(0, PAGE_REQUEST REQUEST, sizeof PAGE_REQUEST + sizeof REQUEST - 2);
    must_hear(0, PAGE_RESPONSE RESPONSE, sizeof PAGE_RESPONSE + sizeof RESPONSE - 2);
    MUST_EQUAL(rig.opens, 1);
    rig_close();
}
END_TEST

/* Who was given a page and wants nothing more is idle, not late; who then begins something is late. */
START_TEST(pages_and_then_nothing)
{
    weir_stats stats;
    open_rig();
    server_options.pages = pages;
    server.limits.handshake_ns = 30 * WEIR_MILLISECOND;
    rig_connect(0, &server);
    say(0, PAGE_REQUEST, sizeof PAGE_REQUEST - 1);
    must_hear(0, PAGE_RESPONSE, sizeof PAGE_RESPONSE - 1);
    if (_i == 1)
        say(0, PAGE_REQUEST, 10);
    for (int i = 0; i < 10; i++) {
        usleep(10000);
        rig_turn();
    }
    MUST_EQUAL(rig.closes[_i == 0 ? WEIR_REASON_IDLE : WEIR_REASON_HANDSHAKE_LATE], 1);
    weir_runtime_stats(rig.runtime, &stats);
    MUST(stats.never_opened == 0 && stats.accepted == 0); /* it was adopted: that is told */
    rig_close();
}
END_TEST

/* Who asks for pages and reads none of them is not asked for more than the high-water mark holds, and gets each of them when he reads. */
START_TEST(pages_that_nobody_reads)
{
    static char body[60000], flood[(sizeof PAGE_REQUEST - 1) * 100];
    weir_http_page big[] = {{.path = "/", .type = "text/plain", .body = body, .bytes = sizeof body}, {.path = NULL}};
    weir_stats stats;
    open_rig();
    server_options.pages = big;
    memset(body, 'x', sizeof body);
    for (int i = 0; i < 100; i++)
        memcpy(flood + i * (sizeof PAGE_REQUEST - 1), PAGE_REQUEST, sizeof PAGE_REQUEST - 1);
    rig_connect(0, &server);
    say(0, flood, sizeof flood);
    weir_runtime_stats(rig.runtime, &stats);
    MUST(stats.queued_bytes > 0 && stats.queued_bytes < 256 * 1024 + sizeof body + 200);
    uint64_t bytes = 0;
    for (int i = 0; i < 1000; i++) {
        bytes += rig_read(0, heard, sizeof heard);
        rig_turn();
    }
    MUST(bytes > 100 * sizeof body && bytes < 100 * (sizeof body + 200));
    say(0, REQUEST, sizeof REQUEST - 1);
    must_hear(0, RESPONSE, sizeof RESPONSE - 1);
    rig_close();
}
END_TEST

/* --- messages --- */

START_TEST(later_and_the_same_again)
{
    open_rig();
    shake();
    seen.laters = 3;
    uint8_t data[256];
    uint32_t bytes = masked(data, FIN | TEXT, "as it was", 9);
    bytes += masked(data + bytes, FIN | TEXT, "next", 4);
    say(0, data, bytes);
    for (int i = 0; i < 3; i++) {
        MUST_EQUAL(seen.messages, 0);
        weir_resume(seen.waiting);
        rig_turn();
    }
    MUST_EQUAL(seen.messages, 2);
    MUST(seen.bytes == 4 && memcmp(seen.data, "next", 4) == 0);
    rig_close();
}
END_TEST

/* Each cut of a stream of frames into two pieces, with a message that has to wait at first: nothing is unmasked twice. */
START_TEST(every_cut)
{
    uint8_t data[512];
    uint32_t bytes = masked(data, TEXT, "gr\xc3", 3); /* a character that is divided */
    bytes += masked(data + bytes, FIN | PING, "?", 1);
    bytes += masked(data + bytes, 0, "\xbc\xc3\x9f", 3);
    bytes += masked(data + bytes, FIN, "e", 1);
    bytes += masked(data + bytes, FIN | BINARY, "\xff\xfe", 2);
    for (uint32_t at = 1; at < bytes; at++) {
        open_rig();
        shake();
        seen.laters = (int)(at % 3);
        say(0, data, at);
        say(0, data + at, bytes - at);
        for (int i = 0; i < 2; i++)
            if (seen.waiting != NULL) {
                weir_resume(seen.waiting);
                rig_turn();
            }
        MUST_EQUAL(seen.messages, 2);
        MUST(seen.kind == WEIR_WEBSOCKET_BINARY && seen.bytes == 2 && memcmp(seen.data, "\xff\xfe", 2) == 0);
        must_hear(0, "\x8a\x01?", 3);
        rig_close();
    }
}
END_TEST

START_TEST(parts_are_put_together)
{
    static char whole[100 * 1000];
    weir_stats stats;
    open_rig();
    shake();
    for (uint32_t i = 0; i < sizeof whole; i++)
        whole[i] = (char)('a' + i % 26);
    for (uint32_t i = 0; i < 100; i++)
        say_frame(0, (uint8_t)((i == 0 ? BINARY : 0) | (i == 99 ? FIN : 0)), whole + i * 1000, 1000);
    MUST_EQUAL(seen.messages, 1);
    MUST_EQUAL(seen.kind, WEIR_WEBSOCKET_BINARY);
    MUST(seen.bytes == sizeof whole && memcmp(seen.data, whole, sizeof whole) == 0);
    weir_runtime_stats(rig.runtime, &stats);
    MUST_EQUAL(stats.messages_in, 1);
    /* One that waits, and one that is kept. */
    seen.laters = 1;
    seen.holds = true;
    say_frame(0, TEXT, "ke", 2);
    say_frame(0, FIN, "pt", 2);
    MUST_EQUAL(seen.messages, 1);
    weir_resume(seen.waiting);
    rig_turn();
    MUST_EQUAL(seen.messages, 2);
    seen.holds = false;
    say_frame(0, FIN | TEXT, "other", 5);
    MUST(seen.kept != NULL);
    weir_blob_release(&seen.kept);
    rig_close();
}
END_TEST

/* A blob of parts is a copy: it stays as it was. */
START_TEST(kept_parts)
{
    static char big[8192];
    open_rig();
    shake();
    memset(big, 'k', sizeof big);
    seen.holds = true;
    say_frame(0, TEXT, big, sizeof big);
    say_frame(0, FIN, big, sizeof big);
    weir_blob *kept = seen.kept;
    seen.holds = false;
    MUST(kept != NULL);
    memset(big, 'o', sizeof big);
    say_frame(0, TEXT, big, sizeof big);
    say_frame(0, FIN, big, sizeof big);
    MUST_EQUAL(weir_blob_bytes(kept), 2 * sizeof big);
    for (uint32_t i = 0; i < 2 * sizeof big; i++)
        MUST(weir_blob_data(kept)[i] == 'k');
    weir_blob_release(&kept);
    rig_close();
}
END_TEST

/* Parts that come too slowly are a message that is too slow, and an end among them is one in mid-message. */
START_TEST(parts_that_do_not_end)
{
    open_rig();
    server.limits.message_ns = 40 * WEIR_MILLISECOND;
    shake();
    for (int i = 0; i < 20; i++) {
        uint8_t frame[16];
        send(rig.peers[0], frame, masked(frame, i == 0 ? TEXT : 0, "x", 1), MSG_NOSIGNAL);
        usleep(5000);
        rig_turn();
    }
    MUST_EQUAL(rig.closes[WEIR_REASON_MESSAGE_LATE], 1);
    server.limits.message_ns = 0;
    rig_close();
    open_rig();
    shake();
    say_frame(0, TEXT, "x", 1);
    shutdown(rig.peers[0], SHUT_WR);
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_TRUNCATED], 1);
    rig_close();
}
END_TEST

/* --- questions --- */

/* A flood of pings in one read: the first is answered, and of those that come while its answer waits the newest. */
START_TEST(a_flood_of_pings)
{
    uint8_t flood[1000 * 10];
    uint32_t bytes = 0;
    open_rig();
    shake();
    for (int i = 0; i < 1000; i++) {
        char text[16];
        snprintf(text, sizeof text, "%04d", i);
        bytes += masked(flood + bytes, FIN | PING, text, 4);
    }
    say(0, flood, bytes);
    must_hear(0,
              "\x8a\x04"
              "0000"
              "\x8a\x04"
              "0999",
              12);
    MUST_EQUAL(seen.messages, 0);
    rig_close();
}
END_TEST

/* A pong does not wait behind data, and pongs that nobody asked for are taken. */
START_TEST(a_pong_goes_first)
{
    static char big[400 * 1024];
    open_rig();
    weir_id id = shake();
    memset(big, 'x', sizeof big);
    for (int i = 0; i < 5; i++) { /* more than the socket takes */
        MUST_EQUAL(weir_send(rig_conn(0, id), big, i == 0 ? 240 * 1024 : 50 * 1024), 0);
        rig_turn();
    }
    say_frame(0, FIN | PONG, "unasked", 7);
    say_frame(0, FIN | PING, "now", 3);
    uint32_t all = 0;
    for (int i = 0; i < 100; i++) {
        all += rig_read(0, heard + all, sizeof heard - all);
        rig_turn();
    }
    MUST_EQUAL(all, 10 + 240 * 1024 + 5 + 4 * (4 + 50 * 1024));
    const uint8_t *pong = memmem(heard, all, "\x8a\x03now", 5);
    MUST(pong != NULL && pong <= heard + 10 + 240 * 1024 + 4 + 50 * 1024);
    rig_close();
}
END_TEST

START_TEST(our_own_pings)
{
    open_rig();
    weir_id id = shake();
    MUST_EQUAL(weir_send_control_kind(rig_conn(0, id), WEIR_WEBSOCKET_PING, "there?", 6), 0);
    MUST_EQUAL(weir_send_control_kind(rig_conn(0, id), WEIR_WEBSOCKET_PING, heard, 126), -EMSGSIZE);
    MUST_EQUAL(weir_send_kind(rig_conn(0, id), 3, "x", 1), -EINVAL);
    MUST_EQUAL(weir_send_kind(rig_conn(0, id), WEIR_WEBSOCKET_BINARY, "\xff", 1), 0);
    MUST_EQUAL(weir_send(rig_conn(0, id), "\xff", 1), -EBADMSG);
    rig_turn();
    must_hear(0, "\x89\x06there?\x82\x01\xff", 11);
    rig_close();
}
END_TEST

/* --- the end --- */

START_TEST(the_peer_closes)
{
    static const struct {
        const char *payload;
        uint32_t bytes, code;
        const char *answer;
        uint32_t answer_bytes;
    } closes[] = {
        {"", 0, 1005, "\x88\x00", 2},
        {"\x03\xe9", 2, 1001, "\x88\x02\x03\xe9", 4},
        {"\x0f\xa0"
         "bye",
         5, 4000, "\x88\x02\x0f\xa0", 4},
    };
    open_rig();
    weir_id id = shake();
    MUST_EQUAL(weir_send(rig_conn(0, id), "before", 6), 0);
    say_frame(0, FIN | CLOSE, closes[_i].payload, closes[_i].bytes);
    uint32_t bytes = rig_read(0, heard, sizeof heard);
    MUST_EQUAL(bytes, 8 + closes[_i].answer_bytes);
    MUST(memcmp(heard + 8, closes[_i].answer, closes[_i].answer_bytes) == 0);
    MUST(has_ended(0)); /* the server closes first */
    close(rig.peers[0]);
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_PEER], 1);
    MUST_EQUAL(seen.peer_code, closes[_i].code);
    rig_close();
}
END_TEST

static const struct {
    uint8_t first;
    const char *payload;
    uint32_t bytes;
    weir_reason reason;
    uint32_t code;
} broken[] = {
    {FIN | 0x40 | TEXT, "x", 1, WEIR_REASON_BAD_MESSAGE, 1002},  {FIN | TEXT, "\xc0\x80", 2, WEIR_REASON_BAD_MESSAGE, 1007},
    {FIN | CLOSE, "\x03\xed", 2, WEIR_REASON_BAD_MESSAGE, 1002}, {FIN | CLOSE, "\x03\xe8\xff", 3, WEIR_REASON_BAD_MESSAGE, 1007},
    {FIN | BINARY, NULL, 5000, WEIR_REASON_TOO_BIG, 1009},       {FIN | TEXT, "refused by the handler", 22, WEIR_REASON_HANDLER, 1011},
};

START_TEST(errors_have_their_codes)
{
    static const char zeros[5000];
    open_rig();
    server_options.message_max_bytes = 4096;
    MUST_EQUAL(weir_codec_websocket(&server.codec, &server_options), 0);
    seen.answer = -ENOSYS;
    weir_id id = shake();
    MUST_EQUAL(weir_send(rig_conn(0, id), "before", 6), 0);
    say_frame(0, broken[_i].first, broken[_i].payload != NULL ? broken[_i].payload : zeros, broken[_i].bytes);
    uint32_t bytes = rig_read(0, heard, sizeof heard);
    MUST_EQUAL(bytes, 12);
    MUST(memcmp(heard,
                "\x81\x06"
                "before\x88\x02",
                10) == 0);
    MUST_EQUAL(heard[10] << 8 | heard[11], broken[_i].code);
    MUST(has_ended(0));
    close(rig.peers[0]);
    rig_turn();
    MUST_EQUAL(rig.closes[broken[_i].reason], 1);
    rig_close();
}
END_TEST

/* Our Close goes out behind everything, that of own channels too. */
START_TEST(we_close)
{
    weir_channel *channel;
    open_rig();
    weir_id id = shake();
    weir_port *port = rig_port();
    MUST_EQUAL(weir_channel_open(port, id, NULL, &channel), 0);
    rig_turn();
    MUST_EQUAL(weir_channel_send(channel, "own", 3), 0);
    MUST_EQUAL(weir_send(rig_conn(0, id), "local", 5), 0);
    if (_i == 0)
        weir_end(rig_conn(0, id));
    else
        weir_websocket_end(rig_conn(0, id), 4711);
    rig_turn();
    uint32_t bytes = rig_read(0, heard, sizeof heard);
    MUST_EQUAL(bytes, 5 + 7 + 4);
    MUST(memcmp(heard + 12, _i == 0 ? "\x88\x02\x03\xe8" : "\x88\x02\x12\x67", 4) == 0);
    say_frame(0, FIN | TEXT, "too late", 8);
    close(rig.peers[0]);
    rig_turn();
    MUST_EQUAL(seen.messages, 0);
    MUST_EQUAL(rig.closes[WEIR_REASON_LOCAL], 1);
    weir_channel_close(&channel);
    weir_port_close(&port);
    rig_close();
}
END_TEST

/* More in an own channel than one send may carry, and than the socket takes: the last words wait for all of it. */
START_TEST(we_close_behind_much)
{
    static char payload[1000];
    weir_channel *channel;
    uint32_t messages = 0, bytes = 0;
    open_rig();
    weir_id id = shake();
    weir_port *port = rig_port();
    memset(payload, 'o', sizeof payload);
    MUST_EQUAL(weir_channel_open(port, id, &(weir_channel_options){.bytes = 1 << 20}, &channel), 0);
    rig_turn();
    for (; messages < 800; messages++)
        MUST_EQUAL(weir_channel_send(channel, payload, sizeof payload), 0);
    rig_turn();
    weir_end(rig_conn(0, id));
    for (int i = 0; i < 200; i++) {
        rig_turn();
        bytes += rig_read(0, heard + bytes, sizeof heard - bytes);
    }
    MUST_EQUAL(bytes, messages * (4 + sizeof payload) + 4);
    MUST(memcmp(heard + bytes - 4, "\x88\x02\x03\xe8", 4) == 0);
    close(rig.peers[0]);
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_LOCAL], 1);
    weir_channel_close(&channel);
    weir_port_close(&port);
    rig_close();
}
END_TEST

/* --- memory --- */

/* A session that needs more than a slot has set aside for it: a piece of the pool, which comes home. */
START_TEST(a_large_session)
{
    weir_stats stats;
    open_rig();
    weir_session large = *server.codec.session;
    large.bytes = 3000;
    server.codec.session = &large;
    shake();
    weir_runtime_stats(rig.runtime, &stats);
    MUST(stats.memory_bytes >= 3000);
    say_frame(0, FIN | TEXT, "one", 3);
    MUST_EQUAL(seen.messages, 1);
    close(rig.peers[0]);
    rig_turn();
    weir_runtime_stats(rig.runtime, &stats);
    MUST_EQUAL(stats.memory_bytes, 0);
    rig_close();
}
END_TEST

/* What no session can be is refused before it begins. */
START_TEST(sessions_that_cannot_be)
{
    weir_error error;
    open_rig();
    weir_session impossible[] = {*server.codec.session, *server.codec.session, *server.codec.session};
    impossible[0].bytes = 1;
    impossible[1].bytes = WEIR_SESSION_MAX_BYTES + 1;
    impossible[2].take = NULL;
    for (size_t i = 0; i < W_COUNT(impossible); i++) {
        server.codec.session = &impossible[i];
        MUST_EQUAL(weir_listen(rig.runtime, "tcp://127.0.0.1:0", &server, NULL, NULL, &error), -EINVAL);
        MUST(strstr(error.sentence, "codec.session") != NULL);
    }
    rig_close();
}
END_TEST

/* Slots are used again, and their sessions with them: nothing of an earlier tenant is left. */
START_TEST(one_after_the_other)
{
    open_rig();
    for (int i = 0; i < 2 * RIG_PEERS / 3; i++) {
        shake();
        say_frame(i, TEXT, "begun", 5); /* and left in the middle of a message */
        close(rig.peers[i]);
        rig_turn();
    }
    MUST_EQUAL(rig.closes[WEIR_REASON_TRUNCATED], 2 * RIG_PEERS / 3);
    rig_close();
}
END_TEST

/* All that a connection does, with memory for so many pieces and no more: it ends by name, or is refused, and nothing is left behind. */
START_TEST(without_memory)
{
    static char big[9000];
    open_rig();
    rig_adopt(0, &server);
    rig.allocations_left = _i;
    rig_turn();
    send(rig.peers[0], REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL);
    rig_turn();
    uint8_t data[128];
    uint32_t bytes = masked(data, TEXT, "in", 2);
    bytes += masked(data + bytes, FIN | PING, "1", 1);
    bytes += masked(data + bytes, FIN | PING, "2", 1);
    bytes += masked(data + bytes, FIN, "parts", 5);
    send(rig.peers[0], data, bytes, MSG_NOSIGNAL);
    rig_turn();
    static uint8_t frame[10000];
    uint32_t frame_bytes = masked(frame, FIN | BINARY, big, sizeof big);
    send(rig.peers[0], frame, 5000, MSG_NOSIGNAL);
    rig_turn();
    send(rig.peers[0], frame + 5000, frame_bytes - 5000, MSG_NOSIGNAL);
    rig_turn();
    rig_read(0, heard, sizeof heard);
    bool ended = rig.closes[WEIR_REASON_NO_MEMORY] + rig.closes[WEIR_REASON_MEMORY] == 1;
    MUST(ended || seen.messages == 2);
    MUST(ended || _i > 0);
    rig.allocations_left = -1;
    rig_close();
}
END_TEST

/* --- both ends are ours --- */

static weir_id server_id, client_id;

static void connect_both(uint32_t client_shard)
{
    int ends[2];
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    MUST_EQUAL(weir_adopt(rig.shards[0], ends[0], &server, NULL, &server_id), 0);
    MUST_EQUAL(weir_adopt(rig.shards[client_shard], ends[1], &client, NULL, &client_id), 0);
    rig_turn();
    MUST_EQUAL(rig.opens, 2);
}

static void must_have_come(const void *data, uint32_t bytes, uint8_t kind)
{
    for (int i = 0; i < 50 && seen.messages == 0; i++)
        rig_turn();
    MUST_EQUAL(seen.messages, 1);
    MUST_EQUAL(seen.kind, kind);
    MUST(seen.bytes == bytes && memcmp(seen.data, data, bytes) == 0);
    seen.messages = 0;
}

static const uint32_t sizes[] = {0, 1, 4, 125, 126, 127, 4095, 4096, 5000, 65000, 65535, 65536, 200000};

/* Every way of sending, both ways: the client's is masked, and comes as it was. */
START_TEST(every_way_of_sending)
{
    static char payload[200000];
    weir_channel *channel;
    weir_group group;
    weir_room room;
    bool from_client = _i % 2 == 1;
    uint32_t bytes = sizes[_i / 2];
    open_rig();
    connect_both(1);
    for (uint32_t i = 0; i < sizeof payload; i++)
        payload[i] = (char)('a' + (i * 7 + i / 26) % 26);
    uint32_t shard = from_client ? 1 : 0;
    weir_id id = from_client ? client_id : server_id;
    weir_conn *conn = rig_conn(shard, id);
    uint8_t kind = from_client ? WEIR_WEBSOCKET_BINARY : WEIR_WEBSOCKET_TEXT;
    weir_port *port = rig_port();
    MUST_EQUAL(weir_send(conn, payload, bytes), 0);
    must_have_come(payload, bytes, kind);
    MUST_EQUAL(weir_send_kind(conn, WEIR_WEBSOCKET_TEXT, payload, bytes), 0);
    must_have_come(payload, bytes, WEIR_WEBSOCKET_TEXT);
    if (bytes < 3900) {
        MUST_EQUAL(weir_send_control(conn, payload, bytes), 0);
        must_have_come(payload, bytes, kind);
    }
    if (weir_reserve(conn, bytes, &room) == 0) {
        memcpy(room.data, payload, bytes);
        MUST_EQUAL(weir_commit(conn, bytes), 0);
        must_have_come(payload, bytes, kind);
    } else {
        MUST(bytes > WEIR_RESERVE_MAX_BYTES);
    }
    MUST_EQUAL(weir_port_send(port, id, payload, bytes), 0);
    must_have_come(payload, bytes, kind);
    MUST_EQUAL(weir_group_open(rig.runtime, &group), 0);
    MUST_EQUAL(weir_group_join(weir_shard_port(rig.shards[shard]), group, id), 0);
    rig_turn();
    MUST_EQUAL(weir_group_send(port, group, payload, bytes, (weir_id){0}), 0);
    must_have_come(payload, bytes, kind);
    MUST_EQUAL(weir_channel_open(port, id, &(weir_channel_options){.bytes = 1 << 20}, &channel), 0);
    rig_turn();
    MUST_EQUAL(weir_channel_send(channel, payload, bytes), 0);
    must_have_come(payload, bytes, kind);
    MUST_EQUAL(weir_channel_reserve(channel, bytes, &room), 0);
    memcpy(room.data, payload, bytes);
    MUST_EQUAL(weir_channel_commit(channel, bytes), 0);
    must_have_come(payload, bytes, kind);
    weir_channel_close(&channel);
    weir_port_close(&port);
    rig_close();
}
END_TEST

/* What was received goes back as the kind that it was, large ones by reference where that can be. */
static int echo(weir_conn *conn, const weir_message *message)
{
    return weir_forward(conn, message, conn);
}

START_TEST(forwarded)
{
    static char payload[200000];
    open_rig();
    server.on_message = echo;
    connect_both(1);
    memset(payload, 'f', sizeof payload);
    for (size_t i = 0; i < W_COUNT(sizes); i++) {
        MUST_EQUAL(weir_send(rig_conn(1, client_id), payload, sizes[i]), 0);
        must_have_come(payload, sizes[i], WEIR_WEBSOCKET_BINARY);
        MUST_EQUAL(weir_send_kind(rig_conn(1, client_id), WEIR_WEBSOCKET_TEXT, payload, sizes[i]), 0);
        must_have_come(payload, sizes[i], WEIR_WEBSOCKET_TEXT);
    }
    rig_close();
}
END_TEST

/* Whoever begins: both sides end well, and the client waits for the server to close first. */
START_TEST(both_close)
{
    open_rig();
    connect_both((uint32_t)_i / 2);
    uint32_t shard = _i % 2 == 0 ? 0 : (uint32_t)_i / 2;
    weir_end(rig_conn(shard, _i % 2 == 0 ? server_id : client_id));
    rig_turn();
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_LOCAL], 1);
    MUST_EQUAL(rig.closes[WEIR_REASON_PEER], 1);
    rig_close();
}
END_TEST

/* A server that says something else: the client does not open. */
START_TEST(a_server_that_is_none)
{
    static const char *const answers[] = {
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
        RESPONSE, /* the answer to another question */
        "220 smtp.example ESMTP\r\n",
    };
    open_rig();
    rig_connect(0, &client);
    uint32_t bytes = rig_read(0, heard, sizeof heard);
    MUST(bytes > 14 && memcmp(heard, "GET / HTTP/1.1", 14) == 0);
    say(0, answers[_i], strlen(answers[_i]));
    close(rig.peers[0]);
    rig_turn();
    MUST_EQUAL(rig.opens, 0);
    MUST_EQUAL(rig.closes[_i == 2 ? WEIR_REASON_TRUNCATED : WEIR_REASON_HANDSHAKE], 1);
    MUST_EQUAL(seen.peer_code, _i == 0 ? 403 : _i == 1 ? 101 : 0);
    rig_close();
}
END_TEST

/* Between a connection of frames and one of WebSocket. */
START_TEST(piped)
{
    open_rig();
    weir_id id = shake(), frames = rig_connect(0, &rig.frames);
    MUST_EQUAL(weir_pipe(rig_conn(0, id), frames), 0);
    rig_turn();
    say_frame(0, FIN | TEXT, "over", 4);
    must_hear(1, "\x04\0\0\0over", 8);
    say(1, "\x04\0\0\0back", 8);
    must_hear(0,
              "\x81\x04"
              "back",
              6);
    say_frame(0, FIN | PING, "?", 1);
    must_hear(0, "\x8a\x01?", 3);
    shutdown(rig.peers[1], SHUT_WR);
    rig_turn();
    must_hear(0, "\x88\x02\x03\xe8", 4);
    MUST(has_ended(0));
    rig_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *tests = tcase_create("session");
    tcase_add_test(tests, opens_when_it_is_whole);
    tcase_add_test(tests, messages_behind_the_handshake);
    tcase_add_loop_test(tests, refused_handshakes, 0, (int)W_COUNT(refused));
    tcase_add_test(tests, on_open_refuses);
    tcase_add_test(tests, a_late_handshake);
    tcase_add_test(tests, a_paused_handshake);
    tcase_add_test(tests, pages_before_the_handshake);
    tcase_add_loop_test(tests, pages_and_then_nothing, 0, 2);
    tcase_add_test(tests, pages_that_nobody_reads);
    tcase_add_test(tests, later_and_the_same_again);
    tcase_add_test(tests, every_cut);
    tcase_add_test(tests, parts_are_put_together);
    tcase_add_test(tests, kept_parts);
    tcase_add_test(tests, parts_that_do_not_end);
    tcase_add_test(tests, a_flood_of_pings);
    tcase_add_test(tests, a_pong_goes_first);
    tcase_add_test(tests, our_own_pings);
    tcase_add_loop_test(tests, the_peer_closes, 0, 3);
    tcase_add_loop_test(tests, errors_have_their_codes, 0, (int)W_COUNT(broken));
    tcase_add_loop_test(tests, we_close, 0, 2);
    tcase_add_test(tests, we_close_behind_much);
    tcase_add_test(tests, a_large_session);
    tcase_add_test(tests, sessions_that_cannot_be);
    tcase_add_test(tests, one_after_the_other);
    tcase_add_loop_test(tests, without_memory, 0, 16);
    tcase_add_loop_test(tests, every_way_of_sending, 0, 2 * (int)W_COUNT(sizes));
    tcase_add_test(tests, forwarded);
    tcase_add_loop_test(tests, both_close, 0, 4);
    tcase_add_loop_test(tests, a_server_that_is_none, 0, 3);
    tcase_add_test(tests, piped);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
