/* SPDX-License-Identifier: MIT */
/* tool: one of weir's own programs as a child process, and plain sockets to it. */
#ifndef TEST_TOOL_H
#define TEST_TOOL_H

#include <sys/types.h>

#include "live.h"

struct tool {
    const char *name;
    pid_t child; /* 0: has ended */
    int log;     /* a file in memory: its standard error */
    char address[WEIR_ADDRESS_MAX_BYTES];
};

/* Starts build/tools/NAME with these arguments (NULL at the end) and waits until it says where it listens. */
void tool_start(struct tool *tool, const char *name, const char *const *arguments);
/* Signals it; it has to end with status 0 within limit_ns, and must have logged nothing but lines that contain `logged` (NULL: none at
 * all), and long turns, which may be the machine's. */
void tool_stop(struct tool *tool, int signal, uint64_t limit_ns, const char *logged);
/* Runs it to its end, which must come at once; answers its exit status. What it said is in the log. */
int tool_run(struct tool *tool, const char *name, const char *const *arguments);

/* Has it logged this? */
bool tool_logged(const struct tool *tool, const char *text);
void tool_close_log(struct tool *tool);

/* A connected socket, blocking, with a time limit; an address as weir writes it. */
int tool_dial(const char *address);
/* One that can take only a few KiB unread (tcp only). */
int tool_dial_narrow(const char *address);
/* A listening socket at tcp://127.0.0.1 or, when `path` is not NULL, at that file; its address as weir reads it. */
int tool_listen(int backlog, const char *path, char address[WEIR_ADDRESS_MAX_BYTES]);
/* Accepts within the time limit. */
int tool_accept(int listener);

#endif
