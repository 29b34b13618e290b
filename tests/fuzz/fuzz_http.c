/* SPDX-License-Identifier: MIT */
/* fuzz_http: any bytes as a head: its end, or what is wrong with it, is the same however it is divided, and is where the book says; what parses consists of
 * pieces of it, and written again in canonical form it parses to the same.
 *
 * Input: [how][head_max_bytes: 2][sizes of pieces less one ...][the head, and what follows it ...]; how: a response in bit 0, the number of sizes in 3 to 5. */
#include <string.h>

#include "fuzz.h"
#include <weir/http.h>

#define STREAM_MAX_BYTES 2000u

/* --- where the head ends --- */

struct end {
    int status;
    uint32_t head_bytes;
};

/* By the book, from the whole. A CR that is the last byte there may still be right. */
static struct end book_end(const char *data, uint32_t bytes, uint32_t head_max_bytes)
{
    uint32_t limit = bytes < head_max_bytes ? bytes : head_max_bytes, line = 0, lines = 0;
    for (uint32_t at = 0; at < limit; at++) {
        bool ends = at > 0 && data[at - 1] == '\r';
        if (ends != (data[at] == '\n') || ((uint8_t)data[at] < 32 && !strchr("\r\n\t", data[at])) || data[at] == '\0' || data[at] == 127)
            return (struct end){400, 0};
        bool empty = at == line && data[at] == '\r';
        if (empty && line == 2) /* the one before was empty too, and the first */
            return (struct end){400, 0};
        if (!ends)
            continue;
        if (at - line == 1 && lines > 0)
            return (struct end){0, at + 1};
        line = at + 1;
        lines++;
    }
    return (struct end){limit < head_max_bytes ? 0 : 431, 0};
}

/* In memory of its size, so that a look beyond it is found. */
static char *exactly(const char *data, uint32_t bytes)
{
    char *copy = malloc(bytes);
    memcpy(copy, data, bytes);
    return copy;
}

/* How far the bytes are after so many pieces more: `count` sizes, again and again; none: all at once. */
static struct end divided_end(const char *data, uint32_t bytes, uint32_t head_max_bytes, const uint8_t *sizes, uint32_t count)
{
    struct end end = {0};
    uint32_t scanned_bytes = 0, there = 0;
    for (uint32_t i = 0; end.status == 0 && end.head_bytes == 0; i++) {
        uint32_t piece = count > 0 ? sizes[i % count] + 1U : bytes;
        there = piece < bytes - there ? there + piece : bytes;
        char *copy = exactly(data, there);
        end.status = weir_http_head_end(copy, there, head_max_bytes, &scanned_bytes, &end.head_bytes);
        free(copy);
        FUZZ_CHECK(scanned_bytes <= there && end.head_bytes <= there);
        if (there == bytes)
            break;
    }
    return end;
}

static struct end check_end(const char *data, uint32_t bytes, uint32_t head_max_bytes, const uint8_t *sizes, uint32_t count)
{
    struct end whole = divided_end(data, bytes, head_max_bytes, NULL, 0), book = book_end(data, bytes, head_max_bytes);
    struct end pieces = divided_end(data, bytes, head_max_bytes, sizes, count),
               dribble = divided_end(data, bytes, head_max_bytes, (uint8_t[]){0}, 1);
    FUZZ_CHECK(whole.status == book.status && whole.head_bytes == book.head_bytes);
    FUZZ_CHECK(whole.status == pieces.status && whole.head_bytes == pieces.head_bytes);
    FUZZ_CHECK(whole.status == dribble.status && whole.head_bytes == dribble.head_bytes);
    return whole;
}

/* --- what was parsed --- */

static bool is_inside(const weir_http_text *text, const char *data, uint32_t bytes)
{
    return text->data >= data && text->data <= data + bytes && text->bytes <= (size_t)(data + bytes - text->data);
}

static bool is_same(const weir_http_text *a, const weir_http_text *b)
{
    return a->bytes == b->bytes && (a->bytes == 0 || memcmp(a->data, b->data, a->bytes) == 0);
}

/* A list's members lie in it, one behind the other, and are not empty; joined again they are the same. */
static void check_list(const weir_http_text *value)
{
    char joined[2 * STREAM_MAX_BYTES];
    weir_http_text rest = *value, member, again, other;
    uint32_t bytes = 0;
    while (weir_http_next(&rest, &member)) {
        FUZZ_CHECK(is_inside(&member, value->data, value->bytes) && is_inside(&rest, member.data + member.bytes, value->bytes));
        FUZZ_CHECK(member.bytes > 0 && !strchr(" \t,", member.data[0]) && !strchr(" \t", member.data[member.bytes - 1]));
        FUZZ_CHECK(memchr(member.data, ',', member.bytes) == NULL || memchr(member.data, '"', member.bytes) != NULL);
        memcpy(joined + bytes, member.data, member.bytes);
        memcpy(joined + bytes + member.bytes, ", ", 2);
        bytes += member.bytes + 2;
    }
    FUZZ_CHECK(rest.bytes == 0);
    rest = *value;
    again = (weir_http_text){joined, bytes > 0 ? bytes - 2 : 0};
    while (weir_http_next(&rest, &member))
        FUZZ_CHECK(weir_http_next(&again, &other) && is_same(&member, &other));
    FUZZ_CHECK(!weir_http_next(&again, &other));
}

static void check_head(const weir_http_head *head, const char *data, uint32_t bytes, bool is_response)
{
    FUZZ_CHECK(head->count <= WEIR_HTTP_FIELDS_MAX && head->minor <= 9 && (head->minor > 0 || (!head->keep_alive && !head->upgrade)));
    if (is_response) {
        FUZZ_CHECK(head->status >= 100 && head->status <= 599 && head->method.bytes + head->target.bytes + head->host.bytes == 0);
    } else {
        FUZZ_CHECK(head->status == 0 && is_inside(&head->method, data, bytes) && head->method.bytes > 0);
        FUZZ_CHECK(head->target.bytes > 0 && (head->target.data[0] == '/' || weir_http_text_is(&head->target, "*")));
        FUZZ_CHECK(is_inside(&head->target, data, bytes) || head->target.bytes == 1);
        FUZZ_CHECK(head->host.bytes == 0 || is_inside(&head->host, data, bytes));
    }
    for (uint32_t i = 0; i < head->count; i++) {
        uint32_t count;
        char name[STREAM_MAX_BYTES + 1] = "";
        const weir_http_field *field = &head->fields[i];
        FUZZ_CHECK(is_inside(&field->name, data, bytes) && is_inside(&field->value, data, bytes) && field->name.bytes > 0);
        memcpy(name, field->name.data, field->name.bytes);
        const weir_http_text *found = weir_http_value(head, name, &count);
        FUZZ_CHECK(count > 0 && (count == 1) == (found != NULL) && (found == NULL || found == &field->value));
        check_list(&field->value);
    }
    FUZZ_CHECK(!head->upgrade || weir_http_list_has(head, "connection", "upgrade"));
    FUZZ_CHECK(!head->keep_alive || !weir_http_list_has(head, "connection", "close"));
}

/* --- there and back --- */

struct text {
    uint32_t bytes;
    char data[2 * STREAM_MAX_BYTES + 16 * WEIR_HTTP_FIELDS_MAX];
};

static void put(struct text *text, const char *string)
{
    memcpy(text->data + text->bytes, string, strlen(string));
    text->bytes += (uint32_t)strlen(string);
}

static void put_text(struct text *text, const weir_http_text *piece)
{
    memcpy(text->data + text->bytes, piece->data, piece->bytes);
    text->bytes += piece->bytes;
}

/* In absolute form if it had one, because then the field Host need not be there or say the same. */
static void put_start_line(struct text *text, const weir_http_head *head, bool is_response)
{
    char line[40];
    const weir_http_text *host = weir_http_value(head, "host", NULL);
    if (is_response) {
        snprintf(line, sizeof line, "HTTP/1.%u %u \r\n", head->minor, head->status);
        put(text, line);
        return;
    }
    put_text(text, &head->method);
    put(text, " ");
    bool absolute = head->host.bytes > 0 && (host == NULL || host->data != head->host.data);
    if (absolute) {
        put(text, "http://");
        put_text(text, &head->host);
    }
    if (!absolute || !weir_http_text_is(&head->target, "*"))
        put_text(text, &head->target);
    snprintf(line, sizeof line, " HTTP/1.%u\r\n", head->minor);
    put(text, line);
}

static void check_canonical(const weir_http_head *head, bool is_response)
{
    static struct text text;
    static weir_http_head again;
    text.bytes = 0;
    put_start_line(&text, head, is_response);
    for (uint32_t i = 0; i < head->count; i++) {
        put_text(&text, &head->fields[i].name);
        put(&text, ": ");
        put_text(&text, &head->fields[i].value);
        put(&text, "\r\n");
    }
    put(&text, "\r\n");
    char *copy = exactly(text.data, text.bytes);
    struct end end = divided_end(copy, text.bytes, UINT32_MAX, NULL, 0);
    FUZZ_CHECK(end.status == 0 && end.head_bytes == text.bytes);
    FUZZ_CHECK((is_response ? weir_http_parse_response : weir_http_parse_request)(copy, text.bytes, &again) == 0);
    FUZZ_CHECK(is_same(&head->method, &again.method) && is_same(&head->target, &again.target) && is_same(&head->host, &again.host));
    FUZZ_CHECK(head->status == again.status && head->minor == again.minor && head->keep_alive == again.keep_alive);
    FUZZ_CHECK(head->upgrade == again.upgrade && head->has_body == again.has_body && head->count == again.count);
    for (uint32_t i = 0; i < head->count; i++)
        FUZZ_CHECK(is_same(&head->fields[i].name, &again.fields[i].name) && is_same(&head->fields[i].value, &again.fields[i].value));
    free(copy);
}

static bool is_status(int status, bool is_response)
{
    return status == 0 || status == 400 || status == 431 || status == 505 || (!is_response && (status == 414 || status == 501));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static weir_http_head head;
    struct fuzz_input input = {data, bytes};
    uint8_t how = fuzz_take_u8(&input);
    uint32_t head_max_bytes = (uint32_t)fuzz_take(&input, 2), count = how >> 3 & 7;
    const uint8_t *sizes = input.data;
    bool is_response = how & 1;
    if (count > input.bytes || input.bytes - count > STREAM_MAX_BYTES)
        return 0;
    const char *stream = (const char *)input.data + count;
    uint32_t stream_bytes = (uint32_t)input.bytes - count;
    struct end end = check_end(stream, stream_bytes, head_max_bytes, sizes, count);
    /* Parsed as far as there is an end, or all of it: that the end was found is not what it relies on. */
    uint32_t head_bytes = end.head_bytes > 0 ? end.head_bytes : stream_bytes;
    char *copy = exactly(stream, head_bytes);
    int status = (is_response ? weir_http_parse_response : weir_http_parse_request)(copy, head_bytes, &head);
    FUZZ_CHECK(is_status(status, is_response));
    FUZZ_CHECK(status != 0 || end.head_bytes > 0 || (end.status == 431 && head_bytes > head_max_bytes));
    if (status == 0) {
        check_head(&head, copy, head_bytes, is_response);
        check_canonical(&head, is_response);
    }
    free(copy);
    return 0;
}
