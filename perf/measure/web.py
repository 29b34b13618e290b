# SPDX-License-Identifier: MIT
"""web: the echo by WebSocket: weir-echo beside what its users would use instead, and beside its own echo of frames, which has no masks and no text to look at.

Cases, cores and load are those of echo.py; the load is the same program, which masks what it sends."""

import os
import shutil

from common import ROOT

from measure.case import peer
from measure.echo import Echo, weir_program

LOADS = ["1:1:64", "64:16:64", "1000:1:64", "16:8:16384"]
SIDES = ["weir", "weir-frame", "lws", "gorilla", "ws"]
NODE_MODULE = os.path.join(ROOT, "build", "npm", "node_modules", "ws", "wrapper.mjs")


class Web(Echo):
    section = "web"

    def program(self, side):
        if side.startswith("weir"):
            return weir_program(self.options, "weir-echo")
        if side == "ws":
            return shutil.which("node") if os.path.exists(NODE_MODULE) else NODE_MODULE
        return peer(self.options, {"lws": "web-lws", "gorilla": "web-go"}[side])

    def command(self, side):
        if side == "ws":
            return ["node", os.path.join(ROOT, "perf", "peers", "node", "web.mjs"), NODE_MODULE, "--listen", "tcp://127.0.0.1:0"]
        return [*super().command(side), *(["--framing", "websocket"] if side == "weir" else [])]

    def measure(self, side):
        load = self.load
        self.load = load if side == "weir-frame" else [*load, "--framing", "websocket"]
        try:
            return super().measure(side)
        finally:
            self.load = load


def cases(options):
    for load in LOADS:
        yield Web(options, load, SIDES, load, quick=load == "64:16:64")
