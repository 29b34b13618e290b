/* SPDX-License-Identifier: MIT */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"

/* --- the child --- */

enum { ARGUMENTS_MAX = 16 };

/* Answers the end of the pipe that its standard output goes to. */
static FILE *tool_spawn(struct tool *tool, const char *name, const char *const *arguments)
{
    const char *vector[ARGUMENTS_MAX + 2] = {name};
    char path[512];
    int ends[2];
    for (int i = 0; arguments[i] != NULL; i++) {
        ck_assert_int_lt(i, ARGUMENTS_MAX);
        vector[i + 1] = arguments[i];
    }
    snprintf(path, sizeof path, WEIR_BINARY_DIR "/tools/%s", name);
    memset(tool, 0, sizeof *tool);
    tool->name = name;
    tool->log = memfd_create(name, MFD_CLOEXEC);
    ck_assert_int_ge(tool->log, 0);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    tool->child = fork();
    ck_assert_int_ge(tool->child, 0);
    if (tool->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], STDOUT_FILENO);
        dup2(tool->log, STDERR_FILENO);
        execv(path, (char *const *)vector);
        dprintf(STDERR_FILENO, "%s: %s\n", path, strerror(errno));
        _exit(127);
    }
    close(ends[1]);
    FILE *said = fdopen(ends[0], "r");
    ck_assert_ptr_nonnull(said);
    return said;
}

/* What it has logged, to be freed. */
static char *tool_log(const struct tool *tool)
{
    off_t bytes = lseek(tool->log, 0, SEEK_END);
    char *text = calloc(1, (size_t)bytes + 1);
    ck_assert_ptr_nonnull(text);
    ck_assert_int_ge(pread(tool->log, text, (size_t)bytes, 0), 0);
    return text;
}

void tool_start(struct tool *tool, const char *name, const char *const *arguments)
{
    static const char begin[] = "listening on ";
    char line[sizeof begin - 1 + WEIR_ADDRESS_MAX_BYTES] = "";
    FILE *said = tool_spawn(tool, name, arguments);
    if (fgets(line, sizeof line, said) == NULL || strncmp(line, begin, sizeof begin - 1) != 0)
        ck_abort_msg("%s said '%s' and logged '%s'", name, line, tool_log(tool));
    fclose(said);
    line[strcspn(line, "\n")] = '\0';
    snprintf(tool->address, sizeof tool->address, "%s", line + sizeof begin - 1);
}

static int tool_wait(struct tool *tool, uint64_t limit_ns)
{
    int status;
    uint64_t end_ns = live_now_ns() + limit_ns;
    while (waitpid(tool->child, &status, WNOHANG) == 0) {
        if (live_now_ns() > end_ns) {
            kill(tool->child, SIGKILL);
            waitpid(tool->child, &status, 0);
            ck_abort_msg("%s does not end; it logged '%s'", tool->name, tool_log(tool));
        }
        live_sleep(WEIR_MILLISECOND);
    }
    if (!WIFEXITED(status))
        ck_abort_msg("%s ended with status %x; it logged '%s'", tool->name, (unsigned)status, tool_log(tool));
    tool->child = 0;
    return WEXITSTATUS(status);
}

int tool_run(struct tool *tool, const char *name, const char *const *arguments)
{
    FILE *said = tool_spawn(tool, name, arguments);
    int status = tool_wait(tool, LIVE_PATIENCE_NS);
    fclose(said);
    return status;
}

void tool_stop(struct tool *tool, int signal, uint64_t limit_ns, const char *logged)
{
    ck_assert_int_eq(kill(tool->child, signal), 0);
    int status = tool_wait(tool, limit_ns);
    char *log = tool_log(tool), *rest = log;
    if (status != 0)
        ck_abort_msg("%s ended with status %d; it logged '%s'", tool->name, status, log);
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        if (line[0] != '\0' && strstr(line, ": a turn of shard ") == NULL && (logged == NULL || strstr(line, logged) == NULL))
            ck_abort_msg("%s logged '%s'", tool->name, line);
    free(log);
    tool_close_log(tool);
}

bool tool_logged(const struct tool *tool, const char *text)
{
    char *log = tool_log(tool);
    bool found = strstr(log, text) != NULL;
    free(log);
    return found;
}

void tool_close_log(struct tool *tool)
{
    live_close(tool->log);
}

/* --- sockets --- */

static void tool_limit(int descriptor)
{
    struct timeval patience = {.tv_sec = LIVE_PATIENCE_S};
    ck_assert_int_eq(setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    ck_assert_int_eq(setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
}

int tool_dial(const char *address)
{
    int descriptor = visitor_dial(address);
    ck_assert_int_eq(fcntl(descriptor, F_SETFL, 0), 0);
    tool_limit(descriptor);
    return descriptor;
}

int tool_dial_narrow(const char *address)
{
    int descriptor = live_socket(4096);
    ck_assert_int_eq(live_connect(descriptor, atoi(strrchr(address, ':') + 1)), 0);
    return descriptor;
}

int tool_listen(int backlog, const char *path, char address[WEIR_ADDRESS_MAX_BYTES])
{
    if (path == NULL) {
        int descriptor = visitor_listen(backlog, address, WEIR_ADDRESS_MAX_BYTES);
        ck_assert_int_eq(fcntl(descriptor, F_SETFL, 0), 0);
        return descriptor;
    }
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    ck_assert_uint_lt(strlen(path), sizeof name.sun_path);
    strcpy(name.sun_path, path);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(descriptor, 0);
    unlink(path);
    ck_assert_int_eq(bind(descriptor, (struct sockaddr *)&name, sizeof name), 0);
    ck_assert_int_eq(listen(descriptor, backlog), 0);
    snprintf(address, WEIR_ADDRESS_MAX_BYTES, "unix://%s", path);
    return descriptor;
}

int tool_accept(int listener)
{
    struct pollfd wait = {.fd = listener, .events = POLLIN};
    ck_assert_int_eq(poll(&wait, 1, LIVE_PATIENCE_S * 1000), 1);
    int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC), on = 1;
    ck_assert_int_ge(descriptor, 0);
    setsockopt(descriptor, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof on);
    tool_limit(descriptor);
    return descriptor;
}
