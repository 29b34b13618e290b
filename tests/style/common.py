# SPDX-License-Identifier: MIT
"""What the style tests share: which files there are, and how a test says what it found."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Never ours: what builds and editors leave behind.
SKIPPED_DIRECTORIES = {"build", "target", "node_modules", "__pycache__"}


def files(*directories):
    """Every file below the given directories ("" for everything), as paths from the root, sorted. Of the hidden
    directories only .ci is looked into."""
    found = []
    for directory in directories:
        for where, below, names in os.walk(os.path.join(ROOT, directory)):
            below[:] = [b for b in below if b not in SKIPPED_DIRECTORIES and (b == ".ci" or not b.startswith("."))]
            found += [os.path.relpath(os.path.join(where, name), ROOT) for name in names]
    return sorted(found)


def c_files(*directories):
    return [name for name in files(*directories) if name.endswith((".c", ".h"))]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def run(command, **more):
    """Runs a program; its output comes back as text, a program that is not there ends the test."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, **more)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed; ./tools/prepare check installs what the tests need.")


def finish(what, faults, advice=""):
    """Ends the test: one line for each fault, then what to do about them."""
    if not faults:
        print(f"{what}: fine")
        sys.exit(0)
    for fault in faults:
        print(fault)
    print(f"{what}: {len(faults)} at fault. {advice}".rstrip())
    sys.exit(1)
