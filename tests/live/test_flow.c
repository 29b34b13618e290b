/* SPDX-License-Identifier: MIT */
/* flow: the marks and on_ready, WEIR_LATER, pausing, pressure that reaches the sender, peers that are slow, half-closed ends. */
#include "choke.h"

#include <errno.h>
#include <stdio.h>

static void small_marks(weir_protocol *protocol)
{
    weir_codec_frame(&protocol->codec, &(weir_frame_options){.message_max_bytes = 100000});
    protocol->limits.high_water_bytes = 300000;
    protocol->limits.low_water_bytes = 50000;
    protocol->limits.hard_limit_bytes = 320000;
}

/* --- the marks --- */

static void note_queued(struct witness *witness, weir_conn *conn)
{
    weir_conn_stats stats;
    MUST_EQUAL(weir_conn_stats_get(weir_shard_runtime(weir_conn_shard(conn)), weir_conn_id(conn), &stats), 0);
    *(uint64_t *)witness->user = stats.queued_bytes;
}

/* Nothing is read: sends until it is refused; answers how much is queued then. */
static uint64_t fill_up(struct choke *choke, uint32_t bytes)
{
    int result = 0;
    for (int round = 0; round < 3; round++) {
        while ((result = choke_send(choke, bytes)) == 0)
            MUST(choke->accepted_bytes < 4000000);
        MUST_EQUAL(result, -EAGAIN);
        choke_settle(choke); /* the kernel takes some of it, at first */
    }
    return choke_queued_bytes(choke);
}

START_TEST(full_is_an_answer_and_room_an_event)
{
    struct choke choke;
    uint64_t at_ready = UINT64_MAX;
    choke_open(&choke, small_marks);
    choke.witness.on_ready = note_queued;
    choke.witness.user = &at_ready;
    uint64_t queued = fill_up(&choke, 996);
    if (queued < 300000 || queued >= 300000 + 1000)
        ck_abort_msg("sends of 1000 bytes are refused above 300000 queued, not at %u", (unsigned)queued);
    weir_conn_stats stats;
    weir_conn_stats_get(choke.fixture.runtime, choke.witness.id, &stats);
    uint64_t refusals = stats.refusals;
    MUST_EQUAL(weir_send(choke.witness.conn, "x", 1), -EAGAIN);
    weir_conn_stats_get(choke.fixture.runtime, choke.witness.id, &stats);
    MUST_EQUAL(stats.refusals, refusals + 1);
    uint32_t readied = choke.witness.readied;
    fixture_turn_for(&choke.fixture, MILLISECONDS(30));
    MUST_EQUAL(choke.witness.readied, readied); /* nothing has left */
    at_ready = UINT64_MAX;
    uint8_t got[1000];
    uint64_t number = 0;
    for (;; number++) {
        fixture_turn(&choke.fixture); /* so that what has left is known */
        if (choke_queued_bytes(&choke) <= 50000)
            break;
        MUST_EQUAL(choke.witness.readied, readied);
        MUST_EQUAL(visitor_receive_frame(&choke.fixture, choke.visitor, got, sizeof got), 996);
        MUST(fixture_is_filled(got, 996, number));
    }
    UNTIL(&choke.fixture, choke.witness.readied == readied + 1);
    MUST(at_ready <= 50000);
    MUST_EQUAL(choke_send(&choke, 996), 0);
    for (; number < choke.accepted_messages; number++) {
        MUST_EQUAL(visitor_receive_frame(&choke.fixture, choke.visitor, got, sizeof got), 996);
        MUST(fixture_is_filled(got, 996, number));
    }
    fixture_turn_for(&choke.fixture, MILLISECONDS(30));
    MUST_EQUAL(choke.witness.readied, readied + 1); /* once */
    choke_close(&choke);
}
END_TEST

START_TEST(the_whole_must_fit_the_hard_limit)
{
    struct choke choke;
    choke_open(&choke, small_marks);
    while (choke_queued_bytes(&choke) < 240000) {
        MUST_EQUAL(choke_send(&choke, 9996), 0);
        choke_settle(&choke);
    }
    MUST_EQUAL(choke_send(&choke, 100000), -EAGAIN); /* below the mark, but 340000 is over the limit */
    MUST_EQUAL(choke.witness.readied, 0);
    UNTIL(&choke.fixture, (choke_take_all(&choke), choke.witness.readied == 1));
    MUST_EQUAL(choke_send(&choke, 100000), 0);
    choke_close(&choke);
}
END_TEST

/* --- WEIR_LATER, pause, resume --- */

struct hesitation {
    uint32_t attempts, taken;
    uint32_t laters; /* so often before each message is taken */
    bool hold;
    weir_blob *blob;
};

static int hesitate(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    struct hesitation *hesitation = witness->user;
    hesitation->attempts++;
    uint32_t number;
    MUST_EQUAL(message->bytes >= 4, 1);
    memcpy(&number, message->data, 4);
    MUST_EQUAL(number, hesitation->taken); /* the same again, in order */
    MUST(fixture_is_filled(message->data + 4, message->bytes - 4, number));
    if (hesitation->hold && hesitation->blob == NULL)
        hesitation->blob = weir_hold(conn, message);
    if (hesitation->attempts % (hesitation->laters + 1) != 0)
        return WEIR_LATER;
    if (hesitation->blob != NULL) {
        MUST_EQUAL(weir_blob_bytes(hesitation->blob), message->bytes);
        MUST(memcmp(weir_blob_data(hesitation->blob), message->data, message->bytes) == 0);
        weir_blob_release(&hesitation->blob);
    }
    hesitation->taken++;
    return WEIR_TAKEN;
}

static void hesitating(uint32_t bytes, bool hold)
{
    enum { COUNT = 50 };
    struct choke choke;
    struct hesitation hesitation = {.laters = 2, .hold = hold};
    uint8_t *data = malloc(bytes);
    choke_open(&choke, NULL);
    choke.witness.on_message = hesitate;
    choke.witness.user = &hesitation;
    for (uint32_t number = 0; number < COUNT; number++) {
        memcpy(data, &number, 4);
        fixture_fill(data + 4, bytes - 4, number);
        size_t done = 0;
        uint8_t *frame = malloc(bytes + 4);
        memcpy(frame, &bytes, 4);
        memcpy(frame + 4, data, bytes);
        while (done < bytes + 4) { /* resumes while the window is closed */
            ssize_t sent = send(choke.visitor, frame + done, bytes + 4 - done, MSG_NOSIGNAL);
            done += sent > 0 ? (size_t)sent : 0;
            fixture_turn(&choke.fixture);
            weir_resume(choke.witness.conn);
        }
        free(frame);
    }
    UNTIL(&choke.fixture, (weir_resume(choke.witness.conn), hesitation.taken == COUNT));
    MUST_EQUAL(hesitation.attempts, COUNT * 3);
    weir_stats stats;
    weir_runtime_stats(choke.fixture.runtime, &stats);
    MUST_EQUAL(stats.laters, COUNT * 2);
    MUST_EQUAL(stats.messages_in, COUNT); /* each delivered once */
    free(data);
    choke_close(&choke);
}

START_TEST(later_is_the_same_again)
{
    hesitating(20, false);
    hesitating(6000, false);
    hesitating(100000, false);
}
END_TEST

START_TEST(later_after_a_hold)
{
    hesitating(20, true);
    hesitating(6000, true);
    hesitating(100000, true);
}
END_TEST

static int pause_after_three(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    uint32_t number;
    memcpy(&number, message->data, 4);
    MUST_EQUAL(number, witness->messages - 1);
    if (witness->messages % 3 == 0) {
        weir_pause(conn);
        weir_pause(conn); /* twice is once */
    }
    return WEIR_TAKEN;
}

START_TEST(pausing_and_resuming)
{
    struct choke choke;
    choke_open(&choke, NULL);
    choke.witness.on_message = pause_after_three;
    for (uint32_t number = 0; number < 12; number++)
        visitor_send_frame(&choke.fixture, choke.visitor, &number, 4);
    for (uint32_t batch = 1; batch <= 4; batch++) {
        UNTIL(&choke.fixture, choke.witness.messages == batch * 3);
        fixture_turn_for(&choke.fixture, MILLISECONDS(20));
        MUST_EQUAL(choke.witness.messages, batch * 3);
        weir_resume(choke.witness.conn);
        MUST_EQUAL(choke.witness.messages, batch * 3); /* not from inside the call */
        if (batch < 4) {
            fixture_turn(&choke.fixture);
            MUST_EQUAL(choke.witness.messages, batch * 3 + 3); /* within the next turn */
        }
    }
    choke_close(&choke);
}
END_TEST

START_TEST(a_paused_peers_window_closes)
{
    struct choke choke;
    static uint8_t data[4096];
    uint64_t written = 0, quiet = 0;
    choke_open(&choke, NULL);
    weir_pause(choke.witness.conn);
    UNTIL(&choke.fixture, ({
        ssize_t sent = send(choke.visitor, data, sizeof data, MSG_NOSIGNAL); /* of zeros: frames of no bytes */
        written += sent > 0 ? (uint64_t)sent : 0;
        quiet = sent > 0 ? 0 : quiet + 1;
        MUST(written < 16 << 20); /* the sockets' buffers and a few of weir's */
        quiet > 50;
    }));
    MUST_EQUAL(choke.witness.messages, 0);
    weir_resume(choke.witness.conn);
    UNTIL(&choke.fixture, choke.witness.messages == written / 4);
    choke_close(&choke);
}
END_TEST

START_TEST(pressure_passes_to_the_sender)
{
    enum { BYTES = 2000 };
    struct choke choke;
    static uint8_t frame[BYTES + 4];
    uint32_t bytes = BYTES, quiet = 0;
    uint64_t written = 0;
    choke_open(&choke, small_marks);
    choke.witness.on_message = witness_echo;
    /* It writes and does not read, until it cannot write any more. */
    UNTIL(&choke.fixture, ({
        uint64_t number = written / sizeof frame;
        memcpy(frame, &bytes, 4);
        fixture_fill(frame + 4, BYTES, number);
        size_t done = written % sizeof frame;
        ssize_t sent = send(choke.visitor, frame + done, sizeof frame - done, MSG_NOSIGNAL);
        written += sent > 0 ? (uint64_t)sent : 0;
        quiet = sent > 0 ? 0 : quiet + 1;
        MUST(written < 8 << 20);
        quiet > 50;
    }));
    MUST(choke_queued_bytes(&choke) <= 320000);
    weir_stats stats;
    weir_runtime_stats(choke.fixture.runtime, &stats);
    MUST(stats.laters > 0);
    uint64_t count = written / sizeof frame;
    for (uint64_t i = 0; i < count; i++) {
        MUST_EQUAL(visitor_receive_frame(&choke.fixture, choke.visitor, frame, BYTES), BYTES);
        MUST(fixture_is_filled(frame, BYTES, i));
    }
    choke_close(&choke);
}
END_TEST

/* --- slow peers --- */

static const weir_slow_peer by_bytes = {.queued_bytes_max = 200000};
static const weir_slow_peer by_time = {.stalled_ns_max = 200 * WEIR_MILLISECOND};
static const weir_slow_peer never = {0};

static void impatient(weir_protocol *protocol)
{
    small_marks(protocol);
    protocol->limits.slow_peer = by_bytes;
}

START_TEST(slow_by_bytes)
{
    struct choke choke;
    choke_open(&choke, impatient);
    while (choke_send(&choke, 996) == 0)
        MUST(choke.accepted_bytes < 2000000);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_SLOW_BYTES);
    MUST_EQUAL(choke.witness.event.undelivered_bytes, choke.accepted_bytes - choke_take_all(&choke));
    /* Switched off for one connection: it is refused and lives. */
    choke_connect(&choke);
    weir_set_slow_peer(choke.witness.conn, &never);
    fill_up(&choke, 996);
    fixture_turn_for(&choke.fixture, MILLISECONDS(50));
    MUST_EQUAL(choke.witness.closed, 1);
    /* And the protocol's again. */
    weir_set_slow_peer(choke.witness.conn, NULL);
    MUST_EQUAL(choke_send(&choke, 996), -EAGAIN);
    UNTIL(&choke.fixture, choke.witness.closed == 2);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_SLOW_BYTES);
    choke_connect(&choke);
    choke_close(&choke);
}
END_TEST

START_TEST(slow_by_time)
{
    struct choke choke;
    choke_open(&choke, small_marks);
    while (choke_send(&choke, 996) == 0)
        MUST(choke.accepted_bytes < 2000000);
    fixture_turn_for(&choke.fixture, MILLISECONDS(400));
    MUST_EQUAL(choke.witness.closed, 0); /* no policy: for ever */
    weir_set_slow_peer(choke.witness.conn, &by_time);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_SLOW_TIME);
    MUST_EQUAL(choke.witness.event.undelivered_bytes, choke.accepted_bytes - choke_take_all(&choke));
    /* One that reads a little all the time is not slow, however long it takes; when it stops it is. */
    choke_connect(&choke);
    weir_set_slow_peer(choke.witness.conn, &by_time);
    while (choke_send(&choke, 996) == 0)
        MUST(choke.accepted_bytes < 2000000);
    for (int i = 0; i < 8; i++) {
        choke_take_all(&choke);
        fixture_turn_for(&choke.fixture, MILLISECONDS(60));
        MUST_EQUAL(choke.witness.closed, 1);
        while (choke_send(&choke, 996) == 0)
            MUST(choke.accepted_bytes < 20000000);
    }
    MUST(choke_queued_bytes(&choke) > 0);
    uint64_t start_ns = fixture_clock_ns();
    UNTIL(&choke.fixture, choke.witness.closed == 2);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_SLOW_TIME);
    MUST(fixture_clock_ns() - start_ns >= MILLISECONDS(100));
    choke_connect(&choke);
    choke_close(&choke);
}
END_TEST

START_TEST(idle_is_not_slow)
{
    struct choke choke;
    choke_open(&choke, NULL);
    weir_set_slow_peer(choke.witness.conn, &by_time);
    for (int i = 0; i < 3; i++) { /* nothing is queued for longer than the limit */
        fixture_turn_for(&choke.fixture, MILLISECONDS(300));
        MUST_EQUAL(choke.witness.closed, 0);
        MUST_EQUAL(choke_send(&choke, 10), 0);
    }
    fixture_turn_for(&choke.fixture, MILLISECONDS(300));
    MUST_EQUAL(choke.witness.closed, 0);
    choke_close(&choke);
}
END_TEST

/* --- ends that are half closed --- */

START_TEST(a_half_closed_peer_gets_its_replies)
{
    struct choke choke;
    static uint8_t data[50000];
    choke_open(&choke, NULL);
    struct place place = fixture_listen(choke.fixture.runtime, NULL, &choke.witness.protocol);
    choke.witness.on_message = witness_echo;
    for (uint32_t round = 0; round < 2; round++) {
        int visitor = round == 0 ? choke.visitor : visitor_dial(place.address);
        for (uint32_t i = 0; i < 4; i++) {
            fixture_fill(data, sizeof data, i);
            visitor_send_frame(round == 0 ? &choke.fixture : NULL, visitor, data, round == 0 ? sizeof data : 5000);
        }
        shutdown(visitor, SHUT_WR); /* before the replies; in the second round before a turn */
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t bytes = visitor_receive_frame(&choke.fixture, visitor, data, sizeof data);
            MUST_EQUAL(bytes, round == 0 ? sizeof data : 5000);
            MUST(fixture_is_filled(data, bytes, i));
        }
        visitor_expect_end(&choke.fixture, visitor);
        UNTIL(&choke.fixture, choke.witness.closed == round + 1);
        MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_PEER);
        MUST_EQUAL(choke.witness.event.undelivered_messages, 0);
        close(visitor);
    }
    int visitor = visitor_dial(place.address); /* after the reply */
    visitor_send_frame(&choke.fixture, visitor, "one", 3);
    visitor_expect_frame(&choke.fixture, visitor, "one", 3);
    shutdown(visitor, SHUT_WR);
    visitor_expect_end(&choke.fixture, visitor);
    UNTIL(&choke.fixture, choke.witness.closed == 3);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_PEER);
    close(visitor);
    choke_connect(&choke);
    choke_close(&choke);
}
END_TEST

START_TEST(messages_before_the_end_are_delivered)
{
    struct choke choke;
    choke_open(&choke, NULL);
    weir_pause(choke.witness.conn);
    for (uint32_t i = 0; i < 5; i++)
        visitor_send_frame(&choke.fixture, choke.visitor, &i, 4);
    shutdown(choke.visitor, SHUT_WR);
    fixture_turn_for(&choke.fixture, MILLISECONDS(50));
    MUST_EQUAL(choke.witness.closed, 0);
    MUST_EQUAL(choke.witness.messages, 0);
    weir_resume(choke.witness.conn);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.messages, 5);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_PEER);
    close(choke.visitor);
    choke_connect(&choke); /* inside a message */
    visitor_send(&choke.fixture, choke.visitor, "\5\0\0\0half", 8);
    shutdown(choke.visitor, SHUT_WR);
    UNTIL(&choke.fixture, choke.witness.closed == 2);
    MUST_EQUAL(choke.witness.messages, 5);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_TRUNCATED);
    close(choke.visitor);
    choke_connect(&choke);
    choke_close(&choke);
}
END_TEST

static int fail_on_bad(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    (void)witness;
    return message->bytes == 3 ? -EILSEQ : fixture_echo(conn, message);
}

START_TEST(a_handlers_error_ends_it)
{
    struct choke choke;
    choke_open(&choke, NULL);
    choke.witness.on_message = fail_on_bad;
    visitor_send(&choke.fixture, choke.visitor, "\4\0\0\0good\3\0\0\0bad\4\0\0\0more", 23);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.messages, 2);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_HANDLER);
    MUST_EQUAL(choke.witness.event.error, -EILSEQ);
    close(choke.visitor);
    choke_connect(&choke);
    choke_close(&choke);
}
END_TEST

/* --- ends from inside callbacks --- */

static int end_in_open(struct witness *witness, weir_conn *conn)
{
    (void)witness;
    MUST_EQUAL(weir_send(conn, "welcome and goodbye", 19), 0);
    weir_end(conn);
    MUST_EQUAL(weir_send(conn, "x", 1), -EPIPE);
    return 0;
}

static int end_in_second(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    int result = fixture_echo(conn, message);
    if (witness->messages == 2)
        weir_end(conn);
    MUST_EQUAL(witness->closed, *(uint32_t *)witness->user); /* told after it has returned */
    return result;
}

static int abort_in_message(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    (void)witness;
    (void)message;
    weir_abort(conn);
    weir_abort(conn);
    return WEIR_LATER;
}

static void send_in_close(struct witness *witness, weir_conn *conn, const weir_close_event *event)
{
    (void)witness;
    (void)event;
    char peer[64];
    MUST_EQUAL(weir_send(conn, "x", 1), -EPIPE);
    weir_end(conn);
    weir_abort(conn);
    weir_conn_peer(conn, peer, sizeof peer);
}

START_TEST(ending_from_callbacks)
{
    struct choke choke;
    uint32_t closed = 0;
    choke_open(&choke, NULL);
    choke.witness.user = &closed;
    choke.witness.on_close = send_in_close;
    choke.witness.on_message = end_in_second;
    visitor_send(&choke.fixture, choke.visitor, "\1\0\0\0a\1\0\0\0b\1\0\0\0c", 15);
    visitor_expect_frame(&choke.fixture, choke.visitor, "a", 1);
    visitor_expect_frame(&choke.fixture, choke.visitor, "b", 1);
    visitor_expect_end(&choke.fixture, choke.visitor);
    close(choke.visitor);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.messages, 2); /* no more after the end */
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_LOCAL);
    choke.witness.on_message = abort_in_message;
    choke_connect(&choke);
    visitor_send(&choke.fixture, choke.visitor, "\1\0\0\0a\1\0\0\0b", 10);
    UNTIL(&choke.fixture, choke.witness.closed == 2);
    MUST_EQUAL(choke.witness.messages, 3);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_ABORTED);
    close(choke.visitor);
    choke.witness.on_open = end_in_open;
    choke_connect(&choke);
    visitor_expect_frame(&choke.fixture, choke.visitor, "welcome and goodbye", 19);
    visitor_expect_end(&choke.fixture, choke.visitor);
    choke_close(&choke);
    MUST_EQUAL(choke.witness.closed, 3);
}
END_TEST

static int never_now(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    (void)witness;
    (void)conn;
    (void)message;
    return WEIR_LATER;
}

START_TEST(ending_while_something_waits)
{
    struct choke choke;
    choke_open(&choke, NULL);
    choke.witness.on_message = never_now;
    for (uint32_t round = 1; round <= 3; round++) {
        visitor_send_frame(&choke.fixture, choke.visitor, "later", 5);
        UNTIL(&choke.fixture, choke.witness.messages == round);
        fixture_turn_for(&choke.fixture, MILLISECONDS(20));
        MUST_EQUAL(choke.witness.messages, round); /* not again by itself */
        if (round == 1)
            weir_end(choke.witness.conn);
        else if (round == 2)
            weir_abort(choke.witness.conn);
        if (round < 3)
            close(choke.visitor);
        else
            weir_stop(choke.fixture.runtime);
        if (round == 3)
            close(choke.visitor);
        UNTIL(&choke.fixture, choke.witness.closed == round);
        MUST_EQUAL(choke.witness.event.reason, round == 1 ? WEIR_REASON_LOCAL : round == 2 ? WEIR_REASON_ABORTED : WEIR_REASON_STOPPED);
        if (round < 3)
            choke_connect(&choke);
    }
    choke.visitor = dup(0);
    choke_close(&choke);
}
END_TEST

FIXTURE_MAIN("flow", full_is_an_answer_and_room_an_event, the_whole_must_fit_the_hard_limit, later_is_the_same_again, later_after_a_hold,
             pausing_and_resuming, a_paused_peers_window_closes, pressure_passes_to_the_sender, slow_by_bytes, slow_by_time,
             idle_is_not_slow, a_half_closed_peer_gets_its_replies, messages_before_the_end_are_delivered, a_handlers_error_ends_it,
             ending_from_callbacks, ending_while_something_waits)
