/* SPDX-License-Identifier: MIT */
/* life: how an own channel begins and ends, when both sides may end it and one of them frees its memory. Memory is that of buffers.pml,
 * and nobody touches the channel's after it is freed: no load, no store, and no store that was left in a buffer.
 *
 *   Producer   weir_channel_open (the memory, and a record to the shard), weir_channel_publish with own_tell, w_own_close; w_own_event:
 *              looks for `ended` when its port is rung, and frees (w_own_destroy) when it has seen that and has closed; here it looks
 *              when it sends, too
 *   Shard      attach_here: attaches, or ends it when the connection is gone; w_own_look, w_own_take; the connection's end, at any time
 *              or never; w_own_end: `ended` is the last it touches, then it rings the port
 *
 * Left out: the ring's bytes and its room (own.pml); the way of the record and of the rings (bell.pml). A port that is closed closes its
 * channels, as here, perhaps before the shard has attached; whoever has the port's last reference then goes on in the producer's place.
 * The port is not the channel's memory: the shard rings it after `ended`, by a pointer and a reference of its own, when the channel may
 * be freed already. A connection that drains (`refused`) comes to the same as one that is gone, a little later.
 *
 * Checked: freed exactly once; what the producer is told was delivered is what was, for good; all that was committed before the close is
 * delivered if the connection lives; when everything has come to rest, the channel is freed; nobody runs in circles.
 *
 * Mistakes:
 *   1  the shard loads from the channel after ended
 *   2  the shard stores to it after ended
 *   3  the producer frees at close
 *   4  delivered is stored after ended
 *   5  ended is stored relaxed (x86 forgives it)
 *   6  the last look before waiting does not look at closed
 *   7  the tail is looked at before closed: what was sent between the two is lost
 *   8  no fence between closed and the look at idle
 *   9  no fence between idle and the last look
 *   10 a channel whose connection is gone before its record comes is not ended
 *   11 a ring of a channel that has ended is followed
 *   12 the shard rings the port before it stores ended */
#define PROCESSES 2
#define CELLS     6
#ifndef ITEMS
#define ITEMS 3
#endif
#define TAIL      0
#define IDLE      1
#define CLOSED    2
#define DELIVERED 3
#define ENDED     4 /* 0, or why */
#define ATTACH    5 /* the record in the port's ring: not the channel's memory */
bool freed;
#define TOUCHED(cell) assert(!freed || (cell) == ATTACH)
#include "buffers.pml"

#define FINISHED 1 /* closed, and all is delivered */
#define GONE     2 /* the connection has ended */

bool rung, port_rung;
bool mortal; /* the connection may end */
byte committed, delivered, told;

inline ring_if_idle(mistake)
{
    fence(mistake);
    load(IDLE, seen);
    if
    :: seen ->
        exchange(IDLE, false, seen);
        if :: seen -> EMPTY; rung = true :: else fi
    :: else
    fi
}

inline look_for_end()
{
    load(ENDED, seen);
    if :: seen != 0 && !over -> over = true; load(DELIVERED, told); assert(told == delivered && told <= committed) :: else fi
}

inline free() { atomic { EMPTY; assert(!freed); freed = true } }

active proctype Producer()
{
    byte seen;
    bool over; /* ended seen; the user has been told of committed - told */
    store_release(ATTACH, true);
    do
    :: committed < ITEMS && !over ->
        look_for_end();
        if
        :: over
        :: else -> atomic { committed++; store_release(TAIL, committed) } ring_if_idle(NEVER)
        fi
    :: port_rung && !over -> port_rung = false; look_for_end()
    :: break
    od;
    if
    :: over -> free()
    :: else ->
        store_release(CLOSED, true);
        ring_if_idle(8);
#if MISTAKE == 3
        free();
#endif
        do
        :: !over -> port_rung -> port_rung = false; look_for_end()
        :: over -> free(); break
        od
    fi
}

inline detach(reason)
{
    attached = false;
#if MISTAKE != 4
    store(DELIVERED, delivered);
#endif
#if MISTAKE == 12
    EMPTY; port_rung = true;
#endif
#if MISTAKE == 5
    store(ENDED, reason);
#else
    store_release(ENDED, reason);
#endif
#if MISTAKE == 4
    store(DELIVERED, delivered);
#elif MISTAKE == 1
    load(IDLE, seen);
#elif MISTAKE == 2
    store(IDLE, false);
#endif
#if MISTAKE != 12
    EMPTY; port_rung = true
#endif
}

inline look(mistake)
{
#if MISTAKE == 7
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
    byte tail, closed, seen;
    bool attached, gone, taken;
    if
    :: mortal = true
    :: skip
    fi;
end:
    do
    :: !taken && SEEN(ATTACH) ->
        taken = true;
        if
        :: !gone -> attached = true; goto begin
        :: gone && MISTAKE != 10 -> detach(GONE)
        :: gone && MISTAKE == 10
        fi
    :: rung ->
        rung = false;
        if :: attached || MISTAKE == 11 -> goto begin :: else fi
    :: mortal && !gone ->
        gone = true;
        if :: attached -> detach(GONE) :: else fi
    od;
begin:
    look(NEVER);
go_on:
    do
    :: delivered != tail -> delivered++
    :: delivered != tail && mortal && !gone -> gone = true; detach(GONE); goto end
    :: delivered == tail -> break
    od;
    if :: closed -> assert(delivered == committed); detach(FINISHED); goto end :: else fi;
    store(IDLE, true);
    fence(9);
    look(6);
    if
    :: closed || tail != delivered ->
        exchange(IDLE, false, seen);
        if
        :: seen -> goto go_on
        :: else /* taken by the producer, who has rung or is about to */
        fi
    :: else
    fi;
    goto end
}

active proctype Rest()
{
    timeout;
    assert(freed && told == delivered && (mortal || delivered == committed))
}
