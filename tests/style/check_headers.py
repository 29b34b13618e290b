# SPDX-License-Identifier: MIT
"""Each public header compiles alone, twice over, without a warning: C11 and C++17, gcc and clang."""

import os
import tempfile

import common

COMPILERS = [("gcc", "c", "c11"), ("clang", "c", "c11"), ("g++", "c++", "c++17"), ("clang++", "c++", "c++17")]
FLAGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", os.path.join(common.ROOT, "include")]

headers = [name for name in common.files("include") if name.endswith(".h")]
faults = []
with tempfile.TemporaryDirectory() as directory:
    alone = os.path.join(directory, "alone")
    for header in headers:
        line = f"#include <{header[len('include/'):]}>\n"
        with open(alone, "w", encoding="utf-8") as file:
            file.write(line + line + "int main(void);\n")
        for compiler, language, standard in COMPILERS:
            result = common.run([compiler, "-x", language, f"-std={standard}", *FLAGS, alone])
            if result.returncode != 0:
                faults.append(f"{header} with {compiler} -std={standard}:\n{result.stderr.strip()}")
if not headers:
    faults.append("include/ has no header")
common.finish(f"{len(headers)} headers alone", faults)
