/* SPDX-License-Identifier: MIT */
/* test_port: a port's life, played: two threads open ports, send, collect what comes back, wait for room, close, and open again under a number that may be
 * another's still; the shard takes what comes, answers, and goes over at any time. Each message is taken, told as undelivered or counted as orphaned, in
 * order; whoever was refused hears when to try again; and all memory comes back. */
#include "stage.h"

#define OPERATIONS_MAX 7u

/* A thread, from its opening to its close. */
struct session {
    struct chance chance;
    weir_port *port;
    uint32_t index;
    uint32_t number; /* of the next message */
    uint64_t sent, undelivered, posts, not_run;
    bool was_refused; /* an -EAGAIN was ever answered */
    bool is_refused;  /* and nothing told since */
    bool is_shut;     /* -ESHUTDOWN was answered */
};

static struct session sessions[STAGE_SESSIONS];

/* What happened over all seeds; each thread its own. */
static struct {
    alignas(64) uint64_t refused, waited, undelivered, not_run, shut, crowded, blobs;
} seen[STAGE_THREADS];

static void begin(uint64_t seed)
{
    struct chance chance = {seed ^ UINT64_C(0x5bd1e995)};
    stage_begin(seed);
    memset(sessions, 0, sizeof sessions);
    for (uint32_t i = 0; i < STAGE_SESSIONS; i++) {
        sessions[i].index = i;
        sessions[i].chance.state = chance_u64(&chance);
    }
}

static void end(void)
{
    uint64_t sent = 0, told = 0, posts = 0, ran = stage.posts_run;
    for (uint32_t i = 0; i < STAGE_SESSIONS; i++) {
        sent += sessions[i].sent;
        told += stage.taken[i] + sessions[i].undelivered;
        posts += sessions[i].posts;
        ran += sessions[i].not_run;
    }
    uint64_t orphaned = atomic_load_explicit(&stage.table.orphaned, memory_order_relaxed) + stage.core.stats.messages_orphaned;
    PLAY_MUST_EQUAL(sent, told + orphaned);
    if (stage.stop_turn == UINT32_MAX && !stage.is_picky) /* a port's close takes nothing back */
        PLAY_MUST_EQUAL(orphaned, 0);
    PLAY_MUST(ran <= posts); /* (posts of closed ports are run or forgotten) */
    stage_end();
}

static void collect(struct session *session)
{
    weir_port_event event;
    while (weir_port_next(session->port, &event)) {
        play_note("event %d", (int)event.kind);
        switch (event.kind) {
        case WEIR_PORT_READY:
            PLAY_MUST(event.id.value == stage_conn.value && session->was_refused);
            session->is_refused = false;
            break;
        case WEIR_PORT_ROOM:
            session->is_refused = false;
            break;
        case WEIR_PORT_UNDELIVERED:
            session->undelivered += event.messages;
            seen[session->index / 2].undelivered += event.messages;
            break;
        case WEIR_PORT_NOT_RUN:
            PLAY_MUST(event.user == session);
            session->not_run++;
            seen[session->index / 2].not_run++;
            break;
        default:
            play_fail("an event that nothing could cause");
        }
    }
}

/* The answer of something that may be refused; true: it was taken. */
static bool look_at(struct session *session, int result)
{
    switch (result) {
    case 0:
        return true;
    case -EAGAIN:
        seen[session->index / 2].refused++;
        session->is_refused = session->was_refused = true;
        return false;
    case -ESHUTDOWN:
        seen[session->index / 2].shut++;
        session->is_shut = true;
        return false;
    default:
        PLAY_MUST(result == -ESTALE);
        return false;
    }
}

static void send_one(struct session *session, uint32_t bytes)
{
    static const uint8_t rest[2 * W_BLOB_WORTH_BYTES];
    uint8_t data[sizeof rest];
    struct stage_message message = {.session = session->index, .number = session->number};
    memset(data, 0, bytes);
    memcpy(data, &message, sizeof message);
    play_note("sends %u, %u bytes", session->number, bytes);
    if (look_at(session, weir_port_send(session->port, stage_conn, data, bytes))) {
        session->number++;
        session->sent++;
        seen[session->index / 2].blobs += bytes >= W_BLOB_WORTH_BYTES;
    }
}

static void posted(weir_shard *shard, void *user)
{
    const struct session *session = user;
    PLAY_MUST(w_core_of(shard) == &stage.core && session->index < STAGE_SESSIONS);
    stage.posts_run++;
}

/* Refused: sleeps until it is told. */
static void wait_until_told(struct session *session)
{
    weir_port_uncork(session->port);
    collect(session);
    while (session->is_refused) {
        seen[session->index / 2].waited++;
        PLAY_MUST_EQUAL(weir_port_wait(session->port, WEIR_FOREVER), 0);
        collect(session);
    }
}

/* Everything is taken, or comes back: the sums close while the port is open. */
static void flush(struct session *session)
{
    weir_port_stats stats;
    play_note("flushes");
    PLAY_MUST_EQUAL(weir_port_flush(session->port, WEIR_FOREVER), 0);
    collect(session);
    weir_port_stats_get(session->port, &stats);
    PLAY_MUST_EQUAL(stats.messages_sent, session->sent);
    PLAY_MUST_EQUAL(stats.messages_undelivered, session->undelivered);
    PLAY_MUST_EQUAL(stats.messages_sent, stats.messages_taken + stats.messages_undelivered);
}

static void act(struct session *session)
{
    struct chance *chance = &session->chance;
    switch (chance_below(chance, 10)) {
    case 0:
        send_one(session, W_BLOB_WORTH_BYTES + (uint32_t)chance_below(chance, 100));
        break;
    case 1:
        if (look_at(session, weir_post(session->port, w_core_shard(&stage.core), posted, session)))
            session->posts++;
        break;
    case 2:
        collect(session);
        break;
    case 3:
        weir_port_cork(session->port);
        break;
    case 4:
        weir_port_uncork(session->port);
        break;
    case 5:
        send_one(session, 16);
        break;
    case 6:
        flush(session);
        break;
    default:
        send_one(session, chance_one_in(chance, 3) ? STAGE_BYTES / 2 - 64 : 16 + (uint32_t)chance_below(chance, STAGE_BYTES / 2 - 64));
    }
    if (session->is_refused && chance_one_in(chance, 2))
        send_one(session, 16); /* perhaps a small one finds room; the first is owed its answer all the same */
    if (session->is_refused && chance_one_in(chance, 2))
        wait_until_told(session);
}

static void play_session(struct session *session)
{
    session->port = stage_open();
    if (session->port == NULL) {
        seen[session->index / 2].crowded++;
        return;
    }
    for (uint64_t left = 1 + chance_below(&session->chance, OPERATIONS_MAX); left > 0; left--)
        act(session);
    if (session->is_refused && chance_one_in(&session->chance, 2))
        wait_until_told(session);
    if (chance_one_in(&session->chance, 2))
        collect(session);
    play_note("closes");
    weir_port_close(&session->port);
}

static void thread_run(uint32_t thread)
{
    play_session(&sessions[2 * thread]);
    if (chance_one_in(&sessions[2 * thread].chance, 2))
        play_session(&sessions[2 * thread + 1]);
    stage_leave();
}

static void thread_0(void)
{
    thread_run(0);
}

static void thread_1(void)
{
    thread_run(1);
}

/* --- the program, and its mistakes --- */

static const struct play_program program = {
    .name = "port",
    .begin = begin,
    .end = end,
    .players = {{"shard", stage_shard}, {"thread 0", thread_0}, {"thread 1", thread_1}},
    .cost = 4,
};

START_TEST(every_message_is_accounted_for)
{
    if (!play_seeds(&program))
        return;
    ck_assert(stage_seen.over_early > 0 && stage_seen.pressed > 0 && stage_seen.no_memory > 0 && stage_seen.slept > 0);
    for (uint32_t i = 0; i < STAGE_THREADS; i++) {
        ck_assert(seen[i].refused > 0 && seen[i].waited > 0 && seen[i].undelivered > 0 && seen[i].not_run > 0);
        ck_assert(seen[i].shut > 0 && seen[i].crowded > 0 && seen[i].blobs > 0);
    }
}
END_TEST

static const char *const mistakes[] = {
    [STAGE_OVER_NOT_ASKED] = "what is published behind the shard's end is not asked back",
    [STAGE_LINK_NOT_LET_GO] = "a shard that goes over does not let go of its links",
    [STAGE_BLOBS_NOT_COLLECTED] = "a port that closes does not look for blobs that have come home",
    [STAGE_BACK_NOT_RUNG] = "the shard does not ring for what it leaves for a port",
    [STAGE_DOZES_BLINDLY] = "the shard sleeps without looking at its bell once more",
};

START_TEST(mistake_is_found)
{
    if (mistakes[_i] == NULL)
        return;
    stage_mistake = (enum stage_mistake)_i;
    play_mistake(&program, mistakes[_i]);
}
END_TEST

int main(void)
{
    const struct play_suite races = {
        .name = "port",
        .test = every_message_is_accounted_for,
        .mistake = mistake_is_found,
        .mistakes_first = 1,
        .mistakes_end = W_COUNT(mistakes),
        .seconds = 100,
    };
    return play_main(&races);
}
