# SPDX-License-Identifier: MIT
"""hop: from one core to the other, spinning and asleep. ring is weir's own between two threads, without a runtime; weir the whole way: a send on one
shard to the handler on the other. The others are what one would use for it elsewhere."""

from measure.case import Case, peer, run_json, weir_perf

SPINNING = ["weir", "ring", "ck", "boost", "go", "tokio", "zmq", "cond"]
ASLEEP = ["weir", "msgring", "cond", "zmq", "go", "tokio"]
BARE = ["ring", "ck", "boost", "msgring"]  # one thing only: they spin, or they sleep
SPIN_US = 200
GAP_US = 60
IDLE_PORTS = 256


class Hop(Case):
    section = "hop"

    def __init__(self, options, name, sides, *arguments):
        super().__init__(options, name, sides)
        self.arguments = list(arguments)
        self.quick = "idle" not in name

    def program(self, side):
        return weir_perf(self.options) if side in ("weir", "ring") else peer(self.options, f"hop-{side}")

    def measure(self, side):
        command = [self.program(side), *({"weir": ["hop"], "ring": ["ring"]}.get(side, []))]
        if side not in BARE:
            command += self.arguments
        if side == "go":
            command += ["--way", "thread"]  # goroutines that wait for one another mostly share a core
        if side == "msgring":
            command += ["--gap-us", str(GAP_US)]
        return run_json([*command, "--seconds", str(self.options.seconds), "--warmup", str(self.options.warmup), "--json"])


class IdleHop(Hop):
    """weir beside itself with ports that once sent something and are idle now."""

    def program(self, side):
        return weir_perf(self.options)

    def measure(self, side):
        command = [self.program(side), "hop", *self.arguments, *(["--idle-ports", str(IDLE_PORTS)] if side == "idle-ports" else [])]
        return run_json([*command, "--seconds", str(self.options.seconds), "--warmup", str(self.options.warmup), "--json"])


def cases(options):
    yield Hop(options, "awake", SPINNING, "--spin-us", str(SPIN_US))
    yield Hop(options, "asleep", ASLEEP, "--spin-us", "0", "--gap-us", str(GAP_US))
    yield IdleHop(options, "awake, idle ports", ["weir", "idle-ports"], "--spin-us", str(SPIN_US))
    yield IdleHop(options, "asleep, idle ports", ["weir", "idle-ports"], "--spin-us", "0", "--gap-us", str(GAP_US))
