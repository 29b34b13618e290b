/* SPDX-License-Identifier: MIT */
/* caller: a dial that may fail in every way, and may be given up at any moment. It says one word when it is open, and hangs up soon after. Outside there are two
 * servers for it: one takes every connection and drops it after a while, one never answers. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "tests/sim/run.h"

#define TALK_NS_MAX (50 * WEIR_MILLISECOND)
#define LOOK_NS     WEIR_MILLISECOND
#define DROP_OF     8 /* looks, on average, until the server drops one that it has taken */
#define TAKEN_MAX   W_COUNT(((struct run *)NULL)->taken)

static struct run_caller *caller_of(const weir_conn *conn)
{
    return weir_conn_user(conn);
}

/* --- outside --- */

/* 127.0.0.last */
static struct w_io_address address_of(uint32_t last, uint16_t port)
{
    struct w_io_address address = {.bytes = sizeof(struct sockaddr_in)};
    struct sockaddr_in *socket = (struct sockaddr_in *)&address.socket.storage;
    *socket = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + last)};
    return address;
}

/* Takes whoever comes, and drops those that it has in one way or another. */
static void serve(struct weir_sim_world *world, void *user)
{
    struct run *run = user;
    struct weir_sim_peer *peer;
    bool busy = false;
    for (uint32_t i = 0; i < TAKEN_MAX; i++) {
        uint8_t data[64];
        if (run->taken[i] == NULL && (peer = weir_sim_server_accept(run->servers[0])) != NULL)
            run->taken[i] = peer;
        if (run->taken[i] == NULL)
            continue;
        busy = true;
        weir_sim_peer_read(run->taken[i], data, sizeof data);
        if (run_below(run, DROP_OF) != 0)
            continue;
        if (run_one_of(run, 3))
            weir_sim_peer_reset(&run->taken[i]);
        else
            weir_sim_peer_close(&run->taken[i]);
    }
    bool needed = busy || !caller_all_done(run);
    if (needed && !run_is_ending(run))
        weir_sim_schedule(world, busy ? LOOK_NS : 10 * LOOK_NS, serve, run);
}

static void open_outside(struct run *run)
{
    struct w_io_address taker = address_of(1, 7001), silent = address_of(1, 7003);
    struct w_io_address many[2] = {address_of(9, 7000), run->address};
    run->servers[0] = weir_sim_server(run->world, &taker, WEIR_SIM_SERVER_ACCEPTS);
    run->servers[1] = weir_sim_server(run->world, &silent, WEIR_SIM_SERVER_SILENT);
    RUN_CHECK(run, run->servers[0] != NULL && run->servers[1] != NULL, "no servers outside");
    weir_sim_name(run->world, "nobody.test", run_magnitude(run, 0, 10 * WEIR_MILLISECOND), 0, NULL);
    weir_sim_name(run->world, "late.test", 30 * WEIR_SECOND, 1, many);
    if (run->plan.unix_address)
        many[1] = address_of(8, 7000);
    weir_sim_name(run->world, "many.test", run_magnitude(run, 0, WEIR_SECOND), 2, many);
    weir_sim_schedule(run->world, WEIR_MILLISECOND, serve, run);
}

/* --- inside --- */

static void hang_up(weir_shard *shard, weir_timer *timer, void *user)
{
    struct run_caller *caller = user;
    (void)timer;
    weir_conn *conn = weir_find(shard, caller->conn);
    RUN_CHECK(caller->run, conn != NULL && caller->is_open, "caller %u is open, and not found", caller->index);
    if (caller->aborts)
        weir_abort(conn);
    else
        weir_end(conn);
}

static int on_open(weir_conn *conn)
{
    struct run_caller *caller = caller_of(conn);
    struct run *run = caller->run;
    run_note(run, "caller %u is open: %s", caller->index, caller->address);
    RUN_CHECK(run, !caller->is_open && caller->dialed, "caller %u is open twice", caller->index);
    RUN_CHECK(run, weir_shard_index(weir_conn_shard(conn)) == caller->shard, "caller %u is open on another shard", caller->index);
    caller->is_open = true;
    caller->opened++;
    caller->conn = weir_conn_id(conn);
    run->feats[RUN_CALL_OPEN]++;
    int code = weir_send(conn, "hello", 5);
    RUN_CHECK(run, code == 0 || code == -EAGAIN, "a caller's word: %d (%s)", code, weir_strerror(code));
    if (code == 0) {
        run->accepted_messages += weir_conn_protocol(conn)->codec.boundaries;
        run->accepted_bytes += run_wire_bytes(weir_conn_protocol(conn), "hello", 5);
    }
    if (caller->hangs_up && run_one_of(run, 2)) {
        weir_end(conn);
        return 0;
    }
    weir_timer_set(weir_conn_shard(conn), &caller->hang_up, run_below(run, TALK_NS_MAX), hang_up, caller);
    return 0;
}

static void check_end(const struct run_caller *caller, const weir_close_event *event)
{
    const struct run *run = caller->run;
    bool failed = event->reason == WEIR_REASON_DIAL_FAILED || event->reason == WEIR_REASON_DIAL_LATE || event->reason == WEIR_REASON_NAME;
    RUN_CHECK(run, event->reason != WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT, "a caller was closed without a reason");
    RUN_CHECK(run, !failed || !caller->is_open, "caller %u was open, and ended: %s", caller->index, weir_reason_name(event->reason));
    RUN_CHECK(run, caller->is_open || event->undelivered_bytes == 0, "caller %u was not open, and something is undelivered", caller->index);
    RUN_CHECK(run, event->reason != WEIR_REASON_NAME || strstr(caller->address, ".test") != NULL, "caller %u dialed no name: %s",
              caller->index, caller->address);
    RUN_CHECK(run, event->reason != WEIR_REASON_ABORTED || caller->is_open || caller->stopped || run_is_ending(run),
              "caller %u was aborted, and by nobody", caller->index);
    RUN_CHECK(run, !run->plan.clean || run_is_ending(run) || caller->is_open || caller->stopped || failed,
              "a good day, and caller %u ended: %s", caller->index, weir_reason_name(event->reason));
    RUN_CHECK(run, event->reason != WEIR_REASON_DIAL_FAILED || event->error < 0, "caller %u failed without an error", caller->index);
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    struct run_caller *caller = caller_of(conn);
    struct run *run = caller->run;
    run_note(run, "caller %u, %s: %s (%d)", caller->index, caller->address, weir_reason_name(event->reason), event->error);
    check_end(caller, event);
    run->feats[RUN_CALL_FAILED] += !caller->is_open;
    run->undelivered_messages += event->undelivered_messages;
    run->undelivered_bytes += event->undelivered_bytes;
    weir_timer_clear(weir_conn_shard(conn), &caller->hang_up);
    caller->is_open = false;
    caller->ended++;
    caller->over = !caller->options.redial || caller->stopped;
}

static void give_up(weir_shard *shard, weir_timer *timer, void *user)
{
    struct run_caller *caller = user;
    struct run *run = caller->run;
    (void)timer;
    bool over = caller->over && !caller->options.redial;
    int code = weir_dial_stop(shard, caller->dial);
    run_note(run, "caller %u gives up: %d", caller->index, code);
    RUN_CHECK(run, code == 0 || code == -ESTALE, "stopping a dial: %d (%s)", code, weir_strerror(code));
    RUN_CHECK(run, !over || code == -ESTALE, "a dial that is over was stopped: %d", code);
    int again = weir_dial_stop(shard, caller->dial); /* an attempt under way is there until it has ended; anything else is not */
    RUN_CHECK(run, again == -ESTALE || (again == 0 && code == 0 && !caller->is_open), "stopping a dial again: %d", again);
    run->feats[again == 0 ? RUN_CALL_STOPPED : RUN_CALL_OVER]++;
    caller->stopped = true;
    caller->over |= again != 0 && !caller->is_open;
}

static void dial(weir_shard *shard, weir_timer *timer, void *user)
{
    struct run_caller *caller = user;
    struct run *run = caller->run;
    weir_error error;
    int code = weir_dial(shard, caller->address, &run->plan.call, &caller->options, &caller->dial, &error);
    run_note(run, "caller %u dials %s: %d", caller->index, caller->address, code);
    RUN_CHECK(run,
              code == 0 || (code == -ENOSPC && (run->plan.config.dials != 0 || run->plan.config.connections < 64)) ||
                  (code == -ENOMEM && run->plan.starve_permille > 0) || (code == -ESHUTDOWN && run_is_ending(run)),
              "dialling %s: %s", caller->address, error.sentence);
    for (uint32_t i = 0; i < run->plan.caller_count; i++) /* whose place it may have */
        if (run->callers[i].over && run->callers[i].dialed && run->callers[i].shard == caller->shard)
            RUN_CHECK(run, weir_dial_stop(shard, run->callers[i].dial) == -ESTALE, "a dial that is over was stopped");
    caller->dialed = code == 0;
    caller->over = code != 0;
    if (code == 0 && caller->stop_ns != UINT64_MAX)
        weir_timer_set(shard, timer, caller->stop_ns, give_up, caller);
}

void caller_init(struct run *run)
{
    weir_protocol *protocol = &run->plan.call;
    protocol->name = "call";
    protocol->user = run;
    protocol->on_open = on_open;
    protocol->on_close = on_close;
    if (run->plan.caller_count == 0)
        return;
    open_outside(run);
    for (uint32_t i = 0; i < run->plan.caller_count; i++)
        run->callers[i].options.user = &run->callers[i];
}

void caller_start(struct run *run, weir_shard *shard)
{
    for (uint32_t i = 0; i < run->plan.caller_count; i++)
        if (run->callers[i].shard == weir_shard_index(shard))
            weir_timer_set(shard, &run->callers[i].timer, run->callers[i].start_ns, dial, &run->callers[i]);
}

bool caller_all_done(const struct run *run)
{
    for (uint32_t i = 0; i < run->plan.caller_count; i++)
        if (!run->callers[i].over && (!run->callers[i].options.redial || run->callers[i].is_open))
            return false;
    return true;
}

void caller_finish(struct run *run)
{
    for (uint32_t i = 0; i < TAKEN_MAX; i++)
        weir_sim_peer_close(&run->taken[i]);
    for (uint32_t i = 0; i < 2; i++)
        weir_sim_peer_close(&run->servers[i]);
}
