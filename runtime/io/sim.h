/* SPDX-License-Identifier: MIT */
/* sim: what our own tests need of the simulated kernel beside <weir/sim.h>, which is its manual: the engine, binary addresses, sockets to hand over, and time step by
 * step for a driver of one's own. The contract of io.h, without a kernel, a clock or a thread.
 *
 * A driver turns the shards (never inside an action), then lets the world go on:
 *
 *     world = weir_sim_world_create(seed, &faults);
 *     weir_open_on(weir_sim_engine(world), &config, &runtime, &error);
 *     while (...) weir_turn(shard, &sleep_ns), weir_sim_step(world);
 *     weir_close(&runtime);
 *     weir_sim_world_destroy(&world);
 *
 * (weir_sim_run() is one, in runtime/sim.c.)
 *
 * The caller's mistakes against the contract abort with a sentence that names the seed: two receives or two sends on a handle, a close
 * with operations under way, a second close, memory of an operation changed before its end, a buffer released too often or
 * never, a token of 64 bits or one already in flight, a call from another thread or from inside a scheduled action.
 *
 * Which errno of the real kernel is where: those of sockets are completions (SEND_ERROR, RECEIVE_ERROR, ACCEPT_..., CONNECT_..., AGAIN, NO_MEMORY). A completion's -EINTR uring.c
 * turns into -ECANCELED: WEIR_SIM_CANCELED. EINTR, EAGAIN and EBUSY of io_uring_enter it keeps to itself, and what the core sees is a submit() that comes back early, with
 * what was not taken still queued: WEIR_SIM_EARLY_RETURN and WEIR_SIM_BUSY. ENOTCONN is peer_address()'s: a receive on a dead connection is told 0 (ERROR_TAKEN). */
#ifndef W_SIM_H
#define W_SIM_H

#include <stdio.h>

#include <weir/sim.h>

#include "runtime/io/io.h"

/* Lives as long as the world. */
const struct w_io_engine *weir_sim_engine(struct weir_sim_world *world);

/* The trace into a file; NULL: silence. */
void weir_sim_trace(struct weir_sim_world *world, FILE *file);

/* --- for drivers --- */

/* When the next event is due; UINT64_MAX: none ever will be. */
uint64_t weir_sim_next_ns(struct weir_sim_world *world);
/* Lets the next event happen, moving time to it. False: there is none. */
bool weir_sim_step(struct weir_sim_world *world);
/* Lets everything happen that is due until then, and moves time there. */
void weir_sim_run_until(struct weir_sim_world *world, uint64_t now_ns);

/* True when the shard would find something: what is due, or a wake(). Turning it then loses nothing. */
bool weir_sim_stirring(const struct weir_sim_world *world, uint32_t shard_index);
/* What sleeping on descriptor() would tell an embedded shard: true when something came after may_sleep() had answered true; a shard that sleeps
 * without having asked is never woken. For one that is not embedded the same as weir_sim_stirring(). */
bool weir_sim_readable(const struct weir_sim_world *world, uint32_t shard_index);
/* To be asked before a shard is turned that wanted to be by due_ns: the place where STALL, CLOCK_JUMP and TIMER_TIE happen. False: not now, it stalls. */
bool weir_sim_may_turn(struct weir_sim_world *world, uint32_t shard_index, uint64_t due_ns);
/* True while it stalls. (Its end is an event: weir_sim_next_ns() knows.) */
bool weir_sim_stalls(const struct weir_sim_world *world, uint32_t shard_index);
/* The shard's engine fails for good: its next submit() answers `error` (negative), and its operations are gone without a completion. */
void weir_sim_break(struct weir_sim_world *world, uint32_t shard_index, int error);
/* Handles that are open in the world, listening and connected; for leak checks. */
uint32_t weir_sim_handles(const struct weir_sim_world *world);

/* --- binary addresses --- */

struct weir_sim_peer *weir_sim_peer_connect(struct weir_sim_world *world, const struct w_io_address *address);
/* The address at its end. */
void weir_sim_peer_address(const struct weir_sim_peer *peer, struct w_io_address *address);
/* Port 0: one is chosen. NULL: the address is taken. */
struct weir_sim_peer *weir_sim_server(struct weir_sim_world *world, const struct w_io_address *address, enum weir_sim_server manner);
/* What a name resolves to, after delay_ns: `result` addresses, or a negative errno. */
void weir_sim_name(struct weir_sim_world *world, const char *host, uint64_t delay_ns, int result, const struct w_io_address *addresses);

/* --- what an embedder may hand over --- */

/* A connected socket for adopt(): answers its descriptor, and the other end in *peer. */
int weir_sim_adoptable(struct weir_sim_world *world, struct weir_sim_peer **peer);
/* A listening socket for listen_inherited(): its descriptor, or a negative errno. */
int weir_sim_inheritable(struct weir_sim_world *world, const struct w_io_address *address);

#endif
