"""The table and the plot of a run, and what a start's milliseconds were spent on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tools.bench.changes import EVENT, PATCH
from tools.bench.rows import CHANGE, CHANGE_TENTH, EXEC, IDLE, LIST, LIST_TENTH, LOADED, METRICS, Row

Samples = Mapping[Row, Sequence[float]]
ABSOLUTE = (EVENT, IDLE, LOADED)
REASONS = {
    EXEC: "six requests of the client pass through the gateway, and each of the four websockets is a stream to the service; "
    "the command itself waits in the instance before the last of them is open. Its operation ends when the output is with the client, "
    "which is a way there and back through the gateway.",
    METRICS: "an unsampled scrape reads every group and every network namespace.",
    LOADED: "about 0.95 MiB for each `[lxc monitor]`, and the parts' own growth.",
    EVENT: "it counts from before the write, which is written through to the disk, and clients, listeners and server share the machine's "
    "processors: such a change costs all parts together some 4 ms of them. "
    "From the log to the listener it is 1.5 ms (docs/reliability.md).",
    PATCH: "the same: what LXD tells from memory is in the log, on the disk, before it is told.",
    LIST: "the gateway passes on what the service sends.",
}


def middle(row: Row, values: Sequence[float]) -> float:
    """The median; for the event row the 99th percentile, which is what its goal speaks of."""
    if row == EVENT:
        return sorted(values)[int(len(values) * 0.99) - 1] if values else float("nan")
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    return f"{min(values):.3g}-{max(values):.3g}"


def reached(row: Row, ours: float, ratio: float) -> bool:
    if row.goal is None:
        return True
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
        verdict = "reached" if reached(row, mine, mine / other) else "**short**"
        lines.append(
            f"| {row.name.format(**sizes)} | {mine:.3g} {row.unit} ({spread(values)}) | {other:.3g} {row.unit} "
            f"({spread(theirs[row])}) | {mine / other:.3g} | {_goal(row)} | {verdict if row.goal is not None else ''} |"
        )
    return "\n".join(lines)


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    sign = "≥" if row.higher else "≤"
    return f"{sign} {row.goal:g} {row.unit}" if row in ABSOLUTE else f"{sign} {row.goal:g}"


def growth(samples: Samples) -> str:
    """How much more a list and a change cost with ten times the instances."""
    listed, changed = (
        middle(large, samples[large]) / middle(small, samples[small])
        for large, small in ((LIST, LIST_TENTH), (CHANGE, CHANGE_TENTH))
    )
    return f"a list {listed:.1f} times as long, a change {changed:.1f} times"


def shortcomings(ours: Samples, theirs: Samples, sizes: Mapping[str, int]) -> str:
    short = [
        f"- **{row.name.format(**sizes)}**: {REASONS.get(row, 'not looked into yet.')}"
        for row, values in ours.items()
        if not reached(row, middle(row, values), middle(row, values) / middle(row, theirs[row]))
    ]
    return "\n".join(short) or "Nothing."


def page(ours: Samples, theirs: Samples, sizes: Mapping[str, int], profile: str, load: Sequence[float]) -> str:
    """`load`: the machine's load average before and after."""
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"""# Performance

Written by `python -m tools.bench` on {when}: Nubibus and Debian's LXD 5.0.2 in the same run, on the same
machine ({platform.machine()}, {os.cpu_count()} CPUs, kernel {platform.release()}; load average {load[0]:.1f} before,
{load[1]:.1f} after), each with a `dir` pool and the same busybox image.
Middle value (median; p99 where it says so), lowest and highest in brackets. Times are as a client sees them.

{table(ours, theirs, sizes)}

![The same as ratios](performance.svg)

Memory is the proportional set size of every process that belongs to the server, liblxc's monitors among them, of both
servers alike; what runs inside instances is not counted.

## With ten times the instances

Nubibus: {growth(ours)}. LXD: {growth(theirs)}. The goal is at most 10 times for a list, and the same for a change.

## Where a start's milliseconds go

{profile}

The steps are those of the operation's journal (`GET /1.0/operations/ID?steps=true`); the rest of the whole is the request, two commits
(the operation with its lock, and its end with the instance's row and events) and the wait for the end.

## What is short, and why

{shortcomings(ours, theirs, sizes)}
"""


def plot(ours: Samples, theirs: Samples, sizes: Mapping[str, int], path: Path) -> None:
    """Ratios on a logarithmic scale with the goals as marks; rates are turned round, so that left is always better."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "nubibus"
    rows = [row for row in ours if row not in ABSOLUTE and row.goal is not None]
    ratios = [middle(row, ours[row]) / middle(row, theirs[row]) for row in rows]
    ratios = [1 / r if row.higher else r for row, r in zip(rows, ratios, strict=True)]
    goals = [1 / (row.goal or 1) if row.higher else row.goal for row in rows]
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
