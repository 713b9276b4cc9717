"""The table and the plot of a run, and what a start's milliseconds were spent on."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tools.bench.rows import EVENT, IDLE, LOADED, Row

Samples = Mapping[Row, Sequence[float]]
ABSOLUTE = (EVENT, IDLE, LOADED)


def middle(row: Row, values: Sequence[float]) -> float:
    """The median; for the event row the 99th percentile, which is what its goal speaks of."""
    if row == EVENT:
        return sorted(values)[int(len(values) * 0.99) - 1] if values else float("nan")
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.3g}-{max(values):.3g}"


def reached(row: Row, ours: float, ratio: float) -> bool:
    if row in ABSOLUTE:
        return ours <= row.goal
    return ratio >= row.goal if row.higher else ratio <= row.goal


def table(ours: Samples, theirs: Samples, sizes: Mapping[str, int]) -> str:
    lines = [
        "| what | Nubibus | LXD 5.0.2 | ratio | goal | |",
        "|---|---|---|---|---|---|",
    ]
    for row, values in ours.items():
        mine, other = middle(row, values), middle(row, theirs[row])
        sign = "≥" if row.higher else "≤"
        goal = f"{sign} {row.goal:g} {row.unit}" if row in ABSOLUTE else f"{sign} {row.goal:g}"
        verdict = "reached" if reached(row, mine, mine / other) else "**short**"
        lines.append(
            f"| {row.name.format(**sizes)} | {mine:.3g} {row.unit} ({spread(values)}) | {other:.3g} {row.unit} "
            f"({spread(theirs[row])}) | {mine / other:.3g} | {goal} | {verdict} |"
        )
    return "\n".join(lines)


def page(ours: Samples, theirs: Samples, sizes: Mapping[str, int], profile: str) -> str:
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"""# Performance

Written by `python -m tools.bench` on {when}: Nubibus and Debian's LXD 5.0.2 in the same run, on the same
machine ({platform.machine()}, kernel {platform.release()}), each with a `dir` pool and the same busybox image.
Middle value (median; p99 where it says so), lowest and highest in brackets. Times are as a client sees them.

{table(ours, theirs, sizes)}

![The same as ratios](performance.svg)

## Where a start's milliseconds go

{profile}
"""


def plot(ours: Samples, theirs: Samples, sizes: Mapping[str, int], path: Path) -> None:
    """Ratios on a logarithmic scale with the goals as marks; rates are turned round, so that left is always better."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "nubibus"
    rows = [row for row in ours if row not in ABSOLUTE]
    ratios = [middle(row, ours[row]) / middle(row, theirs[row]) for row in rows]
    ratios = [1 / r if row.higher else r for row, r in zip(rows, ratios, strict=True)]
    goals = [1 / row.goal if row.higher else row.goal for row in rows]
    figure, axes = pyplot.subplots(figsize=(9, 0.45 * len(rows) + 1.2))
    axes.barh(range(len(rows)), ratios, color="#2f7ebc")
    axes.scatter(goals, range(len(rows)), marker="|", s=260, color="#c23b22", zorder=3, label="goal")
    axes.axvline(1.0, color="#555555", linewidth=1, linestyle="--", label="LXD 5.0.2")
    axes.set_yticks(range(len(rows)), [row.name.format(**sizes) for row in rows])
    axes.set_xscale("log")
    axes.set_xlabel("time against LXD's (less is better)")
    axes.invert_yaxis()
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
