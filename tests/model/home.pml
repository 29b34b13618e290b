/* SPDX-License-Identifier: MIT */
/* home: big messages of a thread's port: how their memory comes home, also to a port that closes meanwhile, and how the port is told of
 * it when it had none left. Memory is that of buffers.pml; the port's is not touched after its last reference is gone.
 *
 *   Port    w_port_blob, w_port_take_returned, w_port_no_memory; w_port_collect with port_take_returned, w_port_take_home and
 *           w_port_collect_poor; weir_port_send_wait (its debt); w_port_orphan_blobs, w_port_close
 *   Shard   two: the last reference to a blob goes (w_port_send_home); link_return, w_port_free_orphans; then it has seen that the port
 *           closes, and lets go of its link. The second may be over at once: what was sent to it is dropped by the port (w_port_reclaim)
 *
 * Left out: the rings (own.pml, over.pml). There is memory for as many blobs as MEMORY, so that a blob more finds none. References are
 * counted in one step, by sequential operations; and a port that closes takes what has come home by an exchange, which here waits for all
 * that is older, as on x86: so the fence before that is not needed for what is checked.
 *
 * Checked: each blob is freed once, the port once and last; who was refused for memory is told, and one refusal is told once at the most
 * while it is owed; nobody runs in circles.
 *
 * Mistakes:
 *   1  no fence between returning and the look at closed
 *   2  what the port has not taken yet is lost when more is returned
 *   3  a port that closes does not look for what has come home
 *   4  the shard does not look whether the port has closed meanwhile
 *   5  what comes home by another way than the bell tells nobody
 *   6  what comes home because the shard is over tells nobody
 *   7  who closes takes by a load and a store
 *   8  a call that waits forgets what is owed to an earlier refusal
 *   9  a shard rings the port after it has let go of it
 *   10 the port is not rung for what has come home */
#define PROCESSES 3
#define CELLS     3
#ifndef ITEMS
#define ITEMS 3
#endif
#define MEMORY           2
#define RETURNED(number) ((number)-1) /* w_link.returned: how many */
#define CLOSED           2
bool freed;
#define TOUCHED(cell) assert(!freed)
#include "buffers.pml"

byte references = 3; /* open, and two links */
byte away, freed_blobs, made;
byte sent[3];     /* blobs on their way to a shard, by its number */
bool over[3], letting_go, port_rung;
bool poor, poor_tell, owed;

inline unreference()
{
    atomic { EMPTY; assert(!freed && references > 0); references--; freed = (references == 0) }
}

/* On the port's thread. */
inline take_home(count, mistake)
{
    atomic {
        away = away - count;
        freed_blobs = freed_blobs + count;
        references = references - count;
        poor_tell = poor_tell || (poor && count > 0 && (mistake == NEVER || MISTAKE != mistake))
    }
}

inline take_returned(number, count, mistake)
{
#if MISTAKE == 7
    load(RETURNED(number), count);
    store_release(RETURNED(number), 0);
#else
    exchange(RETURNED(number), 0, count);
#endif
    take_home(count, mistake)
}

inline collect_poor()
{
    atomic { if :: poor && poor_tell -> assert(owed); poor = false; poor_tell = false; owed = false :: else fi }
}

/* All numbers at once. */
inline collect()
{
    port_rung = false;
    take_returned(1, count, NEVER);
    take_returned(2, count, NEVER);
    if
    :: over[2] && sent[2] > 0 -> count = sent[2]; sent[2] = 0; take_home(count, 6)
    :: else
    fi;
    collect_poor()
}

inline make_blob()
{
    if
    :: away < MEMORY
    :: else ->
        take_returned(1, count, 5);
#if MISTAKE != 5
        if :: count > 0 && poor -> port_rung = true :: else fi;
#endif
        take_returned(2, count, 5);
#if MISTAKE != 5
        if :: count > 0 && poor -> port_rung = true :: else fi
#endif
    fi;
    if
    :: away < MEMORY -> atomic {
        made++; away++; references++;
        if
        :: sent[1]++
        :: !over[2] -> sent[2]++
        :: take_home(1, 5) /* the ring is full, after all: w_port_blob_done */
        fi }
    :: else -> refused = true
    fi
}

active proctype Port()
{
    byte count;
    bool refused, debt, calling, blocked;
    do
    :: port_rung -> collect(); blocked = false
    :: made < ITEMS && !blocked ->
        refused = false;
        make_blob();
        if
        :: refused && away > 0 && !calling -> poor = true; owed = true /* weir_port_send */
        :: refused && away > 0 -> /* weir_port_send_wait */
            debt = (calling -> debt : poor);
            calling = true;
            blocked = true;
            poor = false;
            poor_tell = false
        :: !refused && calling ->
            calling = false;
#if MISTAKE != 8
            poor = debt;
            poor_tell = debt;
            if :: debt -> port_rung = true :: else fi
#endif
        :: else
        fi
    :: owed && !blocked && !calling -> blocked = true /* waits to be told */
    :: !blocked && !calling -> break
    od;
    store_sequential(CLOSED, true);
    fence(NEVER);
#if MISTAKE != 3
    take_returned(1, count, NEVER);
    take_returned(2, count, NEVER);
#endif
    if
    :: over[2] && sent[2] > 0 -> count = sent[2]; sent[2] = 0; take_home(count, NEVER)
    :: else
    fi;
    EMPTY;
    letting_go = true;
    unreference();
end:
    false
}

active [2] proctype Shard()
{
    byte homeward, count;
    bool closed;
    if
    :: ME == 2 -> over[2] = true; port_rung = true
    :: skip
    fi;
end:
    do
    :: atomic { sent[ME] > 0 && !over[ME] -> homeward = sent[ME]; sent[ME] = 0 }
        load(CLOSED, closed);
        if
        :: closed -> count = homeward; homeward = 0
        :: else ->
#if MISTAKE == 2
            store_release(RETURNED(ME), homeward);
#else
            exchange(RETURNED(ME), 0, count);
            homeward = homeward + count;
            store_release(RETURNED(ME), homeward);
#endif
            homeward = 0;
            count = 0;
#if MISTAKE != 4
            fence(1);
            load(CLOSED, closed);
            if :: closed -> exchange(RETURNED(ME), 0, count) :: else fi;
#endif
#if MISTAKE != 10
            EMPTY; assert(!freed); port_rung = true
#endif
        fi;
        do
        :: count > 0 -> count--; atomic { away--; freed_blobs++; unreference() }
        :: else -> break
        od
    :: letting_go && (sent[ME] == 0 || over[ME]) ->
        atomic { count = sent[ME]; sent[ME] = 0 } /* w_port_part is the last one: what lies there is nobody's */
        do
        :: count > 0 -> count--; atomic { away--; freed_blobs++; unreference() }
        :: else -> break
        od;
        unreference();
#if MISTAKE == 9
        assert(!freed); port_rung = true;
#endif
        break
    od
}

active proctype Rest()
{
    timeout;
    assert(freed && freed_blobs == made && references == 0)
}
