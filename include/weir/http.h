/* SPDX-License-Identifier: MIT */
/* http: the head of an HTTP/1.1 request or response, as strict as RFC 9112 allows: what stands before a WebSocket, or asks for a page. No bodies.
 *
 *   head     start line CRLF, fields each with CRLF, an empty line            weir_http_head_end finds its end, in pieces too
 *   parse    slices of that head, nothing copied                              weir_http_parse_request, weir_http_parse_response
 *   look up  by name (any case), one value or all of a comma-separated list   weir_http_value, weir_http_list_has, weir_http_next
 *   write    a response's head                                                weir_http_write_head
 *
 * Whatever two readers could understand differently is refused, not mended (RFC 9112, section 11.2): a bare CR or LF, white space before a colon, folded lines
 * (obs-fold), control characters, two Content-Lengths, Content-Length beside Transfer-Encoding, a second Host, "%" without two hexadecimal digits in a target or
 * a Host. Pure functions of bytes, no allocation. */
#ifndef WEIR_HTTP_H
#define WEIR_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_HTTP_FIELDS_MAX 64u

/* A piece of the head; not ended by a zero. */
typedef struct weir_http_text {
    const char *data;
    uint32_t bytes;
} weir_http_text;

typedef struct weir_http_field {
    weir_http_text name, value; /* value: without white space around it */
} weir_http_field;

typedef struct weir_http_head {
    /* Of a request. target: "/path?query", or "*" of OPTIONS. host: whom it is for, "name" or "name:port": the target's authority if it has one (see below),
     * else what the field Host says; may be empty. */
    weir_http_text method, target, host;
    uint16_t status; /* of a response */
    uint8_t minor;   /* HTTP/1.<minor> */
    bool keep_alive; /* may another head follow on this connection? (RFC 9112, section 9.3) */
    bool upgrade;    /* Connection has "upgrade"; never in HTTP/1.0 (RFC 9110, section 7.8) */
    /* Transfer-Encoding, or a Content-Length over 0. In a response also: neither of them, then it ends with the connection; but never with 1xx, 204 and 304
     * (RFC 9112, section 6.3). That an answer to HEAD has none is for the caller to know. */
    bool has_body;
    uint32_t count;
    weir_http_field fields[WEIR_HTTP_FIELDS_MAX];
} weir_http_head;

/* What a plain GET is answered by (weir/websocket.h): what lies in memory, or what a callback says. */
typedef struct weir_http_page {
    const char *path; /* "/metrics": all of the target but its query */
    const char *type; /* "text/html; charset=utf-8" */
    const void *body;
    uint32_t bytes;
    /* Instead of body, when it is not NULL: on the connection's shard. The text has to stay until the next call on that shard; NULL: it cannot be made now (503). */
    const char *(*text)(void *user, const weir_http_head *request, uint32_t *bytes);
    void *user;
} weir_http_page;

/* Looks for the head's end. 0: it ends at *head_bytes, behind its empty line, or that is 0: not yet. Else a status to be answered with:
 *   400  what has come so far can be the beginning of no head: a control character, a bare CR or LF, a second empty line before the start line; said at that
 *        byte (everything else is left to those that parse it)
 *   431  it is longer than head_max_bytes, start line included; said as soon as so many bytes are there and no end
 * One empty line may stand before a request (RFC 9112, section 2.2); it is part of the head.
 * *scanned_bytes: 0 for a new head. What is left there is where the next call goes on, with the same bytes and more behind them: each is looked at once, and of
 * those before no more than the last two. However they are divided, the answer is the same. */
int weir_http_head_end(const char *data, uint32_t bytes, uint32_t head_max_bytes, uint32_t *scanned_bytes, uint32_t *head_bytes);

/* Takes a whole head apart, into pieces of it that live as long as it does. 0, or the status that a server answers with (the first thing that is wrong, in this
 * order: start line, fields, Content-Length and Transfer-Encoding, Connection, Host); `head` is of no use then.
 *   400  not of this grammar, no or two Hosts, an ambiguous length, ...     414  a target of more than 4,096 bytes     431  more than WEIR_HTTP_FIELDS_MAX fields
 *   501  a transfer coding before chunked ("gzip, chunked"; if chunked is not the last it is 400, RFC 9112 section 6.3), or CONNECT     505  not HTTP/1.x
 * "GET http://name/path HTTP/1.1" is the same as "GET /path HTTP/1.1" for the host "name" (RFC 9112, section 3.2.2: a server has to accept it; https alike). The
 * field Host has to be there and right all the same, and does not count. Without a path the target is "/", or "*" of OPTIONS; a query behind no path is refused.
 * A target's characters are those of RFC 3986 and those that browsers do not encode in a query: [ ] ^ ` { | }
 * HTTP/1.0 is parsed (minor 0; no Host needed, keep_alive false): it is for the caller to refuse. */
int weir_http_parse_request(const char *data, uint32_t bytes, weir_http_head *head);
/* The same of a response: 0, or 400, 431, 505. No empty line before it; a status from 100 to 599. (reason-phrase: looked at for control characters only) */
int weir_http_parse_response(const char *data, uint32_t bytes, weir_http_head *head);

/* The value of the only field of that name (lower case, ended by a zero), or NULL when there is none, or more than one (*count says how many; may be NULL). */
const weir_http_text *weir_http_value(const weir_http_head *head, const char *name, uint32_t *count);
/* Is `token` (lower case) among the comma-separated members of all fields of that name? In any case of letters. */
bool weir_http_list_has(const weir_http_head *head, const char *name, const char *token);
/* The next member of a comma-separated list: false at its end. `rest` begins as a field's value. Empty members are skipped; a quoted string is one piece, and
 * one that is not closed goes on to the end. */
bool weir_http_next(weir_http_text *rest, weir_http_text *member);

bool weir_http_text_is(const weir_http_text *text, const char *string); /* exactly */
bool weir_http_text_is_ignoring_case(const weir_http_text *text, const char *string);

const char *weir_http_status_phrase(int status); /* "Bad Request"; "" for one that is not known */

/* Writes "HTTP/1.1 STATUS PHRASE" CRLF, Content-Type (NULL: none), Content-Length (but not of 1xx and 204: RFC 9110, section 8.6), Connection: close (unless
 * keep_alive), `more` (NULL, or whole lines with CRLF), an empty line. Texts go out as they are: no CR, LF or control character of a peer's may be in them.
 * Answers its bytes; 0: it does not fit. */
uint32_t weir_http_write_head(char *to, uint32_t to_bytes, int status, const char *content_type, uint64_t content_bytes, bool keep_alive,
                              const char *more);

#ifdef __cplusplus
}
#endif

#endif
