/* SPDX-License-Identifier: MIT */
/* cross_pair: runs that come in pairs. Nothing is drawn for the one in question, and calls about it are made where they make nothing happen: so two runs of a seed are equal
 * to the nanosecond if it costs the others nothing. */
#include "tests/sim/cross_pair.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

#include "runtime/io/sim.h"

#define SHARDS     2
#define LOOK_NS    (5 * WEIR_MICROSECOND) /* how often the others read */
#define SEND_NS    (400 * WEIR_MICROSECOND)
#define PART_NS    (80 * WEIR_MILLISECOND)
#define PAUSE_NS   (10 * WEIR_MILLISECOND)
#define HIGH_BYTES 16384
#define MARK       UINT32_C(0x52494150)

struct pair;

struct head {
    uint32_t mark, order, bytes, unused;
};

struct client {
    struct pair *pair;
    uint32_t index; /* CROSS_PAIR_CLIENTS: the one in question */
    struct weir_sim_peer *peer;
    weir_id id;
    uint8_t in[65536];
    uint32_t in_bytes, last_order;
    uint64_t next_ns;
};

struct pair {
    enum cross_pair_kind kind;
    struct cross_pair_result *result;
    struct weir_sim_world *world;
    weir_runtime *runtime;
    weir_protocol protocol;
    struct w_io_address address;
    struct client clients[CROSS_PAIR_CLIENTS + 1];
    uint32_t opened;
    uint64_t due_ns[SHARDS];
    weir_port *port, *dead_port;
    weir_channel *channel, *dead_channel;
    weir_group group;
    uint32_t order;
    uint64_t *sent_ns;
    bool second;
};

/* --- outside --- */

static bool is_dead(const struct client *client)
{
    return client->index == CROSS_PAIR_CLIENTS;
}

static void take_message(struct client *client, const uint8_t *data, uint32_t bytes)
{
    struct pair *pair = client->pair;
    struct head head;
    memcpy(&head, data, sizeof head);
    ck_assert_uint_eq(head.mark, MARK);
    ck_assert_uint_eq(head.bytes, bytes);
    ck_assert_uint_gt(head.order, client->last_order);
    client->last_order = head.order;
    if (is_dead(client) || !pair->second)
        return;
    struct cross_pair_result *result = pair->result;
    ck_assert_uint_lt(result->count, CROSS_PAIR_DELIVERIES);
    result->deliveries[result->count++] = (struct cross_pair_delivery){
        .client = client->index, .order = head.order, .sent_ns = pair->sent_ns[head.order], .came_ns = weir_sim_now_ns(pair->world)};
}

static void look(struct weir_sim_world *world, void *user)
{
    struct client *client = user;
    const weir_codec *codec = &client->pair->protocol.codec;
    bool slow = is_dead(client);
    size_t most = slow ? 64 : sizeof client->in - client->in_bytes;
    int64_t count = weir_sim_peer_read(client->peer, client->in + client->in_bytes, most);
    if (count > 0)
        client->in_bytes += (uint32_t)count;
    uint32_t at = 0;
    weir_cut cut = {.scanned_bytes = 0};
    while (at < client->in_bytes && codec->cut(codec, client->in + at, client->in_bytes - at, &cut) == WEIR_CUT_MESSAGE) {
        take_message(client, client->in + at + cut.payload_offset, cut.payload_bytes);
        at += cut.frame_bytes;
        cut = (weir_cut){.scanned_bytes = 0};
    }
    client->in_bytes -= at;
    memmove(client->in, client->in + at, client->in_bytes);
    weir_sim_schedule(world, slow ? 20 * LOOK_NS : LOOK_NS, look, client);
}

/* --- weir --- */

static int on_open(weir_conn *conn)
{
    struct pair *pair = weir_conn_protocol(conn)->user;
    pair->clients[pair->opened++].id = weir_conn_id(conn); /* (they come one by one) */
    return 0;
}

static void turn_one(struct pair *pair, uint32_t index)
{
    uint64_t sleep_ns = 0;
    int code = weir_turn(weir_shard_at(pair->runtime, index), &sleep_ns);
    ck_assert_int_eq(code, 0);
    pair->due_ns[index] = w_base_add_saturated(weir_sim_now_ns(pair->world), sleep_ns);
}

/* Lets everything happen until then. */
static void go_on_until(struct pair *pair, uint64_t until_ns)
{
    for (;;) {
        uint64_t now_ns = weir_sim_now_ns(pair->world), next_ns = until_ns;
        bool turned = false;
        if (now_ns >= until_ns)
            return;
        for (uint32_t i = 0; i < SHARDS && !turned; i++)
            if (pair->due_ns[i] <= now_ns || weir_sim_readable(pair->world, i)) {
                turn_one(pair, i);
                turned = true;
            }
        for (uint32_t i = 0; i < SHARDS; i++)
            next_ns = pair->due_ns[i] < next_ns ? pair->due_ns[i] : next_ns;
        if (turned)
            continue;
        if (weir_sim_next_ns(pair->world) <= next_ns)
            weir_sim_step(pair->world);
        else
            weir_sim_run_until(pair->world, next_ns);
    }
}

static void open_all(struct pair *pair, uint64_t seed)
{
    const struct weir_sim_faults faults = {.socket_bytes_min = 8192, .socket_bytes_max = 8192};
    weir_config config = {.shards = SHARDS, .long_turn_ns = WEIR_FOREVER};
    pair->world = weir_sim_world_create(seed, &faults);
    pair->protocol = (weir_protocol){.user = pair, .on_open = on_open, .limits.high_water_bytes = HIGH_BYTES};
    weir_codec_frame(&pair->protocol.codec, NULL);
    ck_assert_int_eq(weir_open_on(weir_sim_engine(pair->world), &config, &pair->runtime, NULL), 0);
    const weir_listen_options options = {.placement = WEIR_PLACEMENT_ROUND_ROBIN};
    ck_assert_int_eq(weir_listen(pair->runtime, "tcp://127.0.0.1:7000", &pair->protocol, &options, NULL, NULL), 0);
    struct sockaddr_in *socket = (struct sockaddr_in *)&pair->address.socket.storage;
    *socket = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(7000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    pair->address.bytes = sizeof *socket;
    for (uint32_t i = 0; i < SHARDS; i++)
        ck_assert_int_ge(weir_turn_descriptor(weir_shard_at(pair->runtime, i)), 0);
    uint32_t count = CROSS_PAIR_CLIENTS + (pair->kind != CROSS_PAIR_ALONE);
    for (uint32_t i = 0; i < count; i++) {
        struct client *client = &pair->clients[i];
        *client = (struct client){.pair = pair, .index = i};
        client->peer = weir_sim_peer_connect(pair->world, &pair->address);
        go_on_until(pair, weir_sim_now_ns(pair->world) + 2 * WEIR_MILLISECOND);
        ck_assert_uint_eq(pair->opened, i + 1);
        if (i < CROSS_PAIR_CLIENTS || pair->kind == CROSS_PAIR_SLOW)
            weir_sim_schedule(pair->world, 0, look, client);
    }
    ck_assert_int_eq(weir_port_open(pair->runtime, NULL, &pair->port, NULL), 0);
    ck_assert_int_eq(weir_port_open(pair->runtime, NULL, &pair->dead_port, NULL), 0);
    ck_assert_int_eq(weir_group_open(pair->runtime, &pair->group), 0);
    for (uint32_t i = 0; i < count; i++)
        ck_assert_int_eq(weir_group_join(pair->port, pair->group, pair->clients[i].id), 0);
    const weir_channel_options small = {.bytes = 8192};
    ck_assert_int_eq(weir_channel_open(pair->dead_port, pair->clients[0].id, &small, &pair->channel), 0);
    if (pair->kind == CROSS_PAIR_DEAD || pair->kind == CROSS_PAIR_WITHOUT)
        ck_assert_int_eq(weir_channel_open(pair->port, pair->clients[CROSS_PAIR_CLIENTS].id, &small, &pair->dead_channel), 0);
}

/* --- the thread that sends --- */

static uint32_t fill(struct pair *pair, uint8_t *data, uint32_t bytes)
{
    struct head head = {.mark = MARK, .order = ++pair->order, .bytes = bytes};
    memset(data, (int)head.order, bytes);
    memcpy(data, &head, sizeof head);
    pair->sent_ns[head.order] = weir_sim_now_ns(pair->world);
    return bytes;
}

/* Everything that would go to the one in question. Its order numbers are nobody else's. */
static void send_to_dead(struct pair *pair)
{
    uint8_t data[6000];
    struct head head = {.mark = MARK, .order = UINT32_MAX, .bytes = sizeof data};
    weir_id id = pair->clients[CROSS_PAIR_CLIENTS].id;
    memset(data, 0, sizeof data);
    memcpy(data, &head, sizeof head);
    pair->result->refused += weir_port_send(pair->port, id, data, sizeof data) == -EAGAIN;
    head.bytes = 200;
    memcpy(data, &head, sizeof head);
    pair->result->refused += weir_port_send(pair->port, id, data, 200) == -EAGAIN;
    while (weir_channel_send(pair->dead_channel, data, 200) == 0)
        ;
}

/* What a thread leaves that stops in the middle: sends that are not published, a reserve that is not committed. */
static void stop_in_the_middle(struct pair *pair)
{
    uint8_t data[100] = {0};
    weir_room room;
    weir_port_cork(pair->dead_port);
    for (uint32_t i = 0; i < CROSS_PAIR_CLIENTS; i++)
        ck_assert_int_eq(weir_port_send(pair->dead_port, pair->clients[i].id, data, sizeof data), 0);
    ck_assert_int_eq(weir_channel_put(pair->channel, data, sizeof data), 0);
    ck_assert_int_eq(weir_channel_reserve(pair->channel, 1000, &room), 0);
}

static void send_once(struct pair *pair)
{
    uint8_t data[8192];
    uint32_t bytes = (uint32_t)sizeof(struct head) + (uint32_t)(weir_sim_random(pair->world) % 600);
    if (weir_sim_random(pair->world) % 8 == 0)
        bytes += 4096;
    ck_assert_int_eq(weir_group_send(pair->port, pair->group, data, fill(pair, data, bytes), (weir_id){0}), 0);
    uint32_t index = (uint32_t)(weir_sim_random(pair->world) % CROSS_PAIR_CLIENTS);
    ck_assert_int_eq(weir_port_send(pair->port, pair->clients[index].id, data, fill(pair, data, bytes)), 0);
    weir_port_event event;
    while (weir_port_next(pair->port, &event))
        ck_assert_msg(event.id.value == pair->clients[CROSS_PAIR_CLIENTS].id.value, "an event of kind %d, and nobody else was refused",
                      (int)event.kind);
}

static void send_for(struct pair *pair, uint64_t duration_ns)
{
    uint64_t until_ns = weir_sim_now_ns(pair->world) + duration_ns;
    while (weir_sim_now_ns(pair->world) < until_ns) {
        send_once(pair);
        go_on_until(pair, weir_sim_now_ns(pair->world) + SEND_NS / 2);
        if (pair->kind == CROSS_PAIR_DEAD || (pair->kind == CROSS_PAIR_WITHOUT && !pair->second))
            send_to_dead(pair); /* when most of the time the shards sleep */
        go_on_until(pair, weir_sim_now_ns(pair->world) + SEND_NS / 2);
    }
    go_on_until(pair, weir_sim_now_ns(pair->world) + PAUSE_NS);
}

static void close_all(struct pair *pair)
{
    weir_group_stats stats;
    ck_assert_int_eq(weir_group_stats_get(pair->runtime, pair->group, &stats), 0);
    pair->result->missed = stats.refused;
    weir_port_close(&pair->port);
    weir_port_close(&pair->dead_port);
    weir_close(&pair->runtime);
    for (uint32_t i = 0; i <= CROSS_PAIR_CLIENTS; i++)
        weir_sim_peer_close(&pair->clients[i].peer);
    weir_sim_world_destroy(&pair->world);
}

void cross_pair_run(uint64_t seed, enum cross_pair_kind kind, struct cross_pair_result *result)
{
    struct pair *pair = calloc(1, sizeof *pair);
    ck_assert_ptr_nonnull(pair);
    *result = (struct cross_pair_result){0};
    pair->kind = kind;
    pair->result = result;
    pair->sent_ns = calloc(CROSS_PAIR_DELIVERIES, sizeof *pair->sent_ns);
    pair->clients[CROSS_PAIR_CLIENTS].index = CROSS_PAIR_CLIENTS;
    open_all(pair, seed);
    send_for(pair, PART_NS);
    pair->second = true;
    result->refused = 0;
    const struct client *dead = &pair->clients[CROSS_PAIR_CLIENTS];
    if (kind == CROSS_PAIR_WITHOUT) /* on its shard, between turns: nothing crosses */
        ck_assert_int_eq(
            weir_group_leave(weir_shard_port(weir_shard_at(pair->runtime, (uint32_t)(dead->id.value >> 54))), pair->group, dead->id), 0);
    if (kind == CROSS_PAIR_DEAD)
        stop_in_the_middle(pair);
    send_for(pair, PART_NS);
    result->hash = weir_sim_hash(pair->world);
    close_all(pair);
    free(pair->sent_ns);
    free(pair);
}
