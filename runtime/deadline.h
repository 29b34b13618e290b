/* SPDX-License-Identifier: MIT */
/* deadline: a connection's time limits: one timer for all of them. It is set when a limit appears that is earlier than what it is set for, and never moved
 * when a limit moves away: it goes off early then, and looks again. So a message costs no timer. */
#ifndef W_DEADLINE_H
#define W_DEADLINE_H

#include "runtime/conn.h"

/* Sees to it that the timer goes off no later than the connection's next limit. After each change that may bring one nearer. */
void w_deadline_watch(weir_conn *conn);
/* The wheel's callback: ends a connection whose limit has passed. */
void w_deadline_timer(struct w_wheel_entry *entry, void *context, uint64_t now_ns);
/* The slow-peer policy in force. */
const weir_slow_peer *w_deadline_slow_peer(const weir_conn *conn);

#endif
