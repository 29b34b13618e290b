# SPDX-License-Identifier: MIT
"""machine: what is measured on, and whether somebody else was busy there meanwhile."""

import datetime
import os
import platform
import re
import resource
import subprocess
import time

from common import cpu_model, cpu_seconds_of, running

STEAL_MOST = 0.02    # of all cores' time in a round; more, and the round is marked and done again
FOREIGN_MOST = 0.06  # the same, of other programs; ticks are coarse, so less cannot be told from none
TICKS = os.sysconf("SC_CLK_TCK")

VERSIONS = {
    "gcc": ["gcc", "--version"], "go": ["go", "version"], "rustc": ["rustc", "--version"],
    "erlang": ["dpkg-query", "-Wf", "${Version}", "erlang-base"], "tokio": ["dpkg-query", "-Wf", "${Version}", "librust-tokio-dev"],
    "libuv": ["pkg-config", "--modversion", "libuv"], "libevent": ["pkg-config", "--modversion", "libevent_core"],
    "asio": ["dpkg-query", "-Wf", "${Version}", "libasio-dev"], "boost": ["dpkg-query", "-Wf", "${Version}", "libboost-dev"],
    "ck": ["pkg-config", "--modversion", "ck"], "ZeroMQ": ["pkg-config", "--modversion", "libzmq"],
    "libwebsockets": ["pkg-config", "--modversion", "libwebsockets"], "gorilla": ["dpkg-query", "-Wf", "${Version}", "golang-github-gorilla-websocket-dev"],
    "node": ["node", "--version"],
    "redis": ["redis-server", "--version"], "nats": ["nats-server", "--version"], "haproxy": ["haproxy", "-v"], "nginx": ["nginx", "-v"],
}


def version(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found.group() if done.returncode == 0 and found else None


def read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def environment():
    memory = re.search(r"MemTotal:\s*(\d+)", read("/proc/meminfo"))
    return {
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "virtual": "hypervisor" in read("/proc/cpuinfo"),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "unknown",
        "date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
        "load_before": os.getloadavg()[0],
        "others": busy_programs(),
        "versions": {name: found for name, command in VERSIONS.items() if (found := version(command))},
    }


def busy_programs():
    """What else takes CPU, looked at for half a second: names and shares of one core."""

    def ticks():
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            fields = read(f"/proc/{pid}/stat").rpartition(")")
            numbers = fields[2].split()
            if len(numbers) > 13 and int(pid) != os.getpid():
                found[pid] = (fields[0].partition("(")[2], int(numbers[11]) + int(numbers[12]))
        return found

    before = ticks()
    time.sleep(0.5)
    shares = {}
    for pid, (name, count) in ticks().items():
        if pid in before and count > before[pid][1]:
            shares[name] = round(shares.get(name, 0) + (count - before[pid][1]) / TICKS / 0.5, 2)
    return {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= 0.05}


def cpu_times():
    """Seconds that the cores were busy, and that were stolen."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(field) / TICKS for field in read("/proc/stat").split("\n", 1)[0].split()[1:9])
    return user + nice + system + irq + softirq, steal


def own_seconds():
    used = sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return used + sum(cpu_seconds_of(process) or 0 for process in running)


class Watch:
    """with Watch() as watch: ...; then watch.steal and watch.foreign, as shares of all cores' time."""

    def __enter__(self):
        self.began = (time.monotonic(), *cpu_times(), own_seconds())
        return self

    def __exit__(self, *_):
        began, busy, steal, own = self.began
        capacity = max(time.monotonic() - began, 1e-3) * os.cpu_count()
        busy_now, steal_now = cpu_times()
        self.steal = (steal_now - steal) / capacity
        self.foreign = max(0.0, (busy_now - busy) - (own_seconds() - own)) / capacity

    def disturbed(self):
        return self.steal > STEAL_MOST or self.foreign > FOREIGN_MOST
