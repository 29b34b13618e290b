/* SPDX-License-Identifier: MIT */
/* weir-perf: one program for all measurements, a subcommand for each. This file only picks one. */
#include "command.h"

#include <argp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define WEIR_PERF_WRONG_USE 2

struct weir_perf_command {
    const char *name;
    char *title; /* its argv[0] */
    const char *line;
    int (*run)(int argc, char **argv);
};

static char weir_perf_echo[] = "weir-perf echo";
static char weir_perf_conns[] = "weir-perf conns";
static char weir_perf_accept[] = "weir-perf accept";
static char weir_perf_fanin[] = "weir-perf fanin";
static char weir_perf_sink[] = "weir-perf sink";
static char weir_perf_hop[] = "weir-perf hop";
static char weir_perf_ring[] = "weir-perf ring";
static char weir_perf_fanout[] = "weir-perf fanout";
static char weir_perf_members[] = "weir-perf members";
static char weir_perf_codec[] = "weir-perf codec";
static char weir_perf_limit[] = "weir-perf limit";

static const struct weir_perf_command weir_perf_commands[] = {
    {"echo", weir_perf_echo, "throughput and latency of an echo server, closed or open loop", echo_command},
    {"conns", weir_perf_conns, "what idle connections cost: memory in the server and in the kernel, wake-ups, the others' latency",
     conns_command},
    {"accept", weir_perf_accept, "how many new connections a second a server takes, and what each costs it", accept_command},
    {"fanin", weir_perf_fanin, "many threads send on one connection of weir: what it carries, what a send costs", fanin_command},
    {"sink", weir_perf_sink, "the far end of a fan-in: counts or checks what comes", sink_command},
    {"hop", weir_perf_hop, "how long it is from a send on one shard to the handler on the other", hop_command},
    {"ring", weir_perf_ring, "the same for weir's bare ring between two threads, and what it carries", ring_command},
    {"fanout", weir_perf_fanout, "one publisher, many members of a group: what arrives, what a delivery costs", fanout_command},
    {"members", weir_perf_members, "the receivers of a fan-out, for a publisher of your own", members_command},
    {"codec", weir_perf_codec, "what weir's codecs cost for a message, apart from any connection", codec_command},
    {"limit", weir_perf_limit, "what this machine can do at best: loopback, wake-up, cache line, empty calls, copying", limit_command},
};

static void weir_perf_help(FILE *to)
{
    fputs("Usage: weir-perf COMMAND [OPTION...]\n"
          "echo, conns and accept measure any server from outside, with plain sockets, and fanin sends to any sink (--connect).\n"
          "fanout, hop, ring and codec measure weir from within, and limit the machine: there is nothing to connect to.\n\n",
          to);
    for (unsigned i = 0; i < sizeof weir_perf_commands / sizeof *weir_perf_commands; i++)
        fprintf(to, "  %-8s %s\n", weir_perf_commands[i].name, weir_perf_commands[i].line);
    fputs("\n`weir-perf COMMAND --help` tells its options. perf/run runs it beside others.\n", to);
}

int main(int argc, char **argv)
{
    argp_err_exit_status = WEIR_PERF_WRONG_USE;
    if (argc < 2) {
        weir_perf_help(stderr);
        return WEIR_PERF_WRONG_USE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 || strcmp(argv[1], "-h") == 0) {
        weir_perf_help(stdout);
        return 0;
    }
    for (unsigned i = 0; i < sizeof weir_perf_commands / sizeof *weir_perf_commands; i++)
        if (strcmp(argv[1], weir_perf_commands[i].name) == 0) {
            argv[1] = weir_perf_commands[i].title;
            return weir_perf_commands[i].run(argc - 1, argv + 1);
        }
    fprintf(stderr, "weir-perf: there is no command '%s'\n\n", argv[1]);
    weir_perf_help(stderr);
    return WEIR_PERF_WRONG_USE;
}
