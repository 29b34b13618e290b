/* SPDX-License-Identifier: MIT */
/* test_http: good heads and what they mean; each refusal by a head of its own; lists of values. */
#include "heads.h"

/* --- good ones --- */

START_TEST(a_handshake)
{
    uint32_t count = 77;
    MUST_EQUAL(judge_request(HANDSHAKE), 0);
    must_be(&parsed.method, "GET");
    must_be(&parsed.target, "/chat?room=1");
    must_be(&parsed.host, "server.example.com:8080");
    MUST(parsed.minor == 1 && parsed.keep_alive && parsed.upgrade && !parsed.has_body && parsed.status == 0);
    MUST_EQUAL(parsed.count, 9);
    must_be(&parsed.fields[1].name, "Upgrade");
    must_be(weir_http_value(&parsed, "sec-websocket-key", NULL), "dGhlIHNhbXBsZSBub25jZQ==");
    must_be(weir_http_value(&parsed, "x-empty", &count), "");
    MUST_EQUAL(count, 1);
    must_be(weir_http_value(&parsed, "x-spaces", NULL), "a \xe4 \t b");
    MUST(weir_http_value(&parsed, "x-space", &count) == NULL && count == 0);
    MUST(weir_http_list_has(&parsed, "connection", "upgrade") && weir_http_list_has(&parsed, "sec-websocket-protocol", "superchat"));
    MUST(!weir_http_list_has(&parsed, "sec-websocket-protocol", "super") && !weir_http_list_has(&parsed, "x-empty", ""));
    MUST(weir_http_text_is_ignoring_case(&parsed.fields[2].value, "KEEP-alive, upgrade") && !weir_http_text_is(&parsed.method, "get"));
}
END_TEST

START_TEST(a_response)
{
    MUST_EQUAL(judge_response("HTTP/1.1 101 Switching \xe4 \t Protocols\r\nUpgrade: websocket\r\nConnection: UPGRADE\r\n\r\n"), 0);
    MUST(parsed.status == 101 && parsed.minor == 1 && parsed.upgrade && parsed.keep_alive && !parsed.has_body);
    MUST(parsed.method.bytes == 0 && parsed.target.bytes == 0 && parsed.host.bytes == 0 && parsed.count == 2);
    MUST_EQUAL(judge_response("HTTP/1.0 599 \r\nContent-Length: 0\r\n\r\n"), 0);
    MUST(parsed.status == 599 && parsed.minor == 0 && !parsed.upgrade && !parsed.keep_alive && !parsed.has_body);
}
END_TEST

/* RFC 9112, section 6.3: from the status and the fields. */
static const struct {
    const char *start, *lines;
    bool has_body, keep_alive;
} bodies[] = {
    {"HTTP/1.1 200 OK", "", true, false},
    {"HTTP/1.1 200 OK", "Content-Length: 0\r\n", false, true},
    {"HTTP/1.1 200 OK", "Content-Length: 0\r\nConnection: close\r\n", false, false},
    {"HTTP/1.1 404 Not Found", "Content-Length: 10\r\n", true, true},
    {"HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", true, true},
    {"HTTP/1.1 101 X", "", false, true},
    {"HTTP/1.1 199 X", "Content-Length: 1\r\n", false, true},
    {"HTTP/1.1 204 X", "Transfer-Encoding: chunked\r\n", false, true},
    {"HTTP/1.1 304 X", "Content-Length: 7\r\n", false, true},
    {"HTTP/1.1 305 X", "", true, false},
    {"GET / HTTP/1.1", "Host:\r\n", false, true},
    {"GET / HTTP/1.1", "Host:\r\nContent-Length: 000\r\n", false, true},
    {"GET / HTTP/1.1", "Host:\r\nContent-Length: 010\r\n", true, true},
    {"GET / HTTP/1.1", "Host:\r\nContent-Length:  9999999999999999999 \r\n", true, true},
    {"GET / HTTP/1.1", "Host:\r\nContent-Length: 0000000000000000001\r\n", true, true},
    {"GET / HTTP/1.1", "Host:\r\nTransfer-Encoding: chunked\r\n", true, true},
    {"GET / HTTP/1.1", "Host:\r\nTransfer-Encoding: , ,Chunked ,\r\n", true, true},
    {"GET / HTTP/1.1", "Host:\r\nConnection: a\r\nconnection: b, ,CLOSE\r\n", false, false},
    {"GET / HTTP/1.1", "Host:\r\nConnection: closed\r\n", false, true},
    {"GET / HTTP/1.9", "Host:\r\n", false, true},
    {"GET / HTTP/1.0", "", false, false},
    {"GET / HTTP/1.0", "Connection: keep-alive, upgrade\r\n", false, false},
};

START_TEST(what_follows)
{
    char head[300];
    snprintf(head, sizeof head, "%s\r\n%s\r\n", bodies[_i].start, bodies[_i].lines);
    MUST_EQUAL(bodies[_i].start[0] == 'H' ? judge_response(head) : judge_request(head), 0);
    MUST(!parsed.upgrade);
    MUST_EQUAL(parsed.has_body, bodies[_i].has_body);
    MUST_EQUAL(parsed.keep_alive, bodies[_i].keep_alive);
}
END_TEST

/* Behind a status of 0: target and host. */
static const struct {
    const char *start, *field;
    int status;
    const char *target, *host;
} targets[] = {
    {"GET / HTTP/1.1", "h", 0, "/", "h"},
    {"GET / HTTP/1.1", "", 0, "/", ""},
    {"get / HTTP/1.1", "h", 0, "/", "h"},
    {"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1", "h", 0, "/", "h"},
    {"GET //h/../?? HTTP/1.1", "h", 0, "//h/../??", "h"},
    {"GET /-._~!$&'()*+,;=:@%00%fF/?a[]=^`{|} HTTP/1.1", "h", 0, "/-._~!$&'()*+,;=:@%00%fF/?a[]=^`{|}", "h"},
    {"GET /# HTTP/1.1", "h", 400, "", ""},
    {"GET /a?b#c HTTP/1.1", "h", 400, "", ""},
    {"GET /\" HTTP/1.1", "h", 400, "", ""},
    {"GET /< HTTP/1.1", "h", 400, "", ""},
    {"GET /> HTTP/1.1", "h", 400, "", ""},
    {"GET /\\ HTTP/1.1", "h", 400, "", ""},
    {"GET /\xc3\xa4 HTTP/1.1", "h", 400, "", ""},
    {"GET /\x7f HTTP/1.1", "h", 400, "", ""},
    {"GET /\x01 HTTP/1.1", "h", 400, "", ""},
    {"GET /% HTTP/1.1", "h", 400, "", ""},
    {"GET /%a HTTP/1.1", "h", 400, "", ""},
    {"GET /%ag HTTP/1.1", "h", 400, "", ""},
    {"GET /%%41 HTTP/1.1", "h", 400, "", ""},
    {"GET a HTTP/1.1", "h", 400, "", ""},
    {"GET ?a HTTP/1.1", "h", 400, "", ""},
    {"GET http HTTP/1.1", "h", 400, "", ""},
    /* asterisk-form (RFC 9112, section 3.2.4) */
    {"OPTIONS * HTTP/1.1", "h", 0, "*", "h"},
    {"OPTIONS / HTTP/1.1", "h", 0, "/", "h"},
    {"OPTIONS ** HTTP/1.1", "h", 400, "", ""},
    {"GET * HTTP/1.1", "h", 400, "", ""},
    {"options * HTTP/1.1", "h", 400, "", ""},
    /* authority-form (section 3.2.3) */
    {"CONNECT h:80 HTTP/1.1", "h", 501, "", ""},
    {"CONNECT [::1]:80 HTTP/1.1", "h", 501, "", ""},
    {"CONNECT / HTTP/1.1", "h", 400, "", ""},
    {"CONNECT * HTTP/1.1", "h", 501, "", ""}, /* a name, if a strange one */
    {"CONNECT h:80/ HTTP/1.1", "h", 400, "", ""},
    {"CONNECT http://h:80 HTTP/1.1", "h", 400, "", ""},
    {"GET h:80 HTTP/1.1", "h", 400, "", ""},
    /* absolute-form (section 3.2.2) */
    {"GET http://example.com/a?b HTTP/1.1", "h", 0, "/a?b", "example.com"},
    {"GET http://example.com/a?b HTTP/1.1", "", 0, "/a?b", "example.com"},
    {"GET HTTPS://[2001:db8::1]:443/ HTTP/1.1", "h", 0, "/", "[2001:db8::1]:443"},
    {"GET http://example.com:80 HTTP/1.1", "h", 0, "/", "example.com:80"},
    {"OPTIONS http://example.com HTTP/1.1", "h", 0, "*", "example.com"},
    {"OPTIONS http://example.com/ HTTP/1.1", "h", 0, "/", "example.com"},
    {"GET http://a%20b/%41 HTTP/1.1", "h", 0, "/%41", "a%20b"},
    {"GET http://h/ HTTP/1.1", "a b", 400, "", ""},
    {"GET http://a%2xb/ HTTP/1.1", "h", 400, "", ""},
    {"GET http://h/%2x HTTP/1.1", "h", 400, "", ""},
    {"GET http://h?a HTTP/1.1", "h", 400, "", ""},
    {"GET http:///a HTTP/1.1", "h", 400, "", ""},
    {"GET http://:80/a HTTP/1.1", "h", 400, "", ""},
    {"GET http:// HTTP/1.1", "h", 400, "", ""},
    {"GET http:/a HTTP/1.1", "h", 400, "", ""},
    {"GET http://user@h/a HTTP/1.1", "h", 400, "", ""},
    {"GET http://user:1@h/a HTTP/1.1", "h", 400, "", ""},
    {"GET http://h:65536/ HTTP/1.1", "h", 400, "", ""},
    {"GET http://h:a/ HTTP/1.1", "h", 400, "", ""},
    {"GET http://h[/ HTTP/1.1", "h", 400, "", ""},
    {"GET ftp://h/ HTTP/1.1", "h", 400, "", ""},
    {"GET ws://h/ HTTP/1.1", "h", 400, "", ""},
    /* Host (section 3.2) */
    {"GET / HTTP/1.1", "127.0.0.1:65535", 0, "/", "127.0.0.1:65535"},
    {"GET / HTTP/1.1", "[::1]", 0, "/", "[::1]"},
    {"GET / HTTP/1.1", "a_b~!$&'()*+,;=", 0, "/", "a_b~!$&'()*+,;="},
    {"GET / HTTP/1.1", "h:", 0, "/", "h:"},
    {"GET / HTTP/1.1", "h:65536", 400, "", ""},
    {"GET / HTTP/1.1", "h:4294967376", 400, "", ""},
    {"GET / HTTP/1.1", "h:+80", 400, "", ""},
    {"GET / HTTP/1.1", "h:80:80", 400, "", ""},
    {"GET / HTTP/1.1", ":80", 400, "", ""},
    {"GET / HTTP/1.1", "::1", 400, "", ""},
    {"GET / HTTP/1.1", "[::1", 400, "", ""},
    {"GET / HTTP/1.1", "[]", 400, "", ""},
    {"GET / HTTP/1.1", "[::1]a", 400, "", ""},
    {"GET / HTTP/1.1", "[fe80::1%eth0]", 400, "", ""},
    {"GET / HTTP/1.1", "[fe80::1%25e]", 400, "", ""},
    {"GET / HTTP/1.1", "a b", 400, "", ""},
    {"GET / HTTP/1.1", "a/b", 400, "", ""},
    {"GET / HTTP/1.1", "a@b", 400, "", ""},
    {"GET / HTTP/1.1", "a%4", 400, "", ""},
    {"GET / HTTP/1.1", "\xe4", 400, "", ""},
};

START_TEST(targets_and_hosts)
{
    char head[300];
    snprintf(head, sizeof head, "%s\r\nHost: %s\r\n\r\n", targets[_i].start, targets[_i].field);
    int status = judge_request(head);
    ck_assert_msg(status == targets[_i].status, "%s with Host: %s: %d", targets[_i].start, targets[_i].field, status);
    if (status != 0)
        return;
    must_be(&parsed.target, targets[_i].target);
    must_be(&parsed.host, targets[_i].host);
}
END_TEST

/* --- refusals --- */

static const struct {
    const char *head;
    int status;
} requests[] = {
    {"GET / HTTP/1.1\r\n\r\n", 400}, /* no Host */
    {"GET / HTTP/1.0\r\n\r\n", 0},
    {"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n", 400},
    {"GET http://a/ HTTP/1.1\r\n\r\n", 400},
    {"GET http://a/ HTTP/1.0\r\n\r\n", 0},
    {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    /* versions (section 2.3) */
    {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
    {"GET / HTTP/0.9\r\n\r\n", 505},
    {"PRI * HTTP/2.0\r\n\r\n", 505},
    {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/11.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/2.00\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1,1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/x.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.x\r\nHost: a\r\n\r\n", 400},
    {"GET / http/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
    {"GET / \r\nHost: a\r\n\r\n", 400},
    {"GET /\r\nHost: a\r\n\r\n", 400},
    {"GET\r\nHost: a\r\n\r\n", 400},
    /* the start line (section 3) */
    {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"GET HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {" / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"G:T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"G\"T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"G\xe4T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"HTTP/1.1 200 OK\r\n\r\n", 400},
    /* empty lines before it (section 2.2) */
    {"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
    {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"\r\n\r\n", 400},
    {"\r\n \r\n\r\n", 400},
    /* line ends */
    {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
    {"GET / HTTP/1.1\n\n", 400},
    {"GET / HTTP/1.1\rHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\nX", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n", 400},
};

START_TEST(requests_refused)
{
    int status = judge_request(requests[_i].head);
    ck_assert_msg(status == requests[_i].status, "%s: %d", requests[_i].head, status);
}
END_TEST

static const struct {
    const char *lines;
    int status;
} fields[] = {
    {"X: 1\r\n", 0},
    {"X:1\r\nX: 2\r\n", 0},
    {"X::\r\n", 0},
    {"!#$%&'*+-.^_`|~09azAZ:\r\n", 0},
    {"X : 1\r\n", 400}, /* white space before the colon (section 5.1) */
    {"X\t: 1\r\n", 400},
    {" X: 1\r\n", 400},
    {"X: 1\r\n 2\r\n", 400}, /* obs-fold (section 5.2) */
    {"X: 1\r\n\t2\r\n", 400},
    {"X:\r\n \r\n", 400},
    {": 1\r\n", 400},
    {"X\r\n", 400},
    {"X Y: 1\r\n", 400},
    {"X(: 1\r\n", 400},
    {"X/: 1\r\n", 400},
    {"X\": 1\r\n", 400},
    {"[X]: 1\r\n", 400},
    {"\xe4: 1\r\n", 400},
    {"Content-Length: 5\r\n", 0},
    {"Content-Length: 5\r\nContent-Length: 5\r\n", 400},
    {"Content-Length: 5\r\ncontent-length: 6\r\n", 400},
    {"Content-Length: 5, 5\r\n", 400},
    {"Content-Length: 5,\r\n", 400},
    {"Content-Length: +5\r\n", 400},
    {"Content-Length: -5\r\n", 400},
    {"Content-Length: 0x5\r\n", 400},
    {"Content-Length: 5 5\r\n", 400},
    {"Content-Length: 5.0\r\n", 400},
    {"Content-Length: five\r\n", 400},
    {"Content-Length:\r\n", 400},
    {"Content-Length: 10000000000000000000\r\n", 400}, /* 20 digits */
    {"Content-Length: 00000000000000000005\r\n", 400},
    {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400},
    {"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400},
    {"Transfer-Encoding: chunked\r\n", 0},
    {"Transfer-Encoding: gzip, chunked\r\n", 501},
    {"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501},
    {"Transfer-Encoding: \"a, chunked\", chunked\r\n", 501},
    {"Transfer-Encoding: gzip\r\n", 400}, /* chunked is not the last (section 6.3) */
    {"Transfer-Encoding: chunked, gzip\r\n", 400},
    {"Transfer-Encoding: xchunked\r\n", 400},
    {"Transfer-Encoding: chunkedx\r\n", 400},
    {"Transfer-Encoding: chunked;q=1\r\n", 400},
    {"Transfer-Encoding: \"chunked\"\r\n", 400},
    {"Transfer-Encoding: gzip chunked\r\n", 400},
    {"Transfer-Encoding: identity\r\n", 400},
    {"Transfer-Encoding: chunked, chunked\r\n", 400},
    {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
    {"Transfer-Encoding:\r\n", 400},
    {"Transfer-Encoding: ,\r\n", 400},
    {"Connection: a,b ,\tc\r\n", 0},
    {"Connection:\r\n", 0},
    {"Connection: a b\r\n", 400},
    {"Connection: \"a, close\r\n", 400},
    {"Connection: close;a\r\n", 400},
};

START_TEST(fields_refused)
{
    int status = judge_lines(fields[_i].lines);
    ck_assert_msg(status == fields[_i].status, "%s: %d", fields[_i].lines, status);
}
END_TEST

static const struct {
    const char *head;
    int status;
} responses[] = {
    {"HTTP/1.1 200 OK\r\n\r\n", 0},
    {"HTTP/1.1 100 \r\n\r\n", 0},
    {"HTTP/1.1 200\r\n\r\n", 400},
    {"HTTP/1.1 099 OK\r\n\r\n", 400},
    {"HTTP/1.1 600 OK\r\n\r\n", 400},
    {"HTTP/1.1 20 OK\r\n\r\n", 400},
    {"HTTP/1.1 2000 OK\r\n\r\n", 400},
    {"HTTP/1.1 +20 OK\r\n\r\n", 400},
    {"HTTP/1.1  200 OK\r\n\r\n", 400},
    {"HTTP/1.1\t200 OK\r\n\r\n", 400},
    {"HTTP/1.1 200\tOK\r\n\r\n", 400},
    {"HTTP/1.1 200 O\x01K\r\n\r\n", 400},
    {"HTTP/1.1 200 O\x7fK\r\n\r\n", 400},
    {"HTTP/1.1 200 O\rK\r\n\r\n", 400},
    {"HTTP/1.1 200 OK\n\r\n", 400},
    {"HTTP/2.0 200 OK\r\n\r\n", 505},
    {"HTTP/1.10 200 OK\r\n\r\n", 400},
    {"http/1.1 200 OK\r\n\r\n", 400},
    {"\r\nHTTP/1.1 200 OK\r\n\r\n", 400},
    {" HTTP/1.1 200 OK\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    {"HTTP/1.1 200 OK\r\nHost: a\r\nHost: b c\r\n\r\n", 0},
    {"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", 400},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400},
    {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
    {"HTTP/1.1 204 OK\r\nContent-Length: x\r\n\r\n", 400},
};

START_TEST(responses_refused)
{
    int status = judge_response(responses[_i].head);
    ck_assert_msg(status == responses[_i].status, "%s: %d", responses[_i].head, status);
}
END_TEST

/* --- lists --- */

static const struct {
    const char *value, *members; /* members: each with a bar behind it */
} lists[] = {
    {"", ""},
    {" \t,, ,", ""},
    {"a", "a|"},
    {"a,b", "a|b|"},
    {" ,a ,\tb c , ,d\t", "a|b c|d|"},
    {"\"a,b\",c", "\"a,b\"|c|"},
    {"x=\"a\\\",b\" ; y, c", "x=\"a\\\",b\" ; y|c|"},
    {"x=\"a\\\\\",b", "x=\"a\\\\\"|b|"},
    {"\"a,b", "\"a,b|"},
    {"\"a,b\\", "\"a,b\\|"},
    {"\\,a", "\\|a|"},
    {"\"", "\"|"},
};

START_TEST(members)
{
    char found[100] = "";
    char *copy = exactly(lists[_i].value, (uint32_t)strlen(lists[_i].value));
    weir_http_text rest = {copy, (uint32_t)strlen(lists[_i].value)}, member;
    while (weir_http_next(&rest, &member)) {
        strncat(found, member.data, member.bytes);
        strcat(found, "|");
    }
    MUST(!weir_http_next(&rest, &member) && rest.bytes == 0);
    ck_assert_str_eq(found, lists[_i].members);
    free(copy);
}
END_TEST

START_TEST(lists_of_several_fields)
{
    uint32_t count;
    MUST_EQUAL(judge_lines("Accept: a, B\r\nX:\r\naccept:\r\nACCEPT: c;q=1, \"d, e\", f\r\n"), 0);
    MUST(weir_http_list_has(&parsed, "accept", "a") && weir_http_list_has(&parsed, "accept", "b") &&
         weir_http_list_has(&parsed, "accept", "f"));
    MUST(!weir_http_list_has(&parsed, "accept", "c") && !weir_http_list_has(&parsed, "accept", "d") &&
         !weir_http_list_has(&parsed, "accept", "e"));
    MUST(!weir_http_list_has(&parsed, "accept", "") && !weir_http_list_has(&parsed, "y", "a"));
    MUST(weir_http_value(&parsed, "accept", &count) == NULL && count == 3);
    MUST(weir_http_value(&parsed, "accept", NULL) == NULL);
}
END_TEST

START_TEST(nothing_is_a_text_too)
{
    weir_http_text nothing = {0}, member;
    MUST(weir_http_text_is(&nothing, "") && !weir_http_text_is(&nothing, "a"));
    MUST(weir_http_text_is_ignoring_case(&nothing, "") && !weir_http_next(&nothing, &member));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *tests = tcase_create("http");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_handshake);
    tcase_add_test(tests, a_response);
    ADD_TABLE(what_follows, bodies);
    ADD_TABLE(targets_and_hosts, targets);
    ADD_TABLE(requests_refused, requests);
    ADD_TABLE(fields_refused, fields);
    ADD_TABLE(responses_refused, responses);
    ADD_TABLE(members, lists);
    tcase_add_test(tests, lists_of_several_fields);
    tcase_add_test(tests, nothing_is_a_text_too);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
