# SPDX-License-Identifier: MIT
"""proxy: weir-proxy, HAProxy and nginx between the same load and the same echo server. none: without a proxy, which is how fast the two are by themselves.

Each has one thread, on a core of its own as far as two cores go: the echo server behind it shares the load's, and the load sleeps while there is nothing."""

import os
import tempfile

from common import Server
from peers.proxy.proxy import missing, start_proxy

from measure.case import peer
from measure.echo import LOAD_CORE, SERVER_CORE, Echo

SIDES = {"weir": "weir-proxy", "haproxy": "haproxy", "nginx": "nginx", "none": None}
LOADS = ["64:16:64", "16:8:16384", "1000:1:64"]
WARMUP_SECONDS = 1  # each connection is dialled on by the proxy first


class Proxy(Echo):
    section = "proxy"
    spin = False
    rounds_most = 11

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.warmup = WARMUP_SECONDS

    def program(self, side):
        return peer(self.options, "echo-epoll")

    def is_there(self, side):
        if SIDES[side] is None or missing(SIDES[side], self.options.binary_dir) is None:
            return super().is_there(side)
        self.options.missing.setdefault(SIDES[side], side)
        return False

    def open(self):
        self.directory = tempfile.TemporaryDirectory(prefix="weir-proxy-")
        self.servers = {"none": Server("echo", self.command("none"), LOAD_CORE)}
        for side in self.sides:
            if side != "none":
                place = os.path.join(self.directory.name, side)
                os.mkdir(place)
                self.servers[side] = start_proxy(SIDES[side], self.servers["none"].address, place, self.options.binary_dir, SERVER_CORE)

    def close(self):
        super().close()
        self.directory.cleanup()


def cases(options):
    for load in LOADS:
        yield Proxy(options, load, SIDES, load)
