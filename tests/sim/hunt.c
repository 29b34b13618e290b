/* SPDX-License-Identifier: MIT */
/* hunt: the workers and whoever watches them. What they share lies in one mapping: the number of the next seed, and for each worker what it is at. */
#include "tests/sim/hunt.h"

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS    (20 * WEIR_MILLISECOND)
#define SAID_BYTES 6000 /* of what a failed worker wrote, the end */

/* A worker's; written by it, read by all. */
struct slot {
    _Atomic uint64_t seed;
    _Atomic uint64_t done;
    char sentence[HUNT_SENTENCE_BYTES];
    struct scenario_totals totals[SCENARIO_COUNT];
};

struct shared {
    _Atomic uint64_t next; /* place: of the known ones, then of the range */
    _Atomic bool stop;
    struct slot slots[];
};

struct hunt {
    const struct hunt_options *options;
    struct hunt_result *result;
    struct shared *shared;
    uint64_t places;
    uint64_t begun_ns, told_ns;
    int *errors; /* what a worker writes to standard error, a file in memory each */
    pid_t *workers;
    uint32_t alive;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * WEIR_SECOND + (uint64_t)time.tv_nsec;
}

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(2);
}

/* --- a worker --- */

static void run_one(const struct hunt *hunt, struct slot *slot, uint64_t seed, bool twice)
{
    atomic_store(&slot->seed, seed);
    alarm(hunt->options->patience_s);
    uint64_t hash = scenario_run(seed, NULL, slot->totals);
    if (twice) {
        static struct scenario_totals unused[SCENARIO_COUNT];
        if (scenario_run(seed, NULL, unused) != hash)
            scenario_fail(seed, 0, "the same seed, and something else has happened the second time");
    }
    atomic_fetch_add(&slot->done, 1);
}

static void work(const struct hunt *hunt, struct slot *slot)
{
    const struct hunt_options *options = hunt->options;
    while (!atomic_load(&hunt->shared->stop)) {
        uint64_t place = atomic_fetch_add(&hunt->shared->next, 1);
        if (place >= hunt->places)
            return;
        bool known = place < options->known_count;
        uint64_t seed = known ? options->known[place] : options->first + (place - options->known_count);
        if (options->scenario >= 0 && (int)scenario_of(seed) != options->scenario)
            continue;
        run_one(hunt, slot, seed, !known && place - options->known_count < options->twice);
    }
}

static void start_worker(struct hunt *hunt, uint32_t index)
{
    struct slot *slot = &hunt->shared->slots[index];
    slot->sentence[0] = '\0';
    if (ftruncate(hunt->errors[index], 0) != 0 || lseek(hunt->errors[index], 0, SEEK_SET) != 0)
        die("a worker's file");
    fflush(NULL);
    pid_t parent = getpid(), worker = fork();
    if (worker < 0)
        die("fork");
    if (worker > 0) {
        hunt->workers[index] = worker;
        hunt->alive++;
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(2);
    signal(SIGINT, SIG_IGN); /* whoever watches says when to stop */
    signal(SIGTERM, SIG_DFL);
    dup2(hunt->errors[index], STDERR_FILENO);
    scenario_init(hunt->options->command, slot->sentence, sizeof slot->sentence);
    work(hunt, slot);
    exit(EXIT_SUCCESS); /* (a leak is looked for here, if one is looked for at all) */
}

/* --- who watches --- */

/* The end of what it wrote. */
static char *read_said(int file)
{
    off_t bytes = lseek(file, 0, SEEK_END), from = bytes > SAID_BYTES ? bytes - SAID_BYTES : 0;
    char *text = calloc(1, SAID_BYTES + 1);
    if (text == NULL || pread(file, text, SAID_BYTES, from) < 0)
        die("what a worker said");
    return text;
}

/* Nobody checked anything: it died. The sanitizers' summary says why, or the last line. */
static void make_sentence(struct hunt_failure *failure, int status)
{
    const char *found = strstr(failure->said, "SUMMARY: ");
    size_t end = strlen(failure->said);
    while (end > 0 && failure->said[end - 1] == '\n')
        end--;
    if (found == NULL) {
        const char *last = memrchr(failure->said, '\n', end);
        found = last != NULL ? last + 1 : failure->said;
    }
    int bytes = (int)strcspn(found, "\n");
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(failure->sentence, sizeof failure->sentence, "it does not come to an end (of real time)");
    else if (WIFSIGNALED(status))
        snprintf(failure->sentence, sizeof failure->sentence, "killed by signal %d (%s)%s%.*s", WTERMSIG(status),
                 strsignal(WTERMSIG(status)), bytes > 0 ? ": " : "", bytes, found);
    else
        snprintf(failure->sentence, sizeof failure->sentence, "exit %d%s%.*s", WEXITSTATUS(status), bytes > 0 ? ": " : "", bytes, found);
}

static void note_failure(struct hunt *hunt, uint32_t index, int status)
{
    struct hunt_result *result = hunt->result;
    const struct slot *slot = &hunt->shared->slots[index];
    result->failures = realloc(result->failures, (result->failure_count + 1) * sizeof *result->failures);
    if (result->failures == NULL)
        die("a failure");
    struct hunt_failure *failure = &result->failures[result->failure_count++];
    *failure = (struct hunt_failure){.seed = atomic_load(&slot->seed), .said = read_said(hunt->errors[index])};
    memcpy(failure->sentence, slot->sentence, sizeof failure->sentence);
    if (failure->sentence[0] == '\0')
        make_sentence(failure, status);
    hunt_tell_failure(hunt->options, failure);
}

static void bury(struct hunt *hunt)
{
    int status;
    pid_t worker;
    while ((worker = waitpid(-1, &status, WNOHANG)) > 0) {
        uint32_t index = 0;
        while (index < hunt->options->jobs && hunt->workers[index] != worker)
            index++;
        if (index == hunt->options->jobs)
            continue;
        hunt->workers[index] = 0;
        hunt->alive--;
        if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)
            continue;
        note_failure(hunt, index, status);
        if (!hunt->options->keep_going)
            atomic_store(&hunt->shared->stop, true);
        else if (!atomic_load(&hunt->shared->stop))
            start_worker(hunt, index);
    }
}

static uint64_t seeds_done(const struct hunt *hunt)
{
    uint64_t done = 0;
    for (uint32_t i = 0; i < hunt->options->jobs; i++)
        done += atomic_load(&hunt->shared->slots[i].done);
    return done;
}

static void tell_progress(struct hunt *hunt, bool last)
{
    uint64_t time_ns = now_ns(), done = seeds_done(hunt);
    if (!isatty(STDERR_FILENO) || hunt->options->json || (!last && time_ns - hunt->told_ns < WEIR_SECOND / 2))
        return;
    hunt->told_ns = time_ns;
    double seconds = (double)(time_ns - hunt->begun_ns) / 1e9;
    fprintf(stderr, "\r\033[K%s%" PRIu64 " seeds, %.0f s, %.0f a second, %u failed", last ? "" : "... ", done, seconds,
            (double)done / seconds, hunt->result->failure_count);
    if (last)
        fputs("\r\033[K", stderr);
}

static void watch(struct hunt *hunt)
{
    const struct timespec pause = {.tv_nsec = (long)LOOK_NS};
    while (hunt->alive > 0) {
        if (interrupted || now_ns() - hunt->begun_ns > hunt->options->duration_ns)
            atomic_store(&hunt->shared->stop, true);
        nanosleep(&pause, NULL);
        bury(hunt);
        tell_progress(hunt, false);
    }
    tell_progress(hunt, true);
}

/* --- all of it --- */

/* How many places have to be gone through, so that `count` seeds are run. */
static uint64_t places_for(const struct hunt_options *options)
{
    uint64_t places = 0;
    if (options->count == UINT64_MAX)
        return UINT64_MAX;
    for (uint64_t count = 0; count < options->count; places++)
        count += options->scenario < 0 || (int)scenario_of(options->first + places) == options->scenario;
    return options->known_count + places;
}

static void add_up(struct hunt *hunt)
{
    struct hunt_result *result = hunt->result;
    for (uint32_t i = 0; i < hunt->options->jobs; i++)
        for (uint32_t k = 0; k < SCENARIO_COUNT; k++) {
            uint64_t numbers[sizeof result->totals[k] / sizeof(uint64_t)], sums[sizeof result->totals[k] / sizeof(uint64_t)];
            memcpy(numbers, &hunt->shared->slots[i].totals[k], sizeof numbers);
            memcpy(sums, &result->totals[k], sizeof sums);
            for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++)
                sums[n] += numbers[n];
            memcpy(&result->totals[k], sums, sizeof sums);
        }
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    result->core_seconds =
        (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    result->seconds = (double)(now_ns() - hunt->begun_ns) / 1e9;
    result->seeds = seeds_done(hunt);
    result->interrupted = interrupted != 0;
}

void hunt_run(const struct hunt_options *options, struct hunt_result *result)
{
    struct hunt hunt = {.options = options, .result = result, .places = places_for(options), .begun_ns = now_ns()};
    size_t bytes = sizeof *hunt.shared + options->jobs * sizeof *hunt.shared->slots;
    *result = (struct hunt_result){0};
    hunt.shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    hunt.errors = calloc(options->jobs, sizeof *hunt.errors);
    hunt.workers = calloc(options->jobs, sizeof *hunt.workers);
    if (hunt.shared == MAP_FAILED || hunt.errors == NULL || hunt.workers == NULL)
        die("memory");
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    for (uint32_t i = 0; i < options->jobs; i++) {
        hunt.errors[i] = memfd_create("weir-sim", MFD_CLOEXEC);
        if (hunt.errors[i] < 0)
            die("memfd_create");
        start_worker(&hunt, i);
    }
    watch(&hunt);
    add_up(&hunt);
    for (uint32_t i = 0; i < options->jobs; i++)
        close(hunt.errors[i]);
    free(hunt.errors);
    free(hunt.workers);
    munmap(hunt.shared, bytes);
}

void hunt_free(struct hunt_result *result)
{
    for (uint32_t i = 0; i < result->failure_count; i++)
        free(result->failures[i].said);
    free(result->failures);
    *result = (struct hunt_result){0};
}
