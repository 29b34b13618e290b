#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Strangers' clients against weir, and weir's client against a stranger's server.

usage: run.py BUILD CLIENT

CLIENT is one of curl, websockets, ws: starts BUILD/tools/weir-echo --framing websocket and lets the client's program loose on it; websockets-deflate,
ws-deflate: the same with --deflate, and then with --deflate=keep; chromium: headless Chromium at BUILD/tools/weir-chat's
page (chat_page.py), with screenshots in BUILD/tests/clients; or ws-server: starts a server made of npm's ws, and lets BUILD/tests/clients/dialer loose
on that. A client that is not installed fails the test, with a sentence."""

import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PATIENCE_S = 100
MESSAGE_MAX_BYTES = 1 << 20
DEBIANS = "/usr/bin/python3"  # where Debian's packages are
HOW = ("", "=keep")
NODE_MODULES = os.path.join(ROOT, "build", "npm", "node_modules")


def need(there, what):
    if not there:
        sys.exit(f"run.py: {what} is not installed: tools/prepare check installs it")


def need_websockets():
    need(subprocess.run([DEBIANS, "-c", "import websockets"], check=False, stderr=subprocess.DEVNULL).returncode == 0, "python3-websockets")


def address_of(server):
    """What a server prints first: "listening on tcp://HOST:PORT"."""
    line = server.stdout.readline()
    if not line.startswith("listening on tcp://"):
        sys.exit(f"run.py: the server said '{line.strip()}' first")
    return line.split("tcp://")[1].strip()


def node(program, *arguments):
    need(shutil.which("node"), "node")
    need(os.path.isdir(os.path.join(NODE_MODULES, "ws")), "npm's ws (build/npm)")
    return ["node", os.path.join(HERE, program), os.path.join(NODE_MODULES, "ws", "wrapper.mjs"), *arguments]


def run(server_command, client_command):
    server = subprocess.Popen(server_command, stdout=subprocess.PIPE, text=True)
    try:
        result = subprocess.run(client_command(address_of(server)), timeout=PATIENCE_S, check=False).returncode
        if server.poll() is not None:
            sys.exit(f"run.py: the server has ended by itself: {server.returncode}")
        server.send_signal(signal.SIGTERM)
        ended = server.wait(20)
    finally:
        if server.poll() is None:
            server.kill()
    if result != 0 or ended != 0:
        sys.exit(f"run.py: the client answered {result}, the server {ended}")


def main():
    build, client = sys.argv[1:]
    echo = [os.path.join(build, "tools", "weir-echo"), "--framing", "websocket", "--listen", "tcp://127.0.0.1:0", "--shards", "2",
            "--max-message", str(MESSAGE_MAX_BYTES)]
    if client == "curl":
        need(shutil.which("curl"), "curl")
        run(echo, lambda address: [sys.executable, os.path.join(HERE, "curl.py"), address])
    elif client == "websockets":
        need_websockets()
        run(echo, lambda address: [DEBIANS, os.path.join(HERE, "websockets_client.py"), address])
    elif client == "ws":
        run(echo, lambda address: node("ws_client.mjs", address))
    elif client == "websockets-deflate":
        need_websockets()
        for how in HOW:
            run(echo + ["--deflate" + how], lambda address, how=how: [DEBIANS, os.path.join(HERE, "websockets_deflate.py"), address, how])
    elif client == "ws-deflate":
        for how in HOW:
            run(echo + ["--deflate" + how], lambda address, how=how: node("ws_deflate.mjs", address, how))
    elif client == "chromium":
        need(shutil.which("chromium"), "chromium")
        need(shutil.which("chromedriver"), "chromium-driver")
        page = [sys.executable, os.path.join(HERE, "chat_page.py"), os.path.join(build, "tools", "weir-chat"), os.path.join(build, "tests", "clients")]
        sys.exit(subprocess.run(page, timeout=2 * PATIENCE_S, check=False).returncode)
    elif client == "ws-server":
        run(node("ws_server.mjs"), lambda address: [os.path.join(build, "tests", "clients", "dialer"), address])
    else:
        sys.exit(__doc__)


main()
