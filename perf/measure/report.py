# SPDX-License-Identifier: MIT
"""report: makes REPORT.md and its pictures from what was measured."""

import os

from measure import goals, peers, plot
from measure.tables import against, fields, figures, number, table

SPEED, CPU = "messages_per_second", "cpu_ns_per_message"


class Report:
    def __init__(self, results, directory, pictures):
        self.results = results
        self.directory = directory  # of the report
        self.pictures = pictures    # of the pictures, below it
        self.parts = []

    def add(self, *texts):
        self.parts += [text for text in texts if text]

    def picture(self, path, title):
        if path:
            self.add(f"![{title}]({os.path.relpath(path, self.directory)})")

    def cases(self, section, *wanted):
        """Those of `wanted` that were measured."""
        there = self.results.cases(section)
        return [case for case in wanted if case in there]

    def medians(self, section, cases, key, leave=()):
        return {
            case: {
                side: value
                for side in self.results.sides(section, [case])
                if side not in leave and (value := self.results.median(section, case, side, key)) is not None
            }
            for case in cases
        }

    def series(self, section, cases, key, places, scale=1):
        """{side: [(place, median)]} for a picture with lines."""
        found = {}
        for case, place in zip(cases, places):
            for side, value in self.medians(section, [case], key)[case].items():
                found.setdefault(side, []).append((place, value / scale))
        return found


# --- the three ways ---

WAYS_INTRO = """P producers share one TCP connection to a sink, a process of its own. Way 1: everybody has a dup of the descriptor (`dup`; `dup-split`: one reads, one
writes). Way 2: a lock round the send (`mutex` in C; `tokio-mutex`; `go-conn`: Go's net.Conn has one inside). Way 3: one writer and a channel: `weir` (an own channel for each
producer), `weir-port`, `weir-shard` (from the connection's own shard), `tokio` (mpsc and a writer task), `go` (channel and bufio), `erlang` (an owning process), `ck` (a Concurrency Kit
ring for each producer), `mpsc` (one ring for all). `blast` is the limit: one thread that sends ready-made 64 KiB; `wake` has no connection and
only wakes a sleeping thread, `wake-alone` with one thread. `ck2` is a second run of `ck`: how far the two are apart is noise."""


def ways(report):
    results = report.results
    producers = [1, 2, 4, 16, 64]
    main = report.cases("ways", *(f"P={count}" for count in producers))
    if not results.cases("ways"):
        return
    report.add("## 1. The three ways of sharing a connection", WAYS_INTRO)
    known_table(report)
    if main:
        report.add("Million messages of 64 bytes a second that arrived, median (quartiles):", figures(results, "ways", main, SPEED, 1e6))
        report.add("The same as ratios:", against(results, "ways", main, SPEED))
        report.add("CPU a message, ns, of the sending process:", figures(results, "ways", main, CPU))
        places = [int(case[2:]) for case in main]
        path = plot.lines(report.pictures, "ways", "One connection, P producers, 64 B", "producers", "million messages/s",
                          report.series("ways", main, SPEED, places, 1e6))
        report.picture(path, "throughput by producers")
    more = report.cases("ways", "P=1 1 KiB", "P=16 1 KiB", "P=16 C=16", "P=64 C=16", "P=16 C=1000")
    if more:
        report.add("Larger messages, and spread over C connections, million messages/s:", figures(results, "ways", more, SPEED, 1e6))
    some = report.cases("ways", "16 a commit, P=16")
    if some:
        report.add("Sixteen messages a commit, million messages/s:", figures(results, "ways", some, SPEED, 1e6))
    some = report.cases("ways", "beside idle ones, P=16")
    if some:
        report.add("Beside 256 ports, or 10,000 own channels of the same connection, that are idle, million messages/s:", figures(results, "ways", some, SPEED, 1e6),
                   against(results, "ways", some, SPEED))
    latency(report)


def latency(report):
    results = report.results
    for case in results.cases("ways"):
        if case.startswith(("saturated", "paced")):
            rate = case.rpartition(" ")[2]
            title = "At full speed, one send in 64 timed, us:" if case.startswith("saturated") else f"{rate} in all, each at its time (who cannot is late), us:"
            report.add(title, fields(results, "ways", case, [
                ("send p50", "send_p50_us", 1, 2), ("send p99", "send_p99_us", 1, 2), ("worst send", "send_max_us", 1, 0),
                ("end to end p50", "sink.p50_us", 1, 1), ("end to end p99", "sink.p99_us", 1, 1), ("CPU ns a message", CPU, 1, 0), ("wakes a message", "wakes_per_message", 1, 2)]))
    if report.cases("ways", "stall P=16 C=16"):
        report.add("One peer of 16 stops reading for a second (1 KiB messages); what the *other* connections see meanwhile (100,000 messages/s in all; who can refuse, refuses):",
                   fields(results, "ways", "stall P=16 C=16", [
                       ("others, messages/s", "sink.stall.others_messages_per_second", 1, 0), ("others, p99 us", "sink.stall.others_p99_us", 1, 0),
                       ("others, worst us", "sink.stall.others_max_us", 1, 0), ("worst send call us", "send_max_us", 1, 0),
                       ("refused", "refusals", 1, 0)]))


def known_table(report):
    """The table that everybody knows, with measured figures in its cells."""
    results = report.results
    rows = []
    slow = report.cases("ways", "slow peer P=16")
    for way, side, words in (("1: clone the descriptor", "dup", "one reader and one writer"), ("2: a lock round the send", "mutex", "few senders, little traffic"),
                             ("2: the same, Tokio", "tokio-mutex", "the same"), ("3: reader, writer, channel", "weir", "many senders, any traffic"),
                             ("3: the same, Tokio", "tokio", "the same"), ("3: the same, Go", "go", "the same")):
        one, many = (results.median("ways", case, side, SPEED) for case in ("P=1", "P=16"))
        if many is None:
            continue
        torn = results.median("ways", "slow peer P=16", side, "sink.torn") if slow else None
        held = results.median("ways", "stall P=16 C=16", side, "sink.stall.others_max_us")
        rows.append([way, words, number(one, 1e6), number(many, 1e6), number(many / one if one else None), number(torn, 1, 0), number(held, 1e3, 1)])
    if rows:
        report.add(table(["way", "suitable for", "M messages/s, P = 1", "P = 16", "scales by", "frames torn (slow peer)", "a stalled peer holds others up, ms"],
                         rows))


# --- the others ---


def echo(report):
    results = report.results
    loads = report.cases("echo", *goals.LOADS)
    if not results.cases("echo"):
        return
    report.add("## 2. Echo", "A case is connections:depth:bytes. Servers have one thread on one core; the load has the other and never sleeps. `epoll2` is a second "
               "instance of `epoll`: how far the two are apart is noise. Thousand messages/s, median (quartiles):")
    if loads:
        report.add(figures(results, "echo", loads, SPEED, 1e3), "Ratios within rounds:", against(results, "echo", loads, SPEED),
                   "The server's CPU a message, ns:", figures(results, "echo", loads, "server_cpu_ns_per_message"),
                   "Latency, p50 us, of a server under full load:", figures(results, "echo", loads, "p50_us"))
        groups = report.medians("echo", loads, SPEED, leave=("epoll2", "weir-spin"))
        best = {case: max(values.values()) for case, values in groups.items() if values}
        shares = {case: {side: value / best[case] for side, value in values.items()} for case, values in groups.items() if values}
        report.picture(plot.bars(report.pictures, "echo", "Echo: messages/s, as a share of the first", "share", shares), "echo")
    for case in results.cases("echo"):
        if case not in loads:
            report.add(f"Open loop, {case}: us from when a message was due:", fields(results, "echo", case, [
                ("p50", "p50_us", 1, 1), ("p99", "p99_us", 1, 1), ("p99.9", "p999_us", 1, 1), ("CPU ns a message", "server_cpu_ns_per_message", 1, 0)]))


def fanout(report):
    results = report.results
    if not results.cases("fanout"):
        return
    report.add("## 3. Fan-out", "One publisher, N receivers in a process of their own. Million deliveries/s:")
    for size in (64, 1024):
        cases = report.cases("fanout", *(f"{members} x {size} B" for members in (10, 100, 1000, 10000)))
        if cases:
            report.add(figures(results, "fanout", cases, "deliveries_per_second", 1e6), against(results, "fanout", cases, "deliveries_per_second"),
                       "CPU a delivery, ns, of the publisher or the server:", figures(results, "fanout", cases, "cpu_ns_per_delivery"))
        if cases and size == 64:
            places = [int(case.split()[0]) for case in cases]
            path = plot.lines(report.pictures, "fanout", "One publisher, N receivers, 64 B", "receivers", "million deliveries/s",
                              report.series("fanout", cases, "deliveries_per_second", places, 1e6))
            report.picture(path, "deliveries by receivers")
    for case in results.cases("fanout"):
        if case.endswith(", one deaf") and "/s" not in case:
            report.add(f"{case}: `weir-slow` has one member more, that never reads; million deliveries/s to the others:",
                       figures(results, "fanout", [case], "deliveries_per_second", 1e6), against(results, "fanout", [case], "deliveries_per_second"))
        if "/s" in case:
            report.add(f"{case}, us:", fields(results, "fanout", case, [("p50", "p50_us", 1, 0), ("p90", "p90_us", 1, 0), ("p99", "p99_us", 1, 0)]))


def hop(report):
    results = report.results
    if not results.cases("hop"):
        return
    report.add("## 4. From one core to the other", "`weir`: a send on one shard to the handler on the other; `ring`: weir's ring between two threads, without the runtime.")
    for case, title in (("awake", "Both awake:"), ("asleep", "The other sleeps in the kernel each time:")):
        if report.cases("hop", case):
            report.add(title, fields(results, "hop", case, [
                ("p50 ns", "p50_ns", 1, 0), ("p90 ns", "p90_ns", 1, 0), ("p99 ns", "p99_ns", 1, 0), ("one way, M messages/s", SPEED, 1e6, 1)]))
    idle_hops(report)


def idle_hops(report):
    cases = report.cases("hop", "awake, idle ports", "asleep, idle ports")
    if cases:
        report.add("weir beside itself with 256 idle ports, p50 ns:", figures(report.results, "hop", cases, "p50_ns"),
                   against(report.results, "hop", cases, "p50_ns"))


def scale(report):
    results = report.results
    there = results.cases("scale")
    if not there:
        return
    report.add("## 5. Scale")
    lots = [case for case in there if case.endswith("connections")]
    if lots:
        places = [int(case.split()[0]) for case in lots]
        report.add("Echo, all connections busy (1 message of 64 B under way on each), thousand messages/s:", figures(results, "scale", lots, SPEED, 1e3),
                   "p99, us:", figures(results, "scale", lots, "p99_us"))
        report.picture(plot.lines(report.pictures, "connections", "Echo by connections", "connections", "messages/s",
                                  report.series("scale", lots, SPEED, places)), "throughput by connections")
    sizes = [case for case in there if case.endswith(" B")]
    if sizes:
        report.add("By size of the message (16 connections, 4 under way on each), MB/s of payload each way:", figures(results, "scale", sizes, "bytes_per_second", 1e6))
        report.picture(plot.lines(report.pictures, "sizes", "Echo by size", "bytes", "MB/s", report.series(
            "scale", sizes, "bytes_per_second", [int(case.split()[0]) for case in sizes], 1e6)), "bytes/s by size")
    if "shards" in there:
        report.add(f"By shards, 64:16:64, thousand messages/s. The load shares the {results.environment.get('cores', '?')} cores with them, so this shows no more "
                   "than that a second shard does no harm:", figures(results, "scale", ["shards"], SPEED, 1e3))
    if "accepts" in there:
        report.add("Connections opened, answered once and closed:", fields(results, "scale", "accepts", [
            ("per second", "connections_per_second", 1, 0), ("server CPU us each", "server_cpu_ns_per_connection", 1e3, 1), ("p99 us", "p99_us", 1, 0)]))
    idle_connections(report)
    if "10000, 1 % active" in there:
        report.add("10,000 connections, 1 % of them active:", fields(results, "scale", "10000, 1 % active", [
            ("p50 us", "p50_us", 1, 1), ("p99 us", "p99_us", 1, 1), ("CPU ns a message", "server_cpu_ns_per_message", 1, 0)]))


def idle_connections(report):
    results = report.results
    idle = [case for case in results.cases("scale") if case.endswith("idle")]
    if not idle:
        return
    report.add("Bytes for each idle connection, of the server's own memory:", figures(results, "scale", idle, "bytes_per_connection"))
    report.add("And of the kernel's, both ends together:", figures(results, "scale", idle, "kernel_bytes_per_connection"))
    mine, kernel = (results.median("scale", idle[-1], "weir", key) for key in ("bytes_per_connection", "kernel_bytes_per_connection"))
    if mine and kernel:
        report.add(f"Here the machine ends: {int(idle[-1].split()[0]):,} connections are what the limit of open files lets one process have. Extrapolated from the last column, and not "
                   f"measured: a million idle ones would take {mine / 1e3:.1f} GB of weir's memory and {kernel / 2e3:.1f} GB of the kernel's for weir's end.")


def web(report):
    results = report.results
    cases = results.cases("web")
    if cases:
        report.add("## WebSocket", "The echo by WebSocket, binary messages: weir-echo, libwebsockets (`lws`), Go with gorilla/websocket, npm's `ws`; `weir-frame` is weir-echo with four bytes of length "
                   "instead. Thousand messages/s:", figures(results, "web", cases, SPEED, 1e3), against(results, "web", cases, SPEED), "CPU of the server, ns a message:",
                   figures(results, "web", cases, "server_cpu_ns_per_message"))


def proxy(report):
    results = report.results
    cases = results.cases("proxy")
    if cases:
        report.add("## Proxies", "weir-proxy, HAProxy (TCP mode, one thread) and nginx (stream, one worker) between the same load and the same echo server; `none`: without "
                   "a proxy. Thousand messages/s:", figures(results, "proxy", cases, SPEED, 1e3), against(results, "proxy", cases, SPEED))


def limit(report):
    results = report.results
    if not results.cases("limit"):
        return
    report.add("## 6. The limit", "What this machine can do without anybody's runtime (`weir-perf limit`):")
    rounds = results.of("limit", "all")
    keys = [key for key, value in rounds[0]["limit"].items() if key != "seconds" and isinstance(value, (int, float))]
    report.add(table(["", "best", "median"], [
        [key.replace("_", " "), number(best_limit(results, key)), number(results.median("limit", "all", "limit", key))] for key in keys]))
    rows = shares_of_limit(results)
    if rows:
        report.add("weir as a share of its limit (1 is all that there is):", table(["", "weir", "limit", "share"], rows))


def best_limit(results, key):
    """A limit is the best that was ever seen of it."""
    values = [figures["limit"][key] for figures in results.of("limit", "all") if figures["limit"].get(key) is not None]
    return None if not values else min(values) if key.endswith(("_us", "_ns")) else max(values)


def shares_of_limit(results):
    """(what, section, case, weir's key, the limit's key, more is better, factor that brings the limit's into the unit of weir's)."""
    rows = []

    def row(what, mine, best, more):
        if mine and best:
            rows.append([what, number(mine), number(best), f"{mine / best if more else best / mine:.2f}"])

    for producers in (1, 2, 4, 16, 64):
        row(f"fan-in P = {producers}, messages/s, of a connection's 64 KiB writes", results.median("ways", f"P={producers}", "weir", SPEED),
            results.median("ways", f"P={producers}", "blast", SPEED), True)
    row("echo 1:1:64 spinning, us, of a bare ping-pong that spins", results.median("echo", "1:1:64", "weir-spin", "p50_us"), best_limit(results, "pingpong_spin_p50_us"), False)
    row("ring awake, ns, of a cache line's way", results.median("hop", "awake", "ring", "p50_ns"), best_limit(results, "line_ns"), False)
    row("hop awake, ns, of a cache line's way", results.median("hop", "awake", "weir", "p50_ns"), best_limit(results, "line_ns"), False)
    row("hop asleep, us, of an eventfd wake", (results.median("hop", "asleep", "weir", "p50_ns") or 0) / 1e3, best_limit(results, "wake_p50_us"), False)
    for load in goals.PROXIED:
        row(f"proxy {load}, messages/s, of none", results.median("proxy", load, "weir", SPEED), results.median("proxy", load, "none", SPEED), True)
    for members in (10, 100, 1000, 10000):
        row(f"fan-out to {members}, deliveries/s, of ready batches", results.median("fanout", f"{members} x 64 B", "weir", "deliveries_per_second"),
            results.median("fanout", f"{members} x 64 B", "blast", "deliveries_per_second"), True)
    return rows


# --- the whole ---


def heading(results, command):
    about = results.environment
    others = ", ".join(f"{name} {share:.2f}" for name, share in about.get("others", {}).items()) or "nothing"
    absent = ", ".join(f"{side} ({program})" for program, side in about.get("missing", {}).items())
    versions = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
    return [
        "# The measure", goals.losses(results),
        f"Made by `{command}` on {about.get('date', '?')}: {about.get('cpu', '?')}, {about.get('cores', '?')} cores"
        f"{' (virtual)' if about.get('virtual') else ''}, {about.get('memory_gib', '?')} GiB, Linux {about.get('kernel', '?')}. What else ran, in cores: {others}. "
        f"{results.total} rounds, {results.repeated} done again because somebody else was busy, {results.disturbed} kept though disturbed. {versions}.",
        f"**Not measured, because it is not there:** {absent}." if absent else "",
        "Figures are medians over rounds in which all sides ran one after the other, each round beginning with another; in brackets the quartiles. What one "
        "round gives here and another day gives elsewhere says nothing: only ratios do.",
        what_is_compared(results),
    ]


def what_is_compared(results):
    """Between which runs ratios are formed: results.py."""
    if not results.cores_move:
        return "Ratios are formed within each round."
    runs = sum(results.places.values())
    shares = {place: f"{count / runs:.0%}" for place, count in results.places.items()}
    return (
        f"**The cores of this machine move.** A cache line takes {results.nearest_ns:.0f} ns from one to the other at one moment and {results.far_ns:.0f} at another, "
        f"and with it goes every figure here. It was measured before and after each run: {shares['near']} of {runs:,} runs had the cores near all the time, {shares['far']} far, "
        f"and in {shares['moved']} they moved. A case's figures are those of its near runs where each side has at least three, and ratios are formed between runs of a kind only, "
        "of the same round or of one that is at most two away."
    )


def make(results, directory, command):
    pictures = os.path.join(directory, "report")
    os.makedirs(pictures, exist_ok=True)
    report = Report(results, directory, pictures)
    report.add(*heading(results, command))
    report.add("## What weir wants to reach, and what it reached", goals.goals_table(results))
    for section in (ways, echo, web, fanout, hop, scale, proxy, limit):
        section(report)
    report.add("## The others, and what was done for them", peers.INTRO, table(["", ""], [list(row) for row in peers.PEERS]))
    if results.failed:
        report.add("## Left out", "\n".join(f"- {line['section']} {line['case']}: {line['failed'].splitlines()[0][:300]}" for line in results.failed))
    path = os.path.join(directory, "REPORT.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n\n".join(report.parts) + "\n")
    return path
