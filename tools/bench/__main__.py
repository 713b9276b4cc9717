"""python -m tools.bench [--rounds N] [--running N] [--instances N] [--out docs/performance.md]

Starts a Nubibus and an LXD 5.0.2, each in a directory of its own, and takes turns between them. Needs root and the
Debian packages lxd and lxd-client. `--quick` is a smoke run of a minute; figures to keep want a quiet machine.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from tools.bench import report, rows
from tools.bench.changes import PATCH, patch_event
from tools.bench.profile import start_profile
from tools.bench.subject import Subject, subject


def measure(
    subjects: list[Subject], rounds: int, running: int, instances: int
) -> dict[str, dict[rows.Row, list[float]]]:
    taken: dict[str, dict[rows.Row, list[float]]] = {s.label: defaultdict(list) for s in subjects}
    for s in subjects:
        time.sleep(2)
        taken[s.label][rows.IDLE].append(s.memory())
    for _ in range(rounds):
        for s in subjects:
            rows.life(s, taken[s.label])
    for _ in range(max(1, rounds // 5)):
        for s in subjects:
            taken[s.label][rows.FOUR].append(rows.four_clients(s))
    for s in subjects:
        rows.files(s, taken[s.label])
        taken[s.label][rows.EVENT] += rows.event_latency(s)
        taken[s.label][PATCH] += patch_event(s)
    for s in subjects:
        rows.populate(s, running, start=True)
        taken[s.label][rows.FULL] += rows.reads(s, "/1.0/instances?recursion=2", 5)
        taken[s.label][rows.METRICS] += rows.reads(s, "/1.0/metrics", 5, pause=1.1)
        taken[s.label][rows.LOADED].append(s.memory())
        s.world.close()
        rows.populate(s, instances, start=False)
        taken[s.label][rows.LIST] += rows.reads(s, "/1.0/instances?recursion=1", 5)
        s.world.close()
    return taken


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
    with ExitStack() as stack:
        subjects = [stack.enter_context(subject(kind)) for kind in ("nubibus", "lxd")]
        taken = measure(subjects, given.rounds, given.running, given.instances)
        profile = start_profile(subjects[0])
    sizes = {"running": given.running, "instances": given.instances}
    ours, theirs = taken["nubibus"], taken["lxd"]
    print(report.table(ours, theirs, sizes))
    print(profile)
    if given.out:
        given.out.write_text(report.page(ours, theirs, sizes, profile))
        report.plot(ours, theirs, sizes, given.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
