# SPDX-License-Identifier: MIT
"""tables: Markdown tables from results. Rows are sides, columns are cases."""

from common import quartiles, spread

NONE = "-"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value, scale=1, decimals=None):
    """With three figures that count, unless the decimals are given."""
    if value is None:
        return NONE
    value /= scale
    if decimals is None:
        decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{decimals}f}"


def figures(results, section, cases, key, scale=1, decimals=None, head="", sides=None):
    """Medians, with quartiles where there are several rounds."""
    rows = []
    for side in sides or results.sides(section, cases):
        row = [side]
        for case in cases:
            found = quartiles(results.values(section, case, side, key))
            if found is None:
                row.append(NONE)
            else:
                row.append(f"{number(found[1], scale, decimals)} ({number(found[0], scale, decimals)}-{number(found[2], scale, decimals)})")
        if any(cell != NONE for cell in row[1:]):
            rows.append(row)
    return table([head, *cases], rows)


def against(results, section, cases, key, over="weir", head=None):
    """The ratio of `over` to each other side within each round."""
    rows = []
    for side in results.sides(section, cases):
        row = [side, *(spread(results.ratios(section, case, over, side, key), 2) for case in cases)]
        if side != over and any(cell != NONE for cell in row[1:]):
            rows.append(row)
    return table([head or f"{over} /", *cases], rows)


def fields(results, section, case, keys, sides=None):
    """One case; columns are figures: keys: [(title, key, scale, decimals)]."""
    rows = []
    for side in sides or results.sides(section, [case]):
        row = [side, *(number(results.median(section, case, side, key), scale, decimals) for _, key, scale, decimals in keys)]
        if any(cell != NONE for cell in row[1:]):
            rows.append(row)
    return table(["", *(title for title, *_ in keys)], rows)
