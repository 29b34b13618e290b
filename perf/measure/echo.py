# SPDX-License-Identifier: MIT
"""echo: one server, many clients; weir-echo beside servers on what its users would use instead.

A case is CONNECTIONS:DEPTH:BYTES. All servers of a case stand from beginning to end; one that is not driven sleeps. Servers have one thread on one core,
the load another, and it never sleeps, so that no server pays for waking its client. epoll2 is a second instance of epoll: how far the two
are apart is the noise."""

import os

from common import Server

from measure.case import FEW_ROUNDS, Case, peer, run_json, weir_perf

SERVER_CORE, LOAD_CORE = 0, 1
LOADS = ["1:1:64", "64:1:64", "64:16:64", "1000:1:64", "10000:1:64", "16:8:16384"]
SERVERS = ["weir", "epoll", "libuv", "libevent", "asio", "tokio", "go", "epoll2"]
# Open loop: so many messages a second. (64:16:64 would be 64:1:64 once more: there the server says how many are under way.)
OPEN_RATES = {"1:1:64": 5000, "64:1:64": 50000, "1000:1:64": 50000, "10000:1:64": 50000, "16:8:16384": 20000}


def weir_program(options, name):
    return os.path.join(options.binary_dir, "tools", name)


class Echo(Case):
    section = "echo"
    spin = True  # the load does not sleep

    def __init__(self, options, name, sides, load, rate=0, quick=False):
        super().__init__(options, name, sides)
        connections, depth, size = load.split(":")
        self.load = ["--connections", connections, "--bytes", size] + (["--rate", str(rate)] if rate else ["--depth", depth])
        self.quick = quick
        if rate:
            self.rounds_most = FEW_ROUNDS
        self.servers = {}
        self.connections = int(connections)

    def side_seconds(self):
        return super().side_seconds() + self.connections / 20000

    def program(self, side):
        return weir_program(self.options, "weir-echo") if side.startswith("weir") else peer(self.options, f"echo-{side.rstrip('2')}")

    def command(self, side):
        command = [self.program(side), "--listen", "tcp://127.0.0.1:0"]
        if side.startswith("weir"):
            command += ["--shards", "1", "--connections", "20000"]
        return [*command, "--spin-us", "200"] if side == "weir-spin" else command

    def open(self):
        self.servers = {}
        for side in self.sides:
            self.servers[side] = Server(side, self.command(side), SERVER_CORE)

    def close(self):
        for server in reversed(self.servers.values()):  # a proxy before the server behind it
            server.stop()

    def measure(self, side):
        server = self.servers[side]
        command = [weir_perf(self.options), "echo", *self.load, *self.times(), *(["--spin"] if self.spin else [])]
        figures = run_json([*command, "--connect", server.address, "--server-pid", str(server.process.pid), "--cpu", str(LOAD_CORE), "--json"])
        server.wait_for_quiet()
        return figures


def cases(options):
    for load in LOADS:
        sides = ["weir", "weir-spin", *SERVERS[1:]] if load == "1:1:64" else SERVERS
        yield Echo(options, load, sides, load, quick=load in ("1:1:64", "64:16:64"))
    for load, rate in OPEN_RATES.items():
        yield Echo(options, f"{load} at {rate // 1000}k/s", SERVERS, load, rate)
