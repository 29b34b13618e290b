# SPDX-License-Identifier: MIT
"""shellcheck has nothing to say about any shell script."""

import common

scripts = [name for name in common.files("") if name.endswith(".sh") or common.read(name)[:40].startswith(("#!/usr/bin/env bash", "#!/bin/"))]
result = common.run(["shellcheck", "--external-sources", "--format=gcc", *scripts], cwd=common.ROOT)
common.finish(f"shellcheck of {len(scripts)} scripts", (result.stdout + result.stderr).splitlines())
