"""Disks and their partitions; sizes in bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.control.resources.machine import Machine, without_empty

BLOCK = "sys/class/block"
SECTOR = 512


def read(machine: Machine) -> dict[str, Any]:
    disks = [_disk(machine, place) for place in machine.entries(BLOCK) if _is_disk(machine, place)]
    total = len(disks) + sum(len(disk["partitions"]) for disk in disks)
    return {"disks": disks, "total": total}


def _is_disk(machine: Machine, place: Path) -> bool:
    """What has a device behind it: no partition, loop, RAM disk or device-mapper volume."""
    return machine.exists(place / "device") and not machine.exists(place / "partition")


def _disk(machine: Machine, place: Path) -> dict[str, Any]:
    device = place / "device"
    udev = _udev(machine, machine.text(place / "dev"))
    pci = machine.pci_of(device)
    node = f"/dev/{place.name}"
    document = {
        "id": place.name,
        "device": machine.text(place / "dev"),
        "model": machine.text(device / "model"),
        "type": _type(machine, place),
        "read_only": machine.number(place / "ro") == 1,
        "size": machine.number(place / "size") * SECTOR,
        "removable": machine.number(place / "removable") == 1,
        "wwn": machine.text(place / "wwid") or machine.text(device / "wwid") or udev.get("ID_WWN", ""),
        "numa_node": machine.numa_node(pci) if pci else 0,
        "device_path": _link_to(machine, "dev/disk/by-path", node),
        "block_size": machine.number(place / "queue/physical_block_size"),
        "firmware_version": machine.text(device / "firmware_rev") or machine.text(device / "rev"),
        "rpm": _rpm(machine, place, udev),
        "serial": machine.text(device / "serial") or udev.get("ID_SERIAL_SHORT", ""),
        "device_id": _link_to(machine, "dev/disk/by-id", node),
        "partitions": [_partition(machine, one) for one in machine.entries(place, f"{place.name}*")],
        "pci_address": pci.name if pci else "",
        "usb_address": machine.usb_address(device),
    }
    optional = ("model", "wwn", "device_path", "firmware_version", "serial", "pci_address", "usb_address")
    return without_empty(document, *optional)


def _type(machine: Machine, place: Path) -> str:
    """The bus that the disk is on: nvme, virtio, usb, scsi, mmc."""
    if machine.usb_address(place / "device"):
        return "usb"
    return machine.target(place / "device/subsystem")


def _rpm(machine: Machine, place: Path, udev: dict[str, str]) -> int:
    """0 for one without moving parts, 1 for one whose speed is not known."""
    if machine.number(place / "queue/rotational") == 0:
        return 0
    text = udev.get("ID_ATA_ROTATION_RATE_RPM", "")
    return int(text) if text.isdecimal() and text != "0" else 1


def _partition(machine: Machine, place: Path) -> dict[str, Any]:
    return {
        "id": place.name,
        "device": machine.text(place / "dev"),
        "read_only": machine.number(place / "ro") == 1,
        "size": machine.number(place / "size") * SECTOR,
        "partition": machine.number(place / "partition"),
    }


def _udev(machine: Machine, device: str) -> dict[str, str]:
    """Properties from udev's data base."""
    lines = machine.text(f"run/udev/data/b{device}").splitlines()
    pairs = (line[2:].partition("=") for line in lines if line.startswith("E:"))
    return {name: value for name, _, value in pairs}


def _link_to(machine: Machine, folder: str, node: str) -> str:
    """The first name in a folder of links that leads to a device."""
    for link in machine.entries(folder):
        if machine.real(link) == machine.path(node):
            return link.name
    return ""
