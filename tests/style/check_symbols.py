# SPDX-License-Identifier: MIT
"""The archives that are shipped define no global symbol outside weir_, and miss none of weir's own.
Arguments: the archives."""

import sys

import common

faults = []
if len(sys.argv) < 2:
    sys.exit("symbols: no archive was named")
for archive in sys.argv[1:]:
    result = common.run(["nm", "--extern-only", "--format=posix", archive])
    if result.returncode != 0:
        sys.exit(f"nm {archive}: {result.stderr.strip()}")
    symbols = [line.split() for line in result.stdout.splitlines() if len(line.split()) >= 2]
    defined = [fields[0] for fields in symbols if fields[1] not in "Uvw"]
    if not defined:
        faults.append(f"{archive}: defines nothing at all")
    faults += [f"{archive}: defines {name}" for name in defined if not name.startswith("weir_")]
    faults += [f"{archive}: needs {fields[0]}, which no archive has" for fields in symbols if fields[1] == "U" and fields[0].startswith("w_")]
common.finish("symbols of the archives", faults, "Only weir_ may be global: see weir_archive() in CMakeLists.txt.")
