# SPDX-License-Identifier: MIT
"""goals: what weir wants to reach beside others, as ratios within rounds, and what it reached. The report begins with where it loses."""

from common import quartiles

from measure.echo import LOADS
from measure.proxy import LOADS as PROXIED
from measure.tables import NONE, table

SPEED, CPU = "messages_per_second", "cpu_ns_per_message"
RUNTIMES = ["tokio", "go", "erlang", "mutex", "tokio-mutex", "go-conn"]
ECHOES = ["epoll", "libuv", "libevent", "asio", "tokio", "go"]


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


class Fall(Goal):
    """How speed goes from the first of two cases to the second: no worse than the peer's does."""

    def __init__(self, section, first, second, key, peer, bar):
        super().__init__(section, f"{first} to {second}", key, [peer], bar)
        self.ends = first, second

    def best(self, results):
        first, second = (results.ratios(self.section, case, self.over, self.peers[0], self.key) for case in self.ends)
        return self.peers[0], quartiles([a / b for a in second for b in first])


class Flat(Goal):
    """What one of many costs, in one case as in another, of weir alone."""

    def __init__(self, section, few, many, key, bar):
        super().__init__(section, f"{many} beside {few}", key, ["weir"], bar, -1)
        self.few, self.many = few, many

    def best(self, results):
        few, many = (results.values(self.section, case, self.over, self.key) for case in (self.few, self.many))
        return self.over, quartiles([b / a for a in few for b in many if a])


def goals(results):
    for producers in (1, 2, 4, 16, 64):
        case = f"P={producers}"
        yield Goal("ways", case, SPEED, RUNTIMES, 3 if producers >= 16 else 1)
        yield Goal("ways", case, CPU, RUNTIMES, 1, -1)
        yield Goal("ways", case, SPEED, ["ck"], 1.2 if producers <= 16 else 0.95)
        yield Goal("ways", case, SPEED, ["mpsc"], 1)
        yield Goal("ways", case, CPU, ["ck", "mpsc"], 1, -1)
    for case in ("P=1 1 KiB", "P=16 1 KiB", "P=16 C=16", "P=64 C=16", "P=16 C=1000"):
        for key, better in ((SPEED, 1), (CPU, -1)):
            yield Goal("ways", case, key, [*RUNTIMES, "ck", "mpsc"], 1, better)
    for load in LOADS:
        yield Goal("echo", load, SPEED, ECHOES, 0.96)
        yield Goal("echo", load, "server_cpu_ns_per_message", ECHOES, 1.06, -1)
    for members in (100, 1000):
        for size in (64, 1024):
            for peer, bar in (("tokio", 1.3), ("redis", 2), ("nats", 4)):
                yield Goal("fanout", f"{members} x {size} B", "deliveries_per_second", [peer], bar)
    yield Goal("hop", "asleep", "p50_ns", ["cond", "zmq", "go", "tokio"], 1, -1)
    for load in PROXIED:
        yield Goal("proxy", load, SPEED, ["haproxy", "nginx"], 1)
    for load in ("64:16:64", "1000:1:64"):
        for peer, bar in (("weir-frame", 0.9), ("lws", 1.5), ("gorilla", 1.5), ("ws", 3)):
            yield Goal("web", load, SPEED, [peer], bar)
    yield Fall("scale", "1 connections", "10000 connections", SPEED, "epoll", 1)
    idle = [case for case in results.cases("scale") if case.endswith(" idle")]
    if len(idle) > 1:
        yield Flat("scale", idle[0], idle[-1], "bytes_per_connection", 1)


def scored(results):
    """[(goal, peer, quartiles)] of what was measured."""
    return [(goal, peer, found) for goal in goals(results) for peer, found in [goal.best(results)] if found is not None]


WHAT = {SPEED: "messages/s", CPU: "CPU a message", "server_cpu_ns_per_message": "CPU a message", "deliveries_per_second": "deliveries/s",
        "p50_ns": "median time", "bytes_per_connection": "bytes a connection"}


def losses(results):
    """A sentence: where somebody else is better than weir."""
    compared = [(goal, peer, found[1]) for goal, peer, found in scored(results) if peer != goal.over]
    worse = [
        f"{goal.section} {goal.case}, {WHAT[goal.key]}: {ratio:.2f} of {peer}"
        for goal, peer, ratio in compared
        if (ratio < 1 if goal.better > 0 else ratio > 1)
    ]
    if not worse:
        return "**Where weir loses:** nowhere in what was measured here."
    return f"**Where weir loses** ({len(worse)} of {len(compared)} comparisons with the best of the others): " + "; ".join(worse) + "."


def goals_table(results):
    rows = []
    for goal, peer, found in scored(results):
        word = "at least" if goal.better > 0 else "at most"
        mark = "yes" if goal.reached(found[1]) else "**no**"
        cells = [f"{goal.section} {goal.case}, {WHAT[goal.key]}", peer, f"{found[1]:.2f} ({found[0]:.2f}-{found[2]:.2f})", f"{word} {goal.bar:g}", mark]
        rows.append(cells)
    return table(["weir / best of the others", "which", "ratio", "wanted", "reached"], rows) if rows else NONE
