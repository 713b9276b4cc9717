"""Sockets, cores, threads and caches."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.control.resources.machine import Machine, without_empty

BASE = "sys/devices/system/cpu"
KHZ = 1000


def read(machine: Machine) -> dict[str, Any]:
    sockets: dict[int, list[Path]] = defaultdict(list)
    for place in machine.entries(BASE, "cpu[0-9]*"):
        if machine.exists(place / "topology"):
            sockets[max(0, machine.number(place / "topology/physical_package_id"))].append(place)
    names = _names(machine)
    isolated = machine.numbers(f"{BASE}/isolated")
    shown = [
        _socket(machine, number, places, names.get(number, {}), isolated) for number, places in sorted(sockets.items())
    ]
    total = sum(len(core["threads"]) for socket in shown for core in socket["cores"])
    return {"architecture": os.uname().machine, "sockets": shown, "total": total}


def _names(machine: Machine) -> dict[int, dict[str, str]]:
    """Vendor and model of each socket, from /proc/cpuinfo."""
    found: dict[int, dict[str, str]] = {}
    for block in machine.text("proc/cpuinfo").split("\n\n"):
        fields = {
            name.strip(): value.strip() for name, _, value in (line.partition(":") for line in block.splitlines())
        }
        number = fields.get("physical id", "0")
        name = fields.get("model name") or fields.get("cpu", "")
        found.setdefault(
            int(number) if number.isdecimal() else 0, {"name": name, "vendor": fields.get("vendor_id", "")}
        )
    return found


def _socket(
    machine: Machine, number: int, places: list[Path], names: dict[str, str], isolated: set[int]
) -> dict[str, Any]:
    cores: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for place in places:
        die = max(0, machine.number(place / "topology/die_id"))
        cores[die, machine.number(place / "topology/core_id")].append(place)
    shown = [_core(machine, die, core, threads, isolated) for (die, core), threads in sorted(cores.items())]
    speeds = [core["frequency"] for core in shown if core.get("frequency")]
    document = {
        "name": names.get("name", ""),
        "vendor": names.get("vendor", ""),
        "socket": number,
        "cache": list(_caches(machine, places[0])),
        "cores": shown,
        "frequency": sum(speeds) // len(speeds) if speeds else 0,
        "frequency_minimum": machine.number(places[0] / "cpufreq/cpuinfo_min_freq") // KHZ,
        "frequency_turbo": machine.number(places[0] / "cpufreq/cpuinfo_max_freq") // KHZ,
    }
    return without_empty(document, "name", "vendor", "cache", "frequency", "frequency_minimum", "frequency_turbo")


def _core(machine: Machine, die: int, core: int, threads: list[Path], isolated: set[int]) -> dict[str, Any]:
    document = {
        "core": core,
        "die": die,
        "threads": [_thread(machine, place, index, isolated) for index, place in enumerate(threads)],
        "frequency": machine.number(threads[0] / "cpufreq/scaling_cur_freq") // KHZ,
    }
    return without_empty(document, "frequency")


def _thread(machine: Machine, place: Path, index: int, isolated: set[int]) -> dict[str, Any]:
    number = int(place.name.removeprefix("cpu"))
    nodes = machine.entries(place, "node[0-9]*")
    return {
        "id": number,
        "numa_node": int(nodes[0].name.removeprefix("node")) if nodes else 0,
        "thread": index,
        "online": machine.number(place / "online", default=1) == 1,
        "isolated": number in isolated,
    }


def _caches(machine: Machine, place: Path) -> Iterator[dict[str, Any]]:
    for cache in machine.entries(place / "cache", "index[0-9]*"):
        yield {
            "level": machine.number(cache / "level"),
            "type": machine.text(cache / "type"),
            "size": machine.number(cache / "size"),
        }
