/* SPDX-License-Identifier: MIT */
/* feed: see feed.h.
 *
 * Road:    a connection asks (a note in a pipe) -> it gets a place, each second one an own channel too -> a message each period -> its end is told
 *          by an event or by an answer -> the place is free.
 * Ditches: no room -> the same message next time; no channel to be had -> through the port; all places taken -> it is ended. */
#include "feed.h"

#include "message.h"
#include "say.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define FEEDS_MAX     512u
#define CHANNELS_MAX  64u
#define CHANNEL_BYTES (64u * 1024)
#define PATIENCE_NS   (2 * WEIR_SECOND)

struct note {
    weir_id id;
    uint64_t stream;
};

struct feed {
    weir_id id; /* 0: the place is free */
    uint64_t stream;
    uint64_t number;       /* of the next message */
    bool wants_channel;    /* true exactly when it is to be opened yet */
    bool ended;            /* true exactly when its channel said so and the event has yet to come */
    weir_channel *channel; /* NULL: through the port, or not yet opened */
};

static struct feed feeds[FEEDS_MAX];
static weir_port *port;
static pthread_t thread;
static int notes[2];
static _Atomic bool over;
static _Atomic uint64_t feed_count, channel_count, sent, refused, ignored, undelivered;

static void feed_free(struct feed *feed)
{
    if (feed->channel != NULL) {
        weir_channel_close(&feed->channel);
        atomic_fetch_sub(&channel_count, 1);
    }
    *feed = (struct feed){0};
    atomic_fetch_sub(&feed_count, 1);
}

/* --- asking --- */

bool feed_ask(weir_id id, uint64_t stream)
{
    struct note note = {id, stream};
    return write(notes[1], &note, sizeof note) == sizeof note; /* not more than PIPE_BUF: whole or not at all */
}

static void feed_take(const struct note *note)
{
    static uint64_t turn;
    for (struct feed *feed = feeds; feed < feeds + FEEDS_MAX; feed++) {
        if (feed->id.value == 0) {
            *feed = (struct feed){.id = note->id, .stream = note->stream, .wants_channel = turn++ % 2 == 0};
            atomic_fetch_add(&feed_count, 1);
            return;
        }
    }
    atomic_fetch_add(&ignored, 1);
    weir_port_end(port, note->id); /* no room even for that: it stays, and is told nothing */
}

static void feed_take_notes(void)
{
    struct note note;
    while (read(notes[0], &note, sizeof note) == sizeof note)
        feed_take(&note);
}

/* --- sending --- */

static void feed_open(struct feed *feed)
{
    weir_channel_options options = {.bytes = CHANNEL_BYTES, .user = feed};
    int result = weir_channel_open(port, feed->id, &options, &feed->channel);
    feed->wants_channel = result == -EAGAIN;
    if (result == 0)
        atomic_fetch_add(&channel_count, 1);
    else if (result == -ESTALE || result == -ESHUTDOWN)
        feed_free(feed);
    else if (result != -EAGAIN && result != -ENOSPC && result != -ENOMEM)
        say_fault("weir_channel_open answered %d", result);
}

static void feed_send(struct feed *feed)
{
    uint8_t data[MESSAGE_MOST_BYTES + 8];
    uint32_t bytes = message_make(data, feed->stream, feed->number);
    int result = feed->channel != NULL ? weir_channel_send(feed->channel, data, bytes) : weir_port_send(port, feed->id, data, bytes);
    if (result == 0) {
        feed->number++;
        atomic_fetch_add(&sent, 1);
    } else if (result == -EAGAIN || (result == -ENOMEM && feed->channel == NULL)) {
        atomic_fetch_add(&refused, 1);
    } else if (feed->channel != NULL && result == -EPIPE) {
        feed->ended = true;
    } else if (feed->channel == NULL && (result == -ESTALE || result == -EPIPE || result == -ESHUTDOWN)) {
        feed_free(feed);
    } else {
        say_fault("a send %s answered %d", feed->channel != NULL ? "by an own channel" : "by a port", result);
    }
}

static void feed_tick(void)
{
    for (struct feed *feed = feeds; feed < feeds + FEEDS_MAX; feed++) {
        if (feed->wants_channel)
            feed_open(feed);
        if (feed->id.value != 0 && !feed->wants_channel && !feed->ended)
            feed_send(feed);
    }
}

/* --- what comes back --- */

static void feed_channel_ended(const weir_port_event *event)
{
    weir_channel_stats stats;
    weir_channel_stats_get(event->channel, &stats);
    if (stats.messages_sent != stats.messages_delivered + event->messages)
        say_fault("an own channel sent %llu messages, %llu were delivered, and its end tells of %llu",
                  (unsigned long long)stats.messages_sent, (unsigned long long)stats.messages_delivered,
                  (unsigned long long)event->messages);
    atomic_fetch_add(&undelivered, event->messages);
    feed_free(event->user);
}

static void feed_take_events(void)
{
    weir_port_event event;
    while (weir_port_next(port, &event)) {
        if (event.kind == WEIR_PORT_CHANNEL_ENDED)
            feed_channel_ended(&event);
        if (event.kind != WEIR_PORT_UNDELIVERED)
            continue;
        atomic_fetch_add(&undelivered, event.messages);
        if (event.error != -ESTALE && event.error != -EPIPE)
            say_fault("%llu messages of a port were not delivered: %d", (unsigned long long)event.messages, event.error);
    }
}

/* --- the thread --- */

static void feed_settle(void)
{
    uint64_t deadline_ns = say_now_ns() + PATIENCE_NS;
    weir_port_stats stats;
    do {
        weir_port_flush(port, PATIENCE_NS / 10);
        feed_take_events();
        weir_port_stats_get(port, &stats);
    } while ((channel_count > 0 || stats.messages_sent != stats.messages_taken + stats.messages_undelivered) && say_now_ns() < deadline_ns);
    if (channel_count > 0)
        say_fault("%llu own channels did not hear of their end", (unsigned long long)channel_count);
    if (stats.messages_sent != stats.messages_taken + stats.messages_undelivered)
        say_fault("a port sent %llu messages, %llu were taken and %llu came back", (unsigned long long)stats.messages_sent,
                  (unsigned long long)stats.messages_taken, (unsigned long long)stats.messages_undelivered);
}

static void *feed_main(void *unused)
{
    (void)unused;
    struct pollfd ears[2] = {{.fd = notes[0], .events = POLLIN}, {.fd = weir_port_descriptor(port), .events = POLLIN}};
    uint64_t due_ns = say_now_ns();
    while (!over) {
        uint64_t now_ns = say_now_ns();
        poll(ears, 2, now_ns < due_ns ? (int)((due_ns - now_ns) / WEIR_MILLISECOND) + 1 : 0);
        feed_take_notes();
        feed_take_events();
        if (say_now_ns() >= due_ns) {
            feed_tick();
            due_ns += FEED_PERIOD_NS;
        }
    }
    feed_settle();
    for (struct feed *feed = feeds; feed < feeds + FEEDS_MAX; feed++)
        if (feed->id.value != 0)
            feed_free(feed);
    weir_port_close(&port);
    return NULL;
}

bool feed_start(weir_runtime *runtime)
{
    weir_port_options options = {.channels = CHANNELS_MAX};
    return pipe2(notes, O_NONBLOCK | O_CLOEXEC) == 0 && weir_port_open(runtime, &options, &port, NULL) == 0 &&
           pthread_create(&thread, NULL, feed_main, NULL) == 0;
}

void feed_stop(void)
{
    over = true;
    pthread_join(thread, NULL);
    close(notes[0]);
    close(notes[1]);
}

struct feed_counts feed_counts(void)
{
    return (struct feed_counts){feed_count, channel_count, sent, refused, ignored, undelivered};
}
