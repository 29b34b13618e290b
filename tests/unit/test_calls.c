/* SPDX-License-Identifier: MIT */
/* test_calls: what the public calls answer where something is not as usual: names of what never was, memory and tables that are spent, connections
 * that are not open yet or not any more. One thread turns two shards by hand, so each test says who has seen what. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <weir/weir.h>

#include "death.h"
#include "must.h"
#include "rig.h"
#include "runtime/base.h"

/* --- names of what is not there --- */

START_TEST(a_shard_that_never_was)
{
    static const weir_id nobody = {UINT64_C(1000) << 54 | 1};
    weir_channel *channel;
    weir_group group;
    rig_open();
    weir_conn *conn = rig_conn(0, rig_connect(0, &rig.frames));
    weir_port *port = rig_port(), *ports[] = {port, weir_shard_port(rig.shards[0])};
    MUST_EQUAL(weir_group_open(rig.runtime, &group), 0);
    for (size_t i = 0; i < W_COUNT(ports); i++) {
        MUST_EQUAL(weir_port_send(ports[i], nobody, "x", 1), -ESTALE);
        MUST_EQUAL(weir_port_end(ports[i], nobody), -ESTALE);
        MUST_EQUAL(weir_channel_open(ports[i], nobody, NULL, &channel), -ESTALE);
        MUST(channel == NULL);
        MUST_EQUAL(weir_group_join(ports[i], group, nobody), -ESTALE);
        MUST_EQUAL(weir_group_leave(ports[i], group, nobody), -ESTALE);
        MUST_EQUAL(weir_group_send(ports[i], group, "x", 1, nobody), 0); /* it is no member: all others get it */
    }
    MUST_EQUAL(weir_port_send_wait(port, nobody, "x", 1, WEIR_SECOND), -ESTALE);
    MUST_EQUAL(weir_send_to(rig.shards[0], nobody, "x", 1), -ESTALE);
    MUST_EQUAL(weir_end_id(rig.shards[0], nobody), -ESTALE);
    MUST(weir_pipe(conn, nobody) == -ESTALE && weir_find(rig.shards[0], nobody) == NULL);
    weir_port_close(&port);
    rig_close();
}
END_TEST

START_TEST(a_group_that_never_was)
{
    weir_group_stats stats;
    weir_group group, closed;
    rig_open();
    weir_id id = rig_connect(0, &rig.frames);
    weir_port *port = rig_port(), *ports[] = {port, weir_shard_port(rig.shards[0]), weir_shard_port(rig.shards[1])};
    MUST_EQUAL(weir_group_open(rig.runtime, &closed), 0);
    MUST_EQUAL(weir_group_close(rig.runtime, closed), 0);
    MUST_EQUAL(weir_group_open(rig.runtime, &group), 0);
    const weir_group wrong[] = {{0}, {UINT64_MAX}, {100000}, {UINT64_C(1) << 32}, {group.value + (UINT64_C(1) << 32)}, closed};
    for (size_t i = 0; i < W_COUNT(wrong); i++) {
        for (size_t j = 0; j < W_COUNT(ports); j++) {
            MUST_EQUAL(weir_group_join(ports[j], wrong[i], id), -ESTALE);
            MUST_EQUAL(weir_group_leave(ports[j], wrong[i], id), -ESTALE);
            MUST_EQUAL(weir_group_send(ports[j], wrong[i], "x", 1, (weir_id){0}), -ESTALE);
        }
        MUST_EQUAL(weir_group_close(rig.runtime, wrong[i]), -ESTALE);
        MUST_EQUAL(weir_group_stats_get(rig.runtime, wrong[i], &stats), -ESTALE);
    }
    MUST_EQUAL(weir_group_stats_get(rig.runtime, group, &stats), 0);
    weir_port_close(&port);
    rig_close();
}
END_TEST

START_TEST(a_listener_that_never_was)
{
    char text[WEIR_ADDRESS_MAX_BYTES];
    weir_listener listener = 0;
    weir_error error;
    const weir_listen_options options = {.placement = (weir_placement)2};
    rig_open();
    MUST_EQUAL(weir_listen(rig.runtime, "tcp://127.0.0.1:0", &rig.frames, &options, NULL, &error), -EINVAL);
    ck_assert_str_eq(error.sentence, "options.placement is 2: it must be one of weir_placement");
    MUST_EQUAL(weir_listener_address(rig.runtime, listener, text, sizeof text), -ENOENT);
    MUST_EQUAL(weir_listen(rig.runtime, "tcp://127.0.0.1:0", &rig.frames, NULL, &listener, NULL), 0);
    MUST_EQUAL(weir_listener_address(rig.runtime, listener, text, sizeof text), 0);
    const weir_listener wrong[] = {listener + 1, listener + 64, listener + 65536, UINT32_MAX};
    for (size_t i = 0; i < W_COUNT(wrong); i++) {
        MUST_EQUAL(weir_listener_address(rig.runtime, wrong[i], text, sizeof text), -ENOENT);
        MUST_EQUAL(weir_listener_stop(rig.runtime, wrong[i]), -ENOENT);
    }
    MUST_EQUAL(weir_listener_stop(rig.runtime, listener), 0);
    MUST_EQUAL(weir_listener_stop(rig.runtime, listener), -ENOENT);
    rig_close();
}
END_TEST

/* --- before and after --- */

START_TEST(not_open_yet)
{
    weir_room room;
    rig_open();
    weir_id other = rig_connect(0, &rig.frames), id = rig_adopt(0, &rig.frames);
    weir_conn *conn = rig_conn(0, id);
    MUST_EQUAL(weir_send(conn, "x", 1), -ENOTCONN);
    MUST_EQUAL(weir_send_control(conn, "x", 1), -ENOTCONN);
    MUST_EQUAL(weir_reserve(conn, 1, &room), -ENOTCONN);
    MUST_EQUAL(weir_send_to(rig.shards[0], id, "x", 1), -ENOTCONN);
    MUST_EQUAL(weir_pipe(conn, other), -ENOTCONN);
    MUST_EQUAL(weir_pipe(rig_conn(0, other), id), -ENOTCONN);
    weir_end(conn);
    rig_turn();
    MUST_EQUAL(rig.opens, 1);
    MUST_EQUAL(rig.closes[WEIR_REASON_LOCAL], 1);
    MUST_EQUAL(weir_send_to(rig.shards[0], id, "x", 1), -ESTALE);
    rig_close();
}
END_TEST

START_TEST(open_no_more)
{
    weir_room room;
    uint8_t data[100];
    rig_open();
    weir_id id = rig_connect(0, &rig.frames), other = rig_connect(0, &rig.frames);
    weir_conn *conn = rig_conn(0, id);
    MUST_EQUAL(weir_send(conn, "first", 5), 0);
    MUST_EQUAL(weir_reserve(conn, 10, &room), 0);
    memset(room.data, 'x', 10);
    weir_end(conn);
    MUST_EQUAL(weir_commit(conn, 10), -EPIPE);
    MUST_EQUAL(weir_send(conn, "x", 1), -EPIPE);
    MUST_EQUAL(weir_send_control(conn, "x", 1), -EPIPE);
    MUST_EQUAL(weir_reserve(conn, 1, &room), -EPIPE);
    MUST_EQUAL(weir_pipe(conn, other), -EPIPE);
    MUST_EQUAL(weir_pipe(rig_conn(0, other), id), -EPIPE);
    rig_turn();
    MUST_EQUAL(rig_read(0, data, sizeof data), 9); /* the first, and nothing of the rest */
    MUST(memcmp(data + 4, "first", 5) == 0);
    close(rig.peers[0]);
    rig.peers[0] = -1;
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_LOCAL], 1);
    rig_close();
}
END_TEST

START_TEST(in_a_pipe_already)
{
    rig_open();
    weir_id ids[4];
    for (int i = 0; i < 4; i++)
        ids[i] = rig_connect(i == 3, &rig.raw);
    MUST_EQUAL(weir_pipe(rig_conn(0, ids[0]), ids[0]), -EINVAL);
    MUST_EQUAL(weir_pipe(rig_conn(0, ids[0]), ids[1]), 0);
    MUST_EQUAL(weir_pipe(rig_conn(0, ids[0]), ids[2]), -EBUSY);
    MUST_EQUAL(weir_pipe(rig_conn(0, ids[2]), ids[0]), -EBUSY);
    MUST_EQUAL(weir_pipe(rig_conn(0, ids[2]), ids[1]), -EBUSY);
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_LOCAL], 0);
    /* What can be known on the other shard only ends the one that asked. */
    MUST_EQUAL(weir_pipe(rig_conn(1, ids[3]), ids[0]), 0);
    rig_turn();
    shutdown(rig.peers[3], SHUT_WR);
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_LOCAL] + rig.closes[WEIR_REASON_PEER], 1);
    MUST(weir_find(rig.shards[1], ids[3]) == NULL);
    MUST(weir_find(rig.shards[0], ids[0]) != NULL && weir_find(rig.shards[0], ids[1]) != NULL);
    rig_close();
}
END_TEST

/* --- sizes --- */

START_TEST(too_large)
{
    static uint8_t data[20000];
    rig_open();
    rig.raw.limits = (weir_limits){.high_water_bytes = 4096, .hard_limit_bytes = 16384};
    weir_conn *raw = rig_conn(0, rig_connect(0, &rig.raw)), *frames = rig_conn(0, rig_connect(0, &rig.frames));
    MUST_EQUAL(weir_send(raw, data, 16385), -EMSGSIZE);
    MUST_EQUAL(weir_send(raw, data, 16384), 0);
    MUST_EQUAL(weir_send(raw, data, 16385), -EMSGSIZE); /* never, however empty it gets */
    MUST_EQUAL(weir_send(raw, data, 1), -EAGAIN);
    MUST_EQUAL(rig.readies, 0);
    rig_turn();
    MUST_EQUAL(rig.readies, 1);
    MUST_EQUAL(weir_send_control(raw, data, 1), -EINVAL);
    MUST_EQUAL(weir_send_control(frames, data, 3996), 0);
    MUST_EQUAL(weir_send_control(frames, data, 1), -EAGAIN);
    MUST_EQUAL(weir_send_control(frames, data, 3997), -EMSGSIZE);
    MUST_EQUAL(weir_send_control(frames, data, 1 << 24), -EMSGSIZE);
    MUST_EQUAL(weir_conn_peer(raw, NULL, 0), -ENOSPC);
    rig_close();
}
END_TEST

/* An own channel of very small messages has no more room for their ends before it has none for their bytes. */
START_TEST(very_small_messages)
{
    static uint8_t data[8192];
    const weir_channel_options options = {.bytes = 4096};
    weir_channel_stats stats;
    weir_port_event event;
    weir_channel *channel;
    weir_room room;
    rig_open();
    weir_id id = rig_connect(0, &rig.raw);
    weir_port *port = rig_port();
    MUST_EQUAL(weir_channel_open(port, id, &options, &channel), 0);
    MUST_EQUAL(weir_channel_send(channel, data, 0), 0); /* nothing is nothing */
    MUST_EQUAL(weir_channel_reserve(channel, 10, &room), 0);
    MUST_EQUAL(weir_channel_commit(channel, 0), 0);
    weir_channel_stats_get(channel, &stats);
    MUST_EQUAL(stats.messages_sent, 0);
    uint32_t sent = 0, told = 0;
    for (uint32_t round = 0; round < 5; round++) {
        uint32_t before = sent;
        for (int result; (result = weir_channel_send(channel, &(uint8_t){(uint8_t)sent}, 1)) != -EAGAIN; sent++)
            MUST(result == 0 && sent - before < 4096);
        MUST(sent - before >= 128 && sent - before <= 256);
        MUST(!weir_port_next(port, &event));
        rig_turn();
        MUST(weir_port_next(port, &event));
        MUST(event.kind == WEIR_PORT_CHANNEL_ROOM && event.channel == channel);
        told++;
    }
    rig_turn();
    MUST_EQUAL(rig_read(0, data, sizeof data), sent);
    for (uint32_t i = 0; i < sent; i++)
        MUST_EQUAL(data[i], (uint8_t)i);
    weir_channel_stats_get(channel, &stats);
    MUST_EQUAL(stats.messages_delivered, sent);
    MUST_EQUAL(stats.refusals, told);
    weir_channel_close(&channel);
    weir_port_close(&port);
    rig_close();
}
END_TEST

/* Very small ones leave no room for the ends of larger ones behind them, which go in by a shorter way. */
START_TEST(small_messages_before_larger_ones)
{
    static uint8_t data[8192];
    const weir_channel_options options = {.bytes = 4096};
    const uint32_t small = 40 * (uint32_t)_i;
    weir_channel_stats stats;
    weir_channel *channel;
    rig_open();
    weir_id id = rig_connect(0, &rig.frames);
    weir_port *port = rig_port();
    MUST_EQUAL(weir_channel_open(port, id, &options, &channel), 0);
    uint32_t sent = 0, got = 0;
    for (uint32_t round = 0; round < 5; round++) {
        uint32_t before = sent;
        for (int result; (result = weir_channel_send(channel, "twelve bytes", sent - before < small ? 1 : 12)) != -EAGAIN; sent++)
            MUST(result == 0 && sent - before < 4096);
        MUST(sent - before > small && sent - before <= 256);
        rig_turn();
        for (uint32_t bytes = rig_read(0, data, sizeof data), at = 0; at < bytes; got++) {
            uint32_t expected = got - before < small ? 1 : 12;
            MUST(data[at] == expected && memcmp(data + at + 4, "twelve bytes", expected) == 0);
            at += 4 + expected;
        }
        rig_turn();
        for (uint32_t bytes = rig_read(0, data, sizeof data), at = 0; at < bytes; got++)
            at += 4u + data[at];
        MUST_EQUAL(got, sent);
        weir_channel_stats_get(channel, &stats);
        MUST_EQUAL(stats.messages_delivered, sent);
    }
    weir_channel_close(&channel);
    weir_port_close(&port);
    rig_close();
}
END_TEST

/* --- no memory, no places --- */

START_TEST(no_memory_for_a_reserve)
{
    weir_room room;
    static uint8_t data[100];
    rig_open();
    weir_conn *conn = rig_conn(0, rig_connect(0, &rig.frames));
    rig.allocations_left = 0;
    int result = 0;
    uint32_t reserves = 0;
    while ((result = weir_reserve(conn, 30000, &room)) == 0 && reserves++ < 100)
        MUST_EQUAL(weir_commit(conn, 30000), 0);
    MUST_EQUAL(result, -EAGAIN);
    MUST(reserves < 9); /* the high-water mark is at 256 KiB */
    MUST_EQUAL(weir_commit(conn, 1), -EINVAL);
    rig.allocations_left = -1;
    for (int i = 0; i < 20 && rig.readies == 0; i++, rig_turn())
        while (rig_read(0, data, sizeof data) > 0)
            continue;
    MUST_EQUAL(rig.readies, 1);
    MUST_EQUAL(weir_reserve(conn, 30000, &room), 0);
    rig_close();
}
END_TEST

START_TEST(no_place_for_a_dial)
{
    static const weir_config config = {.connections = 2, .dials = 2};
    weir_dial_options options = {.redial = true, .redial_min_ns = WEIR_SECOND, .redial_max_ns = 1};
    weir_dial_id dials[3];
    weir_error error;
    rig_open_with(&config);
    MUST_EQUAL(weir_dial(rig.shards[0], "unix://@weir-test-nobody", &rig.frames, &options, &dials[0], &error), 0);
    MUST_EQUAL(weir_dial(rig.shards[0], "unix://@weir-test-nobody", &rig.frames, &options, &dials[1], &error), 0);
    MUST_EQUAL(weir_dial(rig.shards[0], "unix://@weir-test-nobody", &rig.frames, &options, &dials[2], &error), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(error.sentence, "all of config.dials are under way"));
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_DIAL_FAILED], 2); /* and each waits a second at the least, whatever redial_max_ns says */
    MUST_EQUAL(rig.last_error, -ECONNREFUSED);
    usleep(20000);
    rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_DIAL_FAILED], 2);
    MUST_EQUAL(weir_dial_stop(rig.shards[0], dials[0]), 0);
    MUST_EQUAL(weir_dial_stop(rig.shards[0], dials[0]), -ESTALE);
    MUST_EQUAL(weir_dial_stop(rig.shards[0], 0), -ESTALE);
    MUST_EQUAL(weir_dial_stop(rig.shards[0], dials[1] + 1000), -ESTALE);
    rig_connect(0, &rig.frames);
    rig_connect(0, &rig.frames);
    MUST_EQUAL(weir_dial(rig.shards[0], "unix://@weir-test-nobody", &rig.frames, NULL, &dials[2], &error), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(error.sentence, "all of config.connections are taken"));
    rig.allocations_left = 0;
    MUST_EQUAL(weir_dial(rig.shards[1], "unix://@weir-test-nobody", &rig.frames, NULL, &dials[2], &error), -ENOMEM);
    rig.allocations_left = -1;
    rig_close(); /* dials[1] still waits */
}
END_TEST

START_TEST(a_protocol_that_cannot_be)
{
    int ends[2];
    weir_protocol protocol;
    rig_open();
    protocol = rig.frames;
    protocol.limits.hard_limit_bytes = 100;
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    MUST_EQUAL(weir_adopt(rig.shards[0], ends[0], &protocol, NULL, NULL), -EINVAL);
    MUST_EQUAL(send(ends[0], "still mine", 10, 0), 10);
    close(ends[0]);
    close(ends[1]);
    rig_close();
}
END_TEST

/* A reserve ends with the next send, whichever it is: what is committed then is nobody's. */
static int reserve_and_forward(weir_conn *conn, const weir_message *message)
{
    weir_room room;
    weir_blob *blob = weir_hold(conn, message);
    MUST(blob != NULL);
    for (int way = 0; way < 4; way++) {
        MUST_EQUAL(weir_reserve(conn, 100, &room), 0);
        memset(room.data, 'r', 100);
        int sent = way == 0   ? weir_send(conn, "x", 1)
                   : way == 1 ? weir_forward(conn, message, conn)
                   : way == 2 ? weir_send_blob(conn, blob, 0, message->bytes)
                              : weir_send_blob(conn, blob, 0, 10);
        MUST_EQUAL(sent, 0);
        MUST_EQUAL(weir_commit(conn, 100), -EINVAL);
    }
    weir_blob_release(&blob);
    rig.messages++;
    return WEIR_TAKEN;
}

START_TEST(a_send_ends_a_reserve)
{
    static uint8_t frame[4 + 5000], came[16384];
    weir_protocol protocol;
    rig_open();
    protocol = rig.frames;
    protocol.on_message = reserve_and_forward;
    rig_connect(0, &protocol);
    memset(frame, 'm', sizeof frame);
    memcpy(frame, (const uint8_t[]){0x88, 0x13, 0, 0}, 4);
    MUST_EQUAL(send(rig.peers[0], frame, sizeof frame, 0), sizeof frame);
    rig_turn();
    MUST_EQUAL(rig.messages, 1);
    MUST_EQUAL(rig_read(0, came, sizeof came), 5 + 2 * sizeof frame + 14);
    MUST(memchr(came, 'r', sizeof came) == NULL);
    rig_close();
}
END_TEST

/* --- ports --- */

static int is_readable(int descriptor)
{
    struct pollfd state = {.fd = descriptor, .events = POLLIN};
    return poll(&state, 1, 0);
}

/* A descriptor that is asked for when something has come already says so at once. */
START_TEST(a_descriptor_for_what_has_come)
{
    weir_port_event event;
    rig_open();
    weir_id id = rig_connect(0, &rig.frames);
    weir_port *port = rig_port();
    MUST_EQUAL(weir_port_send(port, id, "nobody reads it", 15), 0);
    weir_abort(rig_conn(0, id));
    rig_turn();
    int descriptor = weir_port_descriptor(port);
    MUST(descriptor >= 0);
    MUST_EQUAL(is_readable(descriptor), 1);
    MUST(weir_port_next(port, &event));
    MUST(event.kind == WEIR_PORT_UNDELIVERED && event.id.value == id.value && event.messages == 1 && event.bytes == 15);
    MUST(!weir_port_next(port, &event));
    MUST_EQUAL(is_readable(descriptor), 0);
    MUST_EQUAL(weir_port_descriptor(port), descriptor);
    weir_port_close(&port);
    rig_close();
}
END_TEST

static void close_with_a_port(void)
{
    rig_open();
    rig_port();
    weir_close(&rig.runtime);
}

START_TEST(closing_with_a_port_dies)
{
    struct death death = death_of(close_with_a_port);
    ck_assert_msg(death_is_abort(&death, "misuse of weir_close: 1 ports are still open"), "status %d, said: %s", death.status, death.said);
}
END_TEST

static void never_run(weir_shard *shard, void *user)
{
    (void)shard;
    ++*(int *)user;
}

/* Whoever asks for something there hears it at once. */
START_TEST(a_shard_that_is_over)
{
    weir_port_event event;
    int ran = 0;
    rig_open();
    weir_id id = rig_connect(0, &rig.frames);
    weir_port *port = rig_port(), *own = weir_shard_port(rig.shards[1]);
    weir_group group;
    MUST_EQUAL(weir_group_open(rig.runtime, &group), 0);
    weir_stop(rig.runtime);
    for (int i = 0; i < 100; i++, usleep(1000))
        rig_turn();
    MUST_EQUAL(rig.closes[WEIR_REASON_STOPPED], 1);
    MUST_EQUAL(weir_post(port, rig.shards[0], never_run, &ran), -ESHUTDOWN);
    MUST_EQUAL(weir_port_send(port, id, "x", 1), -ESTALE);
    MUST_EQUAL(weir_port_send(own, id, "x", 1), -ESTALE);
    MUST_EQUAL(weir_port_end(port, id), -ESTALE);
    MUST_EQUAL(weir_group_send(port, group, "x", 1, (weir_id){0}), 0); /* to nobody */
    MUST(!weir_port_next(port, &event));
    MUST_EQUAL(ran, 0);
    weir_port_close(&port);
    rig_close();
}
END_TEST

/* All that can cross is on its way, not published yet, to a shard that goes over: nothing of it happens, each is told, and all memory comes home. From a
 * thread's port that is corked, and from a shard's between its turns; and from a thread's that is closed then: what was lost is counted. */
START_TEST(sent_to_a_shard_that_goes_over)
{
    static const uint32_t sizes[] = {1, 5000, 20000};
    static uint8_t data[20000];
    weir_port_event event;
    weir_group group;
    weir_channel *channel;
    uint64_t sleep_ns;
    int ran = 0;
    rig_open();
    weir_id id = rig_connect(1, &rig.frames), other = rig_connect(0, &rig.frames);
    weir_port *port = _i == 1 ? weir_shard_port(rig.shards[0]) : rig_port();
    MUST_EQUAL(weir_group_open(rig.runtime, &group), 0);
    MUST_EQUAL(weir_group_join(port, group, id), 0);
    MUST_EQUAL(weir_group_join(port, group, other), 0);
    rig_turn();
    weir_port_cork(port);
    for (size_t i = 0; i < W_COUNT(sizes); i++) {
        MUST_EQUAL(weir_port_send(port, id, data, sizes[i]), 0);
        MUST_EQUAL(weir_group_send(port, group, data, sizes[i], (weir_id){0}), 0);
    }
    MUST_EQUAL(weir_channel_open(port, id, NULL, &channel), 0);
    MUST_EQUAL(weir_channel_send(channel, data, 1000), 0);
    MUST_EQUAL(weir_post(port, rig.shards[1], never_run, &ran), 0);
    MUST_EQUAL(weir_port_end(port, id), 0);
    weir_stop(rig.runtime);
    for (int i = 0; weir_turn(rig.shards[1], &sleep_ns) == 0; i++) {
        MUST(i < 1000);
        usleep(1000);
    }
    MUST_EQUAL(rig.closes[WEIR_REASON_STOPPED], 1);
    if (_i == 2) {
        weir_stats stats;
        weir_channel_close(&channel);
        weir_port_close(&port);
        weir_runtime_stats(rig.runtime, &stats);
        MUST_EQUAL(stats.messages_orphaned, 3);
    } else {
        weir_port_uncork(port);
        for (int i = 0; i < 10; i++)
            MUST_EQUAL(weir_turn(rig.shards[0], &sleep_ns), 0);
        while (_i == 0 && weir_port_next(port, &event))
            rig_hear(&event);
        MUST_EQUAL(rig.heard.undelivered_messages, 3);
        MUST_EQUAL(rig.heard.undelivered_bytes, 25001);
        MUST_EQUAL(rig.heard.events[WEIR_PORT_NOT_RUN], 1);
        MUST_EQUAL(rig.heard.events[WEIR_PORT_CHANNEL_ENDED], 1);
        weir_channel_close(&channel);
    }
    if (_i == 0)
        weir_port_close(&port);
    MUST_EQUAL(ran, 0);
    MUST_EQUAL(rig_read(0, data, sizeof data), 0);
    rig_close();
}
END_TEST

/* A shard has ended a connection that its own port still names. */
START_TEST(a_member_that_has_ended)
{
    weir_group group;
    weir_group_stats stats;
    rig_open();
    weir_id id = rig_connect(0, &rig.frames);
    MUST_EQUAL(weir_group_open(rig.runtime, &group), 0);
    MUST_EQUAL(weir_group_join(weir_shard_port(rig.shards[0]), group, id), 0);
    weir_abort(rig_conn(0, id));
    rig_turn();
    MUST_EQUAL(weir_group_join(weir_shard_port(rig.shards[0]), group, id), -ESTALE);
    MUST_EQUAL(weir_group_leave(weir_shard_port(rig.shards[0]), group, id), -ESTALE);
    MUST_EQUAL(weir_group_stats_get(rig.runtime, group, &stats), 0);
    MUST_EQUAL(stats.members, 0);
    rig_close();
}
END_TEST

/* A message to a group is sealed for each codec among its members: twins share a seal, others have their own. */
START_TEST(a_group_of_many_codecs)
{
    static const weir_frame_options counting = {.counts_itself = true};
    static const uint8_t plain[] = {3, 0, 0, 0, 'a', 'b', 'c'}, counted[] = {7, 0, 0, 0, 'a', 'b', 'c'};
    weir_protocol twin, other;
    weir_group group;
    uint8_t data[100];
    rig_open();
    twin = other = rig.frames;
    MUST_EQUAL(weir_codec_frame(&other.codec, &counting), 0);
    weir_port *port = weir_shard_port(rig.shards[0]);
    MUST_EQUAL(weir_group_open(rig.runtime, &group), 0);
    const weir_protocol *protocols[] = {&rig.frames, &twin, &other, &twin, &rig.frames, &rig.raw};
    for (size_t i = 0; i < W_COUNT(protocols); i++)
        MUST_EQUAL(weir_group_join(port, group, rig_connect(0, protocols[i])), 0);
    rig_turn();
    MUST_EQUAL(weir_group_send(port, group, "abc", 3, (weir_id){0}), 0);
    rig_turn();
    for (int i = 0; i < 5; i++) {
        MUST_EQUAL(rig_read(i, data, sizeof data), sizeof plain);
        MUST(memcmp(data, protocols[i] == &other ? counted : plain, sizeof plain) == 0);
    }
    MUST_EQUAL(rig_read(5, data, sizeof data), 3);
    rig_close();
}
END_TEST

/* Of more own channels than are looked at for one run the only one that has something may be the last. */
START_TEST(many_channels_of_one_connection)
{
    enum { CHANNELS = 300 };
    static const weir_port_options port_options = {.channels = CHANNELS};
    static const weir_channel_options options = {.bytes = 4096};
    static weir_channel *channels[CHANNELS];
    uint8_t data[100];
    weir_port *port;
    rig_open();
    weir_id id = rig_connect(0, &rig.raw);
    MUST_EQUAL(weir_port_open(rig.runtime, &port_options, &port, NULL), 0);
    for (int i = 0; i < CHANNELS; i++)
        MUST_EQUAL(weir_channel_open(port, id, &options, &channels[i]), 0);
    MUST_EQUAL(weir_channel_send(channels[CHANNELS - 1], "the last", 8), 0);
    rig_turn();
    MUST_EQUAL(rig_read(0, data, sizeof data), 8);
    for (int i = 0; i < CHANNELS; i++)
        MUST_EQUAL(weir_channel_send(channels[i], "x", 1), 0);
    for (int i = 0; i < 20; i++)
        rig_turn();
    uint32_t got = 0;
    for (uint32_t bytes; (bytes = rig_read(0, data, sizeof data)) > 0;)
        got += bytes;
    MUST_EQUAL(got, CHANNELS);
    weir_port_close(&port);
    rig_close();
}
END_TEST

/* A connection that lasted longer than redial_max_ns is dialled again after redial_min_ns, however often it failed before. */
START_TEST(dialled_again)
{
    const weir_dial_options options = {.redial = true, .redial_min_ns = WEIR_MILLISECOND, .redial_max_ns = 64 * WEIR_MILLISECOND};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[64]; /* the same test runs beside this one, with a feature off */
    int name_bytes = snprintf(text, sizeof text, "unix://@weir-test-again-%d", (int)getpid()) - (int)strlen("unix://@");
    memcpy(address.sun_path + 1, text + strlen("unix://@"), (size_t)name_bytes);
    const socklen_t address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)name_bytes);
    rig_open();
    MUST_EQUAL(weir_dial(rig.shards[0], text, &rig.frames, &options, NULL, NULL), 0);
    for (int i = 0; rig.closes[WEIR_REASON_DIAL_FAILED] < 8; i++, usleep(1000)) { /* the backoff is at its most */
        MUST(i < 5000);
        rig_turn();
    }
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST_EQUAL(bind(listener, (struct sockaddr *)(void *)&address, address_bytes), 0);
    MUST_EQUAL(listen(listener, 10), 0);
    uint64_t best_ns = UINT64_MAX;
    for (uint64_t round = 1; round <= 5; round++) {
        uint64_t begin_ns = weir_now(rig.shards[0]);
        for (int i = 0; rig.opens < round; i++, usleep(200)) {
            MUST(i < 5000);
            rig_turn();
        }
        if (round > 1)
            best_ns = w_base_min_u64(best_ns, weir_now(rig.shards[0]) - begin_ns);
        int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        MUST(peer >= 0);
        usleep(80000);
        rig_turn();
        close(peer);
        rig_turn();
        MUST_EQUAL(rig.closes[WEIR_REASON_PEER], round);
    }
    MUST(best_ns < 30 * WEIR_MILLISECOND); /* else each would have taken 32 at the least */
    close(listener);
    rig_close();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calls");
    TCase *tests = tcase_create("calls");
    tcase_add_test(tests, a_shard_that_never_was);
    tcase_add_test(tests, a_group_that_never_was);
    tcase_add_test(tests, a_listener_that_never_was);
    tcase_add_test(tests, not_open_yet);
    tcase_add_test(tests, open_no_more);
    tcase_add_test(tests, in_a_pipe_already);
    tcase_add_test(tests, too_large);
    tcase_add_test(tests, very_small_messages);
    tcase_add_loop_test(tests, small_messages_before_larger_ones, 0, 7);
    tcase_add_test(tests, no_memory_for_a_reserve);
    tcase_add_test(tests, no_place_for_a_dial);
    tcase_add_test(tests, a_protocol_that_cannot_be);
    tcase_add_test(tests, a_send_ends_a_reserve);
    tcase_add_test(tests, a_descriptor_for_what_has_come);
    tcase_add_test(tests, closing_with_a_port_dies);
    tcase_add_test(tests, a_shard_that_is_over);
    tcase_add_loop_test(tests, sent_to_a_shard_that_goes_over, 0, 3);
    tcase_add_test(tests, a_member_that_has_ended);
    tcase_add_test(tests, a_group_of_many_codecs);
    tcase_add_test(tests, many_channels_of_one_connection);
    tcase_add_test(tests, dialled_again);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
