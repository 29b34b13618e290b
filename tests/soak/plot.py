# SPDX-License-Identifier: MIT
"""plot: draws what a soak has written down: memory, descriptors and connections, latencies, the chaos. With gnuplot, if it is there."""

import os
import shutil
import subprocess

import judge

MIB = 1 << 20
SIZES = {"svg": "svg size 1400,1500 dynamic background rgb 'white' font 'sans,13'", "png": "png size 1400,1500 font 'sans,11'"}

SCRIPT = """\
set terminal {terminal}
set output '{output}'
set multiplot
set lmargin 13
set rmargin 4
set xrange [0:{seconds}]
set grid ytics lc rgb '#dddddd'
set key top left horizontal samplen 1
set offsets graph 0, graph 0, graph 0.15, graph 0
set format x ''
{spans}
set size 1,0.27
set origin 0,0.73
set title '{title}'
set ylabel 'MiB'
set yrange [0:*]
plot 'samples.dat' using 1:2 with lines lw 1.5 lc rgb '#1f4e9c' title 'resident', \\
     'stats.dat' using 1:2 with lines lc rgb '#3d9970' title 'allocated', \\
     'stats.dat' using 1:3 with lines lc rgb '#c0392b' title "of the shards' budgets"
unset title
set size 1,0.22
set origin 0,0.51
set ylabel 'number'
plot 'samples.dat' using 1:3 with lines lw 1.5 lc rgb '#1f4e9c' title 'descriptors', \\
     'stats.dat' using 1:4 with lines lc rgb '#e67e22' title 'connections'
set origin 0,0.29
set ylabel 'ms from its time on'
unset offsets
set logscale y
set yrange [0.03:*]
plot 'good.dat' using 1:4 with lines lw 1.5 lc rgb '#c0392b' title 'echo p99.9', \\
     'good.dat' using 1:3 with lines lc rgb '#e67e22' title 'p99', \\
     'good.dat' using 1:2 with lines lc rgb '#3d9970' title 'p50', \\
     'good.dat' using 1:5 with lines lc rgb '#8e6bb5' title 'pipe p99.9'
unset logscale y
set size 1,0.28
set origin 0,0.01
set format x '%g'
set xlabel 's'
set ylabel ''
set yrange [{kinds}.6:-0.6]
set ytics ({tics})
set grid xtics lc rgb '#dddddd'
plot 'chaos.dat' using 1:2:3:(0):4 with vectors nohead lw 9 lc rgb variable notitle
unset multiplot
"""
COLOURS = ["#1f4e9c", "#c0392b", "#3d9970", "#e67e22", "#8e6bb5", "#7f6a4f", "#16a0b0", "#b5489a", "#6b7a1e", "#4a4a4a", "#d4a017"]


def write(directory, name, rows):
    with open(os.path.join(directory, name + ".dat"), "w", encoding="ascii") as file:
        for row in rows:
            file.write((" ".join(str(value) for value in row) if row else "") + "\n")


def with_gaps(record, rows):
    """Rows (t ...) as seconds from the begin, and an empty one where the service was away, which breaks the line."""
    last = None
    for row in rows:
        if last is not None and any(last < end and begin < row[0] for begin, end, _ in record.away):
            yield ()
        last = row[0]
        yield (round(row[0] - record.begin, 3), *row[1:])


def write_curves(record, directory):
    write(directory, "samples", with_gaps(record, ((row["t"], row["rss"] / MIB, row["descriptors"]) for row in record.samples)))
    write(directory, "stats", with_gaps(record, ((row["t"], row["memory_live"] / MIB, row["memory_bytes"] / MIB, row["connections"])
                                                 for row in record.stats if row["kind"] == "stats")))
    rows = ((row["t"], *(row["echo"][name] / 1e3 for name in ("p50_us", "p99_us", "p999_us")), row["pipe"]["p999_us"] / 1e3)
            for row in record.intervals if row["echo"]["count"])
    write(directory, "good", with_gaps(record, rows))


def write_chaos(record, directory):
    kinds = record.settings["kinds"]
    begun = {event["number"]: event for event in record.events if event["event"] == "chaos"}
    rows = []
    for event in record.events:
        if event["event"] == "chaos-end":
            first, row = begun[event["number"]]["t"], kinds.index(event["kind"])
            rows.append((round(first - record.begin, 3), row, round(event["t"] - first, 3), int(COLOURS[row % len(COLOURS)][1:], 16)))
    write(directory, "chaos", rows)


def spans_of(record, seconds):
    """The calms as a light background, the times without a service as red lines."""
    lines = []
    for begin, end, _ in record.calms:
        first, last = (min(max(t - record.begin, 0), seconds) for t in (begin, end))
        lines.append(f"set object rectangle from {first:.2f}, graph 0 to {last:.2f}, graph 1 behind fc rgb '#e8f3e8' fs solid noborder")
    for begin, _, event in record.away:
        colour, dash = ("#c0392b", 1) if event["how"] == "kill" else ("#888888", 2)
        at = f"{begin - record.begin:.2f}"
        lines.append(f"set arrow from {at}, graph 0 to {at}, graph 1 nohead lc rgb '{colour}' dt {dash} lw 1.2")
    return "\n".join(lines)


def plot(directory):
    """The files that were drawn, or why not."""
    record = judge.Record(directory)
    write_curves(record, directory)
    write_chaos(record, directory)
    if not shutil.which("gnuplot"):
        return "no plots: there is no gnuplot (Debian: apt-get install gnuplot-nox)"
    seconds = round(record.events[-1]["t"] - record.begin, 1)
    kinds = record.settings["kinds"]
    tics = ", ".join(f"'{kind.replace('_', ' ')}' {row}" for row, kind in enumerate(kinds))
    title = f"soak, {record.settings['seconds']:g} s: calm is green; grey: stopped and started again, red: killed"
    for suffix, terminal in SIZES.items():
        script = os.path.join(directory, f"soak.{suffix}.gp")
        with open(script, "w", encoding="utf-8") as file:
            file.write(SCRIPT.format(terminal=terminal, output=f"soak.{suffix}", seconds=seconds, title=title, kinds=len(kinds) - 1, tics=tics,
                                     spans=spans_of(record, seconds)))
        result = subprocess.run(["gnuplot", os.path.basename(script)], cwd=directory, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            return f"no plots: gnuplot says {result.stderr.strip()[-500:]}"
    return f"plots        {os.path.join(directory, 'soak.svg')} and soak.png"
