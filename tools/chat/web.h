/* SPDX-License-Identifier: MIT */
/* web: the chat's page, and who may come in by it. */
#ifndef CHAT_WEB_H
#define CHAT_WEB_H

#include <weir/weir.h>

/* Makes a codec of a server that serves the page and, at /chat, lets in whom the page has sent: a browser whose Origin is this server, and what is no browser. 0 or
 * weir_codec_websocket()'s error. */
int web_codec(weir_codec *codec, weir_runtime **runtime);

#endif
