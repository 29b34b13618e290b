/* SPDX-License-Identifier: MIT */
/* test_own: an own channel's life, played: two threads open channels to one connection, send, wait for room, close, or close the whole port; the shard attaches
 * them, sends their runs, may end the connection at any time, and goes over. What the connection takes is what was sent, whole and in order; what a
 * thread is told adds up; whoever waits is woken; and all memory comes back, once. */
#include "stage.h"

#define OPERATIONS_MAX 8u

/* A thread, from the opening of its port to the close. */
struct session {
    struct chance chance;
    weir_port *port;
    uint32_t index;
    weir_channel *channel;     /* NULL: not open */
    uint32_t number;           /* of the channel's next message */
    bool is_full;              /* an -EAGAIN was answered and nothing told since */
    bool is_over;              /* -EPIPE was answered */
    uint64_t told_undelivered; /* by ENDED */
    bool has_ended;            /* ENDED was told */
};

static struct session sessions[STAGE_SESSIONS];

/* What happened over all seeds; each thread its own. */
static struct {
    alignas(64) uint64_t opened, not_opened, full, waited, over, ended, undelivered;
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

static void collect(struct session *session)
{
    weir_port_event event;
    while (weir_port_next(session->port, &event)) {
        play_note("event %d", (int)event.kind);
        switch (event.kind) {
        case WEIR_PORT_ROOM: /* of the ring that the opening goes through, or the shard is over */
            break;
        case WEIR_PORT_CHANNEL_ROOM:
            PLAY_MUST(event.channel == session->channel && event.user == session);
            session->is_full = false;
            break;
        case WEIR_PORT_CHANNEL_ENDED:
            PLAY_MUST(event.channel == session->channel && event.user == session && !session->has_ended);
            session->has_ended = true;
            session->is_full = false;
            session->told_undelivered = event.messages;
            seen[session->index / 2].ended++;
            seen[session->index / 2].undelivered += event.messages;
            break;
        default:
            play_fail("an event that nothing could cause");
        }
    }
}

/* What was sent is delivered or told, and when it has ended nothing is left open. */
static void check_sums(const struct session *session)
{
    weir_channel_stats stats;
    weir_channel_stats_get(session->channel, &stats);
    PLAY_MUST_EQUAL(stats.messages_sent, session->number);
    PLAY_MUST(stats.messages_delivered <= stats.messages_sent && stats.bytes_delivered <= stats.bytes_sent);
    if (session->has_ended)
        PLAY_MUST_EQUAL(stats.messages_sent, stats.messages_delivered + session->told_undelivered);
}

static void close_channel(struct session *session)
{
    check_sums(session);
    play_note("closes the channel");
    weir_channel_close(&session->channel);
    PLAY_MUST(session->channel == NULL);
}

static void open_channel(struct session *session)
{
    weir_channel_options options = {.bytes = STAGE_BYTES, .user = session};
    int result = weir_channel_open(session->port, stage_conn, &options, &session->channel);
    play_note("opens a channel: %d", result);
    PLAY_MUST((session->channel != NULL) == (result == 0));
    PLAY_MUST(result == 0 || result == -ESTALE || result == -ENOSPC || result == -ESHUTDOWN);
    session->number = 0;
    session->is_full = session->is_over = session->has_ended = false;
    seen[session->index / 2].opened += result == 0;
    seen[session->index / 2].not_opened += result != 0;
}

static void look_at(struct session *session, int result)
{
    switch (result) {
    case 0:
        session->number++;
        break;
    case -EAGAIN:
        seen[session->index / 2].full++;
        session->is_full = true;
        break;
    default:
        PLAY_MUST(result == -EPIPE);
        seen[session->index / 2].over++;
        session->is_over = true;
    }
}

/* `session` of the message is its length here: that is how the connection tells one from the next. */
static void send_one(struct session *session, uint32_t bytes, bool publishes)
{
    uint8_t data[STAGE_BYTES];
    struct stage_message message = {.session = bytes, .number = session->number};
    memset(data, 0, bytes);
    memcpy(data, &message, sizeof message);
    play_note("sends %u, %u bytes", session->number, bytes);
    look_at(session, publishes ? weir_channel_send(session->channel, data, bytes) : weir_channel_put(session->channel, data, bytes));
}

static void build_one(struct session *session, uint32_t bytes)
{
    weir_room room;
    int result = weir_channel_reserve(session->channel, bytes + 100, &room);
    if (result == 0) {
        struct stage_message message = {.session = bytes, .number = session->number};
        memcpy(room.data, &message, sizeof message);
        result = weir_channel_commit(session->channel, bytes);
    }
    look_at(session, result);
}

/* Full: sleeps until it is told, in one of the two ways that there are. */
static void wait_for_room(struct session *session)
{
    seen[session->index / 2].waited++;
    if (chance_one_in(&session->chance, 2)) {
        play_note("waits for the channel");
        PLAY_MUST_EQUAL(weir_channel_wait(session->channel, WEIR_FOREVER), 0);
        session->is_full = false;
        return;
    }
    weir_channel_publish(session->channel); /* what is only put keeps its room */
    collect(session);
    while (session->is_full) {
        play_note("waits for an event");
        PLAY_MUST_EQUAL(weir_port_wait(session->port, WEIR_FOREVER), 0);
        collect(session);
    }
}

/* Ended: the event comes, and what it tells is final. */
static void wait_for_end(struct session *session)
{
    collect(session);
    while (!session->has_ended) {
        PLAY_MUST_EQUAL(weir_port_wait(session->port, WEIR_FOREVER), 0);
        collect(session);
    }
    check_sums(session);
}

static void act(struct session *session)
{
    struct chance *chance = &session->chance;
    uint32_t most = STAGE_BYTES / 2 - 100, bytes = chance_one_in(chance, 3) ? most : 8 + (uint32_t)chance_below(chance, most - 8);
    switch (chance_below(chance, 8)) {
    case 0:
        collect(session);
        break;
    case 1:
        send_one(session, bytes, false);
        break;
    case 2:
        weir_channel_publish(session->channel);
        break;
    case 3:
        build_one(session, bytes);
        break;
    case 4:
        if (chance_one_in(chance, 4))
            close_channel(session);
        break;
    default:
        send_one(session, bytes, true);
    }
    if (session->channel != NULL && session->is_full && chance_one_in(chance, 2))
        send_one(session, sizeof(struct stage_message),
                 true); /* perhaps a small one finds room; the first is owed its answer all the same */
    if (session->channel != NULL && session->is_full && !session->is_over && chance_one_in(chance, 2))
        wait_for_room(session);
    if (session->channel != NULL && session->is_over) {
        if (chance_one_in(chance, 2))
            wait_for_end(session);
        close_channel(session);
    }
}

static void play_session(struct session *session)
{
    session->port = stage_open();
    if (session->port == NULL)
        return;
    for (uint64_t left = 2 + chance_below(&session->chance, OPERATIONS_MAX); left > 0; left--) {
        if (session->channel == NULL)
            open_channel(session);
        else
            act(session);
    }
    if (session->channel != NULL && chance_one_in(&session->chance, 2))
        close_channel(session);
    play_note("closes the port");
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
    .name = "own",
    .begin = begin,
    .end = stage_end,
    .players = {{"shard", stage_shard}, {"thread 0", thread_0}, {"thread 1", thread_1}},
    .cost = 4,
};

START_TEST(every_channel_ends_well)
{
    if (!play_seeds(&program))
        return;
    ck_assert(stage_seen.over_early > 0 && stage_seen.idle > 0 && stage_seen.over_in_mid_run > 0 && stage_seen.no_memory > 0);
    for (uint32_t i = 0; i < STAGE_THREADS; i++) {
        ck_assert(seen[i].opened > 0 && seen[i].not_opened > 0 && seen[i].full > 0 && seen[i].waited > 0);
        ck_assert(seen[i].over > 0 && seen[i].ended > 0 && seen[i].undelivered > 0);
    }
}
END_TEST

static const char *const mistakes[] = {
    [STAGE_BACK_NOT_RUNG] = "the shard does not ring for what it leaves for a port",
    [STAGE_ENDED_NOT_RUNG] = "the shard ends a channel, or gives room back in it, and does not ring",
    [STAGE_LOOK_NOT_RUNG] = "a producer that finds the shard idle does not ring",
    [STAGE_CHANNEL_KEPT] = "the shard ends a channel and does not give back what it had of its port",
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
        .name = "own",
        .test = every_channel_ends_well,
        .mistake = mistake_is_found,
        .mistakes_first = 1,
        .mistakes_end = W_COUNT(mistakes),
        .seconds = 100,
    };
    return play_main(&races);
}
