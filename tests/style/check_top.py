# SPDX-License-Identifier: MIT
"""The top level stays small: what a newcomer sees first."""

import os

import common

ALLOWED = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "include", "perf", "proto", "runtime", "tests", "tools"}
IGNORED = {"build", "compile_commands.json"}  # as .gitignore has it

faults = [f"{name}: does not belong at the top level" for name in sorted(os.listdir(common.ROOT))
          if name not in ALLOWED | IGNORED and not name.startswith(".")]
faults += [f"{name}: is missing" for name in sorted(ALLOWED) if not os.path.exists(os.path.join(common.ROOT, name))]
common.finish("top level", faults, "Allowed: " + " ".join(sorted(ALLOWED)))
