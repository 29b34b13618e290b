# SPDX-License-Identifier: MIT
"""fanout: one publisher, N receivers: weir's groups, Tokio's broadcast, ZeroMQ's PUB, Redis, nats-server. The receivers are a process of their own,
on the other core. blast is one thread that sends ready batches to N sockets in turn: no queue and no copy for a receiver can be faster."""

from measure.case import FEW_ROUNDS, Case, peer, run_json, weir_perf

SIDES = ["weir", "weir-port", "tokio", "zmq", "redis", "nats", "blast"]
WEIR = {"weir-port": ["--way", "port"], "weir-slow": ["--slow", "1"]}  # slow: one member more, that never reads
RATE = 500
MEMBERS_A_SECOND = 10000  # longer to warm up: the memory that queues for so many need is touched for the first time


class Fanout(Case):
    section = "fanout"

    def __init__(self, options, members, size, rate=0, quick=False, sides=SIDES, beside=""):
        name = f"{members} x {size} B" + (f" at {rate}/s" if rate else "") + beside
        super().__init__(options, name, sides)
        self.arguments = ["--members", str(members), "--bytes", str(size)] + (["--rate", str(rate)] if rate else [])
        self.members = members
        self.warmup += members / MEMBERS_A_SECOND
        self.quick = quick
        self.rounds_most = FEW_ROUNDS if members < 10000 else 3

    def side_seconds(self):
        return super().side_seconds() + self.members / 4000

    def program(self, side):
        return weir_perf(self.options) if side.startswith("weir") else peer(self.options, f"fanout-{side}")

    def measure(self, side):
        command = [self.program(side), *(["fanout"] if side.startswith("weir") else []), *WEIR.get(side, [])]
        command += [*self.arguments, *self.times(), "--json"]
        return run_json(command)


def cases(options):
    for members in (10, 100, 1000, 10000):
        for size in (64, 1024):
            yield Fanout(options, members, size, quick=(members, size) == (100, 64))
    yield Fanout(options, 100, 64, RATE)
    for rate in (0, RATE):
        yield Fanout(options, 100, 64, rate, sides=["weir", "weir-slow"], beside=", one deaf")
