/* SPDX-License-Identifier: MIT */
/* fanout-redis: Redis's pub/sub: PUBLISH to a channel that each member has subscribed to, RESP2 on plain connections. The server is
 * Debian's with its defaults, but that nothing is written to disk and that subscribers who are behind are not cut off
 * (client-output-buffer-limit pubsub 0 0 0): the publisher keeps a limit instead (fanout-peer.h). PUBLISH is pipelined, --batch of them
 * in one send, as any client would that has many; the answers are read as they come. io-threads stays 1: all have one core to send with. */
#include "fanout-broker.h"

int main(int argc, char **argv)
{
    static struct broker broker;
    struct crowd_plan *plan = &broker.peer.plan;
    char port[16], clients[16];
    peer_options(&broker.peer, argc, argv,
                 "Publishes through a Redis server, which it starts, to many subscribers, and measures what arrives.");
    plan->framing = WIRE_RESP;
    broker.peer.result.way = "redis";
    broker_find_port(&broker);
    snprintf(port, sizeof port, "%u", broker.port);
    snprintf(clients, sizeof clients, "%u", plan->member_count + plan->slow_count + 16);
    const char *const arguments[] = {"redis-server",
                                     "--port",
                                     port,
                                     "--bind",
                                     "127.0.0.1",
                                     "--protected-mode",
                                     "no", /* members dial from 127.0.0.2 too, when they are many */
                                     "--save",
                                     "",
                                     "--appendonly",
                                     "no",
                                     "--maxclients",
                                     clients,
                                     "--client-output-buffer-limit",
                                     "pubsub 0 0 0",
                                     NULL};
    broker_start(&broker, arguments);
    broker.head_bytes = (uint32_t)snprintf(broker.head, sizeof broker.head, "*3\r\n$7\r\nPUBLISH\r\n$4\r\n" WIRE_CHANNEL "\r\n$%u\r\n",
                                           plan->message_bytes);
    return broker_run(&broker);
}
