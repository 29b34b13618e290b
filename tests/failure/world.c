/* SPDX-License-Identifier: MIT */
/* world: a runtime in which something fails. */
#include "world.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "runtime/io/io.h"
#include "scenarios.h"

#define PATIENCE_NS ((FAILURE_SANITIZED ? 30 : 10) * WEIR_SECOND)
#define GRACE_NS    (20 * WEIR_MILLISECOND) /* for what may still come when something is broken for good */
#define DROUGHT_NS  (5 * WEIR_MILLISECOND)  /* so long a wait ends a drought */

static char mark; /* the user of a connection that has opened */

uint64_t world_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * WEIR_SECOND + (uint64_t)now.tv_nsec;
}

_Noreturn void world_abort(const struct world *world, const char *what)
{
    ck_abort_msg("%s; %s; fired %llu: %s does not hold (errors %u, cut %u, turn %d, log: %s)", world->scenario->name, failure.said,
                 (unsigned long long)failure.fired, what, world->errors, world->cut, world->turn_error, world->last_log);
}

bool world_went(struct world *world, int result)
{
    if (result == 0)
        return true;
    WORLD_MUST(world, result < 0 && weir_strerror(result)[0] != '\0');
    world->errors++;
    return false;
}

/* --- memory and descriptors --- */

static void *allocate(void *user, size_t bytes, size_t alignment)
{
    struct world *world = user;
    void *memory = NULL;
    if (failure_now(FAILURE_ALLOCATION) != 0)
        return NULL;
    if (posix_memalign(&memory, alignment < sizeof(void *) ? sizeof(void *) : alignment, bytes) != 0)
        return NULL;
    memset(memory, 0xa5, bytes);
    world->pieces++;
    world->bytes += (int64_t)bytes;
    return memory;
}

static void release(void *user, void *memory, size_t bytes)
{
    struct world *world = user;
    memset(memory, 0x5a, bytes);
    world->pieces--;
    world->bytes -= (int64_t)bytes;
    free(memory);
}

/* A bit for each of the first 64 descriptors. New ones have the lowest free numbers. */
static uint64_t open_files(void)
{
    uint64_t files = 0;
    for (int descriptor = 0; descriptor < 64; descriptor++)
        files |= (uint64_t)(fcntl(descriptor, F_GETFD) >= 0) << descriptor;
    return files;
}

/* All descriptors are home. When a ring is gone while a multishot accept is armed on it, the kernel may still bring one, of which nobody
 * hears: that one is closed here. */
static void check_files(struct world *world)
{
    uint64_t more = open_files() & ~world->files;
    if (failure.plan.kind == FAILURE_CALL_RING_ENTER && failure_plan_is_fatal(&failure.plan) && (more & (more - 1)) == 0) {
        int descriptor = __builtin_ctzll(more | UINT64_C(1) << 63), accepted = 0;
        if (more != 0 && getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &accepted, &(socklen_t){sizeof accepted}) == 0 && !accepted)
            close(descriptor);
    }
    WORLD_MUST(world, open_files() == world->files);
}

/* --- what the callbacks are told --- */

static int note_open(weir_conn *conn)
{
    struct world *world = weir_conn_protocol(conn)->user;
    struct guest *guest = weir_conn_user(conn);
    char peer[WEIR_ADDRESS_MAX_BYTES];
    WORLD_MUST(world, weir_conn_peer(conn, peer, sizeof peer) <= 0);
    world->opened++;
    if (guest != NULL)
        guest->conn = conn;
    else
        weir_conn_set_user(conn, &mark);
    return 0;
}

static void note_close(weir_conn *conn, const weir_close_event *event)
{
    struct world *world = weir_conn_protocol(conn)->user;
    struct guest *guest = weir_conn_user(conn);
    WORLD_MUST(world, event->reason > WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT);
    WORLD_MUST(world, event->error <= 0);
    world->undelivered_messages += event->undelivered_messages;
    world->undelivered_bytes += event->undelivered_bytes;
    world->reasons[event->reason]++;
    if (guest == (void *)&mark) {
        world->closed++;
    } else if (guest != NULL && guest->conn == conn) {
        world->closed++;
        guest->conn = NULL;
        guest->is_gone = true;
    } else {
        world->failed++;
    }
}

static void note_log(void *user, weir_log_level level, const char *sentence)
{
    struct world *world = user;
    if (level < WEIR_LOG_ERROR)
        return;
    snprintf(world->last_log, sizeof world->last_log, "%s", sentence);
    world->is_broken = true;
}

static void seat_guests(struct world *world, weir_shard *shard)
{
    for (uint32_t i = 0; i < world->guest_count; i++) {
        struct guest *guest = &world->guests[i];
        if (guest->seat < 0 || guest->shard != weir_shard_index(shard))
            continue;
        guest->adopted = world_went(world, weir_adopt(shard, guest->seat, &world->protocol, guest, &guest->id));
        if (guest->adopted)
            guest->seat = -1;
        else
            guest_lacks(guest);
    }
}

static void note_start(weir_shard *shard)
{
    struct world *world = weir_runtime_user(weir_shard_runtime(shard));
    world->started++;
    seat_guests(world, shard);
    if (world->on_start != NULL)
        world->on_start(world, shard);
}

/* --- the runtime --- */

void world_init(struct world *world, uint32_t shards)
{
    memset(world, 0, sizeof *world);
    MUST_EQUAL(weir_codec_frame(&world->protocol.codec, NULL), 0);
    world->protocol.name = "world";
    world->protocol.user = world;
    world->protocol.on_open = note_open;
    world->protocol.on_message = echo_message;
    world->protocol.on_close = note_close;
    world->protocol.limits.drain_ns = 50 * WEIR_MILLISECOND;
    world->shards = shards;
    world->files = open_files();
    world->config = (weir_config){
        .shards = shards,
        .connections = 64,
        .listeners = 8,
        .dials = 8,
        .ports = 2,
        .channels = 8,
        .groups = 4,
        .receive_buffers = 16,
        .receive_buffer_bytes = 16384,
        .stop_ns = 100 * WEIR_MILLISECOND,
        .long_turn_ns = WEIR_FOREVER,
        .log = note_log,
        .log_user = world,
        .allocator = {.allocate = allocate, .release = release, .user = world},
        .on_start = note_start,
        .user = world,
    };
}

bool world_open(struct world *world)
{
    weir_error error;
    int result = weir_open_on(failing_engine(), &world->config, &world->runtime, &error);
    WORLD_MUST(world, error.code == result && (error.sentence[0] != '\0') == (result != 0) && (world->runtime != NULL) == (result == 0));
    if (!world_went(world, result))
        return false;
    for (uint32_t i = 0; i < world->shards && !world->apart; i++)
        world->descriptors[i] = weir_turn_descriptor(weir_shard_at(world->runtime, i));
    for (uint32_t i = 0; i < world->shards && !world->apart; i++)
        world_went(world, world->descriptors[i] < 0 ? world->descriptors[i] : 0);
    return true;
}

bool world_listen(struct world *world, const char *address, const weir_listen_options *options, weir_listener *listener)
{
    weir_error error = {0};
    weir_listener mine;
    int result = weir_listen(world->runtime, address, &world->protocol, options, &mine, &error);
    WORLD_MUST(world, error.code == result && (error.sentence[0] != '\0') == (result != 0));
    if (!world_went(world, result))
        return false;
    if (listener != NULL)
        *listener = mine;
    if (world->address[0] == '\0')
        MUST_EQUAL(weir_listener_address(world->runtime, mine, world->address, sizeof world->address), 0);
    return true;
}

void world_turn(struct world *world)
{
    struct pollfd waits[WORLD_SHARDS];
    uint64_t least_ns = WEIR_MILLISECOND;
    for (uint32_t i = 0; i < world->shards && !world->apart; i++) {
        uint64_t sleep_ns = WEIR_FOREVER;
        waits[i] = (struct pollfd){.fd = world->descriptors[i], .events = POLLIN};
        int result = world->over_of[i] ? -ESHUTDOWN : weir_turn(weir_shard_at(world->runtime, i), &sleep_ns);
        if (result == -ESHUTDOWN) {
            world->over += !world->over_of[i];
            world->over_of[i] = true;
            sleep_ns = WEIR_FOREVER;
        } else if (result != 0) {
            WORLD_MUST(world, world->is_broken); /* the log has said so */
            world->turn_error = result;
            sleep_ns = WEIR_FOREVER;
        }
        least_ns = sleep_ns < least_ns ? sleep_ns : least_ns;
        if (world->descriptors[i] < 0 && least_ns > WEIR_MILLISECOND / 10)
            least_ns = WEIR_MILLISECOND / 10;
    }
    struct timespec limit = {.tv_nsec = (long)(world->apart ? WEIR_MILLISECOND / 10 : least_ns)};
    if (least_ns > 0)
        (void)ppoll(waits, world->apart ? 0 : world->shards, &limit, NULL);
}

bool world_goes_on(struct world *world, uint64_t begin_ns, const char *condition)
{
    uint64_t waited_ns = world_clock_ns() - begin_ns;
    if (failure.plan.to > failure.plan.from && waited_ns > DROUGHT_NS)
        failure.armed = false;
    if (waited_ns > PATIENCE_NS)
        world_abort(world, condition);
    if (!world->is_broken && !world->is_over)
        return true;
    if (world->broken_ns == 0)
        world->broken_ns = world_clock_ns();
    return world_clock_ns() - world->broken_ns < GRACE_NS;
}

/* --- the end --- */

static void check_sums(struct world *world)
{
    weir_stats stats;
    uint64_t heard_bytes = 0;
    weir_runtime_stats(world->runtime, &stats);
    uint64_t cut = stats.turned_away;
    for (int i = 0; i < WEIR_REASON_COUNT; i++) {
        WORLD_MUST(world, stats.closed[i] == world->reasons[i]);
        cut += i != WEIR_REASON_PEER && i != WEIR_REASON_LOCAL ? stats.closed[i] : 0;
    }
    WORLD_MUST(world, world->cut == 0 || world->errors > 0 || world->is_broken || cut > 0); /* it has a name */
    for (uint32_t i = 0; i < world->guest_count; i++)
        heard_bytes += world->guests[i].heard_bytes;
    WORLD_MUST(world, stats.messages_sent == stats.messages_out + stats.messages_undelivered);
    WORLD_MUST(world, stats.bytes_sent == stats.bytes_out + stats.bytes_undelivered);
    WORLD_MUST(world, world->has_own_channels || stats.messages_undelivered == world->undelivered_messages);
    WORLD_MUST(world, world->has_own_channels || stats.bytes_undelivered == world->undelivered_bytes);
    WORLD_MUST(world, world->unheard || heard_bytes == stats.bytes_out);
    WORLD_MUST(world, stats.queued_bytes == 0);
    WORLD_MUST(world, stats.memory_bytes == 0);
    WORLD_MUST(world, stats.late_finds == 0);
}

static bool is_empty(const struct world *world)
{
    weir_stats stats;
    weir_runtime_stats(world->runtime, &stats);
    return stats.connections == 0 && stats.memory_bytes == 0;
}

/* What the failure may have cost. */
static void check_costs(struct world *world)
{
    bool fatal = failure_plan_is_fatal(&failure.plan), drought = failure.plan.to > failure.plan.from;
    if (failure.fired == 0 || failure_plan_is_harmless(&failure.plan)) {
        WORLD_MUST(world, world->errors == 0);
        WORLD_MUST(world, world->cut == 0);
    }
    WORLD_MUST(world, fatal || !world->is_broken);
    WORLD_MUST(world, fatal || drought || world->errors > 0 || world->cut <= world->scenario->victims);
}

void world_close(struct world *world)
{
    for (uint32_t i = 0; i < world->guest_count; i++) /* first all: in a pipe each waits for the other */
        (void)shutdown(world->guests[i].descriptor, SHUT_WR);
    for (uint32_t i = 0; i < world->guest_count; i++) {
        guest_leave(&world->guests[i]);
        if (world->guests[i].seat >= 0)
            close(world->guests[i].seat);
    }
    if (world->runtime != NULL && !world->apart) {
        if (WORLD_UNTIL(world, is_empty(world)))
            check_sums(world);
    }
    weir_close(&world->runtime);
    WORLD_MUST(world, world->runtime == NULL);
    WORLD_MUST(world, world->opened == world->closed);
    WORLD_MUST(world, world->pieces == 0);
    WORLD_MUST(world, world->bytes == 0);
    check_files(world);
    check_costs(world);
}
