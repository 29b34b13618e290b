/* SPDX-License-Identifier: MIT */
/* http: see http.h. Section numbers are those of RFC 9112 where nothing else is said.
 *
 * Road:    the end of the head is found -> start line -> fields, one a line -> what they say together: host, length, connection.
 * Ditches: the first thing that is not of the grammar -> its status, at once; nothing is skipped, but one empty line before a request. */
#include <weir/http.h>

#include <string.h>

#define HTTP_TARGET_MAX_BYTES 4096u
#define HTTP_PORT_MAX         65535u
#define HTTP_LENGTH_DIGITS    19u /* as many nines still fit into 64 bits */

/* --- characters --- */

static bool http_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char http_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool http_is_letter_or_digit(char c)
{
    return (http_lower(c) >= 'a' && http_lower(c) <= 'z') || http_is_digit(c);
}

static bool http_is_hexadecimal(char c)
{
    return http_is_digit(c) || (http_lower(c) >= 'a' && http_lower(c) <= 'f');
}

static bool http_is_among(char c, const char *characters)
{
    return c != '\0' && strchr(characters, c) != NULL;
}

/* OWS (RFC 9110, section 5.6.3). */
static bool http_is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* CTL (RFC 5234): what stands in no head, but for HTAB and the CR LF of its lines. */
static bool http_is_control(char c)
{
    return (uint8_t)c < 0x20 || c == 0x7f;
}

/* tchar (RFC 9110, section 5.6.2) */
static bool http_is_token(char c)
{
    return http_is_letter_or_digit(c) || http_is_among(c, "!#$%&'*+-.^_`|~");
}

/* HTAB, SP, VCHAR and obs-text: of field-value (RFC 9110, section 5.5) and reason-phrase (section 4). */
static bool http_is_text(char c)
{
    return c == '\t' || !http_is_control(c);
}

/* unreserved, sub-delims, and the "%" of pct-encoded (RFC 3986, sections 2.1 to 2.3): of reg-name. */
static bool http_is_name(char c)
{
    return http_is_letter_or_digit(c) || http_is_among(c, "-._~!$&'()*+,;=%");
}

/* Of absolute-path and query: pchar, "/" and "?" (RFC 3986, section 3.3); and those that browsers leave as they are in a query (URL Standard, "query
 * percent-encode set"): every reader takes them for themselves. So no backslash, which some take for "/". */
static bool http_is_target(char c)
{
    return http_is_name(c) || http_is_among(c, ":@/?[]^`{|}");
}

/* Between the brackets of IP-literal, looked at no closer: "::1", "::ffff:192.0.2.1". No zone, no IPvFuture. */
static bool http_is_address(char c)
{
    return http_is_hexadecimal(c) || c == ':' || c == '.';
}

/* --- texts --- */

static bool http_same(const char *a, const char *b, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (http_lower(a[i]) != http_lower(b[i]))
            return false;
    return true;
}

bool weir_http_text_is(const weir_http_text *text, const char *string)
{
    return text->bytes == strlen(string) && (text->bytes == 0 || memcmp(text->data, string, text->bytes) == 0);
}

bool weir_http_text_is_ignoring_case(const weir_http_text *text, const char *string)
{
    return text->bytes == strlen(string) && http_same(text->data, string, text->bytes);
}

static bool http_are_all(const weir_http_text *text, bool (*is)(char))
{
    for (uint32_t i = 0; i < text->bytes; i++)
        if (!is(text->data[i]))
            return false;
    return true;
}

static weir_http_text http_trim(weir_http_text text)
{
    for (; text.bytes > 0 && http_is_space(text.data[0]); text.bytes--)
        text.data++;
    while (text.bytes > 0 && http_is_space(text.data[text.bytes - 1]))
        text.bytes--;
    return text;
}

/* pct-encoded = "%" HEXDIG HEXDIG (RFC 3986, section 2.1) */
static bool http_is_percent_encoded(const weir_http_text *text)
{
    for (uint32_t i = 0; i < text->bytes; i++)
        if (text->data[i] == '%' &&
            (text->bytes - i < 3 || !http_is_hexadecimal(text->data[i + 1]) || !http_is_hexadecimal(text->data[i + 2])))
            return false;
    return true;
}

/* --- what is read, from its beginning to its end --- */

struct http_reader {
    const char *at, *end;
};

static struct http_reader http_read_text(const weir_http_text *text)
{
    return (struct http_reader){text->data, text->data + text->bytes};
}

/* The longest piece of such characters, maybe an empty one. */
static weir_http_text http_take(struct http_reader *reader, bool (*is)(char))
{
    const char *begin = reader->at;
    while (reader->at < reader->end && is(*reader->at))
        reader->at++;
    return (weir_http_text){begin, (uint32_t)(reader->at - begin)};
}

/* False: something else comes. */
static bool http_skip(struct http_reader *reader, const char *string)
{
    size_t bytes = strlen(string);
    if ((size_t)(reader->end - reader->at) < bytes || memcmp(reader->at, string, bytes) != 0)
        return false;
    reader->at += bytes;
    return true;
}

static bool http_skip_ignoring_case(struct http_reader *reader, const char *string)
{
    size_t bytes = strlen(string);
    if ((size_t)(reader->end - reader->at) < bytes || !http_same(reader->at, string, bytes))
        return false;
    reader->at += bytes;
    return true;
}

/* --- where the head ends --- */

/* Can byte `at` stand behind those before it? (Section 2.2) It does not look further back than two bytes, so nothing has to be remembered from call to call. */
static bool http_may_follow(const char *data, uint32_t at)
{
    char c = data[at];
    if (at > 0 && data[at - 1] == '\r')
        return c == '\n';
    if (c == '\r')
        return at != 2 || data[1] != '\n'; /* the line before was empty: it was the one that may be */
    return http_is_text(c);
}

/* Is byte `at`, which is right, the LF of an empty line that is not the first? */
static bool http_is_end(const char *data, uint32_t at)
{
    return data[at] == '\n' && at >= 2 && data[at - 2] == '\n';
}

int weir_http_head_end(const char *data, uint32_t bytes, uint32_t head_max_bytes, uint32_t *scanned_bytes, uint32_t *head_bytes)
{
    uint32_t at = *scanned_bytes, limit = bytes < head_max_bytes ? bytes : head_max_bytes;
    while (at < limit && http_may_follow(data, at) && !http_is_end(data, at))
        at++;
    *scanned_bytes = at;
    *head_bytes = 0;
    if (at >= limit)
        return limit < head_max_bytes ? 0 : 431;
    if (!http_may_follow(data, at))
        return 400;
    *head_bytes = at + 1;
    return 0;
}

/* --- the start line --- */

/* HTTP-version = "HTTP/" DIGIT "." DIGIT (section 2.3) */
static bool http_version(struct http_reader *reader, char *major, uint8_t *minor)
{
    if (!http_skip(reader, "HTTP/") || reader->end - reader->at < 3)
        return false;
    if (!http_is_digit(reader->at[0]) || reader->at[1] != '.' || !http_is_digit(reader->at[2]))
        return false;
    *major = reader->at[0];
    *minor = (uint8_t)(reader->at[2] - '0');
    reader->at += 3;
    return true;
}

/* Is it uri-host [ ":" port ] from here? (RFC 9110, section 4.2.1: never without a host; section 4.2.4: without userinfo; port: RFC 3986, section 3.2.3) */
static bool http_authority(struct http_reader *reader, weir_http_text *authority)
{
    const char *begin = reader->at;
    bool literal = http_skip(reader, "[");
    uint32_t port = 0;
    if (http_take(reader, literal ? http_is_address : http_is_name).bytes == 0 || (literal && !http_skip(reader, "]")))
        return false;
    if (http_skip(reader, ":"))
        for (; reader->at < reader->end && http_is_digit(*reader->at) && port <= HTTP_PORT_MAX; reader->at++)
            port = 10 * port + (uint32_t)(*reader->at - '0');
    *authority = (weir_http_text){begin, (uint32_t)(reader->at - begin)};
    return port <= HTTP_PORT_MAX && http_is_percent_encoded(authority);
}

/* origin-form, absolute-form, authority-form, asterisk-form (section 3.2) */
static int http_target(const weir_http_text *text, weir_http_head *head)
{
    struct http_reader reader = http_read_text(text);
    bool is_options = weir_http_text_is(&head->method, "OPTIONS");
    if (weir_http_text_is(&head->method, "CONNECT")) /* asks for a proxy (section 3.2.3) */
        return http_authority(&reader, &head->host) && reader.at == reader.end ? 501 : 400;
    head->target = *text;
    if (weir_http_text_is(text, "*"))
        return is_options ? 0 : 400;
    if (http_skip_ignoring_case(&reader, "http://") || http_skip_ignoring_case(&reader, "https://")) {
        if (!http_authority(&reader, &head->host))
            return 400;
        head->target = (weir_http_text){reader.at, (uint32_t)(reader.end - reader.at)};
        if (head->target.bytes == 0) /* sections 3.2.1 and 3.2.4: what a proxy would make of it */
            head->target = (weir_http_text){is_options ? "*" : "/", 1};
        else if (head->target.data[0] != '/')
            return 400;
    } else if (text->data[0] != '/') {
        return 400;
    }
    return http_is_percent_encoded(text) ? 0 : 400;
}

/* request-line = method SP request-target SP HTTP-version (section 3) */
static int http_request_line(struct http_reader *reader, weir_http_head *head)
{
    char major;
    head->method = http_take(reader, http_is_token);
    if (head->method.bytes == 0 || !http_skip(reader, " "))
        return 400;
    weir_http_text target = http_take(reader, http_is_target);
    if (target.bytes == 0 || !http_skip(reader, " "))
        return 400;
    if (!http_version(reader, &major, &head->minor) || !http_skip(reader, "\r\n"))
        return 400;
    if (major != '1')
        return 505;
    return target.bytes > HTTP_TARGET_MAX_BYTES ? 414 : http_target(&target, head);
}

/* status-line = HTTP-version SP status-code SP [ reason-phrase ] (section 4); status-code is from 100 to 599 (RFC 9110, section 15) */
static int http_status_line(struct http_reader *reader, weir_http_head *head)
{
    char major;
    if (!http_version(reader, &major, &head->minor) || !http_skip(reader, " "))
        return 400;
    weir_http_text code = http_take(reader, http_is_digit);
    if (code.bytes != 3 || code.data[0] < '1' || code.data[0] > '5' || !http_skip(reader, " "))
        return 400;
    head->status = (uint16_t)(100 * (code.data[0] - '0') + 10 * (code.data[1] - '0') + (code.data[2] - '0'));
    http_take(reader, http_is_text);
    if (!http_skip(reader, "\r\n"))
        return 400;
    return major == '1' ? 0 : 505;
}

/* --- fields --- */

/* *( field-line CRLF ) CRLF, field-line = field-name ":" OWS field-value OWS (section 5).
 * A folded line begins with white space: it has no name (section 5.2). */
static int http_fields(struct http_reader *reader, weir_http_head *head)
{
    while (!http_skip(reader, "\r\n")) {
        weir_http_field field;
        field.name = http_take(reader, http_is_token);
        if (field.name.bytes == 0 || !http_skip(reader, ":"))
            return 400;
        field.value = http_trim(http_take(reader, http_is_text));
        if (!http_skip(reader, "\r\n"))
            return 400;
        if (head->count == WEIR_HTTP_FIELDS_MAX)
            return 431;
        head->fields[head->count++] = field;
    }
    return reader->at == reader->end ? 0 : 400;
}

const weir_http_text *weir_http_value(const weir_http_head *head, const char *name, uint32_t *count)
{
    const weir_http_text *value = NULL;
    uint32_t found = 0;
    for (uint32_t i = 0; i < head->count; i++) {
        if (!weir_http_text_is_ignoring_case(&head->fields[i].name, name))
            continue;
        value = &head->fields[i].value;
        found++;
    }
    if (count != NULL)
        *count = found;
    return found == 1 ? value : NULL;
}

/* #element (RFC 9110, section 5.6.1.2), quoted-string (section 5.6.4) */
bool weir_http_next(weir_http_text *rest, weir_http_text *member)
{
    uint32_t end = 0;
    bool quoted = false;
    for (; rest->bytes > 0 && (http_is_space(rest->data[0]) || rest->data[0] == ','); rest->bytes--)
        rest->data++;
    if (rest->bytes == 0)
        return false;
    for (; end < rest->bytes && (quoted || rest->data[end] != ','); end++) {
        if (rest->data[end] == '"')
            quoted = !quoted;
        else if (quoted && rest->data[end] == '\\' && rest->bytes - end > 1)
            end++;
    }
    *member = http_trim((weir_http_text){rest->data, end});
    rest->data += end;
    rest->bytes -= end;
    return true;
}

/* The members of all fields of a name are one list (RFC 9110, section 5.3). Begun with all else zero. */
struct http_list {
    const weir_http_head *head;
    const char *name;
    uint32_t next; /* the field behind that of `rest` */
    weir_http_text rest;
};

static bool http_list_next(struct http_list *list, weir_http_text *member)
{
    while (!weir_http_next(&list->rest, member)) {
        while (list->next < list->head->count && !weir_http_text_is_ignoring_case(&list->head->fields[list->next].name, list->name))
            list->next++;
        if (list->next == list->head->count)
            return false;
        list->rest = list->head->fields[list->next++].value;
    }
    return true;
}

bool weir_http_list_has(const weir_http_head *head, const char *name, const char *token)
{
    struct http_list list = {.head = head, .name = name};
    weir_http_text member;
    while (http_list_next(&list, &member))
        if (weir_http_text_is_ignoring_case(&member, token))
            return true;
    return false;
}

/* --- what the fields say together --- */

/* Host = uri-host [ ":" port ], or empty; one and no other (section 3.2). In absolute form the target's authority counts and not this one (section 3.2.2), but
 * even then it has to be right. */
static int http_host(weir_http_head *head)
{
    uint32_t count;
    weir_http_text authority;
    const weir_http_text *host = weir_http_value(head, "host", &count);
    if (host == NULL)
        return count == 0 && head->minor == 0 ? 0 : 400;
    struct http_reader reader = http_read_text(host);
    if (host->bytes > 0 && (!http_authority(&reader, &authority) || reader.at != reader.end))
        return 400;
    if (head->host.bytes == 0)
        head->host = *host;
    return 0;
}

/* Once, and behind all others: chunked (section 6.1). Others this one does not know. */
static int http_transfer_coding(const weir_http_head *head)
{
    struct http_list list = {.head = head, .name = "transfer-encoding"};
    weir_http_text member;
    uint32_t count = 0, chunked_count = 0;
    bool ends_chunked = false;
    for (; http_list_next(&list, &member); count++) {
        ends_chunked = weir_http_text_is_ignoring_case(&member, "chunked");
        chunked_count += ends_chunked;
    }
    if (!ends_chunked || chunked_count > 1)
        return 400;
    return count == 1 ? 0 : 501;
}

/* How long the body is (section 6.3): said once, and in one way. HTTP/1.0 has no Transfer-Encoding (section 6.1). */
static int http_length(weir_http_head *head)
{
    uint32_t length_count, coding_count;
    const weir_http_text *length = weir_http_value(head, "content-length", &length_count);
    weir_http_value(head, "transfer-encoding", &coding_count);
    head->has_body = coding_count > 0;
    if (coding_count > 0)
        return length_count > 0 || head->minor == 0 ? 400 : http_transfer_coding(head);
    if (length_count == 0)
        return 0;
    if (length == NULL || length->bytes == 0 || length->bytes > HTTP_LENGTH_DIGITS || !http_are_all(length, http_is_digit))
        return 400;
    for (uint32_t i = 0; i < length->bytes; i++)
        head->has_body = head->has_body || length->data[i] != '0';
    return 0;
}

/* Connection = #connection-option, each a token (RFC 9110, section 7.6.1) */
static int http_connection(weir_http_head *head)
{
    struct http_list list = {.head = head, .name = "connection"};
    weir_http_text member;
    head->keep_alive = head->minor > 0;
    while (http_list_next(&list, &member)) {
        if (!http_are_all(&member, http_is_token))
            return 400;
        if (weir_http_text_is_ignoring_case(&member, "close"))
            head->keep_alive = false;
        else if (weir_http_text_is_ignoring_case(&member, "upgrade"))
            head->upgrade = head->minor > 0;
    }
    return 0;
}

/* What stands behind the start line. */
static int http_rest(struct http_reader *reader, weir_http_head *head)
{
    int status = http_fields(reader, head);
    if (status == 0)
        status = http_length(head);
    return status == 0 ? http_connection(head) : status;
}

int weir_http_parse_request(const char *data, uint32_t bytes, weir_http_head *head)
{
    struct http_reader reader = {data, data + bytes};
    memset(head, 0, sizeof *head);
    http_skip(&reader, "\r\n"); /* section 2.2: after a body that was a line too long */
    int status = http_request_line(&reader, head);
    if (status == 0)
        status = http_rest(&reader, head);
    return status == 0 ? http_host(head) : status;
}

int weir_http_parse_response(const char *data, uint32_t bytes, weir_http_head *head)
{
    struct http_reader reader = {data, data + bytes};
    memset(head, 0, sizeof *head);
    int status = http_status_line(&reader, head);
    if (status == 0)
        status = http_rest(&reader, head);
    if (status != 0)
        return status == 501 ? 400 : status;
    uint32_t length_count, coding_count;
    weir_http_value(head, "content-length", &length_count);
    weir_http_value(head, "transfer-encoding", &coding_count);
    if (head->status < 200 || head->status == 204 || head->status == 304) { /* section 6.3, rule 1: whatever the fields say */
        head->has_body = false;
    } else if (length_count == 0 && coding_count == 0) { /* rule 8: as long as the connection */
        head->has_body = true;
        head->keep_alive = false;
    }
    return 0;
}
