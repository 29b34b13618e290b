# SPDX-License-Identifier: MIT
"""chaos: one kind of bad client, for some seconds. Started by tools/soak, one process for each phase:

    chaos.py KIND --seconds S --seed N ADDRESS...

An ADDRESS is WHAT=ADDRESS (echo=tcp://127.0.0.1:7000); each connection goes to one of them by chance. At its end it prints a line of JSON: how often
it did its worst, and what it has seen that must not be. That the service is away for a moment is no fault: then it tries again."""

import argparse
import ctypes
import errno
import json
import os
import random
import resource
import select
import signal
import socket
import struct
import sys
import time

LARGE_BYTES = 256 * 1024
MESSAGE_MAX_BYTES = 1 << 20  # the service's
CONNECT_SECONDS = 5
PR_SET_PDEATHSIG = 1


def frame(payload):
    return struct.pack("<I", len(payload)) + payload


class Enough(Exception):
    """SIGTERM: the rest of the time is not wanted."""


def enough(_signal, _frame):
    raise Enough


class Bad:
    """What every kind needs: when to stop, chance, connections."""

    def __init__(self, options):
        self.until = time.monotonic() + options.seconds
        self.seconds = options.seconds
        self.addresses = [address.split("=", 1) for address in options.addresses]
        self.chance = random.Random(options.seed)
        self.done = 0
        self.faults = []

    def left(self):
        return self.until - time.monotonic()

    def sleep(self, seconds):
        time.sleep(max(0, min(seconds, self.left())))

    def connect(self, what=None, wait=True):
        """A connection to an address of this kind, or None: nobody there, no room, no port."""
        kind, address = self.chance.choice([a for a in self.addresses if what in (None, a[0])])
        scheme, where = address.split("://", 1)
        try:
            if scheme == "unix":
                connection, target = socket.socket(socket.AF_UNIX), "\0" + where[1:] if where.startswith("@") else where
            else:
                host, port = where.rsplit(":", 1)
                connection, target = socket.socket(socket.AF_INET), (host, int(port))
            connection.settimeout(CONNECT_SECONDS if wait or scheme == "unix" else 0)
            error = connection.connect_ex(target)
        except OSError as failed:
            error = failed.errno
        if error in (0, errno.EINPROGRESS):
            return connection
        if error not in (errno.EMFILE, errno.ENFILE):
            connection.close()
        self.sleep(0.02)
        return None

    def many(self, count, what=None):
        found = [self.connect(what) for _ in range(count)]
        return [connection for connection in found if connection]

    def payload(self, most=LARGE_BYTES):
        return self.chance.randbytes(int(most ** self.chance.random()))

    def talk(self, connection, most=LARGE_BYTES):
        """A whole frame and a part of one."""
        whole = frame(self.payload(most))
        cut = frame(self.payload(most) + b"x")
        return send(connection, whole + cut[:self.chance.randrange(1, len(cut))])


def send(connection, data):
    """As much as goes within a second; how much that was."""
    connection.settimeout(1)
    sent = 0
    try:
        while sent < len(data):
            sent += connection.send(data[sent:sent + 65536])
    except OSError:
        pass
    return sent


def reset(connection):
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    connection.close()


def flood(connections, data):
    """Sends over and over to all of them what they take, without reading; a generator of how many still live."""
    offsets = {connection.fileno(): [connection, 0] for connection in connections}
    poll = select.poll()
    for descriptor, (connection, _) in offsets.items():
        connection.setblocking(False)
        poll.register(descriptor, select.POLLOUT)
    while True:
        for descriptor, _ in poll.poll(100):
            connection, at = offsets[descriptor]
            try:
                offsets[descriptor][1] = (at + connection.send(data[at:at + 65536])) % len(data)
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(descriptor)
                del offsets[descriptor]
        yield len(offsets)


def child_of(work):
    """A process that does this work until it is killed, at the latest with its parent."""
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        work()
        while True:
            signal.pause()
    return child


# --- the kinds ---


def resets(bad):
    """A reset inside a frame."""
    while bad.left() > 0:
        connection = bad.connect()
        if connection:
            bad.talk(connection)
            reset(connection)
            bad.done += 1


def killed(bad):
    """A process that is killed in the midst of a frame, with a few connections."""
    def work():
        for connection in [bad.connect() for _ in range(8)]:
            if connection:
                connections.append(connection)
                bad.talk(connection)

    connections = []
    while bad.left() > 0:
        child = child_of(work)
        bad.sleep(0.02 + bad.chance.random() / 10)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        bad.done += 1


def stopped(bad):
    """A process that talks, is stopped for most of the time, and goes on as if nothing had been."""
    def work():
        for _ in flood(bad.many(24), frame(bytes(20000))):
            time.sleep(0.001)

    child = child_of(work)
    some = min(2, bad.seconds / 10)
    bad.sleep(some)
    os.kill(child, signal.SIGSTOP)
    bad.done += 1
    bad.sleep(bad.left() - some)
    os.kill(child, signal.SIGCONT)
    bad.sleep(bad.left())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def deaf(bad):
    """Never reads: asks for all it can have."""
    while bad.left() > 0:
        connections = bad.many(32)
        until = time.monotonic() + min(bad.seconds / 2, bad.left())
        for living in flood(connections, frame(bytes(1000))):
            bad.sleep(0.005)
            if living == 0 or time.monotonic() > until:
                break
        bad.done += len(connections)
        for connection in connections:
            bad.chance.choice([reset, socket.socket.close])(connection)


def hoard(bad):
    """Goes for the memory: the largest messages, begun and not ended, or asked for and not read."""
    while bad.left() > 0:
        connections = bad.many(24, "echo")
        begun = struct.pack("<I", MESSAGE_MAX_BYTES) + bytes(MESSAGE_MAX_BYTES - 1)
        for connection in connections[::2]:
            send(connection, begun)
            bad.done += 1
        asked = frame(bytes(MESSAGE_MAX_BYTES))
        until = time.monotonic() + min(1, bad.left())
        for living in flood(connections[1::2], asked):
            bad.sleep(0.01)
            if living == 0 or time.monotonic() > until:
                break
        bad.sleep(0.5)
        for connection in connections:
            reset(connection)


def storm(bad):
    """Connects and closes, thousands of times."""
    while bad.left() > 0:
        held = []
        for _ in range(bad.chance.randrange(50, 500)):
            connection = bad.connect(wait=bad.chance.random() < 0.5)
            if connection is None:
                continue
            bad.done += 1
            if bad.chance.random() < 0.2:
                try:
                    connection.send(frame(b"hello"))
                except OSError:
                    pass
            how = bad.chance.randrange(3)
            if how == 0:
                connection.close()
            elif how == 1:
                reset(connection)
            else:
                held.append(connection)
        for connection in held:
            connection.close()


def dribble(bad):
    """A byte at a time; each second one, or ten times as fast in short runs."""
    connections = [[connection, frame(bytes(bad.chance.randrange(1, 40))), 0] for connection in bad.many(100)]
    while bad.left() > 0 and connections:
        for entry in list(connections):
            connection, data, at = entry
            try:
                connection.send(data[at % len(data):][:1])
                entry[2] += 1
                bad.done += 1
            except OSError:
                connection.close()
                connections.remove(entry)
        bad.sleep(1 if bad.seconds > 5 else 0.1)


def half_closes(bad):
    """Half-closes: behind whole messages it wants all answers, and then the end; inside of one, the end."""
    while bad.left() > 0:
        connection = bad.connect("echo")
        if not connection:
            continue
        sent = b"".join(frame(bad.payload(8192)) for _ in range(bad.chance.randrange(1, 6)))
        tail = frame(b"half of this")[:9] if bad.chance.random() < 0.5 else b""
        answer = b""
        try:
            connection.settimeout(10)
            connection.sendall(sent + tail)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
            if answer != sent:
                bad.faults.append([time.monotonic(), f"half-closed behind {len(sent)} bytes, {len(answer)} came back"])
        except OSError as error:
            bad.faults.append([time.monotonic(), f"half-closed behind {len(sent)} bytes: {error}"])
        if not sent.startswith(answer):
            bad.faults.append([0, "an answer is not what was sent"])
        connection.close()
        bad.done += 1


def garbage(bad):
    """Random bytes."""
    while bad.left() > 0:
        connection = bad.connect()
        if connection:
            send(connection, bad.chance.randbytes(bad.chance.randrange(1, 4096)))
            connection.settimeout(0.05)
            try:
                connection.recv(65536)
            except OSError:
                pass
            connection.close()
            bad.done += 1


def oversized(bad):
    """Announces more than is allowed: the service has to end it."""
    while bad.left() > 0:
        connection = bad.connect("echo")
        if not connection:
            continue
        send(connection, struct.pack("<I", bad.chance.randrange(MESSAGE_MAX_BYTES + 1, 1 << 32)) + b"and so on")
        connection.settimeout(10)
        try:
            if connection.recv(65536):
                bad.faults.append([0, "a message over the limit was answered"])
        except TimeoutError:
            bad.faults.append([time.monotonic(), "a connection that announced too much was not ended"])
        except OSError:
            pass
        connection.close()
        bad.done += 1


def idle(bad):
    """Many connections that say nothing, or one thing."""
    connections = bad.many(1000)
    for connection in connections[::2]:
        send(connection, frame(b"and then silence"))
    bad.done = len(connections)
    bad.sleep(bad.left())


KINDS = [resets, killed, stopped, deaf, hoard, storm, dribble, half_closes, garbage, oversized, idle]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[kind.__name__ for kind in KINDS])
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("addresses", nargs="+")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    bad = Bad(options)
    signal.signal(signal.SIGTERM, enough)
    try:
        next(kind for kind in KINDS if kind.__name__ == options.kind)(bad)
    except Enough:
        pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(json.dumps({"kind": options.kind, "done": bad.done, "faults": bad.faults[:20]}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
