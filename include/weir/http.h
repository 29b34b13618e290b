/* SPDX-License-Identifier: MIT */
/* http: the head of an HTTP/1.1 request or response, as strict as RFC 9112 allows: what stands before a WebSocket, or asks for a page. No bodies.
 *
 *   head     start line CRLF, fields each with CRLF, an empty line            weir_http_head_end finds its end, in pieces too
 *   parse    slices of that head, nothing copied                              weir_http_parse_request, weir_http_parse_response
 *   look up  by name (any case), one value or all of a comma-separated list   weir_http_field, weir_http_list_has, weir_http_next
 *   write    a response's head                                                weir_http_write_head
 *
 * Whatever two readers could understand differently is refused, not mended (RFC 9112, section 11.2): a bare CR or LF, white space before a colon, folded lines
 * (obs-fold), control characters, two Content-Lengths, Content-Length beside Transfer-Encoding, a second Host. Pure functions of bytes, no allocation. */
#ifndef WEIR_HTTP_H
#define WEIR_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    weir_http_text method, target; /* of a request; target is the origin form ("/path?query") or "*" */
    uint16_t status;               /* of a response */
    uint8_t minor;                 /* HTTP/1.<minor> */
    bool keep_alive;               /* may another head follow on this connection? (RFC 9112, section 9.3) */
    bool upgrade;                  /* Connection has "upgrade" */
    bool has_body;                 /* Transfer-Encoding, or a Content-Length over 0 */
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

/* Where the head ends (behind its empty line), 0: not yet, or a status to be answered with. *scanned_bytes: 0 for a new head; what is left there is where the next
 * call goes on. `fields_max_bytes` bounds the whole head, start line included.
 *   400  what has come so far can be the beginning of no head (said as soon as it is seen: a control character, a bare CR or LF; empty lines before the
 *        start line are a request's privilege, RFC 9112 section 2.2: at most one, and skipped)      431 over the bound */
int weir_http_head_end(const char *data, uint32_t bytes, uint32_t head_max_bytes, uint32_t *scanned_bytes, uint32_t *head_bytes);

/* Takes a whole head apart. 0, or the status that a server answers with:
 *   400  not of this grammar, no or two Hosts, an ambiguous length, ...     414  a target of more than 4,096 bytes     431  more than WEIR_HTTP_FIELDS_MAX fields
 *   501  a Transfer-Encoding other than chunked     505  a version other than HTTP/1.x
 * HTTP/1.0 is parsed (minor 0; no Host needed, keep_alive false): it is for the caller to refuse. */
int weir_http_parse_request(const char *data, uint32_t bytes, weir_http_head *head);
/* The same of a response: 0, or 400, 431, 505. (reason-phrase: looked at for control characters only) */
int weir_http_parse_response(const char *data, uint32_t bytes, weir_http_head *head);

/* The value of the only field of that name (lower case, ended by a zero), or NULL when there is none, or more than one (*count says how many; may be NULL). */
const weir_http_text *weir_http_value(const weir_http_head *head, const char *name, uint32_t *count);
/* Is `token` (lower case) among the comma-separated members of all fields of that name? In any case of letters. */
bool weir_http_list_has(const weir_http_head *head, const char *name, const char *token);
/* The next member of a comma-separated list: false at its end. `rest` begins as a field's value. Empty members are skipped; a quoted string is one piece. */
bool weir_http_next(weir_http_text *rest, weir_http_text *member);

bool weir_http_text_is(const weir_http_text *text, const char *string); /* exactly */
bool weir_http_text_is_ignoring_case(const weir_http_text *text, const char *string);

const char *weir_http_status_phrase(int status); /* "Bad Request"; "" for one that is not known */

/* Writes "HTTP/1.1 STATUS PHRASE" CRLF, Content-Type (NULL: none), Content-Length, Connection: close (unless keep_alive), `more` (NULL, or whole lines with CRLF),
 * an empty line. Answers its bytes; 0: it does not fit. */
uint32_t weir_http_write_head(char *to, uint32_t to_bytes, int status, const char *content_type, uint64_t content_bytes, bool keep_alive,
                              const char *more);

#endif
