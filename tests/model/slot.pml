/* SPDX-License-Identifier: MIT */
/* slot: round robin: who accepts for all shards when their slots are taken. Memory is that of buffers.pml.
 *
 *   Accepter  shard 0, without a free slot of its own for good: listener_hand_on counts the connection as arriving and sends it over;
 *             listener_is_out_of_slots, and then it waits until it is told
 *   Other     a shard of two slots: listener_place_here; a connection that ends, or whose placing fails: w_listener_retry; with -DTAKEN it
 *             takes a slot for itself, too (a dial, an adopted socket)
 *
 * Left out: the rings between them (own.pml, bell.pml): a record comes, and w_port_call_later loses none. More shards of the second kind:
 * they meet only in the wish, and whoever takes it tells. `arriving` is counted by relaxed operations, here by sequential ones: x86 has no
 * others.
 *
 * Checked: when everything has come to rest, nobody waits to be accepted while a slot is free; without TAKEN, and when no placing fails,
 * nobody is turned away: a slot never looks free twice; nobody runs in circles.
 *
 * Mistakes:
 *   1  no fence between the wish and the last look
 *   2  no fence between freeing a slot and the look at the wish
 *   3  the wish is stored after the last look
 *   4  who is told and finds no slot does not wish again [-DTAKEN]
 *   5  the slots in use are looked at before the connections on their way: one may be in neither
 *   6  a connection is on its way no more before it has its slot
 *   7  a slot that is free again because the placing failed is not told of
 *   8  nor is it looked whether somebody wishes for one who has seen a connection both on its way and placed */
#define PROCESSES 2
#define CELLS     3
#include "buffers.pml"

#ifndef ITEMS
#define ITEMS 3
#endif
#define SLOTS    2
#define COUNT    0 /* w_conn_table.count of the other */
#define ARRIVING 1
#define WISH     2 /* w_listener.waits_for_slot */

chan placing = [2] of { bool };
bool excused; /* a slot was taken, or a placing has failed */
byte told, used, ended, turned_away, extra;
bool waits;

inline free_slots()
{
#if MISTAKE == 5
    load(COUNT, count);
    load(ARRIVING, arriving)
#else
    load(ARRIVING, arriving);
    load(COUNT, count)
#endif
}

active proctype Accepter()
{
    byte count, arriving, accepted;
look:
    free_slots();
    if
    :: count + arriving < SLOTS
    :: else ->
#if MISTAKE == 3
        free_slots();
        store_sequential(WISH, true);
#else
        store_sequential(WISH, true);
        fence(1);
        free_slots();
#endif
        if
        :: count + arriving < SLOTS /* the wish stays: it may be told of once for nothing */
        :: else -> goto wait
        fi
    fi;
    if
    :: accepted == ITEMS -> goto over
    :: else
    fi;
    accepted++;
    fetch_add(ARRIVING, 1, arriving);
    EMPTY;
    placing!true;
    goto look;
wait:
    if
    :: accepted == ITEMS -> goto over
    :: else
    fi;
    waits = true;
end:
    atomic { told > 0 -> told--; waits = false }
#if MISTAKE == 4
    free_slots();
    if :: count + arriving >= SLOTS -> goto wait :: else fi;
#endif
    goto look;
over:
    skip
}

inline retry()
{
    fence(2);
    load(WISH, wish);
    if
    :: wish ->
        exchange(WISH, false, wish);
        if :: wish -> EMPTY; told++ :: else fi
    :: else
    fi
}

active proctype Other()
{
    byte was, wish, lasting;
    bool fails, placed, takes = true;
    if
    :: fails = true /* once there is no memory */
    :: skip
    fi;
    if /* so many connections never end */
    :: lasting = 1
    :: lasting = 2
    :: skip
    fi;
end:
    do
    :: nempty(placing) ->
        placing?_;
        if
        :: used < SLOTS && !fails ->
            placed = true;
#if MISTAKE == 6
            fetch_add(ARRIVING, 255, was);
            EMPTY;
            used++; store(COUNT, used)
#else
            used++; store(COUNT, used);
            fetch_add(ARRIVING, 255, was)
#endif
        :: used == SLOTS || fails ->
            placed = false;
            excused = excused || fails;
            fails = false;
            turned_away++;
            assert(excused);
            fetch_add(ARRIVING, 255, was)
        fi;
        if
        :: MISTAKE == 7 || (MISTAKE == 8 && placed)
        :: else -> retry()
        fi
    :: used > lasting -> used--; store(COUNT, used); ended++; retry()
#ifdef TAKEN
    :: takes && used < SLOTS -> takes = false; excused = true; extra = 1; used++; store(COUNT, used)
#endif
    od
}

active proctype Rest()
{
    timeout;
    assert(!waits || used == SLOTS);
    assert(waits || ended + used + turned_away == ITEMS + extra)
}
