# SPDX-License-Identifier: MIT
"""check_run: perf/run once, as short as it can be; then its report again, made from figures that are known."""

import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUN = os.path.join(ROOT, "perf", "run")


def fail(what):
    sys.exit(f"perf/run: {what}")


def run(*arguments, code=0):
    done = subprocess.run([sys.executable, RUN, *arguments], capture_output=True, text=True, timeout=200, check=False)
    if done.returncode != code:
        fail(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def read(directory):
    with open(os.path.join(directory, "REPORT.md"), encoding="utf-8") as file:
        return file.read()


def must_have(text, *parts):
    for part in parts:
        if part not in text:
            fail(f"the report has no '{part}':\n{text}")


def check_measuring(binaries, directory):
    options = ["--binary-dir", binaries, "--out", directory, "--report", directory, "--seconds", "0.1", "--warmup", "0.05", "--rounds", "2"]
    said = run(*options, "--only", "hop", "--only", "ways", "--case", "awake", "--case", "P=2")
    with open(os.path.join(directory, "rounds.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    kept = [line for line in lines if line.get("again") is False]
    if "environment" not in lines[0] or len(kept) != 4:
        fail(f"{len(kept)} rounds instead of 4, of two cases:\n{said}{lines}")
    for line in kept:
        if line["case"] == "P=2" and not line["sides"]["weir"]["messages_per_second"] > 0:
            fail(f"weir has sent nothing: {line}")
    first, second = kept[0]["order"], kept[1]["order"][::-1]
    if second != first[1:] + first[:1]:
        fail(f"the order does not go round and turn: {first}, {kept[1]['order']}")
    must_have(read(directory), "# The measure", "Where weir loses", "| weir |", "P producers share one TCP connection")
    if "there is no such case" not in run(*options, "--case", "nothing", code=1):
        fail("a case that is not there is not told")


def round_of(number, sides):
    machine = {"steal": 0, "foreign": 0, "disturbed": False}
    return {"section": "ways", "case": "P=16", "round": number, "order": list(sides), "machine": machine, "again": False, "sides": sides}


def report_of(directory, environment, lines):
    with open(os.path.join(directory, "rounds.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in [{"environment": {"kernel": "6.1", "cpu": "a cpu", "cores": 2, "date": "today", **environment}}, *lines])
    run("--again", "--out", directory, "--report", directory)
    return read(directory)


def check_report(directory):
    """weir twice as fast as go and half as fast as ck, in each of five rounds; one round more was disturbed and done again."""
    lines = []
    for number in range(5):
        speeds = (("weir", 2e6), ("go", 1e6), ("ck", 4e6))
        lines.append(round_of(number, {side: {"messages_per_second": speed * (number + 1), "cpu_ns_per_message": 10} for side, speed in speeds}))
    lines.append({**lines[-1], "again": True, "sides": {"weir": {"messages_per_second": 1e12}}})
    lines.append({"section": "echo", "case": "1:1:64", "failed": "the server has ended"})
    report = report_of(directory, {"versions": {}, "others": {}, "missing": {"fanin-x": "x"}, "command": "perf/run --test"}, lines)
    must_have(report, "ways P=16, messages/s: 0.50 of ck", "| ways P=16, messages/s | go | 2.00 (2.00-2.00) | at least 3 | **no** |",
              "| go | 2.00 (2.00-2.00) |", "| ck | 0.50 (0.50-0.50) |", "| weir | 6.00 (4.00-8.00) |", "5 rounds, 1 done again", "the server has ended", "not there:** x (fanin-x)")
    if "cores of this machine move" in report:
        fail(f"it is told that the cores moved: nobody has looked\n{report}")


def check_moving_cores(directory):
    """weir is 3 times as fast as go while the cores are near, and twice while they are far; in the first two rounds and in the last they were not alike for both."""
    near, far = [25, 30], [150, 160]
    plan = [(near, far), (far, near), (near, near), (far, far), (near, near), (near, near), (near, [25, 150])]
    lines = []
    for number, (mine, theirs) in enumerate(plan):
        weir = {"messages_per_second": 3e6 if mine is near else 1e6, "lines_ns": mine}
        go = {"messages_per_second": {25: 1e6, 150: 0.5e6}[theirs[0]], "lines_ns": theirs}
        lines.append(round_of(number, {"weir": weir, "go": go}))
    must_have(report_of(directory, {}, lines), "The cores of this machine move", "25 ns", "and 150 at another", "64% of 14 runs", "29% far", "in 7% they moved",
              "| weir | 3.00 (3.00-3.00) |", "| go | 1.00 (1.00-1.00) |", "| go | 3.00 (3.00-3.00) | at least 3 | yes |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="weir-perf-run-") as place:
        check_measuring(sys.argv[1], place)
        check_report(place)
        check_moving_cores(place)
    print("perf/run: fine")
