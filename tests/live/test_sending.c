/* SPDX-License-Identifier: MIT */
/* sending: every way to send, and that what was accepted is accounted for. */
#include "fixture.h"

#include <errno.h>
#include <stdio.h>

/* One connection: a witness on this side, a visitor on the other. */
struct stage {
    struct fixture fixture;
    struct witness witness;
    struct place place;
    int visitor;
};

static void stage_connect(struct stage *stage)
{
    uint32_t opened = stage->witness.opened;
    stage->visitor = visitor_dial(stage->place.address);
    UNTIL(&stage->fixture, stage->witness.opened == opened + 1);
}

/* `adjust` may change the protocol before anything listens. */
static void stage_open(struct stage *stage, void (*adjust)(weir_protocol *protocol))
{
    fixture_open(&stage->fixture, NULL);
    witness_start(&stage->witness);
    if (adjust != NULL)
        adjust(&stage->witness.protocol);
    /* Small socket buffers, so that a queue builds up soon; the accepted socket has them from the listening one. */
    weir_listen_options options = {.socket = {.send_buffer_bytes = 16 * 1024, .unsent_low_water_bytes = 16 * 1024}};
    MUST_EQUAL(weir_listen(stage->fixture.runtime, "tcp://127.0.0.1:0", &stage->witness.protocol, &options, &stage->place.listener, NULL),
               0);
    MUST_EQUAL(weir_listener_address(stage->fixture.runtime, stage->place.listener, stage->place.address, sizeof stage->place.address), 0);
    stage_connect(stage);
}

static void stage_close(struct stage *stage)
{
    close(stage->visitor);
    fixture_close(&stage->fixture);
    MUST_EQUAL(stage->witness.opened, stage->witness.closed);
    witness_finish(&stage->witness);
}

static void roomy(weir_protocol *protocol)
{
    protocol->limits.high_water_bytes = 16 << 20;
    protocol->limits.hard_limit_bytes = 32 << 20;
}

START_TEST(sizes_from_nothing_to_a_megabyte)
{
    static const uint32_t sizes[] = {0,     1,     2,      63,     64,     4091,   4092,    4093,   4095,  4096,
                                     4097,  8191,  8192,   16380,  16384,  32768,  65531,   65532,  65533, 65535,
                                     65536, 65537, 131072, 262144, 262145, 524288, 1048575, 1048576};
    struct stage stage;
    stage_open(&stage, roomy);
    uint8_t *data = malloc(1 << 20), *got = malloc(1 << 20);
    size_t count = sizeof sizes / sizeof sizes[0];
    for (size_t i = 0; i < count; i++) {
        fixture_fill(data, sizes[i], i);
        MUST_EQUAL(weir_send(stage.witness.conn, data, sizes[i]), 0);
        memset(data, 0xee, sizes[i]); /* copied: ours again at once */
    }
    for (size_t i = 0; i < count; i++) {
        MUST_EQUAL(visitor_receive_frame(&stage.fixture, stage.visitor, got, 1 << 20), sizes[i]);
        MUST(fixture_is_filled(got, sizes[i], i));
    }
    weir_conn_stats stats;
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += 4 + sizes[i];
    UNTIL(&stage.fixture, weir_conn_stats_get(stage.fixture.runtime, stage.witness.id, &stats) == 0 && stats.queued_bytes == 0);
    MUST_EQUAL(stats.messages_out, count);
    MUST_EQUAL(stats.bytes_out, bytes);
    free(data);
    free(got);
    stage_close(&stage);
}
END_TEST

static void small_frames(weir_protocol *protocol)
{
    weir_codec_frame(&protocol->codec, &(weir_frame_options){.message_max_bytes = 1000});
}

START_TEST(too_big_is_refused)
{
    struct stage stage;
    uint8_t data[1001] = {0};
    weir_room room;
    stage_open(&stage, small_frames);
    MUST_EQUAL(weir_send(stage.witness.conn, data, 1001), -EMSGSIZE);
    MUST_EQUAL(weir_send_to(stage.fixture.shard, stage.witness.id, data, 1001), -EMSGSIZE);
    MUST_EQUAL(weir_send_control(stage.witness.conn, data, 1001), -EMSGSIZE);
    MUST_EQUAL(weir_reserve(stage.witness.conn, 1001, &room), -EMSGSIZE);
    MUST_EQUAL(weir_send(stage.witness.conn, data, 1000), 0);
    visitor_expect_frame(&stage.fixture, stage.visitor, data, 1000);
    weir_stats stats;
    weir_runtime_stats(stage.fixture.runtime, &stats);
    MUST_EQUAL(stats.messages_sent, 1);
    MUST_EQUAL(stats.bytes_sent, 1004);
    MUST_EQUAL(stats.refusals, 0); /* those are the -EAGAINs */
    stage_close(&stage);
}
END_TEST

static void crlf_lines(weir_protocol *protocol)
{
    weir_codec_line(&protocol->codec, 100, true);
}

START_TEST(what_a_line_cannot_carry)
{
    struct stage stage;
    weir_room room;
    stage_open(&stage, crlf_lines);
    MUST_EQUAL(weir_send(stage.witness.conn, "a\nb", 3), -EBADMSG);
    MUST_EQUAL(weir_send_control(stage.witness.conn, "a\nb", 3), -EBADMSG);
    MUST_EQUAL(weir_reserve(stage.witness.conn, 10, &room), 0);
    memcpy(room.data, "a\nb", 3);
    MUST_EQUAL(weir_commit(stage.witness.conn, 3), -EBADMSG);
    MUST_EQUAL(weir_commit(stage.witness.conn, 1), -EINVAL); /* the reserve is over */
    MUST_EQUAL(weir_send(stage.witness.conn, "good", 4), 0);
    MUST_EQUAL(weir_reserve(stage.witness.conn, 10, &room), 0);
    memcpy(room.data, "built", 5);
    MUST_EQUAL(weir_commit(stage.witness.conn, 5), 0);
    char got[13];
    visitor_receive(&stage.fixture, stage.visitor, got, 13);
    MUST(memcmp(got, "good\r\nbuilt\r\n", 13) == 0);
    stage_close(&stage);
}
END_TEST

static void varint_frames(weir_protocol *protocol)
{
    weir_codec_frame(&protocol->codec, &(weir_frame_options){.length = WEIR_FRAME_VARINT});
}

START_TEST(building_in_place)
{
    struct stage stage;
    weir_room room;
    stage_open(&stage, NULL);
    weir_conn *conn = stage.witness.conn;
    MUST_EQUAL(weir_commit(conn, 0), -EINVAL); /* no reserve */
    MUST_EQUAL(weir_reserve(conn, 100, &room), 0);
    MUST(room.bytes >= 100);
    fixture_fill(room.data, 100, 1);
    MUST_EQUAL(weir_commit(conn, 101), -EINVAL);
    MUST_EQUAL(weir_commit(conn, 100), 0);          /* whole */
    MUST_EQUAL(weir_commit(conn, 100), -EINVAL);    /* once */
    MUST_EQUAL(weir_reserve(conn, 5000, &room), 0); /* shorter */
    fixture_fill(room.data, 7, 2);
    MUST_EQUAL(weir_commit(conn, 7), 0);
    MUST_EQUAL(weir_reserve(conn, 3000, &room), 0); /* given up by a send */
    memset(room.data, 0xee, 3000);
    MUST_EQUAL(weir_send(conn, "between", 7), 0);
    MUST_EQUAL(weir_commit(conn, 3000), -EINVAL);
    MUST_EQUAL(weir_reserve(conn, 200, &room), 0); /* given up by the turn */
    memset(room.data, 0xee, 200);
    fixture_turn(&stage.fixture);
    MUST_EQUAL(weir_commit(conn, 200), -EINVAL);
    MUST_EQUAL(weir_reserve(conn, WEIR_RESERVE_MAX_BYTES + 1, &room), -EMSGSIZE);
    MUST_EQUAL(weir_reserve(conn, WEIR_RESERVE_MAX_BYTES, &room), 0);
    fixture_fill(room.data, WEIR_RESERVE_MAX_BYTES, 3);
    MUST_EQUAL(weir_commit(conn, WEIR_RESERVE_MAX_BYTES), 0);
    MUST_EQUAL(weir_reserve(conn, 0, &room), 0);
    MUST_EQUAL(weir_commit(conn, 0), 0);
    uint8_t *expected = malloc(WEIR_RESERVE_MAX_BYTES);
    fixture_fill(expected, 100, 1);
    visitor_expect_frame(&stage.fixture, stage.visitor, expected, 100);
    fixture_fill(expected, 7, 2);
    visitor_expect_frame(&stage.fixture, stage.visitor, expected, 7);
    visitor_expect_frame(&stage.fixture, stage.visitor, "between", 7);
    fixture_fill(expected, WEIR_RESERVE_MAX_BYTES, 3);
    visitor_expect_frame(&stage.fixture, stage.visitor, expected, WEIR_RESERVE_MAX_BYTES);
    visitor_expect_frame(&stage.fixture, stage.visitor, "", 0);
    free(expected);
    stage_close(&stage);
}
END_TEST

START_TEST(building_with_heads_of_any_length)
{
    static const uint32_t sizes[] = {0, 1, 127, 128, 16383, 16384, 60000};
    struct stage stage;
    weir_room room;
    stage_open(&stage, varint_frames);
    for (uint32_t i = 0; i < 7; i++) {
        /* More is reserved than committed: the length of the head is not known before. */
        MUST_EQUAL(weir_reserve(stage.witness.conn, sizes[i] + (i % 2) * 300, &room), 0);
        fixture_fill(room.data, sizes[i], i);
        MUST_EQUAL(weir_commit(stage.witness.conn, sizes[i]), 0);
    }
    uint8_t *got = malloc(60000);
    for (uint32_t i = 0; i < 7; i++) {
        uint32_t length = 0, shift = 0;
        uint8_t byte;
        do {
            visitor_receive(&stage.fixture, stage.visitor, &byte, 1);
            length |= (uint32_t)(byte & 127) << shift;
            shift += 7;
        } while (byte & 128);
        MUST_EQUAL(length, sizes[i]);
        MUST_EQUAL(shift, length < 128 ? 7 : length < 16384 ? 14 : 21); /* the shortest form */
        visitor_receive(&stage.fixture, stage.visitor, got, length);
        MUST(fixture_is_filled(got, length, i));
    }
    free(got);
    stage_close(&stage);
}
END_TEST

/* --- by reference --- */

static int keep(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    weir_blob **blob = witness->user;
    MUST(*blob == NULL);
    *blob = weir_hold(conn, message);
    MUST(*blob != NULL);
    return WEIR_TAKEN;
}

START_TEST(ranges_of_a_held_message)
{
    struct stage stage;
    weir_blob *blob = NULL;
    uint8_t *data = malloc(100000);
    stage_open(&stage, NULL);
    stage.witness.on_message = keep;
    stage.witness.user = &blob;
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t bytes = round == 0 ? 100 : round == 1 ? 20000 : 100000; /* also larger than a receive buffer */
        fixture_fill(data, bytes, round);
        visitor_send_frame(&stage.fixture, stage.visitor, data, bytes);
        UNTIL(&stage.fixture, blob != NULL);
        MUST_EQUAL(weir_blob_bytes(blob), bytes);
        MUST(memcmp(weir_blob_data(blob), data, bytes) == 0);
        weir_conn *conn = stage.witness.conn;
        MUST_EQUAL(weir_send_blob(conn, blob, 0, bytes + 1), -EINVAL);
        MUST_EQUAL(weir_send_blob(conn, blob, bytes, 1), -EINVAL);
        MUST_EQUAL(weir_send_blob(conn, blob, UINT32_MAX, 2), -EINVAL);
        MUST_EQUAL(weir_send_blob(conn, blob, 0, bytes), 0);
        MUST_EQUAL(weir_send_blob(conn, blob, 1, bytes - 2), 0);
        MUST_EQUAL(weir_send_blob(conn, blob, bytes, 0), 0);
        MUST_EQUAL(weir_send_blob(conn, blob, bytes - 50, 50), 0);
        weir_blob *second = weir_blob_hold(blob);
        MUST(second == blob);
        weir_blob_release(&blob);
        MUST(blob == NULL);
        MUST(memcmp(weir_blob_data(second), data, bytes) == 0);
        weir_blob_release(&second); /* what is queued keeps it */
        weir_blob_release(&second); /* NULL is left alone */
        visitor_expect_frame(&stage.fixture, stage.visitor, data, bytes);
        visitor_expect_frame(&stage.fixture, stage.visitor, data + 1, bytes - 2);
        visitor_expect_frame(&stage.fixture, stage.visitor, "", 0);
        visitor_expect_frame(&stage.fixture, stage.visitor, data + bytes - 50, 50);
    }
    free(data);
    stage_close(&stage);
}
END_TEST

static int hold_many(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    weir_blob **blobs = witness->user;
    blobs[witness->messages - 1] = weir_hold(conn, message);
    MUST(blobs[witness->messages - 1] != NULL);
    return WEIR_TAKEN;
}

/* More than a connection may pin: the rest is copied, all of it stays as it was, also after the connection has gone. */
START_TEST(held_messages_stay_as_they_are)
{
    enum { COUNT = 400, BYTES = 6000 };
    struct stage stage;
    weir_blob *blobs[COUNT] = {0};
    static uint8_t data[BYTES];
    stage_open(&stage, NULL);
    stage.witness.on_message = hold_many;
    stage.witness.user = blobs;
    for (uint32_t i = 0; i < COUNT; i++) {
        fixture_fill(data, BYTES, i);
        visitor_send_frame(&stage.fixture, stage.visitor, data, BYTES);
    }
    UNTIL(&stage.fixture, stage.witness.messages == COUNT);
    close(stage.visitor);
    UNTIL(&stage.fixture, stage.witness.closed == 1);
    stage_connect(&stage); /* whose bytes go into the same buffers */
    stage.witness.on_message = NULL;
    for (uint32_t i = 0; i < COUNT; i++) {
        fixture_fill(data, BYTES, 1000 + i);
        visitor_send_frame(&stage.fixture, stage.visitor, data, BYTES);
    }
    UNTIL(&stage.fixture, stage.witness.messages == 2 * COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        MUST_EQUAL(weir_blob_bytes(blobs[i]), BYTES);
        MUST(fixture_is_filled(weir_blob_data(blobs[i]), BYTES, i));
        weir_blob_release(&blobs[i]);
    }
    weir_stats stats;
    weir_runtime_stats(stage.fixture.runtime, &stats);
    MUST(stats.copies_for_lack > 0);
    stage_close(&stage);
}
END_TEST

static int forward_it(struct witness *witness, weir_conn *conn, const weir_message *message)
{
    weir_conn *to = weir_find(weir_conn_shard(conn), *(weir_id *)witness->user);
    MUST(to != NULL);
    int result = weir_forward(conn, message, to);
    return result == -EAGAIN ? WEIR_LATER : result;
}

START_TEST(forwarding)
{
    struct stage stage;
    static uint8_t data[70000];
    stage_open(&stage, roomy);
    int receiver = stage.visitor;
    weir_id to = stage.witness.id;
    stage_connect(&stage);
    stage.witness.on_message = forward_it;
    stage.witness.user = &to;
    static const uint32_t sizes[] = {0, 5, 4095, 4096, 4097, 20000, 65536, 70000, 3};
    for (uint32_t i = 0; i < 9; i++) {
        fixture_fill(data, sizes[i], i);
        visitor_send_frame(&stage.fixture, stage.visitor, data, sizes[i]);
    }
    for (uint32_t i = 0; i < 9; i++) {
        MUST_EQUAL(visitor_receive_frame(&stage.fixture, receiver, data, sizeof data), sizes[i]);
        MUST(fixture_is_filled(data, sizes[i], i));
    }
    to = stage.witness.id; /* and to itself */
    fixture_fill(data, 50000, 99);
    visitor_send_frame(&stage.fixture, stage.visitor, data, 50000);
    visitor_expect_frame(&stage.fixture, stage.visitor, data, 50000);
    close(receiver);
    stage_close(&stage);
}
END_TEST

/* --- by id, and when it is over --- */

START_TEST(ids_and_ends)
{
    struct stage stage;
    weir_room room;
    stage_open(&stage, NULL);
    weir_shard *shard = stage.fixture.shard;
    weir_id id = stage.witness.id;
    MUST_EQUAL(weir_send_to(shard, id, "by id", 5), 0);
    visitor_expect_frame(&stage.fixture, stage.visitor, "by id", 5);
    MUST_EQUAL(weir_send_to(shard, (weir_id){0}, "x", 1), -ESTALE);
    MUST(weir_find(shard, (weir_id){0}) == NULL);
    weir_conn *conn = stage.witness.conn;
    MUST_EQUAL(weir_send(conn, "last", 4), 0);
    MUST_EQUAL(weir_end_id(shard, id), 0);
    MUST_EQUAL(weir_send(conn, "x", 1), -EPIPE);
    MUST_EQUAL(weir_send_control(conn, "x", 1), -EPIPE);
    MUST_EQUAL(weir_send_to(shard, id, "x", 1), -EPIPE);
    MUST_EQUAL(weir_reserve(conn, 1, &room), -EPIPE);
    weir_end(conn); /* any number of times */
    visitor_expect_frame(&stage.fixture, stage.visitor, "last", 4);
    visitor_expect_end(&stage.fixture, stage.visitor);
    MUST_EQUAL(stage.witness.closed, 0); /* the peer's end is awaited */
    shutdown(stage.visitor, SHUT_WR);
    UNTIL(&stage.fixture, stage.witness.closed == 1);
    MUST_EQUAL(stage.witness.event.reason, WEIR_REASON_LOCAL);
    MUST_EQUAL(stage.witness.event.undelivered_messages, 0);
    MUST_EQUAL(weir_send_to(shard, id, "x", 1), -ESTALE);
    MUST_EQUAL(weir_end_id(shard, id), -ESTALE);
    MUST(weir_find(shard, id) == NULL);
    for (uint32_t i = 0; i < 100; i++) { /* nobody gets that name again */
        close(stage.visitor);
        stage_connect(&stage);
        MUST(stage.witness.id.value != id.value);
        UNTIL(&stage.fixture, weir_send_to(shard, id, "x", 1) == -ESTALE);
    }
    stage_close(&stage);
}
END_TEST

START_TEST(aborting_counts_what_was_dropped)
{
    struct stage stage;
    stage_open(&stage, NULL);
    MUST_EQUAL(weir_send(stage.witness.conn, "12345678", 8), 0);
    MUST_EQUAL(weir_send(stage.witness.conn, "1234", 4), 0);
    weir_abort(stage.witness.conn);
    MUST_EQUAL(weir_send(stage.witness.conn, "x", 1), -EPIPE);
    weir_end(stage.witness.conn); /* the first reason stays */
    MUST_EQUAL(stage.witness.closed, 0);
    UNTIL(&stage.fixture, stage.witness.closed == 1);
    MUST_EQUAL(stage.witness.event.reason, WEIR_REASON_ABORTED);
    MUST_EQUAL(stage.witness.event.undelivered_messages, 2);
    MUST_EQUAL(stage.witness.event.undelivered_bytes, 20);
    visitor_expect_reset(&stage.fixture, stage.visitor);
    stage_close(&stage);
}
END_TEST

START_TEST(not_open_yet)
{
    struct stage stage;
    int pair[2];
    weir_id id;
    stage_open(&stage, NULL);
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    MUST_EQUAL(weir_adopt(stage.fixture.shard, pair[0], &stage.witness.protocol, NULL, &id), 0);
    MUST_EQUAL(weir_send_to(stage.fixture.shard, id, "x", 1), -ENOTCONN);
    UNTIL(&stage.fixture, stage.witness.opened == 2);
    MUST_EQUAL(weir_send_to(stage.fixture.shard, id, "x", 1), 0);
    close(pair[1]);
    stage_close(&stage);
}
END_TEST

FIXTURE_MAIN("sending", sizes_from_nothing_to_a_megabyte, too_big_is_refused, what_a_line_cannot_carry, building_in_place,
             building_with_heads_of_any_length, ranges_of_a_held_message, held_messages_stay_as_they_are, forwarding, ids_and_ends,
             aborting_counts_what_was_dropped, not_open_yet)
