/* SPDX-License-Identifier: MIT */
/* sums: what must add up when all shards are over, and when the runtime has been closed. */
#include <inttypes.h>

#include "tests/sim/run.h"

static uint64_t ends_of(const weir_stats *stats)
{
    uint64_t ends = 0;
    for (int i = 0; i < WEIR_REASON_COUNT; i++)
        ends += stats->closed[i];
    return ends;
}

static void check_connections(const struct run *run, const weir_stats *stats)
{
    uint64_t dialed = 0, ended = run->closed + run->never_opened;
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        dialed += run->pingers[i].opened;
        ended += run->pingers[i].closed;
    }
    for (uint32_t i = 0; i < run->plan.caller_count; i++) {
        dialed += run->callers[i].opened;
        ended += run->callers[i].ended;
    }
    RUN_CHECK(run, stats->connections == 0 && stats->queued_bytes == 0, "at the end %" PRIu64 " connections, %" PRIu64 " bytes queued",
              stats->connections, stats->queued_bytes);
    RUN_CHECK(run, stats->memory_bytes == 0, "at the end %" PRIu64 " bytes of memory are taken", stats->memory_bytes);
    RUN_CHECK(run, stats->accepted + run->handed_over == run->opened && stats->dialed == dialed,
              "accepted %" PRIu64 ", adopted %" PRIu64 ", dialed %" PRIu64 "; opened %" PRIu64 " and %" PRIu64, stats->accepted,
              run->handed_over, stats->dialed, run->opened, dialed);
    RUN_CHECK(run, stats->adopted == run->handed_over, "%" PRIu64 " were adopted, %" PRIu64 " of them opened", stats->adopted,
              run->handed_over);

    ended += stats->never_opened;
    RUN_CHECK(run, ends_of(stats) == ended, "%" PRIu64 " ends are counted, %" PRIu64 " were told", ends_of(stats), ended);
}

#define DEFAULT_MEMORY_BYTES (UINT64_C(64) << 20)

/* No shard has taken more than its budget at any time. */
void sums_check_budgets(const struct run *run)
{
    uint64_t budget = w_base_or_default(run->plan.config.memory_bytes, DEFAULT_MEMORY_BYTES);
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        weir_stats stats;
        weir_shard_stats(run->shards[i], &stats);
        RUN_CHECK(run, stats.memory_peak_bytes <= budget, "shard %" PRIu32 " had %" PRIu64 " bytes of memory, and may have %" PRIu64, i,
                  stats.memory_peak_bytes, budget);
    }
}

/* One accepts for all, each shard in turn, and none was full. */
static void check_placement(struct run *run)
{
    uint32_t least = UINT32_MAX, most = 0;
    if (!run->plan.clean || run->plan.listening.placement != WEIR_PLACEMENT_ROUND_ROBIN || run->plan.config.connections < 64 ||
        run->plan.visitor_count > 0 || run->plan.drains || run->plan.kind == RUN_KIND_WEB) /* (not all who are placed open) */
        return;
    for (uint32_t i = 0; i < run->plan.shards; i++) {
        least = run->placed[i] < least ? run->placed[i] : least;
        most = run->placed[i] > most ? run->placed[i] : most;
    }
    RUN_CHECK(run, most - least <= 1, "placed in turn, and one shard got %" PRIu32 " connections, another %" PRIu32, most, least);
    run->feats[RUN_EVENLY] += run->plan.shards > 1;
}

/* All shards are over. */
void sums_check(struct run *run)
{
    const weir_stats *stats = &run->stats;
    check_connections(run, stats);
    bool web = run->plan.kind == RUN_KIND_WEB; /* weir itself says something, also before a connection is open */
    RUN_CHECK(run, web || (stats->messages_sent == run->accepted_messages && stats->bytes_sent == run->accepted_bytes),
              "sent %" PRIu64 " messages, %" PRIu64 " bytes; sends accepted %" PRIu64 " and %" PRIu64, stats->messages_sent,
              stats->bytes_sent, run->accepted_messages, run->accepted_bytes);
    RUN_CHECK(run,
              stats->messages_out + stats->messages_undelivered == stats->messages_sent &&
                  stats->bytes_out + stats->bytes_undelivered == stats->bytes_sent,
              "messages %" PRIu64 " = %" PRIu64 " out + %" PRIu64 " undelivered; bytes %" PRIu64 " = %" PRIu64 " + %" PRIu64,
              stats->messages_sent, stats->messages_out, stats->messages_undelivered, stats->bytes_sent, stats->bytes_out,
              stats->bytes_undelivered);
    RUN_CHECK(run, web || (stats->messages_undelivered == run->undelivered_messages && stats->bytes_undelivered == run->undelivered_bytes),
              "undelivered by statistics %" PRIu64 " messages, %" PRIu64 " bytes; by close events %" PRIu64 " and %" PRIu64,
              stats->messages_undelivered, stats->bytes_undelivered, run->undelivered_messages, run->undelivered_bytes);
    RUN_CHECK(run, stats->late_finds == 0, "%" PRIu64 " late finds", stats->late_finds);
    check_placement(run);
    run->feats[RUN_DRAINED] += run->plan.drains;
    run->feats[RUN_FULL] += stats->accept_pauses > 0;
    for (uint32_t i = 0; i < run->plan.shards; i++)
        run->feats[RUN_REDIALED] += run->pingers[i].closed > 1;
}

/* The runtime is closed: all is home. */
void sums_check_closed(const struct run *run, uint64_t bound)
{
    RUN_CHECK(run, run->conns == NULL && run->opened == run->closed, "opened %" PRIu64 ", closed %" PRIu64, run->opened, run->closed);
    for (uint32_t i = 0; i < run->plan.caller_count; i++)
        RUN_CHECK(run, !run->callers[i].is_open, "caller %u's connection was opened and never closed", i);
    RUN_CHECK(run, run->memory_peak <= bound, "%" PRIu64 " bytes were allocated, the bound is %" PRIu64, run->memory_peak, bound);
    RUN_CHECK(run, run->memory_out == 0, "%" PRIu64 " bytes of the allocator's never came back", run->memory_out);
    uint32_t servers = (run->servers[0] != NULL) + (run->servers[1] != NULL), handles = weir_sim_handles(run->world);
    RUN_CHECK(run, handles == 0, "%u handles were left open (%u servers outside)", handles, servers);
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        client_check((struct run_client *)&run->clients[i]);
}
