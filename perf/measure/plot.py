# SPDX-License-Identifier: MIT
"""plot: SVG pictures by gnuplot, from medians. Without gnuplot there are none."""

import functools
import os
import subprocess

HEAD = """set terminal svg size 820,460 font 'sans,12' background '#ffffff' dynamic
set output '{path}'
set title '{title}'
set xlabel '{x}'
set ylabel '{y}'
set key outside right top
set grid ytics lc rgb '#dddddd'
set border 3
set tics nomirror
"""
WEIR_COLOR = "#c0392b"
COLORS = ["#2c5f8a", "#e08e0b", "#3a8f5c", "#7d5ba6", "#8c6d46", "#5b8c9d", "#b0578d", "#7a7a7a", "#a3a319", "#4466cc", "#222222", "#d0a0a0"]


def escape(text):
    return text.replace("'", "''").replace("_", "\\\\_")


@functools.cache
def have_gnuplot():
    try:
        return subprocess.run(["gnuplot", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def draw(script, name):
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"gnuplot, for {name}: {done.stderr.strip()[-500:]}")


def style(side, index):
    return (WEIR_COLOR, 3) if side.startswith("weir") else (COLORS[index % len(COLORS)], 1.5)


def lines(directory, name, title, x, y, series, log="xy"):
    """series: {side: [(x, y)]}."""
    series = {side: points for side, points in series.items() if points}
    if not series or not have_gnuplot():
        return None
    path = os.path.join(directory, f"{name}.svg")
    parts, data = [], []
    for index, (side, points) in enumerate(series.items()):
        color, width = style(side, index)
        dashes = " dt 2" if side.startswith("weir-") else ""
        parts.append(f"'-' with linespoints lc rgb '{color}' lw {width}{dashes} pt {4 + index % 10} ps 0.6 title '{escape(side)}'")
        data.append("\n".join(f"{a} {b}" for a, b in points) + "\ne")
    script = HEAD.format(path=path, title=escape(title), x=escape(x), y=escape(y)) + (f"set logscale {log}\n" if log else "")
    draw(script + "plot " + ", \\\n ".join(parts) + "\n" + "\n".join(data) + "\n", name)
    return path


def bars(directory, name, title, y, groups, log=False):
    """groups: {case: {side: value}}."""
    sides = list(dict.fromkeys(side for values in groups.values() for side in values))
    if not sides or not have_gnuplot():
        return None
    path = os.path.join(directory, f"{name}.svg")
    rows = ["case " + " ".join(f'"{escape(side)}"' for side in sides)]
    rows += [f'"{escape(case)}" ' + " ".join(f"{values[side]:g}" if values.get(side) else "?" for side in sides) for case, values in groups.items()]
    parts = []
    for index, side in enumerate(sides):
        color = WEIR_COLOR if side == "weir" else "#e39a90" if side.startswith("weir") else COLORS[index % len(COLORS)]
        source = "$data using 2:xtic(1)" if index == 0 else f"$data using {index + 2}"
        parts.append(f"{source} lc rgb '{color}' title '{escape(side)}'")
    script = HEAD.format(path=path, title=escape(title), x="", y=escape(y)) + ("set logscale y\n" if log else "set yrange [0:*]\n")
    script += "set style data histogram\nset style histogram cluster gap 1\nset style fill solid 0.9\nset datafile missing '?'\n"
    draw(script + "$data << EOD\n" + "\n".join(rows) + "\nEOD\nplot " + ", \\\n ".join(parts) + "\n", name)
    return path
