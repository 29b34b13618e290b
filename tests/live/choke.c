/* SPDX-License-Identifier: MIT */
/* choke: a connection whose other end reads only when the test says so. */
#include "choke.h"

#include <fcntl.h>

void choke_open(struct choke *choke, void (*adjust)(weir_protocol *protocol))
{
    memset(choke, 0, sizeof *choke);
    fixture_open(&choke->fixture, NULL);
    witness_start(&choke->witness);
    if (adjust != NULL)
        adjust(&choke->witness.protocol);
    choke_connect(choke);
}

void choke_connect(struct choke *choke)
{
    int pair[2];
    uint32_t opened = choke->witness.opened;
    MUST_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    MUST_EQUAL(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
    MUST_EQUAL(weir_adopt(choke->fixture.shard, pair[0], &choke->witness.protocol, NULL, NULL), 0);
    UNTIL(&choke->fixture, choke->witness.opened == opened + 1);
    choke->visitor = pair[1];
    choke->accepted_messages = choke->accepted_bytes = 0;
}

void choke_close(struct choke *choke)
{
    close(choke->visitor);
    fixture_close(&choke->fixture);
    MUST_EQUAL(choke->witness.opened, choke->witness.closed);
    witness_finish(&choke->witness);
}

int choke_send(struct choke *choke, uint32_t bytes)
{
    uint8_t *data = malloc(bytes + 1);
    MUST(data != NULL);
    fixture_fill(data, bytes, choke->accepted_messages);
    int result = weir_send(choke->witness.conn, data, bytes);
    free(data);
    if (result == 0) {
        choke->accepted_messages++;
        choke->accepted_bytes += bytes + 4;
    }
    return result;
}

uint64_t choke_queued_bytes(const struct choke *choke)
{
    weir_conn_stats stats;
    MUST_EQUAL(weir_conn_stats_get(choke->fixture.runtime, choke->witness.id, &stats), 0);
    return stats.queued_bytes;
}

void choke_settle(struct choke *choke)
{
    uint64_t before;
    do {
        before = choke_queued_bytes(choke);
        fixture_turn_for(&choke->fixture, MILLISECONDS(30));
    } while (choke_queued_bytes(choke) != before);
}

uint64_t choke_take_all(struct choke *choke)
{
    static uint8_t bytes[65536];
    uint64_t sum = 0;
    ssize_t got;
    while ((got = recv(choke->visitor, bytes, sizeof bytes, 0)) > 0)
        sum += (uint64_t)got;
    return sum;
}
