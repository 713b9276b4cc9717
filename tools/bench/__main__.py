"""python -m tools.bench [--rounds N] [--running N] [--instances N] [--out docs/performance.md]

Starts a Nubibus and an LXD 5.0.2, each in a directory of its own, and takes turns between them. Needs root and the
Debian packages lxd and lxd-client. `--quick` is a smoke run of two minutes; figures to keep want a quiet machine and
some ten minutes. `--out` writes the whole page.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from tools.bench import report, rows
from tools.bench.changes import PATCH, events, patch_event
from tools.bench.profile import start_profile
from tools.bench.subject import Subject, subject

Samples = dict[rows.Row, list[float]]
LIST = "/1.0/instances?recursion=1"
SETTLE = 3.0  # seconds after so many starts, before memory is read


def measure(subjects: list[Subject], rounds: int, running: int, instances: int) -> dict[str, Samples]:
    taken: dict[str, Samples] = {s.label: defaultdict(list) for s in subjects}
    for s in subjects:
        time.sleep(2)
        taken[s.label][rows.IDLE].append(sum(s.memory()))
    for _ in range(rounds):
        for s in subjects:
            rows.life(s, taken[s.label])
    for _ in range(max(1, rounds // 5)):
        for s in subjects:
            taken[s.label][rows.FOUR].append(rows.four_clients(s))
    for s in subjects:
        rows.files(s, taken[s.label])
        events(s, taken[s.label])
        taken[s.label][PATCH] += patch_event(s)
    for s in subjects:
        with_many_running(s, taken[s.label], running)
    for s in subjects:
        with_many(s, taken[s.label], instances)
    return taken


def with_many_running(s: Subject, samples: Samples, running: int) -> None:
    """LXD keeps its metrics for 8 s, so a scrape is measured when there is nothing to keep, and one right after it."""
    rows.populate(s, running, start=True)
    time.sleep(SETTLE)
    parts, monitors = s.memory()
    samples[rows.LOADED].append(parts)
    samples[rows.MONITORED].append(parts + monitors)
    samples[rows.FULL] += rows.reads(s, "/1.0/instances?recursion=2", 5)
    for _ in range(3):
        samples[rows.METRICS] += rows.reads(s, "/1.0/metrics", 1, pause=9)
        samples[rows.AGAIN] += rows.reads(s, "/1.0/metrics", 2)
    rows.clear(s)


def with_many(s: Subject, samples: Samples, instances: int) -> None:
    """Lists and changes at a tenth of the instances and at all of them."""
    rows.populate(s, instances // 10, start=False)
    samples[rows.LIST_TENTH] += rows.reads(s, LIST, 10)
    samples[rows.CHANGE_TENTH] += rows.changes(s)
    rows.populate(s, instances - instances // 10, start=False)
    samples[rows.LIST] += rows.reads(s, LIST, 10)
    samples[rows.CHANGE] += rows.changes(s)
    rows.clear(s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--running", type=int, default=100)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="write the page there, and the plot beside it")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.running, given.instances = 3, 5, 20
    load = [os.getloadavg()[0]]
    with ExitStack() as stack:
        subjects = [stack.enter_context(subject(kind)) for kind in ("nubibus", "lxd")]
        taken = measure(subjects, given.rounds, given.running, given.instances)
    # Whoever looks on sees a write when it is sent only if nats-server has a processor for that while another one waits for the disk.
    os.environ["GOMAXPROCS"] = "2"
    with subject("nubibus") as watched:
        profile = start_profile(watched)
    load.append(os.getloadavg()[0])
    sizes = {"running": given.running, "instances": given.instances, "tenth": given.instances // 10}
    ours, theirs = taken["nubibus"], taken["lxd"]
    print(report.table(ours, theirs, sizes))
    print(report.disk(ours, theirs))
    print(profile)
    if given.out:
        given.out.write_text(report.page(ours, theirs, sizes, profile, load))
        report.plot(ours, theirs, sizes, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
