# SPDX-License-Identifier: MIT
"""No function over 70 lines, no file over 600. A ratchet: these numbers go down, never up."""

import common

FUNCTION_MAX_LINES = 70
FILE_MAX_LINES = 600

names = common.c_files("include", "runtime", "proto", "tools", "perf")
faults = []
for name in names:
    lines = common.read(name).count("\n")
    if lines > FILE_MAX_LINES:
        faults.append(f"{name}: {lines} lines; at most {FILE_MAX_LINES}")
result = common.run(
    ["ctags", "--languages=C,C++", "--langmap=C:.c.h", "--kinds-C=f", "-x", "--_xformat=%F\t%n\t%{end}\t%N", "--sort=no", "-L", "-"],
    cwd=common.ROOT, input="\n".join(names))
if result.returncode != 0:
    faults.append(f"ctags failed (universal-ctags is needed): {result.stderr.strip()}")
functions = 0
for line in result.stdout.splitlines():
    name, first, last, function = line.split("\t")
    functions += 1
    if last.isdigit() and int(last) - int(first) + 1 > FUNCTION_MAX_LINES:
        faults.append(f"{name}:{first}: {function}() has {int(last) - int(first) + 1} lines; at most {FUNCTION_MAX_LINES}")
common.finish(f"lengths of {functions} functions in {len(names)} files", faults, "Divide it where its sentence has an 'and'.")
