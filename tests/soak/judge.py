# SPDX-License-Identifier: MIT
"""judge: reads what a soak has written down, and says what was wrong.

Files, each line one object of JSON, t in seconds of the monotonic clock: events (tools/soak: lives, restarts, chaos, calms), samples (the service's
process as the kernel sees it), service and good (what they say of themselves)."""

import collections
import json
import os
import signal
import statistics

MIB = 1 << 20
AWAY_BEFORE, AWAY_AFTER = 0.2, 1.5  # what may belong to a restart, seconds
STUCK_MS = 10000
SLOPE_SECONDS = 300  # in shorter runs the shards' pools are still filling up
GROWTH = {"rss": (8 * MIB, 0.15), "memory_live": (4 * MIB, 0.08)}  # (bytes, share of the mean): less is not called a leak
SIGMAS = 4
DESCRIPTORS_SPARE = 2


def read(directory, name):
    with open(os.path.join(directory, name + ".jsonl"), encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                pass  # the last line of who was killed


def fit(points):
    """Least squares of (t, value): (slope, its standard error), or None."""
    if len(points) < 3:
        return None
    middle_t, middle_v = statistics.fmean(t for t, _ in points), statistics.fmean(v for _, v in points)
    spread = sum((t - middle_t) ** 2 for t, _ in points)
    if spread == 0:
        return None
    slope = sum((t - middle_t) * (v - middle_v) for t, v in points) / spread
    rest = sum((v - middle_v - slope * (t - middle_t)) ** 2 for t, v in points)
    return slope, (rest / (len(points) - 2) / spread) ** 0.5


class Record:
    """All that was written down, put in order."""

    def __init__(self, directory):
        with open(os.path.join(directory, "settings.json"), encoding="utf-8") as file:
            self.settings = json.load(file)
        self.events = list(read(directory, "events"))
        self.samples = list(read(directory, "samples"))
        self.intervals, self.ended, self.good_faults = [], [], []
        for line in read(directory, "good"):
            {"interval": self.intervals, "ended": self.ended, "fault": self.good_faults}.get(line["kind"], []).append(line)
        self.closed, self.stats, self.service_faults, self.logs, self.lives = {}, [], [], [], []
        for line in read(directory, "service"):
            if line["kind"] == "closed":
                self.closed[line["stream"]] = line
            elif line["kind"] == "listening":
                self.lives.append({"begun": line, "last": None})
            elif line["kind"] in ("stats", "end"):
                self.stats.append(line)
                self.lives[-1]["last"] = line
            elif line["kind"] == "fault":
                self.service_faults.append(line)
            elif line["kind"] == "log":
                self.logs.append(line)
        self.away = self.spans("away", "back")
        self.calms = self.spans("calm", "calm-end")
        self.begin = self.events[0]["t"]

    def spans(self, first, last):
        """(begin, end, event) from each event `first` to the next `last`, or for ever."""
        found = []
        for event in self.events:
            if event["event"] == first:
                found.append([event["t"], float("inf"), event])
            elif event["event"] == last and found:
                found[-1][1] = event["t"]
        return found

    def away_at(self, t, after=AWAY_AFTER):
        """How the service was away at this time ("stop", "kill"), or None."""
        for begin, end, event in self.away:
            if begin - AWAY_BEFORE <= t <= end + after:
                return event["how"]
        return None

    def calm_at(self, t):
        """The number of the calm at this time, or None. What was measured at its very beginning may be older than it is."""
        for number, (begin, end, _) in enumerate(self.calms):
            if begin + 0.1 <= t <= end:
                return number
        return None

    def summed(self, name):
        return sum(life["last"].get(name, 0) for life in self.lives if life["last"])


# --- the parts; each answers (lines for people, faults) ---


def judge_service(record):
    faults = [f"service: {line['text']}" for line in record.service_faults]
    faults += [f"service: {line['text']}" for line in record.logs if line["level"] == "error" and record.away_at(line["t"]) != "kill"]
    stops = [event for event in record.events if event["event"] == "gone" and event["how"] == "stop"]
    for event in record.events:
        if event["event"] == "gone" and event["code"] != (0 if event["how"] == "stop" else -9):
            faults.append(f"service: ended with {event['code']} after a {event['how']}")
    for life in record.lives:
        last, begun = life["last"], life["begun"]
        if not last:
            continue
        if last["late_finds"]:
            faults.append(f"service: {last['late_finds']} late finds: work that nobody had rung for")
        if last["memory_peak_bytes"] > begun["shards"] * begun["memory_budget"]:
            faults.append(f"service: {last['memory_peak_bytes']:,} bytes of a budget of {begun['shards'] * begun['memory_budget']:,}")
        if last["memory_peak"] > begun["memory_bound"]:
            faults.append(f"service: {last['memory_peak']:,} bytes were allocated; its bound is {begun['memory_bound']:,}")
    kills = sum(1 for event in record.events if event["event"] == "gone" and event["how"] == "kill")
    reasons = collections.Counter()
    for life in record.lives:
        reasons.update((life["last"] or {}).get("closed", {}))
    slowest = max((event["seconds"] for event in stops), default=0)
    lines = [f"service      {len(record.lives)} lives; {len(stops)} stopped (the slowest in {slowest:.1f} s), {kills} killed; "
             f"{record.summed('accepted'):,} connections accepted, {record.summed('messages_in'):,} messages in",
             "  ended by   " + ", ".join(f"{name} {count:,}" for name, count in reasons.most_common()),
             "  and        " + ", ".join(f"{name.replace('_', ' ')} {record.summed(name):,}" for name in
                                         ("refusals", "laters", "group_refusals", "starvations", "completion_overflows", "accept_pauses",
                                          "turned_away", "long_turns", "late_finds"))]
    return lines, faults


def judge_chaos(record):
    done = collections.Counter()
    faults = []
    for event in record.events:
        if event["event"] != "chaos-end":
            continue
        done[event["kind"]] += event["done"]
        if event["code"] not in (0, -signal.SIGTERM):
            faults.append(f"chaos: {event['kind']} ended with {event['code']}; what it said is in chaos.log")
        faults += [f"chaos: {event['kind']}: {text}" for t, text in event["faults"] if not record.away_at(t, 12)]
    faults += [f"chaos: {kind} never came to anything" for kind in record.settings["kinds"] if not done[kind]]
    return ["chaos        " + ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in done.items())], faults


def was_not_let_in(record, end):
    """In a storm the service may have no place: the connection is closed before it has been served."""
    return end["cause"] != "finished" and end["received"] == 0 and end["stream"] not in record.closed and not record.away_at(end["t"])


def fault_of_end(record, end):
    """What is wrong with how a good client's connection ended, or None."""
    away, closed = record.away_at(end["t"]), record.closed.get(end["stream"])
    who = f"{end['what']} client, stream {end['stream']} at {end['t'] - record.begin:.1f} s"
    tells = f"{end['sent']} sent, {end['received']} received, {end['cause']} {end['error']}"
    if away == "kill" or was_not_let_in(record, end):
        return None
    if end["cause"] != "finished" and not away:
        return f"{who}: was thrown out: {tells}, {closed}"
    if end["torn"] and not (away and end["what"] == "pipe"):
        return f"{who}: its last message was torn: {tells}"
    if end["cause"] == "finished" and not away and end["what"] in ("echo", "pipe") and end["sent"] != end["received"]:
        return f"{who}: lost messages: {tells}, {closed}"
    if not closed:
        return None if away and end["received"] == 0 else f"{who}: the service knows nothing of it: {tells}"
    if end["what"] != "pipe" and (end["received"] != closed["out"] or closed["undelivered"]):
        return f"{who}: {tells}, and the service says {closed['out']} out, {closed['undelivered']} not, {closed['reason']}"
    if end["what"] == "echo" and closed["taken"] != closed["out"] + closed["undelivered"]:
        return f"{who}: {closed['taken']} messages taken, {closed['out']} answers out, {closed['undelivered']} not"
    return None


def judge_good(record):
    faults = [f"good: {line['text']}" for line in record.good_faults]
    faults += [f"good: {fault}" for fault in (fault_of_end(record, end) for end in record.ended) if fault]
    sums = {name: sum(interval[name] for interval in record.intervals) for name in ("sent", "answered", "heard", "missed")}
    if sums["missed"] > record.summed("group_refusals"):
        faults.append(f"good: members of the room missed {sums['missed']} messages, the service knows of {record.summed('group_refusals')}")
    shut_out = sum(1 for end in record.ended if was_not_let_in(record, end))
    refused = record.summed("turned_away") + sum((life["last"] or {}).get("closed", {}).get("refused", 0) for life in record.lives)
    if shut_out > refused:
        faults.append(f"good: {shut_out} clients were not let in; the service knows of {refused} that it turned away or refused")
    for interval in record.intervals:
        if interval["oldest_ms"] > STUCK_MS and not record.away_at(interval["t"]):
            faults.append(f"good: at {interval['t'] - record.begin:.0f} s an answer has been missing for {interval['oldest_ms'] / 1000:.0f} s")
            break
    for event in record.events:
        if event["event"] == "over" and event.get("good", 0) not in (0, 2):  # 2: it has said why
            faults.append(f"good: the good clients' program ended with {event['good']}; what it said is in good.log")
    if not sums["answered"] or not sums["heard"]:
        faults.append("good: the good clients have not been served at all")
    speaking = [end for end in record.ended if end["what"] in ("echo", "pipe")]
    lost = {how: sum(end["sent"] - end["received"] for end in speaking if record.away_at(end["t"]) == how) for how in ("stop", "kill")}
    lines = [f"good         {sums['answered']:,} answers and {sums['heard']:,} messages by room and feed, all looked at; "
             f"{len(record.ended):,} ends of connections",
             f"  unanswered {lost['stop']:,} that had not been taken at a stop, {lost['kill']:,} at a kill; {sums['missed']:,} missed in the room; "
             f"{shut_out:,} clients not let in"]
    return lines, faults


def judge_latency(record):
    lines, faults = [], []
    counted = [interval for interval in record.intervals if not record.away_at(interval["t"], AWAY_AFTER + record.settings["interval"])]
    for what in ("echo", "pipe"):
        for name, chosen in (("calm", True), ("chaos", False)):
            rows = [i[what] for i in counted if (record.calm_at(i["t"]) is not None) == chosen and i[what]["count"]]
            if not rows:
                continue
            middle = {field: statistics.median(row[field] for row in rows) for field in ("p50_us", "p99_us", "p999_us")}
            lines.append(f"{'latency' if not lines else '':<12} {what}, {name}: p50 {middle['p50_us'] / 1e3:.2f}, p99 {middle['p99_us'] / 1e3:.2f}, "
                         f"p99.9 {middle['p999_us'] / 1e3:.2f} ms (medians of {len(rows)} intervals); worst "
                         f"p99.9 {max(row['p999_us'] for row in rows) / 1e3:.1f} ms")
            if middle["p999_us"] / 1e3 > record.settings["p999_ms"]:
                faults.append(f"latency: {what}, {name}: the median p99.9 is {middle['p999_us'] / 1e3:.1f} ms; {record.settings['p999_ms']} are allowed")
    return lines, faults


def growth_of(record, name, rows):
    """(line, fault or None) for one curve: its calms behind the second round of chaos, in the life that is not restarted."""
    points = [(row["t"], row[name]) for row in rows if (record.calm_at(row["t"]) or 0) >= 2]
    calms = {record.calm_at(t) for t, _ in points}
    label = {"rss": "RSS", "memory_live": "allocated"}[name]
    if not points:
        return f"{label}: not judged, there was no calm behind a second round of chaos", None
    mean = statistics.fmean(value for _, value in points)
    line = f"{label} {mean / MIB:.2f} MiB"
    if len(calms) < 2 or record.settings["seconds"] < SLOPE_SECONDS or not fit(points):
        return line + " (too short a run to judge its slope)", None
    slope, error = fit(points)
    span = points[-1][0] - points[0][0]
    line += f", {slope * 3600 / MIB:+.2f} +- {error * 3600 / MIB:.2f} MiB/h ({slope * span / MIB:+.3f} MiB in the {span:.0f} s looked at)"
    # What fills up for a while and then stays is no leak: the later half has to grow as well.
    later = fit([point for point in points if point[0] >= points[0][0] + span / 2]) or (0, 0)
    limit = max(GROWTH[name][0], GROWTH[name][1] * mean)
    if slope * span > limit and slope > SIGMAS * error and later[0] * span > limit:
        return line, f"memory: {line}: it grows"
    return line, None


def judge_process(record):
    """Memory, descriptors, threads."""
    lines, faults = [], []
    for name, rows in (("rss", record.samples), ("memory_live", record.stats)):
        line, fault = growth_of(record, name, rows)
        lines.append(f"{'memory' if not lines else '':<12} {line}")
        faults += [fault] if fault else []
    floors, threads = {}, {}
    for row in record.samples:
        number = record.calm_at(row["t"])
        if number is not None:
            floors[number] = min(floors.get(number, row["descriptors"]), row["descriptors"])
            threads[number] = max(threads.get(number, 0), row["threads"])
    if len(floors) < 2:
        return lines, faults + ["descriptors: there were no two calms to compare; a longer run is needed"]
    first, last = min(floors), max(floors)
    most = max(row["descriptors"] for row in record.samples)
    lines.append(f"descriptors  {floors[first]} before the chaos, {floors[last]} after; at most {most:,}; threads {threads[first]} and {threads[last]}")
    if floors[last] > floors[first] + DESCRIPTORS_SPARE:
        faults.append(f"descriptors: {floors[first]} before the chaos, {floors[last]} after it")
    if threads[last] != threads[first]:
        faults.append(f"threads: {threads[first]} before the chaos, {threads[last]} after it")
    return lines, faults


def judge(directory):
    """(lines for people, faults)."""
    record = Record(directory)
    lines, faults = [], []
    for part in (judge_service, judge_chaos, judge_good, judge_latency, judge_process):
        more_lines, more_faults = part(record)
        lines += more_lines
        faults += more_faults
    return lines, faults
