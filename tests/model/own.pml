/* SPDX-License-Identifier: MIT */
/* own: an own channel between its producer and the connection's shard. Who is told when there is something, and when there is room again.
 * Memory is that of buffers.pml.
 *
 *   Producer   weir_channel_publish with own_tell; when the ring is full, own_wait_for_room or weir_channel_wait; it closes
 *              (w_own_close), or just says no more, at any time
 *   Shard      w_own_look, w_own_take as the kernel takes it, own_release
 *
 * The rings of messages between a port and a shard have room told in the same way, either way round: w_port_reserve with
 * w_port_release_there, link_put_answer with port_collect_answers.
 *
 * Left out: bytes. A message is a slot, and the ring has four, so it is empty, half full and full. The bell is `rung` one way and `told`
 * the other: it loses nothing, and what was stored before is seen after it, since both its sides have a fence (bell.pml). That both sides
 * take `idle` by an exchange is not needed for anything checked here: with plain stores the shard is rung now and then though it goes on
 * by itself, and looks once more for nothing. The same holds for `waiting`, as long as the store is in memory before the bell rings
 * (mistake 11), which the fence in w_bell_ring sees to.
 *
 * Checked: every message comes, in order, and then the end; when everything has come to rest, nothing sent is left in the ring, the shard
 * has seen the end if there was one, and the producer does not wait for room; nobody runs in circles.
 *
 * Mistakes:
 *   1  no fence between publishing and the look at idle
 *   2  no fence between idle and the last look
 *   3  no fence between waiting and the last look for room
 *   4  no fence between making room and the look at waiting
 *   5  idle is looked at before publishing
 *   6  idle is set after the last look
 *   7  waiting is set after the last look for room
 *   8  the tail is published by a relaxed store (x86 forgives it)
 *   9  the head is moved before the message is read
 *   10 the tail is looked at before closed: what was sent between the two is lost
 *   11 waiting is cleared by a plain store, and the producer told before that is in memory
 *   12 the last look does not look at closed
 *   13 no fence between closing and the look at idle */
#define PROCESSES 2
#define CELLS     9
#include "buffers.pml"

#ifndef ITEMS
#define ITEMS 7
#endif
#define SLOTS          4
#define SLOT(position) ((position) % SLOTS)
#define TAIL           4 /* w_spsc.published */
#define HEAD           5 /* w_spsc.head */
#define IDLE           6 /* the shard waits to be rung, or is about to look for the last time before it does */
#define WAITING        7 /* the producer waits for room, or is about to look for the last time before it does */
#define CLOSED         8

bool rung, told;
byte sent, delivered;
bool closing, ended; /* the producer has closed it; the shard has seen that */

inline ring_if_idle(mistake)
{
    fence(mistake);
    if
    :: SEEN(IDLE) ->
        exchange(IDLE, false, was);
        if :: was -> EMPTY; rung = true :: else fi
    :: else
    fi
}

inline wait_for_room(used_max)
{
    load(HEAD, head);
    do
    :: sent - head <= used_max -> break
    :: else ->
#if MISTAKE == 7
        load(HEAD, head);
        store(WAITING, true);
        fence(NEVER);
#else
        store(WAITING, true);
        fence(3);
        load(HEAD, head);
#endif
        if
        :: sent - head <= used_max -> store(WAITING, false)
        :: else -> told -> told = false; load(HEAD, head)
        fi
    od
}

active proctype Producer()
{
    byte head; /* w_spsc.head_seen */
    bool was;
    do
    :: sent < ITEMS && sent - head < SLOTS ->
#if MISTAKE == 5
        ring_if_idle(NEVER);
#endif
        atomic {
            store(SLOT(sent), sent + 1);
            sent++;
#if MISTAKE == 8
            store(TAIL, sent)
#else
            store_release(TAIL, sent)
#endif
        }
#if MISTAKE != 5
        ring_if_idle(1)
#endif
    :: sent < ITEMS && sent - head == SLOTS -> wait_for_room(SLOTS - 1) /* own_wait_for_room: any will do */
    :: sent < ITEMS && sent - head == SLOTS -> wait_for_room(SLOTS / 2) /* weir_channel_wait */
    :: closing = true; store_release(CLOSED, true); ring_if_idle(13); break
    :: break /* says no more and does not close either */
    od;
end:
    false
}

inline tell_if_waiting()
{
    fence(4);
    if
    :: SEEN(WAITING) && tail - delivered <= SLOTS / 2 ->
#if MISTAKE == 11
        store(WAITING, false); told = true
#else
        exchange(WAITING, false, was);
        if :: was -> EMPTY; told = true :: else fi
#endif
    :: else
    fi
}

inline look(mistake)
{
#if MISTAKE == 10
    load(TAIL, tail);
    load(CLOSED, closed)
#else
    if
    :: MISTAKE == mistake
    :: else -> load(CLOSED, closed)
    fi;
    load(TAIL, tail)
#endif
}

active proctype Shard()
{
    byte tail, seen;
    bool closed, was;
begin:
    look(NEVER);
go_on:
    do
    :: delivered != tail ->
#if MISTAKE == 9
        store_release(HEAD, delivered + 1);
#endif
        atomic { load(SLOT(delivered), seen); assert(seen == delivered + 1); delivered++; store_release(HEAD, delivered) }
        tell_if_waiting()
    :: else -> break
    od;
    if :: closed -> goto over :: else fi;
#if MISTAKE == 6
    look(NEVER);
    store(IDLE, true);
    fence(NEVER);
#else
    store(IDLE, true);
    fence(2);
    look(12);
#endif
    if
    :: closed || tail != delivered ->
        exchange(IDLE, false, was);
        if
        :: was -> goto go_on
        :: else /* taken by the producer, who has rung or is about to */
        fi
    :: else
    fi;
end:
    atomic { rung && EMPTY -> rung = false }
    goto begin;
over:
    ended = true
}

active proctype Rest()
{
    timeout;
    assert(Producer@end && delivered == sent && ended == closing)
}
