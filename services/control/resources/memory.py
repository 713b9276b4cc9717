"""Memory and huge pages, of the machine and of each NUMA node; all in bytes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from services.control.resources.machine import Machine

BLOCKS = "sys/devices/system/memory"


def read(machine: Machine) -> dict[str, Any]:
    found = _meminfo(machine, "proc/meminfo")
    size = found.get("Hugepagesize", 0)
    total = _installed(machine) or found.get("MemTotal", 0)
    free = sum(found.get(name, 0) for name in ("MemFree", "Buffers", "Cached"))
    nodes = [_node(machine, place, size) for place in machine.entries("sys/devices/system/node", "node[0-9]*")]
    return {
        "nodes": nodes,
        "hugepages_total": found.get("HugePages_Total", 0) * size,
        "hugepages_used": (found.get("HugePages_Total", 0) - found.get("HugePages_Free", 0)) * size,
        "hugepages_size": size,
        "used": max(0, total - free),  # what the kernel took for itself is used
        "total": total,
    }


def _node(machine: Machine, place: Path, size: int) -> dict[str, Any]:
    found = _meminfo(machine, place / "meminfo")
    blocks = machine.entries(place, "memory[0-9]*")
    total = _sum_of(machine, blocks) or found.get("MemTotal", 0)
    return {
        "numa_node": int(place.name.removeprefix("node")),
        "hugepages_used": (found.get("HugePages_Total", 0) - found.get("HugePages_Free", 0)) * size,
        "hugepages_total": found.get("HugePages_Total", 0) * size,
        "used": max(0, found.get("MemTotal", 0) - found.get("MemFree", 0)),
        "total": total,
    }


def _installed(machine: Machine) -> int:
    """What is plugged in: more than MemTotal, from which the kernel has taken its own part."""
    return _sum_of(machine, machine.entries(BLOCKS, "memory[0-9]*"))


def _sum_of(machine: Machine, blocks: list[Path]) -> int:
    size = machine.number(f"{BLOCKS}/block_size_bytes", base=16)
    return size * sum(machine.text(block / "online") == "1" for block in blocks)


def _meminfo(machine: Machine, path: str | Path) -> dict[str, int]:
    """Sizes in bytes, counts as they are. A node's file has "Node 0 " before each line."""
    found = {}
    for name, value, unit in re.findall(r"^(?:Node \d+ )?([^\s:]+):\s+(\d+)( kB)?", machine.text(path), re.MULTILINE):
        found[name] = int(value) * (1024 if unit else 1)
    return found
