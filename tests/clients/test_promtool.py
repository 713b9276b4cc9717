"""Prometheus's own judgement of what it is given to scrape: `promtool check metrics`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from chassis import metrics
from chassis.metrics import Counters
from tests.clients.debian import borrowed
from tests.conformance.world import World

# Names and types of LXD 5.0.2, which dashboards know; what promtool would have called otherwise.
LXDS_OWN = {
    f"lxd_memory_{name}_bytes metric names should be written in 'snake_case' not 'camelCase'"
    for name in ("HugepagesFree", "HugepagesTotal", "MemAvailable", "MemFree", "MemTotal")
} | {
    f'lxd_{name}_total non-counter metrics should not have "_total" suffix'
    for name in ("procs", "cpu_effective")
}  # fmt: skip


@pytest.fixture(scope="module")
def promtool() -> Path:
    return borrowed("prometheus", "./usr/bin/promtool") / "usr/bin/promtool"


def complaints(promtool: Path, text: bytes) -> set[str]:
    done = subprocess.run([str(promtool), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    return set((done.stdout + done.stderr).decode().splitlines())


def test_the_metrics_of_instances_have_no_fault_but_lxds_names(world: World, promtool: Path) -> None:
    name = world.instance(start=True)
    text = world.api.request("GET", "/1.0/metrics").body
    assert name.encode() in text
    assert complaints(promtool, text) <= LXDS_OWN
    assert complaints(promtool, text + b"lxd_broken{ 1\n") - LXDS_OWN  # it does look


def test_the_metrics_of_a_part_are_clean(promtool: Path) -> None:
    counters = Counters("storage")
    with counters.measure("Pools.Get"):
        pass
    text = metrics.exposition(metrics.registry(counters))
    assert b"Pools.Get" in text
    assert complaints(promtool, text) == set()
