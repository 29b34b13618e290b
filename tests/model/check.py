# SPDX-License-Identifier: MIT
"""The models of the lock-free protocols, every state of them: the protocol as it stands has no fault and no step that is never taken, and
each mistake that a model lists is found. An argument: a directory to work in, where all is left behind; without it a temporary one.

To see how a mistake goes wrong, in that directory (for a circle -DNP and ./pan -l instead):
    spin -a -DMISTAKE=1 bell.pml && cc -DSAFETY -o pan pan.c && ./pan; spin -t -p -g -DMISTAKE=1 bell.pml"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# Each model, the ways in which it is to be right, and how many items it has when it is looked for circles: that takes more states, and
# circles do not need much to do.
MODELS = {"bell": ("", "-DPORT", 1), "own": ("", 5), "want": ("", 2), "life": ("", 2), "over": ("", 2), "home": ("", 2), "group": ("", 1),
          "slot": ("", "-DTAKEN", 2)}
PARTS = ["buffers", "sleeps"]

# A line of a model's list: a number, words, and in brackets what it takes to see it: "circle" or a way.
MISTAKE = re.compile(r"^ \*   (\d+) +(.*?)(?: \[(.+)\])?(?: \*/)?$", re.MULTILINE)
INCOMPLETE = re.compile(r"Search not completed|too small|out of memory|memory bound|VECTORSZ|aborted", re.IGNORECASE)
UNREACHED = re.compile(r'^\t(\S+:\d+), state \d+, "(?!-end-)(.*)"$', re.MULTILINE)
PATIENCE_S = 240
TRAIL_LINES = 80


def run(*command, allowed=(0,)):
    """What a program says; one that is not there, or fails, ends the test."""
    try:
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE_S)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed; ./tools/prepare check installs what the tests need.")
    except subprocess.TimeoutExpired:
        sys.exit(f"{' '.join(command)}: not done after {PATIENCE_S} s")
    if result.returncode not in allowed:
        sys.exit(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout}")
    return result.stdout


def search(model, *defines, circles=False, thorough=False):
    """All states, or all up to the first fault: (what pan said, how many errors, how many states). Most mistakes are found so soon that to
    optimise pan and to clear a large hash table would take longer."""
    run("spin", "-a", *defines, f"{model}.pml")
    run(os.environ.get("CC", "cc"), "-O1" if thorough else "-O0", "-w", "-DMEMLIM=2048", "-DNP" if circles else "-DSAFETY",
        "-o", "pan", "pan.c")
    said = run("./pan", "-m20000", "-w23" if thorough else "-w18", *(["-l"] if circles else []), allowed=range(256))
    errors, states = re.search(r"errors: (\d+)", said), re.search(r"(\d+) states, stored", said)
    if not errors or not states:
        sys.exit(f"{model}.pml: pan gave up:\n{said}")
    return said, int(errors.group(1)), int(states.group(1))


def trail(model, *defines):
    """How it came to the fault: the last steps."""
    lines = run("spin", "-t", "-p", "-g", *defines, f"{model}.pml", allowed=range(256)).splitlines()
    return "\n".join(lines[-TRAIL_LINES:])


def fault_of_right(model, defines, circles):
    """(states, what is wrong or None) of the protocol as it stands."""
    said, errors, states = search(model, *defines, circles=circles, thorough=True)
    if errors > 0:
        return states, f"it has a fault:\n{said}\n{trail(model, *defines)}"
    if INCOMPLETE.search(said):
        return states, f"it was not searched to the end:\n{said}"
    unreached = [] if circles else UNREACHED.findall(said)
    if unreached:
        return states, "it has steps that are never taken:\n" + "\n".join(f"{place}: {step}" for place, step in unreached)
    return states, None


def tell(model, begin, states, words):
    print(f"{model:5} {states:10,} states {time.monotonic() - begin:6.1f} s  {words}", flush=True)


def check_right(model):
    """What is wrong with the protocol as it stands, as sentences."""
    faults = []
    *ways, items = MODELS[model]
    for way in ways:
        for circles in (False, True):
            begin, defines = time.monotonic(), ["-DMISTAKE=0"] + way.split() + ([f"-DITEMS={items}"] if circles else [])
            states, fault = fault_of_right(model, defines, circles)
            if fault:
                faults.append(f"{model}.pml {way}".rstrip() + f": {fault}")
            tell(model, begin, states, f"{'WRONG' if fault else 'right'}{', circles' if circles else ''} {way}".rstrip())
    return faults


def check_mistakes(model):
    """Those that were not found, as sentences."""
    faults = []
    with open(f"{model}.pml", encoding="utf-8") as file:
        mistakes = MISTAKE.findall(file.read())
    if not mistakes or [int(number) for number, _, _ in mistakes] != list(range(1, len(mistakes) + 1)):
        faults.append(f"{model}.pml: its mistakes are not a list that counts from 1")
    for number, words, needs in mistakes:
        begin, circles = time.monotonic(), needs == "circle"
        way = f"-DITEMS={MODELS[model][-1]}" if circles else needs
        _, errors, states = search(model, f"-DMISTAKE={number}", *way.split(), circles=circles)
        if errors == 0:
            faults.append(f"{model}.pml: mistake {number} is not found: {words}")
        tell(model, begin, states, f"{'NOT found' if errors == 0 else 'found'}: {number} {words}")
    return faults


def check_all(directory):
    for name in [*MODELS, *PARTS]:
        shutil.copy(os.path.join(HERE, f"{name}.pml"), directory)
    os.chdir(directory)
    begin = time.monotonic()
    faults = [fault for model in MODELS for fault in check_right(model) + check_mistakes(model)]
    os.chdir(HERE)
    print(f"{len(MODELS)} models, {time.monotonic() - begin:.0f} s: {'fine' if not faults else f'{len(faults)} at fault'}")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if len(sys.argv) > 1:
    os.makedirs(sys.argv[1], exist_ok=True)
    sys.exit(check_all(sys.argv[1]))
with tempfile.TemporaryDirectory() as temporary:
    sys.exit(check_all(temporary))
