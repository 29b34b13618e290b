# SPDX-License-Identifier: MIT
"""proxy: weir-proxy, HAProxy and nginx between the same load and the same echo server. none: without a proxy, which is how fast the two are by themselves.

Each has one thread, on a core of its own as far as two cores go: the echo server behind it shares the load's, and the load sleeps while there is nothing."""

import os
import tempfile

from common import Server
from peers.proxy.proxy import missing, start_proxy

from measure.case import Case, peer, run_json, weir_perf
from measure.echo import LOAD_CORE, SERVER_CORE

SIDES = {"weir": "weir-proxy", "haproxy": "haproxy", "nginx": "nginx", "none": None}
LOADS = ["64:16:64", "16:8:16384", "1000:1:64"]
WARMUP_SECONDS = 1  # each connection is dialled on by the proxy first


class Proxy(Case):
    section = "proxy"

    def __init__(self, options, load):
        super().__init__(options, load, SIDES)
        connections, depth, size = load.split(":")
        self.load = ["--connections", connections, "--depth", depth, "--bytes", size]
        self.servers = {}
        self.directory = None

    def side_seconds(self):
        return self.options.seconds + WARMUP_SECONDS + 0.5

    def program(self, side):
        return peer(self.options, "echo-epoll")

    def is_there(self, side):
        if SIDES[side] is None or missing(SIDES[side], self.options.binary_dir) is None:
            return super().is_there(side)
        self.options.missing.setdefault(SIDES[side], side)
        return False

    def open(self):
        self.directory = tempfile.TemporaryDirectory(prefix="weir-proxy-")
        self.servers = {"none": Server("echo", [self.program("none"), "--listen", "tcp://127.0.0.1:0"], LOAD_CORE)}
        for side, name in SIDES.items():
            if name is not None and side in self.sides:
                place = os.path.join(self.directory.name, name)
                os.mkdir(place)
                self.servers[side] = start_proxy(name, self.servers["none"].address, place, self.options.binary_dir, SERVER_CORE)

    def close(self):
        for server in reversed(self.servers.values()):
            server.stop()
        self.directory.cleanup()

    def measure(self, side):
        server = self.servers[side]
        command = [weir_perf(self.options), "echo", *self.load, "--seconds", str(self.options.seconds), "--warmup", str(WARMUP_SECONDS)]
        command += ["--connect", server.address, "--server-pid", str(server.process.pid), "--cpu", str(LOAD_CORE), "--json"]
        figures = run_json(command)
        server.wait_for_quiet()
        return figures


def cases(options):
    for load in LOADS:
        yield Proxy(options, load)
