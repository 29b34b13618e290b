/* SPDX-License-Identifier: MIT */
/* metrics: the statistics as text, in the format that Prometheus reads (prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4). */
#include <weir/runtime.h>
#include <weir/stats.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct metric {
    const char *name;
    size_t offset; /* in weir_stats, of a uint64_t */
    const char *help;
};

#define METRIC(field, help)                                                                                                                \
    {                                                                                                                                      \
#field, offsetof(weir_stats, field), help                                                                                          \
    }

static const struct metric counters[] = {
    METRIC(turns, "Turns taken."),
    METRIC(sleeps, "Times it slept."),
    METRIC(spins_won, "Spins that found work."),
    METRIC(spins_lost, "Spins that found none."),
    METRIC(long_turns, "Turns longer than config.long_turn_ns."),
    METRIC(late_finds, "Work found that nobody had rung for: stays 0."),
    METRIC(accepted, "Connections opened that were accepted."),
    METRIC(adopted, "Connections opened that were adopted."),
    METRIC(dialed, "Connections opened that were dialled."),
    METRIC(dial_failures, "Dials that did not open."),
    METRIC(never_opened, "Accepted, and ended before their handshake was done: late, refused, or only come for a page."),
    METRIC(turned_away, "Accepted and closed again: no slot or no memory."),
    METRIC(accept_pauses, "Times accepting paused: no slot, or no descriptors."),
    METRIC(messages_in, "Messages delivered to handlers."),
    METRIC(bytes_in, "Bytes received."),
    METRIC(messages_sent, "Messages accepted by sends."),
    METRIC(bytes_sent, "Bytes that these came to on the wire."),
    METRIC(messages_out, "Messages taken whole by the kernel."),
    METRIC(bytes_out, "Bytes taken by the kernel."),
    METRIC(messages_undelivered, "Messages accepted and not delivered."),
    METRIC(bytes_undelivered, "Bytes accepted and not delivered."),
    METRIC(sends, "Send operations."),
    METRIC(short_sends, "Send operations that took only a part."),
    METRIC(messages_crossed, "Messages that came through message rings."),
    METRIC(bytes_crossed, "Payload bytes that came through message rings."),
    METRIC(posts_run, "Functions run by weir_post."),
    METRIC(group_messages, "Messages to groups that reached this shard."),
    METRIC(group_refusals, "Members of groups that missed a message."),
    METRIC(refusals, "Sends answered -EAGAIN."),
    METRIC(laters, "WEIR_LATER answers."),
    METRIC(copies_for_lack, "Holds that copied because buffers were short."),
    METRIC(starvations, "Receives that found no buffer and waited for one."),
    METRIC(completion_overflows, "Times the kernel's completion queue ran over."),
    METRIC(allocations, "Calls to the allocator."),
};

static const struct metric gauges[] = {
    METRIC(connections, "Open, or opening, or ending."),
    METRIC(queued_bytes, "Waiting to go out."),
    METRIC(memory_bytes, "Taken of the memory budget."),
    METRIC(memory_peak_bytes, "The most that was ever taken of it."),
};

/* Text that may not fit: `bytes` counts what it would be. */
struct text {
    char *data;
    size_t room_bytes, bytes;
};

static void text_put(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void text_put(struct text *text, const char *format, ...)
{
    va_list arguments;
    size_t left = text->bytes < text->room_bytes ? text->room_bytes - text->bytes : 0;
    va_start(arguments, format);
    text->bytes += (size_t)vsnprintf(left > 0 ? text->data + text->bytes : NULL, left, format, arguments);
    va_end(arguments);
}

static uint64_t metric_of(weir_runtime *runtime, uint32_t shard, const struct metric *metric)
{
    weir_stats stats;
    weir_shard_stats(weir_shard_at(runtime, shard), &stats);
    return *(const uint64_t *)(const void *)((const char *)&stats + metric->offset);
}

static void text_put_metric(struct text *text, weir_runtime *runtime, const struct metric *metric, bool counter)
{
    const char *ending = counter ? "_total" : "";
    text_put(text, "# HELP weir_%s%s %s\n# TYPE weir_%s%s %s\n", metric->name, ending, metric->help, metric->name, ending,
             counter ? "counter" : "gauge");
    for (uint32_t i = 0; i < weir_shard_count(runtime); i++)
        text_put(text, "weir_%s%s{shard=\"%" PRIu32 "\"} %" PRIu64 "\n", metric->name, ending, i, metric_of(runtime, i, metric));
}

static void text_put_ends(struct text *text, weir_runtime *runtime)
{
    text_put(text, "# HELP weir_closed_total Connections ended, by reason.\n# TYPE weir_closed_total counter\n");
    for (uint32_t i = 0; i < weir_shard_count(runtime); i++) {
        weir_stats stats;
        weir_shard_stats(weir_shard_at(runtime, i), &stats);
        for (int reason = WEIR_REASON_NONE + 1; reason < WEIR_REASON_COUNT; reason++)
            text_put(text, "weir_closed_total{shard=\"%" PRIu32 "\",reason=\"%s\"} %" PRIu64 "\n", i, weir_reason_name((weir_reason)reason),
                     stats.closed[reason]);
    }
}

/* The one that belongs to no shard. */
static void text_put_orphaned(struct text *text, const weir_runtime *runtime)
{
    weir_stats stats;
    weir_runtime_stats(runtime, &stats);
    text_put(text,
             "# HELP weir_messages_orphaned_total Messages that came back to ports that were closed.\n"
             "# TYPE weir_messages_orphaned_total counter\nweir_messages_orphaned_total %" PRIu64 "\n",
             stats.messages_orphaned);
}

size_t weir_metrics_text(weir_runtime *runtime, char *text, size_t text_bytes)
{
    struct text put = {.data = text, .room_bytes = text_bytes};
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        text_put_metric(&put, runtime, &counters[i], true);
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        text_put_metric(&put, runtime, &gauges[i], false);
    text_put_ends(&put, runtime);
    text_put_orphaned(&put, runtime);
    return put.bytes;
}
