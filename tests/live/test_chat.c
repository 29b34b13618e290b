/* SPDX-License-Identifier: MIT */
/* test_chat: weir-chat as its users have it, a process with people on plain sockets, on two shards. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

static void chat_start(struct tool *chat)
{
    tool_start(chat, "weir-chat", (const char *const[]){"--listen", "tcp://127.0.0.1:0", "--shards", "2", NULL});
}

static void chat_stop(struct tool *chat)
{
    tool_stop(chat, SIGTERM, LIVE_PATIENCE_NS, NULL);
}

/* --- people --- */

enum { LINE_MAX_BYTES = 2048, NAME_MAX_BYTES = 24, TEXT_MAX_BYTES = 1000 };

struct talker {
    int descriptor;
    size_t bytes, begin; /* what has come, and where the next line begins */
    char data[16 * KIB];
    char line[LINE_MAX_BYTES]; /* the last one read */
    char name[NAME_MAX_BYTES + 1];
};

/* Takes a whole line out of what has come: false: there is none. */
static bool talker_take(struct talker *talker)
{
    char *line = talker->data + talker->begin, *end = memchr(line, '\n', talker->bytes - talker->begin);
    if (end == NULL)
        return false;
    size_t bytes = (size_t)(end - line);
    ck_assert_uint_lt(bytes, sizeof talker->line);
    memcpy(talker->line, line, bytes);
    talker->line[bytes] = '\0';
    talker->begin += bytes + 1;
    return true;
}

/* Receives once. 0: the end has come; else what recv() said. */
static ssize_t talker_receive(struct talker *talker, int flags)
{
    memmove(talker->data, talker->data + talker->begin, talker->bytes - talker->begin);
    talker->bytes -= talker->begin;
    talker->begin = 0;
    ssize_t got = live_receive(talker->descriptor, talker->data + talker->bytes, sizeof talker->data - talker->bytes, flags);
    talker->bytes += got > 0 ? (size_t)got : 0;
    return got;
}

static const char *talker_read(struct talker *talker)
{
    while (!talker_take(talker)) {
        ssize_t got = talker_receive(talker, 0);
        if (got <= 0)
            ck_abort_msg("%s: no more lines: %s", talker->name, got == 0 ? "the end" : strerror(errno));
    }
    return talker->line;
}

static void talker_say(struct talker *talker, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[bytes] = '\n';
    live_write(talker->descriptor, line, (size_t)bytes + 1);
}

static void talker_expect(struct talker *talker, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (strcmp(talker_read(talker), line) != 0)
        ck_abort_msg("%s reads '%s', not '%s'", talker->name, talker->line, line);
}

/* Connected on this socket, greeted, and called as the chat says. */
static void talker_greet(struct talker *talker, int descriptor)
{
    memset(talker, 0, sizeof *talker);
    talker->descriptor = descriptor;
    ck_assert_ptr_nonnull(strstr(talker_read(talker), "/name NAME"));
    talker_read(talker);
    talker_read(talker);
    if (sscanf(talker->line, "* you are %24[^,], and in no room", talker->name) != 1)
        ck_abort_msg("greeted by '%s'", talker->line);
}

/* With a name of its own, unless that is NULL. */
static void talker_open(struct talker *talker, const struct tool *chat, const char *name)
{
    talker_greet(talker, tool_dial(chat->address));
    if (name == NULL)
        return;
    talker_say(talker, "/name %s", name);
    talker_expect(talker, "* you are %s", name);
    strcpy(talker->name, name);
}

static void talker_join(struct talker *talker, const char *room, unsigned others)
{
    talker_say(talker, "/join %s", room);
    talker_expect(talker, "* you are in %s, with %u others", room, others);
}

static void talker_close(struct talker *talker)
{
    live_close(talker->descriptor);
}

/* Nothing else has come: an answer comes next. */
static void talker_expect_quiet(struct talker *talker)
{
    talker_say(talker, "/nothing");
    talker_read(talker);
    if (strncmp(talker->line, "* that is no command", 20) != 0)
        ck_abort_msg("%s reads '%s'", talker->name, talker->line);
}

/* Reads to the end, and answers how it came: 0, or the errno. */
static int talker_read_end(struct talker *talker)
{
    return live_read_end(talker->descriptor, NULL);
}

/* --- rooms and names --- */

START_TEST(two_in_a_room)
{
    struct tool chat;
    static struct talker anna, bert;
    chat_start(&chat);
    talker_open(&anna, &chat, "anna");
    talker_open(&bert, &chat, "bert");
    talker_say(&anna, "is anybody here?");
    talker_expect(&anna, "* you are in no room");
    talker_say(&anna, "/rooms");
    talker_expect(&anna, "* there are no rooms");
    talker_join(&anna, "cellar", 0);
    talker_join(&bert, "cellar", 1);
    talker_expect(&anna, "* bert has joined");
    talker_say(&anna, "hello bert\r"); /* some end their lines in CR LF */
    talker_expect(&bert, "anna: hello bert");
    talker_say(&bert, "hello / anna");
    talker_expect(&anna, "bert: hello / anna");
    talker_say(&bert, "/who");
    talker_read(&bert);
    ck_assert(strcmp(bert.line, "* here are anna bert") == 0 || strcmp(bert.line, "* here are bert anna") == 0);
    talker_say(&bert, "/rooms");
    talker_expect(&bert, "* rooms: cellar (2)");
    talker_say(&bert, "\x1b[31mred\x07");
    talker_expect(&anna, "bert:  [31mred "); /* nothing that a terminal would obey */
    talker_say(&bert, "%s", "");
    talker_expect_quiet(&bert); /* nobody hears what he says himself */
    talker_expect_quiet(&anna);
    talker_close(&anna);
    talker_close(&bert);
    chat_stop(&chat);
}
END_TEST

START_TEST(names)
{
    struct tool chat;
    static struct talker anna, bert;
    chat_start(&chat);
    talker_open(&anna, &chat, "anna");
    talker_open(&bert, &chat, NULL);
    talker_say(&bert, "/name anna");
    talker_expect(&bert, "* anna is taken");
    talker_say(&anna, "/name anna");
    talker_expect(&anna, "* you are anna");
    static const char *const bad[] = {"/name", "/name ",         "/name two words", "/name abcdefghijklmnopqrstuvwxy",
                                      "/join", "/name \xc3\xa4", "/nameanna"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        talker_say(&bert, "%s", bad[i]);
        talker_read(&bert);
        if (strncmp(bert.line, "* that is no command, or a name", 30) != 0)
            ck_abort_msg("'%s' is answered by '%s'", bad[i], bert.line);
    }
    talker_say(&bert, "/name abcdefghijklmnopqrstuvwx");
    talker_expect(&bert, "* you are abcdefghijklmnopqrstuvwx");
    talker_join(&anna, "r", 0);
    talker_join(&bert, "r", 1);
    talker_expect(&anna, "* abcdefghijklmnopqrstuvwx has joined");
    talker_say(&bert, "/name bert");
    talker_expect(&bert, "* you are bert");
    talker_expect(&anna, "* abcdefghijklmnopqrstuvwx is now bert");
    talker_say(&anna, "/quit");
    ck_assert_int_eq(talker_read_end(&anna), 0);
    talker_close(&anna);
    talker_expect(&bert, "* anna has left (local)");
    talker_say(&bert, "/name anna"); /* free again */
    talker_expect(&bert, "* you are anna");
    talker_close(&bert);
    chat_stop(&chat);
}
END_TEST

START_TEST(comings_and_goings)
{
    struct tool chat;
    static struct talker anna, bert, carl, dora;
    chat_start(&chat);
    talker_open(&anna, &chat, "anna");
    talker_open(&bert, &chat, "bert");
    talker_open(&carl, &chat, "carl");
    talker_open(&dora, &chat, "dora");
    talker_join(&anna, "cellar", 0);
    talker_join(&bert, "cellar", 1);
    talker_join(&carl, "cellar", 2);
    talker_join(&dora, "attic", 0);
    talker_expect(&anna, "* bert has joined");
    talker_expect(&anna, "* carl has joined");
    talker_expect(&bert, "* carl has joined");
    talker_join(&bert, "attic", 1);
    talker_expect(&anna, "* bert has left");
    talker_expect(&carl, "* bert has left");
    talker_expect(&dora, "* bert has joined");
    talker_say(&anna, "bert is not to hear this");
    talker_expect(&carl, "anna: bert is not to hear this");
    talker_expect_quiet(&bert);
    talker_expect_quiet(&dora);
    talker_join(&bert, "attic", 1); /* where he is */
    talker_say(&dora, "/leave");
    talker_expect(&dora, "* you are in no room");
    talker_expect(&bert, "* dora has left");
    live_reset(bert.descriptor); /* the attic goes with its last */
    talker_close(&carl);
    talker_expect(&anna, "* carl has left (peer)");
    for (bool gone = false; !gone;) {
        talker_say(&anna, "/rooms");
        gone = strcmp(talker_read(&anna), "* rooms: cellar (1)") == 0;
    }
    talker_join(&dora, "attic", 0); /* another one of that name */
    talker_expect_quiet(&dora);
    talker_close(&anna);
    talker_close(&dora);
    chat_stop(&chat);
}
END_TEST

enum { ROOMS = 256 };

/* A room that has closed counts until all shards have let go of it. */
static void talker_open_room(struct talker *talker, const char *room)
{
    char line[LINE_MAX_BYTES];
    do
        talker_say(talker, "/join %s", room);
    while (strcmp(talker_read(talker), "* there are too many rooms already") == 0);
    snprintf(line, sizeof line, "* you are in %s, with 0 others", room);
    ck_assert_str_eq(talker->line, line);
}

START_TEST(more_rooms_than_there_may_be)
{
    struct tool chat;
    static struct talker talkers[ROOMS + 1];
    struct talker *last = &talkers[ROOMS];
    char room[32];
    chat_start(&chat);
    for (int i = 0; i <= ROOMS; i++) {
        talker_open(&talkers[i], &chat, NULL);
        snprintf(room, sizeof room, "room%d", i);
        if (i < ROOMS)
            talker_join(&talkers[i], room, 0);
    }
    for (int i = 0; i < 3; i++) { /* one goes, one comes */
        talker_say(last, "/join another");
        talker_expect(last, "* there are too many rooms already");
        talker_say(&talkers[i], "/leave");
        talker_expect(&talkers[i], "* you are in no room");
        talker_open_room(last, "another");
        talker_say(last, "/leave");
        talker_expect(last, "* you are in no room");
        snprintf(room, sizeof room, "room%d", i);
        talker_open_room(&talkers[i], room);
    }
    for (int i = 0; i <= ROOMS; i++)
        talker_close(&talkers[i]);
    chat_stop(&chat);
}
END_TEST

/* --- many, on both shards --- */

enum { CROWD = 100, CROWD_LINES = 20 };

struct heard {
    uint8_t who[CROWD * CROWD_LINES];
    uint32_t count;
    uint32_t next[CROWD]; /* the next line's number of each */
};

/* A crowd in one room, all of whose joins have been heard by all. */
static void crowd_gather(struct talker *talkers, const struct tool *chat)
{
    for (unsigned i = 0; i < CROWD; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%u", i);
        talker_open(&talkers[i], chat, name);
        talker_join(&talkers[i], "hall", i);
        for (unsigned j = 0; j < i; j++)
            talker_expect(&talkers[j], "* %s has joined", name);
    }
}

/* All that can be read now, of lines "tWHO: NUMBER ...". */
static void crowd_listen(struct talker *talker, struct heard *heard)
{
    ssize_t got = talker_receive(talker, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN))
        ck_abort_msg("%s: no more lines: %s", talker->name, got == 0 ? "the end" : strerror(errno));
    while (talker_take(talker)) {
        unsigned who, number;
        if (sscanf(talker->line, "t%u: %u ", &who, &number) != 2 || who >= CROWD || number != heard->next[who])
            ck_abort_msg("%s reads '%.40s'", talker->name, talker->line);
        heard->next[who]++;
        heard->who[heard->count++] = (uint8_t)who;
    }
}

/* Everybody says what he has to say at once, and hears everything of all others. */
static void crowd_talk(struct talker *talkers, struct heard *heards, uint32_t lines, int line_bytes)
{
    struct pollfd polls[CROWD];
    memset(heards, 0, CROWD * sizeof *heards);
    for (uint32_t number = 0; number < lines; number++)
        for (int i = 0; i < CROWD; i++)
            talker_say(&talkers[i], "%u %0*d", number, line_bytes - 8, 0);
    for (int i = 0; i < CROWD; i++)
        polls[i] = (struct pollfd){.fd = talkers[i].descriptor, .events = POLLIN};
    for (int left = CROWD; left > 0;) {
        ck_assert_int_gt(poll(polls, CROWD, LIVE_PATIENCE_S * 1000), 0);
        for (int i = 0; i < CROWD; i++) {
            if (polls[i].fd < 0 || polls[i].revents == 0)
                continue;
            crowd_listen(&talkers[i], &heards[i]);
            if (heards[i].count == (CROWD - 1) * lines) {
                polls[i].fd = -1;
                left--;
            }
        }
    }
}

/* Everybody has heard the others in one order: but for what the two of them said, `a` and `b` are the same. */
static void crowd_compare(const struct heard *a, unsigned a_who, const struct heard *b, unsigned b_who)
{
    uint32_t i = 0, j = 0;
    for (;; i++, j++) {
        while (i < a->count && a->who[i] == b_who)
            i++;
        while (j < b->count && b->who[j] == a_who)
            j++;
        if (i == a->count || j == b->count)
            break;
        if (a->who[i] != b->who[j])
            ck_abort_msg("t%u and t%u have heard another order", a_who, b_who);
    }
    ck_assert(i == a->count && j == b->count);
}

/* Once with short lines, once with so long ones that rings between the shards are full now and then. */
START_TEST(a_hundred_in_one_room)
{
    static const int line_bytes[] = {16, 1000};
    static const uint32_t lines[] = {CROWD_LINES, 3};
    static struct talker talkers[CROWD];
    static struct heard heards[CROWD];
    struct tool chat;
    chat_start(&chat);
    crowd_gather(talkers, &chat);
    for (int round = 0; round < 2; round++) {
        crowd_talk(talkers, heards, lines[round], line_bytes[round]);
        for (unsigned i = 1; i < CROWD; i++)
            crowd_compare(&heards[0], 0, &heards[i], i);
    }
    for (int i = 0; i < CROWD; i++)
        talker_expect_quiet(&talkers[i]);
    for (int i = 0; i < CROWD; i++)
        talker_say(&talkers[i], "/quit");
    for (int i = 0; i < CROWD; i++) {
        ck_assert_int_eq(talker_read_end(&talkers[i]), 0);
        talker_close(&talkers[i]);
    }
    chat_stop(&chat);
}
END_TEST

enum { PASSERS_BY = 400 / LIVE_SLOWER };

/* Hundreds come, say something or nothing, and are gone again, some before they have a name. Nobody is left over. */
START_TEST(passers_by)
{
    struct tool chat;
    static struct talker anna;
    chat_start(&chat);
    talker_open(&anna, &chat, "anna");
    talker_join(&anna, "street", 0);
    for (int i = 0; i < PASSERS_BY; i++) {
        static const char *const said[] = {"", "/join street\n", "/join street\nhello\n/name anna\n/quit\n",
                                           "/join street\n/leave\n/join lane\n"};
        int descriptor = tool_dial(chat.address);
        live_write(descriptor, said[i % 4], strlen(said[i % 4]));
        if (i % 8 < 4)
            live_reset(descriptor);
        else
            live_close(descriptor);
    }
    uint64_t quiet_ns = live_now_ns();
    while (live_now_ns() - quiet_ns < WEIR_SECOND / 2) { /* until nobody comes or goes any more */
        talker_say(&anna, "/rooms");
        while (strncmp(talker_read(&anna), "* rooms:", 8) != 0)
            quiet_ns = live_now_ns();
        live_sleep(WEIR_MILLISECOND);
    }
    ck_assert_str_eq(anna.line, "* rooms: street (1)");
    talker_say(&anna, "/who");
    talker_expect(&anna, "* here are anna");
    for (int i = 1; i <= PASSERS_BY + 1; i++) { /* all their names are free */
        talker_say(&anna, "/name guest%d", i);
        talker_expect(&anna, "* you are guest%d", i);
    }
    talker_close(&anna);
    chat_stop(&chat);
}
END_TEST

/* --- who does not keep to it --- */

START_TEST(too_long)
{
    struct tool chat;
    static struct talker anna, bert;
    static char text[4096];
    chat_start(&chat);
    talker_open(&anna, &chat, "anna");
    talker_open(&bert, &chat, "bert");
    talker_join(&anna, "r", 0);
    talker_join(&bert, "r", 1);
    talker_expect(&anna, "* bert has joined");
    memset(text, 'x', sizeof text);
    talker_say(&bert, "%.*s", TEXT_MAX_BYTES, text);
    talker_expect(&anna, "bert: %.*s", TEXT_MAX_BYTES, text);
    talker_say(&bert, "%.*s", TEXT_MAX_BYTES + 1, text);
    talker_expect(&bert, "* that is too long");
    live_write(bert.descriptor, text, sizeof text); /* and no end in sight */
    ck_assert_int_eq(talker_read_end(&bert), 0);
    talker_close(&bert);
    talker_expect(&anna, "* bert has left (too-big)");
    talker_expect_quiet(&anna);
    talker_close(&anna);
    chat_stop(&chat);
}
END_TEST

/* Anna and Bert go on talking while Carl, who does not read, fills up and is shown out. */
START_TEST(who_never_reads)
{
    struct tool chat;
    static struct talker anna, bert, carl;
    char text[TEXT_MAX_BYTES + 1], left[64];
    uint64_t worst_ns = 0;
    bool gone = false;
    memset(text, 'x', sizeof text);
    chat_start(&chat);
    talker_open(&anna, &chat, "anna");
    talker_open(&bert, &chat, "bert");
    talker_greet(&carl, tool_dial_narrow(chat.address));
    talker_join(&anna, "r", 0);
    talker_join(&bert, "r", 1);
    talker_join(&carl, "r", 2);
    talker_expect(&anna, "* bert has joined");
    talker_expect(&anna, "* %s has joined", carl.name);
    talker_expect(&bert, "* %s has joined", carl.name);
    for (int i = 0; i < 100000 && !gone; i++) {
        uint64_t begin_ns = live_now_ns();
        talker_say(&anna, "%06d%.*s", i, TEXT_MAX_BYTES - 6, text);
        gone = strncmp(talker_read(&bert), "anna: ", 6) != 0;
        if (gone)
            break;
        ck_assert_int_eq(atoi(bert.line + 6), i);
        uint64_t took_ns = live_now_ns() - begin_ns;
        worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
    }
    ck_assert(gone);
    snprintf(left, sizeof left, "* %s has left (slow-bytes)", carl.name);
    ck_assert_str_eq(bert.line, left);
    ck_assert_uint_lt(worst_ns, LIVE_SLOWER * WEIR_SECOND / 2);
    live_close(carl.descriptor);
    talker_expect(&anna, "%s", left);
    talker_close(&anna);
    talker_close(&bert);
    chat_stop(&chat);
}
END_TEST

/* --- stopping --- */

START_TEST(stopped_while_all_talk)
{
    static struct talker talkers[CROWD];
    struct tool chat;
    chat_start(&chat);
    crowd_gather(talkers, &chat);
    for (int number = 0; number < 200; number++)
        for (int i = 0; i < CROWD; i++) {
            if (live_send(talkers[i].descriptor, "12345678\n", 9, MSG_DONTWAIT) < 0)
                ck_assert_int_eq(errno, EAGAIN);
        }
    talker_read(&talkers[0]);
    tool_stop(&chat, SIGINT, LIVE_SLOWER * 3 * WEIR_SECOND, NULL);
    for (int i = 0; i < CROWD; i++) {
        talker_read_end(&talkers[i]);
        talker_close(&talkers[i]);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {two_in_a_room, names,    comings_and_goings, more_rooms_than_there_may_be, a_hundred_in_one_room,
                                  passers_by,    too_long, who_never_reads,    stopped_while_all_talk};
    return live_main("chat", tests, sizeof tests / sizeof *tests);
}
