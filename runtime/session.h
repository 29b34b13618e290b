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

/* Where packed messages are made. Once for each shard. */
void w_session_heap_init(struct w_core *core);
/* Does what is sent go through the session's pack? */
static inline bool w_session_packs(const weir_conn *conn)
{
    return w_session_is(conn) && ((const weir_session_state *)conn->reader.session)->packs;
}
/* w_channel_put_sealed, packed if that makes it shorter: 0 or -ENOMEM. Where w_session_packs. */
int w_session_put(weir_conn *conn, const weir_codec *codec, const weir_seal *seal, const void *data, uint32_t bytes);
/* The same of what lies in the channel already, and will go out: how many bytes it is then, with its seal. */
uint32_t w_session_pack_in_place(weir_conn *conn, const weir_codec *codec, weir_seal *seal, uint8_t *data, uint32_t bytes);

/* Something has gone out: what waits for the lane goes into it. */
void w_session_sent(weir_conn *conn);
/* Everything else has gone out, and the connection drains: true: last words have been put behind it, once. */
bool w_session_farewell(weir_conn *conn);
/* Is it the peer's to close first? */
bool w_session_waits_for_peer(const weir_conn *conn);

#endif
