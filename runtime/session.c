/* SPDX-License-Identifier: MIT */
/* session: what a connection does whose codec remembers something.
 *
 * Road:    SHAKING: frame -> take -> answers -> OPEN -> on_open. Then message -> the handler, where it lies; parts -> one piece of memory -> the handler; a question
 *          -> its answer into the control lane. Draining -> the farewell goes out behind everything else.
 * Ditches: handler answers WEIR_LATER -> the same frame again, its memory as it is; an answer waits in the lane -> the newest takes the place of the one that waits
 *          behind it; more unpacked than is good for the others -> the next turn; answers pile up before OPEN -> delivery stops at the high-water mark; no memory -> the connection ends. */
#include "runtime/session.h"

#include <errno.h>
#include <string.h>

#include "runtime/deadline.h"
#include "runtime/limits.h"
#include "runtime/table.h"

#define SESSION_CONTROL_MAX_BYTES 256u
#define SESSION_PARTS_MIN_BYTES   1024u
#define SESSION_UNPACK_BYTES      (UINT32_C(1) << 20) /* in one turn; what is more waits for the next: a few bytes can be many */

/* A control answer that waits for the lane to be empty. */
struct session_waiting {
    uint32_t bytes;
    uint8_t data[SESSION_CONTROL_MAX_BYTES];
};

struct w_session {
    uint8_t *parts; /* of a message, one behind the other; NULL exactly when there are none */
    struct session_waiting *waiting;
    uint32_t parts_bytes, parts_room_bytes;
    uint32_t others;   /* frames taken that were no messages, not counted yet */
    bool parts_whole;  /* the last part is among them: the handler has it, or will have it again */
    bool said_goodbye; /* the farewell is in the channel */
    _Alignas(8) uint8_t memory[];
};

static inline struct w_session *session_of(const weir_conn *conn)
{
    return (struct w_session *)(void *)((uint8_t *)conn->reader.session - offsetof(struct w_session, memory));
}

static inline const weir_codec *session_codec(const weir_conn *conn)
{
    return &conn->protocol->codec;
}

static size_t session_bytes(const weir_conn *conn)
{
    return offsetof(struct w_session, memory) + session_codec(conn)->session->bytes;
}

/* Most sessions are small, and their place lasts as long as the slot. */
static struct w_session *session_take(weir_conn *conn)
{
    size_t bytes = session_bytes(conn);
    struct w_session *session =
        bytes <= W_TABLE_SESSION_BYTES ? w_table_session(conn->core->conns, conn->slot) : w_pool_take(&conn->core->pool, bytes);
    if (session != NULL)
        memset(session, 0, bytes);
    return session;
}

static void session_give(weir_conn *conn)
{
    if (session_bytes(conn) > W_TABLE_SESSION_BYTES)
        w_pool_give(&conn->core->pool, session_of(conn), session_bytes(conn));
    conn->reader.session = NULL;
}

/* --- outbound --- */

/* Bytes as they are, behind what is queued, as one message: 0 or -ENOMEM. */
static int session_put(weir_conn *conn, const void *data, uint32_t bytes)
{
    static const weir_seal nothing;
    struct w_channel *channel = &conn->writer.channel;
    bool was_empty = w_writer_queued_bytes(&conn->writer) == 0;
    conn->writer.reserved_bytes = 0;
    if (w_channel_put(conn->core, channel, &nothing, data, bytes, true) != 0)
        return -ENOMEM;
    w_conn_wants_send(conn, was_empty);
    return 0;
}

static int session_put_control(weir_conn *conn, const uint8_t *data, uint32_t bytes)
{
    static const weir_seal nothing;
    static const weir_codec as_it_is = {.boundaries = true};
    bool was_empty = w_writer_queued_bytes(&conn->writer) == 0;
    if (w_writer_put_control(conn->core, &conn->writer, &as_it_is, &nothing, data, bytes) != 0)
        return -ENOMEM;
    w_conn_wants_send(conn, was_empty);
    return 0;
}

/* Into the lane, or, while something waits there, to where only the newest is. */
static int session_say_control(weir_conn *conn, const weir_session_answer *answer)
{
    struct w_session *session = session_of(conn);
    W_ASSERT(answer->bytes <= SESSION_CONTROL_MAX_BYTES);
    if (w_writer_lane_bytes(&conn->writer) == 0)
        return session_put_control(conn, answer->data, answer->bytes);
    if (session->waiting == NULL)
        session->waiting = w_pool_take(&conn->core->pool, sizeof *session->waiting);
    if (session->waiting == NULL)
        return -ENOMEM;
    session->waiting->bytes = answer->bytes;
    memcpy(session->waiting->data, answer->data, answer->bytes);
    return 0;
}

static void session_forget_waiting(weir_conn *conn)
{
    struct w_session *session = session_of(conn);
    if (session->waiting != NULL)
        w_pool_give(&conn->core->pool, session->waiting, sizeof *session->waiting);
    session->waiting = NULL;
}

void w_session_sent(weir_conn *conn)
{
    struct w_session *session = session_of(conn);
    if (session->waiting == NULL || session->said_goodbye || w_writer_lane_bytes(&conn->writer) > 0)
        return;
    if (conn->state != W_CONN_OPEN && conn->state != W_CONN_DRAINING)
        return;
    if (session_put_control(conn, session->waiting->data, session->waiting->bytes) == 0)
        session_forget_waiting(conn);
}

/* All but its data, which are many bytes. */
static void session_say_nothing(weir_session_answer *answer)
{
    answer->bytes = answer->body_bytes = 0;
    answer->body = NULL;
    answer->control = false;
    answer->peer_code = 0;
}

static int session_say(weir_conn *conn, const weir_session_answer *answer)
{
    if (answer->bytes == 0)
        return 0;
    if (answer->control)
        return session_say_control(conn, answer);
    int result = session_put(conn, answer->data, answer->bytes);
    return result == 0 && answer->body_bytes > 0 ? session_put(conn, answer->body, answer->body_bytes) : result;
}

bool w_session_farewell(weir_conn *conn)
{
    struct w_session *session = session_of(conn);
    const weir_codec *codec = session_codec(conn);
    uint8_t words[WEIR_SESSION_FAREWELL_BYTES];
    if (session->said_goodbye || !conn->opened || codec->session->farewell == NULL)
        return false;
    session->said_goodbye = true;
    uint32_t bytes = codec->session->farewell(codec, session->memory, (weir_reason)conn->reason, conn->error, words);
    return bytes > 0 && session_put(conn, words, bytes) == 0;
}

bool w_session_waits_for_peer(const weir_conn *conn)
{
    return conn->opened && !conn->peer_ended && session_codec(conn)->session->waits_for_peer;
}

/* --- messages packed --- */

static void *session_heap_take(weir_session_heap *heap, uint32_t bytes)
{
    return w_pool_take(&W_CONTAINER(heap, struct w_core, session_heap)->pool, bytes);
}

static void session_heap_give(weir_session_heap *heap, void *piece, uint32_t bytes)
{
    w_pool_give(&W_CONTAINER(heap, struct w_core, session_heap)->pool, piece, bytes);
}

void w_session_heap_init(struct w_core *core)
{
    core->session_heap = (weir_session_heap){session_heap_take, session_heap_give};
}

/* Into a piece of the pool, of as many bytes, that the caller gives back if it is not NULL: how many bytes it is then; 0: it goes as it is. */
static uint32_t session_pack(weir_conn *conn, const weir_codec *codec, const void *data, uint32_t bytes, void **piece, weir_seal *seal)
{
    struct w_core *core = conn->core;
    *piece = bytes > 0 ? w_pool_take(&core->pool, bytes) : NULL;
    return *piece == NULL ? 0 : codec->session->pack(codec, conn->reader.session, &core->session_heap, data, bytes, *piece, seal);
}

int w_session_put(weir_conn *conn, const weir_codec *codec, const weir_seal *seal, const void *data, uint32_t bytes)
{
    struct w_core *core = conn->core;
    void *piece;
    weir_seal packed_seal;
    uint32_t packed_bytes = session_pack(conn, codec, data, bytes, &piece, &packed_seal);
    int result = packed_bytes > 0 ? w_channel_put_sealed(core, &conn->writer.channel, codec, &packed_seal, piece, packed_bytes)
                                  : w_channel_put_sealed(core, &conn->writer.channel, codec, seal, data, bytes);
    if (result != 0)
        codec->session->pack(codec, conn->reader.session, &core->session_heap, NULL, 0, NULL, NULL);
    if (piece != NULL)
        w_pool_give(&core->pool, piece, bytes);
    return result;
}

uint32_t w_session_pack_in_place(weir_conn *conn, const weir_codec *codec, weir_seal *seal, uint8_t *data, uint32_t bytes)
{
    void *piece;
    weir_seal packed_seal;
    uint32_t packed_bytes = session_pack(conn, codec, data, bytes, &piece, &packed_seal);
    if (packed_bytes > 0) {
        memcpy(data, piece, packed_bytes);
        *seal = packed_seal;
    }
    if (piece != NULL)
        w_pool_give(&conn->core->pool, piece, bytes);
    return packed_bytes > 0 ? packed_bytes : bytes;
}

/* --- messages in parts --- */

void w_session_drop_parts(weir_conn *conn)
{
    struct w_session *session = session_of(conn);
    if (session->parts != NULL)
        w_reader_give_piece(conn->core, &conn->reader, session->parts, session->parts_room_bytes);
    session->parts = NULL;
    session->parts_bytes = session->parts_room_bytes = 0;
    session->parts_whole = false;
}

bool w_session_is_in_parts(const weir_conn *conn)
{
    const struct w_session *session = session_of(conn);
    return session->parts != NULL && !session->parts_whole;
}

/* Room for so many bytes behind those that there are. */
static bool session_grow(weir_conn *conn, struct w_session *session, uint32_t bytes)
{
    uint64_t wanted_bytes = (uint64_t)session->parts_bytes + bytes;
    if (session->parts != NULL && wanted_bytes <= session->parts_room_bytes)
        return true;
    if (wanted_bytes > WEIR_MESSAGE_MAX_BYTES)
        return false;
    uint32_t room_bytes = (uint32_t)w_pool_round(wanted_bytes < SESSION_PARTS_MIN_BYTES ? SESSION_PARTS_MIN_BYTES : (size_t)wanted_bytes);
    uint8_t *parts = w_reader_take_piece(conn->core, &conn->reader, room_bytes);
    if (parts == NULL)
        return false;
    if (session->parts != NULL) {
        memcpy(parts, session->parts, session->parts_bytes);
        w_reader_give_piece(conn->core, &conn->reader, session->parts, session->parts_room_bytes);
    }
    session->parts = parts;
    session->parts_room_bytes = room_bytes;
    return true;
}

/* What is in a packed part, behind those that there are: 0 or the error. */
static int session_unpack(weir_conn *conn, struct w_session *session, const weir_message *part, bool last)
{
    const weir_codec *codec = session_codec(conn);
    weir_session_unpacking unpacking = {.data = part->data, .bytes = part->bytes, .last = last};
    int result;
    do {
        if (!session_grow(conn, session, 1)) /* which doubles it */
            return -ENOMEM;
        unpacking.to = session->parts + session->parts_bytes;
        unpacking.room_bytes = session->parts_room_bytes - session->parts_bytes;
        unpacking.made_bytes = 0;
        result = codec->session->unpack(codec, session->memory, &conn->core->session_heap, &unpacking);
        session->parts_bytes += unpacking.made_bytes;
        conn->core->unpacked_bytes += unpacking.made_bytes;
    } while (result > 0);
    return result;
}

/* Has so much been unpacked in this turn that others have to have theirs first? Then it comes again in the next. */
static bool session_has_unpacked_enough(weir_conn *conn)
{
    struct w_core *core = conn->core;
    if (core->unpacked_turn != core->stats.turns) {
        core->unpacked_turn = core->stats.turns;
        core->unpacked_bytes = 0;
    }
    if (core->unpacked_bytes < SESSION_UNPACK_BYTES)
        return false;
    conn->later = true;
    w_conn_schedule(conn, W_CONN_DO_AGAIN);
    return true;
}

static int session_append(weir_conn *conn, struct w_session *session, const weir_session_state *state, const weir_message *part)
{
    if (state->packed)
        return session_unpack(conn, session, part, state->frame == WEIR_SESSION_LAST);
    if (!session_grow(conn, session, part->bytes))
        return -ENOMEM;
    memcpy(session->parts + session->parts_bytes, part->data, part->bytes);
    session->parts_bytes += part->bytes;
    return 0;
}

/* --- inbound --- */

/* Taken, and no message: the next one, if there is to be one. */
static enum w_reader_verdict session_next(weir_conn *conn, struct w_session *session, weir_session_state *state)
{
    state->frame = WEIR_SESSION_UNKNOWN;
    session->others++;
    return w_conn_listens(conn) && !w_conn_stopped(conn) ? W_READER_NEXT : W_READER_STOP;
}

static enum w_reader_verdict session_deliver(weir_conn *conn, weir_session_state *state, const uint8_t *data, uint32_t bytes)
{
    const weir_message message = {.data = data, .bytes = bytes, .kind = state->kind};
    enum w_reader_verdict verdict = w_conn_deliver(conn, &message);
    if (W_LIKELY(verdict != W_READER_AGAIN))
        state->frame = WEIR_SESSION_UNKNOWN;
    return verdict;
}

/* What an error is called: of the handshake, or as if cut had said it. */
static weir_reason session_reason(bool shaking, int error)
{
    return shaking ? WEIR_REASON_HANDSHAKE : error == -EMSGSIZE ? WEIR_REASON_TOO_BIG : WEIR_REASON_BAD_MESSAGE;
}

static enum w_reader_verdict session_part(weir_conn *conn, struct w_session *session, weir_session_state *state, const weir_message *part)
{
    if (state->packed && !session->parts_whole && session_has_unpacked_enough(conn))
        return W_READER_AGAIN;
    int error = session->parts_whole ? 0 : session_append(conn, session, state, part);
    if (error == -ENOMEM)
        w_conn_end(conn, WEIR_REASON_MEMORY, error);
    else if (error != 0)
        w_conn_drain(conn, session_reason(false, error), error);
    if (error != 0)
        return session_next(conn, session, state);
    if (state->frame == WEIR_SESSION_PART)
        return session_next(conn, session, state);
    session->parts_whole = true;
    /* It lies in no receive buffer and no stash: who holds it gets a copy. */
    conn->core->origin = (struct w_core_origin){.reader = &conn->reader};
    enum w_reader_verdict verdict = session_deliver(conn, state, session->parts, session->parts_bytes);
    if (verdict != W_READER_AGAIN)
        w_session_drop_parts(conn);
    return verdict;
}

/* The handshake is done; on_open may look at what the peer said. */
static void session_opened(weir_conn *conn, const weir_message *said)
{
    struct w_core *core = conn->core;
    const weir_session_state *state = conn->reader.session;
    if (state->packs)
        conn->quick_bytes = 0;
    w_writer_put_first(&conn->writer);
    core->handshake = said;
    w_conn_opened(conn);
    core->handshake = NULL;
}

static enum w_reader_verdict session_own(weir_conn *conn, struct w_session *session, weir_session_state *state, const weir_message *frame)
{
    const weir_codec *codec = session_codec(conn);
    bool shaking = conn->state == W_CONN_SHAKING;
    if (shaking && conn->writer.channel.queued_bytes >= w_limits_high_water(conn->protocol)) {
        conn->later = conn->pressed = true; /* on the way out there is more than enough for now */
        return W_READER_AGAIN;
    }
    weir_session_answer answer;
    session_say_nothing(&answer);
    int verdict = codec->session->take(codec, session->memory, (uint8_t *)(uintptr_t)frame->data, frame->bytes, &answer);
    if (answer.peer_code != 0)
        conn->peer_code = answer.peer_code;
    if (session_say(conn, &answer) != 0)
        w_conn_end(conn, WEIR_REASON_MEMORY, -ENOMEM);
    else if (verdict < 0)
        w_conn_drain(conn, session_reason(shaking, verdict), verdict);
    else if (verdict == WEIR_SESSION_OPEN)
        session_opened(conn, frame);
    else if (verdict == WEIR_SESSION_END)
        w_conn_drain(conn, WEIR_REASON_PEER, 0);
    else if (shaking) { /* the time for the next one begins */
        conn->state_ns = conn->core->io->now_ns;
        conn->answered = true;
    }
    return session_next(conn, session, state);
}

enum w_reader_verdict w_session_sink(struct w_reader *reader, const weir_message *message)
{
    weir_conn *conn = W_CONTAINER(reader, weir_conn, reader);
    struct w_session *session = session_of(conn);
    weir_session_state *state = reader->session;
    if (W_LIKELY(state->frame == WEIR_SESSION_MESSAGE))
        return session_deliver(conn, state, message->data, message->bytes);
    if (state->frame == WEIR_SESSION_OWN)
        return session_own(conn, session, state, message);
    return session_part(conn, session, state, message);
}

uint32_t w_session_count_others(weir_conn *conn)
{
    struct w_session *session = session_of(conn);
    uint32_t others = session->others;
    session->others = 0;
    return others;
}

/* --- its life --- */

bool w_session_open(weir_conn *conn)
{
    const weir_codec *codec = session_codec(conn);
    struct w_session *session = session_take(conn);
    if (session == NULL) {
        w_conn_end(conn, WEIR_REASON_NO_MEMORY, -ENOMEM);
        return false;
    }
    conn->reader.session = session->memory;
    if (codec->session->begin == NULL)
        return true;
    weir_session_answer answer;
    session_say_nothing(&answer);
    int verdict = codec->session->begin(codec, session->memory, &answer);
    if (verdict < 0)
        w_conn_end(conn, WEIR_REASON_HANDSHAKE, verdict);
    else if (session_say(conn, &answer) != 0)
        w_conn_end(conn, WEIR_REASON_NO_MEMORY, -ENOMEM);
    return conn->state == W_CONN_SHAKING;
}

void w_session_close(weir_conn *conn)
{
    w_session_drop_parts(conn);
    session_forget_waiting(conn);
    const weir_codec *codec = session_codec(conn);
    if (codec->session->close != NULL)
        codec->session->close(codec, session_of(conn)->memory, &conn->core->session_heap);
    session_give(conn);
}
