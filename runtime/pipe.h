/* SPDX-License-Identifier: MIT */
/* pipe: two connections, each of which sends what comes on the other. What a connection has to do with it stands in its struct w_conn_extra. */
#ifndef W_PIPE_H
#define W_PIPE_H

#include <weir/pipe.h>

#include "runtime/conn.h"

static inline bool w_pipe_is(const weir_conn *conn)
{
    const struct w_conn_extra *extra = w_conn_extra_of(conn);
    return W_UNLIKELY(extra != NULL) && extra->pipe != 0;
}

static inline bool w_pipe_has_refused(const weir_conn *conn)
{
    const struct w_conn_extra *extra = w_conn_extra_of(conn);
    return extra != NULL && extra->pipe_refused;
}

/* One message goes to the other end: what on_message would answer. */
int w_pipe_message(weir_conn *conn, const weir_message *message);
/* This one's peer has ended, and everything before it has been passed on. */
void w_pipe_peer_ended(weir_conn *conn);
/* This one has room again: the other may go on. */
void w_pipe_ready(weir_conn *conn);
/* All is sent: half-closes, if the other one's peer has ended; and ends, if this one's has too. */
void w_pipe_step(weir_conn *conn);
/* A message from the other, on another shard, is not one that this one's codec can carry: the other ends as if its handler had said so. */
void w_pipe_refused(weir_conn *conn, int error);
/* This one has ended. */
void w_pipe_over(weir_conn *conn);

/* The shard's part: one that waits for room elsewhere may go on; rings have room again: all that wait for one may. */
void w_pipe_wanted(struct w_core *core, weir_id id);
void w_pipe_room(struct w_core *core);

#endif
