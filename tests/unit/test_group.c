/* SPDX-License-Identifier: MIT */
/* test_group: messages to groups against a model that knows nothing of bursts and drafts: each message goes to one member after the other, and each member takes
 * it or refuses it as it would a weir_send. So what arrives, and what is counted, is what one message at a time would have brought. One thread turns the shards by
 * hand, and the peers read only between turns, so the model knows how much waits for each. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

#include "chance.h"
#include "must.h"
#include "rig.h"
#include "runtime/base.h"

#define MEMBERS      8u
#define GROUPS       2u
#define CODECS       5u
#define PAYLOAD_MAX  3000u
#define EXPECTED_MAX (1u << 20)
#define SENDS_MAX    700u

static const weir_id nobody = {0};

/* --- the model --- */

struct member {
    weir_id id;
    const weir_protocol *protocol;
    bool in[GROUPS];
    uint32_t queued_bytes; /* since its peer has read all */
    uint8_t expected[EXPECTED_MAX];
    uint32_t expected_bytes;
};

static struct model {
    struct chance chance;
    weir_protocol protocols[CODECS];
    struct member members[MEMBERS];
    weir_group groups[GROUPS];
    weir_port *port; /* a thread's */
    uint32_t send_count;
    struct {
        uint64_t delivered, refused;
    } sums[GROUPS];
} model;

/* As weir_send: true when it is taken. */
static bool model_send(struct member *member, const uint8_t *data, uint32_t bytes)
{
    weir_seal seal;
    const weir_codec *codec = &member->protocol->codec;
    const weir_limits *limits = &member->protocol->limits;
    if (codec->seal(codec, data, bytes, &seal) != 0)
        return false;
    uint32_t total = seal.head_bytes + bytes + seal.trailer_bytes;
    if (member->queued_bytes >= limits->high_water_bytes || member->queued_bytes + total > limits->hard_limit_bytes)
        return false;
    MUST(member->expected_bytes + total <= EXPECTED_MAX);
    uint8_t *to = member->expected + member->expected_bytes;
    memcpy(to, seal.head, seal.head_bytes);
    memcpy(to + seal.head_bytes, data, bytes);
    memcpy(to + seal.head_bytes + bytes, seal.trailer, seal.trailer_bytes);
    member->expected_bytes += total;
    member->queued_bytes += total;
    return true;
}

static void model_group_send(uint32_t group, const uint8_t *data, uint32_t bytes, weir_id except)
{
    for (uint32_t i = 0; i < MEMBERS; i++) {
        struct member *member = &model.members[i];
        if (!member->in[group] || member->id.value == except.value)
            continue;
        bool taken = model_send(member, data, bytes);
        model.sums[group].delivered += taken;
        model.sums[group].refused += !taken;
    }
}

/* --- what is done --- */

static uint32_t any_payload(uint8_t *data)
{
    struct chance *chance = &model.chance;
    uint32_t bytes = chance_one_in(chance, 20) ? 4096 + (uint32_t)chance_below(chance, PAYLOAD_MAX) /* by reference */
                                               : (uint32_t)chance_any_size(chance, 11) % PAYLOAD_MAX;
    for (uint32_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)('a' + chance_below(chance, 26));
    if (bytes > 0 && chance_one_in(chance, 16))
        data[chance_below(chance, bytes)] = '\n'; /* which a line cannot carry */
    return bytes;
}

static void group_send(weir_port *port)
{
    uint8_t data[4096 + PAYLOAD_MAX];
    struct chance *chance = &model.chance;
    uint32_t bytes = any_payload(data), group = chance_one_in(chance, 6);
    weir_id except = chance_one_in(chance, 4) ? model.members[chance_below(chance, MEMBERS)].id : nobody;
    int result = weir_group_send(port, model.groups[group], data, bytes, except);
    if (result == -EAGAIN && port == model.port) /* its ring is full; a shard's own members are always told */
        return;
    MUST_EQUAL(result, 0);
    model_group_send(group, data, bytes, except);
    memset(data, 0xee, bytes);
}

/* One of the calls that have to see what was sent before. */
static void do_something_else(weir_shard *shard)
{
    uint8_t data[4096 + PAYLOAD_MAX];
    struct chance *chance = &model.chance;
    struct member *member = &model.members[chance_below(chance, MEMBERS)];
    weir_conn *conn = weir_find(shard, member->id);
    uint32_t group = (uint32_t)chance_below(chance, GROUPS), bytes = any_payload(data);
    weir_room room;
    switch (chance_below(chance, 5)) {
    case 0:
        member->in[group] = true;
        MUST_EQUAL(weir_group_join(weir_shard_port(shard), model.groups[group], member->id), 0);
        break;
    case 1:
        member->in[group] = false;
        MUST_EQUAL(weir_group_leave(weir_shard_port(shard), model.groups[group], member->id), 0);
        break;
    case 2:
        MUST_EQUAL(weir_send_to(shard, member->id, data, bytes) == 0, model_send(member, data, bytes));
        break;
    case 3: /* a message to the connection between the two makes the second one void */
        if (bytes > 2000 || weir_reserve(conn, bytes, &room) != 0)
            break;
        memcpy(room.data, data, bytes);
        if (chance_one_in(chance, 2)) {
            bool got = member->in[0];
            MUST_EQUAL(weir_group_send(weir_shard_port(shard), model.groups[0], "x", 1, nobody), 0);
            model_group_send(0, (const uint8_t *)"x", 1, nobody);
            if (got) {
                MUST_EQUAL(weir_commit(conn, bytes), -EINVAL);
                break;
            }
        }
        MUST_EQUAL(weir_commit(conn, bytes) == 0, model_send(member, data, bytes));
        break;
    default:
        MUST_EQUAL(weir_send(conn, data, bytes) == 0, model_send(member, data, bytes));
    }
}

static void send_from_shard(weir_shard *shard, void *user)
{
    (void)user;
    for (uint32_t i = 0; i < model.send_count; i++)
        if (chance_one_in(&model.chance, 24))
            do_something_else(shard);
        else
            group_send(weir_shard_port(shard));
}

static void send_from_port(void)
{
    weir_port_cork(model.port);
    for (uint32_t i = 0; i < model.send_count; i++)
        group_send(model.port);
    weir_port_uncork(model.port);
}

/* --- the rig --- */

static void set_protocols(void)
{
    const weir_frame_options small = {.message_max_bytes = 500};
    struct chance *chance = &model.chance;
    for (uint32_t i = 0; i < CODECS; i++)
        model.protocols[i] = rig.frames;
    MUST_EQUAL(weir_codec_frame(&model.protocols[1].codec, &small), 0);
    MUST_EQUAL(weir_codec_line(&model.protocols[2].codec, 10000, true), 0);
    MUST_EQUAL(weir_codec_raw(&model.protocols[3].codec), 0);
    MUST_EQUAL(weir_codec_line(&model.protocols[4].codec, 8000, false), 0);
    for (uint32_t i = 0; i < CODECS; i++) {
        weir_limits *limits = &model.protocols[i].limits;
        limits->high_water_bytes = chance_one_in(chance, 2) ? 100000 : 2000 + (uint32_t)chance_below(chance, 60000);
        limits->hard_limit_bytes = limits->high_water_bytes + (i == 0 ? 1u << 20 : i == 3 ? 1000 : 10000) + 100;
    }
}

static void begin(uint64_t seed)
{
    static const weir_config config = {.connections = MEMBERS + 2, .groups = 4, .ring_bytes = 1 << 20};
    rig_open_with(&config);
    memset(&model, 0, sizeof model);
    model.chance = (struct chance){seed};
    set_protocols();
    model.port = rig_port();
    for (uint32_t i = 0; i < GROUPS; i++)
        MUST_EQUAL(weir_group_open(rig.runtime, &model.groups[i]), 0);
    for (uint32_t i = 0; i < MEMBERS; i++) {
        struct member *member = &model.members[i];
        member->protocol = &model.protocols[chance_below(&model.chance, seed % 3 == 0 ? 1 : CODECS)];
        member->id = rig_connect(0, member->protocol);
        for (uint32_t group = 0; group < GROUPS; group++) {
            member->in[group] = group == 0 || chance_one_in(&model.chance, 2);
            if (member->in[group])
                MUST_EQUAL(weir_group_join(weir_shard_port(rig.shards[0]), model.groups[group], member->id), 0);
        }
    }
}

static void end(void)
{
    weir_port_close(&model.port);
    rig_close();
}

static uint8_t arrived_data[EXPECTED_MAX];

/* Into arrived_data: all that a member's peer is sent until no more comes. Answers the bytes. */
static uint32_t read_all(uint32_t member)
{
    uint32_t bytes = 0;
    for (uint32_t more = 1; more > 0; rig_turn())
        bytes += more = rig_read((int)member, arrived_data + bytes, EXPECTED_MAX - bytes);
    return bytes;
}

/* All that members' peers were sent is what the model says, and all is counted. */
static void compare(void)
{
    for (uint32_t i = 0; i < MEMBERS; i++) {
        struct member *member = &model.members[i];
        uint32_t bytes = read_all(i);
        MUST_EQUAL(bytes, member->expected_bytes);
        MUST(memcmp(arrived_data, member->expected, bytes) == 0);
        member->expected_bytes = member->queued_bytes = 0;
    }
    for (uint32_t i = 0; i < GROUPS; i++) {
        weir_group_stats stats;
        MUST_EQUAL(weir_group_stats_get(rig.runtime, model.groups[i], &stats), 0);
        MUST_EQUAL(stats.delivered, model.sums[i].delivered);
        MUST_EQUAL(stats.refused, model.sums[i].refused);
    }
}

/* --- tests --- */

START_TEST(as_one_at_a_time)
{
    begin((uint64_t)_i);
    for (uint32_t round = 0; round < 6; round++) {
        model.send_count = 1 + (uint32_t)chance_any_size(&model.chance, 9) % SENDS_MAX;
        if (chance_one_in(&model.chance, 3))
            send_from_port();
        else
            MUST_EQUAL(weir_post(model.port, rig.shards[0], send_from_shard, NULL), 0);
        rig_turn();
        compare();
    }
    MUST(model.sums[0].delivered > 0);
    end();
}
END_TEST

static uint64_t accepted_count, direct_count;

static void send_without_memory(weir_shard *shard, void *user)
{
    static uint8_t data[5000];
    int *allocations = user;
    rig.allocations_left = *allocations;
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t bytes = i % 15 == 14 ? 5000 : i * 7 % 300;
        memset(data, 'a' + (int)(i % 26), bytes);
        int result = weir_group_send(weir_shard_port(shard), model.groups[0], data, bytes, nobody);
        MUST(result == 0 || result == -EAGAIN || result == -ENOMEM);
        accepted_count += result == 0;
        if (i % 20 == 19)
            direct_count += weir_send_to(shard, model.members[0].id, data, 100) == 0;
    }
}

/* The allocator fails from some point on: what a member does not get, it was refused, and that is counted; what it gets is whole, and in order. */
START_TEST(without_memory)
{
    weir_group_stats stats;
    uint64_t frames = 0;
    int allocations = _i;
    begin(0);
    accepted_count = direct_count = 0;
    MUST_EQUAL(weir_post(model.port, rig.shards[0], send_without_memory, &allocations), 0);
    for (uint32_t shard = 0; shard < RIG_SHARDS; shard++) {
        uint64_t sleep_ns;
        MUST_EQUAL(weir_turn(rig.shards[shard], &sleep_ns), 0);
    }
    rig.allocations_left = -1;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        uint32_t bytes = read_all(i), length;
        for (uint32_t at = 0; at < bytes; at += 4 + length) {
            memcpy(&length, arrived_data + at, 4);
            MUST(at + 4 + length <= bytes);
            for (uint32_t k = 1; k < length; k++)
                MUST(arrived_data[at + 4 + k] == arrived_data[at + 4]);
            frames++;
        }
    }
    MUST_EQUAL(weir_group_stats_get(rig.runtime, model.groups[0], &stats), 0);
    MUST_EQUAL(stats.delivered + stats.refused, accepted_count * MEMBERS);
    MUST_EQUAL(frames, stats.delivered + direct_count);
    end();
}
END_TEST

/* --- what comes behind a message to a group in the same turn --- */

static int tell_all(weir_conn *conn, const weir_message *message)
{
    weir_port *port = weir_shard_port(weir_conn_shard(conn));
    return weir_group_send(port, model.groups[0], message->data, message->bytes, nobody);
}

/* Three members, the second of which says something. */
static void hear_one(int (*on_message)(weir_conn *conn, const weir_message *message), int how)
{
    static const uint8_t word[] = {2, 0, 0, 0, 'h', 'i'};
    rig_open();
    rig.frames.on_message = on_message;
    MUST_EQUAL(weir_group_open(rig.runtime, &model.groups[0]), 0);
    for (int i = 0; i < 3; i++)
        MUST_EQUAL(weir_group_join(weir_shard_port(rig.shards[0]), model.groups[0], rig_connect(0, &rig.frames)), 0);
    MUST_EQUAL(write(rig.peers[1], word, sizeof word), sizeof word);
    if (how >= 0)
        MUST_EQUAL(shutdown(rig.peers[1], how), 0);
    rig_turn();
}

static void must_have_come(int peer)
{
    uint8_t arrived[64];
    MUST_EQUAL(rig_read(peer, arrived, sizeof arrived), 6);
    MUST(memcmp(arrived, "\2\0\0\0hi", 6) == 0);
}

/* A peer that says its last, and no more: its own message comes back to it before the end. */
START_TEST(a_last_word)
{
    hear_one(tell_all, SHUT_WR);
    for (int i = 0; i < 3; i++)
        must_have_come(i);
    MUST_EQUAL(rig.closes[WEIR_REASON_PEER], 1);
    rig_close();
}
END_TEST

static int tell_all_and_fail(weir_conn *conn, const weir_message *message)
{
    MUST_EQUAL(tell_all(conn, message), 0);
    return -EBADMSG;
}

/* A handler's error ends its connection behind what it has sent: that was for this member, too. */
START_TEST(failed_behind_it)
{
    weir_group_stats stats;
    hear_one(tell_all_and_fail, -1);
    must_have_come(0);
    must_have_come(2);
    MUST_EQUAL(weir_group_stats_get(rig.runtime, model.groups[0], &stats), 0);
    MUST_EQUAL(stats.delivered, 3);
    MUST_EQUAL(stats.refused, 0);
    rig_close();
}
END_TEST

static int tell_all_and_close(weir_conn *conn, const weir_message *message)
{
    MUST_EQUAL(tell_all(conn, message), 0);
    return weir_group_close(rig.runtime, model.groups[0]);
}

/* What a shard has sent to a group before it closes it arrives; the group is gone. */
START_TEST(closed_behind_it)
{
    weir_group_stats stats;
    hear_one(tell_all_and_close, -1);
    for (int i = 0; i < 3; i++)
        must_have_come(i);
    MUST_EQUAL(weir_group_stats_get(rig.runtime, model.groups[0], &stats), -ESTALE);
    rig_close();
}
END_TEST

static void send_and_end(weir_shard *shard, void *user)
{
    bool aborts = *(bool *)user;
    for (int i = 0; i < 100; i++)
        MUST_EQUAL(weir_group_send(weir_shard_port(shard), model.groups[0], "last", 4, nobody), 0);
    if (aborts)
        weir_abort(weir_find(shard, model.members[1].id));
    else
        weir_end(weir_find(shard, model.members[1].id));
}

/* A member that this program ends gracefully gets what it was sent before; one that it aborts was sent it, and everybody else gets it. */
START_TEST(ended_behind_it)
{
    uint8_t arrived[1024];
    weir_group_stats stats;
    bool aborts = _i == 1;
    begin(0);
    MUST_EQUAL(weir_post(model.port, rig.shards[0], send_and_end, &aborts), 0);
    rig_turn();
    for (int i = 0; i < (int)MEMBERS; i++)
        if (i != 1 || !aborts)
            MUST_EQUAL(rig_read(i, arrived, sizeof arrived), 800);
    MUST_EQUAL(weir_group_stats_get(rig.runtime, model.groups[0], &stats), 0);
    MUST_EQUAL(stats.delivered, 100 * MEMBERS);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("group");
    TCase *tests = tcase_create("group");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, as_one_at_a_time, 0, 40);
    tcase_add_loop_test(tests, without_memory, 0, 24);
    tcase_add_test(tests, a_last_word);
    tcase_add_test(tests, failed_behind_it);
    tcase_add_test(tests, closed_behind_it);
    tcase_add_loop_test(tests, ended_behind_it, 0, 2);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
