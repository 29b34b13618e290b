/* SPDX-License-Identifier: MIT */
/* hall: several shards, connections of which the shard is known, and what came back to ports. */
#include "hall.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>

/* --- the runtime --- */

struct hall *hall_of(const weir_shard *shard)
{
    return weir_runtime_user(weir_shard_runtime(shard));
}

weir_shard *hall_shard(const struct hall *hall, uint32_t index)
{
    weir_shard *shard = weir_shard_at(hall->runtime, index);
    MUST(shard != NULL);
    return shard;
}

static int seat_opened(weir_conn *conn)
{
    struct seat *seat = weir_conn_user(conn);
    MUST(weir_conn_id(conn).value == seat->id.value);
    MUST_EQUAL(weir_shard_index(weir_conn_shard(conn)), seat->shard);
    seat->conn = conn;
    atomic_fetch_add(&seat->hall->opens, 1);
    atomic_fetch_add(&seat->opened, 1);
    return seat->hall->on_open != NULL ? seat->hall->on_open(seat, conn) : 0;
}

static int seat_message(weir_conn *conn, const weir_message *message)
{
    struct seat *seat = weir_conn_user(conn);
    (void)atomic_load(&seat->hall->opens); /* the other seats' ids are there to be read */
    int answer = seat->hall->on_message != NULL ? seat->hall->on_message(seat, conn, message) : WEIR_TAKEN;
    if (answer == WEIR_TAKEN) {
        atomic_fetch_add(&seat->bytes, message->bytes);
        atomic_fetch_add(&seat->messages, 1);
    }
    return answer;
}

static void seat_ready(weir_conn *conn)
{
    struct seat *seat = weir_conn_user(conn);
    atomic_fetch_add(&seat->readied, 1);
    if (seat->hall->on_ready != NULL)
        seat->hall->on_ready(seat, conn);
}

static void seat_closed(weir_conn *conn, const weir_close_event *event)
{
    struct seat *seat = weir_conn_user(conn);
    MUST(event->reason > WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT);
    if (seat->hall->on_close != NULL)
        seat->hall->on_close(seat, conn, event);
    seat->conn = NULL;
    seat->event = *event;
    atomic_fetch_add(&seat->hall->undelivered_messages, event->undelivered_messages);
    atomic_fetch_add(&seat->hall->undelivered_bytes, event->undelivered_bytes);
    atomic_fetch_add(&seat->closed, 1);
    atomic_fetch_add(&seat->hall->closes, 1);
}

void hall_speak(struct hall *hall, weir_protocol *protocol)
{
    protocol->user = hall;
    protocol->on_open = seat_opened;
    protocol->on_message = seat_message;
    protocol->on_ready = seat_ready;
    protocol->on_close = seat_closed;
}

void hall_init(struct hall *hall, uint32_t shards)
{
    memset(hall, 0, sizeof *hall);
    MUST_EQUAL(weir_codec_frame(&hall->protocol.codec, NULL), 0);
    hall->protocol.name = "hall";
    hall_speak(hall, &hall->protocol);
    hall->config.shards = shards;
    hall->config.connections = 1200;
    hall->config.long_turn_ns = WEIR_FOREVER;
}

static void start(weir_shard *shard)
{
    struct hall *hall = hall_of(shard);
    for (uint32_t i = 0; i < hall->seat_count; i++) {
        struct seat *seat = &hall->seats[i];
        if (seat->shard != weir_shard_index(shard))
            continue;
        const weir_protocol *protocol = hall->protocol_of != NULL ? hall->protocol_of(hall, i) : &hall->protocol;
        MUST_EQUAL(weir_adopt(shard, seat->descriptor, protocol, seat, &seat->id), 0);
        seat->descriptor = -1;
    }
    if (hall->on_start != NULL)
        hall->on_start(hall, shard);
}

static void pair_tcp(int pair[2])
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST_EQUAL(bind(listener, (struct sockaddr *)&name, bytes), 0);
    MUST_EQUAL(listen(listener, 1), 0);
    MUST_EQUAL(getsockname(listener, (struct sockaddr *)&name, &bytes), 0);
    pair[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST_EQUAL(live_connect(pair[1], ntohs(name.sin_port)), 0);
    pair[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    MUST(pair[0] >= 0);
    close(listener);
}

static void make_seats(struct hall *hall, uint32_t count)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    hall->seats = calloc(count + 1, sizeof *hall->seats);
    MUST(hall->seats != NULL);
    hall->seat_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct seat *seat = &hall->seats[i];
        int pair[2];
        if (hall->tcp)
            pair_tcp(pair);
        else
            MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        if (hall->send_buffer_bytes != 0)
            MUST_EQUAL(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &hall->send_buffer_bytes, sizeof(int)), 0);
        MUST_EQUAL(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
        seat->hall = hall;
        seat->number = i;
        seat->shard = i % hall->config.shards;
        seat->descriptor = pair[0];
        seat->visitor = pair[1];
    }
    hall->config.on_start = start;
    hall->config.user = hall;
    hall->config.allocator = account_allocator(&hall->account);
}

void hall_open_here(struct hall *hall, uint32_t seats)
{
    make_seats(hall, seats);
    hall->turner = &hall->fixture;
    fixture_open(&hall->fixture, &hall->config);
    hall->runtime = hall->fixture.runtime;
    HALL_UNTIL(hall, atomic_load(&hall->opens) == seats);
}

void hall_open_apart(struct hall *hall, uint32_t seats)
{
    make_seats(hall, seats);
    runner_open(&hall->runner, &hall->config);
    hall->runtime = hall->runner.runtime;
    runner_start(&hall->runner);
    HALL_UNTIL(hall, atomic_load(&hall->opens) == seats);
}

weir_stats hall_stats(const struct hall *hall)
{
    weir_stats stats;
    weir_runtime_stats(hall->runtime, &stats);
    return stats;
}

void hall_stop(struct hall *hall)
{
    MUST(hall->turner == NULL);
    MUST_EQUAL(runner_stop(&hall->runner), 0);
    hall->stopped = true;
}

void hall_leave(struct seat *seat)
{
    MUST_EQUAL(close(seat->visitor), 0);
    seat->visitor = -1;
}

static void check_sums(struct hall *hall)
{
    weir_stats stats = hall->stats = hall_stats(hall);
    uint64_t ends = 0;
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        ends += stats.closed[i];
    MUST_EQUAL(atomic_load(&hall->closes), atomic_load(&hall->opens));
    MUST(ends >= atomic_load(&hall->closes)); /* a test may have others beside the seats */
    MUST_EQUAL(stats.messages_sent, stats.messages_out + stats.messages_undelivered);
    MUST_EQUAL(stats.bytes_sent, stats.bytes_out + stats.bytes_undelivered);
    if (hall->own_channels) {
        MUST(stats.messages_undelivered >= atomic_load(&hall->undelivered_messages));
        MUST(stats.bytes_undelivered >= atomic_load(&hall->undelivered_bytes));
    } else if (ends == atomic_load(&hall->closes)) {
        MUST_EQUAL(stats.messages_undelivered, atomic_load(&hall->undelivered_messages));
        MUST_EQUAL(stats.bytes_undelivered, atomic_load(&hall->undelivered_bytes));
    }
    MUST_EQUAL(stats.connections, 0);
    MUST_EQUAL(stats.queued_bytes, 0);
    if (!hall->stopped_in_mid_stream)
        MUST_EQUAL(stats.memory_bytes, 0);
    MUST_EQUAL(stats.late_finds, 0);
}

void hall_close(struct hall *hall)
{
    for (uint32_t i = 0; i < hall->seat_count; i++) {
        if (hall->seats[i].visitor >= 0)
            hall_leave(&hall->seats[i]);
    }
    HALL_UNTIL(hall, atomic_load(&hall->closes) == atomic_load(&hall->opens));
    if (hall->turner != NULL)
        fixture_settle(hall->turner);
    else if (!hall->stopped)
        hall_stop(hall);
    check_sums(hall);
    weir_close(&hall->runtime);
    MUST(hall->runtime == NULL);
    MUST_EQUAL(atomic_load(&hall->account.pieces), 0);
    MUST_EQUAL(atomic_load(&hall->account.bytes), 0);
    free(hall->seats);
}

void hall_pass(struct hall *hall, uint64_t ns)
{
    if (hall->turner != NULL)
        fixture_turn_for(hall->turner, ns);
    else
        fixture_sleep_ns(ns);
}

/* --- one seat --- */

weir_port *hall_port(struct hall *hall)
{
    weir_port *port = NULL;
    weir_error error;
    int result = weir_port_open(hall->runtime, NULL, &port, &error);
    if (result != 0)
        ck_abort_msg("weir_port_open: %d: %s", result, error.sentence);
    MUST(port != NULL);
    return port;
}

int hall_send(weir_port *port, const struct seat *seat, uint32_t bytes, uint64_t seed)
{
    uint8_t *data = malloc(bytes + 1);
    MUST(data != NULL);
    fixture_fill(data, bytes, seed);
    int result = weir_port_send(port, seat->id, data, bytes);
    memset(data, 0xee, bytes); /* copied: ours again at once */
    free(data);
    return result;
}

void hall_expect(struct hall *hall, struct seat *seat, uint32_t bytes, uint64_t seed)
{
    uint8_t *data = malloc(bytes + 1);
    MUST(data != NULL);
    uint32_t got = visitor_receive_frame(hall->turner, seat->visitor, data, bytes);
    if (got != bytes || !fixture_is_filled(data, bytes, seed))
        ck_abort_msg("seat %u: message %llu of %u bytes was expected; %u bytes of %s came", seat->number, (unsigned long long)seed, bytes,
                     got, got == bytes ? "another" : "one");
    free(data);
}

void hall_expect_silence(struct hall *hall, struct seat *seat)
{
    uint8_t byte;
    hall_pass(hall, MILLISECONDS(30));
    ssize_t got = recv(seat->visitor, &byte, 1, MSG_PEEK);
    if (got >= 0 || errno != EAGAIN)
        ck_abort_msg("seat %u: silence was expected, there is %s", seat->number, got > 0 ? "data" : got == 0 ? "the end" : strerror(errno));
}

uint64_t hall_take_all(struct seat *seat)
{
    static _Thread_local uint8_t bytes[65536];
    uint64_t sum = 0;
    ssize_t got;
    while ((got = recv(seat->visitor, bytes, sizeof bytes, 0)) > 0)
        sum += (uint64_t)got;
    return sum;
}

uint64_t hall_queued_bytes(const struct seat *seat)
{
    weir_conn_stats stats;
    MUST_EQUAL(weir_conn_stats_get(seat->hall->runtime, seat->id, &stats), 0);
    return stats.queued_bytes;
}

void hall_settle(struct hall *hall, const struct seat *seat)
{
    uint64_t before;
    do {
        before = hall_queued_bytes(seat);
        hall_pass(hall, MILLISECONDS(20));
    } while (hall_queued_bytes(seat) != before);
}

/* --- what came back --- */

void tally_note(struct tally *tally, const weir_port_event *event)
{
    MUST(event->kind >= WEIR_PORT_READY && event->kind <= WEIR_PORT_CHANNEL_ENDED);
    tally->events[event->kind]++;
    tally->last = tally->of[event->kind] = *event;
    if (event->kind == WEIR_PORT_UNDELIVERED) {
        int error = event->error;
        MUST(error == -ESTALE || error == -EMSGSIZE || error == -EBADMSG || error == -EPIPE || error == -ENOMEM);
        tally->undelivered_messages += event->messages;
        tally->undelivered_bytes += event->bytes;
    }
    if (event->kind == WEIR_PORT_CHANNEL_ENDED) {
        MUST(event->channel != NULL);
        MUST(event->reason >= WEIR_REASON_NONE && event->reason < WEIR_REASON_COUNT);
        tally->ended_messages += event->messages;
        tally->ended_bytes += event->bytes;
    }
}

uint32_t tally_collect(struct tally *tally, weir_port *port)
{
    weir_port_event event;
    uint32_t count = 0;
    for (; weir_port_next(port, &event); count++)
        tally_note(tally, &event);
    return count;
}

void tally_settle(struct tally *tally, struct hall *hall, weir_port *port)
{
    weir_port_stats stats;
    if (hall->turner != NULL) {
        int result = -1;
        HALL_UNTIL(hall, (tally_collect(tally, port), (result = weir_port_flush(port, 0)) != -ETIMEDOUT && result != -ENOBUFS));
        MUST_EQUAL(result, 0);
    } else {
        int result;
        while ((result = weir_port_flush(port, FIXTURE_WAIT_NS)) == -ENOBUFS) /* more has come back than it can keep */
            MUST(tally_collect(tally, port) > 0);
        MUST_EQUAL(result, 0);
    }
    tally_collect(tally, port);
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.messages_sent, stats.messages_taken + stats.messages_undelivered);
    MUST_EQUAL(stats.bytes_sent, stats.bytes_taken + stats.bytes_undelivered);
    MUST_EQUAL(stats.messages_undelivered, tally->undelivered_messages);
    MUST_EQUAL(stats.bytes_undelivered, tally->undelivered_bytes);
}
