/* SPDX-License-Identifier: MIT */
/* cross_client: a client outside weir. Its script runs in steps, each some time after the last. What it reads is cut into messages by its codec, and each is
 * looked up in the books at once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/io/address.h"
#include "tests/sim/cross.h"

#define IN_BYTES (CROSS_PAYLOAD_MAX + 65536 + WEIR_HEAD_MAX_BYTES + WEIR_TRAILER_MAX_BYTES)

static void finish(struct cross_client *client, bool reset)
{
    cross_note(client->run, "client %u leaves%s: wrote %llu of %llu, read %llu%s%s", client->index, reset ? " with a reset" : "",
               (unsigned long long)client->written, (unsigned long long)client->out_bytes, (unsigned long long)client->read,
               client->saw_end ? ", end" : "", client->saw_error ? ", error" : "");
    if (reset)
        weir_sim_peer_reset(&client->peer);
    else
        weir_sim_peer_close(&client->peer);
    client->finished = true;
}

#define IDLE_NS_MAX (16 * WEIR_MILLISECOND) /* who finds nothing to do comes less and less often */

static void write_some(struct cross_client *client)
{
    uint64_t rest = client->out_bytes - client->written;
    if (rest == 0 || client->shut)
        return;
    uint64_t piece = 1 + cross_below(client->run, client->write_max_bytes);
    int64_t count = weir_sim_peer_write(client->peer, client->out + client->written, piece < rest ? piece : rest);
    if (count > 0)
        client->written += (uint64_t)count;
}

/* --- what comes --- */

static void take_raw(struct cross_client *client)
{
    struct cross_run *run = client->run;
    for (uint32_t i = 0; i < client->in_bytes; i++)
        CROSS_CHECK(run, client->in[i] == cross_raw_byte((uint32_t)client->partner, client->read - client->in_bytes + i),
                    "byte %llu that client %u got through its pipe is not what client %d wrote",
                    (unsigned long long)(client->read - client->in_bytes + i), client->index, client->partner);
    CROSS_CHECK(run, client->read <= run->clients[client->partner].written, "client %u got %llu bytes through its pipe, %llu were written",
                client->index, (unsigned long long)client->read, (unsigned long long)run->clients[client->partner].written);
    client->in_bytes = 0;
}

static void take_messages(struct cross_client *client)
{
    struct cross_run *run = client->run;
    const weir_codec *codec = &run->plan.protocols[client->protocol].codec;
    uint32_t at = 0;
    while (at < client->in_bytes) {
        weir_cut cut = {.scanned_bytes = 0};
        int code = codec->cut(codec, client->in + at, client->in_bytes - at, &cut);
        CROSS_CHECK(run, code >= 0, "client %u got bytes that are no frame: %d", client->index, code);
        if (code == WEIR_CUT_MORE)
            break;
        cross_came(client, client->in + at + cut.payload_offset, cut.payload_bytes);
        at += cut.frame_bytes;
    }
    client->in_bytes -= at;
    memmove(client->in, client->in + at, client->in_bytes);
}

static bool is_deaf(const struct cross_client *client)
{
    uint64_t now_ns = weir_sim_now_ns(client->run->world);
    return !client->run->calm && now_ns >= client->deaf_from_ns && now_ns < client->deaf_until_ns;
}

static void read_some(struct cross_client *client)
{
    struct cross_run *run = client->run;
    if (client->saw_end || client->saw_error || is_deaf(client))
        return;
    uint64_t piece = 1 + cross_below(run, run->calm ? 65536 : client->read_max_bytes);
    int64_t count = weir_sim_peer_read(client->peer, client->in + client->in_bytes, piece);
    if (count > 0) {
        client->read += (uint64_t)count;
        client->in_bytes += (uint32_t)count;
        if (client->protocol == CROSS_RAW)
            take_raw(client);
        else
            take_messages(client);
    }
    client->saw_end = count == 0;
    client->saw_error = count < 0 && count != -EAGAIN;
    if (client->saw_end && client->partner >= 0 && !client->shut && client->piped)
        run->feats[CROSS_PIPE_HALF_CLOSED]++;
}

/* --- leaving --- */

static void shut(struct cross_client *client)
{
    if (!client->shut) {
        weir_sim_peer_shutdown(client->peer);
        client->shut_ns = weir_sim_now_ns(client->run->world);
    }
    client->shut = true;
    if (client->saw_end || client->saw_error)
        finish(client, false);
}

static void leave_perhaps(struct cross_client *client)
{
    struct cross_run *run = client->run;
    bool wrote_all = client->written == client->out_bytes;
    if (run->leaving || client->shut) {
        if (wrote_all || client->shut || client->saw_end)
            shut(client);
        return;
    }
    switch (client->manner) {
    case CROSS_STAY:
        if (client->saw_end && (wrote_all || client->partner < 0)) /* ended by weir, or its partner has said all */
            shut(client);
        break;
    case CROSS_HALF_CLOSE:
        if (wrote_all || (client->saw_end && client->partner < 0))
            shut(client);
        break;
    case CROSS_CLOSE:
    case CROSS_RESET:
        if (client->read + client->written < client->leave_bytes && !client->saw_end && !run->calm)
            break;
        client->torn = true;
        if (client->piped)
            run->feats[CROSS_PIPE_TORN]++;
        finish(client, client->manner == CROSS_RESET);
        break;
    case CROSS_MANNERS:
        break;
    }
}

static void act(struct weir_sim_world *world, void *user)
{
    struct cross_client *client = user;
    struct cross_run *run = client->run;
    uint64_t moved = 0;
    if (!client->started) {
        client->started = true;
        client->in = malloc(IN_BYTES);
        CROSS_CHECK(run, client->in != NULL, "no memory for a client");
        client->peer = weir_sim_peer_connect(world, &run->addresses[client->protocol]);
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
        moved = client->written + client->read;
        write_some(client);
        read_some(client);
        if (client->saw_error || (client->saw_end && weir_sim_peer_state(client->peer) == WEIR_SIM_PEER_DEAD))
            finish(client, false);
        else
            leave_perhaps(client);
        break;
    }
    bool idle = moved == client->written + client->read;
    client->pace_ns = !idle ? client->pace_ns_max : client->pace_ns * 2 > IDLE_NS_MAX ? IDLE_NS_MAX : client->pace_ns * 2 + 1;
    if (!client->finished)
        weir_sim_schedule(world, 1 + cross_below(run, client->pace_ns), act, client);
}

void cross_client_start(struct cross_client *client)
{
    weir_sim_schedule(client->run->world, client->start_ns, act, client);
}

bool cross_client_lives(const struct cross_client *client)
{
    const struct cross_run *run = client->run;
    const struct cross_client *other = client->partner >= 0 ? &run->clients[client->partner] : client;
    return run->plan.clean && !run->leaving && !run->stopping && !client->shut && !other->shut && !client->saw_end && !client->finished &&
           !client->ended_by_handler && !other->ended_by_handler;
}

/* --- who it is --- */

struct cross_client *cross_client_by_peer(struct cross_run *run, const char *peer)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++) {
        char text[WEIR_ADDRESS_MAX_BYTES];
        struct cross_client *client = &run->clients[i];
        if (client->started && w_address_peer_text(&client->address, text, sizeof text) == 0 && strcmp(text, peer) == 0)
            return client;
    }
    return NULL;
}

struct cross_client *cross_client_by_id(struct cross_run *run, weir_id id)
{
    for (uint32_t i = 0; i < run->plan.client_count; i++)
        if (run->clients[i].opened && run->clients[i].id.value == id.value)
            return &run->clients[i];
    return NULL;
}
