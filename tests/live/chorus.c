/* SPDX-License-Identifier: MIT */
/* chorus: producers of every kind, and their sums. */
#include "chorus.h"

#include <errno.h>

/* --- messages --- */

static uint32_t bytes_of(const struct voice *voice, uint32_t seat, uint32_t sequence)
{
    uint32_t mixed = (sequence * 31 + seat * 7 + voice->number) * 2654435761U >> 8;
    if (mixed % 97 == 0)
        return 4000 + mixed % 9000; /* by reference */
    return AUDIENCE_MESSAGE_MIN_BYTES + mixed % 300;
}

static uint32_t compose(const struct voice *voice, uint32_t seat, uint8_t **data)
{
    static _Thread_local uint8_t message[16 * KIB];
    uint32_t bytes = bytes_of(voice, seat, voice->accepted[seat]);
    audience_fill(message, bytes, voice->number, voice->accepted[seat]);
    *data = message;
    return bytes;
}

static void note_accepted(struct voice *voice, uint32_t seat)
{
    voice->accepted[seat]++;
    voice->sent++;
}

static bool is_done(const struct voice *voice, uint32_t seat)
{
    const struct chorus *chorus = voice->chorus;
    if (chorus->abroad && voice->kind == VOICE_SHARD && chorus->hall.seats[seat].shard == weir_shard_index(voice->shard))
        return true;
    return voice->dead[seat] || voice->accepted[seat] == chorus->count || atomic_load(&chorus->enough);
}

/* --- a thread with a port --- */

/* Even ones wait for room; odd ones go on to the next seat. */
static bool port_send_one(struct voice *voice, uint32_t seat)
{
    uint8_t *data;
    uint32_t bytes = compose(voice, seat, &data);
    weir_id id = voice->chorus->hall.seats[seat].id;
    int result = voice->number % 2 == 0 ? weir_port_send_wait(voice->port, id, data, bytes, 2 * FIXTURE_WAIT_NS)
                                        : weir_port_send(voice->port, id, data, bytes);
    if (result == 0)
        note_accepted(voice, seat);
    else if (result == -ESTALE || result == -EPIPE || result == -ESHUTDOWN)
        voice->dead[seat] = true;
    else if (result == -ENOBUFS)
        tally_collect(&voice->tally, voice->port);
    else if (result != -EAGAIN || voice->number % 2 == 0)
        ck_abort_msg("voice %u to seat %u: %s", voice->number, seat, weir_strerror(result));
    return result == 0 || result == -ENOBUFS;
}

static void *sing_by_port(void *user)
{
    struct voice *voice = user;
    struct chorus *chorus = voice->chorus;
    for (uint32_t open = 1, round = 0; open > 0; round++) {
        bool progress = false;
        open = 0;
        if (voice->number % 3 == 0)
            weir_port_cork(voice->port);
        for (uint32_t seat = 0; seat < chorus->seats; seat++) {
            if (is_done(voice, seat))
                continue;
            progress = port_send_one(voice, seat) || progress;
            open += !is_done(voice, seat);
        }
        if (voice->number % 3 == 0)
            weir_port_uncork(voice->port);
        if (open > 0 && !progress)
            (void)weir_port_wait(voice->port, MILLISECONDS(20));
        tally_collect(&voice->tally, voice->port);
        if (round % 64 == 63)
            fixture_sleep_ns(chorus->pause_ns);
    }
    tally_settle(&voice->tally, &chorus->hall, voice->port);
    weir_port_stats_get(voice->port, &voice->stats);
    atomic_store(&voice->over, true);
    return NULL;
}

/* --- a thread with own channels --- */

static void collect_ends(struct voice *voice)
{
    weir_port_event event;
    while (weir_port_next(voice->port, &event)) {
        tally_note(&voice->tally, &event);
        if (event.kind != WEIR_PORT_CHANNEL_ENDED)
            continue;
        uint64_t seat = (uint64_t)((uint64_t *)event.user - voice->ended);
        MUST(seat < voice->chorus->seats && event.channel == voice->channels[seat] && voice->ended[seat] == UINT64_MAX);
        voice->ended[seat] = event.messages;
    }
}

static bool open_one(struct voice *voice, uint32_t seat)
{
    weir_channel_options options = {.bytes = 32 * KIB << seat % 2, .user = &voice->ended[seat]};
    uint64_t end_ns = fixture_clock_ns() + 2 * FIXTURE_WAIT_NS;
    for (;;) {
        int result = weir_channel_open(voice->port, voice->chorus->hall.seats[seat].id, &options, &voice->channels[seat]);
        if (result == 0)
            return true;
        if (result == -ESTALE || result == -ESHUTDOWN)
            return false;
        if (result != -EAGAIN || fixture_clock_ns() > end_ns)
            ck_abort_msg("voice %u: a channel to seat %u: %s", voice->number, seat, weir_strerror(result));
        (void)weir_port_wait(voice->port, MILLISECONDS(20));
        collect_ends(voice);
    }
}

static bool channel_send_one(struct voice *voice, uint32_t seat)
{
    uint8_t *data;
    weir_channel *channel = voice->channels[seat];
    uint32_t bytes = compose(voice, seat, &data);
    int result = voice->number % 2 == 0 ? weir_channel_send(channel, data, bytes) : weir_channel_put(channel, data, bytes);
    if (result == 0)
        note_accepted(voice, seat);
    else if (result == -EPIPE)
        voice->dead[seat] = true;
    else if (result != -EAGAIN)
        ck_abort_msg("voice %u, channel to seat %u: %s", voice->number, seat, weir_strerror(result));
    return result == 0;
}

/* Until all its channels are empty or ended: committed = delivered + undelivered for each. */
static void settle_channels(struct voice *voice)
{
    uint64_t end_ns = fixture_clock_ns() + 2 * FIXTURE_WAIT_NS;
    for (uint32_t seat = 0; seat < voice->chorus->seats; seat++) {
        weir_channel_stats stats;
        if (voice->channels[seat] == NULL)
            continue;
        weir_channel_publish(voice->channels[seat]);
        for (;;) {
            collect_ends(voice);
            weir_channel_stats_get(voice->channels[seat], &stats);
            MUST_EQUAL(stats.messages_sent, voice->accepted[seat]);
            if (voice->ended[seat] != UINT64_MAX || (stats.messages_delivered == stats.messages_sent && !voice->dead[seat]))
                break;
            if (fixture_clock_ns() > end_ns)
                ck_abort_msg("voice %u, channel to seat %u%s: of %u messages %u are delivered, and no end is told", voice->number, seat,
                             voice->dead[seat] ? " (gone)" : "", (unsigned)stats.messages_sent, (unsigned)stats.messages_delivered);
            (void)weir_port_wait(voice->port, MILLISECONDS(20));
        }
        uint64_t undelivered = voice->ended[seat] == UINT64_MAX ? 0 : voice->ended[seat];
        if (stats.messages_sent != stats.messages_delivered + undelivered)
            ck_abort_msg("voice %u, channel to seat %u: %u sent, %u delivered, %u undelivered", voice->number, seat,
                         (unsigned)stats.messages_sent, (unsigned)stats.messages_delivered, (unsigned)undelivered);
        voice->delivered += stats.messages_delivered;
    }
}

static void *sing_by_channels(void *user)
{
    struct voice *voice = user;
    struct chorus *chorus = voice->chorus;
    uint32_t seats = chorus->channel_seats != 0 ? chorus->channel_seats : chorus->seats;
    for (uint32_t seat = 0; seat < chorus->seats; seat++)
        voice->dead[seat] = seat >= seats || !open_one(voice, seat);
    for (uint32_t open = 1, round = 0; open > 0; round++) {
        bool progress = false;
        open = 0;
        for (uint32_t seat = 0; seat < seats; seat++) {
            if (is_done(voice, seat))
                continue;
            for (uint32_t burst = 0; burst < 8 && !is_done(voice, seat) && channel_send_one(voice, seat); burst++)
                progress = true;
            if (round % 4 == 3)
                weir_channel_publish(voice->channels[seat]);
            open += !is_done(voice, seat);
        }
        if (open > 0 && !progress)
            (void)weir_port_wait(voice->port, MILLISECONDS(20));
        collect_ends(voice);
        if (round % 64 == 63)
            fixture_sleep_ns(chorus->pause_ns);
    }
    settle_channels(voice);
    tally_settle(&voice->tally, &chorus->hall, voice->port);
    weir_port_stats_get(voice->port, &voice->stats);
    atomic_store(&voice->over, true);
    return NULL;
}

/* --- a shard: functions that it posts to itself --- */

static struct voice *voice_of(const weir_shard *shard)
{
    struct chorus *chorus = hall_of(shard)->user;
    return chorus->shards == 0 ? NULL : &chorus->voices[chorus->ports + chorus->channels + weir_shard_index(shard)];
}

static void sing_on_shard(weir_shard *shard, void *user);

static void sing_later(weir_shard *shard, weir_timer *timer, void *user)
{
    (void)timer;
    sing_on_shard(shard, user);
}

static void ask_again(struct voice *voice, weir_shard *shard, bool soon)
{
    if (!soon || weir_post(weir_shard_port(shard), shard, sing_on_shard, voice) != 0)
        weir_timer_set(shard, &voice->timer, WEIR_MILLISECOND, sing_later, voice);
}

/* All has been sent: waits until its port's sums close. */
static void settle_shard(struct voice *voice, weir_shard *shard)
{
    weir_port_stats_get(weir_shard_port(shard), &voice->stats);
    if (voice->stats.messages_sent == voice->stats.messages_taken + voice->stats.messages_undelivered)
        atomic_store(&voice->over, true);
    else
        weir_timer_set(shard, &voice->timer, WEIR_MILLISECOND, sing_later, voice);
}

static void sing_on_shard(weir_shard *shard, void *user)
{
    struct voice *voice = user;
    struct chorus *chorus = voice->chorus;
    bool progress = false;
    uint32_t open = 0, burst_most = chorus->burst == 0 ? 4 : chorus->burst, first = voice->cursor;
    for (uint32_t i = 0; i < chorus->seats; i++) {
        uint32_t seat = (first + i) % chorus->seats;
        open += !is_done(voice, seat);
        for (uint32_t burst = 0; burst < burst_most && !is_done(voice, seat) && !voice->waiting[seat]; burst++) {
            uint8_t *data;
            uint32_t bytes = compose(voice, seat, &data);
            int result = weir_send_to(shard, chorus->hall.seats[seat].id, data, bytes);
            if (result == 0)
                note_accepted(voice, seat);
            else if (result == -EAGAIN)
                voice->waiting[seat] = true,
                voice->cursor = seat; /* comes first when there is room, or the first ones would take all of it */
            else if (result == -ESTALE || result == -EPIPE || result == -ESHUTDOWN)
                voice->dead[seat] = true;
            else
                ck_abort_msg("shard %u to seat %u: %s", weir_shard_index(shard), seat, weir_strerror(result));
            progress = progress || result == 0;
        }
        if (i >= 64 && progress) { /* enough for one turn */
            voice->cursor = seat + 1;
            open = 1;
            break;
        }
    }
    if (open > 0)
        ask_again(voice, shard, progress);
    else
        settle_shard(voice, shard);
}

static void shard_event(weir_shard *shard, const weir_port_event *event)
{
    struct voice *voice = voice_of(shard);
    tally_note(&voice->tally, event);
    for (uint32_t seat = 0; seat < voice->chorus->seats; seat++) {
        if (event->kind == WEIR_PORT_ROOM ||
            (event->kind == WEIR_PORT_READY && event->id.value == voice->chorus->hall.seats[seat].id.value))
            voice->waiting[seat] = false;
    }
}

static void seat_ready(struct seat *seat, weir_conn *conn)
{
    struct voice *voice = voice_of(weir_conn_shard(conn));
    if (voice != NULL)
        voice->waiting[seat->number] = false;
}

static void seat_gone(struct seat *seat, weir_conn *conn, const weir_close_event *event)
{
    (void)event;
    seat_ready(seat, conn);
}

/* --- all together --- */

void chorus_init(struct chorus *chorus, uint32_t shards)
{
    memset(chorus, 0, sizeof *chorus);
    hall_init(&chorus->hall, shards);
    chorus->hall.user = chorus;
    chorus->hall.own_channels = true;
    chorus->hall.config.on_port_event = shard_event;
    chorus->hall.config.channels = 4096;
    chorus->hall.on_ready = seat_ready;
    chorus->hall.on_close = seat_gone;
}

static void *table(struct chorus *chorus, size_t bytes)
{
    void *memory = calloc(chorus->seats, bytes);
    MUST(memory != NULL);
    return memory;
}

void chorus_open(struct chorus *chorus)
{
    chorus->shards = chorus->shards == 0 ? 0 : chorus->hall.config.shards;
    chorus->voice_count = chorus->ports + chorus->channels + chorus->shards;
    chorus->voices = calloc(chorus->voice_count, sizeof *chorus->voices);
    for (uint32_t i = 0; i < chorus->voice_count; i++) {
        struct voice *voice = &chorus->voices[i];
        voice->number = i;
        voice->chorus = chorus;
        voice->kind = i < chorus->ports ? VOICE_PORT : i < chorus->ports + chorus->channels ? VOICE_CHANNELS : VOICE_SHARD;
        voice->accepted = table(chorus, sizeof *voice->accepted);
        voice->dead = table(chorus, sizeof *voice->dead);
        voice->waiting = table(chorus, sizeof *voice->waiting);
        voice->channels = table(chorus, sizeof *voice->channels);
        voice->ended = table(chorus, sizeof *voice->ended);
        memset(voice->ended, 0xff, chorus->seats * sizeof *voice->ended);
    }
    hall_open_apart(&chorus->hall, chorus->seats);
    audience_open(&chorus->audience, chorus->seats, chorus->voice_count);
    for (uint32_t i = 0; i < chorus->seats; i++) {
        chorus->audience.ears[i].descriptor = chorus->hall.seats[i].visitor;
        chorus->hall.seats[i].visitor = -1;
    }
}

static void start_voices(struct chorus *chorus, weir_port *conductor)
{
    for (uint32_t i = 0; i < chorus->voice_count; i++) {
        struct voice *voice = &chorus->voices[i];
        if (voice->kind == VOICE_SHARD) {
            voice->shard = hall_shard(&chorus->hall, i - chorus->ports - chorus->channels);
            MUST_EQUAL(weir_post(conductor, voice->shard, sing_on_shard, voice), 0);
            continue;
        }
        weir_error error;
        if (weir_port_open(chorus->hall.runtime, &(weir_port_options){.channels = chorus->seats}, &voice->port, &error) != 0)
            ck_abort_msg("a port: %s", error.sentence);
        MUST_EQUAL(pthread_create(&voice->thread, NULL, voice->kind == VOICE_PORT ? sing_by_port : sing_by_channels, voice), 0);
    }
}

static void check_voice(struct chorus *chorus, struct voice *voice)
{
    const weir_port_stats *stats = &voice->stats;
    if (stats->messages_sent != stats->messages_taken + stats->messages_undelivered)
        ck_abort_msg("voice %u: %u sent, %u taken, %u undelivered", voice->number, (unsigned)stats->messages_sent,
                     (unsigned)stats->messages_taken, (unsigned)stats->messages_undelivered);
    MUST_EQUAL(stats->bytes_sent, stats->bytes_taken + stats->bytes_undelivered);
    MUST_EQUAL(stats->messages_undelivered, voice->tally.undelivered_messages);
    MUST_EQUAL(stats->bytes_undelivered, voice->tally.undelivered_bytes);
    if (voice->kind == VOICE_PORT)
        MUST_EQUAL(stats->messages_sent, voice->sent);
    if (voice->kind == VOICE_CHANNELS)
        MUST_EQUAL(stats->messages_sent, 0);
    for (uint32_t seat = 0; seat < chorus->seats; seat++) { /* what one heard was accepted, and of one who heard all, all was */
        uint32_t heard = chorus->audience.ears[seat].next[voice->number];
        if (heard > voice->accepted[seat] || (!chorus->audience.ears[seat].left && !chorus->stopping && heard != voice->accepted[seat]))
            ck_abort_msg("voice %u to seat %u: %u were accepted, %u heard", voice->number, seat, voice->accepted[seat], heard);
    }
}

/* Where every ear heard the end, nothing was lost on the way: what the kernel took has been read. */
static bool nobody_left(const struct chorus *chorus)
{
    for (uint32_t seat = 0; seat < chorus->seats; seat++) {
        if (chorus->audience.ears[seat].left || chorus->audience.ears[seat].error != 0)
            return false;
    }
    return true;
}

void chorus_run(struct chorus *chorus)
{
    weir_port *conductor = hall_port(&chorus->hall);
    audience_start(&chorus->audience);
    start_voices(chorus, conductor);
    if (chorus->stir != NULL)
        chorus->stir(chorus);
    uint64_t end_ns = fixture_clock_ns() + 5 * FIXTURE_WAIT_NS;
    for (uint32_t i = 0; i < chorus->voice_count; i++) {
        struct voice *voice = &chorus->voices[i];
        if (voice->kind == VOICE_SHARD && chorus->stopping)
            continue;
        while (!atomic_load(&voice->over) && fixture_clock_ns() < end_ns)
            fixture_sleep_ns(WEIR_MILLISECOND);
        if (!atomic_load(&voice->over))
            ck_abort_msg("voice %u, a %s, does not come to its end", i,
                         voice->kind == VOICE_PORT    ? "port"
                         : voice->kind == VOICE_SHARD ? "shard"
                                                      : "thread with channels");
        if (voice->kind != VOICE_SHARD)
            MUST_EQUAL(pthread_join(voice->thread, NULL), 0);
    }
    weir_port_close(&conductor);
    if (!chorus->stopping) /* or a shard's blobs come home when it is over already, which only weir_close() sees */
        UNTIL(NULL, hall_stats(&chorus->hall).queued_bytes == 0);
    weir_stop(chorus->hall.runtime);
    audience_finish(&chorus->audience);
    hall_stop(&chorus->hall);
    uint64_t heard = 0, taken = 0, delivered = hall_stats(&chorus->hall).messages_out;
    for (uint32_t i = 0; i < chorus->voice_count; i++) {
        struct voice *voice = &chorus->voices[i];
        heard += audience_heard(&chorus->audience, i);
        if (voice->port != NULL)
            tally_settle(&voice->tally, &chorus->hall, voice->port);
        if (voice->kind != VOICE_SHARD || !chorus->stopping)
            check_voice(chorus, voice);
        taken += voice->stats.messages_taken;
        for (uint32_t seat = 0; seat < chorus->seats; seat++)
            weir_channel_close(&voice->channels[seat]);
        weir_port_close(&voice->port);
    }
    if (!chorus->stopping)
        MUST_EQUAL(taken, hall_stats(&chorus->hall).messages_crossed);
    MUST(heard <= delivered);
    if (nobody_left(chorus))
        MUST_EQUAL(heard, delivered);
}

void chorus_close(struct chorus *chorus)
{
    audience_close(&chorus->audience);
    hall_close(&chorus->hall);
    for (uint32_t i = 0; i < chorus->voice_count; i++) {
        struct voice *voice = &chorus->voices[i];
        free(voice->accepted);
        free(voice->dead);
        free(voice->waiting);
        free(voice->channels);
        free(voice->ended);
    }
    free(chorus->voices);
}
