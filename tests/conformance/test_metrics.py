"""GET /1.0/metrics: the numbers of running instances as text that Prometheus reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.world import World

LINE = re.compile(r"(\w+)\{([^}]*)\} (\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
ALWAYS = (
    "lxd_cpu_seconds_total",
    "lxd_filesystem_avail_bytes",
    "lxd_filesystem_size_bytes",
    "lxd_memory_Active_bytes",
    "lxd_memory_Cached_bytes",
    "lxd_memory_MemTotal_bytes",
    "lxd_memory_RSS_bytes",
    "lxd_network_receive_bytes_total",
    "lxd_network_transmit_packets_total",
    "lxd_procs_total",
)


def scrape(api: Client) -> tuple[str, Series]:
    answer = api.request("GET", "/1.0/metrics")
    assert answer.status == 200
    text = answer.body.decode()
    return text, {(name, frozenset(LABEL.findall(labels))): float(value) for name, labels, value in LINE.findall(text)}


def value(api: Client, name: str, labels: Mapping[str, str]) -> float:
    """The sum of the series of this name that have these labels."""
    wanted = set(labels.items())
    return sum(number for (series, found), number in scrape(api)[1].items() if series == name and wanted <= found)


@pytest.mark.extension("metrics")
def test_a_running_instance_has_every_series_and_a_stopped_one_none(world: World) -> None:
    runs, stopped = world.instance(start=True), world.instance()
    text, series = scrape(world.api)
    of_running = {name for name, labels in series if ("name", runs) in labels}
    assert of_running >= set(ALWAYS)
    assert not [name for name, labels in series if ("name", stopped) in labels]
    assert text.endswith("# EOF\n")
    for name in of_running:
        kind = "counter" if name.endswith("_total") and name != "lxd_procs_total" else "gauge"
        assert f"# TYPE {name} {kind}\n" in text
        assert f"# HELP {name} " in text


@pytest.mark.extension("metrics")
def test_the_numbers_follow_what_the_instance_does(world: World) -> None:
    name = world.instance(start=True)
    labels = {"name": name, "project": "default", "type": "container"}
    cpu = value(world.api, "lxd_cpu_seconds_total", labels)
    processes = value(world.api, "lxd_procs_total", labels)

    world.shell(
        name,
        "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; for i in 1 2 3 4 5 6; do sleep 1000 >/dev/null 2>&1 </dev/null & done",
    )

    eventually(lambda: value(world.api, "lxd_procs_total", labels) >= processes + 4)
    eventually(lambda: value(world.api, "lxd_cpu_seconds_total", labels) > cpu + 0.1)
    memory = value(world.api, "lxd_memory_RSS_bytes", labels)
    assert 0 < memory < 256 << 20
