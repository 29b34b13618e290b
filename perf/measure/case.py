# SPDX-License-Identifier: MIT
"""case: one thing that is measured, of several sides, in alternating rounds.

A section (ways.py, echo.py ...) makes its cases; run_cases() goes through them. A round runs one side after the other; each round begins
with another side, and every second one goes backwards. A round in which somebody else was busy on the machine is marked, kept in the JSON, and done again.

Before and after each side it is looked how long a cache line takes from one core to the other: under a hypervisor that changes by the second,
and it decides how fast everything here is. See results.py for what becomes of it."""

import json
import math
import os
import shlex
import subprocess
import time

from common import Failed, progress, say, start, stop

from measure.machine import Watch

REPEATS = 2  # of a disturbed round; then it counts as it is
LINE_SECONDS = 60
STARTING_SECONDS = 0.2  # and ending
LEAST_ROUNDS = 3
FEW_ROUNDS = 7  # where nothing near 1 is at stake
MOST_ROUNDS = 21
SLACK = 0.85  # of the time is planned; the rest is for rounds that are done again


class Case:
    """What a section fills in: section, name, sides (names), quick (also in --quick), and what it wants to be otherwise of the rest."""

    section = ""
    quick = False
    rounds_most = MOST_ROUNDS  # where a ratio near 1 is at stake

    def __init__(self, options, name, sides):
        self.options = options
        self.name = name
        self.seconds, self.warmup = options.seconds, options.warmup
        self.sides = [side for side in sides if self.is_there(side)]

    def is_there(self, side):
        """Whether the side can be measured here; says once when not."""
        path = self.program(side)
        if path is None or os.access(path, os.X_OK):
            return True
        self.options.missing.setdefault(os.path.basename(path), side)
        return False

    def program(self, side):
        raise NotImplementedError

    def times(self):
        return ["--seconds", str(self.seconds), "--warmup", str(self.warmup)]

    def side_seconds(self):
        """Of one side in a round, all included."""
        return self.seconds + self.warmup + STARTING_SECONDS

    def round_seconds(self):
        return self.side_seconds() * len(self.sides)

    def open(self):
        """Before the first round."""

    def close(self):
        """After the last, whatever happened."""

    def measure(self, side):
        """Runs one side once: its figures."""
        raise NotImplementedError

    def label(self):
        return f"{self.section} {self.name}"


def peer(options, name):
    return os.path.join(options.binary_dir, "perf", "peers", name)


def weir_perf(options):
    return os.path.join(options.binary_dir, "perf", "weir-perf")


def run_json(command, core=None, seconds=LINE_SECONDS):
    """Runs a program that prints one line of JSON."""
    process = start(command, core, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, complaints = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"{shlex.join(command)} has not ended in {seconds} s") from None
    finally:
        stop(process)
    if process.returncode != 0:
        raise Failed(f"{shlex.join(command)} ended with {process.returncode}:\n{complaints[-2000:]}{out[-2000:]}")
    return json.loads(out)


# --- rounds ---


def order_of(sides, number):
    first = number % len(sides)
    order = sides[first:] + sides[:first]
    return order if number % 2 == 0 else order[::-1]


def line_ns(options):
    """A cache line's way to the other core, now; None: that cannot be told here."""
    try:
        return run_json([weir_perf(options), "limit", "--only", "line", "--seconds", "0.01", "--json"])["line_ns"]
    except Failed:
        return None


def run_round(case, number):
    order = order_of(case.sides, number)
    figures, steal, foreign = {}, 0.0, 0.0
    line = line_ns(case.options)
    for side in order:
        with Watch() as watch:
            try:
                figures[side] = case.measure(side)
            except Failed:  # with the machine to itself it would have gone well
                if case.repeats_left == 0:
                    raise
                return order, figures, {"steal": steal, "foreign": foreign, "disturbed": True}
        before, line = line, line_ns(case.options)
        figures[side]["lines_ns"] = [before, line]
        steal, foreign = max(steal, watch.steal), max(foreign, watch.foreign)
        if watch.disturbed() and case.repeats_left > 0:
            break
    return order, figures, {"steal": round(steal, 3), "foreign": round(foreign, 3), "disturbed": len(figures) < len(order) or watch.disturbed()}


def run_case(case, rounds, deadline, write, status):
    case.open()
    try:
        for number in range(rounds):
            case.repeats_left = REPEATS
            while True:
                progress(f"{status}{case.label()}, round {number + 1} of {rounds}")
                if time.monotonic() > deadline:
                    case.repeats_left = 0
                order, figures, machine = run_round(case, number)
                again = machine["disturbed"] and case.repeats_left > 0
                line = {"section": case.section, "case": case.name, "round": number, "order": order, "machine": machine, "again": again}
                write({**line, "sides": figures})
                if not again:
                    break
                case.repeats_left -= 1
            if time.monotonic() > deadline:
                break
    finally:
        case.close()


def seconds_of(plan):
    return sum(rounds * case.round_seconds() for case, rounds in plan.items())


def least_seconds(cases):
    """What it takes to measure each of them often enough."""
    return seconds_of(dict.fromkeys(cases, LEAST_ROUNDS)) / SLACK


def plan_rounds(cases, seconds, most):
    """{case: rounds}, as many as fit: first of those that are at stake, then of the others."""
    if most is not None:
        return dict.fromkeys(cases, most)
    plan = dict.fromkeys(cases, LEAST_ROUNDS)
    for part in [[case for case in cases if case.rounds_most == MOST_ROUNDS], cases]:
        for rounds in range(LEAST_ROUNDS, MOST_ROUNDS + 1):
            more = {**plan, **{case: max(plan[case], min(rounds, case.rounds_most)) for case in part}}
            if seconds_of(more) > seconds * SLACK:
                break
            plan = more
    return plan


def run_cases(cases, seconds, most, write):
    """Everything; `write` takes each round. most: rounds, whatever they take; None: what fits into `seconds`."""
    rounds = plan_rounds(cases, seconds, most)
    planned = seconds_of(rounds)
    say(f"{len(cases)} cases, {min(rounds.values())} to {max(rounds.values())} rounds each: some {math.ceil(planned / 60)} minutes")
    end = time.monotonic() + max(seconds, planned) if most is None else math.inf
    for number, case in enumerate(cases):
        status = f"{number + 1} of {len(cases)}, {math.ceil(planned / 60)} min left: "
        mine = rounds[case] * case.round_seconds()
        # Of the time that is left it may take the part that is its own of what is left to do: rounds done again included.
        deadline = time.monotonic() + (end - time.monotonic()) * mine / planned
        try:
            run_case(case, rounds[case], deadline, write, status)
        except Failed as failed:
            say(f"{case.label()} is left out: {failed}")
            write({"section": case.section, "case": case.name, "failed": str(failed)})
        planned -= mine
