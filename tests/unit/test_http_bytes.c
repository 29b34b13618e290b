/* SPDX-License-Identifier: MIT */
/* test_http_bytes: what is wrong is said at its byte; any control character at any place; heads at their limits and one over; what is written is read again;
 * nearly good heads, by seed. */
#include "chance.h"
#include "heads.h"

/* --- bytes --- */

/* The first bytes of what is no head, up to the one by which that is seen. */
static const char *const seen_at_once[] = {
    "\n",
    "\ra",
    "\r\n\r",
    "\r\n\n",
    "\x7f",
    "\x1f",
    "GET / HTTP/1.1\n",
    "GET / HTTP/1.1\r\r",
    "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\ra",
};

START_TEST(said_at_once)
{
    const char *string = seen_at_once[_i];
    uint32_t bytes = (uint32_t)strlen(string);
    MUST_EQUAL(whole(string, bytes, HEAD_MAX_BYTES).status, 400);
    struct end before = whole(string, bytes - 1, HEAD_MAX_BYTES);
    MUST(!is_answer(&before));
    MUST_EQUAL(whole("\0", 1, HEAD_MAX_BYTES).status, 400);
    must_not_depend_on_division(string, bytes, HEAD_MAX_BYTES);
}
END_TEST

/* One byte more, or another, at any place: a control character is refused wherever it is, but HTAB in a value or around it. */
START_TEST(control_characters)
{
    static const char head[] = "\r\nGET /a HTTP/1.1\r\nHost: a\r\nX: b c\r\n\r\n";
    const uint32_t bytes = sizeof head - 1, host = (uint32_t)(strstr(head, " a\r") - head), value = (uint32_t)(strstr(head, " b c") - head);
    char again[sizeof head + 1], c = (char)(_i < 32 ? _i : 127);
    for (uint32_t at = 0; at <= bytes; at++) {
        bool tab_in_value = c == '\t' && ((at >= host && at <= host + 2) || (at >= value && at <= value + 4));
        memcpy(again, head, at);
        again[at] = c;
        memcpy(again + at + 1, head + at, bytes - at);
        MUST_EQUAL(judge(weir_http_parse_request, again, bytes + 1), tab_in_value ? 0 : 400);
        if (c != '\t' && at < bytes - (c == '\n'))                        /* there it is the first byte behind the head */
            MUST_EQUAL(whole(again, at + 2, HEAD_MAX_BYTES).status, 400); /* a CR is found out by what is behind it */
        if (at == bytes || head[at] == c)
            continue;
        memcpy(again + at + 1, head + at + 1, bytes - at - 1);
        MUST_EQUAL(judge(weir_http_parse_request, again, bytes), tab_in_value && head[at] != '\r' ? 0 : 400);
    }
}
END_TEST

/* --- limits --- */

START_TEST(limit_of_target)
{
    static struct text text;
    for (int absolute = 0; absolute <= 1; absolute++)
        for (uint32_t target_bytes = 4095; target_bytes <= 4097; target_bytes++) {
            text.bytes = 0;
            add_string(&text, absolute ? "GET http://a/" : "GET /");
            add_many(&text, 'a', target_bytes - (absolute ? 9 : 1));
            add_string(&text, " HTTP/1.1\r\nHost: a\r\n\r\n");
            char *copy = exactly(text.data, text.bytes);
            MUST_EQUAL(weir_http_parse_request(copy, text.bytes, &parsed), target_bytes > 4096 ? 414 : 0);
            free(copy);
        }
}
END_TEST

START_TEST(limit_of_fields)
{
    static struct text text;
    for (uint32_t count = WEIR_HTTP_FIELDS_MAX; count <= WEIR_HTTP_FIELDS_MAX + 1; count++) {
        text.bytes = 0;
        add_string(&text, "GET / HTTP/1.1\r\n");
        for (uint32_t i = 1; i < count; i++)
            add_string(&text, "a:\r\n");
        add_string(&text, "Host: last\r\n\r\n");
        MUST_EQUAL(judge(weir_http_parse_request, text.data, text.bytes), count > WEIR_HTTP_FIELDS_MAX ? 431 : 0);
        if (count <= WEIR_HTTP_FIELDS_MAX)
            must_be(&parsed.host, "last");
    }
}
END_TEST

/* A head of exactly the limit is one; of one byte more is none, whatever follows. */
START_TEST(limit_of_head)
{
    static const char good[] = HANDSHAKE "\x81\x05Hello";
    const uint32_t head_bytes = sizeof HANDSHAKE - 1, bytes = sizeof good - 1;
    for (uint32_t limit = 0; limit <= bytes + 1; limit++) {
        struct end end = whole(good, bytes, limit);
        MUST_EQUAL(end.status, limit < head_bytes ? 431 : 0);
        MUST_EQUAL(end.head_bytes, limit < head_bytes ? 0 : head_bytes);
        if (limit < head_bytes) {
            MUST_EQUAL(whole(good, limit, limit).status, 431);
            MUST(limit == 0 || whole(good, limit - 1, limit).status == 0);
        }
        if (limit % 7 == 0 || limit + 1 >= head_bytes)
            must_not_depend_on_division(good, bytes, limit);
    }
}
END_TEST

/* A control character counts only within the limit. */
START_TEST(limit_and_nonsense)
{
    static const char bad[] = "GET / HTTP/1.1\r\nHost: a\x01\r\n\r\n";
    const uint32_t bytes = sizeof bad - 1, at = (uint32_t)(strchr(bad, 1) - bad);
    for (uint32_t limit = 0; limit <= bytes; limit++) {
        MUST_EQUAL(whole(bad, bytes, limit).status, limit <= at ? 431 : 400);
        must_not_depend_on_division(bad, bytes, limit);
    }
}
END_TEST

/* The largest head, byte by byte: scanned_bytes goes along with what is there, so each byte is looked at once (arrive() spoils those that were). */
START_TEST(dribbling)
{
    static struct text text;
    struct end end = {0};
    text.bytes = 0;
    add_string(&text, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    add_many(&text, 'x', 4000);
    add_string(&text, "\r\n\r\n");
    for (uint32_t i = 1; i < text.bytes; i++) {
        arrive(&end, text.data, i, text.bytes);
        MUST(!is_answer(&end) && end.scanned_bytes == i);
    }
    arrive(&end, text.data, text.bytes, text.bytes);
    MUST(end.status == 0 && end.head_bytes == text.bytes);
}
END_TEST

/* --- what is written --- */

START_TEST(written)
{
    char head[200];
    uint32_t bytes = weir_http_write_head(head, sizeof head, 404, "text/plain", 18, false, NULL);
    ck_assert_str_eq((head[bytes] = '\0', head),
                     "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\nConnection: close\r\n\r\n");
    bytes = weir_http_write_head(head, sizeof head, 101, NULL, 0, true, "Upgrade: websocket\r\nConnection: Upgrade\r\n");
    ck_assert_str_eq((head[bytes] = '\0', head), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n");
    bytes = weir_http_write_head(head, sizeof head, 200, NULL, UINT64_MAX, true, NULL);
    ck_assert_str_eq((head[bytes] = '\0', head), "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n");
    ck_assert_str_eq(weir_http_status_phrase(400), "Bad Request");
    ck_assert_str_eq(weir_http_status_phrase(299), "");
}
END_TEST

/* Whatever is written is read as it was meant; in less room it is not written at all. */
START_TEST(written_and_read)
{
    for (int how = 0; how < 8; how++) {
        char head[300];
        bool keep_alive = how & 1;
        uint64_t content_bytes = (uint64_t)how * 1000;
        const char *type = how & 2 ? "text/html" : NULL, *more = how & 4 ? "X-A: b\r\nX-C:\r\n" : NULL;
        uint32_t bytes = weir_http_write_head(head, sizeof head, _i, type, content_bytes, keep_alive, more);
        MUST_EQUAL(judge(weir_http_parse_response, head, bytes), 0);
        MUST(parsed.status == _i && parsed.minor == 1 && parsed.keep_alive == keep_alive);
        MUST_EQUAL(parsed.has_body, content_bytes > 0 && _i >= 200 && _i != 204 && _i != 304);
        MUST((weir_http_value(&parsed, "content-length", NULL) != NULL) == (_i >= 200 && _i != 204));
        MUST((weir_http_value(&parsed, "content-type", NULL) != NULL) == (type != NULL));
        MUST((weir_http_value(&parsed, "x-a", NULL) != NULL) == (more != NULL));
        for (uint32_t room = 0; room <= bytes; room++) {
            char *to = malloc(room);
            MUST_EQUAL(weir_http_write_head(to, room, _i, type, content_bytes, keep_alive, more), room < bytes ? 0 : bytes);
            free(to);
        }
    }
}
END_TEST

/* --- anything --- */

/* Good heads with a few bytes changed, put in or left out: nothing depends on how they are divided, and what is good ends where it ends. */
START_TEST(nearly_good)
{
    static const char *const pieces[] = {"\r\n", "\r", "\n", " ",       "\t",       ":", ",",
                                         "\"",   "%",  "/",  "http://", "HTTP/1.1", "*", "\r\nHost: b"};
    struct chance chance = {(uint64_t)_i};
    static struct text text;
    uint32_t good = 0;
    for (int round = 0; round < 60; round++) {
        char from[sizeof HANDSHAKE];
        uint32_t bytes = sizeof HANDSHAKE - 1, at = (uint32_t)chance_below(&chance, bytes), left_out = (uint32_t)chance_below(&chance, 3);
        memcpy(from, HANDSHAKE, bytes);
        if (chance_one_in(&chance, 2))
            from[chance_below(&chance, bytes)] = (char)chance_u64(&chance);
        text.bytes = 0;
        add(&text, from, at);
        if (chance_one_in(&chance, 2))
            add_string(&text, pieces[chance_below(&chance, sizeof pieces / sizeof *pieces)]);
        at += left_out < bytes - at ? left_out : bytes - at;
        add(&text, from + at, bytes - at);
        good += judge(weir_http_parse_request, text.data, text.bytes) == 0;
    }
    MUST(good > 5 && good < 55);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_bytes");
    TCase *tests = tcase_create("http_bytes");
    tcase_set_timeout(tests, 60);
    ADD_TABLE(said_at_once, seen_at_once);
    tcase_add_loop_test(tests, control_characters, 0, 33);
    tcase_add_test(tests, limit_of_target);
    tcase_add_test(tests, limit_of_fields);
    tcase_add_test(tests, limit_of_head);
    tcase_add_test(tests, limit_and_nonsense);
    tcase_add_test(tests, dribbling);
    tcase_add_test(tests, written);
    tcase_add_loop_test(tests, written_and_read, 100, 600);
    tcase_add_loop_test(tests, nearly_good, 0, 10);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
