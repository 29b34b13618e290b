/* SPDX-License-Identifier: MIT */
/* http_write: a response's head is written, line by line; what does not fit leaves nothing. See http.h. */
#include <weir/http.h>

#include <string.h>

/* RFC 9110, section 15; RFC 6585. */
static const struct {
    int status;
    const char *phrase;
} http_phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {511, "Network Authentication Required"},
};

const char *weir_http_status_phrase(int status)
{
    for (size_t i = 0; i < sizeof http_phrases / sizeof *http_phrases; i++)
        if (http_phrases[i].status == status)
            return http_phrases[i].phrase;
    return "";
}

/* full: something did not fit, and nothing is written any more. */
struct http_writer {
    char *to;
    uint32_t room_bytes, bytes;
    bool full;
};

static void http_put(struct http_writer *writer, const char *string)
{
    size_t bytes = strlen(string);
    writer->full = writer->full || bytes > writer->room_bytes - writer->bytes;
    if (writer->full)
        return;
    memcpy(writer->to + writer->bytes, string, bytes);
    writer->bytes += (uint32_t)bytes;
}

static void http_put_number(struct http_writer *writer, uint64_t number)
{
    char digits[21] = "", *first = digits + sizeof digits - 1;
    do
        *--first = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    http_put(writer, first);
}

uint32_t weir_http_write_head(char *to, uint32_t to_bytes, int status, const char *content_type, uint64_t content_bytes, bool keep_alive,
                              const char *more)
{
    struct http_writer writer = {.to = to, .room_bytes = to_bytes};
    http_put(&writer, "HTTP/1.1 ");
    http_put_number(&writer, (uint64_t)status);
    http_put(&writer, " ");
    http_put(&writer, weir_http_status_phrase(status));
    if (content_type != NULL) {
        http_put(&writer, "\r\nContent-Type: ");
        http_put(&writer, content_type);
    }
    if (status >= 200 && status != 204) { /* RFC 9110, section 8.6 */
        http_put(&writer, "\r\nContent-Length: ");
        http_put_number(&writer, content_bytes);
    }
    http_put(&writer, keep_alive ? "\r\n" : "\r\nConnection: close\r\n");
    http_put(&writer, more != NULL ? more : "");
    http_put(&writer, "\r\n");
    return writer.full ? 0 : writer.bytes;
}
