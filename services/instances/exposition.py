"""The metrics of running instances in LXD's names, as OpenMetrics text.

A sample is shared by all who ask within `FRESH` seconds: scraping more often costs nothing more, and no value is older than a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from services.instances.host import state as host_state
from services.instances.parts import Parts

FRESH = 0.8  # seconds
SETS: tuple[tuple[str, str, str], ...] = (
    ("lxd_cpu_seconds_total", "counter", "The total number of CPU time used in seconds."),
    ("lxd_disk_read_bytes_total", "counter", "The total number of bytes read."),
    ("lxd_disk_reads_completed_total", "counter", "The total number of completed reads."),
    ("lxd_disk_written_bytes_total", "counter", "The total number of bytes written."),
    ("lxd_disk_writes_completed_total", "counter", "The total number of completed writes."),
    ("lxd_filesystem_avail_bytes", "gauge", "The number of available space in bytes."),
    ("lxd_filesystem_free_bytes", "gauge", "The number of free space in bytes."),
    ("lxd_filesystem_size_bytes", "gauge", "The size of the filesystem in bytes."),
    ("lxd_memory_Active_anon_bytes", "gauge", "The amount of anonymous memory on active LRU list."),
    ("lxd_memory_Active_file_bytes", "gauge", "The amount of file-backed memory on active LRU list."),
    ("lxd_memory_Active_bytes", "gauge", "The amount of memory on active LRU list."),
    ("lxd_memory_Cached_bytes", "gauge", "The amount of cached memory."),
    ("lxd_memory_Dirty_bytes", "gauge", "The amount of memory waiting to get written back to the disk."),
    ("lxd_memory_HugepagesFree_bytes", "gauge", "The amount of free memory for hugetlb."),
    ("lxd_memory_HugepagesTotal_bytes", "gauge", "The amount of used memory for hugetlb."),
    ("lxd_memory_Inactive_anon_bytes", "gauge", "The amount of file-backed memory on inactive LRU list."),
    ("lxd_memory_Inactive_file_bytes", "gauge", "The amount of file-backed memory on inactive LRU list."),
    ("lxd_memory_Inactive_bytes", "gauge", "The amount of memory on inactive LRU list."),
    ("lxd_memory_Mapped_bytes", "gauge", "The amount of mapped memory."),
    ("lxd_memory_MemAvailable_bytes", "gauge", "The amount of available memory."),
    ("lxd_memory_MemFree_bytes", "gauge", "The amount of free memory."),
    ("lxd_memory_MemTotal_bytes", "gauge", "The amount of used memory."),
    ("lxd_memory_RSS_bytes", "gauge", "The amount of anonymous and swap cache memory."),
    ("lxd_memory_Shmem_bytes", "gauge", "The amount of cached filesystem data that is swap-backed."),
    ("lxd_memory_Swap_bytes", "gauge", "The amount of used swap memory."),
    ("lxd_memory_Unevictable_bytes", "gauge", "The amount of unevictable memory."),
    ("lxd_memory_Writeback_bytes", "gauge", "The amount of memory queued for syncing to disk."),
    ("lxd_network_receive_bytes_total", "counter", "The amount of received bytes on a given interface."),
    ("lxd_network_receive_drop_total", "counter", "The amount of received dropped bytes on a given interface."),
    ("lxd_network_receive_errs_total", "counter", "The amount of received errors on a given interface."),
    ("lxd_network_receive_packets_total", "counter", "The amount of received packets on a given interface."),
    ("lxd_network_transmit_bytes_total", "counter", "The amount of transmitted bytes on a given interface."),
    ("lxd_network_transmit_drop_total", "counter", "The amount of transmitted dropped bytes on a given interface."),
    ("lxd_network_transmit_errs_total", "counter", "The amount of transmitted errors on a given interface."),
    ("lxd_network_transmit_packets_total", "counter", "The amount of transmitted packets on a given interface."),
    ("lxd_procs_total", "gauge", "The number of running processes."),
)
DISK = (
    "lxd_disk_read_bytes_total",
    "lxd_disk_reads_completed_total",
    "lxd_disk_written_bytes_total",
    "lxd_disk_writes_completed_total",
)
FILESYSTEM = ("lxd_filesystem_avail_bytes", "lxd_filesystem_free_bytes", "lxd_filesystem_size_bytes")
Line = tuple[str, str, float]  # set, labels, value


class Exposition:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._lock = asyncio.Lock()
        self._taken = 0.0
        self._lines: dict[str, dict[str, list[str]]] = {}

    async def text(self, project: str = "") -> bytes:
        """All metrics, of one project or of all."""
        async with self._lock:
            if time.monotonic() - self._taken > FRESH:
                await self._sample()
        projects = [project] if project else sorted(self._lines)
        out: list[str] = []
        for name, kind, text in SETS:
            lines = [line for found in projects for line in self._lines.get(found, {}).get(name, ())]
            if lines:
                out += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines]
        return ("\n".join([*out, "# EOF"]) + "\n").encode()

    async def _sample(self) -> None:
        begun = time.monotonic()  # no value is older
        keys = [
            member.key
            for member in self.parts.roster.select()
            if self.parts.roster.live(member.value.project, member.value.name) is not None
        ]
        samples = await host_state.metrics(self.parts.host, keys)
        lines: dict[str, dict[str, list[str]]] = {}
        for key in sorted(samples):
            ours = lines.setdefault(key.project, {})
            base = f'name="{key.name}",project="{_escaped(key.project)}"'
            for name, labels, value in _lines(samples[key]):
                type_ = "" if name in FILESYSTEM else ',type="container"'  # LXD gives file systems none
                joined = f"{labels},{base}{type_}" if labels else f"{base}{type_}"
                ours.setdefault(name, []).append(f"{name}{{{joined}}} {_number(value)}")
        self._lines, self._taken = lines, begun


def _lines(sample: Any) -> Iterator[Line]:
    for cpu, modes in sorted(sample.cpu.items()):
        for mode, seconds in sorted(modes.items()):
            yield "lxd_cpu_seconds_total", f'cpu="{cpu}",mode="{mode}"', seconds
    for device, values in sorted(sample.disks.items()):
        for name, value in zip(DISK, values, strict=True):
            yield name, f'device="{_escaped(device)}"', value
    for device, fstype, mountpoint, *sizes in sample.filesystems:
        for name, value in zip(FILESYSTEM, sizes, strict=True):
            yield name, f'device="{_escaped(device)}",fstype="{fstype}",mountpoint="{_escaped(mountpoint)}"', value
    for suffix, value in sample.memory.items():
        yield f"lxd_memory_{suffix}", "", value
    for device, counters in sorted(sample.networks.items()):
        for counter, value in counters.items():
            yield f"lxd_network_{counter}_total", f'device="{_escaped(device)}"', value
    yield "lxd_procs_total", "", sample.processes


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
