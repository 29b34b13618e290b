/* SPDX-License-Identifier: MIT */
/* over: a shard goes over while a port sends to it, waits for room, and closes. Who takes what lies in their link, and who frees it.
 * Memory is that of buffers.pml; the link's is not touched after it is freed, not even by a store that was left in a buffer.
 *
 *   Port    w_port_link, port_make_link; port_publish_link; full: port_wait_for_room, then it waits to be told; w_port_collect: room, or
 *           the shard is over: w_port_reclaim; w_port_close
 *   Shard   w_port_link_here, crossing_link, w_port_release_there, crossing_let_go; at any time or never: w_port_over
 *
 * Both part from the link in the end (w_port_part); the second one takes what is left in it, as nobody's, and frees it. The port goes with
 * it: here the link and the port are one.
 *
 * Left out: bytes, answers (they lie in the link, too), blobs (home.pml), the levels of the bells (bell.pml: what was stored before is seen
 * after it, since both of its sides have a fence). A ring of two. The fence behind `over` in
 * w_port_over is not needed for what is checked here: a newcomer is taken by an exchange.
 *
 * Checked: each message is taken, comes back or is nobody's; nobody's only if the shard is over or the port has closed; of a port that
 * closes a living shard takes everything; who waits is told; the link is freed once, and when both have parted; nobody runs in circles.
 *
 * Mistakes:
 *   1  no fence between publishing and the look at over
 *   2  over is set after the look for newcomers
 *   3  over is not looked at after publishing
 *   4  a shard that goes over does not ring the port
 *   5  who closes does not take back a link that the shard has never found
 *   6  the shard parts from its link before it rings the port
 *   7  who parts first frees
 *   8  parting is a load and a store
 *   9  the tail is looked at before closing: what was sent between the two is left
 *   10 who waits for room does not look for over when it is told
 *   11 a shard that goes over keeps the links it has
 *   12 over is looked at before closing is told, when the port closes
 *   13 the link is left for the shard by a relaxed store (x86 forgives it) */
#define PROCESSES 2
#define CELLS     8
#ifndef ITEMS
#define ITEMS 3
#endif
#define SLOTS    2
#define NEWCOMER 0 /* w_core.newcomers: the shard's memory, as is the next */
#define OVER     1
#define TAIL     2
#define HEAD     3
#define WAITING  4
#define CLOSING  5
#define PARTED   6
#define WHOLE    7 /* what a new link has in it */
bool freed;
bool made; /* the link is whole */
#define TOUCHED(cell) assert(!freed || (cell) <= OVER)
#include "buffers.pml"

bool rung, port_rung;
bool mortal; /* the shard may go over */
byte sent, taken, back, nobodys;
bool closed;

inline part(found)
{
#if MISTAKE == 8
    load(PARTED, found);
    store_release(PARTED, found + 1);
#else
    fetch_add(PARTED, 1, found);
    EMPTY;
#endif
    if
    :: found == (MISTAKE == 7 -> 0 : 1) ->
        atomic { assert(!freed); nobodys = SEEN(TAIL) - taken - back; freed = true }
    :: else
    fi
}

inline ring_shard() { atomic { EMPTY; rung = true } }

/* What has come back, when the port is rung. */
inline collect()
{
    port_rung = false;
    load(OVER, over);
    if
    :: over ->
        back = sent - taken;
        told_over = true
    :: else
    fi
}

inline publish()
{
    atomic { sent++; store_release(TAIL, sent) }
    fence(1);
#if MISTAKE == 1
    rung = true;
#else
    ring_shard();
#endif
#if MISTAKE != 3
    load(OVER, over);
    if :: over -> port_rung = true :: else fi
#endif
}

inline wait_for_room()
{
    load(HEAD, head);
    if
    :: sent - head < SLOTS
    :: else ->
        store_sequential(WAITING, true);
        fence(NEVER);
        load(HEAD, head);
        if
        :: sent - head < SLOTS -> store(WAITING, false)
        :: else ->
            do
            :: port_rung ->
#if MISTAKE == 10
                port_rung = false;
#else
                collect();
#endif
                load(HEAD, head);
                if :: told_over || sent - head < SLOTS -> break :: else fi
            od
        fi
    fi
}

active proctype Port()
{
    byte head, found;
    bool over, told_over, mine, patient;
    if
    :: patient = true
    :: skip
    fi;
    /* the first message makes the link */
    load(OVER, over);
    if :: over -> goto end :: else fi;
    atomic {
        made = true;
        store(WHOLE, true);
#if MISTAKE == 13
        store(NEWCOMER, true)
#else
        store_release(NEWCOMER, true)
#endif
    }
    do
    :: sent < ITEMS && !told_over ->
        load(OVER, over);
        if :: over -> break :: else fi;
        wait_for_room();
        if :: told_over -> break :: else fi;
        publish()
    :: port_rung && !told_over -> collect()
    :: break
    od;
    do /* it may wait until all that it has sent is taken or has come back */
    :: patient && sent != taken + back -> port_rung || sent == taken + back; collect()
    :: !patient || sent == taken + back -> break
    od;
    closed = true;
#if MISTAKE == 12
    load(OVER, over);
#endif
    store_release(CLOSING, true);
    fence(NEVER);
    ring_shard();
#if MISTAKE != 12
    load(OVER, over);
#endif
    if
    :: over && MISTAKE != 5 ->
        exchange(NEWCOMER, false, mine);
        if :: mine -> fetch_add(PARTED, 1, found); assert(found == 0) :: else fi
    :: else
    fi;
    part(found);
end:
    false
}

inline find_link()
{
    if
    :: !link -> exchange(NEWCOMER, false, link)
    :: else
    fi;
    assert(!link || SEEN(WHOLE))
}

active proctype Shard()
{
    byte tail, head, seen, found;
    bool link, closing;
    if
    :: mortal = true
    :: skip
    fi;
end:
    do
    :: atomic { rung && EMPTY -> rung = false }
        find_link();
        if :: !link -> goto end :: else fi;
#if MISTAKE == 9
        load(TAIL, tail);
        load(CLOSING, closing);
#else
        load(CLOSING, closing);
        load(TAIL, tail);
#endif
        if
        :: tail != head ->
            atomic { taken = taken + tail - head; head = tail; store_release(HEAD, head) }
            fence(NEVER);
            load(WAITING, seen);
            if
            :: seen ->
                exchange(WAITING, false, seen);
                if :: seen -> EMPTY; assert(!freed); port_rung = true :: else fi
            :: else
            fi
        :: else
        fi;
        if :: closing -> link = false; EMPTY; part(found) :: else fi
    :: mortal -> break
    od;
#if MISTAKE == 2
    find_link();
    store_sequential(OVER, true);
#else
    store_sequential(OVER, true);
    fence(NEVER);
    find_link();
#endif
    if
    :: link && MISTAKE != 11 ->
        store(WAITING, false);
        EMPTY;
#if MISTAKE == 6
        part(found);
        assert(!freed); port_rung = true
#elif MISTAKE == 4
        part(found)
#else
        assert(!freed); port_rung = true;
        part(found)
#endif
    :: else
    fi
}

active proctype Rest()
{
    timeout;
    assert(freed == made && sent == taken + back + nobodys);
    assert(closed || !made);
    assert(nobodys == 0 || mortal)
}
