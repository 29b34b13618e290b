/* SPDX-License-Identifier: MIT */
/* cross_channel: own channels of actors: opened to any connection, filled in each of the ways there are, waited for, closed in mid-stream. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/cross.h"

/* --- open and close --- */

static void open_one(struct cross_actor *actor, uint32_t place)
{
    struct cross_run *run = actor->run;
    int index = cross_act_choose_client(actor);
    if (index < 0)
        return;
    struct cross_client *client = &run->clients[index];
    struct cross_channel *channel = calloc(1, sizeof *channel);
    CROSS_CHECK(run, channel != NULL, "no memory for a channel");
    *channel = (struct cross_channel){.next = run->channels, .actor = actor, .client = (uint32_t)index};
    run->channels = channel;
    channel->ring_bytes = cross_one_of(run, 4) ? 65536 : UINT32_C(4096) << cross_below(run, 4);
    const weir_channel_options options = {.bytes = channel->ring_bytes == 65536 ? 0 : channel->ring_bytes, .user = channel};
    int code = weir_channel_open(actor->port, client->id, &options, &channel->channel);
    cross_note(run, "actor %u opens a channel of %u bytes to client %d: %d", actor->index, channel->ring_bytes, index, code);
    CROSS_CHECK(run, (code == 0) == (channel->channel != NULL), "opening a channel answers %d and %p", code, (void *)channel->channel);
    if (code == -ENOSPC)
        return;
    cross_actor_check_code(actor, "opening a channel", code, index, (int)client->shard);
    if (code == -EAGAIN)
        cross_actor_owe(actor, -1, (int)client->shard);
    if (code != 0)
        return;
    channel->producer = cross_producer_make(run, CROSS_OF_CHANNEL, actor->index);
    actor->channels[place] = channel;
    run->feats[CROSS_CHANNEL_OF_SHARD] += actor->shard >= 0;
    CROSS_CHECK(run, weir_channel_id(channel->channel).value == client->id.value && weir_channel_user(channel->channel) == channel,
                "a channel does not know whose it is");
}

void cross_channel_forget(struct cross_channel *channel)
{
    struct cross_run *run = channel->actor->run;
    weir_channel_stats stats;
    weir_channel_stats_get(channel->channel, &stats);
    CROSS_CHECK(run, stats.messages_sent == channel->messages_sent && stats.bytes_sent == channel->bytes_sent,
                "channel %u has accepted %llu messages, %llu bytes, and says %llu and %llu", channel->producer->number,
                (unsigned long long)channel->messages_sent, (unsigned long long)channel->bytes_sent,
                (unsigned long long)stats.messages_sent, (unsigned long long)stats.bytes_sent);
    if (!channel->ended)
        channel->early = true;
    if (cross_is_lean(run)) /* it may never have been attached */
        channel->producer->given_up = true;
    if (stats.messages_delivered < stats.messages_sent && !channel->ended)
        run->feats[CROSS_CHANNEL_CLOSED_EARLY]++;
    cross_note(run, "channel %u closed: %llu sent, %llu delivered", channel->producer->number, (unsigned long long)stats.messages_sent,
               (unsigned long long)stats.messages_delivered);
    channel->owed = false;
    channel->channel = NULL;
    for (uint32_t i = 0; i < CROSS_CHANNELS_MAX; i++)
        if (channel->actor->channels[i] == channel)
            channel->actor->channels[i] = NULL;
}

void cross_channel_close(struct cross_channel *channel)
{
    weir_channel *closing = channel->channel;
    cross_channel_forget(channel);
    weir_channel_close(&closing);
    CROSS_CHECK(channel->actor->run, closing == NULL, "weir_channel_close left its pointer");
}

void cross_channel_close_all(struct cross_actor *actor)
{
    for (uint32_t i = 0; i < CROSS_CHANNELS_MAX; i++)
        if (actor->channels[i] != NULL)
            cross_channel_close(actor->channels[i]);
}

/* --- filling it --- */

static uint32_t wire_bytes(const weir_codec *codec, const uint8_t *data, uint32_t bytes)
{
    weir_seal seal;
    return codec->seal(codec, data, bytes, &seal) == 0 ? seal.head_bytes + bytes + seal.trailer_bytes : 0;
}

static void took(struct cross_channel *channel, const struct cross_head *head, const uint8_t *data)
{
    struct cross_run *run = channel->actor->run;
    const weir_codec *codec = &run->plan.protocols[run->clients[channel->client].protocol].codec;
    cross_accepted(run, channel->producer, channel->client, head->order, head->bytes);
    channel->messages_sent++;
    channel->bytes_sent += wire_bytes(codec, data, head->bytes);
}

static void check_code(struct cross_channel *channel, int code, bool fits)
{
    struct cross_run *run = channel->actor->run;
    bool living = cross_client_lives(&run->clients[channel->client]);
    CROSS_CHECK(run, (code == 0 && fits) || (code == -EAGAIN && fits) || (code == -EPIPE && !living) || (code == -EMSGSIZE && !fits),
                "a channel to client %u answers %d (%s)", channel->client, code, weir_strerror(code));
    if (code == -EPIPE)
        channel->producer->given_up = true;
    if (code == -EAGAIN)
        channel->owed = true, channel->refusals++;
    if (code == -EAGAIN)
        CROSS_CHECK(run, !channel->ended, "a channel that has ended answers -EAGAIN");
}

static int put_one(struct cross_channel *channel, bool publishes)
{
    struct cross_run *run = channel->actor->run;
    const weir_codec *codec = &run->plan.protocols[run->clients[channel->client].protocol].codec;
    uint8_t data[CROSS_PAYLOAD_MAX];
    uint32_t least = sizeof(struct cross_head),
             most = channel->ring_bytes / 2 < CROSS_PAYLOAD_MAX ? channel->ring_bytes / 2 : CROSS_PAYLOAD_MAX;
    uint32_t bytes = (uint32_t)(cross_one_of(run, 8) ? least + cross_below(run, most - least + 1) : cross_magnitude(run, least, most));
    struct cross_head head = {.producer = channel->producer->number, .order = ++channel->producer->order, .bytes = bytes};
    cross_message_make(&head, data);
    int code = publishes ? weir_channel_send(channel->channel, data, bytes) : weir_channel_put(channel->channel, data, bytes);
    cross_note(run, "channel %u %s message %u, %u bytes: %d", channel->producer->number, publishes ? "sends" : "puts", head.order, bytes,
               code);
    check_code(channel, code, bytes <= run->plan.payload_max && wire_bytes(codec, data, bytes) <= channel->ring_bytes / 2);
    if (code == 0)
        took(channel, &head, data);
    return code;
}

/* Reserves, and commits less, all, or not at all. */
static int reserve_one(struct cross_channel *channel)
{
    struct cross_run *run = channel->actor->run;
    const weir_codec *codec = &run->plan.protocols[run->clients[channel->client].protocol].codec;
    uint32_t least = sizeof(struct cross_head), bytes = (uint32_t)cross_magnitude(run, least, channel->ring_bytes / 2);
    weir_room room;
    bool fits = bytes <= run->plan.payload_max && codec->head_max_bytes + bytes + codec->trailer_max_bytes <= channel->ring_bytes / 2;
    int code = weir_channel_reserve(channel->channel, bytes, &room);
    check_code(channel, code, fits);
    if (code != 0)
        return code;
    CROSS_CHECK(run, room.bytes >= bytes, "a reserve of %u bytes gives %u", bytes, room.bytes);
    if (cross_one_of(run, 8)) { /* given up */
        memset(room.data, 0xee, room.bytes);
        return 0;
    }
    struct cross_head head = {.producer = channel->producer->number,
                              .order = ++channel->producer->order,
                              .bytes = cross_one_of(run, 2) ? bytes : least + (uint32_t)cross_below(run, bytes - least + 1)};
    uint8_t data[CROSS_PAYLOAD_MAX];
    cross_message_make(&head, data);
    memcpy(room.data, data, head.bytes);
    code = weir_channel_commit(channel->channel, head.bytes);
    cross_note(run, "channel %u commits message %u, %u of %u bytes: %d", channel->producer->number, head.order, head.bytes, bytes, code);
    CROSS_CHECK(run, code == 0, "a commit answers %d", code);
    CROSS_CHECK(run, weir_channel_commit(channel->channel, 0) == -EINVAL, "a second commit is not refused");
    took(channel, &head, data);
    return 0;
}

static void wait_for_room(struct cross_channel *channel)
{
    struct cross_run *run = channel->actor->run;
    struct cross_actor *actor = channel->actor;
    uint64_t timeout_ns = run->sleeping || cross_one_of(run, 2) ? 0 : cross_magnitude(run, WEIR_MICROSECOND, 20 * WEIR_MILLISECOND);
    uint64_t now_ns = weir_sim_now_ns(run->world);
    actor->busy = true;
    int code = weir_channel_wait(channel->channel, timeout_ns);
    actor->busy = false;
    actor->unread = true;
    cross_note(run, "channel %u has waited for room: %d", channel->producer->number, code);
    CROSS_CHECK(run, actor->shard < 0 ? code == 0 || code == -ETIMEDOUT || code == -ENOBUFS : code == -EDEADLK,
                "weir_channel_wait answers %d", code);
    if (code == -ETIMEDOUT)
        CROSS_CHECK(run, weir_sim_now_ns(run->world) >= now_ns + timeout_ns, "weir_channel_wait gave up early");
    if (code == 0)
        channel->owed = false; /* it has been told */
}

void cross_channel_act(struct cross_actor *actor)
{
    struct cross_run *run = actor->run;
    uint32_t place = (uint32_t)cross_below(run, CROSS_CHANNELS_MAX), burst = 1 + (uint32_t)cross_magnitude(run, 0, 30);
    struct cross_channel *channel = actor->channels[place];
    if (channel == NULL) {
        open_one(actor, place);
        return;
    }
    switch (cross_below(run, 8)) {
    case 0:
        if (cross_one_of(run, 3))
            cross_channel_close(channel);
        return;
    case 1:
        wait_for_room(channel);
        return;
    case 2:
    case 3:
        while (burst-- > 0 && reserve_one(channel) == 0)
            ;
        return;
    case 4:
    case 5:
        while (burst-- > 0 && put_one(channel, false) == 0)
            ;
        if (cross_one_of(run, 2))
            weir_channel_publish(channel->channel);
        return;
    default:
        while (burst-- > 0 && put_one(channel, true) == 0)
            ;
    }
}

void cross_channel_publish_all(struct cross_actor *actor)
{
    for (uint32_t i = 0; i < CROSS_CHANNELS_MAX; i++)
        if (actor->channels[i] != NULL)
            weir_channel_publish(actor->channels[i]->channel);
}

/* --- what comes back --- */

static void hear_ended(struct cross_channel *channel, const weir_port_event *event)
{
    struct cross_run *run = channel->actor->run;
    const struct cross_client *client = &run->clients[channel->client];
    weir_channel_stats stats;
    weir_channel_stats_get(channel->channel, &stats);
    CROSS_CHECK(run, !channel->ended, "the end of channel %u is told twice", channel->producer->number);
    CROSS_CHECK(
        run, stats.messages_sent == stats.messages_delivered + event->messages && stats.bytes_sent == stats.bytes_delivered + event->bytes,
        "channel %u: %llu messages, %llu bytes sent; %llu and %llu delivered; %llu and %llu told undelivered", channel->producer->number,
        (unsigned long long)stats.messages_sent, (unsigned long long)stats.bytes_sent, (unsigned long long)stats.messages_delivered,
        (unsigned long long)stats.bytes_delivered, (unsigned long long)event->messages, (unsigned long long)event->bytes);
    /* Before its shard had heard of it; or as its connection was ending gracefully, which may have been stopped by something else since. */
    bool early = event->reason == WEIR_REASON_NONE || event->reason == WEIR_REASON_NO_MEMORY || event->reason == WEIR_REASON_LOCAL ||
                 event->reason == WEIR_REASON_STOPPED;
    CROSS_CHECK(run, event->messages == 0 || early || !client->closed || event->reason == client->event.reason,
                "channel %u ended: %s; its connection: %s", channel->producer->number, weir_reason_name(event->reason),
                weir_reason_name(client->event.reason));
    CROSS_CHECK(run, event->reason != WEIR_REASON_NONE || stats.messages_delivered == 0, "nobody had heard of channel %u, and it delivered",
                channel->producer->number);
    channel->ended = channel->producer->given_up = true;
    channel->messages_delivered = stats.messages_delivered;
    channel->bytes_delivered = stats.bytes_delivered;
    run->feats[CROSS_CHANNEL_ENDED]++;
    if (cross_below(run, 4) != 0)
        cross_channel_close(channel);
}

void cross_channel_hear(struct cross_actor *actor, const weir_port_event *event)
{
    struct cross_run *run = actor->run;
    struct cross_channel *channel = event->user;
    CROSS_CHECK(run, channel->channel != NULL && channel->channel == event->channel && channel->actor == actor,
                "an event of channel %u, which has been closed", channel->producer->number);
    CROSS_CHECK(run, event->id.value == run->clients[channel->client].id.value, "an event of channel %u with another's id",
                channel->producer->number);
    channel->owed = false;
    if (event->kind == WEIR_PORT_CHANNEL_ENDED) {
        uint32_t place = 0;
        while (actor->channels[place] != channel)
            place++;
        hear_ended(channel, event);
        if (actor->channels[place] == NULL && !run->calm && !run->stopping && cross_one_of(run, 2))
            open_one(actor, place); /* at once another one, from inside the event */
        return;
    }
    channel->rooms++;
    CROSS_CHECK(run, channel->rooms <= channel->refusals, "CHANNEL_ROOM of channel %u for the %uth time, which has refused %u times",
                channel->producer->number, channel->rooms, channel->refusals);
    run->feats[CROSS_CHANNEL_ROOM]++;
    if (!run->calm && cross_one_of(run, 2))
        put_one(channel, true);
}

/* --- at the end --- */

bool cross_channels_are_quiet(const struct cross_run *run)
{
    for (const struct cross_channel *channel = run->channels; channel != NULL; channel = channel->next)
        if (channel->owed && (channel->actor->shard < 0 || !run->stopping))
            return false;
    return true;
}

/* Who has seen the end has got what was delivered; nobody gets more. */
void cross_channels_check(const struct cross_run *run)
{
    for (const struct cross_channel *channel = run->channels; channel != NULL; channel = channel->next) {
        if (channel->producer == NULL || !channel->ended)
            continue;
        const struct cross_client *client = &run->clients[channel->client];
        const struct cross_stream *stream = channel->producer->streams[channel->client];
        uint32_t received = stream == NULL ? 0 : stream->received;
        CROSS_CHECK(run, received <= channel->messages_delivered, "client %u got %u messages of channel %u, which delivered %llu",
                    client->index, received, channel->producer->number, (unsigned long long)channel->messages_delivered);
        CROSS_CHECK(run, !client->saw_end || received == channel->messages_delivered,
                    "client %u got %u messages of channel %u and the end; it delivered %llu", client->index, received,
                    channel->producer->number, (unsigned long long)channel->messages_delivered);
    }
}
