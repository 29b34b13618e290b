/* SPDX-License-Identifier: MIT */
/* test_writer: one send at a time of channel and control lane, against a model that keeps the bytes of each and of the run under way. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "fake_io.h"
#include "must.h"
#include "runtime/writer.h"

#define BUDGET_BYTES (UINT64_C(64) << 20)
#define QUEUE_BYTES  (6u << 20)

/* Bytes that wait, and where in them messages end. */
struct queue {
    uint8_t bytes[QUEUE_BYTES];
    uint32_t count;
    uint32_t ends[65536];
    uint32_t end_count;
};

static struct queue lane, data;
static uint32_t lane_run_bytes, data_run_bytes; /* of the run, still to go */
static struct w_writer writer;
static uint64_t put_messages, gone_messages;

static void queue_put(struct queue *queue, const weir_seal *seal, const uint8_t *payload, uint32_t bytes)
{
    MUST(queue->count + bytes + 64 <= QUEUE_BYTES && queue->end_count < W_COUNT(queue->ends));
    memcpy(queue->bytes + queue->count, seal->head, seal->head_bytes);
    memcpy(queue->bytes + queue->count + seal->head_bytes, payload, bytes);
    memcpy(queue->bytes + queue->count + seal->head_bytes + bytes, seal->trailer, seal->trailer_bytes);
    queue->count += seal->head_bytes + bytes + seal->trailer_bytes;
    queue->ends[queue->end_count++] = queue->count;
    put_messages++;
}

static uint32_t queue_take(struct queue *queue, uint32_t bytes)
{
    uint32_t messages = 0;
    while (messages < queue->end_count && queue->ends[messages] <= bytes)
        messages++;
    memmove(queue->bytes, queue->bytes + bytes, queue->count - bytes);
    queue->count -= bytes;
    queue->end_count -= messages;
    for (uint32_t i = 0; i < queue->end_count; i++)
        queue->ends[i] = queue->ends[i + messages] - bytes;
    return messages;
}

static void writer_begin(void)
{
    fake_start(BUDGET_BYTES);
    memset(&writer, 0, sizeof writer);
    lane.count = lane.end_count = data.count = data.end_count = 0;
    lane_run_bytes = data_run_bytes = 0;
    put_messages = gone_messages = 0;
}

static void check_counts(void)
{
    MUST_EQUAL(w_writer_queued_bytes(&writer), lane.count + data.count);
    MUST_EQUAL(w_writer_queued_messages(&writer), lane.end_count + data.end_count);
    MUST_EQUAL(w_writer_lane_bytes(&writer), lane.count);
    MUST((writer.side == NULL) == (lane.count == 0));
    MUST(w_writer_sending(&writer) == (fake.send.bytes > 0));
    if (fake.send.bytes == 0)
        MUST(writer.gather == NULL);
    MUST_EQUAL(put_messages, gone_messages + lane.end_count + data.end_count);
}

static weir_seal any_seal(struct chance *chance)
{
    weir_seal seal;
    chance_fill(chance, seal.head, sizeof seal.head);
    chance_fill(chance, seal.trailer, sizeof seal.trailer);
    seal.head_bytes = 1 + (uint32_t)chance_below(chance, 8);
    seal.trailer_bytes = (uint32_t)chance_below(chance, 3);
    return seal;
}

static void put_data(struct chance *chance, uint32_t bits)
{
    static uint8_t payload[1u << 20];
    weir_seal seal = any_seal(chance);
    uint32_t bytes = (uint32_t)chance_any_size(chance, bits);
    memset(payload, (int)chance_below(chance, 256), bytes);
    memcpy(payload, &put_messages, bytes < sizeof put_messages ? bytes : sizeof put_messages);
    if (bytes >= W_BLOB_WORTH_BYTES && chance_one_in(chance, 2)) {
        weir_blob *blob = w_blob_copy(&fake.core, payload, bytes);
        MUST(blob != NULL);
        MUST_EQUAL(w_channel_put_blob(&fake.core, &writer.channel, &seal, blob, 0, bytes, true), 0);
        weir_blob_release(&blob);
    } else {
        MUST_EQUAL(w_channel_put(&fake.core, &writer.channel, &seal, payload, bytes, true), 0);
    }
    queue_put(&data, &seal, payload, bytes);
}

/* Its control messages are copied, and no more. */
static const weir_codec as_it_is = {.boundaries = true};

static void put_control(struct chance *chance)
{
    uint8_t payload[1024];
    weir_seal seal = any_seal(chance);
    uint32_t bytes = (uint32_t)chance_any_size(chance, 10);
    chance_fill(chance, payload, bytes);
    uint32_t total = seal.head_bytes + bytes + seal.trailer_bytes;
    int result = w_writer_put_control(&fake.core, &writer, &as_it_is, &seal, payload, bytes);
    MUST_EQUAL(result, lane.count + total <= W_WRITER_LANE_BYTES ? 0 : -EAGAIN);
    if (result == 0)
        queue_put(&lane, &seal, payload, bytes);
}

/* What goes out is the front of the run: first what is left of the lane, then what is left of the channel. */
static void start(uint64_t token)
{
    static uint8_t run[QUEUE_BYTES + 4096];
    uint32_t sends = fake.sends;
    if (lane.count > 0 && lane_run_bytes == 0 && data_run_bytes > data.ends[0])
        data_run_bytes = data.ends[0]; /* the lane came in mid-run */
    if (lane_run_bytes + data_run_bytes == 0) {
        lane_run_bytes = lane.count;
        data_run_bytes = data.count;
    }
    memcpy(run, lane.bytes, lane_run_bytes);
    memcpy(run + lane_run_bytes, data.bytes, data_run_bytes);
    w_writer_start(&fake.core, &writer, 7, token);
    MUST_EQUAL(fake.sends, sends + 1);
    MUST_EQUAL(fake.core.stats.sends, fake.sends);
    MUST(fake.send.handle == 7 && fake.send.token == token);
    MUST(fake.send.bytes > 0 && fake.send.bytes <= lane_run_bytes + data_run_bytes);
    MUST(fake.send.bytes <= W_WRITER_SEND_BYTES + W_WRITER_LANE_BYTES);
    fake_must_hold(fake.send.vectors, fake.send.count, run);
}

/* The kernel took so many, or failed; until then all of it has stood still. */
static void done(int32_t result)
{
    static uint8_t run[QUEUE_BYTES + 4096];
    memcpy(run, lane.bytes, lane_run_bytes);
    memcpy(run + lane_run_bytes, data.bytes, data_run_bytes);
    fake_must_hold(fake.send.vectors, fake.send.count, run);
    bool is_short = result >= 0 && (uint32_t)result < fake.send.bytes;
    uint64_t shorts = fake.core.stats.short_sends;
    fake.send.bytes = 0;
    uint32_t messages = w_writer_done(&fake.core, &writer, result), expected = 0;
    MUST_EQUAL(fake.core.stats.short_sends, shorts + is_short);
    if (result > 0) {
        uint32_t from_lane = (uint32_t)result < lane_run_bytes ? (uint32_t)result : lane_run_bytes;
        expected = queue_take(&lane, from_lane) + queue_take(&data, (uint32_t)result - from_lane);
        lane_run_bytes -= from_lane;
        data_run_bytes -= (uint32_t)result - from_lane;
    }
    MUST_EQUAL(messages, expected);
    gone_messages += messages;
}

static int32_t any_result(struct chance *chance)
{
    uint32_t bytes = fake.send.bytes;
    switch (chance_below(chance, 6)) {
    case 0:
        return chance_one_in(chance, 3) ? -EAGAIN : 0;
    case 1:
        return (int32_t)chance_below(chance, bytes);
    case 2:
        return bytes < 5 ? (int32_t)bytes : (int32_t)chance_below(chance, 5);
    default:
        return (int32_t)bytes;
    }
}

static void drain(struct chance *chance)
{
    if (w_writer_sending(&writer))
        done(any_result(chance));
    while (lane.count + data.count > 0) {
        start(1);
        done(any_result(chance));
        check_counts();
    }
}

START_TEST(as_the_model)
{
    struct chance chance = {(uint64_t)_i};
    uint32_t bits = _i % 3 == 0 ? 8 : _i % 3 == 1 ? 14 : 20, high_bytes = _i % 3 == 0 ? 30000 : 4000000;
    writer_begin();
    for (uint32_t step = 0; step < 3000; step++) {
        uint64_t what = chance_below(&chance, 8);
        if (what < 3 && data.count < high_bytes)
            put_data(&chance, bits);
        else if (what < 5)
            put_control(&chance);
        else if (w_writer_sending(&writer))
            done(any_result(&chance));
        else if (lane.count + data.count > 0)
            start(step);
        check_counts();
    }
    drain(&chance);
    MUST_EQUAL(put_messages, gone_messages);
    MUST(fake.core.stats.short_sends > 10);
    w_writer_drop(&fake.core, &writer);
    fake_end();
}
END_TEST

/* No memory for the vectors: the first piece goes alone, the rest afterwards. */
START_TEST(without_memory_for_vectors)
{
    struct chance chance = {(uint64_t)_i};
    writer_begin();
    for (uint32_t round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < 20; i++)
            put_data(&chance, 14);
        put_control(&chance);
        fake_fail_after(chance_one_in(&chance, 4) ? 1 : 0);
        bool can = fake.allocations_left > 0;
        start(round);
        MUST(can == fake.send.gathered && (can || fake.send.count == 1));
        fake.allocations_left = -1;
        if (chance_one_in(&chance, 2))
            put_control(&chance);
        done(any_result(&chance));
        check_counts();
        drain(&chance);
    }
    w_writer_drop(&fake.core, &writer);
    fake_end();
}
END_TEST

static void must_send(uint32_t bytes, char first)
{
    w_writer_start(&fake.core, &writer, 3, 4);
    MUST_EQUAL(fake.send.bytes, bytes);
    MUST_EQUAL(*(const char *)fake.send.vectors[0].iov_base, first);
    fake.send.bytes = 0;
}

/* A control message waits for the end of the message under way, and for no more than that. */
START_TEST(the_lane_goes_first_at_a_boundary)
{
    weir_seal seal = {.head = {'d'}, .head_bytes = 1}, control = {.head = {'c'}, .head_bytes = 1};
    static uint8_t payload[3000];
    memset(payload, 'p', sizeof payload);
    writer_begin();
    for (uint32_t i = 0; i < 3; i++)
        MUST_EQUAL(w_channel_put(&fake.core, &writer.channel, &seal, payload, 2999, true), 0);
    must_send(9000, 'd');
    MUST_EQUAL(w_writer_done(&fake.core, &writer, 3500), 1);
    must_send(5500, 'p');
    MUST_EQUAL(w_writer_put_control(&fake.core, &writer, &as_it_is, &control, payload, 9), 0);
    MUST_EQUAL(w_writer_done(&fake.core, &writer, 500), 0);
    must_send(2000, 'p'); /* the rest of the second message: nothing comes between */
    MUST_EQUAL(w_writer_done(&fake.core, &writer, 1000), 0);
    must_send(1000, 'p');
    MUST_EQUAL(w_writer_done(&fake.core, &writer, 1000), 1);
    must_send(3010, 'c');
    MUST_EQUAL(w_writer_done(&fake.core, &writer, 5), 0);
    MUST_EQUAL(w_writer_put_control(&fake.core, &writer, &as_it_is, &control, payload, 9), 0);
    must_send(3005, 'p'); /* its own run does not grow */
    MUST_EQUAL(w_writer_done(&fake.core, &writer, 3005), 2);
    must_send(10, 'c');
    MUST_EQUAL(w_writer_done(&fake.core, &writer, 10), 1);
    w_writer_drop(&fake.core, &writer);
    fake_end();
}
END_TEST

/* Everything that is queued goes home, and what was promised too. */
START_TEST(drop)
{
    struct chance chance = {(uint64_t)_i};
    writer_begin();
    for (uint32_t i = 0; i < 30; i++) {
        put_data(&chance, 16);
        put_control(&chance);
    }
    start(1);
    done((int32_t)chance_below(&chance, fake.send.bytes));
    start(2);
    done(-ECONNRESET);
    check_counts();
    w_writer_drop(&fake.core, &writer);
    MUST_EQUAL(w_writer_queued_bytes(&writer), 0);
    MUST_EQUAL(w_writer_queued_messages(&writer), 0);
    MUST(writer.run_bytes == 0 && writer.lane_run_bytes == 0 && writer.reserved_bytes == 0);
    fake_end();
}
END_TEST

/* The lane's first message finds no memory: for the lane, or for its block. */
START_TEST(control_without_memory)
{
    struct chance chance = {3};
    weir_seal seal = {.head_bytes = 2};
    writer_begin();
    for (int64_t succeed = 0; succeed < 2; succeed++) {
        fake_fail_after(succeed);
        MUST_EQUAL(w_writer_put_control(&fake.core, &writer, &as_it_is, &seal, (const uint8_t *)"pong", 4), -EAGAIN);
        check_counts();
        MUST_EQUAL(fake.core.pool.taken_bytes, 0);
    }
    fake.allocations_left = -1;
    put_control(&chance);
    drain(&chance);
    fake_end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("writer");
    TCase *tests = tcase_create("writer");
    tcase_set_timeout(tests, 30);
    tcase_add_loop_test(tests, as_the_model, 0, 12);
    tcase_add_loop_test(tests, without_memory_for_vectors, 0, 4);
    tcase_add_test(tests, the_lane_goes_first_at_a_boundary);
    tcase_add_loop_test(tests, drop, 0, 8);
    tcase_add_test(tests, control_without_memory);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
