/* SPDX-License-Identifier: MIT */
/* poor: machines that have less than the one that the tests run on: system calls that fail, files that say something else. For tests that fork:
 * nothing of it can be taken back. */
#ifndef TEST_POOR_H
#define TEST_POOR_H

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A system call that is answered with an errno (0: as if it had done nothing): always, or when one of its arguments is a value. */
struct poor_answer {
    long call;
    int argument; /* its number, or -1 */
    uint32_t value;
    int error;
};

/* From here on this process gets that answer. */
static inline void poor_answer_with(const struct poor_answer *answer)
{
    uint32_t argument = offsetof(struct seccomp_data, args) + (answer->argument < 0 ? 0 : (uint32_t)answer->argument * 8);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)answer->call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, answer->value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)answer->error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    if (answer->argument < 0)
        filter[2] = filter[4];
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static inline int poor_count_descriptors(void)
{
    int count = 0;
    DIR *open_ones = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(open_ones);
    while (readdir(open_ones) != NULL)
        count++;
    closedir(open_ones);
    return count;
}

/* A place of our own, where files say what we like (and with CLONE_NEWNET a network of our own). False: this user may not make one. */
static inline bool poor_namespace(int more)
{
    return (unshare(CLONE_NEWNS | more) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS | more) == 0) &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* Lays a text over a file. */
static inline void poor_lay_over(const char *path, const char *text)
{
    char name[] = "/tmp/weir-poor-XXXXXX";
    int descriptor = mkstemp(name);
    ck_assert_int_ge(descriptor, 0);
    ck_assert_int_eq(write(descriptor, text, strlen(text)), (ssize_t)strlen(text));
    close(descriptor);
    ck_assert_msg(mount(name, path, NULL, MS_BIND, NULL) == 0, "%s: %s", path, strerror(errno));
    unlink(name);
}

static inline void poor_must_say(const char *sentence, const char *words)
{
    ck_assert_msg(strstr(sentence, words) != NULL, "'%s' is not in: %s", words, sentence);
}

#endif
