"""What tools.bench makes of what it measured: which process is counted where, which event belongs to which change, the page."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tools.bench import report, rows
from tools.bench.changes import DISK, EVENT, PATCH, REACHED, SENT, SENT_P99, waits
from tools.bench.disk import appends
from tools.bench.subject import Subject

SIZES = {"running": 100, "instances": 1000, "tenth": 100}


@contextmanager
def process(title: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that runs under this title until it is no longer wanted."""
    with subprocess.Popen([title], executable="/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as started:
        stdin, stdout = started.stdin, started.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"ready\n")
        stdin.flush()
        stdout.readline()  # it has its title now
        yield started  # its input is closed on the way out, which ends it


def test_monitors_of_instances_are_counted_apart_under_either_server(tmp_path: Path) -> None:
    with ExitStack() as running:
        started = running.enter_context(process("server"))
        subject = Subject("x", cast(Any, SimpleNamespace(started=started, directory=tmp_path)), cast(Any, None))
        assert subject.memory()[1] == 0
        monitors = [
            running.enter_context(process(f"[lxc monitor] {tmp_path}/{folder} c1")).pid
            for folder in ("instances", "containers")
        ]
        part = running.enter_context(process(f"dnsmasq {tmp_path}/networks/lxdbr0")).pid
        assert subject.processes() == sorted([started.pid, part, *monitors])
        own, theirs = subject.memory()
        assert own > 0
        assert theirs > 0


def test_the_nth_event_of_a_profile_is_that_of_its_nth_change() -> None:
    sent = {"p1": [1.0, 2.0], "p2": [1.5, 2.5]}
    arrived = {"": [0.5], "p2": [1.75, 3.0], "p1": [1.25, 2.125]}
    assert waits(sent, arrived) == [250.0, 125.0, 250.0, 500.0]


def test_an_event_that_did_not_come_is_not_made_up_for_by_the_next() -> None:
    with pytest.raises(ValueError, match="shorter"):
        waits({"p1": [1.0, 2.0]}, {"p1": [2.25]})


def test_asking_the_disk_leaves_nothing(tmp_path: Path) -> None:
    taken = appends(tmp_path, 3)
    assert len(taken) == 3
    assert min(taken) > 0
    assert os.listdir(tmp_path) == []


def samples(**given: list[float]) -> dict[rows.Row, list[float]]:
    """A run in which everything took 1, but for the rows given by name."""
    every = [rows.IDLE, EVENT, SENT, SENT_P99, REACHED, DISK, PATCH, rows.LOADED, rows.MONITORED]
    every += [rows.LIST_TENTH, rows.LIST, rows.CHANGE_TENTH, rows.CHANGE]
    named = {"SENT": SENT, "SENT_P99": SENT_P99, "DISK": DISK, "LOADED": rows.LOADED, "MONITORED": rows.MONITORED}
    return {row: [1.0] for row in every} | {named[name]: values for name, values in given.items()}


def test_the_page_judges_memory_without_monitors_and_shows_it_with_them() -> None:
    ours = samples(LOADED=[250.0], MONITORED=[350.0])
    text = report.page(ours, samples(LOADED=[125.0], MONITORED=[1250.0]), SIZES, "", (0.0, 0.0))
    name = "memory of all parts together, 100 running (PSS)"
    assert f"| {name} | 250 MiB (250-250) | 125 MiB (125-125) | 2 | ≤ 300 MiB | reached |" in text
    assert "| the same with the instances' monitors | 350 MiB (350-350) |" in text
    assert f"**{name}**" not in text
    assert f"**{name}**" in report.page(samples(LOADED=[301.0]), samples(), SIZES, "", (0.0, 0.0))


def test_the_page_has_median_and_p99_of_the_same_waits() -> None:
    took = [float(number) for number in range(1, 101)]
    text = report.table(samples(SENT=took, SENT_P99=took), samples(), SIZES)
    assert "median at the same load | 50.5 ms (1-100) |" in text
    assert "p99 at the same load | 99 ms (1-100) |" in text


def test_the_disk_has_a_table_of_its_own() -> None:
    ours = samples(DISK=[0.5] * 990 + [11.0] * 9 + [300.0])
    assert DISK.name not in report.table(ours, samples(), SIZES)
    text = report.page(ours, samples(), SIZES, "", (0.0, 0.0))
    for line in (
        "| median | 0.50 ms | 1.00 ms |",
        "| p99 | 0.50 ms | 1.00 ms |",
        "| highest | 300 ms | 1 ms |",
        "| over 10 ms | 10 of 1,000 | 0 of 1 |",
    ):
        assert line in text
