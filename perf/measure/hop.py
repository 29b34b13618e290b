# SPDX-License-Identifier: MIT
"""hop: from one core to the other, spinning and asleep. ring is weir's own between two threads, without a runtime; weir the whole way: a send on one
shard to the handler on the other. The others are what one would use for it elsewhere."""

from measure.case import FEW_ROUNDS, Case, peer, run_json, weir_perf

SPINNING = ["weir", "ring", "ck", "boost", "go", "tokio", "zmq", "cond"]
ASLEEP = ["weir", "msgring", "cond", "zmq", "go", "tokio"]
SPIN_US = 200
GAP_US = 60
IDLE_PORTS = 256

# weir-perf's; idle-ports is weir beside ports that once sent something.
WEIR = {"weir": ["hop"], "ring": ["ring"], "idle-ports": ["hop", "--idle-ports", str(IDLE_PORTS)]}
WAYS = {"go": ["--way", "thread"]}  # goroutines that wait for one another mostly share a core
# These do one thing only: they spin, or they sleep.
OWN = {"ring": [], "ck": [], "boost": [], "msgring": ["--gap-us", str(GAP_US)]}


class Hop(Case):
    section = "hop"

    def __init__(self, options, name, sides, *arguments):
        super().__init__(options, name, sides)
        self.arguments = list(arguments)
        self.quick = "idle" not in name
        if not self.quick:
            self.rounds_most = FEW_ROUNDS

    def program(self, side):
        return weir_perf(self.options) if side in WEIR else peer(self.options, f"hop-{side}")

    def measure(self, side):
        return run_json([self.program(side), *WEIR.get(side, []), *WAYS.get(side, []), *OWN.get(side, self.arguments), *self.times(), "--json"])


def cases(options):
    awake, asleep = ["--spin-us", str(SPIN_US)], ["--spin-us", "0", "--gap-us", str(GAP_US)]
    yield Hop(options, "awake", SPINNING, *awake)
    yield Hop(options, "asleep", ASLEEP, *asleep)
    yield Hop(options, "awake, idle ports", ["weir", "idle-ports"], *awake)
    yield Hop(options, "asleep, idle ports", ["weir", "idle-ports"], *asleep)
