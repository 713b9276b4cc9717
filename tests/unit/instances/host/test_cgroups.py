"""Limits and counters in the words of both cgroup versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.errors import Internal
from services.instances.host import cgroups, state
from services.instances.host.cgroups import Groups, Machine, Setting, choose_cpus, cpu_set, cpu_time, plan
from tests.unit.instances.host import machines

MIB = 1024 * 1024


@pytest.fixture
def first(tmp_path: Path) -> Machine:
    return machines.hybrid(tmp_path)


@pytest.fixture
def second(tmp_path: Path) -> Machine:
    return machines.unified(tmp_path)


def values(settings: tuple[Setting, ...]) -> dict[str, str]:
    return {setting.file: setting.value for setting in settings}


def test_the_layouts_are_told_apart(tmp_path: Path) -> None:
    first, second = machines.hybrid(tmp_path / "a"), machines.unified(tmp_path / "b")
    assert not first.layout.unified
    assert second.layout.unified
    assert {name: first.layout.controllers[name].version for name in ("memory", "freezer", "hugetlb")} == {
        "memory": 1,
        "freezer": 1,
        "hugetlb": 2,
    }
    assert {second.layout.controllers[name].version for name in ("memory", "freezer", "cpuacct", "hugetlb")} == {2}
    assert len(first.layout.hierarchies) == 9
    assert first.cpus == second.cpus == (0, 1, 2, 3)
    assert first.memory == 4096 * MIB


def test_groups_stand_beside_init_scope(second: Machine) -> None:
    assert second.layout.controllers["memory"].group("x").parts[-1] == "x"
    assert "init.scope" not in str(second.layout.controllers["memory"].group("x"))


def test_nothing_asked_for_is_nothing_set(tmp_path: Path) -> None:
    assert plan({}, machines.hybrid(tmp_path / "a")) == ()
    assert plan({}, machines.unified(tmp_path / "b")) == ()


def test_memory_on_v1(first: Machine) -> None:
    found = values(plan({"limits.memory": "64MiB"}, first))
    assert found == {
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.memsw.limit_in_bytes": str(64 * MIB),
        "memory.soft_limit_in_bytes": str(64 * MIB * 9 // 10),
    }


def test_memory_on_cgroup2(second: Machine) -> None:
    found = values(plan({"limits.memory": "50%"}, second))
    assert found == {
        "memory.max": str(2048 * MIB),
        "memory.swap.max": "0",
        "memory.high": str(2048 * MIB * 9 // 10),
    }


def test_soft_memory(first: Machine) -> None:
    assert values(plan({"limits.memory": "64MiB", "limits.memory.enforce": "soft"}, first)) == {
        "memory.soft_limit_in_bytes": str(64 * MIB)
    }


def test_memory_without_swap(first: Machine) -> None:
    found = values(plan({"limits.memory": "64MiB", "limits.memory.swap": "false"}, first))
    assert found["memory.swappiness"] == "0"
    assert "memory.memsw.limit_in_bytes" not in found


def test_swap_goes_out_of_the_way_before_a_live_change(first: Machine) -> None:
    files = [s.file for s in plan({"limits.memory": "64MiB"}, first, complete=True) if s.controller == "memory"]
    assert files[:3] == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]


@pytest.mark.parametrize(
    ("allowance", "priority", "full", "expected"),
    [
        ("", "", 1024, (1024, -1, 100_000)),
        ("50%", "", 1024, (512, -1, 100_000)),
        ("50%", "5", 1024, (507, -1, 100_000)),
        ("25ms/100ms", "", 1024, (1024, 25_000, 100_000)),
        ("10ms/50ms", "0", 100, (90, 10_000, 50_000)),
        ("0%", "0", 100, (0, -1, 100_000)),
    ],
)
def test_cpu_time(allowance: str, priority: str, full: int, expected: tuple[int, int, int]) -> None:
    assert cpu_time(allowance, priority, full) == expected


def test_cpu_on_both(tmp_path: Path) -> None:
    first, second = machines.hybrid(tmp_path / "a"), machines.unified(tmp_path / "b")
    config = {"limits.cpu.allowance": "20ms/100ms", "limits.cpu": "1-2", "limits.processes": "50"}
    assert values(plan(config, first)) == {
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "20000",
        "cpuset.cpus": "1,2",
        "pids.max": "50",
    }
    assert values(plan(config, second)) == {
        "cpu.weight": "100",
        "cpu.max": "20000 100000",
        "cpuset.cpus": "1,2",
        "pids.max": "50",
    }


def test_cpus_that_the_machine_lacks(first: Machine) -> None:
    with pytest.raises(ValueError, match=r"limits.cpu 0-9: the machine has CPUs 0,1,2,3"):
        plan({"limits.cpu": "0-9"}, first)


def test_cpus_of_a_number_are_the_least_used() -> None:
    assert choose_cpus("2", (0, 1, 2, 3), [frozenset({0}), frozenset({0, 2})]) == {1, 3}
    assert choose_cpus("4", (0, 1, 2, 3), []) is None
    assert choose_cpus("0-1", (0, 1, 2, 3), []) is None


def test_cpu_sets() -> None:
    assert cpu_set("0-2,5\n") == {0, 1, 2, 5}
    assert cpu_set("") == set()


def test_hugepages_where_they_are_counted(first: Machine) -> None:
    (found,) = plan({"limits.hugepages.2MB": "4MiB"}, first)
    assert found.line == ("lxc.cgroup2.hugetlb.2MB.max", str(4 * MIB))


def test_a_live_change_writes_only_what_differs(first: Machine) -> None:
    before, after = plan({}, first, complete=True), plan({"limits.processes": "5"}, first, complete=True)
    assert values(cgroups.changed(before, after)) == {"pids.max": "5"}
    assert values(cgroups.changed(after, before)) == {"pids.max": "max"}


def _group(machine: Machine, files: dict[str, str]) -> Groups:
    """A group whose files are given as "controller/file"."""
    groups = Groups(machine.layout, "c1")
    for name, text in files.items():
        controller, _, file = name.partition("/")
        folder = groups.path(controller)
        assert folder is not None
        folder.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    return groups


def test_settings_are_written(second: Machine) -> None:
    groups = _group(second, {"memory/memory.max": "max"})
    groups.apply((Setting("memory", 2, "memory.max", "5"),))
    assert groups.number("memory", "memory.max") == 5


def test_a_setting_that_cannot_be_written_is_named(second: Machine) -> None:
    groups = Groups(second.layout, "nothing")
    groups.apply((Setting("memory", 2, "memory.max", "5", optional=True),))
    with pytest.raises(Internal, match=r"Failed to set memory.max to 5: No such file"):
        groups.apply((Setting("memory", 2, "memory.max", "5"),))


def test_freezing_on_cgroup2(second: Machine) -> None:
    groups = _group(second, {"freezer/cgroup.events": "populated 1\nfrozen 0\n", "freezer/cgroup.freeze": "0"})
    assert not groups.frozen
    groups.set_frozen(True)
    assert (groups.path("freezer") or Path()).joinpath("cgroup.freeze").read_text() == "1"
    _group(second, {"freezer/cgroup.events": "populated 1\nfrozen 1\n"})
    assert groups.frozen


def test_freezing_on_v1(first: Machine) -> None:
    groups = _group(first, {"freezer/freezer.state": "THAWED\n"})
    assert not groups.frozen
    groups.set_frozen(True)
    assert groups.frozen


def test_counters_of_v1(first: Machine) -> None:
    groups = _group(
        first,
        {
            "cpuacct/cpuacct.usage": "123456789\n",
            "cpuacct/cpuacct.usage_percpu_user": "1000000000 0\n",
            "cpuacct/cpuacct.usage_percpu_sys": "500000000 250000000\n",
            "memory/memory.usage_in_bytes": "100\n",
            "memory/memory.max_usage_in_bytes": "300\n",
            "memory/memory.memsw.usage_in_bytes": "150\n",
            "memory/memory.memsw.max_usage_in_bytes": "310\n",
            "memory/memory.limit_in_bytes": "1000\n",
            "memory/memory.stat": "rss 1\ntotal_rss 40\ntotal_cache 20\ntotal_active_anon 5\ntotal_active_file 6\n",
            "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            "blkio/blkio.throttle.io_service_bytes_recursive": "254:0 Read 10\n254:0 Write 20\nTotal 30\n",
        },
    )
    assert state.cpu_nanoseconds(groups) == 123456789
    assert state.memory_state(groups) == {"usage": 100, "usage_peak": 300, "swap_usage": 50, "swap_usage_peak": 10}
    assert state.cpu_seconds(groups) == {"0": {"user": 1.0, "system": 0.5}, "1": {"user": 0.0, "system": 0.25}}
    memory = state.memory_metrics(groups, 5000)
    assert memory["RSS_bytes"] == 40
    assert memory["Active_bytes"] == 11
    assert (memory["MemTotal_bytes"], memory["MemFree_bytes"], memory["MemAvailable_bytes"]) == (1000, 900, 920)
    assert memory["OOM_kills_total"] == 2


def test_counters_of_cgroup2(second: Machine) -> None:
    groups = _group(
        second,
        {
            "cpuacct/cpu.stat": "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\n",
            "memory/memory.current": "100\n",
            "memory/memory.peak": "300\n",
            "memory/memory.swap.current": "7\n",
            "memory/memory.max": "max\n",
            "memory/memory.stat": "anon 40\nfile 20\nactive_anon 5\nactive_file 6\n",
            "memory/memory.events": "low 0\noom 1\noom_kill 1\n",
            "io/io.stat": "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
        },
    )
    assert state.cpu_nanoseconds(groups) == 2_000_000_000
    assert state.memory_state(groups) == {"usage": 100, "usage_peak": 300, "swap_usage": 7, "swap_usage_peak": 0}
    assert state.cpu_seconds(groups) == {"0": {"user": 1.5, "system": 0.5}}
    memory = state.memory_metrics(groups, 5000)
    assert (memory["RSS_bytes"], memory["Cached_bytes"], memory["MemTotal_bytes"], memory["Swap_bytes"]) == (
        40,
        20,
        5000,
        7,
    )
    assert memory["OOM_kills_total"] == 1
