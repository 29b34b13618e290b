# SPDX-License-Identifier: MIT
"""Every .c and .h is formatted as .clang-format says, by the version that Debian 12 has (others differ)."""

import common

names = common.c_files("include", "runtime", "proto", "tests", "perf", "tools")
faults = []
for name in names:
    result = common.run(["clang-format-14", "--dry-run", "-Werror", "--style=file", name], cwd=common.ROOT)
    if result.returncode != 0:
        faults += [line for line in result.stderr.splitlines() if "error:" in line] or [f"{name}: {result.stderr.strip()}"]
common.finish(f"format of {len(names)} files", faults, "Mend with: clang-format-14 -i FILE")
