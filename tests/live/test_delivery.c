/* SPDX-License-Identifier: MIT */
/* delivery: order, the control lane, and accounts that close to the byte when the peer goes away in the middle. */
#include "choke.h"

#include <errno.h>
#include <stdio.h>

static void roomy(weir_protocol *protocol)
{
    protocol->limits.high_water_bytes = 16 << 20;
    protocol->limits.hard_limit_bytes = 32 << 20;
}

static void roomy_raw(weir_protocol *protocol)
{
    roomy(protocol);
    weir_codec_raw(&protocol->codec);
}

/* --- order --- */

struct mixture {
    struct choke choke;
    weir_blob *blob;
    uint64_t sent, received;
    uint64_t chance;
    bool refused;
};

static uint64_t draw(uint64_t *chance)
{
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    return *chance;
}

/* What message number n is: small, middling, big or (every eighth) a range of the blob. */
static bool is_of_blob(uint64_t number)
{
    return number % 8 == 5;
}

static uint32_t size_of(uint64_t number)
{
    uint64_t seed = number * 2654435761u + 1;
    uint64_t mixed = draw(&seed) ^ number;
    return number % 16 == 3 ? 60000 + (uint32_t)(mixed % 150000) : number % 4 == 1 ? (uint32_t)(mixed % 20000) : (uint32_t)(mixed % 300);
}

static int keep(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    struct mixture *mixture = witness->user;
    mixture->blob = weir_hold(conn, message);
    return WEIR_TAKEN;
}

static int mixture_send(struct mixture *mixture)
{
    static uint8_t data[250000];
    weir_conn *conn = mixture->choke.witness.conn;
    uint64_t number = mixture->sent;
    uint32_t bytes = size_of(number);
    weir_room room;
    if (is_of_blob(number))
        return weir_send_blob(conn, mixture->blob, (uint32_t)(number % 1000), bytes);
    if (number % 3 == 0 && bytes <= WEIR_RESERVE_MAX_BYTES) {
        int result = weir_reserve(conn, bytes, &room);
        if (result != 0)
            return result;
        fixture_fill(room.data, bytes, number);
        return weir_commit(conn, bytes);
    }
    fixture_fill(data, bytes, number);
    return weir_send(conn, data, bytes);
}

static void mixture_take(struct mixture *mixture, uint8_t *window, size_t *filled)
{
    static uint8_t blob[250000];
    size_t used = 0;
    while (*filled - used >= 4) {
        uint32_t bytes, expected = size_of(mixture->received);
        memcpy(&bytes, window + used, 4);
        if (bytes != expected)
            ck_abort_msg("message %u has %u bytes, not %u", (unsigned)mixture->received, bytes, expected);
        if (*filled - used < 4 + (size_t)bytes)
            break;
        const uint8_t *payload = window + used + 4;
        if (is_of_blob(mixture->received)) {
            fixture_fill(blob, sizeof blob, 4711);
            MUST(memcmp(payload, blob + mixture->received % 1000, bytes) == 0);
        } else {
            MUST(fixture_is_filled(payload, bytes, mixture->received));
        }
        mixture->received++;
        used += 4 + (size_t)bytes;
    }
    memmove(window, window + used, *filled - used);
    *filled -= used;
}

static void note_room(struct witness *witness, weir_conn *conn)
{
    (void)conn;
    ((struct mixture *)witness->user)->refused = false;
}

START_TEST(all_kinds_keep_their_order)
{
    static struct mixture mixture;
    static uint8_t blob[250000], window[600000];
    size_t filled = 0;
    uint64_t count = 3000 / FIXTURE_SLOWER;
    memset(&mixture, 0, sizeof mixture);
    mixture.chance = 88172645463325252;
    choke_open(&mixture.choke, NULL);
    mixture.choke.witness.user = &mixture;
    mixture.choke.witness.on_message = keep;
    mixture.choke.witness.on_ready = note_room;
    fixture_fill(blob, sizeof blob, 4711);
    visitor_send_frame(&mixture.choke.fixture, mixture.choke.visitor, blob, sizeof blob);
    UNTIL(&mixture.choke.fixture, mixture.blob != NULL);
    uint64_t give_up_ns = fixture_clock_ns() + 3 * FIXTURE_WAIT_NS;
    while (mixture.received < count) {
        MUST(fixture_clock_ns() < give_up_ns);
        while (mixture.sent < count && !mixture.refused) {
            int result = mixture_send(&mixture);
            mixture.refused = result == -EAGAIN;
            MUST(result == 0 || result == -EAGAIN);
            mixture.sent += result == 0;
        }
        fixture_turn(&mixture.choke.fixture);
        ssize_t got = recv(mixture.choke.visitor, window + filled, 1 + draw(&mixture.chance) % (sizeof window - filled), 0);
        filled += got > 0 ? (size_t)got : 0;
        mixture_take(&mixture, window, &filled);
    }
    MUST_EQUAL(filled, 0);
    MUST(mixture.choke.witness.readied > 0);
    weir_stats stats;
    weir_runtime_stats(mixture.choke.fixture.runtime, &stats);
    MUST_EQUAL(stats.messages_sent, count);
    UNTIL(&mixture.choke.fixture, (weir_runtime_stats(mixture.choke.fixture.runtime, &stats), stats.messages_out == count));
    MUST_EQUAL(stats.bytes_out, stats.bytes_sent);
    MUST_EQUAL(stats.refusals, mixture.choke.witness.readied); /* one refusal, one on_ready */
    weir_blob_release(&mixture.blob);
    choke_close(&mixture.choke);
}
END_TEST

/* --- the control lane --- */

/* Reads frames until one of 4 bytes says "pong"; how many others came before it. */
static uint64_t messages_before_pong(struct choke *choke, uint32_t data_bytes)
{
    uint8_t *got = malloc(1 << 20);
    uint64_t count = 0;
    for (;; count++) {
        uint32_t bytes = visitor_receive_frame(&choke->fixture, choke->visitor, got, 1 << 20);
        if (bytes == 4 && memcmp(got, "pong", 4) == 0)
            break;
        MUST_EQUAL(bytes, data_bytes);
        MUST(fixture_is_filled(got, bytes, count));
    }
    free(got);
    return count;
}

static void expect_the_rest(struct choke *choke, uint64_t from, uint32_t bytes)
{
    uint8_t *got = malloc(bytes);
    for (uint64_t i = from; i < choke->accepted_messages; i++) {
        MUST_EQUAL(visitor_receive_frame(&choke->fixture, choke->visitor, got, bytes), bytes);
        MUST(fixture_is_filled(got, bytes, i));
    }
    free(got);
}

START_TEST(control_does_not_wait_behind_megabytes)
{
    enum { BYTES = 1 << 20 };
    struct choke choke;
    choke_open(&choke, roomy);
    for (int i = 0; i < 8; i++)
        MUST_EQUAL(choke_send(&choke, BYTES), 0);
    choke_settle(&choke);
    uint64_t taken = choke.accepted_bytes - choke_queued_bytes(&choke);
    MUST(taken > 0 && taken < BYTES); /* the first is half way out */
    MUST_EQUAL(weir_send_control(choke.witness.conn, "pong", 4), 0);
    MUST_EQUAL(messages_before_pong(&choke, BYTES), 1); /* at the next boundary */
    expect_the_rest(&choke, 1, BYTES);
    choke_close(&choke);
}
END_TEST

START_TEST(control_does_not_wait_behind_a_thousand)
{
    enum { BYTES = 1000, COUNT = 8000 };
    struct choke choke;
    choke_open(&choke, roomy);
    for (int i = 0; i < COUNT; i++)
        MUST_EQUAL(choke_send(&choke, BYTES), 0);
    choke_settle(&choke);
    uint64_t taken = choke.accepted_bytes - choke_queued_bytes(&choke);
    MUST_EQUAL(weir_send_control(choke.witness.conn, "pong", 4), 0);
    uint64_t before = messages_before_pong(&choke, BYTES);
    /* What was handed to the kernel already goes first: a bounded run. */
    uint64_t boundary = (taken + BYTES + 3) / (BYTES + 4);
    if (before < boundary || before > boundary + 1100)
        ck_abort_msg("the pong came after %u messages; %u had left", (unsigned)before, (unsigned)boundary);
    expect_the_rest(&choke, before, BYTES);
    choke_close(&choke);
}
END_TEST

START_TEST(control_is_of_one_block)
{
    struct choke choke;
    uint8_t data[100];
    uint32_t accepted = 0;
    choke_open(&choke, roomy);
    MUST_EQUAL(choke_send(&choke, 1 << 20), 0);
    choke_settle(&choke);
    int result;
    for (;; accepted++) {
        fixture_fill(data, sizeof data, accepted);
        if ((result = weir_send_control(choke.witness.conn, data, sizeof data)) != 0)
            break;
        MUST(accepted < 100);
    }
    MUST_EQUAL(result, -EAGAIN);
    MUST(accepted * 104 <= 4096 && accepted * 104 > 4096 - 512);
    uint8_t *got = malloc(1 << 20);
    MUST_EQUAL(visitor_receive_frame(&choke.fixture, choke.visitor, got, 1 << 20), 1 << 20);
    for (uint32_t i = 0; i < accepted; i++) {
        MUST_EQUAL(visitor_receive_frame(&choke.fixture, choke.visitor, got, 1 << 20), 100);
        MUST(fixture_is_filled(got, 100, i)); /* in their own order */
    }
    fixture_turn_for(&choke.fixture, MILLISECONDS(20));
    MUST_EQUAL(choke.witness.readied, 0); /* no on_ready for the lane */
    MUST_EQUAL(weir_send_control(choke.witness.conn, "again", 5), 0);
    visitor_expect_frame(&choke.fixture, choke.visitor, "again", 5);
    free(got);
    choke_close(&choke);
}
END_TEST

START_TEST(control_needs_boundaries)
{
    struct choke choke;
    choke_open(&choke, roomy_raw);
    MUST_EQUAL(weir_send_control(choke.witness.conn, "x", 1), -EINVAL);
    choke_close(&choke);
}
END_TEST

/* --- accounts --- */

/* Whole and rest of what was accepted beyond `taken` bytes, for messages of one size. */
static void expect_account(const struct choke *choke, uint32_t wire_bytes, uint64_t taken)
{
    const weir_close_event *event = &choke->witness.event;
    uint64_t whole = taken / wire_bytes;
    if (event->undelivered_messages != choke->accepted_messages - whole || event->undelivered_bytes != choke->accepted_bytes - taken)
        ck_abort_msg("of %u messages (%u bytes) the kernel took %u bytes; undelivered, it says, are %u messages and %u bytes (%s)",
                     (unsigned)choke->accepted_messages, (unsigned)choke->accepted_bytes, (unsigned)taken,
                     (unsigned)event->undelivered_messages, (unsigned)event->undelivered_bytes, weir_reason_name(event->reason));
}

static void expect_sums(const struct choke *choke)
{
    weir_stats stats;
    weir_runtime_stats(choke->fixture.runtime, &stats);
    MUST_EQUAL(stats.queued_bytes, 0);
    MUST_EQUAL(stats.messages_sent, stats.messages_out + stats.messages_undelivered);
    MUST_EQUAL(stats.bytes_sent, stats.bytes_out + stats.bytes_undelivered);
}

START_TEST(accounts_when_the_peer_goes_away)
{
    static const uint32_t sizes[] = {1, 60, 1000, 5000, 70000, 1000000};
    struct choke choke;
    choke_open(&choke, roomy);
    for (uint32_t i = 0; i < 6; i++) {
        while (choke.accepted_bytes < 1500000)
            MUST_EQUAL(choke_send(&choke, sizes[i]), 0);
        choke_settle(&choke);
        uint64_t taken = choke_take_all(&choke);
        MUST(taken > 0 && taken < choke.accepted_bytes);
        close(choke.visitor);
        UNTIL(&choke.fixture, choke.witness.closed == i + 1);
        expect_account(&choke, sizes[i] + 4, taken);
        expect_sums(&choke);
        choke_connect(&choke);
    }
    choke_close(&choke);
}
END_TEST

START_TEST(accounts_of_an_abort)
{
    struct choke choke;
    choke_open(&choke, roomy);
    for (int i = 0; i < 40; i++)
        MUST_EQUAL(choke_send(&choke, 50000), 0);
    choke_settle(&choke);
    MUST_EQUAL(choke_send(&choke, 50000), 0);
    weir_abort(choke.witness.conn);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_ABORTED);
    expect_account(&choke, 50004, choke_take_all(&choke));
    expect_sums(&choke);
    choke_close(&choke);
}
END_TEST

START_TEST(accounts_with_a_control_message)
{
    struct choke choke;
    choke_open(&choke, roomy);
    for (int i = 0; i < 3; i++)
        MUST_EQUAL(choke_send(&choke, 1000000), 0);
    choke_settle(&choke);
    MUST_EQUAL(weir_send_control(choke.witness.conn, "12345678", 8), 0);
    fixture_turn_for(&choke.fixture, MILLISECONDS(20));
    uint64_t taken = choke_take_all(&choke);
    MUST(taken < 1000000);
    close(choke.visitor);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.event.undelivered_messages, 4);
    MUST_EQUAL(choke.witness.event.undelivered_bytes, choke.accepted_bytes + 12 - taken);
    expect_sums(&choke);
    choke_connect(&choke);
    choke_close(&choke);
}
END_TEST

START_TEST(accounts_of_raw_are_bytes)
{
    struct choke choke;
    uint8_t data[10000] = {1};
    choke_open(&choke, roomy_raw);
    for (int i = 0; i < 100; i++)
        MUST_EQUAL(weir_send(choke.witness.conn, data, sizeof data), 0);
    choke_settle(&choke);
    uint64_t taken = choke_take_all(&choke);
    close(choke.visitor);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.event.undelivered_messages, 0);
    MUST_EQUAL(choke.witness.event.undelivered_bytes, 1000000 - taken);
    choke_connect(&choke);
    choke_close(&choke);
}
END_TEST

START_TEST(accounts_after_a_reset)
{
    struct choke choke;
    choke_open(&choke, roomy);
    struct place place = fixture_listen(choke.fixture.runtime, NULL, &choke.witness.protocol);
    int visitor = visitor_dial(place.address);
    UNTIL(&choke.fixture, choke.witness.opened == 2);
    uint64_t accepted = 0;
    while (choke_send(&choke, 1 << 20) == 0)
        accepted++;
    choke_settle(&choke);
    MUST(accepted >= 16);
    visitor_reset(visitor);
    UNTIL(&choke.fixture, choke.witness.closed == 1);
    MUST_EQUAL(choke.witness.event.reason, WEIR_REASON_RESET);
    MUST_EQUAL(choke.witness.event.error, -ECONNRESET);
    MUST(choke.witness.event.undelivered_messages > 0 && choke.witness.event.undelivered_messages <= accepted);
    expect_sums(&choke);
    weir_stats stats;
    weir_runtime_stats(choke.fixture.runtime, &stats);
    MUST_EQUAL(stats.messages_undelivered, choke.witness.event.undelivered_messages);
    MUST_EQUAL(stats.bytes_undelivered, choke.witness.event.undelivered_bytes);
    /* Of the bytes taken, those of whole messages and less than one message more. */
    uint64_t whole = (accepted - choke.witness.event.undelivered_messages) * ((1 << 20) + 4);
    MUST(stats.bytes_out >= whole && stats.bytes_out - whole < (1 << 20) + 4);
    choke_close(&choke);
}
END_TEST

FIXTURE_MAIN("delivery", all_kinds_keep_their_order, control_does_not_wait_behind_megabytes, control_does_not_wait_behind_a_thousand,
             control_is_of_one_block, control_needs_boundaries, accounts_when_the_peer_goes_away, accounts_of_an_abort,
             accounts_with_a_control_message, accounts_of_raw_are_bytes, accounts_after_a_reset)
