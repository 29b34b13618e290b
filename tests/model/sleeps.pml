/* SPDX-License-Identifier: MIT */
/* sleeps: how the bell's reader sleeps, and how it is woken when w_bell_ring says so. Part of bell.pml.
 *
 * A shard (runtime/io/uring.c): uring_wake; sleep_in_ring, use_up_wake. `woken` makes one token of several wakes; it and `asleep` (here
 * PARKED) are a pair of their own. The turn takes the tokens that have come, whether it slept or not.
 *
 * A thread's port, with -DPORT: w_port_ring_back; w_port_sleep, which may come to its time limit. Whoever clears the bell's own `asleep`
 * sets the event; that stays set until it is forgotten, which comes before the doze.
 *
 * The kernel loses no token, and no system call is taken for a fence. */
byte tokens; /* the kernel's, for the reader */

#ifdef PORT

inline wake()
{
    exchange(ASLEEP, false, seen);
    if :: seen -> tokens = 1 :: else fi
}

inline be_patient()
{
    if
    :: hasty = true /* one sleep comes to its time limit */
    :: skip
    fi
}

inline forget() { tokens = (MISTAKE == 12 -> tokens : 0) }

inline sleep()
{
    tokens = (MISTAKE == 12 -> 0 : tokens);
end:
    if
    :: tokens > 0
    :: hasty -> hasty = false
    fi
}

inline rise() { store(ASLEEP, false) }

#else

#define PARKED 9  /* w_uring.asleep */
#define WOKEN  10 /* w_uring.woken */

inline wake()
{
    exchange(WOKEN, true, seen);
    if
    :: seen
    :: !seen && SETTLED && SEEN(PARKED) -> tokens++
    :: !seen && SETTLED && !SEEN(PARKED)
    fi
}

inline be_patient() { skip }
inline forget()     { skip }

inline sleep()
{
#if MISTAKE == 9
    exchange(WOKEN, false, seen);
#endif
    store_sequential(PARKED, true);
    if
    :: SETTLED && SEEN(WOKEN) && MISTAKE != 10 -> store(PARKED, false)
    :: SETTLED && (!SEEN(WOKEN) || MISTAKE == 10) ->
end:    atomic { tokens > 0 -> store(PARKED, false) }
    fi
}

inline rise()
{
#if MISTAKE != 11
    if :: SEEN(WOKEN) -> exchange(WOKEN, false, seen) :: else fi;
#endif
    atomic { tokens = 0; store(ASLEEP, false) }
}

#endif
