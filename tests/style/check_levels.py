# SPDX-License-Identifier: MIT
"""Who may include whom. In runtime/, a file includes only files that stand before it on the picture (DESIGN: "Files"): of
lower levels, or of its own level and further left below; and its own header. The other directories have a list each."""

import re

import common

# The picture. A file that is not on it fails the test: add it where it belongs. Names in a group make up one thing and know each other.
LEVELS = [
    ["base"],
    ["life", "spsc", "bell", "io/*", "pool", "wheel", "stats", "limits", "config"],
    ["core", "blob", "channel", "burst", ("port", "port_back", "port_shard", "port_calls", "own", "own_run")],
    ["reader", ("writer", "writer_own"), "filter"],
    [("conn", "conn_across", "conn_end", "deadline", "waitlist", "pipe", "group", "group_send", "session", "table"), "attach", "calls", "listener", "dialer"],
    ["crossing"],
    [("shard", "shard_calls", "shard_run")],
    ["runtime", "listen", "metrics"],
    ["sim"],
]
# These measure weir from within; everything else in perf/ is the load side.
EMBEDDED = {"perf/codec.c", "perf/fanin.c", "perf/fanin.h", "perf/fanin_shard.c", "perf/fanout.c", "perf/hop.c", "perf/ring.c"}
# In io/, files may include each other, but for these: an engine is known to its own parts (io/uring, io/uring_features) alone.
ENGINES = {"io/uring", "io/sim", "io/epoll"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]')


def engine_of(stem):
    """The engine that a file is part of, or None. (The simulated kernel's driver, which turns the shards, stands above the runtime.)"""
    family = "io/sim" if stem == "sim" else stem.split("_")[0]
    return family if family in ENGINES else None


def place_of(stem):
    """(level, place in it), or None when it is not on the picture."""
    name = "io/*" if stem.startswith("io/") else stem
    for level, row in enumerate(LEVELS):
        for place, entry in enumerate(row):
            if name == entry or (isinstance(entry, tuple) and name in entry):
                return level, place
    return None


def runtime_fault(name, quote, target):
    """What is wrong with this include in a file of runtime/, or None."""
    stem = name[len("runtime/"):-2]
    if quote == "<":
        if target.startswith("liburing") and not stem.startswith("io/"):
            return "only runtime/io/ may know liburing"
        return None
    if not target.startswith("runtime/"):
        return 'a runtime file includes "runtime/...", <weir/...> and the system only'
    other = target[len("runtime/"):-2]
    if place_of(other) is None:
        return "it has no level: add it to LEVELS in tests/style/check_levels.py and to the picture"
    if engine_of(other) not in (None, engine_of(stem)):
        return "nobody includes an engine but its own parts; the contract is runtime/io/io.h"
    grouped = any(isinstance(entry, tuple) and stem in entry and other in entry for row in LEVELS for entry in row)
    if other == stem or grouped or place_of(other) < place_of(stem) or (stem.startswith("io/") and other.startswith("io/")):
        return None
    return f"level {place_of(stem)[0]} includes level {place_of(other)[0]}; a file includes only what stands before it"


def is_libc(target):
    return not target.startswith(("weir/", "liburing", "runtime/", "proto/"))


def fault_of(name, quote, target):
    if name.startswith("runtime/"):
        return runtime_fault(name, quote, target)
    if name.startswith("include/"):
        good = quote == "<" and (target.startswith("weir/") or target in ("stdbool.h", "stddef.h", "stdint.h"))
        return None if good else "a public header includes <weir/...>, <stdbool.h>, <stddef.h> and <stdint.h> only"
    if name.startswith("proto/"):
        good = target.startswith("proto/") if quote == '"' else (
            target in ("weir/codec.h", "weir/base.h", "weir/http.h", "weir/session.h", "weir/websocket.h") or (is_libc(target) and target != "pthread.h"))
        return None if good else 'a codec includes <weir/codec.h>, <weir/base.h>, "proto/..." and libc only'
    if name.startswith("tools/"):
        good = ("/" not in target or target.startswith("chat/")) if quote == '"' else target.startswith("weir/") or is_libc(target)
        return None if good else "a tool is an example: it includes <weir/...>, libc, and its own files only"
    good = target.startswith("perf/") or "/" not in target if quote == '"' else is_libc(target)
    if name in EMBEDDED:
        good = good or target.startswith("weir/") or target == "runtime/spsc.h"
    if name.startswith("perf/peers/"):
        good = good or (quote == "<" and not target.startswith("weir/"))  # each is made of somebody's library
    return None if good else 'the load side and the peers never see weir: "perf/..." and libc only'


names = common.c_files("include", "runtime", "proto", "tools", "perf")
faults = []
for name in names:
    if name.startswith("runtime/") and place_of(name[len("runtime/"):-2]) is None:
        faults.append(f"{name}: has no level: add it to LEVELS in tests/style/check_levels.py and to the picture")
        continue
    for number, line in enumerate(common.read(name).splitlines(), 1):
        match = INCLUDE.match(line)
        fault = match and fault_of(name, match.group(1), match.group(2))
        if fault:
            faults.append(f"{name}:{number}: includes {match.group(2)}: {fault}")
common.finish(f"levels of {len(names)} files", faults)
