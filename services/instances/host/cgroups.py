"""Limits and counters of a container's cgroups, in the words of v1 and of cgroup2 (each controller in whichever hierarchy has it).

`plan` is pure: what the expanded configuration asks for, as settings; liblxc gets them as lines at a start, `apply` writes them to a
running container. Semantics are LXD's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from chassis import units
from chassis.errors import Internal
from services.instances.host.idmap import TRUE
from services.instances.host.layout import Layout

CPU_PERIOD = 100_000  # microseconds
FULL_SHARES = {1: 1024, 2: 100}
LEAST_SHARES = {1: 2, 2: 1}
UNLIMITED = {1: "-1", 2: "max"}
HUGEPAGES = ("64KB", "1MB", "2MB", "1GB")
SWAPPINESS = 60
LEAF = ".lxc"
FALSE = ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class Setting:
    controller: str
    version: Literal[1, 2]
    file: str
    value: str
    optional: bool = False  # a file that some kernels lack

    @property
    def line(self) -> tuple[str, str]:
        """For liblxc's configuration."""
        return f"lxc.cgroup{'2' if self.version == 2 else ''}.{self.file}", self.value


@dataclass(frozen=True, slots=True)
class Machine:
    """What percentages and CPU numbers go by."""

    layout: Layout
    memory: int  # bytes
    cpus: tuple[int, ...]
    accounts_swap: bool = False


def machine(layout: Layout, root: Path = Path("/")) -> Machine:
    """This machine, or the one whose files lie below `root`."""
    memory = 0
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            memory = int(line.split()[1]) * 1024
    online = (root / "sys/devices/system/cpu/online").read_text().strip()
    return Machine(layout, memory, tuple(sorted(cpu_set(online))), _accounts_swap(layout))


def _accounts_swap(layout: Layout) -> bool:
    found = layout.get("memory")
    if found is None:
        return False
    if found.version == 1:
        return (found.path / "memory.memsw.limit_in_bytes").exists()
    return any(found.path.glob("*/memory.swap.max")) or Path("/proc/swaps").exists()


def cpu_set(text: str) -> set[int]:
    """The numbers of "0-2,5"."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def show_cpus(cpus: set[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def plan(
    config: Mapping[str, str], machine: Machine, cpus: set[int] | None = None, *, complete: bool = False
) -> tuple[Setting, ...]:
    """Settings for an expanded configuration. `cpus` are those chosen for a limits.cpu that is a number.

    `complete` also puts what is not limited back to its default, which a start need not. Raises ValueError.
    """
    settings = [
        *_memory(config, machine, complete),
        *_cpu(config, machine, complete),
        *_cpuset(config, machine, cpus, complete),
    ]
    settings += [
        *_processes(config, machine, complete),
        *_hugepages(config, machine, complete),
        *_disk(config, machine),
    ]
    return tuple(settings)


def _memory(config: Mapping[str, str], machine: Machine, complete: bool) -> Iterator[Setting]:
    found = machine.layout.get("memory")
    if found is None:
        return
    text = config.get("limits.memory", "")
    limit = units.parse_share(text, machine.memory) if text else -1
    soft = config.get("limits.memory.enforce", "hard") == "soft"
    swaps = config.get("limits.memory.swap", "").lower() not in FALSE
    hard = -1 if soft else limit
    low = limit if soft else limit * 9 // 10
    if found.version == 1:
        yield from _memory_v1(hard, low if limit >= 0 else -1, swaps, machine, complete)
        yield from _swappiness(config, swaps, complete)
    else:
        yield from _memory_v2(hard, low if limit >= 0 else -1, swaps, complete)


def _memory_v1(hard: int, soft: int, swaps: bool, machine: Machine, complete: bool) -> Iterator[Setting]:
    def setting(name: str, value: int) -> Setting:
        return Setting("memory", 1, f"memory.{name}", str(value))

    swap_too = machine.accounts_swap
    if complete and swap_too:
        yield setting("memsw.limit_in_bytes", -1)  # never below the memory limit, so it goes out of the way first
    if complete or hard >= 0:
        yield setting("limit_in_bytes", hard)
    if swap_too and swaps and hard >= 0:
        yield setting("memsw.limit_in_bytes", hard)
    if complete or soft >= 0:
        yield setting("soft_limit_in_bytes", soft)


def _swappiness(config: Mapping[str, str], swaps: bool, complete: bool) -> Iterator[Setting]:
    priority = config.get("limits.memory.swap.priority", "")
    if not swaps:
        yield Setting("memory", 1, "memory.swappiness", "0")
    elif priority or complete:
        yield Setting("memory", 1, "memory.swappiness", str(SWAPPINESS + 10 - int(priority or 10)))


def _memory_v2(hard: int, soft: int, swaps: bool, complete: bool) -> Iterator[Setting]:
    def setting(name: str, value: int, optional: bool = False) -> Setting:
        return Setting("memory", 2, f"memory.{name}", "max" if value < 0 else str(value), optional)

    if complete or hard >= 0:
        yield setting("max", hard)
        yield setting("swap.max", 0 if hard >= 0 or not swaps else -1, optional=True)
    elif not swaps:
        yield setting("swap.max", 0, optional=True)
    if complete or soft >= 0:
        yield setting("high", soft)


def _cpu(config: Mapping[str, str], machine: Machine, complete: bool) -> Iterator[Setting]:
    found = machine.layout.get("cpu")
    allowance, priority = config.get("limits.cpu.allowance", ""), config.get("limits.cpu.priority", "")
    if found is None or not (complete or allowance or priority):
        return
    shares, quota, period = cpu_time(allowance, priority, FULL_SHARES[found.version])
    shares = max(shares, LEAST_SHARES[found.version])
    if found.version == 1:
        yield Setting("cpu", 1, "cpu.shares", str(shares))
        if complete or quota >= 0:
            yield (
                Setting("cpu", 1, "cpu.cfs_quota_us", "-1")
                if complete
                else Setting("cpu", 1, "cpu.cfs_period_us", str(period))
            )
            yield Setting("cpu", 1, "cpu.cfs_period_us", str(period))
            yield Setting("cpu", 1, "cpu.cfs_quota_us", str(quota))
    else:
        yield Setting("cpu", 2, "cpu.weight", str(shares))
        if complete or quota >= 0:
            yield Setting("cpu", 2, "cpu.max", f"{'max' if quota < 0 else quota} {period}")


def cpu_time(allowance: str, priority: str, full: int) -> tuple[int, int, int]:
    """Shares, and quota of a period in microseconds (-1: none), of "50%" or "25ms/100ms" and a priority of 0 to 10."""
    shares = int(priority or 10) - 10
    quota, period = -1, CPU_PERIOD
    if allowance.endswith("%"):
        shares += int(allowance[:-1]) * full // 100
    else:
        shares += full
        if allowance:
            used, _, each = allowance.replace("ms", "").partition("/")
            quota, period = int(used) * 1000, int(each) * 1000
    return max(shares, 0), quota, period


def _cpuset(config: Mapping[str, str], machine: Machine, cpus: set[int] | None, complete: bool) -> Iterator[Setting]:
    found = machine.layout.get("cpuset")
    text = config.get("limits.cpu", "")
    if found is None or not (text or complete):
        return
    chosen = cpus if cpus else set(machine.cpus)
    if text and not text.isdigit():
        chosen = cpu_set(text)
        if not chosen <= set(machine.cpus):
            raise ValueError(
                f"Invalid value for limits.cpu {text}: the machine has CPUs {show_cpus(set(machine.cpus))}"
            )
    yield Setting("cpuset", found.version, "cpuset.cpus", show_cpus(chosen))


def choose_cpus(text: str, cpus: tuple[int, ...], bound: list[frozenset[int]]) -> set[int] | None:
    """For a limits.cpu that is a number: the CPUs that fewest others are `bound` to. None: there is nothing to choose."""
    if not text.isdigit() or int(text) >= len(cpus):
        return None
    load = {cpu: sum(cpu in others for others in bound) for cpu in cpus}
    return set(sorted(cpus, key=lambda cpu: (load[cpu], cpu))[: int(text)])


def changed(before: tuple[Setting, ...], after: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """What of `after` is to be written: all of a controller of which anything differs (their order matters)."""
    names = {s.controller for s in {*before} ^ {*after}}
    return tuple(s for s in after if s.controller in names)


def _processes(config: Mapping[str, str], machine: Machine, complete: bool) -> Iterator[Setting]:
    found = machine.layout.get("pids")
    text = config.get("limits.processes", "")
    if found is not None and (text or complete):
        yield Setting("pids", found.version, "pids.max", text or "max")


def _hugepages(config: Mapping[str, str], machine: Machine, complete: bool) -> Iterator[Setting]:
    found = machine.layout.get("hugetlb")
    if found is None:
        return
    for size in HUGEPAGES:
        text = config.get(f"limits.hugepages.{size}", "")
        if text or complete:
            limit = str(units.parse_bytes(text)) if text else UNLIMITED[found.version]
            file = f"hugetlb.{size}.{'limit_in_bytes' if found.version == 1 else 'max'}"
            yield Setting("hugetlb", found.version, file, limit, optional=not text)


def _disk(config: Mapping[str, str], machine: Machine) -> Iterator[Setting]:
    found = machine.layout.get("blkio") or machine.layout.get("io")
    text = config.get("limits.disk.priority", "")
    if found is not None and text:
        # LXD's scale: 0 to 10 becomes 100 to 1000 (10 the least on both)
        weight = max(int(text) * 100, 10)
        names = ("blkio", "blkio.weight") if found.version == 1 else ("io", "io.weight")
        yield Setting(names[0], found.version, names[1], str(weight), optional=True)


class Groups:
    """The cgroups of one container, by the name that they have in every hierarchy."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._layout = layout
        self._name = name
        self._paths: dict[str, Path | None] = {}

    def path(self, controller: str) -> Path | None:
        """Kept: metrics ask for it a dozen times a container."""
        if controller not in self._paths:
            found = self._layout.get(controller)
            self._paths[controller] = None if found is None else found.group(self._name)
        return self._paths[controller]

    @cached_property
    def entrances(self) -> dict[str, str | list[str]]:
        """For a process that comes in by itself: the name they have (`payload`), the file it writes to in each v1 hierarchy (`tasks`),
        and the group of cgroup2 that it is to be made in (`leaf`; liblxc's for commands, "" where there is no cgroup2)."""
        groups = {hierarchy: str(hierarchy.group(self._name)) for hierarchy in self._layout.hierarchies}
        leaves = [f"{group}/{LEAF}" for hierarchy, group in groups.items() if hierarchy.version == 2]
        tasks = [f"{group}/tasks" for hierarchy, group in groups.items() if hierarchy.version == 1]
        return {"payload": self._name, "tasks": tasks, "leaf": "".join(leaves)}

    def version(self, controller: str) -> int:
        found = self._layout.get(controller)
        return 0 if found is None else found.version

    def apply(self, settings: tuple[Setting, ...]) -> None:
        """Write settings. Raises Internal naming file and value; what was written before stays."""
        for setting in settings:
            folder = self.path(setting.controller)
            if folder is None:
                continue
            try:
                (folder / setting.file).write_text(setting.value)
            except OSError as error:
                if not setting.optional:
                    raise Internal(f"Failed to set {setting.file} to {setting.value}: {error.strerror}") from None

    def read(self, controller: str, file: str) -> str:
        """A file's text, "" if there is none."""
        folder = self.path(controller)
        if folder is None:
            return ""
        try:
            fd = os.open(f"{folder}/{file}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            return os.read(fd, 65536).decode()
        except OSError:
            return ""
        finally:
            os.close(fd)

    def number(self, controller: str, file: str) -> int:
        """A file's number; -1 if it has none ("max" too)."""
        text = self.read(controller, file).strip()
        return int(text) if text.lstrip("-").isdigit() else -1

    def fields(self, controller: str, file: str) -> dict[str, int]:
        """A file of lines `name number`."""
        pairs = (line.split() for line in self.read(controller, file).splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}

    @property
    def frozen(self) -> bool:
        if self.version("freezer") == 2:
            return self.fields("freezer", "cgroup.events").get("frozen", 0) == 1
        return self.read("freezer", "freezer.state").strip() == "FROZEN"

    def set_frozen(self, frozen: bool) -> None:
        """Asks for it; `frozen` tells when it is done."""
        folder = self.path("freezer")
        if folder is None:
            raise Internal("This machine has no freezer cgroup")
        if self.version("freezer") == 2:
            (folder / "cgroup.freeze").write_text("1" if frozen else "0")
        else:
            (folder / "freezer.state").write_text("FROZEN" if frozen else "THAWED")

    @property
    def exist(self) -> bool:
        return any(path.is_dir() for path in self._layout.groups(self._name))

    def pids(self) -> set[int]:
        """Every process in them, in the host's numbers."""
        found: set[int] = set()
        for group in self._layout.groups(self._name):
            for folder, _, _ in os.walk(group):
                with suppress(OSError):
                    found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
        return found

    def remove(self) -> bool:
        """Remove them, the innermost first; false if something still runs in one."""
        gone = True
        for group in self._layout.groups(self._name):
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    continue
                except OSError:
                    gone = False
        return gone


def is_true(text: str) -> bool:
    return text.lower() in TRUE
