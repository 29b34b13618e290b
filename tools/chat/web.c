/* SPDX-License-Identifier: MIT */
/* web: the chat's page, and who may come in by it. The page's files lie in this program: page.html, page.css, page.js. */
#include "web.h"

#include <string.h>
#include <strings.h>

#define MESSAGE_MAX_BYTES 4096 /* more than may be said, so that whoever says too much is told */

/* A file's bytes, between two names. */
#define FILE_HERE(name, path)                                                                                                              \
    __asm__(".pushsection .rodata\n.global " #name "\n" #name ":\n.incbin \"" path "\"\n.global " #name "_end\n" #name                     \
            "_end:\n.byte 0\n.popsection");                                                                                                \
    extern const char name[], name##_end[]

FILE_HERE(chat_page_html, CHAT_DIR "/page.html");
FILE_HERE(chat_page_css, CHAT_DIR "/page.css");
FILE_HERE(chat_page_js, CHAT_DIR "/page.js");

/* What Prometheus asks for. Each shard has a text of its own, which stays until its next call, with room for more than a hundred shards. */
static const char *web_metrics(void *user, const weir_http_head *request, uint32_t *bytes)
{
    static _Thread_local char text[512 * 1024];
    weir_runtime *const *runtime = user;
    (void)request;
    size_t wanted = weir_metrics_text(*runtime, text, sizeof text);
    *bytes = (uint32_t)wanted;
    return wanted < sizeof text ? text : NULL;
}

/* 0, or the status that a handshake is refused with. Any page of anybody's can make a browser connect to here: its Origin (RFC 6455, section 10.2) has to be the host
 * that it says to have connected to. */
static int web_allow(void *user, const weir_http_head *request)
{
    uint32_t origins;
    const weir_http_text *origin = weir_http_value(request, "origin", &origins);
    (void)user;
    if (!weir_http_text_is(&request->target, "/chat"))
        return 404;
    if (origins == 0)
        return 0;
    const char *host = origin == NULL ? NULL : memmem(origin->data, origin->bytes, "://", 3);
    if (host == NULL)
        return 403;
    uint32_t host_bytes = origin->bytes - (uint32_t)(host + 3 - origin->data);
    return host_bytes == request->host.bytes && strncasecmp(host + 3, request->host.data, host_bytes) == 0 ? 0 : 403;
}

static weir_http_page pages[] = {
    {.path = "/", .type = "text/html; charset=utf-8"},
    {.path = "/chat.css", .type = "text/css; charset=utf-8"},
    {.path = "/chat.js", .type = "text/javascript; charset=utf-8"},
    {.path = "/metrics", .type = WEIR_METRICS_TYPE, .text = web_metrics},
    {.path = "/healthz", .type = "text/plain", .body = "ok\n", .bytes = 3},
    {.path = NULL},
};

static const weir_websocket_options options = {.message_max_bytes = MESSAGE_MAX_BYTES, .allow = web_allow, .pages = pages};

static void web_page(weir_http_page *page, const char *begin, const char *end)
{
    page->body = begin;
    page->bytes = (uint32_t)(end - begin);
}

int web_codec(weir_codec *codec, weir_runtime **runtime)
{
    web_page(&pages[0], chat_page_html, chat_page_html_end);
    web_page(&pages[1], chat_page_css, chat_page_css_end);
    web_page(&pages[2], chat_page_js, chat_page_js_end);
    pages[3].user = runtime;
    return weir_codec_websocket(codec, &options);
}
