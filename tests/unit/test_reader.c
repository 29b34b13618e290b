/* SPDX-License-Identifier: MIT */
/* test_reader: a stream of frames in random pieces over receive buffers, a sink that goes on, stops, refuses and holds at random: every message
 * comes once, whole, in order, and everything goes home. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "death.h"
#include "fake_io.h"
#include "must.h"
#include "runtime/reader.h"

#define BUDGET_BYTES (UINT64_C(64) << 20)
#define STREAM_BYTES (4u << 20)
#define MESSAGES_MAX 8192u
#define HELD_MAX     24u
#define PIECE_BYTES  65536u

/* The stream, and where in it the payloads lie. */
static struct stream {
    weir_codec codec;
    uint8_t bytes[STREAM_BYTES];
    uint32_t count;
    struct {
        uint32_t offset, bytes;
    } messages[MESSAGES_MAX];
    uint32_t message_count;
} stream;

/* What a connection would be. */
static struct receiver {
    struct w_reader reader;
    struct chance chance;
    uint32_t next;     /* message */
    uint32_t taken;    /* messages, as the reader counts them */
    uint32_t arrived;  /* bytes of the stream */
    uint32_t moods[4]; /* one in so many: stop, again, hold, a second hold */
    bool stopped;
    struct {
        weir_blob *blob;
        uint32_t message;
    } held[HELD_MAX];
    uint32_t held_count;
    uint32_t holds, agains, copies; /* to see that they happened */
} receiver;

static void stream_add(struct chance *chance, uint32_t bytes, bool text)
{
    static uint8_t payload[1u << 20];
    weir_seal seal;
    for (uint32_t i = 0; i < bytes; i++) {
        payload[i] = (uint8_t)chance_u64(chance);
        if (text && (payload[i] == '\n' || (payload[i] == '\r' && i + 1 == bytes)))
            payload[i] = 'x';
    }
    MUST_EQUAL(stream.codec.seal(&stream.codec, payload, bytes, &seal), 0);
    memcpy(stream.bytes + stream.count, seal.head, seal.head_bytes);
    stream.count += seal.head_bytes;
    stream.messages[stream.message_count].offset = stream.count;
    stream.messages[stream.message_count++].bytes = bytes;
    memcpy(stream.bytes + stream.count, payload, bytes);
    stream.count += bytes;
    memcpy(stream.bytes + stream.count, seal.trailer, seal.trailer_bytes);
    stream.count += seal.trailer_bytes;
}

/* The line codec, but it says of a message too how far it has looked, as a codec may. */
static weir_codec line_codec;

static int cut_and_tell(const weir_codec *codec, const uint8_t *data, uint32_t bytes, weir_cut *cut)
{
    int result = line_codec.cut(codec, data, bytes, cut);
    if (result == WEIR_CUT_MESSAGE)
        cut->scanned_bytes = cut->frame_bytes;
    return result;
}

/* bits: how large messages are, at most 2^bits. */
static void stream_make(struct chance *chance, bool line, uint32_t bits, uint32_t messages)
{
    weir_frame_options options = {.length = chance_one_in(chance, 3) ? WEIR_FRAME_VARINT : WEIR_FRAME_U32, .message_max_bytes = 1u << 20};
    MUST_EQUAL(weir_codec_line(&line_codec, 1u << 20, chance_one_in(chance, 2)), 0);
    MUST_EQUAL(weir_codec_frame(&stream.codec, &options), 0);
    if (line) {
        stream.codec = line_codec;
        stream.codec.cut = cut_and_tell;
    }
    stream.count = stream.message_count = 0;
    for (uint32_t i = 0; i < messages && stream.message_count < MESSAGES_MAX; i++) {
        uint32_t bytes = (uint32_t)chance_any_size(chance, bits);
        if (stream.count + bytes + 32 > STREAM_BYTES)
            return;
        stream_add(chance, bytes, line);
    }
}

static void receiver_start(uint64_t seed)
{
    fake_start(BUDGET_BYTES);
    memset(&receiver, 0, sizeof receiver);
    receiver.chance.state = seed;
    receiver.moods[0] = receiver.moods[1] = receiver.moods[2] = receiver.moods[3] = UINT32_MAX;
}

/* The bytes of a held message are as they were, however long ago it came. */
static void let_go(uint32_t index)
{
    weir_blob **blob = &receiver.held[index].blob;
    uint32_t message = receiver.held[index].message;
    MUST_EQUAL(weir_blob_bytes(*blob), stream.messages[message].bytes);
    MUST(memcmp(weir_blob_data(*blob), stream.bytes + stream.messages[message].offset, weir_blob_bytes(*blob)) == 0);
    weir_blob_release(blob);
    MUST(*blob == NULL);
    receiver.held[index] = receiver.held[--receiver.held_count];
}

static void hold(const weir_message *message, uint32_t number)
{
    if (receiver.held_count == HELD_MAX)
        let_go((uint32_t)chance_below(&receiver.chance, HELD_MAX));
    weir_blob *blob = w_reader_hold(&fake.core, &receiver.reader, message);
    MUST(blob != NULL || fake.allocations_left == 0 || fake.core.pool.budget_bytes < BUDGET_BYTES);
    if (blob == NULL)
        return;
    receiver.holds++;
    receiver.copies += weir_blob_data(blob) != message->data;
    receiver.held[receiver.held_count].blob = blob;
    receiver.held[receiver.held_count++].message = number;
}

static enum w_reader_verdict sink(struct w_reader *reader, const weir_message *message)
{
    struct chance *chance = &receiver.chance;
    uint32_t number = receiver.next;
    MUST(reader == &receiver.reader && fake.core.origin.reader == reader);
    MUST(!receiver.stopped && number < stream.message_count);
    MUST_EQUAL(message->bytes, stream.messages[number].bytes);
    MUST(memcmp(message->data, stream.bytes + stream.messages[number].offset, message->bytes) == 0);
    if (chance_one_in(chance, receiver.moods[2]))
        hold(message, number);
    if (chance_one_in(chance, receiver.moods[3]))
        hold(message, number);
    if (receiver.held_count > 0 && chance_one_in(chance, 4))
        let_go((uint32_t)chance_below(chance, receiver.held_count));
    if (chance_one_in(chance, receiver.moods[1])) {
        receiver.stopped = true;
        receiver.agains++;
        return W_READER_AGAIN;
    }
    receiver.next++;
    if (!chance_one_in(chance, receiver.moods[0]))
        return W_READER_NEXT;
    receiver.stopped = true;
    return W_READER_STOP;
}

static void check_reader(void)
{
    const struct w_reader *reader = &receiver.reader;
    MUST(fake.core.origin.reader == NULL);
    MUST_EQUAL(fake.core.assembly_bytes, reader->held_bytes);
    MUST_EQUAL(receiver.taken, receiver.next);
    if (!receiver.stopped)
        MUST(!w_reader_waiting(reader, &stream.codec));
    /* All that has arrived has been delivered, or is here. */
    if (w_reader_empty(reader)) {
        uint32_t end = receiver.next == 0 ? 0 : stream.messages[receiver.next - 1].offset + stream.messages[receiver.next - 1].bytes;
        MUST(receiver.arrived >= end && receiver.arrived - end <= WEIR_TRAILER_MAX_BYTES);
    }
}

/* As a connection does it: set aside when it must, else deliver. */
static int arrive(uint32_t bytes)
{
    uint16_t buffer = fake_buffer_fill(stream.bytes + receiver.arrived, bytes);
    const uint8_t *data = fake.buffers[buffer].memory;
    receiver.arrived += bytes;
    if (receiver.stopped || receiver.reader.pending_last != NULL)
        return w_reader_keep(&fake.core, &receiver.reader, data, bytes, buffer);
    return w_reader_feed(&fake.core, &receiver.reader, &stream.codec, sink, data, bytes, buffer, &receiver.taken);
}

static int resume(void)
{
    receiver.stopped = false;
    return w_reader_resume(&fake.core, &receiver.reader, &stream.codec, sink, &receiver.taken);
}

static uint32_t any_piece(uint32_t bits)
{
    uint32_t bytes = 1 + (uint32_t)chance_any_size(&receiver.chance, bits), left = stream.count - receiver.arrived;
    bytes = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
    return bytes < left ? bytes : left;
}

static void let_all_go(void)
{
    while (receiver.held_count > 0)
        let_go(0);
}

/* The whole stream, in pieces of up to 2^bits bytes. Answers 0 or the first error. */
static int run(uint32_t bits)
{
    int result = 0;
    while (result == 0 && (receiver.arrived < stream.count || receiver.stopped)) {
        if (receiver.stopped && (receiver.arrived == stream.count || chance_one_in(&receiver.chance, 3)))
            result = resume();
        else if (receiver.arrived < stream.count && fake.io.buffers_free > 0)
            result = arrive(any_piece(bits));
        else
            let_all_go();
        if (result == 0)
            check_reader();
    }
    return result;
}

static void finish(void)
{
    w_reader_drop(&fake.core, &receiver.reader);
    MUST(w_reader_empty(&receiver.reader));
    MUST_EQUAL(receiver.reader.held_bytes, 0);
    let_all_go();
    MUST_EQUAL(receiver.reader.pinned, 0);
    fake_end();
}

/* bit 0: lines; bits 1-2: how large pieces are; bits 3-4: how many buffers a connection may pin. */
START_TEST(whatever_happens)
{
    static const uint32_t piece_bits[] = {3, 9, 13, 17}, pinned_limits[] = {0, 1, 4, FAKE_BUFFERS};
    receiver_start((uint64_t)_i);
    uint32_t bits = piece_bits[_i >> 1 & 3];
    stream_make(&receiver.chance, (_i & 1) != 0, bits < 9 ? 9 : bits + 1, bits < 9 ? 400 : 600);
    fake.core.pinned_limit = pinned_limits[_i >> 3 & 3];
    for (uint32_t i = 0; i < 4; i++)
        receiver.moods[i] = 2 + (uint32_t)chance_below(&receiver.chance, 8);
    MUST_EQUAL(run(bits), 0);
    MUST_EQUAL(receiver.next, stream.message_count);
    MUST(w_reader_empty(&receiver.reader));
    MUST(receiver.agains > 10 && receiver.holds > 10);
    MUST_EQUAL(fake.core.assembly_bytes, 0);
    finish();
}
END_TEST

/* A sink that takes everything: whole messages are not copied, and nothing is kept between them. */
START_TEST(straight)
{
    receiver_start((uint64_t)_i);
    stream_make(&receiver.chance, _i % 2 != 0, 12, 2000);
    MUST_EQUAL(run(17), 0);
    MUST_EQUAL(receiver.next, stream.message_count);
    finish();
}
END_TEST

/* Every message is held where it lies if it is large and alone in its buffer, and copied when the connection has its share. */
START_TEST(holding_pins_up_to_a_share)
{
    receiver_start(1);
    stream_make(&receiver.chance, false, 1, 0);
    for (uint32_t i = 0; i < 12; i++)
        stream_add(&receiver.chance, i % 2 == 0 ? 5000 : 4000, false);
    receiver.moods[2] = 1;
    fake.core.pinned_limit = 3;
    while (receiver.next < stream.message_count) {
        receiver.chance.state = 7; /* whose second number lets nothing go */
        uint32_t end = stream.messages[receiver.next].offset + stream.messages[receiver.next].bytes;
        MUST_EQUAL(arrive(end - receiver.arrived), 0);
        MUST(receiver.reader.pinned <= 3);
    }
    MUST_EQUAL(receiver.held_count, 12);
    MUST_EQUAL(receiver.reader.pinned, 3);
    MUST_EQUAL(fake.io.buffers_free, FAKE_BUFFERS - 3);
    MUST_EQUAL(receiver.copies, 9);
    MUST_EQUAL(fake.core.stats.copies_for_lack, 3); /* the small ones are not worth a buffer, lack or not */
    finish();
}
END_TEST

/* When buffers are short nobody keeps one: what waits is copied. */
START_TEST(nothing_is_pinned_when_buffers_are_short)
{
    receiver_start(1);
    stream_make(&receiver.chance, false, 1, 0);
    for (uint32_t i = 0; i < 4; i++)
        stream_add(&receiver.chance, 5000, false);
    receiver.stopped = true;
    MUST_EQUAL(arrive(5004), 0);
    MUST_EQUAL(receiver.reader.pinned, 1);
    MUST_EQUAL(fake.core.assembly_bytes, 0);
    fake.io.buffers_free -= FAKE_BUFFERS * 3 / 4; /* others have them */
    MUST_EQUAL(arrive(5004), 0);
    MUST_EQUAL(receiver.reader.pinned, 1);
    MUST_EQUAL(fake.core.assembly_bytes, w_pool_round(5004 + 40));
    fake.io.buffers_free += FAKE_BUFFERS * 3 / 4;
    MUST_EQUAL(arrive(stream.count - receiver.arrived), 0);
    MUST_EQUAL(resume(), 0);
    MUST_EQUAL(receiver.next, 4);
    finish();
}
END_TEST

/* What was kept is told apart: whole messages wait, a begun one does not. */
START_TEST(waiting)
{
    receiver_start(1);
    stream_make(&receiver.chance, false, 1, 0);
    stream_add(&receiver.chance, 1000, false);
    stream_add(&receiver.chance, 1000, false);
    MUST(!w_reader_waiting(&receiver.reader, &stream.codec));
    uint32_t first_bytes = stream.messages[1].offset - (stream.messages[0].offset - 0);
    MUST_EQUAL(arrive(500), 0);
    MUST(!w_reader_waiting(&receiver.reader, &stream.codec) && !w_reader_empty(&receiver.reader));
    receiver.moods[1] = 1;
    MUST_EQUAL(arrive(first_bytes - 500), 0); /* whole now, in the stash, and refused */
    MUST(receiver.stopped && w_reader_waiting(&receiver.reader, &stream.codec));
    receiver.moods[1] = UINT32_MAX;
    MUST_EQUAL(resume(), 0);
    MUST(receiver.next == 1 && w_reader_empty(&receiver.reader));
    receiver.stopped = true;
    MUST_EQUAL(arrive(600), 0);
    MUST(w_reader_waiting(&receiver.reader, &stream.codec)); /* nobody has looked at these */
    MUST_EQUAL(resume(), 0);
    MUST(!w_reader_waiting(&receiver.reader, &stream.codec) && !w_reader_empty(&receiver.reader));
    finish();
}
END_TEST

/* The next bytes come while a refused message lies whole in the stash, before anybody resumed it by name. */
START_TEST(fed_while_a_refused_message_is_in_the_stash)
{
    receiver_start((uint64_t)_i);
    stream_make(&receiver.chance, _i % 2 != 0, 1, 0);
    for (uint32_t i = 0; i < 5; i++)
        stream_add(&receiver.chance, 700, _i % 2 != 0);
    uint32_t end = stream.messages[1].offset - (_i % 2 != 0 ? 0 : stream.messages[0].offset);
    MUST_EQUAL(arrive(300), 0);
    receiver.moods[1] = 1;
    receiver.moods[2] = _i < 4 ? 1 : UINT32_MAX;
    MUST_EQUAL(arrive(end - 300), 0);
    MUST(receiver.stopped && receiver.reader.stash != NULL);
    receiver.moods[1] = UINT32_MAX;
    receiver.stopped = false;
    while (receiver.arrived < stream.count) {
        MUST_EQUAL(arrive(any_piece(10)), 0);
        check_reader();
    }
    MUST_EQUAL(receiver.next, 5);
    finish();
}
END_TEST

/* Memory grows with what has come, not with what was announced. */
START_TEST(announced_bytes_cost_nothing)
{
    receiver_start(1);
    stream_make(&receiver.chance, false, 1, 0);
    stream_add(&receiver.chance, 1000000, false);
    MUST_EQUAL(arrive(100), 0);
    MUST(fake.core.assembly_bytes <= 256);
    MUST_EQUAL(arrive(5000), 0);
    MUST(fake.core.assembly_bytes <= 8192);
    finish();
}
END_TEST

/* A begun message takes what it lacks, not all that came with it. */
START_TEST(the_stash_takes_no_more_than_it_needs)
{
    receiver_start(1);
    stream_make(&receiver.chance, false, 1, 0);
    for (uint32_t i = 0; i < 60; i++)
        stream_add(&receiver.chance, 1000, false);
    MUST_EQUAL(arrive(500), 0);
    MUST_EQUAL(arrive(stream.messages[59].offset - 500), 0);
    MUST(fake.core.pool.peak_bytes <= 2048 + 1024);
    MUST_EQUAL(receiver.next, 59);
    finish();
}
END_TEST

/* A budget that is spent, and an allocator that has no more: an error, and everything goes home. */
START_TEST(out_of_memory)
{
    receiver_start((uint64_t)_i);
    stream_make(&receiver.chance, _i % 2 != 0, 16, 200);
    for (uint32_t i = 0; i < 4; i++)
        receiver.moods[i] = 3 + (uint32_t)chance_below(&receiver.chance, 5);
    fake.core.pinned_limit = (uint32_t)_i % 5;
    fake_fail_after(_i % 40);
    int result = run(14);
    MUST(result == -ENOMEM || receiver.next == stream.message_count);
    if (_i == 1 || _i == 3)
        MUST_EQUAL(result, -ENOMEM);
    fake.allocations_left = -1;
    finish();
}
END_TEST

/* Errors of the codec come through, from a buffer and from the stash; what came before has been delivered. */
START_TEST(errors_of_the_codec)
{
    receiver_start((uint64_t)_i);
    stream_make(&receiver.chance, false, 1, 0);
    weir_frame_options options = {.message_max_bytes = 1000};
    MUST_EQUAL(weir_codec_frame(&stream.codec, &options), 0);
    for (uint32_t i = 0; i < 3; i++)
        stream_add(&receiver.chance, 1000, false);
    stream.bytes[stream.messages[2].offset - 1] = 0x7f;
    uint32_t at_once = _i == 0 ? stream.count : (uint32_t)_i;
    int result = 0;
    while (result == 0 && receiver.arrived < stream.count) {
        uint32_t left = stream.count - receiver.arrived;
        result = arrive(at_once < left ? at_once : left);
    }
    MUST_EQUAL(result, -EMSGSIZE);
    MUST_EQUAL(receiver.next, 2);
    finish();
}
END_TEST

static void hold_outside(void)
{
    uint8_t data[8] = {0};
    weir_message message = {.data = data, .bytes = sizeof data};
    receiver_start(1);
    w_reader_hold(&fake.core, &receiver.reader, &message);
}

START_TEST(hold_outside_of_the_sink_dies)
{
    struct death death = death_of(hold_outside);
    ck_assert_msg(death_is_abort(&death, "not inside on_message"), "status %d, said: %s", death.status, death.said);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reader");
    TCase *tests = tcase_create("reader");
    tcase_set_timeout(tests, 30);
    tcase_add_loop_test(tests, whatever_happens, 0, 64);
    tcase_add_loop_test(tests, straight, 0, 8);
    tcase_add_test(tests, holding_pins_up_to_a_share);
    tcase_add_test(tests, nothing_is_pinned_when_buffers_are_short);
    tcase_add_test(tests, waiting);
    tcase_add_loop_test(tests, fed_while_a_refused_message_is_in_the_stash, 0, 8);
    tcase_add_test(tests, announced_bytes_cost_nothing);
    tcase_add_test(tests, the_stash_takes_no_more_than_it_needs);
    tcase_add_loop_test(tests, out_of_memory, 0, 120);
    tcase_add_loop_test(tests, errors_of_the_codec, 0, 12);
    tcase_add_test(tests, hold_outside_of_the_sink_dies);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
