/* SPDX-License-Identifier: MIT */
/* death: runs what must end the process in a child, and hands back what it said on standard error. For tests. */
#ifndef TEST_DEATH_H
#define TEST_DEATH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DEATH_BY_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define DEATH_BY_ADDRESS_SANITIZER 1
#endif

struct death {
    int status;      /* as from waitpid() */
    char said[8192]; /* its start; always ended */
};

static inline struct death death_of(void (*function)(void))
{
    struct death death = {.status = -1};
    int ends[2];
    if (pipe(ends) != 0)
        return death;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        function();
        _exit(0);
    }
    close(ends[1]);
    size_t said_bytes = 0;
    char piece[512];
    for (ssize_t bytes; (bytes = read(ends[0], piece, sizeof piece)) > 0;) {
        size_t room_bytes = sizeof death.said - 1 - said_bytes;
        size_t kept_bytes = (size_t)bytes < room_bytes ? (size_t)bytes : room_bytes;
        memcpy(death.said + said_bytes, piece, kept_bytes);
        said_bytes += kept_bytes;
    }
    close(ends[0]);
    if (child > 0)
        waitpid(child, &death.status, 0);
    return death;
}

/* It aborted and said so. */
static inline bool death_is_abort(const struct death *death, const char *saying)
{
    return WIFSIGNALED(death->status) && WTERMSIG(death->status) == SIGABRT && strstr(death->said, saying) != NULL;
}

#endif
