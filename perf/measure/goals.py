# SPDX-License-Identifier: MIT
"""goals: what weir wants to reach beside others, as ratios within rounds, and what it reached. The report begins with where it loses."""

from common import quartiles

from measure.tables import NONE, table

SPEED, CPU = "messages_per_second", "cpu_ns_per_message"
RUNTIMES = ["tokio", "go", "erlang", "mutex", "tokio-mutex", "go-conn"]
ECHOES = ["epoll", "libuv", "libevent", "asio", "tokio", "go"]
LOADS = ["1:1:64", "64:1:64", "64:16:64", "1000:1:64", "10000:1:64", "16:8:16384"]


class Goal:
    """weir against the best of `peers` in a case. better: +1: more is better, and the ratio is to be at least `bar`; -1: less is, and at most."""

    def __init__(self, section, case, key, peers, bar, better=1, over="weir"):
        self.section, self.case, self.key, self.peers, self.bar, self.better, self.over = section, case, key, peers, bar, better, over

    def best(self, results):
        """The peer that comes nearest, and the ratios to it."""
        found = {side: results.ratios(self.section, self.case, self.over, side, self.key) for side in self.peers}
        found = {side: quartiles(values) for side, values in found.items() if values}
        if not found:
            return None, None
        side = min(found, key=lambda name: found[name][1] * self.better)
        return side, found[side]

    def reached(self, ratio):
        return ratio >= self.bar if self.better > 0 else ratio <= self.bar


def goals():
    for producers in (1, 2, 4, 16, 64):
        case = f"P={producers}"
        yield Goal("ways", case, SPEED, RUNTIMES, 3 if producers >= 16 else 1)
        yield Goal("ways", case, CPU, RUNTIMES, 1, -1)
        yield Goal("ways", case, SPEED, ["ck", "mpsc"], 1.2 if producers <= 16 else 0.95)
        yield Goal("ways", case, CPU, ["ck", "mpsc"], 1, -1)
    for load in LOADS:
        yield Goal("echo", load, SPEED, ECHOES, 0.96)
        yield Goal("echo", load, "server_cpu_ns_per_message", ECHOES, 1.06, -1)
    for members in (100, 1000):
        for size in (64, 1024):
            for peer, bar in (("tokio", 1.3), ("redis", 2), ("nats", 4)):
                yield Goal("fanout", f"{members} x {size} B", "deliveries_per_second", [peer], bar)
    yield Goal("hop", "asleep", "p50_ns", ["cond", "zmq", "go", "tokio"], 1, -1)
    for load in ("64:16:64", "16:8:16384", "1000:1:64"):
        yield Goal("proxy", load, SPEED, ["haproxy", "nginx"], 1)


def scored(results):
    """[(goal, peer, quartiles)] of what was measured."""
    return [(goal, peer, found) for goal in goals() for peer, found in [goal.best(results)] if found is not None]


WHAT = {SPEED: "messages/s", CPU: "CPU a message", "server_cpu_ns_per_message": "CPU a message", "deliveries_per_second": "deliveries/s",
        "p50_ns": "median time"}


def losses(results):
    """A sentence: where somebody else is better than weir."""
    worse = [
        f"{goal.section} {goal.case}, {WHAT[goal.key]}: {found[1]:.2f} of {peer}"
        for goal, peer, found in scored(results)
        if (found[1] < 1 if goal.better > 0 else found[1] > 1)
    ]
    if not worse:
        return "**Where weir loses:** nowhere in what was measured here."
    return f"**Where weir loses** ({len(worse)} of {len(scored(results))} comparisons with the best of the others): " + "; ".join(worse) + "."


def goals_table(results):
    rows = []
    for goal, peer, found in scored(results):
        word = "at least" if goal.better > 0 else "at most"
        mark = "yes" if goal.reached(found[1]) else "**no**"
        cells = [f"{goal.section} {goal.case}, {WHAT[goal.key]}", peer, f"{found[1]:.2f} ({found[0]:.2f}-{found[2]:.2f})", f"{word} {goal.bar:g}", mark]
        rows.append(cells)
    return table(["weir / best of the others", "which", "ratio", "wanted", "reached"], rows) if rows else NONE
