/* SPDX-License-Identifier: MIT */
/* test_bad_input: what a peer may send that it should not, or in a way that nobody would. Each test says what the close event,
 * the counters and the client see. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "live.h"

/* Sends `bytes` on a connection of its own and nothing after; the server must end it at once for this reason and with this
 * error. Answers how much came back before the end. */
static uint64_t expect_end(struct live *live, const void *data, size_t bytes, weir_reason reason, int error)
{
    uint64_t before = live->reasons[reason], came_bytes, begin_ns = live_now_ns();
    int client = live_dial(live);
    live_write(client, data, bytes);
    ck_assert_int_eq(live_read_end(client, &came_bytes), 0);
    ck_assert_uint_lt(live_now_ns() - begin_ns, LIVE_SLOWER * WEIR_SECOND);
    live_close(client);
    LIVE_AWAIT(live->reasons[reason] == before + 1);
    ck_assert_int_eq(live->last_error, error);
    return came_bytes;
}

/* --- announced lengths --- */

START_TEST(length_over_the_limit)
{
    struct live live;
    live_init(&live, 1000);
    live_start(&live);
    int good = live_dial(&live);
    const uint8_t over[] = {0xe9, 3, 0, 0}, most[] = {0xff, 0xff, 0xff, 0xff};
    live_echo(good, 1000, 1); /* the limit itself is no crime */
    expect_end(&live, over, sizeof over, WEIR_REASON_TOO_BIG, -EMSGSIZE);
    expect_end(&live, most, sizeof most, WEIR_REASON_TOO_BIG, -EMSGSIZE);
    live_echo(good, 1000, 2);
    live_close(good);
    LIVE_AWAIT(live.closes == 3);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.closed[WEIR_REASON_TOO_BIG], 2);
    ck_assert_uint_eq(live.stats.closed[WEIR_REASON_PEER], 1);
    ck_assert_uint_eq(live.stats.messages_in, 2);
}
END_TEST

/* What came before the bad one is delivered, what comes behind it is not looked at. */
START_TEST(length_over_the_limit_in_mid_stream)
{
    struct live live;
    uint8_t bytes[1024];
    size_t filled = 0;
    live_init(&live, 100);
    live_start(&live);
    for (uint32_t i = 0; i < 5; i++)
        filled += live_fill_frame(bytes + filled, 50, i);
    memcpy(bytes + filled, (const uint8_t[]){101, 0, 0, 0}, 4);
    filled += 4;
    filled += live_fill_frame(bytes + filled, 50, 6);
    ck_assert_uint_eq(expect_end(&live, bytes, filled, WEIR_REASON_TOO_BIG, -EMSGSIZE), 5 * 54);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.messages_in, 5);
    ck_assert_uint_eq(live.stats.messages_sent, 5);
}
END_TEST

static void codec_of_lengths(struct live *live, weir_frame_length length, bool big_endian, bool counts_itself)
{
    weir_frame_options options = {.length = length, .big_endian = big_endian, .counts_itself = counts_itself, .message_max_bytes = 100};
    live_init(live, 100);
    ck_assert_int_eq(weir_codec_frame(&live->protocol.codec, &options), 0);
    live_start(live);
}

START_TEST(length_over_the_limit_in_every_format)
{
    struct live live;
    const uint8_t byte[] = {101}, big16[] = {0, 101}, big64[] = {0x80, 0, 0, 0, 0, 0, 0, 0}, varint[] = {0xff, 0xff, 0xff, 0xff, 0x0f};
    const uint8_t endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80}, less_than_itself[] = {3, 0, 0, 0};
    codec_of_lengths(&live, WEIR_FRAME_U8, false, false);
    expect_end(&live, byte, sizeof byte, WEIR_REASON_TOO_BIG, -EMSGSIZE);
    live_stop(&live);
    codec_of_lengths(&live, WEIR_FRAME_U16, true, false);
    expect_end(&live, big16, sizeof big16, WEIR_REASON_TOO_BIG, -EMSGSIZE);
    live_stop(&live);
    codec_of_lengths(&live, WEIR_FRAME_U64, true, false);
    expect_end(&live, big64, sizeof big64, WEIR_REASON_TOO_BIG, -EMSGSIZE);
    live_stop(&live);
    codec_of_lengths(&live, WEIR_FRAME_VARINT, false, false);
    expect_end(&live, varint, sizeof varint, WEIR_REASON_TOO_BIG, -EMSGSIZE);
    expect_end(&live, endless, sizeof endless, WEIR_REASON_BAD_MESSAGE, -EBADMSG);
    live_stop(&live);
    codec_of_lengths(&live, WEIR_FRAME_U32, false, true);
    expect_end(&live, less_than_itself, sizeof less_than_itself, WEIR_REASON_BAD_MESSAGE, -EBADMSG);
    live_stop(&live);
}
END_TEST

START_TEST(line_over_the_limit)
{
    struct live live;
    char line[80];
    live_init(&live, 0);
    ck_assert_int_eq(weir_codec_line(&live.protocol.codec, 64, false), 0);
    live_start(&live);
    int good = live_dial(&live);
    memset(line, 'x', sizeof line);
    expect_end(&live, line, sizeof line, WEIR_REASON_TOO_BIG, -EMSGSIZE); /* no LF in sight, and none needed */
    line[64] = '\n';
    live_write(good, line, 65);
    char back[65];
    live_read(good, back, sizeof back);
    ck_assert_mem_eq(back, line, 65);
    live_close(good);
    live_stop(&live);
}
END_TEST

/* --- cut short --- */

START_TEST(frame_cut_by_end_of_file)
{
    struct live live;
    uint8_t frame[4 + 20];
    live_init(&live, 100);
    live_start(&live);
    int good = live_dial(&live);
    size_t whole = live_fill_frame(frame, 20, 9);
    for (size_t cut = 0; cut <= whole; cut++) {
        int client = live_dial(&live);
        uint64_t came_bytes, closes = live.closes;
        bool inside = cut != 0 && cut != whole;
        weir_reason reason = inside ? WEIR_REASON_TRUNCATED : WEIR_REASON_PEER;
        uint64_t before = live.reasons[reason];
        live_write(client, frame, cut);
        ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
        live_read_end(client, &came_bytes);
        ck_assert_uint_eq(came_bytes, cut == whole ? whole : 0);
        live_close(client);
        LIVE_AWAIT(live.closes == closes + 1);
        ck_assert_uint_eq(live.reasons[reason], before + 1);
    }
    live_echo(good, 100, 1);
    live_close(good);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.closed[WEIR_REASON_TRUNCATED], whole - 1);
    ck_assert_uint_eq(live.stats.messages_in, 2);
}
END_TEST

/* A whole message before the cut is answered all the same. */
START_TEST(frame_cut_behind_a_whole_one)
{
    struct live live;
    uint8_t frames[128];
    uint64_t came_bytes;
    live_init(&live, 100);
    live_start(&live);
    int client = live_dial(&live);
    size_t filled = live_fill_frame(frames, 20, 1);
    live_fill_frame(frames + filled, 30, 2);
    live_write(client, frames, filled + 10);
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    live_read_frame(client, 20, 1);
    live_read_end(client, &came_bytes);
    ck_assert_uint_eq(came_bytes, 0);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_TRUNCATED] == 1);
    live_stop(&live);
}
END_TEST

START_TEST(line_cut_by_end_of_file)
{
    struct live live;
    live_init(&live, 0);
    ck_assert_int_eq(weir_codec_line(&live.protocol.codec, 64, false), 0);
    live_start(&live);
    int client = live_dial(&live);
    live_write(client, "no end", 6);
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    live_read_end(client, NULL);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_TRUNCATED] == 1);
    live_stop(&live);
}
END_TEST

/* --- whole, but in odd pieces --- */

START_TEST(zero_length_frames)
{
    struct live live;
    uint8_t *frames = malloc(1000 * 4 + 500 * 9);
    size_t filled = 0;
    live_init(&live, 100);
    live_start(&live);
    int client = live_dial(&live);
    live_echo(client, 0, 0);
    for (uint32_t i = 0; i < 1000; i++)
        filled += live_fill_frame(frames + filled, i % 2 ? 0 : 5, i);
    live_write(client, frames, filled);
    for (uint32_t i = 0; i < 1000; i++)
        live_read_frame(client, i % 2 ? 0 : 5, i);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.messages_in, 1001);
    ck_assert_uint_eq(live.stats.messages_out, 1001);
    ck_assert_uint_eq(live.stats.bytes_in, filled + 4);
    ck_assert_uint_eq(live.stats.bytes_out, filled + 4);
    free(frames);
}
END_TEST

START_TEST(one_byte_at_a_time)
{
    static const uint32_t sizes[] = {0, 1, 2, 5, 64, 300, 0, 700};
    struct live live;
    uint8_t frame[1024];
    live_init(&live, 1000);
    live_start(&live);
    int client = live_dial(&live), good = live_dial(&live);
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t bytes = live_fill_frame(frame, sizes[i], i);
        for (size_t at = 0; at < bytes; at++) {
            live_write(client, frame + at, 1);
            if (at % 64 == 0)
                live_echo(good, 10, i); /* so that the bytes before it were seen apart */
        }
        live_read_frame(client, sizes[i], i);
    }
    live_close(client);
    live_close(good);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 2);
    live_stop(&live);
}
END_TEST

START_TEST(a_thousand_frames_in_one_read)
{
    struct live live;
    uint8_t *frames = malloc(1000 * 12);
    size_t filled = 0;
    live_init(&live, 100);
    live_start(&live);
    int client = live_dial(&live);
    live_echo(client, 8, 0);
    uint64_t sends = live_stats(&live).sends;
    for (uint32_t i = 0; i < 1000; i++)
        filled += live_fill_frame(frames + filled, 8, i);
    live_write(client, frames, filled);
    for (uint32_t i = 0; i < 1000; i++)
        live_read_frame(client, 8, i);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.messages_in, 1001);
    ck_assert_uint_eq(live.stats.messages_out, 1001);
    ck_assert_uint_lt(live.stats.sends - sends, 50); /* answered in batches, not one by one */
    free(frames);
}
END_TEST

/* Frames of all sizes across the smallest and fewest receive buffers there may be. */
START_TEST(frames_across_buffers)
{
    enum { ROUNDS = 300, AT_ONCE = 10 };
    struct live live;
    live_init(&live, 20000);
    live.config.receive_buffers = 8;
    live.config.receive_buffer_bytes = 4096;
    live_start(&live);
    int client = live_dial(&live);
    for (uint32_t round = 0, seed = 0; round < ROUNDS / LIVE_SLOWER; round++, seed += AT_ONCE) {
        for (uint32_t i = seed; i < seed + AT_ONCE; i++)
            live_write_frame(client, i * 7919 % (i % 5 ? 300 : 20000), i);
        for (uint32_t i = seed; i < seed + AT_ONCE; i++)
            live_read_frame(client, i * 7919 % (i % 5 ? 300 : 20000), i);
    }
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_PEER] == 1);
    live_stop(&live);
    ck_assert_uint_eq(live.stats.messages_in, ROUNDS / LIVE_SLOWER * AT_ONCE);
    ck_assert_uint_eq(live.stats.bytes_in, live.stats.bytes_out);
}
END_TEST

/* --- what the handler says no to --- */

static int refuse_message(weir_conn *conn, const weir_message *message)
{
    (void)conn;
    return message->bytes == 3 ? -EPROTO : live_echo_message(conn, message);
}

static int refuse_open(weir_conn *conn)
{
    return live_opened(conn) != 0 ? 0 : -EACCES;
}

START_TEST(handler_that_refuses)
{
    struct live live;
    live_init(&live, 100);
    live.protocol.on_message = refuse_message;
    live_start(&live);
    const uint8_t bad[] = {3, 0, 0, 0, 'b', 'a', 'd'};
    expect_end(&live, bad, sizeof bad, WEIR_REASON_HANDLER, -EPROTO);
    live_stop(&live);
    live_init(&live, 100);
    live.protocol.on_open = refuse_open;
    live_start(&live);
    int client = live_dial(&live);
    live_read_end(client, NULL);
    live_close(client);
    LIVE_AWAIT(live.reasons[WEIR_REASON_REFUSED] == 1);
    ck_assert_int_eq(live.last_error, -EACCES);
    live_stop(&live);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {length_over_the_limit,
                                  length_over_the_limit_in_mid_stream,
                                  length_over_the_limit_in_every_format,
                                  line_over_the_limit,
                                  frame_cut_by_end_of_file,
                                  frame_cut_behind_a_whole_one,
                                  line_cut_by_end_of_file,
                                  zero_length_frames,
                                  one_byte_at_a_time,
                                  a_thousand_frames_in_one_read,
                                  frames_across_buffers,
                                  handler_that_refuses};
    return live_main("bad_input", tests, sizeof tests / sizeof *tests);
}
