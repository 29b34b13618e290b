/* SPDX-License-Identifier: MIT */
/* session: what a connection does whose codec remembers something (weir/session.h): between the reader and the handler.
 *
 *   frame of the reader -> MESSAGE  the handler                            OWN  take -> answer into the channel, or the control lane
 *                          PART     put together                                     OPEN -> on_open
 *                          LAST     put together, then the handler                   END, errors -> drain
 *
 * Its memory is the slot's (table.h), or a piece of the pool if it is large: what runtime/ needs, then what the codec asked for. Runs on the connection's shard. */
#ifndef W_SESSION_H
#define W_SESSION_H

#include <weir/session.h>

#include "runtime/conn.h"

static inline bool w_session_is(const weir_conn *conn)
{
    return W_UNLIKELY(conn->reader.session != NULL);
}

/* The connection is there: its handshake begins. False: it has been ended, for lack of memory or because the codec cannot begin. */
bool w_session_open(weir_conn *conn);
/* Gives everything back. */
void w_session_close(weir_conn *conn);
/* Only messages being put together: the connection takes no more. */
void w_session_drop_parts(weir_conn *conn);

enum w_reader_verdict w_session_sink(struct w_reader *reader, const weir_message *message);
/* Of the frames that the sink has taken since the last time, how many were no messages. */
uint32_t w_session_count_others(weir_conn *conn);
/* Is a message being put together that the reader knows nothing of? */
bool w_session_is_in_parts(const weir_conn *conn);

/* Something has gone out: what waits for the lane goes into it. */
void w_session_sent(weir_conn *conn);
/* Everything else has gone out, and the connection drains: true: last words have been put behind it, once. */
bool w_session_farewell(weir_conn *conn);
/* Is it the peer's to close first? */
bool w_session_waits_for_peer(const weir_conn *conn);

#endif
