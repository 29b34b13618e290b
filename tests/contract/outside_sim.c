/* SPDX-License-Identifier: MIT */
/* outside_sim: the peers of the contract test in the simulated world: on good days, and on rough ones on which the kernel does whatever it
 * legally may (but for ending connections by itself). */
#include <check.h>
#include <errno.h>
#include <netinet/in.h>

#include "runtime/io/sim.h"
#include "tests/contract/outside.h"

static struct weir_sim_world *world;

static struct weir_sim_peer *peer_of(struct outside_peer *peer)
{
    return (struct weir_sim_peer *)(void *)peer;
}

static struct outside_peer *outside_of(struct weir_sim_peer *peer)
{
    return (struct outside_peer *)(void *)peer;
}

static void sim_open(uint64_t seed)
{
    world = weir_sim_world_create(seed, NULL);
}

static void rough_open(uint64_t seed)
{
    static const struct {
        enum weir_sim_fault fault;
        uint32_t chance_ppm;
    } chances[] = {
        {WEIR_SIM_SHORT_SEND, 300000},     {WEIR_SIM_SHORT_RECEIVE, 300000},   {WEIR_SIM_MULTISHOT_END, 200000},
        {WEIR_SIM_NO_BUFFERS, 50000},      {WEIR_SIM_NO_BUFFERS_IDLE, 200000}, {WEIR_SIM_BUFFERS_SPENT, 300000},
        {WEIR_SIM_LATE, 100000},           {WEIR_SIM_LATE_CANCEL, 300000},     {WEIR_SIM_CANCEL_MISSED, 500000},
        {WEIR_SIM_SHUFFLE, 300000},        {WEIR_SIM_ACCEPT_SPENT, 100000},    {WEIR_SIM_HANDLE_REUSE, 500000},
        {WEIR_SIM_OVERFLOW, 100000},       {WEIR_SIM_LATE_WAKE, 200000},       {WEIR_SIM_EARLY_RETURN, 100000},
        {WEIR_SIM_PARTIAL_SUBMIT, 200000}, {WEIR_SIM_HIDDEN_END, 500000},      {WEIR_SIM_CLOSE_WAKE, 500000},
        {WEIR_SIM_BUSY, 200000},
    };
    struct weir_sim_faults faults = {.plain_buffers = seed % 2 == 0};
    for (size_t i = 0; i < W_COUNT(chances); i++)
        faults.chance_ppm[chances[i].fault] = chances[i].chance_ppm;
    world = weir_sim_world_create(seed, &faults);
}

static void sim_close(void)
{
    ck_assert_uint_eq(weir_sim_handles(world), 0);
    weir_sim_world_destroy(&world);
}

static const struct w_io_engine *sim_engine(void)
{
    return weir_sim_engine(world);
}

static struct outside_peer *sim_connect(const struct w_io_address *address)
{
    return outside_of(weir_sim_peer_connect(world, address));
}

static bool sim_is_open(struct outside_peer *peer)
{
    return weir_sim_peer_state(peer_of(peer)) == WEIR_SIM_PEER_OPEN;
}

static void sim_address(struct outside_peer *peer, struct w_io_address *address)
{
    weir_sim_peer_address(peer_of(peer), address);
}

static int64_t sim_write(struct outside_peer *peer, const void *data, size_t bytes)
{
    return weir_sim_peer_write(peer_of(peer), data, bytes);
}

static int64_t sim_read(struct outside_peer *peer, void *data, size_t bytes)
{
    return weir_sim_peer_read(peer_of(peer), data, bytes);
}

static void sim_shutdown(struct outside_peer *peer)
{
    weir_sim_peer_shutdown(peer_of(peer));
}

static void sim_finish(struct outside_peer **peer)
{
    struct weir_sim_peer *gone = peer_of(*peer);
    weir_sim_peer_close(&gone);
    *peer = NULL;
}

static void sim_reset(struct outside_peer **peer)
{
    struct weir_sim_peer *gone = peer_of(*peer);
    weir_sim_peer_reset(&gone);
    *peer = NULL;
}

static struct outside_peer *sim_serve(struct w_io_address *address)
{
    struct weir_sim_peer *server = weir_sim_server(world, address, WEIR_SIM_SERVER_ACCEPTS);
    ck_assert_ptr_nonnull(server);
    weir_sim_peer_address(server, address);
    return outside_of(server);
}

static struct outside_peer *sim_accept(struct outside_peer *server)
{
    return outside_of(weir_sim_server_accept(peer_of(server)));
}

static int sim_adoptable(struct outside_peer **peer)
{
    struct weir_sim_peer *other;
    int descriptor = weir_sim_adoptable(world, &other);
    *peer = outside_of(other);
    return descriptor;
}

static int sim_inheritable(struct w_io_address *address)
{
    int descriptor = weir_sim_inheritable(world, address);
    ck_assert_int_ge(descriptor, 0);
    ck_assert_int_eq(weir_sim_engine(world)->local_address(world, descriptor, address), 0);
    return descriptor;
}

static bool sim_is_readable(struct w_io *io)
{
    (void)io;
    weir_sim_run_until(world, weir_sim_now_ns(world) + WEIR_MILLISECOND);
    return weir_sim_readable(world, 0);
}

static void wake_now(struct weir_sim_world *where, void *user)
{
    (void)where;
    struct w_io *io = user;
    io->engine->wake(io);
}

static void sim_wake_after(struct w_io *io, uint64_t after_ns)
{
    weir_sim_schedule(world, after_ns, wake_now, io);
}

static void sim_wake_done(void)
{
}

#define SIM_FUNCTIONS                                                                                                                      \
    .close = sim_close, .engine = sim_engine, .connect = sim_connect, .is_open = sim_is_open, .address = sim_address, .write = sim_write,  \
    .read = sim_read, .shutdown = sim_shutdown, .finish = sim_finish, .reset = sim_reset, .serve = sim_serve, .accept = sim_accept,        \
    .adoptable = sim_adoptable, .inheritable = sim_inheritable, .is_readable = sim_is_readable, .wake_after = sim_wake_after,              \
    .wake_done = sim_wake_done

const struct outside outside_sim = {.name = "sim", .open = sim_open, SIM_FUNCTIONS};
const struct outside outside_rough_sim = {.name = "rough sim", .rough = true, .open = rough_open, SIM_FUNCTIONS};
