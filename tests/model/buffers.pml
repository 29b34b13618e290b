/* SPDX-License-Identifier: MIT */
/* buffers: memory as threads see it. Included by each model, after PROCESSES and CELLS.
 *
 * spin runs one step after the other, and each sees all that went before: on its own it never misses a fence. Here each process has a
 * buffer of stores that are not in memory yet, and Memory, a process, puts them there when it likes. A load looks into the own buffer
 * first, at the newest store to its cell.
 *
 * That is x86; this is weaker, about as weak as C11 allows, so that a release that is only relaxed is found too:
 *   store                 relaxed: may get into memory before older stores to other cells
 *   store_release         gets there after everything older
 *   exchange, fetch_or,   (all of them are seq_cst) wait for everything older, then read memory; what they write goes through the buffer
 *   fetch_add, swap       too, and nobody else can write the cell before it is there, but later loads do not wait for it, as on x86 they
 *                         do; swap is compare and swap
 *   load_sequential       a seq_cst load: waits for what store_sequential and the four above have in the buffer
 *   fence                 waits for the whole buffer; fence(N) is the one that mistake N forgets
 *
 * Left out: loads are done in order and at once, so a missing acquire is not found here (on x86 there is none to miss; the thread
 * sanitizer looks for those). A cell is a byte and never torn, as an atomic is not. A full buffer makes a store wait: a process is at
 * most three stores ahead of memory. A store only goes to the own buffer, so it may stand in one atomic step with what is around it: no
 * other process can tell. */
#define DEPTH 3 /* SEEN, SETTLED, put and Memory are written out for it */
#define NEVER 0 /* fence(NEVER): one that no mistake forgets */

#define RELAXED    0
#define RELEASE    1
#define SEQUENTIAL 2
#define LOCKED     3 /* the write of an exchange or a fetch_or */

#ifndef TOUCHED
#define TOUCHED(cell) skip /* what a model says to each load, store, and arrival in memory */
#endif

#define ME         (_pid - 1) /* Memory has the pid 0 */
#define AT(who, i) ((who) * DEPTH + (i))

byte memory[CELLS];
bool locked[CELLS];               /* an exchange or fetch_or has read the cell and its write is not there yet */
byte buffer[PROCESSES * DEPTH];   /* the oldest first: the cell and one, or 0: nothing */
byte value[PROCESSES * DEPTH];    /* what is stored there */
byte order[PROCESSES * DEPTH];

#define EMPTY    (buffer[AT(ME, 0)] == 0)
#define FULL     (buffer[AT(ME, DEPTH - 1)] != 0)
#define SETTLED  (order[AT(ME, 0)] < SEQUENTIAL && order[AT(ME, 1)] < SEQUENTIAL && order[AT(ME, 2)] < SEQUENTIAL)

#define SEEN(cell) \
    (buffer[AT(ME, 2)] == (cell) + 1 -> value[AT(ME, 2)] : \
    (buffer[AT(ME, 1)] == (cell) + 1 -> value[AT(ME, 1)] : \
    (buffer[AT(ME, 0)] == (cell) + 1 -> value[AT(ME, 0)] : memory[cell])))

inline put(cell, new, how)
{
    if
    :: buffer[AT(ME, 0)] == 0 -> buffer[AT(ME, 0)] = (cell) + 1; value[AT(ME, 0)] = new; order[AT(ME, 0)] = how
    :: buffer[AT(ME, 0)] != 0 && buffer[AT(ME, 1)] == 0 -> buffer[AT(ME, 1)] = (cell) + 1; value[AT(ME, 1)] = new; order[AT(ME, 1)] = how
    :: else -> buffer[AT(ME, 2)] = (cell) + 1; value[AT(ME, 2)] = new; order[AT(ME, 2)] = how
    fi
}

inline store_as(cell, new, how) { d_step { !FULL -> TOUCHED(cell); put(cell, new, how) } }
inline store(cell, new)            { store_as(cell, new, RELAXED) }
inline store_release(cell, new)    { store_as(cell, new, RELEASE) }
inline store_sequential(cell, new) { store_as(cell, new, SEQUENTIAL) }

inline load(cell, into)            { d_step { TOUCHED(cell); into = SEEN(cell) } }
inline load_sequential(cell, into) { d_step { SETTLED -> TOUCHED(cell); into = SEEN(cell) } }

inline exchange(cell, new, old)
{
    d_step { EMPTY && !locked[cell] -> TOUCHED(cell); locked[cell] = true; old = memory[cell]; put(cell, new, LOCKED) }
}

inline fetch_or(cell, bits)
{
    d_step { EMPTY && !locked[cell] -> TOUCHED(cell); locked[cell] = true; put(cell, memory[cell] | (bits), LOCKED) }
}

inline fetch_add(cell, number, old)
{
    d_step { EMPTY && !locked[cell] -> TOUCHED(cell); locked[cell] = true; old = memory[cell]; put(cell, memory[cell] + (number), LOCKED) }
}

/* Compare and swap. */
inline swap(cell, expected, new, done)
{
    d_step {
        EMPTY && !locked[cell] ->
        TOUCHED(cell);
        done = (memory[cell] == (expected));
        if :: done -> locked[cell] = true; put(cell, new, LOCKED) :: else fi
    }
}

#define fence(mistake) (EMPTY || (mistake != NEVER && MISTAKE == mistake))

/* The store in place i of who's buffer may get into memory now. */
#define ARRIVES(who, i) (buffer[AT(who, i)] != 0 && (order[AT(who, i)] == LOCKED || !locked[buffer[AT(who, i)] - 1]))
#define PASSES(who, i, older) (order[AT(who, i)] == RELAXED && buffer[AT(who, i)] != buffer[AT(who, older)])

inline arrive(who, i)
{
    TOUCHED(buffer[AT(who, i)] - 1);
    memory[buffer[AT(who, i)] - 1] = value[AT(who, i)];
    locked[buffer[AT(who, i)] - 1] = locked[buffer[AT(who, i)] - 1] && order[AT(who, i)] != LOCKED;
    place = i;
    do
    :: place < DEPTH - 1 ->
        buffer[AT(who, place)] = buffer[AT(who, place + 1)];
        value[AT(who, place)] = value[AT(who, place + 1)];
        order[AT(who, place)] = order[AT(who, place + 1)];
        place++
    :: else -> break
    od;
    buffer[AT(who, DEPTH - 1)] = 0; value[AT(who, DEPTH - 1)] = 0; order[AT(who, DEPTH - 1)] = 0;
    place = 0
}

active proctype Memory()
{
    byte place;
end:
    do
    :: d_step { ARRIVES(0, 0) -> arrive(0, 0) }
    :: d_step { ARRIVES(0, 1) && PASSES(0, 1, 0) -> arrive(0, 1) }
    :: d_step { ARRIVES(0, 2) && PASSES(0, 2, 0) && PASSES(0, 2, 1) -> arrive(0, 2) }
    :: d_step { ARRIVES(1, 0) -> arrive(1, 0) }
    :: d_step { ARRIVES(1, 1) && PASSES(1, 1, 0) -> arrive(1, 1) }
    :: d_step { ARRIVES(1, 2) && PASSES(1, 2, 0) && PASSES(1, 2, 1) -> arrive(1, 2) }
#if PROCESSES > 2
    :: d_step { ARRIVES(2, 0) -> arrive(2, 0) }
    :: d_step { ARRIVES(2, 1) && PASSES(2, 1, 0) -> arrive(2, 1) }
    :: d_step { ARRIVES(2, 2) && PASSES(2, 2, 0) && PASSES(2, 2, 1) -> arrive(2, 2) }
#endif
#if PROCESSES > 3
    :: d_step { ARRIVES(3, 0) -> arrive(3, 0) }
    :: d_step { ARRIVES(3, 1) && PASSES(3, 1, 0) -> arrive(3, 1) }
    :: d_step { ARRIVES(3, 2) && PASSES(3, 2, 0) && PASSES(3, 2, 1) -> arrive(3, 2) }
#endif
    od
}
