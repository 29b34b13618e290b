# SPDX-License-Identifier: MIT
"""scale: how throughput, tail and memory go with the number of connections, the size of a message and the number of shards; how fast connections
come and go; what an idle one costs. The epoll peer beside weir shows what is the machine's."""

import resource

from common import Server

from measure.case import Case, peer, run_json, weir_perf
from measure.echo import LOAD_CORE, SERVER_CORE, Echo, weir_program

SIDES = ["weir", "epoll"]
SIZES = [16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576]
MOST_PORTS = 27000  # of one source address


def most_connections():
    """As many as descriptors allow: one each at the server and at the load, and both are limited by the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft, hard) - 200


class Scale(Echo):
    section = "scale"
    rounds_most = 5


class Sizes(Scale):
    """All of the largest messages are to be under way at once."""

    def command(self, side):
        return super().command(side) + (["--memory", "256"] if side == "weir" else [])


class Shards(Scale):
    """The sides are weir with so many shards; nobody is bound to a core, for there are no more cores than shards."""

    def command(self, side):
        return [self.program(side), "--listen", "tcp://127.0.0.1:0", "--connections", "20000", "--shards", side.rpartition(" ")[2]]

    def open(self):
        self.servers = {side: Server(side, self.command(side)) for side in self.sides}


class Fresh(Case):
    """A server of its own for each measurement, so that memory which it keeps is seen."""

    section = "scale"
    rounds_most = 3

    def __init__(self, options, name, sides, *arguments, takes=None):
        super().__init__(options, name, sides)
        self.arguments = list(arguments)
        self.takes = takes

    def side_seconds(self):
        return self.takes or super().side_seconds()

    def program(self, side):
        return weir_program(self.options, "weir-echo") if side == "weir" else peer(self.options, f"echo-{side}")

    def measure(self, side):
        command = [self.program(side), "--listen", "tcp://127.0.0.1:0"]
        if side == "weir":
            command += ["--shards", "1", "--connections", str(most_connections())]
        server = Server(side, command, SERVER_CORE)
        try:
            load = [weir_perf(self.options), *self.arguments, "--connect", server.address, "--server-pid", str(server.process.pid)]
            return run_json([*load, "--cpu", str(LOAD_CORE), "--json"])
        finally:
            server.stop()


def counts(most):
    return [count for count in (1, 10, 100, 1000, 10000) if count < most] + [most]


def cases(options):
    most = most_connections()
    for count in counts(min(most, MOST_PORTS, 20000)):
        yield Scale(options, f"{count} connections", SIDES, f"{count}:1:64")
    for size in SIZES:
        yield Sizes(options, f"{size} B", SIDES, f"16:4:{size}")
    yield Shards(options, "shards", ["weir 1", "weir 2"], "64:16:64")
    yield Fresh(options, "accepts", ["weir", "epoll", "libuv", "libevent", "asio", "tokio", "go"], "accept", "--touch", "--seconds", str(options.seconds))
    for count in counts(most)[2:]:
        yield Fresh(options, f"{count} idle", SIDES, "conns", "--connections", str(count), "--seconds", "0.5", takes=1 + count / 5000)
    yield Fresh(options, "10000, 1 % active", SIDES, "conns", "--connections", "10000", "--seconds", "2", "--active", "1", takes=5)
