# SPDX-License-Identifier: MIT
"""README's first C block is a whole program of at most 40 lines: it compiles without a warning, listens where its first
argument says, echoes a frame, and ends with 0 on SIGTERM. Arguments: the compiler, libweir.a."""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

import common

MAX_LINES = 40
PATIENCE_S = 20


def block():
    if not os.path.exists(os.path.join(common.ROOT, "README.md")):
        sys.exit("README.md: is missing")
    match = re.search(r"^```c\n(.*?)^```", common.read("README.md"), re.MULTILINE | re.DOTALL)
    if not match:
        sys.exit("README.md: has no ```c block; its example must stand in one")
    lines = match.group(1).count("\n")
    if lines > MAX_LINES:
        sys.exit(f"README.md: the example has {lines} lines; at most {MAX_LINES}")
    return match.group(1)


def compiled(directory, compiler, archive):
    source, program = os.path.join(directory, "example.c"), os.path.join(directory, "example")
    with open(source, "w", encoding="utf-8") as file:
        file.write(block())
    result = common.run([compiler, "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I", os.path.join(common.ROOT, "include"),
                         source, archive, "-luring", "-pthread", "-o", program])
    if result.returncode != 0:
        sys.exit("README.md: the example does not compile:\n" + "\n".join(result.stderr.splitlines()[:30]))
    return program


def exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise OSError(f"closed by the server after {len(data)} of {count} bytes")
        data += piece
    return data


def echo(port):
    for payload in (b"hello, weir", b"", b"x" * 100000):
        frame = struct.pack("<I", len(payload)) + payload
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
            connection.sendall(frame)
            if exactly(connection, len(frame)) != frame:
                raise OSError(f"a frame of {len(payload)} bytes came back changed")


def fault_of(process):
    """Talks to the running example; what is wrong with it, or None."""
    for line in process.stdout:
        match = re.search(r"listening on tcp://127\.0\.0\.1:(\d+)", line)
        if match:
            break
    else:
        return 'it ended, or closed its output, without a line "listening on tcp://127.0.0.1:PORT"'
    try:
        echo(int(match.group(1)))
    except OSError as error:
        return f"echo: {error}"
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return f"it still runs {PATIENCE_S} s after SIGTERM"
    return f"it ended with {code} on SIGTERM, not 0" if code != 0 else None


with tempfile.TemporaryDirectory() as directory:
    program = compiled(directory, sys.argv[1], sys.argv[2])
    with subprocess.Popen([program, "tcp://127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as process:
        guard = threading.Timer(4 * PATIENCE_S, process.kill)
        guard.start()
        try:
            fault = fault_of(process)
        finally:
            guard.cancel()
            process.kill()
common.finish("README's example", [f"README.md: {fault}"] if fault else [])
