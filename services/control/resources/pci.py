"""Devices on the PCI bus, with their IOMMU group and vital product data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.control.resources.machine import Machine

BUS = "sys/bus/pci/devices"
# Resources of vital product data (PCI 3.0, appendix I).
LARGE, NAME, READ_ONLY, READ_WRITE, END = 0x80, 0x82, 0x90, 0x91, 0x78
HEAD = 3  # bytes before the data of a large resource, and before the data of a field


def read(machine: Machine) -> dict[str, Any]:
    devices = [_device(machine, place) for place in machine.entries(BUS)]
    return {"devices": devices, "total": len(devices)}


def _device(machine: Machine, place: Path) -> dict[str, Any]:
    driver, version = machine.driver(place)
    group = machine.target(place / "iommu_group")
    return {
        "driver": driver,
        "driver_version": version,
        "numa_node": machine.numa_node(place),
        "pci_address": place.name,
        **machine.pci_names(place),
        "iommu_group": int(group) if group.isdecimal() else 0,
        "vpd": _vpd(place / "vpd"),
    }


def _vpd(path: Path) -> dict[str, Any]:
    """Product name and fields; empty for a device that has none or garbage."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    found: dict[str, Any] = {}
    entries: dict[str, str] = {}
    while len(data) >= HEAD and data[0] & LARGE and data[0] != END:
        length = int.from_bytes(data[1:HEAD], "little")
        body = data[HEAD : HEAD + length]
        if data[0] == NAME:
            found["product_name"] = body.decode("ascii", "replace").strip("\0 ")
        elif data[0] in (READ_ONLY, READ_WRITE):
            entries.update(_fields(body))
        data = data[HEAD + length :]
    if entries:
        found["entries"] = entries
    return found


def _fields(body: bytes) -> dict[str, str]:
    """Two letters, a length, the value. RV and RW are check sum and free space, no data."""
    found = {}
    while len(body) >= HEAD:
        name, length = body[:2].decode("ascii", "replace"), body[2]
        if name not in ("RV", "RW"):
            found[name] = body[HEAD : HEAD + length].decode("ascii", "replace").strip("\0 ")
        body = body[HEAD + length :]
    return found
