/* SPDX-License-Identifier: MIT */
/* heads: heads of HTTP are judged for the tests of proto/http. However a head is divided on its way, its end or what is wrong with it has to be the same; each
 * call sees no more bytes than it may, and of those before the last two none that is right. */
#ifndef TEST_HEADS_H
#define TEST_HEADS_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "must.h"
#include <weir/http.h>

#define HANDSHAKE                                                                                                                          \
    "GET /chat?room=1 HTTP/1.1\r\nHost: server.example.com:8080\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"              \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n"             \
    "Sec-WebSocket-Version: 13\r\nX-Empty:\r\nX-Spaces: \t a \xe4 \t b\t \r\n\r\n"

#define TEXT_MAX_BYTES 20000u
#define HEAD_MAX_BYTES 16384u

/* A head that is written piece by piece. */
struct text {
    uint32_t bytes;
    char data[TEXT_MAX_BYTES];
};

static inline void add(struct text *text, const char *data, uint32_t bytes)
{
    MUST(bytes <= sizeof text->data - text->bytes);
    memcpy(text->data + text->bytes, data, bytes);
    text->bytes += bytes;
}

static inline void add_string(struct text *text, const char *string)
{
    add(text, string, (uint32_t)strlen(string));
}

static inline void add_many(struct text *text, char c, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        add(text, &c, 1);
}

/* In memory of its own size, so that a look beyond it is found. */
static inline char *exactly(const char *data, uint32_t bytes)
{
    char *copy = malloc(bytes);
    memcpy(copy, data, bytes);
    return copy;
}

/* --- where the head ends --- */

struct end {
    int status;
    uint32_t head_bytes, scanned_bytes;
};

static inline bool is_answer(const struct end *end)
{
    return end->status != 0 || end->head_bytes != 0;
}

/* So many bytes are there. What is further back than two bytes before those that were scanned is nonsense: it has been looked at. */
static inline void arrive(struct end *end, const char *data, uint32_t bytes, uint32_t head_max_bytes)
{
    char *copy = exactly(data, bytes);
    uint32_t scanned_bytes = end->scanned_bytes;
    if (scanned_bytes > 2)
        memset(copy, 0, scanned_bytes - 2);
    end->status = weir_http_head_end(copy, bytes, head_max_bytes, &end->scanned_bytes, &end->head_bytes);
    free(copy);
    MUST(end->status == 0 || end->status == 400 || end->status == 431);
    MUST(end->scanned_bytes >= scanned_bytes && end->scanned_bytes <= bytes && end->head_bytes <= bytes);
    MUST(is_answer(end) || end->scanned_bytes == bytes);
}

static inline struct end whole(const char *data, uint32_t bytes, uint32_t head_max_bytes)
{
    struct end end = {0};
    arrive(&end, data, bytes, head_max_bytes);
    return end;
}

/* In two pieces, cut anywhere; byte by byte: what is said is what the whole says, and no byte later. Asked again, it says it again. */
static inline void must_not_depend_on_division(const char *data, uint32_t bytes, uint32_t head_max_bytes)
{
    struct end expected = whole(data, bytes, head_max_bytes), dribble = {0};
    uint32_t said_at = 0;
    for (uint32_t i = 0; i <= bytes && !is_answer(&dribble); i++) {
        arrive(&dribble, data, i, head_max_bytes);
        said_at = i;
    }
    MUST(dribble.status == expected.status && dribble.head_bytes == expected.head_bytes);
    for (uint32_t cut = 0; cut <= bytes; cut++) {
        struct end end = {0};
        arrive(&end, data, cut, head_max_bytes);
        MUST_EQUAL(is_answer(&end), is_answer(&expected) && cut >= said_at);
        arrive(&end, data, bytes, head_max_bytes);
        MUST(end.status == expected.status && end.head_bytes == expected.head_bytes);
    }
}

/* --- heads as a whole --- */

typedef int (*parse_function)(const char *data, uint32_t bytes, weir_http_head *head);

static weir_http_head parsed;
static char *parsed_data; /* what `parsed` has pieces of */

/* The answer to these bytes as a head. If they are good, they have to end where they end; a half of them is none. */
static inline int judge(parse_function parse, const char *data, uint32_t bytes)
{
    weir_http_head part;
    free(parsed_data);
    parsed_data = exactly(data, bytes);
    int status = parse(parsed_data, bytes, &parsed);
    struct end end = whole(data, bytes, HEAD_MAX_BYTES);
    must_not_depend_on_division(data, bytes, HEAD_MAX_BYTES);
    if (status != 0) {
        MUST(end.status == 0 || status == 400); /* where this says 400, that one does */
        return status;
    }
    MUST(end.status == 0 && end.head_bytes == bytes);
    for (uint32_t cut = 0; cut < bytes; cut++) {
        char *copy = exactly(data, cut);
        MUST_EQUAL(parse(copy, cut, &part), 400);
        free(copy);
    }
    return 0;
}

static inline int judge_request(const char *string)
{
    return judge(weir_http_parse_request, string, (uint32_t)strlen(string));
}

static inline int judge_response(const char *string)
{
    return judge(weir_http_parse_response, string, (uint32_t)strlen(string));
}

/* A request whose start line and Host are good, with these lines behind them. */
static inline int judge_lines(const char *lines)
{
    static char request[TEXT_MAX_BYTES];
    snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    return judge_request(request);
}

static inline void must_be(const weir_http_text *text, const char *string)
{
    ck_assert_msg(weir_http_text_is(text, string), "'%.*s' should be '%s'", (int)text->bytes, text->bytes > 0 ? text->data : "", string);
}

/* One test for each row. */
#define ADD_TABLE(test, table) tcase_add_loop_test(tests, test, 0, (int)(sizeof(table) / sizeof *(table)))

#endif
