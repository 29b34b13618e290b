/* SPDX-License-Identifier: MIT */
/* fanin-wake: a bare wake, to hold the send call of a fan-in against: P threads that each only wake a thread which sleeps on an eventfd
 * and does nothing else. No messages, no connection. */
#include "perf/crew.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int bell;
static pthread_t sleeper;

static void *sleeper_run(void *argument)
{
    const struct crew *crew = argument;
    uint64_t rings;
    while (!atomic_load(&crew->stopping))
        if (read(bell, &rings, sizeof rings) != sizeof rings && errno != EINTR)
            crew_die(crew, "read", errno);
    return NULL;
}

static void wake_ring(const struct crew *crew)
{
    uint64_t one = 1;
    if (write(bell, &one, sizeof one) != sizeof one)
        crew_die(crew, "write", errno);
}

static void wake_open(struct crew *crew)
{
    bell = eventfd(0, EFD_CLOEXEC);
    if (bell < 0)
        crew_die(crew, "eventfd", errno);
    int error = pthread_create(&sleeper, NULL, sleeper_run, crew);
    if (error != 0)
        crew_die(crew, "a thread", error);
}

static void wake_produce(struct producer *producer)
{
    producer_ready(producer);
    while (producer_next(producer) != NULL) {
        wake_ring(producer->crew);
        producer_sent(producer, 0);
    }
}

static void wake_close(struct crew *crew)
{
    wake_ring(crew);
    pthread_join(sleeper, NULL);
    close(bell);
}

int main(int argc, char **argv)
{
    static const struct crew_side side = {.name = "wake",
                                          .ways = {"wake"},
                                          .help = "P threads wake a thread that sleeps on an eventfd: what a wake costs whoever makes it.",
                                          .unconnected = true,
                                          .open = wake_open,
                                          .produce = wake_produce,
                                          .close = wake_close};
    return crew_main(argc, argv, &side);
}
