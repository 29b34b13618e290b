/* SPDX-License-Identifier: MIT */
/* good: the soak's good clients: they say what they have to, read what they are sent, and look at every byte of it.
 *
 * Half of them speak to echo, a quarter through a pipe to echo, the rest listen to a room or to a feed. Those that speak do so in an open loop: each
 * message has its time, and its latency counts from that time on, whether or not it could be sent then.
 *
 * Road:    dial -> each message at its time -> its answer -> after a while: all is sent, half-close -> what is missing comes, then the end -> again.
 * Ditches: short write -> the rest at EPOLLOUT; no service -> again in 50 ms; the end before its time -> told, with what was sent and received; an
 *          answer that does not come -> its age is its latency, at the end at the latest.
 *
 * Whether an end was allowed is not known here: tools/soak knows when the service was stopped. */
#include <argp.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message.h"
#include "perf/address.h"
#include "perf/histogram.h"
#include "say.h"

const char *argp_program_version; /* argp's own name */

#define MILLISECOND   UINT64_C(1000000)
#define SECOND        UINT64_C(1000000000)
#define NEVER         UINT64_MAX
#define INPUT_BYTES   (128u * 1024)
#define OUTPUT_BYTES  (MESSAGE_FRAME_BYTES + MESSAGE_MOST_BYTES + 8)
#define EVENTS        64
#define CLIENTS_MAX   1024u
#define ADDRESSES_MAX 4u
#define RETRY_NS      (50 * MILLISECOND)
#define FINISH_NS     (5 * SECOND) /* at the end of the program */
#define ROOM_STREAM   0u

enum kind { ECHO, PIPE, ROOM, FEED, KINDS };
static const char *const kind_names[KINDS] = {"echo", "pipe", "room", "feed"};

/* Of a life: messages [0, received) are answered, [received, sent) under way, [sent, due) wait to be written.
 * Room and feed: sent is the greeting, and received counts what came by itself. */
struct client {
    enum kind kind;
    enum { DOWN, DIALING, UP } state;
    const struct address *address;
    int socket; /* -1 exactly when DOWN */
    uint64_t retry_ns;
    uint64_t stream;
    uint64_t base_ns;   /* when message 0 is due */
    uint64_t finish_ns; /* when no more become due */
    uint64_t due, sent, received;
    uint64_t next;    /* room: the number that has to come; NEVER before the first */
    bool half_closed; /* true exactly when all is sent that will be */
    uint32_t input_bytes, output_bytes, output_at;
    uint8_t input[INPUT_BYTES];
    uint8_t output[OUTPUT_BYTES];
};

static struct settings {
    struct address addresses[KINDS][ADDRESSES_MAX];
    uint32_t address_counts[KINDS];
    uint32_t clients;
    double rate;
    uint64_t life_ns;
    uint64_t interval_ns; /* between two lines of counters */
} settings = {.clients = 32, .rate = 2000, .life_ns = 10 * SECOND, .interval_ns = SECOND};

static struct client *clients;
static int epoll;
static uint64_t period_ns, streams, chance = 1;
static volatile sig_atomic_t stopping;

/* Of the interval that runs. */
static struct histogram latency[2]; /* echo's, the pipe's */
static uint64_t sent_count, answered_count, heard_count, missed_count, dial_failures;

static uint64_t chance_below(uint64_t limit)
{
    chance = message_mix(chance + UINT64_C(0x9e3779b97f4a7c15));
    return chance % limit;
}

static bool client_speaks(const struct client *client)
{
    return client->kind == ECHO || client->kind == PIPE;
}

static uint64_t client_due_ns(const struct client *client, uint64_t number)
{
    return client->base_ns + number * period_ns;
}

/* --- the end of a life --- */

static void client_down(struct client *client)
{
    close(client->socket);
    client->socket = -1;
    client->state = DOWN;
    client->retry_ns = say_now_ns() + RETRY_NS;
}

static void client_end(struct client *client, const char *cause, int error)
{
    uint64_t now_ns = say_now_ns();
    for (uint64_t number = client->received; client_speaks(client) && number < client->due; number++)
        histogram_record(&latency[client->kind], now_ns - client_due_ns(client, number));
    say("ended",
        "\"what\":\"%s\",\"stream\":%llu,\"cause\":\"%s\",\"error\":%d,\"begun\":%.3f,\"due\":%llu,\"sent\":%llu,\"received\":%llu,"
        "\"torn\":%u",
        kind_names[client->kind], (unsigned long long)client->stream, cause, error, (double)client->base_ns / 1e9,
        (unsigned long long)client->due, (unsigned long long)client->sent, (unsigned long long)client->received, client->input_bytes);
    client_down(client);
}

/* --- in --- */

static void client_answered(struct client *client, const uint8_t *data, uint32_t bytes, uint64_t now_ns)
{
    uint64_t number = client->received;
    if (number >= client->sent || !message_matches(data, bytes, client->stream, number))
        say_fault("%s: instead of the answer to message %llu of %llu came %u bytes that %s", kind_names[client->kind],
                  (unsigned long long)number, (unsigned long long)client->sent, bytes,
                  !message_is_ours(data, bytes)            ? "are none of ours"
                  : message_stream(data) != client->stream ? "belong to another"
                  : message_number(data) == number         ? "have changed"
                                                           : "have another number");
    client->received++;
    answered_count++;
    histogram_record(&latency[client->kind], now_ns - client_due_ns(client, number));
}

static void client_heard(struct client *client, const uint8_t *data, uint32_t bytes)
{
    uint64_t stream = client->kind == ROOM ? ROOM_STREAM : client->stream;
    uint64_t number = message_is_ours(data, bytes) ? message_number(data) : 0;
    uint64_t wanted = client->kind == FEED ? client->received : client->next == NEVER ? number : client->next;
    if (client->kind == ROOM && number > wanted) {
        missed_count += number - wanted; /* a room may be missed, if the service says so */
        wanted = number;
    }
    if (!message_matches(data, bytes, stream, wanted))
        say_fault("%s: instead of message %llu came %u bytes with number %llu", kind_names[client->kind], (unsigned long long)wanted, bytes,
                  (unsigned long long)number);
    client->next = wanted + 1;
    client->received++;
    heard_count++;
}

static void client_cut(struct client *client)
{
    uint64_t now_ns = say_now_ns();
    uint32_t at = 0, length;
    while (client->input_bytes - at >= MESSAGE_FRAME_BYTES) {
        memcpy(&length, client->input + at, sizeof length);
        length = le32toh(length);
        if (length > MESSAGE_MOST_BYTES) {
            say_fault("%s: a frame announces %u bytes", kind_names[client->kind], length);
            client_end(client, "nonsense", 0);
            return;
        }
        if (client->input_bytes - at < MESSAGE_FRAME_BYTES + length)
            break;
        if (client_speaks(client))
            client_answered(client, client->input + at + MESSAGE_FRAME_BYTES, length, now_ns);
        else
            client_heard(client, client->input + at + MESSAGE_FRAME_BYTES, length);
        at += MESSAGE_FRAME_BYTES + length;
    }
    client->input_bytes -= at;
    memmove(client->input, client->input + at, client->input_bytes);
}

static void client_read(struct client *client)
{
    while (client->state == UP) {
        ssize_t count = recv(client->socket, client->input + client->input_bytes, INPUT_BYTES - client->input_bytes, 0);
        if (count < 0 && errno == EAGAIN)
            return;
        if (count < 0) {
            client_end(client, "error", errno);
        } else if (count == 0) {
            client_end(client, client->half_closed ? "finished" : "eof", 0);
        } else {
            client->input_bytes += (uint32_t)count;
            client_cut(client);
        }
    }
}

/* --- out --- */

static void client_make(struct client *client)
{
    uint32_t bytes = message_make(client->output + MESSAGE_FRAME_BYTES, client->stream, client->sent);
    uint32_t length = htole32(bytes);
    memcpy(client->output, &length, sizeof length);
    client->output_bytes = MESSAGE_FRAME_BYTES + bytes;
    client->output_at = 0;
}

static void client_write(struct client *client)
{
    while (client->state == UP && client->sent < client->due) {
        if (client->output_at == client->output_bytes)
            client_make(client);
        ssize_t count = send(client->socket, client->output + client->output_at, client->output_bytes - client->output_at, MSG_NOSIGNAL);
        if (count < 0) {
            /* What has come before the end is still to be read; the read tells of the end. */
            if (errno != EAGAIN)
                client_read(client);
            return;
        }
        client->output_at += (uint32_t)count;
        if (client->output_at == client->output_bytes) {
            client->sent++;
            sent_count++;
        }
    }
}

/* What has become due; and when all is over and sent, that is told to the peer. */
static void client_tick(struct client *client, uint64_t now_ns)
{
    uint64_t until_ns = now_ns < client->finish_ns ? now_ns : client->finish_ns;
    if (!client_speaks(client))
        client->due = 1;
    else
        while (client_due_ns(client, client->due) <= until_ns)
            client->due++;
    client_write(client);
    if (client->state == UP && now_ns >= client->finish_ns && client->sent == client->due && !client->half_closed) {
        client->half_closed = true;
        shutdown(client->socket, SHUT_WR);
    }
}

/* --- the beginning of a life --- */

static void client_up(struct client *client)
{
    uint64_t now_ns = say_now_ns();
    client->state = UP;
    client->stream = ++streams;
    client->base_ns = now_ns + chance_below(period_ns);
    client->finish_ns = stopping ? now_ns : now_ns + settings.life_ns / 2 + chance_below(settings.life_ns);
    client->due = client->sent = client->received = 0;
    client->next = NEVER;
    client->half_closed = false;
    client->input_bytes = client->output_bytes = client->output_at = 0;
}

static void client_dial(struct client *client)
{
    const struct address *address = client->address;
    int on = 1;
    client->socket = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (address_is_tcp(address))
        setsockopt(client->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event interest = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = client};
    client->state = DIALING;
    if (client->socket < 0 ||
        (connect(client->socket, (const struct sockaddr *)&address->storage, address->storage_bytes) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, client->socket, &interest) != 0) {
        dial_failures++;
        client_down(client);
    }
}

static void client_dialed(struct client *client)
{
    int error = 0;
    socklen_t error_bytes = sizeof error;
    getsockopt(client->socket, SOL_SOCKET, SO_ERROR, &error, &error_bytes);
    if (error == 0) {
        client_up(client);
        return;
    }
    dial_failures++;
    client_down(client);
}

/* --- all of them --- */

/* The next moment at which something becomes due. */
static uint64_t clients_tick(uint64_t now_ns)
{
    uint64_t next_ns = NEVER;
    for (struct client *client = clients; client < clients + settings.clients; client++) {
        if (client->state == DOWN && !stopping && now_ns >= client->retry_ns)
            client_dial(client);
        if (client->state == UP)
            client_tick(client, now_ns);
        uint64_t due_ns = client->state == DOWN ? client->retry_ns : NEVER;
        if (client->state == UP && client_speaks(client) && client_due_ns(client, client->due) <= client->finish_ns)
            due_ns = client_due_ns(client, client->due);
        else if (client->state == UP && !client->half_closed && client->sent == client->due)
            due_ns = client->finish_ns;
        if (due_ns < next_ns)
            next_ns = due_ns;
    }
    return next_ns;
}

static void clients_say(const char *kind)
{
    uint64_t up = 0, oldest_ns = 0, now_ns = say_now_ns();
    for (const struct client *client = clients; client < clients + settings.clients; client++) {
        up += client->state == UP;
        if (client->state == UP && client_speaks(client) && client->received < client->due &&
            now_ns - client_due_ns(client, client->received) > oldest_ns)
            oldest_ns = now_ns - client_due_ns(client, client->received);
    }
    char text[2][256];
    for (int i = 0; i < 2; i++)
        snprintf(text[i], sizeof text[i], "{\"count\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"most_us\":%.1f}",
                 (unsigned long long)latency[i].count, (double)histogram_percentile(&latency[i], 50) / 1e3,
                 (double)histogram_percentile(&latency[i], 99) / 1e3, (double)histogram_percentile(&latency[i], 99.9) / 1e3,
                 (double)latency[i].most_ns / 1e3);
    say(kind,
        "\"up\":%llu,\"sent\":%llu,\"answered\":%llu,\"heard\":%llu,\"missed\":%llu,\"dial_failures\":%llu,\"oldest_ms\":%.1f,\"echo\":%s,"
        "\"pipe\":%s",
        (unsigned long long)up, (unsigned long long)sent_count, (unsigned long long)answered_count, (unsigned long long)heard_count,
        (unsigned long long)missed_count, (unsigned long long)dial_failures, (double)oldest_ns / 1e6, text[0], text[1]);
    memset(latency, 0, sizeof latency);
    sent_count = answered_count = heard_count = missed_count = dial_failures = 0;
}

static void clients_wait(uint64_t until_ns)
{
    struct epoll_event events[EVENTS];
    uint64_t now_ns = say_now_ns();
    uint64_t sleep_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec sleep = {.tv_sec = (time_t)(sleep_ns / SECOND), .tv_nsec = (long)(sleep_ns % SECOND)};
    int count = epoll_pwait2(epoll, events, EVENTS, &sleep, NULL);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (client->state == DIALING)
            client_dialed(client);
        if (client->state == UP)
            client_read(client);
        if (client->state == UP)
            client_write(client);
    }
}

static bool clients_finished(void)
{
    for (const struct client *client = clients; client < clients + settings.clients; client++)
        if (client->state != DOWN)
            return false;
    return true;
}

static void clients_run(void)
{
    uint64_t interval_ns = say_now_ns() + settings.interval_ns, finish_ns = NEVER;
    while (!stopping || (!clients_finished() && say_now_ns() < finish_ns)) {
        uint64_t now_ns = say_now_ns();
        if (stopping && finish_ns == NEVER) {
            finish_ns = now_ns + FINISH_NS;
            for (struct client *client = clients; client < clients + settings.clients; client++)
                if (client->finish_ns > now_ns)
                    client->finish_ns = now_ns;
        }
        uint64_t next_ns = clients_tick(now_ns);
        if (now_ns >= interval_ns) {
            clients_say("interval");
            interval_ns += settings.interval_ns;
        }
        clients_wait(next_ns < interval_ns ? next_ns : interval_ns);
    }
    for (struct client *client = clients; client < clients + settings.clients; client++)
        if (client->state == UP)
            client_end(client, "unfinished", 0);
    clients_say("interval");
}

/* --- the program --- */

static void stop_signal(int number)
{
    (void)number;
    stopping = 1;
}

static enum kind kind_of_share(uint32_t index)
{
    static const enum kind shares[8] = {ECHO, PIPE, ECHO, ROOM, ECHO, PIPE, ECHO, FEED};
    return shares[index % 8];
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    enum kind kind = key == 'e' ? ECHO : key == 'p' ? PIPE : key == 'r' ? ROOM : FEED;
    const char *wrong;
    switch (key) {
    case 'e':
    case 'p':
    case 'r':
    case 'f':
        if (settings.address_counts[kind] == ADDRESSES_MAX)
            argp_error(state, "too many addresses");
        wrong = address_parse(&settings.addresses[kind][settings.address_counts[kind]++], text);
        if (wrong != NULL)
            argp_error(state, "%s %s", text, wrong);
        return 0;
    case 'c':
        settings.clients = (uint32_t)strtoul(text, NULL, 10);
        return settings.clients < 8 || settings.clients > CLIENTS_MAX ? EINVAL : 0;
    case 'n':
        settings.rate = strtod(text, NULL);
        return settings.rate < 1 ? EINVAL : 0;
    case 'l':
        settings.life_ns = strtoull(text, NULL, 10) * MILLISECOND;
        return settings.life_ns == 0 ? EINVAL : 0;
    case 'i':
        settings.interval_ns = strtoull(text, NULL, 10) * MILLISECOND;
        return settings.interval_ns == 0 ? EINVAL : 0;
    case ARGP_KEY_END:
        for (int i = 0; i < KINDS; i++)
            if (settings.address_counts[i] == 0)
                argp_error(state, "--%s has to be given", kind_names[i]);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {{"echo", 'e', "ADDRESS", 0, "Where echo listens (repeatable, as the next three)", 0},
                                             {"pipe", 'p', "ADDRESS", 0, "Where the pipe listens", 0},
                                             {"room", 'r', "ADDRESS", 0, "Where the room listens", 0},
                                             {"feed", 'f', "ADDRESS", 0, "Where the feed listens", 0},
                                             {"clients", 'c', "N", 0, "How many, in all (32)", 0},
                                             {"rate", 'n', "N", 0, "Messages a second that those for echo and pipe send, in all (2000)", 0},
                                             {"life-ms", 'l', "MS", 0, "How long one stays connected, in the mean (10000)", 0},
                                             {"interval-ms", 'i', "MS", 0, "Between two lines of counters (1000)", 0},
                                             {0}};

int main(int argc, char **argv)
{
    static const struct argp argp = {.options = options, .parser = parse, .doc = "The good clients of tools/soak."};
    if (argp_parse(&argp, argc, argv, 0, NULL, NULL) != 0)
        return 2;
    clients = calloc(settings.clients, sizeof *clients);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (clients == NULL || epoll < 0)
        return 1;
    uint32_t counts[KINDS] = {0}, speakers = 0;
    for (struct client *client = clients; client < clients + settings.clients; client++) {
        enum kind kind = kind_of_share((uint32_t)(client - clients));
        *client = (struct client){.kind = kind, .socket = -1};
        client->address = &settings.addresses[kind][counts[kind]++ % settings.address_counts[kind]];
        speakers += client_speaks(client);
    }
    period_ns = (uint64_t)(1e9 * speakers / settings.rate);
    struct sigaction action = {.sa_handler = stop_signal};
    sigaction(SIGTERM, &action, NULL);
    signal(SIGINT, SIG_IGN); /* the script's to tell */
    clients_run();
    say("over", "\"faults\":%llu,\"streams\":%llu", (unsigned long long)say_faults(), (unsigned long long)streams);
    return say_faults() == 0 ? 0 : 2;
}
