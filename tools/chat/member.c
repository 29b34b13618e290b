/* SPDX-License-Identifier: MIT */
/* member: those who talk, on their own shards.
 *
 * Road:    a line typed -> an errand to the hall -> it is back, perhaps with an answer -> the next line.
 * Ditches: a member has gone when its errand comes home -> the errand goes too; the one that says so (GO) is behind it.
 *          A member does not read -> the first line that it has no room for is its end (slow_peer). The others notice nothing. */
#include "member.h"

#include <stdio.h>
#include <string.h>

#include "hall.h"

/* The bytes of the character (RFC 3629) that begins here; 0: it is none, or one that a terminal would obey. */
static uint32_t character_bytes(const uint8_t *text, uint32_t bytes)
{
    static const uint32_t least[] = {0x20, 0xa0, 0x800, 0x10000}; /* of so many bytes: below are control characters, or fewer would do */
    uint32_t first = text[0], length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    uint32_t value = length == 1 ? first : first & (0x7fU >> length);
    if ((first >= 0x80 && first < 0xc0) || first >= 0xf8 || length > bytes)
        return 0;
    for (uint32_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3fU);
    }
    bool surrogate = value >= 0xd800 && value <= 0xdfff;
    return value < least[length - 1] || value == 0x7f || surrogate || value > 0x10ffff ? 0 : length;
}

/* No escapes for the others' terminals, and nothing that is no text for their browsers: a blank stands there instead. */
static void member_clean(char *to, const char *text, uint32_t bytes)
{
    for (uint32_t i = 0, length; i < bytes; i += length) {
        length = character_bytes((const uint8_t *)text + i, bytes - i);
        if (length == 0)
            to[i] = ' ';
        else
            memcpy(to + i, text + i, length);
        length = length == 0 ? 1 : length;
    }
}

static int ask_step(weir_shard *shard, struct errand *errand)
{
    return errand_post(shard, errand_shard(0), hall_take, errand);
}

/* A refused send is the end already (slow_peer), but for one for lack of memory. */
static void member_hear(weir_conn *conn, const char *text)
{
    if (weir_send(conn, text, (uint32_t)strlen(text)) != 0)
        weir_end(conn);
}

static void member_answered(weir_shard *shard, void *user)
{
    struct errand *errand = user;
    weir_conn *conn = weir_find(shard, errand->id);
    if (conn != NULL) {
        if (errand->answer[0] != '\0')
            member_hear(conn, errand->answer);
        weir_resume(conn);
    }
    errand_free(errand);
}

/* The next line is not read before the errand is back. */
static void member_ask(weir_conn *conn, enum errand_kind kind, const char *text, uint32_t bytes)
{
    struct errand *errand = errand_allocate(sizeof *errand);
    errand->kind = kind;
    errand->back = member_answered;
    errand->home = weir_conn_shard(conn);
    errand->id = weir_conn_id(conn);
    errand->person = weir_conn_user(conn);
    member_clean(errand->text, text, bytes);
    weir_pause(conn);
    errand_start(errand->home, errand, ask_step);
}

static int member_opened(weir_conn *conn)
{
    weir_conn_set_user(conn, hall_stranger());
    if (weir_conn_protocol(conn) == &member_lines) { /* a page says it in its own way */
        member_hear(conn, "* Welcome. Type /name NAME, /join ROOM, /leave, /rooms, /who, /quit;");
        member_hear(conn, "* all else is said to the others in your room.");
    }
    member_ask(conn, COME, "", 0);
    return 0;
}

static int member_typed(weir_conn *conn, const weir_message *message)
{
    if (message->bytes == 5 && memcmp(message->data, "/quit", 5) == 0)
        weir_end(conn);
    else if (message->bytes > TEXT_BYTES)
        member_hear(conn, "* that is too long");
    else if (message->bytes > 0)
        member_ask(conn, TYPED, (const char *)message->data, message->bytes);
    return WEIR_TAKEN;
}

static void member_closed(weir_conn *conn, const weir_close_event *event)
{
    char how[64];
    snprintf(how, sizeof how, " (%s)", weir_reason_name(event->reason));
    if (event->reason != WEIR_REASON_STOPPED) /* else all are going */
        member_ask(conn, GO, how, (uint32_t)strlen(how));
}

#define MEMBER                                                                                                                             \
    {                                                                                                                                      \
        .name = "chat", .limits = {.slow_peer = {.queued_bytes_max = 1, .stalled_ns_max = 60 * WEIR_SECOND}, .drain_ns = WEIR_SECOND},     \
        .on_open = member_opened, .on_message = member_typed, .on_close = member_closed,                                                   \
    }

weir_protocol member_lines = MEMBER, member_web = MEMBER;
