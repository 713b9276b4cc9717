"""Devices on USB; hubs are left out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from services.control.resources.machine import Machine

BUS = "sys/bus/usb/devices"
HUB = 9
CLASSES = {
    0: "(Defined at Interface level)", 1: "Audio", 2: "Communications", 3: "Human Interface Device", 5: "Physical Interface Device",
    6: "Imaging", 7: "Printer", 8: "Mass Storage", 9: "Hub", 10: "CDC Data", 11: "Chip/SmartCard", 13: "Content Security",
    14: "Video", 15: "Personal Healthcare", 88: "Xbox", 220: "Diagnostic", 224: "Wireless", 239: "Miscellaneous Device",
    254: "Application Specific Interface", 255: "Vendor Specific Class",
}  # fmt: skip


def read(machine: Machine) -> dict[str, Any]:
    places = [place for place in machine.entries(BUS) if machine.exists(place / "devnum")]
    devices = [_device(machine, place) for place in places if machine.number(place / "bDeviceClass", base=16) != HUB]
    return {"devices": devices, "total": len(devices)}


def _device(machine: Machine, place: Path) -> dict[str, Any]:
    return {
        "bus_address": machine.number(place / "busnum"),
        "device_address": machine.number(place / "devnum"),
        "interfaces": [_interface(machine, one) for one in machine.entries(place, f"{place.name}:*")],
        "vendor": machine.text(place / "manufacturer"),
        "vendor_id": machine.text(place / "idVendor"),
        "product": machine.text(place / "product"),
        "product_id": machine.text(place / "idProduct"),
        "speed": _speed(machine.text(place / "speed")),
    }


def _speed(text: str) -> float:
    """Megabits a second, 1.5 and up."""
    with suppress(ValueError):
        return float(text)
    return 0.0


def _interface(machine: Machine, place: Path) -> dict[str, Any]:
    driver, version = machine.driver(place)
    kind = machine.number(place / "bInterfaceClass", base=16)
    subclass = machine.number(place / "bInterfaceSubClass", base=16)
    return {
        "class": CLASSES.get(kind, ""),
        "class_id": kind,
        "driver": driver,
        "driver_version": version,
        "number": machine.number(place / "bInterfaceNumber", base=16),
        "subclass": "",
        "subclass_id": subclass,
    }
