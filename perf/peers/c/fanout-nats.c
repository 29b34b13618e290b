/* SPDX-License-Identifier: MIT */
/* fanout-nats: NATS core: PUB to a subject that each member has subscribed to. The server is Debian's with its defaults, but that
 * members who are behind are not cut off (max_pending 1 GB, write_deadline one minute): the publisher keeps a limit instead
 * (fanout-peer.h). Messages are published --batch at a time in one send, as NATS's own clients do, which collect them in a buffer. It
 * may use one core, as all others. */
#include "fanout-broker.h"

#include <sys/mman.h>

static const char nats_settings[] = "max_pending: 1GB\nwrite_deadline: \"60s\"\nping_interval: \"1h\"\nmax_connections: 200000\n";

int main(int argc, char **argv)
{
    static struct broker broker;
    static const char hello[] = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"0\"}\r\n";
    char port[16], settings[32];
    peer_options(&broker.peer, argc, argv,
                 "Publishes through a NATS server, which it starts, to many subscribers, and measures what arrives.");
    broker.peer.plan.framing = WIRE_NATS;
    broker.peer.result.way = "nats";
    int file = memfd_create("nats", 0);
    if (file < 0 || write(file, nats_settings, sizeof nats_settings - 1) < 0)
        peer_die("settings");
    broker_find_port(&broker);
    snprintf(port, sizeof port, "%u", broker.port);
    snprintf(settings, sizeof settings, "/proc/self/fd/%d", file);
    const char *const arguments[] = {"nats-server", "-a", "127.0.0.1", "-p", port, "-c", settings, NULL};
    broker_start(&broker, arguments);
    close(file);
    broker_send(&broker, hello, sizeof hello - 1);
    broker.head_bytes = (uint32_t)snprintf(broker.head, sizeof broker.head, "PUB " WIRE_CHANNEL " %u\r\n", broker.peer.plan.message_bytes);
    return broker_run(&broker);
}
