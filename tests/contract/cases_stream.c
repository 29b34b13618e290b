/* SPDX-License-Identifier: MIT */
/* cases_stream: what the contract says about bytes: receives, sends, buffers, ends and cancels. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/contract/cases.h"

static void *memory(size_t bytes)
{
    void *got = malloc(bytes);
    ck_assert_ptr_nonnull(got);
    return got;
}

/* Lets the peer write more of what it has to. */
static void write_more(struct cases_pair *pair, const uint8_t *data, size_t bytes, size_t *written)
{
    while (*written < bytes) {
        int64_t count = pair->rig.outside->write(pair->peer, data + *written, bytes - *written);
        ck_assert_int_ge(count, 0);
        if (count == 0)
            return;
        *written += (size_t)count;
    }
}

/* The peer sends `bytes`; all of it arrives on the stream. */
static void pour_in(struct cases_pair *pair, struct rig_stream *stream, size_t bytes, uint32_t salt)
{
    uint8_t *data = memory(bytes);
    size_t written = 0, before = stream->bytes.count;
    rig_fill(data, bytes, salt);
    rig_until(&pair->rig, stream->bytes.count >= before + bytes,
              (write_more(pair, data, bytes, &written), rig_stream_look(&pair->rig, stream)));
    ck_assert_int_eq(memcmp(stream->bytes.data + before, data, bytes), 0);
    free(data);
}

/* Sends all of it, in as many sends as it takes, while the peer reads. What was sent is overwritten as soon as its send is over (2.). */
static void pour_out(struct cases_pair *pair, struct rig_bytes *read, size_t bytes, uint32_t salt)
{
    struct rig *rig = &pair->rig;
    uint8_t *data = memory(bytes);
    rig_fill(data, bytes, salt);
    for (size_t sent = 0; sent < bytes;) {
        uint64_t token = rig_begin(rig);
        rig->engine->send(rig->io, pair->handle, data + sent, bytes - sent, token);
        rig_until(rig, rig_of(rig, token)->over, rig_peer_read(rig, pair->peer, read));
        int32_t result = rig_result(rig, token);
        ck_assert_int_gt(result, 0);
        ck_assert_uint_le((size_t)result, bytes - sent);
        ck_assert_uint_eq(rig_of(rig, token)->count, 1);
        memset(data + sent, 0xee, (size_t)result);
        sent += (size_t)result;
    }
    free(data);
}

/* 1. 8. Bytes arrive whole and in order, in however many completions and receives. */
START_TEST(receive_brings_all)
{
    struct cases_pair pair;
    struct rig_stream stream;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig_stream_open(&pair.rig, &stream, pair.handle);
    pour_in(&pair, &stream, 300000, 1);
    pour_in(&pair, &stream, 1, 2);
    pour_in(&pair, &stream, 70000, 3);
    /* 8. Half-closed by the peer: 0; the other direction goes on. */
    pair.rig.outside->shutdown(pair.peer);
    rig_until(&pair.rig, stream.bytes.ended, rig_stream_look(&pair.rig, &stream));
    struct rig_bytes read = {0};
    pour_out(&pair, &read, 5000, 4);
    rig_until(&pair.rig, read.count >= 5000, rig_peer_read(&pair.rig, pair.peer, &read));
    rig_check(&read, 5000, 4);
    rig_bytes_free(&read);
    rig_stream_close(&pair.rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

/* 2. 8. A send says how much it took; short ones go on from there; memory is the caller's again after the completion. */
START_TEST(send_accounts_for_all)
{
    struct cases_pair pair;
    struct rig_bytes read = {0};
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    const size_t bytes = pair.rig.outside->real ? 6 << 20 : 600000;
    pour_out(&pair, &read, bytes, 5);
    rig_until(&pair.rig, read.count >= bytes, rig_peer_read(&pair.rig, pair.peer, &read));
    rig_check(&read, bytes, 5);
    rig_bytes_free(&read);
    cases_pair_close(&pair);
}
END_TEST

/* Points the vectors at what is left. */
static void gather_rest(struct w_io_gather *gather, uint8_t *data, const size_t *pieces, size_t from)
{
    gather->count = 0;
    size_t at = 0;
    for (uint32_t i = 0; i < W_IO_VECTORS_MAX; i++) {
        size_t begin = at < from ? from : at;
        at += pieces[i];
        if (begin < at)
            gather->vectors[gather->count++] = (struct iovec){.iov_base = data + begin, .iov_len = at - begin};
    }
}

/* 2. As many vectors as there may be, of very different sizes, and their own memory stands still too. */
START_TEST(gather_of_many)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_bytes read = {0};
    struct w_io_gather *gather = memory(w_io_gather_bytes(W_IO_VECTORS_MAX));
    size_t pieces[W_IO_VECTORS_MAX], bytes = 0;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    for (uint32_t i = 0; i < W_IO_VECTORS_MAX; i++)
        bytes += pieces[i] = 1 + (i % 7 == 0 ? 20000 : i * i);
    uint8_t *data = memory(bytes);
    rig_fill(data, bytes, 6);
    for (size_t sent = 0; sent < bytes;) {
        uint64_t token = rig_begin(rig);
        gather_rest(gather, data, pieces, sent);
        rig->engine->send_gather(rig->io, pair.handle, gather, token);
        rig_until(rig, rig_of(rig, token)->over, rig_peer_read(rig, pair.peer, &read));
        ck_assert_int_gt(rig_result(rig, token), 0);
        sent += (size_t)rig_result(rig, token);
    }
    rig_until(rig, read.count >= bytes, rig_peer_read(rig, pair.peer, &read));
    rig_check(&read, bytes, 6);
    rig_bytes_free(&read);
    free(data);
    free(gather);
    cases_pair_close(&pair);
}
END_TEST

/* 3. Nothing comes before a submit, and take() hands out no more than it is asked for. */
START_TEST(take_is_bounded)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_bytes read = {0};
    struct w_io_completion one;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    uint64_t token = rig_begin(rig);
    rig->engine->send(rig->io, pair.handle, "x", 1, token);
    ck_assert_uint_eq(rig->engine->take(rig->io, &one, 1), 0);
    rig_wait(rig, token);
    uint64_t tokens[5];
    for (int i = 0; i < 5; i++) {
        tokens[i] = rig_begin(rig);
        struct w_io_address address = rig_loopback(rig_port(&pair.address));
        int handle = rig->engine->socket(rig->io, &address, &(weir_socket_options){0});
        ck_assert_int_ge(handle, 0);
        rig->engine->close_handle(rig->io, handle, tokens[i]);
    }
    uint32_t taken = 0;
    for (uint64_t begin_ns = rig->engine->clock(rig->io); taken < 5;) {
        ck_assert_uint_lt(rig->engine->clock(rig->io) - begin_ns, rig->patience_ns);
        ck_assert_int_eq(rig->engine->submit(rig->io, WEIR_MILLISECOND), 0);
        ck_assert_uint_eq(rig->engine->take(rig->io, &one, 0), 0);
        for (uint32_t count; (count = rig->engine->take(rig->io, &one, 1)) != 0; taken++) {
            ck_assert_uint_eq(count, 1);
            ck_assert_int_eq(one.result, 0);
            rig_of(rig, one.token)->over = true;
            rig->in_flight--;
        }
    }
    rig_until(rig, read.count == 1, rig_peer_read(rig, pair.peer, &read));
    rig_bytes_free(&read);
    cases_pair_close(&pair);
}
END_TEST

/* --- buffers --- */

/* Everything that came while nobody gave a buffer back. */
struct hoard {
    struct w_io_completion completions[4096];
    uint32_t count;
    size_t bytes;
};

/* Receives until there is no buffer left and the receive has ended for want of one. */
static void hoard_all(struct cases_pair *pair, struct hoard *hoard, const uint8_t *data, size_t bytes, size_t *written)
{
    struct rig *rig = &pair->rig;
    for (int32_t result = 0; result != -ENOBUFS || rig->io->buffers_free > 0;) {
        uint64_t token = rig_begin(rig);
        rig->engine->receive(rig->io, pair->handle, token);
        rig_until(rig, rig_of(rig, token)->over, write_more(pair, data, bytes, written));
        const struct rig_operation *operation = rig_of(rig, token);
        for (uint32_t i = 0; i < operation->count; i++) {
            result = operation->completions[i].result;
            ck_assert_msg(result > 0 || result == -ENOBUFS, "receive: %d", result);
            if (result > 0) {
                ck_assert_uint_lt(hoard->count, W_COUNT(hoard->completions));
                hoard->completions[hoard->count++] = operation->completions[i];
                hoard->bytes += (size_t)result;
            }
        }
    }
}

static void give_back(struct cases_pair *pair, const struct hoard *hoard, struct rig_bytes *together)
{
    together->data = memory(hoard->bytes);
    together->capacity = hoard->bytes;
    for (uint32_t i = 0; i < hoard->count; i++) {
        const struct w_io_completion *completion = &hoard->completions[i];
        memcpy(together->data + together->count, completion->data, (size_t)completion->result);
        together->count += (size_t)completion->result;
    }
    for (uint32_t i = 0; i < hoard->count; i++)
        pair->rig.engine->buffer_release(pair->rig.io, hoard->completions[i].buffer);
}

/* 8. No buffer: -ENOBUFS, and nothing is lost; buffers that are held keep what is in them; once they are back, receiving goes on. */
START_TEST(no_buffers)
{
    struct cases_pair pair;
    struct hoard *hoard = calloc(1, sizeof *hoard);
    const size_t bytes = 200000;
    uint8_t *data = memory(bytes);
    size_t written = 0;
    cases_pair_open(&pair, (uint64_t)_i, 8, 4096);
    rig_fill(data, bytes, 7);
    ck_assert_ptr_nonnull(hoard);
    hoard_all(&pair, hoard, data, bytes, &written);
    ck_assert_uint_eq(pair.rig.io->buffers_free, 0);
    ck_assert_uint_le(hoard->bytes, 8 * 4096);
    struct rig_stream stream = {.handle = pair.handle};
    give_back(&pair, hoard, &stream.bytes);
    ck_assert_uint_eq(pair.rig.io->buffers_free, pair.rig.io->buffers);
    rig_until(&pair.rig, stream.bytes.count >= bytes, (write_more(&pair, data, bytes, &written), rig_stream_look(&pair.rig, &stream)));
    rig_check(&stream.bytes, bytes, 7);
    rig_stream_close(&pair.rig, &stream);
    free(data);
    free(hoard);
    cases_pair_close(&pair);
}
END_TEST

/* The buffers' references: what is held stays as it is while others come and go. */
START_TEST(held_buffer_stands_still)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_stream stream;
    uint8_t copy[4096];
    cases_pair_open(&pair, (uint64_t)_i, 8, sizeof copy);
    rig_stream_open(rig, &stream, pair.handle);
    stream.keep_next = true; /* with two references more */
    pour_in(&pair, &stream, 1000, 8);
    const struct w_io_completion kept = stream.kept;
    memcpy(copy, kept.data, (size_t)kept.result);
    ck_assert_int_eq(memcmp(copy, stream.bytes.data, (size_t)kept.result), 0);
    pour_in(&pair, &stream, 100000, 9);
    ck_assert_int_eq(memcmp(copy, kept.data, (size_t)kept.result), 0);
    rig->engine->buffer_release(rig->io, kept.buffer);
    pour_in(&pair, &stream, 100000, 10);
    ck_assert_int_eq(memcmp(copy, kept.data, (size_t)kept.result), 0);
    ck_assert_uint_lt(rig->io->buffers_free, rig->io->buffers);
    rig->engine->buffer_release(rig->io, kept.buffer);
    rig_stream_close(rig, &stream);
    ck_assert_uint_eq(rig->io->buffers_free, rig->io->buffers);
    cases_pair_close(&pair);
}
END_TEST

/* --- ends --- */

/* 8. A reset by the peer is an error of the receive; a send after it fails too. 1. Each exactly once. */
START_TEST(reset_by_peer)
{
    struct cases_pair pair;
    struct rig_stream stream;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig_stream_open(&pair.rig, &stream, pair.handle);
    rig_turn(&pair.rig, 0);
    pair.rig.outside->reset(&pair.peer);
    rig_until(&pair.rig, stream.bytes.error != 0 || stream.bytes.ended, rig_stream_look(&pair.rig, &stream));
    ck_assert_int_eq(stream.bytes.error, -ECONNRESET);
    uint64_t token = rig_begin(&pair.rig);
    pair.rig.engine->send(pair.rig.io, pair.handle, "x", 1, token);
    ck_assert_int_lt(rig_wait(&pair.rig, token), 0);
    rig_stream_close(&pair.rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

/* 8. Both wait when the reset comes: one is told of it, and a receive that brings 0 instead comes behind the send's error. */
START_TEST(reset_with_both_waiting)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_stream stream;
    static const char data[64 << 10];
    uint64_t token;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig_stream_open(rig, &stream, pair.handle);
    do { /* until the peer's window is full, and one send waits */
        token = rig_begin(rig);
        rig->engine->send(rig->io, pair.handle, data, sizeof data, token);
        for (int i = 0; i < 5 && !rig_of(rig, token)->over; i++)
            rig_turn(rig, 10 * WEIR_MILLISECOND);
    } while (rig_of(rig, token)->over);
    rig->outside->reset(&pair.peer);
    rig_until(rig, stream.bytes.error != 0 || stream.bytes.ended, rig_stream_look(rig, &stream));
    ck_assert_int_lt(rig_wait(rig, token), 0);
    if (stream.bytes.ended)
        ck_assert_uint_lt(rig_of(rig, token)->place, rig_of(rig, stream.token)->place);
    else
        ck_assert_int_eq(stream.bytes.error, -ECONNRESET);
    rig_stream_close(rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

/* hung_up(): a reset, or a unix socket's end, behind bytes that were there before the receive started is found all the same. */
START_TEST(end_behind_bytes)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_stream stream;
    struct outside_peer *peer;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    ck_assert(!rig->engine->hung_up(rig->io, pair.handle));
    ck_assert_int_eq(rig->outside->write(pair.peer, "0123456789", 10), 10);
    rig_turn(rig, WEIR_MILLISECOND);
    rig->outside->reset(&pair.peer);
    rig_until(rig, rig->engine->hung_up(rig->io, pair.handle), (void)0);
    rig_stream_open(rig, &stream, pair.handle);
    rig_until(rig, stream.bytes.error != 0 || stream.bytes.ended, rig_stream_look(rig, &stream));
    ck_assert_int_eq(stream.bytes.error, -ECONNRESET);
    rig_stream_close(rig, &stream);
    int handle = rig->outside->adoptable(&peer);
    ck_assert_int_eq(rig->engine->adopt(rig->io, handle, &(weir_socket_options){0}), 0);
    ck_assert_int_eq(rig->outside->write(peer, "0123456789", 10), 10);
    rig->outside->finish(&peer);
    rig_until(rig, rig->engine->hung_up(rig->io, handle), (void)0);
    rig_stream_open(rig, &stream, handle);
    rig_until(rig, stream.bytes.ended, rig_stream_look(rig, &stream));
    ck_assert_uint_eq(stream.bytes.count, 10);
    rig_stream_close(rig, &stream);
    rig_close_handle(rig, handle);
    cases_pair_close(&pair);
}
END_TEST

/* shutdown(): both ways ends a receive that waits; one way lets the peer see the end and go on sending. */
START_TEST(shutdown_both_ways)
{
    struct cases_pair pair;
    struct rig_stream stream;
    struct rig_bytes read = {0};
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig_stream_open(&pair.rig, &stream, pair.handle);
    rig_turn(&pair.rig, WEIR_MILLISECOND);
    rig_stream_look(&pair.rig, &stream);
    pair.rig.engine->shutdown(pair.rig.io, pair.handle, SHUT_RDWR);
    rig_until(&pair.rig, stream.bytes.ended, rig_stream_look(&pair.rig, &stream));
    rig_until(&pair.rig, read.ended, rig_peer_read(&pair.rig, pair.peer, &read));
    ck_assert_uint_eq(read.count, 0);
    rig_stream_close(&pair.rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

START_TEST(shutdown_one_way)
{
    struct cases_pair pair;
    struct rig_stream stream;
    struct rig_bytes read = {0};
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    pour_out(&pair, &read, 3000, 11);
    pair.rig.engine->shutdown(pair.rig.io, pair.handle, SHUT_WR);
    rig_until(&pair.rig, read.ended, rig_peer_read(&pair.rig, pair.peer, &read));
    rig_check(&read, 3000, 11);
    rig_stream_open(&pair.rig, &stream, pair.handle);
    pour_in(&pair, &stream, 40000, 12);
    /* A send after it fails, and says so once. */
    uint64_t token = rig_begin(&pair.rig);
    pair.rig.engine->send(pair.rig.io, pair.handle, "x", 1, token);
    ck_assert_int_eq(rig_wait(&pair.rig, token), -EPIPE);
    rig_bytes_free(&read);
    rig_stream_close(&pair.rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

/* 7. A close lets out what was sent, then the end; with reset_on_close() the peer sees a reset. */
START_TEST(close_gracefully)
{
    struct cases_pair pair;
    struct rig_bytes read = {0};
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    pour_out(&pair, &read, 30000, 13);
    rig_close_handle(&pair.rig, pair.handle);
    pair.handle = -1;
    rig_until(&pair.rig, read.ended, rig_peer_read(&pair.rig, pair.peer, &read));
    rig_check(&read, 30000, 13);
    rig_bytes_free(&read);
    cases_pair_close(&pair);
}
END_TEST

START_TEST(close_with_reset)
{
    struct cases_pair pair;
    struct rig_bytes read = {0};
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    pair.rig.engine->reset_on_close(pair.rig.io, pair.handle);
    rig_close_handle(&pair.rig, pair.handle);
    pair.handle = -1;
    rig_until(&pair.rig, read.ended || read.error != 0, rig_peer_read(&pair.rig, pair.peer, &read));
    ck_assert_int_eq(read.error, -ECONNRESET);
    cases_pair_close(&pair);
}
END_TEST

/* --- cancels --- */

/* 6. 1. An idle receive that is cancelled ends, once; data that comes later waits for the next receive. */
START_TEST(cancel_receive)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_stream stream;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    uint64_t token = rig_begin(rig);
    rig->engine->receive(rig->io, pair.handle, token);
    if (_i % 2 == 0)
        rig_turn(rig, WEIR_MILLISECOND);
    int32_t result = rig_of(rig, token)->over ? rig_result(rig, token) : rig_cancel(rig, token);
    ck_assert_msg(result == -ECANCELED || (rig->outside->rough && result == -ENOBUFS), "cancelled receive: %d", result);
    ck_assert_uint_eq(rig_of(rig, token)->count, 1);
    rig_stream_open(rig, &stream, pair.handle);
    pour_in(&pair, &stream, 5000, 14);
    rig_stream_close(&pair.rig, &stream);
    cases_pair_close(&pair);
}
END_TEST

/* 6. Cancels that race with data lose none of it. */
START_TEST(cancel_races_with_data)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_stream stream;
    const size_t bytes = 100000;
    size_t written = 0;
    uint8_t *data = memory(bytes);
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig_fill(data, bytes, 15);
    rig_stream_open(rig, &stream, pair.handle);
    for (uint32_t round = 0; round < 30; round++) {
        write_more(&pair, data, bytes * (round + 1) / 30, &written);
        rig_turn(rig, round % 3 * WEIR_MILLISECOND / 10);
        rig_stream_look(rig, &stream);
        stream.paused = stream.cancelled = true;
        if (stream.receiving)
            rig->engine->cancel(rig->io, stream.token);
        if (stream.receiving && round % 4 == 0)
            rig->engine->cancel(rig->io, stream.token); /* twice is once */
        rig_until(rig, !stream.receiving, rig_stream_look(rig, &stream));
        stream.paused = stream.cancelled = false;
        rig_stream_look(rig, &stream);
    }
    rig_until(rig, stream.bytes.count >= bytes, (write_more(&pair, data, bytes, &written), rig_stream_look(rig, &stream)));
    rig_check(&stream.bytes, bytes, 15);
    rig_stream_close(&pair.rig, &stream);
    free(data);
    cases_pair_close(&pair);
}
END_TEST

/* 6. A send that waits for room and is cancelled ends, and what it said it took is what the peer gets. */
START_TEST(cancel_send)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_bytes read = {0};
    const size_t bytes = cases_outside->real ? 16 << 20 : 1 << 20; /* more than both ends hold */
    size_t sent = 0;
    int32_t result = 0;
    uint8_t *data = memory(bytes);
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig_fill(data, bytes, 16);
    for (bool stuck = false; !stuck;) {
        uint64_t token = rig_begin(rig);
        rig->engine->send(rig->io, pair.handle, data + sent, bytes - sent, token);
        for (int i = 0; i < 20 && !rig_of(rig, token)->over; i++)
            rig_turn(rig, 2 * WEIR_MILLISECOND);
        stuck = !rig_of(rig, token)->over;
        result = stuck ? rig_cancel(rig, token) : rig_result(rig, token);
        ck_assert_msg(result > 0 || (stuck && result == -ECANCELED), "send: %d", result);
        sent += result > 0 ? (size_t)result : 0;
        ck_assert_uint_lt(sent, bytes);
    }
    rig_close_handle(rig, pair.handle);
    pair.handle = -1;
    rig_until(rig, read.ended, rig_peer_read(rig, pair.peer, &read));
    rig_check(&read, sent, 16);
    rig_bytes_free(&read);
    free(data);
    cases_pair_close(&pair);
}
END_TEST

/* 6. Cancelling what is not in flight does nothing: a token that never was, one that is over. */
START_TEST(cancel_nothing)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    struct rig_bytes read = {0};
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    rig->engine->cancel(rig->io, 12345);
    uint64_t token = rig_begin(rig);
    rig->engine->send(rig->io, pair.handle, "over", 4, token);
    ck_assert_int_gt(rig_wait(rig, token), 0);
    rig->engine->cancel(rig->io, token);
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(rig_turn_count(rig, WEIR_MILLISECOND), 0);
    rig_until(rig, read.count > 0, rig_peer_read(rig, pair.peer, &read));
    rig_bytes_free(&read);
    cases_pair_close(&pair);
}
END_TEST

/* 4. What cannot work is told by a completion, not by the call. */
START_TEST(failure_is_a_completion)
{
    struct cases_pair pair;
    struct rig *rig = &pair.rig;
    cases_pair_open(&pair, (uint64_t)_i, 0, 0);
    int handle = rig->engine->socket(rig->io, &pair.address, &(weir_socket_options){0});
    ck_assert_int_ge(handle, 0);
    uint64_t receive = rig_begin(rig), send = rig_begin(rig);
    rig->engine->receive(rig->io, handle, receive);
    rig->engine->send(rig->io, handle, "x", 1, send);
    ck_assert_int_lt(rig_wait(rig, receive), 0);
    ck_assert_int_lt(rig_wait(rig, send), 0);
    rig_close_handle(rig, handle);
    cases_pair_close(&pair);
}
END_TEST

void cases_stream_add(TCase *tcase, int seeds)
{
    tcase_add_loop_test(tcase, receive_brings_all, 0, seeds);
    tcase_add_loop_test(tcase, send_accounts_for_all, 0, seeds);
    tcase_add_loop_test(tcase, gather_of_many, 0, seeds);
    tcase_add_loop_test(tcase, take_is_bounded, 0, seeds);
    tcase_add_loop_test(tcase, no_buffers, 0, seeds);
    tcase_add_loop_test(tcase, held_buffer_stands_still, 0, seeds);
    tcase_add_loop_test(tcase, reset_by_peer, 0, seeds);
    tcase_add_loop_test(tcase, reset_with_both_waiting, 0, seeds);
    tcase_add_loop_test(tcase, end_behind_bytes, 0, seeds);
    tcase_add_loop_test(tcase, shutdown_both_ways, 0, seeds);
    tcase_add_loop_test(tcase, shutdown_one_way, 0, seeds);
    tcase_add_loop_test(tcase, close_gracefully, 0, seeds);
    tcase_add_loop_test(tcase, close_with_reset, 0, seeds);
    tcase_add_loop_test(tcase, cancel_receive, 0, seeds);
    tcase_add_loop_test(tcase, cancel_races_with_data, 0, seeds);
    tcase_add_loop_test(tcase, cancel_send, 0, seeds);
    tcase_add_loop_test(tcase, cancel_nothing, 0, seeds);
    tcase_add_loop_test(tcase, failure_is_a_completion, 0, seeds);
}
