/* SPDX-License-Identifier: MIT */
/* test_channel: what waits to go out, against a model that keeps all its bytes in one array. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"
#include "fake_io.h"
#include "must.h"
#include "runtime/channel.h"

#define BUDGET_BYTES (UINT64_C(64) << 20)
#define MODEL_BYTES  (8u << 20)
#ifdef __SANITIZE_THREAD__
#define SEEDS 6 /* one thread alone has no races */
#else
#define SEEDS 24
#endif
#define PAYLOAD_BYTES 200000u
#define BLOBS         4u

/* The bytes that wait, and where in them messages end. */
static struct model {
    uint8_t bytes[MODEL_BYTES];
    uint32_t count;
    uint32_t ends[MODEL_BYTES / 8]; /* offsets in bytes, rising */
    uint32_t end_count;
} model;

static struct w_channel channel;
static weir_blob *blobs[BLOBS];
static uint8_t payload[PAYLOAD_BYTES];
static uint32_t lengths_put; /* the short way */

static void model_add(const void *data, uint32_t bytes)
{
    MUST(model.count + bytes <= MODEL_BYTES);
    memcpy(model.bytes + model.count, data, bytes);
    model.count += bytes;
}

static void model_put(const weir_seal *seal, const uint8_t *data, uint32_t bytes, bool boundary)
{
    model_add(seal->head, seal->head_bytes);
    model_add(data, bytes);
    model_add(seal->trailer, seal->trailer_bytes);
    if (boundary && seal->head_bytes + bytes + seal->trailer_bytes > 0)
        model.ends[model.end_count++] = model.count;
}

/* Answers how many messages are gone by it. */
static uint32_t model_take(uint32_t bytes)
{
    uint32_t messages = 0;
    while (messages < model.end_count && model.ends[messages] <= bytes)
        messages++;
    memmove(model.bytes, model.bytes + bytes, model.count - bytes);
    model.count -= bytes;
    model.end_count -= messages;
    for (uint32_t i = 0; i < model.end_count; i++)
        model.ends[i] = model.ends[i + messages] - bytes;
    return messages;
}

static void channel_start(struct chance *chance)
{
    fake_start(BUDGET_BYTES);
    memset(&channel, 0, sizeof channel);
    model.count = model.end_count = 0;
    chance_fill(chance, payload, sizeof payload);
    for (uint32_t i = 0; i < BLOBS; i++)
        blobs[i] = w_blob_copy(&fake.core, payload + i, PAYLOAD_BYTES - i);
}

static void channel_end(void)
{
    for (uint32_t i = 0; i < BLOBS; i++)
        weir_blob_release(&blobs[i]);
    fake_end();
}

static void check_counts(void)
{
    MUST_EQUAL(channel.queued_bytes, model.count);
    MUST_EQUAL(channel.queued_messages, model.end_count);
    MUST((channel.first == NULL) == (channel.last == NULL));
    if (model.count == 0)
        MUST(channel.first == NULL && channel.references == NULL);
    if (model.end_count > 0)
        MUST_EQUAL(w_channel_to_boundary(&channel), model.ends[0]);
}

/* Looks at up to bytes_max in up to count_max pieces; answers the bytes. */
static uint32_t check_view(uint32_t bytes_max, uint32_t count_max)
{
    struct iovec vectors[W_IO_VECTORS_MAX];
    uint32_t bytes = 0xa5a5a5a5, sum = 0;
    uint32_t count = w_channel_view(&channel, bytes_max, vectors, count_max, &bytes);
    MUST(count <= count_max);
    for (uint32_t i = 0; i < count; i++) {
        MUST(vectors[i].iov_len > 0);
        sum += (uint32_t)vectors[i].iov_len;
    }
    MUST_EQUAL(bytes, sum);
    MUST(bytes <= bytes_max && bytes <= model.count);
    if (count < count_max)
        MUST_EQUAL(bytes, bytes_max < model.count ? bytes_max : model.count);
    if (bytes_max > 0 && model.count > 0 && count_max > 0)
        MUST(bytes > 0);
    fake_must_hold(vectors, count, model.bytes);
    return bytes;
}

/* All of it in one view. */
static void check_all(void)
{
    static struct iovec vectors[65536];
    uint32_t bytes;
    uint32_t count = w_channel_view(&channel, UINT32_MAX, vectors, W_COUNT(vectors), &bytes);
    MUST_EQUAL(bytes, model.count);
    fake_must_hold(vectors, count, model.bytes);
    check_counts();
}

static void take(uint32_t bytes)
{
    uint32_t expected = model_take(bytes);
    MUST_EQUAL(w_channel_take(&fake.core, &channel, bytes), expected);
    check_counts();
}

static weir_seal any_seal(struct chance *chance)
{
    weir_seal seal;
    chance_fill(chance, seal.head, sizeof seal.head);
    chance_fill(chance, seal.trailer, sizeof seal.trailer);
    seal.head_bytes = (uint32_t)chance_below(chance, 3) * (uint32_t)chance_below(chance, WEIR_HEAD_MAX_BYTES / 2 + 1);
    seal.trailer_bytes = (uint32_t)chance_below(chance, 3) * (uint32_t)chance_below(chance, WEIR_TRAILER_MAX_BYTES / 2 + 1);
    return seal;
}

static uint32_t any_bytes(struct chance *chance, uint32_t most)
{
    uint32_t bytes = (uint32_t)chance_any_size(chance, 18);
    return bytes < most ? bytes : most;
}

static int put(struct chance *chance)
{
    weir_seal seal = any_seal(chance);
    uint32_t bytes = any_bytes(chance, PAYLOAD_BYTES), offset = (uint32_t)chance_below(chance, PAYLOAD_BYTES - bytes + 1);
    bool boundary = seal.head_bytes + bytes + seal.trailer_bytes > 0 && !chance_one_in(chance, 4); /* no codec has messages of no bytes */
    uint64_t taken_bytes = fake.core.pool.taken_bytes;
    int result = w_channel_put(&fake.core, &channel, &seal, bytes == 0 ? NULL : payload + offset, bytes, boundary);
    if (result == 0)
        model_put(&seal, payload + offset, bytes, boundary);
    else
        MUST_EQUAL(fake.core.pool.taken_bytes, taken_bytes);
    return result;
}

/* With a head that the channel makes itself from what the codec says of it: the bytes that `seal` would have made. Without room for it nothing happens. */
static int put_length(struct chance *chance)
{
    static const weir_frame_length lengths[] = {WEIR_FRAME_U8, WEIR_FRAME_U16, WEIR_FRAME_U32, WEIR_FRAME_U64};
    const weir_frame_options options = {
        .length = lengths[chance_below(chance, 4)], .big_endian = chance_one_in(chance, 2), .counts_itself = chance_one_in(chance, 2)};
    weir_codec codec;
    weir_seal seal;
    MUST_EQUAL(weir_codec_frame(&codec, &options), 0);
    uint32_t bytes = any_bytes(chance, codec.message_max_bytes < PAYLOAD_BYTES ? codec.message_max_bytes : PAYLOAD_BYTES);
    const uint8_t *data = payload + chance_below(chance, PAYLOAD_BYTES - bytes + 1);
    codec.boundaries = !chance_one_in(chance, 4);
    MUST_EQUAL(codec.seal(&codec, data, bytes, &seal), 0);
    if (w_channel_put_length(&channel, &codec, data, bytes)) {
        model_put(&seal, data, bytes, codec.boundaries);
        lengths_put++;
        return 0;
    }
    check_counts();
    int result = w_channel_put(&fake.core, &channel, &seal, data, bytes, codec.boundaries);
    if (result == 0)
        model_put(&seal, data, bytes, codec.boundaries);
    return result;
}

static int put_blob(struct chance *chance)
{
    weir_seal seal = any_seal(chance);
    weir_blob *blob = blobs[chance_below(chance, BLOBS)];
    uint32_t bytes = 1 + any_bytes(chance, weir_blob_bytes(blob) - 1);
    uint32_t offset = (uint32_t)chance_below(chance, weir_blob_bytes(blob) - bytes + 1), references = blob->references;
    bool boundary = !chance_one_in(chance, 4);
    int result = w_channel_put_blob(&fake.core, &channel, &seal, blob, offset, bytes, boundary);
    if (result == 0)
        model_put(&seal, weir_blob_data(blob) + offset, bytes, boundary);
    else
        MUST_EQUAL(blob->references, references);
    return result;
}

static int reserve(struct chance *chance)
{
    static const weir_seal nothing;
    uint32_t most = W_CHANNEL_BLOCK_MAX - 64, bytes = any_bytes(chance, most);
    bool boundary = !chance_one_in(chance, 4);
    uint8_t *room = w_channel_reserve(&fake.core, &channel, bytes);
    if (room == NULL)
        return -ENOMEM;
    memset(room, 0xee, bytes);
    if (!chance_one_in(chance, 3)) {
        uint32_t used = (uint32_t)chance_below(chance, bytes + 1), offset = (uint32_t)chance_below(chance, PAYLOAD_BYTES - used + 1);
        MUST(w_channel_reserve(&fake.core, &channel, bytes) == room);
        memcpy(room, payload + offset, used);
        w_channel_commit(&channel, used, boundary);
        model_put(&nothing, payload + offset, used, boundary);
    }
    if (channel.queued_bytes == 0 || chance_one_in(chance, 2))
        w_channel_unreserve(&fake.core, &channel);
    return 0;
}

/* Several messages in one blob that is shared with others; its first owner lets go at once. Without room for a reference its bytes are copied. */
static int put_shared(struct chance *chance)
{
    static const weir_seal nothing;
    uint32_t count = 1 + (uint32_t)chance_below(chance, 300), bytes = 0;
    uint32_t *ends = w_pool_take(&fake.core.pool, 4096 + PAYLOAD_BYTES);
    if (ends == NULL)
        return -ENOMEM;
    uint8_t *data = (uint8_t *)ends + 4096;
    for (uint32_t i = 0; i < count; i++)
        ends[i] = bytes += 1 + (uint32_t)chance_below(chance, 600);
    memcpy(data, payload + count, bytes);
    weir_blob *blob = w_blob_of_piece(&fake.core, data, bytes, ends, 4096 + PAYLOAD_BYTES);
    if (blob == NULL) {
        w_pool_give(&fake.core.pool, ends, 4096 + PAYLOAD_BYTES);
        return -ENOMEM;
    }
    uint32_t boundaries = chance_one_in(chance, 8) ? 0 : count;
    bool shared = w_channel_put_shared(&fake.core, &channel, blob, boundaries == 0 ? NULL : ends, boundaries);
    int result = shared ? 0 : w_channel_put(&fake.core, &channel, &nothing, data, bytes, false);
    MUST_EQUAL(blob->references, shared ? 2 : 1);
    for (uint32_t i = 0; shared && i < boundaries; i++)
        model.ends[model.end_count++] = model.count + ends[i];
    if (result == 0)
        model_add(data, bytes);
    weir_blob_release(&blob);
    return result;
}

#define WAYS_TO_PUT 5
static int (*const ways_to_put[WAYS_TO_PUT])(struct chance *) = {put, put_length, put_blob, reserve, put_shared};

/* Takes in a window as a writer would; sometimes short, sometimes a few bytes. */
static void take_some(struct chance *chance)
{
    uint32_t bytes_max = any_bytes(chance, UINT32_MAX) * (chance_one_in(chance, 3) ? 16 : 1);
    uint32_t seen = check_view(bytes_max, 1 + (uint32_t)chance_below(chance, W_IO_VECTORS_MAX));
    if (seen > 0)
        take(chance_one_in(chance, 2) ? seen : (uint32_t)chance_below(chance, seen + 1));
}

START_TEST(as_the_model)
{
    struct chance chance = {(uint64_t)_i};
    channel_start(&chance);
    if (_i % 4 == 1)
        channel.head_position = UINT32_MAX - 5000; /* it runs over */
    uint32_t high_bytes = _i % 3 == 0 ? 20000 : 2000000;
    for (uint32_t step = 0; step < 2500; step++) {
        bool fill = model.count < high_bytes && chance_below(&chance, 8) < 4;
        if (fill)
            MUST_EQUAL(ways_to_put[chance_below(&chance, WAYS_TO_PUT)](&chance), 0);
        else
            take_some(&chance);
        check_counts();
        if (step % 64 == 0)
            check_all();
        if (chance_one_in(&chance, 500)) {
            w_channel_drop(&fake.core, &channel);
            model.count = model.end_count = 0;
            check_counts();
        }
    }
    check_all();
    MUST(lengths_put > 50);
    while (model.count > 0)
        take_some(&chance);
    channel_end();
}
END_TEST

/* Small messages by the thousand, as most are: every boundary is found when they are taken byte by byte or at once. */
START_TEST(small_messages)
{
    struct chance chance = {(uint64_t)_i};
    weir_seal seal = {.head_bytes = 4};
    uint32_t bytes = (uint32_t)_i % 70;
    channel_start(&chance);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 9000; i++) {
            memcpy(seal.head, &i, sizeof i);
            MUST_EQUAL(w_channel_put(&fake.core, &channel, &seal, payload + i, bytes, true), 0);
            model_put(&seal, payload + i, bytes, true);
        }
        check_all();
        for (uint32_t i = 0; i < 40; i++)
            take(1);
        take(check_view(60000, W_IO_VECTORS_MAX));
        if (round < 2)
            continue;
        while (model.count > 0)
            take(check_view(1 + (uint32_t)chance_below(&chance, 300000), W_IO_VECTORS_MAX));
    }
    channel_end();
}
END_TEST

/* More references than fit the ring: the rest is copied, nothing is lost and no blob is held by what was copied. */
START_TEST(too_many_references)
{
    struct chance chance = {(uint64_t)_i};
    channel_start(&chance);
    for (uint32_t i = 0; i < 400; i++) {
        weir_seal seal = any_seal(&chance);
        MUST_EQUAL(w_channel_put_blob(&fake.core, &channel, &seal, blobs[0], i, 5000, true), 0);
        model_put(&seal, weir_blob_data(blobs[0]) + i, 5000, true);
        check_counts();
    }
    MUST(blobs[0]->references > 100 && blobs[0]->references < 300);
    check_all();
    while (model.count > 0)
        take_some(&chance);
    MUST_EQUAL(blobs[0]->references, 1);
    channel_end();
}
END_TEST

/* The blob's owner lets go: the channel's own reference keeps it until the last byte has gone. */
START_TEST(a_blob_lives_until_it_has_gone)
{
    struct chance chance = {1};
    channel_start(&chance);
    weir_seal seal = {.head_bytes = 4};
    MUST_EQUAL(w_channel_put_blob(&fake.core, &channel, &seal, blobs[1], 7, 50000, true), 0);
    model_put(&seal, weir_blob_data(blobs[1]) + 7, 50000, true);
    uint64_t taken_bytes = fake.core.pool.taken_bytes;
    weir_blob_release(&blobs[1]);
    ck_assert_ptr_null(blobs[1]);
    ck_assert_uint_eq(fake.core.pool.taken_bytes, taken_bytes);
    check_all();
    take(50003);
    check_all();
    ck_assert_uint_eq(fake.core.pool.taken_bytes, taken_bytes);
    take(1);
    ck_assert_uint_lt(fake.core.pool.taken_bytes, taken_bytes - 200000);
    channel_end();
}
END_TEST

/* Nothing put: nothing held, whatever was asked. */
START_TEST(idle_holds_nothing)
{
    struct chance chance = {2};
    channel_start(&chance);
    weir_seal nothing = {.head_bytes = 0};
    uint64_t taken_bytes = fake.core.pool.taken_bytes;
    MUST_EQUAL(w_channel_put(&fake.core, &channel, &nothing, NULL, 0, true), 0);
    check_counts();
    MUST(w_channel_reserve(&fake.core, &channel, 100) != NULL);
    w_channel_commit(&channel, 0, true);
    w_channel_unreserve(&fake.core, &channel);
    check_counts();
    ck_assert_uint_eq(check_view(1000, 5), 0);
    w_channel_drop(&fake.core, &channel);
    ck_assert_uint_eq(fake.core.pool.taken_bytes, taken_bytes);
    channel_end();
}
END_TEST

/* Each allocation of each way to put fails once: the channel is as it was, and goes on afterwards. */
START_TEST(allocation_fails)
{
    struct chance before = {(uint64_t)_i}, chance;
    int (*way)(struct chance *) = ways_to_put[_i % WAYS_TO_PUT];
    uint32_t failures = 0;
    channel_start(&before);
    for (uint32_t i = chance_below(&before, 3) == 0 ? 8 : 0; i < 8; i++)
        ways_to_put[chance_below(&before, WAYS_TO_PUT)](&before);
    int result = -ENOMEM;
    for (int64_t succeed = 0; result != 0; succeed++) {
        uint64_t taken_bytes = fake.core.pool.taken_bytes;
        bool empty = model.count == 0;
        fake_fail_after(succeed);
        chance = before;
        result = way(&chance);
        fake.allocations_left = -1;
        MUST(result == 0 || result == -ENOMEM);
        if (result != 0) {
            failures++;
            if (empty)
                MUST_EQUAL(fake.core.pool.taken_bytes, taken_bytes);
        }
        check_all();
    }
    for (uint32_t i = 0; i < 4; i++)
        MUST_EQUAL(ways_to_put[chance_below(&chance, WAYS_TO_PUT)](&chance), 0);
    check_all();
    while (model.count > 0)
        take_some(&chance);
    channel_end();
    if (_i == 1) /* a blob into an empty channel: a block and the ring of references */
        MUST(failures >= 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel");
    TCase *tests = tcase_create("channel");
    tcase_set_timeout(tests, 30);
    tcase_add_loop_test(tests, as_the_model, 0, SEEDS);
    tcase_add_loop_test(tests, small_messages, 0, 70);
    tcase_add_loop_test(tests, too_many_references, 0, 4);
    tcase_add_test(tests, a_blob_lives_until_it_has_gone);
    tcase_add_test(tests, idle_holds_nothing);
    tcase_add_loop_test(tests, allocation_fails, 0, 120);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
