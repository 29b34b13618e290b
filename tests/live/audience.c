/* SPDX-License-Identifier: MIT */
/* audience: reads the far ends of many connections and checks what comes. */
#include "audience.h"

#include <errno.h>
#include <sys/epoll.h>

/* --- a message --- */

static uint64_t word_at(uint32_t producer, uint32_t sequence, uint32_t place)
{
    return ((uint64_t)producer << 32 | sequence) * UINT64_C(0x9e3779b97f4a7c15) + place * UINT64_C(0xc2b2ae3d27d4eb4f) + 1;
}

void audience_fill(void *payload, uint32_t bytes, uint32_t producer, uint32_t sequence)
{
    uint8_t *at = payload;
    MUST(bytes >= AUDIENCE_MESSAGE_MIN_BYTES);
    memcpy(at, &producer, 4);
    memcpy(at + 4, &sequence, 4);
    for (uint32_t place = 8; place < bytes; place += 8) {
        uint64_t word = word_at(producer, sequence, place);
        memcpy(at + place, &word, bytes - place < 8 ? bytes - place : 8);
    }
}

bool audience_read(const void *payload, uint32_t bytes, uint32_t *producer, uint32_t *sequence)
{
    const uint8_t *at = payload;
    if (bytes < AUDIENCE_MESSAGE_MIN_BYTES)
        return false;
    memcpy(producer, at, 4);
    memcpy(sequence, at + 4, 4);
    for (uint32_t place = 8; place < bytes; place += 8) {
        uint64_t word = word_at(*producer, *sequence, place);
        if (memcmp(at + place, &word, bytes - place < 8 ? bytes - place : 8) != 0)
            return false;
    }
    return true;
}

/* --- one ear --- */

static void hear(struct audience *audience, struct ear *ear, const uint8_t *payload, uint32_t bytes)
{
    uint32_t producer = 0, sequence = 0;
    if (!audience_read(payload, bytes, &producer, &sequence))
        ck_abort_msg("ear %u: message %llu of %u bytes is torn (producer %u, number %u)", ear->number,
                     (unsigned long long)atomic_load(&ear->messages), bytes, producer, sequence);
    if (producer >= audience->producer_count)
        ck_abort_msg("ear %u: a message of producer %u, whom nobody knows", ear->number, producer);
    uint32_t next = ear->next[producer];
    if (sequence < next || (sequence > next && !audience->gaps))
        ck_abort_msg("ear %u: producer %u's message %u came where %u is next", ear->number, producer, sequence, next);
    ear->next[producer] = sequence + 1;
    atomic_fetch_add(&ear->messages, 1);
}

/* Takes the whole frames from the front of what is pending; answers how many bytes they had. */
static uint32_t take_frames(struct audience *audience, struct ear *ear, uint32_t *missing_bytes)
{
    uint32_t done = 0;
    *missing_bytes = 4;
    while (ear->pending_bytes - done >= 4) {
        const uint8_t *at = ear->pending + done;
        uint32_t bytes = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        if (bytes > 16 << 20)
            ck_abort_msg("ear %u: a frame of %u bytes after %llu messages", ear->number, bytes,
                         (unsigned long long)atomic_load(&ear->messages));
        if (ear->pending_bytes - done < bytes + 4) {
            *missing_bytes = bytes + 4;
            break;
        }
        hear(audience, ear, at + 4, bytes);
        done += bytes + 4;
    }
    return done;
}

static int digit_of(uint8_t letter)
{
    return letter >= '0' && letter <= '9' ? letter - '0' : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static uint32_t take_lines(struct audience *audience, struct ear *ear, uint32_t *missing_bytes)
{
    static _Thread_local uint8_t payload[65536];
    uint32_t done = 0;
    uint8_t *end;
    while ((end = memchr(ear->pending + done, '\n', ear->pending_bytes - done)) != NULL) {
        uint32_t bytes = (uint32_t)(end - (ear->pending + done));
        MUST(bytes % 2 == 0 && bytes / 2 <= sizeof payload);
        for (uint32_t i = 0; i < bytes / 2; i++) {
            int high = digit_of(ear->pending[done + 2 * i]), low = digit_of(ear->pending[done + 2 * i + 1]);
            MUST(high >= 0 && low >= 0);
            payload[i] = (uint8_t)(high << 4 | low);
        }
        hear(audience, ear, payload, bytes / 2);
        done += bytes + 1;
    }
    *missing_bytes = 2 * sizeof payload + 1;
    return done;
}

static void make_room(struct ear *ear, uint32_t bytes)
{
    if (ear->room_bytes >= bytes)
        return;
    ear->pending = realloc(ear->pending, bytes);
    MUST(ear->pending != NULL);
    ear->room_bytes = bytes;
}

static void ear_over(struct audience *audience, struct ear *ear, int error)
{
    (void)epoll_ctl(audience->epoll, EPOLL_CTL_DEL, ear->descriptor, NULL); /* it may be a duplicate: closing is not enough */
    if (error < 0) {
        if (ear->exit == EAR_RESETS)
            visitor_reset(ear->descriptor);
        else
            close(ear->descriptor);
    } else {
        ear->error = error;
        close(ear->descriptor);
    }
    ear->descriptor = -1;
    atomic_fetch_add(&audience->over, 1);
}

/* Reads once, at most `most` bytes; false: there is nothing now, or it is over. */
static bool ear_listen(struct audience *audience, struct ear *ear, uint32_t most)
{
    uint32_t room = ear->room_bytes - ear->pending_bytes;
    ssize_t got = recv(ear->descriptor, ear->pending + ear->pending_bytes, room < most ? room : most, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0) {
        ear_over(audience, ear, got == 0 ? 0 : errno);
        return false;
    }
    ear->bytes += (uint64_t)got;
    ear->pending_bytes += (uint32_t)got;
    uint64_t before = ear->messages;
    uint32_t missing_bytes;
    uint32_t done = audience->lines ? take_lines(audience, ear, &missing_bytes) : take_frames(audience, ear, &missing_bytes);
    ear->pending_bytes -= done;
    memmove(ear->pending, ear->pending + done, ear->pending_bytes);
    make_room(ear, missing_bytes);
    atomic_fetch_add(&audience->bytes, (uint64_t)got);
    atomic_fetch_add(&audience->messages, ear->messages - before);
    if (ear->leave_after != 0 && ear->messages >= ear->leave_after) {
        ear->leave_after = 0;
        ear->left = true;
        if (ear->exit == EAR_FINISHES)
            shutdown(ear->descriptor, SHUT_WR);
        else
            ear_over(audience, ear, -1);
    }
    return ear->descriptor >= 0;
}

/* --- the thread --- */

static void *audience_run(void *user)
{
    struct audience *audience = user;
    bool slow = false;
    for (uint32_t i = 0; i < audience->ear_count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &audience->ears[i]};
        slow = slow || audience->ears[i].slow_bytes != 0;
        if (audience->ears[i].slow_bytes == 0)
            MUST_EQUAL(epoll_ctl(audience->epoll, EPOLL_CTL_ADD, audience->ears[i].descriptor, &event), 0);
    }
    while (!atomic_load(&audience->stop) && atomic_load(&audience->over) < audience->ear_count) {
        struct epoll_event events[64];
        int count = epoll_wait(audience->epoll, events, 64, slow ? 1 : 20);
        for (int i = 0; i < count; i++) {
            for (int reads = 0; reads < 8 && ear_listen(audience, events[i].data.ptr, UINT32_MAX); reads++)
                continue;
        }
        for (uint32_t i = 0; slow && i < audience->ear_count; i++) {
            struct ear *ear = &audience->ears[i];
            if (ear->slow_bytes != 0 && ear->descriptor >= 0)
                ear_listen(audience, ear, ear->slow_bytes);
        }
    }
    return NULL;
}

void audience_open(struct audience *audience, uint32_t ears, uint32_t producers)
{
    memset(audience, 0, sizeof *audience);
    audience->ear_count = ears;
    audience->producer_count = producers;
    audience->ears = calloc(ears, sizeof *audience->ears);
    audience->epoll = epoll_create1(EPOLL_CLOEXEC);
    MUST(audience->ears != NULL && audience->epoll >= 0);
    for (uint32_t i = 0; i < ears; i++) {
        audience->ears[i].number = i;
        audience->ears[i].descriptor = -1;
        audience->ears[i].next = calloc(producers, sizeof(uint32_t));
        MUST(audience->ears[i].next != NULL);
        make_room(&audience->ears[i], ears > 64 ? 4096 : 1 << 18);
    }
}

void audience_start(struct audience *audience)
{
    for (uint32_t i = 0; audience->lines && i < audience->ear_count; i++)
        make_room(&audience->ears[i], 1 << 18);
    audience->started = true;
    MUST_EQUAL(pthread_create(&audience->thread, NULL, audience_run, audience), 0);
}

void audience_finish(struct audience *audience)
{
    UNTIL(NULL, atomic_load(&audience->over) == audience->ear_count);
    audience_stop(audience);
}

void audience_stop(struct audience *audience)
{
    atomic_store(&audience->stop, true);
    if (audience->started)
        MUST_EQUAL(pthread_join(audience->thread, NULL), 0);
    audience->started = false;
}

void audience_close(struct audience *audience)
{
    audience_stop(audience);
    for (uint32_t i = 0; i < audience->ear_count; i++) {
        if (audience->ears[i].descriptor >= 0)
            close(audience->ears[i].descriptor);
        free(audience->ears[i].next);
        free(audience->ears[i].pending);
    }
    free(audience->ears);
    close(audience->epoll);
}

uint64_t audience_heard(const struct audience *audience, uint32_t producer)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < audience->ear_count; i++)
        sum += audience->ears[i].next[producer];
    return sum;
}
