# SPDX-License-Identifier: MIT
"""Every file of code begins with its licence: on the first line, or on the second behind a #!."""

import os

import common

SPDX = "SPDX-License-Identifier: MIT"
SUFFIXES = (".c", ".h", ".cpp", ".cmake", ".py", ".sh", ".rs", ".go", ".pml")


def is_code(name):
    if name.endswith(SUFFIXES) or os.path.basename(name) == "CMakeLists.txt":
        return True
    with open(os.path.join(common.ROOT, name), "rb") as file:
        return file.read(2) == b"#!"


names = [name for name in common.files("") if is_code(name)]
faults = []
for name in names:
    lines = common.read(name).splitlines()[:2] or [""]
    if SPDX not in (lines[-1] if lines[0].startswith("#!") else lines[0]):
        faults.append(f"{name}: does not begin with {SPDX}")
common.finish(f"licence of {len(names)} files", faults)
