# SPDX-License-Identifier: MIT
"""Who can say a name can open its file: a function of runtime/FILE.c is w_FILE_... (in io/ also w_io_...) or public,
weir_...; nothing global is called otherwise. Arguments: files that list the objects, one path a line."""

import os
import re
import sys

import common

OBJECT = re.compile(r"objects\.dir/(?:\./)?((?:runtime|proto)/.*)\.c\.o(?:bj)?$")


def globals_of(path):
    """(kind, name) of each global symbol that an object defines."""
    result = common.run(["nm", "--extern-only", "--defined-only", "--format=posix", path])
    if result.returncode != 0:
        sys.exit(f"nm {path}: {result.stderr.strip()}")
    return [(fields[1], fields[0]) for fields in (line.split() for line in result.stdout.splitlines()) if len(fields) > 1]


def fault_of(source, kind, name):
    if name.startswith("weir_"):
        return None
    if not name.startswith("w_"):
        return f"global {name} is neither w_ nor weir_"
    if kind not in "TtWw":
        return None
    noun = os.path.basename(source)
    nouns = [noun, noun.split("_")[0]] + (["io"] if source.startswith("runtime/io/") else [])
    if any(name.startswith(f"w_{n}_") or name == f"w_{n}" for n in nouns):
        return None
    return f"function {name} should begin with " + " or ".join(f"w_{n}_" for n in dict.fromkeys(nouns))


paths = [path for listing in sys.argv[1:] for path in common.read(listing).split() if path]
if not paths:
    sys.exit("names: no objects were listed; the library has no sources?")
faults = []
for path in paths:
    match = OBJECT.search(path)
    source = match.group(1) if match else path
    for kind, name in globals_of(path):
        fault = fault_of(source, kind, name)
        if fault:
            faults.append(f"{source}.c: {fault}")
common.finish(f"names in {len(paths)} objects", faults, "Make it static or give it its file's noun.")
