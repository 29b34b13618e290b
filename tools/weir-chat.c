/* SPDX-License-Identifier: MIT */
/* weir-chat: rooms to talk in; `nc HOST PORT` is a client. Also an example of embedding weir on many shards without a mutex: what all
 * shards have to agree on (names, rooms, who is where) is the hall, and only shard 0 touches it; the others send it errands by weir_post().
 * A room is a group of weir's, so the bulk of the work, a copy of each line for each member, is done by all shards.
 *
 * Road:    a line typed -> an errand to shard 0 -> the room is told, the hall changed -> the errand is back with an answer -> next line.
 *          What a room hears has all passed by shard 0, so all in it see the same order.
 * Ditches: -EAGAIN, some ring is full -> the errand waits in its shard's line, others behind it, until WEIR_PORT_ROOM. A member is not read
 *          while its errand is under way, so all lines together hold at most two errands for each connection.
 *          A member has gone when its errand comes home -> the errand goes too; the one that says so (GO) is behind it.
 *          A member does not read -> the first line that it has no room for is its end (slow_peer). The others notice nothing. */
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

const char *argp_program_version; /* argp's own name */

#define NAME_BYTES 24                            /* hall_hear() knows it too */
#define TEXT_BYTES 1000                          /* of what is said at once */
#define LINE_BYTES (NAME_BYTES + 2 + TEXT_BYTES) /* "NAME: " goes before it */
#define SHARDS_MAX 1024

static weir_runtime *runtime;

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL) {
        fputs("weir-chat: no memory\n", stderr);
        abort();
    }
    return memory;
}

/* --- errands --- */

/* Belongs to one shard at a time: posting it gives it away. */
struct errand {
    struct errand *next;                                   /* behind it in its shard's line */
    int (*step)(weir_shard *shard, struct errand *errand); /* -EAGAIN: again when there is room; else it is given away, or over */
    enum errand_kind { COME, TYPED, GO } kind;
    weir_shard *home;
    weir_id id;
    struct person *person;       /* the hall's, from COME to GO; at home no more than a name for it */
    char text[LINE_BYTES + 1];   /* what was typed, or how it goes */
    char answer[LINE_BYTES + 1]; /* empty: none */
};

/* Each shard's line of errands that found no room. */
static struct line {
    struct errand *first, *last;
} lines[SHARDS_MAX];

static void errand_start(weir_shard *shard, struct errand *errand, int (*step)(weir_shard *shard, struct errand *errand))
{
    struct line *line = &lines[weir_shard_index(shard)];
    errand->step = step;
    if (line->first == NULL && step(shard, errand) != -EAGAIN)
        return;
    errand->next = NULL;
    *(line->first == NULL ? &line->first : &line->last->next) = errand;
    line->last = errand;
}

static int errand_post(weir_shard *from, weir_shard *to, weir_post_function function, struct errand *errand)
{
    int result = weir_post(weir_shard_port(from), to, function, errand);
    if (result != 0 && result != -EAGAIN)
        free(errand); /* that shard has stopped */
    return result;
}

static void port_event(weir_shard *shard, const weir_port_event *event)
{
    struct line *line = &lines[weir_shard_index(shard)];
    if (event->kind == WEIR_PORT_NOT_RUN)
        free(event->user); /* an errand to a shard that has stopped */
    if (event->kind == WEIR_PORT_UNDELIVERED)
        weir_end_id(shard, event->id); /* there was no memory for its join */
    while (event->kind == WEIR_PORT_ROOM && line->first != NULL) {
        struct errand *next = line->first->next; /* read while it is ours */
        if (line->first->step(shard, line->first) == -EAGAIN)
            break;
        line->first = next;
    }
}

/* --- the hall: all of this is shard 0's ---
 *
 * What can answer -EAGAIN comes before what changes the hall, and moving twice is moving once: an errand that has waited is begun again. */

struct room {
    struct room *next;
    char name[NAME_BYTES + 1];
    weir_group group;
    uint32_t people;
};

struct person {
    struct person *next;
    char name[NAME_BYTES + 1];
    struct room *room; /* NULL exactly when in none */
};

static struct room *rooms;
static struct person *people;

static struct person *hall_find(const char *name)
{
    struct person *person = people;
    while (person != NULL && strcmp(person->name, name) != 0)
        person = person->next;
    return person;
}

static void hall_answer(struct errand *errand, const char *format, ...)
{
    size_t bytes = strlen(errand->answer);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(errand->answer + bytes, sizeof errand->answer - bytes, format, arguments); /* cut where it is full */
    va_end(arguments);
}

static weir_port *hall_port(void)
{
    return weir_shard_port(weir_shard_at(runtime, 0));
}

/* Tells all in the room but who is on the errand. */
static int hall_tell(const struct errand *errand, const struct room *room, const char *format, ...)
{
    char text[LINE_BYTES + 1];
    va_list arguments;
    if (room == NULL)
        return 0;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return weir_group_send(hall_port(), room->group, text, (uint32_t)strlen(text), errand->id);
}

static void hall_come(struct errand *errand)
{
    static uint64_t guests;
    struct person *person = errand->person;
    do
        snprintf(person->name, sizeof person->name, "guest%llu", (unsigned long long)++guests);
    while (hall_find(person->name) != NULL);
    person->next = people;
    people = person;
    hall_answer(errand, "* you are %s, and in no room", person->name);
}

/* With its last person the room goes too. */
static int hall_leave(struct errand *errand, const char *how)
{
    struct person *person = errand->person;
    struct room *room = person->room, **place = &rooms;
    if (room == NULL)
        return 0;
    if (weir_group_leave(hall_port(), room->group, errand->id) == -EAGAIN ||
        hall_tell(errand, room, "* %s has left%s", person->name, how) == -EAGAIN)
        return -EAGAIN;
    person->room = NULL;
    if (--room->people > 0)
        return 0;
    while (*place != room)
        place = &(*place)->next;
    *place = room->next;
    weir_group_close(runtime, room->group);
    free(room);
    return 0;
}

static int hall_go(struct errand *errand)
{
    struct person **place = &people;
    if (hall_leave(errand, errand->text) == -EAGAIN)
        return -EAGAIN;
    while (*place != errand->person)
        place = &(*place)->next;
    *place = errand->person->next;
    free(errand->person);
    return 0;
}

static int hall_join(struct errand *errand, const char *name)
{
    struct room *room = rooms;
    while (room != NULL && strcmp(room->name, name) != 0)
        room = room->next;
    if (room == NULL) {
        weir_group group;
        if (weir_group_open(runtime, &group) != 0) {
            hall_answer(errand, "* there are too many rooms already");
            return 0;
        }
        room = allocate(sizeof *room);
        *room = (struct room){.next = rooms, .group = group};
        strcpy(room->name, name);
        rooms = room;
    }
    if (room != errand->person->room) {
        if (hall_leave(errand, "") == -EAGAIN || weir_group_join(hall_port(), room->group, errand->id) == -EAGAIN ||
            hall_tell(errand, room, "* %s has joined", errand->person->name) == -EAGAIN)
            return -EAGAIN;
        errand->person->room = room;
        room->people++;
    }
    hall_answer(errand, "* you are in %s, with %u others", name, room->people - 1);
    return 0;
}

static int hall_rename(struct errand *errand, const char *name)
{
    struct person *person = errand->person, *other = hall_find(name);
    if (other == NULL && hall_tell(errand, person->room, "* %s is now %s", person->name, name) == -EAGAIN)
        return -EAGAIN;
    if (other == NULL)
        strcpy(person->name, name);
    hall_answer(errand, other == NULL || other == person ? "* you are %s" : "* %s is taken", name);
    return 0;
}

static void hall_list_rooms(struct errand *errand)
{
    hall_answer(errand, rooms == NULL ? "* there are no rooms" : "* rooms:");
    for (const struct room *room = rooms; room != NULL; room = room->next)
        hall_answer(errand, " %s (%u)", room->name, room->people);
}

static void hall_list_people(struct errand *errand)
{
    const struct room *here = errand->person->room;
    hall_answer(errand, here == NULL ? "* you are in no room" : "* here are");
    for (const struct person *person = people; here != NULL && person != NULL; person = person->next)
        if (person->room == here)
            hall_answer(errand, " %s", person->name);
}

static int hall_hear(struct errand *errand)
{
    const char *text = errand->text;
    const struct person *person = errand->person;
    char name[NAME_BYTES + 1], more;
    if (text[0] != '/' && person->room != NULL)
        return hall_tell(errand, person->room, "%s: %s", person->name, text);
    if (sscanf(text, "/name%*1[ ]%24[!-~]%c", name, &more) == 1) /* a blank, printable characters, nothing more */
        return hall_rename(errand, name);
    if (sscanf(text, "/join%*1[ ]%24[!-~]%c", name, &more) == 1)
        return hall_join(errand, name);
    bool leaves = strcmp(text, "/leave") == 0;
    if (leaves && hall_leave(errand, "") == -EAGAIN)
        return -EAGAIN;
    if (leaves || text[0] != '/' || strcmp(text, "/who") == 0)
        hall_list_people(errand); /* to the first two, that there is no room */
    else if (strcmp(text, "/rooms") == 0)
        hall_list_rooms(errand);
    else
        hall_answer(errand, "* that is no command, or a name that is not 1 to %d printable characters", NAME_BYTES);
    return 0;
}

static int return_step(weir_shard *shard, struct errand *errand);

static int hall_step(weir_shard *shard, struct errand *errand)
{
    int result = 0;
    switch (errand->kind) {
    case COME:
        hall_come(errand);
        break;
    case TYPED:
        result = hall_hear(errand);
        break;
    case GO:
        result = hall_go(errand);
        break;
    }
    if (result == -EAGAIN)
        return result;
    errand->step = return_step;
    return return_step(shard, errand);
}

static void hall_take(weir_shard *shard, void *user)
{
    errand_start(shard, user, hall_step);
}

/* --- members: all of this is their own shard's --- */

static int ask_step(weir_shard *shard, struct errand *errand)
{
    return errand_post(shard, weir_shard_at(runtime, 0), hall_take, errand);
}

/* A refused send is the end already (slow_peer), but for one for lack of memory. */
static void member_hear(weir_conn *conn, const char *text)
{
    if (weir_send(conn, text, (uint32_t)strlen(text)) != 0)
        weir_end(conn);
}

/* The next line is not read before the errand is back. */
static void member_ask(weir_conn *conn, enum errand_kind kind, const char *text, uint32_t bytes)
{
    struct errand *errand = allocate(sizeof *errand);
    errand->kind = kind;
    errand->home = weir_conn_shard(conn);
    errand->id = weir_conn_id(conn);
    errand->person = weir_conn_user(conn);
    for (uint32_t i = 0; i < bytes; i++)
        errand->text[i] = iscntrl((unsigned char)text[i]) ? ' ' : text[i]; /* no escapes for the others' terminals */
    weir_pause(conn);
    errand_start(errand->home, errand, ask_step);
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
    free(errand);
}

static int return_step(weir_shard *shard, struct errand *errand)
{
    return errand_post(shard, errand->home, member_answered, errand);
}

static int member_opened(weir_conn *conn)
{
    weir_conn_set_user(conn, allocate(sizeof(struct person)));
    member_hear(conn, "* Welcome. Type /name NAME, /join ROOM, /leave, /rooms, /who, /quit;");
    member_hear(conn, "* all else is said to the others in your room.");
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

static weir_protocol protocol = {
    .name = "chat",
    .limits = {.slow_peer = {.queued_bytes_max = 1, .stalled_ns_max = 60 * WEIR_SECOND}, .drain_ns = WEIR_SECOND},
    .on_open = member_opened,
    .on_message = member_typed,
    .on_close = member_closed,
};

/* --- the runtime round it --- */

static void stop_signal(int number)
{
    (void)number;
    weir_stop(runtime); /* async-signal-safe */
}

static void log_line(void *user, weir_log_level level, const char *sentence)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    (void)user;
    fprintf(stderr, "weir-chat: %s: %s\n", names[level], sentence);
}

static struct settings {
    const char *listen;
    bool limits;
    weir_config config;
} settings = {.listen = "tcp://127.0.0.1:7000", .config = {.log = log_line, .log_level = WEIR_LOG_WARNING, .on_port_event = port_event}};

static uint64_t number(struct argp_state *state, const char *option, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < least || value > most)
        argp_error(state, "--%s wants %llu to %llu, not '%s'", option, (unsigned long long)least, (unsigned long long)most, text);
    return value;
}

enum { OPTION_IDLE = 256, OPTION_CONNECTIONS, OPTION_LIMITS };

static const struct argp_option options[] = {
    {"listen", 'l', "ADDRESS", 0,
     "Listen here (default tcp://127.0.0.1:7000). tcp://HOST:PORT, unix:///PATH, unix://@NAME, fd://N, systemd://", 0},
    {"shards", 's', "N", 0, "Shards, each on a thread of its own (default: one for each cpu)", 0},
    {"idle", OPTION_IDLE, "SECONDS", 0, "End connections on which nothing moves for so long (default: never)", 0},
    {"connections", OPTION_CONNECTIONS, "N", 0, "Most connections for each shard (default 16384)", 0},
    {"limits", OPTION_LIMITS, NULL, 0, "Print what all limits add up to before listening", 0},
    {0}};

static error_t parse(int key, char *text, struct argp_state *state)
{
    weir_config *config = &settings.config;
    switch (key) {
    case 'l':
        settings.listen = text;
        return 0;
    case 's':
        config->shards = (uint32_t)number(state, "shards", text, 1, SHARDS_MAX);
        return 0;
    case OPTION_IDLE:
        protocol.limits.idle_ns = number(state, "idle", text, 0, 1000000000) * WEIR_SECOND;
        return 0;
    case OPTION_CONNECTIONS:
        config->connections = (uint32_t)number(state, "connections", text, 1, 1U << 20);
        return 0;
    case OPTION_LIMITS:
        settings.limits = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int serve(weir_error *error)
{
    char text[2048];
    weir_listener listener;
    if (settings.limits && weir_limits_text(runtime, text, sizeof text) > 0)
        fputs(text, stdout);
    int result = weir_listen(runtime, settings.listen, &protocol, NULL, &listener, error);
    if (result != 0)
        return result;
    weir_listener_address(runtime, listener, text, sizeof text);
    printf("listening on %s\n", text);
    fflush(stdout);
    result = weir_run(runtime);
    snprintf(error->sentence, sizeof error->sentence, "%s", weir_strerror(result));
    return result;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {options, parse, NULL, "Rooms to talk in, until SIGTERM or SIGINT.\vTo take part: nc 127.0.0.1 7000",
                                     NULL,    NULL,  NULL};
    static const struct sigaction action = {.sa_handler = stop_signal};
    char version[32];
    weir_error error;
    snprintf(version, sizeof version, "weir %d.%d.%d", WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR, WEIR_VERSION_PATCH);
    argp_program_version = version;
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    weir_codec_line(&protocol.codec, LINE_BYTES, false);
    int result = weir_open(&settings.config, &runtime, &error);
    if (result == 0) {
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
        result = serve(&error);
    }
    if (result != 0)
        fprintf(stderr, "weir-chat: %s\n", error.sentence);
    weir_close(&runtime);
    return result == 0 ? 0 : 1;
}
