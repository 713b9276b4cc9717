"""The table and the plot of a run, and what a start's milliseconds were spent on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tools.bench.changes import DISK, EVENT, PATCH, SENT_P99
from tools.bench.disk import SLOW
from tools.bench.rows import CHANGE, CHANGE_TENTH, EXEC, IDLE, LIST, LIST_TENTH, LOADED, METRICS, Row

Samples = Mapping[Row, Sequence[float]]
ABSOLUTE = (EVENT, IDLE, LOADED)
HIGH = (EVENT, SENT_P99)  # of which the 99th percentile is shown
REASONS = {
    EXEC: "six requests of the client pass through the gateway, and each of the four websockets is a stream to the service; "
    "the command itself waits in the instance before the last of them is open. Its operation ends when the output is with the client, "
    "which is a way there and back through the gateway.",
    METRICS: "an unsampled scrape reads every group and every network namespace.",
    LOADED: "each part keeps the rows that it needs of every instance, and has grown with what was done before.",
    EVENT: "it counts from before the write, which is written through to the disk, and clients, listeners and server share the machine's "
    "processors: such a change costs all parts together some 3 ms of them. What the disk alone took is above.",
    PATCH: "what LXD tells from memory is in the log, on the disk, before it is told; almost half of the time is nats-server's for "
    "that, and a third of it goes into files in memory in which it gathers a batch.",
    LIST: "the gateway passes on what the service sends.",
}


def middle(row: Row, values: Sequence[float]) -> float:
    """The median; for a row that speaks of the 99th percentile, that."""
    return high(values) if row in HIGH else statistics.median(values)


def high(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[int(len(values) * 0.99) - 1] if values else float("nan")


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
        if row == DISK:
            continue
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


def disk(ours: Samples, theirs: Samples) -> str:
    """What the disk alone took around the events' measurement of each server."""
    both = (ours[DISK], theirs[DISK])
    lines = {
        "median": [f"{statistics.median(values):.2f} ms" for values in both],
        "p99": [f"{high(values):.2f} ms" for values in both],
        "highest": [f"{max(values):.0f} ms" for values in both],
        f"over {SLOW:g} ms": [f"{sum(v > SLOW for v in values)} of {len(values):,}" for values in both],
    }
    head = "| 2 KiB appended and written through | around Nubibus' events | around LXD's events |\n|---|---|---|\n"
    return head + "\n".join(f"| {what} | {' | '.join(values)} |" for what, values in lines.items())


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
machine ({platform.machine()}, {os.cpu_count()} CPUs, kernel {platform.release()}, Python {platform.python_version()};
load average {load[0]:.1f} before, {load[1]:.1f} after), each with a `dir` pool and the same busybox image.
Middle value (median; p99 where it says so), lowest and highest in brackets. Times are as a client sees them.

{table(ours, theirs, sizes)}

![The same as ratios](performance.svg)

Memory is the proportional set size (PSS), counted alike of both servers. All parts together are all processes that belong to
the server but liblxc's monitors: `[lxc monitor] ...`, one of which either server leaves beside each running instance; the row after
it counts these too. The goal belongs to the first: LXD's figure that it was set beside, 130 MiB with 100 running, is its daemon
without monitors, with which LXD takes some ten times as much. What runs inside instances is in neither.

## Events, and the disk under them

An event bears a time of its own, and the row with the goal counts from that. LXD takes it when the change is made, Nubibus
before it is written, so Nubibus' figure has the write to the disk in it and LXD's has not. The two rows after it compare like with
like: in the same run, from when a client sends its PATCH to when the event of it comes. A client waits for each answer, so a server
that takes too long gets fewer changes, as the row of those reached tells. "From a PATCH to its event" is a single client with a
single listener, and changes an instance.

The disk itself, asked right before and right after that run, while the server had nothing to do: 2 KiB appended to a file beside the
server's directory and written through (fsync), 200 times a second. A change waits until it is written through, so what
the disk takes here is in what a change takes, and how often it stands still tells what of an event's p99 may be the disk's.

{disk(ours, theirs)}

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
