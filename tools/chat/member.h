/* SPDX-License-Identifier: MIT */
/* member: those who talk, on their own shards. By lines (nc) or by WebSocket (a browser), they say and hear the same. */
#ifndef CHAT_MEMBER_H
#define CHAT_MEMBER_H

#include <weir/weir.h>

/* Without their codecs. */
extern weir_protocol member_lines, member_web;

#endif
