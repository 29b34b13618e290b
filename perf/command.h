/* SPDX-License-Identifier: MIT */
/* command: the subcommands of weir-perf. Each parses its own options (argv[0] is "weir-perf NAME") and returns the exit code. */
#pragma once

int echo_command(int argc, char **argv);
int conns_command(int argc, char **argv);
int fanin_command(int argc, char **argv);
int sink_command(int argc, char **argv);
int hop_command(int argc, char **argv);
int ring_command(int argc, char **argv);
int fanout_command(int argc, char **argv);
int members_command(int argc, char **argv);
int accept_command(int argc, char **argv);
int codec_command(int argc, char **argv);
int limit_command(int argc, char **argv);
