/* SPDX-License-Identifier: MIT */
/* members: the command `weir-perf members`: the receivers of a fan-out as a program of their own, for a publisher in any language. They are the crowd
 * that `weir-perf fanout` and the peers in C start, so all publishers have the same receivers.
 *
 * Road:    dial and introduce all → "ready" → the publisher publishes → warm up → measure → "measured" → the publisher stops and writes
 *          how many messages it has published, as a line, to standard input → it ends the connections, when all is sent → the figures.
 *          Standard input is looked at only after "measured".
 * Ditches: the server is not there, or does not welcome a member → say so, exit 1; standard input ends without a number → each member should
 *          have got as much as the one that got most, as nobody says better. */
#include "address.h"
#include "command.h"
#include "crowd.h"
#include "option.h"
#include "process.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    MEMBERS_CONNECT = 256,
    MEMBERS_FRAMING,
    MEMBERS_SILENT,
    MEMBERS_SERVER_PID,
    MEMBERS_WAY,
};

static const struct argp_option members_options[] = {
    {"connect", MEMBERS_CONNECT, "ADDRESS", 0, "where they get messages from: tcp://host:port", 1},
    {"framing", MEMBERS_FRAMING, "KIND", 0,
     "frame (weir's), websocket, resp (Redis), nats, zmtp (ZeroMQ); the last three subscribe to " WIRE_CHANNEL " (frame)", 1},
    {"silent", MEMBERS_SILENT, NULL, 0, "they say nothing, not even hello", 1},
    {"server-pid", MEMBERS_SERVER_PID, "PID", 0, "the process that sends to them (on this machine), to read what it uses", 1},
    {"way", MEMBERS_WAY, "NAME", 0, "what the publisher is called in the figures (members)", 1},
    {0},
};

static const char members_help[] =
    "Receives what somebody else publishes, over many connections, and measures it.\v"
    "Use it to measure how a service of yours fans out. What it sends has to be a message of a size that is known, numbered from 0 as "
    "perf/message.h says if "
    "--check or a rate is given. A member says hello with a frame of one byte (or with its protocol's SUBSCRIBE), and then only reads.\n\n"
    "When all are connected, and have subscribed where the protocol answers to that, it prints \"ready\"; after --warmup and --seconds "
    "\"measured\", and "
    "reads a line with the number of messages published in all from standard input. Then it reads until all connections have ended, and "
    "prints "
    "the figures. --batch is only repeated in them; --rate says that messages have stamps. --json prints them as one line. Start it "
    "before you bind yourself to one core: it takes the second that it may use.\n\n"
    "The exit code is 0 when each message arrived at each member, as it was and (with --check or --rate) in order, 1 when not, 2 when an "
    "option is "
    "wrong.";

struct members {
    struct crowd_plan plan;
    const char *address, *way;
};

static error_t members_parse(int key, char *text, struct argp_state *state)
{
    struct members *members = state->input;
    struct address address;
    struct process_sample sample;
    const char *problem;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &members->plan;
        return 0;
    case MEMBERS_CONNECT:
        problem = address_parse(&address, text);
        if (problem != NULL)
            argp_error(state, "--connect '%s' %s", text, problem);
        members->address = text;
        return 0;
    case MEMBERS_FRAMING:
        members->plan.framing = (enum wire_framing)option_choice(state, "--framing", text, wire_framing_names);
        return 0;
    case MEMBERS_SILENT:
        members->plan.silent = true;
        return 0;
    case MEMBERS_SERVER_PID:
        members->plan.server = (pid_t)option_count(state, "--server-pid", text, 1, INT32_MAX);
        if (!process_sample(members->plan.server, &sample))
            argp_error(state, "--server-pid wants a process that runs, and there is none with the number %s", text);
        return 0;
    case MEMBERS_WAY:
        members->way = text;
        return 0;
    case ARGP_KEY_END:
        if (members->address == NULL)
            argp_error(state, "--connect is missing: the publisher's address, like tcp://127.0.0.1:7000");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void members_say(const char *word)
{
    puts(word);
    fflush(stdout);
}

int members_command(int argc, char **argv)
{
    static const struct argp_child children[] = {{.argp = &crowd_argp}, {0}};
    static const struct argp argp = {.options = members_options, .parser = members_parse, .doc = members_help, .children = children};
    static struct crowd_result result;
    struct members members = {.way = "members"};
    if (!crowd_plan_init(&members.plan))
        return 1;
    argp_parse(&argp, argc, argv, 0, NULL, &members);
    result.way = members.way;
    struct crowd *crowd = crowd_start(&members.plan);
    if (!crowd_connect(crowd, members.address)) {
        crowd_stop(&crowd, &result);
        fprintf(stderr, "weir-perf: the members could not connect to %s\n", members.address);
        return 1;
    }
    members_say("ready");
    crowd_warm_up(crowd);
    crowd_measure(crowd, &result);
    crowd_expect_end(crowd);
    members_say("measured");
    if (scanf("%" SCNu64, &result.published_count) != 1)
        result.published_count = CROWD_PUBLISHED_UNKNOWN;
    crowd_stop(&crowd, &result);
    crowd_print(&members.plan, &result);
    return crowd_judge(&result);
}
