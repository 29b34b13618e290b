/* SPDX-License-Identifier: MIT */
/* deflate_offer: what client and server agree on (RFC 7692, sections 5 and 7.1).
 *
 * Road:    each offer of Sec-WebSocket-Extensions, the one that the client likes best first -> its parameters -> the first that can be met -> terms, answer.
 * Ditches: another extension, a parameter that is not known, twice, or out of its range -> that offer is declined, and the next one looked at. */
#include <stdio.h>
#include <string.h>

#include "proto/deflate.h"

#define BITS_MIN 8u
#define BITS_MAX 15u

/* An offer's parameters. */
struct offer {
    bool server_forgets, client_forgets; /* ..._no_context_takeover */
    bool client_bits_there;              /* client_max_window_bits, with a value or without */
    uint8_t server_bits, client_bits;    /* 0: not said */
};

bool w_deflate_options_are_good(const weir_websocket_deflate *options)
{
    return (options->window_bits_sent == 0 || (options->window_bits_sent >= BITS_MIN && options->window_bits_sent <= BITS_MAX)) &&
           (options->window_bits_received == 0 ||
            (options->window_bits_received >= BITS_MIN && options->window_bits_received <= BITS_MAX)) &&
           options->level <= 9;
}

static weir_http_text offer_trim(weir_http_text text)
{
    while (text.bytes > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = (weir_http_text){text.data + 1, text.bytes - 1};
    while (text.bytes > 0 && (text.data[text.bytes - 1] == ' ' || text.data[text.bytes - 1] == '\t'))
        text.bytes--;
    return text;
}

/* What stands before the next `separator`, and takes it away with it: no value that is known here has one in quotes. */
static weir_http_text offer_cut(weir_http_text *rest, char separator)
{
    const char *end = memchr(rest->data, separator, rest->bytes);
    weir_http_text piece = {rest->data, end == NULL ? rest->bytes : (uint32_t)(end - rest->data)};
    uint32_t gone = piece.bytes + (end != NULL);
    *rest = (weir_http_text){rest->data + gone, rest->bytes - gone};
    return offer_trim(piece);
}

/* 8 to 15 in decimal digits, perhaps in quotes; 0: it is not. */
static uint8_t offer_bits(weir_http_text value)
{
    static const char *const bits[] = {"8", "9", "10", "11", "12", "13", "14", "15"};
    if (value.bytes >= 2 && value.data[0] == '"' && value.data[value.bytes - 1] == '"')
        value = (weir_http_text){value.data + 1, value.bytes - 2};
    for (uint8_t i = 0; i < sizeof bits / sizeof bits[0]; i++)
        if (weir_http_text_is(&value, bits[i]))
            return (uint8_t)(BITS_MIN + i);
    return 0;
}

/* False: it is none that is known, or stood there before. */
static bool offer_parameter(struct offer *offer, weir_http_text parameter)
{
    bool has_value = memchr(parameter.data, '=', parameter.bytes) != NULL;
    weir_http_text value = parameter, name = offer_cut(&value, '=');
    uint8_t bits = has_value ? offer_bits(offer_trim(value)) : 0;
    bool *flag = weir_http_text_is_ignoring_case(&name, "server_no_context_takeover")   ? &offer->server_forgets
                 : weir_http_text_is_ignoring_case(&name, "client_no_context_takeover") ? &offer->client_forgets
                                                                                        : NULL;
    if (flag != NULL) {
        bool good = !has_value && !*flag;
        *flag = true;
        return good;
    }
    if (has_value && bits == 0)
        return false;
    if (weir_http_text_is_ignoring_case(&name, "server_max_window_bits")) {
        bool good = has_value && offer->server_bits == 0;
        offer->server_bits = bits;
        return good;
    }
    if (weir_http_text_is_ignoring_case(&name, "client_max_window_bits")) {
        bool good = !offer->client_bits_there;
        offer->client_bits_there = true;
        offer->client_bits = bits;
        return good;
    }
    return false;
}

static bool offer_parse(weir_http_text text, struct offer *offer)
{
    *offer = (struct offer){0};
    weir_http_text name = offer_cut(&text, ';');
    if (!weir_http_text_is_ignoring_case(&name, "permessage-deflate"))
        return false;
    while (text.bytes > 0)
        if (!offer_parameter(offer, offer_cut(&text, ';')))
            return false;
    return true;
}

static uint8_t least_bits(uint8_t a, uint8_t b)
{
    a = a == 0 ? BITS_MAX : a;
    b = b == 0 ? BITS_MAX : b;
    return a < b ? a : b;
}

static void deflate_agree(const weir_websocket_deflate *options, const struct offer *offer, struct w_deflate_terms *terms,
                          char answer[W_DEFLATE_ANSWER_BYTES])
{
    char sent[32] = "", received[32] = "";
    *terms = (struct w_deflate_terms){
        .sent_bits = least_bits(options->window_bits_sent, offer->server_bits),
        .received_bits = offer->client_bits_there ? least_bits(options->window_bits_received, offer->client_bits) : BITS_MAX,
        .keep_sent = options->keep_sent && !offer->server_forgets,
        .keep_received = options->keep_received && !offer->client_forgets,
    };
    if (offer->server_bits != 0 || terms->sent_bits < BITS_MAX)
        snprintf(sent, sizeof sent, "; server_max_window_bits=%u", terms->sent_bits);
    if (offer->client_bits != 0 || terms->received_bits < BITS_MAX)
        snprintf(received, sizeof received, "; client_max_window_bits=%u", terms->received_bits);
    snprintf(answer, W_DEFLATE_ANSWER_BYTES, "permessage-deflate%s%s%s%s", terms->keep_sent ? "" : "; server_no_context_takeover",
             terms->keep_received ? "" : "; client_no_context_takeover", sent, received);
}

bool w_deflate_choose(const weir_websocket_deflate *options, const weir_http_head *request, struct w_deflate_terms *terms,
                      char answer[W_DEFLATE_ANSWER_BYTES])
{
    for (uint32_t i = 0; i < request->count; i++) {
        weir_http_text rest = request->fields[i].value, member;
        struct offer offer;
        if (!weir_http_text_is_ignoring_case(&request->fields[i].name, "sec-websocket-extensions"))
            continue;
        while (weir_http_next(&rest, &member))
            if (offer_parse(member, &offer)) {
                deflate_agree(options, &offer, terms, answer);
                return true;
            }
    }
    return false;
}
