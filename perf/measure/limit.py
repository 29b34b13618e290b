# SPDX-License-Identifier: MIT
"""limit: what this machine can do at best, without weir and without anybody: weir-perf limit."""

from measure.case import Case, run_json, weir_perf


class Limit(Case):
    section = "limit"
    quick = True
    rounds_most = 5

    def program(self, side):
        return weir_perf(self.options)

    def side_seconds(self):
        return 4

    def measure(self, side):
        return run_json([self.program(side), "limit", "--json"])


def cases(options):
    yield Limit(options, "all", ["limit"])
