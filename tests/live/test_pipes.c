/* SPDX-License-Identifier: MIT */
/* pipes: what comes on one connection goes out on the other: bytes, messages, translations, pressure; what can be joined and what not. */
#include "hall.h"

#include <errno.h>

/* --- a stream of bytes through a pipe: what is written at one visitor is read at another --- */

struct stream {
    int from, to;
    uint64_t seed, total, written, read;
};

static uint8_t stream_byte(const struct stream *stream, uint64_t place)
{
    uint64_t mixed = (place / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15) + stream->seed;
    mixed ^= mixed >> 31;
    return (uint8_t)(mixed >> (place % 8 * 8));
}

/* Writes what can be written, in pieces of uneven size; false: nothing could be. */
static bool stream_write(struct stream *stream)
{
    static uint8_t piece[50000];
    uint64_t start = stream->written;
    while (stream->written < stream->total) {
        uint64_t bytes = 1 + stream->written * 31 % sizeof piece;
        bytes = bytes > sizeof piece ? sizeof piece : bytes;
        bytes = bytes > stream->total - stream->written ? stream->total - stream->written : bytes;
        for (uint64_t i = 0; i < bytes; i++)
            piece[i] = stream_byte(stream, stream->written + i);
        ssize_t sent = send(stream->from, piece, bytes, MSG_NOSIGNAL);
        if (sent < 0) {
            MUST_EQUAL(errno, EAGAIN);
            break;
        }
        stream->written += (uint64_t)sent;
    }
    return stream->written != start;
}

static void stream_read(struct stream *stream)
{
    static uint8_t piece[100000];
    ssize_t got;
    while ((got = recv(stream->to, piece, sizeof piece, 0)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            if (piece[i] != stream_byte(stream, stream->read + (uint64_t)i))
                ck_abort_msg("byte %llu of the stream is another", (unsigned long long)stream->read + (uint64_t)i);
        }
        stream->read += (uint64_t)got;
        MUST(stream->read <= stream->written);
    }
    MUST(got < 0 && errno == EAGAIN);
}

static const weir_protocol *raw(struct hall *hall, uint32_t number)
{
    (void)number;
    weir_codec_raw(&hall->protocol.codec);
    return &hall->protocol;
}

/* Seats 0 and 2 are on the same shard, 0 and 1 are not. */
static struct seat *partner(struct hall *hall, bool across)
{
    return &hall->seats[across ? 1 : 2];
}

/* What comes before a shard has heard of the pipe waits for it. */
static int wait_for_the_pipe(struct seat *seat, weir_conn *conn, const weir_message *message)
{
    (void)seat;
    (void)conn;
    (void)message;
    return WEIR_LATER;
}

static void both_ways(bool across)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall.protocol_of = raw;
    hall.on_message = wait_for_the_pipe;
    hall_open_here(&hall, 3);
    MUST_EQUAL(weir_pipe(hall.seats[0].conn, partner(&hall, across)->id), 0);
    uint64_t total = (16 << 20) / FIXTURE_SLOWER;
    int near = hall.seats[0].visitor, far = partner(&hall, across)->visitor;
    struct stream there = {.from = near, .to = far, .seed = 1, .total = total}, back = {.from = far, .to = near, .seed = 2, .total = total};
    HALL_UNTIL(&hall, (stream_write(&there), stream_write(&back), stream_read(&there), stream_read(&back),
                       there.read == total && back.read == total));
    MUST_EQUAL(atomic_load(&hall.seats[0].messages) + atomic_load(&partner(&hall, across)->messages),
               0); /* on_message is called for neither */
    hall_close(&hall);
}

START_TEST(bytes_both_ways_on_one_shard)
{
    both_ways(false);
}
END_TEST

START_TEST(bytes_both_ways_across_shards)
{
    both_ways(true);
}
END_TEST

/* --- messages --- */

START_TEST(messages_stay_whole)
{
    static const uint32_t sizes[] = {0, 1, 60, 4091, 4095, 4096, 4097, 16384, 65535, 65536, 100000, 262144, 1048576, 3};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    static uint8_t data[1 << 20];
    for (int across = 0; across < 2; across++) {
        struct hall hall;
        hall_init(&hall, 2);
        hall.on_message = wait_for_the_pipe;
        hall_open_here(&hall, 3);
        struct seat *a = &hall.seats[0], *b = partner(&hall, across != 0);
        MUST_EQUAL(weir_pipe(a->conn, b->id), 0);
        for (uint32_t i = 0; i < COUNT; i++) {
            fixture_fill(data, sizes[i], i);
            visitor_send_frame(hall.turner, a->visitor, data, sizes[i]);
            hall_expect(&hall, b, sizes[i], i);
            fixture_fill(data, sizes[i], 100 + i);
            visitor_send_frame(hall.turner, b->visitor, data, sizes[i]);
            hall_expect(&hall, a, sizes[i], 100 + i);
        }
        for (uint32_t i = 0; i < 500; i++) { /* many at once: small and big ones keep their order */
            fixture_fill(data, i % 50 == 0 ? 9000 : 70, i);
            visitor_send_frame(hall.turner, a->visitor, data, i % 50 == 0 ? 9000 : 70);
        }
        for (uint32_t i = 0; i < 500; i++)
            hall_expect(&hall, b, i % 50 == 0 ? 9000 : 70, i);
        MUST_EQUAL(atomic_load(&a->messages) + atomic_load(&b->messages), 0);
        hall_close(&hall);
    }
}
END_TEST

static const weir_protocol *frames_and_lines(struct hall *hall, uint32_t number)
{
    static weir_protocol lines;
    weir_codec_line(&lines.codec, 50000, false);
    hall_speak(hall, &lines);
    return number == 0 ? &hall->protocol : &lines;
}

START_TEST(frames_to_lines_and_back)
{
    static char text[40000], got[40000];
    for (int across = 0; across < 2; across++) {
        struct hall hall;
        hall_init(&hall, 2);
        hall.protocol_of = frames_and_lines;
        hall_open_here(&hall, 3);
        struct seat *frame = &hall.seats[0], *line = partner(&hall, across != 0);
        MUST_EQUAL(weir_pipe(frame->conn, line->id), 0);
        for (uint32_t i = 0; i < 200; i++) {
            uint32_t bytes = i % 20 == 7 ? 5000 + i * 100 : i;
            memset(text, 'a' + (int)(i % 26), bytes);
            visitor_send_frame(hall.turner, frame->visitor, text, bytes);
            visitor_receive(hall.turner, line->visitor, got, bytes + 1);
            MUST(memcmp(got, text, bytes) == 0 && got[bytes] == '\n');
            text[bytes] = '\n';
            visitor_send(hall.turner, line->visitor, text, bytes + 1);
            visitor_expect_frame(hall.turner, frame->visitor, text, bytes);
        }
        hall_close(&hall);
    }
}
END_TEST

/* A message that the other's codec cannot carry ends the pipe: it is not left out in silence. */
START_TEST(what_the_other_cannot_carry)
{
    static uint8_t text[60000];
    for (int bits = 0; bits < 4; bits++) {
        struct hall hall;
        hall_init(&hall, 2);
        hall.protocol_of = frames_and_lines;
        hall.on_message = wait_for_the_pipe;
        hall_open_here(&hall, 3);
        struct seat *frame = &hall.seats[0], *line = partner(&hall, (bits & 1) != 0);
        MUST_EQUAL(weir_pipe(frame->conn, line->id), 0);
        memset(text, 'x', sizeof text);
        visitor_send_frame(hall.turner, frame->visitor, "before", 6);
        char got[7];
        visitor_receive(hall.turner, line->visitor, got, 7);
        if (bits & 2)
            visitor_send_frame(hall.turner, frame->visitor, text, sizeof text);
        else
            visitor_send_frame(hall.turner, frame->visitor, "a\nb", 3);
        visitor_send_frame(hall.turner, frame->visitor, "after", 5);
        visitor_expect_end(hall.turner, line->visitor);
        hall_leave(line);
        hall_leave(frame);
        HALL_UNTIL(&hall, atomic_load(&frame->closed) == 1 && atomic_load(&line->closed) == 1);
        MUST_EQUAL(frame->event.reason, WEIR_REASON_HANDLER);
        MUST_EQUAL(frame->event.error, bits & 2 ? -EMSGSIZE : -EBADMSG);
        MUST_EQUAL(line->event.reason, WEIR_REASON_LOCAL);
        hall_close(&hall);
    }
}
END_TEST

/* --- pressure --- */

static void pressure(bool across, bool tcp)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall.tcp = tcp;
    hall.protocol_of = raw;
    hall.on_message = wait_for_the_pipe;
    hall.protocol.limits.high_water_bytes = 100000;
    hall.send_buffer_bytes = 16 * KIB;
    hall_open_here(&hall, 3);
    struct seat *a = &hall.seats[0], *b = partner(&hall, across);
    MUST_EQUAL(weir_pipe(a->conn, b->id), 0);
    struct stream there = {.from = a->visitor, .to = b->visitor, .seed = 1, .total = 64 << 20};
    uint32_t quiet = 0;
    HALL_UNTIL(&hall, ({ /* nobody reads: the writer comes to a stop */
                         quiet = stream_write(&there) ? 0 : quiet + 1;
                         quiet > 100;
    }));
    if (there.written >= 32 << 20)
        ck_abort_msg("a writer whose reader does not read wrote %u KiB", (unsigned)(there.written / KIB));
    MUST(hall_stats(&hall).queued_bytes <= 2 << 20); /* the mark, and a message of raw bytes, each at most 1 MiB */
    struct stream back = {.from = b->visitor, .to = a->visitor, .seed = 2, .total = 100000}; /* the other way is free */
    HALL_UNTIL(&hall, (stream_write(&back), stream_read(&back), back.read == back.total));
    there.total = there.written + 1000000;
    HALL_UNTIL(&hall, (stream_write(&there), stream_read(&there), there.read == there.total)); /* nothing is lost */
    hall_close(&hall);
}

START_TEST(a_slow_reader_stops_the_writer)
{
    pressure(false, false);
    pressure(true, false);
}
END_TEST

START_TEST(a_slow_reader_stops_the_writer_over_tcp)
{
    pressure(false, true);
    pressure(true, true);
}
END_TEST

/* --- what can be joined --- */

START_TEST(what_cannot_be_joined)
{
    static weir_protocol not_open;
    weir_codec_raw(&not_open.codec);
    for (int across = 0; across < 2; across++) {
        struct hall hall;
        hall_init(&hall, 2);
        hall.protocol_of = raw;
        hall_open_here(&hall, 9);
        struct seat *seats = hall.seats, *other = across ? &seats[3] : &seats[4], *ended = across ? &seats[5] : &seats[6];
        struct seat *ending = across ? &seats[7] : &seats[8];
        MUST_EQUAL(weir_pipe(seats[0].conn, seats[0].id), -EINVAL);
        MUST_EQUAL(weir_pipe(seats[0].conn, (weir_id){0}), -ESTALE);
        hall_leave(ended);
        HALL_UNTIL(&hall, atomic_load(&ended->closed) == 1);
        MUST_EQUAL(weir_pipe(seats[0].conn, ended->id), -ESTALE);
        MUST_EQUAL(weir_pipe(seats[0].conn, partner(&hall, across != 0)->id), 0);
        MUST_EQUAL(weir_pipe(seats[0].conn, partner(&hall, across != 0)->id), -EBUSY);
        MUST_EQUAL(weir_pipe(seats[0].conn, other->id), -EBUSY); /* one is in a pipe already, at once known or not */
        hall_pass(&hall, MILLISECONDS(20));
        MUST_EQUAL(weir_pipe(partner(&hall, across != 0)->conn, other->id), -EBUSY);
        int pair[2];
        weir_id opening;
        MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        MUST_EQUAL(weir_adopt(hall_shard(&hall, 0), pair[0], &not_open, NULL, &opening), 0);
        MUST_EQUAL(weir_pipe(other->shard == 0 ? other->conn : seats[4].conn, opening), -ENOTCONN);
        close(pair[1]);
        weir_end(ending->conn);
        MUST_EQUAL(weir_pipe(ending->conn, other->id), -EPIPE);
        if (!across)
            MUST_EQUAL(weir_pipe(other->conn, ending->id), -EPIPE);
        /* What failed has changed nothing. */
        visitor_send(hall.turner, seats[0].visitor, "through", 7);
        char got[7];
        visitor_receive(hall.turner, partner(&hall, across != 0)->visitor, got, 7);
        MUST(memcmp(got, "through", 7) == 0);
        visitor_send(hall.turner, other->visitor, "alone", 5);
        HALL_UNTIL(&hall, atomic_load(&other->bytes) == 5);
        MUST_EQUAL(atomic_load(&other->closed), 0);
        hall_close(&hall);
    }
}
END_TEST

/* `b` lives elsewhere, and is ending or taken when the news arrives there: the pipe comes to nothing, and `a` ends with it. */
START_TEST(joined_to_one_that_is_taken_elsewhere)
{
    for (int round = 0; round < 2; round++) {
        struct hall hall;
        hall_init(&hall, 2);
        hall.protocol_of = raw;
        hall_open_here(&hall, 4);
        if (round == 0)
            weir_end(hall.seats[1].conn);
        else
            weir_abort(hall.seats[1].conn);
        int result = weir_pipe(hall.seats[0].conn, hall.seats[1].id);
        MUST(result == 0 || result == -EPIPE || result == -ESTALE);
        if (result == 0) {
            HALL_UNTIL(&hall, recv(hall.seats[0].visitor, (uint8_t[1]){0}, 1, 0) == 0 || errno == ECONNRESET);
        } else {
            visitor_send(hall.turner, hall.seats[0].visitor, "alone", 5);
            HALL_UNTIL(&hall, atomic_load(&hall.seats[0].bytes) == 5);
        }
        hall_close(&hall);
    }
}
END_TEST

/* --- from inside callbacks --- */

static int pipe_in_open(struct seat *seat, weir_conn *conn)
{
    if (seat->number == 2) /* the last on shard 0: its partner is there */
        MUST_EQUAL(weir_pipe(conn, seat->hall->seats[0].id), 0);
    return 0;
}

START_TEST(joined_in_on_open)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall.on_open = pipe_in_open;
    hall_open_here(&hall, 3);
    visitor_send_frame(hall.turner, hall.seats[0].visitor, "one", 3);
    visitor_expect_frame(hall.turner, hall.seats[2].visitor, "one", 3);
    visitor_send_frame(hall.turner, hall.seats[2].visitor, "two", 3);
    visitor_expect_frame(hall.turner, hall.seats[0].visitor, "two", 3);
    hall_close(&hall);
}
END_TEST

struct asking {
    struct seat *partner;
    int answer;
    uint32_t calls;
};

/* The first message says whom to join. */
static int pipe_in_message(struct seat *seat, weir_conn *conn, const weir_message *message)
{
    struct asking *asking = seat->hall->user;
    asking->calls++;
    MUST_EQUAL(seat->number, 0);
    MUST(message->bytes == 4 && memcmp(message->data, "join", 4) == 0);
    MUST_EQUAL(weir_pipe(conn, asking->partner->id), 0);
    return asking->answer;
}

START_TEST(joined_in_on_message)
{
    for (int round = 0; round < 4; round++) {
        struct hall hall;
        hall_init(&hall, 2);
        struct asking asking = {.answer = round % 2 == 0 ? WEIR_TAKEN : WEIR_LATER};
        hall.on_message = pipe_in_message;
        hall.user = &asking;
        hall_open_here(&hall, 3);
        asking.partner = partner(&hall, round >= 2);
        visitor_send(hall.turner, hall.seats[0].visitor, "\4\0\0\0join\5\0\0\0after\3\0\0\0and", 24);
        if (asking.answer == WEIR_LATER) /* then it is part of the pipe */
            visitor_expect_frame(hall.turner, asking.partner->visitor, "join", 4);
        visitor_expect_frame(hall.turner, asking.partner->visitor, "after", 5);
        visitor_expect_frame(hall.turner, asking.partner->visitor, "and", 3);
        visitor_send_frame(hall.turner, asking.partner->visitor, "back", 4);
        visitor_expect_frame(hall.turner, hall.seats[0].visitor, "back", 4);
        MUST_EQUAL(asking.calls, 1);
        hall_close(&hall);
    }
}
END_TEST

/* Both have been asked before anybody thought of a pipe, and asked to be asked again. */
START_TEST(joined_while_messages_wait)
{
    for (int across = 0; across < 2; across++) {
        struct hall hall;
        hall_init(&hall, 2);
        hall.on_message = wait_for_the_pipe;
        hall_open_here(&hall, 3);
        struct seat *a = &hall.seats[0], *b = partner(&hall, across != 0);
        visitor_send_frame(hall.turner, a->visitor, "there", 5);
        visitor_send_frame(hall.turner, b->visitor, "back", 4);
        HALL_UNTIL(&hall, hall_stats(&hall).laters == 2);
        MUST_EQUAL(weir_pipe(a->conn, b->id), 0);
        visitor_expect_frame(hall.turner, b->visitor, "there", 5);
        visitor_expect_frame(hall.turner, a->visitor, "back", 4);
        hall_close(&hall);
    }
}
END_TEST

/* Both may still be sent on, between what goes through; and what waited paused goes through when it is resumed. */
START_TEST(beside_the_pipe)
{
    for (int across = 0; across < 2; across++) {
        struct hall hall;
        hall_init(&hall, 2);
        hall_open_here(&hall, 3);
        struct seat *a = &hall.seats[0], *b = partner(&hall, across != 0);
        weir_pause(a->conn);
        visitor_send_frame(hall.turner, a->visitor, "waits", 5);
        hall_pass(&hall, MILLISECONDS(10));
        MUST_EQUAL(weir_pipe(a->conn, b->id), 0);
        hall_expect_silence(&hall, b);
        weir_resume(a->conn);
        visitor_expect_frame(hall.turner, b->visitor, "waits", 5);
        MUST_EQUAL(weir_send(a->conn, "own", 3), 0);
        visitor_expect_frame(hall.turner, a->visitor, "own", 3);
        MUST_EQUAL(weir_send(b->conn, "other", 5), 0);
        visitor_expect_frame(hall.turner, b->visitor, "other", 5);
        hall_close(&hall);
    }
}
END_TEST

/* --- a proxy --- */

struct proxy {
    struct hall hall;
    weir_protocol target; /* what is dialled speaks this */
    char address[WEIR_ADDRESS_MAX_BYTES];
    uint32_t opened, closed;
    weir_close_event event;
};

static int target_opened(weir_conn *conn)
{
    struct proxy *proxy = weir_conn_protocol(conn)->user;
    struct seat *client = weir_conn_user(conn);
    proxy->opened++;
    int result = weir_pipe(conn, client->id);
    weir_conn *found = weir_find(weir_conn_shard(conn), client->id);
    if (result == 0 && found != NULL)
        weir_resume(found);
    return result;
}

static void target_closed(weir_conn *conn, const weir_close_event *event)
{
    struct proxy *proxy = weir_conn_protocol(conn)->user;
    proxy->closed++;
    proxy->event = *event;
}

static int client_opened(struct seat *seat, weir_conn *conn)
{
    struct proxy *proxy = seat->hall->user;
    weir_pause(conn);
    return weir_dial(weir_conn_shard(conn), proxy->address, &proxy->target, &(weir_dial_options){.user = seat}, NULL, NULL);
}

START_TEST(a_proxy)
{
    enum { CLIENTS = 20 };
    static struct proxy proxy;
    struct hall *hall = &proxy.hall;
    int targets[CLIENTS];
    int listener = visitor_listen(CLIENTS, proxy.address, sizeof proxy.address);
    hall_init(hall, 2);
    weir_codec_raw(&hall->protocol.codec);
    weir_codec_raw(&proxy.target.codec);
    proxy.target.user = &proxy;
    proxy.target.on_open = target_opened;
    proxy.target.on_close = target_closed;
    hall->on_open = client_opened;
    hall->user = &proxy;
    hall_open_here(hall, CLIENTS);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        visitor_send(hall->turner, hall->seats[i].visitor, (uint8_t[]){(uint8_t)i, 'h', 'i'},
                     3); /* also before the dial has come through */
        HALL_UNTIL(hall, (targets[i] = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        uint8_t got[6];
        visitor_receive(hall->turner, targets[i], got, 3);
        MUST(got[0] < CLIENTS && memcmp(got + 1, "hi", 2) == 0);
        visitor_send(hall->turner, targets[i], "answer", 6);
        visitor_receive(hall->turner, hall->seats[got[0]].visitor, got, 6);
        MUST(memcmp(got, "answer", 6) == 0);
    }
    MUST_EQUAL(proxy.opened, CLIENTS);
    for (uint32_t i = 0; i < CLIENTS; i++)
        close(targets[i]);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        visitor_expect_end(hall->turner, hall->seats[i].visitor);
        hall_leave(&hall->seats[i]);
    }
    HALL_UNTIL(hall, proxy.closed == CLIENTS);
    MUST_EQUAL(proxy.event.reason, WEIR_REASON_PEER);
    close(listener);
    hall_close(hall);
}
END_TEST

FIXTURE_MAIN("pipes", bytes_both_ways_on_one_shard, bytes_both_ways_across_shards, messages_stay_whole, frames_to_lines_and_back,
             what_the_other_cannot_carry, a_slow_reader_stops_the_writer, a_slow_reader_stops_the_writer_over_tcp, what_cannot_be_joined,
             joined_to_one_that_is_taken_elsewhere, joined_in_on_open, joined_in_on_message, joined_while_messages_wait, beside_the_pipe,
             a_proxy)
