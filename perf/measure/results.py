# SPDX-License-Identifier: MIT
"""results: the rounds that were measured, read back from their JSON lines: medians, quartiles, ratios.

A virtual machine's cores may be near each other at one moment (they share a cache) and far at the next, and then everything that goes from one to
the other takes several times as long. So each run is `near`, `far` or `moved`, by a cache line's way before it and after it. A case's figures
are those of its near runs, if each side has enough of them, else of all. A ratio is between two runs of the same kind, at most two rounds apart. Where
the cores do not move all runs are near, and a ratio is between two runs of one round."""

import json
import statistics

NEAR = 2         # times the shortest way of a line that was seen; longer is far
ENOUGH = 3       # near runs of each side
ROUNDS_APART = 2


def pick(figures, key):
    """key: a name, or one with dots for what lies in what."""
    for name in key.split("."):
        figures = figures.get(name) if isinstance(figures, dict) else None
    return figures


class Results:
    def __init__(self, lines):
        self.environment = {}
        self.rounds = {}  # (section, case): [{side: figures}]
        self.failed = []
        self.disturbed = self.repeated = self.total = 0
        for line in lines:
            self.take(json.loads(line) if isinstance(line, str) else line)
        self.find_places()

    def take(self, line):
        if "environment" in line:
            self.environment = line["environment"]
        elif "failed" in line:
            self.failed.append(line)
        elif line["again"]:
            self.repeated += 1
        else:
            self.total += 1
            self.disturbed += line["machine"]["disturbed"]
            self.rounds.setdefault((line["section"], line["case"]), []).append(line["sides"])

    def cases(self, section):
        return [case for where, case in self.rounds if where == section]

    def of(self, section, case):
        return self.rounds.get((section, case), [])

    def sides(self, section, cases):
        """In the order of their first coming."""
        found = {}
        for case in cases:
            for figures in self.of(section, case):
                found.update(dict.fromkeys(figures))
        return list(found)

    # --- where the cores were ---

    def find_places(self):
        """Marks each run."""
        runs = [figures for rounds in self.rounds.values() for sides in rounds for figures in sides.values()]
        ways = [way for figures in runs for way in figures.get("lines_ns", []) if way]
        self.nearest_ns = min(ways, default=None)
        self.far_ns = statistics.median([way for way in ways if way > NEAR * self.nearest_ns] or [0])
        self.places = {"near": 0, "far": 0, "moved": 0}
        for figures in runs:
            far = {bool(way) and way > NEAR * self.nearest_ns for way in figures.get("lines_ns", [])}
            figures["place"] = "moved" if len(far) == 2 else "far" if far == {True} else "near"
            self.places[figures["place"]] += 1
        self.cores_move = self.places["near"] < len(runs)
        self.near_cases = {where for where, rounds in self.rounds.items() if self.has_near_runs(rounds)}

    def has_near_runs(self, rounds):
        sides = {side for figures in rounds for side in figures}
        return all(sum(figures.get(side, {}).get("place") == "near" for figures in rounds) >= ENOUGH for side in sides)

    # --- figures ---

    def values(self, section, case, side, key):
        runs = [figures[side] for figures in self.of(section, case) if side in figures]
        if (section, case) in self.near_cases:
            runs = [run for run in runs if run["place"] == "near"]
        found = [pick(run, key) for run in runs]
        return [value for value in found if isinstance(value, (int, float))]

    def median(self, section, case, side, key):
        values = self.values(section, case, side, key)
        return statistics.median(values) if values else None

    def ratios(self, section, case, over, under, key):
        """Within rounds alone, should there be too few runs that are alike."""
        rounds = self.of(section, case)
        most = ROUNDS_APART if self.cores_move else 0
        pairs = [
            (abs(i - j), a["place"] == b["place"], pick(a, key), pick(b, key))
            for i, mine in enumerate(rounds)
            for j, theirs in enumerate(rounds)
            if abs(i - j) <= most
            for a, b in [(mine.get(over), theirs.get(under))]
            if a and b
        ]
        pairs = [(apart, alike, a / b) for apart, alike, a, b in pairs if a is not None and b]
        alike = [ratio for _apart, alike, ratio in pairs if alike]
        return alike if len(alike) >= ENOUGH else [ratio for apart, _alike, ratio in pairs if apart == 0]
