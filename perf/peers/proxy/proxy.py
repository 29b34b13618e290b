# SPDX-License-Identifier: MIT
"""The TCP proxies that weir-proxy is measured against: fills in their configurations and starts them between clients and a server.

    python3 proxy.py NAME --connect tcp://127.0.0.1:7000    # runs one until SIGTERM, says where it listens

or, from a script: start_proxy(), which answers a common.Server. Each has one thread, runs in the foreground as one process, and keeps all
its files in the directory that it is given."""

import argparse
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))
sys.dont_write_bytecode = True  # no __pycache__ in the source tree
from common import ROOT, START_SECONDS, Failed, Server, run_script, say  # noqa: E402

NAMES = ["weir-proxy", "haproxy", "nginx"]
PACKAGES = {"haproxy": "haproxy", "nginx": "libnginx-mod-stream"}
ATTEMPTS = 5


# --- what is there ---


def program(name, binary_dir):
    """Its path; None when it is not there."""
    if name == "weir-proxy":
        path = os.path.join(binary_dir, "tools", name)
        return path if os.access(path, os.X_OK) else None
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def nginx_module(path):
    """The line that gives nginx its stream module: nothing when it is built in; None when it is not there."""
    options = subprocess.run([path, "-V"], capture_output=True, text=True, check=False).stderr
    if "--with-stream " in options + " ":
        return ""
    modules = re.search(r"--modules-path=(\S+)", options)
    module = os.path.join(modules.group(1), "ngx_stream_module.so") if modules else ""
    return f"load_module {module};" if os.path.exists(module) else None


def missing(name, binary_dir):
    """Why it cannot be started, as a sentence; None when it can."""
    path = program(name, binary_dir)
    if path is not None and (name != "nginx" or nginx_module(path) is not None):
        return None
    if name in PACKAGES:
        return f"{name} is not there (Debian: apt-get install {PACKAGES[name]})"
    return f"{name} is not there: build the release first, or name another --binary-dir"


def version(name, binary_dir):
    """What it says about itself, for a report."""
    option = {"weir-proxy": "--version", "haproxy": "-v", "nginx": "-v"}[name]
    done = subprocess.run([program(name, binary_dir), option], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).partition("\n")[0]


# --- the processes ---


class Proxy(Server):
    """A server that does not say where it listens: it is there when it can be connected to."""

    def __init__(self, name, command, address, core=None):
        self.wanted = address
        super().__init__(name, command, core)

    def wait_for_address(self):
        deadline = time.monotonic() + START_SECONDS
        host, port = self.wanted.removeprefix("tcp://").rsplit(":", 1)
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.fail(f"ended early (code {self.process.returncode})")
            try:
                socket.create_connection((host, int(port)), 1).close()
                return self.wanted
            except OSError:
                time.sleep(0.01)
        return self.fail(f"does not listen after {START_SECONDS} s")


def free_address():
    """One that nobody listens on just now; neither HAProxy nor nginx says which port it has taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def fill(template, directory, values):
    """Writes perf/peers/proxy/TEMPLATE.in, filled in, into the directory; its path there."""
    with open(os.path.join(HERE, template + ".in"), encoding="utf-8") as source:
        text = source.read()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    path = os.path.join(directory, template)
    with open(path, "w", encoding="utf-8") as filled:
        filled.write(text)
    return path


def command_of(name, path, values):
    directory = values["DIRECTORY"]
    if name == "haproxy":
        return [path, "-db", "-f", fill("haproxy.cfg", directory, values)]
    values["MODULE"] = nginx_module(path)
    return [path, "-p", directory, "-e", "stderr", "-c", fill("nginx.conf", directory, values)]


def start_proxy(name, target, directory, binary_dir, core=None):
    """Starts one that passes on to the server at `target` (tcp://host:port); where it listens is its address."""
    why = missing(name, binary_dir)
    if why is not None:
        raise Failed(why)
    path = program(name, binary_dir)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # nginx without a master takes what it is given
    if name == "weir-proxy":
        return Server(name, [path, "--shards", "1", "tcp://127.0.0.1:0", target], core)
    for attempt in range(ATTEMPTS):
        listen = free_address()
        values = {"LISTEN": listen, "CONNECT": target.removeprefix("tcp://"), "DIRECTORY": os.path.abspath(directory)}
        try:
            return Proxy(name, command_of(name, path, values), f"tcp://{listen}", core)
        except Failed:  # somebody else may have taken the port meanwhile
            if attempt + 1 == ATTEMPTS:
                raise
    return None


# --- alone ---


def run(options):
    with tempfile.TemporaryDirectory(prefix="weir-proxy-") as directory:
        proxy = start_proxy(options.name, options.connect, directory, options.binary_dir)
        try:
            say(f"{version(options.name, options.binary_dir)}, process {proxy.process.pid}, listening on {proxy.address}")
            proxy.process.wait()
        finally:
            proxy.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--connect", required=True, metavar="ADDRESS", help="the server behind it, like tcp://127.0.0.1:7000")
    parser.add_argument("--binary-dir", default=os.path.join(ROOT, "build", "release"), help="where weir was built (build/release)")
    chosen = parser.parse_args()
    sys.exit(run_script("proxy", lambda: run(chosen)))
