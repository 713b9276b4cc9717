"""What running containers use, as LXD's InstanceState and as the numbers of /1.0/metrics.

All that is asked for is read in one go by one thread (cgroup files, and netlink inside each network namespace), and a reading is shared
by whoever asks within the next moment: reading costs a quarter of a millisecond for each container, however many ask.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from chassis import beneath
from services.instances.host.cgroups import Groups
from services.instances.host.netlink import Address, Link, Route, inside
from services.instances.host.process import Watched
from services.instances.host.spec import Key
from services.instances.host.worker import Worker

if TYPE_CHECKING:
    from services.instances.host.containers import Containers

T = TypeVar("T")
FRESH = 0.9  # seconds that a reading of many is good for
MOST_MOUNTINFO = 256 * 1024  # bytes
FEW = 4  # so many are read anew each time
NO_HWADDR = "00:00:00:00:00:00"
NONE = {"usage": 0, "usage_peak": 0, "swap_usage": 0, "swap_usage_peak": 0}
SHOWN_FILE_SYSTEMS = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "vfat", "squashfs", "overlay"))
# LXD's name, the name in memory.stat of v1 (below total_), in that of cgroup2
MEMORY = (
    ("Active_anon_bytes", "active_anon", "active_anon"),
    ("Active_file_bytes", "active_file", "active_file"),
    ("Inactive_anon_bytes", "inactive_anon", "inactive_anon"),
    ("Inactive_file_bytes", "inactive_file", "inactive_file"),
    ("Cached_bytes", "cache", "file"),
    ("Dirty_bytes", "dirty", "file_dirty"),
    ("Mapped_bytes", "mapped_file", "file_mapped"),
    ("RSS_bytes", "rss", "anon"),
    ("Shmem_bytes", "shmem", "shmem"),
    ("Unevictable_bytes", "unevictable", "unevictable"),
    ("Writeback_bytes", "writeback", "file_writeback"),
    ("Swap_bytes", "swap", "swap"),
)
# in the order of netlink's counters
NETWORK = tuple(f"{way}_{what}" for what in ("packets", "bytes", "errs", "drop") for way in ("receive", "transmit"))


@dataclass(frozen=True, slots=True)
class Metrics:
    """Of one container. `cpu` is in seconds; `disks` read bytes, reads, written bytes, writes; `filesystems` device, type, mount point,
    available, free and whole bytes."""

    cpu: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    disks: dict[str, tuple[int, int, int, int]] = field(default_factory=dict)
    filesystems: list[tuple[str, str, str, int, int, int]] = field(default_factory=list)
    networks: dict[str, dict[str, int]] = field(default_factory=dict)
    processes: int = 0


@dataclass(slots=True)
class Target:
    key: Key
    init: Watched
    groups: Groups


class Sampler(Generic[T]):
    """Readings by key, each kept for a moment."""

    def __init__(self, read: Callable[[Target], T], fresh: float = FRESH) -> None:
        self._read = read
        self._fresh = fresh
        self._worker: Worker | None = None
        self._kept: dict[Key, tuple[float, int, T]] = {}
        self._turn = asyncio.Lock()

    async def take(self, targets: Sequence[Target]) -> dict[Key, T]:
        async with self._turn:
            now = time.monotonic()
            oldest = now - self._fresh if len(targets) > FEW else now
            wanted = [t for t in targets if not self._is_fresh(t, oldest)]
            if wanted:
                if self._worker is None:
                    self._worker = Worker()
                found = await self._worker.do(lambda: self._read_all(wanted))
                self._kept.update(found)
            kept = {t.key: self._kept[t.key][2] for t in targets if t.key in self._kept}
            if len(self._kept) > 2 * len(targets):
                self._kept = {key: entry for key, entry in self._kept.items() if entry[0] >= now - self._fresh}
            return kept

    def _is_fresh(self, target: Target, oldest: float) -> bool:
        entry = self._kept.get(target.key)
        return entry is not None and entry[0] >= oldest and entry[1] == target.init.pid

    def _read_all(self, targets: Iterable[Target]) -> dict[Key, tuple[float, int, T]]:
        return {t.key: (time.monotonic(), t.init.pid, self._read(t)) for t in targets}


_states: WeakKeyDictionary[Containers, Sampler[dict[str, Any]]] = WeakKeyDictionary()
_metrics: WeakKeyDictionary[Containers, Sampler[Metrics]] = WeakKeyDictionary()


def _targets(containers: Containers, keys: Iterable[Key]) -> list[Target]:
    return [Target(key, init, containers.groups(key)) for key in keys if (init := containers.init(key)) is not None]


async def sample(
    containers: Containers, keys: Sequence[Key], host_names: Mapping[Key, Mapping[str, str]] | None = None
) -> dict[Key, dict[str, Any]]:
    """LXD's cpu, memory, network, pid and processes of each that runs. `host_names` are the host's ends by the name inside."""
    sampler = _states.setdefault(containers, Sampler(state_of))
    found = await sampler.take(_targets(containers, keys))
    return {key: _named(state, (host_names or {}).get(key, {})) for key, state in found.items()}


async def metrics(containers: Containers, keys: Sequence[Key]) -> dict[Key, Metrics]:
    """The numbers of each that runs, now: who shares them among askers says for how long."""
    memory = containers.machine.memory
    sampler = _metrics.setdefault(containers, Sampler(lambda target: metrics_of(target, memory), fresh=0.0))
    return await sampler.take(_targets(containers, keys))


def _named(state: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    network = {
        name: {**link, "host_name": names[name]} if name in names else link for name, link in state["network"].items()
    }
    return {**state, "network": network}


# -- state


def state_of(target: Target) -> dict[str, Any]:
    """Of one container; zeroes where it has just ended."""
    return {
        "cpu": {"usage": cpu_nanoseconds(target.groups)},
        "memory": memory_state(target.groups),
        "network": network_state(target.init),
        "pid": target.init.pid,
        "processes": max(0, target.groups.number("pids", "pids.current")),
    }


def cpu_nanoseconds(groups: Groups) -> int:
    if groups.version("cpuacct") == 1:
        return max(0, groups.number("cpuacct", "cpuacct.usage"))
    return groups.fields("cpuacct", "cpu.stat").get("usage_usec", 0) * 1000


def memory_state(groups: Groups) -> dict[str, int]:
    """Usage and peaks in bytes; swap is 0 where the kernel does not account for it."""
    names = ("usage_in_bytes", "max_usage_in_bytes", "memsw.usage_in_bytes", "memsw.max_usage_in_bytes")
    if groups.version("memory") == 2:
        names = ("current", "peak", "swap.current", "swap.peak")
    usage, peak, swap, swap_peak = (max(0, groups.number("memory", f"memory.{name}")) for name in names)
    if groups.version("memory") == 1:
        swap, swap_peak = max(0, swap - usage), max(0, swap_peak - peak)
    return {"usage": usage, "usage_peak": peak, "swap_usage": swap, "swap_usage_peak": swap_peak}


def network_state(init: Watched) -> dict[str, Any]:
    """Every interface of the namespace; {} when it is gone."""
    links, addresses = _network(init)
    return {link.name: _interface(link, [a for a in addresses if a.index == link.index]) for link in links}


def _network(init: Watched) -> tuple[list[Link], list[Address]]:
    with suppress(OSError), inside(init), Route() as links, Route() as addresses:
        return links.links(), addresses.addresses()
    return [], []


def _links(init: Watched) -> list[Link]:
    with suppress(OSError), inside(init), Route() as links:
        return links.links()
    return []


def _interface(link: Link, addresses: list[Address]) -> dict[str, Any]:
    packets_in, packets_out, bytes_in, bytes_out, errors_in, errors_out, dropped_in, dropped_out = link.counters
    return {
        "addresses": [
            {"family": a.family, "address": a.address, "netmask": str(a.prefix), "scope": a.scope} for a in addresses
        ],
        "counters": {
            "bytes_received": bytes_in,
            "bytes_sent": bytes_out,
            "packets_received": packets_in,
            "packets_sent": packets_out,
            "errors_received": errors_in,
            "errors_sent": errors_out,
            "packets_dropped_outbound": dropped_out,
            "packets_dropped_inbound": dropped_in,
        },
        "hwaddr": "" if link.hwaddr == NO_HWADDR else link.hwaddr,
        "host_name": "",
        "mtu": link.mtu,
        "state": link.state,
        "type": link.type,
    }


# -- metrics


def metrics_of(target: Target, host_memory: int) -> Metrics:
    """Of one container."""
    return Metrics(
        cpu=cpu_seconds(target.groups),
        memory=memory_metrics(target.groups, host_memory),
        disks=disk_metrics(target.groups),
        filesystems=file_systems(target.init),
        networks={link.name: dict(zip(NETWORK, link.counters, strict=True)) for link in _links(target.init)},
        processes=max(0, target.groups.number("pids", "pids.current")),
    )


def cpu_seconds(groups: Groups) -> dict[str, dict[str, float]]:
    """By CPU; cgroup2 does not tell them apart (then all is told of CPU 0, as LXD)."""
    if groups.version("cpuacct") == 1:
        modes = {
            mode: groups.read("cpuacct", f"cpuacct.usage_percpu_{file}").split()
            for mode, file in (("user", "user"), ("system", "sys"))
        }
        count = max(map(len, modes.values()))
        return {
            str(cpu): {mode: int(words[cpu]) / 1e9 for mode, words in modes.items() if cpu < len(words)}
            for cpu in range(count)
        }
    found = groups.fields("cpuacct", "cpu.stat")
    return {"0": {"user": found.get("user_usec", 0) / 1e6, "system": found.get("system_usec", 0) / 1e6}}


def memory_metrics(groups: Groups, host_memory: int) -> dict[str, int]:
    """LXD's names, in bytes. What is free goes by the limit, or by the host's memory where there is none."""
    first = groups.version("memory") == 1
    stat = groups.fields("memory", "memory.stat")
    found = {name: stat.get(f"total_{v1}" if first else v2, 0) for name, v1, v2 in MEMORY}
    if not first:
        found["Swap_bytes"] = max(0, groups.number("memory", "memory.swap.current"))
    found["Active_bytes"] = found["Active_anon_bytes"] + found["Active_file_bytes"]
    found["Inactive_bytes"] = found["Inactive_anon_bytes"] + found["Inactive_file_bytes"]
    limit = groups.number("memory", "memory.limit_in_bytes" if first else "memory.max")
    total = limit if 0 < limit < host_memory else host_memory
    usage = max(0, groups.number("memory", "memory.usage_in_bytes" if first else "memory.current"))
    found |= {"MemTotal_bytes": total, "MemFree_bytes": max(0, total - usage)}
    found["MemAvailable_bytes"] = min(total, found["MemFree_bytes"] + found["Cached_bytes"])
    events = groups.fields("memory", "memory.oom_control" if first else "memory.events")
    found["OOM_kills_total"] = events.get("oom_kill", 0)
    return found


def disk_metrics(groups: Groups) -> dict[str, tuple[int, int, int, int]]:
    """By name of the block device."""
    counts: dict[str, list[int]] = {}
    if groups.version("io") == 2:
        for line in groups.read("io", "io.stat").splitlines():
            number, *pairs = line.split()
            values = dict(pair.split("=", 1) for pair in pairs)
            counts[number] = [int(values.get(name, 0)) for name in ("rbytes", "rios", "wbytes", "wios")]
    else:
        for offset, file in enumerate(("io_service_bytes_recursive", "io_serviced_recursive")):
            for line in groups.read("blkio", f"blkio.throttle.{file}").splitlines():
                words = line.split()
                if len(words) == 3 and words[1] in ("Read", "Write"):
                    counts.setdefault(words[0], [0] * 4)[offset + (2 if words[1] == "Write" else 0)] = int(words[2])
    return {name: (c[0], c[1], c[2], c[3]) for number, c in counts.items() if (name := _device_name(number))}


def _device_name(number: str) -> str:
    try:
        return os.path.basename(os.readlink(f"/sys/dev/block/{number}"))
    except OSError:
        return ""


def file_systems(init: Watched) -> list[tuple[str, str, str, int, int, int]]:
    """Of the container's mount namespace: those of disks. A FUSE server's is never asked: it could let us wait."""
    found: list[tuple[str, str, str, int, int, int]] = []
    with suppress(OSError):
        root = init.open("root", os.O_PATH | os.O_DIRECTORY)
        try:
            seen: set[str] = set()
            for line in _mounts(init.pid):
                before, _, after = line.partition(" - ")
                kind, source, *_ = after.split()
                if kind not in SHOWN_FILE_SYSTEMS:
                    continue
                fields = before.split()
                point = fields[4].encode().decode("unicode_escape")
                if fields[2] in seen and point != "/":
                    continue
                with suppress(OSError):
                    found.append(_file_system(root, kind, source, point))
                    seen.add(fields[2])
        finally:
            os.close(root)
    return found


def _mounts(pid: int) -> list[str]:
    """Lines of mountinfo, up to a bound: a container may mount as often as it likes."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        data = file.read(MOST_MOUNTINFO)
    return data[: data.rfind(b"\n") + 1].decode(errors="replace").splitlines()


def _file_system(root: int, kind: str, source: str, point: str) -> tuple[str, str, str, int, int, int]:
    fd = beneath.openat2(root, point.lstrip("/") or ".", os.O_PATH, 0, beneath.INSIDE)
    try:
        stat = os.fstatvfs(fd)
    finally:
        os.close(fd)
    size = stat.f_frsize
    return source if point != "/" else "", kind, point, stat.f_bavail * size, stat.f_bfree * size, stat.f_blocks * size
