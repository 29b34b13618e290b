/* SPDX-License-Identifier: MIT */
/* posts: functions run on shards, in order with what is sent; shards that talk to each other through their ports; and what is under
 * way at the stop. */
#include "hall.h"

#include <errno.h>
#include <poll.h>

/* --- in order with sends --- */

struct note {
    struct seat *seat;
    const char *text;
    uint32_t runs;
    weir_shard *shard;
    uint64_t turns;
};

static uint64_t turns_of(const weir_shard *shard)
{
    weir_stats stats;
    weir_shard_stats(shard, &stats);
    return stats.turns;
}

static void send_note(weir_shard *shard, void *user)
{
    struct note *note = user;
    note->runs++;
    note->shard = shard;
    note->turns = turns_of(shard);
    weir_conn *conn = weir_find(shard, note->seat->id);
    MUST(conn != NULL); /* on its thread */
    MUST_EQUAL(weir_send(conn, note->text, (uint32_t)strlen(note->text)), 0);
}

START_TEST(functions_run_in_order_with_sends)
{
    enum { ROUNDS = 200 / FIXTURE_SLOWER };
    struct hall hall;
    struct tally tally = {0};
    weir_port_stats stats;
    hall_init(&hall, 2);
    hall_open_apart(&hall, 2);
    weir_port *port = hall_port(&hall);
    static struct note notes[ROUNDS];
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct seat *seat = &hall.seats[round % 2];
        notes[round] = (struct note){.seat = seat, .text = "from the function"};
        MUST_EQUAL(weir_port_send_wait(port, seat->id, "before", 6, FIXTURE_WAIT_NS), 0);
        MUST_EQUAL(weir_post(port, hall_shard(&hall, seat->shard), send_note, &notes[round]), 0);
        MUST_EQUAL(weir_port_send_wait(port, seat->id, "after", 5, FIXTURE_WAIT_NS), 0);
        if (round % 10 != 9)
            continue;
        for (uint32_t back = round - 9; back <= round; back++) {
            visitor_expect_frame(NULL, hall.seats[back % 2].visitor, "before", 6);
            visitor_expect_frame(NULL, hall.seats[back % 2].visitor, "from the function", 17);
            visitor_expect_frame(NULL, hall.seats[back % 2].visitor, "after", 5);
        }
    }
    tally_settle(&tally, &hall, port);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        MUST_EQUAL(notes[round].runs, 1); /* once */
        MUST(notes[round].shard == hall_shard(&hall, round % 2));
    }
    weir_port_stats_get(port, &stats);
    MUST_EQUAL(stats.posts, ROUNDS);
    MUST_EQUAL(stats.messages_sent, 2 * ROUNDS);
    MUST_EQUAL(hall_stats(&hall).posts_run, ROUNDS);
    MUST_EQUAL(hall_stats(&hall).messages_crossed, 2 * ROUNDS);
    MUST_EQUAL(hall_stats(&hall).bytes_crossed, 11 * ROUNDS);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

static void count_run(weir_shard *shard, void *user)
{
    (void)shard;
    ++*(uint32_t *)user;
}

START_TEST(functions_under_way_when_the_port_closes)
{
    struct hall hall;
    uint32_t runs = 0;
    hall_init(&hall, 2);
    hall_open_here(&hall, 0);
    weir_port *port = hall_port(&hall);
    weir_port_cork(port);
    for (uint32_t i = 0; i < 100; i++)
        MUST_EQUAL(weir_post(port, hall_shard(&hall, i % 2), count_run, &runs), 0);
    fixture_turn_for(hall.turner, MILLISECONDS(10));
    MUST_EQUAL(runs, 0); /* corked */
    weir_port_close(&port);
    MUST_EQUAL(runs, 0); /* never from inside a call */
    HALL_UNTIL(&hall, runs == 100);
    hall_close(&hall);
}
END_TEST

START_TEST(a_ring_full_of_functions)
{
    struct hall hall;
    struct tally tally = {0};
    uint32_t runs = 0, posted = 0;
    hall_init(&hall, 2);
    hall.config.ring_bytes = 16 * KIB;
    hall_open_here(&hall, 0);
    weir_port *port = hall_port(&hall);
    int result;
    while ((result = weir_post(port, hall_shard(&hall, 1), count_run, &runs)) == 0)
        MUST(++posted < 10000);
    MUST_EQUAL(result, -EAGAIN);
    MUST(posted > 50);
    MUST_EQUAL(runs, 0);
    HALL_UNTIL(&hall, tally_collect(&tally, port) > 0);
    MUST_EQUAL(tally.last.kind, WEIR_PORT_ROOM);
    MUST_EQUAL(tally.last.shard, 1);
    HALL_UNTIL(&hall, runs == posted);
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(runs, posted);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- from shard to shard, and to itself --- */

START_TEST(a_shard_posts_to_the_others)
{
    struct hall hall;
    hall_init(&hall, 3);
    hall_open_here(&hall, 3);
    for (uint32_t from = 0; from < 3; from++) {
        for (uint32_t to = 0; to < 3; to++) {
            struct note note = {.seat = &hall.seats[to], .text = "hello"};
            uint64_t turns = turns_of(hall_shard(&hall, to));
            MUST_EQUAL(weir_post(weir_shard_port(hall_shard(&hall, from)), hall_shard(&hall, to), send_note, &note), 0);
            MUST_EQUAL(note.runs, 0); /* not from inside the call */
            HALL_UNTIL(&hall, note.runs == 1);
            MUST(note.shard == hall_shard(&hall, to));
            MUST(note.turns >= turns);
            visitor_expect_frame(hall.turner, hall.seats[to].visitor, "hello", 5);
        }
    }
    hall_close(&hall);
}
END_TEST

struct repeat {
    uint32_t left;
    uint64_t turns[20];
};

static void post_again(weir_shard *shard, void *user)
{
    struct repeat *repeat = user;
    repeat->turns[--repeat->left] = turns_of(shard);
    if (repeat->left > 0)
        MUST_EQUAL(weir_post(weir_shard_port(shard), shard, post_again, repeat), 0);
}

START_TEST(to_itself_means_in_the_next_turn)
{
    struct hall hall;
    struct repeat repeat = {.left = 20};
    hall_init(&hall, 1);
    hall_open_here(&hall, 1);
    post_again(hall.fixture.shard, &repeat);
    HALL_UNTIL(&hall, repeat.left == 0);
    for (uint32_t i = 1; i < 19; i++)
        MUST_EQUAL(repeat.turns[i - 1], repeat.turns[i] + 1); /* one a turn: a shard that posts to itself does not hold the others up */
    hall_close(&hall);
}
END_TEST

START_TEST(posting_to_itself_wakes)
{
    struct hall hall;
    struct repeat repeat = {.left = 20};
    hall_init(&hall, 2);
    hall_open_apart(&hall, 1);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(weir_post(port, hall_shard(&hall, 1), post_again, &repeat), 0);
    struct tally tally = {0};
    tally_settle(&tally, &hall, port); /* the first has run, the others follow without anybody else waking the shard */
    fixture_sleep_ns(FIXTURE_SLOWER * MILLISECONDS(200));
    hall_leave(&hall.seats[0]);
    hall_stop(&hall);
    MUST_EQUAL(repeat.left, 0);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- a bridge: what comes on one shard goes out on another, as fast as the slower allows --- */

enum { BRIDGES = 2, BRIDGE_BYTES = 900 };

struct bridge {
    struct hall hall;
    bool waiting[2 * BRIDGES]; /* the seat has answered WEIR_LATER, for its partner's sake */
    atomic_uint readies, rooms, laters;
};

/* Seats 2i and 2i + 1 are partners, on different shards. */
static int cross(struct seat *seat, weir_conn *conn, const weir_message *message)
{
    struct bridge *bridge = seat->hall->user;
    const struct seat *partner = &seat->hall->seats[seat->number ^ 1];
    int result = weir_send_to(weir_conn_shard(conn), partner->id, message->data, message->bytes);
    if (result == -EAGAIN) {
        bridge->waiting[seat->number] = true;
        atomic_fetch_add(&bridge->laters, 1);
        return WEIR_LATER;
    }
    return result == -ESTALE || result == -EPIPE ? WEIR_TAKEN : result;
}

static void cross_again(weir_shard *shard, const weir_port_event *event)
{
    struct hall *hall = hall_of(shard);
    struct bridge *bridge = hall->user;
    if (event->kind == WEIR_PORT_READY)
        atomic_fetch_add(&bridge->readies, 1);
    else if (event->kind == WEIR_PORT_ROOM)
        atomic_fetch_add(&bridge->rooms, 1);
    else
        MUST(event->kind == WEIR_PORT_UNDELIVERED && (event->error == -ESTALE || event->error == -EPIPE));
    for (uint32_t i = 0; i < hall->seat_count; i++) {
        struct seat *seat = &hall->seats[i];
        bool meant = event->kind == WEIR_PORT_ROOM || event->id.value == hall->seats[i ^ 1].id.value;
        if (seat->shard != weir_shard_index(shard) || !bridge->waiting[i] || !meant || seat->conn == NULL)
            continue;
        bridge->waiting[i] = false;
        weir_resume(seat->conn);
    }
}

/* Writes to one visitor and reads at its partner's, who is slow now and then; all must come, in order. */
static void *drive(void *user)
{
    struct seat *seat = user;
    struct hall *hall = seat->hall;
    static _Thread_local uint8_t frame[4 + BRIDGE_BYTES], got[BRIDGE_BYTES];
    const uint32_t count = 20000 / FIXTURE_SLOWER, bytes = BRIDGE_BYTES;
    uint64_t written = 0, read = 0;
    uint64_t end_ns = fixture_clock_ns() + 4 * FIXTURE_WAIT_NS;
    while (read < count) {
        for (uint32_t i = 0; i < 200 && written < (uint64_t)count * sizeof frame; i++) {
            memcpy(frame, &bytes, 4);
            fixture_fill(frame + 4, BRIDGE_BYTES, written / sizeof frame);
            size_t done = written % sizeof frame;
            ssize_t sent = send(seat->visitor, frame + done, sizeof frame - done, MSG_NOSIGNAL);
            if (sent < 0)
                break;
            written += (uint64_t)sent;
        }
        uint8_t head[4];
        for (uint32_t i = 0; i < 500 && recv(hall->seats[seat->number ^ 1].visitor, head, 4, MSG_PEEK) == 4; i++) {
            MUST_EQUAL(visitor_receive_frame(NULL, hall->seats[seat->number ^ 1].visitor, got, sizeof got), BRIDGE_BYTES);
            MUST(fixture_is_filled(got, BRIDGE_BYTES, read));
            read++;
        }
        fixture_sleep_ns(read % 7 == 0 ? MILLISECONDS(3) : 50 * WEIR_MICROSECOND);
        if (fixture_clock_ns() > end_ns)
            ck_abort_msg("bridge %u: of %u messages %u have come, %u are written", seat->number, count, (unsigned)read,
                         (unsigned)(written / sizeof frame));
    }
    return NULL;
}

START_TEST(pressure_crosses_shards)
{
    static struct bridge bridge;
    struct hall *hall = &bridge.hall;
    pthread_t threads[2 * BRIDGES];
    hall_init(hall, 2);
    hall->config.ring_bytes = 16 * KIB;
    hall->config.on_port_event = cross_again;
    hall->send_buffer_bytes = 16 * KIB;
    hall->protocol.limits.high_water_bytes = 60000;
    hall->on_message = cross;
    hall->user = &bridge;
    hall_open_apart(hall, 2 * BRIDGES);
    for (uint32_t i = 0; i < 2 * BRIDGES; i++) /* both ways at once */
        MUST_EQUAL(pthread_create(&threads[i], NULL, drive, &hall->seats[i]), 0);
    for (uint32_t i = 0; i < 2 * BRIDGES; i++)
        MUST_EQUAL(pthread_join(threads[i], NULL), 0);
    MUST(atomic_load(&bridge.laters) > 0);
    MUST(atomic_load(&bridge.readies) > 0);
    weir_stats stats = hall_stats(hall);
    MUST_EQUAL(stats.laters, atomic_load(&bridge.laters));
    hall_close(hall);
}
END_TEST

static atomic_uint undelivered_by_shard;

static void note_undelivered(weir_shard *shard, const weir_port_event *event)
{
    if (event->kind == WEIR_PORT_ROOM) /* the other one has stopped */
        return;
    MUST_EQUAL(weir_shard_index(shard), 0);
    MUST_EQUAL(event->kind, WEIR_PORT_UNDELIVERED);
    atomic_fetch_add(&undelivered_by_shard, (unsigned)event->messages);
}

START_TEST(a_shard_hears_what_was_not_delivered)
{
    struct hall hall;
    weir_port_stats stats;
    hall_init(&hall, 2);
    hall.config.on_port_event = note_undelivered;
    hall_open_here(&hall, 2);
    for (uint32_t i = 0; i < 30; i++)
        MUST_EQUAL(weir_send_to(hall_shard(&hall, 0), hall.seats[1].id, "x", 1), 0);
    MUST_EQUAL(weir_turn(hall_shard(&hall, 0), &(uint64_t){0}), 0); /* published */
    for (uint32_t i = 0; i < 12; i++)
        MUST_EQUAL(weir_send_to(hall_shard(&hall, 0), hall.seats[1].id, "x", 1), 0);
    weir_abort(hall.seats[1].conn);
    uint64_t sleep_ns;
    while (atomic_load(&hall.closes) == 0)
        MUST_EQUAL(weir_turn(hall_shard(&hall, 1), &sleep_ns), 0); /* alone: the twelve are not published yet */
    HALL_UNTIL(&hall, atomic_load(&undelivered_by_shard) >= 12);
    HALL_UNTIL(&hall, (weir_port_stats_get(weir_shard_port(hall_shard(&hall, 0)), &stats),
                       stats.messages_sent == stats.messages_taken + stats.messages_undelivered));
    MUST_EQUAL(stats.messages_sent, 42);
    MUST_EQUAL(stats.messages_undelivered, atomic_load(&undelivered_by_shard));
    MUST_EQUAL(weir_send_to(hall_shard(&hall, 0), hall.seats[1].id, "x", 1), -ESTALE);
    hall_close(&hall);
}
END_TEST

/* --- shards that an embedder turns, each on a thread of his --- */

enum { EMBEDDED = 2 };

struct embedder {
    pthread_t thread;
    weir_shard *shard;
};

struct embedding {
    weir_runtime *runtime;
    weir_protocol protocol;
    struct embedder embedders[EMBEDDED];
    int pairs[EMBEDDED][2];
    weir_id ids[EMBEDDED];
    atomic_uint started;
};

static void adopt_one(weir_shard *shard)
{
    struct embedding *embedding = weir_runtime_user(weir_shard_runtime(shard));
    uint32_t index = weir_shard_index(shard);
    MUST_EQUAL(weir_adopt(shard, embedding->pairs[index][0], &embedding->protocol, NULL, &embedding->ids[index]), 0);
}

/* What a port sends to it earlier would come back, as not connected. */
static int note_open(weir_conn *conn)
{
    struct embedding *embedding = weir_runtime_user(weir_shard_runtime(weir_conn_shard(conn)));
    atomic_fetch_add(&embedding->started, 1);
    return 0;
}

static void *turn_and_sleep(void *user)
{
    struct embedder *embedder = user;
    struct pollfd wait = {.fd = weir_turn_descriptor(embedder->shard), .events = POLLIN};
    uint64_t sleep_ns;
    MUST(wait.fd >= 0);
    while (weir_turn(embedder->shard, &sleep_ns) == 0)
        poll(&wait, 1, sleep_ns == 0 ? 0 : sleep_ns == WEIR_FOREVER ? -1 : (int)(sleep_ns / WEIR_MILLISECOND + 1));
    return NULL;
}

START_TEST(a_port_wakes_embedded_shards)
{
    static struct embedding embedding;
    weir_config config = {.shards = EMBEDDED, .connections = 16, .on_start = adopt_one, .user = &embedding};
    weir_port *port = NULL;
    MUST_EQUAL(weir_codec_frame(&embedding.protocol.codec, NULL), 0);
    embedding.protocol.on_open = note_open;
    MUST_EQUAL(weir_open(&config, &embedding.runtime, NULL), 0);
    for (uint32_t i = 0; i < EMBEDDED; i++) {
        MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, embedding.pairs[i]), 0);
        embedding.embedders[i].shard = weir_shard_at(embedding.runtime, i);
        MUST_EQUAL(pthread_create(&embedding.embedders[i].thread, NULL, turn_and_sleep, &embedding.embedders[i]), 0);
    }
    UNTIL(NULL, atomic_load(&embedding.started) == EMBEDDED);
    MUST_EQUAL(weir_port_open(embedding.runtime, NULL, &port, NULL), 0);
    for (uint32_t round = 0; round < 5000 / FIXTURE_SLOWER; round++) {
        uint8_t got[12];
        for (uint32_t i = 0; i < EMBEDDED; i++) {
            MUST_EQUAL(weir_port_send_wait(port, embedding.ids[i], "wake up!", 8, FIXTURE_WAIT_NS), 0);
            struct pollfd wait = {.fd = embedding.pairs[i][1], .events = POLLIN};
            if (poll(&wait, 1, FIXTURE_SLOWER * 10000) != 1)
                ck_abort_msg("a wake-up was lost: round %u, shard %u", round, i);
            MUST_EQUAL(recv(embedding.pairs[i][1], got, sizeof got, MSG_WAITALL), 12);
        }
        if (round % 10 == 0) /* pauses of all lengths about the length of falling asleep */
            fixture_sleep_ns(round * 7919 % 80000);
    }
    weir_port_close(&port);
    weir_stop(embedding.runtime);
    for (uint32_t i = 0; i < EMBEDDED; i++) {
        close(embedding.pairs[i][1]);
        MUST_EQUAL(pthread_join(embedding.embedders[i].thread, NULL), 0);
    }
    weir_stats stats;
    weir_runtime_stats(embedding.runtime, &stats);
    MUST_EQUAL(stats.late_finds, 0);
    weir_close(&embedding.runtime);
}
END_TEST

/* --- at the stop --- */

enum { STOP_POSTERS = 3 };

struct stop_poster {
    pthread_t thread;
    struct hall *hall;
    weir_port *port;
    struct tally tally;
    uint32_t accepted, not_run, sent;
    atomic_uint runs;
    bool over[2];
};

static void note_run(weir_shard *shard, void *user)
{
    (void)shard;
    atomic_fetch_add(&((struct stop_poster *)user)->runs, 1);
}

static void collect_posts(struct stop_poster *poster)
{
    weir_port_event event;
    while (weir_port_next(poster->port, &event)) {
        tally_note(&poster->tally, &event);
        if (event.kind == WEIR_PORT_NOT_RUN) {
            MUST(event.function == note_run && event.user == poster);
            poster->not_run++;
        }
    }
}

/* All that comes back is there, and is taken. */
static void collect_the_rest(struct stop_poster *poster)
{
    int result;
    while ((result = weir_port_flush(poster->port, FIXTURE_WAIT_NS)) == -ENOBUFS)
        collect_posts(poster);
    MUST_EQUAL(result, 0);
    collect_posts(poster);
}

static void *post_until_the_end(void *user)
{
    struct stop_poster *poster = user;
    static uint8_t data[5000];
    uint64_t end_ns = fixture_clock_ns() + FIXTURE_WAIT_NS;
    for (uint32_t i = 0; fixture_clock_ns() < end_ns && !(poster->over[0] && poster->over[1]); i++) {
        uint32_t to = i % 2;
        int result = weir_post(poster->port, hall_shard(poster->hall, to), note_run, poster);
        MUST(result == 0 || result == -EAGAIN || result == -ESHUTDOWN);
        MUST(result == -ESHUTDOWN || !poster->over[to]); /* it does not come back */
        poster->accepted += result == 0;
        poster->over[to] = poster->over[to] || result == -ESHUTDOWN;
        result = weir_port_send(poster->port, poster->hall->seats[to].id, data, i % 10 == 0 ? 5000 : 40);
        MUST(result == 0 || result == -EAGAIN || result == -ESTALE || result == -EPIPE || result == -ESHUTDOWN);
        poster->sent += result == 0;
        collect_posts(poster);
        if (result == -EAGAIN)
            weir_port_wait(poster->port, MILLISECONDS(1));
    }
    return NULL;
}

START_TEST(what_was_not_run_is_told)
{
    for (uint32_t round = 0; round < 6; round++) {
        struct hall hall;
        static struct stop_poster posters[STOP_POSTERS];
        memset(posters, 0, sizeof posters);
        hall_init(&hall, 2);
        hall.config.stop_ns = MILLISECONDS(50);
        hall_open_apart(&hall, 2);
        for (uint32_t i = 0; i < STOP_POSTERS; i++) {
            posters[i].hall = &hall;
            posters[i].port = hall_port(&hall);
            MUST_EQUAL(pthread_create(&posters[i].thread, NULL, post_until_the_end, &posters[i]), 0);
        }
        fixture_sleep_ns(MILLISECONDS(20 + 7 * round));
        hall_stop(&hall); /* while they go on */
        for (uint32_t i = 0; i < STOP_POSTERS; i++) {
            struct stop_poster *poster = &posters[i];
            MUST_EQUAL(pthread_join(poster->thread, NULL), 0);
            MUST(poster->over[0] && poster->over[1]);
            MUST_EQUAL(weir_post(poster->port, hall_shard(&hall, 0), note_run, poster), -ESHUTDOWN);
            collect_the_rest(poster);
            MUST_EQUAL(poster->accepted, atomic_load(&poster->runs) + poster->not_run); /* accepted: run, or told */
            weir_port_stats stats;
            weir_port_stats_get(poster->port, &stats);
            MUST_EQUAL(stats.messages_sent, poster->sent);
            MUST_EQUAL(stats.messages_sent, stats.messages_taken + stats.messages_undelivered);
            MUST_EQUAL(stats.messages_undelivered, poster->tally.undelivered_messages);
            MUST_EQUAL(stats.posts, poster->accepted);
            weir_port_close(&poster->port);
        }
        hall_close(&hall);
    }
}
END_TEST

START_TEST(not_run_for_certain)
{
    struct hall hall;
    struct stop_poster poster = {.hall = &hall};
    hall_init(&hall, 2);
    hall_open_here(&hall, 2);
    poster.port = hall_port(&hall);
    weir_port_cork(poster.port);
    for (uint32_t i = 0; i < 10; i++)
        MUST_EQUAL(weir_post(poster.port, hall_shard(&hall, 1), note_run, &poster), 0);
    MUST_EQUAL(hall_send(poster.port, &hall.seats[1], 100, 1), 0);
    weir_stop(hall.runtime);
    hall_leave(&hall.seats[0]);
    hall_leave(&hall.seats[1]);
    HALL_UNTIL(&hall, hall.fixture.over_count == 2);
    weir_port_uncork(poster.port); /* too late */
    collect_the_rest(&poster);
    MUST_EQUAL(atomic_load(&poster.runs), 0);
    MUST_EQUAL(poster.not_run, 10);
    MUST_EQUAL(poster.tally.undelivered_messages, 1);
    weir_port_close(&poster.port);
    hall_close(&hall);
}
END_TEST

FIXTURE_MAIN("posts", functions_run_in_order_with_sends, functions_under_way_when_the_port_closes, a_ring_full_of_functions,
             a_shard_posts_to_the_others, to_itself_means_in_the_next_turn, posting_to_itself_wakes, pressure_crosses_shards,
             a_shard_hears_what_was_not_delivered, a_port_wakes_embedded_shards, what_was_not_run_is_told, not_run_for_certain)
