/* SPDX-License-Identifier: MIT */
/* cross_sums: what must add up: for each port, for each connection, for each client, for all. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tests/sim/cross.h"

#define OPENED(client) ((client)->opened && !(client)->closed)

/* --- is all quiet? --- */

/* Everything that was accepted for it has come. */
static bool has_all(const struct cross_run *run, const struct cross_client *client)
{
    for (uint32_t i = 0; i < run->producer_count; i++) {
        const struct cross_stream *stream = run->producers[i]->streams[client->index];
        if (stream != NULL && stream->received < stream->count && !run->producers[i]->given_up)
            return false;
    }
    return true;
}

static bool client_is_quiet(const struct cross_run *run, const struct cross_client *client)
{
    weir_conn_stats stats;
    if (client->finished)
        return client->opened == client->closed;
    if (!client->opened || client->closed || client->saw_end || client->shut || client->saw_error || client->written < client->out_bytes)
        return false;
    if (client->manner != CROSS_STAY || weir_conn_stats_get(run->runtime, client->id, &stats) != 0 || stats.queued_bytes > 0)
        return false;
    if (client->partner < 0)
        return client->taken == client->message_count && client->in_messages == stats.messages_out && has_all(run, client);
    const struct cross_client *other = &run->clients[client->partner];
    if (!client->piped || !OPENED(other))
        return false; /* it is about to end */
    return client->protocol == CROSS_RAW ? client->read == other->out_bytes
                                         : client->in_messages == stats.messages_out && has_all(run, client);
}

static bool actor_is_quiet(const struct cross_run *run, const struct cross_actor *actor)
{
    weir_port_stats stats;
    if (actor->busy)
        return false;
    if (actor->port == NULL)
        return true;
    weir_port_stats_get(actor->port, &stats);
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        if (actor->owed_ready[i])
            return false;
    for (uint32_t i = 0; i < run->plan.shards; i++)
        if (actor->owed_room[i])
            return false;
    if (actor->shard < 0 && stats.messages_undelivered != actor->producer->messages_told)
        return false; /* (kept for it, and not yet collected) */
    return !actor->owed_any && stats.messages_sent == stats.messages_taken + stats.messages_undelivered;
}

bool cross_is_quiet(struct cross_run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        if (!client_is_quiet(run, &run->clients[i]))
            return false;
    for (uint32_t i = 0; i < run->plan.shards + run->plan.threads; i++)
        if (!actor_is_quiet(run, &run->actors[i]))
            return false;
    for (const struct cross_post *post = run->posts; post != NULL; post = post->next)
        if (!post->ran)
            return false;
    return cross_channels_are_quiet(run);
}

void cross_tell_state(struct cross_run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++) {
        const struct cross_client *client = &run->clients[i];
        if (client_is_quiet(run, client))
            continue;
        fprintf(stderr,
                "  client %u (manner %d, protocol %u, partner %d): started %d, finished %d, wrote %" PRIu64 " of %" PRIu64 ", read %" PRIu64
                ", end %d, error %d, opened %d, closed %d, piped %d, handled %u of %u, got %" PRIu64 " messages\n",
                i, (int)client->manner, client->protocol, client->partner, client->started, client->finished, client->written,
                client->out_bytes, client->read, client->saw_end, client->saw_error, client->opened, client->closed, client->piped,
                client->taken, client->message_count, client->in_messages);
        for (uint32_t k = 0; k < run->producer_count; k++) {
            const struct cross_stream *stream = run->producers[k]->streams[i];
            if (stream != NULL && stream->received < stream->count)
                fprintf(stderr, "    of producer %u (kind %d) %u of %u, told %u\n", k, (int)run->producers[k]->kind, stream->received,
                        stream->count, stream->told);
        }
    }
    for (uint32_t i = 0; i < run->plan.shards + run->plan.threads; i++) {
        const struct cross_actor *actor = &run->actors[i];
        weir_port_stats stats;
        if (actor_is_quiet(run, actor))
            continue;
        weir_port_stats_get(actor->port, &stats);
        fprintf(stderr, "  actor %u: busy %d, sent %" PRIu64 ", taken %" PRIu64 ", undelivered %" PRIu64 ", owed any %d, READY of", i,
                actor->busy, stats.messages_sent, stats.messages_taken, stats.messages_undelivered, actor->owed_any);
        for (uint32_t k = 0; k < run->plan.client_count; k++)
            if (actor->owed_ready[k])
                fprintf(stderr, " %u (shard %u)", k, run->clients[k].shard);
        fprintf(stderr, ", ROOM of");
        for (uint32_t k = 0; k < run->plan.shards; k++)
            if (actor->owed_room[k])
                fprintf(stderr, " %u", k);
        fprintf(stderr, "\n");
    }
    for (const struct cross_channel *channel = run->channels; channel != NULL; channel = channel->next)
        if (channel->owed)
            fprintf(stderr, "  channel %u to client %u: CHANNEL_ROOM or CHANNEL_ENDED is owed\n", channel->producer->number,
                    channel->client);
    for (const struct cross_post *post = run->posts; post != NULL; post = post->next)
        if (!post->ran && !post->not_run)
            fprintf(stderr, "  function %u of producer %u to shard %u has not run\n", post->number, post->producer->number, post->shard);
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        weir_stats stats;
        weir_shard_stats(run->shards[i], &stats);
        fprintf(stderr,
                "  shard %u: over %d, due in %" PRId64 " ns, stirring %d, readable %d, connections %" PRIu64 ", queued %" PRIu64
                ", memory %" PRIu64 "\n",
                i, run->over[i], (int64_t)(run->due_ns[i] - weir_sim_now_ns(run->world)), weir_sim_stirring(run->world, i),
                weir_sim_readable(run->world, i), stats.connections, stats.queued_bytes, stats.memory_bytes);
    }
}

/* --- ports --- */

static void check_port(struct cross_run *run, const struct cross_actor *actor)
{
    const struct cross_producer *producer = actor->producer;
    weir_port_stats stats;
    weir_port_stats_get(actor->port, &stats);
    bool own = !producer->piping; /* a pipe's messages go through its shard's port */
    CROSS_CHECK(run,
                stats.messages_sent >= producer->messages_sent && stats.bytes_sent >= producer->bytes_sent &&
                    (!own || (stats.messages_sent == producer->messages_sent && stats.bytes_sent == producer->bytes_sent)),
                "actor %u has sent %" PRIu64 " messages, %" PRIu64 " bytes; its port says %" PRIu64 " and %" PRIu64, actor->index,
                producer->messages_sent, producer->bytes_sent, stats.messages_sent, stats.bytes_sent);
    CROSS_CHECK(run,
                stats.messages_sent == stats.messages_taken + stats.messages_undelivered &&
                    stats.bytes_sent == stats.bytes_taken + stats.bytes_undelivered,
                "actor %u: messages %" PRIu64 " = %" PRIu64 " taken + %" PRIu64 " undelivered; bytes %" PRIu64 " = %" PRIu64 " + %" PRIu64,
                actor->index, stats.messages_sent, stats.messages_taken, stats.messages_undelivered, stats.bytes_sent, stats.bytes_taken,
                stats.bytes_undelivered);
    CROSS_CHECK(run, stats.messages_undelivered == producer->messages_told && stats.bytes_undelivered == producer->bytes_told,
                "actor %u: undelivered by statistics %" PRIu64 " messages, %" PRIu64 " bytes; by events %" PRIu64 " and %" PRIu64,
                actor->index, stats.messages_undelivered, stats.bytes_undelivered, producer->messages_told, producer->bytes_told);
    for (uint32_t i = 0; i < run->plan.client_count && actor->shard < 0; i++) {
        const struct cross_stream *stream = producer->streams[i];
        CROSS_CHECK(run, stream == NULL || !OPENED(&run->clients[i]) || stream->too_big == stream->too_big_told,
                    "%u messages to client %u were too big, %u are told so", stream->too_big, i, stream->too_big_told);
    }
}

void cross_check_ports(struct cross_run *run)
{
    for (uint32_t i = 0; i < run->plan.shards + run->plan.threads; i++) {
        struct cross_actor *actor = &run->actors[i];
        if (actor->port == NULL || (actor->shard >= 0 && run->stopping))
            continue;
        if (!actor_is_quiet(run, actor) || !cross_channels_are_quiet(run)) {
            cross_tell_state(run);
            cross_fail(run, "actor %u is owed something, and will not get it", i);
        }
        check_port(run, actor);
    }
    for (const struct cross_post *post = run->posts; post != NULL; post = post->next)
        CROSS_CHECK(
            run, post->ran || post->not_run || (post->producer->closed && run->stopping) || run->actors[post->producer->index].shard >= 0,
            "function %u of producer %u was not run, and nobody was told", post->number, post->producer->number);
}

/* --- all is quiet --- */

/* What all ports together have sent has been taken, came back, or came back to nobody. */
static void check_crossed(struct cross_run *run, const weir_stats *stats)
{
    uint64_t sent = 0, told = 0;
    for (uint32_t i = 0; i < run->producer_count; i++) {
        const struct cross_producer *producer = run->producers[i];
        weir_port_stats port;
        if (producer->kind == CROSS_OF_SHARD) {
            weir_port_stats_get(run->actors[producer->index].port, &port);
            sent += port.messages_sent;
        } else if (producer->kind == CROSS_OF_PORT) {
            sent += producer->messages_sent;
        }
        told += producer->messages_told;
    }
    CROSS_CHECK(run, sent == stats->messages_crossed + told + stats->messages_orphaned,
                "ports sent %" PRIu64 " messages; %" PRIu64 " crossed, %" PRIu64 " came back, %" PRIu64 " came back to nobody", sent,
                stats->messages_crossed, told, stats->messages_orphaned);
}

/* Ports that have been closed are gone: there are numbers for as many as config.ports. */
static void check_numbers(struct cross_run *run)
{
    weir_port *ports[CROSS_THREADS_MAX + 4];
    uint32_t open = 0, count = 0;
    for (uint32_t i = run->plan.shards; i < run->plan.shards + run->plan.threads; i++)
        open += run->actors[i].port != NULL;
    for (; open + count < run->plan.config.ports; count++) {
        int code = weir_port_open(run->runtime, NULL, &ports[count], NULL);
        CROSS_CHECK(run, code == 0, "all is quiet, %u of %u ports are open, and opening one answers %d", open + count,
                    run->plan.config.ports, code);
    }
    while (count > 0)
        weir_port_close(&ports[--count]);
}

/* ... and so are channels: of config.channels as many can be opened as are not open. */
static void check_channels(struct cross_run *run)
{
    weir_channel *opened[64];
    weir_port *port = NULL;
    uint32_t open = 0, count = 0;
    const weir_channel_options options = {.bytes = 4096};
    int target = -1, code = 0;
    for (uint32_t i = run->plan.shards; i < run->plan.shards + run->plan.threads;
         i++) { /* a port that looks gives back what is closed and over */
        run->actors[i].unread = true;
        if (run->actors[i].port != NULL)
            cross_actor_collect(&run->actors[i], UINT32_MAX);
    }
    for (const struct cross_channel *channel = run->channels; channel != NULL; channel = channel->next)
        open += channel->channel != NULL;
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        if (OPENED(&run->clients[i]))
            target = (int)i;
    if (run->plan.config.channels == 0 || target < 0 || weir_port_open(run->runtime, NULL, &port, NULL) != 0)
        return;
    while (open + count < run->plan.config.channels && code == 0) {
        code = weir_channel_open(port, run->clients[target].id, &options, &opened[count]);
        /* A shard that has closed one hears at its next turn that it is over: that may be on its way. */
        CROSS_CHECK(run, code != -ENOSPC || run->feats[CROSS_CHANNEL_OF_SHARD] > 0,
                    "all is quiet, %u of %u channels are open, and there is none for another", open + count, run->plan.config.channels);
        count += code == 0;
    }
    while (count > 0)
        weir_channel_close(&opened[--count]);
    weir_port_close(&port);
}

/* No shard has taken more than its budget at any time. */
static void check_budgets(const struct cross_run *run)
{
    uint64_t budget = w_base_or_default(run->plan.config.memory_bytes, UINT64_C(64) << 20);
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        weir_stats stats;
        weir_shard_stats(run->shards[i], &stats);
        CROSS_CHECK(run, stats.memory_peak_bytes <= budget, "shard %u had %" PRIu64 " bytes of memory, and may have %" PRIu64, i,
                    stats.memory_peak_bytes, budget);
    }
}

void cross_check_quiet(struct cross_run *run)
{
    weir_stats stats;
    weir_runtime_stats(run->runtime, &stats);
    cross_check_ports(run);
    check_numbers(run);
    check_channels(run);
    cross_groups_check(run);
    check_crossed(run, &stats);
    CROSS_CHECK(run, stats.late_finds == 0, "%" PRIu64 " late finds", stats.late_finds);
    CROSS_CHECK(run, stats.queued_bytes == 0 && stats.messages_sent == stats.messages_out + stats.messages_undelivered,
                "all is quiet, and %" PRIu64 " bytes are queued; messages %" PRIu64 " = %" PRIu64 " out + %" PRIu64 " undelivered",
                stats.queued_bytes, stats.messages_sent, stats.messages_out, stats.messages_undelivered);
}

/* --- clients --- */

/* Least and most messages that can have been put into a connection's channels, by what was accepted and told. */
static void bounds_of(const struct cross_run *run, const struct cross_client *client, uint64_t *least, uint64_t *most)
{
    *least = *most = client->group_received;
    for (uint32_t i = 0; i < CROSS_GROUPS_MAX; i++)
        if (run->groups[i].opened && run->groups[i].keeper[client->index] != CROSS_NOBODY)
            *most = UINT32_MAX;
    for (uint32_t i = 0; i < run->producer_count; i++) {
        const struct cross_producer *producer = run->producers[i];
        const struct cross_stream *stream = producer->streams[client->index];
        if (stream == NULL)
            continue;
        bool told_all = producer->kind == CROSS_OF_PORT && !producer->closed;
        *least += (told_all ? stream->count - stream->told : stream->received) - stream->left_out;
        *most += (told_all ? stream->count - stream->told : stream->count) - stream->left_out;
    }
    for (const struct cross_channel *channel = run->channels; channel != NULL; channel = channel->next)
        if (channel->client == client->index && channel->ended) {
            const struct cross_stream *stream = channel->producer->streams[client->index];
            *least += channel->messages_delivered - (stream == NULL ? 0 : stream->received);
            *most -= channel->messages_sent - channel->messages_delivered;
        }
}

static void check_clean(const struct cross_run *run, const struct cross_client *client)
{
    CROSS_CHECK(run, client->finished && client->opened && !client->saw_error,
                "a good day, and client %u: finished %d, opened %d, error %d", client->index, client->finished, client->opened,
                client->saw_error);
    const struct cross_client *other = client->partner < 0 ? client : &run->clients[client->partner];
    if (client->ended_by_handler || other->ended_by_handler) {
        CROSS_CHECK(run, client->event.reason == WEIR_REASON_LOCAL || client->event.reason == WEIR_REASON_PEER,
                    "a good day, and client %u's connection, which was ended, ended: %s", client->index,
                    weir_reason_name(client->event.reason));
        return;
    }
    CROSS_CHECK(run, client->saw_end && client->written == client->out_bytes && client->event.reason == WEIR_REASON_PEER,
                "a good day, and client %u saw the end %d, wrote %" PRIu64 " of %" PRIu64 ", its connection ended: %s", client->index,
                client->saw_end, client->written, client->out_bytes, weir_reason_name(client->event.reason));
    CROSS_CHECK(run, client->partner < 0 || client->protocol != CROSS_RAW || client->read == run->clients[client->partner].out_bytes,
                "a good day, and client %u read %" PRIu64 " bytes of its pipe", client->index, client->read);
}

/* Something has come to it through its pipe. (Its other end may have ended before its shard heard of the pipe: then it never was one.) */
static bool was_in_pipe(const struct cross_run *run, const struct cross_client *client)
{
    const struct cross_stream *stream = run->clients[client->partner].producer->streams[client->index];
    return client->protocol == CROSS_RAW ? client->read > 0 : stream != NULL && stream->received > stream->left_out;
}

/* One end of a pipe was reset: the other is aborted, and its peer sees no clean end; unless it was on its way already. */
static void check_torn(struct cross_run *run, const struct cross_client *client)
{
    const struct cross_client *other = &run->clients[client->partner];
    bool torn = client->event.reason == WEIR_REASON_RESET && client->manner == CROSS_RESET && client->torn;
    bool shut_before = other->shut && other->shut_ns <= client->closed_ns;
    bool alone = (was_in_pipe(run, client) || was_in_pipe(run, other)) && !other->torn && !shut_before && !other->ended_by_handler &&
                 !client->ended_by_handler;
    if (!client->piped || !torn || !alone || client->closed_ns >= run->stopped_ns || other->closed_ns >= run->stopped_ns ||
        other->closed_ns < client->closed_ns)
        return;
    run->feats[CROSS_PIPE_RESET]++;
    CROSS_CHECK(run, other->event.reason != WEIR_REASON_LOCAL && other->event.reason != WEIR_REASON_PEER,
                "client %u has reset its connection, and that of client %u, at the other end of the pipe, ended: %s", client->index,
                other->index, weir_reason_name(other->event.reason));
    CROSS_CHECK(run, other->event.reason != WEIR_REASON_ABORTED || !other->saw_end,
                "client %u has reset its connection, and client %u, at the other end of the pipe, saw a clean end", client->index,
                other->index);
}

/* Both ends of a pipe ended well: all has come. */
static void check_pipe(const struct cross_run *run, const struct cross_client *client)
{
    const struct cross_client *other = &run->clients[client->partner];
    bool well = client->event.reason == WEIR_REASON_PEER && other->event.reason == WEIR_REASON_PEER && client->saw_end && other->saw_end &&
                client->shut && other->shut && client->event.undelivered_bytes == 0;
    if (!client->piped || !well || client->ended_by_handler || other->ended_by_handler || run->stopped_ns < run->left_ns)
        return;
    if (client->protocol == CROSS_RAW) {
        CROSS_CHECK(run, client->read == other->written,
                    "client %u read %" PRIu64 " bytes of %" PRIu64 " through its pipe, which ended well", client->index, client->read,
                    other->written);
        return;
    }
    const struct cross_stream *stream = other->producer->streams[client->index];
    CROSS_CHECK(run, stream == NULL || other->written < other->out_bytes || stream->received == stream->count,
                "client %u got %u messages of %u through its pipe, which ended well", client->index, stream->received, stream->count);
}

/* weir_port_end: all that the port had sent before has come, if the end came to its end. */
static void check_ended(struct cross_run *run, const struct cross_client *client)
{
    for (uint32_t i = 0; i < run->producer_count; i++) {
        const struct cross_stream *stream = run->producers[i]->streams[client->index];
        if (stream == NULL || stream->ended_at == UINT32_MAX || client->event.reason != WEIR_REASON_LOCAL || !client->saw_end)
            continue;
        bool alone = client->event.undelivered_messages == 0 && client->partner < 0 && run->producers[i]->kind == CROSS_OF_PORT &&
                     !run->producers[i]->closed && stream->told == 0;
        CROSS_CHECK(run, !alone || stream->received >= stream->ended_at, "producer %u ended client %u behind %u messages, and it got %u", i,
                    client->index, stream->ended_at, stream->received);
        run->feats[CROSS_PORT_ENDED]++;
    }
}

static void check_client(struct cross_run *run, const struct cross_client *client)
{
    bool cut_short = run->broken || run->plan.cut_ns != UINT64_MAX || run->plan.stop_ns != UINT64_MAX;
    CROSS_CHECK(run, client->finished || cut_short, "client %u never came to its end", client->index);
    CROSS_CHECK(run, client->opened == client->closed, "client %u's connection was opened and never closed", client->index);
    if (run->plan.clean)
        check_clean(run, client);
    if (!client->opened || run->broken)
        return; /* what the kernel took last, nobody was told */
    CROSS_CHECK(run, client->read <= client->conn_bytes_out && (!client->saw_end || client->read == client->conn_bytes_out),
                "client %u read %" PRIu64 " bytes%s; weir says %" PRIu64 " have gone out", client->index, client->read,
                client->saw_end ? " and the end" : "", client->conn_bytes_out);
    if (client->partner >= 0) {
        check_pipe(run, client);
        check_torn(run, client);
    }
    if (client->protocol == CROSS_RAW)
        return;
    CROSS_CHECK(run, client->in_messages <= client->messages_out && (!client->saw_end || client->in_messages == client->messages_out),
                "client %u got %" PRIu64 " messages%s; weir says %" PRIu64 " have gone out", client->index, client->in_messages,
                client->saw_end ? " and the end" : "", client->messages_out);
    uint64_t least, most, put = client->messages_out + client->event.undelivered_messages;
    bounds_of(run, client, &least, &most);
    CROSS_CHECK(run, least <= put && put <= most,
                "client %u: %" PRIu64 " messages have gone out, %" PRIu64 " are told undelivered; %" PRIu64 " to %" PRIu64 " were accepted",
                client->index, client->messages_out, client->event.undelivered_messages, least, most);
    check_ended(run, client);
}

void cross_check_clients(struct cross_run *run)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        check_client(run, &run->clients[i]);
    if (!run->broken)
        cross_channels_check(run);
}

/* --- the end --- */

/* All shards are over, and the ports of the foreign threads are closed. */
void cross_check_end(struct cross_run *run)
{
    const weir_stats *stats = &run->stats;
    uint64_t closed = 0;
    check_budgets(run);
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        closed += stats->closed[i];
    CROSS_CHECK(run, stats->connections == 0 && stats->queued_bytes == 0, "at the end %" PRIu64 " connections, %" PRIu64 " bytes queued",
                stats->connections, stats->queued_bytes);
    CROSS_CHECK(run, run->plan.stop_ns != UINT64_MAX || stats->memory_bytes == 0, "at the end %" PRIu64 " bytes of memory are taken",
                stats->memory_bytes);
    CROSS_CHECK(run, stats->accepted == run->opened && closed == run->closed,
                "accepted %" PRIu64 ", opened %" PRIu64 "; ended %" PRIu64 ", closed %" PRIu64, stats->accepted, run->opened, closed,
                run->closed);
    CROSS_CHECK(run,
                stats->messages_out + stats->messages_undelivered == stats->messages_sent &&
                    stats->bytes_out + stats->bytes_undelivered == stats->bytes_sent,
                "messages %" PRIu64 " = %" PRIu64 " out + %" PRIu64 " undelivered; bytes %" PRIu64 " = %" PRIu64 " + %" PRIu64,
                stats->messages_sent, stats->messages_out, stats->messages_undelivered, stats->bytes_sent, stats->bytes_out,
                stats->bytes_undelivered);
    CROSS_CHECK(run, stats->messages_undelivered >= run->undelivered_messages && stats->bytes_undelivered >= run->undelivered_bytes,
                "undelivered by statistics %" PRIu64 " messages, %" PRIu64 " bytes; by close events %" PRIu64 " and %" PRIu64,
                stats->messages_undelivered, stats->bytes_undelivered, run->undelivered_messages, run->undelivered_bytes);
    CROSS_CHECK(run, stats->late_finds == 0, "%" PRIu64 " late finds", stats->late_finds);
    run->feats[CROSS_ORPHANED] += stats->messages_orphaned > 0;
    if (run->plan.stop_ns == UINT64_MAX)
        check_crossed(run, stats);
}
