/* SPDX-License-Identifier: MIT */
/* chorus: producers of every kind that all send to the same seats at once: threads with a port, threads with own channels, and shards
 * with functions that send. Each numbers its messages to each seat, so that an audience can check them; afterwards each producer's
 * sums must close. */
#ifndef TEST_CHORUS_H
#define TEST_CHORUS_H

#include "audience.h"
#include "hall.h"

enum voice_kind { VOICE_PORT, VOICE_CHANNELS, VOICE_SHARD };

struct voice {
    enum voice_kind kind;
    uint32_t number; /* the producer's, for the audience */
    struct chorus *chorus;
    uint32_t *accepted; /* for each seat */
    bool *dead;         /* for each seat: it is gone, says a send */
    uint64_t sent;      /* all accepted */
    struct tally tally;
    weir_port_stats stats; /* of its port, once it is over */
    atomic_bool over;
    /* A thread's. */
    pthread_t thread;
    weir_port *port;
    weir_channel **channels; /* NULL: never opened */
    uint64_t *ended;         /* for each seat: messages that CHANNEL_ENDED told; UINT64_MAX: not told */
    uint64_t delivered;      /* of all channels */
    /* A shard's. */
    weir_shard *shard;
    bool *waiting; /* for each seat: it has answered -EAGAIN */
    weir_timer timer;
    uint32_t cursor, left;
    bool asked; /* a function of its own is under way */
};

/* What is to be sung; fill it in, the rest is zero. */
struct chorus {
    struct hall hall;
    struct audience audience;
    uint32_t seats, ports, channels, shards; /* shards: 0 or all of them sing, too */
    uint32_t count;                          /* messages of each voice to each seat */
    uint32_t channel_seats;                  /* own channels go to so many seats at most; 0: to all */
    uint32_t burst;                          /* messages of a shard to a seat in a row; 0: 4 */
    uint32_t pause_ns;                       /* now and then */
    bool abroad;                             /* shards send to the others' seats only */
    void (*stir)(struct chorus *chorus);     /* called once by chorus_run while they sing */
    bool stopping;                           /* the runtime is stopped meanwhile */

    struct voice *voices;
    uint32_t voice_count;
    atomic_bool enough;
};

/* hall_init; the test may change hall and the fields above then. */
void chorus_init(struct chorus *chorus, uint32_t shards);
/* Opens hall and audience; the test may tell ears how to behave then. */
void chorus_open(struct chorus *chorus);
/* Sings to the end, and checks the voices' sums and what the audience heard. */
void chorus_run(struct chorus *chorus);
void chorus_close(struct chorus *chorus);

#endif
