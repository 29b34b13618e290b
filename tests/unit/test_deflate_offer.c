/* SPDX-License-Identifier: MIT */
/* test_deflate_offer: permessage-deflate is negotiated (RFC 7692, sections 5 and 7.1): which offers are taken, with which terms, what is answered; and which options
 * can be. What is done then: test_deflate.c. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "must.h"
#include "proto/deflate.h"
#include "runtime/base.h"

#define OFFER(text)    "Sec-WebSocket-Extensions: " text "\r\n"
#define DEFLATE        "permessage-deflate"
#define NOBODY_KEEPS   "; server_no_context_takeover; client_no_context_takeover"
#define SERVER_FORGETS "; server_no_context_takeover"
#define CLIENT_FORGETS "; client_no_context_takeover"

static const weir_websocket_deflate nothing_kept = {.enabled = true},
                                    all_kept = {.enabled = true, .keep_sent = true, .keep_received = true},
                                    small = {.enabled = true, .window_bits_sent = 10, .window_bits_received = 12};

/* answer NULL: none is taken. */
static const struct {
    const weir_websocket_deflate *options;
    const char *fields, *answer;
    uint8_t sent_bits, received_bits;
    bool keep_sent, keep_received;
} offers[] = {
    {&nothing_kept, "", NULL, 0, 0, false, false},
    {&nothing_kept, OFFER("permessage-inflate"), NULL, 0, 0, false, false},
    {&nothing_kept, OFFER("permessage-deflate"), DEFLATE NOBODY_KEEPS, 15, 15, false, false},
    {&nothing_kept, "sec-websocket-extensions: PerMessage-Deflate\r\n", DEFLATE NOBODY_KEEPS, 15, 15, false, false},
    {&all_kept, OFFER("permessage-deflate"), DEFLATE, 15, 15, true, true},
    {&all_kept, OFFER("permessage-deflate; server_no_context_takeover"), DEFLATE SERVER_FORGETS, 15, 15, false, true},
    {&all_kept, OFFER("permessage-deflate;client_no_context_takeover"), DEFLATE CLIENT_FORGETS, 15, 15, true, false},
    {&all_kept, OFFER("permessage-deflate; client_no_context_takeover ; server_no_context_takeover"), DEFLATE NOBODY_KEEPS, 15, 15, false,
     false},
    /* What browsers send, and ws. */
    {&all_kept, OFFER("permessage-deflate; client_max_window_bits"), DEFLATE, 15, 15, true, true},
    {&small, OFFER("permessage-deflate; client_max_window_bits"),
     DEFLATE NOBODY_KEEPS "; server_max_window_bits=10; client_max_window_bits=12", 10, 12, false, false},
    {&small, OFFER("permessage-deflate"), DEFLATE NOBODY_KEEPS "; server_max_window_bits=10", 10, 15, false, false},
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits=8; client_max_window_bits=8"),
     DEFLATE "; server_max_window_bits=8; client_max_window_bits=8", 8, 8, true, true},
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits=15; client_max_window_bits=15"),
     DEFLATE "; server_max_window_bits=15; client_max_window_bits=15", 15, 15, true, true},
    {&small, OFFER("permessage-deflate; server_max_window_bits=14; client_max_window_bits=9"),
     DEFLATE NOBODY_KEEPS "; server_max_window_bits=10; client_max_window_bits=9", 10, 9, false, false},
    {&small, OFFER("permessage-deflate; server_max_window_bits=\"9\""), DEFLATE NOBODY_KEEPS "; server_max_window_bits=9", 9, 15, false,
     false},
    {&all_kept, OFFER("permessage-deflate ; server_max_window_bits = 9"), DEFLATE "; server_max_window_bits=9", 9, 15, true, true},
    /* What is no offer that can be met, alone and before one that can. */
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits=7"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits=16"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits=08"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits=1 0"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits="), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; client_max_window_bits=\"\""), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; client_max_window_bits="), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; client_max_window_bits=10; client_max_window_bits=10"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; client_max_window_bits; client_max_window_bits"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; server_no_context_takeover; server_no_context_takeover"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; server_no_context_takeover=1"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; client_no_context_takeover="), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; dictionary"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; ; client_max_window_bits"), NULL, 0, 0, false, false},
    {&all_kept, OFFER("permessage-deflate; dictionary, permessage-deflate; server_max_window_bits=9"), DEFLATE "; server_max_window_bits=9",
     9, 15, true, true},
    {&all_kept, OFFER("x; a=\"1, permessage-deflate\", permessage-deflate"), DEFLATE, 15, 15, true, true},
    {&all_kept, OFFER("x-webkit-deflate-frame") "X: y\r\n" OFFER("permessage-deflate"), DEFLATE, 15, 15, true, true},
};

START_TEST(each_offer)
{
    char text[512], answer[W_DEFLATE_ANSWER_BYTES];
    weir_http_head head;
    struct w_deflate_terms terms;
    int bytes = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", offers[_i].fields);
    MUST_EQUAL(weir_http_parse_request(text, (uint32_t)bytes, &head), 0);
    bool taken = w_deflate_choose(offers[_i].options, &head, &terms, answer);
    MUST_EQUAL(taken, offers[_i].answer != NULL);
    if (!taken)
        return;
    ck_assert_str_eq(answer, offers[_i].answer);
    MUST_EQUAL(terms.sent_bits, offers[_i].sent_bits);
    MUST_EQUAL(terms.received_bits, offers[_i].received_bits);
    MUST_EQUAL(terms.keep_sent, offers[_i].keep_sent);
    MUST_EQUAL(terms.keep_received, offers[_i].keep_received);
}
END_TEST

START_TEST(options_that_can_be)
{
    weir_codec codec;
    static const weir_websocket_deflate impossible[] = {
        {.window_bits_sent = 7}, {.window_bits_sent = 16}, {.window_bits_received = 7}, {.window_bits_received = 16}, {.level = 10}};
    for (size_t i = 0; i < W_COUNT(impossible); i++) {
        weir_websocket_options options = {.deflate = impossible[i]};
        MUST_EQUAL(weir_codec_websocket(&codec, &options), -EINVAL);
        options.deflate.enabled = true;
        MUST_EQUAL(weir_codec_websocket(&codec, &options), -EINVAL);
    }
    weir_websocket_options of_client = {.client = true, .host = "a", .deflate = {.enabled = true}}, of_server = {.deflate = all_kept};
    MUST_EQUAL(weir_codec_websocket(&codec, &of_client), -EINVAL);
#ifdef WEIR_DEFLATE
    MUST_EQUAL(weir_codec_websocket(&codec, &of_server), 0);
#else
    MUST_EQUAL(weir_codec_websocket(&codec, &of_server), -ENOTSUP);
#endif
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("deflate_offer");
    TCase *tests = tcase_create("deflate_offer");
    tcase_add_loop_test(tests, each_offer, 0, (int)W_COUNT(offers));
    tcase_add_test(tests, options_that_can_be);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
