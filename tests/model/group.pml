/* SPDX-License-Identifier: MIT */
/* group: a group is closed while others send to it, join it, close it too, and open the next one in its place; and how the shards hear of
 * it: the epoch of the runtime's orders. Memory is that of buffers.pml.
 *
 *   User    a thread's port: weir_group_open, weir_group_join, weir_group_close, and again, for the next life of the group, on both shards;
 *           in the end a message to that
 *   Closer  another thread, which closes the first life, too, and may have told the shards of something else before
 *   Shard   two: shard_follow_orders, w_group_follow; group_join_here and w_group_deliver as the records come, in their order
 *
 * The group's word (w_group.life) is {generation, state}; a name is its generation. A listener lives in the same way. Left
 * out: the rings (own.pml, over.pml) and the wakes' way (bell.pml): a wake is a token.
 *
 * Checked: only one of two closers closes, and nobody closes what he does not name; whoever has joined a life gets what is sent to it
 * behind that, and nobody gets what is sent to another; a closed group has no members, and every shard has emptied its part before it is
 * opened again; when everything has come to rest, the second life is open with all its members; nobody runs in circles.
 *
 * Mistakes:
 *   1  closing looks at the name first and then swaps the state alone
 *   2  who closes sets the count of shards that are left, before it knows that it is the one
 *   3  a shard counts itself out before it has emptied its part
 *   4  a shard does not know which life it has emptied
 *   5  the name in a record is not looked at
 *   6  the epoch is advanced before the group is closed
 *   7  only one shard is woken
 *   8  the generation is told apart from the state, before it: seen new with the old state
 *   9  the part is marked unused behind the count
 *   10 the epoch is read behind the orders */
#define PROCESSES 4
#define CELLS     6
#include "buffers.pml"

#ifndef ITEMS
#define ITEMS 2
#endif
#define WORD        0
#define LEFT        1 /* w_group.shards_left */
#define EPOCH       2
#define USED(shard) (3 + (shard))
#define GENERATION  5 /* mistake 8 */

#define FREE                    0
#define OPEN                    1
#define CLOSING                 2
#define LIFE(generation, state) ((generation) * 4 + (state))
#define LIFE_OF(word)           ((word) / 4)
#define STATE_OF(word)          ((word) % 4)
#define JOIN                    0
#define SEND                    4

#define SHARD   (ME - 2)

chan ring[2] = [2] of { byte }; /* JOIN or SEND, and the name */
bool woken[2];
byte closes;                    /* of the first life */
byte members[2];                /* of which life; 0: none */
byte got[2];

inline wake_shards() { atomic { EMPTY; woken[0] = true; woken[1] = (MISTAKE != 7 || woken[1]) } }

/* Something else that the shards are told: a listener, perhaps. */
inline give_order() { fetch_add(EPOCH, 1, old); wake_shards() }

inline close(name)
{
#if MISTAKE == 6
    fetch_add(EPOCH, 1, old);
#endif
#if MISTAKE == 1 || MISTAKE == 2
    load(WORD, old);
    done = (old == LIFE(name, OPEN));
    if
    :: done ->
#if MISTAKE == 2
        store(LEFT, 2);
        swap(WORD, LIFE(name, OPEN), LIFE(name, CLOSING), done)
#else
        d_step {
            EMPTY && !locked[WORD] ->
            done = (STATE_OF(memory[WORD]) == OPEN);
            if :: done -> locked[WORD] = true; put(WORD, LIFE(LIFE_OF(memory[WORD]), CLOSING), LOCKED) :: else fi
        }
#endif
    :: else
    fi;
#else
    swap(WORD, LIFE(name, OPEN), LIFE(name, CLOSING), done);
#endif
    if
    :: done ->
        closes++;
        assert(closes == 1);
#if MISTAKE != 6
        fetch_add(EPOCH, 1, old);
#endif
        wake_shards()
    :: else
    fi
}

inline open(name)
{
    do
    :: SEEN(WORD) == LIFE((name) - 1, FREE) -> swap(WORD, LIFE((name) - 1, FREE), LIFE(name, OPEN), done); assert(done); EMPTY; break
    od;
    assert(members[0] == 0 && members[1] == 0)
}

inline join(name, shard)
{
    load(WORD, old);
    if
    :: old == LIFE(name, OPEN) -> store(USED(shard), true); EMPTY; ring[shard]!(JOIN + (name))
    :: else
    fi
}

inline send(name, shard)
{
    load(USED(shard), old);
    if :: old -> ring[shard]!(SEND + (name)) :: else fi
}

active proctype User()
{
    byte old;
    bool done;
    atomic { memory[LEFT] = 2 }
    open(1);
    join(1, 0);
    close(1);
    open(2);
    join(2, 0);
    join(2, 1);
    send(2, 0);
#if ITEMS > 1
    send(2, 1)
#else
    got[1] = 1
#endif
}

active proctype Closer()
{
    byte old;
    bool done;
    bool is_other = (ITEMS > 1);
    do
    :: is_other -> is_other = false; give_order()
    :: SEEN(WORD) >= LIFE(1, OPEN) -> close(1); break
    od
}

inline empty_part()
{
    members[SHARD] = 0;
#if MISTAKE != 9
    store(USED(SHARD), false)
#endif
}

inline follow()
{
    load(WORD, word);
    life = LIFE_OF(word);
    generation = life;
    if
    :: STATE_OF(word) == CLOSING ->
#if MISTAKE == 8
        load(GENERATION, life);
        life = life + 1;
#endif
        if
        :: closed_life != life || MISTAKE == 4 ->
#if MISTAKE != 3
            empty_part();
#endif
            closed_life = life;
            fetch_add(LEFT, 255, word);
#if MISTAKE == 3
            EMPTY; empty_part();
#elif MISTAKE == 9
            store(USED(SHARD), false);
#endif
            if
            :: word == 1 ->
#if MISTAKE != 2
                store(LEFT, 2);
#endif
#if MISTAKE == 8
                store_release(GENERATION, generation);
#endif
                store_release(WORD, LIFE(generation, FREE))
            :: else
            fi
        :: else
        fi
    :: else
    fi
}

inline take_record(name)
{
    load(WORD, word);
    if
    :: word == LIFE((name) % SEND, OPEN) || MISTAKE == 5 ->
        if
        :: (name) < SEND -> members[SHARD] = name
        :: else -> assert(members[SHARD] == (name) - SEND); got[SHARD]++
        fi
    :: else
    fi
}

active [2] proctype Shard()
{
    byte epoch, seen, word, life, generation, closed_life, record;
end:
    do
    :: woken[SHARD] ->
        woken[SHARD] = false;
        load(EPOCH, seen);
        if
        :: seen != epoch ->
#if MISTAKE == 10
            follow();
            load(EPOCH, epoch)
#else
            epoch = seen;
            follow()
#endif
        :: else
        fi
    :: ring[SHARD]?record -> take_record(record)
    od
}

active proctype Rest()
{
    timeout;
    assert(memory[WORD] == LIFE(2, OPEN) && memory[LEFT] == 2 && closes == 1);
    assert(members[0] == 2 && members[1] == 2 && got[0] == 1 && got[1] == 1)
}
