/* SPDX-License-Identifier: MIT */
/* pinger: a client made of weir itself, one on each shard: dials the echo service by name, sends its messages one after the other, ends its
 * connection when the last answer has come; until then it redials for ever. */
#include <errno.h>
#include <string.h>

#include "tests/sim/run.h"

static struct run *run_of(const weir_conn *conn)
{
    return weir_conn_protocol(conn)->user;
}

static struct run_pinger *pinger_of(const weir_conn *conn)
{
    return &run_of(conn)->pingers[weir_shard_index(weir_conn_shard(conn))];
}

static uint32_t ping_bytes(uint32_t number)
{
    return 8 + number * 331 % 6000;
}

static void fill(uint8_t *payload, uint32_t number)
{
    for (uint32_t i = 0; i < ping_bytes(number); i++)
        payload[i] = (uint8_t)(i * 7 + number);
}

static void ping(weir_conn *conn)
{
    struct run *run = run_of(conn);
    struct run_pinger *pinger = pinger_of(conn);
    uint8_t payload[8192];
    fill(payload, pinger->sent);
    int code = weir_send(conn, payload, ping_bytes(pinger->sent));
    if (code == 0) {
        run->accepted_messages++;
        run->accepted_bytes += run_wire_bytes(weir_conn_protocol(conn), payload, ping_bytes(pinger->sent));
        pinger->sent++;
    } else {
        RUN_CHECK(run, code == -EAGAIN || code == -EPIPE, "a ping: %d (%s)", code, weir_strerror(code));
    }
}

static int on_open(weir_conn *conn)
{
    struct run_pinger *pinger = pinger_of(conn);
    run_note(run_of(conn), "pinger open");
    pinger->opened++;
    pinger->sent = pinger->answered = 0;
    ping(conn);
    return 0;
}

static int on_message(weir_conn *conn, const weir_message *message)
{
    struct run *run = run_of(conn);
    struct run_pinger *pinger = pinger_of(conn);
    uint8_t payload[8192];
    RUN_CHECK(run, !pinger->done, "an answer after the end");
    fill(payload, pinger->answered);
    RUN_CHECK(run,
              pinger->answered < pinger->sent && message->bytes == ping_bytes(pinger->answered) &&
                  memcmp(message->data, payload, message->bytes) == 0,
              "answer %u to a pinger is not what it sent", pinger->answered);
    pinger->answered++;
    if (pinger->answered == run->plan.ping_count) {
        pinger->done = true;
        weir_end(conn);
    } else if (pinger->answered == pinger->sent) {
        ping(conn);
    }
    return WEIR_TAKEN;
}

static void on_ready(weir_conn *conn)
{
    ping(conn);
}

static void on_close(weir_conn *conn, const weir_close_event *event)
{
    struct run *run = run_of(conn);
    struct run_pinger *pinger = pinger_of(conn);
    run_note(run, "pinger close: %s (%d)", weir_reason_name(event->reason), event->error);
    pinger->closed++;
    run->undelivered_messages += event->undelivered_messages;
    run->undelivered_bytes += event->undelivered_bytes;
    RUN_CHECK(run, event->reason != WEIR_REASON_NONE, "a pinger was closed without a reason");
}

void pinger_init(struct run *run)
{
    weir_protocol *protocol = &run->plan.ping;
    protocol->name = "ping";
    protocol->user = run;
    protocol->on_open = on_open;
    protocol->on_message = on_message;
    protocol->on_ready = on_ready;
    protocol->on_close = on_close;
}

void pinger_start(struct run *run, weir_shard *shard)
{
    struct run_pinger *pinger = &run->pingers[weir_shard_index(shard)];
    const weir_dial_options options = {
        .redial = true,
        .timeout_ns = run_magnitude(run, 300 * WEIR_MILLISECOND, 2 * WEIR_SECOND),
        .redial_min_ns = 1 + run_magnitude(run, 1000, 100 * WEIR_MILLISECOND),
        .redial_max_ns = WEIR_SECOND,
    };
    weir_error error;
    if (run->plan.ping_count == 0)
        return;
    int code = weir_dial(shard, "tcp://echo.test:7000", &run->plan.ping, &options, &pinger->dial, &error);
    RUN_CHECK(run, code == 0 || (code == -ENOMEM && run->plan.starve_permille > 0) || (code == -ESHUTDOWN && run_is_ending(run)),
              "dialling: %s", error.sentence);
    pinger->done = code != 0;
}

bool pinger_is_done(const struct run *run)
{
    for (uint32_t i = 0; i < run->plan.shards && run->plan.ping_count > 0; i++)
        if (!run->pingers[i].done)
            return false;
    return true;
}
