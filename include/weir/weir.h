/* SPDX-License-Identifier: MIT */
/* weir/weir.h: all of weir. Start with weir/runtime.h; weir/conn.h is what handlers use. */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <weir/base.h>
#include <weir/channel.h>
#include <weir/codec.h>
#include <weir/conn.h>
#include <weir/group.h>
#include <weir/http.h>
#include <weir/listen.h>
#include <weir/pipe.h>
#include <weir/port.h>
#include <weir/probe.h>
#include <weir/protocol.h>
#include <weir/runtime.h>
#include <weir/session.h>
#include <weir/stats.h>
#include <weir/timer.h>
#include <weir/websocket.h>

#endif
