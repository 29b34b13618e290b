# SPDX-License-Identifier: MIT
"""ways: the three ways of sharing a TCP connection between P producers, as the issue that weir was built for has them.

  1  every task has a dup of the descriptor: dup (no coordination), dup-split (one reader, one writer)
  2  a lock round the send: mutex, tokio-mutex, go-conn (Go's net.Conn has one inside)
  3  one writer, and a channel to it: weir (an own channel for each producer), weir-port, weir-shard (from the connection's own shard), tokio,
     go, erlang, ck (a ring for each producer), mpsc (one ring for all)

blast is one thread that sends ready-made 64 KiB: the limit of the connection. wake: no connection, threads that only wake a sleeping one; wake-alone: one of
them, so that each wake finds a sleeper and an idle core. ck2 is ck once more: how far the two are apart is the noise. Nobody is bound to a core, and the sink, a process of its own,
sleeps when there is nothing: the same for all."""

import json
import subprocess

from common import Failed, Server

from measure.case import FEW_ROUNDS, LINE_SECONDS, Case, peer, run_json, weir_perf

IDLE_PORTS, IDLE_CHANNELS = 256, 10000

PROGRAMS = {  # side: (program, its options)
    "weir": ("weir", []), "weir-port": ("weir", ["--way", "port"]), "weir-shard": ("weir", ["--way", "shard"]),
    "weir-spin": ("weir", ["--spin-us", "100"]),
    "tokio": ("fanin-tokio", ["--way", "channel"]), "tokio-mutex": ("fanin-tokio", ["--way", "mutex"]),
    "go": ("fanin-go", ["--way", "channel"]), "go-conn": ("fanin-go", ["--way", "conn"]),
    "erlang": ("fanin-erlang", []), "ck": ("fanin-ck", []), "ck2": ("fanin-ck", []), "mpsc": ("fanin-mpsc", []), "mutex": ("fanin-mutex", []),
    "idle-ports": ("weir", ["--idle-ports", str(IDLE_PORTS)]), "idle-channels": ("weir", ["--idle-channels", str(IDLE_CHANNELS)]),
    "wake": ("fanin-wake", []), "wake-alone": ("fanin-wake", []),
    "dup": ("fanin-dup", []), "dup-split": ("fanin-dup", ["--way", "split"]), "blast": ("fanin-blast", []),
}
WAY3 = ["weir", "weir-port", "weir-shard", "tokio", "go", "erlang", "ck", "mpsc"]
WAY2 = ["mutex", "tokio-mutex", "go-conn"]
LIMIT = ["blast"]
RATE = 100000  # messages/s of all together
RATES = {RATE: True, 10 * RATE: False}  # whether --quick measures it too
STALL_SECONDS = 1
SINK_BYTES = 64 << 10  # the receive buffer of a peer that stops reading: else the kernel takes megabytes first
SLOW_BYTES = 20 << 20  # a second, for a peer that is slow


class Ways(Case):
    section = "ways"

    def __init__(self, options, name, sides, *arguments, sink=("--drop",), **more):
        super().__init__(options, name, sides)
        self.arguments = list(arguments)
        self.sink_arguments = list(sink)
        self.sides_more = more.get("sides_more", {})
        self.quick = more.get("quick", False)
        self.torn_allowed = more.get("torn_allowed", False)
        self.seconds = more.get("seconds", self.seconds)
        self.rounds_most = more.get("rounds_most", self.rounds_most)
        self.sink = None

    def program(self, side):
        name = PROGRAMS[side][0]
        return weir_perf(self.options) if name == "weir" else peer(self.options, name)

    def open(self):
        command = [weir_perf(self.options), "sink", "--json", *self.times(), *self.sink_arguments]
        for option in ("--connections", "--bytes"):
            if option in self.arguments:
                command += [option, self.arguments[self.arguments.index(option) + 1]]
        if "--refuse" in self.arguments:
            command.append("--refuse")
        self.sink = Server("sink", command)

    def close(self):
        if self.sink is not None:
            self.sink.stop()

    def measure(self, side):
        """Its figures, and the sink's. Everything that it sent has to have arrived."""
        name, options = PROGRAMS[side]
        command = [self.program(side), *(["fanin"] if name == "weir" else []), *options]
        command += [*self.sides_more.get(side, self.arguments), *self.times(), "--json"]
        if name == "fanin-wake":
            return run_json(command)
        mine = run_json([*command, "--connect", self.sink.address])
        seen = json.loads(self.sink.read_line(LINE_SECONDS, "what it has seen"))
        harmed = seen["torn"] or seen["harmed"] or seen["out_of_order"] or seen["broken"] or seen["messages_total"] != mine["messages_total"]
        if harmed and not self.torn_allowed:
            raise Failed(f"{side}: sent {mine['messages_total']:,} messages, and the sink has this to say: {seen}")
        # What has arrived in the sink's interval is the speed; what was accepted may still be queued.
        return {**mine, "messages_per_second": seen["messages_per_second"], "sink": seen}


def ends(bytes_, connections):
    return ["--bytes", str(bytes_), "--connections", str(connections)]


def cases(options):
    every = [*WAY3, *WAY2, "dup", *LIMIT]
    few = {"rounds_most": FEW_ROUNDS}
    alone = {"blast": ["--producers", "1", "--bytes", "64"]}
    for producers in (1, 2, 4, 16, 64):
        sides = [*every, "ck2"] if producers > 1 else [*every, "ck2", "dup-split"]
        yield Ways(options, f"P={producers}", sides, "--producers", str(producers), sides_more=alone, quick=producers in (1, 16))
    alone = {"blast": ["--producers", "1", *ends(1024, 1)]}
    for producers in (1, 16):
        yield Ways(options, f"P={producers} 1 KiB", every, "--producers", str(producers), *ends(1024, 1), sides_more=alone, **few)
    for connections, producers in ((16, 16), (16, 64), (1000, 16)):
        yield Ways(options, f"P={producers} C={connections}", [*WAY3, *WAY2], "--producers", str(producers), *ends(64, connections), **few)
    timed = ["weir", "weir-spin", *WAY3[1:], *WAY2, "wake", "wake-alone"]
    yield Ways(options, "saturated P=16", [*WAY3, *WAY2], "--producers", "16", "--latency", sink=(), **few)
    for rate, quick in RATES.items():
        alone = {"wake-alone": ["--producers", "1", "--rate", str(rate // 16)]}
        yield Ways(options, f"paced P=16, {rate:,}/s", timed, "--producers", "16", "--rate", str(rate), sink=(), sides_more=alone, quick=quick, **few)
    yield Ways(options, "stall P=16 C=16", [*WAY3, *WAY2], "--producers", "16", "--rate", str(RATE), "--refuse", *ends(1024, 16),
               sink=("--stall", str(STALL_SECONDS), "--receive-bytes", str(SINK_BYTES)), seconds=3, rounds_most=5)
    yield Ways(options, "16 a commit, P=16", ["weir", "weir-port", "tokio", "go", "ck", "blast"], "--producers", "16", "--batch", "16",
               sides_more={"blast": ["--producers", "1", "--bytes", "64"]}, **few)
    yield Ways(options, "beside idle ones, P=16", ["weir", "idle-ports", "idle-channels"], "--producers", "16", **few)
    yield Ways(options, "slow peer P=16", ["dup", "weir", "mutex", "tokio-mutex", "go", "tokio"], "--producers", "16",
               *ends(1024, 1), sink=("--slow-bps", str(SLOW_BYTES)), torn_allowed=True, rounds_most=3, quick=True)
