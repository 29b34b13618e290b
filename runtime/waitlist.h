/* SPDX-License-Identifier: MIT */
/* waitlist: connections that wait: for their part of the turn, for a receive buffer, for memory. First come, first served.
 * A connection is at most once in each of the core's lists; it stays there when it ends, and its slot's next tenant with it: whoever takes it out looks
 * at what it is then. */
#ifndef W_WAITLIST_H
#define W_WAITLIST_H

#include "runtime/conn.h"

static inline bool w_waitlist_has(const weir_conn *conn, enum w_core_list_name name)
{
    return (conn->listed & 1U << name) != 0;
}

void w_waitlist_add(weir_conn *conn, enum w_core_list_name name);
/* The first one, taken out; NULL: none. */
weir_conn *w_waitlist_take(struct w_core *core, enum w_core_list_name name);

/* For a receive buffer. One receive may take all that there are, so those that are started behind it may get nothing, again and again; hence:
 * receive: starts one, or waits behind those that are starved, if there are any.
 * starve: a receive has ended for want of a buffer. Had it brought something, the connection waits behind all others; else it keeps its place before those that
 * have not been started. So the first one always gets something.
 * feed: those that are starved go on, as far as there are buffers; could_feed: there is one that could. */
void w_waitlist_receive(weir_conn *conn);
void w_waitlist_starve(weir_conn *conn);
void w_waitlist_feed(struct w_core *core);
bool w_waitlist_could_feed(const struct w_core *core);
/* Those that are thirsty for memory go on, if there is some. */
void w_waitlist_water(struct w_core *core);
/* At the end of a turn: true when somebody is thirsty. If that has lasted too long though half of the budget is free, the allocator has nothing: one ends. */
bool w_waitlist_thirst(struct w_core *core);

#endif
