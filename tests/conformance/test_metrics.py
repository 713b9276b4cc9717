"""GET /1.0/metrics: the numbers of running instances as text that Prometheus reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.tls import Identity, Remote, free_port
from tests.conformance.world import World

LINE = re.compile(r"(\w+)\{([^}]*)\} (\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
OWN = ("name", "project", "type")
LABELS = {
    # what a running container with a nic and limits has in 5.0.2: series -> its labels
    **dict.fromkeys(("lxd_cpu_seconds_total",), ("cpu", "mode", *OWN)),
    **dict.fromkeys(
        ("lxd_filesystem_avail_bytes", "lxd_filesystem_free_bytes", "lxd_filesystem_size_bytes"),
        ("device", "fstype", "mountpoint", "name", "project"),
    ),
    **{
        f"lxd_memory_{kind}_bytes": OWN
        for kind in (
            "Active_anon", "Active_file", "Active", "Cached", "Dirty", "Inactive_anon", "Inactive_file", "Inactive",
            "Mapped", "MemAvailable", "MemFree", "MemTotal", "RSS", "Shmem", "Swap", "Unevictable", "Writeback",
        )
    },
    **{
        f"lxd_network_{direction}_{counter}_total": ("device", *OWN)
        for direction in ("receive", "transmit")
        for counter in ("bytes", "drop", "errs", "packets")
    },
    "lxd_procs_total": OWN,
}  # fmt: skip
SOMETIMES = {
    # only where the kernel counts it
    **dict.fromkeys(
        (
            "lxd_disk_read_bytes_total", "lxd_disk_reads_completed_total", "lxd_disk_written_bytes_total",
            "lxd_disk_writes_completed_total",
        ),
        ("device", *OWN),
    ),
    **dict.fromkeys(("lxd_memory_HugepagesFree_bytes", "lxd_memory_HugepagesTotal_bytes"), OWN),
}  # fmt: skip


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
    nic = {"eth0": {"type": "nic", "nictype": "p2p"}}
    stopped, runs = world.instance(), world.instance(start=True, devices=nic)
    eventually(lambda: f'name="{runs}"' in scrape(world.api)[0])  # a scrape may be a second old, LXD's eight
    text, series = scrape(world.api)
    found: dict[str, set[str]] = {}
    for name, labels in series:
        if ("name", runs) in labels:
            found.setdefault(name, set()).update(label for label, _ in labels)
        assert ("name", stopped) not in labels
    expected = {name: set(labels) for name, labels in LABELS.items()}
    assert found == expected | {name: set(labels) for name, labels in SOMETIMES.items() if name in found}
    assert text.endswith("# EOF\n")
    for name in found:
        kind = "counter" if name.endswith("_total") and name != "lxd_procs_total" else "gauge"
        assert f"# TYPE {name} {kind}\n" in text
        assert f"# HELP {name} " in text


@pytest.mark.extension("metrics")
def test_metrics_of_a_project_leave_out_the_others(world: World) -> None:
    name = world.instance(start=True)
    of_default = "/1.0/metrics?project=default"
    eventually(lambda: f'name="{name}"' in world.api.request("GET", of_default).body.decode())
    assert world.api.request("GET", "/1.0/metrics?project=no-such-project").body == b"# EOF\n"


@pytest.mark.extension("metrics")
@pytest.mark.extension("metrics_authentication")
def test_at_the_metrics_address_there_are_metrics_and_who_gets_them_is_configured(api: Client, tmp_path: Path) -> None:
    port, stranger = free_port(), Identity.make(tmp_path, "stranger")
    keys = ("core.metrics_address", "core.metrics_authentication")
    api.patch("/1.0", {"config": dict(zip(keys, (f"127.0.0.1:{port}", "false"), strict=True))})
    try:
        for remote in (Remote(port), Remote(port, stranger)):
            eventually(lambda remote=remote: answers(remote) == 200)
        assert Remote(port).request("GET", "/1.0/metrics").headers["content-type"].startswith("text/plain")
        assert [Remote(port).request("GET", path).status for path in ("/", "/1.0")] == [200, 200]
        for path in ("/1.0/instances", "/1.0/certificates", "/1.0/events", "/1.0/openapi.json"):
            assert Remote(port).request("GET", path).status == 404
        api.patch("/1.0", {"config": {keys[1]: "true"}})
        eventually(lambda: answers(Remote(port)) == 403)
    finally:
        api.patch("/1.0", {"config": dict(zip(keys, ("", "true"), strict=True))})
    eventually(lambda: answers(Remote(port)) == 0)


def answers(remote: Remote) -> int:
    """The status of a scrape; 0 if nobody listens."""
    try:
        return remote.request("GET", "/1.0/metrics").status
    except OSError:
        return 0


@pytest.mark.extension("metrics_cpu_seconds")
def test_processor_time_is_in_seconds(world: World) -> None:
    """The control group of the instance counts in nanoseconds or microseconds; what it says bounds what is told."""
    name = world.instance(start=True)
    labels = {"name": name, "project": "default", "type": "container"}
    world.shell(name, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")

    def agree() -> bool:
        told = value(world.api, "lxd_cpu_seconds_total", labels)
        used = world.api.get(f"/1.0/instances/{name}/state")["cpu"]["usage"] / 1e9
        return told > 0.1 and used * 0.5 <= told <= used * 1.05 + 0.1  # the kernel divides it by ticks

    eventually(agree)


@pytest.mark.extension("metrics")
def test_the_numbers_follow_what_the_instance_does(world: World) -> None:
    name = world.instance(start=True)
    labels = {"name": name, "project": "default", "type": "container"}
    processes = eventually(lambda: value(world.api, "lxd_procs_total", labels))
    cpu = value(world.api, "lxd_cpu_seconds_total", labels)

    world.shell(
        name,
        "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; for i in 1 2 3 4 5 6; do sleep 1000 >/dev/null 2>&1 </dev/null & done",
    )

    eventually(lambda: value(world.api, "lxd_procs_total", labels) >= processes + 4)
    eventually(lambda: value(world.api, "lxd_cpu_seconds_total", labels) > cpu + 0.1)
    memory = value(world.api, "lxd_memory_RSS_bytes", labels)
    assert 0 < memory < 256 << 20
