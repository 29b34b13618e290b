/* SPDX-License-Identifier: MIT */
/* want: back-pressure across threads. Who sends to a connection of another shard sees in one word whether it may, and is told when it may
 * again. Memory is that of buffers.pml.
 *
 *   Sender   port_road: the word says gone; or pressed: a WANT record (port_want), then it waits for READY; or neither: a message record.
 *            For both the ring must have room, else it waits for that and looks at the word again
 *   Shard    crossing_record: w_conn_take_crossed, w_conn_want; the kernel takes from the queue, w_conn_relieve; the end of the
 *            connection (w_conn_leave_others, and later the next generation), at any time or never
 *
 * Left out: bytes, and the bells of the rings (own.pml and bell.pml show that they lose nothing). A record is in the ring at once; the
 * shard's stores (room in the ring, READY, the word) come when they come. A READY is a count: the note that holds it is taken with the
 * WANT, so it always has a place. More senders meet only in the queue and the list of wanters. Several steps stand in one `atomic` where
 * only one of them looks at what others change.
 *
 * Checked: nobody wants for ever; never more READY than WANT; nobody is told READY and then finds the pressure that it asked about; what
 * was put into a ring comes into the queue, or back if the connection is gone; nobody runs in circles. The queue is bounded by its high
 * mark, what the rings hold, and one message in the hand of each sender, who had looked at the word before; less the one that reached the
 * mark, which still counts in its ring. It comes to that (mistake 9).
 *
 * Mistakes:
 *   1  WANT is not answered at once when the pressure is over already
 *   2  WANT is not answered at once when the connection is gone
 *   3  the wanters are not told of the end
 *   4  the wanters are told before the word is cleared
 *   5  the list of wanters is kept when they are told
 *   6  the list of wanters is dropped with the first one told
 *   7  room in the ring is given back before the word is pressed
 *   8  a message that comes while pressed is refused
 *   9  the queue's bound is one message less */
#define PROCESSES 3
#define CELLS     5
#include "buffers.pml"

#ifndef ITEMS
#define ITEMS 3
#endif
#define ROOM  1 /* in a ring */
#define HIGH  2
#define LOW   0
#define BOUND (HIGH + 2 * (ROOM + 1) - 1)

#define WORD       0            /* PASS, GONE, or n: pressed for the nth time */
#define HEAD(who)  (1 + (who))  /* w_spsc.head of the ring from who */
#define READY(who) (3 + (who))  /* w_spsc.published of the ring to who */
#define PASS       0
#define GONE       255

#define RECORDS (sent[ME] + wants[ME])

mtype = { MESSAGE, WANT };
chan ring[2] = [ROOM] of { mtype };

byte sent[2], taken[2], back[2], wants[2], readies[2];
bool done[2], wanting[2]; /* wanting: is on the list of wanters */
bool gone, pressed;
byte queue;

active [2] proctype Sender()
{
    byte word, asked, head;
    do
    :: sent[ME] == ITEMS -> break
    :: atomic { sent[ME] < ITEMS -> load(WORD, word); assert(asked == PASS || word != asked) }
        if
        :: word == GONE -> break
        :: word != GONE && (RECORDS - head < ROOM || SEEN(HEAD(ME)) != head) ->
            d_step {
                head = (RECORDS - head < ROOM -> head : SEEN(HEAD(ME)));
                if
                :: word == PASS -> ring[ME]!MESSAGE; sent[ME]++
                :: else -> ring[ME]!WANT; wants[ME]++; asked = word
                fi
            }
            if
            :: word == PASS
            :: word != PASS -> SEEN(READY(ME)) == wants[ME]
            fi
        :: atomic { word != GONE && RECORDS - head == ROOM && SEEN(HEAD(ME)) == head -> word = 0 }
            SEEN(HEAD(ME)) != head /* full: waits for room, then looks at the word again */
        fi
    od;
    done[ME] = true
}

inline ready(who) { readies[who]++; assert(readies[who] <= wants[who]); store_release(READY(who), readies[who]) }

inline ready_to_wanters()
{
    if :: wanting[0] -> ready(0) :: else fi;
    if :: wanting[1] && !(MISTAKE == 6 && wanting[0]) -> ready(1) :: else fi;
#if MISTAKE != 5
    wanting[0] = false;
    wanting[1] = false
#endif
}

inline queue_message()
{
    queue++;
    assert(queue <= BOUND - (MISTAKE == 9));
    if :: queue >= HIGH && !pressed -> pressed = true; times++; store(WORD, times) :: else fi
}

inline take(who)
{
#if MISTAKE == 7
    store_release(HEAD(who), got[who] + 1);
#endif
    if
    :: ring[who]?MESSAGE ->
        if
        :: gone || (MISTAKE == 8 && pressed) -> back[who]++
        :: else -> taken[who]++; queue_message()
        fi
    :: ring[who]?WANT ->
        if
        :: (gone && MISTAKE != 2) || (!gone && !pressed && MISTAKE != 1) -> ready(who)
        :: else -> assert(!wanting[who]); wanting[who] = true
        fi
    fi;
    got[who]++;
    store_release(HEAD(who), got[who])
}

inline relieve()
{
    pressed = false;
#if MISTAKE == 4
    ready_to_wanters();
    store(WORD, PASS)
#else
    store(WORD, PASS);
    ready_to_wanters()
#endif
}

inline drain()
{
    queue--;
    if :: queue <= LOW && pressed -> relieve() :: else fi
}

inline end_connection()
{
    gone = true;
    queue = 0;
#if MISTAKE != 3
    relieve()
#endif
}

active proctype Shard()
{
    bool mortal, free;
    byte times, got[2];
    if
    :: mortal = true
    :: skip
    fi;
end:
    do
    :: atomic { nempty(ring[0]) -> take(0) }
    :: atomic { nempty(ring[1]) -> take(1) }
    :: atomic { queue > 0 -> drain() }
    :: atomic { mortal && !gone -> end_connection() }
    :: atomic { gone && !free -> free = true; store(WORD, GONE) }
    od
}

active proctype Rest()
{
    timeout;
    assert(done[0] && done[1]);
    assert(taken[0] + back[0] == sent[0] && taken[1] + back[1] == sent[1]);
    assert(gone || (taken[0] == ITEMS && taken[1] == ITEMS))
}
