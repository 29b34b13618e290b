/* SPDX-License-Identifier: MIT */
/* channels: opening and closing, every way to put a message into one and every code it may answer, full and room, and closing what is
 * not empty. */
#include "hall.h"

#include <errno.h>

static weir_channel *open_channel(weir_port *port, const struct seat *seat, uint32_t bytes, void *user)
{
    weir_channel *channel = NULL;
    MUST_EQUAL(weir_channel_open(port, seat->id, &(weir_channel_options){.bytes = bytes, .user = user}, &channel), 0);
    MUST(channel != NULL);
    return channel;
}

static int send_filled(weir_channel *channel, uint32_t bytes, uint64_t seed, bool publish)
{
    uint8_t *data = malloc(bytes + 1);
    MUST(data != NULL);
    fixture_fill(data, bytes, seed);
    int result = publish ? weir_channel_send(channel, data, bytes) : weir_channel_put(channel, data, bytes);
    memset(data, 0xee, bytes);
    free(data);
    return result;
}

static weir_channel_stats stats_of(const weir_channel *channel)
{
    weir_channel_stats stats;
    weir_channel_stats_get(channel, &stats);
    return stats;
}

/* --- opening and closing --- */

START_TEST(opening_and_closing)
{
    struct hall hall;
    struct tally tally = {0};
    int mark;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_channel *channel = NULL;
    weir_channel_close(&channel); /* NULL is left alone */
    for (uint32_t i = 0; i < 2; i++) {
        channel = open_channel(port, &hall.seats[i], 0, &mark);
        MUST(weir_channel_id(channel).value == hall.seats[i].id.value);
        MUST(weir_channel_user(channel) == &mark);
        MUST_EQUAL(send_filled(channel, 100, 1, true), 0);
        hall_expect(&hall, &hall.seats[i], 100, 1);
        weir_channel_close(&channel);
        MUST(channel == NULL);
    }
    MUST_EQUAL(weir_channel_open(port, hall.seats[1].id, NULL, &channel), 0);
    MUST(weir_channel_user(channel) == NULL);
    weir_channel_close(&channel);
    for (uint32_t i = 0; i < 1000; i++) { /* again and again, also without waiting for what was in it */
        tally_collect(&tally, port);      /* closed ones have been let go of */
        MUST_EQUAL(weir_channel_open(port, hall.seats[i % 2].id, &(weir_channel_options){.bytes = 4096}, &channel), 0);
        MUST_EQUAL(send_filled(channel, 40, i, true), 0);
        weir_channel_close(&channel);
        hall_expect(&hall, &hall.seats[i % 2], 40, i);
    }
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

static int try_open(weir_port *port, weir_id id, uint32_t bytes)
{
    weir_channel *channel = (weir_channel *)&id;
    tally_collect(&(struct tally){0}, port); /* closed ones have been let go of */
    int result = weir_channel_open(port, id, &(weir_channel_options){.bytes = bytes}, &channel);
    MUST((result == 0) == (channel != NULL));
    weir_channel_close(&channel);
    return result;
}

START_TEST(what_cannot_be_opened)
{
    struct hall hall;
    weir_channel *channels[3] = {0}, *more;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall.config.channels = 3;
    hall.config.port_bytes = 24 * MIB;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall), *second = NULL;
    weir_id id = hall.seats[1].id;
    static const uint32_t bad[] = {1, 2048, 4095, 4097, 5000, 65535, 3 << 20, 32 << 20, UINT32_MAX};
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        MUST_EQUAL(try_open(port, id, bad[i]), -EINVAL);
    MUST_EQUAL(try_open(port, id, 4 * KIB), 0);
    MUST_EQUAL(try_open(port, id, 16 * MIB), 0);
    MUST_EQUAL(try_open(port, (weir_id){0}, 0), -ESTALE);
    fixture_settle(hall.turner);
    tally_collect(&(struct tally){0}, port);
    /* As many as the port may have, as many as the runtime may have. */
    MUST_EQUAL(weir_port_open(hall.runtime, &(weir_port_options){.channels = 2}, &second, NULL), 0);
    for (uint32_t i = 0; i < 2; i++)
        MUST_EQUAL(weir_channel_open(second, id, NULL, &channels[i]), 0);
    MUST_EQUAL(try_open(second, id, 0), -ENOSPC);
    MUST_EQUAL(weir_channel_open(port, id, NULL, &channels[2]), 0);
    MUST_EQUAL(weir_channel_open(port, id, NULL, &more), -ENOSPC);
    MUST(more == NULL);
    weir_channel_close(&channels[0]);
    HALL_UNTIL(&hall, (tally_collect(&(struct tally){0}, second), try_open(port, id, 0) == 0)); /* given back */
    fixture_settle(hall.turner);
    tally_collect(&(struct tally){0}, port);
    HALL_UNTIL(&hall, try_open(second, id, 0) == 0);
    hall_leave(&hall.seats[1]);
    HALL_UNTIL(&hall, atomic_load(&hall.seats[1].closed) == 1);
    MUST_EQUAL(try_open(port, id, 0), -ESTALE);
    weir_channel_close(&channels[1]);
    weir_channel_close(&channels[2]);
    weir_port_close(&port);
    weir_port_close(&second);
    hall_close(&hall);
}
END_TEST

START_TEST(no_memory_no_room_no_shard)
{
    struct hall hall;
    weir_channel *channel = NULL, *second = NULL;
    struct tally tally = {0};
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall.config.port_bytes = 128 * KIB;
    hall.config.ring_bytes = 16 * KIB;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    MUST_EQUAL(try_open(port, hall.seats[0].id, 1 * MIB), -ENOMEM); /* beyond port_bytes */
    channel = open_channel(port, &hall.seats[0], 64 * KIB, NULL);
    MUST_EQUAL(try_open(port, hall.seats[1].id, 128 * KIB), -ENOMEM); /* what is left of them */
    atomic_store(&hall.account.fail_from, 1);
    atomic_store(&hall.account.fail_to, INT64_MAX);
    int result = weir_channel_open(port, hall.seats[1].id, NULL, &second);
    atomic_store(&hall.account.fail_from, 0);
    MUST_EQUAL(result, -ENOMEM);
    MUST(second == NULL);
    for (uint32_t bytes = 512; bytes > 0; bytes /= 2) { /* the ring to its shard is full */
        while (hall_send(port, &hall.seats[1], bytes, 1) == 0)
            continue;
    }
    tally_collect(&tally, port);
    MUST_EQUAL(try_open(port, hall.seats[1].id, 4096), -EAGAIN);
    HALL_UNTIL(&hall, (tally_collect(&tally, port), tally.events[WEIR_PORT_ROOM] > 0));
    HALL_UNTIL(&hall, try_open(port, hall.seats[1].id, 4096) == 0);
    weir_channel_close(&channel);
    weir_stop(hall.runtime);
    hall_leave(&hall.seats[0]);
    hall_leave(&hall.seats[1]);
    HALL_UNTIL(&hall, hall.fixture.over_count == 2);
    result = try_open(port, hall.seats[0].id, 4096);
    MUST(result == -ESHUTDOWN || result == -ESTALE);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* A channel of a shard's own port: to another shard, and at home. */
START_TEST(of_a_shards_port)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall_open_here(&hall, 2);
    for (uint32_t i = 0; i < 2; i++) {
        weir_channel *channel = open_channel(weir_shard_port(hall_shard(&hall, 0)), &hall.seats[i], 0, NULL);
        MUST_EQUAL(weir_channel_wait(channel, WEIR_FOREVER), -EDEADLK);
        for (uint32_t number = 0; number < 100; number++)
            MUST_EQUAL(send_filled(channel, 200, number, true), 0);
        for (uint32_t number = 0; number < 100; number++)
            hall_expect(&hall, &hall.seats[i], 200, number);
        weir_channel_close(&channel);
    }
    hall_close(&hall);
}
END_TEST

/* --- messages --- */

START_TEST(sizes_up_to_half_of_the_ring)
{
    static const uint32_t rings[] = {4 * KIB, 64 * KIB, 1 * MIB};
    struct hall hall;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    for (uint32_t ring = 0; ring < 3; ring++) {
        struct seat *seat = &hall.seats[ring % 2];
        uint32_t half = rings[ring] / 2 - 4; /* a frame has four bytes before it */
        uint32_t sizes[] = {0, 1, 2, 7, 8, 63, 64, 1000, half / 2, half - 9, half - 1, half, half, 5, half, 1};
        weir_channel *channel = open_channel(port, seat, rings[ring], NULL);
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < 16; i++) {
            HALL_UNTIL(&hall, send_filled(channel, sizes[i], i, true) == 0);
            bytes += sizes[i] + 4;
            hall_expect(&hall, seat, sizes[i], i);
        }
        MUST_EQUAL(send_filled(channel, half + 1, 0, true), -EMSGSIZE);
        MUST_EQUAL(send_filled(channel, half + 1, 0, false), -EMSGSIZE);
        MUST_EQUAL(weir_channel_send(channel, "x", UINT32_MAX), -EMSGSIZE);
        MUST_EQUAL(weir_channel_reserve(channel, half + 1, &(weir_room){0}), -EMSGSIZE);
        MUST_EQUAL(stats_of(channel).messages_sent, 16);
        MUST_EQUAL(stats_of(channel).bytes_sent, bytes);
        HALL_UNTIL(&hall, stats_of(channel).messages_delivered == 16);
        MUST_EQUAL(stats_of(channel).bytes_delivered, bytes);
        MUST_EQUAL(stats_of(channel).queued_bytes, 0);
        weir_channel_close(&channel);
    }
    tally_settle(&(struct tally){0}, &hall, port);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* Sizes that never fit the ring's end evenly: no frame is torn where it begins again. */
START_TEST(round_and_round)
{
    enum { COUNT = 6000 / FIXTURE_SLOWER };
    struct hall hall;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_channel *channel = open_channel(port, &hall.seats[1], 4 * KIB, NULL);
    uint64_t sent = 0, got = 0;
    while (got < COUNT) {
        while (sent < COUNT && send_filled(channel, (uint32_t)(sent * 7919 % 2045), sent, sent % 3 == 0) == 0)
            sent++;
        weir_channel_publish(channel);
        fixture_turn(hall.turner);
        for (uint32_t i = 0; i < 4 && got < sent; i++, got++)
            hall_expect(&hall, &hall.seats[1], (uint32_t)(got * 7919 % 2045), got);
    }
    HALL_UNTIL(&hall, stats_of(channel).messages_delivered == COUNT);
    MUST_EQUAL(stats_of(channel).queued_bytes, 0);
    weir_channel_close(&channel);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(what_the_codec_says)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall.own_channels = true;
    MUST_EQUAL(weir_codec_line(&hall.protocol.codec, 100, false), 0);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_channel *channel = open_channel(port, &hall.seats[1], 0, NULL);
    weir_room room;
    MUST_EQUAL(weir_channel_send(channel, "a\nb", 3), -EBADMSG); /* known here and now */
    MUST_EQUAL(weir_channel_put(channel, "a\nb", 3), -EBADMSG);
    MUST_EQUAL(weir_channel_send(channel, (uint8_t[101]){0}, 101), -EMSGSIZE);
    MUST_EQUAL(weir_channel_reserve(channel, 101, &room), -EMSGSIZE);
    MUST_EQUAL(weir_channel_reserve(channel, 50, &room), 0);
    memcpy(room.data, "a\nb", 3);
    MUST_EQUAL(weir_channel_commit(channel, 3), -EBADMSG);
    MUST_EQUAL(weir_channel_commit(channel, 1), -EINVAL); /* the reserve is over */
    MUST_EQUAL(weir_channel_send(channel, "good", 4), 0);
    char got[5];
    visitor_receive(hall.turner, hall.seats[1].visitor, got, 5);
    MUST(memcmp(got, "good\n", 5) == 0);
    hall_expect_silence(&hall, &hall.seats[1]);
    MUST_EQUAL(stats_of(channel).messages_sent, 1);
    MUST_EQUAL(stats_of(channel).bytes_sent, 5);
    weir_channel_close(&channel);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(put_and_publish)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    struct seat *seat = &hall.seats[1];
    weir_channel *channel = open_channel(port, seat, 4 * KIB, NULL);
    weir_channel_publish(channel); /* nothing is nothing */
    for (uint32_t i = 0; i < 10; i++)
        MUST_EQUAL(send_filled(channel, 100, i, false), 0);
    hall_expect_silence(&hall, seat);
    weir_channel_publish(channel);
    for (uint32_t i = 0; i < 10; i++)
        hall_expect(&hall, seat, 100, i);
    MUST_EQUAL(send_filled(channel, 50, 1, false), 0);
    MUST_EQUAL(send_filled(channel, 50, 2, true), 0); /* a send publishes what was put before it, in order */
    hall_expect(&hall, seat, 50, 1);
    hall_expect(&hall, seat, 50, 2);
    /* A put that finds it full has published what was there. */
    uint64_t put = 0, got = 0;
    int result;
    HALL_UNTIL(&hall, stats_of(channel).queued_bytes == 0);
    while ((result = send_filled(channel, 200, put, false)) == 0)
        MUST(++put < 30);
    MUST_EQUAL(result, -EAGAIN);
    MUST(put >= 8);
    while (got < put)
        hall_expect(&hall, seat, 200, got++);
    /* What was never published goes out at the close. */
    HALL_UNTIL(&hall, send_filled(channel, 60, 3, false) == 0);
    hall_expect_silence(&hall, seat);
    weir_channel_close(&channel);
    hall_expect(&hall, seat, 60, 3);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

static void reserve(weir_channel *channel, uint32_t bytes, uint32_t used, uint64_t seed)
{
    weir_room room;
    MUST_EQUAL(weir_channel_reserve(channel, bytes, &room), 0);
    MUST(room.data != NULL && room.bytes >= bytes);
    fixture_fill(room.data, used, seed);
}

START_TEST(building_in_place)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    struct seat *seat = &hall.seats[1];
    weir_channel *channel = open_channel(port, seat, 16 * KIB, NULL);
    MUST_EQUAL(weir_channel_commit(channel, 0), -EINVAL); /* no reserve */
    reserve(channel, 100, 100, 1);
    MUST_EQUAL(weir_channel_commit(channel, 8000), -EINVAL);
    MUST_EQUAL(weir_channel_commit(channel, 100), 0);       /* whole */
    MUST_EQUAL(weir_channel_commit(channel, 100), -EINVAL); /* once */
    hall_expect(&hall, seat, 100, 1);                       /* published at once */
    reserve(channel, 5000, 7, 2);
    hall_expect_silence(&hall, seat);
    MUST_EQUAL(weir_channel_commit(channel, 7), 0); /* shorter, and after a while */
    hall_expect(&hall, seat, 7, 2);
    reserve(channel, 3000, 3000, 9); /* given up by a send */
    MUST_EQUAL(send_filled(channel, 20, 3, true), 0);
    MUST_EQUAL(weir_channel_commit(channel, 3000), -EINVAL);
    reserve(channel, 3000, 3000, 9); /* by a put */
    MUST_EQUAL(send_filled(channel, 20, 4, false), 0);
    MUST_EQUAL(weir_channel_commit(channel, 3000), -EINVAL);
    reserve(channel, 3000, 3000, 9); /* by another reserve */
    reserve(channel, 40, 40, 5);
    MUST_EQUAL(weir_channel_commit(channel, 40), 0);
    for (uint64_t i = 3; i <= 5; i++)
        hall_expect(&hall, seat, i == 5 ? 40 : 20, i);
    reserve(channel, 0, 0, 6);
    MUST_EQUAL(weir_channel_commit(channel, 0), 0);
    hall_expect(&hall, seat, 0, 6);
    reserve(channel, 3000, 3000, 9); /* by the close: it is not a message */
    weir_channel_close(&channel);
    hall_expect_silence(&hall, seat);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

START_TEST(building_with_heads_of_any_length)
{
    static const uint32_t sizes[] = {0, 1, 127, 128, 5000, 16383, 16384, 30000};
    struct hall hall;
    static uint8_t got[30000];
    hall_init(&hall, 2);
    hall.own_channels = true;
    MUST_EQUAL(weir_codec_frame(&hall.protocol.codec, &(weir_frame_options){.length = WEIR_FRAME_VARINT}), 0);
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_channel *channel = open_channel(port, &hall.seats[1], 64 * KIB, NULL);
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t bytes = sizes[i / 2];
        HALL_UNTIL(&hall, stats_of(channel).queued_bytes == 0);
        if (i % 2 == 0) {
            MUST_EQUAL(send_filled(channel, bytes, i, true), 0);
        } else {
            reserve(channel, bytes + 300, bytes, i); /* the length of the head is not known before */
            MUST_EQUAL(weir_channel_commit(channel, bytes), 0);
        }
        uint32_t length = 0, shift = 0;
        uint8_t byte;
        do {
            visitor_receive(hall.turner, hall.seats[1].visitor, &byte, 1);
            length |= (uint32_t)(byte & 127) << shift;
            shift += 7;
        } while (byte & 128);
        MUST_EQUAL(length, bytes);
        MUST_EQUAL(shift, length < 128 ? 7 : length < 16384 ? 14 : 21); /* the shortest form */
        visitor_receive(hall.turner, hall.seats[1].visitor, got, length);
        MUST(fixture_is_filled(got, length, i));
    }
    weir_channel_close(&channel);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- full, and room --- */

START_TEST(full_is_an_answer_and_room_an_event)
{
    struct hall hall;
    struct tally tally = {0};
    int mark;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall.send_buffer_bytes = 16 * KIB;
    hall.protocol.limits.high_water_bytes = 20000;
    hall_open_here(&hall, 2);
    weir_port *port = hall_port(&hall);
    struct seat *seat = &hall.seats[1];
    weir_channel *channel = open_channel(port, seat, 64 * KIB, &mark);
    uint64_t sent = 0, got = 0;
    for (uint32_t round = 0; round < 4; round++) { /* the kernel takes some, at first */
        while (send_filled(channel, 996, sent, true) == 0)
            MUST(++sent < 300);
        hall_pass(&hall, MILLISECONDS(20));
    }
    tally_collect(&tally, port);
    uint32_t rooms = tally.events[WEIR_PORT_CHANNEL_ROOM];
    MUST(stats_of(channel).queued_bytes > 60000);
    MUST_EQUAL(weir_send(seat->conn, "the local one is empty", 22), 0); /* it does not count against the marks */
    uint64_t refusals = stats_of(channel).refusals;
    MUST_EQUAL(send_filled(channel, 996, sent, true), -EAGAIN);
    MUST_EQUAL(stats_of(channel).refusals, refusals + 1);
    while (stats_of(channel).queued_bytes > 34 * KIB) {
        MUST_EQUAL(tally_collect(&tally, port), 0); /* not before half of it is free */
        uint8_t payload[996];
        uint32_t bytes = visitor_receive_frame(hall.turner, seat->visitor, payload, sizeof payload);
        MUST(bytes == 22 || (bytes == 996 && fixture_is_filled(payload, 996, got++)));
        fixture_turn(hall.turner);
    }
    HALL_UNTIL(&hall, ({
        hall_take_all(seat);
        tally_collect(&tally, port);
        tally.events[WEIR_PORT_CHANNEL_ROOM] == rooms + 1;
    }));
    MUST(tally.last.channel == channel && tally.last.user == &mark);
    MUST(stats_of(channel).queued_bytes <= 32 * KIB);
    MUST_EQUAL(send_filled(channel, 996, 0, true), 0);
    HALL_UNTIL(&hall, (hall_take_all(seat), stats_of(channel).queued_bytes == 0));
    hall_pass(&hall, MILLISECONDS(20));
    tally_settle(&tally, &hall, port);
    MUST_EQUAL(tally.events[WEIR_PORT_CHANNEL_ROOM], rooms + 1); /* once */
    weir_channel_close(&channel);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

static void *drain_later(void *user)
{
    struct seat *seat = user;
    fixture_sleep_ns(MILLISECONDS(100));
    for (int i = 0; i < 200; i++) {
        hall_take_all(seat);
        fixture_sleep_ns(MILLISECONDS(1));
    }
    hall_leave(seat);
    return NULL;
}

START_TEST(waiting_for_room)
{
    struct hall hall;
    pthread_t thread;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall.send_buffer_bytes = 16 * KIB;
    hall_open_apart(&hall, 2);
    weir_port *port = hall_port(&hall);
    weir_channel *channel = open_channel(port, &hall.seats[1], 64 * KIB, NULL);
    MUST_EQUAL(weir_channel_wait(channel, 0), 0); /* there is room */
    for (uint32_t i = 0; i < 5; i++) {
        while (send_filled(channel, 996, 0, true) == 0)
            continue;
        fixture_sleep_ns(MILLISECONDS(20));
    }
    uint64_t start_ns = fixture_clock_ns();
    MUST_EQUAL(weir_channel_wait(channel, 0), -ETIMEDOUT);
    MUST_EQUAL(weir_channel_wait(channel, MILLISECONDS(60)), -ETIMEDOUT);
    MUST(fixture_clock_ns() - start_ns >= MILLISECONDS(60));
    MUST_EQUAL(pthread_create(&thread, NULL, drain_later, &hall.seats[1]), 0);
    MUST_EQUAL(weir_channel_wait(channel, WEIR_FOREVER), 0);
    MUST(stats_of(channel).queued_bytes <= 32 * KIB);
    MUST_EQUAL(send_filled(channel, 996, 0, true), 0);
    MUST_EQUAL(pthread_join(thread, NULL), 0); /* it has left, and the connection ends */
    UNTIL(NULL, (weir_channel_wait(channel, FIXTURE_WAIT_NS), send_filled(channel, 30000, 0, true) == -EPIPE));
    MUST_EQUAL(weir_channel_wait(channel, WEIR_FOREVER), 0); /* at once: "or the connection has ended" */
    weir_channel_close(&channel);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

/* --- closing what is not empty --- */

START_TEST(closed_while_full)
{
    struct hall hall;
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall.send_buffer_bytes = 16 * KIB;
    hall_open_here(&hall, 3);
    weir_port *port = hall_port(&hall);
    uint64_t sent[3] = {0};
    for (uint32_t i = 0; i < 3; i++) {
        weir_channel *channel = open_channel(port, &hall.seats[i], 64 * KIB, NULL);
        while (send_filled(channel, 1000, sent[i], true) == 0)
            sent[i]++;
        if (i == 0)
            fixture_turn_for(hall.turner, MILLISECONDS(20));
        if (i < 2)
            weir_channel_close(&channel); /* one after the shard has heard of it, one before */
    }
    weir_port_close(&port); /* closes its channels, too */
    for (uint32_t i = 0; i < 3; i++) {
        for (uint64_t number = 0; number < sent[i]; number++)
            hall_expect(&hall, &hall.seats[i], 1000, number);
        hall_expect_silence(&hall, &hall.seats[i]);
    }
    hall_close(&hall);
}
END_TEST

/* One port, a channel to each of many connections, all of them little used: none is forgotten. */
START_TEST(many_channels)
{
    enum { SEATS = LIVE_SANITIZED ? 100 : 1000 };
    struct hall hall;
    static weir_channel *channels[SEATS];
    hall_init(&hall, 2);
    hall.own_channels = true;
    hall.config.port_bytes = 16 * MIB;
    hall_open_here(&hall, SEATS);
    weir_port *port = NULL;
    MUST_EQUAL(weir_port_open(hall.runtime, &(weir_port_options){.channels = SEATS}, &port, NULL), 0);
    for (uint32_t i = 0; i < SEATS; i++)
        HALL_UNTIL(&hall, weir_channel_open(port, hall.seats[i].id, &(weir_channel_options){.bytes = 4096}, &channels[i]) == 0);
    for (uint32_t round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < SEATS; i += 1 + round)
            MUST_EQUAL(send_filled(channels[i], 30, round * SEATS + i, true), 0);
        for (uint32_t i = 0; i < SEATS; i += 1 + round)
            hall_expect(&hall, &hall.seats[i], 30, round * SEATS + i);
    }
    for (uint32_t i = 0; i < SEATS; i += 2)
        weir_channel_close(&channels[i]);
    weir_port_close(&port);
    hall_close(&hall);
}
END_TEST

FIXTURE_MAIN("channels", opening_and_closing, what_cannot_be_opened, no_memory_no_room_no_shard, of_a_shards_port,
             sizes_up_to_half_of_the_ring, round_and_round, what_the_codec_says, put_and_publish, building_in_place,
             building_with_heads_of_any_length, full_is_an_answer_and_room_an_event, waiting_for_room, closed_while_full, many_channels)
