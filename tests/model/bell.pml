/* SPDX-License-Identifier: MIT */
/* bell: no ring is lost and no wake-up. runtime/bell.h, with the two sleeps that it is put to use with (sleeps.pml). Memory is that
 * of buffers.pml.
 *
 *   Ringer   w_spsc_publish, w_bell_ring, and a wake if that says so; one ringer twice, the other once
 *   Reader   w_bell_hear, and w_spsc_look for each number; w_bell_doze, and a sleep if that says so
 *
 * Three levels as in bell.h, of two bits a word instead of 64. The second ringer's number stands in the first one's word, in another word
 * of its middle, or in another middle. The reader takes one item at a time, and when there is more it rings itself, as a shard with a
 * budget does.
 *
 * Left out: more ringers and more bits, since ringers meet only in words that both set, and two are enough for that; what hear() keeps
 * between calls, since doze() sleeps only when all of it is answered (w_bell_is_due); turns that do not want to sleep, since they are
 * those whose doze answers false. The kernel's tokens (MSG_RING, eventfd) are counted and never lost.
 *
 * Checked: when everything has come to rest, all that was published has been read; nobody runs in circles: with nothing to do, the reader
 * sleeps.
 *
 * Mistakes:
 *   1  no fence in ring: the bit is looked at before the data can be seen (pair 1)
 *   2  no fence in hear: the data is looked at before the bit can be seen to be clear (pair 1; x86 forgives it)
 *   3  no fence in doze (pair 2)
 *   4  the bit is set before the data is published
 *   5  the levels are set from above
 *   6  top is cleared after what is below it
 *   7  doze does not look again
 *   8  asleep is looked at by a relaxed load, before top can be seen (pair 2; x86 forgives it)
 *   9  woken is used up between doze and sleep (anywhere before doze will do, after hear too)
 *   10 the sleep does not look at woken
 *   11 woken is never used up [circle]
 *   12 the port's event is reset after doze [-DPORT] */
#define PROCESSES 3
#define CELLS     11
#include "buffers.pml"

#ifndef ITEMS
#define ITEMS 2
#endif
#define SECOND_ITEMS 1

#define DATA(ringer)   (ringer)           /* w_spsc.published */
#define WORD(number)   (2 + (number) / 2) /* w_bell.near_words */
#define MIDDLE(number) (5 + (number) / 4) /* w_bell.near_middle, far_middles */
#define TOP            7                  /* w_bell.top */
#define ASLEEP         8                  /* w_bell.asleep */

#define WORD_BIT(number)   (1 << ((number) % 2))
#define MIDDLE_BIT(number) (1 << ((number) / 2 % 2))
#define TOP_BIT(number)    (1 << ((number) / 4))
#define LOWEST(bits)       ((bits) & 1 -> 0 : 1)
#define RINGER(number)     ((number) != 0)

byte read[2]; /* items, of each ringer */

inline set(cell, bits)
{
    if
    :: SETTLED && (SEEN(cell) & (bits)) != 0
    :: SETTLED && (SEEN(cell) & (bits)) == 0 -> fetch_or(cell, bits)
    fi
}

inline ring(number, must_wake)
{
    fence(1);
    if
    :: SEEN(WORD(number)) & WORD_BIT(number) -> must_wake = false
    :: else ->
#if MISTAKE == 5
        set(TOP, TOP_BIT(number));
        set(MIDDLE(number), MIDDLE_BIT(number));
        fetch_or(WORD(number), WORD_BIT(number));
#else
        fetch_or(WORD(number), WORD_BIT(number));
        set(MIDDLE(number), MIDDLE_BIT(number));
        set(TOP, TOP_BIT(number));
#endif
#if MISTAKE == 8
        load(ASLEEP, must_wake)
#else
        load_sequential(ASLEEP, must_wake)
#endif
    fi
}

#include "sleeps.pml"

active [2] proctype Ringer()
{
    byte number, items;
    bool must_wake, seen;
    if
    :: ME == 0
    :: ME == 1 -> number = 1
    :: ME == 1 -> number = 2
    :: ME == 1 -> number = 4
    fi;
    do
    :: items < (ME == 0 -> ITEMS : SECOND_ITEMS) ->
        items++;
#if MISTAKE != 4
        store_release(DATA(ME), items);
#endif
        ring(number, must_wake);
#if MISTAKE == 4
        store_release(DATA(ME), items);
#endif
        if :: must_wake -> wake() :: else fi
    :: else -> break
    od
}

active proctype Reader()
{
    byte tops, middles, bits, number;
    bool must_wake, seen, hasty;
    be_patient();
hear:
    if :: SEEN(TOP) == 0 -> goto doze :: else fi;
#if MISTAKE == 6
    load(TOP, tops);
#else
    exchange(TOP, 0, tops);
#endif
    do
    :: atomic { tops != 0 -> number = 4 * LOWEST(tops); tops = tops & (tops - 1); exchange(MIDDLE(number), 0, middles) }
        do
        :: atomic { middles != 0 ->
            number = (number & 4) + 2 * LOWEST(middles);
            middles = middles & (middles - 1);
            exchange(WORD(number), 0, bits) }
            fence(2);
            do
            :: atomic { bits != 0 -> number = (number & 6) + LOWEST(bits); bits = bits & (bits - 1) }
                if
                :: SEEN(DATA(RINGER(number))) == read[RINGER(number)] /* rung twice for what was read at once */
                :: SEEN(DATA(RINGER(number))) == read[RINGER(number)] + 1 -> read[RINGER(number)]++
                :: SEEN(DATA(RINGER(number))) > read[RINGER(number)] + 1 ->
                    read[RINGER(number)]++;
                    ring(number, must_wake);
                    assert(!must_wake)
                fi
            :: else -> break
            od
        :: else -> break
        od
    :: else -> break
    od;
#if MISTAKE == 6
    exchange(TOP, 0, seen);
#endif
    goto hear;
doze:
    forget();
    store_sequential(ASLEEP, true);
    fence(3);
    if
    :: SEEN(TOP) != 0 && MISTAKE != 7 -> store(ASLEEP, false)
    :: else -> sleep()
    fi;
    rise();
    goto hear
}

active proctype Rest()
{
    timeout;
    assert(read[0] == ITEMS && read[1] == SECOND_ITEMS)
}
