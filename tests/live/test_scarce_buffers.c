/* SPDX-License-Identifier: MIT */
/* scarce buffers: fewer receive buffers than one peer alone could fill, and peers that send without end. Everybody gets some in his turn. The test turns the
 * shard itself, and whoever is read has more to be read before the next turn. */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>

enum { BUFFERS = 8, BUFFER_BYTES = 4096, CROWD = 12, ROUNDS = 100 };

struct crowd {
    struct fixture fixture;
    weir_protocol protocol;
    int peers[CROWD];
    weir_id ids[CROWD];
    uint64_t taken_bytes[CROWD];
    uint32_t opened;
    uint32_t pausing; /* the first so many pause after each message */
};

static int crowd_opened(weir_conn *conn)
{
    struct crowd *crowd = weir_conn_protocol(conn)->user;
    weir_conn_set_user(conn, &crowd->taken_bytes[crowd->opened]);
    crowd->ids[crowd->opened++] = weir_conn_id(conn);
    return 0;
}

static int crowd_took(weir_conn *conn, const weir_message *message)
{
    struct crowd *crowd = weir_conn_protocol(conn)->user;
    uint64_t *taken_bytes = weir_conn_user(conn);
    *taken_bytes += message->bytes;
    if (taken_bytes < crowd->taken_bytes + crowd->pausing)
        weir_pause(conn);
    return WEIR_TAKEN;
}

static void crowd_open(struct crowd *crowd, uint32_t pausing)
{
    memset(crowd, 0, sizeof *crowd);
    crowd->pausing = pausing;
    crowd->protocol = (weir_protocol){.on_open = crowd_opened, .on_message = crowd_took, .user = crowd};
    weir_codec_raw(&crowd->protocol.codec);
    fixture_open(&crowd->fixture, &(weir_config){.receive_buffers = BUFFERS, .receive_buffer_bytes = BUFFER_BYTES});
    for (uint32_t i = 0; i < CROWD; i++) {
        int pair[2];
        MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        MUST_EQUAL(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
        MUST_EQUAL(weir_adopt(crowd->fixture.shard, pair[0], &crowd->protocol, NULL, NULL), 0);
        UNTIL(&crowd->fixture, crowd->opened == i + 1);
        crowd->peers[i] = pair[1];
    }
}

static void crowd_close(struct crowd *crowd)
{
    for (uint32_t i = 0; i < CROWD; i++)
        close(crowd->peers[i]);
    fixture_close(&crowd->fixture);
}

/* All peers send what their sockets take, and the shard turns once. */
static void crowd_go_on(struct crowd *crowd)
{
    static const uint8_t bytes[BUFFER_BYTES];
    for (uint32_t i = 0; i < CROWD; i++)
        while (send(crowd->peers[i], bytes, sizeof bytes, MSG_NOSIGNAL) > 0)
            ;
    for (uint32_t i = 0; i < crowd->pausing; i++)
        weir_resume(weir_find(crowd->fixture.shard, crowd->ids[i]));
    fixture_turn(&crowd->fixture);
}

/* Whoever is to be read is, within so many turns as there are peers, and a few to get going. */
static void check_everybody(struct crowd *crowd)
{
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t before_bytes[CROWD];
        memcpy(before_bytes, crowd->taken_bytes, sizeof before_bytes);
        for (uint32_t turn = 0; turn < CROWD + 4; turn++)
            crowd_go_on(crowd);
        for (uint32_t i = 0; i < CROWD; i++)
            if (crowd->taken_bytes[i] == before_bytes[i])
                ck_abort_msg("round %u: peer %u has waited for %u turns, after %llu bytes", round, i, (unsigned)CROWD + 4,
                             (unsigned long long)before_bytes[i]);
    }
    weir_stats stats;
    weir_runtime_stats(crowd->fixture.runtime, &stats);
    MUST(stats.starvations > 0);
}

START_TEST(they_go_round)
{
    struct crowd crowd;
    crowd_open(&crowd, 0);
    check_everybody(&crowd);
    crowd_close(&crowd);
}
END_TEST

/* Who pauses and resumes all the time starts a receive each time: behind those that wait. */
START_TEST(nobody_goes_before_who_waits)
{
    for (uint32_t pausing = 1; pausing < CROWD; pausing += 5) {
        struct crowd crowd;
        crowd_open(&crowd, pausing);
        check_everybody(&crowd);
        crowd_close(&crowd);
    }
}
END_TEST

FIXTURE_MAIN("scarce_buffers", they_go_round, nobody_goes_before_who_waits)
