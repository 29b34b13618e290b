/* SPDX-License-Identifier: MIT */
/* late_finds: a message that is published and not rung for, which only a mistake in weir could do: it is found, counted and delivered. The counter that every
 * other test wants to be 0 is one that can be otherwise. */
#include "fixture.h"

#include "runtime/port.h"

static void nothing(weir_shard *shard, weir_timer *timer, void *user)
{
    (void)shard;
    (void)timer;
    (void)user;
}

START_TEST(an_unrung_message_is_found)
{
    struct fixture fixture;
    struct witness witness = {.open_answer = 0};
    weir_port *port;
    weir_stats stats;
    witness_start(&witness);
    fixture_open(&fixture, NULL);
    struct place place = fixture_listen(fixture.runtime, NULL, &witness.protocol);
    int visitor = visitor_dial(place.address);
    UNTIL(&fixture, witness.opened == 1);
    MUST_EQUAL(weir_port_open(fixture.runtime, NULL, &port, NULL), 0);
    MUST_EQUAL(weir_port_send(port, witness.id, "rung", 4), 0);
    visitor_expect_frame(&fixture, visitor, "rung", 4);
    fixture_settle(&fixture);
    weir_port_cork(port);
    MUST_EQUAL(weir_port_send(port, witness.id, "unrung", 6), 0);
    w_spsc_publish(&port->links[0]->there); /* and no bell */
    weir_timer timer = {.callback = NULL};
    UNTIL(&fixture, ({
        if (!weir_timer_is_set(&timer))
            weir_timer_set(fixture.shard, &timer, WEIR_MILLISECOND, nothing, NULL); /* something else wakes it */
        weir_shard_stats(fixture.shard, &stats);
        stats.late_finds == 1;
    }));
    visitor_expect_frame(&fixture, visitor, "unrung", 6);
    weir_port_uncork(port);
    weir_timer_clear(fixture.shard, &timer);
    weir_port_close(&port);
    close(visitor);
    UNTIL(&fixture, witness.closed == 1);
    fixture_close(&fixture);
    witness_finish(&witness);
}
END_TEST

FIXTURE_MAIN("late finds", an_unrung_message_is_found)
