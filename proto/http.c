/* SPDX-License-Identifier: MIT */
/* http: the head of an HTTP/1.1 request or response (RFC 9112; what fields mean: RFC 9110).
 *
 *   head         = start-line CRLF *( field-line CRLF ) CRLF
 *   request-line = method SP request-target SP "HTTP/1." DIGIT         status-line = "HTTP/1." DIGIT SP 3DIGIT SP [ reason ]
 *   field-line   = token ":" OWS value OWS                             value of visible characters, SP, HTAB, and bytes over 0x7f
 *
 * Road:    find the end, a line at a time, each byte looked at once -> take the lines apart -> check what two readers could read differently.
 * Ditches: a byte that no head holds -> 400 as soon as it is there; over the bound -> 431; each rule that is broken -> its status. */
#include <weir/http.h>

#include <stdio.h>
#include <string.h>

#define TARGET_MAX_BYTES 4096u

/* --- characters --- */

enum { TOKEN = 1, TARGET = 2, VALUE = 4, DIGIT = 8, AUTHORITY = 16 };

static bool character_is(uint8_t c, uint32_t classes)
{
    static const char token_marks[] = "!#$%&'*+-.^_`|~"; /* RFC 9110, section 5.6.2 */
    static const char target_marks[] =
        "-._~%!$&'()*+,;=:@/?[]"; /* RFC 3986: what a path and a query are made of, and what browsers leave as it is */
    static const char authority_marks[] = "-._~%!$&'()*+,;=:[]";
    bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    return ((classes & DIGIT) != 0 && c >= '0' && c <= '9') || ((classes & VALUE) != 0 && (c == '\t' || (c >= ' ' && c != 0x7f))) ||
           ((classes & TOKEN) != 0 && (alphanumeric || (c != 0 && strchr(token_marks, c) != NULL))) ||
           ((classes & TARGET) != 0 &&
            (alphanumeric || (c != 0 && strchr(target_marks, c) != NULL) || (c > ' ' && c < 0x7f && c != '#'))) ||
           ((classes & AUTHORITY) != 0 && (alphanumeric || (c != 0 && strchr(authority_marks, c) != NULL)));
}

static bool text_is_of(weir_http_text text, uint32_t classes)
{
    for (uint32_t i = 0; i < text.bytes; i++)
        if (!character_is((uint8_t)text.data[i], classes))
            return false;
    return true;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool weir_http_text_is(const weir_http_text *text, const char *string)
{
    return strlen(string) == text->bytes && memcmp(text->data, string, text->bytes) == 0;
}

bool weir_http_text_is_ignoring_case(const weir_http_text *text, const char *string)
{
    for (uint32_t i = 0; i < text->bytes; i++)
        if (string[i] == '\0' || lower(text->data[i]) != lower(string[i]))
            return false;
    return string[text->bytes] == '\0';
}

/* OWS is spaces and tabs (RFC 9110, section 5.6.3). */
static weir_http_text text_trim(weir_http_text text)
{
    while (text.bytes > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.bytes--;
    }
    while (text.bytes > 0 && (text.data[text.bytes - 1] == ' ' || text.data[text.bytes - 1] == '\t'))
        text.bytes--;
    return text;
}

/* Takes what stands before `mark`, and the mark, off the front: false: it is not there. */
static bool text_split(weir_http_text *rest, char mark, weir_http_text *piece)
{
    const char *at = memchr(rest->data, mark, rest->bytes);
    if (at == NULL)
        return false;
    *piece = (weir_http_text){rest->data, (uint32_t)(at - rest->data)};
    rest->data = at + 1;
    rest->bytes -= piece->bytes + 1;
    return true;
}

/* --- where the head ends --- */

/* May this byte stand here? A CR only before an LF, an LF only behind a CR (section 2.2 lets a recipient be strict). */
static bool head_may_hold(const char *data, uint32_t at)
{
    char c = data[at];
    if (c == '\n')
        return at > 0 && data[at - 1] == '\r';
    return (at == 0 || data[at - 1] != '\r') && (c == '\r' || character_is((uint8_t)c, VALUE));
}

int weir_http_head_end(const char *data, uint32_t bytes, uint32_t head_max_bytes, uint32_t *scanned_bytes, uint32_t *head_bytes)
{
    *head_bytes = 0;
    for (uint32_t i = *scanned_bytes; i < bytes; i++) {
        if (i == head_max_bytes)
            return 431;
        if (!head_may_hold(data, i) || (i == 0 && data[0] != '\r' && !character_is((uint8_t)data[0], TOKEN)))
            return 400;
        /* One empty line may come before the start line (section 2.2): the first one that does not is the head's last. */
        if (data[i] == '\n' && i >= 3 && data[i - 2] == '\n' && (i > 3 || data[0] != '\r')) {
            *head_bytes = i + 1;
            return 0;
        }
        if (i == 3 && data[0] == '\r' && data[2] == '\r') /* two empty lines */
            return 400;
    }
    *scanned_bytes = bytes;
    return 0;
}

/* --- what fields say --- */

const weir_http_text *weir_http_value(const weir_http_head *head, const char *name, uint32_t *count)
{
    const weir_http_text *value = NULL;
    uint32_t found = 0;
    for (uint32_t i = 0; i < head->count; i++)
        if (weir_http_text_is_ignoring_case(&head->fields[i].name, name)) {
            value = &head->fields[i].value;
            found++;
        }
    if (count != NULL)
        *count = found;
    return found == 1 ? value : NULL;
}

bool weir_http_next(weir_http_text *rest, weir_http_text *member)
{
    while (rest->bytes > 0) {
        uint32_t end = 0;
        for (bool quoted = false; end < rest->bytes && (quoted || rest->data[end] != ','); end++) {
            if (quoted && rest->data[end] == '\\' && end + 1 < rest->bytes)
                end++;
            else if (rest->data[end] == '"')
                quoted = !quoted;
        }
        *member = text_trim((weir_http_text){rest->data, end});
        uint32_t used = end < rest->bytes ? end + 1 : end;
        rest->data += used;
        rest->bytes -= used;
        if (member->bytes > 0)
            return true;
    }
    return false;
}

bool weir_http_list_has(const weir_http_head *head, const char *name, const char *token)
{
    for (uint32_t i = 0; i < head->count; i++) {
        weir_http_text rest = head->fields[i].value, member;
        if (!weir_http_text_is_ignoring_case(&head->fields[i].name, name))
            continue;
        while (weir_http_next(&rest, &member))
            if (weir_http_text_is_ignoring_case(&member, token))
                return true;
    }
    return false;
}

/* --- taking it apart --- */

/* One line off the front. The head is known to be lines. */
static weir_http_text head_line(weir_http_text *rest)
{
    weir_http_text line = {rest->data, 0};
    if (text_split(rest, '\r', &line) && rest->bytes > 0) { /* and its LF */
        rest->data++;
        rest->bytes--;
    }
    return line;
}

/* The fields up to the empty line: 0, 400 or 431. */
static int head_parse_fields(weir_http_text *rest, weir_http_head *head)
{
    head->count = 0;
    for (weir_http_text line = head_line(rest); line.bytes > 0; line = head_line(rest)) {
        weir_http_field field;
        /* White space at the front is a folded line (section 5.2), before the colon a trap (section 5.1): no token has it. */
        if (!text_split(&line, ':', &field.name) || field.name.bytes == 0 || !text_is_of(field.name, TOKEN) || !text_is_of(line, VALUE))
            return 400;
        if (head->count == WEIR_HTTP_FIELDS_MAX)
            return 431;
        field.value = text_trim(line);
        head->fields[head->count++] = field;
    }
    return rest->bytes == 0 ? 0 : 400;
}

/* Where the body, and so the next head, would begin has to have one answer (sections 6.1 to 6.3): 0, 400 or 501. */
static int head_check_length(weir_http_head *head)
{
    uint32_t lengths, codings;
    const weir_http_text *length = weir_http_value(head, "content-length", &lengths);
    const weir_http_text *coding = weir_http_value(head, "transfer-encoding", &codings);
    head->has_body = codings > 0;
    if (lengths > 1 || (lengths > 0 && codings > 0))
        return 400;
    if (codings > 0)
        return coding != NULL && weir_http_text_is_ignoring_case(coding, "chunked") ? 0 : 501;
    if (length == NULL)
        return 0;
    if (length->bytes == 0 || length->bytes > 19 || !text_is_of(*length, DIGIT))
        return 400;
    for (uint32_t i = 0; i < length->bytes; i++)
        head->has_body |= length->data[i] != '0';
    return 0;
}

/* What both kinds of head have behind the start line. */
static int head_parse_rest(weir_http_text *rest, weir_http_head *head)
{
    int status = head_parse_fields(rest, head);
    if (status == 0)
        status = head_check_length(head);
    head->upgrade = weir_http_list_has(head, "connection", "upgrade");
    head->keep_alive = head->minor >= 1 && !weir_http_list_has(head, "connection", "close");
    return status;
}

/* "HTTP/1.x": 0, 400 or 505. */
static int head_parse_version(weir_http_text version, weir_http_head *head)
{
    if (version.bytes != 8 || memcmp(version.data, "HTTP/", 5) != 0 || !character_is((uint8_t)version.data[5], DIGIT) ||
        version.data[6] != '.' || !character_is((uint8_t)version.data[7], DIGIT))
        return 400;
    head->minor = (uint8_t)(version.data[7] - '0');
    return version.data[5] == '1' ? 0 : 505;
}

/* Absolute form (section 3.2.2, which a server has to take): the target is what stands behind the authority. */
static bool target_cut_authority(weir_http_text *target)
{
    uint32_t scheme = target->bytes > 7 && memcmp(target->data, "http://", 7) == 0 ? 7
                      : target->bytes > 5 && memcmp(target->data, "ws://", 5) == 0 ? 5
                                                                                   : 0;
    if (scheme == 0)
        return false;
    const char *path = memchr(target->data + scheme, '/', target->bytes - scheme);
    weir_http_text authority = {target->data + scheme, path == NULL ? target->bytes - scheme : (uint32_t)(path - target->data) - scheme};
    if (authority.bytes == 0 || !text_is_of(authority, AUTHORITY))
        return false;
    *target = path == NULL ? (weir_http_text){"/", 1} : (weir_http_text){path, target->bytes - (uint32_t)(path - target->data)};
    return true;
}

static int head_parse_target(weir_http_head *head)
{
    if (head->target.bytes > TARGET_MAX_BYTES)
        return 414;
    if (head->target.bytes == 0 || !text_is_of(head->target, TARGET))
        return 400;
    bool asterisk = weir_http_text_is(&head->target, "*") && weir_http_text_is(&head->method, "OPTIONS");
    return asterisk || head->target.data[0] == '/' || target_cut_authority(&head->target) ? 0 : 400;
}

/* Exactly one Host, of an authority's characters, or empty (section 3.2). */
static bool head_has_host(const weir_http_head *head)
{
    uint32_t count;
    const weir_http_text *host = weir_http_value(head, "host", &count);
    return head->minor == 0 && count == 0 ? true : host != NULL && text_is_of(*host, AUTHORITY);
}

int weir_http_parse_request(const char *data, uint32_t bytes, weir_http_head *head)
{
    weir_http_text rest = {data, bytes}, line = head_line(&rest);
    if (line.bytes == 0) /* the empty line that may stand in front */
        line = head_line(&rest);
    head->count = 0;
    head->status = 0;
    head->has_body = head->keep_alive = head->upgrade = false;
    if (!text_split(&line, ' ', &head->method) || head->method.bytes == 0 || !text_is_of(head->method, TOKEN) ||
        !text_split(&line, ' ', &head->target))
        return 400;
    int status = head_parse_version(line, head);
    if (status == 0)
        status = head_parse_target(head);
    if (status == 0)
        status = head_parse_rest(&rest, head);
    return status == 0 && !head_has_host(head) ? 400 : status;
}

int weir_http_parse_response(const char *data, uint32_t bytes, weir_http_head *head)
{
    weir_http_text rest = {data, bytes}, line = head_line(&rest), version, code;
    head->method = head->target = (weir_http_text){"", 0};
    head->count = 0;
    head->has_body = head->keep_alive = head->upgrade = false;
    if (!text_split(&line, ' ', &version))
        return 400;
    int status = head_parse_version(version, head);
    if (status != 0)
        return status;
    code = (weir_http_text){line.data, line.bytes < 3 ? line.bytes : 3};
    bool ends = line.bytes == 3 || (line.bytes > 3 && line.data[3] == ' '); /* the space that is due behind it, many leave out */
    if (code.bytes != 3 || !ends || !text_is_of(code, DIGIT) || code.data[0] == '0' || code.data[0] > '5' || !text_is_of(line, VALUE))
        return 400;
    head->status = (uint16_t)((code.data[0] - '0') * 100 + (code.data[1] - '0') * 10 + code.data[2] - '0');
    return head_parse_rest(&rest, head);
}

/* --- writing --- */

const char *weir_http_status_phrase(int status)
{
    static const struct {
        int status;
        const char *phrase;
    } phrases[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (phrases[i].status == status)
            return phrases[i].phrase;
    return "";
}

uint32_t weir_http_write_head(char *to, uint32_t to_bytes, int status, const char *content_type, uint64_t content_bytes, bool keep_alive,
                              const char *more)
{
    int bytes =
        snprintf(to, to_bytes, "HTTP/1.1 %d %s\r\n%s%s%sContent-Length: %llu\r\n%s%s\r\n", status, weir_http_status_phrase(status),
                 content_type == NULL ? "" : "Content-Type: ", content_type == NULL ? "" : content_type, content_type == NULL ? "" : "\r\n",
                 (unsigned long long)content_bytes, keep_alive ? "" : "Connection: close\r\n", more == NULL ? "" : more);
    return bytes < 0 || (uint32_t)bytes >= to_bytes ? 0 : (uint32_t)bytes;
}
