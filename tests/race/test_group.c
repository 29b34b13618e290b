/* SPDX-License-Identifier: MIT */
/* test_group: a group's lives, played: two threads open the only group there is, have connections of two shards join it, send to it, and
 * close it, each also what the other has opened; the shards follow the orders and take the records as they come. A name is closed once,
 * and nothing but a close of that name closes it; whoever has joined a life gets what is sent to it behind that, and nothing of another;
 * no life begins before every shard has emptied its part. */
#include "play.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What the scenery has in place of the library's: by other names, so that both may be linked. */
#define w_conn_need_extra   game_need_extra
#define w_conn_trim_extra   game_trim_extra
#define w_conn_may_send_all game_may_send_all
#define w_conn_may_send     game_may_send

#include "runtime/group.c"
#include "runtime/group_send.c"
#include "tests/unit/chance.h"

#define SHARDS         2u
#define USERS          2u
#define RECORDS_MAX    16u /* of one user for one shard */
#define LIVES_MAX      16u
#define OPERATIONS_MAX 7u

enum mistake {
    NONE,
    TELLS_BEFORE_CLOSING,
    WAKES_ONE,
    READS_EPOCH_LAST,
    CLOSES_BY_STATE,
    CLOSER_COUNTS,
    FOLLOWS_ONCE_MORE,
};

enum record_kind { JOIN, LEAVE, SEND };

/* Why a shard is woken: for a turn, or only because a user has left. */
enum { WAKE_TURN = 1, WAKE_LEAVING = 2 };

/* What a user has for a shard; in order, as in a ring. */
struct queue {
    struct record {
        enum record_kind kind;
        uint64_t name;
    } records[RECORDS_MAX];
    alignas(64) _Atomic uint32_t count;
    uint32_t taken;
};

static struct {
    enum mistake mistake;
    struct w_group group;
    struct w_group_part parts[SHARDS];
    struct w_group_table table;
    weir_config config;
    weir_protocol protocol;
    alignas(64) _Atomic uint64_t epoch;
    alignas(64) _Atomic uint32_t woken[SHARDS];
    alignas(64) _Atomic uint32_t users_left;
    struct queue queues[USERS][SHARDS];
    struct w_core cores[SHARDS];
    weir_conn conns[SHARDS];
    struct w_writer_side sides[SHARDS];
    struct w_conn_extra extras[SHARDS];
    /* The shards': which life its connection is a member of, and what it got of each. */
    struct {
        alignas(64) uint32_t life, sending;
        uint64_t got[LIVES_MAX];
        uint64_t epoch;
    } shards[SHARDS];
    /* The users'. */
    struct {
        alignas(64) struct chance chance;
        uint64_t name; /* which it opened last, or found */
        bool joined[LIVES_MAX][SHARDS];
        uint64_t expected[LIVES_MAX][SHARDS]; /* sent behind its own join */
    } users[USERS];
    _Atomic uint64_t latest; /* name: for the other user */
    _Atomic uint32_t opened[LIVES_MAX], closing[LIVES_MAX], closed[LIVES_MAX];
} game;

/* What happened over all seeds; each player its own. */
static struct {
    alignas(64) uint64_t opened, full, closed, stale;
} seen[USERS];
static struct {
    alignas(64) uint64_t got, joined, late_records;
} seen_there[SHARDS];

/* --- scenery --- */

struct w_conn_extra *game_need_extra(weir_conn *conn)
{
    return conn->writer.side->extra;
}

void game_trim_extra(weir_conn *conn)
{
    (void)conn;
}

/* A message reaches a member: it has no room for it, which is all the same here. */
int game_may_send(weir_conn *conn, uint32_t sealed_bytes)
{
    uint32_t shard = conn->core->index;
    (void)sealed_bytes;
    PLAY_MUST_EQUAL(game.shards[shard].life, game.shards[shard].sending);
    game.shards[shard].got[game.shards[shard].life]++;
    seen_there[shard].got++;
    return -EAGAIN;
}

bool game_may_send_all(const weir_conn *conn, uint32_t sealed_bytes)
{
    (void)conn;
    (void)sealed_bytes;
    return false;
}

static int game_seal(const weir_codec *codec, const uint8_t *payload, uint32_t bytes, weir_seal *seal)
{
    (void)codec;
    (void)payload;
    (void)bytes;
    seal->head_bytes = seal->trailer_bytes = 0;
    return 0;
}

static void *game_allocate(void *user, size_t bytes, size_t alignment)
{
    (void)user;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void game_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    (void)bytes;
    free(memory);
}

static uint32_t life_of(uint64_t name)
{
    PLAY_MUST(name >> 32 < LIVES_MAX);
    return (uint32_t)(name >> 32);
}

static void wake(uint32_t shard, uint32_t why)
{
    atomic_fetch_or(&game.woken[shard], why);
}

static void begin(uint64_t seed)
{
    struct chance chance = {seed};
    enum mistake mistake = game.mistake;
    for (uint32_t i = 0; i < SHARDS; i++) /* a play that failed has left something */
        free(game.parts[i].members);
    memset(&game, 0, sizeof game);
    game.mistake = mistake;
    game.config = (weir_config){.shards = SHARDS, .allocator = {.allocate = game_allocate, .release = game_release}};
    game.protocol.codec = (weir_codec){.name = "game", .seal = game_seal, .message_max_bytes = 64, .boundaries = true};
    game.group.parts = game.parts;
    atomic_init(&game.group.shards_left, SHARDS);
    game.table = (struct w_group_table){.groups = &game.group, .count = 1, .shards = SHARDS};
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct w_core *core = &game.cores[i];
        core->index = i;
        core->groups = &game.table;
        core->config = &game.config;
        w_pool_init(&core->pool, &game.config.allocator, 1 << 20);
        game.sides[i].extra = &game.extras[i];
        game.conns[i] = (weir_conn){.core = core, .protocol = &game.protocol, .state = W_CONN_OPEN};
        game.conns[i].writer.side = &game.sides[i];
        game.conns[i].shared.word = 1;
    }
    for (uint32_t i = 0; i < USERS; i++)
        game.users[i].chance.state = chance_u64(&chance);
    atomic_init(&game.users_left, USERS);
}

/* --- a shard --- */

static void shard_take(uint32_t shard, const struct record *record)
{
    struct w_core *core = &game.cores[shard];
    weir_conn *conn = &game.conns[shard];
    static const uint8_t data[8];
    struct w_burst burst;
    bool was_member = group_member_of(conn, 0) != NULL;
    seen_there[shard].late_records += w_group_find(&game.table, record->name) == NULL;
    switch (record->kind) {
    case JOIN:
        PLAY_MUST_EQUAL(group_join_here(core, NULL, conn, w_conn_id(conn), record->name), W_PORT_DONE);
        if (group_member_of(conn, 0) != NULL && !was_member) {
            game.shards[shard].life = life_of(record->name);
            seen_there[shard].joined++;
        }
        break;
    case LEAVE:
        (void)group_leave_here(core, NULL, conn, w_conn_id(conn), record->name);
        break;
    case SEND:
        game.shards[shard].sending = life_of(record->name);
        w_burst_begin(&burst, record->name);
        w_burst_add(&burst, data, sizeof data, 0);
        (void)w_group_deliver(core, &burst);
        break;
    }
}

static void shard_turn(uint32_t shard)
{
    /* As shard_follow_orders. */
    uint64_t epoch = atomic_load_explicit(&game.epoch, memory_order_acquire);
    if (epoch != game.shards[shard].epoch) {
        w_group_follow(&game.cores[shard]);
        if (game.mistake == FOLLOWS_ONCE_MORE && game.shards[shard].epoch == 0)
            game.parts[shard].closed_generation = 0;
        if (game.mistake == READS_EPOCH_LAST)
            epoch = atomic_load_explicit(&game.epoch, memory_order_acquire);
        game.shards[shard].epoch = epoch;
    }
    for (uint32_t user = 0; user < USERS; user++) {
        struct queue *queue = &game.queues[user][shard];
        uint32_t count = atomic_load_explicit(&queue->count, memory_order_acquire);
        while (queue->taken < count)
            shard_take(shard, &queue->records[queue->taken++]);
    }
}

static void shard_run(uint32_t shard)
{
    for (bool last = false; !last;) {
        last = atomic_load_explicit(&game.users_left, memory_order_acquire) == 0;
        if (!last)
            PLAY_SLEEP_WHILE(&game.woken[shard], 0);
        if ((atomic_exchange(&game.woken[shard], 0) & WAKE_TURN) != 0)
            shard_turn(shard);
    }
    /* All it had to hear of it was woken for. */
    PLAY_MUST_EQUAL(atomic_load_explicit(&game.epoch, memory_order_relaxed), game.shards[shard].epoch);
}

static void shard_0(void)
{
    shard_run(0);
}

static void shard_1(void)
{
    shard_run(1);
}

/* --- a user --- */

/* As w_runtime_ring. */
static void give_order(void)
{
    atomic_fetch_add_explicit(&game.epoch, 1, memory_order_release);
    for (uint32_t i = 0; i < (game.mistake == WAKES_ONE ? 1 : SHARDS); i++)
        wake(i, WAKE_TURN);
}

static int close_wrongly(uint64_t name)
{
    struct w_group *group = w_group_find(&game.table, name);
    if (group == NULL)
        return -ESTALE;
    uint64_t life = w_life(life_of(name), W_GROUP_OPEN);
    if (game.mistake == CLOSER_COUNTS) {
        atomic_store_explicit(&group->shards_left, SHARDS, memory_order_relaxed);
    } else {
        for (uint32_t left = 8; left > 0; left--) /* long enough for a life to end and another to begin */
            play_yield();
        life = atomic_load_explicit(&group->life, memory_order_relaxed);
    }
    bool closes = w_life_state(life) == W_GROUP_OPEN &&
                  atomic_compare_exchange_strong_explicit(&group->life, &life, w_life(w_life_generation(life), W_GROUP_CLOSING),
                                                          memory_order_acq_rel, memory_order_relaxed);
    return closes ? 0 : -ESTALE;
}

static void user_open(uint32_t user)
{
    uint64_t name;
    if (w_group_open(&game.table, &name) != 0) {
        seen[user].full++;
        return;
    }
    play_note("opens %u", life_of(name));
    seen[user].opened++;
    for (uint32_t i = 0; i < SHARDS; i++)
        PLAY_MUST_EQUAL(game.parts[i].count, 0);
    PLAY_MUST_EQUAL(atomic_fetch_add_explicit(&game.opened[life_of(name)], 1, memory_order_relaxed), 0);
    game.users[user].name = name;
    atomic_store_explicit(&game.latest, name, memory_order_relaxed);
}

static void user_close(uint32_t user, uint64_t name)
{
    uint32_t life = life_of(name);
    atomic_fetch_add_explicit(&game.closing[life], 1, memory_order_relaxed);
    if (game.mistake == TELLS_BEFORE_CLOSING)
        give_order();
    int result = game.mistake == CLOSES_BY_STATE || game.mistake == CLOSER_COUNTS ? close_wrongly(name) : w_group_close(&game.table, name);
    play_note("closes %u: %d", life, result);
    if (result != 0) {
        seen[user].stale++;
        return;
    }
    seen[user].closed++;
    PLAY_MUST_EQUAL(atomic_fetch_add_explicit(&game.closed[life], 1, memory_order_relaxed), 0);
    if (game.mistake != TELLS_BEFORE_CLOSING)
        give_order();
}

/* As group_ask and group_send: the name is looked at, and a shard without members gets nothing. */
static void user_put(uint32_t user, uint32_t shard, enum record_kind kind, uint64_t name)
{
    struct queue *queue = &game.queues[user][shard];
    uint32_t count = queue->count, life = life_of(name);
    if (count == RECORDS_MAX || w_group_find(&game.table, name) == NULL)
        return;
    if (kind != SEND)
        atomic_store_explicit(&game.parts[shard].used, true, memory_order_relaxed);
    else if (!atomic_load_explicit(&game.parts[shard].used, memory_order_relaxed))
        return;
    play_note("%s %u on shard %u", kind == JOIN ? "joins" : kind == LEAVE ? "leaves" : "sends to", life, shard);
    if (kind == SEND)
        game.users[user].expected[life][shard] += game.users[user].joined[life][shard];
    else
        game.users[user].joined[life][shard] = kind == JOIN;
    queue->records[count] = (struct record){.kind = kind, .name = name};
    atomic_store_explicit(&queue->count, count + 1, memory_order_release);
    wake(shard, WAKE_TURN);
}

static void user_act(uint32_t user)
{
    struct chance *chance = &game.users[user].chance;
    uint64_t name = game.users[user].name;
    if (name == 0 || chance_one_in(chance, 4))
        name = atomic_load_explicit(&game.latest, memory_order_relaxed);
    uint32_t shard = (uint32_t)chance_below(chance, SHARDS);
    switch (name == 0 ? 0 : chance_below(chance, 8)) {
    case 0:
        user_open(user);
        break;
    case 1:
    case 2:
        user_close(user, name);
        break;
    case 3:
    case 4:
        user_put(user, shard, JOIN, name);
        break;
    case 5:
        if (user == 0) /* only one of them lets its connections leave: then what the other expects is not always so */
            user_put(user, shard, LEAVE, name);
        break;
    default:
        for (uint32_t i = 0; i < SHARDS; i++)
            user_put(user, i, SEND, name);
    }
    if (user == 1 && chance_one_in(chance, 4))
        give_order(); /* something else: a listener, perhaps */
}

static void user_run(uint32_t user)
{
    for (uint64_t left = 2 + chance_below(&game.users[user].chance, OPERATIONS_MAX); left > 0; left--)
        user_act(user);
    atomic_fetch_sub_explicit(&game.users_left, 1, memory_order_acq_rel);
    for (uint32_t i = 0; i < SHARDS; i++)
        wake(i, WAKE_LEAVING);
}

static void user_0(void)
{
    user_run(0);
}

static void user_1(void)
{
    user_run(1);
}

/* --- the program --- */

static void end(void)
{
    uint64_t life = game.group.life;
    PLAY_MUST(w_life_state(life) != W_GROUP_CLOSING);
    PLAY_MUST_EQUAL(game.group.shards_left, SHARDS);
    for (uint32_t i = 1; i < LIVES_MAX; i++) {
        PLAY_MUST(game.closed[i] <= game.opened[i] && (game.closed[i] == 0) == (game.closing[i] == 0));
        if (game.opened[i] != 0 && game.closed[i] == 0)
            PLAY_MUST_EQUAL(life, w_life(i, W_GROUP_OPEN));
        for (uint32_t shard = 0; shard < SHARDS && game.closing[i] == 0; shard++) /* user 0 lets leave what user 1 has let join */
            PLAY_MUST(game.shards[shard].got[i] >= game.users[0].expected[i][shard]);
    }
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        if (w_life_state(life) == W_GROUP_FREE)
            PLAY_MUST_EQUAL(game.parts[shard].count, 0);
        w_group_drop_parts(&game.cores[shard]);
        w_pool_trim(&game.cores[shard].pool);
        PLAY_MUST_EQUAL(game.cores[shard].pool.taken_bytes, 0);
    }
}

static const struct play_program program = {
    .name = "group",
    .begin = begin,
    .end = end,
    .players = {{"shard 0", shard_0}, {"shard 1", shard_1}, {"user 0", user_0}, {"user 1", user_1}},
    .cost = 4,
};

START_TEST(each_life_is_its_own)
{
    if (!play_seeds(&program))
        return;
    for (uint32_t i = 0; i < USERS; i++)
        ck_assert(seen[i].opened > 0 && seen[i].full > 0 && seen[i].closed > 0 && seen[i].stale > 0);
    for (uint32_t i = 0; i < SHARDS; i++)
        ck_assert(seen_there[i].got > 0 && seen_there[i].joined > 0 && seen_there[i].late_records > 0);
}
END_TEST

static const char *const mistakes[] = {
    [TELLS_BEFORE_CLOSING] = "the shards are told before the group is closed",
    [WAKES_ONE] = "one shard is not woken",
    [READS_EPOCH_LAST] = "a shard reads the epoch behind what it says",
    [CLOSES_BY_STATE] = "who closes looks at the name and then changes the state alone",
    [CLOSER_COUNTS] = "who closes sets the count of shards before it knows that it is the one",
    [FOLLOWS_ONCE_MORE] = "a shard forgets which life it has emptied",
};

START_TEST(mistake_is_found)
{
    game.mistake = (enum mistake)_i;
    play_mistake(&program, mistakes[_i]);
}
END_TEST

int main(void)
{
    const struct play_suite races = {
        .name = "group",
        .test = each_life_is_its_own,
        .mistake = mistake_is_found,
        .mistakes_first = TELLS_BEFORE_CLOSING,
        .mistakes_end = W_COUNT(mistakes),
        .seconds = 100,
    };
    return play_main(&races);
}
