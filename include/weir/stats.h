/* SPDX-License-Identifier: MIT */
/* weir/stats.h: what is going on, in numbers. Readable from any thread at any time, without a lock: each number is exact by itself, and
 * numbers read together may be some operations apart. Counters only grow. */
#ifndef WEIR_STATS_H
#define WEIR_STATS_H

#include <weir/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weir_stats {
    uint64_t turns;                     /* turns taken */
    uint64_t sleeps;                    /* times it slept */
    uint64_t spins_won, spins_lost;     /* spins that found work, that did not */
    uint64_t long_turns;                /* turns longer than config.long_turn_ns */
    uint64_t late_finds;                /* work found that nobody had rung for: stays 0 */
    uint64_t accepted, adopted, dialed; /* connections opened, by where they came from */
    uint64_t dial_failures;             /* attempts that did not open */
    uint64_t never_opened;              /* accepted, and ended before their handshake was done: late, refused, or only come for a page */
    uint64_t turned_away;               /* accepted and closed again: no slot or no memory */
    uint64_t accept_pauses;             /* times accepting paused: no slot, or no descriptors (EMFILE) */
    uint64_t closed[WEIR_REASON_COUNT]; /* ends, by reason */
    uint64_t messages_in, bytes_in;     /* messages delivered to handlers; bytes received */
    uint64_t messages_sent, bytes_sent; /* messages accepted by sends; bytes they came to on the wire */
    uint64_t messages_out, bytes_out;   /* messages and bytes taken whole by the kernel */
    uint64_t messages_undelivered, bytes_undelivered; /* told in close events and to own channels: sent = out + undelivered + queued */
    uint64_t sends;                                   /* send operations: messages_out / sends is the mean batch */
    uint64_t short_sends;                             /* of them, those that took only a part */
    uint64_t messages_crossed, bytes_crossed;         /* of messages_sent, those that came through message rings, payload bytes */
    uint64_t messages_orphaned;                       /* came back to ports that were closed */
    uint64_t posts_run;                               /* functions run by weir_post */
    uint64_t group_messages;                          /* messages to groups that reached this shard */
    uint64_t group_refusals;                          /* members that missed one */
    uint64_t refusals;                                /* sends answered -EAGAIN */
    uint64_t laters;                                  /* WEIR_LATER answers */
    uint64_t copies_for_lack;                         /* holds that copied because buffers were short */
    uint64_t starvations;                             /* receives that found no buffer and waited for one */
    uint64_t completion_overflows;                    /* the kernel's completion queue ran over (nothing is lost) */
    uint64_t allocations;                             /* calls to the allocator */
    /* Now, not counters. */
    uint64_t connections;  /* open, or opening, or ending */
    uint64_t queued_bytes; /* waiting to go out */
    uint64_t memory_bytes; /* taken of config.memory_bytes */
    uint64_t memory_peak_bytes;
} weir_stats;

/* The sum over all shards. */
void weir_runtime_stats(const weir_runtime *runtime, weir_stats *stats);
void weir_shard_stats(const weir_shard *shard, weir_stats *stats);

/* All of it as text in the format that Prometheus reads (version 0.0.4): "weir_messages_in_total{shard=\"0\"} 4711", a line for each shard. Writes what fits, always
 * ended (when text_bytes is not 0), and answers the bytes that all of it has: some 6 KiB and 3 KiB for each shard. Any thread. Its Content-Type: */
#define WEIR_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
size_t weir_metrics_text(weir_runtime *runtime, char *text, size_t text_bytes);

typedef struct weir_conn_stats {
    uint64_t messages_in, bytes_in;
    uint64_t messages_out, bytes_out;
    uint64_t sends;
    uint64_t refusals;
    uint64_t queued_bytes;
    uint64_t queued_age_ns; /* how long the oldest of them have been waiting: since the queue was last empty, or last got shorter */
} weir_conn_stats;

/* 0, or -ESTALE when the connection has ended. Any thread. */
int weir_conn_stats_get(weir_runtime *runtime, weir_id id, weir_conn_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
