/* SPDX-License-Identifier: MIT */
/* client: a client outside weir. Its script runs in steps, each some time after the last; what comes back is compared at once: it has to be,
 * byte for byte, the beginning of what was written. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "runtime/io/address.h"
#include "tests/sim/run.h"

static void finish(struct run_client *client, bool reset)
{
    run_note(client->run, "client %u leaves%s: wrote %llu of %llu, read %llu%s%s", client->index, reset ? " with a reset" : "",
             (unsigned long long)client->written, (unsigned long long)client->stream_bytes, (unsigned long long)client->read,
             client->saw_end ? ", end" : "", client->saw_error ? ", error" : "");
    if (reset)
        weir_sim_peer_reset(&client->peer);
    else
        weir_sim_peer_close(&client->peer);
    client->finished = true;
}

static uint64_t to_write(const struct run_client *client)
{
    bool partly = client->manner == RUN_TRUNCATE || client->manner == RUN_CLOSE || client->manner == RUN_RESET;
    return partly ? client->leave_bytes : client->stream_bytes;
}

#define IDLE_NS_MAX (16 * WEIR_MILLISECOND) /* who finds nothing to do comes less and less often */

static void write_some(struct run_client *client)
{
    uint64_t rest = to_write(client) - client->written;
    if (rest == 0)
        return;
    uint64_t piece = 1 + run_below(client->run, client->write_max_bytes);
    int64_t count = weir_sim_peer_write(client->peer, client->stream + client->written, piece < rest ? piece : rest);
    if (count > 0)
        client->written += (uint64_t)count;
}

static void read_some(struct run_client *client)
{
    static uint8_t data[65536];
    struct run *run = client->run;
    if (client->saw_end || client->saw_error || weir_sim_now_ns(run->world) < WEIR_SECOND + client->deaf_ns)
        return;
    uint64_t piece = 1 + run_below(run, client->read_max_bytes);
    int64_t count = weir_sim_peer_read(client->peer, data, piece);
    if (count > 0 && run->plan.kind == RUN_KIND_WEB) {
        web_hear(client, data, (uint64_t)count);
    } else if (count > 0) {
        uint64_t most = client->written < client->answers_bytes ? client->written : client->answers_bytes;
        RUN_CHECK(run, client->read + (uint64_t)count <= most, "client %u got more bytes back than it wrote", client->index);
        RUN_CHECK(run, memcmp(data, client->answers + client->read, (size_t)count) == 0,
                  "client %u got something else back than it wrote, within bytes %llu to %llu", client->index,
                  (unsigned long long)client->read, (unsigned long long)(client->read + (uint64_t)count));
        client->read += (uint64_t)count;
    }
    client->saw_end = count == 0;
    client->saw_error = count < 0 && count != -EAGAIN;
}

/* Once it has nothing more to write. */
static void leave(struct run_client *client)
{
    /* A pong or a Close may still come, and who closes with something unread resets. */
    bool listens_on = client->manner == RUN_POLITE && client->run->plan.kind == RUN_KIND_WEB;
    switch (listens_on ? RUN_HALF_CLOSE : client->manner) {
    case RUN_POLITE:
        if (client->read == client->answers_bytes || client->saw_end || client->saw_error)
            finish(client, false);
        break;
    case RUN_HALF_CLOSE:
    case RUN_TRUNCATE:
        if (!client->shut)
            weir_sim_peer_shutdown(client->peer);
        client->shut = true;
        if (client->saw_end || client->saw_error)
            finish(client, false);
        break;
    case RUN_SPOIL:
        if (client->saw_end || client->saw_error)
            finish(client, false);
        break;
    case RUN_CLOSE:
        finish(client, false);
        break;
    case RUN_RESET:
        finish(client, true);
        break;
    case RUN_MANNERS:
        break;
    }
}

static void act(struct weir_sim_world *world, void *user)
{
    struct run_client *client = user;
    struct run *run = client->run;
    uint64_t moved = 0;
    if (!client->started) {
        client->started = true;
        client->peer = weir_sim_peer_connect(world, &run->address);
        weir_sim_peer_address(client->peer, &client->address);
    }
    switch (weir_sim_peer_state(client->peer)) {
    case WEIR_SIM_PEER_CONNECTING:
        break;
    case WEIR_SIM_PEER_FAILED:
        client->saw_error = true;
        finish(client, false);
        return;
    case WEIR_SIM_PEER_OPEN:
    case WEIR_SIM_PEER_DEAD:
        moved = client->written + client->read + client->others_read;
        write_some(client);
        read_some(client);
        if (client->saw_error || (client->saw_end && weir_sim_peer_state(client->peer) == WEIR_SIM_PEER_DEAD))
            finish(client, false);
        else if (client->written == to_write(client) || (client->saw_end && run_below(run, 4) == 0))
            leave(client);
        break;
    }
    bool idle = moved == client->written + client->read + client->others_read;
    client->pace_ns = !idle ? client->pace_ns_max : client->pace_ns * 2 > IDLE_NS_MAX ? IDLE_NS_MAX : client->pace_ns * 2 + 1;
    if (!client->finished)
        weir_sim_schedule(world, 1 + run_below(run, client->pace_ns), act, client);
}

void client_start(struct run_client *client)
{
    if (!client->adopted)
        weir_sim_schedule(client->run->world, client->start_ns, act, client);
}

/* What cannot be adopted comes by itself. */
void client_hand_over(struct run_client *client, weir_shard *shard)
{
    struct run *run = client->run;
    const struct w_io_engine *engine = weir_sim_engine(run->world);
    int refused = run_one_of(run, 2) ? weir_adopt(shard, -1, &run->plan.echo, NULL, &client->adopted_id) : -EINVAL;
    RUN_CHECK(run, refused < 0 && client->adopted_id.value == 0, "adopting no descriptor: %d", refused);
    int descriptor = weir_sim_adoptable(run->world, &client->peer);
    int code = weir_adopt(shard, descriptor, &run->plan.echo, NULL, &client->adopted_id);
    run_note(run, "client %u is handed over to shard %u: %d", client->index, weir_shard_index(shard), code);
    RUN_CHECK(run,
              code == 0 || code == -ENOSPC || (code == -ENOMEM && run->plan.starve_permille > 0) ||
                  (code == -ESHUTDOWN && run_is_ending(run)),
              "adopting: %d (%s)", code, weir_strerror(code));
    run->feats[code == 0 ? RUN_ADOPTED : RUN_ADOPT_REFUSED]++;
    client->started = code == 0;
    client->adopted = code == 0;
    if (code != 0) {
        client->adopted_id = (weir_id){0};
        engine->discard(engine->world, descriptor);
        weir_sim_peer_close(&client->peer);
    }
    weir_sim_schedule(run->world, 1, act, client);
}

struct run_client *client_adopted(struct run *run, weir_id id)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        if (run->clients[i].adopted_id.value == id.value)
            return &run->clients[i];
    return NULL;
}

struct run_client *client_of(struct run *run, const char *peer)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++) {
        char text[WEIR_ADDRESS_MAX_BYTES];
        struct run_client *client = &run->clients[i];
        if (client->started && w_address_peer_text(&client->address, text, sizeof text) == 0 && strcmp(text, peer) == 0)
            return client;
    }
    return NULL;
}

/* On a good day all comes back, and the end is a clean one. When it was stopped in mid-stream, all that was accepted. */
static void check_clean(const struct run_client *client)
{
    const struct run *run = client->run;
    weir_reason due = client->manner == RUN_SPOIL ? client->spoils : WEIR_REASON_PEER;
    RUN_CHECK(run, client->opened == 0 || client->event.reason == due || client->event.reason == WEIR_REASON_STOPPED,
              "a good day, and client %u's connection ended: %s", client->index, weir_reason_sentence(client->event.reason));
    RUN_CHECK(run, client->opened == 0 || client->event.undelivered_bytes == 0,
              "a good day, and %llu bytes for client %u were not delivered", (unsigned long long)client->event.undelivered_bytes,
              client->index);
    /* A pinger's dial may have taken the slot from under the accept: weir_stats.turned_away. */
    bool turned_away = client->opened == 0 && run->stats.turned_away > 0;
    if (run->plan.drains || turned_away)
        return;
    RUN_CHECK(run, client->written == client->stream_bytes && client->read == client->answers_bytes,
              "a good day, and client %u wrote %llu and read %llu of %llu", client->index, (unsigned long long)client->written,
              (unsigned long long)client->read, (unsigned long long)client->answers_bytes);
    if (client->opened > 0 && client->close_heard)
        RUN_CHECK(run,
                  due == WEIR_REASON_TOO_BIG       ? client->close_code == 1009
                  : due == WEIR_REASON_BAD_MESSAGE ? client->close_code == 1002 || client->close_code == 1007
                                                   : client->close_code == 1000 || client->close_code == 1001,
                  "a good day, and client %u's connection was closed by %u", client->index, client->close_code);
    RUN_CHECK(run,
              client->opened == 0 || client->manner == RUN_SPOIL || client->event.reason != WEIR_REASON_PEER ||
                  client->pong == client->pings,
              "a good day, and the last answer that client %u heard was to ping %u of %u", client->index, client->pong, client->pings);
    RUN_CHECK(run, !client->saw_error, "a good day, and client %u saw an error", client->index);
    RUN_CHECK(run, client->saw_end || client->manner == RUN_POLITE, "a good day, and client %u did not see the end", client->index);
}

void client_check(struct run_client *client)
{
    const struct run *run = client->run;
    bool cut_short = run->broken || run->plan.close_after_ns != UINT64_MAX || run->plan.stop_ns != UINT64_MAX;
    RUN_CHECK(run, client->finished || cut_short, "client %u never came to its end", client->index);
    if (run->plan.clean)
        check_clean(client);
    if (client->opened == 0)
        return;
    RUN_CHECK(run, client->closed, "client %u's connection was opened and never closed", client->index);
    if (run->broken)
        return; /* what the kernel took last, nobody was told */
    /* Who has seen a clean end has got all that the kernel took; nobody gets more. */
    uint64_t read = client->read + client->others_read;
    RUN_CHECK(run, read <= client->bytes_out, "client %u read %llu bytes, of %llu that weir says have gone out", client->index,
              (unsigned long long)read, (unsigned long long)client->bytes_out);
    RUN_CHECK(run, !client->saw_end || read == client->bytes_out, "client %u read %llu bytes and the end; weir says %llu have gone out",
              client->index, (unsigned long long)read, (unsigned long long)client->bytes_out);
    /* (When the error goes to a send, a receive brings the end, and which of the two is heard first is chance.) */
    bool told = weir_sim_fired(run->world, WEIR_SIM_ERROR_TAKEN) == 0;
    RUN_CHECK(run, !told || client->manner != RUN_RESET || client->event.reason != WEIR_REASON_PEER,
              "client %u has reset its connection, which ended: %s", client->index, weir_reason_name(client->event.reason));
    /* Who half-closed at a boundary and was answered to the end with nothing undelivered has got everything. */
    if (client->manner == RUN_HALF_CLOSE && client->shut && client->saw_end && client->event.reason == WEIR_REASON_PEER &&
        client->event.undelivered_bytes == 0)
        RUN_CHECK(run, client->read == client->answers_bytes, "client %u wrote %llu bytes, ended well, and read %llu", client->index,
                  (unsigned long long)client->written, (unsigned long long)client->read);
}
