/* SPDX-License-Identifier: MIT */
/* handshake: how an HTTP request becomes a WebSocket (RFC 6455, section 4), and what else is answered beside.
 *
 * Server:  head whole -> parsed -> an upgrade? -> version, key, `allow`, sub-protocol -> 101, OPEN. A plain GET -> one of the pages, and the next head.
 * Client:  request with a nonce -> head whole -> 101, the nonce answered, nothing that was not offered -> OPEN.
 * Ditches: no head of HTTP's, or too large, a method or version that is not served, a refusal of `allow` -> answered by its status with a sentence, and the end. */
#include "proto/websocket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base64.h"
#include "proto/deflate.h"
#include "proto/sha1.h"

#define DEFAULT_HEAD_MAX_BYTES     (UINT32_C(8) << 10)
#define REQUEST_MAX_BYTES          1024u
#define VERSION                    "13"
#define SUBPROTOCOLS_MAX           64u
#define SUBPROTOCOL_MAX_CHARACTERS 128u
#define KEY_CHARACTERS             W_BASE64_CHARACTERS(W_WEBSOCKET_NONCE_BYTES)
#define ACCEPT_CHARACTERS          W_BASE64_CHARACTERS(W_SHA1_BYTES)
/* Whoever names an Upgrade says so in Connection too (RFC 9110, section 7.8). */
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\n"
/* Section 1.3: what a server that knows WebSocket puts behind the key. */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

static uint32_t handshake_head_max_bytes(const weir_codec *codec)
{
    const weir_websocket_options *options = w_websocket_options(codec);
    return options->head_max_bytes != 0 ? options->head_max_bytes : DEFAULT_HEAD_MAX_BYTES;
}

int w_handshake_cut(const weir_codec *codec, struct w_websocket *ws, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    uint32_t head_bytes = bytes; /* of what is no head, and of what comes behind a Close, take gets all that is there */
    if (ws->stage == W_WEBSOCKET_HANDSHAKE &&
        weir_http_head_end((const char *)data, bytes, handshake_head_max_bytes(codec), &cut->scanned_bytes, &head_bytes) == 0 &&
        head_bytes == 0) {
        cut->missing_bytes = 1;
        return WEIR_CUT_MORE;
    }
    if (head_bytes == 0)
        head_bytes = bytes;
    ws->state.frame = WEIR_SESSION_OWN;
    cut->frame_bytes = head_bytes;
    cut->payload_offset = 0;
    cut->payload_bytes = head_bytes;
    return WEIR_CUT_MESSAGE;
}

/* What a server answers to a key: the SHA-1 of it and the GUID. */
static void handshake_accept(const char key[KEY_CHARACTERS], char accept[ACCEPT_CHARACTERS])
{
    char text[KEY_CHARACTERS + sizeof GUID - 1];
    uint8_t digest[W_SHA1_BYTES];
    memcpy(text, key, KEY_CHARACTERS);
    memcpy(text + KEY_CHARACTERS, GUID, sizeof GUID - 1);
    w_sha1(text, sizeof text, digest);
    w_base64_encode(digest, sizeof digest, accept);
}

/* --- a server's answers --- */

/* The end, with a sentence. `more`: further fields, or NULL. */
static int handshake_refuse(weir_session_answer *answer, int status, const char *sentence, const char *more)
{
    uint32_t sentence_bytes = (uint32_t)strlen(sentence);
    answer->bytes =
        weir_http_write_head((char *)answer->data, sizeof answer->data, status, "text/plain; charset=utf-8", sentence_bytes, false, more);
    answer->body = sentence;
    answer->body_bytes = sentence_bytes;
    return -EPROTO;
}

static int handshake_refuse_head(weir_session_answer *answer, int status)
{
    switch (status) {
    case 414:
        return handshake_refuse(answer, status, "the request's target is too long\n", NULL);
    case 431:
        return handshake_refuse(answer, status, "the request's head has too many fields or bytes\n", NULL);
    case 501:
        return handshake_refuse(answer, status, "this Transfer-Encoding is not known here\n", NULL);
    case 505:
        return handshake_refuse(answer, status, "HTTP/1.1 is spoken here\n", NULL);
    default:
        return handshake_refuse(answer, status, "this is not a request of HTTP/1.1\n", NULL);
    }
}

static const weir_http_page *handshake_page(const weir_websocket_options *options, const weir_http_text *target)
{
    const char *query = memchr(target->data, '?', target->bytes);
    weir_http_text path = {target->data, query == NULL ? target->bytes : (uint32_t)(query - target->data)};
    for (const weir_http_page *page = options->pages; page != NULL && page->path != NULL; page++)
        if (weir_http_text_is(&path, page->path))
            return page;
    return NULL;
}

/* No upgrade: it may be somebody who looks at a page. */
static int handshake_answer_plain(const weir_websocket_options *options, const weir_http_head *head, weir_session_answer *answer)
{
    bool is_head = weir_http_text_is(&head->method, "HEAD");
    if (!is_head && !weir_http_text_is(&head->method, "GET"))
        return handshake_refuse(answer, 405, "only GET and HEAD are answered here\n", "Allow: GET, HEAD\r\n");
    if (options->pages == NULL)
        return handshake_refuse(answer, 426, "WebSocket is spoken here\n", UPGRADE);
    const weir_http_page *page = handshake_page(options, &head->target);
    uint32_t bytes = page == NULL ? 0 : page->bytes;
    const char *body = page == NULL ? NULL : page->text != NULL ? page->text(page->user, head, &bytes) : page->body;
    int status = page == NULL ? 404 : body == NULL ? 503 : 200;
    const char *type = "text/plain; charset=utf-8";
    if (status == 200) {
        type = page->type;
    } else {
        body = status == 404 ? "there is no such page here\n" : "this page cannot be made now\n";
        bytes = (uint32_t)strlen(body);
    }
    answer->bytes = weir_http_write_head((char *)answer->data, sizeof answer->data, status, type, bytes, head->keep_alive, NULL);
    answer->body = body;
    answer->body_bytes = is_head ? 0 : bytes;
    return head->keep_alive ? WEIR_SESSION_GO_ON : WEIR_SESSION_END;
}

/* --- a server's handshake --- */

/* The key as it stands there, or NULL: it is not sixteen bytes in base64 (section 4.2.1). */
static const char *handshake_key(const weir_http_head *head)
{
    uint8_t nonce[W_WEBSOCKET_NONCE_BYTES + 2];
    const weir_http_text *key = weir_http_value(head, "sec-websocket-key", NULL);
    if (key == NULL || key->bytes != KEY_CHARACTERS || w_base64_decode(key->data, key->bytes, nonce) != W_WEBSOCKET_NONCE_BYTES)
        return NULL;
    return key->data;
}

/* Does the client offer it? Sub-protocols' names are compared as they stand. */
static bool handshake_offers(const weir_http_head *head, const char *field, const char *name)
{
    for (uint32_t i = 0; i < head->count; i++) {
        if (!weir_http_text_is_ignoring_case(&head->fields[i].name, field))
            continue;
        weir_http_text rest = head->fields[i].value, member;
        while (weir_http_next(&rest, &member))
            if (weir_http_text_is(&member, name))
                return true;
    }
    return false;
}

/* The index of the first of ours that is offered, and one; 0: none. */
static uint8_t handshake_choose(const weir_websocket_options *options, const weir_http_head *head)
{
    for (uint32_t i = 0; options->subprotocols != NULL && options->subprotocols[i] != NULL && i < SUBPROTOCOLS_MAX; i++)
        if (handshake_offers(head, "sec-websocket-protocol", options->subprotocols[i]))
            return (uint8_t)(i + 1);
    return 0;
}

/* Adds a field to a head, if there is a value. */
static uint32_t handshake_add_field(char *to, uint32_t to_bytes, const char *name, const char *value)
{
    return *value == '\0' ? 0 : (uint32_t)snprintf(to, to_bytes, "%s: %s\r\n", name, value);
}

/* What of permessage-deflate is agreed on; "" when nothing is. */
static void handshake_choose_deflate(const weir_websocket_options *options, struct w_websocket *ws, const weir_http_head *head,
                                     char answer[W_DEFLATE_ANSWER_BYTES])
{
    answer[0] = '\0';
    if (!options->deflate.enabled)
        return;
    struct w_websocket_packing *packing = (struct w_websocket_packing *)(void *)ws; /* its session has that memory */
    ws->state.packs = w_deflate_choose(&options->deflate, head, &packing->deflate.terms, answer);
}

static int handshake_open(const weir_websocket_options *options, struct w_websocket *ws, const weir_http_head *head, const char *key,
                          weir_session_answer *answer)
{
    char accept[ACCEPT_CHARACTERS], extension[W_DEFLATE_ANSWER_BYTES], *to = (char *)answer->data;
    handshake_accept(key, accept);
    ws->subprotocol = handshake_choose(options, head);
    handshake_choose_deflate(options, ws, head, extension);
    uint32_t bytes =
        (uint32_t)snprintf(to, sizeof answer->data, "HTTP/1.1 101 Switching Protocols\r\n" UPGRADE "Sec-WebSocket-Accept: %.*s\r\n",
                           (int)sizeof accept, accept);
    bytes += handshake_add_field(to + bytes, sizeof answer->data - bytes, "Sec-WebSocket-Protocol",
                                 ws->subprotocol == 0 ? "" : options->subprotocols[ws->subprotocol - 1]);
    bytes += handshake_add_field(to + bytes, sizeof answer->data - bytes, "Sec-WebSocket-Extensions", extension);
    bytes += (uint32_t)snprintf(to + bytes, sizeof answer->data - bytes, "\r\n");
    answer->bytes = bytes;
    ws->stage = W_WEBSOCKET_OPEN;
    return WEIR_SESSION_OPEN;
}

/* Sections 4.2.1 and 4.2.2. */
static int handshake_upgrade(const weir_websocket_options *options, struct w_websocket *ws, const weir_http_head *head,
                             weir_session_answer *answer)
{
    if (!weir_http_text_is(&head->method, "GET"))
        return handshake_refuse(answer, 405, "a handshake is a GET\n", "Allow: GET\r\n");
    if (!head->upgrade || !weir_http_list_has(head, "upgrade", "websocket"))
        return handshake_refuse(answer, 400, "a handshake has Upgrade: websocket and Connection: Upgrade\n", NULL);
    const weir_http_text *version = weir_http_value(head, "sec-websocket-version", NULL);
    if (version == NULL || !weir_http_text_is(version, VERSION))
        return handshake_refuse(answer, 426, "version 13 of WebSocket is spoken here\n", UPGRADE "Sec-WebSocket-Version: " VERSION "\r\n");
    const char *key = handshake_key(head);
    if (key == NULL)
        return handshake_refuse(answer, 400, "Sec-WebSocket-Key has to be sixteen bytes in base64, once\n", NULL);
    int status = options->allow == NULL ? 0 : options->allow(options->user, head);
    if (status != 0)
        return handshake_refuse(answer, status >= 400 && status <= 599 ? status : 403, "this handshake is refused\n", NULL);
    return handshake_open(options, ws, head, key, answer);
}

int w_handshake_take_request(const weir_codec *codec, struct w_websocket *ws, const char *data, uint32_t bytes, weir_session_answer *answer)
{
    const weir_websocket_options *options = w_websocket_options(codec);
    weir_http_head head;
    uint32_t scanned_bytes = 0, head_bytes;
    int status = weir_http_head_end(data, bytes, handshake_head_max_bytes(codec), &scanned_bytes, &head_bytes);
    if (status == 0)
        status = weir_http_parse_request(data, head_bytes, &head);
    if (status == 0 && head.minor == 0)
        status = 505;
    if (status == 0 && head.has_body)
        return handshake_refuse(answer, 413, "no bodies are taken here\n", NULL);
    if (status != 0)
        return handshake_refuse_head(answer, status);
    /* Who names either half of an upgrade means one. */
    bool upgrade = weir_http_list_has(&head, "upgrade", "websocket") || weir_http_value(&head, "sec-websocket-key", NULL) != NULL;
    return upgrade ? handshake_upgrade(options, ws, &head, answer) : handshake_answer_plain(options, &head, answer);
}

bool w_handshake_subprotocols_are_good(const weir_websocket_options *options)
{
    static const char separators[] = "()<>@,;:\\\"/[]?={} \t";
    for (uint32_t i = 0; options->subprotocols != NULL && options->subprotocols[i] != NULL; i++) {
        const char *name = options->subprotocols[i];
        size_t characters = strlen(name);
        if (characters == 0 || characters > SUBPROTOCOL_MAX_CHARACTERS || i == SUBPROTOCOLS_MAX)
            return false;
        for (const char *c = name; *c != '\0'; c++)
            if (*c <= ' ' || *c > '~' || strchr(separators, *c) != NULL)
                return false;
    }
    return true;
}

/* --- a client's handshake --- */

/* What ends a line would begin another field. */
static bool handshake_is_in_line(const char *text)
{
    for (; text != NULL && *text != '\0'; text++)
        if ((uint8_t)*text < ' ' || *text == 0x7f)
            return false;
    return true;
}

uint32_t w_handshake_write_request(const weir_websocket_options *options, const uint8_t nonce[W_WEBSOCKET_NONCE_BYTES], char *to,
                                   uint32_t to_bytes)
{
    char key[KEY_CHARACTERS], names[REQUEST_MAX_BYTES] = "";
    size_t names_bytes = 0;
    weir_http_head head;
    if (options->host == NULL || !handshake_is_in_line(options->host) || !handshake_is_in_line(options->target) ||
        !handshake_is_in_line(options->origin))
        return 0;
    for (uint32_t i = 0; options->subprotocols != NULL && options->subprotocols[i] != NULL && names_bytes < sizeof names; i++)
        names_bytes +=
            (size_t)snprintf(names + names_bytes, sizeof names - names_bytes, "%s%s", i == 0 ? "" : ", ", options->subprotocols[i]);
    w_base64_encode(nonce, W_WEBSOCKET_NONCE_BYTES, key);
    const char *origin = options->origin;
    int bytes = snprintf(to, to_bytes,
                         "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %.*s\r\n"
                         "Sec-WebSocket-Version: " VERSION "\r\n%s%s%s%s%s%s%s\r\n",
                         options->target == NULL ? "/" : options->target, options->host, (int)sizeof key, key,
                         names_bytes == 0 ? "" : "Sec-WebSocket-Protocol: ", names, names_bytes == 0 ? "" : "\r\n",
                         origin == NULL ? "" : "Origin: ", origin == NULL ? "" : origin, origin == NULL ? "" : "\r\n",
                         options->fields == NULL ? "" : options->fields);
    if (names_bytes >= sizeof names || (uint32_t)bytes > REQUEST_MAX_BYTES || (uint32_t)bytes >= to_bytes)
        return 0;
    /* What is put in by the options may have said anything: it has to be what it is meant to be. */
    bool good = weir_http_parse_request(to, (uint32_t)bytes, &head) == 0 && !head.has_body && handshake_key(&head) != NULL;
    return good ? (uint32_t)bytes : 0;
}

int w_handshake_begin(const weir_codec *codec, struct w_websocket *ws, weir_session_answer *answer)
{
    if (!w_websocket_random(w_websocket_options(codec), ws->nonce, sizeof ws->nonce))
        return -EIO;
    answer->bytes = w_handshake_write_request(w_websocket_options(codec), ws->nonce, (char *)answer->data, sizeof answer->data);
    return answer->bytes > 0 ? WEIR_SESSION_GO_ON : -EINVAL;
}

/* Did the server understand, and is it one? (section 4.1, what a client must check) */
static bool handshake_is_answered(const struct w_websocket *ws, const weir_http_head *head)
{
    char key[KEY_CHARACTERS], accept[ACCEPT_CHARACTERS];
    const weir_http_text *field = weir_http_value(head, "sec-websocket-accept", NULL);
    w_base64_encode(ws->nonce, sizeof ws->nonce, key);
    handshake_accept(key, accept);
    return head->minor >= 1 && head->upgrade && weir_http_list_has(head, "upgrade", "websocket") && field != NULL &&
           field->bytes == sizeof accept && memcmp(field->data, accept, sizeof accept) == 0;
}

/* True: the server has chosen one of ours, or none. */
static bool handshake_is_chosen(const weir_websocket_options *options, struct w_websocket *ws, const weir_http_head *head)
{
    uint32_t count;
    const weir_http_text *chosen = weir_http_value(head, "sec-websocket-protocol", &count);
    if (count == 0)
        return true;
    for (uint32_t i = 0; chosen != NULL && options->subprotocols != NULL && options->subprotocols[i] != NULL && i < SUBPROTOCOLS_MAX; i++)
        if (weir_http_text_is(chosen, options->subprotocols[i])) {
            ws->subprotocol = (uint8_t)(i + 1);
            return true;
        }
    return false;
}

int w_handshake_take_response(const weir_codec *codec, struct w_websocket *ws, const char *data, uint32_t bytes,
                              weir_session_answer *answer)
{
    weir_http_head head;
    uint32_t scanned_bytes = 0, head_bytes, extensions;
    int status = weir_http_head_end(data, bytes, handshake_head_max_bytes(codec), &scanned_bytes, &head_bytes);
    if (status != 0 || weir_http_parse_response(data, head_bytes, &head) != 0)
        return -EPROTO;
    answer->peer_code = head.status;
    weir_http_value(&head, "sec-websocket-extensions", &extensions);
    if (head.status != 101 || extensions != 0 || !handshake_is_answered(ws, &head) ||
        !handshake_is_chosen(w_websocket_options(codec), ws, &head))
        return -EPROTO;
    memset(ws->nonce, 0, sizeof ws->nonce);
    answer->peer_code = 0;
    ws->stage = W_WEBSOCKET_OPEN;
    return WEIR_SESSION_OPEN;
}
