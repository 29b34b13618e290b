# SPDX-License-Identifier: MIT
"""What run, measure/ and tools/soak share: processes that end with the script, and what is printed."""

import argparse
import ctypes
import datetime
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START_SECONDS = 10
QUIET_SECONDS = 3
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None)
running = []  # every process that was started and has not been waited for


class Failed(Exception):
    """The measurement cannot go on; the text says why."""


# --- processes ---


def start(command, core=None, **pipes):
    def prepare():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # should this script be killed outright
        if core is not None:
            os.sched_setaffinity(0, {core})

    try:
        process = subprocess.Popen(command, preexec_fn=prepare, stdin=subprocess.DEVNULL, text=True, **pipes)
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from None
    running.append(process)
    return process


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process in running:
        running.remove(process)


def cpu_seconds_of(process):
    """What it has used; None: it has ended."""
    try:
        return time.clock_gettime((~process.pid << 3) | 2)  # clock_getcpuclockid(3)
    except OSError:
        return None


class Server:
    """A process that prints where it listens."""

    def __init__(self, name, command, core=None):
        self.name = name
        self.command = command
        self.complaints = tempfile.TemporaryFile("w+")
        self.process = start(command, core, stdout=subprocess.PIPE, stderr=self.complaints)
        self.address = self.wait_for_address()

    def fail(self, what):
        self.complaints.seek(0)
        raise Failed(f"{self.name} ({shlex.join(self.command)}) {what}\n{self.complaints.read()[-2000:]}")

    def read_line(self, seconds, what):
        """The next line that it prints."""
        signal.setitimer(signal.ITIMER_REAL, seconds)  # if it says nothing: on_alarm ends the wait
        try:
            line = self.process.stdout.readline()
        except TimeoutError:
            self.fail(f"has not said in {seconds} s {what}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not line:
            self.fail("ended early")
        return line

    def wait_for_address(self):
        while True:
            match = re.search(r"(?:tcp|unix)://\S+", self.read_line(START_SECONDS, "where it listens"))
            if match:
                return match.group()

    def cpu_seconds(self):
        used = cpu_seconds_of(self.process)
        if used is None:
            self.fail(f"ended (code {self.process.poll()})")
        return used

    def wait_for_quiet(self):
        """Until it has done what the end of the last run left it to do, so that the next server has the core to itself."""
        deadline = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.02)
            if self.cpu_seconds() - before < 0.0005:
                return

    def stop(self):
        stop(self.process)
        self.process.stdout.close()
        self.complaints.close()


def on_alarm(_signal, _frame):
    raise TimeoutError


def on_terminate(_signal, _frame):
    raise KeyboardInterrupt


# --- what is printed ---


def progress(text=""):
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text)
        sys.stderr.flush()


def say(text=""):
    progress()
    print(text, flush=True)


def cpu_model():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as cpuinfo:
        match = re.search(r"^model name\s*:\s*(.*)$", cpuinfo.read(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def machine():
    return f"{cpu_model()}, {os.cpu_count()} cores, Linux {platform.release()}, {datetime.datetime.now():%Y-%m-%d %H:%M}"


def quartiles(values):
    """The lower one, the median, the upper one; of a single value three times that, of none None."""
    if len(values) < 2:
        return (values[0],) * 3 if values else None
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def spread(values, decimals=3):
    """Median and quartiles."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.{decimals}f}"
    low, middle, high = quartiles(values)
    return f"{middle:.{decimals}f} ({low:.{decimals}f}-{high:.{decimals}f})"


# --- options ---


def count_argument(text):
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"wants a whole number from 1, not '{text}'")
    return int(text)


def run_script(name, run):
    """Runs the script to its end, whatever end that is; the exit code."""
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGTERM, on_terminate)
    try:
        run()
    except Failed as failed:
        progress()
        print(f"{name}: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress()
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    finally:
        for process in list(running):
            stop(process)
    return 0
