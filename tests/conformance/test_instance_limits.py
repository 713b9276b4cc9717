"""Limits of an instance, seen from inside or in the kernel's own books. They hold on cgroup 1 and cgroup 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.client import eventually
from tests.conformance.kernel import control
from tests.conformance.world import World


def in_kernel(world: World, name: str, controller: str, old: str, new: str) -> str:
    return control(world.pid(name), name, controller, old, new)


def memory(world: World, name: str) -> str:
    return in_kernel(world, name, "memory", "memory.limit_in_bytes", "memory.max")


def test_more_memory_than_the_limit_kills_what_asks_for_it(world: World) -> None:
    name = world.instance(start=True, config={"limits.memory": "48MiB", "limits.memory.swap": "false"})
    assert world.run(name, "dd", "if=/dev/zero", "of=/dev/null", "bs=16M", "count=1").code == 0
    assert world.run(name, "dd", "if=/dev/zero", "of=/dev/null", "bs=96M", "count=1").code == 137
    assert world.api.get(f"/1.0/instances/{name}")["status"] == "Running"


def test_a_memory_limit_is_changed_while_running(world: World) -> None:
    name = world.instance(start=True, config={"limits.memory": "64MiB"})
    assert memory(world, name) == str(64 << 20)
    world.set(name, limits_memory="80MiB")
    assert memory(world, name) == str(80 << 20)
    world.set(name, limits_memory="")
    assert memory(world, name) == "max" or int(memory(world, name)) > 1 << 40


@pytest.mark.parametrize(("text", "size"), [("100000000", 100_000_000), ("64MB", 64_000_000), ("64MiB", 64 << 20)])
def test_sizes_are_read_in_lxds_units(world: World, text: str, size: int) -> None:
    name = world.instance(start=True, config={"limits.memory": text})
    limit = int(memory(world, name))
    assert limit == size // 4096 * 4096


def test_a_memory_limit_in_percent_is_of_the_host(world: World) -> None:
    name = world.instance(start=True, config={"limits.memory": "10%"})
    limit = int(memory(world, name))
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert total * 0.08 < limit < total * 0.12


def test_more_processes_than_the_limit_are_refused(world: World) -> None:
    name = world.instance(start=True, config={"limits.processes": "10"})
    assert in_kernel(world, name, "pids", "pids.max", "pids.max") == "10"
    ran = world.run(name, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3 >/dev/null 2>&1 & done")
    assert ran.code != 0
    assert "fork" in ran.stderr


def test_a_process_limit_is_changed_while_running(world: World) -> None:
    name = world.instance(start=True, config={"limits.processes": "100"})
    world.set(name, limits_processes="200")
    assert in_kernel(world, name, "pids", "pids.max", "pids.max") == "200"


@pytest.mark.parametrize(("limit", "cpus"), [("1", 1), ("0", 1), ("0-1", 2)])
def test_an_instance_runs_on_the_cpus_it_may_use(world: World, limit: str, cpus: int) -> None:
    config = {"limits.cpu": limit if limit != "0" else "0-0"}
    name = world.instance(start=True, config=config)
    eventually(lambda: world.shell(name, "nproc") == str(cpus))


def test_a_cpu_allowance_is_a_quota_or_a_share(world: World) -> None:
    hard = world.instance(start=True, config={"limits.cpu.allowance": "20ms/100ms"})
    soft = world.instance(start=True, config={"limits.cpu.allowance": "50%"})
    quota = in_kernel(world, hard, "cpu", "cpu.cfs_quota_us", "cpu.max")
    assert quota.split()[0] == "20000"
    assert in_kernel(world, soft, "cpu", "cpu.shares", "cpu.weight") in ("512", "50")


@pytest.mark.extension("kernel_limits")
def test_kernel_limits_hold_for_init_and_for_commands(world: World) -> None:
    name = world.instance(start=True, config={"limits.kernel.nofile": "3000:4000", "limits.kernel.core": "0"})
    limits = Path(f"/proc/{world.pid(name)}/limits").read_text().splitlines()
    files = next(line for line in limits if line.startswith("Max open files"))
    assert files.split()[3:5] == ["3000", "4000"]
    assert world.shell(name, "ulimit -Sn; ulimit -Hn; ulimit -c").split() == ["3000", "4000", "0"]


@pytest.mark.extension("kernel_limits")
def test_a_single_value_is_both_limits(world: World) -> None:
    name = world.instance(start=True, config={"limits.kernel.nofile": "3000"})
    assert world.shell(name, "ulimit -Sn; ulimit -Hn").split() == ["3000", "3000"]


@pytest.mark.extension("kernel_limits")
def test_a_kernel_limit_that_is_no_number_is_refused(world: World) -> None:
    name = world.instance()
    refusal = world.api.refusal("PATCH", f"/1.0/instances/{name}", {"config": {"limits.kernel.nofile": "bogus"}})
    assert refusal.status == 500
    assert "nofile" in refusal.text
    assert "bogus" in refusal.text
    assert "limits.kernel.nofile" not in world.api.get(f"/1.0/instances/{name}")["config"]


# As /proc/PID/limits calls them. Left out are those that only a host with CAP_SYS_RESOURCE may give (nice, rtprio): they begin at 0.
RLIMITS = {
    "as": ("Max address space", 4_000_000_000),
    "core": ("Max core file size", 1000),
    "cpu": ("Max cpu time", 3001),
    "data": ("Max data size", 3_000_000_000),
    "fsize": ("Max file size", 100_000_000),
    "locks": ("Max file locks", 301),
    "memlock": ("Max locked memory", 32_768),
    "msgqueue": ("Max msgqueue size", 409_600),
    "nofile": ("Max open files", 900),
    "nproc": ("Max processes", 901),
    "rss": ("Max resident set", 200_000_000),
    "rttime": ("Max realtime timeout", 1_000_001),
    "sigpending": ("Max pending signals", 902),
    "stack": ("Max stack size", 4_194_304),
}


@pytest.mark.extension("kernel_limits")
def test_every_kernel_limit_reaches_init(world: World) -> None:
    config = {f"limits.kernel.{name}": str(value) for name, (_, value) in RLIMITS.items()}
    name = world.instance(start=True, config=config)
    lines = Path(f"/proc/{world.pid(name)}/limits").read_text().splitlines()
    for text, value in RLIMITS.values():
        line = next(line for line in lines if line.startswith(text))
        assert line.removeprefix(text).split()[:2] == [str(value)] * 2, line


def test_the_priority_of_cpu_time_lowers_the_share(world: World) -> None:
    name = world.instance(start=True, config={"limits.cpu.allowance": "50%", "limits.cpu.priority": "4"})
    assert in_kernel(world, name, "cpu", "cpu.shares", "cpu.weight") in ("506", "44")


def test_a_soft_limit_of_memory_holds_only_under_pressure(world: World) -> None:
    name = world.instance(start=True, config={"limits.memory": "48MiB", "limits.memory.enforce": "soft"})
    assert in_kernel(world, name, "memory", "memory.soft_limit_in_bytes", "memory.high") == str(48 << 20)
    assert memory(world, name) == "max" or int(memory(world, name)) > 1 << 40
    assert world.run(name, "dd", "if=/dev/zero", "of=/dev/null", "bs=96M", "count=1").code == 0


@pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").is_dir(), reason="cgroup 2 knows no swappiness")
def test_the_priority_of_swap_is_the_kernels_swappiness(world: World) -> None:
    name = world.instance(start=True, config={"limits.memory": "64MiB", "limits.memory.swap.priority": "3"})
    assert in_kernel(world, name, "memory", "memory.swappiness", "") == "67"
