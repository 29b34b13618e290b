# SPDX-License-Identifier: MIT
"""results: the rounds that were measured, read back from their JSON lines: medians, quartiles, ratios within rounds."""

import json
import statistics


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

    def values(self, section, case, side, key):
        found = [pick(figures.get(side, {}), key) for figures in self.of(section, case)]
        return [value for value in found if isinstance(value, (int, float))]

    def median(self, section, case, side, key):
        values = self.values(section, case, side, key)
        return statistics.median(values) if values else None

    def ratios(self, section, case, over, under, key):
        pairs = [(pick(figures.get(over, {}), key), pick(figures.get(under, {}), key)) for figures in self.of(section, case)]
        return [a / b for a, b in pairs if a is not None and b]
