/* SPDX-License-Identifier: MIT */
/* weir/pipe.h: what comes on one connection goes out on the other. */
#ifndef WEIR_PIPE_H
#define WEIR_PIPE_H

#include <weir/conn.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Joins two connections, on the same shard or not: each message that comes on one is sent on the other (by reference from 4 KiB, copied once below), and on_message is
 * called for neither any more. Each pauses the other by itself: while one has no room the other is not read, and its peer's window closes. With
 * weir_codec_raw() on both it is a pipe of bytes; with codecs that differ it translates.
 *
 * The peer's end of one becomes a half-close of the other, behind everything that came before it; the other way goes on until its end comes too. Then both end with
 * WEIR_REASON_PEER. When one ends in any other way, the other is ended too: gracefully, with WEIR_REASON_LOCAL (aborted, when the first was reset or aborted). A message that the other's
 * codec cannot carry ends the one it came on with WEIR_REASON_HANDLER and the codec's error.
 * on_ready and on_close are called as ever.
 *
 * On the thread of `a`'s shard; `a` may be given in its on_open or on_message (that message is not part of the pipe; if you answer WEIR_LATER, it is). What comes
 * on `b` before its shard has heard of the pipe goes to b's on_message (answer WEIR_LATER there, or keep b paused and resume it afterwards): with a dial, make the pipe in the on_open of the dialled
 * connection, and pause the other until then. What either has answered WEIR_LATER goes through the pipe. A connection is in one pipe at most, for its life.
 * 0, -ESTALE `b` has ended, -ENOTCONN, -EPIPE one is not open yet, or is ending, -EBUSY one is in a pipe already, -EINVAL `a` is `b`, -EAGAIN no room in
 * the ring to b's shard, -ENOMEM. (What cannot be on another shard ends `a` as if `b` had ended.) */
int weir_pipe(weir_conn *a, weir_id b);

#ifdef __cplusplus
}
#endif

#endif
